//! Two stream machines over a link that loses, reorders, duplicates and delays: every byte arrives, or an error is reported.

use std::collections::BTreeMap;
use std::time::Duration;

use comity_core::Time;
use comity_pilot::packet::Flags;
use comity_pilot::stream::{Config, Failure, Outgoing, Read, Segment, Stream};
use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng as _;

/// What the link does to a segment, in parts of a thousand, and how long it takes.
#[derive(Clone, Copy, Debug)]
struct Link {
    loss: u32,
    duplicate: u32,
    reorder: u32,
    delay: Duration,
    /// Up to this much more, drawn for each segment. None: what leaves together arrives together.
    jitter: Duration,
    seed: u64,
}

const GOOD: Link = Link {
    loss: 0,
    duplicate: 0,
    reorder: 0,
    delay: Duration::from_millis(5),
    jitter: Duration::from_micros(50),
    seed: 1,
};

struct Flying {
    to: usize,
    outgoing: Outgoing,
    payload: Vec<u8>,
}

/// Two ends and the link between them; a virtual clock.
struct Pair {
    now: Time,
    ends: [Option<Stream>; 2],
    config: Config,
    link: Link,
    rng: ChaCha8Rng,
    flying: BTreeMap<(Time, u64), Flying>,
    sent: u64,
    segments: [u64; 2],
    /// Segments with these flags are dropped, whatever the link.
    dropped: Option<fn(&Outgoing) -> bool>,
}

impl Pair {
    fn new(config: Config, link: Link) -> Self {
        let now = Time::from_secs(1_800_000_000);
        Self {
            now,
            ends: [Some(Stream::connect(now, &config)), None],
            config,
            link,
            rng: ChaCha8Rng::seed_from_u64(link.seed),
            flying: BTreeMap::new(),
            sent: 0,
            segments: [0; 2],
            dropped: None,
        }
    }

    fn chance(&mut self, of_thousand: u32) -> bool {
        self.rng.next_u32() % 1000 < of_thousand
    }

    fn transmit(&mut self) {
        for from in 0..2 {
            while let Some(end) = &mut self.ends[from] {
                let Some(outgoing) = end.poll_transmit(self.now) else { break };
                let mut payload = Vec::new();
                end.payload(&outgoing, &mut payload);
                assert_eq!(payload.len(), outgoing.body.len());
                self.segments[from] += 1;
                if self.dropped.is_some_and(|dropped| dropped(&outgoing)) {
                    continue;
                }
                let copies = 1 + usize::from(self.chance(self.link.duplicate));
                for _copy in 0..copies {
                    if self.chance(self.link.loss) {
                        continue;
                    }
                    let late = if self.chance(self.link.reorder) { 3 } else { 1 };
                    let jitter = self.link.jitter * (self.rng.next_u32() % 64) / 64;
                    let at = self.now + self.link.delay * late + jitter;
                    self.sent += 1;
                    let (outgoing, payload) = (outgoing.clone(), payload.clone());
                    self.flying.insert((at, self.sent), Flying { to: 1 - from, outgoing, payload });
                }
            }
        }
    }

    /// To the next thing that happens; false when nothing will.
    fn step(&mut self) -> bool {
        self.transmit();
        let arrival = self.flying.keys().next().map(|(at, _)| *at);
        let timers = self.ends.iter().flatten().filter_map(Stream::poll_timeout).map(|(at, _)| at);
        let Some(next) = arrival.into_iter().chain(timers).min() else { return false };
        self.now = self.now.max(next);
        while let Some(entry) = self.flying.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let Flying { to, outgoing, payload } = entry.remove();
            let segment = Segment {
                flags: outgoing.flags,
                sequence: outgoing.sequence,
                acknowledgement: outgoing.acknowledgement,
                window: outgoing.window,
                payload: &payload,
            };
            match &mut self.ends[to] {
                Some(end) => end.receive(self.now, &segment),
                None if segment.flags == Flags::SYN => {
                    self.ends[to] = Some(Stream::accept(self.now, &self.config, &segment));
                }
                None => {}
            }
        }
        for end in self.ends.iter_mut().flatten() {
            end.timeout(self.now);
        }
        true
    }

    fn end(&mut self, which: usize) -> &mut Stream {
        self.ends[which].as_mut().expect("the end exists")
    }

    fn read_all(&mut self, which: usize, into: &mut Vec<u8>) -> Result<bool, Failure> {
        let now = self.now;
        let Some(end) = &mut self.ends[which] else { return Ok(false) };
        let mut buffer = [0; 8192];
        loop {
            match end.read(now, &mut buffer)? {
                Read::Data(count) => into.extend_from_slice(&buffer[..count]),
                Read::Blocked => return Ok(false),
                Read::End => return Ok(true),
            }
        }
    }
}

