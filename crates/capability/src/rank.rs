//! Local ranking of the candidates that a query found.
//!
//! Custodians are never trusted for order: the asker evaluates and ranks again what they returned, by
//!
//! ```text
//! score = w1·text + w2·soft + w3·qos + w4·receipts + w5·freshness − w6·price
//! ```
//!
//! with every part in 0..=1 and the weights of a named profile ([`Weights::of`]). *Relevance* (text, soft) says how well a candidate fits the
//! question, *trust* (qos, receipts, freshness) what is known of how it answers; they are shown apart and only added up for the order.
//!
//! What keeps a candidate from talking itself up:
//! * text relevance is divided by the declared [breadth](Score::breadth): many classes, tags and capabilities make each worth less;
//! * repeated words saturate, long texts are normalised ([`TERM_SATURATION`], [`LENGTH_NORMALISATION`]);
//! * text that addresses the reader as a program is discounted ([`INSTRUCTION_DISCOUNT`]) and flagged;
//! * quality counts as *measured* by the asker, never as declared;
//! * receipts saturate, other peers' count half and only up to a cap;
//! * what is known of how a service of another network answers is [discounted](BRIDGED_DISCOUNT), where the caller says it is one.
//!
//! And what keeps newcomers from never being tried: an [exploration share](EXPLORATION_PERCENT) of the places goes to matching candidates
//! nobody has experience with.

mod explore;
mod score;
mod text;

use comity_core::{AgentId, Hash, Time};

use crate::matching::{self, Evaluation};
use crate::query::{Query, RankProfile};
use crate::record::{Capability, Digest};

pub use explore::EXPLORATION_PERCENT;
pub use score::{
    BREADTH_MAX, BRIDGED_DISCOUNT, CAPABILITIES_FREE, CAPABILITY_BREADTH, CLASS_BREADTH,
    CLASSES_FREE, FRESHNESS_HALF_MS, INSTRUCTION_DISCOUNT, PEER_RECEIPT_WEIGHT, PEER_RECEIPTS_MAX,
    RECEIPTS_HALF, RTT_HALF_MS, SUCCESS_SHARE, Score, TAG_BREADTH, TAGS_FREE,
    looks_like_instructions,
};
pub(crate) use text::terms_of;
pub use text::{LENGTH_NORMALISATION, TERM_SATURATION};

/// Candidates that one call ranks; further ones are left out, and [`Ranking::left_out`] says how many.
pub const CANDIDATES_MAX: usize = 2000;
/// Most refused candidates that a ranking reports.
pub const NEAR_MISSES_MAX: usize = 10;

/// What is known of what a candidate declares: the full record decides everything, a digest may leave conditions open.
#[derive(Clone, Copy, Debug)]
pub enum Declared<'a> {
    /// The index entry.
    Digest(&'a Digest),
    /// The full declaration.
    Capability(&'a Capability),
}

/// A capability of an agent, to be ranked.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Whose it is. The caller has verified the signature.
    pub agent: AgentId,
    /// What it declares.
    pub declared: Declared<'a>,
    /// What the asker knows about it.
    pub signals: Signals,
}

/// What the asker has measured or verified about a candidate. `None` means unknown, which ranks between good and bad.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signals {
    /// Round-trip time in milliseconds.
    pub rtt_ms: Option<u32>,
    /// The asker's own calls.
    pub calls: Option<Tally>,
    /// Receipts that the asker holds of its own calls, verified.
    pub own_receipts: Option<Tally>,
    /// Receipts of peers that the asker has receipts with, verified, capped per subnet by the caller.
    pub peer_receipts: Option<Tally>,
    /// When the agent last answered or sent a beat.
    pub last_seen: Option<Time>,
    /// Whether it passed a probe for this query. A failed probe puts it behind everything else.
    pub probe: Option<bool>,
    /// How many capabilities the agent declares.
    pub declared_capabilities: Option<u32>,
    /// It stands for a service of another network: receipts prove what its agent passed on, not who said it ([`BRIDGED_DISCOUNT`]).
    pub bridged: bool,
}

impl Signals {
    /// Nobody the asker believes has called this agent.
    pub fn is_unproven(&self) -> bool {
        [self.calls, self.own_receipts, self.peer_receipts]
            .iter()
            .all(|tally| tally.is_none_or(|t| t.total == 0))
    }
}

/// So many good out of so many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// The good ones.
    pub good: u32,
    /// All of them.
    pub total: u32,
}

/// How much each part of the score counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights {
    /// Words of the question in title, tags, text and examples.
    pub text: f64,
    /// Share of the preferences met.
    pub soft: f64,
    /// Measured success and latency.
    pub qos: f64,
    /// Verified receipts.
    pub receipts: f64,
    /// How recently the agent was alive.
    pub freshness: f64,
    /// Price relative to the other candidates; subtracted.
    pub price: f64,
}

