//! Running cells: several at once, each in a process of its own, so that one that needs too much memory takes nobody along.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read as _, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use comity_sim::{Protocol, Report, Scenario, Start};
use serde::{Deserialize, Serialize};

use crate::cell::{Cell, CellResult, Measured};
use crate::machine::{self, Machine};

/// Memory a simulated node takes at most, with all that belongs to it, and what the program takes without any; for the number of jobs.
const BYTES_PER_NODE: u64 = 30_000;
const BYTES_BASE: u64 = 100_000_000;
/// The least that a node takes whose network begins with custody: a million do not fit into less than 17 GB.
const BYTES_PER_NODE_LEAST: u64 = 17_000;
/// What is kept of what a worker says beside its results.
const SAID_BYTES_MAX: u64 = 16_384;
/// How often a run tells how far it is.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);
/// Longest line of a worker.
const LINE_BYTES_MAX: u64 = crate::store::RESULT_BYTES_MAX;

/// What is heard of cells while they run. Indices are those of the list given.
#[derive(Debug)]
pub enum News {
    /// A cell begins.
    Begun(usize),
    /// How much of a cell's virtual time has passed, 0 to 1.
    Progress(usize, f64),
    /// A cell was run.
    Done(usize, Box<CellResult>),
    /// A cell could not be run.
    Failed(usize, String),
}

/// Where cells run.
#[derive(Clone, Debug)]
pub enum Place {
    /// In this process. Their memory cannot be told apart, and they do not stop before they end.
    Here,
    /// Each in a process of its own: this program with these arguments, which calls [`serve`].
    Process {
        /// The program.
        program: PathBuf,
        /// Its arguments.
        args: Vec<String>,
    },
}

/// How many cells of these sizes run at once without filling the memory: one less than fits, at most one per processor.
#[must_use]
pub fn jobs_for(cells: &[Cell]) -> usize {
    let largest = cells.iter().map(|cell| cell.scenario.nodes as u64).max().unwrap_or(0);
    let needed = BYTES_BASE + largest.saturating_mul(BYTES_PER_NODE);
    let fit = machine::memory_available().map_or(2, |bytes| bytes / needed);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    usize::try_from(fit.saturating_sub(1)).unwrap_or(usize::MAX).clamp(1, cores)
}

/// Why a cell is not begun: this machine would run out of memory, and take other programs along.
fn refusal(cell: &Cell, available: Option<u64>) -> Option<String> {
    let Scenario { nodes, start, protocol, .. } = &cell.scenario;
    let has_custody = *start == Start::Settled && *protocol == Protocol::Comity;
    let needed = BYTES_BASE + (*nodes as u64).saturating_mul(BYTES_PER_NODE_LEAST);
    let available = available.filter(|available| has_custody && *available < needed)?;
    let gigabytes = |bytes: u64| bytes.div_ceil(100_000_000) as f64 / 10.0;
    Some(format!(
        "{nodes} nodes need at least {} GB of memory and {} GB are free; run fewer with --nodes, or on a larger machine",
        gigabytes(needed),
        gigabytes(available),
    ))
}

/// A pool that runs cells.
#[derive(Debug)]
pub struct Runner {
    place: Place,
    jobs: usize,
    stopped: AtomicBool,
    running: AtomicUsize,
    children: Mutex<Vec<(usize, Child)>>,
}

impl Runner {
    /// A pool of so many at once, one at least.
    #[must_use]
    pub fn new(place: Place, jobs: usize) -> Self {
        Self {
            place,
            jobs: jobs.max(1),
            stopped: AtomicBool::new(false),
            running: AtomicUsize::new(0),
            children: Mutex::new(Vec::new()),
        }
    }

