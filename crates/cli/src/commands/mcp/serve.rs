//! `comity serve --mcp`: an MCP server's tools as capabilities, or the whole of it.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::Args;
use comity_api::types::{
    ErrorCode, ErrorInfo, Exit, FindingLevel, Overrides, ServeMode, ServeRequest, ServeResponse,
    Visibility,
};
use comity_mcp::host::{
    capability_name, resource_manifest, tool_manifest, upstream_of, whole_manifest,
};
use comity_mcp::upstream::Upstream;
use comity_specialist::manifest::Manifest;
use comity_specialist::mcp::McpSection;
use serde_json::Value;

use super::classes::Proposed;
use crate::context::Context;
use crate::{progress, render};

/// Options of `serve` for MCP servers.
#[derive(Debug, Default, Args)]
pub(crate) struct McpServeArgs {
    /// Publish an MCP server: a program that speaks on its standard input and output (quoted as in a shell, but no shell
    /// is involved), or the http:// URL of one.
    #[arg(long, value_name = "CMD|URL", conflicts_with_all = ["table", "exec", "http", "manifest"])]
    pub(crate) mcp: Option<String>,

    /// Publish this tool of the MCP server; may be given several times.
    #[arg(long = "tool", value_name = "NAME", requires = "mcp")]
    tools: Vec<String>,

    /// Publish all tools the MCP server has now.
    #[arg(long, requires = "mcp", conflicts_with = "tools")]
    all_tools: bool,

    /// Publish this resource of the MCP server; may be given several times.
    #[arg(long = "resource", value_name = "URI", requires = "mcp")]
    resources: Vec<String>,

    /// Serve the MCP server whole, for `comity mcp connect`; private unless said otherwise.
    #[arg(long, requires = "mcp", conflicts_with_all = ["tools", "all_tools", "resources"])]
    whole: bool,

    /// A variable for the program, which gets none of this shell's but PATH and the like.
    #[arg(long = "mcp-env", value_name = "NAME=VALUE", requires = "mcp", value_parser = variable)]
    env: Vec<(String, String)>,

