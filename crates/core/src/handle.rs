//! The two printable abbreviations of an overlay id: the 128-bit address and the 48-bit handle.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use data_encoding::{BASE32_NOPAD, HEXUPPER};

use crate::OverlayId;
use crate::canonical::byte_newtype_codec;

/// First byte of every address: IPv6 unique-local, locally assigned (RFC 4193 section 3.1).
const ADDRESS_PREFIX: u8 = 0xfd;
const ADDRESS_ID_BYTES: usize = 15;
const HANDLE_BYTES: usize = 6;
const CHECK_BYTES: usize = 5;

/// 128 bits: `fd` and the first 120 bits of the overlay id; text form that of an IPv6 address.
///
/// A name, not a credential: 2^120 mints against a second key with a given address, 2^60 for two keys with one
/// address. Every store is keyed by [`AgentId`](crate::AgentId).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address([u8; 16]);

/// Why a text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressTextError {
    /// Not IPv6 text.
    #[error("not an address: it is written like an IPv6 address that begins with fd")]
    NotIpv6,
    /// An IPv6 address outside `fd00::/8`.
    #[error("an IPv6 address, but not of an agent: those begin with fd")]
    Prefix,
}

impl Address {
    pub(crate) fn of(id: &OverlayId) -> Self {
        let mut bytes = [ADDRESS_PREFIX; 16];
        bytes[1..].copy_from_slice(&id.0[..ADDRESS_ID_BYTES]);
        Self(bytes)
    }

    /// The address in these 16 bytes.
    ///
    /// # Errors
    /// [`AddressTextError::Prefix`] when they do not begin with `fd`.
    pub fn from_bytes(bytes: [u8; 16]) -> Result<Self, AddressTextError> {
        if bytes[0] == ADDRESS_PREFIX { Ok(Self(bytes)) } else { Err(AddressTextError::Prefix) }
    }

    /// The 16 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// As an IPv6 address.
    #[must_use]
    pub const fn to_ipv6(self) -> Ipv6Addr {
        Ipv6Addr::from_octets(self.0)
    }

    /// Whether `id` has this address.
    #[must_use]
    pub fn matches(&self, id: &OverlayId) -> bool {
        *self == Self::of(id)
    }

    /// The 120 bits that the address carries, followed by zeros: where to look for its owner.
    #[must_use]
    pub fn overlay_prefix(&self) -> OverlayId {
        let mut id = [0; 32];
        id[..ADDRESS_ID_BYTES].copy_from_slice(&self.0[1..]);
        OverlayId(id)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.to_ipv6(), f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

impl FromStr for Address {
    type Err = AddressTextError;

    fn from_str(text: &str) -> Result<Self, AddressTextError> {
        let address: Ipv6Addr = text.parse().map_err(|_| AddressTextError::NotIpv6)?;
        Self::from_bytes(address.octets())
    }
}

crate::text::serde_as_text!(Address);

/// 48 bits: the first of the overlay id; text form `N:NNNN.HHHH.LLLL`.
///
/// `N` is the first 16 bits in decimal, then all 48 in upper-case hex, which is how Pilot Protocol writes its
/// addresses. A handle is a pointer that can be shared by two keys: whoever resolves one must refuse when several
/// live keys have it. [`CheckedHandle`] is the form to paste.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(pub [u8; HANDLE_BYTES]);

/// Why a text is no handle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandleTextError {
    /// Not of the shape `N:NNNN.HHHH.LLLL`.
    #[error(
        "not a handle: it is written N:NNNN.HHHH.LLLL, a decimal number and three groups of four hex digits"
    )]
    Shape,
    /// The decimal number and the first group differ.
    #[error(
        "the handle contradicts itself: {decimal} before the colon, {group} in the first group; copy it again"
    )]
    Mismatch {
        /// The number before the colon.
        decimal: u16,
        /// The number in the first group.
        group: u16,
    },
    /// What follows `#` is not eight characters of base32.
    #[error("what follows # in a handle is eight characters a-z, 2-7; copy it again")]
    Check,
}

impl Handle {
    pub(crate) fn of(id: &OverlayId) -> Self {
        let mut bytes = [0; HANDLE_BYTES];
        bytes.copy_from_slice(&id.0[..HANDLE_BYTES]);
        Self(bytes)
    }

