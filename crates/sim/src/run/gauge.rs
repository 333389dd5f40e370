//! Looking at the whole network: traffic, custody, tables, memory.

use std::collections::BTreeMap;
use std::time::Duration;

use comity_overlay::{Errand, Overlay};

use super::Runner;
use crate::node::Node;
use crate::random::micros;
use crate::report::traffic::Traffic;
use crate::report::{
    CustodyReport, Hits, NetworkState, PhaseReport, StatePart, Values, float, ratio,
};
use crate::scenario::EPOCH;
use crate::world::NodeIx;

/// Nodes whose tables a point of the time series looks at.
const TABLES_LOOKED_AT: usize = 64;
/// Custodies of one node whose shards are looked at in full; of more nodes every so-manieth.
const SHARDS_OF_NODES_MAX: usize = 20_000;

/// What a node had sent, and how long it had been up, at some time.
#[derive(Clone, Copy, Debug, Default)]
struct Meter {
    bytes: u64,
    messages: u64,
    served: u64,
    micros: u64,
}

/// What was seen of the network as a whole.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    /// Meters of all nodes at the beginning of the phase.
    begin: Vec<Meter>,
    /// What all had sent by then, and their time up.
    sent: (Traffic, u64),
    /// Bytes and messages sent and time up of all nodes, at the last point of the series.
    last: (u64, u64, u64),
    pub(super) custody: CustodyReport,
    pub(super) estimates: Values,
    /// Mean at the end of the first phase, and peak, of each part of a node's state.
    state: BTreeMap<&'static str, (f64, u64)>,
    pub(super) peak_state_bytes: u64,
}

impl Gauges {
    pub(super) fn state(&self) -> Vec<StatePart> {
        let parts = self.state.iter();
        parts
            .map(|(part, (mean, peak))| StatePart {
                part: (*part).to_owned(),
                mean: *mean,
                peak: *peak,
            })
            .collect()
    }
}

