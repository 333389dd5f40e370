//! The task that drives the overlay: events in, actions out, on a thread of its own so that deriving places and
//! checking signatures never delays a call.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use comity_core::{AgentId, OverlayId};
use comity_overlay::wire;
use comity_overlay::{
    Action, Command, CommandError, CommandId, Contact, CustodyChange, Failure, ItemKey, JoinReport,
    LookupReport, Outcome, Overlay, PeerChange, PeerQuery, PeerReport, PlaceChange, Publication,
    PublishReport, QueryReport, ReplyToken, Request, RequestFrame, RequestId, Response, Stats,
};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::persist;
use super::positions::PositionCache;
use crate::clock::Clock;
use crate::storage::{Change, Storage};
use crate::transport::ReplyHandle;

/// Commands and questions that wait for the actor.
pub(crate) const INBOX_LEN: usize = 256;
/// Requests of other peers that wait for the actor; the transport refuses more.
pub(crate) const INCOMING_LEN: usize = 256;
/// Custody transactions under way; requests of peers wait, and then are refused, while the disk is behind.
const COMMITS_MAX: usize = 256;
/// Peers that left the table and are still remembered on disk; the longest gone is forgotten first.
const DEPARTED_MAX: usize = 256;
/// Answers handed to the actor before it looks at its other inputs again.
const ANSWERS_PER_TURN_MAX: usize = 64;
/// Turns in which answers are handed over before timers are looked at: enough for all requests that the overlay has in flight.
const ANSWER_TURNS_MAX: usize = comity_overlay::REQUESTS_IN_FLIGHT_MAX / ANSWERS_PER_TURN_MAX;

/// A request of another peer, already authenticated, and where its answer goes.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) peer: AgentId,
    pub(crate) request: Bytes,
    /// It came in early data, so anyone may have sent it again.
    pub(crate) early: bool,
    /// Dropping it tells the peer that there is no answer.
    pub(crate) reply: ReplyHandle,
}

/// Carries one request to a peer and its answer back. The transport in a node, anything else in tests.
pub(crate) trait Carrier: Send + Sync + 'static {
    /// Sends `frame`, which carries `request`, to `to` and returns the answer's bytes.
    fn exchange(
        &self,
        to: &Contact,
        request: &Request,
        frame: Vec<u8>,
    ) -> Pin<Box<dyn Future<Output = Result<Bytes, Failure>> + Send + 'static>>;

    /// Completes when what reached this node before has been passed on to the exchanges that wait for it, however far behind the network's
    /// thread is.
    fn flush(&self) -> Pin<Box<dyn Future<Output = ()> + Send + 'static>>;
}

/// What others ask of the actor.
pub(crate) enum Ask {
    /// Run a command; the outcome is sent when it is done.
    Command(Command, oneshot::Sender<Outcome>),
    /// Describe the overlay as it is now.
    Inspect(oneshot::Sender<Snapshot>),
}

/// Overlay messages since the start, requests and answers alike, as encoded: without framing, encryption and headers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages sent.
    pub messages_sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
    /// Messages received.
    pub messages_received: u64,
    /// Their bytes.
    pub bytes_received: u64,
}

impl Traffic {
    fn sent(&mut self, bytes: usize) {
        self.messages_sent += 1;
        self.bytes_sent += bytes as u64;
    }

    fn received(&mut self, bytes: usize) {
        self.messages_received += 1;
        self.bytes_received += bytes as u64;
    }
}

/// What the directory of a node did and holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// The overlay's own counters and sizes.
    pub overlay: Stats,
    /// Its messages.
    pub traffic: Traffic,
}

/// The overlay at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) stats: Stats,
    pub(crate) traffic: Traffic,
    pub(crate) peers: Vec<Contact>,
    pub(crate) groups: Vec<GroupHeld>,
}

/// One group this node keeps digests of.
#[derive(Debug, Clone)]
pub(crate) struct GroupHeld {
    pub(crate) group: comity_capability::keys::GroupKey,
    /// Its label, when a digest of it came here.
    pub(crate) label: Option<std::sync::Arc<str>>,
    pub(crate) shards: u32,
    pub(crate) digests: u32,
}

/// Everything the actor is given at birth.
pub(crate) struct Parts {
    pub(crate) overlay: Overlay,
    pub(crate) services: comity_overlay::directory::Directory<PositionCache>,
    pub(crate) clock: Clock,
    pub(crate) positions: PositionCache,
    pub(crate) carrier: Box<dyn Carrier>,
    pub(crate) storage: Storage,
    pub(crate) inbox: mpsc::Receiver<Ask>,
    pub(crate) incoming: mpsc::Receiver<Incoming>,
    /// Told which own items need a successor.
    pub(crate) renew: mpsc::Sender<ItemKey>,
    pub(crate) cancel: CancellationToken,
}

