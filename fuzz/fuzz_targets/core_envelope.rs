//! Envelopes: of everything that can be made from validly sealed bytes without the key, only those bytes themselves open,
//! and only as the kind they were sealed as.
#![no_main]

use arbitrary::Arbitrary;
use comity_core::Hash;
use comity_core::envelope::{EnvelopeError, Kind, MAX_OVERHEAD, open, open_unverified, seal};
use comity_fuzz::{Edit, Raw, edited, identity};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    kind: u8,
    opened_as: u8,
    signer: u8,
    payload: Vec<u8>,
    other_payload: Vec<u8>,
    edits: Vec<Edit>,
}

fuzz_target!(|input: Input| {
    let kind = |number: u8| Kind::ALL[usize::from(number) % Kind::ALL.len()];
    let (kind, opened_as) = (kind(input.kind), kind(input.opened_as));
    let signer = identity(input.signer);
    let sealed = seal(kind, &Raw(input.payload.clone()), signer);
    assert!(sealed.len() <= input.payload.len() + MAX_OVERHEAD);
    let opened = open::<Raw>(kind, &sealed, sealed.len()).expect("what was sealed opens");
    assert_eq!(
        (opened.signer, &opened.payload.0, opened.hash),
        (signer.id(), &input.payload, Hash::of(&sealed))
    );
    assert!(matches!(
        open::<Raw>(kind, &sealed, sealed.len() - 1),
        Err(EnvelopeError::TooLong { .. })
    ));

    let donor = seal(kind, &Raw(input.other_payload), signer);
    let received = edited(&sealed, &donor, &input.edits);
    let genuine = received == sealed || received == donor;
    match open::<Raw>(opened_as, &received, usize::MAX) {
        Ok(_) => assert!(
            genuine && opened_as == kind,
            "forged: a {kind} opened as a {opened_as}: {received:02x?}"
        ),
        Err(error) => {
            assert!(!genuine || opened_as != kind, "{error}");
            if genuine {
                assert!(
                    matches!(error, EnvelopeError::Signature { .. }),
                    "another kind is a wrong signature: {error}"
                );
            }
        }
    }
    // Without a look at the signature, what passes is still spelled in the one canonical way.
    if let Ok(unverified) = open_unverified::<Raw>(opened_as, &received, usize::MAX) {
        assert_eq!(
            received.len(),
            sealed.len() - head(input.payload.len()) - input.payload.len() + {
                let length = unverified.unverified_payload.0.len();
                head(length) + length
            }
        );
        assert_eq!(unverified.hash, Hash::of(&received));
    }
});

/// Bytes of a shortest CBOR head with this argument.
fn head(length: usize) -> usize {
    match length {
        0..=23 => 1,
        24..=0xff => 2,
        0x100..=0xffff => 3,
        _ => 5,
    }
}
