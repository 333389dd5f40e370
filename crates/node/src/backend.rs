//! The local API's operations, carried out by a node.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use comity_api::types::{
    AdmissionView, AdmitRequest, CharterCreateRequest, CharterGroup, CharterGroups,
    CharterJoinRequest, ExpelRequest,
};
use comity_api::types::{
    AgentForms, AuditPage, AuditPeers, AuditPeersRequest, AuditProof, AuditPruneRequest,
    AuditRequest, CallCounts, CallRequest, Capabilities, CustodyCounts, DEFAULT_AUDIT_ENTRIES,
    DEFAULT_PING_TIMEOUT_MS, Done, ErrorCode, ErrorInfo, FindRequest, FindResponse,
    GrantKeepRequest, GrantRequest, GrantRevokeRequest, GrantView, Grants, Group,
    GroupCreateRequest, GroupInvitation, GroupJoinRequest, GroupLabel, Groups, MAX_PINGS, Peer,
    PeerCounts, Peers, Ping, PingRequest, PingResponse, PolicyExplainRequest, PolicyExplanation,
    PolicyStatus, PrivateGroup, PrivateGroups, Publication, ResolveRequest, ResolveResponse, Role,
    ServeRequest, ServeResponse, ServedCapability, SessionState, ShowResponse, SpecialistState,
    Status,
};
use comity_api::types::{
    AppraiseRequest, AppraiseResponse, CanaryRequest, CanaryResponse, EvidenceAddRequest,
    EvidenceIdRequest, EvidenceItem, EvidenceItems, EvidenceShown, ProbeRequest, ProbeResponse,
    TraceCommitRequest, TraceDiscloseRequest, TraceDisclosure, TraceView, Traces,
};
use comity_api::types::{EndorseRequest, EndorseRevokeRequest, EndorsementView, Endorsements};
use comity_api::types::{
    HandleHow, HandleMeaning, HandlePin, HandlePinRequest, HandlePins, HandleRequest,
    TrustAnswerRequest, TrustApproval, TrustApproveRequest, TrustList, TrustRequest,
    TrustRequestView,
};
use comity_api::types::{
    KeptReceipt, Receipts, ReceiptsRequest, ReputationRequest, ReputationView, Results,
    RetractRequest,
};
use comity_capability::keys::{self, GroupKey};
use comity_core::{CheckedHandle, Handle, HandleTextError, Position};
use comity_overlay::ItemKind;
use comity_trust::handle::{How, Pinned};
use futures_util::StreamExt;

use crate::calls::call_error;
use crate::find::{label, label_of, own_declaration};
use crate::groups::{self, GroupError};
use crate::node::Node;
use crate::resolve::{Reference, refused, stored};
use crate::server::{Backend, CallEvents};
use crate::transport::Protocol;

/// How long a name may take to resolve unless the request says otherwise.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(15);

