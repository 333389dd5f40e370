//! Two custodians of a shard end up with the same, and nothing a peer says makes that endless.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use comity_capability::keys::GroupKey;
use comity_core::Time;
use comity_overlay::store::GroupName;
use comity_overlay::wire::{ElementRange, RangeHeld};
use comity_overlay::{
    Action, Command, Config, ItemKind, Overlay, Place, Request, Response, ShardId,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::fake::{Fake, Item, agent, contact};
use crate::net::{Net, START};

const LABEL: &str = "class/kept";
const MINUTE: Duration = Duration::from_secs(60);

fn config() -> Config {
    // Own items play no part, and nothing but reconciliation brings the two together.
    Config { reconcile_every: 5 * MINUTE, ..Config::default() }
}

fn shard() -> ShardId {
    ShardId::whole(GroupKey::of(LABEL))
}

/// Two nodes that know each other and hold nothing.
fn pair() -> Net {
    let mut net = Net::grown_with(&config(), 2, true);
    net.run_for(Duration::from_secs(20));
    net
}

fn group() -> Arc<GroupName> {
    Arc::new(GroupName::of(LABEL.into()))
}

fn preload(net: &mut Net, node: usize, item: &Item) {
    let place = Place::Shard { shard: shard(), index: 0 };
    // What the rules refuse is not held.
    let _refused =
        net.nodes[node].overlay.preload_custody(net.now, item.verified(), place, &group());
}

/// Everything a node holds of the shard, as it would be compared.
fn held(net: &Net, node: usize) -> Vec<(u64, u64, u64)> {
    let elements = net.nodes[node].overlay.custody().elements(net.now, &shard());
    let of = |element: &comity_overlay::store::Element<'_>| {
        (element.name, element.item.seq, element.beat_stamp())
    };
    elements.iter().map(of).collect()
}

#[derive(Clone, Debug)]
struct Holding {
    signer: usize,
    subject: u64,
    kind: ItemKind,
    seq: u64,
    age_s: u32,
    /// Bit 0: the first node has it, bit 1: the second.
    at: u8,
}

fn holding() -> impl Strategy<Value = Holding> {
    let kind = prop_oneof![
        12 => Just(ItemKind::Digest),
        3 => Just(ItemKind::Beat),
        1 => Just(ItemKind::Tombstone),
    ];
    (0_usize..120, 1_u64..4, kind, 1_u64..3, 0_u32..600, 1_u8..4).prop_map(
        |(signer, subject, kind, seq, age_s, at)| Holding { signer, subject, kind, seq, age_s, at },
    )
}

