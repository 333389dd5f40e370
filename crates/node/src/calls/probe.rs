//! Probes of tables: rows drawn at random are proved against the commitment in the table's declaration, and asked for again as anybody would. Who
//! claims more than it has, or answers from other data than it committed to, is found out; what it costs is two calls.
//!
//! The commitment says nothing of where the rows come from: rows that are made up can be proved as well. Source: DISCOVERY.md 5.7.

use std::collections::BTreeSet;
use std::str::FromStr as _;

use comity_api::types::{
    CallRequest, ErrorCode, ErrorInfo, ProbeRequest, ProbeResponse, QueryInput, ReuseWishes,
};
use comity_capability::attribute::{Interval, Value as Attribute};
use comity_capability::record::Capability;
use comity_capability::rows::{Claim, PROVED_MAX};
use comity_core::Hash;
use serde_json::{Map, Value, json};

use super::CallAnswer;
use crate::node::Node;

/// Rows proved where nothing else is said.
const ROWS: usize = 8;
/// Columns by whose values a proved row is asked for again.
const CONDITIONS_MAX: usize = 8;
/// Rows that may fit them.
const ALIKE_MAX: u64 = 1_000;

/// What a table's declaration says of all of it.
struct Declared {
    rows: u64,
    commitment: Hash,
    /// From when to when.
    time: Option<Interval>,
}

impl Declared {
    fn of(capability: &Capability) -> Option<Self> {
        let rows = match capability.attributes.get("data:rows") {
            Some(Attribute::Int(rows)) => u64::try_from(*rows).ok().filter(|rows| *rows > 0)?,
            _ => return None,
        };
        let commitment = match capability.attributes.get("data:merkle") {
            Some(Attribute::Bytes32(bytes)) => Hash(*bytes),
            _ => return None,
        };
        let time = capability.attributes.get("schema:temporalCoverage");
        Some(Self { rows, commitment, time: time.and_then(Attribute::interval) })
    }

    /// The first row, the last, and others drawn here, so that nobody can prepare for them.
    fn draw(&self, count: usize) -> Vec<u64> {
        let mut drawn = BTreeSet::from([0, self.rows.saturating_sub(1)]);
        let count = u64::try_from(count).unwrap_or(1).min(self.rows);
        while (drawn.len() as u64) < count {
            drawn.insert(rand::random_range(0..self.rows));
        }
        drawn.into_iter().collect()
    }
}

/// Rows with their proofs, as they were answered.
struct Proved {
    columns: Vec<Value>,
    rows: Vec<Vec<Value>>,
}

impl Proved {
    /// Reads an answer to `prove` and verifies every row of it.
    fn verified(answer: &Value, drawn: &[u64], declared: &Declared) -> Result<Self, String> {
        let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned();
        let columns = list(answer.get("columns")).ok_or("its answer has no columns")?;
        let rows = list(answer.get("rows")).ok_or("its answer has no rows")?;
        let proof = answer.get("proof");
        let paths = list(proof.and_then(|proof| proof.get("paths"))).ok_or("it proves nothing")?;
        if rows.len() != drawn.len() || paths.len() != drawn.len() {
            return Err(format!("{} rows were asked for, {} proved", drawn.len(), rows.len()));
        }
        let claim =
            Claim { columns: &columns, rows: declared.rows, commitment: &declared.commitment };
        let mut verified = Vec::new();
        for ((index, row), path) in drawn.iter().zip(rows).zip(paths) {
            let Value::Array(row) = row else { return Err(format!("row {index} is no row")) };
            let path: Option<Vec<Hash>> = path
                .as_array()
                .and_then(|path| path.iter().map(|hash| hash.as_str()?.parse().ok()).collect());
            if !path.is_some_and(|path| claim.holds(*index, &row, &path)) {
                return Err(format!("row {index} is not among those it committed to"));
            }
            verified.push(row);
        }
        Ok(Self { columns, rows: verified })
    }

    /// Whether rows that are in the order of time reach as far as is declared, by any column that says when: which one does is not declared. The first and
    /// the last row are always among them. Of rows in another order nothing is concluded.
    fn reach(&self, time: &Interval, schema: &Value) -> bool {
        let mut too_short = false;
        for (place, column) in self.columns.iter().enumerate() {
            if !matches!(kind(schema, column), Some("date" | "timestamp")) {
                continue;
            }
            let when = |row: &Vec<Value>| Interval::from_str(row.get(place)?.as_str()?).ok();
            let Some(moments) = self.rows.iter().map(when).collect::<Option<Vec<Interval>>>()
            else {
                continue;
            };
            let up = moments.windows(2).all(|pair| pair[0].from() <= pair[1].from());
            let down = moments.windows(2).all(|pair| pair[0].from() >= pair[1].from());
            let from = moments.iter().filter_map(Interval::from).min();
            let to = moments.iter().filter_map(Interval::to).max();
            if !(up || down) || Interval::new(from, to).is_some_and(|hull| hull.covers(time)) {
                return true;
            }
            too_short = true;
        }
        !too_short
    }

