//! Evidence: bound to its session, appraised into facts. Threats T7 and T28; samples made by independent programs.

use comity_core::{Hash, Kind, Sha256Digest};
use comity_trust::evidence::{
    Appraisal, AppraisalError, Asked, Attackers, Claim, Disclosure, DsseError, Evidence,
    EvidenceError, MAX_BLOB, MAX_JSON_DEPTH, ModelSigning, Presented, Provenance, Trace,
    TraceCommitments, TraceError, TrustedKeys, Verifiers, bind, bind_asked, check_json,
};
use serde_json::Value;

use crate::common::{HOUR, NOW, agent, no_flip_opens, opens_as_another, respelled, secs};

const AGENT: u8 = 2;
const EVE: u8 = 66;

fn sid(n: u8) -> Hash {
    Hash::of(&[n])
}

fn sealed(kind: &str, blob: &[u8]) -> Vec<u8> {
    Evidence::new(&agent(AGENT).id(), &sid(1), kind, blob.to_vec(), NOW)
        .seal(&agent(AGENT))
        .unwrap()
}

fn vectors() -> Value {
    serde_json::from_str(include_str!("../vectors/dsse.json")).unwrap()
}

fn keys(pem: &str) -> TrustedKeys {
    let mut keys = TrustedKeys::new();
    keys.add_pem("trusted", pem).unwrap();
    keys
}

fn appraise(verifiers: &Verifiers, bytes: &[u8]) -> Result<Appraisal, EvidenceError> {
    verifiers.appraise(bytes, &sid(1), &agent(AGENT).id(), NOW)
}

fn trace() -> Trace {
    Trace::new([7; 32], vec![b"looked up".to_vec(), b"compared".to_vec(), b"answered".to_vec()])
        .unwrap()
}

#[test]
fn bindings_are_the_hash_of_session_key_and_kind() {
    let [sid, key] = [sid(1), Hash(*agent(AGENT).id().as_bytes())];
    let expected = Hash::of(&[&sid.0[..], &key.0[..], b"tdx"].concat());
    assert_eq!(bind(&sid, &agent(AGENT).id(), "tdx"), expected);
}

/// T7 and T28: yesterday's evidence, another agent's, and evidence of another session.
#[test]
fn replayed_and_relayed_evidence_is_refused() {
    let verifiers = Verifiers::new().with(TraceCommitments);
    let bytes = sealed("trace", &trace().commitment());
    assert!(appraise(&verifiers, &bytes).is_ok());
    let me = agent(AGENT).id();
    let other_session = verifiers.appraise(&bytes, &sid(2), &me, NOW).unwrap_err();
    assert!(matches!(other_session, EvidenceError::Binding));
    let relayed = verifiers.appraise(&bytes, &sid(1), &agent(EVE).id(), NOW).unwrap_err();
    assert!(matches!(relayed, EvidenceError::Agent { .. }));
    // Eve signs what she saw, for her own session.
    let copied = Evidence {
        binds: bind(&sid(1), &me, "trace"),
        ..Evidence::new(&agent(EVE).id(), &sid(1), "trace", trace().commitment(), NOW)
    };
    let copied = copied.seal(&agent(EVE)).unwrap();
    let refused = verifiers.appraise(&copied, &sid(1), &agent(EVE).id(), NOW).unwrap_err();
    assert!(matches!(refused, EvidenceError::Binding));
    for now in [NOW + secs(24 * HOUR + 1), NOW - secs(121)] {
        assert!(matches!(
            verifiers.appraise(&bytes, &sid(1), &me, now),
            Err(EvidenceError::Age { .. })
        ));
    }
    let unread = appraise(&verifiers, &sealed("tdx", b"quote")).unwrap_err();
    assert!(unread.to_string().contains("there are trace"), "{unread}");
}

#[test]
fn evidence_stands_the_attacks_on_envelopes() {
    let bytes = [sealed("trace", &trace().commitment()), sealed("x", b"blob")];
    let open = |bytes: &[u8]| Presented::open(bytes, &sid(1), &agent(AGENT).id(), NOW).is_ok();
    no_flip_opens("evidence", &bytes, open);
    assert!(!opens_as_another::<Evidence>(Kind::Evidence, &bytes[0]));
    assert!(!respelled(&bytes[0]).iter().any(|bytes| open(bytes)));
}

