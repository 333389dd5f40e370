//! Push notifications to webhooks of this machine.
//!
//! A webhook at a loopback address means the client's own machine, but the agent would call its own. So this endpoint keeps such
//! webhooks itself, follows their tasks over the network, and posts what happens to them as the agent would: events of the stream
//! (A2A 1.0), or the whole task (0.3). It does so for agents whose cards say that they push; all other webhooks are theirs to call.
//! They are kept on disk, with the state of the task that they know of, so that an endpoint that is started anew goes on.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use axum::response::Response;
use bytes::Bytes;
use comity_api::types::{ErrorCode, ErrorInfo};
use serde_json::{Map, Value, json};
use tokio_util::task::AbortOnDropHandle;

use super::endpoint::{Agents, json_response, rpc_error};
use super::kept::{KeptHook, KeptTask, now_ms};
use super::shim::{self, Version};
use crate::whole::{Events, Exchange, Http, Method};

/// Longest configuration of a webhook, in bytes of JSON.
const HOOK_BYTES_MAX: usize = 4 << 10;
/// Tasks followed at once.
const FOLLOWED_MAX: usize = 256;
/// Webhooks of one task.
const HOOKS_MAX: usize = 8;
/// A task is followed for this long at most.
const FOLLOW_MAX: Duration = Duration::from_secs(24 * 3600);
/// Pauses between two looks at a task whose stream cannot be had: doubled from the shortest to the longest.
const LOOK_MIN: Duration = Duration::from_millis(500);
const LOOK_MAX: Duration = Duration::from_secs(30);
/// How long a webhook may take, and how often it is tried.
const HOOK_PATIENCE: Duration = Duration::from_secs(10);
const HOOK_TRIES: u32 = 3;
/// Longest answer about a task, in bytes.
const TASK_BYTES_MAX: usize = 16 << 20;
/// Carries the token that the client gave along with its webhook.
const TOKEN: HeaderName = HeaderName::from_static("x-a2a-notification-token");

/// Tasks that are followed, by agent and task.
pub(super) type Followed = BTreeMap<(String, String), Watch>;

/// The webhooks of one task. Dropping it ends the following.
#[derive(Debug)]
pub(super) struct Watch {
    hooks: BTreeMap<String, Hook>,
    /// Until when, in milliseconds since 1970.
    until_ms: u64,
    /// The state that they were told last.
    last: Value,
    _follower: AbortOnDropHandle<()>,
}

/// A webhook.
#[derive(Debug, Clone)]
pub(super) struct Hook {
    /// As it was given, in the words of 1.0, without the task.
    config: Map<String, Value>,
    http: Http,
    headers: HeaderMap,
    version: Version,
}

/// A request about webhooks, in the words of 1.0.
#[derive(Debug, PartialEq)]
pub(super) struct Asked {
    method: &'static str,
    params: Map<String, Value>,
    version: Version,
    /// Of JSON-RPC; HTTP+JSON has none.
    id: Option<Value>,
}

impl Hook {
    /// The webhook that a client of `version` describes, if it is at a loopback address.
    fn read(config: &Value, version: Version) -> Option<Self> {
        let url = config["url"].as_str()?;
        let host = url.parse::<Uri>().ok()?.host()?.to_owned();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let here = bare.eq_ignore_ascii_case("localhost")
            || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        if !here {
            return None;
        }
        let mut headers = HeaderMap::new();
        let kind =
            if version == Version::V10 { "application/a2a+json" } else { "application/json" };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        let text = |value: &Value| value.as_str().and_then(|text| HeaderValue::try_from(text).ok());
        if let Some(token) = text(&config["token"]) {
            headers.insert(TOKEN, token);
        }
        let auth = &config["authentication"];
        if let (Some(scheme), Some(credentials)) =
            (auth["scheme"].as_str(), auth["credentials"].as_str())
            && let Ok(value) = HeaderValue::try_from(format!("{scheme} {credentials}"))
        {
            headers.insert(AUTHORIZATION, value);
        }
        let config = config.as_object().cloned().unwrap_or_default();
        Some(Self { config, http: Http::new(url).ok()?, headers, version })
    }

