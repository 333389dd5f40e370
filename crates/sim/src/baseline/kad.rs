//! Kademlia as written: ids, tables, and the lookup with one path.
//!
//! Parameters are those of go-libp2p-kad-dht v0.42 (`amino/defaults.go`): k = 20, 10 requests at once, a lookup ends when the 20 nearest
//! known nodes that did not fail have answered (its `runLookupWithFollowup`). A request fails after the same 1.5 s as in our overlay;
//! libp2p waits up to 10 s.

use std::collections::BTreeSet;
use std::time::Duration;

use comity_core::Time;
use comity_overlay::Cost;

use super::net::{Ix, at, to_ix};
use crate::random::Random;

/// Entries of a bucket, contacts in an answer, custodians of a key.
pub(super) const K: usize = 20;
/// Requests of a lookup under way at once: `DefaultConcurrency` of go-libp2p-kad-dht.
pub(super) const ALPHA: usize = 10;
/// Wait after which a request has failed, as in our overlay.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_millis(1_500);
/// Candidates one lookup remembers, as in our overlay.
const CANDIDATES_MAX: usize = 1_024;

/// All hosts in the order of their ids.
#[derive(Clone, Debug, Default)]
pub(super) struct Ring(Vec<(u128, Ix)>);

impl Ring {
    pub(super) fn new(mut hosts: Vec<(u128, Ix)>) -> Self {
        hosts.sort_unstable();
        Self(hosts)
    }

    /// The `count` hosts nearest to `target`, nearest first.
    pub(super) fn nearest(&self, target: u128, count: usize) -> Vec<Ix> {
        let (mut low, mut high) = (0, self.0.len());
        for depth in 0..128 {
            let (zero, one) = self.halves(low, high, depth);
            let (from, to) = if bit(target, depth) { one } else { zero };
            if to - from < count {
                break;
            }
            (low, high) = (from, to);
        }
        let mut near: Vec<_> =
            self.0[low..high].iter().map(|(id, ix)| (id ^ target, *ix)).collect();
        near.sort_unstable();
        near.into_iter().take(count).map(|(_, ix)| ix).collect()
    }

    /// Where `low..high`, whose ids share `depth` bits, divides by the next bit.
    fn halves(&self, low: usize, high: usize, depth: u32) -> ((usize, usize), (usize, usize)) {
        let split = low + self.0[low..high].partition_point(|(id, _)| !bit(*id, depth));
        ((low, split), (split, high))
    }

    /// The table a long-lived host with this id would have: up to [`K`] random members of each bucket.
    pub(super) fn table(&self, random: &mut Random, me: u128) -> Vec<Ix> {
        let mut table = Vec::new();
        let (mut low, mut high) = (0, self.0.len());
        for depth in 0..128 {
            let (zero, one) = self.halves(low, high, depth);
            let (bucket, rest) = if bit(me, depth) { (zero, one) } else { (one, zero) };
            sample(random, bucket, |place| table.push(self.0[place].1));
            (low, high) = rest;
            if high - low <= 1 {
                break;
            }
        }
        table
    }
}

/// Up to [`K`] distinct places of a range (Floyd's algorithm).
fn sample(random: &mut Random, (low, high): (usize, usize), mut take: impl FnMut(usize)) {
    if high - low <= K {
        (low..high).for_each(take);
        return;
    }
    let mut chosen = BTreeSet::new();
    for last in high - low - K..high - low {
        let place = random.index(last + 1);
        if !chosen.insert(place) {
            chosen.insert(last);
        }
    }
    chosen.into_iter().for_each(|place| take(low + place));
}

fn bit(id: u128, depth: u32) -> bool {
    id >> (127 - depth) & 1 == 1
}

/// A random id.
pub(super) fn draw_id(random: &mut Random) -> u128 {
    let bytes = random.bytes();
    let mut leading = [0; 16];
    leading.copy_from_slice(&bytes[..16]);
    u128::from_be_bytes(leading)
}

/// The tables of all hosts.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) ids: Vec<u128>,
    tables: Vec<Vec<Ix>>,
}

impl Tables {
    pub(super) fn build(random: &mut Random, ids: Vec<u128>) -> (Self, Ring) {
        let hosts = ids.iter().enumerate().map(|(place, id)| (*id, to_ix(place))).collect();
        let ring = Ring::new(hosts);
        let tables = ids.iter().map(|id| ring.table(random, *id)).collect();
        (Self { ids, tables }, ring)
    }

    /// The [`K`] contacts of `host` nearest to `target`, but not `asker`.
    pub(super) fn nearest(&self, host: Ix, target: u128, asker: Ix) -> Vec<Ix> {
        let mut near: Vec<_> = self.tables[at(host)]
            .iter()
            .filter(|ix| **ix != asker)
            .map(|ix| (self.ids[at(*ix)] ^ target, *ix))
            .collect();
        if near.len() > K {
            near.select_nth_unstable(K);
            near.truncate(K);
        }
        near.sort_unstable();
        near.into_iter().map(|(_, ix)| ix).collect()
    }

    /// `host` heard of `other` from itself: it takes a free place in its bucket.
    pub(super) fn learn(&mut self, host: Ix, other: Ix) {
        let (me, table) = (self.ids[at(host)], &mut self.tables[at(host)]);
        let bucket = (me ^ self.ids[at(other)]).leading_zeros();
        let mut in_bucket = 0;
        for known in table.iter() {
            if *known == other {
                return;
            }
            in_bucket += usize::from((me ^ self.ids[at(*known)]).leading_zeros() == bucket);
        }
        if in_bucket < K && host != other {
            table.push(other);
        }
    }

