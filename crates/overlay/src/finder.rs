//! From a question to agents that keep what they declare.
//!
//! What custodians return is signed, not true. An asker tries the best of it, and where too many fail it asks again without those it
//! tried: false claims by many keys fill a custodian's list once, not twice. [`Finder`] decides what comes next, as an iterator over
//! questions and trials; sending, ranking and trying are the shell's. It holds no clock: the shell ends a search that takes too long.
//!
//! ```
//! use comity_overlay::{Finder, FinderLimits, FinderStep, Query, Trial};
//! # fn search(query: Query, ask: impl Fn(Query) -> comity_overlay::QueryReport, is_true: impl Fn(&comity_core::AgentId) -> bool) {
//! let mut finder = Finder::new(query, FinderLimits::default());
//! loop {
//!     match finder.step() {
//!         FinderStep::Ask(query) => {
//!             let report = ask(query);
//!             // The best first.
//!             let ranked = report.matches.iter().map(|found| found.item.signer).collect();
//!             finder.answered(&report, ranked);
//!         }
//!         FinderStep::Try(agents) => {
//!             for agent in agents {
//!                 let trial = if is_true(&agent) { Trial::Good } else { Trial::Bad };
//!                 finder.tried(agent, trial);
//!             }
//!         }
//!         FinderStep::Done => break,
//!     }
//! }
//! # }
//! ```

use std::collections::{BTreeMap, VecDeque};

use comity_core::AgentId;

use crate::drive::{CustodianSaid, Query, QueryReport};
use crate::wire::EXCLUDE_MAX;

/// Times one search asks the directory: once, and again without those it tried.
pub const FINDER_ROUNDS_MAX: usize = 4;

/// Agents tried at once when most fail.
pub const FINDER_AT_ONCE_MAX: usize = 32;

/// How far a search goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FinderLimits {
    /// Agents that keep what they declare after which it ends.
    pub want: usize,
    /// Agents tried at once in the beginning; then as many as are missing, or twice as many each time when most fail, up to
    /// [`FINDER_AT_ONCE_MAX`].
    pub at_once: usize,
    /// Agents tried in all.
    pub tries_max: usize,
}

impl Default for FinderLimits {
    /// Ten at once until ten are good; as many trials as can be left out of a question, and the last answer's.
    fn default() -> Self {
        Self { want: 10, at_once: 10, tries_max: EXCLUDE_MAX + 32 }
    }
}

/// What to do next.
#[derive(Clone, Debug)]
pub enum FinderStep {
    /// Ask the directory and tell [`Finder::answered`].
    Ask(Query),
    /// Try all of these and tell [`Finder::tried`] of each.
    Try(Vec<AgentId>),
    /// Nothing more would help.
    Done,
}

/// What came of trying an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// It lives and has what it declares.
    Good,
    /// It does not answer, or not as it should.
    Bad,
    /// It did not answer while others did, and was not waited for.
    Open,
}

/// One search.
#[derive(Clone, Debug)]
pub struct Finder {
    query: Query,
    limits: FinderLimits,
    at_once: usize,
    /// Candidates not tried yet, the best first.
    untried: VecDeque<AgentId>,
    /// What came of those that were given out to be tried; `None`: not known yet.
    tried: BTreeMap<AgentId, Option<Trial>>,
    /// Those tried, in the order in which they are left out of the next question.
    order: Vec<AgentId>,
    rounds: usize,
    /// The last question is not answered yet.
    asking: bool,
    /// Custodians have more than they returned, or some were not asked.
    more: bool,
    /// Trials since the directory was last asked, by what came of them.
    bad: usize,
    open: usize,
    answered: usize,
}

impl Finder {
    /// A search for what answers `query`; agents that it excludes already stay excluded.
    #[must_use]
    pub const fn new(query: Query, limits: FinderLimits) -> Self {
        Self {
            query,
            at_once: limits.at_once,
            limits,
            untried: VecDeque::new(),
            tried: BTreeMap::new(),
            order: Vec::new(),
            rounds: 0,
            asking: false,
            more: false,
            bad: 0,
            open: 0,
            answered: 0,
        }
    }

