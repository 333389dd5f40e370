//! A peer that speaks the protocols wrongly, against a real `comity` process. Each test performs one attack and expects it to fail, and the node
//! to serve the next honest peer. docs/SECURITY.md has the table of threats and tests.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::wildcard_enum_match_arm, reason = "whatever else comes is a failure")]

mod answers;
mod calls;
mod evidence;
mod floods;
mod grants;
mod groups;
mod hellos;
mod holders;
mod peer;
mod secrets;
mod statements;

#[allow(dead_code, reason = "shared with the tests of the command")]
#[path = "../it/archive.rs"]
mod archive;
#[allow(dead_code, reason = "shared with the tests of the command")]
#[path = "../it/e2e_support.rs"]
mod e2e_support;
#[allow(dead_code, reason = "shared with the tests of the command")]
#[path = "../it/support.rs"]
mod support;
