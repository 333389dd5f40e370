//! Diagnostics on standard error. Answers never go through here.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::args::{Cli, Command};

/// Installs the subscriber: `COMITY_LOG` decides if set, else -v and -q, else warnings (a running node: information).
pub(crate) fn init(cli: &Cli) {
    let daemon = matches!(&cli.command, Command::Up(args) if !args.detach);
    let default = match (cli.quiet, cli.verbose, daemon) {
        (true, ..) => "error",
        (false, 0, false) => "warn",
        (false, 0, true) => "warn,comity=info",
        (false, 1, _) => "info",
        (false, _, _) => "info,comity=debug,comity_overlay=debug,comity_specialist=debug",
    };
    let filter = std::env::var("COMITY_LOG").ok().and_then(|text| text.parse::<EnvFilter>().ok());
    tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|| EnvFilter::new(default)))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .init();
}
