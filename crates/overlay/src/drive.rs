//! What goes into the machine and what comes out.

use std::sync::Arc;
use std::time::Duration;

use comity_capability::keys::GroupKey;
use comity_capability::record::GroupSecret;
use comity_core::{AgentId, Hash, OverlayId};

use crate::contact::Contact;
use crate::item::{ItemBytes, ItemKey, Reject, VerifiedItem};
use crate::shard::ShardId;
use crate::wire::{ErrorCode, Request, Response};

/// Names a command until its [`Action::Done`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub u64);

/// Names a request until it is answered or failed. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// The shell's own name for a request it received; comes back in [`Action::Reply`] during the same drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyToken(pub u64);

/// What a node wants from the network.
#[derive(Clone, Debug)]
pub enum Command {
    /// Enter the network through `seeds` (at most [`crate::SEEDS_MAX`]); none: this is the first node, or peers were imported.
    Join {
        /// Peers to ask first. They are remembered and asked again when the table runs empty.
        seeds: Vec<Contact>,
    },
    /// Store own items (digests, beats, the peer record) and keep them stored until they expire or are retired.
    Publish {
        /// At most [`crate::PUBLISH_ITEMS_MAX`].
        items: Vec<Publication>,
    },
    /// Store own tombstones at once wherever the retired digests are, and stop publishing those digests.
    Retire {
        /// At most [`crate::PUBLISH_ITEMS_MAX`]. Labels are needed only for digests this run has not published.
        tombstones: Vec<Publication>,
    },
    /// Find peer records.
    FindPeer(PeerQuery),
    /// Find digests.
    Query(Query),
    /// Find the nodes nearest to a target.
    Lookup {
        /// Where to look.
        target: OverlayId,
    },
    /// Tell the nearest peers that this node goes. Retire first; the node may be dropped when this is done.
    Leave,
}

/// An own item and where it belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The sealed item.
    pub item: ItemBytes,
    /// Canonical labels of the groups a digest belongs to, or the blinded label of a veiled entry (`comity_capability::keys::group_keys`), at most
    /// [`crate::LABELS_PER_ITEM_MAX`]. Beats follow the digests of the same command and earlier ones; peer records need none.
    pub labels: Vec<String>,
}

impl Publication {
    /// An item that needs no labels: a beat, a peer record.
    #[must_use]
    pub const fn unlabelled(item: ItemBytes) -> Self {
        Self { item, labels: Vec::new() }
    }
}

/// Whose peer record is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerQuery {
    /// That of a known key.
    Agent {
        /// The key.
        agent: AgentId,
        /// Its place.
        overlay_id: OverlayId,
    },
    /// Those of every agent whose overlay id starts so: an address (120 bits), a handle (48), a checked handle (88).
    Prefix {
        /// The prefix, zeros after it.
        prefix: OverlayId,
        /// Its length in bits, 16 to 256.
        bits: u16,
    },
}

/// A directory query.
#[derive(Clone, Debug)]
pub struct Query {
    /// Groups to ask, the most selective first; at most [`crate::QUERY_KEYS_MAX`] keys in all.
    pub steps: Vec<QueryStep>,
    /// The query in canonical wire form.
    pub query: Vec<u8>,
    /// The secret of the private group to search in; `steps` then name its blinded groups. The query itself does not leave this node:
    /// custodians return all veiled entries of a shard, and they are opened and evaluated here.
    pub secret: Option<GroupSecret>,
    /// Stop asking further keys once this many distinct digests match. 0: ask every key.
    pub want: usize,
    /// Most digests one custodian returns.
    pub limit: u16,
    /// Agents that are not wanted in the answer, such as those just found dead; at most [`crate::wire::EXCLUDE_MAX`].
    pub exclude: Vec<AgentId>,
    /// Hear five custodians instead of two, so that the newest version of each digest is found though some replay an old one.
    pub fresh: bool,
}

/// Groups that are asked together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryStep {
    /// The groups.
    pub keys: Vec<GroupKey>,
    /// Every match is in one of them: once they are answered in full, later steps are not asked.
    pub complete: bool,
}

