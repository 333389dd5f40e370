//! The entry of a transparency log: what it says, and that a trusted log has it.

use comity_trust::evidence::AppraisalError;
use data_encoding::{BASE64, HEXLOWER};
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::root::{Log, TrustedRoot};
use super::{base64, malformed, untrusted};

/// Longest entry, in bytes of its canonical JSON.
const MAX_ENTRY: usize = 256 * 1024;
/// Most hashes of an inclusion proof: as many as a log of 2^63 entries needs.
const MAX_PROOF: usize = 63;
/// Longest checkpoint, in bytes.
const MAX_CHECKPOINT: usize = 4 * 1024;
/// Most lines of signatures under a checkpoint that are looked at.
const MAX_SIGNATURES: usize = 16;
/// Seconds that the log's clock may be ahead of this host's.
const CLOCK_SKEW: u64 = 120;

/// A number as protobuf's JSON has it: text, or a number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Text(String),
    Plain(u64),
}

impl Number {
    fn read(&self) -> Result<u64, AppraisalError> {
        match self {
            Self::Text(text) => {
                text.parse().map_err(|_| malformed("a number is none, or negative"))
            }
            Self::Plain(number) => Ok(*number),
        }
    }
}

/// An entry, as bundles carry it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    log_index: Number,
    log_id: LogId,
    kind_version: KindVersion,
    integrated_time: Option<Number>,
    inclusion_promise: Option<Promise>,
    inclusion_proof: Option<Proof>,
    canonicalized_body: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogId {
    key_id: String,
}

#[derive(Deserialize)]
struct KindVersion {
    kind: String,
    version: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Promise {
    signed_entry_timestamp: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Proof {
    log_index: Number,
    root_hash: String,
    tree_size: Number,
    #[serde(default)]
    hashes: Vec<String>,
    checkpoint: Checkpoint,
}

#[derive(Deserialize)]
struct Checkpoint {
    envelope: String,
}

/// What an entry must be about.
pub(super) struct Signed<'a> {
    /// The body of the envelope.
    pub(super) body: &'a [u8],
    /// Its one signature.
    pub(super) signature: &'a [u8],
    /// The signer's certificate.
    pub(super) certificate: &'a [u8],
}

impl Entry {
    /// Checks the entry, and returns when the log took it in, in seconds since the UNIX epoch.
    pub(super) fn check(
        &self,
        root: &TrustedRoot,
        signed: &Signed<'_>,
        now: u64,
    ) -> Result<u64, AppraisalError> {
        if self.canonicalized_body.len() > MAX_ENTRY.div_ceil(3) * 4 {
            return Err(malformed(format!("the log's entry has more than {MAX_ENTRY} bytes")));
        }
        let body = base64(&self.canonicalized_body, "log's entry")?;
        self.is_about(&body, signed)?;
        let id = base64(&self.log_id.key_id, "log's name")?;
        let log = root.logs.iter().find(|log| log.id[..] == id[..]);
        let log = log.ok_or_else(|| untrusted("the log is none of the trusted root"))?;
        let at = self.promised(log, &body)?;
        if !log.valid.covers(at) {
            return Err(untrusted(
                "the log is not believed for the time at which it took the entry in",
            ));
        }
        if at > now.saturating_add(CLOCK_SKEW) {
            return Err(untrusted("the log took the entry in in the future"));
        }
        self.included(log, &body)?;
        Ok(at)
    }

    /// The log's promise: its signature over the entry, its number and the time (RFC 8785 JSON of four fields).
    fn promised(&self, log: &Log, body: &[u8]) -> Result<u64, AppraisalError> {
        let at = match &self.integrated_time {
            Some(time) => time.read()?,
            None => 0,
        };
        let promise = self.inclusion_promise.as_ref().filter(|_| at > 0).ok_or_else(|| {
            untrusted("the log did not sign when it took the entry in; times of timestamp authorities, which newer logs rely on, are not read")
        })?;
        let signature = base64(&promise.signed_entry_timestamp, "log's promise")?;
        let message = format!(
            "{{\"body\":\"{}\",\"integratedTime\":{at},\"logID\":\"{}\",\"logIndex\":{}}}",
            BASE64.encode(body),
            HEXLOWER.encode(&log.id),
            self.log_index.read()?,
        );
        if log.key.verifies(message.as_bytes(), &signature) {
            Ok(at)
        } else {
            Err(untrusted("the log's promise is not signed by it"))
        }
    }

