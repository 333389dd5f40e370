//! What the local API asks about results, receipts and reputation.

use std::time::Duration;

use comity_api::types::{
    DEFAULT_RECEIPTS, Done, ErrorCode, ErrorInfo, Estimate, KeptReceipt, KeptResult, MAX_RECEIPTS,
    Proof, Receipts, ReceiptsRequest, ReputationRequest, ReputationView, Results as ResultsView,
    RetractRequest, Side, VouchView,
};
use comity_core::receipt::{Receipt, SignedReceipt};
use comity_core::{Canonical as _, Hash, Time, canonical};
use comity_results::ack::Verdict;
use comity_results::key::QuestionKey;
use comity_results::repute::Beta;
use comity_results::result::Keepable;
use comity_results::retract::Target;
use comity_results::store::Entry;
use data_encoding::HEXLOWER;

use super::receipts::Row;
use super::{STORE_BYTES_MAX, locked};
use crate::node::Node;
use crate::storage::StorageError;

/// Fewest digits of a receipt's hash that name it.
const ID_DIGITS_MIN: usize = 8;

fn unreadable(error: &StorageError) -> ErrorInfo {
    ErrorInfo::new(ErrorCode::Storage, error.to_string())
}

fn estimate(beta: Beta) -> Estimate {
    Estimate { good: beta.good, bad: beta.bad, mean: beta.mean(), lower: beta.lower() }
}

/// A kept answer, as far as the list goes.
struct Shown {
    question: QuestionKey,
    receipt: Receipt,
    bytes: u64,
    on_disk: bool,
    finished: Time,
    valid_until: Time,
    uses: u32,
    took: Duration,
}

impl Shown {
    fn of<K: Keepable>(entry: &Entry<K>, on_disk: bool) -> Self {
        let kept = &entry.accepted;
        Self {
            question: kept.question(),
            receipt: kept.statement().clone(),
            bytes: kept.bytes(),
            on_disk,
            finished: kept.finished(),
            valid_until: kept.valid_until(),
            uses: entry.uses,
            took: entry.took,
        }
    }
}

impl Node {
    fn kept_receipt(&self, signed: &SignedReceipt, row: &Row) -> KeptReceipt {
        let me = self.id();
        let receipt = &signed.receipt;
        let made = receipt.caller == me;
        let (side, other) =
            if made { (Side::Made, receipt.callee) } else { (Side::Served, receipt.caller) };
        KeptReceipt {
            id: Hash::of(&receipt.encode()).to_string(),
            side,
            agent: self.name_of(&other),
            proof: Proof::from(signed),
            countersigned_cbor: row.countersigned.as_ref().map(|bytes| HEXLOWER.encode(bytes)),
            verdict: row.verdict.map(|verdict| {
                let text = match verdict {
                    Verdict::Received => "received",
                    Verdict::Confirmed => "confirmed",
                    Verdict::Disputed => "disputed",
                };
                text.to_owned()
            }),
        }
    }

    pub(crate) async fn list_receipts(
        &self,
        request: ReceiptsRequest,
    ) -> Result<Receipts, ErrorInfo> {
        let agent = match &request.agent {
            Some(text) => Some(self.resolve_text(text).await?.agent),
            None => None,
        };
        let limit = request.limit.unwrap_or(DEFAULT_RECEIPTS).clamp(1, MAX_RECEIPTS);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let me = self.id();
        let mut found = Vec::new();
        let kept = self.inner.results.receipts.scan(|signed, row| {
            let receipt = &signed.receipt;
            let of_agent =
                agent.is_none_or(|agent| receipt.caller == agent || receipt.callee == agent);
            let of_capability =
                request.capability.as_deref().is_none_or(|name| receipt.name.as_str() == name);
            let of_side = request.side.is_none_or(|side| match side {
                Side::Made => receipt.caller == me,
                Side::Served => receipt.callee == me,
            });
            if of_agent && of_capability && of_side {
                found.push((signed, row));
            }
            found.len() < limit
        });
        let kept = kept.await.map_err(|error| unreadable(&error))?;
        let receipts = found.iter().map(|(signed, row)| self.kept_receipt(signed, row)).collect();
        Ok(Receipts { kept, receipts })
    }

