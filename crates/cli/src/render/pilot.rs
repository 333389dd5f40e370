//! The Pilot network.

use serde_json::Value;

use super::{BAD, DIM, GOOD, STRONG, ago, bytes, clean, count, field, now_ms, span_ms, table};
use comity_pilot_net::bench::{Counters, Report, Transfer};

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => clean(text),
        Value::Null => "-".to_owned(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            clean(&value.to_string())
        }
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

/// JSON as it is.
pub(crate) fn json(value: &Value, _width: usize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

/// What `pilot status` prints: both identities, and where each counts.
pub(crate) fn status(status: &Value, width: usize) -> String {
    let mut out = field(
        0,
        "node",
        &format!("{STRONG}{}{STRONG:#}  {}", text(&status["node"]), text(&status["address"])),
        width,
    );
    if !status["hostname"].is_null() {
        out += &field(0, "name", &text(&status["hostname"]), width);
    }
    out += &field(0, "Pilot key", &text(&status["public_key"]), width);
    let own = match status["comity"].as_str() {
        Some(own) => clean(own),
        None => "none yet; `comity id new` makes one".to_owned(),
    };
    out += &field(0, "comity id", &own, width);
    out += &field(
        0,
        "registry",
        &format!(
            "{}  {DIM}it alone says that the number is this key's{DIM:#}",
            text(&status["registry"])
        ),
        width,
    );
    let seen = if status["public"].as_bool().unwrap_or(false) {
        "told to anybody"
    } else {
        "told to trusted nodes only"
    };
    out +=
        &field(0, "endpoint", &format!("{}  {DIM}{seen}{DIM:#}", text(&status["endpoint"])), width);
    let line = format!(
        "{}, {}, {}",
        count(number(&status["trusted"]), "trusted node", "trusted nodes"),
        count(number(&status["pending"]), "request waits", "requests wait"),
        count(number(&status["inbox"]), "message", "messages"),
    );
    out += &field(0, "trust", &line, width);
    let offers = status["offers"].as_array().map(Vec::as_slice).unwrap_or_default();
    for offer in offers {
        let line = format!("{} on port {}", text(&offer["capability"]), text(&offer["port"]));
        out += &field(0, "offers", &line, width);
    }
    let peers = status["peers"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !peers.is_empty() {
        let mut rows =
            vec![["PEER", "DIALECT", "PATH", "HEARD", "STREAMS"].map(str::to_owned).to_vec()];
        rows.extend(peers.iter().map(|peer| {
            let heard = peer["heard_ms_ago"].as_u64().map_or_else(|| "-".to_owned(), span_ms);
            let [node, dialect, path] = ["node", "dialect", "path"].map(|key| text(&peer[key]));
            vec![node, dialect, path, heard, text(&peer["connections"])]
        }));
        out += &table(&rows);
    }
    out
}

/// What `pilot find` prints.
pub(crate) fn node(node: &Value, width: usize) -> String {
    let mut out = field(
        0,
        "node",
        &format!("{STRONG}{}{STRONG:#}  {}", text(&node["node"]), text(&node["address"])),
        width,
    );
    if !node["hostname"].is_null() {
        out += &field(0, "name", &text(&node["hostname"]), width);
    }
    out += &field(0, "key", &text(&node["public_key"]), width);
    out += &field(0, "endpoint", &text(&node["endpoint"]), width);
    let trusted = if node["trusted"].as_bool().unwrap_or(false) {
        format!("{GOOD}both sides agreed{GOOD:#}")
    } else {
        "not agreed".to_owned()
    };
    out + &field(0, "trust", &trusted, width)
}

/// One answer to a ping.
pub(crate) fn ping(ping: &Value, _width: usize) -> String {
    let ms = ping["ms"].as_f64().unwrap_or_default();
    format!("node {}: {ms:.3} ms by {}\n", text(&ping["node"]), text(&ping["path"]))
}

/// What `pilot handshake` and `pilot approve` print.
pub(crate) fn trusted(sent: &Value, _width: usize) -> String {
    let node = text(&sent["node"]);
    if sent["agreed"].as_bool().unwrap_or(false) {
        format!("{GOOD}agreed{GOOD:#}: node {node} and this one trust each other\n")
    } else {
        format!("asked node {node}; it counts once the other side agrees\n")
    }
}

/// What `pilot reject`, `pilot revoke` and `pilot forget` print.
pub(crate) fn ended(sent: &Value, _width: usize) -> String {
    format!("node {} is not trusted\n", text(&sent["node"]))
}

/// What `pilot trust` prints.
pub(crate) fn trust(trust: &Value, _width: usize) -> String {
    let list = |key: &str| trust[key].as_array().cloned().unwrap_or_default();
    let mut rows = Vec::new();
    let since = |value: &Value| ago(number(value).saturating_mul(1000), now_ms());
    for one in list("trusted") {
        rows.push(vec![
            text(&one["node"]),
            "agreed".to_owned(),
            since(&one["since"]),
            text(&one["public_key"]),
        ]);
    }
    for one in list("pending") {
        let signed = if one["signed"].as_bool().unwrap_or(false) {
            "asks"
        } else {
            "asks (the registry says)"
        };
        rows.push(vec![
            text(&one["node"]),
            signed.to_owned(),
            since(&one["at"]),
            text(&one["justification"]),
        ]);
    }
    for one in list("requested") {
        rows.push(vec![text(&one), "asked".to_owned(), String::new(), String::new()]);
    }
    if rows.is_empty() { "nobody is trusted, nobody asks\n".to_owned() } else { table(&rows) }
}

/// What `pilot send`, `send-file` and `publish` print.
pub(crate) fn sent(sent: &Value, _width: usize) -> String {
    let size = sent["bytes"].as_u64().map_or_else(String::new, bytes);
    match sent["answer"].as_str() {
        Some(answer) if answer.starts_with("ERR") => {
            format!("{BAD}not kept{BAD:#} by node {}: {}\n", text(&sent["node"]), clean(answer))
        }
        Some(answer) => format!("{size} to node {}: {}\n", text(&sent["node"]), clean(answer)),
        None => format!("{size} to node {}\n", text(&sent["node"])),
    }
}

/// One message or file.
pub(crate) fn message(message: &Value, _width: usize) -> String {
    let when = ago(number(&message["at_ms"]), now_ms());
    let head = format!(
        "{STRONG}{}{STRONG:#} from node {}, {}, {when}",
        text(&message["name"]),
        text(&message["from"]),
        bytes(number(&message["bytes"])),
    );
    match message["text"].as_str() {
        Some(body) => format!("{head}\n  {}\n", clean(body)),
        None => format!("{head}\n  {DIM}{}{DIM:#}\n", text(&message["path"])),
    }
}

/// One event.
pub(crate) fn event(event: &Value, _width: usize) -> String {
    let body = if event["text"].is_null() { &event["data"] } else { &event["text"] };
    format!("{STRONG}{}{STRONG:#} {}\n", text(&event["topic"]), text(body))
}

/// What `pilot offer` prints.
pub(crate) fn offered(offer: &Value, _width: usize) -> String {
    format!("{} answers JSON on port {}\n", text(&offer["capability"]), text(&offer["port"]))
}

/// What `pilot rendezvous` prints at its start.
pub(crate) fn rendezvous(started: &Value, width: usize) -> String {
    let mut out = field(0, "registry", &text(&started["registry"]), width);
    out += &field(0, "beacon", &text(&started["beacon"]), width);
    if !started["fingerprint"].is_null() {
        out += &field(0, "pin", &text(&started["fingerprint"]), width);
    }
    out + &field(0, "nodes", &text(&started["nodes"]), width)
}

fn transfer(transfer: &Transfer) -> String {
    let Transfer { bytes: carried, seconds, megabytes_per_second } = transfer;
    format!("{megabytes_per_second:.1} MB/s  {DIM}{} in {seconds:.2} s{DIM:#}", bytes(*carried))
}

/// What `pilot bench` prints.
pub(crate) fn bench(report: &Report, width: usize) -> String {
    let name =
        report.congestion.as_ref().map_or_else(|| "TCP".to_owned(), |name| format!("TCP {name}"));
    let mut out = field(0, &name, &transfer(&report.tcp), width);
    out += &field(0, "Pilot", &transfer(&report.pilot), width);
    out += &field(0, "ratio", &format!("{:.1} % of TCP", report.ratio * 100.0), width);
    let Counters { segments, retransmitted, reductions, timeouts, .. } = report.counters;
    let again = format!(
        "{retransmitted} of {segments} segments, {}, {}",
        count(reductions, "reduction of the window", "reductions of the window"),
        count(timeouts, "timeout", "timeouts")
    );
    out += &field(0, "sent again", &again, width);
    let dial = format!(
        "{:.3} ms, {:.3} ms at the 99th percentile, {:.3} ms with the tunnel",
        report.dial_ms, report.dial_p99_ms, report.first_dial_ms
    );
    out + &field(0, "dial", &dial, width)
}

/// What `pilot bench --node` prints.
pub(crate) fn bench_echo(found: &Value, width: usize) -> String {
    let rate = found["megabytes_per_second"].as_f64().unwrap_or_default();
    let line = format!(
        "{rate:.1} MB/s each way by {}, {} there and back",
        text(&found["path"]),
        bytes(number(&found["bytes"]))
    );
    let mut out = field(0, "echo", &line, width);
    let dial = found["dial_ms"].as_f64().unwrap_or_default();
    out += &field(0, "dial", &format!("{dial:.3} ms"), width);
    out + &field(0, "sent again", &format!("{} segments", number(&found["retransmitted"])), width)
}
