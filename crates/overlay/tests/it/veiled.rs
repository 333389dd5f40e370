//! Private groups: custodians keep what they cannot read, and only members find it.

use std::time::Duration;

use comity_capability::keys::{GroupKey, group_keys};
use comity_capability::query::Query as Question;
use comity_capability::record::{Capability, Digest, GroupSecret, Record, Tombstone, Visibility};
use comity_core::{Canonical, Hash, Identity, Position, Time};
use comity_overlay::directory::{Directory, digest, pack};
use comity_overlay::wire::{FOUND_VEILED_MAX, Known, QueryOutcome, QueryRequest};
use comity_overlay::{
    Action, Command, CommandError, Config, Contact, CustodianSaid, ItemKind, Outcome, Overlay,
    Place, Publication, Query, QueryReport, QueryStep, Reject, ReplyToken, Request, Response,
    SHARD_VEILED_MAX, ShardId,
};

use crate::fake::{Fake, Item, contact};
use crate::net::{Net, START};

const HOUR: Duration = Duration::from_secs(3_600);
const MINUTE: Duration = Duration::from_secs(60);
const LIFE: Duration = Duration::from_secs(20 * 60);
const SECRET: u8 = 7;
const LABEL: &str = "veiled/of-the-group";

/// Entries of node `index`, each declaring one number.
fn veiled(net: &Net, index: usize, numbers: &[u64]) -> Vec<Publication> {
    let entry = |(slot, number): (u64, &u64)| {
        let value = number << 8 | u64::from(SECRET);
        let entry = net.digest(index, slot, value, LIFE);
        Item { kind: ItemKind::Veiled, ..entry }.publication(&[LABEL])
    };
    (1..).zip(numbers).map(entry).collect()
}

fn bad(report: &QueryReport) -> u32 {
    let said = report.keys.iter().flat_map(|key| &key.custodians).map(|asked| &asked.said);
    said.map(|said| match said {
        CustodianSaid::Answered { bad, .. } => u32::from(*bad),
        CustodianSaid::NotHeld
        | CustodianSaid::Split { .. }
        | CustodianSaid::Refused(_)
        | CustodianSaid::Silent(_) => 0,
    })
    .sum()
}

#[test]
fn members_find_and_others_do_not() {
    let mut net = Net::grown(40, true);
    for index in 0..4 {
        let items = veiled(&net, index, &[index as u64, 100 + index as u64]);
        let report = net.publish(index, items);
        assert!(report.items.iter().all(|item| item.places_held == 2), "{report:?}");
    }
    let found = net.find_veiled(9, LABEL, 100..=102, SECRET);
    assert_eq!(found.matches.len(), 3, "{found:?}");
    assert_eq!(bad(&found), 0);

    let wrong = net.find_veiled(9, LABEL, 0..=u64::MAX, SECRET + 1);
    assert!(wrong.matches.is_empty() && wrong.near.is_empty());
    assert!(bad(&wrong) > 0, "another secret opens nothing, and the report says so");

    // A question in the clear is not answered from what nobody can read.
    assert!(net.find_between(9, LABEL, 0..=u64::MAX).matches.is_empty());

    // No beat is needed, and without renewal an entry is gone with its life.
    net.kill(2);
    net.run_for(LIFE + MINUTE);
    let found = net.find_veiled(9, LABEL, 0..=u64::MAX, SECRET);
    assert!(found.matches.iter().all(|found| found.item.signer != contact(2).agent));
}

#[test]
fn a_large_group_splits_and_is_found_whole() {
    const NODES: usize = 48;
    const EACH: u64 = 5;
    let config = Config { report_every: MINUTE, republish_max: 10 * MINUTE, ..Config::default() };
    let mut net = Net::grown_with(&config, NODES, false);
    net.run_for(6 * MINUTE);
    for index in 0..NODES {
        let first = index as u64 * EACH;
        let numbers: Vec<_> = (first..first + EACH).collect();
        let items = veiled(&net, index, &numbers);
        net.publish(index, items);
    }
    net.run_for(MINUTE);
    let total = NODES as u64 * EACH;
    let found = net.find_veiled(5, LABEL, 0..=total, SECRET);
    assert_eq!(found.matches.len() as u64, total);
    let shards = net.nodes.iter().flat_map(|node| node.overlay.custody().shards());
    let sizes: Vec<_> = shards.map(|(shard, entries)| (shard.depth, entries)).collect();
    assert!(sizes.iter().all(|(_, entries)| *entries <= SHARD_VEILED_MAX), "{sizes:?}");
    assert!(sizes.iter().any(|(depth, _)| *depth > 0));
}

