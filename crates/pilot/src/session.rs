//! The tunnel to one peer: exchange keys, the session in use, the one that may replace it, and the way packets take.
//!
//! Pilot's own daemons put a new session into place whenever a signed exchange arrives. An exchange can be recorded and replayed by
//! anybody, so here it only ever adds a candidate: the session in use, its counters and its path change when a **frame opened under the
//! new key**, or came from a new place with a counter never seen.

use std::net::SocketAddr;

use comity_core::Time;

use crate::address::NodeId;
use crate::crypto::{Cipher, Dialect, ExchangeKey};
use crate::frame::{Nonce, Sealed};
use crate::replay::{Replay, Verdict};

/// How a frame gets to a peer, or came from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Path {
    /// To this UDP endpoint.
    Direct(SocketAddr),
    /// Through the beacon.
    Relay,
}

/// What both ends derived from one pair of exchange keys.
#[derive(Debug)]
pub(crate) struct Session {
    /// The peer's exchange key.
    pub(crate) x25519: [u8; 32],
    ciphers: [Cipher; 2],
    /// The dialect the peer proved to speak.
    pub(crate) dialect: Option<Dialect>,
    prefix: [u8; 4],
    counter: u64,
    replay: Replay,
    /// Where frames of this session go.
    pub(crate) path: Path,
    /// When a direct frame last arrived.
    pub(crate) direct_at: Option<Time>,
}

/// What opening a frame yielded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    /// A packet never seen, in the buffer.
    Fresh,
    /// Not of this session.
    No,
    /// Of this session, and seen before.
    Replayed,
    /// Of this session in the dialect that the peer does not speak here: it asked in both, not knowing which is understood.
    Probe,
}

impl Session {
    /// From both halves; `None` for a peer's key of small order.
    pub(crate) fn new(
        ours: &ExchangeKey,
        theirs: [u8; 32],
        prefix: [u8; 4],
        path: Path,
    ) -> Option<Self> {
        let shared = ours.agree(&theirs)?;
        Some(Self {
            x25519: theirs,
            ciphers: [Cipher::new(Dialect::B, &shared), Cipher::new(Dialect::A, &shared)],
            dialect: None,
            prefix,
            counter: 0,
            replay: Replay::default(),
            path,
            direct_at: None,
        })
    }

    fn cipher(&self, dialect: Dialect) -> &Cipher {
        &self.ciphers[usize::from(dialect == Dialect::A)]
    }

    /// Whether the peer proved that it has the key.
    pub(crate) const fn is_proven(&self) -> bool {
        self.dialect.is_some()
    }

    /// Whether the peer used up the nonce prefixes that can be told apart.
    pub(crate) fn is_worn(&self) -> bool {
        self.replay.is_full()
    }

    /// Appends a sealed frame of `me`.
    pub(crate) fn seal(
        &mut self,
        me: NodeId,
        dialect: Dialect,
        out: &mut Vec<u8>,
        packet: impl FnOnce(&mut Vec<u8>),
    ) {
        self.counter += 1;
        let nonce = Nonce { prefix: self.prefix, counter: self.counter };
        self.cipher(dialect).seal(me, nonce, out, packet);
    }

    /// Opens a frame of the peer. Only a frame whose tag fits changes anything. `spare` is a prefix to go on with, should the peer have drawn
    /// ours: one key serves both directions, and a nonce must never come twice.
    pub(crate) fn open(
        &mut self,
        now: Time,
        sealed: &Sealed<'_>,
        from: Path,
        spare: [u8; 4],
        plain: &mut Vec<u8>,
    ) -> Opened {
        let dialects = match self.dialect {
            Some(Dialect::A) => [Dialect::A, Dialect::B],
            Some(Dialect::B) | None => [Dialect::B, Dialect::A],
        };
        let Some(dialect) =
            dialects.iter().find(|dialect| self.cipher(**dialect).open(sealed, plain))
        else {
            return Opened::No;
        };
        if self.dialect.is_some_and(|known| known != *dialect) {
            plain.clear();
            return Opened::Probe;
        }
        let verdict = self.replay.accept(sealed.nonce.prefix, sealed.nonce.counter);
        if verdict == Verdict::Replayed {
            plain.clear();
            return Opened::Replayed;
        }
        self.dialect = Some(*dialect);
        if sealed.nonce.prefix == self.prefix && spare != self.prefix {
            (self.prefix, self.counter) = (spare, 0);
        }
        if verdict == Verdict::Newest {
            self.came_by(now, from);
        }
        Opened::Fresh
    }

    /// The newest frame came this way: a direct way at once, the relay when the direct one has been silent.
    fn came_by(&mut self, now: Time, from: Path) {
        match from {
            Path::Direct(_) => {
                self.direct_at = Some(now);
                self.path = from;
            }
            Path::Relay => {
                let silent =
                    self.direct_at.is_none_or(|at| now >= at + super::engine::DIRECT_SILENT);
                if silent {
                    self.path = Path::Relay;
                }
            }
        }
    }
}
