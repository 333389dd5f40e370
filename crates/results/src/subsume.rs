//! Answering a question to a table from the answer to a larger one: a smaller range, fewer columns, fewer rows.
//!
//! The rules are few and cheap, and err towards asking: a request is contained in another when every condition of the larger one is, word for
//! word or by a narrower range, among its own; when what it filters by and shows was shown; when both sort alike; and when the larger answer was
//! complete. The answer is then made as the table itself would have made it, to the byte.
//!
//! Nothing new is signed: the asker derives the answer for itself, and [`Chain`] names the receipt it rests on and the two requests, so that
//! anybody who has the larger answer can derive it again.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use comity_core::canonical::{JsonError, hash_json};
use comity_core::receipt::SignedReceipt;
use comity_core::{Hash, Time};
use serde_json::{Map, Value, json};

/// Name of these rules in a [`Chain`]; other rules get another name.
pub const RULE: &str = "table/1";
/// Rows of one part of a streamed answer of a table.
pub const PART_ROWS: usize = 256;
/// Rows that a table gives when a request sets no limit.
pub const DEFAULT_ROWS: u64 = 1_000;
/// Answers of more rows are not searched for smaller ones.
pub const ROWS_MAX: usize = 100_000;

/// How a derived answer came to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    /// The rules applied.
    pub rule: &'static str,
    /// The producer's statement about the larger answer.
    pub receipt: SignedReceipt,
    /// The larger request.
    pub larger: Value,
    /// Hash of the request that was answered.
    pub request: Hash,
    /// Hash of the derived answer.
    pub response: Hash,
}

/// Why a request is not answered from another's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotContained {
    /// One of them is no request to a table.
    #[error("it is not a request to a table")]
    Form,
    /// The larger one did not get everything it asked for.
    #[error("the larger answer is not complete")]
    Incomplete,
    /// The larger one is not larger.
    #[error("the known answer leaves out rows that are asked for")]
    Rows,
    /// A column is missing.
    #[error("the known answer lacks a column that is asked for or filtered by")]
    Columns,
    /// They sort differently.
    #[error("the known answer is in another order")]
    Order,
    /// A condition cannot be evaluated here as the table would.
    #[error("a condition of it is left to the table")]
    Condition,
    /// Its answer would be so large that the table cuts it into parts by size.
    #[error("the answer would be too long to be cut as the table cuts it")]
    Length,
}

/// The latest time that a request to a table is about: the end of its range over `field`. `None` when it is open, or about no time.
#[must_use]
pub fn latest_time(request: &Value, field: &str) -> Option<Time> {
    let condition = request.get("where")?.get(field)?;
    let text = match condition {
        Value::String(text) => text,
        Value::Object(words) => match (words.get("to"), words.get("in")) {
            (Some(Value::String(text)), _) => text,
            (None, Some(Value::Array(values))) => {
                let times = values.iter().map(|value| span(value.as_str()?).map(|(_, last)| last));
                return times
                    .collect::<Option<Vec<u64>>>()?
                    .into_iter()
                    .max()
                    .map(Time::from_micros);
            }
            _ => return None,
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => return None,
    };
    span(text).map(|(_, last)| Time::from_micros(last))
}

/// What the columns of a table hold, as its interface declares it: what a condition means depends on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Columns(BTreeMap<String, Kind>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Number,
    Time,
    Other,
}

impl Columns {
    /// The columns of a table, from the schema of its requests; none when that is no table's.
    #[must_use]
    pub fn of_schema(input_schema: &Value) -> Self {
        let conditions =
            input_schema.pointer("/properties/where/properties").and_then(Value::as_object);
        let kind = |condition: &Value| match condition.get("$ref").and_then(Value::as_str) {
            Some("#/$defs/int" | "#/$defs/decimal") => Kind::Number,
            Some("#/$defs/date" | "#/$defs/timestamp") => Kind::Time,
            Some(_) | None => Kind::Other,
        };
        let named = conditions.into_iter().flatten();
        Self(named.map(|(name, condition)| (name.clone(), kind(condition))).collect())
    }

    fn kind(&self, column: &str) -> Result<Kind, NotContained> {
        self.0.get(column).copied().ok_or(NotContained::Columns)
    }
}

/// A question that has the form of a request to a table, read once to be held against many answers: nothing else is answered from another's.
#[derive(Debug)]
pub struct Asked<'a>(Request<'a>);

