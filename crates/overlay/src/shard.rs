//! Groups, shards and the places where they are kept.

use std::sync::LazyLock;

use blake3::hazmat::ContextKey;
use comity_capability::keys::GroupKey;
use comity_core::{AgentId, Distance, OverlayId};

use crate::derive::{context, hasher};

/// Salted placements of every shard. An attacker must eclipse all of them to hide a group.
pub const PLACEMENTS: u8 = 2;
/// Deepest split a shard id may name.
pub const SHARD_DEPTH_MAX: u8 = 32;

static PLACEMENT: LazyLock<ContextKey> = context!("comity/placement/v1");
static SPLIT: LazyLock<ContextKey> = context!("comity/shard-split/v1");
static NAME: LazyLock<ContextKey> = context!("comity/shard-name/v1");
static PEER: LazyLock<ContextKey> = context!("comity/peer-placement/v1");

/// One leaf of a group's prefix tree.
///
/// Depth 0 is the whole group. The id travels with its depth, so that splitting a large group needs no new wire form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId {
    /// The group this shard belongs to.
    pub group: GroupKey,
    /// Number of significant leading bits of `prefix`, at most [`SHARD_DEPTH_MAX`].
    pub depth: u8,
    /// Leading bits of the members' split hash; bits beyond `depth` are zero.
    pub prefix: [u8; 4],
}

impl ShardId {
    /// The shard that holds the whole of `group`.
    #[must_use]
    pub const fn whole(group: GroupKey) -> Self {
        Self { group, depth: 0, prefix: [0; 4] }
    }

    /// Whether the depth is in range and every bit of `prefix` beyond it is zero.
    #[must_use]
    pub fn is_canonical(&self) -> bool {
        let prefix = u32::from_be_bytes(self.prefix);
        self.depth <= SHARD_DEPTH_MAX && prefix.checked_shl(u32::from(self.depth)).unwrap_or(0) == 0
    }

    /// The shard of `group` at `depth` (at most [`SHARD_DEPTH_MAX`]) that `signer` belongs to.
    #[must_use]
    pub fn of(group: GroupKey, depth: u8, signer: &AgentId) -> Self {
        let depth = depth.min(SHARD_DEPTH_MAX);
        let prefix = split_hash(&group, signer) & leading_mask(depth);
        Self { group, depth, prefix: prefix.to_be_bytes() }
    }

    /// Whether this is a shard of its group's tree and `signer` belongs to it.
    #[must_use]
    pub fn admits(&self, signer: &AgentId) -> bool {
        self.is_canonical()
            && (self.depth == 0 || *self == Self::of(self.group, self.depth, signer))
    }

    /// The shard of the same group at a lower depth that this one is part of; this one for a depth that is not lower.
    #[must_use]
    pub fn ancestor(&self, depth: u8) -> Self {
        let depth = depth.min(self.depth);
        let prefix = u32::from_be_bytes(self.prefix) & leading_mask(depth);
        Self { group: self.group, depth, prefix: prefix.to_be_bytes() }
    }

    /// Whether `other` is this shard or part of it.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.depth <= other.depth && other.ancestor(self.depth) == *self
    }

    /// A short name that tells the shards of one custodian apart.
    #[must_use]
    pub fn name(&self) -> u64 {
        let mut hasher = hasher(&NAME);
        hasher.update(&self.group.0);
        hasher.update(&[self.depth]);
        hasher.update(&self.prefix);
        let mut leading = [0; 8];
        leading.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        u64::from_be_bytes(leading)
    }

    /// Where placement `index` of this shard lies: `BLAKE3.derive_key("comity/placement/v1", group ‖ depth ‖ prefix ‖ index)`.
    #[must_use]
    pub fn position(&self, index: u8) -> OverlayId {
        let mut hasher = hasher(&PLACEMENT);
        hasher.update(&self.group.0);
        hasher.update(&[self.depth]);
        hasher.update(&self.prefix);
        hasher.update(&[index]);
        OverlayId(*hasher.finalize().as_bytes())
    }
}

fn leading_mask(depth: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(depth.min(32))).unwrap_or(0)
}

/// Where a signer's digests stand in a group: `BLAKE3.derive_key("comity/shard-split/v1", group ‖ signer)`, so that nobody chooses
/// a shard without making keys for it.
fn split_hash(group: &GroupKey, signer: &AgentId) -> u32 {
    let mut hasher = hasher(&SPLIT);
    hasher.update(&group.0);
    hasher.update(signer.as_bytes());
    let mut leading = [0; 4];
    leading.copy_from_slice(&hasher.finalize().as_bytes()[..4]);
    u32::from_be_bytes(leading)
}

