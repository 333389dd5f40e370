//! The trusted root: which logs and authorities an operator believes.

use comity_trust::evidence::{PublicKey, check_json};
use data_encoding::BASE64;
use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// Longest trusted root, in bytes.
pub const MAX_ROOT: usize = 256 * 1024;
/// Most logs, most authorities, and most certificates of one.
const MAX_ENTRIES: usize = 32;

/// Why a trusted root is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RootError {
    /// Too long, too deep, or not JSON of a trusted root.
    #[error(
        "`{name}` is no trusted root of sigstore (application/vnd.dev.sigstore.trustedroot+json): {what}"
    )]
    Form {
        /// The file.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// It has nobody in it that could vouch for anything.
    #[error(
        "`{name}` names no log with a key on P-256 and no certificate authority: nothing could be verified with it"
    )]
    Empty {
        /// The file.
        name: String,
    },
}

/// From when until when something is believed, in seconds since the UNIX epoch, both included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    from: i64,
    until: Option<i64>,
}

impl Span {
    pub(super) fn covers(&self, at: u64) -> bool {
        i64::try_from(at)
            .is_ok_and(|at| at >= self.from && self.until.is_none_or(|until| at <= until))
    }
}

/// A transparency log.
#[derive(Clone, Debug)]
pub(super) struct Log {
    /// SHA-256 of its public key (DER, `SubjectPublicKeyInfo`): how entries and checkpoints name it.
    pub(super) id: [u8; 32],
    pub(super) key: PublicKey,
    pub(super) valid: Span,
}

/// A certificate authority.
#[derive(Clone, Debug)]
pub(super) struct Authority {
    pub(super) anchor: TrustAnchor<'static>,
    pub(super) intermediates: Vec<CertificateDer<'static>>,
    pub(super) valid: Span,
}

/// A trusted root, read from a file.
#[derive(Clone, Debug)]
pub struct TrustedRoot {
    pub(super) logs: Vec<Log>,
    pub(super) authorities: Vec<Authority>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RootJson {
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    tlogs: Vec<LogJson>,
    #[serde(default)]
    certificate_authorities: Vec<AuthorityJson>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogJson {
    public_key: KeyJson,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyJson {
    raw_bytes: String,
    valid_for: Option<SpanJson>,
}

#[derive(Deserialize)]
struct SpanJson {
    start: Option<String>,
    end: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuthorityJson {
    cert_chain: ChainJson,
    valid_for: Option<SpanJson>,
}

#[derive(Deserialize)]
struct ChainJson {
    certificates: Vec<CertificateJson>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CertificateJson {
    raw_bytes: String,
}

impl SpanJson {
    /// A span without a beginning is none: what was never said to be believed is not.
    fn read(span: Option<&Self>) -> Option<Span> {
        let seconds = |text: &String| text.parse::<Timestamp>().ok().map(Timestamp::as_second);
        let span = span?;
        let until = match &span.end {
            Some(end) => Some(seconds(end)?),
            None => None,
        };
        Some(Span { from: seconds(span.start.as_ref()?)?, until })
    }
}

impl TrustedRoot {
    /// Reads a file; `name` is what errors call it. Entries with keys of other kinds, or without a time from which they are believed, are left out.
    ///
    /// # Errors
    /// [`RootError`].
    pub fn read(name: &str, json: &[u8]) -> Result<Self, RootError> {
        let form = |what: String| RootError::Form { name: name.to_owned(), what };
        check_json(json, MAX_ROOT).map_err(|error| form(error.to_string()))?;
        let root: RootJson =
            serde_json::from_slice(json).map_err(|error| form(error.to_string()))?;
        if !root.media_type.starts_with("application/vnd.dev.sigstore.trustedroot") {
            return Err(form("its mediaType is another".to_owned()));
        }
        if root.tlogs.len().max(root.certificate_authorities.len()) > MAX_ENTRIES {
            return Err(form(format!("more than {MAX_ENTRIES} entries of a sort")));
        }
        let logs: Vec<Log> = root.tlogs.iter().filter_map(Log::read).collect();
        let mut authorities = Vec::new();
        for authority in &root.certificate_authorities {
            authorities.extend(Authority::read(authority).map_err(|what| form(what.to_owned()))?);
        }
        if logs.is_empty() || authorities.is_empty() {
            return Err(RootError::Empty { name: name.to_owned() });
        }
        Ok(Self { logs, authorities })
    }
}

impl Log {
    fn read(log: &LogJson) -> Option<Self> {
        let der = BASE64.decode(log.public_key.raw_bytes.as_bytes()).ok()?;
        let key = PublicKey::from_spki(&der)?;
        let valid = SpanJson::read(log.public_key.valid_for.as_ref())?;
        Some(Self { id: Sha256::digest(&der).into(), key, valid })
    }
}

impl Authority {
    fn read(authority: &AuthorityJson) -> Result<Option<Self>, &'static str> {
        let Some(valid) = SpanJson::read(authority.valid_for.as_ref()) else { return Ok(None) };
        let certificates = &authority.cert_chain.certificates;
        if certificates.is_empty() || certificates.len() > MAX_ENTRIES {
            return Err("an authority without certificates, or with too many");
        }
        let mut chain = Vec::new();
        for certificate in certificates {
            let der = BASE64.decode(certificate.raw_bytes.as_bytes());
            chain.push(CertificateDer::from(der.map_err(|_| "a certificate is not base64")?));
        }
        let last = chain.pop().ok_or("an authority without certificates")?;
        let anchor = webpki::anchor_from_trusted_cert(&last)
            .map_err(|_| "a root certificate cannot be read")?
            .to_owned();
        Ok(Some(Self { anchor, intermediates: chain, valid }))
    }
}
