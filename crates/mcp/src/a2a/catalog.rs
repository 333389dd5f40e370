//! The network as a catalog and a registry of Agentic Resource Discovery (ARD 0.91, the successor of the AI Catalog).
//!
//! | path | what is there |
//! |---|---|
//! | `/.well-known/ard.json`, `/.well-known/ai-catalog.json` | where the registry is |
//! | `POST /v1/search` | what a text finds; the text may be a query of this network, which can say more |
//! | `GET /v1/agents/IDENTIFIER` | one entry in full |
//!
//! An A2A agent's entry names its card at this endpoint; anything else carries what is needed to call it. An identifier is
//! `urn:air:HEX.comity.alt:agent:CAPABILITY`, HEX being the address: a name outside the DNS (RFC 9476), vouched for by the
//! key and by no domain.

use std::net::Ipv6Addr;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use comity_api::types::{Declaration, ErrorCode, ErrorInfo, FindRequest};
use http_body_util::{BodyExt as _, Limited};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::AGENT_TAG;
use super::endpoint::{Agents, json_response, origin_of};
use crate::host::WHOLE_TAG;
use crate::pins::query_input;
use crate::text::{DESCRIPTION_BYTES_MAX, TITLE_BYTES_MAX, clean, scrub};
use crate::whole::connect::refused;

/// Largest request, in bytes.
const REQUEST_BYTES_MAX: usize = 64 << 10;
/// Results on a page when nothing is said, and at most: each is looked at closely.
const PAGE_DEFAULT: usize = 10;
const PAGE_MAX: usize = 20;
/// Results in all.
const RESULTS_MAX: usize = 180;
/// Type of an A2A agent's entry.
const AGENT_TYPE: &str = "application/a2a-agent-card+json";
/// Type of a whole MCP server's entry.
const SERVER_TYPE: &str = "application/mcp-server-card+json";
/// Type of any other capability's entry.
const CAPABILITY_TYPE: &str = "application/vnd.comity.capability+json";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Search {
    query: Query,
    page_size: Option<usize>,
    page_token: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Query {
    text: String,
    #[serde(default)]
    filter: Map<String, Value>,
}

/// What a result must be.
#[derive(Debug, Default, PartialEq)]
struct Filter {
    types: Vec<String>,
    tags: Vec<String>,
}

impl Filter {
    fn of(given: &Map<String, Value>) -> Result<Self, String> {
        let mut filter = Self::default();
        for (key, value) in given {
            let values =
                value.as_array().map_or_else(|| std::slice::from_ref(value), Vec::as_slice);
            let texts = values.iter().map(|value| value.as_str().map(str::to_owned)).collect();
            let texts: Option<Vec<String>> = texts;
            let texts =
                texts.ok_or_else(|| format!("the filter {} takes texts", clean(key, 80)))?;
            match key.as_str() {
                "type" => filter.types = texts,
                "tags" => filter.tags = texts.iter().map(|tag| tag.to_lowercase()).collect(),
                _ => {
                    return Err(format!(
                        "there is no filter {}; `type` and `tags` are all",
                        clean(key, 80)
                    ));
                }
            }
        }
        Ok(filter)
    }

    fn admits(&self, declaration: &Declaration) -> bool {
        let kind = type_of(declaration);
        (self.types.is_empty() || self.types.iter().any(|one| one == kind))
            && (self.tags.is_empty() || self.tags.iter().any(|tag| declaration.tags.contains(tag)))
    }
}

fn type_of(declaration: &Declaration) -> &'static str {
    let has = |tag: &str| declaration.tags.iter().any(|one| one == tag);
    if has(AGENT_TAG) {
        AGENT_TYPE
    } else if has(WHOLE_TAG) {
        SERVER_TYPE
    } else {
        CAPABILITY_TYPE
    }
}

/// The identifier of a capability at an address.
fn identifier(address: &str, capability: &str) -> Option<String> {
    let address: Ipv6Addr = address.parse().ok()?;
    Some(format!("urn:air:{:032x}.comity.alt:agent:{capability}", address.to_bits()))
}

