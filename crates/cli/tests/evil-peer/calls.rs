//! Calls that nobody may make, replayed, malformed, too early.

use comity_core::Hash;

use crate::peer::{
    Evil, RPC, Request, Said, Tap, Victim, ask, ask_bytes, code, framed, hello, open, prefixed,
    refused,
};

/// T31, T16: bytes in another encoding, too deep, too long, cut short. No program hears of any.
#[tokio::test]
async fn t31_requests_in_any_other_encoding_reach_no_program() {
    let victim = Victim::start();
    let evil = Evil::new().await;
    let link = evil.dial(victim.id, victim.addr, RPC).await;
    hello(&link).await;
    let with = |body: &[u8]| Request { body: body.to_vec(), ..Request::call("echo", "null") };
    let deep = [vec![0x81; 20_000], vec![0]].concat();
    for body in [
        &[][..],
        // A longer head than needed, no end, one key twice, a tag, a second item, a text that is none, an array of 2^63.
        &[0x18, 0x01],
        &[0xbf, 0xff],
        &[0xa2, 0x61, 0x61, 0x01, 0x61, 0x61, 0x02],
        &[0xc0, 0x00],
        &[0x01, 0x01],
        &[0x61, 0xff],
        &[0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00],
        &deep,
    ] {
        let answer = refused(&link, &with(body)).await;
        assert_eq!(answer, code::INVALID_INPUT, "{:02x?}", &body[..body.len().min(12)]);
    }
    // The frame around it: respelled, with more behind, of a method that is none, empty, nested without end.
    let good = framed(&Request::call("echo", "{}"));
    let respelled = [&[0xb8, good[4] & 0x1f][..], &good[5..]].concat();
    let longer = [&good[4..], &[0]].concat();
    let other = framed(&Request::of(77, Vec::new()))[4..].to_vec();
    for bytes in [respelled, longer, other, Vec::new(), vec![0x81; 60_000]] {
        match ask_bytes(&link, &prefixed(&bytes)).await {
            Some(Said::Error { code, .. }) => assert_eq!(code, code::INVALID_INPUT),
            other => panic!("{:02x?}: {other:?}", &bytes[..bytes.len().min(12)]),
        }
    }
    // Four gigabytes are announced: refused by the announcement.
    match ask_bytes(&link, &[0xff; 8]).await {
        Some(Said::Error { code, .. }) => assert_eq!(code, code::TOO_LARGE),
        other => panic!("{other:?}"),
    }
    assert_eq!(victim.executed(), Vec::<String>::new());
    victim.serves_on().await;
}

/// T3, T7: everything that a caller sent is sent again, from where it came and from elsewhere.
#[tokio::test]
async fn t3_a_recorded_session_executes_nothing_a_second_time() {
    let victim = Victim::start();
    let tap = Tap::on(victim.addr).await;
    let honest = Evil::new().await;
    let link = honest.dial(victim.id, tap.addr, RPC).await;
    hello(&link).await;
    let call = Request::call("echo", "{\"pay\":1}");
    assert!(matches!(ask(&link, &call).await, Said::Whole { .. }));
    assert_eq!(victim.executed().len(), 1);
    let packets = tap.replay().await;
    assert!(packets > 4, "{packets}: a handshake and a call were recorded");
    // The session that was recorded goes on undisturbed, and so does the node.
    let next = Request { number: 2, ..Request::call("echo", "{\"pay\":2}") };
    assert!(matches!(ask(&link, &next).await, Said::Whole { .. }));
    victim.serves_on().await;
    let executed = victim.executed();
    assert_eq!(executed.len(), 3, "{executed:?}");
}

