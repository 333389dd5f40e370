//! Endpoints for programs of other protocols, served by the node itself.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Body of `POST /v1/endpoints`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointRequest {
    /// Where to listen: a loopback address; port 0 lets the system choose.
    #[schema(value_type = String)]
    pub listen: SocketAddr,
    /// What is there.
    pub serves: EndpointKind,
    /// Web pages let in besides those of this machine, such as `https://app.example`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<String>,
    /// Demand no token: every program of this machine may use the endpoint.
    #[serde(default)]
    pub unauthenticated: bool,
}

/// What an endpoint serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum EndpointKind {
    /// The network as an MCP server, at `/mcp`.
    Network {
        /// Let models publish programs, which run as the node's user.
        #[serde(default)]
        allow_exec: bool,
    },
    /// One peer's whole MCP server, at `/mcp`.
    Server {
        /// `ADDRESS/CAPABILITY`, or what finds it.
        target: String,
        /// The private group as whose member it is called.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        group: Option<String>,
    },
    /// Peers' A2A agents below `/a2a`, and the catalog.
    Agents {
        /// The private group as whose member they are looked for and called.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        group: Option<String>,
        /// Cards are valid for strict readers of A2A 1.0, and unreadable for clients of 0.3.
        #[serde(default)]
        strict: bool,
    },
    /// Everything: the network at `/mcp`, peers' whole MCP servers at `/mcp/PEER/SERVER`, A2A agents and the catalog.
    All {},
}

/// First event (`open`) of the answer to `POST /v1/endpoints`. The endpoint is there for as long as the answer is being read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EndpointOpened {
    /// Where it listens.
    #[schema(value_type = String)]
    pub listen: SocketAddr,
}

/// An endpoint that the node has open; part of `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OpenEndpointView {
    /// Where it listens.
    #[schema(value_type = String)]
    pub listen: SocketAddr,
    /// What is there.
    pub serves: EndpointKind,
    /// It demands no token.
    pub unauthenticated: bool,
}
