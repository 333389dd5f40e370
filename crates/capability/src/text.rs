//! What free text may contain: text is data shown to people and models that did not write it.

use unicode_normalization::{UnicodeNormalization, is_nfc};

/// Longest free text (`text`, each example), in bytes of UTF-8.
pub const MAX_FREE_TEXT: usize = 512;
/// Longest title, in bytes of UTF-8.
pub const MAX_TITLE: usize = 96;
/// Longest tag, in bytes of UTF-8.
pub const MAX_TAG: usize = 32;

/// Why a text was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// Too long.
    #[error("{what} has {len} bytes, the limit is {limit}; shorten it")]
    TooLong {
        /// Which text.
        what: &'static str,
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A control, bidirectional, zero-width or invisible tag character.
    #[error("{what} contains U+{character:04X}, which can hide or reorder text; remove it")]
    Forbidden {
        /// Which text.
        what: &'static str,
        /// The code point.
        character: u32,
    },
    /// Not in Unicode normalisation form C.
    #[error("{what} is not in Unicode normalisation form C; normalise it")]
    NotNormal {
        /// Which text.
        what: &'static str,
    },
}

/// Whether a character is refused in declarations: controls, bidirectional marks and overrides,
/// zero-width and other invisible characters, line separators, tag characters, private use.
///
/// Zero-width joiners are refused with the rest, at the price of some ligatures and emoji: they make
/// two names look alike.
pub(crate) fn forbidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{AD}' | '\u{34F}' | '\u{61C}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}'
            | '\u{180B}'..='\u{180F}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}' | '\u{3164}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}'
            | '\u{FFA0}' | '\u{FFF0}'..='\u{FFFB}' | '\u{E000}'..='\u{F8FF}'
            | '\u{E0000}'..='\u{E0FFF}' | '\u{F0000}'..='\u{10FFFF}')
}

/// The text as it may be declared: form C, refused characters removed, runs of white space one
/// space, cut at a character boundary to `limit` bytes. Cleaning twice changes nothing.
pub fn clean(text: &str, limit: usize) -> String {
    let spaced: String = text
        .chars()
        .map(|c| if c.is_whitespace() { ' ' } else { c })
        .filter(|c| !forbidden(*c))
        .nfc()
        .collect();
    let mut out = String::new();
    for word in spaced.split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
        if out.len() > limit {
            break;
        }
    }
    cut(&mut out, limit);
    out
}

/// The spelling that tags are compared in: the same for every mix of capitals (each character to its capital and back, so that
/// `ς` meets `σ`), single spaces, form C.
pub(crate) fn fold_tag(tag: &str) -> String {
    let folded: String =
        tag.nfc().flat_map(char::to_uppercase).flat_map(char::to_lowercase).nfc().collect();
    folded.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Cuts to at most `limit` bytes at a character boundary, without trailing space.
pub(crate) fn cut(text: &mut String, limit: usize) {
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit));
    }
    text.truncate(text.trim_end().len());
}

/// Checks a text that somebody else declared.
pub(crate) fn check(what: &'static str, text: &str, limit: usize) -> Result<(), TextError> {
    if text.len() > limit {
        return Err(TextError::TooLong { what, len: text.len(), limit });
    }
    if let Some(c) = text.chars().find(|c| forbidden(*c)) {
        return Err(TextError::Forbidden { what, character: u32::from(c) });
    }
    if !is_nfc(text) {
        return Err(TextError::NotNormal { what });
    }
    Ok(())
}
