//! Asking, and judging what comes back.

use std::collections::BTreeSet;

use comity_core::{AgentId, OverlayId};
use comity_overlay::{
    Command, FoundDigest, ItemKey, K, LookupReport, Outcome, PeerQuery, PeerReport, QueryReport,
    VerifiedItem,
};

use super::{Runner, What};
use crate::check::Rule;
use crate::publisher::key_of;
use crate::report::{Hits, PhaseBuilder, SampleBuilder};
use crate::workload;
use crate::world::NodeIx;

/// The kinds of questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// Who can do this?
    Query,
    /// Where is that agent?
    Find,
    /// Who is nearest to that place?
    Nearest,
}

/// A question that was asked, with its answer.
#[derive(Debug)]
pub(super) enum Asked {
    Query { question: workload::Question, gold: BTreeSet<ItemKey> },
    Find { agent: AgentId },
    Nearest { target: OverlayId },
}

impl Asked {
    pub(super) const fn sample<'a>(&self, phase: &'a mut PhaseBuilder) -> &'a mut SampleBuilder {
        match self {
            Self::Query { .. } => &mut phase.queries,
            Self::Find { .. } => &mut phase.finds,
            Self::Nearest { .. } => &mut phase.lookups,
        }
    }
}

impl Runner {
    pub(super) fn ask(&mut self, phase: usize, kind: Question) {
        let Some(asker) = self.draw_asker() else { return };
        let (asked, command) = match kind {
            Question::Query => {
                let Some(publisher) = self.draw_publisher(asker) else { return };
                let specs = &self.register.publishers[&publisher].specs;
                let Some(spec) = self.curiosity.pick(specs).cloned() else { return };
                let question = self.scenario.workload.draw_question(&mut self.curiosity, &spec);
                let gold = self.gold(&question, asker);
                let command = Command::Query(question.command());
                (Asked::Query { question, gold }, command)
            }
            Question::Find => {
                let Some(publisher) = self.draw_publisher(asker) else { return };
                let contact = &self.world.nodes()[publisher].contact;
                let (agent, overlay_id) = (contact.agent, contact.overlay_id);
                (Asked::Find { agent }, Command::FindPeer(PeerQuery::Agent { agent, overlay_id }))
            }
            Question::Nearest => {
                let target = OverlayId(self.curiosity.bytes());
                (Asked::Nearest { target }, Command::Lookup { target })
            }
        };
        asked.sample(&mut self.phases[phase]).started += 1;
        self.command(asker, command, What::Ask { phase, asked });
    }

    fn draw_asker(&mut self) -> Option<NodeIx> {
        let nodes = self.world.nodes();
        let up: Vec<_> = self.askers.iter().copied().filter(|ix| nodes[*ix].is_up()).collect();
        self.curiosity.pick(&up).copied()
    }

    /// A publisher whose items can be found by `asker`.
    fn draw_publisher(&mut self, asker: NodeIx) -> Option<NodeIx> {
        let there: Vec<_> = self
            .register
            .publishers
            .keys()
            .copied()
            .filter(|ix| self.is_findable(*ix, asker))
            .collect();
        self.curiosity.pick(&there).copied()
    }

    fn is_findable(&self, ix: NodeIx, asker: NodeIx) -> bool {
        let (node, asker) = (&self.world.nodes()[ix], &self.world.nodes()[asker]);
        let publisher = &self.register.publishers[&ix];
        let reachable = !self.world.is_partitioned() || node.side == asker.side;
        node.is_up() && publisher.published && !publisher.leaving && reachable
    }

    /// All right answers that are there now.
    fn gold(&self, question: &workload::Question, asker: NodeIx) -> BTreeSet<ItemKey> {
        let findable =
            self.register.publishers.iter().filter(|(ix, _)| self.is_findable(**ix, asker));
        findable
            .flat_map(|(ix, publisher)| publisher.specs.iter().map(|spec| (*ix, spec)))
            .filter(|(_, spec)| spec.answers(question))
            .map(|(ix, spec)| key_of(&self.world.nodes()[ix], spec))
            .collect()
    }

