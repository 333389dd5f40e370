//! CBOR form of messages: arrays that begin with the variant's number.
//!
//! Every length is checked against its bound before anything is allocated for it. Contacts whose key is not valid on this network are
//! left out of the decoded message: they are of no use, and no fault of the sender who may not have checked them.

mod sets;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use comity_capability::keys::GroupKey;
use comity_core::{AgentId, Hash, OverlayId};
use minicbor::decode::{Decoder, Error as CborError};
use minicbor::encode::{Encoder, Error as EncodeError, Write};

use super::{
    Answer, CONTACTS_MAX, EXCLUDE_MAX, ErrorCode, FOUND_MATCHES_MAX, FOUND_NEAR_MAX,
    FOUND_VEILED_MAX, KNOWN_BYTES_MAX, Known, MESSAGE_BYTES_MAX, PEER_RECORDS_MAX, PREFIX_BITS_MIN,
    QueryOutcome, QueryRequest, Request, RequestFrame, Response, STORE_ENTRIES_MAX,
    STORE_ITEMS_MAX, STORE_LABELS_MAX, StoreEntry, StoreOutcome,
};
use crate::contact::{ADDRS_PER_CONTACT_MAX, Contact, Positions};
use crate::item::{ITEM_BYTES_MAX, ItemBytes, LABEL_BYTES_MAX, QUERY_BYTES_MAX, Reject};
use crate::shard::{PLACEMENTS, Place, SHARD_DEPTH_MAX, ShardId};

const IPV4_ADDR_BYTES: usize = 6;
const IPV6_ADDR_BYTES: usize = 18;

/// Why bytes are not a message.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// Longer than any message.
    #[error(
        "a message has at most {max} bytes, this one has {given}: the peer breaks the protocol"
    )]
    TooLong {
        /// Bytes received.
        given: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Not CBOR of the expected shape.
    #[error("the message is not well formed: {0}")]
    Cbor(#[from] CborError),
    /// A list or string beyond its bound.
    #[error(
        "the message has {given} {what}, at most {max} are allowed: the peer breaks the protocol"
    )]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many were announced.
        given: u64,
        /// How many are allowed.
        max: usize,
    },
    /// A variant this version does not know.
    #[error("unknown {what} number {number}: the peer speaks a later version")]
    Unknown {
        /// Which enumeration.
        what: &'static str,
        /// The number received.
        number: u32,
    },
    /// A value outside its range.
    #[error("the message has an invalid {0}")]
    Invalid(&'static str),
    /// Bytes after the end.
    #[error("the message has {0} bytes after its end")]
    Trailing(usize),
}

/// Encodes a request with what its sender says of itself.
#[must_use]
pub fn encode_request(frame: &RequestFrame) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_frame(&mut Encoder::new(&mut bytes), frame).expect("writing to a vector cannot fail");
    bytes
}

/// Encodes a response.
#[must_use]
pub fn encode_response(response: &Response) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_response(&mut Encoder::new(&mut bytes), response)
        .expect("writing to a vector cannot fail");
    bytes
}

/// Length of [`encode_request`]'s result for a sender with `sender_addrs` IPv4 addresses, without making it.
#[must_use]
pub fn encoded_request_len(request: &Request, sender_addrs: usize) -> usize {
    let mut count = Count(0);
    write_request(&mut Encoder::new(&mut count), request).expect("counting cannot fail");
    count.0 + 3 + sender_addrs.min(ADDRS_PER_CONTACT_MAX) * (IPV4_ADDR_BYTES + 1)
}

/// Length of [`encode_response`]'s result, without making it.
#[must_use]
pub fn encoded_response_len(response: &Response) -> usize {
    let mut count = Count(0);
    if let Response::Nodes { contacts } = response {
        // Most answers by far: the length of each contact is remembered.
        let none = Response::Nodes { contacts: Vec::new() };
        write_response(&mut Encoder::new(&mut count), &none).expect("counting cannot fail");
        let list: usize = contacts.iter().map(|contact| contact.encoded_len()).sum();
        return count.0 - head_len(0) + head_len(contacts.len()) + list;
    }
    write_response(&mut Encoder::new(&mut count), response).expect("counting cannot fail");
    count.0
}

