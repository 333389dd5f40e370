//! What an asker does with what custodians return: it tries the best and asks again without those that failed, as the node does, by the
//! production [`Finder`].

use std::collections::BTreeMap;
use std::time::Duration;

use comity_core::AgentId;
use comity_overlay::{self as overlay, Cost, Finder, FinderLimits, FinderStep, QueryReport, Trial};

use super::ask::{Asked, Question};
use super::{Runner, Task};
use crate::link::Flight;
use crate::publisher::{SpecIx, Truth};
use crate::workload::{self, ANSWERS_MAX};
use crate::world::NodeIx;

/// Candidates that an asker reads the records of at once, as the node does.
const TRIED_AT_ONCE: usize = 10;
/// Candidates that it probes at once where one peer is enough.
const PROBED_AT_ONCE: usize = 3;
/// When a probe that was lost is sent again, and again: QUIC's first probe timeout, doubled (RFC 9002 section 6.2).
const PROBE_AGAIN: [Duration; 2] = [Duration::from_millis(999), Duration::from_millis(2_997)];
/// How long a candidate may take to answer a probe while nobody else has.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);
/// How much longer than the first to answer the others may take: so many times as long, and this.
const GRACE_FACTOR: u32 = 4;
const GRACE_MIN: Duration = Duration::from_millis(250);

/// A question on its way to agents that keep what they declare.
#[derive(Clone, Debug)]
pub(super) struct Hunt {
    finder: Finder,
    kind: Question,
    /// What the directory is asked next, or was asked last.
    pub(super) asked: overlay::Query,
    /// What it answered so far; `None` before the first answer.
    found: Option<QueryReport>,
    /// Time spent on trials since the directory last answered, and requests.
    pub(super) waited: Duration,
    probes: u32,
    /// The best that is what it says.
    pub(super) peer: Option<SpecIx>,
}

impl Hunt {
    pub(super) fn new(query: overlay::Query, kind: Question) -> Self {
        let all = usize::from(ANSWERS_MAX);
        let (want, at_once) = match kind {
            Question::Peer => (1, PROBED_AT_ONCE),
            Question::Query | Question::Text | Question::Find | Question::Nearest => {
                (if query.want == 0 { all } else { query.want }, TRIED_AT_ONCE)
            }
        };
        let limits = FinderLimits { want, at_once, ..FinderLimits::default() };
        let mut finder = Finder::new(query.clone(), limits);
        let asked = if let FinderStep::Ask(first) = finder.step() { first } else { query };
        Self { finder, kind, asked, found: None, waited: Duration::ZERO, probes: 0, peer: None }
    }

    pub(super) const fn is_continued(&self) -> bool {
        self.found.is_some()
    }

    /// Adds what the directory answered, and what was waited for it, to what it answered before.
    fn add(&mut self, report: QueryReport) {
        let (waited, probes) = (std::mem::take(&mut self.waited), std::mem::take(&mut self.probes));
        let Some(mut found) = self.found.take() else {
            self.found = Some(report);
            return;
        };
        found.cost = after(later(found.cost, probes, waited), report.cost);
        found.keys.extend(report.keys);
        let mut matches: BTreeMap<_, _> =
            found.matches.into_iter().map(|found| (found.item.key(), found)).collect();
        matches.extend(report.matches.into_iter().map(|found| (found.item.key(), found)));
        found.matches = matches.into_values().collect();
        (found.near, found.unasked) = (report.near, report.unasked);
        self.found = Some(found);
    }

    /// What is shown in the end: without those that were tried and failed.
    fn shown(&mut self) -> QueryReport {
        let found = self.found.take();
        let mut found = found.unwrap_or_else(|| QueryReport {
            matches: Vec::new(),
            near: Vec::new(),
            keys: Vec::new(),
            unasked: false,
            cost: Cost::default(),
        });
        found.matches.retain(|found| self.finder.verdict(&found.item.signer) != Some(Trial::Bad));
        // Trying who is shown is part of finding a peer, not of finding what is declared.
        if self.kind == Question::Peer {
            found.cost = later(found.cost, self.probes, self.waited);
        }
        found
    }
}

impl Runner {
    /// The directory answered: tries the best of it, asks again, or ends.
    pub(super) fn pursue(
        &mut self,
        phase: usize,
        node: NodeIx,
        mut asked: Asked,
        report: QueryReport,
    ) {
        for found in report.matches.iter().chain(&report.near) {
            self.check_item(phase, node, &found.item);
            found.beat.iter().for_each(|beat| self.check_item(phase, node, beat));
        }
        let (Asked::Query(query) | Asked::Text(query) | Asked::Peer { query, .. }) = &mut asked
        else {
            return;
        };
        let ranked = self.ranked(&query.question, &report);
        let hunt = &mut query.hunt;
        hunt.finder.answered(&report, ranked.iter().map(|(agent, _)| *agent).collect());
        hunt.add(report);
        loop {
            match hunt.finder.step() {
                FinderStep::Ask(question) => {
                    hunt.asked = question;
                    let search = self.tasks;
                    let at = self.world.now() + hunt.waited;
                    self.searches.insert(search, (phase, node, asked));
                    return self.at(at, Task::AskOn(search));
                }
                FinderStep::Try(agents) => {
                    let (verdicts, waited) = self.try_all(node, &agents);
                    hunt.waited += waited;
                    let bad = verdicts.iter().filter(|trial| **trial == Trial::Bad).count();
                    self.attack.found_out += bad as u64;
                    hunt.probes += u32::try_from(agents.len()).unwrap_or(u32::MAX);
                    for (agent, trial) in agents.iter().zip(verdicts) {
                        hunt.finder.tried(*agent, trial);
                        if trial == Trial::Good && hunt.peer.is_none() {
                            let of = ranked.iter().find(|(signer, _)| signer == agent);
                            hunt.peer = of.map(|(_, at)| *at);
                        }
                    }
                }
                FinderStep::Done => break,
            }
        }
        let shown = hunt.shown();
        match &asked {
            Asked::Query(query) => self.judge_query(phase, node, query, &shown),
            Asked::Text(query) => self.judge_text(phase, node, query, &shown),
            Asked::Peer { query, again } => self.judge_peer(phase, node, query, *again, &shown),
            Asked::Find { .. } | Asked::Nearest { .. } | Asked::Watch(_) => {}
        }
    }

