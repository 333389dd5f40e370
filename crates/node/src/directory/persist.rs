//! The overlay's rows on disk: custody, remembered peers, and who keeps this agent's items.

use std::sync::Arc;

use comity_capability::keys::GroupKey;
use comity_core::{AgentId, OverlayId, Time};
use comity_overlay::{Contact, CustodyRow, ItemKey, ItemKind, KnownPlace, ShardId, Subject};
use tracing::warn;

use super::positions::PositionCache;
use crate::storage::{Change, Storage, StorageError, Table};

/// Custody rows read at start; more are left for expiry to sweep after the next restart.
const ROWS_MAX: usize = 1 << 20;
/// Peers remembered across restarts; the longest unseen are forgotten first.
const PEERS_MAX: usize = 512;
/// Peers offered to the overlay at start.
const PEERS_TRIED_MAX: usize = 256;
/// Places of own items whose custodians are remembered across restarts: deriving where a custodian is from its key takes most of a
/// millisecond.
const PLACES_MAX: usize = 64;
/// Custodians written for a place; those left out are found again by those that are not.
const PLACE_CONTACTS_MAX: usize = 32;
/// First byte of a row that this version writes.
const PLACE_VERSION: u8 = 1;

pub(super) fn put_custody(key: &ItemKey, row: &CustodyRow) -> Change {
    Change::Put { table: Table::Custody, key: custody_key(key), value: encode_row(row) }
}

pub(super) fn remove_custody(key: &ItemKey) -> Change {
    Change::Delete { table: Table::Custody, key: custody_key(key) }
}

pub(super) fn put_peer(contact: &Contact, now: Time) -> Change {
    Change::Put {
        table: Table::Peers,
        key: contact.agent.as_bytes().to_vec(),
        value: encode_peer(contact, now),
    }
}

pub(super) fn remove_peer(agent: &AgentId) -> Change {
    Change::Delete { table: Table::Peers, key: agent.as_bytes().to_vec() }
}

/// The custody of an earlier run.
pub(crate) fn load_custody(storage: &Storage) -> Result<Vec<(ItemKey, CustodyRow)>, StorageError> {
    let rows = storage.read_all(Table::Custody, ROWS_MAX)?;
    Ok(rows.iter().filter_map(|(key, row)| Some((decode_key(key)?, decode_row(row)?))).collect())
}

/// The peers of an earlier run, the latest seen first; forgets those past the bound.
pub(crate) async fn load_peers(
    storage: &Storage,
    positions: &PositionCache,
) -> Result<Vec<Contact>, StorageError> {
    let rows = storage.read_all(Table::Peers, usize::MAX)?;
    let mut peers: Vec<(Time, AgentId, Vec<std::net::SocketAddr>)> =
        rows.iter().filter_map(|(key, value)| decode_peer(key, value)).collect();
    peers.sort_by_key(|(seen, _, _)| std::cmp::Reverse(*seen));
    let forgotten: Vec<Change> =
        peers.iter().skip(PEERS_MAX).map(|(_, agent, _)| remove_peer(agent)).collect();
    if let Err(error) = storage.commit(forgotten).await {
        warn!(%error, "old peers could not be forgotten");
    }
    let tried = peers.into_iter().take(PEERS_TRIED_MAX);
    Ok(tried
        .filter_map(|(_, agent, addrs)| {
            positions.get(&agent).map(|overlay_id| Contact::server(agent, overlay_id, addrs))
        })
        .collect())
}

pub(super) fn put_place(known: &KnownPlace) -> Change {
    Change::Put { table: Table::Places, key: known.position.0.to_vec(), value: encode_place(known) }
}

pub(super) fn remove_place(position: &OverlayId) -> Change {
    Change::Delete { table: Table::Places, key: position.0.to_vec() }
}

/// Who kept this agent's items in an earlier run. Rows that cannot be read are named in the log and taken out, as are those past the
/// bound: their places are searched again.
pub(crate) async fn load_places(
    storage: &Storage,
    positions: &PositionCache,
) -> Result<Vec<KnownPlace>, StorageError> {
    let (mut places, mut forgotten) = (Vec::new(), Vec::new());
    for (key, value) in storage.read_all(Table::Places, usize::MAX)? {
        let forget = Change::Delete { table: Table::Places, key: key.clone() };
        if places.len() == PLACES_MAX {
            forgotten.push(forget);
        } else if let Some(place) = decode_place(&key, &value, positions) {
            places.push(place);
        } else {
            let place = data_encoding::HEXLOWER.encode(&key);
            warn!(%place, "what this node knew of the custodians of a place is damaged; it is searched again");
            forgotten.push(forget);
        }
    }
    if let Err(error) = storage.commit(forgotten).await {
        warn!(%error, "old places could not be forgotten");
    }
    Ok(places)
}