/// Length of the head of a list of `count` elements.
const fn head_len(count: usize) -> usize {
    match count {
        0..=23 => 1,
        24..=255 => 2,
        256..=65_535 => 3,
        _ => 5,
    }
}

/// Length of a contact of an agent at `addrs` in a message.
pub(crate) fn contact_len(agent: &AgentId, addrs: &[SocketAddr]) -> usize {
    let mut count = Count(0);
    write_contact(&mut Encoder::new(&mut count), agent, addrs).expect("counting cannot fail");
    count.0
}

/// Decodes a request.
///
/// # Errors
/// [`WireError`] says which rule the bytes break.
pub fn decode_request(bytes: &[u8]) -> Result<RequestFrame, WireError> {
    let mut d = open(bytes)?;
    head(&mut d, 3, "request frame")?;
    let server = d.bool()?;
    let addrs = read_addrs(&mut d)?;
    let request = read_request(&mut d)?;
    close(&d, RequestFrame { server, addrs, request })
}

/// Decodes a response, deriving the place of every contact.
///
/// # Errors
/// [`WireError`] says which rule the bytes break.
pub fn decode_response(bytes: &[u8], positions: &mut dyn Positions) -> Result<Response, WireError> {
    let mut d = open(bytes)?;
    let response = read_response(&mut d, positions)?;
    close(&d, response)
}

struct Count(usize);

impl Write for Count {
    type Error = std::convert::Infallible;

    fn write_all(&mut self, buf: &[u8]) -> Result<(), Self::Error> {
        self.0 += buf.len();
        Ok(())
    }
}

fn open(bytes: &[u8]) -> Result<Decoder<'_>, WireError> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(WireError::TooLong { given: bytes.len(), max: MESSAGE_BYTES_MAX });
    }
    Ok(Decoder::new(bytes))
}

fn close<T>(d: &Decoder<'_>, value: T) -> Result<T, WireError> {
    match d.input().len() - d.position() {
        0 => Ok(value),
        rest => Err(WireError::Trailing(rest)),
    }
}

// ---- requests ----

type Written<W> = Result<(), EncodeError<<W as Write>::Error>>;

fn write_frame<W: Write>(e: &mut Encoder<W>, frame: &RequestFrame) -> Written<W> {
    e.array(3)?.bool(frame.server)?;
    write_addrs(e, &frame.addrs)?;
    write_request(e, &frame.request)
}

fn write_request<W: Write>(e: &mut Encoder<W>, request: &Request) -> Written<W> {
    match request {
        Request::Ping => e.array(1)?.u8(0)?.ok(),
        Request::FindNode { target, known } => {
            e.array(fields_with(2, known))?.u8(1)?.bytes(&target.0)?;
            write_known(e, known)
        }
        Request::Store { items, labels, entries } => {
            e.array(4)?.u8(2)?;
            write_items(e, items)?;
            e.array(labels.len() as u64)?;
            labels.iter().try_for_each(|label| e.str(label)?.ok())?;
            e.array(entries.len() as u64)?;
            entries.iter().try_for_each(|entry| write_entry(e, entry))
        }
        Request::Query(query) => {
            e.array(fields_with(7, &query.known))?.u8(3)?;
            write_shard(e, &query.shard)?;
            e.u8(query.placement)?.bytes(&query.query)?.u16(query.limit)?.u32(query.cost_max)?;
            e.array(query.exclude.len() as u64)?;
            query.exclude.iter().try_for_each(|agent| e.bytes(agent.as_bytes())?.ok())?;
            write_known(e, &query.known)
        }
        Request::FindPeer { prefix, bits, target, known } => {
            e.array(fields_with(4, known))?.u8(4)?;
            e.bytes(&prefix.0)?.u16(*bits)?.bytes(&target.0)?;
            write_known(e, known)
        }
        Request::Leaving => e.array(1)?.u8(5)?.ok(),
        Request::Report(report) => sets::write_report(e, report),
        Request::Compare { sets } => sets::write_compare(e, sets),
        Request::Reconcile(asked) => sets::write_reconcile(e, asked),
    }
}

