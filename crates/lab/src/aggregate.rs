//! Cells that differ in the seed only, taken together.

use serde_json::Value as Json;

use crate::cell::{CellResult, plain};
use crate::metric::Metric;
use crate::stats::Estimate;

/// Results of one experiment that differ in the seed only.
#[derive(Clone, Debug, PartialEq)]
pub struct Group<'a> {
    /// Name of the experiment.
    pub experiment: &'a str,
    /// What they have in common: `kill=30 nodes=1000`; empty if nothing was varied.
    pub label: String,
    /// The results, by seed.
    pub results: Vec<&'a CellResult>,
}

impl<'a> Group<'a> {
    /// All groups, in the order in which they first occur.
    #[must_use]
    pub fn all(results: &'a [CellResult]) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::new();
        for result in results {
            let label = result.group();
            let known = groups
                .iter_mut()
                .find(|group| group.experiment == result.experiment && group.label == label);
            match known {
                Some(group) => group.results.push(result),
                None => groups.push(Self {
                    experiment: &result.experiment,
                    label,
                    results: vec![result],
                }),
            }
        }
        for group in &mut groups {
            group.results.sort_by_key(|result| result.seed());
        }
        groups
    }

    /// The metric's mean over seeds; nothing if no seed has it.
    #[must_use]
    pub fn estimate(&self, metric: &Metric) -> Option<Estimate> {
        let values: Vec<f64> = self.results.iter().filter_map(|result| metric.of(result)).collect();
        Estimate::of(&values)
    }

    /// A field's value, the same in all results.
    #[must_use]
    pub fn field(&self, key: &str) -> Option<Json> {
        self.results.first()?.field(key)
    }

    /// Whether all these fields have these values.
    #[must_use]
    pub fn matches(&self, wanted: &toml::Table) -> bool {
        wanted.iter().all(|(key, value)| {
            let has = self.field(key);
            let number = |json: &Json| json.as_f64();
            let wanted = serde_json::to_value(value).unwrap_or_default();
            has.is_some_and(|has| {
                has == wanted
                    || (number(&has).is_some() && number(&has) == number(&wanted))
                    || has.as_str() == Some(&plain(value))
            })
        })
    }

    /// Seeds as text: `1-5` or `1, 3, 9`.
    #[must_use]
    pub fn seeds(&self) -> String {
        seeds_text(self.results.iter().map(|result| result.seed()))
    }
}

/// Seeds as text: `1-5` or `1, 3, 9`.
pub(crate) fn seeds_text(seeds: impl Iterator<Item = u64>) -> String {
    let mut seeds: Vec<u64> = seeds.collect();
    seeds.sort_unstable();
    seeds.dedup();
    let (first, last) = (seeds.first().copied().unwrap_or(0), seeds.last().copied().unwrap_or(0));
    if seeds.len() > 2 && last - first == seeds.len() as u64 - 1 {
        return format!("{first}-{last}");
    }
    seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}
