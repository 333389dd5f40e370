//! Joining, trust, and the way packets take.

use comity_pilot::session::Path;
use comity_pilot_net::{Agent, AgentError, Fingerprint, RendezvousServer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::support::{Network, PATIENCE};

#[tokio::test]
async fn two_private_nodes_agree_and_leave_the_relay() {
    let network = Network::start().await;
    let (one, two) = network.pair().await;
    // The request went through the beacon: the registry tells a private node's endpoint to nobody. Now both may know.
    let path = |agent: &Agent| agent.node().peers()[0].path;
    let direct = async {
        while !matches!(path(&one), Some(Path::Direct(_)))
            || !matches!(path(&two), Some(Path::Direct(_)))
        {
            one.ping(two.id()).await.unwrap();
            two.ping(one.id()).await.unwrap();
        }
    };
    timeout(PATIENCE, direct).await.expect("still relayed");
    assert!(network.server.status().relayed > 0);
    assert_eq!(network.server.status().pairs, 1);

    let data: Vec<u8> = (0..200_000u32).flat_map(u32::to_be_bytes).collect();
    let connection = one.connect(two.id(), 7).await.unwrap();
    let (mut reading, mut writing) = tokio::io::split(connection);
    let mut back = vec![0; data.len()];
    let (sent, got) = tokio::join!(writing.write_all(&data), reading.read_exact(&mut back));
    sent.unwrap();
    got.unwrap();
    assert!(back == data);
}

#[tokio::test]
async fn a_node_has_its_number_and_friends_again_after_a_restart() {
    let network = Network::start().await;
    let (one, two) = network.pair().await;
    let (id, key) = (one.id(), one.identity().public());
    drop(one);
    let again = network.agent("one").await;
    assert_eq!((again.id(), again.identity().public()), (id, key));
    assert!(again.trust_snapshot().is_trusted(two.id()));
    again.ping(two.id()).await.unwrap();
    let found = two.find("one").await.unwrap();
    assert_eq!((found.node, found.key), (id, key));
}

#[tokio::test]
async fn the_own_number_is_refused_at_once() {
    let network = Network::start().await;
    let one = network.agent("one").await;
    let refused = one.connect(one.id(), 7).await.unwrap_err();
    assert!(matches!(refused, AgentError::Own(_)), "{refused}");
    one.ping(one.id()).await.unwrap();
}

#[tokio::test]
async fn a_registry_of_another_certificate_is_not_spoken_to() {
    let mut network = Network::start().await;
    let home = network.dir.path().join("tls");
    network.server = RendezvousServer::start(Network::serve(home.clone(), true)).await.unwrap();
    let pin = network.server.fingerprint();
    let one = network.agent("one").await;
    assert!(one.find("one").await.is_ok());

    let other: Fingerprint = "0".repeat(64).parse().unwrap();
    let refused = Agent::join(network.join("two", Some(other))).await.unwrap_err();
    assert!(matches!(refused, AgentError::Registry(_)), "{refused}");
    let plain = Agent::join(network.join("two", None)).await;
    assert!(plain.is_err(), "a TLS registry took a request in the clear");

    network.server.close().unwrap();
    network.server = RendezvousServer::start(Network::serve(home, true)).await.unwrap();
    assert_eq!(network.server.fingerprint(), pin, "the certificate changed with a restart");
}

#[tokio::test]
async fn a_request_the_registry_relayed_is_answered_by_asking_back() {
    let network = Network::start().await;
    let (one, two) = (network.agent("one").await, network.agent("two").await);
    // What a daemon does whose peer it cannot resolve.
    let registry = comity_pilot_net::Registry::new(one.registry(), None, one.identity().clone());
    let ask = comity_pilot::registry::Request::AskHandshake {
        from: one.id(),
        to: two.id(),
        justification: "relayed".to_owned(),
    };
    registry.register(one.endpoint(), None, Vec::new()).await.unwrap();
    registry.request(&ask).await.unwrap();
    let asker = one.id();
    // The beacon tells that something waits.
    crate::support::until_trust(&two, |agent| {
        agent.trust_snapshot().pending().any(|(node, _)| node == asker)
    })
    .await;
    two.approve(asker).await.unwrap();
    let approver = two.id();
    crate::support::until_trust(&one, |agent| {
        agent.trust_snapshot().pending().any(|(node, _)| node == approver)
    })
    .await;
    one.approve(approver).await.unwrap();
    assert!(one.trust_snapshot().is_trusted(approver));
}
