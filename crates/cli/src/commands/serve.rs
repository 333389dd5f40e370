//! `comity serve`, `comity unserve`.

use std::collections::BTreeMap;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use comity_api::types::{
    ErrorCode, ErrorInfo, Exit, FindingLevel, Overrides, ServeMode, ServeRequest, ServeResponse,
    Source, Visibility,
};
use comity_capability::profile;
use serde_json::Value;

use super::a2a::{self, A2aServeArgs};
use super::call::read_input;
use super::mcp::{self, McpServeArgs};
use crate::args::{OutputArgs, millis, time_span};
use crate::context::Context;
use crate::{progress, render};

/// Options of `serve`.
#[derive(Debug, Args)]
#[command(
    group = clap::ArgGroup::new("what").args(["table", "exec", "http", "mcp", "a2a", "manifest"]).required(true).multiple(true),
    after_help = "Examples:
  comity serve --table eurofxref-hist.csv --name ecb-rates --class finance
  comity serve --exec 'python3 translate.py' --manifest translate.toml --yes
  comity serve --mcp 'npx -y @modelcontextprotocol/server-everything' --tool echo --public
  comity serve --a2a http://127.0.0.1:9999 --public
  comity serve --manifest lookup.toml --check"
)]
pub(crate) struct ServeArgs {
    /// Publish a table: CSV or JSON Lines.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["exec", "http"])]
    pub(crate) table: Option<PathBuf>,

    /// Publish a program: one JSON request a line on its input, one JSON response a line on its output. Quoted as in a
    /// shell, but no shell is involved.
    #[arg(long, value_name = "CMD", conflicts_with = "http")]
    pub(crate) exec: Option<String>,

    /// Publish a local service that takes the request as a JSON POST.
    #[arg(long, value_name = "URL")]
    pub(crate) http: Option<String>,

    #[command(flatten)]
    pub(crate) mcp: McpServeArgs,

    #[command(flatten)]
    pub(crate) a2a: A2aServeArgs,

    /// Declaration in a file, TOML or JSON; flags win over it.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) manifest: Option<PathBuf>,

    /// Name to be called by: a-z, 0-9, `-`, `.`, `_`.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// Title, one line.
    #[arg(long, value_name = "TEXT")]
    pub(crate) title: Option<String>,

    /// What it does, in words.
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,

    /// A class of the taxonomy, by id, path or name; up to four.
    #[arg(long = "class", value_name = "CLASS")]
    pub(crate) classes: Vec<String>,

    /// Take the classes that are proposed from the descriptions of an MCP server's tools or an A2A agent's skills.
    #[arg(long, conflicts_with_all = ["classes", "table", "exec", "http", "manifest"])]
    pub(crate) proposed_classes: bool,

    /// An attribute, such as pair=EUR/USD or resolution=1d; values may be JSON.
    #[arg(long = "attribute", value_name = "KEY=VALUE", value_parser = attribute)]
    pub(crate) attributes: Vec<(String, Value)>,

    /// An example request, in words.
    #[arg(long = "example", value_name = "TEXT")]
    pub(crate) examples: Vec<String>,

    /// A tag.
    #[arg(long = "tag", value_name = "TAG")]
    pub(crate) tags: Vec<String>,

    /// JSON Schema of the request, in a file.
    #[arg(long, value_name = "FILE")]
    pub(crate) input_schema: Option<PathBuf>,

    /// JSON Schema of the response, in a file.
    #[arg(long, value_name = "FILE")]
    pub(crate) output_schema: Option<PathBuf>,

    /// Anyone may find and call it.
    #[arg(long, conflicts_with_all = ["private", "group"])]
    pub(crate) public: bool,

    /// Nobody may find or call it without a grant.
    #[arg(long)]
    pub(crate) private: bool,

    /// Only members of this private group may find and call it.
    #[arg(long, value_name = "NAME", conflicts_with = "private")]
    pub(crate) group: Option<String>,

