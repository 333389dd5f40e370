//! Names of capabilities with at most one star.

use comity_capability::record::MAX_NAME;

/// A name, or a beginning and an end with anything between: `rates`, `fx.*`, `*.read`, `fx.*.read`, `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Glob {
    pub(super) prefix: String,
    /// What follows the star; none if there is no star.
    pub(super) suffix: Option<String>,
}

impl Glob {
    /// The glob in this text, if it is one.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let proper = |part: &str| {
            part.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_'))
        };
        let (prefix, suffix) = match text.split_once('*') {
            Some((prefix, suffix)) => (prefix, Some(suffix)),
            None => (text, None),
        };
        let length = prefix.len() + suffix.map_or(0, str::len);
        let fits =
            proper(prefix) && suffix.is_none_or(proper) && length <= MAX_NAME && !text.is_empty();
        fits.then(|| Self { prefix: prefix.to_owned(), suffix: suffix.map(str::to_owned) })
    }

    /// Whether the name is meant.
    pub(super) fn matches(&self, name: &str) -> bool {
        match &self.suffix {
            None => self.prefix == name,
            Some(suffix) => {
                name.len() >= self.prefix.len() + suffix.len()
                    && name.starts_with(&self.prefix)
                    && name.ends_with(suffix.as_str())
            }
        }
    }
}

impl std::fmt::Display for Glob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.suffix {
            None => f.write_str(&self.prefix),
            Some(suffix) => write!(f, "{}*{suffix}", self.prefix),
        }
    }
}