    pub(crate) async fn one_receipt(&self, id: &str) -> Result<KeptReceipt, ErrorInfo> {
        let digits = id.strip_prefix("b3:").unwrap_or(id).to_ascii_lowercase();
        let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_hex || digits.len() < ID_DIGITS_MIN || digits.len() > 64 {
            let text = format!("`{id}` names no receipt");
            return Err(ErrorInfo::new(ErrorCode::BadRequest, text).hint(format!(
                "give the hash that `comity receipts list` shows, or its first {ID_DIGITS_MIN} digits or more"
            )));
        }
        let mut found = Vec::new();
        let scanned = self.inner.results.receipts.scan(|signed, row| {
            let hash = Hash::of(&signed.receipt.encode());
            if HEXLOWER.encode(hash.as_bytes()).starts_with(&digits) {
                found.push((signed, row));
            }
            found.len() < 2
        });
        scanned.await.map_err(|error| unreadable(&error))?;
        match found.as_slice() {
            [(signed, row)] => Ok(self.kept_receipt(signed, row)),
            [] => Err(ErrorInfo::new(ErrorCode::NotFound, format!("no receipt {id} is kept"))),
            _ => Err(ErrorInfo::new(
                ErrorCode::BadRequest,
                format!("several receipts begin with {id}: give more digits"),
            )),
        }
    }

    pub(crate) fn kept_results(&self) -> ResultsView {
        let results = &self.inner.results;
        let now = results.clock.now();
        let state = results.state();
        let counts = state.store.counts();
        let small = state.store.iter().map(|entry| Shown::of(entry, false));
        let large = state.large.iter().map(|entry| Shown::of(entry, true));
        let mut shown: Vec<Shown> = small.chain(large).collect();
        shown.sort_by_key(|shown| std::cmp::Reverse(shown.uses));
        shown.truncate(MAX_RECEIPTS as usize);
        let shown: Vec<_> = shown
            .into_iter()
            .map(|shown| (state.renewals.is_announced(&shown.question, now), shown))
            .collect();
        let (bytes, pointers) = (state.store.bytes(), state.index.len() as u64);
        drop(state);
        let results = shown
            .into_iter()
            .map(|(announced, shown)| KeptResult {
                capability: shown.receipt.name.to_string(),
                producer: self.name_of(&shown.receipt.callee),
                request: shown.receipt.request.to_string(),
                bytes: shown.bytes,
                on_disk: shown.on_disk,
                finished_at_ms: shown.finished.as_millis(),
                valid_until_ms: shown.valid_until.as_millis(),
                uses: shown.uses,
                took_us: super::reuse::micros(shown.took),
                announced,
            })
            .collect();
        ResultsView {
            bytes,
            bytes_max: STORE_BYTES_MAX as u64,
            hits: counts.hits,
            misses: counts.misses,
            pointers,
            large: self.inner.results.large_view(),
            results,
        }
    }

    pub(crate) async fn take_back(&self, request: RetractRequest) -> Result<Done, ErrorInfo> {
        let name = &request.capability;
        let served = self.inner.registry.get(name).ok_or_else(|| {
            let text = format!("this agent serves no capability `{name}`");
            ErrorInfo::new(ErrorCode::NotFound, text)
                .hint("only its producer takes an answer back, while it serves the capability")
        })?;
        let target = match &request.input {
            None => Target::Capability(served.offer.descriptor),
            Some(input) => {
                let hash = canonical::hash_json(input).map_err(|error| {
                    let text = format!("the input has no canonical form: {error}");
                    ErrorInfo::new(ErrorCode::BadInput, text)
                })?;
                Target::Request(hash)
            }
        };
        let told = self.retract_answers(served.offer.descriptor, target).await;
        let told = told.map_err(|error| unreadable(&error))?;
        let what = if request.input.is_some() { "answers to this request" } else { "all answers" };
        let message = format!("took back {what} given so far by `{name}`; told {told} nodes");
        Ok(Done { message })
    }

    pub(crate) async fn reputation_of(
        &self,
        request: ReputationRequest,
    ) -> Result<ReputationView, ErrorInfo> {
        let agent = self.resolve_text(&request.agent).await?.agent;
        let now = self.inner.clock.now();
        let standing = locked(&self.inner.results.reputation).standing(&agent, now);
        let vouches = standing.vouches.iter().map(|vouch| VouchView {
            witness: self.name_of(&vouch.witness),
            worth: vouch.worth,
            confirmed: vouch.confirmed,
            disputed: vouch.disputed,
            counts: vouch.counts,
        });
        Ok(ReputationView {
            agent: self.name_of(&agent),
            score: standing.score,
            success: estimate(standing.success),
            own_honesty: estimate(standing.own_honesty),
            honesty: estimate(standing.honesty),
            latency_us: standing.latency.map(super::reuse::micros),
            speed: standing.speed,
            streak: standing.streak,
            check_rate: standing.check_rate,
            vouches: vouches.collect(),
            lied: standing.lied.map(|hash| hash.to_string()),
        })
    }
}
