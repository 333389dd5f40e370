//! Nodes that stand still for a while, as a process does that gets no processor: what reaches them waits until they run again.

use comity_core::Time;
use comity_overlay::Command;

use super::parcels::{Parcel, WAKE};
use super::{NodeIx, Op, World, index};

/// What waits for a node that stands still.
#[derive(Debug)]
pub(super) enum Held {
    /// A message that arrived, or the node's own timer, and when that was.
    Event { at: Time, what: u32 },
    /// What the node's user wants.
    Command { op: Op, command: Box<Command> },
}

impl World {
    /// Lets a running node stand still. Messages to it, its timers and its commands wait.
    pub fn stall(&mut self, ix: NodeIx) {
        if self.nodes[ix].is_up() && !self.stalled.contains_key(&ix) {
            self.stalled.insert(ix, Vec::new());
            self.counters.stalls += 1;
            self.note(11, ix, ix, 0, 0);
        }
    }

    /// Lets a node run that stood still. What waited for it happens now, in the order in which it came: it cannot tell what is due from
    /// what was due long ago.
    pub fn resume(&mut self, ix: NodeIx) {
        let Some(held) = self.stalled.remove(&ix) else { return };
        self.note(12, ix, ix, held.len() as u64, 0);
        for held in held {
            match held {
                Held::Event { at, what } => self.happen(at, what),
                Held::Command { op, command } => self.give(ix, op, *command),
            }
        }
    }

    /// Lets all nodes run.
    pub fn resume_all(&mut self) {
        while let Some((ix, _)) = self.stalled.first_key_value() {
            self.resume(*ix);
        }
    }

    /// Whether a node stands still.
    #[must_use]
    pub fn is_stalled(&self, ix: NodeIx) -> bool {
        self.stalled.contains_key(&ix)
    }

    /// Keeps an event for later whose node stands still; `false`: it runs.
    pub(super) fn hold(&mut self, at: Time, what: u32) -> bool {
        let node = if what >= WAKE { Some(what - WAKE) } else { self.parcels.receiver(what) };
        let held = node.and_then(|node| self.stalled.get_mut(&index(node)));
        let Some(held) = held else { return false };
        held.push(Held::Event { at, what });
        true
    }

    /// A node goes down while it stands still: what waited for it is lost.
    pub(super) fn lose_held(&mut self, ix: NodeIx) {
        for held in self.stalled.remove(&ix).into_iter().flatten() {
            if let Held::Event { what, .. } = held
                && what < WAKE
            {
                let is_request = matches!(self.parcels.take(what), Parcel::Request { .. });
                self.counters.to_dead += u64::from(is_request);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use comity_overlay::{Config, PeerQuery};

    use super::*;
    use crate::random::Random;
    use crate::scenario::{EPOCH, Scenario};
    use crate::world::Settings;

    /// Two nodes that know each other.
    fn world() -> World {
        let Scenario { messages, nodes_per_prefix, mut link, .. } = Scenario::healthy(2, 1);
        link.loss = 0;
        let shadow = true;
        let mut world = World::new(Settings {
            seed: 1,
            start: EPOCH,
            messages,
            link,
            nodes_per_prefix,
            shadow,
        });
        let mut random = Random::new(1, "test");
        for ix in 0..2 {
            world.add_node(&mut random);
            world.start(ix, Config::default());
        }
        let other = world.nodes()[1].contact.clone();
        world.preload(0, vec![other]);
        world.preloaded();
        world
    }

    fn run_for(world: &mut World, length: Duration) {
        let until = world.now() + length;
        while world.next_due().is_some_and(|due| due <= until) {
            world.step();
        }
        world.advance_to(until);
    }

    fn find(world: &World) -> Command {
        let wanted = &world.nodes()[1].contact;
        let (agent, overlay_id) = (wanted.agent, wanted.overlay_id);
        Command::FindPeer(PeerQuery::Agent { agent, overlay_id })
    }

    #[test]
    fn nothing_happens_at_a_node_that_stands_still_and_everything_when_it_runs_again() {
        let mut world = world();
        world.stall(1);
        let command = find(&world);
        world.command(0, command);
        run_for(&mut world, Duration::from_secs(1));
        let served =
            |world: &World| world.nodes()[1].overlay.as_ref().unwrap().stats().requests_served;
        assert_eq!((served(&world), world.is_stalled(1)), (0, true));
        world.resume(1);
        assert!(served(&world) > 0 && !world.is_stalled(1));
    }

    #[test]
    fn a_command_waits() {
        let mut world = world();
        world.stall(0);
        let command = find(&world);
        assert!(world.command(0, command).is_some());
        run_for(&mut world, Duration::from_secs(60));
        assert_eq!(world.nodes()[0].messages_sent, 0);
        world.resume(0);
        assert!(world.nodes()[0].messages_sent > 0);
    }

    #[test]
    fn what_waited_is_lost_with_the_node() {
        let mut world = world();
        world.stall(1);
        let command = find(&world);
        world.command(0, command);
        run_for(&mut world, Duration::from_secs(1));
        let before = world.counters().to_dead;
        world.crash(1);
        assert!(world.counters().to_dead > before && !world.is_stalled(1));
        world.resume(1);
    }
}
