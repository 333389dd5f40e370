//! Parameters of one overlay instance and the fixed bounds of all of them.

use std::time::Duration;

use crate::contact::Exempt;

/// Contacts in a bucket and in a node list.
pub const K: usize = 20;
/// Spare contacts remembered behind a full bucket.
pub const SPARES_MAX: usize = 4;
/// Buckets in a table: one per leading bit.
pub const BUCKETS_MAX: usize = 256;
/// Contacts of one IP prefix in a bucket.
pub const PREFIX_PER_BUCKET_MAX: usize = 2;
/// Contacts of one IP prefix in the whole table.
pub const PREFIX_PER_TABLE_MAX: usize = 10;
/// Unanswered requests in a row after which a contact leaves the table.
pub const STRIKES_MAX: u8 = 2;

/// Requests in flight at once; lookups wait for a free one.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 512;
/// Commands running at once; more are refused.
pub const COMMANDS_MAX: usize = 256;
/// Lookups running at once; more wait inside their command.
pub const LOOKUPS_MAX: usize = 128;
/// Candidates one lookup remembers.
pub const LOOKUP_CANDIDATES_MAX: usize = 1_024;
/// Requests one lookup may send.
pub const LOOKUP_REQUESTS_MAX: u32 = 300;
/// The same once it was widened because something is missing or crowded; lookups into sibling subtrees count for themselves.
pub const LOOKUP_REQUESTS_ESCALATED_MAX: u32 = 600;
/// Contacts of the own table a failing lookup falls back to.
pub const LOOKUP_SEEDS_MAX: usize = 150;
/// Seeds one join may name.
pub const SEEDS_MAX: usize = 64;
/// Group keys one query may name, all steps together.
pub const QUERY_KEYS_MAX: usize = 256;
/// Items one publish or retire command may carry.
pub const PUBLISH_ITEMS_MAX: usize = 256;
/// Items one node keeps published.
pub const PUBLISHED_MAX: usize = 1_024;
/// Most nodes that one item is stored on at one place: the custodians and the ids that an attacker is expected to mint beside them.
pub const HOLDERS_MAX: usize = 256;
/// Slack of the region a custodian accepts, against the one it computes from its own size estimate.
pub const REGION_SLACK: u32 = 4;

/// Requests one peer may send per second before it is told `Busy`.
pub const REQUESTS_PER_PEER_PER_SECOND_MAX: u32 = 128;
/// Peers whose request rate is remembered.
pub const RATE_PEERS_MAX: usize = 4_096;
/// Unsolicited peers that may wait for the ping that proves they can be reached.
pub const PROBES_MAX: usize = 32;

/// Digests in one shard of one custodian.
pub const SHARD_DIGESTS_MAX: usize = 1_024;
/// Veiled entries in one shard of one custodian. A shard of them is returned whole, because a custodian cannot choose among what it
/// cannot read; larger groups split sooner.
pub const SHARD_VEILED_MAX: usize = 48;
/// Levels by which a split group may lie deeper than its network's size explains.
pub const SHARD_DEPTH_MARGIN: u8 = 3;
/// Live items of one publisher at one custodian, its beat not counted.
pub const ITEMS_PER_PUBLISHER_MAX: usize = 64;
/// Items stored on behalf of one IP prefix at one custodian (loopback and exempt networks are not counted).
pub const ITEMS_PER_PREFIX_MAX: usize = 1_024;
/// One IP prefix fills at most this share, as a divisor, of a shard at one custodian: whoever fills a shard from one network leaves room
/// for others.
pub const SHARD_PER_PREFIX_DIVISOR: usize = 8;
/// Entries of one IP prefix that a shard takes in any case.
pub const SHARD_PER_PREFIX_MIN: usize = 16;
/// Furthest an item's issue time may lie ahead of the local clock.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(120);
/// Longest life of a digest, a tombstone or a peer record.
pub const ITEM_LIFETIME_MAX: Duration = Duration::from_secs(26 * 3_600);
/// A digest is shown from its issue for this long without a beat; its beat may arrive after it.
pub const BEAT_GRACE: Duration = Duration::from_secs(120);
/// Longest life of a beat.
pub const BEAT_LIFETIME_MAX: Duration = Duration::from_secs(9_000);

