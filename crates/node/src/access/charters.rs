//! Groups with a charter that this node knows: those it founded, those it belongs to, and those its policy names.
//!
//! Of each the newest charter is kept that was seen, so that an older one, with other stewards or without an expulsion, never counts again.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use comity_core::canonical::{self, Version};
use comity_core::{AgentId, Hash, Identity, Time};
use comity_trust::RawKey;
use comity_trust::admission::{
    AdmissionError, Admit, Charter, Group, MAX_ADMIT, MAX_CHARTER, MAX_ENDORSERS, MAX_LIFE, Rule,
};
use comity_trust::revoke::{Reason, Revocations, RevokeError, Withdrawn};
use data_encoding::BASE64URL_NOPAD;
use minicbor::bytes::ByteVec;
use thiserror::Error;
use tracing::warn;

use super::{AccessError, OWN_SET_AGE_MAX};
use crate::key_file::{self, KeyFileError, Keys};
use crate::storage::{Change, Storage, StorageError, Table};

/// Groups kept by name.
pub(crate) const CHARTERS_MAX: usize = 64;
/// Charters remembered besides, of groups that the policy names.
const SEEN_MAX: usize = 64;
/// Admissions given by this agent to one group that are remembered.
pub(crate) const GIVEN_MAX: usize = 1024;
/// A charter of a group founded here is signed anew when less than this is left of its life.
const RENEW_BEFORE: Duration = Duration::from_secs(180 * 24 * 3600);
/// How a charter's text begins.
pub(crate) const SCHEME: &str = "comity-charter:";
/// Ending of the file of a group's key in `HOME/groups`.
const EXTENSION: &str = "key";

/// A charter and the admissions of one agent: what is shown with a call, and handed over as text. Nothing of it is verified.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub(crate) struct ShownMembership {
    #[n(0)]
    pub(crate) version: Version<1>,
    #[n(1)]
    pub(crate) charter: ByteVec,
    #[n(2)]
    pub(crate) admissions: Vec<ByteVec>,
}

impl ShownMembership {
    /// Whether everything is within its bounds: to be asked before anything costs a signature.
    pub(crate) fn fits(&self) -> bool {
        self.charter.len() <= MAX_CHARTER
            && self.admissions.len() <= MAX_ENDORSERS
            && self.admissions.iter().all(|admission| admission.len() <= MAX_ADMIT)
    }

    pub(crate) fn text(&self) -> String {
        format!("{SCHEME}{}", BASE64URL_NOPAD.encode(&canonical::encode_minicbor(self)))
    }

    /// The charter in a text; white space in it does not matter.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        // Base64 takes four characters for three bytes; as many again may be white space.
        const CHARS_MAX: usize = (MAX_CHARTER + MAX_ENDORSERS * (MAX_ADMIT + 3) + 64) / 3 * 8;
        if text.len() > CHARS_MAX {
            return None;
        }
        let text: String = text.split_ascii_whitespace().collect();
        let bytes = BASE64URL_NOPAD.decode(text.strip_prefix(SCHEME)?.as_bytes()).ok()?;
        canonical::decode_minicbor(&bytes).ok().filter(Self::fits)
    }
}

/// An admission that this agent gave.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
pub(crate) struct Given {
    #[n(0)]
    pub(crate) hash: Hash,
    #[n(1)]
    pub(crate) agent: RawKey,
    #[n(2)]
    pub(crate) capabilities: String,
    #[n(3)]
    until_ms: u64,
}

impl Given {
    pub(crate) const fn until(&self) -> Time {
        Time::from_millis(self.until_ms)
    }
}

#[derive(Clone, Debug, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
struct Row {
    #[n(0)]
    version: Version<1>,
    #[n(1)]
    name: Option<String>,
    #[n(2)]
    charter: ByteVec,
    #[n(3)]
    received: Vec<ByteVec>,
    #[n(4)]
    given: Vec<Given>,
    /// What the group withdrew, as JSON; only where its key is.
    #[n(5)]
    withdrawn: Option<String>,
}