    /// The 6 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; HANDLE_BYTES] {
        &self.0
    }

    /// The 48 bits as a number.
    #[must_use]
    pub const fn as_u64(&self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }

    /// Whether `id` has this handle.
    #[must_use]
    pub fn matches(&self, id: &OverlayId) -> bool {
        *self == Self::of(id)
    }

    /// The 48 bits followed by zeros: where to look for its owners.
    #[must_use]
    pub fn overlay_prefix(&self) -> OverlayId {
        let mut id = [0; 32];
        id[..HANDLE_BYTES].copy_from_slice(&self.0);
        OverlayId(id)
    }
}

byte_newtype_codec!(Handle, 6);

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        let network = u16::from_be_bytes([a, b]);
        f.pad(&format!("{network}:{a:02X}{b:02X}.{c:02X}{d:02X}.{e:02X}{g:02X}"))
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({self})")
    }
}

impl FromStr for Handle {
    type Err = HandleTextError;

    /// Hex digits of either case; leading zeros of the decimal number are accepted, a sign is not (Pilot's rules).
    fn from_str(text: &str) -> Result<Self, HandleTextError> {
        let (decimal, groups) = text.split_once(':').ok_or(HandleTextError::Shape)?;
        if decimal.is_empty() || !decimal.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(HandleTextError::Shape);
        }
        let decimal: u16 = decimal.parse().map_err(|_| HandleTextError::Shape)?;
        let mut bytes = [0; HANDLE_BYTES];
        let mut parts = groups.split('.');
        for pair in bytes.chunks_exact_mut(2) {
            let group =
                parts.next().filter(|group| group.len() == 4).ok_or(HandleTextError::Shape)?;
            let digits = group.to_ascii_uppercase();
            let decoded = HEXUPPER.decode(digits.as_bytes()).map_err(|_| HandleTextError::Shape)?;
            pair.copy_from_slice(&decoded);
        }
        if parts.next().is_some() {
            return Err(HandleTextError::Shape);
        }
        let group = u16::from_be_bytes([bytes[0], bytes[1]]);
        if decimal == group {
            Ok(Self(bytes))
        } else {
            Err(HandleTextError::Mismatch { decimal, group })
        }
    }
}

crate::text::serde_as_text!(Handle);

/// A handle with the next 40 bits of the overlay id, 88 bits in all: `N:NNNN.HHHH.LLLL#abcd2345`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckedHandle {
    /// Bits 0..48 of the overlay id.
    pub handle: Handle,
    /// Bits 48..88 of the overlay id.
    pub check: [u8; CHECK_BYTES],
}

impl CheckedHandle {
    pub(crate) fn of(id: &OverlayId) -> Self {
        let mut check = [0; CHECK_BYTES];
        check.copy_from_slice(&id.0[HANDLE_BYTES..HANDLE_BYTES + CHECK_BYTES]);
        Self { handle: Handle::of(id), check }
    }

    /// Whether `id` has this handle and this check.
    #[must_use]
    pub fn matches(&self, id: &OverlayId) -> bool {
        *self == Self::of(id)
    }

    /// The 88 bits followed by zeros: where to look for the owner.
    #[must_use]
    pub fn overlay_prefix(&self) -> OverlayId {
        let mut id = self.handle.overlay_prefix();
        id.0[HANDLE_BYTES..HANDLE_BYTES + CHECK_BYTES].copy_from_slice(&self.check);
        id
    }
}

impl fmt::Display for CheckedHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let check = BASE32_NOPAD.encode(&self.check).to_ascii_lowercase();
        f.pad(&format!("{}#{check}", self.handle))
    }
}

impl fmt::Debug for CheckedHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CheckedHandle({self})")
    }
}

impl FromStr for CheckedHandle {
    type Err = HandleTextError;

    /// Letters of either case.
    fn from_str(text: &str) -> Result<Self, HandleTextError> {
        let (handle, check) = text.split_once('#').ok_or(HandleTextError::Check)?;
        let handle = handle.parse()?;
        if check.len() != 8 {
            return Err(HandleTextError::Check);
        }
        let digits = check.to_ascii_uppercase();
        let check = BASE32_NOPAD.decode(digits.as_bytes()).map_err(|_| HandleTextError::Check)?;
        let check = check.try_into().map_err(|_| HandleTextError::Check)?;
        Ok(Self { handle, check })
    }
}

crate::text::serde_as_text!(CheckedHandle);
