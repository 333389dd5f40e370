//! Event stream (port 1002): the first event of a connection subscribes to its topic, every later one is published to the others.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf as _, BytesMut};

/// The topic that means every topic.
pub const ALL: &str = "*";
/// Bytes of a topic.
pub const TOPIC_BYTES_MAX: usize = 1024;
/// Bytes of an event's payload.
pub const PAYLOAD_BYTES_MAX: usize = 16 << 20;
/// Subscribers of one broker.
pub const SUBSCRIBERS_MAX: usize = 1024;

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What about.
    pub topic: String,
    /// What.
    pub payload: Vec<u8>,
}

/// Why a stream is no event stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// A topic over [`TOPIC_BYTES_MAX`], or not UTF-8.
    #[error("an event's topic is UTF-8 of at most {TOPIC_BYTES_MAX} bytes")]
    Topic,
    /// A payload over [`PAYLOAD_BYTES_MAX`].
    #[error("an event announces {0} bytes; {PAYLOAD_BYTES_MAX} are the most")]
    Long(u32),
}

impl Event {
    /// A subscription to `topic`, as the first event of a connection.
    #[must_use]
    pub fn subscription(topic: &str) -> Self {
        Self { topic: topic.to_owned(), payload: Vec::new() }
    }

    /// The wire form; a topic is cut at 65,535 bytes.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let length = u16::try_from(self.topic.len()).unwrap_or(u16::MAX);
        let mut out = length.to_be_bytes().to_vec();
        out.extend_from_slice(&self.topic.as_bytes()[..length.into()]);
        let size = u32::try_from(self.payload.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&size.to_be_bytes());
        out.extend_from_slice(&self.payload);
        out
    }
}

/// Cuts a stream into events. Holds at most one.
#[derive(Debug, Default)]
pub struct Reader {
    buffer: BytesMut,
}

impl Reader {
    /// Takes bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole event. To be asked until `None` after each [`Reader::push`].
    ///
    /// # Errors
    /// See [`EventError`]; the stream is of no more use then.
    pub fn next_event(&mut self) -> Result<Option<Event>, EventError> {
        let Some((length, rest)) = self.buffer.split_first_chunk::<2>() else { return Ok(None) };
        let topic_bytes = usize::from(u16::from_be_bytes(*length));
        if topic_bytes > TOPIC_BYTES_MAX {
            return Err(EventError::Topic);
        }
        let Some((topic, rest)) = rest.split_at_checked(topic_bytes) else { return Ok(None) };
        let Some((size, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let announced = u32::from_be_bytes(*size);
        let size = usize::try_from(announced).unwrap_or(usize::MAX);
        if size > PAYLOAD_BYTES_MAX {
            return Err(EventError::Long(announced));
        }
        if rest.len() < size {
            return Ok(None);
        }
        let topic = str::from_utf8(topic).map_err(|_utf8| EventError::Topic)?.to_owned();
        self.buffer.advance(2 + topic_bytes + 4);
        let payload = self.buffer.split_to(size).to_vec();
        Ok(Some(Event { topic, payload }))
    }
}

/// Who gets what: the state of a broker over the numbers of its connections.
#[derive(Debug, Default)]
pub struct Broker {
    topics: BTreeMap<u64, String>,
    by_topic: BTreeMap<String, BTreeSet<u64>>,
}

/// What an event of a connection means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was the first: subscribed.
    Subscribed,
    /// To be sent to these connections.
    Deliver(Vec<u64>),
    /// There are [`SUBSCRIBERS_MAX`] subscribers: close the connection.
    Full,
}

impl Broker {
    /// Takes an event of a connection.
    pub fn event(&mut self, connection: u64, event: &Event) -> Outcome {
        if self.topics.contains_key(&connection) {
            let mut to: BTreeSet<u64> = BTreeSet::new();
            for topic in [event.topic.as_str(), ALL] {
                to.extend(self.by_topic.get(topic).into_iter().flatten());
            }
            to.remove(&connection);
            return Outcome::Deliver(to.into_iter().collect());
        }
        if self.topics.len() >= SUBSCRIBERS_MAX {
            return Outcome::Full;
        }
        self.topics.insert(connection, event.topic.clone());
        self.by_topic.entry(event.topic.clone()).or_default().insert(connection);
        Outcome::Subscribed
    }

    /// Who gets an event that this node itself publishes.
    #[must_use]
    pub fn subscribers(&self, topic: &str) -> Vec<u64> {
        let mut to: BTreeSet<u64> = BTreeSet::new();
        for topic in [topic, ALL] {
            to.extend(self.by_topic.get(topic).into_iter().flatten());
        }
        to.into_iter().collect()
    }

    /// Connections that subscribed.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.topics.len()
    }

    /// A connection is gone.
    pub fn closed(&mut self, connection: u64) {
        let Some(topic) = self.topics.remove(&connection) else { return };
        if let Some(connections) = self.by_topic.get_mut(&topic) {
            connections.remove(&connection);
            if connections.is_empty() {
                self.by_topic.remove(&topic);
            }
        }
    }
}
