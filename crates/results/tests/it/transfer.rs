//! Moving large answers: every piece, from whoever sends it, and always an end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use comity_core::{AgentId, Time};
use comity_results::transfer::{
    FAILURES_MAX, HOLDERS_MAX, LIMITED_MAX, Step, Transfer, WINDOW_MAX,
};
use proptest::prelude::*;

use crate::common::identity;

const START: Time = Time::from_secs(1_000);
/// Silence after which the caller of a holder gives up.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a holder behaves.
#[derive(Debug, Clone, Copy)]
enum Manner {
    /// Sends a piece in so many milliseconds, one after the other.
    Sends(u64),
    /// The same, and wrong bytes from its nth piece on.
    Lies { ms: u64, from: u32 },
    /// Every nth ask fails.
    Drops { ms: u64, every: u32 },
    /// Takes one ask at a time and calls itself busy otherwise.
    Busy(u64),
    /// Never answers.
    Silent,
    /// Is gone after so many pieces.
    Vanishes { ms: u64, after: u32 },
}

impl Manner {
    /// It sends all it is asked for, sooner or later.
    fn is_good(self) -> bool {
        match self {
            Self::Sends(_) | Self::Busy(_) => true,
            Self::Lies { .. } | Self::Drops { .. } | Self::Silent | Self::Vanishes { .. } => false,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Right,
    Wrong,
    Failed,
    Limited,
    Gone,
}

/// Holders on virtual time.
struct World {
    manners: BTreeMap<AgentId, Manner>,
    asks: BTreeMap<AgentId, u32>,
    free_at: BTreeMap<AgentId, Time>,
    under_way: BTreeSet<(Time, u64, AgentId, u32, u8)>,
    number: u64,
    sent: BTreeMap<AgentId, u32>,
}

impl World {
    fn new(manners: &[Manner]) -> (Self, Vec<AgentId>) {
        let ids: Vec<AgentId> = (1..).take(manners.len()).map(|n| identity(n).id()).collect();
        let world = Self {
            manners: ids.iter().copied().zip(manners.iter().copied()).collect(),
            asks: BTreeMap::new(),
            free_at: BTreeMap::new(),
            under_way: BTreeSet::new(),
            number: 0,
            sent: BTreeMap::new(),
        };
        (world, ids)
    }

    fn ask(&mut self, holder: AgentId, piece: u32, now: Time) {
        let under_way = self.under_way.iter().filter(|one| one.2 == holder).count();
        assert!(under_way < WINDOW_MAX, "more under way than a holder may have");
        let askers = self.under_way.iter().filter(|one| one.3 == piece).count();
        assert!(askers < 2, "more than two are asked for one piece");
        let nth = self.asks.entry(holder).or_default();
        *nth += 1;
        let nth = *nth;
        let (ms, said) = match self.manners[&holder] {
            Manner::Sends(ms) => (ms, Said::Right),
            Manner::Lies { ms, from } if nth >= from => (ms, Said::Wrong),
            Manner::Lies { ms, .. } => (ms, Said::Right),
            Manner::Drops { ms, every } if nth.is_multiple_of(every) => (ms, Said::Failed),
            Manner::Drops { ms, .. } => (ms, Said::Right),
            Manner::Busy(_) if under_way > 0 => (1, Said::Limited),
            Manner::Busy(ms) => (ms, Said::Right),
            Manner::Silent => (u64::try_from(PATIENCE.as_millis()).unwrap(), Said::Failed),
            Manner::Vanishes { ms, after } if nth > after => (ms, Said::Gone),
            Manner::Vanishes { ms, .. } => (ms, Said::Right),
        };
        let begins = match said {
            Said::Right | Said::Wrong => (*self.free_at.entry(holder).or_insert(now)).max(now),
            Said::Failed | Said::Limited | Said::Gone => now,
        };
        let ends = begins + Duration::from_millis(ms.max(1));
        if matches!(said, Said::Right | Said::Wrong) {
            self.free_at.insert(holder, ends);
        }
        self.number += 1;
        self.under_way.insert((ends, self.number, holder, piece, said as u8));
    }

    fn cancel(&mut self, holder: AgentId, piece: u32) {
        self.under_way.retain(|one| (one.2, one.3) != (holder, piece));
    }
}

/// Runs to the end. Returns when that was.
fn run(
    world: &mut World,
    transfer: &mut Transfer,
    pieces: u32,
    there: &BTreeSet<u32>,
) -> (Step, Time) {
    let mut now = START;
    let mut have = there.clone();
    let mut dropped = BTreeSet::new();
    for _ in 0..200_000 {
        match transfer.step(now) {
            Step::Ask { holder, piece } => {
                assert!(!have.contains(&piece), "asked for what is there");
                assert!(!dropped.contains(&holder), "asked whoever lied");
                world.ask(holder, piece, now);
            }
            Step::Cancel { holder, piece } => world.cancel(holder, piece),
            Step::Wait { until } => {
                let next = world.under_way.first().copied();
                match (next, until) {
                    (Some(event), until) if until.is_none_or(|until| event.0 <= until) => {
                        world.under_way.remove(&event);
                        let (at, _, holder, piece, said) = event;
                        now = at;
                        match said {
                            said if said == Said::Right as u8 => {
                                *world.sent.entry(holder).or_default() += 1;
                                assert_eq!(transfer.arrived(&holder, piece), have.insert(piece));
                            }
                            said if said == Said::Wrong as u8 => {
                                transfer.wrong(&holder, piece);
                                dropped.insert(holder);
                            }
                            said if said == Said::Failed as u8 => {
                                transfer.failed(&holder, piece, now);
                            }
                            said if said == Said::Limited as u8 => {
                                transfer.limited(&holder, piece, now);
                            }
                            _ => transfer.lost(&holder),
                        }
                    }
                    (_, Some(until)) => now = until,
                    (Some(_) | None, None) => panic!("waits for nothing"),
                }
            }
            end @ (Step::Done | Step::Stuck) => {
                assert_eq!(end == Step::Done, have == (0..pieces).collect());
                assert_eq!(transfer.missing(), usize::try_from(pieces).unwrap() - have.len());
                return (end, now);
            }
        }
    }
    panic!("no end");
}

fn transfer(pieces: u32, there: &BTreeSet<u32>, holders: &[AgentId]) -> Transfer {
    let mut transfer = Transfer::new(pieces, there, holders[0]);
    for holder in &holders[1..] {
        assert!(transfer.add(*holder));
    }
    transfer
}

fn moved(manners: &[Manner], pieces: u32) -> (Step, Duration, World, Transfer) {
    let (mut world, ids) = World::new(manners);
    let none = BTreeSet::new();
    let mut transfer = transfer(pieces, &none, &ids);
    let (end, at) = run(&mut world, &mut transfer, pieces, &none);
    (end, at.saturating_since(START), world, transfer)
}

#[test]
fn the_last_piece_of_whose_outline_it_is_comes_first() {
    let (_, ids) = World::new(&[Manner::Sends(1), Manner::Sends(1)]);
    let mut transfer = transfer(10, &BTreeSet::new(), &ids);
    assert_eq!(transfer.step(START), Step::Ask { holder: ids[0], piece: 9 });
    assert_eq!(transfer.step(START), Step::Wait { until: None });
    assert!(!transfer.is_settled());
    transfer.arrived(&ids[0], 9);
    assert!(transfer.is_settled());
    assert!(matches!(transfer.step(START), Step::Ask { piece: 0, .. }));

    // Without it, nobody's pieces mean anything.
    let mut transfer = self::transfer(10, &BTreeSet::new(), &ids);
    transfer.step(START);
    transfer.wrong(&ids[0], 9);
    assert_eq!(transfer.step(START), Step::Stuck);
    assert!(transfer.has(&ids[1]));
}

#[test]
fn two_holders_are_nearly_twice_as_fast_as_one() {
    let (end, alone, ..) = moved(&[Manner::Sends(50)], 256);
    assert_eq!((end, alone), (Step::Done, Duration::from_millis(256 * 50)));
    let (end, both, ..) = moved(&[Manner::Sends(50), Manner::Sends(50)], 256);
    assert_eq!(end, Step::Done);
    assert!(both < alone * 53 / 100, "{both:?} of {alone:?}");
}

#[test]
fn a_slow_holder_does_not_hold_up_the_others() {
    let fast = moved(&[Manner::Sends(10)], 200).1;
    let (end, with_slow, _, transfer) = moved(&[Manner::Sends(10), Manner::Sends(4_000)], 200);
    assert_eq!(end, Step::Done);
    assert!(with_slow <= fast + Duration::from_millis(40), "{with_slow:?} against {fast:?}");
    assert!(transfer.counts().asked <= 200 + 4);
    let (end, with_silent, ..) = moved(&[Manner::Sends(10), Manner::Silent], 200);
    assert_eq!(end, Step::Done);
    assert!(with_silent <= fast + Duration::from_millis(40));
}

#[test]
fn a_liar_costs_the_pieces_it_has_under_way_at_most() {
    let liar = Manner::Lies { ms: 10, from: 1 };
    let (end, _, world, transfer) = moved(&[Manner::Sends(10), liar], 100);
    assert_eq!(end, Step::Done);
    assert_eq!(transfer.counts().wrong, 1);
    assert!(world.asks[&identity(2).id()] <= 2, "its first two, asked for at once");
    let (end, _, world, transfer) = moved(&[liar, Manner::Sends(10)], 100);
    assert_eq!((end, transfer.counts().asked), (Step::Stuck, 1), "its outline is worth nothing");
    assert_eq!(world.asks.len(), 1);
}

#[test]
fn what_is_there_is_not_asked_for_again() {
    let (mut world, ids) = World::new(&[Manner::Sends(10)]);
    let there: BTreeSet<u32> = (0..150).chain([255]).collect();
    let mut transfer = transfer(256, &there, &ids);
    assert!(transfer.is_settled());
    assert_eq!(run(&mut world, &mut transfer, 256, &there).0, Step::Done);
    assert_eq!(transfer.counts().asked, 256 - 151);
    let mut whole = Transfer::new(256, &(0..256).collect(), ids[0]);
    assert_eq!(whole.step(START), Step::Done);
}

fn manner() -> impl Strategy<Value = Manner> {
    prop_oneof![
        3 => (1_u64..500).prop_map(Manner::Sends),
        1 => ((1_u64..500), (1_u32..20)).prop_map(|(ms, from)| Manner::Lies { ms, from }),
        1 => ((1_u64..500), (1_u32..6)).prop_map(|(ms, every)| Manner::Drops { ms, every }),
        1 => (1_u64..500).prop_map(Manner::Busy),
        1 => Just(Manner::Silent),
        1 => ((1_u64..500), (0_u32..20)).prop_map(|(ms, after)| Manner::Vanishes { ms, after }),
    ]
}

proptest! {
    #[test]
    fn every_transfer_ends_with_all_pieces_or_without_holders(
        manners in proptest::collection::vec(manner(), 1..=HOLDERS_MAX),
        pieces in 5_u32..80,
        there in proptest::collection::btree_set(0_u32..80, 0..40),
    ) {
        let (mut world, ids) = World::new(&manners);
        let there: BTreeSet<u32> = there.into_iter().filter(|piece| *piece < pieces).collect();
        let mut transfer = transfer(pieces, &there, &ids);
        let settled = transfer.is_settled();
        let (end, _) = run(&mut world, &mut transfer, pieces, &there);
        let good = manners.iter().any(|manner| manner.is_good());
        if good && (settled || manners[0].is_good()) {
            prop_assert_eq!(end, Step::Done);
        }
        let counts = transfer.counts();
        let missing = u64::from(pieces) - there.len() as u64;
        let holders = manners.len() as u64;
        // Each piece once, what is stolen at the end, and what each holder may fail or refuse before it is dropped.
        let again = WINDOW_MAX as u64 + u64::from(FAILURES_MAX) + 1;
        let busy = manners.iter().filter(|manner| matches!(manner, Manner::Busy(_))).count() as u64;
        let refused = busy * u64::from(LIMITED_MAX) * (missing + 1);
        prop_assert!(counts.asked <= missing * (1 + holders) + holders * again + refused);
        prop_assert!(counts.arrived <= missing);
    }

    /// Events that nobody expects - of holders never asked, pieces there are not - change nothing for the worse.
    #[test]
    fn strange_events_do_no_harm(events in proptest::collection::vec((0_u8..6, 0_u8..4, 0_u32..12), 0..200)) {
        let ids: Vec<AgentId> = (1..5).map(|number| identity(number).id()).collect();
        let mut transfer = Transfer::new(8, &BTreeSet::new(), ids[0]);
        let mut now = START;
        for (event, holder, piece) in events {
            let holder = ids[usize::from(holder)];
            match event {
                0 => drop(transfer.arrived(&holder, piece)),
                1 => transfer.wrong(&holder, piece),
                2 => drop(transfer.failed(&holder, piece, now)),
                3 => transfer.limited(&holder, piece, now),
                4 => transfer.lost(&holder),
                _ => drop(transfer.add(holder)),
            }
            now += Duration::from_millis(100);
            let mut steps = 0;
            loop {
                steps += 1;
                prop_assert!(steps < 100);
                match transfer.step(now) {
                    Step::Ask { .. } | Step::Cancel { .. } => {}
                    Step::Wait { .. } | Step::Done | Step::Stuck => break,
                }
            }
        }
    }
}