/// A node alone, with the production services.
struct Alone {
    identity: Identity,
    overlay: Overlay,
    services: Directory,
}

impl Alone {
    fn new(mint_bits: u32) -> Self {
        let identity = minted(mint_bits);
        let place = Position::of(&identity.id()).overlay_id();
        let me = Contact::server(identity.id(), place, vec!["127.0.0.1:1".parse().unwrap()]);
        let services = Directory::new(mint_bits);
        Self { identity, overlay: Overlay::new(Config::default(), me, [0; 32], START), services }
    }

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

    fn ask(&mut self, request: Request) -> Response {
        let token = ReplyToken(1);
        self.overlay.request(START, &mut self.services, &contact(3), token, request);
        let mut reply = None;
        while let Some(action) = self.overlay.poll_action() {
            if let Action::Reply { response, .. } = action {
                reply = Some(response);
            }
        }
        reply.expect("every request is answered")
    }

    fn find(&mut self, text: &str, label: &str, secret: &GroupSecret) -> QueryReport {
        let question = Question::parse_text(text).unwrap();
        let key = GroupKey::of(&secret.shard_label(label));
        let query = Query {
            steps: vec![QueryStep { keys: vec![key], complete: true }],
            query: Canonical::encode(&question),
            want: 5,
            limit: 32,
            exclude: Vec::new(),
            fresh: false,
            secret: Some(secret.clone()),
        };
        match self.run(Command::Query(query)) {
            Outcome::Answers(report) => report,
            other => panic!("{other:?}"),
        }
    }
}

fn minted(bits: u32) -> Identity {
    let identities = (1..=u8::MAX).map(|seed| Identity::from_secret_bytes(&[seed; 32]));
    let mut minted = identities.filter(|identity| Position::of(&identity.id()).meets(bits));
    minted.next().expect("one in eight keys meets three bits")
}

fn secret() -> GroupSecret {
    GroupSecret::from_bytes([9; 32])
}

fn capability() -> Capability {
    let mut capability = Capability::new("merger-model").unwrap();
    capability.visibility = Visibility::Private;
    capability.title = "Values both sides of a merger".to_owned();
    capability.classes = vec![comity_capability::taxonomy::resolve("fx rates").unwrap()];
    capability
}

/// The veiled entry of `signer` under its name, signed by `pseudonym`.
fn entry(signer: &Identity, pseudonym: &Identity, seq: u64) -> (Vec<u8>, String) {
    let capability = capability();
    let label = group_keys(&capability)
        .into_iter()
        .map(|key| key.label)
        .find(|label| label.starts_with("name/"))
        .unwrap();
    let mut record = Record::new(seq, START, START + HOUR, Hash([1; 32]));
    record.capabilities.push(capability);
    let sealed = record.seal(signer).unwrap();
    assert!(record.digests(&sealed).unwrap().is_empty(), "what is private is not listed");
    let digest = Digest::summarise_for_members(&record, 0, Hash::of(&sealed)).unwrap();
    let secret = secret();
    let veiled = secret.veil(&digest, signer, pseudonym, &label, seq, START, START + HOUR).unwrap();
    (veiled, secret.shard_label(&label))
}

#[test]
fn the_production_services_veil_and_unveil() {
    let mut node = Alone::new(0);
    let pseudonym = secret().pseudonym(&node.identity, 0);
    let (veiled, label) = entry(&node.identity, &pseudonym, 4);
    let item = pack(ItemKind::Veiled, &veiled);
    let publish = Command::Publish { items: vec![Publication { item, labels: vec![label] }] };
    let Outcome::Published(report) = node.run(publish) else { panic!("not published") };
    assert_eq!((report.items[0].places, report.items[0].places_held), (2, 2), "{report:?}");

    let found = node.find("named merger-model", "name/merger-model", &secret());
    assert_eq!(found.matches.len(), 1, "{found:?}");
    let item = &found.matches[0].item;
    assert_eq!(item.signer, node.identity.id());
    assert_eq!(digest(item).unwrap().name, "merger-model");
    assert_eq!(node.find("named other", "name/merger-model", &secret()).matches.len(), 0);
    let other = GroupSecret::from_bytes([8; 32]);
    assert!(node.find("named merger-model", "name/merger-model", &other).matches.is_empty());

    let tombstone = Tombstone::new(5, START, START + HOUR, None).unwrap().seal(&pseudonym);
    let item = pack(ItemKind::Tombstone, &tombstone);
    let retire = Command::Retire { tombstones: vec![Publication::unlabelled(item)] };
    assert!(matches!(node.run(retire), Outcome::Retired(_)));
    assert!(node.overlay.custody().iter().all(|(key, _)| key.kind == ItemKind::Tombstone));
    assert!(node.find("named merger-model", "name/merger-model", &secret()).matches.is_empty());
}

