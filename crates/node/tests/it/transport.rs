//! Links and exchanges over real sockets on loopback.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

use std::net::UdpSocket;
use std::time::Duration;

use bytes::Bytes;
use comity::audit::Audit;
use comity::rpc::RpcLimits;
use comity::transport::{
    BindError, ConnectError, EXCHANGE_BYTES_MAX, ExchangeError, ExchangeOptions, IncomingExchange,
    KeyExchange, Limits, Protocol, StreamCode, Transport, TransportConfig,
};
use comity_core::AgentId;
use futures_util::future::join_all;
use tokio::sync::mpsc;

use crate::rpc_support::{
    Bare, Peer, Scripted, bare, identity, loopback, parks_at_once, start_with, until_live,
};

async fn node(limits: Limits) -> Peer {
    start_with(identity(), loopback(), limits, RpcLimits::default(), Scripted::default()).await
}

/// A node that answers each exchange with the request, its bytes reversed; the requests are told on the channel.
async fn mirror(limits: Limits) -> (Peer, mpsc::Receiver<(AgentId, bool)>) {
    let mut peer = node(limits).await;
    let (told, tell) = mpsc::channel(1024);
    let (_, closed) = mpsc::channel(1);
    let mut exchanges = std::mem::replace(&mut peer.exchanges, closed);
    tokio::spawn(async move {
        while let Some(IncomingExchange { peer, bytes, early, reply, .. }) = exchanges.recv().await
        {
            let _ = told.send((peer, early)).await;
            reply.send(bytes.iter().rev().copied().collect());
        }
    });
    (peer, tell)
}

#[tokio::test]
async fn an_exchange_names_its_sender_and_the_link_serves_both_directions() {
    let (a, _) = mirror(Limits::default()).await;
    let (b, mut told) = mirror(Limits::default()).await;
    let answer = a.transport.exchange(b.id, &b.addrs, Bytes::from_static(b"abc")).await.unwrap();
    assert_eq!(&answer[..], b"cba");
    assert_eq!(told.recv().await.unwrap(), (a.id, false));
    // No addresses: only the link that A opened can carry this.
    let answer = b.transport.exchange(a.id, &[], Bytes::from_static(b"xy")).await.unwrap();
    assert_eq!(&answer[..], b"yx");
    assert_eq!(a.transport.counts().borrow().established_total, 1);
    assert_eq!(b.transport.counts().borrow().established_total, 1);
}

#[tokio::test]
async fn messages_of_any_size_up_to_the_limit_pass() {
    let (a, _) = mirror(Limits::default()).await;
    let (b, _told) = mirror(Limits::default()).await;
    for size in [0, 1, 1_200, EXCHANGE_BYTES_MAX] {
        let answer = a.transport.exchange(b.id, &b.addrs, vec![7; size].into()).await.unwrap();
        assert_eq!(answer.len(), size);
    }
    let error = a
        .transport
        .exchange(b.id, &b.addrs, vec![7; EXCHANGE_BYTES_MAX + 1].into())
        .await
        .unwrap_err();
    assert_eq!(
        error,
        ExchangeError::RequestTooLarge { bytes: EXCHANGE_BYTES_MAX + 1, limit: EXCHANGE_BYTES_MAX }
    );
}

#[tokio::test]
async fn concurrent_exchanges_share_one_dial() {
    let (a, _) = mirror(Limits::default()).await;
    let (b, _told) = mirror(Limits::default()).await;
    let answers = join_all(
        (0..50_u8).map(|n| a.transport.exchange(b.id, &b.addrs, Bytes::copy_from_slice(&[n]))),
    )
    .await;
    assert!(
        answers.into_iter().enumerate().all(|(n, answer)| usize::from(answer.unwrap()[0]) == n)
    );
    assert_eq!(b.transport.counts().borrow().established_total, 1);
}

#[tokio::test]
async fn another_key_at_the_address_is_refused() {
    let a = node(Limits::default()).await;
    let b = node(Limits::default()).await;
    let wanted = identity().id();
    let error = a.transport.exchange(wanted, &b.addrs, Bytes::new()).await.unwrap_err();
    assert_eq!(
        error,
        ExchangeError::Connect(ConnectError::WrongKey { expected: wanted, addrs: b.addrs })
    );
}

