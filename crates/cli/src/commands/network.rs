//! `comity ping`, `comity peers`, `comity groups`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use comity_api::types::{Exit, MAX_PINGS, PingRequest};

use crate::args::{OutputArgs, millis, time_span};
use crate::context::Context;
use crate::{progress, render};

/// Options of `ping`.
#[derive(Debug, Args)]
pub(crate) struct PingArgs {
    /// An agent: address, handle, AgentId, AgentId@ip:port or ticket.
    #[arg(value_name = "AGENT")]
    pub(crate) target: String,

    /// How often.
    #[arg(short, long, default_value_t = 4, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_PINGS)))]
    pub(crate) count: u32,

    /// Time limit for each, e.g. 500ms.
    #[arg(long, value_name = "TIME", value_parser = time_span, default_value = "5s")]
    pub(crate) timeout: Duration,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `peers`.
#[derive(Debug, Args)]
pub(crate) struct PeersArgs {
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `groups`.
#[derive(Debug, Args)]
pub(crate) struct GroupsArgs {
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

pub(crate) async fn ping(args: &PingArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let client = context.client().await?;
    let request = PingRequest {
        target: args.target.clone(),
        count: args.count,
        timeout_ms: Some(millis(args.timeout)),
    };
    let answer =
        progress::during(&context.out, "waiting for the far end", client.ping(&request)).await?;
    context.out.answer(&answer, render::network::ping)?;
    let answered = answer.pings.iter().any(|ping| ping.rtt_us.is_some());
    Ok(ExitCode::from(if answered { Exit::Ok } else { Exit::Remote }.code()))
}

pub(crate) async fn peers(context: &Context) -> anyhow::Result<ExitCode> {
    context.out.answer(&context.client().await?.peers().await?, render::network::peers)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn groups(context: &Context) -> anyhow::Result<ExitCode> {
    context.out.answer(&context.client().await?.groups().await?, render::network::groups)?;
    Ok(ExitCode::SUCCESS)
}
