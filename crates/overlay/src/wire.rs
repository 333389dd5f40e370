//! Requests and responses between nodes, and their encoding.

use std::sync::Arc;

use comity_core::{AgentId, Hash, OverlayId};

use crate::contact::Contact;
use crate::item::{ItemBytes, Reject};
use crate::shard::{Place, ShardId};

mod codec;
mod known;

pub(crate) use codec::contact_len;
pub use codec::{
    WireError, decode_request, decode_response, encode_request, encode_response,
    encoded_request_len, encoded_response_len,
};

pub(crate) use known::KNOWN_NODES_MAX;
pub use known::{KNOWN_BYTES_MAX, Known};

/// Longest encoded message in bytes.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1_024;
/// Most contacts in one answer.
pub const CONTACTS_MAX: usize = 20;
/// Most items in one store request.
pub const STORE_ITEMS_MAX: usize = 40;
/// Most (item, place) pairs in one store request.
pub const STORE_ENTRIES_MAX: usize = 256;
/// Most labels in one store request.
pub const STORE_LABELS_MAX: usize = 128;
/// Most matching digests in one answer.
pub const FOUND_MATCHES_MAX: usize = 32;
/// Most veiled entries in one answer: a whole shard of them, 38 KiB.
pub const FOUND_VEILED_MAX: usize = crate::config::SHARD_VEILED_MAX;
/// Most near misses in one answer. A custodian sends fewer: see `machine/serve.rs`.
pub const FOUND_NEAR_MAX: usize = 8;
/// Most agents a query may exclude: two answers full of agents that were tried and failed.
pub const EXCLUDE_MAX: usize = 64;
/// Most leaves in one answer: a summary reaches six levels below its shard, and every one of their nodes may hold members.
pub const LEAVES_MAX: usize = 126;
/// Most custodians that one answer names of one leaf.
pub const LEAF_CUSTODIANS_MAX: usize = 3;
/// And of all leaves together: who hears of a node derives its place, which takes 0.7 ms.
pub const LEAVES_CUSTODIANS_MAX: usize = 96;
/// Longest zone map in a report, in bytes.
pub const ZONE_BYTES_MAX: usize = comity_capability::zone::ZONE_BYTES_MAX;
/// Most sets compared in one request.
pub const COMPARED_MAX: usize = 256;
/// Most ranges in one reconciling message.
pub const RANGES_MAX: usize = 256;
/// Most elements listed in one reconciling message, all ranges together.
pub const ELEMENTS_MAX: usize = 1_024;
/// Most items in one reconciling answer.
pub const RECONCILED_ITEMS_MAX: usize = 128;
/// Most peer records in one answer.
pub const PEER_RECORDS_MAX: usize = 8;
/// Fewest bits of a peer prefix: shorter ones would enumerate the network.
pub const PREFIX_BITS_MIN: u16 = 16;

/// A request and what its sender says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestFrame {
    /// The sender answers requests, or wants to; the receiver proves it by dialling back.
    pub server: bool,
    /// Where the sender can be dialled, at most [`crate::ADDRS_PER_CONTACT_MAX`].
    pub addrs: Vec<std::net::SocketAddr>,
    /// What it asks.
    pub request: Request,
}

