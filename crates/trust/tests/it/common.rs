//! Agents, times and the attacks that every signed kind has to stand.

use comity_core::envelope::{self, EnvelopeError};
use comity_core::{Canonical, Hash, Identity, Kind, Sha256Digest, Time};
use comity_trust::Target;

/// 2026-09-21, a Monday.
pub(crate) const NOW: Time = Time::from_secs(1_790_000_000);
pub(crate) const HOUR: u64 = 3600;

pub(crate) fn agent(n: u8) -> Identity {
    Identity::from_secret_bytes(&[n; 32])
}

pub(crate) const fn secs(seconds: u64) -> std::time::Duration {
    std::time::Duration::from_secs(seconds)
}

pub(crate) fn target(name: &str) -> Target<'_> {
    Target {
        name,
        descriptor: Hash::of(name.as_bytes()),
        interface: Sha256Digest::of(name.as_bytes()),
    }
}

/// Flips every bit of `bytes`, and demands at least 3,000 copies of which `opens` accepts none.
pub(crate) fn no_flip_opens(what: &str, sealed: &[Vec<u8>], opens: impl Fn(&[u8]) -> bool) {
    let mut flips = 0;
    for bytes in sealed {
        assert!(opens(bytes), "{what}: the original must open");
        for bit in 0..bytes.len() * 8 {
            let mut copy = bytes.clone();
            copy[bit / 8] ^= 1 << (bit % 8);
            assert!(!opens(&copy), "{what}: opened with bit {bit} flipped");
            flips += 1;
        }
    }
    assert!(flips >= 3000, "{what}: {flips} flips prove too little");
}

/// Spells the array head, the tag and the empty map of an envelope another way, which leaves its signature valid.
pub(crate) fn respelled(sealed: &[u8]) -> Vec<Vec<u8>> {
    assert_eq!(sealed[..2], [0xd2, 0x84]);
    let splice = |range: std::ops::Range<usize>, with: &[u8]| {
        [&sealed[..range.start], with, &sealed[range.end..]].concat()
    };
    vec![
        splice(1..2, &[0x98, 4]),
        splice(0..1, &[0xd8, 18]),
        splice(2..4, &[0x59, 0, 63]),
        splice(67..68, &[0xb8, 0]),
        [sealed, &[0]].concat(),
    ]
}

/// Whether the bytes open as this payload under any kind but its own.
pub(crate) fn opens_as_another<T: Canonical>(kind: Kind, bytes: &[u8]) -> bool {
    Kind::ALL.into_iter().filter(|other| *other != kind).any(|other| {
        !matches!(
            envelope::open::<T>(other, bytes, bytes.len()),
            Err(EnvelopeError::Signature { .. })
        )
    })
}
