//! The binary as a shell sees it: options, exit codes, generated files; and, in `e2e_…`, networks of real processes.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its world fails by panicking")]

mod archive;
mod cli;
mod e2e_a2a;
mod e2e_access;
mod e2e_api;
mod e2e_attest;
mod e2e_audit;
mod e2e_bulk;
mod e2e_charters;
mod e2e_crash;
mod e2e_endorse;
mod e2e_endpoint;
mod e2e_failover;
mod e2e_faults;
mod e2e_groups;
mod e2e_handles;
mod e2e_mcp;
mod e2e_mcp_faults;
mod e2e_pilot;
mod e2e_refusals;
mod e2e_results;
mod e2e_specialists;
mod e2e_story;
mod e2e_support;
mod e2e_trust;
mod identity;
mod node;
mod sim;
mod support;
mod verify;
