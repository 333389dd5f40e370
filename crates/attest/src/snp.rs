//! Reports of AMD SEV-SNP.
//!
//! The evidence is deterministic CBOR `{0: report (1184 bytes), 1: certificate of the key that signed it (VCEK or VLEK, DER)}`. The certificate leads to
//! AMD's root: those of Milan, Genoa and Turin are built in, others come by file. Beside the signatures it is checked that the certificate is valid
//! now, that it is for this chip and this firmware, that the guest can be neither debugged nor migrated, and that the report is what was signed, to
//! the bit. Not checked: revocation, which would have to be looked up.
//!
//! Source: AMD, SEV Secure Nested Paging Firmware ABI (56860); VCEK Certificate and KDS Interface (57230).

use std::collections::BTreeSet;

use comity_core::{Time, canonical};
use comity_trust::evidence::{AppraisalError, EvidenceVerifier, Fact, Presented};
use data_encoding::BASE64;
use sev::certs::snp::{Certificate as AmdCertificate, Verifiable as _, builtin};
use sev::firmware::guest::AttestationReport;
use sev::firmware::host::TcbVersion;
use sev::parser::ByteParser as _;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::der::asn1::ObjectIdentifier;

use crate::pack::Reported;
use crate::quote::{Quote, fact};

/// Length of a report (ABI table 23).
const REPORT: usize = 1184;
/// Longest certificate, in bytes.
const MAX_CERTIFICATE: usize = 4096;
/// ECDSA on P-384 with SHA-384 (ABI table 139).
const ECDSA_P384_SHA384: u32 = 1;

const fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

/// What a VCEK says of chip and firmware (57230, table 8).
const BOOTLOADER: ObjectIdentifier = oid("1.3.6.1.4.1.3704.1.3.1");
const TEE: ObjectIdentifier = oid("1.3.6.1.4.1.3704.1.3.2");
const SNP: ObjectIdentifier = oid("1.3.6.1.4.1.3704.1.3.3");
const MICROCODE: ObjectIdentifier = oid("1.3.6.1.4.1.3704.1.3.8");
const FMC: ObjectIdentifier = oid("1.3.6.1.4.1.3704.1.3.9");
const CHIP: ObjectIdentifier = oid("1.3.6.1.4.1.3704.1.4");
/// A VLEK names the cloud provider instead of a chip.
const PROVIDER: ObjectIdentifier = oid("1.3.6.1.4.1.3704.1.5");

/// Why AMD's certificates cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is no chain of AMD's certificates, ASK or ASVK first and ARK last (PEM): {what}")]
pub struct SnpRootError {
    /// The file.
    pub name: String,
    /// What is wrong.
    pub what: String,
}

/// Reads evidence of kind `sev-snp`.
#[derive(Clone, Debug, Default)]
pub struct SnpReports {
    /// Signers of keys' certificates, given by file; the built-in ones if there are none.
    signers: Vec<AmdCertificate>,
    accept: BTreeSet<String>,
}

fn malformed(what: &str, error: impl std::fmt::Display) -> AppraisalError {
    AppraisalError::Malformed(format!("{what}: {error}"))
}

fn untrusted(what: impl Into<String>) -> AppraisalError {
    AppraisalError::Untrusted(what.into())
}

impl SnpReports {
    /// Believes AMD about code of these measurements, in hex.
    #[must_use]
    pub const fn new(accept: BTreeSet<String>) -> Self {
        Self { signers: Vec::new(), accept }
    }

    /// Adds a chain given by file, in place of those built in.
    ///
    /// # Errors
    /// [`SnpRootError`].
    pub fn add_chain(&mut self, name: &str, pem: &str) -> Result<(), SnpRootError> {
        let error = |what: String| SnpRootError { name: name.to_owned(), what };
        let mut chain = Vec::new();
        for block in pem.split("-----BEGIN CERTIFICATE-----").skip(1).take(3) {
            let (body, _) = block
                .split_once("-----END CERTIFICATE-----")
                .ok_or_else(|| error("a block has no end".to_owned()))?;
            let body: String = body.split_ascii_whitespace().collect();
            let der = BASE64.decode(body.as_bytes());
            let der = der.map_err(|_| error("a block is not base64".to_owned()))?;
            chain.push(AmdCertificate::from_der(&der).map_err(|found| error(found.to_string()))?);
        }
        let [signer, root] = <[AmdCertificate; 2]>::try_from(chain)
            .map_err(|chain| error(format!("it has {} certificates", chain.len())))?;
        (&root, &root).verify().map_err(|found| error(found.to_string()))?;
        (&root, &signer).verify().map_err(|found| error(found.to_string()))?;
        self.signers.push(signer);
        Ok(())
    }

