//! Places of keys, shared by the node's threads: deriving one costs 0.7 ms and 1 MiB on purpose.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use comity_core::{AgentId, OverlayId};
use comity_overlay::Positions;
use comity_overlay::directory::Places;

/// Derives and remembers places and applies the network's mint requirement. Cheap to clone; clones share the memory.
#[derive(Debug, Clone)]
pub(crate) struct PositionCache(Arc<Mutex<Places>>);

impl PositionCache {
    /// Accepts keys that meet `mint_bits`.
    pub(crate) fn new(mint_bits: u32) -> Self {
        Self(Arc::new(Mutex::new(Places::new(mint_bits))))
    }

    /// The place of `agent`, `None` when its key is not minted for this network.
    pub(crate) fn get(&self, agent: &AgentId) -> Option<OverlayId> {
        self.lock().position(agent)
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        // Nothing panics while holding the lock; were it so, the memory would still be valid.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Positions for PositionCache {
    fn position(&mut self, agent: &AgentId) -> Option<OverlayId> {
        self.get(agent)
    }

    fn accept(&mut self, key: &[u8; 32]) -> Option<AgentId> {
        self.lock().accept(key)
    }
}
