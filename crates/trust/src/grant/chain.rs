//! Chains: made, verified, asked.

use std::collections::BTreeSet;
use std::time::Duration;

use comity_capability::record::CLOCK_SKEW;
use comity_core::canonical;
use comity_core::envelope::{self, Opened};
use comity_core::{AgentId, Hash, Identity, Kind, Time};

use super::arguments;
use super::refusal::{IssueError, Refusal};
use super::{Counters, Grant, MAX_CHAIN, MAX_LINKS};
use crate::revoke::{Revocations, Revoke, Withdrawn};
use crate::wire;
use crate::{Fit, Level, RawKey, Scope, Target};

/// No evidence was appraised.
pub static NO_EVIDENCE: BTreeSet<String> = BTreeSet::new();

/// A chain as it travels: sealed links, the callee's own first. Nothing of it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    links: Vec<Vec<u8>>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask<'a> {
    /// The capability.
    pub target: Target<'a>,
    /// What the call costs, in the callee's unit.
    pub cost: u64,
    /// The request in canonical CBOR. None before there is one: then limits of arguments are not judged, and must be before the call runs.
    pub arguments: Option<&'a [u8]>,
}

/// What a capability demands of grants, by the callee's policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demands {
    /// How old what is known of each delegator's withdrawals may be; none = never mind.
    pub max_stale: Option<Duration>,
    /// How long the chain may live in all: an hour for whatever acts.
    pub max_life: Option<Duration>,
}

/// What the callee knows at the time of a call.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The wall clock.
    pub now: Time,
    /// How well the caller's own claims are supported, in the callee's view.
    pub level: Level,
    /// Kinds of evidence that were appraised in this session and that the callee's policy accepts.
    pub evidence: &'a BTreeSet<String>,
    /// What was withdrawn.
    pub revocations: &'a Revocations,
    /// What the capability demands.
    pub demands: Demands,
}

impl<'a> Context<'a> {
    /// An unknown caller without evidence, and no demands.
    #[must_use]
    pub fn at(now: Time, revocations: &'a Revocations) -> Self {
        Self {
            now,
            level: Level::L0,
            evidence: &NO_EVIDENCE,
            revocations,
            demands: Demands::default(),
        }
    }
}

impl Chain {
    /// A chain of one link: `issuer` lets `grant.holder` call it.
    ///
    /// # Errors
    /// As [`Grant::check`].
    pub fn issue(mut grant: Grant, issuer: &Identity) -> Result<Self, IssueError> {
        grant.parent = None;
        grant.check()?;
        Self { links: vec![envelope::seal(Kind::Grant, &grant, issuer)] }.fitting()
    }

    /// This chain with one more link: `holder`, who holds the last, lets `grant.holder` do part of it. Needs nobody's help.
    ///
    /// # Errors
    /// [`IssueError`] when the chain is not in order, not `holder`'s, or the link would allow what the chain does not. Verifiers do not depend on
    /// this: a link that claims more than its parents gives no more.
    pub fn delegate(&self, mut grant: Grant, holder: &Identity) -> Result<Self, IssueError> {
        let refused = |refusal| IssueError::Parent(Box::new(refusal));
        let issuer = self.issuer().map_err(refused)?;
        let verified = self.links_below(&issuer, None).map_err(refused)?;
        let last = verified.last().ok_or_else(|| refused(Refusal::Links { count: 0 }))?;
        if last.grant.holder != holder.id() {
            return Err(IssueError::NotHolder { holder: last.grant.holder, signer: holder.id() });
        }
        if grant.depth >= last.grant.depth {
            return Err(IssueError::Depth { allowed: last.grant.depth, depth: grant.depth });
        }
        for link in &verified {
            if let Some(delegates) = &link.grant.delegates
                && !delegates.contains(&grant.holder)
            {
                return Err(IssueError::NotADelegate { holder: grant.holder });
            }
            let wider = |scope: &&Scope| !link.grant.scopes.iter().any(|above| above.covers(scope));
            if let Some(scope) = grant.scopes.iter().find(wider) {
                return Err(IssueError::Wider { scope: scope.to_string() });
            }
        }
        grant.parent = Some(last.hash);
        grant.check()?;
        let mut links = self.links.clone();
        links.push(envelope::seal(Kind::Grant, &grant, holder));
        Self { links }.fitting()
    }

