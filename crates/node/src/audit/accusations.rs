//! Proofs of two histories on their way from node to node: which ones are passed on, and which were asked for already.
//!
//! A node says at hello which proof it learned of last. Who does not know that one asks for the newest few, verifies each, keeps those that hold and says so at
//! its own hellos: a proof spreads as fast as nodes meet. What a liar can gain is bounded: a proof cannot be forged, what was asked for is not asked for
//! again, the first proof that does not hold ends the answer, and proofs about logs that nobody here ever met - which anybody can make with keys of his own -
//! give way to those about logs that were met.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use comity_core::Hash;

/// Proofs that are passed on: the newest.
pub(crate) const PASSED_ON_MAX: usize = 8;
/// Hashes said by peers that are remembered as asked for.
const ASKED_MAX: usize = 1024;

#[derive(Debug, Default)]
struct State {
    /// The newest first: hash, proof, and whether its log was ever met.
    recent: VecDeque<(Hash, Vec<u8>, bool)>,
    asked: VecDeque<Hash>,
}

/// What is passed on. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accusations(Arc<Mutex<State>>);

impl Accusations {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes a verified proof on from now on.
    pub(crate) fn learn(&self, proof: &[u8], met: bool) {
        let hash = Hash::of(proof);
        let mut state = self.lock();
        if state.recent.iter().any(|(known, ..)| *known == hash) {
            return;
        }
        if state.recent.len() >= PASSED_ON_MAX {
            // The oldest of those that matter least here.
            match state.recent.iter().rposition(|(.., met)| !met) {
                Some(at) => drop(state.recent.remove(at)),
                None if met => drop(state.recent.pop_back()),
                None => return,
            }
        }
        state.recent.push_front((hash, proof.to_vec(), met));
    }

    /// The hash of the newest, for a hello.
    pub(crate) fn newest(&self) -> Option<Hash> {
        self.lock().recent.front().map(|(hash, ..)| *hash)
    }

    /// What is passed on to who asks.
    pub(crate) fn all(&self) -> Vec<Vec<u8>> {
        self.lock().recent.iter().map(|(_, proof, _)| proof.clone()).collect()
    }

    /// Whether a peer that says this hash is to be asked for it; it is then not asked for again.
    pub(crate) fn is_news(&self, said: &Hash) -> bool {
        let mut state = self.lock();
        if state.recent.iter().any(|(known, ..)| known == said) || state.asked.contains(said) {
            return false;
        }
        if state.asked.len() >= ASKED_MAX {
            state.asked.pop_front();
        }
        state.asked.push_back(*said);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_up_gives_way_to_what_was_met() {
        let passed = Accusations::default();
        assert_eq!(passed.newest(), None);
        passed.learn(b"met", true);
        for n in 0..100_u8 {
            passed.learn(&[n; 4], false);
        }
        assert_eq!(passed.all().len(), PASSED_ON_MAX);
        assert!(
            passed.all().contains(&b"met".to_vec()),
            "a flood of new keys does not push it out"
        );
        for n in 0..100_u8 {
            passed.learn(&[n; 5], true);
        }
        passed.learn(b"junk", false);
        assert!(!passed.all().contains(&b"junk".to_vec()));
        assert_eq!(passed.newest(), Some(Hash::of(&[99; 5])));
    }

    #[test]
    fn a_hash_is_asked_for_once() {
        let passed = Accusations::default();
        passed.learn(b"known", true);
        assert!(!passed.is_news(&Hash::of(b"known")));
        assert!(passed.is_news(&Hash([1; 32])) && !passed.is_news(&Hash([1; 32])));
        for n in 0..2_000_u32 {
            passed.is_news(&Hash::of(&n.to_be_bytes()));
        }
        assert!(passed.lock().asked.len() <= ASKED_MAX);
    }
}
