//! What belongs to the shell: completions, man pages, the API document.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::args::Cli;
use crate::context::Context;

/// Options of `completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell to print them for.
    pub(crate) shell: Shell,
}

/// Options of `man`.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Directory to write one page per command into; without it the main page is printed.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

pub(crate) fn completions(args: &CompletionsArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "comity", &mut script);
    context.out.raw(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn man(args: &ManArgs, context: &Context) -> anyhow::Result<ExitCode> {
    match &args.out {
        Some(directory) => {
            std::fs::create_dir_all(directory)
                .with_context(|| format!("cannot create {}", directory.display()))?;
            clap_mangen::generate_to(Cli::command(), directory)
                .with_context(|| format!("cannot write man pages to {}", directory.display()))?;
            context.out.note(&format!("man pages written to {}", directory.display()));
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command())
                .render(&mut page)
                .context("cannot make the man page")?;
            context.out.raw(&String::from_utf8_lossy(&page))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn openapi(context: &Context) -> anyhow::Result<ExitCode> {
    let document = comity_api::openapi().to_pretty_json().context("cannot write the document")?;
    context.out.raw(&(document + "\n"))?;
    Ok(ExitCode::SUCCESS)
}
