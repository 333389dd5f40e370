//! The journal's frames: what the log writes until it fills whole tiles.
//!
//! ```text
//! length u32 | kind u8 | payload | check, 8 bytes
//! check = first 8 bytes of BLAKE3(check of the frame before ‖ kind ‖ payload)
//! ```
//!
//! The chain of checks tells a frame from the remains of an earlier one: what a crash left behind the end can be whole and still does
//! not continue the chain.

/// Longest payload, in bytes.
pub(crate) const MAX_PAYLOAD_LEN: usize = 1 << 20;

const CHECK_LEN: usize = 8;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameKind {
    /// The first frame: where the journal begins.
    Head,
    /// Entries, as a bundle of any number.
    Entries,
    /// A signed checkpoint of everything before it.
    Checkpoint,
}

impl FrameKind {
    const fn number(self) -> u8 {
        match self {
            Self::Head => 0,
            Self::Entries => 1,
            Self::Checkpoint => 2,
        }
    }

    const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Head),
            1 => Some(Self::Entries),
            2 => Some(Self::Checkpoint),
            _ => None,
        }
    }
}

/// The check of the last frame, which the next one continues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chain([u8; CHECK_LEN]);

impl Chain {
    fn next(self, kind: FrameKind, payload: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0).update(&[kind.number()]).update(payload);
        let mut check = [0; CHECK_LEN];
        hasher.finalize_xof().fill(&mut check);
        Self(check)
    }

    /// Appends a frame to `out`. The payload has at most [`MAX_PAYLOAD_LEN`] bytes.
    pub(crate) fn push(&mut self, kind: FrameKind, payload: &[u8], out: &mut Vec<u8>) {
        debug_assert!(payload.len() <= MAX_PAYLOAD_LEN, "callers split what is longer");
        *self = self.next(kind, payload);
        let length = u32::try_from(payload.len()).expect("at most a mebibyte");
        out.extend_from_slice(&length.to_be_bytes());
        out.push(kind.number());
        out.extend_from_slice(payload);
        out.extend_from_slice(&self.0);
    }

    /// The next frame of `bytes` and what follows it; none where no whole frame continues the chain.
    pub(crate) fn read<'a>(&mut self, bytes: &'a [u8]) -> Option<(FrameKind, &'a [u8], &'a [u8])> {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (kind, rest) = rest.split_first()?;
        let kind = FrameKind::from_number(*kind)?;
        if length > MAX_PAYLOAD_LEN {
            return None;
        }
        let (payload, rest) = rest.split_at_checked(length)?;
        let (check, rest) = rest.split_first_chunk::<CHECK_LEN>()?;
        let next = self.next(kind, payload);
        if next.0 != *check {
            return None;
        }
        *self = next;
        Some((kind, payload, rest))
    }
}
