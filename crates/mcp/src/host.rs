//! MCP servers as capabilities: what a node opens for manifests with an `[mcp]` section, and with an `[a2a]` section.
//!
//! Capabilities of one server share one conversation with it. A tool's answer is its structured content when the tool
//! declares an output schema, else `{"content": […]}` with its content blocks; a tool's failure is a failed call. A
//! server's requests of its client (sampling, elicitation, roots) are refused. When a server says that its tools are
//! others, what is served of them is published anew; tools that were not named are never published.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use comity_api::types::{ServeMode, ServeRequest};
use comity_api::{Client, SOCKET_NAME};
use comity_specialist::manifest::{Manifest, Visibility, timeout};
use comity_specialist::mcp::{A2aSection, McpOpener, McpSection};
use comity_specialist::{Answer, Invocation, Specialist, SpecialistError};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};

use crate::a2a::agent::{self, Agent};
use crate::program::Program;
use crate::server::{DESTRUCTIVE_TAG, MCP_TAG, READ_ONLY_TAG};
use crate::text::{DESCRIPTION_BYTES_MAX, TITLE_BYTES_MAX, clean};
use crate::upstream::Upstream;
use crate::whole::stdio::Programs;
use crate::whole::{Http, Relay};

/// Longest one tool call may take when nothing else is said.
const CALL_TIMEOUT: Duration = Duration::from_secs(120);
/// Longest description of a tool that is published, in bytes: a record holds all capabilities of an agent in 8 KiB.
const PUBLISHED_BYTES_MAX: usize = 600;
/// Longest name of a capability.
const NAME_MAX: usize = 64;
/// Tag of a capability that is a whole server.
pub const WHOLE_TAG: &str = "mcp-server";
/// Directory below the node's home that keeps what programs write to standard error.
const LOGS: &str = "mcp";

/// Opens MCP servers and A2A agents for one node.
#[derive(Debug)]
pub struct Host(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    logs: PathBuf,
    client: Client,
    servers: Mutex<BTreeMap<String, Weak<Upstream>>>,
    /// By URL.
    agents: Mutex<BTreeMap<String, Weak<Agent>>>,
    /// By name of the capability.
    manifests: Mutex<BTreeMap<String, Manifest>>,
}

impl Host {
    /// For the node that lives in `home`.
    #[must_use]
    pub fn new(home: &Path) -> Self {
        Self(Arc::new(Inner {
            logs: home.join(LOGS),
            client: Client::at(home.join(SOCKET_NAME)),
            servers: Mutex::default(),
            agents: Mutex::default(),
            manifests: Mutex::default(),
        }))
    }
}

impl McpOpener for Host {
    fn open(
        &self,
        section: &McpSection,
        manifest: &Manifest,
    ) -> Result<Arc<dyn Specialist>, String> {
        if let Some(problem) = section.problem() {
            return Err(format!("the MCP server: {problem}"));
        }
        let limit = section.timeout.as_deref().and_then(timeout);
        std::fs::create_dir_all(&self.0.logs)
            .map_err(|error| format!("cannot create {}: {error}", self.0.logs.display()))?;
        if section.is_whole() {
            let relay = match http_of(section)? {
                Some(http) => Relay::http(http, limit),
                None => Relay::programs(Programs::new(program_of(section, &self.0.logs)), limit),
            };
            return Ok(Arc::new(relay));
        }
        let key = server_key(section);
        let upstream = self.0.upstream(&key, section)?;
        if let Some(name) = &manifest.name {
            locked(&self.0.manifests).insert(name.clone(), manifest.clone());
        }
        let what = match (&section.tool, &section.resource) {
            (Some(tool), _) => What::Tool(tool.clone()),
            (None, resource) => What::Resource(resource.clone().unwrap_or_default()),
        };
        let structured = manifest.output_schema.is_some();
        Ok(Arc::new(One { upstream, what, structured, limit: limit.unwrap_or(CALL_TIMEOUT) }))
    }

    fn open_agent(
        &self,
        section: &A2aSection,
        _manifest: &Manifest,
    ) -> Result<Arc<dyn Specialist>, String> {
        let limit = section.timeout.as_deref().and_then(timeout);
        let mut agents = locked(&self.0.agents);
        agents.retain(|_, agent| agent.strong_count() > 0);
        let agent = match agents.get(&section.url).and_then(Weak::upgrade) {
            Some(agent) => agent,
            None => {
                let agent = Agent::new(&section.url).map_err(|error| error.to_string())?;
                let agent = Arc::new(agent);
                agents.insert(section.url.clone(), Arc::downgrade(&agent));
                agent
            }
        };
        Ok(match &section.skill {
            Some(skill) => Arc::new(agent::Skill::new(agent, skill.clone(), limit)),
            None => Arc::new(agent::Relay::new(agent, limit)),
        })
    }
}

