//! The side that has the agent: its exchanges relayed, its skills as capabilities.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use axum::http::Uri;
use bytes::Bytes;
use comity_specialist::{Answer, Invocation, Specialist, SpecialistError};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::card::{CARD_BYTES_MAX, Natives, Places};
use super::shim::{self, Version};
use super::{EXTENSION, SKILL_TAG};
use crate::text::clean;
use crate::whole::{Answered, BODY_BYTES_MAX, Exchange, Head, Http, Method, RelayError, items};

/// Path of an exchange that asks for the card; all others begin with the number of a place.
pub const CARD_PATH: &str = "card";
/// Longest one exchange may take when nothing else is said; a stream that breaks off is subscribed to again.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(600);
/// Longest one call of a skill may take when nothing else is said.
const SKILL_TIMEOUT: Duration = Duration::from_secs(300);
/// A card read longer ago is read again before its places are used.
const CARD_FRESH: Duration = Duration::from_secs(60);
/// Largest answer of a skill, in bytes.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Where cards are, the newer place first.
const CARD_PATHS: [&str; 2] = ["/.well-known/agent-card.json", "/.well-known/agent.json"];

/// An agent that speaks A2A over HTTP.
#[derive(Debug)]
pub struct Agent {
    http: Http,
    cards: Vec<Uri>,
    known: Mutex<Option<Known>>,
    started: u128,
    next: AtomicU64,
}

/// What its card said last.
#[derive(Debug, Clone)]
struct Known {
    /// With numbers for URLs.
    card: Value,
    places: Places,
    natives: Natives,
    read: Instant,
}

impl Agent {
    /// The agent at `url`, which is its own or its card's; nothing is asked yet.
    ///
    /// # Errors
    /// [`RelayError`] when it is no `http://` URL.
    pub fn new(url: &str) -> Result<Self, RelayError> {
        let http = Http::new(url)?;
        let wrong = |_| RelayError::Url { url: clean(url, 200) };
        let cards = if http.uri().path().ends_with(".json") {
            vec![http.uri().clone()]
        } else {
            let base = url.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
            let all = CARD_PATHS.iter().map(|path| format!("{base}{path}").parse::<Uri>());
            all.collect::<Result<_, _>>().map_err(wrong)?
        };
        // Two runs of a node must not name two messages alike.
        let started = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let started = started.map_or(0, |since| since.as_nanos());
        Ok(Self { http, cards, known: Mutex::default(), started, next: AtomicU64::new(1) })
    }

    /// Its card, with numbers for URLs.
    ///
    /// # Errors
    /// When it cannot be reached or has no card.
    pub async fn card(&self) -> Result<Value, SpecialistError> {
        Ok(self.read().await?.card)
    }

    async fn known(&self) -> Result<Known, SpecialistError> {
        if let Some(known) = &*self.known.lock().await
            && known.read.elapsed() < CARD_FRESH
        {
            return Ok(known.clone());
        }
        self.read().await
    }

    async fn read(&self) -> Result<Known, SpecialistError> {
        let mut last = "it has none".to_owned();
        for uri in &self.cards {
            let accept = ("accept".to_owned(), "application/json".to_owned());
            let exchange = Exchange {
                method: Method::Get,
                path: String::new(),
                headers: BTreeMap::from([accept]),
                body: String::new(),
            };
            let answered = self.http.send_to(uri.clone(), exchange, "").await?;
            let status = answered.head.status;
            if status != 200 {
                last = format!("status {status}");
                continue;
            }
            let body = whole(answered, CARD_BYTES_MAX).await?;
            let mut card: Value = match serde_json::from_slice(&body) {
                Ok(card @ Value::Object(_)) => card,
                Ok(_) | Err(_) => {
                    last = "what is there is no JSON object".to_owned();
                    continue;
                }
            };
            let places = Places::hide(&mut card, self.http.uri());
            let natives = Natives::of(&card);
            let known = Known { card, places, natives, read: Instant::now() };
            *self.known.lock().await = Some(known.clone());
            return Ok(known);
        }
        Err(SpecialistError::Unavailable { what: format!("its agent card cannot be read: {last}") })
    }

