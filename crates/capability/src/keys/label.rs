//! Families and labels, and whether a digest belongs to a label.

use crate::attribute::Value;
use crate::record::{Declared, Digest};
use crate::taxonomy;

/// The families of group keys, most selective first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyFamily {
    /// An interface digest.
    Interface,
    /// A capability name.
    Name,
    /// A word of an entity attribute.
    Entity,
    /// A domain and a skill category.
    ClassCell,
    /// A class.
    ClassLeaf,
    /// A telling word.
    Term,
    /// Everything of a private group.
    Whole,
}

impl KeyFamily {
    /// Every family, most selective first.
    pub const ALL: [Self; 7] = [
        Self::Interface,
        Self::Name,
        Self::Entity,
        Self::ClassCell,
        Self::ClassLeaf,
        Self::Term,
        Self::Whole,
    ];

    /// The word that labels of the family begin with.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Interface => "interface",
            Self::Name => "name",
            Self::Entity => "entity",
            Self::ClassCell => "cell",
            Self::ClassLeaf => "class",
            Self::Term => "term",
            Self::Whole => "all",
        }
    }
}

/// Whether the digest belongs to the group with this label: what a custodian asks before it stores it. What a digest
/// omits is given the benefit of the doubt, and so is a word its Bloom filter may hold.
pub fn admits(digest: &Digest, label: &str) -> bool {
    let Some((family, body)) = label.split_once('/') else { return false };
    match KeyFamily::ALL.into_iter().find(|known| known.as_str() == family) {
        Some(KeyFamily::Interface) => digest.interface.to_string() == body,
        Some(KeyFamily::Name) => digest.name == body,
        Some(KeyFamily::Entity) => {
            body.split_once('=').is_some_and(|(key, word)| match digest.declared(key) {
                Declared::Value(value) => value.includes(&Value::Enum(word.to_owned())),
                Declared::Omitted => true,
                Declared::Undeclared => false,
            })
        }
        Some(KeyFamily::ClassCell) => body.split_once('+').is_some_and(|(domain, category)| {
            let in_category = |id| {
                taxonomy::skill_category(id).is_some_and(|found| found.to_string() == category)
            };
            admits_class(digest, domain)
                && (digest.may_have_more_classes() || digest.classes.iter().any(in_category))
        }),
        Some(KeyFamily::ClassLeaf) => admits_class(digest, body),
        Some(KeyFamily::Term) => digest.terms.may_contain(body),
        // Private groups keep no digests in the clear.
        Some(KeyFamily::Whole) | None => false,
    }
}

fn admits_class(digest: &Digest, class: &str) -> bool {
    digest.classes.iter().any(|id| id.to_string() == class) || digest.may_have_more_classes()
}
