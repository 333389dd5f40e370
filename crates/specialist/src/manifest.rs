//! What is served, declared in a small TOML or JSON file and by flags.
//!
//! ```toml
//! name = "ecb-reference-rates"
//! title = "Euro reference rates"
//! description = "Daily euro foreign exchange reference rates."
//! examples = ["EUR/USD on 2022-03-01"]
//! classes = ["finance_and_business/market_data/fx_rates"]
//! visibility = "public"
//!
//! [attributes]
//! "fin:pair" = ["EUR/USD", "EUR/JPY"]
//!
//! [table]
//! file = "ecb-reference-rates.csv"
//! ```
//!
//! Exactly one of `[table]`, `[exec]`, `[http]`, `[mcp]` and `[a2a]` says what answers. Everything but that section may be left out for a
//! table: name, title, interface and data attributes are derived from the file. [`check`] says what is wrong or could be
//! better without serving anything; [`open`] starts the specialist.

mod declare;
mod parse;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use declare::{Declaration, MAX_DECLARATION_BYTES, declare};

use crate::call::Specialist;
use crate::exec::{Environment, Exec, ExecError};
use crate::http::{Http, HttpError};
use crate::mcp::{A2aSection, McpOpener, McpSection};
use crate::schema::{Checked, SchemaError, Validator};
use crate::table::{Format, Table, TableError, TableSummary};

/// Largest manifest or schema file, bytes.
pub const MAX_FILE_BYTES: u64 = 256 * 1024;
/// Longest timeout a manifest may set.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// A manifest. Absent members are derived or take their defaults; see [`declare`] for which.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Manifest {
    /// Name of the capability within the agent: 1 to 64 of `a-z 0-9 - . _`.
    pub name: Option<String>,
    /// A line for people.
    pub title: Option<String>,
    /// What it does, in words that people search by.
    pub description: Option<String>,
    /// Two to five requests it answers, in words.
    pub examples: Vec<String>,
    /// Up to four classes: ids, paths, captions or short names such as `fx`; others are kept as labels.
    pub classes: Vec<String>,
    /// Up to sixteen tags.
    pub tags: Vec<String>,
    /// Attributes by key or alias: strings, numbers, booleans or lists.
    pub attributes: BTreeMap<String, Value>,
    /// JSON Schema of requests: inline, or the name of a JSON file.
    pub input_schema: Option<Value>,
    /// JSON Schema of answers (of each part of a streamed one): inline, or the name of a JSON file.
    pub output_schema: Option<Value>,
    /// Who may learn of it; private unless said otherwise.
    pub visibility: Option<Visibility>,
    /// The private group whose members alone find and call it, by the name it has at this node.
    pub group: Option<String>,
    /// Whether calling twice does no more than calling once; true for a table, else false.
    pub idempotent: Option<bool>,
    /// Whether answers may be streamed; true for a table, else false.
    pub streaming: Option<bool>,
    /// Price of one unit, such as `0.001 USD`.
    pub price: Option<String>,
    /// What one price pays for, such as `call`.
    pub price_unit: Option<String>,
    /// How long an answer may be reused, such as `1h` or `P1D`; not at all when absent.
    pub valid_for: Option<String>,
    /// Version of the data; for a table the file's hash.
    pub data_version: Option<String>,
    /// Among whom answers are shared, and how they compare.
    pub reuse: Option<ReuseSection>,
    /// A table file answers.
    pub table: Option<TableSection>,
    /// A program answers.
    pub exec: Option<ExecSection>,
    /// A local web service answers.
    pub http: Option<HttpSection>,
    /// An MCP server answers.
    pub mcp: Option<McpSection>,
    /// An agent that speaks A2A answers.
    pub a2a: Option<A2aSection>,
}

/// Who may learn of a capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// Listed in the directory and callable by anyone.
    Public,
    /// Not listed; callable by whom the agent allows.
    Private,
}

