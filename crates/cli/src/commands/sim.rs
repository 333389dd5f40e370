//! `comity sim`: simulated networks, their measurements, and reports of them.

mod plan;
mod watch;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::Args;
use comity_api::types::{ErrorCode, ErrorInfo, Exit};
use comity_lab::cell::CellResult;
use comity_lab::paper::Paper;
use comity_lab::runner::{self, Place, Runner};
use comity_lab::store::{self, Store};
use comity_lab::{Assignment, compare, machine};
use serde_json::json;

pub(crate) use self::plan::Listed;
use self::plan::Plan;
use crate::args::OutputArgs;
use crate::context::Context;
use crate::{render, signals};

/// Options of `sim`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct SimArgs {
    /// A scenario file, a name of --list, a preset such as kill:30, or a directory of results.
    #[arg(value_name = "SCENARIO", required_unless_present_any = ["list", "campaign", "worker"])]
    scenario: Option<String>,

    /// Decides everything left to chance; without it the file's seeds.
    #[arg(long, value_name = "N")]
    seed: Option<u32>,

    /// Nodes at the beginning; without it the file's sizes.
    #[arg(long, value_name = "N")]
    nodes: Option<u32>,

    /// Change a field of the scenario, e.g. link.loss=1.5 or faults.0.share=30; lists are swept over, e.g. 'kill=[10, 50]'.
    #[arg(long = "set", value_name = "FIELD=VALUE", value_parser = Assignment::parse)]
    changes: Vec<Assignment>,

    /// Run the file's small variant.
    #[arg(long)]
    quick: bool,

    /// Runs at once [default: as many as memory and processors allow].
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,

    /// Keep the results in DIR and write a report there: index.html, report.md, figures. Runs whose results are there already are not
    /// made again.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,

    /// Take results in the report's directory for done even if another build of this program made them.
    #[arg(long, requires = "report")]
    any_build: bool,

    /// Show the differences from earlier results: a report's directory or a result file.
    #[arg(long, value_name = "BASE")]
    compare: Option<PathBuf>,

    /// Run several scenarios, as this file lists them.
    #[arg(long, value_name = "FILE", conflicts_with = "scenario")]
    campaign: Option<PathBuf>,

    /// List the scenarios and presets that come with this program.
    #[arg(long, conflicts_with_all = ["scenario", "campaign"])]
    list: bool,

    /// Run one scenario from standard input, for another `comity sim`.
    #[arg(long, hide = true, exclusive = true)]
    worker: bool,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

const AFTER_HELP: &str = "\
The exit code is 1 when a rule was broken or a demand of the scenario missed, 2 when the file is wrong.

Examples:
    comity sim kill:50 --nodes 2000              half of 2,000 nodes fail at once
    comity sim healthy --set 'nodes=[300, 1000, 3000]' --set seeds=5 --report out
    comity sim mine.toml --report out            go on where an interrupted run stopped
    comity sim mine.toml --compare out           what changed since
    comity sim out2 --compare out                two sets of results, nothing is run";