/// The version; uses, found, size; for each custodian its key, and its addresses as text after their length.
fn encode_place(known: &KnownPlace) -> Vec<u8> {
    let mut bytes = vec![PLACE_VERSION, known.uses];
    bytes.extend_from_slice(&known.found.to_be_bytes());
    bytes.extend_from_slice(&known.size.to_be_bytes());
    for contact in known.contacts.iter().take(PLACE_CONTACTS_MAX) {
        bytes.extend_from_slice(contact.agent.as_bytes());
        let addrs: Vec<String> = contact.addrs.iter().map(ToString::to_string).collect();
        let addrs = addrs.join(" ");
        bytes.extend_from_slice(&u16::try_from(addrs.len()).unwrap_or(0).to_be_bytes());
        bytes.extend_from_slice(addrs.as_bytes());
    }
    bytes
}

/// `None` for a row this version did not write. Custodians whose keys are not valid on this network are left out.
fn decode_place(key: &[u8], value: &[u8], positions: &PositionCache) -> Option<KnownPlace> {
    let position = OverlayId(key.try_into().ok()?);
    let ([PLACE_VERSION, uses], rest) = value.split_first_chunk::<2>()? else { return None };
    let (found, rest) = rest.split_first_chunk::<2>()?;
    let (size, mut rest) = rest.split_first_chunk::<8>()?;
    let mut contacts = Vec::new();
    while let Some((agent, after)) = rest.split_first_chunk::<32>()
        && contacts.len() < PLACE_CONTACTS_MAX
    {
        let (len, after) = after.split_first_chunk::<2>()?;
        let (addrs, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
        let addrs = std::str::from_utf8(addrs).ok()?;
        let addrs = addrs.split_whitespace().filter_map(|addr| addr.parse().ok()).collect();
        let agent = AgentId::from_bytes(agent).ok()?;
        contacts.extend(positions.get(&agent).map(|place| Contact::server(agent, place, addrs)));
        rest = after;
    }
    let (found, size) = (u16::from_be_bytes(*found), u64::from_be_bytes(*size));
    rest.is_empty().then_some(KnownPlace { position, contacts, found, uses: *uses, size })
}

fn custody_key(key: &ItemKey) -> Vec<u8> {
    let mut bytes = key.signer.as_bytes().to_vec();
    bytes.push(match key.kind {
        ItemKind::Digest => 0,
        ItemKind::Beat => 1,
        ItemKind::Tombstone => 2,
        ItemKind::Peer => 3,
        ItemKind::Veiled => 4,
    });
    if let Some(subject) = key.subject {
        bytes.extend_from_slice(&subject.0.to_be_bytes());
    }
    bytes
}

/// `None` for a key this version did not write.
fn decode_key(bytes: &[u8]) -> Option<ItemKey> {
    let (signer, rest) = bytes.split_first_chunk::<32>()?;
    let (kind, subject) = rest.split_first()?;
    let kind = match kind {
        0 => ItemKind::Digest,
        1 => ItemKind::Beat,
        2 => ItemKind::Tombstone,
        3 => ItemKind::Peer,
        4 => ItemKind::Veiled,
        _ => return None,
    };
    let subject = match subject {
        [] => None,
        bytes => Some(Subject(u64::from_be_bytes(bytes.try_into().ok()?))),
    };
    Some(ItemKey { signer: AgentId::from_bytes(signer).ok()?, kind, subject })
}

/// Count of shards; each shard's id, length of its label, label; the item.
fn encode_row(row: &CustodyRow) -> Vec<u8> {
    let count = u16::try_from(row.shards.len()).unwrap_or(u16::MAX);
    let mut bytes = count.to_be_bytes().to_vec();
    for (at, shard) in row.shards.iter().take(usize::from(count)).enumerate() {
        bytes.extend_from_slice(&shard.group.0);
        bytes.push(shard.depth);
        bytes.extend_from_slice(&shard.prefix);
        let label = row.labels.get(at).map_or("", |label| &**label);
        let len = u16::try_from(label.len()).unwrap_or(0);
        bytes.extend_from_slice(&len.to_be_bytes());
        bytes.extend_from_slice(&label.as_bytes()[..usize::from(len)]);
    }
    bytes.extend_from_slice(&row.bytes);
    bytes
}

/// `None` for a row this version did not write; the overlay verifies the item itself again.
fn decode_row(bytes: &[u8]) -> Option<CustodyRow> {
    let (count, mut rest) = bytes.split_first_chunk::<2>()?;
    let (mut shards, mut labels) = (Vec::new(), Vec::new());
    for _ in 0..u16::from_be_bytes(*count) {
        let (shard, label, after) = decode_shard(rest)?;
        shards.push(shard);
        labels.push(label);
        rest = after;
    }
    Some(CustodyRow { bytes: rest.into(), shards, labels })
}

/// A shard, its label, and what follows them.
fn decode_shard(bytes: &[u8]) -> Option<(ShardId, Arc<str>, &[u8])> {
    let (group, rest) = bytes.split_first_chunk::<32>()?;
    let (depth, rest) = rest.split_first()?;
    let (prefix, rest) = rest.split_first_chunk::<4>()?;
    let (len, rest) = rest.split_first_chunk::<2>()?;
    let (label, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
    let label = std::str::from_utf8(label).ok()?;
    let shard = ShardId { group: GroupKey(*group), depth: *depth, prefix: *prefix };
    Some((shard, Arc::from(label), rest))
}

fn encode_peer(contact: &Contact, now: Time) -> Vec<u8> {
    let addrs: Vec<String> = contact.addrs.iter().map(ToString::to_string).collect();
    let mut bytes = now.as_micros().to_be_bytes().to_vec();
    bytes.extend_from_slice(addrs.join(" ").as_bytes());
    bytes
}

fn decode_peer(key: &[u8], value: &[u8]) -> Option<(Time, AgentId, Vec<std::net::SocketAddr>)> {
    let agent = AgentId::from_bytes(key.try_into().ok()?).ok()?;
    let (seen, addrs) = value.split_first_chunk::<8>()?;
    let addrs = std::str::from_utf8(addrs).ok()?;
    let addrs = addrs.split_whitespace().filter_map(|addr| addr.parse().ok()).collect();
    Some((Time(u64::from_be_bytes(*seen)), agent, addrs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_they_were() {
        let shards = vec![
            ShardId { group: GroupKey([1; 32]), depth: 0, prefix: [0; 4] },
            ShardId { group: GroupKey([2; 32]), depth: 9, prefix: [0xff, 0x80, 0, 0] },
        ];
        let labels: Vec<Arc<str>> = vec!["class/fx".into(), "".into()];
        for (shards, labels) in [(shards, labels), (Vec::new(), Vec::new())] {
            let row = CustodyRow { bytes: b"an item"[..].into(), shards, labels };
            assert_eq!(decode_row(&encode_row(&row)), Some(row));
        }
    }

    #[test]
    fn keys_come_back_as_they_were() {
        let signer = comity_core::Identity::from_secret_bytes(&[3; 32]).id();
        let subjects = [Some(Subject(7)), None, Some(Subject(u64::MAX)), None, Some(Subject(1))];
        let kinds = [
            ItemKind::Digest,
            ItemKind::Beat,
            ItemKind::Tombstone,
            ItemKind::Peer,
            ItemKind::Veiled,
        ];
        for (kind, subject) in kinds.into_iter().zip(subjects) {
            let key = ItemKey { signer, kind, subject };
            assert_eq!(decode_key(&custody_key(&key)), Some(key));
        }
        assert_eq!(decode_key(&[0; 33]), None);
    }

    #[tokio::test]
    async fn places_come_back_and_damaged_ones_are_taken_out() {
        let positions = PositionCache::new(0);
        let contact = |secret: u8| {
            let agent = comity_core::Identity::from_secret_bytes(&[secret; 32]).id();
            let addrs = vec!["192.0.2.1:7".parse().unwrap(), "[2001:db8::1]:9".parse().unwrap()];
            Contact::server(agent, positions.get(&agent).unwrap(), addrs)
        };
        let place = |position: u8, contacts| {
            let position = OverlayId([position; 32]);
            KnownPlace { position, contacts, found: 12, uses: 5, size: 190_000 }
        };
        let known = vec![place(1, vec![contact(3), contact(4)]), place(2, Vec::new())];
        let storage = Storage::in_memory().unwrap();
        let damaged = |position: u8, value: Vec<u8>| Change::Put {
            table: Table::Places,
            key: vec![position; 32],
            value,
        };
        let whole = encode_place(&known[0]);
        let mut later = whole.clone();
        later[0] = PLACE_VERSION + 1;
        let mut changes: Vec<_> = known.iter().map(put_place).collect();
        changes.extend([damaged(5, whole[..whole.len() - 1].to_vec()), damaged(6, Vec::new())]);
        changes.extend([damaged(7, later), damaged(8, [&whole[..], &[1]].concat())]);
        storage.commit(changes).await.unwrap();
        assert_eq!(load_places(&storage, &positions).await.unwrap(), known);
        assert_eq!(storage.read_all(Table::Places, 10).unwrap().len(), known.len());
        storage.commit(vec![remove_place(&known[0].position)]).await.unwrap();
        assert_eq!(load_places(&storage, &positions).await.unwrap(), known[1..]);
    }

    #[test]
    fn damaged_rows_are_left_out() {
        assert_eq!(decode_row(&[]), None);
        assert_eq!(decode_row(&[0]), None);
        assert_eq!(decode_row(&[0, 2, 1, 1, 1]), None);
        assert_eq!(decode_row(&[0xff; 40]), None);
    }
}
