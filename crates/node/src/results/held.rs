//! What is known of kept answers besides themselves, and which of them are worth a look for a smaller question.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use comity_core::Hash;
use comity_results::key::QuestionKey;
use serde_json::Value;

use super::share::Outside;

/// What is known of a kept answer besides itself.
#[derive(Debug, Clone)]
pub(super) struct Held {
    /// The declaration it was given under.
    pub(super) descriptor: Hash,
    /// The request, where it is small, and the length of the answer: smaller questions may be answered from it.
    pub(super) request: Option<(Arc<Value>, usize)>,
    /// What others know it as.
    pub(super) outside: Option<Outside>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct HeldAnswers {
    of_question: BTreeMap<QuestionKey, Held>,
    /// Questions whose request is known, the longest answers first.
    of_declaration: BTreeMap<Hash, BTreeSet<(Reverse<usize>, QuestionKey)>>,
}

impl HeldAnswers {
    pub(super) fn insert(&mut self, question: QuestionKey, held: Held) {
        self.remove(&question);
        if let Some((_, bytes)) = &held.request {
            let of_declaration = self.of_declaration.entry(held.descriptor).or_default();
            of_declaration.insert((Reverse(*bytes), question));
        }
        self.of_question.insert(question, held);
    }

    pub(super) fn get(&self, question: &QuestionKey) -> Option<&Held> {
        self.of_question.get(question)
    }

    pub(super) fn contains(&self, question: &QuestionKey) -> bool {
        self.of_question.contains_key(question)
    }

    pub(super) fn len(&self) -> usize {
        self.of_question.len()
    }

    pub(super) fn retain(&mut self, stays: impl Fn(&QuestionKey) -> bool) {
        let gone: Vec<QuestionKey> =
            self.of_question.keys().filter(|question| !stays(question)).copied().collect();
        for question in gone {
            self.remove(&question);
        }
    }

    /// Questions of a declaration whose requests are known, the longest answers first.
    pub(super) fn of(
        &self,
        descriptor: &Hash,
    ) -> impl Iterator<Item = (&QuestionKey, &Arc<Value>)> {
        let questions = self.of_declaration.get(descriptor).into_iter().flatten();
        questions.filter_map(|(_, question)| {
            let (request, _) = self.of_question.get(question)?.request.as_ref()?;
            Some((question, request))
        })
    }

    fn remove(&mut self, question: &QuestionKey) {
        let Some(old) = self.of_question.remove(question) else { return };
        if let Some((_, bytes)) = old.request
            && let Some(others) = self.of_declaration.get_mut(&old.descriptor)
        {
            others.remove(&(Reverse(bytes), *question));
            if others.is_empty() {
                self.of_declaration.remove(&old.descriptor);
            }
        }
    }
}
