//! A thread with a current-thread runtime of its own, optionally inside a network namespace.
//!
//! Every server and every client runs on a stage of its own, so that both ends of each contender have the
//! same shape: one runtime thread per end, and no end borrows time from the other's runtime. A stage keeps
//! polling its background tasks (keep-alives, swarms) between jobs.

use std::{path::PathBuf, pin::Pin, sync::mpsc as std_mpsc, thread::JoinHandle, time::Duration};

use anyhow::{Context as _, Result, anyhow};
use tokio::sync::mpsc;

use crate::sys;

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;
type Job = Box<dyn FnOnce() -> Work + Send>;

/// Jobs waiting for one stage. The driver waits for each answer, so one slot is enough.
const JOBS_WAITING_MAX: usize = 1;

/// Where the sockets of a stage live.
#[derive(Clone, Debug)]
pub enum Place {
    /// The namespace of the process.
    Here,
    /// The network namespace behind this handle file.
    Namespace(PathBuf),
}

/// A thread that runs futures one after the other and background tasks in between.
#[derive(Debug)]
pub struct Stage {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Stage {
    /// Starts the thread.
    ///
    /// # Errors
    /// The namespace cannot be entered, or no thread started.
    pub fn start(name: &str, place: Place) -> Result<Self> {
        let (jobs, mut inbox) = mpsc::channel::<Job>(JOBS_WAITING_MAX);
        let (ready, started) = std_mpsc::sync_channel::<Result<()>>(1);
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let runtime = match enter(&place) {
                    Ok(runtime) => runtime,
                    Err(error) => {
                        // The starter waits on this channel, so the send cannot fail before it reads.
                        let _ = ready.send(Err(error));
                        return;
                    }
                };
                let _ = ready.send(Ok(()));
                runtime.block_on(async {
                    while let Some(job) = inbox.recv().await {
                        job().await;
                    }
                });
                // Blocking helpers of a contender must not hold the program at its end.
                runtime.shutdown_timeout(Duration::from_secs(1));
            })
            .context("start a stage thread")?;
        started.recv().context("the stage thread ended while starting")??;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Runs `work` on the stage and waits for its answer, at most `limit`.
    ///
    /// # Errors
    /// What `work` says; no answer in time.
    pub fn run<T, F, W>(&self, limit: Duration, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> W + Send + 'static,
        W: Future<Output = Result<T>> + Send + 'static,
    {
        let (reply, answer) = std_mpsc::sync_channel(1);
        let job: Job = Box::new(move || {
            Box::pin(async move {
                let outcome = tokio::time::timeout(limit, work())
                    .await
                    .unwrap_or_else(|_| Err(anyhow!("no answer within {limit:?}")));
                // The driver is gone only when the program is ending.
                let _ = reply.send(outcome);
            })
        });
        let jobs = self.jobs.as_ref().context("the stage has been stopped")?;
        jobs.blocking_send(job).map_err(|_| anyhow!("the stage thread has ended"))?;
        answer.recv().context("the stage thread died in this job")?
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // A panic there was already reported as a failed job.
            let _ = thread.join();
        }
    }
}

/// Enters the namespace before the runtime exists: its sockets and helper threads inherit it.
fn enter(place: &Place) -> Result<tokio::runtime::Runtime> {
    match place {
        Place::Here => {}
        Place::Namespace(handle) => sys::enter_network_namespace(handle)?,
    }
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("build a current-thread runtime")
}
