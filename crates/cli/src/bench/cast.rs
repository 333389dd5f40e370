//! Who serves what: the full table of rates several times, and different cuts of all three real tables.

use std::path::Path;

use anyhow::{Context, Result};
use comity_api::types::{Overrides, ServeMode, ServeRequest, Source};

use crate::demo::cast::{
    ADVISORIES, AIRPORTS, RATES, advisories, airports, columns, keep, pairs, rates,
};

/// The capability that every replica serves.
pub(super) const REPLICATED: &str = "ecb-reference-rates";

/// Countries whose airports are served, in turn.
const COUNTRIES: [&str; 12] =
    ["US", "CA", "AU", "BR", "CN", "DE", "FR", "GB", "JP", "IN", "ZA", "CH"];
/// First year of advisories and of rates that are served.
const YEAR_FIRST: usize = 2016;
/// Years served, in turn.
const YEARS: usize = 9;

/// A table to serve.
#[derive(Debug)]
pub(super) struct Cut {
    file: &'static str,
    table: String,
    overrides: Overrides,
}

impl Cut {
    /// The whole table of rates: what the questions ask for, and what survives the death of one peer.
    pub(super) fn replica() -> Self {
        let overrides = rates(REPLICATED, "Euro reference rates", &pairs(RATES));
        Self { file: "rates.csv", table: RATES.to_owned(), overrides }
    }

    /// One of many cuts, a different one for each `number` as long as countries, currencies and years last.
    pub(super) fn numbered(number: usize) -> Self {
        let turn = number / 4;
        match number % 4 {
            0 => Self::pair(turn),
            1 => Self::country(turn, &format!("airports-{number}"), ""),
            2 => Self::advisories(turn, number),
            _ => Self::rates_since(turn, number),
        }
    }

    /// The airports of one country, under a name and with a word nobody else uses.
    pub(super) fn country(turn: usize, name: &str, word: &str) -> Self {
        let country = COUNTRIES[turn % COUNTRIES.len()];
        let code = format!(",{country},");
        let mut overrides = airports();
        overrides.name = Some(name.to_owned());
        overrides.title = Some(format!("Airports of {country} {word}").trim_end().to_owned());
        overrides.tags.extend((!word.is_empty()).then(|| word.to_owned()));
        let table = keep(AIRPORTS, |_, row| row.contains(&code));
        Self { file: "airports.csv", table, overrides }
    }

    fn pair(turn: usize) -> Self {
        let all = pairs(RATES);
        let pair = &all[turn % all.len()];
        let currency = pair.trim_start_matches("EUR/");
        let name = format!("euro-{}", currency.to_lowercase());
        let overrides = rates(&name, &format!("{pair} reference rate"), std::slice::from_ref(pair));
        Self { file: "rates.csv", table: columns(RATES, &["date", currency]), overrides }
    }

    fn rates_since(turn: usize, number: usize) -> Self {
        let year = (YEAR_FIRST + turn % YEARS).to_string();
        let overrides = rates(
            &format!("euro-fx-{number}"),
            &format!("Euro exchange rates since {year}"),
            &pairs(RATES),
        );
        let table = keep(RATES, |_, row| row >= year.as_str());
        Self { file: "rates.csv", table, overrides }
    }

    fn advisories(turn: usize, number: usize) -> Self {
        let year = YEAR_FIRST + turn % YEARS;
        let dated = format!("\"date\": \"{year}-");
        let mut overrides = advisories();
        overrides.name = Some(format!("advisories-{number}"));
        overrides.title = Some(format!("Security advisories for Rust crates of {year}"));
        let wanted = ADVISORIES.lines().filter(|line| line.contains(&dated));
        let table = wanted.fold(String::new(), |text, line| text + line + "\n");
        Self { file: "advisories.jsonl", table, overrides }
    }

    /// Writes the table below `directory` and says how to serve it.
    pub(super) fn prepare(self, directory: &Path) -> Result<ServeRequest> {
        let name = self.overrides.name.clone().unwrap_or_default();
        let path = directory.join(format!("{name}-{}", self.file));
        std::fs::write(&path, self.table)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(ServeRequest {
            source: Some(Source::Table { path: path.display().to_string() }),
            overrides: self.overrides,
            mode: ServeMode::Publish,
            ..ServeRequest::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cut_of_a_large_network_has_rows_and_a_name() {
        for cut in (0..125).map(Cut::numbered).chain([Cut::replica()]) {
            let rows = cut.table.lines().count();
            assert!(rows > 2, "{:?} has {rows} lines", cut.overrides.title);
            assert!(cut.overrides.name.is_some());
        }
    }
}
