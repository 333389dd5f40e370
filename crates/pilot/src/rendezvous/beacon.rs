//! The beacon: tells endpoints, relays frames, has holes punched.

use std::net::SocketAddr;
use std::time::Duration;

use comity_core::Time;

use super::Rendezvous;
use crate::address::NodeId;
use crate::beacon::{Beacon, PunchGrant};
use crate::engine::Bucket;

/// A node that did not tell where it is for this long is not relayed to.
pub const PLACE_LIFE: Duration = Duration::from_secs(600);
/// Frames relayed for one node, in a second and at once.
pub const RELAYED_PER_SECOND: (u32, u32) = (4000, 8000);
/// Discoveries answered to one address, in a second and at once: an answer goes to whatever address the question claims to come from.
pub(super) const DISCOVERIES_PER_SOURCE: (u32, u32) = (20, 1024);
/// Holes punched for one node, in a second and at once.
const PUNCHES: (u32, u32) = (2, 16);
/// Datagrams that wait for the socket.
const OUT_MAX: usize = 4096;
/// Kind of [`Beacon::Notify`]: a handshake waits at the registry.
const NOTIFY_HANDSHAKE: u8 = 1;

/// Where frames for a node go.
#[derive(Debug)]
pub(super) struct Place {
    at: SocketAddr,
    seen: Time,
    /// It knows the newer messages.
    named: bool,
    frames: Bucket,
    punches: Bucket,
}

impl Rendezvous {
    /// Takes a datagram of the beacon's socket.
    pub fn datagram(&mut self, now: Time, from: SocketAddr, bytes: &[u8]) {
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        let taken = match Beacon::decode(bytes) {
            Ok(Beacon::Discover { node, .. }) => self.discover(now, from, node, false),
            Ok(Beacon::DiscoverNamed { node }) => self.discover(now, from, node, true),
            Ok(Beacon::PunchRequest { requester, target, grant }) => {
                self.punch_holes(now, from, requester, target, grant.as_ref())
            }
            Ok(Beacon::Relay { source, destination, frame }) => {
                self.relay(now, from, source, destination, frame)
            }
            Ok(
                Beacon::DiscoverReply(_)
                | Beacon::PunchCommand(_)
                | Beacon::Deliver { .. }
                | Beacon::Sync { .. }
                | Beacon::DeliverNamed { .. }
                | Beacon::Notify(_),
            )
            | Err(_) => false,
        };
        if !taken {
            self.status.refused += 1;
        }
    }

    /// The next datagram to be sent.
    pub fn poll_transmit(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.out.pop_front()
    }

    fn send(&mut self, to: SocketAddr, message: &Beacon<'_>) {
        if self.out.len() < OUT_MAX {
            self.out.push_back((to, message.to_vec()));
        }
    }

    /// Tells the asker where it is. Frames for the node go there only when the registry has the node at that endpoint: else anybody could
    /// draw them to itself by claiming the number.
    fn discover(&mut self, now: Time, from: SocketAddr, id: NodeId, named: bool) -> bool {
        if !self.discoveries.take(now, from.ip()) {
            return false;
        }
        self.send(from, &Beacon::DiscoverReply(from));
        let Some(node) = self.nodes.get_mut(&id) else { return id == 0 };
        if node.endpoint != Some(from) {
            return false;
        }
        match &mut node.place {
            Some(place) if place.at == from => {
                place.seen = now;
                place.named |= named;
            }
            place => {
                let frames = Bucket::new(now, RELAYED_PER_SECOND);
                let punches = Bucket::new(now, PUNCHES);
                *place = Some(Place { at: from, seen: now, named, frames, punches });
            }
        }
        if !node.requests.is_empty() || !node.answers.is_empty() {
            self.notify(id);
        }
        true
    }

    /// A node's place, when a datagram of it came from there.
    fn place_of(&mut self, now: Time, from: SocketAddr, id: NodeId) -> Option<&mut Place> {
        let place = self.nodes.get_mut(&id)?.place.as_mut()?;
        (place.at == from && now < place.seen + PLACE_LIFE).then_some(place)
    }

    fn relay(
        &mut self,
        now: Time,
        from: SocketAddr,
        source: NodeId,
        destination: NodeId,
        frame: &[u8],
    ) -> bool {
        if !self.place_of(now, from, source).is_some_and(|place| place.frames.take(now)) {
            return false;
        }
        let Some(place) = self.nodes.get(&destination).and_then(|node| node.place.as_ref()) else {
            return false;
        };
        if now >= place.seen + PLACE_LIFE {
            return false;
        }
        let message = if place.named {
            Beacon::DeliverNamed { source, destination, frame }
        } else {
            Beacon::Deliver { source, frame }
        };
        self.send(place.at, &message);
        self.status.relayed += 1;
        true
    }

    fn punch_holes(
        &mut self,
        now: Time,
        from: SocketAddr,
        requester: NodeId,
        target: NodeId,
        grant: Option<&PunchGrant>,
    ) -> bool {
        let granted = grant.is_some_and(|grant| self.is_granted(now, requester, target, grant));
        if !granted && !self.trust(requester, target) {
            return false;
        }
        if !self.place_of(now, from, requester).is_some_and(|place| place.punches.take(now)) {
            return false;
        }
        let Some(place) = self.nodes.get(&target).and_then(|node| node.place.as_ref()) else {
            return false;
        };
        let (at, fresh) = (place.at, now < place.seen + PLACE_LIFE);
        if fresh {
            self.send(at, &Beacon::PunchCommand(from));
            self.send(from, &Beacon::PunchCommand(at));
        }
        fresh
    }

    fn is_granted(&self, now: Time, requester: NodeId, target: NodeId, grant: &PunchGrant) -> bool {
        let text = PunchGrant::signed_text(requester, target, grant.expiry);
        let signature = ed25519_dalek::Signature::from_bytes(&grant.signature);
        now.as_secs() <= grant.expiry
            && self
                .nodes
                .get(&target)
                .is_some_and(|node| node.key.verify_strict(text.as_bytes(), &signature).is_ok())
    }

    /// Tells a node that knows the message that something waits for it.
    pub(super) fn notify(&mut self, id: NodeId) {
        let place = self.nodes.get(&id).and_then(|node| node.place.as_ref());
        if let Some(at) = place.filter(|place| place.named).map(|place| place.at) {
            self.send(at, &Beacon::Notify(NOTIFY_HANDSHAKE));
        }
    }
}