/// T3, early data: what must not be repeated is not taken from the first packet, whatever it says of itself, and not from a recording.
#[tokio::test]
async fn early_data_of_calls_that_count_is_refused_and_so_is_its_recording() {
    let victim = Victim::start();
    let tap = Tap::on(victim.addr).await;
    let evil = Evil::new().await;
    let first = evil.dial(victim.id, tap.addr, RPC).await;
    hello(&first).await;
    assert!(matches!(ask(&first, &Request::call("echo", "{\"n\":0}")).await, Said::Whole { .. }));
    first.close(0_u32.into(), b"");
    tap.rewind();
    let route = Evil::route(victim.id, tap.addr);
    let options = iroh::endpoint::ConnectOptions::new();
    let connecting = evil.endpoint.connect_with_opts(route, RPC, options).await.unwrap();
    let early = connecting.into_0rtt().expect("the first session left a ticket");
    let nonce = Some(Hash([7; 32]));
    let call = Request::call("echo", "{\"n\":1}");
    for request in [
        Request { nonce, ..call.clone() },
        Request { nonce, repeatable: true, ..call.clone() },
        Request { nonce, repeatable: true, grants: Some(vec![1]), ..call.clone() },
        Request { nonce, repeatable: true, membership: Some(Hash([1; 32])), ..call.clone() },
    ] {
        let (mut send, mut recv) = early.open_bi().await.unwrap();
        send.write_all(&framed(&request)).await.unwrap();
        let answer =
            crate::peer::frame(&mut recv).await.and_then(|frame| minicbor::decode(&frame).ok());
        match answer {
            Some(Said::Error { code, .. }) => {
                assert!(
                    [code::TOO_EARLY, code::HELLO_FIRST].contains(&code),
                    "{request:?}: {code}"
                );
            }
            other => panic!("{request:?}: {other:?}"),
        }
    }
    assert!(tap.replay().await > 0);
    victim.serves_on().await;
    let executed = victim.executed();
    assert_eq!(executed.len(), 2, "the first session's call and the honest peer's: {executed:?}");
}

/// T14, T18: what is not for a caller cannot be told from what does not exist, whatever the caller shows.
#[tokio::test]
async fn what_a_caller_may_not_call_does_not_exist_whatever_it_shows() {
    let victim = Victim::start();
    let evil = Evil::new().await;
    let link = evil.dial(victim.id, victim.addr, RPC).await;
    // Nothing that counts, and nothing that shows something, before a hello.
    let shows = Request { grants: Some(vec![0x80]), ..Request::call("echo", "{}") };
    assert_eq!(refused(&link, &Request::call("echo", "{}")).await, code::HELLO_FIRST);
    assert_eq!(refused(&link, &shows).await, code::HELLO_FIRST);
    hello(&link).await;
    let mut words = Vec::new();
    for name in ["diary", "dairy"] {
        let mut told = Vec::new();
        for (membership, grants) in [
            (None, None),
            (Some(Hash([3; 32])), None),
            (None, Some(vec![0x80])),
            (None, Some(vec![0x5f; 4000])),
            (Some(crate::peer::session(&link)), Some(vec![0; 8 * 1024])),
        ] {
            let request = Request { membership, grants, ..Request::call(name, "{}") };
            match ask(&link, &request).await {
                // What is wrong with a grant in itself is told, for both alike.
                Said::Error { code, message } => {
                    assert!(
                        [code::NOT_FOUND, code::DENIED].contains(&code),
                        "{request:?}: {message}"
                    );
                    told.push((code, message.replace(name, "NAME")));
                }
                other => panic!("{request:?}: {other:?}"),
            }
        }
        assert_eq!(told[0].0, code::NOT_FOUND);
        words.push(told);
    }
    assert_eq!(words[0], words[1], "the same words for what is private and what is not there");
    assert_eq!(victim.executed(), Vec::<String>::new());
}

/// A caller that goes away in the middle of everything leaves nothing behind.
#[tokio::test]
async fn calls_cut_short_anywhere_are_not_executed() {
    let victim = Victim::start();
    let evil = Evil::new().await;
    let link = evil.dial(victim.id, victim.addr, RPC).await;
    hello(&link).await;
    let whole = framed(&Request::call("echo", "{\"cut\":true}"));
    for length in 0..whole.len() {
        let (mut send, mut recv) = open(&link, &whole[..length]).await;
        send.finish().unwrap();
        assert!(crate::peer::frame(&mut recv).await.is_none(), "{length} of {} bytes", whole.len());
    }
    assert_eq!(victim.executed(), Vec::<String>::new());
    victim.serves_on().await;
}
