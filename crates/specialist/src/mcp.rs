//! An MCP server or an A2A agent as what answers: the sections of a manifest, and the opening that whoever speaks these
//! protocols fills in.
//!
//! This crate speaks neither; a node that does hands in an [`McpOpener`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::call::Specialist;
use crate::manifest::Manifest;

/// `[mcp]`: a tool of an MCP server, one of its resources, or the whole of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct McpSection {
    /// The program and its arguments, when it speaks on its standard input and output.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Variables set for the program; it gets a few harmless ones besides and no others.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Working directory of the program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// Its `http://` URL, when it speaks streamable HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The tool that answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// The resource that is the answer, by its URI.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// Longest one call may take, such as `30s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
}

impl McpSection {
    /// Whether the whole server is served rather than one thing of it.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.tool.is_none() && self.resource.is_none()
    }

    /// What is wrong with it, if anything.
    #[must_use]
    pub fn problem(&self) -> Option<&'static str> {
        let program = self.command.first().is_some_and(|word| !word.is_empty());
        match (program, &self.url) {
            (true, Some(_)) => Some("it names both a program and a URL"),
            (false, None) => Some("it names neither a program nor a URL"),
            (true, None) | (false, Some(_)) if self.tool.is_some() && self.resource.is_some() => {
                Some("it names both a tool and a resource")
            }
            (true, None) | (false, Some(_)) => None,
        }
    }
}

/// `[a2a]`: an agent that speaks A2A, whole, or one skill of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct A2aSection {
    /// `http://` URL of the agent, or of its card.
    pub url: String,
    /// The skill that answers, by its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skill: Option<String>,
    /// Longest one call may take, such as `30s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
}

/// Opens MCP servers and A2A agents.
pub trait McpOpener: std::fmt::Debug + Send + Sync + 'static {
    /// What answers the calls of a manifest with an `[mcp]` section. Called within a tokio runtime; may not block for long.
    ///
    /// # Errors
    /// What is in the way, for people.
    fn open(
        &self,
        section: &McpSection,
        manifest: &Manifest,
    ) -> Result<Arc<dyn Specialist>, String>;

    /// What answers the calls of a manifest with an `[a2a]` section; as [`open`](Self::open).
    ///
    /// # Errors
    /// What is in the way, for people.
    fn open_agent(
        &self,
        section: &A2aSection,
        manifest: &Manifest,
    ) -> Result<Arc<dyn Specialist>, String>;
}
