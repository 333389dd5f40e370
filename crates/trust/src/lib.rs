//! Who may claim, who may call, and who can prove what.
//!
//! A key is the agent; everything an agent says is a signed envelope under that key with a typed context; everything it may do is a chain of
//! grants that ends in the key its session proved; everything that happened is a leaf in its own Merkle log, and every peer it meets is a witness.
//!
//! The crate is pure: time, randomness and files are the caller's.

pub mod access;
pub mod admission;
pub mod bond;
pub mod endorse;
pub mod evidence;
pub mod grant;
pub mod handle;
mod level;
pub mod log;
pub mod policy;
mod raw_key;
pub mod revoke;
mod scope;
pub mod succession;
mod wire;

pub use level::{Level, LevelTextError};
pub use raw_key::RawKey;
pub use scope::{Fit, MAX_PATTERN, Pattern, Scope, ScopeError, Target};
pub use wire::claimed_signer;

/// Longest name of a kind of evidence, in bytes.
pub const MAX_KIND_NAME: usize = 64;

/// Whether a text can name a kind of evidence: 1 to [`MAX_KIND_NAME`] of `a-z 0-9 - . _ /`.
#[must_use]
pub fn is_kind_name(text: &str) -> bool {
    (1..=MAX_KIND_NAME).contains(&text.len())
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'/'))
}
