//! Grants: what they allow, and the attacks of threats T11, T14 to T18, T31 and T32, executed.

use std::collections::BTreeSet;

use comity_core::envelope::{self, EnvelopeError};
use comity_core::{AgentId, Hash, Identity, Kind, Sha256Digest};
use comity_trust::grant::{
    Ask, Chain, Context, Counters, Demands, Grant, IssueError, MAX_CHAIN, MAX_COUNTERS_PER_ROOT,
    Refusal, SessionGrants, VerifiedChain, verify,
};
use comity_trust::revoke::{Reason, Revocations, Withdrawn};
use comity_trust::{Level, RawKey, Scope};

use crate::common::{HOUR, NOW, agent, no_flip_opens, opens_as_another, respelled, secs, target};

const CALLEE: u8 = 1;
const ALICE: u8 = 2;
const BOB: u8 = 3;
const CAROL: u8 = 4;
const EVE: u8 = 66;

fn scope(text: &str) -> Scope {
    text.parse().unwrap()
}

fn grant_to(holder: u8, scopes: &str) -> Grant {
    let scopes = scopes.split(' ').map(scope);
    Grant::new(agent(holder).id(), scopes, NOW, NOW + secs(HOUR))
}

/// Callee -> Alice (depth 2, `fx.*`) -> Bob (depth 1, `fx.rates` and `fx.list`).
fn alices() -> Chain {
    Chain::issue(grant_to(ALICE, "fx.*").depth(2), &agent(CALLEE)).unwrap()
}

fn bobs() -> Chain {
    alices().delegate(grant_to(BOB, "fx.rates fx.list").depth(1), &agent(ALICE)).unwrap()
}

fn verified(chain: &Chain, peer: u8) -> Result<VerifiedChain, Refusal> {
    Chain::from_bytes(&chain.to_bytes())?.verify(&agent(CALLEE).id(), &agent(peer).id())
}

fn ask(name: &str) -> Ask<'_> {
    Ask { target: target(name), cost: 0, arguments: None }
}

fn none_revoked() -> Revocations {
    Revocations::new(agent(CALLEE).id())
}

/// What the callee decides of a call by `peer` now, with nothing revoked and nothing counted before.
fn decide(chain: &Chain, peer: u8, name: &str) -> Result<(), Refusal> {
    verified(chain, peer)?.permits(&ask(name), &Context::at(NOW, &none_revoked()))
}

/// A link signed by whoever wants to, whatever it says.
fn forged(parent: Option<&Chain>, mut grant: Grant, signer: &Identity) -> Chain {
    let above = parent.map(Chain::links).unwrap_or_default();
    grant.parent = above.last().map(|link| Hash::of(link));
    let link = envelope::seal(Kind::Grant, &grant, signer);
    Chain::from_links([above, &[link]].concat()).unwrap()
}

#[test]
fn the_holder_calls_what_every_link_allows() {
    assert_eq!(decide(&alices(), ALICE, "fx.rates"), Ok(()));
    assert_eq!(decide(&alices(), ALICE, "fx.anything"), Ok(()));
    assert_eq!(decide(&bobs(), BOB, "fx.rates"), Ok(()));
    assert_eq!(
        decide(&bobs(), BOB, "fx.anything"),
        Err(Refusal::Capability { link: 2, name: "fx.anything".into() })
    );
    assert_eq!(
        decide(&alices(), ALICE, "weather"),
        Err(Refusal::Capability { link: 1, name: "weather".into() })
    );
}

/// T14: a copied chain is worth nothing to whoever copied it.
#[test]
fn a_stolen_grant_is_refused() {
    let refused = Err(Refusal::NotHolder { holder: agent(BOB).id().into(), peer: agent(EVE).id() });
    assert_eq!(decide(&bobs(), EVE, "fx.rates"), refused);
    // Nor is the part of it that belongs to somebody else, not even to a holder of another part.
    let parent = Chain::from_links(bobs().links()[..1].to_vec()).unwrap();
    let refused =
        Err(Refusal::NotHolder { holder: agent(ALICE).id().into(), peer: agent(BOB).id() });
    assert_eq!(decide(&parent, BOB, "fx.rates"), refused);
}

