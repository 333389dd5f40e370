//! Calls between two nodes: answers, receipts, streams, limits, cancelling, early data.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use comity::rpc::{
    CallError, CallFailure, CallRequest, Distrust, ErrorCode, Hello, IncomingCall, Reply, RpcLimits,
};
use comity::transport::{ConnectError, Limits};
use comity_capability::record::GroupSecret;
use comity_core::{Canonical, Hash};
use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt as _};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::rpc_support::{
    Peer, Scripted, ask, cbor, identity, loopback, offer, parks_at_once, start, start_with, text,
    until_live,
};

async fn pair(handler: Scripted) -> (Peer, Peer) {
    (start(Scripted::default()).await, start(handler).await)
}

#[tokio::test]
async fn a_call_is_answered_with_a_receipt_that_verifies_offline() {
    let (a, b) = pair(Scripted::echo()).await;
    let question = json!({ "pair": "EUR/USD", "from": 2021, "rate": 1.5 });
    let answer = a.rpc.call(b.id, &b.addrs, ask("echo", &question)).await.unwrap();
    assert_eq!(answer.values().unwrap(), std::slice::from_ref(&question));
    let bytes = Canonical::encode(&answer.receipt);
    let verified = <comity_core::receipt::SignedReceipt as Canonical>::decode(&bytes)
        .unwrap()
        .verify()
        .unwrap()
        .receipt;
    assert_eq!((verified.caller, verified.callee), (a.id, b.id));
    assert_eq!(
        (verified.request, verified.response),
        (Hash::of(&cbor(&question)), Hash::of(&answer.body))
    );
    let stated = offer("echo", true);
    assert_eq!(
        (verified.name, verified.capability, verified.interface, verified.data_version),
        (stated.name, stated.descriptor, stated.interface, stated.data_version)
    );
    assert_eq!(verified.valid_until_ms, verified.finished_ms + 60_000);
    assert!(verified.started_ms <= verified.finished_ms);
}

#[tokio::test]
async fn many_calls_share_one_link_one_after_the_other_and_at_once() {
    let (a, b) = pair(Scripted::echo()).await;
    let mut numbers = Vec::new();
    for n in 0..1000 {
        let answer = a.rpc.call(b.id, &b.addrs, ask("echo", &json!(n))).await.unwrap();
        assert_eq!(answer.values().unwrap(), [json!(n)]);
        numbers.push(answer.receipt.receipt.number);
    }
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]));
    for round in 0..10 {
        let answers =
            join_all((0..64).map(|n| a.rpc.call(b.id, &[], ask("echo", &json!([round, n]))))).await;
        for (n, answer) in answers.into_iter().enumerate() {
            assert_eq!(answer.unwrap().values().unwrap(), [json!([round, n])]);
        }
    }
    assert_eq!(b.transport.counts().borrow().established_total, 1);
}

#[tokio::test]
async fn a_link_the_peer_opened_carries_our_calls() {
    let a = start(Scripted::echo()).await;
    let b = start(Scripted::echo()).await;
    a.rpc.call(b.id, &b.addrs, ask("echo", &json!(1))).await.unwrap();
    b.rpc.call(a.id, &[], ask("echo", &json!(2))).await.unwrap();
}

#[tokio::test]
async fn requests_and_answers_of_all_sizes_pass_whole() {
    let (a, b) = pair(Scripted::echo().with("big", true, |call| {
        Box::pin(async move {
            Ok(Reply::One(text(usize::try_from(call.json().unwrap().as_u64().unwrap()).unwrap())))
        })
    }))
    .await;
    for size in [1_000, 16_384, 65_530, 65_536, 300_000, 1_000_000] {
        let body = text(size);
        let answer =
            a.rpc.call(b.id, &b.addrs, CallRequest::new("echo", body.clone())).await.unwrap();
        assert_eq!(answer.body, body);
        assert_eq!(answer.items().count(), 1);
    }
    let answer = a.rpc.call(b.id, &b.addrs, ask("big", &json!(5_000_000))).await.unwrap();
    assert_eq!(answer.body, text(5_000_000));
    let long = CallRequest::new("echo", text(1 << 20));
    assert!(matches!(
        a.rpc.call(b.id, &b.addrs, long).await,
        Err(CallError::RequestTooLarge { .. })
    ));
}

