//! The registry's binary mode: five bytes once, then frames `u32 length ++ type ++ payload` for the requests that are many.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::{MESSAGE_BYTES_MAX, NodeInfo, ReplyError, Resolved};
use crate::address::NodeId;
use crate::identity::{key_from_bytes, key_text};

/// The first bytes of a connection in binary mode. JSON mode cannot begin with them: as a length they are over a gibibyte.
pub const HELLO: [u8; 5] = *b"PILT\x01";

/// A frame of either direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// 00: a JSON message of either direction.
    Json(Vec<u8>),
    /// 01.
    Heartbeat {
        /// Who.
        node: NodeId,
        /// Over `heartbeat:<node>`.
        signature: [u8; 64],
    },
    /// 81.
    HeartbeatOk {
        /// Seconds since the UNIX epoch.
        unix: u64,
        /// The node should rotate its key.
        key_expires: bool,
    },
    /// 02.
    Lookup(NodeId),
    /// 82.
    LookupOk(Box<LookupOk>),
    /// 03.
    Resolve {
        /// Who is asked for.
        node: NodeId,
        /// Who asks.
        requester: NodeId,
        /// Over `resolve:<requester>:<node>`.
        signature: [u8; 64],
    },
    /// 83.
    ResolveOk {
        /// Who.
        node: NodeId,
        /// Where.
        real_addr: String,
        /// Inside its own network.
        lan_addrs: Vec<String>,
        /// Days since the key was made; `None` when unknown.
        key_age_days: Option<u32>,
    },
    /// FF.
    Error(String),
}

/// A node as the binary lookup tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LookupOk {
    /// Which.
    pub node: NodeId,
    /// Anybody may resolve it.
    pub public: bool,
    /// It takes tasks (a retired service).
    pub tasks: bool,
    /// Its networks.
    pub networks: Vec<u16>,
    /// Its identity, 32 bytes when there is one.
    pub key: Vec<u8>,
    /// Its name, empty for none.
    pub hostname: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// Where it is, empty when not told.
    pub real_addr: String,
    /// An operator's id for it, empty for none.
    pub external_id: String,
}

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BinaryError {
    /// The length is zero or over [`MESSAGE_BYTES_MAX`].
    #[error("registry frame of {0} bytes: 1 to {MESSAGE_BYTES_MAX} are allowed")]
    Length(u32),
    /// Cut short, or a text is not UTF-8.
    #[error("registry frame of type {0:#04X} is malformed")]
    Malformed(u8),
    /// Unknown type.
    #[error("registry frame type {0:#04X} is not known")]
    Type(u8),
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(count)?;
        self.0 = tail;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn short(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn word(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn text8(&mut self) -> Option<String> {
        let length = self.byte()?;
        String::from_utf8(self.take(length.into())?.to_vec()).ok()
    }

    fn text16(&mut self) -> Option<String> {
        let length = self.short()?;
        String::from_utf8(self.take(length.into())?.to_vec()).ok()
    }
}

/// How long the frame is that begins with these four bytes, its length field not counted.
///
/// # Errors
/// [`BinaryError::Length`].
pub fn frame_bytes(length: [u8; 4]) -> Result<usize, BinaryError> {
    let length = u32::from_be_bytes(length);
    let bytes = usize::try_from(length).unwrap_or(usize::MAX);
    if bytes == 0 || bytes > MESSAGE_BYTES_MAX {
        Err(BinaryError::Length(length))
    } else {
        Ok(bytes)
    }
}

impl Frame {
    /// Reads a frame without its length field.
    ///
    /// # Errors
    /// See [`BinaryError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, BinaryError> {
        let Some((kind, payload)) = bytes.split_first() else { return Err(BinaryError::Length(0)) };
        let mut reader = Reader(payload);
        let frame = match kind {
            0x00 => Some(Self::Json(payload.to_vec())),
            0x01 => decode_heartbeat(&mut reader),
            0x81 => decode_heartbeat_ok(&mut reader),
            0x02 => reader.word().map(Self::Lookup),
            0x82 => decode_lookup_ok(&mut reader).map(|ok| Self::LookupOk(Box::new(ok))),
            0x03 => decode_resolve(&mut reader),
            0x83 => decode_resolve_ok(&mut reader),
            0xFF => reader.text16().map(Self::Error),
            other => return Err(BinaryError::Type(*other)),
        };
        frame.ok_or(BinaryError::Malformed(*kind))
    }

    /// The frame with its length field. Texts and lists over what their length fields can say are cut.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = vec![0; 4];
        match self {
            Self::Json(json) => {
                out.push(0x00);
                out.extend_from_slice(json);
            }
            Self::Heartbeat { node, signature } => {
                out.push(0x01);
                out.extend_from_slice(&node.to_be_bytes());
                out.extend_from_slice(signature);
            }
            Self::HeartbeatOk { unix, key_expires } => {
                out.push(0x81);
                out.extend_from_slice(&unix.to_be_bytes());
                out.push(u8::from(*key_expires));
            }
            Self::Lookup(node) => {
                out.push(0x02);
                out.extend_from_slice(&node.to_be_bytes());
            }
            Self::LookupOk(ok) => encode_lookup_ok(ok, &mut out),
            Self::Resolve { node, requester, signature } => {
                out.push(0x03);
                out.extend_from_slice(&node.to_be_bytes());
                out.extend_from_slice(&requester.to_be_bytes());
                out.extend_from_slice(signature);
            }
            Self::ResolveOk { node, real_addr, lan_addrs, key_age_days } => {
                out.push(0x83);
                out.extend_from_slice(&node.to_be_bytes());
                put16(&mut out, real_addr.as_bytes());
                let count = u16::try_from(lan_addrs.len()).unwrap_or(u16::MAX);
                out.extend_from_slice(&count.to_be_bytes());
                for lan in lan_addrs.iter().take(count.into()) {
                    put16(&mut out, lan.as_bytes());
                }
                out.extend_from_slice(&key_age_days.unwrap_or(u32::MAX).to_be_bytes());
            }
            Self::Error(text) => {
                out.push(0xFF);
                put16(&mut out, text.as_bytes());
            }
        }
        let length = u32::try_from(out.len() - 4).unwrap_or(u32::MAX);
        out[..4].copy_from_slice(&length.to_be_bytes());
        out
    }
}