/// T15: whoever holds nothing cannot add a link, however it is signed.
#[test]
fn self_appended_links_are_refused() {
    let to_eve = grant_to(EVE, "fx.rates");
    let (eve, bob) = (agent(EVE), agent(BOB).id());
    assert_eq!(
        decide(&forged(Some(&bobs()), to_eve.clone(), &eve), EVE, "fx.rates"),
        Err(Refusal::WrongSigner { link: 3, signer: eve.id().into(), holder: bob.into() })
    );
    // Signed by an earlier holder, or by the callee itself, it is no link of this chain either.
    for signer in [ALICE, CALLEE] {
        let chain = forged(Some(&bobs()), to_eve.clone(), &agent(signer));
        let refused =
            Refusal::WrongSigner { link: 3, signer: agent(signer).id().into(), holder: bob.into() };
        assert_eq!(decide(&chain, EVE, "fx.rates"), Err(refused));
    }
    // The key of another in the header does not help.
    let mut link = envelope::seal(
        Kind::Grant,
        &Grant { parent: Some(Hash::of(&bobs().links()[1])), ..to_eve },
        &eve,
    );
    let at = link.windows(32).position(|window| window == eve.id().as_bytes()).unwrap();
    link[at..at + 32].copy_from_slice(bob.as_bytes());
    let chain = Chain::from_links([bobs().links(), &[link]].concat()).unwrap();
    let refused = decide(&chain, EVE, "fx.rates").unwrap_err();
    assert!(
        matches!(refused, Refusal::Link { link: 3, source: EnvelopeError::Signature { .. } }),
        "{refused:?}"
    );
}

/// T15: what a link claims beyond its parents, it does not give.
#[test]
fn widened_links_give_no_more() {
    let wide = forged(Some(&bobs()), grant_to(CAROL, "*"), &agent(BOB));
    assert_eq!(decide(&wide, CAROL, "fx.rates"), Ok(()));
    assert_eq!(
        decide(&wide, CAROL, "fx.other"),
        Err(Refusal::Capability { link: 2, name: "fx.other".into() })
    );
    assert_eq!(
        decide(&wide, CAROL, "pay"),
        Err(Refusal::Capability { link: 1, name: "pay".into() })
    );

    // Longer than its parent: the parent ends it.
    let revocations = none_revoked();
    let long = Grant { not_after: NOW + secs(100 * HOUR), ..grant_to(CAROL, "fx.rates") };
    let chain = verified(&forged(Some(&bobs()), long, &agent(BOB)), CAROL).unwrap();
    let later = NOW + secs(HOUR + 120);
    let refused = Refusal::Expired { link: 1, not_after: NOW + secs(HOUR), now: later };
    assert_eq!(chain.permits(&ask("fx.rates"), &Context::at(later, &revocations)), Err(refused));

    // Of a lower level than its parent asks for: the parent still asks.
    let root = Chain::issue(grant_to(ALICE, "fx.*").depth(1).min_level(Level::L2), &agent(CALLEE))
        .unwrap();
    let chain = verified(&forged(Some(&root), grant_to(BOB, "fx.*"), &agent(ALICE)), BOB).unwrap();
    let context = |level| Context { level, ..Context::at(NOW, &revocations) };
    let refused = Refusal::Level { link: 1, needed: Level::L2, has: Level::L1 };
    assert_eq!(chain.permits(&ask("fx.rates"), &context(Level::L1)), Err(refused));
    assert_eq!(chain.permits(&ask("fx.rates"), &context(Level::L2)), Ok(()));
}

/// T15: links stay in the chain they were made for.
#[test]
fn stripped_and_re_parented_chains_are_refused() {
    let chain = bobs().delegate(grant_to(CAROL, "fx.rates"), &agent(BOB)).unwrap();
    assert_eq!(decide(&chain, CAROL, "fx.rates"), Ok(()));
    let [first, second, third] = chain.links() else { panic!("three links") };
    let without = |links: &[&Vec<u8>]| {
        Chain::from_links(links.iter().map(|link| (*link).clone()).collect()).unwrap()
    };

    assert!(matches!(
        decide(&without(&[first, third]), CAROL, "fx.rates"),
        Err(Refusal::WrongSigner { link: 2, .. })
    ));
    assert!(matches!(
        decide(&without(&[second, third]), CAROL, "fx.rates"),
        Err(Refusal::NotMine { .. })
    ));
    assert!(matches!(decide(&without(&[third]), CAROL, "fx.rates"), Err(Refusal::NotMine { .. })));
    assert!(matches!(
        decide(&without(&[second, first, third]), CAROL, "fx.rates"),
        Err(Refusal::NotMine { .. })
    ));
    assert!(matches!(
        decide(&without(&[first, second, second, third]), CAROL, "fx.rates"),
        Err(Refusal::WrongSigner { link: 3, .. })
    ));

    // Alice has a second, wider grant: Bob's link cannot be hung under it.
    let wider = Chain::issue(grant_to(ALICE, "*").depth(2), &agent(CALLEE)).unwrap();
    let moved = without(&[&wider.links()[0], second]);
    assert_eq!(decide(&moved, BOB, "fx.rates"), Err(Refusal::WrongParent { link: 2 }));
    // A first link that names a parent was cut from a chain.
    let cut = Grant { parent: Some(Hash::of(b"gone")), ..grant_to(ALICE, "fx.*") };
    let cut = Chain::from_links(vec![envelope::seal(Kind::Grant, &cut, &agent(CALLEE))]).unwrap();
    assert_eq!(decide(&cut, ALICE, "fx.rates"), Err(Refusal::WrongParent { link: 1 }));
}

