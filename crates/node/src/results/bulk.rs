//! Large answers: handed out in pieces, fetched in pieces from several holders at once, and read from their files.
//!
//! What is decided is decided by `comity_results::transfer`, what is verified by `comity_results::bulk`, what is on disk is [`shelf`](super::shelf)'s. A transfer
//! that breaks off - the call was given up, the holders are gone, the node was killed - leaves its pieces, and the next one asks for the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use comity_api::types::{
    CallEvent, CallSummary, Chunk, ErrorCode as ApiCode, ErrorInfo, LargeResults, Origin, Proof,
};
use comity_capability::record::GroupSecret;
use comity_core::receipt::SignedReceipt;
use comity_core::{AgentId, Hash, Time, canonical};
use comity_results::bulk::{Items, Large, Offer, Outline, PieceAsk, accept_offer};
use comity_results::key::IndexKey;
use comity_results::result::{Refusal, Rules};
use comity_results::store::{Entry, Limits, Store};
use comity_results::terms::Terms;
use comity_results::transfer::{Step, Transfer, WINDOW_MAX};
use futures_util::future::{AbortHandle, BoxFuture, abortable};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{Semaphore, mpsc};
use tracing::{debug, info, warn};

use super::shelf::{self, About, Arrived, Part, SHELF_BYTES_MAX, Shelf, Spilled};
use super::{Held, Outside, Results, locked};
use crate::groups::PrivateGroup;
use crate::node::Node;
use crate::rpc::{CallFailure, ErrorCode, NoPiece, Outgoing, Pace};

/// Pieces sent at a time, to all peers together: as many mebibytes of memory.
const SENDING_MAX: usize = 32;
/// Pieces sent to one peer at a time.
const SENDING_TO_PEER_MAX: usize = 2 * WINDOW_MAX;
/// Large answers that are fetched at a time.
const MOVING_MAX: usize = 4;

/// What a node has for large answers besides its [`Store`] of them.
#[derive(Debug)]
pub(crate) struct Bulk {
    /// None on a node without a home: it keeps no large answers.
    pub(super) shelf: Option<Arc<Shelf>>,
    pace: Arc<Pace>,
    sending: Arc<Sending>,
    /// Answers on their way here, by their hashes: two transfers never write to one file.
    moving: Mutex<BTreeMap<Hash, Weak<tokio::sync::Mutex<()>>>>,
    places: Semaphore,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    fetched: AtomicU64,
    resumed: AtomicU64,
    refused: AtomicU64,
    sent: AtomicU64,
}

/// Pieces being sent, by peer.
#[derive(Debug, Default)]
struct Sending(Mutex<BTreeMap<AgentId, usize>>);

/// One of them.
#[derive(Debug)]
struct Place {
    sending: Arc<Sending>,
    peer: AgentId,
}

impl Sending {
    fn take(self: &Arc<Self>, peer: AgentId) -> Option<Place> {
        let mut peers = locked(&self.0);
        let all: usize = peers.values().sum();
        let of_peer = peers.entry(peer).or_default();
        if all >= SENDING_MAX || *of_peer >= SENDING_TO_PEER_MAX {
            return None;
        }
        *of_peer += 1;
        Some(Place { sending: Arc::clone(self), peer })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut peers = locked(&self.sending.0);
        if let Some(count) = peers.get_mut(&self.peer) {
            *count = count.saturating_sub(1);
        }
        peers.retain(|_, count| *count > 0);
    }
}

impl Bulk {
    /// Opens the directory `dir`; `bytes_per_s`: how much of large answers leaves in a second.
    pub(crate) fn open(dir: Option<PathBuf>, bytes_per_s: Option<u64>) -> Self {
        let shelf = dir.and_then(|dir| {
            let opened = Shelf::open(dir.clone());
            opened
                .inspect_err(|error| {
                    warn!(dir = %dir.display(), %error, "large answers are not kept: their directory cannot be used");
                })
                .ok()
        });
        Self {
            shelf: shelf.map(Arc::new),
            pace: Arc::new(Pace::new(bytes_per_s)),
            sending: Arc::default(),
            moving: Mutex::default(),
            places: Semaphore::new(MOVING_MAX),
            counts: Counts::default(),
        }
    }