    /// Makes one exchange for a peer.
    async fn send(&self, exchange: Exchange, caller: &str) -> Result<Answered, SpecialistError> {
        if exchange.path == CARD_PATH {
            return Ok(json_answer(&self.read().await?.card));
        }
        let known = self.known().await?;
        let (number, rest) = match exchange.path.find('/') {
            Some(slash) => exchange.path.split_at(slash),
            None => (exchange.path.as_str(), ""),
        };
        let uri = number.parse().ok().and_then(|number| known.places.uri(number, rest));
        let uri = uri.ok_or_else(|| {
            SpecialistError::invalid("the agent has no such place; read its card again")
        })?;
        let card_wanted = asks_for_card(&exchange);
        let answered = self.http.send_to(uri, exchange, caller).await?;
        if !card_wanted || answered.head.status != 200 {
            return Ok(answered);
        }
        let head = answered.head.clone();
        let body = whole(answered, CARD_BYTES_MAX).await?;
        let mut message: Value = serde_json::from_slice(&body).unwrap_or_default();
        let card = match message.get_mut("result") {
            Some(result) => result,
            None => &mut message,
        };
        let mut known = self.known.lock().await;
        if let Some(known) = known.as_mut() {
            known.places.hide_more(card, self.http.uri());
        }
        Ok(Answered { head, ..json_answer(&message) })
    }
}

/// Whether the answer is an extended card, whose URLs have to be hidden.
pub(super) fn asks_for_card(exchange: &Exchange) -> bool {
    if exchange.method == Method::Get {
        let path = exchange.path.split('?').next().unwrap_or_default().trim_end_matches('/');
        return path.ends_with("/extendedAgentCard") || path.ends_with("/v1/card");
    }
    let names = ["GetExtendedAgentCard", "agent/getAuthenticatedExtendedCard"];
    // Few requests hold the words at all, so that few are parsed twice.
    names.iter().any(|name| exchange.body.contains(name.rsplit('/').next().unwrap_or(name)))
        && serde_json::from_str::<Value>(&exchange.body)
            .is_ok_and(|message| names.iter().any(|name| message["method"] == *name))
}

fn json_answer(value: &Value) -> Answered {
    let headers = BTreeMap::from([("content-type".to_owned(), "application/json".to_owned())]);
    let body = Bytes::from(value.to_string());
    Answered {
        head: Head { status: 200, headers },
        body: stream::once(async move { Ok(body) }).boxed(),
    }
}

async fn whole(mut answered: Answered, max: usize) -> Result<Vec<u8>, SpecialistError> {
    let mut whole = Vec::new();
    while let Some(bytes) = answered.body.next().await {
        let bytes = bytes?;
        if whole.len() + bytes.len() > max {
            return Err(SpecialistError::AnswerTooLarge { limit: max });
        }
        whole.extend_from_slice(&bytes);
    }
    Ok(whole)
}

/// A whole agent as a specialist.
#[derive(Debug)]
pub struct Relay {
    agent: Arc<Agent>,
    timeout: Duration,
}

impl Relay {
    /// In front of `agent`.
    #[must_use]
    pub fn new(agent: Arc<Agent>, timeout: Option<Duration>) -> Self {
        Self { agent, timeout: timeout.unwrap_or(EXCHANGE_TIMEOUT) }
    }
}

impl Specialist for Relay {
    fn call(&self, call: Invocation) -> BoxFuture<'_, Result<Answer, SpecialistError>> {
        async move {
            let ends = call.ends(self.timeout);
            let exchange: Exchange = serde_json::from_value(call.request).map_err(|error| {
                SpecialistError::invalid(format!("not an HTTP exchange: {error}"))
            })?;
            if exchange.body.len() > BODY_BYTES_MAX {
                let bytes = exchange.body.len();
                return Err(SpecialistError::RequestTooLarge { bytes, limit: BODY_BYTES_MAX });
            }
            let caller = call.caller.to_string();
            let answered = ends.bound(self.agent.send(exchange, &caller)).await??;
            Ok(Answer::Stream(items(answered, ends)))
        }
        .boxed()
    }
}

/// One skill as a specialist: words or JSON in, words and parts out.
#[derive(Debug)]
pub struct Skill {
    agent: Arc<Agent>,
    id: String,
    timeout: Duration,
}