fn read_request(d: &mut Decoder<'_>) -> Result<Request, WireError> {
    let (fields, number) = variant(d)?;
    let shape = |wanted| {
        if fields == wanted { Ok(()) } else { Err(WireError::Invalid("number of request fields")) }
    };
    match number {
        0 => shape(1).map(|()| Request::Ping),
        1 => {
            let known = has_known(fields, 2)?;
            Ok(Request::FindNode { target: read_id(d)?, known: read_known(d, known)? })
        }
        2 => {
            shape(4)?;
            let items = read_items(d, STORE_ITEMS_MAX, "items")?;
            let labels = list(d, STORE_LABELS_MAX, "labels", read_label)?;
            let entries = list(d, STORE_ENTRIES_MAX, "store entries", |d| {
                read_entry(d, items.len(), labels.len())
            })?;
            Ok(Request::Store { items, labels, entries })
        }
        3 => {
            let known = has_known(fields, 7)?;
            read_query(d, known).map(Request::Query)
        }
        4 => {
            let known = has_known(fields, 4)?;
            let (prefix, bits, target) = (read_id(d)?, d.u16()?, read_id(d)?);
            let known = read_known(d, known)?;
            let in_range = (PREFIX_BITS_MIN..=256).contains(&bits);
            if in_range {
                Ok(Request::FindPeer { prefix, bits, target, known })
            } else {
                Err(WireError::Invalid("prefix length"))
            }
        }
        5 => shape(1).map(|()| Request::Leaving),
        6 => {
            shape(5)?;
            sets::read_report(d).map(Request::Report)
        }
        7 => {
            shape(2)?;
            Ok(Request::Compare { sets: sets::read_compare(d)? })
        }
        8 => {
            shape(6)?;
            sets::read_reconcile(d).map(Request::Reconcile)
        }
        number => Err(WireError::Unknown { what: "request", number }),
    }
}

fn read_query(d: &mut Decoder<'_>, known: bool) -> Result<QueryRequest, WireError> {
    let shard = read_shard(d)?;
    let placement = read_placement(d)?;
    let query = read_bytes(d, QUERY_BYTES_MAX, "query bytes")?;
    let limit = d.u16()?;
    if limit == 0 || usize::from(limit) > FOUND_MATCHES_MAX {
        return Err(WireError::Invalid("limit"));
    }
    let cost_max = d.u32()?;
    let exclude = list(d, EXCLUDE_MAX, "excluded agents", read_agent)?;
    let known = read_known(d, known)?;
    Ok(QueryRequest { shard, placement, query, limit, cost_max, exclude, known })
}

/// The fields of a request that ends with what its sender knows, unless that is nothing.
const fn fields_with(others: u64, known: &Known) -> u64 {
    if known.is_empty() { others } else { others + 1 }
}

fn has_known(fields: u64, others: u64) -> Result<bool, WireError> {
    match fields.checked_sub(others) {
        Some(0) => Ok(false),
        Some(1) => Ok(true),
        Some(_) | None => Err(WireError::Invalid("number of request fields")),
    }
}

fn write_known<W: Write>(e: &mut Encoder<W>, known: &Known) -> Written<W> {
    if known.is_empty() { Ok(()) } else { e.bytes(known.as_bytes())?.ok() }
}

