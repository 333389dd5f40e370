//! Questions to the node that joined, over its control socket.

use std::io::{self, Read as _};
use std::path::Path;
use std::process::ExitCode;

use comity::home::Home;
use comity::key_file;
use comity_api::types::{ErrorCode, ErrorInfo};
use comity_pilot_net::AgentError;
use comity_pilot_net::control::{self, Ask, Content, Failed, FailedKind, Line, Lines};
use data_encoding::BASE64;
use serde::Serialize;
use serde_json::{Value, json};

use super::{DIRECTORY, PilotCommand, SendArgs};
use crate::args::millis;
use crate::context::Context;
use crate::render;

/// Bytes read from a file or standard input for one message: what a frame holds.
const CONTENT_BYTES_MAX: u64 = 16 << 20;

/// A failure of the node as the API states failures.
pub(super) fn failure(failed: Failed) -> ErrorInfo {
    let code = match failed.kind {
        FailedKind::Question => ErrorCode::BadRequest,
        FailedKind::NotFound => ErrorCode::NotFound,
        FailedKind::Refused => ErrorCode::Refused,
        FailedKind::Unreachable => ErrorCode::Unreachable,
        FailedKind::Timeout => ErrorCode::Timeout,
        FailedKind::NotVerified => ErrorCode::NotVerified,
        FailedKind::Local => ErrorCode::Storage,
        FailedKind::Busy => ErrorCode::AddressInUse,
    };
    let info = ErrorInfo::new(code, failed.message);
    if failed.hint.is_empty() { info } else { info.hint(failed.hint) }
}

pub(super) fn failed(error: &AgentError) -> ErrorInfo {
    failure(Failed::from(error))
}

fn broken(home: &Path) -> impl Fn(io::Error) -> ErrorInfo + '_ {
    move |error| {
        if [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused].contains(&error.kind()) {
            let text = format!("no Pilot node runs in {}", home.display());
            return ErrorInfo::new(ErrorCode::NotRunning, text)
                .hint("start one: comity pilot join --registry HOST:PORT --beacon HOST:PORT");
        }
        ErrorInfo::new(ErrorCode::Storage, format!("the Pilot node's socket: {error}"))
    }
}

/// An answer, line by line.
pub(super) struct Answer<'a> {
    lines: Lines,
    home: &'a Path,
}

impl Answer<'_> {
    /// The next item, or the end with what it says.
    pub(super) async fn next(&mut self) -> Result<Line, ErrorInfo> {
        match self.lines.next().await.map_err(broken(self.home))? {
            Some(Line::Failed(failed)) => Err(failure(failed)),
            Some(line @ (Line::Item(_) | Line::Done(_))) => Ok(line),
            None => Err(ErrorInfo::new(ErrorCode::ShuttingDown, "the Pilot node ended")),
        }
    }
}

/// Asks the node that joined.
pub(super) async fn ask<'a>(home: &'a Path, question: &Ask) -> Result<Answer<'a>, ErrorInfo> {
    let lines = control::ask(home, question).await.map_err(broken(home))?;
    Ok(Answer { lines, home })
}

/// Asks what has one answer.
pub(super) async fn ask_one(home: &Path, question: &Ask) -> Result<Value, ErrorInfo> {
    let mut answer = ask(home, question).await?;
    loop {
        if let Line::Done(value) = answer.next().await? {
            return Ok(value);
        }
    }
}

/// The comity identity of the same home, where there is one.
pub(super) fn own_id(context: &Context) -> Option<String> {
    let keys = key_file::load(&Home::at(&context.home).key_file()).ok()?;
    Some(keys.identity.id().to_string())
}

/// Both identities side by side.
pub(super) fn with_own(status: &impl Serialize, own: Option<&str>) -> anyhow::Result<Value> {
    let mut value = serde_json::to_value(status)?;
    value["comity"] = own.into();
    Ok(value)
}

