//! Work on its way: who works out an answer for longer than a moment tells the nodes that keep pointers to it, and who asks the same waits for that
//! answer instead of having it worked out twice.
//!
//! A marker is unsigned and lives for seconds; who keeps it or who set it may lie. So nobody waits for longer than the producer itself is expected to
//! need, and who waited in vain waits for nobody for a minute: a liar costs one such wait a minute and capability, and never the answer. What comes
//! is verified like any other answer.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use comity_core::{AgentId, Hash, Time};
use comity_results::key::{IndexKey, QuestionKey};
use tokio::sync::OwnedMutexGuard;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use super::share::{Fit, Given, Lead, Outside};
use super::wire::{Question, WorkedBy};
use super::{Results, locked};
use crate::groups::PrivateGroup;
use crate::node::Node;
use crate::rpc::{CallFailure, ErrorCode};

/// Work that lasts this long is told of.
const MARK_AFTER: Duration = Duration::from_millis(200);
/// How long a marker lives; then it is told again while the work lasts.
const MARK_LIFE: Duration = Duration::from_secs(10);
/// How often it is told at most.
const MARKS_OF_WORK: usize = 6;
/// Nodes that are told.
const TELL: usize = 2;
/// See [`TOLD_A_MINUTE`].
const MINUTE: Duration = Duration::from_secs(60);
/// Works that are told of in a minute.
const TOLD_A_MINUTE: usize = 60;
/// Markers of others that are kept.
const MARKS_MAX: usize = 4_096;
/// Of them, markers of one agent.
const MARKS_OF_AGENT: usize = 64;
/// Markers of one name.
pub(super) const MARKS_OF_KEY: usize = 4;
/// Peers that wait here for answers at once.
const AWAITING_MAX: usize = 256;
/// How long one waits at most.
const AWAIT_FOR: Duration = Duration::from_secs(4);
/// How long one waits where nothing is known of how long the producer needs.
const AWAIT_UNKNOWN: Duration = Duration::from_secs(1);
/// After waiting in vain, how long nobody is waited for.
const VAIN_FOR: Duration = Duration::from_secs(60);
/// Capabilities of which it is remembered that waiting was in vain.
const VAIN_MAX: usize = 1_024;

/// Who works out what.
#[derive(Debug, Default)]
pub(super) struct Working {
    /// Others' markers, kept for who asks.
    marks: BTreeMap<IndexKey, BTreeMap<AgentId, Option<SocketAddr>>>,
    /// The same in the order of their ends.
    order: VecDeque<(Time, IndexKey, AgentId)>,
    of_agent: BTreeMap<AgentId, usize>,
    /// What is worked out for calls of this node, and for whose members.
    own: BTreeMap<IndexKey, Own>,
    /// When own works were told of, in the last minute.
    told: VecDeque<Time>,
    /// Capabilities, by declaration, of which an answer was waited for in vain.
    vain: BTreeMap<Hash, Time>,
}

#[derive(Debug, Clone)]
struct Own {
    question: QuestionKey,
    group: Option<String>,
    /// Calls that have it worked out; mostly one.
    calls: usize,
}

impl Working {
    /// Keeps the marker of an agent that brings it itself.
    fn mark(&mut self, key: IndexKey, agent: AgentId, addr: Option<SocketAddr>, now: Time) -> bool {
        self.expire(now);
        let of_key = self.marks.get(&key).map_or(0, BTreeMap::len);
        let of_agent = self.of_agent.get(&agent).copied().unwrap_or_default();
        if self.marks.get(&key).is_some_and(|marks| marks.contains_key(&agent)) {
            return true;
        }
        if self.order.len() >= MARKS_MAX || of_key >= MARKS_OF_KEY || of_agent >= MARKS_OF_AGENT {
            return false;
        }
        self.marks.entry(key).or_default().insert(agent, addr);
        self.of_agent.insert(agent, of_agent + 1);
        self.order.push_back((now + MARK_LIFE, key, agent));
        true
    }

    fn expire(&mut self, now: Time) {
        while let Some((_, key, agent)) =
            self.order.front().filter(|(end, ..)| *end <= now).copied()
        {
            self.order.pop_front();
            if let Some(marks) = self.marks.get_mut(&key) {
                marks.remove(&agent);
                if marks.is_empty() {
                    self.marks.remove(&key);
                }
            }
            if let Some(count) = self.of_agent.get_mut(&agent) {
                *count -= 1;
                if *count == 0 {
                    self.of_agent.remove(&agent);
                }
            }
        }
    }

