//! The tools as clients see them.

use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::pins::Pin;

/// Tag of a capability that only reads, as MCP's `readOnlyHint`.
pub const READ_ONLY_TAG: &str = "read-only";
/// Tag of a capability that may destroy, as MCP's `destructiveHint`.
pub const DESTRUCTIVE_TAG: &str = "destructive";
/// Tag of a capability that is a tool of an MCP server.
pub const MCP_TAG: &str = "mcp";

/// Whether a tool is one of the server's own.
pub(super) fn is_own(name: &str) -> bool {
    own_tools().iter().any(|tool| tool["name"] == name)
}

/// The server's own tools.
pub(super) fn own_tools() -> &'static [Value] {
    static TOOLS: LazyLock<Vec<Value>> =
        LazyLock::new(|| vec![discover(), describe(), call(), ask(), publish(), status()]);
    &TOOLS
}

/// A pinned capability as a tool. What its agent says of it is quoted and labelled.
pub(super) fn pinned_tool(pin: &Pin) -> Value {
    let description = format!(
        "Capability of another agent, {} on the comity network. Its own description, as data: {}",
        pin.handle,
        if pin.description.is_empty() { &pin.title } else { &pin.description },
    );
    let tagged = |tag: &str| pin.tags.iter().any(|known| known == tag);
    let mut tool = json!({
        "name": pin.name,
        "title": pin.title,
        "description": description,
        "inputSchema": object_schema(&pin.input_schema),
        "annotations": {
            "readOnlyHint": tagged(READ_ONLY_TAG),
            "destructiveHint": tagged(DESTRUCTIVE_TAG),
            "idempotentHint": pin.idempotent,
            "openWorldHint": true,
        },
    });
    if let Some(schema) = output_schema(pin) {
        tool["outputSchema"] = schema.clone();
    }
    tool
}

/// The schema of a structured answer, when the capability declares objects.
pub(super) fn output_schema(pin: &Pin) -> Option<&Value> {
    Some(&pin.output_schema).filter(|schema| schema["type"] == "object")
}

/// Clients demand `type: object` at the top.
fn object_schema(schema: &Value) -> Value {
    let mut object = schema.as_object().cloned().unwrap_or_default();
    object.insert("type".to_owned(), json!("object"));
    Value::Object(object)
}

/// A tool; `hints` are read-only, destructive, idempotent.
fn tool(
    name: &str,
    title: &str,
    description: &str,
    hints: (bool, bool, bool),
    input: Value,
    output: Option<Value>,
) -> Value {
    let (reads, destroys, idempotent) = hints;
    let mut tool = json!({
        "name": name,
        "title": title,
        "description": description,
        "inputSchema": input,
        "annotations": {
            "readOnlyHint": reads, "destructiveHint": destroys, "idempotentHint": idempotent, "openWorldHint": true,
        },
    });
    if let Some(output) = output {
        tool["outputSchema"] = output;
    }
    tool
}

const READS: (bool, bool, bool) = (true, false, true);
const CALLS: (bool, bool, bool) = (false, true, false);
const PUBLISHES: (bool, bool, bool) = (false, false, true);

const GROUP: &str = "Name of a private group to look in, as this node knows it.";

fn discover() -> Value {
    tool(
        "discover",
        "Find capabilities",
        "Find what agents on the network can do, best first, with the evidence for each. The query is plain words \
         (\"exchange rates euro dollar\"), or words and typed conditions: `\"historical FX\" where pair = EUR/USD and \
         time covers 2021..2024 and resolution <= 1d`. Shows near misses and what they lack when nothing fits.",
        READS,
        json!({
            "type": "object",
            "properties": {
                "query": {"type": "string", "minLength": 1, "maxLength": 2000, "description": "Words, or words and conditions."},
                "limit": {"type": "integer", "minimum": 1, "maximum": 20, "default": 5},
                "offset": {"type": "integer", "minimum": 0, "maximum": 180, "default": 0, "description": "Skip this many, to page."},
                "group": {"type": "string", "description": GROUP}
            },
            "required": ["query"],
            "additionalProperties": false
        }),
        Some(json!({
            "type": "object",
            "properties": {
                "query": {"type": "string"},
                "matches": {"type": "array", "items": {"type": "object", "properties": {
                    "target": {"type": "string", "description": "Give this to describe or call."},
                    "agent": {"type": "string"}, "title": {"type": "string"}, "description": {"type": "string"},
                    "relevance": {"type": "number"}, "trust": {"type": "number"},
                    "evidence": {"type": "array", "items": {"type": "string"}}
                }, "required": ["target", "agent", "title"]}},
                "near_misses": {"type": "array", "items": {"type": "object"}},
                "next_offset": {"type": "integer"},
                "note": {"type": "string"}
            },
            "required": ["query", "matches"]
        })),
    )
}

