//! Which links exist, which is preferred, and when they go.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use comity_core::AgentId;
use comity_trust::log::Event;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::dial::DialState;
use super::{CloseCode, ConnectError, Limits, Link, Protocol, Shared};
use crate::audit::Audit;

/// Two dials are simultaneous when the second link arrives within this time after the first: the longest a dial takes.
const SIMULTANEOUS_WITHIN: Duration = Duration::from_secs(10);
/// A retired link is left open this long after its last use, for a request of the peer that is still on the way.
const RETIRED_LINGER: Duration = Duration::from_secs(2);
/// Addresses remembered of one peer.
const HINT_ADDRS_MAX: usize = 4;

/// How many peers are linked and remembered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounts {
    /// Live links.
    pub live: usize,
    /// Peers whose addresses are remembered, linked or not.
    pub known: usize,
    /// Links parked by this node so far.
    pub parked_total: u64,
    /// Links evicted by this node so far.
    pub evicted_total: u64,
    /// Links established so far, by either side.
    pub established_total: u64,
    /// Links this node established with early data that the peer took.
    pub early_total: u64,
}

/// What links carried on the wire: UDP payloads, with handshakes, acknowledgements and retransmissions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkTraffic {
    /// Datagrams sent.
    pub datagrams_sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
    /// Datagrams received.
    pub datagrams_received: u64,
    /// Their bytes.
    pub bytes_received: u64,
}

impl LinkTraffic {
    fn add(&mut self, link: &Link) {
        let stats = link.conn.stats();
        self.datagrams_sent += stats.udp_tx.datagrams;
        self.bytes_sent += stats.udp_tx.bytes;
        self.datagrams_received += stats.udp_rx.datagrams;
        self.bytes_received += stats.udp_rx.bytes;
    }
}

/// What the transport knows about its peers. All maps are bounded by [`Limits`].
#[derive(Debug, Default)]
pub(crate) struct Table {
    audit: Audit,
    /// By peer and protocol; the first is preferred, the others are retired.
    links: HashMap<(AgentId, Protocol), Vec<Arc<Link>>>,
    live: usize,
    pub(super) dials: HashMap<(AgentId, Protocol), watch::Receiver<DialState>>,
    failures: HashMap<(AgentId, Protocol), Failure>,
    hints: HashMap<AgentId, Hint>,
    pub(super) warm: BTreeSet<AgentId>,
    totals: LinkCounts,
    /// What links carried that are gone.
    carried: BTreeMap<Protocol, LinkTraffic>,
}

fn log_closed(audit: &Audit, link: &Link) {
    if link.protocol == Protocol::Rpc {
        audit.note(Event::SessionClosed { session: link.session, peer: link.peer.into() });
    }
}

#[derive(Debug)]
struct Failure {
    error: ConnectError,
    addrs: Vec<SocketAddr>,
    until: Instant,
    pause: Duration,
}

#[derive(Debug)]
struct Hint {
    addrs: Vec<SocketAddr>,
    at: Instant,
}

impl Table {
    pub(super) fn new(audit: Audit) -> Self {
        Self { audit, ..Self::default() }
    }

