//! The side that uses agents: local A2A endpoints, one for each remote agent.
//!
//! | path below `/a2a` | what is there |
//! |---|---|
//! | `/AGENT/.well-known/agent-card.json` | the card, for 1.0 and 0.3 |
//! | `/AGENT/0`, `/AGENT/1` … | the agent's own interfaces, and whatever lies below them |
//! | `/AGENT/v03`, `/AGENT/v10` | JSON-RPC in the version that the agent does not speak |
//! | `/keys.json` | the keys that sign the cards |
//!
//! `AGENT` is `ADDRESS~CAPABILITY`, or the address (also handle, AgentId) of a peer that serves one agent.

use std::collections::BTreeMap;
use std::path::Path as FilePath;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HOST, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use axum::routing::{any, get, post};
use bytes::Bytes;
use comity_api::Client;
use comity_api::types::{ErrorCode, ErrorInfo};
use futures_util::stream;
use serde_json::{Map, Value, json};

use super::agent::{CARD_PATH, asks_for_card};
use super::card::{CARD_BYTES_MAX, Local, Natives, Readers, SHIM_03, SHIM_10, localise};
use super::kept::Kept;
use super::lasting::{Wording, respond_lasting};
use super::push::{Asked, Followed, Hook, Sniffer, without_hook};
use super::shim::{self, Version};
use super::sign::CardKey;
use super::{AGENT_TAG, EXTENSION};
use crate::whole::connect::{
    Answer, Remote, exchange_of, refused, respond, respond_seen, response_of,
};
use crate::whole::{Events, Exchange, Method};

/// Most agents remembered.
const AGENTS_MAX: usize = 256;
/// How long what is known of an agent's places is used without asking again.
const PLACES_FRESH: Duration = Duration::from_secs(300);
/// Largest answer that is translated, in bytes.
const ANSWER_BYTES_MAX: usize = 48 << 20;
/// How long a client may take a card as fresh, in seconds.
const CARD_MAX_AGE: u64 = 60;

/// The remote agents of one local endpoint.
#[derive(Debug, Clone)]
pub struct Agents(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    client: Client,
    group: Option<String>,
    key: CardKey,
    secured: bool,
    readers: Readers,
    known: Mutex<BTreeMap<String, Known>>,
    followed: Mutex<Followed>,
    /// None where another endpoint of the node keeps the webhooks.
    kept: Option<Kept>,
}

/// Tasks are followed for as long as this is held. What is kept of them stays.
#[derive(Debug)]
#[must_use]
pub struct Following(Agents);

impl Drop for Following {
    fn drop(&mut self) {
        let mut followed = self.0.followed();
        if let Some(kept) = self.0.kept() {
            kept.ended.store(true, Ordering::Relaxed);
        }
        // Ends what follows them.
        let tasks = std::mem::take(&mut *followed);
        drop(followed);
        drop(tasks);
    }
}

#[derive(Debug, Clone)]
struct Known {
    remote: Remote,
    capability: String,
    natives: Option<(Natives, Instant)>,
}

/// An answer of this endpoint that is none of the agent's.
pub(super) type Refusal = Box<Response>;

impl Agents {
    /// The agents that the node that `client` reaches, and that lives in `home`, can reach, as a member of `group` if one is named. `secured` says whether the
    /// endpoint demands a token, which cards then tell; `readers` for whom they are. Webhooks that were kept are followed again.
    ///
    /// # Errors
    /// `key_file` when the endpoint's key cannot be read or made.
    ///
    /// # Panics
    /// Outside a tokio runtime, when webhooks were kept.
    pub fn new(
        client: Client,
        home: &FilePath,
        group: Option<String>,
        secured: bool,
        readers: Readers,
        random: fn(&mut [u8]),
    ) -> Result<(Self, Following), ErrorInfo> {
        let key = CardKey::open(home, random)?;
        let (kept, tasks) = Kept::open(home, group.as_deref()).unzip();
        let agents = Self(Arc::new(Shared {
            client,
            group,
            key,
            secured,
            readers,
            known: Mutex::default(),
            followed: Mutex::default(),
            kept,
        }));
        for task in tasks.into_iter().flatten() {
            agents.follow_again(task);
        }
        Ok((agents.clone(), Following(agents)))
    }

