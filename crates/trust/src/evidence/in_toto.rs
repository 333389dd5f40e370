//! in-toto statements: build provenance (SLSA) and signed models (OpenSSF model-signing).

use std::collections::BTreeMap;

use comity_core::{Sha256Digest, Time, text};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::dsse::open_dsse;
use super::keys::TrustedKeys;
use super::{
    AppraisalError, Attackers, Claim, EvidenceVerifier, Fact, MAX_BLOB, MAX_FACTS, Presented,
    check_json,
};

const STATEMENT_TYPES: [&str; 2] =
    ["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"];
const SLSA_V1: &str = "https://slsa.dev/provenance/v1";
const SLSA_V02: &str = "https://slsa.dev/provenance/v0.2";
const MODEL_SIGNING: &str = "https://model_signing/signature/v1.0";
/// Longest statement that is read, in bytes: a manifest of some 20,000 files. In evidence, [`MAX_BLOB`] is nearer.
const MAX_BODY: usize = 4 << 20;
/// Longest name that is taken over into a fact, in bytes.
const MAX_TEXT: usize = 256;

#[derive(Deserialize)]
struct Statement<'a> {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    #[serde(borrow)]
    predicate: &'a RawValue,
}

#[derive(Deserialize)]
struct Subject {
    #[serde(default)]
    name: String,
    digest: BTreeMap<String, String>,
}

impl Subject {
    fn sha256(&self) -> Result<Sha256Digest, AppraisalError> {
        let digest = self.digest.get("sha256").map(|hex| text::hex_decode(hex));
        match digest {
            Some(Ok(bytes)) => Ok(Sha256Digest(bytes)),
            Some(Err(_)) | None => {
                Err(AppraisalError::Malformed("a subject has no SHA-256 digest".to_owned()))
            }
        }
    }
}

fn malformed(error: &serde_json::Error) -> AppraisalError {
    AppraisalError::Malformed(error.to_string())
}

/// Names are data of strangers that end on terminals and in logs.
fn plain(name: &str) -> Result<String, AppraisalError> {
    if name.len() <= MAX_TEXT && !name.chars().any(char::is_control) {
        Ok(name.to_owned())
    } else {
        Err(AppraisalError::Malformed(format!(
            "a name is longer than {MAX_TEXT} bytes or holds control characters"
        )))
    }
}

fn statement(body: &[u8]) -> Result<Statement<'_>, AppraisalError> {
    let statement: Statement<'_> =
        serde_json::from_slice(body).map_err(|error| malformed(&error))?;
    if !STATEMENT_TYPES.contains(&statement.kind.as_str()) {
        return Err(AppraisalError::Nothing("not an in-toto statement".to_owned()));
    }
    if statement.subject.is_empty() || statement.subject.len() > MAX_FACTS {
        let count = statement.subject.len();
        return Err(AppraisalError::Malformed(format!(
            "{count} subjects, and 1 to {MAX_FACTS} are read"
        )));
    }
    Ok(statement)
}

/// Reads evidence of kind `provenance`: a DSSE envelope around SLSA provenance, v1 or v0.2, signed by a builder the operator trusts.
#[derive(Clone, Debug)]
pub struct Provenance {
    builders: TrustedKeys,
}

#[derive(Deserialize)]
struct SlsaV1 {
    #[serde(rename = "buildDefinition")]
    definition: Definition,
    #[serde(rename = "runDetails")]
    run: Run,
}

#[derive(Deserialize)]
struct Definition {
    #[serde(rename = "buildType")]
    build_type: String,
}

#[derive(Deserialize)]
struct Run {
    builder: Builder,
}

#[derive(Deserialize)]
struct Builder {
    id: String,
}

#[derive(Deserialize)]
struct SlsaV02 {
    builder: Builder,
    #[serde(rename = "buildType")]
    build_type: String,
}

impl Provenance {
    /// Believes these builders.
    #[must_use]
    pub const fn new(builders: TrustedKeys) -> Self {
        Self { builders }
    }
}

