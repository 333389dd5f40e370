//! Nodes that publish: their specs, their sealed items, and the register of all that was ever declared.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use comity_capability::record::{Beat, Load, PeerRecord, Status, Tombstone};
use comity_core::{AgentId, Hash, Identity, Time};
use comity_overlay::directory::pack;
use comity_overlay::{ItemKey, ItemKind, Publication, Subject, VerifiedItem};

use crate::node::Node;
use crate::workload::{Question, Spec, digests};
use crate::world::NodeIx;

/// Items that were found genuine and need not be sealed again to see it.
const GENUINE_MAX: usize = 1 << 18;

/// How a publisher keeps to the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Truth {
    /// It has what it declares.
    Honest,
    /// It has not: whoever probes it finds out.
    Lies,
}

/// One publishing node.
#[derive(Clone, Debug)]
pub(crate) struct Publisher {
    pub(crate) specs: Vec<Arc<Spec>>,
    pub(crate) truth: Truth,
    /// Its sequence number; counts up with every sealing of digests.
    pub(crate) seq: u64,
    /// When digests of this number were sealed.
    pub(crate) sealed_at: Time,
    /// From which number on it has declared how many capabilities.
    sizes: Vec<(u64, usize)>,
    /// How far its clock is off, in microseconds.
    pub(crate) clock: i64,
    /// A publication of its items has ended well.
    pub(crate) published: bool,
    /// It is leaving.
    pub(crate) leaving: bool,
    /// Its custodians were told.
    pub(crate) retired: bool,
}

impl Publisher {
    /// What it had declared when its number was `seq`.
    fn specs_at(&self, seq: u64) -> &[Arc<Spec>] {
        let then = self.sizes.iter().rev().find(|(from, _)| *from <= seq);
        self.specs.get(..then.map_or(0, |(_, size)| *size)).unwrap_or(&self.specs)
    }

    /// What its clock shows.
    fn clock(&self, now: Time) -> Time {
        let off = Duration::from_micros(self.clock.unsigned_abs());
        if self.clock < 0 { now - off } else { now + off }
    }
}

/// A declared capability and whose it is.
#[derive(Clone, Debug)]
pub(crate) struct Declared {
    pub(crate) node: NodeIx,
    pub(crate) spec: Arc<Spec>,
}

/// Index of a declared capability.
pub(crate) type SpecIx = u32;

/// How long what is sealed lives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lives {
    pub(crate) digest: Duration,
    pub(crate) beat: Duration,
}

/// Everything that was declared.
#[derive(Debug, Default)]
pub(crate) struct Register {
    pub(crate) publishers: BTreeMap<NodeIx, Publisher>,
    declared: Vec<Declared>,
    by_key: BTreeMap<ItemKey, SpecIx>,
    by_agent: BTreeMap<AgentId, NodeIx>,
    /// What honest publishers declare, by name, entity, class and topic.
    by_name: BTreeMap<String, Vec<SpecIx>>,
    by_pair: BTreeMap<u32, Vec<SpecIx>>,
    by_class: BTreeMap<usize, Vec<SpecIx>>,
    by_topic: BTreeMap<u32, Vec<SpecIx>>,
    genuine: BTreeSet<Hash>,
}

impl Register {
    /// Makes `ix` a publisher of `specs`.
    pub(crate) fn enlist(&mut self, ix: NodeIx, node: &Node, specs: Vec<Spec>, truth: Truth) {
        let specs: Vec<_> = specs.into_iter().map(Arc::new).collect();
        self.declare(ix, node, &specs, truth);
        let publisher = Publisher {
            specs,
            truth,
            seq: 0,
            sealed_at: Time::ZERO,
            sizes: Vec::new(),
            clock: 0,
            published: false,
            leaving: false,
            retired: false,
        };
        self.by_agent.insert(node.contact.agent, ix);
        self.publishers.insert(ix, publisher);
    }

    /// Lets a publisher declare more.
    pub(crate) fn extend(&mut self, ix: NodeIx, node: &Node, more: Vec<Spec>) {
        let Some(publisher) = self.publishers.get_mut(&ix) else { return };
        let truth = publisher.truth;
        let more: Vec<_> = more.into_iter().map(Arc::new).collect();
        publisher.specs.extend(more.iter().cloned());
        self.declare(ix, node, &more, truth);
    }

    fn declare(&mut self, ix: NodeIx, node: &Node, specs: &[Arc<Spec>], truth: Truth) {
        for spec in specs {
            let at = SpecIx::try_from(self.declared.len()).expect("fewer capabilities than 2^32");
            self.by_key.insert(key_of(node, spec), at);
            if truth == Truth::Honest {
                self.by_name.entry(spec.name.clone()).or_default().push(at);
                for pair in &spec.pairs {
                    self.by_pair.entry(*pair).or_default().push(at);
                }
                self.by_class.entry(spec.class).or_default().push(at);
                if let Some(topic) = spec.topic {
                    self.by_topic.entry(topic).or_default().push(at);
                }
            }
            self.declared.push(Declared { node: ix, spec: Arc::clone(spec) });
        }
    }

    /// Which node an agent that publishes is.
    pub(crate) fn node_of(&self, agent: &AgentId) -> Option<NodeIx> {
        self.by_agent.get(agent).copied()
    }