fn counting(items: usize, size: usize) -> Scripted {
    Scripted::echo().with("stream", true, move |_| {
        let items = stream::iter((0..items).map(move |n| Ok(cbor(&json!([n, "x".repeat(size)])))));
        Box::pin(async move { Ok(Reply::Stream(items.boxed())) })
    })
}

#[tokio::test]
async fn ten_megabytes_stream_and_verify() {
    let (a, b) = pair(counting(1_000, 10_000)).await;
    let answer = a.rpc.call(b.id, &b.addrs, ask("stream", &json!(null))).await.unwrap();
    assert!(answer.body.len() > 10_000_000);
    assert_eq!(answer.ends.len(), 1_000);
    assert!(answer.values().unwrap().iter().enumerate().all(|(n, value)| value[0] == json!(n)));
    assert_eq!(answer.receipt.receipt.response, Hash::of(&answer.body));
}

#[tokio::test]
async fn a_stream_may_be_empty_and_its_items_long() {
    let (a, b) = pair(counting(0, 0)).await;
    let answer = a.rpc.call(b.id, &b.addrs, ask("stream", &json!(null))).await.unwrap();
    assert_eq!((answer.body.len(), answer.ends.len()), (0, 0));
    let (a, b) = pair(counting(3, 200_000)).await;
    let answer = a.rpc.call(b.id, &b.addrs, ask("stream", &json!(null))).await.unwrap();
    assert_eq!(answer.items().map(|item| item.len()).collect::<Vec<_>>(), vec![200_007; 3]);
}

#[tokio::test]
async fn items_arrive_while_the_answer_is_still_being_made() {
    let (make, made) = mpsc::channel::<Bytes>(1);
    let made = Arc::new(std::sync::Mutex::new(Some(made)));
    let (a, b) = pair(Scripted::default().with("live", true, move |_| {
        let made = made.lock().unwrap().take().unwrap();
        let items = stream::unfold(made, |mut made| async move {
            made.recv().await.map(|item| (Ok(item), made))
        });
        Box::pin(async move { Ok(Reply::Stream(items.boxed())) })
    }))
    .await;
    let mut answer = a.rpc.open(b.id, &b.addrs, ask("live", &json!(null))).await.unwrap();
    for n in 0..5 {
        make.send(cbor(&json!(n))).await.unwrap();
        assert_eq!(answer.next().await.unwrap(), Some(cbor(&json!(n))));
    }
    make.send(cbor(&json!("untaken"))).await.unwrap();
    drop(make);
    let finished = answer.finish().await.unwrap();
    assert_eq!(finished.receipt.receipt.response, Hash::of(b"\x00\x01\x02\x03\x04\x67untaken"));
}

/// A handler that says when it began, when it was cancelled, and with which deadline.
fn hanging() -> (Scripted, mpsc::Receiver<Duration>, mpsc::Receiver<()>) {
    let (began, begins) = mpsc::channel(16);
    let (cancelled, cancels) = mpsc::channel(16);
    let handler = Scripted::echo().with("hang", false, move |call: IncomingCall| {
        let (began, cancelled) = (began.clone(), cancelled.clone());
        Box::pin(async move {
            began.send(call.deadline).await.unwrap();
            call.cancel.cancelled().await;
            cancelled.send(()).await.unwrap();
            Err(CallFailure::new(ErrorCode::Internal, "nobody hears this"))
        })
    });
    (handler, begins, cancels)
}

#[tokio::test]
async fn dropping_a_call_cancels_its_handler_and_spares_the_others() {
    let (handler, mut begins, mut cancels) = hanging();
    let (a, b) = pair(handler).await;
    let call = a.rpc.call(b.id, &b.addrs, ask("hang", &json!(null)));
    tokio::select! {
        answer = call => panic!("{answer:?}"),
        began = begins.recv() => assert!(began.is_some()),
    }
    cancels.recv().await.unwrap();
    a.rpc.call(b.id, &b.addrs, ask("echo", &json!(1))).await.unwrap();
    assert_eq!(b.transport.counts().borrow().established_total, 1);
}

