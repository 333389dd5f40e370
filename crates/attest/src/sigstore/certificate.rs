//! The signer's certificate: does it lead to an authority, and whose is it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use comity_trust::evidence::AppraisalError;
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use webpki::ring::{
    ECDSA_P256_SHA256, ECDSA_P256_SHA384, ECDSA_P384_SHA256, ECDSA_P384_SHA384, ED25519,
};
use webpki::{EndEntityCert, KeyUsage};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::der::asn1::{ObjectIdentifier, Utf8StringRef};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::root::{Authority, TrustedRoot};
use super::{malformed, untrusted};

/// Longest certificate, in bytes.
pub(super) const MAX_CERTIFICATE: usize = 8 * 1024;
/// Longest name in a certificate that is taken over, in bytes.
const MAX_NAME: usize = 256;
/// `id-kp-codeSigning` (RFC 5280 section 4.2.1.12), as DER without tag and length.
const CODE_SIGNING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x03];
/// The issuer of the identity: UTF-8 in DER, and before that as plain bytes (Fulcio's `docs/oid-info.md`).
const ISSUER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.8");
const ISSUER_PLAIN: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.1");

static CHAIN: [&dyn SignatureVerificationAlgorithm; 5] =
    [ECDSA_P256_SHA256, ECDSA_P256_SHA384, ECDSA_P384_SHA256, ECDSA_P384_SHA384, ED25519];
/// What envelopes are signed with.
static LEAF: [&dyn SignatureVerificationAlgorithm; 3] =
    [ECDSA_P256_SHA256, ECDSA_P384_SHA384, ED25519];

/// Whose certificates count: a name in them and who vouched for it, `release@example.com https://accounts.example.com`. The name may end in `*`,
/// for workflows that carry a tag.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    name: String,
    issuer: String,
}

/// The text names no identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no identity: write the name in the certificate, a space, and the issuer that vouched for it, such as `me@example.com https://accounts.google.com`"
)]
pub struct IdentityError(String);

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let error = || IdentityError(text.chars().take(MAX_NAME).collect());
        let (name, issuer) = text.split_once(' ').ok_or_else(error)?;
        let whole = !name.trim_end_matches('*').is_empty() && !issuer.is_empty();
        if !whole || issuer.contains(' ') {
            return Err(error());
        }
        Ok(Self { name: name.to_owned(), issuer: issuer.to_owned() })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.issuer)
    }
}

impl Identity {
    /// Whether it means the one whom a certificate names.
    fn means(&self, found: &Self) -> bool {
        let name = match self.name.strip_suffix('*') {
            Some(beginning) => found.name.starts_with(beginning),
            None => self.name == found.name,
        };
        name && self.issuer == found.issuer
    }
}

/// Checks that the certificate leads to a trusted authority and was valid at `at`, that its key signed `message`, and that it is one of
/// `identities`. Returns whose it is.
pub(super) fn check(
    der: &[u8],
    root: &TrustedRoot,
    identities: &[Identity],
    at: u64,
    message: &[u8],
    signature: &[u8],
) -> Result<Identity, AppraisalError> {
    let certificate = CertificateDer::from(der);
    let leaf = EndEntityCert::try_from(&certificate)
        .map_err(|error| malformed(format!("the certificate: {error}")))?;
    let found = identity(der)?;
    if !identities.iter().any(|known| known.means(&found)) {
        return Err(untrusted(format!(
            "it was signed by {found}, whom `identities` does not name"
        )));
    }
    let time = UnixTime::since_unix_epoch(Duration::from_secs(at));
    let leads = |authority: &Authority| {
        let usage = KeyUsage::required(CODE_SIGNING);
        let anchors = std::slice::from_ref(&authority.anchor);
        leaf.verify_for_usage(&CHAIN, anchors, &authority.intermediates, time, usage, None, None)
            .is_ok()
    };
    let mut believed = root.authorities.iter().filter(|authority| authority.valid.covers(at));
    if !believed.any(leads) {
        let text = "the certificate leads to no authority of the trusted root, is not for signing, or was not valid when the log took the entry in";
        return Err(untrusted(text));
    }
    let signs = |with: &&dyn SignatureVerificationAlgorithm| {
        leaf.verify_signature(*with, message, signature).is_ok()
    };
    if !LEAF.iter().any(signs) {
        return Err(untrusted("the envelope is not signed by the key of its certificate"));
    }
    Ok(found)
}

fn identity(der: &[u8]) -> Result<Identity, AppraisalError> {
    let certificate = Certificate::from_der(der)
        .map_err(|error| malformed(format!("the certificate: {error}")))?;
    let body = certificate.tbs_certificate();
    let names = body.get_extension::<SubjectAltName>();
    let names = names.map_err(|error| malformed(format!("the certificate's names: {error}")))?;
    let name = names.as_ref().and_then(|(_, names)| match names.0.as_slice() {
        [GeneralName::Rfc822Name(name) | GeneralName::UniformResourceIdentifier(name)] => {
            Some(name.as_str())
        }
        _ => None,
    });
    let name =
        name.ok_or_else(|| untrusted("the certificate does not name one mail address or URI"))?;
    let extension = |oid: ObjectIdentifier| {
        let mut all = body.extensions().into_iter().flatten();
        all.find(|extension| extension.extn_id == oid).map(|found| found.extn_value.as_bytes())
    };
    let issuer = match extension(ISSUER) {
        Some(der) => Utf8StringRef::from_der(der).ok().map(|text| text.as_str().to_owned()),
        None => extension(ISSUER_PLAIN)
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .map(str::to_owned),
    };
    let issuer =
        issuer.ok_or_else(|| untrusted("the certificate does not say who vouched for its name"))?;
    let fits = |text: &str| {
        (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
    };
    if !fits(name) || !fits(&issuer) {
        return Err(malformed("a name in the certificate is too long or not printable"));
    }
    Ok(Identity { name: name.to_owned(), issuer })
}
