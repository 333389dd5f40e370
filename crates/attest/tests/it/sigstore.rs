//! Sigstore bundles: published ones hold by their roots, offline; every part of one, altered, does not.

use comity_core::Sha256Digest;
use comity_trust::evidence::{AppraisalError, Attackers, Claim, EvidenceError};
use data_encoding::BASE64;
use serde_json::{Value, json};

use crate::support::{NOW, believing, present, vector};

const WORKFLOW: &str = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main https://token.actions.githubusercontent.com";

fn builds(root: &str, identity: &str) -> String {
    format!("[evidence.provenance]\nroots = \"{root}\"\nidentities = \"{identity}\"\n")
}

fn why(error: &EvidenceError) -> String {
    if let EvidenceError::Refused { source, .. } = error {
        source.to_string()
    } else {
        error.to_string()
    }
}

/// Provenance by the public instance and by one with a root of its own.
#[test]
fn published_provenance_holds_by_its_root_and_by_no_other() {
    for (name, root, other) in [
        ("happy-path-intoto-in-dsse-v3", "trusted_root.json", "conformance/root.json"),
        ("intoto-with-custom-trust-root", "conformance/root.json", "trusted_root.json"),
    ] {
        let bundle = vector(&format!("conformance/{name}.json"));
        let appraisal =
            present(&believing(&builds(root, WORKFLOW)).unwrap(), "provenance", &bundle, NOW)
                .unwrap();
        let fact = &appraisal.facts[0];
        assert_eq!((fact.by.as_str(), fact.excludes), (WORKFLOW, Attackers::DISTRIBUTION));
        assert!(matches!(&fact.claim, Claim::Built { .. }), "{fact:?}");
        let unknown =
            present(&believing(&builds(other, WORKFLOW)).unwrap(), "provenance", &bundle, NOW);
        assert!(why(&unknown.unwrap_err()).contains("none of the trusted root"), "unknown root");
        for identity in
            [WORKFLOW.replace("/main", "/other"), WORKFLOW.replace("githubusercontent", "example")]
        {
            let refused =
                present(&believing(&builds(root, &identity)).unwrap(), "provenance", &bundle, NOW);
            assert!(why(&refused.unwrap_err()).contains("whom `identities` does not name"));
        }
        let tags = WORKFLOW.replace("refs/heads/main ", "refs/* ");
        assert!(
            present(&believing(&builds(root, &tags)).unwrap(), "provenance", &bundle, NOW).is_ok()
        );
    }
}

/// The conformance suite's bundles that clients must refuse.
#[test]
fn what_a_client_must_refuse_is_refused_for_its_reason() {
    for (name, root, reason) in [
        ("dsse-invalid-sig_fail", "trusted_root.json", "another body, signature or certificate"),
        (
            "dsse-mismatch-envelope_fail",
            "trusted_root.json",
            "another body, signature or certificate",
        ),
        ("dsse-mismatch-sig_fail", "trusted_root.json", "another body, signature or certificate"),
        ("intoto-expired-certificate_fail", "conformance/root.json", "was not valid when"),
        (
            "intoto-log-entry-mismatch_fail",
            "conformance/root.json",
            "the signature in the log's entry",
        ),
        (
            "intoto-missing-inclusion-proof_fail",
            "conformance/root.json",
            "does not prove that the log has",
        ),
        (
            "intoto-set-outside-signing-cert-validity_fail",
            "conformance/root.json",
            "was not valid when",
        ),
        // A log of the second generation: its time is a timestamp authority's.
        ("rekor2-dsse-happy-path", "trusted_root.json", "are not read"),
    ] {
        let bundle = vector(&format!("conformance/{name}.json"));
        let believed = believing(&builds(root, WORKFLOW)).unwrap();
        let refused = present(&believed, "provenance", &bundle, NOW).unwrap_err();
        assert!(why(&refused).contains(reason), "{name}: {}", why(&refused));
    }
}

/// The policy that believes whoever signed the sample model; who that is, its certificate says.
fn signed_model() -> (Vec<u8>, String) {
    let bundle = vector("model.sigstore.json");
    let policy = |identity: &str| {
        format!(
            "[evidence.model-signing]\nroots = \"trusted_root.json\"\nidentities = \"{identity}\"\n"
        )
    };
    let nobody = believing(&policy("nobody@example.com https://example.com")).unwrap();
    let refused = why(&present(&nobody, "model-signing", &bundle, NOW).unwrap_err());
    let signer = refused.split("signed by ").nth(1).unwrap().split(',').next().unwrap();
    (bundle, policy(signer))
}

