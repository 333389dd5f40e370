use comity_capability::keys::GroupKey;

use super::*;

const SHARDS: u8 = 126;

fn group() -> ShardId {
    ShardId::whole(GroupKey::of("class/large"))
}

/// All shards of the first six levels below the group, as one custodian names them.
fn views() -> Vec<LeafView> {
    let of_depth = |depth: u8| {
        (0..1_u32 << depth).map(move |at| LeafView {
            depth,
            prefix: (at << (32 - u32::from(depth))).to_be_bytes(),
            count: 1,
            may_match: true,
            custodians: Vec::new(),
        })
    };
    (1..=6).flat_map(of_depth).collect()
}

fn ranked(leaves: Leaves) -> Vec<Promising> {
    leaves.ranked(6, Region::expected(10, 1_000), |_| false)
}

#[test]
fn what_two_custodians_name_is_asked_and_of_one_alone_no_more_than_a_bound() {
    let mut leaves = Leaves::default();
    leaves.hear(&group(), &views());
    assert_eq!(ranked(leaves).len(), LEAVES_ALONE_MAX);

    let mut leaves = Leaves::default();
    leaves.hear(&group(), &views());
    leaves.hear(&group(), &views());
    assert_eq!(ranked(leaves).len(), usize::from(SHARDS));
}

#[test]
fn a_liar_takes_no_room_from_what_others_name() {
    let mut leaves = Leaves::default();
    let (true_ones, made_up): (Vec<_>, Vec<_>) =
        views().into_iter().partition(|view| view.depth <= 3);
    leaves.hear(&group(), &made_up);
    leaves.hear(&group(), &true_ones);
    leaves.hear(&group(), &true_ones);
    let asked = ranked(leaves);
    let (first, rest) = asked.split_at(true_ones.len());
    assert!(first.iter().all(|promising| promising.shard.depth <= 3));
    assert!(rest.len() <= LEAVES_ALONE_MAX && rest.iter().all(|made| made.shard.depth > 3));
}
