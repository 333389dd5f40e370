//! Batched receipts: an independent implementation's vectors, every batch size, every bit.

use comity_core::canonical::Version;
use comity_core::envelope::{self, EnvelopeError};
use comity_core::receipt::{
    MAX_BATCH, MAX_PATH, MAX_RECEIPT_LEN, MAX_ROOT_LEN, MAX_SIGNED_RECEIPT_LEN, ROOT_CACHE_MAX,
    Receipt, ReceiptError, ReceiptRoot, RootCache, ShortText, ShortTextError, SignBatchError,
    SignedReceipt, sign_batch,
};
use comity_core::{Canonical, DecodeError, Hash, Identity, Kind, Sha256Digest, Time};
use proptest::prelude::*;

use crate::vectors;

fn callee() -> Identity {
    Identity::from_secret_bytes(&[1; 32])
}

fn receipt(number: u64) -> Receipt {
    Receipt {
        version: Version,
        session: Hash::of(b"session"),
        number,
        caller: Identity::from_secret_bytes(&[2; 32]).id(),
        callee: callee().id(),
        capability: Hash::of(b"capability"),
        request: Hash::of(&number.to_be_bytes()),
        response: Hash::of(b"response"),
        status: 0,
        started_ms: 1_790_000_000_000,
        finished_ms: 1_790_000_000_007,
        cost: 5,
        evidence: None,
        leaf: None,
        interface: Sha256Digest::of(b"interface"),
        valid_until_ms: 1_790_000_600_000,
        data_version: None,
        name: short("fx.daily"),
    }
}

fn short(text: &str) -> ShortText {
    ShortText::try_from(text).unwrap()
}

fn batch(size: usize) -> Vec<SignedReceipt> {
    let receipts = (0..size as u64).map(receipt).collect();
    sign_batch(&callee(), Time::from_millis(1_790_000_000_100), receipts).unwrap()
}

#[test]
fn batches_are_those_of_an_independent_implementation() {
    let vectors = vectors::receipts();
    let callee = Identity::from_secret_bytes(&vectors::bytes32(&vectors, "callee_secret"));
    let at = Time::from_millis(vectors["at_ms"].as_u64().unwrap());
    for batch in vectors::rows(&vectors, "batches") {
        let encoded: Vec<_> = batch["receipts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|hex| vectors::hex(hex.as_str().unwrap()))
            .collect();
        let receipts: Vec<_> =
            encoded.iter().map(|bytes| Receipt::decode(bytes).unwrap()).collect();
        for (receipt, bytes) in receipts.iter().zip(&encoded) {
            assert_eq!(&receipt.encode(), bytes);
        }
        let signed = sign_batch(&callee, at, receipts).unwrap();
        let expected = batch["signed"].as_array().unwrap();
        assert_eq!(signed.len(), expected.len());
        for (signed, expected) in signed.iter().zip(expected) {
            let expected = vectors::hex(expected.as_str().unwrap());
            assert_eq!(signed.encode(), expected);
            let read = SignedReceipt::decode(&expected).unwrap();
            assert_eq!(&read, signed);
            assert_eq!(read.verify().unwrap().signed_at, at);
        }
    }
}

#[test]
fn a_single_answer_is_a_batch_of_one_with_an_empty_path() {
    let [signed] = &batch(1)[..] else { panic!("one receipt") };
    assert_eq!((signed.index, signed.path.len()), (0, 0));
    let verified = signed.verify().unwrap();
    assert_eq!(verified.receipt, receipt(0));
    assert_eq!(verified.signed_at, Time::from_millis(1_790_000_000_100));
    assert_eq!(verified.root_hash, Hash::of(&signed.root));
}

#[test]
fn nothing_is_a_batch_of_nothing() {
    assert_eq!(sign_batch(&callee(), Time::ZERO, Vec::new()), Ok(Vec::new()));
}

/// Every size up to the largest. Receipts are signed once per size and each verified through a cache, so that one
/// signature check covers a batch.
#[test]
fn every_receipt_of_every_batch_size_verifies_and_no_other_index_does() {
    let mut cache = RootCache::new();
    for size in (1..=64).chain([100, 127, 128, 129, 255, 256, 257, 511, 513, 1000, 1023, 1024]) {
        let batch = batch(size);
        assert_eq!(batch.len(), size);
        for (index, signed) in batch.iter().enumerate() {
            assert!(signed.path.len() <= MAX_PATH);
            let verified = signed.verify_with(&mut cache).unwrap();
            assert_eq!(verified.receipt.number, index as u64, "size {size}");
        }
        for other in [0, 1, size / 2, size - 1, size] {
            let mut moved = batch[size / 3].clone();
            if other != size / 3 {
                moved.index = u32::try_from(other).unwrap();
                assert_eq!(
                    moved.verify_with(&mut cache),
                    Err(ReceiptError::Path),
                    "size {size}, index {other}"
                );
            }
        }
    }
}

#[test]
fn batches_too_large_or_of_others_are_not_signed() {
    let receipts = (0..=MAX_BATCH as u64).map(receipt).collect();
    let error = sign_batch(&callee(), Time::ZERO, receipts).unwrap_err();
    assert_eq!(error, SignBatchError::TooMany { count: MAX_BATCH + 1 });
    let other = Identity::from_secret_bytes(&[3; 32]);
    let error = sign_batch(&other, Time::ZERO, vec![receipt(0)]).unwrap_err();
    assert_eq!(error, SignBatchError::NotOurs { index: 0, callee: callee().id() });
}

#[test]
fn every_bit_flip_anywhere_is_refused() {
    for (size, index) in [(1, 0), (3, 1), (5, 4)] {
        let bytes = batch(size)[index].encode();
        assert!(SignedReceipt::decode(&bytes).unwrap().verify().is_ok());
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let accepted =
                SignedReceipt::decode(&flipped).is_ok_and(|signed| signed.verify().is_ok());
            assert!(!accepted, "bit {bit} of receipt {index} of {size}");
        }
    }
}

