//! Groups too large for one shard: where members go, who finds them, and the way back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use comity_capability::keys::GroupKey;
use comity_overlay::wire::{ErrorCode, Report};
use comity_overlay::{
    Action, Command, Config, ItemKey, ItemKind, Outcome, Overlay, QueryStep, ReplyToken, Request,
    Response, ShardId,
};

use crate::fake::{Fake, Item, contact};
use crate::net::{Net, START};

const NODES: usize = 64;
const DIGESTS: u64 = 6;
/// Members of one shard.
const FULL: usize = 48;
const LABEL: &str = "class/large";
const DAY: Duration = Duration::from_secs(86_400);
const MINUTE: Duration = Duration::from_secs(60);

fn config() -> Config {
    Config {
        shard_digests: FULL,
        report_every: MINUTE,
        republish_max: 10 * MINUTE,
        ..Config::default()
    }
}

/// A network in which every node publishes so many digests under one label that they fill many shards.
fn crowded(liars: &[usize]) -> Net {
    let mut net = Net::grown_with(&config(), NODES, false);
    net.run_for(6 * MINUTE);
    net.splitters = liars.iter().map(|liar| (*liar, 3)).collect();
    for index in 0..NODES {
        publish(&mut net, index);
    }
    net
}

fn publish(net: &mut Net, index: usize) {
    let value = |subject| index as u64 * DIGESTS + subject - 1;
    let digests = (1..=DIGESTS)
        .map(|subject| net.digest(index, subject, value(subject), DAY).publication(&[LABEL]));
    let digests = digests.collect();
    let report = net.publish_alive(index, digests);
    assert!(
        report.items.iter().all(|item| item.places_held == 2 && item.holders >= 8),
        "{report:?}"
    );
}

/// In which shards each digest is shown, and by how many nodes.
fn shown(net: &Net) -> BTreeMap<ItemKey, BTreeMap<ShardId, usize>> {
    let mut shown: BTreeMap<ItemKey, BTreeMap<ShardId, usize>> = BTreeMap::new();
    for node in net.nodes.iter().filter(|node| node.alive) {
        let custody = node.overlay.custody();
        for (shard, _) in custody.shards() {
            for member in custody.members(net.now, &shard) {
                *shown.entry(member.digest.key()).or_default().entry(shard).or_default() += 1;
            }
        }
    }
    shown
}

fn assert_all_found(net: &mut Net, asker: usize, publishers: impl Iterator<Item = usize>) {
    for publisher in publishers {
        let first = publisher as u64 * DIGESTS;
        let found = net.find_between(asker, LABEL, first..=first + DIGESTS - 1);
        assert_eq!(found.matches.len(), usize::try_from(DIGESTS).unwrap(), "of {publisher}");
    }
}

#[test]
fn a_large_group_fills_many_shards_and_shrinks_again() {
    let mut net = crowded(&[]);
    net.run_for(MINUTE);
    let shards = shown(&net);
    assert_eq!(shards.len(), NODES * usize::try_from(DIGESTS).unwrap(), "all are kept");
    assert!(
        shards.values().all(|shards| shards.values().copied().max() >= Some(8)),
        "by many custodians each"
    );
    let sizes = net.nodes.iter().flat_map(|node| node.overlay.custody().shards());
    let all: BTreeSet<_> = sizes
        .map(|(shard, digests)| {
            assert!(digests <= FULL, "{digests} in {shard:?}");
            shard
        })
        .collect();
    assert!(all.len() >= 8, "{} shards", all.len());
    assert!(all.iter().any(|shard| shard.depth >= 2));
    assert_all_found(&mut net, 5, (0..NODES).step_by(7));
    // Whoever has enough is told that there may be more: what he found may have gone.
    let ask = |net: &mut Net, want| {
        let keys = vec![GroupKey::of(LABEL)];
        net.query(6, vec![QueryStep { keys, complete: false }], 0, want)
    };
    let (some, all_of_it) = (ask(&mut net, FULL + 2), ask(&mut net, 0));
    assert!(some.unasked && some.matches.len() < shards.len(), "{} found", some.matches.len());
    assert!(!all_of_it.unasked);

    // A newcomer is found at once though it goes to a deep shard.
    let late = net.add(config());
    net.run_command(late, Command::Join { seeds: vec![contact(0)] });
    publish(&mut net, late);
    net.run_for(Duration::from_secs(3));
    assert_all_found(&mut net, 9, [late].into_iter());

    for index in 4..=late {
        let digest = net.digest(index, 0, 0, DAY);
        let tombstone = Item { kind: ItemKind::Tombstone, ..digest };
        let retire = Command::Retire { tombstones: vec![tombstone.publication(&[])] };
        assert!(matches!(net.run_command(index, retire), Outcome::Retired(_)));
    }
    let left = shown(&net);
    assert_eq!(left.len(), 4 * usize::try_from(DIGESTS).unwrap(), "withdrawn everywhere at once");
    assert_all_found(&mut net, 9, 0..4);
    // The others come back to the top, and are found all the time.
    for _ in 0..9 {
        net.run_for(10 * MINUTE);
        assert_all_found(&mut net, 9, 0..4);
    }
    let whole = ShardId::whole(GroupKey::of(LABEL));
    assert!(shown(&net).values().all(|shards| shards.contains_key(&whole)));
}

#[test]
fn those_who_lie_about_splits_lose_nobody() {
    // A fifth of all nodes.
    let liars: Vec<_> = (0..NODES).step_by(5).collect();
    let mut net = Net::grown_with(&config(), NODES, false);
    net.run_for(6 * MINUTE);
    net.splitters = liars.iter().map(|liar| (*liar, 3)).collect();
    for index in 0..5 {
        publish(&mut net, index);
    }
    net.run_for(Duration::from_secs(3));
    assert_all_found(&mut net, 13, 0..5);
    net.run_for(40 * MINUTE);
    assert_all_found(&mut net, 13, 0..5);
    let deepest = net.nodes.iter().flat_map(|node| node.overlay.custody().shards());
    assert!(deepest.map(|(shard, _)| shard.depth).max() <= Some(3));
}

fn ask(overlay: &mut Overlay, from: usize, request: Request) -> Response {
    overlay.request(START, &mut Fake::default(), &contact(from), ReplyToken(1), request);
    let replies = std::iter::from_fn(|| overlay.poll_action()).filter_map(|action| match action {
        Action::Reply { response, .. } => Some(response),
        _ => None,
    });
    let mut replies: Vec<_> = replies.collect();
    assert_eq!(replies.len(), 1);
    replies.remove(0)
}

#[test]
fn reports_are_checked() {
    let mut overlay = Overlay::new(config(), contact(0), [1; 32], START);
    let leaf = ShardId::of(GroupKey::of(LABEL), 2, &contact(1).agent);
    let report = |zone: Option<&[u8]>| {
        let zone = zone.map(Into::into);
        Request::Report(Report { shard: leaf, placement: 0, count: 3, zone })
    };
    assert_eq!(ask(&mut overlay, 1, report(None)), Response::Done);
    let invalid = Response::Error(ErrorCode::Invalid);
    assert_eq!(ask(&mut overlay, 1, report(Some(b"no zone map"))), invalid);
    // In a large network one node cannot report what it cannot keep.
    overlay.preload_size(START, 1_000_000);
    overlay.preload_peers(START, (2..120).map(contact));
    let refused = (1..60).filter(|from| ask(&mut overlay, *from, report(None)) == invalid).count();
    assert!(refused > 50, "{refused} of 59 refused");
}
