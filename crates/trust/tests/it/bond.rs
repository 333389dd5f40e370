//! Trust holds when both have signed it, and no longer than either wants.

use comity_core::Kind;
use comity_trust::bond::{BondError, Bonds, MAX_REQUESTS, Standing, Trust};
use comity_trust::revoke::{Reason, Revocations, Withdrawn};

use crate::common::{HOUR, NOW, agent, no_flip_opens, opens_as_another, respelled, secs};

fn bonds(n: u8) -> Bonds {
    Bonds::new(agent(n).id())
}

#[test]
fn trust_takes_both_and_either_ends_it() {
    let (mut a, mut b) = (bonds(1), bonds(2));
    let (mut revoked_a, mut revoked_b) =
        (Revocations::new(agent(1).id()), Revocations::new(agent(2).id()));
    let request = a.declare(&agent(1), agent(2).id(), NOW, NOW + secs(HOUR)).unwrap();
    assert_eq!(a.standing(&agent(2).id(), &revoked_a, NOW), Standing::Asked);
    assert_eq!(b.receive(&request, NOW), Ok(agent(1).id()));
    assert_eq!(b.standing(&agent(1).id(), &revoked_b, NOW), Standing::Asks);
    let approval = b.declare(&agent(2), agent(1).id(), NOW, NOW + secs(HOUR)).unwrap();
    a.receive(&approval, NOW).unwrap();
    for (bonds, peer, revocations) in [(&a, 2, &revoked_a), (&b, 1, &revoked_b)] {
        assert_eq!(bonds.standing(&agent(peer).id(), revocations, NOW), Standing::Mutual);
        assert_eq!(
            bonds.standing(&agent(peer).id(), revocations, NOW + secs(2 * HOUR)),
            Standing::None
        );
    }
    let statement = Withdrawn::Statement(b.sides(&agent(1).id()).0.unwrap().hash);
    let revoke = revoked_b.revoke(statement, NOW + secs(HOUR), Reason::Ended, NOW).unwrap();
    revoked_a.apply(&revoke.seal(&agent(2)), NOW).unwrap();
    assert_eq!(a.standing(&agent(2).id(), &revoked_a, NOW), Standing::Asked);
    assert_eq!(b.standing(&agent(1).id(), &revoked_b, NOW), Standing::Asks);
    let stored = serde_json::to_string(&a).unwrap();
    assert_eq!(serde_json::from_str::<Bonds>(&stored).unwrap(), a);
}

#[test]
fn declarations_are_to_one_agent_and_stand_the_attacks_on_envelopes() {
    let sealed = [2, 3]
        .map(|by| bonds(by).declare(&agent(by), agent(1).id(), NOW, NOW + secs(HOUR)).unwrap());
    no_flip_opens("trust", &sealed, |bytes| bonds(1).receive(bytes, NOW).is_ok());
    assert!(!opens_as_another::<Trust>(Kind::Trust, &sealed[0]));
    assert!(respelled(&sealed[0]).iter().all(|bytes| bonds(1).receive(bytes, NOW).is_err()));
    assert!(matches!(bonds(9).receive(&sealed[0], NOW), Err(BondError::NotMe { .. })));
    assert_eq!(
        bonds(1).declare(&agent(1), agent(1).id(), NOW, NOW + secs(1)),
        Err(BondError::Itself)
    );
}

#[test]
fn requests_of_strangers_are_bounded_and_push_no_bond_out() {
    let mut mine = bonds(1);
    mine.declare(&agent(1), agent(2).id(), NOW, NOW + secs(HOUR)).unwrap();
    for n in 0..MAX_REQUESTS as u64 + 50 {
        let mut secret = [9; 32];
        secret[..8].copy_from_slice(&n.to_be_bytes());
        let stranger = comity_core::Identity::from_secret_bytes(&secret);
        let request = Bonds::new(stranger.id())
            .declare(&stranger, agent(1).id(), NOW, NOW + secs(HOUR))
            .unwrap();
        mine.receive(&request, NOW).unwrap();
    }
    assert_eq!(mine.peers().count(), MAX_REQUESTS + 1);
    assert!(mine.sides(&agent(2).id()).0.is_some());
}
