//! The packet inside every tunnel frame: 34 bytes of header with a CRC-32, then the payload.

use crate::address::{Address, SocketAddress};

/// Bytes before the payload.
pub const HEADER_BYTES: usize = 34;

/// The largest payload the length field can say.
pub const PAYLOAD_BYTES_MAX: usize = u16::MAX as usize;

/// What one unit of the window field stands for, in bytes.
pub const WINDOW_UNIT_BYTES: u32 = 4096;

const VERSION: u8 = 1;
const CHECKSUM_AT: usize = 30;

/// The low nibble of the first byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flags(u8);

impl Flags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// Opens a stream.
    pub const SYN: Self = Self(1);
    /// The acknowledgement number is valid; every data segment has it.
    pub const ACK: Self = Self(2);
    /// The sender is done.
    pub const FIN: Self = Self(4);
    /// The stream is gone.
    pub const RST: Self = Self(8);
    /// Answer to SYN.
    pub const SYN_ACK: Self = Self(3);
    /// Answer to FIN.
    pub const FIN_ACK: Self = Self(6);

    /// Whether every flag of `other` is set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The nibble.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// From the low nibble of `bits`.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits & 0x0F)
    }
}

/// What the payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// A reliable stream, see [`crate::stream`].
    Stream,
    /// One datagram, not acknowledged.
    Datagram,
    /// Liveness of the tunnel.
    Control,
    /// A number this version does not know; such packets are dropped, not refused, as Pilot does.
    Other(u8),
}

impl Protocol {
    const fn to_byte(self) -> u8 {
        match self {
            Self::Stream => 1,
            Self::Datagram => 2,
            Self::Control => 3,
            Self::Other(byte) => byte,
        }
    }

    const fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::Stream,
            2 => Self::Datagram,
            3 => Self::Control,
            other => Self::Other(other),
        }
    }
}

/// Everything of a packet but its payload and checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// SYN, ACK, FIN, RST.
    pub flags: Flags,
    /// What the payload is.
    pub protocol: Protocol,
    /// Who sent it; inside an encrypted frame the node must be the one whose key opened the frame.
    pub source: SocketAddress,
    /// Whom it is for.
    pub destination: SocketAddress,
    /// Number of the first payload byte.
    pub sequence: u32,
    /// The next byte expected.
    pub acknowledgement: u32,
    /// Free receive buffer in units of [`WINDOW_UNIT_BYTES`]; 0 is closed.
    pub window: u16,
}

/// A packet as received: the payload borrows the datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The header.
    pub header: Header,
    /// Up to [`PAYLOAD_BYTES_MAX`] bytes.
    pub payload: &'a [u8],
}

/// Why bytes are no packet. All of these are dropped without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// Fewer bytes than the header, or than header and announced payload.
    #[error("packet of {have} bytes is cut short: {need} are needed")]
    Short {
        /// Bytes there.
        have: usize,
        /// Bytes announced.
        need: usize,
    },
    /// The version nibble is not 1.
    #[error("packet version {0} is not 1")]
    Version(u8),
    /// The CRC-32 does not fit.
    #[error("packet checksum does not fit its content")]
    Checksum,
}

/// CRC-32 (IEEE 802.3) of `bytes`, with the four at the header's checksum field taken as zero.
fn checksum(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..CHECKSUM_AT]);
    hasher.update(&[0; 4]);
    hasher.update(&bytes[HEADER_BYTES..]);
    hasher.finalize()
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

impl<'a> Packet<'a> {
    /// Reads one packet; bytes after the announced payload are ignored, as Pilot does.
    ///
    /// # Errors
    /// See [`PacketError`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, PacketError> {
        if bytes.len() < HEADER_BYTES {
            return Err(PacketError::Short { have: bytes.len(), need: HEADER_BYTES });
        }
        let version = bytes[0] >> 4;
        if version != VERSION {
            return Err(PacketError::Version(version));
        }
        let need = HEADER_BYTES + usize::from(u16::from_be_bytes(array(bytes, 2)));
        let Some(bytes) = bytes.get(..need) else {
            return Err(PacketError::Short { have: bytes.len(), need });
        };
        if checksum(bytes) != u32::from_be_bytes(array(bytes, CHECKSUM_AT)) {
            return Err(PacketError::Checksum);
        }
        let end = |address_at, port_at| SocketAddress {
            address: Address::from_bytes(array(bytes, address_at)),
            port: u16::from_be_bytes(array(bytes, port_at)),
        };
        let header = Header {
            flags: Flags::from_bits(bytes[0]),
            protocol: Protocol::from_byte(bytes[1]),
            source: end(4, 16),
            destination: end(10, 18),
            sequence: u32::from_be_bytes(array(bytes, 20)),
            acknowledgement: u32::from_be_bytes(array(bytes, 24)),
            window: u16::from_be_bytes(array(bytes, 28)),
        };
        Ok(Self { header, payload: &bytes[HEADER_BYTES..] })
    }

    /// Appends the packet to `out`. A payload over [`PAYLOAD_BYTES_MAX`] is a bug of the caller and is cut.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let payload = &self.payload[..self.payload.len().min(PAYLOAD_BYTES_MAX)];
        encode_with(&self.header, out, |out| out.extend_from_slice(payload));
    }

    /// The packet as bytes of its own.
    #[must_use]
    pub fn to_vec(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES + self.payload.len());
        self.encode(&mut out);
        out
    }
}

/// Appends a packet whose payload is written by `payload`, so that no copy is made on the way into a datagram.
pub fn encode_with(header: &Header, out: &mut Vec<u8>, payload: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.push(VERSION << 4 | header.flags.bits());
    out.push(header.protocol.to_byte());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&header.source.address.to_bytes());
    out.extend_from_slice(&header.destination.address.to_bytes());
    out.extend_from_slice(&header.source.port.to_be_bytes());
    out.extend_from_slice(&header.destination.port.to_be_bytes());
    out.extend_from_slice(&header.sequence.to_be_bytes());
    out.extend_from_slice(&header.acknowledgement.to_be_bytes());
    out.extend_from_slice(&header.window.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    payload(out);
    out.truncate(start + HEADER_BYTES + PAYLOAD_BYTES_MAX);
    let length = u16::try_from(out.len() - start - HEADER_BYTES).unwrap_or(u16::MAX);
    out[start + 2..start + 4].copy_from_slice(&length.to_be_bytes());
    let sum = checksum(&out[start..]);
    out[start + CHECKSUM_AT..start + HEADER_BYTES].copy_from_slice(&sum.to_be_bytes());
}
