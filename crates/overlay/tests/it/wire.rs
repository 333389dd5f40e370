//! The message codec: round trips, and nothing that arrives can make it panic.

use std::net::SocketAddr;

use comity_capability::keys::GroupKey;
use comity_core::{Hash, OverlayId};
use comity_overlay::wire::{
    Answer, Compared, ElementRange, ElementState, ErrorCode, Known, LeafView, MESSAGE_BYTES_MAX,
    QueryOutcome, QueryRequest, RangeHeld, Reconcile, Report, StoreEntry, StoreOutcome, WireError,
    decode_request, decode_response, encode_request, encode_response, encoded_request_len,
    encoded_response_len,
};
use comity_overlay::{Contact, ItemBytes, Place, Reject, Request, RequestFrame, Response, ShardId};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::fake::{Fake, agent, place};

fn id() -> impl Strategy<Value = OverlayId> {
    any::<[u8; 32]>().prop_map(OverlayId)
}

fn addrs() -> impl Strategy<Value = Vec<SocketAddr>> {
    vec(any::<(std::net::IpAddr, u16)>().prop_map(SocketAddr::from), 0..=4)
}

fn contact() -> impl Strategy<Value = Contact> {
    (0_usize..30, addrs()).prop_map(|(index, addrs)| {
        let agent = agent(index);
        Contact::server(agent, place(&agent), addrs)
    })
}

fn contacts() -> impl Strategy<Value = Vec<Contact>> {
    vec(contact(), 0..=20)
}

fn item() -> impl Strategy<Value = ItemBytes> {
    vec(any::<u8>(), 0..200).prop_map(ItemBytes::from)
}

fn shard() -> impl Strategy<Value = ShardId> {
    (any::<[u8; 32]>(), 0_u8..=32, any::<u32>()).prop_map(|(group, depth, prefix)| {
        let mask = u32::MAX.checked_shl(32 - u32::from(depth)).unwrap_or(0);
        ShardId { group: GroupKey(group), depth, prefix: (prefix & mask).to_be_bytes() }
    })
}

fn known() -> impl Strategy<Value = Known> {
    vec(any::<u8>(), 0..=144).prop_map(|bytes| Known::from_bytes(&bytes))
}

fn request() -> impl Strategy<Value = Request> {
    let entry = (0_u8..3, shard(), 0_u8..2, proptest::option::of(0_u8..2), any::<bool>()).prop_map(
        |(item, shard, index, label, peer)| {
            let place = if peer { Place::Peer } else { Place::Shard { shard, index } };
            StoreEntry { item, place, label: label.filter(|_| !peer) }
        },
    );
    let store = (vec(item(), 3), vec("[ -~]{0,256}", 2), vec(entry, 0..50));
    let query =
        (shard(), 0_u8..2, item(), 1_u16..=32, any::<u32>(), vec(0_usize..20, 0..=16), known());
    prop_oneof![
        Just(Request::Ping),
        Just(Request::Leaving),
        (id(), known()).prop_map(|(target, known)| Request::FindNode { target, known }),
        store.prop_map(|(items, labels, entries)| Request::Store { items, labels, entries }),
        query.prop_map(|(shard, placement, query, limit, cost_max, exclude, known)| {
            let exclude = exclude.into_iter().map(agent).collect();
            Request::Query(QueryRequest {
                shard,
                placement,
                query,
                limit,
                cost_max,
                exclude,
                known,
            })
        }),
        (id(), 16_u16..=256, id(), known()).prop_map(|(prefix, bits, target, known)| {
            Request::FindPeer { prefix, bits, target, known }
        }),
        (shard(), 0_u8..2, any::<u32>(), proptest::option::of(vec(any::<u8>(), 1..=512)))
            .prop_filter("a leaf has a depth", |(shard, ..)| shard.depth > 0)
            .prop_map(|(shard, placement, count, zone)| {
                let zone = zone.map(ItemBytes::from);
                Request::Report(Report { shard, placement, count, zone })
            }),
        vec(any::<(u64, u64)>(), 0..=256).prop_map(|sets| {
            let compared = |(shard, fingerprint)| Compared { shard, fingerprint };
            Request::Compare { sets: sets.into_iter().map(compared).collect() }
        }),
        (shard(), 0_u8..2, "[ -~]{0,256}", any::<bool>(), ranges()).prop_map(
            |(shard, placement, label, closed, ranges)| {
                let label = label.into();
                Request::Reconcile(Reconcile { shard, placement, label, closed, ranges })
            }
        ),
    ]
}