fn read_known(d: &mut Decoder<'_>, is_there: bool) -> Result<Known, WireError> {
    if !is_there {
        return Ok(Known::default());
    }
    let bytes = d.bytes()?;
    if bytes.is_empty() {
        return Err(WireError::Invalid("filter: an empty one is left out"));
    }
    if bytes.len() > KNOWN_BYTES_MAX {
        let given = bytes.len() as u64;
        return Err(WireError::TooMany { what: "filter bytes", given, max: KNOWN_BYTES_MAX });
    }
    Ok(Known::from_bytes(bytes))
}

fn write_entry<W: Write>(e: &mut Encoder<W>, entry: &StoreEntry) -> Written<W> {
    match entry.place {
        Place::Shard { shard, index } => {
            e.array(if entry.label.is_some() { 4 } else { 3 })?.u8(entry.item)?;
            write_shard(e, &shard)?;
            e.u8(index)?;
            entry.label.map_or(Ok(()), |label| e.u8(label)?.ok())
        }
        Place::Peer => e.array(1)?.u8(entry.item)?.ok(),
    }
}

fn read_label(d: &mut Decoder<'_>) -> Result<String, WireError> {
    let label = d.str()?;
    if label.len() > LABEL_BYTES_MAX {
        return Err(WireError::TooMany {
            what: "label bytes",
            given: label.len() as u64,
            max: LABEL_BYTES_MAX,
        });
    }
    Ok(label.to_owned())
}

fn read_entry(d: &mut Decoder<'_>, items: usize, labels: usize) -> Result<StoreEntry, WireError> {
    let fields = array(d)?;
    let item = d.u8()?;
    if usize::from(item) >= items {
        return Err(WireError::Invalid("item index"));
    }
    let place = match fields {
        1 => Place::Peer,
        3 | 4 => Place::Shard { shard: read_shard(d)?, index: read_placement(d)? },
        _ => return Err(WireError::Invalid("store entry")),
    };
    let label = if fields == 4 { Some(d.u8()?) } else { None };
    if label.is_some_and(|label| usize::from(label) >= labels) {
        return Err(WireError::Invalid("label index"));
    }
    Ok(StoreEntry { item, place, label })
}

fn read_placement(d: &mut Decoder<'_>) -> Result<u8, WireError> {
    let index = d.u8()?;
    if index < PLACEMENTS { Ok(index) } else { Err(WireError::Invalid("placement")) }
}

fn write_shard<W: Write>(e: &mut Encoder<W>, shard: &ShardId) -> Written<W> {
    e.array(3)?.bytes(&shard.group.0)?.u8(shard.depth)?.bytes(&shard.prefix)?.ok()
}

fn read_shard(d: &mut Decoder<'_>) -> Result<ShardId, WireError> {
    head(d, 3, "shard")?;
    let shard = ShardId { group: GroupKey(read_array(d)?), depth: d.u8()?, prefix: read_array(d)? };
    if shard.is_canonical() { Ok(shard) } else { Err(WireError::Invalid("shard prefix")) }
}

// ---- responses ----

fn write_response<W: Write>(e: &mut Encoder<W>, response: &Response) -> Written<W> {
    match response {
        Response::Pong => e.array(1)?.u8(0)?.ok(),
        Response::Nodes { contacts } => {
            e.array(2)?.u8(1)?;
            write_contacts(e, contacts)
        }
        Response::Stored { outcomes } => {
            e.array(2)?.u8(2)?.array(outcomes.len() as u64)?;
            outcomes.iter().try_for_each(|outcome| match outcome {
                StoreOutcome::Stored => e.array(1)?.u8(0)?.ok(),
                StoreOutcome::Rejected(reject) => {
                    e.array(2)?.u8(1)?.u8(reject_number(*reject))?.ok()
                }
                StoreOutcome::Split { depth } => e.array(2)?.u8(2)?.u8(*depth)?.ok(),
            })
        }
        Response::Found { answer, closer } => {
            e.array(3)?.u8(3)?;
            write_outcome(e, answer)?;
            write_contacts(e, closer)
        }
        Response::Peer { records, closer } => {
            e.array(3)?.u8(4)?;
            write_items(e, records)?;
            write_contacts(e, closer)
        }
        Response::Done => e.array(1)?.u8(5)?.ok(),
        Response::Error(code) => e.array(2)?.u8(6)?.u16(error_number(*code))?.ok(),
        Response::Differ { at } => sets::write_differ(e, at),
        Response::Reconciled { ranges, items, wants } => {
            sets::write_reconciled(e, ranges, items, wants)
        }
    }
}

