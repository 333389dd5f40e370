//! The JSON form: a superset of the Agentic Resource Discovery `query {text, filter}`.
//!
//! ```json
//! {"query": {"text": "…", "name": "…", "filter": {"pair": {"all": ["EUR/USD"]}}, "exclude": {"tags": ["synthetic"]}},
//!  "rank": "balanced", "k": 5, "probe": 3, "budget": {"ms": 2500, "kb": 400}, "evidence": true}
//! ```
//!
//! The value of a filter key is: a scalar (`eq`), an array of scalars (`any`), an object of operators, which all must hold, or an array of
//! such objects. An object's `soft: true` makes its conditions preferences; its `currency` completes amounts.

use serde_json::{Map, Value as Json, json};

use super::ast::{Budget, Condition, Draft, Query, RankProfile};
use super::build::{self, Kind, Op, Raw};
use super::error::{QueryError, quote};
use super::{CONDITIONS_MAX, K_DEFAULT};

type Object = Map<String, Json>;

const EXAMPLE: &str =
    r#"{"query":{"text":"exchange rates","filter":{"pair":{"all":["EUR/USD"]}}},"k":5}"#;
const FILTER_EXAMPLE: &str = r#"{"filter":{"pair":["EUR/USD"],"time":{"covers":"2021/2024"}}}"#;

impl Query {
    /// Reads the JSON form. The members of `query` may also stand at the top.
    ///
    /// # Errors
    /// [`QueryError`], with the path of the offending member.
    pub fn from_json(json: &Json) -> Result<Self, QueryError> {
        let Json::Object(top) = json else {
            return Err(wrong("the query", "an object", json, EXAMPLE));
        };
        let mut draft = Draft::default();
        let mut inner = false;
        for (name, value) in top {
            match name.as_str() {
                "query" => {
                    inner = true;
                    match value {
                        // ARD clients may send the words alone.
                        Json::String(text) => draft.text = Some(text.clone()),
                        Json::Object(query) => {
                            for (name, value) in query {
                                if !question(&mut draft, "query.", name, value)? {
                                    return Err(unknown(
                                        &format!("query.{name}"),
                                        "text, name, filter or exclude",
                                        value,
                                    ));
                                }
                            }
                        }
                        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Array(_) => {
                            return Err(wrong(
                                "query",
                                "an object with text, name, filter or exclude",
                                value,
                                EXAMPLE,
                            ));
                        }
                    }
                }
                "rank" => {
                    draft.rank = value
                        .as_str()
                        .and_then(RankProfile::by_name)
                        .ok_or_else(|| wrong_rank(value))?
                }
                "k" => draft.k = whole("k", value)?,
                "probe" => draft.probe = whole("probe", value)?,
                "budget" => draft.budget = budget(value)?,
                "evidence" => {
                    draft.evidence = value
                        .as_bool()
                        .ok_or_else(|| wrong("evidence", "true or false", value, EXAMPLE))?
                }
                "text" | "name" | "filter" | "exclude" if top.contains_key("query") => {
                    return Err(unknown(
                        name,
                        "this member inside `query`, which is given too",
                        value,
                    ));
                }
                _ => {
                    if !question(&mut draft, "", name, value)? {
                        return Err(unknown(
                            name,
                            "query, rank, k, probe, budget or evidence",
                            value,
                        ));
                    }
                    inner = true;
                }
            }
        }
        if inner { draft.finish() } else { Err(QueryError::Empty) }
    }

    /// The JSON form; [`Query::from_json`] gives the query back.
    pub fn to_json(&self) -> Json {
        let mut query = Object::new();
        if let Some(text) = self.text() {
            query.insert("text".into(), json!(text));
        }
        if let Some(name) = self.name() {
            query.insert("name".into(), json!(name));
        }
        for (member, conditions) in [("filter", self.conditions()), ("exclude", self.exclude())] {
            if !conditions.is_empty() {
                query.insert(member.into(), filter_json(conditions));
            }
        }
        let mut top = Object::new();
        top.insert("query".into(), Json::Object(query));
        if self.rank() != RankProfile::default() {
            top.insert("rank".into(), json!(self.rank().name()));
        }
        if self.k() != K_DEFAULT {
            top.insert("k".into(), json!(self.k()));
        }
        if self.probe() != 0 {
            top.insert("probe".into(), json!(self.probe()));
        }
        let Budget { ms, kb } = self.budget();
        let parts: Object = [("ms", ms), ("kb", kb)]
            .into_iter()
            .filter_map(|(name, n)| Some((name.into(), json!(n?))))
            .collect();
        if !parts.is_empty() {
            top.insert("budget".into(), Json::Object(parts));
        }
        if self.evidence() {
            top.insert("evidence".into(), json!(true));
        }
        Json::Object(top)
    }
}

