//! Agents that register, retire and crash, and how soon others see it.

use std::time::Duration;

use comity_core::Time;
use comity_overlay::{Command, ItemKey, QueryReport};

use super::ask::Asked;
use super::{Runner, Task, What};
use crate::publisher::key_of;
use crate::random::micros;
use crate::report::{Lifecycle, Values, Wait};
use crate::workload::{ANSWERS_MAX, Question, Spec};
use crate::world::NodeIx;

/// Wait between two looks at an agent that registered or retired, while it should come or go: what is measured is at most this, and what
/// a query takes, too long.
const LOOK: Duration = Duration::from_millis(500);
/// Looks after which they are rarer, and their wait.
const LOOKS: usize = 20;
const LOOK_LATER: Duration = Duration::from_secs(5);
/// How long an agent that registered or retired is watched.
const WATCH_MAX: Duration = Duration::from_secs(120);
/// Wait between two looks at an agent that crashed.
const LOOK_AT_CRASHED: Duration = Duration::from_secs(30);
/// How much longer than a beat lives a crashed agent is watched.
const CRASH_GRACE: Duration = Duration::from_secs(180);
/// Draws of a question that few enough answer, before the name will do: each publisher has one of its own.
const NARROW_DRAWS: usize = 8;
/// Looks in a row that do not show an agent before it counts as gone: one may have failed.
const GONE_AFTER: u32 = 2;

/// What an agent did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Registered,
    Retired,
    Crashed,
}

/// One look at one agent.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    pub(super) watch: usize,
    pub(super) question: Question,
    pub(super) asked_at: Time,
}

#[derive(Debug)]
struct Watch {
    event: Event,
    since: Time,
    key: ItemKey,
    question: Question,
    looks: usize,
    /// Since which look it has not been shown, and how many there were since.
    unseen: Option<(Time, u32)>,
    done: bool,
}

/// All watches, and what came of them.
#[derive(Debug, Default)]
pub(super) struct Watches {
    all: Vec<Watch>,
    /// Publishers that have not registered yet.
    pub(super) newcomers: Vec<NodeIx>,
    found: Values,
    retired: Values,
    crashed: Values,
    never: [u64; 3],
}

impl Watches {
    pub(super) fn lifecycle(&self) -> Lifecycle {
        let open = |event| {
            self.all.iter().filter(move |watch: &&Watch| watch.event == event && !watch.done)
        };
        let wait = |values: &Values, event, never| Wait {
            seconds: values.spread(1e6),
            never: never + open(event).count() as u64,
        };
        Lifecycle {
            found: wait(&self.found, Event::Registered, self.never[0]),
            retired: wait(&self.retired, Event::Retired, self.never[1]),
            crashed: wait(&self.crashed, Event::Crashed, self.never[2]),
        }
    }
}

impl Runner {
    /// Writes the first phase's registrations, retirements and crashes into the agenda. Returns when the last watch ends.
    pub(super) fn plan_watches(&mut self, begin: Time) -> Time {
        let measure = self.scenario.measure;
        let mut end = begin;
        for (event, count) in [
            (Event::Registered, measure.registrations),
            (Event::Retired, measure.retirements),
            (Event::Crashed, measure.crashes),
        ] {
            let watched = match event {
                Event::Registered | Event::Retired => WATCH_MAX,
                Event::Crashed => self.scenario.beat_life + CRASH_GRACE,
            };
            for _ in 0..count {
                let at = begin + self.fate.within(measure.window);
                self.at(at, Task::Happens(event));
                end = end.max(at + watched + LOOK_AT_CRASHED);
            }
        }
        end
    }

    pub(super) fn happens(&mut self, event: Event) {
        let chosen = match event {
            Event::Registered => self.watches.newcomers.pop(),
            Event::Retired | Event::Crashed => self.draw_victim(),
        };
        let Some(ix) = chosen.filter(|ix| self.world.nodes()[*ix].is_up()) else { return };
        let Some(publisher) = self.register.publishers.get(&ix) else { return };
        let Some(spec) = publisher.specs.first().cloned() else { return };
        let key = key_of(&self.world.nodes()[ix], &spec);
        let question = self.narrow_question(&spec);
        match event {
            Event::Registered => self.publish(ix),
            Event::Retired => self.retire(ix, false),
            Event::Crashed => self.crash(ix),
        }
        let since = self.world.now();
        let watch = self.watches.all.len();
        self.watches.all.push(Watch {
            event,
            since,
            key,
            question,
            looks: 0,
            unseen: None,
            done: false,
        });
        self.look_later(watch);
    }

