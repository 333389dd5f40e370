//! Endorsements, levels, and who may publish in a group: threats T9, T31 and T32.

use std::collections::BTreeSet;

use comity_core::receipt::ShortText;
use comity_core::{AgentId, Kind};
use comity_trust::admission::{AdmissionError, Admit, Admitted, Charter, Group, Rule};
use comity_trust::endorse::{
    Agreement, Endorse, EndorseError, Endorsement, Experience, Ground, How, LevelRules, Standing,
    Support, acceptable_by_default, standing,
};
use comity_trust::evidence::{Appraisal, Attackers, Claim, Fact};
use comity_trust::revoke::{Reason, Revocations, Withdrawn};
use comity_trust::{Level, RawKey};

use crate::common::{HOUR, NOW, agent, no_flip_opens, opens_as_another, respelled, secs, target};

const ME: u8 = 1;
const SUBJECT: u8 = 2;
const ENDORSER: u8 = 3;
const GROUP: u8 = 9;
const EVE: u8 = 66;

fn endorse(subject: u8, scope: &str) -> Endorse {
    let scope = scope.parse().unwrap();
    Endorse::new(agent(subject).id(), scope, How::Canary, NOW, NOW + secs(HOUR))
}

fn endorsed(by: u8, scope: &str) -> Endorsement {
    Endorsement::open(&endorse(SUBJECT, scope).seal(&agent(by)).unwrap(), NOW).unwrap()
}

fn rules() -> LevelRules {
    LevelRules { endorsers: [agent(ENDORSER).id()].into(), ..LevelRules::default() }
}

fn of(support: &Support<'_>, revocations: &Revocations) -> Standing {
    standing(&agent(SUBJECT).id(), &target("fx.rates"), support, &rules(), revocations, NOW)
}

fn none() -> Revocations {
    Revocations::new(agent(ME).id())
}

/// T9: ten thousand keys that vouch for each other move nobody who trusts none of them.
#[test]
fn a_claim_is_worth_what_trusted_others_say() {
    assert_eq!(of(&Support::default(), &none()).level, Level::L0);
    let strangers: Vec<Endorsement> = (100..200).map(|n| endorsed(n, "*")).collect();
    let support = Support { endorsements: &strangers, ..Support::default() };
    assert_eq!(of(&support, &none()), Standing::default());
    let trusted = [endorsed(ENDORSER, "fx.*")];
    let found = of(&Support { endorsements: &trusted, ..Support::default() }, &none());
    assert_eq!(found.level, Level::L1);
    assert_eq!(found.grounds, [Ground::Endorsed { by: vec![agent(ENDORSER).id()] }]);
    // Of another capability, or of another version of it, it says nothing.
    for scope in ["weather", &format!("fx.rates@{}", target("other").descriptor)] {
        let other = [endorsed(ENDORSER, scope)];
        assert_eq!(
            of(&Support { endorsements: &other, ..Support::default() }, &none()).level,
            Level::L0
        );
    }
    let later = standing(
        &agent(SUBJECT).id(),
        &target("fx.rates"),
        &Support { endorsements: &trusted, ..Support::default() },
        &rules(),
        &none(),
        NOW + secs(2 * HOUR),
    );
    assert_eq!(later.level, Level::L0);
}

#[test]
fn endorsers_take_their_word_back() {
    let trusted = [endorsed(ENDORSER, "fx.*")];
    let support = Support { endorsements: &trusted, ..Support::default() };
    let statement = Withdrawn::Statement(trusted[0].hash);
    let subject = Withdrawn::Key(agent(SUBJECT).id().into());
    for (by, what, level) in [
        (ENDORSER, statement, Level::L0),
        (ENDORSER, subject, Level::L0),
        (EVE, statement, Level::L1),
    ] {
        let mut revocations = none();
        let mut theirs = Revocations::new(agent(by).id());
        let revoke = theirs.revoke(what, NOW + secs(HOUR), Reason::Mistake, NOW).unwrap();
        revocations.apply(&revoke.seal(&agent(by)), NOW).unwrap();
        assert_eq!(of(&support, &revocations).level, level, "{by} {what}");
    }
}

