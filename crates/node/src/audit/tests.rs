//! The log on a disk that fails at every operation, and in the hands of somebody who wants to change it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use comity_core::{Canonical as _, Hash, Identity, Sha256Digest, Time};
use comity_trust::log::tile::TILE_WIDTH;
use comity_trust::log::{Entry, Event, SignedCheckpoint, short_text, tile, tree};
use proptest::prelude::*;
use tokio::sync::watch;

use super::disk::Disk as _;
use super::export::{ExportError, export, verify_export};
use super::faults::{Crash, Fault, FaultyDisk};
use super::frame::{Chain, FrameKind};
use super::keeper::{Keeper, Losses, Message};
use super::store::{AuditError, Log, Recovery};
use super::{Reader, verify};

fn identity() -> Identity {
    Identity::from_secret_bytes(&[5; 32])
}

/// Entries of all lengths, the shortest and the longest among them.
fn entry(number: u64) -> Vec<u8> {
    let event = match number % 5 {
        0 => Event::CallMade {
            receipt: Hash([7; 32]),
            callee: identity().id().into(),
            capability: short_text("word-count"),
            signed: vec![0xab; usize::try_from(number * 37 % 1_400).unwrap_or(0)],
        },
        1 => Event::Stopped {},
        _ => Event::Lost { count: number, reason: short_text("test") },
    };
    Entry::new(Time::from_secs(number), event).encode()
}

fn open(disk: &FaultyDisk) -> Result<(Log, Recovery), AuditError> {
    Log::open(Box::new(disk.clone()), identity().id())
}

/// What a log was told and what it promised, up to a crash.
#[derive(Default)]
struct History {
    /// Entries handed over, also those of a call that failed.
    told: u64,
    /// Size and root of each checkpoint that was published.
    published: Vec<(u64, Sha256Digest)>,
}

impl History {
    /// Does as a node does: batches, a checkpoint after some, tiles after some of these.
    fn write(&mut self, disk: &FaultyDisk, batches: &[u64]) -> Result<(), AuditError> {
        let (mut log, _) = open(disk)?;
        for (number, count) in batches.iter().enumerate() {
            let first = self.told;
            self.told += count;
            log.append((first..self.told).map(entry).collect())?;
            if number % 2 == 1 {
                self.checkpoint(&mut log)?;
            }
            if number % 4 == 3 {
                log.write_tiles()?;
            }
        }
        self.checkpoint(&mut log)?;
        log.write_tiles()
    }

    fn checkpoint(&mut self, log: &mut Log) -> Result<(), AuditError> {
        let signed = log.checkpoint(&identity())?;
        self.published.push((signed.checkpoint().size, signed.checkpoint().root));
        Ok(())
    }

    /// Everything that has to hold for what is found afterwards; then goes on with it.
    fn check(mut self, found: &FaultyDisk, more: u64, context: &str) {
        let (mut log, recovery) =
            open(found).unwrap_or_else(|error| panic!("{context}: the log does not open: {error}"));
        let size = recovery.size;
        let promised = self.published.last().map_or(0, |(size, _)| *size);
        assert!(size >= promised, "{context}: {size} entries of {promised} promised");
        assert!(size <= self.told, "{context}: {size} entries of {} told", self.told);
        for index in 0..size {
            let found = log.entry(index).expect("it is there");
            assert_eq!(found.as_ref(), Some(&entry(index)), "{context}: entry {index}");
        }
        for (size, root) in &self.published {
            assert_eq!(tree::root(*size, &log.nodes()).as_ref(), Ok(root), "{context}: at {size}");
        }
        // It can be continued, and everything it says then holds.
        self.told = size;
        log.append((size..size + more).map(entry).collect()).expect("the disk works again");
        self.told += more;
        self.checkpoint(&mut log).expect("the disk works again");
        log.write_tiles().expect("the disk works again");
        let held = verify::verify(&mut log, 0).unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_eq!((held.entries, held.unsigned, held.pruned), (self.told, 0, 0), "{context}");
        drop(log);
        let (mut log, again) = open(found).expect("it opens again");
        assert_eq!((again.size, again.torn_bytes), (self.told, 0), "{context}");
        let (last, (old, root)) = (log.last_checkpoint().cloned(), self.published[0]);
        let last = *last.expect("it has one").checkpoint();
        let grown = log.prove_growth(old, last.size).expect("sizes it had");
        assert_eq!(grown.verify(&root, &last.root), Ok(()), "{context}: the first checkpoint");
    }
}