    /// Ends the processes that run and begins no more cells. What was done stays done.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        for (_, child) in self.children.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            // One that has ended by itself needs no killing.
            let _ = child.kill();
        }
    }

    /// Whether [`Runner::stop`] was called.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Runs the cells in order and returns when all are done or [`Runner::stop`] was called.
    pub fn run(&self, cells: &[Cell], news: &Sender<News>) {
        let queue: Mutex<VecDeque<usize>> = Mutex::new((0..cells.len()).collect());
        let (machine, program) = (Machine::here(), machine::program());
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.min(cells.len()) {
                scope.spawn(|| {
                    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    while let Some(index) = next().filter(|_| !self.is_stopped()) {
                        self.running.fetch_add(1, Ordering::SeqCst);
                        self.tell(news, News::Begun(index));
                        let outcome = self.one(index, &cells[index], news);
                        let jobs = self.running.fetch_sub(1, Ordering::SeqCst);
                        if self.is_stopped() {
                            return;
                        }
                        let word = match outcome {
                            Ok((mut measured, report)) => {
                                measured.jobs = jobs;
                                let cell = &cells[index];
                                let result =
                                    CellResult::new(cell, &program, &machine, measured, &report);
                                News::Done(index, Box::new(result))
                            }
                            Err(why) => News::Failed(index, why),
                        };
                        self.tell(news, word);
                    }
                });
            }
        });
    }

    fn tell(&self, news: &Sender<News>, word: News) {
        if news.send(word).is_err() {
            self.stop();
        }
    }

    fn one(
        &self,
        index: usize,
        cell: &Cell,
        news: &Sender<News>,
    ) -> Result<(Measured, Report), String> {
        match &self.place {
            Place::Here => measure(&cell.scenario, &mut |share| {
                self.tell(news, News::Progress(index, share));
            }),
            Place::Process { program, args } => {
                if let Some(why) = refusal(cell, machine::memory_available()) {
                    return Err(why);
                }
                let mut child = Command::new(program)
                    .args(args)
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .spawn()
                    .map_err(|error| format!("cannot start {}: {error}", program.display()))?;
                let (input, output, errors) =
                    (child.stdin.take(), child.stdout.take(), child.stderr.take());
                let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
                children.push((index, child));
                drop(children);
                let talk = || {
                    // The worker ends when its input does: it must not outlive this program, however that ends.
                    let _lifeline = hand_over(&cell.scenario, input)?;
                    self.listen(index, output, news)
                };
                let (heard, said) = std::thread::scope(|scope| {
                    // Read all the time: a worker that cannot write what a panic says would not end.
                    let said = scope.spawn(|| errors.map_or_else(String::new, said_by));
                    (talk(), said.join().unwrap_or_default())
                });
                let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
                let at = children.iter().position(|(owner, _)| *owner == index);
                let child = at.map(|at| children.swap_remove(at).1);
                drop(children);
                let status = child.and_then(|mut child| child.wait().ok());
                heard.map_err(|why| {
                    let status = status.map_or_else(String::new, |status| format!(" ({status})"));
                    format!("{why}{status} {}", said.trim()).trim().to_owned()
                })
            }
        }
    }

    fn listen(
        &self,
        index: usize,
        output: Option<impl io::Read>,
        news: &Sender<News>,
    ) -> Result<(Measured, Report), String> {
        let mut reader = BufReader::new(output.ok_or("the worker has no output")?);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = reader
                .by_ref()
                .take(LINE_BYTES_MAX)
                .read_until(b'\n', &mut line)
                .map_err(|error| format!("the worker cannot be read: {error}"))?;
            if read == 0 {
                return Err("the worker ended without a result".to_owned());
            }
            match serde_json::from_slice(&line) {
                Ok(Word::Progress(share)) => self.tell(news, News::Progress(index, share)),
                Ok(Word::Done(measured, report)) => return Ok((measured, *report)),
                Ok(Word::Refused(why)) => return Err(why),
                Err(error) => return Err(format!("the worker says what it should not: {error}")),
            }
        }
    }
}

/// The beginning of what a worker says, once it says no more.
fn said_by(mut errors: impl io::Read) -> String {
    let mut said = String::new();
    // What cannot be read is not worth failing for: the worker has ended, or says so itself.
    let _ = errors.by_ref().take(SAID_BYTES_MAX).read_to_string(&mut said);
    let _ = io::copy(&mut errors, &mut io::sink());
    said
}

fn hand_over(scenario: &Scenario, input: Option<ChildStdin>) -> Result<ChildStdin, String> {
    let failed = |error: io::Error| format!("the worker takes no scenario: {error}");
    let mut input = input.ok_or("the worker has no input")?;
    serde_json::to_writer(&mut input, scenario).map_err(|error| failed(error.into()))?;
    input.write_all(b"\n").and_then(|()| input.flush()).map_err(failed)?;
    Ok(input)
}

/// A line of a worker.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Progress(f64),
    Done(Measured, Box<Report>),
    Refused(String),
}

