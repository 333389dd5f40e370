//! The network that is measured: many node processes, some of them serving, the others there to ask.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use comity_api::types::{JoinState, Role};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::iter;
use tokio::time::Instant;

use super::Progress;
use super::cast::Cut;
use crate::process::{Launch, Process};

/// Processes started, or tables served, at the same time.
const AT_ONCE: usize = 4;
/// A network that has not come together by then will not.
const JOIN_PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at nodes that have not joined.
const POLL: Duration = Duration::from_millis(100);
/// One node in so many serves a table.
const SERVING_SHARE: usize = 4;
/// Fewest nodes that serve.
const SERVING_MIN: usize = 5;
/// One serving node in so many serves the whole table of rates.
const REPLICA_SHARE: usize = 3;
/// Fewest of those; all but one get killed.
const REPLICAS_MIN: usize = 3;
/// Most of those.
const REPLICAS_MAX: usize = 5;

/// The nodes by their part.
#[derive(Debug, Default)]
pub(super) struct Network {
    /// Serve the same table.
    pub(super) replicas: Vec<Process>,
    /// Serve a cut each.
    pub(super) others: Vec<Process>,
    /// Serve nothing and have asked nothing.
    pub(super) askers: Vec<Process>,
}

/// How many nodes play which part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Parts {
    replicas: usize,
    others: usize,
    askers: usize,
}

impl Parts {
    fn of(nodes: usize) -> Self {
        let serving = (nodes / SERVING_SHARE).max(SERVING_MIN);
        let replicas = (serving / REPLICA_SHARE).clamp(REPLICAS_MIN, REPLICAS_MAX);
        Self { replicas, others: serving - replicas, askers: nodes.saturating_sub(serving) }
    }
}

impl Network {
    /// Starts all nodes. Everybody joins through the first one and knows nobody else.
    pub(super) async fn start(
        &mut self,
        directory: &Path,
        nodes: usize,
        progress: &Progress,
    ) -> Result<()> {
        let parts = Parts::of(nodes);
        let launch = Launch { directory, network: "bench", keep: false };
        let first = launch.start("asker-1", None).await?;
        let ticket = first.ticket();
        self.askers.push(first);
        let names = (1..=parts.replicas)
            .map(|number| format!("replica-{number}"))
            .chain((1..=parts.others).map(|number| format!("other-{number}")))
            .chain((2..=parts.askers).map(|number| format!("asker-{number}")));
        let (launch, ticket) = (&launch, &ticket);
        let mut starting = iter(names)
            .map(|nick| async move { launch.start(&nick, Some(ticket)).await })
            .buffer_unordered(AT_ONCE);
        let mut up = 1;
        while let Some(process) = starting.next().await {
            let process = process?;
            let part = match process.nick.split_once('-') {
                Some(("replica", _)) => &mut self.replicas,
                Some(("other", _)) => &mut self.others,
                Some(_) | None => &mut self.askers,
            };
            part.push(process);
            up += 1;
            progress.say(&format!("starting nodes: {up} of {nodes}"));
        }
        Ok(())
    }

    /// Waits until every node is in the network and has a part in it; how many of them keep custody.
    pub(super) async fn joined(&self, progress: &Progress) -> Result<usize> {
        let deadline = Instant::now() + JOIN_PATIENCE;
        loop {
            let states = join_all(self.all().map(|process| process.client.status())).await;
            let (mut ready, mut servers) = (0, 0);
            for status in states {
                let status = status.context("a node stopped answering")?;
                let inside = match status.join {
                    JoinState::Joined => true,
                    JoinState::Alone => status.peers.routing > 0,
                    JoinState::Joining { .. } | JoinState::Failed { .. } => false,
                };
                ready += usize::from(inside && status.role != Role::Undecided);
                servers += usize::from(status.role == Role::Server);
            }
            let all = self.all().count();
            if ready == all {
                return Ok(servers);
            }
            if Instant::now() > deadline {
                bail!("only {ready} of {all} nodes are in the network after {JOIN_PATIENCE:?}");
            }
            progress.say(&format!("joining: {ready} of {all}"));
            tokio::time::sleep(POLL).await;
        }
    }

    /// Lets the replicas serve the whole table and the others a cut each.
    pub(super) async fn serve(&self, progress: &Progress) -> Result<()> {
        let replicas = self.replicas.iter().map(|process| (process, Cut::replica()));
        let cuts = self.others.iter().enumerate();
        let others = cuts.map(|(number, process)| (process, Cut::numbered(number)));
        let mut serving = iter(replicas.chain(others))
            .map(|(process, cut)| async move {
                let request = cut.prepare(&process.home)?;
                let served = process.client.serve(&request).await;
                served.with_context(|| format!("{} cannot serve its table", process.nick))
            })
            .buffer_unordered(AT_ONCE);
        let mut done = 0;
        while let Some(served) = serving.next().await {
            served?;
            done += 1;
            progress.say(&format!("publishing tables: {done} of {}", self.serving()));
        }
        Ok(())
    }

    /// How many nodes serve a table.
    pub(super) fn serving(&self) -> usize {
        self.replicas.len() + self.others.len()
    }

    /// Every node.
    pub(super) fn all(&self) -> impl Iterator<Item = &Process> {
        self.replicas.iter().chain(&self.others).chain(&self.askers)
    }

    /// Ends every node and waits for its end, so that nothing writes to its home any more.
    pub(super) async fn stop(mut self) {
        let all = self.replicas.iter_mut().chain(&mut self.others).chain(&mut self.askers);
        // Those that are gone cannot be killed, which is as well.
        let _ = join_all(all.map(Process::kill)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_has_replicas_to_kill_and_an_asker_for_each_cold_measurement() {
        for nodes in [super::super::NODES_MIN, 12, 50, super::super::NODES_MAX].map(usize::from) {
            let parts = Parts::of(nodes);
            assert_eq!(parts.replicas + parts.others + parts.askers, nodes);
            assert!(parts.replicas >= REPLICAS_MIN && parts.others > 0 && parts.askers >= 3);
        }
        assert_eq!(Parts::of(50), Parts { replicas: 4, others: 8, askers: 38 });
    }
}
