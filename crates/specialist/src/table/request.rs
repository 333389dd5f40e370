//! From a JSON request to a statement with parameters.
//!
//! A statement is made of fixed words, internal column names (`c0`, `c1`, …) and `?` places only; every value of the
//! request is bound, and a column name of the request is only ever looked up.

use jiff::civil::Date;
use rusqlite::types::Value as SqlValue;
use serde_json::{Map, Value};

use super::summary::{ColumnSummary, TableSummary};
use super::value::{ColumnType, parse_date, parse_timestamp};
use crate::error::{SpecialistError, printable};

/// Rows given when the request sets no limit.
pub const DEFAULT_ROWS: u64 = 1_000;
/// Most rows of one answer.
pub const MAX_ROWS: u64 = 100_000;
/// Most values of an `in` or `contains`.
pub const MAX_VALUES: usize = 256;
/// Most columns to sort by.
pub const MAX_ORDER_COLUMNS: usize = 4;

/// A request understood.
#[derive(Debug)]
pub(super) struct Plan {
    /// Reads `limit + 1` rows, so that a further one is noticed.
    pub(super) rows_sql: String,
    pub(super) count_sql: Option<String>,
    /// Parameters of both statements.
    pub(super) values: Vec<SqlValue>,
    /// Columns given, as indexes into the summary.
    pub(super) columns: Vec<usize>,
    pub(super) limit: u64,
    pub(super) offset: u64,
}

/// Most conditions of one request, each member of a `contains` counting as one; the engine nests no deeper than 1,000.
pub const MAX_CONDITIONS: usize = 512;
/// Most values of all conditions of one request together.
pub const MAX_ALL_VALUES: usize = 8192;

type Problem = SpecialistError;

impl Plan {
    pub(super) fn new(summary: &TableSummary, request: &Value) -> Result<Self, Problem> {
        let Value::Object(request) = request else {
            return Err(Problem::invalid("the request must be an object, {} for all rows"));
        };
        let known = ["where", "columns", "order", "limit", "offset", "count"];
        if let Some(other) = request.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(Problem::invalid(format!(
                "{} is not known here; use {}",
                quoted(other),
                known.join(", ")
            )));
        }
        let mut filter = Filter { summary, clauses: Vec::new(), values: Vec::new() };
        if let Some(conditions) = request.get("where") {
            filter.all(conditions)?;
        }
        let columns = columns(summary, request.get("columns"))?;
        let order = order(summary, request.get("order"))?;
        let limit = whole(request, "limit", DEFAULT_ROWS, MAX_ROWS)?;
        let offset = whole(request, "offset", 0, u64::from(u32::MAX))?;
        let count = match request.get("count") {
            None => false,
            Some(Value::Bool(count)) => *count,
            Some(_) => return Err(Problem::invalid("count must be true or false")),
        };
        let condition = if filter.clauses.is_empty() {
            String::new()
        } else {
            format!(" WHERE {}", filter.clauses.join(" AND "))
        };
        let chosen: Vec<String> = columns.iter().map(|i| format!("c{i}")).collect();
        let rows_sql = format!(
            "SELECT {} FROM data{condition} ORDER BY {order} LIMIT {} OFFSET {offset}",
            chosen.join(", "),
            limit + 1
        );
        let count_sql = count.then(|| format!("SELECT count(*) FROM data{condition}"));
        Ok(Self { rows_sql, count_sql, values: filter.values, columns, limit, offset })
    }
}

struct Filter<'s> {
    summary: &'s TableSummary,
    clauses: Vec<String>,
    values: Vec<SqlValue>,
}

