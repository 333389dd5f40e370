//! What the server's own tools do.

use comity_api::types::{
    CallRequest, Declaration, ErrorCode, ErrorInfo, FindRequest, JoinState, MAX_CALL_TIMEOUT_MS,
    Match, NearMiss, Overrides, Probe, ServeMode, ServeRequest, Source, Verdict, Visibility,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::Network;
use super::answer::{failure, follow, structured};
use crate::pins::{Pin, query_input, resolve};
use crate::protocol::Context;
use crate::text::{DESCRIPTION_BYTES_MAX, SUMMARY_BYTES_MAX, TITLE_BYTES_MAX, clean, scrub};

/// Most conditions named as evidence for one match.
const EVIDENCE_MAX: usize = 8;
/// Most near misses shown.
const NEAR_MISSES_MAX: usize = 3;
/// Most capabilities of one agent described at once, without schemas.
const DESCRIBED_MAX: usize = 32;
/// Longest schema shown whole, in bytes of JSON.
const SCHEMA_BYTES_MAX: usize = 16 << 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Discover {
    query: String,
    limit: Option<u32>,
    offset: Option<u32>,
    group: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Describe {
    target: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    target: String,
    #[serde(default = "empty")]
    arguments: Value,
    group: Option<String>,
    timeout_s: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    query: String,
    #[serde(default = "empty")]
    arguments: Value,
    attempts: Option<u32>,
    group: Option<String>,
    timeout_s: Option<f64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Publish {
    name: Option<String>,
    table: Option<String>,
    http: Option<String>,
    exec: Option<Vec<String>>,
    title: Option<String>,
    description: Option<String>,
    examples: Vec<String>,
    classes: Vec<String>,
    tags: Vec<String>,
    attributes: std::collections::BTreeMap<String, Value>,
    input_schema: Option<Value>,
    output_schema: Option<Value>,
    public: bool,
    group: Option<String>,
    confirm: bool,
    withdraw: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

fn empty() -> Value {
    Value::Object(Map::new())
}

fn arguments<T: DeserializeOwned>(given: Map<String, Value>) -> Result<T, ErrorInfo> {
    serde_json::from_value(Value::Object(given)).map_err(|error| {
        let text = format!("the arguments do not fit the tool: {}", clean(&error.to_string(), 300));
        ErrorInfo::new(ErrorCode::BadInput, text).hint("its input schema says what it takes")
    })
}

fn millis(seconds: Option<f64>) -> Result<Option<u64>, ErrorInfo> {
    let Some(seconds) = seconds else { return Ok(None) };
    let span = std::time::Duration::try_from_secs_f64(seconds).ok();
    let ms = span.and_then(|span| u64::try_from(span.as_millis()).ok());
    match ms.filter(|ms| (1..=MAX_CALL_TIMEOUT_MS).contains(ms)) {
        Some(ms) => Ok(Some(ms)),
        None => {
            Err(ErrorInfo::new(ErrorCode::BadInput, "timeout_s must be above 0 and at most 3600"))
        }
    }
}

impl Network {
    /// Runs one of the server's own tools. A failure is a result that the model reads.
    pub(super) async fn own_tool(
        &self,
        name: &str,
        given: Map<String, Value>,
        context: &Context,
    ) -> Value {
        let done = match name {
            "discover" => self.discover(given).await,
            "describe" => self.describe(given).await,
            "call" => self.call_one(given, context).await,
            "ask" => self.ask(given, context).await,
            "publish" => self.publish(given).await,
            _ => self.status(given).await,
        };
        done.unwrap_or_else(|error| failure(&error))
    }

    /// Calls a pinned capability. When its agent cannot be reached and it was pinned by a query, the query's best match
    /// of now takes its place.
    pub(super) async fn pinned(
        &self,
        pin: Pin,
        given: Map<String, Value>,
        context: &Context,
    ) -> Value {
        let shared = &self.0;
        let mut request = CallRequest::new(pin.target.clone(), Value::Object(given));
        request.group.clone_from(&pin.group);
        let error = match follow(&shared.client, &request, context).await {
            Ok(answered) => return answered.plain(&pin, &shared.results),
            Err(error) => error,
        };
        let gone = matches!(
            error.code,
            ErrorCode::Unreachable | ErrorCode::WrongPeer | ErrorCode::NotFound | ErrorCode::Busy
        );
        if !gone || pin.query == pin.target {
            return failure(&error);
        }
        let Ok(fresh) = resolve(&shared.client, &pin.query, pin.group.as_deref(), &pin.name).await
        else {
            return failure(&error);
        };
        if fresh.target == pin.target {
            return failure(&error);
        }
        request.target = fresh.target.clone().into();
        let result = match follow(&shared.client, &request, context).await {
            Ok(answered) => answered.plain(&fresh, &shared.results),
            Err(error) => failure(&error),
        };
        if shared.pins.put(fresh).is_ok() {
            self.changed();
        }
        result
    }

    async fn discover(&self, given: Map<String, Value>) -> Result<Value, ErrorInfo> {
        let given: Discover = arguments(given)?;
        let limit = given.limit.unwrap_or(5).clamp(1, 20);
        let offset = given.offset.unwrap_or(0).min(180);
        let mut request = FindRequest::new(query_input(&given.query));
        // One more than shown, to know whether there are more.
        request.limit = Some(offset + limit + 1);
        request.group = given.group;
        let found = self.0.client.find(&request).await.map_err(|error| error.info())?;
        let all = found.matches.len();
        let (from, upto) = (offset as usize, (offset + limit) as usize);
        let matches: Vec<Value> =
            found.matches.iter().take(upto).skip(from).map(shown_match).collect();
        let mut body = Map::new();
        body.insert("query".to_owned(), Value::from(clean(&found.query, 2_000)));
        if all > upto {
            body.insert("next_offset".to_owned(), Value::from(upto));
        }
        if matches.is_empty() {
            let near: Vec<Value> =
                found.near_misses.iter().take(NEAR_MISSES_MAX).map(near_miss).collect();
            let note = if from > 0 {
                "no more matches"
            } else if near.is_empty() {
                "nothing fits; use other or fewer words"
            } else {
                "nothing fits; the near misses say what they lack"
            };
            body.insert("note".to_owned(), Value::from(note));
            body.insert("near_misses".to_owned(), Value::from(near));
        }
        body.insert("matches".to_owned(), Value::from(matches));
        Ok(structured(Value::Object(body)))
    }

    async fn describe(&self, given: Map<String, Value>) -> Result<Value, ErrorInfo> {
        let given: Describe = arguments(given)?;
        let shown = self.0.client.show(&given.target).await.map_err(|error| error.info())?;
        let whole = shown.capabilities.len() == 1;
        let address = shown.agent.address.clone();
        let capabilities: Vec<Value> = shown
            .capabilities
            .iter()
            .take(DESCRIBED_MAX)
            .map(|declaration| described(&address, declaration, whole))
            .collect();
        let body = json!({
            "agent": {
                "agent": shown.agent.agent.to_string(),
                "address": address,
                "handle": shown.agent.handle,
                "name": shown.record.name.as_deref().map(|name| clean(name, TITLE_BYTES_MAX)),
            },
            "capabilities": capabilities,
        });
        Ok(structured(body))
    }

    async fn call_one(
        &self,
        given: Map<String, Value>,
        context: &Context,
    ) -> Result<Value, ErrorInfo> {
        let given: Call = arguments(given)?;
        let mut request = CallRequest::new(given.target, given.arguments);
        request.group = given.group;
        request.timeout_ms = millis(given.timeout_s)?;
        request.max_attempts = Some(1);
        let answered = follow(&self.0.client, &request, context).await?;
        Ok(answered.labelled(&self.0.results))
    }

    async fn ask(&self, given: Map<String, Value>, context: &Context) -> Result<Value, ErrorInfo> {
        let given: Ask = arguments(given)?;
        let mut request = CallRequest::new(query_input(&given.query), given.arguments);
        request.group = given.group;
        request.timeout_ms = millis(given.timeout_s)?;
        request.max_attempts = given.attempts.map(|attempts| attempts.clamp(1, 10));
        let answered = follow(&self.0.client, &request, context).await?;
        Ok(answered.labelled(&self.0.results))
    }

    async fn publish(&self, given: Map<String, Value>) -> Result<Value, ErrorInfo> {
        let given: Publish = arguments(given)?;
        if given.withdraw {
            let name = given.name.ok_or_else(|| {
                ErrorInfo::new(ErrorCode::BadInput, "to withdraw, say which: name is missing")
            })?;
            let done = self.0.client.unserve(&name).await.map_err(|error| error.info())?;
            return Ok(structured(json!({"done": done.message})));
        }
        let confirmed = given.confirm;
        let request = serve_request(given, self.0.settings.allow_exec)?;
        let answer = self.0.client.serve(&request).await.map_err(|error| error.info())?;
        let mut body = json!({
            "published": answer.published.is_some(),
            "findings": answer.findings.iter().map(|finding| json!({
                "level": finding.level, "field": finding.field, "message": finding.message, "fix": finding.fix,
            })).collect::<Vec<_>>(),
        });
        if let Some(declaration) = &answer.declaration {
            body["declaration"] = described("", declaration, true);
            body["visibility"] = json!(declaration.visibility);
        }
        if let Some(published) = &answer.published {
            body["target"] = json!(published.target);
            body["custodians"] = json!(published.custodians);
        }
        if !confirmed {
            body["note"] = json!(
                "nothing was published; show this to the user, then repeat with confirm: true"
            );
        }
        Ok(structured(body))
    }

    async fn status(&self, given: Map<String, Value>) -> Result<Value, ErrorInfo> {
        let Nothing {} = arguments(given)?;
        let status = self.0.client.status().await.map_err(|error| error.info())?;
        let served = self.0.client.capabilities().await.map_err(|error| error.info())?;
        let serves: Vec<Value> = served
            .capabilities
            .iter()
            .map(|one| json!({
                "name": one.declaration.name, "title": one.declaration.title, "state": one.state,
                "visibility": one.declaration.visibility, "calls": one.calls, "failures": one.failures,
            }))
            .collect();
        let pinned: Vec<Value> = self
            .0
            .pins
            .all()
            .iter()
            .map(|pin| json!({"tool": pin.name, "target": pin.target, "query": pin.query}))
            .collect();
        Ok(structured(json!({
            "agent": {"agent": status.agent.agent.to_string(), "address": status.agent.address, "handle": status.agent.handle},
            "version": status.version,
            "network": clean(&status.network, TITLE_BYTES_MAX),
            "joined": matches!(status.join, JoinState::Joined),
            "peers": {"connected": status.peers.connected, "known": status.peers.known},
            "network_size": status.network_size,
            "uptime_s": status.uptime_ms / 1000,
            "calls": {"made": status.calls.made, "failed": status.calls.made_failed, "served": status.calls.served},
            "serves": serves,
            "pinned": pinned,
        })))
    }
}

fn serve_request(given: Publish, allow_exec: bool) -> Result<ServeRequest, ErrorInfo> {
    let source = match (given.table, given.http, given.exec) {
        (Some(path), None, None) => Source::Table { path },
        (None, Some(url), None) => Source::Http { url },
        (None, None, Some(_)) if !allow_exec => {
            return Err(ErrorInfo::new(
                ErrorCode::NotPermitted,
                "programs are published by the user, not by a model",
            )
            .hint(
                "the user runs `comity serve --exec CMD`, or starts this server with --allow-exec",
            ));
        }
        (None, None, Some(command)) => Source::Exec { command, directory: None },
        _ => {
            return Err(ErrorInfo::new(
                ErrorCode::BadInput,
                "say what answers: exactly one of table, http and exec",
            ));
        }
    };
    let visibility = if given.public { Visibility::Public } else { Visibility::Private };
    Ok(ServeRequest {
        manifest: None,
        manifest_path: None,
        source: Some(source),
        overrides: Overrides {
            name: given.name,
            title: given.title,
            description: given.description,
            examples: given.examples,
            classes: given.classes,
            tags: given.tags,
            attributes: given.attributes,
            input_schema: given.input_schema,
            output_schema: given.output_schema,
            // A group decides by itself who finds and calls.
            visibility: given.group.is_none().then_some(visibility),
            group: given.group,
            call_timeout_ms: None,
        },
        mode: if given.confirm { ServeMode::Publish } else { ServeMode::DryRun },
    })
}

fn shown_match(found: &Match) -> Value {
    let mut evidence: Vec<String> = found
        .conditions
        .iter()
        .filter(|condition| condition.verdict == Verdict::Met)
        .take(EVIDENCE_MAX)
        .map(|condition| {
            let declared = condition.declared.as_deref().unwrap_or("declared");
            clean(&format!("{}: {declared}", condition.text), SUMMARY_BYTES_MAX)
        })
        .collect();
    evidence.push(format!(
        "known to {} of {} custodians asked",
        found.custodians.n, found.custodians.of
    ));
    if found.freshness.record_verified {
        evidence.push("its signed record was fetched and agrees".to_owned());
    }
    match &found.probe {
        Some(Probe::Alive { rtt_us }) => {
            evidence.push(format!(
                "alive, answered in {}.{} ms",
                rtt_us / 1000,
                rtt_us % 1000 / 100
            ));
        }
        Some(Probe::Declined { reason } | Probe::Unreachable { reason }) => {
            evidence.push(format!("did not answer a probe: {}", clean(reason, TITLE_BYTES_MAX)));
        }
        None => {}
    }
    json!({
        "target": found.target,
        "agent": found.agent.handle,
        "title": clean(&found.title, TITLE_BYTES_MAX),
        "description": clean(&found.description, SUMMARY_BYTES_MAX),
        "relevance": round(found.relevance),
        "trust": round(found.trust),
        "evidence": evidence,
    })
}

fn near_miss(found: &NearMiss) -> Value {
    let lacks: Vec<String> = found
        .failed
        .iter()
        .take(EVIDENCE_MAX)
        .map(|condition| {
            let declared = condition.declared.as_deref().unwrap_or("nothing");
            clean(&format!("{}: it declares {declared}", condition.text), SUMMARY_BYTES_MAX)
        })
        .collect();
    json!({"target": found.target, "title": clean(&found.title, TITLE_BYTES_MAX), "lacks": lacks})
}

/// A declaration, cleaned; with its schemas when `whole`.
fn described(address: &str, declaration: &Declaration, whole: bool) -> Value {
    let target = if address.is_empty() {
        declaration.name.clone()
    } else {
        format!("{address}/{}", declaration.name)
    };
    let max = if whole { DESCRIPTION_BYTES_MAX } else { SUMMARY_BYTES_MAX };
    let mut body = json!({
        "target": target,
        "title": clean(&declaration.title, TITLE_BYTES_MAX),
        "description": clean(&declaration.description, max),
    });
    if !whole {
        return body;
    }
    let texts = |texts: &[String]| -> Vec<String> {
        texts.iter().map(|text| clean(text, SUMMARY_BYTES_MAX)).collect()
    };
    let attributes: Map<String, Value> = declaration
        .attributes
        .iter()
        .take(32)
        .map(|(key, value)| (clean(key, 80), Value::from(clean(&value.text, SUMMARY_BYTES_MAX))))
        .collect();
    let classes: Vec<&String> = declaration
        .classes
        .iter()
        .map(|class| class.caption.as_ref().unwrap_or(&class.id))
        .collect();
    body["examples"] = json!(texts(&declaration.examples));
    body["classes"] = json!(classes);
    body["tags"] = json!(texts(&declaration.tags));
    body["attributes"] = Value::Object(attributes);
    body["input_schema"] = shown_schema(&declaration.input_schema);
    body["output_schema"] = shown_schema(&declaration.output_schema);
    body["idempotent"] = json!(declaration.idempotent);
    body["streaming"] = json!(declaration.streaming);
    body
}

fn shown_schema(schema: &Value) -> Value {
    let mut schema = schema.clone();
    scrub(&mut schema);
    let bytes = schema.to_string().len();
    if bytes > SCHEMA_BYTES_MAX {
        return json!({"note": format!("the schema has {bytes} bytes, too long to be shown")});
    }
    schema
}

fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
