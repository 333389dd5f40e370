//! The UDP socket: many datagrams a system call in both directions where the kernel can.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;

use comity_pilot::engine::Transmit;
use noq_udp::{BATCH_SIZE, RecvMeta, UdpSockRef, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// What is asked of the kernel for each direction, in bytes; it may give less.
const SOCKET_BUFFER_BYTES: usize = 8 << 20;
/// Room for one receive buffer: the largest batch the kernel joins.
const RECEIVE_BYTES: usize = 65_536;

/// A socket.
#[derive(Debug)]
pub(crate) struct Udp {
    socket: UdpSocket,
    state: UdpSocketState,
}

/// Buffers for receiving.
#[derive(Debug)]
pub(crate) struct Buffers {
    bytes: Vec<u8>,
    metas: [RecvMeta; BATCH_SIZE],
}

impl Default for Buffers {
    fn default() -> Self {
        Self {
            bytes: vec![0; RECEIVE_BYTES * BATCH_SIZE],
            metas: [RecvMeta::default(); BATCH_SIZE],
        }
    }
}

impl Udp {
    pub(crate) fn new(socket: UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        // Less is slower, not wrong.
        let _smaller = state.set_recv_buffer_size(UdpSockRef::from(&socket), SOCKET_BUFFER_BYTES);
        let _smaller = state.set_send_buffer_size(UdpSockRef::from(&socket), SOCKET_BUFFER_BYTES);
        Ok(Self { socket, state })
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.socket.writable().await
    }

    /// Segments the kernel takes in one call.
    pub(crate) fn segments_max(&self) -> usize {
        self.state.max_gso_segments().get()
    }

    /// Sends; `WouldBlock` when the kernel's buffer is full. Other errors are those of one destination, and are the same as loss.
    pub(crate) fn send(&self, transmit: &Transmit, buffer: &[u8]) -> io::Result<()> {
        let step = transmit.segment * self.segments_max();
        for chunk in buffer[..transmit.size].chunks(step.max(1)) {
            let several = chunk.len() > transmit.segment;
            let transmit = noq_udp::Transmit {
                destination: transmit.to,
                ecn: None,
                contents: chunk,
                segment_size: several.then_some(transmit.segment),
                src_ip: None,
            };
            self.socket.try_io(Interest::WRITABLE, || {
                self.state.try_send(UdpSockRef::from(&self.socket), &transmit)
            })?;
        }
        Ok(())
    }

    /// Receives what is there: calls `each` with source and content of every datagram. False when there was nothing.
    pub(crate) fn receive(
        &self,
        buffers: &mut Buffers,
        mut each: impl FnMut(SocketAddr, &[u8]),
    ) -> io::Result<bool> {
        let Buffers { bytes, metas } = buffers;
        let mut chunks = bytes.chunks_mut(RECEIVE_BYTES);
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_at| IoSliceMut::new(chunks.next().unwrap_or_default()));
        let received = self.socket.try_io(Interest::READABLE, || {
            self.state.recv(UdpSockRef::from(&self.socket), &mut slices, metas)
        });
        let count = match received {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            // Answers of hosts that have no such port; the next call goes on.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(true),
            Err(error) => return Err(error),
        };
        for (slice, meta) in slices.iter().zip(metas.iter()).take(count) {
            let source = SocketAddr::new(meta.addr.ip().to_canonical(), meta.addr.port());
            for datagram in slice[..meta.len].chunks(meta.stride.max(1)) {
                each(source, datagram);
            }
        }
        Ok(true)
    }
}