#[tokio::test]
async fn dropping_a_stream_ends_its_source() {
    let dropped = CancellationToken::new();
    let guard = dropped.clone();
    let (a, b) = pair(Scripted::default().with("endless", true, move |_| {
        let guard = guard.clone().drop_guard();
        let items = stream::repeat_with(move || {
            let _ = &guard;
            Ok(text(1_000))
        });
        Box::pin(async move { Ok(Reply::Stream(items.boxed())) })
    }))
    .await;
    let mut answer = a.rpc.open(b.id, &b.addrs, ask("endless", &json!(null))).await.unwrap();
    assert_eq!(answer.next().await.unwrap(), Some(text(1_000)));
    drop(answer);
    dropped.cancelled().await;
}

#[tokio::test]
async fn the_handler_is_cancelled_when_the_callers_machine_vanishes() {
    let (handler, mut begins, mut cancels) = hanging();
    let limits = Limits { silence_max: Duration::from_millis(900), ..Limits::default() };
    let b = start_with(identity(), loopback(), limits, RpcLimits::default(), handler).await;
    let (id, addrs) = (b.id, b.addrs.clone());
    let (began, begun) = std::sync::mpsc::channel::<()>();
    // A runtime of its own that ends with its tasks unfinished: nothing is said to the peer.
    let machine = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        runtime.spawn(async move {
            let a = start(Scripted::default()).await;
            a.rpc.call(id, &addrs, ask("hang", &json!(null))).await
        });
        begun.recv().unwrap();
        runtime.shutdown_background();
    });
    begins.recv().await.unwrap();
    began.send(()).unwrap();
    cancels.recv().await.unwrap();
    machine.join().unwrap();
}

#[tokio::test]
async fn the_deadline_holds_at_both_ends() {
    let (handler, mut begins, mut cancels) = hanging();
    let (a, b) = pair(handler).await;
    let waited = Duration::from_millis(150);
    let error =
        a.rpc.call(b.id, &b.addrs, ask("hang", &json!(null)).deadline(waited)).await.unwrap_err();
    assert_eq!(error, CallError::TimedOut { peer: b.id, waited });
    assert!(begins.recv().await.unwrap() <= waited);
    cancels.recv().await.unwrap();
}

#[tokio::test]
async fn failures_are_named() {
    let (a, b) = pair(
        Scripted::echo()
            .with("deny", true, |_| {
                Box::pin(async { Err(CallFailure::new(ErrorCode::Denied, "ask for a grant")) })
            })
            .with("panic", true, |_| Box::pin(async { panic!("in the handler") }))
            .with("panic-early", true, |_| panic!("before the future"))
            .with("fails-late", true, |_| {
                let items = stream::iter([
                    Ok(text(10)),
                    Err(CallFailure::new(ErrorCode::SpecialistFailed, "x".repeat(2_000))),
                ]);
                Box::pin(async move { Ok(Reply::Stream(items.boxed())) })
            }),
    )
    .await;
    for (capability, expected, message) in [
        ("nothing", ErrorCode::NotFound, "`nothing`"),
        ("deny", ErrorCode::Denied, "ask for a grant"),
        ("panic", ErrorCode::Internal, "abnormally"),
        ("panic-early", ErrorCode::Internal, "abnormally"),
        ("fails-late", ErrorCode::SpecialistFailed, "xxx"),
    ] {
        match a.rpc.call(b.id, &b.addrs, ask(capability, &json!(null))).await {
            Err(CallError::Failed { peer, code, message: said }) => {
                assert_eq!((peer, code), (b.id, expected));
                assert!(said.contains(message) && said.len() <= 512, "{said}");
            }
            other => panic!("{capability}: {other:?}"),
        }
    }
    for request in [
        CallRequest { descriptor: Some(Hash([9; 32])), ..ask("echo", &json!(1)) },
        CallRequest {
            interface: Some(comity_core::Sha256Digest([9; 32])),
            ..ask("echo", &json!(1))
        },
    ] {
        assert!(matches!(
            a.rpc.call(b.id, &b.addrs, request).await,
            Err(CallError::Failed { code: ErrorCode::NotFound, .. })
        ));
    }
    let stated = offer("echo", true);
    let exact = CallRequest {
        descriptor: Some(stated.descriptor),
        interface: Some(stated.interface),
        ..ask("echo", &json!(1))
    };
    a.rpc.call(b.id, &b.addrs, exact).await.unwrap();
    // Not canonical: a number spelled long.
    let spelled_long = CallRequest::new("echo", Bytes::from_static(&[0x18, 0x01]));
    assert!(matches!(
        a.rpc.call(b.id, &b.addrs, spelled_long).await,
        Err(CallError::Failed { code: ErrorCode::InvalidInput, .. })
    ));
    assert_eq!(b.transport.counts().borrow().established_total, 1);
}

