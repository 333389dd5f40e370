//! What this node thinks of others: from its own receipts first, then from counter-signed receipts of peers it has receipts with. Never a
//! global score, and nothing that anybody says of itself.
//!
//! * **Success** and **honesty** are Beta posteriors, beginning at the uniform Beta(1, 1): the estimate comes with its uncertainty, so three good
//!   calls never outrank three hundred. Honesty moves only when an answer was *checked*: against an independent one, a known one, or a proof.
//! * **Decay**: evidence halves in [`HALF_LIFE`], so an old name cannot be sold.
//! * **Others' word** reaches two steps: a receipt counter-signed by W and P tells of P only to those who have checked answers of W themselves.
//!   What W can give is bounded by what W is thought of, and *divided* among all for whom it vouches; one prefix gives once. So a ring that praises
//!   itself is worth to a stranger what a newcomer is worth: nothing, however often it does.
//! * **Exploration**: a share of the choices goes to those little is known of, or nobody new would ever be tried.
//! * **Replication**: how often an answer is checked depends on how many were found right in a row, as BOINC does it.
//!
//! Sources: DESIGN.md section 6, TRUST.md section 2.8; BOINC, `sched_assign`/`CONS_VALID_UNREPLICATED`; Sarmenta, "Sabotage-tolerance mechanisms
//! for volunteer computing systems" (2002).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use comity_core::{AgentId, Hash, Time};

use crate::ack::{Call, Verdict};
use crate::quorum::Prefix;

/// After this time, half of the evidence counts.
pub const HALF_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Peers of whom own experience is kept; who has been silent longest is forgotten first, never who was proved to lie.
pub const PEERS_MAX: usize = 4096;
/// Peers whose counter-signed receipts are kept.
pub const WITNESSES_MAX: usize = 1024;
/// Calls of one witness that are counted, by callee.
pub const CALLEES_PER_WITNESS_MAX: usize = 256;
/// Receipts of one witness that are remembered, so that they count once.
pub const SEEN_PER_WITNESS_MAX: usize = 256;
/// Proved liars that are remembered.
pub const LIARS_MAX: usize = 65_536;
/// Checked answers that a peer must have given before its word for others counts.
pub const WITNESS_AFTER: f64 = 3.0;
/// Most that the word of all others counts, in checked answers.
pub const VOUCHED_MAX: f64 = 3.0;
/// Most that one witness gives, in checked answers, to all it vouches for together.
pub const VOUCH_BUDGET: f64 = 2.0;
/// How many right answers one wrong answer outweighs.
pub const WRONG_WEIGHT: f64 = 10.0;
/// Share of choices that go to those little is known of, in hundredths.
pub const EXPLORATION_PERCENT: u32 = 5;
/// Answers found right in a row until not every answer is checked.
pub const TRUSTED_AFTER: u32 = 10;
/// Least share of the answers of a trusted producer that are checked: a liar of a thousand good answers is caught after fifty more, on average.
pub const CHECK_FLOOR: f64 = 0.02;
/// Latency at which a peer is worth half of one that answers at once.
pub const LATENCY_HALF: Duration = Duration::from_secs(2);
/// Weight of a new latency in the smoothed one.
const LATENCY_GAIN: f64 = 0.1;

/// A Beta posterior over the share of good outcomes, from a uniform prior.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Beta {
    /// Good outcomes, decayed.
    pub good: f64,
    /// Bad ones, decayed.
    pub bad: f64,
}

impl Beta {
    /// The expected share.
    #[must_use]
    pub fn mean(&self) -> f64 {
        (self.good + 1.0) / (self.good + self.bad + 2.0)
    }

    /// One standard deviation of it.
    #[must_use]
    pub fn deviation(&self) -> f64 {
        let (a, b) = (self.good + 1.0, self.bad + 1.0);
        (a * b / ((a + b) * (a + b) * (a + b + 1.0))).sqrt()
    }

    /// What can be counted on: one deviation below the mean, at least 0.
    #[must_use]
    pub fn lower(&self) -> f64 {
        (self.mean() - self.deviation()).max(0.0)
    }

    /// How many outcomes it rests on.
    #[must_use]
    pub fn weight(&self) -> f64 {
        self.good + self.bad
    }

    /// What speaks for it and all there is, in whole counts.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts are clamped to what a u32 holds"
    )]
    pub fn counts(&self) -> (u32, u32) {
        let whole = |count: f64| count.round().clamp(0.0, f64::from(u32::MAX / 2)) as u32;
        (whole(self.good), whole(self.good) + whole(self.bad))
    }

    fn decay(&mut self, kept: f64) {
        self.good *= kept;
        self.bad *= kept;
    }
}

