//! Verification and evaluation shared by all nodes of a simulation.
//!
//! Every signature is really checked, but only once: the verdict is remembered by the item's bytes. Queries are evaluated by the
//! production [`Directory`], once for all custodians that hold the same. Overlay ids come from a table of random ones instead of Argon2id, which would cost 0.7 ms a node.

mod evaluated;

use std::collections::BTreeMap;
use std::sync::Arc;

use comity_capability::record::{
    Beat, Digest, GroupSecret, MAX_BEAT, MAX_DIGEST, MAX_PEER, MAX_TOMBSTONE, MAX_VEILED,
    PeerRecord, Tombstone, Veiled,
};
use comity_core::canonical::Canonical;
use comity_core::envelope::{self, EnvelopeError, Opened};
use comity_core::{AgentId, Kind, Time};
use comity_overlay::directory::{Directory, pack};
use comity_overlay::{
    Candidate, Contact, Content, Evaluation, EvaluationLimits, Evaluator, ItemBytes, ItemKind,
    Positions, QueryReject, Reject, Subject, Verified, VerifiedItem, Verifier,
};

use crate::places::PlaceTable;
use evaluated::Evaluated;

/// The services of all nodes.
#[derive(Debug)]
pub struct SharedServices {
    /// Where every agent is.
    pub places: PlaceTable,
    verdicts: BTreeMap<ItemBytes, Result<VerifiedItem, Reject>>,
    directory: Directory,
    evaluated: Evaluated,
    /// Signatures really checked.
    pub checked: u64,
    /// Verdicts given, remembered ones included.
    pub asked: u64,
}

impl Default for SharedServices {
    fn default() -> Self {
        Self {
            places: PlaceTable::default(),
            verdicts: BTreeMap::new(),
            directory: Directory::new(0),
            evaluated: Evaluated::default(),
            checked: 0,
            asked: 0,
        }
    }
}

impl SharedServices {
    /// Opens an envelope as everybody does. The keys of this network's agents passed intake when they were made.
    fn open<T: Canonical>(
        &self,
        kind: Kind,
        sealed: &[u8],
        max_len: usize,
    ) -> Result<Opened<T>, Reject> {
        let intake = |key: &[u8; 32]| match self.places.find(key) {
            Some((_, contact)) => Ok(contact.agent),
            None => AgentId::from_bytes(key),
        };
        envelope::open_with_intake::<T>(kind, sealed, max_len, intake).map_err(|error| {
            if matches!(error, EnvelopeError::Signature { .. }) {
                Reject::Signature
            } else {
                Reject::Malformed
            }
        })
    }

    fn check(&mut self, item: &ItemBytes) -> Result<VerifiedItem, Reject> {
        self.checked += 1;
        let (kind, sealed) = item.split_first().ok_or(Reject::Malformed)?;
        // The kind's number is the overlay's to choose: packing nothing shows it.
        let is = |wanted: ItemKind| pack(wanted, &[]).first() == Some(kind);
        if is(ItemKind::Digest) {
            let Opened { signer, payload, .. } =
                self.open::<Digest>(Kind::Digest, sealed, MAX_DIGEST)?;
            let (seq, issued, expires) = (payload.seq, payload.issued, payload.expires);
            let (subject, content) =
                (Some(Subject::of(&payload.name)), Content::Digest(Arc::new(payload)));
            Ok(Verified { signer, subject, seq, issued, expires, content, bytes: item.clone() }
                .into())
        } else if is(ItemKind::Beat) {
            let Opened { signer, payload, .. } = self.open::<Beat>(Kind::Beat, sealed, MAX_BEAT)?;
            let (seq, issued, expires) = (payload.seq, payload.issued, payload.expires);
            let content = Content::Beat(Arc::new(payload));
            Ok(Verified {
                signer,
                subject: None,
                seq,
                issued,
                expires,
                content,
                bytes: item.clone(),
            }
            .into())
        } else if is(ItemKind::Peer) {
            let Opened { signer, payload, .. } =
                self.open::<PeerRecord>(Kind::Peer, sealed, MAX_PEER)?;
            let overlay_id = self.places.position(&signer).ok_or(Reject::Mint)?;
            let PeerRecord { seq, issued, expires, addrs, server, .. } = payload;
            let contact = Contact::new(signer, overlay_id, addrs, server);
            // Nearly always it is what the node was made with: one copy is enough.
            let known = self.places.find(signer.as_bytes()).map(|(_, known)| known.clone());
            let contact = known.filter(|known| *known == contact).unwrap_or(contact);
            let content = Content::Peer(contact);
            Ok(Verified {
                signer,
                subject: None,
                seq,
                issued,
                expires,
                content,
                bytes: item.clone(),
            }
            .into())
        } else if is(ItemKind::Tombstone) {
            let Opened { signer, payload, .. } =
                self.open::<Tombstone>(Kind::Tombstone, sealed, MAX_TOMBSTONE)?;
            let Tombstone { seq, issued, expires, capability, .. } = payload;
            let subject = capability.as_deref().map(Subject::of);
            Ok(Verified {
                signer,
                subject,
                seq,
                issued,
                expires,
                content: Content::Tombstone,
                bytes: item.clone(),
            }
            .into())
        } else if is(ItemKind::Veiled) {
            let opened = self.open::<Veiled>(Kind::Veiled, sealed, MAX_VEILED)?;
            let Veiled { seq, issued, expires, slot, .. } = opened.payload;
            Ok(Verified {
                signer: opened.signer,
                subject: Some(Subject(slot)),
                seq,
                issued,
                expires,
                content: Content::Veiled(Arc::new(opened)),
                bytes: item.clone(),
            }
            .into())
        } else {
            Err(Reject::Malformed)
        }
    }
}

impl Verifier for SharedServices {
    fn verify(&mut self, _now: Time, bytes: &ItemBytes) -> Result<VerifiedItem, Reject> {
        self.asked += 1;
        if let Some(verdict) = self.verdicts.get(bytes) {
            return verdict.clone();
        }
        let verdict = self.check(bytes);
        self.verdicts.insert(bytes.clone(), verdict.clone());
        verdict
    }

    fn admits(&mut self, entry: &VerifiedItem, label: &str) -> bool {
        self.directory.admits(entry, label)
    }

    fn unveil(
        &mut self,
        now: Time,
        item: &VerifiedItem,
        secret: &GroupSecret,
    ) -> Option<VerifiedItem> {
        self.directory.unveil(now, item, secret)
    }
}

impl Evaluator for SharedServices {
    fn evaluate(
        &mut self,
        now: Time,
        query: &[u8],
        candidates: &[Candidate<'_>],
        limits: EvaluationLimits,
    ) -> Result<Evaluation, QueryReject> {
        let Self { evaluated, directory, .. } = self;
        let evaluate = || directory.evaluate(now, query, candidates, limits);
        evaluated.get(query, candidates, limits, evaluate)
    }

    fn question_for(&mut self, digest: &VerifiedItem) -> Option<ItemBytes> {
        self.directory.question_for(digest)
    }
}
