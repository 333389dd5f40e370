//! `comity grant …`: letting single agents call what is not public.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use comity::access;
use comity::core::Time;
use comity_api::types::{
    ErrorCode, ErrorInfo, GrantKeepRequest, GrantRequest, GrantRevokeRequest, GrantView,
};

use super::call::read_input;
use crate::args::{OutputArgs, life_span, millis};
use crate::context::Context;
use crate::render;

/// Letting single agents call what is not public.
#[derive(Debug, Subcommand)]
pub(crate) enum GrantCommand {
    /// Sign a grant: an agent may call some capabilities of this one, for a while.
    Create(Box<CreateArgs>),
    /// Pass part of a grant this agent holds on to another agent.
    Delegate(Box<DelegateArgs>),
    /// Show what a grant says; needs no node.
    Show(ShowArgs),
    /// Keep a grant that was handed over: calls show it by themselves from then on.
    Keep(KeepArgs),
    /// Take a grant back, or everything an agent holds by this agent's leave.
    Revoke(RevokeArgs),
    /// List the grants this agent gave and those it holds.
    List(ListArgs),
}

/// What a link says.
#[derive(Debug, Args)]
pub(crate) struct LinkArgs {
    /// Who may use it: an agent, or a name of the policy file.
    #[arg(long, value_name = "AGENT")]
    pub(crate) to: String,

    /// For which capability: a name, or the beginning of one and *; may be repeated.
    #[arg(long = "for", value_name = "CAPABILITY", required = true)]
    pub(crate) capabilities: Vec<String>,

    /// How long it is good, e.g. 30min, 12h, 7d.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = life_span)]
    pub(crate) expires: Duration,

    /// How many calls it allows in all, of everybody it is passed on to together [default: any number].
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,

    /// How often, e.g. 60/min.
    #[arg(long, value_name = "RATE")]
    pub(crate) rate: Option<String>,

    /// How many times it may be passed on.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) depth: u8,

    /// An agent it may be passed on to; may be repeated [default: any].
    #[arg(long, value_name = "AGENT")]
    pub(crate) delegate: Vec<String>,

    /// How well the caller's own claims must be supported: L0 to L4.
    #[arg(long, value_name = "LEVEL")]
    pub(crate) min_level: Option<String>,

    /// Kind of evidence that must have been accepted in the session; may be repeated.
    #[arg(long, value_name = "KIND")]
    pub(crate) evidence: Vec<String>,

    /// What calls may say: NAME=VALUE, NAME=ONE|OTHER, NAME=BEGINNING*, NAME=1..100, NAME<=100, NAME>=1; may be repeated. The argument must
    /// then be there.
    #[arg(long, value_name = "LIMIT")]
    pub(crate) arguments: Vec<String>,

    /// Write the grant to this file, and what it says to standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// Options of `grant create`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comity grant create --to fd12:3456:789a:bcde:f012:3456:789a:bcde --for pay --count 3 --out pay.grant
  comity grant create --to alice --for 'fx.*' --expires 7d --depth 1 --rate 60/min
  comity grant create --to alice --for pay --arguments 'amount<=100' --arguments 'currency=EUR|USD'

A grant is no secret: it works in its holder's sessions only. Hand it over in any way.")]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    pub(crate) link: LinkArgs,

    /// Pin the capabilities to their interfaces as they are now: when one changes, the grant no longer covers it.
    #[arg(long)]
    pub(crate) pin: bool,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `grant delegate`.
#[derive(Debug, Args)]
pub(crate) struct DelegateArgs {
    /// The grant: a file (- = standard input), its text, or the hash that `grant list` shows.
    #[arg(value_name = "GRANT")]
    pub(crate) grant: String,

    #[command(flatten)]
    pub(crate) link: LinkArgs,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `grant show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The grant: a file (- = standard input), its text, or the hash that `grant list` shows.
    #[arg(value_name = "GRANT")]
    pub(crate) grant: String,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `grant keep`.
#[derive(Debug, Args)]
pub(crate) struct KeepArgs {
    /// The grant: a file (- = standard input) or its text.
    #[arg(value_name = "GRANT")]
    pub(crate) grant: String,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `grant revoke`.
#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    /// The grant (file, text or hash), or the agent from whom everything is taken back, for good.
    #[arg(value_name = "GRANT|AGENT")]
    pub(crate) target: String,

    /// Why: unspecified, key-compromised, superseded, ended, misused, mistake.
    #[arg(long, value_name = "REASON")]
    pub(crate) reason: Option<String>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `grant list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

impl GrantCommand {
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::Create(args) => args.output.json,
            Self::Delegate(args) => args.output.json,
            Self::Show(args) => args.output.json,
            Self::Keep(args) => args.output.json,
            Self::Revoke(args) => args.output.json,
            Self::List(args) => args.output.json,
        }
    }
}

