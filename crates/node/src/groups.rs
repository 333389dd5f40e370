//! The private groups this agent is a member of: their secrets, kept as keys are kept, and what this agent told each of them.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use comity_api::types::{ErrorCode, ErrorInfo};
use comity_api::{Invitation, InvitationError, MAX_INVITATION_CHARS};
use comity_capability::record::GroupSecret;
use comity_core::{AgentId, Hash, Identity};
use rand::Rng as _;
use thiserror::Error;
use tracing::warn;
use zeroize::Zeroizing;

use crate::error::describe;
use crate::publisher::Published;
use crate::rpc::Caller;

/// Private groups one agent is a member of; a call's proof is held against each of them.
pub(crate) const GROUPS_MAX: usize = 64;
/// Ending of a group's secret file in `HOME/groups`.
const EXTENSION: &str = "invitation";

/// Why a private group cannot be made, joined, read or left.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GroupError {
    /// The invitation is none, or the name is none.
    #[error(transparent)]
    Invitation(#[from] InvitationError),
    /// A group of that name is there.
    #[error("this agent is in a group called `{0}` already, with another secret")]
    Exists(String),
    /// No group of that name is there.
    #[error("this agent is in no private group called `{0}`")]
    Unknown(String),
    /// Too many groups.
    #[error("this agent is in {GROUPS_MAX} private groups, as many as one can be in")]
    TooMany,
    /// Capabilities are served to it.
    #[error("{1} is served to the group `{0}`")]
    InUse(String, String),
    /// Others can read the secret.
    #[error(
        "{path} has mode {mode:04o}, so others can read this group's secret: run `chmod 600 {path}`"
    )]
    Permissions {
        /// The secret's file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The system refused to read or write the secret's file.
    #[error("cannot use the file {path} of a group's secret")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl From<GroupError> for ErrorInfo {
    fn from(error: GroupError) -> Self {
        let text = describe(&error);
        match error {
            GroupError::Invitation(_) => Self::new(ErrorCode::BadRequest, text),
            GroupError::Exists(_) => Self::new(ErrorCode::BadRequest, text)
                .hint("`comity group join INVITATION --name NAME` joins it under another name"),
            GroupError::Unknown(_) => {
                Self::new(ErrorCode::NotFound, text).hint("`comity group list` names them")
            }
            GroupError::TooMany => {
                Self::new(ErrorCode::TooLarge, text).hint("`comity group leave NAME` one of them")
            }
            GroupError::InUse(_, capability) => Self::new(ErrorCode::BadRequest, text)
                .hint(format!("`comity unserve {capability}` first")),
            GroupError::Permissions { .. } => Self::new(ErrorCode::KeyFile, text),
            GroupError::Io { .. } => Self::new(ErrorCode::Storage, text),
        }
    }
}

/// One private group.
#[derive(Debug)]
pub(crate) struct PrivateGroup {
    pub(crate) invitation: Invitation,
    /// The key this agent signs veiled entries with; made at first use, because minting may take a second.
    pseudonym: OnceLock<Arc<Identity>>,
    told: RwLock<Told>,
}

/// What the group was told last.
#[derive(Debug, Default, Clone)]
pub(crate) struct Told {
    /// The record of the capabilities served to it.
    pub(crate) sealed: Option<Arc<[u8]>>,
    /// Veiled entries are published.
    pub(crate) listed: bool,
    pub(crate) published: Published,
}

impl PrivateGroup {
    fn new(invitation: Invitation) -> Arc<Self> {
        Arc::new(Self { invitation, pseudonym: OnceLock::new(), told: RwLock::default() })
    }

    pub(crate) fn name(&self) -> &str {
        self.invitation.name()
    }

    pub(crate) const fn secret(&self) -> &GroupSecret {
        self.invitation.secret()
    }

    /// The agent's pseudonym in it. Minting it blocks: up to seconds where the network asks for many bits.
    pub(crate) fn pseudonym(&self, agent: &Identity, mint_bits: u32) -> Arc<Identity> {
        let made = || Arc::new(self.secret().pseudonym(agent, mint_bits));
        Arc::clone(self.pseudonym.get_or_init(made))
    }