impl Filter<'_> {
    fn all(&mut self, conditions: &Value) -> Result<(), Problem> {
        let Value::Object(conditions) = conditions else {
            return Err(Problem::invalid("where must be an object of conditions by column"));
        };
        for (name, condition) in conditions {
            let i = find(self.summary, name)?;
            if let Some(column) = self.summary.columns.get(i) {
                self.one(i, column, condition)?;
            }
            if self.clauses.len() > MAX_CONDITIONS || self.values.len() > MAX_ALL_VALUES {
                let limits = format!("{MAX_CONDITIONS} conditions and {MAX_ALL_VALUES} values");
                return Err(Problem::invalid(format!(
                    "where has too much in it; the limits are {limits}"
                )));
            }
        }
        Ok(())
    }

    fn one(&mut self, i: usize, column: &ColumnSummary, condition: &Value) -> Result<(), Problem> {
        let Value::Object(words) = condition else {
            let clause = if condition.is_null() {
                format!("c{i} IS NULL")
            } else if matches!(column.kind, ColumnType::Set) {
                return Err(wrong(column, "a set takes {\"contains\": …} or null"));
            } else {
                let place = self.bind(scalar(column, condition)?);
                format!("c{i} = {place}")
            };
            self.clauses.push(clause);
            return Ok(());
        };
        if words.is_empty() {
            return Err(wrong(column, "the condition is empty; use in, from, to or contains"));
        }
        for (word, value) in words {
            match word.as_str() {
                "in" if !matches!(
                    column.kind,
                    ColumnType::Set | ColumnType::Bool | ColumnType::Json
                ) =>
                {
                    self.any_of(i, column, value)?;
                }
                "from" if column.kind.is_ordered() => {
                    let place = self.bind(edge(column, value, Edge::First)?);
                    self.clauses.push(format!("c{i} >= {place}"));
                }
                "to" if column.kind.is_ordered() => {
                    let place = self.bind(edge(column, value, Edge::Last)?);
                    self.clauses.push(format!("c{i} <= {place}"));
                }
                "contains" if matches!(column.kind, ColumnType::Set | ColumnType::Text) => {
                    self.contains(i, column, value)?;
                }
                other => {
                    return Err(wrong(
                        column,
                        &format!(
                            "{} is not a condition on a {}",
                            quoted(other),
                            column.kind.name()
                        ),
                    ));
                }
            }
        }
        Ok(())
    }

    fn any_of(&mut self, i: usize, column: &ColumnSummary, values: &Value) -> Result<(), Problem> {
        let values = list(column, "in", values)?;
        let mut places = Vec::with_capacity(values.len());
        for value in values.iter().filter(|value| !value.is_null()) {
            places.push(self.bind(scalar(column, value)?));
        }
        let null = values.iter().any(Value::is_null);
        let clause = match (places.is_empty(), null) {
            (false, false) => format!("c{i} IN ({})", places.join(", ")),
            (false, true) => format!("(c{i} IN ({}) OR c{i} IS NULL)", places.join(", ")),
            (true, _) => format!("c{i} IS NULL"),
        };
        self.clauses.push(clause);
        Ok(())
    }

    fn contains(&mut self, i: usize, column: &ColumnSummary, value: &Value) -> Result<(), Problem> {
        let one;
        let values = if value.is_string() {
            one = [value.clone()];
            one.as_slice()
        } else {
            list(column, "contains", value)?
        };
        for value in values {
            let Value::String(text) = value else {
                return Err(wrong(column, "contains takes strings"));
            };
            let place = self.bind(SqlValue::Text(text.clone()));
            self.clauses.push(if column.kind == ColumnType::Set {
                format!(
                    "EXISTS (SELECT 1 FROM json_each(c{i}) AS member WHERE member.value = {place})"
                )
            } else {
                format!("instr(c{i}, {place}) > 0")
            });
        }
        Ok(())
    }

    fn bind(&mut self, value: SqlValue) -> String {
        self.values.push(value);
        format!("?{}", self.values.len())
    }
}

fn columns(summary: &TableSummary, wanted: Option<&Value>) -> Result<Vec<usize>, Problem> {
    let Some(wanted) = wanted else { return Ok((0..summary.columns.len()).collect()) };
    let wanted = wanted.as_array().filter(|wanted| !wanted.is_empty());
    let Some(wanted) = wanted else {
        return Err(Problem::invalid("columns must be a list of at least one column name"));
    };
    let mut found = Vec::new();
    for name in wanted {
        let Value::String(name) = name else {
            return Err(Problem::invalid("columns must be a list of column names"));
        };
        let i = find(summary, name)?;
        if found.contains(&i) {
            return Err(Problem::invalid(format!("columns names {} twice", quoted(name))));
        }
        found.push(i);
    }
    Ok(found)
}

/// The ORDER BY terms. Equal rows keep file order, so that equal requests have equal answers.
fn order(summary: &TableSummary, wanted: Option<&Value>) -> Result<String, Problem> {
    let one;
    let wanted = match wanted {
        None => &[],
        Some(Value::Array(names)) if (1..=MAX_ORDER_COLUMNS).contains(&names.len()) => {
            names.as_slice()
        }
        Some(name @ Value::String(_)) => {
            one = [name.clone()];
            one.as_slice()
        }
        Some(_) => {
            let problem = format!(
                "order must be a column name, \"-name\" for descending, or up to {MAX_ORDER_COLUMNS} of them"
            );
            return Err(Problem::invalid(problem));
        }
    };
    let mut terms = String::new();
    for name in wanted {
        let Value::String(name) = name else {
            return Err(Problem::invalid("order must name columns"));
        };
        let (i, direction) = match (
            summary.columns.iter().position(|column| column.name == *name),
            name.strip_prefix('-'),
        ) {
            (Some(i), _) => (i, "ASC"),
            (None, Some(rest)) => (find(summary, rest)?, "DESC"),
            (None, None) => (find(summary, name)?, "ASC"),
        };
        if let Some(column) = summary.columns.get(i).filter(|column| !column.kind.is_ordered()) {
            return Err(wrong(column, &format!("a {} has no order", column.kind.name())));
        }
        terms.push_str(&format!("c{i} {direction}, "));
    }
    terms.push_str("rowid ASC");
    Ok(terms)
}