pub(crate) async fn run(command: GrantCommand, context: &Context) -> anyhow::Result<ExitCode> {
    match command {
        GrantCommand::Create(args) => {
            let request = GrantRequest { pin: args.pin, ..request_of(&args.link) };
            let made = context.client().await?.grant_create(&request).await?;
            hand_out(&made, args.link.out.as_deref(), context)?;
        }
        GrantCommand::Delegate(args) => {
            let grant = Some(grant_of(&args.grant)?);
            let request = GrantRequest { grant, ..request_of(&args.link) };
            let made = context.client().await?.grant_delegate(&request).await?;
            hand_out(&made, args.link.out.as_deref(), context)?;
        }
        GrantCommand::Show(args) => {
            let text = grant_of(&args.grant)?;
            let view = if text.starts_with("b3:") {
                let grants = context.client().await?.grants().await?;
                let mut all = grants.given.into_iter().chain(grants.held);
                all.find(|view| view.grant == text).ok_or_else(|| {
                    ErrorInfo::new(ErrorCode::NotFound, format!("no grant {text} is kept here"))
                        .hint("`comity grant list` shows what is kept")
                })?
            } else {
                access::grant_view(&text, now()).map_err(|error| {
                    ErrorInfo::new(ErrorCode::NotVerified, comity::describe(&error))
                        .hint("copy it whole, as `comity grant create` printed it")
                })?
            };
            context.out.answer(&view, render::access::grant)?;
        }
        GrantCommand::Keep(args) => {
            let request = GrantKeepRequest { grant: grant_of(&args.grant)? };
            let view = context.client().await?.grant_keep(&request).await?;
            context.out.answer(&view, render::access::grant)?;
        }
        GrantCommand::Revoke(args) => {
            let request =
                GrantRevokeRequest { target: grant_of(&args.target)?, reason: args.reason };
            let done = context.client().await?.grant_revoke(&request).await?;
            context.out.answer(&done, |done, _| format!("{}\n", render::clean(&done.message)))?;
        }
        GrantCommand::List(_) => {
            context.out.answer(&context.client().await?.grants().await?, render::access::grants)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn request_of(link: &LinkArgs) -> GrantRequest {
    GrantRequest {
        to: link.to.clone(),
        capabilities: link.capabilities.clone(),
        expires_in_ms: millis(link.expires),
        count: link.count,
        rate: link.rate.clone(),
        depth: link.depth,
        delegates: link.delegate.clone(),
        min_level: link.min_level.clone(),
        evidence: link.evidence.clone(),
        arguments: link.arguments.clone(),
        pin: false,
        grant: None,
    }
}

/// The text of a grant: given itself, or as a file; a hash and an agent stay what they are.
pub(crate) fn grant_of(given: &str) -> Result<String, ErrorInfo> {
    let is_text = given.starts_with("comity-grant:") || given.starts_with("b3:");
    if !is_text && (given == "-" || Path::new(given).is_file()) {
        return Ok(read_input(Path::new(given))?.trim().to_owned());
    }
    Ok(given.to_owned())
}

/// The grant alone goes to standard output or the file, so that it can be piped to its holder.
fn hand_out(made: &GrantView, file: Option<&Path>, context: &Context) -> anyhow::Result<()> {
    if let Some(path) = file {
        std::fs::write(path, format!("{}\n", made.text)).map_err(|error| {
            ErrorInfo::new(
                ErrorCode::Storage,
                format!("the grant is made, and cannot be written to {}: {error}", path.display()),
            )
            .hint(format!("`comity grant show {}` prints it again", made.grant))
        })?;
        context.out.note(&format!("written to {}: hand it to its holder", path.display()));
        return context.out.answer(made, render::access::grant);
    }
    context
        .out
        .note(&format!("hand this to {}: it works in that agent's sessions only", made.holder));
    context.out.answer(made, |made, _| format!("{}\n", made.text))
}

fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Time::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
