//! Judging what comes back, on what is known to be true.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use comity_capability::matching::evaluate;
use comity_core::{AgentId, OverlayId};
use comity_overlay::{
    FoundDigest, ItemKey, K, LookupReport, PeerReport, QueryReport, VerifiedItem, directory,
};

use super::ask::Query;
use super::{Runner, Task};
use crate::check::Rule;
use crate::publisher::{SpecIx, Truth};
use crate::report::Hits;
use crate::workload::{self, ANSWERS_MAX};
use crate::world::NodeIx;

/// Best answers that recall@5 looks at.
const BEST: usize = 5;
/// Time between an answer and the same question by the same asker.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How good the answer to one query was.
#[derive(Clone, Copy, Debug, Default)]
struct Marks {
    recall: Hits,
    kept: Hits,
    at_5: Hits,
}

impl Marks {
    const fn is_full(self) -> bool {
        self.recall.found >= self.recall.wanted
    }
}

impl Runner {
    pub(super) fn judge_query(
        &mut self,
        phase: usize,
        node: NodeIx,
        query: &Query,
        report: &QueryReport,
    ) {
        let marks = self.mark_answers(phase, node, query, report);
        let now = self.world.now();
        let builder = &mut self.phases[phase];
        builder.done.recall.add(marks.recall.found, marks.recall.wanted);
        builder.done.recall_kept.add(marks.kept.found, marks.kept.wanted);
        if self.stalls.nodes.contains(&node) {
            builder.done.recall_stalled.add(marks.recall.found, marks.recall.wanted);
        } else if !self.stalls.nodes.is_empty() {
            builder.done.recall_running.add(marks.recall.found, marks.recall.wanted);
        }
        builder.done.recall_at_5.add(marks.at_5.found, marks.at_5.wanted);
        builder.queries.add(report.cost, marks.is_full());
        self.series.query(now, report.cost, marks.is_full(), marks.recall, marks.at_5);
    }

    pub(super) fn judge_text(
        &mut self,
        phase: usize,
        node: NodeIx,
        query: &Query,
        report: &QueryReport,
    ) {
        let marks = self.mark_answers(phase, node, query, report);
        let now = self.world.now();
        let builder = &mut self.phases[phase];
        builder.done.text_recall.add(marks.recall.found, marks.recall.wanted);
        builder.done.text_recall_at_5.add(marks.at_5.found, marks.at_5.wanted);
        builder.texts.add(report.cost, marks.is_full());
        self.series.text(now, marks.at_5);
    }

    /// The best of those that were tried and are what they say is the peer.
    pub(super) fn judge_peer(
        &mut self,
        phase: usize,
        node: NodeIx,
        query: &Query,
        again: bool,
        report: &QueryReport,
    ) {
        self.mark_answers(phase, node, query, report);
        let found = query.hunt.peer;
        // Nothing to find is no failure.
        let right = found.map_or(query.gold.is_empty(), |at| self.is_answer(at, &query.question));
        let builder = &mut self.phases[phase];
        let sample = if again { &mut builder.peers_warm } else { &mut builder.peers };
        sample.add(report.cost, right);
        if !again {
            let at = self.world.now() + query.hunt.waited + AGAIN_AFTER;
            let question = query.question.clone();
            self.at(at, Task::AskAgain { phase, asker: node, question: Box::new(question) });
        }
    }

    fn is_answer(&self, at: SpecIx, question: &workload::Question) -> bool {
        self.register.declared(at).is_some_and(|declared| {
            declared.spec.answers(question)
                && self
                    .register
                    .publishers
                    .get(&declared.node)
                    .is_some_and(|publisher| publisher.truth == Truth::Honest)
        })
    }

    /// Checks everything that was shown, and counts the right answers in it.
    fn mark_answers(
        &mut self,
        phase: usize,
        node: NodeIx,
        query: &Query,
        report: &QueryReport,
    ) -> Marks {
        let keys: BTreeSet<_> = report.matches.iter().map(|found| found.item.key()).collect();
        if keys.len() != report.matches.len() {
            let detail = format!("{} matches, {} different", report.matches.len(), keys.len());
            self.world.violations.add(self.world.now(), Some(node), Rule::ShownTwice, detail);
        }
        for FoundDigest { item, beat, .. } in report.matches.iter().chain(&report.near) {
            self.check_item(phase, node, item);
            beat.iter().for_each(|beat| self.check_item(phase, node, beat));
        }
        for found in &report.matches {
            self.check_match(phase, node, &query.question, &found.item);
        }
        let shown: BTreeSet<SpecIx> =
            keys.iter().filter_map(|key| self.register.find(key).map(|(at, _)| at)).collect();
        self.marks_of(node, query, &shown)
    }

