//! Custodians that answered lately: where the next query for their place begins.
//!
//! A search that starts at the place itself needs one round trip. What its answers must fulfil is the same as without: as many custodians
//! have to agree, and whoever is missing or disagrees is replaced by a search as wide as the first. That begins with those who were named
//! as their fellows: when a message is lost, somebody else at the place is one round trip away, not two.

use std::collections::BTreeMap;
use std::time::Duration;

use comity_core::{AgentId, OverlayId, Time};

use crate::contact::Contact;

/// Places remembered. The one whose memory ends first makes room.
const WARM_PLACES_MAX: usize = 256;
/// Custodians remembered of one place: as many as have to agree, and as many again in case they went.
const WARM_CUSTODIANS_MAX: usize = 4;
/// Nodes at one place that were named and not heard, remembered beside them.
const WARM_OTHERS_MAX: usize = 4;
/// How long after the first answer a place is remembered. It is not prolonged by use: whom a liar led to its friends is led anew.
const WARM_FOR: Duration = Duration::from_secs(600);

/// Them, by the position of the shard's placement.
#[derive(Debug, Default)]
pub(in super::super) struct Warm(BTreeMap<OverlayId, Place>);

#[derive(Debug)]
struct Place {
    custodians: Vec<Contact>,
    /// Who was named at the place beside them.
    others: Vec<Contact>,
    until: Time,
}

impl Warm {
    /// A custodian inside the region showed that it keeps the shard.
    pub(super) fn note(&mut self, now: Time, position: OverlayId, custodian: &Contact) {
        if self.0.get(&position).is_some_and(|place| place.until <= now) {
            self.0.remove(&position);
        }
        if self.0.len() >= WARM_PLACES_MAX
            && !self.0.contains_key(&position)
            && let Some(first) =
                self.0.iter().min_by_key(|(_, place)| place.until).map(|(position, _)| *position)
        {
            self.0.remove(&first);
        }
        let new = || Place { custodians: Vec::new(), others: Vec::new(), until: now + WARM_FOR };
        let place = self.0.entry(position).or_insert_with(new);
        let known = place.custodians.iter().any(|known| known.agent == custodian.agent);
        if !known && place.custodians.len() < WARM_CUSTODIANS_MAX {
            place.custodians.push(custodian.clone());
        }
    }

    /// Who else was named at a place, nearest first; nothing when nobody there is remembered.
    pub(super) fn note_others(&mut self, position: &OverlayId, named: Vec<Contact>) {
        let Some(place) = self.0.get_mut(position) else { return };
        let is_other = |contact: &Contact| {
            place.custodians.iter().all(|custodian| custodian.agent != contact.agent)
        };
        let others = named.into_iter().filter(is_other).take(WARM_OTHERS_MAX);
        place.others = others.collect();
    }

    /// One that does not answer, or does not keep the shard any more.
    pub(super) fn forget(&mut self, position: &OverlayId, agent: &AgentId) {
        if let Some(place) = self.0.get_mut(position) {
            place.custodians.retain(|known| known.agent != *agent);
            place.others.retain(|known| known.agent != *agent);
            if place.custodians.is_empty() {
                self.0.remove(position);
            }
        }
    }

    /// Nobody there is to be trusted with being asked first.
    pub(super) fn forget_place(&mut self, position: &OverlayId) {
        self.0.remove(position);
    }

    /// Whom to ask first for a place.
    pub(super) fn custodians(&self, now: Time, position: &OverlayId) -> &[Contact] {
        let place = self.0.get(position).filter(|place| place.until > now);
        place.map_or(&[], |place| &place.custodians)
    }

    /// Whom to ask next there.
    pub(super) fn others(&self, now: Time, position: &OverlayId) -> &[Contact] {
        let place = self.0.get(position).filter(|place| place.until > now);
        place.map_or(&[], |place| &place.others)
    }
}

#[cfg(test)]
mod tests {
    use comity_core::Identity;

    use super::*;

    fn contact(of: u8) -> Contact {
        let addr = std::net::SocketAddr::from(([10, 0, 0, of], 1));
        let agent = Identity::from_secret_bytes(&[of; 32]).id();
        Contact::server(agent, OverlayId([of; 32]), vec![addr])
    }

    #[test]
    fn a_place_is_remembered_for_a_while_and_not_longer_by_use() {
        let (mut warm, place) = (Warm::default(), OverlayId([7; 32]));
        warm.note(Time::ZERO, place, &contact(1));
        let later = Time::ZERO + WARM_FOR / 2;
        warm.note(later, place, &contact(2));
        assert_eq!(warm.custodians(later, &place), [contact(1), contact(2)]);
        assert!(warm.custodians(Time::ZERO + WARM_FOR, &place).is_empty());
    }

    #[test]
    fn places_and_custodians_are_bounded() {
        let mut warm = Warm::default();
        for at in 0..=WARM_PLACES_MAX {
            let mut place = [0; 32];
            place[..8].copy_from_slice(&(at as u64).to_be_bytes());
            let now = Time::ZERO + Duration::from_millis(at as u64);
            (0..20).for_each(|of| warm.note(now, OverlayId(place), &contact(of)));
            assert_eq!(warm.custodians(now, &OverlayId(place)).len(), WARM_CUSTODIANS_MAX);
        }
        assert_eq!(warm.0.len(), WARM_PLACES_MAX);
        assert!(!warm.0.contains_key(&OverlayId([0; 32])), "the oldest made room");
    }

    #[test]
    fn who_was_named_comes_after_who_answered() {
        let (mut warm, place) = (Warm::default(), OverlayId([7; 32]));
        warm.note_others(&place, vec![contact(1)]);
        assert!(warm.others(Time::ZERO, &place).is_empty(), "nobody there answered");
        warm.note(Time::ZERO, place, &contact(1));
        warm.note_others(&place, (1..20).map(contact).collect());
        assert_eq!(warm.custodians(Time::ZERO, &place), [contact(1)]);
        assert_eq!(warm.others(Time::ZERO, &place), [2, 3, 4, 5].map(contact));
        warm.forget(&place, &contact(3).agent);
        assert_eq!(warm.others(Time::ZERO, &place), [2, 4, 5].map(contact));
        assert!(warm.others(Time::ZERO + WARM_FOR, &place).is_empty());
    }

    #[test]
    fn who_failed_is_forgotten() {
        let (mut warm, place) = (Warm::default(), OverlayId([7; 32]));
        warm.note(Time::ZERO, place, &contact(1));
        warm.forget(&place, &contact(1).agent);
        assert!(warm.0.is_empty());
    }
}
