//! Models on disk against what was signed, by the reference implementation with each of its hashes.

use std::fs;

use comity_attest::{MAX_BUNDLE, ModelError, authorities, verify_model};
use comity_trust::evidence::SignedModel;
use comity_trust::policy::KindRules;

use crate::support::{NOW, vector, vectors};

fn signed(bundle: &str) -> SignedModel {
    let rules = KindRules { keys: vec!["key.pem".to_owned()], ..KindRules::default() };
    let mut read = |name: &str| fs::read(vectors().join(name));
    let believed = authorities("model-signing", &rules, &mut read).unwrap();
    let statement = believed.open(&vector(bundle), MAX_BUNDLE, NOW).unwrap();
    assert_eq!(statement.signer, "key.pem");
    SignedModel::read(&statement.body).unwrap()
}

#[test]
fn a_model_is_the_one_that_was_signed_or_it_is_said_how_it_differs() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    fs::create_dir(&model).unwrap();
    for name in ["signme-1", "signme-2"] {
        fs::copy(vectors().join("model").join(name), model.join(name)).unwrap();
    }
    for bundle in ["keyed-sha256.json", "keyed-blake2.json", "keyed-blake3.json"] {
        verify_model(&model, &signed(bundle), &[])
            .unwrap_or_else(|error| panic!("{bundle}: {error}"));
    }
    let manifest = signed("keyed-sha256.json");
    assert_eq!(manifest.files.len(), 2);
    let differs = |manifest: &SignedModel| match verify_model(&model, manifest, &[]) {
        Err(ModelError::Differs { changed, missing, besides }) => (changed, missing, besides),
        other => panic!("{other:?}"),
    };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();

    fs::write(model.join("signme-1"), "swapped").unwrap();
    assert_eq!(differs(&manifest), (names(&["signme-1"]), names(&[]), names(&[])));
    fs::remove_file(model.join("signme-2")).unwrap();
    fs::create_dir(model.join("sub")).unwrap();
    fs::write(model.join("sub/adapter.bin"), "besides").unwrap();
    let expected = (names(&["signme-1"]), names(&["signme-2"]), names(&["sub/adapter.bin"]));
    assert_eq!(differs(&manifest), expected);
    let ignored = model.join("sub");
    let left = verify_model(&model, &manifest, &[ignored]).unwrap_err();
    assert!(matches!(left, ModelError::Differs { besides, .. } if besides.is_empty()));

    std::os::unix::fs::symlink("/etc/passwd", model.join("signme-2")).unwrap();
    assert!(matches!(verify_model(&model, &manifest, &[]), Err(ModelError::Link { .. })));
    assert!(matches!(
        verify_model(&model, &signed("keyed-shards.json"), &[]),
        Err(ModelError::Shards)
    ));
    for name in ["../signme-1", "/etc/passwd", "a//b", "", "a/./b", "a\\b"] {
        let mut other = manifest.clone();
        other.files[0].name = name.to_owned();
        assert!(
            matches!(verify_model(&model, &other, &[]), Err(ModelError::Name { .. })),
            "{name}"
        );
    }
    let mut twice = manifest.clone();
    twice.files.push(twice.files[0].clone());
    assert!(matches!(verify_model(&model, &twice, &[]), Err(ModelError::Name { .. })));
    assert!(matches!(
        verify_model(&folder.path().join("none"), &manifest, &[]),
        Err(ModelError::Io { .. })
    ));
}
