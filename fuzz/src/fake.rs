//! Peers, items and services for the overlay, without cryptography: an item is signed if it carries the mark.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use comity_capability::keys::GroupKey;
use comity_capability::zone::ZoneMap;
use comity_core::{AgentId, Canonical, Hash, Identity, OverlayId, Time};
use comity_overlay::wire::{
    Answer, Compared, ElementRange, ElementState, ErrorCode, Known, LEAF_CUSTODIANS_MAX, LeafView,
    QueryOutcome, QueryRequest, RangeHeld, Reconcile, Report, StoreEntry, StoreOutcome,
};
use comity_overlay::{
    Candidate, Contact, Content, Evaluation, EvaluationLimits, Evaluator, ItemBytes, ItemKind,
    Parsed, Place, Positions, QueryReject, Reject, Request, Response, ShardId, Subject, Verified,
    VerifiedItem, Verifier,
};

use crate::NOW;

/// Peers there are; number 0 is the node under test.
pub const PEERS: usize = 64;
/// Labels of the groups there are.
pub const LABELS: [&str; 4] = ["class/a", "name/b", "term/c", "foreign/d"];

const MARK: u8 = 0xaa;
const ITEM_LEN: usize = 10;
const KINDS: [ItemKind; 5] =
    [ItemKind::Digest, ItemKind::Beat, ItemKind::Tombstone, ItemKind::Peer, ItemKind::Veiled];

/// Peer number `index`: some on loopback, most in a few networks, so that the caps of networks count.
pub fn contact(index: usize) -> Contact {
    static POOL: OnceLock<Vec<Contact>> = OnceLock::new();
    let make = |index: usize| {
        let agent = Identity::from_secret_bytes(&[index as u8 + 1; 32]).id();
        let host = match index % 4 {
            0 => Ipv4Addr::LOCALHOST,
            1 => Ipv4Addr::new(198, 51, 100, index as u8),
            _ => Ipv4Addr::new(203, 0, index as u8, 9),
        };
        Contact::server(agent, place(&agent), vec![SocketAddr::from((host, 4000 + index as u16))])
    };
    POOL.get_or_init(|| (0..PEERS).map(make).collect())[index % PEERS].clone()
}

fn place(agent: &AgentId) -> OverlayId {
    OverlayId(Hash::of(agent.as_bytes()).0)
}

/// Verifies by the mark; a query of one byte asks for digests that declare at least that.
#[derive(Debug, Default)]
pub struct Fake;

impl Positions for Fake {
    fn position(&mut self, agent: &AgentId) -> Option<OverlayId> {
        Some(place(agent))
    }
}

impl Verifier for Fake {
    fn verify(&mut self, _: Time, bytes: &ItemBytes) -> std::result::Result<VerifiedItem, Reject> {
        let item: [u8; ITEM_LEN] = bytes.as_ref().try_into().map_err(|_| Reject::Malformed)?;
        let [kind, signer, subject, seq, issued_0, issued_1, life_0, life_1, value, mark] = item;
        if mark != MARK {
            return Err(Reject::Signature);
        }
        let signer = contact(usize::from(signer));
        let parsed: Parsed = Arc::new(value);
        let kind = KINDS.get(usize::from(kind)).ok_or(Reject::Malformed)?;
        let content = match kind {
            ItemKind::Digest => Content::Digest(parsed),
            ItemKind::Beat => Content::Beat(parsed),
            ItemKind::Veiled => Content::Veiled(parsed),
            ItemKind::Tombstone => Content::Tombstone,
            ItemKind::Peer => Content::Peer(signer.clone()),
        };
        let minutes = |count: u64| Duration::from_secs(60 * count);
        let issued = NOW + minutes(u16::from_be_bytes([issued_0, issued_1]).into());
        let expires = issued + minutes(u16::from_be_bytes([life_0, life_1]).into());
        let subject = match kind {
            ItemKind::Digest | ItemKind::Veiled => Some(Subject(subject.into())),
            ItemKind::Tombstone => Some(Subject(subject.into())).filter(|_| subject != 0),
            ItemKind::Beat | ItemKind::Peer => None,
        };
        Ok(Verified {
            signer: signer.agent,
            subject,
            seq: seq.into(),
            issued,
            expires,
            content,
            bytes: bytes.clone(),
        }
        .into())
    }

    fn admits(&mut self, _: &VerifiedItem, label: &str) -> bool {
        !label.starts_with("foreign")
    }
}