pub(super) async fn run(command: PilotCommand, context: &Context) -> anyhow::Result<ExitCode> {
    let home = context.home.join(DIRECTORY);
    let out = &context.out;
    let (question, text): (Ask, fn(&Value, usize) -> String) = match command {
        PilotCommand::Status(_) => {
            let status = ask_one(&home, &Ask::Status).await?;
            let status = with_own(&status, own_id(context).as_deref())?;
            out.answer(&status, render::pilot::status)?;
            return Ok(ExitCode::SUCCESS);
        }
        PilotCommand::Ping(args) => {
            let question = Ask::Ping { target: args.node, count: args.count };
            return each(context, &home, &question, None, render::pilot::ping).await;
        }
        PilotCommand::Recv(args) => {
            let question = Ask::Recv { follow: args.follow };
            let lines = args.follow.then_some(u64::MAX);
            return each(context, &home, &question, lines, render::pilot::message).await;
        }
        PilotCommand::Subscribe(args) => {
            let question = Ask::Subscribe { target: args.node, topic: args.topic };
            let lines = Some(args.count.unwrap_or(u64::MAX));
            return each(context, &home, &question, lines, render::pilot::event).await;
        }
        PilotCommand::Leave(_) => (Ask::Stop, |_value, _width| "left\n".to_owned()),
        PilotCommand::Find(args) => (Ask::Find { target: args.node }, render::pilot::node),
        PilotCommand::Handshake(args) => {
            (Ask::Handshake { target: args.node, why: args.why }, render::pilot::trusted)
        }
        PilotCommand::Approve(args) => (Ask::Approve { target: args.node }, render::pilot::trusted),
        PilotCommand::Reject(args) => {
            (Ask::Reject { target: args.node, reason: args.why }, render::pilot::ended)
        }
        PilotCommand::Revoke(args) => (Ask::Revoke { target: args.node }, render::pilot::ended),
        PilotCommand::Forget(args) => (Ask::Forget { target: args.node }, render::pilot::ended),
        PilotCommand::Trust(_) => (Ask::Trust, render::pilot::trust),
        PilotCommand::Send(args) => (message(args)?, render::pilot::sent),
        PilotCommand::SendFile(args) => {
            let path = std::path::absolute(&args.file)?;
            (Ask::SendFile { target: args.node, path }, render::pilot::sent)
        }
        PilotCommand::Publish(args) => {
            let target = args.at.unwrap_or_default();
            (Ask::Publish { target, topic: args.topic, payload: args.text }, render::pilot::sent)
        }
        PilotCommand::Request(args) => {
            let input = json_of(&args.data)?;
            let timeout_ms = millis(args.timeout);
            let question = Ask::Request { target: args.node, port: args.port, input, timeout_ms };
            (question, render::pilot::json)
        }
        PilotCommand::Offer(args) => {
            (Ask::Offer { capability: args.capability, port: args.port }, render::pilot::offered)
        }
        PilotCommand::Join(_)
        | PilotCommand::Rendezvous(_)
        | PilotCommand::Bench(_)
        | PilotCommand::Bring(_)
        | PilotCommand::Relay(_) => return Ok(ExitCode::FAILURE),
    };
    let answer = ask_one(&home, &question).await?;
    out.answer(&answer, text)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints items as they come. As JSON they are one array, or a document a line where they may never end: then `lines` says how many.
async fn each(
    context: &Context,
    home: &Path,
    question: &Ask,
    lines: Option<u64>,
    text: fn(&Value, usize) -> String,
) -> anyhow::Result<ExitCode> {
    let out = &context.out;
    let mut answer = ask(home, question).await?;
    let mut items = Vec::new();
    let mut left = lines.unwrap_or(u64::MAX);
    while left > 0 {
        let Line::Item(item) = answer.next().await? else { break };
        left -= 1;
        match (out.json, lines.is_some()) {
            (false, _) => out.raw(&text(&item, out.width))?,
            (true, true) => out.raw(&format!("{item}\n"))?,
            (true, false) => items.push(item),
        }
    }
    if out.json && lines.is_none() {
        out.answer(&items, |_items, _width| String::new())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn message(args: SendArgs) -> anyhow::Result<Ask> {
    let (kind, content) = match (args.text, args.data, args.binary) {
        (Some(text), _, _) => (Content::Text, text),
        (None, Some(data), _) => (Content::Json, json_of(&data)?.to_string()),
        (None, None, Some(path)) => (Content::Binary, BASE64.encode(&bytes_of(&path)?)),
        (None, None, None) => (Content::Text, String::new()),
    };
    Ok(Ask::Send { target: args.node, kind, content })
}

/// JSON given as an argument; `-` means standard input.
pub(super) fn json_of(text: &str) -> anyhow::Result<Value> {
    let bytes = if text == "-" { bytes_of(Path::new("-"))? } else { text.as_bytes().to_vec() };
    let wrong = |error| ErrorInfo::new(ErrorCode::BadInput, format!("that is no JSON: {error}"));
    Ok(serde_json::from_slice(&bytes).map_err(wrong)?)
}

fn bytes_of(path: &Path) -> anyhow::Result<Vec<u8>> {
    let unreadable = |error: io::Error| {
        ErrorInfo::new(ErrorCode::Storage, format!("{} cannot be read: {error}", path.display()))
    };
    let mut bytes = Vec::new();
    let input: Box<dyn io::Read> = if path == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(std::fs::File::open(path).map_err(unreadable)?)
    };
    input.take(CONTENT_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > CONTENT_BYTES_MAX {
        let text = format!("a message has at most {CONTENT_BYTES_MAX} bytes");
        return Err(ErrorInfo::new(ErrorCode::TooLarge, text).hint("use send-file").into());
    }
    Ok(bytes)
}

/// What `relay` writes for a request that failed.
pub(super) fn error_line(message: &str) -> Value {
    json!({"error": {"message": message}})
}
