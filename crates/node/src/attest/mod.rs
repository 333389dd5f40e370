//! Evidence: what this agent shows of itself, what others show it, what came of calls, and traces that it committed to.
//!
//! * [`Shelf`] keeps evidence about this agent and hands it to whoever may know of the capability that it is for, sealed for the session and the
//!   question ([`comity_trust::evidence::bind_asked`]).
//! * [`Node::evidence_of`](crate::Node) asks others and appraises with the verifiers of the policy in force, never on the network's thread.
//! * Callers present theirs unasked where the callee's hello says that its policy asks for it; what was shown counts in that session alone.
//! * [`Experiences`] counts calls and canaries and remembers quorums, the grounds of levels L2 and L4.

mod answering;
mod asking;
mod experience;
mod ops;
mod program;
mod shelf;
mod shown;
mod traces;
mod view;

pub use view::{InspectError, inspect_file};

pub(crate) use answering::Verifying;
pub(crate) use asking::{Looked, Presentations};
pub(crate) use experience::Experiences;
pub(crate) use program::Runner;
pub(crate) use shelf::Shelf;
pub(crate) use shown::ShownEvidence;
pub(crate) use traces::TraceBook;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use comity_core::{AgentId, Hash, Time};

use crate::access::AccessError;
use crate::storage::Storage;

/// Evidence in one list, and pieces of it that one question makes this node appraise.
pub(crate) const LISTED_MAX: usize = 16;
/// Pieces that this node asks one agent for, about one capability; and that one session may present.
pub(crate) const ASKED_MAX: usize = 4;
/// Pieces that are verified at once: each may take milliseconds, and there are calls to serve.
const VERIFIED_AT_ONCE: usize = 1;
/// The capability that stands for the agent as such.
pub(crate) const AGENT: &str = "*";
/// How long what an agent showed is taken as known before it is asked again.
const APPRAISED_AGE_MAX: std::time::Duration = std::time::Duration::from_secs(600);
/// Agents and capabilities of which it is known.
const APPRAISED_MAX: usize = 1024;

/// What one agent showed for one capability, under the policy of this hash.
type Appraised = BTreeMap<(AgentId, String), (Time, Hash, Arc<Looked>)>;

/// All of it; one per node.
#[derive(Debug)]
pub(crate) struct Attest {
    pub(crate) shelf: Shelf,
    pub(crate) runner: Runner,
    pub(crate) verifying: Verifying,
    pub(crate) experiences: Experiences,
    pub(crate) traces: TraceBook,
    pub(crate) presentations: Mutex<Presentations>,
    appraised: Mutex<Appraised>,
}

impl Attest {
    pub(crate) fn open(storage: &Storage, now: Time) -> Result<Self, AccessError> {
        Ok(Self {
            shelf: Shelf::open(storage)?,
            runner: Runner::default(),
            verifying: Verifying::default(),
            experiences: Experiences::open(storage, now)?,
            traces: TraceBook::open(storage)?,
            presentations: Mutex::default(),
            appraised: Mutex::default(),
        })
    }
}