fn decode_heartbeat(reader: &mut Reader<'_>) -> Option<Frame> {
    Some(Frame::Heartbeat { node: reader.word()?, signature: reader.array()? })
}

fn decode_heartbeat_ok(reader: &mut Reader<'_>) -> Option<Frame> {
    let unix = u64::from_be_bytes(reader.array()?);
    Some(Frame::HeartbeatOk { unix, key_expires: reader.byte()? & 1 != 0 })
}

fn decode_resolve(reader: &mut Reader<'_>) -> Option<Frame> {
    let (node, requester) = (reader.word()?, reader.word()?);
    Some(Frame::Resolve { node, requester, signature: reader.array()? })
}

fn decode_lookup_ok(reader: &mut Reader<'_>) -> Option<LookupOk> {
    let node = reader.word()?;
    let flags = reader.byte()?;
    reader.take(4)?;
    let count = reader.short()?;
    let networks = (0..count).map(|_at| reader.short()).collect::<Option<_>>()?;
    let key_bytes = reader.byte()?;
    let key = reader.take(key_bytes.into())?.to_vec();
    let hostname = reader.text8()?;
    let count = reader.byte()?;
    let tags = (0..count).map(|_at| reader.text8()).collect::<Option<_>>()?;
    let real_addr = reader.text16()?;
    let external_id = reader.text8()?;
    let (public, tasks) = (flags & 1 != 0, flags & 2 != 0);
    Some(LookupOk { node, public, tasks, networks, key, hostname, tags, real_addr, external_id })
}

fn decode_resolve_ok(reader: &mut Reader<'_>) -> Option<Frame> {
    let node = reader.word()?;
    let real_addr = reader.text16()?;
    let count = reader.short()?;
    let lan_addrs = (0..count).map(|_at| reader.text16()).collect::<Option<_>>()?;
    let age = reader.word()?;
    let key_age_days = (age != u32::MAX).then_some(age);
    Some(Frame::ResolveOk { node, real_addr, lan_addrs, key_age_days })
}

