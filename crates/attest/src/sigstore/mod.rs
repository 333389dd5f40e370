//! Sigstore bundles, verified offline.
//!
//! A bundle carries a DSSE envelope and what verifies it: the hint of a key, or a short-lived certificate and an entry of a transparency log. Of the
//! second sort, all of this must hold, from a trusted root given by file and without asking anybody:
//!
//! 1. An entry names this certificate, this signature and this body ([`entry`]).
//! 2. A trusted log promised the entry, with its signature over body, number and time: the only statement of *when* that is read here. Bundles whose
//!    time is a timestamp authority's alone are refused.
//! 3. The entry is under a checkpoint that the same log signed (RFC 9162 inclusion).
//! 4. The certificate leads to a trusted authority, is for signing code, and was valid at that time ([`certificate`]).
//! 5. The certificate's key signed the envelope.
//!
//! Not checked: the certificate transparency timestamp in the certificate (it convicts an authority that issued what it should not have, and
//! would have to be looked up to do so), and revocation, which certificates of ten minutes do not have.
//!
//! Source: the sigstore client specification, bundle format v0.2 and v0.3 (github.com/sigstore/protobuf-specs).

pub(crate) mod bundle;
mod certificate;
mod entry;
mod root;

pub use certificate::{Identity, IdentityError};
pub use root::{MAX_ROOT, RootError, TrustedRoot};

use comity_trust::evidence::AppraisalError;

fn malformed(what: impl Into<String>) -> AppraisalError {
    AppraisalError::Malformed(what.into())
}

fn untrusted(what: impl Into<String>) -> AppraisalError {
    AppraisalError::Untrusted(what.into())
}

/// Bytes that JSON carries in standard base64.
fn base64(text: &str, what: &'static str) -> Result<Vec<u8>, AppraisalError> {
    data_encoding::BASE64
        .decode(text.as_bytes())
        .map_err(|_| malformed(format!("the {what} is not base64")))
}