impl<'a> Asked<'a> {
    /// Reads a question; `None` when it is no request to a table.
    #[must_use]
    pub fn read(request: &'a Value) -> Option<Self> {
        Request::read(request).ok().map(Self)
    }

    /// Whether it may be answered from the answer to `larger`, as far as the requests tell; [`derive()`] decides.
    #[must_use]
    pub fn is_within(&self, table: &Columns, larger: &Value) -> bool {
        let Self(wanted) = self;
        let Ok(larger) = Request::read(larger) else { return false };
        let shows = |column: &&str| larger.columns.as_ref().is_none_or(|all| all.contains(column));
        let columns = match &wanted.columns {
            Some(columns) => columns.iter().all(shows),
            None => larger.columns.is_none(),
        };
        larger.offset == 0
            && larger.order == wanted.order
            && columns
            && extra_conditions(table, larger.conditions, wanted.conditions)
                .is_ok_and(|extra| extra.iter().all(|(column, _)| shows(column)))
    }
}

/// The answer to `request` out of the complete answer `items` to `larger`, as the table of these columns would give it.
///
/// # Errors
/// [`NotContained`] says why it cannot be had from it.
pub fn derive(
    table: &Columns,
    larger: &Value,
    items: &[Value],
    request: &Value,
) -> Result<Vec<Value>, NotContained> {
    let (larger, wanted) = (Request::read(larger)?, Request::read(request)?);
    let known = Known::read(&larger, items)?;
    if larger.order != wanted.order {
        return Err(NotContained::Order);
    }
    let extra = extra_conditions(table, larger.conditions, wanted.conditions)?;
    let tests: Vec<(usize, Test<'_>)> = extra
        .into_iter()
        .map(|(column, condition)| {
            Ok((known.column(column)?, Test::read(condition, table.kind(column)?)?))
        })
        .collect::<Result<_, NotContained>>()?;
    let columns: Vec<&str> = match &wanted.columns {
        Some(columns) => columns.clone(),
        // All columns of the table; only an answer that asked for all of them shows which those are.
        None if larger.columns.is_none() => known.columns.clone(),
        None => return Err(NotContained::Columns),
    };
    let places: Vec<usize> =
        columns.iter().map(|column| known.column(column)).collect::<Result<_, _>>()?;
    let mut rows = Vec::new();
    for row in known.rows {
        let mut passes = true;
        for (place, test) in &tests {
            passes &= test.holds(row.get(*place).unwrap_or(&Value::Null))?;
        }
        if passes {
            rows.push(row);
        }
    }
    answer(&wanted, &columns, &places, &rows)
}

/// Derives, and says how.
///
/// # Errors
/// [`NotContained`].
pub fn derive_with_chain(
    table: &Columns,
    receipt: &SignedReceipt,
    larger: &Value,
    items: &[Value],
    request: &Value,
) -> Result<(Vec<Value>, Chain), NotContained> {
    let derived = derive(table, larger, items, request)?;
    let form = |_: JsonError| NotContained::Form;
    let mut body = blake3::Hasher::new();
    for item in &derived {
        body.update(&comity_core::canonical::from_json(item).map_err(form)?);
    }
    let chain = Chain {
        rule: RULE,
        receipt: receipt.clone(),
        larger: larger.clone(),
        request: hash_json(request).map_err(form)?,
        response: Hash(*body.finalize().as_bytes()),
    };
    Ok((derived, chain))
}

#[derive(Debug)]
struct Request<'a> {
    conditions: Option<&'a Map<String, Value>>,
    columns: Option<Vec<&'a str>>,
    order: Vec<&'a str>,
    limit: u64,
    offset: u64,
    count: bool,
}

