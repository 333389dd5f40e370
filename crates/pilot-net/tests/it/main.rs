//! Pilot nodes on loopback sockets, with a rendezvous in the same process.

#![allow(clippy::unwrap_used, reason = "a test that meets what it does not expect has to panic")]

mod bridge;
mod hostile;
mod join;
mod support;
mod transfer;
