//! The reliable stream: one end of a connection as a pure state machine.
//!
//! # Drive contract
//!
//! ```text
//! loop {
//!     // 1. mutate: one of
//!     stream.receive(now, &segment); stream.timeout(now); stream.write(…); stream.read(now, …); stream.close(now); stream.abort();
//!     // 2. drain: every time, until None
//!     while let Some(out) = stream.poll_transmit(now) { … stream.payload(&out, &mut datagram) … }
//!     // 3. sleep until the next event or stream.poll_timeout()
//! }
//! ```
//!
//! # What it does
//! Sliding window with selective acknowledgement; RTT and timeout of RFC 6298 with Karn's rule; slow start with the delay-based exit of
//! RFC 9406, then NewReno's additive increase by bytes (RFC 3465) and halving once a round trip (RFC 6582); losses found by the
//! scoreboard (three segments selectively acknowledged above, RFC 6675) and, for retransmissions, by time (RFC 8985); delayed
//! acknowledgements; zero-window probes; keep-alive.
//!
//! # What Pilot's wire asks for
//! * A selective acknowledgement is a payload beginning `SACK`. Data that reads the same would be swallowed by Pilot's receivers: the sender
//!   cuts such a segment after its first byte. The receiver takes a payload for a selective acknowledgement only when its blocks lie in
//!   what was sent and not acknowledged.
//! * A FIN closes both directions. It leaves only when every byte written is acknowledged, is answered with FIN+ACK once, a FIN+ACK is never
//!   answered, nor is anything in TIME_WAIT: two ends can never keep each other busy.
//! * What ends otherwise is an error: see [`Failure`].

mod congestion;
mod receive;
mod rtt;
pub mod sack;
mod send;

use std::time::Duration;

use comity_core::Time;

use crate::packet::{Flags, WINDOW_UNIT_BYTES};
use congestion::Congestion;
use receive::ReceiveSide;
use rtt::Rtt;
use send::SendSide;

/// The segment that every Pilot release sends or takes, in bytes.
pub const SEGMENT_BYTES_MAX: usize = 4096;
/// The segment for paths of which nothing is known: a datagram of 1,231 bytes with everything around it, which IPv6 guarantees.
pub const SEGMENT_BYTES_SAFE: usize = 1152;
/// Attempts to open a connection; the first after [`SYN_TIMEOUT`], then twice as long each time.
pub const SYN_ATTEMPTS_MAX: u32 = 6;
/// Patience with the first SYN.
pub const SYN_TIMEOUT: Duration = Duration::from_millis(300);
/// Timeouts in a row without a word of the peer, after which the connection is given up.
pub const RETRANSMITS_MAX: u32 = 10;
/// Times a FIN is sent.
pub const FIN_ATTEMPTS_MAX: u32 = 4;
/// How long an acknowledgement may wait for a second segment or data of ours.
pub const ACK_DELAY: Duration = Duration::from_millis(10);
/// Segments at the beginning of a connection that are acknowledged at once, so that the sender's window opens quickly.
const QUICK_ACKS: u32 = 16;
/// How long the state of a closed connection is kept to swallow what is still on the way.
pub const TIME_WAIT: Duration = Duration::from_secs(10);
/// How long a FIN that overtook data waits for it.
pub const TRUNCATED_AFTER: Duration = Duration::from_secs(10);
/// After this long without a segment sent, an empty acknowledgement is.
pub const KEEPALIVE: Duration = Duration::from_secs(30);
/// After this long without a word of the peer the connection is given up.
pub const IDLE: Duration = Duration::from_secs(120);
/// First wait before a closed window is probed, doubled each time up to [`PROBE_MAX`].
pub const PROBE_MIN: Duration = Duration::from_millis(500);
/// Longest wait between probes.
pub const PROBE_MAX: Duration = Duration::from_secs(30);
/// Empty acknowledgements that look like probes are answered at most this often.
const PROBE_ANSWER: Duration = Duration::from_millis(100);

