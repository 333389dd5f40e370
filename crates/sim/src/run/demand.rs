//! What must hold at the end, and the report.

use std::time::Duration;

use comity_capability::keys::group_keys;
use comity_core::Time;
use comity_overlay::{PLACEMENTS, ShardId};

use super::{COMMAND_MAX, Pending, Runner};
use crate::check::Rule;
use crate::publisher::key_of;
use crate::report::Report;
use crate::scenario::{EPOCH, Fault};

/// Places looked at to see where items are stored.
const PLACES_CHECKED_MAX: usize = 120;

impl Runner {
    /// Looks who holds what was published, of those who should.
    pub(super) fn check_stored(&mut self) {
        let mut places = Vec::new();
        for (ix, publisher) in
            self.register.publishers.iter().filter(|(_, publisher)| publisher.published)
        {
            for spec in &publisher.specs {
                let key = key_of(&self.world.nodes()[*ix], spec);
                let groups = group_keys(&spec.declare())
                    .into_iter()
                    .map(|labelled| ShardId::whole(labelled.key));
                places.extend(
                    groups.flat_map(|shard| (0..PLACEMENTS).map(move |index| (key, shard, index))),
                );
            }
        }
        self.curiosity.shuffle(&mut places);
        for (key, shard, index) in places.into_iter().take(PLACES_CHECKED_MAX) {
            for ix in self.true_nearest(&shard.position(index), |_| true) {
                let node = &self.world.nodes()[ix];
                let Some(overlay) = node.overlay.as_ref().filter(|_| node.is_honest()) else {
                    continue;
                };
                self.stored.0 += 1;
                self.stored.1 += u64::from(
                    overlay.custody().get(&key).is_some_and(|held| held.shards.contains(&shard)),
                );
            }
        }
    }

    /// Waits for what is still running, and compares everything with what was promised and demanded.
    pub(super) fn finish(&mut self, end: Time) {
        let limit = end + COMMAND_MAX;
        let mut until = end;
        while !self.pending.is_empty() && until < limit {
            until += Duration::from_secs(10);
            self.run_until(until);
        }
        let now = self.world.now();
        for Pending { node, since, what } in self
            .pending
            .values()
            .filter(|pending| now.saturating_since(pending.since) >= COMMAND_MAX)
        {
            self.world.violations.add(
                now,
                Some(*node),
                Rule::NeverDone,
                format!("since {since}: {what:?}"),
            );
        }
        self.world.check_nodes();
        self.check_faults_fired();
        self.check_demands();
    }

    fn check_faults_fired(&mut self) {
        let counters = *self.world.counters();
        let mut promised = vec![
            ("loss", self.scenario.link.loss > 0, counters.lost),
            ("duplicate", self.scenario.link.duplicate > 0, counters.duplicated),
            ("reorder", self.scenario.link.reorder > 0, counters.reordered),
            ("misbehaviour", self.scenario.adversaries > 0, counters.misbehaved),
        ];
        for fault in &self.scenario.faults {
            promised.extend(match fault {
                Fault::Kill { percent, .. } => vec![("kill", *percent > 0, counters.crashes)],
                Fault::Partition { .. } => vec![("partition", true, counters.cut)],
                Fault::RestartAll { .. } => vec![
                    ("crash of all", true, counters.crashes),
                    ("restart of all", true, counters.restarts),
                ],
                Fault::Churn { .. } => {
                    vec![("end of a session", true, counters.crashes + counters.departures)]
                }
                Fault::Links { loss, duplicate, reorder } => vec![
                    ("loss", *loss > 0, counters.lost),
                    ("duplicate", *duplicate > 0, counters.duplicated),
                    ("reorder", *reorder > 0, counters.reordered),
                ],
            });
        }
        for (what, is_promised, count) in promised {
            if is_promised && count == 0 {
                self.world.violations.add(
                    self.world.now(),
                    None,
                    Rule::FaultNeverFired,
                    what.to_owned(),
                );
            }
        }
    }

    fn check_demands(&mut self) {
        let demands = self.scenario.demands;
        let mut failed = Vec::new();
        let mut least = |what: &str, demanded: Option<f64>, got: f64| {
            if let Some(demanded) = demanded.filter(|demanded| got < *demanded) {
                failed.push(format!("{what}: {got:.4}, demanded at least {demanded:.4}"));
            }
        };
        for phase in &self.phases {
            let recall = match phase.label {
                "before" => demands.recall_before,
                "during" => demands.recall_during,
                _ => demands.recall_after,
            };
            least(&format!("recall {}", phase.label), recall, phase.recall());
        }
        if let (Some(before), Some(last)) = (self.phases.first(), self.phases.last()) {
            least("peer searches that succeed", demands.finds_after, last.finds.success());
            least("true 20 found", demands.found_of_true_20, before.nearest_found());
            least("true 20 found at the end", demands.found_of_true_20_after, last.nearest_found());
            let asked = self.scenario.measure;
            for (what, wanted, ended) in [
                ("queries", asked.queries, before.queries.ended()),
                ("finds", asked.finds, before.finds.ended()),
            ] {
                if wanted > 0 && ended == 0 {
                    failed.push(format!("none of {wanted} {what} was asked and answered"));
                }
            }
            let hops = before.finds.hops_mean();
            if demands.find_hops_mean_max.is_some_and(|max| hops > max) {
                failed.push(format!("mean hops of peer searches: {hops:.2}"));
            }
            let p99 = before.queries.latency(99);
            if demands.query_p99_max.is_some_and(|max| p99 > max) {
                failed.push(format!("99th percentile of query latency: {p99:?}"));
            }
        }
        if let Some(demanded) = demands.stored_on_true_20 {
            let got = if self.stored.0 == 0 { 1.0 } else { self.report().stored_on_true_20() };
            if got < demanded {
                failed.push(format!(
                    "stored on the true 20: {got:.4}, demanded at least {demanded:.4}"
                ));
            }
        }
        for detail in failed {
            self.world.violations.add(self.world.now(), None, Rule::Demand, detail);
        }
    }

    pub(super) fn report(&self) -> Report {
        let nodes = self.world.nodes();
        let mut entries = (0, 0);
        let up: std::collections::BTreeMap<_, _> =
            nodes.iter().map(|node| (node.contact.agent, node.is_up())).collect();
        for overlay in nodes.iter().filter_map(|node| node.overlay.as_ref()) {
            for entry in overlay.table().entries() {
                entries.0 += 1;
                entries.1 += u64::from(!up.get(&entry.contact.agent).copied().unwrap_or(false));
            }
        }
        Report {
            scenario: self.scenario.name.clone(),
            seed: self.scenario.seed,
            nodes: self.scenario.nodes,
            repeat: self.scenario.repeat(),
            virtual_time: self.world.now().saturating_since(EPOCH),
            trace: self.world.trace_hash(),
            counters: *self.world.counters(),
            phases: self.phases.clone(),
            joins: self.joins.clone(),
            publications: self.publications.clone(),
            stored: self.stored,
            entries,
            peak_state_bytes: self.peak_state_bytes,
            signatures: self.world.services.checked,
            violations: self.world.violations.kept().to_vec(),
            violations_total: self.world.violations.total(),
        }
    }
}
