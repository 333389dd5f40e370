//! What may be misspelt in a query that is nevertheless valid.

use super::ast::{Query, Test};
use super::build::CLASS;
use super::error::quote;
use crate::attribute::Value;
use crate::profile;
use crate::taxonomy::{self, ClassId};

/// Similarity (Jaro-Winkler) from which another name is worth suggesting.
const SIMILAR: f64 = 0.85;
/// Most names suggested for one.
const SUGGESTIONS_MAX: usize = 3;

impl Query {
    /// For each class and attribute that nothing here knows: what it is taken for, and the nearest known names. Such a query is valid,
    /// because others may agree on the name; more often it is misspelt and finds nothing.
    pub fn hints(&self) -> Vec<String> {
        let mut hints = Vec::new();
        for condition in self.conditions().iter().chain(self.exclude()) {
            if condition.key() == CLASS {
                for label in unknown_classes(condition.test()) {
                    let near = taxonomy::nearest(&label, SUGGESTIONS_MAX)
                        .into_iter()
                        .map(|class| class.path.to_owned())
                        .collect();
                    hints.push(hint(
                        &format!(
                            "no class is called {}: it matches only that very label",
                            quote(&label)
                        ),
                        near,
                    ));
                }
            } else if profile::lookup(condition.key()).is_none() && !is_builtin(condition.key()) {
                let near = nearest_keys(condition.key());
                hints.push(hint(
                    &format!(
                        "no profile knows the attribute {}: it matches by equality only",
                        quote(condition.key())
                    ),
                    near,
                ));
            }
        }
        hints
    }
}

fn is_builtin(key: &str) -> bool {
    [CLASS, super::TAGS, super::INTERFACE].contains(&key)
}

fn unknown_classes(test: &Test) -> Vec<String> {
    let ids: Vec<ClassId> = match test {
        Test::Under(classes) => classes.clone(),
        Test::Any(values) | Test::All(values) => values.iter().filter_map(class_of).collect(),
        Test::Eq(value) | Test::Ne(value) => class_of(value).into_iter().collect(),
        Test::Lt(_)
        | Test::Lte(_)
        | Test::Gt(_)
        | Test::Gte(_)
        | Test::Between(..)
        | Test::Covers(_)
        | Test::Overlaps(_)
        | Test::Within(_)
        | Test::FinerOrEqual(_)
        | Test::Near(_)
        | Test::Semver(_)
        | Test::Exists
        | Test::Interface(_) => Vec::new(),
    };
    ids.into_iter().filter(|id| taxonomy::by_id(id).is_none()).map(|id| id.to_string()).collect()
}

fn class_of(value: &Value) -> Option<ClassId> {
    value.elements().first()?.parse().ok()
}

fn nearest_keys(key: &str) -> Vec<String> {
    let key = key.to_ascii_lowercase();
    let mut names: Vec<(f64, &str)> = profile::keys()
        .iter()
        .filter_map(|spec| {
            let names = spec.aliases.iter().copied().chain([spec.key]);
            names
                .map(|name| (strsim::jaro_winkler(&key, &name.to_ascii_lowercase()), name))
                .max_by(|a, b| a.0.total_cmp(&b.0))
        })
        .filter(|(similarity, _)| *similarity >= SIMILAR)
        .collect();
    names.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    names.into_iter().take(SUGGESTIONS_MAX).map(|(_, name)| name.to_owned()).collect()
}

fn hint(what: &str, near: Vec<String>) -> String {
    if near.is_empty() {
        what.to_owned()
    } else {
        format!("{what}. Did you mean {}?", near.join(", "))
    }
}
