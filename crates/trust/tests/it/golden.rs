//! One statement of every kind, made by an independent implementation (`tests/vectors/kinds.py`), is read, written and sealed here in
//! the same bytes, and opens as the kind it is and as no other.

use comity_capability::record::{
    Beat, Digest, Load, PeerRecord, Record, Status, Tombstone, Veiled,
};
use comity_core::canonical::Version;
use comity_core::receipt::{Receipt, ReceiptRoot, SignedReceipt, sign_batch};
use comity_core::{Canonical, Hash, Identity, Kind, Sha256Digest, Time, envelope};
use comity_results::ack::{Ack, Verdict};
use comity_results::key::IndexKey;
use comity_results::pointer::Pointer;
use comity_results::retract::{Retract, Target};
use comity_trust::admission::{Admit, Charter};
use comity_trust::bond::Trust;
use comity_trust::endorse::Endorse;
use comity_trust::evidence::Evidence;
use comity_trust::grant::Grant;
use comity_trust::revoke::{Revoke, SetHead};
use comity_trust::succession::Rotate;
use serde_json::Value;

use crate::common::no_flip_opens;

/// Longer than any statement.
const ANY_LEN: usize = 16 * 1024;
const ISSUED: Time = Time::from_millis(1_790_000_000_000);
const EXPIRES: Time = Time::from_millis(1_790_003_600_000);

struct Golden {
    kind: Kind,
    payload: Vec<u8>,
    envelope: Vec<u8>,
    hash: String,
}

fn signer() -> Identity {
    Identity::from_secret_bytes(&[1; 32])
}

fn golden() -> Vec<Golden> {
    let file: Value = serde_json::from_str(include_str!("../vectors/kinds.json")).unwrap();
    let text = |row: &Value, field: &str| row[field].as_str().unwrap().to_owned();
    let bytes = |row: &Value, field: &str| {
        data_encoding::HEXLOWER.decode(text(row, field).as_bytes()).unwrap()
    };
    let rows = file["kinds"].as_array().unwrap().iter();
    rows.map(|row| {
        let name = text(row, "kind");
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
        Golden {
            kind: kind.unwrap_or_else(|| panic!("no kind {name}")),
            payload: bytes(row, "payload"),
            envelope: bytes(row, "envelope"),
            hash: text(row, "hash"),
        }
    })
    .collect()
}

fn of(kind: Kind) -> Golden {
    golden().into_iter().find(|golden| golden.kind == kind).expect("every kind has a vector")
}

/// Reads, writes, seals and opens the vector of a kind with its type.
fn checked<T: Canonical>(kind: Kind) -> T {
    let vector = of(kind);
    let payload = T::decode(&vector.payload).unwrap_or_else(|error| panic!("{kind:?}: {error}"));
    assert_eq!(payload.encode(), vector.payload, "{kind:?} is written as it was read");
    assert_eq!(envelope::seal(kind, &payload, &signer()), vector.envelope, "{kind:?}");
    let opened = envelope::open::<T>(kind, &vector.envelope, ANY_LEN).unwrap();
    assert_eq!((opened.signer, opened.hash.to_string()), (signer().id(), vector.hash), "{kind:?}");
    for other in Kind::ALL.into_iter().filter(|other| *other != kind) {
        assert!(
            envelope::open::<T>(other, &vector.envelope, ANY_LEN).is_err(),
            "{kind:?} {other:?}"
        );
    }
    payload
}

#[test]
fn statements_of_an_independent_implementation_read_back() {
    let record: Record = checked(Kind::Record);
    assert_eq!((record.seq, record.issued, record.expires), (7, ISSUED, EXPIRES));
    assert_eq!((record.next, record.supersedes), (Hash::of(b"next"), Some(Hash::of(b"before"))));
    let capability = &record.capabilities[0];
    assert_eq!((capability.name.as_str(), capability.idempotent), ("fx.rates", true));
    assert_eq!(record.endpoints, ["127.0.0.1:4433".parse().unwrap()]);
    let digest: Digest = checked(Kind::Digest);
    assert_eq!((digest.seq, digest.record), (7, Hash::of(b"record")));
    let _: Veiled = checked(Kind::Veiled);
    let grant: Grant = checked(Kind::Grant);
    assert_eq!((grant.parent, grant.depth, grant.uses), (Some(Hash::of(b"parent")), 2, Some(5)));
    let _: Revoke = checked(Kind::Revoke);
    let _: SetHead = checked(Kind::RevokeSet);
    let _: Endorse = checked(Kind::Endorse);
    let _: Evidence = checked(Kind::Evidence);
    let _: Rotate = checked(Kind::Rotate);
    let _: Charter = checked(Kind::Charter);
    let _: Admit = checked(Kind::Admit);
    let _: Trust = checked(Kind::Trust);
    let _: ReceiptRoot = checked(Kind::ReceiptRoot);
}