/// Every operation of a run, as often as there are interesting places in it.
fn faults(batches: &[u64], every_byte: bool) -> Vec<Fault> {
    let disk = FaultyDisk::default();
    History::default().write(&disk, batches).expect("no fault is planned");
    let mut faults = Vec::new();
    for (operation, length) in (0..).zip(disk.lengths()) {
        let places: BTreeSet<usize> = if every_byte {
            (0..=length).collect()
        } else {
            [0, 5, length / 2, length.saturating_sub(1), length]
                .into_iter()
                .filter(|place| *place <= length)
                .collect()
        };
        faults.extend(places.into_iter().map(|bytes| Fault { operation, bytes }));
    }
    faults
}

fn crash_at_each(batches: &[u64], faults: &[Fault], crashes: &[Crash], more: u64) {
    for fault in faults {
        for crash in crashes {
            let disk = FaultyDisk::failing_at(*fault);
            let mut history = History::default();
            let ended = history.write(&disk, batches);
            assert!(ended.is_err() && disk.struck(), "{fault:?} never struck");
            history.check(&disk.after(*crash), more, &format!("{fault:?}, {crash:?}"));
        }
    }
}

#[test]
fn nothing_promised_is_lost_wherever_the_machine_stops() {
    let batches = [3, 200, 56, 1, 30, 240, 2];
    let crashes = [Crash::Kill, Crash::PowerLoss(1), Crash::PowerLoss(2), Crash::PowerLoss(3)];
    crash_at_each(&batches, &faults(&batches, false), &crashes, 260);
}

#[test]
fn nothing_promised_is_lost_at_whatever_byte_it_stops() {
    let batches = [2, 1, 1, 3];
    let crashes = [Crash::Kill, Crash::PowerLoss(7)];
    crash_at_each(&batches, &faults(&batches, true), &crashes, 2);
}

#[test]
fn a_crash_while_recovering_from_a_crash_loses_no_more() {
    let batches = [3, 200, 56, 1, 30, 240, 2];
    let faults = faults(&batches, false);
    for (number, fault) in (0..).zip(faults.iter().step_by(7)) {
        let disk = FaultyDisk::failing_at(*fault);
        let mut history = History::default();
        history.write(&disk, &batches).expect_err("the fault strikes");
        let mut found = disk.after(Crash::PowerLoss(number));
        for step in 0..4 {
            found.fail_after(step, 0);
            // Whether it strikes depends on how much there is to clear away.
            let _opened = open(&found);
            found = found.after(Crash::PowerLoss(number * 31 + step));
        }
        history.check(&found, 260, &format!("{fault:?}, then while recovering"));
    }
}

/// A log at rest of 700 entries: two tiles, a journal, a checkpoint.
fn at_rest() -> FaultyDisk {
    let disk = FaultyDisk::default();
    History::default().write(&disk, &[300, 100, 200, 100]).expect("no fault is planned");
    disk
}

fn reopened(disk: &FaultyDisk) -> AuditError {
    open(disk).expect_err("the log must be refused")
}

#[test]
fn a_log_shorter_than_its_checkpoint_is_refused_loudly() {
    let disk = at_rest();
    let journal = disk.names().into_iter().find(|name| name.starts_with("journal-"));
    let journal = journal.expect("there is one");
    assert_eq!(journal, "journal-00000000000000000512");
    disk.tamper(&journal, |bytes| bytes.truncate(bytes.len() / 2));
    let refused = reopened(&disk);
    assert!(matches!(refused, AuditError::Truncated { signed: 700, .. }), "{refused}");
    assert!(refused.to_string().contains("restore the directory from a backup"), "{refused}");
    // Nothing was changed by looking at it.
    assert!(matches!(reopened(&disk), AuditError::Truncated { signed: 700, .. }));
}

