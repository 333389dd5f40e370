//! Quotes as evidence: two files in one.

use comity_core::canonical;
use comity_trust::evidence::MAX_BLOB;

/// A report and the certificate of its key (DER), or a quote and its collateral (JSON).
#[derive(minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub(crate) struct Reported {
    #[cbor(n(0), with = "minicbor::bytes")]
    pub(crate) report: Vec<u8>,
    #[cbor(n(1), with = "minicbor::bytes")]
    pub(crate) certificate: Vec<u8>,
}

comity_core::impl_canonical!(Reported);

/// The same with text.
#[derive(minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub(crate) struct Quoted {
    #[cbor(n(0), with = "minicbor::bytes")]
    pub(crate) quote: Vec<u8>,
    #[n(1)]
    pub(crate) collateral: String,
}

comity_core::impl_canonical!(Quoted);

/// Why two files are no evidence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// Not a kind of quotes.
    #[error("evidence of kind `{0}` is one file and needs no packing: sev-snp and tdx are packed")]
    Kind(String),
    /// The second is not text.
    #[error("the collateral is not JSON in UTF-8")]
    Collateral,
    /// Too long.
    #[error("{0} bytes, and evidence has at most {MAX_BLOB}")]
    TooLong(usize),
}

/// The evidence of a report of SEV-SNP and its key's certificate, or of a quote of TDX and its collateral.
///
/// # Errors
/// [`PackError`].
pub fn pack(kind: &str, first: &[u8], second: &[u8]) -> Result<Vec<u8>, PackError> {
    let bytes = match kind {
        "sev-snp" => {
            let (report, certificate) = (first.to_vec(), second.to_vec());
            canonical::encode_minicbor(&Reported { report, certificate })
        }
        "tdx" => {
            let collateral =
                String::from_utf8(second.to_vec()).map_err(|_| PackError::Collateral)?;
            canonical::encode_minicbor(&Quoted { quote: first.to_vec(), collateral })
        }
        other => return Err(PackError::Kind(other.chars().take(64).collect())),
    };
    if bytes.len() > MAX_BLOB { Err(PackError::TooLong(bytes.len())) } else { Ok(bytes) }
}