    fn id(&self) -> String {
        self.config.get("id").and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    fn kept(&self) -> KeptHook {
        KeptHook { config: self.config.clone(), old: self.version == Version::V03 }
    }

    fn shown(&self, task: &str) -> Value {
        let mut config = self.config.clone();
        config.insert("taskId".to_owned(), Value::from(task));
        Value::Object(config)
    }

    /// Posts, again if need be. A webhook that never answers misses what it should have heard.
    async fn post(&self, body: &Value) {
        let body = Bytes::from(body.to_string());
        for attempt in 0..HOOK_TRIES {
            tokio::time::sleep(LOOK_MIN * attempt).await;
            let sent = self.http.notify(self.headers.clone(), body.clone());
            match tokio::time::timeout(HOOK_PATIENCE, sent).await {
                Ok(Ok(status)) if status < 500 => return,
                Ok(Ok(_) | Err(_)) | Err(_) => {}
            }
        }
        tracing::warn!(url = %self.http.uri(), "a webhook does not answer");
    }
}

impl Asked {
    /// What an exchange asks of a task's webhooks, or of a message that brings one; `None` for anything else.
    pub(super) fn read(exchange: &Exchange) -> Option<Self> {
        let rest = exchange
            .path
            .split_once('/')
            .map(|(_, rest)| rest.split('?').next().unwrap_or_default());
        match rest.filter(|rest| !rest.is_empty()) {
            Some(rest) => Self::read_rest(exchange, rest),
            None => Self::read_rpc(&exchange.body),
        }
    }

    /// The same for the body of a request of JSON-RPC.
    pub(super) fn read_rpc(body: &str) -> Option<Self> {
        // Few messages hold the words at all, so that few are parsed twice.
        if !body.contains("ushNotificationConfig") {
            return None;
        }
        let message: Value = serde_json::from_str(body).ok()?;
        let old = message["method"].as_str()?.contains('/');
        let version = if old { Version::V03 } else { Version::V10 };
        // Translated twice, it is what it was.
        let (as_old, method) = match version {
            Version::V03 => shim::request(&message, Version::V10).ok()?,
            Version::V10 => (message.clone(), shim::request(&message, Version::V03).ok()?.1),
        };
        let params = as_old["params"].as_object()?.clone();
        Some(Self { method, params, version, id: Some(message["id"].clone()) })
    }

    fn read_rest(exchange: &Exchange, rest: &str) -> Option<Self> {
        let mut params: Map<String, Value> =
            serde_json::from_str(&exchange.body).unwrap_or_default();
        let parts: Vec<&str> = rest.trim_end_matches('/').split('/').collect();
        let method = match (exchange.method, parts.as_slice()) {
            (Method::Post, ["message:send"]) => "SendMessage",
            (Method::Post, ["message:stream"]) => "SendStreamingMessage",
            (method, ["tasks", task, "pushNotificationConfigs", config @ ..])
                if config.len() < 2 =>
            {
                params.insert("taskId".to_owned(), Value::from(*task));
                if let [config] = config {
                    params.insert("id".to_owned(), Value::from(*config));
                }
                match (method, config.len()) {
                    (Method::Post, 0) => "CreateTaskPushNotificationConfig",
                    (Method::Get, 0) => "ListTaskPushNotificationConfigs",
                    (Method::Get, _) => "GetTaskPushNotificationConfig",
                    (Method::Delete, 1) => "DeleteTaskPushNotificationConfig",
                    (Method::Post | Method::Delete, _) => return None,
                }
            }
            _ => return None,
        };
        Some(Self { method, params, version: Version::V10, id: None })
    }

    /// The webhook that a message brings along, which is this endpoint's to call.
    pub(super) fn hook_of_message(&self) -> Option<Hook> {
        if !matches!(self.method, "SendMessage" | "SendStreamingMessage") {
            return None;
        }
        Hook::read(
            self.params.get("configuration")?.get("taskPushNotificationConfig")?,
            self.version,
        )
    }

