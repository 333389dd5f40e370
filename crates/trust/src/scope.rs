//! Which capabilities a statement is about.

use std::fmt;
use std::str::FromStr;

use comity_capability::record::MAX_NAME;
use comity_core::{Hash, HashTextError, Sha256Digest};

/// Longest pattern, in bytes: a name and the star.
pub const MAX_PATTERN: usize = MAX_NAME + 1;

/// A capability's name, or the beginning of some with a star behind it: `rates`, `fx.*`, `*`.
///
/// The star stands at the end alone, so that of two patterns one covers the other or they have nothing in common that a third could widen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern(String);

/// Why a text is no pattern or scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// Not a name with at most one star at its end.
    #[error(
        "`{text}` does not say which capabilities: write a name of 1 to {MAX_NAME} of the characters a-z 0-9 - . _, or the beginning of one and * behind it"
    )]
    Pattern {
        /// The text, shortened.
        text: String,
    },
    /// What follows `@` is no hash.
    #[error(
        "what follows @ in `{text}` pins a descriptor (b3: and 64 hex digits) or an interface (sha256: and 64 hex digits)"
    )]
    Pin {
        /// The text, shortened.
        text: String,
        /// What is wrong with it.
        source: HashTextError,
    },
}

fn shortened(text: &str) -> String {
    text.chars().take(MAX_PATTERN).collect()
}

impl Pattern {
    /// Every capability.
    #[must_use]
    pub fn any() -> Self {
        Self("*".to_owned())
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the star, if there is one.
    #[must_use]
    pub fn prefix(&self) -> Option<&str> {
        self.0.strip_suffix('*')
    }

    /// Whether the capability of this name is meant.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.prefix().map_or(self.0 == name, |prefix| name.starts_with(prefix))
    }

    /// Whether every name that `other` means is meant.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self.prefix(), other.prefix()) {
            (Some(mine), Some(theirs)) => theirs.starts_with(mine),
            (Some(_), None) => self.matches(&other.0),
            (None, Some(_)) => false,
            (None, None) => self == other,
        }
    }
}

impl FromStr for Pattern {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let name = text.strip_suffix('*').unwrap_or(text);
        let fits = !text.is_empty()
            && name.len() <= MAX_NAME
            && name
                .bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_'));
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(ScopeError::Pattern { text: shortened(text) })
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<C> minicbor::Encode<C> for Pattern {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.str(&self.0)?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Pattern {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let at = d.position();
        d.str()?.parse().map_err(|error| minicbor::decode::Error::custom(error).at(at))
    }
}

/// A capability as a call names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// Its name within the callee.
    pub name: &'a str,
    /// Hash of its descriptor: the whole declaration.
    pub descriptor: Hash,
    /// Digest of its interface: the two schemas.
    pub interface: Sha256Digest,
}

/// Capabilities by name, and whether they may change.
///
/// An approval that pins what it approves ends when that changes, so that nobody is talked into approving one thing and then calls another
/// (TRUST.md, T11). Text form: `rates`, `fx.*`, `rates@b3:…`, `rates@sha256:…`, `rates@b3:…@sha256:…`.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, minicbor::Encode, minicbor::Decode,
)]
#[cbor(map)]
pub struct Scope {
    /// Which names.
    #[n(0)]
    pub pattern: Pattern,
    /// Only while the descriptor has this hash.
    #[n(1)]
    pub descriptor: Option<Hash>,
    /// Only while the interface has this digest.
    #[n(2)]
    pub interface: Option<Sha256Digest>,
}

/// How a scope and a capability stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fit {
    /// Another name.
    No,
    /// The name fits, and the interface is not the pinned one.
    InterfaceChanged,
    /// The name fits, and the descriptor is not the pinned one.
    DescriptorChanged,
    /// It is meant.
    Yes,
}

impl Scope {
    /// Every capability, whatever becomes of it.
    #[must_use]
    pub fn any() -> Self {
        Self { pattern: Pattern::any(), descriptor: None, interface: None }
    }

    /// Whether `target` is meant, and if not, how nearly.
    #[must_use]
    pub fn fit(&self, target: &Target<'_>) -> Fit {
        if !self.pattern.matches(target.name) {
            Fit::No
        } else if self.interface.is_some_and(|pinned| pinned != target.interface) {
            Fit::InterfaceChanged
        } else if self.descriptor.is_some_and(|pinned| pinned != target.descriptor) {
            Fit::DescriptorChanged
        } else {
            Fit::Yes
        }
    }

    /// Whether every capability that `other` means is meant.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.pattern.covers(&other.pattern)
            && (self.descriptor.is_none() || self.descriptor == other.descriptor)
            && (self.interface.is_none() || self.interface == other.interface)
    }

    /// The best fit of any of `scopes`.
    pub(crate) fn best_fit<'s>(
        scopes: impl IntoIterator<Item = &'s Self>,
        target: &Target<'_>,
    ) -> Fit {
        let mut best = Fit::No;
        for scope in scopes {
            best = best.max(scope.fit(target));
            if best == Fit::Yes {
                break;
            }
        }
        best
    }
}

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let mut parts = text.split('@');
        let pattern = parts.next().unwrap_or_default().parse()?;
        let mut scope = Self { pattern, descriptor: None, interface: None };
        for pin in parts {
            let wrong = |source| ScopeError::Pin { text: shortened(text), source };
            if pin.starts_with("sha256:") && scope.interface.is_none() {
                scope.interface = Some(pin.parse().map_err(wrong)?);
            } else if scope.descriptor.is_none() {
                scope.descriptor = Some(pin.parse().map_err(wrong)?);
            } else {
                return Err(ScopeError::Pattern { text: shortened(text) });
            }
        }
        Ok(scope)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.pattern)?;
        if let Some(descriptor) = self.descriptor {
            write!(f, "@{descriptor}")?;
        }
        if let Some(interface) = self.interface {
            write!(f, "@{interface}")?;
        }
        Ok(())
    }
}

macro_rules! serde_as_text {
    ($($name:ident),+) => {
        $(
            impl serde::Serialize for $name {
                fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    serializer.collect_str(self)
                }
            }

            impl<'de> serde::Deserialize<'de> for $name {
                fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
                    text.parse().map_err(serde::de::Error::custom)
                }
            }
        )+
    };
}
serde_as_text!(Pattern, Scope);
