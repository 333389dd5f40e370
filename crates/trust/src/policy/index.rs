//! Finds the first rule that applies without looking at all of them.
//!
//! Each rule is filed once under what it names most narrowly: its agents, else its groups, else its endorsers, else nobody; and there, under the
//! beginnings of its capabilities' names. A call is looked up under its caller, its groups and its endorsers only.

use std::collections::BTreeMap;

use super::rule::{Facts, Rule};
use crate::RawKey;

/// Rules by capability. Every list is in the order of the file.
#[derive(Clone, Debug, Default)]
struct ByCapability {
    exact: BTreeMap<String, Vec<u32>>,
    /// Globs that begin with something, by that beginning.
    prefix: BTreeMap<String, Vec<u32>>,
    /// One bit for each length of beginning that there is.
    prefix_lengths: u128,
    /// Globs that begin with the star, by their end.
    suffix: BTreeMap<String, Vec<u32>>,
    suffix_lengths: u128,
}

/// Rules of one effect.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    agents: BTreeMap<RawKey, ByCapability>,
    groups: BTreeMap<RawKey, ByCapability>,
    lists: BTreeMap<u32, ByCapability>,
    endorsers: BTreeMap<RawKey, ByCapability>,
    anyone: ByCapability,
}

impl ByCapability {
    fn file(&mut self, number: u32, rule: &Rule) {
        for glob in &rule.capabilities {
            let list = match &glob.suffix {
                None => self.exact.entry(glob.prefix.clone()).or_default(),
                Some(_) if !glob.prefix.is_empty() => {
                    self.prefix_lengths |= 1 << glob.prefix.len();
                    self.prefix.entry(glob.prefix.clone()).or_default()
                }
                Some(suffix) => {
                    self.suffix_lengths |= 1 << suffix.len();
                    self.suffix.entry(suffix.clone()).or_default()
                }
            };
            if list.last() != Some(&number) {
                list.push(number);
            }
        }
    }

    /// The first rule before `best` that applies.
    fn first(&self, rules: &[Rule], facts: &Facts<'_>, best: Option<u32>) -> Option<u32> {
        let name = facts.request.capability;
        let mut best = best;
        let mut look = |list: Option<&Vec<u32>>| {
            for number in list.into_iter().flatten() {
                if best.is_some_and(|best| best <= *number) {
                    break;
                }
                let rule = usize::try_from(*number).ok().and_then(|number| rules.get(number));
                if rule.is_some_and(|rule| rule.applies(facts)) {
                    best = Some(*number);
                    break;
                }
            }
        };
        look(self.exact.get(name));
        for length in lengths(self.prefix_lengths, name.len()) {
            look(name.get(..length).and_then(|start| self.prefix.get(start)));
        }
        for length in lengths(self.suffix_lengths, name.len()) {
            look(name.get(name.len() - length..).and_then(|end| self.suffix.get(end)));
        }
        best
    }
}

/// The lengths in `bits` up to `max`.
fn lengths(bits: u128, max: usize) -> impl Iterator<Item = usize> {
    (0..128usize)
        .take_while(move |length| *length <= max)
        .filter(move |length| bits >> length & 1 == 1)
}

impl Index {
    /// The rules that deny, or those that allow.
    pub(super) fn of(rules: &[Rule], deny: bool) -> Self {
        let mut index = Self::default();
        for (rule, number) in rules.iter().zip(0..).filter(|(rule, _)| rule.deny == deny) {
            if !rule.who.agents.is_empty() {
                for agent in &rule.who.agents {
                    index.agents.entry(*agent).or_default().file(number, rule);
                }
            } else if rule.who.names_groups() {
                for group in &rule.who.groups {
                    index.groups.entry(*group).or_default().file(number, rule);
                }
                for list in &rule.who.lists {
                    index.lists.entry(*list).or_default().file(number, rule);
                }
            } else if !rule.who.endorsers.is_empty() {
                for endorser in &rule.who.endorsers {
                    index.endorsers.entry(*endorser).or_default().file(number, rule);
                }
            } else {
                index.anyone.file(number, rule);
            }
        }
        index
    }

    /// The number of the first rule that applies.
    pub(super) fn first(&self, rules: &[Rule], facts: &Facts<'_>) -> Option<u32> {
        let named = self.agents.get(&facts.caller).into_iter();
        let groups = facts.groups.iter().filter_map(|group| self.groups.get(group));
        let lists = facts.lists.iter().filter_map(|list| self.lists.get(list));
        let endorsers = facts.endorsers.iter().filter_map(|endorser| self.endorsers.get(endorser));
        let all = named.chain(groups).chain(lists).chain(endorsers).chain([&self.anyone]);
        all.fold(None, |best, rules_of| rules_of.first(rules, facts, best))
    }
}
