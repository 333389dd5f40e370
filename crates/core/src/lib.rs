//! Keys, addresses, handles, time, signed envelopes and canonical encoding of the comity network.
//!
//! This crate is pure: it reads no clock, opens no socket and draws no randomness; both are arguments. It decides
//! what the bytes of the network *are*, and everything else builds on these decisions:
//!
//! * an agent **is** its Ed25519 key ([`AgentId`], [`Identity`]), accepted by strict intake rules;
//! * its place follows from the key alone ([`Position`], [`OverlayId`], [`Address`], [`Handle`]);
//! * what is signed or hashed is deterministic CBOR ([`canonical`]), signed in one form of envelope ([`envelope`]);
//! * every answer has a [`receipt`] that verifies offline.
//!
//! # From key to handle
//!
//! ```text
//! key         = Ed25519 public key, 32 bytes
//! stretch     = Argon2id(key, salt = "comity/address/v1", m = 1 MiB, t = 1, p = 1), 32 bytes
//! mint bits   = leading zero bits of stretch          (a network demands some: 10 on the public one)
//! overlay id  = BLAKE3.derive_key("comity/overlay/v1", stretch), 256 bits
//! address     = fd ‖ overlay id, bits 0..120          (text of an IPv6 unique-local address)
//! handle      = overlay id, bits 0..48                (N:NNNN.HHHH.LLLL)
//! check       = overlay id, bits 48..88               (handle#check, base32)
//! ```
//!
//! ```
//! use comity_core::{AgentId, CheckedHandle, Identity, Position};
//!
//! let identity = Identity::from_secret_bytes(&[7; 32]);
//! let position = Position::of(&identity.id()); // 1 MiB and under a millisecond: once per key
//!
//! // The key has many spellings and one meaning.
//! let id: AgentId = identity.id().to_string().parse()?;
//! assert_eq!(id, identity.id());
//!
//! // The abbreviations are checked against the overlay id, never trusted alone.
//! let pasted: CheckedHandle = position.checked_handle().to_string().parse()?;
//! assert!(pasted.matches(&position.overlay_id()));
//! assert!(position.address().to_string().starts_with("fd"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What the lengths buy
//!
//! The key is the credential and the primary key of every store; address and handle are ways to point at it. Of `n`
//! agents, `n (n - 1) / 2` pairs can meet, each in `b` bits with probability `2^-b`. So by accident alone:
//!
//! | agents | pairs with one handle (48 bits) | pairs with one handle#check (88 bits) | pairs with one address (120 bits) |
//! |---|---|---|---|
//! | 190 thousand | 6e-5 | 6e-17 | 1e-26 |
//! | 10 million | 0.18 | 2e-13 | 4e-23 |
//! | 1 billion | 1,776 | 2e-9 | 4e-19 |
//!
//! ```
//! let expected_pairs = |agents: f64, bits: i32| agents * (agents - 1.0) / 2.0 * 2f64.powi(-bits);
//! assert_eq!(format!("{:.0e}", expected_pairs(190e3, 48)), "6e-5");
//! assert_eq!(format!("{:.2}", expected_pairs(10e6, 48)), "0.18");
//! assert_eq!(format!("{:.0}", expected_pairs(1e9, 48)), "1776");
//! assert_eq!(format!("{:.0e}", expected_pairs(1e9, 88)), "2e-9");
//! assert_eq!(format!("{:.0e}", expected_pairs(190e3, 120)), "1e-26");
//! ```
//!
//! On purpose: a key with one *given* handle takes 2^48 minted keys, and each takes 2^`mint_bits` stretches of 1 MiB,
//! so with 10 mint bits 2^58 stretches: millions of core-years at 0.7 ms. A key that shares the handle of *any* of
//! 190,000 agents takes 190,000 times less, some tens of core-years, which money buys. Stretching cannot prevent that,
//! so a collision must be worthless:
//!
//! * a handle that resolves to several live keys is refused, naming their addresses;
//! * first use pins handle to key, and a change needs a succession from the pinned key;
//! * tools print and accept [`CheckedHandle`], whose 88 bits cost 2^40 times as much and paste as safely as a key.
//!
//! A second key with a given address takes 2^120 mints. An attacker can bring two keys *of his own* to one address
//! in 2^60, and gains nothing, since no store is keyed by address.

pub mod canonical;
pub mod envelope;
mod handle;
mod hash;
mod key;
pub mod merkle;
mod place;
pub mod receipt;
pub mod text;
mod time;

pub use canonical::{Canonical, DecodeError};
pub use envelope::Kind;
pub use handle::{Address, AddressTextError, CheckedHandle, Handle, HandleTextError};
pub use hash::{Hash, HashTextError, Sha256Digest};
pub use key::{AgentId, AgentIdTextError, Identity, KeyError, MAX_MINT_BITS, SignatureError};
pub use place::{Distance, OVERLAY_BITS, OverlayId, Position};
pub use time::Time;
