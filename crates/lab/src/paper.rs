//! The report: targets, figures, tables, and how to repeat them, as HTML and as Markdown.

mod html;
mod markdown;
mod section;
mod targets;

use std::fs;
use std::io;
use std::path::Path;

use crate::aggregate::Group;
use crate::campaign::Goal;
use crate::cell::CellResult;
use crate::experiment::Experiment;
use crate::machine::Machine;

pub use section::table;
pub use targets::{Line, Verdict};

/// Everything a report is made of.
#[derive(Clone, Debug)]
pub struct Paper<'a> {
    /// Heading of the page.
    pub title: &'a str,
    /// What it is about.
    pub about: &'a str,
    /// The command that makes it again.
    pub command: &'a str,
    /// What was run.
    pub experiments: &'a [Experiment],
    /// What is to be reached.
    pub goals: &'a [Goal],
    /// What was measured.
    pub results: &'a [CellResult],
}

/// A piece of the report.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Block {
    /// A heading of level 2 or 3.
    Heading(u8, String),
    /// Running text.
    Paragraph(String),
    /// A list of short texts.
    List(Vec<String>),
    /// A command or a file.
    Code(String),
    /// A figure: name of its file, title, drawing, caption, the numbers behind it.
    Figure { file: String, title: String, svg: String, caption: String, numbers: Vec<Vec<String>> },
    /// A table, its header first.
    Table(Vec<Vec<String>>),
    /// What most readers skip, below a line that says what it is.
    Details(String, Vec<Self>),
}

impl Paper<'_> {
    /// The targets with what was measured.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        targets::lines(self.experiments, self.goals, &Group::all(self.results))
    }

    /// Writes `index.html`, `report.md` and the figures as files into `directory`.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        let blocks = self.blocks();
        let figures = directory.join(FIGURES);
        fs::create_dir_all(&figures)?;
        for block in &blocks {
            if let Block::Figure { file, svg, .. } = block {
                fs::write(figures.join(file), svg)?;
            }
        }
        fs::write(directory.join("index.html"), html::page(self.title, self.about, &blocks))?;
        fs::write(directory.join("report.md"), markdown::page(self.title, self.about, &blocks))
    }

    fn blocks(&self) -> Vec<Block> {
        let groups = Group::all(self.results);
        let mut blocks = self.facts();
        blocks.extend(targets::blocks(&self.lines()));
        let mut number = 0;
        for experiment in self.experiments {
            let own: Vec<Group<'_>> = groups
                .iter()
                .filter(|group| group.experiment == experiment.name)
                .cloned()
                .collect();
            if !own.is_empty() {
                blocks.extend(section::blocks(experiment, &own, &mut number));
            }
        }
        blocks.extend(self.method());
        blocks
    }

    fn facts(&self) -> Vec<Block> {
        let wall: f64 = self.results.iter().map(|result| result.measured.wall_seconds).sum();
        let failed = self.results.iter().filter(|result| !result.passed()).count();
        let mut machines: Vec<Machine> = Vec::new();
        for result in self.results {
            if !machines.contains(&result.machine) {
                machines.push(result.machine.clone());
            }
        }
        let programs = {
            let mut programs: Vec<&str> =
                self.results.iter().map(|result| result.program.as_str()).collect();
            programs.sort_unstable();
            programs.dedup();
            programs.len()
        };
        let mut facts: Vec<String> =
            machines.iter().map(|machine| format!("Measured on {}.", machine.words())).collect();
        facts.push(format!(
            "{} runs, {} of computing; {}.",
            self.results.len(),
            crate::plot::Format::Seconds.write(wall),
            if failed == 0 {
                "in all of them every rule held and every demand was met".to_owned()
            } else {
                format!("in {failed} of them a rule was broken or a demand missed, listed with the experiment")
            }
        ));
        if programs > 1 {
            facts.push(format!("The runs were made by {programs} builds of the program."));
        }
        if machines.iter().any(|machine| machine.profile == "debug") {
            facts.push(
                "Built without optimisation: times and events a second say nothing.".to_owned(),
            );
        }
        vec![
            Block::List(facts),
            Block::Paragraph("To make it again:".to_owned()),
            Block::Code(self.command.to_owned()),
        ]
    }

    fn method(&self) -> Vec<Block> {
        let mut traces = vec![["cell", "seed", "scenario", "trace"].map(str::to_owned).to_vec()];
        for result in self.results {
            let name = format!("{} {}", result.experiment, result.group());
            let trace = result.report["trace"].as_str().unwrap_or_default();
            traces.push(vec![
                name.trim().to_owned(),
                result.seed().to_string(),
                result.id.clone(),
                trace.chars().take(16).collect(),
            ]);
        }
        vec![
            Block::Heading(2, "Method".to_owned()),
            Block::Paragraph(
                "Every run is the production overlay on virtual time, driven by one seed: the same scenario and seed give the same \
                 sequence of events on every machine, and the same trace hash. Intervals are those of Student's t over seeds, 95 %. \
                 Where every seed gives the same share, the interval has no width: no failure among n questions still allows a rate \
                 of 3/n (95 %). Latencies are virtual; wall-clock time, memory and events a second belong to the machine named \
                 above. What the model leaves out is listed in docs/SIMULATOR.md."
                    .to_owned(),
            ),
            Block::Details("Scenario and trace hashes".to_owned(), vec![Block::Table(traces)]),
        ]
    }
}

/// Directory of the figures below the report's.
pub(crate) const FIGURES: &str = "figures";