fn content(length: usize, salt: u8) -> Vec<u8> {
    // Text that is full of what looks like selective acknowledgements.
    let unit = b"SACK\x01garbage!SACK\x02 and so on ";
    (0..length).map(|at| unit[at % unit.len()] ^ if at % 97 == 5 { salt } else { 0 }).collect()
}

/// Sends `there` one way and `back` the other, then closes both ends; everything must arrive, or somebody must hear of an error.
fn exchange(pair: &mut Pair, there: &[u8], back: &[u8]) -> Result<(), Failure> {
    let (mut written, mut got) = ([0, 0], [Vec::new(), Vec::new()]);
    let data = [there, back];
    let mut ended = [false, false];
    for _step in 0..3_000_000 {
        let alive = pair.step();
        for which in 0..2 {
            if pair.ends[which].is_none() {
                continue;
            }
            let failure = pair.end(which).failure();
            if written[which] < data[which].len() {
                written[which] += pair.end(which).write(&data[which][written[which]..])?;
            }
            let mut bytes = std::mem::take(&mut got[which]);
            ended[which] |= pair.read_all(which, &mut bytes)?;
            got[which] = bytes;
            if let Some(failure) = failure {
                return Err(failure);
            }
        }
        let now = pair.now;
        // The opener closes once it has the answer: a close ends both directions.
        let complete = got[0].len() == back.len() && written[0] == there.len();
        if complete && got[1].len() == there.len() {
            pair.end(0).close(now);
        }
        if ended[1] || !alive {
            break;
        }
    }
    assert_eq!(got[1].len(), there.len(), "the end came before the last byte");
    assert!(got[1] == there && got[0] == back, "bytes changed on the way");
    assert!(ended[1], "the close did not arrive");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, max_shrink_iters: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_byte_arrives_or_an_error_is_reported(
        loss in 0u32..250,
        duplicate in 0u32..200,
        reorder in 0u32..300,
        delay in 0u64..80,
        seed: u64,
        there in 0usize..120_000,
        back in 0usize..60_000,
        segment in 1usize..4097,
        receive in 1usize..60_000,
        send in 256usize..60_000,
    ) {
        let delay = Duration::from_millis(delay);
        let link = Link { loss, duplicate, reorder, delay, seed, ..GOOD };
        let segment = segment.max(there / 4000);
        let config = Config { segment_bytes: segment, receive_bytes: receive, send_bytes: send };
        let mut pair = Pair::new(config, link);
        let outcome = exchange(&mut pair, &content(there, 1), &content(back, 2));
        if loss <= 20 {
            prop_assert_eq!(outcome, Ok(()));
        }
    }
}

#[test]
fn the_same_inputs_give_the_same_segments() {
    let link = Link { loss: 50, duplicate: 20, reorder: 100, seed: 9, ..GOOD };
    let run = || {
        let mut pair = Pair::new(Config::default(), link);
        exchange(&mut pair, &content(500_000, 1), &content(1000, 2)).unwrap();
        (pair.segments, pair.now)
    };
    assert_eq!(run(), run());
}

#[test]
fn fast_retransmit_works_without_a_timeout() {
    let link = Link { loss: 10, seed: 3, delay: Duration::from_millis(25), ..GOOD };
    let mut pair = Pair::new(Config::default(), link);
    exchange(&mut pair, &content(3_000_000, 1), &[]).unwrap();
    let statistics = pair.end(0).statistics();
    assert!(statistics.retransmitted > 10, "the link lost nothing: {statistics:?}");
    assert!(
        statistics.timeouts * 10 < statistics.retransmitted,
        "losses were found by timeouts: {statistics:?}"
    );
}

