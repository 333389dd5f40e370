//! How often a peer may ask.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use comity_core::{AgentId, Time};

use crate::config::{RATE_PEERS_MAX, REQUESTS_PER_PEER_PER_SECOND_MAX};

/// Requests of each peer in the running second. Strangers beyond [`RATE_PEERS_MAX`] share the refusal, not the memory.
#[derive(Debug, Default)]
pub(super) struct Rates {
    second: u64,
    /// Whoever asked first in this second: in most seconds there is nobody else.
    first: Option<(AgentId, u32)>,
    others: BTreeMap<AgentId, u32>,
}

impl Rates {
    /// Counts a request. Returns whether it is within the rate.
    pub(super) fn admit(&mut self, now: Time, peer: &AgentId) -> bool {
        let second = now.as_millis() / 1_000;
        if second != self.second {
            self.second = second;
            self.first = None;
            self.others.clear();
        }
        let count = match &mut self.first {
            None => {
                self.first = Some((*peer, 1));
                return true;
            }
            Some((first, count)) if first == peer => count,
            Some(_) => {
                let known = self.others.len() + 1;
                match self.others.entry(*peer) {
                    Entry::Occupied(entry) => entry.into_mut(),
                    Entry::Vacant(_) if known >= RATE_PEERS_MAX => return false,
                    Entry::Vacant(entry) => entry.insert(0),
                }
            }
        };
        *count = count.saturating_add(1);
        *count <= REQUESTS_PER_PEER_PER_SECOND_MAX
    }
}