#[test]
fn a_log_without_its_journal_is_refused() {
    let mut disk = at_rest();
    disk.remove("journal-00000000000000000512").expect("no fault is planned");
    assert!(matches!(reopened(&disk), AuditError::Truncated { found: 0, signed: 700 }));
    disk.remove("checkpoint").expect("no fault is planned");
    assert!(matches!(reopened(&disk), AuditError::Damaged { .. }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever a file of the log becomes: the log opens with everything that was signed, or it is refused.
    #[test]
    fn damage_anywhere_is_refused_or_harmless(which in 0_usize..8, at in any::<prop::sample::Index>(), how in 0_u8..4, with in any::<u8>()) {
        let disk = at_rest();
        let names = disk.names();
        let name = &names[which % names.len()];
        disk.tamper(name, |bytes| {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = bytes[at].wrapping_add(with.max(1)),
                1 => bytes.truncate(at),
                2 => bytes.extend(std::iter::repeat_n(with, at)),
                _ => drop(bytes.splice(at..at, [with; 9])),
            }
        });
        if let Ok((mut log, recovery)) = open(&disk) {
            prop_assert!(recovery.size >= 700);
            if verify::verify(&mut log, 0).is_ok() {
                for index in [0, 255, 256, 300, 511, 512, 699] {
                    prop_assert_eq!(log.entry(index).expect("verified"), Some(entry(index)));
                }
            }
        }
    }

    #[test]
    fn a_journal_of_any_bytes_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let disk = at_rest();
        disk.tamper("journal-00000000000000000512", |journal| *journal = bytes);
        prop_assert!(open(&disk).is_err());
    }
}

/// The frames of a journal, made anew around changed entries: what somebody with the program, and without the key, can do.
fn rewrite(bytes: &[u8], change: impl Fn(&mut Vec<Vec<u8>>)) -> Vec<u8> {
    let (mut reading, mut writing, mut rest, mut out) =
        (Chain::default(), Chain::default(), bytes, Vec::new());
    while let Some((kind, payload, after)) = reading.read(rest) {
        let mut payload = payload.to_vec();
        if kind == FrameKind::Entries {
            let entries = tile::decode_bundle(&payload).expect("small frames");
            let mut entries: Vec<Vec<u8>> =
                entries.into_iter().map(|entry| entry.unwrap_or_default().to_vec()).collect();
            change(&mut entries);
            payload = tile::encode_bundle(entries.iter().map(Vec::as_slice));
        }
        writing.push(kind, &payload, &mut out);
        rest = after;
    }
    out
}

#[test]
fn t24_a_journal_with_an_entry_changed_removed_or_added_is_refused() {
    let changes: [fn(&mut Vec<Vec<u8>>); 3] = [
        |entries| entries[0] = entry(9_999),
        |entries| drop(entries.remove(1)),
        |entries| entries.push(entry(9_999)),
    ];
    for change in changes {
        let disk = at_rest();
        disk.tamper("journal-00000000000000000512", |bytes| *bytes = rewrite(bytes, change));
        let refused = reopened(&disk);
        assert!(matches!(refused, AuditError::Rewritten { .. }), "{refused}");
    }
}

#[test]
fn t24_a_tile_or_bundle_that_was_changed_is_noticed() {
    // The last bundle and the tiles of the right edge are read on opening.
    for (name, at) in [("tile/entries/001", 10), ("tile/0/001", 40), ("tile/0/000", 40)] {
        let disk = at_rest();
        disk.tamper(name, |bytes| bytes[at] ^= 1);
        let refused = reopened(&disk);
        assert!(matches!(refused, AuditError::Rewritten { .. }), "{name}: {refused}");
    }
    // What lies further back is found by verifying.
    let disk = at_rest();
    disk.tamper("tile/entries/000", |bytes| bytes[40] ^= 1);
    let (mut log, _) = open(&disk).expect("its end is in order");
    let refused = verify::verify(&mut log, 0).expect_err("its beginning is not");
    assert!(matches!(refused, AuditError::Rewritten { .. }), "{refused}");
}

#[test]
fn the_log_or_checkpoint_of_another_agent_is_refused() {
    let disk = at_rest();
    let other = Identity::from_secret_bytes(&[6; 32]);
    let refused = Log::open(Box::new(disk.clone()), other.id()).expect_err("of another agent");
    assert!(refused.to_string().contains("it is the log of"), "{refused}");
    // Signed by the right key for other contents: the agent was made to sign a second history elsewhere.
    let elsewhere = FaultyDisk::default();
    let (mut log, _) = open(&elsewhere).expect("it begins");
    log.append((1_000..1_700).map(entry).collect()).expect("no fault is planned");
    let note = log.checkpoint(&identity()).expect("no fault is planned").note().to_string();
    disk.tamper("checkpoint", |bytes| *bytes = note.into_bytes());
    assert!(matches!(reopened(&disk), AuditError::Rewritten { size: 700 }));
}

