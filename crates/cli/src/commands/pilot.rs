//! `comity pilot …`: the Pilot network, joined by a process of its own.

mod bench;
mod bridge;
mod join;
mod talk;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use comity_pilot_net::Fingerprint;

use crate::args::{OutputArgs, time_span};
use crate::context::Context;

/// The directory of everything Pilot, below the home directory.
const DIRECTORY: &str = "pilot";

/// The Pilot network: join it, talk to its agents, bring their services here and ours there.
#[derive(Debug, Subcommand)]
pub(crate) enum PilotCommand {
    /// Join a Pilot network and stay in it, until interrupted or told to leave.
    Join(Box<JoinArgs>),
    /// Leave: end the process of `join`.
    Leave(PlainArgs),
    /// Show this node's Pilot identity beside its own, its peers and what waits.
    Status(PlainArgs),
    /// Show what the registry says of a node.
    Find(TargetArgs),
    /// Measure the round trip to a node.
    Ping(PingArgs),
    /// Ask a node for trust. It takes the consent of both sides.
    Handshake(HandshakeArgs),
    /// Agree to a node's request for trust.
    Approve(TargetArgs),
    /// Refuse a node's request for trust.
    Reject(RejectArgs),
    /// Withdraw trust.
    Revoke(TargetArgs),
    /// Forget a node: its key, trust and requests. The next key seen is believed again.
    Forget(TargetArgs),
    /// List trusted nodes and requests that wait.
    Trust(PlainArgs),
    /// Send a message to a trusted node: text, JSON or bytes.
    Send(SendArgs),
    /// Send a file to a trusted node.
    SendFile(SendFileArgs),
    /// Show messages and files received.
    Recv(RecvArgs),
    /// Publish an event, at this node's own broker or another's.
    Publish(PublishArgs),
    /// Print the events of a node's broker as they come.
    Subscribe(SubscribeArgs),
    /// Send JSON to a service of a node and print its answer.
    Request(RequestArgs),
    /// Answer JSON requests of trusted Pilot nodes by a comity capability.
    Offer(OfferArgs),
    /// Publish a Pilot node's service as a comity capability, marked `via = pilot`.
    Bring(Box<BringArgs>),
    /// Requests from standard input, one JSON a line: what answers for `bring`.
    #[command(hide = true)]
    Relay(RelayArgs),
    /// Measure: streams beside kernel TCP on this machine, to another one, or through a peer's echo.
    Bench(BenchArgs),
    /// Serve a Pilot network of your own: registry and beacon, for unmodified Pilot daemons too.
    Rendezvous(RendezvousArgs),
}

/// Options of what needs none.
#[derive(Debug, Args)]
pub(crate) struct PlainArgs {
    #[command(flatten)]
    output: OutputArgs,
}

/// Options of `pilot join`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comity pilot join --registry 192.0.2.1:9000 --beacon 192.0.2.1:9001
  comity pilot join --registry … --beacon … --offer ecb-reference-rates:2000

The node is private: nobody learns its endpoint, and nobody but nodes you agreed to trust reaches more of it than the port that asks
for trust. Its number is the registry's word, not its key: docs/PILOT.md says which guarantees hold where.")]
pub(crate) struct JoinArgs {
    /// The registry.
    #[arg(long, value_name = "HOST:PORT")]
    registry: String,

    /// The beacon.
    #[arg(long, value_name = "HOST:PORT")]
    beacon: String,

    /// Speak TLS to the registry, whose certificate has this SHA-256 fingerprint.
    #[arg(long, value_name = "FINGERPRINT")]
    pin: Option<Fingerprint>,

    /// Address to listen on, UDP.
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:0")]
    listen: SocketAddr,

    /// A name to be found by.
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,

    /// Let the registry tell this node's endpoint to anybody. Who may connect does not depend on it.
    #[arg(long)]
    public: bool,

    /// Answer JSON requests on a Pilot port by a capability: as `pilot offer` does; may be repeated.
    #[arg(long, value_name = "CAPABILITY[:PORT]")]
    offer: Vec<String>,

    #[command(flatten)]
    output: OutputArgs,
}

/// A node.
#[derive(Debug, Args)]
pub(crate) struct TargetArgs {
    /// Its number, address or host name.
    #[arg(value_name = "NODE")]
    node: String,

    #[command(flatten)]
    output: OutputArgs,
}

/// Options of `pilot ping`.
#[derive(Debug, Args)]
pub(crate) struct PingArgs {
    /// Number, address or host name.
    #[arg(value_name = "NODE")]
    node: String,

    /// How often.
    #[arg(short, long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    count: u32,

    #[command(flatten)]
    output: OutputArgs,
}

/// Options of `pilot handshake`.
#[derive(Debug, Args)]
pub(crate) struct HandshakeArgs {
    /// Number, address or host name.
    #[arg(value_name = "NODE")]
    node: String,

    /// Why, shown to the other side.
    #[arg(value_name = "REASON", default_value = "")]
    why: String,

