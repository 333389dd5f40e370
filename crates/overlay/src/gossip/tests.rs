use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const START: Time = Time::from_secs(1_800_000_000);

/// Members in one process; a message takes 10 to 60 ms, by who sends it to whom.
struct Net {
    now: Time,
    members: BTreeMap<u16, Group<u16>>,
    flying: BTreeMap<(Time, u64), (u16, u16, GroupMessage<u16>)>,
    sent: u64,
    heard: BTreeMap<BroadcastId, BTreeMap<u16, u32>>,
    alone: u32,
    /// Every so many-th message is lost; 0: none.
    lose: u64,
}

impl Net {
    fn new(count: u16) -> Self {
        let mut net = Self {
            now: START,
            members: BTreeMap::new(),
            flying: BTreeMap::new(),
            sent: 0,
            heard: BTreeMap::new(),
            alone: 0,
            lose: 0,
        };
        for member in 0..count {
            let seed = [u8::try_from(member % 256).unwrap(); 32];
            let mut group = Group::new(member, seed, net.now);
            if member > 0 {
                group.join(net.now, &[member / 2]);
            }
            net.members.insert(member, group);
            net.run(Duration::from_millis(50));
        }
        net.run(Duration::from_secs(60));
        net
    }

    fn drain(&mut self, member: u16) {
        while let Some(action) = self.members.get_mut(&member).and_then(Group::poll_action) {
            match action {
                GroupAction::Send { to, message } => {
                    self.sent += 1;
                    let delay = 10 + (u64::from(member) * 7 + u64::from(to) * 13) % 50;
                    let due = self.now + Duration::from_millis(delay);
                    if self.lose == 0 || !self.sent.is_multiple_of(self.lose) {
                        self.flying.insert((due, self.sent), (member, to, message));
                    }
                }
                GroupAction::Deliver { id, .. } => {
                    *self.heard.entry(id).or_default().entry(member).or_default() += 1;
                }
                GroupAction::Alone => {
                    self.alone += 1;
                    // The directory names a member that is there.
                    let (now, other) =
                        (self.now, *self.members.keys().find(|m| **m != member).unwrap());
                    self.members.get_mut(&member).unwrap().join(now, &[other]);
                }
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        let all: Vec<_> = self.members.keys().copied().collect();
        all.into_iter().for_each(|member| self.drain(member));
        loop {
            let message = self.flying.first_key_value().map(|((due, _), _)| *due);
            let timer =
                self.members.iter().filter_map(|(m, group)| Some((group.poll_timeout()?, *m)));
            let timer = timer.min();
            let next = message.into_iter().chain(timer.map(|(due, _)| due)).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = next;
            if message == Some(next) {
                let (_, (from, to, message)) = self.flying.pop_first().unwrap();
                if let Some(group) = self.members.get_mut(&to) {
                    group.receive(next, from, message, &mut |payload| !payload.starts_with(b"bad"));
                    self.drain(to);
                }
            } else if let Some((_, member)) = timer {
                self.members.get_mut(&member).unwrap().timeout(next);
                self.drain(member);
            }
        }
        self.now = end;
    }

    fn broadcast(&mut self, member: u16, text: &str) -> BroadcastId {
        let now = self.now;
        let group = self.members.get_mut(&member).unwrap();
        group.broadcast(now, text.as_bytes().to_vec()).unwrap()
    }

    /// Members besides the sender that heard it, each once.
    fn reached(&self, id: BroadcastId) -> usize {
        let heard = self.heard.get(&id);
        assert!(heard.is_none_or(|heard| heard.values().all(|times| *times == 1)), "heard twice");
        heard.map_or(0, BTreeMap::len)
    }
}

fn check_bounds(group: &Group<u16>) {
    let neighbours: Vec<_> = group.neighbours().collect();
    assert!(neighbours.len() <= NEIGHBOURS_MAX && group.others().len() <= OTHERS_MAX);
    assert!(!neighbours.contains(&group.me) && !group.others().contains(&group.me));
    assert!(group.others().iter().all(|other| !neighbours.contains(other)));
}

#[test]
fn everyone_hears_everything_once() {
    let mut net = Net::new(60);
    for round in 0..10 {
        let id = net.broadcast(round * 5, &format!("round {round}"));
        net.run(Duration::from_secs(3));
        assert_eq!(net.reached(id), 59, "round {round}");
    }
    net.members.values().for_each(check_bounds);
    let mutual = |one: u16, other: u16| net.members[&other].is_neighbour(one);
    for (member, group) in &net.members {
        assert!(group.neighbours().all(|other| mutual(*member, other)), "of {member}");
    }
}

#[test]
fn the_tree_carries_one_copy_to_each() {
    let mut net = Net::new(60);
    for round in 0..20 {
        net.broadcast(7, &format!("warm up {round}"));
        net.run(Duration::from_secs(2));
    }
    let id = net.broadcast(7, "counted");
    let mut copies = 0;
    for _ in 0..200 {
        net.run(Duration::from_millis(5));
        let whole = |message: &GroupMessage<u16>| {
            matches!(message, GroupMessage::Broadcast { .. }) && message.about() == [id]
        };
        let due = net.now + Duration::from_millis(5);
        copies += net.flying.iter().filter(|((at, _), (.., m))| *at <= due && whole(m)).count();
    }
    assert_eq!(net.reached(id), 59);
    assert!(copies <= 66, "{copies} copies for 59 members");
}

#[test]
fn what_is_lost_is_fetched() {
    let mut net = Net::new(60);
    net.lose = 10;
    let ids: Vec<_> = (0..20)
        .map(|round| {
            net.run(Duration::from_secs(2));
            net.broadcast(round, &format!("lossy {round}"))
        })
        .collect();
    net.run(Duration::from_secs(30));
    let reached: Vec<_> = ids.into_iter().map(|id| net.reached(id)).collect();
    assert_eq!(reached, [59; 20]);
}

#[test]
fn a_burst_is_named_whole() {
    let mut group = Group::new(0, [9; 32], START);
    group.receive(START, 1, GroupMessage::Join, &mut |_| true);
    group.receive(START, 1, GroupMessage::Prune { id: BroadcastId([0; 16]) }, &mut |_| true);
    while group.poll_action().is_some() {}
    // More names than one message holds, before the first of them goes out.
    let said: BTreeSet<_> = (0..3 * NEWS_MAX + 1)
        .map(|n| group.broadcast(START, format!("burst {n}").into_bytes()).unwrap())
        .collect();
    group.timeout(START + Duration::from_secs(1));
    let mut named = BTreeSet::new();
    while let Some(action) = group.poll_action() {
        if let GroupAction::Send { to: 1, message: GroupMessage::Have { news } } = action {
            assert!(news.len() <= NEWS_MAX);
            named.extend(news.into_iter().map(|(id, _)| id));
        }
    }
    assert_eq!(named, said);
}

#[test]
fn those_who_come_and_go_take_no_room() {
    let mut group = Group::new(0, [9; 32], START);
    for stranger in 1..=10_000 {
        group.receive(START, stranger, GroupMessage::Join, &mut |_| true);
        group.receive(START, stranger, GroupMessage::Part { leaves: false }, &mut |_| true);
        while group.poll_action().is_some() {}
    }
    check_bounds(&group);
    assert!(group.members.full_len() <= 2 * OTHERS_MAX, "{}", group.members.full_len());
}

#[test]
fn four_of_five_vanish_and_the_rest_hears_what_was_said_meanwhile() {
    let mut net = Net::new(200);
    net.members.retain(|member, _| member % 5 == 0);
    let id = net.broadcast(0, "into the silence");
    net.run(Duration::from_secs(30));
    assert_eq!(net.reached(id), 39);
}

#[test]
fn who_leaves_is_replaced_at_once() {
    let mut net = Net::new(60);
    let now = net.now;
    for member in 10..40 {
        net.members.get_mut(&member).unwrap().leave(now);
    }
    net.run(Duration::from_millis(100));
    net.members.retain(|member, _| !(10..40).contains(member));
    net.run(Duration::from_secs(3));
    let id = net.broadcast(0, "those who stayed");
    net.run(Duration::from_secs(3));
    assert_eq!(net.reached(id), 29);
}

#[test]
fn who_knows_nobody_that_answers_says_so() {
    let mut group = Group::new(1, [1; 32], START);
    group.join(START, &[2, 3]);
    let mut now = START;
    let mut alone = 0;
    while now < START + Duration::from_secs(8) {
        while let Some(action) = group.poll_action() {
            alone += u32::from(action == GroupAction::Alone);
        }
        now = group.poll_timeout().unwrap();
        group.timeout(now);
    }
    assert!((1..=2).contains(&alone), "{alone} times: not at every turn");
}

#[test]
fn what_fails_the_check_goes_no_further() {
    let mut net = Net::new(20);
    let id = net.broadcast(3, "bad");
    net.run(Duration::from_secs(5));
    assert_eq!(net.reached(id), 0);
    let left = net.members.iter().filter(|(_, group)| group.is_neighbour(3)).count();
    assert_eq!(left, 0, "nobody stays a neighbour of who sends it");
    let long = vec![0; PAYLOAD_MAX + 1];
    let given = long.len();
    let group = net.members.get_mut(&0).unwrap();
    assert_eq!(group.broadcast(START, long), Err(GroupError::TooLong { given }));
}

fn message() -> impl Strategy<Value = GroupMessage<u16>> {
    let peer = || 0_u16..40;
    let named = || prop::collection::vec(0_u16..200, 0..20);
    let id = || (0_u8..8).prop_map(|byte| BroadcastId::of(&[byte]));
    prop_oneof![
        Just(GroupMessage::Join),
        (peer(), any::<u8>())
            .prop_map(|(newcomer, hops)| GroupMessage::Newcomer { newcomer, hops }),
        any::<bool>().prop_map(|urgent| GroupMessage::Ask { urgent }),
        Just(GroupMessage::Accept),
        Just(GroupMessage::Refuse),
        any::<bool>().prop_map(|leaves| GroupMessage::Part { leaves }),
        (peer(), named(), any::<u8>()).prop_map(|(origin, named, hops)| GroupMessage::Shuffle {
            origin,
            named,
            hops
        }),
        named().prop_map(|named| GroupMessage::Shuffled { named }),
        (0_u8..8, any::<u8>())
            .prop_map(|(byte, hops)| GroupMessage::Broadcast { payload: Arc::new([byte]), hops }),
        prop::collection::vec((id(), any::<u8>()), 0..50)
            .prop_map(|news| GroupMessage::Have { news }),
        (id(), any::<bool>()).prop_map(|(id, send)| GroupMessage::Graft { id, send }),
        id().prop_map(|id| GroupMessage::Prune { id }),
        Just(GroupMessage::Alive),
    ]
}

proptest! {
    #[test]
    fn strangers_cannot_break_a_member(
        steps in prop::collection::vec((0_u16..40, message(), 0_u64..3_000), 0..200),
    ) {
        let run = || {
            let mut group = Group::new(0, [9; 32], START);
            group.join(START, &[1, 2, 3]);
            let (mut now, mut all) = (START, Vec::new());
            let mut delivered = BTreeMap::<BroadcastId, Vec<Time>>::new();
            for (from, message, pause) in steps.clone() {
                now += Duration::from_millis(pause);
                group.timeout(now);
                group.receive(now, from, message, &mut |payload| payload != [7]);
                check_bounds(&group);
                while let Some(action) = group.poll_action() {
                    if let GroupAction::Send { to, message } = &action {
                        assert_ne!(*to, 0, "never to itself");
                        let (GroupMessage::Shuffle { named, .. }
                        | GroupMessage::Shuffled { named }) = message
                        else {
                            continue;
                        };
                        assert!(named.len() <= NAMED_MAX);
                    }
                    if let GroupAction::Deliver { id, payload, .. } = &action {
                        assert_ne!(**payload, [7], "it fails the check");
                        delivered.entry(*id).or_default().push(now);
                    }
                    all.push(format!("{action:?}"));
                }
            }
            for times in delivered.values() {
                for pair in times.windows(2) {
                    assert!(pair[1].saturating_since(pair[0]) >= REMEMBERED_FOR);
                }
            }
            all
        };
        prop_assert_eq!(run(), run(), "equal inputs, equal actions");
    }
}