#[test]
fn hashes_that_are_lost_or_wrong_are_made_again_or_not_used() {
    let mut disk = at_rest();
    disk.remove("nodes").expect("no fault is planned");
    let (mut log, _) = open(&disk).expect("the tiles have everything");
    let last = *log.last_checkpoint().expect("it has one").checkpoint();
    for index in [0, 255, 256, 511, 512, 699] {
        let proof = log.prove(index, &last).expect("an entry");
        assert_eq!(proof.verify(&tree::leaf_hash(&entry(index)), &last.root), Ok(()));
    }
    drop(log);
    // In the middle, where opening does not look: the proof is checked before it leaves.
    disk.tamper("nodes", |bytes| bytes[32 * 20] ^= 1);
    let (mut log, _) = open(&disk).expect("opening reads the right edge");
    let near = (0..32).filter(|index| log.prove(*index, &last).is_err()).count();
    assert!(near > 0, "a wrong hash led to a proof that does not hold");
    assert!(log.prove(300, &last).is_ok(), "and to no more than that");
}

#[test]
fn pruned_entries_leave_their_hashes_and_every_proof() {
    let disk = at_rest();
    let (mut log, _) = open(&disk).expect("in order");
    let last = *log.last_checkpoint().expect("it has one").checkpoint();
    // Deleting without a word is not pruning.
    let silent = disk.after(Crash::Kill);
    silent.clone().remove("tile/entries/000").expect("no fault is planned");
    let (mut robbed, _) = open(&silent).expect("its end is in order");
    let refused = verify::verify(&mut robbed, 0).expect_err("entries are missing");
    assert!(refused.to_string().contains("no entry says that they were pruned"), "{refused}");

    let pruned = Event::Pruned { before: 256 };
    log.append(vec![Entry::new(Time::from_secs(1), pruned).encode()]).expect("no fault");
    log.checkpoint(&identity()).expect("no fault is planned");
    assert_eq!(log.prune(300).expect("no fault is planned"), 256);
    assert_eq!(log.entry(100).expect("it was there"), None);
    assert_eq!(log.entry(256).expect("it is there"), Some(entry(256)));
    for index in [100, 255, 256, 699] {
        let proof = log.prove(index, &last).expect("an entry");
        assert_eq!(proof.verify(&tree::leaf_hash(&entry(index)), &last.root), Ok(()));
    }
    let held = verify::verify(&mut log, 0).expect("everything that is there holds");
    assert_eq!((held.entries, held.pruned), (701, 256));
}

#[test]
fn an_export_holds_for_any_range_and_for_no_other_contents() {
    let disk = at_rest();
    for (from, to) in
        [(0, None), (0, Some(700)), (1, Some(2)), (255, Some(513)), (700, None), (37, Some(699))]
    {
        let mut file = Vec::new();
        let mut log = Reader(open(&disk).expect("in order").0);
        export(&mut log, from, to, &mut file).expect("a range of the log");
        let held = verify_export(&mut file.as_slice()).expect("it holds");
        assert_eq!((held.from, held.to, held.pruned), (from, to.unwrap_or(700), 0));
        assert_eq!(held.log, identity().id());
    }
    let mut log = Reader(open(&disk).expect("in order").0);
    let refused = export(&mut log, 0, Some(701), &mut Vec::new());
    assert!(matches!(refused, Err(ExportError::Range { signed: 700, .. })));
    let mut file = Vec::new();
    export(&mut log, 250, Some(260), &mut file).expect("a range of the log");
    let text = String::from_utf8(file).expect("JSON is text");
    let lines: Vec<&str> = text.lines().collect();
    let held =
        |lines: &[&str]| verify_export(&mut format!("{}\n", lines.join("\n")).as_bytes()).is_ok();
    assert!(held(&lines));
    for without in 0..lines.len() {
        let mut fewer = lines.clone();
        fewer.remove(without);
        assert!(!held(&fewer), "without line {without}");
    }
    let mut swapped = lines.clone();
    swapped.swap(3, 4);
    assert!(!held(&swapped));
    let lied = lines[1].replacen("\"kind\":\"call-made\"", "\"kind\":\"lost\"", 1);
    assert_ne!(lied, lines[1]);
    assert!(!held(&[&lines[..1], &[&lied], &lines[2..]].concat()), "a line that says another kind");
    let more = [&lines[..], &lines[10..]].concat();
    assert!(!held(&more));
}

fn keeper(
    disks: Vec<FaultyDisk>,
) -> (Keeper, watch::Receiver<Option<SignedCheckpoint>>, Arc<Losses>) {
    let left = std::sync::Mutex::new(disks.into_iter());
    let reopen = Box::new(move || {
        let disk = left.lock().expect("not poisoned").next();
        let disk = disk.ok_or_else(|| std::io::Error::other("no disk is left"))?;
        Ok(Box::new(disk) as Box<dyn super::disk::Disk>)
    });
    let (latest, watched) = watch::channel(None);
    let losses = Arc::<Losses>::default();
    let now = Box::new(|| Time::from_secs(77));
    let (witnessed, _) = watch::channel(None);
    let opened =
        Keeper::open(Arc::new(identity()), now, reopen, Arc::clone(&losses), latest, witnessed);
    (opened.expect("an empty disk").0, watched, losses)
}

