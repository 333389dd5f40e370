//! The overlay's state machine under peers that say anything at any time: every command ends once, every request gets one
//! reply in its drain, everything keeps to its bounds, and what the machine tells the shell to persist is what it holds.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use comity_capability::keys::GroupKey;
use comity_core::{AgentId, Time};
use comity_fuzz::NOW;
use comity_fuzz::fake::{self, Fake, LABELS, PEERS, contact};
use comity_overlay::wire::{
    MESSAGE_BYTES_MAX, decode_request, decode_response, encode_request, encode_response,
};
use comity_overlay::{
    Action, COMMANDS_MAX, Command, CommandId, Config, CustodyChange, CustodyRow, Failure,
    ITEMS_PER_PUBLISHER_MAX, ItemKey, ItemKind, LOOKUPS_MAX, Overlay, PUBLISHED_MAX, PeerChange, PeerQuery,
    Publication, Query, QueryStep, REQUESTS_IN_FLIGHT_MAX, ReplyToken, RequestFrame, RequestId,
    SHARD_DIGESTS_MAX,
};
use libfuzzer_sys::fuzz_target;

/// Steps of one run.
const STEPS: usize = 256;
/// Commands of one run.
const COMMANDS: usize = 48;
/// Silence after which every command must have ended.
const PATIENCE: Duration = Duration::from_secs(900);
/// Timers that may fire in that time.
const TIMERS: usize = 50_000;

fuzz_target!(|data: &[u8]| {
    let mut u = Unstructured::new(data);
    let mut run = Run::new();
    // The end of the input ends the run like any other.
    let _ = run.steps(&mut u);
    run.settle();
});

struct Run {
    overlay: Overlay,
    now: Time,
    started: usize,
    commands: BTreeSet<CommandId>,
    sent: BTreeMap<RequestId, AgentId>,
    last_request: RequestId,
    last_token: u64,
    custody: BTreeMap<ItemKey, CustodyRow>,
    peers: BTreeSet<AgentId>,
}

fn config() -> Config {
    // Small enough to be filled, and shards to be split.
    Config { custody_bytes_max: 16 << 10, shard_digests: 4, ..Config::default() }
}

impl Run {
    fn new() -> Self {
        Self {
            overlay: Overlay::new(config(), contact(0), [7; 32], NOW),
            now: NOW,
            started: 0,
            commands: BTreeSet::new(),
            sent: BTreeMap::new(),
            last_request: RequestId(0),
            last_token: 0,
            custody: BTreeMap::new(),
            peers: BTreeSet::new(),
        }
    }

    fn minute(&self) -> u16 {
        u16::try_from(self.now.saturating_since(NOW).as_secs() / 60).unwrap_or(u16::MAX)
    }

    fn steps(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        for _ in 0..STEPS {
            if u.is_empty() {
                return Ok(());
            }
            match u.int_in_range(0..=15)? {
                0..=2 => self.command(u)?,
                3..=6 => self.request(u)?,
                7..=11 => self.response(u)?,
                12 => self.failed(u)?,
                13 => self.timeout(u)?,
                14 => {
                    self.now = self.now + Duration::from_millis(u.int_in_range(0..=2_000)?);
                    self.overlay.timeout(self.now);
                    self.drain(None);
                }
                _ if u.ratio(1, 4)? => self.restart(),
                _ => self.overlay.set_me(contact(0).addrs.clone(), u.ratio(3, 4)?),
            }
        }
        Ok(())
    }

