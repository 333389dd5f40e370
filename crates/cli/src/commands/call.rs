//! `comity call`, `comity verify`.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use comity_api::types::{
    Attempt, AttemptOutcome, CallEvent, CallRequest, CallResponse, CallSummary, ErrorCode,
    ErrorInfo, Exit, MAX_ATTEMPTS, Origin, Output, Proof, Receipts, ReuseWishes,
};
use comity_api::{CallStream, MAX_REQUEST_BYTES, ProofFile};
use serde_json::Value;

use super::find::query_of;
use super::grant::grant_of;
use crate::args::{OutputArgs, life_span, millis, time_span};
use crate::context::Context;
use crate::{progress, render};

/// Most bytes of an answer, as JSON, that are kept in memory until its signature is checked.
const MAX_HELD_BYTES: usize = 256 << 20;

/// Largest proof file that is read.
const MAX_PROOF_BYTES: u64 = 512 << 20;

/// Options of `call`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comity call ecb-rates --json '{\"where\": {\"currency\": \"USD\"}, \"limit\": 3}'
  comity call 'where pair = EUR/USD and resolution <= 1d' --input request.json
  comity call fd12:3456:789a:bcde:f012:3456:789a:bcde/ecb-rates --receipt proof.json
  comity call ecb-rates --input request.json --quorum 2/3")]
pub(crate) struct CallArgs {
    /// ADDRESS/CAPABILITY (also handle or AgentId), a capability name, or a query.
    #[arg(value_name = "TARGET")]
    pub(crate) target: String,

    /// The input, a JSON text [default: {}].
    #[arg(long, value_name = "JSON", conflicts_with = "input")]
    pub(crate) json: Option<String>,

    /// Read the input from a file (- = standard input).
    #[arg(long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,

    /// Deadline for the whole call, e.g. 500ms, 10s, 2m [default: 30s].
    #[arg(long, value_name = "TIME", value_parser = time_span)]
    pub(crate) timeout: Option<Duration>,

    /// Peers to try at most, one after another [default: 3].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_ATTEMPTS)))]
    pub(crate) attempts: Option<u32>,

    /// Look for the agent in this private group, and call it as a member.
    #[arg(long, value_name = "NAME")]
    pub(crate) group: Option<String>,

    /// Show this grant: a file (- = standard input), its text, or the hash that `grant list` shows. Without it, a kept grant that serves is
    /// shown by itself.
    #[arg(long, value_name = "GRANT")]
    pub(crate) grant: Option<String>,

    /// Keep question, answer and signed receipt in a file that `comity verify` checks offline.
    #[arg(long, value_name = "FILE")]
    pub(crate) receipt: Option<PathBuf>,

    /// Have it worked out anew, whatever is known already.
    #[arg(long)]
    pub(crate) fresh: bool,

    /// Take no answer older than this, e.g. 10m, however long its producer stands by it.
    #[arg(long, value_name = "TIME", value_parser = life_span, conflicts_with = "fresh")]
    pub(crate) max_age: Option<Duration>,

    /// Have nobody work: an answer that is known here or held by a peer, or none.
    #[arg(long, conflicts_with = "fresh")]
    pub(crate) only_shared: bool,

    /// Keep the question to oneself: it is neither looked up among peers nor told to any but who answers it.
    #[arg(long = "private-question")]
    pub(crate) private: bool,

    /// Believe who answers: ask no other agent now and then to check it.
    #[arg(long, conflicts_with = "quorum")]
    pub(crate) unchecked: bool,

    /// Ask n independent agents, and take the answer that m agree on, e.g. 2/3. Each commits to its answer before any is revealed.
    #[arg(long, value_name = "M/N", conflicts_with_all = ["only_shared", "stream"])]
    pub(crate) quorum: Option<String>,

    /// Print the items of a streamed answer as they come, before its signature, which comes last, is checked.
    #[arg(long, conflicts_with = "receipt")]
    pub(crate) stream: bool,

    /// How to print the answer: its value alone, or with attempts, receipt and timings.
    #[arg(long, value_name = "FORMAT")]
    pub(crate) output: Option<OutputFormat>,
}