#[test]
fn experience_grows_slowly_and_is_lost_at_once() {
    let mut experience = Experience::default();
    let level = |experience: &Experience| {
        of(&Support { experience: Some(experience), ..Support::default() }, &none()).level
    };
    for _ in 0..10 {
        experience.acknowledge(NOW);
    }
    assert_eq!(level(&experience), Level::L0, "calls alone prove nothing");
    for _ in 0..3 {
        experience.canary(true, NOW);
    }
    assert_eq!(level(&experience), Level::L2);
    experience.canary(false, NOW);
    assert_eq!(level(&experience), Level::L0);
}

fn appraisal(excludes: &[Attackers]) -> Appraisal {
    let claim = Claim::Other { what: "x".into() };
    let fact = |excludes: &Attackers| Fact {
        claim: claim.clone(),
        by: "maker".into(),
        excludes: *excludes,
    };
    Appraisal {
        agent: agent(SUBJECT).id(),
        kind: "quote".into(),
        session: target("s").descriptor,
        evidence: target("e").descriptor,
        at: NOW,
        until: NOW + secs(HOUR),
        facts: excludes.iter().map(fact).collect(),
    }
}

/// T29: what evidence excludes is what it is worth; a bare quote is never a quorum, and facts do not add up.
#[test]
fn evidence_reaches_what_it_excludes() {
    let level =
        |appraisals: &[Appraisal]| of(&Support { appraisals, ..Support::default() }, &none()).level;
    assert_eq!(level(&[appraisal(&[Attackers::SOFTWARE])]), Level::L3);
    let everything = Attackers::SOFTWARE.and(Attackers::OPERATOR_PHYSICAL);
    assert_eq!(level(&[appraisal(&[everything])]), Level::L3);
    assert_eq!(level(&[appraisal(&[Attackers::DISTRIBUTION])]), Level::L0);
    let apart = [Attackers::REMOTE_SOFTWARE, Attackers::CO_TENANT, Attackers::OPERATOR_SOFTWARE];
    assert_eq!(level(&[appraisal(&apart)]), Level::L0);
    let others = Appraisal { agent: agent(EVE).id(), ..appraisal(&[Attackers::SOFTWARE]) };
    assert_eq!(level(&[others]), Level::L0);
    let old = Appraisal { until: NOW, ..appraisal(&[Attackers::SOFTWARE]) };
    assert_eq!(level(&[old]), Level::L0);
}

#[test]
fn a_quorum_is_of_several_roots() {
    let agreed = Agreement { agreed: 3, asked: 5, roots: 3, at: NOW };
    let level = |agreement: Agreement| {
        of(&Support { agreement: Some(&agreement), ..Support::default() }, &none()).level
    };
    assert_eq!(level(agreed), Level::L4);
    assert_eq!(level(Agreement { roots: 1, ..agreed }), Level::L0, "colluders share a root");
    assert_eq!(level(Agreement { asked: 6, ..agreed }), Level::L0, "no majority");
    assert_eq!(level(Agreement { at: NOW - secs(25 * HOUR), ..agreed }), Level::L0);
    assert!(
        acceptable_by_default(Level::L1, false, false)
            && acceptable_by_default(Level::L0, true, true)
    );
    assert!(
        !acceptable_by_default(Level::L0, false, true)
            && !acceptable_by_default(Level::L0, true, false)
    );
}

#[test]
fn endorsements_stand_the_attacks_on_envelopes() {
    let sealed: Vec<Vec<u8>> =
        [ENDORSER, 4].map(|by| endorse(SUBJECT, "fx.*").seal(&agent(by)).unwrap()).into();
    no_flip_opens("endorse", &sealed, |bytes| Endorsement::open(bytes, NOW).is_ok());
    assert!(!opens_as_another::<Endorse>(Kind::Endorse, &sealed[0]));
    assert!(respelled(&sealed[0]).iter().all(|bytes| Endorsement::open(bytes, NOW).is_err()));
    let itself = endorse(SUBJECT, "*").seal(&agent(SUBJECT)).unwrap_err();
    assert_eq!(itself, EndorseError::Itself { agent: agent(SUBJECT).id() });
    let forced =
        comity_core::envelope::seal(Kind::Endorse, &endorse(SUBJECT, "*"), &agent(SUBJECT));
    assert_eq!(Endorsement::open(&forced, NOW).unwrap_err(), itself);
}

