//! Chains of grants, edited: nothing verifies but what holders signed, and what a child allows its parent allows too.
#![no_main]

use std::time::Duration;

use arbitrary::Arbitrary;
use comity_core::{Hash, Kind, Sha256Digest, envelope};
use comity_fuzz::{Edit, NOW, edited, identity};
use comity_trust::grant::{Ask, Chain, Context, Grant, MAX_CHAIN, MAX_LINKS};
use comity_trust::revoke::Revocations;
use comity_trust::{Level, Scope, Target};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Link {
    signer: u8,
    holder: u8,
    depth: u8,
    level: u8,
    from: u16,
    life: u16,
    scopes: Vec<u8>,
}

#[derive(Arbitrary, Debug)]
struct Input {
    links: Vec<Link>,
    honest: bool,
    edits: Vec<Edit>,
    peer: u8,
    name: u8,
    level: u8,
    at: u16,
    raw: Vec<u8>,
}

const NAMES: [&str; 5] = ["a", "ab", "b.c", "fx.rates", "z"];
const SCOPES: [&str; 6] = ["a", "a*", "*", "b.*", "fx.rates", "z*"];

fn pick<'a, T>(from: &'a [T], n: u8) -> &'a T {
    &from[usize::from(n) % from.len()]
}

fuzz_target!(|input: Input| {
    if let Ok(chain) = Chain::from_bytes(&input.raw) {
        assert_eq!(chain.to_bytes(), input.raw, "one encoding");
        assert!(chain.verify(&identity(0).id(), &identity(1).id()).is_err(), "nobody signed this");
    }
    let mut sealed: Vec<Vec<u8>> = Vec::new();
    let mut holder = 0;
    let honest = input.honest;
    let count = input.links.len().clamp(1, MAX_LINKS);
    for (number, link) in input.links.iter().take(MAX_LINKS).enumerate() {
        let from = NOW + Duration::from_secs(link.from.into());
        let scopes = link.scopes.iter().take(4).map(|n| pick(&SCOPES, *n).parse::<Scope>().expect("a scope"));
        let depth = if honest { (count - 1 - number) as u8 } else { link.depth % 5 };
        let mut grant = Grant::new(identity(link.holder).id(), scopes, from, from + Duration::from_secs(link.life.into()))
            .depth(depth)
            .min_level(*pick(&Level::ALL, link.level));
        grant.parent = sealed.last().map(|above| Hash::of(above));
        let signer = if honest { holder } else { link.signer };
        sealed.push(envelope::seal(Kind::Grant, &grant, identity(signer)));
        holder = link.holder;
    }
    let Ok(chain) = Chain::from_links(sealed) else { return };
    let bytes = chain.to_bytes();
    assert!(bytes.len() <= MAX_CHAIN);
    let received = edited(&bytes, &input.raw, &input.edits);
    let (me, peer) = (identity(0).id(), identity(if honest { holder } else { input.peer }).id());
    let Ok(verified) = Chain::from_bytes(&received).and_then(|chain| chain.verify(&me, &peer)) else { return };
    // Whoever edits without a key can only cut the end off, and then it is another's.
    let links = verified.links();
    assert!(links.iter().zip(chain.links()).all(|(link, sealed)| link.hash == Hash::of(sealed)));
    assert_eq!(links.last().expect("a link").grant.holder, peer);
    assert_eq!(links[0].signer, me);
    let target = Target { name: *pick(&NAMES, input.name), descriptor: Hash::of(b"d"), interface: Sha256Digest::of(b"i") };
    let revocations = Revocations::new(me);
    let now = NOW + Duration::from_secs(input.at.into());
    let context = Context { level: *pick(&Level::ALL, input.level), ..Context::at(now, &revocations) };
    let ask = Ask { target, cost: 0, arguments: None };
    // Whatever bytes a request has, limits of arguments are judged, and only take away.
    let asked = Ask { arguments: Some(&input.raw), ..ask };
    assert!(verified.permits(&asked, &context).is_err() || verified.permits(&ask, &context).is_ok());
    if verified.permits(&ask, &context).is_ok() && links.len() > 1 {
        let above = &links[links.len() - 2];
        let parent = Chain::from_links(chain.links()[..links.len() - 1].to_vec()).expect("shorter");
        let holder = above.grant.holder.intake().expect("it signed");
        let parent = parent.verify(&me, &holder).expect("a part of a whole chain");
        assert!(parent.permits(&ask, &context).is_ok(), "a child allowed more than its parent");
    }
});