fn read_response(
    d: &mut Decoder<'_>,
    positions: &mut dyn Positions,
) -> Result<Response, WireError> {
    let (fields, number) = variant(d)?;
    let shape = |wanted| {
        if fields == wanted { Ok(()) } else { Err(WireError::Invalid("number of response fields")) }
    };
    match number {
        0 => shape(1).map(|()| Response::Pong),
        1 => {
            shape(2)?;
            Ok(Response::Nodes { contacts: read_contacts(d, positions)? })
        }
        2 => {
            shape(2)?;
            Ok(Response::Stored {
                outcomes: list(d, STORE_ENTRIES_MAX, "store outcomes", read_store_outcome)?,
            })
        }
        3 => {
            shape(3)?;
            Ok(Response::Found {
                answer: read_outcome(d, positions)?,
                closer: read_contacts(d, positions)?,
            })
        }
        4 => {
            shape(3)?;
            let records = read_items(d, PEER_RECORDS_MAX, "peer records")?;
            Ok(Response::Peer { records, closer: read_contacts(d, positions)? })
        }
        5 => shape(1).map(|()| Response::Done),
        6 => {
            shape(2)?;
            Ok(Response::Error(error_code(d.u16()?)))
        }
        7 => {
            shape(2)?;
            sets::read_differ(d)
        }
        8 => {
            shape(4)?;
            sets::read_reconciled(d)
        }
        number => Err(WireError::Unknown { what: "response", number }),
    }
}

fn read_store_outcome(d: &mut Decoder<'_>) -> Result<StoreOutcome, WireError> {
    match variant(d)? {
        (1, 0) => Ok(StoreOutcome::Stored),
        (2, 1) => read_reject(d).map(StoreOutcome::Rejected),
        (2, 2) => Ok(StoreOutcome::Split { depth: read_depth(d)? }),
        (_, number) => Err(WireError::Unknown { what: "store outcome", number }),
    }
}

fn write_outcome<W: Write>(e: &mut Encoder<W>, outcome: &QueryOutcome) -> Written<W> {
    match outcome {
        QueryOutcome::Answered(answer) => {
            e.array(9)?.u8(0)?;
            write_items(e, &answer.matches)?;
            write_items(e, &answer.near)?;
            write_items(e, &answer.beats)?;
            e.u32(answer.held)?
                .u32(answer.passed)?
                .bool(answer.truncated)?
                .bytes(&answer.set_hash.0)?;
            sets::write_leaves(e, &answer.leaves)
        }
        QueryOutcome::NotHeld => e.array(1)?.u8(1)?.ok(),
        QueryOutcome::Split { depth } => e.array(2)?.u8(2)?.u8(*depth)?.ok(),
    }
}

fn read_outcome(
    d: &mut Decoder<'_>,
    positions: &mut dyn Positions,
) -> Result<QueryOutcome, WireError> {
    match variant(d)? {
        (9, 0) => Ok(QueryOutcome::Answered(Answer {
            matches: read_items(d, FOUND_MATCHES_MAX.max(FOUND_VEILED_MAX), "matches")?,
            near: read_items(d, FOUND_NEAR_MAX, "near misses")?,
            beats: read_items(d, FOUND_MATCHES_MAX, "beats")?,
            held: d.u32()?,
            passed: d.u32()?,
            truncated: d.bool()?,
            set_hash: Hash(read_array(d)?),
            leaves: sets::read_leaves(d, positions)?,
        })),
        (1, 1) => Ok(QueryOutcome::NotHeld),
        (2, 2) => Ok(QueryOutcome::Split { depth: read_depth(d)? }),
        (_, number) => Err(WireError::Unknown { what: "query outcome", number }),
    }
}

