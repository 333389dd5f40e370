//! When custodians of a shard have said enough.
//!
//! A custodian cannot invent: what it shows is verified. It can leave out. So its word counts as far as others agree, and others are
//! asked until as many as wanted show the newest version of everything that anybody has shown, at each placement. Liars that
//! disagree with each other or with one honest custodian only make the query ask more. That nothing is there is believed from many
//! independent custodians, or from all there are.

use std::collections::BTreeMap;

use comity_core::AgentId;

use super::Checked;
use crate::config::HOLDERS_MAX;
use crate::contact::IpPrefix;
use crate::drive::CustodianSaid;
use crate::item::ItemKey;
use crate::lookup::{Oldest, Surroundings};
use crate::shard::PLACEMENTS;

/// Custodians of one placement that hold something and are heard before their disagreement is accepted: the union is the answer.
pub(super) const DISPUTED_CUSTODIANS_MAX: usize = 5;
/// Custodians of one placement that show nothing before it is believed that nothing is there.
pub(super) const EMPTY_CUSTODIANS_ENOUGH: usize = 8;
/// Custodians of one IP prefix whose word counts at one placement.
pub(super) const WITNESSES_PER_PREFIX_MAX: usize = 2;
/// Valid copies a fresh query hears, both placements together (OVERLAY section 3.4).
pub(super) const FRESH_COPIES: usize = 5;

/// What a query wants to hear at each placement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    /// Custodians that agree.
    pub(super) agreeing: usize,
    /// Go on until [`FRESH_COPIES`] custodians that hold something were heard.
    pub(super) fresh: bool,
    /// What the search knows of the nodes around the placement.
    pub(super) around: Surroundings,
}

impl Rule {
    /// Custodians differ because they came to keep the place at different times, and those that have kept it longest were heard.
    fn trusts_oldest(&self) -> bool {
        self.around.oldest == Oldest::Heard && !self.around.crowded && !self.fresh
    }
}

/// Who a custodian is to the asker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Custodian {
    pub(super) agent: AgentId,
    /// Its prefix, unless its network is exempt from the caps.
    pub(super) prefix: Option<IpPrefix>,
    /// It lies inside the expected region. What others keep is welcome, but they need not keep everything.
    pub(super) inside: bool,
}

#[derive(Debug)]
struct Witness {
    agent: AgentId,
    prefix: Option<IpPrefix>,
    /// It lies inside the region, so that every publisher should have stored on it.
    inside: bool,
    /// It says that it keeps digests of the shard.
    holds: bool,
    /// Version of each matching digest it showed.
    shown: BTreeMap<ItemKey, u64>,
    /// It showed as many as it was allowed to and has more.
    cut: bool,
    /// It showed something that verified, a match or a near miss.
    proven: bool,
}

/// What the custodians of one shard have said, and the newest version of every match anybody showed.
#[derive(Debug, Default)]
pub(super) struct Witnesses {
    placements: [Vec<Witness>; PLACEMENTS as usize],
    newest: BTreeMap<ItemKey, u64>,
}

impl Witnesses {
    /// Takes in an answer.
    ///
    /// Nodes that do not keep the shard are no witnesses, and of one prefix the first [`WITNESSES_PER_PREFIX_MAX`] are.
    pub(super) fn hear(
        &mut self,
        placement: u8,
        custodian: Custodian,
        limit: u16,
        checked: &Checked,
    ) {
        let Custodian { agent, prefix, inside } = custodian;
        let CustodianSaid::Answered { held, matches, near, bad, truncated, .. } = checked.said
        else {
            return;
        };
        let shown: BTreeMap<_, _> =
            checked.matches.iter().map(|(item, _)| (item.key(), item.seq)).collect();
        for (key, seq) in &shown {
            let newest = self.newest.entry(*key).or_insert(*seq);
            *newest = (*newest).max(*seq);
        }
        let witnesses = &mut self.placements[at(placement)];
        let same = |other: &&Witness| prefix.is_some() && other.prefix == prefix;
        let known = witnesses.iter().any(|other| other.agent == agent);
        if known
            || witnesses.len() >= HOLDERS_MAX
            || witnesses.iter().filter(same).count() >= WITNESSES_PER_PREFIX_MAX
        {
            return;
        }
        let proven = matches > 0 || near > 0;
        let cut = truncated && matches >= limit;
        // Who shows only what does not verify holds nothing.
        let holds = held > 0 && (proven || bad == 0);
        witnesses.push(Witness { agent, prefix, inside, holds, shown, cut, proven });
    }