/// `[reuse]`: what may be done with an answer once it was given. How long it is valid says `valid_for`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReuseSection {
    /// Among whom: `asker` (the default), `holders`, `group` or `public`.
    pub scope: Option<String>,
    /// What equal questions bring: `exact` (the default of a table), `comparable` or `free` (the default of everything else).
    pub determinism: Option<String>,
    /// Data up to this date or time does not change any more, such as `2024-12-31`.
    pub closed_until: Option<String>,
    /// The field of a request's `where` that says which time it is about; a table's time column when absent.
    pub time_field: Option<String>,
    /// Where the data comes from, so that a quorum does not ask one source twice.
    pub sources: Vec<String>,
    /// How far numbers of a field may lie apart, `*` for all others.
    pub tolerances: BTreeMap<String, ToleranceEntry>,
}

/// Within either bound is enough.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ToleranceEntry {
    /// Relative to the larger number, in millionths.
    pub relative_ppm: u32,
    /// Absolute, in billionths of the field's unit.
    pub absolute_nano: u64,
}

/// `[table]`: see [`crate::table::TableConfig`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TableSection {
    /// The file, relative to the manifest.
    pub file: PathBuf,
    /// `csv`, `tsv` or `jsonl`; from the extension when absent.
    pub format: Option<Format>,
    /// CSV delimiter, one ASCII character.
    pub delimiter: Option<char>,
    /// CSV fields that mean "no value".
    pub null_values: Vec<String>,
    /// Columns to serve; all when empty.
    pub columns: Vec<String>,
    /// The column that says when.
    pub time_column: Option<String>,
    /// What columns mean, shown in the interface.
    pub describe: BTreeMap<String, String>,
    /// Longest a query may take, such as `10s`.
    pub timeout: Option<String>,
}

/// `[exec]`: see [`crate::exec::ExecConfig`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecSection {
    /// The program and its arguments: a list, or one line that is split like a shell would.
    pub command: Command,
    /// Variables set for the program.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Pass the node's whole environment on; only a few variables are when false.
    #[serde(default)]
    pub inherit_env: bool,
    /// Working directory, relative to the manifest.
    #[serde(default)]
    pub directory: Option<PathBuf>,
    /// Copies of the program; one when absent.
    #[serde(default)]
    pub workers: Option<usize>,
    /// Longest one call may take, such as `30s`.
    #[serde(default)]
    pub timeout: Option<String>,
    /// Longest answer line, bytes.
    #[serde(default)]
    pub max_answer_bytes: Option<usize>,
}

/// A command as a list of words or as one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Command {
    /// Split at blanks outside quotes.
    Line(String),
    /// The program and its arguments.
    Words(Vec<String>),
}

/// `[http]`: see [`crate::http::HttpConfig`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpSection {
    /// Where to POST.
    pub url: String,
    /// Longest one call may take, such as `30s`.
    #[serde(default)]
    pub timeout: Option<String>,
    /// Largest whole answer, bytes.
    #[serde(default)]
    pub max_answer_bytes: Option<usize>,
}

/// Why a manifest cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file cannot be read.
    #[error("cannot read {file}: {source}; check the path and its permissions")]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Larger than [`MAX_FILE_BYTES`].
    #[error("{file} is larger than {MAX_FILE_BYTES} bytes; a manifest or schema is a small file")]
    TooLarge {
        /// The file.
        file: PathBuf,
    },
    /// Not TOML, not JSON, or with members that a manifest does not have.
    #[error("{file} is not a manifest: {problem}")]
    Parse {
        /// The file, or a word for text that came from elsewhere.
        file: PathBuf,
        /// Where and what, and what would be right.
        problem: String,
    },
}