    #[command(flatten)]
    output: OutputArgs,
}

/// Options of `pilot reject`.
#[derive(Debug, Args)]
pub(crate) struct RejectArgs {
    /// Number, address or host name.
    #[arg(value_name = "NODE")]
    node: String,

    /// Why, told to the other side.
    #[arg(value_name = "REASON", default_value = "")]
    why: String,

    #[command(flatten)]
    output: OutputArgs,
}

/// Options of `pilot send`.
#[derive(Debug, Args)]
#[group(id = "content", required = true, multiple = false)]
pub(crate) struct SendArgs {
    /// Number, address or host name.
    #[arg(value_name = "NODE")]
    node: String,

    /// Text to send.
    #[arg(value_name = "TEXT", group = "content")]
    text: Option<String>,

    /// JSON to send; - reads it from standard input.
    #[arg(long = "data", value_name = "JSON", group = "content")]
    data: Option<String>,

    /// Send the content of a file as bytes; - reads standard input.
    #[arg(long, value_name = "FILE", group = "content")]
    binary: Option<PathBuf>,

    #[command(flatten)]
    output: OutputArgs,
}

/// Options of `pilot send-file`.
#[derive(Debug, Args)]
pub(crate) struct SendFileArgs {
    /// Number, address or host name.
    #[arg(value_name = "NODE")]
    node: String,

    /// The file.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    #[command(flatten)]
    output: OutputArgs,
}

/// Options of `pilot recv`.
#[derive(Debug, Args)]
pub(crate) struct RecvArgs {
    /// Go on printing what arrives; with --json one document a line.
    #[arg(short, long)]
    follow: bool,

    #[command(flatten)]
    output: OutputArgs,
}

/// Options of `pilot publish`.
#[derive(Debug, Args)]
pub(crate) struct PublishArgs {
    /// What about.
    #[arg(value_name = "TOPIC")]
    topic: String,

    /// What.
    #[arg(value_name = "TEXT")]
    text: String,

    /// The node whose broker it is; this one's own when absent.
    #[arg(long, value_name = "NODE")]
    at: Option<String>,

    #[command(flatten)]
    output: OutputArgs,
}

/// Options of `pilot subscribe`.
#[derive(Debug, Args)]
pub(crate) struct SubscribeArgs {
    /// The node whose broker it is.
    #[arg(value_name = "NODE")]
    node: String,

    /// What about; * for everything.
    #[arg(value_name = "TOPIC", default_value = "*")]
    topic: String,

    /// End after so many events.
    #[arg(short, long, value_name = "N")]
    count: Option<u64>,

    #[command(flatten)]
    output: OutputArgs,
}

/// Options of `pilot request`.
#[derive(Debug, Args)]
pub(crate) struct RequestArgs {
    /// Number, address or host name.
    #[arg(value_name = "NODE")]
    node: String,

    /// The request, JSON; - reads it from standard input.
    #[arg(value_name = "JSON")]
    data: String,

    /// The service's port.
    #[arg(short, long, value_name = "PORT", default_value_t = 1001)]
    port: u16,

    /// How long to wait for the answer.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time_span)]
    timeout: Duration,

    #[command(flatten)]
    output: OutputArgs,
}

/// Options of `pilot offer`.
#[derive(Debug, Args)]
pub(crate) struct OfferArgs {
    /// The capability: a name, a query or ADDRESS/NAME, as `comity call` takes it.
    #[arg(value_name = "CAPABILITY")]
    capability: String,

    /// The Pilot port; on 1001 JSON goes to the capability, and everything else to the inbox as ever.
    #[arg(short, long, value_name = "PORT", default_value_t = 1001)]
    port: u16,

    #[command(flatten)]
    output: OutputArgs,
}

/// Options of `pilot bring`.
#[derive(Debug, Args)]
pub(crate) struct BringArgs {
    /// Number, address or host name of the Pilot node.
    #[arg(value_name = "NODE")]
    node: String,

    /// The service's port there.
    #[arg(short, long, value_name = "PORT", default_value_t = 1001)]
    port: u16,

    /// Name of the capability here.
    #[arg(long, value_name = "NAME")]
    name: String,

    /// What it does, in words that people search by.
    #[arg(long, value_name = "TEXT")]
    description: String,

    /// A request it answers, in words; may be repeated.
    #[arg(long, value_name = "TEXT")]
    example: Vec<String>,

    /// A class it belongs to; may be repeated.
    #[arg(long, value_name = "CLASS")]
    class: Vec<String>,

    /// JSON Schema of requests, a file.
    #[arg(long, value_name = "FILE")]
    input_schema: Option<PathBuf>,

    /// List it in the directory and let anybody call it.
    #[arg(long)]
    public: bool,

    /// How long one call may take.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time_span)]
    timeout: Duration,

    #[command(flatten)]
    output: OutputArgs,
}

/// Options of `pilot relay`.
#[derive(Debug, Args)]
pub(crate) struct RelayArgs {
    #[arg(value_name = "NODE")]
    node: String,

    #[arg(long)]
    port: u16,

