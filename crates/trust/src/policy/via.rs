//! What an operator thinks of capabilities that stand for a service of another network: `[via]`.
//!
//! ```toml
//! [via]
//! pilot = "refuse"                           # allow, lower (what holds without a line) or refuse
//! "*" = "lower"                              # of every network without a line of its own
//! ```
//!
//! Such a capability says `via = NETWORK` among its attributes. Its receipts prove what the agent that brought it passed on, not who said it.

use std::collections::BTreeMap;

use toml::de::DeTable;

use super::parse::{PolicyError, Reader, shown};

/// The attribute by which a record says which network its service is on.
pub const VIA_KEY: &str = "via";
/// Longest name of a network, in bytes.
pub const VIA_NAME_MAX: usize = 64;
/// Most networks of a file.
const NETWORKS_MAX: usize = 256;
/// The line for every network without one.
const ANY: &str = "*";

/// What becomes of capabilities that stand for a service of another network, in this agent's searches and calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Via {
    /// Ranked like all others.
    Allow,
    /// Ranked with half the weight of what is known of how they answer.
    #[default]
    Lower,
    /// Neither found nor called.
    Refuse,
}

/// By the name of the network.
pub(super) type ViaRules = BTreeMap<String, Via>;

/// What holds for a network.
pub(super) fn rule(rules: &ViaRules, network: &str) -> Via {
    rules.get(network).or_else(|| rules.get(ANY)).copied().unwrap_or_default()
}

impl Reader<'_> {
    /// Reads `[via]`.
    pub(super) fn via_rules(&self, root: &DeTable<'_>) -> Result<ViaRules, PolicyError> {
        let mut rules = ViaRules::new();
        let Some(table) = root.get("via") else { return Ok(rules) };
        for (name, value) in self.table(table, "via")? {
            let network = name.get_ref().as_ref();
            let is_name = (1..=VIA_NAME_MAX).contains(&network.len());
            if !is_name || rules.len() >= NETWORKS_MAX {
                let what = format!("`{}` is no name of a network here", shown(network));
                let hint = format!(
                    "names have 1 to {VIA_NAME_MAX} bytes, and there are at most {NETWORKS_MAX}"
                );
                return Err(self.error(name.span(), what, hint));
            }
            let rule = match self.text_of(value, "what becomes of it")? {
                "allow" => Via::Allow,
                "lower" => Via::Lower,
                "refuse" => Via::Refuse,
                other => {
                    let what = format!("`{}` is not what can become of it", shown(other));
                    let hint = "write allow, lower or refuse".to_owned();
                    return Err(self.error(value.span(), what, hint));
                }
            };
            rules.insert(network.to_owned(), rule);
        }
        Ok(rules)
    }
}
