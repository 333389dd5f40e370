//! What the baselines take from a scenario.

use std::time::Duration;

use super::BaselineError;
use crate::random::Ppm;
use crate::scenario::{Fault, Misbehaviour, Scenario, Sessions, Start};

/// How a host breaks the rules of whatever design it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bad {
    /// Answers nothing and forwards nothing.
    Silent,
    /// Sends everyone to colluders, says it stored what it did not, and finds nothing.
    Misroute,
    /// Falsifies what it returns. Askers check signatures, so this costs them time and bytes.
    Forge,
    /// Keeps to the protocol, and leaves everything out of its answers.
    Omit,
}

/// Hosts on top of the scenario's, minted next to keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Eclipse {
    pub(super) keys: usize,
    pub(super) ids: usize,
}

/// What goes wrong with the hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strike {
    Kill { share: Ppm },
    Partition { lasts: Option<Duration> },
    RestartAll { pause: Duration, spread: Duration },
    Churn { session: Duration },
    Links { loss: Ppm, duplicate: Ppm, reorder: Ppm, lasts: Option<Duration> },
}

impl Strike {
    /// A few words for figures.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Kill { .. } => "kill",
            Self::Partition { .. } => "partition",
            Self::RestartAll { .. } => "restart of all",
            Self::Churn { .. } => "churn",
            Self::Links { .. } => "bad links",
        }
    }
}

/// A scenario in the terms of the baselines.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) scenario: Scenario,
    pub(super) bad: Vec<(Bad, Ppm)>,
    pub(super) eclipse: Eclipse,
    pub(super) strikes: Vec<(Duration, Strike)>,
    /// Agents that register, retire and crash while they are watched, in each phase.
    pub(super) registrations: usize,
    pub(super) retirements: usize,
    pub(super) crashes: usize,
    /// What was published is there from the beginning.
    pub(super) settled: bool,
}

impl Plan {
    pub(super) fn new(scenario: &Scenario) -> Result<Self, BaselineError> {
        let mut bad = Vec::new();
        let mut eclipse = Eclipse::default();
        for group in &scenario.adversaries {
            if group.kind == Misbehaviour::Eclipse {
                eclipse.keys = eclipse.keys.saturating_add(group.keys);
                eclipse.ids = eclipse.ids.max(group.ids);
            }
            let kinds = counterparts(group.kind)?;
            let parts = u32::try_from(kinds.len()).unwrap_or(u32::MAX).max(1);
            bad.extend(kinds.iter().map(|kind| (*kind, group.share / parts)));
        }
        let struck = |fault: &Fault| Ok((fault.at(), strike(fault)?));
        let strikes = scenario.faults.iter().map(struck).collect::<Result<_, _>>()?;
        let measure = &scenario.measure;
        Ok(Self {
            bad,
            eclipse,
            strikes,
            registrations: measure.registrations,
            retirements: measure.retirements,
            crashes: measure.crashes,
            settled: matches!(scenario.start, Start::Settled),
            scenario: scenario.clone(),
        })
    }
}

/// What nodes that break rules of our overlay do in other designs.
const fn counterparts(kind: Misbehaviour) -> Result<&'static [Bad], BaselineError> {
    match kind {
        Misbehaviour::Eclipse => Ok(&[]),
        Misbehaviour::Drop => Ok(&[Bad::Silent]),
        Misbehaviour::Misroute | Misbehaviour::Split => Ok(&[Bad::Misroute]),
        Misbehaviour::Forge => Ok(&[Bad::Forge]),
        Misbehaviour::Omit | Misbehaviour::Stale => Ok(&[Bad::Omit]),
        Misbehaviour::Mixed => Ok(&[Bad::Silent, Bad::Misroute, Bad::Forge, Bad::Omit]),
        Misbehaviour::Flood | Misbehaviour::Stuff | Misbehaviour::Lie | Misbehaviour::Clock => {
            Err(BaselineError::NotModelled { kind: kind.name() })
        }
    }
}

const fn strike(fault: &Fault) -> Result<Strike, BaselineError> {
    Ok(match *fault {
        Fault::Kill { share, .. } => Strike::Kill { share },
        Fault::Partition { lasts, .. } => Strike::Partition { lasts },
        Fault::RestartAll { pause, spread, .. } => Strike::RestartAll { pause, spread },
        Fault::Churn { sessions, .. } => Strike::Churn { session: typical(sessions) },
        Fault::Links { loss, duplicate, reorder, lasts, .. } => {
            Strike::Links { loss, duplicate, reorder, lasts }
        }
        Fault::Stall { .. } => return Err(BaselineError::UnknownFault { kind: fault.label() }),
    })
}

/// Mean of the exponential sessions of the baselines: the mean of exponential ones, the median of others.
const fn typical(sessions: Sessions) -> Duration {
    match sessions {
        Sessions::Exponential { mean } => mean,
        Sessions::LogNormal { median, .. } | Sessions::Weibull { median } => median,
    }
}
