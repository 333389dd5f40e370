//! `comity mcp …`: the network for MCP clients, and MCP servers for the network.

mod classes;
mod http;
mod serve;
mod setup;

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use comity_api::Client;
use comity_api::types::{EndpointKind, ErrorInfo};
use comity_mcp::pins::{self, Pin, Pins};
use comity_mcp::server::{Network, Settings};
use comity_mcp::whole::connect::Remote;
use comity_mcp::whole::pipe;
use rand::Rng as _;

pub(crate) use self::http::open;
pub(crate) use self::serve::{McpServeArgs, Publishing, bad, no_two_alike, publish, serve};

use crate::args::OutputArgs;
use crate::context::Context;
use crate::{progress, render};

/// Options of `mcp`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Without a subcommand it is an MCP server on standard input and output, to be started by an MCP client.

Examples:
  comity mcp install claude-code           # shows the change, asks, and writes the client's entry
  comity mcp pin 'fx where pair = EUR/USD'  # the best match becomes a tool of its own
  comity mcp --http 127.0.0.1:8808          # streamable HTTP, with a token
  comity mcp connect ADDRESS/files          # a peer's whole MCP server, as if it ran here"
)]
pub(crate) struct McpArgs {
    #[command(subcommand)]
    pub(crate) command: Option<McpCommand>,

    #[command(flatten)]
    endpoint: EndpointArgs,

    /// Let models publish programs with the `publish` tool. They run as you.
    #[arg(long)]
    allow_exec: bool,
}

/// Where a local endpoint listens.
#[derive(Debug, Args)]
pub(crate) struct EndpointArgs {
    /// Serve streamable HTTP at http://IP:PORT/mcp instead of standard input and output; loopback only, 0 = any port.
    #[arg(long, value_name = "IP:PORT")]
    http: Option<SocketAddr>,

    /// Let web pages of this origin in, such as `https://app.example`; those of this machine are.
    #[arg(long = "allow-origin", value_name = "ORIGIN", requires = "http")]
    origins: Vec<String>,

    /// Demand no token: every program of this machine may use the endpoint.
    #[arg(long, requires = "http")]
    allow_unauthenticated: bool,
}

/// What else `mcp` does.
#[derive(Debug, Subcommand)]
pub(crate) enum McpCommand {
    /// Make a capability a tool of its own.
    Pin(PinArgs),
    /// Take a pinned tool away.
    Unpin(UnpinArgs),
    /// List the pinned tools.
    Pins(PinsArgs),
    /// Use a peer's whole MCP server as if it ran here.
    Connect(ConnectArgs),
    /// Enter this node in the configuration of MCP clients, after showing the change.
    Install(setup::InstallArgs),
    /// Take the entry out again.
    Uninstall(setup::UninstallArgs),
}

impl McpCommand {
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::Pin(args) => args.output.json,
            Self::Unpin(args) => args.output.json,
            Self::Pins(args) => args.output.json,
            Self::Connect(_) => false,
            Self::Install(args) => args.output.json,
            Self::Uninstall(args) => args.output.json,
        }
    }
}

/// Options of `mcp pin`.
#[derive(Debug, Args)]
pub(crate) struct PinArgs {
    /// A query, whose best match is pinned and looked for again when it is gone, or ADDRESS/CAPABILITY.
    #[arg(value_name = "QUERY")]
    query: String,

    /// Name of the tool: letters, digits, `_`, `-` [default: made of address and capability].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// Look in this private group.
    #[arg(long, value_name = "NAME")]
    group: Option<String>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `mcp unpin`.
#[derive(Debug, Args)]
pub(crate) struct UnpinArgs {
    /// Name of the tool.
    #[arg(value_name = "NAME")]
    name: String,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `mcp pins`.
#[derive(Debug, Args)]
pub(crate) struct PinsArgs {
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `mcp connect`.
#[derive(Debug, Args)]
pub(crate) struct ConnectArgs {
    /// ADDRESS/CAPABILITY of a whole server (also handle or AgentId), or the capability's name.
    #[arg(value_name = "PEER/SERVER")]
    target: String,

    /// Look for it in this private group, and call it as a member.
    #[arg(long, value_name = "NAME")]
    group: Option<String>,