    /// What to do next. Before everything asked for was told, the same again, or what is missing of it.
    #[must_use]
    pub fn step(&mut self) -> FinderStep {
        if self.rounds == 0 || self.asking {
            (self.rounds, self.asking) = (self.rounds.max(1), true);
            return FinderStep::Ask(self.question());
        }
        let waiting: Vec<_> = self.unknown().collect();
        if !waiting.is_empty() {
            return FinderStep::Try(waiting);
        }
        if self.good() >= self.limits.want {
            return FinderStep::Done;
        }
        let room = self.limits.tries_max.saturating_sub(self.tried.len());
        let good = self.good();
        if self.tried.is_empty() {
            self.at_once = self.limits.at_once;
        } else if good * 2 < self.tried.len() {
            self.at_once = (self.at_once * 2).min(FINDER_AT_ONCE_MAX.max(self.limits.at_once));
        } else {
            // Where most are good, as many as are missing will do.
            self.at_once = (self.limits.want - good).min(self.limits.at_once);
        }
        let count = self.at_once.max(1).min(room).min(self.untried.len());
        if count > 0 {
            let next: Vec<_> = self.untried.drain(..count).collect();
            for agent in &next {
                self.tried.insert(*agent, None);
                self.order.push(*agent);
            }
            return FinderStep::Try(next);
        }
        let excluded = self.query.exclude.len() + self.order.len();
        let may_ask = self.rounds < FINDER_ROUNDS_MAX && excluded <= EXCLUDE_MAX && room > 0;
        // Some are always slower than others; that most are is no accident.
        let doubtful = self.bad > 0 || self.open > self.answered;
        if self.more && doubtful && may_ask {
            self.rounds += 1;
            self.asking = true;
            (self.bad, self.open, self.answered) = (0, 0, 0);
            return FinderStep::Ask(self.question());
        }
        FinderStep::Done
    }

    /// The directory answered. `ranked`: the agents of its matches in the order in which to try them; known ones are skipped.
    pub fn answered(&mut self, report: &QueryReport, ranked: Vec<AgentId>) {
        self.asking = false;
        self.more = has_more(report);
        for agent in ranked {
            if !self.tried.contains_key(&agent) && !self.untried.contains(&agent) {
                self.untried.push_back(agent);
            }
        }
    }

    /// What came of an agent that was given out to be tried. What was told first counts.
    pub fn tried(&mut self, agent: AgentId, trial: Trial) {
        if let Some(known @ None) = self.tried.get_mut(&agent) {
            *known = Some(trial);
            match trial {
                Trial::Good => self.answered += 1,
                Trial::Bad => self.bad += 1,
                Trial::Open => self.open += 1,
            }
        }
    }

    /// What came of trying an agent, if it was tried.
    #[must_use]
    pub fn verdict(&self, agent: &AgentId) -> Option<Trial> {
        self.tried.get(agent).copied().flatten()
    }

    /// Agents given out to be tried.
    #[must_use]
    pub fn tries(&self) -> usize {
        self.tried.len()
    }

    /// Times the directory was asked.
    #[must_use]
    pub const fn rounds(&self) -> usize {
        self.rounds
    }

    /// Agents that are good, as far as known.
    #[must_use]
    pub fn good(&self) -> usize {
        self.tried.values().filter(|verdict| **verdict == Some(Trial::Good)).count()
    }

    fn unknown(&self) -> impl Iterator<Item = AgentId> + '_ {
        self.tried.iter().filter(|(_, verdict)| verdict.is_none()).map(|(agent, _)| *agent)
    }

    /// The question without those that were tried: the good ones are known, and every place in the answer is for somebody new.
    fn question(&self) -> Query {
        let mut query = self.query.clone();
        query.exclude.extend(&self.order);
        if query.want > 0 {
            query.want = query.want.saturating_sub(self.good()).max(1);
        }
        query
    }
}

