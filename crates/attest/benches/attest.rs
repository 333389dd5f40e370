//! What it costs to appraise each kind of evidence, envelope and binding included: strangers choose the bytes.
//!
//! `cargo bench -p comity-attest --all-features`

#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark that cannot set up its world fails by panicking"
)]

use std::hint::black_box;
use std::path::PathBuf;

use comity_core::{AgentId, Hash, Identity, Time};
use comity_trust::evidence::{Asked, Evidence, Verifiers};
use comity_trust::policy::Policy;
use criterion::{Criterion, criterion_group, criterion_main};

const NOW: Time = Time::from_secs(1_792_454_400);
const SESSION: Hash = Hash([7; 32]);
const ASKED: Asked<'static> = Asked { nonce: Hash([9; 32]), capability: "translate" };

fn vector(name: &str) -> Vec<u8> {
    std::fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name))
        .unwrap()
}

fn agent() -> Identity {
    Identity::from_secret_bytes(&[2; 32])
}

fn believing(policy: &str) -> Verifiers {
    let policy = Policy::parse(policy).unwrap();
    comity_attest::verifiers(policy.evidence(), &mut |name: &str| Ok(vector(name))).unwrap()
}

/// Whether it holds is not the question: what is refused at the last step costs as much.
fn appraise(verifiers: &Verifiers, sealed: &[u8], me: &AgentId, now: Time) -> bool {
    verifiers.appraise_asked(sealed, &SESSION, me, &ASKED, now).is_ok()
}

fn kinds(c: &mut Criterion) {
    let me = agent().id();
    let roots = "roots = \"trusted_root.json\"\nidentities = \"https://github.com/* https://token.actions.githubusercontent.com\"\n";
    let mut cases = vec![
        ("trace", "trace", String::new(), vec![0xa0], NOW),
        (
            "model signed with a key",
            "model-signing",
            "[evidence.model-signing]\nkeys = \"key.pem\"\n".to_owned(),
            vector("keyed-sha256.json"),
            NOW,
        ),
        (
            "build signed with a certificate",
            "provenance",
            format!("[evidence.provenance]\n{roots}"),
            vector("conformance/happy-path-intoto-in-dsse-v3.json"),
            NOW,
        ),
        (
            "63 KiB of brackets",
            "model-signing",
            "[evidence.model-signing]\nkeys = \"key.pem\"\n".to_owned(),
            b"{\"a\":[]},".repeat(8_000)[..63 * 1024].to_vec(),
            NOW,
        ),
    ];
    #[cfg(feature = "sev-snp")]
    {
        let report = data_encoding::HEXLOWER_PERMISSIVE
            .decode(vector("report_milan.hex").trim_ascii())
            .unwrap();
        let blob = comity_attest::pack("sev-snp", &report, &vector("vcek_milan.der")).unwrap();
        cases.push((
            "report of SEV-SNP",
            "sev-snp",
            "[evidence.sev-snp]\n".to_owned(),
            blob,
            Time::from_secs(1_704_067_200),
        ));
    }
    #[cfg(feature = "tdx")]
    {
        let collateral = vector("tdx_quote_collateral.json");
        let blob = comity_attest::pack("tdx", &vector("tdx_quote"), &collateral).unwrap();
        cases.push((
            "quote of TDX",
            "tdx",
            "[evidence.tdx]\n".to_owned(),
            blob,
            Time::from_secs(1_751_328_000),
        ));
    }
    cases.dedup_by_key(|case| case.0);
    let mut group = c.benchmark_group("appraise");
    group.sample_size(20);
    for (name, kind, policy, blob, now) in cases {
        let verifiers = believing(&policy);
        let evidence = Evidence::answering(&me, &SESSION, &ASKED, kind, blob, now);
        let sealed = evidence.seal(&agent()).unwrap();
        group.bench_function(name, |b| {
            b.iter(|| appraise(black_box(&verifiers), black_box(&sealed), &me, now));
        });
    }
    group.finish();
}

criterion_group!(benches, kinds);
criterion_main!(benches);
