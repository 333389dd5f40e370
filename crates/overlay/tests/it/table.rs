//! The routing table against a naive model.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::LazyLock;
use std::time::Duration;

use comity_core::{AgentId, OverlayId, Time};
use comity_overlay::table::{Inserted, Struck, Table};
use comity_overlay::{
    Contact, Exempt, K, PREFIX_PER_BUCKET_MAX, PREFIX_PER_TABLE_MAX, STRIKES_MAX,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::fake::agent;

const PEERS: usize = 120;

static AGENTS: LazyLock<Vec<AgentId>> = LazyLock::new(|| (0..PEERS).map(agent).collect());

/// Peer `index`: its id shares about `index % 8` bits with zero, where the table is.
fn peer(index: usize, subnet: u8) -> Contact {
    let mut id = [0; 32];
    id[0] = 0x80_u8.checked_shr(u32::try_from(index % 8).unwrap()).unwrap();
    id[1] = u8::try_from(index).unwrap();
    id[31] = 1;
    let ip = if subnet == 0 {
        Ipv4Addr::LOCALHOST
    } else {
        Ipv4Addr::new(198, 51, subnet, u8::try_from(index).unwrap())
    };
    Contact::server(AGENTS[index], OverlayId(id), vec![SocketAddr::from((ip, 1))])
}

#[derive(Clone, Debug)]
enum Op {
    Insert { peer: usize, subnet: u8 },
    Strike(usize),
    Remove(usize),
    Heard(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0..PEERS, prop_oneof![3 => Just(0_u8), 1 => 1_u8..40]).prop_map(|(peer, subnet)| Op::Insert { peer, subnet }),
        2 => (0..PEERS).prop_map(Op::Strike),
        1 => (0..PEERS).prop_map(Op::Remove),
        1 => (0..PEERS).prop_map(Op::Heard),
    ]
}

/// All entries in one list, and the number of buckets.
#[derive(Debug)]
struct Model {
    entries: Vec<(Contact, Time, u8)>,
    depth: u32,
}

impl Model {
    fn bucket(&self, id: &OverlayId) -> u32 {
        id.distance(&OverlayId([0; 32])).leading_zeros().min(self.depth)
    }