    /// A question to which custodians show every answer, `spec` among them. Of a question with more answers than a custodian shows,
    /// the best are shown, and that somebody is not among them says nothing about when he could be found.
    fn narrow_question(&mut self, spec: &Spec) -> Question {
        for _ in 0..NARROW_DRAWS {
            let question = self.drawer.question(&mut self.curiosity, spec);
            if self.register.answers(&question).len() <= usize::from(ANSWERS_MAX) {
                return question;
            }
        }
        Question { name: Some(spec.name.clone()), ..Question::default() }
    }

    /// A publisher that is there and asks nothing itself.
    fn draw_victim(&mut self) -> Option<NodeIx> {
        let asker = self.draw_asker()?;
        let publishers = self.register.publishers.keys().copied();
        let there: Vec<_> = publishers
            .filter(|ix| self.is_findable(*ix, asker) && !self.askers.contains(ix))
            .collect();
        self.fate.pick(&there).copied()
    }

    /// Withdraws everything a publisher declared; with `leave`, it then leaves the network.
    pub(super) fn retire(&mut self, ix: NodeIx, leave: bool) {
        let (now, life) = (self.world.now(), self.scenario.digest_life);
        match self.register.tombstone(ix, &self.world.nodes()[ix], now, life) {
            Some(tombstone) => {
                let tombstones = vec![tombstone];
                self.command(ix, Command::Retire { tombstones }, What::Retire { leave });
            }
            None if leave => self.command(ix, Command::Leave, What::Leave),
            None => {}
        }
    }

    fn look_later(&mut self, watch: usize) {
        let Some(known) = self.watches.all.get_mut(watch) else { return };
        let wait = match known.event {
            Event::Crashed => LOOK_AT_CRASHED,
            Event::Registered | Event::Retired if known.looks < LOOKS => LOOK,
            Event::Registered | Event::Retired => LOOK_LATER,
        };
        known.looks += 1;
        let at = self.world.now() + wait;
        self.at(at, Task::Look(watch));
    }

    pub(super) fn look(&mut self, watch: usize) {
        let Some(known) = self.watches.all.get(watch).filter(|watch| !watch.done) else { return };
        let asked_at = self.world.now();
        let watched = Watched { watch, question: known.question.clone(), asked_at };
        if let Some(asker) = self.draw_asker() {
            self.put(0, asker, Asked::Watch(watched));
        }
    }

    pub(super) fn judge_watched(&mut self, watched: &Watched, report: &QueryReport) {
        let (now, beat_life) = (self.world.now(), self.scenario.beat_life);
        let Some(watch) = self.watches.all.get_mut(watched.watch) else { return };
        let shown = report.matches.iter().any(|found| found.item.key() == watch.key);
        let limit = match watch.event {
            Event::Registered | Event::Retired => WATCH_MAX,
            Event::Crashed => beat_life + CRASH_GRACE,
        };
        let gone = if shown {
            watch.unseen = None;
            None
        } else {
            let (since, count) = watch.unseen.get_or_insert((watched.asked_at, 0));
            *count += 1;
            (*count >= GONE_AFTER).then_some(*since)
        };
        let seen = match watch.event {
            Event::Registered => shown.then_some(now),
            Event::Retired | Event::Crashed => gone,
        };
        let (values, never) = match watch.event {
            Event::Registered => (&mut self.watches.found, 0),
            Event::Retired => (&mut self.watches.retired, 1),
            Event::Crashed => (&mut self.watches.crashed, 2),
        };
        if let Some(at) = seen {
            watch.done = true;
            values.add(micros(at.saturating_since(watch.since)));
        } else if now.saturating_since(watch.since) >= limit {
            watch.done = true;
            self.watches.never[never] += 1;
        } else {
            self.look_later(watched.watch);
        }
    }
}
