//! `find` and `show` as users see them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use comity_api::types::{AgentForms, ErrorCode, ErrorInfo};
use comity_api::types::{
    Attribute, Class, Condition, CustodianAsked, DEFAULT_LIMIT, Declaration, Explain, FindRequest,
    FindResponse, Freshness, GroupLabel, MAX_LIMIT, Match, NearMiss, Phase, PlanKey, Probe,
    QueryInput, RecordSource, RecordView, ScorePart, SearchSummary, Share, ShowResponse, Verdict,
    Visibility as ApiVisibility,
};
use comity_capability::keys::{GroupKey, KeyFamily, Labelled};
use comity_capability::matching::{self, Part};
use comity_capability::query::Query;
use comity_capability::rank::{Score, Weights};
use comity_capability::record::{Capability, Record, Visibility};
use comity_capability::taxonomy;
use comity_core::{AgentId, Hash, Position};
use comity_overlay::{CustodianSaid, KeyReport};
use comity_trust::Level;
use comity_trust::endorse::Standing;
use comity_trust::policy::VIA_KEY;
use futures_util::StreamExt as _;
use serde_json::Value;

use crate::calls::bad_query;
use crate::node::Node;
use crate::registry::Served;
use crate::search::{Found, Hit, RecordFailure, family_name};

/// How long a search may take unless the request says otherwise.
const TIMEOUT: Duration = Duration::from_secs(15);
/// The longest a request may ask for.
const TIMEOUT_MAX: Duration = Duration::from_secs(600);
/// Candidates whose endorsements are asked for.
const STANDINGS_MAX: usize = 32;
/// Of these, at once.
const STANDINGS_AT_ONCE: usize = 8;
/// Candidates probed unless the query or the request says otherwise.
const PROBES: u32 = 3;

impl Node {
    /// Finds who can do what `query` asks for: a text such as `fx data where pair = EUR/USD and time covers 2021..2024`, or a
    /// [`FindRequest`] with options.
    ///
    /// # Errors
    /// [`ErrorInfo`] of code `bad_query` says where the query is wrong and what was expected.
    pub async fn find(&self, query: impl Into<FindRequest>) -> Result<FindResponse, ErrorInfo> {
        let request: FindRequest = query.into();
        let mut query = match &request.query {
            QueryInput::Text(text) => Query::parse_text(text),
            QueryInput::Json(object) => Query::from_json(&Value::Object(object.clone())),
        }
        .map_err(bad_query)?;
        if let Some(limit) = request.limit {
            let mut draft = query.into_draft();
            draft.k = limit.clamp(1, MAX_LIMIT.min(comity_capability::query::K_MAX));
            query = draft.finish().map_err(bad_query)?;
        }
        let probe = request
            .probe
            .unwrap_or_else(|| query.probe().max(PROBES))
            .min(comity_capability::query::PROBE_MAX);
        let timeout = request.timeout_ms.map_or(TIMEOUT, Duration::from_millis).min(TIMEOUT_MAX);
        let group = request.group.as_deref().map(|name| self.inner.groups.get(name)).transpose()?;
        let probe = usize::try_from(probe).unwrap_or(usize::MAX);
        let min_level = request.min_level.as_deref().map(str::parse::<Level>).transpose();
        let min_level = min_level.map_err(|error| {
            ErrorInfo::new(ErrorCode::BadRequest, format!("the level: {error}"))
        })?;
        let mut found = self.search(&query, group.as_ref(), probe, timeout).await?;
        let standings = self.standings(&found.hits, min_level.is_some()).await;
        if let Some(least) = min_level {
            let level = |hit: &Hit| {
                let known = standings.get(&(hit.agent, hit.digest.name.clone()));
                known.map_or(Level::L0, |standing| standing.level)
            };
            found.hits.retain(|hit| level(hit) >= least);
        }
        let mut response = self.response(&query, &found, request.explain);
        for found in &mut response.matches {
            let standing = standings.get(&(found.agent.agent, found.capability.clone()));
            found.standing = standing.map(|standing| self.standing_view(standing));
        }
        Ok(response)
    }

