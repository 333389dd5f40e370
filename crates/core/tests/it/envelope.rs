//! The signed envelope: vectors, context separation and the attacks of threats T31 and T32.

use comity_core::canonical::Version;
use comity_core::envelope::{EnvelopeError, MAX_OVERHEAD, Opened, open, open_unverified, seal};
use comity_core::receipt::ReceiptRoot;
use comity_core::{AgentId, Canonical, DecodeError, Hash, Identity, KeyError, Kind};
use proptest::prelude::*;

use crate::vectors;

const MAX: usize = 4096;
/// Where things stand in an envelope of ours: tag, array head, protected bstr (head 2, content 63), empty map.
const PROTECTED_HEAD: usize = 2;
const PROTECTED: usize = 4;
const UNPROTECTED: usize = PROTECTED + 63;
const PAYLOAD_HEAD: usize = UNPROTECTED + 1;

fn identity() -> Identity {
    Identity::from_secret_bytes(&[1; 32])
}

fn payload() -> ReceiptRoot {
    ReceiptRoot { version: Version, root: Hash::of(b"root"), size: 3, at_ms: 1_790_000_000_000 }
}

fn sealed() -> Vec<u8> {
    seal(Kind::Digest, &payload(), &identity())
}

fn open_digest(bytes: &[u8]) -> Result<Opened<ReceiptRoot>, EnvelopeError> {
    open(Kind::Digest, bytes, MAX)
}

/// `bytes` with `range` replaced.
fn splice(bytes: &[u8], range: std::ops::Range<usize>, with: &[u8]) -> Vec<u8> {
    [&bytes[..range.start], with, &bytes[range.end..]].concat()
}

#[test]
fn envelopes_are_those_of_an_independent_implementation() {
    let vectors = vectors::envelopes();
    let rows = vectors::rows(&vectors, "envelopes");
    assert_eq!(rows.len(), Kind::ALL.len(), "one vector for each kind");
    for row in rows {
        let kind =
            Kind::ALL.into_iter().find(|kind| kind.name() == vectors::text(row, "kind")).unwrap();
        let payload = ReceiptRoot {
            version: Version,
            root: Hash(vectors::bytes32(row, "root")),
            size: u32::try_from(row["size"].as_u64().unwrap()).unwrap(),
            at_ms: row["at_ms"].as_u64().unwrap(),
        };
        let identity = vectors::identity(row);
        let bytes = vectors::bytes(row, "envelope");
        assert_eq!(payload.encode(), vectors::bytes(row, "payload"));
        assert_eq!(seal(kind, &payload, &identity), bytes, "{kind}");
        let opened: Opened<ReceiptRoot> = open(kind, &bytes, MAX).unwrap();
        assert_eq!((opened.signer, opened.payload), (identity.id(), payload));
        assert_eq!(opened.hash.to_string(), vectors::text(row, "hash"));
    }
}

#[test]
fn no_kind_opens_as_another() {
    for sealed_as in Kind::ALL {
        let bytes = seal(sealed_as, &payload(), &identity());
        for opened_as in Kind::ALL {
            let opened = open::<ReceiptRoot>(opened_as, &bytes, MAX);
            if sealed_as == opened_as {
                assert_eq!(opened.unwrap().payload, payload());
            } else {
                let refused = matches!(opened, Err(EnvelopeError::Signature { kind, .. }) if kind == opened_as);
                assert!(refused, "{sealed_as} opened as {opened_as}: {opened:?}");
            }
        }
    }
}

#[test]
fn kinds_have_distinct_names() {
    let names: std::collections::BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
    assert_eq!(names.len(), Kind::ALL.len());
}

/// A raw signature made for another protocol, even over the very payload bytes, is no envelope signature.
#[test]
fn signatures_of_other_protocols_do_not_open() {
    let bytes = sealed();
    let signature = identity().sign(&payload().encode());
    let forged = splice(&bytes, bytes.len() - 64..bytes.len(), &signature);
    assert!(matches!(open_digest(&forged), Err(EnvelopeError::Signature { .. })));
}

