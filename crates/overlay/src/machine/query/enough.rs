//! When custodians of one placement have said enough.

use super::KeyState;
use crate::config::K;
use crate::shard::PLACEMENTS;

/// Custodians of one placement that say they hold nothing before it is believed.
const EMPTY_CUSTODIANS_ENOUGH: usize = 8;

impl KeyState {
    /// Whether no more custodians of `placement` need to be asked; `enough` is how many must hold something.
    pub(super) fn is_placement_done(&self, placement: u8, enough: usize) -> bool {
        let at = usize::from(placement.min(PLACEMENTS - 1));
        self.holding[at] >= enough
            || (self.holding == [0; PLACEMENTS as usize]
                && self.empty[at] >= EMPTY_CUSTODIANS_ENOUGH.min(K))
    }
}