#[test]
fn paths_too_short_too_long_or_reordered_are_refused() {
    let batch = batch(6);
    for signed in &batch {
        let mut shorter = signed.clone();
        shorter.path.pop();
        assert_eq!(shorter.verify(), Err(ReceiptError::Path));
        let mut longer = signed.clone();
        longer.path.push(Hash::of(b"more"));
        assert_eq!(longer.verify(), Err(ReceiptError::Path));
        let mut reordered = signed.clone();
        reordered.path.reverse();
        assert_eq!(reordered.verify().is_ok(), reordered.path == signed.path);
    }
}

/// An inner node passed off as a leaf has the wrong hash context, and a leaf as a tree of one the wrong size.
#[test]
fn the_shape_of_the_tree_is_signed() {
    let batch = batch(2);
    let mut alone = batch[0].clone();
    alone.path.clear();
    assert_eq!(alone.verify(), Err(ReceiptError::Path));
    for size in [0, u32::try_from(MAX_BATCH).unwrap() + 1, u32::MAX] {
        let root = ReceiptRoot { version: Version, root: Hash::of(b"root"), size, at_ms: 0 };
        let mut lying = batch[0].clone();
        lying.root = envelope::seal(Kind::ReceiptRoot, &root, &callee());
        assert_eq!(lying.verify(), Err(ReceiptError::Size { size }));
    }
}

#[test]
fn a_root_signed_by_another_or_as_another_kind_is_refused() {
    let signed = &batch(1)[0];
    let opened: envelope::Opened<ReceiptRoot> =
        envelope::open(Kind::ReceiptRoot, &signed.root, MAX_ROOT_LEN).unwrap();
    let mallory = Identity::from_secret_bytes(&[9; 32]);
    let mut forged = signed.clone();
    forged.root = envelope::seal(Kind::ReceiptRoot, &opened.payload, &mallory);
    let error = ReceiptError::Signer { callee: callee().id(), signer: mallory.id() };
    assert_eq!(forged.verify(), Err(error.clone()));
    assert_eq!(forged.verify_with(&mut RootCache::new()), Err(error));
    forged.root = envelope::seal(Kind::Receipt, &opened.payload, &callee());
    assert!(matches!(forged.verify(), Err(ReceiptError::Root(EnvelopeError::Signature { .. }))));
}