    fn in_bucket(&self, bucket: u32) -> impl Iterator<Item = &Contact> + '_ {
        self.entries
            .iter()
            .map(|(contact, _, _)| contact)
            .filter(move |contact| self.bucket(&contact.overlay_id) == bucket)
    }

    fn prefix_allows(&self, contact: &Contact) -> bool {
        if contact.addrs[0].ip().is_loopback() {
            return true;
        }
        let same = |other: &&Contact| {
            other.prefix() == contact.prefix() && other.overlay_id != contact.overlay_id
        };
        let bucket = self.bucket(&contact.overlay_id);
        let in_table = self.entries.iter().map(|(contact, _, _)| contact).filter(same).count();
        in_table < PREFIX_PER_TABLE_MAX
            && self.in_bucket(bucket).filter(same).count() < PREFIX_PER_BUCKET_MAX
    }

    fn insert(&mut self, now: Time, contact: Contact) -> &'static str {
        if let Some(at) =
            self.entries.iter().position(|(known, _, _)| known.overlay_id == contact.overlay_id)
        {
            let keep_old =
                self.entries[at].0.prefix() != contact.prefix() && !self.prefix_allows(&contact);
            let kept = if keep_old { self.entries[at].0.clone() } else { contact };
            self.entries[at] = (kept, now, 0);
            return "known";
        }
        loop {
            if !self.prefix_allows(&contact) {
                return "refused";
            }
            let bucket = self.bucket(&contact.overlay_id);
            if self.in_bucket(bucket).count() < K {
                self.entries.push((contact, now, 0));
                return "added";
            }
            if bucket != self.depth {
                return "spare";
            }
            self.depth += 1;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_the_model(ops in vec(op(), 1..400)) {
        let mut table = Table::new(OverlayId([0; 32]), Vec::new(), Time::ZERO);
        let mut model = Model { entries: Vec::new(), depth: 0 };
        for (step, op) in ops.into_iter().enumerate() {
            let now = Time::from_secs(step as u64);
            match op {
                Op::Insert { peer: index, subnet } => {
                    let contact = peer(index, subnet);
                    let expected = model.insert(now, contact.clone());
                    let got = match table.insert(now, contact) {
                        Inserted::Added => "added",
                        Inserted::Known { .. } => "known",
                        Inserted::Refused => "refused",
                        Inserted::Spare { doubtful } => {
                            let bucket = model.bucket(&doubtful.overlay_id);
                            let oldest = model.entries.iter().filter(|entry| model.bucket(&entry.0.overlay_id) == bucket).map(|entry| entry.1).min();
                            prop_assert_eq!(table.get(&doubtful.overlay_id).map(|entry| entry.seen()), oldest);
                            "spare"
                        }
                    };
                    prop_assert_eq!(got, expected);
                }
                Op::Strike(index) => {
                    let id = peer(index, 0).overlay_id;
                    let struck = table.strike(&id);
                    let at = model.entries.iter().position(|entry| entry.0.overlay_id == id);
                    let evicted = at.is_some_and(|at| {
                        model.entries[at].2 += 1;
                        model.entries[at].2 >= STRIKES_MAX
                    });
                    prop_assert_eq!(matches!(struck, Struck::Evicted { .. }), evicted);
                    if evicted {
                        model.entries.remove(at.unwrap());
                    }
                }
                Op::Remove(index) => {
                    let id = peer(index, 0).overlay_id;
                    let before = model.entries.len();
                    model.entries.retain(|entry| entry.0.overlay_id != id);
                    prop_assert_eq!(table.remove(&id), model.entries.len() < before);
                }
                Op::Heard(index) => {
                    let id = peer(index, 0).overlay_id;
                    table.heard(now, &id);
                    if let Some(entry) = model.entries.iter_mut().find(|entry| entry.0.overlay_id == id) {
                        entry.1 = now;
                    }
                }
            }
            let by_id = |entries: Vec<(Contact, Time, u8)>| entries.into_iter().map(|e| (e.0.overlay_id, e)).collect::<BTreeMap<_, _>>();
            let mine = table.entries().map(|entry| (entry.contact.clone(), entry.seen(), entry.strikes())).collect();
            prop_assert_eq!(by_id(mine), by_id(model.entries.clone()));
            prop_assert_eq!(table.buckets(), usize::try_from(model.depth).unwrap() + 1);
        }
        let target = peer(3, 0).overlay_id;
        let mut all: Vec<_> = model.entries.iter().map(|entry| entry.0.clone()).collect();
        all.sort_by_key(|contact| contact.overlay_id.distance(&target));
        all.truncate(15);
        prop_assert_eq!(table.closest(&target, 15), all);
        prop_assert_eq!(table.len(), model.entries.len());
    }

    #[test]
    fn refresh_targets_lie_in_their_bucket(count in 1_usize..PEERS, noise: [u8; 32]) {
        let mut table = Table::new(OverlayId([0; 32]), Vec::new(), Time::ZERO);
        for index in 0..count {
            table.insert(Time::ZERO, peer(index, 0));
        }
        let last = table.buckets() - 1;
        for bucket in 0..=last {
            let shared = usize::try_from(table.place_in(bucket, noise).distance(&OverlayId([0; 32])).leading_zeros()).unwrap();
            prop_assert!(if bucket == last { shared >= bucket } else { shared == bucket }, "{shared} bits in bucket {bucket}");
        }
    }
}

#[test]
fn oneself_clients_and_unreachable_peers_never_enter() {
    let mut table = Table::new(peer(1, 0).overlay_id, Vec::new(), Time::ZERO);
    let client = peer(2, 0).with_server(false);
    let homeless = peer(3, 0).with_addrs(Vec::new());
    for contact in [peer(1, 0), client, homeless] {
        assert_eq!(table.insert(Time::ZERO, contact), Inserted::Refused);
    }
    assert!(table.is_empty());
}

#[test]
fn a_spare_is_offered_when_an_entry_fails() {
    let mut table = Table::new(OverlayId([0; 32]), Vec::new(), Time::ZERO);
    // All in the farthest bucket.
    let mut index = 0;
    let mut spare = None;
    while spare.is_none() {
        let contact = peer(index % PEERS, 0);
        let mut place = contact.overlay_id;
        place.0[0] = 0x80;
        place.0[2] = u8::try_from(index).unwrap();
        let contact = contact.with_overlay_id(place);
        if matches!(
            table.insert(Time::from_secs(index as u64), contact.clone()),
            Inserted::Spare { .. }
        ) {
            spare = Some(contact);
        }
        index += 1;
    }
    let oldest = table.unseen(Time::from_secs(900), Duration::ZERO, 1).remove(0);
    assert_eq!(table.strike(&oldest.overlay_id), Struck::Kept);
    assert_eq!(table.strike(&oldest.overlay_id), Struck::Evicted { candidate: spare });
    assert_eq!(table.len(), K - 1);
}

#[test]
fn exempt_networks_are_not_capped() {
    let lab = Exempt { network: "198.51.0.0".parse().unwrap(), bits: 16 };
    for (exempt, expected) in [(vec![lab], 12), (Vec::new(), PREFIX_PER_BUCKET_MAX)] {
        let mut table = Table::new(OverlayId([0; 32]), exempt, Time::ZERO);
        for index in 0..12 {
            table.insert(Time::ZERO, peer(index, 9));
        }
        assert_eq!(table.len(), expected);
    }
}
