//! The kinds of misbehaviour.
//!
//! A message that a kind does not touch passes, those of later versions too.
#![allow(clippy::wildcard_enum_match_arm, reason = "what an adversary does not touch passes")]

use std::collections::BTreeMap;

use comity_core::Hash;
use comity_overlay::wire::{QueryOutcome, Request, Response, StoreOutcome};
use comity_overlay::{Contact, ItemBytes, ItemKind, directory};

use super::{Adversary, Colluders, Verdict, signer_of};
use crate::random::{PPM_ONE, Ppm};

/// Publishers whose first versions one node keeps for replay.
const REPLAYED_MAX: usize = 4_096;
/// Depth at which a liar about splits says that the leaves are.
const LIED_DEPTH: u8 = 6;

/// Answers pings and nothing else.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dropper;

impl Adversary for Dropper {
    fn on_request(
        &mut self,
        _colluders: &Colluders,
        _from: &Contact,
        request: &Request,
    ) -> Verdict {
        match request {
            Request::Ping | Request::Leaving => Verdict::Pass,
            _ => Verdict::Drop,
        }
    }
}

/// Sends everyone to the colluders nearest to what they look for, says that it stored what it did not, and finds nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Misrouter;

impl Adversary for Misrouter {
    fn on_request(&mut self, colluders: &Colluders, _from: &Contact, request: &Request) -> Verdict {
        match request {
            Request::FindNode { target, .. } => {
                Verdict::Answer(Response::Nodes { contacts: colluders.nearest(target) })
            }
            Request::Store { entries, .. } => Verdict::Answer(stored(entries.len())),
            Request::Query(query) => {
                let closer = colluders.nearest(&query.shard.position(query.placement));
                Verdict::Answer(Response::Found { answer: QueryOutcome::NotHeld, closer })
            }
            Request::FindPeer { target, .. } => Verdict::Answer(Response::Peer {
                records: Vec::new(),
                closer: colluders.nearest(target),
            }),
            _ => Verdict::Pass,
        }
    }
}

fn stored(entries: usize) -> Response {
    Response::Stored { outcomes: vec![StoreOutcome::Stored; entries] }
}

/// Keeps to the protocol, but falsifies one byte of every item it returns.
#[derive(Clone, Copy, Debug, Default)]
pub struct Forger;

impl Adversary for Forger {
    fn on_request(
        &mut self,
        _colluders: &Colluders,
        _from: &Contact,
        _request: &Request,
    ) -> Verdict {
        Verdict::Pass
    }

    fn on_response(&mut self, _colluders: &Colluders, response: &Response) -> Option<Response> {
        let mut forged = response.clone();
        for list in items_of(&mut forged) {
            list.iter_mut().for_each(falsify);
        }
        (forged != *response).then_some(forged)
    }
}

/// The lists of items in an answer to a search.
fn items_of(response: &mut Response) -> Vec<&mut Vec<ItemBytes>> {
    match response {
        Response::Found { answer: QueryOutcome::Answered(answer), .. } => {
            vec![&mut answer.matches, &mut answer.near, &mut answer.beats]
        }
        Response::Peer { records, .. } => vec![records],
        _ => Vec::new(),
    }
}

/// Changes a byte in the middle: of what is said, most of the time, or of the signature.
fn falsify(item: &mut ItemBytes) {
    let mut bytes = item.to_vec();
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
    *item = bytes.into();
}

/// Keeps what it is given, says so, reports the set that honest custodians have, and leaves its victims out of its answers.
#[derive(Clone, Copy, Debug)]
pub struct Omitter {
    /// Publishers it leaves out, all colluders the same.
    pub victims: Ppm,
}

impl Omitter {
    fn is_victim(self, item: &ItemBytes) -> bool {
        if self.victims >= PPM_ONE {
            return true;
        }
        let Some(signer) = signer_of(item) else { return false };
        let drawn = Hash::derive("comity/sim/victim/v1", &[&signer]);
        let [first, second, third, fourth, ..] = *drawn.as_bytes();
        let drawn = u64::from(u32::from_be_bytes([first, second, third, fourth]));
        (drawn * u64::from(PPM_ONE)) >> 32 < u64::from(self.victims)
    }
}

impl Adversary for Omitter {
    fn on_request(
        &mut self,
        _colluders: &Colluders,
        _from: &Contact,
        _request: &Request,
    ) -> Verdict {
        Verdict::Pass
    }

    fn on_response(&mut self, _colluders: &Colluders, response: &Response) -> Option<Response> {
        let mut lie = response.clone();
        for list in items_of(&mut lie) {
            list.retain(|item| !self.is_victim(item));
        }
        if let Response::Found { answer: QueryOutcome::Answered(answer), .. } = &mut lie {
            answer.passed =
                answer.passed.min(u32::try_from(answer.matches.len()).unwrap_or(u32::MAX));
        }
        (lie != *response).then_some(lie)
    }
}

