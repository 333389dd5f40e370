//! Writes the seed corpora: a few valid inputs of every form for each target, the same ones every time.
//!
//! `cargo run --example seeds` in this directory. Files of the same name are replaced, others (regressions) stay.

use std::path::{Path, PathBuf};
use std::time::Duration;

use arbitrary::Unstructured;
use comity_api::types::{Output, Proof};
use comity_api::{JoinAddress, ProofFile, Ticket};
use comity_capability::attribute::Value;
use comity_capability::profile;
use comity_capability::query::Query;
use comity_capability::record::{
    Beat, Digest, Interface, Load, PeerRecord, Record, Status, Tombstone,
};
use comity_core::canonical::{Version, encode_minicbor, from_json, hash_json};
use comity_core::receipt::{Receipt, ShortText, sign_batch};
use comity_core::text::Form;
use comity_core::{Canonical, Hash, Position, Sha256Digest};
use comity_fuzz::{NOW, fake, identity, plausible};
use comity_overlay::wire::{RequestFrame, encode_request, encode_response};
use serde_json::{Value as Json, json};

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> Outcome {
    core()?;
    values()?;
    records()?;
    queries()?;
    overlay()?;
    api()?;
    specialists()?;
    evidence()?;
    // Inputs that are decisions rather than data: any bytes decide something, and long ones reach deep states.
    for (target, len, count) in [
        ("core_envelope", 96, 6),
        ("core_receipt", 96, 6),
        ("cap_matching", 900, 10),
        ("cap_zone", 900, 6),
        ("overlay_machine", 2400, 12),
        ("api_proof", 200, 4),
        ("trust_log", 160, 12),
        ("trust_grant", 400, 12),
        ("trust_statements", 300, 14),
        ("trust_policy", 200, 8),
        ("attest_evidence", 300, 10),
    ] {
        for n in 0..count {
            write(target, &format!("noise-{n}"), &noise(target, n, len))?;
        }
    }
    Ok(())
}

/// Published bundles, statements and roots, as what an outsider sent: the kind, no edits, the bytes.
fn evidence() -> Outcome {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/attest/tests/vectors");
    for (kind, name) in [
        (4, "keyed-sha256.json"),
        (4, "keyed-shards.json"),
        (4, "model.sigstore.json"),
        (4, "trusted_root.json"),
        (1, "conformance/happy-path-intoto-in-dsse-v3.json"),
        (2, "report_milan.hex"),
        (3, "tdx_quote"),
    ] {
        let bytes = [&[kind, 0][..], &std::fs::read(vectors.join(name))?].concat();
        write("attest_evidence", &name.replace('/', "-"), &bytes)?;
    }
    Ok(())
}

fn write(target: &str, name: &str, bytes: &[u8]) -> Outcome {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    std::fs::create_dir_all(&directory)?;
    let file: PathBuf = directory.join(name);
    Ok(std::fs::write(file, bytes)?)
}

/// Bytes without meaning, the same for the same arguments.
fn noise(target: &str, n: u64, len: usize) -> Vec<u8> {
    let block = |at: u64| {
        Hash::derive(
            "comity/fuzz/noise/v1",
            &[target.as_bytes(), &n.to_be_bytes(), &at.to_be_bytes()],
        )
        .0
    };
    (0..).flat_map(block).take(len).collect()
}

fn core() -> Outcome {
    let texts = [
        "null",
        "true",
        "0",
        "-1",
        "1.0",
        "-0.0",
        "1.5",
        "1e-7",
        "1e300",
        "18446744073709551615",
        "-9223372036854775808",
        "9007199254740993",
        r#""\u0041\ud83d\ude00""#,
        "[]",
        "{}",
        r#"{"b":1,"aa":[1,2.5,{"a":null}],"a":"x"}"#,
        "[[[[[[[[1]]]]]]]]",
    ];
    for (n, text) in texts.iter().enumerate() {
        write("core_json", &format!("text-{n}"), text.as_bytes())?;
        write("core_json", &format!("cbor-{n}"), &from_json(&serde_json::from_str(text)?)?)?;
    }
    let id = identity(0).id();
    write("core_text", "key", id.as_bytes())?;
    for form in Form::ALL {
        write(
            "core_text",
            &format!("form-{}", form.name().replace(' ', "-")),
            id.to_text(form).as_bytes(),
        )?;
    }
    let place = Position::of(&id);
    write("core_text", "address", place.address().to_string().as_bytes())?;
    write("core_text", "handle", place.handle().to_string().as_bytes())?;
    write("core_text", "checked-handle", place.checked_handle().to_string().as_bytes())?;
    write("core_text", "hash", Hash([9; 32]).to_string().as_bytes())?;
    write("core_text", "sha256", Sha256Digest([9; 32]).to_string().as_bytes())
}