/// `ADDRESS/CAPABILITY` of an identifier.
fn target_of(identifier: &str) -> Option<String> {
    let (hex, capability) =
        identifier.strip_prefix("urn:air:")?.split_once(".comity.alt:agent:")?;
    let plain =
        hex.len() == 32 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let bits = u128::from_str_radix(hex, 16).ok().filter(|_| plain)?;
    let named = !capability.is_empty()
        && capability
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b));
    named.then(|| format!("{}/{capability}", Ipv6Addr::from_bits(bits)))
}

/// One entry in full.
fn entry(address: &str, declaration: &Declaration, origin: &str) -> Option<Map<String, Value>> {
    let texts = |texts: &[String]| -> Vec<String> {
        texts.iter().map(|text| clean(text, TITLE_BYTES_MAX)).collect()
    };
    let target = format!("{address}/{}", declaration.name);
    let kind = type_of(declaration);
    let mut entry = Map::new();
    let mut put = |name: &str, value: Value| entry.insert(name.to_owned(), value);
    put("identifier", Value::from(identifier(address, &declaration.name)?));
    put("displayName", Value::from(clean(&declaration.title, TITLE_BYTES_MAX)));
    put("type", Value::from(kind));
    put("description", Value::from(clean(&declaration.description, DESCRIPTION_BYTES_MAX)));
    put("tags", json!(texts(&declaration.tags)));
    put("representativeQueries", json!(texts(&declaration.examples)));
    if kind == AGENT_TYPE {
        let name = Agents::path_name(&target);
        put("url", Value::from(format!("{origin}/a2a/{name}/.well-known/agent-card.json")));
    } else {
        let mut data = json!({
            "target": target, "inputSchema": declaration.input_schema, "outputSchema": declaration.output_schema,
            "idempotent": declaration.idempotent, "streaming": declaration.streaming,
        });
        scrub(&mut data);
        put("data", data);
    }
    Some(entry)
}

impl Agents {
    async fn search(&self, search: Search, origin: &str) -> Result<Value, ErrorInfo> {
        let bad = |text: String| ErrorInfo::new(ErrorCode::BadRequest, text);
        let filter = Filter::of(&search.query.filter).map_err(bad)?;
        let page = search.page_size.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX);
        let from: usize = match &search.page_token {
            Some(token) => token
                .parse()
                .map_err(|_| bad("the page token is none of this registry's".to_owned()))?,
            None => 0,
        };
        let upto = from.saturating_add(page).min(RESULTS_MAX);
        let mut request = FindRequest::new(query_input(&search.query.text));
        request.limit = u32::try_from(upto + 1).ok();
        request.group = self.group();
        let found = self.client().find(&request).await.map_err(|error| error.info())?;
        let mut results = Vec::new();
        for one in found.matches.iter().take(upto).skip(from) {
            // An agent that has gone meanwhile is left out.
            let Ok(shown) = self.client().show(&one.target).await else { continue };
            let Some(declaration) = shown.capabilities.first().filter(|one| filter.admits(one))
            else {
                continue;
            };
            let Some(mut entry) = entry(&shown.agent.address, declaration, origin) else {
                continue;
            };
            entry.remove("representativeQueries");
            #[expect(clippy::cast_possible_truncation, reason = "between 0 and 100")]
            let score = (one.relevance.clamp(0.0, 1.0) * 100.0).round() as i64;
            entry.insert("score".to_owned(), Value::from(score));
            entry.insert("source".to_owned(), Value::from(format!("{origin}/v1/")));
            results.push(Value::Object(entry));
        }
        let mut answer = json!({ "results": results });
        if found.matches.len() > upto && upto < RESULTS_MAX {
            answer["pageToken"] = Value::from(upto.to_string());
        }
        Ok(answer)
    }
}

/// Catalog and registry.
pub(super) fn router() -> Router<Agents> {
    Router::new()
        .route("/.well-known/ard.json", get(catalog))
        .route("/.well-known/ai-catalog.json", get(catalog))
        .route("/v1/search", post(search))
        .route("/v1/agents/{identifier}", get(retrieve))
}

