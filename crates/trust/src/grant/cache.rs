//! The chains that were verified in a session.

use std::collections::VecDeque;
use std::sync::Arc;

use comity_core::{AgentId, Hash};

use super::chain::{Chain, VerifiedChain};
use super::refusal::Refusal;

/// Chains that a session remembers; the oldest is forgotten first.
pub const SESSION_CHAINS_MAX: usize = 16;

/// The chains that one peer presented in one session, verified once each.
///
/// What is remembered is that the signatures hold, which does not change. Times, withdrawals and counts are looked at in every call.
#[derive(Clone, Debug)]
pub struct SessionGrants {
    me: AgentId,
    peer: AgentId,
    chains: VecDeque<(Hash, Arc<VerifiedChain>)>,
}

impl SessionGrants {
    /// None yet, in a session of `me` with `peer`, whose key it proved.
    #[must_use]
    pub const fn new(me: AgentId, peer: AgentId) -> Self {
        Self { me, peer, chains: VecDeque::new() }
    }

    /// The chain in these bytes, verified now or before.
    ///
    /// # Errors
    /// As [`Chain::from_bytes`] and [`Chain::verify`].
    pub fn verify(&mut self, bytes: &[u8]) -> Result<Arc<VerifiedChain>, Refusal> {
        if bytes.len() > super::MAX_CHAIN {
            return Err(Refusal::TooLong { length: bytes.len() });
        }
        // The hash covers every byte: a hit is a chain that verified, to the bit.
        let hash = Hash::of(bytes);
        if let Some((_, chain)) = self.chains.iter().find(|(known, _)| *known == hash) {
            return Ok(Arc::clone(chain));
        }
        let chain = Arc::new(Chain::from_bytes(bytes)?.verify(&self.me, &self.peer)?);
        if self.chains.len() >= SESSION_CHAINS_MAX {
            self.chains.pop_front();
        }
        self.chains.push_back((hash, Arc::clone(&chain)));
        Ok(chain)
    }
}
