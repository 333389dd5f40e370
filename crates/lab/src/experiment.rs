//! Experiment files: a scenario, and what to vary, draw and demand of it.

mod source;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use toml::{Table, Value};

use comity_sim::Scenario;

use crate::cell::Cell;
use crate::metric::Metric;

pub use source::FileError;
pub(crate) use source::{find as error_at, split as split_file};

/// Most cells one experiment may make: a typing error in a sweep must not start a month of work.
pub const CELLS_MAX: usize = 10_000;

/// Keys of an experiment file that are not fields of its scenario.
const OWN_KEYS: [&str; 7] = ["title", "minutes", "sweep", "quick", "figure", "target", "columns"];

/// Why an experiment cannot be run as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SweepError {
    /// A value that was set or swept over does not fit the scenario.
    #[error("{key} = {value}: {why}")]
    Value {
        /// The field, as it was written.
        key: String,
        /// What it should become.
        value: String,
        /// Why it cannot.
        why: String,
    },
    /// A list to sweep over is empty.
    #[error("sweep.{key}: there is nothing in the list")]
    Empty {
        /// The field.
        key: String,
    },
    /// Too many combinations.
    #[error("{cells} cells are more than {CELLS_MAX}: sweep over less")]
    TooMany {
        /// How many there would be.
        cells: usize,
    },
}

/// What a figure shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FigureKind {
    /// Metrics against a swept field, with error bars over seeds.
    #[default]
    Line,
    /// The same as bars, for fields that are words.
    Bars,
    /// Cumulative distribution of what a metric's path names.
    Cdf,
    /// Share of values above, both axes logarithmic: for load.
    Ccdf,
    /// A field of the time series against virtual time, with the faults marked.
    Time,
}

/// A figure of the report.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Figure {
    /// What it shows, one line.
    pub title: String,
    /// How it is drawn.
    pub kind: FigureKind,
    /// The swept field on the horizontal axis; the first that is swept if not given.
    pub x: String,
    /// Label of the horizontal axis.
    pub x_label: String,
    /// Metrics, see [`Metric`].
    pub y: Vec<String>,
    /// Label of the vertical axis.
    pub y_label: String,
    /// Names of the metrics in the legend; their paths if not given.
    pub names: Vec<String>,
    /// A value to reach.
    pub target: Option<f64>,
    /// Horizontal axis logarithmic.
    pub x_log: bool,
    /// Vertical axis logarithmic.
    pub y_log: bool,
    /// Only cells with these values.
    #[serde(rename = "where")]
    pub only: Table,
    /// More for the caption.
    pub caption: String,
}

/// A number to reach.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Target {
    /// Which target of the design it is a part of, `T4` for instance.
    pub id: String,
    /// What is demanded, in words.
    pub text: String,
    /// The metric, see [`Metric`].
    pub metric: String,
    /// It must not be less.
    pub at_least: Option<f64>,
    /// It must not be more.
    pub at_most: Option<f64>,
    /// Only cells with these values.
    #[serde(rename = "where")]
    pub only: Table,
    /// What to know about it: why it was missed, what was measured instead.
    pub note: String,
}

/// The keys of an experiment file that are not its scenario's.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Own {
    title: String,
    minutes: Option<f64>,
    sweep: Sweeps,
    quick: Table,
    figure: Vec<Figure>,
    target: Vec<Target>,
    columns: Vec<String>,
}

/// One `[sweep]`, or several `[[sweep]]` whose cells are added up.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
enum Sweeps {
    One(Table),
    Many(Vec<Table>),
}

impl Default for Sweeps {
    fn default() -> Self {
        Self::One(Table::new())
    }
}

/// A change of one field: a path such as `link.loss` or `faults.0.share`, or one of the short names of [`Experiment::cells`].
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// The field.
    pub key: String,
    /// Its new value.
    pub value: Value,
}

impl Assignment {
    /// Reads `key=value`; what is no TOML value is a text.
    ///
    /// # Errors
    /// Says how it should look.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (key, value) =
            text.split_once('=').filter(|(key, _)| !key.trim().is_empty()).ok_or_else(|| {
                "expected FIELD=VALUE, such as link.loss=1.5 or beat_life=30m".to_owned()
            })?;
        let value = value.trim();
        let parsed = toml::from_str::<Table>(&format!("v = {value}"))
            .ok()
            .and_then(|mut table| table.remove("v"))
            .unwrap_or_else(|| Value::String(value.to_owned()));
        Ok(Self { key: key.trim().to_owned(), value: parsed })
    }
}

/// An experiment: cells of one scenario, and how they are shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Experiment {
    /// Its name: that of its file.
    pub name: String,
    /// Its heading.
    pub title: String,
    /// What it shows, for the report's reader.
    pub about: String,
    /// Minutes a cell takes, as its author measured.
    pub minutes: Option<f64>,
    /// Figures of the report.
    pub figures: Vec<Figure>,
    /// Numbers to reach.
    pub targets: Vec<Target>,
    /// Metrics of the report's table; those of [`crate::metric::COLUMNS`] if there are none.
    pub columns: Vec<String>,
    /// The file itself.
    pub text: String,
    scenario: Table,
    sweeps: Vec<Table>,
    quick: Table,
}

