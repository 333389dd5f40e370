//! Listening to the runs: results are kept as they come, and whoever watches sees how far they are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Result;
use comity_lab::Cell;
use comity_lab::cell::CellResult;
use comity_lab::runner::{News, Runner};
use comity_lab::store::Store;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;

use crate::output::Output;

/// Parts a cell's progress is counted in, for each of its nodes.
const PARTS: f64 = 1_000.0;
const TICK: Duration = Duration::from_millis(250);

/// What was done, by index in the list of cells.
#[derive(Debug, Default)]
pub(super) struct Ended {
    pub(super) results: Vec<(usize, CellResult)>,
    pub(super) failures: Vec<String>,
}

/// Runs the cells on threads of their own; resolves when all are done or the pool was stopped.
pub(super) fn run(
    pool: Arc<Runner>,
    cells: Vec<Cell>,
    store: Option<Store>,
    out: Output,
) -> JoinHandle<Result<Ended>> {
    tokio::task::spawn_blocking(move || {
        let (news, heard) = mpsc::channel();
        let bar = Bar::new(&cells, &out);
        std::thread::scope(|scope| {
            let (pool, cells) = (&*pool, &cells[..]);
            scope.spawn(move || pool.run(cells, &news));
            let listened = listen(cells, &heard, store.as_ref(), &bar, &out);
            if listened.is_err() {
                pool.stop();
            }
            bar.end();
            listened
        })
    })
}

fn listen(
    cells: &[Cell],
    heard: &mpsc::Receiver<News>,
    store: Option<&Store>,
    bar: &Bar,
    out: &Output,
) -> Result<Ended> {
    let mut ended = Ended::default();
    let mut shares: BTreeMap<usize, f64> = BTreeMap::new();
    for word in heard {
        match word {
            News::Begun(index) => drop(shares.insert(index, 0.0)),
            News::Progress(index, share) => drop(shares.insert(index, share)),
            News::Done(index, result) => {
                shares.remove(&index);
                bar.done(&cells[index]);
                if let Some(store) = store {
                    store.keep(&cells[index], &result)?;
                }
                ended.results.push((index, *result));
            }
            News::Failed(index, why) => {
                shares.remove(&index);
                bar.done(&cells[index]);
                let failure = format!("{}: {why}", cells[index].label());
                bar.above(out, &failure);
                ended.failures.push(failure);
            }
        }
        bar.show(cells, &shares, ended.results.len() + ended.failures.len());
    }
    Ok(ended)
}

/// A progress bar with an estimate of the time left, if somebody watches. A cell counts by its nodes.
struct Bar {
    bar: Option<ProgressBar>,
    finished: std::cell::Cell<f64>,
}

impl Bar {
    fn new(cells: &[Cell], out: &Output) -> Self {
        let total: f64 = cells.iter().map(weight).sum();
        let bar = (out.watched && !cells.is_empty()).then(|| {
            let bar = ProgressBar::new(whole(total));
            if let Ok(style) = ProgressStyle::with_template(
                "[{bar:28}] {percent:>3} % {msg}, {elapsed}, {eta} left",
            ) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.enable_steady_tick(TICK);
            bar
        });
        Self { bar, finished: std::cell::Cell::new(0.0) }
    }

    fn done(&self, cell: &Cell) {
        self.finished.set(self.finished.get() + weight(cell));
    }

    fn show(&self, cells: &[Cell], shares: &BTreeMap<usize, f64>, done: usize) {
        let Some(bar) = &self.bar else { return };
        let running: f64 = shares.iter().map(|(index, share)| weight(&cells[*index]) * share).sum();
        bar.set_position(whole(self.finished.get() + running));
        let label = shares.keys().next().map_or_else(String::new, |index| cells[*index].label());
        let message = if cells.len() > 1 {
            format!("{done} of {} runs, {label}", cells.len())
        } else {
            label
        };
        bar.set_message(message);
    }

    fn above(&self, out: &Output, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => out.note(text),
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// How much work a cell is, in parts.
fn weight(cell: &Cell) -> f64 {
    PARTS * f64::from(u32::try_from(cell.scenario.nodes).unwrap_or(u32::MAX))
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "parts are positive and far below 2^53"
)]
fn whole(parts: f64) -> u64 {
    parts as u64
}
