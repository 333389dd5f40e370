//! How often a peer may ask.

use std::collections::BTreeMap;

use comity_core::{AgentId, Time};

use crate::config::{RATE_PEERS_MAX, REQUESTS_PER_PEER_PER_SECOND_MAX};

/// Requests of each peer in the running second. Strangers beyond [`RATE_PEERS_MAX`] share the refusal, not the memory.
#[derive(Debug, Default)]
pub(super) struct Rates {
    second: u64,
    counts: BTreeMap<AgentId, u32>,
}

impl Rates {
    /// Counts a request. Returns whether it is within the rate.
    pub(super) fn admit(&mut self, now: Time, peer: &AgentId) -> bool {
        let second = now.as_millis() / 1_000;
        if second != self.second {
            self.second = second;
            self.counts.clear();
        }
        if let Some(count) = self.counts.get_mut(peer) {
            *count = count.saturating_add(1);
            return *count <= REQUESTS_PER_PEER_PER_SECOND_MAX;
        }
        if self.counts.len() >= RATE_PEERS_MAX {
            return false;
        }
        self.counts.insert(*peer, 1);
        true
    }
}
