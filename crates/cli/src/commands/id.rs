//! `comity id new`, `comity id show`.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use comity::home::Home;
use comity::key_file::{self, KeyFileError, Keys};
use comity_api::types::{AgentForms, ErrorCode, ErrorInfo};
use comity_core::{AgentId, Identity, Position};

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

pub(crate) fn run(command: IdCommand, context: &Context) -> anyhow::Result<ExitCode> {
    match command {
        IdCommand::New(args) => new(&args, context),
        IdCommand::Show(_) => show(context),
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