impl Inner {
    fn upstream(
        self: &Arc<Self>,
        key: &str,
        section: &McpSection,
    ) -> Result<Arc<Upstream>, String> {
        let mut servers = locked(&self.servers);
        servers.retain(|_, server| server.strong_count() > 0);
        if let Some(server) = servers.get(key).and_then(Weak::upgrade) {
            return Ok(server);
        }
        let upstream = Arc::new(upstream_of(section, &self.logs)?);
        servers.insert(key.to_owned(), Arc::downgrade(&upstream));
        tokio::spawn(follow(Arc::downgrade(self), key.to_owned(), Arc::downgrade(&upstream)));
        Ok(upstream)
    }

    /// Publishes anew what changed, and takes off what is gone.
    async fn reconcile(&self, key: &str, tools: &[Value]) {
        let served: Vec<String> = match self.client.capabilities().await {
            Ok(served) => served.capabilities.into_iter().map(|one| one.declaration.name).collect(),
            Err(_) => return,
        };
        let manifests: Vec<Manifest> = locked(&self.manifests).values().cloned().collect();
        for manifest in manifests {
            let (Some(name), Some(section)) = (&manifest.name, &manifest.mcp) else { continue };
            let Some(tool) = section.tool.as_ref().filter(|_| server_key(section) == key) else {
                continue;
            };
            if !served.contains(name) {
                continue;
            }
            let Some(now) = tools.iter().find(|one| one["name"] == **tool) else {
                tracing::warn!(capability = %name, "its MCP server has no such tool any more; it is taken off the network");
                locked(&self.manifests).remove(name);
                let _ = self.client.unserve(name).await;
                continue;
            };
            let fresh = with_schemas(manifest.clone(), now);
            if fresh == manifest {
                continue;
            }
            tracing::info!(capability = %name, "its MCP server has changed the tool; it is published anew");
            let Ok(value) = serde_json::to_value(&fresh) else { continue };
            let request = ServeRequest {
                manifest: Some(value),
                mode: ServeMode::Publish,
                ..ServeRequest::default()
            };
            if let Err(error) = self.client.serve(&request).await {
                tracing::warn!(capability = %name, error = %error.info().message, "the changed tool cannot be published");
            }
        }
    }
}