    fn of(&mut self, key: &IndexKey, now: Time) -> Vec<WorkedBy> {
        self.expire(now);
        let marks = self.marks.get(key).into_iter().flatten();
        let told = marks.map(|(agent, addr)| WorkedBy {
            agent: *agent,
            addr: addr.map(|addr| addr.to_string()),
        });
        told.collect()
    }

    /// Whether one more work may be told of.
    fn may_tell(&mut self, now: Time) -> bool {
        self.told.retain(|at| now.saturating_since(*at) < MINUTE);
        let may = self.told.len() < TOLD_A_MINUTE;
        if may {
            self.told.push_back(now);
        }
        may
    }

    fn begin(&mut self, key: IndexKey, question: QuestionKey, group: Option<String>) {
        self.own.entry(key).or_insert(Own { question, group, calls: 0 }).calls += 1;
    }

    fn end(&mut self, key: &IndexKey) {
        if let Some(own) = self.own.get_mut(key) {
            own.calls -= 1;
            if own.calls == 0 {
                self.own.remove(key);
            }
        }
    }

    fn is_vain(&self, descriptor: &Hash, now: Time) -> bool {
        self.vain.get(descriptor).is_some_and(|at| now.saturating_since(*at) < VAIN_FOR)
    }

    fn in_vain(&mut self, descriptor: Hash, now: Time) {
        self.vain.retain(|_, at| now.saturating_since(*at) < VAIN_FOR);
        if self.vain.len() < VAIN_MAX {
            self.vain.insert(descriptor, now);
        }
    }
}

/// The right to have an answer worked out, while others of this node that ask the same wait; peers hear of it, where they may.
#[derive(Debug)]
pub(crate) struct Turn {
    _work: Option<Work>,
    _guard: OwnedMutexGuard<()>,
}

/// Own work that peers may wait for, until it is dropped.
struct Work {
    results: Arc<Results>,
    key: IndexKey,
    _teller: AbortOnDropHandle<()>,
}

impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Work").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        locked(&self.results.working).end(&self.key);
    }
}

impl Results {
    /// Keeps the marker of a caller that works.
    pub(super) fn note_work(
        &self,
        caller: &AgentId,
        remote: Option<SocketAddr>,
        key: IndexKey,
    ) -> bool {
        locked(&self.working).mark(key, *caller, remote, self.clock.now())
    }

    /// Who works out the answer of this name, as far as is known here.
    pub(super) fn told_working(&self, key: &IndexKey) -> Vec<WorkedBy> {
        locked(&self.working).of(key, self.clock.now())
    }

    /// The answer of this name, once own work for it has ended.
    pub(super) async fn awaited(
        &self,
        key: &IndexKey,
        group: Option<&PrivateGroup>,
    ) -> Result<Bytes, CallFailure> {
        let nothing = || {
            let text = "this agent does not work out anything of that name";
            CallFailure::new(ErrorCode::NotFound, text)
        };
        let own = locked(&self.working).own.get(key).cloned();
        let meant = |own: &Own| {
            own.group.is_none() || own.group.as_deref() == group.map(PrivateGroup::name)
        };
        if let Some(own) = own.filter(meant) {
            let Ok(_place) = self.awaiting.try_acquire() else {
                let text = "too many wait for answers here: ask the producer";
                return Err(CallFailure::new(ErrorCode::Busy, text));
            };
            let flight = self.flight(own.question).lock_owned();
            if tokio::time::timeout(AWAIT_FOR, flight).await.is_err() {
                let text = "the answer is still being worked out: ask the producer";
                return Err(CallFailure::new(ErrorCode::Timeout, text));
            }
        }
        let held = self.offer(key, group).or_else(|| self.hand_over(key, group));
        held.map(Bytes::from).ok_or_else(nothing)
    }

    /// How long the producers of an answer are expected to need.
    fn expected(&self, fit: &Fit<'_>) -> Duration {
        let now = self.clock.now();
        let reputation = locked(&self.reputation);
        let known =
            fit.producers.iter().filter_map(|agent| reputation.standing(agent, now).latency);
        known.max().unwrap_or(AWAIT_UNKNOWN).min(AWAIT_FOR)
    }
}

/// As many as are waited for at once.
pub(super) fn places() -> tokio::sync::Semaphore {
    tokio::sync::Semaphore::new(AWAITING_MAX)
}

