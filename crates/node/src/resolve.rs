//! From what people write to an agent and where to reach it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use comity_api::types::{ErrorCode, ErrorInfo};
use comity_api::{JoinAddress, Ticket};
use comity_capability::record::PeerRecord;
use comity_core::{Address, AgentId, CheckedHandle, Handle, Hash, OverlayId, Time};
use comity_overlay::directory::sealed;
use comity_overlay::{Contact, Content, PeerQuery};
use comity_trust::handle::{HandleError, How, Live, Pinned, Pins};
use comity_trust::succession::{Pin, Succession};
use tracing::{debug, warn};

use crate::node::Node;
use crate::storage::StorageError;

/// Bits of the overlay id that an address, a handle and a checked handle fix.
const ADDRESS_BITS: u16 = 120;
const HANDLE_BITS: u16 = 48;
const CHECKED_HANDLE_BITS: u16 = 88;
/// Parts in which a succession is followed, of at most [`comity_trust::succession::MAX_STEPS`] keys each.
const PARTS_MAX: usize = 16;
/// How long an agent that was just pinned may take to show its record.
const RECORD_PATIENCE: Duration = Duration::from_secs(5);

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
                let mut found = self.by_prefix(address.overlay_prefix(), ADDRESS_BITS).await?;
                let text = address.to_string();
                let first = only_one(&found, &text)?;
                let agent = self.follow_if_moved(first, &found, &text).await?;
                match found.live.remove(&agent) {
                    Some(addrs) => Ok(Resolved { agent, addrs }),
                    None => self.resolve_key(agent).await,
                }
            }
            Reference::CheckedHandle(handle) => Ok(self.resolve_checked(handle).await?.into()),
            Reference::Handle(handle) => Ok(self.resolve_handle(handle).await?.into()),
        }
    }

    async fn resolve_key(&self, agent: AgentId) -> Result<Resolved, ErrorInfo> {
        let found = self.peers_of_key(agent).await?;
        if let Some(heir) = found.moved.get(&agent)
            && !found.live.contains_key(&agent)
        {
            let message =
                format!("the key {agent} is in use no more; it says that {heir} took its place");
            return Err(ErrorInfo::new(ErrorCode::NotFound, message)
                .hint("ask its owner, or use its handle or address, which follow it"));
        }
        // A live connection answers for an agent that published no address.
        let addrs = found.live.get(&agent).cloned().unwrap_or_default();
        Ok(Resolved { agent, addrs })
    }

    async fn peers_of_key(&self, agent: AgentId) -> Result<Peers, ErrorInfo> {
        let overlay_id = self.inner.positions.get(&agent).ok_or_else(|| {
            let text = format!("the key {agent} is not minted for this network");
            ErrorInfo::new(ErrorCode::NotFound, text)
        })?;
        self.find_peer(PeerQuery::Agent { agent, overlay_id }).await
    }

    /// Whom a handle means. The first key seen under it is pinned, and followed to its successors; another one is refused, and of several none is
    /// picked.
    pub(crate) async fn resolve_handle(&self, handle: &Handle) -> Result<Meaning, ErrorInfo> {
        let meaning = self.meaning_of(handle).await?;
        self.learn_successor(handle, &meaning);
        Ok(meaning)
    }

    /// Without the commitment in a record of its, a pinned key could not be followed to the next; so one is asked for, beside whatever comes next.
    fn learn_successor(&self, handle: &Handle, meaning: &Meaning) {
        let pinned = self.inner.handles.get(handle);
        let unknown = |known: Pinned| known.pin.key == meaning.agent && known.pin.next.is_none();
        if meaning.agent == self.id() || !pinned.is_some_and(unknown) {
            return;
        }
        let (node, agent, addrs) = (self.clone(), meaning.agent, meaning.addrs.clone());
        self.inner.threads.network().spawn(async move {
            let asked = node.record_of(agent, &addrs, None, None);
            if !matches!(tokio::time::timeout(RECORD_PATIENCE, asked).await, Ok(Ok(_))) {
                debug!(%agent, "the next key of a pinned agent is not known yet");
            }
        });
    }

    async fn meaning_of(&self, handle: &Handle) -> Result<Meaning, ErrorInfo> {
        let found = self.by_prefix(handle.overlay_prefix(), HANDLE_BITS).await?;
        let Some(pinned) = self.inner.handles.get(handle) else {
            return self.first_meaning(handle, found).await;
        };
        let mut successions = Vec::new();
        if let Some(heir) = self.heir_of(&pinned.pin.key, &found).await? {
            let (passages, _) = self.follow(&pinned.pin, heir, &handle.to_string()).await?;
            successions = passages;
        }
        let now = self.inner.clock.now();
        let (mut live, mut last) = (found.living(self), None);
        // Each advances the pin; the last of them says whom the handle means.
        for passages in &successions {
            let one = std::slice::from_ref(passages);
            let resolved = self.inner.handles.resolve(handle, &live, one, now);
            last = Some(resolved.await.map_err(stored)?.map_err(|error| refused(&error))?);
        }
        let resolved = match last {
            Some(resolved) => resolved,
            None => {
                live.retain(|live| !found.moved.contains_key(&live.agent));
                let resolved = self.inner.handles.resolve(handle, &live, &[], now);
                resolved.await.map_err(stored)?.map_err(|error| refused(&error))?
            }
        };
        self.meaning(&found, resolved, pinned.first).await
    }

    /// Nothing is known of the handle: whoever is the only one under it is whom it means, also if that one has moved on.
    async fn first_meaning(&self, handle: &Handle, found: Peers) -> Result<Meaning, ErrorInfo> {
        let mut claim = found.living(self);
        let only = match &claim[..] {
            [only] if !found.live.contains_key(&only.agent) => Some(only.agent),
            _ => None,
        };
        let now = self.inner.clock.now();
        if let Some((first, heir)) = only.and_then(|key| Some((key, *found.moved.get(&key)?))) {
            let (_, pin) = self.follow_unknown(first, heir, &handle.to_string()).await?;
            self.inner.handles.pin_successor(handle, first, pin).await.map_err(stored)?;
            claim.clear();
            let resolved = comity_trust::handle::Resolved {
                agent: pin.key,
                how: How::First,
                conflicts: claim,
            };
            return self.meaning(&found, resolved, first).await;
        }
        let resolved = self.inner.handles.resolve(handle, &claim, &[], now);
        let resolved = resolved.await.map_err(stored)?.map_err(|error| refused(&error))?;
        let first = resolved.agent;
        self.meaning(&found, resolved, first).await
    }

    /// Whom a handle with its check means: nothing is pinned, since another key under it is out of reach.
    pub(crate) async fn resolve_checked(
        &self,
        handle: &CheckedHandle,
    ) -> Result<Meaning, ErrorInfo> {
        let found = self.by_prefix(handle.overlay_prefix(), CHECKED_HANDLE_BITS).await?;
        let claim = found.living(self);
        let resolved =
            Pins::new().resolve_checked(handle, &claim).map_err(|error| refused(&error))?;
        let first = resolved.agent;
        let agent = self.follow_if_moved(first, &found, &handle.to_string()).await?;
        self.meaning(&found, comity_trust::handle::Resolved { agent, ..resolved }, first).await
    }

    /// The key that `first` led to, if it has moved on: by the pin of its handle if there is one, by its own word otherwise.
    async fn follow_if_moved(
        &self,
        first: AgentId,
        found: &Peers,
        text: &str,
    ) -> Result<AgentId, ErrorInfo> {
        let Some(heir) = found.moved.get(&first).filter(|_| !found.live.contains_key(&first))
        else {
            return Ok(first);
        };
        let place = self.inner.positions.get(&first);
        let pinned = place.and_then(|place| self.inner.handles.get(&place.handle()));
        match pinned.filter(|pinned| pinned.first == first) {
            Some(pinned) if pinned.pin.key == *heir => Ok(*heir),
            Some(pinned) => Ok(self.follow(&pinned.pin, *heir, text).await?.1.key),
            None => Ok(self.follow_unknown(first, *heir, text).await?.1.key),
        }
    }

    /// The key that took the place of `key`, by its own word; none if it is in use.
    async fn heir_of(&self, key: &AgentId, found: &Peers) -> Result<Option<AgentId>, ErrorInfo> {
        if *key == self.id() || found.live.contains_key(key) {
            return Ok(None);
        }
        if let Some(heir) = found.moved.get(key) {
            return Ok(Some(*heir));
        }
        // It succeeded another, so it is elsewhere.
        let elsewhere = self.peers_of_key(*key).await?;
        Ok(elsewhere.moved.get(key).filter(|_| !elsewhere.live.contains_key(key)).copied())
    }

    /// Follows a pinned key: what is believed is the passage that it committed to, whoever hands it out.
    async fn follow(
        &self,
        pin: &Pin,
        heir: AgentId,
        text: &str,
    ) -> Result<(Vec<Succession>, Pin), ErrorInfo> {
        let (mut pin, mut followed) = (*pin, Vec::new());
        for _ in 0..PARTS_MAX {
            if pin.key == heir {
                break;
            }
            let passages = self.passages(heir, &pin.key, text).await?;
            pin = passages.follow(&pin, self.inner.clock.now()).map_err(|error| {
                let message = format!(
                    "{text} has meant {} since {}, and {heir} says that it took its place, which does not hold: {}",
                    pin.key,
                    pin.since,
                    crate::describe(&error)
                );
                ErrorInfo::new(ErrorCode::NotVerified, message)
                    .hint("if its owner confirms the new key, pin it: `comity handle pin HANDLE AGENT`")
            })?;
            followed.push(passages);
        }
        Ok((followed, pin))
    }

    /// Follows a key of which nothing is known but what it says itself.
    async fn follow_unknown(
        &self,
        first: AgentId,
        heir: AgentId,
        text: &str,
    ) -> Result<(Vec<Succession>, Pin), ErrorInfo> {
        let passages = self.passages(heir, &first, text).await?;
        let next = passages.begins_with().map(|(_, new)| Hash::of(new.as_bytes()));
        self.follow(&Pin::new(first, next, Time::ZERO), heir, text).await
    }

    /// The passages from `key` to `heir`, from `heir`.
    async fn passages(
        &self,
        heir: AgentId,
        key: &AgentId,
        text: &str,
    ) -> Result<Succession, ErrorInfo> {
        let bytes = if heir == self.id() {
            self.inner.publisher.lineage().since(key).unwrap_or_default().into()
        } else {
            let addrs = self.peers_of_key(heir).await?.live.remove(&heir).unwrap_or_default();
            self.inner.rpc.succession(heir, &addrs, key).await.map_err(|error| {
                let message = format!(
                    "{text} has meant {key}, which says that {heir} took its place: {error}"
                );
                ErrorInfo::new(ErrorCode::Unreachable, message)
                    .hint("try again later, or ask its owner")
            })?
        };
        Succession::from_bytes(&bytes).map_err(|error| {
            ErrorInfo::new(ErrorCode::NotVerified, format!("{heir} shows no succession: {error}"))
        })
    }

    async fn meaning(
        &self,
        found: &Peers,
        resolved: comity_trust::handle::Resolved,
        first: AgentId,
    ) -> Result<Meaning, ErrorInfo> {
        let agent = resolved.agent;
        let addrs = match found.live.get(&agent) {
            Some(addrs) => addrs.clone(),
            None if agent == self.id() => Vec::new(),
            None => self.peers_of_key(agent).await?.live.remove(&agent).unwrap_or_default(),
        };
        if !resolved.conflicts.is_empty() {
            warn!(agent = %agent.short(), others = resolved.conflicts.len(), "a handle is shared by other keys; it means the one seen first");
        }
        Ok(Meaning { agent, addrs, how: resolved.how, first, conflicts: resolved.conflicts })
    }

    /// Takes note of the next key that a record commits to: who succeeds a pinned key is known by that.
    pub(crate) async fn note_successor(&self, agent: &AgentId, next: Hash) {
        let Some(place) = self.inner.positions.get(agent) else { return };
        match self.inner.handles.saw_record(agent, &place, next).await {
            Ok(contradicted) => {
                for handle in contradicted {
                    warn!(%agent, %handle, "a pinned agent commits to another next key than before: its key may be in other hands");
                }
            }
            Err(error) => warn!(%error, "the next key of an agent could not be kept"),
        }
    }

    async fn by_prefix(&self, prefix: OverlayId, bits: u16) -> Result<Peers, ErrorInfo> {
        let mut found = self.find_peer(PeerQuery::Prefix { prefix, bits }).await?;
        let me = self.info();
        if me.overlay_id.common_prefix(&prefix) >= u32::from(bits) {
            found.live.insert(me.agent, me.addrs.clone());
        }
        Ok(found)
    }

    async fn find_peer(&self, query: PeerQuery) -> Result<Peers, ErrorInfo> {
        let found = self.inner.directory.find_peer(query).await;
        let report = found.map_err(|error| ErrorInfo::new(ErrorCode::Busy, error.to_string()))?;
        let now = self.inner.clock.now();
        // Of what a key said of itself the latest counts.
        let mut said: BTreeMap<AgentId, (u64, &Contact, Option<AgentId>)> = BTreeMap::new();
        for item in &report.records {
            let Content::Peer(contact) = &item.content else { continue };
            // The directory verified it; what it says beside the addresses is read here.
            let record = PeerRecord::open(sealed(&item.bytes), now).ok();
            let heir = record.and_then(|record| record.payload.successor);
            // A pointer to no proper key leads nowhere.
            let heir = heir.and_then(|heir| AgentId::from_bytes(&heir).ok());
            if said.get(&contact.agent).is_none_or(|(seq, ..)| *seq < item.seq) {
                said.insert(contact.agent, (item.seq, contact, heir));
            }
        }
        let mut peers = Peers::default();
        let mut contacts = Vec::new();
        for (agent, (_, contact, heir)) in said {
            match heir {
                Some(heir) => drop(peers.moved.insert(agent, heir)),
                None => contacts.push(contact),
            }
        }
        // Neighbours may remember a key for a while after it was succeeded.
        let remembered = report.contacts.iter();
        contacts.extend(remembered.filter(|contact| !peers.moved.contains_key(&contact.agent)));
        for contact in contacts {
            let addrs = peers.live.entry(contact.agent).or_default();
            for addr in &contact.addrs {
                if !addrs.contains(addr) {
                    addrs.push(*addr);
                }
            }
        }
        Ok(peers)
    }
}