type Answered = (RequestId, AgentId, Result<Bytes, Failure>);

pub(crate) struct Actor {
    overlay: Overlay,
    services: comity_overlay::directory::Directory<PositionCache>,
    clock: Clock,
    positions: PositionCache,
    carrier: Box<dyn Carrier>,
    storage: Storage,
    renew: mpsc::Sender<ItemKey>,
    /// Commands whose outcome somebody waits for.
    waiting: BTreeMap<CommandId, oneshot::Sender<Outcome>>,
    /// Requests being answered in the current drain.
    replies: BTreeMap<ReplyToken, ReplyHandle>,
    next_token: u64,
    exchanges: JoinSet<Answered>,
    commits: JoinSet<()>,
    /// Peers that left the table, the longest gone first.
    departed: VecDeque<AgentId>,
    traffic: Traffic,
}

impl Actor {
    pub(crate) async fn run(parts: Parts) {
        let Parts {
            overlay,
            services,
            clock,
            positions,
            carrier,
            storage,
            inbox,
            incoming,
            renew,
            cancel,
        } = parts;
        let actor = Self {
            overlay,
            services,
            clock,
            positions,
            carrier,
            storage,
            renew,
            waiting: BTreeMap::new(),
            replies: BTreeMap::new(),
            next_token: 0,
            exchanges: JoinSet::new(),
            commits: JoinSet::new(),
            departed: VecDeque::new(),
            traffic: Traffic::default(),
        };
        actor.run_until_cancelled(inbox, incoming, cancel).await;
    }

