//! Faults: when they strike, what they do, when they end.

use std::time::Duration;

use comity_core::Time;

use super::{PUBLISHERS_OF_PARTITION, Runner, Task, What};
use crate::link::LinkModel;
use crate::publisher::Truth;
use crate::random::{PPM_ONE, Ppm, Random, micros};
use crate::report::{Mark, float};
use crate::scenario::{EPOCH, Fault, Sessions};
use crate::world::NodeIx;

/// Length of a day.
const DAY: Duration = Duration::from_secs(86_400);
/// ln 2 in units of 2^-32.
const LN_2: i128 = 2_977_044_472;
/// The square of ln 2, in millionths: a Weibull variate of shape 1/2 is its scale times the square of an exponential one.
const LN_2_SQUARED_PPM: u64 = 480_453;
/// Longest session drawn.
const SESSION_MAX: Duration = Duration::from_secs(365 * 86_400);

impl Runner {
    /// Writes the faults into the agenda. Returns when the fault phase ends.
    pub(super) fn plan_faults(&mut self, began: Time) -> Time {
        for fault in self.scenario.faults.clone() {
            let at = began + fault.at();
            self.at(at, Task::Strike(fault));
            if let Some(lasts) = fault.lasts() {
                self.at(at + lasts, Task::FaultEnds(fault));
            }
        }
        began + self.scenario.fault_phase
    }

    pub(super) fn mark(&mut self, label: String) {
        let at = self.world.now().saturating_since(EPOCH);
        self.marks.push(Mark { at_seconds: float(micros(at)) / 1e6, label });
    }

    pub(super) fn strike(&mut self, fault: Fault) {
        self.mark(fault.label().to_owned());
        match fault {
            Fault::Kill { share, .. } => {
                let mut up = self.up();
                self.fate.shuffle(&mut up);
                let victims = up.len() as u64 * u64::from(share) / u64::from(PPM_ONE);
                for ix in up.into_iter().take(usize::try_from(victims).unwrap_or(usize::MAX)) {
                    self.crash(ix);
                }
            }
            Fault::Partition { .. } => {
                self.world.set_partitioned(true);
                self.enlist_more();
            }
            Fault::RestartAll { pause, spread, .. } => {
                let back = self.world.now() + pause;
                for ix in self.up() {
                    self.crash(ix);
                    let at = back + self.fate.within(spread);
                    self.at(at, Task::CrashAllBack(ix));
                }
            }
            Fault::Churn { sessions, diurnal, .. } => {
                self.churning = Some((sessions, diurnal));
                for ix in self.up() {
                    self.begin_session(ix);
                }
            }
            Fault::Links { loss, duplicate, reorder, .. } => {
                let link = self.scenario.link.clone();
                self.world.set_link(LinkModel { loss, duplicate, reorder, ..link });
            }
            Fault::Stall { share, blocked, runs, .. } => self.stalls_begin(share, blocked, runs),
        }
    }

    pub(super) fn fault_ends(&mut self, fault: Fault) {
        self.mark(format!("{} ends", fault.label()));
        match fault {
            Fault::Partition { .. } => self.world.set_partitioned(false),
            Fault::Churn { .. } => self.churning = None,
            Fault::Links { .. } => self.world.set_link(self.scenario.link.clone()),
            Fault::Stall { .. } => self.stalls_end(),
            Fault::Kill { .. } | Fault::RestartAll { .. } => {}
        }
    }

    /// New publishers on both sides of a partition: only a network that has become one again finds what either side published alone.
    pub(super) fn enlist_more(&mut self) {
        let nodes = self.world.nodes();
        let is_new =
            |ix: &NodeIx| nodes[*ix].is_honest() && !self.register.publishers.contains_key(ix);
        let mut new: Vec<NodeIx> = self.up().into_iter().filter(is_new).collect();
        self.fate.shuffle(&mut new);
        for ix in new.into_iter().take(PUBLISHERS_OF_PARTITION) {
            let Some(specs) = self.spare_specs.pop() else { return };
            self.register.enlist(ix, &self.world.nodes()[ix], specs, Truth::Honest);
            let at = self.world.now() + self.fate.within(self.scenario.publish_window);
            self.at(at, Task::Publish(ix));
        }
    }

