//! Nodes that break the rules on purpose.
//!
//! An adversary runs the production machine like everyone and bends what goes in and out. It answers pings, so that it stays in
//! tables. Whoever publishes what is not true (liars, stuffers, floods) does so with an honest machine: see [`crate::publisher`].

mod kinds;

use std::fmt;

use comity_core::OverlayId;
use comity_overlay::wire::{CONTACTS_MAX, Request, Response};
use comity_overlay::{Contact, ItemBytes};

pub use kinds::{Dropper, Eclipser, Forger, Misrouter, Omitter, Splitter, Staler};

/// What an adversary does with a request.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Lets its machine answer.
    Pass,
    /// Says nothing.
    Drop,
    /// Says this instead.
    Answer(Response),
}

/// All adversaries of a simulation: they know each other.
#[derive(Clone, Debug, Default)]
pub struct Colluders {
    /// In the order of their overlay ids.
    sorted: Vec<Contact>,
}

impl Colluders {
    /// These nodes.
    #[must_use]
    pub fn new(mut contacts: Vec<Contact>) -> Self {
        contacts.sort_by_key(|contact| contact.overlay_id);
        Self { sorted: contacts }
    }

    /// The colluders nearest to `target`, nearest first, as many as fit an answer.
    #[must_use]
    pub fn nearest(&self, target: &OverlayId) -> Vec<Contact> {
        let mut found = Vec::with_capacity(CONTACTS_MAX);
        collect(&self.sorted, target, 0, &mut found);
        found
    }
}

/// Adds members of `range`, which share `depth` bits, to `found`, those nearest to `target` first.
fn collect(range: &[Contact], target: &OverlayId, depth: u32, found: &mut Vec<Contact>) {
    if range.is_empty() || found.len() >= CONTACTS_MAX {
        return;
    }
    if range.len() == 1 || depth >= 256 {
        found.extend(range.iter().take(CONTACTS_MAX - found.len()).cloned());
        return;
    }
    let split = range.partition_point(|contact| !contact.overlay_id.bit(depth));
    let (zeros, ones) = range.split_at(split);
    let (near, far) = if target.bit(depth) { (ones, zeros) } else { (zeros, ones) };
    collect(near, target, depth + 1, found);
    collect(far, target, depth + 1, found);
}

/// One node's misbehaviour.
pub trait Adversary: fmt::Debug {
    /// A request arrived.
    fn on_request(&mut self, colluders: &Colluders, from: &Contact, request: &Request) -> Verdict;

    /// What is sent instead of the machine's own answer to a request that passed; `None`: the answer as it is.
    fn on_response(&mut self, colluders: &Colluders, response: &Response) -> Option<Response> {
        let (_, _) = (colluders, response);
        None
    }
}

/// What stands before the signer's key in every item: the item's kind (one byte, any), COSE_Sign1 of four parts, and a protected
/// header with algorithm, content type and `kid`.
const BEFORE_CONTENT_TYPE: usize = 10;
const CONTENT_TYPE: &[u8] = b"application/comity+cbor";
const BEFORE_KEY: usize = BEFORE_CONTENT_TYPE + CONTENT_TYPE.len() + 3;

/// The key that an item names as its signer, read without checking anything. `None`: it is no item.
#[must_use]
pub fn signer_of(item: &ItemBytes) -> Option<[u8; 32]> {
    let content_type = item.get(BEFORE_CONTENT_TYPE..BEFORE_CONTENT_TYPE + CONTENT_TYPE.len())?;
    let key = item.get(BEFORE_KEY..BEFORE_KEY + 32)?;
    (content_type == CONTENT_TYPE).then(|| key.try_into().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use comity_capability::record::{Beat, Load, Status};
    use comity_core::{Identity, Time};
    use comity_overlay::ItemKind;
    use comity_overlay::directory::pack;

    use super::*;
    use crate::random::Random;

    #[test]
    fn the_signer_is_where_it_is_looked_for() {
        let identity = Identity::from_secret_bytes(&[3; 32]);
        let now = Time::from_secs(1_800_000_000);
        let beat = Beat::new(1, now, now, Status::Warm, Load::Idle);
        let item = pack(ItemKind::Beat, &beat.seal(&identity));
        assert_eq!(signer_of(&item), Some(*identity.id().as_bytes()));
        assert_eq!(signer_of(&item[..40].into()), None);
    }

    #[test]
    fn colluders_come_nearest_first() {
        let mut random = Random::new(1, "test");
        let agent = Identity::from_secret_bytes(&[1; 32]).id();
        let all: Vec<_> = (0..300)
            .map(|_| Contact::server(agent, OverlayId(random.bytes()), Vec::new()))
            .collect();
        let colluders = Colluders::new(all.clone());
        for _ in 0..50 {
            let target = OverlayId(random.bytes());
            let mut distances: Vec<_> =
                all.iter().map(|contact| contact.overlay_id.distance(&target)).collect();
            distances.sort_unstable();
            let found: Vec<_> = colluders
                .nearest(&target)
                .iter()
                .map(|contact| contact.overlay_id.distance(&target))
                .collect();
            assert_eq!(found, distances[..CONTACTS_MAX]);
        }
        assert!(Colluders::default().nearest(&OverlayId([0; 32])).is_empty());
    }
}
