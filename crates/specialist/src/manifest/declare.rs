//! From a manifest (and what a table file says of itself) to a capability.
//!
//! The only file of this crate that knows the capability vocabulary.

use std::str::FromStr;
use std::time::Duration;

use comity_capability::attribute::{Period, Value as Attribute, ValueKind};
use comity_capability::profile;
use comity_capability::record::{
    Capability, Determinism, Interface, MAX_CLASSES, MAX_FREE_TEXT, MAX_NAME, MAX_TAGS, MAX_TITLE,
    Reuse, Scope, Tolerance, Visibility as Listed, clean,
};
use comity_capability::taxonomy::{self, ClassId};
use comity_core::Canonical;
use serde_json::{Value, json};

use super::{Finding, Level, Manifest, ToleranceEntry, Visibility};
use crate::schema::Validator;
use crate::table::{TableSummary, interface};

/// Most bytes of a declared capability in canonical form, so that its record stays within 8 KiB.
pub const MAX_DECLARATION_BYTES: usize = 7 * 1024;
/// Attributes that the directory's digest of a capability has room for.
const DIGEST_ATTRIBUTES: usize = 16;
/// Classes suggested for an unknown one.
const SUGGESTIONS: usize = 3;

/// A capability ready to be published, and what was noticed on the way.
#[derive(Debug, Clone)]
pub struct Declaration {
    /// The capability.
    pub capability: Capability,
    /// Warnings and hints, worst first.
    pub findings: Vec<Finding>,
}

/// Makes the declaration of a manifest; `summary` adds what a table file says of itself.
///
/// Of a table are derived, unless the manifest says otherwise: name and title from the file's name, description,
/// interface, `data:fields`, `data:rows`, `data:merkle`, `schema:temporalCoverage`, `dcat:temporalResolution`, `schema:spatialCoverage`,
/// the data version, and a set attribute for every column of few values whose name is a known attribute
/// (`country`, `currency`, …).
///
/// # Errors
/// All findings, worst first, when one of them is an error.
pub fn declare(
    manifest: &Manifest,
    summary: Option<&TableSummary>,
) -> Result<Declaration, Vec<Finding>> {
    let mut draft = Draft { manifest, summary, findings: Vec::new() };
    let capability = draft.capability();
    draft.findings.sort_by_key(|finding| finding.level);
    match capability {
        Some(capability) if draft.findings.iter().all(|finding| finding.level != Level::Error) => {
            Ok(Declaration { capability, findings: draft.findings })
        }
        _ => Err(draft.findings),
    }
}

/// A time such as `30s`, `1h` or `P1D`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    Period::from_str(text).ok().map(|period| Duration::from_micros(period.micros()))
}

struct Draft<'m> {
    manifest: &'m Manifest,
    summary: Option<&'m TableSummary>,
    findings: Vec<Finding>,
}