    /// A chain of these sealed links, whatever they are.
    ///
    /// # Errors
    /// [`Refusal::Links`] and [`Refusal::TooLong`].
    pub fn from_links(links: Vec<Vec<u8>>) -> Result<Self, Refusal> {
        if !(1..=MAX_LINKS).contains(&links.len()) {
            return Err(Refusal::Links { count: links.len() });
        }
        let chain = Self { links };
        let length = chain.to_bytes().len();
        if length > MAX_CHAIN { Err(Refusal::TooLong { length }) } else { Ok(chain) }
    }

    fn fitting(self) -> Result<Self, IssueError> {
        let length = self.to_bytes().len();
        if length > MAX_CHAIN { Err(IssueError::TooLong { length }) } else { Ok(self) }
    }

    /// Its bytes: a CBOR array of byte strings.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        canonical::encode_minicbor(&Wire(
            self.links.iter().map(|link| link.clone().into()).collect(),
        ))
    }

    /// The chain in these bytes; the length is checked before anything is read.
    ///
    /// # Errors
    /// [`Refusal::TooLong`], [`Refusal::Form`] and [`Refusal::Links`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Refusal> {
        if bytes.len() > MAX_CHAIN {
            return Err(Refusal::TooLong { length: bytes.len() });
        }
        let wire: Wire = canonical::decode_minicbor(bytes).map_err(Refusal::Form)?;
        let count = wire.0.len();
        if !(1..=MAX_LINKS).contains(&count) {
            return Err(Refusal::Links { count });
        }
        Ok(Self { links: wire.0.into_iter().map(Into::into).collect() })
    }

    /// Its links, sealed.
    #[must_use]
    pub fn links(&self) -> &[Vec<u8>] {
        &self.links
    }

    /// Who signed the first link: whose capabilities it is about. Its signature is verified.
    ///
    /// # Errors
    /// [`Refusal::Link`].
    pub fn issuer(&self) -> Result<AgentId, Refusal> {
        let first = self.links.first().map(Vec::as_slice).unwrap_or_default();
        let opened: Opened<Grant> = envelope::open(Kind::Grant, first, MAX_CHAIN)
            .map_err(|source| Refusal::Link { link: 1, source })?;
        Ok(opened.signer)
    }

    /// Its links, opened and checked against each other, for a holder who wants to see what it has.
    ///
    /// # Errors
    /// The first [`Refusal`].
    pub fn show(&self) -> Result<Vec<Link>, Refusal> {
        self.links_below(&self.issuer()?, None)
    }

    /// Everything that does not depend on the time or the call: signatures, order, depth, delegates, and that it begins with `me`, the callee, and
    /// ends with `peer`, whose key the session proved.
    ///
    /// A chain that does not begin with `me`, or whose links name other signers than their holders, costs no signature at all; the longest
    /// one costs four, and the intake of two keys.
    ///
    /// # Errors
    /// The first [`Refusal`].
    pub fn verify(&self, me: &AgentId, peer: &AgentId) -> Result<VerifiedChain, Refusal> {
        let links = self.links_below(me, Some(peer))?;
        if let Some(last) = links.last()
            && last.grant.holder != *peer
        {
            return Err(Refusal::NotHolder { holder: last.grant.holder, peer: *peer });
        }
        Ok(VerifiedChain { links, me: *me, peer: *peer })
    }

    fn links_below(&self, issuer: &AgentId, peer: Option<&AgentId>) -> Result<Vec<Link>, Refusal> {
        let mut links: Vec<Link> = Vec::with_capacity(self.links.len());
        for (bytes, link) in self.links.iter().zip(1..) {
            comes_from_holder(&links, link, issuer, bytes)?;
            let expected = match links.last() {
                None => *issuer,
                Some(above) => match peer {
                    Some(peer) if above.grant.holder == *peer => *peer,
                    Some(_) | None => {
                        let intake = above.grant.holder.intake();
                        intake.map_err(|source| Refusal::HolderKey { link: link - 1, source })?
                    }
                },
            };
            let opened: Opened<Grant> =
                envelope::open_expecting(Kind::Grant, bytes, MAX_CHAIN, &expected)
                    .map_err(|source| Refusal::Link { link, source })?;
            let Opened { signer, payload: grant, hash, .. } = opened;
            follows(&links, link, &expected, &signer, &grant)?;
            links.push(Link { hash, signer, grant });
        }
        Ok(links)
    }
}

