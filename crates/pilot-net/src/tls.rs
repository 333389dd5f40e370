//! TLS towards a registry whose certificate is known by its fingerprint, and for a rendezvous of one's own.
//!
//! Pilot pins the SHA-256 of the certificate (DER), as 64 hexadecimal digits. Nothing else of the certificate is looked at: no name, no date,
//! no issuer. Only TLS 1.3 is spoken.

use std::io;
use std::str::FromStr;
use std::sync::Arc;

use comity_pilot::identity::Identity;
use ed25519_dalek::Signer as _;
use sha2::{Digest as _, Sha256};
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime,
};
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, ServerConfig, SignatureScheme,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// SHA-256 of a certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    fn of(certificate: &[u8]) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// A text is no fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint is the SHA-256 of the certificate, 64 hexadecimal digits")]
pub struct FingerprintError;

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    /// Hexadecimal digits of either case; colons between them are ignored.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits: Vec<u8> = text
            .chars()
            .filter(|char| *char != ':')
            .map(|char| char.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
            .collect::<Option<_>>()
            .ok_or(FingerprintError)?;
        if digits.len() != 64 {
            return Err(FingerprintError);
        }
        let mut out = [0; 32];
        for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair[0] << 4 | pair[1];
        }
        Ok(Self(out))
    }
}

#[derive(Debug)]
struct Pinned {
    fingerprint: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if Fingerprint::of(end_entity) == self.fingerprint {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only TLS 1.3 is spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// For connections to the server with this certificate alone.
pub(crate) fn connector(fingerprint: Fingerprint) -> io::Result<TlsConnector> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { fingerprint, provider }))
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// For a server with a certificate that its key signs itself: the same certificate for the same key, so that its fingerprint lasts.
pub(crate) fn acceptor(identity: &Identity) -> io::Result<(TlsAcceptor, Fingerprint)> {
    let certificate = certificate(identity);
    let fingerprint = Fingerprint::of(&certificate);
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(private_key(identity)));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from(certificate)], key)
        .map_err(io::Error::other)?;
    Ok((TlsAcceptor::from(Arc::new(config)), fingerprint))
}

/// DER: tag, length, content.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        length @ 0..=0x7F => out.push(u8::try_from(length).unwrap_or(0)),
        length @ 0x80..=0xFF => out.extend_from_slice(&[0x81, u8::try_from(length).unwrap_or(0)]),
        length => {
            let bytes = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
            out.push(0x82);
            out.extend_from_slice(&bytes);
        }
    }
    out.extend_from_slice(content);
    out
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OID: u8 = 0x06;
const UTF8: u8 = 0x0C;
/// Of years before 2050.
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// Ed25519, 1.3.101.112 (RFC 8410, section 3).
const ED25519: [u8; 3] = [0x2B, 0x65, 0x70];
/// Common name, 2.5.4.3.
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];
/// Subject alternative name, 2.5.29.17.
const ALTERNATIVE_NAME: [u8; 3] = [0x55, 0x1D, 0x11];
const NAME: &[u8] = b"comity-pilot.invalid";

/// A self-signed certificate (RFC 5280) that never ends: who pins it does not look at dates.
fn certificate(identity: &Identity) -> Vec<u8> {
    let algorithm = der(SEQUENCE, &der(OID, &ED25519));
    let common = [der(OID, &COMMON_NAME), der(UTF8, NAME)].concat();
    let name = der(SEQUENCE, &der(SET, &der(SEQUENCE, &common)));
    let validity =
        [der(UTC_TIME, b"240101000000Z"), der(GENERALIZED_TIME, b"99991231235959Z")].concat();
    let mut bits = vec![0];
    bits.extend_from_slice(identity.public().as_bytes());
    let public = der(SEQUENCE, &[algorithm.clone(), der(BIT_STRING, &bits)].concat());
    let names = der(SEQUENCE, &der(0x82, NAME));
    let extension =
        der(SEQUENCE, &[der(OID, &ALTERNATIVE_NAME), der(OCTET_STRING, &names)].concat());
    let to_sign = der(
        SEQUENCE,
        &[
            der(0xA0, &der(INTEGER, &[2])),
            der(INTEGER, &[1]),
            algorithm.clone(),
            name.clone(),
            der(SEQUENCE, &validity),
            name,
            public,
            der(0xA3, &der(SEQUENCE, &extension)),
        ]
        .concat(),
    );
    let mut signature = vec![0];
    signature.extend_from_slice(&identity.signing_key().sign(&to_sign).to_bytes());
    der(SEQUENCE, &[to_sign, algorithm, der(BIT_STRING, &signature)].concat())
}

/// PKCS #8 (RFC 8410, section 7).
fn private_key(identity: &Identity) -> Vec<u8> {
    let seed = der(OCTET_STRING, identity.signing_key().as_bytes());
    let parts = [der(INTEGER, &[0]), der(SEQUENCE, &der(OID, &ED25519)), der(OCTET_STRING, &seed)];
    der(SEQUENCE, &parts.concat())
}