    #[arg(long, value_parser = time_span)]
    timeout: Duration,
}

/// Options of `pilot bench`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comity pilot bench                               # both ends here, beside TCP in the same run
  comity pilot bench --listen 0.0.0.0:7700         # one end; anybody who reaches it can measure
  comity pilot bench --connect 192.0.2.1:7700      # the other
  comity pilot bench --connect 127.0.0.1:7700 --idle 100 --time 60s
  comity pilot bench --node 5                      # through the echo of a trusted node, by a joined one")]
pub(crate) struct BenchArgs {
    /// Be the receiving end, on UDP and TCP, until interrupted; tells at the end what it used.
    #[arg(long, value_name = "IP:PORT", conflicts_with_all = ["connect", "node"])]
    listen: Option<SocketAddr>,

    /// Measure towards such an end.
    #[arg(long, value_name = "IP:PORT", conflicts_with = "node")]
    connect: Option<SocketAddr>,

    /// Measure through the echo of a node, by the node that joined.
    #[arg(long, value_name = "NODE")]
    node: Option<String>,

    /// Congestion control of the kernel's TCP, such as reno or cubic (Linux); else the system's default.
    #[arg(long, value_name = "NAME", conflicts_with = "node")]
    congestion: Option<String>,

    /// Only stay connected, as so many peers, for --time.
    #[arg(long, value_name = "PEERS", requires = "connect")]
    idle: Option<u32>,

    /// Bytes to carry at most, in MB.
    #[arg(long, value_name = "MB", default_value_t = 1024)]
    megabytes: u64,

    /// How long to write at most, each for TCP and Pilot.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time_span)]
    time: Duration,

    /// Connections opened to measure how long that takes; a node takes 64 at once from one peer.
    #[arg(long, value_name = "N", default_value_t = 50)]
    dials: u32,

    #[command(flatten)]
    output: OutputArgs,
}

/// Options of `pilot rendezvous`.
#[derive(Debug, Args)]
#[command(
    after_help = "Pilot daemons join it with -registry and -beacon, and with -registry-tls -registry-fingerprint where --tls is given.
Its rules are stricter than those of Pilot's own server; docs/PILOT.md lists what follows from it."
)]
pub(crate) struct RendezvousArgs {
    /// Where the registry listens, TCP.
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:9000")]
    registry: SocketAddr,

    /// Where the beacon listens, UDP.
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:9001")]
    beacon: SocketAddr,

    /// The beacon's address as nodes that ask are told.
    #[arg(long, value_name = "HOST:PORT")]
    told_beacon: Option<String>,

    /// Speak TLS, with a certificate of its own making that nodes pin.
    #[arg(long)]
    tls: bool,

    #[command(flatten)]
    output: OutputArgs,
}

impl PilotCommand {
    pub(crate) const fn wants_json(&self) -> bool {
        match self {
            Self::Join(args) => args.output.json,
            Self::Leave(args) | Self::Status(args) | Self::Trust(args) => args.output.json,
            Self::Find(args) | Self::Approve(args) | Self::Revoke(args) | Self::Forget(args) => {
                args.output.json
            }
            Self::Ping(args) => args.output.json,
            Self::Handshake(args) => args.output.json,
            Self::Reject(args) => args.output.json,
            Self::Send(args) => args.output.json,
            Self::SendFile(args) => args.output.json,
            Self::Recv(args) => args.output.json,
            Self::Publish(args) => args.output.json,
            Self::Subscribe(args) => args.output.json,
            Self::Request(args) => args.output.json,
            Self::Offer(args) => args.output.json,
            Self::Bring(args) => args.output.json,
            Self::Relay(_) => true,
            Self::Bench(args) => args.output.json,
            Self::Rendezvous(args) => args.output.json,
        }
    }
}

pub(crate) async fn run(command: PilotCommand, context: &Context) -> anyhow::Result<ExitCode> {
    match command {
        PilotCommand::Join(args) => join::join(*args, context).await,
        PilotCommand::Rendezvous(args) => join::rendezvous(args, context).await,
        PilotCommand::Bench(args) => bench::run(args, context).await,
        PilotCommand::Bring(args) => bridge::bring(*args, context).await,
        PilotCommand::Relay(args) => bridge::relay(args, context).await,
        command @ (PilotCommand::Leave(_)
        | PilotCommand::Status(_)
        | PilotCommand::Find(_)
        | PilotCommand::Ping(_)
        | PilotCommand::Handshake(_)
        | PilotCommand::Approve(_)
        | PilotCommand::Reject(_)
        | PilotCommand::Revoke(_)
        | PilotCommand::Forget(_)
        | PilotCommand::Trust(_)
        | PilotCommand::Send(_)
        | PilotCommand::SendFile(_)
        | PilotCommand::Recv(_)
        | PilotCommand::Publish(_)
        | PilotCommand::Subscribe(_)
        | PilotCommand::Request(_)
        | PilotCommand::Offer(_)) => talk::run(command, context).await,
    }
}
