//! A2A 0.3 and 1.0 over JSON-RPC, each as the other: requests, answers, and the events of streams.
//!
//! What one version has no word for is said as close as it comes: `ListTasks` has none in 0.3 and is refused; error codes
//! that 0.3 does not know become internal errors; data that is no object travels as `{"value": …}` in 0.3, marked by
//! `data_part_compat` in the part's metadata as the official SDKs do.

use serde_json::{Map, Value, json};

/// A version of A2A.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// 0.3
    V03,
    /// 1.0
    V10,
}

/// Marks data that was no object, in the metadata of a part of 0.3.
const DATA_COMPAT: &str = "data_part_compat";
/// The highest error code of A2A 0.3 (authenticated extended card not configured); the lowest is -32001.
const LAST_03_CODE: i64 = -32007;
/// A2A: the operation is not supported.
pub const UNSUPPORTED: i64 = -32004;

/// What a method is called in 0.3 and in 1.0.
const METHODS: [(&str, &str); 10] = [
    ("message/send", "SendMessage"),
    ("message/stream", "SendStreamingMessage"),
    ("tasks/get", "GetTask"),
    ("tasks/cancel", "CancelTask"),
    ("tasks/resubscribe", "SubscribeToTask"),
    ("tasks/pushNotificationConfig/set", "CreateTaskPushNotificationConfig"),
    ("tasks/pushNotificationConfig/get", "GetTaskPushNotificationConfig"),
    ("tasks/pushNotificationConfig/list", "ListTaskPushNotificationConfigs"),
    ("tasks/pushNotificationConfig/delete", "DeleteTaskPushNotificationConfig"),
    ("agent/getAuthenticatedExtendedCard", "GetExtendedAgentCard"),
];

/// States of a task in 0.3 and in 1.0.
const STATES: [(&str, &str); 9] = [
    ("unknown", "TASK_STATE_UNSPECIFIED"),
    ("submitted", "TASK_STATE_SUBMITTED"),
    ("working", "TASK_STATE_WORKING"),
    ("completed", "TASK_STATE_COMPLETED"),
    ("failed", "TASK_STATE_FAILED"),
    ("canceled", "TASK_STATE_CANCELED"),
    ("input-required", "TASK_STATE_INPUT_REQUIRED"),
    ("rejected", "TASK_STATE_REJECTED"),
    ("auth-required", "TASK_STATE_AUTH_REQUIRED"),
];

/// Whether nothing follows a task's state.
fn is_final(state: &str) -> bool {
    matches!(state, "completed" | "failed" | "canceled" | "rejected")
}

/// A request in the other version, and the name its method has in 1.0.
///
/// # Errors
/// The text of an error (-32601 when the method is unknown, else -32602) for the client.
pub fn request(message: &Value, to: Version) -> Result<(Value, &'static str), (i64, String)> {
    let method = message["method"].as_str().unwrap_or_default();
    let found = METHODS.into_iter().find(|(old, new)| match to {
        Version::V10 => *old == method,
        Version::V03 => *new == method,
    });
    let Some((old, new)) = found else {
        let text = format!(
            "{} cannot be said in the agent's version of A2A",
            crate::text::clean(method, 80)
        );
        let code = if method == "ListTasks" && to == Version::V03 { UNSUPPORTED } else { -32601 };
        return Err((code, text));
    };
    let params = match &message["params"] {
        Value::Object(params) => params.clone(),
        Value::Null => Map::new(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            return Err((-32602, "`params` must be an object".to_owned()));
        }
    };
    let params = match to {
        Version::V10 => params_to_10(new, params),
        Version::V03 => params_to_03(new, params),
    };
    let method = if to == Version::V10 { new } else { old };
    let mut out = json!({"jsonrpc": "2.0", "method": method, "params": params});
    if let Some(id) = message.get("id") {
        out["id"] = id.clone();
    }
    Ok((out, new))
}

