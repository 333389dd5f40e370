//! Nodes that publish: their specs, their sealed items, and the register of all that was ever sealed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use comity_capability::record::{Beat, Load, PeerRecord, Status, Tombstone};
use comity_core::Time;
use comity_overlay::directory::pack;
use comity_overlay::{ItemBytes, ItemKey, ItemKind, Publication, Subject};

use crate::node::Node;
use crate::workload::{Spec, digests};
use crate::world::NodeIx;

/// One publishing node.
#[derive(Clone, Debug)]
pub(crate) struct Publisher {
    pub(crate) specs: Vec<Spec>,
    /// Its sequence number; counts up with every sealing.
    pub(crate) seq: u64,
    /// A publication of its items has ended well.
    pub(crate) published: bool,
    /// It is leaving.
    pub(crate) leaving: bool,
    /// Its custodians were told.
    pub(crate) retired: bool,
}

/// Everything that was sealed, and what it says.
#[derive(Debug, Default)]
pub(crate) struct Register {
    pub(crate) publishers: BTreeMap<NodeIx, Publisher>,
    sealed: BTreeSet<ItemBytes>,
    specs: BTreeMap<ItemKey, (NodeIx, Spec)>,
}

impl Register {
    /// Makes `ix` a publisher of `specs`.
    pub(crate) fn enlist(&mut self, ix: NodeIx, node: &Node, specs: Vec<Spec>) {
        for spec in &specs {
            self.specs.insert(key_of(node, spec), (ix, spec.clone()));
        }
        self.publishers.insert(
            ix,
            Publisher { specs, seq: 0, published: false, leaving: false, retired: false },
        );
    }

    /// Whether `bytes` were sealed by a node of this simulation.
    pub(crate) fn knows(&self, bytes: &ItemBytes) -> bool {
        self.sealed.contains(bytes)
    }

    /// What the digest about `key` says.
    pub(crate) fn spec(&self, key: &ItemKey) -> Option<&(NodeIx, Spec)> {
        self.specs.get(key)
    }

    /// All items of a publisher, freshly sealed.
    pub(crate) fn seal(
        &mut self,
        ix: NodeIx,
        node: &Node,
        now: Time,
        digest_life: Duration,
        beat_life: Duration,
    ) -> Vec<Publication> {
        let Some(publisher) = self.publishers.get_mut(&ix) else { return Vec::new() };
        publisher.seq += 1;
        let (seq, expires, identity) = (publisher.seq, now + digest_life, node.identity());
        let mut items = Vec::new();
        for (digest, labels) in digests(&publisher.specs, seq, now, expires) {
            items.push(Publication {
                item: pack(ItemKind::Digest, &digest.seal(&identity)),
                labels,
            });
        }
        let beat = Beat::new(seq, now, now + beat_life, Status::Warm, Load::Idle);
        items.push(Publication::unlabelled(pack(ItemKind::Beat, &beat.seal(&identity))));
        let peer = PeerRecord::new(seq, now, expires, &node.contact.addrs, node.contact.server);
        items.push(Publication::unlabelled(pack(ItemKind::Peer, &peer.seal(&identity))));
        self.sealed.extend(items.iter().map(|publication| publication.item.clone()));
        items
    }

    /// The withdrawal of all a publisher's digests.
    ///
    /// # Panics
    /// When the capability crate refuses a tombstone for everything: a fault of one of the two.
    pub(crate) fn tombstone(
        &mut self,
        ix: NodeIx,
        node: &Node,
        now: Time,
        digest_life: Duration,
    ) -> Option<Publication> {
        let publisher = self.publishers.get_mut(&ix)?;
        publisher.leaving = true;
        let tombstone = Tombstone::new(publisher.seq, now, now + digest_life, None)
            .expect("no capability name to refuse");
        Some(Publication::unlabelled(pack(ItemKind::Tombstone, &tombstone.seal(&node.identity()))))
    }
}

/// What the digest of `spec` by `node` is about.
pub(crate) fn key_of(node: &Node, spec: &Spec) -> ItemKey {
    ItemKey {
        signer: node.contact.agent,
        kind: ItemKind::Digest,
        subject: Some(Subject::of(&spec.name)),
    }
}
