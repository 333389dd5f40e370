//! The directory of large answers: bodies as files, each with what is said of it, and transfers that are not finished.
//!
//! Nothing here is believed for having been written: a statement is verified when it is read, a piece each time that it is used, and a file left behind by a
//! crash or a broken transfer proves again which of its pieces are right. So nothing is flushed, and no list of finished pieces is kept.
//!
//! ```text
//! QUESTION-RESPONSE.body    an answer (half of each hash, in hex)
//! QUESTION-RESPONSE.about   its statement and outline, and under what name others find it
//! RESPONSE.part             the pieces of an answer that have come so far
//! new-*                     an answer that is being received from its producer
//! ```

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use comity_core::canonical::{self, Version};
use comity_core::{DecodeError, Hash};
use comity_results::bulk::{
    BULK_BYTES_MAX, Large, MAX_OFFER, Offer, Outline, PIECE, WHOLE_MAX, piece_value,
};
use comity_results::key::IndexKey;
use data_encoding::HEXLOWER;
use minicbor::bytes::ByteVec;
use tempfile::NamedTempFile;
use tracing::{debug, warn};

/// Bytes of all large answers that are kept.
pub(crate) const SHELF_BYTES_MAX: usize = 2 << 30;
/// Bytes of all transfers that are not finished; the oldest are dropped.
const PARTIAL_BYTES_MAX: u64 = 2 << 30;
/// How long a transfer that nobody takes up again is kept.
const PARTIAL_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Longest file of what is said of an answer.
const ABOUT_BYTES_MAX: usize = MAX_OFFER + 1024;
/// Answers that are read at start.
const ABOUTS_MAX: usize = 4096;

/// See the module.
#[derive(Debug)]
pub(crate) struct Shelf {
    dir: PathBuf,
}

/// What is said of an answer on disk.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub(super) struct About {
    #[n(0)]
    version: Version<1>,
    /// An `Offer`.
    #[n(1)]
    offer: ByteVec,
    #[n(2)]
    pub(super) took_us: u64,
    /// What others know it as.
    #[n(3)]
    pub(super) key: Option<IndexKey>,
    /// The group among whose members it may be shared.
    #[n(4)]
    pub(super) group: Option<String>,
}

impl About {
    pub(super) fn new(
        offer: &Offer,
        took_us: u64,
        key: Option<IndexKey>,
        group: Option<String>,
    ) -> Self {
        Self { version: Version, offer: offer.encode().into(), took_us, key, group }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        canonical::encode_minicbor(self)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > ABOUT_BYTES_MAX {
            return Err(DecodeError::TooLong { length: bytes.len(), max: ABOUT_BYTES_MAX });
        }
        canonical::decode_minicbor(bytes)
    }

    pub(super) fn offer(&self) -> Result<Offer, DecodeError> {
        Offer::decode(&self.offer)
    }
}

/// A body as it came from its producer.
#[derive(Debug)]
pub(crate) enum Body {
    /// Short enough to be kept in memory.
    Whole(Vec<u8>),
    /// In a file.
    Spilled(Spilled),
}

/// A body in a file that has no place on the shelf yet; dropped, it is deleted.
#[derive(Debug)]
pub(crate) struct Spilled {
    pub(super) file: NamedTempFile,
    pub(super) outline: Outline,
}

/// Gathers a body while its items come: in memory while it is short, then in a file.
#[derive(Debug)]
pub(crate) struct Gathered {
    /// None when it is not to be kept, or cannot be.
    body: Option<Gathering>,
    shelf: Option<Arc<Shelf>>,
}

#[derive(Debug)]
enum Gathering {
    Memory(Vec<u8>),
    Disk(Spill),
}

#[derive(Debug)]
struct Spill {
    file: NamedTempFile,
    values: Vec<[u8; 32]>,
    /// What is not a whole piece yet.
    rest: Vec<u8>,
}

impl Gathered {
    /// Gathers for the shelf, if there is one.
    pub(crate) fn new(shelf: Option<Arc<Shelf>>) -> Self {
        Self { body: Some(Gathering::Memory(Vec::new())), shelf }
    }

    /// Gathers nothing.
    pub(crate) const fn nothing() -> Self {
        Self { body: None, shelf: None }
    }