/// One thing to know about a manifest before it is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// Which member, such as `classes[1]` or `table.file`.
    pub field: String,
    /// What was found.
    pub message: String,
    /// What to do about it.
    pub fix: String,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// It cannot be served like this.
    Error,
    /// It can be served, but probably not as meant.
    Warning,
    /// It would be found or used more easily.
    Hint,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let level = match self.level {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Hint => "hint",
        };
        write!(f, "{level}: {}: {}; {}", self.field, self.message, self.fix)
    }
}

/// Why a manifest cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The manifest has errors.
    #[error("the declaration has errors:\n{}", findings.iter().map(|finding| format!("  {finding}")).collect::<Vec<_>>().join("\n"))]
    Declaration {
        /// All findings, errors first.
        findings: Vec<Finding>,
    },
    /// The table file cannot be served.
    #[error(transparent)]
    Table(TableError),
    /// The program cannot be started.
    #[error(transparent)]
    Exec(ExecError),
    /// The URL cannot be called.
    #[error(transparent)]
    Http(HttpError),
    /// The MCP server or the A2A agent cannot be used.
    #[error("{0}")]
    Mcp(String),
    /// A schema cannot be compiled.
    #[error(transparent)]
    Schema(SchemaError),
}

/// A specialist ready to be called, with its declaration.
pub struct Served {
    /// What it offers, ready to be published.
    pub declaration: Declaration,
    /// What answers. Requests and answers are held to the declared schemas.
    pub specialist: Arc<dyn Specialist>,
    /// What the table holds, if it is one.
    pub summary: Option<TableSummary>,
}

impl std::fmt::Debug for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Served").field("declaration", &self.declaration).finish_non_exhaustive()
    }
}

impl Manifest {
    /// The manifest that serves a table file and leaves the rest to be derived.
    pub fn for_table(file: impl Into<PathBuf>) -> Self {
        Self {
            table: Some(TableSection { file: file.into(), ..TableSection::default() }),
            ..Self::default()
        }
    }

    /// The same manifest with everything that `flags` says instead: set members replace, attributes and column
    /// descriptions are replaced one by one, and a source (`table`, `exec`, `http`, `mcp`, `a2a`) replaces the manifest's source.
    #[must_use]
    pub fn merged(mut self, flags: Self) -> Self {
        fn list(own: Vec<String>, flag: Vec<String>) -> Vec<String> {
            if flag.is_empty() { own } else { flag }
        }
        self.attributes.extend(flags.attributes);
        let replaces_source = flags.table.is_some()
            || flags.exec.is_some()
            || flags.http.is_some()
            || flags.mcp.is_some()
            || flags.a2a.is_some();
        let (table, exec, http, mcp, a2a) = if replaces_source {
            (flags.table, flags.exec, flags.http, flags.mcp, flags.a2a)
        } else {
            (self.table, self.exec, self.http, self.mcp, self.a2a)
        };
        Self {
            name: flags.name.or(self.name),
            title: flags.title.or(self.title),
            description: flags.description.or(self.description),
            examples: list(self.examples, flags.examples),
            classes: list(self.classes, flags.classes),
            tags: list(self.tags, flags.tags),
            attributes: self.attributes,
            input_schema: flags.input_schema.or(self.input_schema),
            output_schema: flags.output_schema.or(self.output_schema),
            visibility: flags.visibility.or(self.visibility),
            group: flags.group.or(self.group),
            idempotent: flags.idempotent.or(self.idempotent),
            streaming: flags.streaming.or(self.streaming),
            price: flags.price.or(self.price),
            price_unit: flags.price_unit.or(self.price_unit),
            valid_for: flags.valid_for.or(self.valid_for),
            data_version: flags.data_version.or(self.data_version),
            reuse: flags.reuse.or(self.reuse),
            table,
            exec,
            http,
            mcp,
            a2a,
        }
    }
}

