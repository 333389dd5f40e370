//! The same retrieval by five roads: a web page over HTTPS that is parsed, a web API over HTTPS, both with a connection kept and with a new
//! one, a peer that holds the answer, and the own store.
//!
//! The question is about rates of one month and one currency. The page shows the table of the year, as pages do, and the reader picks the rows; the
//! API answers the question itself, as comity does. The producer takes a while for each answer, so that holding it is worth telling of; its time is in
//! no measurement.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use bytes::Bytes;
use clap::Args;
use comity::api::types::{CallRequest, Origin};
use comity::specialist::{Answer, function::Function};
use comity::{Capability, Determinism, NetworkRuntime, Node, Period, Reuse, Scope, Visibility};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use scraper::{Html, Selector};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::contender::tls;
use crate::report::{Bound, Goal, Report, progress, spread, table};
use crate::stats::{Spread, percentile_us};
use comity_bench_path::stage::{Place, Stage};

/// The rates that ship with the repository: European Central Bank, see data/README.md.
const RATES: &str = include_str!("../../data/ecb-reference-rates.csv");
/// The year that is asked about.
const YEAR: &str = "2019";
/// Currencies that are asked about, each for every month.
const CURRENCIES: [&str; 4] = ["USD", "JPY", "GBP", "CHF"];
/// What working out an answer takes.
const WORK: Duration = Duration::from_millis(80);
/// Setting up, and one pass, may take this long.
const LIMIT: Duration = Duration::from_secs(180);

/// Options of `reuse`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Passes over all roads; each with an asker that knows nothing yet
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=50))]
    passes: u16,
}

/// One road's times.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    name: &'static str,
    how: &'static str,
    p50_us: Option<Spread>,
    p90_us: Option<Spread>,
    /// Its p50 over that of a peer that holds the answer, in the same pass.
    over_peer: Option<Spread>,
}

/// A question and the rows that answer it.
#[derive(Clone, Debug)]
struct Question {
    currency: &'static str,
    month: u32,
}

impl Question {
    fn all() -> Vec<Self> {
        let months = (1..=12).flat_map(|month| CURRENCIES.map(|currency| Self { currency, month }));
        months.collect()
    }

    fn prefix(&self) -> String {
        format!("{YEAR}-{:02}-", self.month)
    }

    fn json(&self) -> Value {
        json!({ "currency": self.currency, "month": self.month })
    }
}

/// The table of the year: head and rows.
fn year() -> (Vec<&'static str>, Vec<Vec<&'static str>>) {
    let mut lines = RATES.lines();
    let head = lines.next().unwrap_or_default().split(',').collect();
    let rows = lines.filter(|line| line.starts_with(YEAR)).map(|line| line.split(',').collect());
    (head, rows.collect())
}

fn answer(question: &Question) -> Value {
    let (head, rows) = year();
    let column = head.iter().position(|name| *name == question.currency).unwrap_or(0);
    let prefix = question.prefix();
    let rows = rows.iter().filter(|row| row[0].starts_with(&prefix));
    let rows: Vec<Value> = rows.map(|row| json!([row[0], row[column]])).collect();
    json!({ "rates": rows })
}

/// The page a site would show.
fn page() -> String {
    let (head, rows) = year();
    let cells = |tag: &str, row: &[&str]| -> String {
        row.iter().map(|cell| format!("<{tag} class=\"rate\">{cell}</{tag}>")).collect()
    };
    let body: String = rows.iter().map(|row| format!("<tr>{}</tr>\n", cells("td", row))).collect();
    format!(
        "<!doctype html><html><head><title>Reference rates {YEAR}</title></head><body><h1>Euro reference rates</h1>\
         <table id=\"rates\"><thead><tr>{}</tr></thead><tbody>\n{body}</tbody></table></body></html>",
        cells("th", &head)
    )
}

/// What a reader of the page makes of it.
fn scrape(html: &str, question: &Question) -> Result<Value> {
    let select = |text: &str| Selector::parse(text).map_err(|error| anyhow!("{error}"));
    let (heads, rows) = (select("#rates thead th")?, select("#rates tbody tr")?);
    let cells = select("td")?;
    let page = Html::parse_document(html);
    let column = page
        .select(&heads)
        .position(|head| head.text().collect::<String>() == question.currency)
        .context("the page has no such column")?;
    let prefix = question.prefix();
    let mut found = Vec::new();
    for row in page.select(&rows) {
        let mut cells = row.select(&cells).map(|cell| cell.text().collect::<String>());
        let date = cells.next().unwrap_or_default();
        if date.starts_with(&prefix) {
            found.push(json!([date, cells.nth(column - 1).unwrap_or_default()]));
        }
    }
    Ok(json!({ "rates": found }))
}

/// The web's side.
struct Web {
    addr: SocketAddr,
    tls: TlsConnector,
}