/// T15: a chain ends where its links say.
#[test]
fn over_deep_delegation_is_refused() {
    let closed = Chain::issue(grant_to(ALICE, "fx.*"), &agent(CALLEE)).unwrap();
    let refused = closed.delegate(grant_to(BOB, "fx.*"), &agent(ALICE)).unwrap_err();
    assert_eq!(refused, IssueError::Depth { allowed: 0, depth: 0 });
    let forced = forged(Some(&closed), grant_to(BOB, "fx.*"), &agent(ALICE));
    assert_eq!(decide(&forced, BOB, "fx.rates"), Err(Refusal::TooDeep { link: 2 }));
    for depth in [2, 3] {
        let forced = forged(Some(&alices()), grant_to(BOB, "fx.*").depth(depth), &agent(ALICE));
        assert_eq!(decide(&forced, BOB, "fx.rates"), Err(Refusal::TooDeep { link: 2 }), "{depth}");
    }
    // A depth that no chain can have is no grant at all.
    let deep = envelope::seal(Kind::Grant, &grant_to(ALICE, "*").depth(4), &agent(CALLEE));
    let refused = decide(&Chain::from_links(vec![deep]).unwrap(), ALICE, "fx.rates").unwrap_err();
    assert!(
        matches!(refused, Refusal::Link { link: 1, source: EnvelopeError::Payload { .. } }),
        "{refused:?}"
    );
}

#[test]
fn only_named_delegates_hold_the_links_below() {
    let root = grant_to(ALICE, "fx.*").depth(2).delegates([agent(BOB).id()]);
    let root = Chain::issue(root, &agent(CALLEE)).unwrap();
    let to_bob = root.delegate(grant_to(BOB, "fx.*").depth(1), &agent(ALICE)).unwrap();
    assert_eq!(decide(&to_bob, BOB, "fx.rates"), Ok(()));
    let to_carol = grant_to(CAROL, "fx.*");
    let holder: RawKey = agent(CAROL).id().into();
    assert_eq!(
        root.delegate(to_carol.clone(), &agent(ALICE)),
        Err(IssueError::NotADelegate { holder })
    );
    let direct = forged(Some(&root), to_carol.clone(), &agent(ALICE));
    assert_eq!(
        decide(&direct, CAROL, "fx.rates"),
        Err(Refusal::NotADelegate { link: 2, above: 1, holder })
    );
    // Nor through a named one.
    let through = forged(Some(&to_bob), to_carol, &agent(BOB));
    assert_eq!(
        decide(&through, CAROL, "fx.rates"),
        Err(Refusal::NotADelegate { link: 3, above: 1, holder })
    );
}

/// T18: a proxy cannot pass on what its caller may do elsewhere, nor what it may itself.
#[test]
fn a_forwarded_grant_is_refused_upstream() {
    let (proxy, upstream) = (agent(ALICE), agent(CALLEE));
    let at_proxy = Chain::issue(grant_to(BOB, "fx.*").depth(3), &proxy).unwrap();
    let bytes = at_proxy.to_bytes();
    let chain = Chain::from_bytes(&bytes).unwrap();
    assert!(chain.verify(&proxy.id(), &agent(BOB).id()).is_ok());
    let refused = chain.verify(&upstream.id(), &proxy.id()).unwrap_err();
    assert_eq!(refused, Refusal::NotMine { issuer: proxy.id().into() });
    // The caller's own grant for upstream names the caller, and the proxy's session is the proxy's.
    let callers = Chain::issue(grant_to(BOB, "fx.*"), &upstream).unwrap();
    assert!(matches!(callers.verify(&upstream.id(), &proxy.id()), Err(Refusal::NotHolder { .. })));
    // A visible delegation to the proxy works.
    let visible = Chain::issue(grant_to(BOB, "fx.*").depth(1), &upstream).unwrap();
    let visible = visible.delegate(grant_to(ALICE, "fx.rates"), &agent(BOB)).unwrap();
    assert_eq!(decide(&visible, ALICE, "fx.rates"), Ok(()));
}

