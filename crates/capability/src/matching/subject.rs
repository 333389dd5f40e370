//! What evaluation can ask of a digest or a capability, so that both are judged by one set of rules.

use std::collections::BTreeSet;

use super::test::{Judgement, Shown, on_members, said};
use crate::attribute::Value;
use crate::keys;
use crate::query::Test;
use crate::record::{Bloom, Capability, Declared, Digest};
use crate::taxonomy::ClassId;
use crate::text::fold_tag;

/// A declaration to evaluate.
#[derive(Clone, Copy)]
pub(crate) enum Subject<'a> {
    /// A summary.
    Digest(&'a Digest),
    /// All of it.
    Capability(&'a Capability),
}

/// What is declared under a key.
pub(crate) enum Declaration<'a> {
    /// This value.
    Value(&'a Value),
    /// Nothing.
    Absent,
    /// Something or nothing: the record says.
    Dropped,
}

impl<'a> Subject<'a> {
    pub(crate) fn attribute(self, key: &str) -> Declaration<'a> {
        match self {
            Self::Digest(digest) => match digest.declared(key) {
                Declared::Value(value) => Declaration::Value(value),
                Declared::Omitted => Declaration::Dropped,
                Declared::Undeclared => Declaration::Absent,
            },
            Self::Capability(capability) => {
                capability.attributes.get(key).map_or(Declaration::Absent, Declaration::Value)
            }
        }
    }

    pub(crate) fn classes(self) -> &'a [ClassId] {
        match self {
            Self::Digest(digest) => &digest.classes,
            Self::Capability(capability) => &capability.classes,
        }
    }

    /// Whether there may be more classes than [`Subject::classes`] has.
    pub(super) fn may_have_more_classes(self) -> bool {
        match self {
            Self::Digest(digest) => digest.may_have_more_classes(),
            Self::Capability(_) => false,
        }
    }

    pub(super) fn interface(self) -> [u8; 32] {
        match self {
            Self::Digest(digest) => digest.interface.0,
            Self::Capability(capability) => capability.interface.digest().0,
        }
    }

    pub(super) fn named(self, wanted: &str) -> Judgement<'a> {
        let name = match self {
            Self::Digest(digest) => &digest.name,
            Self::Capability(capability) => &capability.name,
        };
        said(name == wanted, Shown::Name(name))
    }

    /// A digest only knows which tags are certainly not there.
    pub(super) fn on_tags(self, test: &Test) -> Judgement<'a> {
        match self {
            Self::Digest(digest) => tags_of_digest(test, digest),
            Self::Capability(capability) => tags_of_capability(test, capability),
        }
    }
}

fn tags_of_digest(test: &Test, digest: &Digest) -> Judgement<'static> {
    if lacks_tags(test, &digest.terms) {
        Judgement::Unmet(Shown::OtherTags)
    } else {
        Judgement::Unknown
    }
}

/// Whether a filter proves that no tags are as asked. It proves absence only.
pub(crate) fn lacks_tags(test: &Test, terms: &Bloom) -> bool {
    let possible =
        |value: &Value| value.elements().iter().all(|tag| terms.may_contain(&keys::tag_word(tag)));
    matches!(test, Test::Eq(_) | Test::Any(_) | Test::All(_))
        && on_members(test, possible) == Some(false)
}

fn tags_of_capability<'a>(test: &Test, capability: &'a Capability) -> Judgement<'a> {
    if capability.tags.is_empty() {
        return Judgement::Undeclared;
    }
    let declared: BTreeSet<String> = capability.tags.iter().map(|tag| fold_tag(tag)).collect();
    let has =
        |value: &Value| value.elements().iter().all(|wanted| declared.contains(&fold_tag(wanted)));
    let met = on_members(test, has).unwrap_or(false);
    said(met, Shown::Tags(&capability.tags))
}
