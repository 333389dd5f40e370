//! Who is who: publishers, askers, and those who break the rules.

use std::time::Duration;

use comity_capability::keys::{KeyFamily, group_keys};
use comity_core::OverlayId;
use comity_overlay::{CLOCK_TOLERANCE, PLACEMENTS, ShardId};

use super::{Runner, Task};
use crate::adversary::{
    Adversary, Colluders, Dropper, Eclipser, Forger, Misrouter, Omitter, Splitter, Staler,
};
use crate::cost::{GPUS, Gpu, Minting, STRETCH_CORE_SECONDS};
use crate::publisher::Truth;
use crate::random::{PPM_ONE, micros};
use crate::scenario::{Adversaries, Misbehaviour};
use crate::workload::{Drawer, Spec};
use crate::world::NodeIx;

/// What [`Misbehaviour::Mixed`] is made of: all that need no minted ids.
const MIXED: [Misbehaviour; 10] = [
    Misbehaviour::Drop,
    Misbehaviour::Misroute,
    Misbehaviour::Forge,
    Misbehaviour::Omit,
    Misbehaviour::Stale,
    Misbehaviour::Split,
    Misbehaviour::Flood,
    Misbehaviour::Stuff,
    Misbehaviour::Lie,
    Misbehaviour::Clock,
];
/// One in so many honest nodes may be a publisher that registers while it is watched.
const NEWCOMERS_OF: usize = 4;
/// Specs drawn for nodes that take the place of others.
const SPARE_MAX: usize = 20_000;
/// Capabilities that one flooding agent registers in all: what a record has room for.
const FLOOD_MAX: usize = 32;
/// Registrations of a flooding agent per minute, if the scenario does not say.
const FLOOD_PER_MINUTE: usize = 4;
/// How far clocks are off, if the scenario does not say.
const SKEW: Duration = Duration::from_secs(300);
/// Mint bits that the public network demands of a key.
const MINT_BITS: u32 = 10;
/// Leading bytes that a minted id shares with the place it was minted for: nearer than any honest node of a million, and apart in
/// the leading 64 bits that places are ordered by.
const MINTED_BYTES: usize = 5;

/// What a publisher that breaks the rules publishes.
#[derive(Clone, Debug)]
struct Deceiver {
    node: NodeIx,
    kind: Misbehaviour,
    group: Adversaries,
}

impl Runner {
    pub(super) fn make_nodes(&mut self) {
        self.world.reserve(self.scenario.nodes);
        for _ in 0..self.scenario.nodes {
            self.world.add_node(&mut self.birth);
        }
        let mut all: Vec<NodeIx> = (0..self.scenario.nodes).collect();
        self.fate.shuffle(&mut all);
        let (honest, mut bad, deceivers) = self.cast_adversaries(all);
        let newcomers = self.scenario.measure.registrations.min(honest.len() / NEWCOMERS_OF);
        let publishers = self.scenario.workload.publishers.min(honest.len() - newcomers);
        self.drawer = Drawer::new(&self.scenario.workload, publishers);
        // Some more for nodes that take the place of others.
        let spare = publishers.min(SPARE_MAX);
        let all = publishers + newcomers + spare;
        let mut lists = self.scenario.workload.draw_specs(&mut self.curiosity, all);
        self.spare_specs = lists.split_off(publishers + newcomers);
        for (ix, specs) in honest.iter().zip(lists) {
            self.register.enlist(*ix, &self.world.nodes()[*ix], specs, Truth::Honest);
        }
        self.popular = honest.iter().take(publishers).copied().collect();
        self.watches.newcomers = honest.iter().skip(publishers).take(newcomers).copied().collect();
        self.askers = honest.iter().rev().take(self.scenario.askers).copied().collect();
        for deceiver in deceivers {
            self.enlist_deceiver(&deceiver);
        }
        bad.extend(self.mint());
        for ix in 0..self.world.nodes().len() {
            self.world.node_mut(ix).side = self.fate.below(2) == 1;
        }
        self.attack.adversaries = bad.len() as u64;
        self.world.set_colluders(Colluders::new(
            bad.iter()
                .map(|ix| &self.world.nodes()[*ix])
                .filter(|node| !node.is_honest())
                .map(|node| node.contact.clone())
                .collect(),
        ));
    }

    /// Gives the first of `all` their misbehaviours. Returns the others, those who break rules, and those of them who publish.
    fn cast_adversaries(
        &mut self,
        mut all: Vec<NodeIx>,
    ) -> (Vec<NodeIx>, Vec<NodeIx>, Vec<Deceiver>) {
        let (nodes, mut bad, mut deceivers) = (all.len() as u64, Vec::new(), Vec::new());
        for group in self.scenario.adversaries.clone() {
            let count = u64::from(group.share) * nodes / u64::from(PPM_ONE);
            let count = usize::try_from(count).unwrap_or(usize::MAX).min(all.len());
            let rest = all.split_off(count);
            for (at, ix) in std::mem::replace(&mut all, rest).into_iter().enumerate() {
                let is_mixed = group.kind == Misbehaviour::Mixed;
                let kind = if is_mixed { MIXED[at % MIXED.len()] } else { group.kind };
                match adversary(kind, &group) {
                    Some(adversary) => self.world.node_mut(ix).adversary = Some(adversary),
                    None => deceivers.push(Deceiver { node: ix, kind, group: group.clone() }),
                }
                bad.push(ix);
            }
        }
        (all, bad, deceivers)
    }

