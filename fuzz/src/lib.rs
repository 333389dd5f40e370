//! Shared by the fuzz targets: keys, edits of valid bytes, a pool of plausible values, and the properties that every
//! query and capability must have whatever it was read from.

pub mod fake;
pub mod plausible;
pub mod properties;

use std::sync::OnceLock;

use arbitrary::Arbitrary;
use comity_core::{DecodeError, Identity, Time};

/// The time at which everything happens: 2026-01-01T00:00:00Z.
pub const NOW: Time = Time(1_767_225_600_000_000);

/// Keys that all targets and seeds share.
const IDENTITIES: usize = 8;

/// One of a few fixed keys.
pub fn identity(index: u8) -> &'static Identity {
    static KEYS: OnceLock<Vec<Identity>> = OnceLock::new();
    let keys = KEYS.get_or_init(|| {
        (0..IDENTITIES as u8).map(|n| Identity::from_secret_bytes(&[n + 1; 32])).collect()
    });
    &keys[usize::from(index) % IDENTITIES]
}

/// A payload that is whatever bytes it was made of, to fuzz envelopes apart from what they carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw(pub Vec<u8>);

impl comity_core::Canonical for Raw {
    fn encode(&self) -> Vec<u8> {
        self.0.clone()
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Ok(Self(bytes.to_vec()))
    }
}

/// One edit of valid bytes. Positions count from the start, modulo the length.
#[derive(Arbitrary, Clone, Debug)]
pub enum Edit {
    /// Inverts bits.
    Flip { at: u16, mask: u8 },
    /// Overwrites a byte.
    Set { at: u16, to: u8 },
    /// Puts bytes in.
    Insert { at: u16, bytes: Vec<u8> },
    /// Takes bytes out.
    Remove { at: u16, count: u8 },
    /// Drops the end.
    Truncate { at: u16 },
    /// Spells the CBOR head at a position one size longer, which no decoder of canonical data may accept.
    Respell { at: u16 },
    /// Copies bytes of another valid message to the same position.
    Graft { at: u16, count: u8 },
    /// Repeats the whole.
    Double,
}

/// Applies edits; `donor` is what [`Edit::Graft`] takes from.
pub fn edited(bytes: &[u8], donor: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for edit in edits.iter().take(16) {
        let place = |at: u16, len: usize| usize::from(at) % len.max(1);
        let len = out.len();
        match edit {
            Edit::Flip { at, mask } => {
                out.iter_mut().nth(place(*at, len)).into_iter().for_each(|byte| *byte ^= mask)
            }
            Edit::Set { at, to } => {
                out.iter_mut().nth(place(*at, len)).into_iter().for_each(|byte| *byte = *to)
            }
            Edit::Insert { at, bytes } => {
                drop(out.splice(
                    place(*at, len + 1)..place(*at, len + 1),
                    bytes.iter().take(64).copied(),
                ))
            }
            Edit::Remove { at, count } => {
                let from = place(*at, len);
                drop(out.drain(from..(from + usize::from(*count)).min(len)));
            }
            Edit::Truncate { at } => out.truncate(place(*at, len + 1)),
            Edit::Respell { at } => respell(&mut out, place(*at, len)),
            Edit::Graft { at, count } => {
                let from = usize::from(*at) % donor.len().max(1);
                for (to, byte) in out.iter_mut().zip(donor).skip(from).take(usize::from(*count)) {
                    *to = *byte;
                }
            }
            Edit::Double if len < 4096 => out.extend_from_within(..),
            Edit::Double => {}
        }
    }
    out
}

/// Lengthens the argument of the CBOR head at `at`, keeping its value.
fn respell(bytes: &mut Vec<u8>, at: usize) {
    let Some(head) = bytes.get(at).copied() else { return };
    let (major, argument) = (head & 0xe0, head & 0x1f);
    match argument {
        0..=23 => drop(bytes.splice(at..=at, [major | 24, argument])),
        24..=26 => drop(bytes.splice(
            at..=at,
            std::iter::once(head + 1).chain(std::iter::repeat_n(0, 1 << (argument - 24))),
        )),
        _ => {}
    }
}

/// Reads JSON text as a peer would send it; `None` when it is none.
pub fn json(bytes: &[u8]) -> Option<serde_json::Value> {
    serde_json::from_slice(bytes).ok()
}
