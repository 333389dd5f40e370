//! Who is who: publishers, askers, and those who break the rules.

use super::Runner;
use crate::adversary::{Adversary, Colluders, Dropper, Forger, Misrouter};
use crate::random::PPM_ONE;
use crate::scenario::Misbehaviour;
use crate::world::NodeIx;

/// What [`Misbehaviour::Mixed`] is made of.
const MIXED: [Misbehaviour; 3] = [Misbehaviour::Drop, Misbehaviour::Misroute, Misbehaviour::Forge];

impl Runner {
    pub(super) fn make_nodes(&mut self) {
        for _ in 0..self.scenario.nodes {
            self.world.add_node(&mut self.birth);
        }
        let mut all: Vec<NodeIx> = (0..self.scenario.nodes).collect();
        self.fate.shuffle(&mut all);
        let honest = self.cast_adversaries(all);
        for ix in 0..self.scenario.nodes {
            self.world.node_mut(ix).side = self.fate.below(2) == 1;
        }
        let publishers = self.scenario.workload.publishers.min(honest.len());
        // As many again for nodes that take the place of others.
        let mut lists = self.scenario.workload.draw_specs(&mut self.curiosity, 2 * publishers);
        self.spare_specs = lists.split_off(publishers);
        for (ix, specs) in honest.iter().zip(lists) {
            self.register.enlist(*ix, &self.world.nodes()[*ix], specs);
        }
        self.askers = honest.iter().rev().take(self.scenario.askers).copied().collect();
    }

    /// Gives the first of `all` their misbehaviours; returns the others.
    fn cast_adversaries(&mut self, mut all: Vec<NodeIx>) -> Vec<NodeIx> {
        let (nodes, mut bad) = (all.len() as u64, Vec::new());
        for group in self.scenario.adversaries.clone() {
            let count = u64::from(group.share) * nodes / u64::from(PPM_ONE);
            let count = usize::try_from(count).unwrap_or(usize::MAX).min(all.len());
            let rest = all.split_off(count);
            for (at, ix) in std::mem::replace(&mut all, rest).into_iter().enumerate() {
                let is_mixed = group.kind == Misbehaviour::Mixed;
                let kind = if is_mixed { MIXED[at % MIXED.len()] } else { group.kind };
                self.world.node_mut(ix).adversary = Some(adversary(kind));
                bad.push(ix);
            }
        }
        self.world.set_colluders(Colluders::new(
            bad.iter().map(|ix| self.world.nodes()[*ix].contact.clone()).collect(),
        ));
        all
    }
}

fn adversary(kind: Misbehaviour) -> Box<dyn Adversary> {
    match kind {
        Misbehaviour::Misroute => Box::new(Misrouter),
        Misbehaviour::Forge => Box::new(Forger),
        Misbehaviour::Drop
        | Misbehaviour::Omit
        | Misbehaviour::Stale
        | Misbehaviour::Eclipse
        | Misbehaviour::Flood
        | Misbehaviour::Stuff
        | Misbehaviour::Lie
        | Misbehaviour::Clock
        | Misbehaviour::Split
        | Misbehaviour::Mixed => Box::new(Dropper),
    }
}