impl Draft<'_> {
    fn add(
        &mut self,
        level: Level,
        field: &str,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.findings.push(Finding {
            level,
            field: field.to_owned(),
            message: message.into(),
            fix: fix.into(),
        });
    }

    fn capability(&mut self) -> Option<Capability> {
        let name = self.name()?;
        let mut capability = match Capability::new(&name) {
            Ok(capability) => capability,
            Err(error) => {
                self.add(Level::Error, "name", error.to_string(), "rename it");
                return None;
            }
        };
        self.words(&mut capability);
        self.classes(&mut capability);
        self.interface(&mut capability);
        self.attributes(&mut capability);
        self.terms(&mut capability);
        if self.findings.iter().any(|finding| finding.level == Level::Error) {
            return None;
        }
        if let Err(error) = capability.check() {
            self.add(Level::Error, "manifest", error.to_string(), "mend that member");
        }
        let bytes = Canonical::encode(&capability).len();
        if bytes > MAX_DECLARATION_BYTES {
            let fix = "shorten descriptions and schemas, or serve fewer columns with `columns` in [table]";
            self.add(
                Level::Error,
                "manifest",
                format!("it takes {bytes} bytes, the limit is {MAX_DECLARATION_BYTES}"),
                fix,
            );
        }
        Some(capability)
    }

    fn name(&mut self) -> Option<String> {
        let stem = self
            .manifest
            .table
            .as_ref()
            .and_then(|table| table.file.file_stem())
            .and_then(|stem| stem.to_str());
        let derived = stem.map(slug).filter(|name| !name.is_empty());
        let name = self.manifest.name.clone().or(derived);
        if name.is_none() {
            self.add(
                Level::Error,
                "name",
                "it has no name",
                format!("give 1 to {MAX_NAME} of the characters a-z 0-9 - . _"),
            );
        }
        name
    }

    fn words(&mut self, capability: &mut Capability) {
        let manifest = self.manifest;
        capability.title = match &manifest.title {
            Some(title) => title.clone(),
            None => clean(&capability.name.replace(['-', '_', '.'], " "), MAX_TITLE),
        };
        if manifest.title.is_none() && manifest.table.is_none() {
            self.add(Level::Hint, "title", "it has no title", "give a line that says what it is");
        }
        capability.text = match (&manifest.description, self.summary) {
            (Some(text), _) => text.clone(),
            (None, Some(summary)) => described(summary),
            (None, None) => String::new(),
        };
        if manifest.description.is_none() {
            self.add(
                Level::Warning,
                "description",
                "nothing says what it does",
                "describe it in the words people ask with",
            );
        }
        if manifest.examples.is_empty() {
            self.add(
                Level::Hint,
                "examples",
                "it has no examples",
                "give two to five requests it answers, in words",
            );
        }
        capability.examples.clone_from(&manifest.examples);
        capability.tags = manifest.tags.iter().cloned().collect();
        if manifest.tags.len() > MAX_TAGS {
            self.add(
                Level::Error,
                "tags",
                format!("{} tags, the limit is {MAX_TAGS}", manifest.tags.len()),
                "keep the most telling ones",
            );
        }
    }

    fn classes(&mut self, capability: &mut Capability) {
        let manifest = self.manifest;
        if manifest.classes.is_empty() {
            let fix = "give one to four, such as finance_and_business/market_data/fx_rates";
            self.add(
                Level::Warning,
                "classes",
                "it has no class, so only words and attributes find it",
                fix,
            );
        }
        if manifest.classes.len() > MAX_CLASSES {
            let message = format!("{} classes, the limit is {MAX_CLASSES}", manifest.classes.len());
            self.add(Level::Error, "classes", message, "keep the most fitting ones");
        }
        for (i, label) in manifest.classes.iter().enumerate() {
            let field = format!("classes[{i}]");
            let id = match taxonomy::resolve(label) {
                Some(id) => id,
                None => match ClassId::from_str(label) {
                    Ok(id) => id,
                    Err(error) => {
                        self.add(Level::Error, &field, error.to_string(), nearest(label));
                        continue;
                    }
                },
            };
            if taxonomy::by_id(&id).is_none() {
                let message = format!(
                    "{label:?} is not a known class; it is kept as a label that only equal labels find"
                );
                self.add(Level::Warning, &field, message, nearest(label));
            }
            if capability.classes.contains(&id) {
                self.add(
                    Level::Warning,
                    &field,
                    format!("{label:?} names the same class as another"),
                    "remove it",
                );
            } else {
                capability.classes.push(id);
            }
        }
    }

    fn interface(&mut self, capability: &mut Capability) {
        let manifest = self.manifest;
        let (input, output) = match self.summary {
            Some(summary) => {
                let none = std::collections::BTreeMap::new();
                let notes = manifest.table.as_ref().map_or(&none, |table| &table.describe);
                for name in notes.keys().filter(|name| summary.column(name).is_none()) {
                    self.findings.push(Finding {
                        level: Level::Warning,
                        field: format!("table.describe.{name}"),
                        message: "the table has no such column".to_owned(),
                        fix: "correct the name or remove it".to_owned(),
                    });
                }
                (interface::input_schema(summary, notes), interface::output_schema(summary))
            }
            None => (self.schema("input_schema"), self.schema("output_schema")),
        };
        match Interface::new(&input, &output) {
            Ok(interface) => capability.interface = interface,
            Err(error) => {
                let fix = "shorten descriptions, or serve fewer columns with `columns` in [table]";
                self.add(Level::Error, "input_schema", error.to_string(), fix);
            }
        }
    }

    fn schema(&mut self, field: &str) -> Value {
        let (given, what) = match field {
            "input_schema" => (&self.manifest.input_schema, "requests"),
            _ => (&self.manifest.output_schema, "answers"),
        };
        match given {
            Some(schema) => {
                if let Err(error) = Validator::new(schema) {
                    self.add(Level::Error, field, error.to_string(), "mend the schema");
                }
                schema.clone()
            }
            None => {
                if self.manifest.table.is_none() {
                    let level = if field == "input_schema" { Level::Warning } else { Level::Hint };
                    self.add(
                        level,
                        field,
                        format!("any {what} are accepted"),
                        format!("describe {what} with a JSON Schema"),
                    );
                }
                json!({})
            }
        }
    }

    fn attributes(&mut self, capability: &mut Capability) {
        if let Some(summary) = self.summary {
            for (key, value) in derived_attributes(summary) {
                let known = profile::canonical_key(&key)
                    .is_ok_and(|key| capability.attributes.contains_key(&key));
                if !known && capability.declare(&key, &value).is_err() {
                    self.add(
                        Level::Hint,
                        &format!("attributes.{key}"),
                        "it could not be derived from the file",
                        "declare it by hand",
                    );
                }
            }
        }
        let manifest = self.manifest;
        for (key, raw) in &manifest.attributes {
            let field = format!("attributes.{key}");
            let before = profile::canonical_key(key)
                .ok()
                .and_then(|full| capability.attributes.get(&full).cloned());
            match capability.declare(key, raw) {
                Ok(full) => {
                    let declared = capability.attributes.get(&full);
                    if wider(declared, before.as_ref()) {
                        let covered = before.map(|value| value.to_string()).unwrap_or_default();
                        self.add(
                            Level::Warning,
                            &field,
                            format!("it claims more than the file covers ({covered})"),
                            "remove it to have it derived",
                        );
                    }
                    if profile::lookup(key).is_none() {
                        self.add(
                            Level::Hint,
                            &field,
                            "no profile knows this key, so it is only compared for equality",
                            nearest_key(key),
                        );
                    }
                }
                Err(error) => {
                    self.add(Level::Error, &field, error.to_string(), "correct the value")
                }
            }
        }
        for (key, text) in [("offer:price", &manifest.price), ("offer:unit", &manifest.price_unit)]
        {
            if let Some(text) = text
                && let Err(error) = capability.declare(key, &json!(text))
            {
                self.add(
                    Level::Error,
                    if key == "offer:price" { "price" } else { "price_unit" },
                    error.to_string(),
                    "write a price like \"0.001 USD\"",
                );
            }
        }
        if capability.attributes.len() > DIGEST_ATTRIBUTES {
            let message = format!(
                "{} attributes, and the directory indexes {DIGEST_ATTRIBUTES}",
                capability.attributes.len()
            );
            self.add(Level::Hint, "attributes", message, "remove those that nobody searches by");
        }
    }

    fn terms(&mut self, capability: &mut Capability) {
        let manifest = self.manifest;
        let table = manifest.table.is_some();
        capability.visibility = match manifest.visibility.unwrap_or(Visibility::Private) {
            Visibility::Public => Listed::Public,
            Visibility::Private => Listed::Private,
        };
        if manifest.group.is_some() && manifest.visibility == Some(Visibility::Public) {
            self.add(
                Level::Error,
                "group",
                "it is public and for a private group, which cannot both be",
                "leave out visibility to serve it to the group, or group to serve it to everyone",
            );
        }
        if manifest.visibility.is_none() && manifest.group.is_none() {
            let fix = "set visibility = \"public\" to have it found, or \"private\" to keep it so";
            self.add(
                Level::Hint,
                "visibility",
                "it is private: not listed, callable only by whom you allow",
                fix,
            );
        }
        capability.idempotent = manifest.idempotent.unwrap_or(table);
        capability.streaming = manifest.streaming.unwrap_or(table);
        if let Some(text) = &manifest.valid_for {
            match Attribute::from_json(ValueKind::Duration, &json!(text)) {
                Ok(Attribute::Duration(period)) => capability.valid_for = period,
                Ok(_) => {}
                Err(error) => self.add(
                    Level::Error,
                    "valid_for",
                    error.to_string(),
                    "write it like 1h or P1D",
                ),
            }
        }
        capability.data_version = match (&manifest.data_version, self.summary) {
            (Some(version), _) => version.clone(),
            (None, Some(summary)) => summary.data_version.clone(),
            (None, None) => String::new(),
        };
        self.reuse(capability);
    }

    /// What may be done with answers.
    fn reuse(&mut self, capability: &mut Capability) {
        let Some(section) = &self.manifest.reuse else { return };
        let is_table = self.manifest.table.is_some();
        let mut reuse =
            Reuse { sources: section.sources.iter().cloned().collect(), ..Reuse::default() };
        if is_table {
            reuse.determinism = Determinism::Exact;
        }
        if let Some(name) = &section.scope {
            match Scope::named(name) {
                Some(scope) => reuse.scope = scope,
                None => {
                    let message = format!("{name:?} is no scope");
                    let fix = "choose asker, holders, group or public";
                    self.add(Level::Error, "reuse.scope", message, fix);
                }
            }
        }
        if let Some(name) = &section.determinism {
            match Determinism::named(name) {
                Some(determinism) => reuse.determinism = determinism,
                None => {
                    let message = format!("{name:?} is not known");
                    let fix = "choose exact, comparable or free";
                    self.add(Level::Error, "reuse.determinism", message, fix);
                }
            }
        }
        if let Some(text) = &section.closed_until {
            match Attribute::from_json(ValueKind::Interval, &json!(text)) {
                // The last millisecond of the day, month or year that is named.
                Ok(Attribute::Interval(interval)) if interval.to().is_some() => {
                    let last = interval.to().map(|end| (end.micros() - 1) / 1_000);
                    reuse.closed_until_ms = last.and_then(|last| u64::try_from(last).ok());
                }
                Ok(_) | Err(_) => {
                    let message = format!("{text:?} is no date or time");
                    self.add(
                        Level::Error,
                        "reuse.closed_until",
                        message,
                        "write it like 2024-12-31",
                    );
                }
            }
            let of_table = self.summary.and_then(|summary| summary.time.as_ref());
            let table = self.manifest.table.as_ref();
            reuse.time_field = section
                .time_field
                .clone()
                .or_else(|| table.and_then(|table| table.time_column.clone()))
                .or_else(|| of_table.map(|time| time.column.clone()));
            if is_table && self.summary.is_none() && reuse.time_field.is_none() {
                // The file will tell which column it is.
                reuse.closed_until_ms = None;
            }
        }
        let tolerance = |entry: &ToleranceEntry| Tolerance {
            relative_ppm: entry.relative_ppm,
            absolute_nano: entry.absolute_nano,
        };
        let tolerances = section.tolerances.iter();
        reuse.tolerances =
            tolerances.map(|(field, entry)| (field.clone(), tolerance(entry))).collect();
        if let Err(error) = reuse.check() {
            self.add(Level::Error, "reuse", error.to_string(), "correct [reuse] in the manifest");
            return;
        }
        if reuse.scope == Scope::Group && self.manifest.group.is_none() {
            let fix = "name the group, or choose another scope";
            self.add(Level::Error, "reuse.scope", "it is served to no group", fix);
        }
        if reuse.scope == Scope::Public && self.manifest.visibility != Some(Visibility::Public) {
            let fix = "set visibility = \"public\", or scope = \"asker\"";
            let message = "answers are public, the capability is not";
            self.add(Level::Error, "reuse.scope", message, fix);
        }
        if capability.valid_for.micros() == 0 && reuse.closed_until_ms.is_none() {
            let fix = "say how long an answer is valid, such as valid_for = \"1h\"";
            self.add(
                Level::Warning,
                "valid_for",
                "no answer is valid long enough to be reused",
                fix,
            );
        }
        capability.reuse = Some(reuse);
    }
}