impl Backend for Node {
    async fn status(&self) -> Result<Status, ErrorInfo> {
        let info = self.info();
        let inner = &self.inner;
        let snapshot = inner.directory.inspect().await.ok_or_else(shutting_down)?;
        let links = *inner.transport.counts().borrow();
        let served = inner.registry.all();
        let sum = |count: fn(&crate::registry::Served) -> u64| {
            served.iter().map(|served| count(served)).sum()
        };
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            agent: self.name_of(&info.agent),
            network: info.network.clone(),
            mint_bits: info.mint_bits,
            pid: std::process::id(),
            home: inner
                .home
                .as_ref()
                .map(|home| home.root().display().to_string())
                .unwrap_or_default(),
            started_at_ms: info.started.as_millis(),
            uptime_ms: u64::try_from(inner.clock.now().saturating_since(info.started).as_millis())
                .unwrap_or(u64::MAX),
            listen: inner.transport.local_addrs(),
            reachable_at: info.addrs.clone(),
            ticket: info.ticket.clone(),
            role: Role::Server,
            join: self.join_state(),
            peers: PeerCounts {
                connected: count(links.live),
                parked: count(links.known.saturating_sub(links.live)),
                routing: count(snapshot.stats.peers),
                known: count(snapshot.peers.len()),
            },
            network_size: Some(snapshot.stats.size_estimate),
            custody: CustodyCounts {
                groups: count(snapshot.groups.len()),
                shards: count(snapshot.stats.custody_shards),
                digests: snapshot.groups.iter().map(|group| u64::from(group.digests)).sum(),
                bytes: snapshot.stats.custody_bytes as u64,
            },
            capabilities: count(served.len()),
            calls: CallCounts {
                made: inner.counts.made.load(Ordering::Relaxed),
                made_failed: inner.counts.made_failed.load(Ordering::Relaxed),
                served: sum(|served| served.calls.load(Ordering::Relaxed)),
                served_failed: sum(|served| served.failures.load(Ordering::Relaxed)),
                in_flight: inner.counts.in_flight.load(Ordering::Relaxed)
                    + served.iter().map(|served| served.running()).sum::<u32>(),
            },
            policy: self.policy_status(),
            // The server knows.
            endpoints: Vec::new(),
        })
    }

    async fn serve(&self, request: ServeRequest) -> Result<ServeResponse, ErrorInfo> {
        self.serve_request(request).await
    }

    async fn capabilities(&self) -> Result<Capabilities, ErrorInfo> {
        let published = self.inner.publisher.last();
        let digests = published.items.iter().filter(|item| item.key.kind == ItemKind::Digest);
        let holders = digests.map(|item| item.holders).min().unwrap_or(0);
        let capabilities = self
            .inner
            .registry
            .all()
            .iter()
            .map(|served| {
                let public = served.is_public();
                let publication = Publication {
                    groups: u32::try_from(keys::group_keys(&served.capability).len())
                        .unwrap_or(u32::MAX),
                    custodians: u32::try_from(holders).unwrap_or(u32::MAX),
                    published_at_ms: published.issued.map(|time| time.as_millis()),
                    expires_at_ms: published.expires.map(|time| time.as_millis()),
                };
                ServedCapability {
                    declaration: own_declaration(served),
                    source: served.source.clone(),
                    state: SpecialistState::Ready,
                    problem: None,
                    calls: served.calls.load(Ordering::Relaxed),
                    failures: served.failures.load(Ordering::Relaxed),
                    publication: if public { publication } else { Publication::default() },
                }
            })
            .collect();
        Ok(Capabilities { capabilities })
    }

    async fn unserve(&self, name: String) -> Result<Done, ErrorInfo> {
        if self.unserve_request(&name).await? {
            return Ok(Done {
                message: format!("{name} is not served any more; custodians drop it"),
            });
        }
        Err(ErrorInfo::new(ErrorCode::NotFound, format!("this node does not serve `{name}`"))
            .hint("`comity status` lists what it serves"))
    }

    async fn find(&self, request: FindRequest) -> Result<FindResponse, ErrorInfo> {
        Self::find(self, request).await
    }

    async fn show(&self, target: String) -> Result<ShowResponse, ErrorInfo> {
        self.show_target(&target).await
    }

    async fn call(&self, request: CallRequest) -> Result<CallEvents, ErrorInfo> {
        Ok(self.call_events(request).boxed())
    }

    async fn ping(&self, request: PingRequest) -> Result<PingResponse, ErrorInfo> {
        let resolved = self.resolve_text(&request.target).await?;
        let timeout = Duration::from_millis(request.timeout_ms.unwrap_or(DEFAULT_PING_TIMEOUT_MS));
        let linked = self.inner.transport.is_linked(&resolved.agent, Protocol::Rpc);
        let mut connect_us = None;
        let mut pings = Vec::new();
        for number in 1..=request.count.clamp(1, MAX_PINGS) {
            let started = Instant::now();
            let answer =
                tokio::time::timeout(timeout, self.probe(resolved.agent, &resolved.addrs)).await;
            let elapsed_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
            let (rtt_us, error) = match answer {
                Ok(Ok(_)) if number == 1 && !linked && resolved.agent != self.id() => {
                    // The first one made the connection: that is told apart, and the round trip measured again.
                    connect_us = Some(elapsed_us);
                    let again =
                        tokio::time::timeout(timeout, self.probe(resolved.agent, &resolved.addrs))
                            .await;
                    (
                        again
                            .ok()
                            .and_then(Result::ok)
                            .map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX)),
                        None,
                    )
                }
                Ok(Ok(rtt)) => (Some(u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX)), None),
                Ok(Err(error)) => (None, Some(call_error(&error))),
                Err(_) => (
                    None,
                    Some(ErrorInfo::new(
                        ErrorCode::Timeout,
                        format!("no answer within {timeout:?}"),
                    )),
                ),
            };
            pings.push(Ping { number, rtt_us, error });
        }
        Ok(PingResponse {
            agent: self.name_of(&resolved.agent),
            path: "direct".to_owned(),
            connect_us,
            pings,
        })
    }

    async fn peers(&self) -> Result<Peers, ErrorInfo> {
        let snapshot = self.inner.directory.inspect().await.ok_or_else(shutting_down)?;
        let mine = self.info().overlay_id;
        let transport = &self.inner.transport;
        let peers = snapshot
            .peers
            .iter()
            .map(|contact| {
                let measured = self.inner.signals.of(&contact.agent);
                let linked = [Protocol::Rpc, Protocol::Overlay]
                    .iter()
                    .any(|protocol| transport.is_linked(&contact.agent, *protocol));
                Peer {
                    agent: self.name_of(&contact.agent),
                    addrs: contact.addrs.clone(),
                    session: if linked { SessionState::Connected } else { SessionState::Parked },
                    role: if contact.server { Role::Server } else { Role::Client },
                    bucket: Some(contact.overlay_id.common_prefix(&mine)),
                    rtt_us: measured
                        .rtt
                        .map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX)),
                    seen_at_ms: measured.seen.map(|time| time.as_millis()),
                    path: linked.then(|| "direct".to_owned()),
                }
            })
            .collect();
        Ok(Peers { peers })
    }

    async fn groups(&self) -> Result<Groups, ErrorInfo> {
        let snapshot = self.inner.directory.inspect().await.ok_or_else(shutting_down)?;
        let mut groups: std::collections::BTreeMap<GroupKey, Group> =
            std::collections::BTreeMap::new();
        for served in self.inner.registry.all().iter().filter(|served| served.is_public()) {
            for key in keys::group_keys(&served.capability) {
                let group = groups.entry(key.key).or_insert_with(|| Group {
                    group: label(&key),
                    own: Vec::new(),
                    digests: 0,
                    shards: 0,
                    bytes: 0,
                });
                group.own.push(served.capability.name.clone());
            }
        }
        for held in snapshot.groups {
            let group = groups.entry(held.group).or_insert_with(|| Group {
                group: held.label.as_deref().map_or_else(
                    || GroupLabel {
                        key: held.group.to_string(),
                        family: "unknown".to_owned(),
                        label: "(only withdrawals came)".to_owned(),
                    },
                    label_of,
                ),
                own: Vec::new(),
                digests: 0,
                shards: 0,
                bytes: 0,
            });
            group.digests = held.digests;
            group.shards = held.shards;
        }
        Ok(Groups { groups: groups.into_values().collect() })
    }

    async fn private_groups(&self) -> Result<PrivateGroups, ErrorInfo> {
        let all = self.inner.groups.all();
        let private_groups = all.iter().map(|group| self.group_view(group)).collect();
        Ok(PrivateGroups { private_groups })
    }

    async fn group_create(
        &self,
        request: GroupCreateRequest,
    ) -> Result<GroupInvitation, ErrorInfo> {
        self.is_no_charter(&request.name)?;
        let group = self.inner.groups.create(&request.name)?;
        Ok(self.invitation_view(&group))
    }

    async fn group_join(&self, request: GroupJoinRequest) -> Result<PrivateGroup, ErrorInfo> {
        let group = self.inner.groups.join(&request.invitation, request.name.as_deref())?;
        Ok(self.group_view(&group))
    }

    async fn group_show(&self, name: String) -> Result<PrivateGroup, ErrorInfo> {
        let group = self.inner.groups.get(&name)?;
        Ok(self.group_view(&group))
    }

    async fn group_invitation(&self, name: String) -> Result<GroupInvitation, ErrorInfo> {
        let group = self.inner.groups.get(&name)?;
        Ok(self.invitation_view(&group))
    }

    async fn group_leave(&self, name: String) -> Result<Done, ErrorInfo> {
        // Nothing is served to a group while it is left.
        let _turn = self.inner.serving.lock().await;
        self.inner.groups.get(&name)?;
        if let Some(served) = self.inner.registry.of_group(&name).first() {
            return Err(GroupError::InUse(name, served.capability.name.clone()).into());
        }
        self.inner.groups.forget(&name)?;
        Ok(Done {
            message: format!(
                "{name} is left and its secret forgotten here; the other members keep it"
            ),
        })
    }

    async fn policy(&self) -> Result<PolicyStatus, ErrorInfo> {
        Ok(self.policy_status())
    }

    async fn policy_reload(&self) -> Result<PolicyStatus, ErrorInfo> {
        self.reload_policy().await
    }

    async fn policy_explain(
        &self,
        request: PolicyExplainRequest,
    ) -> Result<PolicyExplanation, ErrorInfo> {
        self.explain_call(request).await
    }

    async fn grants(&self) -> Result<Grants, ErrorInfo> {
        Ok(self.grants_view())
    }

    async fn grant_create(&self, request: GrantRequest) -> Result<GrantView, ErrorInfo> {
        self.create_grant(request).await
    }

    async fn grant_delegate(&self, request: GrantRequest) -> Result<GrantView, ErrorInfo> {
        self.delegate_grant(request).await
    }

    async fn grant_keep(&self, request: GrantKeepRequest) -> Result<GrantView, ErrorInfo> {
        self.keep_grant(request).await
    }

    async fn grant_revoke(&self, request: GrantRevokeRequest) -> Result<Done, ErrorInfo> {
        self.revoke_grant(request).await
    }

    async fn trust(&self) -> Result<TrustList, ErrorInfo> {
        Ok(self.trust_list().await)
    }

    async fn trust_request(&self, request: TrustRequest) -> Result<TrustRequestView, ErrorInfo> {
        self.request_trust(request).await
    }

    async fn trust_approve(
        &self,
        request: TrustApproveRequest,
    ) -> Result<TrustApproval, ErrorInfo> {
        self.approve_trust(request).await
    }

    async fn trust_deny(&self, request: TrustAnswerRequest) -> Result<Done, ErrorInfo> {
        self.deny_trust(request).await
    }

    async fn trust_revoke(&self, request: TrustAnswerRequest) -> Result<Done, ErrorInfo> {
        self.revoke_trust(request).await
    }

    async fn charters(&self) -> Result<CharterGroups, ErrorInfo> {
        Ok(self.charter_groups())
    }

    async fn charter_create(
        &self,
        request: CharterCreateRequest,
    ) -> Result<CharterGroup, ErrorInfo> {
        self.found_group(request).await
    }

    async fn charter_join(&self, request: CharterJoinRequest) -> Result<CharterGroup, ErrorInfo> {
        self.join_charter(request).await
    }

    async fn charter_show(&self, name: String) -> Result<CharterGroup, ErrorInfo> {
        self.charter_group(&name)
    }

    async fn charter_leave(&self, name: String) -> Result<Done, ErrorInfo> {
        self.leave_charter(&name).await
    }

    async fn charter_admit(
        &self,
        name: String,
        request: AdmitRequest,
    ) -> Result<AdmissionView, ErrorInfo> {
        self.admit_agent(&name, request).await
    }

    async fn charter_expel(&self, name: String, request: ExpelRequest) -> Result<Done, ErrorInfo> {
        self.expel_agent(&name, request).await
    }

    async fn endorsements(&self) -> Result<Endorsements, ErrorInfo> {
        Ok(self.endorsements_view())
    }

    async fn endorse(&self, request: EndorseRequest) -> Result<EndorsementView, ErrorInfo> {
        self.endorse_agent(request).await
    }

    async fn endorse_revoke(&self, request: EndorseRevokeRequest) -> Result<Done, ErrorInfo> {
        self.revoke_endorsement(request).await
    }

    async fn evidence(&self) -> Result<EvidenceItems, ErrorInfo> {
        Ok(self.evidence_items())
    }

    async fn evidence_add(&self, request: EvidenceAddRequest) -> Result<EvidenceItem, ErrorInfo> {
        self.add_evidence(request).await
    }

    async fn evidence_show(&self, request: EvidenceIdRequest) -> Result<EvidenceShown, ErrorInfo> {
        self.show_evidence(&request.id)
    }

    async fn evidence_remove(&self, request: EvidenceIdRequest) -> Result<Done, ErrorInfo> {
        self.remove_evidence(&request.id).await
    }

    async fn appraise(&self, request: AppraiseRequest) -> Result<AppraiseResponse, ErrorInfo> {
        self.appraise_agent(request).await
    }

    async fn canary(&self, request: CanaryRequest) -> Result<CanaryResponse, ErrorInfo> {
        Box::pin(self.canary_call(request)).await
    }

    async fn probe(&self, request: ProbeRequest) -> Result<ProbeResponse, ErrorInfo> {
        Box::pin(self.probe_call(request)).await
    }

    async fn traces(&self) -> Result<Traces, ErrorInfo> {
        Ok(self.traces_view())
    }

    async fn trace_commit(&self, request: TraceCommitRequest) -> Result<TraceView, ErrorInfo> {
        self.commit_trace(request).await
    }

    async fn trace_disclose(
        &self,
        request: TraceDiscloseRequest,
    ) -> Result<TraceDisclosure, ErrorInfo> {
        self.disclose_trace(&request)
    }

    async fn resolve(&self, request: ResolveRequest) -> Result<ResolveResponse, ErrorInfo> {
        let timeout = request.timeout_ms.map_or(RESOLVE_TIMEOUT, Duration::from_millis);
        let resolved = tokio::time::timeout(timeout, self.resolve_text(&request.text))
            .await
            .map_err(|_| {
                ErrorInfo::new(
                    ErrorCode::Timeout,
                    format!("{} was not resolved within {timeout:?}", request.text),
                )
            })??;
        Ok(ResolveResponse {
            agent: AgentForms::of(&resolved.agent, &Position::of(&resolved.agent)),
            addrs: resolved.addrs,
        })
    }

    async fn handles(&self) -> Result<HandlePins, ErrorInfo> {
        let pins = self.inner.handles.all();
        let view = |(handle, pinned): &_| self.pin_view(handle, pinned);
        Ok(HandlePins { pins: pins.iter().map(view).collect() })
    }

    async fn handle_resolve(&self, request: HandleRequest) -> Result<HandleMeaning, ErrorInfo> {
        let text = request.handle.trim();
        let meaning = match (text.parse::<CheckedHandle>(), text.parse::<Handle>()) {
            (Ok(checked), _) => self.resolve_checked(&checked).await?,
            (Err(_), Ok(handle)) => self.resolve_handle(&handle).await?,
            (Err(_), Err(error)) => return Err(no_handle(text, &error)),
        };
        Ok(HandleMeaning {
            handle: text.to_owned(),
            agent: self.name_of(&meaning.agent),
            how: match meaning.how {
                How::First => HandleHow::First,
                How::Pinned => HandleHow::Pinned,
                How::Succeeded => HandleHow::Succeeded,
                How::Checked => HandleHow::Checked,
            },
            first: meaning.first,
            conflicts: meaning.conflicts.iter().map(|live| self.name_of(&live.agent)).collect(),
            addrs: meaning.addrs,
        })
    }

    async fn handle_pin(&self, request: HandlePinRequest) -> Result<HandlePin, ErrorInfo> {
        let handle = parse_handle(&request.handle)?;
        let agent = match Reference::parse(&request.agent) {
            // What is pinned must be one key, whoever else there is.
            Some(Reference::Handle(_)) => {
                let message = format!("`{}` can mean several agents", request.agent);
                return Err(ErrorInfo::new(ErrorCode::BadRequest, message)
                    .hint("give its AgentId, its address or handle#check"));
            }
            Some(Reference::Key(agent, _)) => agent,
            Some(reference @ (Reference::Address(_) | Reference::CheckedHandle(_))) => {
                self.resolve_reference(&reference).await?.agent
            }
            None => self.resolve_text(&request.agent).await?.agent,
        };
        let now = self.inner.clock.now();
        let pinned = self.inner.handles.pin(&handle, agent, None, now).await.map_err(stored)?;
        pinned.map_err(|error| refused(&error))?;
        let pinned = self.inner.handles.get(&handle).ok_or_else(shutting_down)?;
        Ok(self.pin_view(&handle, &pinned))
    }

    async fn handle_unpin(&self, request: HandleRequest) -> Result<Done, ErrorInfo> {
        let handle = parse_handle(&request.handle)?;
        match self.inner.handles.unpin(&handle).await.map_err(stored)? {
            Some(pinned) => {
                let message = format!("{handle} means {} no more", pinned.pin.key);
                Ok(Done { message })
            }
            None => {
                let message = format!("{handle} is not pinned");
                Err(ErrorInfo::new(ErrorCode::NotFound, message)
                    .hint("`comity handle list` shows the handles that are"))
            }
        }
    }

    async fn audit(&self, request: AuditRequest) -> Result<AuditPage, ErrorInfo> {
        self.audit_page(request).await
    }

    async fn audit_peers(&self, request: AuditPeersRequest) -> Result<AuditPeers, ErrorInfo> {
        Ok(self.inner.witness.peers(request.log)?)
    }

    async fn audit_proof(&self, index: u64) -> Result<AuditProof, ErrorInfo> {
        Ok(self.inner.audit.proof_file(index).await?)
    }

    async fn receipts(&self, request: ReceiptsRequest) -> Result<Receipts, ErrorInfo> {
        self.list_receipts(request).await
    }

    async fn receipt(&self, id: String) -> Result<KeptReceipt, ErrorInfo> {
        self.one_receipt(&id).await
    }

    async fn results(&self) -> Result<Results, ErrorInfo> {
        Ok(self.kept_results())
    }

    async fn retract(&self, request: RetractRequest) -> Result<Done, ErrorInfo> {
        self.take_back(request).await
    }

    async fn reputation(&self, request: ReputationRequest) -> Result<ReputationView, ErrorInfo> {
        self.reputation_of(request).await
    }

    async fn audit_prune(&self, request: AuditPruneRequest) -> Result<Done, ErrorInfo> {
        let kept = self.inner.audit.prune(request.before).await?;
        let message = format!("entries before {kept} are gone; their hashes and all proofs stay");
        Ok(Done { message })
    }

    async fn shutdown(&self) -> Result<Done, ErrorInfo> {
        self.inner.stop_requested.notify_one();
        Ok(Done { message: "the node withdraws what it published and stops".to_owned() })
    }
}

