//! Who is in the group: the neighbours, and others to take their place.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Debug;
use std::time::Duration;

use comity_core::Time;

use super::{
    ALIVE_EVERY, CONTACTS_MAX, Group, GroupAction, GroupMessage, NAMED_MAX, NEIGHBOURS_MAX,
    OTHERS_MAX, SILENT_AFTER, Timer,
};

/// Times a newcomer, and a shuffle, is passed on (HyParView, section 5.1: active random walk length).
const WALK: u8 = 6;
/// With so many times left it is remembered on the way (passive random walk length).
const WALK_REMEMBERED: u8 = 3;
/// Neighbours and others that a shuffle names, beside the member that begins it.
const SHUFFLED_NEIGHBOURS: usize = 3;
const SHUFFLED_OTHERS: usize = 4;
/// Time between two shuffles: short at first, twice as long each time.
const SHUFFLE_FIRST: Duration = Duration::from_secs(5);
const SHUFFLE_EVERY: Duration = Duration::from_secs(60);
/// Who was asked to become a neighbour and has not answered by then is gone.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// Members asked at once.
const ASKED_MAX: usize = 6;
/// With so many neighbours and nobody left to ask, a member may be in a piece that is cut off from the rest.
const FEW: usize = 2;
/// How often the shell is told so: twice as seldom each time, until a neighbour is lost.
const ALONE_FIRST: Duration = Duration::from_secs(5);
const ALONE_EVERY: Duration = Duration::from_secs(600);
/// Members that said that they have no room, remembered until the neighbours are watched next.
const FULL_MAX: usize = 2 * OTHERS_MAX;
/// Members that broke rules have no part in the views for so long, and so many are remembered.
const SHUNNED_FOR: Duration = Duration::from_secs(600);
const SHUNNED_MAX: usize = 64;

#[derive(Clone, Copy, Debug)]
struct Link {
    heard: Time,
    told: Time,
}

/// The views.
#[derive(Debug)]
pub(super) struct Members<P> {
    neighbours: BTreeMap<P, Link>,
    others: Vec<P>,
    /// Asked to become neighbours, with the timer.
    asked: BTreeMap<P, Time>,
    /// Said lately that they have no room.
    full: BTreeSet<P>,
    shuffle_every: Duration,
    alone_told: Option<Time>,
    alone_every: Duration,
    /// The oldest first.
    shunned: VecDeque<(Time, P)>,
    leaving: bool,
}

impl<P> Default for Members<P> {
    fn default() -> Self {
        Self {
            neighbours: BTreeMap::new(),
            others: Vec::new(),
            asked: BTreeMap::new(),
            full: BTreeSet::new(),
            shuffle_every: SHUFFLE_FIRST,
            alone_told: None,
            alone_every: ALONE_FIRST,
            shunned: VecDeque::new(),
            leaving: false,
        }
    }
}

impl<P: Copy + Ord> Members<P> {
    pub(super) fn neighbours(&self) -> impl Iterator<Item = P> + '_ {
        self.neighbours.keys().copied()
    }

    pub(super) fn others(&self) -> &[P] {
        &self.others
    }

    pub(super) fn is_neighbour(&self, peer: &P) -> bool {
        self.neighbours.contains_key(peer)
    }

    fn is_shunned(&self, peer: &P) -> bool {
        self.shunned.iter().any(|(_, shunned)| shunned == peer)
    }

    #[cfg(test)]
    pub(super) fn full_len(&self) -> usize {
        self.full.len()
    }

    fn note_full(&mut self, peer: P) {
        if self.full.len() < FULL_MAX {
            self.full.insert(peer);
        }
    }

    pub(super) fn heard(&mut self, now: Time, peer: &P) {
        if let Some(link) = self.neighbours.get_mut(peer) {
            link.heard = now;
        }
    }

    pub(super) fn told(&mut self, now: Time, peer: &P) {
        if let Some(link) = self.neighbours.get_mut(peer) {
            link.told = now;
        }
    }
}

impl<P: Copy + Ord + Debug> Group<P> {
    /// Enters the group through some of its members, the first [`CONTACTS_MAX`]; more are known then in case the first do not answer.
    pub fn join(&mut self, now: Time, contacts: &[P]) {
        self.members.leaving = false;
        let me = self.me;
        let contacts = contacts.iter().copied().filter(|contact| *contact != me);
        let contacts: Vec<_> = contacts.take(CONTACTS_MAX).collect();
        self.learn(contacts.clone());
        let first = contacts.into_iter().find(|contact| !self.is_neighbour(*contact));
        if let Some(first) = first {
            self.expect(now, first);
            self.send(now, first, GroupMessage::Join);
        }
    }

    /// Goes: neighbours look for others at once.
    pub fn leave(&mut self, now: Time) {
        self.members.leaving = true;
        for peer in self.members.neighbours().collect::<Vec<_>>() {
            self.send(now, peer, GroupMessage::Part { leaves: true });
            self.cut(peer);
        }
    }

    /// `peer` cannot be reached.
    pub fn lost(&mut self, now: Time, peer: P) {
        self.members.others.retain(|other| *other != peer);
        self.answered(&peer);
        self.cut(peer);
        self.fill(now);
    }

