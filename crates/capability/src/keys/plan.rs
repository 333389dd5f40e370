//! Which keys a query asks, in which order.

use std::collections::BTreeSet;

use super::{KeyFamily, Labelled, cell, class, entity, rarity, terms};
use crate::query::{ClassChoice, EntityChoice, PlanInputs};
use crate::record::Interface;
use crate::taxonomy::{self, ClassId, ClassKind};

/// Most keys of one step. A wider class is asked for its first classes only, and the step is not complete.
pub const MAX_PLAN_KEYS: usize = 128;
/// Most term keys of a query.
pub const MAX_QUERY_TERMS: usize = 16;
/// Most classes below one that the text merely names.
const MAX_NAMED_CLASSES: usize = 16;

/// The keys of a query.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Steps, the most selective first. Every match is in one of the groups of *each* complete step, so a complete
    /// step answered in full ends the search; other steps are asked until there are enough answers.
    pub steps: Vec<Step>,
}

/// Keys whose groups together hold matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The family of the keys.
    pub family: KeyFamily,
    /// The keys; a match is in at least one of their groups if the step is complete.
    pub keys: Vec<Labelled>,
    /// Whether every match is in one of the groups.
    pub complete: bool,
}

impl Plan {
    /// All keys, most selective first, without repetitions.
    pub fn keys(&self) -> Vec<&Labelled> {
        let mut seen = BTreeSet::new();
        self.steps.iter().flat_map(|step| &step.keys).filter(|key| seen.insert(key.key)).collect()
    }
}

/// Plans the keys for what a query asks ([`crate::query::Query::plan_inputs`]).
///
/// Order: interface, name, entities (by the selectivity of their keys), cells or classes, tags and terms, classes
/// that the text names. A class subtree becomes its classes; with a domain and a skill, the cells of both. A subtree of more
/// classes than [`MAX_PLAN_KEYS`] promises nothing and costs most: it goes behind tags and terms.
pub fn plan(inputs: &PlanInputs) -> Plan {
    let mut steps = Vec::new();
    // Nobody publishes under an interface that accepts anything: its group is empty although the interface matches.
    let interface = inputs.interface.map(comity_core::Sha256Digest);
    if let Some(digest) = interface.filter(|digest| !Interface::is_unconstrained_digest(digest)) {
        let body = digest.to_string();
        steps.push(step(
            KeyFamily::Interface,
            vec![Labelled::new(KeyFamily::Interface, &body)],
            true,
        ));
    }
    if let Some(name) = &inputs.name {
        steps.push(step(KeyFamily::Name, vec![Labelled::new(KeyFamily::Name, name)], true));
    }
    let mut entities: Vec<&EntityChoice> =
        inputs.entities.iter().filter(|choice| !choice.any.is_empty()).collect();
    entities.sort_by_key(|choice| (std::cmp::Reverse(choice.selectivity), choice.any.len()));
    for choice in entities {
        let keys = choice.any.iter().map(|word| entity(&choice.key, word)).collect();
        steps.push(step(KeyFamily::Entity, keys, false));
    }
    let (classes, too_many) = match class_step(&inputs.classes) {
        Some(step) if step.complete => (Some(step), None),
        incomplete => (None, incomplete),
    };
    steps.extend(classes);
    for tags in &inputs.tags {
        let words: Option<Vec<String>> =
            tags.iter().map(|tag| terms::words(tag).into_iter().next()).collect();
        // A tag without a term has no key: then the groups of the other tags would mislead.
        steps.extend(words.filter(|words| !words.is_empty()).map(|words| term_step(&words)));
    }
    if let Some(text) = &inputs.text {
        let mut seen = BTreeSet::new();
        let words = terms::words(text).into_iter().filter(|word| seen.insert(word.clone()));
        let mut words = terms::rarest(words.collect(), MAX_QUERY_TERMS);
        words.sort_by_key(|word| std::cmp::Reverse(rarity(word)));
        if !words.is_empty() {
            steps.push(term_step(&words));
        }
        steps.extend(named_classes(text));
    }
    steps.extend(too_many);
    Plan { steps }
}

fn step(family: KeyFamily, mut keys: Vec<Labelled>, complete: bool) -> Step {
    let mut seen = BTreeSet::new();
    keys.retain(|key| seen.insert(key.key));
    let complete = complete && keys.len() <= MAX_PLAN_KEYS;
    keys.truncate(MAX_PLAN_KEYS);
    Step { family, keys, complete }
}

fn term_step(words: &[String]) -> Step {
    step(
        KeyFamily::Term,
        words.iter().map(|word| Labelled::new(KeyFamily::Term, word)).collect(),
        false,
    )
}

/// The smallest set of cells or classes that holds every match of the conditions on classes.
fn class_step(choices: &[ClassChoice]) -> Option<Step> {
    let expanded: Vec<BTreeSet<ClassId>> =
        choices.iter().map(expand).filter(|set| !set.is_empty()).collect();
    let is_skill = |id: &ClassId| id.kind() == Some(ClassKind::Skill);
    // A cell needs a domain from one condition and a known skill from another.
    let domains =
        expanded.iter().filter(|set| !set.iter().any(is_skill)).min_by_key(|set| set.len());
    let skills = expanded
        .iter()
        .filter_map(|set| set.iter().map(taxonomy::skill_category).collect::<Option<BTreeSet<_>>>())
        .min_by_key(BTreeSet::len);
    let cells = match (domains, &skills) {
        (Some(domains), Some(categories)) => domains
            .iter()
            .flat_map(|domain| categories.iter().map(move |category| cell(domain, category)))
            .collect(),
        _ => Vec::new(),
    };
    if !cells.is_empty() && cells.len() <= MAX_PLAN_KEYS {
        return Some(step(KeyFamily::ClassCell, cells, true));
    }
    let classes = expanded.iter().min_by_key(|set| set.len())?;
    Some(step(KeyFamily::ClassLeaf, classes.iter().map(class).collect(), true))
}

fn expand(choice: &ClassChoice) -> BTreeSet<ClassId> {
    if choice.subtree {
        choice.any.iter().flat_map(taxonomy::descendants).collect()
    } else {
        choice.any.iter().cloned().collect()
    }
}

/// Classes that one or two neighbouring words of the text name, with a few of those below.
fn named_classes(text: &str) -> Option<Step> {
    let words: Vec<&str> = text
        .split(|c: char| !c.is_alphanumeric() && c != '-')
        .filter(|word| word.len() > 1)
        .collect();
    let pairs = words.windows(2).map(|pair| pair.join("_"));
    let singles = words.iter().map(|word| (*word).to_owned());
    let mut keys = Vec::new();
    for id in pairs.chain(singles).filter_map(|name| taxonomy::resolve(&name)) {
        keys.extend(taxonomy::descendants(&id).iter().take(MAX_NAMED_CLASSES).map(class));
    }
    keys.truncate(MAX_NAMED_CLASSES);
    (!keys.is_empty()).then(|| step(KeyFamily::ClassLeaf, keys, false))
}
