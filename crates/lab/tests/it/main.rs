//! Experiment files, sweeps, runs, and what is written of them.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its world fails by panicking")]

mod files;
mod reports;
mod support;