    async fn run_until_cancelled(
        mut self,
        mut inbox: mpsc::Receiver<Ask>,
        mut incoming: mpsc::Receiver<Incoming>,
        cancel: CancellationToken,
    ) {
        // Set while timers are due that have to wait for answers on their way through this node.
        let mut flush = None;
        loop {
            let wake = self.sleep_until_due();
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                Some(answered) = self.exchanges.join_next() => self.handle_answers(answered),
                Some(ask) = inbox.recv() => self.handle_ask(ask),
                Some(request) = incoming.recv(), if self.commits.len() < COMMITS_MAX => {
                    self.handle_incoming(request);
                }
                Some(_) = self.commits.join_next() => {}
                () = wake, if flush.is_none() => flush = Some(self.carrier.flush()),
                () = done(&mut flush), if flush.is_some() => {
                    flush = None;
                    self.hand_over_answers().await;
                    self.overlay.timeout(self.clock.now());
                }
            }
            self.drain();
        }
        self.exchanges.abort_all();
        while self.commits.join_next().await.is_some() {}
    }

    /// Completes when the overlay wants to be woken.
    fn sleep_until_due(&self) -> impl Future<Output = ()> + use<> {
        let due = self.overlay.poll_timeout().map(|(at, _)| at.saturating_since(self.clock.now()));
        async move {
            match due {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Answers that are here are heard before requests are taken for lost. After a time without the processor both wait together, and the
    /// runtime looks at what is due before it lets exchanges read what they were sent.
    async fn hand_over_answers(&mut self) {
        for _ in 0..ANSWER_TURNS_MAX {
            tokio::task::yield_now().await;
            let Some(first) = self.exchanges.try_join_next() else { return };
            self.handle_answers(first);
        }
    }

    fn handle_answers(&mut self, first: Result<Answered, tokio::task::JoinError>) {
        let mut next = Some(first);
        let mut turns = 0;
        while let Some(answered) = next {
            if let Ok((id, peer, result)) = answered {
                self.handle_answer(id, &peer, result);
                self.drain();
            }
            turns += 1;
            next = if turns < ANSWERS_PER_TURN_MAX { self.exchanges.try_join_next() } else { None };
        }
    }

    fn handle_answer(&mut self, id: RequestId, peer: &AgentId, result: Result<Bytes, Failure>) {
        let decoded = result.and_then(|bytes| {
            self.traffic.received(bytes.len());
            wire::decode_response(&bytes, &mut self.services).map_err(|error| {
                debug!(peer = %peer.short(), %error, "an overlay answer does not parse");
                Failure::Malformed
            })
        });
        let now = self.clock.now();
        match decoded {
            Ok(response) => self.overlay.response(now, &mut self.services, peer, id, response),
            Err(failure) => self.overlay.failed(now, id, failure),
        }
    }

    fn handle_ask(&mut self, ask: Ask) {
        let now = self.clock.now();
        match ask {
            Ask::Command(command, done) => {
                let id = self.overlay.command(now, &mut self.services, command);
                self.waiting.insert(id, done);
            }
            Ask::Inspect(answer) => {
                // Whoever stopped waiting does not need the answer.
                let _gone = answer.send(self.snapshot());
            }
        }
    }

    fn handle_incoming(&mut self, incoming: Incoming) {
        let Incoming { peer, request, early, reply } = incoming;
        self.traffic.received(request.len());
        let RequestFrame { server, addrs, request } = match wire::decode_request(&request) {
            Ok(frame) => frame,
            Err(error) => {
                debug!(peer = %peer.short(), %error, "an overlay request does not parse");
                let answer = Response::Error(wire::ErrorCode::Invalid);
                self.traffic.sent(answer_now(reply, &answer));
                return;
            }
        };
        if early && matches!(request, Request::Store { .. } | Request::Leaving | Request::Report(_))
        {
            // Dropping the reply declines: the peer sends it again once the handshake is complete.
            debug!(peer = %peer.short(), "a request that changes custody came in early data");
            return;
        }
        let Some(overlay_id) = self.positions.get(&peer) else {
            debug!(peer = %peer.short(), "the key of a peer is not minted for this network");
            let answer = Response::Error(wire::ErrorCode::Invalid);
            self.traffic.sent(answer_now(reply, &answer));
            return;
        };
        let from = Contact::new(peer, overlay_id, addrs, server);
        let token = ReplyToken(self.next_token);
        self.next_token += 1;
        self.replies.insert(token, reply);
        self.overlay.request(self.clock.now(), &mut self.services, &from, token, request);
    }

    /// Carries out what the overlay decided. Answers leave only after the custody they acknowledge is on disk.
    fn drain(&mut self) {
        let mut changes = Vec::new();
        let mut answers = Vec::new();
        while let Some(action) = self.overlay.poll_action() {
            match action {
                Action::Send { to, id, request, .. } => self.send(to, id, request),
                Action::Reply { token, response } => {
                    if let Some(reply) = self.replies.remove(&token) {
                        let answer = Bytes::from(wire::encode_response(&response));
                        self.traffic.sent(answer.len());
                        answers.push((reply, answer));
                    }
                }
                Action::Done { command, outcome } => {
                    if let Some(done) = self.waiting.remove(&command) {
                        let _gone = done.send(outcome);
                    }
                }
                Action::Custody(CustodyChange::Put { key, row }) => {
                    changes.push(persist::put_custody(&key, &row));
                }
                Action::Custody(CustodyChange::Remove { key }) => {
                    changes.push(persist::remove_custody(&key));
                }
                Action::Peers(PeerChange::Added(contact)) => {
                    self.departed.retain(|agent| *agent != contact.agent);
                    changes.push(persist::put_peer(&contact, self.clock.now()));
                }
                // A peer that left the table is remembered all the same: after a cold start of everybody it is
                // where the network may come back.
                Action::Peers(PeerChange::Removed(agent)) => {
                    self.departed.push_back(agent);
                    if self.departed.len() > DEPARTED_MAX
                        && let Some(oldest) = self.departed.pop_front()
                    {
                        changes.push(persist::remove_peer(&oldest));
                    }
                }
                Action::Places(PlaceChange::Put(known)) => {
                    changes.push(persist::put_place(&known));
                }
                Action::Places(PlaceChange::Remove { position }) => {
                    changes.push(persist::remove_place(&position));
                }
                Action::Renew(key) => {
                    // When the publisher is behind, the overlay asks again next round.
                    let _full = self.renew.try_send(key);
                }
            }
        }
        self.commit_then_answer(changes, answers);
    }

    fn commit_then_answer(&mut self, changes: Vec<Change>, answers: Vec<(ReplyHandle, Bytes)>) {
        if changes.is_empty() {
            send_answers(answers);
            return;
        }
        let storage = self.storage.clone();
        self.commits.spawn(async move {
            match storage.commit(changes).await {
                Ok(()) => send_answers(answers),
                Err(error) => {
                    // Dropping the answers tells the askers that nothing was promised.
                    warn!(%error, "custody could not be stored");
                }
            }
        });
    }

    fn send(&mut self, to: Contact, id: RequestId, request: Request) {
        let me = self.overlay.me();
        let frame = RequestFrame { server: me.server, addrs: me.addrs.clone(), request };
        let bytes = wire::encode_request(&frame);
        self.traffic.sent(bytes.len());
        let exchange = self.carrier.exchange(&to, &frame.request, bytes);
        self.exchanges.spawn(async move { (id, to.agent, exchange.await) });
    }

    fn snapshot(&self) -> Snapshot {
        let mut groups: BTreeMap<_, GroupHeld> = BTreeMap::new();
        let custody = self.overlay.custody();
        for (shard, digests) in custody.shards() {
            let group = shard.group;
            let label = custody.label(&shard).cloned();
            let new = GroupHeld { group, label, shards: 0, digests: 0 };
            let held = groups.entry(group).or_insert(new);
            held.shards += 1;
            held.digests += u32::try_from(digests).unwrap_or(u32::MAX);
        }
        Snapshot {
            stats: self.overlay.stats(),
            traffic: self.traffic,
            peers: self.overlay.export_peers(),
            groups: groups.into_values().collect(),
        }
    }
}

/// Completes when the future does that is there.
async fn done(future: &mut Option<Pin<Box<dyn Future<Output = ()> + Send>>>) {
    if let Some(future) = future {
        future.await;
    }
}

fn send_answers(answers: Vec<(ReplyHandle, Bytes)>) {
    for (reply, answer) in answers {
        reply.send(answer);
    }
}

/// Answers at once; returns how long the answer is.
fn answer_now(reply: ReplyHandle, response: &Response) -> usize {
    let answer = wire::encode_response(response);
    let bytes = answer.len();
    reply.send(answer.into());
    bytes
}

/// The directory of a running node as the overlay has it: single commands and what they cost, for tools and measurements.
///
/// [`crate::Node`] does all of this by itself. An item published here is renewed by the overlay but not signed anew; a node that
/// serves capabilities publishes its own items under higher sequence numbers.
#[derive(Debug, Clone)]
pub struct Directory {
    asks: mpsc::Sender<Ask>,
}

impl Directory {
    pub(crate) const fn new(asks: mpsc::Sender<Ask>) -> Self {
        Self { asks }
    }

    /// Enters the network through `seeds`, or through remembered peers.
    ///
    /// # Errors
    /// [`CommandError`] says why the overlay did not carry it out; also when the node is shutting down.
    pub async fn join(&self, seeds: Vec<Contact>) -> Result<JoinReport, CommandError> {
        let outcome = self.run(Command::Join { seeds }).await;
        if let Outcome::Joined(report) = outcome { Ok(report) } else { Err(refusal(outcome)) }
    }

    /// Stores own items and keeps them stored.
    ///
    /// # Errors
    /// [`CommandError`] says why the overlay did not carry it out; also when the node is shutting down.
    pub async fn publish(&self, items: Vec<Publication>) -> Result<PublishReport, CommandError> {
        let outcome = self.run(Command::Publish { items }).await;
        if let Outcome::Published(report) = outcome { Ok(report) } else { Err(refusal(outcome)) }
    }

    /// Withdraws own digests.
    ///
    /// # Errors
    /// [`CommandError`] says why the overlay did not carry it out; also when the node is shutting down.
    pub async fn retire(
        &self,
        tombstones: Vec<Publication>,
    ) -> Result<PublishReport, CommandError> {
        let outcome = self.run(Command::Retire { tombstones }).await;
        if let Outcome::Retired(report) = outcome { Ok(report) } else { Err(refusal(outcome)) }
    }

    /// Finds peer records.
    ///
    /// # Errors
    /// [`CommandError`] says why the overlay did not carry it out; also when the node is shutting down.
    pub async fn find_peer(&self, query: PeerQuery) -> Result<PeerReport, CommandError> {
        let outcome = self.run(Command::FindPeer(query)).await;
        if let Outcome::Peers(report) = outcome { Ok(report) } else { Err(refusal(outcome)) }
    }

    /// Finds the nodes nearest to `target`.
    ///
    /// # Errors
    /// [`CommandError`] says why the overlay did not carry it out; also when the node is shutting down.
    pub async fn lookup(&self, target: OverlayId) -> Result<LookupReport, CommandError> {
        let outcome = self.run(Command::Lookup { target }).await;
        if let Outcome::Closest(report) = outcome { Ok(report) } else { Err(refusal(outcome)) }
    }

    /// Finds digests.
    ///
    /// # Errors
    /// [`CommandError`] says why the overlay did not carry it out; also when the node is shutting down.
    pub async fn query(&self, query: comity_overlay::Query) -> Result<QueryReport, CommandError> {
        let outcome = self.run(Command::Query(query)).await;
        if let Outcome::Answers(report) = outcome { Ok(report) } else { Err(refusal(outcome)) }
    }

    /// Tells the neighbours that this node goes.
    pub(crate) async fn leave(&self) {
        self.run(Command::Leave).await;
    }

    /// Runs `command` to its end. A directory that is shutting down answers with a failure.
    async fn run(&self, command: Command) -> Outcome {
        let (done, outcome) = oneshot::channel();
        let ended = || Outcome::Failed(CommandError::Invalid("the node is shutting down"));
        if self.asks.send(Ask::Command(command, done)).await.is_err() {
            return ended();
        }
        outcome.await.unwrap_or_else(|_| ended())
    }

    /// What the directory did and holds, `None` when the node is shutting down.
    pub async fn counters(&self) -> Option<Counters> {
        let Snapshot { stats, traffic, .. } = self.inspect().await?;
        Some(Counters { overlay: stats, traffic })
    }

    /// The overlay as it is now, `None` when the node is shutting down.
    pub(crate) async fn inspect(&self) -> Option<Snapshot> {
        let (answer, snapshot) = oneshot::channel();
        self.asks.send(Ask::Inspect(answer)).await.ok()?;
        snapshot.await.ok()
    }
}

/// Why a command did not end as it should.
fn refusal(outcome: Outcome) -> CommandError {
    match outcome {
        Outcome::Failed(error) => error,
        Outcome::Joined(_)
        | Outcome::Published(_)
        | Outcome::Retired(_)
        | Outcome::Peers(_)
        | Outcome::Answers(_)
        | Outcome::Closest(_)
        | Outcome::Left => CommandError::Invalid("the overlay ended another command in its place"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use comity_core::Identity;
    use comity_overlay::{Config, Positions};
    use tokio::sync::watch;

    use super::*;

    const PEERS: u8 = 12;

    /// All answers have reached the node, which has not got to them yet.
    struct Behind(watch::Sender<bool>);

    impl Carrier for Behind {
        fn exchange(
            &self,
            _: &Contact,
            _: &Request,
            _: Vec<u8>,
        ) -> Pin<Box<dyn Future<Output = Result<Bytes, Failure>> + Send + 'static>> {
            let mut passed_on = self.0.subscribe();
            Box::pin(async move {
                passed_on.wait_for(|passed_on| *passed_on).await.map_err(|_| Failure::Closed)?;
                let answer = Response::Nodes { contacts: Vec::new() };
                Ok(wire::encode_response(&answer).into())
            })
        }

        fn flush(&self) -> Pin<Box<dyn Future<Output = ()> + Send + 'static>> {
            self.0.send_replace(true);
            Box::pin(std::future::ready(()))
        }
    }

    #[tokio::test]
    async fn answers_that_are_here_are_heard_before_requests_are_lost() {
        let mut positions = PositionCache::new(0);
        let mut contact = |secret: u8| {
            let agent = Identity::from_secret_bytes(&[secret; 32]).id();
            let place = positions.position(&agent).unwrap();
            Contact::server(agent, place, vec!["127.0.0.1:7".parse().unwrap()])
        };
        let me = contact(1);
        let peers: Vec<_> = (2..2 + PEERS).map(&mut contact).collect();
        let clock = Clock::new(0);
        // Every request is due as soon as it is sent.
        let config = Config {
            soft_timeout_min: Duration::ZERO,
            hard_timeout: Duration::ZERO,
            hard_timeout_failing: Duration::ZERO,
            ..Config::default()
        };
        let mut overlay = Overlay::new(Arc::new(config), me, [1; 32], clock.now());
        overlay.preload_peers(clock.now(), peers);
        let (asks, inbox) = mpsc::channel(INBOX_LEN);
        let (_requests, incoming) = mpsc::channel(INCOMING_LEN);
        let cancel = CancellationToken::new();
        let parts = Parts {
            overlay,
            services: comity_overlay::directory::Directory::with_places(positions.clone()),
            clock,
            positions,
            carrier: Box::new(Behind(watch::Sender::new(false))),
            storage: Storage::in_memory().unwrap(),
            inbox,
            incoming,
            renew: mpsc::channel(1).0,
            cancel: cancel.clone(),
        };
        let actor = tokio::spawn(Actor::run(parts));
        let directory = Directory::new(asks);
        let found = directory.lookup(OverlayId([9; 32])).await.unwrap();
        assert_eq!((found.closest.len(), found.cost.failures), (usize::from(PEERS), 0));
        cancel.cancel();
        actor.await.unwrap();
    }
}
