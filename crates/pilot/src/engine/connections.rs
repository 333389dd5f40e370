//! Ports, listeners and connections: which stream a segment belongs to, and who may open one.

use comity_core::Time;

use super::{
    ANSWER_WINDOW, Action, BACKLOG_MAX, BATCH_BYTES_MAX, BATCH_SEGMENTS_MAX, CONNECTIONS_MAX,
    CONNECTIONS_PER_PEER_MAX, ConnectionId, Engine, TimerOf, Transmit,
};
use crate::address::{Address, NodeId, SocketAddress, port};
use crate::beacon::relay_header;
use crate::crypto::Dialect;
use crate::packet::{Flags, Header, Protocol, encode_with};
use crate::session::Path;
use crate::stream::{
    Config as StreamConfig, Failure, Read, SEGMENT_BYTES_MAX, SEGMENT_BYTES_SAFE, Segment, Stream,
};

/// Segments under way to daemons that keep few out of order.
const FLIGHT_DIALECT_A: usize = 128;
const FLIGHT_DIALECT_B: usize = 1024;
/// Data of a segment on a direct IPv4 path: with its 98 bytes of headers a datagram of 1,478 bytes fits an Ethernet frame.
const SEGMENT_BYTES_DIRECT: usize = 1380;
/// Buffers of a connection to the handshake port, which strangers may open.
const STRANGER_BUFFER_BYTES: usize = 16 << 10;

/// Who may open connections to a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Peers both sides agreed to trust, and for a while those this node dialled, where the port is one of answers.
    Trusted,
    /// Every registered node.
    Anyone,
}

/// Why a port cannot be listened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListenError {
    /// Somebody does already.
    #[error("port {0} is taken")]
    Taken(u16),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Listener {
    access: Access,
    backlog: usize,
}

/// What tells connections apart: the port here, the node and its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Link {
    port: u16,
    node: NodeId,
    peer_port: u16,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: Stream,
    pub(super) timer: Option<Time>,
    pub(super) dirty: bool,
    link: Link,
    network: u16,
    /// The application is done with it.
    released: bool,
    /// A peer opened it and nobody took it yet.
    unaccepted: bool,
    incoming: bool,
    timeouts: u64,
}

impl Connection {
    /// The tunnel is there, or was made anew.
    pub(super) fn tunnel_changed(&mut self, dialect: Dialect, path: Path) {
        self.stream.set_flight_max(match dialect {
            Dialect::A => FLIGHT_DIALECT_A,
            Dialect::B => FLIGHT_DIALECT_B,
        });
        self.stream.set_segment_bytes(segment_bytes(path));
    }

    /// Timeouts on a path with large segments may be its limit: smaller ones are tried.
    fn adapt(&mut self) {
        let timeouts = self.stream.statistics().timeouts;
        if timeouts >= self.timeouts + 2 {
            self.timeouts = timeouts;
            self.stream.set_segment_bytes(SEGMENT_BYTES_SAFE);
        }
    }
}

const fn segment_bytes(path: Path) -> usize {
    match path {
        Path::Direct(at) if at.ip().is_loopback() => SEGMENT_BYTES_MAX,
        Path::Direct(at) if at.is_ipv4() => SEGMENT_BYTES_DIRECT,
        Path::Direct(_) | Path::Relay => SEGMENT_BYTES_SAFE,
    }
}

impl Engine {
    /// Lets peers open connections to a port.
    ///
    /// # Errors
    /// [`ListenError::Taken`].
    pub fn listen(&mut self, port: u16, access: Access) -> Result<(), ListenError> {
        if self.listeners.contains_key(&port) {
            return Err(ListenError::Taken(port));
        }
        self.listeners.insert(port, Listener { access, backlog: 0 });
        Ok(())
    }

    /// No new connections to a port.
    pub fn unlisten(&mut self, port: u16) {
        self.listeners.remove(&port);
    }

    pub(super) fn connections_of(&self, node: NodeId) -> Vec<ConnectionId> {
        let of = |connection: &&Connection| connection.link.node == node;
        let ids = self.connections.iter().filter(|(_id, connection)| of(connection));
        ids.map(|(id, _connection)| *id).collect()
    }