#[test]
fn a_trace_is_committed_now_and_disclosed_later_step_by_step() {
    let appraisal =
        appraise(&Verifiers::new().with(TraceCommitments), &sealed("trace", &trace().commitment()))
            .unwrap();
    let [fact] = appraisal.facts.as_slice() else { panic!("one fact") };
    let root = trace().root();
    assert_eq!(fact.claim, Claim::TraceCommitted { root, steps: 3 });
    assert_eq!(fact.excludes, Attackers::HINDSIGHT);
    for (index, step) in [b"looked up".as_slice(), b"compared", b"answered"].into_iter().enumerate()
    {
        let disclosed = trace().disclose(u32::try_from(index).unwrap()).unwrap();
        assert_eq!((disclosed.verify(&root), disclosed.step.as_slice()), (Ok(()), step));
        let mut changed = disclosed.clone();
        changed.step = b"thought of nothing".to_vec();
        assert_eq!(changed.verify(&root), Err(TraceError::Changed));
        let moved = (disclosed.index + 1) % 3;
        assert!(Disclosure { index: moved, ..disclosed }.verify(&root).is_err());
    }
    // Equal steps have unequal leaves: what is not disclosed cannot be guessed at.
    let same =
        Trace::new([7; 32], vec![b"x".to_vec(), b"x".to_vec()]).unwrap().disclose(0).unwrap();
    let other = Trace::new([7; 32], vec![b"x".to_vec(), b"x".to_vec()]).unwrap();
    let other = other.disclose(1).unwrap();
    assert_ne!(same.path, other.path);
    assert_eq!(Trace::new([0; 32], Vec::new()).unwrap_err(), TraceError::Steps { count: 0 });
    assert_eq!(trace().disclose(3).unwrap_err(), TraceError::NoStep { index: 3 });
}

#[test]
fn provenance_of_a_trusted_builder_is_a_fact() {
    let vectors = vectors();
    for case in vectors["cases"].as_array().unwrap() {
        let envelope = case["envelope"].as_str().unwrap();
        let verifiers =
            Verifiers::new().with(Provenance::new(keys(case["public_key"].as_str().unwrap())));
        let appraisal = appraise(&verifiers, &sealed("provenance", envelope.as_bytes())).unwrap();
        let claim = Claim::Built {
            name: "specialist-rates".into(),
            digest: Sha256Digest::of(b"artifact"),
            builder: "https://example.net/builder/hardened".into(),
            build_type: "https://example.net/build/cargo/v1".into(),
        };
        assert_eq!(appraisal.facts[0].claim, claim, "{}", case["alg"]);
        assert_eq!(
            (appraisal.facts[0].by.as_str(), appraisal.facts[0].excludes),
            ("trusted", Attackers::DISTRIBUTION)
        );
        assert_eq!(appraisal.excluding(Attackers::SOFTWARE), None);
    }
}

#[test]
fn altered_and_untrusted_envelopes_are_refused() {
    let vectors = vectors();
    let cases = vectors["cases"].as_array().unwrap();
    let (ed25519, p256) = (&cases[0], &cases[1]);
    let verifiers = |case: &Value| {
        Verifiers::new().with(Provenance::new(keys(case["public_key"].as_str().unwrap())))
    };
    let crossed = sealed("provenance", p256["envelope"].as_str().unwrap().as_bytes());
    let refused = appraise(&verifiers(ed25519), &crossed).unwrap_err();
    assert!(matches!(
        refused,
        EvidenceError::Refused {
            source: AppraisalError::Dsse(DsseError::Untrusted { trusted: 1 }),
            ..
        }
    ));
    let none = Verifiers::new().with(Provenance::new(TrustedKeys::new()));
    assert!(appraise(&none, &crossed).is_err());
    for case in cases {
        let envelope: Value = serde_json::from_str(case["envelope"].as_str().unwrap()).unwrap();
        for (field, other) in [
            ("payload", Value::from("e30=")),
            ("payloadType", Value::from("text/plain")),
            ("signatures", Value::Array(Vec::new())),
            ("signatures", serde_json::json!([{ "sig": "AAAA" }])),
        ] {
            let mut altered = envelope.clone();
            altered[field] = other;
            let bytes = sealed("provenance", altered.to_string().as_bytes());
            assert!(appraise(&verifiers(case), &bytes).is_err(), "{field}");
        }
    }
}

