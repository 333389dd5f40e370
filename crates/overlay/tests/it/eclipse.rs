//! Ids minted next to a key: they answer everything and hold nothing.

use std::time::Duration;

use comity_capability::keys::GroupKey;
use comity_core::{AgentId, Identity, OverlayId};
use comity_overlay::{BEAT_LIFETIME_MAX, Command, Config, ItemKind, Outcome, PLACEMENTS, ShardId};

use crate::fake::{Item, contact, place};
use crate::net::{Lie, Net};

const HONEST: usize = 120;
/// Ids beside each placement.
const MINTED: usize = 24;
const LABEL: &str = "class/hidden";
const HOUR: Duration = Duration::from_secs(3_600);
/// Long enough for nodes that joined early to have sampled the grown network.
const SETTLED: Duration = Duration::from_secs(400);

fn positions() -> Vec<OverlayId> {
    let shard = ShardId::whole(GroupKey::of(LABEL));
    (0..PLACEMENTS).map(|placement| shard.position(placement)).collect()
}

/// Keys whose places lie nearer to `target` than any honest node.
fn mint(net: &Net, target: &OverlayId, salt: u8) -> Vec<AgentId> {
    let nearest = (0..HONEST).map(|index| net.contact(index).overlay_id.distance(target)).min();
    let mut minted = Vec::new();
    for n in 0_u64.. {
        let mut secret = [salt; 32];
        secret[..8].copy_from_slice(&n.to_be_bytes());
        let agent = Identity::from_secret_bytes(&secret).id();
        if place(&agent).distance(target) < nearest.unwrap() {
            minted.push(agent);
        }
        if minted.len() == MINTED {
            break;
        }
    }
    minted
}

/// An honest network with both placements of a key crowded by minted ids, which joined like everyone.
fn attacked(config: &Config) -> Net {
    let mut net = Net::grown_with(config, HONEST, false);
    net.run_for(SETTLED);
    for (salt, target) in (100..).zip(positions()) {
        for agent in mint(&net, &target, salt) {
            let index = net.add_agent(config.clone(), agent);
            let seeds = vec![contact(index % HONEST), contact(0)];
            let outcome = net.run_command(index, Command::Join { seeds });
            assert!(matches!(outcome, Outcome::Joined(_)), "{outcome:?}");
            net.liars.insert(index, Lie::Eclipse);
        }
    }
    net.run_for(SETTLED);
    net
}

/// Honest nodes that hold something, and which of 20 askers find it.
fn published_and_found(net: &mut Net) -> (usize, usize) {
    let digest = net.digest(5, 1, 10, HOUR);
    net.publish_alive(5, vec![digest.publication(&[LABEL])]);
    let holding = |index: &usize| !net.nodes[*index].overlay.custody().is_empty();
    let holders = (0..HONEST).filter(|index| *index != 5).filter(holding).count();
    let found = (10..30).filter(|asker| !net.find(*asker, &[LABEL], 5).matches.is_empty()).count();
    (holders, found)
}

#[test]
fn a_crowded_key_is_stored_on_honest_custodians_and_found() {
    let mut net = attacked(&Config::default());
    let (holders, found) = published_and_found(&mut net);
    assert!(holders >= 12, "20 are expected in both regions: {holders} hold");
    assert_eq!(found, 20);
    let size = net.nodes[7].overlay.size_estimate();
    assert!((60..=400).contains(&size), "{size}: the crowd did not move the median");
}

#[test]
fn the_classic_scheme_loses_a_crowded_key() {
    let mut net = attacked(&Config { region: false, ..Config::default() });
    let (holders, found) = published_and_found(&mut net);
    assert!(holders <= 2 && found <= 2, "{holders} hold, {found} found");
}

#[test]
fn agents_left_out_by_some_custodians_are_found() {
    let mut net = Net::grown(60, false);
    net.run_for(SETTLED);
    for publisher in [5, 6] {
        let digest = net.digest(publisher, 1, 10, HOUR);
        net.publish_alive(publisher, vec![digest.publication(&[LABEL])]);
    }
    let omitted = net.agent(5);
    for index in (0..60).filter(|index| index % 3 == 0) {
        net.liars.insert(index, Lie::Omit(omitted));
    }
    let honest = (10..50).filter(|index| index % 3 != 0);
    let found: Vec<_> = honest.map(|asker| net.find(asker, &[LABEL], 5).matches.len()).collect();
    assert!(found.iter().all(|found| *found == 2), "{found:?}");
}

#[test]
fn a_custodian_that_leaves_out_what_it_acknowledged_is_shut_out_by_the_publisher() {
    let mut net = Net::grown(40, false);
    net.run_for(SETTLED);
    let omitted = net.agent(5);
    for index in (0..40).filter(|index| index % 4 == 0) {
        net.liars.insert(index, Lie::Omit(omitted));
    }
    for publisher in [5, 6] {
        let digest = net.digest(publisher, 1, 10, 24 * HOUR);
        net.publish_alive(publisher, vec![digest.publication(&[LABEL])]);
    }
    for round in 0..6 {
        for publisher in [5, 6] {
            let beat = net.digest(publisher, 0, 0, BEAT_LIFETIME_MAX);
            let beat = Item { kind: ItemKind::Beat, seq: 2 + round, ..beat };
            net.publish(publisher, vec![beat.publication(&[])]);
        }
        net.run_for(2 * HOUR);
    }
    let robbed = net.nodes[5].overlay.stats();
    assert!(robbed.quarantined >= 2, "{robbed:?}");
    // Nobody left out what the other published, so it shut nobody out, though it asked as often.
    let other = net.nodes[6].overlay.stats();
    assert!(other.audits >= 12 && other.quarantined == 0, "{other:?}");
    assert!(other.audits <= 2 * (3 + 16) + 2, "{other:?}");
    let report = net.find(5, &[LABEL], 5);
    assert_eq!(report.matches.len(), 2);
}
