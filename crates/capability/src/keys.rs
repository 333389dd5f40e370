//! Group keys: under which keys a capability is published, and which keys a query asks.
//!
//! A key is the BLAKE3 of a canonical label, so publisher and asker meet without anybody in between. Families, from
//! the most to the least selective:
//!
//! | family | label | published for |
//! |---|---|---|
//! | interface | `interface/sha256:<hex>` | the interface, unless it accepts anything |
//! | name | `name/fx-history` | the capability's name |
//! | entity | `entity/fin:pair=EUR/USD` | words of attributes that their profile marks as entities |
//! | cell | `cell/oasf1.1:domain/208+oasf1.1:skill/8` | each domain × the category of each skill |
//! | class | `class/oasf1.1:domain/208` | each class as declared; ancestors hold no members |
//! | term | `term/ohlc` | telling words of tags, title, name, examples and text |
//!
//! In private groups there is one more, `all/all`, for everything of the group; nothing public is ever in it.
//!
//! Entities and terms together are at most [`MAX_RARE_KEYS`] of a capability. They help to find it sooner and never
//! promise that everything is there: only interface, name, cell and class keys are complete.

mod label;
mod plan;
mod private;
mod rarity;
mod terms;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::profile;
use crate::record::Capability;
use crate::taxonomy::{self, ClassId, ClassKind};

pub use label::{KeyFamily, admits};
pub use plan::{MAX_PLAN_KEYS, MAX_QUERY_TERMS, Plan, Step, plan};
pub use private::{MAX_PRIVATE_STEP_KEYS, private_labels, private_plan};
pub use rarity::rarity;
pub use terms::{MAX_FILTER_WORDS, MAX_TERMS, stem, terms, vocabulary, words};

/// Most entity and term keys of a capability together.
pub const MAX_RARE_KEYS: usize = 16;
/// Most of them that are entities while there are terms to take the rest.
const MAX_ENTITY_KEYS: usize = 12;

/// The key of a group: BLAKE3 `derive_key("comity/group/v1", label)`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey(pub [u8; 32]);

impl GroupKey {
    /// The key of the group with this canonical label.
    pub fn of(label: &str) -> Self {
        Self(blake3::derive_key("comity/group/v1", label.as_bytes()))
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for GroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&comity_core::text::hex_encode(&self.0))
    }
}

impl fmt::Debug for GroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A group key with what it stands for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Labelled {
    /// The key.
    pub key: GroupKey,
    /// Its family.
    pub family: KeyFamily,
    /// The canonical label that it is the hash of.
    pub label: String,
}

impl Labelled {
    /// The key of a label of this family; `body` is what follows the family's word and slash.
    pub fn new(family: KeyFamily, body: &str) -> Self {
        let label = format!("{}/{body}", family.as_str());
        Self { key: GroupKey::of(&label), family, label }
    }
}

/// The keys a capability is published under, most selective family first.
pub fn group_keys(capability: &Capability) -> Vec<Labelled> {
    let mut keys = Vec::new();
    if !capability.interface.is_unconstrained() {
        keys.push(Labelled::new(KeyFamily::Interface, &capability.interface.digest().to_string()));
    }
    keys.push(Labelled::new(KeyFamily::Name, &capability.name));
    keys.extend(rare_keys(capability));
    let classes: BTreeSet<&ClassId> = capability.classes.iter().collect();
    let domains = classes.iter().filter(|id| id.kind() != Some(ClassKind::Skill));
    let categories: BTreeSet<ClassId> =
        classes.iter().filter_map(|id| taxonomy::skill_category(id)).collect();
    for domain in domains {
        keys.extend(categories.iter().map(|category| cell(domain, category)));
    }
    keys.extend(classes.iter().map(|id| class(id)));
    keys
}

fn class(id: &ClassId) -> Labelled {
    Labelled::new(KeyFamily::ClassLeaf, &id.to_string())
}

fn cell(domain: &ClassId, category: &ClassId) -> Labelled {
    Labelled::new(KeyFamily::ClassCell, &format!("{domain}+{category}"))
}

/// The key of one word of an entity attribute, both in normal form.
pub fn entity(key: &str, word: &str) -> Labelled {
    Labelled::new(KeyFamily::Entity, &format!("{key}={word}"))
}

/// The spelling of a tag in a digest's Bloom filter: folded, and apart from terms, which are stems.
pub(crate) fn tag_word(tag: &str) -> String {
    format!("#{}", crate::text::fold_tag(tag))
}

/// Entities, then terms. Entity attributes take turns, most selective key first, so that one long list does not push
/// out all others.
fn rare_keys(capability: &Capability) -> Vec<Labelled> {
    let mut lists: BTreeMap<(u8, u16), Vec<Labelled>> = BTreeMap::new();
    for (key, value) in &capability.attributes {
        if let Some(spec) = profile::lookup(key).filter(|spec| spec.entity) {
            let words = value.elements().into_iter().map(|word| entity(spec.key, word)).collect();
            lists.insert((u8::MAX - spec.selectivity, spec.id), words);
        }
    }
    let longest = lists.values().map(Vec::len).max().unwrap_or(0);
    let entities: Vec<Labelled> = (0..longest)
        .flat_map(|turn| lists.values().filter_map(move |list| list.get(turn).cloned()))
        .collect();
    let terms: Vec<Labelled> =
        terms(capability).iter().map(|term| Labelled::new(KeyFamily::Term, term)).collect();
    let room = MAX_RARE_KEYS - terms.len().min(MAX_RARE_KEYS - MAX_ENTITY_KEYS);
    entities.into_iter().take(room).chain(terms).take(MAX_RARE_KEYS).collect()
}