impl Weights {
    /// The weights of a named profile. They sum to 1 in each.
    pub fn of(profile: RankProfile) -> Self {
        let [text, soft, qos, receipts, freshness, price] = match profile {
            RankProfile::Balanced => [0.35, 0.20, 0.18, 0.15, 0.05, 0.07],
            RankProfile::Cheapest => [0.20, 0.15, 0.08, 0.10, 0.02, 0.45],
            RankProfile::Fastest => [0.20, 0.12, 0.50, 0.08, 0.05, 0.05],
            RankProfile::Trusted => [0.20, 0.12, 0.13, 0.45, 0.05, 0.05],
        };
        Self { text, soft, qos, receipts, freshness, price }
    }
}

/// What the ranking is told besides the candidates.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// The present, for freshness.
    pub now: Time,
    /// Decides ties and who is tried out; a fresh one per search spreads the load, a fixed one repeats a ranking exactly.
    pub seed: [u8; 32],
}

/// One place of a ranking.
#[derive(Clone, Debug)]
pub struct Ranked {
    /// Index of the candidate in the caller's list.
    pub index: usize,
    /// Whose it is.
    pub agent: AgentId,
    /// The parts of its score.
    pub score: Score,
    /// What became of each condition.
    pub evaluation: Evaluation,
    /// True when it has this place to be tried out, not for its score.
    pub exploratory: bool,
}

/// A candidate that is no answer, and why.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Index of the candidate in the caller's list.
    pub index: usize,
    /// Whose it is.
    pub agent: AgentId,
    /// What became of each condition; [`Evaluation::failed`] names the failing ones.
    pub evaluation: Evaluation,
}

/// The answer of [`rank`].
#[derive(Clone, Debug, Default)]
pub struct Ranking {
    /// At most `k` candidates, best first. Those whose digest leaves a condition open come after those that pass.
    pub results: Vec<Ranked>,
    /// How many candidates pass or are open, `results` included.
    pub matching: usize,
    /// Refused candidates with the fewest failed conditions, the nearest first, at most [`NEAR_MISSES_MAX`].
    pub near_misses: Vec<Refused>,
    /// Candidates beyond [`CANDIDATES_MAX`] that were not looked at.
    pub left_out: usize,
}

/// Evaluates, scores and orders `candidates`. The same arguments give the same ranking, whatever the machine's state.
pub fn rank(query: &Query, candidates: &[Candidate<'_>], context: &Context) -> Ranking {
    let considered = &candidates[..candidates.len().min(CANDIDATES_MAX)];
    let evaluations: Vec<Evaluation> =
        considered.iter().map(|c| evaluate(query, c.declared)).collect();
    let scores = score::scores(query, considered, &evaluations, context.now);
    let (mut standing, mut refused) = (Vec::new(), Vec::new());
    for (index, ((candidate, evaluation), score)) in
        considered.iter().zip(evaluations).zip(scores).enumerate()
    {
        let agent = candidate.agent;
        if evaluation.refused() {
            refused.push((score.text, Refused { index, agent, evaluation }));
        } else {
            standing.push(Ranked { index, agent, score, evaluation, exploratory: false });
        }
    }
    let lot = |agent: &AgentId, index: usize| (lot(&context.seed, agent), index);
    standing.sort_by(|a, b| {
        tier(considered, a)
            .cmp(&tier(considered, b))
            .then(b.score.total.total_cmp(&a.score.total))
            .then_with(|| lot(&a.agent, a.index).cmp(&lot(&b.agent, b.index)))
    });
    refused.sort_by(|(text_a, a), (text_b, b)| {
        (a.evaluation.failed().count())
            .cmp(&b.evaluation.failed().count())
            .then(text_b.total_cmp(text_a))
            .then_with(|| lot(&a.agent, a.index).cmp(&lot(&b.agent, b.index)))
    });
    let matching = standing.len();
    let results = explore::select(standing, query.k() as usize, &context.seed, |ranked| {
        let signals = &considered[ranked.index].signals;
        signals.is_unproven() && !signals.bridged && tier(considered, ranked) == 0
    });
    Ranking {
        results,
        matching,
        near_misses: refused
            .into_iter()
            .map(|(_, refused)| refused)
            .take(NEAR_MISSES_MAX)
            .collect(),
        left_out: candidates.len() - considered.len(),
    }
}

fn evaluate(query: &Query, declared: Declared<'_>) -> Evaluation {
    match declared {
        Declared::Digest(digest) => matching::evaluate(query, digest),
        Declared::Capability(capability) => matching::evaluate_capability(query, capability),
    }
}

/// Passing candidates before open ones, failed probes last.
fn tier(candidates: &[Candidate<'_>], ranked: &Ranked) -> u8 {
    if candidates[ranked.index].signals.probe == Some(false) {
        2
    } else {
        u8::from(!ranked.evaluation.passes())
    }
}

/// The lot an agent draws under a seed: who wins ties differs from search to search and cannot be chosen by choosing a key.
fn lot(seed: &[u8; 32], agent: &AgentId) -> Hash {
    Hash::derive("comity/rank/lot/v1", &[seed, agent.as_bytes()])
}