    /// Adds an item. What grows too long, or finds no place on the disk, is not kept; the answer goes on without that.
    pub(crate) async fn add(&mut self, item: &[u8]) {
        match &mut self.body {
            Some(Gathering::Memory(body)) if body.len() + item.len() <= WHOLE_MAX => {
                body.extend_from_slice(item);
                return;
            }
            Some(Gathering::Memory(_) | Gathering::Disk(_)) => {}
            None => return,
        }
        self.body = match self.body.take() {
            Some(Gathering::Memory(body)) => match self.shelf.as_ref().map(|shelf| shelf.spill()) {
                Some(Ok(file)) => Spill { file, values: Vec::new(), rest: body }.add(item).await,
                Some(Err(error)) => {
                    warn!(%error, "a large answer is not kept: no file can be made for it");
                    None
                }
                None => None,
            },
            Some(Gathering::Disk(spill)) => spill.add(item).await,
            None => None,
        };
    }

    /// The whole body.
    pub(crate) async fn finish(self) -> Option<Body> {
        match self.body? {
            Gathering::Memory(body) => Some(Body::Whole(body)),
            Gathering::Disk(spill) => spill.finish().await.map(Body::Spilled),
        }
    }
}

impl Spill {
    async fn add(mut self, item: &[u8]) -> Option<Gathering> {
        let piece = usize::try_from(PIECE).unwrap_or(usize::MAX);
        self.rest.extend_from_slice(item);
        if self.rest.len() < piece {
            return Some(Gathering::Disk(self));
        }
        if self.size() > BULK_BYTES_MAX {
            debug!("an answer is too large to be kept");
            return None;
        }
        let end = self.rest.len() / piece * piece;
        let tail = self.rest.split_off(end);
        let whole = std::mem::replace(&mut self.rest, tail);
        self.write(whole).await.map(Gathering::Disk)
    }

    async fn finish(mut self) -> Option<Spilled> {
        if !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            let size = self.size() + rest.len() as u64;
            let Self { file, values, .. } = self.write(rest).await?;
            return Some(Spilled { file, outline: Outline::new(size, values)? });
        }
        let outline = Outline::new(self.size(), self.values)?;
        Some(Spilled { file: self.file, outline })
    }

    fn size(&self) -> u64 {
        self.values.len() as u64 * PIECE + self.rest.len() as u64
    }

    /// Writes pieces, all but the body's last whole, on a thread where that may take its time.
    async fn write(mut self, pieces: Vec<u8>) -> Option<Self> {
        let written = tokio::task::spawn_blocking(move || {
            self.file.as_file_mut().write_all(&pieces)?;
            for piece in pieces.chunks(usize::try_from(PIECE).unwrap_or(usize::MAX)) {
                let at = u32::try_from(self.values.len()).unwrap_or(u32::MAX);
                self.values.push(piece_value(at, piece));
            }
            Ok::<_, io::Error>(self)
        });
        match written.await {
            Ok(Ok(spill)) => Some(spill),
            Ok(Err(error)) => {
                warn!(%error, "a large answer is not kept: it cannot be written");
                None
            }
            Err(_) => None,
        }
    }
}

/// A transfer's file.
#[derive(Debug)]
pub(super) struct Part {
    file: File,
    path: PathBuf,
}