    pub(super) fn judge(&mut self, phase: usize, node: NodeIx, asked: Asked, outcome: Outcome) {
        let now = self.world.now();
        match (asked, outcome) {
            (Asked::Query { question, gold }, Outcome::Answers(report)) => {
                self.judge_answers(phase, node, &question, gold, &report)
            }
            (Asked::Find { agent }, Outcome::Peers(report)) => {
                self.judge_peers(phase, node, &agent, &report)
            }
            (Asked::Nearest { target }, Outcome::Closest(report)) => {
                self.judge_nearest(phase, node, &target, &report)
            }
            (asked, outcome) => {
                let detail = format!("{asked:?} ended as {outcome:?}");
                self.world.violations.add(now, Some(node), Rule::Demand, detail);
            }
        }
    }

    fn judge_answers(
        &mut self,
        phase: usize,
        node: NodeIx,
        question: &workload::Question,
        mut gold: BTreeSet<ItemKey>,
        report: &QueryReport,
    ) {
        let shown: BTreeSet<_> = report.matches.iter().map(|found| found.item.key()).collect();
        if shown.len() != report.matches.len() {
            let detail = format!("{} matches, {} different", report.matches.len(), shown.len());
            self.world.violations.add(self.world.now(), Some(node), Rule::ShownTwice, detail);
        }
        for FoundDigest { item, beat, .. } in report.matches.iter().chain(&report.near) {
            self.check_item(node, item);
            beat.iter().for_each(|beat| self.check_item(node, beat));
        }
        for found in &report.matches {
            self.check_match(phase, node, question, &found.item);
        }
        // What went away while the question was asked is not owed.
        let world = &self.world;
        let register = &self.register;
        gold.retain(|key| register.spec(key).is_some_and(|(ix, _)| world.nodes()[*ix].is_up()));
        let found = gold.intersection(&shown).count();
        let recall = Hits { found: found as u64, wanted: gold.len() as u64 };
        let report_phase = &mut self.phases[phase];
        report_phase.done.recall.add(recall.found, recall.wanted);
        report_phase.queries.add(report.cost, found == gold.len());
        self.series.query(self.world.now(), report.cost, found == gold.len(), recall, recall);
    }

    fn check_match(
        &mut self,
        phase: usize,
        node: NodeIx,
        question: &workload::Question,
        item: &VerifiedItem,
    ) {
        let now = self.world.now();
        let Some((publisher, spec)) = self.register.spec(&item.key()) else {
            return self.world.violations.add(
                now,
                Some(node),
                Rule::Forged,
                format!("{:?} was never declared", item.key()),
            );
        };
        if !spec.answers(question) {
            let detail = format!("{spec:?} does not answer {question:?}");
            self.world.violations.add(now, Some(node), Rule::WrongMatch, detail);
        }
        let retired =
            self.register.publishers.get(publisher).is_some_and(|publisher| publisher.retired);
        let gone = !self.world.nodes()[*publisher].is_up();
        let shown = self.phases[phase].shown();
        shown.matches += 1;
        shown.retired += u64::from(retired);
        shown.gone += u64::from(gone && !retired);
        if gone || retired {
            self.series.gone_shown(now);
        }
    }

    fn check_item(&mut self, node: NodeIx, item: &VerifiedItem) {
        let now = self.world.now();
        if !self.register.knows(&item.bytes) {
            self.world.violations.add(
                now,
                Some(node),
                Rule::Forged,
                format!("{:?} was never sealed", item.key()),
            );
        }
        if item.expires <= now {
            self.world.violations.add(
                now,
                Some(node),
                Rule::ExpiredShown,
                format!("{:?} expired at {}", item.key(), item.expires),
            );
        }
    }

