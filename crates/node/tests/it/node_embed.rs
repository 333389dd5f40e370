//! Nodes embedded in a program: several in one process, each with an identity of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use comity::api::types::{CallEvent, CallRequest, ErrorCode};
use comity::specialist::function::Function;
use comity::specialist::{Answer, Invocation, Specialist, SpecialistError};
use comity::{Capability, JoinAddress, Node, SpawnError, Visibility};
use futures_util::StreamExt;
use serde_json::json;
use tokio::sync::Notify;

fn capability(name: &str) -> Capability {
    let mut capability = Capability::new(name).expect("a valid name");
    capability.title = format!("{name} of a test");
    capability.visibility = Visibility::Public;
    capability
}

async fn pair() -> (Node, Node) {
    let server = Node::builder().spawn().await.expect("a node starts");
    let caller =
        Node::builder().join(server.ticket()).spawn().await.expect("it joins the first one");
    (server, caller)
}

fn echo() -> Arc<dyn Specialist> {
    Arc::new(Function::new(|call: Invocation| async move { Ok(Answer::One(call.request)) }))
}

#[tokio::test]
async fn a_streamed_answer_arrives_in_order_and_is_covered_by_one_receipt() {
    let (server, caller) = pair().await;
    let count = Function::new(|call: Invocation| async move {
        let to = call.request["to"].as_u64().unwrap_or_default();
        Ok(Answer::Stream(futures_util::stream::iter((0..to).map(|n| Ok(json!(n)))).boxed()))
    });
    let mut declared = capability("count");
    declared.streaming = true;
    server.serve(declared, Arc::new(count)).await.unwrap();
    let answer = caller.call("count", json!({"to": 500})).await.unwrap();
    assert_eq!(answer.items, (0..500).map(|n| json!(n)).collect::<Vec<_>>());
    assert_eq!((answer.agent, answer.summary.items), (server.id(), 500));
    assert_eq!(answer.proof.receipt.callee, server.id().to_string());
}

#[tokio::test]
async fn dropping_a_call_cancels_it_at_the_far_end() {
    let (server, caller) = pair().await;
    let (begun, ended) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begin, end) = (Arc::clone(&begun), Arc::clone(&ended));
    let wait = Function::new(move |call: Invocation| {
        let (begin, end) = (Arc::clone(&begin), Arc::clone(&end));
        async move {
            begin.notify_one();
            let _told = NotifyOnDrop(end);
            call.cancel.cancelled().await;
            Err(SpecialistError::Cancelled)
        }
    });
    server.serve(capability("wait"), Arc::new(wait)).await.unwrap();
    server.serve(capability("echo"), echo()).await.unwrap();
    let mut events = Box::pin(caller.call_events(CallRequest::new("wait", json!({}))));
    let started = events.next().await;
    assert!(matches!(started, Some(CallEvent::Attempt(_))), "{started:?}");
    begun.notified().await;
    drop(events);
    ended.notified().await;
    let answer = caller.call("echo", json!({"still": "there"})).await.unwrap();
    assert_eq!(answer.value(), &json!({"still": "there"}));
}

struct NotifyOnDrop(Arc<Notify>);

impl Drop for NotifyOnDrop {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[tokio::test]
async fn a_panicking_specialist_fails_its_own_call_only() {
    let (server, caller) = pair().await;
    let moody = Function::new(|call: Invocation| async move {
        assert!(call.request["panic"].is_null(), "as asked");
        Ok(Answer::One(call.request))
    });
    server.serve(capability("moody"), Arc::new(moody)).await.unwrap();
    let error = caller.call("moody", json!({"panic": true})).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::SpecialistFailed, "{error}");
    let answer = caller.call("moody", json!({"n": 1})).await.unwrap();
    assert_eq!(answer.value(), &json!({"n": 1}));
}

#[tokio::test]
async fn many_calls_at_once_get_their_own_answers() {
    let (server, caller) = pair().await;
    let served = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&served);
    let count = Function::new(move |call: Invocation| {
        counter.fetch_add(1, Ordering::Relaxed);
        async move { Ok(Answer::One(call.request)) }
    });
    server.serve(capability("echo"), Arc::new(count)).await.unwrap();
    let target = format!("{}/echo", server.id());
    let calls = (0..200).map(|n| {
        let (caller, target) = (caller.clone(), target.clone());
        async move { (n, caller.call(target.as_str(), json!({ "n": n })).await.unwrap()) }
    });
    for (n, answer) in futures_util::future::join_all(calls).await {
        assert_eq!(answer.value(), &json!({ "n": n }));
    }
    assert_eq!(served.load(Ordering::Relaxed), 200);
}