    pub(super) fn store(seed: u64) -> Store<Large> {
        Store::on_disk(Limits { bytes_max: SHELF_BYTES_MAX }, seed)
    }

    fn turn(&self, response: Hash) -> Arc<tokio::sync::Mutex<()>> {
        let mut moving = locked(&self.moving);
        if let Some(turn) = moving.get(&response).and_then(Weak::upgrade) {
            return turn;
        }
        moving.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::default();
        moving.insert(response, Arc::downgrade(&turn));
        turn
    }
}

fn count(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

/// A large answer that is to be kept.
#[derive(Debug)]
pub(super) struct LearnedLarge {
    pub(super) terms: Arc<Terms>,
    pub(super) request: Hash,
    pub(super) offer: Offer,
    pub(super) body: Arrived,
    pub(super) took: Duration,
    pub(super) outside: Option<Outside>,
}

/// Why a large answer is not kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotKept {
    #[error(transparent)]
    Refused(Refusal),
    #[error("its file cannot be kept: {0}")]
    Disk(std::io::Error),
    #[error("there is no room for it, or a newer one is kept")]
    Unkept,
}

/// Who is asked for pieces.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) agent: AgentId,
    pub(super) addrs: Vec<SocketAddr>,
}

/// Why a large answer did not get here.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotMoved {
    /// Another holder may say something better of it.
    #[error("what its holder says of it cannot be relied on")]
    Source,
    #[error(
        "{missing} pieces are missing, and nobody is left who sends them: those that came are kept"
    )]
    Holders { missing: usize },
    #[error("it cannot be written: {0}")]
    Disk(std::io::Error),
}

/// What came of asking for a piece.
#[derive(Debug)]
enum Said {
    Right,
    Wrong,
    Busy,
    NotHeld,
    Failed(String),
    Disk(std::io::Error),
}

/// What all asks of one transfer have in common.
struct Moving<'a> {
    key: IndexKey,
    response: Hash,
    outline: Arc<Outline>,
    part: Arc<Part>,
    secret: Option<&'a GroupSecret>,
}

