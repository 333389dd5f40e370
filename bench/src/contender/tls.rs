//! One self-signed certificate per server, checked by the client like any other: TLS 1.3, ring.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

/// The name in every certificate here.
pub(crate) const SERVER_NAME: &str = "localhost";

/// A key and its self-signed certificate (ECDSA P-256), as PEM.
pub(crate) struct Certified {
    pub(crate) cert_pem: String,
    pub(crate) key_pem: String,
}

/// Makes a certificate for [`SERVER_NAME`].
pub(crate) fn certify() -> Result<Certified> {
    let made = rcgen::generate_simple_self_signed([SERVER_NAME.to_owned()])
        .context("make a self-signed certificate")?;
    Ok(Certified { cert_pem: made.cert.pem(), key_pem: made.key_pair.serialize_pem() })
}

/// Server side, TLS 1.3 only, speaking `alpn`.
pub(crate) fn server(certified: &Certified, alpn: &[u8]) -> Result<Arc<ServerConfig>> {
    let cert = CertificateDer::from_pem_slice(certified.cert_pem.as_bytes())
        .context("read the certificate")?;
    let key =
        PrivateKeyDer::from_pem_slice(certified.key_pem.as_bytes()).context("read the key")?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![cert], key)?;
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(Arc::new(config))
}

/// Client side: trusts `cert_pem` alone and never resumes, so that every handshake is a full one.
pub(crate) fn client(cert_pem: &str, alpn: &[u8]) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(
        CertificateDer::from_pem_slice(cert_pem.as_bytes()).context("read the certificate")?,
    )?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}
