//! What must hold at the end, and the report.

use std::time::Duration;

use comity_capability::keys::group_keys;
use comity_core::Time;
use comity_overlay::PLACEMENTS;

use super::{COMMAND_MAX, Pending, Runner};
use crate::check::Rule;
use crate::publisher::key_of;
use crate::random::{Random, micros};
use crate::report::{Defence, Lifecycle, PhaseBuilder, PhaseReport, REPORT_FORMAT, Report, float};
use crate::scenario::{EPOCH, Fault, Misbehaviour};

/// Places looked at to see where items are stored.
const PLACES_CHECKED_MAX: usize = 120;

impl Runner {
    /// Looks who holds what was published, of those who should.
    pub(super) fn check_stored(&mut self) {
        let mut random = Random::new(self.scenario.seed, "stored");
        let published = self.register.publishers.iter().filter(|(_, known)| known.published);
        let mut publishers: Vec<_> = published.map(|(ix, _)| *ix).collect();
        random.shuffle(&mut publishers);
        publishers.truncate(PLACES_CHECKED_MAX);
        let mut places = Vec::new();
        for ix in publishers {
            let node = &self.world.nodes()[ix];
            let (Some(overlay), Some(publisher)) =
                (&node.overlay, self.register.publishers.get(&ix))
            else {
                continue;
            };
            for spec in &publisher.specs {
                let key = key_of(node, spec);
                let groups = group_keys(&spec.declare()).into_iter();
                let shards = groups.map(|labelled| overlay.own_shard(labelled.key));
                places.extend(
                    shards.flat_map(|shard| (0..PLACEMENTS).map(move |index| (key, shard, index))),
                );
            }
        }
        random.shuffle(&mut places);
        for (key, shard, index) in places.into_iter().take(PLACES_CHECKED_MAX) {
            let custodians = self.true_nearest(&shard.position(index), |_| true);
            for ix in custodians.into_iter().take(self.scenario.config.holders) {
                let node = &self.world.nodes()[ix];
                let Some(overlay) = node.overlay.as_ref().filter(|_| node.is_honest()) else {
                    continue;
                };
                let holds =
                    overlay.custody().get(&key).is_some_and(|held| held.shards.contains(&shard));
                self.stored.add(u64::from(holds), 1);
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
        let stuck: Vec<_> = self
            .never_done(COMMAND_MAX)
            .into_iter()
            .map(|Pending { node, since, what }| (*node, format!("since {since}: {what:?}")))
            .collect();
        for (node, detail) in stuck {
            self.world.violations.add(now, Some(node), Rule::NeverDone, detail);
        }
        self.world.check_nodes();
        self.check_faults_fired();
        self.check_demands();
    }

    /// Whether somebody was to bend messages, or to publish what is not so.
    fn is_promised(&self, messages: bool) -> bool {
        self.scenario.adversaries.iter().any(|group| match group.kind {
            Misbehaviour::Mixed => true,
            Misbehaviour::Flood | Misbehaviour::Stuff | Misbehaviour::Lie | Misbehaviour::Clock => {
                !messages
            }
            Misbehaviour::Drop
            | Misbehaviour::Misroute
            | Misbehaviour::Forge
            | Misbehaviour::Omit
            | Misbehaviour::Stale
            | Misbehaviour::Eclipse
            | Misbehaviour::Split => messages,
        })
    }

    fn check_faults_fired(&mut self) {
        let counters = *self.world.counters();
        let mut promised = vec![
            ("loss", self.scenario.link.loss > 0, counters.lost),
            ("duplicate", self.scenario.link.duplicate > 0, counters.duplicated),
            ("reorder", self.scenario.link.reorder > 0, counters.reordered),
            ("misbehaviour", self.is_promised(true), counters.misbehaved),
            ("false registration", self.is_promised(false), self.attack.registrations),
        ];
        for fault in &self.scenario.faults {
            promised.extend(match fault {
                Fault::Kill { share, .. } => vec![("kill", *share > 0, counters.crashes)],
                Fault::Partition { .. } => vec![("partition", true, counters.cut)],
                Fault::RestartAll { .. } => vec![
                    ("crash of all", true, counters.crashes),
                    ("restart of all", true, counters.restarts),
                ],
                Fault::Churn { .. } => {
                    vec![("end of a session", true, counters.crashes + counters.departures)]
                }
                Fault::Links { loss, duplicate, reorder, .. } => vec![
                    ("loss", *loss > 0, counters.lost),
                    ("duplicate", *duplicate > 0, counters.duplicated),
                    ("reorder", *reorder > 0, counters.reordered),
                ],
                Fault::Stall { share, .. } => vec![("stall", *share > 0, counters.stalls)],
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
        let phases: Vec<_> = self.phases.iter().map(PhaseBuilder::finish).collect();
        let mut failed = Failed::default();
        self.demand_recall(&phases, &mut failed);
        self.demand_costs(&phases, &mut failed);
        self.demand_times(&mut failed);
        self.demand_stalls(&phases, &mut failed);
        if let Some(before) = phases.first() {
            let asked = self.scenario.measure;
            for (what, wanted, ended) in [
                ("queries", asked.queries, before.queries.ended),
                ("queries in free text", asked.texts, before.texts.ended),
                ("questions for a live peer", asked.peers, before.peers.ended),
                ("finds", asked.finds, before.finds.ended),
            ] {
                if wanted > 0 && ended == 0 {
                    failed.0.push(format!("none of {wanted} {what} was asked and answered"));
                }
            }
        }
        for detail in failed.0 {
            self.world.violations.add(self.world.now(), None, Rule::Demand, detail);
        }
    }

    fn demand_recall(&self, phases: &[PhaseReport], failed: &mut Failed) {
        let demands = self.scenario.demands;
        for phase in phases {
            let recall = match phase.label.as_str() {
                "before" => demands.recall_before,
                "during" => demands.recall_during,
                _ => demands.recall_after,
            };
            let name = |what: &str| format!("{what} {}", phase.label);
            failed.least(&name("recall"), recall, phase.recall());
            failed.least(&name("recall@5"), demands.recall_at_5, phase.recall_at_5.share());
            failed.least(
                &name("recall@5 of free text"),
                demands.text_recall_at_5,
                phase.text_recall_at_5.share(),
            );
            failed.least(&name("live peers"), demands.peers_live, phase.peers.success());
        }
        if let (Some(before), Some(last)) = (phases.first(), phases.last()) {
            failed.least("peer searches that succeed", demands.finds_after, last.finds.success());
            failed.least("true 20 found", demands.found_of_true_20, before.nearest_found());
            let after = demands.found_of_true_20_after;
            failed.least("true 20 found at the end", after, last.nearest_found());
        }
        failed.least("stored on the true 20", demands.stored_on_true_20, self.stored.share());
        for point in self.series.finish().points {
            if let Some(recall) = point.recall {
                let what = format!("recall at second {:.0}", point.at_seconds);
                failed.least(&what, demands.recall_always, recall);
            }
        }
    }

    fn demand_costs(&self, phases: &[PhaseReport], failed: &mut Failed) {
        let demands = self.scenario.demands;
        let Some(before) = phases.first() else { return };
        let hops = demands.find_hops_mean_max;
        failed.most("mean hops of peer searches", hops, before.finds.hops.mean);
        for (what, max, got) in [
            (
                "99th percentile of query latency",
                demands.query_p99_max,
                before.queries.latency_ms.p99,
            ),
            ("median time to a live peer", demands.peer_p50_max, before.peers.latency_ms.p50),
            (
                "99th percentile of the time to a live peer",
                demands.peer_p99_max,
                before.peers.latency_ms.p99,
            ),
        ] {
            failed.most(&format!("{what} in ms"), max.map(|max| max.as_secs_f64() * 1e3), got);
        }
        failed.most("bytes of a query", demands.query_bytes_max, before.queries.bytes.mean);
        failed.most(
            "bytes of a query in free text",
            demands.text_bytes_max,
            before.texts.bytes.mean,
        );
        for phase in phases {
            let what = format!("bytes sent a node and second, {}", phase.label);
            failed.most(&what, demands.sent_per_second_max, phase.sent_per_second.mean);
        }
        let items = self.gauges.custody.items;
        if items.mean > 0.0 {
            let over = items.max / items.mean;
            failed.most("fullest custodian over the mean", demands.custody_over_mean_max, over);
        }
    }

    fn demand_times(&self, failed: &mut Failed) {
        let demands = self.scenario.demands;
        let times = self.lifecycle();
        for (what, max, wait, got) in [
            ("found", demands.found_p95_max, times.found, times.found.seconds.p95),
            (
                "gone after retiring",
                demands.retired_p95_max,
                times.retired,
                times.retired.seconds.p95,
            ),
            ("gone after crashing", demands.crashed_max, times.crashed, times.crashed.seconds.max),
        ] {
            let Some(max) = max else { continue };
            failed.most(&format!("seconds until {what}"), Some(max.as_secs_f64()), got);
            // One in twenty may take longer than the 95th percentile.
            if wait.never * 20 > wait.seconds.count + wait.never {
                failed.0.push(format!("{} were never {what}", wait.never));
            }
        }
    }

    fn demand_stalls(&self, phases: &[PhaseReport], failed: &mut Failed) {
        let demands = self.scenario.demands;
        for phase in phases.iter().filter(|phase| phase.label == "during") {
            let recall = phase.recall_stalled.share();
            failed.least("recall of nodes that stand still", demands.recall_stalled, recall);
        }
        let stall = self.stall_report();
        if stall.entries_before > 0.0 {
            let kept = demands.stalled_entries_kept;
            failed.least("table entries kept by them", kept, stall.entries_kept);
        }
        if let Some(max) = demands.normal_after_max {
            let after = stall.normal_after_seconds.unwrap_or(f64::INFINITY);
            failed.most("seconds until they are as before", Some(max.as_secs_f64()), after);
        }
    }

    pub(super) fn report(&self) -> Report {
        Report {
            format: REPORT_FORMAT,
            scenario: self.scenario.clone(),
            repeat: self.scenario.repeat(),
            virtual_seconds: float(micros(self.world.now().saturating_since(EPOCH))) / 1e6,
            trace: self.world.trace_hash().to_string(),
            counters: *self.world.counters(),
            phases: self.phases.iter().map(PhaseBuilder::finish).collect(),
            series: self.series.finish(),
            marks: self.marks.clone(),
            joins: self.joins.finish(),
            publications: self.publications.finish(),
            renewals: self.renewals.finish(),
            stored: self.stored,
            entries: self.entries(),
            custody: self.gauges.custody,
            estimates: self.gauges.estimates.spread(1e3),
            lifecycle: self.lifecycle(),
            stall: self.stall_report(),
            defence: self.defence(),
            attack: self.attack,
            state: self.gauges.state(),
            peak_state_bytes: self.gauges.peak_state_bytes,
            signatures: self.world.services.checked,
            violations: self.world.violations.kept().to_vec(),
            violations_total: self.world.violations.total(),
            host: None,
        }
    }

    /// What the nodes that run did since they started.
    fn defence(&self) -> Defence {
        let mut all = Defence::default();
        for node in self.world.nodes().iter().filter(|node| node.is_honest()) {
            let Some(overlay) = &node.overlay else { continue };
            let stats = overlay.stats();
            all.audits += stats.audits;
            all.omissions += stats.omissions;
            all.quarantined += stats.quarantined;
            let held = overlay.quarantined().filter_map(|agent| self.world.find(agent));
            let honest = held.filter(|ix| self.world.nodes()[*ix].is_honest());
            all.quarantined_honest += honest.count() as u64;
        }
        all
    }

    fn lifecycle(&self) -> Lifecycle {
        self.watches.lifecycle()
    }
}

/// Demands that are not met.
#[derive(Debug, Default)]
struct Failed(Vec<String>);

impl Failed {
    fn least(&mut self, what: &str, demanded: Option<f64>, got: f64) {
        if let Some(demanded) = demanded.filter(|demanded| got < *demanded) {
            self.0.push(format!("{what}: {got:.4}, demanded at least {demanded:.4}"));
        }
    }

    fn most(&mut self, what: &str, demanded: Option<f64>, got: f64) {
        if let Some(demanded) = demanded.filter(|demanded| got > *demanded) {
            self.0.push(format!("{what}: {got:.4}, demanded at most {demanded:.4}"));
        }
    }
}
