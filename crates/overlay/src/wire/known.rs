//! What an asker knows already, so that nobody tells it again.
//!
//! The nodes around a place are few, and everyone near it names the same ones: most of what a search is told it has heard before. So a
//! request carries a Bloom filter (Bloom 1970) of the nodes its search knows, and the answer leaves them out. A node that the
//! filter holds by chance, one in 200, is left out of that answer too; as every answerer reads the filter in its own way, the next
//! one names it. Whoever mints ids to hide a node behind them would have to do so for each answerer anew.

use comity_core::{Distance, OverlayId};

/// Longest filter in a request, in bytes.
pub const KNOWN_BYTES_MAX: usize = 144;
/// Nodes in one filter: those nearest to the target are the ones that are named.
pub(crate) const KNOWN_NODES_MAX: usize = 96;
/// Bits for each node, of which this many are set: one in 200 of the others seems to be among them.
const BITS_EACH: usize = 12;
const BITS_SET: u32 = 5;

/// The nodes that a search knows, as the one it asks can tell them; holds nobody by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known(Box<[u8]>);

impl Known {
    /// The filter for `asked` that holds the nodes at these distances from the target; the first 96 of them.
    #[must_use]
    pub fn of<'a>(asked: &OverlayId, nodes: impl IntoIterator<Item = &'a Distance>) -> Self {
        let hashes: Vec<_> =
            nodes.into_iter().take(KNOWN_NODES_MAX).map(|node| hash(asked, node)).collect();
        let mut bytes = vec![0; (hashes.len() * BITS_EACH).div_ceil(8).min(KNOWN_BYTES_MAX)];
        for hash in hashes {
            for bit in bits(hash, bytes.len()) {
                bytes[bit / 8] |= 1 << (bit % 8);
            }
        }
        Self(bytes.into())
    }

    /// The filter that arrived; at most [`KNOWN_BYTES_MAX`] bytes are read.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes[..bytes.len().min(KNOWN_BYTES_MAX)].into())
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether it holds nobody.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the asker of `asked` knows the node at this distance from the target.
    #[must_use]
    pub fn has(&self, asked: &OverlayId, node: &Distance) -> bool {
        !self.is_empty()
            && bits(hash(asked, node), self.0.len())
                .all(|bit| self.0[bit / 8] >> (bit % 8) & 1 == 1)
    }
}

/// The positions of a node's bits in a filter of `bytes` bytes, by double hashing (Kirsch and Mitzenmacher 2006).
fn bits(hash: u64, bytes: usize) -> impl Iterator<Item = usize> {
    let all = bytes as u64 * 8;
    let (first, step) = (hash & 0xffff_ffff, hash >> 32 | 1);
    (0..BITS_SET).map(move |turn| {
        let at = first.wrapping_add(step.wrapping_mul(turn.into())) & 0xffff_ffff;
        usize::try_from((at * all) >> 32).expect("below eight times the length of the filter")
    })
}

/// The trailing half of a distance, where near ones differ too, mixed with the answerer's id (the finalizer of SplitMix64).
fn hash(asked: &OverlayId, node: &Distance) -> u64 {
    let part = |bytes: &[u8; 32], from: usize| {
        let part = bytes[from..from + 8].try_into().expect("eight bytes");
        u64::from_be_bytes(part)
    };
    let mut mixed = part(&node.0, 16) ^ part(&asked.0, 16).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ part(&node.0, 24);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node(number: u64) -> Distance {
        let mut bytes = [0; 32];
        bytes[24..].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        Distance(bytes)
    }

    #[test]
    fn few_others_seem_known_and_not_the_same_to_everyone() {
        let known: Vec<_> = (0..KNOWN_NODES_MAX as u64).map(node).collect();
        let mistaken = |asked: OverlayId| -> Vec<u64> {
            let filter = Known::of(&asked, &known);
            assert!(filter.as_bytes().len() <= KNOWN_BYTES_MAX);
            assert!(known.iter().all(|node| filter.has(&asked, node)));
            (1_000..11_000).filter(|number| filter.has(&asked, &node(*number))).collect()
        };
        let (one, other) = (mistaken(OverlayId([1; 32])), mistaken(OverlayId([2; 32])));
        assert!((10..120).contains(&one.len()), "{} of 10,000", one.len());
        let both = one.iter().filter(|number| other.contains(number)).count();
        assert!(both * 5 < one.len(), "{both} of {}", one.len());
    }

    proptest! {
        #[test]
        fn whatever_arrives_can_be_asked(bytes in proptest::collection::vec(any::<u8>(), 0..300), id in any::<[u8; 32]>()) {
            let filter = Known::from_bytes(&bytes);
            prop_assert!(filter.as_bytes().len() <= KNOWN_BYTES_MAX);
            let all_set = !bytes.is_empty() && bytes.iter().all(|byte| *byte == 0xff);
            prop_assert!(!all_set || filter.has(&OverlayId(id), &Distance(id)));
            prop_assert!(!Known::default().has(&OverlayId(id), &Distance(id)));
        }
    }
}