/// Whether a link names the signer that it must have: what does not is refused before it costs a signature.
fn comes_from_holder(
    above: &[Link],
    link: usize,
    issuer: &AgentId,
    bytes: &[u8],
) -> Result<(), Refusal> {
    let holder = above.last().map_or_else(|| RawKey::from(*issuer), |above| above.grant.holder);
    match wire::claimed_signer(bytes) {
        Some(signer) if signer != holder => Err(if above.is_empty() {
            Refusal::NotMine { issuer: signer }
        } else {
            Refusal::WrongSigner { link, signer, holder }
        }),
        // Too short to say: it is refused when it is opened.
        Some(_) | None => Ok(()),
    }
}

/// Whether a link may follow these.
fn follows(
    above: &[Link],
    link: usize,
    expected: &AgentId,
    signer: &AgentId,
    grant: &Grant,
) -> Result<(), Refusal> {
    let Some(parent) = above.last() else {
        return if signer != expected {
            Err(Refusal::NotMine { issuer: (*signer).into() })
        } else if grant.parent.is_some() {
            Err(Refusal::WrongParent { link })
        } else {
            Ok(())
        };
    };
    if signer != expected {
        return Err(Refusal::WrongSigner {
            link,
            signer: (*signer).into(),
            holder: parent.grant.holder,
        });
    }
    if grant.parent != Some(parent.hash) {
        return Err(Refusal::WrongParent { link });
    }
    if grant.depth >= parent.grant.depth {
        return Err(Refusal::TooDeep { link });
    }
    for (earlier, above) in above.iter().zip(1..) {
        if let Some(delegates) = &earlier.grant.delegates
            && !delegates.contains(&grant.holder)
        {
            return Err(Refusal::NotADelegate { link, above, holder: grant.holder });
        }
    }
    Ok(())
}

/// The links as they travel.
#[derive(minicbor::Encode, minicbor::Decode)]
#[cbor(transparent)]
struct Wire(#[n(0)] Vec<minicbor::bytes::ByteVec>);

/// A link whose signature holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its name: hash of its envelope.
    pub hash: Hash,
    /// Who granted.
    pub signer: AgentId,
    /// What.
    pub grant: Grant,
}

/// A chain whose signatures and order hold, from the callee to the peer of a session. Only [`Chain::verify`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedChain {
    links: Vec<Link>,
    me: AgentId,
    peer: AgentId,
}

impl VerifiedChain {
    /// Its links, the callee's own first.
    #[must_use]
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// The caller.
    #[must_use]
    pub const fn holder(&self) -> AgentId {
        self.peer
    }

    /// The name of the right that is exercised: hash of the last link.
    #[must_use]
    pub fn leaf(&self) -> Hash {
        self.links.last().map_or(Hash([0; 32]), |link| link.hash)
    }

    /// From when until when all links are valid; the end may lie before the beginning.
    #[must_use]
    pub fn valid(&self) -> (Time, Time) {
        let from = self.links.iter().map(|link| link.grant.not_before).max();
        let until = self.links.iter().map(|link| link.grant.not_after).min();
        (from.unwrap_or(Time::MAX), until.unwrap_or(Time::ZERO))
    }

    /// Whether every link allows the call now: withdrawals, times, capability, level, evidence, staleness, and what it says if that is known
    /// yet. Counts nothing.
    ///
    /// # Errors
    /// The first [`Refusal`].
    pub fn permits(&self, ask: &Ask<'_>, ctx: &Context<'_>) -> Result<(), Refusal> {
        for (index, link) in self.links.iter().enumerate() {
            self.not_withdrawn(index, ctx.revocations)?;
            permits_link(index + 1, &link.grant, ask, ctx)?;
        }
        self.fresh(ask, ctx)?;
        self.short_lived(ask, ctx.demands)?;
        ask.arguments.map_or(Ok(()), |request| self.permits_arguments(request))
    }

    /// Whether every link allows what the request says.
    fn permits_arguments(&self, request: &[u8]) -> Result<(), Refusal> {
        let limits = self.links.iter().zip(1..).flat_map(|(link, number)| {
            link.grant.arguments.iter().flatten().map(move |argument| (number, argument))
        });
        arguments::check(request, limits)
    }