/// The part of a group that only its founder has.
#[derive(Clone, Debug)]
struct Founded {
    key: Arc<Identity>,
    withdrawn: Revocations,
    signed: Option<(Time, Vec<u8>)>,
}

/// One group.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// What it is called here; none if it was only seen.
    pub(crate) name: Option<String>,
    pub(crate) sealed: Vec<u8>,
    pub(crate) group: Group,
    /// Admissions of this agent, sealed.
    pub(crate) received: Vec<Vec<u8>>,
    pub(crate) given: Vec<Given>,
    founded: Option<Founded>,
}

impl Known {
    pub(crate) const fn is_founded(&self) -> bool {
        self.founded.is_some()
    }

    /// Keys that the group expelled.
    pub(crate) fn expelled(&self) -> Vec<RawKey> {
        let entries = self.founded.iter().flat_map(|founded| founded.withdrawn.own());
        let key = |target: &Withdrawn| match target {
            Withdrawn::Key(key) => Some(*key),
            Withdrawn::Statement(_) => None,
        };
        entries.filter_map(|entry| key(&entry.target)).collect()
    }

    /// The agents who admit.
    pub(crate) fn stewards(&self) -> &[AgentId] {
        self.group.stewards()
    }

    pub(crate) fn shown(&self) -> ShownMembership {
        ShownMembership {
            version: Version,
            charter: self.sealed.clone().into(),
            admissions: self.received.iter().cloned().map(Into::into).collect(),
        }
    }

    fn row(&self) -> Row {
        let withdrawn = self.founded.as_ref().map(|founded| &founded.withdrawn);
        Row {
            version: Version,
            name: self.name.clone(),
            charter: self.sealed.clone().into(),
            received: self.received.iter().cloned().map(Into::into).collect(),
            given: self.given.clone(),
            withdrawn: withdrawn.map(|set| serde_json::to_string(set).unwrap_or_default()),
        }
    }
}