/// Parameters an operator or a simulation may change. The defaults are those of the public network (OVERLAY section 1.1).
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Requests a lookup keeps in flight while peers answer.
    pub alpha: usize,
    /// Requests a lookup keeps in flight once more than half of its requests failed.
    pub alpha_failing: usize,
    /// Disjoint paths of a reading lookup.
    pub find_paths: usize,
    /// Contacts each path of a reading lookup follows.
    pub find_path_k: usize,
    /// Disjoint paths of a lookup that finds where to store.
    pub store_paths: usize,
    /// Contacts each path of a storing lookup follows.
    pub store_path_k: usize,
    /// Custodians expected in the region around each place, and the fewest nearest nodes that items are stored on.
    pub holders: usize,
    /// Store on everyone inside the region, look for crowds and search around them. `false` is the classic scheme, for comparison:
    /// the `holders` nearest nodes alone.
    pub region: bool,
    /// Contacts a bucket refresh looks for.
    pub refresh_k: usize,
    /// Shortest wait before a lookup stops holding a slot for a silent peer.
    pub soft_timeout_min: Duration,
    /// Wait after which a request has failed.
    pub hard_timeout: Duration,
    /// The same while most requests fail.
    pub hard_timeout_failing: Duration,
    /// Longest a lookup may run.
    pub lookup_deadline: Duration,
    /// Longest idle time after which a bucket is refreshed. It follows the half-life of table entries below that.
    pub refresh_after: Duration,
    /// The shortest.
    pub refresh_after_min: Duration,
    /// Longest time unseen after which a table entry is pinged. It follows the half-life of table entries below that.
    pub ping_after: Duration,
    /// The shortest.
    pub ping_after_min: Duration,
    /// How often the maintenance timer fires.
    pub maintenance_every: Duration,
    /// Longest interval between two stores of a published item.
    pub republish_max: Duration,
    /// Shortest interval between two stores of a published item, however fast custodians disappear.
    pub republish_min: Duration,
    /// Random-target lookups the size estimate is the median of.
    pub estimate_samples: usize,
    /// Random-target lookups made while joining; the rest follow one per maintenance round.
    pub estimate_samples_join: usize,
    /// Time between size samples once enough are known.
    pub estimate_every: Duration,
    /// Custodians of each placement a query hears before it is satisfied.
    pub query_custodians: usize,
    /// Keys of a query's plan that are asked at once.
    pub query_keys_parallel: usize,
    /// Longest a query command may run.
    pub query_deadline: Duration,
    /// Bytes of items held for others.
    pub custody_bytes_max: usize,
    /// Digests after which a shard sends new members down, at most [`SHARD_DIGESTS_MAX`].
    pub shard_digests: usize,
    /// Time between two reports of a shard below the top of its group.
    pub report_every: Duration,
    /// Time between two comparisons with other custodians.
    pub reconcile_every: Duration,
    /// Networks the prefix caps ignore. Loopback is always ignored.
    pub exempt: Vec<Exempt>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            alpha: 3,
            alpha_failing: 8,
            find_paths: 4,
            find_path_k: K,
            store_paths: 8,
            store_path_k: 3,
            holders: 10,
            region: true,
            refresh_k: 8,
            soft_timeout_min: Duration::from_millis(250),
            hard_timeout: Duration::from_millis(1_500),
            hard_timeout_failing: Duration::from_millis(800),
            lookup_deadline: Duration::from_secs(30),
            refresh_after: Duration::from_secs(3_600),
            refresh_after_min: Duration::from_secs(600),
            ping_after: Duration::from_secs(900),
            ping_after_min: Duration::from_secs(120),
            maintenance_every: Duration::from_secs(60),
            republish_max: Duration::from_secs(3_600),
            republish_min: Duration::from_secs(300),
            estimate_samples: 16,
            estimate_samples_join: 4,
            estimate_every: Duration::from_secs(1_800),
            query_custodians: 2,
            query_keys_parallel: 2,
            query_deadline: Duration::from_secs(10),
            custody_bytes_max: 64 << 20,
            shard_digests: SHARD_DIGESTS_MAX,
            report_every: Duration::from_secs(300),
            reconcile_every: Duration::from_secs(300),
            exempt: Vec::new(),
        }
    }
}
