//! Randomness of one node.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// A ChaCha8 stream kept as its seed and how far it was read: 40 bytes. The generator with its buffer takes 320 and is made again for
/// each draw, of which a node makes a few a minute.
#[derive(Debug)]
pub(super) struct Noise {
    seed: [u8; 32],
    /// Words of 32 bits read so far.
    words: u64,
}

impl Noise {
    pub(super) const fn new(seed: [u8; 32]) -> Self {
        Self { seed, words: 0 }
    }

    fn draw<T>(&mut self, read: impl FnOnce(&mut ChaCha8Rng) -> T) -> T {
        let mut stream = ChaCha8Rng::from_seed(self.seed);
        stream.set_word_pos(self.words.into());
        let drawn = read(&mut stream);
        // 2^64 words outlast every node.
        self.words = u64::try_from(stream.get_word_pos()).unwrap_or(0);
        drawn
    }

    pub(super) fn next_u32(&mut self) -> u32 {
        self.draw(Rng::next_u32)
    }

    pub(super) fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.draw(|stream| stream.fill_bytes(bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_those_of_one_stream() {
        let mut stream = ChaCha8Rng::from_seed([7; 32]);
        let mut noise = Noise::new([7; 32]);
        for round in 0..100 {
            assert_eq!(noise.next_u32(), stream.next_u32(), "round {round}");
            let (mut mine, mut theirs) = ([0; 32], [0; 32]);
            noise.fill_bytes(&mut mine);
            stream.fill_bytes(&mut theirs);
            assert_eq!(mine, theirs, "round {round}");
        }
    }
}
