//! The log's tree, notes, checkpoints and proofs at their public interface.

use comity_core::{Canonical, Identity, Sha256Digest, Time};
use comity_trust::log::tree::{self, Accumulator, ConsistencyProof, InclusionProof, TreeError};
use comity_trust::log::{
    Checkpoint, CheckpointError, CoseError, CoseReceipt, Entry, EntryProof, Event,
    MAX_COSIGNATURES, MAX_ENTRY_LEN, Note, NoteError, NoteSignature, SignedCheckpoint, short_text,
    tile, witness,
};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

pub(crate) fn identity(seed: u8) -> Identity {
    Identity::from_secret_bytes(&[seed; 32])
}

/// A log in memory.
#[derive(Clone, Default)]
pub(crate) struct Log {
    pub(crate) entries: Vec<Vec<u8>>,
    pub(crate) nodes: Vec<Sha256Digest>,
}

impl Log {
    pub(crate) fn of(entries: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let mut log = Self::default();
        entries.into_iter().for_each(|entry| log.push(entry));
        log
    }

    /// `count` entries that say their number.
    pub(crate) fn numbered(count: u64) -> Self {
        Self::of((0..count).map(entry))
    }

    pub(crate) fn push(&mut self, entry: Vec<u8>) {
        let hashes = tree::append(self.size(), &tree::leaf_hash(&entry), &self.nodes)
            .expect("a log in memory");
        self.nodes.extend(hashes);
        self.entries.push(entry);
    }

    pub(crate) fn size(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(crate) fn root(&self, size: u64) -> Sha256Digest {
        tree::root(size, &self.nodes).expect("a log in memory")
    }

    pub(crate) fn checkpoint(&self, size: u64, identity: &Identity) -> SignedCheckpoint {
        let checkpoint = Checkpoint { log: identity.id(), size, root: self.root(size) };
        SignedCheckpoint::sign(checkpoint, identity).expect("its own log")
    }

    pub(crate) fn inclusion(&self, index: u64, size: u64) -> InclusionProof {
        InclusionProof::make(index, size, &self.nodes).expect("an entry of the log")
    }

    pub(crate) fn consistency(&self, old: u64, new: u64) -> ConsistencyProof {
        ConsistencyProof::make(old, new, &self.nodes).expect("sizes of the log")
    }
}

pub(crate) fn entry(number: u64) -> Vec<u8> {
    let event = Event::Lost { count: number, reason: short_text("test") };
    Canonical::encode(&Entry::new(Time::from_secs(1_000 + number), event))
}

/// RFC 9162 section 2.1 word for word: slow, recursive, and nothing of it shared with the code under test.
mod naive {
    use super::*;

    fn split(n: usize) -> usize {
        n.next_power_of_two() / 2
    }

    pub(super) fn root(entries: &[Vec<u8>]) -> [u8; 32] {
        match entries {
            [] => Sha256::digest([]).into(),
            [one] => Sha256::new().chain_update([0]).chain_update(one).finalize().into(),
            many => {
                let k = split(many.len());
                let (left, right) = (root(&many[..k]), root(&many[k..]));
                Sha256::new()
                    .chain_update([1])
                    .chain_update(left)
                    .chain_update(right)
                    .finalize()
                    .into()
            }
        }
    }

    pub(super) fn path(m: usize, entries: &[Vec<u8>]) -> Vec<[u8; 32]> {
        if entries.len() == 1 {
            return Vec::new();
        }
        let k = split(entries.len());
        let (mut found, other) = if m < k {
            (path(m, &entries[..k]), root(&entries[k..]))
        } else {
            (path(m - k, &entries[k..]), root(&entries[..k]))
        };
        found.push(other);
        found
    }

    pub(super) fn proof(m: usize, entries: &[Vec<u8>]) -> Vec<[u8; 32]> {
        sub_proof(m, entries, true)
    }

