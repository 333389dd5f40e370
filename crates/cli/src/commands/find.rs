//! `comity find`, `comity show`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use comity_api::types::{ErrorCode, ErrorInfo, Exit, FindRequest, MAX_LIMIT, QueryInput};

use super::call::read_input;
use crate::args::{OutputArgs, millis, time_span};
use crate::context::Context;
use crate::{progress, render};

/// Options of `find`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comity find 'historical FX where pair = EUR/USD and time covers 2021..2024 and resolution <= 1d'
  comity find '\"airport lookup\" under transportation top 5' --explain
  comity find --query-json query.json")]
pub(crate) struct FindArgs {
    /// The query in its text form; several words are joined.
    #[arg(
        value_name = "QUERY",
        required_unless_present = "query_json",
        conflicts_with = "query_json"
    )]
    pub(crate) query: Vec<String>,

    /// Read the query in its JSON form from a file (- = standard input).
    #[arg(long, value_name = "FILE")]
    pub(crate) query_json: Option<PathBuf>,

    /// Also show plan, keys, custodians asked, score parts and costs.
    #[arg(short, long)]
    pub(crate) explain: bool,

    /// Show at most this many matches.
    #[arg(short = 'k', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_LIMIT)))]
    pub(crate) top: Option<u32>,

    /// Only what is supported at least so well, by what this node knows: L0 (self-said) to L4; `comity endorse` and `[levels]` in the policy file say how.
    #[arg(long, value_name = "LEVEL")]
    pub(crate) min_level: Option<String>,

    /// Search in this private group instead of in public.
    #[arg(long, value_name = "NAME")]
    pub(crate) group: Option<String>,

    /// Probe this many of the best matches before answering.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=20))]
    pub(crate) probe: Option<u32>,

    /// Answer with what was found by then, e.g. 2s.
    #[arg(long, value_name = "TIME", value_parser = time_span)]
    pub(crate) timeout: Option<Duration>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// AGENT or AGENT/CAPABILITY; the agent as address, handle or AgentId.
    #[arg(value_name = "TARGET")]
    pub(crate) target: String,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

pub(crate) async fn find(args: &FindArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let query = match &args.query_json {
        Some(path) => QueryInput::Json(json_object(&read_input(path)?)?),
        None => query_of(&args.query.join(" "))?,
    };
    let request = FindRequest {
        query,
        explain: args.explain,
        limit: args.top,
        probe: args.probe,
        group: args.group.clone(),
        min_level: args.min_level.clone(),
        timeout_ms: args.timeout.map(millis),
    };
    let client = context.client().await?;
    let answer =
        progress::during(&context.out, "asking the network", client.find(&request)).await?;
    context.out.answer(&answer, render::find::answer)?;
    let found = if answer.matches.is_empty() { Exit::NotFound } else { Exit::Ok };
    Ok(ExitCode::from(found.code()))
}

pub(crate) async fn show(args: &ShowArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let client = context.client().await?;
    let answer =
        progress::during(&context.out, "fetching the record", client.show(&args.target)).await?;
    context.out.answer(&answer, render::find::record)?;
    Ok(ExitCode::SUCCESS)
}

/// A query as typed: text, or the JSON form when it looks like an object.
pub(crate) fn query_of(text: &str) -> Result<QueryInput, ErrorInfo> {
    if text.trim_start().starts_with('{') {
        return Ok(QueryInput::Json(json_object(text)?));
    }
    Ok(QueryInput::from(text))
}

fn json_object(text: &str) -> Result<serde_json::Map<String, serde_json::Value>, ErrorInfo> {
    serde_json::from_str(text).map_err(|error| {
        ErrorInfo::new(ErrorCode::BadQuery, format!("the query is not a JSON object: {error}"))
            .hint("see `comity help find` for the text form")
    })
}