#[tokio::test]
async fn answers_are_bounded_at_both_ends() {
    let limits = RpcLimits { stream_bytes_max: 100_000, ..RpcLimits::default() };
    let a = start(Scripted::default()).await;
    let b =
        start_with(identity(), loopback(), Limits::default(), limits, counting(100, 10_000)).await;
    let error = a.rpc.call(b.id, &b.addrs, ask("stream", &json!(null))).await.unwrap_err();
    assert!(matches!(error, CallError::Failed { code: ErrorCode::TooLarge, .. }), "{error:?}");
    let modest = CallRequest { answer_bytes_max: Some(50_000), ..ask("stream", &json!(null)) };
    let error = a.rpc.call(b.id, &b.addrs, modest).await.unwrap_err();
    assert_eq!(error, CallError::AnswerTooLarge { peer: b.id, limit: 50_000 });
}

#[tokio::test]
async fn calls_in_flight_are_bounded_per_peer_and_in_total() {
    for limits in [
        RpcLimits { calls_per_peer_max: 2, ..RpcLimits::default() },
        RpcLimits { calls_max: 2, ..RpcLimits::default() },
    ] {
        let (handler, mut begins, mut cancels) = hanging();
        let b = start_with(identity(), loopback(), Limits::default(), limits, handler).await;
        let a = start(Scripted::default()).await;
        let hang = || a.rpc.call(b.id, &b.addrs, ask("hang", &json!(null)));
        let mut running = Box::pin(futures_util::future::join(hang(), hang()));
        let third = async {
            begins.recv().await.unwrap();
            begins.recv().await.unwrap();
            a.rpc.call(b.id, &b.addrs, ask("echo", &json!(1))).await
        };
        let answer =
            tokio::select! { _ = &mut running => unreachable!(), answer = third => answer };
        assert!(
            matches!(answer, Err(CallError::Failed { code: ErrorCode::Busy, .. })),
            "{answer:?}"
        );
        drop(running);
        cancels.recv().await.unwrap();
        cancels.recv().await.unwrap();
    }
}

#[tokio::test]
async fn pings_and_records() {
    let record = Bytes::from_static(b"the signed record");
    let (a, b) = pair(Scripted { record: Some(record.clone()), ..Scripted::echo() }).await;
    a.rpc.ping(b.id, &b.addrs).await.unwrap();
    assert_eq!(a.rpc.record(b.id, &[], None, None).await.unwrap(), record);
    assert_eq!(a.rpc.record(b.id, &[], Some(Hash::of(&record)), None).await.unwrap(), record);
    let error = a.rpc.record(b.id, &[], Some(Hash([1; 32])), None).await.unwrap_err();
    assert_eq!(error, CallError::Untrusted { peer: b.id, reason: Distrust::Record });
    let error = b.rpc.record(a.id, &[], None, None).await.unwrap_err();
    assert!(matches!(error, CallError::Failed { code: ErrorCode::NotFound, .. }));
}

/// Counts executions of `twice` (idempotent) and `once` (not), and tells whether they came in early data.
fn counted() -> (Scripted, Arc<AtomicUsize>, mpsc::Receiver<bool>) {
    let count = Arc::new(AtomicUsize::new(0));
    let (told, tell) = mpsc::channel(64);
    let mut handler = Scripted::default();
    for (name, idempotent) in [("twice", true), ("once", false)] {
        let (count, told) = (Arc::clone(&count), told.clone());
        handler = handler.with(name, idempotent, move |call: IncomingCall| {
            let (count, told) = (Arc::clone(&count), told.clone());
            Box::pin(async move {
                count.fetch_add(1, Ordering::SeqCst);
                told.send(call.caller.is_early()).await.unwrap();
                Ok(Reply::One(call.body))
            })
        });
    }
    (handler, count, tell)
}

