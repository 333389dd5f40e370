//! `comity audit`: what happened here, and proof of it.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use comity::audit::{
    AuditError, Caught, ExportError, Reader, checkpoint_view, entry_view, export, log_agent,
    proof_file, verified_view, verify_accusation_file, verify_directory, verify_export,
    verify_proof_file,
};
use comity::home::Home;
use comity::key_file;
use comity_api::ClientError;
use comity_api::types::{
    AuditAccusation, AuditCheckpoint, AuditEntry, AuditPage, AuditPeersRequest, AuditProof,
    AuditPruneRequest, AuditRequest, AuditTwice, DEFAULT_AUDIT_ENTRIES, ErrorCode, ErrorInfo,
    MAX_AUDIT_ENTRIES, MAX_AUDIT_PROOF_BYTES,
};
use comity_core::AgentId;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::args::OutputArgs;
use crate::context::Context;
use crate::render;

/// The audit log of this home directory. All but `prune`, `peers` and `accuse` work without a running node.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// List entries, the last ones first asked for.
    List(ListArgs),
    /// Show one entry in full.
    Show(ShowArgs),
    /// Check that nothing was changed, removed or added: the whole log, an export, or the proof of one entry. Offline.
    Verify(VerifyArgs),
    /// Write entries to a file that verifies on its own.
    Export(ExportArgs),
    /// Write a proof that an entry is in the log, which anybody can check offline.
    Prove(ProveArgs),
    /// Delete the contents of old entries. Their hashes stay, and every proof holds.
    Prune(PruneArgs),
    /// Show what this node saw of the logs of its peers, and which were caught with two histories.
    Peers(PeersArgs),
    /// Write the proof that a peer's log has two histories, which anybody can check offline.
    Accuse(AccuseArgs),
}

impl AuditCommand {
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::List(args) => args.output.json,
            Self::Show(args) => args.output.json,
            Self::Verify(args) => args.output.json,
            Self::Export(args) => args.output.json,
            Self::Prove(args) => args.output.json,
            Self::Prune(args) => args.output.json,
            Self::Peers(args) => args.output.json,
            Self::Accuse(args) => args.output.json,
        }
    }
}

