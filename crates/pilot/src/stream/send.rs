//! The sending half: what was written, what is under way, what the peer has.

mod loss;

use std::collections::VecDeque;
use std::time::Duration;

use comity_core::Time;

use super::rtt::Rtt;
use super::{position, sack, window_bytes};

/// Segments under way, whatever the windows say: bounds the scoreboard.
pub(super) const FLIGHT_MAX: usize = 8192;

/// A segment under way.
#[derive(Debug)]
struct Sent {
    start: u64,
    end: u64,
    at: Time,
    again: bool,
    sacked: bool,
    lost: bool,
}

impl Sent {
    const fn bytes(&self) -> u64 {
        self.end - self.start
    }

    const fn under_way(&self) -> bool {
        !self.sacked && !self.lost
    }
}

/// A loss is being made good.
#[derive(Clone, Copy, Debug)]
struct Recovery {
    /// Until everything before this is acknowledged.
    until: u64,
    /// The retransmission timer found it: the window grows meanwhile, from one segment.
    by_timeout: bool,
}

/// The end of what was under way was sounded.
#[derive(Clone, Copy, Debug)]
struct Tail {
    /// Where it ended.
    next: u64,
    /// With its last segment, and not with new data.
    again: bool,
}

/// What an acknowledgement did.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Newly acknowledged in order.
    pub(super) bytes: u64,
    /// A round trip measured.
    pub(super) rtt: Option<Duration>,
    /// A loss was found, the first of this round trip.
    pub(super) loss_event: bool,
    /// The last loss is made good.
    pub(super) recovered: bool,
    /// The congestion window was what kept more from being sent.
    pub(super) was_limited: bool,
}

#[derive(Debug)]
pub(super) struct SendSide {
    pub(super) segment_bytes: usize,
    pub(super) flight_max: usize,
    pub(super) segments: u64,
    /// The congestion window at each of them, in bytes.
    pub(super) window_sum: u64,
    pub(super) retransmitted: u64,
    pub(super) reductions: u64,
    pub(super) timeouts: u64,
    /// What was sent and not acknowledged in order when a loss was last found (FlightSize of RFC 5681): less would be halved again for what
    /// arrived out of order behind it.
    pub(super) flight_before_loss: u64,
    /// Written and not acknowledged; the first byte is at `first`.
    buffer: VecDeque<u8>,
    capacity: usize,
    first: u64,
    next: u64,
    flight: VecDeque<Sent>,
    pipe: u64,
    lost: usize,
    sacked: usize,
    edge: u64,
    window: u16,
    heard: bool,
    recovery: Option<Recovery>,
    /// Segments in `flight` that were sent more than once.
    again: usize,
    /// When the latest sent segment known to have arrived was sent, and where it ends.
    latest: (Time, u64),
    /// How long it took it to be acknowledged.
    latest_took: Duration,
    /// Where the highest segment known to have arrived ends.
    highest: u64,
    /// Segments overtook each other on this path.
    reordered: bool,
    tail: Option<Tail>,
    /// The next segment leaves whatever the congestion window says.
    beyond: bool,
    /// When what may only have been overtaken is to be taken for lost.
    pub(super) reorder_at: Option<Time>,
    limited: bool,
    timed_out_at: Option<u64>,
}

impl SendSide {
    pub(super) fn new(segment_bytes: usize, capacity: usize) -> Self {
        Self {
            segment_bytes,
            flight_max: FLIGHT_MAX,
            segments: 0,
            window_sum: 0,
            retransmitted: 0,
            reductions: 0,
            timeouts: 0,
            flight_before_loss: 0,
            buffer: VecDeque::new(),
            capacity,
            // The SYN has number 0.
            first: 1,
            next: 1,
            flight: VecDeque::new(),
            pipe: 0,
            lost: 0,
            sacked: 0,
            edge: 1,
            window: 0,
            heard: false,
            recovery: None,
            again: 0,
            latest: (Time::ZERO, 0),
            latest_took: Duration::ZERO,
            highest: 0,
            reordered: false,
            tail: None,
            beyond: false,
            reorder_at: None,
            limited: false,
            timed_out_at: None,
        }
    }

    pub(super) fn write(&mut self, data: &[u8]) -> usize {
        let count = data.len().min(self.room());
        self.buffer.extend(&data[..count]);
        count
    }