    // ---- neighbours ----

    pub(super) fn joined(&mut self, now: Time, from: P) {
        if self.members.is_shunned(&from) || self.members.leaving {
            return;
        }
        self.send(now, from, GroupMessage::Accept);
        self.link(now, from);
        let others: Vec<_> = self.members.neighbours().filter(|peer| *peer != from).collect();
        for other in others {
            self.send(now, other, GroupMessage::Newcomer { newcomer: from, hops: WALK });
        }
    }

    pub(super) fn newcomer(&mut self, now: Time, from: P, newcomer: P, hops: u8) {
        let known = newcomer == self.me || self.is_neighbour(newcomer);
        if known || self.members.is_shunned(&newcomer) {
            return;
        }
        let hops = hops.min(WALK);
        if hops == WALK_REMEMBERED {
            self.learn(vec![newcomer]);
        }
        let next = self.random_neighbour(&[from, newcomer]);
        match next.filter(|_| hops > 0) {
            Some(next) => {
                self.send(now, next, GroupMessage::Newcomer { newcomer, hops: hops - 1 });
            }
            None if self.members.asked.len() < ASKED_MAX => {
                self.expect(now, newcomer);
                self.send(now, newcomer, GroupMessage::Ask { urgent: true });
            }
            None => self.learn(vec![newcomer]),
        }
    }

    pub(super) fn asked(&mut self, now: Time, from: P, urgent: bool) {
        let room = self.members.neighbours.len() < NEIGHBOURS_MAX || self.is_neighbour(from);
        let welcome = !self.members.leaving && !self.members.is_shunned(&from);
        if (room || urgent) && welcome {
            self.answered(&from);
            self.send(now, from, GroupMessage::Accept);
            self.link(now, from);
        } else {
            self.learn(vec![from]);
            self.send(now, from, GroupMessage::Refuse);
        }
    }

    pub(super) fn accepted(&mut self, now: Time, from: P) {
        if self.answered(&from) {
            self.link(now, from);
        } else if !self.is_neighbour(from) {
            self.put_right(now, from);
        }
    }

    pub(super) fn refused(&mut self, now: Time, from: P) {
        if self.answered(&from) {
            self.members.note_full(from);
            self.fill(now);
        }
    }

    pub(super) fn parted(&mut self, now: Time, from: P, leaves: bool) {
        if !self.cut(from) {
            return;
        }
        if leaves {
            self.members.others.retain(|other| *other != from);
        } else {
            self.learn(vec![from]);
            // Whoever made room for another has none.
            self.members.note_full(from);
        }
        self.fill(now);
    }

    /// `from` takes this member for a neighbour.
    pub(super) fn put_right(&mut self, now: Time, from: P) {
        if !self.members.asked.contains_key(&from) {
            self.send(now, from, GroupMessage::Part { leaves: false });
        }
    }

    pub(super) fn unanswered(&mut self, now: Time, peer: P) {
        if self.members.asked.remove(&peer).is_some() {
            self.members.others.retain(|other| *other != peer);
            self.fill(now);
        }
    }

    /// Makes `peer` a neighbour; if there are too many, chance decides who is one no more.
    fn link(&mut self, now: Time, peer: P) {
        if self.is_neighbour(peer) {
            return;
        }
        while self.members.neighbours.len() >= NEIGHBOURS_MAX {
            let Some(gone) = self.random_neighbour(&[]) else { break };
            self.send(now, gone, GroupMessage::Part { leaves: false });
            self.cut(gone);
            self.learn(vec![gone]);
        }
        self.members.others.retain(|other| *other != peer);
        self.members.full.remove(&peer);
        self.members.neighbours.insert(peer, Link { heard: now, told: now });
        self.linked(now, peer);
    }

    /// `peer` is a neighbour no more. Returns whether it was one.
    fn cut(&mut self, peer: P) -> bool {
        self.tree.unlink(&peer);
        self.members.alone_every = ALONE_FIRST;
        self.members.neighbours.remove(&peer).is_some()
    }

    /// Drops a neighbour that breaks rules, and has nothing to do with it for a while.
    pub(super) fn banish(&mut self, now: Time, peer: P) {
        self.members.others.retain(|other| *other != peer);
        if self.members.shunned.len() >= SHUNNED_MAX {
            self.members.shunned.pop_front();
        }
        self.members.shunned.push_back((now, peer));
        if self.cut(peer) {
            self.send(now, peer, GroupMessage::Part { leaves: false });
            self.fill(now);
        }
    }

    fn expect(&mut self, now: Time, peer: P) {
        let due = now + ANSWER_WITHIN;
        if let Some(before) = self.members.asked.insert(peer, due) {
            self.timers.remove(&(before, Timer::Unanswered(peer)));
        }
        self.timers.insert((due, Timer::Unanswered(peer)));
    }

    /// Whether `peer` was asked something; it is not any more.
    fn answered(&mut self, peer: &P) -> bool {
        let due = self.members.asked.remove(peer);
        due.is_some_and(|due| self.timers.remove(&(due, Timer::Unanswered(*peer))))
    }