/// Runs what the options ask for.
pub(crate) async fn run(args: SimArgs, context: &Context) -> Result<ExitCode> {
    if args.worker {
        runner::serve(std::io::stdout()).context("the scenario did not run")?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.list {
        context.out.answer(&plan::list(), |listed, _| render::sim::list(listed))?;
        return Ok(ExitCode::SUCCESS);
    }
    let base = args.compare.as_deref().map(read).transpose()?;
    let done = match args.scenario.as_deref().filter(|given| plan::is_results(given)) {
        Some(results) => Done { results: read(Path::new(results))?, ..Done::default() },
        None => {
            let plan = Plan::new(&args)?;
            let done = carry_out(&args, &plan, context).await?;
            finish(&args, &plan, context, &done)?;
            done
        }
    };
    let comparison = base.map(|base| compare::compare(&base, &done.results));
    if context.out.json {
        let answer = json!({
            "results": done.results, "failures": done.failures, "comparison": comparison, "interrupted": done.interrupted,
        });
        context.out.answer(&answer, |_, _| String::new())?;
    } else {
        let shown = comparison.as_ref().map(compare::Comparison::text);
        context.out.raw(&render::sim::results(&done.results, &done.failures, shown.as_deref()))?;
    }
    Ok(ExitCode::from(done.exit().code()))
}

/// What became of the cells.
#[derive(Debug, Default)]
struct Done {
    results: Vec<CellResult>,
    /// Cells that could not be run, and why.
    failures: Vec<String>,
    interrupted: bool,
}

impl Done {
    fn exit(&self) -> Exit {
        if self.interrupted {
            Exit::Interrupted
        } else if self.failures.is_empty() && self.results.iter().all(CellResult::passed) {
            Exit::Ok
        } else {
            Exit::Failure
        }
    }
}

fn read(path: &Path) -> Result<Vec<CellResult>> {
    store::read(path).map_err(|error| {
        ErrorInfo::new(ErrorCode::BadRequest, error.to_string())
            .hint("results are made by `comity sim SCENARIO --report DIR`")
            .into()
    })
}

/// Runs the cells that have no result yet. Interrupted, it keeps those that were done.
async fn carry_out(args: &SimArgs, plan: &Plan, context: &Context) -> Result<Done> {
    let store = args.report.as_deref().map(Store::open).transpose()?;
    let program = machine::program();
    let build = (!args.any_build).then_some(program.as_str());
    let mut slots: Vec<Option<CellResult>> = plan
        .cells
        .iter()
        .map(|cell| store.as_ref().and_then(|store| store.known(cell, build)))
        .collect();
    let todo: Vec<_> = (0..slots.len()).filter(|index| slots[*index].is_none()).collect();
    let cells: Vec<_> = todo.iter().map(|index| plan.cells[*index].clone()).collect();
    let known = slots.len() - cells.len();
    if known > 0 {
        let runs = render::count(known as u64, "run is", "runs are");
        context.out.note(&format!("{runs} there already"));
    }
    let exe = std::env::current_exe().context("cannot find the comity program itself")?;
    let place =
        Place::Process { program: exe, args: vec!["sim".to_owned(), "--worker".to_owned()] };
    let jobs = args.jobs.map_or_else(|| runner::jobs_for(&cells), usize::from);
    let pool = Arc::new(Runner::new(place, jobs));
    let mut watch = watch::run(Arc::clone(&pool), cells, store, context.out);
    let ended = tokio::select! {
        ended = &mut watch => ended,
        stopped = signals::stop_asked() => {
            pool.stop();
            stopped?;
            watch.await
        }
    };
    let watch::Ended { results, failures } = ended.context("the runs were given up")??;
    for (index, result) in results {
        slots[todo[index]] = Some(result);
    }
    let interrupted = pool.is_stopped();
    Ok(Done { results: slots.into_iter().flatten().collect(), failures, interrupted })
}

/// Writes the report and says where.
fn finish(args: &SimArgs, plan: &Plan, context: &Context, done: &Done) -> Result<()> {
    let Some(directory) = &args.report else {
        if done.interrupted {
            context.out.note("interrupted; with --report DIR the runs that were done are kept");
        }
        return Ok(());
    };
    let command = plan.command(directory);
    let paper = Paper {
        title: &plan.title,
        about: &plan.about,
        command: &command,
        experiments: &plan.experiments,
        goals: &plan.goals,
        results: &done.results,
    };
    paper
        .write(directory)
        .with_context(|| format!("cannot write the report to {}", directory.display()))?;
    let page = directory.join("index.html");
    context.out.note(&format!("report: {}", page.display()));
    if done.interrupted {
        let missing = plan.cells.len() - done.results.len();
        let missing = render::count(missing as u64, "run is", "runs are");
        context.out.note(&format!("interrupted: {missing} missing; the same command goes on"));
    }
    Ok(())
}