#[tokio::test]
async fn idempotent_calls_to_a_parked_peer_travel_in_early_data_and_no_others() {
    let (handler, count, mut told) = counted();
    let a = start_with(
        identity(),
        loopback(),
        parks_at_once(),
        RpcLimits::default(),
        Scripted::default(),
    )
    .await;
    let b = start(handler).await;
    let twice = || ask("twice", &json!(1)).idempotent();
    let calls = [
        (twice(), false),
        (twice(), true),
        // The caller does not allow it.
        (ask("twice", &json!(1)), false),
        (twice(), true),
        // The caller allows it, the callee does not, and the call is executed once, after the handshake.
        (ask("once", &json!(1)).idempotent(), false),
        (ask("once", &json!(1)), false),
    ];
    for (n, (request, early)) in calls.into_iter().enumerate() {
        let addrs = if n == 0 { &b.addrs[..] } else { &[] };
        let answer = a.rpc.call(b.id, addrs, request).await.unwrap();
        assert_eq!(answer.timings.early, early, "call {n}");
        // On a busy machine the handshake may be complete before the request is looked at; then it is no longer early.
        let seen_early = told.recv().await.unwrap();
        assert!(early || !seen_early, "call {n}");
        answer.receipt.verify().unwrap();
        assert_eq!(count.load(Ordering::SeqCst), n + 1);
        until_live(&a, 0).await;
        until_live(&b, 0).await;
    }
}

#[tokio::test]
async fn both_ends_say_hello_before_the_first_call_that_must_not_be_repeated() {
    let hello = |note: &str| Hello { checkpoint: Some(note.to_owned()), ..Hello::default() };
    let (told_a, mut heard_a) = mpsc::channel(8);
    let (told_b, mut heard_b) = mpsc::channel(8);
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let note = Arc::clone(&seen);
    let handler = Scripted::default().with("once", false, move |call: IncomingCall| {
        let said = call.caller.hello.and_then(|hello| hello.checkpoint.clone());
        note.lock().unwrap().push((said, call.caller.session.is_some()));
        Box::pin(async move { Ok(Reply::One(call.body)) })
    });
    let handler =
        handler.with("twice", true, |call| Box::pin(async move { Ok(Reply::One(call.body)) }));
    let a =
        start(Scripted { hello: hello("a"), greeted: Some(told_a), ..Scripted::default() }).await;
    let b = start(Scripted { hello: hello("b"), greeted: Some(told_b), ..handler }).await;
    a.rpc.call(b.id, &b.addrs, ask("twice", &json!(1)).idempotent()).await.unwrap();
    assert!(heard_a.try_recv().is_err() && heard_b.try_recv().is_err(), "it is not needed yet");

    let calls = (0..4).map(|n| a.rpc.call(b.id, &[], ask("once", &json!(n))));
    for answer in join_all(calls).await {
        answer.unwrap().receipt.verify().unwrap();
    }
    let (at_a, at_b) = (heard_a.recv().await.unwrap(), heard_b.recv().await.unwrap());
    assert_eq!((at_a.0, &at_a.2), (b.id, &hello("b")));
    assert_eq!((at_b.0, &at_b.2), (a.id, &hello("a")));
    assert_eq!(at_a.1, at_b.1, "both speak of one session");
    assert_eq!(*seen.lock().unwrap(), vec![(Some("a".to_owned()), true); 4]);
    // The other direction of the same link needs no other.
    assert_eq!(*b.rpc.greet(a.id, &[]).await.unwrap(), hello("a"));
    assert!(heard_a.try_recv().is_err() && heard_b.try_recv().is_err(), "said once");

    // A caller that allows repetition where the callee does not is asked for its hello, and served.
    let c = start(Scripted::default()).await;
    c.rpc.call(b.id, &b.addrs, ask("once", &json!(1)).idempotent()).await.unwrap();
    assert_eq!(heard_b.recv().await.unwrap().0, c.id);
}

