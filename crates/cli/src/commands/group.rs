//! `comity group …`: groups that share a secret, and groups with a charter.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use comity_api::ClientError;
use comity_api::types::{
    AdmitRequest, CharterCreateRequest, CharterGroup, CharterJoinRequest, ErrorCode, ExpelRequest,
    GroupCreateRequest, GroupInvitation, GroupJoinRequest, PrivateGroup,
};
use serde::Serialize;

use super::call::read_input;
use crate::args::{OutputArgs, life_span, millis};
use crate::context::Context;
use crate::render;

/// Groups: private ones share a secret, governed ones have stewards who admit, open ones anybody belongs to.
#[derive(Debug, Subcommand)]
pub(crate) enum GroupCommand {
    /// Make a group: with a new secret, and print the invitation to it; or with a charter (--governed, --open), and print that.
    Create(CreateArgs),
    /// Become a member by an invitation, or keep a charter.
    Join(JoinArgs),
    /// Admit an agent to a governed group, as one of its stewards.
    Admit(AdmitArgs),
    /// Expel an agent: for good where the group was founded, else by taking back the own admission.
    Expel(ExpelArgs),
    /// List the groups this agent is a member of.
    List(ListArgs),
    /// Show a group; with --invitation the invitation to it, with --charter the charter.
    Show(ShowArgs),
    /// Leave a group and forget its secret, or its charter.
    Leave(LeaveArgs),
}

/// Options of `group create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// What to call it: a-z, 0-9, `-`, `.`, `_`.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,

    /// Stewards admit its members: this agent, and those named with --steward.
    #[arg(long, conflicts_with = "open")]
    pub(crate) governed: bool,

    /// Anybody belongs, until expelled.
    #[arg(long)]
    pub(crate) open: bool,

    /// A steward besides this agent; may be repeated.
    #[arg(long, value_name = "AGENT", requires = "governed")]
    pub(crate) steward: Vec<String>,

    /// How many stewards must admit somebody \[default: 1\].
    #[arg(long, value_name = "N", requires = "governed")]
    pub(crate) needed: Option<u8>,

    /// Within what time an expulsion counts everywhere; for so long the group works while its stewards and this node are down
    /// \[default: 10min\].
    #[arg(long, value_name = "TIME", value_parser = life_span)]
    pub(crate) stale: Option<Duration>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `group admit`.
#[derive(Debug, Args)]
pub(crate) struct AdmitArgs {
    /// What the group is called here.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,

    /// Whom.
    #[arg(value_name = "AGENT")]
    pub(crate) agent: String,

    /// For calls of which capabilities: a name, or the beginning of one and *.
    #[arg(long = "for", value_name = "CAPABILITY", default_value = "*")]
    pub(crate) capabilities: String,

    /// For how long, e.g. 12h, 30d.
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = life_span)]
    pub(crate) expires: Duration,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `group expel`.
#[derive(Debug, Args)]
pub(crate) struct ExpelArgs {
    /// What the group is called here.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,

    /// Whom.
    #[arg(value_name = "AGENT")]
    pub(crate) agent: String,

    /// Why: unspecified, key-compromised, superseded, ended, misused, mistake.
    #[arg(long, value_name = "REASON")]
    pub(crate) reason: Option<String>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `group join`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comity group join - < invitation.txt
  comity group join comity-group:… --name deal-room")]
pub(crate) struct JoinArgs {
    /// The invitation or charter (- = read it from standard input, so that it stays out of the shell's history).
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

    /// Print the charter, which is no secret.
    #[arg(long, conflicts_with = "invitation")]
    pub(crate) charter: bool,

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
            Self::Admit(args) => args.output.json,
            Self::Expel(args) => args.output.json,
            Self::List(args) => args.output.json,
            Self::Show(args) => args.output.json,
            Self::Leave(args) => args.output.json,
        }
    }
}

pub(crate) async fn run(command: GroupCommand, context: &Context) -> anyhow::Result<ExitCode> {
    let client = context.client().await?;
    match command {
        GroupCommand::Create(args) if args.governed || args.open => {
            let request = CharterCreateRequest {
                name: args.name,
                open: args.open,
                stewards: args.steward,
                needed: args.needed,
                stale_ms: args.stale.map(millis),
            };
            print_charter(&client.charter_create(&request).await?, context)?;
        }
        GroupCommand::Create(args) => {
            let request = GroupCreateRequest { name: args.name };
            print_invitation(&client.group_create(&request).await?, context)?;
        }
        GroupCommand::Join(args) => {
            let invitation = match args.invitation.as_str() {
                "-" => read_input(Path::new("-"))?,
                text => text.to_owned(),
            };
            if invitation.trim_start().starts_with("comity-charter:") {
                let request = CharterJoinRequest { charter: invitation, name: args.name };
                let group = client.charter_join(&request).await?;
                context.out.answer(&group, render::group::charter)?;
                return Ok(ExitCode::SUCCESS);
            }
            let request = GroupJoinRequest { invitation, name: args.name };
            let group = client.group_join(&request).await?;
            context.out.answer(&group, render::group::group)?;
        }
        GroupCommand::Admit(args) => {
            let request = AdmitRequest {
                agent: args.agent,
                capabilities: args.capabilities,
                expires_in_ms: millis(args.expires),
            };
            let made = client.charter_admit(&args.name, &request).await?;
            context.out.answer(&made, render::group::admitted)?;
        }
        GroupCommand::Expel(args) => {
            let request = ExpelRequest { agent: args.agent, reason: args.reason };
            let done = client.charter_expel(&args.name, &request).await?;
            context.out.answer(&done, |done, _| format!("{}\n", render::clean(&done.message)))?;
        }
        GroupCommand::List(_) => {
            let all = AllGroups {
                private_groups: client.private_groups().await?.private_groups,
                charters: client.charters().await?.charters,
            };
            context
                .out
                .answer(&all, |all, _| render::group::list(&all.private_groups, &all.charters))?;
        }
        GroupCommand::Show(args) if args.invitation => {
            print_invitation(&client.group_invitation(&args.name).await?, context)?;
        }
        GroupCommand::Show(args) if args.charter => {
            print_charter(&client.charter_show(&args.name).await?, context)?;
        }
        GroupCommand::Show(args) => {
            if let Some(group) = found(client.charter_show(&args.name).await)? {
                context.out.answer(&group, render::group::charter)?;
                return Ok(ExitCode::SUCCESS);
            }
            context.out.answer(&client.group_show(&args.name).await?, render::group::group)?;
        }
        GroupCommand::Leave(args) => {
            let done = match found(client.charter_leave(&args.name).await)? {
                Some(done) => done,
                None => client.group_leave(&args.name).await?,
            };
            context.out.answer(&done, |done, _| format!("{}\n", render::clean(&done.message)))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What `group list` answers.
#[derive(Debug, Serialize)]
struct AllGroups {
    private_groups: Vec<PrivateGroup>,
    charters: Vec<CharterGroup>,
}

/// The answer about a group with a charter; none if there is none of that name, but perhaps a private one.
fn found<T>(answer: Result<T, ClientError>) -> Result<Option<T>, ClientError> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(ClientError::Api(error)) if error.code == ErrorCode::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The charter alone goes to standard output, so that it can be piped to whoever is to join.
fn print_charter(group: &CharterGroup, context: &Context) -> anyhow::Result<()> {
    context.out.note(&format!(
        "this is the charter of {}, and no secret: members keep it with `comity group join`; a policy names the group by its key {}",
        render::clean(&group.name),
        group.group,
    ));
    context.out.answer(group, |group, _| format!("{}\n", group.text))
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
