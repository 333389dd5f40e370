//! Everything of audit logs that strangers and files bring: one encoding of each, and nothing that a log did not sign verifies.
#![no_main]

use arbitrary::Arbitrary;
use comity_core::{Canonical, Hash, Sha256Digest, Time};
use comity_fuzz::{Edit, edited, identity};
use comity_trust::log::{
    Checkpoint, ConsistencyProof, CoseReceipt, Entry, EntryProof, Equivocation, Event,
    InclusionProof, MAX_COSIGNATURES, Note, NoteSignature, SignedCheckpoint, short_text, tile,
    tree, witness,
};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    /// Bytes from nowhere.
    Bytes(&'a [u8]),
    /// Proofs with any numbers.
    Numbers { index: u64, size: u64, path: Vec<[u8; 32]>, leaf: [u8; 32], root: [u8; 32] },
    /// Something genuine, changed on the way.
    Changed { what: What, size: u8, index: u8, edits: Vec<Edit> },
    /// What a witness is shown, in any order.
    Shown { held: u8, shown: u8, fork: bool, old: u8, new: u8 },
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum What {
    Checkpoint,
    EntryProof,
    Equivocation,
    CoseReceipt,
}

fuzz_target!(|input: Input| {
    match input {
        Input::Bytes(bytes) => read(bytes),
        Input::Numbers { index, size, path, leaf, root } => {
            let path: Vec<_> = path.into_iter().map(Sha256Digest).collect();
            let (leaf, root) = (Sha256Digest(leaf), Sha256Digest(root));
            let version = comity_core::canonical::Version;
            let inclusion = InclusionProof { version, index, size, path: path.clone() };
            let receipt = CoseReceipt { size, index, path: path.clone(), signature: [0; 64] };
            let held = inclusion.verify(&leaf, &root).is_ok();
            assert!(!held || (size == 1 && leaf == root), "a proof from nowhere holds");
            assert!(receipt.verify(&leaf, &identity(0).id()).is_err());
            let _judged = ConsistencyProof { version, old: index, new: size, path }.verify(&leaf, &root);
        }
        Input::Changed { what, size, index, edits } => changed(what, size, index, &edits),
        Input::Shown { held, shown, fork, old, new } => shown_to_a_witness(held, shown, fork, old, new),
    }
});

fn entry(number: u64) -> Vec<u8> {
    let event = Event::Lost { count: number, reason: short_text("fuzz") };
    Canonical::encode(&Entry::new(Time::from_secs(number), event))
}

fn log(size: u64, first: u64) -> Vec<Sha256Digest> {
    let mut nodes = Vec::new();
    for number in 0..size {
        let leaf = tree::leaf_hash(&entry(first + number));
        nodes.extend(tree::append(number, &leaf, &nodes).expect("in memory"));
    }
    nodes
}

fn signed(size: u64, nodes: &Vec<Sha256Digest>) -> SignedCheckpoint {
    let root = tree::root(size, nodes).expect("in memory");
    let checkpoint = Checkpoint { log: identity(0).id(), size, root };
    SignedCheckpoint::sign(checkpoint, identity(0)).expect("its own log")
}

fn canonical<T: Canonical>(bytes: &[u8]) {
    if let Ok(value) = T::decode(bytes) {
        assert_eq!(value.encode(), bytes);
    }
}

fn read(bytes: &[u8]) {
    canonical::<Entry>(bytes);
    canonical::<InclusionProof>(bytes);
    canonical::<ConsistencyProof>(bytes);
    canonical::<EntryProof>(bytes);
    canonical::<Equivocation>(bytes);
    if let Ok(note) = Note::parse(bytes) {
        assert_eq!(note.to_string().as_bytes(), bytes);
    }
    if let Ok(line) = NoteSignature::from_line(bytes) {
        assert_eq!(line.to_string().as_bytes(), bytes);
    }
    if let Ok(entries) = tile::decode_bundle(bytes) {
        assert!(entries.len() <= tile::TILE_LEN);
        let again = tile::encode_bundle(entries.into_iter().map(Option::unwrap_or_default));
        assert_eq!(again, bytes);
    }
    if let Ok(receipt) = CoseReceipt::decode(bytes) {
        assert_eq!(receipt.encode(), bytes);
    }
    assert!(SignedCheckpoint::open(bytes).is_err(), "nobody gave the key away");
    let text = String::from_utf8_lossy(bytes);
    assert!(short_text(&text).as_str().len() <= comity_core::receipt::MAX_SHORT_TEXT);
}

fn changed(what: What, size: u8, index: u8, edits: &[Edit]) {
    let size = u64::from(size % 40) + 2;
    let index = u64::from(index) % size;
    let (nodes, other) = (log(size, 0), log(size, 500));
    let (mut one, two) = (signed(size, &nodes), signed(size, &other));
    let line = one.cosign(identity(1), Time::from_secs(7));
    one.add(&identity(1).id(), line).expect("genuine");
    let inclusion = |nodes| InclusionProof::make(index, size, nodes).expect("in memory");
    let genuine = [(&nodes, &one, 0), (&other, &two, 500)].map(|(nodes, signed, first)| {
        let proof = EntryProof::of_bytes(entry(first + index), inclusion(nodes), signed);
        let root = signed.checkpoint().root;
        match what {
            What::Checkpoint => signed.note().to_string().into_bytes(),
            What::EntryProof => proof.encode(),
            What::Equivocation => {
                Canonical::encode(&Equivocation::between(&one, &two).expect("two roots"))
            }
            What::CoseReceipt => CoseReceipt::sign(identity(0), &inclusion(nodes), &root).encode(),
        }
    });
    let received = edited(&genuine[0], &genuine[1], edits);
    match what {
        What::Checkpoint => {
            // Cosignature lines may come and go; what the log signed may not.
            let Ok(opened) = SignedCheckpoint::open(&received) else { return };
            let known = [&one, &two].iter().any(|known| known.checkpoint() == opened.checkpoint());
            assert!(known, "forged: {opened:?}");
            assert!(opened.claimed_cosignatures() <= MAX_COSIGNATURES);
            let cosigned = !opened.cosigners().is_empty();
            assert!(!cosigned || opened.checkpoint() == one.checkpoint(), "a cosignature moved");
        }
        What::EntryProof => {
            let Some(verified) = EntryProof::decode(&received).ok().and_then(|it| it.verify().ok()) else {
                return;
            };
            let bytes = Canonical::encode(&verified.entry.expect("only ours are in these logs"));
            let first = if verified.checkpoint == *one.checkpoint() { 0 } else { 500 };
            assert_eq!(bytes, entry(first + verified.index), "forged");
        }
        What::Equivocation => {
            if Equivocation::open(&received).is_ok() {
                assert!(genuine.contains(&received), "forged");
            }
        }
        What::CoseReceipt => {
            let Ok(receipt) = CoseReceipt::decode(&received) else { return };
            for first in [0, 500] {
                let leaf = tree::leaf_hash(&entry(first + index));
                if receipt.verify(&leaf, &identity(0).id()).is_ok() {
                    assert!(genuine.contains(&received), "forged");
                }
            }
        }
    }
    let _named = Hash::of(&received);
}

fn shown_to_a_witness(held: u8, shown: u8, fork: bool, old: u8, new: u8) {
    let (honest, other) = (log(60, 0), log(60, 500));
    let of = |size: u8, nodes: &Vec<_>| signed(u64::from(size % 60), nodes);
    let (held, shown) = (of(held, &honest), of(shown, if fork { &other } else { &honest }));
    let (old, new) = (u64::from(old % 60), u64::from(new % 60));
    let proof = ConsistencyProof::make(old, new, &honest).ok();
    let judged = witness::observe(Some(&held), &shown, proof.as_ref());
    let empty = held.checkpoint().size == 0 || shown.checkpoint().size == 0;
    if fork && !empty {
        assert!(judged.is_err(), "a fork was accepted: {judged:?}");
    }
    if let Err(witness::Refusal::Equivocated(proof)) = judged {
        assert!(fork && proof.verify().is_ok());
    }
}