    fn command(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        if self.started >= COMMANDS {
            return Ok(());
        }
        let minute = self.minute();
        let publications = |u: &mut Unstructured<'_>| {
            let publication = |u: &mut Unstructured<'_>| {
                let signer = if u.ratio(1, 16)? { None } else { Some(0) };
                let labels = LABELS
                    .iter()
                    .take(u.int_in_range(0..=3)?)
                    .map(|label| (*label).to_owned())
                    .collect();
                Ok(Publication { item: fake::item(u, signer, minute)?, labels })
            };
            (0..u.int_in_range(0..=4)?).map(|_| publication(u)).collect::<Result<Vec<_>>>()
        };
        let command = match u.int_in_range(0..=8)? {
            0 | 1 => Command::Join { seeds: fake::contacts(u)? },
            2 => Command::Publish { items: publications(u)? },
            3 => Command::Retire { tombstones: publications(u)? },
            4 => {
                let wanted = contact(u.choose_index(PEERS)?);
                Command::FindPeer(if u.arbitrary()? {
                    PeerQuery::Agent { agent: wanted.agent, overlay_id: wanted.overlay_id }
                } else {
                    PeerQuery::Prefix { prefix: fake::target(u)?, bits: u.int_in_range(0..=300)? }
                })
            }
            5 | 6 => {
                let step = |u: &mut Unstructured<'_>| {
                    let keys = (0..u.int_in_range(0..=3)?)
                        .map(|_| Ok(GroupKey::of(u.choose(&LABELS)?)))
                        .collect::<Result<_>>()?;
                    Ok(QueryStep { keys, complete: u.arbitrary()? })
                };
                Command::Query(Query {
                    steps: (0..u.int_in_range(0..=3)?).map(|_| step(u)).collect::<Result<_>>()?,
                    query: if u.ratio(1, 8)? { Vec::new() } else { vec![u.int_in_range(0..=4)?] },
                    want: u.int_in_range(0..=4)?,
                    limit: u.int_in_range(0..=64)?,
                    exclude: vec![contact(u.choose_index(PEERS)?).agent; u.int_in_range(0..=1)?],
                    fresh: u.arbitrary()?,
                    secret: None,
                })
            }
            7 => Command::Lookup { target: fake::target(u)? },
            _ => Command::Leave,
        };
        self.started += 1;
        let id = self.overlay.command(self.now, &mut Fake, command);
        assert!(self.commands.insert(id), "command ids are not used twice");
        self.drain(None);
        Ok(())
    }

    fn request(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let mut from = contact(u.int_in_range(1..=PEERS - 1)?).with_server(u.ratio(7, 8)?);
        if u.ratio(1, 8)? {
            from = from.with_addrs(Vec::new());
        }
        // Through the codec, as the network delivers it: what does not decode never reaches the machine.
        let request = fake::request(u, self.minute())?;
        let bytes = encode_request(&RequestFrame {
            server: from.server,
            addrs: from.addrs.clone(),
            request,
        });
        let Ok(frame) = decode_request(&bytes) else { return Ok(()) };
        self.last_token += 1;
        let token = ReplyToken(self.last_token);
        self.overlay.request(self.now, &mut Fake, &from, token, frame.request);
        self.drain(Some(token));
        Ok(())
    }

    fn response(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let Some((id, agent)) = self.some_request(u)? else { return Ok(()) };
        let from =
            if u.ratio(1, 16)? { contact(u.int_in_range(1..=PEERS - 1)?).agent } else { agent };
        let bytes = encode_response(&fake::response(u, self.minute())?);
        let Ok(response) = decode_response(&bytes, &mut Fake) else { return Ok(()) };
        if from == agent {
            self.sent.remove(&id);
        }
        self.overlay.response(self.now, &mut Fake, &from, id, response.clone());
        self.drain(None);
        if u.ratio(1, 8)? {
            self.overlay.response(self.now, &mut Fake, &from, id, response);
            self.drain(None);
        }
        Ok(())
    }

    fn failed(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let Some((id, _)) = self.some_request(u)? else { return Ok(()) };
        self.sent.remove(&id);
        let failure = *u.choose(&[
            Failure::Unreachable,
            Failure::WrongIdentity,
            Failure::Malformed,
            Failure::Closed,
            Failure::Local,
            Failure::Timeout,
        ])?;
        self.overlay.failed(self.now, id, failure);
        self.drain(None);
        Ok(())
    }

    /// A request that was sent, now and then one that never was.
    fn some_request(&self, u: &mut Unstructured<'_>) -> Result<Option<(RequestId, AgentId)>> {
        if u.ratio(1, 32)? {
            return Ok(Some((RequestId(u.arbitrary()?), contact(1).agent)));
        }
        if self.sent.is_empty() {
            return Ok(None);
        }
        let at = u.choose_index(self.sent.len())?;
        Ok(self.sent.iter().nth(at).map(|(id, agent)| (*id, *agent)))
    }

    /// The clock reaches the next timer, or passes some.
    fn timeout(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let Some((due, _)) = self.overlay.poll_timeout() else { return Ok(()) };
        self.now = self.now.max(due);
        if u.ratio(1, 8)? {
            self.now = self.now + Duration::from_secs(u.int_in_range(0..=8_000)?);
        }
        self.overlay.timeout(self.now);
        self.drain(None);
        Ok(())
    }

    /// The node stops and starts again with what was persisted.
    fn restart(&mut self) {
        let rows: Vec<_> = self.custody.clone().into_iter().collect();
        let peers = self.overlay.export_peers();
        assert!(peers.iter().map(|peer| peer.agent).eq_set(&self.peers));
        self.overlay = Overlay::new(config(), contact(0), [8; 32], self.now);
        self.commands.clear();
        self.sent.clear();
        self.peers.clear();
        self.last_request = RequestId(0);
        let given = rows.len();
        let kept = self.overlay.import_custody(self.now, &mut Fake, rows);
        self.overlay.import_peers(peers);
        self.drain(None);
        assert!(kept <= given && kept == self.overlay.custody().len());
    }

    /// Takes all actions in, then compares what was told with what is.
    fn drain(&mut self, mut asked: Option<ReplyToken>) {
        while let Some(action) = self.overlay.poll_action() {
            match action {
                Action::Send { to, id, request, .. } => {
                    assert!(id > self.last_request, "request ids are not used twice");
                    assert_ne!(to.agent, contact(0).agent, "the node talks to itself");
                    self.last_request = id;
                    self.sent.insert(id, to.agent);
                    let frame = RequestFrame { server: true, addrs: contact(0).addrs.clone(), request };
                    let bytes = encode_request(&frame);
                    assert!(bytes.len() <= MESSAGE_BYTES_MAX);
                    assert_eq!(decode_request(&bytes).ok(), Some(frame), "a peer can read it");
                }
                Action::Reply { token, response } => {
                    assert_eq!(asked.take(), Some(token), "one reply to what was just asked");
                    let bytes = encode_response(&response);
                    assert!(bytes.len() <= MESSAGE_BYTES_MAX);
                    assert_eq!(
                        decode_response(&bytes, &mut Fake).ok(),
                        Some(response),
                        "a peer can read it"
                    );
                }
                Action::Done { command, .. } => {
                    assert!(self.commands.remove(&command), "{command:?} ended twice")
                }
                Action::Custody(CustodyChange::Put { key, row }) => {
                    drop(self.custody.insert(key, row))
                }
                Action::Custody(CustodyChange::Remove { key }) => drop(self.custody.remove(&key)),
                Action::Peers(PeerChange::Added(contact)) => drop(self.peers.insert(contact.agent)),
                Action::Peers(PeerChange::Removed(agent)) => {
                    assert!(self.peers.remove(&agent), "removed without being there")
                }
                Action::Places(_) | Action::Renew(_) => {}
            }
        }
        assert_eq!(asked, None, "a request without a reply");
        self.check();
    }

    fn check(&self) {
        let stats = self.overlay.stats();
        assert!(
            stats.requests_in_flight <= REQUESTS_IN_FLIGHT_MAX
                && stats.lookups <= LOOKUPS_MAX
                && stats.commands <= COMMANDS_MAX
        );
        assert!(
            stats.published <= PUBLISHED_MAX && stats.custody_bytes <= config().custody_bytes_max
        );
        assert_eq!(
            stats.commands,
            self.commands.len(),
            "commands that run are those without an outcome"
        );
        let held: BTreeMap<_, _> = self.overlay.export_custody().collect();
        assert_eq!(held, self.custody, "what is to be persisted is what is held");
        assert!(self.overlay.export_peers().iter().map(|peer| peer.agent).eq_set(&self.peers));
        assert!(
            self.overlay
                .custody()
                .shards()
                .all(|(_, digests)| (1..=SHARD_DIGESTS_MAX).contains(&digests))
        );
        let mut publishers = BTreeMap::<AgentId, usize>::new();
        for key in held.keys() {
            // A beat is not counted.
            *publishers.entry(key.signer).or_default() += usize::from(key.kind != ItemKind::Beat);
        }
        assert!(publishers.values().all(|items| *items <= ITEMS_PER_PUBLISHER_MAX));
    }

    /// Nobody says anything any more: every command ends within [`PATIENCE`].
    fn settle(&mut self) {
        let end = self.now + PATIENCE;
        for _ in 0..TIMERS {
            if self.commands.is_empty() {
                return;
            }
            let (due, reason) =
                self.overlay.poll_timeout().expect("maintenance is always due some time");
            self.now = self.now.max(due);
            assert!(self.now <= end, "{:?} did not end", self.commands);
            self.overlay.timeout(self.now);
            self.drain(None);
            let next = self.overlay.poll_timeout().map(|(due, _)| due);
            assert!(next.is_none_or(|next| next > self.now), "{reason:?} is due again at once");
        }
        panic!("{:?} did not end in {TIMERS} timers", self.commands);
    }
}

/// Whether an iterator gives each element of a set once and nothing else.
trait EqSet<T> {
    fn eq_set(self, set: &BTreeSet<T>) -> bool;
}

impl<T: Ord, I: Iterator<Item = T>> EqSet<T> for I {
    fn eq_set(self, set: &BTreeSet<T>) -> bool {
        let mut count = 0;
        let all = self.inspect(|_| count += 1).collect::<BTreeSet<T>>() == *set;
        all && count == set.len()
    }
}
