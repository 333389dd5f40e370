//! Grants that are kept: those this agent gave, and those it holds and shows by itself when it calls.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use comity_core::canonical::{self, Version};
use comity_core::{AgentId, Hash, Time};
use comity_trust::grant::{Chain, Link, Refusal};
use minicbor::bytes::ByteVec;
use thiserror::Error;

use super::AccessError;
use crate::storage::{Change, Storage, StorageError, Table};

/// Grants kept, given and held together: each has at most 8 KiB.
pub(crate) const KEPT_MAX: usize = 4096;

/// How this agent stands to a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
pub(crate) enum Role {
    /// This agent signed the last link.
    #[n(0)]
    Given,
    /// This agent is the holder of the last link.
    #[n(1)]
    Held,
}

#[derive(Clone, Debug, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
struct Row {
    #[n(0)]
    version: Version<1>,
    #[n(1)]
    role: Role,
    #[n(2)]
    chain: ByteVec,
}

comity_core::impl_canonical!(Row);

/// One kept grant: a chain whose links fit together.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) role: Role,
    pub(crate) chain: Chain,
    /// Opened, the first first.
    pub(crate) links: Vec<Link>,
}

impl Kept {
    /// Opens a chain and says how `me` stands to it.
    pub(crate) fn open(chain: Chain, me: &AgentId) -> Result<Self, KeptError> {
        let links = chain.show()?;
        let last = links.last().ok_or(KeptError::Refused(Refusal::Links { count: 0 }))?;
        let role = if last.grant.holder == *me {
            Role::Held
        } else if last.signer == *me {
            Role::Given
        } else {
            return Err(KeptError::Foreign { holder: last.grant.holder.to_string() });
        };
        Ok(Self { role, chain, links })
    }

    /// The name of the grant: hash of its last link.
    pub(crate) fn leaf(&self) -> Hash {
        self.links.last().map_or(Hash([0; 32]), |link| link.hash)
    }

    /// Whose capabilities it is about.
    pub(crate) fn issuer(&self) -> Option<AgentId> {
        self.links.first().map(|link| link.signer)
    }

    /// Until when all links are valid.
    pub(crate) fn until(&self) -> Time {
        self.links.iter().map(|link| link.grant.not_after).min().unwrap_or(Time::ZERO)
    }

    /// Whether every link names the capability, and none is over.
    pub(crate) fn may_serve(&self, name: &str, now: Time) -> bool {
        let names = |link: &Link| link.grant.scopes.iter().any(|scope| scope.pattern.matches(name));
        now < self.until() && self.links.iter().all(names)
    }
}

/// Why a grant is not kept.
#[derive(Debug, Error)]
pub(crate) enum KeptError {
    /// It does not verify.
    #[error("the grant is refused")]
    Refused(#[from] Refusal),
    /// It is about others.
    #[error(
        "this grant was given to {holder}, not to this agent, and works in that agent's sessions only"
    )]
    Foreign { holder: String },
    /// No room.
    #[error(
        "this node keeps {KEPT_MAX} grants, as many as it can: revoke or forget some (`comity grant list`)"
    )]
    Full,
    /// The database failed.
    #[error("the grant could not be stored")]
    Storage(#[from] StorageError),
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Book {
    me: AgentId,
    kept: RwLock<BTreeMap<Hash, Kept>>,
}

impl Book {
    pub(crate) fn open(storage: &Storage, me: AgentId) -> Result<Self, AccessError> {
        let mut kept = BTreeMap::new();
        for (_, bytes) in storage.read_all(Table::Grants, KEPT_MAX)? {
            let row: Row = canonical::decode_minicbor(&bytes)
                .map_err(|_| AccessError::Damaged { what: "its grants" })?;
            let chain = Chain::from_bytes(&row.chain);
            let chain = chain.map_err(|_| AccessError::Damaged { what: "its grants" })?;
            // A key that was replaced leaves grants behind that are nobody's any more.
            if let Ok(one) = Kept::open(chain, &me) {
                kept.insert(one.leaf(), one);
            }
        }
        Ok(Self { me, kept: RwLock::new(kept) })
    }

    /// Keeps a chain, on disk before it returns.
    pub(crate) async fn keep(
        &self,
        chain: Chain,
        storage: &Storage,
        now: Time,
    ) -> Result<Kept, KeptError> {
        let kept = Kept::open(chain, &self.me)?;
        let over: Vec<Hash> = {
            let held = self.kept.read().unwrap_or_else(PoisonError::into_inner);
            if held.len() < KEPT_MAX || held.contains_key(&kept.leaf()) {
                Vec::new()
            } else {
                held.iter().filter(|(_, one)| one.until() < now).map(|(hash, _)| *hash).collect()
            }
        };
        for hash in over {
            self.forget(&hash, storage).await?;
        }
        if self.len() >= KEPT_MAX && self.get(&kept.leaf()).is_none() {
            return Err(KeptError::Full);
        }
        let row = Row { version: Version, role: kept.role, chain: kept.chain.to_bytes().into() };
        let key = kept.leaf().as_bytes().to_vec();
        let value = canonical::encode_minicbor(&row);
        storage.commit(vec![Change::Put { table: Table::Grants, key, value }]).await?;
        self.kept.write().unwrap_or_else(PoisonError::into_inner).insert(kept.leaf(), kept.clone());
        Ok(kept)
    }

    /// Forgets a grant; whoever holds it can still use it.
    pub(crate) async fn forget(&self, leaf: &Hash, storage: &Storage) -> Result<(), StorageError> {
        let key = leaf.as_bytes().to_vec();
        storage.commit(vec![Change::Delete { table: Table::Grants, key }]).await?;
        self.kept.write().unwrap_or_else(PoisonError::into_inner).remove(leaf);
        Ok(())
    }

    pub(crate) fn get(&self, leaf: &Hash) -> Option<Kept> {
        self.kept.read().unwrap_or_else(PoisonError::into_inner).get(leaf).cloned()
    }

    fn len(&self) -> usize {
        self.kept.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Everything, by name.
    pub(crate) fn all(&self) -> Vec<Kept> {
        self.kept.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The grant to show when calling `name` of `callee`: of several, the one that lasts longest.
    pub(crate) fn for_call(&self, callee: &AgentId, name: &str, now: Time) -> Option<Kept> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let fits = |one: &&Kept| {
            one.role == Role::Held && one.issuer() == Some(*callee) && one.may_serve(name, now)
        };
        kept.values().filter(fits).max_by_key(|one| one.until()).cloned()
    }
}
