//! What the command line asks to run.

use std::path::Path;

use anyhow::{Context as _, Result};
use comity_api::types::{ErrorCode, ErrorInfo};
use comity_lab::campaign::{Campaign, Goal};
use comity_lab::{Assignment, Cell, Experiment, FileError, SweepError, shipped};
use serde::Serialize;
use toml::Value;

use super::SimArgs;

/// Experiments, their cells, and what their report is called.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) title: String,
    pub(super) about: String,
    pub(super) experiments: Vec<Experiment>,
    pub(super) goals: Vec<Goal>,
    pub(super) cells: Vec<Cell>,
    words: Vec<String>,
}

/// A scenario or preset that comes with the program.
#[derive(Debug, Serialize)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) title: String,
    /// Runs it makes.
    pub(crate) cells: usize,
    /// Minutes of one processor each run takes, as its file says.
    pub(crate) minutes: Option<f64>,
    pub(crate) preset: bool,
}

/// Whether this names results rather than a scenario.
pub(super) fn is_results(given: &str) -> bool {
    let path = Path::new(given);
    path.extension().is_some_and(|extension| extension == "jsonl")
        || path.is_dir() && !given.ends_with(".toml")
}

/// What comes with the program.
pub(super) fn list() -> Vec<Listed> {
    let shipped = shipped::SHIPPED.iter().filter_map(|(name, text)| {
        let experiment = Experiment::parse(name, text).ok()?;
        let cells = experiment.cells(&[], false).ok()?.len();
        Some(Listed {
            name: (*name).to_owned(),
            title: experiment.title,
            cells,
            minutes: experiment.minutes,
            preset: false,
        })
    });
    let presets = shipped::presets().iter().map(|name| Listed {
        name: (*name).to_owned(),
        title: String::new(),
        cells: 1,
        minutes: None,
        preset: true,
    });
    shipped.chain(presets).collect()
}

impl Plan {
    pub(super) fn new(args: &SimArgs) -> Result<Self> {
        let changes = changes(args);
        let (title, about, goals, experiments) = match (&args.campaign, &args.scenario) {
            (Some(path), _) => {
                let text = read(path)?;
                let campaign = Campaign::parse(&text).map_err(|error| wrong(path, &error))?;
                let beside = path.parent().unwrap_or_else(|| Path::new("."));
                let experiments: Result<Vec<_>> =
                    campaign.experiments.iter().map(|name| experiment(name, beside)).collect();
                (campaign.title, campaign.about, campaign.goal, experiments?)
            }
            (None, name) => {
                let name = name.as_deref().unwrap_or_default();
                let experiment = experiment(name, Path::new("."))?;
                (experiment.title.clone(), String::new(), Vec::new(), vec![experiment])
            }
        };
        let mut cells = Vec::new();
        for experiment in &experiments {
            let made = experiment.cells(&changes, args.quick);
            cells.extend(made.map_err(|error| wrong_change(experiment, &error))?);
        }
        Ok(Self { title, about, experiments, goals, cells, words: words(args) })
    }

    /// The command that makes the report again.
    pub(super) fn command(&self, directory: &Path) -> String {
        format!(
            "comity sim {} --report {}",
            self.words.join(" "),
            quoted(&directory.display().to_string())
        )
    }
}

fn words(args: &SimArgs) -> Vec<String> {
    let mut words = Vec::new();
    if let Some(path) = &args.campaign {
        words.push(format!("--campaign {}", quoted(&path.display().to_string())));
    }
    words.extend(args.scenario.as_deref().map(quoted));
    words.extend(args.seed.map(|seed| format!("--seed {seed}")));
    words.extend(args.nodes.map(|nodes| format!("--nodes {nodes}")));
    for Assignment { key, value } in &args.changes {
        words.push(format!("--set {}", quoted(&format!("{key}={value}"))));
    }
    words.extend(args.quick.then(|| "--quick".to_owned()));
    words
}

fn quoted(text: &str) -> String {
    shlex::try_quote(text).map_or_else(|_| text.to_owned(), std::borrow::Cow::into_owned)
}

/// The options that change fields, the short ones first so that --set has the last word.
fn changes(args: &SimArgs) -> Vec<Assignment> {
    let number = |key: &str, value: Option<u32>| {
        value.map(|value| Assignment {
            key: key.to_owned(),
            value: Value::Integer(i64::from(value)),
        })
    };
    let short = [number("seed", args.seed), number("nodes", args.nodes)];
    short.into_iter().flatten().chain(args.changes.iter().cloned()).collect()
}

/// A file, a shipped experiment, or a preset.
fn experiment(name: &str, beside: &Path) -> Result<Experiment> {
    if Path::new(name).extension().is_some_and(|extension| extension == "toml") {
        let path = beside.join(name);
        let text = read(&path)?;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        return Experiment::parse(&stem, &text).map_err(|error| wrong(&path, &error).into());
    }
    if let Some(text) = shipped::text_of(name) {
        return Experiment::parse(name, text).with_context(|| format!("the scenario {name}"));
    }
    let base = name.split(':').next().unwrap_or(name);
    if shipped::presets().contains(&base) {
        return Experiment::preset(name).map_err(|error| {
            ErrorInfo::new(ErrorCode::BadRequest, format!("{name}: {error}")).into()
        });
    }
    let alike = shipped::suggestions(name);
    let hint = if alike.is_empty() {
        "`comity sim --list` shows what there is; a file ends in .toml".to_owned()
    } else {
        format!("did you mean {}? `comity sim --list` shows what there is", alike.join(" or "))
    };
    Err(ErrorInfo::new(
        ErrorCode::BadRequest,
        format!("there is no scenario or preset called `{name}`"),
    )
    .hint(hint)
    .into())
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| {
        ErrorInfo::new(ErrorCode::BadRequest, format!("cannot read {}: {error}", path.display()))
            .into()
    })
}

/// `FILE:LINE: message`, with the line itself.
fn wrong(path: &Path, error: &FileError) -> ErrorInfo {
    let file = path.display();
    match error.line {
        Some(line) => {
            ErrorInfo::new(ErrorCode::BadRequest, format!("{file}:{line}: {}", error.message))
                .hint(format!("line {line} is `{}`", error.source_line))
        }
        None => ErrorInfo::new(ErrorCode::BadRequest, format!("{file}: {}", error.message)),
    }
}

fn wrong_change(experiment: &Experiment, error: &SweepError) -> ErrorInfo {
    ErrorInfo::new(ErrorCode::BadRequest, format!("{}: {error}", experiment.name))
        .hint("fields are those of the scenario file, see docs/SIMULATOR.md")
}
