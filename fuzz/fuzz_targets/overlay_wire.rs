//! Messages between nodes: what decodes is within its bounds, encodes to no more bytes, and decodes to the same again; from
//! deterministic CBOR it encodes to the very bytes.
#![no_main]

use comity_core::canonical::{Floats, MAX_DEPTH, check};
use comity_fuzz::fake::Fake;
use comity_overlay::wire::{
    COMPARED_MAX, CONTACTS_MAX, ELEMENTS_MAX, ElementRange, FOUND_MATCHES_MAX, FOUND_NEAR_MAX,
    FOUND_VEILED_MAX, LEAF_CUSTODIANS_MAX, LEAVES_CUSTODIANS_MAX, LEAVES_MAX, MESSAGE_BYTES_MAX,
    PEER_RECORDS_MAX, QueryOutcome, RANGES_MAX, RECONCILED_ITEMS_MAX, RangeHeld, STORE_ENTRIES_MAX,
    STORE_ITEMS_MAX, STORE_LABELS_MAX, ZONE_BYTES_MAX, decode_request, decode_response,
    encode_request, encode_response, encoded_request_len, encoded_response_len,
};
use comity_overlay::{
    ADDRS_PER_CONTACT_MAX, Contact, ITEM_BYTES_MAX, ItemBytes, LABEL_BYTES_MAX, Request, Response,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let deterministic = check(data, MAX_DEPTH, Floats::Refused).is_ok();
    if let Ok(frame) = decode_request(data) {
        assert!(data.len() <= MESSAGE_BYTES_MAX && frame.addrs.len() <= ADDRS_PER_CONTACT_MAX);
        of_request(&frame.request);
        let bytes = encode_request(&frame);
        assert!(bytes.len() <= data.len());
        assert_eq!(decode_request(&bytes).as_ref().ok(), Some(&frame));
        if deterministic {
            assert_eq!(bytes, data);
        }
        if frame.addrs.iter().all(std::net::SocketAddr::is_ipv4) {
            assert_eq!(encoded_request_len(&frame.request, frame.addrs.len()), bytes.len());
        }
    }
    if let Ok(response) = decode_response(data, &mut Fake) {
        of_response(&response);
        let bytes = encode_response(&response);
        assert!(bytes.len() <= data.len() && encoded_response_len(&response) == bytes.len());
        assert_eq!(decode_response(&bytes, &mut Fake).as_ref().ok(), Some(&response));
        // Contacts with keys of no agent are left out, so only a message of the same length can be the same.
        if deterministic && bytes.len() == data.len() {
            assert_eq!(bytes, data);
        }
    }
});

fn of_request(request: &Request) {
    match request {
        Request::Store { items, labels, entries } => {
            of_items(items, STORE_ITEMS_MAX);
            assert!(labels.len() <= STORE_LABELS_MAX && entries.len() <= STORE_ENTRIES_MAX);
            for entry in entries {
                assert!(usize::from(entry.item) < items.len());
                assert!(entry.label.is_none_or(|label| usize::from(label) < labels.len()));
            }
        }
        Request::Query(query) => assert!(
            query.shard.is_canonical()
                && (1..=FOUND_MATCHES_MAX).contains(&usize::from(query.limit))
        ),
        Request::FindPeer { bits, .. } => assert!((16..=256).contains(bits)),
        Request::Report(report) => assert!(
            report.shard.is_canonical()
                && report.shard.depth > 0
                && report.zone.as_ref().is_none_or(|zone| zone.len() <= ZONE_BYTES_MAX)
        ),
        Request::Compare { sets } => assert!(sets.len() <= COMPARED_MAX),
        Request::Reconcile(asked) => {
            assert!(asked.shard.is_canonical() && asked.label.len() <= LABEL_BYTES_MAX);
            of_ranges(&asked.ranges);
        }
        Request::Ping | Request::FindNode { .. } | Request::Leaving => {}
    }
}

fn of_response(response: &Response) {
    match response {
        Response::Nodes { contacts } => of_contacts(contacts),
        Response::Stored { outcomes } => assert!(outcomes.len() <= STORE_ENTRIES_MAX),
        Response::Found { answer, closer } => {
            of_contacts(closer);
            if let QueryOutcome::Answered(answer) = answer {
                of_items(&answer.matches, FOUND_VEILED_MAX);
                of_items(&answer.near, FOUND_NEAR_MAX);
                of_items(&answer.beats, FOUND_MATCHES_MAX);
                assert!(answer.leaves.len() <= LEAVES_MAX);
                let named = answer.leaves.iter().map(|leaf| leaf.custodians.len());
                assert!(named.clone().all(|count| count <= LEAF_CUSTODIANS_MAX));
                assert!(named.sum::<usize>() <= LEAVES_CUSTODIANS_MAX);
            }
        }
        Response::Peer { records, closer } => {
            of_items(records, PEER_RECORDS_MAX);
            of_contacts(closer);
        }
        Response::Differ { at } => assert!(at.len() <= COMPARED_MAX),
        Response::Reconciled { ranges, items, wants } => {
            of_ranges(ranges);
            of_items(items, RECONCILED_ITEMS_MAX);
            assert!(wants.len() <= ELEMENTS_MAX);
        }
        Response::Pong | Response::Done | Response::Error(_) => {}
    }
}

fn of_ranges(ranges: &[ElementRange]) {
    let listed = |range: &ElementRange| match &range.held {
        RangeHeld::Sum(_) => 0,
        RangeHeld::List(list) => list.len(),
    };
    assert!(ranges.len() <= RANGES_MAX);
    assert!(ranges.iter().map(listed).sum::<usize>() <= ELEMENTS_MAX);
    assert!(ranges.iter().all(|range| range.first <= range.last));
}

fn of_items(items: &[ItemBytes], max: usize) {
    assert!(items.len() <= max && items.iter().all(|item| item.len() <= ITEM_BYTES_MAX));
}

fn of_contacts(contacts: &[Contact]) {
    assert!(
        contacts.len() <= CONTACTS_MAX
            && contacts.iter().all(|contact| contact.addrs.len() <= ADDRS_PER_CONTACT_MAX)
    );
}
