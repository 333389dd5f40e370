//! One question to several independent producers, who commit to their answers before any of them is shown.
//!
//! ```text
//! caller                         producers
//!   ├── ask(job) ───────────────► each answers, keeps the answer, sends  c = commit(job, response, nonce, own key)
//!   │   all committed, or time is up
//!   └── reveal(job) ────────────► each sends answer, receipt, nonce      c must open
//! ```
//!
//! Who copies another's commitment cannot open it, since it is over the producer's key; who waits to see an answer has not committed, and
//! is left out. The machine is pure: events and the time go in, [`Action`]s come out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use comity_capability::record::Reuse;
use comity_core::{AgentId, Hash, Time};

use crate::compare::same;
use crate::result::Accepted;

/// Most producers asked at once.
pub const N_MAX: usize = 9;
/// Producers asked in place of those that fail, at most.
pub const REPLACEMENTS_MAX: usize = 9;
/// Candidates that are looked at.
pub const CANDIDATES_MAX: usize = 256;

const COMMIT_CONTEXT: &str = "comity/quorum/commit/v1";
const JOB_CONTEXT: &str = "comity/quorum/job/v1";

/// m of n.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spec {
    m: usize,
    n: usize,
}

/// Why m of n is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a quorum is m/n with a majority in agreement: 2/2, 2/3, 3/5, at most {N_MAX} producers; `{text}` is none"
)]
pub struct SpecError {
    /// What was given.
    pub text: String,
}

impl Spec {
    /// `m` of `n` must agree. More than half, because two groups could agree otherwise.
    ///
    /// # Errors
    /// [`SpecError`].
    pub fn new(m: usize, n: usize) -> Result<Self, SpecError> {
        let fits = (2..=N_MAX).contains(&n) && m <= n && 2 * m > n;
        if fits { Ok(Self { m, n }) } else { Err(SpecError { text: format!("{m}/{n}") }) }
    }

    /// How many must agree.
    #[must_use]
    pub const fn m(&self) -> usize {
        self.m
    }

    /// How many are asked.
    #[must_use]
    pub const fn n(&self) -> usize {
        self.n
    }
}

impl std::str::FromStr for Spec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let wrong = || SpecError { text: text.chars().take(16).collect() };
        let (m, n) = text.split_once('/').ok_or_else(wrong)?;
        let (m, n) = (m.parse().map_err(|_| wrong())?, n.parse().map_err(|_| wrong())?);
        Self::new(m, n).map_err(|_| wrong())
    }
}

impl std::fmt::Display for Spec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.m, self.n)
    }
}

/// A part of the network that one operator is likely to hold: /24 of IPv4, /48 of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(u64);

impl Prefix {
    /// The prefix of an address; none of loopback addresses, which tell nothing apart.
    #[must_use]
    pub fn of(ip: IpAddr) -> Option<Self> {
        if ip.is_loopback() {
            return None;
        }
        match ip {
            IpAddr::V4(ip) => Some(Self(u64::from(u32::from(ip) >> 8))),
            IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
                Some(ip) => Self::of(IpAddr::V4(ip)),
                None => u64::try_from(u128::from(ip) >> 80).ok().map(|top| Self(1 << 63 | top)),
            },
        }
    }
}

/// Somebody who could be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Who.
    pub agent: AgentId,
    /// Where in the network, if it can be told.
    pub prefix: Option<Prefix>,
    /// Where its data comes from, as declared; nothing declared conflicts with nobody.
    pub sources: BTreeSet<String>,
}

impl Candidate {
    /// Whether the two may answer for each other's honesty: other keys, other places, other data.
    #[must_use]
    pub fn is_independent_of(&self, other: &Self) -> bool {
        self.agent != other.agent
            && (self.prefix.is_none() || self.prefix != other.prefix)
            && self.sources.is_disjoint(&other.sources)
    }
}

/// The commitment to an answer: over the job, the answer, a nonce of 32 random bytes and the producer's key.
#[must_use]
pub fn commitment(job: &Hash, response: &Hash, nonce: &Hash, producer: &AgentId) -> Hash {
    let parts = [job.as_bytes(), response.as_bytes(), nonce.as_bytes(), producer.as_bytes()];
    Hash::derive(COMMIT_CONTEXT, &parts.map(|part| part.as_slice()))
}

