//! Nodes that stand still and run by turns, and what becomes of their tables.

use std::collections::BTreeSet;
use std::time::Duration;

use comity_core::Time;

use super::{Runner, Task};
use crate::random::{PPM_ONE, Ppm, micros};
use crate::report::{Point, StallReport, float, ratio};
use crate::scenario::EPOCH;
use crate::world::NodeIx;

/// Tables of nodes that stand still now and then that a point of the time series looks at.
const TABLES_LOOKED_AT: usize = 64;
/// Nodes have returned to normal when they send at most so many times what they sent before, in percent, and have this share of the
/// table entries again.
const NORMAL_SENT_PERCENT: f64 = 150.0;
const NORMAL_ENTRIES_PERCENT: f64 = 95.0;

/// Who stands still now and then.
#[derive(Debug, Default)]
pub(super) struct Stalls {
    /// Everybody whom a fault ever chose.
    pub(super) nodes: BTreeSet<NodeIx>,
    /// How long they stand still and run, while the fault acts.
    acting: Option<(Duration, Duration)>,
    /// Counts faults: turns of an earlier one end with it.
    fault: u32,
    begun: Option<Time>,
    ended: Option<Time>,
    /// Mean table entries of these nodes when the first fault began.
    entries_before: f64,
}

impl Runner {
    /// Nodes that chance chooses begin to stand still and run by turns.
    pub(super) fn stalls_begin(&mut self, share: Ppm, blocked: Duration, runs: Duration) {
        self.stalls.fault += 1;
        self.stalls.acting = Some((blocked, runs));
        let (fault, now) = (self.stalls.fault, self.world.now());
        let mut up = self.up();
        self.fate.shuffle(&mut up);
        let count = up.len() as u64 * u64::from(share) / u64::from(PPM_ONE);
        for node in up.into_iter().take(usize::try_from(count).unwrap_or(usize::MAX)) {
            self.stalls.nodes.insert(node);
            let at = now + self.fate.within(blocked + runs);
            self.at(at, Task::Stall { node, fault });
        }
        if self.stalls.begun.is_none() {
            self.stalls.begun = Some(now);
            self.stalls.entries_before = self.table_entries_stalled().unwrap_or(0.0);
        }
    }

    pub(super) fn stall(&mut self, node: NodeIx, fault: u32) {
        let Some((blocked, _)) = self.stalls.acting.filter(|_| fault == self.stalls.fault) else {
            return;
        };
        self.world.stall(node);
        let at = self.world.now() + blocked;
        self.at(at, Task::Resume { node, fault });
    }

    pub(super) fn resume(&mut self, node: NodeIx, fault: u32) {
        let Some((_, runs)) = self.stalls.acting.filter(|_| fault == self.stalls.fault) else {
            return;
        };
        self.world.resume(node);
        let at = self.world.now() + runs;
        self.at(at, Task::Stall { node, fault });
    }

    /// Everybody runs again, for good.
    pub(super) fn stalls_end(&mut self) {
        if self.stalls.acting.take().is_some() {
            self.world.resume_all();
            self.stalls.ended = Some(self.world.now());
        }
    }

    /// Mean table entries of those that stand still now and then.
    pub(super) fn table_entries_stalled(&self) -> Option<f64> {
        let every = self.stalls.nodes.len().div_ceil(TABLES_LOOKED_AT).max(1);
        let nodes = self.stalls.nodes.iter().step_by(every);
        let tables = nodes.filter_map(|ix| self.world.nodes()[*ix].overlay.as_ref());
        let sizes: Vec<_> = tables.map(|overlay| overlay.table().len() as u64).collect();
        (!sizes.is_empty()).then(|| ratio(sizes.iter().sum(), sizes.len() as u64))
    }

    /// What the stalls did to those who stood still.
    pub(super) fn stall_report(&self) -> StallReport {
        let Stalls { nodes, begun: Some(begun), ended, entries_before, .. } = &self.stalls else {
            return StallReport::default();
        };
        let seconds = |time: Time| float(micros(time.saturating_since(EPOCH))) / 1e6;
        let (begun, ended) = (seconds(*begun), ended.map_or(f64::INFINITY, seconds));
        let points = self.series.finish().points;
        let (before, since): (Vec<&Point>, Vec<_>) =
            points.iter().partition(|point| point.at_seconds < begun);
        let asked = before.iter().filter(|point| point.recall.is_some());
        let sent: Vec<_> = asked.filter_map(|point| point.messages_per_second).collect();
        let sent_before = sent.iter().sum::<f64>() / float(sent.len().max(1) as u64);
        let is_normal = |point: &&&Point| {
            let entries = point
                .table_entries_stalled
                .is_some_and(|entries| entries * 100.0 >= entries_before * NORMAL_ENTRIES_PERCENT);
            let sent = point.messages_per_second;
            entries && sent.is_some_and(|sent| sent * 100.0 <= sent_before * NORMAL_SENT_PERCENT)
        };
        let normal = since.iter().filter(|point| point.at_seconds >= ended).find(is_normal);
        let entries = since.iter().filter_map(|point| point.table_entries_stalled);
        let sent = since.iter().filter_map(|point| point.messages_per_second);
        let entries_least = entries.fold(*entries_before, f64::min);
        let stats = |ix: &NodeIx| Some(self.world.nodes()[*ix].overlay.as_ref()?.stats());
        StallReport {
            nodes: nodes.len() as u64,
            entries_before: *entries_before,
            entries_least,
            entries_kept: if *entries_before > 0.0 { entries_least / entries_before } else { 1.0 },
            messages_before: sent_before,
            messages_most: sent.fold(0.0, f64::max),
            normal_after_seconds: normal.map(|point| point.at_seconds - ended),
            mass_failures: nodes.iter().filter_map(stats).map(|stats| stats.mass_failures).sum(),
        }
    }
}