    /// `other` did not answer `host`.
    pub(super) fn forget(&mut self, host: Ix, other: Ix) {
        self.tables[at(host)].retain(|known| *known != other);
    }

    /// Buckets of `host` that are in use.
    pub(super) fn buckets(&self, host: Ix) -> u32 {
        let me = self.ids[at(host)];
        let deepest = |ix: &Ix| (me ^ self.ids[at(*ix)]).leading_zeros();
        self.tables[at(host)].iter().map(deepest).max().unwrap_or(0) + 1
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = Ix> + '_ {
        self.tables.iter().flatten().copied()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    New,
    Asked,
    Answered,
    Failed,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    distance: u128,
    ix: Ix,
    depth: u32,
    state: State,
}

/// A lookup with one path.
#[derive(Debug)]
pub(super) struct Lookup {
    pub(super) owner: Ix,
    pub(super) target: u128,
    pub(super) started: Time,
    pub(super) cost: Cost,
    candidates: Vec<Candidate>,
    in_flight: usize,
}

impl Lookup {
    pub(super) fn new(owner: Ix, target: u128, started: Time) -> Self {
        let cost = Cost::default();
        Self { owner, target, started, cost, candidates: Vec::new(), in_flight: 0 }
    }

    /// Adds nodes to ask, heard of from one that is `depth` requests away.
    pub(super) fn add(&mut self, tables: &Tables, contacts: &[Ix], depth: u32) {
        for ix in contacts.iter().filter(|ix| **ix != self.owner) {
            let distance = tables.ids[at(*ix)] ^ self.target;
            let place = self.candidates.binary_search_by_key(&distance, |known| known.distance);
            if let Err(place) = place {
                let fresh = Candidate { distance, ix: *ix, depth, state: State::New };
                self.candidates.insert(place, fresh);
            }
        }
        self.candidates.truncate(CANDIDATES_MAX);
    }

    /// Whom to ask next, if there is room.
    pub(super) fn next(&mut self) -> Option<Ix> {
        if self.in_flight >= ALPHA {
            return None;
        }
        let near = self.candidates.iter_mut().filter(|known| known.state != State::Failed).take(K);
        let next = near.into_iter().find(|known| known.state == State::New)?;
        next.state = State::Asked;
        self.in_flight += 1;
        self.cost.requests += 1;
        self.cost.hops = self.cost.hops.max(next.depth + 1);
        Some(next.ix)
    }

    fn find(&mut self, ix: Ix) -> Option<&mut Candidate> {
        self.candidates.iter_mut().find(|known| known.ix == ix && known.state == State::Asked)
    }

    /// `from` answered; returns how far away it is, or nothing if it was not waited for.
    pub(super) fn answered(&mut self, from: Ix) -> Option<u32> {
        let candidate = self.find(from)?;
        candidate.state = State::Answered;
        let depth = candidate.depth + 1;
        self.in_flight -= 1;
        Some(depth)
    }

    /// `peer` did not answer in time; returns whether it was still waited for.
    pub(super) fn failed(&mut self, peer: Ix) -> bool {
        let Some(candidate) = self.find(peer) else { return false };
        candidate.state = State::Failed;
        self.in_flight -= 1;
        self.cost.failures += 1;
        true
    }

    /// Whether nothing is under way any more. Ask after [`Lookup::next`] had nothing.
    pub(super) const fn is_over(&self) -> bool {
        self.in_flight == 0
    }

    /// The nearest that answered.
    pub(super) fn closest(&self) -> Vec<Ix> {
        let answered = self.candidates.iter().filter(|known| known.state == State::Answered);
        answered.take(K).map(|known| known.ix).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(count: u32) -> (Vec<u128>, Ring) {
        let mut random = Random::new(1, "test");
        let ids: Vec<_> = (0..count).map(|_| draw_id(&mut random)).collect();
        let ring = Ring::new(ids.iter().enumerate().map(|(at, id)| (*id, to_ix(at))).collect());
        (ids, ring)
    }

    #[test]
    fn the_ring_knows_the_nearest() {
        let (ids, ring) = ring(500);
        let mut random = Random::new(2, "test");
        for _ in 0..50 {
            let target = draw_id(&mut random);
            let mut all: Vec<_> = (0..500).map(|ix: Ix| (ids[at(ix)] ^ target, ix)).collect();
            all.sort_unstable();
            let truth: Vec<_> = all.into_iter().take(K).map(|(_, ix)| ix).collect();
            assert_eq!(ring.nearest(target, K), truth);
        }
        assert_eq!(ring.nearest(0, 1_000).len(), 500);
    }

    #[test]
    fn tables_hold_full_buckets_and_learn_into_free_places() {
        let (ids, _) = ring(500);
        let (mut tables, _) = Tables::build(&mut Random::new(3, "test"), ids);
        let bucket = |tables: &Tables, ix: Ix| (tables.ids[7] ^ tables.ids[at(ix)]).leading_zeros();
        let first = tables.tables[7].iter().filter(|ix| bucket(&tables, **ix) == 0).count();
        assert_eq!(first, K);
        let known = tables.tables[7].clone();
        let stranger = (0..500).find(|ix| bucket(&tables, *ix) == 0 && !known.contains(ix));
        tables.learn(7, stranger.unwrap());
        assert_eq!(tables.tables[7], known, "the bucket is full");
        tables.forget(7, known[0]);
        tables.learn(7, stranger.unwrap());
        assert_eq!(tables.tables[7].last(), stranger.as_ref());
    }
}