/// The name of one quorum call: over who asks, the request, and 32 random bytes.
#[must_use]
pub fn job(caller: &AgentId, request: &Hash, random: &Hash) -> Hash {
    Hash::derive(JOB_CONTEXT, &[caller.as_bytes(), request.as_bytes(), random.as_bytes()])
}

/// Why there is no quorum to begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{independent} independent producers were found and {wanted} are needed; ask for a smaller quorum or look for more"
)]
pub struct NotEnough {
    /// Producers that are independent of each other.
    pub independent: usize,
    /// How many are needed.
    pub wanted: usize,
}

/// What the caller has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Ask this producer to answer and commit.
    Ask(AgentId),
    /// Ask this producer, which committed, to reveal.
    Reveal(AgentId),
}

/// How one producer fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Its answer is the one accepted.
    Agreed,
    /// It answered something else.
    Dissented,
    /// What it revealed is not what it committed to.
    BrokeCommitment,
    /// It did not answer, or not in time.
    Failed,
}

/// The end of a quorum call.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The accepted answer and who gave it first in the order of preference; none when too few agree.
    pub answer: Option<Accepted>,
    /// How every producer that was asked fared.
    pub parts: BTreeMap<AgentId, Part>,
    /// Every verified answer, for proofs and evidence.
    pub answers: BTreeMap<AgentId, Accepted>,
    /// How many agree with the accepted answer, or in the largest group.
    pub agreeing: usize,
}

#[derive(Debug, Clone)]
enum State {
    Asked,
    Committed(Hash),
    Revealing(Hash),
    Revealed(Box<Accepted>),
    Broke,
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Committing,
    Revealing,
    Over,
}

/// One quorum call.
#[derive(Debug, Clone)]
pub struct Quorum {
    job: Hash,
    spec: Spec,
    reuse: Reuse,
    waiting: Vec<Candidate>,
    chosen: Vec<Candidate>,
    states: BTreeMap<AgentId, State>,
    order: Vec<AgentId>,
    phase: Phase,
    replaced: usize,
    commit_by: Time,
    reveal_by: Time,
}

impl Quorum {
    /// Begins: asks the first `n` of `candidates`, the preferred first, that are independent of each other. Producers that have not committed by
    /// `commit_by` are left out; the call ends at `reveal_by` at the latest.
    ///
    /// # Errors
    /// [`NotEnough`] when fewer than `n` are independent.
    pub fn begin(
        job: Hash,
        spec: Spec,
        reuse: Reuse,
        candidates: Vec<Candidate>,
        [commit_by, reveal_by]: [Time; 2],
    ) -> Result<(Self, Vec<Action>), NotEnough> {
        let mut quorum = Self {
            job,
            spec,
            reuse,
            waiting: candidates.into_iter().take(CANDIDATES_MAX).rev().collect(),
            chosen: Vec::new(),
            states: BTreeMap::new(),
            order: Vec::new(),
            phase: Phase::Committing,
            replaced: 0,
            commit_by,
            reveal_by,
        };
        let mut actions = Vec::new();
        for independent in 0..spec.n {
            match quorum.next_candidate() {
                Some(action) => actions.push(action),
                None => return Err(NotEnough { independent, wanted: spec.n }),
            }
        }
        Ok((quorum, actions))
    }

    /// A producer committed.
    pub fn committed(&mut self, agent: AgentId, commitment: Hash) -> Vec<Action> {
        if self.phase == Phase::Committing
            && let Some(state @ State::Asked) = self.states.get_mut(&agent)
        {
            *state = State::Committed(commitment);
        }
        self.advance()
    }

    /// A producer revealed: a verified answer to the question, and the nonce that opens its commitment.
    pub fn revealed(&mut self, agent: AgentId, nonce: &Hash, accepted: Accepted) -> Vec<Action> {
        if let Some(state) = self.states.get_mut(&agent)
            && let State::Revealing(committed) = state
        {
            let response = accepted.verified.receipt.response;
            let opens = accepted.producer() == agent
                && *committed == commitment(&self.job, &response, nonce, &agent);
            *state = if opens { State::Revealed(Box::new(accepted)) } else { State::Broke };
        }
        self.advance()
    }

    /// A producer failed, refused, or sent what does not verify. While commitments are gathered another takes its place.
    pub fn failed(&mut self, agent: AgentId) -> Vec<Action> {
        let Some(state) = self.states.get_mut(&agent) else { return Vec::new() };
        let open = matches!(state, State::Asked | State::Committed(_) | State::Revealing(_));
        if !open {
            return Vec::new();
        }
        *state = State::Failed;
        self.chosen.retain(|candidate| candidate.agent != agent);
        if self.phase == Phase::Committing && self.replaced < REPLACEMENTS_MAX {
            self.replaced += 1;
            if let Some(action) = self.next_candidate() {
                return vec![action];
            }
        }
        self.advance()
    }

