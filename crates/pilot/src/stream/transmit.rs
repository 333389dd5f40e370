//! What leaves: resets, the opening and the close, data, acknowledgements.

use comity_core::Time;

use super::{Body, Outgoing, PROBE_MIN, SYN_TIMEOUT, State, Stream, wire};
use crate::packet::Flags;

impl Stream {
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
                self.arm_retransmit(now);
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
        if let Some((acknowledgement, sack)) = self.receive.take_middle() {
            let position = self.send.next_position();
            let body = if sack.is_empty() { Body::Empty } else { Body::Sack(sack) };
            let outgoing = self.outgoing(now, Flags::ACK, position, body);
            self.probe_due = probe;
            return Some(Outgoing { acknowledgement, ..outgoing });
        }
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