    fn text(&self, name: &str) -> String {
        self.params.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// The answer, in the words of whoever asked.
    fn answered(&self, result: Value) -> Response {
        let Some(id) = &self.id else { return json_response(&result) };
        let message = json!({"jsonrpc": "2.0", "id": id, "result": result});
        json_response(&match self.version {
            Version::V10 => message,
            Version::V03 => shim::answer(message, self.method, Version::V03),
        })
    }

    fn refused(&self, error: &Value) -> Response {
        let code = error["code"].as_i64().unwrap_or(-32603);
        let text = error["message"].as_str().unwrap_or("there is no such task");
        match &self.id {
            Some(id) => rpc_error(id, code, text),
            None => {
                let mut response = json_response(
                    &json!({"error": {"code": 404, "status": "NOT_FOUND", "message": text}}),
                );
                *response.status_mut() = axum::http::StatusCode::NOT_FOUND;
                response
            }
        }
    }
}

/// Takes the webhook out of a message in either version, so that the agent does not call it.
pub(super) fn without_hook(body: &str) -> Option<String> {
    let mut message: Value = serde_json::from_str(body).ok()?;
    for configuration in ["/params/configuration", "/configuration"] {
        if let Some(Value::Object(configuration)) = message.pointer_mut(configuration) {
            configuration.remove("taskPushNotificationConfig");
            configuration.remove("pushNotificationConfig");
        }
    }
    Some(message.to_string())
}

/// The task that an answer or an event is about, in either version and binding.
pub(super) fn task_of(message: &Value) -> Option<String> {
    let result = message.get("result").unwrap_or(message);
    let places = ["/task/id", "/statusUpdate/taskId", "/artifactUpdate/taskId", "/taskId"];
    let named = places.iter().find_map(|place| result.pointer(place));
    let named = named.or_else(|| result.get("id").filter(|_| result["kind"] == "task"));
    named?.as_str().map(str::to_owned)
}

/// Looks through an answer as it passes for the task it is about.
#[derive(Debug)]
pub(super) struct Sniffer {
    agents: Agents,
    agent: String,
    hook: Option<Hook>,
    streams: bool,
    events: Events,
    whole: Vec<u8>,
}

impl Sniffer {
    pub(super) fn new(agents: Agents, agent: String, hook: Hook, streams: bool) -> Self {
        Self {
            agents,
            agent,
            hook: Some(hook),
            streams,
            events: Events::default(),
            whole: Vec::new(),
        }
    }

    /// Sees the next bytes, or that there are no more.
    pub(super) fn see(&mut self, bytes: Option<&Bytes>) {
        if self.hook.is_none() {
            return;
        }
        match bytes {
            Some(bytes) if self.streams => {
                for event in self.events.feed(bytes) {
                    self.found(&event);
                }
            }
            Some(bytes) if self.whole.len() + bytes.len() <= TASK_BYTES_MAX => {
                self.whole.extend_from_slice(bytes);
            }
            Some(_) => {}
            None => {
                let whole = std::mem::take(&mut self.whole);
                self.found(&whole);
            }
        }
    }

    fn found(&mut self, message: &[u8]) {
        let task = serde_json::from_slice(message).ok().and_then(|message| task_of(&message));
        if let Some(task) = task
            && let Some(hook) = self.hook.take()
        {
            // A task beyond the bound is not followed; who asked for it so explicitly would be told.
            let _ = self.agents.watch(&self.agent, &task, hook);
        }
    }
}

impl Agents {
    /// Answers a request about webhooks that this endpoint keeps; `None` when it is the agent's to answer.
    pub(super) async fn about_hooks(&self, name: &str, asked: &Asked) -> Option<Response> {
        let task = asked.text("taskId");
        let key = (name.to_owned(), task.clone());
        match asked.method {
            "CreateTaskPushNotificationConfig" => {
                let mut config = asked.params.clone();
                config.remove("taskId");
                let hook = Hook::read(&Value::Object(config), asked.version)?;
                // Only what the agent has can be followed.
                let found = self.ask(name, "GetTask", json!({ "id": task })).await.ok()?;
                if found["error"].is_object() {
                    return Some(asked.refused(&found["error"]));
                }
                Some(match self.watch(name, &task, hook) {
                    Ok(config) => asked.answered(config),
                    Err(error) => asked.refused(&json!({"message": error.message})),
                })
            }
            "GetTaskPushNotificationConfig" => {
                let id = asked.text("id");
                let followed = self.followed();
                let hooks = &followed.get(&key)?.hooks;
                let hook =
                    hooks.get(&id).or_else(|| hooks.values().next().filter(|_| id.is_empty()))?;
                Some(asked.answered(hook.shown(&task)))
            }
            "ListTaskPushNotificationConfigs" => {
                let mine: Vec<Value> = {
                    let followed = self.followed();
                    followed.get(&key)?.hooks.values().map(|hook| hook.shown(&task)).collect()
                };
                let theirs = self.ask(name, asked.method, json!({ "taskId": task })).await;
                let theirs =
                    theirs.ok().and_then(|said| said["result"]["configs"].as_array().cloned());
                let all: Vec<Value> = mine.into_iter().chain(theirs.unwrap_or_default()).collect();
                Some(asked.answered(json!({ "configs": all })))
            }
            "DeleteTaskPushNotificationConfig" => {
                {
                    let mut followed = self.followed();
                    let watch = followed.get_mut(&key)?;
                    watch.hooks.remove(&asked.text("id"))?;
                    if watch.hooks.is_empty() {
                        followed.remove(&key);
                    }
                }
                self.keep();
                Some(asked.answered(json!({})))
            }
            _ => None,
        }
    }

