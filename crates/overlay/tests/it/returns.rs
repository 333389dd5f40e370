//! A node goes and comes back with what it persisted.

use std::collections::BTreeMap;
use std::time::Duration;

use comity_overlay::{Command, ItemKind, JoinReport, Outcome};

use crate::fake::Item;
use crate::net::Net;

const NODES: usize = 100;
const HOUR: Duration = Duration::from_secs(3_600);
const MINUTE: Duration = Duration::from_secs(60);
const LABELS: [&str; 4] = ["interface/a", "class/a", "class/b", "term/a"];

/// Publishes version `value` of the digest of node 3; gives the requests that took.
fn publish(net: &mut Net, value: u64) -> u32 {
    let digest = Item { seq: value, ..net.digest(3, 1, value, 20 * HOUR) };
    net.publish_alive(3, vec![digest.publication(&LABELS)]).cost.requests
}

/// Node 3 goes with some others; it comes back alone, a quarter of an hour later.
fn come_back(net: &mut Net, remembers: bool) -> JoinReport {
    let (peers, kept) = (net.nodes[3].overlay.export_peers(), net.nodes[3].places.clone());
    (3..NODES).step_by(6).for_each(|index| net.kill(index));
    net.run_for(15 * MINUTE);
    net.restart(3);
    net.nodes[3].overlay.import_peers(peers);
    if remembers {
        let now = net.now;
        net.nodes[3].overlay.import_places(now, kept.into_values().collect());
    }
    match net.run_command(3, Command::Join { seeds: Vec::new() }) {
        Outcome::Joined(report) => report,
        other => panic!("{other:?}"),
    }
}

fn published() -> Net {
    let mut net = Net::grown(NODES, false);
    net.run_for(7 * MINUTE);
    publish(&mut net, 10);
    net
}

#[test]
fn its_custodians_are_asked_instead_of_searched_for() {
    let mut net = published();
    assert_eq!(net.nodes[3].places.len(), 2 * LABELS.len(), "two places a label were reported");
    let reported: BTreeMap<_, _> =
        net.nodes[3].overlay.export_places().into_iter().map(|at| (at.position, at)).collect();
    assert_eq!(reported, net.nodes[3].places);
    come_back(&mut net, true);
    let remembered = publish(&mut net, 20);
    let mut other = published();
    come_back(&mut other, false);
    let searched = publish(&mut other, 20);
    // Stores included: as many in both cases.
    assert!(remembered * 3 <= searched * 2, "{remembered} requests, {searched} without memory");
    for asker in [40, 41, 43] {
        for label in LABELS {
            let found = net.find(asker, &[label], 20);
            assert_eq!(found.matches.len(), 1, "{label} by {asker}");
        }
    }
}

#[test]
fn most_of_its_table_answers_and_nothing_is_taken_for_a_healed_network() {
    let mut net = published();
    let before = net.nodes[3].overlay.table().len();
    let joined = come_back(&mut net, true);
    assert!(joined.peers * 4 >= before * 3, "{} of {before}", joined.peers);
    // Those that went with it come back one by one.
    for index in (9..NODES).step_by(6) {
        net.restart(index);
        let seeds = vec![net.contact(0), net.contact(1)];
        net.run_command(index, Command::Join { seeds });
        net.run_for(MINUTE);
    }
    net.run_for(10 * MINUTE);
    let merges: u64 = net.nodes.iter().map(|node| node.overlay.stats().merges).sum();
    assert_eq!(merges, 0);
}

#[test]
fn places_that_are_used_no_more_are_forgotten() {
    let mut net = published();
    let digest = net.digest(3, 1, 0, 20 * HOUR);
    let tombstone = Item { kind: ItemKind::Tombstone, seq: 10, ..digest };
    net.run_command(3, Command::Retire { tombstones: vec![tombstone.publication(&[])] });
    net.run_for(4 * HOUR);
    assert_eq!(net.nodes[3].overlay.export_places(), []);
    assert_eq!(net.nodes[3].places.len(), 0);
}
