//! Where every agent is, and who is nearest to where.

use std::collections::BTreeSet;

use comity_core::{AgentId, OverlayId};
use comity_overlay::{Contact, Positions};

use crate::world::NodeIx;

/// The places of all agents of a simulation, by key and by place.
///
/// Both orders go by the leading 64 bits: of a million random ones, two are equal once in 37 million networks, and then the rest
/// decides where it matters.
#[derive(Debug, Default)]
pub struct PlaceTable {
    contacts: Vec<Contact>,
    by_key: BTreeSet<(u64, u32)>,
    by_place: BTreeSet<(u64, u32)>,
}

fn lead(bytes: &[u8; 32]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *bytes;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

impl PlaceTable {
    /// Adds the next agent, at the place its contact says.
    ///
    /// # Panics
    /// At 2^32 agents.
    pub fn add(&mut self, contact: Contact) {
        let ix = u32::try_from(self.contacts.len()).expect("fewer than 2^32 nodes");
        self.by_key.insert((lead(contact.agent.as_bytes()), ix));
        self.by_place.insert((lead(contact.overlay_id.as_bytes()), ix));
        self.contacts.push(contact);
    }

    /// The agent with this key, and which of those added it is.
    #[must_use]
    pub fn find(&self, key: &[u8; 32]) -> Option<(NodeIx, &Contact)> {
        let lead = lead(key);
        self.by_key
            .range((lead, 0)..=(lead, u32::MAX))
            .map(|(_, ix)| (to_ix(*ix), &self.contacts[to_ix(*ix)]))
            .find(|(_, contact)| contact.agent.as_bytes() == key)
    }

    /// All agents in the order of their places.
    pub fn sorted(&self) -> impl Iterator<Item = &Contact> + '_ {
        self.by_place.iter().map(|(_, ix)| &self.contacts[to_ix(*ix)])
    }

    /// The `count` agents nearest to `target` of those that `which` accepts, nearest first.
    pub fn nearest(
        &self,
        target: &OverlayId,
        count: usize,
        mut which: impl FnMut(NodeIx) -> bool,
    ) -> Vec<NodeIx> {
        let mut nearest = Vec::with_capacity(count.min(self.contacts.len()));
        let target = lead(&target.0);
        // Who shares all bits with the target, who all but the last, and so on: each a range, and nearer than the next.
        let mut group: Vec<(u64, u32)> = Vec::new();
        let mut shared = self.shared_max(target);
        loop {
            let (first, last) = sharing(target, shared);
            group.clear();
            group.extend(
                self.by_place
                    .range((first, 0)..=(last, u32::MAX))
                    .filter(|(_, ix)| which(to_ix(*ix)))
                    .map(|(lead, ix)| (lead ^ target, *ix)),
            );
            group.sort_unstable();
            nearest.extend(group.iter().map(|(_, ix)| to_ix(*ix)).take(count - nearest.len()));
            match shared.checked_sub(1) {
                Some(fewer) if nearest.len() < count => shared = fewer,
                _ => return nearest,
            }
        }
    }

    /// Most leading bits that any agent's place shares with `target`.
    fn shared_max(&self, target: u64) -> u32 {
        let before = self.by_place.range(..=(target, u32::MAX)).next_back();
        let after = self.by_place.range((target, 0)..).next();
        let shared =
            before.into_iter().chain(after).map(|(lead, _)| (lead ^ target).leading_zeros());
        shared.max().unwrap_or(0)
    }
}

/// First and last of the numbers that share exactly `shared` leading bits with `target`.
const fn sharing(target: u64, shared: u32) -> (u64, u64) {
    if shared >= u64::BITS {
        return (target, target);
    }
    let rest = u64::MAX >> shared >> 1;
    let first = (target ^ (rest + 1)) & !rest;
    (first, first | rest)
}

fn to_ix(ix: u32) -> NodeIx {
    usize::try_from(ix).expect("a usize has at least 32 bits")
}

impl Positions for PlaceTable {
    fn position(&mut self, agent: &AgentId) -> Option<OverlayId> {
        self.find(agent.as_bytes()).map(|(_, contact)| contact.overlay_id)
    }

    fn accept(&mut self, key: &[u8; 32]) -> Option<AgentId> {
        self.find(key).map(|(_, contact)| contact.agent).or_else(|| AgentId::from_bytes(key).ok())
    }
}

#[cfg(test)]
mod tests {
    use comity_core::Identity;

    use super::*;
    use crate::random::Random;

    #[test]
    fn finds_by_key_and_by_place() {
        let mut random = Random::new(1, "test");
        let mut table = PlaceTable::default();
        let mut all = Vec::new();
        for _ in 0..200 {
            let agent = Identity::from_secret_bytes(&random.bytes()).id();
            let contact = Contact::server(agent, OverlayId(random.bytes()), Vec::new());
            table.add(contact.clone());
            all.push(contact);
        }
        for (ix, contact) in all.iter().enumerate() {
            assert_eq!(table.find(contact.agent.as_bytes()), Some((ix, contact)));
        }
        assert_eq!(table.find(&[0; 32]), None);
        assert!(table.sorted().is_sorted_by_key(|contact| contact.overlay_id));
        for round in 0..100 {
            let target = if round < 50 { OverlayId(random.bytes()) } else { all[round].overlay_id };
            let which = |ix: NodeIx| ix % 3 != round % 3;
            let mut expected: Vec<_> = (0..all.len()).filter(|ix| which(*ix)).collect();
            expected.sort_by_key(|ix| all[*ix].overlay_id.distance(&target));
            expected.truncate(20);
            assert_eq!(table.nearest(&target, 20, which), expected);
        }
        assert_eq!(table.nearest(&all[0].overlay_id, 500, |_| true).len(), 200);
        assert!(table.nearest(&all[0].overlay_id, 0, |_| true).is_empty());
    }
}
