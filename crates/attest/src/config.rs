//! From the policy's words to verifiers.

use std::io;

use comity_trust::evidence::{KeyFileError, TraceCommitments, TrustedKeys, Verifiers};
use comity_trust::policy::{EvidenceRules, KindRules};

use crate::sigstore::{IdentityError, RootError, TrustedRoot};
use crate::statements::{Authorities, SignedBuilds, SignedModels};

/// Longest key file or trust root that is read, in bytes.
pub const MAX_FILE: usize = 1 << 20;

/// Why `[evidence.KIND]` cannot come into force.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A file it names cannot be read.
    #[error("[evidence.{kind}] names `{file}`, which cannot be read")]
    Io {
        /// The kind.
        kind: String,
        /// The file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// A key file holds no keys.
    #[error("[evidence.{kind}] names no keys that can be used")]
    Keys {
        /// The kind.
        kind: String,
        /// What is wrong.
        source: KeyFileError,
    },
    /// A root of trust is none.
    #[error("[evidence.{kind}] names no root of trust that can be used")]
    Root {
        /// The kind.
        kind: String,
        /// What is wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An identity is none.
    #[error("[evidence.{kind}] names nobody")]
    Identity {
        /// The kind.
        kind: String,
        /// What is wrong.
        source: IdentityError,
    },
    /// Something is set that the kind has no use for, or that is of no use alone.
    #[error("[evidence.{kind}] has no use for `{key}`: {hint}")]
    Useless {
        /// The kind.
        kind: String,
        /// What is set.
        key: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// The kind's verifier is not part of this program.
    #[error(
        "[evidence.{kind}]: this program was built without its verifier; build it with feature `{kind}`"
    )]
    NotBuilt {
        /// The kind, and the cargo feature.
        kind: String,
    },
}

/// Reads a file that a policy names.
pub type ReadFile<'r> = &'r mut dyn FnMut(&str) -> io::Result<Vec<u8>>;

/// The verifiers for what a policy says. `trace` is always among them: it needs nobody's word.
///
/// # Errors
/// [`ConfigError`].
pub fn verifiers(rules: &EvidenceRules, read: ReadFile<'_>) -> Result<Verifiers, ConfigError> {
    let mut all = Verifiers::new().with(TraceCommitments);
    for (kind, rules) in rules {
        let accept = rules.accept.clone();
        all = match kind.as_str() {
            "model-signing" => all.with(SignedModels::new(authorities(kind, rules, read)?, accept)),
            "provenance" => all.with(SignedBuilds::new(authorities(kind, rules, read)?, accept)),
            "sev-snp" => with_snp(all, rules, read)?,
            "tdx" => with_tdx(all, rules, read)?,
            _ => {
                let used = [
                    ("keys", rules.keys.is_empty()),
                    ("roots", rules.roots.is_empty()),
                    ("identities", rules.identities.is_empty()),
                    ("accept", rules.accept.is_empty()),
                ];
                useless(kind, &used, "it needs nobody's word")?;
                all
            }
        };
    }
    Ok(all)
}

