//! Verifiers of evidence, built in: who is believed comes from the policy file, and nothing is looked up in a network.
//!
//! [`verifiers`] makes of `[evidence.KIND]` what a node appraises evidence with. What evidence is, how it is bound to a session and what a fact
//! means is in [`comity_trust::evidence`].
//!
//! | kind | read by | its word |
//! |---|---|---|
//! | `model-signing` | [`SignedModels`] | whose key or certificate ([`sigstore`]) signed the files |
//! | `provenance` | [`SignedBuilds`] | whose key or certificate signed how an artifact was built |
//! | `trace` | [`comity_trust::evidence::TraceCommitments`] | the agent's own, from then on |
//! | `sev-snp` | `SnpReports`, with feature `sev-snp` | AMD's |
//! | `tdx` | `TdxQuotes`, with feature `tdx` | Intel's |
//!
//! [`verify_model`] compares a directory with what was signed.

mod config;
mod directory;
mod pack;
#[cfg(any(feature = "sev-snp", feature = "tdx"))]
mod quote;
pub mod sigstore;
#[cfg(feature = "sev-snp")]
mod snp;
mod statements;
#[cfg(feature = "tdx")]
mod tdx;

pub use config::{ConfigError, MAX_FILE, ReadFile, authorities, verifiers};
pub use directory::{ModelError, verify_model};
pub use pack::{PackError, pack};
#[cfg(any(feature = "sev-snp", feature = "tdx"))]
pub use quote::Quote;
#[cfg(feature = "sev-snp")]
pub use snp::{SnpReports, SnpRootError};
pub use statements::{Authorities, MAX_BUNDLE, SignedBuilds, SignedModels, Statement};
#[cfg(feature = "tdx")]
pub use tdx::TdxQuotes;
