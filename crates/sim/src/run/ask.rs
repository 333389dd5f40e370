//! Asking, and what comes back.

use comity_core::{AgentId, OverlayId};
use comity_overlay::{Command, Outcome, PeerQuery, Positions};

use super::hunt::Hunt;
use super::watch::Watched;
use super::{Pending, Runner, What};
use crate::check::Rule;
use crate::publisher::SpecIx;
use crate::report::{PhaseBuilder, SampleBuilder};
use crate::workload;
use crate::world::NodeIx;

/// Draws of a popular publisher before any that is there will do.
const POPULAR_DRAWS: usize = 32;

/// The kinds of questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// Who can do this?
    Query,
    /// The same in free text.
    Text,
    /// Who is the best that can do this, and lives?
    Peer,
    /// Where is that agent?
    Find,
    /// Who is nearest to that place?
    Nearest,
}

/// A directory query that was asked.
#[derive(Clone, Debug)]
pub(super) struct Query {
    pub(super) question: workload::Question,
    /// All right answers that were there when it was asked.
    pub(super) gold: Vec<SpecIx>,
    /// Answers it wants; 0: all.
    pub(super) want: usize,
    /// What came of it so far.
    pub(super) hunt: Box<Hunt>,
}

/// A question that was asked, with its answer.
#[derive(Debug)]
pub(super) enum Asked {
    Query(Query),
    Text(Query),
    /// `again`: the same asker asked the same a moment ago.
    Peer {
        query: Query,
        again: bool,
    },
    Find {
        agent: AgentId,
    },
    Nearest {
        target: OverlayId,
    },
    /// Whether a publisher that is watched is found.
    Watch(Watched),
}

impl Asked {
    /// Whether it goes on with what was asked before.
    const fn is_continued(&self) -> bool {
        match self {
            Self::Query(query) | Self::Text(query) | Self::Peer { query, .. } => {
                query.hunt.is_continued()
            }
            Self::Find { .. } | Self::Nearest { .. } | Self::Watch(_) => false,
        }
    }

    /// Where it is counted; nowhere, if it is not measured as such.
    pub(super) const fn sample<'a>(
        &self,
        phase: &'a mut PhaseBuilder,
    ) -> Option<&'a mut SampleBuilder> {
        match self {
            Self::Query(_) => Some(&mut phase.queries),
            Self::Text(_) => Some(&mut phase.texts),
            Self::Peer { again: false, .. } => Some(&mut phase.peers),
            Self::Peer { again: true, .. } => Some(&mut phase.peers_warm),
            Self::Find { .. } => Some(&mut phase.finds),
            Self::Nearest { .. } => Some(&mut phase.lookups),
            Self::Watch(_) => None,
        }
    }
}

impl Runner {
    pub(super) fn ask(&mut self, phase: usize, kind: Question) {
        let Some(asker) = self.draw_asker() else { return };
        let asked = match kind {
            Question::Query | Question::Text | Question::Peer => {
                let Some(query) = self.draw_query(asker, kind) else { return };
                match kind {
                    Question::Text => Asked::Text(query),
                    Question::Peer => Asked::Peer { query, again: false },
                    Question::Query | Question::Find | Question::Nearest => Asked::Query(query),
                }
            }
            Question::Find => {
                let Some(publisher) = self.draw_publisher(asker) else { return };
                Asked::Find { agent: self.world.nodes()[publisher].contact.agent }
            }
            Question::Nearest => Asked::Nearest { target: OverlayId(self.curiosity.bytes()) },
        };
        self.put(phase, asker, asked);
    }

    /// Asks again what the same asker was told a moment ago.
    pub(super) fn ask_again(&mut self, phase: usize, asker: NodeIx, question: workload::Question) {
        if self.world.nodes()[asker].is_up() {
            let want = self.want();
            let query = self.query(asker, question, want, Question::Peer);
            self.put(phase, asker, Asked::Peer { query, again: true });
        }
    }

    pub(super) fn put(&mut self, phase: usize, asker: NodeIx, asked: Asked) {
        let command = match &asked {
            Asked::Query(query) | Asked::Text(query) | Asked::Peer { query, .. } => {
                Command::Query(query.hunt.asked.clone())
            }
            Asked::Watch(watched) => Command::Query(watched.question.command_for(0)),
            Asked::Find { agent } => match self.world.services.places.position(agent) {
                Some(overlay_id) => {
                    Command::FindPeer(PeerQuery::Agent { agent: *agent, overlay_id })
                }
                None => return,
            },
            Asked::Nearest { target } => Command::Lookup { target: *target },
        };
        if !asked.is_continued()
            && let Some(sample) = asked.sample(&mut self.phases[phase])
        {
            sample.started += 1;
        }
        self.command(asker, command, What::Ask { phase, asked });
    }

