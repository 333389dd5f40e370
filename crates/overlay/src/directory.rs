//! The production services: places by Argon2id, items as the signed objects of `comity_capability`, queries by its matcher.
//!
//! An item travels as one byte for its kind and the sealed envelope ([`pack`]), because the envelope signs its kind but does not carry it.

use std::collections::BTreeMap;
use std::sync::Arc;

use comity_capability::keys::admits;
use comity_capability::matching::{ShardLimits, evaluate_shard};
use comity_capability::query::{Draft, Query};
use comity_capability::record::{
    Beat, Digest, GroupSecret, PeerRecord, RecordError, Tombstone, Veiled,
};
use comity_core::envelope::Opened;
use comity_core::{AgentId, Canonical, Hash, OverlayId, Position, Time};

use crate::contact::{Contact, Positions};
use crate::item::{
    Candidate, Content, Evaluation, EvaluationLimits, Evaluator, ItemBytes, ItemKind, QueryReject,
    Reject, Subject, Verified, VerifiedItem, Verifier,
};

/// Places remembered per generation; two generations are kept. A place costs 0.7 ms to compute and 64 bytes to keep.
pub const PLACES_MAX: usize = 16_384;
/// Verified items remembered per generation; two generations are kept.
pub const VERIFIED_MAX: usize = 2_048;

/// A map that forgets what was not used for a while, bounded and without a clock: when the young generation is full it becomes the old
/// one, and what is found in the old one moves to the young one.
#[derive(Debug)]
struct Recent<K, V> {
    young: BTreeMap<K, V>,
    old: BTreeMap<K, V>,
    max: usize,
}

impl<V> Recent<AgentId, V> {
    /// The remembered key with these bytes.
    fn key(&self, bytes: &[u8; 32]) -> Option<AgentId> {
        [&self.young, &self.old]
            .into_iter()
            .find_map(|map| map.get_key_value(bytes))
            .map(|(key, _)| *key)
    }
}

impl<K: Ord + Copy, V: Clone> Recent<K, V> {
    const fn new(max: usize) -> Self {
        Self { young: BTreeMap::new(), old: BTreeMap::new(), max }
    }

    fn get(&mut self, key: &K) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let value = self.old.remove(key)?;
        self.insert(*key, value.clone());
        Some(value)
    }

    fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.max {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }
}

/// Derives places with Argon2id and remembers them.
#[derive(Debug)]
pub struct Places {
    mint_bits: u32,
    known: Recent<AgentId, Option<OverlayId>>,
}

impl Places {
    /// For a network whose keys must have `mint_bits` leading zero bits.
    #[must_use]
    pub const fn new(mint_bits: u32) -> Self {
        Self { mint_bits, known: Recent::new(PLACES_MAX) }
    }
}

impl Positions for Places {
    fn position(&mut self, agent: &AgentId) -> Option<OverlayId> {
        if let Some(known) = self.known.get(agent) {
            return known;
        }
        let position = Position::of(agent);
        let place = position.meets(self.mint_bits).then(|| position.overlay_id());
        self.known.insert(*agent, place);
        place
    }

    fn accept(&mut self, key: &[u8; 32]) -> Option<AgentId> {
        self.known.key(key).or_else(|| AgentId::from_bytes(key).ok())
    }
}

/// Verifies items and evaluates queries as the network does.
#[derive(Debug)]
pub struct Directory<P = Places> {
    places: P,
    verified: Recent<Hash, VerifiedItem>,
}

impl Directory {
    /// For a network whose keys must have `mint_bits` leading zero bits.
    #[must_use]
    pub const fn new(mint_bits: u32) -> Self {
        Self::with_places(Places::new(mint_bits))
    }
}

impl<P> Directory<P> {
    /// With places that are known elsewhere too: deriving one twice costs twice.
    #[must_use]
    pub const fn with_places(places: P) -> Self {
        Self { places, verified: Recent::new(VERIFIED_MAX) }
    }
}

/// The item made of a sealed envelope of this kind.
#[must_use]
pub fn pack(kind: ItemKind, sealed: &[u8]) -> ItemBytes {
    let mut bytes = Vec::with_capacity(1 + sealed.len());
    bytes.push(kind_number(kind));
    bytes.extend_from_slice(sealed);
    bytes.into()
}

/// The sealed envelope in an item; empty for an empty item.
#[must_use]
pub fn sealed(item: &ItemBytes) -> &[u8] {
    item.get(1..).unwrap_or_default()
}

