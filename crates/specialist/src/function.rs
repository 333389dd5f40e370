//! A closure as a specialist, for programs that embed a node.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::call::{Answer, Invocation, Specialist};
use crate::error::{SpecialistError, printable};

/// Longest a function may take when nothing else is configured.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// An async closure that answers calls.
///
/// The closure's future is dropped when the call is cancelled or its time is over. A panic inside it becomes
/// [`SpecialistError::Crashed`] and touches no other call.
///
/// ```
/// use comity_specialist::{Answer, function::Function};
/// let greeter = Function::new(|call| async move {
///     let name = call.request["name"].as_str().unwrap_or("you").to_owned();
///     Ok(Answer::One(serde_json::json!({ "greeting": format!("hello, {name}") })))
/// });
/// # let _ = greeter;
/// ```
pub struct Function<F> {
    run: F,
    timeout: Duration,
}

impl<F, Fut> Function<F>
where
    F: Fn(Invocation) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Answer, SpecialistError>> + Send + 'static,
{
    /// A specialist that runs `run` for each call, with the [`DEFAULT_TIMEOUT`].
    pub fn new(run: F) -> Self {
        Self { run, timeout: DEFAULT_TIMEOUT }
    }

    /// The same with another limit on how long the first part of an answer may take.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }
}

impl<F> std::fmt::Debug for Function<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Function").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl<F, Fut> Specialist for Function<F>
where
    F: Fn(Invocation) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Answer, SpecialistError>> + Send + 'static,
{
    fn call(&self, call: Invocation) -> BoxFuture<'_, Result<Answer, SpecialistError>> {
        let ends = call.ends(self.timeout);
        // The closure itself may panic before it returns a future, so it runs inside the guarded one.
        let work = AssertUnwindSafe(async { (self.run)(call).await }).catch_unwind();
        Box::pin(async move {
            match ends.bound(work).await? {
                Ok(answer) => answer,
                Err(panic) => Err(SpecialistError::Crashed {
                    what: format!("panic: {}", panic_text(panic.as_ref())),
                }),
            }
        })
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    printable(text.unwrap_or("no message"), 200)
}
