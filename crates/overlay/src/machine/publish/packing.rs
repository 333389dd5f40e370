//! Cutting what custodians are offered into store requests.

use std::collections::BTreeSet;

use super::ItemState;
use crate::shard::Place;
use crate::wire::{Request, STORE_ITEMS_MAX, STORE_LABELS_MAX, StoreEntry};

/// Bytes of items in one store request; entries and framing fit beside them.
const STORE_BYTES_MAX: usize = 44 * 1_024;

/// Cuts what one custodian is offered into requests within the bounds.
pub(super) fn chunked(
    items: &[ItemState],
    offer: BTreeSet<(usize, Place)>,
) -> Vec<Vec<(usize, Place)>> {
    let mut chunks = Vec::new();
    let (mut chunk, mut bytes, mut distinct, mut last) = (Vec::new(), 0, 0, None);
    let mut ordered: Vec<_> = offer.into_iter().collect();
    ordered.sort_by_key(|(index, place)| (items[*index].item.content.kind(), *index, *place));
    for (index, place) in ordered {
        let size = items[index].item.bytes.len();
        let label = items[index].label(&place).map_or(0, String::len);
        let is_new = last != Some(index);
        // Counts a label again for each item: an upper bound.
        let added = label + if is_new { size } else { 0 };
        let full = chunk.len() >= STORE_LABELS_MAX
            || (is_new && distinct == STORE_ITEMS_MAX)
            || bytes + added > STORE_BYTES_MAX;
        if full && !chunk.is_empty() {
            chunks.push(std::mem::take(&mut chunk));
            (bytes, distinct) = (0, 0);
        }
        bytes += label;
        if is_new || chunk.is_empty() {
            bytes += size;
            distinct += 1;
        }
        last = Some(index);
        chunk.push((index, place));
    }
    chunks.push(chunk);
    // Sent from the back.
    chunks.reverse();
    chunks
}

pub(super) fn store_request(items: &[ItemState], entries: &[(usize, Place)]) -> Request {
    let (mut sent, mut labels) = (Vec::new(), Vec::new());
    let mut wire = Vec::new();
    for (index, place) in entries {
        let label = items[*index].label(place).map(|label| place_of(&mut labels, label.clone()));
        wire.push(StoreEntry { item: place_of(&mut sent, *index), place: *place, label });
    }
    Request::Store {
        items: sent.into_iter().map(|index| items[index].item.bytes.clone()).collect(),
        labels,
        entries: wire,
    }
}

/// Where `value` is in `list`, added if it was not there.
fn place_of<T: PartialEq>(list: &mut Vec<T>, value: T) -> u8 {
    let at = list.iter().position(|known| *known == value).unwrap_or_else(|| {
        list.push(value);
        list.len() - 1
    });
    u8::try_from(at).expect("a request carries at most 40 items and 128 labels")
}