/// Why a command could not be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// [`crate::COMMANDS_MAX`] commands are running.
    #[error("too many commands are running: wait for one to finish")]
    Busy,
    /// A list in the command is longer than its bound.
    #[error("the command names {given} {what}, at most {max} are allowed: split it")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many were given.
        given: usize,
        /// How many are allowed.
        max: usize,
    },
    /// The command is not well formed.
    #[error("the command is not valid: {0}")]
    Invalid(&'static str),
    /// An own item was refused before it was sent.
    #[error("item {index} cannot be published: {reject}")]
    Item {
        /// Position in the command's list.
        index: usize,
        /// Why.
        reject: Reject,
    },
    /// An own item is signed by another key.
    #[error("item {index} is signed by another key: sign it with this node's identity")]
    ForeignItem {
        /// Position in the command's list.
        index: usize,
    },
    /// No seed answered.
    #[error(
        "none of the {tried} seed peers answered: check their addresses and that they run, then join again"
    )]
    NoSeedAnswered {
        /// How many were asked.
        tried: usize,
    },
    /// The query does not parse.
    #[error("{0}")]
    Query(String),
}

/// How a command ended. Exactly one comes out for each command.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The node is in the network.
    Joined(JoinReport),
    /// Items were offered to their custodians; they will be renewed.
    Published(PublishReport),
    /// Tombstones were offered to the custodians.
    Retired(PublishReport),
    /// What was found of the wanted peer.
    Peers(PeerReport),
    /// What was found of the wanted capability.
    Answers(QueryReport),
    /// The nodes nearest to the target.
    Closest(LookupReport),
    /// The neighbours know.
    Left,
    /// The command failed.
    Failed(CommandError),
}

/// How a join went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinReport {
    /// Contacts in the table now.
    pub peers: usize,
    /// Estimated number of nodes.
    pub size_estimate: u64,
    /// What it cost.
    pub cost: Cost,
}

/// What a command cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Requests sent.
    pub requests: u32,
    /// Requests not answered in time.
    pub failures: u32,
    /// Encoded bytes of requests sent; transport overhead not counted.
    pub bytes_sent: u64,
    /// Encoded bytes of responses received.
    pub bytes_received: u64,
    /// Longest chain of requests that led to each other.
    pub hops: u32,
    /// From command to outcome.
    pub elapsed: Duration,
}

/// Where items went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishReport {
    /// One entry per item of the command, in its order.
    pub items: Vec<ItemReport>,
    /// What it cost.
    pub cost: Cost,
}

/// Where one item went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemReport {
    /// What the item is about.
    pub key: ItemKey,
    /// Custodians that hold it now, at any of its places, this node not counted.
    pub holders: usize,
    /// Places (two per group) where at least one custodian holds it, this node counted.
    pub places_held: usize,
    /// Places it belongs to.
    pub places: usize,
    /// The refusal heard last, if any.
    pub rejected: Option<Reject>,
    /// A group is split, and the item went to one of its deeper shards.
    pub split: bool,
}

/// What a lookup found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupReport {
    /// Nodes that answered, nearest first. This node is not among them.
    pub closest: Vec<Contact>,
    /// What it cost.
    pub cost: Cost,
}

/// What a peer search found.
#[derive(Clone, Debug)]
pub struct PeerReport {
    /// The newest verified peer record of each agent that matches, nearest to the wanted place first.
    pub records: Vec<VerifiedItem>,
    /// The wanted agents themselves as far as they answered or are in the table: reachable even without a record.
    pub contacts: Vec<Contact>,
    /// What it cost.
    pub cost: Cost,
}

/// What a query found, and how: enough to explain the answer.
#[derive(Clone, Debug)]
pub struct QueryReport {
    /// Digests that match, verified and re-evaluated here; by number of custodians that returned them.
    pub matches: Vec<FoundDigest>,
    /// Near misses, verified.
    pub near: Vec<FoundDigest>,
    /// What was asked, in order of asking. Keys that were not needed any more are absent.
    pub keys: Vec<KeyReport>,
    /// It ended before every key and shard that may hold more was asked: enough matched, its time was up, or there were too many.
    pub unasked: bool,
    /// What it cost.
    pub cost: Cost,
}

/// A digest and who returned it.
#[derive(Clone, Debug)]
pub struct FoundDigest {
    /// The newest version seen.
    pub item: VerifiedItem,
    /// The publisher's newest live beat that came with it.
    pub beat: Option<VerifiedItem>,
    /// Custodians that returned it; this node's own key when it is one of them.
    pub returned_by: Vec<AgentId>,
    /// Keys it was found under.
    pub keys: Vec<GroupKey>,
}

/// What happened under one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyReport {
    /// The group asked.
    pub key: GroupKey,
    /// Which shard of it: the whole group, or one below it when the group is split.
    pub shard: ShardId,
    /// Everyone asked for its shard.
    pub custodians: Vec<CustodianReport>,
    /// Requests of the lookups under this key, custodian queries included.
    pub requests: u32,
}

