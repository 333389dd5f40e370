//! What is neither stream nor exchange: beacon messages, frames and packets on their way in, control packets, datagrams.

use std::net::SocketAddr;
use std::time::Duration;

use comity_core::Time;

use super::{Action, Engine};
use crate::address::{Address, BROADCAST_NODE, NodeId, SocketAddress};
use crate::beacon::Beacon;
use crate::frame::{Frame, PUNCH, Sealed};
use crate::packet::{Flags, Header, Packet, Protocol};
use crate::session::{Opened, Path};
use crate::stream::Segment;

/// Pings that wait for an answer.
const PINGS_MAX: usize = 1024;
/// A ping is given up after this.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// What a ping carries, so that a probe of Pilot's own kind is never mistaken for one.
const PING_PAYLOAD: &[u8] = b"comity.ping";

impl Engine {
    /// A beacon message. Only the beacon configured is listened to; it is not authenticated, and nothing it says is believed beyond where
    /// to send a frame.
    pub(super) fn receive_beacon(&mut self, now: Time, from: SocketAddr, datagram: &[u8]) {
        if self.config.beacon != Some(from) {
            self.dropped.limited += 1;
            return;
        }
        match Beacon::decode(datagram) {
            Ok(Beacon::DiscoverReply(at)) => self.act(Action::Endpoint(at)),
            Ok(Beacon::PunchCommand(at)) => {
                if self.strangers.take(now) && !at.ip().is_unspecified() && at.port() != 0 {
                    self.send_out(at, PUNCH.to_vec());
                }
            }
            Ok(Beacon::Deliver { frame, .. } | Beacon::DeliverNamed { frame, .. }) => {
                self.receive_frame(now, Path::Relay, frame);
            }
            Ok(Beacon::Notify(_)) => self.act(Action::Poll),
            Ok(
                Beacon::Discover { .. }
                | Beacon::DiscoverNamed { .. }
                | Beacon::PunchRequest { .. }
                | Beacon::Relay { .. }
                | Beacon::Sync { .. },
            )
            | Err(_) => self.dropped.malformed += 1,
        }
    }

    pub(super) fn receive_frame(&mut self, now: Time, from: Path, bytes: &[u8]) {
        match Frame::decode(bytes) {
            Ok(Frame::Sealed(sealed)) => self.receive_sealed(now, from, &sealed),
            Ok(Frame::SignedExchange(exchange)) => self.receive_exchange(now, from, exchange),
            Ok(Frame::Plain(packet)) if self.config.accept_plain => {
                if let Ok(packet) = Packet::decode(packet) {
                    let node = packet.header.source.address.node;
                    self.receive_packet(now, node, &packet);
                }
            }
            // An exchange nobody signed could be anybody's; a node that is registered has a key to sign with.
            Ok(Frame::Plain(_) | Frame::Exchange { .. }) => self.dropped.plain += 1,
            Ok(Frame::Punch) => {}
            Err(_) => self.dropped.malformed += 1,
        }
    }

    fn receive_sealed(&mut self, now: Time, from: Path, sealed: &Sealed<'_>) {
        let mut plain = std::mem::take(&mut self.plain);
        let spare = self.random();
        let opened = match self.peers.get_mut(&sealed.node) {
            Some(peer) => peer.open(now, sealed, from, spare, &mut plain),
            None => (Opened::No, false),
        };
        match opened {
            (Opened::Fresh, proved) => {
                if proved {
                    self.proved(now, sealed.node);
                }
                match Packet::decode(&plain) {
                    Ok(packet) => self.receive_packet(now, sealed.node, &packet),
                    Err(_) => self.dropped.malformed += 1,
                }
            }
            (Opened::Replayed, _) => {
                self.dropped.replayed += 1;
                self.rekey_if_worn(now, sealed.node);
            }
            (Opened::Probe, _) => {}
            (Opened::No, _) => {
                self.dropped.unopened += 1;
                self.unopened(now, from, sealed.node);
            }
        }
        plain.clear();
        self.plain = plain;
    }

