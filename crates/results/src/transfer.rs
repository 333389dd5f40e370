//! Moving a large result: which holder is asked for which piece, and who is given up.
//!
//! Contract of the drive: report an event ([`Transfer::arrived`], [`Transfer::wrong`], [`Transfer::failed`], [`Transfer::limited`],
//! [`Transfer::lost`], [`Transfer::add`]), then call [`Transfer::step`] until it says [`Step::Wait`], [`Step::Done`] or [`Step::Stuck`]. Each [`Step::Ask`] is
//! answered by exactly one event, unless a [`Step::Cancel`] took it back.
//!
//! * The holder whose outline is used is asked for the **last piece** first, and nobody for anything else before that has come: it proves the
//!   outline's length ([`bulk`](crate::bulk)).
//! * A holder has a few pieces under way at a time: more while they come, fewer when it says that it is busy.
//! * A holder that sends **wrong bytes** is dropped at once. One that fails again and again, or is busy for too long, is dropped as well.
//! * Pieces of a holder that was dropped go back to the others. At the **end**, when nothing is left that nobody was asked for, holders that are
//!   through take over what others have under way; the first to come counts, and the other is told to stop. So a slow holder costs its own share
//!   of the speed, and no more.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use comity_core::{AgentId, Time};

/// Holders of one transfer at a time.
pub const HOLDERS_MAX: usize = 8;
/// Pieces under way from one holder.
pub const WINDOW_MAX: usize = 4;
/// Pieces under way from a holder that has sent none yet.
const WINDOW_FIRST: usize = 2;
/// Holders that are asked for one piece at a time.
const ASKERS_MAX: usize = 2;
/// A holder that fails so often in a row is dropped.
pub const FAILURES_MAX: u32 = 3;
/// A holder that is busy so often in a row is dropped: after two minutes, that is.
pub const LIMITED_MAX: u32 = 64;
/// Pause after a failure, doubled with each in a row.
pub const FAILURE_PAUSE: Duration = Duration::from_millis(200);
/// Pause after a holder said that it is busy, doubled with each in a row, up to [`LIMITED_PAUSE_MAX`].
pub const LIMITED_PAUSE: Duration = Duration::from_millis(100);
/// The longest such pause.
pub const LIMITED_PAUSE_MAX: Duration = Duration::from_secs(2);

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Ask a holder for a piece.
    Ask {
        /// Whom.
        holder: AgentId,
        /// For which piece.
        piece: u32,
    },
    /// The piece came from another holder: nobody waits for this one any more, and no event is to be reported of it.
    Cancel {
        /// Who was asked.
        holder: AgentId,
        /// For which piece.
        piece: u32,
    },
    /// Nothing, until something is reported, or until then.
    Wait {
        /// When a holder that was busy may be asked again.
        until: Option<Time>,
    },
    /// Every piece is there.
    Done,
    /// Pieces are missing, and there is nobody left to be asked.
    Stuck,
}

/// What became of the pieces of one transfer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Asked for.
    pub asked: u64,
    /// Arrived, right, for the first time.
    pub arrived: u64,
    /// Arrived when they were there already.
    pub twice: u64,
    /// Arrived wrong.
    pub wrong: u64,
}

/// One large result on its way.
#[derive(Debug, Clone)]
pub struct Transfer {
    last: u32,
    missing: BTreeSet<u32>,
    /// Missing, and nobody is asked for them.
    open: BTreeSet<u32>,
    /// Who is asked for a piece, the first to be asked first.
    asked: BTreeMap<u32, Vec<AgentId>>,
    holders: BTreeMap<AgentId, Holder>,
    cancels: VecDeque<(AgentId, u32)>,
    /// Whose outline it is.
    source: AgentId,
    counts: Counts,
}

#[derive(Debug, Clone)]
struct Holder {
    window: usize,
    /// Under way, in the order in which they were asked for.
    pieces: Vec<u32>,
    failures: u32,
    limited: u32,
    /// Not asked before then.
    paused: Time,
}

impl Holder {
    const fn new() -> Self {
        Self {
            window: WINDOW_FIRST,
            pieces: Vec::new(),
            failures: 0,
            limited: 0,
            paused: Time::from_secs(0),
        }
    }
}

impl Transfer {
    /// A transfer of `pieces` pieces by the outline of `source`, of which those in `there` have been verified already.
    #[must_use]
    pub fn new(pieces: u32, there: &BTreeSet<u32>, source: AgentId) -> Self {
        let missing: BTreeSet<u32> = (0..pieces).filter(|piece| !there.contains(piece)).collect();
        Self {
            last: pieces.saturating_sub(1),
            open: missing.clone(),
            missing,
            asked: BTreeMap::new(),
            holders: BTreeMap::from([(source, Holder::new())]),
            cancels: VecDeque::new(),
            source,
            counts: Counts::default(),
        }
    }

    /// Another holder. Returns whether it is taken: there may be [enough](HOLDERS_MAX).
    pub fn add(&mut self, holder: AgentId) -> bool {
        let taken = self.holders.len() < HOLDERS_MAX || self.holders.contains_key(&holder);
        if taken {
            self.holders.entry(holder).or_insert_with(Holder::new);
        }
        taken
    }