fn whole(request: &Map<String, Value>, key: &str, default: u64, max: u64) -> Result<u64, Problem> {
    match request.get(key) {
        None => Ok(default),
        Some(value) => value.as_u64().filter(|n| *n <= max).ok_or_else(|| {
            Problem::invalid(format!("{key} must be a whole number from 0 to {max}"))
        }),
    }
}

fn find(summary: &TableSummary, name: &str) -> Result<usize, Problem> {
    summary.columns.iter().position(|column| column.name == name).ok_or_else(|| {
        let names: Vec<String> = summary.columns.iter().map(|column| column.name.clone()).collect();
        Problem::invalid(format!(
            "no column {}; columns are {}",
            quoted(name),
            super::summary::abridged(&names, 200)
        ))
    })
}

fn list<'v>(column: &ColumnSummary, word: &str, value: &'v Value) -> Result<&'v [Value], Problem> {
    value
        .as_array()
        .filter(|values| (1..=MAX_VALUES).contains(&values.len()))
        .map(Vec::as_slice)
        .ok_or_else(|| wrong(column, &format!("{word} takes a list of 1 to {MAX_VALUES} values")))
}

fn scalar(column: &ColumnSummary, value: &Value) -> Result<SqlValue, Problem> {
    let bound = match (column.kind, value) {
        (ColumnType::Bool, Value::Bool(value)) => Some(SqlValue::Integer(i64::from(*value))),
        (ColumnType::Int, Value::Number(number)) => {
            number.as_i64().or_else(|| whole_float(number)).map(SqlValue::Integer)
        }
        (ColumnType::Decimal, Value::Number(number)) => number.as_f64().map(SqlValue::Real),
        (ColumnType::Text, Value::String(text)) => Some(SqlValue::Text(text.clone())),
        (ColumnType::Date, Value::String(text)) => {
            parse_date(text).map(|_| SqlValue::Text(text.clone()))
        }
        (ColumnType::Timestamp, Value::String(text)) => {
            parse_timestamp(text).map(SqlValue::Integer)
        }
        _ => None,
    };
    bound.ok_or_else(|| {
        wrong(column, &format!("{} is not {}", quoted(&value.to_string()), expected(column.kind)))
    })
}

/// `5.0` means 5, as in JSON Schema and in the canonical encoding of requests.
fn whole_float(number: &serde_json::Number) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let value = number.as_f64()?;
    #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53, checked here")]
    (value.fract() == 0.0 && value.abs() < EXACT).then_some(value as i64)
}

#[derive(Clone, Copy)]
enum Edge {
    First,
    Last,
}

/// One end of a range. Of a day, month or year, `from` takes the beginning and `to` the end.
fn edge(column: &ColumnSummary, value: &Value, edge: Edge) -> Result<SqlValue, Problem> {
    let (Value::String(text), true) = (value, column.kind.is_time()) else {
        return scalar(column, value);
    };
    let not_a_time = || {
        wrong(
            column,
            &format!("{} is not {}, a month or a year", quoted(text), expected(column.kind)),
        )
    };
    match (days(text), column.kind, edge) {
        (Some((first, _)), ColumnType::Date, Edge::First) => Ok(SqlValue::Text(first.to_string())),
        (Some((_, last)), ColumnType::Date, Edge::Last) => Ok(SqlValue::Text(last.to_string())),
        (None, ColumnType::Date, _) => Err(not_a_time()),
        (Some((first, _)), _, Edge::First) => {
            midnight(first).map(SqlValue::Integer).ok_or_else(not_a_time)
        }
        (Some((_, last)), _, Edge::Last) => {
            let end = midnight(last).map(|start| start + 86_400_000_000 - 1);
            end.map(SqlValue::Integer).ok_or_else(not_a_time)
        }
        (None, _, _) => parse_timestamp(text).map(SqlValue::Integer).ok_or_else(not_a_time),
    }
}

/// First and last day of `YYYY`, `YYYY-MM` or `YYYY-MM-DD`.
fn days(text: &str) -> Option<(Date, Date)> {
    match text.len() {
        4 => parse_date(&format!("{text}-01-01")).zip(parse_date(&format!("{text}-12-31"))),
        7 => parse_date(&format!("{text}-01")).map(|first| (first, first.last_of_month())),
        10 => parse_date(text).map(|day| (day, day)),
        _ => None,
    }
}

fn midnight(day: Date) -> Option<i64> {
    parse_timestamp(&day.to_string())
}

fn expected(kind: ColumnType) -> &'static str {
    match kind {
        ColumnType::Bool => "true or false",
        ColumnType::Int => "a whole number",
        ColumnType::Decimal => "a number",
        ColumnType::Date => "a day (YYYY-MM-DD)",
        ColumnType::Timestamp => "a moment (RFC 3339)",
        ColumnType::Set => "a set",
        ColumnType::Text => "a string",
        ColumnType::Json => "null, the only condition on nested values",
    }
}

fn wrong(column: &ColumnSummary, problem: &str) -> Problem {
    Problem::invalid(format!("column {}: {problem}", quoted(&column.name)))
}

fn quoted(text: &str) -> String {
    format!("'{}'", printable(text, 80))
}
