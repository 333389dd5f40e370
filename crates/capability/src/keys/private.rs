//! Under which labels a private group keeps its capabilities, and which of them a member asks.
//!
//! Few labels on purpose. Custodians of a private group return whole shards, so that narrow labels save the asker nothing until a group is
//! large; and each label is one more item of the same pseudonym, by which custodians could tell busy members from quiet ones. So an
//! entry is kept under the label of everything, under its name and under its classes, and under nothing else.

use super::{KeyFamily, Labelled, Plan, Step, group_keys};
use crate::record::{Capability, GroupSecret};

/// Most keys of a step that a member asks instead of everything: more searches than that cost more than they save.
pub const MAX_PRIVATE_STEP_KEYS: usize = 4;

/// What stands for everything in a private group.
fn whole() -> Labelled {
    Labelled::new(KeyFamily::Whole, "all")
}

const fn is_kept(family: KeyFamily) -> bool {
    matches!(family, KeyFamily::Name | KeyFamily::ClassLeaf | KeyFamily::Whole)
}

/// The canonical labels under which a capability is kept in a private group, to be blinded by [`GroupSecret::veil`].
#[must_use]
pub fn private_labels(capability: &Capability) -> Vec<String> {
    let keys = group_keys(capability).into_iter().filter(|key| is_kept(key.family));
    keys.chain([whole()]).map(|key| key.label).collect()
}

/// The plan by which a member with this secret searches: the first step that holds every match and has few keys, then everything.
/// The keys are blinded; the labels stay as they are, for people.
#[must_use]
pub fn private_plan(plan: &Plan, secret: &GroupSecret) -> Plan {
    let is_narrow = |step: &&Step| {
        step.complete && is_kept(step.family) && step.keys.len() <= MAX_PRIVATE_STEP_KEYS
    };
    let narrow = plan.steps.iter().find(is_narrow).cloned();
    let all = Step { family: KeyFamily::Whole, keys: vec![whole()], complete: true };
    let steps = narrow.into_iter().chain([all]).map(|mut step| {
        for key in &mut step.keys {
            key.key = super::GroupKey::of(&secret.shard_label(&key.label));
        }
        step
    });
    Plan { steps: steps.collect() }
}
