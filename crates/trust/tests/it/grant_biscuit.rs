//! Some hundred cases of the comparison with Biscuit; `cargo run --release -p comity-trust --example biscuit_diff -- 100000` does more.

use crate::biscuit::compare;

#[test]
fn random_chains_are_decided_as_biscuit_decides_them() {
    let tally = compare(600, 7).unwrap_or_else(|difference| panic!("{difference}"));
    assert!(tally.allowed >= 60 && tally.refused >= 60, "both happen: {tally:?}");
    for reason in [
        "grant-not-holder",
        "grant-capability",
        "grant-expired",
        "grant-level",
        "grant-too-deep",
        "grant-revoked",
        "grant-wrong-signer",
        "grant-evidence",
        "grant-not-yet",
        "grant-not-a-delegate",
        "descriptor-changed",
    ] {
        assert!(tally.reasons.contains_key(reason), "no case of {reason}: {tally:?}");
    }
}