#[test]
fn models_signed_by_the_reference_implementation_are_facts() {
    let vectors = vectors();
    let sample = &vectors["model_signing"];
    let verifiers =
        Verifiers::new().with(ModelSigning::new(keys(sample["public_key"].as_str().unwrap())));
    let bundle = sample["bundle"].as_str().unwrap();
    let appraisal = appraise(&verifiers, &sealed("model-signing", bundle.as_bytes())).unwrap();
    let digest =
        "sha256:3d201cc322e4c95246fc7d405165176c10997109aa8f14a37a0c4aa4833df906".parse().unwrap();
    assert_eq!(
        appraisal.facts[0].claim,
        Claim::ModelSigned { name: "model".into(), digest, files: 3 }
    );
    let certified = bundle.replace("\"publicKey\":{", "\"certificate\":{");
    let refused = appraise(&verifiers, &sealed("model-signing", certified.as_bytes())).unwrap_err();
    assert!(
        matches!(refused, EvidenceError::Refused { source: AppraisalError::Nothing(_), .. }),
        "{refused:?}"
    );
    // One changed byte anywhere in the signed manifest.
    let mut flipped = bundle.to_owned();
    let at = flipped.find("payload\":\"").unwrap() + 40;
    let other = if &flipped[at..=at] == "A" { "B" } else { "A" };
    flipped.replace_range(at..=at, other);
    assert!(appraise(&verifiers, &sealed("model-signing", flipped.as_bytes())).is_err());
}