/// Sizes of one end.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Bytes of data in a segment sent, at most [`SEGMENT_BYTES_MAX`].
    pub segment_bytes: usize,
    /// Bytes the receiver keeps for the application; rounded down to units of 4,096, at least one.
    pub receive_bytes: usize,
    /// Bytes written and not acknowledged.
    pub send_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { segment_bytes: SEGMENT_BYTES_SAFE, receive_bytes: 4 << 20, send_bytes: 4 << 20 }
    }
}

/// The parts of a packet that a stream sees.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// SYN, ACK, FIN, RST.
    pub flags: Flags,
    /// Of the first payload byte.
    pub sequence: u32,
    /// The next byte the peer expects.
    pub acknowledgement: u32,
    /// The peer's free buffer in units of 4,096 bytes.
    pub window: u16,
    /// Data, or a selective acknowledgement.
    pub payload: &'a [u8],
}

/// A segment to be sent; [`Stream::payload`] appends its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// SYN, ACK, FIN, RST.
    pub flags: Flags,
    /// Of the first payload byte.
    pub sequence: u32,
    /// The next byte expected.
    pub acknowledgement: u32,
    /// Free buffer in units of 4,096 bytes.
    pub window: u16,
    /// What follows the header.
    pub body: Body,
}

/// What follows the header of a segment to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Nothing.
    Empty,
    /// A selective acknowledgement, encoded.
    Sack(Vec<u8>),
    /// That many bytes of the stream from there (positions are the machine's own).
    Data {
        /// Position of the first byte.
        start: u64,
        /// How many.
        bytes: usize,
    },
}

impl Body {
    /// Bytes of the payload.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::Sack(bytes) => bytes.len(),
            Self::Data { bytes, .. } => *bytes,
        }
    }

    /// Whether there is no payload.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Why a connection ended other than by a close after the last acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Nobody answered [`SYN_ATTEMPTS_MAX`] SYNs: no such node, no listener, or not trusted there (Pilot says nothing then).
    #[error(
        "no answer: the peer is away, does not listen on this port or does not trust this node"
    )]
    Unreachable,
    /// The peer has no such connection or listener.
    #[error("the peer refused or reset the connection")]
    Reset,
    /// Silence for too long.
    #[error("the peer fell silent")]
    TimedOut,
    /// The peer closed, and data it sent before never came.
    #[error("the peer closed before all it had sent arrived")]
    Truncated,
    /// The peer closed before it acknowledged that much of what was written here.
    #[error("the peer closed with {0} bytes written here not acknowledged")]
    PeerClosed(u64),
    /// Given up here.
    #[error("the connection was aborted")]
    Aborted,
}

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// That many bytes were put into the buffer.
    Data(usize),
    /// Nothing yet.
    Blocked,
    /// The peer closed and everything was read.
    End,
}

/// What changed since it was last asked, for whoever wakes readers and writers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The connection opened.
    pub established: bool,
    /// There is something to read, or the end.
    pub readable: bool,
    /// There is room to write, everything written was acknowledged, or the end.
    pub writable: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    SynSent,
    Established,
    /// Our FIN is on the way.
    FinSent,
    TimeWait,
    Closed,
}

/// What [`Stream::poll_timeout`] waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// A SYN, a FIN or data was not acknowledged.
    Retransmit,
    /// An acknowledgement was held back.
    Acknowledge,
    /// The peer's window is closed.
    Probe,
    /// Nothing was sent for long.
    KeepAlive,
    /// The peer said nothing for long.
    Idle,
    /// A FIN waits for data it overtook.
    Truncated,
    /// The state of a closed connection goes.
    TimeWait,
}

