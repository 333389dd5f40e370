//! Who may know of a capability and call it. One place decides, for offers, calls and records alike.
//!
//! [`Gate`] holds the policy in force, what was withdrawn, what grants and rules have used up, and whom this agent trusts, and asks
//! [`comity_trust::access::Access`]. What it adds is where all that comes from - the policy file, the database, what callers show - and what a
//! denied caller is told:
//!
//! * **Who has nothing from this agent learns nothing.** A denial is the answer given for a capability that never existed, and takes the same road to
//!   get there.
//! * What is wrong with a *grant* that was shown is told, because it does not depend on whether the capability exists; what a grant that covers the
//!   name runs into, such as a limit, is told too: its holder was told of the capability by the agent itself.
//! * Early data shows nothing and is let in to what is public alone.

mod answers;
mod book;
mod charters;
mod endorse_ops;
mod endorsements;
mod group_ops;
mod membership;
mod ops;
mod policy_file;
mod presented;
mod requests;
mod trust_ops;
mod view;
mod wire;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use comity_api::types::PolicyStatus;
use comity_core::{AgentId, Hash, Identity, Sha256Digest, Time};
use comity_trust::access::{Access, Call, Denial, Ground, Permit};
use comity_trust::admission::Membership;
use comity_trust::bond::{Bonds, Standing};
use comity_trust::endorse::{Endorsement, Support, standing};
use comity_trust::evidence::{Attackers, Verifiers};
use comity_trust::grant::{Chain, Counters, Refusal};
use comity_trust::log::Event;
use comity_trust::policy::{MeterError, Policy, Request};
use comity_trust::revoke::{self, Reason, Revocations, RevokeError, Withdrawn};
use comity_trust::{RawKey, Target};
use thiserror::Error;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::attest::ShownEvidence;
use crate::audit::Audit;
use crate::clock::Clock;
use crate::registry::Served;
use crate::rpc::{CallFailure, Caller, ErrorCode, RevocationState};
use crate::storage::{Change, Storage, StorageError, Table};

pub(crate) use book::{Book, Kept, KeptError, Role};
use charters::Charters;
use endorsements::Endorsements;
pub(crate) use group_ops::attend;
pub(crate) use policy_file::read_believed;
use policy_file::{Believed, LOOK_EVERY, PolicyFile};
pub use policy_file::{POLICY_FILE, PolicyFileError, read_policy};
pub(crate) use presented::Presented;
use presented::{Sessions, Shown, covers};
use requests::Requests;
pub(crate) use requests::Stage;
pub(crate) use requests::is_name;
pub use view::{
    ExplainError, GrantTextError, explain_default, explain_file, explain_policy, grant_bytes,
    grant_text, grant_view,
};
pub(crate) use wire::{Listed, Question, Told};

/// What a call costs until capabilities have prices.
const CALL_COST: u64 = 0;
/// How long a signed own revocation set is handed out before it is signed anew: peers take its time for how fresh it is.
const OWN_SET_AGE_MAX: Duration = Duration::from_secs(5);
/// Peers whose changed revocation sets wait to be fetched.
const CHANGED_LEN: usize = 64;
/// Names of rows in [`Table::State`].
const REVOCATIONS_ROW: &[u8] = b"revocations";
const BONDS_ROW: &[u8] = b"bonds";
/// Links whose counts are read back at start.
const COUNTERS_MAX: usize = comity_trust::grant::MAX_COUNTERS;

/// Why the gate cannot be opened, or a change not be kept.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AccessError {
    /// The policy file.
    #[error(transparent)]
    Policy(#[from] PolicyFileError),
    /// The database.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// What the database holds cannot be read.
    #[error(
        "what this node kept of {what} cannot be read: it is damaged, or a newer version wrote it"
    )]
    Damaged {
        /// What.
        what: &'static str,
    },
}

