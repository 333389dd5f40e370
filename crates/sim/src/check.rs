//! What must never happen, and a list of what did.

use std::fmt;

use comity_core::Time;
use serde::{Deserialize, Serialize};

/// Violations described in full; more are only counted.
pub const VIOLATIONS_KEPT_MAX: usize = 20;

/// A rule of the machine or of the network as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Every request gets exactly one reply in the same drain.
    OneReply,
    /// Replies answer requests.
    ReplyToNobody,
    /// Two commands have two names.
    CommandNamedTwice,
    /// A command ends once.
    DoneTwice,
    /// A command ends.
    NeverDone,
    /// What is encoded decodes to the same, and is as long as announced.
    Codec,
    /// A node is not in its own table.
    SelfInTable,
    /// Entries are where their key puts them.
    PlaceOfEntry,
    /// Only who answered is in the table.
    EntryAnswered,
    /// The table's caps.
    TableCaps,
    /// Custody's caps.
    CustodyCaps,
    /// Nothing expired is kept for long.
    ExpiredHeld,
    /// What the machine holds is what it reported for persistence.
    CustodyReported,
    /// The table is what the machine reported for persistence.
    PeersReported,
    /// Only items that were signed here are shown.
    Forged,
    /// Nothing expired is shown.
    ExpiredShown,
    /// Only what answers the question is shown.
    WrongMatch,
    /// Nothing is shown twice.
    ShownTwice,
    /// A node that can join joins.
    Joins,
    /// A publication is accepted.
    Publishes,
    /// A fault that was promised happened.
    FaultNeverFired,
    /// What the scenario demands of recall, cost and the like.
    Demand,
}

/// One violation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// When, in microseconds since the UNIX epoch.
    pub at: Time,
    /// At which node.
    pub node: Option<usize>,
    /// Of which rule.
    pub rule: Rule,
    /// What exactly.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.at, self.rule)?;
        if let Some(node) = self.node {
            write!(f, " node {node}")?;
        }
        write!(f, ": {:.400}", self.detail)
    }
}

/// All violations of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Violations {
    kept: Vec<Violation>,
    total: u64,
}

impl Violations {
    /// Adds one.
    pub fn add(&mut self, at: Time, node: Option<usize>, rule: Rule, detail: String) {
        self.total += 1;
        // Of many of one rule, the first few tell it all.
        let same = self.kept.iter().filter(|kept| kept.rule == rule).count();
        if self.kept.len() < VIOLATIONS_KEPT_MAX && same < VIOLATIONS_KEPT_MAX / 4 {
            self.kept.push(Violation { at, node, rule, detail });
        }
    }

    /// Those described, oldest first.
    #[must_use]
    pub fn kept(&self) -> &[Violation] {
        &self.kept
    }

    /// How many there were.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }
}
