//! Tables and custody as a long-lived network would have them, without the traffic that builds them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use comity_capability::keys::GroupKey;
use comity_capability::zone::ZoneMap;
use comity_core::{OverlayId, Time};
use comity_overlay::store::GroupName;
use comity_overlay::{
    Config, Contact, HOLDERS_MAX, ItemKind, K, LeafReport, PLACEMENTS, Place, Publication, Region,
    SHARD_DEPTH_MAX, ShardId, VerifiedItem, Verifier, directory, peer_position, summary_of,
};

use crate::random::Random;
use crate::world::{NodeIx, World};

/// Custodians of each placement of a shard that report what it holds, as in the overlay.
const REPORTERS: usize = 4;

/// Where peer records are in [`CustodyBuilder::places`].
const PEERS: u32 = 0;

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

fn short(index: usize) -> u32 {
    u32::try_from(index).expect("a simulation has fewer than 2^32 items and places")
}

fn index(name: u32) -> usize {
    usize::try_from(name).expect("a usize has at least 32 bits")
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
    world.preloaded();
}

/// How a custody was built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Built {
    /// Items stored, counted at each custodian and shard.
    pub entries: u64,
    /// Offers that a custody rule refused, and items that did not verify.
    pub refused: u64,
    /// Shards that are full, so that others lie below them.
    pub splits: u64,
}

/// What each node is to hold: the node, and indexes of [`CustodyBuilder::items`] and [`CustodyBuilder::places`], in parts for so many
/// nodes each. A part is large enough to go back to the system as a whole; a list for each node would leave holes everywhere.
#[derive(Debug)]
struct Offers {
    parts: Vec<Vec<(u32, u32, u32)>>,
    nodes_per_part: usize,
}

impl Offers {
    /// Parts, each of which is sorted and given back at once.
    const PARTS: usize = 64;

    fn new(nodes: usize) -> Self {
        let nodes_per_part = nodes.div_ceil(Self::PARTS).max(1);
        Self { parts: vec![Vec::new(); nodes.div_ceil(nodes_per_part)], nodes_per_part }
    }

    fn push(&mut self, ix: NodeIx, item: u32, at: u32) {
        self.parts[ix / self.nodes_per_part].push((short(ix), item, at));
    }
}

/// Stores what publishers published on the true custodians of its places: everyone up inside the region where `holders` nodes are
/// expected and at least the `holders` nearest. Groups are split as they would be, had the publishers come one after the other.
#[derive(Debug)]
pub struct CustodyBuilder {
    now: Time,
    holders: usize,
    shard_digests: u32,
    region: Region,
    /// Custodians of the positions that more than one digest was stored under.
    custodians: BTreeMap<OverlayId, Arc<[NodeIx]>>,
    /// Their contacts.
    known: BTreeMap<OverlayId, Arc<[Contact]>>,
    /// Groups seen so far by their labels, one copy each.
    groups: BTreeMap<Arc<str>, Arc<GroupName>>,
    /// Digests of each shard, and where it is in `places`.
    counts: BTreeMap<ShardId, (u32, u32)>,
    /// What everybody published.
    items: Vec<VerifiedItem>,
    /// Where items are stored: peer records at the first, and each shard with its group.
    places: Vec<(Place, Arc<GroupName>)>,
    /// What each node is to hold: a node's custody is built in one go, when all is known.
    offers: Offers,
    /// What the members of each shard below the top of its group have in common.
    zones: BTreeMap<ShardId, ZoneMap>,
    built: Built,
}

impl CustodyBuilder {
    /// For the nodes of `world` that are up.
    #[must_use]
    pub fn new(world: &World, config: &Config) -> Self {
        let size = world.nodes().iter().filter(|node| node.is_up()).count() as u64;
        let holders = config.holders.max(1);
        Self {
            now: world.now(),
            holders,
            shard_digests: u32::try_from(config.shard_digests).unwrap_or(u32::MAX).max(1),
            region: Region::expected(holders, size),
            custodians: BTreeMap::new(),
            known: BTreeMap::new(),
            groups: BTreeMap::new(),
            counts: BTreeMap::new(),
            items: Vec::new(),
            places: vec![(Place::Peer, Arc::new(GroupName::of(Arc::from(""))))],
            offers: Offers::new(world.nodes().len()),
            zones: BTreeMap::new(),
            built: Built::default(),
        }
    }

