//! Why a node does not start, and how errors are told to people.

use std::io;

use comity_api::types::JoinFailure;
use thiserror::Error;

use crate::home::HomeError;
use crate::key_file::KeyFileError;
use crate::storage::StorageError;
use crate::transport::BindError;

/// Why a node could not be started.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// The home directory cannot be used.
    #[error(transparent)]
    Home(HomeError),
    /// The key cannot be used.
    #[error(transparent)]
    Key(KeyFileError),
    /// The key is not minted for the network.
    #[error(
        "the key has {found} mint bits and this network asks for {wanted}: make one with `comity id new --mint-bits {wanted}` in another --home"
    )]
    Mint {
        /// What the network asks for.
        wanted: u32,
        /// What the key has.
        found: u32,
    },
    /// The database cannot be used.
    #[error(transparent)]
    Storage(StorageError),
    /// The audit log cannot be kept, or is not the one that this agent signed.
    #[error(transparent)]
    Audit(crate::audit::AuditError),
    /// What was kept of the keys before cannot be used.
    #[error(transparent)]
    Lineage(crate::lineage::LineageError),
    /// The address cannot be listened on.
    #[error(transparent)]
    Bind(BindError),
    /// A thread cannot be started.
    #[error("the system refuses another thread: check its limits (`ulimit -u`)")]
    Thread(#[source] io::Error),
    /// The network runtime ended at once.
    #[error("the network runtime ended before the node was started")]
    Runtime,
    /// The policy file, or what was kept of grants, cannot be used.
    #[error(transparent)]
    Access(crate::access::AccessError),
    /// No join address let the node in.
    #[error(transparent)]
    Join(JoinError),
}

/// Why a network could not be entered.
#[derive(Debug, Error)]
#[error("could not join through any of {} address(es):{}; check that a node runs there and that you have its current ticket (`comity status` prints it)", failed.len(), listed(failed))]
pub struct JoinError {
    /// What became of each address.
    pub failed: Vec<JoinFailure>,
}

fn listed(failed: &[JoinFailure]) -> String {
    failed.iter().map(|failure| format!(" {}: {}", failure.address, failure.reason)).collect()
}

/// An error with its causes, in one line.
#[must_use]
pub fn describe(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", describe(source)),
        None => error.to_string(),
    }
}
