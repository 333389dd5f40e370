//! What must be lost: told by time, from what was sent later and has arrived (RACK, RFC 8985), and by the retransmission timer.

use std::time::Duration;

use comity_core::Time;

use super::super::rtt::Rtt;
use super::{Recovery, SendSide, Tail};

/// Segments selectively acknowledged at which nothing is waited for any more, unless segments were seen to overtake each other (RFC 8985,
/// DupThresh).
const SACKED_MAX: usize = 3;
/// Least time that an overtaken segment is waited for, where it is: below it timers are not exact.
const REORDER_MIN: Duration = Duration::from_millis(1);
/// How long released daemons hold an acknowledgement of a segment that comes alone.
const ACK_HELD_MAX: Duration = Duration::from_millis(40);
/// Share of the least round trip that an overtaken segment is waited for, as a divisor.
const REORDER_DIVISOR: u32 = 4;

impl SendSide {
    /// Notes that a segment has arrived. A retransmission acknowledged too soon was not what arrived.
    pub(super) fn arrived(&mut self, now: Time, at: Time, end: u64, again: bool, rtt: &Rtt) {
        let took = now.saturating_since(at);
        if !again || took >= rtt.least().unwrap_or_default() {
            if (at, end) > self.latest {
                self.latest = (at, end);
                self.latest_took = took;
            }
            // One that was sent once and comes behind a later one was overtaken.
            self.reordered |= !again && end < self.highest;
        }
        self.highest = self.highest.max(end);
    }

    /// Marks what must be lost by now; true when that begins a new recovery. What may only have been overtaken is looked at again at
    /// [`SendSide::reorder_at`].
    pub(in super::super) fn find_losses(&mut self, now: Time, rtt: &Rtt) -> bool {
        self.reorder_at = None;
        if self.sacked == 0 && self.again == 0 {
            // What is under way was sent in order, behind all that arrived.
            return false;
        }
        let sure = self.recovery.is_some() || self.sacked >= SACKED_MAX;
        let patience = if sure && !self.reordered {
            Duration::ZERO
        } else {
            (rtt.least().unwrap_or_default() / REORDER_DIVISOR).max(REORDER_MIN)
        };
        let wait = self.latest_took + patience;
        let mut found = false;
        for sent in &mut self.flight {
            let before = (sent.at, sent.end) < self.latest;
            if !before && !sent.again {
                // Everything further was sent later still.
                break;
            }
            if !before || !sent.under_way() {
                continue;
            }
            let due = sent.at + wait;
            if due <= now {
                sent.lost = true;
                self.lost += 1;
                self.pipe -= sent.bytes();
                found = true;
            } else {
                self.reorder_at = Some(self.reorder_at.map_or(due, |at| at.min(due)));
            }
        }
        if found && self.recovery.is_none() {
            self.recovery = Some(Recovery { until: self.next, by_timeout: false });
            self.flight_before_loss = self.next - self.first;
            self.reductions += 1;
            return true;
        }
        false
    }

    /// How long to wait for an acknowledgement before the end of what is under way is sounded (RFC 8985, section 7.2); none where other
    /// means find what is lost.
    pub(in super::super) fn tail_wait(&self, rtt: &Rtt) -> Option<Duration> {
        let quiet = self.recovery.is_none() && self.sacked == 0 && self.tail.is_none();
        let wait = rtt.smoothed().filter(|_| quiet && self.has_flight())? * 2;
        Some(if self.flight.len() == 1 { wait + ACK_HELD_MAX } else { wait.max(REORDER_MIN) })
    }

    /// Nothing was heard for [`SendSide::tail_wait`]: one more segment leaves, whatever the congestion window says, new data where there is
    /// some. Its acknowledgement tells what is lost of those before it.
    pub(in super::super) fn sound_tail(&mut self) {
        let is_new = self.may_send_new();
        if !is_new
            && let Some(last) = self.flight.back_mut()
            && last.under_way()
        {
            last.lost = true;
            self.lost += 1;
            self.pipe -= last.bytes();
        }
        self.tail = Some(Tail { next: self.next, again: !is_new });
        self.beyond = true;
    }

    /// What was acknowledged may be a tail that was sounded. True when that made a loss good which nothing else would tell of.
    pub(super) fn tail_acknowledged(&mut self) -> bool {
        let Some(tail) = self.tail.filter(|tail| self.first >= tail.next) else { return false };
        self.tail = None;
        if !tail.again || self.recovery.is_some() {
            return false;
        }
        self.flight_before_loss = self.next - self.first + self.segment_bytes as u64;
        self.reductions += 1;
        true
    }

    /// Nothing was heard for a timeout: everything not known to have arrived is taken for lost. True when that is news: not when what was
    /// sent again after the last one is missing again.
    pub(in super::super) fn timed_out(&mut self) -> bool {
        self.timeouts += 1;
        // A receiver may drop what it kept out of order: the second timeout at one place forgets what it said (RFC 2018, section 8).
        let again = self.timed_out_at.replace(self.first) == Some(self.first);
        (self.pipe, self.lost, self.sacked) = (0, 0, 0);
        for sent in &mut self.flight {
            sent.sacked &= !again;
            sent.lost = !sent.sacked;
            self.lost += usize::from(sent.lost);
            self.sacked += usize::from(sent.sacked);
        }
        (self.reorder_at, self.tail, self.beyond) = (None, None, false);
        self.flight_before_loss = self.next - self.first;
        self.recovery = Some(Recovery { until: self.next, by_timeout: true });
        self.limited = true;
        !again
    }
}