    /// Opens a connection: [`Action::Connected`] follows, or [`Action::Readable`] with the reason to be read. `None` when
    /// [`CONNECTIONS_MAX`] are open, and for this node's own number, which no tunnel leads to.
    pub fn connect(&mut self, now: Time, to: SocketAddress) -> Option<ConnectionId> {
        let node = to.address.node;
        if self.connections.len() >= CONNECTIONS_MAX || node == self.config.node {
            return None;
        }
        let link = self.free_link(node, to.port)?;
        self.peer_entry(now, node)?.dialled_at = Some(now);
        let config = self.stream_config(node);
        let stream = Stream::connect(now, &config);
        let id = self.insert(link, to.address.network, stream, false);
        self.want_tunnel(now, node);
        self.watch(now, node);
        self.touch(id);
        Some(id)
    }

    fn free_link(&mut self, node: NodeId, peer_port: u16) -> Option<Link> {
        for _try in port::EPHEMERAL_MIN..=u16::MAX {
            let link = Link { port: self.next_port, node, peer_port };
            self.next_port = match self.next_port {
                u16::MAX => port::EPHEMERAL_MIN,
                port => port + 1,
            };
            if !self.links.contains_key(&link) {
                return Some(link);
            }
        }
        None
    }

    fn stream_config(&self, node: NodeId) -> StreamConfig {
        let path = self.peers.get(&node).and_then(super::peers::Peer::path);
        StreamConfig {
            segment_bytes: path.map_or(SEGMENT_BYTES_SAFE, segment_bytes),
            receive_bytes: self.config.receive_bytes,
            send_bytes: self.config.send_bytes,
        }
    }

    fn insert(&mut self, link: Link, network: u16, stream: Stream, incoming: bool) -> ConnectionId {
        let id = ConnectionId(self.next_connection);
        self.next_connection += 1;
        let mut connection = Connection {
            stream,
            timer: None,
            dirty: false,
            link,
            network,
            released: false,
            unaccepted: incoming,
            incoming,
            timeouts: 0,
        };
        if let Some(peer) = self.peers.get_mut(&link.node) {
            peer.connections += 1;
            if let (Some(dialect), Some(path)) = (peer.dialect(), peer.path()) {
                connection.tunnel_changed(dialect, path);
            }
        }
        self.connections.insert(id, connection);
        self.links.insert(link, id);
        id
    }