#[test]
fn a_closed_window_is_probed_until_it_opens() {
    let config = Config { receive_bytes: 8192, ..Config::default() };
    let mut pair = Pair::new(config, GOOD);
    let data = content(100_000, 1);
    let mut written = 0;
    // Nobody reads: the window closes, and stays closed for a minute; every update is lost on the way.
    let started = pair.now;
    while pair.now < started + Duration::from_secs(60) {
        assert!(pair.step());
        if pair.ends[1].is_some() {
            written += pair.end(0).write(&data[written..]).unwrap();
        }
    }
    assert!(pair.end(0).statistics().acknowledged <= 8192 + 4096);
    pair.dropped = Some(|outgoing| {
        outgoing.flags == Flags::ACK && outgoing.body.is_empty() && outgoing.sequence == 1
    });
    let mut got = Vec::new();
    pair.read_all(1, &mut got).unwrap();
    pair.step();
    pair.dropped = None;
    while got.len() < data.len() {
        assert!(pair.step(), "stuck at {} bytes", got.len());
        pair.read_all(1, &mut got).unwrap();
        written += pair.end(0).write(&data[written..]).unwrap();
    }
    assert!(got == data);
}

#[test]
fn after_a_close_both_ends_fall_silent() {
    let mut pair = Pair::new(Config::default(), GOOD);
    exchange(&mut pair, b"request", b"answer").unwrap();
    let before = pair.segments;
    let closed_at = pair.now;
    while pair.step() {}
    let after = pair.segments[0] + pair.segments[1] - before[0] - before[1];
    assert!(after <= 2, "{after} segments after the close");
    assert!(pair.now <= closed_at + Duration::from_secs(20));
    assert!(pair.end(0).is_closed() && pair.end(1).is_closed());
    assert_eq!((pair.end(0).failure(), pair.end(1).failure()), (None, None));
}

#[test]
fn a_daemon_that_answers_every_fin_gets_one_answer() {
    // What released daemons do: FIN+ACK to every FIN, FIN+ACK included, for ever.
    let now = Time::from_secs(1);
    let mut ours = Stream::connect(now, &Config::default());
    let segment = |flags, sequence, acknowledgement| Segment {
        flags,
        sequence,
        acknowledgement,
        window: 512,
        payload: &[],
    };
    assert_eq!(ours.poll_transmit(now).unwrap().flags, Flags::SYN);
    ours.receive(now, &segment(Flags::SYN_ACK, 0, 1));
    assert_eq!(ours.poll_transmit(now).unwrap().flags, Flags::ACK);
    ours.receive(now, &segment(Flags::FIN, 1, 0));
    let mut answers = 0;
    for _round in 0..100 {
        while let Some(outgoing) = ours.poll_transmit(now) {
            assert_eq!(outgoing.flags, Flags::FIN_ACK);
            answers += 1;
        }
        ours.receive(now, &segment(Flags::FIN_ACK, 1, 2));
        ours.receive(now, &segment(Flags::FIN, 1, 0));
    }
    assert_eq!(answers, 1);
}

#[test]
fn a_fin_does_not_overtake_data() {
    // The first data segment is lost, again and again, for three seconds: the close waits for it.
    let mut pair = Pair::new(Config::default(), GOOD);
    pair.dropped = Some(|outgoing| !outgoing.body.is_empty());
    while !pair.end(0).is_established() {
        pair.step();
    }
    pair.end(0).write(b"last words").unwrap();
    let now = pair.now;
    pair.end(0).close(now);
    let until = pair.now + Duration::from_secs(3);
    while pair.now < until {
        pair.step();
        assert!(!pair.end(1).is_over(), "the close overtook the data");
    }
    pair.dropped = None;
    let mut got = Vec::new();
    while !pair.read_all(1, &mut got).unwrap() {
        assert!(pair.step());
    }
    assert_eq!(got, b"last words");
}

#[test]
fn a_foreign_fin_that_overtakes_data_waits_or_is_an_error() {
    let now = Time::from_secs(1);
    let syn =
        Segment { flags: Flags::SYN, sequence: 0, acknowledgement: 0, window: 512, payload: &[] };
    let data = |sequence, payload| Segment {
        flags: Flags::ACK,
        sequence,
        acknowledgement: 1,
        window: 512,
        payload,
    };
    let fin = Segment { flags: Flags::FIN, sequence: 6, ..syn };
    let mut buffer = [0; 16];

    let mut late = Stream::accept(now, &Config::default(), &syn);
    late.receive(now, &fin);
    assert_eq!(late.read(now, &mut buffer), Ok(Read::Blocked));
    late.receive(now, &data(1, b"hello"));
    assert_eq!(late.read(now, &mut buffer), Ok(Read::Data(5)));
    assert_eq!(late.read(now, &mut buffer), Ok(Read::End));

    let mut never = Stream::accept(now, &Config::default(), &syn);
    never.receive(now, &fin);
    while never.poll_transmit(now).is_some() {}
    never.timeout(now + Duration::from_secs(11));
    assert_eq!(never.read(now, &mut buffer), Err(Failure::Truncated));
}