impl Experiment {
    /// Reads an experiment file: a scenario as `comity_sim::Scenario` reads it, and beside it `title`, `minutes`, `columns`, `[sweep]`
    /// (or several `[[sweep]]`), `[quick]`, `[[figure]]`, `[[target]]`.
    ///
    /// # Errors
    /// [`FileError`] with the line.
    pub fn parse(name: &str, text: &str) -> Result<Self, FileError> {
        let (own, scenario) = source::split::<Own>(text, &OWN_KEYS)?;
        // Read once as it stands, so that what is wrong with it is told with its line and before anything runs.
        source::check_scenario(text, &OWN_KEYS)?;
        let known = Scenario::from_toml(&source::write(&scenario))
            .map_err(|error| FileError::whole(error.to_string()))?;
        for metric in own
            .figure
            .iter()
            .flat_map(|figure| &figure.y)
            .chain(own.target.iter().map(|target| &target.metric))
            .chain(&own.columns)
        {
            Metric::parse(metric).map_err(|why| source::find(text, metric, &why))?;
        }
        let sweeps = match own.sweep {
            Sweeps::One(sweep) => vec![sweep],
            Sweeps::Many(sweeps) => sweeps,
        };
        let experiment = Self {
            name: name.to_owned(),
            title: if own.title.is_empty() { name.to_owned() } else { own.title },
            about: known.about,
            minutes: own.minutes,
            figures: own.figure,
            targets: own.target,
            columns: own.columns,
            text: text.to_owned(),
            scenario,
            sweeps: sweeps.iter().map(flat).collect(),
            quick: flat(&own.quick),
        };
        for quick in [false, true] {
            experiment.cells(&[], quick).map_err(|error| match &error {
                SweepError::Value { key, .. } | SweepError::Empty { key } => {
                    source::find(text, key, &error.to_string())
                }
                SweepError::TooMany { .. } => FileError::whole(error.to_string()),
            })?;
        }
        Ok(experiment)
    }

    /// The experiment that a preset of the simulator is.
    ///
    /// # Errors
    /// [`FileError`] when there is no such preset; its message lists them.
    pub fn preset(name: &str) -> Result<Self, FileError> {
        Self::parse(name, &format!("preset = {}\n", Value::String(name.to_owned())))
    }

    /// The cells of all sweeps, in order, each once. Fields named in `changes` are not swept over. `quick` applies `[quick]`.
    ///
    /// Short names beside paths: `seeds` (a list, or a number: 1 to that), `kill` (percent that the first kill fault takes),
    /// `adversaries` (percent that the first group of adversaries is), `adversary` (its kind).
    ///
    /// # Errors
    /// [`SweepError`] names the field and the value.
    pub fn cells(&self, changes: &[Assignment], quick: bool) -> Result<Vec<Cell>, SweepError> {
        let mut cells: Vec<Cell> = Vec::new();
        let listed = |table: &Table| {
            let lists = table.iter().filter(|(_, value)| value.is_array());
            lists.map(|(key, _)| key.clone()).collect::<Vec<_>>()
        };
        let mut swept: Vec<String> = self.sweeps.iter().flat_map(listed).collect();
        let lists = changes.iter().filter(|change| change.value.is_array());
        swept.extend(lists.map(|change| change.key.clone()));
        for sweep in &self.sweeps {
            let mut axes = sweep.clone();
            if quick {
                replace(&mut axes, self.quick.iter());
            }
            replace(&mut axes, changes.iter().map(|change| (&change.key, &change.value)));
            for combination in combinations(&axes)? {
                let cell = self.cell(&combination, &swept)?;
                if !cells.iter().any(|known| known.id == cell.id) {
                    cells.push(cell);
                }
                if cells.len() > CELLS_MAX {
                    return Err(SweepError::TooMany { cells: cells.len() });
                }
            }
        }
        Ok(cells)
    }