/// T11: an approval that pins what it approves ends when that changes.
#[test]
fn a_changed_descriptor_or_interface_is_refused() {
    let pinned = target("fx.rates");
    let scopes = format!("fx.rates@{} fx.list@{}", pinned.descriptor, target("fx.list").interface);
    let chain =
        verified(&Chain::issue(grant_to(ALICE, &scopes), &agent(CALLEE)).unwrap(), ALICE).unwrap();
    let revocations = none_revoked();
    let context = Context::at(NOW, &revocations);
    assert_eq!(chain.permits(&ask("fx.rates"), &context), Ok(()));
    let swapped = Ask {
        target: comity_trust::Target { descriptor: Hash::of(b"evil"), ..pinned },
        cost: 0,
        arguments: None,
    };
    let refused = chain.permits(&swapped, &context).unwrap_err();
    assert_eq!(refused, Refusal::DescriptorChanged { link: 1, name: "fx.rates".into() });
    assert_eq!(refused.code(), "descriptor-changed");
    let other = Sha256Digest::of(b"other");
    let swapped = Ask {
        target: comity_trust::Target { interface: other, ..target("fx.list") },
        cost: 0,
        arguments: None,
    };
    assert!(matches!(
        chain.permits(&swapped, &context),
        Err(Refusal::InterfaceChanged { link: 1, .. })
    ));
}

#[test]
fn times_are_stretched_by_two_minutes_and_no_more() {
    let revocations = none_revoked();
    let chain = verified(&alices(), ALICE).unwrap();
    let at = |now| chain.permits(&ask("fx.rates"), &Context::at(now, &revocations));
    assert_eq!(at(NOW - secs(120)), Ok(()));
    assert!(matches!(at(NOW - secs(121)), Err(Refusal::NotYet { link: 1, .. })));
    assert_eq!(at(NOW + secs(HOUR + 119)), Ok(()));
    assert!(matches!(at(NOW + secs(HOUR + 120)), Err(Refusal::Expired { link: 1, .. })));
    // T33: a clock ten minutes off refuses, and says what both clocks say.
    let refused = at(NOW - secs(600)).unwrap_err().to_string();
    assert!(
        refused.contains("valid from 2026-09-21T") && refused.contains("here it is"),
        "{refused}"
    );
}

#[test]
fn uses_budgets_and_rates_are_counted_in_every_link() {
    let root = grant_to(ALICE, "fx.*").depth(1).uses(3).budget(100);
    let root = Chain::issue(root, &agent(CALLEE)).unwrap();
    let bobs = root.delegate(grant_to(BOB, "fx.*").rate(2, secs(10)), &agent(ALICE)).unwrap();
    let (alices, bobs) = (verified(&root, ALICE).unwrap(), verified(&bobs, BOB).unwrap());
    let mut counters = Counters::new();
    counters.spend(&bobs, 40, NOW).unwrap();
    let spent = counters.spend(&bobs, 40, NOW + secs(1)).unwrap();
    let refused = counters.spend(&bobs, 1, NOW + secs(4)).unwrap_err();
    assert_eq!(
        refused,
        Refusal::Rate { link: 2, calls: 2, window_ms: 10_000, retry_after: secs(6) }
    );
    // What Bob spent, Alice does not have.
    assert_eq!(
        counters.spend(&alices, 21, NOW),
        Err(Refusal::Budget { link: 1, left: 20, cost: 21 })
    );
    counters.spend(&alices, 20, NOW).unwrap();
    assert_eq!(counters.spend(&alices, 0, NOW), Err(Refusal::UsedUp { link: 1, uses: 3 }));
    assert!(matches!(
        counters.spend(&bobs, 0, NOW + secs(10)),
        Err(Refusal::UsedUp { link: 1, .. })
    ));
    // A call that never ran is given back.
    counters.refund(&spent);
    counters.spend(&bobs, 40, NOW + secs(10)).unwrap();
    // And it all survives a restart.
    let stored = serde_json::to_string(&counters).unwrap();
    let mut restored: Counters = serde_json::from_str(&stored).unwrap();
    assert_eq!(restored, counters);
    assert!(restored.spend(&alices, 0, NOW).is_err());
    assert_eq!(restored.used(&alices.leaf()), (3, 100));
}

#[test]
fn a_refused_call_is_counted_nowhere() {
    let root = Chain::issue(grant_to(ALICE, "fx.*").depth(1).uses(9), &agent(CALLEE)).unwrap();
    let bobs = root.delegate(grant_to(BOB, "fx.*").uses(1), &agent(ALICE)).unwrap();
    let bobs = verified(&bobs, BOB).unwrap();
    let mut counters = Counters::new();
    counters.spend(&bobs, 0, NOW).unwrap();
    for _ in 0..20 {
        assert_eq!(counters.spend(&bobs, 0, NOW), Err(Refusal::UsedUp { link: 2, uses: 1 }));
    }
    assert_eq!(counters.used(&bobs.links()[0].hash), (1, 0));
}