    /// The pseudonym, if it was needed yet.
    pub(crate) fn known_pseudonym(&self) -> Option<AgentId> {
        self.pseudonym.get().map(|pseudonym| pseudonym.id())
    }

    pub(crate) fn told(&self) -> Told {
        self.told.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn tell(&self, change: impl FnOnce(&mut Told)) {
        change(&mut self.told.write().unwrap_or_else(PoisonError::into_inner));
    }
}

/// All of them, by name.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    /// Where the secrets are kept; nowhere for a node without a home.
    directory: Option<PathBuf>,
    groups: RwLock<BTreeMap<String, Arc<PrivateGroup>>>,
}

impl Groups {
    /// Reads the secrets kept in `directory`. What cannot be read is reported and left out.
    pub(crate) fn open(directory: Option<PathBuf>) -> Self {
        let files = directory.as_deref().and_then(|directory| fs::read_dir(directory).ok());
        let mut groups = BTreeMap::new();
        for file in files.into_iter().flatten().flatten().take(GROUPS_MAX) {
            let path = file.path();
            if path.extension().is_none_or(|extension| extension != EXTENSION) {
                continue;
            }
            match load(&path) {
                Ok(invitation) => {
                    groups.insert(invitation.name().to_owned(), PrivateGroup::new(invitation));
                }
                Err(error) => {
                    warn!(path = %path.display(), error = %describe(&error), "a private group is left out");
                }
            }
        }
        Self { directory, groups: RwLock::new(groups) }
    }

    pub(crate) fn all(&self) -> Vec<Arc<PrivateGroup>> {
        self.read().values().cloned().collect()
    }

    pub(crate) fn get(&self, name: &str) -> Result<Arc<PrivateGroup>, GroupError> {
        self.read().get(name).cloned().ok_or_else(|| GroupError::Unknown(name.to_owned()))
    }

    /// Makes a group with a new secret.
    pub(crate) fn create(&self, name: &str) -> Result<Arc<PrivateGroup>, GroupError> {
        let mut secret = Zeroizing::new([0; 32]);
        rand::rng().fill_bytes(&mut secret[..]);
        self.add(Invitation::new(name, GroupSecret::from_bytes(*secret))?)
    }

    /// Becomes a member. Joining twice is joining once.
    pub(crate) fn join(
        &self,
        invitation: &str,
        name: Option<&str>,
    ) -> Result<Arc<PrivateGroup>, GroupError> {
        let given: Invitation = invitation.parse()?;
        let name = name.unwrap_or_else(|| given.name());
        let invitation = Invitation::new(name, given.secret().clone())?;
        let known = self.read().get(name).cloned();
        match known {
            Some(known) if known.secret().fingerprint() == given.secret().fingerprint() => {
                Ok(known)
            }
            Some(_) | None => self.add(invitation),
        }
    }

    fn add(&self, invitation: Invitation) -> Result<Arc<PrivateGroup>, GroupError> {
        let mut groups = self.groups.write().unwrap_or_else(PoisonError::into_inner);
        let name = invitation.name().to_owned();
        if groups.contains_key(&name) {
            return Err(GroupError::Exists(name));
        }
        if groups.len() >= GROUPS_MAX {
            return Err(GroupError::TooMany);
        }
        if let Some(directory) = &self.directory {
            store(directory, &file_of(directory, &name), &invitation)?;
        }
        let group = PrivateGroup::new(invitation);
        groups.insert(name, Arc::clone(&group));
        Ok(group)
    }

