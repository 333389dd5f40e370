//! `comity id new`, `comity id show`, `comity id rotate`.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use comity::home::{Home, HomeError};
use comity::key_file::{self, KeyFileError, Keys};
use comity::lineage::{LineageError, Rotation};
use comity_api::types::{AgentForms, ErrorCode, ErrorInfo};
use comity_core::{AgentId, Identity, Position, Time};
use serde::Serialize;

use crate::args::OutputArgs;
use crate::context::Context;
use crate::{progress, render};

/// Mint bits the public network demands (DESIGN section 3): about a second of work.
pub(crate) const PUBLIC_MINT_BITS: u32 = 10;

/// Name of the successor's key file in the home directory.
const SUCCESSOR_FILE: &str = "successor.key";

/// Most bits somebody may ask for; each doubles the time (20 = about 12 minutes on one core).
const MAX_MINT_BITS: i64 = 24;

/// The identity of this home directory.
#[derive(Debug, Subcommand)]
pub(crate) enum IdCommand {
    /// Make a new identity. An existing one is never overwritten.
    New(NewArgs),
    /// Show the identity in all its text forms.
    Show(ShowArgs),
    /// Let the successor's key take over. Handle and address of the first key keep meaning this agent.
    Rotate(RotateArgs),
}

/// Options of `id new`.
#[derive(Debug, Args)]
pub(crate) struct NewArgs {
    /// Leading zero bits to mint; each doubles the time. 10 is what the public network demands.
    #[arg(long, value_name = "N", default_value_t = PUBLIC_MINT_BITS,
          value_parser = clap::value_parser!(u32).range(0..=MAX_MINT_BITS))]
    pub(crate) mint_bits: u32,

    /// Where to keep the successor's key, which alone can take over this identity
    /// [default: successor.key in the home directory; move it off this machine].
    #[arg(long, value_name = "FILE")]
    pub(crate) successor: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `id show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `id rotate`.
#[derive(Debug, Args)]
#[command(
    after_help = "The node must be stopped. What the key in use committed to is the only key that can take over: a thief of the key in \
use cannot. The old key and its audit log are kept in the home directory, under retired/."
)]
pub(crate) struct RotateArgs {
    /// The successor's key, as `id new` wrote it [default: successor.key in the home directory].
    #[arg(long, value_name = "FILE")]
    pub(crate) successor: Option<PathBuf>,

    /// Where to keep the key after it [default: successor.key in the home directory; move it off this machine].
    #[arg(long, value_name = "FILE")]
    pub(crate) next: Option<PathBuf>,

    /// Leading zero bits of the key after it; the network's, or more.
    #[arg(long, value_name = "N", default_value_t = PUBLIC_MINT_BITS,
          value_parser = clap::value_parser!(u32).range(0..=MAX_MINT_BITS))]
    pub(crate) mint_bits: u32,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// What `id rotate` did.
#[derive(Debug, Serialize)]
struct RotateAnswer {
    old: AgentId,
    #[serde(flatten)]
    new: AgentForms,
    /// Where the old key and its log are.
    retired: PathBuf,
    /// Where the key after the new one is.
    next: PathBuf,
}

pub(crate) fn run(command: IdCommand, context: &Context) -> anyhow::Result<ExitCode> {
    match command {
        IdCommand::New(args) => new(&args, context),
        IdCommand::Show(_) => show(context),
        IdCommand::Rotate(args) => rotate(&args, context),
    }
}

fn new(args: &NewArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let home = Home::at(&context.home);
    let path = home.key_file();
    let successor_path = args.successor.clone().unwrap_or_else(|| home.root().join(SUCCESSOR_FILE));
    // Refuse before the work, not after it; creating refuses again.
    for path in [&path, &successor_path] {
        if path.exists() {
            return Err(key_error(KeyFileError::Exists { path: path.clone() }).into());
        }
    }
    home.create()
        .map_err(|error| ErrorInfo::new(ErrorCode::KeyFile, render::with_causes(&error)))?;
    let identity = mint("a key", args.mint_bits, context);
    let successor = mint("its successor", args.mint_bits, context);
    let (agent, next) = (identity.id(), successor.id());
    // The successor commits to a key of its own when it takes over; until then to one that nobody keeps.
    let unkept = Identity::generate(&mut rand::rng()).id();
    key_file::create(&successor_path, &Keys::new(successor, &unkept)).map_err(key_error)?;
    key_file::create(&path, &Keys::new(identity, &next)).map_err(key_error)?;
    context.out.note(&format!("a new identity, kept in {}", path.display()));
    context.out.note(&format!(
        "its successor, kept in {}: move that file off this machine; whoever has it can take over the identity",
        successor_path.display()
    ));
    print(&agent, context)
}

fn rotate(args: &RotateArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let home = Home::at(&context.home);
    let root = home.root().to_owned();
    let successor = args.successor.clone().unwrap_or_else(|| root.join(SUCCESSOR_FILE));
    let kept = match &args.next {
        Some(path) => path.clone(),
        None => free_name(&root),
    };
    // Refuse before the work, not after it; creating refuses again.
    if kept.exists() {
        return Err(key_error(KeyFileError::Exists { path: kept }).into());
    }
    let rotation = Rotation::prepare(home, &successor).map_err(lineage_error)?;
    let next = mint("the key after the successor", args.mint_bits, context);
    // What the key after it commits to is made when it takes over; until then it commits to a key that nobody keeps.
    let unkept = Identity::generate(&mut rand::rng()).id();
    let done = rotation.finish(next, &kept, &unkept, now()).map_err(lineage_error)?;
    let usual = root.join(SUCCESSOR_FILE);
    let kept = if args.next.is_none() && !usual.exists() {
        // The successor's own file had its name until now.
        let failed = |source| KeyFileError::Io { action: "write", path: usual.clone(), source };
        std::fs::rename(&kept, &usual).map_err(|error| key_error(failed(error)))?;
        usual
    } else {
        kept
    };
    if let Some(used) = &done.used {
        context.out.note(&format!(
            "{} is not needed any more: delete it, the key is in the home directory now",
            used.display()
        ));
    }
    context.out.note(&format!(
        "the key after it is kept in {}: move that file off this machine; whoever has it can take over the identity",
        kept.display()
    ));
    let new = AgentForms::of(&done.new, &Position::of(&done.new));
    let answer = RotateAnswer { old: done.old, new, retired: done.retired, next: kept };
    context.out.answer(&answer, |answer, width| {
        render::field(0, "old", &answer.old.to_string(), width)
            + &render::field(0, "kept in", &answer.retired.display().to_string(), width)
            + &render::identity::forms(&answer.new, width)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// A name for the next successor's file that is not taken.
fn free_name(root: &Path) -> PathBuf {
    let numbered = (2_u32..).map(|number| root.join(format!("successor-{number}.key")));
    let mut names = std::iter::once(root.join(SUCCESSOR_FILE)).chain(numbered);
    names.find(|name| !name.exists()).unwrap_or_else(|| root.join(SUCCESSOR_FILE))
}

fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

fn lineage_error(error: LineageError) -> ErrorInfo {
    let said = render::with_causes(&error);
    if let LineageError::Key(error) = error {
        return key_error(error);
    }
    if matches!(&error, LineageError::Home(HomeError::InUse { .. })) {
        return ErrorInfo::new(ErrorCode::HomeInUse, said)
            .hint("a key is replaced while its node is stopped: `comity down`");
    }
    if let LineageError::Audit(error) = &error {
        return ErrorInfo::new(error.code(), said);
    }
    if matches!(&error, LineageError::Io { .. }) {
        return ErrorInfo::new(ErrorCode::Storage, said);
    }
    ErrorInfo::new(ErrorCode::KeyFile, said)
}

fn mint(what: &str, mint_bits: u32, context: &Context) -> Identity {
    let mut rng = rand::rng();
    let spinner = (context.out.watched && mint_bits >= PUBLIC_MINT_BITS)
        .then(|| progress::spinner(&format!("minting {what} of {mint_bits} bits")));
    let mut attempts = 0_u64;
    let identity = loop {
        attempts += 1;
        if let Some(identity) = Identity::mint_attempt(&mut rng, mint_bits) {
            break identity;
        }
        if let Some(spinner) = &spinner
            && attempts.is_multiple_of(64)
        {
            let expected = 1_u64 << mint_bits;
            spinner.set_message(format!(
                "minting {what} of {mint_bits} bits: {attempts} attempts, {expected} expected"
            ));
        }
    };
    if let Some(spinner) = spinner {
        spinner.finish_and_clear();
    }
    identity
}

fn show(context: &Context) -> anyhow::Result<ExitCode> {
    let keys = key_file::load(&Home::at(&context.home).key_file()).map_err(key_error)?;
    print(&keys.identity.id(), context)
}

fn print(agent: &AgentId, context: &Context) -> anyhow::Result<ExitCode> {
    let forms = AgentForms::of(agent, &Position::of(agent));
    context.out.answer(&forms, render::identity::forms)?;
    Ok(ExitCode::SUCCESS)
}

/// A key file's error as the API states errors.
pub(crate) fn key_error(error: KeyFileError) -> ErrorInfo {
    let full = matches!(&error, KeyFileError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull);
    let code = if full { ErrorCode::Storage } else { ErrorCode::KeyFile };
    ErrorInfo::new(code, render::with_causes(&error))
}