async fn serve_web() -> Result<(SocketAddr, String)> {
    let certified = tls::certify()?;
    let acceptor = TlsAcceptor::from(tls::server(&certified, b"http/1.1")?);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let page: Bytes = page().into();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (acceptor, page) = (acceptor.clone(), page.clone());
            // A connection that breaks shows at the client.
            tokio::spawn(async move { web_connection(tcp, acceptor, page).await.ok() });
        }
    });
    Ok((addr, certified.cert_pem))
}

async fn web_connection(tcp: TcpStream, acceptor: TlsAcceptor, page: Bytes) -> Result<()> {
    tcp.set_nodelay(true)?;
    let io = TokioIo::new(acceptor.accept(tcp).await?);
    let reply = move |request: Request<Incoming>| {
        let body = match request.uri().query().and_then(read_query) {
            Some(question) => Bytes::from(answer(&question).to_string()),
            None => page.clone(),
        };
        async move { Ok::<_, Infallible>(Response::new(Full::new(body))) }
    };
    hyper::server::conn::http1::Builder::new().serve_connection(io, service_fn(reply)).await?;
    Ok(())
}

fn read_query(query: &str) -> Option<Question> {
    let (month, currency) = query.split_once('&')?;
    let month = month.strip_prefix("month=")?.parse().ok()?;
    let currency = currency.strip_prefix("currency=")?;
    let currency = CURRENCIES.into_iter().find(|known| *known == currency)?;
    Some(Question { currency, month })
}

type Sender = http1::SendRequest<Empty<Bytes>>;

impl Web {
    async fn connect(&self) -> Result<Sender> {
        let tcp = TcpStream::connect(self.addr).await?;
        tcp.set_nodelay(true)?;
        let tls = self.tls.connect(ServerName::try_from(tls::SERVER_NAME)?, tcp).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(tls)).await?;
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }
}

async fn get(sender: &mut Sender, path: &str) -> Result<Bytes> {
    sender.ready().await?;
    let request = Request::get(path).header("host", tls::SERVER_NAME).body(Empty::new())?;
    let response = sender.send_request(request).await?;
    ensure!(response.status().is_success(), "{}", response.status());
    Ok(response.into_body().collect().await?.to_bytes())
}

async fn by_page(sender: &mut Sender, question: &Question) -> Result<Value> {
    let page = get(sender, "/rates.html").await?;
    scrape(std::str::from_utf8(&page)?, question)
}

async fn by_api(sender: &mut Sender, question: &Question) -> Result<Value> {
    let path = format!("/rates?month={}&currency={}", question.month, question.currency);
    Ok(serde_json::from_slice(&get(sender, &path).await?)?)
}

/// The network: a producer, a peer that asked it everything, and who asks now.
struct Network {
    producer: Node,
    _holder: Node,
}

