//! Random numbers that are the same on every machine: integers only, one stream per purpose.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// A probability in parts per million.
pub type Ppm = u32;

/// Certainty, as a [`Ppm`].
pub const PPM_ONE: Ppm = 1_000_000;

const CONTEXT: &str = "comity/sim/random/v1";

/// A stream of random numbers. Streams of different purposes are independent, so that one more draw for links does not change
/// which node is killed.
#[derive(Clone, Debug)]
pub struct Random(ChaCha8Rng);

impl Random {
    /// The stream of `seed` for `purpose`.
    #[must_use]
    pub fn new(seed: u64, purpose: &str) -> Self {
        Self(ChaCha8Rng::from_seed(derive(seed, purpose, 0)))
    }

    /// 32 random bytes.
    pub fn bytes(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// A number below `bound`; 0 when `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // Lemire's multiply-shift; the bias of at most bound / 2^64 is far below what a simulation can see.
        let product = u128::from(self.0.next_u64()) * u128::from(bound);
        u64::try_from(product >> 64).expect("the upper half of a product of two 64-bit numbers")
    }

    /// An index below `len`; 0 when `len` is 0.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("below a usize")
    }

    /// Whether something of this probability happens.
    pub fn happens(&mut self, probability: Ppm) -> bool {
        self.below(u64::from(PPM_ONE)) < u64::from(probability)
    }

    /// An element of `list`; `None` when it is empty.
    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        list.get(self.index(list.len()))
    }

    /// A uniform duration below `bound`.
    pub fn within(&mut self, bound: Duration) -> Duration {
        Duration::from_micros(self.below(micros(bound)))
    }

    /// An exponentially distributed duration with this mean.
    ///
    /// Von Neumann's comparison method (1951): it needs no logarithm, so it gives the same on every machine.
    pub fn exponential(&mut self, mean: Duration) -> Duration {
        let mut whole = 0_u32;
        loop {
            let first = self.0.next_u64();
            let (mut last, mut run) = (first, 1_u32);
            loop {
                let next = self.0.next_u64();
                if next >= last {
                    break;
                }
                (last, run) = (next, run + 1);
            }
            if run % 2 == 1 {
                let fraction = (u128::from(first) * u128::from(micros(mean))) >> 64;
                let fraction = u64::try_from(fraction).expect("less than the mean");
                return mean.saturating_mul(whole) + Duration::from_micros(fraction);
            }
            whole += 1;
        }
    }

    /// Puts `list` in random order.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            list.swap(last, self.index(last + 1));
        }
    }
}

/// Seed number `index` for `purpose`, for those who run a generator of their own.
#[must_use]
pub(crate) fn derive(seed: u64, purpose: &str, index: u64) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    hasher.update(&seed.to_be_bytes()).update(&index.to_be_bytes()).update(purpose.as_bytes());
    *hasher.finalize().as_bytes()
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_has_its_mean_and_its_tail() {
        let mut random = Random::new(1, "test");
        let mean = Duration::from_secs(1);
        let draws: Vec<_> = (0..20_000).map(|_| random.exponential(mean)).collect();
        let average = draws.iter().sum::<Duration>() / 20_000;
        assert!((970..1_030).contains(&average.as_millis()), "{average:?}");
        let beyond_three = draws.iter().filter(|draw| **draw > mean * 3).count();
        assert!((850..1_150).contains(&beyond_three), "e^-3 of 20,000 is 996: {beyond_three}");
    }

    #[test]
    fn streams_are_apart_and_repeat() {
        assert_eq!(Random::new(1, "a").bytes(), Random::new(1, "a").bytes());
        assert_ne!(Random::new(1, "a").bytes(), Random::new(1, "b").bytes());
        assert_ne!(Random::new(1, "a").bytes(), Random::new(2, "a").bytes());
    }

    #[test]
    fn certainty_and_impossibility() {
        let mut random = Random::new(3, "test");
        assert!((0..1_000).all(|_| random.happens(PPM_ONE)));
        assert!(!(0..1_000).any(|_| random.happens(0)));
    }
}
