//! A long path on one machine: two network namespaces, a TUN device in each, and between them an emulator in
//! user space that adds delay, jitter, loss and a rate limit (the kernel's own netem is not always there).
//!
//! Needs Linux, root, `/dev/net/tun` and `ip` (Debian package `iproute2`). Namespaces carry the process id in their
//! name and are removed when the lab is dropped, on SIGINT, SIGTERM and SIGHUP, and - if this process was killed -
//! by the next run.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr},
    os::fd::AsRawFd as _,
    path::{Path as FsPath, PathBuf},
    process::Command,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use crate::{progress, stage::Place, sys};

/// Where `ip netns` keeps its handles.
const HANDLES: &str = "/var/run/netns";
/// Every namespace of ours is called `comity-bench-PID-SIDE`.
const NAME_PREFIX: &str = "comity-bench-";
/// Name of the device in each namespace.
const DEVICE: &str = "tun0";
/// Packets one direction of the path may hold; more are dropped like at a full queue.
const PACKETS_HELD_MAX: usize = 20_000;
/// How often the emulator's threads look whether they should stop.
const STOP_CHECK_MS: u64 = 100;
/// Largest IP packet.
const PACKET_LEN_MAX: usize = 65_536;
/// MTU of the emulated path, in bytes.
const MTU: u32 = 1_500;

/// Namespaces to remove, whatever ends the program.
static NAMESPACES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// What the path does to packets, the same in both directions.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Path {
    /// One-way delay.
    pub delay: Duration,
    /// Up to this much more delay, drawn per packet; packets stay in order.
    pub jitter: Duration,
    /// Share of packets lost, independently, 0 to 1.
    pub loss: f64,
    /// Rate in Mbit/s; 0 is unlimited.
    pub mbit: f64,
    /// Waiting time in front of the rate limit above which packets are dropped.
    pub queue: Duration,
    /// Seed of loss and jitter.
    pub seed: u64,
    /// What to tell about each packet.
    pub trace: Trace,
}

/// What to tell about each packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Trace {
    /// Nothing.
    Off,
    /// One line on standard error when it enters the path: that is how waiting inside a protocol shows.
    Packets,
}

/// One end of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The calling end.
    Client,
    /// The answering end.
    Server,
}

impl Side {
    /// Address of this end inside the lab.
    #[must_use]
    pub fn address(self) -> IpAddr {
        IpAddr::from(match self {
            Self::Client => Ipv4Addr::new(10, 99, 0, 1),
            Self::Server => Ipv4Addr::new(10, 99, 0, 2),
        })
    }

    fn name(self) -> String {
        let side = match self {
            Self::Client => 'c',
            Self::Server => 's',
        };
        format!("{NAME_PREFIX}{}-{side}", std::process::id())
    }
}

/// Packets the path has seen, both directions together.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Traffic {
    /// That entered it.
    pub packets: u64,
    /// Of which were lost.
    pub lost: u64,
}

/// Two namespaces and the path between them.
#[derive(Debug)]
pub struct Lab {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    counters: Arc<Counters>,
    _namespaces: [Namespace; 2],
}

#[derive(Debug, Default)]
struct Counters {
    packets: AtomicU64,
    lost: AtomicU64,
}

/// Why no lab can be built here, if so.
#[must_use]
pub fn missing() -> Option<String> {
    if !sys::is_root() {
        return Some("network namespaces need root: run as root for the long path".to_owned());
    }
    if !FsPath::new("/dev/net/tun").exists() {
        return Some("no /dev/net/tun: load the tun module for the long path".to_owned());
    }
    match Command::new("ip").arg("-Version").output() {
        Ok(output) if output.status.success() => None,
        _ => Some("no `ip` command: install iproute2 for the long path".to_owned()),
    }
}