    /// Time limit for one call, e.g. 10s.
    #[arg(long, value_name = "TIME", value_parser = time_span)]
    pub(crate) call_timeout: Option<Duration>,

    /// Publish without asking.
    #[arg(short, long)]
    pub(crate) yes: bool,

    /// Only check, explain what to mend, and publish nothing.
    #[arg(long, conflicts_with = "yes")]
    pub(crate) check: bool,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Options of `unserve`.
#[derive(Debug, Args)]
pub(crate) struct UnserveArgs {
    /// Name of the capability.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

pub(crate) async fn serve(args: ServeArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let mut request = request_of(&args)?;
    if args.mcp.mcp.is_some() {
        let publishing = publishing(&args, request.overrides);
        return Box::pin(mcp::serve(&args.mcp, publishing, context)).await;
    }
    if args.a2a.a2a.is_some() {
        let publishing = publishing(&args, request.overrides);
        return Box::pin(a2a::serve(&args.a2a, &publishing, context)).await;
    }
    let client = context.client().await?;
    if !args.yes {
        request.mode = if args.check { ServeMode::Check } else { ServeMode::DryRun };
        let draft = progress::during(&context.out, "looking at it", client.serve(&request)).await?;
        let faulty = draft.findings.iter().any(|finding| finding.level == FindingLevel::Error);
        if args.check || faulty {
            context.out.answer(&draft, render::serve::draft)?;
            return Ok(ExitCode::from(if faulty { Exit::BadData } else { Exit::Ok }.code()));
        }
        if !confirmed(&draft, context)? {
            context.out.note("nothing was published");
            return Ok(ExitCode::SUCCESS);
        }
    }
    request.mode = ServeMode::Publish;
    let answer = progress::during(&context.out, "publishing", client.serve(&request)).await?;
    context.out.answer(&answer, render::serve::published)?;
    Ok(ExitCode::SUCCESS)
}

fn publishing(args: &ServeArgs, overrides: Overrides) -> mcp::Publishing {
    let ServeArgs { yes, check, proposed_classes, .. } = *args;
    mcp::Publishing { overrides, yes, check, proposed_classes }
}

pub(crate) async fn unserve(args: &UnserveArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let done = context.client().await?.unserve(&args.name).await?;
    context.out.answer(&done, |done, _| format!("{}\n", render::clean(&done.message)))?;
    Ok(ExitCode::SUCCESS)
}

/// Shows what would be published and asks.
fn confirmed(draft: &ServeResponse, context: &Context) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() || context.out.json {
        return Err(ErrorInfo::new(
            ErrorCode::BadRequest,
            "publishing needs a confirmation, and nobody is here to ask",
        )
        .hint("add --yes to publish, or --check to look only")
        .into());
    }
    let mut err = anstream::stderr().lock();
    err.write_all(render::serve::draft(draft, context.out.width).as_bytes())?;
    err.write_all(b"Publish this? [y/N] ")?;
    err.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

fn request_of(args: &ServeArgs) -> Result<ServeRequest, ErrorInfo> {
    let visibility = match (args.public, args.private) {
        (true, _) => Some(Visibility::Public),
        (_, true) => Some(Visibility::Private),
        (false, false) => None,
    };
    let overrides = Overrides {
        name: args.name.clone(),
        title: args.title.clone(),
        description: args.description.clone(),
        examples: args.examples.clone(),
        classes: args.classes.clone(),
        tags: args.tags.clone(),
        attributes: attributes(&args.attributes)?,
        input_schema: args.input_schema.as_deref().map(schema).transpose()?,
        output_schema: args.output_schema.as_deref().map(schema).transpose()?,
        visibility,
        group: args.group.clone(),
        call_timeout_ms: args.call_timeout.map(millis),
    };
    Ok(ServeRequest {
        manifest: None,
        manifest_path: args.manifest.as_deref().map(absolute).transpose()?,
        source: source_of(args)?,
        overrides,
        mode: ServeMode::Check,
    })
}

/// The node has another working directory, so it gets absolute paths.
fn source_of(args: &ServeArgs) -> Result<Option<Source>, ErrorInfo> {
    if let Some(path) = &args.table {
        return Ok(Some(Source::Table { path: absolute(path)? }));
    }
    if let Some(url) = &args.http {
        return Ok(Some(Source::Http { url: url.clone() }));
    }
    let Some(line) = &args.exec else { return Ok(None) };
    let command = shlex::split(line).filter(|words| !words.is_empty()).ok_or_else(|| {
        ErrorInfo::new(
            ErrorCode::BadRequest,
            format!("`{line}` is no command line: empty, or a quote is not closed"),
        )
    })?;
    Ok(Some(Source::Exec { command, directory: Some(absolute(Path::new("."))?) }))
}

fn absolute(path: &Path) -> Result<String, ErrorInfo> {
    let wrong = |reason: String| {
        ErrorInfo::new(
            ErrorCode::BadRequest,
            format!("cannot use the path {}: {reason}", path.display()),
        )
    };
    let absolute = std::fs::canonicalize(path).map_err(|error| wrong(error.to_string()))?;
    absolute.into_os_string().into_string().map_err(|_| wrong("it is not UTF-8".to_owned()))
}

fn schema(path: &Path) -> Result<Value, ErrorInfo> {
    serde_json::from_str(&read_input(path)?).map_err(|error| {
        ErrorInfo::new(
            ErrorCode::BadManifest,
            format!("{} is no JSON Schema: {error}", path.display()),
        )
    })
}

/// Several values of one key become a list.
fn attributes(given: &[(String, Value)]) -> Result<BTreeMap<String, Value>, ErrorInfo> {
    let mut out = BTreeMap::<String, Value>::new();
    for (key, value) in given {
        match out.get_mut(key) {
            None => {
                out.insert(key.clone(), value.clone());
            }
            Some(Value::Array(list)) => list.push(value.clone()),
            Some(Value::Object(_)) => {
                return Err(ErrorInfo::new(
                    ErrorCode::BadRequest,
                    format!("the attribute {key} is given twice"),
                ));
            }
            Some(one) => *one = Value::Array(vec![one.take(), value.clone()]),
        }
    }
    Ok(out)
}

/// Reads `KEY=VALUE`. The profile of a known key reads its text itself (`resolution=1d`, `time=2021..2024`); for other
/// keys a value that is JSON is taken as such, so that `rows=5` is a number.
fn attribute(text: &str) -> Result<(String, Value), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE, such as pair=EUR/USD")?;
    if key.is_empty() {
        return Err("the key before `=` is missing".to_owned());
    }
    let structured = value.starts_with(['{', '[', '"']);
    let value = match serde_json::from_str(value) {
        Ok(json) if structured || profile::lookup(key).is_none() => json,
        Err(error) if structured => {
            return Err(format!("the value of {key} looks like JSON but is not: {error}"));
        }
        Ok(_) | Err(_) => Value::String(value.to_owned()),
    };
    Ok((key.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn attribute_values_are_text_or_json() {
        let value = |text: &str| attribute(text).unwrap().1;
        assert_eq!(value("fin:pair=EUR/USD"), json!("EUR/USD"));
        assert_eq!(value("fin:pair=[\"EUR/USD\"]"), json!(["EUR/USD"]));
        assert_eq!(value("time=2021"), json!("2021"), "a known key reads its text itself");
        assert_eq!(value("my:rows=5"), json!(5));
        assert_eq!(value("my:word=five=5"), json!("five=5"));
        assert!(attribute("no value").is_err());
        assert!(attribute("=5").is_err());
        assert!(attribute("a={").is_err());
    }

    #[test]
    fn repeated_attributes_become_a_list() {
        let given = ["p=a", "p=b", "p=c", "q=d"].map(|text| attribute(text).unwrap());
        assert_eq!(json!(attributes(&given).unwrap()), json!({"p": ["a", "b", "c"], "q": "d"}));
    }
}
