//! Many nodes go at once, a network is cut and healed, everybody restarts.

use std::collections::BTreeSet;
use std::time::Duration;

use comity_overlay::{Command, Outcome};

use crate::fake::contact;
use crate::net::Net;

const NODES: usize = 100;
const PUBLISHERS: usize = 12;
const HOUR: Duration = Duration::from_secs(3_600);
const MINUTE: Duration = Duration::from_secs(60);
/// Long enough for nodes that joined early to have sampled the grown network.
const SETTLED: Duration = Duration::from_secs(400);

fn label(index: usize) -> String {
    format!("class/{index}")
}

fn publish(net: &mut Net, publisher: usize) {
    let digest = net.digest(publisher, 1, publisher as u64, 24 * HOUR);
    net.publish_alive(publisher, vec![digest.publication(&[&label(publisher)])]);
}

fn published() -> Net {
    let mut net = Net::grown(NODES, false);
    net.run_for(SETTLED);
    (0..PUBLISHERS).for_each(|publisher| publish(&mut net, publisher));
    net
}

fn is_found(net: &mut Net, asker: usize, publisher: usize) -> bool {
    net.find(asker, &[&label(publisher)], 0).matches.len() == 1
}

/// How many entries of living nodes' tables are dead, and how many there are.
fn dead_entries(net: &Net) -> (usize, usize) {
    let dead: BTreeSet<_> =
        (0..NODES).filter(|index| !net.nodes[*index].alive).map(|index| net.agent(index)).collect();
    let living = net.nodes.iter().filter(|node| node.alive);
    let entries: Vec<_> = living.flat_map(|node| node.overlay.table().entries()).collect();
    (entries.iter().filter(|entry| dead.contains(&entry.contact.agent)).count(), entries.len())
}

#[test]
fn three_minutes_after_a_mass_kill_tables_are_clean_and_items_stored_again() {
    let mut net = published();
    let living: Vec<_> = (0..NODES).filter(|index| *index < PUBLISHERS || index % 4 == 0).collect();
    (0..NODES).filter(|index| !living.contains(index)).for_each(|index| net.kill(index));
    let found = (0..PUBLISHERS).filter(|publisher| is_found(&mut net, 40, *publisher)).count();
    assert!(found * 10 >= PUBLISHERS * 9, "{found} of {PUBLISHERS} before any repair");
    net.run_for(3 * MINUTE);
    let (dead, entries) = dead_entries(&net);
    assert!(dead * 10 <= entries, "{dead} of {entries} table entries are dead");
    for publisher in 0..PUBLISHERS {
        assert!(is_found(&mut net, 44, publisher), "{publisher}");
    }
    let noticed =
        living.iter().filter(|index| net.nodes[**index].overlay.stats().mass_failures > 0);
    assert!(noticed.count() * 10 >= living.len() * 9);
    // Two of three nodes that keep an item may go now: it has been stored again on those that live.
    (12..NODES).step_by(8).for_each(|index| net.kill(index));
    for publisher in 0..PUBLISHERS {
        assert!(is_found(&mut net, 48, publisher), "{publisher}");
    }
}

#[test]
fn halves_that_lived_apart_for_hours_are_one_within_ten_minutes() {
    let mut net = published();
    let odd = (0..NODES).filter(|index| index % 2 == 1);
    net.cut_off = odd.collect();
    net.run_for(MINUTE);
    // What each half publishes alone.
    (50..60).for_each(|publisher| publish(&mut net, publisher));
    net.run_for(2 * HOUR);
    for asker in [80, 81] {
        for publisher in (50..60).filter(|publisher| publisher % 2 == asker % 2) {
            assert!(is_found(&mut net, asker, publisher), "{publisher} by {asker}, apart");
        }
        assert!(!is_found(&mut net, asker, 50 + (asker + 1) % 2));
    }
    net.cut_off.clear();
    net.run_for(10 * MINUTE);
    for asker in [80, 81, 90, 91] {
        for publisher in (0..PUBLISHERS).chain(50..60) {
            assert!(is_found(&mut net, asker, publisher), "{publisher} by {asker}, united");
        }
    }
    let size = net.nodes[33].overlay.size_estimate();
    assert!((60..=200).contains(&size), "{size}");
}

#[test]
fn everybody_comes_back_from_remembered_peers() {
    let mut net = published();
    let remembered: Vec<_> = net.nodes.iter().map(|node| node.overlay.export_peers()).collect();
    (0..NODES).for_each(|index| net.kill(index));
    net.run_for(MINUTE);
    for (index, peers) in remembered.into_iter().enumerate() {
        net.restart(index);
        net.nodes[index].overlay.import_peers(peers);
        // The first find nobody; nobody introduces them again.
        let outcome = net.run_command(index, Command::Join { seeds: Vec::new() });
        assert!(matches!(outcome, Outcome::Joined(_) | Outcome::Failed(_)), "{outcome:?}");
    }
    net.run_for(5 * MINUTE);
    (0..PUBLISHERS).for_each(|publisher| publish(&mut net, publisher));
    for publisher in 0..PUBLISHERS {
        assert!(is_found(&mut net, 70, publisher), "{publisher}");
    }
    let target = contact(33).overlay_id;
    let Outcome::Closest(report) = net.run_command(71, Command::Lookup { target }) else {
        panic!()
    };
    assert_eq!(report.closest[0].agent, net.agent(33));
}
