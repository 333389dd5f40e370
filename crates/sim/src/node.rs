//! One simulated node, and what must always be true of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use comity_core::{AgentId, Identity, Time};
use comity_overlay::{
    CommandId, Contact, CustodyRow, ITEMS_PER_PUBLISHER_MAX, IpPrefix, ItemKey, ItemKind, K,
    KnownPlace, Overlay, PREFIX_PER_TABLE_MAX, SHARD_DIGESTS_MAX,
};

use crate::adversary::Adversary;
use crate::check::{Rule, Violations};
use crate::link::Line;
use crate::world::{NodeIx, Op};

/// Longest that an expired item may still be held: custody is swept every maintenance round, and rounds are a minute apart by
/// default, ten in the longest scenario.
const SWEEP_MAX: Duration = Duration::from_secs(1_200);

/// What a crashed node finds on its disk.
#[derive(Clone, Debug, Default)]
pub struct Saved {
    /// Its custody.
    pub custody: Vec<(ItemKey, CustodyRow)>,
    /// Its table, nearest first.
    pub peers: Vec<Contact>,
    /// Who kept what it published.
    pub places: Vec<KnownPlace>,
}

/// What a shell would have on its disk, kept from the machine's own reports.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shadow {
    pub(crate) custody: BTreeMap<ItemKey, CustodyRow>,
    pub(crate) peers: BTreeMap<AgentId, Contact>,
    /// Who ever answered this incarnation.
    pub(crate) answered: BTreeSet<AgentId>,
}

static NO_SHADOW: Shadow =
    Shadow { custody: BTreeMap::new(), peers: BTreeMap::new(), answered: BTreeSet::new() };

/// A node.
#[derive(Debug)]
pub struct Node {
    /// How others know it.
    pub contact: Contact,
    /// Its end of the links.
    pub line: Line,
    /// Its side of a partition.
    pub side: bool,
    /// Its misbehaviour.
    pub adversary: Option<Box<dyn Adversary>>,
    /// Its machine while it is up.
    pub overlay: Option<Box<Overlay>>,
    /// Messages it sent.
    pub messages_sent: u64,
    /// Bytes it sent.
    pub bytes_sent: u64,
    pub(crate) incarnation: u32,
    pub(crate) wake: Option<Time>,
    pub(crate) open: BTreeMap<CommandId, Op>,
    pub(crate) saved: Option<Box<Saved>>,
    /// Kept only when the run compares.
    pub(crate) shadow: Option<Box<Shadow>>,
    pub(crate) up_since: Time,
    up_before: Duration,
    /// What its key is made from: the key itself takes seven times the room.
    secret: [u8; 32],
}

impl Node {
    pub(crate) fn new(secret: [u8; 32], contact: Contact, line: Line) -> Self {
        Self {
            contact,
            line,
            side: false,
            adversary: None,
            overlay: None,
            messages_sent: 0,
            bytes_sent: 0,
            incarnation: 0,
            wake: None,
            open: BTreeMap::new(),
            saved: None,
            shadow: None,
            up_since: Time::ZERO,
            up_before: Duration::ZERO,
            secret,
        }
    }

