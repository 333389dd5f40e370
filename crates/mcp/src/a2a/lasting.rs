//! Streams of tasks that outlast the way they come by.
//!
//! An exchange over the network ends after ten minutes at most, or when a node on the way is started anew, while a task goes on. A stream
//! that breaks off is taken up again at the agent, and its events go on in the words of the request that the client made.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use serde_json::{Value, json};

use super::endpoint::Agents;
use super::push::{Sniffer, task_of};
use super::shim::{self, Version};
use crate::whole::connect::{Answer, response_of};
use crate::whole::{Events, Exchange, Method, RESUMES_MAX};

/// Pause before a stream is taken up again; doubles up to the longest.
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// How the client hears of events.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wording {
    /// Of the request of JSON-RPC; HTTP+JSON has none.
    id: Option<Value>,
    version: Version,
}

impl Wording {
    /// Of a request that is answered by the stream of a task; `None` for all others.
    pub(super) fn of(exchange: &Exchange) -> Option<Self> {
        let rest = exchange
            .path
            .split_once('/')
            .map(|(_, rest)| rest.split('?').next().unwrap_or_default());
        if let Some(rest) = rest.filter(|rest| !rest.is_empty()) {
            let streams = rest == "message:stream" || rest.ends_with(":subscribe");
            return streams.then_some(Self { id: None, version: Version::V10 });
        }
        // Few messages hold the words at all, so that few are parsed twice.
        if exchange.method != Method::Post
            || !(exchange.body.contains("tream") || exchange.body.contains("ubscribe"))
        {
            return None;
        }
        let message: Value = serde_json::from_str(&exchange.body).ok()?;
        let version = match message["method"].as_str()? {
            "SendStreamingMessage" | "SubscribeToTask" => Version::V10,
            "message/stream" | "tasks/resubscribe" => Version::V03,
            _ => return None,
        };
        Some(Self { id: Some(message["id"].clone()), version })
    }

    /// An event of the agent's, which `native` words it, as this client hears it.
    fn event(&self, mut message: Value, native: Version) -> Bytes {
        if native != self.version {
            message = shim::answer(message, "SubscribeToTask", self.version);
        }
        let said = match &self.id {
            Some(id) => {
                message["id"] = id.clone();
                message
            }
            None => message["result"].take(),
        };
        Bytes::from(format!("data: {said}\n\n"))
    }
}

/// A stream on its way to the client.
struct Lasting {
    agents: Agents,
    agent: String,
    wording: Wording,
    answer: Answer,
    /// Whose words the stream is in, once it was taken up again.
    native: Option<Version>,
    events: Events,
    task: Option<String>,
    resumed: u32,
    sniffer: Option<Sniffer>,
}

/// Hands a stream on as it comes; when it breaks off, what follows is taken from the task's own stream.
pub(super) fn respond_lasting(
    agents: Agents,
    agent: &str,
    wording: Wording,
    answer: Answer,
    sniffer: Option<Sniffer>,
) -> Response {
    let mut response = response_of(&answer);
    let agent = agent.to_owned();
    let (native, events, task, resumed) = (None, Events::default(), None, 0);
    let state = Lasting { agents, agent, wording, answer, native, events, task, resumed, sniffer };
    let body = stream::unfold(Some(state), |state| async move {
        let mut state = state?;
        match state.next().await? {
            Ok(bytes) => Some((Ok(bytes), Some(state))),
            Err(text) => Some((Err(std::io::Error::other(text)), None)),
        }
    });
    *response.body_mut() = Body::from_stream(body);
    response
}

impl Lasting {
    async fn next(&mut self) -> Option<Result<Bytes, String>> {
        loop {
            match self.answer.next().await? {
                Ok(bytes) => {
                    let out = self.take(&bytes);
                    if !out.is_empty() {
                        return Some(Ok(out));
                    }
                }
                Err(error) => {
                    let task = self.task.clone();
                    if let Some(task) = task
                        && self.resume(&task).await
                    {
                        // What was begun and not ended is over.
                        return Some(Ok(Bytes::from_static(b"\n\n")));
                    }
                    return Some(Err(error.message));
                }
            }
        }
    }

    /// What the client gets of the next bytes.
    fn take(&mut self, bytes: &Bytes) -> Bytes {
        if let Some(sniffer) = &mut self.sniffer {
            sniffer.see(Some(bytes));
        }
        let mut out = Vec::new();
        for event in self.events.feed(bytes) {
            let message: Value = serde_json::from_slice(&event).unwrap_or_default();
            if self.task.is_none() {
                self.task = task_of(&message);
            }
            if let Some(native) = self.native {
                out.extend_from_slice(&self.wording.event(message, native));
            }
        }
        if self.native.is_none() { bytes.clone() } else { Bytes::from(out) }
    }

    /// Takes the stream of the task up again; whether that came about.
    async fn resume(&mut self, task: &str) -> bool {
        while self.resumed < RESUMES_MAX {
            tokio::time::sleep((PAUSE * (1 << self.resumed.min(10))).min(PAUSE_MAX)).await;
            self.resumed += 1;
            let asked = self.agents.send_rpc(&self.agent, "SubscribeToTask", json!({ "id": task }));
            if let Ok((answer, native)) = asked.await {
                (self.answer, self.native, self.events) = (answer, Some(native), Events::default());
                return super::endpoint::streams(&response_of(&self.answer));
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(path: &str, body: &Value) -> Option<Wording> {
        let (path, body) = (path.to_owned(), body.to_string());
        Wording::of(&Exchange { method: Method::Post, path, headers: Default::default(), body })
    }

    #[test]
    fn requests_that_are_answered_by_streams_are_known() {
        let rpc = |method: &str| asked("0", &json!({"id": 7, "method": method}));
        let found = |version| Some(Wording { id: Some(json!(7)), version });
        assert_eq!(rpc("SendStreamingMessage"), found(Version::V10));
        assert_eq!(rpc("tasks/resubscribe"), found(Version::V03));
        assert_eq!((rpc("SendMessage"), rpc("stream")), (None, None));
        let rest = Some(Wording { id: None, version: Version::V10 });
        assert_eq!(asked("1/message:stream?x", &json!({})), rest);
        assert_eq!(asked("1/tasks/a:subscribe", &json!({})), rest);
        assert_eq!(asked("1/message:send", &json!({})), None);
    }

    #[test]
    fn events_are_in_the_words_of_the_request() {
        let message = json!({"jsonrpc": "2.0", "id": 1, "result": {"task": {"id": "t", "status": {"state": "TASK_STATE_WORKING"}}}});
        let said = |wording: &Wording| {
            let text = wording.event(message.clone(), Version::V10);
            let text = std::str::from_utf8(&text).unwrap().trim().to_owned();
            serde_json::from_str::<Value>(text.strip_prefix("data: ").unwrap()).unwrap()
        };
        let new = said(&Wording { id: Some(json!("x")), version: Version::V10 });
        assert_eq!((&new["id"], &new["result"]["task"]["id"]), (&json!("x"), &json!("t")));
        let old = said(&Wording { id: Some(json!("x")), version: Version::V03 });
        assert_eq!(
            (&old["result"]["kind"], &old["result"]["status"]["state"]),
            (&json!("task"), &json!("working"))
        );
        assert_eq!(said(&Wording { id: None, version: Version::V10 })["task"]["id"], "t");
    }
}