    /// The entry is under a checkpoint of the log.
    fn included(&self, log: &Log, body: &[u8]) -> Result<(), AppraisalError> {
        let proof = self
            .inclusion_proof
            .as_ref()
            .ok_or_else(|| untrusted("the bundle does not prove that the log has the entry"))?;
        if proof.hashes.len() > MAX_PROOF {
            return Err(malformed(format!("a proof of more than {MAX_PROOF} hashes")));
        }
        let hash = |text: &String| {
            let bytes = base64(text, "proof")?;
            <[u8; 32]>::try_from(bytes).map_err(|_| malformed("a hash has 32 bytes"))
        };
        let path = proof.hashes.iter().map(hash).collect::<Result<Vec<_>, _>>()?;
        let (index, size) = (proof.log_index.read()?, proof.tree_size.read()?);
        let leaf: [u8; 32] = Sha256::new().chain_update([0]).chain_update(body).finalize().into();
        let root = root_over(leaf, index, size, &path);
        if root.is_none_or(|root| hash(&proof.root_hash).ok() != Some(root)) {
            return Err(untrusted("the proof does not lead from the entry to the log's root"));
        }
        let said = checkpoint(&proof.checkpoint.envelope, log)?;
        if said != (size, hash(&proof.root_hash)?) {
            return Err(untrusted("the proof leads to another root than the log's checkpoint has"));
        }
        Ok(())
    }

    /// The entry names this body, signature and certificate.
    fn is_about(&self, entry: &[u8], signed: &Signed<'_>) -> Result<(), AppraisalError> {
        comity_trust::evidence::check_json(entry, MAX_ENTRY)?;
        let parsed: Logged<'_> = serde_json::from_slice(entry)
            .map_err(|error| malformed(format!("the log's entry: {error}")))?;
        let KindVersion { kind, version } = &self.kind_version;
        if parsed.kind != *kind || parsed.api_version != *version {
            return Err(malformed("the log's entry is of another kind than the bundle says"));
        }
        let (digest, signature, verifier) = match (kind.as_str(), version.as_str()) {
            ("dsse", "0.0.1") => of_dsse(parsed.spec)?,
            ("intoto", "0.0.2") => of_intoto(parsed.spec)?,
            _ => {
                let text =
                    format!("entries of kind {} {} are not read", shown(kind), shown(version));
                return Err(AppraisalError::Nothing(text));
            }
        };
        let same_body = digest == HEXLOWER.encode(&Sha256::digest(signed.body));
        let certificate =
            pem(&verifier).ok_or_else(|| malformed("the certificate in the log's entry"))?;
        if same_body && signature == signed.signature && certificate == signed.certificate {
            Ok(())
        } else {
            Err(untrusted("the log's entry is about another body, signature or certificate"))
        }
    }
}

fn shown(text: &str) -> String {
    text.chars().filter(char::is_ascii_graphic).take(32).collect()
}

#[derive(Deserialize)]
struct Logged<'a> {
    #[serde(rename = "apiVersion")]
    api_version: String,
    kind: String,
    #[serde(borrow)]
    spec: &'a RawValue,
}

