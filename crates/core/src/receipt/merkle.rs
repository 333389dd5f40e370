//! The Merkle tree of a batch, shaped as in RFC 9162 section 2.1 (split at the largest power of two below the size),
//! hashed with BLAKE3 in two contexts so that no leaf can pass as a node.

use crate::Hash;

const LEAF_CONTEXT: &str = "comity/receipt/leaf/v1";
const NODE_CONTEXT: &str = "comity/receipt/node/v1";

pub(super) fn leaf(receipt: &[u8]) -> Hash {
    Hash::derive(LEAF_CONTEXT, &[receipt])
}

fn node(left: Hash, right: Hash) -> Hash {
    Hash::derive(NODE_CONTEXT, &[&left.0, &right.0])
}

/// The root, and for every leaf the sibling hashes from the bottom up. Nothing for no leaves.
///
/// Works level by level: pairs are joined, an unpaired last node moves up as it is, which is the same tree as the
/// recursive split of RFC 9162.
pub(super) fn tree(leaves: &[Hash]) -> Option<(Hash, Vec<Vec<Hash>>)> {
    let mut paths = vec![Vec::new(); leaves.len()];
    let mut level = leaves.to_vec();
    let mut width = 1;
    while level.len() > 1 {
        for (index, path) in paths.iter_mut().enumerate() {
            if let Some(sibling) = level.get((index / width) ^ 1) {
                path.push(*sibling);
            }
        }
        level = level
            .chunks(2)
            .map(|pair| if let [left, right] = pair { node(*left, *right) } else { pair[0] })
            .collect();
        width *= 2;
    }
    level.first().map(|root| (*root, paths))
}

/// The root that `path` leads to from leaf number `index` of `size`; nothing when the path is not as long as that
/// leaf's is. Source: RFC 9162 section 2.1.3.2, verification of an inclusion proof.
pub(super) fn root_from_path(leaf: Hash, index: u32, size: u32, path: &[Hash]) -> Option<Hash> {
    let mut index = index;
    let mut last = size.checked_sub(1).filter(|&last| index <= last)?;
    let mut hash = leaf;
    let mut siblings = path.iter();
    while last > 0 {
        if index & 1 == 1 {
            hash = node(*siblings.next()?, hash);
        } else if index < last {
            hash = node(hash, *siblings.next()?);
        }
        index >>= 1;
        last >>= 1;
    }
    siblings.next().is_none().then_some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receipt::{MAX_BATCH, MAX_PATH};

    /// RFC 9162 section 2.1.1, word for word.
    fn reference_root(leaves: &[Hash]) -> Hash {
        match leaves {
            [leaf] => *leaf,
            leaves => {
                let split = leaves.len().next_power_of_two() / 2;
                node(reference_root(&leaves[..split]), reference_root(&leaves[split..]))
            }
        }
    }

    /// RFC 9162 section 2.1.3.1, word for word.
    fn reference_path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
        if leaves.len() == 1 {
            return Vec::new();
        }
        let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
        let (inner, sibling) = if index < left.len() {
            (reference_path(index, left), reference_root(right))
        } else {
            (reference_path(index - left.len(), right), reference_root(left))
        };
        [inner, vec![sibling]].concat()
    }

    fn leaves(count: usize) -> Vec<Hash> {
        (0..count).map(|index| leaf(&index.to_be_bytes())).collect()
    }

    #[test]
    fn every_size_has_the_root_of_the_rfc_and_paths_that_lead_to_it_from_their_own_leaf_alone() {
        let all = leaves(MAX_BATCH);
        for count in 1..=MAX_BATCH {
            let (root, paths) = tree(&all[..count]).unwrap();
            assert_eq!(root, reference_root(&all[..count]), "{count} leaves");
            let size = u32::try_from(count).unwrap();
            for index in [0, count / 3, count / 2, count - 1] {
                let path = &paths[index];
                assert!(path.len() <= MAX_PATH);
                let at = u32::try_from(index).unwrap();
                assert_eq!(
                    root_from_path(all[index], at, size, path),
                    Some(root),
                    "leaf {index} of {count}"
                );
                assert_ne!(
                    root_from_path(all[index], at ^ 1, size, path),
                    Some(root),
                    "leaf {index} of {count}"
                );
            }
        }
    }

    #[test]
    fn paths_are_those_of_the_rfc() {
        for count in 1..=40 {
            let leaves = leaves(count);
            let (_, paths) = tree(&leaves).unwrap();
            for (index, path) in paths.iter().enumerate() {
                assert_eq!(path, &reference_path(index, &leaves), "leaf {index} of {count}");
            }
        }
    }

    #[test]
    fn no_leaves_have_no_tree_and_no_index_lies_outside() {
        assert_eq!(tree(&[]), None);
        let leaf = leaf(b"leaf");
        assert_eq!(root_from_path(leaf, 0, 0, &[]), None);
        assert_eq!(root_from_path(leaf, 1, 1, &[]), None);
        assert_eq!(root_from_path(leaf, u32::MAX, u32::MAX, &[]), None);
        assert_eq!(root_from_path(leaf, 0, 1, &[leaf]), None);
        assert_eq!(root_from_path(leaf, 0, 1, &[]), Some(leaf));
    }
}