    pub(super) fn heal(&mut self) {
        if self.world.is_partitioned() {
            self.world.set_partitioned(false);
        }
        self.world.set_link(self.scenario.link.clone());
        self.churning = None;
        self.stalls_end();
    }

    pub(super) fn up(&self) -> Vec<NodeIx> {
        self.world
            .nodes()
            .iter()
            .enumerate()
            .filter(|(_, node)| node.is_up())
            .map(|(ix, _)| ix)
            .collect()
    }

    pub(super) fn crash(&mut self, ix: NodeIx) {
        self.world.crash(ix);
        self.abandon(ix);
    }

    /// What a node that went down had begun will never end.
    pub(super) fn abandon(&mut self, ix: NodeIx) {
        let phases = &mut self.phases;
        self.pending.retain(|_, pending| {
            if pending.node == ix
                && let What::Ask { phase, asked } = &pending.what
                && let Some(sample) = asked.sample(&mut phases[*phase])
            {
                sample.abandoned += 1;
            }
            pending.node != ix
        });
        self.publish_on_join.retain(|waiting| *waiting != ix);
    }

    pub(super) fn begin_session(&mut self, ix: NodeIx) {
        if let Some((sessions, diurnal)) = self.churning {
            let now = self.world.now();
            let length = by_daytime(draw_session(&mut self.fate, sessions), diurnal, now);
            let incarnation = self.world.nodes()[ix].incarnation;
            self.at(now + length, Task::SessionEnd { node: ix, incarnation });
        }
    }

    pub(super) fn session_end(&mut self, ix: NodeIx, incarnation: u32) {
        let Some((sessions, _)) = self.churning else { return };
        let node = &self.world.nodes()[ix];
        if !node.is_up() || node.incarnation != incarnation {
            return;
        }
        if self.fate.below(3) < 2 {
            self.crash(ix);
            let back = self.world.now() + self.fate.exponential(typical(sessions) / 4);
            return self.at(back, Task::Restart(ix));
        }
        self.retire(ix, true);
    }

    /// A node has left; another takes its place.
    pub(super) fn left(&mut self, ix: NodeIx) {
        self.world.depart(ix);
        self.abandon(ix);
        let fresh = self.world.add_node(&mut self.birth);
        self.world.node_mut(fresh).side = self.world.nodes()[ix].side;
        if self.register.publishers.contains_key(&ix)
            && let Some(specs) = self.spare_specs.pop()
        {
            self.register.enlist(fresh, &self.world.nodes()[fresh], specs, Truth::Honest);
            self.publish_on_join.push(fresh);
        }
        if let Some(slot) = self.askers.iter_mut().find(|asker| **asker == ix) {
            *slot = fresh;
        }
        self.start(fresh);
    }
}

/// A length of a session to go by when something takes a part of one.
const fn typical(sessions: Sessions) -> Duration {
    match sessions {
        Sessions::Exponential { mean } => mean,
        Sessions::LogNormal { median, .. } | Sessions::Weibull { median } => median,
    }
}

/// Sessions that begin in the first half of the day are longer.
fn by_daytime(length: Duration, diurnal: Ppm, now: Time) -> Duration {
    let into_day = micros(now.saturating_since(EPOCH)) % micros(DAY);
    let factor = if into_day < micros(DAY) / 2 { PPM_ONE + diurnal } else { PPM_ONE };
    scaled(length, u64::from(factor), u64::from(PPM_ONE))
}

