//! Raw UDP echo with blocking sockets: neither encrypted nor reliable, shown as the floor.

use std::{
    io::ErrorKind,
    net::{IpAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use futures_util::future::BoxFuture;

use super::{
    ANSWER_LEN, After, Client, Contender, REQUEST_LEN, Service, Session, Target, answer, check,
    request,
};

/// How often the server looks whether it should stop.
const STOP_CHECK_MS: u64 = 200;
/// A datagram without an answer for this long counts as lost, and fails the run.
const LOST_AFTER_MS: u64 = 2_000;

/// The floor.
pub(crate) struct Udp;

impl Contender for Udp {
    fn name(&self) -> &'static str {
        "udp"
    }

    fn how(&self) -> &'static str {
        "raw UDP echo, blocking sockets, no encryption: the floor"
    }

    fn serve(&self, bind: IpAddr) -> BoxFuture<'static, Result<Service>> {
        Box::pin(async move {
            let socket = UdpSocket::bind((bind, 0)).context("bind a UDP socket")?;
            let addr = socket.local_addr()?;
            socket.set_read_timeout(Some(Duration::from_millis(STOP_CHECK_MS)))?;
            let stop = Arc::new(AtomicBool::new(false));
            let seen = stop.clone();
            let thread = std::thread::Builder::new()
                .name("udp-server".to_owned())
                .spawn(move || echo(&socket, &seen))?;
            let keep = Echo { stop, thread: Some(thread) };
            Ok(Service { target: Target { addr, proof: String::new() }, keep: Box::new(keep) })
        })
    }

    fn client(&self, bind: IpAddr, _after: After) -> BoxFuture<'static, Result<Arc<dyn Client>>> {
        Box::pin(async move { Ok(Arc::new(UdpClient { bind }) as Arc<dyn Client>) })
    }
}

fn echo(socket: &UdpSocket, stop: &AtomicBool) {
    let mut buffer = [0; REQUEST_LEN + 1];
    while !stop.load(Ordering::Relaxed) {
        match socket.recv_from(&mut buffer) {
            Ok((len, from)) => {
                // A lost answer shows at the client as a time-out.
                let _ = socket.send_to(&answer(&buffer[..len]), from);
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
    }
}

struct Echo {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct UdpClient {
    bind: IpAddr,
}

impl Client for UdpClient {
    fn connect(&self, target: Target) -> BoxFuture<'_, Result<Arc<dyn Session>>> {
        Box::pin(async move {
            let socket = UdpSocket::bind((self.bind, 0)).context("bind a UDP socket")?;
            socket.connect(target.addr)?;
            socket.set_read_timeout(Some(Duration::from_millis(LOST_AFTER_MS)))?;
            Ok(Arc::new(UdpSession { socket }) as Arc<dyn Session>)
        })
    }
}

struct UdpSession {
    socket: UdpSocket,
}

impl UdpSession {
    fn receive(&self, buffer: &mut [u8; ANSWER_LEN + 1]) -> Result<usize> {
        self.socket.recv(buffer).context("no answer: a datagram was lost, or the server is gone")
    }

    /// Keeps `in_flight` datagrams on the way from one thread; answers may come in any order.
    fn window(&self, in_flight: u64, calls: u64, limit: Duration) -> Result<u64> {
        let deadline = Instant::now() + limit;
        let mut buffer = [0; ANSWER_LEN + 1];
        let (mut sent, mut done) = (0, 0);
        while sent < in_flight.min(calls) {
            self.socket.send(&request(sent))?;
            sent += 1;
        }
        while done < sent {
            let len = self.receive(&mut buffer)?;
            let tag = buffer.first_chunk().map_or(0, |tag| u64::from_be_bytes(*tag));
            check(tag, &buffer[..len])?;
            done += 1;
            if sent < calls && Instant::now() < deadline {
                self.socket.send(&request(sent))?;
                sent += 1;
            }
        }
        Ok(done)
    }
}

impl Session for UdpSession {
    fn call(&self, tag: u64) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let mut buffer = [0; ANSWER_LEN + 1];
            self.socket.send(&request(tag))?;
            let len = self.receive(&mut buffer)?;
            check(tag, &buffer[..len])
        })
    }

    fn burst(
        self: Arc<Self>,
        in_flight: usize,
        calls: u64,
        limit: Duration,
    ) -> BoxFuture<'static, Result<u64>> {
        Box::pin(async move { self.window(in_flight as u64, calls, limit) })
    }
}
