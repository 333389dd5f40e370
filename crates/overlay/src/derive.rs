//! BLAKE3 in its key derivation mode with contexts that are hashed once.

use blake3::Hasher;
use blake3::hazmat::{ContextKey, HasherExt};

/// The key of a context, for a `static` of type `LazyLock<ContextKey>`.
macro_rules! context {
    ($name:literal) => {
        std::sync::LazyLock::new(|| blake3::hazmat::hash_derive_key_context($name))
    };
}
pub(crate) use context;

/// As `Hasher::new_derive_key` of the context, for half its cost.
pub(crate) fn hasher(context: &ContextKey) -> Hasher {
    Hasher::new_from_context_key(context)
}
