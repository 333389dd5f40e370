//! Answering other nodes.

use std::collections::BTreeMap;

use comity_capability::keys::GroupKey;
use comity_capability::matching::RESULTS_PER_AGENT;
use comity_core::{OverlayId, Time};

use super::Overlay;
use crate::contact::{Contact, IpPrefix};
use crate::drive::{Action, ReplyToken};
use crate::item::{
    Candidate, Content, EvaluationLimits, ItemBytes, Reject, Services, VerifiedItem,
};
use crate::shard::{PLACEMENTS, Place, peer_position};
use crate::store::Member;
use crate::wire::{
    Answer, CONTACTS_MAX, EXCLUDE_MAX, ErrorCode, FOUND_MATCHES_MAX, FOUND_VEILED_MAX, Known,
    PEER_RECORDS_MAX, QueryOutcome, QueryRequest, Request, Response, STORE_ENTRIES_MAX,
    STORE_ITEMS_MAX, StoreEntry, StoreOutcome,
};

/// Bytes of items in one answer; contacts and framing fit beside them.
const ANSWER_BYTES_MAX: usize = 48 * 1_024;
/// Near misses shown beside few matches, and where nothing matches: they tell an asker why, and prove that the shard is kept. All
/// custodians of a shard show the same.
const NEAR_BESIDE_MATCHES: usize = 2;
const NEAR_ALONE: usize = 3;
/// Of a shard below the top of its group, which is one of many that are asked, the one that proves it is kept is enough.
const NEAR_BELOW: usize = 1;
/// Matches beside which no near miss is shown: who finds so much needs no explanation.
const MATCHES_PLENTY: usize = 4;
/// Matches of one network prefix in an answer while others wait, and how many times as many as are asked for are ranked to find others.
const MATCHES_PER_PREFIX: usize = 4;
const RANKED_FOR_SPREAD: usize = 4;
/// Condition evaluations a custodian spends on one query, whatever the asker allows.
const COST_MAX: u32 = 400_000;

impl Overlay {
    /// An authenticated peer asks. The answer comes as [`Action::Reply`] in this drain.
    pub fn request(
        &mut self,
        now: Time,
        services: &mut dyn Services,
        from: &Contact,
        token: ReplyToken,
        request: Request,
    ) {
        let response = if self.rates.admit(now, &from.agent) {
            self.counters.served += 1;
            self.heard(now, from);
            let response = self.answer(now, services, from, request);
            self.probe(now, from);
            response
        } else {
            self.counters.refused += 1;
            Response::Error(ErrorCode::Busy)
        };
        self.actions.push_back(Action::Reply { token, response });
        self.pump(now);
    }

    fn answer(
        &mut self,
        now: Time,
        services: &mut dyn Services,
        from: &Contact,
        request: Request,
    ) -> Response {
        match request {
            Request::Ping => Response::Pong,
            Request::Leaving => {
                self.forget(from);
                Response::Done
            }
            _ if !self.me.server => Response::Error(ErrorCode::NotServing),
            Request::FindNode { target, known } => {
                Response::Nodes { contacts: self.nearest(now, &target, from, &known) }
            }
            Request::Store { items, labels, entries } => {
                self.serve_store(now, services, from, &items, &labels, &entries)
            }
            Request::Query(query) => self.serve_query(now, services, from, &query),
            Request::Report(report) => self.serve_report(now, from, report),
            Request::Compare { sets } => self.serve_compare(now, &sets),
            Request::Reconcile(asked) => self.serve_reconcile(now, &asked),
            Request::FindPeer { prefix, bits, target, known } => {
                let records = self.custody.peer_records(now, &prefix, bits, PEER_RECORDS_MAX);
                let records = records.into_iter().map(|item| item.bytes.clone()).collect();
                Response::Peer { records, closer: self.nearest(now, &target, from, &known) }
            }
        }
    }

