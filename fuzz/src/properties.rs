//! What holds of every query and every declaration, however it came in.

use std::collections::BTreeSet;

use comity_capability::keys::{self, GroupKey};
use comity_capability::matching::{self, EVIDENCE_CHARS_MAX, Evaluation, Verdict};
use comity_capability::query::{Query, TEXT_FORM_BYTES_MAX, WIRE_BYTES_MAX};
use comity_capability::record::{Capability, Digest, MAX_DIGEST};
use comity_core::Canonical;

use crate::identity;

/// All three spellings of a query read back as the same query, within the bounds that readers impose.
pub fn of_query(query: &Query) {
    let text = query.to_string();
    assert!(text.len() <= TEXT_FORM_BYTES_MAX, "text form of {} bytes", text.len());
    assert_eq!(Query::parse_text(&text).as_ref(), Ok(query), "text form: {text}");
    let json = query.to_json();
    assert_eq!(Query::from_json(&json).as_ref(), Ok(query), "JSON form: {json}");
    let wire = Canonical::encode(query);
    assert!(wire.len() <= WIRE_BYTES_MAX, "wire form of {} bytes", wire.len());
    assert_eq!(<Query as Canonical>::decode(&wire).as_ref(), Ok(query), "wire form of {text}");
    let plan = query.plan();
    assert!(
        plan.steps
            .iter()
            .all(|step| !step.keys.is_empty() && step.keys.len() <= keys::MAX_PLAN_KEYS)
    );
    for labelled in plan.keys() {
        assert_eq!(GroupKey::of(&labelled.label), labelled.key);
    }
}

/// A digest keeps to its size and belongs to every group its capability is published under.
pub fn of_digest(digest: &Digest, capability: &Capability) {
    let payload = Canonical::encode(digest);
    assert_eq!(<Digest as Canonical>::decode(&payload).as_ref(), Ok(digest));
    assert!(digest.seal(identity(0)).len() <= MAX_DIGEST);
    for labelled in keys::group_keys(capability) {
        assert!(
            keys::admits(digest, &labelled.label),
            "a custodian would refuse it under {}",
            labelled.label
        );
    }
}

/// An evaluation answers each question once, and its conclusions exclude each other.
pub fn of_evaluation(query: &Query, evaluation: &Evaluation) {
    let asked =
        query.conditions().len() + query.exclude().len() + usize::from(query.name().is_some());
    assert_eq!(evaluation.outcomes.len(), asked);
    let conclusions = [evaluation.passes(), evaluation.is_open(), evaluation.refused()];
    assert_eq!(conclusions.into_iter().filter(|holds| *holds).count(), 1, "{evaluation:?}");
    for outcome in &evaluation.outcomes {
        if let Verdict::Met { declared } | Verdict::Unmet { declared } = &outcome.verdict {
            // A sign that something was cut off comes on top.
            assert!(declared.chars().count() <= EVIDENCE_CHARS_MAX + 1, "{declared}");
        }
    }
}

/// What is decided on the digest is decided the same way on the capability behind it, and whoever passes is found: it is
/// in a group of each complete step of the plan.
pub fn of_match(query: &Query, digest: &Digest, capability: &Capability) {
    let (short, whole) =
        (matching::evaluate(query, digest), matching::evaluate_capability(query, capability));
    of_evaluation(query, &short);
    of_evaluation(query, &whole);
    assert!(!whole.is_open(), "a whole declaration leaves nothing open: {whole:?}");
    for (short, whole) in short.outcomes.iter().zip(&whole.outcomes) {
        assert_eq!((&short.wanted, short.part), (&whole.wanted, whole.part));
        if short.verdict != Verdict::Unknown {
            assert_eq!(short.refuses(), whole.refuses(), "digest: {short}; capability: {whole}");
        }
    }
    if whole.passes() {
        let published: BTreeSet<GroupKey> =
            keys::group_keys(capability).into_iter().map(|labelled| labelled.key).collect();
        for step in query.plan().steps.iter().filter(|step| step.complete) {
            let found = step.keys.iter().any(|labelled| published.contains(&labelled.key));
            assert!(found, "{query} matches and is in none of the groups of {step:?}");
        }
    }
}