fn useless(
    kind: &str,
    keys: &[(&'static str, bool)],
    hint: &'static str,
) -> Result<(), ConfigError> {
    match keys.iter().find(|(_, is_empty)| !is_empty) {
        Some((key, _)) => Err(ConfigError::Useless { kind: kind.to_owned(), key, hint }),
        None => Ok(()),
    }
}

/// Who is believed about statements of a kind.
///
/// # Errors
/// [`ConfigError`].
pub fn authorities(
    kind: &str,
    rules: &KindRules,
    read: ReadFile<'_>,
) -> Result<Authorities, ConfigError> {
    let mut found = Authorities { keys: keys(kind, rules, read)?, ..Authorities::default() };
    for file in &rules.roots {
        let json = bytes(kind, file, read)?;
        found.roots.push(TrustedRoot::read(file, &json).map_err(|source: RootError| {
            ConfigError::Root { kind: kind.to_owned(), source: source.into() }
        })?);
    }
    for identity in &rules.identities {
        let failed = |source| ConfigError::Identity { kind: kind.to_owned(), source };
        found.identities.push(identity.parse().map_err(failed)?);
    }
    let (roots, identities) = (found.roots.is_empty(), found.identities.is_empty());
    if roots != identities {
        let (key, hint) = if roots {
            ("identities", "name the trusted root that vouches for them in `roots`")
        } else {
            ("roots", "name whose certificates count in `identities`")
        };
        return Err(ConfigError::Useless { kind: kind.to_owned(), key, hint });
    }
    Ok(found)
}

#[cfg(feature = "sev-snp")]
fn with_snp(
    all: Verifiers,
    rules: &KindRules,
    read: ReadFile<'_>,
) -> Result<Verifiers, ConfigError> {
    let (kind, hint) = ("sev-snp", "AMD's own chain is built in, others go to `roots`");
    let used = [("keys", rules.keys.is_empty()), ("identities", rules.identities.is_empty())];
    useless(kind, &used, hint)?;
    let mut reports = crate::SnpReports::new(rules.accept.clone());
    for file in &rules.roots {
        let pem = text(kind, file, read)?;
        reports
            .add_chain(file, &pem)
            .map_err(|source| ConfigError::Root { kind: kind.to_owned(), source: source.into() })?;
    }
    Ok(all.with(reports))
}

#[cfg(not(feature = "sev-snp"))]
fn with_snp(_: Verifiers, _: &KindRules, _: ReadFile<'_>) -> Result<Verifiers, ConfigError> {
    Err(ConfigError::NotBuilt { kind: "sev-snp".to_owned() })
}

#[cfg(feature = "tdx")]
fn with_tdx(
    all: Verifiers,
    rules: &KindRules,
    read: ReadFile<'_>,
) -> Result<Verifiers, ConfigError> {
    let (kind, hint) = ("tdx", "Intel's root is built in, another goes to `roots`");
    let used = [("keys", rules.keys.is_empty()), ("identities", rules.identities.is_empty())];
    useless(kind, &used, hint)?;
    let accept = rules.accept.clone();
    Ok(match rules.roots.as_slice() {
        [] => all.with(crate::TdxQuotes::new(accept)),
        [file] => all.with(crate::TdxQuotes::with_root(accept, bytes(kind, file, read)?)),
        _ => {
            let hint = "one root certificate (DER) at most";
            return Err(ConfigError::Useless { kind: kind.to_owned(), key: "roots", hint });
        }
    })
}

#[cfg(not(feature = "tdx"))]
fn with_tdx(_: Verifiers, _: &KindRules, _: ReadFile<'_>) -> Result<Verifiers, ConfigError> {
    Err(ConfigError::NotBuilt { kind: "tdx".to_owned() })
}

fn keys(kind: &str, rules: &KindRules, read: ReadFile<'_>) -> Result<TrustedKeys, ConfigError> {
    let mut keys = TrustedKeys::new();
    for file in &rules.keys {
        let text = text(kind, file, read)?;
        let failed = |source| ConfigError::Keys { kind: kind.to_owned(), source };
        keys.add_pem(file, &text).map_err(failed)?;
    }
    Ok(keys)
}

fn bytes(kind: &str, file: &str, read: ReadFile<'_>) -> Result<Vec<u8>, ConfigError> {
    let failed = |source| ConfigError::Io { kind: kind.to_owned(), file: file.to_owned(), source };
    read(file).map_err(failed)
}

fn text(kind: &str, file: &str, read: ReadFile<'_>) -> Result<String, ConfigError> {
    String::from_utf8(bytes(kind, file, read)?).map_err(|error| ConfigError::Io {
        kind: kind.to_owned(),
        file: file.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidData, error),
    })
}