/// What one custodian said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustodianReport {
    /// Who; this node itself when it is a custodian.
    pub agent: AgentId,
    /// Which of the salted placements.
    pub placement: u8,
    /// What it returned.
    pub said: CustodianSaid,
}

/// The kinds of answers custodians give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CustodianSaid {
    /// It keeps the shard.
    Answered {
        /// Digests it holds in the shard.
        held: u32,
        /// Digests it says match.
        passed: u32,
        /// Matching digests returned that verified and match here too.
        matches: u16,
        /// Near misses returned that verified.
        near: u16,
        /// Digests returned that did not verify, are not of this group, or do not match.
        bad: u16,
        /// Hash over what it holds, for comparison between custodians.
        set_hash: Hash,
        /// Its cost budget ran out, or it had more matches than the limit.
        truncated: bool,
    },
    /// It does not keep this shard.
    NotHeld,
    /// The shard is split at this depth.
    Split {
        /// Depth of the live leaves.
        depth: u8,
    },
    /// It refused.
    Refused(ErrorCode),
    /// It did not answer.
    Silent(Failure),
}

/// Why a request did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Failure {
    /// Nothing arrived in time. The machine finds this itself.
    #[error("no answer in time")]
    Timeout,
    /// No session could be opened.
    #[error("the peer cannot be reached")]
    Unreachable,
    /// Another key answered at that address.
    #[error("another key answered at the peer's address")]
    WrongIdentity,
    /// The answer does not parse, or is not an answer to this request.
    #[error("the answer does not parse")]
    Malformed,
    /// The session ended before the answer.
    #[error("the session ended before the answer")]
    Closed,
    /// The local side has no capacity for the request.
    #[error("no local capacity for the request")]
    Local,
    /// The peer answered with an error.
    #[error("the peer refused: {0}")]
    Refused(ErrorCode),
}

/// What the shell must do. Drained with [`crate::Overlay::poll_action`] after every call.
#[derive(Clone, Debug)]
pub enum Action {
    /// Send a request to a peer; report the answer with `response` or the failure with `failed`.
    Send {
        /// Whom to ask; the transport must prove that the key answers.
        to: Contact,
        /// Ties the answer to the request.
        id: RequestId,
        /// What to ask.
        request: Request,
        /// What it is for. Nothing depends on it: for whoever counts.
        errand: Errand,
    },
    /// Answer a request.
    Reply {
        /// The shell's name for it.
        token: ReplyToken,
        /// The answer.
        response: Response,
    },
    /// A command is done.
    Done {
        /// Which.
        command: CommandId,
        /// How it ended.
        outcome: Outcome,
    },
    /// Custody changed; persist before acknowledging if restarts must lose nothing.
    Custody(CustodyChange),
    /// The routing table changed.
    Peers(PeerChange),
    /// Who keeps a place of own items changed.
    Places(PlaceChange),
    /// An own item nears its expiry: sign a newer one and publish it. Repeated each maintenance round until then.
    Renew(ItemKey),
}

/// A change to what this node stores for others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CustodyChange {
    /// Store or replace the row of `key`.
    Put {
        /// What the row is about.
        key: ItemKey,
        /// The row.
        row: CustodyRow,
    },
    /// Delete the row of `key`.
    Remove {
        /// What the row is about.
        key: ItemKey,
    },
}

/// One stored item and where it is kept: what a restart needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustodyRow {
    /// The sealed item.
    pub bytes: ItemBytes,
    /// The shards it is stored under, in order; empty for beats and peer records.
    pub shards: Vec<ShardId>,
    /// Of digests: the label of each shard's group. Empty strings otherwise.
    pub labels: Vec<Arc<str>>,
}

/// A change to the routing table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerChange {
    /// A contact was added, or its addresses changed.
    Added(Contact),
    /// A contact was removed.
    Removed(AgentId),
}

/// Who keeps a place of own items: what a restart needs to renew them without searching for it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownPlace {
    /// The place.
    pub position: OverlayId,
    /// Its custodians, at most [`crate::HOLDERS_MAX`].
    pub contacts: Vec<Contact>,
    /// How many of them a search found when it was last searched.
    pub found: u16,
    /// How often it was used since: now and then it is searched again, across restarts too.
    pub uses: u8,
    /// Estimated number of nodes of the network then.
    pub size: u64,
}

/// A change to what is known of the custodians of own items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlaceChange {
    /// Store or replace what is known of the place.
    Put(KnownPlace),
    /// Nothing of one's own is kept there any more.
    Remove {
        /// The place.
        position: OverlayId,
    },
}

