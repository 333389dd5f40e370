//! `comity mcp install`, `comity mcp uninstall`.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use clap::builder::PossibleValuesParser;
use comity_api::types::{ErrorCode, ErrorInfo};
use comity_mcp::install::{App, Change, Entry, change, entry_json};
use serde_json::json;

use crate::args::OutputArgs;
use crate::context::Context;

/// Names of the clients, for the command line.
fn apps() -> PossibleValuesParser {
    PossibleValuesParser::new(App::ALL.map(App::name))
}

/// Options of `mcp install`.
#[derive(Debug, Args)]
pub(crate) struct InstallArgs {
    /// The clients [default: those that have a configuration here].
    #[arg(value_name = "CLIENT", value_parser = apps())]
    clients: Vec<String>,

    /// Name of the entry.
    #[arg(long, value_name = "NAME", default_value = "comity")]
    name: String,

    /// Another file than the client's usual one.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// Enter a peer's whole server, PEER/SERVER, instead of the network.
    #[arg(long, value_name = "PEER/SERVER")]
    connect: Option<String>,

    /// Only print the entry, to be put anywhere by hand.
    #[arg(long)]
    show: bool,

    /// Write without asking.
    #[arg(short, long)]
    yes: bool,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `mcp uninstall`.
#[derive(Debug, Args)]
pub(crate) struct UninstallArgs {
    /// The clients [default: all that have the entry].
    #[arg(value_name = "CLIENT", value_parser = apps())]
    clients: Vec<String>,

    /// Name of the entry.
    #[arg(long, value_name = "NAME", default_value = "comity")]
    name: String,

    /// Another file than the client's usual one.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// Write without asking.
    #[arg(short, long)]
    yes: bool,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

pub(crate) fn install(args: &InstallArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let entry = entry(args, context)?;
    if args.show {
        let app = args.clients.first().and_then(|name| App::named(name)).unwrap_or(App::Cursor);
        let shown = json!({ entry.name.clone(): entry_json(app, &entry) });
        context.out.raw(&format!("{shown:#}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let chosen = chosen(&args.clients, args.file.as_deref(), |file| {
        // A client that is here has its file, or at least its directory.
        file.exists()
            || file.parent().is_some_and(|directory| directory.is_dir() && !is_home(directory))
    })?;
    if chosen.is_empty() {
        return Err(ErrorInfo::new(ErrorCode::NotFound, "no configuration of a known MCP client is here")
            .hint("name the client, such as `comity mcp install claude-code`, or print the entry with --show")
            .into());
    }
    let changes = chosen
        .into_iter()
        .map(|(app, file)| Ok((app, change(app, &file, &entry.name, Some(&entry))?)))
        .collect::<Result<Vec<_>, ErrorInfo>>()?;
    carry_out(&changes, args.yes, context)
}

pub(crate) fn uninstall(args: &UninstallArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let chosen = chosen(&args.clients, args.file.as_deref(), Path::exists)?;
    let changes = chosen
        .into_iter()
        .map(|(app, file)| Ok((app, change(app, &file, &args.name, None)?)))
        .collect::<Result<Vec<_>, ErrorInfo>>()?;
    carry_out(&changes, args.yes, context)
}

fn entry(args: &InstallArgs, context: &Context) -> Result<Entry, ErrorInfo> {
    let text = |path: PathBuf| {
        path.into_os_string().into_string().map_err(|path| {
            ErrorInfo::new(
                ErrorCode::BadRequest,
                format!("the path {} is not UTF-8", path.display()),
            )
        })
    };
    let program = std::env::current_exe().map_err(|error| {
        ErrorInfo::new(
            ErrorCode::Internal,
            format!("cannot find the comity program itself: {error}"),
        )
    })?;
    let mut arguments = vec!["--home".to_owned(), text(context.home.clone())?, "mcp".to_owned()];
    if let Some(target) = &args.connect {
        arguments.extend(["connect".to_owned(), target.clone()]);
    }
    Ok(Entry { name: args.name.clone(), command: text(program)?, args: arguments })
}

fn is_home(directory: &Path) -> bool {
    std::env::home_dir().is_some_and(|home| home == directory)
}

fn chosen(
    names: &[String],
    file: Option<&Path>,
    here: impl Fn(&Path) -> bool,
) -> Result<Vec<(App, PathBuf)>, ErrorInfo> {
    if let Some(file) = file {
        let app = match names {
            [name] => App::named(name),
            _ => None,
        };
        let app = app.ok_or_else(|| {
            ErrorInfo::new(ErrorCode::BadRequest, "with --file, name the one client it belongs to")
        })?;
        return Ok(vec![(app, file.to_owned())]);
    }
    let user = std::env::home_dir().ok_or_else(|| {
        ErrorInfo::new(ErrorCode::NotFound, "this user has no home directory").hint("give --file")
    })?;
    let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let place = |app: App| app.file(&user, config.as_deref(), cfg!(target_os = "macos"));
    if !names.is_empty() {
        return Ok(names
            .iter()
            .filter_map(|name| App::named(name))
            .map(|app| (app, place(app)))
            .collect());
    }
    Ok(App::ALL.into_iter().map(|app| (app, place(app))).filter(|(_, file)| here(file)).collect())
}

/// Shows the changes, asks unless told not to, and makes them.
fn carry_out(changes: &[(App, Change)], yes: bool, context: &Context) -> anyhow::Result<ExitCode> {
    let mut done = Vec::new();
    for (app, change) in changes {
        if change.is_empty() {
            context.out.note(&format!(
                "{}: nothing to change in {}",
                app.name(),
                change.file.display()
            ));
            continue;
        }
        let diff = change.diff();
        if !context.out.json {
            context.out.raw(&diff)?;
        }
        if !yes && !confirmed(context)? {
            context.out.note("nothing was written");
            continue;
        }
        change.apply()?;
        context.out.note(&format!("{}: written; restart the client to see it", app.name()));
        done.push(
            json!({"client": app.name(), "file": change.file.display().to_string(), "diff": diff}),
        );
    }
    if context.out.json {
        context.out.answer(&json!({ "written": done }), |_, _| String::new())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn confirmed(context: &Context) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() || context.out.json {
        return Err(ErrorInfo::new(
            ErrorCode::BadRequest,
            "writing needs a confirmation, and nobody is here to ask",
        )
        .hint("add --yes to write")
        .into());
    }
    let mut err = anstream::stderr().lock();
    err.write_all(b"Write this? [y/N] ")?;
    err.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
