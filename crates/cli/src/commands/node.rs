//! `comity up`, `comity down`, `comity status`.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use comity::SpawnError;
use comity::daemon::{self, DaemonConfig, DaemonError};
use comity::home::{Home, HomeError};
use comity::server::ApiSocketError;
use comity::transport::KeyExchange;
use comity_api::types::{
    Capabilities, EndpointKind, EndpointRequest, ErrorBody, ErrorCode, ErrorInfo, Status,
};
use comity_api::{Client, ClientError, JoinAddress};
use comity_mcp::endpoint::Endpoints;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::id::{PUBLIC_MINT_BITS, key_error};
use super::mcp::fill_random;
use crate::args::OutputArgs;
use crate::context::Context;
use crate::{progress, render};

/// Name of the network a node joins unless told otherwise.
const PUBLIC_NETWORK: &str = "main";

/// How long a starting node may take until it answers.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// How long a stopping node may take until it is gone.
const STOP_DEADLINE: Duration = Duration::from_secs(20);

/// Lines of the log shown when a detached node does not start.
const LOG_LINES: usize = 20;

/// Bytes from the end of the log that are looked at for them.
const LOG_TAIL_BYTES: u64 = 16 * 1024;

/// Options of `up`.
#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// Run in the background, logging to node.log in the home directory; returns once the node answers.
    #[arg(short, long)]
    pub(crate) detach: bool,

    /// A running node to enter through: AgentId@ip:port or a comity: ticket. Remembered peers are tried too.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) join: Vec<JoinAddress>,

    /// Address to listen on; several are possible.
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:0")]
    pub(crate) listen: Vec<SocketAddr>,

    /// Name of the network; sets how much work its keys take, see --mint-bits.
    #[arg(long, value_name = "NAME", default_value = PUBLIC_NETWORK)]
    pub(crate) network: String,

    /// Mint bits the network demands of every key [default: 10 on the network "main", 0 on others].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=32))]
    pub(crate) mint_bits: Option<u32>,

    /// Agree on the secrets of links by X25519MLKEM768 with peers that do so too, so that a quantum computer of tomorrow cannot read what is
    /// recorded today.
    #[arg(long)]
    pub(crate) hybrid_key_exchange: bool,

    /// Hand out at most so many bytes of large answers in a second, to all peers together.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) share_rate: Option<u64>,

    /// Also serve MCP and A2A clients of this machine at http://IP:PORT: the network at /mcp, peers' whole MCP servers at /mcp/PEER/SERVER,
    /// A2A agents below /a2a; loopback only, with the token in mcp.token of the home directory.
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) http: Option<SocketAddr>,

    /// Let web pages of this origin use --http, such as `https://app.example`; those of this machine may.
    #[arg(long = "allow-origin", value_name = "ORIGIN", requires = "http")]
    pub(crate) origins: Vec<String>,

    /// This is the background process of --detach.
    #[arg(long, hide = true, conflicts_with = "detach")]
    pub(crate) background: bool,

    /// Stop when standard input ends, so that the node cannot outlive the program that started it.
    #[arg(long, hide = true, conflicts_with_all = ["detach", "background"])]
    pub(crate) until_stdin_closes: bool,

    /// Run the node's clock ahead of the system's (behind, if negative), for tests.
    #[arg(
        long,
        hide = true,
        value_name = "SECONDS",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    pub(crate) clock_offset_secs: i64,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

impl UpArgs {
    fn mint_bits(&self) -> u32 {
        self.mint_bits.unwrap_or(if self.network == PUBLIC_NETWORK { PUBLIC_MINT_BITS } else { 0 })
    }

    fn key_exchange(&self) -> KeyExchange {
        if self.hybrid_key_exchange { KeyExchange::Hybrid } else { KeyExchange::Classical }
    }
}