#[test]
fn a_pseudonym_and_the_agent_behind_it_must_both_be_minted() {
    const BITS: u32 = 3;
    let mut node = Alone::new(BITS);
    let unminted = (0..=u8::MAX).map(|seed| Identity::from_secret_bytes(&[seed; 32]));
    let mut unminted = unminted.filter(|identity| !Position::of(&identity.id()).meets(BITS));
    let unminted = unminted.next().expect("seven in eight keys do not meet three bits");
    let publish = |(veiled, label): (Vec<u8>, String)| {
        let item = pack(ItemKind::Veiled, &veiled);
        Command::Publish { items: vec![Publication { item, labels: vec![label] }] }
    };

    let cheap = publish(entry(&node.identity, &unminted, 1));
    let Outcome::Failed(CommandError::Item { reject, .. }) = node.run(cheap) else {
        panic!("a pseudonym that cost nothing is published")
    };
    assert_eq!(reject, Reject::Mint);

    // Custodians cannot see who is inside; members do not believe it.
    let pseudonym = secret().pseudonym(&node.identity, BITS);
    assert!(matches!(node.run(publish(entry(&unminted, &pseudonym, 1))), Outcome::Published(_)));
    let found = node.find("named merger-model", "name/merger-model", &secret());
    assert!(found.matches.is_empty() && bad(&found) == 1, "{found:?}");
}

#[test]
fn an_entry_is_kept_where_its_label_says_alone() {
    let mut node = Alone::new(0);
    let pseudonym = secret().pseudonym(&node.identity, 0);
    let (veiled, label) = entry(&node.identity, &pseudonym, 1);
    let item = pack(ItemKind::Veiled, &veiled);
    let store = |labels: &[&str], group: &str| {
        let shard = ShardId::whole(GroupKey::of(group));
        let place = Place::Shard { shard, index: 0 };
        let label = (!labels.is_empty()).then_some(0);
        Request::Store {
            items: vec![item.clone()],
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
            entries: vec![comity_overlay::wire::StoreEntry { item: 0, place, label }],
        }
    };
    let refused = |response: Response| {
        let Response::Stored { outcomes } = response else { panic!("{response:?}") };
        outcomes[0] != comity_overlay::wire::StoreOutcome::Stored
    };
    assert!(refused(node.ask(store(&["name/merger-model"], "name/merger-model"))));
    assert!(refused(node.ask(store(&[], &label))));
    assert!(refused(node.ask(store(&[&label], "veiled/other"))));
    assert!(!refused(node.ask(store(&[&label], &label))));

    // Whoever asks without a query gets the whole shard; what limits it is the shard's own bound.
    let query = QueryRequest {
        shard: ShardId::whole(GroupKey::of(&label)),
        placement: 0,
        query: Vec::new().into(),
        limit: 1,
        cost_max: 0,
        exclude: Vec::new(),
        known: Known::default(),
    };
    let Response::Found { answer: QueryOutcome::Answered(answer), .. } =
        node.ask(Request::Query(query))
    else {
        panic!("not answered")
    };
    assert_eq!((answer.matches, answer.truncated), (vec![item], false));
    const { assert!(FOUND_VEILED_MAX == SHARD_VEILED_MAX) };
}

#[test]
fn a_verifier_without_secrets_opens_nothing() {
    let item =
        Item { kind: ItemKind::Veiled, ..Item::digest(contact(1).agent, 1, 7, START, Time::MAX) };
    let wrong = GroupSecret::from_bytes([8; 32]);
    let mut fake = Fake::default();
    assert!(comity_overlay::Verifier::unveil(&mut fake, START, &item.verified(), &wrong).is_none());
}
