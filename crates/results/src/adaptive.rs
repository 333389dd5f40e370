//! The default way to ask one question: the best producer, and another one now and then to check it.
//!
//! One call is made, mostly. How often a second one checks it follows from how many answers of the first were found right in a row
//! ([`check_rate`](crate::repute::check_rate)); a producer that is being tried out is always checked. When two disagree, more are asked until one
//! answer has two voices and twice the weight of any other - a voice weighs what can be counted on of its owner's honesty, so a handful of
//! newcomers does not outvote the well-known - or until [`ASKED_MAX`] were asked. What comes of it moves the reputation of all who answered.

use std::time::Duration;

use comity_core::{AgentId, Time};

use crate::quorum::Candidate;
use crate::repute::{Reputation, is_checked};

/// Most producers asked for one answer.
pub const ASKED_MAX: usize = 7;
/// Voices that an answer needs once there are two answers.
pub const VOICES_MIN: usize = 2;
/// How many times the weight of the next answer the accepted one needs.
pub const LEAD: f64 = 2.0;

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Ask this producer.
    Ask(AgentId),
    /// Done: [`Adaptive::finish`].
    Done,
}

/// Random numbers for one question: which producer, and whether to check it. The second is drawn now and used only after the answer came, so that
/// a producer cannot know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lots {
    /// For the choice of producer.
    pub choice: u64,
    /// For the decision to check.
    pub check: u64,
}

struct Voice<A> {
    agent: AgentId,
    weight: f64,
    answer: A,
    took: Duration,
}

/// One question on its way. `A` is an answer; `same` says whether two are alike.
pub struct Adaptive<A, F> {
    left: Vec<Candidate>,
    asked: Vec<Candidate>,
    asking: Option<AgentId>,
    voices: Vec<Voice<A>>,
    failed: Vec<AgentId>,
    checked: bool,
    same: F,
}

impl<A, F> std::fmt::Debug for Adaptive<A, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Adaptive")
            .field("asked", &self.asked)
            .field("checked", &self.checked)
            .finish_non_exhaustive()
    }
}

/// The end of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled<A> {
    /// The accepted answer and who gave it; none when nobody answered or no answer prevailed.
    pub answer: Option<(AgentId, A)>,
    /// Whether more than one was asked and agreed.
    pub checked: bool,
    /// Who gave the accepted answer, when it was checked.
    pub confirmed: Vec<AgentId>,
    /// Who gave another.
    pub disputed: Vec<AgentId>,
    /// Calls made for it, failed ones included.
    pub calls: usize,
}

impl<A, F: Fn(&A, &A) -> bool> Adaptive<A, F> {
    /// Begins. `candidates` are those who could answer.
    pub fn begin(
        reputation: &Reputation,
        mut candidates: Vec<Candidate>,
        lots: Lots,
        same: F,
        now: Time,
    ) -> (Self, Next) {
        let agents: Vec<AgentId> = candidates.iter().map(|candidate| candidate.agent).collect();
        let chosen = reputation.choose(&agents, lots.choice, now);
        let mut checked = false;
        let mut asked = Vec::new();
        if let Some((index, exploring)) = chosen {
            let first = candidates.remove(index);
            checked =
                exploring || is_checked(reputation.standing(&first.agent, now).streak, lots.check);
            asked.push(first);
        }
        let asking = asked.first().map(|first| first.agent);
        let adaptive = Self {
            left: candidates,
            asked,
            asking,
            voices: Vec::new(),
            failed: Vec::new(),
            checked,
            same,
        };
        (adaptive, asking.map_or(Next::Done, Next::Ask))
    }

    /// Begins with a producer that was chosen otherwise, and whose answer is to be checked. It is to be asked first.
    pub fn checking(first: Candidate, others: Vec<Candidate>, same: F) -> (Self, Next) {
        let agent = first.agent;
        let adaptive = Self {
            left: others,
            asked: vec![first],
            asking: Some(agent),
            voices: Vec::new(),
            failed: Vec::new(),
            checked: true,
            same,
        };
        (adaptive, Next::Ask(agent))
    }

    /// Whom is waited for.
    #[must_use]
    pub const fn asking(&self) -> Option<AgentId> {
        self.asking
    }

    /// The producer that was asked answered, verifiably.
    pub fn answered(
        &mut self,
        reputation: &Reputation,
        answer: A,
        took: Duration,
        now: Time,
    ) -> Next {
        if let Some(agent) = self.asking.take() {
            let weight = reputation.standing(&agent, now).honesty.lower();
            self.voices.push(Voice { agent, weight, answer, took });
        }
        if self.is_settled() { Next::Done } else { self.ask_another(reputation, now) }
    }

