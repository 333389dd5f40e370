//! Following a call to its verified end, and putting its answer before a model.

use comity_api::types::{
    Attempt, AttemptOutcome, CallEvent, CallRequest, CallSummary, ErrorCode, ErrorInfo, Proof,
};
use comity_api::{CallStream, Client};
use serde_json::{Map, Value, json};

use super::results::{INLINE_BYTES_MAX, Results, resource};
use crate::pins::Pin;
use crate::protocol::Context;
use crate::text::{clean, scrub};

/// Most bytes of an answer (as JSON) that are held until its signature is checked.
const HELD_BYTES_MAX: usize = 64 << 20;
/// Bytes of a long answer that are shown of it.
const PREVIEW_BYTES: usize = 2 << 10;
/// Longest error text of a peer, in bytes.
const ERROR_BYTES_MAX: usize = 2_000;

/// A verified answer.
pub(super) struct Answered {
    pub(super) items: Vec<Value>,
    attempts: Vec<Attempt>,
    proof: Proof,
    summary: CallSummary,
}

/// Makes a call, tells its progress to a client that wants it, and cancels it at the far end when the client does.
pub(super) async fn follow(
    client: &Client,
    request: &CallRequest,
    context: &Context,
) -> Result<Answered, ErrorInfo> {
    let work = async {
        let mut stream = client.call_stream(request).await.map_err(|error| error.info())?;
        collect(&mut stream, context).await
    };
    // Dropping the stream closes its connection, and the node resets the call at the far end.
    tokio::select! {
        biased;
        () = context.cancel.cancelled() => {
            Err(ErrorInfo::new(ErrorCode::Cancelled, "the call was cancelled, here and at the far end"))
        }
        answered = work => answered,
    }
}

async fn collect(stream: &mut CallStream, context: &Context) -> Result<Answered, ErrorInfo> {
    let (mut items, mut attempts, mut proof) = (Vec::new(), Vec::<Attempt>::new(), None);
    let (mut held, mut steps) = (0, 0_u32);
    while let Some(event) = stream.next().await.map_err(|error| error.info())? {
        match event {
            CallEvent::Attempt(attempt) => {
                if let AttemptOutcome::Started = &attempt.outcome {
                    items.clear();
                    held = 0;
                    let number = attempt.number;
                    steps += 1;
                    context
                        .progress(steps, || {
                            format!("attempt {number}: {}", clean(&attempt.target, 200))
                        })
                        .await;
                }
                attempts.retain(|known| known.number != attempt.number);
                attempts.push(attempt);
            }
            CallEvent::Chunk(chunk) => {
                held += json_len(&chunk.value);
                if held > HELD_BYTES_MAX {
                    let text = format!("the answer exceeds {HELD_BYTES_MAX} bytes");
                    return Err(
                        ErrorInfo::new(ErrorCode::TooLarge, text).hint("ask for less at a time")
                    );
                }
                let index = chunk.index;
                steps += 1;
                context
                    .progress(steps, || format!("part {} arrived, not verified yet", index + 1))
                    .await;
                items.push(chunk.value);
            }
            CallEvent::Receipt(receipt) => proof = Some(receipt),
            CallEvent::Done(summary) => {
                let proof = proof.ok_or_else(|| {
                    ErrorInfo::new(ErrorCode::NotVerified, "the answer came without a receipt")
                })?;
                return Ok(Answered { items, attempts, proof, summary });
            }
            CallEvent::Error(error) => return Err(error),
        }
    }
    Err(ErrorInfo::new(ErrorCode::Internal, "the call ended without an outcome"))
}

/// About how long a value is as JSON.
fn json_len(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 2,
        Value::Null | Value::Bool(_) | Value::Number(_) => 24,
        Value::Array(items) => items.iter().map(|item| json_len(item) + 1).sum::<usize>() + 2,
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| name.len() + 4 + json_len(value);
            members.iter().map(member).sum::<usize>() + 2
        }
    }
}

impl Answered {
    /// Who answered, as it is labelled.
    fn from(&self) -> Value {
        let agent = self.attempts.last().map(|attempt| &attempt.agent);
        json!({
            "target": clean(&self.summary.target, 300),
            "agent": agent.map(|agent| agent.agent.to_string()),
            "handle": agent.map(|agent| agent.handle.clone()),
        })
    }

    fn handle(&self) -> String {
        self.attempts.last().map(|attempt| attempt.agent.handle.clone()).unwrap_or_default()
    }

    /// Who answered, and the receipt, which is taken out.
    fn meta(&mut self) -> Value {
        let mut meta = Map::new();
        meta.insert("comity/from".to_owned(), self.from());
        let receipt = std::mem::take(&mut self.proof.receipt_cbor);
        meta.insert("comity/receipt".to_owned(), Value::from(receipt));
        Value::Object(meta)
    }