fn read_depth(d: &mut Decoder<'_>) -> Result<u8, WireError> {
    let depth = d.u8()?;
    if (1..=SHARD_DEPTH_MAX).contains(&depth) {
        Ok(depth)
    } else {
        Err(WireError::Invalid("split depth"))
    }
}

// ---- contacts, addresses, items ----

fn write_contacts<W: Write>(e: &mut Encoder<W>, contacts: &[Contact]) -> Written<W> {
    e.array(contacts.len() as u64)?;
    contacts.iter().try_for_each(|contact| write_contact(e, &contact.agent, &contact.addrs))
}

fn write_contact<W: Write>(
    e: &mut Encoder<W>,
    agent: &AgentId,
    addrs: &[SocketAddr],
) -> Written<W> {
    e.array(2)?.bytes(agent.as_bytes())?;
    write_addrs(e, addrs)
}

fn read_contacts(
    d: &mut Decoder<'_>,
    positions: &mut dyn Positions,
) -> Result<Vec<Contact>, WireError> {
    let contacts = read_named(d, CONTACTS_MAX, positions)?;
    Ok(contacts.into_iter().flatten().collect())
}

/// As many contacts as are named; `None` for each that is not valid on this network.
fn read_named(
    d: &mut Decoder<'_>,
    most: usize,
    positions: &mut dyn Positions,
) -> Result<Vec<Option<Contact>>, WireError> {
    list(d, most, "contacts", |d| {
        head(d, 2, "contact")?;
        let key = read_array(d)?;
        let addrs = read_addrs(d)?;
        let contact = positions.accept(&key).and_then(|agent| {
            let overlay_id = positions.position(&agent)?;
            Some(Contact::server(agent, overlay_id, addrs))
        });
        Ok(contact)
    })
}

fn write_addrs<W: Write>(e: &mut Encoder<W>, addrs: &[SocketAddr]) -> Written<W> {
    let addrs = &addrs[..addrs.len().min(ADDRS_PER_CONTACT_MAX)];
    e.array(addrs.len() as u64)?;
    addrs.iter().try_for_each(|addr| {
        let port = addr.port().to_be_bytes();
        match addr.ip() {
            IpAddr::V4(ip) => e.bytes(&[&ip.octets()[..], &port].concat())?.ok(),
            IpAddr::V6(ip) => e.bytes(&[&ip.octets()[..], &port].concat())?.ok(),
        }
    })
}

fn read_addrs(d: &mut Decoder<'_>) -> Result<Vec<SocketAddr>, WireError> {
    list(d, ADDRS_PER_CONTACT_MAX, "addresses", |d| {
        let bytes = d.bytes()?;
        let (ip, port): (IpAddr, &[u8]) = match bytes.len() {
            IPV4_ADDR_BYTES => {
                let (ip, port) = bytes.split_at(4);
                let ip: [u8; 4] = ip.try_into().expect("split at 4");
                (Ipv4Addr::from(ip).into(), port)
            }
            IPV6_ADDR_BYTES => {
                let (ip, port) = bytes.split_at(16);
                let ip: [u8; 16] = ip.try_into().expect("split at 16");
                (Ipv6Addr::from(ip).into(), port)
            }
            _ => return Err(WireError::Invalid("address length")),
        };
        let port: [u8; 2] = port.try_into().expect("two bytes remain");
        Ok(SocketAddr::new(ip, u16::from_be_bytes(port)))
    })
}

