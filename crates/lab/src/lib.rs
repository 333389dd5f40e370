//! Experiments with the comity simulator: what to vary, several runs at once, statistics over seeds, and a report with figures.
//!
//! An [`Experiment`] is a scenario file with more in it: what to sweep over, what to draw, what to demand. It makes [`Cell`]s, a
//! [`Runner`] runs them and gives [`CellResult`]s, a [`store`] keeps those on disk so that a long campaign can go on where it stopped,
//! and a [`Paper`] is written from them.
//!
//! ```
//! use comity_lab::Experiment;
//!
//! let experiment = Experiment::parse(
//!     "sizes",
//!     r#"
//!     preset = "healthy"
//!     [sweep]
//!     nodes = [60, 120]
//!     seeds = 3
//!     "#,
//! )?;
//! let cells = experiment.cells(&[], false)?;
//! assert_eq!(cells.len(), 6);
//! assert_eq!(cells[4].label(), "sizes nodes=120 seed=2");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod aggregate;
pub mod campaign;
pub mod cell;
pub mod compare;
pub mod experiment;
pub mod figure;
pub mod machine;
pub mod metric;
pub mod paper;
pub mod plot;
pub mod runner;
pub mod shipped;
pub mod stats;
pub mod store;
pub mod text;

pub use campaign::Campaign;
pub use cell::{Cell, CellResult};
pub use experiment::{Assignment, Experiment, FileError, SweepError};
pub use metric::Metric;
pub use paper::Paper;
pub use runner::Runner;
