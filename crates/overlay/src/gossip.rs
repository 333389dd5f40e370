//! Telling a group everything, fast: a pure state machine for a few thousand members.
//!
//! Membership is HyParView (Leitão, Pereira, Rodrigues, DSN 2007): each member has a few neighbours that it watches, and a larger list
//! of others that take the place of neighbours that go. Messages travel along PlumTree (the same authors, SRDS 2007): to some
//! neighbours whole, which makes a tree, and to the others by name alone, which mends the tree where a member or a message is lost.
//!
//! Like [`crate::Overlay`], [`Group`] holds no socket, clock, thread or source of randomness: events and the time go in,
//! [`GroupAction`]s come out, equal inputs give equal actions. Members are named by whatever the shell calls them.
//!
//! ```
//! use comity_core::Time;
//! use comity_overlay::gossip::{Group, GroupAction};
//!
//! let now = Time::from_secs(1_800_000_000);
//! let (mut one, mut two) = (Group::new(1, [1; 32], now), Group::new(2, [2; 32], now));
//! two.join(now, &[1]);
//! one.broadcast(now, b"a signed item".to_vec())?;
//! let mut delivered = 0;
//! // Carries messages over until nobody has anything to say.
//! for _ in 0..10 {
//!     while let Some(action) = two.poll_action() {
//!         match action {
//!             GroupAction::Send { to: 1, message } => one.receive(now, 2, message, &mut |_| true),
//!             GroupAction::Deliver { payload, .. } => delivered += usize::from(*payload == *b"a signed item"),
//!             GroupAction::Send { .. } | GroupAction::Alone => {}
//!         }
//!     }
//!     while let Some(action) = one.poll_action() {
//!         if let GroupAction::Send { to: 2, message } = action {
//!             two.receive(now, 1, message, &mut |_| true);
//!         }
//!     }
//!     // Whoever becomes a neighbour hears of what was said lately, and asks for it a little later.
//!     let due = two.poll_timeout().unwrap_or(now);
//!     two.timeout(due.max(now));
//! }
//! assert_eq!(delivered, 1);
//! # Ok::<(), comity_overlay::gossip::GroupError>(())
//! ```
//!
//! # Contract
//!
//! * One mutating call, then [`Group::poll_action`] until `None`, then sleep until the next event or [`Group::poll_timeout`].
//! * The transport proves who sent a message. What is broadcast must prove itself: the check given to [`Group::receive`] decides what is
//!   delivered and passed on; who passes on what fails it is a neighbour no more.
//! * Messages may be lost, doubled and overtaken. A peer that cannot be reached is told by [`Group::lost`]; without that, it is missed
//!   after [`SILENT_AFTER`].
//! * [`GroupAction::Alone`]: nobody else that is known answers; the shell finds members by other means, the directory, and calls
//!   [`Group::join`].
//! * All members must check alike, and be patient with what has just expired: who passes on what another's check refuses is taken for a
//!   liar there.

mod members;
mod tree;

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use comity_core::Time;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use members::Members;
pub use tree::REMEMBERED_FOR;
use tree::Tree;

/// Neighbours of a member: for 10,000 members four and one suffice (HyParView, section 4.1).
pub const NEIGHBOURS_MAX: usize = 5;
/// Others that it knows. When four of five members vanish, six of them are left on average.
pub const OTHERS_MAX: usize = 30;
/// Members that one call of [`Group::join`] takes.
pub const CONTACTS_MAX: usize = 8;
/// Members that one message names.
pub const NAMED_MAX: usize = 8;
/// Bytes of one broadcast: an item of the directory and what frames it.
pub const PAYLOAD_MAX: usize = 4_096;
/// Broadcasts named in one message.
pub const NEWS_MAX: usize = 32;
/// A neighbour that was sent nothing for so long is told that its neighbour lives.
pub const ALIVE_EVERY: Duration = Duration::from_secs(4);
/// A neighbour that said nothing for so long is gone: two of its messages would have to be lost.
pub const SILENT_AFTER: Duration = Duration::from_millis(8_500);

/// Names a broadcast: the first 16 bytes of the BLAKE3 hash of its payload, so that nobody can take the name of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BroadcastId(pub [u8; 16]);

impl BroadcastId {
    /// The name of `payload`.
    #[must_use]
    pub fn of(payload: &[u8]) -> Self {
        let mut id = [0; 16];
        id.copy_from_slice(&blake3::hash(payload).as_bytes()[..16]);
        Self(id)
    }
}