/// Bytes of each part of a node's state.
fn parts(node: &Node) -> [(&'static str, u64); 4] {
    let Some(overlay) = &node.overlay else {
        return [("all", 0), ("custody", 0), ("machine", 0), ("table", 0)];
    };
    let stats = overlay.stats();
    let all = node.state_bytes() as u64;
    let (machine, custody) = (size_of::<Overlay>() as u64, stats.custody_bytes as u64);
    [
        ("all", all),
        ("custody", custody),
        ("machine", machine),
        ("table", all.saturating_sub(machine + custody)),
    ]
}

impl Runner {
    fn meter(&self, ix: NodeIx) -> Meter {
        let node = &self.world.nodes()[ix];
        Meter {
            bytes: node.bytes_sent,
            messages: node.messages_sent,
            served: node.overlay.as_ref().map_or(0, |overlay| overlay.stats().requests_served),
            micros: micros(node.uptime(self.world.now())),
        }
    }

    pub(super) fn phase_begins(&mut self, phase: usize) {
        let meters = (0..self.world.nodes().len()).map(|ix| self.meter(ix)).collect();
        self.gauges.begin = meters;
        self.gauges.sent = (*self.world.traffic(), self.world.node_micros());
        let at = self.seconds();
        self.phases[phase].done.begin_seconds = at;
        let label = self.phases[phase].done.label.clone();
        self.mark(format!("measuring {label}"));
    }

    pub(super) fn phase_ends(&mut self, phase: usize) {
        let (mut sent, mut messages, mut served) =
            (Values::default(), Values::default(), Values::default());
        for ix in 0..self.world.nodes().len() {
            let before = self.gauges.begin.get(ix).copied().unwrap_or_default();
            let now = self.meter(ix);
            let up = now.micros.saturating_sub(before.micros);
            // Who was there for a moment only says nothing about a second.
            if up < 1_000_000 {
                continue;
            }
            let per_second = |now: u64, before: u64| {
                // In thousandths, for whole numbers.
                let rate = u128::from(now.saturating_sub(before)) * 1_000_000_000 / u128::from(up);
                u64::try_from(rate).unwrap_or(u64::MAX)
            };
            sent.add(per_second(now.bytes, before.bytes));
            messages.add(per_second(now.messages, before.messages));
            served.add(per_second(now.served, before.served));
        }
        let node_micros = self.world.node_micros() - self.gauges.sent.1;
        let (sent_before, node_seconds) = (self.gauges.sent.0, float(node_micros) / 1e6);
        let traffic = self.world.traffic().kinds_since(&sent_before, node_seconds);
        let errand_traffic = self.world.traffic().errands_since(&sent_before, node_seconds);
        let (live_nodes, end_seconds) = (self.live_nodes(), self.seconds());
        let asked = [Errand::Find, Errand::Query].map(Errand::name);
        let upkeep = errand_traffic.iter().filter(|errand| !asked.contains(&&*errand.kind));
        let upkeep_per_second = upkeep.map(|errand| errand.bytes_per_second).sum();
        let done = &mut self.phases[phase].done;
        *done = PhaseReport {
            end_seconds,
            live_nodes,
            sent_per_second: sent.spread(1e3),
            upkeep_per_second,
            traffic,
            errand_traffic,
            messages_per_second: messages.spread(1e3),
            served_per_second: served.spread(1e3),
            ..done.clone()
        };
        self.note_peak();
        if phase == 0 {
            self.look_at_all();
        }
    }

    fn seconds(&self) -> f64 {
        float(micros(self.world.now().saturating_since(EPOCH))) / 1e6
    }

    pub(super) fn live_nodes(&self) -> u64 {
        self.world.nodes().iter().filter(|node| node.is_up()).count() as u64
    }

    /// Custody, estimates and memory of all nodes.
    fn look_at_all(&mut self) {
        let (mut items, mut bytes, mut shards, mut served) =
            (Values::default(), Values::default(), Values::default(), Values::default());
        let mut estimates = Values::default();
        let mut totals: BTreeMap<&'static str, Values> = BTreeMap::new();
        let live = self.live_nodes();
        let every = self.world.nodes().len().div_ceil(SHARDS_OF_NODES_MAX).max(1);
        for (ix, node) in self.world.nodes().iter().enumerate() {
            let Some(overlay) = &node.overlay else { continue };
            let stats = overlay.stats();
            items.add(stats.custody_items as u64);
            bytes.add(stats.custody_bytes as u64);
            served.add(stats.requests_served);
            if ix.is_multiple_of(every) {
                overlay.custody().shards().for_each(|(_, count)| shards.add(count as u64));
            }
            for (part, size) in parts(node) {
                totals.entry(part).or_default().add(size);
            }
        }
        // Only nodes that measure the network's size have an opinion.
        for ix in self.askers.iter().chain(self.register.publishers.keys()) {
            if let Some(overlay) = &self.world.nodes()[*ix].overlay {
                let times =
                    u128::from(overlay.stats().size_estimate) * 1_000 / u128::from(live.max(1));
                estimates.add(u64::try_from(times).unwrap_or(u64::MAX));
            }
        }
        self.gauges.custody = CustodyReport {
            items: items.spread(1.0),
            bytes: bytes.spread(1.0),
            shard_digests: shards.spread(1.0),
            served: served.spread(1.0),
        };
        self.gauges.estimates = estimates;
        for (part, sizes) in totals {
            self.gauges.state.entry(part).or_default().0 = sizes.spread(1.0).mean;
        }
    }

    pub(super) fn note_peak(&mut self) {
        for node in self.world.nodes().iter().filter(|node| node.is_up()) {
            for (part, size) in parts(node) {
                let peak = &mut self.gauges.state.entry(part).or_default().1;
                *peak = (*peak).max(size);
            }
        }
        self.gauges.peak_state_bytes = self.gauges.state.get("all").map_or(0, |(_, peak)| *peak);
    }

    /// A point of the time series.
    pub(super) fn sample_network(&mut self) {
        let now = self.world.now();
        let counters = self.world.counters();
        let total = (counters.bytes, counters.messages, self.world.node_micros());
        let (bytes, messages) = (total.0 - self.gauges.last.0, total.1 - self.gauges.last.1);
        let up = total.2.saturating_sub(self.gauges.last.2);
        self.gauges.last = total;
        let nodes = self.world.nodes();
        let every = nodes.len().div_ceil(TABLES_LOOKED_AT).max(1);
        let (mut entries, mut tables) = (Hits::default(), 0);
        for overlay in nodes.iter().step_by(every).filter_map(|node| node.overlay.as_ref()) {
            tables += 1;
            for entry in overlay.table().entries() {
                entries.add(u64::from(self.world.is_dead(entry.contact)), 1);
            }
        }
        let per_second = |sent: u64| (up > 0).then(|| ratio(sent, up) * 1e6);
        let state = NetworkState {
            live_nodes: self.live_nodes(),
            sent_per_second: per_second(bytes),
            messages_per_second: per_second(messages),
            dead_entries: (entries.wanted > 0).then(|| entries.share()),
            table_entries: (tables > 0).then(|| ratio(entries.wanted, tables)),
            table_entries_stalled: self.table_entries_stalled(),
        };
        let begin = now - self.series.bucket().min(Duration::from_micros(now.as_micros()));
        self.series.network(begin, state);
    }

    /// Table entries of all nodes, and those of them that are up.
    pub(super) fn entries(&self) -> Hits {
        let mut entries = Hits::default();
        for overlay in self.world.nodes().iter().filter_map(|node| node.overlay.as_ref()) {
            for entry in overlay.table().entries() {
                entries.add(u64::from(!self.world.is_dead(entry.contact)), 1);
            }
        }
        entries
    }
}
