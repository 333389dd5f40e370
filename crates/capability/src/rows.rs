//! A commitment over the rows of a table, `data:merkle`: whoever reads a capability's declaration can have any of its rows proved.
//!
//! A leaf is `derive_key("comity/table/row/v1", canonical CBOR of the row's values as an array)`, rows in the order of the file; the tree is shaped
//! as in RFC 9162 with nodes `derive_key("comity/table/node/v1", left ‖ right)`; the commitment is `derive_key("comity/table/v1", number of rows,
//! eight bytes, big end first ‖ BLAKE3 of the canonical CBOR of the column names ‖ root)`. So what the columns are called and how many rows there are cannot be said
//! otherwise later. Source: DISCOVERY.md, "Merkle commitment over the data".

use comity_core::Hash;
use comity_core::canonical::{self, JsonError};
use comity_core::merkle::{Contexts, Tree};
use serde_json::Value;

/// Leaves of one stored subtree; a power of two.
pub const SUBTREE_ROWS: usize = 256;
/// Most rows that are proved at once.
pub const PROVED_MAX: usize = 16;
/// Most hashes of one proof: enough for any number of rows.
pub const PATH_MAX: usize = 64;

const TREE: Contexts = Contexts { leaf: "comity/table/row/v1", node: "comity/table/node/v1" };
const CONTEXT: &str = "comity/table/v1";

/// The leaf of a row.
///
/// # Errors
/// When a value has no canonical form.
pub fn leaf(row: &[Value]) -> Result<Hash, JsonError> {
    let bytes = canonical::from_json(&Value::Array(row.to_vec()))?;
    Ok(TREE.leaf(&bytes))
}

/// The subtree over at most [`SUBTREE_ROWS`] leaves, or the tree over such subtrees' roots.
#[must_use]
pub fn tree(leaves: Vec<Hash>) -> Tree {
    Tree::new(&TREE, leaves)
}

/// The commitment to a table with these columns, so many rows, and this root over them.
///
/// # Errors
/// When a column's name has no canonical form.
pub fn commitment(columns: &[Value], rows: u64, root: &Hash) -> Result<Hash, JsonError> {
    let names = canonical::hash_json(&Value::Array(columns.to_vec()))?;
    Ok(Hash::derive(CONTEXT, &[&rows.to_be_bytes(), names.as_bytes(), root.as_bytes()]))
}

/// A table as a proof says it is.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// Names of its columns.
    pub columns: &'a [Value],
    /// How many rows it has.
    pub rows: u64,
    /// The commitment in its declaration.
    pub commitment: &'a Hash,
}

impl Claim<'_> {
    /// Whether row number `index` is this one.
    #[must_use]
    pub fn holds(&self, index: u64, row: &[Value], path: &[Hash]) -> bool {
        if path.len() > PATH_MAX || row.len() != self.columns.len() {
            return false;
        }
        let Ok(leaf) = leaf(row) else { return false };
        TREE.root_from_path(leaf, index, self.rows, path)
            .and_then(|root| commitment(self.columns, self.rows, &root).ok())
            .is_some_and(|led| led == *self.commitment)
    }
}
