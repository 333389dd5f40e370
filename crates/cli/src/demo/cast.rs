//! Who plays in the demo: real tables, compiled in, and cuts of them that nearly answer the question.
//!
//! `comity bench` serves cuts of the same tables.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use comity_api::types::{Overrides, ServeMode, ServeRequest, Source, Visibility};
use serde_json::{Value, json};

/// European Central Bank, euro foreign exchange reference rates; free to reuse with the source named.
pub(crate) const RATES: &str = include_str!("../../../../data/ecb-reference-rates.csv");
/// airportsdata, MIT.
pub(crate) const AIRPORTS: &str = include_str!("../../../../data/airports.csv");
/// RustSec advisory database, CC0-1.0.
pub(crate) const ADVISORIES: &str = include_str!("../../../../data/rustsec-advisories.jsonl");

/// One specialist of the demo.
#[derive(Debug, Clone, Copy)]
pub(super) struct Specialist {
    /// Names the process in the story, and its directory.
    pub(super) nick: &'static str,
    /// One line for the story.
    pub(super) about: &'static str,
    file: &'static str,
    table: fn() -> String,
    overrides: fn() -> Overrides,
}

/// All specialists. The first two can answer the question about EUR/USD; the next three nearly can.
pub(super) const SPECIALISTS: &[Specialist] = &[
    Specialist {
        nick: "frankfurt",
        about: "euro reference rates, ten pairs, every business day since 2015",
        file: "rates.csv",
        table: || RATES.to_owned(),
        overrides: || rates("ecb-reference-rates", "Euro reference rates", &pairs(RATES)),
    },
    Specialist {
        nick: "lisbon",
        about: "the same table, kept by somebody else",
        file: "rates.csv",
        table: || RATES.to_owned(),
        overrides: || rates("euro-fx-history", "History of euro exchange rates", &pairs(RATES)),
    },
    Specialist {
        nick: "weekly",
        about: "one rate a week only",
        file: "rates-weekly.csv",
        table: || every_nth_row(RATES, 5),
        overrides: || rates("euro-fx-weekly", "Weekly euro exchange rates", &pairs(RATES)),
    },
    Specialist {
        nick: "recent",
        about: "only 2025 and later",
        file: "rates-recent.csv",
        table: || rows_from(RATES, "2025"),
        overrides: || rates("euro-fx-recent", "Recent euro exchange rates", &pairs(RATES)),
    },
    Specialist {
        nick: "asia",
        about: "only JPY, CNY and INR",
        file: "rates-asia.csv",
        table: || columns(RATES, &["date", "JPY", "CNY", "INR"]),
        overrides: || {
            rates(
                "euro-fx-asia",
                "Euro exchange rates of Asia",
                &["EUR/CNY", "EUR/INR", "EUR/JPY"].map(str::to_owned),
            )
        },
    },
    Specialist {
        nick: "airports",
        about: "7,884 airports of the world",
        file: "airports.csv",
        table: || AIRPORTS.to_owned(),
        overrides: airports,
    },
    Specialist {
        nick: "advisories",
        about: "1,049 security advisories for Rust crates",
        file: "advisories.jsonl",
        table: || ADVISORIES.to_owned(),
        overrides: advisories,
    },
];

impl Specialist {
    /// Writes the table below `directory` and says how to serve it.
    pub(super) fn prepare(&self, directory: &Path) -> Result<ServeRequest> {
        let path = directory.join(self.file);
        std::fs::write(&path, (self.table)())
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(ServeRequest {
            source: Some(Source::Table { path: path.display().to_string() }),
            overrides: (self.overrides)(),
            mode: ServeMode::Publish,
            ..ServeRequest::default()
        })
    }
}

/// How a table of rates describes itself.
pub(crate) fn rates(name: &str, title: &str, pairs: &[String]) -> Overrides {
    Overrides {
        name: Some(name.to_owned()),
        title: Some(title.to_owned()),
        description: Some(
            "Structured historical foreign exchange (FX) reference rates against the euro, one row a date, units per euro"
                .to_owned(),
        ),
        examples: vec!["EUR/USD rate on 2022-03-01".to_owned(), "How did the yen move in 2024?".to_owned()],
        classes: vec!["finance_and_business/market_data/fx_rates".to_owned()],
        tags: ["fx", "rates", "ecb", "euro"].map(str::to_owned).to_vec(),
        attributes: BTreeMap::from([("fin:pair".to_owned(), Value::from(pairs.to_vec()))]),
        visibility: Some(Visibility::Public),
        ..Overrides::default()
    }
}

