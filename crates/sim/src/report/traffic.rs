//! What the messages of a run were.

use super::float;
use comity_overlay::Errand;
use comity_overlay::wire::{Request, Response};
use serde::{Deserialize, Serialize};

/// Messages of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// How many were sent.
    pub messages: u64,
    /// Their bytes, overhead included.
    pub bytes: u64,
}

/// A kind of messages, or what they were for, and how many there were.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrafficKind {
    /// Its name.
    pub kind: String,
    /// How many were sent.
    pub messages: u64,
    /// Bytes of them that a node sent in a second on average, transport overhead counted.
    pub bytes_per_second: f64,
}

const KINDS: [&str; 18] = [
    "ping",
    "find_node",
    "store",
    "query",
    "find_peer",
    "leaving",
    "report",
    "compare",
    "reconcile",
    "pong",
    "nodes",
    "stored",
    "found",
    "peer",
    "done",
    "differ",
    "reconciled",
    "error",
];

/// What was sent, by kind of message and by errand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    kinds: [Flow; KINDS.len()],
    errands: [Flow; Errand::ALL.len()],
}

impl Flow {
    const fn add(&mut self, bytes: u64) {
        self.messages += 1;
        self.bytes += bytes;
    }
}

impl Traffic {
    /// Counts a message; `kind` is what [`of_request`] or [`of_response`] says, and an answer is for what its request was for.
    pub const fn add(&mut self, kind: usize, errand: Errand, bytes: u64) {
        self.kinds[kind].add(bytes);
        self.errands[errand as usize].add(bytes);
    }

    /// What was sent since `before` by kind of message, by nodes that were up for `node_seconds` all together, the most bytes first.
    #[must_use]
    pub fn kinds_since(&self, before: &Self, node_seconds: f64) -> Vec<TrafficKind> {
        Self::since(KINDS, &self.kinds, &before.kinds, node_seconds)
    }

    /// The same by what it was for: requests and the answers to them.
    #[must_use]
    pub fn errands_since(&self, before: &Self, node_seconds: f64) -> Vec<TrafficKind> {
        let names = Errand::ALL.map(Errand::name);
        Self::since(names, &self.errands, &before.errands, node_seconds)
    }

    fn since<const N: usize>(
        names: [&str; N],
        now: &[Flow; N],
        before: &[Flow; N],
        node_seconds: f64,
    ) -> Vec<TrafficKind> {
        let mut kinds: Vec<_> = names
            .iter()
            .zip(now.iter().zip(before))
            .map(|(kind, (now, before))| TrafficKind {
                kind: (*kind).to_owned(),
                messages: now.messages - before.messages,
                bytes_per_second: float(now.bytes - before.bytes) / node_seconds.max(1e-6),
            })
            .filter(|kind| kind.messages > 0)
            .collect();
        kinds.sort_by(|a, b| b.bytes_per_second.total_cmp(&a.bytes_per_second));
        kinds
    }
}

/// The kind of a request.
#[must_use]
pub const fn of_request(request: &Request) -> usize {
    match request {
        Request::Ping => 0,
        Request::FindNode { .. } => 1,
        Request::Store { .. } => 2,
        Request::Query(_) => 3,
        Request::FindPeer { .. } => 4,
        Request::Leaving => 5,
        Request::Report(_) => 6,
        Request::Compare { .. } => 7,
        Request::Reconcile(_) => 8,
    }
}

/// The kind of a response.
#[must_use]
pub const fn of_response(response: &Response) -> usize {
    match response {
        Response::Pong => 9,
        Response::Nodes { .. } => 10,
        Response::Stored { .. } => 11,
        Response::Found { .. } => 12,
        Response::Peer { .. } => 13,
        Response::Done => 14,
        Response::Differ { .. } => 15,
        Response::Reconciled { .. } => 16,
        Response::Error(_) => 17,
    }
}
