//! What a caller shows along with a call, and what became of it once verified.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use comity_core::canonical::{self, Version};
use comity_core::{AgentId, Hash};
use comity_trust::admission::{MAX_ENDORSERS, Membership};
use comity_trust::endorse::{Endorsement, MAX_ENDORSE};
use comity_trust::grant::{MAX_CHAIN, Refusal, VerifiedChain};
use comity_trust::revoke::MAX_SET;
use minicbor::bytes::ByteVec;

use super::charters::ShownMembership;

/// Most revocation sets shown with one call: those of the delegators of the longest chain, of a group and of its stewards.
pub(crate) const SETS_MAX: usize = 3 + 1 + MAX_ENDORSERS;
/// Most endorsements shown with one call.
pub(crate) const ENDORSEMENTS_MAX: usize = 4;
/// Sessions of which it is remembered what was shown; the oldest is forgotten first, and verified again when it calls again.
const SESSIONS_MAX: usize = 1024;
/// Different things one session shows that are remembered.
const SHOWN_MAX: usize = 8;

/// What travels: nothing of it is verified.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub(crate) struct Presented {
    #[n(0)]
    pub(crate) version: Version<1>,
    /// A chain of grants.
    #[n(1)]
    pub(crate) chain: Option<ByteVec>,
    /// Newest revocation sets of the chain's delegators.
    #[n(2)]
    pub(crate) sets: Option<Vec<ByteVec>>,
    /// Endorsements of the caller.
    #[n(3)]
    pub(crate) endorsements: Option<Vec<ByteVec>>,
    /// Membership of a group with a charter.
    #[n(4)]
    pub(crate) membership: Option<ShownMembership>,
}

impl Presented {
    /// A chain of grants and the newest revocation sets of its delegators. Sets that find no room are left out: they are a help, not a right.
    pub(crate) fn new(chain: Option<Vec<u8>>, sets: Vec<Vec<u8>>, endorsed: Vec<Vec<u8>>) -> Self {
        let some = |list: Vec<Vec<u8>>, max: usize| {
            let list: Vec<ByteVec> = list.into_iter().take(max).map(ByteVec::from).collect();
            (!list.is_empty()).then_some(list)
        };
        Self {
            version: Version,
            chain: chain.map(ByteVec::from),
            sets: some(sets, SETS_MAX),
            endorsements: some(endorsed, ENDORSEMENTS_MAX),
            membership: None,
        }
    }

    /// Shows a membership besides.
    pub(crate) fn of_group(self, membership: Option<ShownMembership>) -> Self {
        Self { membership, ..self }
    }

    /// Its bytes, without the sets if they would not fit with them.
    pub(crate) fn encode(mut self) -> Bytes {
        let bytes = canonical::encode_minicbor(&self);
        if bytes.len() <= crate::rpc::GRANTS_BYTES_MAX {
            return bytes.into();
        }
        self.sets = None;
        canonical::encode_minicbor(&self).into()
    }

    /// Reads what a stranger sent; every limit is checked before anything costs a signature.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let presented: Self = canonical::decode_minicbor(bytes).ok()?;
        let fits = |list: &Option<Vec<ByteVec>>, count: usize, length: usize| {
            list.iter().flatten().all(|one| one.len() <= length)
                && list.as_ref().is_none_or(|list| list.len() <= count)
        };
        let fitting = presented.chain.as_ref().is_none_or(|chain| chain.len() <= MAX_CHAIN)
            && fits(&presented.sets, SETS_MAX, MAX_SET)
            && fits(&presented.endorsements, ENDORSEMENTS_MAX, MAX_ENDORSE)
            && presented.membership.as_ref().is_none_or(ShownMembership::fits);
        fitting.then_some(presented)
    }
}

/// What was shown, verified for one session.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    /// The chain, or why it is none for this session.
    pub(crate) chain: Option<Result<VerifiedChain, Refusal>>,
    /// Endorsements of the caller by agents whose word counts here.
    pub(crate) endorsements: Vec<Endorsement>,
    /// Membership of a group that the policy names, with signatures that hold.
    pub(crate) membership: Option<Membership>,
}

