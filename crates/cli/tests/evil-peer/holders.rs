//! Holders of large answers that hand out something else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use comity_core::canonical::Version;
use comity_core::{AgentId, Hash, Identity};
use comity_results::bulk::{Offer, Outline, PIECE, PieceAsk};
use comity_results::key::{IndexKey, QuestionKey};
use comity_results::pointer::Pointer;
use iroh::endpoint::{Connection, SendStream};
use minicbor::bytes::ByteVec;
use serde_json::{Value, json};

use crate::archive::{NAME, answer, serve};
use crate::e2e_support::{Node, World};
use crate::peer::{Evil, RPC, Request, Said, ask, code, frame, framed, hello, open, refused};

const RESULTS: u8 = 9;
const PIECE_OF: u8 = 10;

/// Questions about results, as another implementation would write them.
#[derive(minicbor::Encode, minicbor::Decode)]
enum About {
    #[n(0)]
    #[cbor(map)]
    Announce {
        #[n(0)]
        pointers: Vec<ByteVec>,
    },
    #[n(2)]
    #[cbor(map)]
    Fetch {
        #[n(0)]
        key: IndexKey,
    },
}

fn about(asked: &About) -> Request {
    Request::of(RESULTS, minicbor::to_vec(asked).unwrap())
}

/// What an evil holder does when it is asked for a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    /// Other bytes.
    Altered,
    /// Another piece.
    Swapped,
    /// Half of it.
    Cut,
    /// The last piece is right, which makes it believed; the others are not.
    AfterTheLast,
    /// What it says of the answer is made up already.
    Outline,
}

/// What it knows of the answer.
struct Known {
    offer: Offer,
    last: Vec<u8>,
    first: Vec<u8>,
}

/// What came of it.
#[derive(Default)]
struct Count {
    fetched: AtomicU32,
    pieces: AtomicU32,
}

async fn serve_evil(link: Connection, lie: Lie, known: Arc<Known>, count: Arc<Count>) {
    while let Ok((mut send, mut recv)) = link.accept_bi().await {
        let (known, count) = (Arc::clone(&known), Arc::clone(&count));
        tokio::spawn(async move {
            while let Some(bytes) = frame(&mut recv).await {
                let request: Request = minicbor::decode(&bytes).unwrap();
                let said = match request.method {
                    3 => comity::rpc::Hello::default().encode(),
                    RESULTS => {
                        count.fetched.fetch_add(1, Ordering::Relaxed);
                        told(lie, &known)
                    }
                    PIECE_OF => {
                        count.pieces.fetch_add(1, Ordering::Relaxed);
                        let asked = PieceAsk::decode(&request.body).unwrap();
                        return send_piece(&mut send, lie, &known, asked.piece).await;
                    }
                    _ => Vec::new(),
                };
                let said = Said::Whole { body: said, receipt: Vec::new() };
                if send.write_all(&framed(&said)).await.is_err() {
                    return;
                }
            }
        });
    }
}

fn told(lie: Lie, known: &Known) -> Vec<u8> {
    let Offer { receipt, outline } = known.offer.clone();
    if lie != Lie::Outline {
        return Offer { receipt, outline }.encode();
    }
    let values = (0..outline.pieces()).map(|_| [7; 32]).collect();
    Offer { receipt, outline: Outline::new(outline.size(), values).unwrap() }.encode()
}

async fn send_piece(send: &mut SendStream, lie: Lie, known: &Known, piece: u32) {
    let outline = &known.offer.outline;
    let mut bytes = if piece == outline.last() { known.last.clone() } else { known.first.clone() };
    match lie {
        Lie::Altered => bytes[100] ^= 1,
        Lie::Swapped => bytes = known.first[..outline.len_of(piece)].to_vec(),
        Lie::Cut => bytes.truncate(bytes.len() / 2),
        Lie::AfterTheLast if piece == outline.last() => {}
        Lie::AfterTheLast | Lie::Outline => bytes[0] ^= 1,
    }
    let _gone = send.write_all(&framed(&Said::Head)).await;
    let _gone = send.write_all(&bytes).await;
    let _gone = send.finish();
    let _gone = send.stopped().await;
}

/// Asks a holder for a piece as an honest peer does.
async fn piece(link: &Connection, ask: PieceAsk, length: usize) -> Vec<u8> {
    let (_send, mut recv) = open(link, &framed(&Request::of(PIECE_OF, ask.encode()))).await;
    assert_eq!(minicbor::decode::<Said>(&frame(&mut recv).await.unwrap()).unwrap(), Said::Head);
    recv.read_to_end(length).await.unwrap()
}

/// An answer that a real node holds, learned from it as any peer may.
struct Held {
    key: IndexKey,
    pointer: Pointer,
    known: Arc<Known>,
}

