//! `comity handle …`: whom a handle means, and the pins that say so.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use comity_api::types::{HandlePinRequest, HandlePins, HandleRequest};

use crate::args::OutputArgs;
use crate::context::Context;
use crate::render;

/// Handles: 48-bit names that several keys can share, pinned to the first one found.
#[derive(Debug, Subcommand)]
pub(crate) enum HandleCommand {
    /// Say whom a handle means, and how that is known. The first key found under it is pinned; of several none is picked.
    Resolve(ResolveArgs),
    /// Have a handle mean this agent from now on.
    Pin(PinArgs),
    /// List the pinned handles.
    List(ListArgs),
    /// Forget whom a handle means: the next one found under it is pinned.
    Unpin(UnpinArgs),
}

/// Options of `handle resolve`.
#[derive(Debug, Args)]
pub(crate) struct ResolveArgs {
    /// The handle, N:NNNN.HHHH.LLLL, with #check or without.
    #[arg(value_name = "HANDLE")]
    pub(crate) handle: String,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `handle pin`.
#[derive(Debug, Args)]
pub(crate) struct PinArgs {
    /// The handle, without #check.
    #[arg(value_name = "HANDLE")]
    pub(crate) handle: String,

    /// Whom it is to mean: an AgentId, an address or handle#check, as its owner told you.
    #[arg(value_name = "AGENT")]
    pub(crate) agent: String,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `handle list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `handle unpin`.
#[derive(Debug, Args)]
pub(crate) struct UnpinArgs {
    /// The handle, without #check.
    #[arg(value_name = "HANDLE")]
    pub(crate) handle: String,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

impl HandleCommand {
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::Resolve(args) => args.output.json,
            Self::Pin(args) => args.output.json,
            Self::List(args) => args.output.json,
            Self::Unpin(args) => args.output.json,
        }
    }
}

pub(crate) async fn run(command: HandleCommand, context: &Context) -> anyhow::Result<ExitCode> {
    let client = context.client().await?;
    match command {
        HandleCommand::Resolve(args) => {
            let request = HandleRequest { handle: args.handle };
            let meaning = client.handle_resolve(&request).await?;
            context.out.answer(&meaning, render::handle::meaning)?;
        }
        HandleCommand::Pin(args) => {
            let request = HandlePinRequest { handle: args.handle, agent: args.agent };
            let pin = client.handle_pin(&request).await?;
            context.out.answer(&pin, |pin, width| {
                render::handle::list(&HandlePins { pins: vec![pin.clone()] }, width)
            })?;
        }
        HandleCommand::List(_) => {
            context.out.answer(&client.handles().await?, render::handle::list)?;
        }
        HandleCommand::Unpin(args) => {
            let done = client.handle_unpin(&HandleRequest { handle: args.handle }).await?;
            context.out.answer(&done, |done, _| format!("{}\n", render::clean(&done.message)))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