    /// Verifies a report, whatever it is bound to.
    ///
    /// # Errors
    /// [`AppraisalError`].
    pub fn verify(&self, blob: &[u8], now: Time) -> Result<Quote, AppraisalError> {
        let blob: Reported = canonical::decode_minicbor(blob)
            .map_err(|error| malformed("not a report and a certificate", error))?;
        if blob.report.len() != REPORT || blob.certificate.len() > MAX_CERTIFICATE {
            let text =
                format!("a report has {REPORT} bytes, a certificate at most {MAX_CERTIFICATE}");
            return Err(AppraisalError::Malformed(text));
        }
        let report = AttestationReport::from_bytes(&blob.report)
            .map_err(|error| malformed("the report", error))?;
        // The crate verifies what it writes, which must be what it read.
        if report.to_bytes().ok().is_none_or(|bytes| bytes[..] != blob.report[..]) {
            return Err(AppraisalError::Malformed("the report has more than one form".to_owned()));
        }
        if report.sig_algo != ECDSA_P384_SHA384 {
            return Err(AppraisalError::Nothing("a report signed in another way".to_owned()));
        }
        if report.policy.debug_allowed() || report.policy.migrate_ma_allowed() {
            let text = "the guest may be debugged or migrated: its operator can look into it";
            return Err(untrusted(text));
        }
        let certificate = Certificate::from_der(&blob.certificate)
            .map_err(|error| malformed("the certificate", error))?;
        is_valid(&certificate, now)?;
        is_for(&certificate, &report)?;
        self.is_signed(&certificate, &blob.certificate, &report)?;
        let TcbVersion { bootloader, tee, snp, microcode, .. } = report.reported_tcb;
        let platform = format!(
            "AMD SEV-SNP at VMPL {}, firmware {bootloader}.{tee}.{snp}.{microcode}",
            report.vmpl
        );
        let (report_data, measurement) = (report.report_data, report.measurement.to_vec());
        Ok(Quote { report_data, measurement, platform })
    }

    /// One signature of RSA and one of ECDSA: the certificate's and the report's.
    fn is_signed(
        &self,
        certificate: &Certificate,
        der: &[u8],
        report: &AttestationReport,
    ) -> Result<(), AppraisalError> {
        let key =
            AmdCertificate::from_der(der).map_err(|error| malformed("the certificate", error))?;
        let issuer = certificate.tbs_certificate().issuer().to_string();
        let built_in = if issuer.contains("Milan") {
            builtin::milan::ask()
        } else if issuer.contains("Genoa") {
            builtin::genoa::ask()
        } else {
            builtin::turin::ask()
        };
        let leads = if self.signers.is_empty() {
            built_in.is_ok_and(|signer| (&signer, &key).verify().is_ok())
        } else {
            self.signers.iter().any(|signer| (signer, &key).verify().is_ok())
        };
        if !leads {
            return Err(untrusted("the certificate of the report's key does not lead to AMD"));
        }
        (&key, report).verify().map_err(|_| untrusted("the report is not signed by its key"))
    }
}

fn is_valid(certificate: &Certificate, now: Time) -> Result<(), AppraisalError> {
    let validity = certificate.tbs_certificate().validity();
    let (from, until) = (
        validity.not_before.to_unix_duration().as_secs(),
        validity.not_after.to_unix_duration().as_secs(),
    );
    if (from..=until).contains(&now.as_secs()) {
        Ok(())
    } else {
        Err(untrusted("the certificate of the report's key is not valid now"))
    }
}

/// The certificate is for the chip and the firmware that the report names.
fn is_for(certificate: &Certificate, report: &AttestationReport) -> Result<(), AppraisalError> {
    let extension = |id: ObjectIdentifier| {
        let mut all = certificate.tbs_certificate().extensions().into_iter().flatten();
        all.find(|extension| extension.extn_id == id).map(|found| found.extn_value.as_bytes())
    };
    let version = |id| extension(id).and_then(|der| u8::from_der(der).ok());
    let tcb = report.reported_tcb;
    let same_firmware = version(BOOTLOADER) == Some(tcb.bootloader)
        && version(TEE) == Some(tcb.tee)
        && version(SNP) == Some(tcb.snp)
        && version(MICROCODE) == Some(tcb.microcode)
        && tcb.fmc.is_none_or(|fmc| version(FMC) == Some(fmc));
    if !same_firmware {
        return Err(untrusted("the certificate is for another firmware than the report names"));
    }
    let same_chip = match extension(CHIP) {
        Some(chip) => {
            // Some have the number as it is, some in an OCTET STRING; those of Turin have 8 bytes of it.
            let chip = chip.strip_prefix(&[0x04, 0x40]).unwrap_or(chip);
            let chip = chip.strip_prefix(&[0x04, 0x08]).unwrap_or(chip);
            matches!(chip.len(), 8 | 64) && report.chip_id.starts_with(chip)
        }
        None => extension(PROVIDER).is_some(),
    };
    if same_chip {
        Ok(())
    } else {
        Err(untrusted("the certificate is for another chip than the report names"))
    }
}

impl EvidenceVerifier for SnpReports {
    fn kind(&self) -> &'static str {
        "sev-snp"
    }

    fn appraise(&self, presented: &Presented, now: Time) -> Result<Vec<Fact>, AppraisalError> {
        let quote = self.verify(&presented.evidence.blob, now)?;
        fact(self.kind(), "AMD", quote, &self.accept, presented)
    }
}
