//! Where to enter the network: `AgentId@ip:port`, or the same packed into a ticket that survives copy and paste.
//!
//! A ticket is `comity:` followed by lower-case RFC 4648 base32 without padding of `payload ‖ check`, where `payload`
//! is deterministic CBOR (RFC 8949 section 4.2) of `{0: agent (32 bytes), 1: [address (6 or 18 bytes: ip ‖ port, big
//! endian)]}` and `check` the first four bytes of `BLAKE3.derive_key("comity/ticket/v1", payload)`. Case does not matter on
//! input, so that a QR code can use its compact upper-case mode. The check catches slips of hand; the key inside is
//! what the far end has to prove, so a forged ticket gains nothing over a forged address.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use comity_core::{AgentId, Hash};
use data_encoding::BASE32_NOPAD;
use minicbor::{Decoder, Encoder};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Most network addresses in a ticket.
pub const MAX_TICKET_ADDRS: usize = 8;

/// Longest text of a ticket that is looked at.
pub const MAX_TICKET_CHARS: usize = 512;

const SCHEME: &str = "comity:";
const CHECK_CONTEXT: &str = "comity/ticket/v1";
const CHECK_BYTES: usize = 4;

/// An agent and where it can be reached; what `comity status` prints and `comity up --join` takes.
///
/// Invariant: at most [`MAX_TICKET_ADDRS`] addresses, all different, none with an unspecified ip or port 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    agent: AgentId,
    addrs: Vec<SocketAddr>,
}

impl Ticket {
    /// A ticket for `agent` at `addrs`, best first. Addresses nobody could dial (unspecified ip, port 0), repetitions
    /// and what exceeds [`MAX_TICKET_ADDRS`] are left out; IPv6 scope and flow labels have no meaning elsewhere and are
    /// dropped.
    pub fn new(agent: AgentId, addrs: impl IntoIterator<Item = SocketAddr>) -> Self {
        let mut kept = Vec::new();
        for addr in addrs {
            let addr = SocketAddr::new(addr.ip(), addr.port());
            if is_dialable(&addr) && !kept.contains(&addr) && kept.len() < MAX_TICKET_ADDRS {
                kept.push(addr);
            }
        }
        Self { agent, addrs: kept }
    }

    /// The agent, which the far end has to prove to be.
    #[must_use]
    pub fn agent(&self) -> AgentId {
        self.agent
    }

    /// Where it can be reached, best first. May be empty.
    #[must_use]
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// The text in upper case, for QR codes: fits their alphanumeric mode (ISO/IEC 18004), about 40 % smaller.
    #[must_use]
    pub fn to_qr_text(&self) -> String {
        self.to_string().to_ascii_uppercase()
    }

    fn payload(&self) -> Vec<u8> {
        let mut encoder = Encoder::new(Vec::with_capacity(64));
        encode(&mut encoder, self).expect("writing CBOR to a vector does not fail");
        encoder.into_writer()
    }
}

/// Why a text is not a ticket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TicketError {
    /// It does not start with `comity:`.
    #[error("a ticket starts with `comity:`; copy it whole from `comity status`")]
    Scheme,
    /// It is longer than [`MAX_TICKET_CHARS`].
    #[error("{0} characters are too long for a ticket (at most {MAX_TICKET_CHARS})")]
    TooLong(usize),
    /// It contains characters that base32 has not, or is cut off.
    #[error("the ticket is damaged or cut off: not base32; copy it whole from `comity status`")]
    Base32,
    /// The check at its end does not fit.
    #[error(
        "the ticket is damaged: its check characters do not fit; copy it whole from `comity status`"
    )]
    Check,
    /// The check fits, but the content does not follow the format.
    #[error("the ticket is not of a form this version knows ({0})")]
    Content(&'static str),
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.payload();
        bytes.extend_from_slice(&check(&bytes));
        write!(f, "{SCHEME}{}", BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, TicketError> {
        let text = text.trim();
        if text.len() > MAX_TICKET_CHARS {
            return Err(TicketError::TooLong(text.len()));
        }
        let (scheme, body) = text.split_at_checked(SCHEME.len()).ok_or(TicketError::Scheme)?;
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return Err(TicketError::Scheme);
        }
        let bytes = BASE32_NOPAD
            .decode(body.to_ascii_uppercase().as_bytes())
            .map_err(|_| TicketError::Base32)?;
        let (payload, found) =
            bytes.split_last_chunk::<CHECK_BYTES>().ok_or(TicketError::Base32)?;
        if *found != check(payload) {
            return Err(TicketError::Check);
        }
        let ticket = decode(payload)?;
        if ticket.payload() != payload {
            return Err(TicketError::Content("not canonical"));
        }
        Ok(ticket)
    }
}

impl Serialize for Ticket {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Ticket {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A way into the network as a user gives it: `AgentId@ip:port` or a ticket. Has at least one network address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinAddress(Ticket);

/// Why a text is not a join address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinAddressError {
    /// Neither form.
    #[error(
        "`{0}` is no join address: expected AgentId@ip:port or a comity: ticket, both printed by `comity status`"
    )]
    Form(String),
    /// The part before `@` is no AgentId.
    #[error("`{text}` in the join address is no AgentId: {reason}")]
    Agent {
        /// What was found.
        text: String,
        /// Why it is none.
        reason: String,
    },
    /// The part after `@` is no socket address.
    #[error(
        "`{0}` in the join address is no ip:port (host names are not looked up; IPv6 is written [::1]:4433)"
    )]
    Socket(String),
    /// An address nobody can dial, or none at all.
    #[error("the join address names no reachable ip and port")]
    NoAddress,
    /// It starts like a ticket but is none.
    #[error(transparent)]
    Ticket(#[from] TicketError),
}