    /// Asks others to become neighbours, as many as are missing.
    fn fill(&mut self, now: Time) {
        if self.members.leaving {
            return;
        }
        loop {
            let Members { neighbours, others, asked, full, .. } = &self.members;
            let missing = NEIGHBOURS_MAX.saturating_sub(neighbours.len());
            // Where nobody answers, more are asked at once than are missing.
            let most = if neighbours.is_empty() { ASKED_MAX } else { missing.min(ASKED_MAX) };
            if missing == 0 || asked.len() >= most {
                return;
            }
            let urgent = neighbours.is_empty();
            let free = |other: &&P| !asked.contains_key(*other) && !full.contains(*other);
            let candidates: Vec<P> = others.iter().filter(free).copied().collect();
            if candidates.is_empty() {
                if neighbours.len() <= FEW && asked.is_empty() {
                    self.alone(now);
                }
                return;
            }
            let chosen = candidates[self.below(candidates.len())];
            self.expect(now, chosen);
            self.send(now, chosen, GroupMessage::Ask { urgent });
        }
    }

    fn alone(&mut self, now: Time) {
        let every = self.members.alone_every;
        let told = self.members.alone_told;
        if told.is_none_or(|told| now.saturating_since(told) >= every) {
            self.members.alone_told = Some(now);
            self.members.alone_every = (every * 2).min(ALONE_EVERY);
            self.actions.push_back(GroupAction::Alone);
        }
    }

    /// Neighbours are told that they have one; who says nothing is gone; who had no room is asked again.
    pub(super) fn watch(&mut self, now: Time) {
        self.members.full.clear();
        self.members.shunned.retain(|(at, _)| now.saturating_since(*at) < SHUNNED_FOR);
        let links: Vec<_> =
            self.members.neighbours.iter().map(|(peer, link)| (*peer, *link)).collect();
        for (peer, link) in links {
            if now.saturating_since(link.heard) >= SILENT_AFTER {
                self.cut(peer);
            } else if now.saturating_since(link.told) >= ALIVE_EVERY / 2 {
                self.send(now, peer, GroupMessage::Alive);
            }
        }
        self.fill(now);
        // At times of its own, so that not all members of a group speak at once.
        let jitter = self.share(ALIVE_EVERY / 8);
        self.timers.insert((now + ALIVE_EVERY - jitter, Timer::Watch));
    }

    // ---- others ----

    /// Remembers members. Of too many, chance decides who is forgotten.
    pub(super) fn learn(&mut self, mut named: Vec<P>) {
        named.truncate(NAMED_MAX);
        for peer in named {
            let known = self.is_neighbour(peer) || self.members.others.contains(&peer);
            if known || peer == self.me || self.members.is_shunned(&peer) {
                continue;
            }
            if self.members.others.len() >= OTHERS_MAX {
                let forgotten = self.below(OTHERS_MAX);
                self.members.others.swap_remove(forgotten);
            }
            self.members.others.push(peer);
        }
    }

    pub(super) fn schedule_shuffle(&mut self, now: Time) {
        let every = self.members.shuffle_every;
        self.members.shuffle_every = (every * 2).min(SHUFFLE_EVERY);
        let due = now + every / 2 + self.share(every);
        self.timers.insert((due, Timer::Shuffle));
    }

    pub(super) fn begin_shuffle(&mut self, now: Time) {
        self.schedule_shuffle(now);
        let Some(to) = self.random_neighbour(&[]) else { return };
        let (neighbours, others) =
            (self.members.neighbours().collect(), self.members.others.clone());
        let mut named = self.some(neighbours, SHUFFLED_NEIGHBOURS, to);
        named.extend(self.some(others, SHUFFLED_OTHERS, to));
        named.push(self.me);
        let message = GroupMessage::Shuffle { origin: self.me, named, hops: WALK };
        self.send(now, to, message);
    }

    pub(super) fn shuffle(&mut self, from: P, origin: P, mut named: Vec<P>, hops: u8) {
        if origin == self.me {
            return;
        }
        named.truncate(NAMED_MAX);
        let next = self.random_neighbour(&[from, origin]);
        if let Some(next) = next.filter(|_| hops > 0) {
            let message = GroupMessage::Shuffle { origin, named, hops: hops.min(WALK) - 1 };
            return self.actions.push_back(GroupAction::Send { to: next, message });
        }
        let answer = self.some(self.members.others.clone(), named.len(), origin);
        let message = GroupMessage::Shuffled { named: answer };
        self.actions.push_back(GroupAction::Send { to: origin, message });
        self.learn(named);
    }

    /// Some of `all`, as chance has it, without `except`.
    fn some(&mut self, mut all: Vec<P>, count: usize, except: P) -> Vec<P> {
        all.retain(|peer| *peer != except);
        while all.len() > count {
            let out = self.below(all.len());
            all.swap_remove(out);
        }
        all
    }

    fn random_neighbour(&mut self, except: &[P]) -> Option<P> {
        let all: Vec<_> = self.members.neighbours().filter(|peer| !except.contains(peer)).collect();
        let at = self.below(all.len());
        all.get(at).copied()
    }
}