impl Evaluator for Fake {
    fn evaluate(
        &mut self,
        _: Time,
        query: &[u8],
        candidates: &[Candidate<'_>],
        limits: EvaluationLimits,
    ) -> std::result::Result<Evaluation, QueryReject> {
        let [least] = query else { return Err(QueryReject("not one byte".to_owned())) };
        let value = |index: &usize| {
            candidates[*index].digest.downcast_ref::<u8>().expect("a value of this verifier")
        };
        let (mut matches, mut near): (Vec<_>, Vec<_>) =
            (0..candidates.len()).partition(|index| value(index) >= least);
        let passed = matches.len() as u32;
        matches.truncate(limits.matches_max);
        near.truncate(limits.near_max);
        Ok(Evaluation { matches, near, passed, truncated: false })
    }
}

/// An item of `signer`, or of anybody; a few are damaged.
pub fn item(u: &mut Unstructured<'_>, signer: Option<u8>, minute: u16) -> Result<ItemBytes> {
    let signer = signer.map_or_else(|| u.int_in_range(0..=PEERS as u8 - 1), Ok)?;
    let issued = minute.saturating_add(u.int_in_range(0..=3)?).to_be_bytes();
    let life = (*u.choose(&[60, 120, 0, 1, 600, 1559, 1561])? as u16).to_be_bytes();
    let kind = u.int_in_range(0..=4)?;
    let mark = if u.ratio(1, 16)? { 0 } else { MARK };
    let bytes = [
        kind,
        signer,
        u.int_in_range(0..=3)?,
        u.int_in_range(0..=4)?,
        issued[0],
        issued[1],
        life[0],
        life[1],
        u.int_in_range(0..=3)?,
        mark,
    ];
    Ok(bytes.to_vec().into())
}

/// The shard of one of the groups, now and then a deeper one.
pub fn shard(u: &mut Unstructured<'_>) -> Result<ShardId> {
    let shard = ShardId::whole(GroupKey::of(u.choose(&LABELS)?));
    Ok(if u.ratio(1, 8)? { ShardId { depth: 1, prefix: [0x80, 0, 0, 0], ..shard } } else { shard })
}

/// A place in the key space: a peer's, a shard's, or any.
pub fn target(u: &mut Unstructured<'_>) -> Result<OverlayId> {
    Ok(match u.int_in_range(0..=2)? {
        0 => contact(u.choose_index(PEERS)?).overlay_id,
        1 => shard(u)?.position(u.int_in_range(0..=1)?),
        _ => OverlayId(u.arbitrary()?),
    })
}

/// What an asker says that it knows already.
fn known(u: &mut Unstructured<'_>) -> Result<Known> {
    let length = u.int_in_range(0..=12)?;
    Ok(Known::from_bytes(u.bytes(length)?))
}

/// What a peer may ask.
pub fn request(u: &mut Unstructured<'_>, minute: u16) -> Result<Request> {
    Ok(match u.int_in_range(0..=9)? {
        0 => Request::Ping,
        1 => Request::FindNode { target: target(u)?, known: known(u)? },
        2 | 3 => {
            let items = (0..u.int_in_range(0..=6)?)
                .map(|_| item(u, None, minute))
                .collect::<Result<Vec<_>>>()?;
            let entry = |u: &mut Unstructured<'_>| {
                let label = u.choose_index(LABELS.len())?;
                let shard = if u.ratio(1, 8)? {
                    shard(u)?
                } else {
                    ShardId::whole(GroupKey::of(LABELS[label]))
                };
                let place = if u.ratio(1, 4)? {
                    Place::Peer
                } else {
                    Place::Shard { shard, index: u.int_in_range(0..=1)? }
                };
                let label =
                    if place == Place::Peer || u.ratio(1, 8)? { None } else { Some(label as u8) };
                Ok(StoreEntry { item: u.int_in_range(0..=5)?, place, label })
            };
            let entries =
                (0..u.int_in_range(0..=10)?).map(|_| entry(u)).collect::<Result<Vec<_>>>()?;
            Request::Store { items, labels: LABELS.map(str::to_owned).into(), entries }
        }
        4 => Request::Query(QueryRequest {
            shard: shard(u)?,
            placement: u.int_in_range(0..=1)?,
            query: if u.ratio(1, 8)? {
                Vec::new().into()
            } else {
                vec![u.int_in_range(0..=4)?].into()
            },
            limit: u.int_in_range(1..=32)?,
            cost_max: u.arbitrary()?,
            known: known(u)?,
            exclude: (0..u.int_in_range(0..=3)?)
                .map(|_| Ok(contact(u.choose_index(PEERS)?).agent))
                .collect::<Result<_>>()?,
        }),
        5 => Request::FindPeer {
            prefix: target(u)?,
            bits: u.int_in_range(16..=256)?,
            target: target(u)?,
            known: known(u)?,
        },
        6 => Request::Leaving,
        7 => Request::Report(Report {
            shard: ShardId { depth: 1, prefix: [0x80, 0, 0, 0], ..shard(u)? },
            placement: u.int_in_range(0..=1)?,
            count: u.arbitrary()?,
            zone: if u.arbitrary()? { Some(ZoneMap::new().encode().into()) } else { None },
        }),
        8 => Request::Compare {
            sets: (0..u.int_in_range(0..=8)?)
                .map(|_| Ok(Compared { shard: shard(u)?.name(), fingerprint: u.arbitrary()? }))
                .collect::<Result<_>>()?,
        },
        _ => Request::Reconcile(Reconcile {
            shard: shard(u)?,
            placement: u.int_in_range(0..=1)?,
            label: (*u.choose(&LABELS)?).into(),
            closed: u.arbitrary()?,
            ranges: ranges(u)?,
        }),
    })
}

