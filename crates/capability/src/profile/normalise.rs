//! Normalisers: from what people write to the one spelling that is stored and compared.
//!
//! Each is idempotent: normalising a normal value changes nothing.

use std::collections::BTreeSet;

use serde_json::{Value as Json, json};

use super::pair;
use crate::attribute::{Decimal, Value, ValueError, ValueKind};

/// How the raw value of a key becomes its canonical one, beyond what its kind does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Normaliser {
    /// Nothing more.
    None,
    /// Words in lower case.
    Lower,
    /// Words in upper case.
    Upper,
    /// Currency pairs as `AAA/BBB`: `EURUSD`, `eur-usd`, `EUR_USD`, `eur usd`. Six letters are split in the middle
    /// only if either half is a known currency code; three letters on both sides of a separator are always a pair.
    Pair,
    /// Countries as ISO 3166-1 alpha-2 in upper case, `UK` as `GB`; other words in upper case.
    Country,
    /// Language tags (BCP 47): lower case with hyphens; a few English names as their codes.
    Language,
    /// SPDX licence identifiers in their registered case, where known.
    Licence,
    /// Package ecosystems by their package URL type (purl-spec): `rust` is `cargo`, `pip` is `pypi`; dots as hyphens.
    Ecosystem,
    /// Package names: lower case, `_` as `-`; of a package URL only the name.
    Package,
    /// Organisms: lower case binomials, common model organisms by their Latin name.
    Organism,
    /// A share of one: `99%` is `0.99`.
    Share,
    /// A duration whose bare number means milliseconds.
    Millis,
}

impl Normaliser {
    /// The canonical value of `raw` as a value of `kind`.
    ///
    /// # Errors
    /// [`ValueError`] if `raw` is not a value of that kind.
    pub fn apply(self, kind: ValueKind, raw: &Json) -> Result<Value, ValueError> {
        let raw = self.prepare(kind, raw);
        let value = Value::from_json(kind, raw.as_ref().unwrap_or_else(|raw| *raw))?;
        let reread = |word: String| Value::from_json(ValueKind::Enum, &json!(word));
        Ok(match value {
            Value::Enum(word) => reread(self.word(&word))?,
            Value::Text(text) => Value::Text(text),
            Value::Set(words) => {
                let mut normal = BTreeSet::new();
                for word in words {
                    if let Value::Enum(word) = reread(self.word(&word))? {
                        normal.insert(word);
                    }
                }
                Value::Set(normal)
            }
            other @ (Value::Bool(_)
            | Value::Int(_)
            | Value::Dec(_)
            | Value::Time(_)
            | Value::Interval(_)
            | Value::Duration(_)
            | Value::Geo(_)
            | Value::Money(_)
            | Value::Semver(_)
            | Value::Bytes32(_)) => other,
        })
    }

    /// Rewrites the JSON before its kind reads it; `Err` is the original, unchanged.
    fn prepare(self, kind: ValueKind, raw: &Json) -> Result<Json, &Json> {
        match (self, kind, raw) {
            (Self::Share, ValueKind::Dec, Json::String(text)) => {
                let percent = text
                    .trim()
                    .strip_suffix('%')
                    .and_then(|number| number.trim().parse::<Decimal>().ok());
                percent
                    .and_then(|number| number.shift_right(2))
                    .map(|share| json!(share.to_string()))
                    .ok_or(raw)
            }
            (Self::Millis, ValueKind::Duration, Json::Number(number)) => {
                Ok(json!(format!("{number}ms")))
            }
            // schema.org writes variables as objects: {"fin:pair": "EUR/USD"} or {"name": "…"}.
            (_, ValueKind::Set, Json::Array(items)) if items.iter().any(Json::is_object) => {
                Ok(items.iter().map(unwrap_single).collect())
            }
            (_, ValueKind::Set | ValueKind::Enum, Json::Object(_)) => Ok(unwrap_single(raw)),
            _ => Err(raw),
        }
    }

    pub(crate) fn word(self, word: &str) -> String {
        match self {
            Self::None | Self::Share | Self::Millis => word.to_owned(),
            Self::Lower => word.to_lowercase(),
            Self::Upper => word.to_uppercase(),
            Self::Pair => pair::normalise(word),
            Self::Country => match word.to_uppercase().as_str() {
                "UK" => "GB".to_owned(),
                other => other.to_owned(),
            },
            Self::Language => language(word),
            Self::Licence => licence(word),
            Self::Ecosystem => ecosystem(word),
            Self::Package => package(word),
            Self::Organism => organism(word),
        }
    }
}

