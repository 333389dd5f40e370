//! The comity overlay: Kademlia routing, disjoint-path lookups and the capability directory as a pure state machine.
//!
//! [`Overlay`] holds no socket, clock, thread or source of randomness. Events and the time go in, [`Action`]s come out; the same code
//! runs under the node (QUIC sessions) and under the simulator. Equal inputs give equal actions.
//!
//! ```
//! use comity_core::{Identity, Position, Time};
//! use comity_overlay::directory::Directory;
//! use comity_overlay::{Action, Command, Config, Contact, Outcome, Overlay};
//!
//! let identity = Identity::from_secret_bytes(&[1; 32]);
//! let place = Position::of(&identity.id()).overlay_id();
//! let me = Contact::server(identity.id(), place, vec!["192.0.2.1:4433".parse()?]);
//! let (now, mut services) = (Time::from_secs(1_800_000_000), Directory::new(0));
//! let mut overlay = Overlay::new(Config::default(), me, [7; 32], now);
//!
//! // The first node of a network has nobody to ask.
//! let join = overlay.command(now, &mut services, Command::Join { seeds: Vec::new() });
//! while let Some(action) = overlay.poll_action() {
//!     if let Action::Done { command, outcome: Outcome::Joined(report) } = action {
//!         assert_eq!((command, report.peers, report.size_estimate), (join, 0, 1));
//!     }
//! }
//! assert!(overlay.poll_timeout().is_some_and(|(due, _reason)| due > now));
//! # Ok::<(), std::net::AddrParseError>(())
//! ```
//!
//! # Drive contract
//!
//! ```text
//! loop {
//!     // 1. mutate: exactly one of
//!     overlay.command(now, &mut services, command);              // the local side wants something -> CommandId
//!     overlay.request(now, &mut services, &from, token, request);  // an authenticated peer asks
//!     overlay.response(now, &mut services, &from, id, response);   // an authenticated peer answers
//!     overlay.failed(now, id, failure);                          // a request could not be delivered
//!     overlay.timeout(now);                                      // poll_timeout() is due
//!     // 2. drain: every time, until None
//!     while let Some(action) = overlay.poll_action() { … }
//!     // 3. sleep until the next event or overlay.poll_timeout()
//! }
//! ```
//!
//! * `now` never goes back between calls. A late call is harmless, an early `timeout` does nothing. The machine takes the time between the
//!   timer that was due and the call that follows for its own lateness, and weighs it before it believes that peers are silent: hand over
//!   the answers that are there before calling `timeout`.
//! * Requests time out inside the machine ([`Config::hard_timeout`]); the shell reports only what it knows sooner
//!   ([`Overlay::failed`]). Answers and failures of requests the machine gave up on are ignored.
//! * The transport proves `from.agent`. `from.server` is the peer's claim: the machine dials back before it believes it.
//!   `from.overlay_id` and those of contacts in messages come from [`Positions`] during decoding, never from the peer.
//! * [`Services`] verifies items ([`Verifier`]) and evaluates queries ([`Evaluator`]). It is an argument, so a simulator shares one
//!   memoised instance between all nodes and a node uses [`directory::Directory`].
//! * Every command ends with exactly one [`Action::Done`], at the latest when its deadline passes. Every request ends with exactly one
//!   [`Action::Reply`] in the same drain.
//! * [`Action::Custody`] and [`Action::Peers`] are for persistence: rows put and not removed, given back to
//!   [`Overlay::import_custody`], and contacts, given back to [`Overlay::import_peers`], restore a node after a restart.
//! * [`Action::Renew`] asks the shell to sign a successor for an own item, because the machine has no key. A node publishes its peer
//!   record like any other item.
//!
//! # Bounds
//!
//! Everything that grows from input has a named bound: see the constants of this crate and of [`wire`]. A full bound is an
//! error outcome or a refusal, never a wait without end.
//!
//! # Map
//!
//! * [`contact`], [`shard`], [`item`]: the nouns; [`drive`]: commands, outcomes, actions; [`wire`]: messages.
//! * [`Finder`]: from a question to agents that keep what they declare, over several questions if need be.
//! * [`gossip`]: telling a group everything, a state machine of its own beside [`Overlay`].
//! * [`table`]: split-last k-buckets; `lookup`: one iterative search over disjoint paths; `estimate`: round trips and network size.
//! * [`store`]: custody rules; `machine`: [`Overlay`] itself, one file per concern; [`directory`]: the production services.

pub mod config;
pub mod contact;
mod derive;
pub mod directory;
pub mod drive;
mod estimate;
mod few;
mod finder;
pub mod gossip;
pub mod item;
mod lookup;
mod machine;
pub mod shard;
pub mod store;
pub mod table;
pub mod wire;

pub use config::*;
pub use contact::{ADDRS_PER_CONTACT_MAX, Contact, Exempt, IpPrefix, Peer, Positions};
pub use drive::{
    Action, Command, CommandError, CommandId, Cost, CustodianReport, CustodianSaid, CustodyChange,
    CustodyRow, Errand, Failure, FoundDigest, ItemReport, JoinReport, KeyReport, KnownPlace,
    LookupReport, Outcome, PeerChange, PeerQuery, PeerReport, PlaceChange, Publication,
    PublishReport, Query, QueryReport, QueryStep, Reason, ReplyToken, RequestId, Stats,
};
pub use finder::{FINDER_AT_ONCE_MAX, FINDER_ROUNDS_MAX, Finder, FinderLimits, FinderStep, Trial};
pub use item::{
    Candidate, Content, Evaluation, EvaluationLimits, Evaluator, ITEM_BYTES_MAX, ItemBytes,
    ItemKey, ItemKind, LABEL_BYTES_MAX, LABELS_PER_ITEM_MAX, Parsed, QUERY_BYTES_MAX, QueryReject,
    Reject, Services, Subject, Verified, VerifiedItem, Verifier,
};
pub use machine::{LeafReport, Overlay, summary_of};
pub use shard::{PLACEMENTS, Place, Region, SHARD_DEPTH_MAX, ShardId, peer_position};
pub use wire::{Request, RequestFrame, Response};