    /// Whether the outline's length is proved.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        !self.missing.contains(&self.last)
    }

    /// How many pieces are missing.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.missing.len()
    }

    /// What was asked for and came so far.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether this holder is still one of the transfer's.
    #[must_use]
    pub fn has(&self, holder: &AgentId) -> bool {
        self.holders.contains_key(holder)
    }

    /// A piece has come and is right. Returns whether it was missing.
    pub fn arrived(&mut self, holder: &AgentId, piece: u32) -> bool {
        self.answered(holder, piece);
        if let Some(holder) = self.holders.get_mut(holder) {
            holder.window = (holder.window + 1).min(WINDOW_MAX);
            (holder.failures, holder.limited) = (0, 0);
        }
        if !self.missing.remove(&piece) {
            self.counts.twice += 1;
            return false;
        }
        self.counts.arrived += 1;
        self.open.remove(&piece);
        for other in self.asked.remove(&piece).unwrap_or_default() {
            if let Some(known) = self.holders.get_mut(&other) {
                known.pieces.retain(|one| *one != piece);
            }
            self.cancels.push_back((other, piece));
        }
        true
    }

    /// What a holder sent as this piece is something else: it is not asked for anything any more.
    pub fn wrong(&mut self, holder: &AgentId, piece: u32) {
        self.answered(holder, piece);
        self.counts.wrong += 1;
        self.lost(holder);
    }

    /// A holder did not send a piece, for whatever reason. Returns whether it was dropped for it.
    pub fn failed(&mut self, holder: &AgentId, piece: u32, now: Time) -> bool {
        self.answered(holder, piece);
        let Some(known) = self.holders.get_mut(holder) else { return false };
        known.failures += 1;
        known.paused = now + FAILURE_PAUSE * (1 << known.failures.min(8));
        let over = known.failures >= FAILURES_MAX;
        if over {
            self.lost(holder);
        }
        over
    }

    /// A holder has too much to do just now.
    pub fn limited(&mut self, holder: &AgentId, piece: u32, now: Time) {
        self.answered(holder, piece);
        let Some(known) = self.holders.get_mut(holder) else { return };
        known.window = (known.window / 2).max(1);
        let pause = LIMITED_PAUSE * (1 << known.limited.min(8));
        known.paused = now + pause.min(LIMITED_PAUSE_MAX);
        known.limited += 1;
        if known.limited >= LIMITED_MAX {
            self.lost(holder);
        }
    }

    /// A holder is gone, or does not have the result any more.
    pub fn lost(&mut self, holder: &AgentId) {
        let Some(gone) = self.holders.remove(holder) else { return };
        for piece in gone.pieces {
            self.answered(holder, piece);
            self.cancels.push_back((*holder, piece));
        }
    }

    /// What to do now.
    pub fn step(&mut self, now: Time) -> Step {
        if let Some((holder, piece)) = self.cancels.pop_front() {
            return Step::Cancel { holder, piece };
        }
        if self.missing.is_empty() {
            return Step::Done;
        }
        if !self.is_settled() && !self.holders.contains_key(&self.source) {
            return Step::Stuck;
        }
        if let Some((holder, piece)) = self.choice(now) {
            self.open.remove(&piece);
            self.asked.entry(piece).or_default().push(holder);
            if let Some(known) = self.holders.get_mut(&holder) {
                known.pieces.push(piece);
            }
            self.counts.asked += 1;
            return Step::Ask { holder, piece };
        }
        let waits = self.holders.values().filter(|known| known.paused > now);
        match waits.map(|known| known.paused).min() {
            None if self.asked.is_empty() => Step::Stuck,
            until => Step::Wait { until },
        }
    }

    /// The next to ask, and for what: of those with room, who has least under way.
    fn choice(&self, now: Time) -> Option<(AgentId, u32)> {
        let free = self.holders.iter().filter(|(_, known)| {
            known.paused <= now && known.pieces.len() < known.window.min(WINDOW_MAX)
        });
        let mut free: Vec<(usize, AgentId)> =
            free.map(|(holder, known)| (known.pieces.len(), *holder)).collect();
        free.sort_unstable();
        if !self.is_settled() {
            let source = free.iter().any(|(_, holder)| *holder == self.source);
            return (source && self.open.contains(&self.last)).then_some((self.source, self.last));
        }
        let (_, first) = free.first()?;
        if let Some(piece) = self.open.first() {
            return Some((*first, *piece));
        }
        free.iter().find_map(|(_, holder)| Some((*holder, self.stolen(holder)?)))
    }

    /// A piece that somebody else has under way, the one that would come last: the newest of who has most.
    fn stolen(&self, thief: &AgentId) -> Option<u32> {
        let others = self.holders.iter().filter(|(holder, _)| *holder != thief);
        let alone = |piece: &u32| {
            self.asked
                .get(piece)
                .is_some_and(|askers| askers.len() < ASKERS_MAX && !askers.contains(thief))
        };
        let pieces = others.filter_map(|(_, known)| {
            let newest = known.pieces.iter().rev().find(|piece| alone(piece))?;
            Some((known.pieces.len(), *newest))
        });
        pieces.max().map(|(_, piece)| piece)
    }

    /// A holder is not asked for this piece any more.
    fn answered(&mut self, holder: &AgentId, piece: u32) {
        if let Some(known) = self.holders.get_mut(holder) {
            known.pieces.retain(|one| *one != piece);
        }
        if let Some(askers) = self.asked.get_mut(&piece) {
            askers.retain(|asker| asker != holder);
            if askers.is_empty() {
                self.asked.remove(&piece);
                if self.missing.contains(&piece) {
                    self.open.insert(piece);
                }
            }
        }
    }
}