/// What one node asks another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Are you there?
    Ping,
    /// Which servers do you know nearest to `target`?
    FindNode {
        /// The place.
        target: OverlayId,
        /// Whom the asker knows of: they need not be named.
        known: Known,
    },
    /// Keep these items.
    Store {
        /// Sealed items, at most [`STORE_ITEMS_MAX`].
        items: Vec<ItemBytes>,
        /// Labels of the groups that entries go to, at most [`STORE_LABELS_MAX`]: a group key is the hash of its label, and only the
        /// label lets a custodian check that a digest belongs.
        labels: Vec<String>,
        /// Where each is to be kept; at most [`STORE_ENTRIES_MAX`].
        entries: Vec<StoreEntry>,
    },
    /// Evaluate a query over a shard.
    Query(QueryRequest),
    /// Which peer records do you keep whose overlay id starts with `prefix`?
    FindPeer {
        /// The prefix, zeros after it.
        prefix: OverlayId,
        /// Its length, [`PREFIX_BITS_MIN`] to 256.
        bits: u16,
        /// Where this lookup is heading: near the overlay id itself or near the second placement.
        target: OverlayId,
        /// Whom the asker knows of: they need not be named.
        known: Known,
    },
    /// I am going; forget me.
    Leaving,
    /// This is what I hold of a leaf below a shard that you keep.
    Report(Report),
    /// Which of these shards do you hold differently?
    Compare {
        /// At most [`COMPARED_MAX`].
        sets: Vec<Compared>,
    },
    /// What do you hold of this shard in these ranges?
    Reconcile(Reconcile),
}

/// What a custodian holds of one leaf of a split group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The leaf; its depth is not 0.
    pub shard: ShardId,
    /// The placement of the leaf that the sender keeps.
    pub placement: u8,
    /// Digests shown there.
    pub count: u32,
    /// What they have in common, as an encoded zone map; `None`: nothing is said of them.
    pub zone: Option<ItemBytes>,
}

/// A shard's name and what is held of it, both in few bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compared {
    /// [`ShardId::name`].
    pub shard: u64,
    /// Fingerprint over all elements, see [`crate::store::Custody::fingerprints`].
    pub fingerprint: u64,
}

/// One step of the comparison of one shard between two of its custodians.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reconcile {
    /// The shard.
    pub shard: ShardId,
    /// The placement both keep.
    pub placement: u8,
    /// The label of its group; empty when the asker knows none.
    pub label: Arc<str>,
    /// The asker has no room for digests it does not hold.
    pub closed: bool,
    /// What the asker holds: ranges in order that do not overlap, at most [`RANGES_MAX`].
    pub ranges: Vec<ElementRange>,
}

/// What one side holds of the elements with names from `first` to `last`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElementRange {
    /// Smallest name.
    pub first: u64,
    /// Largest name.
    pub last: u64,
    /// What is there.
    pub held: RangeHeld,
}

/// The content of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeHeld {
    /// The sum of the elements' states, see [`crate::store::element_state`].
    Sum(u64),
    /// Every element, by name.
    List(Vec<ElementState>),
}

/// One element as a custodian holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElementState {
    /// Its name, see [`crate::store::element_name`].
    pub name: u64,
    /// Its sequence number.
    pub seq: u64,
    /// When the signer's beat was issued, in milliseconds; 0 without one.
    pub beat: u64,
}

/// One item at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoreEntry {
    /// Index into the request's items.
    pub item: u8,
    /// Where it belongs.
    pub place: Place,
    /// Index into the request's labels; needed for digests and veiled entries.
    pub label: Option<u8>,
}

/// A query over one shard at one placement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryRequest {
    /// The shard.
    pub shard: ShardId,
    /// Which salted placement of it, below [`crate::PLACEMENTS`].
    pub placement: u8,
    /// The query in canonical wire form, at most [`crate::QUERY_BYTES_MAX`]. Empty: all veiled entries of the shard, whatever `limit` says,
    /// for an asker that can read them; to tell their custodian what is looked for would tell what they are about.
    pub query: ItemBytes,
    /// Most matches to return, 1 to [`FOUND_MATCHES_MAX`].
    pub limit: u16,
    /// Most condition evaluations to spend.
    pub cost_max: u32,
    /// Agents not wanted, at most [`EXCLUDE_MAX`].
    pub exclude: Vec<AgentId>,
    /// Nodes near the placement that the asker knows of: they need not be named.
    pub known: Known,
}