fn values() -> Outcome {
    let with = |selector: usize, rest: &[u8]| [&[selector as u8], rest].concat();
    for (selector, spec) in profile::keys().iter().enumerate() {
        // The first three words that the key takes; the rest differ by little.
        let taken = plausible::WORDS
            .iter()
            .filter(|word| profile::normalise(spec.key, &json!(word)).is_ok());
        for (n, word) in taken.skip(selector % 7).take(2).enumerate() {
            write(
                "cap_value",
                &format!("{}-{n}", spec.key.replace(':', "-")),
                &with(selector, word.as_bytes()),
            )?;
        }
    }
    for (n, json) in [
        json!(["b", "a"]),
        json!({ "from": "2021", "to": "2024" }),
        json!({ "lat": 1.5, "lon": 2 }),
        json!(0.5),
    ]
    .iter()
    .enumerate()
    {
        write("cap_value", &format!("json-{n}"), &with(n * 5, json.to_string().as_bytes()))?;
        if let Ok(value) = Value::infer(json) {
            write("cap_value", &format!("wire-{n}"), &with(0, &encode_minicbor(&value)))?;
        }
    }
    Ok(())
}

fn records() -> Outcome {
    let expires = NOW + Duration::from_secs(3600);
    let put = |selector: u8, name: &str, payload: Vec<u8>| {
        write("cap_records", name, &[vec![selector], payload].concat())
    };
    let mut record = Record::new(7, NOW, expires, Hash([1; 32]));
    record.name = "Rates".to_owned();
    record.endpoints = vec!["192.0.2.1:4433".parse()?, "[2001:db8::1]:4433".parse()?];
    for n in 0..4 {
        let bytes = noise("cap_records", n, 700);
        let mut capability = plausible::capability(&mut Unstructured::new(&bytes))?;
        capability.name = format!("capability-{n}");
        capability.interface = Interface::new(
            &json!({ "type": "object", "properties": { "pair": { "type": "string" } } }),
            &json!({}),
        )?;
        put(5, &format!("capability-{n}"), Canonical::encode(&capability))?;
        record.capabilities.push(capability);
        let digest = Digest::summarise(&record, n as u16, Hash([2; 32]))?;
        put(1, &format!("digest-{n}"), Canonical::encode(&digest))?;
    }
    record.capabilities.truncate(2);
    put(0, "record", Canonical::encode(&record))?;
    put(6, "record-digests", Canonical::encode(&record))?;
    put(2, "beat", Canonical::encode(&Beat::new(7, NOW, expires, Status::Warm, Load::Idle)))?;
    put(
        3,
        "tombstone",
        Canonical::encode(&Tombstone::new(7, NOW, expires, Some("fx".to_owned()))?),
    )?;
    put(3, "tombstone-all", Canonical::encode(&Tombstone::new(7, NOW, expires, None)?))?;
    put(4, "peer", Canonical::encode(&PeerRecord::new(7, NOW, expires, &record.endpoints, true)))?;
    put(7, "sealed", noise("sealed", 0, 60))
}