    pub(super) fn room(&self) -> usize {
        self.capacity.saturating_sub(self.buffer.len())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    pub(super) fn unacknowledged(&self) -> u64 {
        self.buffer.len() as u64
    }

    pub(super) const fn acknowledged_bytes(&self) -> u64 {
        self.first - 1
    }

    pub(super) const fn first(&self) -> u64 {
        self.first
    }

    pub(super) const fn next_position(&self) -> u64 {
        self.next
    }

    pub(super) const fn pipe(&self) -> u64 {
        self.pipe
    }

    /// Whether the congestion window may grow: not while a loss is made good that acknowledgements told of.
    pub(super) fn may_grow(&self) -> bool {
        self.recovery.is_none_or(|recovery| recovery.by_timeout)
    }

    pub(super) fn has_flight(&self) -> bool {
        !self.flight.is_empty()
    }

    /// Whether the peer acknowledged anything, our SYN's answer included.
    pub(super) const fn was_acknowledged(&self) -> bool {
        self.heard
    }

    /// The window the peer opened the connection with.
    pub(super) fn window(&mut self, window: u16) {
        self.window = window;
        self.edge = self.edge.max(self.first + window_bytes(window));
    }

    /// Whether `wire` acknowledges our FIN, which follows everything written.
    pub(super) fn is_fin(&self, wire: u32) -> bool {
        position(wire, self.next) == Some(self.next + 1)
    }

    /// Whether data waits, nothing is under way and the peer's window is closed.
    pub(super) fn is_window_closed(&self) -> bool {
        let waiting = self.first + self.buffer.len() as u64 > self.next || self.lost > 0;
        waiting
            && self.pipe == 0
            && (self.window == 0 || (self.lost == 0 && self.edge <= self.next))
    }

    pub(super) fn copy(&self, start: u64, bytes: usize, out: &mut Vec<u8>) {
        let from = usize::try_from(start - self.first).expect("positions lie in the buffer");
        let (head, tail) = self.buffer.as_slices();
        let split = head.len().clamp(from, from + bytes);
        if from < split {
            out.extend_from_slice(&head[from..split]);
        }
        if split < from + bytes {
            out.extend_from_slice(&tail[split - head.len()..from + bytes - head.len()]);
        }
    }

    /// How much of `bytes` from `start` can go into one segment: one byte where Pilot's receivers would take the whole for a selective
    /// acknowledgement.
    fn cut(&self, start: u64, bytes: usize) -> usize {
        let from = usize::try_from(start - self.first).expect("positions lie in the buffer");
        if self.buffer.get(from) != Some(&b'S') {
            return bytes;
        }
        // A selective acknowledgement of the most blocks has 37 bytes.
        let mut head = Vec::with_capacity(40);
        self.copy(start, bytes.min(40), &mut head);
        if sack::looks_like_one(&head) { 1 } else { bytes }
    }

    /// The blocks of a payload, if it is a selective acknowledgement of what was sent: not below its own acknowledgement, not above
    /// what was sent. Anything else is data.
    pub(super) fn plausible_blocks(&self, ack: u32, payload: &[u8]) -> Option<Vec<(u64, u64)>> {
        let blocks = sack::decode(payload)?;
        let ack = position(ack, self.first)?;
        let block = |(left, right): (u32, u32)| {
            let (left, right) = (position(left, self.first)?, position(right, self.first)?);
            (left >= ack && left < right && right <= self.next).then_some((left, right))
        };
        blocks.into_iter().map(block).collect()
    }

    /// Takes an acknowledgement and its window; `None` when it is old or acknowledges what was never sent.
    pub(super) fn acknowledged(
        &mut self,
        now: Time,
        wire: u32,
        window: u16,
        blocks: &[(u64, u64)],
        rtt: &Rtt,
    ) -> Option<Outcome> {
        let ack = position(wire, self.first)?;
        if ack < self.first || ack > self.next + 1 {
            return None;
        }
        self.heard = true;
        let ack = ack.min(self.next);
        self.window = window;
        self.edge = self.edge.max(ack + window_bytes(window));
        let mut outcome =
            Outcome { bytes: ack - self.first, was_limited: self.limited, ..Outcome::default() };
        if outcome.bytes > 0 {
            self.advance(now, ack, rtt, &mut outcome);
        }
        for (left, right) in blocks {
            self.mark(*left, *right, now, rtt);
        }
        if self.recovery.is_some_and(|recovery| self.first >= recovery.until) {
            self.recovery = None;
            outcome.recovered = true;
        }
        outcome.loss_event = self.tail_acknowledged() | self.find_losses(now, rtt);
        Some(outcome)
    }

    /// Everything before `ack` has arrived.
    fn advance(&mut self, now: Time, ack: u64, rtt: &Rtt, outcome: &mut Outcome) {
        while let Some(sent) = self.flight.front_mut() {
            if sent.start >= ack {
                break;
            }
            if sent.end > ack {
                let part = ack - sent.start;
                if sent.under_way() {
                    self.pipe -= part;
                }
                sent.start = ack;
                break;
            }
            let Some(sent) = self.flight.pop_front() else { break };
            if sent.under_way() {
                self.pipe -= sent.bytes();
            }
            self.lost -= usize::from(sent.lost);
            self.sacked -= usize::from(sent.sacked);
            self.again -= usize::from(sent.again);
            if !sent.sacked {
                if !sent.again {
                    outcome.rtt = Some(now.saturating_since(sent.at));
                }
                self.arrived(now, sent.at, sent.end, sent.again, rtt);
            }
        }
        let count = usize::try_from(ack - self.first).unwrap_or(usize::MAX);
        self.buffer.drain(..count.min(self.buffer.len()));
        self.first = ack;
        self.timed_out_at = None;
    }

    /// Everything between `left` and `right` has arrived out of order.
    fn mark(&mut self, left: u64, right: u64, now: Time, rtt: &Rtt) {
        let from = self.flight.partition_point(|sent| sent.start < left);
        let mut arrived = Vec::new();
        for sent in self.flight.range_mut(from..) {
            if sent.end > right {
                break;
            }
            if sent.sacked {
                continue;
            }
            if sent.lost {
                self.lost -= 1;
                sent.lost = false;
            } else {
                self.pipe -= sent.bytes();
            }
            sent.sacked = true;
            self.sacked += 1;
            arrived.push((sent.at, sent.end, sent.again));
        }
        for (at, end, again) in arrived {
            self.arrived(now, at, end, again, rtt);
        }
    }

    /// The next segment to be sent, noted as sent: position and bytes.
    pub(super) fn next_segment(&mut self, now: Time, congestion: u64) -> Option<(u64, usize)> {
        if self.lost > 0 {
            return self.next_lost(now, congestion);
        }
        if !self.may_send_new() {
            self.limited = false;
            return None;
        }
        let whole = self.waiting().min(self.segment_bytes as u64);
        let bytes = whole.min(self.edge - self.next);
        if bytes < whole && self.pipe > 0 {
            return None;
        }
        if self.pipe > 0 && self.pipe + bytes > congestion && !self.beyond {
            self.limited = true;
            return None;
        }
        let bytes = self.cut(self.next, usize::try_from(bytes).unwrap_or(self.segment_bytes));
        let (start, end) = (self.next, self.next + bytes as u64);
        self.next = end;
        self.count(bytes, congestion);
        self.flight.push_back(Sent {
            start,
            end,
            at: now,
            again: false,
            sacked: false,
            lost: false,
        });
        Some((start, bytes))
    }

    fn next_lost(&mut self, now: Time, congestion: u64) -> Option<(u64, usize)> {
        if self.window == 0 && self.pipe > 0 {
            return None;
        }
        let at = self.flight.iter().position(|sent| sent.lost)?;
        let (start, end) = (self.flight[at].start, self.flight[at].end);
        let whole = usize::try_from(end - start).unwrap_or(self.segment_bytes);
        let bytes = self.cut(start, whole.min(self.segment_bytes));
        if self.pipe > 0 && self.pipe + bytes as u64 > congestion && !self.beyond {
            self.limited = true;
            return None;
        }
        if bytes < whole {
            // The path became narrower, or the rest would be misread: two segments from now on.
            let middle = start + bytes as u64;
            self.flight[at].end = middle;
            let rest = Sent { start: middle, end, at: now, again: true, sacked: false, lost: true };
            self.flight.insert(at + 1, rest);
            self.lost += 1;
            self.again += 1;
        }
        let sent = &mut self.flight[at];
        self.again += usize::from(!sent.again);
        (sent.lost, sent.again, sent.at) = (false, true, now);
        self.lost -= 1;
        self.count(bytes, congestion);
        self.retransmitted += 1;
        Some((start, bytes))
    }

    /// Bytes that were never sent.
    fn waiting(&self) -> u64 {
        self.first + self.buffer.len() as u64 - self.next
    }

    /// Whether there is something new to send that the receiver has room for.
    fn may_send_new(&self) -> bool {
        let room = self.flight_max.min(self.window.into()).min(FLIGHT_MAX);
        self.waiting() > 0 && self.edge > self.next && self.flight.len() < room
    }

    const fn count(&mut self, bytes: usize, congestion: u64) {
        self.beyond = false;
        self.pipe += bytes as u64;
        self.segments += 1;
        self.window_sum += congestion;
    }
}