#[tokio::test]
async fn an_unreachable_peer_is_not_dialled_again_at_once_except_elsewhere() {
    let a = node(Limits {
        dial_timeout: Duration::from_millis(200),
        redial_backoff_min: Duration::from_secs(60),
        ..Limits::default()
    })
    .await;
    let (b, _told) = mirror(Limits::default()).await;
    let silent = UdpSocket::bind(loopback()).unwrap();
    let dead = vec![silent.local_addr().unwrap()];
    let error = a.transport.exchange(b.id, &dead, Bytes::new()).await.unwrap_err();
    let expected = ExchangeError::Connect(ConnectError::Unreachable {
        peer: b.id,
        addrs: dead.clone(),
        waited: Duration::from_millis(200),
    });
    assert_eq!(error, expected);
    // What arrived at the silent socket so far is read away; the refusal that follows must add nothing to it.
    silent.set_nonblocking(true).unwrap();
    let mut packet = [0; 2048];
    while silent.recv(&mut packet).is_ok() {}
    assert_eq!(a.transport.exchange(b.id, &dead, Bytes::new()).await.unwrap_err(), expected);
    a.transport.exchange(b.id, &b.addrs, Bytes::new()).await.unwrap();
}

#[tokio::test]
async fn an_early_request_to_a_vanished_peer_is_unreachable_too() {
    let a = node(Limits { dial_timeout: Duration::from_millis(300), ..parks_at_once() }).await;
    let (b, mut told) = mirror(Limits::default()).await;
    a.transport.exchange(b.id, &b.addrs, Bytes::new()).await.unwrap();
    told.recv().await.unwrap();
    until_live(&a, 0).await;
    b.transport.close().await;
    let options = ExchangeOptions { repeatable: true, ..ExchangeOptions::default() };
    let error = a.transport.exchange_with(b.id, &[], Bytes::new(), options).await.unwrap_err();
    assert!(
        matches!(
            error,
            ExchangeError::Connect(
                ConnectError::Unreachable { .. } | ConnectError::RefusedByPeer { .. }
            )
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn the_named_errors_of_bind_and_reach() {
    let a = node(Limits::default()).await;
    let config = TransportConfig {
        identity: identity(),
        listen: a.addrs.clone(),
        limits: Limits::default(),
        key_exchange: KeyExchange::default(),
        audit: Audit::default(),
    };
    match Transport::bind(config).await {
        Err(BindError::AddressInUse(addr)) => assert_eq!(addr, a.addrs[0]),
        other => panic!("{other:?}"),
    }
    let config = TransportConfig {
        identity: identity(),
        listen: vec![],
        limits: Limits::default(),
        key_exchange: KeyExchange::default(),
        audit: Audit::default(),
    };
    assert!(matches!(Transport::bind(config).await, Err(BindError::NoListenAddress)));
    let config = TransportConfig {
        identity: identity(),
        listen: vec!["192.0.2.1:0".parse().unwrap()],
        limits: Limits::default(),
        key_exchange: KeyExchange::default(),
        audit: Audit::default(),
    };
    assert!(matches!(Transport::bind(config).await, Err(BindError::Address { .. })));
    assert_eq!(
        a.transport.exchange(a.id, &a.addrs, Bytes::new()).await,
        Err(ConnectError::Myself.into())
    );
    let peer = identity().id();
    assert_eq!(
        a.transport.exchange(peer, &[], Bytes::new()).await,
        Err(ConnectError::NoAddress { peer }.into())
    );
    a.transport.close().await;
    assert_eq!(
        a.transport.exchange(peer, &[], Bytes::new()).await,
        Err(ConnectError::Closed.into())
    );
}

#[tokio::test]
async fn several_listen_addresses_of_one_family_are_bound() {
    let config = TransportConfig {
        identity: identity(),
        listen: vec![loopback(), "127.0.0.2:0".parse().unwrap()],
        limits: Limits::default(),
        key_exchange: KeyExchange::default(),
        audit: Audit::default(),
    };
    let (transport, _incoming) = Transport::bind(config).await.unwrap();
    let addrs = transport.local_addrs();
    assert_eq!(addrs.len(), 2);
    let (b, _told) = mirror(Limits::default()).await;
    for addr in addrs {
        let c = node(Limits::default()).await;
        let error = c
            .transport
            .exchange_with(
                transport.id(),
                &[addr],
                Bytes::new(),
                ExchangeOptions { timeout: Some(Duration::from_millis(500)), repeatable: false },
            )
            .await;
        // Nobody answers there, but the link came about.
        assert!(matches!(error, Err(ExchangeError::TimedOut { .. })), "{error:?}");
    }
    transport.exchange(b.id, &b.addrs, Bytes::new()).await.unwrap();
}

#[tokio::test]
async fn the_owner_may_decline_and_may_be_overwhelmed() {
    let a = node(Limits::default()).await;
    let mut b = node(Limits { exchanges_queued_max: 1, ..Limits::default() }).await;
    let asking = a.transport.exchange(b.id, &b.addrs, Bytes::new());
    let ((), answer) =
        tokio::join!(async { drop(b.exchanges.recv().await.unwrap().reply) }, asking);
    assert_eq!(answer, Err(ExchangeError::Declined { peer: b.id, code: StreamCode::NoAnswer }));
    // Nobody takes from the queue of one, so whichever of two requests comes second finds it full.
    let first = a.transport.exchange(b.id, &b.addrs, Bytes::new());
    let second = a.transport.exchange(b.id, &b.addrs, Bytes::new());
    let answer = tokio::select! { answer = first => answer, answer = second => answer };
    assert_eq!(answer, Err(ExchangeError::Declined { peer: b.id, code: StreamCode::Busy }));
    b.exchanges.recv().await.unwrap().reply.send(Bytes::new());
    let asking = a.transport.exchange(b.id, &b.addrs, Bytes::new());
    let ((), answer) = tokio::join!(
        async {
            b.exchanges.recv().await.unwrap().reply.send(vec![0; EXCHANGE_BYTES_MAX + 1].into())
        },
        asking
    );
    assert_eq!(answer, Err(ExchangeError::Declined { peer: b.id, code: StreamCode::TooLarge }));
}

#[tokio::test]
async fn hostile_input_is_cut_off_and_harms_nobody_else() {
    let (b, _told) =
        mirror(Limits { exchange_timeout: Duration::from_millis(300), ..Limits::default() }).await;
    let noise = UdpSocket::bind(loopback()).unwrap();
    for length in [0, 1, 20, 1_200] {
        noise.send_to(&vec![0xc3; length], b.addrs[0]).unwrap();
    }
    let evil = Bare::dial(&b, Protocol::Overlay.alpn()).await;
    // Too long: stopped before it is all sent, or reset instead of answered.
    let (mut send, mut recv) = evil.send(&vec![0; EXCHANGE_BYTES_MAX + 1]).await;
    let _ = send.finish();
    assert_eq!(reset_code(&mut recv).await, StreamCode::TooLarge);
    // Never finished.
    let (_send, mut recv) = evil.send(b"half").await;
    assert_eq!(reset_code(&mut recv).await, StreamCode::TimedOut);
    // Reset in the middle.
    let (mut send, mut recv) = evil.send(b"half").await;
    send.reset(99_u32.into()).unwrap();
    assert_eq!(reset_code(&mut recv).await, StreamCode::Cancelled);
    let (a, _) = mirror(Limits::default()).await;
    assert_eq!(
        &a.transport.exchange(b.id, &b.addrs, Bytes::from_static(b"ok")).await.unwrap()[..],
        b"ko"
    );
    assert!(evil.conn.close_reason().is_none());
    drop(evil.endpoint);
}

async fn reset_code(recv: &mut iroh::endpoint::RecvStream) -> StreamCode {
    match recv.read_to_end(1024).await {
        Err(iroh::endpoint::ReadToEndError::Read(iroh::endpoint::ReadError::Reset(code))) => {
            StreamCode::from_number(code.into_inner())
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_peer_that_answers_too_much_is_named() {
    let identity = identity();
    let evil = bare(&identity, Protocol::Overlay.alpn()).await;
    let addrs = evil.bound_sockets();
    tokio::spawn(async move {
        let conn = evil.accept().await.unwrap().await.unwrap();
        let (mut send, mut recv) = conn.accept_bi().await.unwrap();
        recv.read_to_end(1024).await.unwrap();
        let _ = send.write_all(&vec![0; EXCHANGE_BYTES_MAX + 1]).await;
        let _ = send.finish();
        conn.closed().await;
    });
    let a = node(Limits::default()).await;
    let error = a.transport.exchange(identity.id(), &addrs, Bytes::new()).await.unwrap_err();
    assert_eq!(
        error,
        ExchangeError::AnswerTooLarge { peer: identity.id(), limit: EXCHANGE_BYTES_MAX }
    );
    a.transport.close().await;
}

#[tokio::test]
async fn a_peer_of_another_protocol_refuses() {
    let identity = identity();
    let other = bare(&identity, b"something/else").await;
    tokio::spawn({
        let other = other.clone();
        async move {
            while let Some(incoming) = other.accept().await {
                let _ = incoming.await;
            }
        }
    });
    let a = node(Limits::default()).await;
    let error = a
        .transport
        .exchange(identity.id(), &other.bound_sockets(), Bytes::new())
        .await
        .unwrap_err();
    assert!(
        matches!(error, ExchangeError::Connect(ConnectError::RefusedByPeer { .. })),
        "{error:?}"
    );
}

#[tokio::test]
async fn two_that_dial_each_other_at_once_end_with_the_same_link() {
    let limits = parks_at_once();
    let (a, _told_a) = mirror(limits.clone()).await;
    let (b, _told_b) = mirror(limits).await;
    a.transport.keep_warm([b.id]);
    b.transport.keep_warm([a.id]);
    // Both dials begin before either has sent a packet.
    let (x, y) = tokio::join!(
        a.transport.exchange(b.id, &b.addrs, Bytes::from_static(b"ab")),
        b.transport.exchange(a.id, &a.addrs, Bytes::from_static(b"ab"))
    );
    assert_eq!((&x.unwrap()[..], &y.unwrap()[..]), (&b"ba"[..], &b"ba"[..]));
    for peer in [&a, &b] {
        peer.transport
            .counts()
            .wait_for(|counts| counts.established_total == 2 && counts.live == 1)
            .await
            .unwrap();
    }
    for _ in 0..3 {
        a.transport.exchange(b.id, &[], Bytes::new()).await.unwrap();
        b.transport.exchange(a.id, &[], Bytes::new()).await.unwrap();
    }
    assert_eq!(a.transport.counts().borrow().established_total, 2);
    assert_eq!(b.transport.counts().borrow().established_total, 2);
}

#[tokio::test]
async fn a_parked_peer_is_reached_again_in_early_data_if_the_request_may_be_repeated() {
    let a = node(parks_at_once()).await;
    let (b, mut told) = mirror(Limits::default()).await;
    let repeatable = ExchangeOptions { repeatable: true, ..ExchangeOptions::default() };
    for (options, early, early_total) in [
        (repeatable, false, 0),
        (repeatable, true, 1),
        (ExchangeOptions::default(), false, 1),
        (repeatable, true, 2),
    ] {
        let addrs =
            if a.transport.counts().borrow().established_total == 0 { &b.addrs[..] } else { &[] };
        assert_eq!(
            &a.transport
                .exchange_with(b.id, addrs, Bytes::from_static(b"ab"), options)
                .await
                .unwrap()[..],
            b"ba"
        );
        let (peer, seen_early) = told.recv().await.unwrap();
        // On a busy machine the handshake may be complete before the request is looked at; then it is no longer early.
        assert!(peer == a.id && (early || !seen_early));
        until_live(&a, 0).await;
        until_live(&b, 0).await;
        assert_eq!(a.transport.counts().borrow().early_total, early_total);
    }
    assert_eq!(a.transport.counts().borrow().parked_total, 4);
}

#[tokio::test]
async fn the_idlest_link_makes_room() {
    let a = node(Limits { links_max: 2, ..Limits::default() }).await;
    let mut mirrors = Vec::new();
    for _ in 0..3 {
        let (peer, told) = mirror(Limits::default()).await;
        a.transport.exchange(peer.id, &peer.addrs, Bytes::new()).await.unwrap();
        mirrors.push((peer, told));
    }
    assert_eq!(a.transport.counts().borrow().live, 2);
    assert_eq!(a.transport.counts().borrow().evicted_total, 1);
    assert!(!a.transport.is_linked(&mirrors[0].0.id, Protocol::Overlay));
    until_live(&mirrors[0].0, 0).await;
}

#[tokio::test]
async fn a_source_that_shakes_hands_too_often_is_refused() {
    let (b, _told) = mirror(Limits {
        handshakes_per_source_per_s: 0,
        handshakes_burst_max: 2,
        ..Limits::default()
    })
    .await;
    for allowed in [true, true, false] {
        let a = node(Limits::default()).await;
        let result = a.transport.exchange(b.id, &b.addrs, Bytes::new()).await;
        match result {
            Ok(_) => assert!(allowed),
            Err(ExchangeError::Connect(ConnectError::RefusedByPeer { peer, .. })) => {
                assert!(!allowed && peer == b.id)
            }
            other => panic!("{other:?}"),
        }
    }
}