    /// Put before the names of the tools.
    #[arg(long, value_name = "TEXT", requires = "mcp", conflicts_with = "whole")]
    prefix: Option<String>,
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// How the capabilities are published, beside what the server says.
#[derive(Debug)]
pub(crate) struct Publishing {
    pub(crate) overrides: Overrides,
    pub(crate) yes: bool,
    pub(crate) check: bool,
    /// Classes that are proposed are taken without asking.
    pub(crate) proposed_classes: bool,
}

/// Runs `serve --mcp`.
pub(crate) async fn serve(
    args: &McpServeArgs,
    publishing: Publishing,
    context: &Context,
) -> anyhow::Result<ExitCode> {
    let section = section(args)?;
    let client = context.client().await?;
    let logs = tempfile::tempdir()?;
    let upstream = upstream_of(&section, logs.path()).map_err(bad)?;
    let work = manifests(args, &publishing.overrides, &section, &upstream);
    let manifests = progress::during(&context.out, "asking the MCP server", work).await;
    let manifests = manifests.map_err(|error| with_last_words(error, logs.path()))?;
    // The node starts its own.
    drop(upstream);
    publish(manifests, &publishing, &client, context).await
}

/// Shows what would be published, asks unless told not to, and publishes it.
pub(crate) async fn publish(
    manifests: Vec<Manifest>,
    publishing: &Publishing,
    client: &comity_api::Client,
    context: &Context,
) -> anyhow::Result<ExitCode> {
    let proposed = Proposed::of(&manifests, &publishing.overrides);
    // Whoever is asked sees what is proposed; nobody else gets it without having said so.
    let take = publishing.proposed_classes || !publishing.yes;
    let mut shown_manifests = manifests.clone();
    if take {
        proposed.put_into(&mut shown_manifests);
    }
    let mut drafts: Vec<ServeResponse> = Vec::new();
    for manifest in &shown_manifests {
        let mut request = request_of(manifest, &publishing.overrides)?;
        request.mode = if publishing.check { ServeMode::Check } else { ServeMode::DryRun };
        drafts.push(client.serve(&request).await?);
    }
    let is_faulty =
        |draft: &ServeResponse| draft.findings.iter().any(|one| one.level == FindingLevel::Error);
    let faulty: Vec<String> = manifests
        .iter()
        .zip(&drafts)
        .filter(|(_, draft)| is_faulty(draft))
        .filter_map(|(manifest, _)| manifest.name.clone())
        .collect();
    if let Some(text) = proposed.text().filter(|_| publishing.check || publishing.yes) {
        let taken = if take && !publishing.check {
            "taken"
        } else {
            "--proposed-classes takes them, --class names others"
        };
        context.out.note(&format!("classes proposed from descriptions: {text} ({taken})"));
    }
    if publishing.check || !faulty.is_empty() {
        context.out.answer(&drafts, |drafts, width| shown(drafts, width))?;
        if !faulty.is_empty() {
            let text = format!("not publishable: {}; nothing was published", faulty.join(", "));
            context.out.note(&text);
        }
        let exit = if faulty.is_empty() { Exit::Ok } else { Exit::BadData };
        return Ok(ExitCode::from(exit.code()));
    }
    let confirmed = if publishing.yes {
        Confirmed::AsShown
    } else {
        let question = proposed.text().filter(|_| !publishing.proposed_classes);
        confirmed(&drafts, question.as_deref(), context)?
    };
    let manifests = match confirmed {
        Confirmed::AsShown => shown_manifests,
        Confirmed::WithoutProposed => manifests,
        Confirmed::No => {
            context.out.note("nothing was published");
            return Ok(ExitCode::SUCCESS);
        }
    };
    let mut answers = Vec::new();
    for manifest in &manifests {
        let mut request = request_of(manifest, &publishing.overrides)?;
        request.mode = ServeMode::Publish;
        answers.push(progress::during(&context.out, "publishing", client.serve(&request)).await?);
    }
    context.out.answer(&answers, |answers, width| {
        answers.iter().map(|answer| render::serve::published(answer, width)).collect()
    })?;
    Ok(ExitCode::SUCCESS)
}

fn section(args: &McpServeArgs) -> Result<McpSection, ErrorInfo> {
    let given = args.mcp.as_deref().unwrap_or_default();
    let env: BTreeMap<String, String> = args.env.iter().cloned().collect();
    if given.starts_with("http://") || given.starts_with("https://") {
        return Ok(McpSection { url: Some(given.to_owned()), ..McpSection::default() });
    }
    let command = shlex::split(given).filter(|words| !words.is_empty());
    let command = command.ok_or_else(|| {
        bad(format!("`{given}` is no command line: empty, or a quote is not closed"))
    })?;
    let directory = std::env::current_dir().map_err(|error| bad(error.to_string()))?;
    Ok(McpSection { command, env, directory: Some(directory), ..McpSection::default() })
}

pub(crate) fn bad(reason: impl Into<String>) -> ErrorInfo {
    ErrorInfo::new(ErrorCode::BadManifest, reason)
}

/// What is to be published: only what was named.
async fn manifests(
    args: &McpServeArgs,
    overrides: &Overrides,
    section: &McpSection,
    upstream: &Upstream,
) -> Result<Vec<Manifest>, ErrorInfo> {
    let refused = |error: comity_specialist::SpecialistError| {
        bad(format!("the MCP server cannot be used: {error}"))
    };
    if args.whole {
        let server = upstream.server().await.map_err(refused)?;
        let name = overrides.name.clone().unwrap_or_else(|| {
            capability_name(server["serverInfo"]["name"].as_str().unwrap_or("mcp-server"))
        });
        return Ok(vec![whole_manifest(section, &server, name)]);
    }
    let tools = upstream.tools().await.map_err(refused)?;
    let name_of = |tool: &Value| tool["name"].as_str().unwrap_or_default().to_owned();
    if args.tools.is_empty() && !args.all_tools && args.resources.is_empty() {
        let names: Vec<String> = tools.iter().map(|tool| render::clean(&name_of(tool))).collect();
        return Err(bad(
            "say what to publish: nothing of an MCP server is published without being named",
        )
        .hint(format!(
            "--tool NAME, --all-tools, --resource URI or --whole; its tools are {}",
            names.join(", ")
        )));
    }
    let named = |name: &str| {
        format!("{}{}", args.prefix.as_deref().unwrap_or_default(), capability_name(name))
    };
    let mut manifests = Vec::new();
    for wanted in &args.tools {
        if !tools.iter().any(|tool| name_of(tool) == *wanted) {
            let names: Vec<String> =
                tools.iter().map(|tool| render::clean(&name_of(tool))).collect();
            return Err(bad(format!("the MCP server has no tool {wanted}"))
                .hint(format!("its tools are {}", names.join(", "))));
        }
    }
    for tool in tools.iter().filter(|tool| args.all_tools || args.tools.contains(&name_of(tool))) {
        manifests.push(tool_manifest(section, tool, named(&name_of(tool))));
    }
    if !args.resources.is_empty() {
        let resources = upstream.resources().await.map_err(refused)?;
        for uri in &args.resources {
            let resource = resources.iter().find(|resource| resource["uri"] == **uri);
            let resource =
                resource.ok_or_else(|| bad(format!("the MCP server has no resource {uri}")))?;
            let name = resource["name"].as_str().unwrap_or("resource");
            manifests.push(resource_manifest(section, resource, named(name)));
        }
    }
    if let (Some(name), [only]) = (&overrides.name, manifests.as_mut_slice()) {
        only.name = Some(name.clone());
    }
    no_two_alike(&manifests)?;
    Ok(manifests)
}

/// Two tools or skills may become one name.
pub(crate) fn no_two_alike(manifests: &[Manifest]) -> Result<(), ErrorInfo> {
    let mut names: Vec<&Option<String>> = manifests.iter().map(|manifest| &manifest.name).collect();
    names.sort();
    let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) else { return Ok(()) };
    let name = pair[0].clone().unwrap_or_default();
    Err(bad(format!("two of them would both be named {name}")).hint(
        "publish them one by one, each by its own name (--tool or --skill) with its own --name",
    ))
}