impl Node {
    fn group_view(&self, group: &groups::PrivateGroup) -> PrivateGroup {
        let serves = self.inner.registry.of_group(group.name());
        let entries = group.told().published.items;
        let kept = entries.iter().filter(|item| item.places_held > 0).count();
        PrivateGroup {
            name: group.name().to_owned(),
            fingerprint: group.secret().fingerprint(),
            entries: if serves.is_empty() { 0 } else { count(kept) },
            serves: serves.iter().map(|served| served.capability.name.clone()).collect(),
        }
    }

    fn invitation_view(&self, group: &groups::PrivateGroup) -> GroupInvitation {
        GroupInvitation {
            group: self.group_view(group),
            invitation: group.invitation.reveal().to_string(),
        }
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

impl Node {
    fn pin_view(&self, handle: &Handle, pinned: &Pinned) -> HandlePin {
        HandlePin {
            handle: handle.to_string(),
            agent: self.name_of(&pinned.pin.key),
            first: pinned.first,
            since_ms: pinned.pin.since.as_millis(),
            next_known: pinned.pin.next.is_some(),
        }
    }

    async fn audit_page(&self, request: AuditRequest) -> Result<AuditPage, ErrorInfo> {
        let audit = &self.inner.audit;
        let limit = usize::try_from(request.limit.unwrap_or(DEFAULT_AUDIT_ENTRIES)).unwrap_or(1);
        let from = match request.from {
            Some(from) => from,
            None => audit.list(0, 0).await?.size.saturating_sub(limit as u64),
        };
        let page = audit.list(from, limit).await?;
        Ok(AuditPage {
            log: self.id(),
            size: page.size,
            checkpoint: audit.latest().as_ref().map(crate::audit::checkpoint_view),
            entries: page.entries.iter().map(crate::audit::entry_view).collect(),
        })
    }
}

fn parse_handle(text: &str) -> Result<Handle, ErrorInfo> {
    text.trim().parse().map_err(|error| no_handle(text, &error))
}

fn no_handle(text: &str, error: &HandleTextError) -> ErrorInfo {
    ErrorInfo::new(ErrorCode::BadRequest, format!("`{text}` is {error}"))
        .hint("`comity id show` prints the handle of an agent")
}

fn shutting_down() -> ErrorInfo {
    ErrorInfo::new(ErrorCode::ShuttingDown, "the node is shutting down")
}
