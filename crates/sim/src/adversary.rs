//! Nodes that break the rules on purpose.
//!
//! An adversary runs the production machine like everyone and bends what goes in and out. It answers pings, so that it stays in
//! tables.

use std::fmt;

use comity_core::OverlayId;
use comity_overlay::wire::{CONTACTS_MAX, QueryOutcome, Request, Response, StoreOutcome};
use comity_overlay::{Contact, ItemBytes};

/// What an adversary does with a request.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Lets its machine answer.
    Pass,
    /// Says nothing.
    Drop,
    /// Says this instead.
    Answer(Response),
}

/// All adversaries of a simulation: they know each other.
#[derive(Clone, Debug, Default)]
pub struct Colluders(Vec<Contact>);

impl Colluders {
    /// These nodes.
    #[must_use]
    pub const fn new(contacts: Vec<Contact>) -> Self {
        Self(contacts)
    }

    /// The colluders nearest to `target`, nearest first, as many as fit an answer.
    #[must_use]
    pub fn nearest(&self, target: &OverlayId) -> Vec<Contact> {
        let mut all: Vec<_> =
            self.0.iter().map(|contact| (contact.overlay_id.distance(target), contact)).collect();
        all.sort_by_key(|(distance, _)| *distance);
        all.into_iter().take(CONTACTS_MAX).map(|(_, contact)| contact.clone()).collect()
    }
}

/// One node's misbehaviour.
pub trait Adversary: fmt::Debug {
    /// A request arrived.
    fn on_request(&mut self, colluders: &Colluders, from: &Contact, request: &Request) -> Verdict;

    /// What is sent instead of the machine's own answer to a request that passed; `None`: the answer as it is.
    fn on_response(&mut self, colluders: &Colluders, response: &Response) -> Option<Response> {
        let (_, _) = (colluders, response);
        None
    }
}

/// Answers pings and nothing else.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dropper;

impl Adversary for Dropper {
    fn on_request(
        &mut self,
        _colluders: &Colluders,
        _from: &Contact,
        request: &Request,
    ) -> Verdict {
        match request {
            Request::Ping | Request::Leaving => Verdict::Pass,
            Request::FindNode { .. }
            | Request::Store { .. }
            | Request::Query(_)
            | Request::FindPeer { .. } => Verdict::Drop,
        }
    }
}

/// Sends everyone to the colluders nearest to what they look for, says that it stored what it did not, and finds nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Misrouter;

impl Adversary for Misrouter {
    fn on_request(&mut self, colluders: &Colluders, _from: &Contact, request: &Request) -> Verdict {
        match request {
            Request::Ping | Request::Leaving => Verdict::Pass,
            Request::FindNode { target } => {
                Verdict::Answer(Response::Nodes { contacts: colluders.nearest(target) })
            }
            Request::Store { entries, .. } => Verdict::Answer(Response::Stored {
                outcomes: vec![StoreOutcome::Stored; entries.len()],
            }),
            Request::Query(query) => {
                let closer = colluders.nearest(&query.shard.position(query.placement));
                Verdict::Answer(Response::Found { answer: QueryOutcome::NotHeld, closer })
            }
            Request::FindPeer { target, .. } => Verdict::Answer(Response::Peer {
                records: Vec::new(),
                closer: colluders.nearest(target),
            }),
        }
    }
}

/// Keeps to the protocol, but falsifies one byte of every item it returns.
#[derive(Clone, Copy, Debug, Default)]
pub struct Forger;

impl Adversary for Forger {
    fn on_request(
        &mut self,
        _colluders: &Colluders,
        _from: &Contact,
        _request: &Request,
    ) -> Verdict {
        Verdict::Pass
    }

    fn on_response(&mut self, _colluders: &Colluders, response: &Response) -> Option<Response> {
        let mut forged = response.clone();
        match &mut forged {
            Response::Found { answer: QueryOutcome::Answered(answer), .. } => {
                for list in [&mut answer.matches, &mut answer.near, &mut answer.beats] {
                    list.iter_mut().for_each(falsify);
                }
            }
            Response::Peer { records, .. } => records.iter_mut().for_each(falsify),
            Response::Found { .. }
            | Response::Pong
            | Response::Nodes { .. }
            | Response::Stored { .. }
            | Response::Done
            | Response::Error(_) => {}
        }
        (forged != *response).then_some(forged)
    }
}

/// Changes a byte in the middle: of what is said, most of the time, or of the signature.
fn falsify(item: &mut ItemBytes) {
    let mut bytes = item.to_vec();
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
    *item = bytes.into();
}
