//! What can be wrong with a query, and what to write instead.

use thiserror::Error;

/// Why a query was refused. Every variant says where, what was expected, and how a correct query looks.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The text form does not parse.
    #[error("column {column}: expected {expected}, found {found}. For example: {example}")]
    Syntax {
        /// Where, counted in characters from 1.
        column: usize,
        /// What would have been accepted there.
        expected: String,
        /// What stands there.
        found: String,
        /// A correct piece of query.
        example: String,
    },
    /// The JSON form has a member of the wrong shape.
    #[error("{path}: expected {expected}, found {found}. For example: {example}")]
    Json {
        /// Path of the offending member, such as `query.filter.fin:pair`.
        path: String,
        /// What would have been accepted there.
        expected: String,
        /// What stands there, shortened.
        found: String,
        /// A correct piece of JSON.
        example: String,
    },
    /// A value does not fit the type of its key.
    #[error("{key}: {given} is not {kind}: {why}. For example: {example}")]
    Value {
        /// The key, by its full name.
        key: String,
        /// The value as given, shortened.
        given: String,
        /// The type of the key, with its article.
        kind: String,
        /// What the normaliser said.
        why: String,
        /// A correct condition on that key.
        example: String,
    },
    /// An operator does not fit the type of its key.
    #[error(
        "{key} is {kind}: it has no operator {operator}, only {allowed}. For example: {example}"
    )]
    Operator {
        /// The key, by its full name.
        key: String,
        /// The type of the key, with its article.
        kind: String,
        /// The operator as given.
        operator: String,
        /// Operators of that type.
        allowed: String,
        /// A correct condition on that key.
        example: String,
    },
    /// A bound of the language is exceeded. `bound` names the constant of this module.
    #[error(
        "the query has {got} {what}, {bound} allows {max}; shorten it or ask in several queries"
    )]
    Bound {
        /// Name of the constant.
        bound: &'static str,
        /// What is counted.
        what: &'static str,
        /// Most that is allowed.
        max: usize,
        /// What the query has.
        got: usize,
    },
    /// Neither words, nor a name, nor a condition: the query would match everything.
    #[error(
        "the query asks for nothing: give words, a name, or a condition. For example: find \"exchange rates\" where pair = EUR/USD"
    )]
    Empty,
}

/// Longest piece of foreign input repeated in an error, in characters.
pub(super) const QUOTED_CHARS_MAX: usize = 60;

/// Foreign input as an error repeats it: one line, no control characters, bounded.
pub(super) fn quote(input: &str) -> String {
    let mut out = String::from("'");
    for (index, c) in input.chars().enumerate() {
        if index == QUOTED_CHARS_MAX {
            out.push('…');
            break;
        }
        out.push(if c.is_control() { ' ' } else { c });
    }
    out.push('\'');
    out
}
