//! The receiving half: order, buffer, window, when to acknowledge.

use std::collections::{BTreeMap, VecDeque};

use comity_core::Time;

use super::{ACK_DELAY, QUICK_ACKS, position, sack, window_bytes, wire};
use crate::packet::WINDOW_UNIT_BYTES;

/// Pieces kept that came out of order; further ones are dropped and come again.
const PIECES_MAX: usize = 4096;
/// Segments after which an acknowledgement leaves.
const SEGMENTS_PER_ACK: u32 = 2;

#[derive(Debug)]
pub(super) struct ReceiveSide {
    /// In order, not read yet.
    ready: VecDeque<u8>,
    capacity: usize,
    next: u64,
    first: u64,
    /// Past this nothing was allowed to be sent.
    edge: u64,
    pieces: BTreeMap<u64, Vec<u8>>,
    /// Where a piece last came in: its block is told first, as RFC 2018 asks.
    latest: Option<u64>,
    end: Option<u64>,
    ack_due: bool,
    /// The acknowledgement that was due before further segments came: it leaves too, so that a burst is not lost with one datagram.
    middle: Option<(u32, Vec<u8>)>,
    ack_at: Option<Time>,
    segments: u32,
    quick: u32,
    /// The peer was told of little room, and nothing it sent since shows that it knows of more.
    told_narrow: bool,
}

impl ReceiveSide {
    pub(super) fn new(capacity: usize) -> Self {
        let unit = WINDOW_UNIT_BYTES as usize;
        let units = (capacity / unit).clamp(1, usize::from(u16::MAX));
        Self {
            ready: VecDeque::new(),
            capacity: units * unit,
            next: 0,
            first: 0,
            edge: 0,
            pieces: BTreeMap::new(),
            latest: None,
            end: None,
            ack_due: false,
            middle: None,
            ack_at: None,
            segments: 0,
            quick: 0,
            told_narrow: false,
        }
    }

    /// The peer's first number, that of its SYN.
    pub(super) fn begin(&mut self, sequence: u32) {
        self.next = u64::from(sequence) + 1;
        self.first = self.next;
        self.edge = self.next + self.capacity as u64;
    }

    pub(super) fn acknowledged(&self) -> u32 {
        // The FIN takes a number of its own.
        wire(self.next + u64::from(self.ended()))
    }

    pub(super) const fn received(&self) -> u64 {
        self.next - self.first
    }

    fn free(&self) -> usize {
        self.capacity.saturating_sub(self.ready.len())
    }

    /// The window field; what it allows is remembered, for it is never taken back.
    pub(super) fn advertise(&mut self) -> u16 {
        let window = u16::try_from(self.free() / WINDOW_UNIT_BYTES as usize).unwrap_or(u16::MAX);
        self.edge = self.edge.max(self.next + window_bytes(window));
        self.told_narrow |= self.free() < self.capacity / 2;
        window
    }

    /// Whether the peer may be waiting for the window to open.
    pub(super) fn is_narrow(&self) -> bool {
        self.told_narrow || self.edge.saturating_sub(self.next) < self.capacity as u64 / 2
    }

    /// After a read: tells the peer when that opened the window noticeably.
    pub(super) fn window_opened(&mut self, _now: Time) {
        let told = self.edge.saturating_sub(self.next);
        let step = (self.capacity as u64 / 4).max(WINDOW_UNIT_BYTES.into());
        if self.free() as u64 >= told + step {
            self.ack_due = true;
        }
    }

    pub(super) fn acknowledge_now(&mut self) {
        self.ack_due = true;
        self.ack_at = None;
    }

    /// An acknowledgement leaves with something else.
    pub(super) fn forget_acks(&mut self) {
        // Selective acknowledgements need a segment of their own.
        self.ack_due &= !self.pieces.is_empty();
        self.middle = None;
        self.ack_at = None;
        self.segments = 0;
    }

    /// The acknowledgement in the middle of a burst: its number and payload.
    pub(super) fn take_middle(&mut self) -> Option<(u32, Vec<u8>)> {
        self.middle.take()
    }

    /// Before further segments change what is to be said.
    fn note_middle(&mut self) {
        if self.ack_due && self.middle.is_none() && self.segments >= SEGMENTS_PER_ACK {
            self.middle = Some((self.acknowledged(), self.sack()));
        }
    }

    pub(super) fn take_ack(&mut self) -> bool {
        if std::mem::take(&mut self.ack_due) {
            self.ack_at = None;
            self.segments = 0;
            return true;
        }
        false
    }

    pub(super) const fn ack_at(&self) -> Option<Time> {
        self.ack_at
    }

