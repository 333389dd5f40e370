//! Policy and grants together: which of them decides.

use comity_trust::access::{Access, Call, Denial, Ground};
use comity_trust::grant::{Chain, Grant, NO_EVIDENCE, VerifiedChain};
use comity_trust::policy::{Policy, Request};
use comity_trust::revoke::{Reason, Withdrawn};

use crate::common::{HOUR, NOW, agent, secs, target};

const ME: u8 = 1;
const ALICE: u8 = 2;

fn access(policy: &str) -> Access {
    Access { policy: Policy::parse(policy).unwrap(), ..Access::new(agent(ME).id()) }
}

fn chain(uses: u64) -> VerifiedChain {
    let grant =
        Grant::new(agent(ALICE).id(), ["fx.*".parse().unwrap()], NOW, NOW + secs(HOUR)).uses(uses);
    let chain = Chain::issue(grant, &agent(ME)).unwrap();
    chain.verify(&agent(ME).id(), &agent(ALICE).id()).unwrap()
}

fn call<'a>(name: &'a str, chain: Option<&'a VerifiedChain>) -> Call<'a> {
    let request = Request::new(agent(ALICE).id(), name, NOW);
    Call { request, target: target(name), chain, evidence: &NO_EVIDENCE, arguments: None }
}

fn ground(access: &mut Access, call: &Call<'_>) -> Result<Ground, &'static str> {
    access.admit(call).map(|permit| permit.ground).map_err(|denial| denial.code())
}

#[test]
fn a_grant_allows_what_no_rule_does_and_is_counted() {
    let mut access = Access::new(agent(ME).id());
    let chain = chain(2);
    let granted = Ground::Grant { leaf: chain.leaf() };
    assert_eq!(ground(&mut access, &call("fx.rates", None)), Err("policy-no-rule"));
    assert_eq!(ground(&mut access, &call("fx.rates", Some(&chain))), Ok(granted));
    assert_eq!(ground(&mut access, &call("weather", Some(&chain))), Err("grant-capability"));
    let permit = access.admit(&call("fx.rates", Some(&chain))).unwrap();
    assert_eq!(ground(&mut access, &call("fx.rates", Some(&chain))), Err("grant-used-up"));
    access.counters.refund(&permit.spent.unwrap());
    assert_eq!(ground(&mut access, &call("fx.rates", Some(&chain))), Ok(granted));
    let public = Request { public: true, ..call("weather", None).request };
    assert_eq!(
        ground(&mut access, &Call { request: public, ..call("weather", Some(&chain)) }),
        Ok(Ground::Public)
    );
}

#[test]
fn a_deny_outweighs_a_grant_and_a_withdrawn_grant_is_none() {
    let mut access = access("[[rule]]\ndeny = \"fx.secret\"\n");
    let chain = chain(9);
    assert_eq!(ground(&mut access, &call("fx.secret", Some(&chain))), Err("policy-denied"));
    assert!(ground(&mut access, &call("fx.rates", Some(&chain))).is_ok());
    let leaf = Withdrawn::Statement(chain.leaf());
    access.revocations.revoke(leaf, NOW + secs(HOUR), Reason::Ended, NOW).unwrap();
    assert_eq!(ground(&mut access, &call("fx.rates", Some(&chain))), Err("grant-revoked"));
}

#[test]
fn rules_limit_what_grants_allow() {
    let text =
        "[[rule]]\nallow = \"fx.*\"\ngrant = true\nrate = \"1/min\"\nmax_grant_life = \"2h\"\n";
    let mut limited = access(text);
    let chain = chain(9);
    assert!(ground(&mut limited, &call("fx.rates", Some(&chain))).is_ok());
    assert_eq!(ground(&mut limited, &call("fx.rates", Some(&chain))), Err("policy-rate"));
    assert_eq!(limited.counters.used(&chain.leaf()), (1, 0), "the refused call is given back");
    let mut short = access(&text.replace("2h", "10min"));
    assert_eq!(ground(&mut short, &call("fx.rates", Some(&chain))), Err("grant-lives-too-long"));
    // Alice may call without a grant; a bad one takes nothing away.
    let mut open =
        access(&format!("[[rule]]\nallow = \"*\"\nagents = \"{}\"\n", agent(ALICE).id()));
    assert_eq!(ground(&mut open, &call("weather", Some(&chain))), Ok(Ground::Rule { line: 1 }));
    assert!(matches!(
        open.admit(&Call {
            request: Request::new(agent(3).id(), "weather", NOW),
            ..call("weather", None)
        }),
        Err(Denial::Policy(_))
    ));
}
