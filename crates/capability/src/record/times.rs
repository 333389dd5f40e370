//! When a signed object is valid.

use std::time::Duration;

use comity_core::Time;

/// Most a record, digest, tombstone or peer record lives.
pub const DIGEST_LIFE: Duration = Duration::from_secs(26 * 3600);
/// Most a beat lives.
pub const BEAT_LIFE: Duration = Duration::from_secs(9000);
/// How far two clocks may differ.
pub const CLOCK_SKEW: Duration = Duration::from_secs(120);

/// Why an object is not valid now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TimesError {
    /// It ends before it begins, or at once.
    #[error("it expires at {expires} and is issued at {issued}: it is never valid")]
    Never {
        /// When it begins.
        issued: Time,
        /// When it ends.
        expires: Time,
    },
    /// It lives longer than its kind may.
    #[error(
        "it lives from {issued} to {expires}, longer than the {limit_s} s its kind may; issue it for less"
    )]
    TooLongLived {
        /// When it begins.
        issued: Time,
        /// When it ends.
        expires: Time,
        /// The limit in seconds.
        limit_s: u64,
    },
    /// It is from the future.
    #[error(
        "it is issued at {issued} and here it is {now}: check both clocks (they may differ by 120 s)"
    )]
    NotYet {
        /// When it begins.
        issued: Time,
        /// The time here.
        now: Time,
    },
    /// It is over.
    #[error(
        "it expired at {expires} and here it is {now}; fetch a newer one, or check both clocks"
    )]
    Expired {
        /// When it ended.
        expires: Time,
        /// The time here.
        now: Time,
    },
}

/// Checks that an object issued and expiring at these times is valid at `now`, each end being stretched by
/// [`CLOCK_SKEW`]: valid while `issued - 120 s <= now < expires + 120 s`.
///
/// # Errors
/// [`TimesError`] says what is wrong.
pub fn check_times(
    issued: Time,
    expires: Time,
    now: Time,
    life: Duration,
) -> Result<(), TimesError> {
    if expires <= issued {
        return Err(TimesError::Never { issued, expires });
    }
    if expires.saturating_since(issued) > life {
        return Err(TimesError::TooLongLived { issued, expires, limit_s: life.as_secs() });
    }
    if issued.saturating_since(now) > CLOCK_SKEW {
        return Err(TimesError::NotYet { issued, now });
    }
    if now >= expires && now.saturating_since(expires) >= CLOCK_SKEW {
        return Err(TimesError::Expired { expires, now });
    }
    Ok(())
}
