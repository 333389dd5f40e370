//! Answers that their producers take back, and proofs that a producer contradicted itself. A producer tells the nodes nearest to a place that follows from its capability's declaration, and tells
//! them again while it runs; who is about to use what a holder handed over asks them first, at most once a minute for one declaration.

use std::collections::BTreeMap;
use std::time::Duration;

use comity_core::{AgentId, Canonical as _, Hash, OverlayId, Time};
use comity_results::contradiction::Contradiction;
use comity_results::retract::{Retract, Target};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tracing::warn;

use super::wire::{POINTERS_MAX, PROOF_BYTES_MAX, PROOFS_MAX, Question, Told};
use super::{Results, locked};
use crate::node::Node;
use crate::storage::{Change, StorageError, Table};

/// Declarations of which retractions are kept for others.
const DECLARATIONS_MAX: usize = 4_096;
/// Retractions of one declaration; of one agent, the newest alone.
const OF_DECLARATION_MAX: usize = POINTERS_MAX;
/// Own retractions that are kept and told again.
const OWN_MAX: usize = 1_024;
/// Proofs that are kept of one declaration.
const PROOFS_OF_DECLARATION_MAX: usize = 64;
/// How long hearing them may take.
const HEAR_FOR: Duration = Duration::from_millis(1_500);
/// For how long what was heard of a declaration will do.
const HEARD_FOR: Duration = Duration::from_secs(60);
/// Nodes that are told, and asked.
const NODES: usize = 3;

/// What was taken back, by declaration.
#[derive(Debug, Default)]
pub(super) struct TakenBack {
    /// By others, kept for who asks: sealed, by producer and what it is about.
    kept: BTreeMap<Hash, BTreeMap<AgentId, Vec<u8>>>,
    /// By this agent.
    own: Vec<(Hash, Vec<u8>)>,
    /// Proofs that a producer contradicted itself, by declaration and producer.
    proofs: BTreeMap<Hash, BTreeMap<AgentId, Vec<u8>>>,
    /// When what is known of a declaration was last asked for.
    heard: BTreeMap<Hash, Time>,
}

/// Where retractions of a declaration are kept.
fn place(descriptor: &Hash) -> OverlayId {
    OverlayId(Hash::derive("comity/result/retractions/v1", &[descriptor.as_bytes()]).0)
}

impl Results {
    /// Takes in the retraction of `caller`, which brings it itself.
    pub(super) fn note_retraction(
        &self,
        caller: &AgentId,
        descriptor: Hash,
        sealed: &[u8],
    ) -> bool {
        if comity_trust::claimed_signer(sealed).is_none_or(|signer| signer != *caller) {
            return false;
        }
        let mut taken = locked(&self.taken_back);
        if taken.kept.len() >= DECLARATIONS_MAX && !taken.kept.contains_key(&descriptor) {
            return false;
        }
        let known = taken.kept.get(&descriptor);
        let full = known
            .is_some_and(|known| known.len() >= OF_DECLARATION_MAX && !known.contains_key(caller));
        let told_before =
            known.and_then(|known| known.get(caller)).is_some_and(|known| known == sealed);
        if full || told_before || !self.heed(sealed) {
            return told_before;
        }
        taken.kept.entry(descriptor).or_default().insert(*caller, sealed.to_vec());
        true
    }

    /// Opens a retraction and acts on it. Returns whether it verifies.
    fn heed(&self, sealed: &[u8]) -> bool {
        let mut guard = self.state();
        let state = &mut *guard;
        let Ok((producer, _)) = state.retracted.insert(sealed, self.clock.now()) else {
            return false;
        };
        state.withdraw(&producer);
        drop(guard);
        self.clear_shelf();
        true
    }

    /// Takes in a proof that a producer contradicted itself. Returns whether it is one.
    pub(super) fn accused(&self, bytes: &[u8]) -> bool {
        if bytes.len() > PROOF_BYTES_MAX {
            return false;
        }
        let Ok(proof) = Contradiction::decode(bytes) else { return false };
        let (descriptor, liar) = (proof.first.receipt.capability, proof.first.receipt.callee);
        if locked(&self.reputation).lied(&liar).is_some() {
            // One proof is enough, and verifying it is the dear part.
            return true;
        }
        if proof.verify().is_err() {
            return false;
        }
        warn!(agent = %liar.short(), "a peer showed proof that an agent contradicted itself");
        self.proved(liar, &proof);
        self.keep_proof(descriptor, liar, bytes);
        true
    }

    /// Keeps a verified proof for others to find.
    pub(super) fn keep_proof(&self, descriptor: Hash, liar: AgentId, bytes: &[u8]) {
        let mut taken = locked(&self.taken_back);
        if bytes.len() <= PROOF_BYTES_MAX
            && (taken.proofs.len() < DECLARATIONS_MAX || taken.proofs.contains_key(&descriptor))
        {
            let known = taken.proofs.entry(descriptor).or_default();
            if known.len() < PROOFS_OF_DECLARATION_MAX {
                known.insert(liar, bytes.to_vec());
            }
        }
    }

