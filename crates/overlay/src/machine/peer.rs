//! Finding peer records.

use std::collections::BTreeMap;

use comity_core::{AgentId, OverlayId, Time};

use super::traffic::Goal;
use super::{Overlay, Task};
use crate::contact::Contact;
use crate::drive::{CommandError, CommandId, Outcome, PeerQuery, PeerReport};
use crate::item::{Content, ItemBytes, Services, VerifiedItem};
use crate::lookup::Lookup;
use crate::shard::peer_position;
use crate::store::{check_times, shares_prefix};
use crate::wire::{PEER_RECORDS_MAX, PREFIX_BITS_MIN};

/// Nodes that must return a peer's record before the search is satisfied.
const COPIES_ENOUGH: usize = 2;
/// Prefixes at least this long name one agent: an address has 120 bits.
const UNIQUE_BITS: u16 = 120;
/// Distinct agents one search collects: a handle that names more is refused anyway.
const AGENTS_MAX: usize = 32;

/// A search in progress.
#[derive(Debug)]
pub(super) struct PeerJob {
    prefix: OverlayId,
    bits: u16,
    records: BTreeMap<AgentId, (VerifiedItem, usize)>,
    contacts: BTreeMap<AgentId, Contact>,
    running: usize,
}

impl PeerJob {
    fn note(&mut self, item: VerifiedItem) {
        let wanted = matches!(&item.content, Content::Peer(contact)
            if contact.agent == item.signer && shares_prefix(&contact.overlay_id, &self.prefix, self.bits));
        if !wanted || (self.records.len() >= AGENTS_MAX && !self.records.contains_key(&item.signer))
        {
            return;
        }
        let (known, copies) = self.records.entry(item.signer).or_insert_with(|| (item.clone(), 0));
        *copies += 1;
        if item.seq > known.seq {
            *known = item;
        }
    }

    fn is_satisfied(&self) -> bool {
        self.bits >= UNIQUE_BITS
            && self.records.values().any(|(_, copies)| *copies >= COPIES_ENOUGH)
    }
}

impl Overlay {
    pub(super) fn start_find_peer(
        &mut self,
        now: Time,
        id: CommandId,
        wanted: PeerQuery,
    ) -> Result<(), CommandError> {
        let (prefix, bits, targets) = match wanted {
            PeerQuery::Agent { agent, overlay_id } => {
                (overlay_id, 256, vec![overlay_id, peer_position(&agent)])
            }
            PeerQuery::Prefix { prefix, bits } if (PREFIX_BITS_MIN..=256).contains(&bits) => {
                (prefix, bits, vec![prefix])
            }
            PeerQuery::Prefix { .. } => {
                return Err(CommandError::Invalid("a prefix has 16 to 256 bits"));
            }
        };
        let mut job = PeerJob {
            prefix,
            bits,
            records: BTreeMap::new(),
            contacts: BTreeMap::new(),
            running: targets.len(),
        };
        for item in self.custody.peer_records(now, &prefix, bits, PEER_RECORDS_MAX) {
            job.note(item.clone());
        }
        let near = self.table.closest(&prefix, AGENTS_MAX);
        job.contacts.extend(
            near.into_iter()
                .filter(|contact| shares_prefix(&contact.overlay_id, &prefix, bits))
                .map(|c| (c.agent, c)),
        );
        self.begin(now, id, Task::Peer(Box::new(job)), Some(self.config.query_deadline));
        for target in targets {
            let breadth = self.find_breadth(now);
            self.look(now, Goal::Peer(id), target, breadth);
        }
        Ok(())
    }

    fn peer_job(&mut self, id: CommandId) -> Option<&mut PeerJob> {
        match self.jobs.get_mut(&id).map(|job| &mut job.task) {
            Some(Task::Peer(job)) => Some(job),
            _ => None,
        }
    }

    /// The prefix that a search for records is about, and its length.
    pub(super) fn peer_question(&self, id: CommandId) -> Option<(OverlayId, u16)> {
        match self.jobs.get(&id).map(|job| &job.task) {
            Some(Task::Peer(job)) => Some((job.prefix, job.bits)),
            _ => None,
        }
    }

    pub(super) fn records_found(
        &mut self,
        now: Time,
        services: &mut dyn Services,
        id: CommandId,
        from: &Contact,
        records: Vec<ItemBytes>,
    ) {
        let Some(job) = self.peer_job(id) else { return };
        if shares_prefix(&from.overlay_id, &job.prefix, job.bits) && job.contacts.len() < AGENTS_MAX
        {
            job.contacts.insert(from.agent, from.clone());
        }
        for bytes in records {
            let item = services
                .verify(now, &bytes)
                .and_then(|item| check_times(now, &item).map(|()| item));
            if let Ok(item) = item {
                job.note(item);
            }
        }
        if job.is_satisfied() {
            self.lookups.stop(id, |_| true);
        }
    }

    /// Nobody has shown what is looked for.
    pub(super) fn is_peer_missed(&self, id: CommandId) -> bool {
        match self.jobs.get(&id).map(|job| &job.task) {
            Some(Task::Peer(job)) => job.records.is_empty(),
            _ => false,
        }
    }

    pub(super) fn peer_searched(&mut self, now: Time, id: CommandId, lookup: &Lookup) {
        let Some(job) = self.peer_job(id) else { return };
        job.running = job.running.saturating_sub(1);
        let matching = lookup
            .result()
            .into_iter()
            .filter(|contact| shares_prefix(&contact.overlay_id, &job.prefix, job.bits));
        job.contacts.extend(matching.take(AGENTS_MAX).map(|contact| (contact.agent, contact)));
        if job.running == 0 {
            self.finish_peer(now, id);
        }
    }

    pub(super) fn finish_peer(&mut self, now: Time, id: CommandId) {
        self.lookups.stop(id, |_| true);
        let Some(mut job) = self.finish(now, id) else { return };
        let Task::Peer(search) = &mut job.task else { return };
        let mut records: Vec<_> =
            std::mem::take(&mut search.records).into_values().map(|(item, _)| item).collect();
        let prefix = search.prefix;
        records.sort_by_key(|item| match &item.content {
            Content::Peer(contact) => Some(contact.overlay_id.distance(&prefix)),
            Content::Digest(_) | Content::Veiled(_) | Content::Beat(_) | Content::Tombstone => None,
        });
        let contacts = std::mem::take(&mut search.contacts).into_values().collect();
        self.report_job(id, &job, Outcome::Peers(PeerReport { records, contacts, cost: job.cost }));
    }
}
