//! A disk in memory that behaves as badly as it may.
//!
//! It keeps, of every file and every directory, what is certain to survive a loss of power and what is merely there now. A fault strikes
//! at a chosen operation, in the middle of its bytes if it writes some; from then on nothing works. What is found afterwards is, after a
//! kill, everything that was there; after a loss of power, for each file and each name, anything between the two.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::disk::{Disk, directory_of};

/// When and where the disk fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// Counted over all operations that change something.
    pub(super) operation: u64,
    /// Bytes of it that are still written.
    pub(super) bytes: usize,
}

/// How it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Crash {
    /// The process dies; the system keeps what it was given.
    Kill,
    /// The power fails; what was not synced is there, or not, or in part, by this seed.
    PowerLoss(u64),
}

#[derive(Clone, Debug, Default)]
struct File {
    durable: Vec<u8>,
    /// Changes since the last sync, in order.
    pending: Vec<Change>,
    live: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Truncate(usize),
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { at, bytes } => {
                if content.len() < at + bytes.len() {
                    content.resize(at + bytes.len(), 0);
                }
                content[*at..*at + bytes.len()].copy_from_slice(bytes);
            }
            Self::Truncate(length) => content.resize(*length, 0),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<u64, File>,
    next: u64,
    /// Names now, and names that survive.
    live: BTreeMap<String, u64>,
    durable: BTreeMap<String, u64>,
    /// What each name meant since its directory was synced.
    meant: BTreeMap<String, Vec<Option<u64>>>,
    operations: u64,
    fault: Option<Fault>,
    dead: bool,
    /// Which operations wrote how many bytes: where faults can strike.
    lengths: Vec<usize>,
}

/// The disk; clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(super) struct FaultyDisk(Arc<Mutex<State>>);

impl FaultyDisk {
    pub(super) fn failing_at(fault: Fault) -> Self {
        let disk = Self::default();
        disk.state().fault = Some(fault);
        disk
    }

    /// Fails from now on at that many operations from here.
    pub(super) fn fail_after(&self, operations: u64, bytes: usize) {
        let mut state = self.state();
        state.fault = Some(Fault { operation: state.operations + operations, bytes });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For each operation so far, how many bytes it wrote.
    pub(super) fn lengths(&self) -> Vec<usize> {
        self.state().lengths.clone()
    }

    pub(super) fn struck(&self) -> bool {
        self.state().dead
    }

    /// Changes a file behind the log's back.
    pub(super) fn tamper(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let file = state.live[name];
        let file = state.files.get_mut(&file).expect("a name means a file");
        change(&mut file.live);
        file.durable.clone_from(&file.live);
        file.pending.clear();
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.state().live.keys().cloned().collect()
    }

    /// What is found when the machine runs again.
    pub(super) fn after(&self, crash: Crash) -> Self {
        let state = self.state();
        let mut found = State::default();
        let mut rng = match crash {
            Crash::Kill => None,
            Crash::PowerLoss(seed) => Some(ChaCha8Rng::seed_from_u64(seed)),
        };
        let names: BTreeSet<&String> = state.live.keys().chain(state.durable.keys()).collect();
        for name in names {
            let meant = match &mut rng {
                None => state.live.get(name).copied(),
                Some(rng) => {
                    let mut may = vec![state.durable.get(name).copied()];
                    may.extend(state.meant.get(name).into_iter().flatten().copied());
                    may[rng.random_range(0..may.len())]
                }
            };
            let Some(file) = meant.and_then(|file| state.files.get(&file)) else { continue };
            let content = match &mut rng {
                None => file.live.clone(),
                Some(rng) => surviving(file, rng),
            };
            let id = found.next;
            found.next += 1;
            let file = File { durable: content.clone(), pending: Vec::new(), live: content };
            found.files.insert(id, file);
            found.live.insert(name.clone(), id);
            found.durable.insert(name.clone(), id);
        }
        Self(Arc::new(Mutex::new(found)))
    }
}

/// Of each change since the last sync: all, nothing, its beginning, or its room filled with zeros.
fn surviving(file: &File, rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut content = file.durable.clone();
    for change in &file.pending {
        match (rng.random_range(0..4), change) {
            (0, _) => {}
            (1, change) => change.apply(&mut content),
            (2, Change::Write { at, bytes }) => {
                let kept = rng.random_range(0..=bytes.len());
                Change::Write { at: *at, bytes: bytes[..kept].to_vec() }.apply(&mut content);
            }
            (_, Change::Write { at, bytes }) => {
                Change::Write { at: *at, bytes: vec![0; bytes.len()] }.apply(&mut content);
            }
            (_, Change::Truncate(_)) => change.apply(&mut content),
        }
    }
    content
}

impl State {
    /// Counts an operation. Returns how many of its bytes it may write; an error if none at all.
    fn operate(&mut self, length: usize) -> io::Result<usize> {
        if self.dead {
            return Err(io::Error::other("the machine is off"));
        }
        let number = self.operations;
        self.operations += 1;
        self.lengths.push(length);
        match self.fault {
            Some(fault) if fault.operation == number => {
                self.dead = true;
                Ok(fault.bytes.min(length))
            }
            Some(_) | None => Ok(length),
        }
    }