    /// Stores what the node `ix` publishes and lets it know whom with.
    pub fn publish(&mut self, world: &mut World, ix: NodeIx, items: Vec<Publication>) {
        let me = world.nodes()[ix].contact.clone();
        let mut verified = Vec::with_capacity(items.len());
        for Publication { item, labels } in items {
            match world.services.verify(self.now, &item) {
                Ok(item) => verified.push((item, labels)),
                Err(_) => self.built.refused += 1,
            }
        }
        // Beats are kept beside digests only.
        verified.sort_by_key(|(item, _)| item.key().kind != ItemKind::Digest);
        let mut places: BTreeMap<OverlayId, Arc<[NodeIx]>> = BTreeMap::new();
        let mut depths = BTreeMap::new();
        // Where the digests went, to send the beat after them: once to each custodian.
        let mut beside: BTreeMap<NodeIx, u32> = BTreeMap::new();
        for (item, labels) in &verified {
            let name = short(self.items.len());
            self.items.push(item.clone());
            match item.key().kind {
                ItemKind::Digest => {
                    for label in labels {
                        let (shard, at) = self.shard_for(label, item);
                        if shard.depth > 0 {
                            depths.insert(shard.group, shard.depth);
                        }
                        for index in 0..PLACEMENTS {
                            let position = shard.position(index);
                            let custodians = self.of_shard(world, &shard, position);
                            self.offer(&custodians, name, at);
                            for custodian in custodians.iter() {
                                beside.entry(*custodian).or_insert(at);
                            }
                            places.insert(position, custodians);
                        }
                    }
                }
                // A built network has no private groups.
                ItemKind::Veiled => {}
                ItemKind::Beat | ItemKind::Tombstone => {
                    for (custodian, at) in &beside {
                        self.offers.push(*custodian, name, *at);
                    }
                }
                ItemKind::Peer => {
                    let mut all = BTreeSet::new();
                    for position in [me.overlay_id, peer_position(&me.agent)] {
                        let custodians = self.of_place(world, &position);
                        all.extend(custodians.iter().copied());
                        places.insert(position, custodians);
                    }
                    let all: Vec<_> = all.into_iter().collect();
                    self.offer(&all, name, PEERS);
                }
            }
        }
        let places = places.into_iter();
        let places =
            places.map(|(position, of)| (position, self.contacts(world, ix, position, &of)));
        let places: Vec<_> = places.collect();
        let published = verified.into_iter().map(|(item, labels)| {
            let labels = labels.iter().map(|label| Arc::clone(&self.group(label).label)).collect();
            (item, labels)
        });
        let published: Vec<_> = published.collect();
        if let Some(overlay) = &mut world.node_mut(ix).overlay {
            overlay.preload_published(self.now, published, places);
            depths.into_iter().for_each(|(group, depth)| overlay.preload_depth(group, depth));
        }
    }

    /// Gives every node what it holds, and lets the custodians of full shards and of those below them know of each other.
    pub fn finish(mut self, world: &mut World) -> Built {
        for mut part in std::mem::take(&mut self.offers.parts) {
            // Stable: what a node is offered stays in the order it was published in.
            part.sort_by_key(|(ix, ..)| *ix);
            for offers in part.chunk_by(|a, b| a.0 == b.0) {
                let Some(overlay) = &mut world.node_mut(index(offers[0].0)).overlay else {
                    continue;
                };
                let offers = offers.iter().map(|(_, item, at)| {
                    let (place, group) = &self.places[index(*at)];
                    (self.items[index(*item)].clone(), *place, group)
                });
                let (stored, refused) = overlay.preload_whole_custody(self.now, offers);
                self.built.entries += stored;
                self.built.refused += refused;
            }
        }
        let full = self.counts.iter().filter(|(_, (count, _))| *count >= self.shard_digests);
        let full: BTreeSet<_> = full.map(|(shard, _)| *shard).collect();
        let mut branches: BTreeMap<ShardId, Vec<LeafReport>> =
            full.iter().map(|shard| (*shard, Vec::new())).collect();
        for (shard, zone) in std::mem::take(&mut self.zones) {
            let count = self.counts.get(&shard).map_or(0, |(count, _)| *count);
            let placements = (0..PLACEMENTS).map(|index| shard.position(index));
            let custodians: Vec<_> =
                placements.map(|position| self.of_shard(world, &shard, position)).collect();
            let nearest = (0..).zip(&custodians).flat_map(|(placement, custodians)| {
                custodians.iter().take(REPORTERS).map(move |ix| (*ix, placement))
            });
            let reporters =
                nearest.map(|(ix, at)| (world.nodes()[ix].contact.clone(), at)).collect();
            let report = LeafReport { shard, count, zone, reporters };
            for ix in distinct(&custodians) {
                if let Some(overlay) = &mut world.node_mut(ix).overlay {
                    overlay.preload_leaf(self.now, &report);
                }
            }
            branches.entry(summary_of(&shard)).or_default().push(report);
        }
        for (shard, below) in branches {
            let is_split = full.contains(&shard);
            self.built.splits += u64::from(is_split);
            let placements = (0..PLACEMENTS).map(|index| shard.position(index));
            let custodians: Vec<_> =
                placements.map(|position| self.of_shard(world, &shard, position)).collect();
            for ix in distinct(&custodians) {
                if let Some(overlay) = &mut world.node_mut(ix).overlay {
                    overlay.preload_branch(self.now, shard, is_split, &below);
                }
            }
        }
        world.preloaded();
        self.built
    }