/// What is asked for, and by whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) caller: &'a Caller,
    pub(crate) name: &'a str,
    /// The capability; none if there is none of that name, or it is served to a private group that the caller is no member of.
    pub(crate) served: Option<&'a Served>,
    /// The caller proved membership of the group that the capability is served to.
    pub(crate) member: bool,
    /// The request in canonical CBOR; none before there is one.
    pub(crate) arguments: Option<&'a [u8]>,
}

/// A call that may go on: what must be on disk before it does.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) ground: Ground,
    permit: Permit,
    rows: Vec<Change>,
}

/// Decides about calls; one per node.
pub(crate) struct Gate {
    me: AgentId,
    pub(crate) identity: Arc<Identity>,
    pub(crate) clock: Clock,
    storage: Storage,
    state: Mutex<State>,
    sessions: Mutex<Sessions>,
    /// What callers showed of how they run.
    pub(crate) shown_evidence: Mutex<ShownEvidence>,
    pub(crate) book: Book,
    /// Requests of others for access.
    pub(crate) requests: Requests,
    /// Own requests.
    pub(crate) asked: Requests,
    pub(crate) endorsements: Endorsements,
    /// Groups with a charter.
    pub(crate) charters: Charters,
    /// Signed sets of delegators, as fetched for own calls.
    pub(crate) fetched_sets: Mutex<BTreeMap<AgentId, (Time, Vec<u8>)>>,
    /// Withdrawals of others were taken in and are to be stored.
    dirty: Notify,
    /// Peers whose revocation set is not the one held any more.
    changed: mpsc::Sender<AgentId>,
}

