//! Signed notes: a text and lines with signatures of it.
//!
//! ```text
//! text, ends with a newline
//! (empty line)
//! — name base64(key id ‖ signature)
//! ```
//!
//! The key id is the first four bytes of SHA-256(name ‖ 0A ‖ type ‖ public key). Source: C2SP signed-note.

use comity_core::{AgentId, Sha256Digest};
use data_encoding::BASE64;

/// Longest note, in bytes.
pub const MAX_NOTE_LEN: usize = 8 * 1024;
/// Most signatures on a note.
pub const MAX_NOTE_SIGNATURES: usize = 24;
/// Longest signature in a note, in bytes (post-quantum ones are longer than any accepted here).
const MAX_SIGNATURE_LEN: usize = 128;

/// Why bytes are no note.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Longer than [`MAX_NOTE_LEN`].
    #[error("a note of {length} bytes where at most {MAX_NOTE_LEN} are accepted")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// Not text, or with control characters.
    #[error("a note is UTF-8 without control characters but the newline")]
    Text,
    /// Not a text, an empty line and signature lines.
    #[error("a note is a text, an empty line and signature lines: {what}")]
    Form {
        /// What is wrong.
        what: &'static str,
    },
    /// More than [`MAX_NOTE_SIGNATURES`].
    #[error("a note with more than {MAX_NOTE_SIGNATURES} signatures")]
    TooMany,
}

/// One signature of a note; not verified.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NoteSignature {
    /// Name of the key.
    pub name: String,
    /// Its id: which of the keys of that name.
    pub key_id: [u8; 4],
    /// The signature, in the form of its type.
    pub bytes: Vec<u8>,
}

/// A text with signatures; none of them verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What is signed. Ends with a newline.
    pub text: String,
    /// The signatures, in the order of their lines.
    pub signatures: Vec<NoteSignature>,
}

/// The id of a key.
pub(super) fn key_id(name: &str, kind: u8, agent: &AgentId) -> [u8; 4] {
    let digest = Sha256Digest::of(&[name.as_bytes(), b"\n", &[kind], agent.as_bytes()].concat());
    let [a, b, c, d, ..] = digest.0;
    [a, b, c, d]
}

impl Note {
    /// Reads a note.
    ///
    /// # Errors
    /// [`NoteError`] names what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > MAX_NOTE_LEN {
            return Err(NoteError::TooLong { length: bytes.len() });
        }
        let note = std::str::from_utf8(bytes).map_err(|_| NoteError::Text)?;
        if note.chars().any(|c| c != '\n' && c.is_control()) {
            return Err(NoteError::Text);
        }
        let form = |what| NoteError::Form { what };
        // The signatures are what follows the last empty line: a text may hold empty lines itself.
        let split = note.rfind("\n\n").ok_or_else(|| form("there is no empty line"))?;
        let (text, lines) = (&note[..=split], &note[split + 2..]);
        let lines = lines.strip_suffix('\n').ok_or_else(|| form("the last line has no end"))?;
        let mut signatures = Vec::new();
        for line in lines.split('\n') {
            if signatures.len() == MAX_NOTE_SIGNATURES {
                return Err(NoteError::TooMany);
            }
            signatures.push(NoteSignature::parse(line)?);
        }
        Ok(Self { text: text.to_owned(), signatures })
    }
}

impl NoteSignature {
    fn parse(line: &str) -> Result<Self, NoteError> {
        let form = |what| NoteError::Form { what };
        let rest =
            line.strip_prefix("— ").ok_or_else(|| form("a signature line begins with `— `"))?;
        let (name, text) =
            rest.split_once(' ').ok_or_else(|| form("a signature line has a name and base64"))?;
        if name.is_empty() || name.contains('+') || name.contains(char::is_whitespace) {
            return Err(form("the name of a key has no white space and no `+`"));
        }
        // Refuses what is not the one spelling of its bytes: padding and trailing bits included.
        let bytes =
            BASE64.decode(text.as_bytes()).map_err(|_| form("a signature is not base64"))?;
        let (key_id, signature) =
            bytes.split_first_chunk::<4>().ok_or_else(|| form("a signature has no key id"))?;
        if signature.is_empty() || signature.len() > MAX_SIGNATURE_LEN {
            return Err(form("a signature of this length is of no known kind"));
        }
        Ok(Self { name: name.to_owned(), key_id: *key_id, bytes: signature.to_vec() })
    }
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| signature.fmt(f))
    }
}

impl std::fmt::Display for NoteSignature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = [&self.key_id[..], &self.bytes].concat();
        writeln!(f, "— {} {}", self.name, BASE64.encode(&bytes))
    }
}