    /// A packet of `node`, whose key opened the frame: it may speak for nobody else.
    fn receive_packet(&mut self, now: Time, node: NodeId, packet: &Packet<'_>) {
        let header = &packet.header;
        let to = header.destination.address.node;
        let for_us = to == self.config.node
            || (to == BROADCAST_NODE && header.protocol == Protocol::Datagram);
        if header.source.address.node != node || node == self.config.node || !for_us {
            // A keep-alive of some releases leaves the destination empty.
            if header.protocol != Protocol::Control || header.source.address.node != node {
                self.dropped.malformed += 1;
            }
            return;
        }
        match header.protocol {
            Protocol::Stream => {
                let segment = Segment {
                    flags: header.flags,
                    sequence: header.sequence,
                    acknowledgement: header.acknowledgement,
                    window: header.window,
                    payload: packet.payload,
                };
                self.receive_segment(now, header, &segment);
            }
            Protocol::Datagram => {
                if self.trusted.contains(&node) {
                    let (from, port) = (header.source, header.destination.port);
                    self.act(Action::Datagram { from, port, data: packet.payload.to_vec() });
                } else {
                    self.dropped.untrusted += 1;
                }
            }
            Protocol::Control => self.receive_control(now, packet),
            Protocol::Other(_) => self.dropped.malformed += 1,
        }
    }

    fn receive_control(&mut self, now: Time, packet: &Packet<'_>) {
        let header = &packet.header;
        let node = header.source.address.node;
        if header.flags.has(Flags::ACK) {
            let number = header.acknowledgement.wrapping_sub(1);
            if let Some(at) = self.pings.remove(&(node, number)) {
                self.act(Action::Pong { node, after: now.saturating_since(at) });
            }
        } else if header.destination.port == 0 {
            let answer = Header {
                flags: Flags::ACK,
                protocol: Protocol::Control,
                source: header.destination,
                destination: header.source,
                sequence: header.sequence,
                acknowledgement: header.sequence.wrapping_add(1),
                window: 0,
            };
            let payload = packet.payload.to_vec();
            self.send_packet(now, node, &answer, &payload);
        }
    }

    /// Asks a peer for a sign of life: [`Action::Pong`] follows, or nothing. Makes a tunnel first where there is none.
    pub fn ping(&mut self, now: Time, node: NodeId) {
        if node == self.config.node {
            return self.act(Action::Pong { node, after: Duration::ZERO });
        }
        self.pings.retain(|_key, at| now < *at + PING_TIMEOUT);
        if self.pings.len() >= PINGS_MAX {
            self.dropped.limited += 1;
            return;
        }
        self.ping_number = self.ping_number.wrapping_add(1);
        let number = self.ping_number;
        self.pings.insert((node, number), now);
        let header = self.control_header(node, number);
        self.send_packet(now, node, &header, PING_PAYLOAD);
    }

    pub(super) fn control_header(&self, node: NodeId, number: u32) -> Header {
        Header {
            flags: Flags::NONE,
            protocol: Protocol::Control,
            source: SocketAddress { address: self.address(), port: 0 },
            destination: SocketAddress { address: Address::backbone(node), port: 0 },
            sequence: number,
            acknowledgement: 0,
            window: 0,
        }
    }

    /// Sends a datagram; it may be lost. Kept for a moment when there is no tunnel yet.
    pub fn send_datagram(&mut self, now: Time, from_port: u16, to: SocketAddress, data: &[u8]) {
        let header = Header {
            flags: Flags::NONE,
            protocol: Protocol::Datagram,
            source: SocketAddress {
                address: Address { network: to.address.network, node: self.config.node },
                port: from_port,
            },
            destination: to,
            sequence: 0,
            acknowledgement: 0,
            window: 0,
        };
        self.send_packet(now, to.address.node, &header, data);
    }
}