/// The worker's side of [`Place::Process`]: reads a scenario from standard input, runs it, writes progress and the result to `output`.
/// Ends the process when standard input ends before.
///
/// # Errors
/// When there is no scenario, or nobody listens.
pub fn serve(mut output: impl Write) -> io::Result<()> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    let scenario: Scenario = serde_json::from_str(&line)?;
    std::thread::spawn(|| {
        let mut rest = Vec::new();
        // Whatever comes, its end means that nobody waits any more.
        let _ = io::stdin().lock().take(1).read_to_end(&mut rest);
        std::process::exit(130);
    });
    let mut say = |word: &Word| -> io::Result<()> {
        serde_json::to_writer(&mut output, word)?;
        output.write_all(b"\n")?;
        output.flush()
    };
    let mut heard = Ok(());
    let outcome = measure(&scenario, &mut |share| {
        if heard.is_ok() {
            heard = say(&Word::Progress(share));
        }
    });
    heard?;
    say(&match outcome {
        Ok((measured, report)) => Word::Done(measured, Box::new(report)),
        Err(why) => Word::Refused(why),
    })
}

/// Runs a scenario, with the protocol it names and a watch in hand.
fn measure(
    scenario: &Scenario,
    progress: &mut dyn FnMut(f64),
) -> Result<(Measured, Report), String> {
    let (began, cpu_before) = (Instant::now(), machine::cpu_seconds());
    let mut last = began;
    let outcome = comity_sim::run_with(scenario, &mut |at| {
        if last.elapsed() >= PROGRESS_EVERY {
            last = Instant::now();
            let total = at.total.as_secs_f64();
            progress(if total > 0.0 { at.done.as_secs_f64() / total } else { 0.0 });
        }
    });
    let report = outcome.unwrap_or_else(|failure| failure.report);
    if report.counters.events == 0 && !report.passed() {
        // It never began: a baseline that cannot run at this size, for instance.
        let why: Vec<String> = report.violations.iter().map(ToString::to_string).collect();
        return Err(why.join("; "));
    }
    let wall_seconds = began.elapsed().as_secs_f64();
    let cpu_seconds = cpu_before.and_then(|before| Some(machine::cpu_seconds()? - before));
    let peak_bytes = machine::peak_bytes();
    let measured = Measured {
        wall_seconds,
        cpu_seconds,
        peak_bytes,
        events_per_second: report.counters.events as f64 / wall_seconds.max(1e-9),
        bytes_per_node: peak_bytes.map(|bytes| bytes as f64 / scenario.nodes.max(1) as f64),
        jobs: 1,
    };
    Ok((measured, report))
}

/// All news until the last: for callers that only want results.
#[must_use]
pub fn collect(news: &Receiver<News>) -> (Vec<CellResult>, Vec<String>) {
    let (mut results, mut failures) = (Vec::new(), Vec::new());
    for word in news {
        match word {
            News::Done(_, result) => results.push(*result),
            News::Failed(_, why) => failures.push(why),
            News::Begun(_) | News::Progress(..) => {}
        }
    }
    (results, failures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_into_memory_is_not_begun() {
        let cell = |nodes, start| {
            let scenario = Scenario { start, ..Scenario::healthy(nodes, 1) };
            Cell::new("sizes", Vec::new(), scenario)
        };
        let free = Some(8_000_000_000);
        let why = refusal(&cell(1_000_000, Start::Settled), free).unwrap();
        assert!(why.contains("17.1 GB") && why.contains("8 GB are free"), "{why}");
        assert_eq!(refusal(&cell(300_000, Start::Settled), free), None);
        assert_eq!(refusal(&cell(1_000_000, Start::Settled), None), None);
        let joined = Start::Joined { over: Duration::from_secs(60) };
        assert_eq!(refusal(&cell(1_000_000, joined), free), None);
    }

    #[test]
    fn what_a_worker_says_is_read_to_the_end_and_its_beginning_kept() {
        let (mut ours, mut theirs) = io::pipe().unwrap();
        let writer = std::thread::spawn(move || theirs.write_all(&[b'x'; 1 << 20]));
        let said = said_by(&mut ours);
        assert!(writer.join().unwrap().is_ok());
        assert_eq!(said.len() as u64, SAID_BYTES_MAX);
    }
}
