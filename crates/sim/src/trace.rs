//! The hash over everything that happened.

use comity_core::Hash;

const CONTEXT: &str = "comity/sim/trace/v1";
/// Bytes collected before they are hashed: BLAKE3 is several times faster on long inputs.
const BLOCK_BYTES: usize = 64 << 10;
/// Bytes of a record: what happened and five numbers.
const RECORD_BYTES: usize = 41;

/// Records in order.
#[derive(Debug)]
pub(crate) struct Trace {
    hasher: Box<blake3::Hasher>,
    block: Vec<u8>,
}

impl Trace {
    pub(crate) fn new() -> Self {
        Self {
            hasher: Box::new(blake3::Hasher::new_derive_key(CONTEXT)),
            block: Vec::with_capacity(BLOCK_BYTES),
        }
    }

    /// Adds a record.
    pub(crate) fn note(&mut self, tag: u8, numbers: [u64; 5]) {
        let mut record = [tag; RECORD_BYTES];
        for (slot, number) in record[1..].chunks_exact_mut(8).zip(numbers) {
            slot.copy_from_slice(&number.to_be_bytes());
        }
        if self.block.len() + RECORD_BYTES > BLOCK_BYTES {
            self.hasher.update(&self.block);
            self.block.clear();
        }
        self.block.extend_from_slice(&record);
    }

    /// The hash so far.
    pub(crate) fn hash(&self) -> Hash {
        let mut hasher = self.hasher.clone();
        hasher.update(&self.block);
        Hash(*hasher.finalize().as_bytes())
    }
}
