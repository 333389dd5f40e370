//! Who can be reached where.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::sync::Arc;

use comity_core::{AgentId, OverlayId};

use crate::wire::contact_len;

/// Most socket addresses kept or sent for one contact; the rest are dropped.
pub const ADDRS_PER_CONTACT_MAX: usize = 4;

/// What is known of a peer: key, place in the key space, where to dial, and whether it serves.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer {
    /// The peer's Ed25519 key; the shell's transport proves it.
    pub agent: AgentId,
    /// The peer's place, always derived from `agent` by the receiver, never taken from a message.
    pub overlay_id: OverlayId,
    /// Where it can be dialled, best first; at most [`ADDRS_PER_CONTACT_MAX`].
    pub addrs: Vec<SocketAddr>,
    /// It answers requests (routing and custody). A client is never put in a routing table.
    pub server: bool,
    /// The prefix of the first address, at hand so that the diversity caps need not follow `addrs`.
    prefix: Option<IpPrefix>,
    /// Bytes it takes in a message.
    encoded_len: u16,
}

/// A shared [`Peer`]: a handle of one word. Tables, messages and requests that name the same peer share one copy of it; comparisons
/// are those of the value.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Contact(Arc<Peer>);

impl fmt::Debug for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Deref for Contact {
    type Target = Peer;

    fn deref(&self) -> &Peer {
        &self.0
    }
}

impl Contact {
    /// A contact; addresses beyond [`ADDRS_PER_CONTACT_MAX`] are dropped.
    #[must_use]
    pub fn new(
        agent: AgentId,
        overlay_id: OverlayId,
        mut addrs: Vec<SocketAddr>,
        server: bool,
    ) -> Self {
        addrs.truncate(ADDRS_PER_CONTACT_MAX);
        let prefix = addrs.first().map(|addr| IpPrefix::of(addr.ip()));
        let encoded_len = u16::try_from(contact_len(&agent, &addrs)).unwrap_or(u16::MAX);
        Self(Arc::new(Peer { agent, overlay_id, addrs, server, prefix, encoded_len }))
    }

    /// A serving contact; addresses beyond [`ADDRS_PER_CONTACT_MAX`] are dropped.
    #[must_use]
    pub fn server(agent: AgentId, overlay_id: OverlayId, addrs: Vec<SocketAddr>) -> Self {
        Self::new(agent, overlay_id, addrs, true)
    }

    /// The same peer in this role. The handle itself when it has it already.
    #[must_use]
    pub fn with_server(self, server: bool) -> Self {
        if self.server == server {
            return self;
        }
        Self::new(self.agent, self.overlay_id, self.addrs.clone(), server)
    }

    /// The same peer at other addresses; those beyond [`ADDRS_PER_CONTACT_MAX`] are dropped.
    #[must_use]
    pub fn with_addrs(&self, addrs: Vec<SocketAddr>) -> Self {
        Self::new(self.agent, self.overlay_id, addrs, self.server)
    }

    /// The same peer at another place: for tests.
    #[must_use]
    pub fn with_overlay_id(&self, overlay_id: OverlayId) -> Self {
        Self::new(self.agent, overlay_id, self.addrs.clone(), self.server)
    }

    /// The IP prefix of the first address, the unit of the diversity caps. `None` when it has no address.
    #[must_use]
    pub fn prefix(&self) -> Option<IpPrefix> {
        self.0.prefix
    }

    /// Bytes it takes in a message.
    pub(crate) fn encoded_len(&self) -> usize {
        usize::from(self.0.encoded_len)
    }

    /// Whether both handles share one copy.
    #[must_use]
    pub fn is_shared_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// Derives a peer's place from its key.
///
/// In production this is Argon2id (0.7 ms, 1 MiB) with a bounded cache and the network's mint check; in a simulation a table.
/// Wire decoding takes it as an argument, so that a contact whose key is not valid on this network never enters the machine.
pub trait Positions {
    /// The overlay id of `agent`, or `None` when the key does not meet the network's mint requirement.
    fn position(&mut self, agent: &AgentId) -> Option<OverlayId>;

    /// The agent with this key, `None` when the key fails intake. Checking a key costs as much as a signature: who remembers
    /// keys that passed answers from memory.
    fn accept(&mut self, key: &[u8; 32]) -> Option<AgentId> {
        AgentId::from_bytes(key).ok()
    }
}

/// The group of addresses one operator is assumed to own: an IPv4 /24 or an IPv6 /48.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpPrefix {
    /// The first three octets.
    V4([u8; 3]),
    /// The first six octets.
    V6([u8; 6]),
}

impl IpPrefix {
    /// Whether it holds loopback addresses; an IPv6 prefix never does, there are others beside `::1`.
    #[must_use]
    pub const fn is_loopback(&self) -> bool {
        matches!(self, Self::V4([127, ..]))
    }

    /// The prefix of `ip`; an IPv4-mapped IPv6 address counts as IPv4.
    #[must_use]
    pub fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(v4) => {
                let [a, b, c, _] = v4.octets();
                Self::V4([a, b, c])
            }
            IpAddr::V6(v6) => {
                let [a, b, c, d, e, f, ..] = v6.octets();
                Self::V6([a, b, c, d, e, f])
            }
        }
    }
}

/// A network whose addresses the diversity caps ignore, such as a laboratory's `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exempt {
    /// The network address.
    pub network: IpAddr,
    /// Length of the common prefix in bits, 0 to 32 or 128.
    pub bits: u8,
}

impl Exempt {
    /// Whether `ip` lies in this network. Families never match each other.
    #[must_use]
    pub fn covers(&self, ip: IpAddr) -> bool {
        match (self.network, ip.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                let shift = 32u32.saturating_sub(u32::from(self.bits));
                let mask = u32::MAX.checked_shl(shift).unwrap_or(0);
                net.to_bits() & mask == ip.to_bits() & mask
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                let shift = 128u32.saturating_sub(u32::from(self.bits));
                let mask = u128::MAX.checked_shl(shift).unwrap_or(0);
                net.to_bits() & mask == ip.to_bits() & mask
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exempt_networks_match_by_prefix_and_family() {
        let ten = Exempt { network: "10.0.0.0".parse().unwrap(), bits: 8 };
        assert!(ten.covers("10.200.3.4".parse().unwrap()));
        assert!(ten.covers("::ffff:10.1.1.1".parse().unwrap()));
        assert!(!ten.covers("11.0.0.1".parse().unwrap()));
        assert!(!ten.covers("fd00::1".parse().unwrap()));
        let all = Exempt { network: "::".parse().unwrap(), bits: 0 };
        assert!(all.covers("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn prefixes_group_neighbours() {
        let of = |s: &str| IpPrefix::of(s.parse().unwrap());
        assert_eq!(of("192.0.2.1"), of("192.0.2.254"));
        assert_ne!(of("192.0.2.1"), of("192.0.3.1"));
        assert_eq!(of("2001:db8:1::1"), of("2001:db8:1:ffff::1"));
        assert_eq!(of("::ffff:192.0.2.9"), of("192.0.2.1"));
    }
}