/// Two that do the same, one of which stands for a service of another network: without a word in the policy file it comes second; the
/// file can refuse it, and then it is neither found nor called.
#[tokio::test]
async fn the_policy_file_decides_what_becomes_of_services_of_other_networks() {
    let home = tempfile::tempdir().unwrap();
    let server = Node::builder().spawn().await.unwrap();
    let bridge = Node::builder().join(server.ticket()).spawn().await.unwrap();
    let policy = home.path().join("policy.toml");
    let me = || comity::Identity::from_secret_bytes(&[42; 32]);
    let start = || Node::builder().home(home.path()).identity(me()).join(server.ticket()).spawn();
    server.serve(capability("shout"), echo()).await.unwrap();
    let mut brought = capability("shout");
    brought.declare("via", &json!("pilot")).unwrap();
    bridge.serve(brought, echo()).await.unwrap();
    let target = format!("{}/shout", bridge.id());
    let agents = |found: &comity::api::types::FindResponse| {
        found.matches.iter().map(|found| found.agent.agent).collect::<Vec<_>>()
    };

    let caller = start().await.unwrap();
    let found = caller.find("named shout").await.unwrap();
    assert_eq!(agents(&found), [server.id(), bridge.id()]);
    let found = caller.find("named shout exclude via = pilot").await.unwrap();
    assert_eq!(agents(&found), [server.id()]);
    let answer = caller.call(target.as_str(), json!({"n": 1})).await.unwrap();
    assert_eq!(answer.agent, bridge.id());
    caller.shutdown().await;
    caller.closed().await;

    std::fs::write(&policy, "[via]\npilot = \"refuse\"\n").unwrap();
    let caller = start().await.unwrap();
    let found = caller.find("named shout").await.unwrap();
    assert_eq!(agents(&found), [server.id()]);
    let refused = caller.call(target.as_str(), json!({"n": 2})).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Refused, "{refused}");
    assert!(refused.message.contains("via pilot"), "{refused}");
    let answer = caller.call("shout", json!({"n": 3})).await.unwrap();
    assert_eq!(answer.agent, server.id());
}

#[tokio::test]
async fn a_node_that_stops_is_not_found_any_more() {
    let (server, caller) = pair().await;
    server.serve(capability("echo"), echo()).await.unwrap();
    assert_eq!(caller.find("named echo").await.unwrap().matches.len(), 1);
    server.shutdown().await;
    server.closed().await;
    assert!(caller.find("named echo").await.unwrap().matches.is_empty());
    let error = caller.call("echo", json!({})).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::NoMatch, "{error}");
}

#[tokio::test]
async fn a_join_that_leads_nowhere_says_so_for_each_address() {
    let other = Node::builder().spawn().await.unwrap();
    let here = other.info().addrs.clone();
    // Nobody: a port that was free a moment ago. Another: a key that does not live at that address.
    let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let meant = comity::Identity::from_secret_bytes(&[9; 32]).id();
    let nobody = comity::Ticket::new(meant, vec![free]);
    let impostor = comity::Ticket::new(meant, here);
    let error = Node::builder().join(nobody).spawn().await.unwrap_err();
    let SpawnError::Join(error) = error else { panic!("{error}") };
    assert!(error.failed[0].reason.contains("did not answer"), "{error}");
    let node = Node::builder().spawn().await.unwrap();
    let address = JoinAddress::try_from(impostor).unwrap();
    let error = node.join(&[address]).await.unwrap_err();
    assert!(error.failed[0].reason.contains("does not hold the key"), "{error}");
    // It works all the same, and can still join.
    node.serve(capability("echo"), echo()).await.unwrap();
    let good = JoinAddress::try_from(other.ticket()).unwrap();
    node.join(&[good]).await.unwrap();
    assert_eq!(other.find("named echo").await.unwrap().matches.len(), 1);
}

#[tokio::test]
async fn what_cannot_be_published_changes_nothing() {
    let (server, caller) = pair().await;
    server.serve(capability("echo"), echo()).await.unwrap();
    let mut wordy = capability("echo");
    wordy.text = "x".repeat(1 << 20);
    assert!(server.serve(wordy, echo()).await.is_err());
    let answer = caller.call("echo", json!({"n": 1})).await.unwrap();
    assert_eq!(answer.value(), &json!({"n": 1}));
}

#[tokio::test]
async fn a_deadline_is_kept() {
    let (server, caller) = pair().await;
    let never = Function::new(|_: Invocation| std::future::pending());
    server.serve(capability("never"), Arc::new(never)).await.unwrap();
    let mut request = CallRequest::new("never", json!({}));
    request.timeout_ms = Some(200);
    let waited = tokio::time::timeout(Duration::from_secs(20), caller.call_with(request)).await;
    let error = waited.expect("it ends by itself").unwrap_err();
    assert_eq!(error.code, ErrorCode::Timeout, "{error}");
}
