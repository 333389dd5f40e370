//! The other designs: each finds what it promises in a healthy network, and shows the weakness it is known for.

use comity_sim::baseline::{Baseline, BaselineError, run};
use comity_sim::{
    Adversaries, Fault, Misbehaviour, PhaseReport, Protocol, Report, Scenario, Start, Workload,
};
use std::time::Duration;

fn scenario(nodes: usize, seed: u64) -> Scenario {
    let mut scenario = Scenario::healthy(nodes, seed);
    scenario.workload = Workload { publishers: nodes / 2, ..scenario.workload };
    scenario.askers = 10;
    scenario.measure.queries = 60;
    scenario.measure.lookups = 20;
    scenario.measure.window = Duration::from_secs(30);
    scenario.start = Start::Settled;
    scenario
}

fn done(scenario: &Scenario, baseline: Baseline) -> Report {
    run(scenario, baseline).unwrap_or_else(|error| panic!("{baseline}: {error}"))
}

fn before(report: &Report) -> &PhaseReport {
    report.phase("before").expect("every run begins with this phase")
}

fn during(report: &Report) -> &PhaseReport {
    report.phase("during").expect("a run with faults has this phase")
}

fn kill(mut scenario: Scenario, percent: u32) -> Scenario {
    scenario.faults = vec![Fault::Kill { share: percent * 10_000, at: Duration::ZERO }];
    scenario.measure_at = Duration::from_secs(1);
    scenario.fault_phase = Duration::from_secs(60);
    scenario
}

fn is_one(share: f64) -> bool {
    (share - 1.0).abs() < f64::EPSILON
}

#[test]
fn each_finds_everything_in_a_healthy_network_settled_or_published_by_protocol() {
    for start in [Start::Settled, Start::Built] {
        for baseline in Baseline::ALL {
            let mut scenario = scenario(60, 1);
            scenario.start = start;
            // Class labels promise nothing across classes.
            if baseline == Baseline::Providers {
                scenario.workload.classes = 1;
            }
            let report = done(&scenario, baseline);
            let phase = before(&report);
            assert_eq!(phase.queries.ended, 60, "{baseline}");
            assert!(phase.recall.wanted >= 60, "{baseline}");
            assert!(is_one(phase.recall()), "{baseline} {start:?}: {:?}", phase.recall);
            assert_eq!((phase.shown.gone, phase.shown.retired), (0, 0), "{baseline}");
        }
    }
}

#[test]
fn equal_scenarios_have_equal_traces() {
    for baseline in Baseline::ALL {
        let mixed = Adversaries::new(Misbehaviour::Mixed, 200_000);
        let mut scenario = kill(scenario(80, 3), 30);
        scenario.adversaries = vec![mixed];
        let one = done(&scenario, baseline);
        assert_eq!(one, done(&scenario, baseline), "{baseline}");
        scenario.seed = 4;
        assert_ne!(one.trace, done(&scenario, baseline).trace, "{baseline}");
    }
}

#[test]
fn a_central_index_is_a_single_point_of_failure() {
    let scenario = kill(scenario(60, 5), 10);
    let spared = done(&scenario, Baseline::Index);
    assert!(is_one(during(&spared).recall()));
    let struck = done(&scenario, Baseline::IndexStruck);
    assert!(is_one(before(&struck).recall()));
    assert_eq!((during(&struck).recall.found, during(&struck).queries.succeeded), (0, 0));
    let mut scenario = scenario;
    scenario.faults.clear();
    scenario.adversaries = vec![Adversaries::new(Misbehaviour::Omit, 10_000)];
    let corrupt = done(&scenario, Baseline::IndexStruck);
    assert_eq!(before(&corrupt).recall.found, 0, "a server that omits is believed");
}

#[test]
fn the_cost_of_gossip_grows_with_the_network() {
    let bytes = |nodes: usize| {
        let mut scenario = scenario(nodes, 6);
        scenario.workload.publishers = nodes / 10;
        scenario.start = Start::Built;
        scenario.measure.queries = 5;
        let report = done(&scenario, Baseline::Gossip);
        assert!(is_one(before(&report).recall()), "{nodes}");
        report.counters.bytes / nodes as u64
    };
    let (small, large) = (bytes(100), bytes(400));
    assert!(large > 3 * small, "bytes for each node: {small} at 100, {large} at 400");
}

