//! A map for few values: a sorted list that takes the room it needs and gives it all back when it runs empty.
//!
//! A tree of the standard library reserves room for eleven pairs with its first one and keeps it when the last one went. A node has a
//! dozen maps that hold one or two values for a moment, and a process may hold many nodes.

/// Pairs in the order of their keys. Adding in the order of keys takes no time that grows with them; anywhere else, as long as moving
/// those behind.
#[derive(Clone, Debug)]
pub(crate) struct Few<K, V>(Vec<(K, V)>);

impl<K, V> Default for Few<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> Few<K, V> {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) const fn len(&self) -> usize {
        self.0.len()
    }

    /// Gives back the room that is not used.
    pub(crate) fn shrink(&mut self) {
        self.0.shrink_to_fit();
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> + Clone + '_ {
        self.0.iter().map(|(key, value)| (key, value))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> + '_ {
        self.0.iter_mut().map(|(key, value)| (&*key, value))
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> + '_ {
        self.0.iter().map(|(key, _)| key)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> + '_ {
        self.0.iter().map(|(_, value)| value)
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> + '_ {
        self.0.iter_mut().map(|(_, value)| value)
    }

    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        self.0.retain_mut(|(key, value)| keep(key, value));
        self.tidy();
    }

    fn tidy(&mut self) {
        if self.0.is_empty() {
            self.0 = Vec::new();
        }
    }
}

impl<K: Ord, V> Few<K, V> {
    fn find(&self, key: &K) -> Result<usize, usize> {
        match self.0.last() {
            // Names are given in ascending order.
            Some((last, _)) if last < key => Err(self.0.len()),
            _ => self.0.binary_search_by(|(known, _)| known.cmp(key)),
        }
    }

    pub(crate) fn contains_key(&self, key: &K) -> bool {
        self.find(key).is_ok()
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.find(key).ok().map(|at| &self.0[at].1)
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.find(key).ok().map(|at| &mut self.0[at].1)
    }

    /// Puts `value` at `key`; gives what was there.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.find(&key) {
            Ok(at) => Some(std::mem::replace(&mut self.0[at].1, value)),
            Err(at) => {
                self.make_room();
                self.0.insert(at, (key, value));
                None
            }
        }
    }

    /// The value at `key`, made if there was none.
    pub(crate) fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let at = match self.find(&key) {
            Ok(at) => at,
            Err(at) => {
                self.make_room();
                self.0.insert(at, (key, make()));
                at
            }
        };
        &mut self.0[at].1
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let at = self.find(key).ok()?;
        let (_, value) = self.0.remove(at);
        self.tidy();
        Some(value)
    }

    /// One, two, four, and then half as many again.
    fn make_room(&mut self) {
        let len = self.0.len();
        if len == self.0.capacity() {
            self.0.reserve_exact((len / 2).max(1 + usize::from(len > 1)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_a_tree(ops in proptest::collection::vec((0_u8..6, 0_u16..12, 0_u32..100), 0..200)) {
            let (mut few, mut tree) = (Few::new(), BTreeMap::new());
            for (op, key, value) in ops {
                match op {
                    0 => prop_assert_eq!(few.remove(&key), tree.remove(&key)),
                    1 => {
                        few.retain(|key, value| (u32::from(*key) + *value) % 3 > 0);
                        tree.retain(|key, value| (u32::from(*key) + *value) % 3 > 0);
                    }
                    2 => {
                        let made = *few.get_or_insert_with(key, || value);
                        prop_assert_eq!(made, *tree.entry(key).or_insert(value));
                    }
                    3 => {
                        let changed = few.get_mut(&key).map(|known| std::mem::replace(known, value));
                        prop_assert_eq!(changed, tree.get_mut(&key).map(|known| std::mem::replace(known, value)));
                    }
                    _ => prop_assert_eq!(few.insert(key, value), tree.insert(key, value)),
                }
                prop_assert_eq!(few.get(&key), tree.get(&key));
                prop_assert_eq!(few.contains_key(&key), tree.contains_key(&key));
                prop_assert!(few.iter().eq(tree.iter()));
                prop_assert!(few.keys().eq(tree.keys()) && few.values().eq(tree.values()));
                prop_assert!(few.values_mut().eq(tree.values_mut()));
                prop_assert_eq!(few.len(), tree.len());
                prop_assert!(few.len() > 0 || few.0.capacity() == 0);
            }
        }
    }
}