    /// Takes a data segment; true when there is more to read.
    pub(super) fn data(&mut self, now: Time, sequence: u32, payload: &[u8]) -> bool {
        let Some(start) = position(sequence, self.next) else { return false };
        let stop = (start + payload.len() as u64).min(self.edge).min(self.end.unwrap_or(u64::MAX));
        if stop <= self.next || start >= stop {
            // Seen before, or outside the window: the peer does not know.
            self.acknowledge_now();
            return false;
        }
        let from = self.next.max(start);
        let slice = |from: u64| &payload[offset(from, start)..offset(stop, start)];
        self.note_middle();
        self.segments += 1;
        if start > self.next {
            self.keep(from, slice(from));
            self.acknowledge_now();
            return false;
        }
        let filled = !self.pieces.is_empty();
        self.ready.extend(slice(from));
        self.next = stop;
        self.drain_pieces();
        self.told_narrow = false;
        self.quick = self.quick.saturating_add(1);
        if filled || self.segments >= SEGMENTS_PER_ACK || self.quick <= QUICK_ACKS || self.ended() {
            self.acknowledge_now();
        } else {
            self.ack_at.get_or_insert(now + ACK_DELAY);
        }
        true
    }

    /// Keeps a piece that came out of order, without what is kept already.
    fn keep(&mut self, start: u64, data: &[u8]) {
        let stop = start + data.len() as u64;
        let mut at = start;
        if let Some((before, piece)) = self.pieces.range(..=start).next_back() {
            at = at.max(before + piece.len() as u64);
        }
        while at < stop && self.pieces.len() < PIECES_MAX {
            let following = self.pieces.range(at..stop).next();
            let (until, resume) = match following {
                Some((begin, piece)) => (*begin, begin + piece.len() as u64),
                None => (stop, stop),
            };
            if until > at {
                self.pieces.insert(at, data[offset(at, start)..offset(until, start)].to_vec());
            }
            at = resume;
        }
        self.latest = Some(start);
    }

    fn drain_pieces(&mut self) {
        while let Some(entry) = self.pieces.first_entry() {
            if *entry.key() > self.next {
                break;
            }
            let (start, piece) = entry.remove_entry();
            let stop = start + piece.len() as u64;
            if stop > self.next {
                self.ready.extend(&piece[offset(self.next, start)..]);
                self.next = stop;
            }
        }
    }

    /// The peer's FIN has this number; false when that contradicts what was received.
    pub(super) fn end_at(&mut self, sequence: u32) -> bool {
        let Some(at) = position(sequence, self.next) else { return false };
        let known = self
            .pieces
            .last_key_value()
            .map_or(self.next, |(start, piece)| start + piece.len() as u64);
        if at < known.max(self.next) || self.end.is_some_and(|end| end != at) {
            return false;
        }
        self.end = Some(at);
        true
    }

    /// Whether the peer's FIN tells of more than is here.
    pub(super) fn is_missing(&self) -> bool {
        self.end.is_some_and(|end| end > self.next)
    }

    /// Whether everything up to the FIN is here.
    pub(super) fn ended(&self) -> bool {
        self.end.is_some_and(|end| end == self.next)
    }

    pub(super) fn read(&mut self, out: &mut [u8]) -> usize {
        let count = out.len().min(self.ready.len());
        let (head, tail) = self.ready.as_slices();
        let first = count.min(head.len());
        out[..first].copy_from_slice(&head[..first]);
        out[first..count].copy_from_slice(&tail[..count - first]);
        self.ready.drain(..count);
        count
    }

    /// The payload of an acknowledgement: nothing, or the blocks of what came out of order, the latest first.
    pub(super) fn sack(&self) -> Vec<u8> {
        if self.pieces.is_empty() {
            return Vec::new();
        }
        let mut blocks: Vec<(u64, u64)> = Vec::new();
        let mut latest = None;
        for (start, piece) in &self.pieces {
            let stop = start + piece.len() as u64;
            match blocks.last_mut() {
                Some(last) if last.1 == *start => last.1 = stop,
                _ => blocks.push((*start, stop)),
            }
            if self.latest.is_some_and(|at| *start <= at && at < stop) {
                latest = Some(blocks.len() - 1);
            }
        }
        if let Some(latest) = latest {
            let block = blocks.remove(latest);
            blocks.insert(0, block);
        }
        let blocks: Vec<sack::Block> = blocks
            .iter()
            .take(sack::BLOCKS_MAX)
            .map(|(left, right)| (wire(*left), wire(*right)))
            .collect();
        sack::encode(&blocks)
    }
}

fn offset(position: u64, start: u64) -> usize {
    usize::try_from(position - start).expect("inside one segment")
}
