//! Declarations that the query, matching and ranking tests share.

use comity_capability::query::Query;
use comity_capability::record::{Capability, Digest, Record};
use comity_core::{AgentId, Hash, Identity, Time};
use serde_json::{Value as Json, json};

/// The acceptance question, up to the resolution asked for.
pub(crate) const FX_QUESTION: &str = r#"find "structured historical FX data" under finance where pair = EUR/USD and time covers 2021..2024 and resolution <= "#;

/// The acceptance question with this resolution.
pub(crate) fn fx_question(resolution: &str) -> Query {
    parse(&format!("{FX_QUESTION}{resolution}"))
}

pub(crate) fn parse(text: &str) -> Query {
    Query::parse_text(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// A capability of this name with these attributes.
pub(crate) fn capability(
    name: &str,
    title: &str,
    classes: &[&str],
    attributes: &[(&str, Json)],
) -> Capability {
    let mut capability = Capability::new(name).unwrap();
    capability.visibility = comity_capability::record::Visibility::Public;
    capability.title = title.into();
    capability.classes = classes
        .iter()
        .map(|class| {
            comity_capability::taxonomy::resolve(class).unwrap_or_else(|| class.parse().unwrap())
        })
        .collect();
    for (key, value) in attributes {
        capability.declare(key, value).unwrap();
    }
    capability
}

/// Daily euro reference rates as a central bank publishes them.
pub(crate) fn ecb() -> Capability {
    let mut ecb =
        fx("ecb-rates", json!(["EUR/USD", "EUR/JPY", "EUR/GBP"]), "2015-01-02/2026-10-30", "P1D");
    ecb.title = "Historical euro foreign exchange reference rates".into();
    ecb.tags = ["fx", "rates"].map(str::to_owned).into();
    ecb
}

/// A table of exchange rates.
pub(crate) fn fx(name: &str, pairs: Json, time: &str, resolution: &str) -> Capability {
    let attributes = [("pair", pairs), ("time", json!(time)), ("resolution", json!(resolution))];
    capability(name, "Historical FX rates", &["fx rates"], &attributes)
}

/// The digest of a capability as its agent would publish it.
pub(crate) fn digest(capability: &Capability) -> Digest {
    let mut record =
        Record::new(1, Time::from_millis(0), Time::from_millis(3_600_000), Hash::of(b"next"));
    record.capabilities.push(capability.clone());
    Digest::summarise(&record, 0, Hash::of(b"record")).unwrap()
}

/// The agent whose secret is this byte repeated.
pub(crate) fn agent(byte: u8) -> AgentId {
    Identity::from_secret_bytes(&[byte; 32]).id()
}
