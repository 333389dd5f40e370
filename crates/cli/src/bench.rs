//! `comity bench`: calls, searches and memory, measured against the alternatives in one run.

use std::process::ExitCode;

use clap::Args;
use comity_api::types::{ErrorCode, ErrorInfo};

/// Options of the measurements.
#[derive(Debug, Clone, Args)]
pub(crate) struct BenchArgs {
    /// Print one JSON document instead of tables.
    #[arg(long)]
    pub(crate) json: bool,

    /// Number of nodes of the process network that searches are measured on.
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u16).range(4..=500))]
    pub(crate) nodes: u16,
}

/// Runs the measurements.
#[expect(clippy::unused_async, reason = "the measurements await nodes")]
pub(crate) async fn run(args: BenchArgs) -> anyhow::Result<ExitCode> {
    let BenchArgs { json: _, nodes: _ } = args;
    Err(ErrorInfo::new(ErrorCode::Internal, "the measurements are not part of this build").into())
}