    /// Its key; made anew each time.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity::from_secret_bytes(&self.secret)
    }

    /// Whether it runs.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        self.overlay.is_some()
    }

    /// Whether it keeps the rules.
    #[must_use]
    pub const fn is_honest(&self) -> bool {
        self.adversary.is_none()
    }

    /// How long it has run, all incarnations together.
    #[must_use]
    pub fn uptime(&self, now: Time) -> Duration {
        let running =
            if self.is_up() { now.saturating_since(self.up_since) } else { Duration::ZERO };
        self.up_before + running
    }

    /// Approximate bytes of its state: table entries at their size in memory with one address each, and custody as it counts itself.
    #[must_use]
    pub fn state_bytes(&self) -> usize {
        let Some(overlay) = &self.overlay else { return 0 };
        let stats = overlay.stats();
        let entry = comity_overlay::table::ENTRY_BYTES + size_of::<std::net::SocketAddr>();
        size_of::<Overlay>() + stats.peers * entry + stats.custody_bytes
    }

    /// Its machine, if it is still the same run of it.
    pub(crate) fn current(&mut self, incarnation: u32) -> Option<&mut Overlay> {
        self.overlay.as_deref_mut().filter(|_| self.incarnation == incarnation)
    }

    pub(crate) fn shadow_mut(&mut self) -> &mut Shadow {
        self.shadow.get_or_insert_default()
    }

    /// Everything that ends with the process.
    pub(crate) fn down(&mut self, now: Time) {
        self.up_before += now.saturating_since(self.up_since);
        self.incarnation += 1;
        self.wake = None;
        self.open.clear();
        self.shadow = None;
    }

    /// Checks the invariants of table, custody and persistence. `is_true` says whether an agent is where a contact says.
    pub(crate) fn check(
        &self,
        ix: NodeIx,
        now: Time,
        shadow: bool,
        is_true: &dyn Fn(&Contact) -> bool,
        violations: &mut Violations,
    ) {
        let Some(overlay) = &self.overlay else { return };
        self.check_table(overlay, ix, now, shadow, is_true, violations);
        self.check_custody(overlay, ix, now, violations);
        if shadow {
            let kept = self.shadow.as_deref().unwrap_or(&NO_SHADOW);
            let held: BTreeMap<_, _> = overlay.export_custody().collect();
            if held != kept.custody {
                let detail = first_difference(&held, &kept.custody);
                violations.add(now, Some(ix), Rule::CustodyReported, detail);
            }
            let known: BTreeMap<_, _> = overlay
                .table()
                .entries()
                .map(|entry| (entry.contact.agent, entry.contact.clone()))
                .collect();
            if known != kept.peers {
                let detail = first_difference(&known, &kept.peers);
                violations.add(now, Some(ix), Rule::PeersReported, detail);
            }
        }
    }

    fn check_table(
        &self,
        overlay: &Overlay,
        ix: NodeIx,
        now: Time,
        shadow: bool,
        is_true: &dyn Fn(&Contact) -> bool,
        violations: &mut Violations,
    ) {
        let table = overlay.table();
        let kept = self.shadow.as_deref().unwrap_or(&NO_SHADOW);
        let mut add = |rule, detail: String| violations.add(now, Some(ix), rule, detail);
        let (mut buckets, mut prefixes, mut seen) = ([0_usize; 257], Vec::new(), Vec::new());
        for entry in table.entries() {
            let contact = &entry.contact;
            let shared =
                usize::try_from(contact.overlay_id.common_prefix(&self.contact.overlay_id))
                    .unwrap_or(usize::MAX);
            buckets[shared.min(table.buckets() - 1)] += 1;
            prefixes.extend(contact.prefix());
            // Half a key, which is enough to be told from others by chance.
            seen.push(
                contact.agent.as_bytes().first_chunk().copied().map_or(0, u128::from_be_bytes),
            );
            if contact.agent == self.contact.agent {
                add(Rule::SelfInTable, String::new());
            }
            if !is_true(contact) {
                add(Rule::PlaceOfEntry, format!("{contact:?}"));
            }
            if shadow && !kept.answered.contains(&contact.agent) {
                add(Rule::EntryAnswered, format!("{} never answered", contact.agent));
            }
        }
        seen.sort_unstable();
        if let Some(pair) = seen.windows(2).find(|pair| pair[0] == pair[1]) {
            add(Rule::TableCaps, format!("{:032x}… is in the table twice", pair[0]));
        }
        if let Some((bucket, count)) = buckets.into_iter().enumerate().find(|(_, count)| *count > K)
        {
            add(Rule::TableCaps, format!("{count} entries in bucket {bucket}"));
        }
        prefixes.sort_unstable();
        let crowded = |group: &&[IpPrefix]| group.len() > PREFIX_PER_TABLE_MAX;
        if let Some(group) = prefixes.chunk_by(|a, b| a == b).find(crowded) {
            add(Rule::TableCaps, format!("{} entries of {:?}", group.len(), group[0]));
        }
    }

    fn check_custody(&self, overlay: &Overlay, ix: NodeIx, now: Time, violations: &mut Violations) {
        let custody = overlay.custody();
        let mut add = |rule, detail: String| violations.add(now, Some(ix), rule, detail);
        // In the order of keys the items of a publisher come together.
        let mut publishers: Vec<(AgentId, usize)> = Vec::new();
        for (key, held) in custody.iter() {
            if publishers.last().is_none_or(|(signer, _)| *signer != key.signer) {
                publishers.push((key.signer, 0));
            }
            if let Some((_, count)) = publishers.last_mut() {
                *count += usize::from(key.kind != ItemKind::Beat);
            }
            if held.item.expires + SWEEP_MAX < now {
                add(Rule::ExpiredHeld, format!("{key:?} expired at {}", held.item.expires));
            }
            if held.item.key() != key {
                add(Rule::CustodyCaps, format!("{key:?} holds {:?}", held.item.key()));
            }
        }
        let mine = self.contact.agent;
        if let Some((agent, count)) = publishers
            .into_iter()
            .find(|(agent, count)| *agent != mine && *count > ITEMS_PER_PUBLISHER_MAX)
        {
            add(Rule::CustodyCaps, format!("{count} items of {agent}"));
        }
        if let Some((shard, count)) = custody.shards().find(|(_, count)| *count > SHARD_DIGESTS_MAX)
        {
            add(Rule::CustodyCaps, format!("{count} digests in {shard:?}"));
        }
    }
}