/// What a node answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// I am here.
    Pong,
    /// Servers near the target, at most [`CONTACTS_MAX`].
    Nodes {
        /// The contacts.
        contacts: Vec<Contact>,
    },
    /// What became of each entry of a store request, in its order.
    Stored {
        /// One per entry.
        outcomes: Vec<StoreOutcome>,
    },
    /// What the query found.
    Found {
        /// The answer for the shard.
        answer: QueryOutcome,
        /// Servers nearer to the placement, at most [`CONTACTS_MAX`].
        closer: Vec<Contact>,
    },
    /// Peer records kept here.
    Peer {
        /// At most [`PEER_RECORDS_MAX`] sealed records.
        records: Vec<ItemBytes>,
        /// Servers nearer to the target, at most [`CONTACTS_MAX`].
        closer: Vec<Contact>,
    },
    /// Understood, nothing to say.
    Done,
    /// The compared sets that differ, by their place in the request; a shard that is not held here differs.
    Differ {
        /// At most [`COMPARED_MAX`], in order.
        at: Vec<u16>,
    },
    /// What differs.
    Reconciled {
        /// Ranges to go on with: what the answerer holds in them; at most [`RANGES_MAX`].
        ranges: Vec<ElementRange>,
        /// Items that the asker's lists lack or have older; at most [`RECONCILED_ITEMS_MAX`].
        items: Vec<ItemBytes>,
        /// Names in the asker's lists that the answerer lacks or has older; at most [`ELEMENTS_MAX`].
        wants: Vec<u64>,
    },
    /// The request was not carried out.
    Error(ErrorCode),
}

/// What became of one store entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StoreOutcome {
    /// It is kept.
    Stored,
    /// It is not kept.
    Rejected(Reject),
    /// The shard is split: offer it to the shards of this depth.
    Split {
        /// Depth of the live leaves.
        depth: u8,
    },
}

/// What a custodian found in a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryOutcome {
    /// The shard is kept here.
    Answered(Answer),
    /// This node does not keep that shard.
    NotHeld,
    /// The shard is split: ask the shards of this depth.
    Split {
        /// Depth of the live leaves.
        depth: u8,
    },
}

/// The result of evaluating a query over a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Matching digests, best first, at most [`FOUND_MATCHES_MAX`]; or veiled entries, at most [`FOUND_VEILED_MAX`].
    pub matches: Vec<ItemBytes>,
    /// Near misses, at most [`FOUND_NEAR_MAX`].
    pub near: Vec<ItemBytes>,
    /// Live beats of the publishers of `matches`.
    pub beats: Vec<ItemBytes>,
    /// Entries in the shard.
    pub held: u32,
    /// Digests that matched before the limit.
    pub passed: u32,
    /// The cost or size budget ran out.
    pub truncated: bool,
    /// Hash over (signer, subject, seq) of the shard's digests: equal custodians say equal hashes.
    pub set_hash: Hash,
    /// The shards below this one that hold members too, as far as they were reported; at most [`LEAVES_MAX`], in order.
    pub leaves: Vec<LeafView>,
}

/// A shard below the one that was asked, as its custodians reported it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafView {
    /// Its depth, above that of the shard asked.
    pub depth: u8,
    /// Its prefix.
    pub prefix: [u8; 4],
    /// Digests there.
    pub count: u32,
    /// Whether any of them may match the query, as far as the reports tell.
    pub may_match: bool,
    /// Custodians of its placement that has the number of the one asked, the nearest that reported it; at most
    /// [`LEAF_CUSTODIANS_MAX`], and [`LEAVES_CUSTODIANS_MAX`] in the answer.
    pub custodians: Vec<Contact>,
}

/// Why a request was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum ErrorCode {
    /// Too many requests from this peer.
    #[error("the peer is busy, ask later")]
    Busy,
    /// The request breaks a rule.
    #[error("the peer finds the request not valid")]
    Invalid,
    /// The query does not parse there.
    #[error("the peer cannot evaluate the query")]
    Query,
    /// The peer does not serve (it is a client).
    #[error("the peer does not serve requests")]
    NotServing,
    /// A code of a later version.
    #[error("the peer answered with unknown error {0}")]
    Other(u16),
}
