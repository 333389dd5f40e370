//! `comity attest …`: evidence, shown and appraised.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use comity::access::POLICY_FILE;
use comity_api::types::{
    AppraiseRequest, CanaryRequest, ErrorCode, ErrorInfo, EvidenceAddRequest, EvidenceIdRequest,
    FactView, ProbeRequest, TraceCommitRequest, TraceDiscloseRequest, TraceDisclosure,
};
use comity_attest::{MAX_BUNDLE, ModelError};
use comity_core::{Hash, Identity, Time};
use comity_trust::evidence::{Disclosure, MAX_BLOB, MAX_DISCLOSURE, MAX_STEP_BYTES, SignedModel};
use comity_trust::policy::KindRules;
use data_encoding::BASE64;
use serde::Serialize;
use serde_json::Value;

use crate::args::{OutputArgs, millis, time_span};
use crate::context::Context;
use crate::render;

/// Longest file of steps, in bytes: what one request to the node can carry.
const STEPS_BYTES_MAX: usize = 3 << 20;
/// Files that differ, of each sort, that are named.
const LISTED_MAX: usize = 20;
/// Longest file of disclosures, in bytes.
const DISCLOSURES_BYTES_MAX: usize = 16 << 20;

/// Evidence about how agents run: show one's own, appraise that of others.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  comity attest add model.sig --kind model-signing --for translate
  comity attest appraise fd12:3456:789a:bcde:f012:3456:789a:bcde translate
  comity find 'named translate' --min-level L3

What is believed of others is in the policy file, under [evidence.KIND] and [levels].")]
pub(crate) enum AttestCommand {
    /// Keep evidence about this agent, and hand it to whoever asks.
    Add(AddArgs),
    /// List the evidence kept.
    List(ListArgs),
    /// Show one piece, and what it shows by the own policy file.
    Show(IdArgs),
    /// Forget one piece.
    Remove(IdArgs),
    /// Say what evidence shows: of an agent as such, asked now, or of a file, offline.
    Verify(VerifyArgs),
    /// Check that a model's directory is what was signed, offline.
    VerifyModel(VerifyModelArgs),
    /// Make evidence of a quote of hardware and what belongs to it.
    Pack(PackArgs),
    /// Ask an agent for its evidence for a capability, and say how well its claim is supported.
    Appraise(AppraiseArgs),
    /// Ask an agent what is known already, and remember whether it was right: the ground of level L2.
    Canary(CanaryArgs),
    /// Have rows of a table proved against the commitment it declares, and one found by asking for it; remember whether they were.
    Probe(ProbeArgs),
    /// Commit to a trace now, disclose steps of it later.
    #[command(subcommand)]
    Trace(TraceCommand),
}

/// Kinds of evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A signed manifest of a model's files: a bundle of OpenSSF model-signing.
    #[value(name = "model-signing", alias = "model-manifest")]
    ModelSigning,
    /// SLSA provenance in a DSSE envelope.
    #[value(name = "provenance", alias = "dsse")]
    Provenance,
    /// A commitment to a trace.
    Trace,
    /// A report of AMD SEV-SNP.
    SevSnp,
    /// A quote of Intel TDX.
    Tdx,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::ModelSigning => "model-signing",
            Self::Provenance => "provenance",
            Self::Trace => "trace",
            Self::SevSnp => "sev-snp",
            Self::Tdx => "tdx",
        }
    }
}

/// Options of `attest add`.
#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// The evidence.
    #[arg(value_name = "FILE", required_unless_present = "program", conflicts_with = "program")]
    pub(crate) file: Option<PathBuf>,

    /// Program that makes it anew for each question, as quotes of hardware need: it finds 64 bytes to be signed, in hex, in
    /// COMITY_REPORT_DATA, and prints the evidence.
    #[arg(long, value_name = "COMMAND")]
    pub(crate) program: Option<String>,

    /// What kind it is.
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Kind,

    /// For which capability: a name, the beginning of one and *, or * for the agent as such.
    #[arg(long = "for", value_name = "CAPABILITY")]
    pub(crate) capability: String,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `attest list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `attest show` and `attest remove`.
#[derive(Debug, Args)]
pub(crate) struct IdArgs {
    /// The piece's name, or its beginning, as `attest list` shows it.
    #[arg(value_name = "NAME")]
    pub(crate) id: String,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `attest verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// A file of evidence, or an agent.
    #[arg(value_name = "FILE|AGENT")]
    pub(crate) what: String,

    /// What kind the file is.
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Option<Kind>,

    /// Policy file that says who is believed [default: that of the home directory].
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `attest verify-model`.
#[derive(Debug, Args)]
pub(crate) struct VerifyModelArgs {
    /// The model's directory.
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,