/// The digest in a verified item, if it is one that a [`Directory`] verified.
#[must_use]
pub fn digest(item: &VerifiedItem) -> Option<&Digest> {
    match &item.content {
        Content::Digest(parsed) => parsed.downcast_ref(),
        Content::Beat(_) | Content::Tombstone | Content::Peer(_) | Content::Veiled(_) => None,
    }
}

/// The beat in a verified item, if it is one that a [`Directory`] verified.
#[must_use]
pub fn beat(item: &VerifiedItem) -> Option<&Beat> {
    match &item.content {
        Content::Beat(parsed) => parsed.downcast_ref(),
        Content::Digest(_) | Content::Tombstone | Content::Peer(_) | Content::Veiled(_) => None,
    }
}

/// The veiled entry in a verified item, if it is one that a [`Directory`] verified.
#[must_use]
pub fn veiled(item: &VerifiedItem) -> Option<&Opened<Veiled>> {
    match &item.content {
        Content::Veiled(parsed) => parsed.downcast_ref(),
        Content::Digest(_) | Content::Beat(_) | Content::Tombstone | Content::Peer(_) => None,
    }
}

const fn kind_number(kind: ItemKind) -> u8 {
    match kind {
        ItemKind::Digest => 0,
        ItemKind::Beat => 1,
        ItemKind::Tombstone => 2,
        ItemKind::Peer => 3,
        ItemKind::Veiled => 4,
    }
}

impl<P: Positions> Positions for Directory<P> {
    fn position(&mut self, agent: &AgentId) -> Option<OverlayId> {
        self.places.position(agent)
    }

    fn accept(&mut self, key: &[u8; 32]) -> Option<AgentId> {
        self.places.accept(key)
    }
}

impl<P: Positions> Verifier for Directory<P> {
    fn verify(&mut self, now: Time, bytes: &ItemBytes) -> Result<VerifiedItem, Reject> {
        let name = Hash::of(bytes);
        if let Some(known) = self.verified.get(&name) {
            return Ok(known);
        }
        let (kind, envelope) = bytes.split_first().ok_or(Reject::Malformed)?;
        let item = match kind {
            0 => open_digest(now, envelope, bytes),
            1 => open_beat(now, envelope, bytes),
            2 => open_tombstone(now, envelope, bytes),
            3 => self.open_peer(now, envelope, bytes),
            4 => open_veiled(now, envelope, bytes),
            _ => Err(Reject::Malformed),
        }?;
        if self.position(&item.signer).is_none() {
            return Err(Reject::Mint);
        }
        self.verified.insert(name, item.clone());
        Ok(item)
    }

    fn admits(&mut self, item: &VerifiedItem, label: &str) -> bool {
        match &item.content {
            Content::Veiled(_) => veiled(item).is_some_and(|veiled| veiled.payload.admits(label)),
            Content::Digest(_) | Content::Beat(_) | Content::Tombstone | Content::Peer(_) => {
                digest(item).is_some_and(|digest| admits(digest, label))
            }
        }
    }

    fn unveil(
        &mut self,
        now: Time,
        item: &VerifiedItem,
        secret: &GroupSecret,
    ) -> Option<VerifiedItem> {
        let inside = secret.unveil(veiled(item)?, now).ok()?;
        // The pseudonym around it is minted; so must be the agent it stands for.
        self.position(&inside.signer)?;
        let digest = inside.payload;
        Some(
            Verified {
                signer: inside.signer,
                subject: Some(Subject::of(&digest.name)),
                seq: digest.seq,
                issued: digest.issued,
                expires: digest.expires,
                content: Content::Digest(Arc::new(digest)),
                bytes: item.bytes.clone(),
            }
            .into(),
        )
    }
}

impl<P: Positions> Directory<P> {
    fn open_peer(
        &mut self,
        now: Time,
        envelope: &[u8],
        bytes: &ItemBytes,
    ) -> Result<VerifiedItem, Reject> {
        let opened = PeerRecord::open(envelope, now).map_err(|error| reject(&error))?;
        let record = opened.payload;
        let overlay_id = self.position(&opened.signer).ok_or(Reject::Mint)?;
        let contact = Contact::new(opened.signer, overlay_id, record.addrs, record.server);
        let content = Content::Peer(contact);
        let (seq, issued, expires) = (record.seq, record.issued, record.expires);
        Ok(Verified {
            signer: opened.signer,
            subject: None,
            seq,
            issued,
            expires,
            content,
            bytes: bytes.clone(),
        }
        .into())
    }
}

