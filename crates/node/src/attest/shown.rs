//! What callers presented in their sessions, appraised. It counts in that session and nowhere else.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use comity_core::Hash;
use comity_trust::evidence::Appraisal;

use super::ASKED_MAX;

/// Sessions of which it is remembered; the oldest is forgotten first.
const SESSIONS_MAX: usize = 1024;

#[derive(Debug, Default)]
struct Session {
    /// Pieces presented so far, whatever came of them: each costs a verification.
    tries: usize,
    appraisals: Arc<Vec<Appraisal>>,
}

/// By session, bounded.
#[derive(Debug, Default)]
pub(crate) struct ShownEvidence {
    sessions: BTreeMap<Hash, Session>,
    order: VecDeque<Hash>,
}

impl ShownEvidence {
    /// What was shown in a session.
    pub(crate) fn of(&self, session: &Hash) -> Arc<Vec<Appraisal>> {
        self.sessions.get(session).map(|known| Arc::clone(&known.appraisals)).unwrap_or_default()
    }

    /// Takes one of the tries of a session; false if there is none left.
    pub(crate) fn take_try(&mut self, session: Hash) -> bool {
        let known = self.sessions.entry(session).or_insert_with(|| {
            self.order.push_back(session);
            Session::default()
        });
        known.tries += 1;
        let left = known.tries <= ASKED_MAX;
        if self.order.len() > SESSIONS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.sessions.remove(&oldest);
        }
        left
    }

    /// Keeps what was shown. A newer piece of a kind takes the place of the older.
    pub(crate) fn keep(&mut self, appraisal: Appraisal) {
        let Some(known) = self.sessions.get_mut(&appraisal.session) else { return };
        let mut all = Vec::clone(&known.appraisals);
        all.retain(|old| old.kind != appraisal.kind);
        all.push(appraisal);
        known.appraisals = Arc::new(all);
    }

    /// Everything must be shown again: other evidence is believed now.
    pub(crate) fn clear(&mut self) {
        self.sessions.clear();
        self.order.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_has_so_many_tries_and_there_are_so_many_sessions() {
        let mut shown = ShownEvidence::default();
        let hash = |n: usize| Hash::of(&n.to_be_bytes());
        let tries: Vec<bool> = (0..ASKED_MAX + 2).map(|_| shown.take_try(hash(1))).collect();
        assert_eq!(tries.iter().filter(|left| **left).count(), ASKED_MAX);
        for n in 2..SESSIONS_MAX + 3 {
            assert!(shown.take_try(hash(n)));
        }
        assert_eq!((shown.sessions.len(), shown.order.len()), (SESSIONS_MAX, SESSIONS_MAX));
        assert!(!shown.sessions.contains_key(&hash(1)));
        shown.clear();
        assert!(shown.sessions.is_empty());
    }
}