fn write_items<W: Write>(e: &mut Encoder<W>, items: &[ItemBytes]) -> Written<W> {
    e.array(items.len() as u64)?;
    items.iter().try_for_each(|item| e.bytes(item)?.ok())
}

fn read_items(
    d: &mut Decoder<'_>,
    max: usize,
    what: &'static str,
) -> Result<Vec<ItemBytes>, WireError> {
    list(d, max, what, |d| read_bytes(d, ITEM_BYTES_MAX, "item bytes"))
}

// ---- primitives ----

/// A definite array head.
fn array(d: &mut Decoder<'_>) -> Result<u64, WireError> {
    d.array()?.ok_or(WireError::Invalid("length: indefinite arrays are not used"))
}

fn head(d: &mut Decoder<'_>, fields: u64, what: &'static str) -> Result<(), WireError> {
    if array(d)? == fields { Ok(()) } else { Err(WireError::Invalid(what)) }
}

/// The number of fields and the variant number.
fn variant(d: &mut Decoder<'_>) -> Result<(u64, u32), WireError> {
    Ok((array(d)?, d.u32()?))
}

fn list<'b, T>(
    d: &mut Decoder<'b>,
    max: usize,
    what: &'static str,
    mut read: impl FnMut(&mut Decoder<'b>) -> Result<T, WireError>,
) -> Result<Vec<T>, WireError> {
    let given = array(d)?;
    let count = usize::try_from(given)
        .ok()
        .filter(|count| *count <= max)
        .ok_or(WireError::TooMany { what, given, max })?;
    (0..count).map(|_| read(d)).collect()
}

fn read_bytes(d: &mut Decoder<'_>, max: usize, what: &'static str) -> Result<ItemBytes, WireError> {
    let bytes = d.bytes()?;
    if bytes.len() > max {
        return Err(WireError::TooMany { what, given: bytes.len() as u64, max });
    }
    Ok(bytes.into())
}

fn read_array<const N: usize>(d: &mut Decoder<'_>) -> Result<[u8; N], WireError> {
    d.bytes()?.try_into().map_err(|_| WireError::Invalid("length of a fixed string"))
}

fn read_id(d: &mut Decoder<'_>) -> Result<OverlayId, WireError> {
    read_array(d).map(OverlayId)
}

fn read_agent(d: &mut Decoder<'_>) -> Result<AgentId, WireError> {
    AgentId::from_bytes(&read_array(d)?).map_err(|_| WireError::Invalid("agent key"))
}

const REJECTS: [Reject; 11] = [
    Reject::Malformed,
    Reject::Signature,
    Reject::Mint,
    Reject::Expired,
    Reject::Future,
    Reject::Lifetime,
    Reject::Stale,
    Reject::Conflict,
    Reject::Misplaced,
    Reject::Orphan,
    Reject::Quota,
];

fn reject_number(reject: Reject) -> u8 {
    let at =
        REJECTS.iter().position(|known| *known == reject).expect("the list names every variant");
    u8::try_from(at).expect("the list is short")
}

fn read_reject(d: &mut Decoder<'_>) -> Result<Reject, WireError> {
    let number = d.u8()?;
    REJECTS
        .get(usize::from(number))
        .copied()
        .ok_or(WireError::Unknown { what: "reject", number: number.into() })
}

const fn error_number(code: ErrorCode) -> u16 {
    match code {
        ErrorCode::Busy => 0,
        ErrorCode::Invalid => 1,
        ErrorCode::Query => 2,
        ErrorCode::NotServing => 3,
        ErrorCode::Other(number) => number,
    }
}

const fn error_code(number: u16) -> ErrorCode {
    match number {
        0 => ErrorCode::Busy,
        1 => ErrorCode::Invalid,
        2 => ErrorCode::Query,
        3 => ErrorCode::NotServing,
        number => ErrorCode::Other(number),
    }
}
