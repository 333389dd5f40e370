//! `comity receipts …`, `comity results …`, `comity reputation …`: what calls leave behind.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use comity_api::types::{
    ErrorCode, ErrorInfo, KeptReceipt, MAX_RECEIPTS, Proof, Receipts, ReceiptsRequest,
    ReputationRequest, RetractRequest, Side,
};
use comity_core::receipt::{RootCache, SignedReceipt};
use comity_core::{Canonical as _, Hash};
use comity_results::ack::{CounterSigned, Verdict};
use data_encoding::HEXLOWER_PERMISSIVE;

use crate::args::OutputArgs;
use crate::commands::call::read_input;
use crate::context::Context;
use crate::render;

/// Receipts: signed statements of what was asked and answered, kept by both ends.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  comity receipts list --capability ecb-rates
  comity receipts show 3f1c22ab
  comity receipts export receipts.json --side made

A receipt that the caller has signed as well is proof that both ends agree the call took place.")]
pub(crate) enum ReceiptsCommand {
    /// List receipts, the newest first.
    List(ListArgs),
    /// Show one receipt in full.
    Show(ShowArgs),
    /// Write receipts to a file, signed as they are, for others to check.
    Export(ExportArgs),
}

/// Which receipts.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Only of calls with this agent: an address, handle or AgentId.
    #[arg(long, value_name = "AGENT")]
    pub(crate) agent: Option<String>,

    /// Only of this capability.
    #[arg(long, value_name = "NAME")]
    pub(crate) capability: Option<String>,

    /// Only of calls made, or only of calls served.
    #[arg(long, value_name = "SIDE")]
    pub(crate) side: Option<SideArg>,

    /// At most so many [default: 50].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_RECEIPTS)))]
    pub(crate) limit: Option<u32>,
}

/// Which end of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SideArg {
    /// Calls this agent made.
    Made,
    /// Calls it answered.
    Served,
}