/// An answer, or an event of a stream, to a request whose method is called `method` in 1.0.
#[must_use]
pub fn answer(mut message: Value, method: &str, to: Version) -> Value {
    if let Some(code) = message.pointer_mut("/error/code") {
        let number = code.as_i64().unwrap_or(0);
        if to == Version::V03 && number < -32_000 && number > -32_100 && number < LAST_03_CODE {
            *code = Value::from(-32603);
        }
        return message;
    }
    let result = message["result"].take();
    message["result"] = match (method, to) {
        ("SendMessage" | "SendStreamingMessage" | "SubscribeToTask", Version::V03) => {
            event_to_03(result)
        }
        ("SendMessage" | "SendStreamingMessage" | "SubscribeToTask", Version::V10) => {
            event_to_10(result)
        }
        ("GetTask" | "CancelTask", Version::V03) => task(result, Version::V03),
        ("GetTask" | "CancelTask", Version::V10) => task(result, Version::V10),
        ("CreateTaskPushNotificationConfig" | "GetTaskPushNotificationConfig", to) => {
            push(result, to)
        }
        ("ListTaskPushNotificationConfigs", Version::V03) => {
            let list = result.get("configs").and_then(Value::as_array).cloned().unwrap_or_default();
            list.into_iter().map(|one| push(one, Version::V03)).collect()
        }
        ("ListTaskPushNotificationConfigs", Version::V10) => {
            let list = result.as_array().cloned().unwrap_or_default();
            let list: Vec<Value> = list.into_iter().map(|one| push(one, Version::V10)).collect();
            json!({ "configs": list })
        }
        ("DeleteTaskPushNotificationConfig", Version::V03) => Value::Null,
        ("DeleteTaskPushNotificationConfig", Version::V10) => json!({}),
        _ => result,
    };
    message
}

/// Renames a member.
fn rename(object: &mut Map<String, Value>, from: &str, to: &str) {
    if let Some(value) = object.remove(from) {
        object.insert(to.to_owned(), value);
    }
}

/// Replaces a member by what `change` makes of it.
fn change(object: &mut Map<String, Value>, name: &str, change: impl FnOnce(Value) -> Value) {
    if let Some(value) = object.get_mut(name) {
        *value = change(value.take());
    }
}

/// Replaces each entry of a list.
fn each(object: &mut Map<String, Value>, name: &str, change: impl Fn(Value) -> Value) {
    if let Some(Value::Array(list)) = object.get_mut(name) {
        for entry in list {
            *entry = change(entry.take());
        }
    }
}

fn params_to_10(method: &str, mut params: Map<String, Value>) -> Value {
    match method {
        "SendMessage" | "SendStreamingMessage" => {
            change(&mut params, "message", |one| message(one, Version::V10));
            if let Some(Value::Object(configuration)) = params.get_mut("configuration") {
                if let Some(Value::Bool(blocking)) = configuration.remove("blocking") {
                    configuration.insert("returnImmediately".to_owned(), Value::from(!blocking));
                }
                // 0.3 means the whole history by 0.
                if configuration.get("historyLength") == Some(&Value::from(0)) {
                    configuration.remove("historyLength");
                }
                rename(configuration, "pushNotificationConfig", "taskPushNotificationConfig");
                change(configuration, "taskPushNotificationConfig", |one| {
                    authentication(one, Version::V10)
                });
            }
        }
        "CreateTaskPushNotificationConfig" => return push(Value::Object(params), Version::V10),
        "GetTaskPushNotificationConfig" | "DeleteTaskPushNotificationConfig" => {
            params.remove("metadata");
            rename(&mut params, "id", "taskId");
            rename(&mut params, "pushNotificationConfigId", "id");
        }
        "ListTaskPushNotificationConfigs" => {
            params.remove("metadata");
            rename(&mut params, "id", "taskId");
        }
        "GetTask" | "SubscribeToTask" => {
            params.remove("metadata");
        }
        _ => {}
    }
    Value::Object(params)
}

