//! Data exchange (port 1001): frames of text, binary, JSON and files, each answered by a text frame.

use bytes::{Buf as _, BytesMut};

/// The largest payload that Pilot's daemons take by default in every release, 16 MiB.
pub const PAYLOAD_BYTES_MAX: usize = 16 << 20;
/// Room above it for a file's name and the trace header.
const ENVELOPE_BYTES_MAX: usize = 2 + u16::MAX as usize + 16;
const HEADER_BYTES: usize = 8;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// 1: UTF-8, by convention.
    Text,
    /// 2.
    Binary,
    /// 3.
    Json,
    /// 4: `[u16 name length][name][data]`.
    File,
    /// 5: another kind with the time it was sent.
    Trace,
    /// 7: a message of [`crate::service::file`].
    FileStream,
    /// Numbers this version does not know.
    Other(u32),
}

impl Kind {
    /// The number of the wire.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Text => 1,
            Self::Binary => 2,
            Self::Json => 3,
            Self::File => 4,
            Self::Trace => 5,
            Self::FileStream => 7,
            Self::Other(number) => number,
        }
    }

    /// From the number of the wire.
    #[must_use]
    pub const fn of(number: u32) -> Self {
        match number {
            1 => Self::Text,
            2 => Self::Binary,
            3 => Self::Json,
            4 => Self::File,
            5 => Self::Trace,
            7 => Self::FileStream,
            other => Self::Other(other),
        }
    }

    /// The word in an acknowledgement.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Text => "TEXT",
            Self::Binary => "BINARY",
            Self::Json => "JSON",
            Self::File => "FILE",
            Self::Trace => "TRACE",
            Self::FileStream => "FILESTREAM",
            Self::Other(_) => "UNKNOWN",
        }
    }
}

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it holds.
    pub kind: Kind,
    /// That.
    pub payload: Vec<u8>,
}

/// Why a stream is no data exchange, or a payload not what its kind says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    /// A payload over what the reader allows.
    #[error("a frame announces {0} bytes, more than are taken here")]
    Long(u32),
    /// A file or trace payload cut short, or a name that is no UTF-8.
    #[error("the payload of a {0} frame is malformed")]
    Malformed(&'static str),
}

impl Frame {
    /// A frame.
    #[must_use]
    pub fn new(kind: Kind, payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, payload: payload.into() }
    }

    /// A file in one piece. The name is cut at 65,535 bytes.
    #[must_use]
    pub fn file(name: &str, data: &[u8]) -> Self {
        let length = u16::try_from(name.len()).unwrap_or(u16::MAX);
        let mut payload = length.to_be_bytes().to_vec();
        payload.extend_from_slice(&name.as_bytes()[..length.into()]);
        payload.extend_from_slice(data);
        Self { kind: Kind::File, payload }
    }

    /// A frame that tells when it was sent (nanoseconds since the UNIX epoch).
    #[must_use]
    pub fn trace(inner: Kind, sent_nanos: u64, payload: &[u8]) -> Self {
        let mut out = inner.number().to_be_bytes().to_vec();
        out.extend_from_slice(&sent_nanos.to_be_bytes());
        out.extend_from_slice(payload);
        Self { kind: Kind::Trace, payload: out }
    }

    /// The answer to a frame that was taken.
    #[must_use]
    pub fn acknowledgement(of: &Self) -> Self {
        let size = match (of.kind, of.as_file()) {
            (Kind::File, Ok((_name, data))) => data.len(),
            _ => of.payload.len(),
        };
        Self::new(Kind::Text, format!("ACK {} {size} bytes", of.kind.word()))
    }

    /// Name and content of a [`Kind::File`] frame.
    ///
    /// # Errors
    /// [`DataError::Malformed`].
    pub fn as_file(&self) -> Result<(&str, &[u8]), DataError> {
        let malformed = DataError::Malformed("FILE");
        let (length, rest) = self.payload.split_first_chunk::<2>().ok_or(malformed)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (name, data) = rest.split_at_checked(length).ok_or(malformed)?;
        Ok((str::from_utf8(name).map_err(|_utf8| malformed)?, data))
    }

    /// Kind, time (nanoseconds since the UNIX epoch) and payload of a [`Kind::Trace`] frame.
    ///
    /// # Errors
    /// [`DataError::Malformed`].
    pub fn as_trace(&self) -> Result<(Kind, u64, &[u8]), DataError> {
        let malformed = DataError::Malformed("TRACE");
        let (kind, rest) = self.payload.split_first_chunk::<4>().ok_or(malformed)?;
        let (sent, payload) = rest.split_first_chunk::<8>().ok_or(malformed)?;
        Ok((Kind::of(u32::from_be_bytes(*kind)), u64::from_be_bytes(*sent), payload))
    }

    /// The wire form.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES + self.payload.len());
        out.extend_from_slice(&self.kind.number().to_be_bytes());
        let length = u32::try_from(self.payload.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&self.payload);
        out
    }
}

/// Cuts a stream into frames. Holds at most one frame, which is at most as long as allowed.
#[derive(Debug)]
pub struct Reader {
    buffer: BytesMut,
    payload_max: usize,
}

impl Reader {
    /// A reader that takes payloads up to `payload_max` bytes.
    #[must_use]
    pub fn new(payload_max: usize) -> Self {
        Self { buffer: BytesMut::new(), payload_max: payload_max + ENVELOPE_BYTES_MAX }
    }

    /// Takes bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame. To be asked until `None` after each [`Reader::push`].
    ///
    /// # Errors
    /// [`DataError::Long`]; the stream is of no more use then.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, DataError> {
        let Some((header, rest)) = self.buffer.split_first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let [a, b, c, d, e, f, g, h] = *header;
        let kind = Kind::of(u32::from_be_bytes([a, b, c, d]));
        let announced = u32::from_be_bytes([e, f, g, h]);
        let length = usize::try_from(announced).unwrap_or(usize::MAX);
        if length > self.payload_max {
            return Err(DataError::Long(announced));
        }
        if rest.len() < length {
            return Ok(None);
        }
        self.buffer.advance(HEADER_BYTES);
        let payload = self.buffer.split_to(length).to_vec();
        Ok(Some(Frame { kind, payload }))
    }

    /// Whether the stream may end here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }
}
