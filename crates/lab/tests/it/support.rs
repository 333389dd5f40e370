//! Results that were really measured, of networks as small as they can be.

use std::sync::mpsc;

use comity_lab::runner::{Place, Runner, collect};
use comity_lab::{CellResult, Experiment};

/// Two sizes, two seeds, half of the nodes lost.
pub(crate) const SMALL: &str = r#"
title = "Half of a small network"
about = "Thirty nodes are few."
preset = "kill:50"
settle = "30s"
columns = ["before.recall", "during.recall", "during.queries.latency_ms.p99"]
[workload]
publishers = 6
[measure]
queries = 12
finds = 4
lookups = 2
window = "10s"
[demands]
recall_during = 0.2
[sweep]
nodes = [24, 30]
seeds = 2
[[figure]]
title = "Recall by size"
x = "nodes"
y = ["before.recall", "during.recall"]
names = ["before", "half lost"]
[[figure]]
title = "Latency"
kind = "cdf"
y = ["before.queries.latency_ms"]
x_log = true
[[target]]
id = "T6"
text = "half lost"
metric = "during.recall"
at_least = 0.2
[[target]]
id = "T6"
text = "no time at all"
metric = "during.queries.latency_ms.p99"
at_most = 0.000001
[[target]]
id = "T6"
text = "a million nodes"
metric = "during.recall"
at_least = 0.2
where = { nodes = 1_000_000 }
"#;

pub(crate) fn small() -> Experiment {
    Experiment::parse("small", SMALL).unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn run(experiment: &Experiment) -> Vec<CellResult> {
    let cells = experiment.cells(&[], false).unwrap();
    let (news, heard) = mpsc::channel();
    Runner::new(Place::Here, 2).run(&cells, &news);
    drop(news);
    let (mut results, failures) = collect(&heard);
    assert!(failures.is_empty(), "{failures:?}");
    results.sort_by_key(|result| (result.nodes(), result.seed()));
    results
}
