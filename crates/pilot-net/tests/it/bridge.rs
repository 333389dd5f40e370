//! Requests and answers over the data exchange.

use std::sync::Arc;

use comity_pilot::service::data::{Frame, Kind};
use comity_pilot_net::{AgentError, Handler};

use crate::support::{Network, PATIENCE};

fn shout() -> Handler {
    Arc::new(|node, json: Vec<u8>| {
        let text = String::from_utf8_lossy(&json).to_uppercase();
        Box::pin(async move { format!("{{\"from\":{node},\"said\":{text}}}").into_bytes() })
    })
}

#[tokio::test]
async fn what_is_offered_answers_on_the_connection_and_on_one_back() {
    let network = Network::start().await;
    let (one, two) = network.pair().await;
    two.offer("shout", 1001, shout()).unwrap();
    two.offer("shout", 2000, shout()).unwrap();
    assert!(matches!(two.offer("shout", 2000, shout()), Err(AgentError::Port(2000))));
    assert!(matches!(two.offer("shout", 444, shout()), Err(AgentError::Port(444))));
    for port in [1001, 2000] {
        let answer = one.request(two.id(), port, b"\"hello\"", PATIENCE).await.unwrap();
        let expected = format!("{{\"from\":{},\"said\":\"HELLO\"}}", one.id());
        assert_eq!(answer, Frame::new(Kind::Json, expected));
    }
    // A peer that only sends, and closes, finds the answer in its inbox.
    let mut arrivals = one.inbox().arrivals();
    one.send(two.id(), &Frame::new(Kind::Json, "\"later\"")).await.unwrap();
    let message = arrivals.recv().await.unwrap();
    assert!(std::fs::read_to_string(&message.path).unwrap().contains("LATER"));
    // What is not JSON goes to the inbox as ever.
    one.send(two.id(), &Frame::new(Kind::Text, "plain")).await.unwrap();
    assert_eq!(two.inbox().list().unwrap().len(), 1);
}

#[tokio::test]
async fn a_service_that_answers_on_a_new_connection_is_understood() {
    let network = Network::start().await;
    let (one, two) = network.pair().await;
    let mut arrivals = two.inbox().arrivals();
    let (asker, service) = (one.id(), Arc::clone(&two));
    let served = tokio::spawn(async move {
        let asked = arrivals.recv().await.unwrap();
        assert_eq!(asked.name, "message.json");
        service.send(asker, &Frame::new(Kind::Text, "forty-two")).await.unwrap();
    });
    let answer = one.request(two.id(), 1001, b"{}", PATIENCE).await.unwrap();
    assert_eq!(answer, Frame::new(Kind::Text, "forty-two"));
    served.await.unwrap();
    assert_eq!(one.inbox().list().unwrap(), [], "an answer is no message");
}
