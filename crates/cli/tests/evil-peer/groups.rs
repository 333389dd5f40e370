//! Memberships made up, borrowed, taken from a stranger, replayed after an expulsion.

use std::time::Duration;

use comity_core::receipt::ShortText;
use comity_core::{AgentId, Hash, Identity, Time};
use comity_trust::admission::{Admit, Charter, Rule};
use comity_trust::revoke::{Reason, Revocations, Withdrawn};
use data_encoding::BASE64URL_NOPAD;
use iroh::endpoint::Connection;
use minicbor::bytes::ByteVec;

use crate::peer::{Evil, RPC, Request, Said, Victim, ask, code, hello};

const CLUB: &str = "club";
const LIFE: Duration = Duration::from_secs(600);

fn now() -> Time {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Time::from_millis(u64::try_from(since.as_millis()).unwrap())
}

/// A group that the victim founded and lets in to `diary`: its key and its charter.
fn club(victim: &Victim, stewards: &[AgentId]) -> (AgentId, Vec<u8>) {
    let stewards: Vec<String> = stewards.iter().map(ToString::to_string).collect();
    let mut line = vec!["--json", "group", "create", CLUB, "--governed"];
    for steward in &stewards {
        line.extend(["--steward", steward]);
    }
    let made = victim.node.ok(&line).json();
    let group = made["group"].as_str().unwrap();
    let policy =
        format!("[groups]\nclub = \"{group}\"\n\n[[rule]]\nallow = \"diary\"\ngroups = \"club\"\n");
    std::fs::write(victim.node.home.join("policy.toml"), policy).unwrap();
    victim.node.ok(&["policy", "reload"]);
    (group.parse().unwrap(), taken_apart(made["text"].as_str().unwrap()).0)
}

/// Charter and admissions in a text.
fn taken_apart(text: &str) -> (Vec<u8>, Vec<Vec<u8>>) {
    let body = text.strip_prefix("comity-charter:").unwrap();
    let bytes = BASE64URL_NOPAD.decode(body.as_bytes()).unwrap();
    let mut d = minicbor::Decoder::new(&bytes);
    assert_eq!((d.map().unwrap(), d.u8().unwrap(), d.u8().unwrap()), (Some(3), 0, 1));
    assert_eq!(d.u8().unwrap(), 1);
    let charter = d.bytes().unwrap().to_vec();
    assert_eq!(d.u8().unwrap(), 2);
    let admissions: Vec<ByteVec> = d.decode().unwrap();
    (charter, admissions.into_iter().map(Into::into).collect())
}

/// The victim admits an agent: the sealed admission.
fn admitted(victim: &Victim, agent: AgentId) -> Vec<u8> {
    let made = victim.node.ok(&["--json", "group", "admit", CLUB, &agent.to_string()]).json();
    let (_, mut admissions) = taken_apart(made["text"].as_str().unwrap());
    admissions.remove(0)
}

fn admission(by: &Identity, group: AgentId, subject: AgentId) -> Vec<u8> {
    Admit::new(group, subject, "*".parse().unwrap(), now(), now() + LIFE).seal(by)
}

/// What is shown with a call, written by hand.
fn shown(charter: &[u8], admissions: &[&[u8]], sets: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut e = minicbor::Encoder::new(&mut bytes);
    let list = |e: &mut minicbor::Encoder<&mut Vec<u8>>, items: &[&[u8]]| {
        e.array(items.len().try_into().unwrap()).unwrap();
        for item in items {
            e.bytes(item).unwrap();
        }
    };
    e.map(if sets.is_empty() { 2 } else { 3 }).unwrap().u8(0).unwrap().u8(1).unwrap();
    if !sets.is_empty() {
        e.u8(2).unwrap();
        list(&mut e, sets);
    }
    e.u8(4).unwrap().map(3).unwrap().u8(0).unwrap().u8(1).unwrap();
    e.u8(1).unwrap().bytes(charter).unwrap().u8(2).unwrap();
    list(&mut e, admissions);
    bytes
}

async fn session(victim: &Victim, peer: &Evil) -> Connection {
    let link = peer.dial(victim.id, victim.addr, RPC).await;
    hello(&link).await;
    link
}

async fn says(link: &Connection, name: &str, shown: Vec<u8>) -> Said {
    let request = Request { grants: Some(shown), ..Request::call(name, "{\"member\":true}") };
    ask(link, &request).await
}

async fn allowed(link: &Connection, shown: Vec<u8>, what: &str) {
    let answer = says(link, "diary", shown).await;
    assert!(matches!(answer, Said::Whole { .. }), "{what}: {answer:?}");
}

/// Refused as if there were no such capability, in the same words as for one that there is not.
async fn as_if_absent(link: &Connection, shown: Vec<u8>, what: &str) {
    let (there, absent) =
        (says(link, "diary", shown.clone()).await, says(link, "dairy", shown).await);
    match (&there, &absent) {
        (Said::Error { code: one, message: a }, Said::Error { code: other, message: b }) => {
            assert_eq!((*one, *other), (code::NOT_FOUND, code::NOT_FOUND), "{what}: {there:?}");
            assert_eq!(a.replace("diary", "NAME"), b.replace("dairy", "NAME"), "{what}");
        }
        other => panic!("{what}: {other:?}"),
    }
}