#[test]
fn asking_every_provider_of_a_label_grows_with_the_label() {
    let requests = |nodes: usize| {
        let mut scenario = scenario(nodes, 7);
        scenario.workload.classes = 1;
        before(&done(&scenario, Baseline::Providers)).queries.requests.mean
    };
    let (small, large) = (requests(60), requests(240));
    assert!(large > small + 80.0, "{small} at 60, {large} at 240");
}

#[test]
fn kademlia_without_countermeasures_loses_a_key_to_twenty_ids() {
    let mut scenario = scenario(300, 8);
    let keys = usize::MAX;
    let eclipse = |ids| Adversaries { keys, ids, ..Adversaries::new(Misbehaviour::Eclipse, 0) };
    scenario.workload.publishers = 3;
    scenario.workload.pairs = 3;
    scenario.adversaries = vec![eclipse(20)];
    let report = done(&scenario, Baseline::Kademlia);
    assert_eq!(before(&report).recall.found, 0, "{:?}", before(&report).recall);
    assert!(before(&report).recall.wanted > 0 && report.attack.minted_ids > 0);
}

#[test]
fn registering_retiring_and_crashing_show_as_each_design_promises() {
    let mut scenario = scenario(100, 9);
    (scenario.measure.registrations, scenario.measure.retirements) = (5, 5);
    scenario.measure.crashes = 5;
    for baseline in Baseline::ALL {
        let lifecycle = done(&scenario, baseline).lifecycle;
        assert_eq!((lifecycle.found.seconds.count, lifecycle.found.never), (5, 0), "{baseline}");
        assert!(lifecycle.found.seconds.max < 30.0, "{baseline}: {:?}", lifecycle.found);
        let (retired, crashed) = (lifecycle.retired, lifecycle.crashed);
        match baseline {
            // No withdrawal, no beats: shown until records expire.
            Baseline::Gossip | Baseline::Kademlia => {
                assert_eq!((retired.never, crashed.never), (5, 5), "{baseline}");
            }
            // Providers answer for themselves.
            Baseline::Providers | Baseline::ProvidersTyped => {
                assert_eq!((retired.never, crashed.never), (0, 0), "{baseline}");
            }
            // Beats outlive the run.
            Baseline::Index | Baseline::IndexStruck => {
                assert_eq!((retired.never, crashed.never), (0, 5), "{baseline}");
            }
        }
    }
}

#[test]
fn what_a_baseline_cannot_run_is_refused() {
    let mut scenario = scenario(60, 10);
    scenario.adversaries = vec![Adversaries::new(Misbehaviour::Flood, 10_000)];
    let flood = run(&scenario, Baseline::Kademlia);
    assert_eq!(flood, Err(BaselineError::NotModelled { kind: "flood" }));
    let large = Scenario::healthy(comity_sim::baseline::GOSSIP_NODES_MAX + 1, 1);
    assert!(matches!(run(&large, Baseline::Gossip), Err(BaselineError::TooLarge { .. })));
    assert!(matches!(
        run(&Scenario::healthy(0, 1), Baseline::Index),
        Err(BaselineError::Empty { .. })
    ));
    assert_eq!("index_struck".parse(), Ok(Baseline::IndexStruck));
    assert!("central".parse::<Baseline>().is_err());
}

#[test]
fn a_scenario_names_the_protocol_that_it_runs_with() {
    for baseline in Baseline::ALL {
        assert_eq!(Baseline::of(baseline.protocol()), Some(baseline));
    }
    assert_eq!(Baseline::of(Protocol::Comity), None);
    let mut scenario = scenario(60, 11);
    scenario.protocol = Protocol::CentralStruck;
    let told = comity_sim::run(&scenario).expect("baselines have no demands to break");
    assert_eq!(told, done(&scenario, Baseline::IndexStruck));
    scenario.adversaries = vec![Adversaries::new(Misbehaviour::Flood, 10_000)];
    let refused = comity_sim::run(&scenario).expect_err("floods have no counterpart").report;
    assert_eq!(refused.violations_total, 1);
    assert!(refused.violations[0].detail.contains("flood"), "{:?}", refused.violations);
}