/// What members say to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupMessage<P> {
    /// A newcomer asks a member to take it in.
    Join,
    /// A newcomer is passed on, so that it meets others than the first.
    Newcomer {
        /// Who it is.
        newcomer: P,
        /// How many times it is still to be passed on.
        hops: u8,
    },
    /// Asks to become neighbours.
    Ask {
        /// The asker has no other: whoever is asked makes room.
        urgent: bool,
    },
    /// They are neighbours from now on.
    Accept,
    /// They are not: there is no room.
    Refuse,
    /// They are neighbours no more.
    Part {
        /// The sender goes for good.
        leaves: bool,
    },
    /// Some members that the origin knows, for some that whoever keeps the message knows.
    Shuffle {
        /// Who began it.
        origin: P,
        /// At most [`NAMED_MAX`].
        named: Vec<P>,
        /// How many times it is still to be passed on.
        hops: u8,
    },
    /// The answer to a shuffle.
    Shuffled {
        /// At most [`NAMED_MAX`].
        named: Vec<P>,
    },
    /// A broadcast.
    Broadcast {
        /// What it says.
        payload: Arc<[u8]>,
        /// Members that passed it on.
        hops: u8,
    },
    /// Names of broadcasts that the sender has.
    Have {
        /// At most [`NEWS_MAX`], with the members that passed each on.
        news: Vec<(BroadcastId, u8)>,
    },
    /// Broadcasts are to come whole from here on.
    Graft {
        /// This one too, if `send`.
        id: BroadcastId,
        /// Whether it is missing.
        send: bool,
    },
    /// Broadcasts are to come by name alone: this one came from another first.
    Prune {
        /// The one.
        id: BroadcastId,
    },
    /// The sender lives.
    Alive,
}

impl<P> GroupMessage<P> {
    /// Bytes on the wire in a compact encoding, framing not counted: a tag, a byte for each number, 2 for each length, `name` for each
    /// member.
    #[must_use]
    pub fn encoded_len(&self, name: usize) -> usize {
        1 + match self {
            Self::Join | Self::Accept | Self::Refuse | Self::Alive => 0,
            Self::Ask { .. } | Self::Part { .. } => 1,
            Self::Newcomer { .. } => name + 1,
            Self::Shuffle { named, .. } => name + 1 + 2 + named.len() * name,
            Self::Shuffled { named } => 2 + named.len() * name,
            Self::Broadcast { payload, .. } => 1 + 2 + payload.len(),
            Self::Have { news } => 2 + news.len() * 17,
            Self::Graft { .. } => 17,
            Self::Prune { .. } => 16,
        }
    }

    /// The broadcasts it is about.
    #[must_use]
    pub fn about(&self) -> Vec<BroadcastId> {
        match self {
            Self::Broadcast { payload, .. } => vec![BroadcastId::of(payload)],
            Self::Have { news } => news.iter().map(|(id, _)| *id).collect(),
            Self::Graft { id, .. } | Self::Prune { id } => vec![*id],
            Self::Join
            | Self::Newcomer { .. }
            | Self::Ask { .. }
            | Self::Accept
            | Self::Refuse
            | Self::Part { .. }
            | Self::Shuffle { .. }
            | Self::Shuffled { .. }
            | Self::Alive => Vec::new(),
        }
    }
}

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupAction<P> {
    /// Send a message. Whether it arrives is not waited for.
    Send {
        /// To whom.
        to: P,
        /// What.
        message: GroupMessage<P>,
    },
    /// Somebody broadcast this. Each comes once within [`REMEMBERED_FOR`].
    Deliver {
        /// Its name.
        id: BroadcastId,
        /// What was broadcast; it passed the check.
        payload: Arc<[u8]>,
        /// Members that passed it on.
        hops: u8,
    },
    /// There are few neighbours or none, and nobody is left to ask: this may be a piece that is cut off from the rest of the group.
    Alone,
}

