//! A Pilot Protocol node on sockets: the engine of `comity-pilot` with a UDP socket, a registry's client and the built-in services; and a
//! rendezvous, so that a network of its own needs nothing else.

mod agent;
pub mod bench;
mod clock;
pub mod control;
mod node;
mod registry;
mod rendezvous;
mod services;
mod tls;
mod udp;

pub use agent::{Agent, AgentError, Handler, Join, make_private_dir};
pub use comity_pilot::address::port::DATA as DATA_PORT;
pub use node::{Connection, Node, Notice};
pub use registry::{PATIENCE, Registry, RegistryError};
pub use rendezvous::{
    CONNECTIONS_MAX, CONNECTIONS_PER_SOURCE_MAX, REQUEST_BYTES_MAX, RendezvousServer,
    ServeRendezvous,
};
pub use services::{
    Events, FILE_BYTES_MAX, INBOX_ENTRIES_MAX, Inbox, Message, PART_AGE_MAX, PARTS_MAX,
    PARTS_PER_PEER_MAX, send_frame,
};
pub use tls::{Fingerprint, FingerprintError};