fn queries() -> Outcome {
    let texts = [
        r#"find "structured historical FX data" under finance where pair = EUR/USD and time covers 2021..2024 and resolution <= 1d prefer price < 0.001 USD, availability >= 99% top 5 probe 3"#,
        "named fx-history",
        "where pair any EUR/USD, USD/JPY and not licence = mit",
        "where tags all fx, daily",
        "where time overlaps 2021..",
        "where time within ../2024",
        "where spatialCoverage near 47.4,8.5 within 10km",
        "where colour = red",
        "where x:one between 1 and 5",
        "under oasf1.1:domain/208",
        "where version ~ ^1.2",
        "where pair exists rank by cheapest within 500ms evidence",
    ];
    let mut read = Vec::new();
    for (n, text) in texts.iter().enumerate() {
        write("query_text", &format!("written-{n}"), text.as_bytes())?;
        read.extend(Query::parse_text(text).ok());
    }
    for n in 0..24 {
        let bytes = noise("queries", n, 1200);
        let mut source = Unstructured::new(&bytes);
        let capability = plausible::capability(&mut source)?;
        read.extend(plausible::query(&mut source, &capability)?);
    }
    for (n, query) in read.iter().enumerate() {
        write("query_text", &format!("printed-{n}"), query.to_string().as_bytes())?;
        write("query_json", &format!("json-{n}"), query.to_json().to_string().as_bytes())?;
        write("query_wire", &format!("wire-{n}"), &Canonical::encode(query))?;
    }
    let ard = json!({ "query": { "text": "fx", "filter": { "pair": ["EUR/USD"], "time": { "covers": "2024" } } } });
    write("query_json", "ard", ard.to_string().as_bytes())
}

fn overlay() -> Outcome {
    for n in 0..16 {
        let bytes = noise("overlay_wire", n, 600);
        let mut source = Unstructured::new(&bytes);
        let frame = RequestFrame {
            server: n % 2 == 0,
            addrs: fake::contact(n as usize).addrs.clone(),
            request: fake::request(&mut source, 5)?,
        };
        write("overlay_wire", &format!("request-{n}"), &encode_request(&frame))?;
        write(
            "overlay_wire",
            &format!("response-{n}"),
            &encode_response(&fake::response(&mut source, 5)?),
        )?;
    }
    Ok(())
}

