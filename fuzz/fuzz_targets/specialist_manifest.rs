//! Manifests: what is read is written and read again the same, checking never fails, and what is declared can be published.
#![no_main]

use comity_capability::record::{Digest, Record, Visibility};
use comity_core::{Canonical, Hash};
use comity_fuzz::{NOW, identity, properties};
use comity_specialist::manifest::{MAX_DECLARATION_BYTES, Manifest, check, declare};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for manifest in [Manifest::from_toml(text), Manifest::from_json(text)] {
        match manifest {
            Ok(manifest) => of_manifest(&manifest),
            Err(problem) => assert!(!problem.is_empty()),
        }
    }
});

fn of_manifest(manifest: &Manifest) {
    let json = serde_json::to_string(manifest).expect("JSON");
    assert_eq!(Manifest::from_json(&json).as_ref(), Ok(manifest), "{json}");
    for finding in check(manifest) {
        assert!(!finding.to_string().is_empty() && !finding.fix.is_empty(), "{finding:?}");
    }
    let Ok(declaration) = declare(manifest, None) else { return };
    let capability = declaration.capability;
    capability.check().expect("what is declared is within its limits");
    assert!(Canonical::encode(&capability).len() <= MAX_DECLARATION_BYTES);
    let mut record = Record::new(1, NOW, NOW, Hash([0; 32]));
    record.capabilities = vec![capability.clone()];
    record.seal(identity(0)).expect("a declaration fits a record");
    if capability.visibility == Visibility::Public {
        let digest = Digest::summarise(&record, 0, Hash([1; 32])).expect("public and checked");
        properties::of_digest(&digest, &capability);
    }
}
