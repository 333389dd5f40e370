//! What the requests of late say about the network: whether many peers went at once, how long peers stay, who is not there.

use std::collections::BTreeMap;
use std::time::Duration;

use comity_core::{OverlayId, Time};

/// Requests to table entries, the newest of which tell whether most fail.
const WINDOW: u32 = 32;
/// Fewer say nothing.
const WINDOW_MIN: u32 = 16;
/// So many failures of the newest so many requests are suspicious: when a tenth of the entries is dead, as sessions of an hour
/// leave it, chance does that once in 200 requests.
const SUSPICION_MIN: u32 = 4;
const SUSPICION_OF: u32 = 8;
const SUSPICION_MASK: u32 = (1 << SUSPICION_OF) - 1;
/// When half of so many of the newest requests fail, suspicion is no chance: with 15 % of the entries dead that happens once in a thousand
/// times, with a quarter once in forty.
const GRAVE_OF: u32 = 16;
const GRAVE_MASK: u32 = (1 << GRAVE_OF) - 1;
/// Table entries gone after which older observations of session lengths count half.
const DEATHS_REMEMBERED: u64 = 32;
/// Fewer say nothing about session lengths.
const DEATHS_MIN: u64 = 8;
/// Peers that did not answer of late that are remembered.
const SILENT_MAX: usize = 512;
/// How long they are.
const SILENT_FOR: Duration = Duration::from_secs(60);
/// Requests in a row that a peer leaves unanswered before it is not asked again for a while: one may have been lost.
const SILENT_STRIKES: u8 = 2;

/// The outcome of recent requests.
#[derive(Debug, Default)]
pub(super) struct Vitals {
    /// Outcomes of requests to table entries, the newest lowest; a set bit failed.
    outcomes: u32,
    seen: u32,
    /// Outcomes since [`Vitals::take_noted`].
    noted: usize,
    failing: bool,
    /// Seconds that table entries were known to live, and entries that went, both fading.
    lived: u64,
    deaths: u64,
    silent: BTreeMap<OverlayId, (Time, u8)>,
}

impl Vitals {
    /// A request to a table entry was answered, or was not. Returns whether most requests fail as of this one.
    pub(super) fn note_entry(&mut self, failed: bool) -> bool {
        self.outcomes = self.outcomes << 1 | u32::from(failed);
        self.seen = (self.seen + 1).min(WINDOW);
        self.noted += 1;
        let failures = self.outcomes.count_ones();
        let before = self.failing;
        if self.seen >= WINDOW_MIN && failures * 2 > self.seen {
            self.failing = true;
        } else if failures * 4 <= self.seen {
            self.failing = false;
        }
        self.failing && !before
    }

    /// So many of the newest requests failed that all entries should be asked: more than twice as many as churn explains.
    pub(super) const fn is_suspicious(&self) -> bool {
        self.seen >= SUSPICION_OF && (self.outcomes & SUSPICION_MASK).count_ones() >= SUSPICION_MIN
    }

    /// Half of the newest requests failed, of so many that chance is no excuse.
    pub(super) const fn is_grave(&self) -> bool {
        (self.outcomes & GRAVE_MASK).count_ones() * 2 >= GRAVE_OF
    }

    /// More than half of the recent requests to table entries failed, and not three quarters of the newest were answered since.
    pub(super) const fn is_failing(&self) -> bool {
        self.failing
    }

    /// Requests to table entries that were answered, or were not, since this was last asked.
    pub(super) const fn take_noted(&mut self) -> usize {
        std::mem::replace(&mut self.noted, 0)
    }

    /// A table entry is known to have lived for so long since it was last heard of.
    pub(super) const fn note_life(&mut self, lived: Duration) {
        self.lived = self.lived.saturating_add(lived.as_secs());
    }

    /// A table entry is gone.
    pub(super) const fn note_death(&mut self) {
        self.deaths += 1;
        if self.deaths >= 2 * DEATHS_REMEMBERED {
            self.deaths /= 2;
            self.lived /= 2;
        }
    }

    /// How long half of the table entries stay, by what was observed; `None` while too few have gone.
    ///
    /// The maximum-likelihood estimate for exponential sessions: time observed over deaths, times ln 2.
    pub(super) fn half_life(&self) -> Option<Duration> {
        if self.deaths < DEATHS_MIN {
            return None;
        }
        Some(Duration::from_secs(self.lived.saturating_mul(693) / 1_000 / self.deaths))
    }