/// Shows the first version of everything it ever saw, expired or not, and takes neither tombstones nor newer versions.
#[derive(Clone, Debug, Default)]
pub struct Staler {
    first: BTreeMap<[u8; 32], Vec<ItemBytes>>,
}

impl Adversary for Staler {
    fn on_request(
        &mut self,
        _colluders: &Colluders,
        _from: &Contact,
        request: &Request,
    ) -> Verdict {
        let Request::Store { items, entries, .. } = request else { return Verdict::Pass };
        let tombstone = directory::pack(ItemKind::Tombstone, &[]);
        let hides = items.iter().any(|item| item.first() == tombstone.first());
        if hides { Verdict::Answer(stored(entries.len())) } else { Verdict::Pass }
    }

    fn on_response(&mut self, _colluders: &Colluders, response: &Response) -> Option<Response> {
        let mut stale = response.clone();
        let Response::Found { answer: QueryOutcome::Answered(answer), .. } = &mut stale else {
            return None;
        };
        for item in &mut answer.matches {
            let Some(signer) = signer_of(item) else { continue };
            let room = self.first.len() < REPLAYED_MAX;
            match self.first.get(&signer).and_then(|first| first.first()) {
                Some(first) => item.clone_from(first),
                None if room => drop(self.first.insert(signer, vec![item.clone()])),
                None => {}
            }
        }
        (stale != *response).then_some(stale)
    }
}

/// Says of every shard that it is split, so that publishers and askers go elsewhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct Splitter;

impl Adversary for Splitter {
    fn on_request(&mut self, colluders: &Colluders, _from: &Contact, request: &Request) -> Verdict {
        let depth = LIED_DEPTH;
        match request {
            Request::Store { entries, .. } => Verdict::Answer(Response::Stored {
                outcomes: vec![StoreOutcome::Split { depth }; entries.len()],
            }),
            Request::Query(query) => {
                let closer = colluders.nearest(&query.shard.position(query.placement));
                Verdict::Answer(Response::Found { answer: QueryOutcome::Split { depth }, closer })
            }
            _ => Verdict::Pass,
        }
    }
}

/// A minted id next to a key: keeps what it is given, shows nothing of it, and knows only colluders.
#[derive(Clone, Copy, Debug, Default)]
pub struct Eclipser;

impl Adversary for Eclipser {
    fn on_request(&mut self, colluders: &Colluders, _from: &Contact, request: &Request) -> Verdict {
        match request {
            Request::FindNode { target, .. } => {
                Verdict::Answer(Response::Nodes { contacts: colluders.nearest(target) })
            }
            Request::FindPeer { target, .. } => Verdict::Answer(Response::Peer {
                records: Vec::new(),
                closer: colluders.nearest(target),
            }),
            _ => Verdict::Pass,
        }
    }

    fn on_response(&mut self, colluders: &Colluders, response: &Response) -> Option<Response> {
        let lie = Omitter { victims: PPM_ONE }.on_response(colluders, response);
        let mut lie = lie.unwrap_or_else(|| response.clone());
        if let Response::Found { closer, .. } = &mut lie {
            let place = closer.first().map(|contact| contact.overlay_id);
            *closer = place.map_or_else(Vec::new, |place| colluders.nearest(&place));
        }
        (lie != *response).then_some(lie)
    }
}

#[cfg(test)]
mod tests {
    use comity_capability::record::{Beat, Load, Status};
    use comity_core::{Identity, Time};

    use super::*;

    fn records(count: u8) -> Response {
        let now = Time::from_secs(1_800_000_000);
        let sealed = (1..=count).map(|secret| {
            let identity = Identity::from_secret_bytes(&[secret; 32]);
            let beat = Beat::new(1, now, now, Status::Warm, Load::Idle);
            directory::pack(ItemKind::Beat, &beat.seal(&identity))
        });
        Response::Peer { records: sealed.collect(), closer: Vec::new() }
    }

    fn count(response: &Response) -> usize {
        match response {
            Response::Peer { records, .. } => records.len(),
            _ => 0,
        }
    }

    #[test]
    fn an_omitter_leaves_out_its_share_and_always_the_same() {
        let colluders = Colluders::default();
        let all = records(200);
        let left = Omitter { victims: 300_000 }.on_response(&colluders, &all).unwrap();
        assert!((120..160).contains(&count(&left)), "{}", count(&left));
        let again = Omitter { victims: 300_000 }.on_response(&colluders, &all).unwrap();
        assert_eq!(left, again);
        assert_eq!(count(&Omitter { victims: PPM_ONE }.on_response(&colluders, &all).unwrap()), 0);
        assert_eq!(Omitter { victims: 0 }.on_response(&colluders, &all), None);
    }

    #[test]
    fn a_forger_changes_every_item() {
        let all = records(3);
        let Response::Peer { records: before, .. } = &all else { unreachable!() };
        let forged = Forger.on_response(&Colluders::default(), &all).unwrap();
        let Response::Peer { records: after, .. } = &forged else { unreachable!() };
        assert!(before.iter().zip(after).all(|(before, after)| before != after));
    }
}