#[test]
fn a_published_model_signature_holds() {
    let (bundle, policy) = signed_model();
    let believed = believing(&policy).unwrap();
    let appraisal = present(&believed, "model-signing", &bundle, NOW).unwrap();
    let digest = "sha256:61d4849d9d90076d6215f4d525f13d6574af8e3f67aef3e6f36fc40a14fdd226";
    let digest: Sha256Digest = digest.parse().unwrap();
    let claim = Claim::ModelSigned { name: "v1.1.0-sigstore".into(), digest, files: 2 };
    assert_eq!(appraisal.facts[0].claim, claim);
    assert!(appraisal.names().contains(&format!("model-signing={digest}")));

    // Only this model, or only another.
    let accepting = |digest: &str| format!("{policy}accept = \"{digest}\"\n");
    let only = believing(&accepting(&digest.to_string())).unwrap();
    assert!(present(&only, "model-signing", &bundle, NOW).is_ok());
    let other = believing(&accepting(&format!("sha256:{}", "00".repeat(32)))).unwrap();
    let refused = present(&other, "model-signing", &bundle, NOW).unwrap_err();
    assert!(matches!(
        refused,
        EvidenceError::Refused { source: AppraisalError::Unaccepted { accepted: 1, .. }, .. }
    ));
    // Before the log took it in, it had not.
    let early = comity_core::Time::from_secs(1_700_000_000);
    assert!(
        why(&present(&believed, "model-signing", &bundle, early).unwrap_err()).contains("future")
    );
}

/// One change to each part of a bundle that holds: none goes unnoticed.
#[test]
fn every_part_of_a_bundle_matters() {
    let (bundle, policy) = signed_model();
    let believed = believing(&policy).unwrap();
    let whole: Value = serde_json::from_slice(&bundle).unwrap();
    let entry = "/verificationMaterial/tlogEntries/0";
    let flipped = |text: &str| {
        let mut bytes = BASE64.decode(text.as_bytes()).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        json!(BASE64.encode(&bytes))
    };
    for (path, reason) in [
        ("/verificationMaterial/certificate/rawBytes", "another body, signature or certificate"),
        ("/dsseEnvelope/payload", "another body, signature or certificate"),
        ("/dsseEnvelope/signatures/0/sig", "another body, signature or certificate"),
        (&format!("{entry}/inclusionPromise/signedEntryTimestamp"), "promise is not signed"),
        (&format!("{entry}/inclusionProof/rootHash"), "does not lead from the entry"),
        (&format!("{entry}/inclusionProof/hashes/3"), "does not lead from the entry"),
        (&format!("{entry}/logId/keyId"), "none of the trusted root"),
    ] {
        let mut altered = whole.clone();
        let at = altered.pointer_mut(path).unwrap_or_else(|| panic!("{path}"));
        *at = flipped(at.as_str().unwrap());
        let refused = present(&believed, "model-signing", altered.to_string().as_bytes(), NOW);
        assert!(why(&refused.unwrap_err()).contains(reason), "{path}");
    }
    for (path, value, reason) in [
        (
            "/mediaType",
            json!("application/vnd.dev.sigstore.bundle+json;version=0.1"),
            "another version",
        ),
        ("/verificationMaterial/tlogEntries", json!([]), "nobody says when"),
        (&format!("{entry}/integratedTime"), json!("1760062341"), "promise is not signed"),
        (&format!("{entry}/integratedTime"), Value::Null, "are not read"),
        (&format!("{entry}/inclusionPromise"), Value::Null, "are not read"),
        (&format!("{entry}/inclusionProof"), Value::Null, "does not prove"),
        (&format!("{entry}/logIndex"), json!("598151087"), "promise is not signed"),
        (&format!("{entry}/logIndex"), json!("-1"), "a number is none, or negative"),
        (&format!("{entry}/inclusionProof/logIndex"), json!("476246823"), "does not lead"),
        (&format!("{entry}/inclusionProof/treeSize"), json!("476246826"), "does not lead"),
        (&format!("{entry}/inclusionProof/hashes"), json!(vec!["AAAA"; 64]), "more than 63"),
        (&format!("{entry}/kindVersion/version"), json!("0.0.2"), "another kind"),
        (&format!("{entry}/inclusionProof/checkpoint/envelope"), json!("x\n1\n"), "no signed note"),
        ("/dsseEnvelope/payloadType", json!("text/plain"), "text/plain"),
        ("/verificationMaterial/certificate", Value::Null, "neither a key nor a certificate"),
    ] {
        let mut altered = whole.clone();
        *altered.pointer_mut(path).unwrap() = value;
        let refused = present(&believed, "model-signing", altered.to_string().as_bytes(), NOW);
        let refused = why(&refused.unwrap_err());
        assert!(refused.contains(reason), "{path}: {refused}");
    }
    // The checkpoint: another size, another log's hint, no signature.
    let path = format!("{entry}/inclusionProof/checkpoint/envelope");
    let note = whole.pointer(&path).unwrap().as_str().unwrap();
    let (head, signature) = note.rsplit_once(' ').unwrap();
    let mut bytes = BASE64.decode(signature.trim_end().as_bytes()).unwrap();
    bytes[0] ^= 1;
    for other in [
        note.replace("476246825", "476246826"),
        format!("{head} {}\n", BASE64.encode(&bytes)),
        note.replace('\u{2014}', "-"),
    ] {
        let mut altered = whole.clone();
        *altered.pointer_mut(&path).unwrap() = json!(other);
        let refused = present(&believed, "model-signing", altered.to_string().as_bytes(), NOW);
        assert!(why(&refused.unwrap_err()).contains("not signed by the log"), "{other}");
    }
}

