//! What callers are let in to, and what the others are told.

use bytes::Bytes;
use comity_capability::record::{Capability, Visibility};
use comity_core::{AgentId, Hash, Identity, Time};
use comity_specialist::function::Function;
use comity_specialist::{Answer, SpecialistError};
use comity_trust::Scope;
use comity_trust::endorse::{Endorse, How};
use comity_trust::grant::Grant;
use std::sync::Arc;
use std::time::Duration;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn identity(seed: u8) -> Identity {
    Identity::from_secret_bytes(&[seed; 32])
}

fn caller(agent: AgentId, session: u8, grants: Option<Bytes>) -> Caller {
    Caller {
        agent,
        session: Some(Hash([session; 32])),
        hello: None,
        membership: None,
        grants,
        remote: None,
    }
}

fn served(name: &str, visibility: Visibility, group: Option<&str>) -> Served {
    let mut capability = Capability::new(name).unwrap();
    capability.visibility = visibility;
    let nothing =
        Function::new(|_| async { Ok::<_, SpecialistError>(Answer::One(serde_json::Value::Null)) });
    Served::new(capability, Arc::new(nothing), "test".to_owned(), group.map(str::to_owned)).unwrap()
}

struct Fixture {
    gate: Gate,
    home: tempfile::TempDir,
    storage: Storage,
    clock: Clock,
}

fn gate(policy: &str) -> Fixture {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join(POLICY_FILE), policy).unwrap();
    let storage = Storage::open(&home.path().join("node.redb")).unwrap();
    let clock = Clock::new(0);
    let gate = open(&home, &storage, &clock);
    Fixture { gate, home, storage, clock }
}

fn open(home: &tempfile::TempDir, storage: &Storage, clock: &Clock) -> Gate {
    let policy = Some(home.path().join(POLICY_FILE));
    let groups = Some(home.path().join("groups"));
    Gate::open(Arc::new(identity(1)), clock.clone(), storage.clone(), policy, groups).unwrap().0
}

fn chain(holder: &Identity, pattern: &str, now: Time, uses: u64) -> Chain {
    let scope: Scope = pattern.parse().unwrap();
    Chain::issue(Grant::new(holder.id(), [scope], now, now + HOUR).uses(uses), &identity(1))
        .unwrap()
}

fn shown(chain: &Chain) -> Option<Bytes> {
    Some(Presented::new(Some(chain.to_bytes()), Vec::new(), Vec::new()).encode())
}

#[test]
fn who_has_nothing_from_this_agent_learns_nothing() {
    let fixture = gate("[[rule]]\ndeny = \"locked\"\nanyone = true\nnote = \"secret reason\"\n");
    let (alice, thief) = (identity(2), identity(3));
    let pay = served("pay", Visibility::Private, None);
    let locked = served("locked", Visibility::Private, None);
    let stolen = shown(&chain(&alice, "pay", fixture.clock.now(), 9));
    let foreign = Chain::issue(
        Grant::new(thief.id(), [Scope::any()], fixture.clock.now(), fixture.clock.now() + HOUR),
        &identity(4),
    );
    let garbage = Some(Bytes::from_static(b"\xff\x00garbage"));
    for grants in [None, stolen, shown(&foreign.unwrap()), garbage] {
        let caller = caller(thief.id(), 9, grants.clone());
        let said = |name: &str, served: Option<&Served>| {
            let asked = Asked { caller: &caller, name, served, member: false, arguments: None };
            let (offer, call) = (
                fixture.gate.preview(&asked).unwrap_err(),
                fixture.gate.admit(&asked).unwrap_err(),
            );
            assert_eq!((offer.code, &offer.message), (call.code, &call.message));
            (call.code, call.message.replace(name, "NAME"))
        };
        let missing = said("absent-one", None);
        assert_eq!(said("pay", Some(&pay)), missing, "{grants:?}");
        assert_eq!(said("locked", Some(&locked)), missing, "{grants:?}");
        assert_eq!(missing.0 == ErrorCode::NotFound, grants.is_none());
        assert!(!missing.1.contains("secret"), "{}", missing.1);
    }
    // A grant for one name tells nothing of others.
    let narrow = caller(alice.id(), 8, shown(&chain(&alice, "pay", fixture.clock.now(), 9)));
    let said = |name: &str, served| {
        let asked = Asked { caller: &narrow, name, served, member: false, arguments: None };
        fixture
            .gate
            .admit(&asked)
            .map(|admitted| admitted.ground)
            .map_err(|error| error.message.replace(name, "NAME"))
    };
    assert!(matches!(said("pay", Some(&pay)), Ok(Ground::Grant { .. })));
    assert_eq!(said("locked", Some(&locked)), said("absent-one", None));
}