    /// Follows a task for a webhook, and returns its configuration as it is kept.
    fn watch(&self, agent: &str, task: &str, hook: Hook) -> Result<Value, ErrorInfo> {
        if Value::from(hook.config.clone()).to_string().len() > HOOK_BYTES_MAX {
            let text = format!("a webhook is described in at most {HOOK_BYTES_MAX} bytes");
            return Err(ErrorInfo::new(ErrorCode::TooLarge, text));
        }
        let shown = self.add_hook(agent, task, hook)?;
        self.keep();
        Ok(shown)
    }

    fn add_hook(&self, agent: &str, task: &str, mut hook: Hook) -> Result<Value, ErrorInfo> {
        let full = |what: &str| Err(ErrorInfo::new(ErrorCode::Busy, what));
        let key = (agent.to_owned(), task.to_owned());
        let mut followed = self.followed();
        let held = followed.get(&key).map_or(0, |watch| watch.hooks.len());
        if hook.id().is_empty() {
            hook.config.insert("id".to_owned(), Value::from(format!("webhook-{held}")));
        }
        let shown = hook.shown(task);
        if let Some(watch) = followed.get_mut(&key) {
            if held >= HOOKS_MAX && !watch.hooks.contains_key(&hook.id()) {
                return full("the task has too many webhooks");
            }
            watch.hooks.insert(hook.id(), hook);
            return Ok(shown);
        }
        if followed.len() >= FOLLOWED_MAX {
            return full("too many tasks are followed");
        }
        let hooks = BTreeMap::from([(hook.id(), hook)]);
        let most = u64::try_from(FOLLOW_MAX.as_millis()).unwrap_or(u64::MAX);
        self.begin(&mut followed, key, hooks, now_ms().saturating_add(most), Value::Null);
        Ok(shown)
    }

    /// Follows a task that an endpoint before this one followed.
    pub(super) fn follow_again(&self, kept: KeptTask) {
        let KeptTask { agent, task, until_ms, last, hooks, .. } = kept;
        let hooks: BTreeMap<String, Hook> = hooks
            .into_iter()
            .take(HOOKS_MAX)
            .filter_map(|kept| {
                let version = kept.version();
                Hook::read(&Value::Object(kept.config), version)
            })
            .map(|hook| (hook.id(), hook))
            .collect();
        let mut followed = self.followed();
        if !hooks.is_empty() && followed.len() < FOLLOWED_MAX {
            self.begin(&mut followed, (agent, task), hooks, until_ms, last);
        }
    }

    fn begin(
        &self,
        followed: &mut Followed,
        key: (String, String),
        hooks: BTreeMap<String, Hook>,
        until_ms: u64,
        last: Value,
    ) {
        let (agents, of, first) = (self.clone(), key.clone(), last.clone());
        let left = Duration::from_millis(until_ms.saturating_sub(now_ms())).min(FOLLOW_MAX);
        let follower = tokio::spawn(async move {
            let _ = tokio::time::timeout(left, agents.follow(&of, first)).await;
            agents.followed().remove(&of);
            agents.keep();
        });
        let follower = AbortOnDropHandle::new(follower);
        followed.insert(key, Watch { hooks, until_ms, last, _follower: follower });
    }

    /// Writes to disk what is followed, if this endpoint is the one that does.
    fn keep(&self) {
        let Some(kept) = self.kept() else { return };
        kept.save(|| {
            let group = self.group();
            let followed = self.followed();
            if kept.ended.load(Ordering::Relaxed) {
                return None;
            }
            let all = followed
                .iter()
                .map(|((agent, task), watch)| KeptTask {
                    agent: agent.clone(),
                    task: task.clone(),
                    group: group.clone(),
                    until_ms: watch.until_ms,
                    last: watch.last.clone(),
                    hooks: watch.hooks.values().map(Hook::kept).collect(),
                })
                .collect();
            Some(all)
        });
    }