/// One end of a connection.
#[derive(Debug)]
pub struct Stream {
    state: State,
    failure: Option<Failure>,
    send: SendSide,
    receive: ReceiveSide,
    rtt: Rtt,
    congestion: Congestion,
    changes: Changes,
    /// SYN, or its answer, is to be sent.
    handshake_due: bool,
    reset_due: bool,
    fin_answer_due: bool,
    fin_answered: bool,
    close_wanted: bool,
    fin_attempts: u32,
    fin_due: bool,
    syn_attempts: u32,
    timeouts: u32,
    retransmit_at: Option<Time>,
    probe_at: Option<Time>,
    probe_wait: Duration,
    probe_due: bool,
    probe_answered_at: Option<Time>,
    heard_at: Time,
    sent_at: Time,
    closing_at: Option<Time>,
    syn_sent_at: Time,
}

/// Counters of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Smoothed round trip, once measured.
    pub smoothed_rtt: Option<Duration>,
    /// Congestion window in bytes.
    pub congestion_window: u64,
    /// Bytes sent and neither acknowledged nor lost.
    pub in_flight: u64,
    /// Segments sent again.
    pub retransmitted: u64,
    /// Times the retransmission timer fired.
    pub timeouts: u64,
    /// Bytes acknowledged by the peer.
    pub acknowledged: u64,
    /// Bytes given in order to the application's buffer.
    pub received: u64,
}

impl Stream {
    fn new(now: Time, config: &Config, state: State) -> Self {
        let segment = config.segment_bytes.clamp(1, SEGMENT_BYTES_MAX);
        Self {
            state,
            failure: None,
            send: SendSide::new(segment, config.send_bytes.max(segment)),
            receive: ReceiveSide::new(config.receive_bytes),
            rtt: Rtt::default(),
            congestion: Congestion::new(segment),
            changes: Changes::default(),
            handshake_due: true,
            reset_due: false,
            fin_answer_due: false,
            fin_answered: false,
            close_wanted: false,
            fin_attempts: 0,
            fin_due: false,
            syn_attempts: 0,
            timeouts: 0,
            retransmit_at: None,
            probe_at: None,
            probe_wait: PROBE_MIN,
            probe_due: false,
            probe_answered_at: None,
            heard_at: now,
            sent_at: now,
            closing_at: None,
            syn_sent_at: now,
        }
    }

    /// The end that opens the connection: a SYN is to be sent.
    #[must_use]
    pub fn connect(now: Time, config: &Config) -> Self {
        Self::new(now, config, State::SynSent)
    }

    /// The end that a SYN reached: its answer is to be sent, and the connection is open.
    #[must_use]
    pub fn accept(now: Time, config: &Config, syn: &Segment<'_>) -> Self {
        let mut stream = Self::new(now, config, State::Established);
        stream.receive.begin(syn.sequence);
        stream.send.window(syn.window);
        stream.changes.established = true;
        stream
    }

    /// Whether the connection is open, or was and has something left to read.
    #[must_use]
    pub fn is_established(&self) -> bool {
        self.state != State::SynSent && self.failure.is_none()
    }