/// The string in an object of one string, or the object itself, which its kind then refuses.
fn unwrap_single(item: &Json) -> Json {
    match item.as_object().map(|fields| (fields.len(), fields.values().next())) {
        Some((1, Some(Json::String(word)))) => json!(word),
        _ => item.clone(),
    }
}

fn mapped(table: &[(&str, &str)], word: &str) -> Option<String> {
    table.iter().find(|(from, _)| *from == word).map(|(_, to)| (*to).to_owned())
}

fn language(word: &str) -> String {
    const NAMES: &[(&str, &str)] = &[
        ("arabic", "ar"),
        ("chinese", "zh"),
        ("english", "en"),
        ("french", "fr"),
        ("german", "de"),
        ("hindi", "hi"),
        ("italian", "it"),
        ("japanese", "ja"),
        ("korean", "ko"),
        ("polish", "pl"),
        ("portuguese", "pt"),
        ("russian", "ru"),
        ("spanish", "es"),
        ("turkish", "tr"),
    ];
    let tag = word.to_lowercase().replace('_', "-");
    mapped(NAMES, &tag).unwrap_or(tag)
}

fn licence(word: &str) -> String {
    const SPDX: &[&str] = &[
        "AGPL-3.0-only",
        "AGPL-3.0-or-later",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "BSL-1.0",
        "CC-BY-4.0",
        "CC-BY-NC-4.0",
        "CC-BY-SA-4.0",
        "CC0-1.0",
        "EUPL-1.2",
        "GPL-2.0-only",
        "GPL-3.0-only",
        "GPL-3.0-or-later",
        "ISC",
        "LGPL-3.0-only",
        "MIT",
        "MIT-0",
        "MPL-2.0",
        "ODbL-1.0",
        "ODC-By-1.0",
        "PDDL-1.0",
        "Unlicense",
        "Zlib",
    ];
    let word = match word.to_ascii_lowercase().as_str() {
        "cc0" => "CC0-1.0",
        "cc-by" => "CC-BY-4.0",
        "apache" | "apache2" => "Apache-2.0",
        _ => word,
    };
    SPDX.iter()
        .find(|id| id.eq_ignore_ascii_case(word))
        .map_or_else(|| word.to_owned(), |id| (*id).to_owned())
}

fn ecosystem(word: &str) -> String {
    const NAMES: &[(&str, &str)] = &[
        ("crates-io", "cargo"),
        ("go", "golang"),
        ("node", "npm"),
        ("pip", "pypi"),
        ("python", "pypi"),
        ("rust", "cargo"),
        ("ruby", "gem"),
        ("rubygems", "gem"),
    ];
    let name = word.to_lowercase().replace('.', "-");
    mapped(NAMES, &name).unwrap_or(name)
}

/// Lower case, `_` as `-`. Package URLs (`pkg:cargo/serde@1.0`) lose type, version and qualifiers; a namespace stays.
fn package(word: &str) -> String {
    let lower = word.to_lowercase();
    let name = match lower.strip_prefix("pkg:").and_then(|rest| rest.split_once('/')) {
        // Only a leading `@` belongs to the name (`@scope/name` of npm).
        Some((_, name)) => {
            let name = name.split(['?', '#']).next().unwrap_or(name);
            match name.rfind('@') {
                Some(at) if at > 0 => &name[..at],
                _ => name,
            }
        }
        None => lower.as_str(),
    };
    // A name that is empty or itself a package URL would not survive a second pass.
    if name.is_empty() || name.starts_with("pkg:") { lower } else { name.replace('_', "-") }
}

fn organism(word: &str) -> String {
    const NAMES: &[(&str, &str)] = &[
        ("fruit fly", "drosophila melanogaster"),
        ("human", "homo sapiens"),
        ("mouse", "mus musculus"),
        ("rat", "rattus norvegicus"),
        ("yeast", "saccharomyces cerevisiae"),
        ("e. coli", "escherichia coli"),
        ("zebrafish", "danio rerio"),
    ];
    let name = word.to_lowercase().replace('.', "-");
    mapped(NAMES, &name).unwrap_or(name)
}