async fn learn(holder: &Node, honest: &Evil) -> Held {
    let made = holder.ok(&["receipts", "list", "--side", "made", "--limit", "1", "--json"]).json();
    let receipt = &made["receipts"][0]["proof"]["receipt"];
    let hash = |name: &str| -> Hash { receipt[name].as_str().unwrap().parse().unwrap() };
    let question = QuestionKey::new(&hash("descriptor"), &hash("request"));
    let key = IndexKey(Hash::derive("comity/result/public/v1", &[question.0.as_bytes()]));
    let addr = holder.socket_address().parse().unwrap();
    let link = honest.dial(holder.agent().parse().unwrap(), addr, RPC).await;
    hello(&link).await;
    let Said::Whole { body, .. } = ask(&link, &about(&About::Fetch { key })).await else {
        panic!("a holder hands over what is said of a large answer")
    };
    let offer = Offer::decode(&body).unwrap();
    let response = offer.receipt.receipt.response;
    let length = usize::try_from(PIECE).unwrap();
    let of = |piece| PieceAsk { key, response, piece };
    let first = piece(&link, of(0), length).await;
    let last = piece(&link, of(offer.outline.last()), length).await;
    assert!(offer.outline.is_piece(0, &first));
    assert!(offer.outline.is_piece(offer.outline.last(), &last));
    // What there is not, or not under this name, is not sent.
    let beyond = Request::of(PIECE_OF, of(offer.outline.pieces()).encode());
    assert_eq!(refused(&link, &beyond).await, code::NOT_FOUND);
    let other = PieceAsk { response: Hash([0; 32]), ..of(0) };
    assert_eq!(refused(&link, &Request::of(PIECE_OF, other.encode())).await, code::NOT_FOUND);
    let noise = Request::of(PIECE_OF, vec![0xff; 40]);
    assert_eq!(refused(&link, &noise).await, code::INVALID_INPUT);

    let stated = &offer.receipt.receipt;
    let pointer = Pointer {
        version: Version,
        key,
        producer: Hash(*stated.callee.as_bytes()),
        response,
        bytes: offer.outline.size(),
        // The newest is asked first.
        finished_ms: stated.finished_ms + 1,
        issued_ms: stated.finished_ms,
        expires_ms: stated.finished_ms + 1_000_000,
    };
    Held { key, pointer, known: Arc::new(Known { offer, last, first }) }
}

fn question(number: usize) -> Value {
    json!({ "lines": 10, "of": format!("evil {number}") })
}

fn call(node: &Node, target: &str, input: &Value, option: &str) -> String {
    let input = input.to_string();
    node.ok(&["call", target, "--stream", "--timeout", "60s", option, "--json", &input]).stdout
}

/// A poisoned holder costs one piece, then is avoided; what it sent reaches nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_sends_something_else_costs_one_piece() {
    let world = World::new();
    let producer = world.node("producer", &[]);
    let holder = world.joined("holder", &producer);
    serve(&world, &producer);
    let target = format!("{}/{NAME}", producer.address());
    let lies = [Lie::Altered, Lie::Swapped, Lie::Cut, Lie::AfterTheLast, Lie::Outline];
    for (number, lie) in (0..).zip(lies) {
        let input = question(number);
        // One that does not know yet who is helpful.
        let victim = world.joined(&format!("victim{number}"), &producer);
        call(&holder, &target, &input, "--fresh");
        let honest = Evil::new().await;
        let Held { key, pointer, known } = learn(&holder, &honest).await;
        let count = Arc::new(Count::default());
        let evil = Evil::new().await;
        let endpoint = evil.endpoint.clone();
        let (lying, counted) = (Arc::clone(&known), Arc::clone(&count));
        let serving = tokio::spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                let Ok(link) = incoming.await else { continue };
                let (known, count) = (Arc::clone(&lying), Arc::clone(&counted));
                tokio::spawn(serve_evil(link, lie, known, count));
            }
        });
        let secret = Identity::from_secret_bytes(&evil.identity.secret_bytes());
        let victim_id: AgentId = victim.agent().parse().unwrap();
        let link = evil.dial(victim_id, victim.socket_address().parse().unwrap(), RPC).await;
        hello(&link).await;
        // Of this answer, and of another that nobody has.
        let elsewhere = Pointer { key: IndexKey(Hash([9; 32])), ..pointer.clone() };
        let pointers = [&pointer, &elsewhere].map(|one| one.seal(&secret).into()).to_vec();
        ask(&link, &about(&About::Announce { pointers })).await;
        let own = tokio::spawn(serve_evil(link, lie, Arc::clone(&known), Arc::clone(&count)));

        let said = call(&victim, &target, &input, "--only-shared");
        assert!(said == answer(&input), "{lie:?}: to the byte as it was given");
        assert_eq!(count.fetched.load(Ordering::Relaxed), 1, "{lie:?}: it is asked first");
        let wrong = if lie == Lie::Outline { 0 } else { 1 };
        let refused = &victim.get("/v1/results")["large"]["pieces_refused"];
        assert_eq!(refused, &json!(wrong), "{lie:?}: {key:?}");
        assert!(!victim.log().contains("panicked"));
        let asked = count.pieces.load(Ordering::Relaxed);
        let most = if lie == Lie::AfterTheLast { 5 } else { 1 };
        assert!(asked <= most, "{lie:?}: asked for {asked} pieces");
        serving.abort();
        own.abort();
    }
}