    /// Whether nothing will be sent or expected any more, so that the state can go once the application is done with it.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed && !self.reset_due
    }

    /// Whether the two ends are done with each other: a SYN of the same ports is a new connection.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::TimeWait | State::Closed)
    }

    /// Why the connection ended, if not by a close.
    #[must_use]
    pub const fn failure(&self) -> Option<Failure> {
        self.failure
    }

    /// What changed since the last call.
    pub fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    /// Counters.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        Statistics {
            smoothed_rtt: self.rtt.smoothed(),
            congestion_window: self.congestion.window(),
            in_flight: self.send.pipe(),
            retransmitted: self.send.retransmitted,
            timeouts: self.send.timeouts,
            acknowledged: self.send.acknowledged_bytes(),
            received: self.receive.received(),
        }
    }

    /// Segments from now on carry at most that many bytes, retransmissions included: the path became narrower or wider.
    pub fn set_segment_bytes(&mut self, bytes: usize) {
        let bytes = bytes.clamp(1, SEGMENT_BYTES_MAX);
        self.send.segment_bytes = bytes;
        self.congestion.set_segment(bytes);
    }

    /// At most that many segments are under way: older Pilot releases keep no more than 128 that came out of order.
    pub fn set_flight_max(&mut self, segments: usize) {
        self.send.flight_max = segments.max(1);
    }

    /// Takes bytes to be sent, as many as there is room for.
    ///
    /// # Errors
    /// The [`Failure`] the connection ended with; [`Failure::Aborted`] after a close of this end, [`Failure::PeerClosed`] after one of the
    /// other.
    pub fn write(&mut self, data: &[u8]) -> Result<usize, Failure> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        if self.close_wanted {
            return Err(Failure::Aborted);
        }
        if self.is_over() {
            return Err(Failure::PeerClosed(0));
        }
        Ok(self.send.write(data))
    }

    /// Bytes that a write would take now.
    #[must_use]
    pub fn writable(&self) -> usize {
        self.send.room()
    }

    /// Whether every byte written was acknowledged.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.send.is_empty()
    }

    /// Gives received bytes to the application.
    ///
    /// # Errors
    /// The [`Failure`] the connection ended with, once everything received was read.
    pub fn read(&mut self, now: Time, out: &mut [u8]) -> Result<Read, Failure> {
        let count = self.receive.read(out);
        if count > 0 {
            if matches!(self.state, State::Established | State::FinSent) {
                self.receive.window_opened(now);
            }
            return Ok(Read::Data(count));
        }
        if out.is_empty() {
            return Ok(Read::Data(0));
        }
        if self.receive.ended() {
            return Ok(Read::End);
        }
        match self.failure {
            Some(failure) => Err(failure),
            None if self.is_over() => Ok(Read::End),
            None => Ok(Read::Blocked),
        }
    }

    /// No more will be written: the FIN leaves when everything is acknowledged.
    pub fn close(&mut self, now: Time) {
        if self.close_wanted {
            return;
        }
        self.close_wanted = true;
        if self.state == State::SynSent {
            self.fail(Failure::Aborted);
        }
        self.try_fin(now);
    }

    /// Gives the connection up and tells the peer.
    pub fn abort(&mut self) {
        if !self.is_over() {
            self.reset_due = self.state != State::SynSent;
            self.fail(Failure::Aborted);
        }
    }

    /// The tunnel below is gone: ends without a word to the peer.
    pub fn lost(&mut self, failure: Failure) {
        if !self.is_over() {
            self.fail(failure);
        }
    }

    fn fail(&mut self, failure: Failure) {
        self.state = State::Closed;
        self.failure = Some(failure);
        (self.changes.readable, self.changes.writable) = (true, true);
        self.handshake_due = false;
        self.stop_timers();
    }

    fn stop_timers(&mut self) {
        (self.retransmit_at, self.probe_at, self.closing_at) = (None, None, None);
        self.probe_due = false;
        self.fin_due = false;
        self.receive.forget_acks();
    }

    fn try_fin(&mut self, now: Time) {
        if self.state == State::Established && self.close_wanted && self.send.is_empty() {
            self.state = State::FinSent;
            self.fin_due = true;
            self.retransmit_at = Some(now + self.rtt.timeout());
        }
    }

    fn time_wait(&mut self, now: Time) {
        self.stop_timers();
        self.state = State::TimeWait;
        self.closing_at = Some(now + TIME_WAIT);
        (self.changes.readable, self.changes.writable) = (true, true);
    }

    /// Takes a segment of the peer.
    pub fn receive(&mut self, now: Time, segment: &Segment<'_>) {
        if self.state == State::Closed || self.state == State::TimeWait {
            return;
        }
        self.heard_at = now;
        self.timeouts = 0;
        if segment.flags.has(Flags::RST) {
            self.fail(Failure::Reset);
        } else if segment.flags.has(Flags::SYN) {
            self.receive_syn(now, segment);
        } else if self.state == State::SynSent {
            // Data that overtook the answer to our SYN comes again.
        } else if segment.flags.has(Flags::FIN) {
            self.receive_fin(now, segment);
        } else if segment.flags.has(Flags::ACK) {
            self.receive_ack(now, segment);
        }
    }

    fn receive_syn(&mut self, now: Time, segment: &Segment<'_>) {
        let answers = segment.flags.has(Flags::ACK);
        match self.state {
            State::SynSent if answers && segment.acknowledgement == 1 => {
                self.receive.begin(segment.sequence);
                self.send.window(segment.window);
                if self.syn_attempts == 1 {
                    self.rtt.sample(now.saturating_since(self.syn_sent_at));
                }
                self.state = State::Established;
                self.retransmit_at = None;
                self.receive.acknowledge_now();
                (self.changes.established, self.changes.writable) = (true, true);
                self.try_fin(now);
            }
            // The answer to the SYN was lost, or is still on its way.
            State::Established if !answers && !self.send.was_acknowledged() => {
                self.handshake_due = true;
            }
            // The acknowledgement of the answer was lost.
            State::Established if answers => self.receive.acknowledge_now(),
            State::SynSent
            | State::Established
            | State::FinSent
            | State::TimeWait
            | State::Closed => {}
        }
    }

    fn receive_fin(&mut self, now: Time, segment: &Segment<'_>) {
        let is_answer = segment.flags.has(Flags::ACK);
        if is_answer {
            self.acknowledged(now, segment, &[]);
            if self.state == State::FinSent && self.send.is_fin(segment.acknowledgement) {
                self.receive.end_at(segment.sequence);
                if self.receive.is_missing() {
                    self.failure = Some(Failure::Truncated);
                }
                return self.time_wait(now);
            }
        } else if segment.acknowledgement != 0 {
            // Released daemons leave the field empty; where it is not, it spares the last acknowledgement.
            self.acknowledged(now, segment, &[]);
        }
        if !self.receive.end_at(segment.sequence) {
            return;
        }
        if self.receive.ended() {
            self.peer_closed(now, is_answer);
        } else {
            // It overtook data: the peer hears what is missing, and for a while we wait for it.
            self.receive.acknowledge_now();
            self.fin_answered = is_answer;
            self.closing_at.get_or_insert(now + TRUNCATED_AFTER);
        }
    }

    /// Everything of the peer is here and it is done.
    fn peer_closed(&mut self, now: Time, was_answer: bool) {
        let left = self.send.unacknowledged();
        self.fin_answer_due = !was_answer && !self.fin_answered;
        self.fin_answered = true;
        if left > 0 {
            self.failure = Some(Failure::PeerClosed(left));
        }
        self.time_wait(now);
    }

    fn receive_ack(&mut self, now: Time, segment: &Segment<'_>) {
        let blocks = self.send.plausible_blocks(segment.acknowledgement, segment.payload);
        let is_data = !segment.payload.is_empty() && blocks.is_none();
        self.acknowledged(now, segment, blocks.as_deref().unwrap_or(&[]));
        if self.state == State::FinSent && self.send.is_fin(segment.acknowledgement) {
            return self.time_wait(now);
        }
        if is_data {
            let fresh = self.receive.data(now, segment.sequence, segment.payload);
            self.changes.readable |= fresh;
            if self.receive.ended() {
                self.peer_closed(now, self.fin_answered);
            }
        } else if blocks.is_none() {
            self.answer_probe(now);
        }
    }

    /// An empty acknowledgement while our window was closed asks whether it still is.
    fn answer_probe(&mut self, now: Time) {
        let due = self.probe_answered_at.is_none_or(|at| now >= at + PROBE_ANSWER);
        if due && self.receive.is_narrow() {
            self.probe_answered_at = Some(now);
            self.receive.acknowledge_now();
        }
    }

    fn acknowledged(&mut self, now: Time, segment: &Segment<'_>, blocks: &[(u64, u64)]) {
        let (ack, window) = (segment.acknowledgement, segment.window);
        let Some(outcome) = self.send.acknowledged(now, ack, window, blocks, &self.rtt) else {
            return;
        };
        if let Some(sample) = outcome.rtt {
            self.rtt.sample(sample);
            self.congestion.sample(sample, self.send.next_position(), self.send.first());
        }
        if outcome.bytes > 0 {
            self.rtt.relax();
            self.changes.writable = true;
            if outcome.recovered {
                self.congestion.recovered();
            } else if outcome.was_limited && !self.send.in_recovery() {
                self.congestion.grow(outcome.bytes);
            }
        }
        if outcome.loss_event {
            self.congestion.lost(self.send.flight_before_loss);
        }
        if outcome.bytes > 0 || outcome.loss_event {
            self.arm_retransmit(now);
        }
        self.try_fin(now);
    }

    fn arm_retransmit(&mut self, now: Time) {
        self.retransmit_at = (self.send.has_flight()).then(|| now + self.rtt.timeout());
    }

    /// To be called when [`Stream::poll_timeout`] is due; early calls change nothing.
    pub fn timeout(&mut self, now: Time) {
        while let Some((due, timer)) = self.poll_timeout() {
            if due > now {
                return;
            }
            self.fire(now, timer);
        }
    }

    fn fire(&mut self, now: Time, timer: Timer) {
        match timer {
            Timer::Retransmit => self.retransmit(now),
            Timer::Acknowledge => self.receive.acknowledge_now(),
            Timer::Probe => {
                self.probe_due = true;
                self.probe_wait = (self.probe_wait * 2).min(PROBE_MAX);
                self.probe_at = Some(now + self.probe_wait);
            }
            Timer::KeepAlive => {
                self.sent_at = now;
                self.probe_due = true;
            }
            Timer::Idle => self.fail(Failure::TimedOut),
            Timer::Truncated => {
                self.reset_due = true;
                self.fail(Failure::Truncated);
            }
            Timer::TimeWait => {
                self.state = State::Closed;
                self.closing_at = None;
            }
        }
    }

    fn retransmit(&mut self, now: Time) {
        self.rtt.back_off();
        match self.state {
            State::SynSent if self.syn_attempts >= SYN_ATTEMPTS_MAX => {
                self.fail(Failure::Unreachable);
            }
            State::SynSent => {
                self.handshake_due = true;
                self.retransmit_at = None;
            }
            // All data is acknowledged: a close that nobody answers is still a close.
            State::FinSent if self.fin_attempts >= FIN_ATTEMPTS_MAX => self.time_wait(now),
            State::FinSent => {
                self.fin_due = true;
                self.retransmit_at = Some(now + self.rtt.timeout());
            }
            State::Established if self.timeouts >= RETRANSMITS_MAX => {
                self.reset_due = true;
                self.fail(Failure::TimedOut);
            }
            State::Established => {
                self.timeouts += 1;
                let flight = self.send.pipe();
                self.send.timed_out();
                self.congestion.timed_out(flight);
                self.retransmit_at = Some(now + self.rtt.timeout());
            }
            State::TimeWait | State::Closed => self.retransmit_at = None,
        }
    }

    /// When [`Stream::timeout`] is due, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Time, Timer)> {
        let running = matches!(self.state, State::Established | State::FinSent);
        let closing = self.closing_at.map(|at| {
            (at, if self.state == State::TimeWait { Timer::TimeWait } else { Timer::Truncated })
        });
        [
            self.retransmit_at.map(|at| (at, Timer::Retransmit)),
            self.receive.ack_at().filter(|_at| running).map(|at| (at, Timer::Acknowledge)),
            self.probe_at.map(|at| (at, Timer::Probe)),
            running.then(|| (self.sent_at + KEEPALIVE, Timer::KeepAlive)),
            running.then(|| (self.heard_at + IDLE, Timer::Idle)),
            closing,
        ]
        .into_iter()
        .flatten()
        .min_by_key(|(at, _timer)| *at)
    }

    fn outgoing(&mut self, now: Time, flags: Flags, position: u64, body: Body) -> Outgoing {
        self.sent_at = now;
        let tells = flags.has(Flags::ACK) || flags.has(Flags::FIN);
        let acknowledgement = if tells { self.receive.acknowledged() } else { 0 };
        let window = if self.state == State::Closed { 0 } else { self.receive.advertise() };
        Outgoing { flags, sequence: wire(position), acknowledgement, window, body }
    }

    /// The next segment to be sent; its payload is appended by [`Stream::payload`] before anything else is called.
    pub fn poll_transmit(&mut self, now: Time) -> Option<Outgoing> {
        if std::mem::take(&mut self.reset_due) {
            return Some(self.outgoing(now, Flags::RST, self.send.next_position(), Body::Empty));
        }
        if std::mem::take(&mut self.fin_answer_due) {
            let position = self.send.next_position();
            return Some(self.outgoing(now, Flags::FIN_ACK, position, Body::Empty));
        }
        match self.state {
            State::Closed | State::TimeWait => None,
            State::SynSent => self.transmit_syn(now),
            State::Established | State::FinSent => {
                if std::mem::take(&mut self.handshake_due)
                    && !self.send.was_acknowledged()
                    && self.syn_attempts == 0
                    && self.is_passive()
                {
                    return Some(self.outgoing(now, Flags::SYN_ACK, 0, Body::Empty));
                }
                self.transmit_open(now)
            }
        }
    }

    /// Whether the peer opened the connection: then no SYN of ours was ever sent.
    const fn is_passive(&self) -> bool {
        self.syn_attempts == 0
    }

    fn transmit_syn(&mut self, now: Time) -> Option<Outgoing> {
        if !std::mem::take(&mut self.handshake_due) {
            return None;
        }
        self.syn_attempts += 1;
        self.syn_sent_at = now;
        let wait = SYN_TIMEOUT * 2u32.saturating_pow(self.syn_attempts - 1);
        self.retransmit_at = Some(now + wait);
        Some(self.outgoing(now, Flags::SYN, 0, Body::Empty))
    }

    fn transmit_open(&mut self, now: Time) -> Option<Outgoing> {
        if let Some((start, bytes)) = self.send.next_segment(now, self.congestion.window()) {
            self.receive.forget_acks();
            self.probe_at = None;
            self.probe_wait = PROBE_MIN;
            if self.retransmit_at.is_none() {
                self.retransmit_at = Some(now + self.rtt.timeout());
            }
            return Some(self.outgoing(now, Flags::ACK, start, Body::Data { start, bytes }));
        }
        if self.send.is_window_closed() && self.probe_at.is_none() {
            self.probe_at = Some(now + self.probe_wait);
        }
        if std::mem::take(&mut self.fin_due) {
            self.fin_attempts += 1;
            let position = self.send.next_position();
            return Some(self.outgoing(now, Flags::FIN, position, Body::Empty));
        }
        let probe = std::mem::take(&mut self.probe_due);
        if self.receive.take_ack() || probe {
            let sack = self.receive.sack();
            let body = if sack.is_empty() { Body::Empty } else { Body::Sack(sack) };
            let position = self.send.next_position();
            return Some(self.outgoing(now, Flags::ACK, position, body));
        }
        None
    }

    /// Appends the payload of a segment from [`Stream::poll_transmit`].
    pub fn payload(&self, outgoing: &Outgoing, out: &mut Vec<u8>) {
        match &outgoing.body {
            Body::Empty => {}
            Body::Sack(bytes) => out.extend_from_slice(bytes),
            Body::Data { start, bytes } => self.send.copy(*start, *bytes, out),
        }
    }
}

/// The low 32 bits of a position: what the wire carries.
fn wire(position: u64) -> u32 {
    u32::try_from(position & u64::from(u32::MAX)).expect("masked to 32 bits")
}

/// The position nearest to `near` whose low 32 bits are `wire`; `None` when that would be before the stream began.
fn position(wire_number: u32, near: u64) -> Option<u64> {
    let off = wire_number.wrapping_sub(wire(near)).cast_signed();
    near.checked_add_signed(off.into())
}

/// Bytes a window field stands for.
fn window_bytes(window: u16) -> u64 {
    u64::from(window) * u64::from(WINDOW_UNIT_BYTES)
}
