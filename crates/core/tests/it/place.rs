//! Position, overlay id, address and handle, against an independent derivation in Python.

use comity_core::{
    Address, AddressTextError, CheckedHandle, Distance, Handle, HandleTextError, Hash,
    HashTextError, OverlayId, Position, Sha256Digest,
};
use proptest::prelude::*;

use crate::vectors;

#[test]
fn the_derivation_agrees_with_the_independent_one() {
    for row in vectors::rows(&vectors::positions(), "positions") {
        let position = Position::of(&vectors::identity(row).id());
        let name = &row["name"];
        assert_eq!(
            position.overlay_id().as_bytes(),
            &vectors::bytes32(row, "overlay_id"),
            "{name}"
        );
        assert_eq!(u64::from(position.mint_bits()), row["mint_bits"].as_u64().unwrap(), "{name}");
        assert_eq!(position.address().to_string(), vectors::text(row, "address"), "{name}");
        assert_eq!(position.handle().to_string(), vectors::text(row, "handle"), "{name}");
        assert_eq!(
            position.checked_handle().to_string(),
            vectors::text(row, "checked_handle"),
            "{name}"
        );
        assert_eq!(vectors::text(row, "address").parse(), Ok(position.address()));
        assert_eq!(vectors::text(row, "handle").parse(), Ok(position.handle()));
        assert_eq!(vectors::text(row, "checked_handle").parse(), Ok(position.checked_handle()));
    }
}

#[test]
fn pilots_own_examples_of_a_handle_read_and_write() {
    let example: Handle = "1:0001.00A3.F291".parse().unwrap();
    assert_eq!(example.as_u64(), 0x0001_00a3_f291);
    assert_eq!(example.to_string(), "1:0001.00A3.F291");
    assert_eq!("01:0001.0000.0001".parse(), Ok(Handle([0, 1, 0, 0, 0, 1])));
    assert_eq!("1:0001.00a3.f291".parse(), Ok(example));
    assert_eq!("65535:FFFF.FFFF.FFFF".parse(), Ok(Handle([0xff; 6])));
}

#[test]
fn malformed_handles_are_refused() {
    let shapes = [
        "",
        ":",
        "1",
        "1:0001",
        "1:0001.0000",
        "+1:0001.0000.0001",
        "-1:0001.0000.0001",
        "1:0001.0000.0001.0002",
        "1:001.0000.0001",
        "1:00001.0000.0001",
        "1:+001.0000.0001",
        "1:0001.0000.000G",
        "65536:0000.0000.0000",
        " 1:0001.0000.0001",
        "1:0001.0000.0001 ",
        "1:0001:0000.0001",
        "1:0001.é00.0001",
        "１:0001.0000.0001",
    ];
    for text in shapes {
        assert_eq!(text.parse::<Handle>(), Err(HandleTextError::Shape), "{text}");
    }
    let mismatch = HandleTextError::Mismatch { decimal: 2, group: 1 };
    assert_eq!("2:0001.0000.0001".parse::<Handle>(), Err(mismatch));
    for text in [
        "1:0001.0000.0001",
        "1:0001.0000.0001#",
        "1:0001.0000.0001#abc",
        "1:0001.0000.0001#abcdefg1",
    ] {
        assert_eq!(text.parse::<CheckedHandle>(), Err(HandleTextError::Check), "{text}");
    }
    assert_eq!(
        "1:0001.0000.0001#ABCDEFGH".parse::<CheckedHandle>(),
        "1:0001.0000.0001#abcdefgh".parse()
    );
}

#[test]
fn addresses_outside_fd_are_refused() {
    assert_eq!("fe80::1".parse::<Address>(), Err(AddressTextError::Prefix));
    assert_eq!("fc00::1".parse::<Address>(), Err(AddressTextError::Prefix));
    assert_eq!("127.0.0.1".parse::<Address>(), Err(AddressTextError::NotIpv6));
    assert_eq!("fd00::1".parse::<Address>().unwrap().to_string(), "fd00::1");
}

