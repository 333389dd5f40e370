//! The overlay's rows on disk: custody and remembered peers.

use std::sync::Arc;

use comity_capability::keys::GroupKey;
use comity_core::{AgentId, Time};
use comity_overlay::{Contact, CustodyRow, ItemKey, ItemKind, ShardId, Subject};
use tracing::warn;

use super::positions::PositionCache;
use crate::storage::{Change, Storage, StorageError, Table};

/// Custody rows read at start; more are left for expiry to sweep after the next restart.
const ROWS_MAX: usize = 1 << 20;
/// Peers remembered across restarts; the longest unseen are forgotten first.
const PEERS_MAX: usize = 512;
/// Peers offered to the overlay at start.
const PEERS_TRIED_MAX: usize = 64;

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

    #[test]
    fn damaged_rows_are_left_out() {
        assert_eq!(decode_row(&[]), None);
        assert_eq!(decode_row(&[0]), None);
        assert_eq!(decode_row(&[0, 2, 1, 1, 1]), None);
        assert_eq!(decode_row(&[0xff; 40]), None);
    }
}
