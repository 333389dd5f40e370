//! Where a key stands in the overlay: the memory-hard stretch, the overlay id, the distance between ids.

use std::fmt;
use std::str::FromStr;

use argon2::{Algorithm, Argon2, Params, Version};

use crate::canonical::byte_newtype_codec;
use crate::text::{self, TextError};
use crate::{Address, AgentId, CheckedHandle, Handle};

/// Salt of the stretch: fixed, because the stretch must be recomputable from the key alone.
const STRETCH_SALT: &[u8] = b"comity/address/v1";
/// Memory of the stretch in KiB: 1 MiB.
const STRETCH_MEMORY_KIB: u32 = 1024;
const STRETCH_PASSES: u32 = 1;
const STRETCH_LANES: u32 = 1;
const STRETCH_LEN: usize = 32;
/// BLAKE3 key-derivation context of the overlay id.
const OVERLAY_CONTEXT: &str = "comity/overlay/v1";
/// Bits of an overlay id.
pub const OVERLAY_BITS: u32 = 256;

/// The order of a 32-byte newtype as a number.
macro_rules! by_number {
    ($name:ident) => {
        impl Ord for $name {
            #[inline]
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                $crate::place::compare(&self.0, &other.0)
            }
        }

        impl PartialOrd for $name {
            #[inline]
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }
    };
}
pub(crate) use by_number;

/// A key's place: the stretch, which says how costly the key was, and the overlay id derived from it.
///
/// Computing it takes 1 MiB and under a millisecond. Do it once per key and keep it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    stretch: [u8; STRETCH_LEN],
    overlay_id: OverlayId,
}

impl Position {
    /// Derives the place of `agent`: `stretch = Argon2id(key, "comity/address/v1", 1 MiB, t = 1, p = 1)`, `overlay id
    /// = BLAKE3.derive_key("comity/overlay/v1", stretch)`. Source: DESIGN.md section 3; RFC 9106 (Argon2, version 1.3).
    #[must_use]
    pub fn of(agent: &AgentId) -> Self {
        let params =
            Params::new(STRETCH_MEMORY_KIB, STRETCH_PASSES, STRETCH_LANES, Some(STRETCH_LEN))
                .expect("constant parameters within the limits of RFC 9106");
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let mut stretch = [0; STRETCH_LEN];
        argon2
            .hash_password_into(agent.as_bytes(), STRETCH_SALT, &mut stretch)
            .expect("a 32-byte password, a 17-byte salt and a 32-byte output are within the limits of RFC 9106");
        let overlay_id = OverlayId(blake3::derive_key(OVERLAY_CONTEXT, &stretch));
        Self { stretch, overlay_id }
    }

    /// Leading zero bits of the stretch: what minting the key is worth, 0 to 256.
    #[must_use]
    pub fn mint_bits(&self) -> u32 {
        leading_zeros(&self.stretch)
    }

    /// Whether the key is valid on a network that demands `mint_bits`.
    #[must_use]
    pub fn meets(&self, mint_bits: u32) -> bool {
        self.mint_bits() >= mint_bits
    }

    /// The 256-bit place in the overlay.
    #[must_use]
    pub const fn overlay_id(&self) -> OverlayId {
        self.overlay_id
    }

    /// The 128-bit address.
    #[must_use]
    pub fn address(&self) -> Address {
        self.overlay_id.address()
    }

    /// The 48-bit handle.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.overlay_id.handle()
    }

    /// The handle with 40 more bits to check it by.
    #[must_use]
    pub fn checked_handle(&self) -> CheckedHandle {
        self.overlay_id.checked_handle()
    }
}

/// A place in the overlay: 256 bits, of an agent or of a key that is looked up. Text form: 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct OverlayId(pub [u8; 32]);

by_number!(OverlayId);

impl OverlayId {
    /// The 32 bytes, most significant first.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// XOR distance (Maymounkov and Mazières, "Kademlia", 2002): symmetric, zero only to itself, and for any point and
    /// distance there is exactly one id.
    #[must_use]
    #[inline]
    pub fn distance(&self, other: &Self) -> Distance {
        let mut xor = self.0;
        for (byte, theirs) in xor.iter_mut().zip(other.0) {
            *byte ^= theirs;
        }
        Distance(xor)
    }