    /// How well the first of these are supported, where that is asked for: by a level demanded, or because the policy file says whose word or evidence counts.
    async fn standings(
        &self,
        hits: &[Hit],
        demanded: bool,
    ) -> BTreeMap<(AgentId, String), Standing> {
        let endorsed = self.inner.gate.with_policy(|policy| {
            !policy.levels().endorsers.is_empty() || !policy.evidence().is_empty()
        });
        if !endorsed && !demanded {
            return BTreeMap::new();
        }
        let mut asked = Vec::new();
        for hit in hits.iter().take(STANDINGS_MAX) {
            let Some(capability) = hit.capability.clone() else { continue };
            let (agent, addrs) = (hit.agent, hit.addrs.clone());
            asked.push(async move {
                let standing = self.standing_of(agent, &addrs, &capability).await;
                ((agent, capability.name.clone()), standing)
            });
        }
        futures_util::stream::iter(asked).buffer_unordered(STANDINGS_AT_ONCE).collect().await
    }

    fn response(&self, query: &Query, found: &Found, explain: bool) -> FindResponse {
        let labels: BTreeMap<GroupKey, &Labelled> =
            found.plan.iter().map(|key| (key.key, key)).collect();
        let weights = Weights::of(query.rank());
        let limit = usize::try_from(query.k()).unwrap_or(DEFAULT_LIMIT as usize);
        FindResponse {
            query: query.to_string(),
            matches: found
                .hits
                .iter()
                .take(limit)
                .map(|hit| self.match_of(hit, &labels, &found.reports, &weights))
                .collect(),
            near_misses: found.near.iter().map(|hit| self.near_miss(hit)).collect(),
            search: summary(found),
            explain: explain.then(|| self.explain(found, &labels)),
        }
    }