/// Ranges in order, some listed.
fn ranges(u: &mut Unstructured<'_>) -> Result<Vec<ElementRange>> {
    let mut bounds =
        (0..2 * u.int_in_range(0..=20)?).map(|_| u.arbitrary()).collect::<Result<Vec<u64>>>()?;
    bounds.sort_unstable();
    bounds.dedup();
    let (pairs, _) = bounds.as_chunks::<2>();
    let range = |u: &mut Unstructured<'_>, [first, last]: [u64; 2]| {
        let held = if u.arbitrary()? {
            let (seq, beat) = (u.arbitrary()?, u.arbitrary()?);
            let element = |name| ElementState { name, seq, beat };
            RangeHeld::List(vec![element(first), element(last)])
        } else {
            RangeHeld::Sum(u.arbitrary()?)
        };
        Ok(ElementRange { first, last, held })
    };
    pairs.iter().map(|pair| range(u, *pair)).collect()
}

fn leaves(u: &mut Unstructured<'_>) -> Result<Vec<LeafView>> {
    let leaf = |u: &mut Unstructured<'_>, prefix| {
        Ok(LeafView {
            depth: 1,
            prefix: [prefix, 0, 0, 0],
            count: u.arbitrary()?,
            may_match: u.arbitrary()?,
            custodians: (0..u.int_in_range(0..=LEAF_CUSTODIANS_MAX)?)
                .map(|_| Ok(contact(u.choose_index(PEERS)?)))
                .collect::<Result<_>>()?,
        })
    };
    let prefixes: &[u8] = if u.ratio(1, 4)? { &[0, 0x80] } else { &[] };
    prefixes.iter().map(|prefix| leaf(u, *prefix)).collect()
}

/// What a peer may answer, whether or not it was asked that.
pub fn response(u: &mut Unstructured<'_>, minute: u16) -> Result<Response> {
    Ok(match u.int_in_range(0..=11)? {
        0 => Response::Pong,
        1 => {
            let outcome = |u: &mut Unstructured<'_>| {
                Ok(match u.int_in_range(0..=3)? {
                    0 => StoreOutcome::Rejected(*u.choose(&[
                        Reject::Stale,
                        Reject::Misplaced,
                        Reject::Orphan,
                        Reject::Quota,
                        Reject::Conflict,
                    ])?),
                    1 => StoreOutcome::Split { depth: u.int_in_range(1..=32)? },
                    _ => StoreOutcome::Stored,
                })
            };
            Response::Stored {
                outcomes: (0..u.int_in_range(0..=12)?)
                    .map(|_| outcome(u))
                    .collect::<Result<_>>()?,
            }
        }
        2..=4 => {
            let answer = match u.int_in_range(0..=4)? {
                0 => QueryOutcome::NotHeld,
                1 => QueryOutcome::Split { depth: u.int_in_range(1..=32)? },
                _ => QueryOutcome::Answered(Answer {
                    matches: items(u, minute, 8)?,
                    near: items(u, minute, 8)?,
                    beats: items(u, minute, 8)?,
                    held: u.arbitrary()?,
                    passed: u.arbitrary()?,
                    truncated: u.arbitrary()?,
                    set_hash: Hash(u.arbitrary()?),
                    leaves: leaves(u)?,
                }),
            };
            Response::Found { answer, closer: contacts(u)? }
        }
        5 => Response::Peer { records: items(u, minute, 8)?, closer: contacts(u)? },
        6 => Response::Done,
        7 => Response::Error(*u.choose(&[
            ErrorCode::Busy,
            ErrorCode::Invalid,
            ErrorCode::Query,
            ErrorCode::NotServing,
            ErrorCode::Other(9),
        ])?),
        8 => Response::Differ { at: (0..u.int_in_range(0..=20)?).collect() },
        9 => Response::Reconciled {
            ranges: ranges(u)?,
            items: items(u, minute, 8)?,
            wants: (0..u.int_in_range(0..=8)?).map(|_| u.arbitrary()).collect::<Result<_>>()?,
        },
        _ => Response::Nodes { contacts: contacts(u)? },
    })
}

fn items(u: &mut Unstructured<'_>, minute: u16, max: usize) -> Result<Vec<ItemBytes>> {
    (0..u.int_in_range(0..=max)?).map(|_| item(u, None, minute)).collect()
}

/// Contacts, with repetitions and the node itself among them.
pub fn contacts(u: &mut Unstructured<'_>) -> Result<Vec<Contact>> {
    (0..u.int_in_range(0..=20)?).map(|_| Ok(contact(u.choose_index(PEERS)?))).collect()
}