    /// Takes a connection of [`Action::Accepted`]; until then it counts towards [`BACKLOG_MAX`].
    pub fn accept(&mut self, connection: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&connection) else { return };
        if std::mem::take(&mut connection.unaccepted)
            && let Some(listener) = self.listeners.get_mut(&connection.link.port)
        {
            listener.backlog = listener.backlog.saturating_sub(1);
        }
    }

    /// The other end of a connection.
    #[must_use]
    pub fn remote(&self, connection: ConnectionId) -> Option<SocketAddress> {
        let connection = self.connections.get(&connection)?;
        let Link { node, peer_port, .. } = connection.link;
        let address = Address { network: connection.network, node };
        Some(SocketAddress { address, port: peer_port })
    }

    /// Takes bytes to be sent, as many as there is room for.
    ///
    /// # Errors
    /// See [`Stream::write`]; [`Failure::Aborted`] for a connection that is not there any more.
    pub fn write(&mut self, connection: ConnectionId, data: &[u8]) -> Result<usize, Failure> {
        let stream = &mut self.connections.get_mut(&connection).ok_or(Failure::Aborted)?.stream;
        let taken = stream.write(data)?;
        self.touch(connection);
        Ok(taken)
    }

    /// Gives received bytes to the application.
    ///
    /// # Errors
    /// See [`Stream::read`]; [`Failure::Aborted`] for a connection that is not there any more.
    pub fn read(
        &mut self,
        now: Time,
        connection: ConnectionId,
        out: &mut [u8],
    ) -> Result<Read, Failure> {
        let stream = &mut self.connections.get_mut(&connection).ok_or(Failure::Aborted)?.stream;
        let read = stream.read(now, out)?;
        self.touch(connection);
        Ok(read)
    }

    /// The stream of a connection, for what only looks.
    #[must_use]
    pub fn stream(&self, connection: ConnectionId) -> Option<&Stream> {
        Some(&self.connections.get(&connection)?.stream)
    }

    /// No more will be written.
    pub fn close(&mut self, now: Time, connection: ConnectionId) {
        if let Some(open) = self.connections.get_mut(&connection) {
            open.stream.close(now);
            self.touch(connection);
        }
    }

    /// The application is done with a connection: it closes in good order, and its state goes when that is over.
    pub fn release(&mut self, now: Time, connection: ConnectionId) {
        self.accept(connection);
        if let Some(open) = self.connections.get_mut(&connection) {
            open.released = true;
            open.stream.close(now);
            self.touch(connection);
        }
    }

    /// Gives a connection up and tells the peer.
    pub fn abort(&mut self, connection: ConnectionId) {
        self.accept(connection);
        if let Some(open) = self.connections.get_mut(&connection) {
            open.released = true;
            open.stream.abort();
            self.touch(connection);
        }
    }

    pub(super) fn receive_segment(&mut self, now: Time, header: &Header, segment: &Segment<'_>) {
        let link = Link {
            port: header.destination.port,
            node: header.source.address.node,
            peer_port: header.source.port,
        };
        let opens = segment.flags.has(Flags::SYN) && !segment.flags.has(Flags::ACK);
        match self.links.get(&link).copied() {
            Some(id) => {
                let Some(connection) = self.connections.get_mut(&id) else { return };
                if opens && connection.stream.is_over() {
                    self.links.remove(&link);
                    self.receive_open(now, header, segment, link);
                } else {
                    connection.stream.receive(now, segment);
                    self.touch(id);
                }
            }
            None if opens => self.receive_open(now, header, segment, link),
            // The peer talks to a connection that is gone here. Resets and closes are never answered.
            None if !segment.payload.is_empty()
                && !segment.flags.has(Flags::RST)
                && !segment.flags.has(Flags::FIN) =>
            {
                self.refuse(now, header);
            }
            None => {}
        }
    }

    fn refuse(&mut self, now: Time, header: &Header) {
        let node = header.source.address.node;
        let limited = self.peers.get_mut(&node).is_none_or(|peer| !peer.syns.take(now));
        if limited {
            self.dropped.limited += 1;
            return;
        }
        let reset = Header {
            flags: Flags::RST,
            protocol: Protocol::Stream,
            source: header.destination,
            destination: header.source,
            sequence: 0,
            acknowledgement: 0,
            window: 0,
        };
        self.send_packet(now, node, &reset, &[]);
    }

    /// Whether a node may open connections to a port.
    fn may_open(&self, now: Time, node: NodeId, port: u16, access: Access) -> bool {
        if access == Access::Anyone || self.trusted.contains(&node) {
            return true;
        }
        let dialled = self.peers.get(&node).and_then(|peer| peer.dialled_at);
        port == port::DATA && dialled.is_some_and(|at| now < at + ANSWER_WINDOW)
    }

    fn receive_open(&mut self, now: Time, header: &Header, segment: &Segment<'_>, link: Link) {
        let listener = self.listeners.get(&link.port).copied();
        let access = listener.map_or(Access::Trusted, |listener| listener.access);
        if !self.may_open(now, link.node, link.port, access) {
            // Silence, as Pilot: a stranger does not learn which ports there are.
            self.dropped.untrusted += 1;
            return;
        }
        let Some(listener) = listener else { return self.refuse(now, header) };
        let Some(peer) = self.peers.get_mut(&link.node) else { return };
        if !peer.syns.take(now) {
            self.dropped.limited += 1;
            return;
        }
        let theirs = |connection: &&Connection| {
            connection.incoming && connection.link.node == link.node && !connection.stream.is_over()
        };
        let many = peer.connections >= CONNECTIONS_PER_PEER_MAX
            && self.connections.values().filter(theirs).count() >= CONNECTIONS_PER_PEER_MAX;
        let full = self.connections.len() >= CONNECTIONS_MAX || listener.backlog >= BACKLOG_MAX;
        if many || full {
            return self.refuse(now, header);
        }
        let mut config = self.stream_config(link.node);
        if access == Access::Anyone && !self.trusted.contains(&link.node) {
            config.receive_bytes = STRANGER_BUFFER_BYTES;
            config.send_bytes = STRANGER_BUFFER_BYTES;
        }
        let stream = Stream::accept(now, &config, segment);
        let id = self.insert(link, header.destination.address.network, stream, true);
        if let Some(listener) = self.listeners.get_mut(&link.port) {
            listener.backlog += 1;
        }
        self.watch(now, link.node);
        self.act(Action::Accepted { connection: id, port: link.port, from: header.source });
        self.touch(id);
    }

    /// As many segments of a connection as go into one batch: all but the last of the same size.
    pub(super) fn transmit_connection(
        &mut self,
        now: Time,
        id: ConnectionId,
        buffer: &mut Vec<u8>,
    ) -> Option<Transmit> {
        let connection = self.connections.get_mut(&id)?;
        let peer = self.peers.get_mut(&connection.link.node)?;
        let path = peer.path().filter(|_path| peer.is_proven())?;
        let to = match path {
            Path::Direct(to) => to,
            Path::Relay => self.config.beacon?,
        };
        let link = connection.link;
        let me = self.config.node;
        let here = Address { network: connection.network, node: me };
        let there = Address { network: connection.network, node: link.node };
        let (mut segment, mut count) = (0, 0);
        while count < BATCH_SEGMENTS_MAX && buffer.len() + segment.max(64) <= BATCH_BYTES_MAX {
            let Some(outgoing) = connection.stream.poll_transmit(now) else { break };
            let header = Header {
                flags: outgoing.flags,
                protocol: Protocol::Stream,
                source: SocketAddress { address: here, port: link.port },
                destination: SocketAddress { address: there, port: link.peer_port },
                sequence: outgoing.sequence,
                acknowledgement: outgoing.acknowledgement,
                window: outgoing.window,
            };
            let start = buffer.len();
            if path == Path::Relay {
                relay_header(me, link.node, buffer);
            }
            let stream = &connection.stream;
            peer.seal(now, me, buffer, |out| {
                encode_with(&header, out, |out| stream.payload(&outgoing, out));
            });
            let bytes = buffer.len() - start;
            if count == 0 {
                segment = bytes;
            } else if bytes > segment {
                // It does not fit behind shorter ones: it leaves next.
                self.out.push_front((to, buffer.split_off(start)));
                break;
            }
            count += 1;
            if bytes < segment {
                break;
            }
        }
        (count > 0).then_some(Transmit { to, segment, size: buffer.len() })
    }

    /// After a connection had its turn: timer, wake-ups, end.
    pub(super) fn settle(&mut self, now: Time, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.dirty = false;
        connection.adapt();
        let changes = connection.stream.take_changes();
        let ready =
            self.peers.get(&connection.link.node).is_some_and(super::peers::Peer::is_proven);
        // A SYN waits for its tunnel, whose own patience then counts.
        let due = connection.stream.poll_timeout().map(|(at, _timer)| at).filter(|_at| ready);
        let before = std::mem::replace(&mut connection.timer, due);
        if before != due {
            if let Some(before) = before {
                self.timers.remove(&(before, TimerOf::Connection(id)));
            }
            if let Some(due) = due {
                self.timers.insert((due.max(now), TimerOf::Connection(id)));
                connection.timer = Some(due.max(now));
            }
        }
        // Without a tunnel nobody can be told of the end.
        let closed = connection.stream.is_closed() || (!ready && connection.stream.is_over());
        let released = connection.released;
        if !released {
            // Wake-ups are at most three a connection and drain: they need no bound of their own.
            if changes.established && !connection.incoming {
                self.actions.push_back(Action::Connected(id));
            }
            if changes.readable {
                self.actions.push_back(Action::Readable(id));
            }
            if changes.writable {
                self.actions.push_back(Action::Writable(id));
            }
        } else if closed {
            self.remove(id);
        }
    }

    fn remove(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.remove(&id) else { return };
        if let Some(at) = connection.timer {
            self.timers.remove(&(at, TimerOf::Connection(id)));
        }
        if self.links.get(&connection.link) == Some(&id) {
            self.links.remove(&connection.link);
        }
        if let Some(peer) = self.peers.get_mut(&connection.link.node) {
            peer.connections = peer.connections.saturating_sub(1);
        }
    }
}
