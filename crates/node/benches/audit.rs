//! What the audit log costs: an entry appended, an entry proven among a million, a proof checked.
//!
//! `cargo bench -p comity --bench audit`; with `TMPDIR=/dev/shm` the disk's share is left out.

#![allow(clippy::print_stderr, reason = "a benchmark reports what is measured once")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use comity::audit::{Reader, Writer};
use comity_core::{Hash, Identity, Time};
use comity_trust::log::{Entry, Event, short_text};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Entries that one checkpoint covers: what gathers under load while the last one is synced, and the least that makes one due.
const BATCHES: [usize; 2] = [256, 4_096];
/// Entries that are written at once.
const WRITE_LEN: usize = 256;
/// Entries of the log that proofs are about.
const LOG_LEN: u64 = 1_000_000;

fn identity() -> Arc<Identity> {
    Arc::new(Identity::from_secret_bytes(&[5; 32]))
}

/// An entry as a served call leaves it.
fn served(number: u64) -> Entry {
    let event = Event::CallServed {
        receipt: Hash::of(&number.to_be_bytes()),
        caller: identity().id().into(),
        capability: short_text("ecb-reference-rates"),
        session: Hash([7; 32]),
        number,
    };
    Entry::new(Time::from_millis(1_768_000_000_000 + number), event)
}

fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("append");
    for batch in BATCHES {
        let directory = tempfile::tempdir().expect("a directory");
        let mut log = Writer::open(directory.path(), identity()).expect("a log");
        let entries: Vec<Entry> = (0..batch as u64).map(served).collect();
        group.throughput(Throughput::Elements(batch as u64)).sample_size(20);
        group.bench_function(format!("{batch} entries and a checkpoint"), |b| {
            b.iter(|| {
                for entries in entries.chunks(WRITE_LEN) {
                    log.append(entries).expect("the disk works");
                }
                log.checkpoint().expect("the disk works")
            });
        });
    }
    group.finish();
}

fn prove(c: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a directory");
    let mut log = Writer::open(directory.path(), identity()).expect("a log");
    let started = Instant::now();
    let entries: Vec<Entry> = (0..LOG_LEN).map(served).collect();
    for entries in entries.chunks(BATCHES[1]) {
        log.append(entries).expect("the disk works");
        log.checkpoint().expect("the disk works");
    }
    eprintln!("{LOG_LEN} entries written in {:?}", started.elapsed());
    drop(log);
    let started = Instant::now();
    let mut log = Reader::open(directory.path(), identity().id()).expect("the log");
    eprintln!("opened in {:?}", started.elapsed());
    let mut group = c.benchmark_group("a million entries");
    group.measurement_time(Duration::from_secs(5));
    let mut index = 0;
    let mut next = || {
        // Far from the last one, so that no file is in any cache of ours.
        index = (index + 387_433) % LOG_LEN;
        index
    };
    group.bench_function("inclusion proof", |b| {
        b.iter(|| log.inclusion(black_box(next())).expect("an entry"));
    });
    group.bench_function("entry with proof and checkpoint", |b| {
        b.iter(|| log.prove(black_box(next())).expect("an entry"));
    });
    let proof = log.prove(LOG_LEN / 3).expect("an entry");
    group.bench_function("verify a proof", |b| b.iter(|| black_box(&proof).verify()));
    group.finish();
    let started = Instant::now();
    let held =
        comity::audit::verify_directory(directory.path(), identity().id()).expect("in order");
    eprintln!("{} entries verified in {:?}", held.entries, started.elapsed());
}

criterion_group!(benches, append, prove);
criterion_main!(benches);