fn charter(rule: Rule) -> Charter {
    let name = ShortText::try_from("rates of record").unwrap();
    Charter::new(1, name, rule, NOW, NOW + secs(30 * 24 * HOUR))
}

fn group(rule: Rule) -> Group {
    Group::open(&charter(rule).seal(&agent(GROUP)).unwrap(), NOW).unwrap()
}

fn governed(needed: u8, endorsers: &[u8]) -> Rule {
    let endorsers = endorsers.iter().map(|n| RawKey::from(agent(*n).id())).collect();
    Rule::Governed { needed, endorsers }
}

fn admission(by: u8, subject: u8, group: u8, pattern: &str) -> Vec<u8> {
    let (group, subject) = (agent(group).id(), agent(subject).id());
    Admit::new(group, subject, pattern.parse().unwrap(), NOW, NOW + secs(HOUR)).seal(&agent(by))
}

fn admitted(
    group: &Group,
    admissions: &[Vec<u8>],
    revocations: &Revocations,
) -> Result<Admitted, AdmissionError> {
    let admissions: Vec<&[u8]> = admissions.iter().map(Vec::as_slice).collect();
    group.admits(&agent(SUBJECT).id(), "fx.rates", &admissions, revocations, NOW)
}

#[test]
fn custodians_ask_for_m_of_n() {
    let group = group(governed(2, &[3, 4, 5]));
    let by = |endorsers: &[u8]| -> Vec<Vec<u8>> {
        endorsers.iter().map(|by| admission(*by, SUBJECT, GROUP, "fx.*")).collect()
    };
    let expected: Vec<AgentId> = [3, 5].map(|n| agent(n).id()).into();
    assert_eq!(
        admitted(&group, &by(&[3, 5]), &none()),
        Ok(Admitted::By { endorsers: expected, until: NOW + secs(HOUR) })
    );
    assert_eq!(
        admitted(&group, &by(&[3]), &none()),
        Err(AdmissionError::TooFew { needed: 2, found: 1 })
    );
    assert_eq!(admitted(&group, &[], &none()), Err(AdmissionError::TooFew { needed: 2, found: 0 }));
    assert_eq!(
        admitted(&group, &by(&[3, 3]), &none()),
        Err(AdmissionError::Twice { signer: agent(3).id() })
    );
    let signer = agent(EVE).id().into();
    assert_eq!(
        admitted(&group, &by(&[3, EVE]), &none()),
        Err(AdmissionError::NotAnEndorser { signer })
    );
    assert!(admitted(&group, &by(&[GROUP]), &none()).is_ok(), "the group's own word is enough");
    // Eve's signature under an endorser's name.
    let mut forged = admission(EVE, SUBJECT, GROUP, "fx.*");
    forged[35..67].copy_from_slice(agent(4).id().as_bytes());
    assert!(matches!(admitted(&group, &[forged], &none()), Err(AdmissionError::Admit(_))));
    assert!(matches!(
        admitted(&group, &vec![vec![0; 9]; 10], &none()),
        Err(AdmissionError::TooMany { count: 10 })
    ));
}

#[test]
fn admissions_are_of_one_agent_group_and_capability() {
    let group = group(governed(1, &[3]));
    for (admit, what) in [
        (admission(3, EVE, GROUP, "fx.*"), "agent"),
        (admission(3, SUBJECT, 8, "fx.*"), "group"),
        (admission(3, SUBJECT, GROUP, "weather"), "capability"),
    ] {
        let refused = AdmissionError::Other { signer: agent(3).id(), what };
        assert_eq!(admitted(&group, &[admit], &none()), Err(refused));
    }
    let admissions = [admission(3, SUBJECT, GROUP, "*")];
    let slices: Vec<&[u8]> = admissions.iter().map(Vec::as_slice).collect();
    let late =
        group.admits(&agent(SUBJECT).id(), "fx.rates", &slices, &none(), NOW + secs(2 * HOUR));
    assert!(matches!(late, Err(AdmissionError::Times { what: "admission", .. })));
}

