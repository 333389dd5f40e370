//! Names of questions: what a store looks results up by, and what the result index knows them as.

use std::fmt;

use comity_capability::record::{GroupSecret, Scope};
use comity_core::{Hash, canonical};
use serde_json::Value;

use crate::terms::Terms;

const QUESTION_CONTEXT: &str = "comity/result/question/v1";
const PUBLIC_CONTEXT: &str = "comity/result/public/v1";
const BLIND_CONTEXT: &str = "comity/result/blind/v1";

/// One question to one declared capability: equal declarations and equal canonical requests have equal keys, whoever answers.
///
/// It never leaves the node: other nodes are asked by [`IndexKey`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, minicbor::Encode, minicbor::Decode)]
#[cbor(transparent)]
pub struct QuestionKey(#[n(0)] pub Hash);

impl QuestionKey {
    /// The key of `request`, the hash of a canonical request, to the capability with this descriptor.
    #[must_use]
    pub fn new(descriptor: &Hash, request: &Hash) -> Self {
        Self(Hash::derive(QUESTION_CONTEXT, &[descriptor.as_bytes(), request.as_bytes()]))
    }

    /// The key of a JSON request.
    ///
    /// # Errors
    /// [`canonical::JsonError`] for a request without a canonical form.
    pub fn of_json(descriptor: &Hash, request: &Value) -> Result<Self, canonical::JsonError> {
        canonical::hash_json(request).map(|request| Self::new(descriptor, &request))
    }
}

impl fmt::Debug for QuestionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QuestionKey({})", self.0)
    }
}

/// What a question is called outside of the node.
///
/// For public answers anybody who knows the question can compute it, and nobody learns the question from it but by guessing, which the
/// declaration allows. For a group's answers it is keyed with the group's secret: who is no member can neither compute nor guess it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, minicbor::Encode, minicbor::Decode)]
#[cbor(transparent)]
pub struct IndexKey(#[n(0)] pub Hash);

/// Why a question has no name outside of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoIndexKey {
    /// The scope does not let holders be found.
    #[error("answers of scope `{}` are not announced", scope.name())]
    Scope {
        /// The declared scope.
        scope: Scope,
    },
    /// The caller called the question private.
    #[error("the question was asked as a private one")]
    Private,
    /// The scope is a group and no secret was given.
    #[error("answers of scope `group` are named with the group's secret, and none is at hand")]
    Secret,
}

impl IndexKey {
    /// The name under which holders of answers to `question` are looked up, if they may be. `private` is the asker's own word for this one
    /// request, which no declaration overrules.
    ///
    /// # Errors
    /// [`NoIndexKey`] says why the question must not be named outside.
    pub fn new(
        terms: &Terms,
        question: &QuestionKey,
        secret: Option<&GroupSecret>,
        private: bool,
    ) -> Result<Self, NoIndexKey> {
        if private {
            return Err(NoIndexKey::Private);
        }
        match terms.reuse.scope {
            Scope::Public => Ok(Self(Hash::derive(PUBLIC_CONTEXT, &[question.0.as_bytes()]))),
            Scope::Group => {
                let secret = secret.ok_or(NoIndexKey::Secret)?;
                let key = blake3::derive_key(BLIND_CONTEXT, secret.as_bytes());
                Ok(Self(Hash(*blake3::keyed_hash(&key, question.0.as_bytes()).as_bytes())))
            }
            scope @ (Scope::Asker | Scope::Holders) => Err(NoIndexKey::Scope { scope }),
        }
    }
}

impl fmt::Debug for IndexKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IndexKey({})", self.0)
    }
}
