//! What the callee counts of each link.

use std::collections::BTreeMap;
use std::time::Duration;

use comity_capability::record::CLOCK_SKEW;
use comity_core::{Canonical as _, Hash, Time};
use serde::{Deserialize, Serialize};

use super::chain::{Link, VerifiedChain};
use super::refusal::Refusal;

/// Most links that are counted at once, some 15 MB.
pub const MAX_COUNTERS: usize = 65_536;
/// Most links that are counted under one first link: a holder who delegates without end exhausts its own allowance only.
pub const MAX_COUNTERS_PER_ROOT: u32 = 1024;

/// What a link has used up.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, minicbor::Encode, minicbor::Decode,
)]
#[cbor(map)]
struct Count {
    /// The first link of its chain.
    #[n(0)]
    root: Hash,
    /// When the link is over, and with it the count.
    #[cbor(n(1), with = "crate::wire::micros")]
    until: Time,
    #[n(2)]
    used: u64,
    #[n(3)]
    spent: u64,
    #[cbor(n(4), with = "crate::wire::micros")]
    window_start: Time,
    #[n(5)]
    in_window: u32,
}

comity_core::impl_canonical!(Count);

/// Uses, budgets and rates of the links that have any. To be stored whole; a count that is lost is an allowance renewed.
///
/// A call is counted in every link of its chain or in none. Counts live as long as their link, so that nothing is renewed by waiting for
/// them to be forgotten; when as many are kept as may be, links that would need another are refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    counts: BTreeMap<Hash, Count>,
    per_root: BTreeMap<Hash, u32>,
}

/// What one call used up, to be given back if it never ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spent {
    links: Vec<Hash>,
    cost: u64,
}

impl Counters {
    /// Nothing used.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many links are counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Counts one call of `cost` in every link of the chain that limits calls.
    ///
    /// # Errors
    /// [`Refusal::UsedUp`], [`Refusal::Budget`], [`Refusal::Rate`] or [`Refusal::CountersFull`]; nothing was counted then.
    pub fn spend(&mut self, chain: &VerifiedChain, cost: u64, now: Time) -> Result<Spent, Refusal> {
        let root = chain.links().first().map_or(Hash([0; 32]), |link| link.hash);
        let counted = || chain.links().iter().zip(1..).filter(|(link, _)| link.grant.is_counted());
        let mut next = Vec::new();
        for (link, number) in counted() {
            let fresh = || Count {
                root,
                until: link.grant.not_after,
                used: 0,
                spent: 0,
                window_start: Time::ZERO,
                in_window: 0,
            };
            let count = self.counts.get(&link.hash).copied().unwrap_or_else(fresh);
            next.push((link.hash, number, after(count, link, number, cost, now)?));
        }
        self.make_room(root, &next, now)?;
        for (hash, _, count) in &next {
            if self.counts.insert(*hash, *count).is_none() {
                *self.per_root.entry(root).or_default() += 1;
            }
        }
        Ok(Spent { links: next.into_iter().map(|(hash, _, _)| hash).collect(), cost })
    }

    /// Gives back what a call used up that never ran.
    pub fn refund(&mut self, spent: &Spent) {
        for hash in &spent.links {
            if let Some(count) = self.counts.get_mut(hash) {
                count.used = count.used.saturating_sub(1);
                count.spent = count.spent.saturating_sub(spent.cost);
                count.in_window = count.in_window.saturating_sub(1);
            }
        }
    }

    /// What is counted now of the links of one call, each in a few bytes: to be on disk before the call runs.
    pub fn rows(&self, spent: &Spent) -> impl Iterator<Item = (Hash, Vec<u8>)> {
        spent.links.iter().filter_map(|hash| Some((*hash, self.counts.get(hash)?.encode())))
    }

    /// Takes in what [`Counters::rows`] gave. Returns whether it could be read and there was room.
    pub fn restore(&mut self, link: Hash, row: &[u8]) -> bool {
        let Ok(count) = Count::decode(row) else { return false };
        if self.counts.len() >= MAX_COUNTERS && !self.counts.contains_key(&link) {
            return false;
        }
        if self.counts.insert(link, count).is_none() {
            *self.per_root.entry(count.root).or_default() += 1;
        }
        true
    }

    /// The links that are over, and whose rows need not be kept any more.
    #[must_use]
    pub fn over(&self, now: Time) -> Vec<Hash> {
        let over = |count: &Count| now.saturating_since(count.until) > 2 * CLOCK_SKEW;
        self.counts.iter().filter(|(_, count)| over(count)).map(|(hash, _)| *hash).collect()
    }

    /// Uses and cost counted for a link so far.
    #[must_use]
    pub fn used(&self, link: &Hash) -> (u64, u64) {
        self.counts.get(link).map_or((0, 0), |count| (count.used, count.spent))
    }

    /// Forgets links that are over.
    pub fn prune(&mut self, now: Time) {
        let per_root = &mut self.per_root;
        self.counts.retain(|_, count| {
            let keep = now.saturating_since(count.until) <= 2 * CLOCK_SKEW;
            if !keep && let Some(left) = per_root.get_mut(&count.root) {
                *left = left.saturating_sub(1);
            }
            keep
        });
        per_root.retain(|_, count| *count > 0);
    }

    fn make_room(
        &mut self,
        root: Hash,
        next: &[(Hash, usize, Count)],
        now: Time,
    ) -> Result<(), Refusal> {
        let new = || next.iter().filter(|(hash, _, _)| !self.counts.contains_key(hash));
        let Some((_, link, _)) = new().next_back().copied() else { return Ok(()) };
        let count = new().count();
        let fits = |counters: &Self| {
            let of_root = counters.per_root.get(&root).copied().unwrap_or(0);
            counters.counts.len() + count <= MAX_COUNTERS
                && usize::try_from(of_root).unwrap_or(usize::MAX).saturating_add(count)
                    <= usize::try_from(MAX_COUNTERS_PER_ROOT).unwrap_or(usize::MAX)
        };
        if !fits(self) {
            self.prune(now);
        }
        if fits(self) { Ok(()) } else { Err(Refusal::CountersFull { link }) }
    }
}

/// The count after one more call.
fn after(
    mut count: Count,
    link: &Link,
    number: usize,
    cost: u64,
    now: Time,
) -> Result<Count, Refusal> {
    let grant = &link.grant;
    if let Some(uses) = grant.uses
        && count.used >= uses
    {
        return Err(Refusal::UsedUp { link: number, uses });
    }
    if let Some(budget) = grant.budget {
        let left = budget.saturating_sub(count.spent);
        if cost > left {
            return Err(Refusal::Budget { link: number, left, cost });
        }
    }
    if let Some(rate) = grant.rate {
        let window = Duration::from_millis(rate.window_ms);
        // A clock that was set back must not lock a window for ever.
        let over = now >= count.window_start + window || now < count.window_start;
        if over {
            (count.window_start, count.in_window) = (now, 0);
        }
        if count.in_window >= rate.calls {
            let retry_after = (count.window_start + window).saturating_since(now);
            let (calls, window_ms) = (rate.calls, rate.window_ms);
            return Err(Refusal::Rate { link: number, calls, window_ms, retry_after });
        }
        count.in_window += 1;
    }
    count.used = count.used.saturating_add(1);
    count.spent = count.spent.saturating_add(cost);
    Ok(count)
}