    /// The answer for `call` and `ask`: labelled, small, the rest linked.
    pub(super) fn labelled(mut self, results: &Results) -> Value {
        let failed: Vec<Value> = self.attempts.iter().filter_map(failed_attempt).collect();
        let (from, meta) = (self.from(), self.meta());
        let mut body = Map::new();
        body.insert("from".to_owned(), from);
        body.insert("verified".to_owned(), Value::from(true));
        body.insert("elapsed_ms".to_owned(), Value::from(self.summary.elapsed_us / 1000));
        if !failed.is_empty() {
            body.insert("attempts".to_owned(), Value::from(failed));
        }
        let streamed = self.summary.streamed;
        let handle = self.handle();
        let mut items = std::mem::take(&mut self.items);
        let (member, mut output) = if !streamed && items.len() == 1 {
            ("output", items.swap_remove(0))
        } else {
            ("items", Value::from(items))
        };
        scrub(&mut output);
        let text = output.to_string();
        let mut content = Vec::new();
        if text.len() <= INLINE_BYTES_MAX {
            body.insert(member.to_owned(), output);
        } else {
            let preview = text.get(..text.floor_char_boundary(PREVIEW_BYTES)).unwrap_or_default();
            body.insert("preview".to_owned(), Value::from(preview));
            let link = results.keep(&handle, text);
            body.insert("bytes".to_owned(), Value::from(link.bytes));
            body.insert("pages".to_owned(), Value::from(link.pages));
            body.insert("resource".to_owned(), Value::from(link.uri.clone()));
            content.push(linked(&link.uri, &handle, link.bytes));
        }
        let mut result = structured(Value::Object(body));
        if let Some(shown) = result["content"].as_array_mut() {
            shown.extend(content);
        }
        result["_meta"] = meta;
        result
    }

    /// The answer of a pinned capability: as its schema says, or the content blocks of the MCP tool behind it.
    pub(super) fn plain(mut self, pin: &Pin, results: &Results) -> Value {
        let (meta, handle, streamed) = (self.meta(), self.handle(), self.summary.streamed);
        let mut items = std::mem::take(&mut self.items);
        let mut output =
            if !streamed && items.len() == 1 { items.swap_remove(0) } else { Value::from(items) };
        scrub(&mut output);
        let is_structured = super::schema::output_schema(pin).is_some() && output.is_object();
        let mut result = match blocks(&output) {
            Some(content) if !is_structured => json!({"content": content, "isError": false}),
            _ if is_structured => structured(output),
            _ => {
                let text = output.to_string();
                let content = if text.len() > INLINE_BYTES_MAX {
                    let preview =
                        text.get(..text.floor_char_boundary(PREVIEW_BYTES)).unwrap_or_default();
                    let shown = format!("{preview}…\n(the whole answer is linked)");
                    let link = results.keep(&handle, text);
                    json!([{"type": "text", "text": shown}, linked(&link.uri, &handle, link.bytes)])
                } else {
                    json!([{"type": "text", "text": text}])
                };
                json!({"content": content, "isError": false})
            }
        };
        result["_meta"] = meta;
        result
    }
}

/// A structured result, with its text for clients that know no structure.
pub(super) fn structured(value: Value) -> Value {
    json!({
        "content": [{"type": "text", "text": value.to_string()}],
        "structuredContent": value,
        "isError": false,
    })
}

fn linked(uri: &str, handle: &str, bytes: usize) -> Value {
    let id = uri.rsplit('/').next().and_then(|rest| rest.split('?').next()).unwrap_or_default();
    let mut link = resource(id, handle, bytes);
    link["type"] = json!("resource_link");
    link
}

/// The content blocks of an MCP tool's answer that came as a capability's output.
fn blocks(output: &Value) -> Option<&Vec<Value>> {
    let object = output.as_object().filter(|object| object.len() == 1)?;
    let blocks = object.get("content")?.as_array()?;
    blocks.iter().all(is_block).then_some(blocks)
}

fn is_block(block: &Value) -> bool {
    let text = |name: &str| block[name].is_string();
    match block["type"].as_str() {
        Some("text") => text("text"),
        Some("image" | "audio") => text("data") && text("mimeType"),
        Some("resource") => block["resource"]["uri"].is_string(),
        Some("resource_link") => text("uri") && text("name"),
        Some(_) | None => false,
    }
}

fn failed_attempt(attempt: &Attempt) -> Option<Value> {
    match &attempt.outcome {
        AttemptOutcome::Failed { error, .. } => Some(json!({
            "target": clean(&attempt.target, 300),
            "error": clean(&error.message, 300),
        })),
        AttemptOutcome::Started | AttemptOutcome::Answered { .. } => None,
    }
}

/// A failure that the model should read: what happened, and what to do.
pub(super) fn failure(error: &ErrorInfo) -> Value {
    let code = serde_json::to_value(error.code).ok();
    let code = code.as_ref().and_then(Value::as_str).unwrap_or("internal").to_owned();
    let mut text = format!("{code}: {}", clean(&error.message, ERROR_BYTES_MAX));
    if !error.hint.is_empty() {
        text.push_str(". ");
        text.push_str(&clean(&error.hint, ERROR_BYTES_MAX));
    }
    json!({"content": [{"type": "text", "text": text}], "isError": true})
}
