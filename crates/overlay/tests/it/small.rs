//! Networks that everyone sees whole: every node keeps everything.

use std::time::Duration;

use comity_capability::keys::GroupKey;
use comity_core::OverlayId;
use comity_overlay::{
    Command, CommandError, Config, Contact, Content, CustodianSaid, ItemKind, Outcome, PeerQuery,
    Publication, QueryStep, Reject,
};

use crate::fake::{Item, contact, place};
use crate::net::Net;

const HOUR: Duration = Duration::from_secs(3_600);

fn peer_record(net: &Net, index: usize) -> Publication {
    let value = index as u64;
    let digest = net.digest(index, 0, value, HOUR);
    Item { kind: ItemKind::Peer, ..digest }.publication(&[])
}

#[test]
fn two_nodes_publish_and_find() {
    let mut net = Net::grown(2, true);
    net.run_for(Duration::from_secs(1));
    assert_eq!(net.nodes[0].overlay.table().len(), 1, "the first node dialled the second back");
    assert_eq!(net.nodes[1].overlay.size_estimate(), 2);
    let report = net.publish(0, vec![net.digest(0, 1, 10, HOUR).publication(&["class/fx"])]);
    assert_eq!(
        (report.items[0].holders, report.items[0].places_held, report.items[0].places),
        (1, 2, 2)
    );
    for asker in 0..2 {
        let found = net.find(asker, &["class/fx"], 5);
        assert_eq!(found.matches.len(), 1, "{found:?}");
        assert_eq!(found.matches[0].item.signer, net.agent(0));
        assert_eq!(found.matches[0].returned_by.len(), 2);
        let misses = net.find(asker, &["class/fx"], 11);
        assert_eq!((misses.matches.len(), misses.near.len()), (0, 1));
        assert!(net.find(asker, &["class/other"], 0).matches.is_empty());
    }
}

#[test]
fn a_lone_node_finds_its_own() {
    let mut net = Net::grown(1, true);
    let report = net.publish(0, vec![net.digest(0, 1, 10, HOUR).publication(&["class/fx"])]);
    assert_eq!((report.items[0].holders, report.items[0].places_held), (0, 2));
    assert_eq!(net.find(0, &["class/fx"], 5).matches.len(), 1);
}

#[test]
fn what_was_published_alone_spreads_when_others_come() {
    let mut net = Net::grown(1, true);
    net.publish_alive(0, vec![net.digest(0, 1, 10, 20 * HOUR).publication(&["class/fx"])]);
    for index in 1..4 {
        net.add(Config::default());
        net.run_command(index, Command::Join { seeds: vec![contact(0)] });
    }
    net.run_for(Duration::from_secs(200));
    net.kill(0);
    assert_eq!(net.find(3, &["class/fx"], 5).matches.len(), 1);
}

#[test]
fn twenty_nodes_all_keep_everything_and_survive_kills() {
    let mut net = Net::grown(20, true);
    net.run_for(Duration::from_secs(120));
    for node in &net.nodes {
        assert_eq!(node.overlay.table().len(), 19);
        assert_eq!(node.overlay.size_estimate(), 20);
    }
    for index in 0..5 {
        let digest = net.digest(index, 1, index as u64, HOUR).publication(&["class/fx", "term/fx"]);
        let report = net.publish(index, vec![digest]);
        assert_eq!((report.items[0].holders, report.items[0].places_held), (19, 4), "{report:?}");
    }
    assert!(net.nodes.iter().all(|node| node.overlay.custody().len() == 5));
    for index in 0..14 {
        net.kill(index);
    }
    let found = net.find(19, &["class/fx"], 2);
    assert_eq!(found.matches.len(), 3);
    assert_eq!(found.near.len(), 2);
    let custodians = &found.keys[0].custodians;
    assert!(
        custodians
            .iter()
            .any(|custodian| matches!(custodian.said, CustodianSaid::Answered { held: 5, .. }))
    );
    assert!(found.cost.requests > 0 && found.cost.bytes_sent > 0);
}

