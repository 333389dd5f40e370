//! Selective acknowledgements: `"SACK" ++ count(1..4) ++ count x [left 4][right 4]`, the payload of an acknowledgement.

/// Blocks in one payload.
pub const BLOCKS_MAX: usize = 4;
const MAGIC: &[u8; 4] = b"SACK";
const HEAD_BYTES: usize = 5;
const BLOCK_BYTES: usize = 8;

/// A block: from the first byte received to the first one after.
pub type Block = (u32, u32);

/// The payload for up to [`BLOCKS_MAX`] blocks, empty for none.
#[must_use]
pub fn encode(blocks: &[Block]) -> Vec<u8> {
    let blocks = &blocks[..blocks.len().min(BLOCKS_MAX)];
    let Ok(count) = u8::try_from(blocks.len()) else { return Vec::new() };
    if count == 0 {
        return Vec::new();
    }
    let mut out = MAGIC.to_vec();
    out.push(count);
    for (left, right) in blocks {
        out.extend_from_slice(&left.to_be_bytes());
        out.extend_from_slice(&right.to_be_bytes());
    }
    out
}

/// Whether Pilot's receivers would take these bytes for a selective acknowledgement, whatever they are.
#[must_use]
pub fn looks_like_one(payload: &[u8]) -> bool {
    let Some(rest) = payload.strip_prefix(MAGIC) else { return false };
    let count = rest.first().copied().map_or(0, usize::from);
    (1..=BLOCKS_MAX).contains(&count) && payload.len() >= HEAD_BYTES + count * BLOCK_BYTES
}

/// The blocks of a payload that is exactly one selective acknowledgement.
#[must_use]
pub fn decode(payload: &[u8]) -> Option<Vec<Block>> {
    if !looks_like_one(payload)
        || payload.len() != HEAD_BYTES + usize::from(payload[4]) * BLOCK_BYTES
    {
        return None;
    }
    let word = |bytes: &[u8]| bytes.try_into().map(u32::from_be_bytes).unwrap_or_default();
    let blocks = payload[HEAD_BYTES..].chunks_exact(BLOCK_BYTES);
    Some(blocks.map(|block| (word(&block[..4]), word(&block[4..]))).collect())
}