impl<'a> Request<'a> {
    fn read(request: &'a Value) -> Result<Self, NotContained> {
        const KNOWN: [&str; 6] = ["where", "columns", "order", "limit", "offset", "count"];
        let object = request.as_object().ok_or(NotContained::Form)?;
        if object.keys().any(|key| !KNOWN.contains(&key.as_str())) {
            return Err(NotContained::Form);
        }
        let names = |value: &'a Value| match value {
            Value::Array(names) => names.iter().map(Value::as_str).collect::<Option<Vec<&str>>>(),
            Value::String(name) => Some(vec![name.as_str()]),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
        };
        let list = |key: &str| {
            object.get(key).map(|value| names(value).ok_or(NotContained::Form)).transpose()
        };
        let number = |key: &str, default: u64| match object.get(key) {
            None => Ok(default),
            Some(value) => value.as_u64().ok_or(NotContained::Form),
        };
        let columns = list("columns")?;
        let (limit, offset) = (number("limit", DEFAULT_ROWS)?, number("offset", 0)?);
        // What a table refuses is not answered in its name.
        let unique =
            |columns: &Vec<&str>| columns.iter().collect::<BTreeSet<_>>().len() == columns.len();
        let fits = columns.as_ref().is_none_or(|columns| !columns.is_empty() && unique(columns));
        if !fits || limit > ROWS_MAX as u64 || offset > u64::from(u32::MAX) {
            return Err(NotContained::Form);
        }
        let conditions = match object.get("where") {
            None => None,
            Some(value) => Some(value.as_object().ok_or(NotContained::Form)?),
        };
        let count = match object.get("count") {
            None => false,
            Some(value) => value.as_bool().ok_or(NotContained::Form)?,
        };
        Ok(Self {
            conditions,
            columns,
            order: list("order")?.unwrap_or_default(),
            limit,
            offset,
            count,
        })
    }
}

/// The complete answer to the larger request.
struct Known<'a> {
    columns: Vec<&'a str>,
    rows: Vec<&'a Vec<Value>>,
}

impl<'a> Known<'a> {
    fn read(larger: &Request<'_>, items: &'a [Value]) -> Result<Self, NotContained> {
        let (Some(first), Some(last)) = (items.first(), items.last()) else {
            return Err(NotContained::Form);
        };
        // Rows left out at either end make everything else uncertain.
        if larger.offset != 0 || last.get("truncated") != Some(&Value::Bool(false)) {
            return Err(NotContained::Incomplete);
        }
        let columns = first.get("columns").and_then(Value::as_array).ok_or(NotContained::Form)?;
        let columns: Vec<&str> =
            columns.iter().map(Value::as_str).collect::<Option<_>>().ok_or(NotContained::Form)?;
        let mut rows = Vec::new();
        for item in items {
            let part = item.get("rows").and_then(Value::as_array).ok_or(NotContained::Form)?;
            for row in part {
                let row = row.as_array().filter(|row| row.len() == columns.len());
                rows.push(row.ok_or(NotContained::Form)?);
            }
            if rows.len() > ROWS_MAX {
                return Err(NotContained::Length);
            }
        }
        Ok(Self { columns, rows })
    }

    fn column(&self, name: &str) -> Result<usize, NotContained> {
        self.columns.iter().position(|column| *column == name).ok_or(NotContained::Columns)
    }
}

/// The conditions that the smaller request has beyond the larger one's, if each of the larger one's holds for all it asks for.
fn extra_conditions<'a>(
    table: &Columns,
    larger: Option<&Map<String, Value>>,
    wanted: Option<&'a Map<String, Value>>,
) -> Result<Vec<(&'a str, &'a Value)>, NotContained> {
    let empty = Map::new();
    let larger = larger.unwrap_or(&empty);
    for (column, condition) in larger {
        let own = wanted.and_then(|wanted| wanted.get(column)).ok_or(NotContained::Rows)?;
        if !implies(own, condition, table.kind(column)?)? {
            return Err(NotContained::Rows);
        }
    }
    let own = wanted.into_iter().flatten();
    Ok(own
        .filter(|(column, condition)| larger.get(*column) != Some(*condition))
        .map(|(column, condition)| (column.as_str(), condition))
        .collect())
}