impl Shelf {
    /// Opens the directory, makes it if it is not there, and clears away what nobody will take up again.
    pub(crate) fn open(dir: PathBuf) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        let shelf = Self { dir };
        for path in shelf.files()? {
            if name_of(&path).starts_with("new-") {
                remove(&path);
            }
        }
        shelf.sweep();
        Ok(shelf)
    }

    fn files(&self) -> io::Result<Vec<PathBuf>> {
        let files = fs::read_dir(&self.dir)?.take(4 * ABOUTS_MAX);
        Ok(files.filter_map(|file| Some(file.ok()?.path())).collect())
    }

    /// Drops transfers that are too old, and the oldest of those that are too many. Returns how many bytes the others have.
    pub(super) fn sweep(&self) -> u64 {
        let parts = self.files().unwrap_or_default().into_iter().filter_map(|path| {
            let known = has_ending(&path, "part").then(|| fs::metadata(&path).ok()).flatten()?;
            Some((known.modified().ok()?, known.len(), path))
        });
        let mut parts: Vec<(SystemTime, u64, PathBuf)> = parts.collect();
        parts.sort();
        let mut bytes: u64 = parts.iter().map(|(_, length, _)| length).sum();
        for (at, length, path) in parts {
            let age = at.elapsed().unwrap_or_default();
            if age > PARTIAL_LIFE || bytes > PARTIAL_BYTES_MAX {
                remove(&path);
                bytes -= length;
            }
        }
        bytes
    }

    /// What is said of the answers that are there. What cannot be read, and bodies of which nothing is said, are deleted.
    pub(super) fn load(&self) -> Vec<(About, Offer, PathBuf)> {
        let Ok(files) = self.files() else { return Vec::new() };
        let mut found = Vec::new();
        for path in files.iter().filter(|path| has_ending(path, "about")) {
            let read = read_bounded(path).and_then(|bytes| About::decode(&bytes).ok());
            let known = read.and_then(|about| Some((about.offer().ok()?, about)));
            let body = path.with_extension("body");
            let length = fs::metadata(&body).map(|known| known.len()).unwrap_or_default();
            match known {
                Some((offer, about))
                    if offer.outline.size() == length && found.len() < ABOUTS_MAX =>
                {
                    found.push((about, offer, body));
                }
                Some(_) | None => discard(&body),
            }
        }
        for path in files.iter().filter(|path| has_ending(path, "body")) {
            if !path.with_extension("about").exists() {
                discard(path);
            }
        }
        found
    }

    fn spill(&self) -> io::Result<NamedTempFile> {
        tempfile::Builder::new().prefix("new-").tempfile_in(&self.dir)
    }

    /// Where the body of an answer is.
    pub(super) fn body(&self, large: &Large) -> PathBuf {
        let half = |hash: &Hash| HEXLOWER.encode(&hash.0[..16]);
        self.dir.join(format!("{}-{}.body", half(&large.question.0), half(&large.response())))
    }

    /// Gives a received body its place.
    pub(super) fn place(&self, large: &Large, about: &About, body: Arrived) -> io::Result<()> {
        let place = self.body(large);
        let mut said = tempfile::Builder::new().prefix("new-").tempfile_in(&self.dir)?;
        said.write_all(&about.encode())?;
        // The body first: of a body alone nothing is said, and it is deleted.
        match body {
            Arrived::Spilled(file) => drop(file.persist(&place).map_err(|error| error.error)?),
            Arrived::Moved(part) => fs::rename(&part.path, &place)?,
        }
        said.persist(place.with_extension("about")).map_err(|error| error.error)?;
        Ok(())
    }

    /// The file of a transfer, and which pieces of it are right.
    pub(super) fn part(
        &self,
        response: &Hash,
        outline: &Outline,
    ) -> io::Result<(Part, BTreeSet<u32>)> {
        let path = self.dir.join(format!("{}.part", HEXLOWER.encode(response.as_bytes())));
        let mut open = OpenOptions::new();
        open.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = open.open(&path)?;
        let part = Part { file, path };
        let length = part.file.metadata()?.len();
        let there = (0..outline.pieces()).filter(|piece| {
            outline.start(*piece) + outline.len_of(*piece) as u64 <= length
                && read_piece(&part.file, outline, *piece).is_ok_and(|right| right.is_some())
        });
        let there = there.collect();
        Ok((part, there))
    }
}

/// Where a body comes from that gets a place on the shelf.
#[derive(Debug)]
pub(super) enum Arrived {
    Spilled(NamedTempFile),
    Moved(Arc<Part>),
}

impl Part {
    /// Verifies a piece and writes it. Returns whether it is right.
    pub(super) fn put(&self, outline: &Outline, piece: u32, bytes: &[u8]) -> io::Result<bool> {
        if !outline.is_piece(piece, bytes) {
            return Ok(false);
        }
        self.file.write_all_at(bytes, outline.start(piece))?;
        Ok(true)
    }

    /// Whatever was there beyond the end of the body was never part of it.
    pub(super) fn cut(&self, outline: &Outline) -> io::Result<()> {
        self.file.set_len(outline.size())
    }
}

/// A piece of a file; none when it is not the one of the outline.
pub(super) fn read_piece(
    file: &File,
    outline: &Outline,
    piece: u32,
) -> io::Result<Option<Vec<u8>>> {
    let bytes = read_unverified(file, outline, piece)?;
    Ok(outline.is_piece(piece, &bytes).then_some(bytes))
}

/// A piece of a file, for who verifies it.
pub(super) fn read_unverified(file: &File, outline: &Outline, piece: u32) -> io::Result<Vec<u8>> {
    let length = outline.len_of(piece);
    let mut bytes = Vec::with_capacity(length);
    let mut file = file;
    file.seek(SeekFrom::Start(outline.start(piece)))?;
    file.take(length as u64).read_to_end(&mut bytes)?;
    if bytes.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

/// Deletes an answer.
pub(super) fn discard(body: &Path) {
    remove(&body.with_extension("about"));
    remove(body);
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        warn!(path = %path.display(), %error, "a file of a large answer cannot be deleted");
    }
}

fn read_bounded(path: &Path) -> Option<Vec<u8>> {
    let length = fs::metadata(path).ok()?.len();
    if length > ABOUT_BYTES_MAX as u64 {
        return None;
    }
    fs::read(path).ok()
}

fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