/// What a table file says of itself, as attributes in the order they take precedence.
fn derived_attributes(summary: &TableSummary) -> Vec<(String, Value)> {
    let fields: Vec<&str> = summary.columns.iter().map(|column| column.name.as_str()).collect();
    let mut found = vec![
        ("data:fields".to_owned(), json!(fields)),
        ("data:rows".to_owned(), json!(summary.rows)),
    ];
    if let Some(commitment) = &summary.commitment {
        found.push(("data:merkle".to_owned(), json!(commitment)));
    }
    if let Some(time) = &summary.time {
        found.push((
            "schema:temporalCoverage".to_owned(),
            json!(format!("{}/{}", time.from, time.to)),
        ));
        if let Some(resolution) = &time.resolution {
            found.push(("dcat:temporalResolution".to_owned(), json!(resolution)));
        }
    }
    if let Some(bbox) = summary.bbox {
        found.push((
            "schema:spatialCoverage".to_owned(),
            json!([bbox.west, bbox.south, bbox.east, bbox.north]),
        ));
    }
    for column in &summary.columns {
        if let (Some(values), Some(spec)) = (&column.values, profile::lookup(&column.name))
            && spec.kind == ValueKind::Set
        {
            found.push((spec.key.to_owned(), json!(values)));
        }
    }
    found
}

