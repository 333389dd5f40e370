//! `comity a2a`, `comity serve --a2a`: remote A2A agents at local endpoints, and local ones for the network.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Args;
use comity_api::Client;
use comity_api::types::{EndpointKind, EndpointRequest, ErrorCode, ErrorInfo};
use comity_mcp::a2a::agent::Agent;
use comity_mcp::a2a::card::{agent_manifest, skill_manifest, skills};
use comity_mcp::a2a::endpoint::Agents;
use comity_mcp::a2a::{AGENT_TAG, KEY_FILE};
use comity_mcp::host::capability_name;
use comity_mcp::pins;
use comity_specialist::manifest::Manifest;
use comity_specialist::mcp::A2aSection;
use serde_json::Value;

use super::mcp::{Publishing, bad, no_two_alike, open, publish};
use crate::context::Context;
use crate::{progress, render};

/// Options of `a2a`.
#[derive(Debug, Args)]
#[command(
    after_help = "An A2A client is given the printed URL of the card; 1.0 and 0.3 are both understood.

Examples:
  comity a2a ADDRESS/currency-agent                       # prints the URL of its card
  comity a2a 'converts currencies' --http 127.0.0.1:8900   # the best match of a query
  comity a2a --http 127.0.0.1:8900                         # any peer, at /a2a/ADDRESS/.well-known/agent-card.json"
)]
pub(crate) struct A2aArgs {
    /// Agents whose URLs are printed: ADDRESS/CAPABILITY, the address or handle of a peer that serves one, or a query.
    /// Others are reached at the same endpoint all the same.
    #[arg(value_name = "AGENT")]
    targets: Vec<String>,

    /// Where to listen; loopback only, 0 = any port.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:0")]
    http: SocketAddr,

    /// Look for them in this private group, and call them as a member.
    #[arg(long, value_name = "NAME")]
    group: Option<String>,

    /// Let web pages of this origin in, such as `https://app.example`; those of this machine are.
    #[arg(long = "allow-origin", value_name = "ORIGIN")]
    origins: Vec<String>,

    /// Demand no token: every program of this machine may use the endpoint.
    #[arg(long)]
    allow_unauthenticated: bool,

    /// Write cards that are valid for strict readers of A2A 1.0, and that clients of 0.3 cannot read.
    #[arg(long)]
    strict: bool,
}

/// Options of `serve` for A2A agents.
#[derive(Debug, Default, Args)]
pub(crate) struct A2aServeArgs {
    /// Publish an agent that speaks A2A: the http:// URL of it or of its card. Whole, for `comity a2a` on other nodes,
    /// unless skills are named; private unless said otherwise.
    #[arg(long, value_name = "URL", conflicts_with_all = ["table", "exec", "http", "mcp", "manifest"])]
    pub(crate) a2a: Option<String>,

    /// Publish this skill of the A2A agent as a capability of its own; may be given several times.
    #[arg(long = "skill", value_name = "ID", requires = "a2a")]
    skills: Vec<String>,

    /// Publish all skills that the A2A agent has now as capabilities of their own.
    #[arg(long, requires = "a2a", conflicts_with = "skills")]
    all_skills: bool,
}

/// Runs `serve --a2a`.
pub(crate) async fn serve(
    args: &A2aServeArgs,
    publishing: &Publishing,
    context: &Context,
) -> anyhow::Result<ExitCode> {
    let url = args.a2a.clone().unwrap_or_default();
    let client = context.client().await?;
    let agent = Agent::new(&url).map_err(|error| bad(error.to_string()))?;
    let card = progress::during(&context.out, "reading the agent's card", agent.card()).await;
    let card = card.map_err(|error| bad(format!("the A2A agent cannot be used: {error}")))?;
    let section = A2aSection { url, ..A2aSection::default() };
    let manifests = manifests(args, publishing, &section, &card)?;
    publish(manifests, publishing, &client, context).await
}

fn manifests(
    args: &A2aServeArgs,
    publishing: &Publishing,
    section: &A2aSection,
    card: &Value,
) -> Result<Vec<Manifest>, ErrorInfo> {
    let own_name = publishing.overrides.name.clone();
    if args.skills.is_empty() && !args.all_skills {
        return Ok(vec![agent_manifest(section, card, own_name)]);
    }
    let id_of = |skill: &Value| skill["id"].as_str().unwrap_or_default().to_owned();
    let known: Vec<String> = skills(card).map(|skill| render::clean(&id_of(skill))).collect();
    if let Some(missing) =
        args.skills.iter().find(|id| !skills(card).any(|skill| id_of(skill) == **id))
    {
        return Err(bad(format!("the A2A agent has no skill {missing}"))
            .hint(format!("its skills are {}", known.join(", "))));
    }
    let mut manifests: Vec<Manifest> = skills(card)
        .filter(|skill| args.all_skills || args.skills.contains(&id_of(skill)))
        .map(|skill| skill_manifest(section, skill, capability_name(&id_of(skill))))
        .collect();
    if manifests.is_empty() {
        return Err(bad("the A2A agent has no skills"));
    }
    if let (Some(name), [only]) = (own_name, manifests.as_mut_slice()) {
        only.name = Some(name);
    }
    no_two_alike(&manifests)?;
    Ok(manifests)
}

/// Runs `a2a`.
pub(crate) async fn run(args: A2aArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let mut names = Vec::new();
    for target in &args.targets {
        let client = context.client().await?;
        names.push(named(&client, target, args.group.as_deref()).await?);
    }
    let request = EndpointRequest {
        listen: args.http,
        serves: EndpointKind::Agents { group: args.group, strict: args.strict },
        origins: args.origins,
        unauthenticated: args.allow_unauthenticated,
    };
    if names.is_empty() {
        names.push("ADDRESS".to_owned());
    }
    open(request, context, |listen| {
        for name in &names {
            // For programs that start this and read where the card is.
            let card = format!("http://{listen}/a2a/{name}/.well-known/agent-card.json\n");
            context.out.raw(&card)?;
        }
        let key = context.home.join(KEY_FILE);
        context.out.note(&format!("cards are signed by the key in {}", key.display()));
        Ok(())
    })
    .await
}

/// What an agent is called in the paths of the endpoint.
async fn named(client: &Client, target: &str, group: Option<&str>) -> Result<String, ErrorInfo> {
    if target.contains('/') && !target.contains(char::is_whitespace) {
        return Ok(Agents::path_name(target));
    }
    if !target.contains(char::is_whitespace)
        && let Ok(shown) = client.show(target).await
    {
        return Ok(shown.agent.address);
    }
    let found = pins::resolve(client, target, group, "agent").await?;
    if !found.tags.iter().any(|tag| tag == AGENT_TAG) {
        let text = format!("the best match, {}, is no A2A agent", found.target);
        return Err(ErrorInfo::new(ErrorCode::NotFound, text).hint(format!(
            "ask for one by its tag as well, such as `tag {AGENT_TAG}`, or name it"
        )));
    }
    Ok(Agents::path_name(&found.target))
}