fn has_ending(path: &Path, ending: &str) -> bool {
    path.extension().is_some_and(|found| found == ending)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(size: usize) -> Vec<u8> {
        let mut bytes = vec![0; size];
        blake3::Hasher::new().update(&size.to_be_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    fn outline(body: &[u8]) -> Outline {
        let pieces = (0..).zip(body.chunks(1 << 20));
        let values = pieces.map(|(at, piece)| piece_value(at, piece)).collect();
        Outline::new(body.len() as u64, values).unwrap()
    }

    async fn gathered(shelf: &Arc<Shelf>, items: &[&[u8]]) -> Option<Body> {
        let mut gathered = Gathered::new(Some(Arc::clone(shelf)));
        for item in items {
            gathered.add(item).await;
        }
        gathered.finish().await
    }

    #[tokio::test]
    async fn what_grows_long_goes_to_a_file_with_its_outline() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Arc::new(Shelf::open(dir.path().join("results")).unwrap());
        let short = gathered(&shelf, &[&bytes(1000), &bytes(WHOLE_MAX - 1000)]).await;
        assert!(matches!(short, Some(Body::Whole(body)) if body.len() == WHOLE_MAX));
        assert_eq!(shelf.files().unwrap(), [] as [PathBuf; 0]);

        for sizes in [[WHOLE_MAX, 1], [3 << 20, 3 << 20], [1, 6 << 20], [2_500_000, 2_500_001]] {
            let items = sizes.map(bytes);
            let items: Vec<&[u8]> = items.iter().map(Vec::as_slice).collect();
            let Some(Body::Spilled(spilled)) = gathered(&shelf, &items).await else {
                panic!("{sizes:?}: it goes to a file")
            };
            let body = items.concat();
            assert_eq!(spilled.outline, outline(&body));
            assert_eq!(fs::read(spilled.file.path()).unwrap(), body);
        }
        assert_eq!(shelf.files().unwrap(), [] as [PathBuf; 0], "dropped, they are deleted");
        let mut nowhere = Gathered::new(None);
        nowhere.add(&bytes(WHOLE_MAX + 1)).await;
        assert!(nowhere.finish().await.is_none());
    }

    #[test]
    fn a_transfer_is_taken_up_where_its_file_is_right() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(dir.path().join("results")).unwrap();
        let body = bytes(6_500_000);
        let (outline, response) = (outline(&body), Hash::of(&body));
        let piece = |at: usize| &body[at << 20..body.len().min((at + 1) << 20)];
        let (part, there) = shelf.part(&response, &outline).unwrap();
        assert!(there.is_empty());
        for at in [6_u32, 0, 3] {
            assert!(part.put(&outline, at, piece(at as usize)).unwrap());
        }
        assert!(!part.put(&outline, 1, piece(2)).unwrap(), "another piece");
        assert!(!part.put(&outline, 1, &piece(1)[1..]).unwrap(), "a piece cut short");
        drop(part);

        let shelf = Shelf::open(dir.path().join("results")).unwrap();
        let (part, there) = shelf.part(&response, &outline).unwrap();
        assert_eq!(there, BTreeSet::from([0, 3, 6]));
        part.file.write_all_at(b"damage", 3 << 20).unwrap();
        let (_, there) = shelf.part(&response, &outline).unwrap();
        assert_eq!(there, BTreeSet::from([0, 6]));
    }

    #[test]
    fn what_is_left_behind_is_cleared_away() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("results");
        let shelf = Shelf::open(root.clone()).unwrap();
        for name in ["new-x", "a-b.body", "c-d.about"] {
            fs::write(root.join(name), b"left").unwrap();
        }
        let old = File::create(root.join("old.part")).unwrap();
        old.set_modified(SystemTime::now() - PARTIAL_LIFE - Duration::from_secs(1)).unwrap();
        File::create(root.join("large.part")).unwrap().set_len(PARTIAL_BYTES_MAX).unwrap();
        File::create(root.join("later.part")).unwrap().set_len(1).unwrap();
        drop(shelf);
        let shelf = Shelf::open(root).unwrap();
        assert!(shelf.load().is_empty());
        let left: Vec<String> =
            shelf.files().unwrap().iter().map(|path| name_of(path).to_owned()).collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    proptest! {
        #[test]
        fn what_is_said_reads_back_or_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let about = About {
                version: Version,
                offer: bytes.clone().into(),
                took_us: 7,
                key: Some(IndexKey(Hash([1; 32]))),
                group: None,
            };
            prop_assert_eq!(About::decode(&about.encode()).unwrap(), about);
            if let Ok(about) = About::decode(&bytes) {
                prop_assert_eq!(about.encode(), bytes);
            }
        }
    }
}
