//! `comity group …`: private groups.

use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use comity_api::types::{GroupCreateRequest, GroupInvitation, GroupJoinRequest};

use super::call::read_input;
use crate::args::OutputArgs;
use crate::context::Context;
use crate::render;

/// Private groups.
#[derive(Debug, Subcommand)]
pub(crate) enum GroupCommand {
    /// Make a group with a new secret, and print the invitation to it.
    Create(CreateArgs),
    /// Become a member by an invitation.
    Join(JoinArgs),
    /// List the groups this agent is a member of.
    List(ListArgs),
    /// Show a group, or with --invitation the invitation to it.
    Show(ShowArgs),
    /// Leave a group and forget its secret.
    Leave(LeaveArgs),
}

/// Options of `group create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// What to call it: a-z, 0-9, `-`, `.`, `_`.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `group join`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comity group join - < invitation.txt
  comity group join comity-group:… --name deal-room")]
pub(crate) struct JoinArgs {
    /// The invitation (- = read it from standard input, so that it stays out of the shell's history).
    #[arg(value_name = "INVITATION")]
    pub(crate) invitation: String,

    /// What to call the group here [default: as the invitation calls it].
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `group list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `group show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// What the group is called here.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,

    /// Print the invitation, which carries the group's secret.
    #[arg(long)]
    pub(crate) invitation: bool,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `group leave`.
#[derive(Debug, Args)]
pub(crate) struct LeaveArgs {
    /// What the group is called here.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

impl GroupCommand {
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::Create(args) => args.output.json,
            Self::Join(args) => args.output.json,
            Self::List(args) => args.output.json,
            Self::Show(args) => args.output.json,
            Self::Leave(args) => args.output.json,
        }
    }
}

pub(crate) async fn run(command: GroupCommand, context: &Context) -> anyhow::Result<ExitCode> {
    let client = context.client().await?;
    match command {
        GroupCommand::Create(args) => {
            let request = GroupCreateRequest { name: args.name };
            print_invitation(&client.group_create(&request).await?, context)?;
        }
        GroupCommand::Join(args) => {
            let invitation = match args.invitation.as_str() {
                "-" => read_input(Path::new("-"))?,
                text => text.to_owned(),
            };
            let request = GroupJoinRequest { invitation, name: args.name };
            let group = client.group_join(&request).await?;
            context.out.answer(&group, render::group::group)?;
        }
        GroupCommand::List(_) => {
            context.out.answer(&client.private_groups().await?, render::group::list)?;
        }
        GroupCommand::Show(args) if args.invitation => {
            print_invitation(&client.group_invitation(&args.name).await?, context)?;
        }
        GroupCommand::Show(args) => {
            context.out.answer(&client.group_show(&args.name).await?, render::group::group)?;
        }
        GroupCommand::Leave(args) => {
            let done = client.group_leave(&args.name).await?;
            context.out.answer(&done, |done, _| format!("{}\n", render::clean(&done.message)))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The invitation alone goes to standard output, so that it can be piped to whoever is invited; the warning goes beside it.
fn print_invitation(given: &GroupInvitation, context: &Context) -> anyhow::Result<()> {
    context.out.note(&format!(
        "this is the secret of the group {} ({}): whoever has it is a member, finds, calls and serves there, and cannot be \
         made to forget it. Hand it over as you would a password.",
        render::clean(&given.group.name),
        given.group.fingerprint,
    ));
    context.out.answer(given, |given, _| format!("{}\n", given.invitation))
}
