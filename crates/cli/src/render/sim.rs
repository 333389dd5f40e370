//! Results of simulated networks.

use comity_lab::aggregate::Group;
use comity_lab::cell::CellResult;
use comity_lab::{metric, text};

use super::{BAD, DIM, STRONG, clean, table};
use crate::commands::sim::Listed;

/// Runs that are shown in full; of more, a table of means.
const RUNS_IN_FULL: usize = 2;
/// Violations shown of one run in a table.
const VIOLATIONS_SHOWN: usize = 3;

/// Results for a terminal.
pub(crate) fn results(
    results: &[CellResult],
    failures: &[String],
    comparison: Option<&str>,
) -> String {
    let mut out = String::new();
    if let Some(comparison) = comparison {
        out.push_str(comparison);
    } else if results.len() <= RUNS_IN_FULL {
        for result in results {
            out.push_str(&one(result));
        }
    } else {
        out.push_str(&many(results));
    }
    for failure in failures {
        out.push_str(&format!("{BAD}did not run:{BAD:#} {}\n", clean(failure)));
    }
    out
}

/// One run, as the simulator shows it.
fn one(result: &CellResult) -> String {
    let measured = &result.measured;
    let mut out =
        result.typed().map_or_else(String::new, |report| clean_lines(&report.to_string()));
    let memory =
        measured.peak_bytes.map_or_else(String::new, |bytes| format!(", {}", super::bytes(bytes)));
    out.push_str(&format!(
        "took    {:.1} s, {} events a second{memory}\n",
        measured.wall_seconds,
        text::grouped(measured.events_per_second)
    ));
    out
}

fn clean_lines(text: &str) -> String {
    text.lines().map(|line| clean(line) + "\n").collect()
}

fn many(results: &[CellResult]) -> String {
    let groups = Group::all(results);
    let mut out = String::new();
    let mut names: Vec<&str> = groups.iter().map(|group| group.experiment).collect();
    names.dedup();
    for name in names {
        let own: Vec<&Group<'_>> = groups.iter().filter(|group| group.experiment == name).collect();
        out.push_str(&format!("{STRONG}{}{STRONG:#}\n", clean(name)));
        let owned: Vec<Group<'_>> = own.iter().map(|group| (*group).clone()).collect();
        out.push_str(&text::columns(&comity_lab::paper::table(&metric::COLUMNS, &owned)));
        for group in own {
            for result in &group.results {
                for violation in result.violations().iter().take(VIOLATIONS_SHOWN) {
                    out.push_str(&format!(
                        "{BAD}WRONG{BAD:#}   {} seed={}: {}\n",
                        clean(&group.label),
                        result.seed(),
                        clean(violation)
                    ));
                }
            }
        }
        out.push('\n');
    }
    out
}

/// What comes with the program.
pub(crate) fn list(listed: &[Listed]) -> String {
    let rows: Vec<Vec<String>> = listed
        .iter()
        .filter(|one| !one.preset)
        .map(|one| {
            let cost =
                one.minutes.map_or_else(String::new, |minutes| format!("{minutes} min each"));
            vec![
                one.name.clone(),
                super::count(one.cells as u64, "run", "runs"),
                cost,
                one.title.clone(),
            ]
        })
        .collect();
    let presets: Vec<&str> =
        listed.iter().filter(|one| one.preset).map(|one| one.name.as_str()).collect();
    format!(
        "{STRONG}scenarios{STRONG:#}\n{}\n{STRONG}presets{STRONG:#}  {DIM}one run each; some take a number, such as kill:30{DIM:#}\n{}\n",
        table(&rows),
        presets.join(", ")
    )
}
