//! Requests for access: those of others that wait for this agent's answer, and its own that wait for theirs.
//!
//! A request is text of a stranger: cut to [`MESSAGE_CHARS_MAX`] characters, without control characters, shown to people as data. It is taken in without a
//! word about whether there is such a capability, and dropped in the same words when there is no room, so that asking tells nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use comity_capability::record::MAX_NAME;
use comity_core::canonical::{self, Version};
use comity_core::{AgentId, Time};
use comity_overlay::IpPrefix;
use minicbor::bytes::ByteVec;

use super::AccessError;
use crate::storage::{Change, Storage, StorageError, Table};

/// Longest message of a request, in characters.
pub(crate) const MESSAGE_CHARS_MAX: usize = 280;
/// Requests of others that are kept, answered ones included.
pub(crate) const REQUESTS_MAX: usize = 256;
/// Of these, requests of one agent.
const REQUESTS_PER_AGENT_MAX: usize = 4;
/// Of these, requests from one network (an IPv4 /24 or IPv6 /48), where it is not a private one: keys cost nothing, addresses do.
const REQUESTS_PER_PREFIX_MAX: usize = 16;
/// How soon one agent may repeat a request; what comes sooner changes nothing.
const REPEAT_MIN: Duration = Duration::from_secs(60);
/// How long a request is kept.
const REQUEST_LIFE: Duration = Duration::from_secs(14 * 24 * 3600);
/// How long a request keeps its place when others want it.
const PLACE_MIN: Duration = Duration::from_secs(24 * 3600);
/// Own requests that are kept.
const ASKED_MAX: usize = 256;

/// Where a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
pub(crate) enum Stage {
    /// Nobody answered.
    #[n(0)]
    Waiting,
    /// Granted.
    #[n(1)]
    Approved,
    /// Denied.
    #[n(2)]
    Denied,
}

impl Stage {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Approved => "approved",
            Self::Denied => "denied",
        }
    }
}

/// Who asks whom (the other side), and for which capability; none for trust both ways.
pub(crate) type Subject = (AgentId, Option<String>);

/// One request.
#[derive(Clone, Debug, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub(crate) struct Request {
    #[n(0)]
    version: Version<1>,
    #[n(1)]
    pub(crate) message: String,
    #[cbor(n(2), with = "millis")]
    pub(crate) at: Time,
    #[n(3)]
    pub(crate) stage: Stage,
    /// The grant that answers it.
    #[n(4)]
    pub(crate) chain: Option<ByteVec>,
    /// The declaration of trust that answers it.
    #[n(5)]
    pub(crate) trust: Option<ByteVec>,
    /// The network that it came from; none for a private one.
    #[n(6)]
    source: Option<ByteVec>,
}

/// The network that a stranger's request comes from, as far as it is to be counted.
pub(crate) fn source_of(remote: Option<SocketAddr>) -> Option<IpPrefix> {
    let ip = remote?.ip().to_canonical();
    let shared = crate::builder::local_networks().iter().any(|network| network.covers(ip));
    (!shared && !ip.is_loopback()).then(|| IpPrefix::of(ip))
}

fn prefix_bytes(prefix: &IpPrefix) -> ByteVec {
    match prefix {
        IpPrefix::V4(octets) => octets.to_vec().into(),
        IpPrefix::V6(octets) => octets.to_vec().into(),
    }
}

impl Request {
    pub(crate) fn new(message: &str, at: Time) -> Self {
        let (chain, trust) = (None, None);
        let at = Time::from_millis(at.as_millis());
        Self {
            version: Version,
            message: cleaned(message),
            at,
            stage: Stage::Waiting,
            chain,
            trust,
            source: None,
        }
    }
}

/// A message without what terminals and readers could be fooled by, cut to its length.
pub(crate) fn cleaned(message: &str) -> String {
    // Controls, and characters that turn or hide text (Unicode bidi controls, zero-width and tags).
    let misleads = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
    };
    let text: String = message
        .chars()
        .map(|c| if misleads(c) { ' ' } else { c })
        .take(MESSAGE_CHARS_MAX)
        .collect();
    text.trim().to_owned()
}

/// Whether a text can be a capability's name.
pub(crate) fn is_name(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len())
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_'))
}

/// Requests of one direction, in memory and on disk.
#[derive(Debug)]
pub(crate) struct Requests {
    table: Table,
    rows: Mutex<BTreeMap<(AgentId, String), Request>>,
}

