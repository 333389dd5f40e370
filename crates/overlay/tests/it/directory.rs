//! The production services with real records, from declaration to answer.

use std::time::Duration;

use comity_capability::keys::group_keys;
use comity_capability::query::Query as Question;
use comity_capability::record::{Beat, Capability, Load, PeerRecord, Record, Status, Tombstone};
use comity_core::{Canonical, Hash, Identity, Position, Time};
use comity_overlay::directory::{Directory, beat, digest, pack};
use comity_overlay::{
    Action, Command, Config, Contact, Content, ItemKind, Outcome, Overlay, Publication, Query,
    QueryReport, QueryStep, Reject, Verifier,
};
use serde_json::json;

use crate::net::START;

const HOUR: Duration = Duration::from_secs(3_600);

struct Alone {
    identity: Identity,
    overlay: Overlay,
    services: Directory,
}

impl Alone {
    fn new() -> Self {
        let identity = Identity::from_secret_bytes(&[5; 32]);
        let place = Position::of(&identity.id()).overlay_id();
        let me = Contact::server(identity.id(), place, vec!["127.0.0.1:1".parse().unwrap()]);
        Self {
            identity,
            overlay: Overlay::new(Config::default(), me, [0; 32], START),
            services: Directory::new(0),
        }
    }

    /// Carries a command out on this node alone.
    fn run(&mut self, command: Command) -> Outcome {
        self.overlay.command(START, &mut self.services, command);
        let mut done = None;
        while let Some(action) = self.overlay.poll_action() {
            if let Action::Done { outcome, .. } = action {
                done = Some(outcome);
            }
        }
        done.expect("a node alone needs nobody's answer")
    }

    fn find(&mut self, text: &str) -> QueryReport {
        let question = Question::parse_text(text).unwrap();
        let plan = question.plan();
        let steps = plan.steps.iter();
        let steps = steps.map(|step| QueryStep {
            keys: step.keys.iter().map(|key| key.key).collect(),
            complete: step.complete,
        });
        let query = Query {
            steps: steps.collect(),
            query: Canonical::encode(&question),
            want: 5,
            limit: 32,
            exclude: Vec::new(),
            fresh: false,
            secret: None,
        };
        match self.run(Command::Query(query)) {
            Outcome::Answers(report) => report,
            other => panic!("{other:?}"),
        }
    }
}

/// The digest of an FX table with its labels, and the beat of its agent.
fn declared(identity: &Identity) -> Vec<Publication> {
    let mut capability = Capability::new("fx-history").unwrap();
    capability.visibility = comity_capability::record::Visibility::Public;
    capability.title = "Historical FX rates".to_owned();
    capability.declare("pair", &json!(["EUR/USD", "EUR/JPY"])).unwrap();
    capability.declare("time", &json!("1999-01-04/2025-12-31")).unwrap();
    capability.declare("resolution", &json!("P1D")).unwrap();
    capability.classes = vec![comity_capability::taxonomy::resolve("fx rates").unwrap()];
    let labels = group_keys(&capability).into_iter().map(|key| key.label).collect();
    let mut record = Record::new(3, START, START + HOUR, Hash([1; 32]));
    record.capabilities.push(capability);
    let sealed = record.seal(identity).unwrap();
    let item = pack(ItemKind::Digest, &record.digests(&sealed).unwrap()[0].seal(identity));
    let alive = Beat::new(3, START, START + HOUR, Status::Warm, Load::Idle).seal(identity);
    vec![Publication { item, labels }, Publication::unlabelled(pack(ItemKind::Beat, &alive))]
}

#[test]
fn a_table_is_found_by_what_it_covers() {
    let mut node = Alone::new();
    let items = declared(&node.identity);
    let outcome = node.run(Command::Publish { items });
    let Outcome::Published(report) = outcome else { panic!("{outcome:?}") };
    assert!(
        report.items.iter().all(|item| item.places_held == item.places && item.places >= 4),
        "{report:?}"
    );
    let fitting = r#"find "historical FX data" where pair = EUR/USD and time covers 2021..2024 and resolution <= 1d"#;
    let found = node.find(fitting);
    assert_eq!(found.matches.len(), 1, "{found:?}");
    assert_eq!(digest(&found.matches[0].item).unwrap().name, "fx-history");
    assert_eq!(beat(found.matches[0].beat.as_ref().unwrap()).unwrap().status, Status::Warm);
    let too_fine = r#"find "historical FX data" where pair = EUR/USD and time covers 2021..2024 and resolution <= 1m"#;
    let missed = node.find(too_fine);
    assert_eq!((missed.matches.len(), missed.near.len()), (0, 1));
    assert!(node.find(r#"find "FX" where pair = GBP/CHF"#).matches.is_empty());
}

#[test]
fn a_tombstone_retires_by_name() {
    let mut node = Alone::new();
    let items = declared(&node.identity);
    node.run(Command::Publish { items });
    let retire = |node: &Alone, name: &str| {
        let tombstone = Tombstone::new(3, START, START + HOUR, Some(name.to_owned()))
            .unwrap()
            .seal(&node.identity);
        let labels = vec![format!("name/{name}")];
        Command::Retire {
            tombstones: vec![Publication { item: pack(ItemKind::Tombstone, &tombstone), labels }],
        }
    };
    let other = retire(&node, "another");
    node.run(other);
    assert_eq!(node.find(r#"find "historical FX data" where pair = EUR/USD"#).matches.len(), 1);
    let this = retire(&node, "fx-history");
    node.run(this);
    assert!(node.find(r#"find "historical FX data" where pair = EUR/USD"#).matches.is_empty());
}

#[test]
fn what_does_not_verify_is_refused_by_name() {
    let identity = Identity::from_secret_bytes(&[5; 32]);
    let mut services = Directory::new(0);
    let sealed = PeerRecord::new(1, START, START + HOUR, &["127.0.0.1:9".parse().unwrap()], true)
        .seal(&identity);
    let item = pack(ItemKind::Peer, &sealed);
    let verified = services.verify(START, &item).unwrap();
    assert!(
        matches!(&verified.content, Content::Peer(contact) if contact.agent == identity.id() && contact.server)
    );
    let mut refused = |bytes: Vec<u8>, now: Time| services.verify(now, &bytes.into()).unwrap_err();
    assert_eq!(refused(pack(ItemKind::Beat, &sealed).to_vec(), START), Reject::Signature);
    let mut forged = item.to_vec();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(refused(forged, START), Reject::Signature);
    assert_eq!(refused(Vec::new(), START), Reject::Malformed);
    assert_eq!(refused(vec![9; 50], START), Reject::Malformed);
    let later = PeerRecord::new(2, START + HOUR, START + 2 * HOUR, &[], true).seal(&identity);
    assert_eq!(refused(pack(ItemKind::Peer, &later).to_vec(), START), Reject::Future);
    assert_eq!(refused(pack(ItemKind::Peer, &later).to_vec(), START + 9 * HOUR), Reject::Expired);
    assert_eq!(Directory::new(200).verify(START, &item).unwrap_err(), Reject::Mint);
}