impl EvidenceVerifier for Provenance {
    fn kind(&self) -> &'static str {
        "provenance"
    }

    fn appraise(&self, presented: &Presented, _: Time) -> Result<Vec<Fact>, AppraisalError> {
        check_json(&presented.evidence.blob, MAX_BLOB)?;
        let opened = open_dsse(&presented.evidence.blob, &self.builders, "")?;
        let fact = |claim| {
            let by = opened.signer.clone();
            Fact { claim, by, excludes: Attackers::DISTRIBUTION }
        };
        Ok(build_claims(&opened.body)?.into_iter().map(fact).collect())
    }
}

/// What a statement of SLSA provenance says was built, one claim for each subject. Whose statement it is must have been checked.
///
/// # Errors
/// [`AppraisalError::Nothing`] for statements of another kind, [`AppraisalError::Malformed`].
pub fn build_claims(body: &[u8]) -> Result<Vec<Claim>, AppraisalError> {
    check_json(body, MAX_BODY)?;
    let statement = statement(body)?;
    let predicate = statement.predicate.get();
    let (builder, build_type) = match statement.predicate_type.as_str() {
        SLSA_V1 => {
            let slsa: SlsaV1 =
                serde_json::from_str(predicate).map_err(|error| malformed(&error))?;
            (slsa.run.builder.id, slsa.definition.build_type)
        }
        SLSA_V02 => {
            let slsa: SlsaV02 =
                serde_json::from_str(predicate).map_err(|error| malformed(&error))?;
            (slsa.builder.id, slsa.build_type)
        }
        other => {
            let other: String = other.chars().take(MAX_TEXT).collect();
            return Err(AppraisalError::Nothing(format!(
                "a statement of type `{other}`, not SLSA provenance"
            )));
        }
    };
    let (builder, build_type) = (plain(&builder)?, plain(&build_type)?);
    let claim = |subject: &Subject| {
        let (name, digest) = (plain(&subject.name)?, subject.sha256()?);
        Ok(Claim::Built { name, digest, builder: builder.clone(), build_type: build_type.clone() })
    };
    statement.subject.iter().map(claim).collect()
}

/// Reads evidence of kind `model-signing`: a bundle of OpenSSF model-signing, signed with a key that the operator trusts.
///
/// Only bundles signed with a bare key verify offline with nothing but that key; those with certificates need a root of trust and
/// are refused here. Nothing is said of whether the agent runs the model.
#[derive(Clone, Debug)]
pub struct ModelSigning {
    signers: TrustedKeys,
}

#[derive(Deserialize)]
struct Bundle<'a> {
    #[serde(rename = "verificationMaterial")]
    material: Material,
    #[serde(rename = "dsseEnvelope", borrow)]
    envelope: &'a RawValue,
}

#[derive(Deserialize)]
struct Material {
    #[serde(rename = "publicKey")]
    public_key: Option<KeyHint>,
}

#[derive(Deserialize)]
struct KeyHint {
    #[serde(default)]
    hint: Option<String>,
}

#[derive(Deserialize)]
struct Manifest {
    resources: Vec<Resource>,
    serialization: Serialization,
}

#[derive(Deserialize)]
struct Resource {
    name: String,
    algorithm: String,
    digest: String,
}

#[derive(Deserialize)]
struct Serialization {
    method: String,
    #[serde(default)]
    allow_symlinks: bool,
    #[serde(default)]
    ignore_paths: Vec<String>,
}

/// A file of a signed model, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedFile {
    /// Its path below the model's directory, with `/`; of a part, with `:start:end` behind it.
    pub name: String,
    /// With what it was hashed, such as `sha256`.
    pub algorithm: String,
    /// The hash.
    pub digest: Vec<u8>,
}

/// What a statement of OpenSSF model-signing says. Source: github.com/ossf/model-signing-spec, predicate
/// `https://model_signing/signature/v1.0`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SignedModel {
    /// The model's name.
    pub name: String,
    /// SHA-256 over the files' hashes, in the order of the manifest.
    pub digest: Sha256Digest,
    /// The files.
    pub files: Vec<SignedFile>,
    /// Whether each entry is a whole file, and not a part of one.
    pub whole_files: bool,
    /// Whether symbolic links were followed.
    pub allow_symlinks: bool,
    /// What below the directory was left out.
    pub ignore_paths: Vec<String>,
}

