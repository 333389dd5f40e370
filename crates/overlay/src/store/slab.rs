//! Values behind small stable names, and lists of such names kept in an order of the values.

use std::cmp::Ordering;

/// Values named by the index of their slot; freed slots are used again.
#[derive(Clone, Debug)]
pub(super) struct Slab<T> {
    slots: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    pub(super) const fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }

    pub(super) fn get(&self, id: u32) -> &T {
        self.slots[id as usize].as_ref().expect("an index names a slot in use")
    }

    pub(super) fn get_mut(&mut self, id: u32) -> &mut T {
        self.slots[id as usize].as_mut().expect("an index names a slot in use")
    }

    /// # Panics
    /// Beyond 2^32 values; the bytes of custody are bounded far below.
    pub(super) fn insert(&mut self, value: T) -> u32 {
        if let Some(id) = self.free.pop() {
            self.slots[id as usize] = Some(value);
            return id;
        }
        grow(&mut self.slots);
        self.slots.push(Some(value));
        u32::try_from(self.slots.len() - 1).expect("custody is bounded in bytes")
    }

    pub(super) fn remove(&mut self, id: u32) -> T {
        self.free.push(id);
        self.slots[id as usize].take().expect("an index names a slot in use")
    }

    /// Room for so many more and no more than that.
    pub(super) fn reserve(&mut self, more: usize) {
        self.slots.reserve_exact(more);
    }

    /// Gives back the room that is not used.
    pub(super) fn shrink(&mut self) {
        self.slots.shrink_to_fit();
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> + '_ {
        self.slots.iter_mut().flatten()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &T> + '_ {
        self.slots.iter().flatten()
    }
}

/// Makes room for one more, by a sixteenth instead of twice as much: a simulation holds the custody of all custodians at once.
pub(super) fn grow<T>(list: &mut Vec<T>) {
    if list.len() == list.capacity() {
        list.reserve_exact((list.len() / 16).max(2));
    }
}

/// Puts `id` into a sorted list at the place `compare` leads to; whoever is there already stays the only one.
pub(super) fn insert_sorted(list: &mut Vec<u32>, id: u32, compare: impl FnMut(&u32) -> Ordering) {
    if let Err(at) = list.binary_search_by(compare) {
        grow(list);
        list.insert(at, id);
    }
}

/// Takes the name that `compare` leads to out of a sorted list.
pub(super) fn remove_sorted(list: &mut Vec<u32>, compare: impl FnMut(&u32) -> Ordering) {
    if let Ok(at) = list.binary_search_by(compare) {
        list.remove(at);
    }
}
