//! `comity policy …`: the file that says who may call what.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use comity::access;
use comity::home::Home;
use comity_api::ClientError;
use comity_api::types::{ErrorInfo, Exit, PolicyExplainRequest, PolicyExplanation, PolicyStatus};

use crate::args::OutputArgs;
use crate::context::Context;
use crate::render;

/// Who may call what.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Read a policy file and say what is wrong with it, line by line, without putting it into force.
    Check(CheckArgs),
    /// Say whether an agent may call a capability, and which line of the policy decides.
    Explain(Box<ExplainArgs>),
    /// Show which policy is in force.
    Show(ShowArgs),
    /// Have the running node read the file now; by itself it looks every second.
    Reload(ShowArgs),
}

/// Options of `policy check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The file [default: policy.toml in the home directory].
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `policy explain`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comity policy explain alice pay
  comity policy explain fd12:3456:789a:bcde:f012:3456:789a:bcde fx.rates --rules
  comity policy explain alice pay --file draft.toml --public --level L2

With a running node, what it serves, whom it trusts and the grants it gave count. With --file, or when no node
runs, only the file and the options do.")]
pub(crate) struct ExplainArgs {
    /// Who calls: a name of the policy file, or an agent.
    #[arg(value_name = "CALLER")]
    pub(crate) caller: String,

    /// The capability's name.
    #[arg(value_name = "CAPABILITY")]
    pub(crate) capability: String,

    /// Ask this file, not the node.
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    /// Suppose that the capability is public (without a node).
    #[arg(long)]
    pub(crate) public: bool,

    /// Suppose that a grant is shown which permits the call.
    #[arg(long)]
    pub(crate) granted: bool,

    /// Suppose that both agents declared trust.
    #[arg(long)]
    pub(crate) trusted: bool,

    /// Suppose that the caller is a member of this group with a charter: a name of the policy file, or the group's key.
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Vec<String>,

    /// Suppose that this agent endorses the caller.
    #[arg(long, value_name = "AGENT")]
    pub(crate) endorsed_by: Vec<String>,

    /// Suppose that the caller's claims are supported so well: L0 to L4.
    #[arg(long, value_name = "LEVEL")]
    pub(crate) level: Option<String>,

    /// Suppose that evidence of this kind was accepted.
    #[arg(long, value_name = "KIND")]
    pub(crate) evidence: Vec<String>,

    /// Suppose that it is then: milliseconds since the UNIX epoch.
    #[arg(long, value_name = "MS")]
    pub(crate) at: Option<u64>,

    /// Show every rule, and why it did not apply.
    #[arg(long)]
    pub(crate) rules: bool,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `policy show` and `policy reload`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

impl PolicyCommand {
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::Check(args) => args.output.json,
            Self::Explain(args) => args.output.json,
            Self::Show(args) | Self::Reload(args) => args.output.json,
        }
    }
}

pub(crate) async fn run(command: PolicyCommand, context: &Context) -> anyhow::Result<ExitCode> {
    match command {
        PolicyCommand::Check(args) => check(args, context),
        PolicyCommand::Explain(args) => explain(*args, context).await,
        PolicyCommand::Show(_) => {
            let status = context.client().await?.policy().await?;
            context.out.answer(&status, render::access::policy)?;
            Ok(code_of(&status))
        }
        PolicyCommand::Reload(_) => {
            let status = context.client().await?.policy_reload().await?;
            context.out.answer(&status, render::access::policy)?;
            Ok(code_of(&status))
        }
    }
}

/// A file that is refused is worth an exit code: scripts ask for it after they wrote one.
fn code_of(status: &PolicyStatus) -> ExitCode {
    let exit = if status.problem.is_some() { Exit::BadData } else { Exit::Ok };
    ExitCode::from(exit.code())
}

fn check(args: CheckArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let path = args.file.unwrap_or_else(|| Home::at(&context.home).policy());
    let policy = access::read_policy(&path).map_err(|error| error.info())?;
    let checked = PolicyStatus {
        path: path.display().to_string(),
        present: true,
        hash: policy.hash().to_string(),
        rules: u32::try_from(policy.len()).unwrap_or(u32::MAX),
        ..PolicyStatus::default()
    };
    context.out.answer(&checked, |checked, _| {
        let rules = if checked.rules == 1 { "rule" } else { "rules" };
        format!("{} is in order: {} {rules}, {}\n", checked.path, checked.rules, checked.hash)
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn explain(args: ExplainArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let rules = args.rules;
    let request = PolicyExplainRequest {
        caller: args.caller,
        capability: args.capability,
        granted: args.granted,
        trusted: args.trusted,
        groups: args.group,
        endorsed_by: args.endorsed_by,
        level: args.level,
        evidence: args.evidence,
        at_ms: args.at,
    };
    let explained = if let Some(file) = args.file {
        offline(&file, &request, args.public)?
    } else {
        match context.client().await {
            Ok(client) => client.policy_explain(&request).await?,
            Err(ClientError::NotRunning { .. }) => {
                context.out.note("no node runs here: only the file decides, and nothing is known of what is served");
                let path = Home::at(&context.home).policy();
                if path.exists() {
                    offline(&path, &request, args.public)?
                } else {
                    access::explain_default(&request, args.public).map_err(|error| error.info())?
                }
            }
            Err(error) => return Err(error.into()),
        }
    };
    context.out.answer(&explained, |explained, width| {
        render::access::explanation(explained, rules, width)
    })?;
    Ok(ExitCode::SUCCESS)
}

fn offline(
    path: &std::path::Path,
    request: &PolicyExplainRequest,
    public: bool,
) -> Result<PolicyExplanation, ErrorInfo> {
    access::explain_file(path, request, public).map_err(|error| error.info())
}
