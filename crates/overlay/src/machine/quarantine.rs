//! Custodians that were proven to leave out what they said they keep.

use std::collections::BTreeMap;
use std::time::Duration;

use comity_core::{AgentId, Time};

/// Custodians in quarantine at once; of more, the one that would leave first leaves.
pub(super) const QUARANTINE_MAX: usize = 64;
/// How long one stays. Local and passing: an error here must not shut an honest node out, and word of mouth could be a lie.
const QUARANTINE_FOR: Duration = Duration::from_secs(6 * 3_600);

/// Them, until when.
#[derive(Debug, Default)]
pub(super) struct Quarantine {
    until: BTreeMap<AgentId, Time>,
}

impl Quarantine {
    /// Shuts `agent` out for a while.
    pub(super) fn add(&mut self, now: Time, agent: AgentId) {
        self.sweep(now);
        if self.until.len() >= QUARANTINE_MAX
            && !self.until.contains_key(&agent)
            && let Some(first) = self.until.iter().min_by_key(|(_, until)| **until)
        {
            let first = *first.0;
            self.until.remove(&first);
        }
        self.until.insert(agent, now + QUARANTINE_FOR);
    }

    /// Whether `agent` is shut out.
    pub(super) fn holds(&self, now: Time, agent: &AgentId) -> bool {
        self.until.get(agent).is_some_and(|until| *until > now)
    }

    /// Lets go whose time is over.
    pub(super) fn sweep(&mut self, now: Time) {
        self.until.retain(|_, until| *until > now);
    }

    /// Whom it holds, those whose time is over included.
    pub(super) fn agents(&self) -> impl Iterator<Item = &AgentId> + '_ {
        self.until.keys()
    }

    pub(super) fn len(&self) -> usize {
        self.until.len()
    }
}

#[cfg(test)]
mod tests {
    use comity_core::Identity;

    use super::*;

    fn agent(index: u8) -> AgentId {
        Identity::from_secret_bytes(&[index; 32]).id()
    }

    #[test]
    fn it_ends() {
        let (now, mut quarantine) = (Time::from_secs(1_000), Quarantine::default());
        quarantine.add(now, agent(1));
        assert!(quarantine.holds(now + QUARANTINE_FOR / 2, &agent(1)));
        assert!(!quarantine.holds(now + QUARANTINE_FOR, &agent(1)));
        assert!(!quarantine.holds(now, &agent(2)));
        quarantine.sweep(now + QUARANTINE_FOR);
        assert_eq!(quarantine.len(), 0);
    }

    #[test]
    fn it_is_bounded() {
        let mut quarantine = Quarantine::default();
        for index in 0..=QUARANTINE_MAX {
            let now = Time::from_secs(1_000 + index as u64);
            quarantine.add(now, agent(u8::try_from(index).unwrap()));
        }
        assert_eq!(quarantine.len(), QUARANTINE_MAX);
        let now = Time::from_secs(2_000);
        assert!(!quarantine.holds(now, &agent(0)) && quarantine.holds(now, &agent(1)));
    }
}