/// Ranges in order, some with lists.
fn ranges() -> impl Strategy<Value = Vec<ElementRange>> {
    let bounds = proptest::collection::btree_set(any::<u64>(), 0..=40);
    (bounds, any::<bool>(), any::<u64>()).prop_map(|(bounds, lists, sum)| {
        let bounds: Vec<_> = bounds.into_iter().collect();
        let range = |(at, pair): (usize, &[u64])| {
            let element = |name| ElementState { name, seq: sum, beat: sum.rotate_left(7) };
            let held = if lists && at % 2 == 0 {
                RangeHeld::List(pair.iter().copied().map(element).collect())
            } else {
                RangeHeld::Sum(sum)
            };
            ElementRange { first: pair[0], last: pair[1], held }
        };
        bounds.chunks_exact(2).enumerate().map(range).collect()
    })
}

fn leaves() -> impl Strategy<Value = Vec<LeafView>> {
    let place = (1_u8..=32, any::<u32>()).prop_map(|(depth, prefix)| {
        let mask = u32::MAX.checked_shl(32 - u32::from(depth)).unwrap_or(0);
        (depth, (prefix & mask).to_be_bytes())
    });
    let custodians = vec(contact(), 0..=2);
    let leaf = (any::<u32>(), any::<bool>(), custodians);
    proptest::collection::btree_map(place, leaf, 0..=126).prop_map(|leaves| {
        let mut left = 64;
        let view = |((depth, prefix), (count, may_match, custodians)): (_, (_, _, Vec<_>))| {
            let custodians: Vec<_> = custodians.into_iter().take(left).collect();
            left -= custodians.len();
            LeafView { depth, prefix, count, may_match, custodians }
        };
        leaves.into_iter().map(view).collect()
    })
}

fn reject() -> impl Strategy<Value = Reject> {
    prop_oneof![
        Just(Reject::Malformed),
        Just(Reject::Signature),
        Just(Reject::Mint),
        Just(Reject::Expired),
        Just(Reject::Future),
        Just(Reject::Lifetime),
        Just(Reject::Stale),
        Just(Reject::Conflict),
        Just(Reject::Misplaced),
        Just(Reject::Orphan),
        Just(Reject::Quota),
    ]
}

