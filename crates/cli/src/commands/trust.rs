//! `comity trust …`: asking for access, and answering who asks.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use comity_api::types::{TrustAnswerRequest, TrustApproveRequest, TrustRequest};

use crate::args::{OutputArgs, life_span, millis};
use crate::context::Context;
use crate::render;

/// Asking for access, and answering who asks.
#[derive(Debug, Subcommand)]
pub(crate) enum TrustCommand {
    /// Ask an agent for access to a capability, or for trust both ways.
    Request(RequestArgs),
    /// List who asks for access, what this agent asked for, and whom it trusts.
    List(ListArgs),
    /// Grant what an agent asked for.
    Approve(ApproveArgs),
    /// Deny what an agent asked for.
    Deny(AnswerArgs),
    /// Take back trust in an agent, and the grants it holds from this one.
    Revoke(AnswerArgs),
}

/// Options of `trust request`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comity trust request fd12:3456:789a:bcde:f012:3456:789a:bcde --for pay --message 'invoices of ACME'
  comity trust request fd12:3456:789a:bcde:f012:3456:789a:bcde

Nobody says whether there is such a capability. The answer comes by itself; `comity trust list` shows it.")]
pub(crate) struct RequestArgs {
    /// Whom to ask.
    #[arg(value_name = "AGENT")]
    pub(crate) agent: String,

    /// For which capability [default: for trust both ways].
    #[arg(long = "for", value_name = "CAPABILITY")]
    pub(crate) capability: Option<String>,

    /// What to say for oneself; at most 280 characters are shown.
    #[arg(long, value_name = "TEXT")]
    pub(crate) message: Option<String>,

    /// How long the own declaration of trust lasts, e.g. 30d [default: a year].
    #[arg(long, value_name = "TIME", value_parser = life_span)]
    pub(crate) expires: Option<Duration>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `trust list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `trust approve`.
#[derive(Debug, Args)]
pub(crate) struct ApproveArgs {
    /// Who asked.
    #[arg(value_name = "AGENT")]
    pub(crate) agent: String,

    /// Which request, if there are several.
    #[arg(long = "for", value_name = "CAPABILITY")]
    pub(crate) capability: Option<String>,

    /// How long the grant, or the trust, lasts, e.g. 12h, 7d.
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = life_span)]
    pub(crate) expires: Duration,

    /// How many calls the grant allows [default: any number].
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,

    /// How often, e.g. 60/min.
    #[arg(long, value_name = "RATE")]
    pub(crate) rate: Option<String>,

    /// How many times the grant may be passed on.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) depth: u8,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `trust deny` and `trust revoke`.
#[derive(Debug, Args)]
pub(crate) struct AnswerArgs {
    /// The agent.
    #[arg(value_name = "AGENT")]
    pub(crate) agent: String,

    /// For this capability alone.
    #[arg(long = "for", value_name = "CAPABILITY")]
    pub(crate) capability: Option<String>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

impl TrustCommand {
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::Request(args) => args.output.json,
            Self::List(args) => args.output.json,
            Self::Approve(args) => args.output.json,
            Self::Deny(args) | Self::Revoke(args) => args.output.json,
        }
    }
}

pub(crate) async fn run(command: TrustCommand, context: &Context) -> anyhow::Result<ExitCode> {
    let client = context.client().await?;
    match command {
        TrustCommand::Request(args) => {
            let request = TrustRequest {
                agent: args.agent,
                capability: args.capability,
                message: args.message,
                expires_in_ms: args.expires.map(millis),
            };
            let asked = client.trust_request(&request).await?;
            context.out.answer(&asked, render::access::asked)?;
        }
        TrustCommand::List(_) => {
            context.out.answer(&client.trust().await?, render::access::trust)?;
        }
        TrustCommand::Approve(args) => {
            let request = TrustApproveRequest {
                agent: args.agent,
                capability: args.capability,
                expires_in_ms: millis(args.expires),
                count: args.count,
                rate: args.rate,
                depth: args.depth,
            };
            let approved = client.trust_approve(&request).await?;
            context.out.answer(&approved, render::access::approved)?;
        }
        TrustCommand::Deny(args) => {
            let request = TrustAnswerRequest { agent: args.agent, capability: args.capability };
            let done = client.trust_deny(&request).await?;
            context.out.answer(&done, |done, _| format!("{}\n", render::clean(&done.message)))?;
        }
        TrustCommand::Revoke(args) => {
            let request = TrustAnswerRequest { agent: args.agent, capability: args.capability };
            let done = client.trust_revoke(&request).await?;
            context.out.answer(&done, |done, _| format!("{}\n", render::clean(&done.message)))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
