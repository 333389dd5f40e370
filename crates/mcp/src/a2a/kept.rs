//! The webhooks of an endpoint on disk, so that they outlast it.
//!
//! One endpoint of a node keeps them: the first that holds the lock. Those beside it remember theirs for as long as they live.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::shim::Version;

/// File below the node's home; its owner's alone, because webhooks come with tokens.
const FILE: &str = "a2a-webhooks.json";
/// Held by the endpoint that keeps them.
const LOCK_FILE: &str = "a2a-webhooks.lock";
/// Longest file, in bytes: as many tasks and webhooks as are followed at once, each as long as it may be.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// A task that is followed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct KeptTask {
    pub(super) agent: String,
    pub(super) task: String,
    /// As whose member the agent is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) group: Option<String>,
    /// Until when it is followed, in milliseconds since 1970.
    pub(super) until_ms: u64,
    /// The state that the webhooks know of.
    #[serde(default)]
    pub(super) last: Value,
    pub(super) hooks: Vec<KeptHook>,
}

/// One of its webhooks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct KeptHook {
    pub(super) config: Map<String, Value>,
    /// In whose words it is told.
    pub(super) old: bool,
}

impl KeptHook {
    pub(super) fn version(&self) -> Version {
        if self.old { Version::V03 } else { Version::V10 }
    }
}

/// The right to keep the webhooks of a home.
#[derive(Debug)]
pub(super) struct Kept {
    path: PathBuf,
    /// Those of other groups, which this endpoint does not follow and does not forget.
    others: Vec<KeptTask>,
    writing: Mutex<()>,
    /// The endpoint has ended: what it follows no more stays on disk.
    pub(super) ended: AtomicBool,
    _lock: File,
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Kept {
    /// Takes the lock, and reads what was kept for `group`. None when another endpoint has it, or nothing can be kept here.
    pub(super) fn open(home: &Path, group: Option<&str>) -> Option<(Self, Vec<KeptTask>)> {
        let path = home.join(FILE);
        let failed = |error: io::Error| {
            tracing::warn!(%error, path = %path.display(), "webhooks are not kept");
        };
        let lock = File::options()
            .create(true)
            .write(true)
            .truncate(false)
            .open(home.join(LOCK_FILE))
            .map_err(failed)
            .ok()?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).ok()?;
        let all = read(&path).unwrap_or_else(|error| {
            failed(error);
            Vec::new()
        });
        let now = now_ms();
        let live = all.into_iter().filter(|task| task.until_ms > now);
        let (own, others) = live.partition(|task| task.group.as_deref() == group);
        Some((
            Self {
                path,
                others,
                writing: Mutex::default(),
                ended: AtomicBool::new(false),
                _lock: lock,
            },
            own,
        ))
    }

    /// Writes what `tasks` tells, if anything, once nobody else writes.
    pub(super) fn save(&self, tasks: impl FnOnce() -> Option<Vec<KeptTask>>) {
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut all) = tasks() else { return };
        all.extend(self.others.iter().cloned());
        if let Err(error) = write(&self.path, &all) {
            tracing::warn!(%error, path = %self.path.display(), "webhooks cannot be kept");
        }
    }
}

fn read(path: &Path) -> io::Result<Vec<KeptTask>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    serde_json::from_str(&text).map_err(io::Error::other)
}

fn write(path: &Path, tasks: &[KeptTask]) -> io::Result<()> {
    let text = serde_json::to_string_pretty(tasks).map_err(io::Error::other)?;
    let directory = path.parent().unwrap_or_else(|| Path::new("."));
    // Made for its owner alone.
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(text.as_bytes())?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use serde_json::json;

    use super::*;

    fn task(name: &str, group: Option<&str>, until_ms: u64) -> KeptTask {
        let config = json!({"id": "w", "url": "http://localhost:1/"});
        let config = config.as_object().cloned().unwrap_or_default();
        KeptTask {
            agent: "a~b".to_owned(),
            task: name.to_owned(),
            group: group.map(str::to_owned),
            until_ms,
            last: json!("TASK_STATE_WORKING"),
            hooks: vec![KeptHook { config, old: false }],
        }
    }

    #[test]
    fn one_keeps_them_and_none_of_another_group_is_lost() {
        let home = tempfile::tempdir().unwrap();
        let late = now_ms() + 3_600_000;
        let (kept, none) = Kept::open(home.path(), None).unwrap();
        assert_eq!(none, []);
        assert!(Kept::open(home.path(), None).is_none(), "two keep the same file");
        kept.save(|| Some(vec![task("1", None, late), task("2", None, 1)]));
        drop(kept);
        let (kept, found) = Kept::open(home.path(), Some("team")).unwrap();
        assert_eq!(found, []);
        kept.save(|| Some(vec![task("3", Some("team"), late)]));
        drop(kept);
        let (_kept, found) = Kept::open(home.path(), None).unwrap();
        // What ended meanwhile is gone.
        assert_eq!(found, [task("1", None, late)]);
        let mode = std::fs::metadata(home.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_is_not_understood_keeps_nobody_from_working() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join(FILE), "[{").unwrap();
        let (kept, found) = Kept::open(home.path(), None).unwrap();
        assert_eq!(found, []);
        kept.save(|| Some(vec![task("1", None, now_ms() + 60_000)]));
        drop(kept);
        assert_eq!(Kept::open(home.path(), None).unwrap().1.len(), 1);
    }
}