    /// Time passed.
    pub fn at(&mut self, now: Time) -> Vec<Action> {
        if self.phase == Phase::Committing && now >= self.commit_by {
            self.fail_all(|state| matches!(state, State::Asked));
        }
        if self.phase == Phase::Revealing && now >= self.reveal_by {
            self.fail_all(|state| matches!(state, State::Revealing(_)));
        }
        self.advance()
    }

    /// When [`Quorum::at`] has something to do next.
    #[must_use]
    pub const fn timeout(&self) -> Option<Time> {
        match self.phase {
            Phase::Committing => Some(self.commit_by),
            Phase::Revealing => Some(self.reveal_by),
            Phase::Over => None,
        }
    }

    /// The outcome, once the call is over.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        if self.phase != Phase::Over {
            return None;
        }
        let mut answers = BTreeMap::new();
        let mut groups: Vec<Vec<AgentId>> = Vec::new();
        for agent in &self.order {
            let Some(State::Revealed(accepted)) = self.states.get(agent) else { continue };
            let body = &accepted.result.body;
            let alike = |group: &Vec<AgentId>| {
                let first = group.first().and_then(|first| answers.get(first));
                first.is_some_and(|first: &Accepted| same(&self.reuse, &first.result.body, body))
            };
            match groups.iter_mut().find(|group| alike(group)) {
                Some(group) => group.push(*agent),
                None => groups.push(vec![*agent]),
            }
            answers.insert(*agent, Accepted::clone(accepted));
        }
        let agreeing = groups.iter().map(Vec::len).max().unwrap_or(0);
        let winners =
            groups.into_iter().find(|group| group.len() >= self.spec.m).unwrap_or_default();
        let part = |agent: &AgentId, state: &State| match state {
            State::Revealed(_) if winners.contains(agent) => Part::Agreed,
            State::Revealed(_) => Part::Dissented,
            State::Broke => Part::BrokeCommitment,
            State::Asked | State::Committed(_) | State::Revealing(_) | State::Failed => {
                Part::Failed
            }
        };
        let parts = self.states.iter().map(|(agent, state)| (*agent, part(agent, state))).collect();
        let answer = winners.first().and_then(|first| answers.get(first)).cloned();
        Some(Outcome { answer, parts, answers, agreeing })
    }

    fn next_candidate(&mut self) -> Option<Action> {
        while let Some(candidate) = self.waiting.pop() {
            let independent = self.chosen.iter().all(|chosen| candidate.is_independent_of(chosen));
            if independent && !self.states.contains_key(&candidate.agent) {
                self.states.insert(candidate.agent, State::Asked);
                self.order.push(candidate.agent);
                let agent = candidate.agent;
                self.chosen.push(candidate);
                return Some(Action::Ask(agent));
            }
        }
        None
    }

    fn fail_all(&mut self, late: impl Fn(&State) -> bool) {
        for state in self.states.values_mut().filter(|state| late(state)) {
            *state = State::Failed;
        }
    }

    fn count(&self, wanted: impl Fn(&State) -> bool) -> usize {
        self.states.values().filter(|state| wanted(state)).count()
    }

    /// Moves on when a phase is complete.
    fn advance(&mut self) -> Vec<Action> {
        if self.phase == Phase::Committing && self.count(|state| matches!(state, State::Asked)) == 0
        {
            let committed = self.count(|state| matches!(state, State::Committed(_)));
            // Too few to agree: nobody's answer is asked for in vain.
            self.phase = if committed >= self.spec.m { Phase::Revealing } else { Phase::Over };
            if self.phase == Phase::Revealing {
                let mut actions = Vec::new();
                for agent in &self.order {
                    if let Some(state) = self.states.get_mut(agent)
                        && let State::Committed(hash) = *state
                    {
                        *state = State::Revealing(hash);
                        actions.push(Action::Reveal(*agent));
                    }
                }
                return actions;
            }
        }
        if self.phase == Phase::Revealing
            && self.count(|state| matches!(state, State::Revealing(_))) == 0
        {
            self.phase = Phase::Over;
        }
        Vec::new()
    }
}
