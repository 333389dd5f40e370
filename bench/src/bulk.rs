//! A large answer on its way from peers that hold it: verified piece by piece and written to disk, beside the same bytes over a raw iroh stream,
//! which are neither; then from one holder and from two, each of which hands out no more than so much in a second.
//!
//! The clock runs from the call to the first item that is handed out, which is when the last piece has come and has been verified. What the producer
//! needed for the answer is in no measurement. Every pass asks something new. Who asks has had a small answer from a holder before, so that no
//! search for holders is in the rate, as no connecting is in that of the raw stream; of the second holder it learns while it fetches.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use bytes::Bytes;
use clap::Args;
use comity::api::types::{CallEvent, CallRequest, ErrorCode, Origin};
use comity::specialist::{Answer, function::Function};
use comity::{Capability, Determinism, Node, Period, Reuse, Scope, Visibility};
use comity_core::Identity;
use futures_util::StreamExt as _;
use iroh::endpoint::presets;
use iroh::{Endpoint, EndpointAddr, RelayMode, SecretKey};
use serde::Serialize;
use serde_json::{Value, json};

use crate::report::{Bound, Goal, Report, progress, spread, table};
use crate::stats::Spread;
use comity_bench_path::stage::{Place, Stage};

const ALPN: &[u8] = b"comity-bench/bulk/1";
/// Bytes of one item of the answer.
const ITEM: usize = 256 * 1024;
/// What the raw stream's sender gives to it at once.
const PART: usize = 64 * 1024;
/// Seed of the small answers that askers have before, one of each holder that is asked first.
const SMALL: u64 = 1_000_000;
const MIB: f64 = 1_048_576.0;
/// One step of a pass may take this long.
const LIMIT: Duration = Duration::from_secs(240);

/// Options of `bulk`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Passes over everything
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=20))]
    passes: u16,
    /// Length of the answer, in MiB
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(8..=900))]
    mib: u64,
    /// Length of the answer that limited holders hand out, in MiB
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(8..=900))]
    limited_mib: u64,
    /// What each of them hands out in a second, in MiB
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=1000))]
    limit: u64,
}

/// One road's rate.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    name: &'static str,
    mib_per_s: Option<Spread>,
    /// Its rate over that of the road it is compared with, in the same pass.
    ratio: Option<Spread>,
    /// Which road that is.
    to: &'static str,
}

/// A node with a home of its own.
struct Homed {
    node: Node,
    _home: tempfile::TempDir,
}

/// An identity that this run has not used yet.
fn identity() -> Identity {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    Identity::from_secret_bytes(&[NEXT.fetch_add(1, Ordering::Relaxed); 32])
}

async fn homed(seed: Option<&Node>, share_rate: Option<u64>) -> Result<Homed> {
    let home = tempfile::tempdir()?;
    let mut builder = Node::builder().home(home.path()).identity(identity());
    if let Some(seed) = seed {
        builder = builder.join(seed.ticket()).places_of(seed);
    }
    if let Some(rate) = share_rate {
        builder = builder.share_rate(rate);
    }
    Ok(Homed { node: builder.spawn().await?, _home: home })
}

/// A node that answers with as many bytes as are asked for, slowly enough for its answers to be worth telling of.
async fn producer() -> Result<Homed> {
    let producer = homed(None, None).await?;
    let mut capability = Capability::new("archive")?;
    capability.title = "Long texts".to_owned();
    capability.visibility = Visibility::Public;
    capability.idempotent = true;
    capability.data_version = "1".to_owned();
    capability.valid_for = Period::from_micros(3_600_000_000).context("an hour")?;
    capability.reuse =
        Some(Reuse { scope: Scope::Public, determinism: Determinism::Exact, ..Reuse::default() });
    let work = Function::new(|call| async move {
        tokio::time::sleep(Duration::from_secs(6)).await;
        let mib = call.request["mib"].as_u64().unwrap_or(0);
        let seed = call.request["seed"].as_u64().unwrap_or(0);
        let items = mib * (1 << 20) / ITEM as u64;
        let item = move |number| Ok(Value::from(text(seed, number)));
        Ok(Answer::Stream(futures_util::stream::iter((0..items).map(item)).boxed()))
    });
    producer.node.serve(capability, Arc::new(work)).await?;
    Ok(producer)
}

/// Text that is long and does not repeat between items.
fn text(seed: u64, number: u64) -> String {
    let word = format!("{seed:04}-{number:08}.");
    // Its head in canonical CBOR takes five bytes.
    word.repeat(ITEM / word.len())
        .chars()
        .chain("....................".chars())
        .take(ITEM - 5)
        .collect()
}