/// Own experience with one peer.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Experience {
    /// Calls that were answered.
    pub success: Beta,
    /// Answers that were checked.
    pub honesty: Beta,
    /// Smoothed time to answer, in microseconds.
    pub latency_us: Option<f64>,
    /// Answers found right since the last wrong one.
    pub streak: u32,
    /// When it was last heard of.
    pub last: Time,
}

impl Experience {
    fn decay_to(&mut self, now: Time) {
        let kept = kept(self.last, now);
        self.success.decay(kept);
        self.honesty.decay(kept);
        self.last = self.last.max(now);
    }
}

/// What a witness said of one callee.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Said {
    confirmed: f64,
    disputed: f64,
    last: Time,
}

impl Said {
    /// Its share in what its witness gives: many calls with one peer say little more than some.
    fn strength(&self) -> f64 {
        (self.confirmed + self.disputed).ln_1p()
    }
}

#[derive(Debug, Clone, Default)]
struct Witness {
    prefix: Option<Prefix>,
    said: BTreeMap<AgentId, Said>,
    /// Sum of the strengths of all it said.
    strength: f64,
    /// The receipts counted last, so that none counts twice, and their order.
    seen: BTreeSet<Hash>,
    order: VecDeque<Hash>,
}

impl Witness {
    /// Whether a receipt is counted for the first time, as far as is remembered. What is counted twice after all gains little: the whole of
    /// what a witness gives is bounded, and it could have made a new call as well.
    fn is_new(&mut self, receipt: Hash) -> bool {
        if !self.seen.insert(receipt) {
            return false;
        }
        self.order.push_back(receipt);
        if self.order.len() > SEEN_PER_WITNESS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        true
    }
}

/// One witness's part in a [`Standing`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Vouch {
    /// Who vouches.
    pub witness: AgentId,
    /// What the witness is worth here: its own honesty, as far as it can be counted on.
    pub worth: f64,
    /// Its calls with the peer that it confirmed, decayed.
    pub confirmed: f64,
    /// Those it disputed, decayed.
    pub disputed: f64,
    /// What that counts, in checked answers; less when its prefix gave already.
    pub counts: f64,
}

/// What is thought of a peer, and why: every part of the score.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// The order among producers: what can be counted on of success, honesty and speed, 0 to 1. Zero for a proved liar.
    pub score: f64,
    /// Own calls.
    pub success: Beta,
    /// Own checks.
    pub own_honesty: Beta,
    /// Own checks and others' word together.
    pub honesty: Beta,
    /// Smoothed time to answer.
    pub latency: Option<Duration>,
    /// What latency takes off, 0 to 1.
    pub speed: f64,
    /// Answers found right in a row.
    pub streak: u32,
    /// The share of its answers that is checked now.
    pub check_rate: f64,
    /// Others' word.
    pub vouches: Vec<Vouch>,
    /// Hash of the proof that it lied.
    pub lied: Option<Hash>,
}

impl Standing {
    /// Whether so little is known that it is tried out of the exploration share.
    #[must_use]
    pub fn is_unproven(&self) -> bool {
        self.lied.is_none()
            && self.streak < TRUSTED_AFTER
            && self.own_honesty.weight() < f64::from(TRUSTED_AFTER)
    }
}

/// All of it. Bounded; nothing in it comes from what peers say of themselves.
#[derive(Debug, Clone, Default)]
pub struct Reputation {
    own: BTreeMap<AgentId, Experience>,
    witnesses: BTreeMap<AgentId, Witness>,
    liars: BTreeMap<AgentId, Hash>,
}

impl Reputation {
    /// Knows nobody.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A call brought a verified answer.
    pub fn answered(&mut self, peer: AgentId, took: Duration, now: Time) {
        self.update(peer, now, |known| {
            known.success.good += 1.0;
            let took = took.as_secs_f64() * 1e6;
            let smoothed = known.latency_us.map_or(took, |old| old + LATENCY_GAIN * (took - old));
            known.latency_us = Some(smoothed);
        });
    }

    /// A call failed, by no fault of the request.
    pub fn failed(&mut self, peer: AgentId, now: Time) {
        self.update(peer, now, |known| known.success.bad += 1.0);
    }

    /// An answer was checked and found right.
    pub fn confirmed(&mut self, peer: AgentId, now: Time) {
        self.update(peer, now, |known| {
            known.honesty.good += 1.0;
            known.streak = known.streak.saturating_add(1);
        });
    }