    fn match_of(
        &self,
        hit: &Hit,
        labels: &BTreeMap<GroupKey, &Labelled>,
        reports: &[KeyReport],
        weights: &Weights,
    ) -> Match {
        let agent = self.name_of(&hit.agent);
        let asked = reports
            .iter()
            .filter(|report| hit.keys.contains(&report.key))
            .flat_map(|report| &report.custodians)
            .filter(|custodian| matches!(custodian.said, CustodianSaid::Answered { .. }))
            .map(|custodian| custodian.agent)
            .collect::<BTreeSet<_>>();
        let title =
            hit.capability.as_ref().map_or(&hit.digest.title, |capability| &capability.title);
        let score = hit.score;
        Match {
            target: format!("{}/{}", agent.address, hit.digest.name),
            agent,
            capability: hit.digest.name.clone(),
            title: title.clone(),
            description: hit
                .capability
                .as_ref()
                .map(|capability| capability.text.clone())
                .unwrap_or_default(),
            conditions: hit.evaluation.outcomes.iter().map(condition).collect(),
            found_by: hit
                .keys
                .iter()
                .filter_map(|key| labels.get(key))
                .map(|key| label(key))
                .collect(),
            custodians: Share {
                n: count(hit.returned_by.len()),
                of: count(asked.union(&hit.returned_by).count()),
            },
            freshness: Freshness {
                seq: hit.digest.seq,
                issued_at_ms: hit.digest.issued.as_millis(),
                expires_at_ms: hit.digest.expires.as_millis(),
                alive_at_ms: hit.beat.as_ref().map(|beat| beat.issued.as_millis()),
                record_verified: hit.verified(),
            },
            probe: hit.probe.as_ref().map(|probe| match probe {
                Ok(rtt) => {
                    Probe::Alive { rtt_us: u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX) }
                }
                Err(reason) => Probe::Unreachable { reason: reason.clone() },
            }),
            relevance: score.map_or(0.0, |score| score.relevance),
            trust: score.map_or(0.0, |score| score.trust),
            score: score.map_or(0.0, |score| score.total),
            score_parts: score.map(|score| score_parts(&score, weights)).unwrap_or_default(),
            explored: hit.explored,
            via: hit.attribute(VIA_KEY).map(ToString::to_string),
            standing: None,
        }
    }

    fn near_miss(&self, hit: &Hit) -> NearMiss {
        let agent = self.name_of(&hit.agent);
        let met = hit
            .evaluation
            .outcomes
            .iter()
            .filter(|outcome| {
                outcome.part == Part::Required
                    && matches!(outcome.verdict, matching::Verdict::Met { .. })
            })
            .count();
        NearMiss {
            target: format!("{}/{}", agent.address, hit.digest.name),
            agent,
            capability: hit.digest.name.clone(),
            title: hit
                .capability
                .as_ref()
                .map_or(&hit.digest.title, |capability| &capability.title)
                .clone(),
            met: count(met),
            failed: hit.evaluation.failed().map(condition).collect(),
        }
    }

    fn explain(&self, found: &Found, labels: &BTreeMap<GroupKey, &Labelled>) -> Explain {
        let reports: BTreeMap<GroupKey, &KeyReport> =
            found.reports.iter().map(|report| (report.key, report)).collect();
        let plan = found
            .plan
            .iter()
            .map(|key| {
                let report = reports.get(&key.key);
                let answered = report.into_iter().flat_map(|report| &report.custodians).filter_map(
                    |custodian| match &custodian.said {
                        CustodianSaid::Answered { held, matches, .. } => Some((*held, *matches)),
                        CustodianSaid::NotHeld
                        | CustodianSaid::Split { .. }
                        | CustodianSaid::Refused(_)
                        | CustodianSaid::Silent(_) => None,
                    },
                );
                let (held, matches) = answered.fold((None, 0), |(most, best), (held, matches)| {
                    (most.max(Some(u64::from(held))), best.max(u32::from(matches)))
                });
                PlanKey {
                    group: label(key),
                    asked: report.is_some(),
                    group_size: held,
                    returned: matches,
                }
            })
            .collect();
        let custodians = found
            .reports
            .iter()
            .flat_map(|report| {
                report.custodians.iter().map(move |custodian| (report.key, custodian))
            })
            .map(|(key, custodian)| {
                let (returned, problem) = said(&custodian.said);
                let label =
                    labels.get(&key).map_or_else(|| key.to_string(), |key| key.label.clone());
                CustodianAsked {
                    agent: self.name_of(&custodian.agent),
                    label: format!("{label}, placement {}", custodian.placement + 1),
                    returned,
                    rtt_us: None,
                    problem,
                }
            })
            .collect();
        Explain {
            plan,
            custodians,
            phases: found
                .phases
                .iter()
                .map(|(name, elapsed)| Phase {
                    name: (*name).to_owned(),
                    elapsed_us: u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
                })
                .collect(),
            rounds: found.cost.hops,
            rpcs: found.cost.requests,
            bytes_sent: found.cost.bytes_sent,
            bytes_received: found.cost.bytes_received,
            elapsed_ms: millis(found.elapsed),
            notes: Vec::new(),
        }
    }

    /// An agent's verified record, and of its capabilities the named one or all.
    pub(crate) async fn show_target(&self, target: &str) -> Result<ShowResponse, ErrorInfo> {
        let (agent, wanted) = match target.rsplit_once('/') {
            Some((agent, name)) => (agent, Some(name)),
            None => (target, None),
        };
        if target == "self" {
            return self.show_agent(self.id(), self.info().addrs.clone(), None).await;
        }
        let resolved = self.resolve_text(agent).await?;
        self.show_agent(resolved.agent, resolved.addrs, wanted).await
    }

    async fn show_agent(
        &self,
        agent: AgentId,
        addrs: Vec<std::net::SocketAddr>,
        wanted: Option<&str>,
    ) -> Result<ShowResponse, ErrorInfo> {
        let own = agent == self.id();
        // What was granted is shown to whom it was granted.
        let grants = match wanted {
            Some(name) if !own => self.to_show(&agent, name, None, None).await?,
            Some(_) | None => None,
        };
        let fetched = match &grants {
            Some(grants) => {
                self.record_for(agent, &addrs, wanted.unwrap_or_default(), grants).await
            }
            None => self.record_of(agent, &addrs, None, None).await,
        };
        let record = match fetched {
            Ok(record) => record,
            Err(
                failure @ (RecordFailure::Call(_)
                | RecordFailure::Invalid(_)
                | RecordFailure::Absent),
            ) => {
                return Err(failure.into_info(&self.name_of(&agent)));
            }
        };
        let sealed = record.seal_hash();
        let declared = if own {
            self.own_declarations()
        } else {
            record.capabilities.iter().map(declaration).collect()
        };
        let capabilities: Vec<Declaration> = declared
            .into_iter()
            .filter(|declared| wanted.is_none_or(|name| declared.name == name))
            .collect();
        if let Some(name) = wanted
            && capabilities.is_empty()
        {
            let text = format!("{} offers no capability `{name}`", self.name_of(&agent).address);
            return Err(ErrorInfo::new(ErrorCode::NotFound, text));
        }
        let addrs = if addrs.is_empty() { record.endpoints.clone() } else { addrs };
        let one =
            wanted.and_then(|name| record.capabilities.iter().find(|known| known.name == name));
        let standing = match one {
            Some(capability) if !own => {
                let standing = self.standing_of(agent, &addrs, capability).await;
                Some(self.standing_view(&standing))
            }
            Some(_) | None => None,
        };
        Ok(ShowResponse {
            standing,
            agent: AgentForms::of(&agent, &Position::of(&agent)),
            addrs,
            record: record_view(&record, sealed, own),
            capabilities,
        })
    }

    pub(crate) fn own_declarations(&self) -> Vec<Declaration> {
        let all = self.inner.registry.all();
        all.iter().map(|served| own_declaration(served)).collect()
    }
}

