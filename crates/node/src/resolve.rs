//! From what people write to an agent and where to reach it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::str::FromStr;

use comity_api::types::{ErrorCode, ErrorInfo};
use comity_api::{JoinAddress, Ticket};
use comity_core::{Address, AgentId, CheckedHandle, Handle, OverlayId};
use comity_overlay::{Content, PeerQuery};

use crate::node::Node;
use crate::storage::{Change, Table};

/// Bits of the overlay id that an address, a handle and a checked handle fix.
const ADDRESS_BITS: u16 = 120;
const HANDLE_BITS: u16 = 48;
const CHECKED_HANDLE_BITS: u16 = 88;

/// An agent and where to reach it, as far as known.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    pub(crate) agent: AgentId,
    pub(crate) addrs: Vec<SocketAddr>,
}

/// The ways to name an agent.
#[derive(Debug, Clone)]
pub(crate) enum Reference {
    /// A key, with or without socket addresses.
    Key(AgentId, Vec<SocketAddr>),
    Address(Address),
    Handle(Handle),
    CheckedHandle(CheckedHandle),
}

impl Reference {
    /// Reads any text form; `None` when it is none of them.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if let Ok(ticket) = Ticket::from_str(text) {
            return Some(Self::Key(ticket.agent(), ticket.addrs().to_vec()));
        }
        if let Ok(agent) = AgentId::from_str(text) {
            return Some(Self::Key(agent, Vec::new()));
        }
        if let Ok(handle) = CheckedHandle::from_str(text) {
            return Some(Self::CheckedHandle(handle));
        }
        if let Ok(handle) = Handle::from_str(text) {
            return Some(Self::Handle(handle));
        }
        if let Ok(address) = Address::from_str(text) {
            return Some(Self::Address(address));
        }
        let join = JoinAddress::from_str(text).ok()?;
        Some(Self::Key(join.agent(), join.addrs().to_vec()))
    }
}

impl Node {
    /// The agent that `text` names.
    ///
    /// # Errors
    /// `bad_request` when the text is no name of an agent, `not_found` when the network does not know it, `ambiguous` when
    /// a handle means several keys, or another key than the one first seen under it.
    pub(crate) async fn resolve_text(&self, text: &str) -> Result<Resolved, ErrorInfo> {
        let reference = Reference::parse(text).ok_or_else(|| {
            ErrorInfo::new(ErrorCode::BadRequest, format!("`{text}` does not name an agent"))
                .hint("give an address (fd…), a handle such as 0:0000.A1B2.C3D4#check, an AgentId or a ticket")
        })?;
        self.resolve_reference(&reference).await
    }

    pub(crate) async fn resolve_reference(
        &self,
        reference: &Reference,
    ) -> Result<Resolved, ErrorInfo> {
        match reference {
            Reference::Key(agent, addrs) if !addrs.is_empty() || *agent == self.id() => {
                Ok(Resolved { agent: *agent, addrs: addrs.clone() })
            }
            Reference::Key(agent, _) => self.resolve_key(*agent).await,
            Reference::Address(address) => {
                let found = self.by_prefix(address.overlay_prefix(), ADDRESS_BITS).await?;
                only_one(found, &address.to_string())
            }
            Reference::CheckedHandle(handle) => {
                let found = self.by_prefix(handle.overlay_prefix(), CHECKED_HANDLE_BITS).await?;
                only_one(found, &handle.to_string())
            }
            Reference::Handle(handle) => self.resolve_handle(handle).await,
        }
    }

    async fn resolve_key(&self, agent: AgentId) -> Result<Resolved, ErrorInfo> {
        let overlay_id = self.inner.positions.get(&agent).ok_or_else(|| {
            let text = format!("the key {agent} is not minted for this network");
            ErrorInfo::new(ErrorCode::NotFound, text)
        })?;
        let found = self.find_peer(PeerQuery::Agent { agent, overlay_id }).await?;
        // A live connection answers for an agent that published no address.
        let addrs = found.get(&agent).cloned().unwrap_or_default();
        Ok(Resolved { agent, addrs })
    }

