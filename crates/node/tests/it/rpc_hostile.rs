//! Callers and callees that break the protocol: bare iroh endpoints against a node.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use bytes::Bytes;
use comity::rpc::{
    COSIGNED_BYTES_MAX, CallError, Cosigned, Distrust, ErrorCode, GRANTS_BYTES_MAX, Growth,
    HELLO_BYTES_MAX, Hello, RpcLimits,
};
use comity::transport::{Limits, Protocol};
use comity_core::canonical::Version;
use comity_core::receipt::{Receipt, sign_batch};
use comity_core::{AgentId, Canonical, Hash, Identity, Sha256Digest, Time};
use iroh::endpoint::{ConnectOptions, ReadError, ReadExactError};
use proptest::prelude::*;
use serde_json::json;

use crate::rpc_support::{
    Bare, Request, Response, Scripted, ask, bare, cbor, endpoint_addr, framed, identity, loopback,
    read_frame, read_response, start, start_with, text,
};

fn alpn() -> &'static [u8] {
    Protocol::Rpc.alpn()
}

#[track_caller]
fn assert_error(response: Response, expected: ErrorCode) {
    match response {
        Response::Error { code, message } => {
            assert_eq!((code, message.is_empty()), (expected.number(), false), "{message}")
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_wire_format_is_what_the_documentation_says() {
    let b = start(Scripted::echo()).await;
    let caller = Bare::dial(&b, alpn()).await;
    let (mut send, mut recv) = caller.send(&framed(&Request::call("echo", &text(10)))).await;
    let Response::Whole { body, receipt } = read_response(&mut recv).await else { panic!() };
    assert_eq!(body, text(10));
    let receipt =
        comity_core::receipt::SignedReceipt::decode(&receipt).unwrap().verify().unwrap().receipt;
    let mut session = [0; 32];
    caller.conn.export_keying_material(&mut session, b"EXPORTER-comity/1", b"").unwrap();
    assert_eq!(receipt.session, Hash(session));
    // The stream serves the next call, even when it arrives byte by byte.
    for byte in framed(&Request { number: 1, ..Request::call("echo", &text(20)) }) {
        send.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert!(
        matches!(read_response(&mut recv).await, Response::Whole { body, .. } if body == text(20))
    );
}

#[tokio::test]
async fn malformed_requests_are_answered_by_name_and_end_their_stream_alone() {
    let limits = RpcLimits { request_patience: Duration::from_millis(200), ..RpcLimits::default() };
    let b = start_with(identity(), loopback(), Limits::default(), limits, Scripted::echo()).await;
    let evil = Bare::dial(&b, alpn()).await;
    let good = framed(&Request::call("echo", &text(10)));
    let mut extra = good.clone();
    extra.push(0);
    let length = u32::from_be_bytes([extra[0], extra[1], extra[2], extra[3]]) + 1;
    extra[..4].copy_from_slice(&length.to_be_bytes());
    for (bytes, expected) in [
        (vec![0xff; 64], ErrorCode::TooLarge),
        (vec![0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff], ErrorCode::InvalidInput),
        (vec![0, 0, 0, 0], ErrorCode::InvalidInput),
        (extra, ErrorCode::InvalidInput),
        (
            framed(&Request { method: 77, ..Request::call("echo", &text(10)) }),
            ErrorCode::InvalidInput,
        ),
        (
            framed(&Request {
                nonce: Some(Hash([1; 32])),
                repeatable: false,
                ..Request::call("echo", &text(10))
            }),
            ErrorCode::TooEarly,
        ),
        // A proof bound to a session, in a call that says it has none.
        (
            framed(&Request {
                nonce: Some(Hash([1; 32])),
                membership: Some(Hash([2; 32])),
                ..Request::call("echo", &text(10))
            }),
            ErrorCode::TooEarly,
        ),
        (
            framed(&Request {
                grants: Some(vec![0; GRANTS_BYTES_MAX + 1]),
                ..Request::call("echo", &text(10))
            }),
            ErrorCode::InvalidInput,
        ),
        (
            framed(&Request { repeatable: false, ..Request::call("echo", &text(10)) }),
            ErrorCode::HelloFirst,
        ),
        (
            framed(&Request { grants: Some(vec![1]), ..Request::call("echo", &text(10)) }),
            ErrorCode::HelloFirst,
        ),
        // What is asked of the audit log, and said of it, before a hello.
        (framed(&Request { method: 4, ..Request::hello(vec![]) }), ErrorCode::HelloFirst),
        (framed(&Request { method: 5, ..Request::hello(vec![]) }), ErrorCode::HelloFirst),
        (framed(&Request::hello(vec![0xff])), ErrorCode::InvalidInput),
        (framed(&Request::hello(vec![0; HELLO_BYTES_MAX + 1])), ErrorCode::InvalidInput),
        // The rest never comes.
        (good[..good.len() - 1].to_vec(), ErrorCode::Timeout),
        (
            framed(&Request { deadline_ms: 0, ..Request::call("\u{1b}[31m", &text(10)) }),
            ErrorCode::NotFound,
        ),
        (
            framed(&Request { method: 2, body: vec![1, 2, 3], ..Request::call("", &Bytes::new()) }),
            ErrorCode::InvalidInput,
        ),
    ] {
        let (_send, mut recv) = evil.send(&bytes).await;
        assert_error(read_response(&mut recv).await, expected);
        assert!(matches!(recv.read(&mut [0]).await, Ok(None)), "nothing follows an error");
    }
    // Cut short by the end of the direction: there is nothing to answer.
    let (mut send, mut recv) = evil.send(&good[..good.len() - 1]).await;
    send.finish().unwrap();
    assert!(matches!(
        recv.read_exact(&mut [0]).await,
        Err(ReadExactError::ReadError(ReadError::Reset(_)))
    ));
    // The connection and its other streams are none the worse.
    let (_send, mut recv) = evil.send(&good).await;
    assert!(matches!(read_response(&mut recv).await, Response::Whole { .. }));
}

#[tokio::test]
async fn whoever_says_hello_in_order_is_served() {
    let b = start(Scripted { hello: said("of b"), ..Scripted::echo() }).await;
    let caller = Bare::dial(&b, alpn()).await;
    let hello = Request::hello(said("of a caller").encode());
    let (mut send, mut recv) = caller.send(&framed(&hello)).await;
    let Response::Whole { body, receipt } = read_response(&mut recv).await else { panic!() };
    assert_eq!((Hello::decode(&body).unwrap(), receipt), (said("of b"), vec![]));
    let call = Request { repeatable: false, number: 1, ..Request::call("echo", &text(1)) };
    send.write_all(&framed(&call)).await.unwrap();
    assert!(matches!(read_response(&mut recv).await, Response::Whole { .. }));
    // What it asks of an audit log afterwards is read strictly, and here there is none.
    let (growth, cosigned) =
        (Growth { old: 1, new: 2 }, Cosigned { size: 1, line: "x".repeat(COSIGNED_BYTES_MAX) });
    let said = Cosigned { line: "— name AAAA".to_owned(), ..cosigned.clone() };
    for (method, body, expected) in [
        (4, vec![0xff], ErrorCode::InvalidInput),
        (4, [growth.encode(), vec![0]].concat(), ErrorCode::InvalidInput),
        (4, growth.encode(), ErrorCode::NotFound),
        (5, cosigned.encode(), ErrorCode::InvalidInput),
        (5, said.encode(), ErrorCode::NotFound),
    ] {
        let asked = Request { method, number: 2, ..Request::hello(body) };
        let (_send, mut recv) = caller.send(&framed(&asked)).await;
        assert_error(read_response(&mut recv).await, expected);
    }
}

fn said(checkpoint: &str) -> Hello {
    Hello { checkpoint: Some(checkpoint.to_owned()), ..Hello::default() }
}

#[tokio::test]
async fn a_hello_that_is_none_ends_the_call_before_it_began() {
    for (answer, reason) in [(vec![0xff], "hello"), (vec![0; HELLO_BYTES_MAX + 1], "")] {
        let key = identity();
        let endpoint = bare(&key, alpn()).await;
        let (id, addrs) = (key.id(), endpoint.bound_sockets());
        let server = tokio::spawn(async move {
            let conn = endpoint.accept().await.unwrap().await.unwrap();
            let (mut send, mut recv) = conn.accept_bi().await.unwrap();
            let asked: Request = minicbor::decode(&read_frame(&mut recv).await).unwrap();
            let answer = Response::Whole { body: answer, receipt: vec![] };
            let _ = send.write_all(&framed(&answer)).await;
            conn.closed().await;
            asked.method
        });
        let a = start(Scripted::default()).await;
        let error = a.rpc.call(id, &addrs, ask("ask", &json!("?"))).await.unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
        a.transport.close().await;
        assert_eq!(server.await.unwrap(), 3, "a hello was all that was asked");
    }
}

#[tokio::test]
async fn the_callee_keeps_the_deadline_whatever_the_caller_does() {
    let b = start(Scripted::default().with("hang", true, |call| {
        Box::pin(async move {
            call.cancel.cancelled().await;
            std::future::pending().await
        })
    }))
    .await;
    let evil = Bare::dial(&b, alpn()).await;
    let (_send, mut recv) =
        evil.send(&framed(&Request { deadline_ms: 50, ..Request::call("hang", &text(1)) })).await;
    assert_error(read_response(&mut recv).await, ErrorCode::Timeout);
}

#[tokio::test]
async fn early_data_without_permission_is_refused() {
    let b = start(
        Scripted::echo()
            .with("once", false, |call| Box::pin(async move { panic!("executed: {call:?}") })),
    )
    .await;
    let evil = bare(&identity(), alpn()).await;
    let first = evil.connect(endpoint_addr(&b), alpn()).await.unwrap();
    let (mut send, mut recv) = first.open_bi().await.unwrap();
    send.write_all(&framed(&Request::call("echo", &text(1)))).await.unwrap();
    read_response(&mut recv).await;
    first.close(0_u32.into(), b"");
    let nonce = Some(Hash([7; 32]));
    let conn = evil
        .connect_with_opts(endpoint_addr(&b), alpn(), ConnectOptions::new())
        .await
        .unwrap()
        .into_0rtt()
        .unwrap();
    for (request, permitted) in [
        // Nothing that could be replayed with effect: no nonce, no consent of the caller, no consent of the capability.
        (Request::call("echo", &text(1)), false),
        (Request { nonce, repeatable: false, ..Request::call("echo", &text(1)) }, false),
        (Request { nonce, membership: nonce, ..Request::call("echo", &text(1)) }, false),
        (Request { nonce, grants: Some(vec![1]), ..Request::call("echo", &text(1)) }, false),
        (Request { nonce, ..Request::call("once", &text(1)) }, false),
        (Request { nonce, ..Request::call("echo", &text(1)) }, true),
    ] {
        let (mut send, mut recv) = conn.open_bi().await.unwrap();
        send.write_all(&framed(&request)).await.unwrap();
        match read_response(&mut recv).await {
            // The first may reach the callee after the handshake on a machine that is busy; then it is an ordinary call.
            Response::Whole { .. } => assert!(permitted || request.nonce.is_none()),
            refused => {
                assert!(!permitted);
                assert_error(refused, ErrorCode::TooEarly);
            }
        }
    }
}

/// What an evil callee makes of a question.
struct Lie {
    body: Bytes,
    signer: std::sync::Arc<Identity>,
    receipt: Receipt,
    /// Changed after signing.
    after: Option<fn(&mut comity_core::receipt::SignedReceipt)>,
}

/// A callee that answers one call with what `lie` makes of the truth.
async fn called(lie: impl FnOnce(&mut Lie) + Send + 'static) -> (AgentId, Result<(), CallError>) {
    let key = identity();
    let endpoint = bare(&key, alpn()).await;
    let (id, addrs) = (key.id(), endpoint.bound_sockets());
    let server = tokio::spawn(async move {
        let conn = endpoint.accept().await.unwrap().await.unwrap();
        let (mut send, mut recv) = conn.accept_bi().await.unwrap();
        let request: Request = minicbor::decode(&read_frame(&mut recv).await).unwrap();
        let mut session = [0; 32];
        conn.export_keying_material(&mut session, b"EXPORTER-comity/1", b"").unwrap();
        let body = cbor(&json!("the truth"));
        let receipt = Receipt {
            version: Version,
            session: Hash(session),
            number: request.number,
            caller: AgentId::from_bytes(conn.remote_id().as_bytes()).unwrap(),
            callee: id,
            capability: Hash([1; 32]),
            request: Hash::of(&request.body),
            response: Hash::of(&body),
            status: 0,
            started_ms: 1,
            finished_ms: 2,
            cost: 0,
            evidence: None,
            leaf: None,
            interface: Sha256Digest([2; 32]),
            valid_until_ms: 3,
            data_version: None,
            name: "ask".try_into().unwrap(),
        };
        let mut told = Lie { body, signer: key, receipt, after: None };
        lie(&mut told);
        let mut signed = sign_batch(&told.signer, Time(5), vec![told.receipt]).unwrap().remove(0);
        if let Some(after) = told.after {
            after(&mut signed);
        }
        let answer =
            Response::Whole { body: told.body.to_vec(), receipt: Canonical::encode(&signed) };
        send.write_all(&framed(&answer)).await.unwrap();
        conn.closed().await;
    });
    let a = start(Scripted::default()).await;
    let request = comity::rpc::CallRequest {
        descriptor: Some(Hash([1; 32])),
        interface: Some(Sha256Digest([2; 32])),
        ..ask("ask", &json!("?")).idempotent()
    };
    let result = a
        .rpc
        .call(id, &addrs, request)
        .await
        .map(|answer| assert_eq!(answer.values().unwrap(), [json!("the truth")]));
    a.transport.close().await;
    server.await.unwrap();
    (id, result)
}

async fn distrust(lie: impl FnOnce(&mut Lie) + Send + 'static) -> Distrust {
    match called(lie).await {
        (id, Err(CallError::Untrusted { peer, reason })) if peer == id => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn no_lie_about_an_answer_is_believed() {
    called(|_| {}).await.1.expect("the truth is");
    let other = identity();
    let (key, id) = (std::sync::Arc::clone(&other), other.id());
    assert_eq!(distrust(|lie| lie.body = cbor(&json!("a lie"))).await, Distrust::Response);
    assert_eq!(distrust(|lie| lie.receipt.response = Hash([0; 32])).await, Distrust::Response);
    assert_eq!(distrust(|lie| lie.receipt.request = Hash([0; 32])).await, Distrust::Request);
    assert_eq!(distrust(|lie| lie.receipt.session = Hash([0; 32])).await, Distrust::Session);
    assert_eq!(distrust(|lie| lie.receipt.number += 1).await, Distrust::Session);
    assert_eq!(distrust(move |lie| lie.receipt.caller = id).await, Distrust::Caller { found: id });
    assert_eq!(distrust(|lie| lie.receipt.status = 1).await, Distrust::Status { found: 1 });
    assert_eq!(
        distrust(|lie| lie.receipt.name = "other".try_into().unwrap()).await,
        Distrust::Capability { found: "other".into() }
    );
    assert_eq!(
        distrust(|lie| lie.receipt.capability = Hash([9; 32])).await,
        Distrust::Descriptor { found: Hash([9; 32]) }
    );
    assert_eq!(
        distrust(|lie| lie.receipt.interface = Sha256Digest([9; 32])).await,
        Distrust::Interface { found: Sha256Digest([9; 32]) }
    );
    // Signed by another agent, in its own name.
    let signer = std::sync::Arc::clone(&key);
    assert_eq!(
        distrust(move |lie| {
            lie.receipt.callee = id;
            lie.signer = signer;
        })
        .await,
        Distrust::Signer { found: id }
    );
}

#[tokio::test]
async fn no_receipt_that_was_changed_after_signing_is_believed() {
    let changes: [fn(&mut comity_core::receipt::SignedReceipt); 5] = [
        |signed| signed.receipt.valid_until_ms += 1,
        |signed| signed.index += 1,
        |signed| signed.path.push(Hash([0; 32])),
        |signed| {
            let last = signed.root.len() - 1;
            signed.root[last] ^= 1;
        },
        |signed| signed.root.clear(),
    ];
    for change in changes {
        let reason = distrust(move |lie| lie.after = Some(change)).await;
        assert!(matches!(reason, Distrust::Signature(_)), "{reason:?}");
    }
    // The name of the agent dialled, the signature of another.
    let reason = distrust(|lie| {
        lie.after = Some(|signed| {
            let other = identity();
            let forged = Receipt { callee: other.id(), ..signed.receipt.clone() };
            signed.root = sign_batch(&other, Time(5), vec![forged]).unwrap().remove(0).root;
        });
    })
    .await;
    assert!(matches!(reason, Distrust::Signature(_)), "{reason:?}");
}

/// A callee that sends fixed bytes, whatever it is asked, and ends its direction.
async fn answered_with(bytes: Vec<u8>) -> CallError {
    let key = identity();
    let endpoint = bare(&key, alpn()).await;
    let (id, addrs) = (key.id(), endpoint.bound_sockets());
    let server = tokio::spawn(async move {
        let conn = endpoint.accept().await.unwrap().await.unwrap();
        let (mut send, mut recv) = conn.accept_bi().await.unwrap();
        read_frame(&mut recv).await;
        // The caller may stop listening at any byte.
        let _ = send.write_all(&bytes).await;
        let _ = send.finish();
        conn.closed().await;
    });
    let a = start(Scripted::default()).await;
    let error = a.rpc.call(id, &addrs, ask("ask", &json!("?")).idempotent()).await.unwrap_err();
    a.transport.close().await;
    server.await.unwrap();
    error
}

#[tokio::test]
async fn answers_that_break_the_protocol_are_named() {
    let chunk = |data: &[u8], last| framed(&Response::Chunk { data: data.to_vec(), last });
    let head = framed(&Response::Head);
    let end = framed(&Response::End { receipt: vec![] });
    let whole = framed(&Response::Whole { body: vec![1], receipt: vec![] });
    for (bytes, what) in [
        (vec![], "ends without a receipt"),
        (vec![0xff; 8], "a frame of"),
        (vec![0, 0, 0, 9, 1], "cut short"),
        (vec![0, 0, 0, 1, 0xff], "malformed"),
        (whole[..whole.len() - 1].to_vec(), "cut short"),
        (end.clone(), "without a head"),
        (chunk(&[1], true), "without a head"),
        (head.clone(), "ends without a receipt"),
        ([&head[..], &head].concat(), "a second head"),
        ([&head[..], &chunk(&[], false)].concat(), "empty"),
        ([&head[..], &chunk(&[1], false), &end].concat(), "cut short"),
    ] {
        match answered_with(bytes).await {
            CallError::Protocol { what: said, .. } => assert!(said.contains(what), "{said}"),
            other => panic!("{what}: {other:?}"),
        }
    }
    for bytes in [whole, [&head[..], &chunk(&[1], true), &end].concat()] {
        let error = answered_with(bytes).await;
        assert!(
            matches!(error, CallError::Untrusted { reason: Distrust::Unreadable(_), .. }),
            "{error:?}"
        );
    }
    let error =
        answered_with(framed(&Response::Error { code: 2, message: "x".repeat(5_000) })).await;
    assert!(
        matches!(error, CallError::Failed { code: ErrorCode::Denied, message, .. } if message.len() == 512)
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever bytes arrive on a stream, the callee answers an error or ends the stream, and serves the next caller.
    #[test]
    fn no_bytes_harm_the_callee(streams in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..200), prop::option::of(0..60_u32)), 1..4)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let limits = RpcLimits { request_patience: Duration::from_millis(200), ..RpcLimits::default() };
            let b = start_with(identity(), loopback(), Limits::default(), limits, Scripted::echo()).await;
            let evil = Bare::dial(&b, alpn()).await;
            for (bytes, length) in streams {
                let sent = match length {
                    Some(length) => [&length.to_be_bytes()[..], &bytes].concat(),
                    None => bytes,
                };
                let (mut send, mut recv) = evil.send(&sent).await;
                send.finish().unwrap();
                let _ = recv.read_to_end(4096).await;
            }
            let (_send, mut recv) = evil.send(&framed(&Request::call("echo", &text(3)))).await;
            assert!(matches!(read_response(&mut recv).await, Response::Whole { .. }));
        });
    }
}