    /// The operation's own answer: success only if it was whole.
    fn outcome(&self) -> io::Result<()> {
        if self.dead { Err(io::Error::other("the machine went off")) } else { Ok(()) }
    }

    fn name(&mut self, name: &str, means: Option<u64>) {
        match means {
            Some(file) => self.live.insert(name.to_owned(), file),
            None => self.live.remove(name),
        };
        self.meant.entry(name.to_owned()).or_default().push(means);
    }

    fn file(&mut self, name: &str) -> io::Result<&mut File> {
        let file = self.live.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.files.get_mut(file).expect("a name means a file"))
    }

    fn make(&mut self, name: &str) {
        let id = self.next;
        self.next += 1;
        self.files.insert(id, File::default());
        self.name(name, Some(id));
    }

    fn change(&mut self, name: &str, change: Change) -> io::Result<()> {
        let file = self.file(name)?;
        change.apply(&mut file.live);
        file.pending.push(change);
        Ok(())
    }
}

impl Disk for FaultyDisk {
    fn read(&mut self, name: &str, max: u64) -> io::Result<Option<Vec<u8>>> {
        let mut state = self.state();
        state.outcome()?;
        let Ok(file) = state.file(name) else { return Ok(None) };
        if file.live.len() as u64 > max {
            return Err(io::Error::other(format!("{name} is longer than it may be")));
        }
        Ok(Some(file.live.clone()))
    }

    fn read_at(&mut self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut state = self.state();
        state.outcome()?;
        let at = usize::try_from(offset).expect("small files");
        let file = state.file(name)?;
        let from = file.live.get(at..at + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(from);
        Ok(())
    }

    fn len(&mut self, name: &str) -> io::Result<Option<u64>> {
        let mut state = self.state();
        state.outcome()?;
        Ok(state.file(name).ok().map(|file| file.live.len() as u64))
    }

    fn list(&mut self, directory: &str) -> io::Result<Vec<String>> {
        let state = self.state();
        state.outcome()?;
        let inside = state.live.keys().filter(|name| directory_of(name) == directory);
        Ok(inside.map(|name| name.rsplit('/').next().unwrap_or(name).to_owned()).collect())
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let kept = state.operate(bytes.len())?;
        if !state.live.contains_key(name) {
            state.make(name);
        }
        let at = state.file(name)?.live.len();
        state.change(name, Change::Write { at, bytes: bytes[..kept].to_vec() })?;
        state.outcome()
    }

    fn truncate(&mut self, name: &str, length: u64) -> io::Result<()> {
        let mut state = self.state();
        state.operate(0)?;
        state.outcome()?;
        let length = usize::try_from(length).expect("small files");
        state.change(name, Change::Truncate(length))
    }

    fn write(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let kept = state.operate(bytes.len())?;
        if !state.live.contains_key(name) {
            state.make(name);
        }
        state.change(name, Change::Truncate(0))?;
        state.change(name, Change::Write { at: 0, bytes: bytes[..kept].to_vec() })?;
        state.outcome()
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.operate(0)?;
        // A sync that the fault strikes has done nothing.
        state.outcome()?;
        let file = state.file(name)?;
        file.durable.clone_from(&file.live);
        file.pending.clear();
        Ok(())
    }

    fn sync_directory(&mut self, directory: &str) -> io::Result<()> {
        let mut state = self.state();
        state.operate(0)?;
        state.outcome()?;
        let names: Vec<String> =
            state.meant.keys().filter(|name| directory_of(name) == directory).cloned().collect();
        for name in names {
            state.meant.remove(&name);
            match state.live.get(&name).copied() {
                Some(file) => state.durable.insert(name, file),
                None => state.durable.remove(&name),
            };
        }
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.operate(0)?;
        state.outcome()?;
        let file = *state.live.get(from).ok_or(io::ErrorKind::NotFound)?;
        state.name(to, Some(file));
        state.name(from, None);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.operate(0)?;
        state.outcome()?;
        if state.live.contains_key(name) {
            state.name(name, None);
        }
        Ok(())
    }
}
