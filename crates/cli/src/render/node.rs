//! A node: what it says when it starts, its status, its ticket as a QR code.

use comity_api::Ticket;
use comity_api::types::{
    Capabilities, EndpointKind, JoinFailure, JoinState, OpenEndpointView, Role, ServedCapability,
    SpecialistState, Status,
};
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};

use super::{BAD, DIM, GOOD, STRONG, UNSURE, bytes, clean, count, field, span_ms, wrapped};

/// What `up` prints once the node answers.
pub(crate) fn started(status: &Status, width: usize) -> String {
    let mut text =
        format!("{GOOD}node running{GOOD:#} on the network {}\n", clean(&status.network));
    text += &names(status, width);
    text += &endpoints(status, width);
    text += &field(0, "ticket", &status.ticket.to_string(), width);
    text +=
        &wrapped(&format!("{DIM}others join with: comity up --join TICKET{DIM:#}"), "", "", width);
    text
}

/// What `status` prints.
pub(crate) fn status(status: &Status, served: &Capabilities, width: usize) -> String {
    let mut text = names(status, width);
    text += &field(0, "network", &network(status), width);
    text += &join(&status.join, width);
    let listen = status.listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    text += &field(0, "listens", &listen, width);
    text += &endpoints(status, width);
    let calls = status.calls;
    text += &field(
        0,
        "calls",
        &format!(
            "{} made ({} failed), {} served ({} failed), {} running",
            calls.made, calls.made_failed, calls.served, calls.served_failed, calls.in_flight
        ),
        width,
    );
    text += &field(0, "policy", &super::access::policy_line(&status.policy), width);
    let custody = status.custody;
    text += &field(
        0,
        "keeps",
        &format!(
            "{} in {} of {} ({})",
            count(custody.digests, "digest", "digests"),
            count(u64::from(custody.shards), "shard", "shards"),
            count(u64::from(custody.groups), "group", "groups"),
            bytes(custody.bytes)
        ),
        width,
    );
    text += &field(
        0,
        "up",
        &format!(
            "{}, process {}, version {}, in {}",
            span_ms(status.uptime_ms),
            status.pid,
            status.version,
            status.home
        ),
        width,
    );
    for (index, capability) in served.capabilities.iter().enumerate() {
        text +=
            &field(0, if index == 0 { "serves" } else { "" }, &capability_line(capability), width);
    }
    text += &field(0, "ticket", &status.ticket.to_string(), width);
    text
}

fn names(status: &Status, width: usize) -> String {
    let mut text = field(0, "agent", &status.agent.agent.to_string(), width);
    text += &field(0, "address", &format!("{STRONG}{}{STRONG:#}", status.agent.address), width);
    text += &field(0, "handle", &status.agent.handle, width);
    text
}

/// Where programs of this machine find the node.
fn endpoints(status: &Status, width: usize) -> String {
    let line = |open: &OpenEndpointView| {
        let what = match &open.serves {
            EndpointKind::Network { .. } => "/mcp, the network for MCP clients".to_owned(),
            EndpointKind::Server { target, .. } => {
                format!("/mcp, the MCP server {}", clean(target))
            }
            EndpointKind::Agents { .. } => "/a2a, agents for A2A clients".to_owned(),
            EndpointKind::All {} => "/mcp for MCP clients, /a2a for A2A clients".to_owned(),
        };
        let token = if open.unauthenticated { ", without a token" } else { "" };
        format!("http://{}{what}{token}", open.listen)
    };
    let lines = status.endpoints.iter().enumerate();
    lines
        .map(|(index, open)| field(0, if index == 0 { "endpoint" } else { "" }, &line(open), width))
        .collect()
}

fn network(status: &Status) -> String {
    let role = match status.role {
        Role::Server => "routes and keeps custody",
        Role::Client => "client only",
        Role::Undecided => "role not decided yet",
    };
    let size = status
        .network_size
        .map_or_else(String::new, |size| format!(", about {}", count(size, "node", "nodes")));
    let peers = status.peers;
    format!(
        "{} (mint bits {}), {role}; {} connected, {} parked, {} in the table, {} known{size}",
        clean(&status.network),
        status.mint_bits,
        count(u64::from(peers.connected), "peer", "peers"),
        peers.parked,
        peers.routing,
        peers.known,
    )
}

fn join(state: &JoinState, width: usize) -> String {
    let (line, failed): (String, &[JoinFailure]) = match state {
        JoinState::Joined => return String::new(),
        JoinState::Alone => {
            (format!("{UNSURE}alone{UNSURE:#}: hand the ticket to somebody, or use --join"), &[])
        }
        JoinState::Joining { failed } => (format!("{UNSURE}joining{UNSURE:#}"), failed),
        JoinState::Failed { failed } => {
            (format!("{BAD}no join address answered{BAD:#}; still trying"), failed)
        }
    };
    let mut text = field(0, "join", &line, width);
    for failure in failed {
        let line = format!("{}: {}", clean(&failure.address), clean(&failure.reason));
        text += &wrapped(&line, "         - ", "           ", width);
    }
    text
}

fn capability_line(capability: &ServedCapability) -> String {
    let state = match capability.state {
        SpecialistState::Ready => format!("{GOOD}ready{GOOD:#}"),
        SpecialistState::Starting => format!("{UNSURE}starting{UNSURE:#}"),
        SpecialistState::Failed => format!("{BAD}failed{BAD:#}"),
    };
    let problem = capability
        .problem
        .as_deref()
        .map_or_else(String::new, |problem| format!(" ({})", clean(problem)));
    format!(
        "{STRONG}{}{STRONG:#} {state}{problem}: {}; {}, {} failed; kept by {}",
        clean(&capability.declaration.name),
        clean(&capability.source),
        count(capability.calls, "call", "calls"),
        capability.failures,
        count(u64::from(capability.publication.custodians), "custodian", "custodians"),
    )
}

/// The ticket as a QR code in half blocks; empty when it would not fit.
pub(crate) fn qr(ticket: &Ticket, width: usize) -> String {
    let Ok(code) = QrCode::with_error_correction_level(ticket.to_qr_text(), EcLevel::L) else {
        return String::new();
    };
    let image =
        code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
    let fits = image.lines().next().is_some_and(|line| line.chars().count() <= width);
    if fits { format!("\n{image}\n") } else { String::new() }
}
