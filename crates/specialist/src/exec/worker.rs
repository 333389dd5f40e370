//! Keeps one copy of the program running and gives it one request at a time.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::child::{Broken, Running};
use super::{ExecConfig, ExecError, Health, Job};
use crate::error::SpecialistError;

/// A copy that ran this long before it ended is restarted after the first pause again.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);

/// One worker: a task that owns a copy of the program.
pub(super) struct Worker {
    index: usize,
    config: Arc<ExecConfig>,
    queue: Arc<tokio::sync::Mutex<mpsc::Receiver<Job>>>,
    health: Arc<Health>,
    stop: CancellationToken,
    first: Option<Running>,
    /// Ends in a row without an answer in between.
    failures: u32,
}

/// Why a copy is given up.
enum End {
    /// The node stops.
    Stop,
    /// The copy is in doubt; started anew after a pause if it failed, at once if only its call was withdrawn.
    Restart { why: &'static str, failed: bool, job: Option<(Job, SpecialistError)> },
}

impl Worker {
    pub(super) fn start(
        index: usize,
        config: &Arc<ExecConfig>,
        queue: &Arc<tokio::sync::Mutex<mpsc::Receiver<Job>>>,
        health: &Arc<Health>,
        stop: &CancellationToken,
    ) -> Result<Self, ExecError> {
        let first = Running::start(config)?;
        health.went_up(index);
        Ok(Self {
            index,
            config: Arc::clone(config),
            queue: Arc::clone(queue),
            health: Arc::clone(health),
            stop: stop.clone(),
            first: Some(first),
            failures: 0,
        })
    }

    pub(super) async fn run(mut self) {
        let mut copy = self.first.take();
        loop {
            let Some(mut running) = copy.take() else {
                match self.restart().await {
                    Some(fresh) => copy = Some(fresh),
                    None => return,
                }
                continue;
            };
            let started = Instant::now();
            match self.serve(&mut running).await {
                End::Stop => return running.stop().await,
                End::Restart { why, failed, job } => {
                    let how = running.kill().await;
                    if started.elapsed() >= HEALTHY_AFTER {
                        self.failures = 0;
                    }
                    let pause = if failed { self.next_pause() } else { Duration::ZERO };
                    let program = self.config.argv.first().map_or("", String::as_str);
                    tracing::warn!(target: "comity::specialist::exec", program, why, how, ?pause, "restarting the program");
                    self.health.went_down(self.index, &how, Instant::now() + pause);
                    if let Some((job, error)) = job {
                        // Answered last, so that a caller who calls again finds the worker's true state.
                        let crashed = matches!(error, SpecialistError::Crashed { .. });
                        let error =
                            if crashed { SpecialistError::Crashed { what: how } } else { error };
                        drop(job.reply.send(Err(error)));
                    }
                    self.health.changed.notify_waiters();
                    if !self.rest(pause).await {
                        return;
                    }
                }
            }
        }
    }

    /// Gives jobs to the copy until something is wrong with it.
    async fn serve(&mut self, copy: &mut Running) -> End {
        loop {
            let job = tokio::select! {
                biased;
                () = self.stop.cancelled() => return End::Stop,
                broken = copy.disturbed() => return idle_end(&broken),
                job = next(&self.queue) => job,
            };
            let Some(mut job) = job else { return End::Stop };
            // Withdrawn or too late while it waited.
            if job.reply.is_closed() || job.ends.over().is_some() {
                continue;
            }
            let exchange = copy.exchange(&job.line, self.config.max_line_bytes);
            let outcome = tokio::select! {
                biased;
                () = self.stop.cancelled() => return End::Stop,
                outcome = job.ends.bound(exchange) => outcome,
                () = job.reply.closed() => Err(SpecialistError::Cancelled),
            };
            match outcome {
                Ok(Ok(line)) => match answer(&line) {
                    Ok(answer) => {
                        self.failures = 0;
                        drop(job.reply.send(answer));
                    }
                    Err(error) => return failed("its answer is not JSON", job, error),
                },
                Ok(Err(Broken::Ended)) => {
                    return failed(
                        "it ended during a call",
                        job,
                        SpecialistError::Crashed { what: String::new() },
                    );
                }
                Ok(Err(Broken::TooLong)) => {
                    let error =
                        SpecialistError::AnswerTooLarge { limit: self.config.max_line_bytes };
                    return failed("its answer is too long", job, error);
                }
                Ok(Err(Broken::Surplus)) => {
                    let what = "more than one line for one request".to_owned();
                    return failed(
                        "it answered with several lines",
                        job,
                        SpecialistError::GarbageAnswer { what },
                    );
                }
                Err(error) => {
                    let failed = error != SpecialistError::Cancelled;
                    let why =
                        if failed { "it did not answer in time" } else { "its call was cancelled" };
                    return End::Restart { why, failed, job: Some((job, error)) };
                }
            }
        }
    }

    /// Starts a copy, with pauses between attempts; `None` when the node stops.
    async fn restart(&mut self) -> Option<Running> {
        loop {
            match Running::start(&self.config) {
                Ok(copy) => {
                    self.health.went_up(self.index);
                    return Some(copy);
                }
                Err(error) => {
                    let pause = self.next_pause();
                    tracing::warn!(target: "comity::specialist::exec", %error, ?pause, "cannot restart the program");
                    self.health.went_down(
                        self.index,
                        "it cannot be started",
                        Instant::now() + pause,
                    );
                    if !self.rest(pause).await {
                        return None;
                    }
                }
            }
        }
    }

    /// Waits; false when the node stops meanwhile.
    async fn rest(&self, pause: Duration) -> bool {
        tokio::select! {
            () = self.stop.cancelled() => false,
            () = tokio::time::sleep(pause) => true,
        }
    }

    /// Doubles with each failure in a row. One node's copies need no jitter: they compete for nothing.
    fn next_pause(&mut self) -> Duration {
        let doublings = self.failures.min(20);
        self.failures = self.failures.saturating_add(1);
        self.config.first_pause.saturating_mul(1 << doublings).min(self.config.longest_pause)
    }
}

async fn next(queue: &tokio::sync::Mutex<mpsc::Receiver<Job>>) -> Option<Job> {
    queue.lock().await.recv().await
}

fn idle_end(broken: &Broken) -> End {
    let why = match broken {
        Broken::Ended => "it ended",
        Broken::Surplus | Broken::TooLong => "it wrote a line nobody asked for",
    };
    End::Restart { why, failed: true, job: None }
}

fn failed(why: &'static str, job: Job, error: SpecialistError) -> End {
    End::Restart { why, failed: true, job: Some((job, error)) }
}

/// The answer in a line; the outer error means the line is none.
fn answer(line: &[u8]) -> Result<Result<Value, SpecialistError>, SpecialistError> {
    let value: Value =
        serde_json::from_slice(line).map_err(|error| SpecialistError::GarbageAnswer {
            what: format!("its line of {} bytes is not JSON: {error}", line.len()),
        })?;
    Ok(match reported(&value) {
        Some(error) => Err(error),
        None => Ok(value),
    })
}

/// The error that `{"error": {"message": …}}` reports; other objects with an `error` member are answers.
pub(crate) fn reported(value: &Value) -> Option<SpecialistError> {
    let object = value.as_object().filter(|object| object.len() == 1)?;
    let message = object.get("error")?.get("message")?.as_str()?;
    Some(SpecialistError::reported(message))
}