    #[command(flatten)]
    endpoint: EndpointArgs,
}

pub(crate) async fn run(args: McpArgs, context: &Context) -> anyhow::Result<ExitCode> {
    match args.command {
        None => endpoint(args.endpoint, args.allow_exec, context).await,
        Some(McpCommand::Pin(args)) => pin(args, context).await,
        Some(McpCommand::Unpin(args)) => unpin(&args, context),
        Some(McpCommand::Pins(_)) => list(context),
        Some(McpCommand::Connect(args)) => connect_to(args, context).await,
        Some(McpCommand::Install(args)) => setup::install(&args, context),
        Some(McpCommand::Uninstall(args)) => setup::uninstall(&args, context),
    }
}

async fn endpoint(
    args: EndpointArgs,
    allow_exec: bool,
    context: &Context,
) -> anyhow::Result<ExitCode> {
    if args.http.is_some() {
        return http::serve(args, EndpointKind::Network { allow_exec }, context).await;
    }
    let client = Client::at(context.socket());
    let network = Network::new(client, &context.home, Settings { allow_exec })?;
    let watched = network.clone();
    tokio::select! {
        done = comity_mcp::server::stdio::serve(network, tokio::io::stdin(), tokio::io::stdout()) => done?,
        () = watched.watch() => {}
    }
    Ok(ExitCode::SUCCESS)
}

async fn connect_to(args: ConnectArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let ConnectArgs { target, group, endpoint } = args;
    if endpoint.http.is_some() {
        return http::serve(endpoint, EndpointKind::Server { target, group }, context).await;
    }
    let remote = Remote::new(Client::at(context.socket()), target, group);
    pipe::serve(remote, tokio::io::stdin(), tokio::io::stdout()).await?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        // Then only a kill ends it.
        std::future::pending::<()>().await;
    }
}

pub(crate) fn fill_random(bytes: &mut [u8]) {
    rand::rng().fill_bytes(bytes);
}

async fn pin(args: PinArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let name = args.name.unwrap_or_default();
    if !name.is_empty() && !pins::is_tool_name(&name) {
        return Err(ErrorInfo::new(
            comity_api::types::ErrorCode::BadRequest,
            format!("`{}` cannot be the name of a tool", render::clean(&name)),
        )
        .hint("use letters, digits, `_` and `-`, at most 64")
        .into());
    }
    let client = context.client().await?;
    let work = pins::resolve(&client, &args.query, args.group.as_deref(), &name);
    let mut found = progress::during(&context.out, "looking for it", work).await?;
    let pins = Pins::open(&context.home)?;
    if name.is_empty() {
        found.name = free_name(&found, &pins);
    }
    pins.put(found.clone())?;
    context.out.answer(&found, |pin, width| shown(std::slice::from_ref(pin), width))?;
    Ok(ExitCode::SUCCESS)
}

/// The name itself, or with the first number that makes it another than those of other pins.
fn free_name(pin: &Pin, pins: &Pins) -> String {
    let mut name = pin.name.clone();
    let mut number = 2;
    while pins.get(&name).is_some_and(|known| known.target != pin.target) {
        let suffix = format!("_{number}");
        let stem = pin.name.len().min(pins::TOOL_NAME_MAX - suffix.len());
        name = format!("{}{suffix}", &pin.name[..stem]);
        number += 1;
    }
    name
}

fn unpin(args: &UnpinArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let gone = Pins::open(&context.home)?.remove(&args.name)?;
    context.out.answer(&gone, |pin, _| format!("{} is pinned no more\n", pin.name))?;
    Ok(ExitCode::SUCCESS)
}

fn list(context: &Context) -> anyhow::Result<ExitCode> {
    let all = Pins::open(&context.home)?.all();
    context.out.answer(&all, |pins, width| shown(pins, width))?;
    Ok(ExitCode::SUCCESS)
}

fn shown(pins: &[Pin], width: usize) -> String {
    if pins.is_empty() {
        return "nothing is pinned; `comity mcp pin QUERY` makes a capability a tool of its own\n"
            .to_owned();
    }
    let rows: Vec<Vec<String>> = pins
        .iter()
        .map(|pin| vec![pin.name.clone(), pin.target.clone(), render::cut(&pin.title, width / 3)])
        .collect();
    render::table(&rows)
}