impl Holding {
    fn item(&self, now: Time) -> Item {
        let issued = Time(now.0 - u64::from(self.age_s) * 1_000_000);
        let subject = if self.kind == ItemKind::Beat { 0 } else { self.subject };
        let digest = Item::digest(agent(self.signer), subject, 7, issued, now + 60 * MINUTE);
        // One statement about one thing: no two versions with the same number.
        let issued = if self.kind == ItemKind::Beat { issued } else { START };
        Item { kind: self.kind, seq: self.seq, issued, ..digest }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn custodians_with_different_sets_become_equal(holdings in vec(holding(), 1..400)) {
        let mut net = pair();
        let now = net.now;
        // Digests first: beats are kept beside them.
        let (digests, others): (Vec<_>, Vec<_>) =
            holdings.iter().partition(|holding| holding.kind == ItemKind::Digest);
        for holding in digests.into_iter().chain(others) {
            for node in 0..2 {
                if holding.at >> node & 1 == 1 {
                    preload(&mut net, node, &holding.item(now));
                }
            }
        }
        // Both nodes begin a comparison in this time, three at the most.
        net.run_for(8 * MINUTE);
        prop_assert_eq!(held(&net, 0), held(&net, 1));
        let tombstones: BTreeMap<_, _> = net.nodes[0]
            .overlay
            .custody()
            .iter()
            .filter(|(key, _)| key.kind == ItemKind::Tombstone)
            .map(|(key, held)| ((key.signer, key.subject), held.item.seq))
            .collect();
        for (key, digest) in net.nodes[1].overlay.custody().iter().filter(|(key, _)| key.kind == ItemKind::Digest) {
            let retired = tombstones.get(&(key.signer, key.subject)).is_some_and(|seq| *seq >= digest.item.seq);
            prop_assert!(!retired, "a withdrawn digest came back");
        }
        for node in &net.nodes {
            let rows: BTreeMap<_, _> = node.overlay.export_custody().collect();
            let reported = node.rows.iter().all(|(key, row)| rows.get(key) == Some(row));
            prop_assert!(reported, "what arrived was reported for persistence");
        }
    }
}

#[test]
fn a_full_shard_is_filled_from_a_fellow() {
    let mut net = pair();
    let now = net.now;
    for signer in 0..500 {
        for subject in 1..=2 {
            let digest = Item::digest(agent(signer), subject, 1, now, now + 60 * MINUTE);
            preload(&mut net, 0, &digest);
        }
        let beat = Item::digest(agent(signer), 0, 1, now, now + 30 * MINUTE);
        preload(&mut net, 0, &Item { kind: ItemKind::Beat, ..beat });
    }
    net.run_for(12 * MINUTE);
    assert_eq!(held(&net, 0).len(), 1_000);
    assert_eq!(held(&net, 0), held(&net, 1));
    assert_eq!(net.nodes[1].overlay.custody().members(net.now, &shard()).count(), 1_000);
}

/// A node with a full shard whose neighbour answers every comparison with `answer`; how many requests it sends in an hour.
fn requests_to_liar(answer: impl Fn(&Request) -> Response) -> (usize, Overlay) {
    let mut overlay = Overlay::new(config(), contact(0), [5; 32], START);
    let mut services = Fake::default();
    overlay.preload_peers(START, [contact(1)]);
    let place = Place::Shard { shard: shard(), index: 0 };
    for signer in 0..300 {
        let digest = Item::digest(agent(signer), 1, 1, START, START + 600 * MINUTE);
        overlay.preload_custody(START, digest.verified(), place, &group()).unwrap();
    }
    let (mut now, mut asked) = (START, 0);
    while now < START + 60 * MINUTE {
        while let Some(action) = overlay.poll_action() {
            if let Action::Send { id, request, .. } = action {
                let compares = matches!(
                    request,
                    Request::Compare { .. } | Request::Reconcile(_) | Request::Store { .. }
                );
                asked += usize::from(compares);
                let response = if compares { answer(&request) } else { Response::Pong };
                overlay.response(now, &mut services, &agent(1), id, response);
            }
        }
        let (due, _) = overlay.poll_timeout().unwrap();
        now = now.max(due);
        overlay.timeout(now);
    }
    (asked, overlay)
}

#[test]
fn a_liar_cannot_make_it_spin() {
    let everything = |request: &Request| match request {
        Request::Compare { sets } => {
            Response::Differ { at: (0..u16::try_from(sets.len()).unwrap()).collect() }
        }
        Request::Reconcile(asked) => {
            let differing = |range: &ElementRange| ElementRange {
                held: RangeHeld::Sum(0xbad),
                ..range.clone()
            };
            let ranges = asked.ranges.iter().map(differing).collect();
            // Garbage, and an item of another shard's group.
            let items = vec![
                vec![1, 2, 3].into(),
                Item {
                    kind: ItemKind::Peer,
                    ..Item::digest(agent(9), 0, 9, START, START + MINUTE)
                }
                .seal(),
            ];
            Response::Reconciled { ranges, items, wants: (0..1_000).collect() }
        }
        _ => Response::Done,
    };
    let (asked, overlay) = requests_to_liar(everything);
    assert!((10..=13 * 30).contains(&asked), "{asked} requests in an hour");
    assert_eq!(overlay.custody().len(), 300, "nothing that does not verify is taken");
    // Who answers with something else is asked no more in that session.
    let (asked, _) = requests_to_liar(|_| Response::Pong);
    assert!(asked <= 14, "{asked} requests in an hour");
    // Places that were not named are ignored.
    let (asked, _) = requests_to_liar(|request| match request {
        Request::Compare { .. } => Response::Differ { at: vec![0, 7, 300] },
        _ => Response::Reconciled { ranges: Vec::new(), items: Vec::new(), wants: Vec::new() },
    });
    assert!(asked <= 2 * 14, "{asked} requests in an hour");
}

#[test]
fn a_newcomer_gets_its_share_without_waiting() {
    let mut net = pair();
    let now = net.now;
    for signer in 0..40 {
        let digest = Item::digest(agent(signer), 1, 1, now, now + 60 * MINUTE);
        preload(&mut net, 0, &digest);
        preload(&mut net, 1, &digest);
    }
    let late = net.add(config());
    net.run_command(late, Command::Join { seeds: vec![contact(0)] });
    net.run_for(Duration::from_secs(30));
    assert_eq!(held(&net, late).len(), 40);
}
