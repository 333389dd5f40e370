//! Agents that come and go while somebody looks for them.

use std::rc::Rc;
use std::time::Duration;

use comity_core::Time;

use super::{Answer, Directory, Runner, Task, What};
use crate::baseline::catalogue::ItemIx;
use crate::baseline::net::Ix;
use crate::random::micros;

/// Pause between two looks for somebody who comes or retires; for somebody who crashed.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
const LOOK_AGAIN_CRASHED: Duration = Duration::from_secs(5);

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watched {
    Registered,
    Retired,
    Crashed,
}

impl Watched {
    /// Its place in a list of the three.
    pub(super) const fn slot(self) -> usize {
        match self {
            Self::Registered => 0,
            Self::Retired => 1,
            Self::Crashed => 2,
        }
    }
}

/// One agent, looked for by one other until what is watched shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    pub(super) watched: Watched,
    publisher: Ix,
    item: ItemIx,
    asker: Ix,
    since: Time,
    until: Time,
}

impl<D: Directory> Runner<D> {
    pub(super) fn begin_watch(&mut self, watched: Watched, until: Time) {
        let Some(asker) = self.draw_asker() else { return };
        let publisher = match watched {
            Watched::Registered => self.reserved.pop(),
            Watched::Retired | Watched::Crashed => {
                self.draw_item(asker).map(|item| self.catalogue.item(item).publisher)
            }
        };
        let Some(publisher) = publisher.filter(|ix| self.net.host(*ix).up) else { return };
        let Some(item) = self.catalogue.of(publisher).first().copied() else { return };
        if let Some(known) = self.publishers.get_mut(&publisher) {
            known.watched = true;
            known.retired = watched == Watched::Retired;
        }
        match watched {
            Watched::Registered => {
                self.publications.started += 1;
                self.design.publish(&mut self.net, &self.catalogue, publisher);
            }
            Watched::Retired => self.design.retire(&mut self.net, &self.catalogue, publisher),
            Watched::Crashed => self.crash(publisher),
        }
        let since = self.net.now();
        self.watches.push(Watch { watched, publisher, item, asker, since, until });
        self.look(self.watches.len() - 1);
    }

    pub(super) fn look(&mut self, watch: usize) {
        let Watch { asker, item, .. } = self.watches[watch];
        if self.net.host(asker).up {
            let ask = self.next_ask(asker, What::Look(watch));
            let asked = Rc::new(self.catalogue.by_name(item));
            self.design.ask(&mut self.net, &self.catalogue, asker, ask, asked);
        }
    }

    pub(super) fn looked(&mut self, watch: usize, answer: &Answer) {
        let Watch { watched, publisher, item, since, until, .. } = self.watches[watch];
        let now = self.net.now();
        let shown = answer.found.contains(&item);
        let slot = watched.slot();
        let again = match watched {
            Watched::Registered | Watched::Retired => LOOK_AGAIN,
            Watched::Crashed => LOOK_AGAIN_CRASHED,
        };
        if shown == (watched == Watched::Registered) {
            self.waits[slot].0.add(micros(now.saturating_since(since)));
            if let Some(known) = self.publishers.get_mut(&publisher) {
                known.watched = false;
            }
        } else if now + again < until {
            self.at(now + again, Task::Look(watch));
        } else {
            self.waits[slot].1 += 1;
        }
    }
}