#[test]
fn key_files_are_read_or_refused_by_name() {
    let mut keys = TrustedKeys::new();
    let refused = keys.add_pem("builders.pem", "no key").unwrap_err();
    assert!(
        refused.to_string().contains("builders.pem")
            && refused.to_string().contains("BEGIN PUBLIC KEY")
    );
    let rsa = "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkq\n-----END PUBLIC KEY-----\n";
    assert!(keys.add_pem("rsa.pem", rsa).unwrap_err().to_string().contains("public key 1"));
    let vectors = vectors();
    let both: String = vectors["cases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|case| case["public_key"].as_str().unwrap())
        .collect();
    keys.add_pem("both.pem", &both).unwrap();
    assert_eq!(keys.len(), 2);
}

#[test]
fn attackers_are_written_by_name() {
    let some = Attackers::SOFTWARE.and(Attackers::HINDSIGHT);
    assert_eq!(some.to_string(), "hindsight+remote-software+co-tenant+operator-software");
    assert_eq!(some.to_string().parse(), Ok(some));
    assert_eq!("none".parse(), Ok(Attackers::NONE));
    assert!("everybody".parse::<Attackers>().is_err());
}

/// A signer's hint picks its key out of many.
#[test]
fn signatures_that_name_their_key_are_tried_on_it() {
    let vectors = vectors();
    let sample = &vectors["model_signing"];
    let mut many = TrustedKeys::new();
    for _ in 0..10 {
        many.add_pem("others", vectors["cases"][1]["public_key"].as_str().unwrap()).unwrap();
    }
    many.add_pem("signer", sample["public_key"].as_str().unwrap()).unwrap();
    let verifiers = Verifiers::new().with(ModelSigning::new(many));
    let bundle = sample["bundle"].as_str().unwrap();
    let appraisal = appraise(&verifiers, &sealed("model-signing", bundle.as_bytes())).unwrap();
    assert_eq!(appraisal.facts[0].by, "signer");
}

/// A step proves itself in a trace of any size, at its own place alone, and in one form alone.
#[test]
fn disclosures_hold_at_every_place_of_every_tree() {
    for count in [1_usize, 2, 3, 5, 8, 13, 33] {
        let steps: Vec<Vec<u8>> = (0..count).map(|n| format!("step {n}").into_bytes()).collect();
        let trace = Trace::new([9; 32], steps.clone()).unwrap();
        for (index, step) in steps.iter().enumerate() {
            let disclosed = trace.disclose(u32::try_from(index).unwrap()).unwrap();
            assert_eq!(disclosed.verify(&trace.root()), Ok(()), "{index} of {count}");
            assert_eq!(&disclosed.step, step);
            let bytes = disclosed.to_bytes();
            assert_eq!(Disclosure::from_bytes(&bytes).unwrap(), disclosed);
            assert!(Disclosure::from_bytes(&[&bytes[..], b"x"].concat()).is_err());
            for other in 0..trace.count() + 1 {
                let moved = Disclosure { index: other, ..disclosed.clone() };
                assert_eq!(moved.verify(&trace.root()).is_ok(), other == disclosed.index);
            }
            for steps in [disclosed.steps - 1, disclosed.steps + 1, u32::MAX] {
                let other = Disclosure { steps, ..disclosed.clone() };
                assert!(other.verify(&trace.root()).is_err(), "{steps} for {count}");
            }
            let mut longer = disclosed.clone();
            longer.path.push(Hash([0; 32]));
            assert_eq!(longer.verify(&trace.root()), Err(TraceError::Changed));
        }
    }
}

/// What was asked for is bound to the question too: an answer to another nonce, or for another capability, shows nothing.
#[test]
fn evidence_answers_one_question_alone() {
    let verifiers = Verifiers::new().with(TraceCommitments);
    let (me, nonce) = (agent(AGENT).id(), Hash::of(b"nonce"));
    let asked = Asked { nonce, capability: "weather" };
    let answer = |asked: &Asked<'_>| {
        Evidence::answering(&me, &sid(1), asked, "trace", trace().commitment(), NOW)
            .seal(&agent(AGENT))
            .unwrap()
    };
    let bytes = answer(&asked);
    let appraisal = verifiers.appraise_asked(&bytes, &sid(1), &me, &asked, NOW).unwrap();
    assert_eq!(appraisal.names(), ["trace".to_owned(), format!("trace={}", trace().root())]);
    let stale = Asked { nonce: Hash::of(b"yesterday"), ..asked };
    let other = Asked { capability: "pay", ..asked };
    for asked in [stale, other] {
        let refused = verifiers.appraise_asked(&bytes, &sid(1), &me, &asked, NOW).unwrap_err();
        assert!(matches!(refused, EvidenceError::Binding), "{refused}");
    }
    let refused = verifiers.appraise_asked(&bytes, &sid(2), &me, &asked, NOW).unwrap_err();
    assert!(matches!(refused, EvidenceError::Binding));
    // Evidence of the session as such answers no question, and the other way round.
    let unasked = sealed("trace", &trace().commitment());
    assert!(verifiers.appraise_asked(&unasked, &sid(1), &me, &asked, NOW).is_err());
    assert!(matches!(appraise(&verifiers, &bytes), Err(EvidenceError::Binding)));
    // Kinds and capabilities do not run into each other.
    let split = |kind, capability| bind_asked(&sid(1), &me, kind, &Asked { nonce, capability });
    assert_ne!(split("tdx", "x"), split("td", "xx"));
}

#[test]
fn json_of_strangers_is_measured_before_it_is_read() {
    let deep = |n: usize| [vec![b'['; n], vec![b']'; n]].concat();
    assert!(check_json(&deep(MAX_JSON_DEPTH), 1000).is_ok());
    assert!(check_json(&deep(MAX_JSON_DEPTH + 1), 1000).is_err());
    assert!(check_json(&deep(10), 19).is_err());
    let text = format!("[\"{}\\\"{}\"]", "[".repeat(100), "{".repeat(100));
    assert!(check_json(text.as_bytes(), 1000).is_ok(), "brackets in text are text");
    let verifiers = Verifiers::new()
        .with(ModelSigning::new(TrustedKeys::new()))
        .with(Provenance::new(TrustedKeys::new()));
    for kind in ["model-signing", "provenance"] {
        let blob = [b"{\"x\":".to_vec(), deep(10_000), b"}".to_vec()].concat();
        let refused = appraise(&verifiers, &sealed(kind, &blob)).unwrap_err();
        assert!(
            matches!(&refused, EvidenceError::Refused { source: AppraisalError::Malformed(why), .. } if why.contains("nested")),
            "{refused:?}"
        );
    }
    let long = Evidence::new(&agent(AGENT).id(), &sid(1), "trace", vec![0; MAX_BLOB + 1], NOW);
    assert!(matches!(long.seal(&agent(AGENT)), Err(EvidenceError::TooLong { .. })));
}
