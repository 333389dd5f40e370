//! Files that come in pieces, and what is there of them when a connection breaks: the next transfer of the same content goes on from it.

use std::collections::BTreeMap;
use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use comity_pilot::address::{NodeId, SocketAddress};
use comity_pilot::service::file::{self, Body, Message, Step, TransferId};
use data_encoding::HEXLOWER;
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};
use tokio::sync::Mutex as AsyncMutex;

use super::Inbox;

/// Bytes of a file that comes in pieces.
pub const FILE_BYTES_MAX: u64 = 16 << 30;
/// Files half received that are kept of one peer; those that no connection is busy with make room, the oldest first.
pub const PARTS_PER_PEER_MAX: usize = 16;
/// The same of all peers.
pub const PARTS_MAX: usize = 256;
/// A file half received is forgotten after this.
pub const PART_AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// What an earlier run of the node left of a file is read again, for its hash, up to this size: a sender waits five seconds for the answer.
const READ_AGAIN_MAX: u64 = 1 << 30;
/// Ending of files that are not whole yet.
pub(super) const PART: &str = "part";
/// Bytes read at a time.
const READ_BYTES: usize = 1 << 20;

/// One file on its way.
#[derive(Debug)]
struct Part {
    receiver: file::Receiver,
    file: File,
    path: PathBuf,
    /// The connection that it comes over: an earlier one, should it still speak, changes nothing any more.
    owner: u64,
}

type Key = (NodeId, TransferId);
type Shared = Arc<AsyncMutex<Part>>;

/// The files on their way.
#[derive(Debug, Default)]
pub(super) struct Parts {
    open: Mutex<(BTreeMap<Key, Shared>, u64)>,
}

/// What one connection brings: at most one file at a time.
#[derive(Debug, Default)]
pub(super) struct Incoming(Option<(Key, Shared, u64)>);

fn part_name((node, id): &Key) -> String {
    format!("{node}-{}.{PART}", HEXLOWER.encode(id))
}

/// When a file half received last grew, and whose it is.
fn parts_in(dir: &Path) -> io::Result<Vec<(SystemTime, PathBuf)>> {
    let mut parts = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        if path.extension().is_some_and(|end| end == PART) {
            parts.push((entry.metadata()?.modified()?, path));
        }
    }
    parts.sort();
    Ok(parts)
}

/// Forgets what nobody went on with for [`PART_AGE_MAX`].
pub(super) fn forget_old(dir: &Path) -> io::Result<()> {
    let now = SystemTime::now();
    for (changed, path) in parts_in(dir)? {
        if now.duration_since(changed).is_ok_and(|age| age > PART_AGE_MAX) {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

impl Parts {
    /// Makes room for one more file of a peer.
    fn make_room(&self, dir: &Path, node: NodeId) -> io::Result<()> {
        let parts = parts_in(dir)?;
        let prefix = format!("{node}-");
        let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
        let theirs = |path: &Path| name(path).is_some_and(|name| name.starts_with(&prefix));
        let of_peer = parts.iter().filter(|(_, path)| theirs(path)).count();
        if parts.len() < PARTS_MAX && of_peer < PARTS_PER_PEER_MAX {
            return Ok(());
        }
        let busy: Vec<String> = {
            let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.0.keys().map(part_name).collect()
        };
        let idle = |path: &Path| name(path).is_some_and(|name| !busy.contains(&name));
        let mut victims = parts.iter().filter(|(_, path)| idle(path));
        let victim = match of_peer >= PARTS_PER_PEER_MAX {
            true => victims.find(|(_, path)| theirs(path)),
            false => victims.next(),
        };
        let (_, path) = victim.ok_or_else(|| io::Error::other("too many files at once"))?;
        std::fs::remove_file(path)
    }

    /// An Init: the file goes on from what is there of it.
    pub(super) async fn begin(
        &self,
        inbox: &Inbox,
        from: SocketAddress,
        message: &Message,
        incoming: &mut Incoming,
    ) -> io::Result<Message> {
        let fresh = file::Receiver::new(message, FILE_BYTES_MAX).map_err(io::Error::other)?;
        self.end(incoming);
        let key = (from.address.node, message.id);
        let (known, owner) = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.1 += 1;
            (open.0.get(&key).cloned(), open.1)
        };
        if let Some(shared) = known {
            // Its connection may be dead and not know it yet: the newer one goes on.
            let mut part = shared.lock().await;
            if part.receiver.is_of(message) && part.path.exists() {
                part.owner = owner;
                part.file.flush().await?;
                let answer = part.receiver.begin();
                drop(part);
                *incoming = Incoming(Some((key, shared, owner)));
                return Ok(answer);
            }
        }
        // Refused now where there will be no room at the end.
        inbox.path(from, &fresh.name)?;
        let path = inbox.dir().join(part_name(&key));
        if !path.exists() {
            self.make_room(inbox.dir(), key.0)?;
        }
        let part = open_part(path, fresh, owner).await?;
        let answer = part.receiver.begin();
        let shared = Arc::new(AsyncMutex::new(part));
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.0.insert(key, Arc::clone(&shared));
        *incoming = Incoming(Some((key, shared, owner)));
        Ok(answer)
    }

    /// Any other message of a transfer.
    pub(super) async fn take(
        &self,
        inbox: &Inbox,
        from: SocketAddress,
        message: &Message,
        incoming: &mut Incoming,
    ) -> io::Result<Message> {
        let turn = || io::Error::other(file::FileError::Turn);
        let Some((_, shared, owner)) = &incoming.0 else { return Err(turn()) };
        let mut part = shared.lock().await;
        if part.owner != *owner {
            return Err(turn());
        }
        let step = part.receiver.receive(message).map_err(io::Error::other)?;
        let answer = match step {
            Step::Write { answer, .. } => {
                if let Body::Chunk { data, .. } = &message.body {
                    part.file.write_all(data).await?;
                }
                return Ok(answer);
            }
            Step::Keep(answer) => {
                part.file.sync_all().await?;
                let path = inbox.path(from, &part.receiver.name)?;
                tokio::fs::rename(&part.path, &path).await?;
                inbox.tell(&path);
                answer
            }
            Step::Discard(answer) => {
                tokio::fs::remove_file(&part.path).await?;
                answer
            }
        };
        drop(part);
        self.end(incoming);
        Ok(answer)
    }

    /// The connection is done with its file; what is there of it stays.
    pub(super) fn end(&self, incoming: &mut Incoming) {
        let Some((key, shared, owner)) = incoming.0.take() else { return };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // Busy with it is a connection that took over.
        let taken_over = shared.try_lock().map_or(true, |part| part.owner != owner);
        if !taken_over && open.0.get(&key).is_some_and(|known| Arc::ptr_eq(known, &shared)) {
            open.0.remove(&key);
        }
    }
}

/// Opens what is there of a file, or makes it.
async fn open_part(path: PathBuf, mut receiver: file::Receiver, owner: u64) -> io::Result<Part> {
    let mut options = tokio::fs::OpenOptions::new();
    let mut file = options.read(true).write(true).create(true).truncate(false).open(&path).await?;
    let there = file.metadata().await?.len();
    if there <= receiver.size().min(READ_AGAIN_MAX) {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let count = file.read(&mut buffer).await?;
            if count == 0 || !receiver.have(&buffer[..count]) {
                break;
            }
        }
    }
    // What does not count is written again.
    file.set_len(receiver.received()).await?;
    file.seek(SeekFrom::Start(receiver.received())).await?;
    Ok(Part { receiver, file, path, owner })
}