#[test]
fn members_are_expelled_by_name_or_by_withdrawal() {
    let admissions = [admission(3, SUBJECT, GROUP, "*")];
    let subject = RawKey::from(agent(SUBJECT).id());
    let expelling =
        Charter { seq: 2, expelled: Some([subject].into()), ..charter(governed(1, &[3])) };
    let newer = Group::open(&expelling.seal(&agent(GROUP)).unwrap(), NOW).unwrap();
    let held = group(governed(1, &[3]));
    assert!(newer.replaces(&held) && !held.replaces(&newer) && !held.replaces(&held));
    assert_eq!(
        admitted(&newer, &admissions, &none()),
        Err(AdmissionError::Out { subject: agent(SUBJECT).id() })
    );
    assert!(admitted(&held, &admissions, &none()).is_ok());
    let hash = comity_core::Hash::of(&admissions[0]);
    for (by, what) in [
        (3, Withdrawn::Statement(hash)),
        (3, Withdrawn::Key(subject)),
        (GROUP, Withdrawn::Key(subject)),
    ] {
        let mut revocations = none();
        let revoke = Revocations::new(agent(by).id())
            .revoke(what, NOW + secs(HOUR), Reason::Misused, NOW)
            .unwrap();
        revocations.apply(&revoke.seal(&agent(by)), NOW).unwrap();
        let refused = admitted(&held, &admissions, &revocations).unwrap_err();
        assert!(
            matches!(refused, AdmissionError::Withdrawn { .. } | AdmissionError::Out { .. }),
            "{by}: {refused}"
        );
    }
}