    /// The producer that was asked failed; another takes its place.
    pub fn failed(&mut self, reputation: &Reputation, now: Time) -> Next {
        self.failed.extend(self.asking.take());
        if self.is_settled() { Next::Done } else { self.ask_another(reputation, now) }
    }

    /// Settles the question, and lets everybody's reputation follow.
    pub fn finish(self, reputation: &mut Reputation, now: Time) -> Settled<A> {
        let calls = self.voices.len() + self.failed.len();
        let winner = self.leader().map(|(members, _)| members);
        for failed in &self.failed {
            reputation.failed(*failed, now);
        }
        let compared = self.voices.len() > 1;
        let mut settled = Settled {
            answer: None,
            checked: false,
            confirmed: Vec::new(),
            disputed: Vec::new(),
            calls,
        };
        let accepted =
            winner.filter(|members| !compared || members.len() >= VOICES_MIN).unwrap_or_default();
        for (index, voice) in self.voices.into_iter().enumerate() {
            reputation.answered(voice.agent, voice.took, now);
            let agrees = accepted.contains(&index);
            if compared && !accepted.is_empty() {
                if agrees {
                    reputation.confirmed(voice.agent, now);
                    settled.confirmed.push(voice.agent);
                } else {
                    reputation.disputed(voice.agent, now);
                    settled.disputed.push(voice.agent);
                }
            }
            if agrees && settled.answer.is_none() {
                settled.answer = Some((voice.agent, voice.answer));
            }
        }
        settled.checked = compared && settled.answer.is_some();
        settled
    }

    fn is_settled(&self) -> bool {
        let exhausted = self.asked.len() >= ASKED_MAX || self.left.is_empty();
        match self.voices.len() {
            0 => exhausted,
            1 => !self.checked || exhausted,
            _ => {
                let Some((members, next)) = self.leader() else { return true };
                let weight: f64 = members
                    .iter()
                    .filter_map(|index| self.voices.get(*index))
                    .map(|voice| voice.weight)
                    .sum();
                exhausted || (members.len() >= VOICES_MIN && weight >= LEAD * next)
            }
        }
    }

    /// The voices of the heaviest answer and the weight of the next one.
    fn leader(&self) -> Option<(Vec<usize>, f64)> {
        let mut groups: Vec<(Vec<usize>, f64)> = Vec::new();
        for (index, voice) in self.voices.iter().enumerate() {
            let alike = |group: &(Vec<usize>, f64)| {
                let first = group.0.first().and_then(|first| self.voices.get(*first));
                first.is_some_and(|first| (self.same)(&first.answer, &voice.answer))
            };
            match groups.iter_mut().find(|group| alike(group)) {
                Some(group) => {
                    group.0.push(index);
                    group.1 += voice.weight;
                }
                None => groups.push((vec![index], voice.weight)),
            }
        }
        // Two voices before one, whatever the one weighs: a single well-known producer may have turned.
        groups.sort_by(|a, b| {
            let order = |group: &(Vec<usize>, f64)| group.0.len() >= VOICES_MIN;
            order(b).cmp(&order(a)).then(b.1.total_cmp(&a.1))
        });
        let next = groups.iter().skip(1).map(|group| group.1).fold(0.0, f64::max);
        groups.into_iter().next().map(|group| (group.0, next))
    }

    /// The best of those that are left and independent of all who were asked: a check by the same hand would check nothing.
    fn ask_another(&mut self, reputation: &Reputation, now: Time) -> Next {
        let independent = |candidate: &&Candidate| {
            self.asked.iter().all(|asked| candidate.is_independent_of(asked))
        };
        let score = |candidate: &Candidate| reputation.standing(&candidate.agent, now).score;
        let believed = |candidate: &&Candidate| reputation.lied(&candidate.agent).is_none();
        let best = |candidates: &mut dyn Iterator<Item = &Candidate>| {
            candidates.max_by(|a, b| score(a).total_cmp(&score(b))).map(|candidate| candidate.agent)
        };
        let chosen = best(&mut self.left.iter().filter(believed).filter(independent));
        let Some(index) =
            chosen.and_then(|agent| self.left.iter().position(|left| left.agent == agent))
        else {
            self.left.clear();
            return Next::Done;
        };
        let candidate = self.left.remove(index);
        self.asking = Some(candidate.agent);
        self.asked.push(candidate);
        self.asking.map_or(Next::Done, Next::Ask)
    }
}