    /// Whether no more custodians of `placement` need to be asked.
    pub(super) fn is_enough(&self, placement: u8, rule: Rule) -> bool {
        let inside = || self.inside(placement);
        let Surroundings { crowded, silent, exhausted, oldest } = rule.around;
        if oldest == Oldest::Unheard {
            return false;
        }
        if rule.trusts_oldest() {
            return true;
        }
        // As many as are expected in the region were asked: the dead are not waited for.
        let all_asked = exhausted
            || (inside().count() >= 1 && inside().count() + silent >= EMPTY_CUSTODIANS_ENOUGH);
        if self.newest.is_empty() {
            // Nobody showed a match. Near misses prove that a custodian keeps the shard at least.
            let proven = inside().filter(|witness| witness.proven).count();
            let asked = self.placements[at(placement)].len() + silent;
            let many = asked >= EMPTY_CUSTODIANS_ENOUGH && inside().count() >= rule.agreeing;
            let doubtful = crowded || self.is_disputed();
            return !doubtful && (proven >= rule.agreeing || many || all_asked);
        }
        let holding = inside().filter(|witness| witness.holds).count();
        if !crowded && !rule.fresh && (holding >= DISPUTED_CUSTODIANS_MAX || all_asked) {
            return true;
        }
        let agreeing = if crowded { DISPUTED_CUSTODIANS_MAX } else { rule.agreeing };
        let fresh = !rule.fresh || self.copies() >= FRESH_COPIES;
        fresh && self.agreeing(placement) >= agreeing
    }

    /// Whether all there was to ask left doubts: the search has to be widened. `settled` nodes around the placement answered or did
    /// not: where as many as expected did, what they left is what there is.
    pub(super) fn is_doubtful(&self, rule: Rule, settled: usize) -> bool {
        let unsettled = rule.around.crowded || settled < EMPTY_CUSTODIANS_ENOUGH;
        if self.newest.is_empty() {
            return unsettled;
        }
        let disputed = !rule.trusts_oldest()
            && (0..PLACEMENTS).all(|placement| self.agreeing(placement) < rule.agreeing);
        (unsettled && disputed) || (rule.fresh && self.copies() < FRESH_COPIES)
    }

    fn inside(&self, placement: u8) -> impl Iterator<Item = &Witness> + '_ {
        self.placements[at(placement)].iter().filter(|witness| witness.inside)
    }

    /// Custodians of `placement` that show the newest version of everything anybody showed, as far as they were allowed to.
    fn agreeing(&self, placement: u8) -> usize {
        let agrees = |witness: &&Witness| {
            let complete = || {
                self.newest
                    .iter()
                    .all(|(key, seq)| witness.shown.get(key).is_some_and(|shown| shown >= seq))
            };
            witness.cut || complete()
        };
        self.inside(placement).filter(agrees).count()
    }

    /// Custodians of both placements that showed a match.
    fn copies(&self) -> usize {
        self.placements.iter().flatten().filter(|witness| !witness.shown.is_empty()).count()
    }

    /// Some custodians say that they hold something and prove nothing: perhaps they hide it.
    fn is_disputed(&self) -> bool {
        let mut all = self.placements.iter().flatten();
        all.any(|witness| witness.holds && !witness.proven)
            && self.placements.iter().flatten().any(|witness| witness.proven)
    }
}

fn at(placement: u8) -> usize {
    usize::from(placement.min(PLACEMENTS - 1))
}

#[cfg(test)]
mod tests;