impl Requests {
    pub(crate) fn open(storage: &Storage, table: Table) -> Result<Self, AccessError> {
        let damaged = || AccessError::Damaged { what: "requests for access" };
        let mut rows = BTreeMap::new();
        for (key, value) in storage.read_all(table, REQUESTS_MAX.max(ASKED_MAX))? {
            let (agent, name) = key.split_first_chunk::<32>().ok_or_else(damaged)?;
            let agent = AgentId::from_bytes(agent).map_err(|_| damaged())?;
            let name = String::from_utf8(name.to_vec()).map_err(|_| damaged())?;
            let request = canonical::decode_minicbor(&value).map_err(|_| damaged())?;
            rows.insert((agent, name), request);
        }
        Ok(Self { table, rows: Mutex::new(rows) })
    }

    fn key(subject: &Subject) -> (AgentId, String) {
        (subject.0, subject.1.clone().unwrap_or_default())
    }

    pub(crate) fn get(&self, subject: &Subject) -> Option<Request> {
        self.lock().get(&Self::key(subject)).cloned()
    }

    /// All, the oldest first.
    pub(crate) fn all(&self) -> Vec<(Subject, Request)> {
        let rows = self.lock();
        let subject =
            |(agent, name): &(AgentId, String)| (*agent, (!name.is_empty()).then(|| name.clone()));
        let mut all: Vec<_> =
            rows.iter().map(|(key, request)| (subject(key), request.clone())).collect();
        all.sort_by_key(|(_, request)| request.at);
        all
    }

    /// Keeps or replaces one.
    pub(crate) async fn put(
        &self,
        subject: &Subject,
        request: Request,
        storage: &Storage,
    ) -> Result<(), StorageError> {
        let value = canonical::encode_minicbor(&request);
        let change = Change::Put { table: self.table, key: Self::bytes(subject), value };
        self.lock().insert(Self::key(subject), request);
        storage.commit(vec![change]).await
    }

    pub(crate) async fn remove(
        &self,
        subject: &Subject,
        storage: &Storage,
    ) -> Result<(), StorageError> {
        self.lock().remove(&Self::key(subject));
        let change = Change::Delete { table: self.table, key: Self::bytes(subject) };
        storage.commit(vec![change]).await
    }

    /// Takes a stranger's request in, if there is room for it. Returns whether it was.
    pub(crate) async fn hear(
        &self,
        subject: &Subject,
        message: &str,
        source: Option<IpPrefix>,
        now: Time,
        storage: &Storage,
    ) -> Result<bool, StorageError> {
        let Some(gone) = self.room_for(subject, source, now) else { return Ok(false) };
        for subject in gone {
            self.remove(&subject, storage).await?;
        }
        let source = source.as_ref().map(prefix_bytes);
        self.put(subject, Request { source, ..Request::new(message, now) }, storage).await?;
        Ok(true)
    }

    /// Whether a request would be taken in now: to be asked before it costs anything.
    pub(crate) fn has_room(&self, subject: &Subject, source: Option<IpPrefix>, now: Time) -> bool {
        self.room_for(subject, source, now).is_some()
    }

    /// What must go for the request to have room; none if it is to be dropped.
    fn room_for(
        &self,
        subject: &Subject,
        source: Option<IpPrefix>,
        now: Time,
    ) -> Option<Vec<Subject>> {
        let rows = self.lock();
        let subject_of =
            |(agent, name): &(AgentId, String)| (*agent, (!name.is_empty()).then(|| name.clone()));
        let age = |request: &Request| now.saturating_since(request.at);
        if let Some(known) = rows.get(&Self::key(subject)) {
            return (age(known) >= REPEAT_MIN).then(Vec::new);
        }
        let mut gone: Vec<Subject> = rows
            .iter()
            .filter(|(_, request)| age(request) > REQUEST_LIFE)
            .map(|(key, _)| subject_of(key))
            .collect();
        let of_agent = rows.keys().filter(|(agent, _)| *agent == subject.0).count();
        if of_agent >= REQUESTS_PER_AGENT_MAX {
            return None;
        }
        if let Some(source) = source.as_ref().map(prefix_bytes) {
            let live = rows.values().filter(|request| age(request) <= REQUEST_LIFE);
            let neighbours = live.filter(|request| request.source.as_ref() == Some(&source));
            if neighbours.count() >= REQUESTS_PER_PREFIX_MAX {
                return None;
            }
        }
        if rows.len() - gone.len() >= REQUESTS_MAX {
            let oldest = rows.iter().min_by_key(|(_, request)| request.at)?;
            // A flood of new keys does not push out what came today.
            if age(oldest.1) < PLACE_MIN {
                return None;
            }
            gone.push(subject_of(oldest.0));
        }
        Some(gone)
    }

