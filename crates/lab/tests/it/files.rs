//! What a file may say, and how it is told when it is wrong.

use comity_lab::{Assignment, Campaign, Cell, Experiment, shipped};

use crate::support;

fn parse(text: &str) -> Experiment {
    Experiment::parse("test", text).unwrap_or_else(|error| panic!("{error}"))
}

fn labels(cells: &[Cell]) -> Vec<String> {
    cells.iter().map(Cell::label).collect()
}

#[test]
fn a_sweep_is_every_combination_once_the_seed_fastest() {
    let experiment =
        parse("preset = \"kill:30\"\n[sweep]\nkill = [10, 50]\nnodes = [40, 50]\nseeds = 2");
    let cells = experiment.cells(&[], false).unwrap();
    assert_eq!(cells.len(), 8);
    assert_eq!(
        labels(&cells)[..3],
        [
            "test kill=10 nodes=40 seed=1",
            "test kill=10 nodes=40 seed=2",
            "test kill=10 nodes=50 seed=1"
        ]
    );
    let share = |cell: &Cell| {
        let comity_sim::Fault::Kill { share, .. } = cell.scenario.faults[0] else {
            panic!("{:?}", cell.scenario.faults)
        };
        share
    };
    assert_eq!((share(&cells[0]), share(&cells[7])), (100_000, 500_000));
}

#[test]
fn sweeps_add_up_and_a_cell_in_both_runs_once() {
    let experiment =
        parse("[[sweep]]\nnodes = [40]\nseeds = 3\n[[sweep]]\nnodes = [40, 60]\nseeds = [1]");
    assert_eq!(experiment.cells(&[], false).unwrap().len(), 4);
}

#[test]
fn paths_short_names_and_options_change_what_they_name() {
    let experiment = parse(
        "preset = \"drop:20\"\n[quick]\nnodes = 30\n[sweep]\nnodes = [100, 200]\nadversary = [\"omit\", \"stale\"]\nseeds = 2",
    );
    let change = |text: &str| Assignment::parse(text).unwrap();
    let changes = [
        change("seed=7"),
        change("link.loss=2.5"),
        change("adversaries=40"),
        change("beat_life=30m"),
    ];
    let cells = experiment.cells(&changes, true).unwrap();
    assert_eq!(cells.len(), 2);
    let scenario = &cells[1].scenario;
    assert_eq!((scenario.nodes, scenario.seed, scenario.link.loss), (30, 7, 25_000));
    assert_eq!(scenario.adversaries[0].kind, comity_sim::Misbehaviour::Stale);
    assert_eq!(scenario.adversaries[0].share, 400_000);
    assert_eq!(scenario.beat_life.as_secs(), 1_800);
}

#[test]
fn equal_scenarios_have_equal_names_on_disk_and_others_have_not() {
    let cells = support::small().cells(&[], false).unwrap();
    let again = support::small().cells(&[], false).unwrap();
    assert_eq!(cells, again);
    let mut ids: Vec<&String> = cells.iter().map(|cell| &cell.id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 4);
}

#[test]
fn a_wrong_file_is_told_with_its_line() {
    for (text, line, says) in [
        ("nodes = 3\nnods = 4", 2, "nods"),
        ("[link]\n\nloss = 120", 3, "120"),
        ("nodes = ", 1, ""),
        ("[sweep]\nnodes = []", 2, "nothing"),
        ("nodes = 30\n[sweep]\nlink.los = [1, 2]", 3, "los"),
        ("preset = \"healthy\"\n[sweep]\nkill = [3]", 3, "kill"),
        ("[[figure]]\ntitle = \"x\"\ny = [\"before recall\"]", 3, "before recall"),
        ("[[figure]]\ncolor = 3", 2, "color"),
        ("[[target]]\nat_leest = 3", 2, "at_leest"),
        ("[sweep]\npreset = [\"helthy\"]", 2, "helthy"),
        ("[sweep]\nseeds = [1, -1]", 2, "-1"),
    ] {
        let error = Experiment::parse("test", text).expect_err(text);
        assert_eq!(error.line, Some(line), "{text:?}: {error}");
        assert!(error.to_string().contains(says), "{text:?}: {error}");
    }
}

#[test]
fn a_typing_error_starts_no_month_of_work() {
    let error = Experiment::parse("test", "[sweep]\nnodes = [40, 50]\nseeds = [1]\naskers = 3\n");
    assert!(error.is_ok());
    let many: Vec<String> = (0..101).map(|n| n.to_string()).collect();
    let many = many.join(", ");
    let text =
        format!("[sweep]\naskers = [{many}]\npublish_window = [\"1s\", \"2s\"]\nseed = [{many}]");
    let error = Experiment::parse("test", &text).expect_err("10,000 and more");
    assert!(error.to_string().contains("sweep over less"), "{error}");
}

#[test]
fn options_that_are_no_assignments_are_refused() {
    assert!(Assignment::parse("nodes").is_err());
    assert!(Assignment::parse("=3").is_err());
    assert_eq!(Assignment::parse("a.b = [1, 2]").unwrap().value.as_array().unwrap().len(), 2);
    assert_eq!(Assignment::parse("preset=kill:30").unwrap().value.as_str(), Some("kill:30"));
}

#[test]
fn everything_that_ships_reads_and_is_of_use() {
    for (name, text) in shipped::SHIPPED {
        let experiment =
            Experiment::parse(name, text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let all = experiment.cells(&[], false).unwrap().len();
        let quick = experiment.cells(&[], true).unwrap();
        assert!(quick.len() <= all, "{name}: the small variant is larger");
        assert!(
            !experiment.title.is_empty() && !experiment.about.is_empty(),
            "{name} says nothing of itself"
        );
        assert!(experiment.minutes.is_some(), "{name} does not say how long a run takes");
    }
    let campaign = Campaign::parse(shipped::CAMPAIGN).unwrap_or_else(|error| panic!("{error}"));
    for name in &campaign.experiments {
        assert!(shipped::text_of(name).is_some(), "the campaign runs {name}, which does not ship");
    }
    for (name, text) in shipped::SHIPPED {
        for target in Experiment::parse(name, text).unwrap().targets {
            assert!(
                campaign.goal.iter().any(|goal| goal.id == target.id),
                "{name} has a target {} that is none of the campaign's goals",
                target.id
            );
        }
    }
}

#[test]
fn a_name_that_is_nearly_right_is_recognised() {
    assert!(shipped::suggestions("helthy").contains(&"healthy".to_owned()));
    assert!(shipped::suggestions("kil:30").contains(&"kill".to_owned()));
    assert!(shipped::suggestions("zzzzzz").is_empty());
}
