//! Custody rules against a naive model: random offers, time passing, sweeps.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use comity_capability::keys::GroupKey;
use comity_core::Time;
use comity_overlay::store::{Custody, element_state};
use comity_overlay::{
    BEAT_GRACE, CustodyChange, CustodyRow, ITEMS_PER_PREFIX_MAX, ITEMS_PER_PUBLISHER_MAX, IpPrefix,
    ItemKey, ItemKind, Place, Reject, SHARD_DIGESTS_MAX, SHARD_PER_PREFIX_DIVISOR, ShardId,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::fake::{Item, agent};
use crate::net::START;

const MINUTE: Duration = Duration::from_secs(60);

fn place(group: u8) -> Place {
    Place::Shard { shard: ShardId::whole(GroupKey([group; 32])), index: 0 }
}

#[derive(Clone, Debug)]
enum Op {
    Offer {
        signer: usize,
        kind: ItemKind,
        subject: u64,
        seq: u64,
        life_min: u32,
        value: u64,
        group: u8,
    },
    Pass(u32),
    Sweep,
}

fn op() -> impl Strategy<Value = Op> {
    let kind = prop_oneof![4 => Just(ItemKind::Digest), 2 => Just(ItemKind::Veiled), 1 => Just(ItemKind::Beat), 1 => Just(ItemKind::Tombstone), 1 => Just(ItemKind::Peer)];
    let offer = (0_usize..3, kind, 0_u64..3, 1_u64..5, 0_u32..60, 0_u64..2, 0_u8..3);
    prop_oneof![
        10 => offer.prop_map(|(signer, kind, subject, seq, life_min, value, group)| {
            Op::Offer { signer, kind, subject, seq, life_min, value, group }
        }),
        2 => (1_u32..20).prop_map(Op::Pass),
        1 => Just(Op::Sweep),
    ]
}

fn label(shard: &ShardId) -> String {
    format!("label/{}", shard.group.0[0])
}

/// What is held: the item and its shards.
type Model = BTreeMap<ItemKey, (Item, BTreeSet<ShardId>)>;

/// The rules, spelled out without indexes. `None`: accepted.
fn model_offer(model: &mut Model, now: Time, item: Item, place: Place) -> Option<Reject> {
    let key = item.verified().key();
    if item.expires <= now || item.expires <= item.issued {
        return Some(Reject::Expired);
    }
    let proper = match item.kind {
        ItemKind::Digest | ItemKind::Veiled => key.subject.is_some(),
        ItemKind::Beat | ItemKind::Peer => key.subject.is_none(),
        ItemKind::Tombstone => true,
    };
    if !proper || (item.kind == ItemKind::Peer) != (place == Place::Peer) {
        return Some(Reject::Malformed);
    }
    let covers = |tombstone: &ItemKey, digest: &ItemKey| {
        tombstone.signer == digest.signer
            && (tombstone.subject.is_none() || tombstone.subject == digest.subject)
    };
    let is_retired = |(held, (tombstone, _)): (&ItemKey, &(Item, BTreeSet<ShardId>))| {
        held.kind == ItemKind::Tombstone
            && covers(held, &key)
            && tombstone.seq >= item.seq
            && tombstone.expires > now
    };
    if item.kind.is_entry() && model.iter().any(is_retired) {
        return Some(Reject::Stale);
    }
    if item.kind == ItemKind::Beat
        && !model.keys().any(|held| held.signer == key.signer && held.kind == ItemKind::Digest)
    {
        return Some(Reject::Orphan);
    }
    let mut shards = BTreeSet::new();
    if let Some((held, kept)) = model.get(&key) {
        let later_beat =
            item.kind == ItemKind::Beat && held.seq == item.seq && item.issued != held.issued;
        let newer = item.seq > held.seq || (later_beat && item.issued > held.issued);
        match () {
            () if item.seq < held.seq || (later_beat && item.issued < held.issued) => {
                return Some(Reject::Stale);
            }
            () if !newer && held.seal() != item.seal() => return Some(Reject::Conflict),
            () if !newer => shards.clone_from(kept),
            () => {}
        }
    }
    if item.kind == ItemKind::Tombstone {
        model.retain(|held, (digest, _)| {
            !held.kind.is_entry() || !covers(&key, held) || digest.seq > item.seq
        });
        drop_orphans(model);
    }
    if let (ItemKind::Digest | ItemKind::Veiled | ItemKind::Tombstone, Place::Shard { shard, .. }) =
        (item.kind, place)
    {
        shards.insert(shard);
    }
    model.insert(key, (item, shards));
    None
}

/// Whether a digest is shown: it lives, and so does a beat, or it is new.
fn is_shown(model: &Model, now: Time, item: &Item) -> bool {
    let beats = model.iter().any(|(key, (beat, _))| {
        key.kind == ItemKind::Beat && key.signer == item.signer && beat.expires > now
    });
    let alive = beats || now.saturating_since(item.issued) < BEAT_GRACE;
    item.expires > now
        && (item.kind == ItemKind::Veiled || (item.kind == ItemKind::Digest && alive))
}

fn drop_orphans(model: &mut Model) {
    let publishers: BTreeSet<_> =
        model.keys().filter(|key| key.kind == ItemKind::Digest).map(|key| key.signer).collect();
    model.retain(|key, _| key.kind != ItemKind::Beat || publishers.contains(&key.signer));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_the_model(ops in vec(op(), 1..120)) {
        let mut custody = Custody::new(1 << 20, SHARD_DIGESTS_MAX);
        let mut model = Model::new();
        let mut persisted: BTreeMap<ItemKey, CustodyRow> = BTreeMap::new();
        let mut now = START;
        for op in ops {
            let mut changes = Vec::new();
            match op {
                Op::Offer { signer, kind, subject, seq, life_min, value, group } => {
                    let subject = if kind == ItemKind::Peer { 0 } else { subject };
                    let item = Item { kind, signer: agent(signer), subject, seq, issued: now, expires: now + MINUTE * life_min, value };
                    let place = if kind == ItemKind::Peer { Place::Peer } else { place(group) };
                    let label = if let Place::Shard { shard, .. } = place { label(&shard) } else { String::new() };
                    let got = custody.offer(now, item.verified(), place, &label, None, &mut changes).err();
                    prop_assert_eq!(got, model_offer(&mut model, now, item, place));
                }
                Op::Pass(minutes) => now += MINUTE * minutes,
                Op::Sweep => {
                    custody.sweep(now, &mut changes);
                    model.retain(|_, (item, _)| item.expires > now);
                    drop_orphans(&mut model);
                }
            }
            for change in changes {
                match change {
                    CustodyChange::Put { key, row } => {
                        persisted.insert(key, row);
                    }
                    CustodyChange::Remove { key } => {
                        prop_assert!(persisted.remove(&key).is_some(), "removed what was not there");
                    }
                }
            }
            let expected: BTreeMap<_, _> = model
                .iter()
                .map(|(key, (item, shards))| (*key, CustodyRow { bytes: item.seal(), shards: shards.iter().copied().collect(), labels: shards.iter().map(|shard| if item.kind.is_entry() { label(shard).into() } else { "".into() }).collect() }))
                .collect();
            prop_assert_eq!(custody.rows().collect::<BTreeMap<_, _>>(), expected);
            prop_assert_eq!(&custody.rows().collect::<BTreeMap<_, _>>(), &persisted);
            for group in 0..3 {
                let shard = ShardId::whole(GroupKey([group; 32]));
                let live = model.values().filter(|(item, shards)| shards.contains(&shard) && is_shown(&model, now, item)).count();
                prop_assert_eq!(custody.members(now, &shard).count(), live);
                prop_assert_eq!(fingerprint(&custody, &shard), anew(&custody, &shard));
            }
        }
        custody.sweep(Time::MAX, &mut Vec::new());
        prop_assert!(custody.is_empty());
        prop_assert_eq!(custody.bytes(), 0);
        prop_assert_eq!(custody.shards().count(), 0);
    }
}

/// The fingerprint that is kept up to date with every change.
fn fingerprint(custody: &Custody, shard: &ShardId) -> u64 {
    custody.fingerprints().find(|(id, _)| id == shard).map_or(0, |(_, sum)| sum)
}

/// The same from nothing but the elements, those that have expired and wait for the sweep included.
fn anew(custody: &Custody, shard: &ShardId) -> u64 {
    let elements = custody.elements(Time::ZERO, shard);
    let states = elements
        .iter()
        .map(|element| element_state(element.name, element.item.seq, element.beat_stamp()));
    states.fold(0, u64::wrapping_add)
}

fn digest(signer: usize, subject: u64) -> Item {
    Item::digest(agent(signer), subject, 0, START, START + MINUTE)
}

fn offer(custody: &mut Custody, item: &Item, prefix: Option<IpPrefix>) -> Result<(), Reject> {
    custody.offer(START, item.verified(), place(1), "label/1", prefix, &mut Vec::new())
}

#[test]
fn a_publisher_has_a_quota() {
    let mut custody = Custody::new(1 << 20, SHARD_DIGESTS_MAX);
    for subject in 1..=ITEMS_PER_PUBLISHER_MAX as u64 {
        offer(&mut custody, &digest(1, subject), None).unwrap();
    }
    assert_eq!(offer(&mut custody, &digest(1, 1_000), None), Err(Reject::Quota));
    assert_eq!(
        offer(&mut custody, &Item { seq: 2, ..digest(1, 1) }, None),
        Ok(()),
        "replacing is not adding"
    );
    assert_eq!(offer(&mut custody, &digest(2, 1), None), Ok(()), "others are not affected");
}

#[test]
fn a_network_prefix_has_a_quota() {
    let mut custody = Custody::new(1 << 30, SHARD_DIGESTS_MAX);
    let prefix = Some(IpPrefix::V4([192, 0, 2]));
    let mut stored = 0;
    for signer in 0..18 {
        for subject in 1..=60 {
            // Over several shards, whose own cap is not meant here.
            let place = place(u8::try_from(signer).unwrap());
            stored += usize::from(
                custody
                    .offer(
                        START,
                        digest(signer, subject).verified(),
                        place,
                        "",
                        prefix,
                        &mut Vec::new(),
                    )
                    .is_ok(),
            );
        }
    }
    assert_eq!(stored, ITEMS_PER_PREFIX_MAX);
    assert_eq!(offer(&mut custody, &digest(20, 1), Some(IpPrefix::V4([192, 0, 3]))), Ok(()));
}

#[test]
fn a_network_prefix_fills_a_share_of_a_shard() {
    let mut custody = Custody::new(1 << 30, SHARD_DIGESTS_MAX);
    let crowd = Some(IpPrefix::V4([192, 0, 2]));
    let all = (0..6).flat_map(|signer| (1..=60).map(move |subject| digest(signer, subject)));
    let stored: Vec<_> = all.filter(|item| offer(&mut custody, item, crowd).is_ok()).collect();
    assert_eq!(stored.len(), SHARD_DIGESTS_MAX / SHARD_PER_PREFIX_DIVISOR);
    let newer = Item { seq: 2, ..stored[0] };
    assert_eq!(offer(&mut custody, &newer, crowd), Ok(()), "replacing is not adding");
    assert_eq!(offer(&mut custody, &digest(7, 1), Some(IpPrefix::V4([192, 0, 3]))), Ok(()));
    let elsewhere = digest(8, 1).verified();
    let kept = custody.offer(START, elsewhere, place(2), "label/2", crowd, &mut Vec::new());
    assert_eq!(kept, Ok(()), "another shard has a share of its own");
}

#[test]
fn a_shard_and_the_whole_have_a_cap() {
    let mut custody = Custody::new(1 << 30, SHARD_DIGESTS_MAX);
    let mut stored = 0;
    for signer in 0..18 {
        for subject in 1..=60 {
            stored += usize::from(offer(&mut custody, &digest(signer, subject), None).is_ok());
        }
    }
    assert_eq!(stored, SHARD_DIGESTS_MAX);
    let mut small = Custody::new(1_000, SHARD_DIGESTS_MAX);
    assert_eq!(offer(&mut small, &digest(1, 1), None), Ok(()));
    assert_eq!(offer(&mut small, &digest(1, 2), None), Ok(()));
    assert_eq!(offer(&mut small, &digest(1, 3), None), Err(Reject::Quota));
}

#[test]
fn a_full_shard_takes_a_new_digest_for_one_whose_publisher_fell_silent() {
    let mut custody = Custody::new(1 << 30, SHARD_DIGESTS_MAX);
    let shard = ShardId::whole(GroupKey([1; 32]));
    let full = (0..18).flat_map(|signer| (1..=60).map(move |subject| (signer, subject)));
    for (signer, subject) in full.take(SHARD_DIGESTS_MAX) {
        let item = Item { expires: START + MINUTE * 60, ..digest(signer, subject) };
        offer(&mut custody, &item, None).unwrap();
        let beat = Item { kind: ItemKind::Beat, subject: 0, ..item };
        let life = if signer == 7 { MINUTE } else { MINUTE * 30 };
        offer(&mut custody, &Item { expires: START + life, ..beat }, None).unwrap();
    }
    let late = START + MINUTE * 10;
    let newcomer = Item { issued: late, expires: late + MINUTE, ..digest(20, 1) };
    let key = newcomer.verified().key();
    assert!(!custody.has_room(START, &shard, &key), "all are shown");
    assert!(custody.has_room(late, &shard, &key), "a publisher fell silent");
    let mut changes = Vec::new();
    custody.offer(late, newcomer.verified(), place(1), "label/1", None, &mut changes).unwrap();
    let [CustodyChange::Remove { key }, CustodyChange::Put { .. }] = &changes[..] else {
        panic!("{changes:?}")
    };
    assert_eq!(key.signer, agent(7));
    assert_eq!(custody.digests(&shard), SHARD_DIGESTS_MAX);
    assert_eq!(custody.label(&shard).map(|label| &**label), Some("label/1"));
}

#[test]
fn set_hashes_tell_holdings_apart() {
    let shard = ShardId::whole(GroupKey([1; 32]));
    let (mut a, mut b) =
        (Custody::new(1 << 20, SHARD_DIGESTS_MAX), Custody::new(1 << 20, SHARD_DIGESTS_MAX));
    for subject in [1, 2, 3] {
        offer(&mut a, &digest(1, subject), None).unwrap();
        offer(&mut b, &digest(1, 4 - subject), None).unwrap();
    }
    assert_eq!(a.set_hash(START, &shard), b.set_hash(START, &shard));
    offer(&mut b, &Item { seq: 2, ..digest(1, 2) }, None).unwrap();
    assert_ne!(a.set_hash(START, &shard), b.set_hash(START, &shard));
}

#[test]
fn a_custody_built_in_one_go_is_the_one_built_item_by_item() {
    use comity_overlay::store::GroupName;
    use comity_overlay::{Config, Contact, Overlay};
    use std::sync::Arc;

    let empty = || {
        let me = Contact::server(agent(0), comity_core::OverlayId([0; 32]), Vec::new());
        Overlay::new(Config::default(), me, [0; 32], START)
    };
    let group = Arc::new(GroupName::of(Arc::from("label")));
    let beat = |signer| Item { kind: ItemKind::Beat, subject: 0, ..digest(signer, 0) };
    let offers: Vec<_> = (1..80)
        .flat_map(|n| (0..2).map(move |group| (digest(1 + n % 4, 1 + n as u64 / 8), place(group))))
        .chain([(beat(2), place(0)), (beat(2), place(1))])
        .chain([(beat(9), place(0))])
        .collect();
    let (mut one_by_one, mut at_once) = (empty(), empty());
    let (mut stored, mut refused) = (0, 0);
    for (item, place) in &offers {
        match one_by_one.preload_custody(START, item.verified(), *place, &group) {
            Ok(()) => stored += 1,
            Err(_) => refused += 1,
        }
    }
    let offers = offers.iter().map(|(item, place)| (item.verified(), *place, &group));
    let offers: Vec<_> = offers.collect();
    assert_eq!(at_once.preload_whole_custody(START, offers.into_iter()), (stored, refused));
    assert!(stored > 100 && refused > 0, "{stored} stored, {refused} refused");
    let rows = |overlay: &Overlay| overlay.export_custody().collect::<Vec<_>>();
    assert_eq!(rows(&at_once), rows(&one_by_one));
    let sums = |overlay: &Overlay| overlay.custody().fingerprints().collect::<Vec<_>>();
    assert_eq!(sums(&at_once), sums(&one_by_one));
    assert_eq!(at_once.custody().bytes(), one_by_one.custody().bytes());
}