#[test]
fn retired_digests_are_gone_at_once_and_stay_gone() {
    let mut net = Net::grown(6, true);
    let digest = net.digest(1, 7, 10, HOUR);
    net.publish(1, vec![digest.publication(&["class/fx"])]);
    let tombstone = Item { kind: ItemKind::Tombstone, ..digest };
    let outcome =
        net.run_command(1, Command::Retire { tombstones: vec![tombstone.publication(&[])] });
    let Outcome::Retired(report) = outcome else { panic!("{outcome:?}") };
    assert_eq!(report.items[0].places_held, 2);
    assert!(net.find(4, &["class/fx"], 0).matches.is_empty());
    // A replay of the retired digest is refused, a newer one is taken.
    let replay = net.publish(1, vec![digest.publication(&["class/fx"])]);
    assert_eq!((replay.items[0].holders, replay.items[0].rejected), (0, Some(Reject::Stale)));
    let newer = Item { seq: 2, ..digest };
    assert_eq!(net.publish(1, vec![newer.publication(&["class/fx"])]).items[0].holders, 5);
    assert_eq!(net.find(4, &["class/fx"], 0).matches.len(), 1);
}

#[test]
fn expired_digests_are_swept_and_renewals_asked_for() {
    let mut net = Net::grown(4, true);
    let digest = net.digest(2, 7, 10, HOUR);
    net.publish_alive(2, vec![digest.publication(&["class/fx"])]);
    net.run_for(HOUR * 9 / 10);
    assert_eq!(net.nodes[2].renewals.len(), 1);
    assert_eq!(net.find(0, &["class/fx"], 0).matches.len(), 1);
    net.run_for(HOUR / 5);
    assert!(net.find(0, &["class/fx"], 0).matches.is_empty());
    assert!(net.nodes.iter().all(|node| node.overlay.custody().is_empty()));
    assert!(net.nodes.iter().all(|node| node.rows.is_empty()), "persisted rows follow custody");
}

#[test]
fn published_items_are_stored_again() {
    let mut net = Net::grown(3, true);
    net.publish(0, vec![net.digest(0, 1, 10, 20 * HOUR).publication(&["class/fx"])]);
    // Custodians come back empty.
    for index in 1..3 {
        net.restart(index);
        net.run_command(index, Command::Join { seeds: vec![contact(0)] });
        assert!(net.nodes[index].overlay.custody().is_empty());
    }
    net.run_for(HOUR * 3 / 2);
    assert!(net.nodes.iter().all(|node| node.overlay.custody().len() == 1));
}

#[test]
fn beats_travel_with_their_digest() {
    let mut net = Net::grown(4, true);
    let digest = net.digest(0, 1, 10, HOUR);
    let beat = Item { kind: ItemKind::Beat, subject: 0, ..digest };
    let report = net.publish(0, vec![beat.publication(&[]), digest.publication(&["class/fx"])]);
    assert!(
        report.items.iter().all(|item| item.holders == 3 && item.rejected.is_none()),
        "{report:?}"
    );
    let found = net.find(3, &["class/fx"], 0);
    assert!(found.matches[0].beat.is_some());
}

#[test]
fn peers_are_found_by_agent_address_and_handle() {
    let mut net = Net::grown(12, true);
    for index in 0..12 {
        let record = peer_record(&net, index);
        net.publish(index, vec![record]);
    }
    let agent = net.agent(5);
    let overlay_id = place(&agent);
    let mut address = overlay_id.0;
    address[15..].fill(0);
    let mut handle = overlay_id.0;
    handle[6..].fill(0);
    let wanted = [
        PeerQuery::Agent { agent, overlay_id },
        PeerQuery::Prefix { prefix: OverlayId(address), bits: 120 },
        PeerQuery::Prefix { prefix: OverlayId(handle), bits: 48 },
    ];
    for wanted in wanted {
        let outcome = net.run_command(9, Command::FindPeer(wanted));
        let Outcome::Peers(report) = outcome else { panic!("{outcome:?}") };
        assert_eq!(report.records.len(), 1, "{wanted:?}");
        assert!(matches!(&report.records[0].content, Content::Peer(found) if *found == contact(5)));
        assert_eq!(report.contacts, vec![contact(5)]);
    }
    let nobody = PeerQuery::Prefix { prefix: OverlayId([0x55; 32]), bits: 120 };
    let Outcome::Peers(report) = net.run_command(9, Command::FindPeer(nobody)) else { panic!() };
    assert!(report.records.is_empty() && report.contacts.is_empty());
}