    /// What an agent is called in paths: `ADDRESS~CAPABILITY` for `ADDRESS/CAPABILITY`.
    #[must_use]
    pub fn path_name(target: &str) -> String {
        target.replacen('/', "~", 1)
    }

    pub(super) fn client(&self) -> &Client {
        &self.0.client
    }

    pub(super) fn group(&self) -> Option<String> {
        self.0.group.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Known>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn kept(&self) -> Option<&Kept> {
        self.0.kept.as_ref()
    }

    pub(super) fn followed(&self) -> std::sync::MutexGuard<'_, Followed> {
        self.0.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the agent a request of JSON-RPC, in the words of 1.0; the answer is in those of the version returned.
    pub(super) async fn send_rpc(
        &self,
        name: &str,
        method: &str,
        params: Value,
    ) -> Result<(Answer, Version), ErrorInfo> {
        let natives = self.natives(name, "http://localhost").await?;
        let silent = || ErrorInfo::new(ErrorCode::CallFailed, "the agent does not speak JSON-RPC");
        let mut message = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let (number, version) = match (natives.v10, natives.v03) {
            (Some(number), _) => (number, Version::V10),
            (None, Some(number)) => (number, Version::V03),
            (None, None) => return Err(silent()),
        };
        if version == Version::V03 {
            message = shim::request(&message, Version::V03).map_err(|_| silent())?.0;
        }
        let mut headers = BTreeMap::from([
            ("accept".to_owned(), "application/json, text/event-stream".to_owned()),
            ("content-type".to_owned(), "application/json".to_owned()),
        ]);
        for (name, value) in version_headers(&mut headers, version) {
            headers.insert(name, value);
        }
        let exchange = Exchange {
            method: Method::Post,
            path: number.to_string(),
            headers,
            body: message.to_string(),
        };
        let known = self.agent(name).await?;
        Ok((known.remote.send(&exchange).await?, version))
    }

    /// Answers what is asked of webhooks that this endpoint keeps, and takes over the one that a message brings.
    async fn take_hooks(
        &self,
        name: &str,
        exchange: &mut Exchange,
    ) -> Result<Option<Hook>, Refusal> {
        let Some(asked) = Asked::read(exchange) else { return Ok(None) };
        let natives = self.natives(name, "http://localhost").await;
        if !natives.is_ok_and(|one| one.pushes && (one.v10.is_some() || one.v03.is_some())) {
            return Ok(None);
        }
        if let Some(hook) = asked.hook_of_message()
            && let Some(body) = without_hook(&exchange.body)
        {
            exchange.body = body;
            return Ok(Some(hook));
        }
        match self.about_hooks(name, &asked).await {
            Some(response) => Err(Box::new(response)),
            None => Ok(None),
        }
    }

    fn sniffer(&self, name: &str, hook: Option<Hook>, streams: bool) -> Option<Sniffer> {
        hook.map(|hook| Sniffer::new(self.clone(), name.to_owned(), hook, streams))
    }

    async fn agent(&self, name: &str) -> Result<Known, ErrorInfo> {
        if let Some(known) = self.lock().get(name) {
            return Ok(known.clone());
        }
        let (peer, capability) = match name.split_once('~') {
            Some((peer, capability)) => (peer.to_owned(), capability.to_owned()),
            None => self.only_agent_of(name).await?,
        };
        let remote = Remote::new(
            self.0.client.clone(),
            format!("{peer}/{capability}"),
            self.0.group.clone(),
        );
        let known = Known { remote, capability, natives: None };
        let mut all = self.lock();
        if all.len() >= AGENTS_MAX {
            all.pop_first();
        }
        all.insert(name.to_owned(), known.clone());
        Ok(known)
    }

    async fn only_agent_of(&self, peer: &str) -> Result<(String, String), ErrorInfo> {
        let shown = self.0.client.show(peer).await.map_err(|error| error.info())?;
        let mut agents = shown
            .capabilities
            .iter()
            .filter(|one| one.tags.iter().any(|tag| tag == AGENT_TAG))
            .map(|one| one.name.clone());
        match (agents.next(), agents.next()) {
            (Some(one), None) => Ok((shown.agent.address, one)),
            (None, _) => {
                let text = format!("{} shows no A2A agent", crate::text::clean(peer, 80));
                Err(ErrorInfo::new(ErrorCode::NotFound, text)
                    .hint("one that is not public is named ADDRESS~CAPABILITY"))
            }
            (Some(one), Some(other)) => {
                let text = "that peer serves several A2A agents".to_owned();
                let hint = format!("name one: ADDRESS~{one}, ADDRESS~{other} …");
                Err(ErrorInfo::new(ErrorCode::NotFound, text).hint(hint))
            }
        }
    }

    /// The card of an agent as clients at `origin` (`http://HOST:PORT`) see it.
    async fn card(&self, name: &str, origin: &str) -> Result<Value, ErrorInfo> {
        let known = self.agent(name).await?;
        let exchange = Exchange {
            method: Method::Get,
            path: CARD_PATH.to_owned(),
            headers: BTreeMap::new(),
            body: String::new(),
        };
        let mut answer = known.remote.send(&exchange).await?;
        let body = answer.whole(CARD_BYTES_MAX).await?;
        let mut card: Value = serde_json::from_slice(&body).unwrap_or_default();
        if !card.is_object() {
            let text = "the peer gave something that is no agent card";
            return Err(ErrorInfo::new(ErrorCode::CallFailed, text)
                .hint("its capability may be no A2A agent; `comity show` tells"));
        }
        let natives = Natives::of(&card);
        if let Some(known) = self.lock().get_mut(name) {
            known.natives = Some((natives, Instant::now()));
        }
        let mut about = Map::new();
        if let Some((address, agent)) = answer.producer.take() {
            about.insert("address".to_owned(), Value::from(address));
            about.insert("agent".to_owned(), Value::from(agent));
        }
        about.insert("capability".to_owned(), Value::from(known.capability));
        about.extend(
            answer.receipt.take().map(|receipt| ("receipt".to_owned(), Value::from(receipt))),
        );
        self.finish(&mut card, name, origin, natives, about);
        Ok(card)
    }

    /// Writes a card for clients at `origin`, and signs it.
    fn finish(
        &self,
        card: &mut Value,
        name: &str,
        origin: &str,
        natives: Natives,
        about: Map<String, Value>,
    ) {
        let base = format!("{origin}/a2a/{name}");
        localise(
            card,
            Local { base: &base, natives, readers: self.0.readers, secured: self.0.secured, about },
        );
        if let Some(card) = card.as_object_mut() {
            self.0.key.sign(card, &format!("{origin}/a2a/keys.json"));
        }
    }

    async fn natives(&self, name: &str, origin: &str) -> Result<Natives, ErrorInfo> {
        let fresh = |known: &Known| {
            known.natives.filter(|(_, at)| at.elapsed() < PLACES_FRESH).map(|(natives, _)| natives)
        };
        if let Some(natives) = self.lock().get(name).and_then(fresh) {
            return Ok(natives);
        }
        self.card(name, origin).await?;
        Ok(self.lock().get(name).and_then(fresh).unwrap_or_default())
    }

    async fn relay(&self, name: &str, path: String, request: Request) -> Result<Response, Refusal> {
        let origin = origin_of(request.headers())?;
        let mut exchange = exchange_of(request, path).await.map_err(Box::new)?;
        let hook = self.take_hooks(name, &mut exchange).await?;
        let refusal = |error: ErrorInfo| Box::new(of_request(&exchange, refused(&error), &error));
        let known = self.agent(name).await.map_err(refusal)?;
        let mut answer = known.remote.send(&exchange).await.map_err(refusal)?;
        if !asks_for_card(&exchange) || answer.head.status != 200 {
            let streams = streams(&response_of(&answer));
            let sniffer = self.sniffer(name, hook, streams);
            if let Some(wording) = Wording::of(&exchange).filter(|_| streams) {
                return Ok(respond_lasting(self.clone(), name, wording, answer, sniffer));
            }
            return Ok(match sniffer {
                Some(mut sniffer) => respond_seen(answer, move |bytes| sniffer.see(bytes)),
                None => respond(answer),
            });
        }
        let body = answer.whole(CARD_BYTES_MAX).await.map_err(refusal)?;
        let mut message: Value = serde_json::from_slice(&body).unwrap_or_default();
        let natives = self.natives(name, &origin).await.map_err(refusal)?;
        let about = answer.producer.clone().map(|(address, agent)| {
            Map::from_iter([
                ("address".to_owned(), Value::from(address)),
                ("agent".to_owned(), Value::from(agent)),
            ])
        });
        if message.get("error").is_none() {
            let card = if message.get("jsonrpc").is_some() {
                &mut message["result"]
            } else {
                &mut message
            };
            if card.is_object() {
                self.finish(card, name, &origin, natives, about.unwrap_or_default());
            }
        }
        let mut response = response_of(&answer);
        *response.body_mut() = Body::from(message.to_string());
        Ok(response)
    }

    /// JSON-RPC in the version `from`, which the agent does not speak.
    async fn translate(
        &self,
        name: &str,
        from: Version,
        request: Request,
    ) -> Result<Response, Refusal> {
        let origin = origin_of(request.headers())?;
        let mut exchange = exchange_of(request, String::new()).await.map_err(Box::new)?;
        let hook = self.take_hooks(name, &mut exchange).await?;
        let message: Value = serde_json::from_str(&exchange.body).map_err(|error| {
            Box::new(rpc_error(&Value::Null, -32700, &format!("not JSON: {error}")))
        })?;
        let id = message["id"].clone();
        if message["jsonrpc"] != "2.0" || !message["method"].is_string() {
            return Err(Box::new(rpc_error(&id, -32600, "not a request of JSON-RPC 2.0")));
        }
        let to = if from == Version::V03 { Version::V10 } else { Version::V03 };
        let (translated, method) = shim::request(&message, to)
            .map_err(|(code, text)| Box::new(rpc_error(&id, code, &text)))?;
        let refusal = |error: ErrorInfo| Box::new(rpc_error(&id, -32603, &said(&error)));
        let natives = self.natives(name, &origin).await.map_err(refusal)?;
        let number = if to == Version::V10 { natives.v10 } else { natives.v03 };
        let number = number.ok_or_else(|| {
            Box::new(rpc_error(
                &id,
                -32603,
                "the agent does not speak JSON-RPC in the other version",
            ))
        })?;
        exchange.path = number.to_string();
        exchange.body = translated.to_string();
        for (name, value) in version_headers(&mut exchange.headers, to) {
            exchange.headers.insert(name, value);
        }
        let known = self.agent(name).await.map_err(refusal)?;
        let mut answer = known.remote.send(&exchange).await.map_err(refusal)?;
        let mut response = response_of(&answer);
        let streams = streams(&response);
        let mut sniffer = self.sniffer(name, hook, streams);
        if streams {
            let state = Some((answer, Events::default(), sniffer));
            let body = stream::unfold(state, move |state| async move {
                let (mut answer, mut events, mut sniffer) = state?;
                match answer.next().await? {
                    Ok(bytes) => {
                        let mut out = Vec::new();
                        if let Some(sniffer) = &mut sniffer {
                            sniffer.see(Some(&bytes));
                        }
                        for event in events.feed(&bytes) {
                            let message: Value = serde_json::from_slice(&event).unwrap_or_default();
                            let message = shim::answer(message, method, from);
                            out.extend_from_slice(format!("data: {message}\n\n").as_bytes());
                        }
                        Some((Ok(Bytes::from(out)), Some((answer, events, sniffer))))
                    }
                    Err(error) => Some((Err(std::io::Error::other(error.message)), None)),
                }
            });
            *response.body_mut() = Body::from_stream(body);
            return Ok(response);
        }
        let body = Bytes::from(answer.whole(ANSWER_BYTES_MAX).await.map_err(refusal)?);
        if let Some(sniffer) = &mut sniffer {
            sniffer.see(Some(&body));
            sniffer.see(None);
        }
        let Ok(message) = serde_json::from_slice::<Value>(&body) else {
            *response.body_mut() = Body::from(body);
            return Ok(response);
        };
        let mut message = shim::answer(message, method, from);
        if method == "GetExtendedAgentCard" && message["result"].is_object() {
            self.finish(&mut message["result"], name, &origin, natives, Map::new());
        }
        *response.body_mut() = Body::from(message.to_string());
        Ok(response)
    }
}

/// Whether an answer is a stream of events.
pub(super) fn streams(response: &Response) -> bool {
    let kind = response.headers().get(CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}

/// The headers that tell version and extensions, as the other version spells them.
fn version_headers(headers: &mut BTreeMap<String, String>, to: Version) -> Vec<(String, String)> {
    headers.remove("a2a-version");
    let (from, into) = match to {
        Version::V10 => ("x-a2a-extensions", "a2a-extensions"),
        Version::V03 => ("a2a-extensions", "x-a2a-extensions"),
    };
    let mut out: Vec<(String, String)> =
        headers.remove(from).map(|value| (into.to_owned(), value)).into_iter().collect();
    if to == Version::V10 {
        out.push(("a2a-version".to_owned(), "1.0".to_owned()));
    }
    out
}

/// The endpoints, below `/a2a`, and the catalog of what the network has.
pub fn router(agents: Agents) -> Router {
    Router::new()
        .route("/a2a/keys.json", get(keys))
        .route("/a2a/{agent}/.well-known/agent-card.json", get(card))
        .route("/a2a/{agent}/.well-known/agent.json", get(card))
        .route(&format!("/a2a/{{agent}}/{SHIM_03}"), post(from_03))
        .route(&format!("/a2a/{{agent}}/{SHIM_03}/"), post(from_03))
        .route(&format!("/a2a/{{agent}}/{SHIM_10}"), post(from_10))
        .route(&format!("/a2a/{{agent}}/{SHIM_10}/"), post(from_10))
        .route("/a2a/{agent}/{place}", any(place))
        .route("/a2a/{agent}/{place}/", any(place))
        .route("/a2a/{agent}/{place}/{*rest}", any(place))
        .merge(super::catalog::router())
        .with_state(agents)
}

/// Whether a path may be read without the token: cards and the keys that sign them.
#[must_use]
pub fn is_open(path: &str) -> bool {
    path == "/a2a/keys.json"
        || matches!(path, "/.well-known/ard.json" | "/.well-known/ai-catalog.json")
        || path.ends_with("/.well-known/agent-card.json")
        || path.ends_with("/.well-known/agent.json")
}

/// The origin by which a client names this endpoint. The guard has seen to it that it is this machine.
pub(super) fn origin_of(headers: &HeaderMap) -> Result<String, Refusal> {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let error = ErrorInfo::new(ErrorCode::BadRequest, "the request names no host");
    host.map(|host| format!("http://{host}")).ok_or_else(|| Box::new(refused(&error)))
}

async fn keys(State(agents): State<Agents>) -> Response {
    json_response(&agents.0.key.public())
}

async fn card(
    State(agents): State<Agents>,
    Path(agent): Path<String>,
    request: Request,
) -> Response {
    let headers = request.headers();
    let origin = match origin_of(headers) {
        Ok(origin) => origin,
        Err(refusal) => return *refusal,
    };
    let card = match agents.card(&agent, &origin).await {
        Ok(card) => card,
        Err(error) => return refused(&error),
    };
    // The receipt differs each time, and says nothing about the card.
    let mut stable = card.clone();
    if let Some(card) = stable.as_object_mut() {
        card.remove("signatures");
    }
    for extension in stable["capabilities"]["extensions"].as_array_mut().into_iter().flatten() {
        if extension["uri"] == EXTENSION
            && let Some(params) = extension["params"].as_object_mut()
        {
            params.remove("receipt");
        }
    }
    let tag = format!("W/\"{:016x}\"", fnv(stable.to_string().as_bytes()));
    let seen = headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|one| {
            one.trim() == "*" || one.trim().trim_start_matches("W/") == tag.trim_start_matches("W/")
        });
    let mut response = if seen {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        json_response(&card)
    };
    let headers = response.headers_mut();
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(ETAG, tag);
    }
    if let Ok(age) = HeaderValue::try_from(format!("max-age={CARD_MAX_AGE}")) {
        headers.insert(CACHE_CONTROL, age);
    }
    response
}