fn params_to_03(method: &str, mut params: Map<String, Value>) -> Value {
    params.remove("tenant");
    match method {
        "SendMessage" | "SendStreamingMessage" => {
            change(&mut params, "message", |one| message(one, Version::V03));
            if let Some(Value::Object(configuration)) = params.get_mut("configuration") {
                if let Some(Value::Bool(at_once)) = configuration.remove("returnImmediately") {
                    configuration.insert("blocking".to_owned(), Value::from(!at_once));
                }
                rename(configuration, "taskPushNotificationConfig", "pushNotificationConfig");
                change(configuration, "pushNotificationConfig", |one| {
                    authentication(one, Version::V03)
                });
            }
        }
        "CreateTaskPushNotificationConfig" => return push(Value::Object(params), Version::V03),
        "GetTaskPushNotificationConfig" | "DeleteTaskPushNotificationConfig" => {
            rename(&mut params, "id", "pushNotificationConfigId");
            rename(&mut params, "taskId", "id");
        }
        "ListTaskPushNotificationConfigs" => rename(&mut params, "taskId", "id"),
        _ => {}
    }
    Value::Object(params)
}

/// A push notification's settings: 0.3 nests them, 1.0 does not.
fn push(value: Value, to: Version) -> Value {
    let Value::Object(mut object) = value else { return value };
    match to {
        Version::V10 => {
            let nested = object.remove("pushNotificationConfig");
            let Value::Object(mut flat) = authentication(nested.unwrap_or_else(|| json!({})), to)
            else {
                return json!({});
            };
            if let Some(id) = object.remove("taskId") {
                flat.insert("taskId".to_owned(), id);
            }
            Value::Object(flat)
        }
        Version::V03 => {
            object.remove("tenant");
            let id = object.remove("taskId").unwrap_or_else(|| Value::from(""));
            json!({"taskId": id, "pushNotificationConfig": authentication(Value::Object(object), to)})
        }
    }
}

/// `schemes` of 0.3 is one `scheme` in 1.0.
fn authentication(mut config: Value, to: Version) -> Value {
    if let Some(Value::Object(auth)) = config.get_mut("authentication") {
        match to {
            Version::V10 => {
                let first = auth.remove("schemes").and_then(|list| list.get(0).cloned());
                if let Some(scheme) = first {
                    auth.insert("scheme".to_owned(), scheme);
                }
            }
            Version::V03 => {
                let scheme: Vec<Value> = auth.remove("scheme").into_iter().collect();
                auth.insert("schemes".to_owned(), Value::from(scheme));
            }
        }
    }
    config
}

/// A message.
#[must_use]
pub fn message(value: Value, to: Version) -> Value {
    let Value::Object(mut object) = value else { return value };
    each(&mut object, "parts", |one| part(one, to));
    match to {
        Version::V10 => {
            object.remove("kind");
            let agent = object.get("role").is_some_and(|role| role == "agent");
            object.insert(
                "role".to_owned(),
                Value::from(if agent { "ROLE_AGENT" } else { "ROLE_USER" }),
            );
        }
        Version::V03 => {
            object.insert("kind".to_owned(), Value::from("message"));
            let user = object.get("role").is_some_and(|role| role == "ROLE_USER");
            object.insert("role".to_owned(), Value::from(if user { "user" } else { "agent" }));
        }
    }
    Value::Object(object)
}

