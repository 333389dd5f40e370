//! Tables as a long-lived network would have them, without the traffic that builds them.

use std::sync::Arc;

use comity_core::OverlayId;
use comity_overlay::{Config, Contact, K};

use crate::random::Random;
use crate::world::World;

/// All contacts of a network in the order of their places.
#[derive(Clone, Debug, Default)]
pub struct Ring {
    contacts: Vec<Contact>,
    /// The leading bits of their places: what a search looks at.
    leads: Vec<u64>,
}

impl Ring {
    /// Of contacts in the order of their overlay ids.
    #[must_use]
    pub fn of_sorted(contacts: Vec<Contact>) -> Self {
        let leads = contacts.iter().map(|contact| lead(&contact.overlay_id)).collect();
        Self { contacts, leads }
    }
}

const fn lead(id: &OverlayId) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = id.0;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// Starts all nodes of `world` with the tables and the size estimates of a network that has existed for long. `progress` hears how many
/// are done.
pub fn build_tables(
    world: &mut World,
    config: &Arc<Config>,
    random: &mut Random,
    mut progress: impl FnMut(usize),
) {
    let ring = Ring::of_sorted(world.services.places.sorted().cloned().collect());
    let size = world.nodes().len();
    for ix in 0..size {
        world.start(ix, Arc::clone(config));
        let table = ideal_table(random, &ring, &world.nodes()[ix].contact.overlay_id);
        world.preload(ix, table);
        world.preload_size(ix, size as u64);
        progress(ix + 1);
    }
}

/// Contacts for the table of the node at `me`: for each bucket up to [`K`] random members of it, far buckets first.
#[must_use]
pub fn ideal_table(random: &mut Random, ring: &Ring, me: &OverlayId) -> Vec<Contact> {
    let mut table = Vec::with_capacity(16 * K);
    let (mut low, mut high) = (0, ring.contacts.len());
    for depth in 0..u64::BITS {
        // ring[low..high] share `depth` bits with `me`; those that differ in the next one are a bucket.
        let bit = 1 << (u64::BITS - 1 - depth);
        let split = low + ring.leads[low..high].partition_point(|lead| lead & bit == 0);
        let (bucket, rest) = if lead(me) & bit == 0 {
            ((split, high), (low, split))
        } else {
            ((low, split), (split, high))
        };
        sample(random, &ring.contacts[bucket.0..bucket.1], &mut table);
        (low, high) = rest;
        if high - low <= 1 {
            break;
        }
    }
    table
}

/// Adds up to [`K`] of `contacts` to `table`.
fn sample(random: &mut Random, contacts: &[Contact], table: &mut Vec<Contact>) {
    if contacts.len() <= K {
        return table.extend_from_slice(contacts);
    }
    // Floyd's algorithm: K distinct indexes without listing all; in order, for the memory's sake.
    let mut chosen = [usize::MAX; K];
    for (at, last) in (contacts.len() - K..contacts.len()).enumerate() {
        let index = random.index(last + 1);
        let new = if chosen[..at].contains(&index) { last } else { index };
        let before = chosen[..at].partition_point(|known| *known < new);
        chosen.copy_within(before..at, before + 1);
        chosen[before] = new;
    }
    table.extend(chosen.iter().map(|index| contacts[*index].clone()));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use comity_core::Identity;

    use super::*;

    #[test]
    fn every_bucket_is_full_or_complete() {
        let mut random = Random::new(1, "test");
        let agent = Identity::from_secret_bytes(&[1; 32]).id();
        let addrs = vec!["10.0.0.1:1".parse().unwrap()];
        let mut all: Vec<_> = (0..500)
            .map(|_| Contact::server(agent, OverlayId(random.bytes()), addrs.clone()))
            .collect();
        all.sort_by_key(|contact| contact.overlay_id);
        let me = all[123].overlay_id;
        let count = |contacts: &[Contact]| {
            let mut buckets = BTreeMap::new();
            for contact in contacts.iter().filter(|contact| contact.overlay_id != me) {
                *buckets.entry(contact.overlay_id.common_prefix(&me)).or_insert(0_usize) += 1;
            }
            buckets
        };
        let (there, known) =
            (count(&all), count(&ideal_table(&mut random, &Ring::of_sorted(all.clone()), &me)));
        for (bucket, size) in there {
            assert_eq!(known.get(&bucket).copied().unwrap_or(0), size.min(K), "bucket {bucket}");
        }
    }
}