impl Skill {
    /// The skill `id` of `agent`.
    #[must_use]
    pub fn new(agent: Arc<Agent>, id: String, timeout: Option<Duration>) -> Self {
        Self { agent, id, timeout: timeout.unwrap_or(SKILL_TIMEOUT) }
    }

    async fn ask(&self, request: Value, caller: &str) -> Result<Value, SpecialistError> {
        let known = self.agent.known().await?;
        let (number, version) = match (known.natives.v10, known.natives.v03) {
            (Some(number), _) => (number, Version::V10),
            (None, Some(number)) => (number, Version::V03),
            (None, None) => {
                let what = "its agent does not speak JSON-RPC".to_owned();
                return Err(SpecialistError::Unavailable { what });
            }
        };
        let uri = known.places.uri(number, "").ok_or_else(|| SpecialistError::Unavailable {
            what: "its agent has moved".to_owned(),
        })?;
        let number = self.agent.next.fetch_add(1, Ordering::Relaxed);
        let message =
            message(&request, &self.id, caller, &format!("{:x}-{number}", self.agent.started))?;
        let mut body = json!({"jsonrpc": "2.0", "id": number, "method": "SendMessage", "params": {"message": message}});
        if version == Version::V03 {
            let (older, _) = shim::request(&body, Version::V03)
                .map_err(|(_, text)| SpecialistError::invalid(text))?;
            body = older;
        }
        let mut headers = BTreeMap::from([
            ("accept".to_owned(), "application/json".to_owned()),
            ("content-type".to_owned(), "application/json".to_owned()),
        ]);
        if version == Version::V10 {
            headers.insert("a2a-version".to_owned(), "1.0".to_owned());
        }
        let exchange =
            Exchange { method: Method::Post, path: String::new(), headers, body: body.to_string() };
        let answered = self.agent.http.send_to(uri, exchange, caller).await?;
        let status = answered.head.status;
        let body = whole(answered, ANSWER_BYTES_MAX).await?;
        let mut answer: Value = serde_json::from_slice(&body).map_err(|_| {
            SpecialistError::GarbageAnswer { what: format!("status {status} and no JSON") }
        })?;
        if let Some(error) = answer.get("error").filter(|error| error.is_object()) {
            let text = error["message"].as_str().unwrap_or("it refuses without a reason");
            return Err(SpecialistError::reported(text));
        }
        if version == Version::V03 {
            answer = shim::answer(answer, "SendMessage", Version::V10);
        }
        output(answer["result"].take())
    }
}

impl Specialist for Skill {
    fn call(&self, call: Invocation) -> BoxFuture<'_, Result<Answer, SpecialistError>> {
        async move {
            let ends = call.ends(self.timeout);
            let caller = call.caller.to_string();
            ends.bound(self.ask(call.request, &caller)).await?.map(Answer::One)
        }
        .boxed()
    }
}

/// A call's input as a message of A2A 1.0.
fn message(request: &Value, skill: &str, caller: &str, id: &str) -> Result<Value, SpecialistError> {
    let mut parts = Vec::new();
    if let Some(text) = request["text"].as_str() {
        parts.push(json!({ "text": text }));
    }
    if let Some(data) = request.get("data") {
        parts.push(json!({ "data": data }));
    }
    if parts.is_empty() {
        return Err(SpecialistError::invalid("say something: `text`, `data`, or both"));
    }
    let mut message = json!({
        "messageId": id, "role": "ROLE_USER", "parts": parts,
        "metadata": {EXTENSION: {"skill": skill, "caller": caller}},
    });
    for name in ["contextId", "taskId"] {
        if let Some(id) = request[name].as_str() {
            message[name] = Value::from(id);
        }
    }
    Ok(message)
}