    /// What is known to be taken back of a declaration, and proofs against its producers.
    pub(super) fn warnings(&self, descriptor: &Hash) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let proofs = {
            let taken = locked(&self.taken_back);
            let proofs = taken.proofs.get(descriptor).into_iter().flat_map(BTreeMap::values);
            proofs.take(PROOFS_MAX).cloned().collect()
        };
        (self.taken_back(descriptor), proofs)
    }

    fn taken_back(&self, descriptor: &Hash) -> Vec<Vec<u8>> {
        let taken = locked(&self.taken_back);
        let own = taken.own.iter().rev().filter(|(of, _)| of == descriptor);
        let own = own.map(|(_, sealed)| sealed.clone());
        let others = taken.kept.get(descriptor).into_iter().flat_map(BTreeMap::values).cloned();
        own.chain(others).take(OF_DECLARATION_MAX).collect()
    }

    /// Remembers a retraction of this agent.
    pub(super) fn restore_own_retraction(&self, descriptor: Hash, sealed: Vec<u8>) {
        self.heed(&sealed);
        let mut taken = locked(&self.taken_back);
        if taken.own.len() < OWN_MAX {
            taken.own.push((descriptor, sealed));
        }
    }

    fn is_due(&self, descriptor: &Hash) -> bool {
        let now = self.clock.now();
        let mut taken = locked(&self.taken_back);
        taken.heard.retain(|_, at| now.saturating_since(*at) < HEARD_FOR);
        if taken.heard.contains_key(descriptor) || taken.heard.len() >= DECLARATIONS_MAX {
            return false;
        }
        taken.heard.insert(*descriptor, now);
        true
    }
}

impl Node {
    /// Asks what was taken back of a declaration, unless that was done a moment ago; waits for no keeper that keeps silent.
    pub(super) async fn hear_retractions(&self, descriptor: &Hash) {
        if self.inner.results.is_due(descriptor) {
            // Whoever is too slow is heard the next time.
            let _late = tokio::time::timeout(HEAR_FOR, self.ask_retractions(descriptor)).await;
        }
    }

    async fn ask_retractions(&self, descriptor: &Hash) {
        let question = Question::Retracted { descriptor: *descriptor };
        let keepers = self.nearest_to(place(descriptor), NODES).await;
        let asked = keepers
            .iter()
            .map(|(agent, addrs)| self.ask_about_results(*agent, addrs, &question, None));
        let mut asked: FuturesUnordered<_> = asked.collect();
        while let Some(answer) = asked.next().await {
            if let Ok(answer) = answer
                && let Some(Told::Retracted { sealed, proofs }) = Told::decode(&answer)
            {
                for one in sealed.iter().take(OF_DECLARATION_MAX) {
                    self.inner.results.heed(one);
                }
                for proof in proofs.iter().take(PROOFS_MAX) {
                    self.inner.results.accused(proof);
                }
            }
        }
    }

    /// Takes back answers given so far. Returns how many nodes were told.
    ///
    /// # Errors
    /// When the retraction cannot be stored; then nobody was told.
    pub(super) async fn retract_answers(
        &self,
        descriptor: Hash,
        target: Target,
    ) -> Result<usize, StorageError> {
        let results = &self.inner.results;
        let now = results.clock.now();
        let sealed = Retract::new(target, now).seal(&results.me);
        let mut key = descriptor.as_bytes().to_vec();
        key.extend_from_slice(&now.as_millis().to_be_bytes());
        let change = Change::Put { table: Table::Retractions, key, value: sealed.clone() };
        results.storage.commit(vec![change]).await?;
        results.restore_own_retraction(descriptor, sealed);
        Ok(self.tell_retractions(&descriptor).await)
    }

    /// Tells the nodes that keep retractions of this declaration.
    async fn tell_retractions(&self, descriptor: &Hash) -> usize {
        let sealed: Vec<Vec<u8>> = {
            let taken = locked(&self.inner.results.taken_back);
            let own = taken.own.iter().rev().filter(|(of, _)| of == descriptor);
            own.map(|(_, sealed)| sealed.clone()).take(POINTERS_MAX).collect()
        };
        let sealed = sealed.into_iter().map(Into::into).collect();
        let question = Question::Retract { descriptor: *descriptor, sealed };
        let keepers = self.nearest_to(place(descriptor), NODES).await;
        let told = keepers
            .iter()
            .map(|(agent, addrs)| self.ask_about_results(*agent, addrs, &question, None));
        let told = futures_util::future::join_all(told).await;
        told.iter().filter(|said| said.is_ok()).count()
    }

    /// Shows a proof of contradiction to the nodes that keep those of this declaration.
    pub(super) fn accuse(&self, proof: &Contradiction) {
        let (descriptor, liar) = (proof.first.receipt.capability, proof.first.receipt.callee);
        let bytes = proof.encode();
        if bytes.len() > PROOF_BYTES_MAX {
            return;
        }
        self.inner.results.keep_proof(descriptor, liar, &bytes);
        let node = self.clone();
        tokio::spawn(async move {
            let question = Question::Accuse { proof: bytes.into() };
            let keepers = node.nearest_to(place(&descriptor), NODES).await;
            let told = keepers
                .iter()
                .map(|(agent, addrs)| node.ask_about_results(*agent, addrs, &question, None));
            futures_util::future::join_all(told).await;
        });
    }

    /// Tells again what this agent took back: nodes come and go.
    pub(super) async fn retell_retractions(&self) {
        let own: std::collections::BTreeSet<Hash> = {
            let taken = locked(&self.inner.results.taken_back);
            taken.own.iter().map(|(descriptor, _)| *descriptor).collect()
        };
        for descriptor in own {
            self.tell_retractions(&descriptor).await;
        }
    }
}
