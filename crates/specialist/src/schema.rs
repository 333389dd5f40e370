//! JSON Schemas of interfaces: compiled within bounds, checked with readable answers.
//!
//! A schema comes from a stranger: the asker compiles what a peer declared before it sends that peer a request. So
//! compiling and checking are bounded whatever the schema says: nothing is fetched (only `#` and `#/…` references are
//! accepted), patterns run on a linear-time engine with a size limit, and a schema whose references multiply work
//! ([`MAX_WORK`]) is refused before it is compiled.

mod work;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use jsonschema::PatternOptions;
use serde_json::Value;

use crate::call::{Answer, Invocation, Specialist};
use crate::error::{SpecialistError, printable};

/// Largest schema, bytes of compact JSON.
pub const MAX_SCHEMA_BYTES: usize = 64 * 1024;
/// Deepest nesting of a schema.
pub const MAX_SCHEMA_DEPTH: usize = 48;
/// Deepest nesting of a checked value.
pub const MAX_VALUE_DEPTH: usize = 24;
/// Most sub-schemas a schema may apply along one path of a value of [`MAX_VALUE_DEPTH`].
pub const MAX_WORK: u64 = 20_000;
/// Largest compiled pattern, bytes.
pub const MAX_PATTERN_BYTES: usize = 256 * 1024;
/// Most patterns in one schema.
pub const MAX_PATTERNS: usize = 64;
/// Most problems reported for one value.
pub const MAX_PROBLEMS: usize = 8;
/// Longest text of one problem, bytes.
pub const MAX_PROBLEM_BYTES: usize = 240;

/// Why a schema is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// Larger than [`MAX_SCHEMA_BYTES`].
    #[error(
        "the schema has {bytes} bytes and the limit is {MAX_SCHEMA_BYTES}; describe less in it"
    )]
    TooLarge {
        /// Its size as compact JSON.
        bytes: usize,
    },
    /// Nested deeper than [`MAX_SCHEMA_DEPTH`].
    #[error("the schema is nested deeper than {MAX_SCHEMA_DEPTH} levels; flatten it with $defs")]
    TooDeep,
    /// A reference that leaves the document, or a keyword that resolves at run time.
    #[error(
        "the schema uses {found} and only references inside the document (#/…) are resolved; copy the target into $defs"
    )]
    Reference {
        /// The keyword and its value.
        found: String,
    },
    /// A local reference to nothing.
    #[error(
        "the schema refers to {target}, which is not in it; define it or correct the reference"
    )]
    Missing {
        /// The JSON pointer.
        target: String,
    },
    /// References that lead back to themselves without entering the value.
    #[error(
        "the schema refers to itself in a circle at {target}; a recursive schema must go through properties or items"
    )]
    Circular {
        /// Where the circle was closed.
        target: String,
    },
    /// Checking could take more than [`MAX_WORK`] steps a level.
    #[error(
        "the schema's references multiply to more than {MAX_WORK} checks; use fewer nested combinations"
    )]
    TooMuchWork,
    /// More than [`MAX_PATTERNS`] patterns.
    #[error("the schema has more than {MAX_PATTERNS} patterns; use fewer")]
    TooManyPatterns,
    /// Not a valid JSON Schema, or a pattern the linear-time engine does not take.
    #[error(
        "not a valid JSON Schema: {problem}; see json-schema.org (patterns may not use look-around or back-references)"
    )]
    Invalid {
        /// What the compiler says and where.
        problem: String,
    },
}

/// A compiled schema.
#[derive(Clone)]
pub struct Validator(Arc<jsonschema::Validator>);

impl std::fmt::Debug for Validator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Validator(..)")
    }
}