impl Results {
    /// A piece of a kept answer, for a peer that knows its name and, if it is a group's, is a member.
    pub(crate) fn piece(
        &self,
        caller: AgentId,
        group: Option<&PrivateGroup>,
        body: &[u8],
    ) -> BoxFuture<'static, Result<Outgoing, CallFailure>> {
        let found = self.find_piece(caller, group, body);
        Box::pin(async move {
            let (path, large, piece, pace, place) = found?;
            let read = tokio::task::spawn_blocking(move || {
                shelf::read_unverified(&File::open(path)?, &large.outline, piece)
            });
            let bytes = match read.await {
                Ok(Ok(bytes)) => bytes.into(),
                Ok(Err(_)) | Err(_) => return Err(super::share::not_held()),
            };
            Ok(Outgoing { bytes, pace, place: Box::new(place) })
        })
    }

    fn find_piece(
        &self,
        caller: AgentId,
        group: Option<&PrivateGroup>,
        body: &[u8],
    ) -> Result<(PathBuf, Arc<Large>, u32, Arc<Pace>, Place), CallFailure> {
        let ask = PieceAsk::decode(body).map_err(|_| {
            CallFailure::new(ErrorCode::InvalidInput, "this is no question for a piece")
        })?;
        let found = self.shared_large(&ask.key, group);
        let large = found
            .map(|entry| entry.accepted)
            .filter(|large| large.response() == ask.response && ask.piece < large.outline.pieces());
        let (shelf, large) =
            self.bulk.shelf.as_ref().zip(large).ok_or_else(super::share::not_held)?;
        let place = self.bulk.sending.take(caller).ok_or_else(|| {
            let text = "too many pieces are on their way: ask again in a moment";
            CallFailure::new(ErrorCode::Busy, text)
        })?;
        count(&self.bulk.counts.sent, 1);
        Ok((shelf.body(&large), large, ask.piece, Arc::clone(&self.bulk.pace), place))
    }

    /// A large answer that a peer who knows its name may have.
    pub(super) fn shared_large(
        &self,
        key: &IndexKey,
        group: Option<&PrivateGroup>,
    ) -> Option<Entry<Large>> {
        let now = self.clock.now();
        let state = self.state();
        let question = state.named.get(key)?;
        let outside = state.held.get(question)?.outside.as_ref()?;
        if outside.group.is_some() && outside.group.as_deref() != group.map(PrivateGroup::name) {
            return None;
        }
        state.large.peek(question, now).cloned()
    }

    /// What is said of a large answer to a peer that asks for it by its name.
    pub(super) fn offer(&self, key: &IndexKey, group: Option<&PrivateGroup>) -> Option<Vec<u8>> {
        let entry = self.shared_large(key, group)?;
        let now = self.clock.now();
        let mut state = self.state();
        state.large.get(&entry.accepted.question, None, now)?;
        state.announcer.asked(entry.accepted.verified.receipt.capability, true, now);
        drop(state);
        Some(entry.accepted.offer().encode())
    }

    /// Keeps a large answer whose body is here. `asked`: how often it was asked for, as far as is known.
    pub(super) fn admit_large(
        &self,
        learned: LearnedLarge,
        asked: u32,
    ) -> Result<Arc<Large>, NotKept> {
        let Some(shelf) = &self.bulk.shelf else { return Err(NotKept::Unkept) };
        let now = self.clock.now();
        let LearnedLarge { terms, request, offer, body, took, outside } = learned;
        let (key, group) = match &outside {
            Some(outside) => (Some(outside.key), outside.group.clone()),
            None => (None, None),
        };
        let about = About::new(&offer, super::reuse::micros(took), key, group);
        let large = {
            let mut guard = self.state();
            let state = &mut *guard;
            let rules = Rules { retracted: Some(&state.retracted), ..Rules::default() };
            let large = accept_offer(&terms, &request, offer, &rules, &mut state.roots, now);
            state.announcer.asked(terms.descriptor, asked > 0, now);
            large.map_err(NotKept::Refused)?
        };
        shelf.place(&large, &about, body).map_err(NotKept::Disk)?;
        let path = shelf.body(&large);
        let kept = self.shelve(large, took, outside, now);
        if kept.is_none() {
            shelf::discard(&path);
        }
        self.clear_shelf();
        kept.ok_or(NotKept::Unkept)
    }

    /// Lists an answer whose file is in its place.
    fn shelve(
        &self,
        large: Large,
        took: Duration,
        outside: Option<Outside>,
        now: Time,
    ) -> Option<Arc<Large>> {
        let mut guard = self.state();
        let state = &mut *guard;
        let descriptor = large.verified.receipt.capability;
        let kept = state.large.admit(large, took, &state.retracted, now).ok()?;
        if let Some(outside) = &outside {
            state.named.insert(outside.key, kept.question);
        }
        state.held.insert(kept.question, Held { descriptor, request: None, outside });
        state.sweep(now);
        Some(kept)
    }

    /// Lists what is on the shelf.
    pub(super) fn load_shelf(&self) {
        let Some(shelf) = &self.bulk.shelf else { return };
        let now = self.clock.now();
        for (about, offer, path) in shelf.load() {
            if self.load_large(shelf, about, offer, now).is_none() {
                shelf::discard(&path);
            }
        }
        self.clear_shelf();
    }

    fn load_large(&self, shelf: &Shelf, about: About, offer: Offer, now: Time) -> Option<()> {
        let receipt = &offer.receipt.receipt;
        let terms = Terms::of_receipt(receipt);
        let request = receipt.request;
        let large = {
            let mut guard = self.state();
            let state = &mut *guard;
            let rules = Rules { retracted: Some(&state.retracted), ..Rules::default() };
            accept_offer(&terms, &request, offer, &rules, &mut state.roots, now).ok()?
        };
        shelf.body(&large).exists().then_some(())?;
        let outside = about.key.map(|key| Outside { key, group: about.group });
        self.shelve(large, Duration::from_micros(about.took_us), outside, now).map(drop)
    }

    /// Deletes the files of answers that the store has dropped.
    pub(super) fn clear_shelf(&self) {
        let Some(shelf) = &self.bulk.shelf else { return };
        let now = self.clock.now();
        let mut state = self.state();
        let gone = state.large.take_gone().into_iter().filter(|gone| {
            // The same answer may have come again.
            let kept = state.large.peek(&gone.question, now);
            kept.is_none_or(|kept| kept.accepted.response() != gone.response())
        });
        let gone: Vec<PathBuf> = gone.map(|gone| shelf.body(&gone)).collect();
        drop(state);
        let delete = move || gone.iter().for_each(|path| shelf::discard(path));
        // Large files take their time.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(delete)),
            Err(_) => delete(),
        }
    }

    /// Drops old unfinished transfers, and answers whose validity is over.
    pub(super) async fn sweep_shelf(&self) {
        let Some(shelf) = self.bulk.shelf.clone() else { return };
        let now = self.clock.now();
        let over: Vec<_> = {
            let state = self.state();
            let entries = state.large.iter().map(|entry| &entry.accepted);
            entries.filter(|large| large.valid_until <= now).map(|large| large.question).collect()
        };
        for question in over {
            self.state().large.drop_question(&question);
        }
        self.clear_shelf();
        let _bytes = tokio::task::spawn_blocking(move || shelf.sweep()).await;
    }

    pub(super) fn large(
        &self,
        question: &comity_results::key::QuestionKey,
        max_age: Option<Duration>,
    ) -> Option<Entry<Large>> {
        let found = self.state().large.get(question, max_age, self.clock.now());
        if found.is_none() {
            self.clear_shelf();
        }
        found
    }

    /// What the local API shows of them.
    pub(super) fn large_view(&self) -> LargeResults {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counts = &self.bulk.counts;
        LargeResults {
            bytes: self.state().large.bytes(),
            bytes_max: SHELF_BYTES_MAX as u64,
            pieces_fetched: read(&counts.fetched),
            pieces_resumed: read(&counts.resumed),
            pieces_refused: read(&counts.refused),
            pieces_sent: read(&counts.sent),
        }
    }
}