impl JoinAddress {
    /// A join address for an agent at one place.
    ///
    /// # Errors
    /// [`JoinAddressError::NoAddress`] when nobody could dial it.
    pub fn new(agent: AgentId, addr: SocketAddr) -> Result<Self, JoinAddressError> {
        Self::try_from(Ticket::new(agent, [addr]))
    }

    /// The agent, which the far end has to prove to be.
    #[must_use]
    pub fn agent(&self) -> AgentId {
        self.0.agent
    }

    /// Where it can be reached, best first; never empty.
    #[must_use]
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.0.addrs
    }
}

impl TryFrom<Ticket> for JoinAddress {
    type Error = JoinAddressError;

    fn try_from(ticket: Ticket) -> Result<Self, JoinAddressError> {
        if ticket.addrs.is_empty() { Err(JoinAddressError::NoAddress) } else { Ok(Self(ticket)) }
    }
}

impl From<JoinAddress> for Ticket {
    fn from(address: JoinAddress) -> Self {
        address.0
    }
}

impl fmt::Display for JoinAddress {
    /// `AgentId@ip:port` when there is one address, the ticket otherwise.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.addrs() {
            [addr] => write!(f, "{}@{addr}", self.agent()),
            _ => self.0.fmt(f),
        }
    }
}

impl FromStr for JoinAddress {
    type Err = JoinAddressError;

    fn from_str(text: &str) -> Result<Self, JoinAddressError> {
        let text = text.trim();
        if text.get(..SCHEME.len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case(SCHEME)) {
            return Self::try_from(text.parse::<Ticket>()?);
        }
        let (agent, socket) =
            text.rsplit_once('@').ok_or_else(|| JoinAddressError::Form(shorten(text)))?;
        let socket = socket.parse().map_err(|_| JoinAddressError::Socket(shorten(socket)))?;
        let agent = agent.parse::<AgentId>().map_err(|error| JoinAddressError::Agent {
            text: shorten(agent),
            reason: error.to_string(),
        })?;
        Self::new(agent, socket)
    }
}

impl Serialize for JoinAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for JoinAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

fn is_dialable(addr: &SocketAddr) -> bool {
    addr.port() != 0 && !addr.ip().is_unspecified()
}

fn check(payload: &[u8]) -> [u8; CHECK_BYTES] {
    let Hash(digest) = Hash::derive(CHECK_CONTEXT, &[payload]);
    digest[..CHECK_BYTES].try_into().expect("a hash has more than four bytes")
}

fn encode(
    encoder: &mut Encoder<Vec<u8>>,
    ticket: &Ticket,
) -> Result<(), minicbor::encode::Error<std::convert::Infallible>> {
    encoder.map(2)?.u8(0)?.bytes(ticket.agent.as_bytes())?;
    encoder.u8(1)?.array(ticket.addrs.len() as u64)?;
    for addr in &ticket.addrs {
        let port = addr.port().to_be_bytes();
        match addr.ip() {
            IpAddr::V4(ip) => encoder.bytes(&[&ip.octets()[..], &port].concat())?,
            IpAddr::V6(ip) => encoder.bytes(&[&ip.octets()[..], &port].concat())?,
        };
    }
    Ok(())
}

fn decode(payload: &[u8]) -> Result<Ticket, TicketError> {
    let malformed = |_| TicketError::Content("malformed");
    let mut decoder = Decoder::new(payload);
    if decoder.map().map_err(malformed)? != Some(2) || decoder.u8().map_err(malformed)? != 0 {
        return Err(TicketError::Content("unexpected fields"));
    }
    let key: &[u8; 32] = decoder
        .bytes()
        .map_err(malformed)?
        .try_into()
        .map_err(|_| TicketError::Content("key of wrong length"))?;
    let agent =
        AgentId::from_bytes(key).map_err(|_| TicketError::Content("key that is not acceptable"))?;
    if decoder.u8().map_err(malformed)? != 1 {
        return Err(TicketError::Content("unexpected fields"));
    }
    let count = decoder.array().map_err(malformed)?.ok_or(TicketError::Content("malformed"))?;
    if count > MAX_TICKET_ADDRS as u64 {
        return Err(TicketError::Content("too many addresses"));
    }
    let mut addrs = Vec::new();
    for _ in 0..count {
        addrs.push(socket_addr(decoder.bytes().map_err(malformed)?)?);
    }
    Ok(Ticket::new(agent, addrs))
}

fn socket_addr(bytes: &[u8]) -> Result<SocketAddr, TicketError> {
    let (ip, port) = bytes.split_last_chunk::<2>().ok_or(TicketError::Content("short address"))?;
    let ip = if let Ok(v4) = <[u8; 4]>::try_from(ip) {
        IpAddr::from(v4)
    } else if let Ok(v6) = <[u8; 16]>::try_from(ip) {
        IpAddr::from(v6)
    } else {
        return Err(TicketError::Content("address of wrong length"));
    };
    Ok(SocketAddr::new(ip, u16::from_be_bytes(*port)))
}

/// What is repeated of a wrong input in an error message.
fn shorten(text: &str) -> String {
    const SHOWN: usize = 64;
    let mut out: String = text.chars().filter(|c| !c.is_control()).take(SHOWN).collect();
    if out.len() < text.len() {
        out.push('…');
    }
    out
}