/// What `SendMessage` answers, as a capability's output.
fn output(result: Value) -> Result<Value, SpecialistError> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let (state, parts, from) = if let Some(message) = result.get("message") {
        ("completed".to_owned(), list(&message["parts"]), message)
    } else if let Some(task) = result.get("task") {
        let state = task["status"]["state"].as_str().unwrap_or("TASK_STATE_UNSPECIFIED");
        let state = state.trim_start_matches("TASK_STATE_").to_lowercase().replace('_', "-");
        let artifacts = list(&task["artifacts"]);
        let mut parts: Vec<Value> =
            artifacts.iter().flat_map(|artifact| list(&artifact["parts"])).collect();
        if parts.is_empty() {
            parts = list(&task["status"]["message"]["parts"]);
        }
        (state, parts, task)
    } else {
        let what = format!("neither a message nor a task, for a skill ({SKILL_TAG})");
        return Err(SpecialistError::GarbageAnswer { what });
    };
    let texts: Vec<&str> = parts.iter().filter_map(|part| part["text"].as_str()).collect();
    let text = texts.join("\n");
    if matches!(state.as_str(), "failed" | "rejected" | "canceled") {
        let text = if text.is_empty() { format!("the task is {state}") } else { text };
        return Err(SpecialistError::reported(&text));
    }
    let mut out = Map::new();
    let task = result.get("task").map(|task| &task["id"]).unwrap_or_else(|| &from["taskId"]);
    for (name, value) in [("taskId", task), ("contextId", &from["contextId"])] {
        if value.as_str().is_some_and(|id| !id.is_empty()) {
            out.insert(name.to_owned(), value.clone());
        }
    }
    out.insert("state".to_owned(), Value::from(state));
    out.insert("text".to_owned(), Value::from(text));
    out.insert("parts".to_owned(), Value::from(parts));
    Ok(Value::Object(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skill_answers_with_words_and_parts_or_fails() {
        let done = json!({"task": {
            "id": "t", "contextId": "c", "status": {"state": "TASK_STATE_COMPLETED"},
            "artifacts": [{"parts": [{"text": "a"}, {"data": {"n": 1}}]}, {"parts": [{"text": "b"}]}],
        }});
        assert_eq!(
            output(done).unwrap(),
            json!({"taskId": "t", "contextId": "c", "state": "completed", "text": "a\nb", "parts": [{"text": "a"}, {"data": {"n": 1}}, {"text": "b"}]})
        );
        let asks = json!({"task": {"id": "t", "status": {"state": "TASK_STATE_INPUT_REQUIRED", "message": {"parts": [{"text": "which?"}]}}}});
        assert_eq!(output(asks).unwrap()["state"], "input-required");
        let failed = json!({"task": {"id": "t", "status": {"state": "TASK_STATE_FAILED", "message": {"parts": [{"text": "no"}]}}}});
        assert!(output(failed).unwrap_err().to_string().contains("no"));
        for garbage in [json!(null), json!({}), json!([1]), json!({"other": 1})] {
            assert!(output(garbage).is_err());
        }
        assert_eq!(output(json!({"message": {"parts": 3}})).unwrap()["text"], "");
    }

    #[test]
    fn only_requests_for_a_card_are_looked_into() {
        let exchange = |method, path: &str, body: &str| Exchange {
            method,
            path: path.to_owned(),
            headers: BTreeMap::new(),
            body: body.to_owned(),
        };
        assert!(asks_for_card(&exchange(Method::Get, "1/extendedAgentCard?x=1", "")));
        assert!(asks_for_card(&exchange(Method::Get, "1/v1/card", "")));
        assert!(asks_for_card(&exchange(
            Method::Post,
            "0",
            r#"{"method":"GetExtendedAgentCard"}"#
        )));
        assert!(asks_for_card(&exchange(
            Method::Post,
            "0",
            r#"{"method":"agent/getAuthenticatedExtendedCard"}"#
        )));
        assert!(!asks_for_card(&exchange(
            Method::Post,
            "0",
            r#"{"method":"SendMessage","params":"GetExtendedAgentCard"}"#
        )));
        assert!(!asks_for_card(&exchange(Method::Get, "1/tasks/card", "")));
    }

    #[test]
    fn only_http_is_spoken() {
        for wrong in ["https://x", "file:///x", "x", "http://user:pw@x/", ""] {
            assert!(Agent::new(wrong).is_err(), "{wrong}");
        }
        assert_eq!(
            Agent::new("http://x:1/base/").unwrap().cards[0],
            "http://x:1/base/.well-known/agent-card.json"
        );
        assert_eq!(Agent::new("http://x/my.json").unwrap().cards.len(), 1);
    }
}