#[tokio::test]
async fn a_use_is_on_disk_before_the_call_runs() {
    let fixture = gate("");
    let alice = identity(2);
    let pay = served("pay", Visibility::Private, None);
    let grants = shown(&chain(&alice, "pay", fixture.clock.now(), 2));
    let admit = |gate: &Gate| {
        let caller = caller(alice.id(), 7, grants.clone());
        gate.admit(&Asked {
            caller: &caller,
            name: "pay",
            served: Some(&pay),
            member: false,
            arguments: None,
        })
    };
    let mut first = admit(&fixture.gate).unwrap();
    fixture.gate.commit(&mut first).await.unwrap();
    let again = open(&fixture.home, &fixture.storage, &fixture.clock);
    let second = admit(&again).unwrap();
    assert_eq!(admit(&again).unwrap_err().reason, Some("grant-used-up"));
    again.give_back(&second);
    assert!(admit(&again).is_ok(), "what never ran is given back");
}

#[tokio::test]
async fn what_is_withdrawn_stays_so_and_a_new_policy_asks_again() {
    let fixture = gate("");
    let alice = identity(2);
    let pay = served("pay", Visibility::Private, None);
    let link = chain(&alice, "pay", fixture.clock.now(), 9);
    let caller = caller(alice.id(), 7, shown(&link));
    let asked =
        Asked { caller: &caller, name: "pay", served: Some(&pay), member: false, arguments: None };
    assert!(fixture.gate.preview(&asked).is_ok());
    std::fs::write(fixture.home.path().join(POLICY_FILE), "[[rule]]\ndeny = \"pay\"\n").unwrap();
    fixture.gate.reload().unwrap();
    let denied = fixture.gate.preview(&asked).unwrap_err();
    assert_eq!((denied.code, denied.reason), (ErrorCode::Denied, Some("policy-denied")));
    std::fs::write(fixture.home.path().join(POLICY_FILE), "").unwrap();
    fixture.gate.reload().unwrap();
    assert!(fixture.gate.preview(&asked).is_ok());
    let key = Withdrawn::Key(alice.id().into());
    fixture.gate.withdraw(key, Time::MAX, Reason::KeyCompromised).await.unwrap();
    let again = open(&fixture.home, &fixture.storage, &fixture.clock);
    assert_eq!(again.preview(&asked).unwrap_err().reason, Some("grant-revoked"));
}

#[test]
fn a_group_is_closed_and_its_members_count_as_the_public() {
    let fixture = gate("[[rule]]\nallow = \"*\"\nanyone = true\n\n[[rule]]\ndeny = \"shut\"\n");
    let caller = caller(identity(2).id(), 7, None);
    let model = served("model", Visibility::Private, Some("team"));
    let shut = served("shut", Visibility::Private, Some("team"));
    let ask = |served, member| {
        let name = "model";
        fixture
            .gate
            .preview(&Asked { caller: &caller, name, served, member, arguments: None })
            .is_ok()
    };
    assert!(ask(Some(&model), true));
    assert!(!ask(Some(&shut), true), "a deny holds for members too");
    assert!(!ask(None, false), "for others it is not there, whatever the rules allow");
}

#[test]
fn an_endorsement_counts_if_the_policy_names_its_endorser() {
    let (alice, endorser, stranger) = (identity(2), identity(5), identity(6));
    let policy = format!("[[rule]]\nallow = \"pay\"\nendorsed_by = \"{}\"\n", endorser.id());
    let fixture = gate(&policy);
    let pay = served("pay", Visibility::Private, None);
    let now = fixture.clock.now();
    let word = |by: &Identity, of: &Identity| {
        let scope: Scope = "pay".parse().unwrap();
        Endorse::new(of.id(), scope, How::Operator, now, now + HOUR).seal(by).unwrap()
    };
    let ground = |words: Vec<Vec<u8>>| {
        let grants = Some(Presented::new(None, Vec::new(), words).encode());
        let caller = caller(alice.id(), 7, grants);
        let asked = Asked {
            caller: &caller,
            name: "pay",
            served: Some(&pay),
            member: false,
            arguments: None,
        };
        fixture.gate.preview(&asked).ok()
    };
    assert_eq!(ground(vec![word(&endorser, &alice)]), Some(Ground::Rule { line: 1 }));
    assert_eq!(ground(vec![word(&stranger, &alice)]), None);
    assert_eq!(ground(vec![word(&endorser, &stranger)]), None, "another's endorsement");
    assert_eq!(ground(Vec::new()), None);
}