fn told(disk: &FaultyDisk) -> Vec<Event> {
    let (mut log, recovery) = open(disk).expect("in order");
    let entry = |index| log.entry(index).expect("it is there").expect("not pruned");
    (0..recovery.size).map(entry).map(|entry| Entry::decode(&entry).expect("ours").event).collect()
}

#[test]
fn a_disk_that_fails_and_works_again_leaves_a_log_that_says_what_is_missing() {
    let bad = FaultyDisk::default();
    let good = FaultyDisk::default();
    let (mut keeper, watched, losses) = keeper(vec![bad.clone(), good.clone()]);
    let stopped = |count| {
        (0..count)
            .map(|_| Message::Event(Time::from_secs(5), Event::Stopped {}))
            .collect::<Vec<_>>()
    };
    keeper.handle(&mut stopped(300));
    let before = watched.borrow().clone().expect("300 entries make a checkpoint due");
    assert_eq!(before.checkpoint().size, 300);
    bad.fail_after(0, 0);
    keeper.handle(&mut stopped(10));
    keeper.handle(&mut stopped(7));
    losses.unqueued.fetch_add(3, Ordering::Relaxed);
    // What the failed disk holds is what the next one is made of.
    let found = bad.after(Crash::PowerLoss(3));
    let copied: Vec<String> = found.names();
    for name in copied {
        let bytes = found.clone().read(&name, 1 << 20).expect("it works").expect("it is there");
        good.clone().write(&name, &bytes).expect("it works");
    }
    keeper.retry_now();
    keeper.handle(&mut stopped(256));
    let events = told(&good);
    let lost: Vec<&Event> =
        events.iter().filter(|event| matches!(event, Event::Lost { .. })).collect();
    let expected = [
        Event::Lost { count: 3, reason: short_text("the queue was full") },
        Event::Lost { count: 17, reason: short_text("the disk failed") },
    ];
    assert_eq!(lost, expected.iter().collect::<Vec<_>>());
    let after = watched.borrow().clone().expect("there is one");
    assert_eq!(after.checkpoint().size, events.len() as u64);
}

#[test]
fn a_flood_of_refused_calls_fills_a_few_entries() {
    let disk = FaultyDisk::default();
    let (mut keeper, _watched, _losses) = keeper(vec![disk.clone()]);
    let denied = |caller: u8, reason| Message::Denied {
        at: Time::from_secs(9),
        caller: comity_trust::RawKey([caller; 32]),
        capability: short_text("secrets"),
        reason,
    };
    let mut flood: Vec<Message> = (0..10_000).map(|_| denied(1, "denied")).collect();
    flood.extend((0..=255).map(|caller| denied(caller, "not-found")));
    keeper.handle(&mut flood);
    // A checkpoint makes them entries.
    keeper.handle(&mut (0..256).map(|_| Message::Event(Time::ZERO, Event::Stopped {})).collect());
    let events = told(&disk);
    let counts: Vec<u64> = events
        .iter()
        .filter_map(
            |event| if let Event::Denied { count, .. } = event { Some(*count) } else { None },
        )
        .collect();
    assert_eq!(counts.len(), 65, "64 kinds and one for all others");
    assert_eq!(counts.iter().sum::<u64>(), 10_256, "nothing is left out of the counts");
    assert!(counts.contains(&10_000));
}

#[test]
fn the_journal_gives_way_to_tiles_before_it_grows_without_bound() {
    let disk = FaultyDisk::default();
    let (mut keeper, watched, _losses) = keeper(vec![disk.clone()]);
    for _ in 0..30 {
        keeper
            .handle(&mut (0..500).map(|_| Message::Event(Time::ZERO, Event::Stopped {})).collect());
    }
    let names = disk.names();
    let bundles = names.iter().filter(|name| name.starts_with("tile/entries/")).count() as u64;
    let size = watched.borrow().as_ref().map_or(0, |signed| signed.checkpoint().size);
    assert_eq!(size, 15_000);
    assert!(size - bundles * TILE_WIDTH < 5_000, "{bundles} bundles of {size} entries");
    assert_eq!(names.iter().filter(|name| name.starts_with("journal-")).count(), 1);
}