fn request_of(manifest: &Manifest, overrides: &Overrides) -> anyhow::Result<ServeRequest> {
    // Names are decided already; of a public or private one, the flags know.
    let overrides = Overrides { name: None, ..overrides.clone() };
    let mut manifest = manifest.clone();
    if overrides.visibility == Some(Visibility::Public) || overrides.group.is_some() {
        manifest.visibility = None;
    }
    Ok(ServeRequest {
        manifest: Some(serde_json::to_value(manifest)?),
        overrides,
        ..ServeRequest::default()
    })
}

fn shown(drafts: &[ServeResponse], width: usize) -> String {
    drafts.iter().map(|draft| render::serve::draft(draft, width)).collect()
}

/// What the user says to what was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Confirmed {
    AsShown,
    WithoutProposed,
    No,
}

fn confirmed(
    drafts: &[ServeResponse],
    proposed: Option<&str>,
    context: &Context,
) -> anyhow::Result<Confirmed> {
    if !io::stdin().is_terminal() || context.out.json {
        return Err(ErrorInfo::new(
            ErrorCode::BadRequest,
            "publishing needs a confirmation, and nobody is here to ask",
        )
        .hint("add --yes to publish, or --check to look only")
        .into());
    }
    let mut err = anstream::stderr().lock();
    err.write_all(shown(drafts, context.out.width).as_bytes())?;
    let question = match proposed {
        Some(proposed) => format!(
            "Classes proposed from descriptions: {proposed}\nPublish this? [y/N, w: without the proposed classes] "
        ),
        None => "Publish this? [y/N] ".to_owned(),
    };
    err.write_all(question.as_bytes())?;
    err.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Confirmed::AsShown,
        "w" if proposed.is_some() => Confirmed::WithoutProposed,
        _ => Confirmed::No,
    })
}

/// The end of what the program wrote to standard error, which says best why it does not run.
fn with_last_words(error: ErrorInfo, logs: &std::path::Path) -> ErrorInfo {
    let texts = std::fs::read_dir(logs).into_iter().flatten().flatten();
    let text: String = texts.filter_map(|file| std::fs::read_to_string(file.path()).ok()).collect();
    let lines: Vec<&str> = text.lines().rev().take(3).collect();
    if lines.is_empty() || !error.hint.is_empty() {
        return error;
    }
    let lines: Vec<String> = lines.into_iter().rev().map(render::clean).collect();
    error.hint(format!("it said last: {}", lines.join(" | ")))
}
