//! What an attack costs, and what a table of all nodes would cost, by arithmetic with its sources. Nothing here is simulated.
//!
//! ```
//! use comity_sim::cost::{GPUS, Minting};
//!
//! // Twenty ids nearer to both places of a key than any honest node, in a network of 190,000.
//! let attack = Minting { network: 190_000, ids: 20, rank: 1, placements: 2, mint_bits: 0 };
//! assert_eq!(attack.tries(), 7_600_000.0);
//! // At 0.7 ms for a try on one core, and on the fastest card of the list.
//! assert_eq!((attack.hours(1e6 / 700.0) * 60.0).round(), 89.0);
//! assert!(attack.seconds(GPUS[2].hashes_per_second()) < 8.0);
//! ```

use std::time::Duration;

/// Memory of the function that makes a place out of a key, in KiB: Argon2id with 1 MiB, one pass, one lane (DESIGN.md section 3).
pub const STRETCH_MEMORY_KIB: f64 = 1_024.0;
/// Its passes.
pub const STRETCH_PASSES: f64 = 1.0;
/// Time of one on a core of the machine the design was measured on, in seconds. Pass a rate measured on yours where it matters.
pub const STRETCH_CORE_SECONDS: f64 = 0.000_7;

/// Share of its memory bandwidth that a graphics card reaches with Argon2id and little memory: 95 % (tobtu.com, «Minimum Password
/// Settings», 29 December 2022).
const GPU_EFFICIENCY: f64 = 0.95;

/// What is published of a graphics card and Argon2id.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gpu {
    /// Its name.
    pub name: &'static str,
    /// The rate that is published, in hashes a second.
    pub published_per_second: f64,
    /// For this much memory, in KiB.
    pub memory_kib: f64,
    /// And so many passes.
    pub passes: f64,
    /// Who says so.
    pub source: &'static str,
}

/// Cards with published rates.
pub const GPUS: [Gpu; 3] = [
    Gpu {
        name: "Radeon RX 7900 XTX",
        // 10,000 a second is what the source's formula is solved for: 960 GB/s of bandwidth, 46 MiB less its margin.
        published_per_second: 10_000.0,
        memory_kib: 93_750.0 * GPU_EFFICIENCY / 2.0,
        passes: 1.0,
        source: "tobtu.com/minimum-password-settings, 29 December 2022: m >= 93,750 / (3t - 1) * 95 % for 10,000 hashes a second",
    },
    Gpu {
        name: "GeForce RTX 5090",
        published_per_second: 10_000.0,
        memory_kib: 16_384.0,
        passes: 3.0,
        source: "auth.pilcrowonpaper.com/argon2, 2026: about 10,000 hashes a second at 16 MiB and 3 passes",
    },
    Gpu {
        name: "H100",
        published_per_second: 20_000.0,
        memory_kib: 16_384.0,
        passes: 3.0,
        source: "auth.pilcrowonpaper.com/argon2, 2026: about 20,000 hashes a second at 16 MiB and 3 passes; rented for 2 to 5 USD an hour",
    },
];

/// Bytes that Argon2id moves, in KiB: each pass reads two blocks and writes one, the first reads one less. This is the `3t - 1` of the
/// sources above; a card is bound by it while its memory holds enough lanes.
fn moved_kib(memory_kib: f64, passes: f64) -> f64 {
    memory_kib * (3.0 * passes - 1.0)
}

impl Gpu {
    /// Places of keys it makes in a second, scaled from the published rate by the memory that has to be moved.
    #[must_use]
    pub fn hashes_per_second(&self) -> f64 {
        let ours = moved_kib(STRETCH_MEMORY_KIB, STRETCH_PASSES);
        self.published_per_second * moved_kib(self.memory_kib, self.passes) / ours
    }
}

/// Ids made to lie next to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Minting {
    /// Honest nodes of the network.
    pub network: u64,
    /// Ids wanted next to each place.
    pub ids: u64,
    /// They shall be nearer than the so-many-th nearest honest node: 1 displaces everybody from «the 20 nearest», 20 just gets in.
    pub rank: u64,
    /// Places of a key; each is attacked.
    pub placements: u64,
    /// Leading zero bits that a key's stretch must have.
    pub mint_bits: u32,
}

impl Minting {
    /// Keys that have to be tried, on average: the `rank`-th of N random ids lies about rank / N of the ring away, so that one in N / rank
    /// tries hits, and one in `2^mint_bits` of all is valid at all.
    #[must_use]
    pub fn tries(&self) -> f64 {
        let one = float(self.network) / float(self.rank.max(1));
        float(self.ids) * float(self.placements) * one * 2_f64.powi(self.mint_bits.cast_signed())
    }

    /// Seconds at `tries_per_second`.
    #[must_use]
    pub fn seconds(&self, tries_per_second: f64) -> f64 {
        self.tries() / tries_per_second
    }

    /// Hours at `tries_per_second`.
    #[must_use]
    pub fn hours(&self, tries_per_second: f64) -> f64 {
        self.seconds(tries_per_second) / 3_600.0
    }
}