/// Options of `down`.
#[derive(Debug, Args)]
pub(crate) struct DownArgs {
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Show the ticket as a QR code even when standard output is no terminal.
    #[arg(long)]
    pub(crate) qr: bool,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// What `status` prints as JSON.
#[derive(Debug, Serialize)]
pub(crate) struct StatusAnswer {
    #[serde(flatten)]
    pub(crate) status: Status,
    pub(crate) served: Capabilities,
}

pub(crate) async fn up(args: UpArgs, context: &Context) -> anyhow::Result<ExitCode> {
    if args.background {
        // A session of its own: closing the terminal does not end the node. Fails only for a group leader, which is
        // not started by a terminal's shell either.
        let _ = rustix::process::setsid();
    }
    if context.client().await.is_ok() {
        let message = format!("a node is already running in {}", context.home.display());
        return Err(ErrorInfo::new(ErrorCode::HomeInUse, message)
            .hint("stop it with `comity down`, or use another --home for a second node")
            .into());
    }
    // A wrong key is better told by the foreground than by a log.
    comity::key_file::load(&Home::at(&context.home).key_file()).map_err(key_error)?;
    if args.detach {
        return detach(&args, context).await;
    }
    let open = args.http.map(|listen| EndpointRequest {
        listen,
        serves: EndpointKind::All {},
        origins: args.origins.clone(),
        unauthenticated: false,
    });
    let config = DaemonConfig {
        home: context.home.clone(),
        mint_bits: args.mint_bits(),
        key_exchange: args.key_exchange(),
        listen: args.listen,
        join: args.join,
        network: args.network,
        until_stdin_closes: args.until_stdin_closes,
        clock_offset_secs: args.clock_offset_secs,
        share_bytes_per_s: args.share_rate,
        mcp: Some(Arc::new(comity_mcp::host::Host::new(&context.home))),
        endpoints: Some(Arc::new(Endpoints::new(&context.home, fill_random))),
        open: open.into_iter().collect(),
    };
    let node = Box::pin(daemon::run(config));
    let announce = async {
        if args.background {
            return std::future::pending().await;
        }
        let client = answering(context, START_DEADLINE, || Ok(())).await?;
        match announce(&client, context).await {
            // The node runs in this very process: when its API does not answer, it is being stopped, and how that ends it
            // tells itself.
            Err(error) if error.is::<ClientError>() => {}
            announced => announced?,
        }
        std::future::pending::<anyhow::Result<()>>().await
    };
    tokio::select! {
        ended = node => ended.map_err(|error| daemon_error(&error))?,
        failed = announce => failed?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Why a node does not run, as the API states errors. The messages say what to do already.
fn daemon_error(error: &DaemonError) -> ErrorInfo {
    let code = if let DaemonError::Spawn(error) = error {
        spawn_error_code(error)
    } else if matches!(error, DaemonError::Socket(ApiSocketError::InUse(_))) {
        ErrorCode::HomeInUse
    } else if let DaemonError::Endpoint(error) = error {
        return error.clone();
    } else if matches!(error, DaemonError::Socket(_)) {
        ErrorCode::Storage
    } else {
        ErrorCode::Internal
    };
    ErrorInfo::new(code, render::with_causes(error))
}

fn spawn_error_code(error: &SpawnError) -> ErrorCode {
    if let SpawnError::Audit(error) = error {
        error.code()
    } else if matches!(error, SpawnError::Home(HomeError::InUse { .. })) {
        ErrorCode::HomeInUse
    } else if matches!(error, SpawnError::Home(_) | SpawnError::Storage(_)) {
        ErrorCode::Storage
    } else if matches!(error, SpawnError::Key(_) | SpawnError::Mint { .. } | SpawnError::Lineage(_))
    {
        ErrorCode::KeyFile
    } else if matches!(error, SpawnError::Bind(_)) {
        ErrorCode::AddressInUse
    } else if matches!(error, SpawnError::Join(_)) {
        ErrorCode::Unreachable
    } else {
        ErrorCode::Internal
    }
}

/// Starts this program again as a background process and waits until it answers.
async fn detach(args: &UpArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let log_path = Home::at(&context.home).log();
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(&log_path).map_err(
        |error| {
            ErrorInfo::new(
                ErrorCode::Storage,
                format!("cannot open the log {}: {error}", log_path.display()),
            )
        },
    )?;
    let start = log.metadata().map(|metadata| metadata.len()).unwrap_or(0);
    let mut child = Command::new(std::env::current_exe()?)
        .args(background_arguments(args, context))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()?;
    let started = answering(context, START_DEADLINE, || still_runs(&mut child, &log_path, start));
    let client = progress::during(&context.out, "starting the node", started).await?;
    announce(&client, context).await?;
    Ok(ExitCode::SUCCESS)
}

/// The command line of the background process. It reports errors as JSON, so that the last line of its log can be
/// handed on.
fn background_arguments(args: &UpArgs, context: &Context) -> Vec<OsString> {
    let mut line: Vec<OsString> =
        vec!["--json".into(), "--home".into(), context.home.clone().into()];
    line.extend((0..context.verbose).map(|_| OsString::from("-v")));
    line.extend([
        "up".into(),
        "--background".into(),
        "--network".into(),
        args.network.clone().into(),
    ]);
    line.extend(["--mint-bits".into(), args.mint_bits().to_string().into()]);
    line.push(format!("--clock-offset-secs={}", args.clock_offset_secs).into());
    if args.hybrid_key_exchange {
        line.push("--hybrid-key-exchange".into());
    }
    if let Some(rate) = args.share_rate {
        line.extend(["--share-rate".into(), rate.to_string().into()]);
    }
    if let Some(address) = args.http {
        line.extend(["--http".into(), address.to_string().into()]);
    }
    for origin in &args.origins {
        line.extend(["--allow-origin".into(), origin.into()]);
    }
    for address in &args.listen {
        line.extend(["--listen".into(), address.to_string().into()]);
    }
    for address in &args.join {
        line.extend(["--join".into(), address.to_string().into()]);
    }
    line
}

/// Fails when the process has ended, with the error it left in its part of the log, which begins at `start`.
fn still_runs(child: &mut Child, log: &Path, start: u64) -> anyhow::Result<()> {
    let Some(status) = child.try_wait()? else { return Ok(()) };
    let tail = tail(log, start).unwrap_or_default();
    let lines: Vec<&str> = tail.lines().collect();
    // Not always the last line: threads that end after it may have said something.
    let error = lines.iter().rev().find_map(|line| serde_json::from_str::<ErrorBody>(line).ok());
    if let Some(body) = error {
        return Err(body.error.into());
    }
    let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
    let message =
        format!("the node ended before it was ready ({status}); the end of {}:", log.display());
    Err(ErrorInfo::new(ErrorCode::Internal, message).details(serde_json::json!(last)).into())
}

fn tail(path: &Path, start: u64) -> io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES).max(start)))?;
    let mut bytes = Vec::new();
    file.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Waits until the node answers; `alive` is asked before each attempt and can end the wait.
