//! Every other statement of trust: one encoding each, nothing edited opens, sets keep their bounds and lose nothing.
#![no_main]

use std::time::Duration;

use arbitrary::Arbitrary;
use comity_core::receipt::ShortText;
use comity_core::{Canonical, Hash, Time};
use comity_fuzz::{Edit, NOW, edited, identity};
use comity_trust::admission::{Admit, Charter, Group, Rule};
use comity_trust::bond::{Bonds, Trust};
use comity_trust::endorse::{Endorse, Endorsement, How};
use comity_trust::evidence::{Disclosure, Evidence, ModelSigning, Presented, Provenance, TraceCommitments, TrustedKeys, Verifiers};
use comity_trust::grant::Grant;
use comity_trust::revoke::{Reason, Revocations, Revoke, SetHead, Withdrawn};
use comity_trust::succession::{Pin, Rotate, Succession, commitment};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    which: u8,
    signer: u8,
    subject: u8,
    edits: Vec<Edit>,
    raw: Vec<u8>,
}

fn one_encoding<T: Canonical>(bytes: &[u8]) {
    if let Ok(value) = T::decode(bytes) {
        assert_eq!(value.encode(), bytes);
    }
}

fuzz_target!(|input: Input| {
    let raw = &input.raw;
    one_encoding::<Grant>(raw);
    one_encoding::<Revoke>(raw);
    one_encoding::<SetHead>(raw);
    one_encoding::<Endorse>(raw);
    one_encoding::<Evidence>(raw);
    one_encoding::<Rotate>(raw);
    one_encoding::<Charter>(raw);
    one_encoding::<Admit>(raw);
    one_encoding::<Trust>(raw);
    one_encoding::<Disclosure>(raw);
    let (signer, subject) = (identity(input.signer), identity(input.subject).id());
    let (me, until) = (identity(7).id(), NOW + Duration::from_secs(3600));
    let scope = || "fx.*".parse().expect("a scope");
    let sid = Hash::of(b"session");
    let bytes = match input.which % 7 {
        0 => Endorse::new(subject, scope(), How::Audit, NOW, until).seal(signer).unwrap_or_default(),
        1 => {
            let mut set = Revocations::new(signer.id());
            for n in 0..input.subject {
                let statement = Withdrawn::Statement(Hash::of(&[n]));
                set.revoke(statement, Time::MAX, Reason::Ended, NOW).expect("there is room");
            }
            set.publish(signer, NOW)
        }
        2 => Charter::new(1, ShortText::try_from("g").expect("short"), Rule::Governed { needed: 1, endorsers: [subject.into()].into() }, NOW, until)
            .seal(signer)
            .expect("a charter"),
        3 => Admit::new(signer.id(), subject, "fx.*".parse().expect("a pattern"), NOW, until).seal(signer),
        4 => {
            let kind = ["trace", "provenance", "model-signing"][usize::from(input.subject) % 3];
            Evidence::new(&signer.id(), &sid, kind, raw.clone(), NOW).seal(signer).unwrap_or_default()
        }
        5 => Succession::new().rotate(signer, identity(input.subject), commitment(&me), NOW).to_bytes(),
        _ => Bonds::new(signer.id()).declare(signer, me, NOW, until).unwrap_or_default(),
    };
    let received = edited(&bytes, raw, &input.edits);
    let genuine = received == bytes;
    match input.which % 7 {
        0 => assert!(Endorsement::open(&received, NOW).is_err() || genuine),
        1 => {
            let mut held = Revocations::new(me);
            let first = held.apply_set(&bytes, NOW).is_ok();
            let before: Vec<bool> = (0..input.subject).map(|n| held.find(&signer.id(), &Withdrawn::Statement(Hash::of(&[n]))).is_some()).collect();
            assert!(held.apply_set(&received, NOW).is_err() || genuine);
            let after: Vec<bool> = (0..input.subject).map(|n| held.find(&signer.id(), &Withdrawn::Statement(Hash::of(&[n]))).is_some()).collect();
            assert_eq!(before, after);
            assert!(first);
        }
        2 => assert!(Group::open(&received, NOW).is_err() || genuine),
        3 => {
            let charter = Charter::new(1, ShortText::try_from("g").expect("short"), Rule::Governed { needed: 1, endorsers: [identity(6).id().into()].into() }, NOW, until);
            let group = Group::open(&charter.seal(signer).expect("a charter"), NOW).expect("it opens");
            let admitted = group.admits(&subject, "fx.rates", &[&received], &Revocations::new(me), NOW);
            assert!(admitted.is_err() || genuine);
        }
        4 => {
            let verifiers = Verifiers::new()
                .with(TraceCommitments)
                .with(Provenance::new(TrustedKeys::new()))
                .with(ModelSigning::new(TrustedKeys::new()));
            let _ = verifiers.appraise(&received, &sid, &signer.id(), NOW);
            assert!(Presented::open(&received, &sid, &signer.id(), NOW).is_err() || genuine);
        }
        5 => {
            let pin = Pin::new(signer.id(), Some(commitment(&subject)), NOW);
            let followed = Succession::from_bytes(&received).and_then(|succession| succession.follow(&pin, NOW));
            assert!(followed.is_err() || genuine);
        }
        _ => assert!(Bonds::new(me).receive(&received, NOW).is_err() || genuine),
    }
});
