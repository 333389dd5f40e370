//! Contacts that left the table in silence: the way back after a partition, when neither half has the other in its tables any more.

use std::collections::VecDeque;
use std::time::Duration;

use comity_core::{OverlayId, Time};

use crate::contact::Contact;

/// Contacts remembered, of each kind (gone alone, gone with many), for each leading bit they share with this node.
const FORMER_PER_BUCKET_MAX: usize = 4;
/// Leading bits told apart; contacts nearer than that count together.
const FORMER_BUCKETS_MAX: u32 = 16;
/// How soon some are asked after contacts went together or came back, and how seldom at last. Half of a network that was
/// cut off for hours is asked by somebody within seconds of its return, and by each node within the longest interval.
const FORMER_EVERY_MIN: Duration = Duration::from_secs(30);
const FORMER_EVERY_MAX: Duration = Duration::from_secs(240);
/// Contacts that went together this long ago make room for others that do.
const FORMER_CUT_KEPT: Duration = Duration::from_secs(600);

#[derive(Debug)]
struct Gone {
    contact: Contact,
    bucket: u32,
    /// It went together with many others: perhaps they are well and it is this node that was cut off.
    cut: bool,
    since: Time,
}

/// Them, bounded in number and spread over the key space.
#[derive(Debug)]
pub(super) struct Former {
    /// Asked last, last.
    gone: VecDeque<Gone>,
    interval: Duration,
    asked: Time,
}

impl Default for Former {
    fn default() -> Self {
        Self { gone: VecDeque::new(), interval: FORMER_EVERY_MIN, asked: Time::ZERO }
    }
}

impl Former {
    /// `contact` left the table of the node at `me`; `cut` when many others did.
    pub(super) fn add(&mut self, now: Time, me: &OverlayId, contact: Contact, cut: bool) {
        let bucket = contact.overlay_id.distance(me).leading_zeros().min(FORMER_BUCKETS_MAX - 1);
        self.remove(&contact.overlay_id);
        let mut alike = self
            .gone
            .iter()
            .enumerate()
            .filter(|(_, gone)| gone.bucket == bucket && gone.cut == cut);
        let full = alike.clone().count() >= FORMER_PER_BUCKET_MAX;
        if full && let Some((oldest, gone)) = alike.by_ref().min_by_key(|(_, gone)| gone.since) {
            if cut && now.saturating_since(gone.since) < FORMER_CUT_KEPT {
                return;
            }
            self.gone.remove(oldest);
        }
        if cut {
            self.hasten();
        }
        self.gone.push_back(Gone { contact, bucket, cut, since: now });
    }

    /// Forgets a contact that answers again. Returns whether it had gone together with many, if it was remembered.
    pub(super) fn remove(&mut self, id: &OverlayId) -> Option<bool> {
        let at = self.gone.iter().position(|gone| gone.contact.overlay_id == *id)?;
        self.gone.remove(at).map(|gone| gone.cut)
    }

    /// Asks soon again: the network is changing.
    pub(super) const fn hasten(&mut self) {
        self.interval = FORMER_EVERY_MIN;
    }

    /// Whom to ask now whether they are back: one of each kind if it is time, in growing intervals without end.
    pub(super) fn due(&mut self, now: Time) -> Vec<Contact> {
        if now.saturating_since(self.asked) < self.interval {
            return Vec::new();
        }
        self.asked = now;
        self.interval = (self.interval * 2).min(FORMER_EVERY_MAX);
        let mut due = self.next(now, true, 1);
        due.extend(self.next(now, false, 1));
        due
    }

    /// The next `count` of a kind in turn.
    pub(super) fn next(&mut self, now: Time, cut: bool, count: usize) -> Vec<Contact> {
        self.asked = now;
        let mut chosen = Vec::new();
        for _ in 0..count {
            let Some(at) = self.gone.iter().position(|gone| gone.cut == cut) else { break };
            let Some(gone) = self.gone.remove(at) else { break };
            if chosen.contains(&gone.contact) {
                self.gone.push_front(gone);
                break;
            }
            chosen.push(gone.contact.clone());
            self.gone.push_back(gone);
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use comity_core::Identity;

    use super::*;

    const ME: OverlayId = OverlayId([0; 32]);

    fn contact(index: u16) -> Contact {
        let mut id = [0; 32];
        id[..2].copy_from_slice(&index.to_be_bytes());
        let agent = Identity::from_secret_bytes(&[7; 32]).id();
        Contact::server(agent, OverlayId(id), vec!["127.0.0.1:1".parse().unwrap()])
    }

    fn at(secs: u64) -> Time {
        Time::from_secs(1_000_000 + secs)
    }

    #[test]
    fn the_half_that_was_cut_off_outlives_hours_of_departures() {
        let mut former = Former::default();
        (0x8000..0x8010).for_each(|n| former.add(at(0), &ME, contact(n), true));
        (0x9000..0xa000).for_each(|n| former.add(at(u64::from(n)), &ME, contact(n), false));
        assert_eq!(former.gone.len(), 2 * FORMER_PER_BUCKET_MAX);
        assert_eq!(former.next(at(0), true, 100).len(), FORMER_PER_BUCKET_MAX);
        assert_eq!(former.remove(&contact(0x8000).overlay_id), Some(true));
        assert_eq!(former.remove(&contact(0x8000).overlay_id), None);
    }

    #[test]
    fn memory_is_bounded_and_spread() {
        let mut former = Former::default();
        for n in 1..=u16::MAX {
            former.add(at(0), &ME, contact(n), n % 2 == 0);
        }
        let most = 2 * FORMER_PER_BUCKET_MAX * FORMER_BUCKETS_MAX as usize;
        assert!(former.gone.len() <= most && former.gone.len() > most * 3 / 4);
    }

    #[test]
    fn all_are_asked_in_turn_ever_more_seldom_and_never_given_up() {
        let mut former = Former::default();
        (0x8000..0x8004).for_each(|n| former.add(at(0), &ME, contact(n), true));
        let mut asked = Vec::new();
        for second in 0..36_000 {
            let due = former.due(at(second));
            asked.extend(due.into_iter().map(|contact| (second, contact.overlay_id)));
        }
        let distinct: std::collections::BTreeSet<_> = asked.iter().map(|(_, id)| id).collect();
        assert_eq!(distinct.len(), 4);
        assert!((140..170).contains(&asked.len()), "{} in ten hours", asked.len());
        assert!(asked.last().unwrap().0 > 35_000);
    }
}