fn open_digest(now: Time, envelope: &[u8], bytes: &ItemBytes) -> Result<VerifiedItem, Reject> {
    let opened = Digest::open(envelope, now).map_err(|error| reject(&error))?;
    let digest = opened.payload;
    let (seq, issued, expires) = (digest.seq, digest.issued, digest.expires);
    let subject = Some(Subject::of(&digest.name));
    let content = Content::Digest(Arc::new(digest));
    Ok(Verified {
        signer: opened.signer,
        subject,
        seq,
        issued,
        expires,
        content,
        bytes: bytes.clone(),
    }
    .into())
}

fn open_beat(now: Time, envelope: &[u8], bytes: &ItemBytes) -> Result<VerifiedItem, Reject> {
    let opened = Beat::open(envelope, now).map_err(|error| reject(&error))?;
    let (seq, issued, expires) =
        (opened.payload.seq, opened.payload.issued, opened.payload.expires);
    let content = Content::Beat(Arc::new(opened.payload));
    Ok(Verified {
        signer: opened.signer,
        subject: None,
        seq,
        issued,
        expires,
        content,
        bytes: bytes.clone(),
    }
    .into())
}

fn open_tombstone(now: Time, envelope: &[u8], bytes: &ItemBytes) -> Result<VerifiedItem, Reject> {
    let opened = Tombstone::open(envelope, now).map_err(|error| reject(&error))?;
    let tombstone = opened.payload;
    let subject = tombstone.capability.as_deref().map(Subject::of);
    let (seq, issued, expires) = (tombstone.seq, tombstone.issued, tombstone.expires);
    let content = Content::Tombstone;
    Ok(Verified {
        signer: opened.signer,
        subject,
        seq,
        issued,
        expires,
        content,
        bytes: bytes.clone(),
    }
    .into())
}

fn open_veiled(now: Time, envelope: &[u8], bytes: &ItemBytes) -> Result<VerifiedItem, Reject> {
    let opened = Veiled::open(envelope, now).map_err(|error| reject(&error))?;
    let Veiled { seq, issued, expires, slot, .. } = opened.payload;
    let signer = opened.signer;
    let content = Content::Veiled(Arc::new(opened));
    Ok(Verified {
        signer,
        subject: Some(Subject(slot)),
        seq,
        issued,
        expires,
        content,
        bytes: bytes.clone(),
    }
    .into())
}

/// The overlay's word for what the record types refuse.
fn reject(error: &RecordError) -> Reject {
    use comity_capability::record::TimesError;
    use comity_core::envelope::EnvelopeError;
    if let RecordError::Envelope(EnvelopeError::Signature { .. }) = error {
        return Reject::Signature;
    }
    let RecordError::Times(times) = error else { return Reject::Malformed };
    if matches!(times, TimesError::Expired { .. } | TimesError::Never { .. }) {
        Reject::Expired
    } else if matches!(times, TimesError::TooLongLived { .. }) {
        Reject::Lifetime
    } else if matches!(times, TimesError::NotYet { .. }) {
        Reject::Future
    } else {
        Reject::Malformed
    }
}

impl<P> Evaluator for Directory<P> {
    fn evaluate(
        &mut self,
        _now: Time,
        query: &[u8],
        candidates: &[Candidate<'_>],
        limits: EvaluationLimits,
    ) -> Result<Evaluation, QueryReject> {
        let query = Query::decode(query).map_err(|error| QueryReject(error.to_string()))?;
        // Candidates of another parser are none.
        let typed = candidates.iter().enumerate().filter_map(|(at, candidate)| {
            let digest: &Digest = candidate.digest.downcast_ref()?;
            Some((at, (*candidate.signer, digest)))
        });
        let (places, digests): (Vec<_>, Vec<_>) = typed.unzip();
        let limits = ShardLimits {
            results: limits.matches_max,
            near_misses: limits.near_max,
            cost: limits.cost_max.into(),
        };
        let answer = evaluate_shard(&query, digests, limits);
        let place = |index: usize| places.get(index).copied();
        Ok(Evaluation {
            matches: answer.found.iter().filter_map(|found| place(found.index)).collect(),
            near: answer.near_misses.iter().filter_map(|miss| place(miss.index)).collect(),
            passed: u32::try_from(answer.matching).unwrap_or(u32::MAX),
            truncated: answer.exhausted,
        })
    }

    fn question_for(&mut self, item: &VerifiedItem) -> Option<ItemBytes> {
        if veiled(item).is_some() {
            return Some(ItemBytes::default());
        }
        let name = digest(item)?.name.clone();
        let draft = Draft { name: Some(name), ..Draft::default() };
        Some(draft.finish().ok()?.encode().into())
    }
}