    /// A publisher of what is not so, or at the wrong time.
    fn enlist_deceiver(&mut self, deceiver: &Deceiver) {
        let Deceiver { node: ix, kind, group } = deceiver;
        let at = self.drawer.popular(&mut self.curiosity);
        let Some(model) = self
            .popular
            .get(at)
            .and_then(|model| self.register.publishers.get(model))
            .and_then(|publisher| publisher.specs.first())
            .cloned()
        else {
            return;
        };
        let copy = Spec { name: format!("l-{ix}-0"), ..(*model).clone() };
        let skew = if group.skew.is_zero() { SKEW } else { group.skew };
        let is_ahead = self.fate.below(2) == 0;
        // A clock that is behind, or ahead within the tolerance, hides nobody who has what it declares.
        let excused = *kind == Misbehaviour::Clock && (!is_ahead || skew <= CLOCK_TOLERANCE);
        let truth = if excused { Truth::Honest } else { Truth::Lies };
        let stuffs = *kind == Misbehaviour::Stuff;
        let spec = if stuffs { self.drawer.stuff(&mut self.curiosity, copy) } else { copy };
        self.attack.registrations += 1;
        self.register.enlist(*ix, &self.world.nodes()[*ix], vec![spec], truth);
        if *kind == Misbehaviour::Clock
            && let Some(publisher) = self.register.publishers.get_mut(ix)
        {
            let off = i64::try_from(micros(skew)).unwrap_or(i64::MAX);
            publisher.clock = if is_ahead { off } else { -off };
        }
        if *kind == Misbehaviour::Flood {
            let per_minute =
                if group.per_minute == 0 { FLOOD_PER_MINUTE } else { group.per_minute };
            self.floods.push((*ix, per_minute));
        }
    }

    /// The next registrations of a flooding agent, all in the group it began with.
    pub(super) fn flood(&mut self, ix: NodeIx, per_minute: usize) {
        let Some(publisher) = self.register.publishers.get(&ix) else { return };
        let (have, Some(model)) = (publisher.specs.len(), publisher.specs.first().cloned()) else {
            return;
        };
        if !self.world.nodes()[ix].is_up() || have >= FLOOD_MAX {
            return;
        }
        let more: Vec<Spec> = (have..(have + per_minute).min(FLOOD_MAX))
            .map(|number| Spec { name: format!("l-{ix}-{number}"), ..(*model).clone() })
            .collect();
        self.attack.registrations += more.len() as u64;
        self.register.extend(ix, &self.world.nodes()[ix], more);
        self.publish(ix);
        let at = self.world.now() + Duration::from_secs(60);
        self.at(at, Task::Flood { node: ix, per_minute });
    }

    /// Nodes next to both placements of the names of the most popular publishers.
    fn mint(&mut self) -> Vec<NodeIx> {
        let mut minted = Vec::new();
        for group in self.scenario.adversaries.clone() {
            if group.kind != Misbehaviour::Eclipse {
                continue;
            }
            let victims: Vec<NodeIx> = self.popular.iter().take(group.keys).copied().collect();
            for victim in victims {
                for position in self.name_positions(victim) {
                    for _ in 0..group.ids {
                        minted.push(self.mint_at(&position));
                    }
                }
                self.eclipsed.push(victim);
            }
        }
        let cost = Minting {
            network: self.scenario.nodes as u64,
            ids: minted.len() as u64,
            rank: 1,
            placements: 1,
            mint_bits: MINT_BITS,
        };
        self.attack.keys = self.eclipsed.len() as u64;
        self.attack.minted_ids = minted.len() as u64;
        self.attack.tried_ids = cost.tries();
        self.attack.mints_per_core_second = 1.0 / STRETCH_CORE_SECONDS;
        self.attack.core_hours = cost.hours(1.0 / STRETCH_CORE_SECONDS);
        let fastest = GPUS.iter().map(Gpu::hashes_per_second).fold(0.0, f64::max);
        self.attack.gpu_hours = cost.hours(fastest);
        minted
    }

    /// Where the group of a publisher's first capability's name is kept.
    fn name_positions(&self, victim: NodeIx) -> Vec<OverlayId> {
        let spec = self.register.publishers.get(&victim).and_then(|known| known.specs.first());
        let names = spec.into_iter().flat_map(|spec| group_keys(&spec.declare()));
        names
            .filter(|label| label.family == KeyFamily::Name)
            .flat_map(|label| {
                (0..PLACEMENTS).map(move |index| ShardId::whole(label.key).position(index))
            })
            .collect()
    }

    fn mint_at(&mut self, position: &OverlayId) -> NodeIx {
        let (secret, mut place) = (self.birth.bytes(), self.birth.bytes());
        place[..MINTED_BYTES].copy_from_slice(&position.0[..MINTED_BYTES]);
        let ix = self.world.add_node_at(&mut self.birth, secret, OverlayId(place));
        self.world.node_mut(ix).adversary = Some(Box::new(Eclipser));
        ix
    }
}

/// The misbehaviour of a node; `None`: it only publishes what is not so.
fn adversary(kind: Misbehaviour, group: &Adversaries) -> Option<Box<dyn Adversary>> {
    match kind {
        Misbehaviour::Drop => Some(Box::new(Dropper)),
        Misbehaviour::Misroute => Some(Box::new(Misrouter)),
        Misbehaviour::Forge => Some(Box::new(Forger)),
        Misbehaviour::Omit => Some(Box::new(Omitter { victims: group.victims })),
        Misbehaviour::Stale => Some(Box::new(Staler::default())),
        Misbehaviour::Split => Some(Box::new(Splitter)),
        Misbehaviour::Eclipse => Some(Box::new(Eclipser)),
        Misbehaviour::Flood
        | Misbehaviour::Stuff
        | Misbehaviour::Lie
        | Misbehaviour::Clock
        | Misbehaviour::Mixed => None,
    }
}