    /// The link to use for new work, if one is live.
    pub(crate) fn preferred(&self, peer: AgentId, protocol: Protocol) -> Option<Arc<Link>> {
        self.links.get(&(peer, protocol))?.iter().find(|link| link.is_open()).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Link>> {
        self.links.values().flatten().cloned().collect()
    }

    /// Enters a new link, deciding which link to its peer is preferred from now on.
    pub(super) fn adopt(&mut self, link: Arc<Link>, limits: &Limits) -> Result<(), ConnectError> {
        if self.live >= limits.links_max && !self.evict_idlest() {
            link.close(CloseCode::TooManyLinks);
            return Err(ConnectError::TooManyLinks { limit: limits.links_max });
        }
        self.live += 1;
        self.log_opened(&link);
        self.totals.established_total += 1;
        self.failures.remove(&(link.peer, link.protocol));
        if link.initiator == link.peer {
            self.close_outdated(&link);
        }
        let siblings = self.links.entry((link.peer, link.protocol)).or_default();
        let incumbent_stays = siblings.first().is_some_and(|incumbent| stays(incumbent, &link));
        siblings.insert(usize::from(incumbent_stays), link);
        for (position, sibling) in siblings.iter().enumerate() {
            sibling.retired.store(position > 0, Ordering::Release);
        }
        while siblings.len() > limits.links_per_peer_max.max(1) {
            if let Some(excess) = siblings.pop() {
                excess.close(CloseCode::Replaced);
                log_closed(&self.audit, &excess);
                self.carried.entry(excess.protocol).or_default().add(&excess);
                self.live -= 1;
            }
        }
        Ok(())
    }

    /// A peer that dials although it has a link, or from another address, was most likely started anew: what it had before is dead,
    /// and packets would follow it to where nobody listens any more. Closing what is idle costs a handshake at most.
    fn close_outdated(&mut self, newcomer: &Link) {
        let mut before = self.links_to(newcomer.peer);
        before
            .retain(|link| link.protocol != newcomer.protocol || !is_simultaneous(link, newcomer));
        let dialled_again =
            before.iter().any(|link| link.protocol == newcomer.protocol && link.is_open());
        for link in before {
            let moved =
                matches!((link.remote, newcomer.remote), (Some(then), Some(now)) if then != now);
            if (dialled_again || moved) && !link.is_busy() {
                self.replace(&link);
            }
        }
    }

    /// All links to `peer`.
    pub(super) fn links_to(&self, peer: AgentId) -> Vec<Arc<Link>> {
        [Protocol::Rpc, Protocol::Overlay]
            .iter()
            .filter_map(|protocol| self.links.get(&(peer, *protocol)))
            .flatten()
            .cloned()
            .collect()
    }

    /// Closes a link that is in the way of a better one.
    pub(super) fn replace(&mut self, link: &Arc<Link>) {
        link.close(CloseCode::Replaced);
        self.forget(link);
    }

    /// Removes a link that is closed.
    pub(super) fn forget(&mut self, link: &Arc<Link>) {
        let key = (link.peer, link.protocol);
        let Some(siblings) = self.links.get_mut(&key) else { return };
        let before = siblings.len();
        siblings.retain(|other| !Arc::ptr_eq(other, link));
        if siblings.len() < before {
            log_closed(&self.audit, link);
            self.carried.entry(link.protocol).or_default().add(link);
        }
        self.live -= before - siblings.len();
        if siblings.is_empty() {
            self.links.remove(&key);
        } else {
            siblings[0].retired.store(false, Ordering::Release);
        }
    }

    /// Sessions of the call protocol are logged; those of the directory are made by the hundred and carry nothing that anybody answers for.
    fn log_opened(&self, link: &Link) {
        if link.protocol == Protocol::Rpc {
            let incoming = link.initiator == link.peer;
            let (session, peer) = (link.session, link.peer.into());
            self.audit.note(Event::SessionOpened { session, peer, incoming });
        }
    }

    fn evict_idlest(&mut self) -> bool {
        let warm = &self.warm;
        let idlest = self
            .links
            .values()
            .flatten()
            .filter(|link| !link.is_busy() && !is_warm(warm, link))
            .max_by_key(|link| link.idle_for())
            .cloned();
        let Some(idlest) = idlest else { return false };
        idlest.close(CloseCode::Evicted);
        self.totals.evicted_total += 1;
        self.forget(&idlest);
        true
    }

    /// Parks what is idle and ends what is retired.
    fn sweep(&mut self, limits: &Limits) {
        let mut over = Vec::new();
        for link in self.links.values().flatten() {
            let retired = link.retired.load(Ordering::Acquire);
            let patience =
                if retired { RETIRED_LINGER.min(limits.park_after) } else { limits.park_after };
            if !link.is_open() {
                over.push((Arc::clone(link), None));
            } else if !link.is_busy()
                && link.idle_for() >= patience
                && (retired || !is_warm(&self.warm, link))
            {
                over.push((
                    Arc::clone(link),
                    Some(if retired { CloseCode::Replaced } else { CloseCode::Parked }),
                ));
            }
        }
        for (link, code) in over {
            if let Some(code) = code {
                link.close(code);
                self.totals.parked_total += u64::from(code == CloseCode::Parked);
            }
            self.forget(&link);
        }
        let now = Instant::now();
        self.failures.retain(|_, failure| now < failure.until + failure.pause);
    }

    /// Remembers where a peer was reached.
    pub(super) fn remember(
        &mut self,
        peer: AgentId,
        addrs: impl IntoIterator<Item = SocketAddr>,
        limits: &Limits,
    ) {
        let mut addrs: Vec<_> = addrs.into_iter().collect();
        if addrs.is_empty() {
            return;
        }
        if self.hints.len() >= limits.path_hints_max && !self.hints.contains_key(&peer) {
            let oldest = self.hints.iter().min_by_key(|(_, hint)| hint.at).map(|(peer, _)| *peer);
            if let Some(oldest) = oldest {
                self.hints.remove(&oldest);
            }
        }
        let hint = self
            .hints
            .entry(peer)
            .or_insert_with(|| Hint { addrs: Vec::new(), at: Instant::now() });
        for known in &hint.addrs {
            if !addrs.contains(known) {
                addrs.push(*known);
            }
        }
        addrs.truncate(HINT_ADDRS_MAX);
        *hint = Hint { addrs, at: Instant::now() };
    }

    /// The addresses given and the ones remembered, without repetition.
    pub(super) fn addrs_of(
        &self,
        peer: AgentId,
        given: &[SocketAddr],
        limit: usize,
    ) -> Vec<SocketAddr> {
        let mut addrs: Vec<SocketAddr> = Vec::new();
        let remembered = self.hints.get(&peer).map_or(&[][..], |hint| &hint.addrs);
        for addr in given.iter().chain(remembered) {
            if !addrs.contains(addr) && addrs.len() < limit {
                addrs.push(*addr);
            }
        }
        addrs
    }

    /// The last failure, while it is too early to try the same addresses again.
    pub(super) fn cooling(
        &self,
        peer: AgentId,
        protocol: Protocol,
        addrs: &[SocketAddr],
    ) -> Option<ConnectError> {
        let failure = self.failures.get(&(peer, protocol))?;
        let same = addrs.iter().all(|addr| failure.addrs.contains(addr));
        (same && Instant::now() < failure.until).then(|| failure.error.clone())
    }

    pub(super) fn failed(
        &mut self,
        peer: AgentId,
        protocol: Protocol,
        addrs: Vec<SocketAddr>,
        error: ConnectError,
        limits: &Limits,
    ) {
        let key = (peer, protocol);
        if self.failures.len() >= limits.path_hints_max && !self.failures.contains_key(&key) {
            return;
        }
        let pause = self.failures.get(&key).map_or(limits.redial_backoff_min, |failure| {
            (failure.pause * 2).min(limits.redial_backoff_max)
        });
        self.failures.insert(key, Failure { error, addrs, until: Instant::now() + pause, pause });
    }

    pub(super) fn early_data_taken(&mut self) {
        self.totals.early_total += 1;
    }

    /// What the links of a protocol carried, those that are gone included.
    pub(super) fn traffic(&self, protocol: Protocol) -> LinkTraffic {
        let mut traffic = self.carried.get(&protocol).copied().unwrap_or_default();
        let live = self.links.values().flatten().filter(|link| link.protocol == protocol);
        live.for_each(|link| traffic.add(link));
        traffic
    }

    fn counts(&self) -> LinkCounts {
        LinkCounts { live: self.live, known: self.hints.len(), ..self.totals }
    }
}

/// Whether `incumbent` stays preferred when `newcomer` arrives: only if the two were dialled at the same time by the two ends, and
/// its initiator has the smaller id. Both ends see the same two initiators, so both decide alike.
fn stays(incumbent: &Link, newcomer: &Link) -> bool {
    is_simultaneous(incumbent, newcomer) && incumbent.initiator < newcomer.initiator
}

/// Whether the two ends dialled each other at the same time.
fn is_simultaneous(incumbent: &Link, newcomer: &Link) -> bool {
    incumbent.is_open()
        && incumbent.initiator != newcomer.initiator
        && incumbent.established.elapsed() < SIMULTANEOUS_WITHIN
}

fn is_warm(warm: &BTreeSet<AgentId>, link: &Link) -> bool {
    link.protocol == Protocol::Overlay && warm.contains(&link.peer)
}

impl Shared {
    /// Tells the followers of the counts; to be called after the table changed.
    pub(super) fn publish_counts(&self) {
        let counts = self.table().counts();
        self.counts.send_if_modified(|shown| std::mem::replace(shown, counts) != counts);
    }
}

/// Sweeps at intervals until the transport closes.
pub(super) async fn sweep(shared: Weak<Shared>, closing: CancellationToken, interval: Duration) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while closing.run_until_cancelled(ticks.tick()).await.is_some() {
        let Some(shared) = shared.upgrade() else { return };
        shared.table().sweep(&shared.limits);
        shared.publish_counts();
    }
}