#[derive(Deserialize)]
struct Digest {
    algorithm: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DsseSpec {
    payload_hash: Digest,
    signatures: Vec<DsseSignature>,
}

#[derive(Deserialize)]
struct DsseSignature {
    signature: String,
    verifier: String,
}

/// Digest of the body in hex, signature, certificate in PEM.
type Named = (String, Vec<u8>, Vec<u8>);

fn of_dsse(spec: &RawValue) -> Result<Named, AppraisalError> {
    let spec: DsseSpec = serde_json::from_str(spec.get())
        .map_err(|error| malformed(format!("the log's entry: {error}")))?;
    let [signature] = spec.signatures.as_slice() else {
        return Err(malformed("the log's entry has not one signature"));
    };
    let digest = sha256(&spec.payload_hash)?;
    let verifier = base64(&signature.verifier, "certificate in the log's entry")?;
    Ok((digest, base64(&signature.signature, "signature in the log's entry")?, verifier))
}

#[derive(Deserialize)]
struct IntotoSpec {
    content: IntotoContent,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IntotoContent {
    envelope: IntotoEnvelope,
    payload_hash: Digest,
}

#[derive(Deserialize)]
struct IntotoEnvelope {
    signatures: Vec<IntotoSignature>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IntotoSignature {
    public_key: String,
    sig: String,
}

fn of_intoto(spec: &RawValue) -> Result<Named, AppraisalError> {
    let spec: IntotoSpec = serde_json::from_str(spec.get())
        .map_err(|error| malformed(format!("the log's entry: {error}")))?;
    let [signature] = spec.content.envelope.signatures.as_slice() else {
        return Err(malformed("the log's entry has not one signature"));
    };
    let digest = sha256(&spec.content.payload_hash)?;
    // Entries of this kind have the signature in base64 twice.
    let once = base64(&signature.sig, "signature in the log's entry")?;
    let text =
        String::from_utf8(once).map_err(|_| malformed("the signature in the log's entry"))?;
    let verifier = base64(&signature.public_key, "certificate in the log's entry")?;
    Ok((digest, base64(&text, "signature in the log's entry")?, verifier))
}

fn sha256(digest: &Digest) -> Result<String, AppraisalError> {
    if digest.algorithm == "sha256" {
        Ok(digest.value.clone())
    } else {
        Err(AppraisalError::Nothing("a body hashed with something else than SHA-256".to_owned()))
    }
}

/// The DER in one PEM block of a certificate.
fn pem(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let (_, rest) = text.split_once("-----BEGIN CERTIFICATE-----")?;
    let (body, _) = rest.split_once("-----END CERTIFICATE-----")?;
    let body: String = body.split_ascii_whitespace().collect();
    BASE64.decode(body.as_bytes()).ok()
}

/// The root of the tree of `size` leaves in which `leaf` has number `index` (RFC 9162 section 2.1.3.2).
fn root_over(leaf: [u8; 32], index: u64, size: u64, path: &[[u8; 32]]) -> Option<[u8; 32]> {
    let node = |left: &[u8; 32], right: &[u8; 32]| -> [u8; 32] {
        Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
    };
    let (mut at, mut last) = (index, size.checked_sub(1)?);
    if at > last {
        return None;
    }
    let mut root = leaf;
    for other in path {
        if last == 0 {
            return None;
        }
        if at & 1 == 1 || at == last {
            root = node(other, &root);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            root = node(&root, other);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    (last == 0).then_some(root)
}

/// Size and root of a checkpoint that the log signed (C2SP `tlog-checkpoint`, with the key's hint of Rekor: the first bytes of the log's name).
fn checkpoint(note: &str, log: &Log) -> Result<(u64, [u8; 32]), AppraisalError> {
    if note.len() > MAX_CHECKPOINT {
        return Err(malformed(format!("a checkpoint of more than {MAX_CHECKPOINT} bytes")));
    }
    let (text, signatures) =
        note.split_once("\n\n").ok_or_else(|| malformed("the checkpoint is no signed note"))?;
    let mut lines = text.lines();
    let origin = lines.next().filter(|origin| !origin.is_empty());
    let size = lines.next().and_then(|size| size.parse().ok());
    let root = lines.next().and_then(|root| BASE64.decode(root.as_bytes()).ok());
    let root = root.and_then(|root| <[u8; 32]>::try_from(root).ok());
    let (Some(_), Some(size), Some(root)) = (origin, size, root) else {
        return Err(malformed("the checkpoint has not origin, size and root"));
    };
    let message = format!("{text}\n");
    let mut all = signatures.lines().take(MAX_SIGNATURES).filter_map(|line| {
        let (_, signature) = line.strip_prefix("\u{2014} ")?.rsplit_once(' ')?;
        let bytes = BASE64.decode(signature.as_bytes()).ok()?;
        let (hint, signature) = bytes.split_at_checked(4)?;
        (hint == &log.id[..4]).then(|| signature.to_vec())
    });
    // Of a log that signs once, the first signature with its hint is its own.
    if all.next().is_some_and(|signature| log.key.verifies(message.as_bytes(), &signature)) {
        Ok((size, root))
    } else {
        Err(untrusted("the checkpoint is not signed by the log"))
    }
}
