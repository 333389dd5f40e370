//! Merkle trees, shaped as in RFC 9162 section 2.1 (split at the largest power of two below the size), hashed with BLAKE3 in two contexts so that no
//! leaf can pass as a node, and no leaf of one kind of tree as one of another.

use crate::Hash;

/// The contexts of one kind of tree: constants of the program (BLAKE3 paper, section 2.3).
#[derive(Clone, Copy, Debug)]
pub struct Contexts {
    /// Of leaves.
    pub leaf: &'static str,
    /// Of nodes.
    pub node: &'static str,
}

impl Contexts {
    /// The hash of a leaf.
    #[must_use]
    pub fn leaf(&self, bytes: &[u8]) -> Hash {
        Hash::derive(self.leaf, &[bytes])
    }

    fn node(&self, left: Hash, right: Hash) -> Hash {
        Hash::derive(self.node, &[&left.0, &right.0])
    }

    /// The root that `path` leads to from leaf number `index` of `size`; nothing when the path is not as long as that
    /// leaf's is. Source: RFC 9162 section 2.1.3.2, verification of an inclusion proof.
    #[must_use]
    pub fn root_from_path(&self, leaf: Hash, index: u64, size: u64, path: &[Hash]) -> Option<Hash> {
        let mut index = index;
        let mut last = size.checked_sub(1).filter(|&last| index <= last)?;
        let mut hash = leaf;
        let mut siblings = path.iter();
        while last > 0 {
            if index & 1 == 1 {
                hash = self.node(*siblings.next()?, hash);
            } else if index < last {
                hash = self.node(hash, *siblings.next()?);
            }
            index >>= 1;
            last >>= 1;
        }
        siblings.next().is_none().then_some(hash)
    }
}

/// A whole tree: twice as many hashes as leaves.
#[derive(Clone, Debug)]
pub struct Tree {
    /// From the leaves to the root. Pairs are joined, an unpaired last node moves up as it is, which is the same tree as the recursive split of
    /// RFC 9162.
    levels: Vec<Vec<Hash>>,
}

impl Tree {
    /// The tree over these leaves, or over the roots of equally large, full subtrees, the last of which may be smaller.
    #[must_use]
    pub fn new(contexts: &Contexts, leaves: Vec<Hash>) -> Self {
        let mut levels = vec![leaves];
        while let Some(below) = levels.last().filter(|level| level.len() > 1) {
            let join = |pair: &[Hash]| match pair {
                [left, right] => contexts.node(*left, *right),
                rest => rest.first().copied().unwrap_or(Hash([0; 32])),
            };
            let level = below.chunks(2).map(join).collect();
            levels.push(level);
        }
        Self { levels }
    }

    /// The root. None for no leaves.
    #[must_use]
    pub fn root(&self) -> Option<Hash> {
        self.levels.last()?.first().copied()
    }

    /// The sibling hashes of a leaf, from the bottom up.
    #[must_use]
    pub fn path(&self, index: usize) -> Vec<Hash> {
        let sibling = |(height, level): (usize, &Vec<Hash>)| {
            let place = index.checked_shr(u32::try_from(height).ok()?)? ^ 1;
            level.get(place).copied()
        };
        self.levels.iter().enumerate().filter_map(sibling).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEST: Contexts = Contexts { leaf: "comity/test/leaf", node: "comity/test/node" };
    /// More than a batch of receipts has.
    const MANY: usize = 1_100;

    /// RFC 9162 section 2.1.1, word for word.
    fn reference_root(leaves: &[Hash]) -> Hash {
        match leaves {
            [leaf] => *leaf,
            leaves => {
                let split = leaves.len().next_power_of_two() / 2;
                TEST.node(reference_root(&leaves[..split]), reference_root(&leaves[split..]))
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
        (0..count).map(|index| TEST.leaf(&index.to_be_bytes())).collect()
    }

    fn tree(leaves: &[Hash]) -> Tree {
        Tree::new(&TEST, leaves.to_vec())
    }

    #[test]
    fn every_size_has_the_root_of_the_rfc_and_paths_that_lead_to_it_from_their_own_leaf_alone() {
        let all = leaves(MANY);
        for count in 1..=MANY {
            let tree = tree(&all[..count]);
            let root = tree.root();
            assert_eq!(root, Some(reference_root(&all[..count])), "{count} leaves");
            let size = count as u64;
            for index in [0, count / 3, count / 2, count - 1] {
                let path = tree.path(index);
                let at = index as u64;
                let led = TEST.root_from_path(all[index], at, size, &path);
                assert_eq!(led, root, "leaf {index} of {count}");
                let led = TEST.root_from_path(all[index], at ^ 1, size, &path);
                assert_ne!(led, root, "leaf {index} of {count}");
            }
        }
    }

    #[test]
    fn paths_are_those_of_the_rfc() {
        for count in 1..=40 {
            let leaves = leaves(count);
            let tree = tree(&leaves);
            for index in 0..count {
                assert_eq!(
                    tree.path(index),
                    reference_path(index, &leaves),
                    "leaf {index} of {count}"
                );
            }
        }
    }

    #[test]
    fn a_tree_over_full_subtrees_is_the_tree_over_their_leaves() {
        for count in [1, 7, 8, 9, 16, 100, 515] {
            let leaves = leaves(count);
            let below: Vec<Tree> = leaves.chunks(8).map(tree).collect();
            let above = tree(&below.iter().filter_map(Tree::root).collect::<Vec<_>>());
            assert_eq!(above.root(), tree(&leaves).root());
            for index in 0..count {
                let path = [below[index / 8].path(index % 8), above.path(index / 8)].concat();
                assert_eq!(path, tree(&leaves).path(index), "leaf {index} of {count}");
            }
        }
    }

    #[test]
    fn no_leaves_have_no_tree_and_no_index_lies_outside() {
        assert_eq!(tree(&[]).root(), None);
        let leaf = TEST.leaf(b"leaf");
        assert_eq!(TEST.root_from_path(leaf, 0, 0, &[]), None);
        assert_eq!(TEST.root_from_path(leaf, 1, 1, &[]), None);
        assert_eq!(TEST.root_from_path(leaf, u64::MAX, u64::MAX, &[]), None);
        assert_eq!(TEST.root_from_path(leaf, 0, 1, &[leaf]), None);
        assert_eq!(TEST.root_from_path(leaf, 0, 1, &[]), Some(leaf));
    }
}