fn response() -> impl Strategy<Value = Response> {
    let stored = prop_oneof![
        Just(StoreOutcome::Stored),
        reject().prop_map(StoreOutcome::Rejected),
        (1_u8..=32).prop_map(|depth| StoreOutcome::Split { depth }),
    ];
    let lists = (vec(item(), 0..=32), vec(item(), 0..=8), vec(item(), 0..=32), leaves());
    let answer = (lists, any::<u32>(), any::<u32>(), any::<bool>(), any::<[u8; 32]>()).prop_map(
        |(lists, held, passed, truncated, hash)| {
            let (matches, near, beats, leaves) = lists;
            QueryOutcome::Answered(Answer {
                matches,
                near,
                beats,
                held,
                passed,
                truncated,
                set_hash: Hash(hash),
                leaves,
            })
        },
    );
    let outcome = prop_oneof![
        answer,
        Just(QueryOutcome::NotHeld),
        (1_u8..=32).prop_map(|depth| QueryOutcome::Split { depth })
    ];
    let code = prop_oneof![
        Just(ErrorCode::Busy),
        Just(ErrorCode::Invalid),
        Just(ErrorCode::Query),
        Just(ErrorCode::NotServing),
        (4_u16..).prop_map(ErrorCode::Other),
    ];
    prop_oneof![
        Just(Response::Pong),
        Just(Response::Done),
        contacts().prop_map(|contacts| Response::Nodes { contacts }),
        vec(stored, 0..50).prop_map(|outcomes| Response::Stored { outcomes }),
        (outcome, contacts()).prop_map(|(answer, closer)| Response::Found { answer, closer }),
        (vec(item(), 0..=8), contacts())
            .prop_map(|(records, closer)| Response::Peer { records, closer }),
        code.prop_map(Response::Error),
        proptest::collection::btree_set(any::<u16>(), 0..=256)
            .prop_map(|at| Response::Differ { at: at.into_iter().collect() }),
        (ranges(), vec(item(), 0..=128), vec(any::<u64>(), 0..=300))
            .prop_map(|(ranges, items, wants)| Response::Reconciled { ranges, items, wants }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn requests_survive_the_wire(server: bool, addrs in addrs(), request in request()) {
        let frame = RequestFrame { server, addrs, request };
        let bytes = encode_request(&frame);
        prop_assert_eq!(&decode_request(&bytes).unwrap(), &frame);
        let v4 = frame.addrs.iter().filter(|addr| addr.is_ipv4()).count();
        if v4 == frame.addrs.len() {
            prop_assert_eq!(encoded_request_len(&frame.request, v4), bytes.len());
        }
    }

    #[test]
    fn responses_survive_the_wire(response in response()) {
        let bytes = encode_response(&response);
        prop_assert_eq!(encoded_response_len(&response), bytes.len());
        prop_assert_eq!(decode_response(&bytes, &mut Fake::default()).unwrap(), response);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..400)) {
        let _ = decode_request(&bytes);
        let _ = decode_response(&bytes, &mut Fake::default());
    }

    #[test]
    fn damaged_messages_never_panic(request in request(), response in response(), at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
        let mut bytes = encode_request(&RequestFrame { server: true, addrs: Vec::new(), request });
        let index = at.index(bytes.len());
        bytes[index] = byte;
        let _ = decode_request(&bytes);
        prop_assert!(decode_request(&bytes[..cut.index(bytes.len())]).is_err());
        let mut bytes = encode_response(&response);
        let index = at.index(bytes.len());
        bytes[index] = byte;
        let _ = decode_response(&bytes, &mut Fake::default());
    }
}

#[test]
fn unknown_variants_are_named() {
    let error = decode_request(&[0x83, 0xf5, 0x80, 0x81, 0x18, 0x63]).unwrap_err();
    assert!(matches!(error, WireError::Unknown { what: "request", number: 99 }), "{error}");
    assert!(error.to_string().contains("later version"));
    let error = decode_response(&[0x81, 0x18, 0x63], &mut Fake::default()).unwrap_err();
    assert!(matches!(error, WireError::Unknown { what: "response", number: 99 }), "{error}");
}

#[test]
fn announced_lengths_are_checked_before_anything_is_read() {
    // Nodes with 2^32 - 1 contacts.
    let error = decode_response(&[0x82, 0x01, 0x9a, 0xff, 0xff, 0xff, 0xff], &mut Fake::default())
        .unwrap_err();
    assert!(
        matches!(error, WireError::TooMany { what: "contacts", given: 0xffff_ffff, max: 20 }),
        "{error}"
    );
    let error = decode_request(&vec![0; MESSAGE_BYTES_MAX + 1]).unwrap_err();
    assert!(matches!(error, WireError::TooLong { .. }), "{error}");
    let mut trailing = encode_response(&Response::Pong);
    trailing.push(0);
    assert!(matches!(
        decode_response(&trailing, &mut Fake::default()),
        Err(WireError::Trailing(1))
    ));
}

#[test]
fn the_largest_messages_fit() {
    use comity_overlay::wire::{CONTACTS_MAX, STORE_LABELS_MAX};
    let shard = ShardId::whole(GroupKey([0xff; 32]));
    let entry = StoreEntry { item: 39, place: Place::Shard { shard, index: 1 }, label: Some(127) };
    let store = Request::Store {
        items: vec![vec![0; 1_100].into(); 40],
        labels: Vec::new(),
        entries: vec![entry; STORE_LABELS_MAX],
    };
    // 44 KiB of items and labels, which is what a publisher packs, and as many entries as it does.
    assert!(encoded_request_len(&store, 4) < MESSAGE_BYTES_MAX);
    let many: Vec<_> = vec!["[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().unwrap(); 4];
    let contact = Contact::server(agent(1), place(&agent(1)), many);
    let answer = Answer {
        matches: vec![vec![0; 1_200].into(); 32],
        near: vec![vec![0; 1_200].into(); 8],
        beats: Vec::new(),
        held: u32::MAX,
        passed: u32::MAX,
        truncated: true,
        set_hash: Hash([0xff; 32]),
        leaves: (0..126)
            .map(|leaf| LeafView {
                depth: 32,
                prefix: [0xff, 0xff, 0xff, leaf],
                count: u32::MAX,
                may_match: true,
                custodians: if leaf < 32 { vec![contact.clone(); 2] } else { Vec::new() },
            })
            .collect(),
    };
    let found = Response::Found {
        answer: QueryOutcome::Answered(answer),
        closer: vec![contact; CONTACTS_MAX],
    };
    assert!(encoded_response_len(&found) < MESSAGE_BYTES_MAX);
}

#[test]
fn contacts_with_keys_of_another_network_are_left_out() {
    struct Unminted;
    impl comity_overlay::Positions for Unminted {
        fn position(&mut self, key: &comity_core::AgentId) -> Option<OverlayId> {
            (*key == agent(2)).then(|| place(key))
        }
    }
    let contacts =
        [1, 2, 3].map(|index| Contact::server(agent(index), place(&agent(index)), Vec::new()));
    let bytes = encode_response(&Response::Nodes { contacts: contacts.to_vec() });
    let decoded = decode_response(&bytes, &mut Unminted).unwrap();
    assert_eq!(decoded, Response::Nodes { contacts: vec![contacts[1].clone()] });
}

#[test]
fn the_largest_reconciling_messages_fit() {
    use comity_overlay::wire::{ELEMENTS_MAX, RANGES_MAX};
    let width = u64::MAX / RANGES_MAX as u64;
    let per_range = ELEMENTS_MAX / RANGES_MAX;
    let range = |at: usize| {
        let first = at as u64 * width;
        let element =
            |n: usize| ElementState { name: first + n as u64, seq: u64::MAX, beat: u64::MAX };
        let list = (0..per_range).map(element).collect();
        ElementRange { first, last: first + width - 1, held: RangeHeld::List(list) }
    };
    let ranges: Vec<_> = (0..RANGES_MAX).map(range).collect();
    // 20 KiB of items are what an answerer packs.
    let items = vec![vec![0; 160].into(); 128];
    let wants = vec![u64::MAX; ELEMENTS_MAX];
    let answer = Response::Reconciled { ranges, items, wants };
    let len = encoded_response_len(&answer);
    assert!(len <= MESSAGE_BYTES_MAX, "{len} bytes");
}

#[test]
fn ranges_out_of_order_are_refused() {
    let ask = |ranges: Vec<ElementRange>| {
        let asked = Reconcile {
            shard: ShardId::whole(GroupKey([1; 32])),
            placement: 0,
            label: "".into(),
            closed: false,
            ranges,
        };
        let request = Request::Reconcile(asked);
        decode_request(&encode_request(&RequestFrame { server: true, addrs: Vec::new(), request }))
    };
    let sum = |first, last| ElementRange { first, last, held: RangeHeld::Sum(1) };
    assert!(ask(vec![sum(0, 5), sum(6, 9)]).is_ok());
    assert!(ask(vec![sum(0, 5), sum(5, 9)]).is_err(), "they overlap");
    assert!(ask(vec![sum(9, 5)]).is_err(), "it ends before it begins");
    let element = |name| ElementState { name, seq: 1, beat: 0 };
    let list = |names: &[u64]| {
        let held = RangeHeld::List(names.iter().copied().map(element).collect());
        ask(vec![ElementRange { first: 10, last: 20, held }])
    };
    assert!(list(&[10, 15, 20]).is_ok());
    assert!(list(&[15, 10]).is_err(), "not in order");
    assert!(list(&[21]).is_err(), "outside of its range");
}