    /// Asks what a search wants to know after its trials.
    pub(super) fn ask_on(&mut self, search: u64) {
        let Some((phase, asker, asked)) = self.searches.remove(&search) else { return };
        if self.world.nodes()[asker].is_up() {
            self.put(phase, asker, asked);
        }
    }

    /// What was shown and whose it is, the best first, ties in random order.
    fn ranked(
        &mut self,
        question: &workload::Question,
        report: &QueryReport,
    ) -> Vec<(AgentId, SpecIx)> {
        let mut shown: Vec<(AgentId, SpecIx)> = report
            .matches
            .iter()
            .filter_map(|found| {
                let key = found.item.key();
                self.register.find(&key).map(|(at, _)| (key.signer, at))
            })
            .collect();
        self.curiosity.shuffle(&mut shown);
        let register = &self.register;
        shown.sort_by_key(|(_, at)| {
            let declared = register.declared(*at);
            std::cmp::Reverse(
                declared.map(|declared| {
                    (declared.spec.answers(question), declared.spec.merit(question))
                }),
            )
        });
        shown
    }

    /// Tries agents at once: what came of each, and how long it took to know. Who takes much longer than the first that is good is not
    /// waited for.
    fn try_all(&mut self, node: NodeIx, agents: &[AgentId]) -> (Vec<Trial>, Duration) {
        let answers: Vec<Option<(Duration, bool)>> =
            agents.iter().map(|agent| self.probe(node, agent)).collect();
        let good = answers.iter().flatten().filter(|(_, is_true)| *is_true);
        let first = good.map(|(rtt, _)| *rtt).min();
        let patience = first
            .map_or(PROBE_TIMEOUT, |first| PROBE_TIMEOUT.min(first * GRACE_FACTOR + GRACE_MIN));
        let in_time =
            |answer: &Option<(Duration, bool)>| answer.filter(|(rtt, _)| *rtt <= patience);
        let waited = |answer| in_time(answer).map_or(patience, |(rtt, _)| rtt);
        let longest = answers.iter().map(waited).max().unwrap_or_default();
        let trial = |answer: &Option<(Duration, bool)>| match (answer, in_time(answer)) {
            (_, Some((_, true))) => Trial::Good,
            (None, _) | (_, Some((_, false))) => Trial::Bad,
            (Some(_), None) => Trial::Open,
        };
        (answers.iter().map(trial).collect(), longest)
    }

    /// One round trip to a publisher, and whether it has what it says. `None`: no answer.
    fn probe(&mut self, asker: NodeIx, agent: &AgentId) -> Option<(Duration, bool)> {
        let publisher = self.register.node_of(agent)?;
        if publisher == asker {
            return Some((Duration::ZERO, true));
        }
        let is_true = self.register.publishers.get(&publisher)?.truth == Truth::Honest;
        let (from, to) = (&self.world.nodes()[asker], &self.world.nodes()[publisher]);
        let cut = self.world.is_partitioned() && from.side != to.side;
        if cut || !to.is_up() {
            return None;
        }
        let (from, to) = (from.line, to.line);
        let link = self.world.link().clone();
        let mut fly = |from, to| match link.fly(&mut self.probes, from, to) {
            Flight::Arrives { after, .. } => Some(after),
            Flight::Lost => None,
        };
        let mut sent = std::iter::once(Duration::ZERO).chain(PROBE_AGAIN);
        sent.find_map(|sent| Some((sent + fly(&from, &to)? + fly(&to, &from)?, is_true)))
    }
}

/// `cost` and something after it.
fn later(cost: Cost, requests: u32, elapsed: Duration) -> Cost {
    let hops = u32::from(requests > 0);
    after(cost, Cost { requests, hops, elapsed, ..Cost::default() })
}

/// One cost after another.
fn after(first: Cost, then: Cost) -> Cost {
    Cost {
        requests: first.requests + then.requests,
        failures: first.failures + then.failures,
        bytes_sent: first.bytes_sent + then.bytes_sent,
        bytes_received: first.bytes_received + then.bytes_received,
        hops: first.hops + then.hops,
        elapsed: first.elapsed + then.elapsed,
    }
}
