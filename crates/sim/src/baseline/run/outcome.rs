//! The numbers of a run.

use super::{Directory, Runner, Task, What};
use crate::baseline::net::{Ix, at, to_ix};
use crate::report::{
    Attack, CustodyReport, Hits, Lifecycle, NetworkState, REPORT_FORMAT, Report, Values, Wait,
    float,
};
use crate::scenario::EPOCH;

impl<D: Directory> Runner<D> {
    /// What each host of the scenario, and the server, sent, sent in bytes, and served.
    fn tally(&self) -> Vec<(u64, u64, u64)> {
        let hosts = self.net.hosts.iter();
        hosts.map(|host| (host.sent, host.bytes_sent, host.served)).collect()
    }

    fn seconds(&self) -> f64 {
        self.net.now().saturating_since(EPOCH).as_secs_f64()
    }

    fn live(&self) -> u64 {
        self.net.hosts.iter().filter(|host| host.up).count() as u64
    }

    pub(super) fn phase_begins(&mut self, phase: usize) {
        self.phases[phase].done.begin_seconds = self.seconds();
        self.phase_starts[phase] = self.tally();
    }

    pub(super) fn phase_ends(&mut self, phase: usize) {
        let (begin, end, live) =
            (self.phases[phase].done.begin_seconds, self.seconds(), self.live());
        let starts = std::mem::take(&mut self.phase_starts[phase]);
        let up = |(ix, _): &(usize, _)| self.net.hosts[*ix].up;
        let now = self.tally();
        let of = |field: fn(&(u64, u64, u64)) -> u64| -> Values {
            let pairs = now.iter().zip(&starts).enumerate().filter(up);
            pairs.map(|(_, (now, start))| field(now) - field(start)).collect()
        };
        let seconds = (end - begin).max(f64::MIN_POSITIVE);
        let done = &mut self.phases[phase].done;
        (done.end_seconds, done.live_nodes) = (end, live);
        done.messages_per_second = of(|tally| tally.0).spread(seconds);
        done.sent_per_second = of(|tally| tally.1).spread(seconds);
        done.served_per_second = of(|tally| tally.2).spread(seconds);
        if phase == 0 {
            self.custody = self.custody_now();
        }
    }

    fn custody_now(&self) -> CustodyReport {
        let all = 0..to_ix(self.net.hosts.len());
        let up: Vec<Ix> = all.filter(|ix| self.net.host(*ix).up).collect();
        let held: Vec<_> = up.iter().map(|ix| self.design.held(*ix)).collect();
        let item_bytes = self.catalogue.digest_bytes;
        let values =
            |field: &dyn Fn(usize) -> u64| -> Values { (0..up.len()).map(field).collect() };
        CustodyReport {
            items: values(&|place| held[place].items).spread(1.0),
            bytes: values(&|place| held[place].items * item_bytes).spread(1.0),
            shard_digests: values(&|place| held[place].largest_key).spread(1.0),
            served: values(&|place| self.net.hosts[at(up[place])].served).spread(1.0),
        }
    }

    pub(super) fn bucket(&mut self) {
        let (begin, bytes, micros) = self.bucket_start;
        let (now, sent, up) = (self.net.now(), self.net.counters.bytes, self.net.up_micros());
        let rate = (up > micros).then(|| float(sent - bytes) / float(up - micros) * 1e6);
        let state = NetworkState {
            live_nodes: self.live(),
            sent_per_second: rate,
            ..NetworkState::default()
        };
        self.series.network(begin, state);
        self.bucket_start = (now, sent, up);
        self.at(now + self.series.bucket(), Task::Bucket);
    }

    pub(super) fn report(mut self) -> Report {
        for pending in self.pending.values() {
            match pending.what {
                What::Query { phase, .. } => self.phases[phase].queries.abandoned += 1,
                What::Look(watch) => self.waits[self.watches[watch].watched.slot()].1 += 1,
                What::Lookup { .. } => {}
            }
        }
        let wait = |slot: usize| Wait {
            seconds: self.waits[slot].0.spread(1e6),
            never: self.waits[slot].1,
        };
        let (up, entries) = self.design.dead_entries(&self.net);
        let bad = self.net.hosts.iter().filter(|host| host.bad.is_some()).count() as u64;
        let own = self.plan.scenario.nodes + usize::from(self.design.server().is_some());
        let minted = self.net.hosts.len().saturating_sub(own) as u64;
        Report {
            format: REPORT_FORMAT,
            repeat: self.plan.scenario.repeat(),
            virtual_seconds: self.seconds(),
            trace: self.net.trace_hash().to_string(),
            counters: self.net.counters,
            phases: self.phases.iter().map(crate::report::PhaseBuilder::finish).collect(),
            series: self.series.finish(),
            marks: self.marks.clone(),
            publications: self.publications.finish(),
            renewals: self.renewals.finish(),
            entries: Hits { found: up, wanted: entries },
            custody: self.custody,
            lifecycle: Lifecycle { found: wait(0), retired: wait(1), crashed: wait(2) },
            attack: Attack {
                adversaries: bad,
                keys: minted / std::cmp::max(self.plan.eclipse.ids as u64, 1),
                minted_ids: minted,
                ..Attack::default()
            },
            scenario: self.plan.scenario,
            ..Report::default()
        }
    }
}