    fn bytes(subject: &Subject) -> Vec<u8> {
        [subject.0.as_bytes(), subject.1.as_deref().unwrap_or_default().as_bytes()].concat()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<(AgentId, String), Request>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Times as whole milliseconds since the epoch.
mod millis {
    use comity_core::Time;
    use minicbor::decode::Error as DecodeError;
    use minicbor::encode::{Error as EncodeError, Write};
    use minicbor::{Decoder, Encoder};

    pub(super) fn encode<C, W: Write>(
        time: &Time,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        e.u64(time.as_millis())?.ok()
    }

    pub(super) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Time, DecodeError> {
        d.u64().map(Time::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use comity_core::Identity;

    use super::*;

    const NOW: Time = Time::from_secs(1_790_000_000);

    fn agent(n: u16) -> AgentId {
        let mut secret = [7; 32];
        secret[..2].copy_from_slice(&n.to_be_bytes());
        Identity::from_secret_bytes(&secret).id()
    }

    #[test]
    fn a_message_is_data() {
        let nasty = "\u{1b}[31mplease\r\n\u{202e}evil\u{200b}\0";
        assert_eq!(cleaned(nasty), "[31mplease   evil");
        assert_eq!(cleaned(&"é".repeat(1000)).chars().count(), MESSAGE_CHARS_MAX);
        assert_eq!(cleaned(" \n "), "");
    }

    #[tokio::test]
    async fn a_flood_takes_no_more_than_its_room_and_pushes_nobody_out() {
        let storage = Storage::in_memory().unwrap();
        let requests = Requests::open(&storage, Table::Requests).unwrap();
        let honest = (agent(60_000), Some("pay".to_owned()));
        assert!(requests.hear(&honest, "me", None, NOW, &storage).await.unwrap());
        assert!(!requests.hear(&honest, "again", None, NOW, &storage).await.unwrap(), "too soon");
        for n in 0..5 {
            let heard = requests
                .hear(&(agent(1), Some(format!("c{n}"))), "", None, NOW, &storage)
                .await
                .unwrap();
            assert_eq!(heard, n < 4, "request {n} of one agent");
        }
        for n in 2..600 {
            requests.hear(&(agent(n), None), "", None, NOW, &storage).await.unwrap();
        }
        assert_eq!(requests.all().len(), REQUESTS_MAX);
        assert_eq!(requests.get(&honest).unwrap().message, "me");
        let tomorrow = NOW + PLACE_MIN + Duration::from_secs(1);
        assert!(requests.hear(&(agent(700), None), "", None, tomorrow, &storage).await.unwrap());
        assert_eq!(requests.all().len(), REQUESTS_MAX);
        let again = Requests::open(&storage, Table::Requests).unwrap();
        assert_eq!(again.all().len(), REQUESTS_MAX, "they outlive the node");
    }

    #[tokio::test]
    async fn one_network_takes_no_more_than_its_share() {
        let storage = Storage::in_memory().unwrap();
        let requests = Requests::open(&storage, Table::Requests).unwrap();
        let from = |ip: &str| source_of(Some(SocketAddr::new(ip.parse().unwrap(), 9)));
        assert_eq!(from("10.1.2.3"), None, "a private network may share one prefix");
        assert_eq!(from("127.0.0.1"), None);
        assert_eq!(from("::ffff:203.0.113.9"), from("203.0.113.200"));
        let mut heard = 0;
        for n in 0..100 {
            let source = from(&format!("203.0.113.{n}"));
            let subject = (agent(n), None);
            heard += usize::from(requests.hear(&subject, "", source, NOW, &storage).await.unwrap());
        }
        assert_eq!(heard, REQUESTS_PER_PREFIX_MAX);
        let other = from("2001:db8:7::1");
        assert!(requests.hear(&(agent(200), None), "", other, NOW, &storage).await.unwrap());
        let again = Requests::open(&storage, Table::Requests).unwrap();
        let full = from("203.0.113.77");
        assert!(!again.has_room(&(agent(201), None), full, NOW), "it is remembered");
        let later = NOW + REQUEST_LIFE + Duration::from_secs(1);
        assert!(again.has_room(&(agent(201), None), full, later));
    }
}
