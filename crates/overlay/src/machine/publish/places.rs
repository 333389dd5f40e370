//! Who keeps the places of own items, across restarts.
//!
//! An agent that returns knows most of its custodians still. It asks a few of them who came beside them, as a renewal after losses does,
//! instead of searching for each place again: a tenth of the requests. How often a place was used since it was last searched is
//! kept too, so that short sessions do not put off the search over disjoint paths for ever.

use std::collections::BTreeSet;
use std::time::Duration;

use comity_core::Time;

use super::super::Overlay;
use super::PublishJob;
use super::own::{CUSTODIANS_MAX, Custodians, UNKNOWN};
use crate::config::HOLDERS_MAX;
use crate::drive::{Action, KnownPlace, PlaceChange};

/// Samples of the network's size that what an earlier run knew of it stands for: three quarters of what makes a node sure.
const SAMPLES_RECALLED: usize = 12;
/// A place that was not renewed for so many of the longest intervals is none of one's own any more.
const UNUSED_INTERVALS: u32 = 3;

impl Custodians {
    fn known(&self, position: comity_core::OverlayId) -> KnownPlace {
        let Self { uses, found, size, .. } = *self;
        KnownPlace { position, contacts: self.contacts.to_vec(), found, uses, size }
    }
}

impl Overlay {
    /// Who keeps the places of own items: what [`Action::Places`] reported since the start, all together.
    #[must_use]
    pub fn export_places(&self) -> Vec<KnownPlace> {
        let places = self.publishing.custodians.iter();
        places.map(|(position, known)| known.known(*position)).collect()
    }

    /// Who kept the places of own items in an earlier run. They are believed when they answer: what is published first asks some of them who
    /// came beside them. The size that the network had then counts until this node has measured it.
    pub fn import_places(&mut self, now: Time, places: Vec<KnownPlace>) {
        let mut sizes = Vec::new();
        for KnownPlace { position, mut contacts, found, uses, size } in places {
            contacts.retain(|contact| contact.agent != self.me.agent);
            contacts.truncate(HOLDERS_MAX);
            if contacts.is_empty() || self.publishing.custodians.len() >= CUSTODIANS_MAX {
                continue;
            }
            sizes.push(size.max(1));
            let known = Custodians {
                contacts: contacts.into(),
                uses,
                failed: UNKNOWN,
                lost: 0,
                renewed: now,
                found,
                size,
                unsaved: false,
            };
            self.publishing.custodians.insert(position, known);
        }
        sizes.sort_unstable();
        if let Some(median) = sizes.get(sizes.len() / 2) {
            self.size.recall(*median, SAMPLES_RECALLED);
            self.noted_size(now);
        }
    }

    /// Lets the shell know what a publication learnt of the custodians of its places.
    pub(super) fn report_places(&mut self, publish: &PublishJob) {
        let places = publish.items.iter().flat_map(|state| &state.places);
        let positions: BTreeSet<_> = places.map(|(_, position)| *position).collect();
        for position in positions {
            if let Some(known) = self.publishing.custodians.get_mut(&position)
                && std::mem::take(&mut known.unsaved)
            {
                let known = known.known(position);
                self.actions.push_back(Action::Places(PlaceChange::Put(known)));
            }
        }
    }

    /// Forgets the custodians of places where nothing of one's own is kept any more.
    pub(in super::super) fn forget_places(&mut self, now: Time) {
        let unused = self.config.republish_max.max(Duration::from_secs(1)) * UNUSED_INTERVALS;
        let actions = &mut self.actions;
        self.publishing.custodians.retain(|position, known| {
            let is_used = now.saturating_since(known.renewed) < unused;
            if !is_used {
                let change = PlaceChange::Remove { position: *position };
                actions.push_back(Action::Places(change));
            }
            is_used
        });
    }
}
