//! Where the node's network tasks run.

use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

/// Which runtime carries QUIC, calls and the local API.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum NetworkRuntime {
    /// A current-thread runtime on a thread of its own. Network work is never stolen between threads, which is worth
    /// more than a second core to small calls.
    #[default]
    Dedicated,
    /// The runtime that [`crate::Builder::spawn`] is awaited on: no hop between threads. Right for a program that is
    /// itself built on one current-thread runtime.
    Current,
}

/// A runtime that lives as long as the node.
#[derive(Debug)]
pub(crate) struct Threads {
    network: Handle,
    stop: CancellationToken,
    threads: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Starts the network runtime.
    pub(crate) fn start(kind: NetworkRuntime) -> std::io::Result<Self> {
        let stop = CancellationToken::new();
        match kind {
            NetworkRuntime::Current => {
                Ok(Self { network: Handle::current(), stop, threads: Vec::new() })
            }
            NetworkRuntime::Dedicated => {
                let runtime = Builder::new_current_thread().enable_all().build()?;
                let network = runtime.handle().clone();
                let stopped = stop.clone();
                let thread = std::thread::Builder::new()
                    .name("comity-net".to_owned())
                    .spawn(move || runtime.block_on(stopped.cancelled()))?;
                Ok(Self { network, stop, threads: vec![thread] })
            }
        }
    }

    /// The runtime of network tasks.
    pub(crate) fn network(&self) -> &Handle {
        &self.network
    }

    /// Runs `work` on a thread of its own, with a runtime of its own, until it completes.
    pub(crate) fn run_apart<F>(&mut self, name: &str, work: F) -> std::io::Result<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || runtime.block_on(work))?;
        self.threads.push(thread);
        Ok(())
    }

    /// Lets the network runtime end. Tasks still on it are dropped.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Not joined: the last handle may be dropped on one of these very threads.
        self.stop.cancel();
    }
}
