//! Serving: `POST /v1/serve`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// Body of `POST /v1/serve`. At least one of `manifest`, `manifest_path` and `source` is given; `overrides` win over
/// the manifest, the manifest over what is derived from the data.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ServeRequest {
    /// The manifest itself, as a JSON object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Value>,
    /// Absolute path of a manifest file (TOML or JSON by extension) the node reads; relative paths inside it are
    /// relative to its directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest_path: Option<String>,
    /// What answers the calls; overrides the manifest's source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// Single fields given on the command line.
    #[serde(default)]
    pub overrides: Overrides,
    /// How far to go.
    #[serde(default)]
    pub mode: ServeMode,
}

/// How far `POST /v1/serve` goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServeMode {
    /// Check the manifest, explain what to mend; open nothing, change nothing.
    Check,
    /// Also open the source and derive the declaration, for confirmation; change nothing.
    DryRun,
    /// Serve and publish.
    #[default]
    Publish,
}

/// What answers the calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Source {
    /// A file of rows: CSV or JSON Lines.
    Table {
        /// Absolute path.
        path: String,
    },
    /// A program: one JSON request a line on stdin, one JSON response a line on stdout.
    Exec {
        /// Program and arguments; no shell is involved.
        command: Vec<String>,
        /// Absolute path of the directory it runs in.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        directory: Option<String>,
    },
    /// A local service that takes the request as a JSON POST.
    Http {
        /// Its URL.
        url: String,
    },
}

/// Single declaration fields that win over the manifest. Absent or empty = not given.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Overrides {
    /// Capability name, `[a-z0-9-._]{1,64}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Title, one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What it does, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Example requests, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<String>,
    /// Classes: ids, paths or captions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// Tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Attributes by key or alias; values are JSON, or text that the attribute's profile normalises.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, Value>,
    /// JSON Schema of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_schema: Option<Value>,
    /// JSON Schema of the response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Value>,
    /// Who may call without a grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visibility: Option<Visibility>,
    /// The private group whose members alone find and call it, by the name it has here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Time limit for one call, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_timeout_ms: Option<u64>,
}

/// Who may find and call a capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Visibility {
    /// Anyone.
    Public,
    /// Nobody without a grant; not published to the directory.
    Private,
}

/// Answer of `POST /v1/serve`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServeResponse {
    /// How far it went.
    pub mode: ServeMode,
    /// What the check found; publishing never succeeds with a finding of level `error`.
    pub findings: Vec<Finding>,
    /// The declaration as it would be, or was, published. Absent when errors leave none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declaration: Option<Declaration>,
    /// What was derived from a table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<TableSummary>,
    /// How it was published, in mode `publish`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Published>,
}

/// One remark about a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    /// How serious it is.
    pub level: FindingLevel,
    /// The manifest field it is about, dotted; empty for the whole.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// How to mend it. Empty when there is nothing to mend.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fix: String,
}

/// How serious a [`Finding`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FindingLevel {
    /// Good to know.
    Note,
    /// Accepted, but probably not meant.
    Warning,
    /// Cannot be served like this.
    Error,
}

/// What an agent declares about one capability.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Declaration {
    /// Name, unique within the agent.
    pub name: String,
    /// Title, one line.
    pub title: String,
    /// What it does, in words.
    pub description: String,
    /// Example requests, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<String>,
    /// Classes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<Class>,
    /// Tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Attributes by full key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, Attribute>,
    /// JSON Schema of the request.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub input_schema: Value,
    /// JSON Schema of the response.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub output_schema: Value,
    /// SHA-256 of the canonical schema pair, `sha256:` + hex.
    pub interface: String,
    /// Who may call.
    pub visibility: Visibility,
    /// The private group it is served to, by the name it has here; only of own capabilities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Whether the same request may be sent twice without harm.
    pub idempotent: bool,
    /// Whether answers may come in several items.
    pub streaming: bool,
    /// Version of the data behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_version: Option<String>,
}

/// A taxonomy class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Class {
    /// `oasf1.1:domain/208`, `comity1:domain/10001`, or an opaque label.
    pub id: String,
    /// Its caption; absent for an opaque label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption: Option<String>,
}

/// A typed attribute value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Attribute {
    /// Its type: `set`, `interval`, `duration`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// The value in its JSON form.
    pub value: Value,
    /// The value as people read it: `1999-01-04/2026-01-09`, `1 day`, `AUD, BGN, … (41)`.
    pub text: String,
}

/// What was derived from a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TableSummary {
    /// Absolute path.
    pub path: String,
    /// `csv`, `jsonl`.
    pub format: String,
    /// Number of rows.
    pub rows: u64,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// Its columns, in order.
    pub columns: Vec<Column>,
    /// Time covered, when a column holds times: `from/to`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<String>,
    /// Time between neighbouring rows, ISO 8601 duration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<String>,
}

/// One column of a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type: `text`, `integer`, `decimal`, `date`, `time`, `boolean`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Rows without a value.
    pub missing: u64,
    /// Smallest value, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<String>,
    /// Largest value, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<String>,
    /// Number of different values, when counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distinct: Option<u64>,
    /// The values of a low-cardinality column.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// How a capability was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Published {
    /// `ADDRESS/CAPABILITY`, what others can call directly.
    pub target: String,
    /// Hash of the record that now carries it, `b3:` + hex.
    pub record: String,
    /// Group keys its digest goes to, with their labels.
    pub groups: Vec<super::GroupLabel>,
    /// Custodians that have acknowledged it so far (more follow in the background).
    pub custodians: u32,
}