    /// An answer was checked and found wrong, by majority or by what was known.
    pub fn disputed(&mut self, peer: AgentId, now: Time) {
        self.update(peer, now, |known| {
            known.honesty.bad += WRONG_WEIGHT;
            known.streak = 0;
        });
    }

    /// A proof that `peer` lied, verified by the caller; `proof` is its hash. Nothing redeems that key.
    pub fn proved_liar(&mut self, peer: AgentId, proof: Hash) {
        if self.liars.len() < LIARS_MAX || self.liars.contains_key(&peer) {
            self.liars.entry(peer).or_insert(proof);
        }
    }

    /// The proof against `peer`, if there is one.
    #[must_use]
    pub fn lied(&self, peer: &AgentId) -> Option<Hash> {
        self.liars.get(peer).copied()
    }

    /// A counter-signed receipt of a call between others, verified ([`CounterSigned::verify`](crate::ack::CounterSigned::verify)), and where its
    /// caller is in the network. Each receipt counts once, under its caller. Returns whether it was new.
    pub fn witnessed(&mut self, call: &Call, prefix: Option<Prefix>, now: Time) -> bool {
        let receipt = &call.verified.receipt;
        // Whoever has never been checked here has no say here; to keep its word would only cost room.
        if self.worth(&receipt.caller, now) <= 0.0 {
            return false;
        }
        if self.witnesses.len() >= WITNESSES_MAX && !self.witnesses.contains_key(&receipt.caller) {
            return false;
        }
        let witness = self.witnesses.entry(receipt.caller).or_default();
        witness.prefix = prefix;
        let full = witness.said.len() >= CALLEES_PER_WITNESS_MAX
            && !witness.said.contains_key(&receipt.callee);
        let id = Hash::derive(
            "comity/repute/seen/v1",
            &[receipt.session.as_bytes(), &receipt.number.to_be_bytes()],
        );
        if full || !witness.is_new(id) {
            return false;
        }
        let said = witness.said.entry(receipt.callee).or_default();
        let kept = kept(said.last, now);
        said.confirmed *= kept;
        said.disputed *= kept;
        said.last = now;
        match call.verdict {
            Verdict::Confirmed => said.confirmed += 1.0,
            Verdict::Disputed => said.disputed += 1.0,
            // That an answer came says nothing about whether it was right.
            Verdict::Received => {}
        }
        witness.strength = witness.said.values().map(Said::strength).sum();
        true
    }

    /// What is thought of `peer`, with every part.
    #[must_use]
    pub fn standing(&self, peer: &AgentId, now: Time) -> Standing {
        let mut own = self.own.get(peer).copied().unwrap_or_default();
        own.decay_to(now);
        let vouches = self.vouches(peer, now);
        let mut honesty = own.honesty;
        let given: f64 = vouches.iter().map(|vouch| vouch.counts).sum();
        // Praise confirms what was found here and takes the place of nothing: or a ring with one honest face would lift all of itself.
        honesty.good += given.clamp(0.0, VOUCHED_MAX).min(own.honesty.good);
        honesty.bad += (-given).clamp(0.0, VOUCHED_MAX);
        let latency = own.latency_us.map(|us| Duration::from_secs_f64(us / 1e6));
        let half = LATENCY_HALF.as_secs_f64();
        let speed = latency.map_or(1.0, |latency| half / (half + latency.as_secs_f64()));
        let lied = self.lied(peer);
        let counted_on = honesty.lower() * own.success.lower().sqrt() * speed;
        Standing {
            score: if lied.is_some() { 0.0 } else { counted_on },
            success: own.success,
            own_honesty: own.honesty,
            honesty,
            latency,
            speed,
            streak: own.streak,
            check_rate: check_rate(own.streak),
            vouches,
            lied,
        }
    }

    /// Who is asked: the best, or, for the exploration share of `lot`, one of whom little is known. `lot` is random, for this choice alone.
    /// Returns the index and whether it is a try. `None` when everybody is a proved liar, or there is nobody.
    #[must_use]
    pub fn choose(&self, peers: &[AgentId], lot: u64, now: Time) -> Option<(usize, bool)> {
        let standings: Vec<(usize, Standing)> = peers
            .iter()
            .enumerate()
            .map(|(index, peer)| (index, self.standing(peer, now)))
            .filter(|(_, standing)| standing.lied.is_none())
            .collect();
        let unproven: Vec<usize> = standings
            .iter()
            .filter(|(_, standing)| standing.is_unproven())
            .map(|(index, _)| *index)
            .collect();
        let (share, which) = (lot % 100, lot / 100);
        if share < u64::from(EXPLORATION_PERCENT)
            && !unproven.is_empty()
            && unproven.len() < standings.len()
        {
            let which = usize::try_from(which % unproven.len() as u64).unwrap_or(0);
            return unproven.get(which).map(|index| (*index, true));
        }
        // Of equals a different one each time, so that nobody is first by its key.
        let turn = |index: usize| (index as u64).wrapping_add(which) % peers.len() as u64;
        let best = standings.iter().max_by(|(a, first), (b, second)| {
            first.score.total_cmp(&second.score).then_with(|| turn(*a).cmp(&turn(*b)))
        });
        best.map(|(index, _)| (*index, false))
    }