fn part(value: Value, to: Version) -> Value {
    let Value::Object(mut object) = value else { return value };
    match to {
        Version::V10 => {
            object.remove("kind");
            if let Some(Value::Object(file)) = object.remove("file") {
                for (from, name) in [
                    ("bytes", "raw"),
                    ("uri", "url"),
                    ("mimeType", "mediaType"),
                    ("name", "filename"),
                ] {
                    if let Some(value) = file.get(from).filter(|value| !value.is_null()) {
                        object.insert(name.to_owned(), value.clone());
                    }
                }
            }
            let marked = match object.get_mut("metadata") {
                Some(Value::Object(metadata)) => {
                    metadata.remove(DATA_COMPAT) == Some(Value::Bool(true))
                }
                _ => false,
            };
            if marked {
                change(&mut object, "data", |mut data| data["value"].take());
                if object.get("metadata") == Some(&json!({})) {
                    object.remove("metadata");
                }
            }
        }
        Version::V03 => {
            let media = object.remove("mediaType");
            let name = object.remove("filename");
            let file = [("raw", "bytes"), ("url", "uri")]
                .into_iter()
                .find_map(|(from, to)| object.remove(from).map(|value| (to, value)));
            let kind = if let Some((member, value)) = file {
                let mut file = Map::from_iter([(member.to_owned(), value)]);
                file.extend(media.map(|media| ("mimeType".to_owned(), media)));
                file.extend(name.map(|name| ("name".to_owned(), name)));
                object.insert("file".to_owned(), Value::Object(file));
                "file"
            } else if object.contains_key("data") {
                if !object["data"].is_object() {
                    change(&mut object, "data", |data| json!({ "value": data }));
                    let metadata = object.entry("metadata").or_insert_with(|| json!({}));
                    if let Some(metadata) = metadata.as_object_mut() {
                        metadata.insert(DATA_COMPAT.to_owned(), Value::Bool(true));
                    }
                }
                "data"
            } else {
                "text"
            };
            object.insert("kind".to_owned(), Value::from(kind));
        }
    }
    Value::Object(object)
}

fn state(value: &Value, to: Version) -> Value {
    let text = value.as_str().unwrap_or_default();
    let found =
        STATES.into_iter().find(|(old, new)| *old == text || *new == text).unwrap_or(STATES[0]);
    Value::from(if to == Version::V10 { found.1 } else { found.0 })
}

fn status(value: Value, to: Version) -> Value {
    let Value::Object(mut object) = value else { return value };
    let now = state(object.get("state").unwrap_or(&Value::Null), to);
    object.insert("state".to_owned(), now);
    change(&mut object, "message", |one| if one.is_null() { one } else { message(one, to) });
    if object.get("message").is_some_and(Value::is_null) {
        object.remove("message");
    }
    Value::Object(object)
}

/// A task.
#[must_use]
pub fn task(value: Value, to: Version) -> Value {
    let Value::Object(mut object) = value else { return value };
    change(&mut object, "status", |one| status(one, to));
    each(&mut object, "history", |one| message(one, to));
    each(&mut object, "artifacts", |one| artifact(one, to));
    object.remove("kind");
    if to == Version::V03 {
        object.insert("kind".to_owned(), Value::from("task"));
        object.entry("contextId").or_insert_with(|| Value::from(""));
        object.entry("status").or_insert_with(|| json!({"state": "unknown"}));
    }
    Value::Object(object)
}

fn artifact(value: Value, to: Version) -> Value {
    let Value::Object(mut object) = value else { return value };
    each(&mut object, "parts", |one| part(one, to));
    if to == Version::V03 {
        object.entry("parts").or_insert_with(|| json!([]));
    }
    Value::Object(object)
}

/// What `SendMessage` answers, or an event: 1.0 has one member that says what it is, 0.3 says so in `kind`.
fn event_to_03(value: Value) -> Value {
    let Value::Object(object) = value else { return value };
    let Some((name, inner)) = object.into_iter().next() else { return Value::Null };
    match name.as_str() {
        "task" => task(inner, Version::V03),
        "message" => message(inner, Version::V03),
        "statusUpdate" => {
            let Value::Object(mut event) = inner else { return Value::Null };
            change(&mut event, "status", |one| status(one, Version::V03));
            let last = event
                .get("status")
                .and_then(|status| status["state"].as_str())
                .is_some_and(is_final);
            event.insert("final".to_owned(), Value::from(last));
            event.insert("kind".to_owned(), Value::from("status-update"));
            event.entry("contextId").or_insert_with(|| Value::from(""));
            Value::Object(event)
        }
        "artifactUpdate" => {
            let Value::Object(mut event) = inner else { return Value::Null };
            change(&mut event, "artifact", |one| artifact(one, Version::V03));
            event.insert("kind".to_owned(), Value::from("artifact-update"));
            // 1.0 leaves out what is false.
            for name in ["append", "lastChunk"] {
                event.entry(name).or_insert(Value::Bool(false));
            }
            event.entry("contextId").or_insert_with(|| Value::from(""));
            Value::Object(event)
        }
        _ => Value::Null,
    }
}