/// Removes this process's namespaces on SIGINT, SIGTERM and SIGHUP, then exits with 130.
///
/// # Errors
/// No runtime or thread can be started.
pub fn clean_up_on_signals() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("build the signal runtime")?;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let caught = runtime.block_on(async {
                let mut interrupt = signal(SignalKind::interrupt())?;
                let mut terminate = signal(SignalKind::terminate())?;
                let mut hang_up = signal(SignalKind::hangup())?;
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hang_up.recv() => {}
                }
                std::io::Result::Ok(())
            });
            if caught.is_ok() {
                let names = std::mem::take(&mut *registry());
                for name in names {
                    remove(&name);
                }
                std::process::exit(130);
            }
        })
        .context("start the signal thread")?;
    Ok(())
}

impl Lab {
    /// Builds the namespaces and starts the emulator. One lab at a time per process.
    ///
    /// # Errors
    /// What `ip` or the TUN device refuses.
    pub fn open(path: Path) -> Result<Self> {
        remove_abandoned();
        let client = Namespace::make(Side::Client)?;
        let server = Namespace::make(Side::Server)?;
        let (client_tun, server_tun) = (client.device(Side::Client)?, server.device(Side::Server)?);
        let stop = Arc::new(AtomicBool::new(false));
        let counters = Arc::new(Counters::default());
        let mut threads = Vec::new();
        let ways = [
            ("client > server", &client_tun, &server_tun, path.seed),
            ("        server > client", &server_tun, &client_tun, !path.seed),
        ];
        let opened = Instant::now();
        for (name, from, to, seed) in ways {
            let way = Way {
                name,
                opened,
                from: from.clone(),
                to: to.clone(),
                path,
                stop: stop.clone(),
                counters: counters.clone(),
                held: Arc::default(),
            };
            threads.extend(way.start(seed)?);
        }
        Ok(Self { stop, threads, counters, _namespaces: [client, server] })
    }

    /// Where sockets of this end must be made.
    #[must_use]
    pub fn place(side: Side) -> Place {
        Place::Namespace(handle(&side.name()))
    }

    /// What has passed so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        Traffic {
            packets: self.counters.packets.load(Ordering::Relaxed),
            lost: self.counters.lost.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A dead emulator thread already showed as calls without answers.
            let _ = thread.join();
        }
    }
}

/// A named network namespace, removed when dropped.
#[derive(Debug)]
struct Namespace {
    name: String,
}

