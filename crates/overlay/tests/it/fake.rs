//! Items and services without cryptography: what is signed is whatever carries the mark of a signature.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use comity_capability::record::GroupSecret;
use comity_core::{AgentId, Hash, Identity, OverlayId, Time};
use comity_overlay::{
    Candidate, Contact, Content, Evaluation, EvaluationLimits, Evaluator, ItemBytes, ItemKind,
    Parsed, Positions, Publication, QueryReject, Reject, Subject, Verified, VerifiedItem, Verifier,
};

const MARK: u8 = 0xaa;
const LEN: usize = 1 + 32 + 8 * 6 + 1;

/// What a fake item says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item {
    pub(crate) kind: ItemKind,
    pub(crate) signer: AgentId,
    /// 0: the signer as a whole.
    pub(crate) subject: u64,
    pub(crate) seq: u64,
    pub(crate) issued: Time,
    pub(crate) expires: Time,
    /// What a digest declares, or the node number of a peer record.
    pub(crate) value: u64,
}

const KINDS: [ItemKind; 5] =
    [ItemKind::Digest, ItemKind::Beat, ItemKind::Tombstone, ItemKind::Peer, ItemKind::Veiled];

impl Item {
    pub(crate) fn digest(
        signer: AgentId,
        subject: u64,
        value: u64,
        issued: Time,
        expires: Time,
    ) -> Self {
        Self { kind: ItemKind::Digest, signer, subject, seq: 1, issued, expires, value }
    }

    pub(crate) fn seal(&self) -> ItemBytes {
        let kind = KINDS.iter().position(|kind| *kind == self.kind).unwrap();
        let mut bytes = vec![u8::try_from(kind).unwrap()];
        bytes.extend(self.signer.as_bytes());
        for number in [self.subject, self.seq, self.issued.0, self.expires.0, self.value, 0] {
            bytes.extend(number.to_be_bytes());
        }
        bytes.push(MARK);
        bytes.into()
    }

    pub(crate) fn publication(&self, labels: &[&str]) -> Publication {
        Publication {
            item: self.seal(),
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        }
    }

    /// As a verifier returns it.
    pub(crate) fn verified(&self) -> VerifiedItem {
        Fake::default().verify(Time::ZERO, &self.seal()).unwrap()
    }
}

/// The key of node `index`.
pub(crate) fn agent(index: usize) -> AgentId {
    let mut secret = [7; 32];
    secret[..8].copy_from_slice(&(index as u64).to_be_bytes());
    Identity::from_secret_bytes(&secret).id()
}

pub(crate) fn place(agent: &AgentId) -> OverlayId {
    OverlayId(Hash::of(agent.as_bytes()).0)
}

pub(crate) fn addr(index: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], u16::try_from(1_000 + index).unwrap()))
}

pub(crate) fn contact(index: usize) -> Contact {
    let agent = agent(index);
    Contact::server(agent, place(&agent), vec![addr(index)])
}

/// Verifies by the mark, and evaluates queries of 8 bytes, "declares at least this", or 16, "and at most that".
#[derive(Debug, Default)]
pub(crate) struct Fake {
    pub(crate) verifications: usize,
    agents: BTreeMap<[u8; 32], AgentId>,
}

impl Fake {
    fn agent(&mut self, key: &[u8; 32]) -> Result<AgentId, Reject> {
        if let Some(known) = self.agents.get(key) {
            return Ok(*known);
        }
        let agent = AgentId::from_bytes(key).map_err(|_| Reject::Signature)?;
        self.agents.insert(*key, agent);
        Ok(agent)
    }
}

impl Positions for Fake {
    fn position(&mut self, agent: &AgentId) -> Option<OverlayId> {
        Some(place(agent))
    }
}

impl Verifier for Fake {
    fn verify(&mut self, _: Time, bytes: &ItemBytes) -> Result<VerifiedItem, Reject> {
        self.verifications += 1;
        if bytes.len() != LEN {
            return Err(Reject::Malformed);
        }
        if bytes[LEN - 1] != MARK {
            return Err(Reject::Signature);
        }
        let kind = *KINDS.get(usize::from(bytes[0])).ok_or(Reject::Malformed)?;
        let signer = self.agent(&bytes[1..33].try_into().unwrap())?;
        let number =
            |at: usize| u64::from_be_bytes(bytes[33 + at * 8..41 + at * 8].try_into().unwrap());
        let value: Parsed = Arc::new(number(4));
        let content = match kind {
            ItemKind::Digest => Content::Digest(value),
            ItemKind::Beat => Content::Beat(value),
            ItemKind::Veiled => Content::Veiled(value),
            ItemKind::Tombstone => Content::Tombstone,
            ItemKind::Peer => {
                let index = usize::try_from(number(4)).unwrap();
                Content::Peer(Contact::server(signer, place(&signer), vec![addr(index)]))
            }
        };
        let subject = Some(number(0)).filter(|subject| *subject != 0).map(Subject);
        let (seq, issued, expires) = (number(1), Time(number(2)), Time(number(3)));
        Ok(Verified { signer, subject, seq, issued, expires, content, bytes: bytes.clone() }.into())
    }

    fn admits(&mut self, _: &VerifiedItem, label: &str) -> bool {
        !label.starts_with("foreign")
    }

    /// A veiled value opens with the secret whose first byte is its last one.
    fn unveil(
        &mut self,
        _: Time,
        item: &VerifiedItem,
        secret: &GroupSecret,
    ) -> Option<VerifiedItem> {
        let Content::Veiled(value) = &item.content else { return None };
        let value = *value.downcast_ref::<u64>()?;
        let opens = value & 0xff == u64::from(secret.as_bytes()[0]);
        let content = Content::Digest(Arc::new(value >> 8));
        opens.then(|| Verified { content, ..(**item).clone() }.into())
    }
}

impl Evaluator for Fake {
    fn evaluate(
        &mut self,
        _: Time,
        query: &[u8],
        candidates: &[Candidate<'_>],
        limits: EvaluationLimits,
    ) -> Result<Evaluation, QueryReject> {
        let numbers: Vec<_> = query.as_chunks().0.iter().copied().map(u64::from_be_bytes).collect();
        let wanted = match (query.len(), numbers.as_slice()) {
            (8, [least]) => *least..=u64::MAX,
            (16, [least, most]) => *least..=*most,
            _ => return Err(QueryReject("neither 8 nor 16 bytes".to_owned())),
        };
        let value = |index: &usize| *candidates[*index].digest.downcast_ref::<u64>().unwrap();
        let (mut matches, mut near): (Vec<_>, Vec<_>) =
            (0..candidates.len()).partition(|index| wanted.contains(&value(index)));
        let passed = u32::try_from(matches.len()).unwrap();
        matches.truncate(limits.matches_max);
        near.truncate(limits.near_max);
        Ok(Evaluation { matches, near, passed, truncated: false })
    }

    fn question_for(&mut self, digest: &VerifiedItem) -> Option<ItemBytes> {
        let Content::Digest(value) = &digest.content else { return None };
        Some(value.downcast_ref::<u64>()?.to_be_bytes().to_vec().into())
    }
}
