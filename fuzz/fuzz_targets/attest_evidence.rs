//! Evidence of outsiders: bundles, statements, trusted roots, quotes. Read or refused, and what was altered says nothing else.
#![no_main]

use std::collections::BTreeSet;
use std::sync::LazyLock;

use arbitrary::Arbitrary;
use comity_attest::sigstore::TrustedRoot;
use comity_attest::{Authorities, MAX_BUNDLE, SignedBuilds, SignedModels, SnpReports, TdxQuotes, pack};
use comity_core::{Hash, Time};
use comity_fuzz::{Edit, NOW, edited, identity};
use comity_trust::evidence::{Asked, Disclosure, DsseParts, Evidence, SignedModel, TrustedKeys, Verifiers, build_claims, check_json};
use libfuzzer_sys::fuzz_target;

const KEY: &str = include_str!("../../crates/attest/tests/vectors/key.pem");
const KEYED: &[u8] = include_bytes!("../../crates/attest/tests/vectors/keyed-sha256.json");
const CERTIFIED: &[u8] = include_bytes!("../../crates/attest/tests/vectors/conformance/happy-path-intoto-in-dsse-v3.json");
const ROOT: &[u8] = include_bytes!("../../crates/attest/tests/vectors/trusted_root.json");
const VCEK: &[u8] = include_bytes!("../../crates/attest/tests/vectors/vcek_milan.der");
const REPORT: &[u8] = include_bytes!("../../crates/attest/tests/vectors/report_milan.hex");
const QUOTE: &[u8] = include_bytes!("../../crates/attest/tests/vectors/tdx_quote");
const COLLATERAL: &[u8] = include_bytes!("../../crates/attest/tests/vectors/tdx_quote_collateral.json");
/// While the samples' certificates and collateral were valid: 2025-07-01.
const THEN: Time = Time::from_secs(1_751_328_000);

#[derive(Arbitrary, Debug)]
struct Input {
    which: u8,
    edits: Vec<Edit>,
    raw: Vec<u8>,
}

fn believed() -> Authorities {
    let mut keys = TrustedKeys::new();
    keys.add_pem("key", KEY).expect("a key");
    let root = TrustedRoot::read("root", ROOT).expect("a root");
    let whom = "https://github.com/* https://token.actions.githubusercontent.com".parse().expect("an identity");
    Authorities { keys, roots: vec![root], identities: vec![whom] }
}

static VERIFIERS: LazyLock<Verifiers> = LazyLock::new(|| {
    Verifiers::new()
        .with(SignedModels::new(believed(), BTreeSet::new()))
        .with(SignedBuilds::new(believed(), BTreeSet::new()))
        .with(SnpReports::default())
        .with(TdxQuotes::new(BTreeSet::new()))
});
static BELIEVED: LazyLock<Authorities> = LazyLock::new(believed);
static SNP: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let hex = String::from_utf8_lossy(REPORT);
    let digit = |at: usize| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap_or_default();
    let report: Vec<u8> = (0..hex.trim().len() / 2).map(digit).collect();
    pack("sev-snp", &report, VCEK).expect("it fits")
});
static TDX: LazyLock<Vec<u8>> = LazyLock::new(|| pack("tdx", QUOTE, COLLATERAL).expect("it fits"));

fuzz_target!(|input: Input| {
    let raw = &input.raw;
    let _ = TrustedRoot::read("root", raw);
    let _ = DsseParts::read(raw);
    let _ = Disclosure::from_bytes(raw).map(|disclosed| disclosed.verify(&Hash::of(b"root")));
    let _ = (SignedModel::read(raw), build_claims(raw), check_json(raw, MAX_BUNDLE));
    let (kind, sample) = match input.which % 5 {
        0 => ("model-signing", KEYED),
        1 => ("provenance", CERTIFIED),
        2 => ("sev-snp", &SNP[..]),
        3 => ("tdx", &TDX[..]),
        _ => ("model-signing", &raw[..]),
    };
    let blob = edited(sample, raw, &input.edits);
    if let (Ok(changed), Ok(whole)) = (
        BELIEVED.open(&blob, MAX_BUNDLE, NOW),
        BELIEVED.open(sample, MAX_BUNDLE, NOW),
    ) {
        assert_eq!(changed, whole, "an edited bundle says something else");
    }
    let (agent, session) = (identity(1), Hash::of(b"session"));
    let asked = Asked { nonce: Hash::of(b"nonce"), capability: "x" };
    let evidence = Evidence::answering(&agent.id(), &session, &asked, kind, blob, THEN);
    let Ok(sealed) = evidence.seal(agent) else { return };
    let appraised = VERIFIERS.appraise_asked(&sealed, &session, &agent.id(), &asked, THEN);
    // No sample was made for this session.
    assert!(appraised.is_err() || matches!(kind, "model-signing" | "provenance"));
});