#[test]
fn the_cache_is_bounded_and_holds_only_what_verified() {
    let mut cache = RootCache::new();
    let mut forged = batch(1)[0].clone();
    let end = forged.root.len();
    forged.root[end - 1] ^= 1;
    assert!(forged.verify_with(&mut cache).is_err());
    assert!(cache.is_empty(), "a refused root is remembered");
    for number in 0..ROOT_CACHE_MAX as u64 + 10 {
        let signed = sign_batch(&callee(), Time::from_millis(number), vec![receipt(0)]).unwrap();
        assert!(signed[0].verify_with(&mut cache).is_ok());
        assert!(signed[0].verify_with(&mut cache).is_ok());
    }
    assert_eq!(cache.len(), ROOT_CACHE_MAX);
    let dropped = &sign_batch(&callee(), Time::ZERO, vec![receipt(0)]).unwrap()[0];
    assert!(dropped.verify_with(&mut cache).is_ok(), "a dropped root verifies again");
    assert!(forged.verify_with(&mut cache).is_err(), "a full cache still refuses forgeries");
}

#[test]
fn the_largest_receipt_keeps_its_limits() {
    let largest = Receipt {
        number: u64::MAX,
        status: u64::MAX,
        started_ms: u64::MAX,
        finished_ms: u64::MAX,
        cost: u64::MAX,
        evidence: Some(Hash::of(b"evidence")),
        leaf: Some(u64::MAX),
        valid_until_ms: u64::MAX,
        data_version: Some(short(&"v".repeat(64))),
        name: short(&"n".repeat(64)),
        ..receipt(0)
    };
    assert_eq!(largest.encode().len(), 487);
    assert!(largest.encode().len() <= MAX_RECEIPT_LEN);
    let signed = sign_batch(&callee(), Time::MAX, vec![largest; MAX_BATCH]).unwrap();
    let last = signed.last().unwrap();
    assert!(last.root.len() <= MAX_ROOT_LEN && last.encode().len() <= MAX_SIGNED_RECEIPT_LEN);
    assert_eq!(SignedReceipt::decode(&last.encode()).as_ref(), Ok(last));
    assert!(last.verify().is_ok());
    let long = vec![0; MAX_SIGNED_RECEIPT_LEN + 1];
    let error =
        DecodeError::TooLong { length: MAX_SIGNED_RECEIPT_LEN + 1, max: MAX_SIGNED_RECEIPT_LEN };
    assert_eq!(SignedReceipt::decode(&long), Err(error));
}

#[test]
fn texts_that_could_deceive_a_reader_are_refused() {
    assert_eq!(ShortText::try_from("ok – ünïcode 漢字").unwrap().as_str(), "ok – ünïcode 漢字");
    assert_eq!(
        ShortText::try_from("x".repeat(65).as_str()),
        Err(ShortTextError::TooLong { length: 65 })
    );
    for bad in [
        "\u{1b}[2J",
        "a\nb",
        "a\u{202e}b",
        "\u{200f}",
        "\u{2066}",
        "\u{0}",
        "\u{7f}",
        "\u{2028}",
        "\u{61c}",
    ] {
        assert!(matches!(ShortText::try_from(bad), Err(ShortTextError::Control { .. })), "{bad:?}");
    }
    // The decoder applies the same rule: the name's first letter becomes an escape character.
    let mut bytes = receipt(0).encode();
    let at = bytes.len() - "fx.daily".len();
    bytes[at] = 0x1b;
    let error = Receipt::decode(&bytes).unwrap_err();
    assert!(matches!(&error, DecodeError::Type { reason } if reason.contains("U+001B")), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_receipt_round_trips_and_verifies(
        number: u64, status: u64, cost: u64, leaf: Option<u64>, evidence: Option<[u8; 32]>,
        name in "[a-z0-9._-]{0,64}", version in prop::option::of("[ -~]{0,64}"), size in 1usize..20, at: prop::sample::Index,
    ) {
        let ours = Receipt {
            number, status, cost, leaf,
            evidence: evidence.map(Hash),
            name: short(&name),
            data_version: version.as_deref().map(short),
            ..receipt(0)
        };
        let index = at.index(size);
        let mut receipts: Vec<_> = (0..size as u64).map(receipt).collect();
        receipts[index] = ours.clone();
        let signed = sign_batch(&callee(), Time::ZERO, receipts).unwrap().swap_remove(index);
        let read = SignedReceipt::decode(&signed.encode()).unwrap();
        prop_assert_eq!(read.verify().unwrap().receipt, ours);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(SignedReceipt::decode(&bytes).is_err());
        prop_assert!(Receipt::decode(&bytes).is_err());
    }
}