/// Why a group cannot be founded, joined or changed.
#[derive(Debug, Error)]
pub(crate) enum CharterError {
    #[error("this is no charter: it begins with `{SCHEME}`; copy it whole")]
    Text,
    #[error("the charter or an admission is refused")]
    Refused(#[from] AdmissionError),
    #[error("a group is called `{0}` here already")]
    Exists(String),
    #[error("this node keeps {CHARTERS_MAX} groups with a charter, as many as it can")]
    Full,
    #[error(transparent)]
    Name(#[from] comity_api::InvitationError),
    #[error("no group with a charter is called `{0}` here")]
    Unknown(String),
    #[error("this node keeps as many admissions of one group as it can ({GIVEN_MAX})")]
    FullGroup,
    #[error(transparent)]
    Withdraw(#[from] RevokeError),
    #[error("the key of the group")]
    Key(#[from] KeyFileError),
    #[error("cannot keep the key of a group in {path}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("the group could not be stored")]
    Storage(#[from] StorageError),
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Charters {
    /// Where the keys of groups founded here are; nowhere for a node without a home.
    directory: Option<PathBuf>,
    known: Mutex<BTreeMap<AgentId, Known>>,
}

impl Charters {
    pub(crate) fn open(
        storage: &Storage,
        directory: Option<PathBuf>,
        me: &AgentId,
        now: Time,
    ) -> Result<Self, AccessError> {
        let damaged = || AccessError::Damaged { what: "its groups" };
        let mut keys = BTreeMap::new();
        if let Some(directory) = &directory {
            for key in load_keys(directory) {
                keys.insert(key.id(), key);
            }
        }
        let mut known = BTreeMap::new();
        for (_, value) in storage.read_all(Table::Charters, CHARTERS_MAX + SEEN_MAX)? {
            let row: Row = canonical::decode_minicbor(&value).map_err(|_| damaged())?;
            let Row { name, charter, received, given, withdrawn, .. } = row;
            let claimed = comity_trust::claimed_signer(&charter);
            let key = claimed.and_then(|by| keys.iter().find(|(id, _)| by == **id));
            let founded = match (key, &withdrawn) {
                (Some((id, key)), Some(json)) => {
                    let withdrawn: Revocations =
                        serde_json::from_str(json).map_err(|_| damaged())?;
                    if withdrawn.me() != *id {
                        return Err(damaged());
                    }
                    Some(Founded { key: Arc::clone(key), withdrawn, signed: None })
                }
                (Some(_) | None, _) => None,
            };
            let mut sealed = Vec::from(charter);
            if let Some(founded) = &founded {
                sealed = renewed(sealed, &founded.key, me, now);
            }
            // A charter that ran out while the node was down is nothing any more; a newer one can be joined.
            let Ok(group) = Group::open(&sealed, now) else { continue };
            let received = received.into_iter().map(Vec::from).collect();
            known.insert(group.id(), Known { name, sealed, group, received, given, founded });
        }
        Ok(Self { directory, known: Mutex::new(known) })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<AgentId, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything kept by name.
    pub(crate) fn named(&self) -> Vec<Known> {
        let mut named: Vec<Known> =
            self.lock().values().filter(|known| known.name.is_some()).cloned().collect();
        named.sort_by(|a, b| a.name.cmp(&b.name));
        named
    }

    /// The group that is called so, or whose key this is.
    pub(crate) fn find(&self, text: &str) -> Result<Known, CharterError> {
        let key = text.parse::<AgentId>().ok();
        let known = self.lock();
        let meant = |known: &&Known| {
            known.name.as_deref().is_some_and(|name| name == text || key == Some(known.group.id()))
        };
        known.values().find(meant).cloned().ok_or_else(|| CharterError::Unknown(text.to_owned()))
    }

    pub(crate) fn get(&self, group: &AgentId) -> Option<Known> {
        self.lock().get(group).cloned()
    }

    /// Looks at the newest charter known of a group.
    pub(crate) fn with<T>(&self, group: &AgentId, look: impl FnOnce(&Group) -> T) -> Option<T> {
        self.lock().get(group).map(|known| look(&known.group))
    }

    /// The newest charter known of a group, if these are its bytes.
    pub(crate) fn same(&self, group: &RawKey, sealed: &[u8]) -> Option<AgentId> {
        let known = self.lock();
        let mut found = known.iter().filter(|(id, _)| *group == **id);
        found.find(|(_, known)| known.sealed == sealed).map(|(id, _)| *id)
    }

    /// Keeps a group that was just made, with its key on disk first.
    pub(crate) async fn found(
        &self,
        name: &str,
        charter: &Charter,
        key: Identity,
        storage: &Storage,
        now: Time,
    ) -> Result<Known, CharterError> {
        let sealed = charter.seal(&key)?;
        let group = Group::open(&sealed, now)?;
        self.has_room(name)?;
        if let Some(directory) = &self.directory {
            let failed = |source| CharterError::Io { path: directory.clone(), source };
            let mut maker = fs::DirBuilder::new();
            maker.recursive(true).mode(0o700).create(directory).map_err(failed)?;
            let secret = Identity::from_secret_bytes(&key.secret_bytes());
            // A group's key is not succeeded: nobody knows what this commits to.
            let next = Hash(rand::random());
            key_file::create(&file_of(directory, name), &Keys { identity: secret, next })?;
        }
        let withdrawn = Revocations::new(group.id());
        let founded = Some(Founded { key: Arc::new(key), withdrawn, signed: None });
        let name = Some(name.to_owned());
        let (received, given) = (Vec::new(), Vec::new());
        self.put(Known { name, sealed, group, received, given, founded }, storage).await
    }

    fn has_room(&self, name: &str) -> Result<(), CharterError> {
        // It becomes a file's.
        comity_api::check_group_name(name)?;
        let known = self.lock();
        let named = || known.values().filter_map(|known| known.name.as_deref());
        if named().any(|taken| taken == name) {
            return Err(CharterError::Exists(name.to_owned()));
        }
        if named().count() >= CHARTERS_MAX { Err(CharterError::Full) } else { Ok(()) }
    }

    /// Keeps a charter by name and the admissions of `me` that came with it.
    pub(crate) async fn join(
        &self,
        shown: &ShownMembership,
        name: Option<&str>,
        me: &AgentId,
        storage: &Storage,
        now: Time,
    ) -> Result<Known, CharterError> {
        let group = Group::open(&shown.charter, now)?;
        let held = self.get(&group.id());
        let mut known = match held {
            Some(held) if !group.replaces(&held.group) => held,
            Some(held) => Known { sealed: shown.charter.to_vec(), group, ..held },
            None => Known {
                name: None,
                sealed: shown.charter.to_vec(),
                group,
                received: Vec::new(),
                given: Vec::new(),
                founded: None,
            },
        };
        if known.name.is_none() {
            let name = name.unwrap_or_else(|| known.group.charter().name.as_str()).to_owned();
            self.has_room(&name)?;
            known.name = Some(name);
        }
        for admission in &shown.admissions {
            receive(&mut known, admission, me)?;
        }
        self.put(known, storage).await
    }

    /// Takes an admission of `me` in, to a group that was joined.
    pub(crate) async fn admitted(
        &self,
        group: &AgentId,
        admission: &[u8],
        me: &AgentId,
        storage: &Storage,
    ) -> Result<(), CharterError> {
        let unknown = || CharterError::Unknown(group.to_string());
        let mut known = self.get(group).filter(|known| known.name.is_some()).ok_or_else(unknown)?;
        receive(&mut known, admission, me)?;
        self.put(known, storage).await.map(drop)
    }

    /// Remembers an admission that this agent gave.
    pub(crate) async fn gave(
        &self,
        group: &AgentId,
        admit: &Admit,
        sealed: &[u8],
        storage: &Storage,
        now: Time,
    ) -> Result<(), CharterError> {
        let mut known = self.get(group).ok_or_else(|| CharterError::Unknown(group.to_string()))?;
        known.given.retain(|given| given.until() > now);
        if known.given.len() >= GIVEN_MAX {
            return Err(CharterError::FullGroup);
        }
        known.given.push(Given {
            hash: Hash::of(sealed),
            agent: admit.subject,
            capabilities: admit.pattern.to_string(),
            until_ms: admit.not_after.as_millis(),
        });
        self.put(known, storage).await.map(drop)
    }

    /// The group expels a key for good; on disk before it returns. Returns how the audit log names it; none if the group's key is elsewhere.
    pub(crate) async fn expel(
        &self,
        group: &AgentId,
        agent: &AgentId,
        reason: Reason,
        storage: &Storage,
        now: Time,
    ) -> Result<Option<Hash>, CharterError> {
        let mut known = self.get(group).ok_or_else(|| CharterError::Unknown(group.to_string()))?;
        let Some(founded) = &mut known.founded else { return Ok(None) };
        let target = Withdrawn::Key((*agent).into());
        let entry = founded.withdrawn.revoke(target, Time::MAX, reason, now)?;
        let hash = Hash::of(&entry.seal(&founded.key));
        founded.signed = None;
        self.put(known, storage).await.map(|_| Some(hash))
    }

    /// What a group founded here withdrew, signed now.
    pub(crate) fn own_set(&self, group: &AgentId, now: Time) -> Option<Vec<u8>> {
        let mut known = self.lock();
        let Founded { key, withdrawn, signed } = known.get_mut(group)?.founded.as_mut()?;
        if let Some((at, set)) = signed
            && now.saturating_since(*at) < OWN_SET_AGE_MAX
        {
            return Some(set.clone());
        }
        let set = withdrawn.publish(key, now);
        *signed = Some((now, set.clone()));
        Some(set)
    }

    /// Takes in a charter that somebody showed, if it is newer than the one known, or of a group that the policy names. What changed is to be
    /// stored.
    pub(crate) fn see(&self, sealed: &[u8], now: Time) -> Result<(AgentId, bool), AdmissionError> {
        let group = Group::open(sealed, now)?;
        let id = group.id();
        let mut all = self.lock();
        if let Some(known) = all.get_mut(&id) {
            let newer = group.replaces(&known.group) && known.founded.is_none();
            if newer {
                (known.sealed, known.group) = (sealed.to_vec(), group);
            }
            return Ok((id, newer));
        }
        if all.values().filter(|known| known.name.is_none()).count() >= SEEN_MAX {
            let oldest = all.iter().filter(|(_, known)| known.name.is_none());
            let oldest = oldest.min_by_key(|(_, known)| known.group.charter().not_after);
            if let Some(oldest) = oldest.map(|(id, _)| *id) {
                all.remove(&oldest);
            }
        }
        let (received, given, founded) = (Vec::new(), Vec::new(), None);
        let sealed = sealed.to_vec();
        all.insert(id, Known { name: None, sealed, group, received, given, founded });
        Ok((id, true))
    }

    /// Stores every charter that was only seen.
    pub(crate) async fn store_seen(&self, storage: &Storage) -> Result<(), StorageError> {
        let changes = {
            let all = self.lock();
            all.iter().map(|(id, known)| put_row(id, known)).collect()
        };
        storage.commit(changes).await
    }

    /// Forgets a group; its key stays in its file.
    pub(crate) async fn forget(
        &self,
        group: &AgentId,
        storage: &Storage,
    ) -> Result<(), CharterError> {
        let key = group.as_bytes().to_vec();
        storage.commit(vec![Change::Delete { table: Table::Charters, key }]).await?;
        self.lock().remove(group);
        Ok(())
    }

    async fn put(&self, known: Known, storage: &Storage) -> Result<Known, CharterError> {
        let id = known.group.id();
        storage.commit(vec![put_row(&id, &known)]).await?;
        self.lock().insert(id, known.clone());
        Ok(known)
    }
}

fn put_row(id: &AgentId, known: &Known) -> Change {
    let value = canonical::encode_minicbor(&known.row());
    Change::Put { table: Table::Charters, key: id.as_bytes().to_vec(), value }
}

/// Keeps a sealed admission of `me`; a newer one of the same steward takes the place of the older.
fn receive(known: &mut Known, admission: &[u8], me: &AgentId) -> Result<(), AdmissionError> {
    let steward = known.group.admission(me, admission)?;
    known.received.retain(|kept| comity_trust::claimed_signer(kept).is_none_or(|by| by != steward));
    known.received.push(admission.to_vec());
    Ok(())
}

/// The charter of a group founded here, signed anew if it is about to run out, or if this agent's key was succeeded since.
fn renewed(sealed: Vec<u8>, key: &Identity, me: &AgentId, now: Time) -> Vec<u8> {
    let Ok(opened) =
        comity_core::envelope::open::<Charter>(comity_core::Kind::Charter, &sealed, MAX_CHARTER)
    else {
        return sealed;
    };
    let mut charter = opened.payload;
    let moved = charter.host.filter(|host| *host != *me);
    if moved.is_none() && charter.not_after.saturating_since(now) >= RENEW_BEFORE {
        return sealed;
    }
    if let Some(before) = moved {
        charter.host = Some((*me).into());
        if let Rule::Governed { endorsers, .. } = &mut charter.rule
            && endorsers.remove(&before)
        {
            endorsers.insert((*me).into());
        }
    }
    let (issued, not_after) =
        (Time::from_millis(now.as_millis()), Time::from_millis((now + MAX_LIFE).as_millis()));
    let renewed = Charter { seq: charter.seq + 1, issued, not_after, ..charter };
    renewed.seal(key).unwrap_or(sealed)
}

fn file_of(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.{EXTENSION}"))
}

fn load_keys(directory: &Path) -> Vec<Arc<Identity>> {
    let files = fs::read_dir(directory).into_iter().flatten().flatten();
    let paths = files.map(|file| file.path());
    let paths = paths.filter(|path| path.extension().is_some_and(|found| found == EXTENSION));
    let load = |path: PathBuf| match key_file::load(&path) {
        Ok(keys) => Some(Arc::new(keys.identity)),
        Err(error) => {
            warn!(path = %path.display(), error = %crate::describe(&error), "the key of a group is left out");
            None
        }
    };
    paths.take(CHARTERS_MAX).filter_map(load).collect()
}