    /// A short handle can mean several keys: then none is picked. The first key seen under it is remembered, and another
    /// one refused from then on.
    async fn resolve_handle(&self, handle: &Handle) -> Result<Resolved, ErrorInfo> {
        let found = self.by_prefix(handle.overlay_prefix(), HANDLE_BITS).await?;
        let text = handle.to_string();
        let resolved = only_one(found, &text)?;
        let stored = self.inner.storage.read(Table::Pins, handle.as_bytes());
        let pinned = stored
            .map_err(|error| ErrorInfo::new(ErrorCode::Storage, error.to_string()))?
            .and_then(|bytes| AgentId::from_bytes(&bytes.try_into().ok()?).ok());
        match pinned {
            Some(agent) if agent == resolved.agent => {}
            Some(agent) => {
                let message = format!(
                    "the handle {text} meant the agent {agent} when it was first used, and now leads to {}",
                    resolved.agent
                );
                return Err(ErrorInfo::new(ErrorCode::Ambiguous, message)
                    .hint("use the address or handle#check of the agent you mean"));
            }
            None => {
                let change = Change::Put {
                    table: Table::Pins,
                    key: handle.as_bytes().to_vec(),
                    value: resolved.agent.as_bytes().to_vec(),
                };
                self.inner
                    .storage
                    .commit(vec![change])
                    .await
                    .map_err(|error| ErrorInfo::new(ErrorCode::Storage, error.to_string()))?;
            }
        }
        Ok(resolved)
    }

    async fn by_prefix(
        &self,
        prefix: OverlayId,
        bits: u16,
    ) -> Result<BTreeMap<AgentId, Vec<SocketAddr>>, ErrorInfo> {
        let mut found = self.find_peer(PeerQuery::Prefix { prefix, bits }).await?;
        let me = self.info();
        if me.overlay_id.common_prefix(&prefix) >= u32::from(bits) {
            found.insert(me.agent, me.addrs.clone());
        }
        Ok(found)
    }

    async fn find_peer(
        &self,
        query: PeerQuery,
    ) -> Result<BTreeMap<AgentId, Vec<SocketAddr>>, ErrorInfo> {
        let found = self.inner.directory.find_peer(query).await;
        let report = found.map_err(|error| ErrorInfo::new(ErrorCode::Busy, error.to_string()))?;
        let contacts = report.contacts.into_iter();
        let published = report.records.into_iter().filter_map(|item| match &item.content {
            Content::Peer(contact) => Some(contact.clone()),
            Content::Digest(_) | Content::Veiled(_) | Content::Beat(_) | Content::Tombstone => None,
        });
        let mut found: BTreeMap<AgentId, Vec<SocketAddr>> = BTreeMap::new();
        for contact in published.chain(contacts) {
            let addrs = found.entry(contact.agent).or_default();
            for addr in &contact.addrs {
                if !addrs.contains(addr) {
                    addrs.push(*addr);
                }
            }
        }
        Ok(found)
    }
}

fn only_one(found: BTreeMap<AgentId, Vec<SocketAddr>>, text: &str) -> Result<Resolved, ErrorInfo> {
    let mut found = found.into_iter();
    match (found.next(), found.next()) {
        (None, _) => Err(ErrorInfo::new(ErrorCode::NotFound, format!("no agent of this network answers to {text}"))
            .hint("check the address, and that the agent is up: `comity peers` lists those this node knows")),
        (Some((agent, addrs)), None) => Ok(Resolved { agent, addrs }),
        (Some((first, _)), Some((second, _))) => {
            let others = found.map(|(agent, _)| agent);
            let agents: Vec<String> = [first, second].into_iter().chain(others).map(|id| id.to_string()).collect();
            let message = format!("{text} means {} agents: {}", agents.len(), agents.join(", "));
            Err(ErrorInfo::new(ErrorCode::Ambiguous, message).hint("use the address or handle#check of the one you mean"))
        }
    }
}