async fn answering(
    context: &Context,
    limit: Duration,
    mut alive: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Client> {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(5);
    loop {
        match context.client().await {
            Ok(client) => return Ok(client),
            Err(ClientError::NotRunning { .. }) if Instant::now() < deadline => {}
            Err(ClientError::NotRunning { .. }) => {
                let message = format!("the node did not answer within {} s", limit.as_secs());
                return Err(ErrorInfo::new(ErrorCode::Timeout, message)
                    .hint(format!(
                        "its log may say why: {}",
                        Home::at(&context.home).log().display()
                    ))
                    .into());
            }
            Err(other) => return Err(other.into()),
        }
        alive()?;
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(250));
    }
}

async fn announce(client: &Client, context: &Context) -> anyhow::Result<()> {
    let status = client.status().await?;
    if context.out.quiet && !context.out.json {
        return Ok(());
    }
    context.out.answer(&status, render::node::started)
}

pub(crate) async fn down(context: &Context) -> anyhow::Result<ExitCode> {
    let client = context.client().await?;
    let done = client.shutdown().await?;
    progress::during(&context.out, "waiting for the node to end", gone(context)).await?;
    context.out.answer(&done, |done, _| format!("{}\n", render::clean(&done.message)))?;
    Ok(ExitCode::SUCCESS)
}

async fn gone(context: &Context) -> anyhow::Result<()> {
    let deadline = Instant::now() + STOP_DEADLINE;
    let mut pause = Duration::from_millis(5);
    while context.client().await.is_ok() {
        if Instant::now() > deadline {
            return Err(ErrorInfo::new(ErrorCode::Timeout, "the node has not ended yet")
                .hint("calls may still be running; look again with `comity status`")
                .into());
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(250));
    }
    Ok(())
}

pub(crate) async fn status(args: &StatusArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let client = context.client().await?;
    let answer =
        StatusAnswer { status: client.status().await?, served: client.capabilities().await? };
    let with_qr = args.qr || io::stdout().is_terminal();
    context.out.answer(&answer, |answer, width| {
        let mut text = render::node::status(&answer.status, &answer.served, width);
        if with_qr {
            text += &render::node::qr(&answer.status.ticket, width);
        }
        text
    })?;
    Ok(ExitCode::SUCCESS)
}
