//! The text forms of a key, against independent implementations and published examples.

use comity_core::text::{self, Form, TextError};
use comity_core::{AgentId, AgentIdTextError, Identity, KeyError};
use proptest::prelude::*;

use crate::vectors;

const FIELDS: [(Form, &str); 6] = [
    (Form::Hex, "key"),
    (Form::ZBase32, "zbase32"),
    (Form::PeerIdBase58, "peer_id_base58"),
    (Form::PeerIdCid, "peer_id_cid"),
    (Form::OnionV3, "onion_v3"),
    (Form::DidKey, "did_key"),
];

#[test]
fn every_form_agrees_with_an_independent_implementation() {
    for row in vectors::rows(&vectors::text_forms(), "keys") {
        let id = vectors::identity(row).id();
        for (form, field) in FIELDS {
            let expected = vectors::text(row, field);
            assert_eq!(id.to_text(form), expected, "{field} of {}", row["name"]);
            assert_eq!(form.decode(expected).as_ref(), Ok(id.as_bytes()));
            assert_eq!(Form::detect(expected), Some(form));
            assert_eq!(expected.parse(), Ok(id));
        }
        assert_eq!(id.to_string(), vectors::text(row, "zbase32"));
        assert_eq!(id.short(), vectors::text(row, "zbase32")[..8]);
    }
}

#[test]
fn published_examples_read_and_write() {
    for row in vectors::rows(&vectors::text_forms(), "published") {
        let (form, _) =
            FIELDS.into_iter().find(|(_, field)| *field == vectors::text(row, "form")).unwrap();
        let text = vectors::text(row, "text");
        let key = form.decode(text).unwrap();
        assert_eq!(key, vectors::bytes32(row, "key"), "{}", row["name"]);
        assert_eq!(form.encode(&key), text);
    }
}

#[test]
fn case_matters_only_where_the_form_says_so() {
    let id = Identity::from_secret_bytes(&[1; 32]).id();
    for form in [Form::Hex, Form::ZBase32, Form::OnionV3] {
        assert_eq!(id.to_text(form).to_uppercase().parse(), Ok(id), "{form:?}");
    }
    for form in [Form::PeerIdBase58, Form::PeerIdCid, Form::DidKey] {
        let upper = id.to_text(form).to_uppercase();
        assert!(form.decode(&upper).is_err() && upper.parse::<AgentId>().is_err(), "{form:?}");
    }
}

/// One key in a million has such a beginning.
#[test]
fn a_key_whose_z_base_32_begins_as_a_cid_does_is_read_as_what_it_is() {
    let key = text::zbase32_decode("bafzaajai8a3m9k15csu3q17qmfgqnp9dskbrg9uq1rydpyxp7qy").unwrap();
    for form in Form::ALL {
        let text = form.encode(&key);
        assert_eq!((Form::detect(&text), form.decode(&text)), (Some(form), Ok(key)), "{text}");
    }
}

#[test]
fn other_keys_and_versions_are_refused_by_name() {
    let sha256_peer_id = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N";
    assert!(matches!(text::peer_id_base58_decode(sha256_peer_id), Err(TextError::Prefix { .. })));
    let sha256_cid = "bafzbeie5745rpv2m6tjyuugywy4d5ewrqgqqhfnf445he3omzpjbx5xqxe";
    assert!(matches!(text::peer_id_cid_decode(sha256_cid), Err(TextError::Prefix { .. })));
    let x25519_did = "did:key:z6LSbysY2xFMRpGMhb7tFTLMpeuPRaqaWM1yECx2AtzE3KCc";
    assert!(matches!(text::did_key_decode(x25519_did), Err(TextError::Prefix { .. })));
    let with_fragment = "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK#z6MkhaXg";
    assert!(text::did_key_decode(with_fragment).is_err());
}

#[test]
fn an_onion_name_with_a_wrong_checksum_or_version_is_refused() {
    let key = [9; 32];
    let name = text::onion_v3_encode(&key);
    for index in 0..56 {
        let mut changed = name.clone().into_bytes();
        changed[index] = if changed[index] == b'a' { b'b' } else { b'a' };
        let changed = String::from_utf8(changed).unwrap();
        let error = text::onion_v3_decode(&changed).unwrap_err();
        let expected = if index < 54 { matches!(error, TextError::Checksum { .. }) } else { true };
        assert!(expected, "character {index}: {error}");
    }
    assert!(matches!(text::onion_v3_decode(&name[..56]), Err(TextError::Prefix { .. })));
}

#[test]
fn leftover_bits_are_refused() {
    let text = text::zbase32_encode(&[0; 32]);
    assert_eq!(text, "y".repeat(52));
    for last in "bndrfg8ejkmcpqxot1uwisza345h769".chars() {
        let spelled = format!("{}{last}", "y".repeat(51));
        let decoded = text::zbase32_decode(&spelled);
        // One of the last character's five bits belongs to the key.
        if last == 'o' {
            assert_eq!(decoded.map(|key| key[31]), Ok(1));
        } else {
            assert!(decoded.is_err(), "{spelled}");
        }
    }
}

#[test]
fn shapes_that_are_no_key_are_refused() {
    for text in
        ["", "#", "alice", "0:0000.0000.0000", "fd00::1", &"a".repeat(53), &"1".repeat(10_000)]
    {
        assert_eq!(text.parse::<AgentId>(), Err(AgentIdTextError::UnknownForm), "{text:.20}");
    }
    let long = format!("did:key:z{}", "1".repeat(100_000));
    let error = long.parse::<AgentId>().unwrap_err();
    assert!(
        matches!(error, AgentIdTextError::Text { source: TextError::TooLong { .. }, .. }),
        "{error:?}"
    );
    // The identity point, spelled well.
    let weak = format!("01{}", "00".repeat(31));
    assert_eq!(weak.parse::<AgentId>(), Err(AgentIdTextError::Key(KeyError::SmallOrder)));
}

#[test]
fn serde_is_the_text() {
    let id = Identity::from_secret_bytes(&[1; 32]).id();
    let json = serde_json::to_string(&id).unwrap();
    assert_eq!(json, format!("\"{id}\""));
    assert_eq!(serde_json::from_str::<AgentId>(&json).unwrap(), id);
    assert!(serde_json::from_str::<AgentId>("\"nobody\"").is_err());
    let escaped = format!("\"\\u00{:x}{}\"", id.to_string().as_bytes()[0], &id.to_string()[1..]);
    assert_eq!(serde_json::from_str::<AgentId>(&escaped).unwrap(), id);
}

proptest! {
    #[test]
    fn every_form_is_a_bijection_on_keys(key: [u8; 32]) {
        for form in Form::ALL {
            let text = form.encode(&key);
            prop_assert_eq!(form.decode(&text), Ok(key));
            prop_assert_eq!(Form::detect(&text), Some(form));
        }
    }

    /// Whatever decodes is what encodes, up to case.
    #[test]
    fn no_form_has_two_spellings(key: [u8; 32], at in 0usize..62, with in "[0-9a-zA-Z]") {
        for form in Form::ALL {
            let text = form.encode(&key);
            let at = at % text.len();
            let changed = format!("{}{with}{}", &text[..at], &text[at + 1..]);
            if let Ok(read) = form.decode(&changed) {
                prop_assert!(form.encode(&read).eq_ignore_ascii_case(&changed), "{} reads {}", form.name(), changed);
            }
        }
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,140}") {
        let _ = text.parse::<AgentId>();
        for form in Form::ALL {
            let _ = form.decode(&text);
        }
    }
}