/// Who answers where, and which keys say that another took their place.
#[derive(Debug, Default)]
struct Peers {
    live: BTreeMap<AgentId, Vec<SocketAddr>>,
    moved: BTreeMap<AgentId, AgentId>,
}

impl Peers {
    /// Every key found, with its place.
    fn living(&self, node: &Node) -> Vec<Live> {
        let mut keys: Vec<AgentId> = self.live.keys().chain(self.moved.keys()).copied().collect();
        keys.sort();
        keys.dedup();
        let place = |agent| Some(Live { agent, overlay_id: node.inner.positions.get(&agent)? });
        keys.into_iter().filter_map(place).collect()
    }
}

/// Whom a handle means, and how that is known.
#[derive(Debug, Clone)]
pub(crate) struct Meaning {
    pub(crate) agent: AgentId,
    pub(crate) addrs: Vec<SocketAddr>,
    pub(crate) how: How,
    /// The key under whose handle it is.
    pub(crate) first: AgentId,
    pub(crate) conflicts: Vec<Live>,
}

impl From<Meaning> for Resolved {
    fn from(meaning: Meaning) -> Self {
        Self { agent: meaning.agent, addrs: meaning.addrs }
    }
}

pub(crate) fn stored(error: StorageError) -> ErrorInfo {
    ErrorInfo::new(ErrorCode::Storage, error.to_string())
}