#[test]
fn clients_ask_but_are_never_asked() {
    let mut net = Net::grown(3, true);
    let client = net.add(Config::default());
    let addrs = net.nodes[client].overlay.me().addrs.clone();
    net.nodes[client].overlay.set_me(addrs, false);
    net.run_command(client, Command::Join { seeds: vec![contact(0)] });
    let report =
        net.publish(client, vec![net.digest(client, 1, 10, HOUR).publication(&["class/fx"])]);
    assert_eq!(report.items[0].holders, 3);
    assert_eq!(net.find(1, &["class/fx"], 0).matches.len(), 1);
    let me = net.agent(client);
    assert!(
        net.nodes.iter().all(|node| node
            .overlay
            .table()
            .entries()
            .all(|entry| entry.contact.agent != me))
    );
    assert!(net.nodes[client].overlay.custody().is_empty());
}

#[test]
fn leaving_empties_the_tables() {
    let mut net = Net::grown(5, true);
    let outcome = net.run_command(4, Command::Leave);
    assert!(matches!(outcome, Outcome::Left));
    let gone = net.agent(4);
    let knows = |node: &crate::net::Node| {
        node.overlay.table().entries().any(|entry| entry.contact.agent == gone)
    };
    assert!(!net.nodes[..4].iter().any(knows));
}

#[test]
fn a_join_without_answer_fails_and_is_tried_again() {
    let mut net = Net::new(true);
    net.add(Config::default());
    net.add(Config::default());
    net.kill(1);
    let outcome = net.run_command(0, Command::Join { seeds: vec![contact(1)] });
    assert!(
        matches!(outcome, Outcome::Failed(CommandError::NoSeedAnswered { tried: 1 })),
        "{outcome:?}"
    );
    net.restart(1);
    net.run_for(Duration::from_secs(120));
    assert_eq!(net.nodes[0].overlay.table().len(), 1);
}

#[test]
fn restarts_keep_peers_and_custody() {
    let mut net = Net::grown(5, true);
    let digest = net.digest(0, 1, 10, 20 * HOUR);
    let beat = Item { kind: ItemKind::Beat, subject: 0, expires: net.now + HOUR, ..digest };
    net.publish(0, vec![digest.publication(&["class/fx"]), beat.publication(&[])]);
    let peers: Vec<Contact> = net.nodes[3].overlay.export_peers();
    assert_eq!(peers.len(), 4);
    let exported: Vec<_> = net.nodes[3].overlay.export_custody().collect();
    assert_eq!(exported, net.nodes[3].rows.clone().into_iter().collect::<Vec<_>>());
    net.restart(3);
    let mut forged = exported[0].clone();
    forged.1.bytes = vec![1, 2, 3].into();
    let rows = exported.into_iter().chain([forged]).collect();
    let now = net.now;
    let kept = net.nodes[3].overlay.import_custody(now, &mut net.services, rows);
    assert_eq!(kept, 2);
    net.nodes[3].overlay.import_peers(peers);
    let outcome = net.run_command(3, Command::Join { seeds: Vec::new() });
    assert!(matches!(outcome, Outcome::Joined(report) if report.peers == 4));
    for index in [0, 1, 2, 4] {
        net.kill(index);
    }
    let found = net.find(3, &["class/fx"], 0);
    assert!(found.matches.len() == 1 && found.matches[0].beat.is_some());
}

#[test]
fn later_keys_are_not_asked_when_enough_is_found() {
    let mut net = Net::grown(4, true);
    net.publish(0, vec![net.digest(0, 1, 10, HOUR).publication(&["interface/a", "class/fx"])]);
    let step = |label: &str, complete| QueryStep { keys: vec![GroupKey::of(label)], complete };
    let asked = |report: comity_overlay::QueryReport| report.keys.len();
    assert_eq!(
        asked(net.query(2, vec![step("interface/a", true), step("class/fx", false)], 0, 0)),
        1
    );
    assert_eq!(
        asked(net.query(2, vec![step("interface/a", false), step("class/fx", false)], 0, 0)),
        2
    );
    let many = (0..6).map(|n| step(&format!("term/{n}"), false));
    let plan: Vec<_> = [step("class/fx", false)].into_iter().chain(many).collect();
    assert!(asked(net.query(2, plan, 0, 1)) <= 2);
}
