//! The command line, from which help, completions and man pages are made too.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand};

use crate::commands::{
    a2a, attest, audit, call, endorse, find, grant, group, handle, id, mcp, network, node, pilot,
    policy, receipts, serve, shell, sim, trust,
};
use crate::{bench, demo};

/// Find AI agents by what they can do, call them directly, and keep proof of what they answered.
#[derive(Debug, Parser)]
#[command(name = "comity", version, propagate_version = true, max_term_width = 100, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    /// Home directory of the node [default: the platform's data directory, e.g. ~/.local/share/comity].
    #[arg(
        long,
        global = true,
        env = "COMITY_HOME",
        value_name = "DIR",
        help_heading = "Global options"
    )]
    pub(crate) home: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,

    /// Say more: -v for progress, -vv for details (also COMITY_LOG=FILTER).
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Global options")]
    pub(crate) verbose: u8,

    /// Say nothing but the answer.
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub(crate) quiet: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How to print. Not a global option, because `call` takes its input as `--json`; every other command accepts it.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct OutputArgs {
    /// Print JSON, one document, as the local API gives it; errors too (on standard error).
    #[arg(long, help_heading = "Global options")]
    pub(crate) json: bool,
}

/// Exit codes and files, at the end of the help and of the man page.
pub(crate) const AFTER_HELP: &str = "\
Exit codes:
    0  success
    1  failure without a better category
    2  the command line or the query is wrong
    3  no node is running in the home directory
    4  nothing found
    5  input or manifest violates its schema
    6  a remote agent failed, refused or could not be reached
    7  the deadline passed
    8  a signature or hash did not verify
    9  something local is in the way: key file, address, disk, permissions
  130  interrupted

`comity call` reads its input from --json, so JSON output there is `--output json`,
or `--json` before the command: `comity --json call …`.";

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make or show the identity of this home directory.
    #[command(subcommand)]
    Id(id::IdCommand),
    /// Run a node and join the network.
    Up(node::UpArgs),
    /// Stop the node.
    Down(node::DownArgs),
    /// Show who this node is, how it is doing, and the ticket to join through it.
    Status(node::StatusArgs),
    /// Publish a table, a program or a local service as a capability.
    Serve(Box<serve::ServeArgs>),
    /// Stop serving a capability.
    Unserve(serve::UnserveArgs),
    /// Find agents by what they can do.
    Find(find::FindArgs),
    /// Show an agent's signed record, or one of its capabilities, in full.
    Show(find::ShowArgs),
    /// Call a capability, by name, query or address.
    Call(call::CallArgs),
    /// Check a kept answer offline.
    Verify(call::VerifyArgs),
    /// Read, check and prove what happened here.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Say whom a handle means, and decide it.
    #[command(subcommand)]
    Handle(handle::HandleCommand),
    /// Measure the round trip to an agent.
    Ping(network::PingArgs),
    /// List known peers.
    Peers(network::PeersArgs),
    /// List the groups this node publishes to or keeps.
    Groups(network::GroupsArgs),
    /// Private groups: capabilities that only those who share a secret can find and call.
    #[command(subcommand)]
    Group(group::GroupCommand),
    /// Who may call what: check, explain and show the policy file.
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Grants: let single agents call what is not public, for a while.
    #[command(subcommand)]
    Grant(grant::GrantCommand),
    /// Trust: ask for access to what is not public, and answer who asks.
    #[command(subcommand)]
    Trust(trust::TrustCommand),
    /// Give one's word for another agent's capability.
    Endorse(Box<endorse::EndorseArgs>),
    /// Give MCP clients the network, and use whole MCP servers of peers.
    Mcp(Box<mcp::McpArgs>),
    /// Give A2A clients the agents of the network, each at a local endpoint.
    A2a(Box<a2a::A2aArgs>),
    /// Receipts of calls: list, show and export them.
    #[command(subcommand)]
    Receipts(receipts::ReceiptsCommand),
    /// Answers kept for reuse: list them, take own ones back.
    #[command(subcommand)]
    Results(receipts::ResultsCommand),
    /// What this node thinks of an agent, and why.
    #[command(subcommand)]
    Reputation(receipts::ReputationCommand),
    /// Evidence about how agents run: show one's own, appraise that of others.
    #[command(subcommand)]
    Attest(Box<attest::AttestCommand>),
    /// The Pilot network: join it, talk to its agents, bring their services here and ours there.
    #[command(subcommand)]
    Pilot(Box<pilot::PilotCommand>),
    /// Start a private network on this machine, ask it, call it, break it.
    Demo(demo::DemoArgs),
    /// Measure searches, calls, failover and memory on a network of node processes.
    Bench(bench::BenchArgs),
    /// Simulate networks of any size: what is found, how fast, at what cost, and what faults and attacks do to it.
    Sim(Box<sim::SimArgs>),
    /// Print completions for a shell.
    Completions(shell::CompletionsArgs),
    /// Write the man pages.
    Man(shell::ManArgs),
    /// Print the OpenAPI document of the local API.
    #[command(hide = true)]
    Openapi,
}