/// Options of `audit list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// First entry, counted from 0 [default: the last ones].
    #[arg(long, value_name = "N")]
    pub(crate) from: Option<u64>,

    /// How many.
    #[arg(short = 'n', long, value_name = "N", default_value_t = DEFAULT_AUDIT_ENTRIES,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_AUDIT_ENTRIES)))]
    pub(crate) limit: u32,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `audit show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Position of the entry, from 0.
    #[arg(value_name = "N")]
    pub(crate) index: u64,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `audit verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// An export, as `comity audit export` writes it [default: the log of the home directory].
    #[arg(value_name = "FILE", conflicts_with_all = ["proof", "accusation"])]
    pub(crate) export: Option<PathBuf>,

    /// The proof of one entry, as `comity audit prove` writes it.
    #[arg(long, value_name = "FILE", conflicts_with = "accusation")]
    pub(crate) proof: Option<PathBuf>,

    /// The proof that a log has two histories, as `comity audit accuse` writes it.
    #[arg(long, value_name = "FILE")]
    pub(crate) accusation: Option<PathBuf>,

    /// Whose log it has to be: refuse one of anybody else.
    #[arg(long, value_name = "AGENT")]
    pub(crate) log: Option<AgentId>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `audit export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Where to write [default: standard output].
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    /// First entry, counted from 0.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) from: u64,

    /// End of the range, itself not in it [default: the last checkpoint].
    #[arg(long, value_name = "N")]
    pub(crate) to: Option<u64>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `audit prove`.
#[derive(Debug, Args)]
pub(crate) struct ProveArgs {
    /// Position of the entry, from 0.
    #[arg(value_name = "N")]
    pub(crate) index: u64,

    /// Where to write [default: standard output].
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `audit prune`.
#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// The first entry to keep. Entries go in groups of 256.
    #[arg(long, value_name = "N")]
    pub(crate) before: u64,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `audit peers`.
#[derive(Debug, Args)]
pub(crate) struct PeersArgs {
    /// The one agent whose log to show.
    #[arg(value_name = "AGENT")]
    pub(crate) agent: Option<AgentId>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `audit accuse`.
#[derive(Debug, Args)]
pub(crate) struct AccuseArgs {
    /// Whose log has two histories.
    #[arg(value_name = "AGENT")]
    pub(crate) agent: AgentId,

    /// Where to write [default: standard output].
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// What `audit verify` says.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// What was checked: `log`, `export`, `proof` or `accusation`.
    pub(crate) what: &'static str,
    /// Whose log.
    pub(crate) log: AgentId,
    /// First entry checked, and the end of the range.
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// Of them, those whose contents were pruned.
    pub(crate) pruned: u64,
    /// Entries behind the checkpoint, which nothing signs yet.
    pub(crate) unsigned: u64,
    /// Entries of a kind that this version does not know.
    pub(crate) unknown: u64,
    /// Bytes at the end of the log that are no whole entry.
    pub(crate) torn_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) checkpoint: Option<AuditCheckpoint>,
    /// The entry that a proof is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) entry: Option<AuditEntry>,
    /// What the log signed twice, differently.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) twice: Option<AuditTwice>,
}

pub(crate) async fn run(command: AuditCommand, context: &Context) -> anyhow::Result<ExitCode> {
    match command {
        AuditCommand::List(args) => list(&args, context).await?,
        AuditCommand::Show(args) => show(args.index, context).await?,
        AuditCommand::Verify(args) => verify(&args, context)?,
        AuditCommand::Export(args) => write_export(&args, context)?,
        AuditCommand::Prove(args) => prove(&args, context).await?,
        AuditCommand::Prune(args) => {
            let request = AuditPruneRequest { before: args.before };
            let done = context.client().await?.audit_prune(&request).await?;
            context.out.answer(&done, |done, _| format!("{}\n", done.message))?;
        }
        AuditCommand::Peers(args) => {
            let request = AuditPeersRequest { log: args.agent };
            let peers = context.client().await?.audit_peers(&request).await?;
            context.out.answer(&peers, render::audit::peers)?;
        }
        AuditCommand::Accuse(args) => accuse(&args, context).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(args: &ListArgs, context: &Context) -> anyhow::Result<()> {
    let request = AuditRequest { from: args.from, limit: Some(args.limit) };
    let page = page(&request, context).await?;
    context.out.answer(&page, render::audit::page)
}

async fn show(index: u64, context: &Context) -> anyhow::Result<()> {
    let request = AuditRequest { from: Some(index), limit: Some(1) };
    let page = page(&request, context).await?;
    let entry = page.entries.first().ok_or_else(|| {
        ErrorInfo::new(
            ErrorCode::NotFound,
            format!("there is no entry {index}: the log has {}", page.size),
        )
    })?;
    context.out.answer(entry, render::audit::entry)
}

/// Entries, from the running node or, without one, from its files.
async fn page(request: &AuditRequest, context: &Context) -> anyhow::Result<AuditPage> {
    match context.client().await {
        Ok(client) => Ok(client.audit(request).await?),
        Err(ClientError::NotRunning { .. }) => Ok(page_at_rest(request, context)?),
        Err(error) => Err(error.into()),
    }
}

fn page_at_rest(request: &AuditRequest, context: &Context) -> Result<AuditPage, ErrorInfo> {
    let (agent, mut log) = at_rest(context)?;
    let limit = usize::try_from(request.limit.unwrap_or(DEFAULT_AUDIT_ENTRIES)).unwrap_or(1);
    let from = match request.from {
        Some(from) => from,
        None => log.list(0, 0)?.size.saturating_sub(limit as u64),
    };
    let page = log.list(from, limit)?;
    Ok(AuditPage {
        log: agent,
        size: page.size,
        checkpoint: log.checkpoint().map(checkpoint_view),
        entries: page.entries.iter().map(entry_view).collect(),
    })
}

/// The log of the home directory, read from its files.
fn at_rest(context: &Context) -> Result<(AgentId, Reader), ErrorInfo> {
    let agent = agent_of_home(context)?;
    Ok((agent, Reader::open(&Home::at(&context.home).audit(), agent)?))
}

/// Whose log must be in the home directory: its key's, or, in a copy without a key, whose checkpoint is there.
fn agent_of_home(context: &Context) -> Result<AgentId, ErrorInfo> {
    let home = Home::at(&context.home);
    if home.key_file().exists() {
        let keys = key_file::load(&home.key_file())
            .map_err(|error| ErrorInfo::new(ErrorCode::KeyFile, render::with_causes(&error)))?;
        return Ok(keys.identity.id());
    }
    Ok(log_agent(&home.audit())?)
}

fn verify(args: &VerifyArgs, context: &Context) -> anyhow::Result<()> {
    let report = match (&args.export, &args.proof, &args.accusation) {
        (Some(path), _, _) => of_export(path)?,
        (None, Some(path), _) => of_proof(path)?,
        (None, None, Some(path)) => of_accusation(path)?,
        (None, None, None) => of_home(context)?,
    };
    if let Some(expected) = args.log.filter(|expected| *expected != report.log) {
        let found = format!("this is the log of {}, not of {expected}", report.log);
        return Err(ErrorInfo::new(ErrorCode::NotVerified, found).into());
    }
    context.out.answer(&report, render::audit::report)
}

fn of_home(context: &Context) -> Result<Report, ErrorInfo> {
    let agent = agent_of_home(context)?;
    let held = verify_directory(&Home::at(&context.home).audit(), agent)?;
    Ok(Report {
        what: "log",
        log: agent,
        from: 0,
        to: held.entries,
        pruned: held.pruned,
        unsigned: held.unsigned,
        unknown: held.unknown,
        torn_bytes: held.torn_bytes,
        checkpoint: held.checkpoint.as_ref().map(checkpoint_view),
        entry: None,
        twice: None,
    })
}

fn of_export(path: &Path) -> Result<Report, ErrorInfo> {
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let held = verify_export(&mut BufReader::new(file)).map_err(|error| match error {
        ExportError::Io(error) => unreadable(path, &error),
        error @ (ExportError::Log(_)
        | ExportError::Range { .. }
        | ExportError::Line { .. }
        | ExportError::Checkpoint(_)
        | ExportError::Root
        | _) => not_verified(&error),
    })?;
    Ok(Report {
        what: "export",
        log: held.log,
        from: held.from,
        to: held.to,
        pruned: held.pruned,
        unsigned: 0,
        unknown: 0,
        torn_bytes: 0,
        checkpoint: Some(checkpoint_view(&held.checkpoint)),
        entry: None,
        twice: None,
    })
}

fn of_proof(path: &Path) -> Result<Report, ErrorInfo> {
    let file: AuditProof = read_json(path, "proof of an entry", "prove N")?;
    let held = verify_proof_file(&file).map_err(|error| not_verified(&error))?;
    Ok(Report {
        what: "proof",
        log: held.log,
        from: held.index,
        to: held.index + 1,
        pruned: 0,
        unsigned: 0,
        unknown: u64::from(held.entry.is_err()),
        torn_bytes: 0,
        checkpoint: Some(AuditCheckpoint {
            size: held.checkpoint.size,
            root: held.checkpoint.root.to_string(),
            note: held.checkpoint.text(),
            cosigners: held.cosigners.iter().map(render::audit::cosigner).collect(),
        }),
        entry: Some(verified_view(&held)),
        twice: None,
    })
}

fn of_accusation(path: &Path) -> Result<Report, ErrorInfo> {
    let file: AuditAccusation = read_json(path, "accusation of a log", "accuse AGENT")?;
    let (log, from, to) = match verify_accusation_file(&file).map_err(|e| not_verified(&e))? {
        Caught::TwoRoots { log, size } => (log, 0, size),
        Caught::TwoEntries { log, index } => (log, index, index + 1),
    };
    Ok(Report {
        what: "accusation",
        log,
        from,
        to,
        pruned: 0,
        unsigned: 0,
        unknown: 0,
        torn_bytes: 0,
        checkpoint: None,
        entry: None,
        twice: Some(file.twice),
    })
}

fn read_json<T: DeserializeOwned>(path: &Path, what: &str, made_by: &str) -> Result<T, ErrorInfo> {
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let mut text = String::new();
    file.take(MAX_AUDIT_PROOF_BYTES)
        .read_to_string(&mut text)
        .map_err(|error| unreadable(path, &error))?;
    serde_json::from_str(&text).map_err(|error| {
        let message = format!("{} is no {what}: {error}", path.display());
        ErrorInfo::new(ErrorCode::NotVerified, message)
            .hint(format!("give a file written by `comity audit {made_by} --file FILE`"))
    })
}

fn unreadable(path: &Path, error: &io::Error) -> ErrorInfo {
    ErrorInfo::new(ErrorCode::BadRequest, format!("cannot read {}: {error}", path.display()))
}

fn not_verified(error: &dyn std::error::Error) -> ErrorInfo {
    ErrorInfo::new(ErrorCode::NotVerified, render::with_causes(error)).hint("do not rely on it")
}

fn write_export(args: &ExportArgs, context: &Context) -> anyhow::Result<()> {
    let (_, mut log) = at_rest(context)?;
    let failed = |error: ExportError| match error {
        ExportError::Log(error) => ErrorInfo::from(error),
        error @ ExportError::Range { .. } => {
            ErrorInfo::new(ErrorCode::BadRequest, error.to_string())
        }
        error @ (ExportError::Io(_)
        | ExportError::Line { .. }
        | ExportError::Checkpoint(_)
        | ExportError::Root
        | _) => ErrorInfo::new(ErrorCode::Storage, error.to_string()),
    };
    let Some(path) = &args.file else {
        let mut out = BufWriter::new(io::stdout().lock());
        export(&mut log, args.from, args.to, &mut out).map_err(failed)?;
        return Ok(());
    };
    let mut out = whole(path)?;
    let count = export(&mut log, args.from, args.to, &mut BufWriter::new(out.as_file_mut()))
        .map_err(failed)?;
    persist(out, path)?;
    let file = path.display().to_string();
    context.out.answer(&serde_json::json!({ "file": file, "entries": count }), |_, _| {
        format!(
            "{} in {file}; check it with `comity audit verify {file}`\n",
            render::count(count, "entry", "entries")
        )
    })
}

async fn prove(args: &ProveArgs, context: &Context) -> anyhow::Result<()> {
    let proof = match context.client().await {
        Ok(client) => client.audit_proof(args.index).await?,
        Err(ClientError::NotRunning { .. }) => prove_at_rest(args.index, context)?,
        Err(error) => return Err(error.into()),
    };
    let text = serde_json::to_string_pretty(&proof)? + "\n";
    let Some(path) = &args.file else { return context.out.raw(&text) };
    let mut out = whole(path)?;
    out.write_all(text.as_bytes()).map_err(|error| unwritable(path, &error))?;
    persist(out, path)?;
    context.out.answer(&proof, |proof, width| render::audit::proof(proof, path, width))
}

async fn accuse(args: &AccuseArgs, context: &Context) -> anyhow::Result<()> {
    let request = AuditPeersRequest { log: Some(args.agent) };
    let known = context.client().await?.audit_peers(&request).await?;
    let accusation = known.peers.into_iter().find_map(|peer| peer.accusation).ok_or_else(|| {
        let message = format!("the log of {} was never seen with two histories here", args.agent);
        ErrorInfo::new(ErrorCode::NotFound, message)
            .hint("`comity audit peers` lists the logs that were")
    })?;
    let text = serde_json::to_string_pretty(&accusation)? + "\n";
    let Some(path) = &args.file else { return context.out.raw(&text) };
    let mut out = whole(path)?;
    out.write_all(text.as_bytes()).map_err(|error| unwritable(path, &error))?;
    persist(out, path)?;
    context.out.answer(&accusation, |_, width| render::audit::accusation(path, width))
}

fn prove_at_rest(index: u64, context: &Context) -> Result<AuditProof, ErrorInfo> {
    let (_, mut log) = at_rest(context)?;
    let proof = log.prove(index)?;
    // The COSE receipt takes the agent's key, which only its node uses.
    proof_file(&proof, None).map_err(|error| AuditError::Damaged { what: error.to_string() }.into())
}

/// A file beside `path` that takes its place when it is whole.
fn whole(path: &Path) -> Result<tempfile::NamedTempFile, ErrorInfo> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    tempfile::NamedTempFile::new_in(directory.unwrap_or_else(|| Path::new(".")))
        .map_err(|error| unwritable(path, &error))
}

fn persist(file: tempfile::NamedTempFile, path: &Path) -> Result<(), ErrorInfo> {
    file.persist(path).map(drop).map_err(|error| unwritable(path, &error.error))
}

fn unwritable(path: &Path, error: &io::Error) -> ErrorInfo {
    ErrorInfo::new(ErrorCode::Storage, format!("cannot write {}: {error}", path.display()))
}
