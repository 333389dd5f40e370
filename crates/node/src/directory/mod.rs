//! The directory: the overlay's production driver.
//!
//! The overlay is a pure state machine; this module gives it a clock, the network, a disk and keys. Nothing here decides
//! anything about routing, custody or queries.

mod actor;
mod carrier;
mod persist;
mod positions;

pub(crate) use actor::{Actor, INBOX_LEN, INCOMING_LEN, Parts};
pub use actor::{Counters, Directory, Traffic};
pub(crate) use carrier::{TransportCarrier, deliver};
pub(crate) use persist::{load_custody, load_peers, load_places};
pub(crate) use positions::PositionCache;
