//! Specs and questions in the words of the capability crate.

use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::sync::LazyLock;

use comity_capability::keys::{self, Labelled};
use comity_capability::query::Query;
use comity_capability::record::{Capability, Digest, Record};
use comity_capability::taxonomy::{self, ClassId, ClassKind};
use comity_core::canonical::Canonical;
use comity_core::{Hash, Time};
use comity_overlay as overlay;
use serde_json::json;

use super::{Question, Spec};

/// Resolutions, finest first.
pub(super) const RESOLUTIONS: [&str; 4] = ["PT1M", "PT1H", "P1D", "P7D"];
/// Answers that one custodian is asked for, as the node asks.
pub const ANSWERS_MAX: u16 = 32;

impl Spec {
    /// The declaration of this spec.
    ///
    /// # Panics
    /// When the capability crate refuses a declaration that this generator is sure to be valid: a fault of one of the two.
    #[must_use]
    pub fn declare(&self) -> Capability {
        let mut capability = Capability::new(&self.name).expect("generated names are valid");
        capability.visibility = comity_capability::record::Visibility::Public;
        let stuffed = self.stuffed.as_ref();
        let classes = stuffed.iter().flat_map(|(classes, _)| classes).copied();
        let classes: BTreeSet<usize> = classes.chain([self.class]).collect();
        capability.classes = classes.into_iter().map(class_of).collect();
        let topics = stuffed.iter().flat_map(|(_, topics)| topics).copied();
        capability.tags = topics.map(topic_text).collect();
        if let Some(topic) = self.topic {
            capability.title = topic_text(topic);
        }
        let pairs: Vec<_> = self.pairs.iter().map(|pair| pair_text(*pair)).collect();
        let values = [
            ("pair", json!(pairs)),
            ("time", json!(format!("{}-01-01/{}-12-31", self.years.0, self.years.1))),
            ("resolution", json!(RESOLUTIONS[self.resolution])),
        ];
        let price = self.price.map(|price| ("price", json!(price_text(price))));
        for (key, value) in values.into_iter().chain(price) {
            capability.declare(key, &value).expect("generated attributes are valid");
        }
        capability
    }
}

impl Question {
    /// The question in the query language.
    ///
    /// # Panics
    /// When the capability crate refuses it: a fault of one of the two.
    #[must_use]
    pub fn query(&self) -> Query {
        let mut filter = serde_json::Map::new();
        if let Some(class) = self.class {
            filter.insert("class".to_owned(), json!({ "under": [class_of(class).to_string()] }));
        }
        if let Some(pair) = self.pair {
            filter.insert("pair".to_owned(), json!({ "all": [pair_text(pair)] }));
        }
        if let Some((from, to)) = self.years {
            filter
                .insert("time".to_owned(), json!({ "covers": format!("{from}-01-01/{to}-12-31") }));
        }
        if let Some(resolution) = self.resolution {
            filter.insert(
                "resolution".to_owned(),
                json!({ "finer_or_equal": RESOLUTIONS[resolution] }),
            );
        }
        if let Some(most) = self.cheap {
            let price = json!({ "lte": price_text(most), "soft": true });
            filter.insert("price".to_owned(), price);
        }
        let mut query = serde_json::Map::new();
        query.insert("filter".to_owned(), filter.into());
        if let Some(name) = &self.name {
            query.insert("name".to_owned(), json!(name));
        }
        if let Some((topic, noise)) = self.topic {
            query.insert(
                "text".to_owned(),
                json!(format!("{} {}", topic_text(topic), noise_text(noise))),
            );
        }
        Query::from_json(&json!({ "query": query })).expect("generated questions are valid")
    }

    /// The directory query that asks it of the overlay, every key of the plan if need be.
    #[must_use]
    pub fn command(&self) -> overlay::Query {
        self.command_for(0)
    }

    /// The directory query that asks it of the overlay until `want` answers are there; 0: every key of the plan if need be.
    #[must_use]
    pub fn command_for(&self, want: usize) -> overlay::Query {
        let query = self.query();
        let steps = query.plan().steps.into_iter();
        let steps = steps.map(|step| overlay::QueryStep {
            keys: step.keys.iter().map(|key| key.key).collect(),
            complete: step.complete,
        });
        overlay::Query {
            steps: steps.collect(),
            query: query.encode(),
            want,
            limit: ANSWERS_MAX,
            exclude: Vec::new(),
            fresh: false,
            secret: None,
        }
    }
}

/// The digests of a publisher's specs, with the labels of the groups each belongs to.
///
/// # Panics
/// When the capability crate refuses what this generator is sure to be valid.
#[must_use]
pub fn digests(
    specs: &[impl Borrow<Spec>],
    seq: u64,
    issued: Time,
    expires: Time,
) -> Vec<(Digest, Vec<String>)> {
    let mut record = Record::new(seq, issued, expires, Hash([0; 32]));
    record.capabilities = specs.iter().map(|spec| spec.borrow().declare()).collect();
    let labels = |capability: &Capability| {
        keys::group_keys(capability).into_iter().map(|Labelled { label, .. }| label).collect()
    };
    let hash = Hash::of(&record.encode());
    let digest = |ordinal: usize| {
        let ordinal = u16::try_from(ordinal).expect("a record has few capabilities");
        Digest::summarise(&record, ordinal, hash).expect("generated capabilities are valid")
    };
    record
        .capabilities
        .iter()
        .enumerate()
        .map(|(ordinal, capability)| (digest(ordinal), labels(capability)))
        .collect()
}

/// The leaves of the taxonomy's domains, in its order: listing them takes far longer than anything asked of them here.
static CLASSES: LazyLock<Vec<ClassId>> = LazyLock::new(|| {
    taxonomy::leaves(ClassKind::Domain).into_iter().map(|class| class.id.clone()).collect()
});

/// Classes there are words for.
#[must_use]
pub fn classes_max() -> usize {
    CLASSES.len()
}

fn class_of(class: usize) -> ClassId {
    CLASSES[class % CLASSES.len()].clone()
}

/// Two distinct words of three letters for each number below [`super::PAIRS_MAX`].
fn pair_text(pair: u32) -> String {
    let word = |mut number: u32| -> String {
        let mut letters = Vec::new();
        for _ in 0..3 {
            letters.push(char::from(b'A' + u8::try_from(number % 26).expect("below 26")));
            number /= 26;
        }
        letters.into_iter().collect()
    };
    format!("{}/{}", word(pair), word(pair + 7_919))
}

/// A word that English stemming leaves alone, for each number below [`super::TOPICS_MAX`].
fn topic_text(topic: u32) -> String {
    const CONSONANTS: &[u8] = b"bdfgklmnprtvwxzhj";
    const VOWELS: &[u8] = b"aou";
    let mut rest = topic;
    let mut word = String::new();
    for _ in 0..3 {
        let (vowel, consonant) = (rest % 3, rest / 3 % 17);
        rest /= 51;
        for (letters, at) in [(CONSONANTS, consonant), (VOWELS, vowel)] {
            let at = usize::try_from(at).expect("below 17");
            word.push(char::from(letters[at]));
        }
    }
    // No word of the language looks so.
    format!("q{word}")
}

/// A word that questions use and nobody declares.
fn noise_text(noise: u32) -> String {
    format!("y{}", topic_text(noise))
}

/// Prices in fractions of a cent, apart enough to rank.
fn price_text(price: u8) -> String {
    format!("{}.{:03} USD", (u32::from(price) + 1) / 10, (u32::from(price) + 1) % 10 * 100)
}