    /// Whether the word of `peer` counts for anything here, so that there is a point in verifying it.
    #[must_use]
    pub fn is_heard(&self, peer: &AgentId, now: Time) -> bool {
        self.worth(peer, now) > 0.0
    }

    /// How many peers own experience is kept of.
    #[must_use]
    pub fn len(&self) -> usize {
        self.own.len()
    }

    /// Whether there is no own experience.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.own.is_empty()
    }

    /// Own experience with every peer, to be kept on disk.
    pub fn experiences(&self) -> impl Iterator<Item = (&AgentId, &Experience)> {
        self.own.iter()
    }

    /// Takes up what was kept.
    pub fn restore(&mut self, peer: AgentId, experience: Experience) {
        if self.own.len() < PEERS_MAX {
            self.own.insert(peer, experience);
        }
    }

    /// What a peer's word is worth: nothing before some of its own answers were checked here, and nothing once it lied.
    fn worth(&self, peer: &AgentId, now: Time) -> f64 {
        let Some(mut own) = self.own.get(peer).copied() else { return 0.0 };
        own.decay_to(now);
        let heard = own.honesty.good >= WITNESS_AFTER && self.lied(peer).is_none();
        if heard { own.honesty.lower() } else { 0.0 }
    }

    fn vouches(&self, peer: &AgentId, now: Time) -> Vec<Vouch> {
        let mut given = BTreeSet::new();
        let mut vouches = Vec::new();
        for (id, witness) in &self.witnesses {
            let (Some(said), worth) = (witness.said.get(peer), self.worth(id, now)) else {
                continue;
            };
            if worth <= 0.0 || id == peer {
                continue;
            }
            let kept = kept(said.last, now);
            let (confirmed, disputed) = (said.confirmed * kept, said.disputed * kept);
            let share =
                if witness.strength > 0.0 { said.strength() / witness.strength } else { 0.0 };
            let leaning = (confirmed - WRONG_WEIGHT * disputed)
                / (confirmed + WRONG_WEIGHT * disputed).max(1.0);
            let again = witness.prefix.is_some_and(|prefix| !given.insert(prefix));
            let counts = if again { 0.0 } else { worth * VOUCH_BUDGET * share * leaning };
            vouches.push(Vouch { witness: *id, worth, confirmed, disputed, counts });
        }
        vouches
    }

    fn update(&mut self, peer: AgentId, now: Time, change: impl FnOnce(&mut Experience)) {
        if self.own.len() >= PEERS_MAX && !self.own.contains_key(&peer) {
            let oldest = self.own.iter().min_by_key(|(_, known)| known.last).map(|(peer, _)| *peer);
            if let Some(oldest) = oldest {
                self.own.remove(&oldest);
            }
        }
        let known = self
            .own
            .entry(peer)
            .or_insert_with(|| Experience { last: now, ..Experience::default() });
        known.decay_to(now);
        change(known);
    }
}

/// The share of a producer's answers that is checked against an independent one, after `streak` right answers in a row: all of the first
/// [`TRUSTED_AFTER`], then one in `streak`, never less than [`CHECK_FLOOR`].
#[must_use]
pub fn check_rate(streak: u32) -> f64 {
    if streak < TRUSTED_AFTER { 1.0 } else { (1.0 / f64::from(streak)).max(CHECK_FLOOR) }
}

/// Whether this answer is checked; `lot` is random, for this answer alone, and drawn after the producer committed to it.
#[must_use]
pub fn is_checked(streak: u32, lot: u64) -> bool {
    // A probability needs no more than the 53 bits that a float holds.
    let uniform = (lot >> 11) as f64 / (1_u64 << 53) as f64;
    uniform < check_rate(streak)
}

fn kept(since: Time, now: Time) -> f64 {
    0.5_f64.powf(now.saturating_since(since).as_secs_f64() / HALF_LIFE.as_secs_f64())
}