    fn judge_peers(&mut self, phase: usize, node: NodeIx, agent: &AgentId, report: &PeerReport) {
        for record in &report.records {
            self.check_item(node, record);
        }
        let found = report.records.iter().any(|record| record.signer == *agent);
        self.phases[phase].finds.add(report.cost, found);
        self.series.find(self.world.now(), found);
    }

    fn judge_nearest(
        &mut self,
        phase: usize,
        node: NodeIx,
        target: &OverlayId,
        report: &LookupReport,
    ) {
        let partitioned = self.world.is_partitioned();
        let side = self.world.nodes()[node].side;
        let reachable =
            |ix: NodeIx| ix != node && (!partitioned || self.world.nodes()[ix].side == side);
        let mut nearest = self.true_nearest(target, reachable);
        // Nobody is to blame for not finding who does not answer.
        nearest.retain(|ix| self.world.nodes()[*ix].is_honest());
        let found: BTreeSet<_> = report.closest.iter().map(|contact| contact.agent).collect();
        let hits = nearest
            .iter()
            .filter(|ix| found.contains(&self.world.nodes()[**ix].contact.agent))
            .count();
        let report_phase = &mut self.phases[phase];
        report_phase.done.nearest.add(hits as u64, nearest.len() as u64);
        report_phase.lookups.add(report.cost, hits == nearest.len());
    }

    /// The [`K`] nearest running nodes to `target` of those that `which` accepts.
    pub(super) fn true_nearest(
        &self,
        target: &OverlayId,
        which: impl Fn(NodeIx) -> bool,
    ) -> Vec<NodeIx> {
        self.world.nearest(target, K, |ix, node| node.is_up() && which(ix))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use comity_overlay::{Content, Verified, Verifier};

    use super::*;
    use crate::scenario::{EPOCH, Scenario};

    /// A runner with publishers, and a genuine digest of the first.
    fn runner_with_digest() -> (Runner, VerifiedItem) {
        let mut runner = Runner::new(Scenario::healthy(10, 1));
        runner.plan(&mut |_| ());
        let ix = *runner.register.publishers.keys().next().unwrap();
        let node = &runner.world.nodes()[ix];
        let (life, beat) = (runner.scenario.digest_life, runner.scenario.beat_life);
        let items = runner.register.seal(ix, node, EPOCH, life, beat);
        let item = runner.world.services.verify(EPOCH, &items[0].item).unwrap();
        assert!(matches!(item.content, Content::Digest(_)));
        (runner, item)
    }

    fn rules(runner: &Runner) -> Vec<Rule> {
        runner.world.violations.kept().iter().map(|violation| violation.rule).collect()
    }

    #[test]
    fn right_matches_pass_and_wrong_ones_are_seen() {
        let (mut runner, item) = runner_with_digest();
        let (_, spec) = runner.register.spec(&item.key()).unwrap().clone();
        let right = workload::Question { class: Some(spec.class), ..workload::Question::default() };
        runner.check_match(0, 0, &right, &item);
        runner.check_item(0, &item);
        assert_eq!(rules(&runner), []);
        let wrong = workload::Question { class: Some(spec.class + 1), ..right };
        runner.check_match(0, 0, &wrong, &item);
        assert_eq!(rules(&runner), [Rule::WrongMatch]);
    }

    #[test]
    fn forged_and_expired_items_are_seen() {
        let (mut runner, item) = runner_with_digest();
        let mut bytes = item.bytes.to_vec();
        bytes[100] ^= 1;
        let forged = VerifiedItem::from(Verified { bytes: Arc::from(bytes), ..(*item).clone() });
        runner.check_item(0, &forged);
        let expired = VerifiedItem::from(Verified { expires: EPOCH, ..(*item).clone() });
        runner.check_item(0, &expired);
        assert_eq!(rules(&runner), [Rule::Forged, Rule::ExpiredShown]);
    }
}
