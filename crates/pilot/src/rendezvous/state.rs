//! What is known of a node, and what of it lasts.

use std::net::{IpAddr, SocketAddr};

use comity_core::Time;
use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Serialize};

use super::beacon::Place;
use super::{GONE, Rendezvous};
use crate::address::NodeId;
use crate::identity::{IdentityError, key_text, parse_key};

/// A trust request or the answer to one.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) from: NodeId,
    pub(super) why: String,
    pub(super) accept: bool,
    pub(super) at: Time,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) key: VerifyingKey,
    pub(super) hostname: Option<String>,
    pub(super) public: bool,
    pub(super) tags: Vec<String>,
    pub(super) endpoint: Option<SocketAddr>,
    pub(super) lan: Vec<SocketAddr>,
    /// The address it registered from.
    pub(super) source: Option<IpAddr>,
    /// When it last signed something.
    pub(super) seen: Time,
    /// It signed something, ever.
    pub(super) proven: bool,
    pub(super) signs_registration: bool,
    /// Time of its last request with a bound signature, microseconds since the UNIX epoch; 0 for none.
    pub(super) bound_time: u64,
    pub(super) requests: Vec<Waiting>,
    pub(super) answers: Vec<Waiting>,
    pub(super) place: Option<Place>,
}

impl Node {
    pub(super) const fn new(key: VerifyingKey, now: Time) -> Self {
        Self {
            key,
            hostname: None,
            public: false,
            tags: Vec::new(),
            endpoint: None,
            lan: Vec::new(),
            source: None,
            seen: now,
            proven: false,
            signs_registration: false,
            bound_time: 0,
            requests: Vec::new(),
            answers: Vec::new(),
            place: None,
        }
    }

    pub(super) fn is_present(&self, now: Time) -> bool {
        self.proven && now < self.seen + GONE
    }
}

#[derive(Serialize, Deserialize)]
struct File {
    next: NodeId,
    nodes: Vec<FileNode>,
    consents: Vec<(NodeId, NodeId)>,
}

#[derive(Serialize, Deserialize)]
struct FileNode {
    id: NodeId,
    key: String,
    #[serde(default)]
    hostname: Option<String>,
    #[serde(default)]
    public: bool,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    endpoint: Option<SocketAddr>,
    #[serde(default)]
    source: Option<IpAddr>,
    seen_secs: u64,
    proven: bool,
    signs_registration: bool,
    bound_time: u64,
}

/// Why a file is not what [`Rendezvous::to_file_text`] wrote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Not the JSON it should be.
    #[error("the rendezvous file cannot be read: {0}")]
    Json(String),
    /// A key.
    #[error("the rendezvous file has an unusable key for node {0}: {1}")]
    Key(NodeId, IdentityError),
}

impl Rendezvous {
    /// Numbers, keys, names and trust as JSON. Waiting requests and places do not last.
    #[must_use]
    pub fn to_file_text(&self) -> String {
        let nodes = self.nodes.iter().map(|(id, node)| FileNode {
            id: *id,
            key: key_text(&node.key),
            hostname: node.hostname.clone(),
            public: node.public,
            tags: node.tags.clone(),
            endpoint: node.endpoint,
            source: node.source,
            seen_secs: node.seen.as_secs(),
            proven: node.proven,
            signs_registration: node.signs_registration,
            bound_time: node.bound_time,
        });
        let file = File {
            next: self.next,
            nodes: nodes.collect(),
            consents: self.consents.iter().copied().collect(),
        };
        serde_json::to_string(&file).expect("texts and numbers are JSON")
    }

    /// Reads [`Rendezvous::to_file_text`].
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn from_file_text(text: &str, beacon: &str) -> Result<Self, StateError> {
        let file: File =
            serde_json::from_str(text).map_err(|json| StateError::Json(json.to_string()))?;
        let mut out = Self::new(beacon);
        out.next = file.next;
        for one in file.nodes {
            let key = parse_key(&one.key).map_err(|error| StateError::Key(one.id, error))?;
            let mut node = Node::new(key, Time::from_secs(one.seen_secs));
            if let Some(name) = &one.hostname {
                out.by_name.insert(name.clone(), one.id);
            }
            node.hostname = one.hostname;
            (node.public, node.tags) = (one.public, one.tags);
            (node.endpoint, node.source) = (one.endpoint, one.source);
            (node.proven, node.signs_registration) = (one.proven, one.signs_registration);
            node.bound_time = one.bound_time;
            out.by_key.insert(key.to_bytes(), one.id);
            out.next = out.next.max(one.id.saturating_add(1));
            out.nodes.insert(one.id, node);
        }
        out.consents = file.consents.into_iter().collect();
        Ok(out)
    }
}