/// Where the second copy of an agent's peer record lies. The first lies at its overlay id, so that an address prefix finds it.
#[must_use]
pub fn peer_position(agent: &AgentId) -> OverlayId {
    let mut hasher = hasher(&PEER);
    hasher.update(agent.as_bytes());
    OverlayId(*hasher.finalize().as_bytes())
}

/// A place in the key space that items are stored under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// Placement `index` (below [`PLACEMENTS`]) of a shard: digests, beats and their tombstones.
    Shard {
        /// The shard.
        shard: ShardId,
        /// Which of the salted placements.
        index: u8,
    },
    /// A peer record, kept near the agent's overlay id and near [`peer_position`].
    Peer,
}

/// The part of the key space around a target whose nodes keep what is stored there.
///
/// The radius is the distance inside which `k` nodes are expected when `size` nodes are spread evenly, so nodes that an
/// attacker adds near a target never displace honest ones (expected-distance region; OVERLAY section 3.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Region {
    /// Largest distance inside, as the leading 128 bits of the XOR.
    radius: u128,
}

impl Region {
    /// The region that `holders` of `size` nodes are expected in; everything when `size <= holders`.
    #[must_use]
    pub fn expected(holders: usize, size: u64) -> Self {
        let holders = u128::try_from(holders).unwrap_or(u128::MAX);
        let size = u128::from(size);
        if size <= holders {
            return Self { radius: u128::MAX };
        }
        Self { radius: (u128::MAX / size).saturating_mul(holders) }
    }

    /// This region widened `factor` times.
    #[must_use]
    pub const fn times(self, factor: u32) -> Self {
        Self { radius: self.radius.saturating_mul(factor as u128) }
    }

    /// This region narrowed `divisor` times.
    #[must_use]
    pub fn divided(self, divisor: u32) -> Self {
        Self { radius: self.radius / u128::from(divisor.max(1)) }
    }

    /// Everyone who shares this many leading bits.
    pub(crate) fn shared(bits: u32) -> Self {
        Self { radius: u128::MAX.checked_shr(bits).unwrap_or(0) }
    }

    /// Leading bits that everyone inside shares with the target.
    pub(crate) const fn shared_bits(self) -> u32 {
        self.radius.leading_zeros()
    }

    /// The largest distance inside.
    pub(crate) fn distance(self) -> Distance {
        let mut distance = [0xff; 32];
        distance[..16].copy_from_slice(&self.radius.to_be_bytes());
        Distance(distance)
    }

    /// Whether `node` lies within the region around `target`.
    #[must_use]
    pub fn contains(&self, target: &OverlayId, node: &OverlayId) -> bool {
        leading_distance(target, node) <= self.radius
    }
}

/// The leading 128 bits of the XOR distance.
pub(crate) fn leading_distance(a: &OverlayId, b: &OverlayId) -> u128 {
    leading_bits(a) ^ leading_bits(b)
}

fn leading_bits(id: &OverlayId) -> u128 {
    u128::from_be_bytes(id.0.first_chunk().copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_networks_are_one_region() {
        let everything = Region::expected(20, 20);
        assert!(everything.contains(&OverlayId([0; 32]), &OverlayId([0xff; 32])));
        assert_eq!(Region::expected(20, 0), everything);
    }

    #[test]
    fn a_region_shrinks_with_the_network() {
        let region = Region::expected(20, 40);
        let mut near = [0; 32];
        near[0] = 0x7f;
        let mut far = [0; 32];
        far[0] = 0x81;
        assert!(region.contains(&OverlayId([0; 32]), &OverlayId(near)));
        assert!(!region.contains(&OverlayId([0; 32]), &OverlayId(far)));
        assert!(region.times(2).contains(&OverlayId([0; 32]), &OverlayId(far)));
    }

    #[test]
    fn placements_and_depths_lie_apart() {
        let shard = ShardId::whole(GroupKey([7; 32]));
        let deeper = ShardId { depth: 1, ..shard };
        assert_ne!(shard.position(0), shard.position(1));
        assert_ne!(shard.position(0), deeper.position(0));
    }

    #[test]
    fn stray_prefix_bits_are_not_canonical() {
        let shard = ShardId::whole(GroupKey([7; 32]));
        assert!(shard.is_canonical());
        assert!(!ShardId { prefix: [0x80, 0, 0, 0], ..shard }.is_canonical());
        assert!(ShardId { depth: 1, prefix: [0x80, 0, 0, 0], ..shard }.is_canonical());
        assert!(ShardId { depth: 32, prefix: [1, 2, 3, 4], ..shard }.is_canonical());
        assert!(!ShardId { depth: 33, ..shard }.is_canonical());
    }
}