    fn marks_of(&self, node: NodeIx, query: &Query, shown: &BTreeSet<SpecIx>) -> Marks {
        // What went away while the question was asked is not owed.
        let gold: BTreeMap<SpecIx, _> = query
            .gold
            .iter()
            .filter_map(|at| self.register.declared(*at).map(|declared| (*at, declared)))
            .filter(|(_, declared)| self.is_findable(declared.node, node))
            .map(|(at, declared)| (at, declared.spec.merit(&query.question)))
            .collect();
        let limit = if query.want == 0 { usize::from(ANSWERS_MAX) } else { query.want };
        let wanted = gold.len().min(limit);
        let found = gold.keys().filter(|at| shown.contains(at)).count().min(wanted);
        let mut merits: Vec<_> = gold.values().collect();
        merits.sort_unstable_by(|a, b| b.cmp(a));
        let best = gold.len().min(BEST);
        let good = best.checked_sub(1).and_then(|last| merits.get(last).copied());
        let hits = gold
            .iter()
            .filter(|(at, merit)| shown.contains(at) && good.is_some_and(|good| *merit >= good))
            .count()
            .min(best);
        let missed = gold.keys().filter(|at| !shown.contains(at)).copied();
        let kept = found + self.kept_by_others(node, query, missed, wanted - found);
        let count = |number: usize| number as u64;
        Marks {
            kept: Hits { found: count(found), wanted: count(kept) },
            recall: Hits { found: count(found), wanted: count(wanted) },
            at_5: Hits { found: count(hits), wanted: count(best) },
        }
    }

    /// How many of `missed` a running node other than `asker` keeps under a key of the question, up to `most`.
    fn kept_by_others(
        &self,
        asker: NodeIx,
        query: &Query,
        missed: impl Iterator<Item = SpecIx>,
        most: usize,
    ) -> usize {
        let nodes = self.world.nodes();
        let steps = query.hunt.asked.steps.iter();
        let groups: BTreeSet<_> = steps.flat_map(|step| &step.keys).collect();
        let keeps = |ix: NodeIx, key: &ItemKey| {
            let held = nodes[ix].overlay.as_ref().and_then(|overlay| overlay.custody().get(key));
            held.is_some_and(|held| held.shards.iter().any(|shard| groups.contains(&shard.group)))
        };
        let reachable =
            |ix: &NodeIx| !self.world.is_partitioned() || nodes[*ix].side == nodes[asker].side;
        let others = (0..nodes.len()).filter(|ix| *ix != asker).filter(reachable);
        missed
            .filter_map(|at| self.register.key(at, nodes))
            .filter(|key| others.clone().any(|ix| keeps(ix, key)))
            .take(most)
            .count()
    }

    fn check_match(
        &mut self,
        phase: usize,
        node: NodeIx,
        question: &workload::Question,
        item: &VerifiedItem,
    ) {
        let now = self.world.now();
        let Some((_, declared)) = self.register.find(&item.key()) else {
            self.phases[phase].shown().forged += 1;
            return self.world.violations.add(
                now,
                Some(node),
                Rule::Forged,
                format!("{:?} was never declared", item.key()),
            );
        };
        if !declared.spec.answers(&question.required()) {
            if is_open(question, item) {
                // The digest had no room for all that was declared and leaves a condition open. A node reads the record and drops it.
                return;
            }
            let detail = format!("{:?} does not answer {question:?}", declared.spec);
            self.world.violations.add(now, Some(node), Rule::WrongMatch, detail);
        }
        let publisher = declared.node;
        let Some(known) = self.register.publishers.get(&publisher) else { return };
        let newest_for = now.saturating_since(known.sealed_at);
        let stale = item.seq < known.seq && newest_for > self.scenario.beat_life;
        let (retired, lies) = (known.retired, known.truth == Truth::Lies);
        let gone = !self.world.nodes()[publisher].is_up();
        let shown = self.phases[phase].shown();
        shown.matches += 1;
        shown.retired += u64::from(retired);
        shown.gone += u64::from(gone && !retired);
        shown.stale += u64::from(stale);
        shown.lies += u64::from(lies);
        if gone || retired {
            self.series.gone_shown(now);
        }
    }