#[test]
fn the_length_is_checked_before_anything_is_read() {
    let bytes = sealed();
    let length = bytes.len();
    assert!(open::<ReceiptRoot>(Kind::Digest, &bytes, length).is_ok());
    let max = length - 1;
    let error = open::<ReceiptRoot>(Kind::Digest, &bytes, max).unwrap_err();
    assert_eq!(error, EnvelopeError::TooLong { length, max });
    let garbage = vec![0x9f; 1_000_000];
    let error = open::<ReceiptRoot>(Kind::Digest, &garbage, MAX).unwrap_err();
    assert_eq!(error, EnvelopeError::TooLong { length: 1_000_000, max: MAX });
}

#[test]
fn the_overhead_is_bounded() {
    let payload_len = payload().encode().len();
    assert_eq!(
        sealed().len() - payload_len,
        MAX_OVERHEAD - 9 + 2,
        "a payload of {payload_len} bytes has a head of two"
    );
}

/// The signature does not cover how the wrapper is spelled: these copies all carry a valid one.
#[test]
fn re_encoded_envelopes_are_refused_although_their_signature_holds() {
    let bytes = sealed();
    let payload_len = u8::try_from(payload().encode().len()).unwrap();
    assert_eq!(
        (bytes[0], bytes[1], bytes[PROTECTED_HEAD], bytes[PROTECTED_HEAD + 1]),
        (0xd2, 0x84, 0x58, 63)
    );
    assert_eq!(
        (bytes[UNPROTECTED], bytes[PAYLOAD_HEAD], bytes[PAYLOAD_HEAD + 1]),
        (0xa0, 0x58, payload_len)
    );
    let end = bytes.len();
    let respelled = [
        ("array head 84 as 98 04", splice(&bytes, 1..2, &[0x98, 4])),
        ("array head in nine bytes", splice(&bytes, 1..2, &[0x9b, 0, 0, 0, 0, 0, 0, 0, 4])),
        ("tag d2 as d8 12", splice(&bytes, 0..1, &[0xd8, 18])),
        ("protected length in two bytes", splice(&bytes, 2..4, &[0x59, 0, 63])),
        ("empty map as b8 00", splice(&bytes, UNPROTECTED..UNPROTECTED + 1, &[0xb8, 0])),
        (
            "empty map of indefinite length",
            splice(&bytes, UNPROTECTED..UNPROTECTED + 1, &[0xbf, 0xff]),
        ),
        (
            "payload length in two bytes",
            splice(&bytes, PAYLOAD_HEAD..PAYLOAD_HEAD + 2, &[0x59, 0, payload_len]),
        ),
        ("signature length in two bytes", splice(&bytes, end - 66..end - 64, &[0x59, 0, 64])),
        ("array of indefinite length", [splice(&bytes, 1..2, &[0x9f]), vec![0xff]].concat()),
    ];
    for (what, copy) in respelled {
        assert_ne!(Hash::of(&copy), Hash::of(&bytes));
        assert_eq!(open_digest(&copy), Err(EnvelopeError::NotCanonical), "{what}");
        let unverified = open_unverified::<ReceiptRoot>(Kind::Digest, &copy, MAX);
        assert_eq!(unverified, Err(EnvelopeError::NotCanonical), "{what}");
    }
}

