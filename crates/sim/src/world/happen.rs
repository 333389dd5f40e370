//! What happens next: messages arrive, nodes wake up, and what they want done is done.

use comity_core::Time;
use comity_overlay::{
    Action, CustodyChange, Errand, Outcome, Overlay, PeerChange, ReplyToken, Request, RequestId,
    Response,
};

use super::parcels::{Parcel, WAKE};
use super::{Completed, NodeIx, World, index, short};
use crate::adversary::Verdict;
use crate::check::Rule;

/// A request being answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker {
    token: ReplyToken,
    pub(super) from: NodeIx,
    pub(super) incarnation: u32,
    pub(super) id: RequestId,
    pub(super) errand: Errand,
}

impl World {
    /// Lets the next thing happen.
    pub fn step(&mut self) {
        let Some((at, what)) = self.queue.pop() else { return };
        self.now = self.now.max(at);
        self.counters.events += 1;
        if self.stalled.is_empty() || !self.hold(at, what) {
            self.happen(at, what);
        }
    }

    /// A message arrives, or a node's timer is due since `at`.
    pub(super) fn happen(&mut self, at: Time, what: u32) {
        if what >= WAKE {
            return self.wake(index(what - WAKE), at);
        }
        match self.parcels.take(what) {
            Parcel::Request { to, from, incarnation, id, request, errand } => {
                self.next_token += 1;
                let (token, from) = (ReplyToken(self.next_token), index(from));
                let asker = Asker { token, from, incarnation, id, errand };
                self.deliver_request(index(to), asker, request)
            }
            Parcel::Response { to, from, incarnation, id, response } => {
                self.deliver_response(index(to), index(from), incarnation, id, response)
            }
            Parcel::Failed { to, incarnation, id, failure } => {
                let (now, to) = (self.now, index(to));
                if let Some(overlay) = self.nodes[to].current(incarnation) {
                    overlay.failed(now, id, failure);
                    self.note(7, to, to, id.0, 0);
                    self.drain(to, None);
                }
            }
            Parcel::Free { .. } => {}
        }
    }

    fn wake(&mut self, ix: NodeIx, at: Time) {
        let now = self.now;
        let node = &mut self.nodes[ix];
        if node.wake != Some(at) {
            return;
        }
        node.wake = None;
        if let Some(overlay) = &mut node.overlay {
            overlay.timeout(now);
            self.note(8, ix, ix, 0, 0);
            self.drain(ix, None);
        }
    }

    fn deliver_request(&mut self, to: NodeIx, asker: Asker, request: Request) {
        let now = self.now;
        let asker_contact = self.nodes[asker.from].contact.clone();
        let node = &mut self.nodes[to];
        let Some(overlay) = &mut node.overlay else {
            self.counters.to_dead += 1;
            return;
        };
        if let Some(adversary) = &mut node.adversary {
            match adversary.on_request(&self.colluders, &asker_contact, &request) {
                Verdict::Pass => {}
                Verdict::Drop => {
                    self.counters.misbehaved += 1;
                    return;
                }
                Verdict::Answer(response) => {
                    self.counters.misbehaved += 1;
                    return self.send_response(to, asker, response);
                }
            }
        }
        overlay.request(now, &mut self.services, &asker_contact, asker.token, request);
        self.note(5, to, asker.from, asker.id.0, 0);
        self.drain(to, Some(asker));
    }

    fn deliver_response(
        &mut self,
        to: NodeIx,
        from: NodeIx,
        incarnation: u32,
        id: RequestId,
        response: Response,
    ) {
        let (now, agent) = (self.now, self.nodes[from].contact.agent);
        let shadow = self.settings.shadow;
        let node = &mut self.nodes[to];
        if shadow && !matches!(response, Response::Error(_)) && node.incarnation == incarnation {
            node.shadow_mut().answered.insert(agent);
        }
        let Some(overlay) = node.current(incarnation) else { return };
        overlay.response(now, &mut self.services, &agent, id, response);
        self.note(6, to, from, id.0, 0);
        self.drain(to, None);
    }

    /// Carries out everything a node wants done, and schedules its wake-up.
    pub(super) fn drain(&mut self, ix: NodeIx, asker: Option<Asker>) {
        let mut replies = 0;
        while let Some(action) =
            self.nodes[ix].overlay.as_deref_mut().and_then(Overlay::poll_action)
        {
            match action {
                Action::Send { to, id, request, errand } => {
                    self.send_request(ix, &to, id, request, errand)
                }
                Action::Reply { token, response } => {
                    match asker.filter(|asker| asker.token == token) {
                        Some(asker) => {
                            replies += 1;
                            let adversary = self.nodes[ix].adversary.as_mut();
                            let altered = adversary.and_then(|adversary| {
                                adversary.on_response(&self.colluders, &response)
                            });
                            self.counters.misbehaved += u64::from(altered.is_some());
                            self.send_response(ix, asker, altered.unwrap_or(response));
                        }
                        None => self.violations.add(
                            self.now,
                            Some(ix),
                            Rule::ReplyToNobody,
                            format!("{token:?}"),
                        ),
                    }
                }
                Action::Done { command, outcome } => match self.nodes[ix].open.remove(&command) {
                    Some(op) => {
                        self.note(9, ix, outcome_tag(&outcome), op.0, 0);
                        self.completed.push_back(Completed { op, node: ix, outcome });
                    }
                    None => self.violations.add(
                        self.now,
                        Some(ix),
                        Rule::DoneTwice,
                        format!("{command:?}: {outcome:?}"),
                    ),
                },
                Action::Custody(change) if self.settings.shadow => match change {
                    CustodyChange::Put { key, row } => {
                        drop(self.nodes[ix].shadow_mut().custody.insert(key, row))
                    }
                    CustodyChange::Remove { key } => {
                        drop(self.nodes[ix].shadow_mut().custody.remove(&key))
                    }
                },
                Action::Peers(change) if self.settings.shadow => match change {
                    PeerChange::Added(contact) => {
                        drop(self.nodes[ix].shadow_mut().peers.insert(contact.agent, contact))
                    }
                    PeerChange::Removed(agent) => {
                        drop(self.nodes[ix].shadow_mut().peers.remove(&agent))
                    }
                },
                Action::Custody(_) | Action::Peers(_) | Action::Places(_) => {}
                Action::Renew(key) => self.renewals.push_back((ix, key)),
            }
        }
        if asker.is_some() && replies != 1 {
            self.violations.add(
                self.now,
                Some(ix),
                Rule::OneReply,
                format!("{replies} replies to one request"),
            );
        }
        self.schedule_wake(ix);
    }

    pub(super) fn schedule_wake(&mut self, ix: NodeIx) {
        let now = self.now;
        let node = &mut self.nodes[ix];
        let Some((due, _)) = node.overlay.as_deref().and_then(Overlay::poll_timeout) else {
            return;
        };
        let due = due.max(now);
        if node.wake.is_none_or(|set| due < set) {
            node.wake = Some(due);
            self.queue.push(due, WAKE + short(ix));
        }
    }
}

const fn outcome_tag(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Joined(_) => 1,
        Outcome::Published(_) => 2,
        Outcome::Retired(_) => 3,
        Outcome::Peers(_) => 4,
        Outcome::Answers(_) => 5,
        Outcome::Closest(_) => 6,
        Outcome::Left => 7,
        Outcome::Failed(_) => 8,
    }
}
