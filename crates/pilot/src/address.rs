//! Pilot addresses: a network and a node, printed as `N:NNNN.HHHH.LLLL`, with an optional port behind them.

use std::fmt;
use std::str::FromStr;

/// A node's number, assigned by a registry: sequential, not derived from a key.
pub type NodeId = u32;

/// The node part that means "every node of the network".
pub const BROADCAST_NODE: NodeId = NodeId::MAX;

/// Bytes of an address on the wire.
pub const ADDRESS_BYTES: usize = 6;

/// A Pilot address: 16 bits of network, 32 bits of node.
///
/// Unlike a comity address it proves nothing: a registry hands the node part out, and whoever runs the registry can say that another
/// key has it. The [`crate::trust`] module pins keys for that reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The network; 0 is the backbone that every node is in.
    pub network: u16,
    /// The node.
    pub node: NodeId,
}

impl Address {
    /// The address of `node` in network 0.
    #[must_use]
    pub const fn backbone(node: NodeId) -> Self {
        Self { network: 0, node }
    }

    /// The six bytes of the wire, big-endian.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; ADDRESS_BYTES] {
        let [a, b] = self.network.to_be_bytes();
        let [c, d, e, f] = self.node.to_be_bytes();
        [a, b, c, d, e, f]
    }

    /// Reads [`Address::to_bytes`].
    #[must_use]
    pub const fn from_bytes(bytes: [u8; ADDRESS_BYTES]) -> Self {
        let [a, b, c, d, e, f] = bytes;
        Self { network: u16::from_be_bytes([a, b]), node: u32::from_be_bytes([c, d, e, f]) }
    }

    /// Whether this names every node of its network.
    #[must_use]
    pub const fn is_broadcast(self) -> bool {
        self.node == BROADCAST_NODE
    }

    /// Whether this is the unset address.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.network == 0 && self.node == 0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (high, low) = (self.node >> 16, self.node & 0xFFFF);
        write!(f, "{}:{:04X}.{high:04X}.{low:04X}", self.network, self.network)
    }
}

/// Why a text is no Pilot address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is no `:` after the decimal network.
    #[error("{0:?} is no Pilot address: write NETWORK:NNNN.HHHH.LLLL, as in 0:0000.0000.0001")]
    NoNetwork(String),
    /// What stands before the `:` is no decimal number up to 65535.
    #[error("network {0:?} of a Pilot address is no decimal number from 0 to 65535")]
    Network(String),
    /// There are not exactly three groups.
    #[error("{0:?} does not have three groups of four hexadecimal digits with dots between them")]
    Groups(String),
    /// A group is not four hexadecimal digits.
    #[error("group {0:?} of a Pilot address is not four hexadecimal digits")]
    Group(String),
    /// The first group does not repeat the network.
    #[error(
        "the first group of a Pilot address repeats the network: {group:#06X} is not {network}"
    )]
    Mismatch {
        /// The decimal network.
        network: u16,
        /// The first group.
        group: u16,
    },
    /// The port behind the last `:` is no decimal number up to 65535.
    #[error("port {0:?} is no decimal number from 0 to 65535")]
    Port(String),
}

fn decimal(text: &str) -> Option<u16> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

fn group(text: &str) -> Result<u16, AddressError> {
    if text.len() != 4 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(AddressError::Group(text.to_owned()));
    }
    u16::from_str_radix(text, 16).map_err(|_not_hex| AddressError::Group(text.to_owned()))
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (network, groups) =
            text.split_once(':').ok_or_else(|| AddressError::NoNetwork(text.to_owned()))?;
        let network = decimal(network).ok_or_else(|| AddressError::Network(network.to_owned()))?;
        let parts: Vec<&str> = groups.splitn(4, '.').collect();
        let [first, high, low] = parts[..] else {
            return Err(AddressError::Groups(groups.to_owned()));
        };
        let (first, high, low) = (group(first)?, group(high)?, group(low)?);
        if first != network {
            return Err(AddressError::Mismatch { network, group: first });
        }
        Ok(Self { network, node: u32::from(high) << 16 | u32::from(low) })
    }
}

/// An address and a port, printed `ADDRESS:PORT`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketAddress {
    /// The node.
    pub address: Address,
    /// Its port.
    pub port: u16,
}

impl fmt::Display for SocketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.address, self.port)
    }
}

impl FromStr for SocketAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (address, port) =
            text.rsplit_once(':').ok_or_else(|| AddressError::NoNetwork(text.to_owned()))?;
        let port = decimal(port).ok_or_else(|| AddressError::Port(port.to_owned()))?;
        Ok(Self { address: address.parse()?, port })
    }
}

/// Ports with a meaning fixed by Pilot.
pub mod port {
    /// Echo: bytes back.
    pub const ECHO: u16 = 7;
    /// Encrypted streams of their own key exchange.
    pub const SECURE: u16 = 443;
    /// Trust handshake.
    pub const HANDSHAKE: u16 = 444;
    /// Data exchange: text, binary, JSON, files.
    pub const DATA: u16 = 1001;
    /// Event stream: publish and subscribe.
    pub const EVENTS: u16 = 1002;
    /// The first port handed out to dialling connections; they run from here to 65535.
    pub const EPHEMERAL_MIN: u16 = 49152;
}