/// How a table of airports describes itself.
pub(crate) fn airports() -> Overrides {
    Overrides {
        name: Some("airports".to_owned()),
        title: Some("Airports of the world".to_owned()),
        description: Some(
            "Airports with ICAO and IATA codes, city, country, elevation in feet, position and time zone".to_owned(),
        ),
        examples: vec!["Where is the airport with IATA code ZRH?".to_owned()],
        classes: vec!["comity1:domain/10003".to_owned()],
        tags: ["airports", "iata", "icao"].map(str::to_owned).to_vec(),
        visibility: Some(Visibility::Public),
        ..Overrides::default()
    }
}

/// How a table of advisories describes itself.
pub(crate) fn advisories() -> Overrides {
    Overrides {
        name: Some("rust-advisories".to_owned()),
        title: Some("Security advisories for Rust crates".to_owned()),
        description: Some(
            "Advisories of the RustSec database: package, date, title, CVSS, categories, aliases, patched versions"
                .to_owned(),
        ),
        examples: vec!["Which advisories are there for the crate smallvec?".to_owned()],
        classes: vec!["comity1:domain/10004".to_owned()],
        tags: ["rust", "security", "advisories"].map(str::to_owned).to_vec(),
        attributes: BTreeMap::from([("code:ecosystem".to_owned(), json!("cargo"))]),
        visibility: Some(Visibility::Public),
        ..Overrides::default()
    }
}

/// The pairs that a table of rates has columns for.
pub(crate) fn pairs(table: &str) -> Vec<String> {
    let header = table.lines().next().unwrap_or_default();
    header.split(',').skip(1).map(|currency| format!("EUR/{currency}")).collect()
}

fn every_nth_row(table: &str, n: usize) -> String {
    keep(table, |index, _| index % n == 0)
}

fn rows_from(table: &str, first: &str) -> String {
    keep(table, |_, row| row >= first)
}

/// The header and the wanted rows; rows count from 0.
pub(crate) fn keep(table: &str, wanted: impl Fn(usize, &str) -> bool) -> String {
    let mut lines = table.lines();
    let header = lines.next().unwrap_or_default();
    let rows = lines.enumerate().filter(|(index, row)| wanted(*index, row)).map(|(_, row)| row);
    std::iter::once(header).chain(rows).fold(String::new(), |text, line| text + line + "\n")
}

/// The wanted columns of a table without quoted cells.
pub(crate) fn columns(table: &str, wanted: &[&str]) -> String {
    let header = table.lines().next().unwrap_or_default();
    let kept: Vec<usize> = header
        .split(',')
        .enumerate()
        .filter(|(_, name)| wanted.contains(name))
        .map(|(index, _)| index)
        .collect();
    let cut = |line: &str| {
        let cells: Vec<&str> = line.split(',').collect();
        kept.iter().filter_map(|index| cells.get(*index).copied()).collect::<Vec<_>>().join(",")
    };
    table.lines().map(cut).fold(String::new(), |text, line| text + &line + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_keep_what_they_say() {
        let table = "date,USD,JPY\n2024-01-02,1,2\n2025-01-02,3,4\n2025-01-03,5,6\n";
        assert_eq!(every_nth_row(table, 2), "date,USD,JPY\n2024-01-02,1,2\n2025-01-03,5,6\n");
        assert_eq!(rows_from(table, "2025"), "date,USD,JPY\n2025-01-02,3,4\n2025-01-03,5,6\n");
        assert_eq!(
            columns(table, &["date", "JPY"]),
            "date,JPY\n2024-01-02,2\n2025-01-02,4\n2025-01-03,6\n"
        );
        assert_eq!(pairs(table), ["EUR/USD", "EUR/JPY"]);
    }
}