    /// The contacts nearest to `target`, without the asker itself, those that fell silent just now, and those it knows.
    fn nearest(
        &self,
        now: Time,
        target: &OverlayId,
        asker: &Contact,
        known: &Known,
    ) -> Vec<Contact> {
        let mut contacts = self.table.closest(target, 2 * CONTACTS_MAX);
        contacts.retain(|contact| {
            contact.agent != asker.agent && !self.is_silent(now, &contact.overlay_id)
        });
        contacts.truncate(CONTACTS_MAX);
        contacts.retain(|contact| {
            !known.has(&self.me.overlay_id, &contact.overlay_id.distance(target))
        });
        contacts
    }

    fn serve_store(
        &mut self,
        now: Time,
        services: &mut dyn Services,
        from: &Contact,
        items: &[ItemBytes],
        labels: &[String],
        entries: &[StoreEntry],
    ) -> Response {
        if items.len() > STORE_ITEMS_MAX || entries.len() > STORE_ENTRIES_MAX {
            return Response::Error(ErrorCode::Invalid);
        }
        let verified: Vec<_> = items.iter().map(|bytes| services.verify(now, bytes)).collect();
        let prefix = self.table.counted(from);
        let mut outcomes = Vec::with_capacity(entries.len());
        for entry in entries {
            let Some(item) = verified.get(usize::from(entry.item)) else {
                return Response::Error(ErrorCode::Invalid);
            };
            let label = entry.label.and_then(|label| labels.get(usize::from(label)));
            let label = label.map_or("", String::as_str);
            let checked = item.clone().and_then(|item| {
                self.check_custodian(&item, entry.place)?;
                check_group(services, &item, entry.place, label)?;
                Ok(item)
            });
            outcomes.push(match checked {
                Ok(item) => self.take_in(now, item, entry.place, label, prefix),
                Err(reject) => StoreOutcome::Rejected(reject),
            });
        }
        let rejected = |outcome: &&StoreOutcome| matches!(outcome, StoreOutcome::Rejected(_));
        self.counters.rejected += outcomes.iter().filter(rejected).count() as u64;
        Response::Stored { outcomes }
    }

    /// Stores an item that belongs here, unless its shard is full.
    pub(super) fn take_in(
        &mut self,
        now: Time,
        item: VerifiedItem,
        place: Place,
        label: &str,
        prefix: Option<IpPrefix>,
    ) -> StoreOutcome {
        if let Place::Shard { shard, .. } = place
            && let Some(depth) = self.sent_down(now, &item, &shard)
        {
            return StoreOutcome::Split { depth };
        }
        let mut changes = Vec::new();
        let stored = self.custody.offer(now, item, place, label, prefix, &mut changes);
        if !changes.is_empty()
            && let Place::Shard { shard, .. } = place
        {
            self.touch_leaf(now, &shard);
        }
        self.record(changes);
        match stored {
            Ok(()) => StoreOutcome::Stored,
            Err(reject) => StoreOutcome::Rejected(reject),
        }
    }

    /// Whether this node is a custodian of the place an item is offered for.
    pub(super) fn check_custodian(&self, item: &VerifiedItem, place: Place) -> Result<(), Reject> {
        let mine = match (place, &item.content) {
            (Place::Shard { index, .. }, _) if index >= PLACEMENTS => false,
            (Place::Shard { shard, index }, _) => self.keeps(&shard.position(index)),
            (Place::Peer, Content::Peer(contact)) => {
                self.keeps(&contact.overlay_id) || self.keeps(&peer_position(&item.signer))
            }
            (
                Place::Peer,
                Content::Digest(_) | Content::Veiled(_) | Content::Beat(_) | Content::Tombstone,
            ) => false,
        };
        if mine { Ok(()) } else { Err(Reject::Misplaced) }
    }

