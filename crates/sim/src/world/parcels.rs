//! Messages in flight.

use comity_overlay::{Errand, Failure, Request, RequestId, Response};

use super::index;

/// Names of events from here on are wake-ups of nodes, those below are messages in flight.
pub(super) const WAKE: u32 = 1 << 31;

/// What is under way to a node.
#[derive(Debug)]
pub(super) enum Parcel {
    Request {
        to: u32,
        from: u32,
        incarnation: u32,
        id: RequestId,
        request: Request,
        errand: Errand,
    },
    Response {
        to: u32,
        from: u32,
        incarnation: u32,
        id: RequestId,
        response: Response,
    },
    Failed {
        to: u32,
        incarnation: u32,
        id: RequestId,
        failure: Failure,
    },
    /// Nothing: the slot is free, and so is this one, if it names another.
    Free {
        next: u32,
    },
}

/// Everything under way, in slots that are used again.
#[derive(Debug)]
pub(super) struct Parcels {
    slots: Vec<Parcel>,
    /// The first free slot; the number of slots: none is.
    free: u32,
}

impl Parcels {
    pub(super) const fn new() -> Self {
        Self { slots: Vec::new(), free: 0 }
    }

    pub(super) fn put(&mut self, parcel: Parcel) -> u32 {
        let name = self.free;
        match self.slots.get_mut(index(name)) {
            Some(slot) => {
                if let Parcel::Free { next } = std::mem::replace(slot, parcel) {
                    self.free = next;
                }
            }
            None => {
                assert!(name < WAKE, "fewer than 2^31 messages are under way");
                self.slots.push(parcel);
                self.free += 1;
            }
        }
        name
    }

    /// Whom a message under way is for.
    pub(super) fn receiver(&self, name: u32) -> Option<u32> {
        match self.slots.get(index(name))? {
            Parcel::Request { to, .. }
            | Parcel::Response { to, .. }
            | Parcel::Failed { to, .. } => Some(*to),
            Parcel::Free { .. } => None,
        }
    }

    pub(super) fn take(&mut self, name: u32) -> Parcel {
        let free = Parcel::Free { next: self.free };
        self.free = name;
        std::mem::replace(&mut self.slots[index(name)], free)
    }
}