impl SignedModel {
    /// Reads a statement. Whose it is must have been checked; that its digest is that of its files is checked here.
    ///
    /// # Errors
    /// [`AppraisalError::Nothing`] for statements of another kind, [`AppraisalError::Inconsistent`] for a digest that is not that of the files,
    /// [`AppraisalError::Malformed`].
    pub fn read(body: &[u8]) -> Result<Self, AppraisalError> {
        check_json(body, MAX_BODY)?;
        let statement = statement(body)?;
        if statement.predicate_type != MODEL_SIGNING {
            return Err(AppraisalError::Nothing("not a model-signing statement".to_owned()));
        }
        let [model] = statement.subject.as_slice() else {
            return Err(AppraisalError::Malformed(
                "a model-signing statement has one subject".to_owned(),
            ));
        };
        let manifest: Manifest =
            serde_json::from_str(statement.predicate.get()).map_err(|error| malformed(&error))?;
        let whole_files = match manifest.serialization.method.as_str() {
            "files" => true,
            "shards" => false,
            _ => {
                let why = "files hashed in a way that is not read here".to_owned();
                return Err(AppraisalError::Nothing(why));
            }
        };
        let files =
            manifest.resources.into_iter().map(signed_file).collect::<Result<Vec<_>, _>>()?;
        let digests: Vec<&[u8]> = files.iter().map(|file| file.digest.as_slice()).collect();
        let digest = model.sha256()?;
        if Sha256Digest::of(&digests.concat()) != digest {
            let why = "the digest of the model is not that of its files".to_owned();
            return Err(AppraisalError::Inconsistent(why));
        }
        let Serialization { allow_symlinks, ignore_paths, .. } = manifest.serialization;
        let name = plain(&model.name)?;
        Ok(Self { name, digest, files, whole_files, allow_symlinks, ignore_paths })
    }

    /// The same as what a fact claims.
    #[must_use]
    pub fn claim(&self) -> Claim {
        let files = u32::try_from(self.files.len()).unwrap_or(u32::MAX);
        Claim::ModelSigned { name: self.name.clone(), digest: self.digest, files }
    }
}

fn signed_file(resource: Resource) -> Result<SignedFile, AppraisalError> {
    let known = ["sha256", "blake2b", "blake3"];
    if !known.iter().any(|name| resource.algorithm.starts_with(name)) {
        return Err(AppraisalError::Nothing("files hashed with an unknown algorithm".to_owned()));
    }
    let digest = data_encoding::HEXLOWER
        .decode(resource.digest.as_bytes())
        .map_err(|_| AppraisalError::Malformed("a digest is not hex".to_owned()))?;
    if !matches!(digest.len(), 32 | 64) {
        return Err(AppraisalError::Malformed("a digest has neither 32 nor 64 bytes".to_owned()));
    }
    Ok(SignedFile { name: plain(&resource.name)?, algorithm: plain(&resource.algorithm)?, digest })
}

impl ModelSigning {
    /// Believes these signers.
    #[must_use]
    pub const fn new(signers: TrustedKeys) -> Self {
        Self { signers }
    }
}

impl EvidenceVerifier for ModelSigning {
    fn kind(&self) -> &'static str {
        "model-signing"
    }

    fn appraise(&self, presented: &Presented, _: Time) -> Result<Vec<Fact>, AppraisalError> {
        check_json(&presented.evidence.blob, MAX_BLOB)?;
        let bundle: Bundle<'_> =
            serde_json::from_slice(&presented.evidence.blob).map_err(|error| malformed(&error))?;
        let Some(key) = bundle.material.public_key else {
            let why = "the bundle is signed with a certificate, and only bundles signed with a key are read offline";
            return Err(AppraisalError::Nothing(why.to_owned()));
        };
        let hint = key.hint.unwrap_or_default();
        let opened = open_dsse(bundle.envelope.get().as_bytes(), &self.signers, &hint)?;
        let claim = SignedModel::read(&opened.body)?.claim();
        Ok(vec![Fact { claim, by: opened.signer, excludes: Attackers::DISTRIBUTION }])
    }
}