/// How long a node stays. Integers only, so that it is the same on every machine.
fn draw_session(random: &mut Random, sessions: Sessions) -> Duration {
    let length = match sessions {
        Sessions::Exponential { mean } => random.exponential(mean),
        Sessions::LogNormal { median, sigma_permille } => {
            // exp(sigma * z), in units of 2^-32.
            let exponent =
                (i128::from(standard_normal(random)) * i128::from(sigma_permille)) / 1_000;
            let factor = exp(exponent);
            Duration::from_micros(
                u64::try_from((u128::from(micros(median)) * factor) >> 32).unwrap_or(u64::MAX),
            )
        }
        Sessions::Weibull { median } => {
            let exponential = micros(random.exponential(Duration::from_secs(1)));
            let squared = u128::from(exponential) * u128::from(exponential) / 1_000_000;
            let scaled = u128::from(micros(median)) * squared / u128::from(LN_2_SQUARED_PPM);
            Duration::from_micros(u64::try_from(scaled).unwrap_or(u64::MAX))
        }
    };
    length.clamp(Duration::from_secs(1), SESSION_MAX)
}

fn scaled(duration: Duration, by: u64, of: u64) -> Duration {
    let micros = u128::from(micros(duration)) * u128::from(by) / u128::from(of.max(1));
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

/// A standard normal variate in units of 2^-32: the sum of twelve uniform ones, less six.
fn standard_normal(random: &mut Random) -> i64 {
    let sum: u64 = (0..12).map(|_| random.below(1 << 32)).sum();
    i64::try_from(sum).unwrap_or(i64::MAX) - (6 << 32)
}

/// e^x, argument and result in units of 2^-32, for |x| up to 20.
fn exp(x: i128) -> u128 {
    const ONE: i128 = 1 << 32;
    let x = x.clamp(-20 * ONE, 20 * ONE);
    let doublings = x.div_euclid(LN_2);
    let rest = x.rem_euclid(LN_2);
    let (mut sum, mut term) = (ONE, ONE);
    for n in 1..=16 {
        term = term * rest / (ONE * n);
        sum += term;
    }
    let sum = u128::try_from(sum).unwrap_or(0);
    match u32::try_from(doublings) {
        Ok(left) => sum << left,
        Err(_) => sum >> u32::try_from(-doublings).unwrap_or(127),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_function_is_right_to_a_millionth() {
        for x in [-3.5, -1.0, -0.1, 0.0, 0.5, 1.0, 2.75, 7.0] {
            #[allow(clippy::cast_possible_truncation, reason = "a small constant")]
            let got =
                float(u64::try_from(exp((x * 4_294_967_296.0) as i128)).unwrap()) / 4_294_967_296.0;
            assert!((got / f64::exp(x) - 1.0).abs() < 1e-6, "{x}: {got}");
        }
    }

    /// Share of 20,000 draws up to each limit, in hours.
    fn shares<const N: usize>(sessions: Sessions, hours: [u64; N]) -> [f64; N] {
        let mut random = Random::new(1, "test");
        let draws: Vec<_> = (0..20_000).map(|_| draw_session(&mut random, sessions)).collect();
        hours.map(|limit| {
            let limit = Duration::from_secs(3_600 * limit);
            float(draws.iter().filter(|draw| **draw <= limit).count() as u64) / 20_000.0
        })
    }

    #[test]
    fn the_session_lengths_of_ipfs_go_through_what_was_measured() {
        let [two, eight, day] = shares(Sessions::ipfs(), [2, 8, 24]);
        assert!((0.53..0.58).contains(&two), "{two}");
        assert!((0.865..0.887).contains(&eight), "{eight}");
        assert!((0.965..0.985).contains(&day), "{day}");
    }

    #[test]
    fn weibull_has_its_median_and_a_heavy_tail() {
        let median = Duration::from_secs(3_600);
        // 1 - 2^-sqrt(t / median).
        let [one, four, sixteen] = shares(Sessions::Weibull { median }, [1, 4, 16]);
        assert!((0.49..0.51).contains(&one), "{one}");
        assert!((0.74..0.76).contains(&four), "{four}");
        assert!((0.93..0.945).contains(&sixteen), "{sixteen}");
    }
}
