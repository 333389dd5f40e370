//! What an offered item must be, and how it relates to the one held.

use std::cmp::Ordering;
use std::time::Duration;

use comity_core::{OverlayId, Time};

use crate::config::{BEAT_LIFETIME_MAX, CLOCK_TOLERANCE, ITEM_LIFETIME_MAX};
use crate::item::{Content, ITEM_BYTES_MAX, ItemKind, Reject, VerifiedItem};
use crate::shard::Place;

/// How an offered item relates to the one held about the same thing.
pub(super) fn order(held: &VerifiedItem, item: &VerifiedItem) -> Result<Known, Reject> {
    // All beats of one record have its number.
    let issued =
        |item: &VerifiedItem| matches!(item.content, Content::Beat(_)).then_some(item.issued);
    match (held.seq, issued(held)).cmp(&(item.seq, issued(item))) {
        Ordering::Greater => Err(Reject::Stale),
        Ordering::Less => Ok(Known::Older),
        Ordering::Equal if held.bytes == item.bytes => Ok(Known::Same),
        Ordering::Equal => Err(Reject::Conflict),
    }
}

/// How an offered item relates to what is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Nothing,
    Older,
    Same,
}

/// Expiry, clock tolerance and longest life.
///
/// # Errors
/// [`Reject::Future`], [`Reject::Expired`], [`Reject::Lifetime`].
pub fn check_times(now: Time, item: &VerifiedItem) -> Result<(), Reject> {
    if item.issued > now + CLOCK_TOLERANCE {
        return Err(Reject::Future);
    }
    if item.expires <= now || item.expires <= item.issued {
        return Err(Reject::Expired);
    }
    if item.expires.saturating_since(item.issued) > lifetime_max(item.content.kind()) {
        return Err(Reject::Lifetime);
    }
    Ok(())
}

const fn lifetime_max(kind: ItemKind) -> Duration {
    match kind {
        ItemKind::Digest | ItemKind::Tombstone | ItemKind::Peer => ITEM_LIFETIME_MAX,
        ItemKind::Beat | ItemKind::Veiled => BEAT_LIFETIME_MAX,
    }
}

/// Form and place of an item.
pub(super) fn check_place(item: &VerifiedItem, place: Place) -> Result<(), Reject> {
    if item.bytes.len() > ITEM_BYTES_MAX {
        return Err(Reject::Malformed);
    }
    match (&item.content, place) {
        (Content::Peer(contact), Place::Peer)
            if contact.agent == item.signer && item.subject.is_none() =>
        {
            Ok(())
        }
        (Content::Digest(_) | Content::Veiled(_), Place::Shard { shard, .. })
            if item.subject.is_some() =>
        {
            if shard.admits(&item.signer) {
                Ok(())
            } else {
                Err(Reject::Misplaced)
            }
        }
        (Content::Beat(_), Place::Shard { .. }) if item.subject.is_none() => Ok(()),
        (Content::Tombstone, Place::Shard { shard, .. }) => {
            if shard.admits(&item.signer) {
                Ok(())
            } else {
                Err(Reject::Misplaced)
            }
        }
        (Content::Peer(_) | Content::Digest(_) | Content::Veiled(_) | Content::Beat(_), _) => {
            Err(Reject::Malformed)
        }
        (Content::Tombstone, Place::Peer) => Err(Reject::Misplaced),
    }
}

/// Whether `id` starts with the first `bits` of `prefix`.
#[must_use]
pub fn shares_prefix(id: &OverlayId, prefix: &OverlayId, bits: u16) -> bool {
    id.distance(prefix).leading_zeros() >= u32::from(bits)
}
