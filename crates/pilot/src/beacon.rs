//! Beacon messages: endpoint discovery, hole punching, relay. UDP, one message a datagram, told apart by the first byte.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::address::NodeId;

/// Every beacon message begins with a byte below this, every tunnel frame with one above.
pub const CODE_MAX: u8 = 0x10;

/// Ids in one gossip message.
pub const SYNC_NODES_MAX: usize = u16::MAX as usize;

/// Bytes a relay message adds to the frame it carries, the longer of the two directions.
pub const RELAY_OVERHEAD_BYTES: usize = 9;

/// A beacon message as received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beacon<'a> {
    /// 01: a node tells where it is and asks what its address looks like from outside.
    Discover {
        /// The node; 0 before it has an id.
        node: NodeId,
        /// Behind the id in newer releases; proves nothing by itself.
        key: Option<[u8; 32]>,
    },
    /// 02: the answer.
    DiscoverReply(SocketAddr),
    /// 03: asks the beacon to make both sides send a [`crate::frame::PUNCH`].
    PunchRequest {
        /// Who asks.
        requester: NodeId,
        /// Whom it wants to reach.
        target: NodeId,
        /// Newer releases: the target's permission.
        grant: Option<PunchGrant>,
    },
    /// 04: send a punch there.
    PunchCommand(SocketAddr),
    /// 05: a frame for another node.
    Relay {
        /// Who sends.
        source: NodeId,
        /// Whom for.
        destination: NodeId,
        /// A tunnel frame.
        frame: &'a [u8],
    },
    /// 06: a relayed frame.
    Deliver {
        /// Who sent it, as the beacon says.
        source: NodeId,
        /// A tunnel frame.
        frame: &'a [u8],
    },
    /// 07: which nodes another beacon has.
    Sync {
        /// The beacon.
        beacon: NodeId,
        /// Its nodes.
        nodes: Vec<NodeId>,
    },
    /// 08: like 01, and relayed frames are to be delivered with 09.
    DiscoverNamed {
        /// The node.
        node: NodeId,
    },
    /// 09: a relayed frame that names its destination.
    DeliverNamed {
        /// Who sent it, as the beacon says.
        source: NodeId,
        /// Whom for.
        destination: NodeId,
        /// A tunnel frame.
        frame: &'a [u8],
    },
    /// 0A: something waits at the registry; 1 is a handshake.
    Notify(u8),
}

/// A target's permission to punch towards it: signature over `punch-grant:<requester>:<target>:<expiry>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PunchGrant {
    /// Seconds since the UNIX epoch.
    pub expiry: u64,
    /// The target's.
    pub signature: [u8; 64],
}

impl PunchGrant {
    /// What is signed.
    #[must_use]
    pub fn signed_text(requester: NodeId, target: NodeId, expiry: u64) -> String {
        format!("punch-grant:{requester}:{target}:{expiry}")
    }
}

/// Why a datagram is no beacon message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BeaconError {
    /// Too short for its code.
    #[error("beacon message of {0} bytes is cut short")]
    Short(usize),
    /// A code nobody uses.
    #[error("beacon message code {0:#04X} is not known")]
    Code(u8),
    /// An address that is neither 4 nor 16 bytes long.
    #[error("beacon message has an address of {0} bytes")]
    AddressLength(u8),
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn endpoint(bytes: &[u8]) -> Result<SocketAddr, BeaconError> {
    let short = BeaconError::Short(bytes.len());
    let (ip, at) = match bytes.get(1).copied().ok_or(short)? {
        4 => (IpAddr::V4(Ipv4Addr::from(array::<4>(bytes, 2).ok_or(short)?)), 6),
        16 => (IpAddr::V6(Ipv6Addr::from(array::<16>(bytes, 2).ok_or(short)?)), 18),
        other => return Err(BeaconError::AddressLength(other)),
    };
    let port = u16::from_be_bytes(array(bytes, at).ok_or(short)?);
    Ok(SocketAddr::new(ip.to_canonical(), port))
}