impl Namespace {
    fn make(side: Side) -> Result<Self> {
        let name = side.name();
        // Registered before it exists: a signal in between must not leave it behind.
        registry().push(name.clone());
        let namespace = Self { name };
        ip(&["netns", "add", &namespace.name])?;
        ip(&["-n", &namespace.name, "link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Makes and configures this end's TUN device.
    fn device(&self, side: Side) -> Result<Arc<File>> {
        let handle = handle(&self.name);
        let tun = thread::spawn(move || {
            sys::enter_network_namespace(&handle)?;
            sys::tun(DEVICE)
        })
        .join()
        .map_err(|_| anyhow::anyhow!("the thread making the TUN device panicked"))??;
        let address = format!("{}/24", side.address());
        ip(&["-n", &self.name, "address", "add", &address, "dev", DEVICE])?;
        let mtu = MTU.to_string();
        ip(&["-n", &self.name, "link", "set", DEVICE, "mtu", &mtu, "txqueuelen", "5000", "up"])?;
        Ok(Arc::new(tun))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
        registry().retain(|name| *name != self.name);
    }
}

fn registry() -> MutexGuard<'static, Vec<String>> {
    // A list of names is whole at any moment.
    NAMESPACES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn handle(name: &str) -> PathBuf {
    FsPath::new(HANDLES).join(name)
}

/// Removes a namespace if it is there.
fn remove(name: &str) {
    if handle(name).exists() {
        // Nothing more can be done about a failure here; the next run tries again.
        let _ = ip(&["netns", "delete", name]);
    }
}

/// Removes namespaces of runs that were killed before they could.
fn remove_abandoned() {
    let Ok(entries) = fs::read_dir(HANDLES) else { return };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let owner = name.strip_prefix(NAME_PREFIX).and_then(|rest| rest.split('-').next());
        if let Some(owner) = owner.and_then(|pid| pid.parse::<u32>().ok())
            && !FsPath::new(&format!("/proc/{owner}")).exists()
        {
            remove(&name);
        }
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output().context("run ip")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("ip {}: {}", arguments.join(" "), said.trim());
    }
    Ok(())
}

/// One direction of the path.
#[derive(Clone)]
struct Way {
    name: &'static str,
    opened: Instant,
    from: Arc<File>,
    to: Arc<File>,
    path: Path,
    stop: Arc<AtomicBool>,
    counters: Arc<Counters>,
    held: Arc<(Mutex<VecDeque<Packet>>, Condvar)>,
}

struct Packet {
    due: Instant,
    bytes: Vec<u8>,
}

impl Way {
    fn start(self, seed: u64) -> Result<[JoinHandle<()>; 2]> {
        let reader = self.clone();
        Ok([
            thread::Builder::new().name("path-in".to_owned()).spawn(move || reader.take(seed))?,
            thread::Builder::new().name("path-out".to_owned()).spawn(move || self.deliver())?,
        ])
    }

    /// Reads packets and decides when, and whether, each arrives.
    fn take(&self, seed: u64) {
        let mut schedule = Schedule::new(self.path, seed, Instant::now());
        let mut buffer = vec![0; PACKET_LEN_MAX];
        while !self.stop.load(Ordering::Relaxed) {
            match sys::readable(self.from.as_raw_fd(), Duration::from_millis(STOP_CHECK_MS)) {
                Ok(true) => {}
                Ok(false) => continue,
                Err(_) => return,
            }
            let Ok(len) = (&*self.from).read(&mut buffer) else { return };
            self.counters.packets.fetch_add(1, Ordering::Relaxed);
            let now = Instant::now();
            let due = schedule.due(now, len);
            if self.path.trace == Trace::Packets {
                let fate = if due.is_some() { "" } else { " lost" };
                let at_ms = (now - self.opened).as_secs_f64() * 1e3;
                progress(&format!("{at_ms:10.2} ms  {:<24} {len:5} bytes{fate}", self.name));
            }
            let mut held = self.lock();
            match due {
                Some(due) if held.len() < PACKETS_HELD_MAX => {
                    held.push_back(Packet { due, bytes: buffer[..len].to_vec() });
                    self.held.1.notify_one();
                }
                _ => {
                    self.counters.lost.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// Writes each packet at its time.
    fn deliver(&self) {
        sys::precise_sleep();
        while !self.stop.load(Ordering::Relaxed) {
            let Some(packet) = self.next() else { continue };
            let now = Instant::now();
            if packet.due > now {
                thread::sleep(packet.due - now);
            }
            // A device that is gone, or a full one, loses the packet, as paths do.
            let _ = (&*self.to).write(&packet.bytes);
        }
    }

    fn next(&self) -> Option<Packet> {
        let held = self.lock();
        let (mut held, _) = self
            .held
            .1
            .wait_timeout_while(held, Duration::from_millis(STOP_CHECK_MS), |held| held.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        held.pop_front()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Packet>> {
        // Packets are pushed and popped whole.
        self.held.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Decides the fate of packets: pure, so that it can be tested.
struct Schedule {
    path: Path,
    random: u64,
    link_free: Instant,
    last_due: Instant,
}

impl Schedule {
    fn new(path: Path, seed: u64, now: Instant) -> Self {
        Self { path, random: seed | 1, link_free: now, last_due: now }
    }

    /// When a packet of `len` bytes read at `now` arrives; nothing when it is lost.
    fn due(&mut self, now: Instant, len: usize) -> Option<Instant> {
        let (lost, late) = (self.draw() < self.path.loss, self.draw());
        if lost {
            return None;
        }
        let mut at = now;
        if self.path.mbit > 0.0 {
            let start = self.link_free.max(now);
            if start - now > self.path.queue {
                return None;
            }
            let bits = f64::from(u32::try_from(len).unwrap_or(u32::MAX)) * 8.0;
            self.link_free = start + Duration::from_secs_f64(bits / (self.path.mbit * 1e6));
            at = self.link_free;
        }
        let due = (at + self.path.delay + self.path.jitter.mul_f64(late)).max(self.last_due);
        self.last_due = due;
        Some(due)
    }

    /// The next number in 0..1 (splitmix64).
    fn draw(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        f64::from(u32::try_from(z >> 32).unwrap_or(0)) / (f64::from(u32::MAX) + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Path = Path {
        delay: Duration::from_millis(25),
        jitter: Duration::ZERO,
        loss: 0.0,
        mbit: 0.0,
        queue: Duration::from_millis(10),
        seed: 1,
        trace: Trace::Off,
    };

    #[test]
    fn delay_alone_is_exact() {
        let now = Instant::now();
        let mut schedule = Schedule::new(PLAIN, 1, now);
        assert_eq!(schedule.due(now, 100), Some(now + PLAIN.delay));
    }

    #[test]
    fn jitter_keeps_order_and_bounds() {
        let now = Instant::now();
        let jitter = Duration::from_millis(5);
        let mut schedule = Schedule::new(Path { jitter, ..PLAIN }, 7, now);
        let mut last = now;
        for step in 0..1_000 {
            let sent = now + Duration::from_micros(step);
            let due = schedule.due(sent, 100).unwrap();
            assert!(due >= last && due >= sent + PLAIN.delay);
            assert!(due <= sent + PLAIN.delay + jitter);
            last = due;
        }
        assert!(last > now + PLAIN.delay + jitter / 2, "no jitter was drawn");
    }

    #[test]
    fn loss_is_about_its_share() {
        let now = Instant::now();
        let mut schedule = Schedule::new(Path { loss: 0.1, ..PLAIN }, 3, now);
        let lost = (0..10_000).filter(|_| schedule.due(now, 100).is_none()).count();
        assert!((800..1_200).contains(&lost), "{lost}");
    }

    #[test]
    fn rate_spaces_packets_and_the_queue_drops() {
        let now = Instant::now();
        // 1,250 bytes at 1 Mbit/s take 10 ms, as long as the queue may be.
        let mut schedule = Schedule::new(Path { mbit: 1.0, ..PLAIN }, 3, now);
        let first = schedule.due(now, 1_250).unwrap();
        let second = schedule.due(now, 1_250).unwrap();
        assert_eq!(second - first, Duration::from_millis(10));
        assert_eq!(schedule.due(now, 1_250), None);
        assert!(schedule.due(now + Duration::from_millis(30), 1_250).is_some());
    }

    #[test]
    fn a_lab_delays_and_leaves_nothing_behind() {
        if let Some(reason) = missing() {
            println!("skipped: {reason}");
            return;
        }
        let lab = Lab::open(PLAIN).unwrap();
        let server = crate::stage::Stage::start("lab-server", Lab::place(Side::Server)).unwrap();
        let client = crate::stage::Stage::start("lab-client", Lab::place(Side::Client)).unwrap();
        let patience = Duration::from_secs(20);
        let port = server
            .run(patience, || async {
                let socket = tokio::net::UdpSocket::bind((Side::Server.address(), 0)).await?;
                let port = socket.local_addr()?.port();
                tokio::spawn(async move {
                    let mut buffer = [0; 64];
                    while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
                        let _ = socket.send_to(&buffer[..len], from).await;
                    }
                });
                Ok(port)
            })
            .unwrap();
        let elapsed = client
            .run(patience, move || async move {
                let socket = tokio::net::UdpSocket::bind((Side::Client.address(), 0)).await?;
                let start = Instant::now();
                socket.send_to(b"hello", (Side::Server.address(), port)).await?;
                let mut buffer = [0; 64];
                let (len, _) = socket.recv_from(&mut buffer).await?;
                anyhow::ensure!(&buffer[..len] == b"hello");
                Ok(start.elapsed())
            })
            .unwrap();
        assert!(elapsed >= 2 * PLAIN.delay, "{elapsed:?}");
        assert!(lab.traffic().packets >= 2);
        drop((client, server, lab));
        assert!(!handle(&Side::Client.name()).exists());
        assert!(!handle(&Side::Server.name()).exists());
    }
}
