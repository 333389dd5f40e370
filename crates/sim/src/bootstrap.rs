//! Tables as a long-lived network would have them, without the traffic that builds them.

use comity_core::OverlayId;
use comity_overlay::{Contact, K};

use crate::random::Random;

/// Contacts for the table of the node at `me`: for each bucket up to [`K`] random members of it.
///
/// `sorted` holds all contacts of the network in the order of their overlay ids.
#[must_use]
pub fn ideal_table(random: &mut Random, sorted: &[Contact], me: &OverlayId) -> Vec<Contact> {
    let mut table = Vec::new();
    let (mut low, mut high) = (0, sorted.len());
    for depth in 0..256 {
        // sorted[low..high] share `depth` bits with `me`; those that differ in the next one are a bucket.
        let split =
            low + sorted[low..high].partition_point(|contact| !contact.overlay_id.bit(depth));
        let (bucket, rest) = if me.bit(depth) {
            ((low, split), (split, high))
        } else {
            ((split, high), (low, split))
        };
        table.extend(sample(random, &sorted[bucket.0..bucket.1]));
        (low, high) = rest;
        if high - low <= 1 {
            break;
        }
    }
    table
}

/// Up to [`K`] of `contacts`.
fn sample(random: &mut Random, contacts: &[Contact]) -> Vec<Contact> {
    if contacts.len() <= K {
        return contacts.to_vec();
    }
    // Floyd's algorithm: K distinct indexes without listing all.
    let mut chosen = std::collections::BTreeSet::new();
    for last in contacts.len() - K..contacts.len() {
        let index = random.index(last + 1);
        if !chosen.insert(index) {
            chosen.insert(last);
        }
    }
    chosen.into_iter().map(|index| contacts[index].clone()).collect()
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
        let (there, known) = (count(&all), count(&ideal_table(&mut random, &all, &me)));
        for (bucket, size) in there {
            assert_eq!(known.get(&bucket).copied().unwrap_or(0), size.min(K), "bucket {bucket}");
        }
    }
}