#[test]
fn other_forms_of_envelope_are_refused() {
    let bytes = sealed();
    let end = bytes.len();
    let malformed =
        |bytes: &[u8]| matches!(open_digest(bytes), Err(EnvelopeError::Malformed { .. }));
    assert!(malformed(&[]), "nothing");
    assert!(malformed(&bytes[..end - 1]), "cut short");
    assert!(malformed(&[&bytes[..], &[0]].concat()), "trailing byte");
    assert!(malformed(&bytes[1..]), "without its tag");
    assert!(malformed(&splice(&bytes, 0..1, &[0xd1])), "tag of COSE_Mac0");
    let form = |bytes: &[u8]| matches!(open_digest(bytes), Err(EnvelopeError::Form { .. }));
    let in_unprotected = splice(&bytes, UNPROTECTED..UNPROTECTED + 1, &[0xa1, 4, 0x41, 7]);
    assert!(form(&in_unprotected), "a field in the unprotected header");
    let unknown_field = splice(&bytes, UNPROTECTED..UNPROTECTED + 1, &[0xa1, 0x18, 99, 0]);
    assert!(form(&unknown_field), "an unknown field in the unprotected header");
    let payload_end = end - 66;
    assert!(form(&splice(&bytes, PAYLOAD_HEAD..payload_end, &[0xf6])), "a detached payload");
    assert!(form(&splice(&bytes, end - 66..end, &[0x41, 0])), "a short signature");
    assert!(
        form(&splice(&bytes, PROTECTED_HEAD..UNPROTECTED, &[0x40])),
        "an empty protected header"
    );
    // alg -8 (EdDSA, deprecated) in place of -19.
    assert_eq!(bytes[PROTECTED..PROTECTED + 3], [0xa3, 1, 0x32]);
    assert!(form(&splice(&bytes, PROTECTED + 2..PROTECTED + 3, &[0x27])), "another algorithm");
}

/// These protected headers are signed over by an honest key, so only the rules about form can refuse them.
#[test]
fn signed_headers_of_another_form_are_refused() {
    let key = identity().id();
    let kid = [&[4, 0x58, 32][..], key.as_bytes()].concat();
    let content_type = [&[3, 0x77][..], b"application/comity+cbor"].concat();
    let alg = [1, 0x32];
    let right = [&[0xa3][..], &alg, &content_type, &kid].concat();
    assert!(
        open_digest(&sign_with_header(&right)).is_ok(),
        "the attack's own tool makes valid envelopes"
    );
    let wrong = [
        ("unsorted", [&[0xa3][..], &kid, &alg, &content_type].concat()),
        ("without content type", [&[0xa2][..], &alg, &kid].concat()),
        ("algorithm in two bytes", [&[0xa3][..], &[1, 0x38, 18], &content_type, &kid].concat()),
        ("map head in two bytes", [&[0xb8, 3][..], &alg, &content_type, &kid].concat()),
        ("indefinite map", [&[0xbf][..], &alg, &content_type, &kid, &[0xff]].concat()),
        ("extra field", [&[0xa4][..], &alg, &content_type, &kid, &[0x18, 99, 0]].concat()),
        ("duplicate field", [&[0xa4][..], &alg, &alg, &content_type, &kid].concat()),
        ("critical field", [&[0xa4][..], &alg, &[2, 0x81, 4], &content_type, &kid].concat()),
    ];
    for (what, header) in wrong {
        let result = open_digest(&sign_with_header(&header));
        let refused = matches!(
            result,
            Err(EnvelopeError::Form { .. }
                | EnvelopeError::NotCanonical
                | EnvelopeError::Malformed { .. })
        );
        assert!(refused, "{what}: {result:?}");
    }
}

fn bstr(bytes: &[u8]) -> Vec<u8> {
    let mut out = minicbor::Encoder::new(Vec::new());
    out.bytes(bytes).unwrap();
    out.into_writer()
}

/// Signs a payload under any protected header, as an attacker with a key can.
fn sign_with_header_and_payload(header: &[u8], payload: &[u8]) -> Vec<u8> {
    let structure = [
        &[0x84, 0x6a][..],
        b"Signature1",
        &bstr(header),
        &bstr(b"comity/1/digest"),
        &bstr(payload),
    ]
    .concat();
    let signature = identity().sign(&structure);
    [&[0xd2, 0x84][..], &bstr(header), &[0xa0], &bstr(payload), &bstr(&signature)].concat()
}

fn sign_with_header(header: &[u8]) -> Vec<u8> {
    sign_with_header_and_payload(header, &payload().encode())
}