    pub(super) fn check_item(&mut self, phase: usize, node: NodeIx, item: &VerifiedItem) {
        let now = self.world.now();
        let signer = self.register.node_of(&item.signer);
        let genuine = signer.is_some_and(|ix| {
            let node = &self.world.nodes()[ix];
            self.register.is_genuine(ix, node, item)
        });
        if !genuine {
            self.phases[phase].shown().forged += 1;
            let detail = format!("{:?} was never sealed", item.key());
            self.world.violations.add(now, Some(node), Rule::Forged, detail);
        }
        if item.expires <= now {
            self.phases[phase].shown().expired += 1;
            let detail = format!("{:?} expired at {}", item.key(), item.expires);
            self.world.violations.add(now, Some(node), Rule::ExpiredShown, detail);
        }
    }

    pub(super) fn judge_record(
        &mut self,
        phase: usize,
        node: NodeIx,
        agent: &AgentId,
        report: &PeerReport,
    ) {
        for record in &report.records {
            self.check_item(phase, node, record);
        }
        let found = report.records.iter().any(|record| record.signer == *agent);
        self.phases[phase].finds.add(report.cost, found);
        self.series.find(self.world.now(), found);
    }

    pub(super) fn judge_nearest(
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
        let builder = &mut self.phases[phase];
        builder.done.nearest.add(hits as u64, nearest.len() as u64);
        builder.lookups.add(report.cost, hits == nearest.len());
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

/// Whether the digest alone does not decide the question.
fn is_open(question: &workload::Question, item: &VerifiedItem) -> bool {
    directory::digest(item).is_some_and(|digest| evaluate(&question.query(), digest).is_open())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use comity_overlay::{Content, Verified, Verifier};

    use super::*;
    use crate::publisher::Lives;
    use crate::run::ask;
    use crate::run::hunt::Hunt;
    use crate::scenario::{EPOCH, Scenario};

    /// A runner with publishers that are up, and a genuine digest of the first.
    fn runner_with_digest() -> (Runner, VerifiedItem) {
        let mut runner = Runner::new(Scenario::healthy(10, 1));
        runner.plan(&mut |_| ());
        for ix in 0..10 {
            runner.world.start(ix, comity_overlay::Config::default());
        }
        for publisher in runner.register.publishers.values_mut() {
            publisher.published = true;
        }
        let ix = *runner.register.publishers.keys().next().unwrap();
        let node = &runner.world.nodes()[ix];
        let lives = Lives { digest: runner.scenario.digest_life, beat: runner.scenario.beat_life };
        let items = runner.register.seal(ix, node, EPOCH, lives);
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
        let spec = runner.register.find(&item.key()).unwrap().1.spec.clone();
        let right = workload::Question { class: Some(spec.class), ..workload::Question::default() };
        runner.check_match(0, 0, &right, &item);
        runner.check_item(0, 0, &item);
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
        runner.check_item(0, 0, &forged);
        let expired = VerifiedItem::from(Verified { expires: EPOCH, ..(*item).clone() });
        runner.check_item(0, 0, &expired);
        let shown = *runner.phases[0].shown();
        assert_eq!((shown.forged, shown.expired), (2, 1));
        assert!(rules(&runner).contains(&Rule::ExpiredShown));
    }

    #[test]
    fn recall_at_5_counts_the_best_and_takes_equals_for_equal() {
        let (runner, _) = runner_with_digest();
        let asker = runner.askers[0];
        let question = workload::Question::default();
        let asked = workload::Question { class: Some(0), ..question.clone() };
        let hunt = Box::new(Hunt::new(asked.command(), ask::Question::Query));
        let query = Query { question, gold: (0..8).collect(), want: 0, hunt };
        // Without prices all are equally good: any five are the best five.
        let some: BTreeSet<SpecIx> = BTreeSet::from([1, 2, 4, 5, 7]);
        let marks = runner.marks_of(asker, &query, &some);
        assert_eq!((marks.at_5.found, marks.at_5.wanted), (5, 5));
        assert_eq!((marks.recall.found, marks.recall.wanted), (5, 8));
        let few: BTreeSet<SpecIx> = BTreeSet::from([3]);
        assert_eq!(runner.marks_of(asker, &query, &few).at_5.found, 1);
        let wanting = Query { want: 3, ..query };
        assert!(runner.marks_of(asker, &wanting, &some).is_full());
    }
}