fn first_difference<K: Ord + std::fmt::Debug, V: PartialEq>(
    machine: &BTreeMap<K, V>,
    reported: &BTreeMap<K, V>,
) -> String {
    let unreported = machine.iter().find(|(key, value)| reported.get(*key) != Some(*value));
    let gone = reported.keys().find(|key| !machine.contains_key(*key));
    match (unreported, gone) {
        (Some((key, _)), _) if reported.contains_key(key) => {
            format!("{key:?} differs from what was reported")
        }
        (Some((key, _)), _) => format!("{key:?} was not reported"),
        (None, Some(key)) => format!("{key:?} is gone but was not reported removed"),
        (None, None) => "no difference".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use comity_core::OverlayId;
    use comity_overlay::Config;

    use super::*;
    use crate::random::Random;
    use crate::scenario::{EPOCH, Scenario};
    use crate::world::{Settings, World};

    fn world() -> World {
        let Scenario { messages, link, nodes_per_prefix, .. } = Scenario::healthy(2, 1);
        let mut world = World::new(Settings {
            seed: 1,
            start: EPOCH,
            messages,
            link,
            nodes_per_prefix,
            shadow: true,
        });
        let mut random = Random::new(1, "test");
        for ix in 0..2 {
            world.add_node(&mut random);
            world.start(ix, Config::default());
        }
        world
    }

    fn rules(world: &World) -> Vec<Rule> {
        world.violations.kept().iter().map(|violation| violation.rule).collect()
    }

    #[test]
    fn a_sound_node_passes() {
        let mut world = world();
        let other = world.nodes()[1].contact.clone();
        world.preload(0, vec![other]);
        world.check_nodes();
        assert_eq!(rules(&world), []);
    }

    #[test]
    fn an_entry_that_never_answered_is_seen() {
        let mut world = world();
        let other = world.nodes()[1].contact.clone();
        world.preload(0, vec![other]);
        world.node_mut(0).shadow_mut().answered.clear();
        world.check_nodes();
        assert_eq!(rules(&world), [Rule::EntryAnswered]);
    }

    #[test]
    fn an_entry_at_a_wrong_place_is_seen() {
        let mut world = world();
        let other = world.nodes()[1].contact.with_overlay_id(OverlayId([7; 32]));
        world.preload(0, vec![other]);
        world.check_nodes();
        assert_eq!(rules(&world), [Rule::PlaceOfEntry]);
    }

    #[test]
    fn a_table_that_was_not_reported_is_seen() {
        let mut world = world();
        let other = world.nodes()[1].contact.clone();
        world.preload(0, vec![other]);
        world.node_mut(0).shadow_mut().peers.clear();
        world.check_nodes();
        assert_eq!(rules(&world), [Rule::PeersReported]);
    }
}
