//! What this node measured of its peers: the only opinions it has of them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use comity_core::{AgentId, Time};

/// Peers whose measurements are kept; the longest unseen is forgotten first.
const PEERS_MAX: usize = 4_096;
/// How long a peer that kept silent is asked after all others.
const SILENCE: Duration = Duration::from_secs(60);
/// Weight of a new round trip time in the smoothed one (RFC 6298 uses the same).
const RTT_GAIN: f64 = 0.125;

/// Measurements of one peer.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Measured {
    /// Smoothed round trip time.
    pub(crate) rtt: Option<Duration>,
    /// Calls that ended with a verified answer.
    pub(crate) answered: u64,
    /// Calls that did not.
    pub(crate) failed: u64,
    /// When the peer last proved to be alive.
    pub(crate) seen: Option<Time>,
    /// Until when the peer is asked last, because it kept silent.
    pub(crate) silent_until: Option<Time>,
}

impl Measured {
    /// The peer kept silent a moment ago.
    pub(crate) fn is_silent(&self, now: Time) -> bool {
        self.silent_until.is_some_and(|until| until > now)
    }
}

/// Measurements of all peers, bounded.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    peers: Mutex<BTreeMap<AgentId, Measured>>,
}

impl Signals {
    /// What is known of `peer`.
    pub(crate) fn of(&self, peer: &AgentId) -> Measured {
        self.lock().get(peer).copied().unwrap_or_default()
    }

    /// A probe of `peer` came back.
    pub(crate) fn reached(&self, peer: &AgentId, rtt: Duration, now: Time) {
        self.update(peer, |measured| {
            let smoothed =
                measured.rtt.map_or(rtt, |old| old.mul_f64(1.0 - RTT_GAIN) + rtt.mul_f64(RTT_GAIN));
            measured.rtt = Some(smoothed);
            measured.seen = Some(now);
            measured.silent_until = None;
        });
    }

    /// A call to `peer` brought a verified answer.
    pub(crate) fn answered(&self, peer: &AgentId, now: Time) {
        self.update(peer, |measured| {
            measured.answered += 1;
            measured.seen = Some(now);
            measured.silent_until = None;
        });
    }

    /// A call or probe of `peer` failed.
    pub(crate) fn failed(&self, peer: &AgentId) {
        self.update(peer, |measured| measured.failed += 1);
    }

    /// `peer` could not be reached or gave no sign of life: others are asked first for a while.
    pub(crate) fn silent(&self, peer: &AgentId, now: Time) {
        self.update(peer, |measured| {
            measured.failed += 1;
            measured.silent_until = Some(now + SILENCE);
        });
    }

    fn update(&self, peer: &AgentId, change: impl FnOnce(&mut Measured)) {
        let mut peers = self.lock();
        if peers.len() >= PEERS_MAX && !peers.contains_key(peer) {
            let oldest = peers.iter().min_by_key(|(_, measured)| measured.seen).map(|(id, _)| *id);
            if let Some(oldest) = oldest {
                peers.remove(&oldest);
            }
        }
        change(peers.entry(*peer).or_default());
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<AgentId, Measured>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