/// FNV-1a, for an entity tag: it distinguishes what this endpoint itself wrote, and nobody gains by a collision.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

async fn from_03(
    State(agents): State<Agents>,
    Path(agent): Path<String>,
    request: Request,
) -> Response {
    agents.translate(&agent, Version::V03, request).await.unwrap_or_else(|refusal| *refusal)
}

async fn from_10(
    State(agents): State<Agents>,
    Path(agent): Path<String>,
    request: Request,
) -> Response {
    agents.translate(&agent, Version::V10, request).await.unwrap_or_else(|refusal| *refusal)
}

async fn place(
    State(agents): State<Agents>,
    Path(parts): Path<BTreeMap<String, String>>,
    request: Request,
) -> Response {
    let agent = parts.get("agent").cloned().unwrap_or_default();
    // The raw path, so that what is escaped stays so.
    let uri = request.uri();
    let raw = uri.path_and_query().map_or_else(|| uri.path(), |path| path.as_str());
    let mut path = raw.splitn(4, '/').nth(3).unwrap_or_default().to_owned();
    if let Some(bare) = path.strip_suffix('/').filter(|bare| !bare.contains('/')) {
        path = bare.to_owned();
    }
    agents.relay(&agent, path, request).await.unwrap_or_else(|refusal| *refusal)
}