    /// Answers that questions for a live peer want: what the scenario says, or what the query language asks for by itself.
    fn want(&self) -> usize {
        match self.scenario.measure.want {
            0 => usize::try_from(comity_capability::query::K_DEFAULT).unwrap_or(usize::MAX),
            want => want,
        }
    }

    fn draw_query(&mut self, asker: NodeIx, kind: Question) -> Option<Query> {
        let publisher = self.draw_publisher(asker)?;
        let specs = &self.register.publishers.get(&publisher)?.specs;
        let spec = self.curiosity.pick(specs).cloned()?;
        if let Some(victim) = self.curiosity.pick(&self.eclipsed).copied() {
            return self.draw_eclipsed(asker, victim, kind);
        }
        let question = match kind {
            Question::Text => self.drawer.text(&mut self.curiosity, &spec)?,
            Question::Query | Question::Peer | Question::Find | Question::Nearest => {
                self.drawer.question(&mut self.curiosity, &spec)
            }
        };
        let want = match kind {
            Question::Query => self.scenario.measure.want,
            Question::Text | Question::Peer | Question::Find | Question::Nearest => self.want(),
        };
        Some(self.query(asker, question, want, kind))
    }

    /// A question that only the attacked key leads to.
    fn draw_eclipsed(&self, asker: NodeIx, victim: NodeIx, kind: Question) -> Option<Query> {
        let spec = self.register.publishers.get(&victim)?.specs.first()?;
        let name = Some(spec.name.clone());
        let question = workload::Question { name, ..workload::Question::default() };
        Some(self.query(asker, question, self.scenario.measure.want, kind))
    }

    fn query(
        &self,
        asker: NodeIx,
        question: workload::Question,
        want: usize,
        kind: Question,
    ) -> Query {
        let mut gold = self.register.answers(&question);
        gold.retain(|at| {
            self.register
                .declared(*at)
                .is_some_and(|declared| self.is_findable(declared.node, asker))
        });
        let hunt = Box::new(Hunt::new(question.command_for(want), kind));
        Query { question, gold, want, hunt }
    }

    pub(super) fn draw_asker(&mut self) -> Option<NodeIx> {
        let nodes = self.world.nodes();
        let up: Vec<_> = self.askers.iter().copied().filter(|ix| nodes[*ix].is_up()).collect();
        self.curiosity.pick(&up).copied()
    }

    /// A publisher whose items can be found by `asker`, the popular ones more often.
    fn draw_publisher(&mut self, asker: NodeIx) -> Option<NodeIx> {
        for _ in 0..POPULAR_DRAWS {
            let popular = self.drawer.popular(&mut self.curiosity);
            if let Some(ix) = self.popular.get(popular).filter(|ix| self.is_findable(**ix, asker)) {
                return Some(*ix);
            }
        }
        let publishers = self.register.publishers.keys().copied();
        let there: Vec<_> = publishers.filter(|ix| self.is_findable(*ix, asker)).collect();
        self.curiosity.pick(&there).copied()
    }

    pub(super) fn is_findable(&self, ix: NodeIx, asker: NodeIx) -> bool {
        let (node, asker) = (&self.world.nodes()[ix], &self.world.nodes()[asker]);
        let Some(publisher) = self.register.publishers.get(&ix) else { return false };
        let reachable = !self.world.is_partitioned() || node.side == asker.side;
        let honest = publisher.truth == crate::publisher::Truth::Honest;
        honest && node.is_up() && publisher.published && !publisher.leaving && reachable
    }

    pub(super) fn judge(&mut self, phase: usize, node: NodeIx, asked: Asked, outcome: Outcome) {
        match (asked, outcome) {
            (
                asked @ (Asked::Query(_) | Asked::Text(_) | Asked::Peer { .. }),
                Outcome::Answers(report),
            ) => self.pursue(phase, node, asked, report),
            (Asked::Watch(watched), Outcome::Answers(report)) => {
                self.judge_watched(&watched, &report);
            }
            (Asked::Find { agent }, Outcome::Peers(report)) => {
                self.judge_record(phase, node, &agent, &report);
            }
            (Asked::Nearest { target }, Outcome::Closest(report)) => {
                self.judge_nearest(phase, node, &target, &report);
            }
            (asked, outcome) => {
                let detail = format!("{asked:?} ended as {outcome:?}");
                let now = self.world.now();
                self.world.violations.add(now, Some(node), Rule::Demand, detail);
            }
        }
    }

    /// Commands that are still running and were to be measured.
    pub(super) fn never_done(&self, limit: std::time::Duration) -> Vec<&Pending> {
        let now = self.world.now();
        let old = |pending: &&Pending| now.saturating_since(pending.since) >= limit;
        self.pending.values().filter(old).collect()
    }
}