/// Why the machine wants to be woken; the earliest one is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// A request is slow: give its slot to another.
    SlowRequest,
    /// A request has failed.
    LostRequest,
    /// A lookup must end.
    LookupDeadline,
    /// A command must end.
    CommandDeadline,
    /// Own items are due to be stored again.
    Republish,
    /// Refresh, pings, expiry, size samples.
    Maintenance,
}

/// What a request is for: where the bytes of upkeep go, request and answer together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Errand {
    /// Entering the network: the search for the own place, and the first look into each bucket.
    Join,
    /// Looking into a bucket of the table again.
    Refresh,
    /// Estimating the size of the network.
    Sample,
    /// Is a table entry that was not heard of for long, or missed its last request, alive?
    Ping,
    /// The same of any entry, by a node that has little else to do, so that it notices when many go.
    Heartbeat,
    /// Is a stranger that asked, or a candidate for the table, where it says?
    Probe,
    /// Cleaning up after many requests failed, and asking contacts that fell silent whether they are back.
    Recovery,
    /// Finding the custodians of the places of what the shell publishes or retires.
    Place,
    /// The same for what is renewed.
    PlaceAgain,
    /// Asking some of the custodians of a place who came beside them.
    Check,
    /// Storing what the shell publishes or retires.
    Store,
    /// Storing it again.
    Renewal,
    /// Finding a peer record, or the nodes nearest to a place.
    Find,
    /// Asking custodians a query.
    Query,
    /// Asking custodians for an own digest.
    Audit,
    /// Telling the custodians of summary shards, and finding them.
    Report,
    /// Comparing with fellow custodians.
    Reconcile,
    /// Saying goodbye.
    Leave,
}

impl Errand {
    /// All of them, in order.
    pub const ALL: [Self; 18] = [
        Self::Join,
        Self::Refresh,
        Self::Sample,
        Self::Ping,
        Self::Heartbeat,
        Self::Probe,
        Self::Recovery,
        Self::Place,
        Self::PlaceAgain,
        Self::Check,
        Self::Store,
        Self::Renewal,
        Self::Find,
        Self::Query,
        Self::Audit,
        Self::Report,
        Self::Reconcile,
        Self::Leave,
    ];

    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Refresh => "refresh",
            Self::Sample => "sample",
            Self::Ping => "ping",
            Self::Heartbeat => "heartbeat",
            Self::Probe => "probe",
            Self::Recovery => "recovery",
            Self::Place => "place",
            Self::PlaceAgain => "place_again",
            Self::Check => "check",
            Self::Store => "store",
            Self::Renewal => "renewal",
            Self::Find => "find",
            Self::Query => "query",
            Self::Audit => "audit",
            Self::Report => "report",
            Self::Reconcile => "reconcile",
            Self::Leave => "leave",
        }
    }
}

/// Counters since start and sizes now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Contacts in the table.
    pub peers: usize,
    /// Buckets in the table.
    pub buckets: usize,
    /// Estimated number of nodes, this one included.
    pub size_estimate: u64,
    /// Smoothed round trip time of own requests.
    pub rtt: Duration,
    /// Requests in flight.
    pub requests_in_flight: usize,
    /// Lookups running.
    pub lookups: usize,
    /// Commands running.
    pub commands: usize,
    /// Own items published.
    pub published: usize,
    /// Items held for others and oneself.
    pub custody_items: usize,
    /// Bytes of them.
    pub custody_bytes: usize,
    /// Shards with at least one digest.
    pub custody_shards: usize,
    /// Requests sent.
    pub requests_sent: u64,
    /// Requests that failed.
    pub requests_failed: u64,
    /// Of these, how many say nothing about the peer, because this node was late itself while they waited.
    pub requests_unproven: u64,
    /// Times that this node was called later than it had asked for, by more than schedulers are.
    pub stalls: u64,
    /// How late it was, all times together.
    pub late: Duration,
    /// Requests served.
    pub requests_served: u64,
    /// Requests refused for their rate.
    pub requests_refused: u64,
    /// Items offered by others and refused.
    pub items_rejected: u64,
    /// Lookups that went on into sibling subtrees, because a place was crowded or something missing.
    pub sweeps: u64,
    /// Times that more than half of the recent requests to table entries failed.
    pub mass_failures: u64,
    /// Times that contacts which had gone together came back, and this node joined again through them.
    pub merges: u64,
    /// Own digests asked for at custodians that had acknowledged them.
    pub audits: u64,
    /// Times that such a custodian left the digest out the first time; it may have lost it.
    pub omissions: u64,
    /// Times that one left it out again after it had acknowledged it again.
    pub quarantined: u64,
    /// Custodians in quarantine now.
    pub in_quarantine: usize,
}
