//! One call to a specialist: what goes in, what comes out, and the clock around it.

use std::future::Future;
use std::time::Duration;

use comity_core::AgentId;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::SpecialistError;

/// Something that answers calls.
///
/// Implementations stop working when `call.cancel` fires or the deadline passes, whichever comes first, and so do the
/// streams they return. Dropping the future or the stream has the same effect as cancelling.
pub trait Specialist: Send + Sync + 'static {
    /// Answers one call.
    ///
    /// # Errors
    /// Every failure is a named [`SpecialistError`]; a failed call leaves other calls untouched.
    fn call(&self, call: Invocation) -> BoxFuture<'_, Result<Answer, SpecialistError>>;

    /// Ends what runs outside of calls, such as a program, and waits until it is gone; calls fail from then on.
    /// Does nothing unless there is such a thing.
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// One call as it reaches the specialist; its signature and permission are already checked.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// Name of the capability called; one specialist may serve several.
    pub capability: String,
    /// The request, a JSON value that fits the capability's input schema.
    pub request: Value,
    /// Who asks.
    pub caller: AgentId,
    /// Time left for the whole answer, counted from the moment `call` is entered; `None` leaves the specialist's own limit.
    pub deadline: Option<Duration>,
    /// Fires when the caller has gone or withdrawn the call.
    pub cancel: CancellationToken,
}

impl Invocation {
    /// The moment this call must be over: the caller's deadline, but never more than `limit` from now.
    #[must_use]
    pub fn ends(&self, limit: Duration) -> Ends {
        let after = self.deadline.map_or(limit, |deadline| deadline.min(limit));
        Ends { at: Instant::now() + after, after, cancel: self.cancel.clone() }
    }
}

/// An answer: one JSON value, or several one after the other.
pub enum Answer {
    /// The whole answer.
    One(Value),
    /// The parts of a large answer in order; an error ends the stream and makes the whole answer void.
    Stream(BoxStream<'static, Result<Value, SpecialistError>>),
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::One(value) => f.debug_tuple("One").field(value).finish(),
            Self::Stream(_) => f.write_str("Stream(..)"),
        }
    }
}

/// When a call is over, by the clock or by its caller.
#[derive(Debug, Clone)]
pub struct Ends {
    at: Instant,
    after: Duration,
    cancel: CancellationToken,
}

impl Ends {
    /// Runs `work` until it is done or the call is over.
    ///
    /// # Errors
    /// [`SpecialistError::Cancelled`] or [`SpecialistError::Timeout`] when the call ended first; `work` is dropped then.
    pub async fn bound<T>(&self, work: impl Future<Output = T>) -> Result<T, SpecialistError> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(SpecialistError::Cancelled),
            done = work => Ok(done),
            () = tokio::time::sleep_until(self.at) => Err(self.timeout()),
        }
    }

    /// The error when the call is already over.
    #[must_use]
    pub fn over(&self) -> Option<SpecialistError> {
        if self.cancel.is_cancelled() {
            Some(SpecialistError::Cancelled)
        } else if Instant::now() >= self.at {
            Some(self.timeout())
        } else {
            None
        }
    }

    /// The moment the call must be over.
    #[must_use]
    pub fn at(&self) -> Instant {
        self.at
    }

    fn timeout(&self) -> SpecialistError {
        SpecialistError::Timeout { after: self.after }
    }
}
