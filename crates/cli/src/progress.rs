//! A sign of life for what takes longer than a second, when somebody watches.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::Output;

/// Nothing is shown for what is done by then.
const PATIENCE: Duration = Duration::from_secs(1);

const TICK: Duration = Duration::from_millis(100);

/// Awaits `work`, with a spinner on the terminal once it takes longer than a second.
pub(crate) async fn during<T>(out: &Output, message: &str, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    if !out.watched {
        return work.await;
    }
    if let Ok(done) = tokio::time::timeout(PATIENCE, work.as_mut()).await {
        return done;
    }
    let spinner = spinner(message);
    let done = work.await;
    spinner.finish_and_clear();
    done
}

/// A running spinner on standard error.
pub(crate) fn spinner(message: &str) -> ProgressBar {
    let spinner = ProgressBar::new_spinner().with_message(message.to_owned());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(TICK);
    spinner
}
