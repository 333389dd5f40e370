//! Large answers: outlines, offers, pieces, items.

use comity_core::canonical::from_json;
use comity_core::receipt::{RootCache, sign_batch};
use comity_core::{Hash, Identity};
use comity_results::bulk::{
    BULK_BYTES_MAX, ItemError, Items, Large, Offer, Outline, PIECE, PieceAsk, WHOLE_MAX,
    accept_offer, piece_value,
};
use comity_results::key::{IndexKey, QuestionKey};
use comity_results::pointer::Pointer;
use comity_results::result::{Refusal, Rules, SharedResult};
use comity_results::retract::{Retract, Retractions, Target};
use comity_results::store::{Limits, Store, Unkept};
use proptest::prelude::*;
use serde_json::json;

use crate::common::{NOW, identity, request_hash, statement, terms};

/// Bytes that repeat nowhere.
pub(crate) fn bytes(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new().update(&size.to_be_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

pub(crate) fn outline(body: &[u8]) -> Outline {
    let pieces = (0..).zip(body.chunks(usize::try_from(PIECE).unwrap()));
    Outline::new(body.len() as u64, pieces.map(|(at, piece)| piece_value(at, piece)).collect())
        .unwrap()
}

fn offer(producer: &Identity, body: &[u8]) -> Offer {
    let receipt = statement(producer, &identity(9), &terms(), body, NOW);
    let receipt = sign_batch(producer, NOW, vec![receipt]).unwrap().remove(0);
    Offer { receipt, outline: outline(body) }
}

fn accepted(offer: Offer) -> Result<Large, Refusal> {
    let mut roots = RootCache::new();
    accept_offer(&terms(), &request_hash(), offer, &Rules::default(), &mut roots, NOW)
}

#[test]
fn an_outline_has_the_hash_of_the_body_and_knows_its_pieces() {
    let mib = usize::try_from(PIECE).unwrap();
    for size in [WHOLE_MAX + 1, 5 * mib, 5 * mib + 1, 7 * mib + 1023, 8 * mib, 9 * mib - 1] {
        let body = bytes(size);
        let outline = outline(&body);
        assert_eq!(outline.root(), Hash::of(&body), "{size}");
        for (at, piece) in (0..).zip(body.chunks(mib)) {
            assert!(outline.is_piece(at, piece));
            assert!(!outline.is_piece(at + 1, piece));
            assert!(!outline.is_piece(at, &piece[1..]));
            let mut altered = piece.to_vec();
            altered[piece.len() / 2] ^= 1;
            assert!(!outline.is_piece(at, &altered));
        }
        assert!(!outline.is_piece(outline.pieces(), &[]));
        assert!(!outline.is_piece(u32::MAX, &[]));
    }
}

#[test]
fn whatever_fits_no_large_body_is_no_outline() {
    let values = |count| vec![[7; 32]; count];
    assert!(Outline::new(WHOLE_MAX as u64, values(4)).is_none());
    assert!(Outline::new(5 * PIECE, values(4)).is_none());
    assert!(Outline::new(5 * PIECE, values(6)).is_none());
    assert!(Outline::new(BULK_BYTES_MAX + 1, values(1025)).is_none());
    assert!(Outline::new(u64::MAX, values(1)).is_none());
    assert!(Outline::new(BULK_BYTES_MAX, values(1024)).is_some());
}

/// The inner nodes of a tree of eight pieces, given out as the pieces of a smaller one, merge to the same hash.
#[test]
fn a_false_length_that_merges_to_the_right_hash_has_no_last_piece() {
    let mib = usize::try_from(PIECE).unwrap();
    let body = bytes(16 * mib);
    let pairs = body.chunks(2 * mib).zip(0_u64..).map(|(pair, at)| {
        use blake3::hazmat::HasherExt as _;
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset(at * 2 * PIECE).update(pair);
        hasher.finalize_non_root()
    });
    let false_one = Outline::new(8 * PIECE, pairs.collect()).unwrap();
    assert_eq!(false_one.root(), Hash::of(&body));
    for chunk in body.chunks(mib) {
        assert!(!false_one.is_piece(false_one.last(), chunk));
    }
}

#[test]
fn offers_are_accepted_for_the_question_they_answer_alone() {
    let body = bytes(WHOLE_MAX + 5);
    let good = offer(&identity(1), &body);
    let read = Offer::decode(&good.encode()).unwrap();
    assert_eq!(read, good);
    let large = accepted(read).unwrap();
    assert_eq!((large.producer(), large.response()), (identity(1).id(), Hash::of(&body)));
    assert_eq!(large.offer(), good);
    assert!(SharedResult::decode(&good.encode()).is_err());

    let other = bytes(WHOLE_MAX + 6);
    let swapped = Offer { outline: outline(&other), ..good.clone() };
    assert_eq!(accepted(swapped), Err(Refusal::Body));
    let mut edited = good.clone();
    edited.receipt.receipt.valid_until_ms += 1;
    assert!(matches!(accepted(edited), Err(Refusal::Receipt(_))));
    let mut roots = RootCache::new();
    let elsewhere = Hash::of(b"another request");
    let refused =
        accept_offer(&terms(), &elsewhere, good.clone(), &Rules::default(), &mut roots, NOW);
    assert_eq!(refused, Err(Refusal::Request));
    let mut retracted = Retractions::new();
    let target = Target::Response(Hash::of(&body));
    retracted.insert(&Retract::new(target, NOW).seal(&identity(1)), NOW).unwrap();
    let rules = Rules { retracted: Some(&retracted), ..Rules::default() };
    let refused = accept_offer(&terms(), &request_hash(), good, &rules, &mut roots, NOW);
    assert_eq!(refused, Err(Refusal::Retracted));
}

#[test]
fn a_store_on_disk_counts_the_bodies_and_tells_what_is_gone() {
    let limits = Limits { bytes_max: 32 << 20 };
    let mut store = Store::on_disk(limits, 1);
    let (none, took) = (Retractions::new(), std::time::Duration::from_secs(1));
    let large = accepted(offer(&identity(1), &bytes(6 << 20))).unwrap();
    let too_large = accepted(offer(&identity(1), &bytes(17 << 20))).unwrap();
    assert_eq!(store.admit(too_large, took, &none, NOW), Err(Unkept::TooLarge));
    for number in 0_u8..20 {
        let question = QuestionKey(Hash([number; 32]));
        let mut large = large.clone();
        large.question = question;
        store.admit(large, took, &none, NOW).unwrap();
        assert!(store.bytes() <= 32 << 20);
    }
    let gone = store.take_gone();
    assert_eq!(gone.len() + store.len(), 20);
    assert!(store.take_gone().is_empty());
    let kept: Vec<QuestionKey> = store.iter().map(|entry| entry.accepted.question).collect();
    assert!(gone.iter().all(|gone| !kept.contains(&gone.question)));
    let pointer = Pointer::new(IndexKey(Hash([1; 32])), &large, NOW).unwrap();
    assert_eq!((pointer.bytes, pointer.response), (6 << 20, large.response()));
    assert_eq!(store.drop_producer(&identity(1).id()), kept.len());
    assert_eq!(store.take_gone().len(), kept.len());
}

#[test]
fn items_are_cut_wherever_the_bytes_are() {
    let items: Vec<Vec<u8>> = (0..50)
        .map(|number| from_json(&json!({ "n": number, "t": "x".repeat(number * 40) })).unwrap())
        .collect();
    let body = items.concat();
    for step in [1, 7, 1000, body.len()] {
        let mut cut = Items::new();
        let mut found = Vec::new();
        for part in body.chunks(step) {
            cut.push(part);
            while let Some(item) = cut.next_item().unwrap() {
                found.push(item.to_vec());
            }
        }
        cut.finish().unwrap();
        assert_eq!(found, items, "{step}");
    }
    let mut cut = Items::new();
    cut.push(&body[..body.len() - 1]);
    while cut.next_item().unwrap().is_some() {}
    assert_eq!(cut.finish(), Err(ItemError::Cut));
    let mut cut = Items::new();
    cut.push(&[0x18, 0x01]);
    assert!(matches!(cut.next_item(), Err(ItemError::Form(_))), "1 is spelled the short way");
}

proptest! {
    #[test]
    fn what_decodes_encodes_to_the_same_bytes(
        noise in proptest::collection::vec(any::<u8>(), 0..100),
        at in any::<proptest::sample::Index>(),
        bit in 0_u8..8,
    ) {
        let ask = PieceAsk { key: IndexKey(Hash([1; 32])), response: Hash([2; 32]), piece: 70_000 };
        prop_assert_eq!(PieceAsk::decode(&ask.encode()).unwrap(), ask);
        let genuine = small_offer().encode();
        for good in [ask.encode(), genuine, noise] {
            let mut edited = good.clone();
            if !edited.is_empty() {
                edited[at.index(good.len())] ^= 1 << bit;
            }
            for bytes in [&good, &edited] {
                if let Ok(ask) = PieceAsk::decode(bytes) {
                    prop_assert_eq!(&ask.encode(), bytes);
                }
                if let Ok(offer) = Offer::decode(bytes) {
                    prop_assert_eq!(&offer.encode(), bytes);
                }
            }
            // Whatever is not the genuine offer is refused.
            if let Ok(offer) = Offer::decode(&edited) {
                prop_assert!(accepted(offer).is_err());
            }
        }
    }

    #[test]
    fn items_never_panic(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..8)) {
        let mut cut = Items::new();
        for part in parts {
            cut.push(&part);
            while let Ok(Some(item)) = cut.next_item() {
                prop_assert!(!item.is_empty());
            }
        }
    }
}

/// One whose outline is made up, and whose receipt is genuine.
fn small_offer() -> Offer {
    let outline = Outline::new(5 * PIECE, (0..5).map(|number| [number; 32]).collect()).unwrap();
    let mut receipt = statement(&identity(1), &identity(9), &terms(), b"", NOW);
    receipt.response = outline.root();
    let receipt = sign_batch(&identity(1), NOW, vec![receipt]).unwrap().remove(0);
    Offer { receipt, outline }
}