impl Node {
    /// Fetches the body of a large answer from those who hold it: at once from `source`, whose outline it is, and from the others as soon as they
    /// are known. Dropping the future breaks the transfer off.
    pub(super) async fn move_large(
        &self,
        outside: &Outside,
        large: &Large,
        source: Source,
        others: impl Future<Output = Vec<Source>> + Send,
    ) -> Result<Arc<Part>, NotMoved> {
        let bulk = &self.inner.results.bulk;
        let nobody = || NotMoved::Holders { missing: large.outline.pieces() as usize };
        let shelf = bulk.shelf.clone().ok_or_else(nobody)?;
        let _turn = bulk.turn(large.response()).lock_owned().await;
        let _place = bulk.places.acquire().await.map_err(|_| nobody())?;

        let (response, outline) = (large.response(), Arc::clone(&large.outline));
        let opened = tokio::task::spawn_blocking(move || {
            shelf.sweep();
            shelf.part(&response, &outline)
        });
        let opened = opened.await.map_err(|error| NotMoved::Disk(error.into()))?;
        let (part, there) = opened.map_err(NotMoved::Disk)?;
        if !there.is_empty() {
            info!(
                pieces = there.len(),
                of = large.outline.pieces(),
                "a transfer is taken up again"
            );
            count(&bulk.counts.resumed, there.len() as u64);
        }
        let group = outside.group.as_deref().and_then(|name| self.inner.groups.get(name).ok());
        let moving = Moving {
            key: outside.key,
            response,
            outline: Arc::clone(&large.outline),
            part: Arc::new(part),
            secret: group.as_ref().map(|group| group.secret()),
        };
        self.drive(&moving, source, others, &there).await?;
        moving.part.cut(&moving.outline).map_err(NotMoved::Disk)?;
        Ok(moving.part)
    }