#[test]
fn bundles_signed_with_keys_hold_by_the_key_alone() {
    let keyed = believing("[evidence.model-signing]\nkeys = \"key.pem\"\n").unwrap();
    let appraisal = present(&keyed, "model-signing", &vector("keyed-sha256.json"), NOW).unwrap();
    assert_eq!(appraisal.facts[0].by, "key.pem");
    let shards = present(&keyed, "model-signing", &vector("keyed-shards.json"), NOW).unwrap();
    assert!(matches!(shards.facts[0].claim, Claim::ModelSigned { .. }));
    // A manifest is no provenance, and a key vouches for no certificate.
    let builds = believing("[evidence.provenance]\nkeys = \"key.pem\"\n").unwrap();
    let refused = present(&builds, "provenance", &vector("keyed-sha256.json"), NOW).unwrap_err();
    assert!(why(&refused).contains("not SLSA provenance"));
    let refused =
        present(&keyed, "model-signing", &vector("model.sigstore.json"), NOW).unwrap_err();
    assert!(why(&refused).contains("names no trusted root"));
    // A wrong digest in a manifest that was never signed so.
    let mut bundle: Value = serde_json::from_slice(&vector("keyed-sha256.json")).unwrap();
    let body =
        BASE64.decode(bundle["dsseEnvelope"]["payload"].as_str().unwrap().as_bytes()).unwrap();
    let body = String::from_utf8(body).unwrap().replace("f6310066", "00000000");
    bundle["dsseEnvelope"]["payload"] = json!(BASE64.encode(body.as_bytes()));
    let refused = present(&keyed, "model-signing", bundle.to_string().as_bytes(), NOW).unwrap_err();
    assert!(why(&refused).contains("no signature by a trusted key"));
}

#[test]
fn policies_that_would_believe_nobody_are_refused_with_the_remedy() {
    for (policy, reason) in [
        ("[evidence.model-signing]\nroots = \"trusted_root.json\"\n", "identities"),
        ("[evidence.model-signing]\nidentities = \"a@b https://c\"\n", "roots"),
        (
            "[evidence.model-signing]\nroots = \"key.pem\"\nidentities = \"a https://c\"\n",
            "no root of trust",
        ),
        (
            "[evidence.model-signing]\nroots = \"trusted_root.json\"\nidentities = \"a@b\"\n",
            "names nobody",
        ),
        (
            "[evidence.model-signing]\nroots = \"trusted_root.json\"\nidentities = \"* https://c\"\n",
            "names nobody",
        ),
        ("[evidence.provenance]\nkeys = \"none.pem\"\n", "cannot be read"),
        ("[evidence.provenance]\nkeys = \"trusted_root.json\"\n", "no keys"),
        ("[evidence.trace]\nkeys = \"key.pem\"\n", "no use for `keys`"),
    ] {
        let refused = believing(policy).unwrap_err().to_string();
        assert!(refused.contains(reason), "{policy}: {refused}");
    }
}
