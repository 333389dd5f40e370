//! Reading a whole log against what was signed: every entry, every tile, the journal, the checkpoint.

use comity_core::Canonical as _;
use comity_trust::log::tile::{TILE_WIDTH, bundle_path, completed_tiles, tile_path, tile_root};
use comity_trust::log::{Entry, Event, SignedCheckpoint, tree};

use super::store::{AuditError, Log, Result, damaged};
use super::tiles;

/// What holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// Entries in the log.
    pub entries: u64,
    /// Of them, those whose contents were pruned; always the oldest.
    pub pruned: u64,
    /// The last checkpoint; none in a log that has none yet.
    pub checkpoint: Option<SignedCheckpoint>,
    /// Entries behind the checkpoint, which nothing signs yet.
    pub unsigned: u64,
    /// Entries of a kind that this version does not know.
    pub unknown: u64,
    /// Bytes at the end that are no whole entry: what a crash interrupted, or what a running node is writing.
    pub torn_bytes: u64,
}

/// Verifies everything. Opening checked the right edge, the journal and the checkpoint already; this reads what they stand on.
pub(super) fn verify(log: &mut Log, torn_bytes: u64) -> Result<Verified> {
    let mut seen = Seen::default();
    let mut sum = tree::Accumulator::new();
    let mut above: Vec<Vec<comity_core::Sha256Digest>> = Vec::new();
    for tile in 0..log.base / TILE_WIDTH {
        let hashes = tiles::read(&mut *log.disk, 0, tile)?;
        for (index, hash) in (tile * TILE_WIDTH..).zip(&hashes) {
            sum.push(hash);
            let entry = log.entry(index)?;
            if entry.as_deref().is_some_and(|entry| tree::leaf_hash(entry) != *hash) {
                return Err(AuditError::Rewritten { size: index + 1 });
            }
            seen.entry(index, entry.as_deref());
        }
        check_above(log, tile, &hashes, &mut above)?;
    }
    if sum.root() != tiles::root(&mut *log.disk, log.base)? {
        return damaged("its tiles contradict each other");
    }
    for index in log.base..log.size() {
        seen.entry(index, log.entry(index)?.as_deref());
    }
    if seen.absent > seen.pruned_before {
        return damaged(format!(
            "{} and perhaps others are missing, and no entry says that they were pruned",
            bundle_path(seen.pruned_before / TILE_WIDTH)
        ));
    }
    let checkpoint = log.last_checkpoint().cloned();
    Ok(Verified {
        entries: log.size(),
        pruned: seen.absent,
        unsigned: log.pending(),
        checkpoint,
        unknown: seen.unknown,
        torn_bytes,
    })
}

/// Tiles of the higher levels must repeat what follows from the lowest.
fn check_above(
    log: &mut Log,
    tile: u64,
    hashes: &[comity_core::Sha256Digest],
    above: &mut Vec<Vec<comity_core::Sha256Digest>>,
) -> Result<()> {
    let mut root = tile_root(hashes);
    for (level, n) in completed_tiles((tile + 1) * TILE_WIDTH) {
        let at = usize::from(level);
        if level > 0 {
            let expected = std::mem::take(&mut above[at - 1]);
            if tiles::read(&mut *log.disk, level, n)? != expected {
                return damaged(format!(
                    "{} is not what follows from the tiles below",
                    tile_path(level, n)
                ));
            }
            root = tile_root(&expected);
        }
        if above.len() <= at {
            above.push(Vec::new());
        }
        above[at].extend(root);
    }
    Ok(())
}

/// What goes by.
#[derive(Default)]
struct Seen {
    /// Entries that are not there.
    absent: u64,
    /// Up to where entries were said to be pruned.
    pruned_before: u64,
    unknown: u64,
}

impl Seen {
    fn entry(&mut self, index: u64, entry: Option<&[u8]>) {
        let Some(entry) = entry else {
            self.absent = index + 1;
            return;
        };
        match Entry::decode(entry) {
            Ok(Entry { event: Event::Pruned { before }, .. }) => {
                self.pruned_before = self.pruned_before.max(before);
            }
            Ok(_) => {}
            Err(_) => self.unknown += 1,
        }
    }
}
