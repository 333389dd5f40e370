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
    /// More nodes than expected crowd around the placement: someone may have put them there.
    pub(super) crowded: bool,
}

#[derive(Debug)]
struct Witness {
    agent: AgentId,
    prefix: Option<IpPrefix>,
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
    /// Takes in an answer; `prefix` is that of the custodian unless its network is exempt from the caps.
    ///
    /// Nodes that do not keep the shard are no witnesses, and of one prefix the first [`WITNESSES_PER_PREFIX_MAX`] are.
    pub(super) fn hear(
        &mut self,
        placement: u8,
        agent: AgentId,
        prefix: Option<IpPrefix>,
        limit: u16,
        checked: &Checked,
    ) {
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
        witnesses.push(Witness { agent, prefix, holds, shown, cut, proven });
    }

    /// Whether no more custodians of `placement` need to be asked.
    pub(super) fn is_enough(&self, placement: u8, rule: Rule) -> bool {
        let here = &self.placements[at(placement)];
        if self.newest.is_empty() {
            // Nobody showed a match. Near misses prove that a custodian keeps the shard at least.
            let proven = here.iter().filter(|witness| witness.proven).count();
            let doubtful = rule.crowded || self.is_disputed();
            return !doubtful && (proven >= rule.agreeing || here.len() >= EMPTY_CUSTODIANS_ENOUGH);
        }
        let holding = here.iter().filter(|witness| witness.holds).count();
        if holding >= DISPUTED_CUSTODIANS_MAX && !rule.crowded {
            return true;
        }
        let agreeing = if rule.crowded { DISPUTED_CUSTODIANS_MAX } else { rule.agreeing };
        let copies = self.copies();
        let fresh = !rule.fresh || copies >= FRESH_COPIES;
        fresh && self.agreeing(placement) >= agreeing
    }

    /// Whether all there was to ask left doubts: the search has to be widened.
    pub(super) fn is_doubtful(&self, placement: u8, rule: Rule) -> bool {
        if self.newest.is_empty() {
            return rule.crowded || self.placements[at(placement)].len() < EMPTY_CUSTODIANS_ENOUGH;
        }
        (0..PLACEMENTS).all(|placement| self.agreeing(placement) < rule.agreeing)
            || (rule.fresh && self.copies() < FRESH_COPIES)
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
        self.placements[at(placement)].iter().filter(agrees).count()
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