/// Looks at a server's tools when it is ready and whenever it says that they are others.
async fn follow(host: Weak<Inner>, key: String, upstream: Weak<Upstream>) {
    /// Between two looks at a server that is not there.
    const PAUSE: Duration = Duration::from_secs(30);
    /// Between two looks at one that keeps saying that its tools changed.
    const CALM: Duration = Duration::from_millis(500);
    loop {
        let Some(server) = upstream.upgrade() else { return };
        match server.tools().await {
            Ok(tools) => {
                let Some(host) = host.upgrade() else { return };
                host.reconcile(&key, &tools).await;
                drop(host);
                // Holding the server would keep it alive after the last capability of it has gone.
                drop(server);
                tokio::time::sleep(CALM).await;
                let Some(server) = upstream.upgrade() else { return };
                let changed = server.tools_changed();
                if tokio::time::timeout(PAUSE, changed).await.is_err() {
                    loop_until_changed(&upstream, PAUSE).await;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "an MCP server is not ready; trying again in {PAUSE:?}");
                drop(server);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Waits for a change in turns, so that the server can be let go in between.
async fn loop_until_changed(upstream: &Weak<Upstream>, turn: Duration) {
    while let Some(server) = upstream.upgrade() {
        if tokio::time::timeout(turn, server.tools_changed()).await.is_ok() {
            return;
        }
    }
}

/// A tool or a resource as a capability.
#[derive(Debug)]
struct One {
    upstream: Arc<Upstream>,
    what: What,
    structured: bool,
    limit: Duration,
}

#[derive(Debug)]
enum What {
    Tool(String),
    Resource(String),
}

impl Specialist for One {
    fn call(&self, call: Invocation) -> BoxFuture<'_, Result<Answer, SpecialistError>> {
        async move {
            let ends = call.ends(self.limit);
            let (method, params) = match &self.what {
                What::Tool(name) => {
                    ("tools/call", json!({"name": name, "arguments": call.request}))
                }
                What::Resource(uri) => ("resources/read", json!({"uri": uri})),
            };
            let params = params.as_object().cloned().unwrap_or_else(Map::new);
            let result = self.upstream.bounded(method, params, &ends).await?;
            match &self.what {
                What::Tool(_) => output_of(result, self.structured).map(Answer::One),
                What::Resource(_) => Ok(Answer::One(json!({"contents": result["contents"]}))),
            }
        }
        .boxed()
    }
}

/// What a tool's result is to the network.
fn output_of(mut result: Value, structured: bool) -> Result<Value, SpecialistError> {
    match result["resultType"].as_str() {
        None | Some("complete") => {}
        Some("input_required") => {
            return Err(SpecialistError::reported(
                "the tool asks its user something (sampling, elicitation or roots), which is refused here; the whole server, served with --whole, can ask",
            ));
        }
        Some(_) => {
            return Err(SpecialistError::reported(
                "the tool answers with a task, which needs the whole server (--whole)",
            ));
        }
    }
    if result["isError"] == true {
        let texts: Vec<&str> = result["content"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|block| block["text"].as_str())
            .collect();
        let text = texts.join("\n");
        return Err(SpecialistError::reported(if text.is_empty() {
            "it failed without a reason"
        } else {
            &text
        }));
    }
    let content = result["structuredContent"].take();
    if structured && !content.is_null() {
        return Ok(content);
    }
    let content = result["content"].take();
    if content.is_array() {
        return Ok(json!({ "content": content }));
    }
    Err(SpecialistError::GarbageAnswer { what: "a tool's result without content".to_owned() })
}

/// The same server is the same program in the same place, or the same URL.
fn server_key(section: &McpSection) -> String {
    let server = McpSection { tool: None, resource: None, timeout: None, ..section.clone() };
    serde_json::to_string(&server).unwrap_or_default()
}

fn http_of(section: &McpSection) -> Result<Option<Http>, String> {
    section.url.as_deref().map(|url| Http::new(url).map_err(|error| error.to_string())).transpose()
}

fn program_of(section: &McpSection, logs: &Path) -> Program {
    let name = section
        .command
        .iter()
        .rev()
        .find(|word| !word.starts_with('-'))
        .map_or("server", String::as_str);
    let base = name.rsplit('/').next().unwrap_or(name);
    Program {
        command: section.command.clone(),
        env: section.env.clone(),
        directory: section.directory.clone(),
        log: logs.join(format!("{}.log", capability_name(base))),
    }
}

/// A client of the server that a section names; its program's standard error goes to `logs`.
///
/// # Errors
/// What is wrong with the URL.
pub fn upstream_of(section: &McpSection, logs: &Path) -> Result<Upstream, String> {
    Ok(match http_of(section)? {
        Some(http) => Upstream::http(http),
        None => Upstream::program(program_of(section, logs)),
    })
}

/// A name that capabilities may have: lower case, everything else replaced, bounded.
#[must_use]
pub fn capability_name(text: &str) -> String {
    let mut name = String::new();
    for c in text.chars() {
        match c {
            'A'..='Z' => name.push(c.to_ascii_lowercase()),
            'a'..='z' | '0'..='9' | '-' | '.' | '_' => name.push(c),
            _ => name.push('-'),
        }
        if name.len() >= NAME_MAX {
            break;
        }
    }
    let name = name.trim_matches(['-', '.']).to_owned();
    if name.is_empty() { "tool".to_owned() } else { name }
}

/// The manifest that publishes one tool.
#[must_use]
pub fn tool_manifest(section: &McpSection, tool: &Value, name: String) -> Manifest {
    let hint = |name: &str| tool["annotations"][name].as_bool();
    let reads = hint("readOnlyHint") == Some(true);
    let mut tags = vec![MCP_TAG.to_owned()];
    if reads {
        tags.push(READ_ONLY_TAG.to_owned());
    } else if hint("destructiveHint") == Some(true) {
        tags.push(DESTRUCTIVE_TAG.to_owned());
    }
    let mcp = McpSection {
        tool: tool["name"].as_str().map(str::to_owned),
        resource: None,
        ..section.clone()
    };
    let manifest = Manifest {
        title: Some(title_of(tool, &name)),
        name: Some(name),
        tags,
        idempotent: Some(reads || hint("idempotentHint") == Some(true)),
        streaming: Some(false),
        mcp: Some(mcp),
        ..Manifest::default()
    };
    with_schemas(manifest, tool)
}

/// The manifest that publishes one resource.
#[must_use]
pub fn resource_manifest(section: &McpSection, resource: &Value, name: String) -> Manifest {
    let mcp = McpSection {
        tool: None,
        resource: resource["uri"].as_str().map(str::to_owned),
        ..section.clone()
    };
    Manifest {
        title: Some(title_of(resource, &name)),
        description: described(resource),
        name: Some(name),
        tags: vec![MCP_TAG.to_owned(), "resource".to_owned(), READ_ONLY_TAG.to_owned()],
        idempotent: Some(true),
        streaming: Some(false),
        input_schema: Some(json!({"type": "object", "additionalProperties": false})),
        mcp: Some(mcp),
        ..Manifest::default()
    }
}

/// The manifest that publishes a whole server, private unless said otherwise.
#[must_use]
pub fn whole_manifest(section: &McpSection, server: &Value, name: String) -> Manifest {
    let info = &server["serverInfo"];
    let title = info["title"].as_str().or_else(|| info["name"].as_str()).unwrap_or(&name);
    Manifest {
        title: Some(clean(title, TITLE_BYTES_MAX)),
        description: Some(format!(
            "A whole MCP server, for `comity mcp connect`: {}",
            clean(title, TITLE_BYTES_MAX)
        )),
        name: Some(name),
        tags: vec![MCP_TAG.to_owned(), WHOLE_TAG.to_owned()],
        visibility: Some(Visibility::Private),
        idempotent: Some(false),
        streaming: Some(true),
        mcp: Some(McpSection { tool: None, resource: None, ..section.clone() }),
        ..Manifest::default()
    }
}

fn title_of(thing: &Value, name: &str) -> String {
    let given = [&thing["title"], &thing["annotations"]["title"], &thing["name"]];
    let title =
        given.into_iter().find_map(|text| text.as_str().filter(|text| !text.trim().is_empty()));
    clean(title.unwrap_or(name), TITLE_BYTES_MAX)
}

fn described(thing: &Value) -> Option<String> {
    let text = thing["description"].as_str()?;
    Some(clean(text, PUBLISHED_BYTES_MAX.min(DESCRIPTION_BYTES_MAX)))
        .filter(|text| !text.is_empty())
}

/// Description and schemas as the tool has them now.
fn with_schemas(manifest: Manifest, tool: &Value) -> Manifest {
    let schema = |name: &str| tool.get(name).filter(|schema| schema.is_object()).cloned();
    Manifest {
        description: described(tool),
        input_schema: schema("inputSchema"),
        output_schema: schema("outputSchema"),
        ..manifest
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_become_names() {
        for (given, wanted) in [
            ("get_Weather", "get_weather"),
            ("../../etc/passwd", "etc-passwd"),
            ("ř\u{202e}\n", "tool"),
            ("", "tool"),
            ("a b/c", "a-b-c"),
        ] {
            assert_eq!(capability_name(given), wanted, "{given:?}");
        }
        assert_eq!(capability_name(&"x".repeat(500)).len(), NAME_MAX);
    }

    #[test]
    fn annotations_become_rules() {
        let section = McpSection { command: vec!["x".to_owned()], ..McpSection::default() };
        let tool = json!({
            "name": "rm", "description": "Deletes\u{1b}[2J", "inputSchema": {"type": "object"},
            "annotations": {"destructiveHint": true, "idempotentHint": true, "title": "Delete"},
        });
        let manifest = tool_manifest(&section, &tool, "rm".to_owned());
        assert_eq!(manifest.tags, [MCP_TAG, DESTRUCTIVE_TAG]);
        assert_eq!((manifest.idempotent, manifest.title.as_deref()), (Some(true), Some("Delete")));
        assert_eq!(manifest.description.as_deref(), Some("Deletes[2J"));
        let reads = tool_manifest(
            &section,
            &json!({"name": "r", "annotations": {"readOnlyHint": true}}),
            "r".to_owned(),
        );
        assert_eq!((reads.idempotent, reads.tags.len()), (Some(true), 2));
        let plain = tool_manifest(&section, &json!({"name": "p"}), "p".to_owned());
        assert_eq!(plain.idempotent, Some(false));
    }

    #[test]
    fn what_a_tool_answers_becomes_an_output_or_a_failure() {
        let text = json!([{"type": "text", "text": "hi"}]);
        assert_eq!(output_of(json!({"content": text}), false).unwrap(), json!({"content": text}));
        let both = json!({"content": text, "structuredContent": {"a": 1.50}});
        assert_eq!(output_of(both.clone(), true).unwrap(), json!({"a": 1.50}));
        assert_eq!(output_of(both, false).unwrap(), json!({"content": text}));
        let failed = output_of(json!({"content": text, "isError": true}), false).unwrap_err();
        assert!(failed.to_string().contains("hi"));
        for odd in [
            json!({}),
            json!(null),
            json!({"content": 3}),
            json!({"resultType": "input_required"}),
            json!({"resultType": "task"}),
        ] {
            assert!(output_of(odd.clone(), false).is_err(), "{odd}");
        }
    }
}
