//! Classes: what kind of thing a capability is.
//!
//! The tree is OASF 1.1.1 (Open Agentic Schema Framework; Apache-2.0, `data/NOTICE`), compiled in as
//! a table, plus the extension classes of `data/comity-1.tsv` that hang below OASF classes. There
//! is no schema server. A label that neither table knows is kept as it is and never refused.

mod alias;
mod id;
mod propose;
mod tree;

pub use id::{ClassError, ClassId, ClassKind, MAX_LABEL};
pub use propose::propose;
pub use tree::{
    Class, ancestors, by_id, children, descendants, is_under, leaves, nearest, resolve, roots,
    skill_category,
};
