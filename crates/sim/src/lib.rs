//! Deterministic simulator that runs the production overlay of the comity network.
//!
//! A [`Scenario`] says how large the network is, what its links do, who publishes and asks what, and what goes wrong; [`run()`] carries
//! it out on virtual time with the code of `comity_overlay` as it ships, checks its rules, and measures. Nothing here reads a clock or
//! has randomness of its own: the seed decides everything, and equal scenarios give equal [`Report::trace`] hashes.
//!
//! ```
//! use comity_sim::{Scenario, run};
//!
//! let mut scenario = Scenario::healthy(30, 1);
//! scenario.workload.publishers = 5;
//! scenario.measure.queries = 10;
//! let report = run(&scenario)?;
//! assert_eq!(report.phase("before").unwrap().recall(), 1.0);
//! assert_eq!(run(&scenario)?.trace, report.trace);
//! # Ok::<(), Box<comity_sim::RunFailure>>(())
//! ```
//!
//! # Map
//!
//! * [`world`]: the event loop over (time, order), nodes, messages; [`node`]: one node and its invariants; [`places`]: who is where.
//! * [`link`]: delays, loss, duplication, reordering; [`bootstrap`]: tables of a network that has existed for long.
//! * [`services`]: verification remembered by item, evaluation by the production directory, places from a table.
//! * [`workload`]: capabilities and questions with answers known by construction.
//! * [`adversary`]: nodes that break the rules on purpose.
//! * [`baseline`]: other designs in the same harness; [`cost`]: what attacks and a table of all nodes cost, by arithmetic.
//! * [`calibrate`]: one plan for simulated and for real nodes, and the comparison.
//! * [`scenario`]: presets and what a seed may draw; [`mod@run`]: phases, faults, demands; [`check`]: the rules; [`report`]: the numbers; [`stats`]: several seeds together.

pub mod adversary;
pub mod baseline;
pub mod bootstrap;
pub mod calibrate;
pub mod check;
pub mod cost;
pub mod group;
pub mod link;
pub mod node;
pub mod places;
mod publisher;
mod queue;
pub mod random;
pub mod report;
pub mod run;
pub mod scenario;
pub mod services;
pub mod stats;
mod trace;
pub mod workload;
pub mod world;

pub use report::{PhaseReport, Report, Sample};
pub use run::{Progress, RunFailure, run, run_with};
pub use scenario::{
    Adversaries, Demands, Fault, Measure, Misbehaviour, PRESETS, Protocol, Scenario, ScenarioError,
    Sessions, Start,
};
pub use workload::{Skew, Workload};
pub use world::Messages;
