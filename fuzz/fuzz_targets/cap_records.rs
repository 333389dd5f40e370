//! The signed objects of the directory: each payload has one encoding, keeps to its limits, and opens after sealing;
//! sealed bytes that were changed do not open.
#![no_main]

use arbitrary::Arbitrary;
use comity_capability::record::{
    Beat, Capability, Digest, GroupSecret, MAX_BEAT, MAX_DIGEST, MAX_PEER, MAX_RECORD,
    MAX_TOMBSTONE, MAX_VEILED, PeerRecord, Record, RecordError, Sequenced, Tombstone, UnveilError,
    Veiled,
};
use comity_core::envelope::{Kind, open, seal};
use comity_core::{Canonical, Hash};
use comity_fuzz::{Edit, NOW, edited, identity, properties};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((selector, rest)) = data.split_first() else { return };
    match selector % 9 {
        0 => of_object::<Record>(rest, Kind::Record, MAX_RECORD, |bytes| {
            Record::open(bytes, NOW).map(|opened| opened.payload)
        }),
        1 => of_object::<Digest>(rest, Kind::Digest, MAX_DIGEST, |bytes| {
            Digest::open(bytes, NOW).map(|opened| opened.payload)
        }),
        2 => of_object::<Beat>(rest, Kind::Beat, MAX_BEAT, |bytes| {
            Beat::open(bytes, NOW).map(|opened| opened.payload)
        }),
        3 => of_object::<Tombstone>(rest, Kind::Tombstone, MAX_TOMBSTONE, |bytes| {
            Tombstone::open(bytes, NOW).map(|opened| opened.payload)
        }),
        4 => of_object::<PeerRecord>(rest, Kind::Peer, MAX_PEER, |bytes| {
            PeerRecord::open(bytes, NOW).map(|opened| opened.payload)
        }),
        5 => of_capability(rest),
        7 => of_veiled(rest),
        6 => of_record(rest),
        _ => of_sealed(rest),
    }
});

/// A veiled entry has one encoding, opens after sealing, and with a wrong secret gives nothing away but that.
fn of_veiled(payload: &[u8]) {
    let Ok(veiled) = Veiled::decode(payload) else { return };
    assert_eq!(veiled.encode(), payload);
    let sealed = seal(Kind::Veiled, &veiled, identity(0));
    let Ok(opened) = Veiled::open(&sealed, NOW) else { return };
    assert!(sealed.len() <= MAX_VEILED);
    assert_eq!(opened.payload, veiled);
    assert!(veiled.admits(&veiled.shard_label()));
    let secret = GroupSecret::from_bytes([1; 32]);
    assert_eq!(secret.unveil(&opened, NOW), Err(UnveilError::Sealed));
}

fn of_object<T>(
    payload: &[u8],
    kind: Kind,
    max: usize,
    open: impl Fn(&[u8]) -> Result<T, RecordError>,
) where
    T: Canonical + Sequenced + PartialEq + std::fmt::Debug,
{
    let Ok(object) = T::decode(payload) else { return };
    assert_eq!(object.encode(), payload);
    assert!(!object.replaces(&object), "of equals the one already held stays");
    let sealed = seal(kind, &object, identity(0));
    match open(&sealed) {
        Ok(opened) => assert_eq!(opened, object),
        Err(RecordError::Times(error)) => assert!(!error.to_string().is_empty()),
        // Objects of their own payload limit may still be too long once sealed.
        Err(error) => assert!(sealed.len() > max, "{error:?}"),
    }
}

fn of_capability(payload: &[u8]) {
    let Ok(capability) = Capability::decode(payload) else { return };
    assert_eq!(Canonical::encode(&capability), payload);
    capability.check().expect("what was decoded is within its limits");
    assert!(!capability.to_json().to_string().is_empty());
    let mut record = Record::new(1, NOW, NOW, Hash([0; 32]));
    record.capabilities = vec![capability];
    if let Ok(digest) = Digest::summarise(&record, 0, Hash([1; 32])) {
        properties::of_digest(&digest, &record.capabilities[0]);
    }
}

fn of_record(payload: &[u8]) {
    let Ok(record) = Record::decode(payload) else { return };
    record.check().expect("what was decoded is within its limits");
    assert!(!record.to_json(&identity(0).id()).to_string().is_empty());
    let sealed = record.seal(identity(0)).expect("a decoded record fits its envelope");
    for digest in record.digests(&sealed).expect("public capabilities have digests") {
        assert_eq!(digest.record, Hash::of(&sealed));
        properties::of_digest(&digest, &record.capabilities[usize::from(digest.ordinal)]);
    }
}

/// A genuine tombstone, changed on the way, by somebody without the key.
fn of_sealed(data: &[u8]) {
    let mut source = arbitrary::Unstructured::new(data);
    let Ok(edits) = Vec::<Edit>::arbitrary(&mut source) else { return };
    let expires = NOW + std::time::Duration::from_secs(3600);
    let tombstone = |seq| {
        Tombstone::new(seq, NOW, expires, Some("fx-history".to_owned())).expect("a valid name")
    };
    let (genuine, donor) = (tombstone(1).seal(identity(0)), tombstone(2).seal(identity(1)));
    let received = edited(&genuine, &donor, &edits);
    let opened = Tombstone::open(&received, NOW);
    assert_eq!(opened.is_ok(), received == genuine || received == donor);
    // Replayed as another kind, after its time, or before it.
    assert!(open::<Tombstone>(Kind::Beat, &genuine, MAX_TOMBSTONE).is_err());
    assert!(Tombstone::open(&genuine, NOW + std::time::Duration::from_secs(3600 + 120)).is_err());
}