impl Validator {
    /// Compiles `schema` (JSON Schema, draft 2020-12 unless `$schema` names an older one).
    ///
    /// # Errors
    /// See [`SchemaError`]; every bound is checked before the compiler sees the schema.
    pub fn new(schema: &Value) -> Result<Self, SchemaError> {
        work::check(schema)?;
        jsonschema::options()
            .offline()
            .should_validate_formats(false)
            .with_pattern_options(
                PatternOptions::regex()
                    .size_limit(MAX_PATTERN_BYTES)
                    .dfa_size_limit(MAX_PATTERN_BYTES),
            )
            .build(schema)
            .map(|compiled| Self(Arc::new(compiled)))
            .map_err(|error| SchemaError::Invalid {
                problem: printable(
                    &format!("{error} at '{}'", error.instance_path()),
                    MAX_PROBLEM_BYTES,
                ),
            })
    }

    /// Checks a value.
    ///
    /// # Errors
    /// The first [`MAX_PROBLEMS`] problems, each a sentence that names the place in the value as a JSON pointer.
    pub fn check(&self, value: &Value) -> Result<(), Vec<String>> {
        if depth_exceeds(value, MAX_VALUE_DEPTH) {
            return Err(vec![format!("the value is nested deeper than {MAX_VALUE_DEPTH} levels")]);
        }
        if self.0.is_valid(value) {
            return Ok(());
        }
        let problems = self
            .0
            .iter_errors(value)
            .take(MAX_PROBLEMS)
            .map(|error| {
                let place = error.instance_path().to_string();
                let place =
                    if place.is_empty() { "the value".to_owned() } else { format!("'{place}'") };
                printable(&format!("{place}: {error}"), MAX_PROBLEM_BYTES)
            })
            .collect();
        Err(problems)
    }
}

/// Whether `value` has more than `levels` levels of arrays and objects; looks no deeper than that.
pub(crate) fn depth_exceeds(value: &Value, levels: usize) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
        Value::Array(items) => {
            levels == 0 || items.iter().any(|item| depth_exceeds(item, levels - 1))
        }
        Value::Object(map) => {
            levels == 0 || map.values().any(|item| depth_exceeds(item, levels - 1))
        }
    }
}

/// A specialist behind its interface: requests and answers that do not fit the declared schemas do not pass.
///
/// The output schema describes one value: the whole answer, or each part of a streamed one.
pub struct Checked<S> {
    inner: S,
    input: Option<Validator>,
    output: Option<Validator>,
}

impl<S> std::fmt::Debug for Checked<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checked")
            .field("input", &self.input.is_some())
            .field("output", &self.output.is_some())
            .finish_non_exhaustive()
    }
}

impl<S: Specialist> Checked<S> {
    /// Puts `inner` behind its schemas; `None` accepts everything.
    pub fn new(inner: S, input: Option<Validator>, output: Option<Validator>) -> Self {
        Self { inner, input, output }
    }
}

impl<S: Specialist> Specialist for Checked<S> {
    fn call(&self, call: Invocation) -> BoxFuture<'_, Result<Answer, SpecialistError>> {
        async move {
            if let Some(input) = &self.input {
                input
                    .check(&call.request)
                    .map_err(|problems| SpecialistError::InvalidRequest { problems })?;
            }
            let answer = self.inner.call(call).await?;
            let Some(output) = self.output.clone() else { return Ok(answer) };
            match answer {
                Answer::One(value) => fits(&output, value).map(Answer::One),
                Answer::Stream(parts) => Ok(Answer::Stream(
                    parts.map(move |part| part.and_then(|value| fits(&output, value))).boxed(),
                )),
            }
        }
        .boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.inner.close()
    }
}

fn fits(output: &Validator, value: Value) -> Result<Value, SpecialistError> {
    match output.check(&value) {
        Ok(()) => Ok(value),
        Err(problems) => Err(SpecialistError::GarbageAnswer {
            what: format!("it does not fit the declared output schema: {}", problems.join("; ")),
        }),
    }
}

impl Specialist for Arc<dyn Specialist> {
    fn call(&self, call: Invocation) -> BoxFuture<'_, Result<Answer, SpecialistError>> {
        self.as_ref().call(call)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.as_ref().close()
    }
}
