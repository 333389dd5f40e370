//! What a capability says about its answers, in the form that the rest of this crate decides by.

use std::time::Duration;

use comity_capability::record::{Capability, Determinism, Reuse, Scope};
use comity_core::receipt::Receipt;
use comity_core::{Hash, Sha256Digest, Time};

/// Longest time to live that a holder honours. A producer that errs, or whose key is stolen, is forgotten after it.
pub const TTL_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// The declaration of one capability as far as its answers are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Hash of the declaration; every receipt names it.
    pub descriptor: Hash,
    /// Its interface.
    pub interface: Sha256Digest,
    /// Its name.
    pub name: String,
    /// How long an answer may be reused, at most [`TTL_MAX`]; zero: not at all.
    pub ttl: Duration,
    /// Version of the data behind it, if it tells.
    pub data_version: Option<String>,
    /// How answers are shared and compared.
    pub reuse: Reuse,
}

impl Terms {
    /// What `capability` declares. One that says nothing about reuse keeps its answers with who asked and compares none.
    #[must_use]
    pub fn of(capability: &Capability) -> Self {
        Self {
            descriptor: capability.hash(),
            interface: capability.interface.digest(),
            name: capability.name.clone(),
            ttl: Duration::from_micros(capability.valid_for.micros()).min(TTL_MAX),
            data_version: Some(capability.data_version.clone()).filter(|text| !text.is_empty()),
            reuse: capability.reuse.clone().unwrap_or_default(),
        }
    }

    /// What a receipt says of its capability, for an answer that was accepted before and is read again: it is good for as long as its receipt says.
    #[must_use]
    pub fn of_receipt(receipt: &Receipt) -> Self {
        Self {
            descriptor: receipt.capability,
            interface: receipt.interface,
            name: receipt.name.to_string(),
            ttl: TTL_MAX,
            data_version: receipt.data_version.as_ref().map(ToString::to_string),
            reuse: Reuse::default(),
        }
    }

    /// Whether who asked may keep an answer for its own later questions.
    #[must_use]
    pub fn is_keepable(&self) -> bool {
        !self.ttl.is_zero() || self.reuse.closed_until_ms.is_some()
    }

    /// Whether answers may be handed to others at all.
    #[must_use]
    pub fn is_shareable(&self) -> bool {
        self.is_keepable()
            && self.reuse.scope > Scope::Asker
            && self.reuse.determinism > Determinism::Free
    }

    /// Until when the producer stands by an answer given at `now`, which goes into its receipt. `latest` is the latest time that the request
    /// is about, if it can be told : what is about a closed time does not grow stale.
    #[must_use]
    pub fn valid_until(&self, now: Time, latest: Option<Time>) -> Time {
        let closed = self.reuse.closed_until_ms.map(Time::from_millis);
        let about_the_past = closed.zip(latest).is_some_and(|(closed, latest)| latest <= closed);
        now + if about_the_past { TTL_MAX } else { self.ttl }
    }
}