fn api() -> Outcome {
    let id = identity(0).id();
    let addrs = ["192.0.2.1:4433", "[2001:db8::1]:4433", "127.0.0.1:1"]
        .map(|addr| addr.parse().expect("an address"));
    for count in 0..=3 {
        let ticket = Ticket::new(id, addrs.into_iter().take(count));
        write("api_text", &format!("ticket-{count}"), ticket.to_string().as_bytes())?;
    }
    write("api_text", "qr", Ticket::new(id, addrs).to_qr_text().as_bytes())?;
    write("api_text", "join", JoinAddress::new(id, addrs[1])?.to_string().as_bytes())?;
    let streams = [
        "data: a\n\n",
        "event: chunk\r\ndata: {\"a\":1}\rdata\ndata:  b\n\n: comment\nid: 1\n\n",
        "\u{feff}data: x\n\ndata: y",
    ];
    for (n, stream) in streams.iter().enumerate() {
        // A limit, two cuts, the stream.
        write(
            "api_sse",
            &format!("stream-{n}"),
            &[&[200, 1, 5, 1, 9, 0], stream.as_bytes()].concat(),
        )?;
    }
    let (request, response) = (json!({ "pair": "EUR/USD" }), json!({ "rows": [1.5] }));
    let receipt = Receipt {
        version: Version,
        session: Hash([3; 32]),
        number: 0,
        caller: identity(1).id(),
        callee: id,
        capability: Hash([4; 32]),
        request: hash_json(&request)?,
        response: hash_json(&response)?,
        status: 0,
        started_ms: 1,
        finished_ms: 2,
        cost: 0,
        evidence: None,
        leaf: None,
        interface: Sha256Digest([7; 32]),
        valid_until_ms: 3,
        data_version: None,
        name: ShortText::try_from("fx-history")?,
    };
    let signed = sign_batch(identity(0), NOW, vec![receipt])?;
    // The first byte chooses genuine bytes, not changed ones.
    write("core_receipt", "genuine", &[&[0, 0, 0, 0], signed[0].encode().as_slice()].concat())?;
    let proof = ProofFile::new(request, Output::Value(response), Proof::from(&signed[0]));
    write("api_proof", "genuine", &serde_json::to_vec(&proof)?)?;
    write(
        "api_proof",
        "call",
        br#"{"target":"fx-history","input":{"pair":"EUR/USD"},"timeout_ms":5}"#,
    )?;
    write("api_proof", "event", br#"{"event":"chunk","data":{"index":0,"value":[1]}}"#)
}

fn specialists() -> Outcome {
    let manifests = [
        "name = 'fx'\ntitle = 'Rates'\ndescription = 'Daily rates'\nclasses = ['finance']\ntags = ['fx']\n[attributes]\npair = ['EURUSD']\ntime = '2021..2024'\n[http]\nurl = 'http://127.0.0.1:8000/'\n",
        "name = 'echo'\nvisibility = 'public'\n[exec]\ncommand = 'cat -u'\ntimeout = '5s'\nworkers = 2\n[input_schema]\ntype = 'object'\n",
        "[table]\nfile = 'rates.csv'\ndelimiter = ';'\nnull_values = ['N/A']\n[attributes]\nsince = 2024-01-02\n",
        r#"{"name":"a","description":"b","examples":["c"],"idempotent":true,"http":{"url":"http://[::1]:1/x"},"attributes":{"x:one":5}}"#,
    ];
    for (n, text) in manifests.iter().enumerate() {
        write("specialist_manifest", &format!("manifest-{n}"), text.as_bytes())?;
    }
    let schemas = [
        (
            json!({ "type": "object", "properties": { "a": { "$ref": "#/$defs/b" } }, "required": ["a"], "$defs": { "b": { "type": "integer", "minimum": 1 } } }),
            json!({ "a": 0 }),
        ),
        (
            json!({ "anyOf": [{ "pattern": "^[a-z]+$" }, { "enum": [1, null] }], "not": { "const": 2 } }),
            json!("a1"),
        ),
        (
            json!({ "type": "array", "items": { "$ref": "#" }, "uniqueItems": true, "maxItems": 3, "contains": {} }),
            json!([[], [[]]]),
        ),
        (
            json!({ "allOf": [{ "$ref": "#/allOf/1" }, { "if": { "type": "string" }, "then": false, "else": { "multipleOf": 0.1 } }] }),
            json!(0.3),
        ),
        (
            json!({ "patternProperties": { "^x": true }, "additionalProperties": false, "propertyNames": { "maxLength": 3 }, "unevaluatedProperties": false }),
            json!({ "xy": 1 }),
        ),
        (
            json!({ "$schema": "http://json-schema.org/draft-07/schema#", "dependencies": { "a": ["b"] }, "format": "date" }),
            json!({ "a": 1 }),
        ),
    ];
    for (n, (schema, value)) in schemas.iter().enumerate() {
        write(
            "specialist_schema",
            &format!("schema-{n}"),
            format!("{schema}\n{value}").as_bytes(),
        )?;
    }
    let requests: [Json; 9] = [
        json!({}),
        json!({ "where": { "day": { "from": "2024", "to": "2024-02" }, "n": { "in": [1, null, 9007199254740993i64] } } }),
        json!({ "where": { "at": "2024-01-02T10:00:00Z", "ok": true }, "columns": ["n", "x"], "order": ["-n", "day"], "limit": 2, "offset": 1 }),
        json!({ "where": { "name": { "contains": ["ü", "'"] }, "tags": { "contains": "a" } }, "count": true }),
        json!({ "where": { "x": { "from": -1000, "to": 1e300 }, "nested": null } }),
        json!({ "where": { "at": { "from": "1969", "to": "2024-01-03" } }, "order": "at" }),
        json!({ "where": { "day": "2024-02-30" } }),
        json!({ "where": { "n": 5.0 }, "limit": 0 }),
        json!({ "where": { "tags": null, "day": null } }),
    ];
    for (n, request) in requests.iter().enumerate() {
        write("specialist_table", &format!("request-{n}"), request.to_string().as_bytes())?;
    }
    Ok(())
}