    /// Carries out what the transfer decides, until it ends.
    async fn drive(
        &self,
        moving: &Moving<'_>,
        source: Source,
        others: impl Future<Output = Vec<Source>> + Send,
        there: &BTreeSet<u32>,
    ) -> Result<(), NotMoved> {
        let mut transfer = Transfer::new(moving.outline.pieces(), there, source.agent);
        let mut sources = vec![source];
        let (mut others, mut awaited) = (std::pin::pin!(others), true);
        let (mut under_way, mut handles) =
            (FuturesUnordered::new(), BTreeMap::<_, AbortHandle>::new());
        loop {
            match transfer.step(self.inner.clock.now()) {
                Step::Ask { holder, piece } => {
                    let known = sources.iter().find(|source| source.agent == holder);
                    let addrs = known.map(|source| source.addrs.clone()).unwrap_or_default();
                    let source = Source { agent: holder, addrs };
                    let (asked, handle) = abortable(self.one_piece(moving, source, piece));
                    handles.insert((holder, piece), handle);
                    under_way.push(async move { (holder, piece, asked.await) });
                }
                Step::Cancel { holder, piece } => {
                    if let Some(handle) = handles.remove(&(holder, piece)) {
                        handle.abort();
                    }
                }
                Step::Wait { until } => {
                    let pause = until.map(|until| until.saturating_since(self.inner.clock.now()));
                    tokio::select! {
                        biased;
                        Some((holder, piece, said)) = under_way.next() => {
                            // Nobody waits for what was aborted.
                            if let Ok(said) = said {
                                handles.remove(&(holder, piece));
                                self.piece_heard(&mut transfer, &holder, piece, said)?;
                            }
                        }
                        known = &mut others, if awaited => {
                            awaited = false;
                            join(&mut transfer, &mut sources, known);
                        }
                        () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
                        else => return Err(NotMoved::Holders { missing: transfer.missing() }),
                    }
                }
                Step::Done => return Ok(()),
                Step::Stuck if awaited => {
                    awaited = false;
                    join(&mut transfer, &mut sources, (&mut others).await);
                }
                Step::Stuck if transfer.is_settled() => {
                    return Err(NotMoved::Holders { missing: transfer.missing() });
                }
                Step::Stuck => return Err(NotMoved::Source),
            }
        }
    }

    /// Asks one holder for one piece, verifies it and writes it.
    async fn one_piece(&self, moving: &Moving<'_>, holder: Source, piece: u32) -> Said {
        let Source { agent, addrs } = holder;
        let ask = PieceAsk { key: moving.key, response: moving.response, piece };
        let length = moving.outline.len_of(piece);
        let sent = self.inner.rpc.piece(agent, &addrs, &ask, moving.secret, length).await;
        let bytes = match sent {
            Ok(bytes) => bytes,
            Err(NoPiece::Busy) => return Said::Busy,
            Err(NoPiece::NotHeld) => return Said::NotHeld,
            Err(NoPiece::Cut) => return Said::Wrong,
            Err(NoPiece::Failed(error)) => return Said::Failed(error.to_string()),
        };
        let (part, outline) = (Arc::clone(&moving.part), Arc::clone(&moving.outline));
        // On another thread, so that hashing and writing go on beside the receiving.
        match tokio::task::spawn_blocking(move || part.put(&outline, piece, &bytes)).await {
            Ok(Ok(true)) => Said::Right,
            Ok(Ok(false)) => Said::Wrong,
            Ok(Err(error)) => Said::Disk(error),
            Err(error) => Said::Disk(error.into()),
        }
    }