    /// What the digest about `key` says, and whose it is.
    pub(crate) fn find(&self, key: &ItemKey) -> Option<(SpecIx, &Declared)> {
        let at = *self.by_key.get(key)?;
        self.declared(at).map(|declared| (at, declared))
    }

    pub(crate) fn declared(&self, at: SpecIx) -> Option<&Declared> {
        self.declared.get(usize::try_from(at).ok()?)
    }

    /// What the digest of a declared capability is about.
    pub(crate) fn key(&self, at: SpecIx, nodes: &[Node]) -> Option<ItemKey> {
        let declared = self.declared(at)?;
        Some(key_of(nodes.get(declared.node)?, &declared.spec))
    }

    /// What honest publishers declared that answers `question`, in order, whether they are there or not.
    pub(crate) fn answers(&self, question: &Question) -> Vec<SpecIx> {
        let lists = [
            question.name.as_ref().map(|name| self.by_name.get(name)),
            question.pair.map(|pair| self.by_pair.get(&pair)),
            question.topic.map(|(topic, _)| self.by_topic.get(&topic)),
            question.class.map(|class| self.by_class.get(&class)),
        ];
        let Some(list) = lists.into_iter().flatten().min_by_key(|list| list.map_or(0, Vec::len))
        else {
            return Vec::new();
        };
        let fits = |at: &SpecIx| {
            self.declared(*at).is_some_and(|declared| declared.spec.answers(question))
        };
        list.into_iter().flatten().copied().filter(fits).collect()
    }

    /// All items of a publisher, freshly sealed.
    pub(crate) fn seal(
        &mut self,
        ix: NodeIx,
        node: &Node,
        now: Time,
        lives: Lives,
    ) -> Vec<Publication> {
        let Some(publisher) = self.publishers.get_mut(&ix) else { return Vec::new() };
        publisher.seq += 1;
        if publisher.sizes.last().is_none_or(|(_, size)| *size != publisher.specs.len()) {
            publisher.sizes.push((publisher.seq, publisher.specs.len()));
        }
        let now = publisher.clock(now);
        publisher.sealed_at = now;
        let (seq, expires, identity) = (publisher.seq, now + lives.digest, node.identity());
        let mut items = Vec::new();
        for (digest, labels) in digests(&publisher.specs, seq, now, expires) {
            items.push(Publication {
                item: pack(ItemKind::Digest, &digest.seal(&identity)),
                labels,
            });
        }
        items.push(seal_beat(&identity, seq, now, now + lives.beat));
        items.push(seal_peer(node, &identity, seq, now, expires));
        items
    }

    /// A beat that extends what was sealed last; `None` before anything was.
    pub(crate) fn beat(
        &self,
        ix: NodeIx,
        node: &Node,
        now: Time,
        lives: Lives,
    ) -> Option<Publication> {
        let publisher = self.publishers.get(&ix).filter(|publisher| publisher.seq > 0)?;
        let now = publisher.clock(now);
        Some(seal_beat(&node.identity(), publisher.seq, now, now + lives.beat))
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

    /// Whether the publisher at `ix` sealed exactly this item: it is sealed again, which gives the same bytes, and compared.
    pub(crate) fn is_genuine(&mut self, ix: NodeIx, node: &Node, item: &VerifiedItem) -> bool {
        let name = Hash::of(&item.bytes);
        if self.genuine.contains(&name) {
            return true;
        }
        let Some(publisher) = self.publishers.get(&ix) else { return false };
        let (seq, issued, expires) = (item.seq, item.issued, item.expires);
        let again = match item.content.kind() {
            ItemKind::Digest => digests(publisher.specs_at(seq), seq, issued, expires)
                .into_iter()
                .find(|(digest, _)| Some(Subject::of(&digest.name)) == item.subject)
                .map(|(digest, _)| pack(ItemKind::Digest, &digest.seal(&node.identity()))),
            ItemKind::Beat => Some(seal_beat(&node.identity(), seq, issued, expires).item),
            ItemKind::Peer => Some(seal_peer(node, &node.identity(), seq, issued, expires).item),
            ItemKind::Tombstone | ItemKind::Veiled => None,
        };
        let genuine = seq <= publisher.seq && again.as_ref() == Some(&item.bytes);
        if genuine {
            if self.genuine.len() >= GENUINE_MAX {
                self.genuine.clear();
            }
            self.genuine.insert(name);
        }
        genuine
    }
}

fn seal_beat(identity: &Identity, seq: u64, issued: Time, expires: Time) -> Publication {
    let beat = Beat::new(seq, issued, expires, Status::Warm, Load::Idle);
    Publication::unlabelled(pack(ItemKind::Beat, &beat.seal(identity)))
}

fn seal_peer(
    node: &Node,
    identity: &Identity,
    seq: u64,
    issued: Time,
    expires: Time,
) -> Publication {
    let peer = PeerRecord::new(seq, issued, expires, &node.contact.addrs, node.contact.server);
    Publication::unlabelled(pack(ItemKind::Peer, &peer.seal(identity)))
}

/// What the digest of `spec` by `node` is about.
pub(crate) fn key_of(node: &Node, spec: &Spec) -> ItemKey {
    ItemKey {
        signer: node.contact.agent,
        kind: ItemKind::Digest,
        subject: Some(Subject::of(&spec.name)),
    }
}