async fn catalog(request: Request) -> Response {
    let origin = match origin_of(request.headers()) {
        Ok(origin) => origin,
        Err(refusal) => return *refusal,
    };
    json_response(&json!({
        "specVersion": "1.0",
        "host": {"displayName": "comity"},
        "entries": [{
            "identifier": "urn:air:comity.alt:registry:local",
            "displayName": "A comity network",
            "type": "application/ai-registry+json",
            "url": format!("{origin}/v1"),
            "description": "Agents and capabilities of a peer-to-peer network, found by what they can do.",
        }],
    }))
}

async fn search(State(agents): State<Agents>, request: Request) -> Response {
    let origin = match origin_of(request.headers()) {
        Ok(origin) => origin,
        Err(refusal) => return *refusal,
    };
    let body = Limited::new(request.into_body(), REQUEST_BYTES_MAX).collect().await;
    let body: Bytes = match body {
        Ok(body) => body.to_bytes(),
        Err(_) => {
            return error(
                StatusCode::PAYLOAD_TOO_LARGE,
                "INVALID_ARGUMENT",
                "the request is too large",
            );
        }
    };
    let given: Search = match serde_json::from_slice(&body) {
        Ok(given) => given,
        Err(problem) => {
            return error(
                StatusCode::BAD_REQUEST,
                "INVALID_ARGUMENT",
                &clean(&problem.to_string(), 300),
            );
        }
    };
    match agents.search(given, &origin).await {
        Ok(answer) => json_response(&answer),
        Err(problem) if problem.code.http_status() < 500 => {
            error(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", &clean(&problem.message, 500))
        }
        Err(problem) => refused(&problem),
    }
}

async fn retrieve(
    State(agents): State<Agents>,
    Path(identifier): Path<String>,
    request: Request,
) -> Response {
    let origin = match origin_of(request.headers()) {
        Ok(origin) => origin,
        Err(refusal) => return *refusal,
    };
    let Some(target) = target_of(&identifier) else {
        return error(
            StatusCode::BAD_REQUEST,
            "INVALID_ARGUMENT",
            "that is no identifier of this registry",
        );
    };
    let found = match agents.client().show(&target).await {
        Ok(shown) => {
            shown.capabilities.first().and_then(|one| entry(&shown.agent.address, one, &origin))
        }
        Err(_) => None,
    };
    match found {
        Some(entry) => json_response(&Value::Object(entry)),
        None => error(StatusCode::NOT_FOUND, "NOT_FOUND", "nothing is known by that identifier"),
    }
}

fn error(status: StatusCode, code: &str, message: &str) -> Response {
    let mut response = json_response(&json!({"error": {"code": code, "message": message}}));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_lead_back_to_what_they_name() {
        let target = "fd12:3456:789a:bcde:f012:3456:789a:bcde/fx.rates-1";
        let (address, name) = target.split_once('/').unwrap();
        let id = identifier(address, name).unwrap();
        assert_eq!(id, "urn:air:fd123456789abcdef0123456789abcde.comity.alt:agent:fx.rates-1");
        assert_eq!(target_of(&id).as_deref(), Some(target));
        for wrong in [
            "urn:air:acme.com:agent:x",
            "urn:air:fd12.comity.alt:agent:x",
            "urn:air:+d123456789abcdef0123456789abcde.comity.alt:agent:x",
            "urn:air:fd123456789abcdef0123456789abcde.comity.alt:agent:",
            "urn:air:fd123456789abcdef0123456789abcde.comity.alt:agent:../x",
            "",
        ] {
            assert_eq!(target_of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn filters_are_understood_or_refused() {
        let of = |value: Value| Filter::of(value.as_object().unwrap());
        assert_eq!(of(json!({})).unwrap(), Filter::default());
        let filter = of(json!({"type": AGENT_TYPE, "tags": ["FX", "daily"]})).unwrap();
        assert_eq!(
            (filter.types.len(), filter.tags),
            (1, vec!["fx".to_owned(), "daily".to_owned()])
        );
        for wrong in [json!({"publisher": ["x"]}), json!({"tags": [3]}), json!({"type": {}})] {
            assert!(of(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
