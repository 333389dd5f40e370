//! From runs to results on disk, comparisons and pages.

use comity_lab::compare::{Change, compare};
use comity_lab::paper::{Paper, Verdict};
use comity_lab::store::{self, Store};
use comity_lab::{CellResult, Metric, aggregate::Group};

use crate::support;

fn paper<'a>(experiments: &'a [comity_lab::Experiment], results: &'a [CellResult]) -> Paper<'a> {
    Paper {
        title: "A <small> report",
        about: "About & so on.",
        command: "comity sim small --report out",
        experiments,
        goals: &[],
        results,
    }
}

/// One test, because the runs are what takes time.
#[test]
fn runs_become_results_tables_figures_and_verdicts() {
    let experiment = support::small();
    let cells = experiment.cells(&[], false).unwrap();
    let results = support::run(&experiment);
    assert_eq!(results.len(), 4);
    let recall = Metric::parse("before.recall").unwrap();
    assert!(results.iter().all(|result| recall.of(result).is_some_and(|value| value > 0.5)));
    let missing = Metric::parse("during.no_such_thing.p50").unwrap();
    assert!(results.iter().all(|result| missing.of(result).is_none()));

    // On disk and back, and known again only for the same scenario and program.
    let directory = tempfile::tempdir().unwrap();
    let kept = Store::open(directory.path()).unwrap();
    for (cell, result) in cells.iter().zip(&results) {
        assert_eq!(cell.id, result.id);
        kept.keep(cell, result).unwrap();
    }
    let mut read = store::read(directory.path()).unwrap();
    read.sort_by_key(|result| (result.nodes(), result.seed()));
    assert_eq!(read, results);
    assert_eq!(kept.known(&cells[0], Some(&results[0].program)).as_ref(), Some(&results[0]));
    assert_eq!(kept.known(&cells[0], Some("another build")), None);
    assert!(kept.known(&cells[0], None).is_some());

    // Seeds are taken together, and the same results are no change.
    let groups = Group::all(&results);
    assert_eq!(groups.len(), 2);
    assert_eq!((groups[0].label.as_str(), groups[0].seeds().as_str()), ("nodes=24", "1, 2"));
    let same = compare(&results, &read);
    assert_eq!(same.same_traces, Some(true));
    assert!(!same.rows.is_empty() && same.rows.iter().all(|row| row.verdict == Change::Same));
    let fewer = compare(&results, &results[..2]);
    assert_eq!(fewer.only_base, ["small nodes=30"]);

    // A worse latency is called worse.
    let mut slow = results.clone();
    for result in &mut slow {
        result.report["phases"][0]["queries"]["latency_ms"]["p99"] = 99_000.into();
    }
    let slower = compare(&results, &slow);
    let row = slower.rows.iter().find(|row| row.metric == "before.queries.latency_ms.p99").unwrap();
    assert_eq!((row.verdict, row.overlap), (Change::Worse, Some(false)));
    assert!(slower.text().contains("WORSE"));

    // The page and its figures.
    let experiments = [experiment];
    let paper = paper(&experiments, &results);
    let verdicts: Vec<Verdict> = paper.lines().iter().map(|line| line.verdict).collect();
    assert_eq!(verdicts, [Verdict::Met, Verdict::Missed, Verdict::Open]);
    paper.write(directory.path()).unwrap();
    let page = std::fs::read_to_string(directory.path().join("index.html")).unwrap();
    for wanted in [
        "A &lt;small&gt; report",
        "Figure 1. Recall by size",
        "N = 24 to 30 nodes; seeds 1, 2",
        "class=\"met\"",
        "class=\"missed\"",
        "confidence intervals",
        "comity sim small",
        "<svg",
    ] {
        assert!(page.contains(wanted), "{wanted:?} is missing");
    }
    assert_eq!(page.matches("<figure>").count(), 2);
    for foreign in ["<script", "src=", "href=\"http", "@import", "url("] {
        assert!(!page.contains(foreign), "the page needs {foreign}");
    }
    let markdown = std::fs::read_to_string(directory.path().join("report.md")).unwrap();
    assert!(markdown.contains("![Figure 1. Recall by size](figures/small-1.svg)"));
    assert!(markdown.contains("| T6 | half lost: at least 20 % |"), "{markdown}");
    let figure = std::fs::read_to_string(directory.path().join("figures/small-1.svg")).unwrap();
    assert!(figure.starts_with("<svg") && figure.contains("half lost"));
}

#[test]
fn what_is_no_result_is_told_with_its_line() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.jsonl");
    for (text, says) in
        [("", "no results"), ("\n{\"format\": 3}\n", "a.jsonl:2"), ("hello", "a.jsonl:1")]
    {
        std::fs::write(&file, text).unwrap();
        let said = store::read(&file).unwrap_err().to_string();
        assert!(said.contains(says), "{text:?}: {said}");
    }
    assert!(store::read(&directory.path().join("none")).is_err());
}