    /// The signature: a sigstore bundle [default: model.sig in the directory].
    #[arg(long, value_name = "FILE")]
    pub(crate) manifest: Option<PathBuf>,

    /// Public keys that are believed (PEM); may be repeated.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Vec<PathBuf>,

    /// Trusted root of sigstore, for models signed with certificates.
    #[arg(long, value_name = "FILE", requires = "identity")]
    pub(crate) root: Option<PathBuf>,

    /// Whose certificate counts: 'NAME ISSUER', such as me@example.com and the https URL of an identity provider.
    #[arg(long, value_name = "IDENTITY", requires = "root")]
    pub(crate) identity: Vec<String>,

    /// What else may be in the directory; may be repeated.
    #[arg(long, value_name = "PATH")]
    pub(crate) ignore: Vec<PathBuf>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `attest pack`.
#[derive(Debug, Args)]
pub(crate) struct PackArgs {
    /// The report of SEV-SNP, or the quote of TDX.
    #[arg(value_name = "QUOTE")]
    pub(crate) quote: PathBuf,

    /// The certificate of the report's key (DER), or the quote's collateral (JSON).
    #[arg(value_name = "FILE")]
    pub(crate) second: PathBuf,

    /// Which: sev-snp or tdx.
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Kind,
}

/// Options of `attest appraise`.
#[derive(Debug, Args)]
pub(crate) struct AppraiseArgs {
    /// Whom.
    #[arg(value_name = "AGENT")]
    pub(crate) agent: String,

    /// For which capability.
    #[arg(value_name = "CAPABILITY")]
    pub(crate) capability: String,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `attest probe`.
#[derive(Debug, Args)]
pub(crate) struct ProbeArgs {
    /// Whose table: ADDRESS/CAPABILITY.
    #[arg(value_name = "TARGET")]
    pub(crate) target: String,

    /// How many rows, 2 to 16.
    #[arg(long, value_name = "N")]
    pub(crate) rows: Option<usize>,

    /// Longest to wait for each of the two calls.
    #[arg(long, value_name = "TIME", value_parser = time_span)]
    pub(crate) timeout: Option<Duration>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `attest canary`.
#[derive(Debug, Args)]
pub(crate) struct CanaryArgs {
    /// Whom to ask for what: ADDRESS/CAPABILITY.
    #[arg(value_name = "TARGET")]
    pub(crate) target: String,

    /// The input.
    #[arg(long, value_name = "JSON", value_parser = json)]
    pub(crate) input: Value,

    /// The answer that is right.
    #[arg(long, value_name = "JSON", value_parser = json)]
    pub(crate) expect: Value,

    /// Longest to wait.
    #[arg(long, value_name = "TIME", value_parser = time_span)]
    pub(crate) timeout: Option<Duration>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// What to do with traces.
#[derive(Debug, Subcommand)]
pub(crate) enum TraceCommand {
    /// Commit to the lines of a file: its root goes to the audit log.
    Commit(CommitArgs),
    /// List what this agent committed to.
    List(ListArgs),
    /// Write steps with what proves them, for somebody who has the root.
    Disclose(DiscloseArgs),
    /// Check disclosed steps against a root, offline.
    Verify(TraceVerifyArgs),
}

/// Options of `attest trace commit`.
#[derive(Debug, Args)]
pub(crate) struct CommitArgs {
    /// The trace: each line is a step. `-` reads standard input.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// Show the commitment as evidence for this capability.
    #[arg(long = "for", value_name = "CAPABILITY")]
    pub(crate) capability: Option<String>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `attest trace disclose`.
#[derive(Debug, Args)]
pub(crate) struct DiscloseArgs {
    /// Root of the trace.
    #[arg(value_name = "ROOT")]
    pub(crate) root: String,