fn event_to_10(value: Value) -> Value {
    let kind = value["kind"].as_str().unwrap_or_default().to_owned();
    match kind.as_str() {
        "message" => json!({"message": message(value, Version::V10)}),
        "status-update" | "artifact-update" => {
            let Value::Object(mut event) = value else { return Value::Null };
            event.remove("kind");
            event.remove("final");
            change(&mut event, "status", |one| status(one, Version::V10));
            change(&mut event, "artifact", |one| artifact(one, Version::V10));
            if kind == "status-update" {
                json!({ "statusUpdate": event })
            } else {
                json!({ "artifactUpdate": event })
            }
        }
        _ => json!({"task": task(value, Version::V10)}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn old_message() -> Value {
        json!({
            "kind": "message", "role": "user", "messageId": "m", "contextId": "c",
            "parts": [
                {"kind": "text", "text": "ž 🐎", "metadata": {"a": 1}},
                {"kind": "data", "data": {"x": [1, 2.5]}},
                {"kind": "data", "data": {"value": [1]}, "metadata": {"data_part_compat": true}},
                {"kind": "file", "file": {"bytes": "aGk=", "mimeType": "text/plain", "name": "n"}},
                {"kind": "file", "file": {"uri": "http://x/y"}},
            ],
        })
    }

    #[test]
    fn a_message_goes_there_and_back() {
        let new = message(old_message(), Version::V10);
        assert_eq!(
            new["parts"],
            json!([
                {"text": "ž 🐎", "metadata": {"a": 1}},
                {"data": {"x": [1, 2.5]}},
                {"data": [1]},
                {"raw": "aGk=", "mediaType": "text/plain", "filename": "n"},
                {"url": "http://x/y"},
            ])
        );
        assert_eq!((&new["role"], new.get("kind")), (&json!("ROLE_USER"), None));
        assert_eq!(message(new, Version::V03), old_message());
    }

    #[test]
    fn requests_are_said_in_the_other_version() {
        let old = json!({"jsonrpc": "2.0", "id": 7, "method": "message/send", "params": {
            "message": old_message(),
            "configuration": {"blocking": true, "historyLength": 0, "pushNotificationConfig": {"url": "http://h", "authentication": {"schemes": ["Basic"], "credentials": "c"}}},
        }});
        let (new, method) = request(&old, Version::V10).unwrap();
        assert_eq!(
            (&new["method"], method, &new["id"]),
            (&json!("SendMessage"), "SendMessage", &json!(7))
        );
        assert_eq!(
            new["params"]["configuration"],
            json!({"returnImmediately": false, "taskPushNotificationConfig": {"url": "http://h", "authentication": {"scheme": "Basic", "credentials": "c"}}})
        );
        let (back, _) = request(&new, Version::V03).unwrap();
        assert_eq!(back["params"]["message"], old["params"]["message"]);
        assert_eq!(back["params"]["configuration"]["blocking"], true);
        let get = json!({"method": "tasks/pushNotificationConfig/get", "params": {"id": "t", "pushNotificationConfigId": "p"}});
        let (new, _) = request(&get, Version::V10).unwrap();
        assert_eq!(new["params"], json!({"taskId": "t", "id": "p"}));
        assert_eq!(request(&new, Version::V03).unwrap().0["params"], get["params"]);
        let set = json!({"method": "tasks/pushNotificationConfig/set", "params": {"taskId": "t", "pushNotificationConfig": {"url": "u"}}});
        let (new, _) = request(&set, Version::V10).unwrap();
        assert_eq!(new["params"], json!({"taskId": "t", "url": "u"}));
        assert_eq!(request(&new, Version::V03).unwrap().0["params"], set["params"]);
        assert_eq!(
            request(&json!({"method": "ListTasks"}), Version::V03).unwrap_err().0,
            UNSUPPORTED
        );
        assert_eq!(request(&json!({"method": "no"}), Version::V10).unwrap_err().0, -32601);
        assert_eq!(
            request(&json!({"method": "tasks/get", "params": [1]}), Version::V10).unwrap_err().0,
            -32602
        );
        assert_eq!(request(&json!([]), Version::V10).unwrap_err().0, -32601);
    }

    #[test]
    fn answers_and_events_go_there_and_back() {
        let old = json!({
            "kind": "task", "id": "t", "contextId": "c", "status": {"state": "input-required", "message": old_message()},
            "artifacts": [{"artifactId": "a", "parts": [{"kind": "text", "text": "x"}]}], "history": [old_message()],
        });
        let envelope = |result: Value| json!({"jsonrpc": "2.0", "id": 1, "result": result});
        for method in ["SendMessage", "SendStreamingMessage", "SubscribeToTask"] {
            for result in [
                old.clone(),
                old_message(),
                json!({"kind": "status-update", "taskId": "t", "contextId": "c", "final": true, "status": {"state": "completed"}}),
                json!({"kind": "artifact-update", "taskId": "t", "contextId": "c", "append": true, "lastChunk": false, "artifact": {"artifactId": "a", "parts": [{"kind": "text", "text": "x"}]}}),
            ] {
                let new = answer(envelope(result.clone()), method, Version::V10);
                assert_eq!(new["result"].as_object().unwrap().len(), 1, "{new}");
                assert_eq!(answer(new, method, Version::V03)["result"], result);
            }
        }
        let new = answer(envelope(old.clone()), "GetTask", Version::V10);
        assert_eq!(new["result"]["status"]["state"], "TASK_STATE_INPUT_REQUIRED");
        assert_eq!(answer(new, "GetTask", Version::V03)["result"], old);
        let list = envelope(json!([{"taskId": "t", "pushNotificationConfig": {"url": "u"}}]));
        let new = answer(list.clone(), "ListTaskPushNotificationConfigs", Version::V10);
        assert_eq!(new["result"], json!({"configs": [{"taskId": "t", "url": "u"}]}));
        assert_eq!(answer(new, "ListTaskPushNotificationConfigs", Version::V03), list);
    }

    #[test]
    fn errors_keep_the_codes_the_other_version_knows() {
        let error =
            |code: i64| json!({"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": "m"}});
        for (code, seen) in [
            (-32001, -32001),
            (-32007, -32007),
            (-32009, -32603),
            (-32601, -32601),
            (-32700, -32700),
            (5, 5),
        ] {
            assert_eq!(answer(error(code), "GetTask", Version::V03), error(seen), "{code}");
            assert_eq!(answer(error(code), "GetTask", Version::V10), error(code), "{code}");
        }
    }

    #[test]
    fn garbage_stays_garbage() {
        for value in [
            json!(null),
            json!(1),
            json!([]),
            json!({}),
            json!({"task": 3}),
            json!({"kind": 3}),
            json!({"message": {"parts": [1, {"data": null}]}}),
        ] {
            for method in [
                "SendMessage",
                "GetTask",
                "ListTaskPushNotificationConfigs",
                "CreateTaskPushNotificationConfig",
            ] {
                for to in [Version::V03, Version::V10] {
                    let _ = answer(json!({"result": value}), method, to);
                    let _ = request(
                        &json!({"method": "message/send", "params": {"message": value}}),
                        to,
                    );
                }
            }
        }
    }
}