    /// Remembers which state the webhooks of a task were told.
    fn told(&self, key: &(String, String), state: &Value) {
        if let Some(watch) = self.followed().get_mut(key) {
            if watch.last == *state {
                return;
            }
            watch.last.clone_from(state);
        }
        self.keep();
    }

    /// Tells the webhooks of a task, which know of the state `last`, what happens to it until nothing more can. A stream that breaks off
    /// is taken up again.
    async fn follow(&self, key: &(String, String), mut last: Value) {
        let (agent, task) = key;
        let mut pause = LOOK_MIN;
        loop {
            if self.follow_stream(key, &mut last, &mut pause).await {
                return;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK_MAX);
            let Ok(found) = self.ask(agent, "GetTask", json!({ "id": task })).await else {
                continue;
            };
            if found["error"].is_object() {
                return;
            }
            let state = found["result"]["status"]["state"].clone();
            if state != last {
                last = state.clone();
                self.tell(key, &json!({"task": found["result"]})).await;
                self.told(key, &state);
            }
            if is_final(&state) {
                return;
            }
        }
    }

    /// Follows the stream of a task; whether it came to its end.
    async fn follow_stream(
        &self,
        key: &(String, String),
        last: &mut Value,
        pause: &mut Duration,
    ) -> bool {
        let (agent, task) = key;
        let Ok((mut answer, native)) =
            self.send_rpc(agent, "SubscribeToTask", json!({ "id": task })).await
        else {
            return false;
        };
        let (mut events, mut first) = (Events::default(), true);
        while let Some(Ok(bytes)) = answer.next().await {
            for event in events.feed(&bytes) {
                let mut message: Value = serde_json::from_slice(&event).unwrap_or_default();
                if native == Version::V03 {
                    message = shim::answer(message, "SubscribeToTask", Version::V10);
                }
                let event = message["result"].take();
                let state = ["/task/status/state", "/statusUpdate/status/state"];
                let state = state.iter().find_map(|place| event.pointer(place)).cloned();
                // A stream begins with the task as it is, which is news only if it changed since.
                let known = std::mem::take(&mut first)
                    && event.get("task").is_some()
                    && state
                        .as_ref()
                        .is_some_and(|state| state == last || (last.is_null() && !is_final(state)));
                if let Some(state) = &state {
                    last.clone_from(state);
                }
                *pause = LOOK_MIN;
                if event.is_object() && !known {
                    self.tell(key, &event).await;
                }
                if let Some(state) = &state {
                    self.told(key, state);
                }
                if state.as_ref().is_some_and(is_final) {
                    return true;
                }
            }
        }
        false
    }

    async fn tell(&self, key: &(String, String), event: &Value) {
        let hooks: Vec<Hook> = self
            .followed()
            .get(key)
            .map(|watch| watch.hooks.values().cloned().collect())
            .unwrap_or_default();
        let mut whole = None;
        for hook in hooks {
            if hook.version == Version::V10 {
                hook.post(event).await;
                continue;
            }
            if whole.is_none() {
                let found = self.ask(&key.0, "GetTask", json!({ "id": key.1 })).await;
                whole = found.ok().map(|mut said| shim::task(said["result"].take(), Version::V03));
            }
            if let Some(task) = &whole {
                hook.post(task).await;
            }
        }
    }

    /// A request of JSON-RPC in the words of 1.0 and its answer in the same, whatever the agent speaks.
    async fn ask(&self, name: &str, method: &str, params: Value) -> Result<Value, ErrorInfo> {
        let (mut answer, native) = self.send_rpc(name, method, params).await?;
        let body = answer.whole(TASK_BYTES_MAX).await?;
        let message: Value = serde_json::from_slice(&body).map_err(|_| {
            ErrorInfo::new(ErrorCode::CallFailed, "the agent gave something that is no JSON")
        })?;
        Ok(if native == Version::V03 {
            shim::answer(message, method, Version::V10)
        } else {
            message
        })
    }
}

/// Whether nothing can happen to a task in this state.
fn is_final(state: &Value) -> bool {
    let last = ["COMPLETED", "FAILED", "CANCELED", "REJECTED"];
    state
        .as_str()
        .and_then(|state| state.strip_prefix("TASK_STATE_"))
        .is_some_and(|state| last.contains(&state))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rpc(method: &str, params: Value) -> Exchange {
        let body =
            json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params}).to_string();
        Exchange { method: Method::Post, path: "0".to_owned(), headers: BTreeMap::new(), body }
    }

