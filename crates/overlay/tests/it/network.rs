//! A network too large to be seen whole by one lookup.

use std::collections::BTreeSet;
use std::time::Duration;

use comity_core::{Hash, OverlayId};
use comity_overlay::{Command, ItemKind, K, Outcome, PeerQuery};

use crate::fake::{Item, place};
use crate::net::Net;

const NODES: usize = 200;
const PUBLISHERS: usize = 25;
const HOUR: Duration = Duration::from_secs(3_600);
/// Long enough for nodes that joined early to have sampled the grown network.
const SETTLED: Duration = Duration::from_secs(400);

fn label(index: usize) -> String {
    format!("class/{index}")
}

/// A grown network in which the first nodes have published one digest each, under a group of its own and a common one.
fn published() -> Net {
    let mut net = Net::grown(NODES, false);
    net.run_for(SETTLED);
    for index in 0..PUBLISHERS {
        let digest = net.digest(index, 1, index as u64, HOUR);
        let report =
            net.publish_alive(index, vec![digest.publication(&[&label(index), "class/all"])]);
        assert_eq!(report.items[0].places_held, 4, "{report:?}");
        assert!(report.items[0].holders >= K, "{report:?}");
    }
    net
}

/// How many of the publishers' digests node `asker` finds.
fn findable(net: &mut Net, asker: usize) -> usize {
    (0..PUBLISHERS).filter(|index| net.find(asker, &[&label(*index)], 0).matches.len() == 1).count()
}

/// How many entries of the living nodes' tables are dead, and how many there are.
fn dead_entries(net: &Net) -> (usize, usize) {
    let living = net.nodes.iter().filter(|node| node.alive);
    let entries: Vec<_> = living
        .flat_map(|node| node.overlay.table().entries())
        .map(|entry| entry.contact.agent)
        .collect();
    let dead: BTreeSet<_> =
        (0..NODES).filter(|index| !net.nodes[*index].alive).map(|index| net.agent(index)).collect();
    (
        entries.iter().filter(|agent| dead.contains::<comity_core::AgentId>(agent)).count(),
        entries.len(),
    )
}

#[test]
fn lookups_find_the_nearest_nodes_and_peer_records_lie_there() {
    let mut net = Net::grown(NODES, false);
    net.run_for(SETTLED);
    let (mut hit, mut requests) = (0, 0);
    for (asker, n) in (0..NODES).step_by(10).zip(0_u8..) {
        let target = OverlayId(Hash::of(&[n]).0);
        let Outcome::Closest(report) = net.run_command(asker, Command::Lookup { target }) else {
            panic!()
        };
        let mut all: Vec<_> =
            (0..NODES).filter(|index| *index != asker).map(|index| net.contact(index)).collect();
        all.sort_by_key(|contact| contact.overlay_id.distance(&target));
        hit += all[..K].iter().filter(|contact| report.closest.contains(contact)).count();
        requests += report.cost.requests;
        let size = net.nodes[asker].overlay.size_estimate();
        assert!((100..=400).contains(&size), "{size} is within a factor of two");
    }
    assert!(hit * 100 >= 20 * K * 99, "{hit} of {} nearest found", 20 * K);
    assert!(requests <= 20 * 110, "{requests} requests for 20 lookups");

    for index in 0..10 {
        let record = Item { kind: ItemKind::Peer, ..net.digest(index, 0, index as u64, HOUR) };
        net.publish(index, vec![record.publication(&[])]);
    }
    // The agents themselves may be gone: their records are not.
    for index in 0..10 {
        net.kill(index);
        let mut address = place(&net.agent(index)).0;
        address[15..].fill(0);
        let wanted = PeerQuery::Prefix { prefix: OverlayId(address), bits: 120 };
        let Outcome::Peers(report) = net.run_command(100 + index, Command::FindPeer(wanted)) else {
            panic!()
        };
        assert_eq!(report.records.len(), 1, "{index}");
        assert_eq!(report.records[0].signer, net.agent(index));
    }
}

#[test]
fn who_asks_again_asks_those_that_answered() {
    let mut net = published();
    let (asker, label) = (150, label(3));
    let first = net.find(asker, &[&label], 0);
    let again = net.find(asker, &[&label], 0);
    assert_eq!((first.matches.len(), again.matches.len()), (1, 1));
    assert!(first.cost.hops > 1, "{:?}", first.cost);
    assert_eq!(again.cost.hops, 1, "{:?}", again.cost);
    assert!(again.cost.requests * 2 < first.cost.requests, "{:?} {:?}", first.cost, again.cost);
    // When they are gone the search is as wide as ever.
    let custodians: BTreeSet<_> = again.matches[0].returned_by.iter().copied().collect();
    let gone: Vec<_> = (0..NODES).filter(|at| custodians.contains(&net.agent(*at))).collect();
    gone.into_iter().filter(|at| *at != asker).for_each(|at| net.kill(at));
    assert_eq!(net.find(asker, &[&label], 0).matches.len(), 1);
}

#[test]
fn digests_are_found_until_retired_or_expired_whoever_dies() {
    let mut net = published();
    assert_eq!(findable(&mut net, 150), PUBLISHERS);
    assert_eq!(net.find(77, &["class/all"], 0).matches.len(), PUBLISHERS);
    let kept = net.nodes.iter().map(|node| node.overlay.custody().len()).sum::<usize>();
    assert!(kept < PUBLISHERS * NODES, "not everyone keeps everything: {kept}");

    let digest = net.digest(3, 1, 3, HOUR);
    let tombstone = Item { kind: ItemKind::Tombstone, ..digest };
    let outcome =
        net.run_command(3, Command::Retire { tombstones: vec![tombstone.publication(&[])] });
    assert!(matches!(outcome, Outcome::Retired(_)));
    assert!(net.find(120, &[&label(3)], 0).matches.is_empty());
    assert_eq!(net.find(120, &["class/all"], 0).matches.len(), PUBLISHERS - 1);

    // No repair yet: tables and custodian sets still name the dead.
    for index in (PUBLISHERS..NODES).filter(|index| index % 3 == 0) {
        net.kill(index);
    }
    assert_eq!(findable(&mut net, 151), PUBLISHERS - 1);
    net.run_for(HOUR / 2);
    assert_eq!(findable(&mut net, 152), PUBLISHERS - 1);
    let (dead, entries) = dead_entries(&net);
    assert!(dead * 10 <= entries, "{dead} of {entries} table entries are dead");

    net.run_for(HOUR * 6 / 10);
    assert!(net.find(151, &["class/all"], 0).matches.is_empty());
    let living = net.nodes.iter().filter(|node| node.alive);
    assert!(
        living.into_iter().all(|node| node.overlay.custody().is_empty() && node.rows.is_empty())
    );
}
