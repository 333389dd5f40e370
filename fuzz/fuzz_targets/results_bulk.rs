//! Large answers: what a holder says of one, what it is asked for, and the items of a body that comes in pieces.
#![no_main]

use arbitrary::Arbitrary;
use comity_core::Hash;
use comity_fuzz::{Edit, edited, identity};
use comity_results::bulk::{Items, Offer, PIECE, PieceAsk};
use comity_results::key::IndexKey;
use comity_results::transfer::{Step, Transfer};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    /// An offer from nowhere.
    Offer(&'a [u8]),
    /// A question for a piece, changed on the way.
    Ask { piece: u32, edits: Vec<Edit>, noise: &'a [u8] },
    /// A body in parts.
    Items(Vec<&'a [u8]>),
    /// What holders do, in any order.
    Transfer { pieces: u8, events: Vec<(u8, u8, u8)> },
}

fuzz_target!(|input: Input| {
    match input {
        Input::Offer(bytes) => {
            if let Ok(offer) = Offer::decode(bytes) {
                assert_eq!(offer.encode(), bytes);
                let _ = offer.outline.root();
                assert!(offer.outline.len_of(offer.outline.last()) as u64 <= PIECE);
                assert!(!offer.outline.is_piece(offer.outline.pieces(), bytes));
                let _ = offer.outline.is_piece(0, bytes);
            }
        }
        Input::Ask { piece, edits, noise } => {
            let ask = PieceAsk { key: IndexKey(Hash([1; 32])), response: Hash([2; 32]), piece };
            let bytes = edited(&ask.encode(), noise, &edits);
            if let Ok(read) = PieceAsk::decode(&bytes) {
                assert_eq!(read.encode(), bytes);
            }
        }
        Input::Items(parts) => {
            let mut items = Items::new();
            let (mut given, mut taken) = (0, 0);
            for part in parts {
                given += part.len();
                items.push(part);
                while let Ok(Some(item)) = items.next_item() {
                    taken += item.len();
                }
            }
            assert!(taken <= given);
        }
        Input::Transfer { pieces, events } => transfer(u32::from(pieces).max(5), &events),
    }
});

fn transfer(pieces: u32, events: &[(u8, u8, u8)]) {
    let ids = [0, 1, 2].map(|number| identity(number).id());
    let mut now = comity_fuzz::NOW;
    let mut transfer = Transfer::new(pieces, &std::collections::BTreeSet::new(), ids[0]);
    let mut under_way = Vec::new();
    for (event, holder, piece) in events {
        let holder = ids[usize::from(*holder) % ids.len()];
        // What was asked for, or something else.
        let (holder, piece) = match under_way.pop() {
            Some(asked) if *event < 128 => asked,
            Some(_) | None => (holder, u32::from(*piece)),
        };
        match event % 6 {
            0 => drop(transfer.arrived(&holder, piece)),
            1 => transfer.wrong(&holder, piece),
            2 => drop(transfer.failed(&holder, piece, now)),
            3 => transfer.limited(&holder, piece, now),
            4 => transfer.lost(&holder),
            _ => drop(transfer.add(holder)),
        }
        now += std::time::Duration::from_millis(u64::from(*event));
        for steps in 0.. {
            assert!(steps < 1000, "no end of steps");
            match transfer.step(now) {
                Step::Ask { holder, piece } => {
                    assert!(piece < pieces);
                    under_way.push((holder, piece));
                }
                Step::Cancel { .. } => {}
                Step::Done => return assert_eq!(transfer.missing(), 0),
                Step::Wait { .. } | Step::Stuck => break,
            }
        }
    }
}