impl<'a> Beacon<'a> {
    /// Reads one message.
    ///
    /// # Errors
    /// See [`BeaconError`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, BeaconError> {
        let short = BeaconError::Short(bytes.len());
        let id = |at| array(bytes, at).map(u32::from_be_bytes).ok_or(short);
        match bytes.first().copied().ok_or(short)? {
            0x01 => Ok(Self::Discover { node: id(1)?, key: array(bytes, 5) }),
            0x02 => Ok(Self::DiscoverReply(endpoint(bytes)?)),
            0x03 => {
                let grant = array(bytes, 9).zip(array(bytes, 17)).map(|(expiry, signature)| {
                    PunchGrant { expiry: u64::from_be_bytes(expiry), signature }
                });
                Ok(Self::PunchRequest { requester: id(1)?, target: id(5)?, grant })
            }
            0x04 => Ok(Self::PunchCommand(endpoint(bytes)?)),
            0x05 => Ok(Self::Relay { source: id(1)?, destination: id(5)?, frame: &bytes[9..] }),
            0x06 => Ok(Self::Deliver { source: id(1)?, frame: &bytes[5..] }),
            0x07 => {
                let count = usize::from(u16::from_be_bytes(array(bytes, 5).ok_or(short)?));
                let body = bytes.get(7..7 + 4 * count).ok_or(short)?;
                let nodes = body.chunks_exact(4).filter_map(|chunk| array(chunk, 0));
                Ok(Self::Sync { beacon: id(1)?, nodes: nodes.map(u32::from_be_bytes).collect() })
            }
            0x08 => Ok(Self::DiscoverNamed { node: id(1)? }),
            0x09 => {
                Ok(Self::DeliverNamed { source: id(1)?, destination: id(5)?, frame: &bytes[9..] })
            }
            0x0A => Ok(Self::Notify(bytes.get(1).copied().ok_or(short)?)),
            other => Err(BeaconError::Code(other)),
        }
    }

    /// Appends the message to `out`. Ids over [`SYNC_NODES_MAX`] are left out.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let id = |out: &mut Vec<u8>, node: NodeId| out.extend_from_slice(&node.to_be_bytes());
        match self {
            Self::Discover { node, key } => {
                out.push(0x01);
                id(out, *node);
                out.extend(key.iter().flatten());
            }
            Self::DiscoverReply(at) => encode_endpoint(0x02, *at, out),
            Self::PunchRequest { requester, target, grant } => {
                out.push(0x03);
                id(out, *requester);
                id(out, *target);
                if let Some(grant) = grant {
                    out.extend_from_slice(&grant.expiry.to_be_bytes());
                    out.extend_from_slice(&grant.signature);
                }
            }
            Self::PunchCommand(at) => encode_endpoint(0x04, *at, out),
            Self::Relay { source, destination, frame } => {
                relay_header(*source, *destination, out);
                out.extend_from_slice(frame);
            }
            Self::Deliver { source, frame } => {
                out.push(0x06);
                id(out, *source);
                out.extend_from_slice(frame);
            }
            Self::Sync { beacon, nodes } => {
                out.push(0x07);
                id(out, *beacon);
                let nodes = &nodes[..nodes.len().min(SYNC_NODES_MAX)];
                out.extend_from_slice(
                    &u16::try_from(nodes.len()).unwrap_or(u16::MAX).to_be_bytes(),
                );
                nodes.iter().for_each(|node| id(out, *node));
            }
            Self::DiscoverNamed { node } => {
                out.push(0x08);
                id(out, *node);
            }
            Self::DeliverNamed { source, destination, frame } => {
                out.push(0x09);
                id(out, *source);
                id(out, *destination);
                out.extend_from_slice(frame);
            }
            Self::Notify(kind) => out.extend_from_slice(&[0x0A, *kind]),
        }
    }

    /// The message as bytes of its own.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }
}

/// Appends the nine bytes that go before a frame to be relayed.
pub fn relay_header(source: NodeId, destination: NodeId, out: &mut Vec<u8>) {
    out.push(0x05);
    out.extend_from_slice(&source.to_be_bytes());
    out.extend_from_slice(&destination.to_be_bytes());
}

fn encode_endpoint(code: u8, at: SocketAddr, out: &mut Vec<u8>) {
    out.push(code);
    match at.ip().to_canonical() {
        IpAddr::V4(ip) => {
            out.push(4);
            out.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(16);
            out.extend_from_slice(&ip.octets());
        }
    }
    out.extend_from_slice(&at.port().to_be_bytes());
}