#[test]
fn buckets_are_powers_of_two() {
    let zero = OverlayId([0; 32]);
    assert_eq!(zero.distance(&zero), Distance::ZERO);
    assert_eq!((Distance::ZERO.leading_zeros(), Distance::ZERO.bucket()), (256, None));
    assert_eq!((Distance::MAX.leading_zeros(), Distance::MAX.bucket()), (0, Some(255)));
    for bit in 0..256usize {
        let mut id = [0; 32];
        id[31 - bit / 8] = 1 << (bit % 8);
        let distance = zero.distance(&OverlayId(id));
        assert_eq!(distance.bucket(), Some(u8::try_from(bit).unwrap()));
        assert!(OverlayId(id).bit(255 - u32::try_from(bit).unwrap()));
        assert_eq!(zero.common_prefix(&OverlayId(id)), 255 - u32::try_from(bit).unwrap());
    }
    assert!(!OverlayId([0xff; 32]).bit(256));
}

#[test]
fn hashes_are_prefixed_hex() {
    let empty = "b3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
    assert_eq!(Hash::of(b"").to_string(), empty);
    assert_eq!(empty.parse(), Ok(Hash::of(b"")));
    assert_eq!(serde_json::to_string(&Hash::of(b"")).unwrap(), format!("\"{empty}\""));
    let sha = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(Sha256Digest::of(b"").to_string(), sha);
    assert_eq!(sha.parse(), Ok(Sha256Digest::of(b"")));
    assert_eq!(sha.parse::<Hash>(), Err(HashTextError::Prefix { expected: "b3:" }));
    assert!(matches!("b3:00".parse::<Hash>(), Err(HashTextError::Digits(_))));
}

proptest! {
    #[test]
    fn prefixes_lead_back_to_the_owner(id: [u8; 32]) {
        let id = OverlayId(id);
        prop_assert!(id.address().matches(&id) && id.handle().matches(&id) && id.checked_handle().matches(&id));
        prop_assert!(id.address().overlay_prefix().common_prefix(&id) >= 120);
        prop_assert!(id.handle().overlay_prefix().common_prefix(&id) >= 48);
        prop_assert!(id.checked_handle().overlay_prefix().common_prefix(&id) >= 88);
        prop_assert_eq!(id.address().to_string().parse(), Ok(id.address()));
        prop_assert_eq!(id.handle().to_string().parse(), Ok(id.handle()));
        prop_assert_eq!(id.checked_handle().to_string().parse(), Ok(id.checked_handle()));
        prop_assert_eq!(id.to_string().parse(), Ok(id));
    }

    /// Each abbreviation covers exactly its bits.
    #[test]
    fn a_flipped_bit_shows_in_exactly_the_forms_that_carry_it(id: [u8; 32], bit in 0usize..256) {
        let mut other = id;
        other[bit / 8] ^= 0x80 >> (bit % 8);
        let (id, other) = (OverlayId(id), OverlayId(other));
        prop_assert_eq!(id.handle().matches(&other), bit >= 48);
        prop_assert_eq!(id.checked_handle().matches(&other), bit >= 88);
        prop_assert_eq!(id.address().matches(&other), bit >= 120);
        prop_assert_eq!(usize::try_from(id.common_prefix(&other)).unwrap(), bit);
    }

    #[test]
    fn distance_is_a_metric_without_ties(a: [u8; 32], b: [u8; 32], c: [u8; 32]) {
        let (a, b, c) = (OverlayId(a), OverlayId(b), OverlayId(c));
        prop_assert_eq!(a.distance(&b), b.distance(&a));
        prop_assert_eq!(a.distance(&b) == Distance::ZERO, a == b);
        prop_assert_eq!(a.distance(&b) == a.distance(&c), b == c);
    }

    #[test]
    fn no_text_panics(text in "[0-9a-fA-F:.#a-z]{0,40}") {
        let _ = (text.parse::<Handle>(), text.parse::<CheckedHandle>(), text.parse::<Address>());
        let _ = (text.parse::<OverlayId>(), text.parse::<Hash>());
    }
}