/// Everything to know about a manifest before it is served, worst first. Looks at files it names, but imports no table,
/// starts no program and calls no service.
#[must_use]
pub fn check(manifest: &Manifest) -> Vec<Finding> {
    let mut findings = match declare(manifest, None) {
        Ok(declaration) => declaration.findings,
        Err(findings) => findings,
    };
    findings.extend(parse::source_findings(manifest));
    findings.sort_by_key(|finding| finding.level);
    findings
}

/// Starts what the manifest describes.
///
/// `cache` is the directory for imported tables. Blocks while a table is imported; an `exec` needs a tokio runtime.
///
/// # Errors
/// [`OpenError::Declaration`] with everything [`check`] finds when one finding is an error; otherwise what starting
/// failed of.
pub fn open(manifest: &Manifest, cache: &Path) -> Result<Served, OpenError> {
    open_with(manifest, cache, None)
}

/// The same, where MCP servers and A2A agents can be opened too.
///
/// # Errors
/// As [`open`].
pub fn open_with(
    manifest: &Manifest,
    cache: &Path,
    mcp: Option<&dyn McpOpener>,
) -> Result<Served, OpenError> {
    let refuse = |mut findings: Vec<Finding>| {
        findings.sort_by_key(|finding| finding.level);
        Err(OpenError::Declaration { findings })
    };
    let sources = parse::source_findings(manifest);
    if sources.iter().any(|finding| finding.level == Level::Error) {
        return refuse(check(manifest));
    }
    if let Some(section) = &manifest.table {
        let table = Table::open(&parse::table_config(section), cache).map_err(OpenError::Table)?;
        let summary = table.summary().clone();
        return match declare(manifest, Some(&summary)) {
            // A table holds requests to its interface itself, with better words than a schema.
            Ok(declaration) => {
                Ok(Served { declaration, specialist: Arc::new(table), summary: Some(summary) })
            }
            Err(findings) => refuse(findings),
        };
    }
    let declaration = match declare(manifest, None) {
        Ok(declaration) => declaration,
        Err(findings) => return refuse(findings),
    };
    let input = compiled(manifest.input_schema.as_ref())?;
    let output = compiled(manifest.output_schema.as_ref())?;
    let specialist: Arc<dyn Specialist> = if let Some(section) = &manifest.exec {
        let config = parse::exec_config(section).map_err(OpenError::Exec)?;
        Arc::new(Checked::new(Exec::start(config).map_err(OpenError::Exec)?, input, output))
    } else if let Some(section) = &manifest.http {
        Arc::new(Checked::new(
            Http::new(parse::http_config(section)).map_err(OpenError::Http)?,
            input,
            output,
        ))
    } else if let Some(section) = &manifest.mcp {
        let opener =
            mcp.ok_or_else(|| OpenError::Mcp("this node does not speak MCP".to_owned()))?;
        let specialist = opener.open(section, manifest).map_err(OpenError::Mcp)?;
        Arc::new(Checked::new(specialist, input, output))
    } else if let Some(section) = &manifest.a2a {
        let opener =
            mcp.ok_or_else(|| OpenError::Mcp("this node does not speak A2A".to_owned()))?;
        let specialist = opener.open_agent(section, manifest).map_err(OpenError::Mcp)?;
        Arc::new(Checked::new(specialist, input, output))
    } else {
        return refuse(check(manifest));
    };
    Ok(Served { declaration, specialist, summary: None })
}

fn compiled(schema: Option<&Value>) -> Result<Option<Validator>, OpenError> {
    schema.map(Validator::new).transpose().map_err(OpenError::Schema)
}

/// A time limit as manifests write it, such as `30s`; none for what is no time up to [`MAX_TIMEOUT`].
#[must_use]
pub fn timeout(text: &str) -> Option<Duration> {
    duration(text)
}

fn duration(text: &str) -> Option<Duration> {
    declare::duration(text).filter(|duration| !duration.is_zero() && *duration <= MAX_TIMEOUT)
}

fn environment(inherit: bool) -> Environment {
    if inherit { Environment::Inherited } else { Environment::Clean }
}