/// Bytes of a membership event: who came or went, signed (OVERLAY.md section 3.9).
pub const EVENT_BYTES: f64 = 100.0;
/// Bytes of an entry of a table of all nodes (OVERLAY.md section 3.9: 11.4 MB at 190,000).
pub const ENTRY_BYTES: f64 = 60.0;
/// Bytes on the wire for each byte of events when they travel in batches down a tree (OVERLAY.md section 3.9).
const BATCHED: f64 = 1.3;
/// Messages with which one event reaches one node when events travel alone: 1.01 payloads and 4.1 control messages, measured with
/// iroh-gossip (OVERLAY.md section 3.8), of 64 B framing each.
const UNBATCHED_MESSAGES: f64 = 5.11;
const FRAMING_BYTES: f64 = 64.0;

/// A table of all nodes at every node, so that lookups take one hop (Gupta, Liskov, Rodrigues: «Efficient Routing for Peer-to-Peer
/// Overlays», NSDI 2004).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OneHop {
    /// Nodes.
    pub nodes: u64,
    /// Mean length of a session.
    pub session: Duration,
}

impl OneHop {
    /// Nodes that come or go in a second: two for each session. Gupta's 19 for 100,000 nodes of 2.9 h.
    #[must_use]
    pub fn events_per_second(&self) -> f64 {
        2.0 * float(self.nodes) / self.session.as_secs_f64()
    }

    /// Bytes each node sends in a second, and receives, to keep its table, with events in batches.
    #[must_use]
    pub fn bytes_per_second(&self) -> f64 {
        self.events_per_second() * EVENT_BYTES * BATCHED
    }

    /// The same with each event on its own.
    #[must_use]
    pub fn bytes_per_second_unbatched(&self) -> f64 {
        self.events_per_second() * (EVENT_BYTES * 1.01 + UNBATCHED_MESSAGES * FRAMING_BYTES)
    }

    /// Bytes of the table.
    #[must_use]
    pub fn table_bytes(&self) -> f64 {
        float(self.nodes) * ENTRY_BYTES
    }

    /// Share of the entries that are wrong while news takes `delay` to arrive.
    #[must_use]
    pub fn stale_share(&self, delay: Duration) -> f64 {
        2.0 * delay.as_secs_f64() / self.session.as_secs_f64()
    }

    /// Lookups a node must make in a second for the table to cost no more than it saves, when a lookup through buckets costs
    /// `lookup_bytes`, one through the table `direct_bytes`, and keeping buckets `bucket_bytes_per_second`.
    #[must_use]
    pub fn pays_from(
        &self,
        lookup_bytes: f64,
        direct_bytes: f64,
        bucket_bytes_per_second: f64,
    ) -> f64 {
        let more = (self.bytes_per_second() - bucket_bytes_per_second).max(0.0);
        more / (lookup_bytes - direct_bytes).max(f64::MIN_POSITIVE)
    }
}

/// For reports only: exact up to 2^53.
#[allow(clippy::cast_precision_loss, reason = "reports round anyway")]
const fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn two_sources_agree_about_graphics_cards() {
        let rates: Vec<_> = GPUS.iter().map(Gpu::hashes_per_second).collect();
        assert!((400_000.0..460_000.0).contains(&rates[0]), "{rates:?}");
        assert!((600_000.0..680_000.0).contains(&rates[1]), "{rates:?}");
        // A 5090 has 1,792 GB/s, 1.87 times the bandwidth of the 7900: the published rates differ by less than that.
        assert!(rates[1] / rates[0] < 1.87);
    }

    #[test]
    fn more_places_more_bits_and_a_nearer_rank_cost_more() {
        let one = Minting { network: 190_000, ids: 20, rank: 20, placements: 1, mint_bits: 0 };
        assert!((one.tries() - 190_000.0).abs() < 1e-6, "one try for each honest node");
        let all = Minting { rank: 1, placements: 2, mint_bits: 8, ..one };
        assert!((all.tries() / one.tries() - 20.0 * 2.0 * 256.0).abs() < 1e-6);
    }

    #[test]
    fn one_hop_tables_cost_what_the_design_calculated() {
        let gupta = OneHop { nodes: 100_000, session: HOUR * 29 / 10 };
        assert!((gupta.events_per_second() - 19.0).abs() < 0.5);
        let at = |session| OneHop { nodes: 190_000, session }.bytes_per_second();
        for (session, calculated) in
            [(HOUR, 13_700.0), (HOUR * 29 / 10, 4_700.0), (HOUR * 24, 570.0)]
        {
            assert!((at(session) / calculated - 1.0).abs() < 0.02, "{session:?}: {}", at(session));
        }
    }

    #[test]
    fn it_pays_only_for_who_stays_long_and_looks_up_often() {
        let short = OneHop { nodes: 190_000, session: HOUR };
        let long = OneHop { nodes: 190_000, session: HOUR * 24 };
        assert!(short.pays_from(8_400.0, 1_300.0, 55.0) > 1.0);
        assert!(long.pays_from(8_400.0, 1_300.0, 55.0) < 0.1);
        assert!(long.pays_from(8_400.0, 1_300.0, 1e9).abs() < 1e-9);
    }
}