#[tokio::test]
async fn what_shows_a_membership_or_grants_never_travels_in_early_data() {
    let (handler, _count, mut told) = counted();
    let a = start_with(
        identity(),
        loopback(),
        parks_at_once(),
        RpcLimits::default(),
        Scripted::default(),
    )
    .await;
    let b = start(handler).await;
    let twice = || ask("twice", &json!(1)).idempotent();
    let group = Some(GroupSecret::from_bytes([1; 32]));
    let grants = Some(Bytes::from_static(b"any"));
    let calls = [twice(), CallRequest { group, ..twice() }, CallRequest { grants, ..twice() }];
    for (n, request) in calls.into_iter().enumerate() {
        let addrs = if n == 0 { &b.addrs[..] } else { &[] };
        let answer = a.rpc.call(b.id, addrs, request).await.unwrap();
        assert!(!answer.timings.early, "call {n}");
        assert!(!told.recv().await.unwrap(), "call {n}");
        until_live(&a, 0).await;
        until_live(&b, 0).await;
    }
    let answer = a.rpc.call(b.id, &[], twice()).await.unwrap();
    assert!(answer.timings.early, "without them it does");
    let grants = Some(Bytes::from(vec![0; comity::rpc::GRANTS_BYTES_MAX + 1]));
    let error = a.rpc.call(b.id, &[], CallRequest { grants, ..twice() }).await.unwrap_err();
    assert!(matches!(error, CallError::RequestTooLarge { .. }), "{error:?}");
}

#[tokio::test]
async fn early_data_that_is_not_taken_is_sent_again() {
    let (handler, count, _told) = counted();
    let key = identity();
    let a = start_with(
        identity(),
        loopback(),
        parks_at_once(),
        RpcLimits::default(),
        Scripted::default(),
    )
    .await;
    let b =
        start_with(Arc::clone(&key), loopback(), Limits::default(), RpcLimits::default(), handler)
            .await;
    let addrs = b.addrs.clone();
    a.rpc.call(b.id, &addrs, ask("twice", &json!(1)).idempotent()).await.unwrap();
    until_live(&a, 0).await;
    b.transport.close().await;
    drop(b);
    // The same agent at another port, with no memory of sessions: the ticket is good for nothing.
    let (handler, again, _told) = counted();
    let b = start_with(key, loopback(), Limits::default(), RpcLimits::default(), handler).await;
    let answer = a.rpc.call(b.id, &b.addrs, ask("twice", &json!(2)).idempotent()).await.unwrap();
    assert!(!answer.timings.early);
    assert_eq!((count.load(Ordering::SeqCst), again.load(Ordering::SeqCst)), (1, 1));
}

#[tokio::test]
async fn a_peer_that_shut_down_is_reached_at_its_new_place() {
    let key = identity();
    let a = start(Scripted::default()).await;
    let b = start_with(
        Arc::clone(&key),
        loopback(),
        Limits::default(),
        RpcLimits::default(),
        Scripted::echo(),
    )
    .await;
    a.rpc.call(b.id, &b.addrs, ask("echo", &json!(1))).await.unwrap();
    b.transport.close().await;
    until_live(&a, 0).await;
    let b = start_with(key, loopback(), Limits::default(), RpcLimits::default(), Scripted::echo())
        .await;
    a.rpc.call(b.id, &b.addrs, ask("echo", &json!(2))).await.unwrap();
}

#[tokio::test]
async fn calls_in_flight_hold_off_parking_and_end_with_shutdown() {
    let (handler, mut begins, _cancels) = hanging();
    let a =
        start_with(identity(), loopback(), parks_at_once(), RpcLimits::default(), Scripted::echo())
            .await;
    let b =
        start_with(identity(), loopback(), parks_at_once(), RpcLimits::default(), handler).await;
    let call = a.rpc.call(b.id, &b.addrs, ask("hang", &json!(null)));
    let later = async {
        begins.recv().await.unwrap();
        // A third node's link is made and parked meanwhile by the same sweeper, several times.
        let c = start(Scripted::echo()).await;
        for _ in 0..3 {
            b.rpc.call(c.id, &c.addrs, ask("echo", &json!(1))).await.unwrap();
            until_live(&b, 1).await;
        }
        b.transport.close().await;
    };
    let (answer, ()) = tokio::join!(call, later);
    assert!(matches!(answer, Err(CallError::Interrupted { .. })), "{answer:?}");
    assert_eq!(a.transport.counts().borrow().parked_total, 0);
    let error = b.rpc.call(a.id, &a.addrs, ask("echo", &json!(1))).await.unwrap_err();
    assert_eq!(error, CallError::Connect(ConnectError::Closed));
}
