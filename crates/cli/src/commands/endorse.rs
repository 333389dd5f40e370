//! `comity endorse …`: giving one's word for another agent's capability.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use comity_api::types::{EndorseRequest, EndorseRevokeRequest};

use crate::args::{OutputArgs, life_span, millis};
use crate::context::Context;
use crate::render;

/// Giving one's word for another agent's capability.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:
  comity endorse fd12:3456:789a:bcde:f012:3456:789a:bcde translate --how audit --proof b3:…
  comity endorse list
  comity endorse revoke b3:…

An endorsement counts for whoever named this agent under [levels] or endorsed_by in its own policy, and for nobody else."
)]
pub(crate) struct EndorseArgs {
    /// List or take back.
    #[command(subcommand)]
    pub(crate) command: Option<EndorseCommand>,

    /// Whom.
    #[arg(value_name = "AGENT", required = true)]
    pub(crate) agent: Option<String>,

    /// For which capability: a name, the beginning of one and *, or * for the agent as such.
    #[arg(value_name = "CAPABILITY", required = true)]
    pub(crate) capability: Option<String>,

    /// On what ground.
    #[arg(long, value_name = "GROUND", default_value = "operator")]
    pub(crate) how: How,

    /// How long the word holds, e.g. 30d.
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = life_span)]
    pub(crate) expires: Duration,

    /// Hash of what it rests on, such as a receipt; may be repeated.
    #[arg(long, value_name = "HASH")]
    pub(crate) proof: Vec<String>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// The ground of an endorsement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum How {
    /// The endorser operates the agent, or knows who does.
    Operator,
    /// It asked what it knew the answer to.
    Canary,
    /// It looked at how the agent is made.
    Audit,
}

/// What to do with endorsements there are.
#[derive(Debug, Subcommand)]
pub(crate) enum EndorseCommand {
    /// List endorsements given and received.
    List(ListArgs),
    /// Take one back.
    Revoke(RevokeArgs),
}

/// Options of `endorse list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `endorse revoke`.
#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    /// The endorsement's hash, as `endorse list` shows it.
    #[arg(value_name = "HASH")]
    pub(crate) endorsement: String,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

impl EndorseArgs {
    pub(crate) fn wants_json(&self) -> bool {
        match &self.command {
            Some(EndorseCommand::List(args)) => args.output.json,
            Some(EndorseCommand::Revoke(args)) => args.output.json,
            None => self.output.json,
        }
    }
}

pub(crate) async fn run(args: EndorseArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let client = context.client().await?;
    match args.command {
        Some(EndorseCommand::List(_)) => {
            context.out.answer(&client.endorsements().await?, render::access::endorsements)?;
        }
        Some(EndorseCommand::Revoke(args)) => {
            let request = EndorseRevokeRequest { endorsement: args.endorsement };
            let done = client.endorse_revoke(&request).await?;
            context.out.answer(&done, |done, _| format!("{}\n", render::clean(&done.message)))?;
        }
        None => {
            let how = match args.how {
                How::Operator => "operator",
                How::Canary => "canary",
                How::Audit => "audit",
            };
            let request = EndorseRequest {
                agent: args.agent.unwrap_or_default(),
                capability: args.capability.unwrap_or_default(),
                how: how.to_owned(),
                expires_in_ms: millis(args.expires),
                proofs: args.proof,
            };
            let made = client.endorse(&request).await?;
            context.out.answer(&made, render::access::endorsed)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