    fn group(&mut self, label: &str) -> &Arc<GroupName> {
        if !self.groups.contains_key(label) {
            let label: Arc<str> = Arc::from(label);
            let new = Arc::new(GroupName::of(Arc::clone(&label)));
            self.groups.insert(label, new);
        }
        &self.groups[label]
    }

    /// The shard that a digest new in the group of `label` goes to, the first that is not full on the way down, and where that is in
    /// `places`.
    fn shard_for(&mut self, label: &str, item: &VerifiedItem) -> (ShardId, u32) {
        let group = GroupKey::of(label);
        let shards = (0..=SHARD_DEPTH_MAX).map(|depth| ShardId::of(group, depth, &item.signer));
        let full = self.shard_digests;
        let mut open =
            shards.filter(|shard| self.counts.get(shard).is_none_or(|(held, _)| *held < full));
        let shard = open.next().unwrap_or_else(|| ShardId::whole(group));
        if !self.counts.contains_key(&shard) {
            let group = Arc::clone(self.group(label));
            self.counts.insert(shard, (0, short(self.places.len())));
            // Custody does not ask for which of its placements a shard is stored.
            self.places.push((Place::Shard { shard, index: 0 }, group));
        }
        let (count, at) = self.counts.entry(shard).or_default();
        *count += 1;
        if let Some(digest) = directory::digest(item) {
            // Summary shards report what lies below them too.
            let mut told = shard;
            while told.depth > 0 {
                self.zones.entry(told).or_default().add(digest);
                told = summary_of(&told);
            }
        }
        (shard, *at)
    }

    fn of_shard(&mut self, world: &World, shard: &ShardId, position: OverlayId) -> Arc<[NodeIx]> {
        if let Some(known) = self.custodians.get(&position) {
            return Arc::clone(known);
        }
        let custodians = self.of_place(world, &position);
        // Most groups have one member, and nobody comes back for their custodians.
        if self.counts.get(shard).is_some_and(|(held, _)| *held > 1) {
            self.custodians.insert(position, Arc::clone(&custodians));
        }
        custodians
    }

    /// The contacts of custodians other than the node `ix`: one list for all who publish at a place and do not keep it.
    fn contacts(
        &mut self,
        world: &World,
        ix: NodeIx,
        position: OverlayId,
        custodians: &[NodeIx],
    ) -> Arc<[Contact]> {
        let is_shared = !custodians.contains(&ix) && self.custodians.contains_key(&position);
        if let Some(known) = self.known.get(&position).filter(|_| is_shared) {
            return Arc::clone(known);
        }
        let others: Vec<_> = custodians.iter().filter(|custodian| **custodian != ix).collect();
        let contact = |custodian: &NodeIx| world.nodes()[*custodian].contact.clone();
        let contacts: Arc<[Contact]> = others.into_iter().map(contact).collect();
        if is_shared {
            self.known.insert(position, Arc::clone(&contacts));
        }
        contacts
    }

    fn of_place(&self, world: &World, position: &OverlayId) -> Arc<[NodeIx]> {
        let inside =
            |ix: &NodeIx| self.region.contains(position, &world.nodes()[*ix].contact.overlay_id);
        // Three times as many as expected are there once in a hundred thousand times.
        let mut nearest = Vec::new();
        for count in [3 * self.holders, HOLDERS_MAX] {
            nearest = world.nearest(position, count, |_, node| node.is_up());
            if nearest.len() < count || !nearest.last().is_some_and(inside) {
                break;
            }
        }
        let kept = nearest.iter().enumerate();
        let kept = kept.take_while(|(rank, ix)| *rank < self.holders || inside(ix)).count();
        nearest.truncate(kept);
        nearest.into()
    }

    fn offer(&mut self, custodians: &[NodeIx], item: u32, at: u32) {
        for ix in custodians {
            self.offers.push(*ix, item, at);
        }
    }
}

/// Who is in any of the lists, each once.
fn distinct(lists: &[Arc<[NodeIx]>]) -> BTreeSet<NodeIx> {
    lists.iter().flat_map(|list| list.iter().copied()).collect()
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