    /// Forgets a group and its secret.
    pub(crate) fn forget(&self, name: &str) -> Result<(), GroupError> {
        if let Some(directory) = &self.directory {
            let path = file_of(directory, name);
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(GroupError::Io { path, source });
                }
                Ok(()) | Err(_) => {}
            }
        }
        self.groups.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        Ok(())
    }

    /// The group whose membership the caller proved to `me`, if it did. Its proof is held against every group, found or not, so that the
    /// time it takes says nothing.
    pub(crate) fn proved(&self, caller: &Caller, me: &AgentId) -> Option<Arc<PrivateGroup>> {
        let (session, shown): (Hash, Hash) = (caller.session?, caller.membership?);
        let mut proved = None;
        for group in self.read().values() {
            if group.secret().is_membership(&shown, &session, &caller.agent, me) {
                proved = Some(Arc::clone(group));
            }
        }
        proved
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<String, Arc<PrivateGroup>>> {
        self.groups.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn file_of(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.{EXTENSION}"))
}

/// Writes the secret to a new file of mode 0600 in a directory of mode 0700: complete, or not there at all.
fn store(directory: &Path, path: &Path, invitation: &Invitation) -> Result<(), GroupError> {
    let failed = |source| GroupError::Io { path: path.to_owned(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    let temporary = path.with_extension(format!("new-{}", std::process::id()));
    let written = write_new(&temporary, invitation).and_then(|()| fs::hard_link(&temporary, path));
    // A file that was not made cannot be removed; the link says whether the secret is in place.
    let _ = fs::remove_file(&temporary);
    match written {
        Err(source) if source.kind() == io::ErrorKind::AlreadyExists => {
            Err(GroupError::Exists(invitation.name().to_owned()))
        }
        Err(source) => Err(failed(source)),
        Ok(()) => File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed),
    }
}

fn write_new(path: &Path, invitation: &Invitation) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(invitation.reveal().as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

fn load(path: &Path) -> Result<Invitation, GroupError> {
    let failed = |source| GroupError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(GroupError::Permissions { path: path.to_owned(), mode });
    }
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_INVITATION_CHARS as u64 + 2).read_to_string(&mut text).map_err(failed)?;
    let invitation: Invitation = text.parse()?;
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    Ok(Invitation::new(stem, invitation.secret().clone())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> (tempfile::TempDir, PathBuf) {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("groups");
        (home, directory)
    }

    #[test]
    fn secrets_outlive_the_node_and_only_their_owner_reads_them() {
        let (_home, directory) = home();
        let groups = Groups::open(Some(directory.clone()));
        let made = groups.create("deal-room").unwrap();
        let path = file_of(&directory, "deal-room");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "no temporary file is left");

        let again = Groups::open(Some(directory.clone()));
        let known = again.get("deal-room").unwrap();
        assert_eq!(known.secret().as_bytes(), made.secret().as_bytes());

        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Groups::open(Some(directory)).all().is_empty(), "others can read it");
        again.forget("deal-room").unwrap();
        assert!(!path.exists() && again.get("deal-room").is_err());
    }

    #[test]
    fn one_name_is_one_group() {
        let groups = Groups::default();
        let first = groups.create("team").unwrap();
        assert!(matches!(groups.create("team"), Err(GroupError::Exists(_))));
        assert!(matches!(groups.create("Team!"), Err(GroupError::Invitation(_))));
        let invitation = first.invitation.reveal();
        assert!(Arc::ptr_eq(&groups.join(&invitation, None).unwrap(), &first), "joined already");
        let other = Groups::default().create("team").unwrap().invitation.reveal();
        assert!(matches!(groups.join(&other, None), Err(GroupError::Exists(_))));
        assert_eq!(groups.join(&other, Some("theirs")).unwrap().name(), "theirs");
        assert!(matches!(groups.join("comity-group:zz", None), Err(GroupError::Invitation(_))));
    }

    #[test]
    fn a_proof_counts_in_its_session_alone() {
        let groups = Groups::default();
        let group = groups.create("team").unwrap();
        let (me, caller) = (agent(1), agent(2));
        let session = Hash([7; 32]);
        let proof = group.secret().membership(&session, &caller, &me);
        let shown = |session: Option<Hash>, proof: Option<Hash>| {
            let (hello, grants) = (None, None);
            let caller =
                Caller { agent: caller, session, hello, membership: proof, grants, remote: None };
            groups.proved(&caller, &me).is_some()
        };
        assert!(shown(Some(session), Some(proof)));
        assert!(!shown(Some(Hash([8; 32])), Some(proof)));
        assert!(!shown(None, Some(proof)), "early data proves nothing");
        assert!(!shown(Some(session), None));
        assert!(!shown(Some(session), Some(Hash([0; 32]))));
    }

    fn agent(seed: u8) -> AgentId {
        Identity::from_secret_bytes(&[seed; 32]).id()
    }
}