    fn serve_query(
        &self,
        now: Time,
        services: &mut dyn Services,
        from: &Contact,
        query: &QueryRequest,
    ) -> Response {
        let in_bounds = (1..=FOUND_MATCHES_MAX).contains(&usize::from(query.limit))
            && query.exclude.len() <= EXCLUDE_MAX;
        if !in_bounds || query.placement >= PLACEMENTS {
            return Response::Error(ErrorCode::Invalid);
        }
        let position = query.shard.position(query.placement);
        let closer = self.nearest(now, &position, from, &query.known);
        match self.evaluate_shard(now, services, query) {
            Err(_) => Response::Error(ErrorCode::Query),
            Ok(answer)
                if answer.held == 0 && answer.leaves.is_empty() && !self.keeps(&position) =>
            {
                Response::Found { answer: QueryOutcome::NotHeld, closer }
            }
            Ok(answer) => Response::Found { answer: QueryOutcome::Answered(answer), closer },
        }
    }

    /// All that is held of a shard of a private group. What to choose of it, a custodian cannot tell.
    fn veiled_shard(&self, now: Time, query: &QueryRequest) -> Answer {
        let members = self.custody.members(now, &query.shard).map(|member| member.digest);
        let veiled = members.filter(|item| matches!(item.content, Content::Veiled(_)));
        let mut matches: Vec<_> = veiled.map(|item| item.bytes.clone()).collect();
        let held = u32::try_from(matches.len()).unwrap_or(u32::MAX);
        let truncated = matches.len() > FOUND_VEILED_MAX;
        matches.truncate(FOUND_VEILED_MAX);
        Answer {
            matches,
            near: Vec::new(),
            beats: Vec::new(),
            held,
            passed: held,
            truncated,
            set_hash: self.custody.set_hash(now, &query.shard),
            leaves: self.leaves_below(now, &query.shard, &query.query, query.placement),
        }
    }

