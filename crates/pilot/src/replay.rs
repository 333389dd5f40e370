//! Which counters of a session were seen. Asked only after a frame was authenticated: a forged frame, whatever its counter, changes nothing.

/// Counters behind the highest that are still told apart; older frames are refused.
///
/// Pilot keeps 256. At 64 KiB a batch and several batches reordered by a path, 256 frames are less than a millisecond of a fast tunnel.
pub const WINDOW: u64 = 1024;

/// Nonce prefixes remembered for one key. A Pilot daemon draws a new prefix whenever it is told the exchange again, under the same key, so old
/// prefixes stay dangerous; when this many were seen the key is to be replaced ([`Replay::is_full`]).
pub const EPOCHS_MAX: usize = 32;

const WORDS: usize = (WINDOW / 64) as usize;

/// A sliding bitmap over counters (the algorithm of RFC 6479 without its block rounding).
#[derive(Clone, Debug)]
pub struct Window {
    highest: u64,
    seen: [u64; WORDS],
}

impl Default for Window {
    fn default() -> Self {
        Self { highest: 0, seen: [0; WORDS] }
    }
}

impl Window {
    fn bit(counter: u64) -> (usize, u64) {
        let at = counter % WINDOW;
        ((at / 64) as usize, 1 << (at % 64))
    }

    /// Notes an authenticated counter; false when it was seen before, is too old to know, or is 0.
    pub fn accept(&mut self, counter: u64) -> bool {
        if counter == 0 || counter.saturating_add(WINDOW) <= self.highest {
            return false;
        }
        if counter > self.highest {
            if counter - self.highest >= WINDOW {
                self.seen = [0; WORDS];
            } else {
                for skipped in self.highest + 1..counter {
                    let (word, bit) = Self::bit(skipped);
                    self.seen[word] &= !bit;
                }
            }
            self.highest = counter;
            let (word, bit) = Self::bit(counter);
            self.seen[word] |= bit;
            return true;
        }
        let (word, bit) = Self::bit(counter);
        let fresh = self.seen[word] & bit == 0;
        self.seen[word] |= bit;
        fresh
    }

    /// The highest counter accepted.
    #[must_use]
    pub const fn highest(&self) -> u64 {
        self.highest
    }
}

/// What an authenticated counter means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Never seen, and newer than all before it in the newest epoch: the sender is where this frame came from.
    Newest,
    /// Never seen, but overtaken.
    Fresh,
    /// Seen, too old to know, or of more prefixes than are remembered.
    Replayed,
}

/// Replay protection of one key: one window for each nonce prefix its owner used, newest last.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    epochs: Vec<([u8; 4], Window)>,
}

impl Replay {
    /// Judges and notes the nonce of an authenticated frame.
    pub fn accept(&mut self, prefix: [u8; 4], counter: u64) -> Verdict {
        let known = self.epochs.iter().rposition(|(known, _)| *known == prefix);
        let at = match known {
            Some(at) => at,
            None if self.epochs.len() >= EPOCHS_MAX || counter == 0 => return Verdict::Replayed,
            None => {
                self.epochs.push((prefix, Window::default()));
                self.epochs.len() - 1
            }
        };
        let newest = at + 1 == self.epochs.len();
        let window = &mut self.epochs[at].1;
        let before = window.highest();
        match window.accept(counter) {
            false => Verdict::Replayed,
            true if newest && counter > before => Verdict::Newest,
            true => Verdict::Fresh,
        }
    }

    /// Whether no further prefix can be told apart: time for a new exchange key.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.epochs.len() >= EPOCHS_MAX
    }
}