fn describe() -> Value {
    tool(
        "describe",
        "Describe a capability",
        "What one capability does, what input it takes (JSON Schema), what it answers, who offers it. \
         The target is `ADDRESS/CAPABILITY` as `discover` gives it, or an agent's address alone for all it offers.",
        READS,
        json!({
            "type": "object",
            "properties": {"target": {"type": "string", "minLength": 1, "maxLength": 300}},
            "required": ["target"],
            "additionalProperties": false
        }),
        Some(json!({
            "type": "object",
            "properties": {
                "agent": {"type": "object"},
                "capabilities": {"type": "array", "items": {"type": "object"}}
            },
            "required": ["agent", "capabilities"]
        })),
    )
}

fn answer_schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "from": {"type": "object", "description": "Who answered. The answer is that agent's words, verified to be its own."},
            "output": {"description": "The answer; absent when it is too long and linked instead."},
            "items": {"type": "array", "description": "The answer when it came in several parts."},
            "preview": {"type": "string"},
            "resource": {"type": "string", "description": "Where the whole answer can be read, in pages."},
            "bytes": {"type": "integer"},
            "verified": {"type": "boolean"},
            "elapsed_ms": {"type": "number"},
            "attempts": {"type": "array", "items": {"type": "object"}}
        },
        "required": ["from", "verified"]
    })
}

fn timeout() -> Value {
    json!({"type": "number", "exclusiveMinimum": 0, "maximum": 3600, "default": 30, "description": "Seconds for everything."})
}

fn call() -> Value {
    tool(
        "call",
        "Call a capability",
        "Call one capability of one agent and wait for its signed answer. The target is `ADDRESS/CAPABILITY` as \
         `discover` gives it; `describe` shows what arguments it takes. Long answers come as a preview and a resource.",
        CALLS,
        json!({
            "type": "object",
            "properties": {
                "target": {"type": "string", "minLength": 1, "maxLength": 300},
                "arguments": {"description": "The input, as the capability's schema wants it.", "default": {}},
                "group": {"type": "string", "description": GROUP},
                "timeout_s": timeout()
            },
            "required": ["target"],
            "additionalProperties": false
        }),
        Some(answer_schema()),
    )
}

fn ask() -> Value {
    tool(
        "ask",
        "Find and call",
        "Find the best agent for a query, call it, and go on to the next best if it fails. The query is as for \
         `discover`; the arguments must fit what such capabilities take.",
        CALLS,
        json!({
            "type": "object",
            "properties": {
                "query": {"type": "string", "minLength": 1, "maxLength": 2000},
                "arguments": {"description": "The input.", "default": {}},
                "attempts": {"type": "integer", "minimum": 1, "maximum": 10, "default": 3, "description": "Agents to try."},
                "group": {"type": "string", "description": GROUP},
                "timeout_s": timeout()
            },
            "required": ["query"],
            "additionalProperties": false
        }),
        Some(answer_schema()),
    )
}

fn publish() -> Value {
    tool(
        "publish",
        "Publish a capability",
        "Publish something of this machine as a capability of this node's agent: a table (CSV or JSON Lines file) or a \
         local HTTP service. Private unless `public` is true. Without `confirm: true` nothing is published and what \
         would be is shown; show that to the user first. `withdraw` takes a capability off the network.",
        PUBLISHES,
        json!({
            "type": "object",
            "properties": {
                "name": {"type": "string", "pattern": "^[a-z0-9._-]{1,64}$"},
                "table": {"type": "string", "description": "Absolute path of a file of rows."},
                "http": {"type": "string", "description": "http:// URL of a local service that takes the request as a JSON POST."},
                "exec": {"type": "array", "items": {"type": "string"}, "description": "Program and arguments; only if this server was started with --allow-exec."},
                "title": {"type": "string"},
                "description": {"type": "string"},
                "examples": {"type": "array", "items": {"type": "string"}, "maxItems": 5},
                "classes": {"type": "array", "items": {"type": "string"}, "maxItems": 4},
                "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 16},
                "attributes": {"type": "object"},
                "input_schema": {"type": "object"},
                "output_schema": {"type": "object"},
                "public": {"type": "boolean", "default": false},
                "group": {"type": "string", "description": "Only members of this private group find and call it."},
                "confirm": {"type": "boolean", "default": false},
                "withdraw": {"type": "boolean", "default": false}
            },
            "additionalProperties": false
        }),
        None,
    )
}

fn status() -> Value {
    tool(
        "status",
        "Status of this node",
        "Who this node is on the network, whether it is joined, how many peers it has, what it serves and what is pinned.",
        READS,
        json!({"type": "object", "properties": {}, "additionalProperties": false}),
        Some(json!({
            "type": "object",
            "properties": {
                "agent": {"type": "object"}, "network": {"type": "string"}, "joined": {"type": "boolean"},
                "peers": {"type": "object"}, "serves": {"type": "array"}, "pinned": {"type": "array"}
            },
            "required": ["agent", "joined"]
        })),
    )
}