#[test]
fn open_and_private_groups_ask_custodians_for_nothing() {
    assert_eq!(admitted(&group(Rule::Open), &[], &none()), Ok(Admitted::Open));
    assert_eq!(admitted(&group(Rule::Private), &[], &none()), Ok(Admitted::Veiled));
    for rule in [
        governed(0, &[3]),
        governed(2, &[3]),
        governed(1, &[]),
        governed(1, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
    ] {
        assert!(matches!(charter(rule).seal(&agent(GROUP)), Err(AdmissionError::Endorsers { .. })));
    }
    let mut bad = BTreeSet::new();
    bad.insert(RawKey([1; 32]));
    let bad = charter(Rule::Governed { needed: 1, endorsers: bad }).seal(&agent(GROUP)).unwrap();
    assert!(matches!(Group::open(&bad, NOW), Err(AdmissionError::Key { .. })));
}

#[test]
fn charters_and_admissions_stand_the_attacks_on_envelopes() {
    let sealed = charter(governed(2, &[3, 4, 5])).seal(&agent(GROUP)).unwrap();
    no_flip_opens(
        "charter",
        &[sealed.clone(), charter(Rule::Open).seal(&agent(GROUP)).unwrap()],
        |bytes| Group::open(bytes, NOW).is_ok(),
    );
    assert!(!opens_as_another::<Charter>(Kind::Charter, &sealed));
    assert!(respelled(&sealed).iter().all(|bytes| Group::open(bytes, NOW).is_err()));
    let group = group(governed(1, &[3, 4]));
    let admissions = [3, 4].map(|by| admission(by, SUBJECT, GROUP, "fx.*"));
    no_flip_opens("admit", &admissions, |bytes| {
        admitted(&group, &[bytes.to_vec()], &none()).is_ok()
    });
    assert!(!opens_as_another::<Admit>(Kind::Admit, &admissions[0]));
}

const STEWARD: u8 = 3;

/// A group of which one steward decides, hosted, in which an expulsion counts within a minute.
fn consortium() -> Group {
    let charter = charter(governed(1, &[STEWARD, 4])).hosted(agent(7).id(), secs(60));
    Group::open(&charter.seal(&agent(GROUP)).unwrap(), NOW).unwrap()
}

/// What a callee knows who heard of the group and the steward at this time, after `withdraw` changed what they withdrew.
fn heard(at: comity_core::Time, withdraw: impl Fn(u8, &mut Revocations)) -> Revocations {
    let mut known = none();
    for issuer in [GROUP, STEWARD] {
        let mut set = Revocations::new(agent(issuer).id());
        withdraw(issuer, &mut set);
        known.apply_set(&set.publish(&agent(issuer), at), at).unwrap();
    }
    known
}

#[test]
fn a_membership_counts_while_what_was_withdrawn_is_known() {
    let group = consortium();
    let member = agent(SUBJECT).id();
    let admission = admission(STEWARD, SUBJECT, GROUP, "fx.*");
    let shown = group.membership(&member, &[&admission]).unwrap();
    assert_eq!((shown.group(), shown.subject()), (agent(GROUP).id(), member));
    let known = heard(NOW, |_, _| {});
    assert!(group.holds(&shown, "fx.rates", &known, NOW).is_ok());
    assert!(group.fresh(&shown, &known, NOW + secs(60)).is_ok());
    let late = group.fresh(&shown, &known, NOW + secs(61)).unwrap_err();
    assert!(matches!(late, AdmissionError::Stale { max_s: 60, as_of: Some(NOW), .. }), "{late}");
    let never = group.fresh(&shown, &none(), NOW).unwrap_err();
    assert!(matches!(never, AdmissionError::Stale { as_of: None, .. }), "{never}");
    assert!(matches!(
        group.holds(&shown, "weather", &known, NOW),
        Err(AdmissionError::Other { what: "capability", .. })
    ));

    // Expelled: by the group for ever, by the steward who admitted. What was shown before is worth nothing, and so is the same shown anew.
    let expelled = Withdrawn::Key(agent(SUBJECT).id().into());
    let taken_back = Withdrawn::Statement(comity_core::Hash::of(&admission));
    for (by, what) in [(GROUP, expelled), (STEWARD, taken_back)] {
        let known = heard(NOW + secs(5), |issuer, set| {
            if issuer == by {
                set.revoke(what, comity_core::Time::MAX, Reason::Ended, NOW).unwrap();
            }
        });
        let replayed = group.membership(&member, &[&admission]).unwrap();
        for shown in [&shown, &replayed] {
            assert!(group.holds(shown, "fx.rates", &known, NOW + secs(5)).is_err(), "by {by}");
        }
    }
    // A charter that names another steward in his place ends what he admitted.
    let newer = Charter { seq: 2, ..charter(governed(1, &[4])) };
    let newer = Group::open(&newer.seal(&agent(GROUP)).unwrap(), NOW).unwrap();
    assert!(newer.replaces(&group));
    assert!(matches!(
        newer.holds(&shown, "fx.rates", &known, NOW),
        Err(AdmissionError::NotAnEndorser { .. })
    ));
}

#[test]
fn nobody_becomes_a_member_without_its_stewards() {
    let group = consortium();
    let of = |who: u8, admission: &[u8]| group.membership(&agent(who).id(), &[admission]);
    for (who, admission, what) in [
        (SUBJECT, admission(SUBJECT, SUBJECT, GROUP, "*"), "admitted by itself"),
        (SUBJECT, admission(EVE, SUBJECT, GROUP, "*"), "admitted by no steward"),
        (EVE, admission(STEWARD, SUBJECT, GROUP, "*"), "another's admission"),
        (SUBJECT, admission(STEWARD, SUBJECT, 8, "*"), "another group's"),
    ] {
        assert!(of(who, &admission).is_err(), "{what}");
    }
    assert!(group.membership(&agent(SUBJECT).id(), &[]).is_err());
    let mut bad = charter(Rule::Open);
    bad.stale_ms = Some(0);
    assert!(matches!(bad.seal(&agent(GROUP)), Err(AdmissionError::StaleBound { stale_ms: 0 })));
    let open = Group::open(&charter(Rule::Open).seal(&agent(GROUP)).unwrap(), NOW).unwrap();
    let anybody = open.membership(&agent(EVE).id(), &[]).unwrap();
    assert_eq!(anybody.issuers().count(), 1, "the group itself can expel");
    assert!(open.holds(&anybody, "x", &none(), NOW).is_ok());
    assert!(group.holds(&anybody, "x", &none(), NOW).is_err(), "of an open charter's, here");
}