/// Whether a custodian left something out of its answer, or keys and shards were not asked because enough had been found.
fn has_more(report: &QueryReport) -> bool {
    let mut said = report.keys.iter().flat_map(|key| &key.custodians);
    report.unasked
        || said.any(|custodian| {
            matches!(custodian.said, CustodianSaid::Answered { truncated: true, .. })
        })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::LazyLock;

    use comity_capability::keys::GroupKey;
    use comity_core::{Hash, Identity};
    use proptest::prelude::*;

    use super::*;
    use crate::drive::{Cost, CustodianReport, KeyReport};
    use crate::shard::ShardId;

    static AGENTS: LazyLock<Vec<AgentId>> = LazyLock::new(|| {
        let agent = |number| Identity::from_secret_bytes(&[number; 32]).id();
        (0..=u8::MAX).map(agent).collect()
    });

    fn agents(count: usize) -> Vec<AgentId> {
        AGENTS[..count].to_vec()
    }

    fn query(want: usize) -> Query {
        Query {
            steps: Vec::new(),
            query: Vec::new(),
            secret: None,
            want,
            limit: 32,
            exclude: Vec::new(),
            fresh: false,
        }
    }

    /// The answer of one custodian that shows the first `limit` of `all` that are not excluded.
    fn directory(all: &[AgentId], query: &Query) -> (QueryReport, Vec<AgentId>) {
        let mut left: Vec<_> =
            all.iter().filter(|agent| !query.exclude.contains(agent)).copied().collect();
        let truncated = left.len() > usize::from(query.limit);
        left.truncate(query.limit.into());
        let said = CustodianSaid::Answered {
            held: 0,
            passed: 0,
            matches: 0,
            near: 0,
            bad: 0,
            set_hash: Hash([0; 32]),
            truncated,
        };
        let key = GroupKey([0; 32]);
        let custodians = vec![CustodianReport { agent: all[0], placement: 0, said }];
        let keys = vec![KeyReport { key, shard: ShardId::whole(key), custodians, requests: 1 }];
        let (matches, near) = (Vec::new(), Vec::new());
        let report = QueryReport { matches, near, keys, unasked: false, cost: Cost::default() };
        (report, left)
    }

    /// Runs a search to its end. Returns who was tried in order, who of them is good, and how often the directory was asked.
    fn run(
        mut finder: Finder,
        all: &[AgentId],
        is_good: impl Fn(&AgentId) -> bool,
    ) -> (Vec<AgentId>, usize, usize) {
        let mut order = Vec::new();
        for _ in 0..1_000 {
            match finder.step() {
                FinderStep::Ask(query) => {
                    assert!(query.exclude.len() <= EXCLUDE_MAX);
                    let (report, ranked) = directory(all, &query);
                    finder.answered(&report, ranked);
                }
                FinderStep::Try(agents) => {
                    for agent in agents {
                        order.push(agent);
                        let trial = if is_good(&agent) { Trial::Good } else { Trial::Bad };
                        finder.tried(agent, trial);
                    }
                }
                FinderStep::Done => return (order, finder.good(), finder.rounds()),
            }
        }
        panic!("a search ends");
    }

    #[test]
    fn honest_answers_are_asked_for_once() {
        let all = agents(100);
        let limits = FinderLimits { want: 5, at_once: 5, ..FinderLimits::default() };
        let (order, good, rounds) = run(Finder::new(query(5), limits), &all, |_| true);
        assert_eq!((order.len(), good, rounds), (5, 5, 1));
    }

    #[test]
    fn who_is_hidden_behind_a_full_list_of_liars_is_found() {
        let all = agents(60);
        let honest: BTreeSet<_> = all[50..].iter().copied().collect();
        let limits = FinderLimits { want: 5, ..FinderLimits::default() };
        let (_, good, rounds) = run(Finder::new(query(5), limits), &all, |a| honest.contains(a));
        assert!(good >= 5, "{good} of 5");
        assert_eq!(rounds, 2);
    }

    #[test]
    fn nobody_asks_again_when_all_was_shown() {
        let all = agents(20);
        let (order, good, rounds) =
            run(Finder::new(query(5), FinderLimits::default()), &all, |_| false);
        assert_eq!((order.len(), good, rounds), (20, 0, 1));
    }

    /// Shards of three are asked until enough match: those that were found first may all have gone.
    #[test]
    fn who_was_not_asked_for_is_asked_for_when_others_fail() {
        let all = agents(12);
        let limits = FinderLimits { want: 2, ..FinderLimits::default() };
        let mut finder = Finder::new(query(2), limits);
        let mut asked = 0;
        loop {
            match finder.step() {
                FinderStep::Ask(query) => {
                    asked += 1;
                    let (mut report, mut ranked) = directory(&all, &query);
                    report.unasked = ranked.len() > 3;
                    ranked.truncate(3);
                    finder.answered(&report, ranked);
                }
                FinderStep::Try(agents) => {
                    for agent in agents {
                        let is_good = all[7..].contains(&agent);
                        finder.tried(agent, if is_good { Trial::Good } else { Trial::Bad });
                    }
                }
                FinderStep::Done => break,
            }
        }
        assert_eq!((finder.good(), asked), (2, 3));
    }

    proptest! {
        #[test]
        fn a_search_ends_within_its_bounds(
            count in 1_usize..160,
            good in prop::collection::vec(any::<bool>(), 160),
            want in 1_usize..20,
            at_once in 0_usize..20,
            tries_max in 0_usize..120,
            given in 0_usize..=EXCLUDE_MAX,
        ) {
            let all = agents(count);
            let known: BTreeMap<_, _> = all.iter().copied().zip(good).collect();
            let limits = FinderLimits { want, at_once, tries_max };
            let mut question = query(want);
            question.exclude = agents(count + given).split_off(count);
            let finder = Finder::new(question, limits);
            let (order, found, rounds) = run(finder, &all, |agent| known[agent]);
            let different: BTreeSet<_> = order.iter().collect();
            prop_assert_eq!(different.len(), order.len(), "nobody is tried twice");
            prop_assert!(order.len() <= tries_max);
            prop_assert!(rounds <= FINDER_ROUNDS_MAX);
            prop_assert!(found < want + at_once.max(FINDER_AT_ONCE_MAX));
            // Whoever ends early has what was wanted, or nobody left, or no room.
            let all_good = known.values().filter(|good| **good).count();
            let enough_room = count <= 32 && tries_max >= count;
            prop_assert!(!enough_room || found >= want.min(all_good));
        }
    }
}