impl Command {
    /// Whether it hands messages on for as long as it runs.
    pub(crate) fn is_bridge(&self) -> bool {
        matches!(self, Self::Mcp(_) | Self::A2a(_))
    }

    /// What its own output options say; `call` has one of its own.
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::Id(id::IdCommand::New(args)) => args.output.json,
            Self::Id(id::IdCommand::Show(args)) => args.output.json,
            Self::Id(id::IdCommand::Rotate(args)) => args.output.json,
            Self::Up(args) => args.output.json,
            Self::Down(args) => args.output.json,
            Self::Status(args) => args.output.json,
            Self::Serve(args) => args.output.json,
            Self::Unserve(args) => args.output.json,
            Self::Find(args) => args.output.json,
            Self::Show(args) => args.output.json,
            Self::Call(args) => args.output == Some(call::OutputFormat::Json),
            Self::Verify(args) => args.output.json,
            Self::Audit(command) => command.wants_json(),
            Self::Handle(command) => command.wants_json(),
            Self::Ping(args) => args.output.json,
            Self::Peers(args) => args.output.json,
            Self::Groups(args) => args.output.json,
            Self::Group(command) => command.wants_json(),
            Self::Policy(command) => command.wants_json(),
            Self::Grant(command) => command.wants_json(),
            Self::Trust(command) => command.wants_json(),
            Self::Endorse(args) => args.wants_json(),
            Self::A2a(_) => false,
            Self::Mcp(args) => args.command.as_ref().is_some_and(mcp::McpCommand::wants_json),
            Self::Receipts(command) => command.wants_json(),
            Self::Results(command) => command.wants_json(),
            Self::Reputation(command) => command.wants_json(),
            Self::Attest(command) => command.wants_json(),
            Self::Pilot(command) => command.wants_json(),
            Self::Demo(args) => args.json,
            Self::Sim(args) => args.output.json,
            Self::Bench(args) => args.wants_json(),
            Self::Completions(_) | Self::Man(_) | Self::Openapi => false,
        }
    }
}

/// Reads a time span as people write it: `30` (seconds), `500ms`, `1.5s`, `2m`, `1h`.
pub(crate) fn time_span(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit_seconds = match unit {
        "" | "s" => 1.0,
        "ms" => 0.001,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("`{unit}` is no unit; use ms, s, m or h")),
    };
    let number: f64 = number
        .parse()
        .map_err(|_| "expected a number and a unit, such as 30s or 500ms".to_owned())?;
    match Duration::try_from_secs_f64(number * unit_seconds) {
        Ok(span) if span.as_millis() > 0 => Ok(span),
        Ok(_) | Err(_) => Err("the time must be at least 1ms and finite".to_owned()),
    }
}

/// Reads how long something lasts: as [`time_span`], and also `7d`.
pub(crate) fn life_span(text: &str) -> Result<Duration, String> {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let Some(days) = text.strip_suffix('d') else { return time_span(text) };
    let days = days.parse::<u32>().ok().filter(|days| *days > 0);
    days.and_then(|days| DAY.checked_mul(days))
        .ok_or_else(|| "expected a number of days, such as 7d".to_owned())
}

/// Whole milliseconds of a time span, as the API takes them.
pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