fn put8(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
    out.push(length);
    out.extend_from_slice(&bytes[..length.into()]);
}

fn put16(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&bytes[..length.into()]);
}

fn encode_lookup_ok(ok: &LookupOk, out: &mut Vec<u8>) {
    out.push(0x82);
    out.extend_from_slice(&ok.node.to_be_bytes());
    out.push(u8::from(ok.public) | u8::from(ok.tasks) << 1);
    out.extend_from_slice(&[0; 4]);
    let count = u16::try_from(ok.networks.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&count.to_be_bytes());
    for network in ok.networks.iter().take(count.into()) {
        out.extend_from_slice(&network.to_be_bytes());
    }
    put8(out, &ok.key);
    put8(out, ok.hostname.as_bytes());
    let count = u8::try_from(ok.tags.len()).unwrap_or(u8::MAX);
    out.push(count);
    for tag in ok.tags.iter().take(count.into()) {
        put8(out, tag.as_bytes());
    }
    put16(out, ok.real_addr.as_bytes());
    put8(out, ok.external_id.as_bytes());
}

impl LookupOk {
    /// As the JSON mode would say it.
    ///
    /// # Errors
    /// [`ReplyError::Field`] for a node without a usable key.
    pub fn info(&self) -> Result<NodeInfo, ReplyError> {
        Ok(NodeInfo {
            node: self.node,
            networks: self.networks.clone(),
            key: key_from_bytes(&self.key).map_err(|_key| ReplyError::Field("public_key"))?,
            public: self.public,
            hostname: (!self.hostname.is_empty()).then(|| self.hostname.clone()),
            tags: self.tags.clone(),
            real_addr: self.real_addr.parse().ok(),
        })
    }

    /// From what the JSON mode says.
    #[must_use]
    pub fn of(info: &NodeInfo) -> Self {
        Self {
            node: info.node,
            public: info.public,
            tasks: false,
            networks: info.networks.clone(),
            key: info.key.as_bytes().to_vec(),
            hostname: info.hostname.clone().unwrap_or_default(),
            tags: info.tags.clone(),
            real_addr: info.real_addr.as_ref().map(SocketAddr::to_string).unwrap_or_default(),
            external_id: String::new(),
        }
    }
}

impl NodeInfo {
    /// The fields of a JSON answer to a lookup; [`NodeInfo::parse`] reads them.
    #[must_use]
    pub fn to_fields(&self) -> BTreeMap<String, serde_json::Value> {
        let address = crate::address::Address::backbone(self.node).to_string();
        let mut out = BTreeMap::from([
            ("type".to_owned(), "lookup_ok".into()),
            ("node_id".to_owned(), self.node.into()),
            ("address".to_owned(), address.into()),
            ("networks".to_owned(), self.networks.clone().into()),
            ("public_key".to_owned(), key_text(&self.key).into()),
            ("public".to_owned(), self.public.into()),
            ("polo_score".to_owned(), 0.into()),
        ]);
        if let Some(hostname) = &self.hostname {
            out.insert("hostname".to_owned(), hostname.as_str().into());
        }
        if !self.tags.is_empty() {
            out.insert("tags".to_owned(), self.tags.clone().into());
        }
        if let Some(at) = self.real_addr.filter(|_at| self.public) {
            out.insert("real_addr".to_owned(), at.to_string().into());
        }
        out
    }
}

impl Resolved {
    /// From a binary answer.
    ///
    /// # Errors
    /// [`ReplyError::Field`] when the address does not parse.
    pub fn of(node: NodeId, real_addr: &str, lan_addrs: &[String]) -> Result<Self, ReplyError> {
        Ok(Self {
            node,
            real_addr: real_addr.parse().map_err(|_text| ReplyError::Field("real_addr"))?,
            lan_addrs: lan_addrs
                .iter()
                .take(super::LAN_ADDRS_MAX)
                .filter_map(|text| text.parse().ok())
                .collect(),
            relay_only: false,
        })
    }
}