/// Whether a declared interval reaches beyond the one derived from the file.
fn wider(declared: Option<&Attribute>, derived: Option<&Attribute>) -> bool {
    match (declared.and_then(Attribute::interval), derived.and_then(Attribute::interval)) {
        (Some(declared), Some(derived)) => !derived.covers(&declared),
        _ => false,
    }
}

fn described(summary: &TableSummary) -> String {
    let fields: Vec<&str> = summary.columns.iter().map(|column| column.name.as_str()).collect();
    let time = summary
        .time
        .as_ref()
        .map(|time| format!(", {} to {}", time.from, time.to))
        .unwrap_or_default();
    clean(
        &format!("Table of {} rows{time}; columns {}", summary.rows, fields.join(", ")),
        MAX_FREE_TEXT,
    )
}

/// A capability name from a file name.
fn slug(stem: &str) -> String {
    let mapped: String = stem
        .to_lowercase()
        .chars()
        .map(|c| {
            if c.is_ascii_lowercase() || c.is_ascii_digit() || ['.', '_'].contains(&c) {
                c
            } else {
                '-'
            }
        })
        .collect();
    let parts: Vec<&str> = mapped.split('-').filter(|part| !part.is_empty()).collect();
    parts.join("-").chars().take(MAX_NAME).collect()
}

fn nearest(label: &str) -> String {
    let found: Vec<String> = taxonomy::nearest(label, SUGGESTIONS)
        .iter()
        .map(|class| format!("{} ({})", class.path, class.id))
        .collect();
    if found.is_empty() {
        "choose a class of the taxonomy".to_owned()
    } else {
        format!("did you mean {}?", found.join(", "))
    }
}

fn nearest_key(key: &str) -> String {
    /// Below this the suggestion confuses more than it helps.
    const LEAST_SIMILAR: f64 = 0.8;
    let wanted = key.to_lowercase();
    let similarity = |name: &str| strsim::jaro_winkler(&wanted, &name.to_lowercase());
    profile::keys()
        .iter()
        .map(|spec| {
            let alias = spec.aliases.iter().map(|alias| similarity(alias)).fold(0.0, f64::max);
            let last = spec.key.rsplit(':').next().map_or(0.0, similarity);
            (alias.max(last).max(similarity(spec.key)), spec.key)
        })
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(score, _)| *score >= LEAST_SIMILAR)
        .map_or_else(
            || "keep it if its users know it".to_owned(),
            |(_, key)| format!("did you mean {key}?"),
        )
}
