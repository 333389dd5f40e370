//! How much work a schema can cause, computed before it is compiled.
//!
//! The cost of a sub-schema on a value with `levels` levels below it is one plus the cost of every sub-schema applied to
//! the same value (references, combinations) plus the cost of those applied to its members, one level down. Of
//! alternatives that apply to different members (`properties`, `prefixItems`) only the dearest counts, because one path
//! through the value meets one of them. Costs are remembered for each (sub-schema, levels), so computing them is cheap
//! even where checking would be exponential.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    MAX_PATTERNS, MAX_SCHEMA_BYTES, MAX_SCHEMA_DEPTH, MAX_VALUE_DEPTH, MAX_WORK, SchemaError,
    depth_exceeds,
};

/// Refuses schemas that are too large, refer to other documents, or multiply work.
pub(super) fn check(schema: &Value) -> Result<(), SchemaError> {
    if depth_exceeds(schema, MAX_SCHEMA_DEPTH) {
        return Err(SchemaError::TooDeep);
    }
    let bytes = schema.to_string().len();
    if bytes > MAX_SCHEMA_BYTES {
        return Err(SchemaError::TooLarge { bytes });
    }
    let mut patterns = 0;
    references(schema, true, &mut patterns)?;
    if patterns > MAX_PATTERNS {
        return Err(SchemaError::TooManyPatterns);
    }
    let mut meter = Meter { root: schema, known: BTreeMap::new() };
    let work = meter.cost("", schema, MAX_VALUE_DEPTH)?;
    if work > MAX_WORK { Err(SchemaError::TooMuchWork) } else { Ok(()) }
}

/// Looks at every object, wherever it stands: what only looks like a schema (inside `const`, say) is held to the same.
fn references(value: &Value, at_root: bool, patterns: &mut usize) -> Result<(), SchemaError> {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
        Value::Array(items) => items.iter().try_for_each(|item| references(item, false, patterns)),
        Value::Object(map) => {
            for (key, item) in map {
                let Value::String(text) = item else { continue };
                let outside = match key.as_str() {
                    "$ref" => !(text == "#" || text.starts_with("#/")),
                    "$dynamicRef" | "$recursiveRef" => true,
                    // A nested $id would change what the references below it mean.
                    "$id" | "id" => !at_root && (key == "$id"),
                    _ => false,
                };
                if outside {
                    return Err(SchemaError::Reference { found: format!("{key} \"{text}\"") });
                }
            }
            *patterns += usize::from(map.contains_key("pattern"));
            *patterns +=
                map.get("patternProperties").and_then(Value::as_object).map_or(0, Map::len);
            map.values().try_for_each(|item| references(item, false, patterns))
        }
    }
}

struct Meter<'s> {
    root: &'s Value,
    /// Cost by place and levels; `None` while it is being computed.
    known: BTreeMap<(String, usize), Option<u64>>,
}

impl<'s> Meter<'s> {
    fn cost(&mut self, place: &str, schema: &'s Value, levels: usize) -> Result<u64, SchemaError> {
        let Value::Object(map) = schema else { return Ok(1) };
        let key = (place.to_owned(), levels);
        match self.known.get(&key) {
            Some(Some(cost)) => return Ok(*cost),
            Some(None) => return Err(SchemaError::Circular { target: format!("#{place}") }),
            None => {}
        }
        self.known.insert(key.clone(), None);
        let mut cost = 1_u64.saturating_add(self.same_value(place, map, levels)?);
        if let Some(below) = levels.checked_sub(1) {
            cost = cost.saturating_add(self.members(place, map, below)?);
        }
        // Past the limit the exact number does not matter; stopping here keeps the memory bounded as well.
        if cost > MAX_WORK {
            return Err(SchemaError::TooMuchWork);
        }
        self.known.insert(key, Some(cost));
        Ok(cost)
    }

    fn same_value(
        &mut self,
        place: &str,
        map: &'s Map<String, Value>,
        levels: usize,
    ) -> Result<u64, SchemaError> {
        let mut cost = 0_u64;
        if let Some(Value::String(target)) = map.get("$ref") {
            let pointer = target.trim_start_matches('#').to_owned();
            let Some(schema) = self.root.pointer(&decoded(&pointer)) else {
                return Err(SchemaError::Missing { target: target.clone() });
            };
            cost = cost.saturating_add(self.cost(&decoded(&pointer), schema, levels)?);
        }
        for word in ["allOf", "anyOf", "oneOf"] {
            for (i, part) in
                map.get(word).and_then(Value::as_array).into_iter().flatten().enumerate()
            {
                cost =
                    cost.saturating_add(self.cost(&format!("{place}/{word}/{i}"), part, levels)?);
            }
        }
        for word in ["not", "if", "then", "else"] {
            if let Some(part) = map.get(word) {
                cost = cost.saturating_add(self.cost(&format!("{place}/{word}"), part, levels)?);
            }
        }
        for word in ["dependentSchemas", "dependencies"] {
            for (name, part) in map.get(word).and_then(Value::as_object).into_iter().flatten() {
                cost = cost.saturating_add(self.cost(&child(place, word, name), part, levels)?);
            }
        }
        Ok(cost)
    }

    fn members(
        &mut self,
        place: &str,
        map: &'s Map<String, Value>,
        below: usize,
    ) -> Result<u64, SchemaError> {
        let mut cost = 0_u64;
        let mut dearest = 0_u64;
        for (name, part) in map.get("properties").and_then(Value::as_object).into_iter().flatten() {
            dearest = dearest.max(self.cost(&child(place, "properties", name), part, below)?);
        }
        for word in ["prefixItems", "items"] {
            for (i, part) in
                map.get(word).and_then(Value::as_array).into_iter().flatten().enumerate()
            {
                dearest = dearest.max(self.cost(&format!("{place}/{word}/{i}"), part, below)?);
            }
        }
        for (name, part) in
            map.get("patternProperties").and_then(Value::as_object).into_iter().flatten()
        {
            cost = cost.saturating_add(self.cost(
                &child(place, "patternProperties", name),
                part,
                below,
            )?);
        }
        let words = [
            "items",
            "contains",
            "additionalProperties",
            "additionalItems",
            "propertyNames",
            "unevaluatedProperties",
            "unevaluatedItems",
        ];
        for word in words {
            if let Some(part) = map.get(word) {
                cost = cost.saturating_add(self.cost(&format!("{place}/{word}"), part, below)?);
            }
        }
        Ok(cost.saturating_add(dearest))
    }
}

fn child(place: &str, word: &str, name: &str) -> String {
    format!("{place}/{word}/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// A `$ref` is a URI fragment: its percent-encoding goes before the pointer is followed.
fn decoded(pointer: &str) -> String {
    if !pointer.contains('%') {
        return pointer.to_owned();
    }
    let bytes = pointer.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let code = (byte == b'%')
            .then(|| pointer.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        out.push(code.unwrap_or(byte));
        at += if code.is_some() { 3 } else { 1 };
    }
    String::from_utf8(out).unwrap_or_else(|_| pointer.to_owned())
}