/// Refused with the reason, which is the same whether there is such a capability.
async fn refused(link: &Connection, shown: Vec<u8>, words: &str) {
    for name in ["diary", "dairy"] {
        match says(link, name, shown.clone()).await {
            Said::Error { code, message } => {
                assert_eq!(code, code::DENIED, "{name}: {message}");
                assert!(message.contains(words), "{name}: {message}");
            }
            other => panic!("{name} {words}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn nobody_becomes_a_member_by_its_own_word_or_a_strangers() {
    let victim = Victim::start();
    let (alice, eve, mallory) = (Evil::new().await, Evil::new().await, Evil::new().await);
    let (group, charter) = club(&victim, &[]);
    let hers = admitted(&victim, alice.id());
    let (alices, eves) = (session(&victim, &alice).await, session(&victim, &eve).await);
    allowed(&alices, shown(&charter, &[&hers], &[]), "the control must pass").await;

    let by_herself = admission(&eve.identity, group, eve.id());
    let by_mallory = admission(&mallory.identity, group, eve.id());
    // Her own name put where the admission has Alice's.
    let mut renamed = hers.clone();
    let at = renamed.windows(32).position(|part| part == alice.id().as_bytes()).unwrap();
    renamed[at..at + 32].copy_from_slice(eve.id().as_bytes());
    // A group of hers that is called the same, with her as its steward, and her as the steward of the victim's.
    let own = |steward: AgentId, by: &Identity| {
        let rule = Rule::Governed { needed: 1, endorsers: [steward.into()].into() };
        let name = ShortText::try_from(CLUB).unwrap();
        Charter::new(99, name, rule, now(), now() + LIFE).seal(by).unwrap()
    };
    let hers_alone = own(eve.id(), &eve.identity);
    let open = {
        let name = ShortText::try_from(CLUB).unwrap();
        Charter::new(99, name, Rule::Open, now(), now() + LIFE).seal(&eve.identity).unwrap()
    };
    let mut claimed = hers_alone.clone();
    let at = claimed.windows(32).position(|part| part == eve.id().as_bytes()).unwrap();
    claimed[at..at + 32].copy_from_slice(group.as_bytes());
    for (charter, admissions, what) in [
        (&charter, vec![&by_herself[..]], "admitted by herself"),
        (&charter, vec![&by_mallory], "admitted by no steward"),
        (&charter, vec![&hers], "with another's admission"),
        (&charter, vec![&renamed], "with another's admission, renamed"),
        (&charter, vec![&by_herself, &hers], "with both"),
        (&charter, vec![], "with nothing"),
        (&hers_alone, vec![&by_herself], "in a group of her own"),
        (&open, vec![], "in an open group of her own"),
        (&claimed, vec![&by_herself], "by a charter in the group's name"),
    ] {
        as_if_absent(&eves, shown(charter, &admissions, &[]), what).await;
    }
    for bit in (0..hers.len() * 8).step_by(61) {
        let mut flipped = hers.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        as_if_absent(&alices, shown(&charter, &[&flipped], &[]), &format!("bit {bit}")).await;
    }
    let respelled = [&[0xd2, 0x98, 0x04][..], &hers[2..]].concat();
    as_if_absent(&alices, shown(&charter, &[&respelled], &[]), "respelled").await;
    assert_eq!(victim.executed().len(), 1);
    victim.serves_on().await;
}

#[tokio::test]
async fn an_expelled_member_is_out_whatever_it_replays() {
    let victim = Victim::start();
    let (alice, bob, carol) = (Evil::new().await, Evil::new().await, Evil::new().await);
    let (group, charter) = club(&victim, &[bob.id()]);
    let hers = admitted(&victim, alice.id());
    let alices = session(&victim, &alice).await;
    allowed(&alices, shown(&charter, &[&hers], &[]), "a member").await;

    // Carol is Bob's: nothing counts until it is known what he withdrew, and no longer than that is known.
    let carols = session(&victim, &carol).await;
    let his = admission(&bob.identity, group, carol.id());
    refused(&carols, shown(&charter, &[&his], &[]), "nothing is known here").await;
    let mut withdrawn = Revocations::new(bob.id());
    let long_ago = Time::from_millis(now().as_millis() - 3_600_000);
    let old = withdrawn.publish(&bob.identity, long_ago);
    refused(&carols, shown(&charter, &[&his], &[&old]), "known here is of").await;
    let clean = withdrawn.publish(&bob.identity, now());
    let of_another = Revocations::new(carol.id()).publish(&carol.identity, now());
    refused(&carols, shown(&charter, &[&his], &[&of_another]), "known here is of").await;
    allowed(&carols, shown(&charter, &[&his], &[&clean]), "with his newest set").await;
    // He takes it back; his earlier word, shown again, changes nothing, and neither does his new word without the withdrawal.
    let target = Withdrawn::Statement(Hash::of(&his));
    withdrawn.revoke(target, now() + LIFE, Reason::Ended, now()).unwrap();
    let taken_back = withdrawn.publish(&bob.identity, now());
    refused(&carols, shown(&charter, &[&his], &[&taken_back]), "took its admission back").await;
    let lie = Revocations::new(bob.id()).publish(&bob.identity, now());
    for set in [&clean, &lie] {
        refused(&carols, shown(&charter, &[&his], &[set]), "took its admission back").await;
    }
    let again = session(&victim, &carol).await;
    refused(&again, shown(&charter, &[&his], &[&clean]), "took its admission back").await;

    victim.node.ok(&["group", "expel", CLUB, &alice.id().to_string(), "--reason", "misused"]);
    refused(&alices, shown(&charter, &[&hers], &[]), "expelled").await;
    let bobs = admission(&bob.identity, group, alice.id());
    refused(&alices, shown(&charter, &[&bobs], &[&lie]), "expelled").await;
    let anew = session(&victim, &alice).await;
    refused(&anew, shown(&charter, &[&hers], &[]), "expelled").await;
    assert_eq!(victim.executed().len(), 2);
    victim.serves_on().await;
}
