//! The formats of Pilot's built-in services. Echo (port 7) has none: bytes come back.

pub mod data;
pub mod event;
pub mod file;