/// Why a broadcast is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// It is too long.
    #[error(
        "a broadcast of {given} bytes is longer than {PAYLOAD_MAX}: broadcast its name and let members fetch it"
    )]
    TooLong {
        /// Bytes given.
        given: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer<P> {
    /// Neighbours are told that they have one, and those that say nothing are let go.
    Watch,
    Shuffle,
    /// Somebody who was asked to become a neighbour has not answered.
    Unanswered(P),
    /// Names of broadcasts are sent.
    News,
    /// A broadcast that is known by name has not come.
    Missing(BroadcastId),
}

/// One member of one group. See the module for how to drive it.
#[derive(Debug)]
pub struct Group<P> {
    me: P,
    members: Members<P>,
    tree: Tree<P>,
    timers: BTreeSet<(Time, Timer<P>)>,
    actions: VecDeque<GroupAction<P>>,
    rng: ChaCha8Rng,
}

impl<P: Copy + Ord + Debug> Group<P> {
    /// A member that knows nobody yet. `seed` decides every random choice it will make.
    #[must_use]
    pub fn new(me: P, seed: [u8; 32], now: Time) -> Self {
        let mut group = Self {
            me,
            members: Members::default(),
            tree: Tree::default(),
            timers: BTreeSet::new(),
            actions: VecDeque::new(),
            rng: ChaCha8Rng::from_seed(seed),
        };
        let first = group.share(ALIVE_EVERY);
        group.timers.insert((now + first, Timer::Watch));
        group.schedule_shuffle(now);
        group
    }

    /// Tells everyone. The own payload is not delivered here.
    ///
    /// # Errors
    /// [`GroupError::TooLong`].
    pub fn broadcast(&mut self, now: Time, payload: Vec<u8>) -> Result<BroadcastId, GroupError> {
        if payload.len() > PAYLOAD_MAX {
            return Err(GroupError::TooLong { given: payload.len() });
        }
        let id = BroadcastId::of(&payload);
        self.spread(now, id, payload.into(), 0, None);
        Ok(id)
    }

    /// A message of `from`, whom the transport has authenticated. `check` says whether a payload is what members may broadcast.
    pub fn receive(
        &mut self,
        now: Time,
        from: P,
        message: GroupMessage<P>,
        check: &mut dyn FnMut(&[u8]) -> bool,
    ) {
        if from == self.me {
            return;
        }
        self.members.heard(now, &from);
        match message {
            GroupMessage::Join => self.joined(now, from),
            GroupMessage::Newcomer { newcomer, hops } => self.newcomer(now, from, newcomer, hops),
            GroupMessage::Ask { urgent } => self.asked(now, from, urgent),
            GroupMessage::Accept => self.accepted(now, from),
            GroupMessage::Refuse => self.refused(now, from),
            GroupMessage::Part { leaves } => self.parted(now, from, leaves),
            GroupMessage::Shuffle { origin, named, hops } => {
                self.shuffle(from, origin, named, hops);
            }
            GroupMessage::Shuffled { named } => self.learn(named),
            GroupMessage::Broadcast { payload, hops } => {
                self.receive_broadcast(now, from, payload, hops, check);
            }
            GroupMessage::Have { news } if self.is_neighbour(from) => self.have(now, from, news),
            GroupMessage::Graft { id, send } if self.is_neighbour(from) => {
                self.grafted(now, from, id, send);
            }
            GroupMessage::Prune { .. } if self.is_neighbour(from) => self.tree.prune(&from),
            GroupMessage::Alive if self.is_neighbour(from) => {}
            // It takes this member for a neighbour that it is not.
            GroupMessage::Have { .. }
            | GroupMessage::Graft { .. }
            | GroupMessage::Prune { .. }
            | GroupMessage::Alive => self.put_right(now, from),
        }
    }

    /// Does what is due. Earlier calls do nothing.
    pub fn timeout(&mut self, now: Time) {
        while let Some((due, timer)) = self.timers.first().copied() {
            if due > now {
                break;
            }
            self.timers.pop_first();
            match timer {
                Timer::Watch => self.watch(now),
                Timer::Shuffle => self.begin_shuffle(now),
                Timer::Unanswered(peer) => self.unanswered(now, peer),
                Timer::News => self.send_news(now),
                Timer::Missing(id) => self.fetch(now, id),
            }
        }
    }

    /// The next action, oldest first.
    pub fn poll_action(&mut self) -> Option<GroupAction<P>> {
        self.actions.pop_front()
    }

    /// When to call [`Self::timeout`] next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// The neighbours.
    pub fn neighbours(&self) -> impl Iterator<Item = P> + '_ {
        self.members.neighbours()
    }

    /// Other members known, at most [`OTHERS_MAX`].
    #[must_use]
    pub fn others(&self) -> &[P] {
        self.members.others()
    }

    fn is_neighbour(&self, peer: P) -> bool {
        self.members.is_neighbour(&peer)
    }

    fn send(&mut self, now: Time, to: P, message: GroupMessage<P>) {
        self.members.told(now, &to);
        self.actions.push_back(GroupAction::Send { to, message });
    }

    /// A number below `bound`; 0 when that is 0.
    fn below(&mut self, bound: usize) -> usize {
        let product = u128::from(self.rng.next_u64()) * bound as u128;
        usize::try_from(product >> 64).unwrap_or(0)
    }

    /// A random part of a duration.
    fn share(&mut self, whole: Duration) -> Duration {
        let micros = usize::try_from(whole.as_micros()).unwrap_or(usize::MAX);
        Duration::from_micros(self.below(micros) as u64)
    }
}

#[cfg(test)]
mod tests;