#[tokio::test]
async fn a_successor_keeps_what_was_withdrawn_and_no_grants() {
    let fixture = gate("[[rule]]\nallow = \"pay\"\ntrusted = true\n");
    let (old, new, alice) = (identity(1), identity(9), identity(2));
    let pay = served("pay", Visibility::Private, None);
    let now = fixture.clock.now();
    let until = now + HOUR;
    fixture.gate.declare(alice.id(), until).await.unwrap();
    let mut hers = Bonds::new(alice.id());
    let word = hers.declare(&alice, old.id(), now, until).unwrap();
    fixture.gate.hear(alice.id(), None, "", Some(&word), None).await.unwrap();
    assert_eq!(fixture.gate.stands(&alice.id()), Standing::Mutual);
    let endorse = Endorse::new(old.id(), "pay".parse().unwrap(), How::Operator, now, until);
    let sealed = endorse.seal(&alice).unwrap();
    fixture.gate.endorsements.keep(sealed, &fixture.storage, now).await.unwrap();
    let grant = chain(&alice, "pay", now, 9);
    fixture.gate.book.keep(grant.clone(), &fixture.storage, now).await.unwrap();
    let thief = Withdrawn::Key(identity(3).id().into());
    fixture.gate.withdraw(thief, Time::MAX, Reason::Misused).await.unwrap();

    let policy = Some(fixture.home.path().join(POLICY_FILE));
    let (clock, storage) = (fixture.clock.clone(), fixture.storage.clone());
    let (after, _) = Gate::open(Arc::new(identity(9)), clock, storage, policy, None).unwrap();
    for issuer in [&old, &new] {
        assert!(after.with_revocations(|known| known.find(&issuer.id(), &thief).is_some()));
    }
    // What it signs now is the new key's, and a peer takes it in as such.
    let mut peer = Revocations::new(alice.id());
    let applied = peer.apply_set(&after.own_set(), after.clock.now()).unwrap();
    assert_eq!((applied.issuer, applied.added), (new.id(), 1));
    // Nothing that was said of the old key is said of the new one.
    assert_eq!(after.stands(&alice.id()), Standing::None);
    assert!(after.book.all().is_empty() && after.endorsements.all().is_empty());
    let caller = caller(alice.id(), 7, shown(&grant));
    let asked =
        Asked { caller: &caller, name: "pay", served: Some(&pay), member: false, arguments: None };
    assert_eq!(after.admit(&asked).unwrap_err().reason, Some("grant-not-mine"));
    // Trust can be declared anew, by both.
    after.declare(alice.id(), until).await.unwrap();
    // A request is not repeated within a minute; the one before was answered.
    after.requests.remove(&(alice.id(), None), &fixture.storage).await.unwrap();
    let word = hers.declare(&alice, new.id(), now, until).unwrap();
    after.hear(alice.id(), None, "", Some(&word), None).await.unwrap();
    assert_eq!(after.stands(&alice.id()), Standing::Mutual);
}

#[test]
fn a_set_that_a_peer_says_has_changed_is_fetched_if_anything_depends_on_it() {
    let endorser = identity(5);
    let policy = format!("[[rule]]\nallow = \"pay\"\nendorsed_by = \"{}\"\n", endorser.id());
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join(POLICY_FILE), policy).unwrap();
    let clock = Clock::new(0);
    let policy = Some(home.path().join(POLICY_FILE));
    let storage = Storage::in_memory().unwrap();
    let (gate, mut fetches) =
        Gate::open(Arc::new(identity(1)), clock.clone(), storage, policy, None).unwrap();
    let mut theirs = Revocations::new(endorser.id());
    let said = |set: &Revocations| RevocationState {
        root: set.own_root(clock.now()),
        issued_ms: clock.now().as_millis(),
    };
    gate.greeted(&identity(6).id(), &said(&theirs));
    assert!(fetches.try_recv().is_err(), "nothing depends on what a stranger withdrew");
    gate.greeted(&endorser.id(), &said(&theirs));
    assert_eq!(fetches.try_recv().unwrap(), endorser.id());
    gate.take_in_set(&endorser.id(), &theirs.publish(&endorser, clock.now()));
    gate.greeted(&endorser.id(), &said(&theirs));
    assert!(fetches.try_recv().is_err(), "it is the set held");
    theirs
        .revoke(Withdrawn::Key(identity(7).id().into()), Time::MAX, Reason::Ended, clock.now())
        .unwrap();
    gate.greeted(&endorser.id(), &said(&theirs));
    assert_eq!(fetches.try_recv().unwrap(), endorser.id());
    // However often it is said, no more than the queue waits.
    for _ in 0..1_000 {
        gate.greeted(&endorser.id(), &said(&theirs));
    }
    let waiting = std::iter::from_fn(|| fetches.try_recv().ok()).count();
    assert_eq!(waiting, CHANGED_LEN);
}