/// Reads one member of `query`; false when there is no such member.
fn question(draft: &mut Draft, path: &str, name: &str, value: &Json) -> Result<bool, QueryError> {
    let text = || {
        value
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| wrong(&format!("{path}{name}"), "a text", value, EXAMPLE))
    };
    match name {
        "text" => draft.text = Some(text()?),
        "name" => draft.name = Some(text()?),
        "filter" => draft.conditions = filter(&format!("{path}filter"), value)?,
        "exclude" => draft.exclude = filter(&format!("{path}exclude"), value)?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn filter(path: &str, json: &Json) -> Result<Vec<Condition>, QueryError> {
    let Json::Object(members) = json else {
        return Err(wrong(path, "an object of keys and conditions", json, FILTER_EXAMPLE));
    };
    let mut out = Vec::new();
    for (name, value) in members {
        let path = format!("{path}.{name}");
        let (key, kind) = build::resolve(name).map_err(|error| placed(&path, error))?;
        let built = |op, raw: &Raw| {
            build::condition(&key, kind, op, raw).map_err(|error| placed(&path, error))
        };
        match value {
            Json::Array(items) if items.iter().any(Json::is_object) => {
                for item in items {
                    let Json::Object(operators) = item else {
                        return Err(wrong(
                            &path,
                            "an array of values or an array of operator objects",
                            item,
                            FILTER_EXAMPLE,
                        ));
                    };
                    out.extend(operators_of(&path, &key, kind, operators)?);
                }
            }
            Json::Array(items) => {
                out.push(built(Op::Any, &Raw { values: items.clone(), radius_m: None })?)
            }
            Json::Object(operators) => out.extend(operators_of(&path, &key, kind, operators)?),
            Json::Bool(_) | Json::Number(_) | Json::String(_) => {
                out.push(built(Op::Eq, &Raw { values: vec![value.clone()], radius_m: None })?)
            }
            Json::Null => {
                return Err(wrong(
                    &path,
                    "a value, an array of values, or an object of operators",
                    value,
                    FILTER_EXAMPLE,
                ));
            }
        }
        if out.len() > CONDITIONS_MAX {
            return Err(QueryError::Bound {
                bound: "CONDITIONS_MAX",
                what: "conditions",
                max: CONDITIONS_MAX,
                got: out.len(),
            });
        }
    }
    Ok(out)
}

/// The conditions of one operator object.
fn operators_of(
    path: &str,
    key: &str,
    kind: Kind,
    operators: &Object,
) -> Result<Vec<Condition>, QueryError> {
    let soft = match operators.get("soft") {
        None => false,
        Some(value) => value.as_bool().ok_or_else(|| {
            wrong(&format!("{path}.soft"), "true or false", value, FILTER_EXAMPLE)
        })?,
    };
    let currency = match operators.get("currency") {
        None => None,
        Some(Json::String(currency)) => Some(currency.as_str()),
        Some(value) => {
            return Err(wrong(
                &format!("{path}.currency"),
                "a currency such as \"USD\"",
                value,
                FILTER_EXAMPLE,
            ));
        }
    };
    let mut out = Vec::new();
    for (name, value) in operators {
        if name == "soft" || name == "currency" {
            continue;
        }
        let path = format!("{path}.{name}");
        let op = Op::by_name(name)
            .ok_or_else(|| placed(&path, build::wrong_operator(key, kind, name)))?;
        let raw = operands(&path, op, value, currency)?;
        out.push(
            build::condition(key, kind, op, &raw).map_err(|error| placed(&path, error))?.soft(soft),
        );
    }
    if out.is_empty() {
        return Err(wrong(
            path,
            "at least one operator",
            &Json::Object(operators.clone()),
            FILTER_EXAMPLE,
        ));
    }
    Ok(out)
}

fn operands(path: &str, op: Op, value: &Json, currency: Option<&str>) -> Result<Raw, QueryError> {
    let values = match (op, value) {
        (Op::Exists, Json::Bool(true)) => Vec::new(),
        (Op::Exists, _) => {
            return Err(wrong(
                path,
                "true; to ask for absence put the condition under exclude",
                value,
                FILTER_EXAMPLE,
            ));
        }
        (Op::Near, Json::Object(near)) => {
            let place = near.get("place").ok_or_else(|| {
                wrong(
                    path,
                    "a place",
                    value,
                    r#"{"near":{"place":"52.52,13.405","radius_m":50000}}"#,
                )
            })?;
            let radius = near.get("radius_m").ok_or_else(|| {
                wrong(
                    path,
                    "a radius_m",
                    value,
                    r#"{"near":{"place":"52.52,13.405","radius_m":50000}}"#,
                )
            })?;
            return Ok(Raw {
                values: vec![place.clone()],
                radius_m: Some(whole(&format!("{path}.radius_m"), radius)?),
            });
        }
        (Op::Any | Op::All | Op::Under | Op::Between, Json::Array(items)) => items.clone(),
        (_, value) => vec![value.clone()],
    };
    let Some(currency) = currency else { return Ok(Raw { values, radius_m: None }) };
    let is_number = |text: &str| text.parse::<crate::attribute::Decimal>().is_ok();
    let amount = |value: Json| match value.as_str() {
        Some(number) if is_number(number) => json!(format!("{number} {currency}")),
        None if value.is_number() => json!(format!("{value} {currency}")),
        Some(_) | None => value,
    };
    Ok(Raw { values: values.into_iter().map(amount).collect(), radius_m: None })
}

/// The filter object of conditions: an operator object for one condition on a key, an array of them for several.
fn filter_json(conditions: &[Condition]) -> Json {
    let mut out = Object::new();
    for condition in conditions {
        let object = condition_json(condition);
        match out.get_mut(&condition.key) {
            None => {
                out.insert(condition.key.clone(), object);
            }
            Some(Json::Array(several)) => several.push(object),
            Some(one) => *one = Json::Array(vec![one.take(), object]),
        }
    }
    Json::Object(out)
}

fn condition_json(condition: &Condition) -> Json {
    let (_, op, raw) = build::parts(condition);
    let value = match (op, raw.radius_m) {
        (Op::Exists, _) => json!(true),
        (Op::Near, radius_m) => json!({"place": raw.values.first(), "radius_m": radius_m}),
        (Op::Any | Op::All | Op::Under | Op::Between, _) => Json::Array(raw.values),
        (_, _) => raw.values.into_iter().next().unwrap_or(Json::Null),
    };
    let mut object = Object::new();
    object.insert(op.name().into(), value);
    if condition.soft {
        object.insert("soft".into(), json!(true));
    }
    Json::Object(object)
}

fn budget(json: &Json) -> Result<Budget, QueryError> {
    let Json::Object(members) = json else {
        return Err(wrong(
            "budget",
            "an object with ms or kb",
            json,
            r#"{"budget":{"ms":2500,"kb":400}}"#,
        ));
    };
    let mut out = Budget::default();
    for (name, value) in members {
        match name.as_str() {
            "ms" => out.ms = Some(whole("budget.ms", value)?),
            "kb" => out.kb = Some(whole("budget.kb", value)?),
            _ => return Err(unknown(&format!("budget.{name}"), "ms or kb", value)),
        }
    }
    Ok(out)
}

fn whole(path: &str, json: &Json) -> Result<u32, QueryError> {
    json.as_u64()
        .and_then(|n| u32::try_from(n).ok())
        .ok_or_else(|| wrong(path, "a whole number below 2^32", json, EXAMPLE))
}

fn wrong_rank(json: &Json) -> QueryError {
    wrong("rank", "balanced, cheapest, fastest or trusted", json, r#"{"rank":"balanced"}"#)
}

fn wrong(path: &str, expected: &str, found: &Json, example: &str) -> QueryError {
    QueryError::Json {
        path: path.into(),
        expected: expected.into(),
        found: quote(&found.to_string()),
        example: example.into(),
    }
}

fn unknown(path: &str, expected: &str, found: &Json) -> QueryError {
    wrong(path, expected, found, EXAMPLE)
}

/// The same error, with the path it belongs to.
fn placed(path: &str, error: QueryError) -> QueryError {
    match error {
        QueryError::Value { key, given, kind, why, .. } => QueryError::Json {
            path: path.into(),
            expected: format!("{kind} for {key} ({why})"),
            found: given,
            example: FILTER_EXAMPLE.into(),
        },
        QueryError::Operator { key, kind, operator, allowed, .. } => QueryError::Json {
            path: path.into(),
            expected: format!("one of {allowed}, because {key} is {kind}"),
            found: operator,
            example: FILTER_EXAMPLE.into(),
        },
        other @ (QueryError::Syntax { .. }
        | QueryError::Json { .. }
        | QueryError::Bound { .. }
        | QueryError::Empty) => other,
    }
}