/// How `call` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// The answer itself; a remark about who gave it on standard error.
    Text,
    /// One JSON document with answer, receipt, attempts and timings.
    Json,
}

/// Options of `verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// A file kept by `comity call --receipt` or `comity receipts export`.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

pub(crate) async fn call(args: CallArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let input = input_of(&args)?;
    let request = CallRequest {
        target: query_of(&args.target)?,
        input: input.clone(),
        group: args.group.clone(),
        grant: args.grant.as_deref().map(grant_of).transpose()?,
        timeout_ms: args.timeout.map(millis),
        max_attempts: args.attempts,
        reuse: ReuseWishes {
            fresh: args.fresh,
            max_age_ms: args.max_age.map(millis),
            only_shared: args.only_shared,
            private: args.private,
            // A kept proof must be of what was asked.
            exact: args.receipt.is_some(),
            unchecked: args.unchecked,
        },
        quorum: args.quorum.clone(),
    };
    let client = context.client().await?;
    let work = async {
        let mut stream = client.call_stream(&request).await?;
        collect(&mut stream, args.stream && !context.out.json, context).await
    };
    // Dropping the work closes its connection, which cancels the call at the far end.
    let response = tokio::select! {
        response = progress::during(&context.out, "calling", work) => response?,
        _ = tokio::signal::ctrl_c() => {
            context.out.note("interrupted; the call is cancelled at the far end");
            return Ok(ExitCode::from(Exit::Interrupted.code()));
        }
    };
    let Some(response) = response else { return Ok(ExitCode::SUCCESS) };
    let file = ProofFile::new(input, response.output.clone(), response.proof.clone());
    // The node has checked it; checking it again costs microseconds and trusts nothing but the receipt. What was derived from a larger answer
    // carries that one's receipt, which says nothing about this question.
    if !matches!(response.summary.origin, Origin::Derived { .. }) {
        file.verify().map_err(|error| not_verified(&error))?;
    }
    if let Some(path) = &args.receipt {
        keep(path, &file)?;
    }
    context.out.answer(&response, |response, _| render::call::output(&response.output))?;
    context.out.note(&render::call::summary(&response, context.out.width));
    Ok(ExitCode::SUCCESS)
}

/// Follows a call to its end. `None` when its items were printed as they came.
async fn collect(
    stream: &mut CallStream,
    print: bool,
    context: &Context,
) -> anyhow::Result<Option<CallResponse>> {
    let (mut items, mut attempts, mut proof) = (Vec::new(), Vec::<Attempt>::new(), None);
    let mut held = 0;
    while let Some(event) = stream.next().await? {
        match event {
            CallEvent::Attempt(attempt) => {
                if let AttemptOutcome::Failed { error, .. } = &attempt.outcome {
                    context.out.note(&render::call::failed_attempt(
                        &attempt,
                        error,
                        context.out.width,
                    ));
                }
                attempts.retain(|known| known.number != attempt.number);
                attempts.push(attempt);
            }
            CallEvent::Chunk(chunk) if print => context.out.raw(&format!("{}\n", chunk.value))?,
            CallEvent::Chunk(chunk) => {
                held += chunk.value.to_string().len();
                if held > MAX_HELD_BYTES {
                    return Err(ErrorInfo::new(
                        ErrorCode::TooLarge,
                        "the answer is too large to be held until its end",
                    )
                    .hint("use --stream, or ask for less")
                    .into());
                }
                items.push(chunk.value);
            }
            CallEvent::Receipt(receipt) => proof = Some(receipt),
            CallEvent::Done(summary) => {
                return finish(items, attempts, proof, summary, print, context);
            }
            CallEvent::Error(error) => return Err(error.into()),
        }
    }
    Err(ErrorInfo::new(ErrorCode::Internal, "the call ended without an outcome").into())
}

