//! Whatever strangers send: read or refused, never a panic, and nothing that was altered holds.

use std::sync::LazyLock;

use comity_trust::evidence::Verifiers;
use proptest::prelude::*;

use crate::support::{NOW, believing, present, vector};

static BELIEVED: LazyLock<Verifiers> = LazyLock::new(|| {
    let policy = "[evidence.model-signing]\nkeys = \"key.pem\"\nroots = \"trusted_root.json\"\nidentities = \"a@b https://c\"\n[evidence.provenance]\nkeys = \"key.pem\"\n";
    believing(policy).unwrap()
});
static KEYED: LazyLock<Vec<u8>> = LazyLock::new(|| vector("keyed-sha256.json"));

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(blob in proptest::collection::vec(any::<u8>(), 0..400)) {
        for kind in ["model-signing", "provenance", "trace"] {
            let _ = present(&BELIEVED, kind, &blob, NOW);
        }
    }

    #[test]
    fn no_cut_or_flip_of_a_bundle_says_something_else(at in any::<prop::sample::Index>(), bit in 0_u32..8, cut in any::<bool>()) {
        let good = present(&BELIEVED, "model-signing", &KEYED, NOW).unwrap().facts;
        let mut bytes = KEYED.clone();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] ^= 1_u8 << bit }
        // What is not signed, such as a field nobody reads, may change; what is said may not.
        if let Ok(appraisal) = present(&BELIEVED, "model-signing", &bytes, NOW) {
            prop_assert_eq!(appraisal.facts, good);
        }
    }

    #[test]
    fn trusted_roots_are_read_or_refused(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = vector("trusted_root.json");
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = comity_attest::sigstore::TrustedRoot::read("root", &bytes);
    }
}