    /// Number of a step, from 0; may be repeated.
    #[arg(long, value_name = "N", required = true)]
    pub(crate) step: Vec<u32>,
}

/// Options of `attest trace verify`.
#[derive(Debug, Args)]
pub(crate) struct TraceVerifyArgs {
    /// What `attest trace disclose`, or the call of the other agent's `attest.trace`, printed.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// The root, as it was known before: from the agent's evidence or audit log.
    #[arg(long, value_name = "HASH")]
    pub(crate) root: Hash,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))
}

impl AttestCommand {
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::Add(args) => args.output.json,
            Self::List(args) | Self::Trace(TraceCommand::List(args)) => args.output.json,
            Self::Show(args) | Self::Remove(args) => args.output.json,
            Self::Verify(args) => args.output.json,
            Self::VerifyModel(args) => args.output.json,
            Self::Pack(_) => false,
            Self::Appraise(args) => args.output.json,
            Self::Canary(args) => args.output.json,
            Self::Probe(args) => args.output.json,
            Self::Trace(TraceCommand::Commit(args)) => args.output.json,
            Self::Trace(TraceCommand::Verify(args)) => args.output.json,
            Self::Trace(TraceCommand::Disclose(_)) => true,
        }
    }
}

pub(crate) async fn run(command: AttestCommand, context: &Context) -> anyhow::Result<ExitCode> {
    let out = &context.out;
    if let AttestCommand::Verify(args) = &command
        && Path::new(&args.what).is_file()
    {
        return verify_file(args, context);
    }
    if let AttestCommand::Trace(TraceCommand::Verify(args)) = &command {
        return verify_trace(args, context);
    }
    if let AttestCommand::Pack(args) = &command {
        let (quote, second) = (read(&args.quote, MAX_BLOB)?, read(&args.second, MAX_BLOB)?);
        let packed = comity_attest::pack(args.kind.name(), &quote, &second)
            .map_err(|error| ErrorInfo::new(ErrorCode::BadRequest, error.to_string()))?;
        std::io::stdout().lock().write_all(&packed).context("cannot write to standard output")?;
        return Ok(ExitCode::SUCCESS);
    }
    if let AttestCommand::VerifyModel(args) = &command {
        return verify_model(args, context);
    }
    let client = context.client().await?;
    match command {
        AttestCommand::Add(args) => {
            let blob = args.file.as_deref().map(|file| read(file, MAX_BLOB)).transpose()?;
            let request = EvidenceAddRequest {
                kind: args.kind.name().to_owned(),
                capability: args.capability,
                blob: blob.map(|bytes| BASE64.encode(&bytes)),
                program: args.program,
            };
            out.answer(&client.evidence_add(&request).await?, render::attest::added)?;
        }
        AttestCommand::List(_) => out.answer(&client.evidence().await?, render::attest::items)?,
        AttestCommand::Show(args) => {
            let shown = client.evidence_show(&EvidenceIdRequest { id: args.id }).await?;
            out.answer(&shown, render::attest::shown)?;
        }
        AttestCommand::Remove(args) => {
            let done = client.evidence_remove(&EvidenceIdRequest { id: args.id }).await?;
            out.answer(&done, |done, _| format!("{}\n", render::clean(&done.message)))?;
        }
        AttestCommand::Verify(VerifyArgs { what, .. }) => {
            let request = AppraiseRequest { agent: what, capability: None };
            out.answer(&client.appraise(&request).await?, render::attest::appraised)?;
        }
        AttestCommand::Appraise(AppraiseArgs { agent, capability, .. }) => {
            let request = AppraiseRequest { agent, capability: Some(capability) };
            out.answer(&client.appraise(&request).await?, render::attest::appraised)?;
        }
        AttestCommand::Canary(args) => {
            let request = CanaryRequest {
                target: args.target,
                input: args.input,
                expect: args.expect,
                timeout_ms: args.timeout.map(millis),
            };
            let said = client.canary(&request).await?;
            out.answer(&said, render::attest::canary)?;
            if !said.passed {
                return Ok(ExitCode::from(ErrorCode::NotVerified.exit().code()));
            }
        }
        AttestCommand::Probe(args) => {
            let request = ProbeRequest {
                target: args.target,
                rows: args.rows,
                timeout_ms: args.timeout.map(millis),
            };
            let said = client.probe(&request).await?;
            out.answer(&said, render::attest::probe)?;
            if !said.passed {
                return Ok(ExitCode::from(ErrorCode::NotVerified.exit().code()));
            }
        }
        AttestCommand::Trace(TraceCommand::Commit(args)) => {
            let bytes = read(&args.file, STEPS_BYTES_MAX)?;
            let steps = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            let request = TraceCommitRequest {
                steps: steps.map(|line| BASE64.encode(line)).collect(),
                capability: args.capability,
            };
            out.answer(&client.trace_commit(&request).await?, render::attest::committed)?;
        }
        AttestCommand::Trace(TraceCommand::List(_)) => {
            out.answer(&client.traces().await?, render::attest::traces)?;
        }
        AttestCommand::Trace(TraceCommand::Disclose(args)) => {
            let request = TraceDiscloseRequest { root: args.root, steps: args.step };
            let disclosed = client.trace_disclose(&request).await?;
            // For whoever checks it: always JSON.
            out.raw(&format!("{}\n", serde_json::to_string_pretty(&disclosed)?))?;
        }
        // These ran without a node.
        AttestCommand::Trace(TraceCommand::Verify(_))
        | AttestCommand::VerifyModel(_)
        | AttestCommand::Pack(_) => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// What a file of evidence shows.
#[derive(Debug, Serialize)]
pub(crate) struct Inspected {
    pub(crate) file: String,
    pub(crate) kind: String,
    pub(crate) facts: Vec<FactView>,
}

fn verify_file(args: &VerifyArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let kind = args.kind.context("say what kind of evidence the file is, with --kind")?.name();
    let own = Some(context.home.join(POLICY_FILE)).filter(|path| path.exists());
    let policy = args.policy.clone().or(own);
    let blob = read(Path::new(&args.what), MAX_BLOB)?;
    // A file belongs to nobody until an agent presents it: what it shows is looked at as if this one did.
    let nobody = Identity::from_secret_bytes(&[1; 32]).id();
    let facts = comity::attest::inspect_file(policy.as_deref(), kind, blob, &nobody)
        .map_err(|error| error.info())?;
    let inspected = Inspected { file: args.what.clone(), kind: kind.to_owned(), facts };
    context.out.answer(&inspected, render::attest::inspected)?;
    Ok(ExitCode::SUCCESS)
}

/// A model that is what was signed.
#[derive(Debug, Serialize)]
pub(crate) struct VerifiedModel {
    pub(crate) directory: PathBuf,
    pub(crate) model: String,
    pub(crate) digest: String,
    pub(crate) files: usize,
    pub(crate) signer: String,
}

fn verify_model(args: &VerifyModelArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let rules = KindRules {
        keys: args.key.iter().map(|key| text(key)).collect(),
        roots: args.root.iter().map(|root| text(root)).collect(),
        identities: args.identity.iter().cloned().collect(),
        ..KindRules::default()
    };
    let bad = |error: &dyn std::error::Error| {
        ErrorInfo::new(ErrorCode::BadRequest, comity::describe(error))
            .hint("--key names the signer's public key, or --root and --identity whose certificate counts")
    };
    if rules.keys.is_empty() && rules.roots.is_empty() {
        let text = "nobody is believed: say whose signature counts";
        return Err(bad(&*anyhow::anyhow!(text)).into());
    }
    let mut open =
        |name: &str| read(Path::new(name), comity_attest::MAX_FILE).map_err(std::io::Error::other);
    let believed = comity_attest::authorities("model-signing", &rules, &mut open)
        .map_err(|error| bad(&error))?;
    let manifest = args.manifest.clone().unwrap_or_else(|| args.directory.join("model.sig"));
    let bundle = read(&manifest, MAX_BUNDLE)?;
    let wrong = |error: &dyn std::error::Error| {
        let text = format!("{}: {}", manifest.display(), comity::describe(error));
        ErrorInfo::new(ErrorCode::NotVerified, text)
    };
    let now = Time::from_millis(render::now_ms());
    let statement = believed.open(&bundle, MAX_BUNDLE, now).map_err(|error| wrong(&error))?;
    let model = SignedModel::read(&statement.body).map_err(|error| wrong(&error))?;
    let mut ignore = args.ignore.clone();
    ignore.push(manifest.clone());
    match comity_attest::verify_model(&args.directory, &model, &ignore) {
        Ok(()) => {}
        Err(ModelError::Differs { changed, missing, besides }) => {
            let each = |what: &str, names: Vec<String>| -> Vec<String> {
                names.into_iter().take(LISTED_MAX).map(|name| format!("{what}: {name}")).collect()
            };
            let text = format!("{} is not the model that was signed", args.directory.display());
            let all =
                [each("changed", changed), each("missing", missing), each("besides", besides)];
            return Err(ErrorInfo::new(ErrorCode::NotVerified, text)
                .details(serde_json::json!(all.concat()))
                .into());
        }
        Err(error) => return Err(wrong(&error).into()),
    }
    let verified = VerifiedModel {
        directory: args.directory.clone(),
        model: model.name,
        digest: model.digest.to_string(),
        files: model.files.len(),
        signer: statement.signer,
    };
    context.out.answer(&verified, render::attest::verified_model)?;
    Ok(ExitCode::SUCCESS)
}

/// Steps that hold.
#[derive(Debug, Serialize)]
pub(crate) struct VerifiedTrace {
    pub(crate) root: Hash,
    pub(crate) steps: Vec<VerifiedStep>,
}

/// One of them.
#[derive(Debug, Serialize)]
pub(crate) struct VerifiedStep {
    pub(crate) index: u32,
    pub(crate) of: u32,
    /// The step, as text where it is text.
    pub(crate) text: String,
}

fn verify_trace(args: &TraceVerifyArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let file = read(&args.file, DISCLOSURES_BYTES_MAX)?;
    let disclosed: TraceDisclosure = serde_json::from_slice(&file)
        .with_context(|| format!("{} holds no disclosed steps", args.file.display()))?;
    let mut steps = Vec::new();
    for (number, text) in disclosed.disclosures.iter().enumerate() {
        let wrong = || format!("disclosure {number} in {}", args.file.display());
        if text.len() > MAX_DISCLOSURE.div_ceil(3) * 4 {
            anyhow::bail!("{} is longer than a step of {MAX_STEP_BYTES} bytes makes it", wrong());
        }
        let bytes = BASE64.decode(text.as_bytes()).with_context(wrong)?;
        let one = Disclosure::from_bytes(&bytes).with_context(wrong)?;
        if let Err(error) = one.verify(&args.root) {
            let text = format!("{}: {error}", wrong());
            return Err(ErrorInfo::new(ErrorCode::NotVerified, text).into());
        }
        let text = String::from_utf8_lossy(&one.step).into_owned();
        steps.push(VerifiedStep { index: one.index, of: one.steps, text });
    }
    let verified = VerifiedTrace { root: args.root, steps };
    context.out.answer(&verified, render::attest::verified_trace)?;
    Ok(ExitCode::SUCCESS)
}

/// A file of at most `max` bytes; `-` is standard input.
fn read(path: &Path, max: usize) -> anyhow::Result<Vec<u8>> {
    let cannot = || format!("{} cannot be read", path.display());
    let mut bytes = Vec::new();
    let limit = max as u64 + 1;
    if path == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes).with_context(cannot)?;
    } else {
        let file = std::fs::File::open(path).with_context(cannot)?;
        file.take(limit).read_to_end(&mut bytes).with_context(cannot)?;
    }
    anyhow::ensure!(bytes.len() <= max, "{} has more than {max} bytes", path.display());
    Ok(bytes)
}
