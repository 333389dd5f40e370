//! Class identifiers and their text form.

use std::fmt;
use std::str::FromStr;

use crate::text;

/// Longest opaque label, in bytes of UTF-8.
pub const MAX_LABEL: usize = 64;

const OASF: &str = "oasf1.1";
const COMITY: &str = "comity1";

/// What a class is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClassKind {
    /// A field of knowledge or business.
    Domain,
    /// An ability.
    Skill,
    /// A part of an agent.
    Module,
}

impl ClassKind {
    /// The word in identifiers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Domain => "domain",
            Self::Skill => "skill",
            Self::Module => "module",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        [Self::Domain, Self::Skill, Self::Module].into_iter().find(|kind| kind.as_str() == word)
    }
}

/// A class identifier. `Display` and `FromStr` use `oasf1.1:domain/208`, `comity1:domain/10002`, or
/// the label itself for a class of neither family.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClassId {
    /// A class of OASF 1.1.
    Oasf(ClassKind, u32),
    /// An extension class of this crate.
    Comity(ClassKind, u32),
    /// A label whose meaning is agreed elsewhere: 1 to 64 bytes without white space or invisible
    /// characters. Compared byte by byte. Build one by parsing, which checks it.
    Opaque(String),
}

/// Why a label cannot be a class.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{label}` cannot be a class label: use 1 to {MAX_LABEL} bytes without spaces or invisible characters"
)]
pub struct ClassError {
    /// The label, shortened.
    pub label: String,
}

impl ClassId {
    /// What the class is about; `None` for an opaque label.
    pub fn kind(&self) -> Option<ClassKind> {
        match self {
            Self::Oasf(kind, _) | Self::Comity(kind, _) => Some(*kind),
            Self::Opaque(_) => None,
        }
    }

    /// The number that stands for the class on the wire: `uid * 8 + family * 4 + kind`.
    pub(crate) fn packed(&self) -> Option<u64> {
        let (family, kind, uid) = match self {
            Self::Oasf(kind, uid) => (0, kind, uid),
            Self::Comity(kind, uid) => (4, kind, uid),
            Self::Opaque(_) => return None,
        };
        let kind = match kind {
            ClassKind::Domain => 0,
            ClassKind::Skill => 1,
            ClassKind::Module => 2,
        };
        Some(u64::from(*uid) * 8 + family + kind)
    }

    pub(crate) fn from_packed(packed: u64) -> Option<Self> {
        let uid = u32::try_from(packed / 8).ok()?;
        let kind = match packed % 4 {
            0 => ClassKind::Domain,
            1 => ClassKind::Skill,
            2 => ClassKind::Module,
            _ => return None,
        };
        Some(if packed % 8 >= 4 { Self::Comity(kind, uid) } else { Self::Oasf(kind, uid) })
    }
}

impl fmt::Display for ClassId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Oasf(kind, uid) => write!(f, "{OASF}:{}/{uid}", kind.as_str()),
            Self::Comity(kind, uid) => write!(f, "{COMITY}:{}/{uid}", kind.as_str()),
            Self::Opaque(label) => f.write_str(label),
        }
    }
}

impl FromStr for ClassId {
    type Err = ClassError;

    fn from_str(text: &str) -> Result<Self, ClassError> {
        if let Some(id) = numbered(text) {
            return Ok(id);
        }
        let fits = (1..=MAX_LABEL).contains(&text.len())
            && !text.contains(char::is_whitespace)
            && text::check("label", text, MAX_LABEL).is_ok();
        if fits {
            return Ok(Self::Opaque(text.to_owned()));
        }
        Err(ClassError { label: text.chars().take(80).collect() })
    }
}

/// Reads the numbered families in their one spelling (no leading zeros or signs).
fn numbered(text: &str) -> Option<ClassId> {
    let (family, rest) = text.split_once(':')?;
    let (kind, number) = rest.split_once('/')?;
    let kind = ClassKind::from_word(kind)?;
    let uid: u32 = number.parse().ok().filter(|uid: &u32| uid.to_string() == number)?;
    match family {
        OASF => Some(ClassId::Oasf(kind, uid)),
        COMITY => Some(ClassId::Comity(kind, uid)),
        _ => None,
    }
}

impl serde::Serialize for ClassId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for ClassId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