/// Identity of a record's content; what digests name is the hash of its sealed form, which the cache knows.
trait SealHash {
    fn seal_hash(&self) -> Hash;
}

impl SealHash for Record {
    fn seal_hash(&self) -> Hash {
        Hash::of(&comity_core::Canonical::encode(self))
    }
}

fn record_view(record: &Record, hash: Hash, own: bool) -> RecordView {
    RecordView {
        hash: hash.to_string(),
        seq: record.seq,
        name: (!record.name.is_empty()).then(|| record.name.clone()),
        issued_at_ms: record.issued.as_millis(),
        expires_at_ms: record.expires.as_millis(),
        source: if own { RecordSource::Own } else { RecordSource::Agent },
        bytes: comity_core::Canonical::encode(record).len() as u64,
    }
}

/// A declaration as the API shows it.
pub(crate) fn declaration(capability: &Capability) -> Declaration {
    Declaration {
        name: capability.name.clone(),
        title: capability.title.clone(),
        description: capability.text.clone(),
        examples: capability.examples.clone(),
        classes: capability
            .classes
            .iter()
            .map(|id| Class {
                id: id.to_string(),
                caption: taxonomy::by_id(id).map(|class| class.caption.to_owned()),
            })
            .collect(),
        tags: capability.tags.iter().cloned().collect(),
        attributes: capability
            .attributes
            .iter()
            .map(|(key, value)| {
                let kind = value.kind().to_string();
                (key.clone(), Attribute { kind, value: value.to_json(), text: value.to_string() })
            })
            .collect(),
        input_schema: capability.interface.input_schema(),
        output_schema: capability.interface.output_schema(),
        interface: capability.interface.digest().to_string(),
        visibility: match capability.visibility {
            Visibility::Public => ApiVisibility::Public,
            Visibility::Private => ApiVisibility::Private,
        },
        group: None,
        idempotent: capability.idempotent,
        streaming: capability.streaming,
        data_version: (!capability.data_version.is_empty())
            .then(|| capability.data_version.clone()),
    }
}