fn finish(
    mut items: Vec<Value>,
    attempts: Vec<Attempt>,
    proof: Option<Proof>,
    summary: CallSummary,
    printed: bool,
    context: &Context,
) -> anyhow::Result<Option<CallResponse>> {
    let proof = proof.ok_or_else(|| {
        ErrorInfo::new(ErrorCode::NotVerified, "the answer came without a receipt: do not use it")
    })?;
    let output = if !summary.streamed && items.len() == 1 {
        Output::Value(items.swap_remove(0))
    } else {
        Output::Items(items)
    };
    let response = CallResponse { output, proof, attempts, summary };
    if printed {
        context.out.note(&render::call::summary(&response, context.out.width));
        return Ok(None);
    }
    Ok(Some(response))
}

pub(crate) fn verify(args: &VerifyArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let text = read_proof(&args.file)?;
    if let Ok(exported) = serde_json::from_str::<Receipts>(&text) {
        return super::receipts::verify(&exported, context);
    }
    let file = parse_proof(&args.file, &text)?;
    let verified = file.verify().map_err(|error| not_verified(&error))?;
    context.out.answer(&file.proof.receipt, |receipt, width| {
        render::call::verified(receipt, &verified, width)
    })?;
    Ok(ExitCode::SUCCESS)
}

fn read_proof(path: &Path) -> Result<String, ErrorInfo> {
    let unreadable = |error: io::Error| {
        ErrorInfo::new(ErrorCode::BadRequest, format!("cannot read {}: {error}", path.display()))
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut text = String::new();
    file.take(MAX_PROOF_BYTES).read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}

fn parse_proof(path: &Path, text: &str) -> Result<ProofFile, ErrorInfo> {
    serde_json::from_str(text).map_err(|error| {
        ErrorInfo::new(
            ErrorCode::NotVerified,
            format!("{} is no proof of a call: {error}", path.display()),
        )
        .hint(
            "give a file written by `comity call --receipt FILE` or `comity receipts export FILE`",
        )
    })
}

/// Writes a proof whole or not at all.
fn keep(path: &Path, file: &ProofFile) -> anyhow::Result<()> {
    let failed = |error: io::Error| {
        ErrorInfo::new(
            ErrorCode::Storage,
            format!("the answer is fine, but its proof cannot be kept: {error}"),
        )
        .hint(format!("check that {} can be written", path.display()))
    };
    let text = serde_json::to_string_pretty(file)?;
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or_else(|| Path::new("."));
    let mut temporary = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
    io::Write::write_all(&mut temporary, text.as_bytes()).map_err(failed)?;
    temporary.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

fn not_verified(error: &dyn std::error::Error) -> ErrorInfo {
    ErrorInfo::new(ErrorCode::NotVerified, error.to_string()).hint("do not use the answer")
}

fn input_of(args: &CallArgs) -> Result<Value, ErrorInfo> {
    let text = match (&args.json, &args.input) {
        (Some(text), _) => text.clone(),
        (None, Some(path)) => read_input(path)?,
        (None, None) => "{}".to_owned(),
    };
    serde_json::from_str(&text).map_err(|error| {
        ErrorInfo::new(ErrorCode::BadRequest, format!("the input is not JSON: {error}"))
            .hint("quote it for the shell: --json '{\"limit\": 3}'")
    })
}

/// The text of a file, or of standard input for `-`, up to what a request may carry.
pub(crate) fn read_input(path: &Path) -> Result<String, ErrorInfo> {
    let unreadable = |error: io::Error| {
        ErrorInfo::new(ErrorCode::BadRequest, format!("cannot read {}: {error}", path.display()))
    };
    let mut text = String::new();
    let limit = MAX_REQUEST_BYTES as u64 + 1;
    if path == Path::new("-") {
        io::stdin().take(limit).read_to_string(&mut text).map_err(unreadable)?;
    } else {
        std::fs::File::open(path)
            .map_err(unreadable)?
            .take(limit)
            .read_to_string(&mut text)
            .map_err(unreadable)?;
    }
    if text.len() > MAX_REQUEST_BYTES {
        return Err(ErrorInfo::new(
            ErrorCode::TooLarge,
            format!(
                "{} is larger than the {MAX_REQUEST_BYTES} bytes a request may have",
                path.display()
            ),
        ));
    }
    Ok(text)
}
