//! Where an answer is taken from: the own store, peers that hold it, or the specialist. A pure decision that explains itself.

use std::fmt;
use std::time::Duration;

use crate::terms::Terms;

/// What the asker wants of the age and the origin of an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ask {
    /// Straight from a specialist, whatever is known already.
    pub fresh: bool,
    /// Not older than this, however long its producer stands by it.
    pub max_age: Option<Duration>,
    /// No specialist is asked: what is known already, or nothing.
    pub only_shared: bool,
    /// The question is nobody else's business: it is neither looked up among peers nor announced.
    pub private: bool,
}

/// Why an [`Ask`] makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// Fresh and only shared.
    #[error(
        "an answer cannot be both fresh and only from what is known already: drop --fresh or --only-shared"
    )]
    FreshAndShared,
}

/// A place to take an answer from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The own store.
    Local,
    /// Peers that hold the result.
    Holders,
    /// The specialist.
    Specialist,
}

/// What the own store has for the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Local {
    /// Nothing.
    Absent,
    /// An answer in its validity, of this age.
    Valid {
        /// Time since it was given.
        age: Duration,
    },
    /// One whose validity is over.
    Expired,
}

/// Why a source is asked or left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The asker wants it fresh.
    AskedFresh,
    /// The capability says nothing of its answers' validity.
    NotKeepable,
    /// The store has it, of this age.
    Held {
        /// Time since it was given.
        age: Duration,
    },
    /// The store has it, older than wanted.
    TooOld {
        /// Its age.
        age: Duration,
        /// The oldest wanted.
        max: Duration,
    },
    /// The store's copy has expired.
    Expired,
    /// The store has nothing.
    NotHeld,
    /// The capability's answers are not shared.
    NotShared,
    /// The asker called the question private.
    Private,
    /// Peers may hold it.
    Shared,
    /// The asker wants no specialist asked.
    OnlyShared,
    /// What is left.
    Otherwise,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AskedFresh => f.write_str("a fresh answer was asked for"),
            Self::NotKeepable => f.write_str("its answers are valid for no time at all"),
            Self::Held { age } => write!(f, "it is held here, {} s old", age.as_secs()),
            Self::TooOld { age, max } => {
                write!(
                    f,
                    "the copy held here is {} s old, over the {} s wanted",
                    age.as_secs(),
                    max.as_secs()
                )
            }
            Self::Expired => f.write_str("the copy held here has expired"),
            Self::NotHeld => f.write_str("nothing is held here"),
            Self::NotShared => f.write_str("its answers are not shared"),
            Self::Private => f.write_str("the question was asked as a private one"),
            Self::Shared => f.write_str("others may hold it"),
            Self::OnlyShared => f.write_str("only what is known already was asked for"),
            Self::Otherwise => f.write_str("it is asked when nobody holds the answer"),
        }
    }
}

/// One source of a [`Plan`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Which.
    pub source: Source,
    /// Whether it is used.
    pub used: bool,
    /// Why, or why not.
    pub reason: Reason,
}

/// The sources in the order they are tried, used or not, each with its reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Local, holders, specialist.
    pub steps: [Step; 3],
}

impl Plan {
    /// The sources to try, in this order.
    pub fn sources(&self) -> impl Iterator<Item = Source> + '_ {
        self.steps.iter().filter(|step| step.used).map(|step| step.source)
    }

    /// Whether the source is to be tried.
    #[must_use]
    pub fn uses(&self, source: Source) -> bool {
        self.sources().any(|used| used == source)
    }
}

impl Ask {
    /// Whether the wishes go together.
    ///
    /// # Errors
    /// [`AskError`].
    pub const fn check(&self) -> Result<(), AskError> {
        if self.fresh && self.only_shared { Err(AskError::FreshAndShared) } else { Ok(()) }
    }

    /// Where to look, given what the store has.
    ///
    /// # Errors
    /// [`AskError`] when the wishes contradict each other.
    pub fn plan(&self, terms: &Terms, local: Local) -> Result<Plan, AskError> {
        self.check()?;
        let (held, why_local) = self.local(terms, local);
        let (holders, why_holders) = self.holders(terms, held);
        let specialist = match (held, self.only_shared) {
            (true, _) => (false, why_local),
            (false, true) => (false, Reason::OnlyShared),
            (false, false) => {
                (true, if self.fresh { Reason::AskedFresh } else { Reason::Otherwise })
            }
        };
        let step = |source, (used, reason)| Step { source, used, reason };
        Ok(Plan {
            steps: [
                step(Source::Local, (held, why_local)),
                step(Source::Holders, (holders, why_holders)),
                step(Source::Specialist, specialist),
            ],
        })
    }

    fn local(&self, terms: &Terms, local: Local) -> (bool, Reason) {
        if self.fresh {
            return (false, Reason::AskedFresh);
        }
        if !terms.is_keepable() {
            return (false, Reason::NotKeepable);
        }
        match (local, self.max_age) {
            (Local::Absent, _) => (false, Reason::NotHeld),
            (Local::Expired, _) => (false, Reason::Expired),
            (Local::Valid { age }, Some(max)) if age > max => (false, Reason::TooOld { age, max }),
            (Local::Valid { age }, _) => (true, Reason::Held { age }),
        }
    }

    fn holders(&self, terms: &Terms, held: bool) -> (bool, Reason) {
        if held {
            return (false, Reason::Otherwise);
        }
        if self.fresh {
            return (false, Reason::AskedFresh);
        }
        if self.private {
            return (false, Reason::Private);
        }
        if !terms.is_shareable() {
            return (false, Reason::NotShared);
        }
        (true, Reason::Shared)
    }
}