pub(super) fn json_response(value: &Value) -> Response {
    let mut response = Response::new(Body::from(value.to_string()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn said(error: &ErrorInfo) -> String {
    let text = crate::text::clean(&error.message, 1_000);
    if error.hint.is_empty() {
        text
    } else {
        format!("{text}. {}", crate::text::clean(&error.hint, 500))
    }
}

pub(super) fn rpc_error(id: &Value, code: i64, text: &str) -> Response {
    json_response(&json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": text}}))
}

/// A failure of the way there, with the id of the request where it was one of JSON-RPC.
fn of_request(exchange: &Exchange, otherwise: Response, error: &ErrorInfo) -> Response {
    match serde_json::from_str::<Value>(&exchange.body) {
        Ok(message) if message["jsonrpc"] == "2.0" => {
            rpc_error(&message["id"], -32603, &said(error))
        }
        Ok(_) | Err(_) => otherwise,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_are_open_and_nothing_else() {
        assert!(is_open("/a2a/x/.well-known/agent-card.json") && is_open("/a2a/keys.json"));
        for closed in ["/a2a/x/0", "/a2a/x/v03", "/a2a/x/0/tasks/1", "/a2a/keys.jsonx"] {
            assert!(!is_open(closed), "{closed}");
        }
    }

    #[test]
    fn headers_are_spelled_as_the_other_version_does() {
        let mut headers = BTreeMap::from([("x-a2a-extensions".to_owned(), "u".to_owned())]);
        let added = version_headers(&mut headers, Version::V10);
        assert_eq!((headers.len(), added.len()), (0, 2));
        let mut headers = BTreeMap::from(
            [("a2a-version", "1.0"), ("a2a-extensions", "u")]
                .map(|(a, b)| (a.to_owned(), b.to_owned())),
        );
        let added = version_headers(&mut headers, Version::V03);
        assert_eq!(
            (headers.len(), added),
            (0, vec![("x-a2a-extensions".to_owned(), "u".to_owned())])
        );
    }
}