/// Options of `receipts list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) which: Which,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `receipts show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Hash of the receipt, or its first eight digits or more.
    #[arg(value_name = "HASH")]
    pub(crate) id: String,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `receipts export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Where to; nothing that is there is overwritten.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    #[command(flatten)]
    pub(crate) which: Which,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Results: answers kept for reuse.
#[derive(Debug, Subcommand)]
pub(crate) enum ResultsCommand {
    /// List the answers kept here, the most used first.
    List(ResultsArgs),
    /// Take back answers that this agent gave: whoever holds one stops using it once it hears of that.
    Retract(RetractArgs),
}

/// Options of `results list`.
#[derive(Debug, Args)]
pub(crate) struct ResultsArgs {
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `results retract`.
#[derive(Debug, Args)]
pub(crate) struct RetractArgs {
    /// A capability that this agent serves.
    #[arg(value_name = "CAPABILITY")]
    pub(crate) capability: String,

    /// Only answers to this request, a file (- = standard input).
    #[arg(long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Reputation: what this node thinks of its peers, from its own calls first.
#[derive(Debug, Subcommand)]
pub(crate) enum ReputationCommand {
    /// Show what is thought of an agent, and every part of it.
    Show(ReputationArgs),
}

/// Options of `reputation show`.
#[derive(Debug, Args)]
pub(crate) struct ReputationArgs {
    /// An address, handle or AgentId.
    #[arg(value_name = "AGENT")]
    pub(crate) agent: String,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

impl ReceiptsCommand {
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::List(args) => args.output.json,
            Self::Show(args) => args.output.json,
            Self::Export(args) => args.output.json,
        }
    }
}

impl ResultsCommand {
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::List(args) => args.output.json,
            Self::Retract(args) => args.output.json,
        }
    }
}

impl ReputationCommand {
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::Show(args) => args.output.json,
        }
    }
}

fn request_of(which: Which) -> ReceiptsRequest {
    let Which { agent, capability, side, limit } = which;
    let side = side.map(|side| match side {
        SideArg::Made => Side::Made,
        SideArg::Served => Side::Served,
    });
    ReceiptsRequest { agent, capability, side, limit }
}

pub(crate) async fn receipts(
    command: ReceiptsCommand,
    context: &Context,
) -> anyhow::Result<ExitCode> {
    let client = context.client().await?;
    match command {
        ReceiptsCommand::List(args) => {
            let receipts = client.receipts(&request_of(args.which)).await?;
            context.out.answer(&receipts, render::receipts::list)?;
        }
        ReceiptsCommand::Show(args) => {
            let receipt = client.receipt(&args.id).await?;
            context.out.answer(&receipt, render::receipts::one)?;
        }
        ReceiptsCommand::Export(args) => {
            let mut request = request_of(args.which);
            request.limit = request.limit.or(Some(MAX_RECEIPTS));
            let receipts = client.receipts(&request).await?;
            write(&args.file, &receipts)?;
            let text = format!(
                "wrote {} to {}",
                render::count(receipts.receipts.len() as u64, "receipt", "receipts"),
                args.file.display()
            );
            context.out.answer(&receipts, |_, _| format!("{text}\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Checks exported receipts offline: every signature of a callee, and every countersignature of a caller.
pub(crate) fn verify(exported: &Receipts, context: &Context) -> anyhow::Result<ExitCode> {
    let mut roots = RootCache::new();
    let mut both = 0;
    for kept in &exported.receipts {
        check(kept, &mut roots).map_err(|problem| {
            ErrorInfo::new(ErrorCode::NotVerified, format!("receipt {}: {problem}", kept.id))
                .hint("do not rely on this file")
        })?;
        both += u64::from(kept.countersigned_cbor.is_some());
    }
    let text = format!(
        "verified: {}, {both} of them signed by both ends",
        render::count(exported.receipts.len() as u64, "receipt", "receipts")
    );
    context.out.answer(exported, |_, _| format!("{text}\n"))?;
    Ok(ExitCode::SUCCESS)
}

fn check(kept: &KeptReceipt, roots: &mut RootCache) -> Result<(), String> {
    let bytes = |hex: &str| {
        HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).map_err(|_| "it is not hex".to_owned())
    };
    let signed = SignedReceipt::decode(&bytes(&kept.proof.receipt_cbor)?)
        .map_err(|error| error.to_string())?;
    signed.verify_with(roots).map_err(|error| error.to_string())?;
    if Proof::from(&signed) != kept.proof {
        return Err("what it says in JSON is not what was signed".to_owned());
    }
    if Hash::of(&signed.receipt.encode()).to_string() != kept.id {
        return Err("its name is not its hash".to_owned());
    }
    if let Some(hex) = &kept.countersigned_cbor {
        let both = CounterSigned::decode(&bytes(hex)?).map_err(|error| error.to_string())?;
        let call = both.verify(roots).map_err(|error| error.to_string())?;
        let verdict = match call.verdict {
            Verdict::Received => "received",
            Verdict::Confirmed => "confirmed",
            Verdict::Disputed => "disputed",
        };
        if kept.verdict.as_deref() != Some(verdict) {
            return Err(format!("its caller did not say so: it said `{verdict}`"));
        }
        if both.receipt != signed {
            return Err("the countersignature is of another receipt".to_owned());
        }
    }
    Ok(())
}

/// Writes a new file, whole or not at all.
fn write(path: &Path, receipts: &Receipts) -> anyhow::Result<()> {
    let failed = |error: std::io::Error| {
        let text = format!("cannot write {}: {error}", path.display());
        ErrorInfo::new(ErrorCode::Storage, text).hint("choose a file that is not there yet")
    };
    let text = serde_json::to_string_pretty(receipts)? + "\n";
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or_else(|| Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
    std::io::Write::write_all(&mut file, text.as_bytes()).map_err(failed)?;
    file.persist_noclobber(path).map_err(|error| failed(error.error))?;
    Ok(())
}

pub(crate) async fn results(
    command: ResultsCommand,
    context: &Context,
) -> anyhow::Result<ExitCode> {
    let client = context.client().await?;
    match command {
        ResultsCommand::List(_) => {
            context.out.answer(&client.results().await?, render::receipts::results)?;
        }
        ResultsCommand::Retract(args) => {
            let input = match &args.input {
                Some(path) => Some(serde_json::from_str(&read_input(path)?).map_err(|error| {
                    let text = format!("{} is not JSON: {error}", path.display());
                    ErrorInfo::new(ErrorCode::BadRequest, text)
                })?),
                None => None,
            };
            let request = RetractRequest { capability: args.capability, input };
            let done = client.retract(&request).await?;
            context.out.answer(&done, |done, _| format!("{}\n", render::clean(&done.message)))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn reputation(
    command: ReputationCommand,
    context: &Context,
) -> anyhow::Result<ExitCode> {
    let client = context.client().await?;
    match command {
        ReputationCommand::Show(args) => {
            let request = ReputationRequest { agent: args.agent };
            let view = client.reputation(&request).await?;
            context.out.answer(&view, render::receipts::reputation)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