#[test]
fn data_that_looks_like_a_selective_acknowledgement_arrives() {
    let mut pair = Pair::new(Config::default(), GOOD);
    let data = b"SACK\x01garbage!".to_vec();
    exchange(&mut pair, &data, &data).unwrap();

    // No segment that leaves looks like one to a released daemon.
    let now = pair.now;
    let mut ours = Stream::connect(now, &Config::default());
    ours.poll_transmit(now);
    let answer = Segment {
        flags: Flags::SYN_ACK,
        sequence: 0,
        acknowledgement: 1,
        window: 512,
        payload: &[],
    };
    ours.receive(now, &answer);
    ours.write(&data.repeat(1000)).unwrap();
    let mut sent = Vec::new();
    while let Some(outgoing) = ours.poll_transmit(now) {
        let mut payload = Vec::new();
        ours.payload(&outgoing, &mut payload);
        assert!(!comity_pilot::stream::sack::looks_like_one(&payload));
        sent.extend(payload);
    }
    assert!(sent.len() > 1000 && data.repeat(1000).starts_with(&sent));

    // And what a released daemon sends without cutting it is taken for data here.
    let payload = &data;
    ours.receive(now, &Segment { flags: Flags::ACK, payload, sequence: 1, ..answer });
    let mut buffer = [0; 64];
    assert_eq!(ours.read(now, &mut buffer), Ok(Read::Data(data.len())));
}

#[test]
fn nobody_there_is_told_in_time() {
    let mut pair = Pair::new(Config::default(), Link { loss: 1000, ..GOOD });
    let started = pair.now;
    while pair.step() {}
    assert_eq!(pair.end(0).failure(), Some(Failure::Unreachable));
    assert!(pair.now < started + Duration::from_secs(30));
}

#[test]
fn a_peer_that_falls_silent_is_given_up() {
    let mut pair = Pair::new(Config::default(), GOOD);
    while pair.ends[1].is_none() || !pair.end(0).is_established() {
        pair.step();
    }
    pair.link.loss = 1000;
    pair.end(0).write(b"anybody?").unwrap();
    while pair.step() {}
    assert_eq!(pair.end(0).failure(), Some(Failure::TimedOut));
    assert_eq!(pair.end(1).failure(), Some(Failure::TimedOut));
}

/// What Reno carries where one segment in a hundred is lost and each is acknowledged: segment / round trip * sqrt(3 / 2p)
/// (Mathis et al. 1997, "The Macroscopic Behavior of the TCP Congestion Avoidance Algorithm").
#[test]
fn one_percent_loss_leaves_most_of_what_reno_carries() {
    let (segment_bytes, delay) = (1380, Duration::from_millis(25));
    let config = Config { segment_bytes, receive_bytes: 1 << 20, send_bytes: 2 << 20 };
    let there = vec![7; 3_000_000];
    let reno = segment_bytes as f64 / (2.0 * delay.as_secs_f64()) * (1.5f64 / 0.01).sqrt();
    for jitter in [Duration::ZERO, Duration::from_micros(50), Duration::from_millis(2)] {
        let (mut seconds, mut timeouts) = (0.0, 0);
        for seed in 1..=5 {
            let mut pair = Pair::new(config, Link { loss: 10, delay, jitter, seed, ..GOOD });
            let began = pair.now;
            exchange(&mut pair, &there, &[]).unwrap();
            seconds += pair.now.saturating_since(began).as_secs_f64();
            timeouts += pair.end(0).statistics().timeouts;
            println!(
                "{jitter:?} {:?} {:?}",
                pair.now.saturating_since(began),
                pair.end(0).statistics()
            );
        }
        let rate = 5.0 * there.len() as f64 / seconds;
        println!("{rate:.0} of {reno:.0}");
        assert!(rate >= 0.8 * reno, "{rate:.0} B/s of {reno:.0}, {timeouts} timeouts, {jitter:?}");
    }
}
