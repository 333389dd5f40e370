//! Nodes that mean well: dialling, relaying, roaming, restarting, refusing strangers.

use std::time::Duration;

use comity_pilot::engine::{Access, Action, CONNECTIONS_PER_PEER_MAX};
use comity_pilot::session::Path;
use comity_pilot::stream::Failure;

use crate::net::{Net, at, port_of};

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + at / 251) as u8).collect()
}

#[test]
fn two_nodes_exchange_a_megabyte_each_way() {
    let mut net = Net::new(2);
    net.node(2).listen(1001, Access::Trusted).unwrap();
    let (here, there) = net.connect(1, 2, 1001);
    let data = pattern(1 << 20);
    assert!(net.carry((1, here), (2, there), &data).unwrap() == data);
    assert!(net.carry((2, there), (1, here), &data).unwrap() == data);
    assert!(net.seen.iter().all(|(_, _, bytes)| !bytes.starts_with(b"PILT")), "in the clear");
}

#[test]
fn where_no_direct_way_is_the_relay_is_taken() {
    let mut net = Net::new(2);
    net.blocked =
        |(from, to, _)| from.ip() != to.ip() && ![*from, *to].contains(&crate::net::beacon());
    net.node(2).listen(7, Access::Trusted).unwrap();
    let (here, there) = net.connect(1, 2, 7);
    assert_eq!(net.node(1).peers()[0].path, Some(Path::Relay));
    let data = pattern(300_000);
    assert!(net.carry((1, here), (2, there), &data).unwrap() == data);
    // The way opens: the direct one is taken up by itself when the relay falls silent.
    net.blocked = |(from, to, _)| [*from, *to].contains(&crate::net::beacon());
    assert!(net.carry((1, here), (2, there), &data).unwrap() == data);
    assert_eq!(net.node(1).peers()[0].path, Some(Path::Direct(at(2))));
}

#[test]
fn a_direct_way_that_closes_is_replaced_by_the_relay() {
    let mut net = Net::new(2);
    net.node(2).listen(7, Access::Trusted).unwrap();
    let (here, there) = net.connect(1, 2, 7);
    net.carry((1, here), (2, there), &pattern(10_000)).unwrap();
    net.blocked =
        |(from, to, _)| from.ip() != to.ip() && ![*from, *to].contains(&crate::net::beacon());
    let data = pattern(50_000);
    assert!(net.carry((1, here), (2, there), &data).unwrap() == data);
    assert_eq!(net.node(2).peers()[0].path, Some(Path::Relay));
}

#[test]
fn a_peer_that_restarted_is_spoken_to_again() {
    let mut net = Net::new(2);
    net.node(2).listen(7, Access::Trusted).unwrap();
    let (here, _) = net.connect(1, 2, 7);
    net.restart(2);
    net.node(2).listen(7, Access::Trusted).unwrap();
    let now = net.now;
    // The first words make the tunnel anew, and tell that the connection is gone.
    net.node(1).write(here, b"still there?").unwrap();
    net.run(Duration::from_secs(20));
    let mut buffer = [0; 16];
    let now = now.max(net.now);
    assert_eq!(net.node(1).read(now, here, &mut buffer), Err(Failure::Reset));
    net.actions.clear();
    let (again, there) = net.connect(1, 2, 7);
    assert_eq!(net.carry((1, again), (2, there), b"hello").unwrap(), b"hello");
}

#[test]
fn strangers_reach_nothing_but_what_is_open_to_anyone() {
    let mut net = Net::new(2);
    net.node(2).set_trusted([].into());
    net.node(2).listen(7, Access::Trusted).unwrap();
    net.node(2).listen(444, Access::Anyone).unwrap();
    let (open, there) = net.connect(1, 2, 444);
    assert_eq!(net.carry((1, open), (2, there), b"{}").unwrap(), b"{}");
    let now = net.now;
    for port in [7, 8] {
        let id = net.node(1).connect(now, port_of(2, port)).unwrap();
        net.run(Duration::from_secs(30));
        let stream = net.node(1).stream(id).unwrap();
        assert_eq!(stream.failure(), Some(Failure::Unreachable), "silence on port {port}");
    }
    assert!(net.node(2).dropped().untrusted > 0);
}

#[test]
fn a_trusted_peer_hears_at_once_that_nobody_listens() {
    let mut net = Net::new(2);
    let now = net.now;
    let id = net.node(1).connect(now, port_of(2, 9)).unwrap();
    net.wait(1, |action| *action == Action::Readable(id)).unwrap();
    assert_eq!(net.node(1).stream(id).unwrap().failure(), Some(Failure::Reset));
    assert!(net.now < now + Duration::from_secs(1));
}

#[test]
fn who_was_dialled_may_answer_on_a_connection_of_its_own() {
    let mut net = Net::new(2);
    net.node(1).set_trusted([].into());
    net.node(1).listen(1001, Access::Trusted).unwrap();
    net.node(2).listen(1001, Access::Trusted).unwrap();
    net.connect(1, 2, 1001);
    net.connect(2, 1, 1001);
}

#[test]
fn pings_and_datagrams() {
    let mut net = Net::new(2);
    let now = net.now;
    net.node(1).ping(now, 2);
    let pong = net.wait(1, |action| matches!(action, Action::Pong { node: 2, .. }));
    assert!(pong.is_some());
    let now = net.now;
    net.node(1).send_datagram(now, 5001, port_of(2, 5000), b"dgram");
    let got = net.wait(2, |action| matches!(action, Action::Datagram { .. })).unwrap();
    let expected = Action::Datagram { from: port_of(1, 5001), port: 5000, data: b"dgram".to_vec() };
    assert_eq!(got, expected);
}

#[test]
fn connections_of_one_peer_are_bounded() {
    let mut net = Net::new(2);
    net.node(2).listen(7, Access::Trusted).unwrap();
    for _connection in 0..CONNECTIONS_PER_PEER_MAX + 10 {
        let now = net.now;
        net.node(1).connect(now, port_of(2, 7)).unwrap();
        net.run(Duration::from_millis(200));
    }
    assert_eq!(net.node(2).peers()[0].connections, CONNECTIONS_PER_PEER_MAX);
}

#[test]
fn idle_nodes_keep_quiet() {
    let mut net = Net::new(2);
    net.node(2).listen(7, Access::Trusted).unwrap();
    net.connect(1, 2, 7);
    net.run(Duration::from_secs(5));
    let before = net.seen.len();
    net.run(Duration::from_secs(60));
    let datagrams = net.seen.len() - before;
    assert!((2..=40).contains(&datagrams), "{datagrams} datagrams in an idle minute");
    assert_eq!(net.node(1).peers()[0].connections, 1);
}

#[test]
fn a_first_contact_takes_three_round_trips() {
    let ways: [fn(&crate::net::Datagram) -> bool; 2] = [
        |_datagram| false,
        |(from, to, _)| from.ip() != to.ip() && ![*from, *to].contains(&crate::net::beacon()),
    ];
    for (way, hops) in ways.into_iter().zip([1, 2]) {
        let mut net = Net::new(2);
        net.blocked = way;
        net.without_endpoints = hops == 2;
        net.node(2).listen(7, Access::Trusted).unwrap();
        let began = net.now;
        let now = net.now;
        let id = net.node(1).connect(now, port_of(2, 7)).unwrap();
        net.wait(1, |action| *action == Action::Connected(id)).unwrap();
        let took = net.now.saturating_since(began);
        assert!(took <= net.delay * 6 * hops, "{took:?} with {hops} hops of {:?}", net.delay);
    }
}
