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
//! RFC 9406, then NewReno's additive increase by bytes (RFC 3465) and halving once a round trip (RFC 6582); losses found by time from what
//! was sent later and arrived, and by sounding the end of what is under way (RACK-TLP, RFC 8985); delayed acknowledgements; zero-window probes; keep-alive.
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
mod transmit;
mod types;

use std::time::Duration;

use comity_core::Time;

use crate::packet::{Flags, WINDOW_UNIT_BYTES};
use congestion::Congestion;
use receive::ReceiveSide;
use rtt::Rtt;
use send::SendSide;

pub use types::{Body, Changes, Config, Failure, Outgoing, Read, Segment, Statistics, Timer};

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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    SynSent,
    Established,
    /// Our FIN is on the way.
    FinSent,
    TimeWait,
    Closed,
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
    tail_at: Option<Time>,
    probe_at: Option<Time>,
    probe_wait: Duration,
    probe_due: bool,
    probe_answered_at: Option<Time>,
    heard_at: Time,
    sent_at: Time,
    closing_at: Option<Time>,
    syn_sent_at: Time,
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
            tail_at: None,
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
            mean_window: self.send.window_sum / self.send.segments.max(1),
            segment_bytes: self.send.segment_bytes,
            segments: self.send.segments,
            retransmitted: self.send.retransmitted,
            reductions: self.send.reductions,
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
        (self.retransmit_at, self.tail_at) = (None, None);
        (self.probe_at, self.closing_at) = (None, None);
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
            } else if outcome.was_limited && self.send.may_grow() {
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
        self.retransmit_at = self.send.has_flight().then(|| now + self.rtt.timeout());
        self.tail_at = self.send.tail_wait(&self.rtt).map(|wait| now + wait);
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
            Timer::Tail => {
                self.tail_at = None;
                if self.state == State::Established {
                    self.send.sound_tail();
                    self.retransmit_at = Some(now + self.rtt.timeout());
                }
            }
            Timer::Reorder => {
                if self.send.find_losses(now, &self.rtt) {
                    self.congestion.lost(self.send.flight_before_loss);
                }
            }
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
                self.tail_at = None;
                let news = self.send.timed_out();
                self.congestion.timed_out(news.then_some(self.send.flight_before_loss));
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
            self.tail_at.filter(|_at| running).map(|at| (at, Timer::Tail)),
            self.send.reorder_at.filter(|_at| running).map(|at| (at, Timer::Reorder)),
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