/// Whether whatever fulfils `narrow` fulfils `wide`.
fn implies(narrow: &Value, wide: &Value, kind: Kind) -> Result<bool, NotContained> {
    if narrow == wide {
        return Ok(true);
    }
    let (narrow, wide) = (Test::read(narrow, kind)?, Test::read(wide, kind)?);
    match (&narrow, &wide) {
        (Test::OneOf(values), _) => {
            for value in values {
                if !wide.holds(value)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        (Test::Range { from, to }, Test::Range { from: wide_from, to: wide_to }) => {
            let above = match (from, wide_from) {
                (_, None) => true,
                (None, Some(_)) => false,
                (Some(narrow), Some(wide)) => compare(narrow, wide)?.is_ge(),
            };
            let below = match (to, wide_to) {
                (_, None) => true,
                (None, Some(_)) => false,
                (Some(narrow), Some(wide)) => compare(narrow, wide)?.is_le(),
            };
            Ok(above && below)
        }
        (Test::Range { .. }, Test::OneOf(_)) => Ok(false),
    }
}

/// A condition that means here what it means to the table.
enum Test<'a> {
    OneOf(Vec<&'a Value>),
    Range { from: Option<Edge>, to: Option<Edge> },
}

/// One end of a range, or a value that is held against one.
#[derive(Clone, Copy)]
enum Edge {
    Number(f64),
    /// Microseconds since the UNIX epoch. Of a day, month or year, the first for `from`, the last for `to`.
    Time(u64),
}

#[derive(Clone, Copy)]
enum Side {
    From,
    To,
}

impl<'a> Test<'a> {
    fn read(condition: &'a Value, kind: Kind) -> Result<Self, NotContained> {
        let words = match condition {
            Value::Object(words) => words,
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Null => {
                return exact(std::slice::from_ref(condition)).map(Self::OneOf);
            }
            Value::Array(_) => return Err(NotContained::Condition),
        };
        if let (1, Some(Value::Array(values))) = (words.len(), words.get("in")) {
            return exact(values).map(Self::OneOf);
        }
        // Texts have an order too, which is the table's own.
        let ranged = !words.is_empty() && words.keys().all(|word| word == "from" || word == "to");
        if !ranged || kind == Kind::Other {
            return Err(NotContained::Condition);
        }
        let edge =
            |word: &str, side| words.get(word).map(|value| Edge::read(value, side)).transpose();
        Ok(Self::Range { from: edge("from", Side::From)?, to: edge("to", Side::To)? })
    }

    fn holds(&self, value: &Value) -> Result<bool, NotContained> {
        match self {
            Self::OneOf(values) => {
                for known in values {
                    if equal(known, value)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Self::Range { from, to } => {
                // The table has no order for what is absent: it is in no range.
                if value.is_null() {
                    return Ok(false);
                }
                let value = Edge::read(value, Side::From)?;
                let above = from.map(|from| compare(&value, &from)).transpose()?;
                let below = to.map(|to| compare(&value, &to)).transpose()?;
                Ok(above.is_none_or(Ordering::is_ge) && below.is_none_or(Ordering::is_le))
            }
        }
    }
}

/// Values to be equal to. Times are left to the table unless they are spelled as it spells them.
fn exact(values: &[Value]) -> Result<Vec<&Value>, NotContained> {
    let scalar = |value: &&Value| !value.is_array() && !value.is_object();
    if values.iter().all(|value| scalar(&value)) {
        Ok(values.iter().collect())
    } else {
        Err(NotContained::Condition)
    }
}

/// Whether a value is the one of a condition. Values of two kinds, and times spelled in two ways, are left to the table.
fn equal(known: &Value, value: &Value) -> Result<bool, NotContained> {
    match (known, value) {
        (Value::Null, _) | (_, Value::Null) => Ok(known.is_null() && value.is_null()),
        (Value::Number(a), Value::Number(b)) => {
            Ok(a == b || a.as_f64().zip(b.as_f64()).is_some_and(|(a, b)| a == b))
        }
        (Value::String(a), Value::String(b)) => {
            let timely = |text: &str| text.get(..10).is_some_and(|day| shaped(day, "dddd-dd-dd"));
            let one_spelling = (is_day(a) && is_day(b)) || (is_moment(a) && is_moment(b));
            if (timely(a) || timely(b)) && !one_spelling {
                return Err(NotContained::Condition);
            }
            Ok(a == b)
        }
        (Value::Bool(a), Value::Bool(b)) => Ok(a == b),
        _ => Err(NotContained::Condition),
    }
}

impl Edge {
    fn read(value: &Value, side: Side) -> Result<Self, NotContained> {
        match value {
            Value::Number(number) => {
                // Beyond 2^53 two integers may be one float.
                const EXACT: f64 = 9_007_199_254_740_992.0;
                let number = number.as_f64().filter(|number| number.abs() < EXACT);
                number.map(Self::Number).ok_or(NotContained::Condition)
            }
            Value::String(text) => {
                let (first, last) = span(text).ok_or(NotContained::Condition)?;
                Ok(Self::Time(match side {
                    Side::From => first,
                    Side::To => last,
                }))
            }
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
                Err(NotContained::Condition)
            }
        }
    }
}

fn compare(a: &Edge, b: &Edge) -> Result<Ordering, NotContained> {
    match (a, b) {
        (Edge::Number(a), Edge::Number(b)) => a.partial_cmp(b).ok_or(NotContained::Condition),
        (Edge::Time(a), Edge::Time(b)) => Ok(a.cmp(b)),
        (Edge::Number(_), Edge::Time(_)) | (Edge::Time(_), Edge::Number(_)) => {
            Err(NotContained::Condition)
        }
    }
}

/// `YYYY-MM-DD`.
fn is_day(text: &str) -> bool {
    shaped(text, "dddd-dd-dd")
}

/// `YYYY-MM-DDThh:mm:ssZ`, as a table writes moments without a fraction.
fn is_moment(text: &str) -> bool {
    shaped(text, "dddd-dd-ddTdd:dd:ddZ")
}

fn shaped(text: &str, shape: &str) -> bool {
    text.len() == shape.len()
        && text.bytes().zip(shape.bytes()).all(|(byte, wanted)| {
            if wanted == b'd' { byte.is_ascii_digit() } else { byte == wanted }
        })
}

/// The parts that a table would send.
fn answer(
    wanted: &Request<'_>,
    columns: &[&str],
    places: &[usize],
    rows: &[&Vec<Value>],
) -> Result<Vec<Value>, NotContained> {
    let as_index = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let (offset, limit) = (as_index(wanted.offset), as_index(wanted.limit));
    let after: Vec<&Vec<Value>> = rows.iter().skip(offset).copied().collect();
    let given = after.len().min(limit);
    let truncated = after.len() > limit;
    let shown = |row: &&Vec<Value>| -> Value {
        places.iter().map(|place| row.get(*place).cloned().unwrap_or(Value::Null)).collect()
    };
    let shown: Vec<Value> = after.iter().take(given).map(shown).collect();
    let part = |rows: &[Value]| json!({ "columns": columns, "rows": rows });
    let mut parts: Vec<Value> = shown.chunks(PART_ROWS).map(part).collect();
    if parts.iter().any(|part| {
        comity_core::canonical::from_json(part).map_or(usize::MAX, |bytes| bytes.len())
            > PART_BYTES_SAFE
    }) {
        return Err(NotContained::Length);
    }
    if parts.is_empty() {
        parts.push(part(&[]));
    }
    let total = if wanted.count {
        Some(rows.len())
    } else {
        // What a table knows without counting.
        (!truncated && (given > 0 || offset == 0)).then_some(offset.saturating_add(given))
    };
    if let Some(last) = parts.last_mut() {
        last["truncated"] = Value::Bool(truncated);
        if let Some(total) = total {
            last["total"] = Value::from(total);
        }
    }
    Ok(parts)
}

/// Below this, a table does not cut a part of [`PART_ROWS`] rows by its bytes: it counts at most eight a value more than the text of it.
const PART_BYTES_SAFE: usize = 64 * 1024;

const DAY_US: u64 = 86_400 * 1_000_000;

/// The first and last microsecond of a day, month or year, or the one of a moment without a fraction; `None` for other texts, for days that do
/// not exist and for times before 1970.
fn span(text: &str) -> Option<(u64, u64)> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<u64>().ok();
    if is_moment(text) {
        let day = day_number(number(0..4)?, number(5..7)?, number(8..10)?)?;
        let [hour, minute, second] = [number(11..13)?, number(14..16)?, number(17..19)?];
        let exists = hour < 24 && minute < 60 && second < 60;
        let at = day * DAY_US + (hour * 3600 + minute * 60 + second) * 1_000_000;
        return exists.then_some((at, at));
    }
    let (first, after) = if shaped(text, "dddd") {
        let year = number(0..4)?;
        (day_number(year, 1, 1)?, day_number(year + 1, 1, 1)?)
    } else if shaped(text, "dddd-dd") {
        let (year, month) = (number(0..4)?, number(5..7)?);
        let (next_year, next) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
        (day_number(year, month, 1)?, day_number(next_year, next, 1)?)
    } else if is_day(text) {
        let day = day_number(number(0..4)?, number(5..7)?, number(8..10)?)?;
        (day, day + 1)
    } else {
        return None;
    };
    Some((first * DAY_US, after * DAY_US - 1))
}

/// Days from 1970-01-01 to a Gregorian date; `None` before it, and when there is no such day.
///
/// Source: Howard Hinnant, "chrono-compatible low-level date algorithms", `days_from_civil`.
fn day_number(year: u64, month: u64, day: u64) -> Option<u64> {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let longest = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    if day == 0 || day > longest {
        return None;
    }
    let year = if month <= 2 { year.checked_sub(1)? } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    (era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year).checked_sub(719_468)
}