    fn piece_heard(
        &self,
        transfer: &mut Transfer,
        holder: &AgentId,
        piece: u32,
        said: Said,
    ) -> Result<(), NotMoved> {
        let (results, now) = (&self.inner.results, self.inner.clock.now());
        match said {
            Said::Right => {
                transfer.arrived(holder, piece);
                count(&results.bulk.counts.fetched, 1);
            }
            Said::Wrong => {
                debug!(holder = %holder.short(), piece, "a holder sent wrong bytes: it is avoided");
                count(&results.bulk.counts.refused, 1);
                transfer.wrong(holder, piece);
                results.disappointed(*holder);
            }
            Said::Busy => transfer.limited(holder, piece, now),
            Said::NotHeld => transfer.lost(holder),
            Said::Failed(error) => {
                debug!(holder = %holder.short(), piece, %error, "a piece did not come");
                if transfer.failed(holder, piece, now) {
                    results.disappointed(*holder);
                }
            }
            Said::Disk(error) => return Err(NotMoved::Disk(error)),
        }
        Ok(())
    }

    /// Keeps a large answer that came from its producer, and tells peers of it if that is worth it.
    pub(super) fn keep_large(
        &self,
        terms: Arc<Terms>,
        request: Hash,
        receipt: &SignedReceipt,
        spilled: Spilled,
        took: Duration,
        outside: Option<Outside>,
    ) -> Option<Arc<Large>> {
        let Spilled { file, outline } = spilled;
        let offer = Offer { receipt: receipt.clone(), outline };
        let body = Arrived::Spilled(file);
        let learned = LearnedLarge { terms, request, offer, body, took, outside };
        match self.inner.results.admit_large(learned, 0) {
            Ok(large) => {
                self.announce(large.question, 1);
                Some(large)
            }
            Err(why) => {
                debug!(%why, "a large answer is not kept for reuse");
                None
            }
        }
    }

    /// Gives out a large answer from its file, item by item; each piece is verified as it is read.
    pub(super) async fn hand_out_large(
        &self,
        large: &Arc<Large>,
        origin: Origin,
        events: &mpsc::Sender<CallEvent>,
        started: Instant,
    ) -> Result<CallSummary, ErrorInfo> {
        let (mut items, mut index) = (Items::new(), 0);
        for piece in 0..large.outline.pieces() {
            let Some(bytes) = self.own_piece(large, piece).await else {
                return Err(self.damaged(large));
            };
            items.push(&bytes);
            while let Some(item) = items.next_item().map_err(|error| malformed(&error))? {
                let value = canonical::to_json(item).map_err(|error| malformed(&error))?;
                let _gone = events.send(CallEvent::Chunk(Chunk { index, value })).await;
                index += 1;
            }
        }
        items.finish().map_err(|error| malformed(&error))?;
        let _gone = events.send(CallEvent::Receipt(Proof::from(&large.receipt))).await;
        let receipt = &large.verified.receipt;
        let elapsed_us = super::reuse::micros(started.elapsed());
        Ok(CallSummary {
            target: format!("{}/{}", self.name_of(&receipt.callee).address, receipt.name),
            streamed: index != 1,
            items: index,
            bytes: large.outline.size(),
            elapsed_us,
            attempt_us: elapsed_us,
            origin,
            voices: Vec::new(),
        })
    }

    async fn own_piece(&self, large: &Arc<Large>, piece: u32) -> Option<Vec<u8>> {
        let path = self.inner.results.bulk.shelf.as_ref()?.body(large);
        let outline = Arc::clone(&large.outline);
        let read = tokio::task::spawn_blocking(move || {
            shelf::read_piece(&File::open(path)?, &outline, piece)
        });
        read.await.ok()?.ok()?
    }

    /// The file of an answer is not what it was: it is not used any more.
    fn damaged(&self, large: &Large) -> ErrorInfo {
        let results = &self.inner.results;
        results.state().large.drop_question(&large.question);
        results.clear_shelf();
        let text = "the kept answer was damaged on disk and has been dropped";
        ErrorInfo::new(ApiCode::NotVerified, text).hint("ask again: it is fetched anew")
    }
}

/// Other holders take part from now on, as many as there is room for.
fn join(transfer: &mut Transfer, sources: &mut Vec<Source>, others: Vec<Source>) {
    sources.extend(others.into_iter().filter(|other| transfer.add(other.agent)));
}

fn malformed(error: &dyn std::error::Error) -> ErrorInfo {
    ErrorInfo::new(ApiCode::NotVerified, format!("an item of the answer is unreadable: {error}"))
}