/// A holder can sign delegations without end; they exhaust its own share of the counters, and nobody else's.
#[test]
fn endless_delegations_do_not_exhaust_the_counters() {
    let root = Chain::issue(grant_to(ALICE, "fx.*").depth(1), &agent(CALLEE)).unwrap();
    let mut counters = Counters::new();
    let mut refused = 0;
    for n in 0..MAX_COUNTERS_PER_ROOT + 10 {
        let link = grant_to(BOB, "fx.*").uses(1 + u64::from(n));
        let chain = verified(&root.delegate(link, &agent(ALICE)).unwrap(), BOB).unwrap();
        match counters.spend(&chain, 0, NOW) {
            Ok(_) => {}
            Err(Refusal::CountersFull { link: 2 }) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!((refused, counters.len()), (10, 1024));
    let other = Chain::issue(grant_to(CAROL, "fx.*").uses(5), &agent(CALLEE)).unwrap();
    counters.spend(&verified(&other, CAROL).unwrap(), 0, NOW).unwrap();
    // Once the links are over, their counts go.
    counters.prune(NOW + secs(2 * HOUR));
    assert!(counters.is_empty());
}

/// T17: a partitioned verifier is fooled no longer than the capability allows.
#[test]
fn a_withdrawn_link_works_within_the_staleness_bound_only() {
    let alice = agent(ALICE);
    let mut at_callee = none_revoked();
    let mut at_alice = Revocations::new(alice.id());
    at_callee.apply_set(&at_alice.publish(&alice, NOW), NOW).unwrap();
    let chain = verified(&bobs(), BOB).unwrap();
    let demands = Demands { max_stale: Some(secs(600)), max_life: None };
    let decide = |now, revocations: &Revocations| {
        chain.permits(&ask("fx.rates"), &Context { demands, ..Context::at(now, revocations) })
    };
    assert_eq!(decide(NOW, &at_callee), Ok(()));
    // Alice withdraws Bob's link; nothing reaches the callee.
    at_alice
        .revoke(Withdrawn::Statement(chain.leaf()), chain.valid().1, Reason::Misused, NOW + secs(1))
        .unwrap();
    let set = at_alice.publish(&alice, NOW + secs(1));
    assert_eq!(decide(NOW + secs(600), &at_callee), Ok(()));
    let refused = decide(NOW + secs(601), &at_callee).unwrap_err();
    assert!(
        matches!(&refused, Refusal::Stale { issuer, as_of: Some(NOW), max_s: 600, .. } if *issuer == alice.id()),
        "{refused:?}"
    );
    // The partition heals.
    assert_eq!(at_callee.apply_set(&set, NOW + secs(700)).unwrap().added, 1);
    let refused = decide(NOW + secs(700), &at_callee).unwrap_err();
    assert_eq!(
        refused,
        Refusal::Revoked { link: 2, by: alice.id(), at: NOW + secs(1), reason: Reason::Misused }
    );
    // Never having heard of Alice is stale too, and the callee's own links need nobody's set.
    let refused = decide(NOW, &none_revoked()).unwrap_err();
    assert!(refused.to_string().contains("none is known here"), "{refused}");
    let own = verified(&alices(), ALICE).unwrap();
    let context = Context { demands, ..Context::at(NOW, &at_callee) };
    assert_eq!(own.permits(&ask("fx.rates"), &context), Ok(()));
}

#[test]
fn everybody_above_can_cut_a_chain_and_nobody_else() {
    let chain = bobs().delegate(grant_to(CAROL, "fx.rates"), &agent(BOB)).unwrap();
    let chain = verified(&chain, CAROL).unwrap();
    let [first, second, third] =
        [0, 1, 2].map(|n: usize| Withdrawn::Statement(chain.links()[n].hash));
    let key = |n: u8| Withdrawn::Key(agent(n).id().into());
    let cut_by = |who: u8, what: Withdrawn| {
        let mut at_callee = none_revoked();
        if who == CALLEE {
            at_callee.revoke(what, NOW + secs(HOUR), Reason::Ended, NOW).unwrap();
        } else {
            let mut theirs = Revocations::new(agent(who).id());
            let revoke = theirs.revoke(what, NOW + secs(HOUR), Reason::Ended, NOW).unwrap();
            at_callee.apply(&revoke.seal(&agent(who)), NOW).unwrap();
        }
        let decided = chain.permits(&ask("fx.rates"), &Context::at(NOW, &at_callee));
        match decided {
            Ok(()) => None,
            Err(Refusal::Revoked { link, by, .. }) => {
                assert_eq!(by, agent(who).id());
                Some(link)
            }
            Err(other) => panic!("{other}"),
        }
    };
    for (who, what, link) in [
        (CALLEE, first, Some(1)),
        (CALLEE, second, Some(2)),
        (CALLEE, third, Some(3)),
        (CALLEE, key(BOB), Some(2)),
        (ALICE, second, Some(2)),
        (ALICE, third, Some(3)),
        (ALICE, key(CAROL), Some(3)),
        (BOB, third, Some(3)),
        // A key that its owner declares lost.
        (ALICE, key(ALICE), Some(1)),
        (CAROL, key(CAROL), Some(3)),
        // What is not theirs to take back.
        (ALICE, first, None),
        (BOB, second, None),
        (BOB, first, None),
        (CAROL, third, None),
        (CAROL, key(BOB), None),
        (EVE, third, None),
        (EVE, key(CAROL), None),
    ] {
        assert_eq!(cut_by(who, what), link, "{who} withdraws {what}");
    }
}

/// The prototype hashed what it received and accepted this: same signature, other hash, revocation evaded.
#[test]
fn a_re_encoded_link_does_not_evade_its_revocation() {
    let chain = alices();
    for link in respelled(&chain.links()[0]) {
        let refused =
            decide(&Chain::from_links(vec![link]).unwrap(), ALICE, "fx.rates").unwrap_err();
        let expected = matches!(
            refused,
            Refusal::Link {
                link: 1,
                source: EnvelopeError::NotCanonical | EnvelopeError::Malformed { .. }
            }
        );
        assert!(expected, "{refused:?}");
    }
}

#[test]
fn evidence_and_short_lives_are_demanded() {
    let revocations = none_revoked();
    let chain =
        Chain::issue(grant_to(ALICE, "pay").demand_evidence("tdx"), &agent(CALLEE)).unwrap();
    let chain = verified(&chain, ALICE).unwrap();
    let context = Context::at(NOW, &revocations);
    assert_eq!(
        chain.permits(&ask("pay"), &context),
        Err(Refusal::Evidence { link: 1, kind: "tdx".into() })
    );
    let evidence: BTreeSet<String> = ["tdx".to_owned()].into();
    let attested = Context { evidence: &evidence, ..context };
    assert_eq!(chain.permits(&ask("pay"), &attested), Ok(()));
    let demands = Demands { max_stale: None, max_life: Some(secs(HOUR / 2)) };
    let refused = chain.permits(&ask("pay"), &Context { demands, ..attested }).unwrap_err();
    assert_eq!(
        refused,
        Refusal::LivesTooLong { name: "pay".into(), life_s: HOUR, max_s: HOUR / 2 }
    );
}

/// T16: what does not fit the limits is refused before anything of it is read, and what a holder can sign at most is little.
#[test]
fn bombs_are_refused_by_their_size_and_shape() {
    let me = agent(CALLEE).id();
    let huge = vec![0x81; 10 << 20];
    assert_eq!(Chain::from_bytes(&huge), Err(Refusal::TooLong { length: 10 << 20 }));
    let nested = vec![0x81; MAX_CHAIN];
    assert!(matches!(Chain::from_bytes(&nested), Err(Refusal::Form(_))));
    // A head that promises 2^32 links.
    assert!(matches!(Chain::from_bytes(&[0x9a, 0xff, 0xff, 0xff, 0xff]), Err(Refusal::Form(_))));
    let many = vec![b"x".to_vec(); 1000];
    assert_eq!(Chain::from_links(many.clone()), Err(Refusal::Links { count: 1000 }));
    let mut bytes = vec![0x99, 0x03, 0xe8];
    many.iter().for_each(|_| bytes.extend([0x41, b'x']));
    assert_eq!(Chain::from_bytes(&bytes), Err(Refusal::Links { count: 1000 }));
    assert_eq!(Chain::from_bytes(&[0x80]), Err(Refusal::Links { count: 0 }));
    let refused = Chain::from_bytes(&[0x81, 0x41, 0x00]).unwrap().verify(&me, &me);
    assert!(matches!(
        refused,
        Err(Refusal::Link { link: 1, source: EnvelopeError::Malformed { .. } })
    ));
    // As many scopes and delegates as there is room for are still too many.
    let scopes = (0..65).map(|n| scope(&format!("c{n}")));
    let wide = Grant::new(agent(ALICE).id(), scopes, NOW, NOW + secs(1));
    assert!(matches!(wide.check(), Err(IssueError::TooMany { count: 65, limit: 64, .. })));
}

#[test]
fn a_session_verifies_a_chain_once_and_no_other_in_its_place() {
    let mut session = SessionGrants::new(agent(CALLEE).id(), agent(BOB).id());
    let bytes = bobs().to_bytes();
    let first = session.verify(&bytes).unwrap();
    let second = session.verify(&bytes).unwrap();
    assert!(std::sync::Arc::ptr_eq(&first, &second));
    let mut changed = bytes;
    let last = changed.len() - 1;
    changed[last] ^= 1;
    assert!(session.verify(&changed).is_err());
    assert!(matches!(session.verify(&alices().to_bytes()), Err(Refusal::NotHolder { .. })));
}

#[test]
fn everything_at_once() {
    let (me, bob) = (agent(CALLEE).id(), agent(BOB).id());
    let revocations = none_revoked();
    let context = Context::at(NOW, &revocations);
    let mut counters = Counters::new();
    let chain =
        alices().delegate(grant_to(BOB, "fx.rates").uses(1), &agent(ALICE)).unwrap().to_bytes();
    assert!(verify(&chain, &me, &bob, &ask("fx.rates"), &context, &mut counters).is_ok());
    let again = verify(&chain, &me, &bob, &ask("fx.rates"), &context, &mut counters);
    assert_eq!(again.unwrap_err(), Refusal::UsedUp { link: 2, uses: 1 });
}

#[test]
fn issuing_refuses_what_would_never_work() {
    let issue = |grant: Grant| Chain::issue(grant, &agent(CALLEE)).unwrap_err();
    assert_eq!(
        issue(Grant { scopes: BTreeSet::new(), ..grant_to(ALICE, "a") }),
        IssueError::NoScopes
    );
    assert!(matches!(
        issue(Grant { not_after: NOW, ..grant_to(ALICE, "a") }),
        IssueError::Never { .. }
    ));
    assert_eq!(
        issue(Grant { not_after: NOW + secs(367 * 86_400), ..grant_to(ALICE, "a") }),
        IssueError::TooLongLived
    );
    assert_eq!(issue(grant_to(ALICE, "a").depth(4)), IssueError::TooDeep { depth: 4 });
    assert_eq!(issue(grant_to(ALICE, "a").uses(0)), IssueError::NoUses);
    assert_eq!(issue(grant_to(ALICE, "a").rate(0, secs(1))), IssueError::Rate);
    assert!(matches!(
        issue(grant_to(ALICE, "a").demand_evidence("A B")),
        IssueError::EvidenceName { .. }
    ));
    let refused = alices().delegate(grant_to(BOB, "weather"), &agent(ALICE)).unwrap_err();
    assert_eq!(refused, IssueError::Wider { scope: "weather".into() });
    let refused = alices().delegate(grant_to(BOB, "fx.a"), &agent(EVE)).unwrap_err();
    assert!(matches!(refused, IssueError::NotHolder { .. }));
    assert_eq!(alices().show().unwrap()[0].signer, agent(CALLEE).id());
}

/// T31: no single bit can be changed.
#[test]
fn no_bit_of_a_chain_can_be_flipped() {
    let chain = bobs().delegate(grant_to(CAROL, "fx.rates").uses(3), &agent(BOB)).unwrap();
    let (me, peer): (AgentId, AgentId) = (agent(CALLEE).id(), agent(CAROL).id());
    no_flip_opens("grant chain", &[chain.to_bytes()], |bytes| {
        Chain::from_bytes(bytes).and_then(|chain| chain.verify(&me, &peer)).is_ok()
    });
}

/// T32: a grant is nothing else, and nothing else is a grant.
#[test]
fn grants_open_as_grants_only() {
    assert!(!opens_as_another::<Grant>(Kind::Grant, &alices().links()[0]));
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Grant) {
        let link = envelope::seal(kind, &grant_to(ALICE, "*"), &agent(CALLEE));
        let refused =
            decide(&Chain::from_links(vec![link]).unwrap(), ALICE, "fx.rates").unwrap_err();
        assert!(
            matches!(refused, Refusal::Link { source: EnvelopeError::Signature { .. }, .. }),
            "{kind}"
        );
    }
}

fn limited(chain: &Chain, request: &serde_json::Value) -> Result<(), Refusal> {
    let request = comity_core::canonical::from_json(request).unwrap();
    let ask = Ask { arguments: Some(&request), ..ask("fx.rates") };
    verified(chain, ALICE)?.permits(&ask, &Context::at(NOW, &none_revoked()))
}

#[test]
fn arguments_are_held_to_what_every_link_allows() {
    let with = |limits: &[&str]| {
        let grant = grant_to(ALICE, "fx.*");
        let grant = limits.iter().fold(grant, |g, limit| g.argument(limit.parse().unwrap()));
        Chain::issue(grant, &agent(CALLEE)).unwrap()
    };
    let pay = with(&["amount=1..100", "currency=EUR|USD", "to=acme-*", "urgent=false"]);
    let good = serde_json::json!({"amount": 12.5, "currency": "EUR", "to": "acme-7", "urgent": false, "more": [1]});
    assert_eq!(limited(&pay, &good), Ok(()));
    for (member, value, said) in [
        ("amount", serde_json::json!(101), "has 101"),
        ("amount", serde_json::json!(100.000_001), "has 100.000001"),
        ("amount", serde_json::json!(0), "has 0"),
        ("amount", serde_json::json!("50"), "has `50`"),
        ("amount", serde_json::json!([50]), "no number, text or truth value"),
        ("amount", serde_json::Value::Null, "no number, text or truth value"),
        ("currency", serde_json::json!("eur"), "has `eur`"),
        ("to", serde_json::json!("acme"), "has `acme`"),
        ("urgent", serde_json::json!(true), "has true"),
    ] {
        let mut bad = good.clone();
        bad[member] = value;
        let refused = limited(&pay, &bad).unwrap_err();
        assert_eq!(refused.code(), "grant-argument");
        assert!(refused.to_string().contains(said), "{refused}");
        bad.as_object_mut().unwrap().remove(member);
        let missing = limited(&pay, &bad).unwrap_err().to_string();
        assert!(missing.contains(&format!("no `{member}`")), "{missing}");
    }
    assert!(limited(&pay, &serde_json::json!("amount")).is_err(), "no object has no arguments");
    assert!(limited(&with(&["a>=1", "a<=3"]), &serde_json::json!({"a": 4})).is_err(), "both hold");
    assert_eq!(limited(&with(&["a>=1", "a<=3"]), &serde_json::json!({"a": 3})), Ok(()));

    // A link below says nothing of the argument, or allows more: the one above holds all the same.
    let above = Chain::issue(
        grant_to(ALICE, "fx.*").depth(1).argument("amount<=10".parse().unwrap()),
        &agent(CALLEE),
    )
    .unwrap();
    for more in [None, Some("amount<=99")] {
        let mut grant = grant_to(BOB, "fx.rates");
        if let Some(more) = more {
            grant = grant.argument(more.parse().unwrap());
        }
        let chain = above.delegate(grant, &agent(ALICE)).unwrap();
        let request =
            comity_core::canonical::from_json(&serde_json::json!({"amount": 50})).unwrap();
        let asked = Ask { arguments: Some(&request), ..ask("fx.rates") };
        let decided =
            verified(&chain, BOB).unwrap().permits(&asked, &Context::at(NOW, &none_revoked()));
        assert!(matches!(decided, Err(Refusal::Argument { link: 1, .. })), "{decided:?}");
    }
    // Before there is a request nothing is said about it; counted without one, it is refused.
    assert_eq!(decide(&pay, ALICE, "fx.rates"), Ok(()));
    let counted = verify(
        &pay.to_bytes(),
        &agent(CALLEE).id(),
        &agent(ALICE).id(),
        &ask("fx.rates"),
        &Context::at(NOW, &none_revoked()),
        &mut Counters::new(),
    );
    assert!(matches!(counted, Err(Refusal::Argument { .. })), "{counted:?}");
}

#[test]
fn limits_of_arguments_read_as_they_are_written() {
    use comity_trust::grant::Argument;
    for text in [
        "a<=100",
        "a>=-5",
        "a=1..100",
        "a=EUR|USD",
        "a=x-*",
        "a=7",
        "a=false|true",
        "a=\"7\"",
        "a=*",
    ] {
        let read = text.parse::<Argument>();
        match (text, read) {
            ("a=*", read) => assert!(read.is_err(), "says nothing"),
            (text, read) => assert_eq!(read.unwrap().to_string(), text),
        }
    }
    for text in [
        "",
        "a",
        "=1",
        "a=",
        "a=3..1",
        "a<=x",
        "a=1e9",
        "a=99999999999999999999",
        "a=b*c",
        "a=x|y*",
    ] {
        let read = text.parse::<Argument>();
        assert!(
            read.is_err() || text == "a=1e9" || text == "a=99999999999999999999",
            "{text}: {read:?}"
        );
    }
    let many =
        (0..17).fold(grant_to(ALICE, "x"), |g, n| g.argument(format!("a{n}=1").parse().unwrap()));
    assert!(Chain::issue(many, &agent(CALLEE)).is_err());
}