fn request(producer: &Node, seed: u64, mib: u64, only_shared: bool) -> CallRequest {
    let input = json!({ "seed": seed, "mib": mib });
    let mut request = CallRequest::new(format!("{}/archive", producer.id()), input);
    request.reuse.only_shared = only_shared;
    request.timeout_ms = Some(200_000);
    request
}

/// What a call brought.
struct Brought {
    first: Duration,
    bytes: u64,
    origin: Origin,
}

async fn follow(node: &Node, request: CallRequest) -> Result<Result<Brought, ErrorCode>> {
    let started = Instant::now();
    let mut events = Box::pin(node.call_events(request));
    let mut first = None;
    while let Some(event) = events.next().await {
        match event {
            CallEvent::Chunk(_) if first.is_none() => first = Some(started.elapsed()),
            CallEvent::Chunk(_) | CallEvent::Attempt(_) | CallEvent::Receipt(_) => {}
            CallEvent::Done(summary) => {
                let first = first.context("an answer without items")?;
                let (bytes, origin) = (summary.bytes, summary.origin);
                return Ok(Ok(Brought { first, bytes, origin }));
            }
            CallEvent::Error(error) if error.code == ErrorCode::NoMatch => {
                return Ok(Err(error.code));
            }
            CallEvent::Error(error) => bail!("{error}"),
        }
    }
    bail!("a call ended without an outcome")
}