    /// `id` answered.
    pub(super) fn note_answer(&mut self, id: &OverlayId) {
        self.silent.remove(id);
    }

    /// `id` did not answer.
    pub(super) fn note_silence(&mut self, now: Time, id: OverlayId) {
        if self.silent.len() >= SILENT_MAX {
            self.silent.retain(|_, (at, _)| now.saturating_since(*at) < SILENT_FOR);
        }
        if let Some((at, strikes)) = self.silent.get_mut(&id) {
            let is_old = now.saturating_since(*at) >= SILENT_FOR;
            *strikes = if is_old { 1 } else { strikes.saturating_add(1) };
            *at = now;
        } else if self.silent.len() < SILENT_MAX {
            self.silent.insert(id, (now, 1));
        }
    }

    /// Whether `id` is not worth asking now. While most requests fail, and where the caller has reason to doubt it, once is enough.
    pub(super) fn is_silent(&self, now: Time, id: &OverlayId, doubtful: bool) -> bool {
        let enough = if self.failing || doubtful { 1 } else { SILENT_STRIKES };
        self.silent.get(id).is_some_and(|(at, strikes)| {
            *strikes >= enough && now.saturating_since(*at) < SILENT_FOR
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mass_failure_is_noticed_once_and_passes() {
        let mut vitals = Vitals::default();
        let noticed = (0..40).filter(|_| vitals.note_entry(true)).count();
        assert_eq!((noticed, vitals.is_failing()), (1, true));
        (0..20).for_each(|_| assert!(!vitals.note_entry(false)));
        assert!(vitals.is_failing(), "12 of the last 32 failed");
        (0..6).for_each(|_| assert!(!vitals.note_entry(false)));
        assert!(!vitals.is_failing());
    }

    #[test]
    fn suspicion_comes_early() {
        let mut vitals = Vitals::default();
        (0..20).for_each(|_| assert!(!vitals.note_entry(false)));
        (0..4).for_each(|_| assert!(!vitals.note_entry(true)));
        assert!(vitals.is_suspicious() && !vitals.is_failing() && !vitals.is_grave());
        (0..4).for_each(|_| assert!(!vitals.note_entry(true)));
        assert!(vitals.is_grave());
    }

    #[test]
    fn few_failures_are_no_mass_failure() {
        let mut vitals = Vitals::default();
        assert!((0..15).all(|_| !vitals.note_entry(true)));
        let mut vitals = Vitals::default();
        assert!((0..100).all(|n| !vitals.note_entry(n % 3 == 0)));
    }

    #[test]
    fn half_life_is_that_of_the_sessions() {
        let mut vitals = Vitals::default();
        // 100 entries that live an hour on average.
        for _ in 0..100 {
            vitals.note_life(Duration::from_secs(3_600));
            vitals.note_death();
        }
        let half = vitals.half_life().unwrap();
        assert!((2_400..2_600).contains(&half.as_secs()), "{half:?}");
        assert_eq!(Vitals::default().half_life(), None);
    }

    #[test]
    fn silent_peers_are_skipped_for_a_while() {
        let (id, mut vitals) = (OverlayId([1; 32]), Vitals::default());
        let now = Time::from_secs(1_000);
        vitals.note_silence(now, id);
        assert!(!vitals.is_silent(now, &id, false), "one request may have been lost");
        assert!(vitals.is_silent(now, &id, true), "unless there is reason to doubt");
        vitals.note_silence(now, id);
        assert!(vitals.is_silent(now, &id, false));
        assert!(!vitals.is_silent(now + SILENT_FOR, &id, false));
        vitals.note_answer(&id);
        assert!(!vitals.is_silent(now, &id, false));
    }

    #[test]
    fn memory_of_the_silent_is_bounded() {
        let mut vitals = Vitals::default();
        for n in 0..2_000_u16 {
            let mut id = [0; 32];
            id[..2].copy_from_slice(&n.to_be_bytes());
            vitals.note_silence(Time::from_secs(1_000), OverlayId(id));
        }
        assert_eq!(vitals.silent.len(), SILENT_MAX);
    }
}