async fn serve_network() -> Result<Network> {
    let producer = Node::builder().spawn().await?;
    let mut capability = Capability::new("rates")?;
    capability.title = "Euro reference rates".to_owned();
    capability.visibility = Visibility::Public;
    capability.idempotent = true;
    capability.data_version = "1".to_owned();
    capability.valid_for = Period::from_micros(3_600_000_000).context("an hour")?;
    capability.reuse =
        Some(Reuse { scope: Scope::Public, determinism: Determinism::Exact, ..Reuse::default() });
    let work = Function::new(|call| async move {
        tokio::time::sleep(WORK).await;
        let currency = call.request["currency"].as_str().unwrap_or_default().to_owned();
        let currency = CURRENCIES.into_iter().find(|known| *known == currency);
        let month = call.request["month"].as_u64().and_then(|month| u32::try_from(month).ok());
        let question = Question { currency: currency.unwrap_or("USD"), month: month.unwrap_or(0) };
        Ok(Answer::One(answer(&question)))
    });
    producer.serve(capability, Arc::new(work)).await?;
    let holder = Node::builder().join(producer.ticket()).places_of(&producer).spawn().await?;
    for question in Question::all() {
        let answered = holder.call_with(request(&producer, &question, false)).await;
        answered.map_err(|error| anyhow!("{error}"))?;
    }
    let scout = Node::builder().join(producer.ticket()).places_of(&producer).spawn().await?;
    for question in Question::all() {
        // A pointer is told beside the call that brought the answer.
        let until = Instant::now() + Duration::from_secs(20);
        while scout.call_with(request(&producer, &question, true)).await.is_err() {
            ensure!(Instant::now() < until, "{question:?} is not found among the holders");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    scout.shutdown().await;
    Ok(Network { producer, _holder: holder })
}

fn request(producer: &Node, question: &Question, only_shared: bool) -> CallRequest {
    let mut request = CallRequest::new(format!("{}/rates", producer.id()), question.json());
    request.reuse.only_shared = only_shared;
    request
}

/// Times of one pass, by road.
type Times = BTreeMap<&'static str, Vec<Duration>>;

const ROADS: [(&str, &str); 6] = [
    ("store", "comity call, the answer known here"),
    ("peer", "comity call, the answer held by a peer: fetched, its receipt verified"),
    ("json warm", "GET over a kept HTTP/1.1 + TLS 1.3 connection, the answer as JSON"),
    ("json cold", "the same over a new connection"),
    ("page warm", "GET of the page over a kept connection, parsed (html5ever by scraper)"),
    ("page cold", "the same over a new connection"),
];

async fn pass(web: Arc<Web>, producer: Node) -> Result<Times> {
    // Its network tasks run where it is asked, as those of the web's client do.
    let asker = Node::builder()
        .join(producer.ticket())
        .places_of(&producer)
        .runtime(NetworkRuntime::Current)
        .spawn()
        .await?;
    let mut times = Times::new();
    let mut kept = web.connect().await?;
    let mut note = |road, started: Instant| {
        times.entry(road).or_default().push(started.elapsed());
    };
    for question in Question::all() {
        let wanted = answer(&question);
        for (road, from_page, warm) in [
            ("json warm", false, true),
            ("json cold", false, false),
            ("page warm", true, true),
            ("page cold", true, false),
        ] {
            let started = Instant::now();
            let mut fresh = if warm { None } else { Some(web.connect().await?) };
            let sender = fresh.as_mut().unwrap_or(&mut kept);
            let got = if from_page {
                by_page(sender, &question).await?
            } else {
                by_api(sender, &question).await?
            };
            note(road, started);
            ensure!(got == wanted, "{road} gave another answer");
        }
        for road in ["peer", "store"] {
            let started = Instant::now();
            let answered = asker.call_with(request(&producer, &question, true)).await;
            note(road, started);
            let answered = answered.map_err(|error| anyhow!("{road}: {error}"))?;
            ensure!(*answered.value() == wanted, "{road} gave another answer");
            match (road, &answered.summary.origin) {
                ("peer", Origin::Holder { .. }) | ("store", Origin::Store { .. }) => {}
                (_, origin) => bail!("{road}: it came from {origin:?}"),
            }
        }
    }
    asker.shutdown().await;
    Ok(times)
}

/// Measures and prints.
pub(crate) fn run(options: &Options, json: bool) -> Result<()> {
    let facts = BTreeMap::from([
        ("passes", options.passes.to_string()),
        ("questions", Question::all().len().to_string()),
        ("page-bytes", page().len().to_string()),
    ]);
    let mut report = Report::begin("reuse", facts, Vec::new());
    let server = Stage::start("web", Place::Here)?;
    let (addr, certificate) = server.run(LIMIT, serve_web)?;
    let network = Stage::start("network", Place::Here)?;
    progress("a holder asks everything once");
    let made = network.run(LIMIT, serve_network)?;
    let client = Stage::start("client", Place::Here)?;
    let tls = TlsConnector::from(tls::client(&certificate, b"http/1.1")?);
    let web = Arc::new(Web { addr, tls });
    let mut passes = Vec::new();
    for number in 1..=options.passes {
        progress(&format!("pass {number} of {}", options.passes));
        let (web, producer) = (Arc::clone(&web), made.producer.clone());
        passes.push(client.run(LIMIT, move || pass(web, producer))?);
    }
    report.results = rows(&mut passes);
    report.goals = goals(&report.results);
    report.print(json, |rows| text(rows))
}

fn rows(passes: &mut [Times]) -> Vec<Row> {
    let mut of = |road: &str, percent| -> Vec<f64> {
        let times = passes.iter_mut().filter_map(|times| times.get_mut(road));
        times.filter_map(|times| percentile_us(times, percent)).collect()
    };
    let peer = of("peer", 50);
    ROADS
        .into_iter()
        .map(|(name, how)| {
            let p50 = of(name, 50);
            let over: Vec<f64> = p50.iter().zip(&peer).map(|(own, peer)| own / peer).collect();
            Row {
                name,
                how,
                p50_us: Spread::of(&p50),
                p90_us: Spread::of(&of(name, 90)),
                over_peer: Spread::of(&over),
            }
        })
        .collect()
}

fn goals(rows: &[Row]) -> Vec<Goal> {
    let row = |name: &str| rows.iter().find(|row| row.name == name);
    let page = row("page cold").and_then(|row| row.over_peer);
    let store = row("store").and_then(|row| row.p50_us);
    let page = page.map(|over| {
        Goal::new("web page over TLS, times the answer from a peer", Bound::AtLeast(4.0), over)
    });
    let store =
        store.map(|us| Goal::new("answer from the own store, p50 us", Bound::AtMost(100.0), us));
    page.into_iter().chain(store).collect()
}

fn text(rows: &[Row]) -> String {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                row.name.to_owned(),
                spread(row.p50_us, 0),
                spread(row.p90_us, 0),
                spread(row.over_peer, 2),
            ]
        })
        .collect();
    let how: String = rows.iter().map(|row| format!("{:<10} {}\n", row.name, row.how)).collect();
    table("one retrieval, microseconds", &["road", "p50", "p90", "times peer"], &cells)
        + "\n"
        + &how
}