    fn sub_proof(m: usize, entries: &[Vec<u8>], whole: bool) -> Vec<[u8; 32]> {
        if m == entries.len() {
            return if whole { Vec::new() } else { vec![root(entries)] };
        }
        let k = split(entries.len());
        let (mut found, other) = if m <= k {
            (sub_proof(m, &entries[..k], whole), root(&entries[k..]))
        } else {
            (sub_proof(m - k, &entries[k..], false), root(&entries[..k]))
        };
        found.push(other);
        found
    }
}

fn raw(path: &[Sha256Digest]) -> Vec<[u8; 32]> {
    path.iter().map(|hash| hash.0).collect()
}

#[test]
fn roots_and_all_proofs_of_all_small_trees_are_those_of_the_rfc() {
    let log = Log::numbered(70);
    let mut growing = Accumulator::new();
    for size in 0..=70_u64 {
        let entries = &log.entries[..usize::try_from(size).unwrap()];
        let root = log.root(size);
        assert_eq!(root.0, naive::root(entries), "root of {size}");
        assert_eq!(growing.root(), root, "accumulated root of {size}");
        for index in 0..size {
            let proof = log.inclusion(index, size);
            let at = usize::try_from(index).unwrap();
            assert_eq!(raw(&proof.path), naive::path(at, entries), "{index} of {size}");
            let leaf = tree::leaf_hash(&entries[at]);
            assert_eq!(proof.verify(&leaf, &root), Ok(()));
            let wrong = InclusionProof { index: index + 1, ..proof.clone() };
            assert!(wrong.verify(&leaf, &root).is_err(), "{index} of {size} at the next place");
        }
        for old in 1..=size {
            let proof = log.consistency(old, size);
            let at = usize::try_from(old).unwrap();
            assert_eq!(raw(&proof.path), naive::proof(at, entries), "{old} in {size}");
            assert_eq!(proof.verify(&log.root(old), &root), Ok(()));
        }
        let nothing = log.consistency(0, size);
        assert_eq!(nothing.verify(&tree::EMPTY_ROOT, &root), Ok(()));
        if let Some(entry) = log.entries.get(usize::try_from(size).unwrap()) {
            growing.push(&tree::leaf_hash(entry));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_proof_changed_in_any_bit_holds_no_more(
        size in 1_u64..600,
        seed in any::<u64>(),
        bit in 0_usize..256,
    ) {
        let log = Log::numbered(size);
        let (index, old) = (seed % size, seed / 7 % size + 1);
        let root = log.root(size);
        let leaf = tree::leaf_hash(&log.entries[usize::try_from(index).unwrap()]);
        let proof = log.inclusion(index, size);
        prop_assert_eq!(proof.verify(&leaf, &root), Ok(()));
        let flip = |hash: &Sha256Digest| {
            let mut changed = *hash;
            changed.0[bit / 8] ^= 1 << (bit % 8);
            changed
        };
        for at in 0..proof.path.len() {
            let mut changed = proof.clone();
            changed.path[at] = flip(&changed.path[at]);
            prop_assert_eq!(changed.verify(&leaf, &root), Err(TreeError::Broken));
        }
        prop_assert_eq!(proof.verify(&flip(&leaf), &root), Err(TreeError::Broken));
        prop_assert_eq!(proof.verify(&leaf, &flip(&root)), Err(TreeError::Broken));
        let proof = log.consistency(old, size);
        let old_root = log.root(old);
        prop_assert_eq!(proof.verify(&old_root, &root), Ok(()));
        for at in 0..proof.path.len() {
            let mut changed = proof.clone();
            changed.path[at] = flip(&changed.path[at]);
            prop_assert_eq!(changed.verify(&old_root, &root), Err(TreeError::Broken));
        }
        prop_assert_eq!(proof.verify(&flip(&old_root), &root), Err(TreeError::Broken));
    }

    #[test]
    fn a_range_and_what_covers_the_rest_give_the_root(
        size in 1_u64..500,
        a in any::<u64>(),
        b in any::<u64>(),
    ) {
        let log = Log::numbered(size);
        let (from, to) = ((a % size).min(b % size), (a % size).max(b % size) + 1);
        let hash = |(level, n): (u8, u64)| log.nodes[usize::try_from(tree::place(level, n)).unwrap()];
        let mut sum = Accumulator::new();
        let (left, right) = (tree::cover(0, from), tree::cover(to, size));
        prop_assert!(left.len() + right.len() <= 96);
        for part in left {
            prop_assert!(sum.push_subtree(part.0, &hash(part)));
        }
        for index in from..to {
            sum.push(&tree::leaf_hash(&log.entries[usize::try_from(index).unwrap()]));
        }
        for part in right {
            prop_assert!(sum.push_subtree(part.0, &hash(part)));
        }
        prop_assert_eq!((sum.size(), sum.root()), (size, log.root(size)));
    }

    #[test]
    fn hostile_sizes_paths_and_roots_are_refused_without_panic(
        index in any::<u64>(),
        size in any::<u64>(),
        path in prop::collection::vec(any::<[u8; 32]>(), 0..80),
        root in any::<[u8; 32]>(),
    ) {
        let path: Vec<_> = path.into_iter().map(Sha256Digest).collect();
        let (root, version) = (Sha256Digest(root), comity_core::canonical::Version);
        let inclusion = InclusionProof { version, index, size, path: path.clone() };
        prop_assert!(inclusion.verify(&root, &root).is_err() || (size == 1 && path.is_empty()));
        let consistency = ConsistencyProof { version, old: index, new: size, path };
        let same = index == size && consistency.path.is_empty();
        prop_assert!(consistency.verify(&root, &root).is_err() || same);
    }

    #[test]
    fn any_bytes_read_as_note_bundle_or_proof_read_back_the_same(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        if let Ok(note) = Note::parse(&bytes) {
            prop_assert_eq!(note.to_string().into_bytes(), bytes.clone());
        }
        if let Ok(entries) = tile::decode_bundle(&bytes) {
            let again = tile::encode_bundle(entries.into_iter().map(Option::unwrap_or_default));
            prop_assert_eq!(again, bytes.clone());
        }
        if let Ok(receipt) = CoseReceipt::decode(&bytes) {
            prop_assert_eq!(receipt.encode(), bytes);
        }
    }
}

#[test]
fn a_tree_that_stops_somewhere_else_is_not_accumulated() {
    let mut sum = Accumulator::new();
    let hash = tree::EMPTY_ROOT;
    sum.push(&hash);
    assert!(!sum.push_subtree(1, &hash), "a pair does not stand at position 1");
    assert!(!sum.push_subtree(64, &hash), "no such height");
    assert_eq!(sum.size(), 1);
}

#[test]
fn tiles_hold_the_tree_and_paths_are_those_of_the_specification() {
    assert_eq!(tile::tile_path(0, 7), "tile/0/007");
    assert_eq!(tile::tile_path(1, 1_234_067), "tile/1/x001/x234/067");
    assert_eq!(tile::bundle_path(1_000), "tile/entries/x001/000");
    let log = Log::numbered(70_000);
    assert_eq!(tile::completed_tiles(255), []);
    assert_eq!(tile::completed_tiles(512), [(0, 1)]);
    assert_eq!(tile::completed_tiles(65_536), [(0, 255), (1, 0)]);
    let read = |level, n| {
        let hashes = tree::Nodes::read(&log.nodes, &tile::tile_places(level, n)).unwrap();
        let bytes = tile::encode_tile(&hashes);
        assert_eq!(bytes.len(), 8_192);
        tile::decode_tile(&bytes).unwrap()
    };
    assert_eq!(read(0, 3)[5], tree::leaf_hash(&log.entries[773]));
    assert_eq!(tile::tile_root(&read(0, 3)).unwrap(), read(1, 0)[3]);
    assert_eq!(tile::tile_root(&read(1, 0)).unwrap(), log.root(65_536));
    assert_eq!(tile::decode_tile(&[0; 8_191]), None);
}

#[test]
fn a_bundle_keeps_entries_and_the_places_of_pruned_ones() {
    let bytes = tile::encode_bundle([&b"one"[..], b"", b"three"]);
    assert_eq!(bytes, b"\0\x03one\0\0\0\x05three");
    let read = tile::decode_bundle(&bytes).unwrap();
    assert_eq!(read, [Some(&b"one"[..]), None, Some(b"three")]);
    assert!(tile::decode_bundle(&bytes[..bytes.len() - 1]).is_err());
    assert!(tile::decode_bundle(&[0; 2 * 257]).is_err(), "257 entries");
}

#[test]
fn every_kind_of_entry_is_read_back_and_fits() {
    let (hash, key) = (comity_core::Hash([7; 32]), identity(1).id().into());
    let text = || short_text(&"é".repeat(99));
    let session = hash;
    let signed = vec![0xff; comity_core::receipt::MAX_SIGNED_RECEIPT_LEN];
    let events = [
        Event::Started { program: text() },
        Event::Stopped {},
        Event::SessionOpened { session, peer: key, incoming: true },
        Event::SessionClosed { session, peer: key },
        Event::CallServed {
            receipt: hash,
            caller: key,
            capability: text(),
            session,
            number: u64::MAX,
        },
        Event::CallMade { receipt: hash, callee: key, capability: text(), signed },
        Event::CallFailed { callee: key, capability: text(), reason: text() },
        Event::Denied { caller: key, capability: text(), reason: text(), count: u64::MAX },
        Event::Allowed { caller: key, capability: text(), rule: text(), session },
        Event::GrantIssued { grant: hash, holder: key, not_after_ms: u64::MAX },
        Event::GrantUsed { grant: hash, holder: key, session },
        Event::TrustOpened { peer: key, how: text() },
        Event::TrustClosed { peer: key, how: text() },
        Event::RecordPublished { record: hash, sequence: u64::MAX },
        Event::PolicyChanged { policy: hash },
        Event::Revoked { revocation: hash, issuer: key },
        Event::Evidence { evidence: hash, subject: key, session },
        Event::Signed { statement: hash, kind: text(), subject: key },
        Event::Equivocation { log: key, proof: hash },
        Event::Lost { count: 3, reason: text() },
        Event::Pruned { before: u64::MAX },
    ];
    let mut names = std::collections::BTreeSet::new();
    for event in events {
        let entry = Entry::new(Time::from_millis(u64::MAX / 1_000), event);
        let bytes = Canonical::encode(&entry);
        assert!(bytes.len() <= MAX_ENTRY_LEN, "{} bytes of {}", bytes.len(), entry.event.name());
        assert_eq!(Entry::decode(&bytes).unwrap(), entry);
        assert!(names.insert(entry.event.name()));
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(Entry::decode(&longer).is_err());
    }
}

#[test]
fn texts_of_strangers_are_cut_and_cleaned() {
    assert_eq!(short_text("plain").as_str(), "plain");
    assert_eq!(short_text("a\u{202e}b\nc\u{7}").as_str(), "a\u{fffd}b\u{fffd}c\u{fffd}");
    assert_eq!(short_text(&"é".repeat(40)).as_str().len(), 64);
    assert_eq!(short_text(&"x".repeat(65)).as_str().len(), 64);
}

#[test]
fn a_checkpoint_is_the_note_that_the_specification_describes() {
    let (agent, log) = (identity(1), Log::numbered(3));
    let signed = log.checkpoint(3, &agent);
    let note = signed.note().to_string();
    let lines: Vec<&str> = note.lines().collect();
    assert_eq!(lines[0], format!("comity/log/{}", agent.id()));
    assert_eq!(lines[1], "3");
    assert_eq!(lines[2], data_encoding::BASE64.encode(&log.root(3).0));
    assert_eq!(lines[3], "");
    // — name base64(key id ‖ signature), all of it computed here once more.
    let (name, signature) = lines[4].strip_prefix("— ").unwrap().split_once(' ').unwrap();
    assert_eq!(name, lines[0]);
    let bytes = data_encoding::BASE64.decode(signature.as_bytes()).unwrap();
    let id = Sha256::new()
        .chain_update(name)
        .chain_update(b"\n\x01")
        .chain_update(agent.id().as_bytes())
        .finalize();
    assert_eq!(bytes[..4], id[..4]);
    let text = format!("{}\n{}\n{}\n", lines[0], lines[1], lines[2]);
    assert_eq!(agent.id().verify(text.as_bytes(), &bytes[4..].try_into().unwrap()), Ok(()));
    assert_eq!(SignedCheckpoint::open(note.as_bytes()).unwrap(), signed);
    assert_eq!(lines.len(), 5);
}

#[test]
fn a_checkpoint_is_signed_by_its_own_log_alone() {
    let (agent, other, log) = (identity(1), identity(2), Log::numbered(3));
    let checkpoint = Checkpoint { log: agent.id(), size: 3, root: log.root(3) };
    let refused = SignedCheckpoint::sign(checkpoint, &other).unwrap_err();
    assert_eq!(refused, CheckpointError::NotOurs { log: agent.id() });
    let note = log.checkpoint(3, &agent).note().to_string();
    // The signature of another over the very text, under the log's name.
    let text = checkpoint.text();
    let forged = NoteSignature {
        bytes: other.sign(text.as_bytes()).to_vec(),
        ..Note::parse(note.as_bytes()).unwrap().signatures.remove(0)
    };
    let forged = Note { text, signatures: vec![forged] }.to_string();
    assert_eq!(SignedCheckpoint::open(forged.as_bytes()), Err(CheckpointError::Signature));
    let of_other = SignedCheckpoint::open_of(note.as_bytes(), &other.id());
    assert!(matches!(of_other, Err(CheckpointError::OtherLog { .. })));
}

#[test]
fn notes_with_a_second_spelling_or_too_much_are_refused() {
    let note = Log::numbered(3).checkpoint(3, &identity(1)).note().to_string();
    let refused = |changed: String| SignedCheckpoint::open(changed.as_bytes()).unwrap_err();
    for (from, to) in [
        ("\n3\n", "\n03\n"),
        ("\n3\n", "\n+3\n"),
        ("\n\n", "\nextension\n\n"),
        ("comity/log/", "comity/log/ "),
    ] {
        refused(note.replacen(from, to, 1));
    }
    for changed in [
        note.trim_end().to_owned(),
        note.replace('\n', "\r\n"),
        format!("{note}\n"),
        "x".repeat(9_000),
    ] {
        assert!(matches!(refused(changed), CheckpointError::Note(_)));
    }
    let line = note.lines().last().unwrap();
    let crowded = format!("{note}{}", format!("{line}\n").repeat(24));
    assert_eq!(refused(crowded), CheckpointError::Note(NoteError::TooMany));
}

#[test]
fn witnesses_cosign_as_the_specification_describes() {
    let (agent, witness, log) = (identity(1), identity(2), Log::numbered(3));
    let mut signed = log.checkpoint(3, &agent);
    let line = signed.cosign(&witness, Time::from_millis(1_700_000_000_999));
    let text = format!("cosignature/v1\ntime 1700000000\n{}", signed.checkpoint().text());
    let (time, signature) = line.bytes.split_first_chunk::<8>().unwrap();
    assert_eq!(u64::from_be_bytes(*time), 1_700_000_000);
    assert_eq!(witness.id().verify(text.as_bytes(), &signature.try_into().unwrap()), Ok(()));
    let sent = line.to_string();
    let received = NoteSignature::from_line(sent.as_bytes()).unwrap();
    let added = signed.add(&witness.id(), received.clone()).unwrap();
    assert_eq!(added.at, Time::from_secs(1_700_000_000));

    let note = signed.note().to_string();
    let opened = SignedCheckpoint::open(note.as_bytes()).unwrap();
    assert_eq!(opened.cosigners(), [added]);
    assert_eq!(opened.cosigned_by(&[identity(3).id(), witness.id()]), [added]);
    // Not of another checkpoint, and not in the name of another.
    let mut later = Log::numbered(4).checkpoint(4, &agent);
    assert!(later.add(&witness.id(), received.clone()).is_err());
    assert!(signed.add(&identity(3).id(), received).is_err());
}

#[test]
fn cosignatures_are_bounded_and_replace_their_elders() {
    let mut signed = Log::numbered(3).checkpoint(3, &identity(1));
    for seed in 10..30 {
        let witness = identity(seed);
        let line = signed.cosign(&witness, Time::from_secs(5));
        let added = signed.add(&witness.id(), line);
        let full = usize::from(seed - 10) >= MAX_COSIGNATURES;
        assert_eq!(added.is_err(), full, "witness {seed}");
    }
    let witness = identity(10);
    let newer = signed.cosign(&witness, Time::from_secs(9));
    signed.add(&witness.id(), newer).unwrap();
    assert_eq!(signed.claimed_cosignatures(), MAX_COSIGNATURES);
    let at = signed.cosigned_by(&[witness.id()])[0].at;
    assert_eq!(at, Time::from_secs(9));
    assert!(signed.note().to_string().len() < comity_trust::log::MAX_NOTE_LEN);
}

#[test]
fn a_cose_receipt_holds_for_its_entry_and_log() {
    let (agent, log) = (identity(1), Log::numbered(300));
    for index in [0, 1, 255, 256, 298, 299] {
        let leaf = tree::leaf_hash(&log.entries[usize::try_from(index).unwrap()]);
        let receipt = CoseReceipt::sign(&agent, &log.inclusion(index, 300), &log.root(300));
        let bytes = receipt.encode();
        let read = CoseReceipt::decode(&bytes).unwrap();
        assert_eq!(read.verify(&leaf, &agent.id()), Ok(log.root(300)));
        assert_eq!(read.verify(&leaf, &identity(2).id()), Err(CoseError::Signature));
        assert_eq!(read.verify(&log.root(2), &agent.id()), Err(CoseError::Signature));
        let elsewhere = CoseReceipt { index: index ^ 1, ..read };
        assert_eq!(elsewhere.verify(&leaf, &agent.id()), Err(CoseError::Signature));
        // Tagged array of four; protected header {1: -19, 395: 1, "size": 300}; unprotected {396: …}.
        let head = b"\xd2\x84\x4f\xa3\x01\x32\x19\x01\x8b\x01\x64size\x19\x01\x2c\xa1\x19\x01\x8c";
        assert_eq!(bytes[..head.len()], head[..]);
    }
}

#[test]
fn a_proof_of_an_entry_travels_with_its_witnesses() {
    let (agent, witness, log) = (identity(1), identity(2), Log::numbered(300));
    let mut signed = log.checkpoint(300, &agent);
    let line = signed.cosign(&witness, Time::from_secs(5));
    signed.add(&witness.id(), line).unwrap();
    let proof = EntryProof::of_bytes(log.entries[77].clone(), log.inclusion(77, 300), &signed);
    let verified = EntryProof::decode(&proof.encode()).unwrap().verify().unwrap();
    assert_eq!((verified.log, verified.index), (agent.id(), 77));
    assert_eq!(verified.entry.unwrap(), Entry::decode(&log.entries[77]).unwrap());
    assert_eq!(verified.cosigners.len(), 1);
    let other = EntryProof { entry: entry(78), ..proof.clone() };
    assert!(other.verify().is_err());
    let elsewhere = EntryProof { inclusion: log.inclusion(77, 299), ..proof };
    assert!(elsewhere.verify().is_err());
}

#[test]
fn no_single_bit_of_anything_signed_can_change() {
    let (agent, witness, log) = (identity(1), identity(2), Log::numbered(300));
    let mut signed = log.checkpoint(300, &agent);
    let line = signed.cosign(&witness, Time::from_secs(5));
    signed.add(&witness.id(), line).unwrap();
    let leaf = tree::leaf_hash(&log.entries[77]);
    let bare = signed.bare().note().to_string().into_bytes();
    let cosigned = signed.note().to_string().into_bytes();
    let proof =
        EntryProof::of_bytes(log.entries[77].clone(), log.inclusion(77, 300), &signed.bare());
    let receipt = CoseReceipt::sign(&agent, &log.inclusion(77, 300), &log.root(300)).encode();
    let accepted = |bytes: &[u8], holds: &dyn Fn(&[u8]) -> bool| {
        assert!(holds(bytes));
        let mut changed = bytes.to_vec();
        let mut accepted = Vec::new();
        for bit in 0..bytes.len() * 8 {
            changed[bit / 8] ^= 1 << (bit % 8);
            if holds(&changed) {
                accepted.push(bit);
            }
            changed[bit / 8] ^= 1 << (bit % 8);
        }
        accepted
    };
    let none: Vec<usize> = Vec::new();
    let holds = |bytes: &[u8]| SignedCheckpoint::open(bytes).is_ok();
    assert_eq!(accepted(&bare, &holds), none, "checkpoint, {} flips", bare.len() * 8);
    let holds = |bytes: &[u8]| {
        SignedCheckpoint::open(bytes).is_ok_and(|it| it.cosigned_by(&[witness.id()]).len() == 1)
    };
    assert_eq!(accepted(&cosigned, &holds), none, "cosignature, {} flips", cosigned.len() * 8);
    let holds = |bytes: &[u8]| EntryProof::decode(bytes).is_ok_and(|it| it.verify().is_ok());
    assert_eq!(accepted(&proof.encode(), &holds), none, "proof of an entry");
    let holds = |bytes: &[u8]| {
        CoseReceipt::decode(bytes).is_ok_and(|it| it.verify(&leaf, &agent.id()).is_ok())
    };
    assert_eq!(accepted(&receipt, &holds), none, "COSE receipt, {} flips", receipt.len() * 8);
}

#[test]
fn the_signatures_of_a_log_open_as_nothing_else() {
    let (agent, log) = (identity(1), Log::numbered(3));
    let signed = log.checkpoint(3, &agent);
    let receipt = CoseReceipt::sign(&agent, &log.inclusion(1, 3), &log.root(3)).encode();
    for kind in comity_core::Kind::ALL {
        let opened =
            comity_core::envelope::open::<comity_core::receipt::ReceiptRoot>(kind, &receipt, 4_096);
        assert!(opened.is_err(), "a receipt of inclusion as {kind}");
    }
    // The log's signature does not count as a witness's, nor the other way round.
    let cosigned = signed.cosign(&agent, Time::from_secs(1));
    let as_log = Note { text: signed.checkpoint().text(), signatures: vec![cosigned.clone()] };
    assert!(SignedCheckpoint::open(as_log.to_string().as_bytes()).is_err());
    let own = signed.note().signatures.remove(0);
    let as_witness = NoteSignature { name: cosigned.name, key_id: cosigned.key_id, ..own };
    assert!(signed.clone().add(&agent.id(), as_witness).is_err());
    assert_eq!(witness::observe(None, &signed, None), Ok(witness::Observation::First));
}