    /// The cell of a combination, named after the fields that are swept over.
    fn cell(&self, combination: &[(String, Value)], swept: &[String]) -> Result<Cell, SweepError> {
        let refused = |key: &str, value: &Value, why: String| SweepError::Value {
            key: key.to_owned(),
            value: value.to_string(),
            why,
        };
        // What presets depend on comes before them.
        let mut file = self.scenario.clone();
        for (key, value) in combination {
            if matches!(key.as_str(), "preset" | "nodes" | "seed") {
                file.insert(key.clone(), value.clone());
            }
        }
        let named = |key: &str| combination.iter().find(|(name, _)| name == key);
        let base = Scenario::from_toml(&source::write(&file)).map_err(|error| {
            let (key, value) =
                ["preset", "nodes", "seed"].iter().find_map(|key| named(key)).map_or_else(
                    || ("scenario", Value::String(self.name.clone())),
                    |(key, value)| (key.as_str(), value.clone()),
                );
            refused(key, &value, error.to_string())
        })?;
        let mut scenario = base;
        for (key, value) in combination {
            if matches!(key.as_str(), "preset" | "nodes" | "seed") {
                continue;
            }
            let mut json = serde_json::to_value(&scenario)
                .map_err(|error| refused(key, value, error.to_string()))?;
            let new = serde_json::to_value(value)
                .map_err(|error| refused(key, value, error.to_string()))?;
            path_of(key, &json)
                .and_then(|path| put(&mut json, &path, new))
                .map_err(|why| refused(key, value, why))?;
            scenario = serde_json::from_value(json)
                .map_err(|error| refused(key, value, error.to_string()))?;
        }
        let last = combination.last();
        scenario.check().map_err(|error| {
            let (key, value) = last.map_or_else(
                || ("scenario", Value::String(self.name.clone())),
                |(key, value)| (key.as_str(), value.clone()),
            );
            refused(key, &value, error.to_string())
        })?;
        let assignments =
            combination.iter().filter(|(key, _)| key != "seed" && swept.contains(key));
        Ok(Cell::new(&self.name, assignments.cloned().collect(), scenario))
    }
}

/// Nested tables as one with dotted keys; `seeds` under its field's name.
fn flat(table: &Table) -> Table {
    fn add(out: &mut Table, prefix: &str, table: &Table) {
        for (key, value) in table {
            let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            if let Value::Table(inner) = value {
                add(out, &path, inner);
            } else if path == "seeds" {
                let count = value.as_integer().filter(|count| (1..=1_000).contains(count));
                let seeds = count.map(|count| (1..=count).map(Value::Integer).collect());
                let seeds = seeds.map_or_else(|| value.clone(), Value::Array);
                out.insert("seed".to_owned(), seeds);
            } else {
                out.insert(path, value.clone());
            }
        }
    }
    let mut out = Table::new();
    add(&mut out, "", table);
    out
}

fn replace<'a>(axes: &mut Table, changes: impl Iterator<Item = (&'a String, &'a Value)>) {
    for (key, value) in changes {
        if value.is_table() {
            // A whole table replaces what was there.
            axes.insert(key.clone(), value.clone());
        } else {
            axes.extend(flat(&Table::from_iter([(key.clone(), value.clone())])));
        }
    }
}

/// Every combination of the listed values; the seed varies fastest.
fn combinations(axes: &Table) -> Result<Vec<Vec<(String, Value)>>, SweepError> {
    let mut keys: Vec<&String> = axes.keys().collect();
    keys.sort_by_key(|key| (*key == "seed", key.as_str()));
    let mut all: Vec<Vec<(String, Value)>> = vec![Vec::new()];
    for key in keys {
        let values = axes[key].as_array().cloned().unwrap_or_else(|| vec![axes[key].clone()]);
        if values.is_empty() {
            return Err(SweepError::Empty { key: key.clone() });
        }
        let cells = all.len() * values.len();
        if cells > CELLS_MAX {
            return Err(SweepError::TooMany { cells });
        }
        all = all
            .iter()
            .flat_map(|chosen| {
                values.iter().map(|value| {
                    chosen.iter().cloned().chain([(key.clone(), value.clone())]).collect()
                })
            })
            .collect();
    }
    Ok(all)
}

/// The path a key means in this scenario.
pub(crate) fn path_of(key: &str, scenario: &Json) -> Result<Vec<String>, String> {
    let group = |field: &str| format!("adversaries.0.{field}");
    let long = match key {
        "kill" => {
            let faults = scenario["faults"].as_array().map_or(&[][..], Vec::as_slice);
            let kill = faults.iter().position(|fault| fault["kind"] == "kill");
            format!("faults.{}.share", kill.ok_or("the scenario has no fault of kind \"kill\"")?)
        }
        "adversaries" => group("share"),
        "adversary" => group("kind"),
        other => other.to_owned(),
    };
    Ok(long.split('.').map(str::to_owned).collect())
}

fn put(root: &mut Json, path: &[String], value: Json) -> Result<(), String> {
    let mut at = root;
    for (depth, step) in path.iter().enumerate() {
        let last = depth + 1 == path.len();
        at = match at {
            Json::Object(fields) if last => {
                fields.insert(step.clone(), value);
                return Ok(());
            }
            Json::Object(fields) => {
                fields.entry(step.clone()).or_insert_with(|| Json::Object(serde_json::Map::new()))
            }
            Json::Array(items) => {
                let count = items.len();
                let item = step.parse::<usize>().ok().and_then(|index| items.get_mut(index));
                let item = item.ok_or_else(|| {
                    format!(
                        "{} has {count} entries, `{step}` is none of them",
                        path[..depth].join(".")
                    )
                })?;
                if last {
                    *item = value;
                    return Ok(());
                }
                item
            }
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {
                return Err(format!("{} has no parts", path[..depth].join(".")));
            }
        };
    }
    Err("a field has a name".to_owned())
}
