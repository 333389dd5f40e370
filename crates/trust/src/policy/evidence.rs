//! Whose evidence an operator believes: `[evidence.KIND]`.
//!
//! ```toml
//! [evidence.model-signing]
//! keys = ["signers.pem"]                     # public keys, PEM
//! roots = "trusted_root.json"                # a sigstore trusted root, for bundles signed with certificates
//! identities = "release@example.com"         # whose certificates count
//! accept = ["sha256:…"]                      # only these models
//!
//! [evidence.sev-snp]
//! accept = ["…"]                             # only these measurements
//! ```
//!
//! The file names other files; whoever puts a policy into force reads them, below the directory of the policy file.

use std::collections::{BTreeMap, BTreeSet};

use toml::de::DeTable;

use super::parse::{PolicyError, Reader, Value, shown};
use crate::is_kind_name;

/// The kinds that a policy can configure.
pub const KINDS: [&str; 5] = ["model-signing", "provenance", "trace", "sev-snp", "tdx"];
/// Longest value that evidence is asked to show, in bytes.
pub const MAX_VALUE: usize = 256;
/// Most files, identities or values of one kind.
const MAX_ENTRIES: usize = 256;
const KEYS: [&str; 4] = ["keys", "roots", "identities", "accept"];

/// Whose evidence of one kind is believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KindRules {
    /// Files with public keys of those whose signatures count.
    pub keys: Vec<String>,
    /// Files with roots of trust, in the form of the kind.
    pub roots: Vec<String>,
    /// Whose certificates count: the names in them, as `identity` or `identity issuer`.
    pub identities: BTreeSet<String>,
    /// What may be shown: digests, measurements, builders. Empty: anything.
    pub accept: BTreeSet<String>,
}

/// The same by kind. A kind without an entry is not believed.
pub type EvidenceRules = BTreeMap<String, KindRules>;

/// Whether a text names evidence in a rule: a kind, or `kind=value` with 1 to [`MAX_VALUE`] printable characters without spaces.
#[must_use]
pub fn is_evidence_name(text: &str) -> bool {
    let (kind, value) =
        text.split_once('=').map_or((text, None), |(kind, value)| (kind, Some(value)));
    let is_value = |value: &str| {
        (1..=MAX_VALUE).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_graphic())
    };
    is_kind_name(kind) && value.is_none_or(is_value)
}

impl Reader<'_> {
    /// Reads `[evidence]`.
    pub(super) fn evidence_rules(&self, root: &DeTable<'_>) -> Result<EvidenceRules, PolicyError> {
        let mut rules = EvidenceRules::new();
        let Some(value) = root.get("evidence") else { return Ok(rules) };
        let kinds = self.table(value, "evidence")?;
        self.known(kinds, &KINDS, "[evidence]")?;
        for (kind, value) in kinds {
            let name = kind.get_ref().as_ref();
            let table = self.table(value, &format!("evidence.{name}"))?;
            self.known(table, &KEYS, &format!("[evidence.{name}]"))?;
            let found = KindRules {
                keys: self.texts(table, "keys")?,
                roots: self.texts(table, "roots")?,
                identities: self.texts(table, "identities")?.into_iter().collect(),
                accept: self.texts(table, "accept")?.into_iter().collect(),
            };
            rules.insert(name.to_owned(), found);
        }
        Ok(rules)
    }

    fn texts(&self, table: &DeTable<'_>, key: &str) -> Result<Vec<String>, PolicyError> {
        let Some(value) = table.get(key) else { return Ok(Vec::new()) };
        let list = self.list(value, key)?;
        if list.len() > MAX_ENTRIES {
            let what = format!("`{key}` has {} entries", list.len());
            return Err(self.error(value.span(), what, format!("name at most {MAX_ENTRIES}")));
        }
        list.into_iter().map(|value| self.entry(value, key)).collect()
    }

    fn entry(&self, value: &Value<'_>, key: &str) -> Result<String, PolicyError> {
        let text = self.text_of(value, key)?;
        if text.is_empty() || text.len() > MAX_VALUE || text.chars().any(char::is_control) {
            let what = format!("`{}` is no entry of `{key}`", shown(text));
            let hint = format!("write 1 to {MAX_VALUE} characters");
            return Err(self.error(value.span(), what, hint));
        }
        Ok(text.to_owned())
    }
}