impl Node {
    /// Takes note that an answer is being worked out, and tells peers if it takes long.
    pub(super) fn begin_work(
        &self,
        guard: OwnedMutexGuard<()>,
        question: QuestionKey,
        outside: Option<Outside>,
    ) -> Turn {
        let work = outside.map(|outside| {
            let results = Arc::clone(&self.inner.results);
            let Outside { key, group } = outside;
            locked(&results.working).begin(key, question, group);
            let node = self.clone();
            let teller = tokio::spawn(async move {
                tokio::time::sleep(MARK_AFTER).await;
                let now = node.inner.clock.now();
                if !locked(&node.inner.results.working).may_tell(now) {
                    return;
                }
                for _ in 0..MARKS_OF_WORK {
                    node.tell_work(&key).await;
                    tokio::time::sleep(MARK_LIFE).await;
                }
            });
            Work { results, key, _teller: AbortOnDropHandle::new(teller) }
        });
        Turn { _work: work, _guard: guard }
    }

    async fn tell_work(&self, key: &IndexKey) {
        let question = Question::Begin { key: *key };
        let keepers = self.nearest(key, TELL).await;
        // Where the network is small, this node is one of those who are asked.
        if keepers.len() < TELL {
            let addr = self.info().addrs.first().copied();
            self.inner.results.note_work(&self.id(), addr, *key);
        }
        let told = keepers
            .iter()
            .map(|(agent, addrs)| self.ask_about_results(*agent, addrs, &question, None));
        futures_util::future::join_all(told).await;
    }

    /// The answer of a peer that is about to have it.
    pub(super) async fn held_by_workers(
        &self,
        fit: &Fit<'_>,
        outside: &Outside,
        workers: &[WorkedBy],
        patience: Duration,
    ) -> Option<(Given, Lead)> {
        let results = &self.inner.results;
        let now = self.inner.clock.now();
        let descriptor = fit.terms.descriptor;
        if locked(&results.working).is_vain(&descriptor, now) {
            return None;
        }
        let worker = workers
            .iter()
            .find(|worker| worker.agent != self.id() && !results.is_disappointing(&worker.agent))?;
        let addrs: Vec<SocketAddr> =
            worker.addr.as_deref().and_then(|addr| addr.parse().ok()).into_iter().collect();
        let patience = patience.min(results.expected(fit));
        let question = Question::Await { key: outside.key };
        let awaited = self.fetched(fit, outside, worker.agent, &addrs, &question, patience).await;
        match awaited {
            Ok(given) => Some((given, Lead::unannounced(worker.agent, addrs))),
            Err(wrong) => {
                debug!(worker = %worker.agent.short(), %wrong, "an answer was waited for in vain");
                locked(&results.working).in_vain(descriptor, self.inner.clock.now());
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn agent(n: u8) -> AgentId {
        comity_core::Identity::from_secret_bytes(&[n; 32]).id()
    }

    fn key(n: u16) -> IndexKey {
        IndexKey(Hash::of(&n.to_be_bytes()))
    }

    proptest! {
        /// Whatever is told and whenever: bounded, expired in time, and counted right.
        #[test]
        fn markers_are_bounded_and_end(
            events in proptest::collection::vec((0u8..6, 0u16..200, 0u64..2_000), 0..600),
        ) {
            let agents: Vec<AgentId> = (0..6).map(agent).collect();
            let mut working = Working::default();
            let mut now = Time::from_millis(0);
            for (who, what, later) in events {
                now += Duration::from_millis(later);
                let who = agents[usize::from(who)];
                let kept = working.mark(key(what), who, None, now);
                let told = working.of(&key(what), now);
                prop_assert!(told.len() <= MARKS_OF_KEY);
                prop_assert_eq!(kept, told.iter().any(|mark| mark.agent == who));
                let all: usize = working.marks.values().map(BTreeMap::len).sum();
                prop_assert_eq!(all, working.order.len());
                prop_assert_eq!(all, working.of_agent.values().sum::<usize>());
                prop_assert!(working.of_agent.values().all(|count| (1..=MARKS_OF_AGENT).contains(count)));
            }
            now += MARK_LIFE;
            working.expire(now);
            prop_assert!(working.marks.is_empty() && working.of_agent.is_empty());
        }
    }

    #[test]
    fn only_so_many_works_are_told_of_in_a_minute() {
        let mut working = Working::default();
        let now = Time::from_millis(5);
        assert!((0..TOLD_A_MINUTE).all(|_| working.may_tell(now)));
        assert!(!working.may_tell(now));
        assert!(working.may_tell(now + MINUTE));
    }

    #[test]
    fn waiting_in_vain_is_remembered_for_a_while() {
        let mut working = Working::default();
        let (one, other) = (Hash::of(b"one"), Hash::of(b"other"));
        let now = Time::from_millis(5);
        working.in_vain(one, now);
        assert!(working.is_vain(&one, now) && !working.is_vain(&other, now));
        assert!(!working.is_vain(&one, now + VAIN_FOR));
    }
}