    /// Who granted a link, and everybody above, may take it back; and its holder may declare its own key lost.
    fn not_withdrawn(&self, index: usize, revocations: &Revocations) -> Result<(), Refusal> {
        let Some(link) = self.links.get(index) else { return Ok(()) };
        let held = Withdrawn::Key(link.grant.holder);
        let refuse = |by: AgentId, revoke: &Revoke| Refusal::Revoked {
            link: index + 1,
            by,
            at: revoke.at,
            reason: revoke.reason,
        };
        for above in self.links.iter().take(index + 1) {
            for target in [Withdrawn::Statement(link.hash), held] {
                if let Some(revoke) = revocations.find(&above.signer, &target) {
                    return Err(refuse(above.signer, revoke));
                }
            }
        }
        let holder = self.links.get(index + 1).map_or(self.peer, |below| below.signer);
        revocations.find(&holder, &held).map_or(Ok(()), |revoke| Err(refuse(holder, revoke)))
    }

    fn fresh(&self, ask: &Ask<'_>, ctx: &Context<'_>) -> Result<(), Refusal> {
        let Some(max_stale) = ctx.demands.max_stale else { return Ok(()) };
        for link in self.links.iter().skip(1) {
            if link.signer != self.me && !ctx.revocations.is_fresh(&link.signer, ctx.now, max_stale)
            {
                return Err(Refusal::Stale {
                    name: ask.target.name.to_owned(),
                    issuer: link.signer,
                    as_of: ctx.revocations.as_of(&link.signer, ctx.now),
                    max_s: max_stale.as_secs(),
                });
            }
        }
        Ok(())
    }

    fn short_lived(&self, ask: &Ask<'_>, demands: Demands) -> Result<(), Refusal> {
        let Some(max_life) = demands.max_life else { return Ok(()) };
        let (from, until) = self.valid();
        let life = until.saturating_since(from);
        if life <= max_life {
            return Ok(());
        }
        Err(Refusal::LivesTooLong {
            name: ask.target.name.to_owned(),
            life_s: life.as_secs(),
            max_s: max_life.as_secs(),
        })
    }
}

fn permits_link(
    link: usize,
    grant: &Grant,
    ask: &Ask<'_>,
    ctx: &Context<'_>,
) -> Result<(), Refusal> {
    let now = ctx.now;
    if grant.not_before.saturating_since(now) > CLOCK_SKEW {
        return Err(Refusal::NotYet { link, not_before: grant.not_before, now });
    }
    if now >= grant.not_after && now.saturating_since(grant.not_after) >= CLOCK_SKEW {
        return Err(Refusal::Expired { link, not_after: grant.not_after, now });
    }
    let name = || ask.target.name.to_owned();
    match Scope::best_fit(&grant.scopes, &ask.target) {
        Fit::Yes => {}
        Fit::No => return Err(Refusal::Capability { link, name: name() }),
        Fit::DescriptorChanged => return Err(Refusal::DescriptorChanged { link, name: name() }),
        Fit::InterfaceChanged => return Err(Refusal::InterfaceChanged { link, name: name() }),
    }
    if ctx.level < grant.min_level {
        return Err(Refusal::Level { link, needed: grant.min_level, has: ctx.level });
    }
    let missing = grant.evidence.iter().flatten().find(|kind| !ctx.evidence.contains(*kind));
    missing.map_or(Ok(()), |kind| Err(Refusal::Evidence { link, kind: kind.clone() }))
}

/// Everything at once: may `peer`, whose key the session proved, make this call of `me` under the chain in `bytes`? If so, it is counted. A
/// request that is not given is one without arguments.
///
/// # Errors
/// The first [`Refusal`]; nothing was counted then.
pub fn verify(
    bytes: &[u8],
    me: &AgentId,
    peer: &AgentId,
    ask: &Ask<'_>,
    ctx: &Context<'_>,
    counters: &mut Counters,
) -> Result<VerifiedChain, Refusal> {
    let chain = Chain::from_bytes(bytes)?.verify(me, peer)?;
    let ask = &Ask { arguments: Some(ask.arguments.unwrap_or_default()), ..*ask };
    chain.permits(ask, ctx)?;
    counters.spend(&chain, ask.cost, ctx.now)?;
    Ok(chain)
}