/// The same of a capability of this agent.
pub(crate) fn own_declaration(served: &Served) -> Declaration {
    Declaration { group: served.group.clone(), ..declaration(&served.capability) }
}

fn condition(outcome: &matching::Outcome) -> Condition {
    let (verdict, declared) = match &outcome.verdict {
        matching::Verdict::Met { declared } => (Verdict::Met, Some(declared.clone())),
        matching::Verdict::Unmet { declared } => (Verdict::Unmet, Some(declared.clone())),
        matching::Verdict::Undeclared | matching::Verdict::Unknown => (Verdict::Undeclared, None),
    };
    // An exclusion is met when the excluded thing is not there.
    let (text, verdict) = if outcome.part == Part::Excluded {
        let verdict = if outcome.refuses() { Verdict::Unmet } else { Verdict::Met };
        (format!("not {}", outcome.wanted), verdict)
    } else {
        (outcome.wanted.clone(), verdict)
    };
    Condition {
        text,
        key: outcome.key.clone(),
        wanted: outcome.wanted.clone(),
        declared,
        verdict,
        soft: outcome.part == Part::Preferred,
    }
}

fn said(said: &CustodianSaid) -> (Option<u32>, Option<String>) {
    match said {
        CustodianSaid::Answered { matches, bad: 0, .. } => (Some(u32::from(*matches)), None),
        CustodianSaid::Answered { matches, bad, .. } => (
            Some(u32::from(*matches)),
            Some(format!("{bad} digests it returned do not verify or do not match")),
        ),
        CustodianSaid::NotHeld => (None, Some("does not keep this group".to_owned())),
        CustodianSaid::Split { depth } => {
            (None, Some(format!("the group is split to depth {depth}")))
        }
        CustodianSaid::Refused(code) => (None, Some(code.to_string())),
        CustodianSaid::Silent(failure) => (None, Some(failure.to_string())),
    }
}

/// Custodians are counted once, however many keys they were asked for.
fn summary(found: &Found) -> SearchSummary {
    let mut asked = BTreeSet::new();
    let mut answered = BTreeSet::new();
    let (mut rejected, mut truncated) = (0, false);
    for custodian in found.reports.iter().flat_map(|report| &report.custodians) {
        asked.insert(custodian.agent);
        if let CustodianSaid::Answered { bad, truncated: cut, .. } = &custodian.said {
            answered.insert(custodian.agent);
            rejected += u32::from(*bad);
            truncated |= *cut;
        }
    }
    SearchSummary {
        custodians_asked: count(asked.len()),
        custodians_answered: count(answered.len()),
        candidates: found.candidates,
        rejected,
        truncated,
        elapsed_ms: millis(found.elapsed),
    }
}

fn score_parts(score: &Score, weights: &Weights) -> Vec<ScorePart> {
    let raw = [
        ("text", score.text, weights.text),
        ("preferences", score.soft, weights.soft),
        ("quality", score.qos, weights.qos),
        ("receipts", score.receipts, weights.receipts),
        ("freshness", score.freshness, weights.freshness),
        ("price", score.price, -weights.price),
    ];
    raw.into_iter()
        .map(|(name, value, weight)| ScorePart { name: name.to_owned(), value, weight })
        .collect()
}

pub(crate) fn label(key: &Labelled) -> GroupLabel {
    GroupLabel {
        key: key.key.to_string(),
        family: family_name(key.family).to_owned(),
        label: key.label.clone(),
    }
}

/// The group with this canonical label.
pub(crate) fn label_of(text: &str) -> GroupLabel {
    let word = text.split_once('/').map_or("", |(word, _)| word);
    let family = KeyFamily::ALL.into_iter().find(|family| family.as_str() == word);
    GroupLabel {
        key: GroupKey::of(text).to_string(),
        family: family.map_or("unknown", family_name).to_owned(),
        label: text.to_owned(),
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