    /// Bit `index` counted from the most significant; false past the end.
    #[must_use]
    #[inline]
    pub fn bit(&self, index: u32) -> bool {
        let byte = usize::try_from(index / 8).ok().and_then(|at| self.0.get(at));
        byte.is_some_and(|byte| byte & (0x80 >> (index % 8)) != 0)
    }

    /// How many leading bits both ids share, 0 to 256.
    #[must_use]
    #[inline]
    pub fn common_prefix(&self, other: &Self) -> u32 {
        self.distance(other).leading_zeros()
    }

    /// The address that begins with this id's first 120 bits.
    #[must_use]
    pub fn address(&self) -> Address {
        Address::of(self)
    }

    /// The handle made of this id's first 48 bits.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle::of(self)
    }

    /// The handle and the next 40 bits.
    #[must_use]
    pub fn checked_handle(&self) -> CheckedHandle {
        CheckedHandle::of(self)
    }
}

byte_newtype_codec!(OverlayId, 32);

impl fmt::Display for OverlayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&text::hex_encode(&self.0))
    }
}

impl fmt::Debug for OverlayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OverlayId({})", text::hex_encode(&self.0))
    }
}

impl FromStr for OverlayId {
    type Err = TextError;

    fn from_str(s: &str) -> Result<Self, TextError> {
        text::hex_decode(s).map(Self)
    }
}

crate::text::serde_as_text!(OverlayId);

/// XOR distance between two overlay ids, ordered as a 256-bit number.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Distance(pub [u8; 32]);

by_number!(Distance);

impl Distance {
    /// The distance of an id to itself.
    pub const ZERO: Self = Self([0; 32]);
    /// The largest distance.
    pub const MAX: Self = Self([0xff; 32]);

    /// Leading zero bits, 0 to 256: how many bits of prefix the two ids share.
    #[must_use]
    #[inline]
    pub fn leading_zeros(&self) -> u32 {
        leading_zeros(&self.0)
    }

    /// Index of the Kademlia bucket that covers this distance, 0 (nearest) to 255; none for the distance to itself.
    /// Bucket `i` holds the distances in `2^i .. 2^(i+1)`.
    #[must_use]
    pub fn bucket(&self) -> Option<u8> {
        (OVERLAY_BITS - self.leading_zeros())
            .checked_sub(1)
            .and_then(|index| u8::try_from(index).ok())
    }
}

impl fmt::Debug for Distance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Distance({})", text::hex_encode(&self.0))
    }
}

#[inline]
fn leading_zeros(bytes: &[u8; 32]) -> u32 {
    let [high, low] = halves(bytes);
    if high == 0 { 128 + low.leading_zeros() } else { high.leading_zeros() }
}

/// The two halves of a 256-bit number, most significant first.
#[inline]
fn halves(bytes: &[u8; 32]) -> [u128; 2] {
    let (high, low) = (bytes.first_chunk(), bytes.last_chunk());
    let (high, low) = (high.copied().unwrap_or_default(), low.copied().unwrap_or_default());
    [u128::from_be_bytes(high), u128::from_be_bytes(low)]
}

/// The order of two 256-bit numbers, which is that of their bytes. Maps and tables compare ids by the million, and the derived order
/// calls the C library for each.
#[inline]
pub(crate) fn compare(a: &[u8; 32], b: &[u8; 32]) -> std::cmp::Ordering {
    halves(a).cmp(&halves(b))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_order_is_that_of_the_bytes(a: [u8; 32], mut b: [u8; 32], shared in 0_usize..=32) {
            b[..shared].copy_from_slice(&a[..shared]);
            prop_assert_eq!(compare(&a, &b), a.cmp(&b));
            prop_assert_eq!(Distance(a).cmp(&Distance(b)), a.cmp(&b));
            let zeros = a.iter().take_while(|byte| **byte == 0).count();
            let bits = a.get(zeros).map_or(0, |byte| byte.leading_zeros());
            prop_assert_eq!(leading_zeros(&a), u32::try_from(zeros * 8).unwrap() + bits);
        }
    }
}
