//! Endorsements that are kept: those this agent gave, and those it received and hands out to whoever asks.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use comity_core::{AgentId, Hash, Time};
use comity_trust::endorse::{EndorseError, Endorsement};
use thiserror::Error;

use super::AccessError;
use crate::storage::{Change, Storage, StorageError, Table};

/// Endorsements given that are kept.
const GIVEN_MAX: usize = 1024;
/// Endorsements received that are kept: anybody may send some.
const RECEIVED_MAX: usize = 64;
/// Endorsements in one answer.
pub(crate) const TOLD_MAX: usize = 16;

/// Why an endorsement is not kept.
#[derive(Debug, Error)]
pub(crate) enum EndorsementError {
    /// It does not hold.
    #[error("the endorsement is refused")]
    Refused(#[from] EndorseError),
    /// It is about others.
    #[error("this endorsement is about {subject}, by {endorser}: neither is this agent")]
    Foreign { subject: String, endorser: String },
    /// No room.
    #[error("this node keeps as many endorsements as it can")]
    Full,
    /// The database failed.
    #[error("the endorsement could not be stored")]
    Storage(#[from] StorageError),
}

#[derive(Clone, Debug)]
pub(crate) struct Word {
    pub(crate) sealed: Vec<u8>,
    pub(crate) endorsement: Endorsement,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Endorsements {
    me: AgentId,
    kept: RwLock<BTreeMap<Hash, Word>>,
}

impl Endorsements {
    pub(crate) fn open(storage: &Storage, me: AgentId, now: Time) -> Result<Self, AccessError> {
        let mut kept = BTreeMap::new();
        for (_, sealed) in storage.read_all(Table::Endorsements, GIVEN_MAX + RECEIVED_MAX)? {
            // What ran out while the node was down is nothing any more, and so is what was said of or by a key before this one.
            if let Ok(endorsement) = Endorsement::open(&sealed, now)
                && (endorsement.endorser == me || endorsement.endorse.subject == me)
            {
                kept.insert(endorsement.hash, Word { sealed, endorsement });
            }
        }
        Ok(Self { me, kept: RwLock::new(kept) })
    }

    /// Keeps one that this agent gave or received. A newer word of the same endorser about the same takes the place of the older.
    pub(crate) async fn keep(
        &self,
        sealed: Vec<u8>,
        storage: &Storage,
        now: Time,
    ) -> Result<Endorsement, EndorsementError> {
        let endorsement = Endorsement::open(&sealed, now)?;
        let (endorser, endorse) = (endorsement.endorser, &endorsement.endorse);
        let given = endorser == self.me;
        if !given && endorse.subject != self.me {
            let (subject, endorser) = (endorse.subject.to_string(), endorser.to_string());
            return Err(EndorsementError::Foreign { subject, endorser });
        }
        let mut changes = Vec::new();
        {
            let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
            let same = |word: &&Word| {
                let other = &word.endorsement;
                other.endorser == endorser
                    && other.endorse.subject == endorse.subject
                    && other.endorse.scope == endorse.scope
            };
            let old: Vec<Hash> =
                kept.values().filter(same).map(|word| word.endorsement.hash).collect();
            let over = kept.values().filter(|word| word.endorsement.endorse.not_after < now);
            let gone: Vec<Hash> = over.map(|word| word.endorsement.hash).chain(old).collect();
            let kind = kept.values().filter(|word| {
                (word.endorsement.endorser == self.me) == given
                    && !gone.contains(&word.endorsement.hash)
            });
            if kind.count() >= if given { GIVEN_MAX } else { RECEIVED_MAX } {
                return Err(EndorsementError::Full);
            }
            let delete = |hash: Hash| Change::Delete {
                table: Table::Endorsements,
                key: hash.as_bytes().to_vec(),
            };
            changes.extend(gone.into_iter().map(delete));
        }
        let gone: Vec<Vec<u8>> = changes
            .iter()
            .filter_map(|change| match change {
                Change::Delete { key, .. } => Some(key.clone()),
                Change::Put { .. } => None,
            })
            .collect();
        let key = endorsement.hash.as_bytes().to_vec();
        changes.push(Change::Put { table: Table::Endorsements, key, value: sealed.clone() });
        storage.commit(changes).await?;
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|hash, _| !gone.iter().any(|key| key == hash.as_bytes()));
        kept.insert(endorsement.hash, Word { sealed, endorsement: endorsement.clone() });
        Ok(endorsement)
    }

    pub(crate) fn all(&self) -> Vec<Word> {
        self.kept.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Received ones about a capability, or about any: what whoever asks is told.
    pub(crate) fn received(&self, capability: Option<&str>, now: Time, max: usize) -> Vec<Vec<u8>> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let meant = |word: &&Word| {
            let endorse = &word.endorsement.endorse;
            endorse.subject == self.me
                && now < endorse.not_after
                && capability.is_none_or(|name| endorse.scope.pattern.matches(name))
        };
        kept.values().filter(meant).take(max).map(|word| word.sealed.clone()).collect()
    }
}