impl Shown {
    pub(crate) fn chain(&self) -> Option<&VerifiedChain> {
        self.chain.as_ref()?.as_ref().ok()
    }
}

/// What each session showed, so that signatures are verified once. Bounded; keyed by the session, which no two share.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    by_session: BTreeMap<Hash, VecDeque<(Hash, Arc<Shown>)>>,
    order: VecDeque<Hash>,
}

impl Sessions {
    pub(crate) fn get(&self, session: &Hash, shown: &Hash) -> Option<Arc<Shown>> {
        let known = self.by_session.get(session)?;
        known.iter().find(|(hash, _)| hash == shown).map(|(_, shown)| Arc::clone(shown))
    }

    pub(crate) fn insert(&mut self, session: Hash, hash: Hash, shown: Arc<Shown>) {
        let known = self.by_session.entry(session).or_insert_with(|| {
            self.order.push_back(session);
            VecDeque::new()
        });
        if known.len() >= SHOWN_MAX {
            known.pop_front();
        }
        known.push_back((hash, shown));
        if self.order.len() > SESSIONS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_session.remove(&oldest);
        }
    }

    /// Everything is verified again: whose word counts has changed.
    pub(crate) fn clear(&mut self) {
        self.by_session.clear();
        self.order.clear();
    }
}

/// Whether a chain, which the caller may well have been given, names the capability: then its refusal may be told, whatever there is.
pub(crate) fn covers(chain: &VerifiedChain, name: &str, me: &AgentId) -> bool {
    let links = chain.links();
    links.first().is_some_and(|first| first.signer == *me)
        && links
            .iter()
            .all(|link| link.grant.scopes.iter().any(|scope| scope.pattern.matches(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_read_within_its_limits() {
        let whole = Presented::new(Some(vec![1; 10]), vec![vec![2; 5]], vec![vec![3; 7]]);
        let bytes = whole.clone().encode();
        assert_eq!(Presented::decode(&bytes), Some(whole));
        for length in 0..bytes.len() {
            assert_eq!(Presented::decode(&bytes[..length]), None, "cut at {length}");
        }
        let many = |count| Presented {
            endorsements: Some(vec![ByteVec::from(vec![0; 4]); count]),
            ..Presented::new(None, Vec::new(), Vec::new())
        };
        assert!(Presented::decode(&many(ENDORSEMENTS_MAX).encode()).is_some());
        assert!(Presented::decode(&many(ENDORSEMENTS_MAX + 1).encode()).is_none());
        let long = Presented::new(Some(vec![0; MAX_CHAIN + 1]), Vec::new(), Vec::new());
        assert!(Presented::decode(&long.encode()).is_none());
    }

    #[test]
    fn sets_without_room_are_left_out_and_the_chain_stays() {
        let set = vec![7; 20_000];
        let shown = Presented::new(Some(vec![1; 8_000]), vec![set.clone(), set], Vec::new());
        let bytes = shown.encode();
        assert!(bytes.len() <= crate::rpc::GRANTS_BYTES_MAX);
        let read = Presented::decode(&bytes).unwrap();
        assert!(read.sets.is_none() && read.chain.is_some());
    }

    #[test]
    fn sessions_are_forgotten_oldest_first() {
        let mut sessions = Sessions::default();
        let hash = |n: usize| Hash::of(&n.to_be_bytes());
        for n in 0..=SESSIONS_MAX {
            sessions.insert(hash(n), hash(1), Arc::default());
        }
        assert!(sessions.get(&hash(0), &hash(1)).is_none());
        assert!(sessions.get(&hash(SESSIONS_MAX), &hash(1)).is_some());
        for n in 0..=SHOWN_MAX {
            sessions.insert(hash(5), hash(100 + n), Arc::default());
        }
        assert!(sessions.get(&hash(5), &hash(1)).is_none(), "the oldest of one session");
        assert!(sessions.get(&hash(5), &hash(101)).is_some());
    }
}