#[test]
fn signs_of_life_withdrawals_and_addresses_are_those_of_the_vectors() {
    assert_eq!(
        checked::<Beat>(Kind::Beat),
        Beat::new(8, ISSUED, EXPIRES, Status::Warm, Load::Normal)
    );
    let gone = Tombstone::new(9, ISSUED, EXPIRES, Some("fx.rates".to_owned())).unwrap();
    assert_eq!(checked::<Tombstone>(Kind::Tombstone), gone);
    let addrs = ["127.0.0.1:4433", "10.0.0.1:1"].map(|addr| addr.parse().unwrap());
    let peer = PeerRecord::new(10, ISSUED, EXPIRES, &addrs, true);
    assert_eq!(checked::<PeerRecord>(Kind::Peer), peer);
}

/// Kinds that have a name and no statement yet, receipts, which are not sealed one by one, and what the crate of shared results keeps, with vectors of its own.
#[test]
fn every_kind_that_is_sealed_has_a_vector() {
    let without = [Kind::Receipt, Kind::Ack, Kind::Commit, Kind::Holder, Kind::Retract];
    for kind in Kind::ALL {
        let has = golden().iter().any(|golden| golden.kind == kind);
        assert_eq!(has, !without.contains(&kind), "{kind:?}");
    }
}

/// A payload sealed by as many keys as it takes for 3,000 flips: none of them opens.
fn no_flip_of<T: Canonical>(kind: Kind, payload: &T) {
    let sealed: Vec<Vec<u8>> = (1..=3)
        .map(|n| envelope::seal(kind, payload, &Identity::from_secret_bytes(&[n; 32])))
        .collect();
    no_flip_opens(kind.name(), &sealed, |bytes| envelope::open::<T>(kind, bytes, ANY_LEN).is_ok());
}

fn no_flip_of_vector<T: Canonical>(kind: Kind) {
    no_flip_of(kind, &T::decode(&of(kind).payload).unwrap());
}

/// What the directory keeps and what is said of answers; the other kinds have theirs where their attacks are.
#[test]
fn no_bit_of_a_statement_can_be_flipped() {
    no_flip_of_vector::<Record>(Kind::Record);
    no_flip_of_vector::<Digest>(Kind::Digest);
    no_flip_of_vector::<Beat>(Kind::Beat);
    no_flip_of_vector::<Tombstone>(Kind::Tombstone);
    no_flip_of_vector::<PeerRecord>(Kind::Peer);
    no_flip_of_vector::<Veiled>(Kind::Veiled);
    no_flip_of_vector::<ReceiptRoot>(Kind::ReceiptRoot);
    let hash = Hash::of(b"x");
    no_flip_of(
        Kind::Ack,
        &Ack { version: Version, receipt: hash, verdict: Verdict::Confirmed, at_ms: 4 },
    );
    no_flip_of(Kind::Retract, &Retract::new(Target::Response(hash), ISSUED));
    let pointer = Pointer {
        version: Version,
        key: IndexKey(hash),
        producer: hash,
        response: hash,
        bytes: 9,
        finished_ms: 1,
        issued_ms: 2,
        expires_ms: 3,
    };
    no_flip_of(Kind::Holder, &pointer);
}

#[test]
fn no_bit_of_a_receipt_can_be_flipped() {
    let hash = Hash::of(b"x");
    let receipt = Receipt {
        version: Version,
        session: hash,
        number: 1,
        caller: Identity::from_secret_bytes(&[2; 32]).id(),
        callee: signer().id(),
        capability: hash,
        request: hash,
        response: hash,
        status: 0,
        started_ms: 1,
        finished_ms: 2,
        cost: 3,
        evidence: None,
        leaf: Some(4),
        interface: Sha256Digest::of(b"i"),
        valid_until_ms: 5,
        data_version: None,
        name: "fx.rates".try_into().unwrap(),
    };
    let other = Receipt { number: 2, ..receipt.clone() };
    let sealed: Vec<Vec<u8>> = sign_batch(&signer(), ISSUED, vec![receipt, other])
        .unwrap()
        .iter()
        .map(Canonical::encode)
        .collect();
    no_flip_opens("receipt", &sealed, |bytes| {
        SignedReceipt::decode(bytes).is_ok_and(|receipt| receipt.verify().is_ok())
    });
}