/// Fetches an answer that peers hold.
async fn fetch(node: &Node, producer: &Node, seed: u64, mib: u64) -> Result<Duration> {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        if let Ok(brought) = follow(node, request(producer, seed, mib, true)).await? {
            ensure!(brought.bytes == mib << 20, "{} bytes", brought.bytes);
            match brought.origin {
                Origin::Holder { .. } => return Ok(brought.first),
                origin => bail!("it came from {origin:?}"),
            }
        }
        ensure!(Instant::now() < until, "nobody is found who holds the answer");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Has one node work the answer out, and then others fetch it; they hold it afterwards.
async fn hold(producer: &Node, holders: &[&Node], seed: u64, mib: u64) -> Result<()> {
    for (number, holder) in holders.iter().enumerate() {
        if number == 0 {
            let asked = follow(holder, request(producer, seed, mib, false)).await?;
            asked.map_err(|code| anyhow!("the producer did not answer: {code:?}"))?;
        } else {
            fetch(holder, producer, seed, mib).await?;
        }
        // Peers are told beside the call.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

/// A node fetches the answer after a small one; how long that took.
async fn asked_after(small: u64, producer: Node, seed: u64, mib: u64) -> Result<f64> {
    let asker = homed(Some(&producer), None).await?;
    fetch(&asker.node, &producer, small, 1).await?;
    let took = fetch(&asker.node, &producer, seed, mib).await?;
    asker.node.shutdown().await;
    Ok(rate(mib << 20, took))
}

async fn raw_endpoint() -> Result<Endpoint> {
    Endpoint::builder(presets::Minimal)
        .secret_key(SecretKey::generate())
        .relay_mode(RelayMode::Disabled)
        .clear_address_lookup()
        .clear_ip_transports()
        .bind_addr(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        .map_err(|error| anyhow!("{error}"))?
        .alpns(vec![ALPN.to_vec()])
        .bind()
        .await
        .context("bind an iroh endpoint")
}

/// Sends so many bytes on every stream that is opened.
async fn serve_raw(bytes: u64) -> Result<EndpointAddr> {
    let endpoint = raw_endpoint().await?;
    let addr = endpoint.bound_sockets().first().copied().context("no socket")?;
    let address = EndpointAddr::new(endpoint.id()).with_ip_addr(addr);
    tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            let Ok(connection) = incoming.await else { continue };
            tokio::spawn(async move {
                while let Ok((mut send, _recv)) = connection.accept_bi().await {
                    let part = Bytes::from(vec![7; PART]);
                    for _ in 0..bytes / PART as u64 {
                        if send.write_chunk(part.clone()).await.is_err() {
                            return;
                        }
                    }
                    // The reader has what it wants.
                    let _ = send.finish();
                    let _ = send.stopped().await;
                }
            });
        }
    });
    Ok(address)
}

/// Reads what is sent on one stream and drops it.
async fn read_raw(address: EndpointAddr, bytes: u64) -> Result<f64> {
    let endpoint = raw_endpoint().await?;
    let connection = endpoint.connect(address, ALPN).await?;
    let started = Instant::now();
    let (mut send, mut recv) = connection.open_bi().await?;
    send.write_all(b"go").await?;
    let mut came = 0;
    while let Some(chunk) = recv.read_chunk(usize::MAX).await? {
        came += chunk.len() as u64;
    }
    let took = started.elapsed();
    ensure!(came == bytes, "{came} bytes");
    endpoint.close().await;
    Ok(rate(bytes, took))
}

/// Has the system write what earlier steps left to be written, so that it does not do so while the next is timed.
fn flush() -> Result<()> {
    let done = std::process::Command::new("sync").status().context("run `sync`")?;
    ensure!(done.success(), "`sync` ended with {done}");
    Ok(())
}

fn rate(bytes: u64, took: Duration) -> f64 {
    bytes as f64 / MIB / took.as_secs_f64()
}

#[derive(Default)]
struct Rates {
    raw: Vec<f64>,
    verified: Vec<f64>,
    one: Vec<f64>,
    two: Vec<f64>,
}

/// Measures and prints.
pub(crate) fn run(options: &Options, json: bool) -> Result<()> {
    let facts = BTreeMap::from([
        ("passes", options.passes.to_string()),
        ("mib", options.mib.to_string()),
        ("limited-mib", options.limited_mib.to_string()),
        ("limit-mib-per-s", options.limit.to_string()),
    ]);
    let mut report = Report::begin("bulk", facts, Vec::new());
    let (mib, limited, limit) = (options.mib, options.limited_mib, options.limit << 20);
    let raw_server = Stage::start("raw server", Place::Here)?;
    let address = raw_server.run(LIMIT, move || serve_raw(mib << 20))?;
    let network = Stage::start("network", Place::Here)?;
    let made = network.run(LIMIT, move || async move {
        let producer = producer().await?;
        let quick = homed(Some(&producer.node), None).await?;
        let first = homed(Some(&producer.node), Some(limit)).await?;
        let second = homed(Some(&producer.node), Some(limit)).await?;
        hold(&producer.node, &[&quick.node], SMALL, 1).await?;
        hold(&producer.node, &[&first.node], SMALL + 1, 1).await?;
        Ok([producer, quick, first, second])
    })?;
    let [producer, quick, first, second] = &made;
    let nodes = [producer, quick, first, second].map(|homed| homed.node.clone());
    let client = Stage::start("client", Place::Here)?;
    let mut rates = Rates::default();
    for pass in 0..u64::from(options.passes) {
        progress(&format!("pass {} of {}", pass + 1, options.passes));
        let [producer, quick, first, second] = nodes.clone();
        let (seed, known) = (3 * pass, producer.clone());
        network.run(LIMIT, move || async move {
            hold(&producer, &[&quick], seed, mib).await?;
            hold(&producer, &[&first], seed + 1, limited).await?;
            hold(&producer, &[&first, &second], seed + 2, limited).await
        })?;
        flush()?;
        let to = address.clone();
        rates.raw.push(client.run(LIMIT, move || read_raw(to, mib << 20))?);
        let ask = |small, seed, mib| {
            let producer = known.clone();
            flush()?;
            client.run(LIMIT, move || asked_after(small, producer, seed, mib))
        };
        rates.verified.push(ask(SMALL, seed, mib)?);
        rates.one.push(ask(SMALL + 1, seed + 1, limited)?);
        rates.two.push(ask(SMALL + 1, seed + 2, limited)?);
    }
    report.results = rows(&rates);
    report.goals = goals(&report.results);
    report.print(json, |rows| text_of(rows))
}

fn rows(rates: &Rates) -> Vec<Row> {
    let row = |name, own: &[f64], other: &[f64], to| {
        let ratios: Vec<f64> = own.iter().zip(other).map(|(own, other)| own / other).collect();
        Row { name, mib_per_s: Spread::of(own), ratio: Spread::of(&ratios), to }
    };
    vec![
        row("raw iroh stream, read and dropped", &rates.raw, &[], ""),
        row("large answer, verified, to disk", &rates.verified, &rates.raw, "raw"),
        row("from one limited holder", &rates.one, &[], ""),
        row("from two, each limited so", &rates.two, &rates.one, "one"),
    ]
}

fn goals(rows: &[Row]) -> Vec<Goal> {
    let ratio = |name: &str| rows.iter().find(|row| row.to == name).and_then(|row| row.ratio);
    let raw = ratio("raw").map(|ratio| {
        Goal::new("verified transfer over the raw stream", Bound::AtLeast(0.8), ratio)
    });
    let two = ratio("one")
        .map(|ratio| Goal::new("two limited holders over one", Bound::AtLeast(1.0), ratio));
    raw.into_iter().chain(two).collect()
}

fn text_of(rows: &[Row]) -> String {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let ratio = match row.to {
                "" => String::new(),
                to => format!("{} of {to}", spread(row.ratio, 2)),
            };
            vec![row.name.to_owned(), spread(row.mib_per_s, 0), ratio]
        })
        .collect();
    table("one large answer", &["road", "MiB/s", "ratio"], &cells)
}