struct State {
    access: Access,
    file: PolicyFile,
    bonds: Bonds,
    /// Whose endorsements of callers can matter, by the policy in force.
    endorsers: BTreeSet<RawKey>,
    /// The groups with a charter that the policy in force names.
    groups: BTreeSet<RawKey>,
    own_set: Option<(Time, Vec<u8>)>,
    verifiers: Arc<Verifiers>,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("me", &self.me).finish_non_exhaustive()
    }
}

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gate {
    /// Reads the policy and everything that was kept.
    pub(crate) fn open(
        identity: Arc<Identity>,
        clock: Clock,
        storage: Storage,
        policy: Option<PathBuf>,
        groups: Option<PathBuf>,
    ) -> Result<(Self, mpsc::Receiver<AgentId>), AccessError> {
        let (me, now) = (identity.id(), clock.now());
        let (file, (policy, verifiers)) = PolicyFile::open(policy, now)?;
        let revocations: Option<Revocations> =
            stored(&storage, REVOCATIONS_ROW, "what was withdrawn")?;
        let revocations = revocations.map_or_else(|| Revocations::new(me), |old| old.succeeded(me));
        let bonds: Option<Bonds> = stored(&storage, BONDS_ROW, "whom it trusts")?;
        let (bonds, ended) = bonds.map_or_else(|| (Bonds::new(me), 0), |old| old.succeeded(me));
        if ended > 0 {
            warn!(
                ended,
                "trust both ways that was declared with this agent's key before is over: `comity trust request` asks for it anew"
            );
        }
        let mut counters = Counters::new();
        for (key, row) in storage.read_all(Table::Counters, COUNTERS_MAX)? {
            // A count that cannot be read is an allowance renewed: rather no start than that.
            let link = <[u8; 32]>::try_from(key).ok().map(Hash);
            if !link.is_some_and(|link| counters.restore(link, &row)) {
                return Err(AccessError::Damaged { what: "the uses of grants" });
            }
        }
        let book = Book::open(&storage, me)?;
        let requests = Requests::open(&storage, Table::Requests)?;
        let asked = Requests::open(&storage, Table::Asked)?;
        let endorsements = Endorsements::open(&storage, me, now)?;
        let charters = Charters::open(&storage, groups, &me, now)?;
        let (endorsers, groups) = (policy.endorsers(), policy.charter_groups());
        let access = Access { policy, revocations, counters, ..Access::new(me) };
        let verifiers = Arc::new(verifiers);
        let state = State { access, file, bonds, endorsers, groups, own_set: None, verifiers };
        let (changed, fetches) = mpsc::channel(CHANGED_LEN);
        let gate = Self {
            me,
            identity,
            clock,
            storage,
            state: Mutex::new(state),
            sessions: Mutex::default(),
            shown_evidence: Mutex::default(),
            book,
            requests,
            asked,
            endorsements,
            charters,
            fetched_sets: Mutex::default(),
            dirty: Notify::new(),
            changed,
        };
        Ok((gate, fetches))
    }

    /// Looks after the policy file and stores what was taken in, until the node ends.
    pub(crate) async fn keep(self: Arc<Self>, audit: Audit, end: CancellationToken) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = end.cancelled() => return,
                () = self.dirty.notified() => {
                    if let Err(error) = self.store_taken_in().await {
                        warn!(%error, "withdrawals and charters of others were not stored and may be forgotten by a restart");
                    }
                }
                _ = look.tick() => match self.look() {
                    Ok(None) => {}
                    Ok(Some(policy)) => audit.record(Event::PolicyChanged { policy }).await,
                    Err(error) => error!(error = %crate::describe(&error), "the policy in force stays as it was"),
                },
            }
        }
    }

    /// Puts a changed policy file into force. The hash of what is in force now, if that changed.
    fn look(&self) -> Result<Option<Hash>, PolicyFileError> {
        let now = self.clock.now();
        let mut state = locked(&self.state);
        let policy = state.file.look(now)?;
        Ok(policy.and_then(|policy| self.put_into_force(&mut state, policy)))
    }

    /// Reads the policy file now.
    pub(crate) fn reload(&self) -> Result<(PolicyStatus, Option<Hash>), PolicyFileError> {
        let now = self.clock.now();
        let mut state = locked(&self.state);
        let policy = state.file.reload(now)?;
        let changed = policy.and_then(|policy| self.put_into_force(&mut state, policy));
        Ok((state.file.status(&state.access.policy), changed))
    }

    fn put_into_force(&self, state: &mut State, believed: Believed) -> Option<Hash> {
        let (policy, verifiers) = believed;
        let hash = policy.hash();
        let changed = hash != state.access.policy.hash();
        info!(rules = policy.len(), %hash, "a policy came into force");
        state.endorsers = policy.endorsers();
        state.groups = policy.charter_groups();
        state.access.policy = policy;
        state.verifiers = Arc::new(verifiers);
        locked(&self.sessions).clear();
        locked(&self.shown_evidence).clear();
        changed.then_some(hash)
    }

    pub(crate) fn status(&self) -> PolicyStatus {
        let state = locked(&self.state);
        state.file.status(&state.access.policy)
    }

    /// Looks at the policy in force.
    pub(crate) fn with_policy<T>(&self, look: impl FnOnce(&Policy) -> T) -> T {
        look(&locked(&self.state).access.policy)
    }

    /// What evidence is appraised with.
    pub(crate) fn verifiers(&self) -> Arc<Verifiers> {
        Arc::clone(&locked(&self.state).verifiers)
    }

    /// Whether the policy asks what callers show by evidence.
    pub(crate) fn asks_evidence(&self) -> bool {
        self.with_policy(Policy::asks_evidence)
    }

    /// Whether the caller may know of the capability, and by what. Counts nothing.
    pub(crate) fn preview(&self, asked: &Asked<'_>) -> Result<Ground, CallFailure> {
        let shown = self.shown(asked.caller);
        let decided = self.decide(asked, &shown, |access, call| access.preview(call));
        decided.map_err(|denial| self.told(asked, &shown, denial))
    }

    /// Whether the call may go on. It is counted; [`Gate::commit`] keeps the counts, [`Gate::give_back`] undoes them.
    pub(crate) fn admit(&self, asked: &Asked<'_>) -> Result<Admitted, CallFailure> {
        let shown = self.shown(asked.caller);
        let decided = self.decide(asked, &shown, |access, call| {
            access.admit(call).map(|permit| {
                let spent = permit.spent.as_ref();
                let rows = spent.map(|spent| access.counters.rows(spent).collect::<Vec<_>>());
                (permit, rows.unwrap_or_default())
            })
        });
        let (permit, rows) = decided.map_err(|denial| self.told(asked, &shown, denial))?;
        let put = |(link, value): (Hash, Vec<u8>)| {
            let key = link.as_bytes().to_vec();
            Change::Put { table: Table::Counters, key, value }
        };
        Ok(Admitted { ground: permit.ground, permit, rows: rows.into_iter().map(put).collect() })
    }

    /// Puts what a call used up on disk, before it runs: a count that is lost is an allowance renewed.
    pub(crate) async fn commit(&self, admitted: &mut Admitted) -> Result<(), CallFailure> {
        let rows = std::mem::take(&mut admitted.rows);
        if let Err(error) = self.storage.commit(rows).await {
            warn!(%error, "a call under a counted grant is refused, because its use cannot be stored");
            self.give_back(admitted);
            let text = "this agent cannot store the use of the grant now: try again later";
            return Err(CallFailure::new(ErrorCode::Internal, text));
        }
        Ok(())
    }

    /// Gives back what a call used up that never ran.
    pub(crate) fn give_back(&self, admitted: &Admitted) {
        if let Some(spent) = &admitted.permit.spent {
            locked(&self.state).access.counters.refund(spent);
        }
    }

    fn decide<T>(
        &self,
        asked: &Asked<'_>,
        shown: &Shown,
        ask: impl FnOnce(&mut Access, &Call<'_>) -> Result<T, Denial>,
    ) -> Result<T, Denial> {
        let (now, agent) = (self.clock.now(), asked.caller.agent);
        let target = match asked.served {
            Some(served) => Target {
                name: &served.capability.name,
                descriptor: served.offer.descriptor,
                interface: served.offer.interface,
            },
            // What is not there is decided like what is there and private, and then denied whatever comes of it.
            None => Target {
                name: asked.name,
                descriptor: Hash([0; 32]),
                interface: Sha256Digest([0; 32]),
            },
        };
        let appraisals = asked.caller.session.map(|sid| locked(&self.shown_evidence).of(&sid));
        let appraisals = appraisals.unwrap_or_default();
        let valid = || appraisals.iter().filter(|appraisal| appraisal.is_valid(now));
        let names: BTreeSet<String> = valid().flat_map(|appraisal| appraisal.names()).collect();
        let excluded: Vec<Attackers> =
            valid().flat_map(|appraisal| &appraisal.facts).map(|fact| fact.excludes).collect();
        let mut state = locked(&self.state);
        let State { access, bonds, .. } = &mut *state;
        let counts = |membership| self.counts(access, membership, target.name, now)?.ok();
        let groups: Vec<AgentId> = shown.membership.as_ref().and_then(counts).into_iter().collect();
        let stands =
            |found: &&Endorsement| found.stands_for(&agent, &target, &access.revocations, now);
        let endorsers: Vec<AgentId> =
            shown.endorsements.iter().filter(stands).map(|found| found.endorser).collect();
        let support = Support {
            endorsements: &shown.endorsements,
            appraisals: &appraisals,
            ..Support::default()
        };
        let level = if endorsers.is_empty() && appraisals.is_empty() {
            comity_trust::Level::L0
        } else {
            let levels = access.policy.levels();
            standing(&agent, &target, &support, levels, &access.revocations, now).level
        };
        let request = Request {
            public: asked.served.is_some_and(|served| served.is_public() || asked.member),
            groups: &groups,
            endorsers: &endorsers,
            level,
            excluded: &excluded,
            trusted: bonds.standing(&agent, &access.revocations, now) == Standing::Mutual,
            cost: CALL_COST,
            ..Request::new(agent, target.name, now)
        };
        let (chain, arguments) = (shown.chain(), asked.arguments);
        let call = Call { request, target, chain, evidence: &names, arguments };
        let Some(_) = asked.served else {
            let decision = access.policy.decide(&request);
            return Err(Denial::Policy(comity_trust::policy::Decision {
                allowed: false,
                line: None,
                ..decision
            }));
        };
        ask(access, &call)
    }

    /// What the caller showed in this session, verified now or before.
    fn shown(&self, caller: &Caller) -> Arc<Shown> {
        let (Some(session), Some(bytes)) = (caller.session, &caller.grants) else {
            return Arc::default();
        };
        // The hash covers every byte: a hit is what was verified, to the bit.
        let hash = Hash::of(bytes);
        if let Some(shown) = locked(&self.sessions).get(&session, &hash) {
            return shown;
        }
        let shown = Arc::new(self.verify(&caller.agent, bytes));
        locked(&self.sessions).insert(session, hash, Arc::clone(&shown));
        shown
    }

    fn verify(&self, peer: &AgentId, bytes: &[u8]) -> Shown {
        let now = self.clock.now();
        let Some(presented) = Presented::decode(bytes) else {
            return Shown { chain: Some(Err(Refusal::Links { count: 0 })), ..Shown::default() };
        };
        let verified = |bytes: &minicbor::bytes::ByteVec| {
            Chain::from_bytes(bytes).and_then(|chain| chain.verify(&self.me, peer))
        };
        let chain = presented.chain.as_ref().map(verified);
        let mut state = locked(&self.state);
        let membership = presented
            .membership
            .as_ref()
            .and_then(|shown| self.open_membership(&state, peer, shown, now));
        // Of whom something is shown, the newest withdrawals matter; of nobody else.
        let delegators = chain.iter().flatten().flat_map(|chain| chain.links());
        let delegators = delegators.map(|link| link.signer);
        let issuers: BTreeSet<RawKey> = delegators
            .chain(membership.iter().flat_map(Membership::issuers))
            .map(RawKey::from)
            .collect();
        for set in presented.sets.iter().flatten() {
            if revoke::claimed_issuer(set).is_some_and(|by| by != self.me && issuers.contains(&by))
                && !self.take_in(&mut state, set, now)
            {
                // Who shows a set that is none is not worth another signature.
                break;
            }
        }
        // Of strangers' words only those that count cost a signature.
        let counts = |sealed: &&minicbor::bytes::ByteVec| {
            comity_trust::claimed_signer(sealed).is_some_and(|by| state.endorsers.contains(&by))
        };
        let sealed = presented.endorsements.iter().flatten().filter(counts);
        let opened = sealed.filter_map(|sealed| Endorsement::open(sealed, now).ok());
        let endorsements = opened.filter(|found| found.endorse.subject == *peer).collect();
        Shown { chain, endorsements, membership }
    }

    /// Returns whether it was a set of its issuer's at all, taken in or not.
    fn take_in(&self, state: &mut State, set: &[u8], now: Time) -> bool {
        match state.access.revocations.apply_set(set, now) {
            Ok(applied) => {
                if applied.missing > 0 {
                    warn!(issuer = %applied.issuer, missing = applied.missing, "an issuer left withdrawals out of a newer set; they stay in force here");
                }
                if applied.newer || applied.added > 0 {
                    self.dirty.notify_one();
                }
            }
            Err(error) => {
                warn!(error = %crate::describe(&error), "a revocation set is refused");
                let forged = matches!(
                    error,
                    RevokeError::Form(_) | RevokeError::Envelope(_) | RevokeError::Root { .. }
                );
                return !forged;
            }
        }
        true
    }

    /// What a denied caller is told.
    fn told(&self, asked: &Asked<'_>, shown: &Shown, denial: Denial) -> CallFailure {
        let exists = asked.served.is_some();
        let public = asked.served.is_some_and(|served| served.is_public() || asked.member);
        let reason = denial.code();
        let because = |code, text: String| CallFailure::new(code, text).reason(reason);
        if let Denial::Meter(error) = &denial {
            // Whoever a rule allows knows of the capability.
            let name = asked.name;
            let text = if let MeterError::Rate { retry_after, .. } = error {
                let wait = retry_after.as_millis();
                format!("too many calls of `{name}`: try again in {wait} ms")
            } else {
                format!("this agent allows no more calls of `{name}` for now: try again later")
            };
            return because(ErrorCode::Busy, text);
        }
        match &shown.chain {
            // Decided without looking at what there is.
            Some(Err(refusal)) if !public => {
                return because(ErrorCode::Denied, crate::describe(refusal)).reason(refusal.code());
            }
            Some(Ok(chain)) if !public && !covers(chain, asked.name, &self.me) => {
                let text =
                    format!("the grant does not cover `{}`: ask for one that does", asked.name);
                return because(ErrorCode::Denied, text).reason("grant-capability");
            }
            Some(Ok(_)) if exists => {
                let text = match &denial {
                    Denial::Grant(refusal) => crate::describe(refusal),
                    Denial::Policy(_) | Denial::Meter(_) | _ => {
                        format!("this agent's policy denies the call of `{}`", asked.name)
                    }
                };
                return because(ErrorCode::Denied, text);
            }
            Some(_) | None => {}
        }
        if !public && let Some(refused) = self.membership_refused(shown, asked.name) {
            let text = format!("this membership does not count: {}", crate::describe(&refused));
            return because(ErrorCode::Denied, text).reason("group-membership");
        }
        if public {
            let text = format!("this agent's policy denies you the call of `{}`", asked.name);
            return because(ErrorCode::Denied, text);
        }
        CallFailure::not_found(&crate::rpc::named(asked.name)).reason(reason)
    }

    /// Withdraws something of this agent's own, for ever or until `until`.
    pub(crate) async fn withdraw(
        &self,
        target: Withdrawn,
        until: Time,
        reason: Reason,
    ) -> Result<revoke::Revoke, WithdrawError> {
        let now = self.clock.now();
        let entry = {
            let mut state = locked(&self.state);
            state.own_set = None;
            state
                .access
                .revocations
                .revoke(target, until, reason, now)
                .map_err(WithdrawError::Refused)?
        };
        self.store_revocations().await.map_err(WithdrawError::Storage)?;
        Ok(entry)
    }

    /// The own set, signed: what holders of delegations staple, and peers ask for.
    pub(crate) fn own_set(&self) -> Vec<u8> {
        let now = self.clock.now();
        let mut state = locked(&self.state);
        if let Some((at, set)) = &state.own_set
            && now.saturating_since(*at) < OWN_SET_AGE_MAX
        {
            return set.clone();
        }
        let set = state.access.revocations.publish(&self.identity, now);
        state.own_set = Some((now, set.clone()));
        set
    }

    /// Takes in a revocation set that `issuer` was asked for.
    pub(crate) fn take_in_set(&self, issuer: &AgentId, set: &[u8]) {
        if revoke::claimed_issuer(set).is_some_and(|by| by == *issuer) {
            let now = self.clock.now();
            self.take_in(&mut locked(&self.state), set, now);
        }
    }

    /// Declares trust in `peer`: what to send to it.
    pub(crate) async fn declare(
        &self,
        peer: AgentId,
        until: Time,
    ) -> Result<Vec<u8>, DeclareError> {
        let now = self.clock.now();
        let sealed = locked(&self.state).bonds.declare(&self.identity, peer, now, until);
        let sealed = sealed.map_err(DeclareError::Refused)?;
        self.store_bonds().await.map_err(DeclareError::Storage)?;
        Ok(sealed)
    }

    /// Looks at who trusts whom.
    pub(crate) fn with_bonds<T>(&self, look: impl FnOnce(&Bonds) -> T) -> T {
        look(&locked(&self.state).bonds)
    }

    /// Forgets a request for trust, or a bond that was withdrawn.
    pub(crate) async fn forget_bond(&self, peer: &AgentId) -> Result<(), StorageError> {
        locked(&self.state).bonds.forget(peer);
        self.store_bonds().await
    }

    async fn store_bonds(&self) -> Result<(), StorageError> {
        let value = serde_json::to_vec(&locked(&self.state).bonds).unwrap_or_default();
        let change = Change::Put { table: Table::State, key: BONDS_ROW.to_vec(), value };
        self.storage.commit(vec![change]).await
    }

    /// The own set as it is now, for a hello.
    pub(crate) fn revocation_state(&self) -> RevocationState {
        let now = self.clock.now();
        let root = locked(&self.state).access.revocations.own_root(now);
        RevocationState { root, issued_ms: now.as_millis() }
    }

    /// A peer says which set of revocations is its own now, in a session that proves who it is. If it is the one held, that one is as recent
    /// as now; if it is another and this node has a use for it, it is fetched. Of a peer whose set nothing here depends on nothing is.
    pub(crate) fn greeted(&self, peer: &AgentId, said: &RevocationState) {
        let now = self.clock.now();
        let wanted = {
            let mut state = locked(&self.state);
            let State { access, bonds, endorsers, .. } = &mut *state;
            let known = access.revocations.knows(peer);
            let relied = known
                || endorsers.contains(&RawKey::from(*peer))
                || bonds.standing(peer, &access.revocations, now) != Standing::None;
            relied && !access.revocations.confirm(peer, &said.root, said.issued(), now)
        };
        // With a full queue it is fetched at the next hello, or when a call depends on it.
        if wanted && self.changed.try_send(*peer).is_err() {
            debug!(peer = %peer.short(), "too many peers withdrew something at once to ask them all");
        }
    }

    /// Looks at what was withdrawn.
    pub(crate) fn with_revocations<T>(&self, look: impl FnOnce(&Revocations) -> T) -> T {
        look(&locked(&self.state).access.revocations)
    }

    /// Uses of a link counted so far.
    pub(crate) fn used(&self, link: &Hash) -> u64 {
        locked(&self.state).access.counters.used(link).0
    }

    /// Whether both this agent and `peer` declared trust.
    pub(crate) fn stands(&self, peer: &AgentId) -> Standing {
        let now = self.clock.now();
        let state = locked(&self.state);
        state.bonds.standing(peer, &state.access.revocations, now)
    }

    async fn store_taken_in(&self) -> Result<(), StorageError> {
        self.store_revocations().await?;
        self.charters.store_seen(&self.storage).await
    }

    async fn store_revocations(&self) -> Result<(), StorageError> {
        let value = serde_json::to_vec(&locked(&self.state).access.revocations).unwrap_or_default();
        let change = Change::Put { table: Table::State, key: REVOCATIONS_ROW.to_vec(), value };
        self.storage.commit(vec![change]).await
    }
}

/// Why trust cannot be declared.
#[derive(Debug, Error)]
pub(crate) enum DeclareError {
    #[error(transparent)]
    Refused(comity_trust::bond::BondError),
    #[error("it could not be stored")]
    Storage(#[source] StorageError),
}

fn not_stored(error: &StorageError) -> CallFailure {
    warn!(%error, "an agent's question about trust could not be stored");
    CallFailure::new(ErrorCode::Internal, "this agent cannot store anything now: try again later")
}

/// Why something cannot be withdrawn.
#[derive(Debug, Error)]
pub(crate) enum WithdrawError {
    #[error(transparent)]
    Refused(RevokeError),
    #[error("it is withdrawn until this node ends, but that could not be stored")]
    Storage(#[source] StorageError),
}

fn stored<T: serde::de::DeserializeOwned>(
    storage: &Storage,
    row: &[u8],
    what: &'static str,
) -> Result<Option<T>, AccessError> {
    let Some(bytes) = storage.read(Table::State, row)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|_| AccessError::Damaged { what })
}