pub(crate) fn refused(error: &HandleError) -> ErrorInfo {
    let info = |code| ErrorInfo::new(code, error.to_string());
    match error {
        HandleError::NotFound { .. } => info(ErrorCode::NotFound)
            .hint("check the address, and that the agent is up: `comity peers` lists those this node knows"),
        HandleError::Ambiguous { .. } => info(ErrorCode::Ambiguous),
        HandleError::Changed { handle, found, .. } => info(ErrorCode::Ambiguous)
            .hint(format!("to take it from now on: `comity handle pin {handle} {}`", found.agent)),
        HandleError::Full => info(ErrorCode::Storage),
        _ => info(ErrorCode::Ambiguous),
    }
}

fn only_one(found: &Peers, text: &str) -> Result<AgentId, ErrorInfo> {
    let mut keys: Vec<AgentId> = found.live.keys().chain(found.moved.keys()).copied().collect();
    keys.sort();
    keys.dedup();
    match &keys[..] {
        [] => Err(ErrorInfo::new(ErrorCode::NotFound, format!("no agent of this network answers to {text}"))
            .hint("check the address, and that the agent is up: `comity peers` lists those this node knows")),
        [only] => Ok(*only),
        several => {
            let agents: Vec<String> = several.iter().map(ToString::to_string).collect();
            let message = format!("{text} means {} agents: {}", agents.len(), agents.join(", "));
            Err(ErrorInfo::new(ErrorCode::Ambiguous, message)
                .hint("use the address or handle#check of the one you mean"))
        }
    }
}