/// The payload is signed by its author, who may well be the one who spells it twice.
#[test]
fn signed_payloads_in_another_spelling_are_refused() {
    let bytes = sealed();
    let header = &bytes[PROTECTED..UNPROTECTED];
    let good = payload().encode();
    assert_eq!(good[..3], [0xa4, 0, 1]);
    let wrong = [
        ("long map head", splice(&good, 0..1, &[0xb8, 4]), DecodeError::NotShortest { offset: 0 }),
        ("long number", splice(&good, 2..3, &[0x18, 1]), DecodeError::NotShortest { offset: 2 }),
        (
            "trailing byte",
            [&good[..], &[0]].concat(),
            DecodeError::Trailing { offset: good.len(), count: 1 },
        ),
        (
            "indefinite",
            [splice(&good, 0..1, &[0xbf]), vec![0xff]].concat(),
            DecodeError::Indefinite { offset: 0 },
        ),
        (
            "key twice",
            splice(&good, 0..3, &[0xa5, 0, 1, 0, 1]),
            DecodeError::DuplicateKey { offset: 3 },
        ),
        (
            "unknown field",
            [splice(&good, 0..1, &[0xa5]), vec![5, 0]].concat(),
            DecodeError::NotCanonical,
        ),
    ];
    for (what, payload, source) in wrong {
        let result = open_digest(&sign_with_header_and_payload(header, &payload));
        assert_eq!(result, Err(EnvelopeError::Payload { kind: Kind::Digest, source }), "{what}");
    }
}

#[test]
fn keys_that_fail_intake_sign_nothing() {
    let bytes = sealed();
    let key_at = UNPROTECTED - 32;
    assert_eq!(&bytes[key_at..UNPROTECTED], identity().id().as_bytes());
    let mut weak = [0; 32];
    weak[0] = 1;
    let mut forged = splice(&bytes, key_at..UNPROTECTED, &weak);
    // R = identity, S = 0: holds for every message under this key by the lax rules.
    let end = forged.len();
    forged[end - 64..].fill(0);
    forged[end - 64] = 1;
    assert_eq!(open_digest(&forged), Err(EnvelopeError::Key(KeyError::SmallOrder)));
}

#[test]
fn another_signer_is_refused() {
    let bytes = sealed();
    let other = Identity::from_secret_bytes(&[2; 32]).id();
    let key_at = UNPROTECTED - 32;
    let forged = splice(&bytes, key_at..UNPROTECTED, other.as_bytes());
    assert!(matches!(open_digest(&forged), Err(EnvelopeError::Signature { .. })));
}

#[test]
fn unverified_opening_says_what_it_is() {
    let mut bytes = sealed();
    let end = bytes.len();
    bytes[end - 1] ^= 1;
    assert!(open_digest(&bytes).is_err());
    let unverified = open_unverified::<ReceiptRoot>(Kind::Digest, &bytes, MAX).unwrap();
    assert_eq!(unverified.claimed_signer, identity().id());
    assert_eq!(unverified.unverified_payload, payload());
    assert_eq!(unverified.hash, Hash::of(&bytes));
}

#[test]
fn every_bit_flip_is_refused() {
    let bytes = sealed();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(open_digest(&flipped).is_err(), "bit {bit}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn sealing_and_opening_round_trip(secret: [u8; 32], root: [u8; 32], size: u32, at_ms: u64, kind in 0usize..14) {
        let identity = Identity::from_secret_bytes(&secret);
        let payload = ReceiptRoot { version: Version, root: Hash(root), size, at_ms };
        let bytes = seal(Kind::ALL[kind], &payload, &identity);
        let opened: Opened<ReceiptRoot> = open(Kind::ALL[kind], &bytes, MAX).unwrap();
        let signer: AgentId = identity.id();
        prop_assert_eq!((opened.signer, opened.payload, opened.hash), (signer, payload, Hash::of(&bytes)));
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(open_digest(&bytes).is_err());
    }

    /// Structure-aware: an honest envelope with a few bytes replaced, inserted or removed.
    #[test]
    fn no_edited_envelope_opens(
        at: prop::sample::Index,
        remove in 0usize..4,
        insert in prop::collection::vec(any::<u8>(), 0..4),
    ) {
        let bytes = sealed();
        let at = at.index(bytes.len());
        let edited = splice(&bytes, at..(at + remove).min(bytes.len()), &insert);
        prop_assume!(edited != bytes);
        prop_assert!(open_digest(&edited).is_err());
    }
}