    #[test]
    fn requests_about_webhooks_are_known_in_every_spelling() {
        let new = Asked::read(&rpc(
            "CreateTaskPushNotificationConfig",
            json!({"taskId": "t", "url": "http://localhost:1/x"}),
        ));
        let new = new.unwrap();
        assert_eq!(
            (new.method, new.text("taskId"), new.version),
            ("CreateTaskPushNotificationConfig", "t".to_owned(), Version::V10)
        );
        let old = json!({"taskId": "t", "pushNotificationConfig": {"url": "http://localhost:1/x", "authentication": {"schemes": ["Basic"]}}});
        let old = Asked::read(&rpc("tasks/pushNotificationConfig/set", old)).unwrap();
        assert_eq!((old.text("taskId"), old.version), ("t".to_owned(), Version::V03));
        assert_eq!(old.params["authentication"]["scheme"], "Basic");
        let rest = |method: Method, path: &str| {
            let exchange = Exchange {
                method,
                path: path.to_owned(),
                headers: BTreeMap::new(),
                body: "{\"url\":\"u\"}".to_owned(),
            };
            Asked::read(&exchange).map(|asked| (asked.method, asked.text("id")))
        };
        assert_eq!(
            rest(Method::Post, "1/tasks/t/pushNotificationConfigs"),
            Some(("CreateTaskPushNotificationConfig", String::new()))
        );
        assert_eq!(
            rest(Method::Get, "1/tasks/t/pushNotificationConfigs?x=1"),
            Some(("ListTaskPushNotificationConfigs", String::new()))
        );
        assert_eq!(
            rest(Method::Delete, "1/tasks/t/pushNotificationConfigs/c/"),
            Some(("DeleteTaskPushNotificationConfig", "c".to_owned()))
        );
        for (method, path) in [
            (Method::Get, "1/tasks/t"),
            (Method::Post, "1/tasks/t/pushNotificationConfigs/c"),
            (Method::Get, "1/tasks/t/pushNotificationConfigs/c/d"),
        ] {
            assert_eq!(rest(method, path), None, "{path}");
        }
        assert_eq!(Asked::read(&rpc("SendMessage", json!({"message": {}}))), None);
    }

    #[test]
    fn only_webhooks_of_this_machine_are_kept_here() {
        for url in [
            "http://localhost:9/x",
            "http://127.0.0.1:9",
            "http://127.8.8.8/",
            "http://[::1]:9/x",
            "http://LOCALHOST/",
        ] {
            assert!(Hook::read(&json!({ "url": url }), Version::V10).is_some(), "{url}");
        }
        for url in [
            "https://localhost/x",
            "http://localhost.evil.example/",
            "http://10.0.0.1/",
            "http://127.0.0.1@evil.example/",
            "file:///x",
            "",
            "http://169.254.169.254/",
        ] {
            assert!(Hook::read(&json!({ "url": url }), Version::V10).is_none(), "{url}");
        }
        let hook = json!({"url": "http://localhost:1/", "token": "t", "authentication": {"scheme": "Bearer", "credentials": "c\r\nx: y"}});
        let hook = Hook::read(&hook, Version::V10).unwrap();
        assert_eq!(
            (hook.headers.get(TOKEN).unwrap(), hook.headers.get(AUTHORIZATION)),
            (&HeaderValue::from_static("t"), None)
        );
    }

    #[test]
    fn a_message_loses_its_webhook_and_nothing_else() {
        let body = r#"{"params":{"configuration":{"taskPushNotificationConfig":{"url":"x"},"returnImmediately":true},"message":{"n":1.5}}}"#;
        let without: Value = serde_json::from_str(&without_hook(body).unwrap()).unwrap();
        assert_eq!(
            without,
            json!({"params": {"configuration": {"returnImmediately": true}, "message": {"n": 1.5}}})
        );
        for (message, task) in [
            (json!({"result": {"task": {"id": "a"}}}), Some("a")),
            (json!({"result": {"kind": "task", "id": "b"}}), Some("b")),
            (json!({"statusUpdate": {"taskId": "c"}}), Some("c")),
            (json!({"result": {"message": {"messageId": "m"}}}), None),
        ] {
            assert_eq!(task_of(&message).as_deref(), task);
        }
    }
}