    /// Whether one network prefix has more than [`MATCHES_PER_PREFIX`] of these.
    fn is_one_sided(&self, ranked: &[&Member<'_>]) -> bool {
        let prefixes = ranked.iter().filter_map(|member| self.custody.prefix(&member.digest.key()));
        let mut taken: BTreeMap<IpPrefix, usize> = BTreeMap::new();
        prefixes.map(|prefix| count_in(&mut taken, prefix)).any(|count| count > MATCHES_PER_PREFIX)
    }

    /// The first `most` of the ranked, but of one network prefix not more than [`MATCHES_PER_PREFIX`], and of one agent not more than
    /// [`RESULTS_PER_AGENT`], while others wait.
    fn spread<'a, 'b>(&self, ranked: Vec<&'a Member<'b>>, most: usize) -> Vec<&'a Member<'b>> {
        let (mut prefixes, mut agents) = (BTreeMap::new(), BTreeMap::new());
        let (mut first, mut rest) = (Vec::new(), Vec::new());
        for (at, member) in ranked.into_iter().enumerate() {
            let prefix = self.custody.prefix(&member.digest.key());
            let of_prefix = prefix.map_or(0, |prefix| count_in(&mut prefixes, prefix));
            let of_agent = count_in(&mut agents, member.digest.signer);
            let is_first = of_prefix <= MATCHES_PER_PREFIX && of_agent <= RESULTS_PER_AGENT;
            let list = if is_first { &mut first } else { &mut rest };
            list.push((at, member));
        }
        first.truncate(most);
        let room = most - first.len();
        first.extend(rest.into_iter().take(room));
        first.sort_unstable_by_key(|(at, _)| *at);
        first.into_iter().map(|(_, member)| member).collect()
    }

    /// Evaluates a query over what is held of a shard.
    pub(super) fn evaluate_shard(
        &self,
        now: Time,
        services: &mut dyn Services,
        query: &QueryRequest,
    ) -> Result<Answer, crate::item::QueryReject> {
        if query.query.is_empty() {
            return Ok(self.veiled_shard(now, query));
        }
        let mut members: Vec<Member<'_>> = self.custody.members(now, &query.shard).collect();
        members.retain(|member| matches!(member.digest.content, Content::Digest(_)));
        let held = u32::try_from(members.len()).unwrap_or(u32::MAX);
        members.retain(|member| !query.exclude.contains(&member.digest.signer));
        let candidates: Vec<_> = members.iter().filter_map(candidate).collect();
        let matches_max = usize::from(query.limit).min(FOUND_MATCHES_MAX);
        let limits = EvaluationLimits {
            matches_max,
            near_max: NEAR_ALONE,
            cost_max: query.cost_max.min(COST_MAX),
        };
        let evaluation = services.evaluate(now, &query.query, &candidates, limits)?;
        let leaves = self.leaves_below(now, &query.shard, &query.query, query.placement);
        let mut budget = ANSWER_BYTES_MAX;
        let mut fits = |size: usize| {
            let left = budget.checked_sub(size);
            budget = left.unwrap_or(budget);
            left.is_some()
        };
        let (mut matches, mut beats, mut near) = (Vec::new(), Vec::new(), Vec::new());
        let mut truncated = evaluation.truncated;
        let ranked: Vec<_> =
            evaluation.matches.iter().filter_map(|index| members.get(*index)).collect();
        let is_cut = usize::try_from(evaluation.passed).is_ok_and(|passed| passed > matches_max);
        let best = if is_cut && self.is_one_sided(&ranked) {
            let wide = EvaluationLimits { matches_max: matches_max * RANKED_FOR_SPREAD, ..limits };
            let wide = services.evaluate(now, &query.query, &candidates, wide)?;
            let ranked = wide.matches.iter().filter_map(|index| members.get(*index)).collect();
            self.spread(ranked, matches_max)
        } else {
            ranked
        };
        for member in best {
            let beat = member.beat.filter(|beat| !beats.contains(&beat.bytes));
            let size = member.digest.bytes.len() + beat.map_or(0, |beat| beat.bytes.len());
            if !fits(size) {
                truncated = true;
                break;
            }
            matches.push(member.digest.bytes.clone());
            beats.extend(beat.map(|beat| beat.bytes.clone()));
        }
        let near_max = match matches.len() {
            0 if query.shard.depth > 0 => NEAR_BELOW,
            0 => NEAR_ALONE,
            1..MATCHES_PLENTY => NEAR_BESIDE_MATCHES,
            _ => 0,
        };
        for member in evaluation.near.iter().take(near_max).filter_map(|index| members.get(*index))
        {
            if fits(member.digest.bytes.len()) {
                near.push(member.digest.bytes.clone());
            }
        }
        truncated |= usize::try_from(evaluation.passed).is_ok_and(|passed| passed > matches.len());
        Ok(Answer {
            matches,
            near,
            beats,
            held,
            passed: evaluation.passed,
            truncated,
            set_hash: self.custody.set_hash(now, &query.shard),
            leaves,
        })
    }
}

/// Counts one more of a kind; gives how many there are.
fn count_in<K: Ord>(counts: &mut BTreeMap<K, usize>, kind: K) -> usize {
    let count = counts.entry(kind).or_default();
    *count += 1;
    *count
}

/// Whether an entry belongs to the group it is offered for.
pub(super) fn check_group(
    services: &mut dyn Services,
    item: &VerifiedItem,
    place: Place,
    label: &str,
) -> Result<(), Reject> {
    let Place::Shard { shard, .. } = place else { return Ok(()) };
    if !item.content.kind().is_entry() {
        return Ok(());
    }
    let belongs =
        !label.is_empty() && GroupKey::of(label) == shard.group && services.admits(item, label);
    if belongs { Ok(()) } else { Err(Reject::Misplaced) }
}

/// A shard member as the evaluator wants it.
fn candidate<'a>(member: &Member<'a>) -> Option<Candidate<'a>> {
    let Content::Digest(digest) = &member.digest.content else { return None };
    let beat = member.beat.and_then(|beat| match &beat.content {
        Content::Beat(beat) => Some(beat),
        Content::Digest(_) | Content::Veiled(_) | Content::Tombstone | Content::Peer(_) => None,
    });
    Some(Candidate { digest, signer: &member.digest.signer, beat })
}