    /// The question to which one of the rows is an answer.
    fn question(&self, row: &[Value], schema: &Value) -> Value {
        let mut conditions = Map::new();
        for (column, value) in self.columns.iter().zip(row) {
            let Some(name) = column.as_str() else { continue };
            let plain = matches!(
                kind(schema, column),
                Some("int" | "decimal" | "text" | "bool" | "date" | "timestamp")
            );
            if conditions.len() < CONDITIONS_MAX && plain {
                conditions.insert(name.to_owned(), value.clone());
            }
        }
        json!({ "where": conditions, "columns": self.columns, "limit": ALIKE_MAX })
    }
}

/// The type of a column, as the interface of a table says it.
fn kind<'a>(schema: &'a Value, column: &Value) -> Option<&'a str> {
    let condition = schema.pointer("/properties/where/properties")?.get(column.as_str()?)?;
    condition.get("$ref")?.as_str()?.strip_prefix("#/$defs/")
}

impl Node {
    /// Has rows of a table proved and asks for one of them as anybody would.
    pub(crate) async fn probe_call(
        &self,
        request: ProbeRequest,
    ) -> Result<ProbeResponse, ErrorInfo> {
        let bad = |text: String| ErrorInfo::new(ErrorCode::BadRequest, text);
        let Some((_, name)) = request.target.rsplit_once('/') else {
            let text = format!("`{}` names no agent's capability", request.target);
            return Err(bad(text).hint("a probe tests one agent: give ADDRESS/CAPABILITY"));
        };
        let count = request.rows.unwrap_or(ROWS);
        if !(2..=PROVED_MAX).contains(&count) {
            return Err(bad(format!("2 to {PROVED_MAX} rows can be proved at once")));
        }
        let asked = self.probing(&request, json!({}));
        let timeout = std::time::Duration::from_millis(
            request.timeout_ms.unwrap_or(comity_api::types::DEFAULT_CALL_TIMEOUT_MS),
        );
        let callee = self.callees(&asked, timeout).await?.into_iter().next();
        let Some(callee) = callee.filter(|callee| callee.agent != self.id()) else {
            return Err(bad("an agent does not test itself".to_owned()).hint("name another"));
        };
        let Some(declared) = Declared::of(&callee.capability) else {
            let text = format!("`{}` commits to no rows", request.target);
            return Err(ErrorInfo::new(ErrorCode::NotFound, text).hint(
                "tables that `comity serve` publishes do; `comity attest canary` tests others",
            ));
        };
        let drawn = declared.draw(count);
        let answer = self.call_with(self.probing(&request, json!({ "prove": drawn }))).await?;
        let problem = match Proved::verified(answer.value(), &drawn, &declared) {
            Err(problem) => Some(problem),
            Ok(proved) => self.doubts(&request, &callee.capability, &declared, &proved).await?,
        };
        let now = self.inner.clock.now();
        let agent = callee.agent;
        let passed = problem.is_none();
        if passed {
            self.inner.results.reputation().confirmed(agent, now);
        } else {
            self.inner.results.reputation().disputed(agent, now);
        }
        let experiences = &self.inner.attest.experiences;
        let known = experiences
            .canary(&agent, name, passed, now)
            .await
            .map_err(|error| ErrorInfo::new(ErrorCode::Storage, crate::describe(&error)))?;
        Ok(ProbeResponse {
            agent: self.name_of(&agent),
            capability: name.to_owned(),
            passed,
            problem,
            rows: declared.rows,
            proved: drawn,
            in_a_row: known.canaries_in_a_row,
            acknowledged: known.acknowledged,
        })
    }

    /// What speaks against rows that are proved.
    async fn doubts(
        &self,
        request: &ProbeRequest,
        capability: &Capability,
        declared: &Declared,
        proved: &Proved,
    ) -> Result<Option<String>, ErrorInfo> {
        let schema = capability.interface.input_schema();
        if let Some(time) = &declared.time
            && !proved.reach(time, &schema)
        {
            let text = "its rows are in the order of time, and do not reach as far as it declares";
            return Ok(Some(text.to_owned()));
        }
        let place = rand::random_range(0..proved.rows.len().max(1));
        let Some(row) = proved.rows.get(place) else { return Ok(None) };
        let asked = self.probing(request, proved.question(row, &schema));
        let given: CallAnswer = self.call_with(asked).await?;
        let mut parts = given.items.iter().filter_map(|part| part.get("rows")?.as_array());
        let is_there = parts.any(|rows| rows.iter().any(|one| one.as_array() == Some(row)));
        let full = given.items.iter().any(|part| part.get("truncated") == Some(&Value::Bool(true)));
        Ok((!is_there && !full)
            .then(|| "its answer to a question leaves out a row that it committed to".to_owned()))
    }

    /// A call that is not answered from what is known already.
    fn probing(&self, request: &ProbeRequest, input: Value) -> CallRequest {
        let mut call = CallRequest::new(QueryInput::Text(request.target.clone()), input);
        (call.timeout_ms, call.max_attempts) = (request.timeout_ms, Some(1));
        call.reuse = ReuseWishes { fresh: true, unchecked: true, ..ReuseWishes::default() };
        call
    }
}
