//! Evaluations remembered: the custodians of a shard, who mostly hold the same, are asked the same question at the same time.

use std::collections::BTreeMap;
use std::ptr::addr_eq;
use std::sync::Arc;

use comity_overlay::item::Parsed;
use comity_overlay::{Candidate, Evaluation, EvaluationLimits, QueryReject};

/// Evaluations in a generation; two are kept.
const GENERATION_MAX: usize = 256;

/// An evaluation and all that it depended on. A parsed digest is one agent's, so that who signed it need not be compared.
#[derive(Debug)]
struct Known {
    query: Box<[u8]>,
    limits: EvaluationLimits,
    digests: Box<[Parsed]>,
    result: Result<Evaluation, QueryReject>,
}

impl Known {
    fn is_of(&self, query: &[u8], candidates: &[Candidate<'_>], limits: EvaluationLimits) -> bool {
        *self.query == *query
            && self.limits == limits
            && self.digests.len() == candidates.len()
            && self.digests.iter().zip(candidates).all(|(known, candidate)| {
                addr_eq(Arc::as_ptr(known), Arc::as_ptr(candidate.digest))
            })
    }
}

/// The latest evaluations.
#[derive(Debug, Default)]
pub(super) struct Evaluated {
    /// By [`fingerprint`], which only says where to look.
    young: BTreeMap<u64, Known>,
    old: BTreeMap<u64, Known>,
}

impl Evaluated {
    /// What `evaluate` says, from memory if it said so of late.
    pub(super) fn get(
        &mut self,
        query: &[u8],
        candidates: &[Candidate<'_>],
        limits: EvaluationLimits,
        evaluate: impl FnOnce() -> Result<Evaluation, QueryReject>,
    ) -> Result<Evaluation, QueryReject> {
        let name = fingerprint(query, candidates);
        let known = [&self.young, &self.old].into_iter().find_map(|known| known.get(&name));
        if let Some(known) = known.filter(|known| known.is_of(query, candidates, limits)) {
            return known.result.clone();
        }
        let result = evaluate();
        if self.young.len() >= GENERATION_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        let digests = candidates.iter().map(|candidate| Arc::clone(candidate.digest)).collect();
        let known = Known { query: query.into(), limits, digests, result: result.clone() };
        self.young.insert(name, known);
        result
    }
}

/// A number that two evaluations of the same have in common, and others rarely.
fn fingerprint(query: &[u8], candidates: &[Candidate<'_>]) -> u64 {
    let words = query.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word)
    });
    let places = candidates.iter().map(|candidate| Arc::as_ptr(candidate.digest).addr() as u64);
    words.chain(places).fold(query.len() as u64, |sum, word| {
        (sum.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    })
}

#[cfg(test)]
mod tests {
    use comity_core::{AgentId, Identity};

    use super::*;

    fn ask(
        memory: &mut Evaluated,
        query: &[u8],
        held: &[(Parsed, AgentId)],
        cost_max: u32,
    ) -> bool {
        let candidates: Vec<_> =
            held.iter().map(|(digest, signer)| Candidate { digest, signer, beat: None }).collect();
        let limits = EvaluationLimits { matches_max: 5, near_max: 5, cost_max };
        let mut asked = false;
        let passed = u32::try_from(held.len()).unwrap();
        let result = memory.get(query, &candidates, limits, || {
            asked = true;
            Ok(Evaluation { passed, ..Evaluation::default() })
        });
        assert_eq!(result.unwrap().passed, passed);
        asked
    }

    #[test]
    fn only_the_same_is_remembered() {
        let signer = Identity::from_secret_bytes(&[1; 32]).id();
        let held: Vec<(Parsed, _)> = (0..9_u8).map(|n| (Arc::new(n) as Parsed, signer)).collect();
        let mut memory = Evaluated::default();
        assert!(ask(&mut memory, b"one", &held, 1));
        assert!(!ask(&mut memory, b"one", &held, 1));
        assert!(ask(&mut memory, b"two", &held, 1));
        assert!(ask(&mut memory, b"one", &held[1..], 1));
        assert!(ask(&mut memory, b"one", &held, 2));
        let equal: Vec<_> = (0..9_u8).map(|n| (Arc::new(n) as Parsed, signer)).collect();
        assert!(ask(&mut memory, b"one", &equal, 1), "equal is not the same");
    }

    #[test]
    fn memory_is_bounded() {
        let mut memory = Evaluated::default();
        for n in 0..10_000_u32 {
            ask(&mut memory, &n.to_be_bytes(), &[], 1);
        }
        assert!(memory.young.len() <= GENERATION_MAX && memory.old.len() <= GENERATION_MAX);
    }
}
