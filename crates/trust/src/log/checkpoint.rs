//! Checkpoints: a log's signed statement of its size and root, and what witnesses sign below it.
//!
//! The text of the note is `comity/log/KEY`, the size and the root in base64, a line each. The log signs it with its agent's key (note
//! type 01); a witness cosigns `cosignature/v1`, a time and the text (type 04). Both are text and so never an envelope of comity's, which
//! signs bytes that begin with 84 (T32).
//!
//! Source: C2SP tlog-checkpoint and tlog-cosignature.

use comity_core::{AgentId, Identity, Sha256Digest, Time};
use data_encoding::BASE64;

use super::note::{Note, NoteError, NoteSignature, key_id};
use super::tree::MAX_SIZE;

/// First part of a log's name; its key in z-base-32 follows.
pub const ORIGIN_PREFIX: &str = "comity/log/";
/// First part of a witness's name; its key in z-base-32 follows.
pub const WITNESS_PREFIX: &str = "comity/witness/";
/// Most cosignatures kept on a checkpoint.
pub const MAX_COSIGNATURES: usize = 16;

const TYPE_ED25519: u8 = 0x01;
const TYPE_COSIGNATURE: u8 = 0x04;

/// Why a checkpoint is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Not a signed note.
    #[error("the checkpoint is not a signed note")]
    Note(#[source] NoteError),
    /// A signed note, but not of a comity log.
    #[error("the note is not a checkpoint of a comity log: {what}")]
    Form {
        /// What is wrong.
        what: &'static str,
    },
    /// It is of another log than expected.
    #[error("the checkpoint is of the log of {found}, not of {expected}")]
    OtherLog {
        /// Whose was expected.
        expected: AgentId,
        /// Whose it says it is.
        found: String,
    },
    /// The log did not sign it.
    #[error("the checkpoint is not signed by its log: somebody changed it or made it up")]
    Signature,
    /// The key that signs is not the log's.
    #[error("only {log} signs checkpoints of its log, and the key at hand is another")]
    NotOurs {
        /// Whose log.
        log: AgentId,
    },
    /// A cosignature does not hold.
    #[error("the cosignature of {witness} does not hold for this checkpoint")]
    Cosignature {
        /// The witness it names.
        witness: String,
    },
    /// Already [`MAX_COSIGNATURES`].
    #[error("the checkpoint has {MAX_COSIGNATURES} cosignatures already, which is enough")]
    Full,
}

/// The state of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Whose log.
    pub log: AgentId,
    /// Number of entries.
    pub size: u64,
    /// Root over them.
    pub root: Sha256Digest,
}

impl Checkpoint {
    /// The name of a log.
    #[must_use]
    pub fn origin(log: &AgentId) -> String {
        format!("{ORIGIN_PREFIX}{log}")
    }

    /// The signed text.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", Self::origin(&self.log), self.size, BASE64.encode(&self.root.0))
    }

    /// Reads the text; `known` spares the intake of a key that passed it.
    fn parse(text: &str, known: Option<&AgentId>) -> Result<Self, CheckpointError> {
        let form = |what| CheckpointError::Form { what };
        let mut lines = text.lines();
        let (Some(origin), Some(size), Some(root), None) =
            (lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err(form("it does not have the three lines origin, size and root"));
        };
        let key = origin.strip_prefix(ORIGIN_PREFIX).ok_or_else(|| form("another origin"))?;
        let log = agent(key, known).ok_or_else(|| form("its origin names no key"))?;
        let size = size.parse().ok().filter(|&size: &u64| size <= MAX_SIZE);
        let size = size.ok_or_else(|| form("its size is none"))?;
        let root = BASE64.decode(root.as_bytes()).ok().and_then(|root| root.try_into().ok());
        let root = Sha256Digest(root.ok_or_else(|| form("its root is none"))?);
        let parsed = Self { log, size, root };
        // Whatever can be spelled a second way could be signed a second time.
        if parsed.text() == text { Ok(parsed) } else { Err(form("it is not in canonical form")) }
    }
}

/// The agent that a name spells in z-base-32, and in no other form.
fn agent(key: &str, known: Option<&AgentId>) -> Option<AgentId> {
    let bytes = comity_core::text::zbase32_decode(key).ok()?;
    match known {
        Some(known) if *known.as_bytes() == bytes => Some(*known),
        Some(_) | None => AgentId::from_bytes(&bytes).ok(),
    }
}

/// A checkpoint with its log's signature, which holds, and cosignatures, which may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCheckpoint {
    checkpoint: Checkpoint,
    signature: [u8; 64],
    /// Lines that name a witness, unverified, in the order of their names.
    cosignatures: Vec<NoteSignature>,
}

/// A witness's statement that it has seen the log grow consistently up to this checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cosignature {
    /// Who signed.
    pub witness: AgentId,
    /// When, by the witness's clock; whole seconds.
    pub at: Time,
}

impl SignedCheckpoint {
    /// Signs the state of an agent's own log.
    ///
    /// # Errors
    /// [`CheckpointError::NotOurs`] for the log of another.
    pub fn sign(checkpoint: Checkpoint, identity: &Identity) -> Result<Self, CheckpointError> {
        if checkpoint.log != identity.id() {
            return Err(CheckpointError::NotOurs { log: checkpoint.log });
        }
        let signature = identity.sign(checkpoint.text().as_bytes());
        Ok(Self { checkpoint, signature, cosignatures: Vec::new() })
    }

    /// Reads a note and checks the log's own signature. Cosignatures are checked when asked for, against witnesses that the caller
    /// knows: what strangers add costs nothing.
    ///
    /// # Errors
    /// [`CheckpointError`] names what is wrong.
    pub fn open(note: &[u8]) -> Result<Self, CheckpointError> {
        Self::open_parsed(&Note::parse(note).map_err(CheckpointError::Note)?, None)
    }

    /// As [`open`](Self::open), of the log of `log` alone; its key passed intake and is not checked again.
    ///
    /// # Errors
    /// [`CheckpointError`] names what is wrong.
    pub fn open_of(note: &[u8], log: &AgentId) -> Result<Self, CheckpointError> {
        let note = Note::parse(note).map_err(CheckpointError::Note)?;
        let opened = Self::open_parsed(&note, Some(log))?;
        if opened.checkpoint.log == *log {
            return Ok(opened);
        }
        Err(CheckpointError::OtherLog { expected: *log, found: opened.checkpoint.log.to_string() })
    }

    fn open_parsed(note: &Note, known: Option<&AgentId>) -> Result<Self, CheckpointError> {
        let checkpoint = Checkpoint::parse(&note.text, known)?;
        let name = Checkpoint::origin(&checkpoint.log);
        let id = key_id(&name, TYPE_ED25519, &checkpoint.log);
        let own = note.signatures.iter().find(|one| one.name == name && one.key_id == id);
        let signature = own.and_then(|one| <[u8; 64]>::try_from(&one.bytes[..]).ok());
        let signature = signature.ok_or(CheckpointError::Signature)?;
        checkpoint
            .log
            .verify(note.text.as_bytes(), &signature)
            .map_err(|_| CheckpointError::Signature)?;
        let mut opened = Self { checkpoint, signature, cosignatures: Vec::new() };
        for signature in &note.signatures {
            if signature.name.starts_with(WITNESS_PREFIX) {
                // More of them than are kept, or one a second time: the first ones do.
                let _full = opened.insert(signature.clone());
            }
        }
        Ok(opened)
    }

    /// The state that is signed.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The note: one text for one set of signatures.
    #[must_use]
    pub fn note(&self) -> Note {
        let name = Checkpoint::origin(&self.checkpoint.log);
        let own = NoteSignature {
            key_id: key_id(&name, TYPE_ED25519, &self.checkpoint.log),
            name,
            bytes: self.signature.to_vec(),
        };
        let signatures = std::iter::once(own).chain(self.cosignatures.iter().cloned()).collect();
        Note { text: self.checkpoint.text(), signatures }
    }

    /// The checkpoint with the log's signature alone.
    #[must_use]
    pub fn bare(&self) -> Self {
        Self { cosignatures: Vec::new(), ..self.clone() }
    }

    /// How many lines claim to be cosignatures.
    #[must_use]
    pub fn claimed_cosignatures(&self) -> usize {
        self.cosignatures.len()
    }

    /// The cosignatures of `witnesses` that hold.
    #[must_use]
    pub fn cosigned_by(&self, witnesses: &[AgentId]) -> Vec<Cosignature> {
        witnesses
            .iter()
            .filter_map(|witness| {
                let name = witness_name(witness);
                let found = self.cosignatures.iter().find(|one| one.name == name)?;
                self.check(witness, found).ok()
            })
            .collect()
    }

    /// Everybody whose cosignature holds: at most [`MAX_COSIGNATURES`] signatures to check, for tools that show a note.
    #[must_use]
    pub fn cosigners(&self) -> Vec<Cosignature> {
        let witness = |one: &NoteSignature| agent(one.name.strip_prefix(WITNESS_PREFIX)?, None);
        self.cosignatures.iter().filter_map(|one| self.check(&witness(one)?, one).ok()).collect()
    }

    /// Cosigns as a witness that checked the log's history, at `at`.
    #[must_use]
    pub fn cosign(&self, witness: &Identity, at: Time) -> NoteSignature {
        let (name, seconds) = (witness_name(&witness.id()), at.as_secs());
        let signature = witness.sign(cosigned_text(&self.checkpoint, seconds).as_bytes());
        NoteSignature {
            key_id: key_id(&name, TYPE_COSIGNATURE, &witness.id()),
            name,
            bytes: [&seconds.to_be_bytes()[..], &signature].concat(),
        }
    }

    /// Adds the cosignature of `witness`, in place of an older one of its.
    ///
    /// # Errors
    /// [`CheckpointError`] when it does not hold or there are too many.
    pub fn add(
        &mut self,
        witness: &AgentId,
        signature: NoteSignature,
    ) -> Result<Cosignature, CheckpointError> {
        let cosignature = self.check(witness, &signature)?;
        self.cosignatures.retain(|one| one.name != signature.name);
        self.insert(signature)?;
        Ok(cosignature)
    }

    fn insert(&mut self, signature: NoteSignature) -> Result<(), CheckpointError> {
        match self.cosignatures.binary_search_by(|one| one.name.cmp(&signature.name)) {
            Ok(_) => Ok(()),
            Err(_) if self.cosignatures.len() >= MAX_COSIGNATURES => Err(CheckpointError::Full),
            Err(at) => {
                self.cosignatures.insert(at, signature);
                Ok(())
            }
        }
    }

    fn check(
        &self,
        witness: &AgentId,
        signature: &NoteSignature,
    ) -> Result<Cosignature, CheckpointError> {
        let refused = || CheckpointError::Cosignature { witness: signature.name.clone() };
        let name = witness_name(witness);
        if signature.name != name || signature.key_id != key_id(&name, TYPE_COSIGNATURE, witness) {
            return Err(refused());
        }
        let (seconds, rest) = signature.bytes.split_first_chunk::<8>().ok_or_else(refused)?;
        let bytes = <[u8; 64]>::try_from(rest).map_err(|_| refused())?;
        let seconds = u64::from_be_bytes(*seconds);
        let text = cosigned_text(&self.checkpoint, seconds);
        witness.verify(text.as_bytes(), &bytes).map_err(|_| refused())?;
        Ok(Cosignature { witness: *witness, at: Time::from_secs(seconds) })
    }
}

impl NoteSignature {
    /// One signature line, as peers send their cosignatures.
    ///
    /// # Errors
    /// [`NoteError`] when it is none.
    pub fn from_line(line: &[u8]) -> Result<Self, NoteError> {
        let note = Note::parse(&[b"\n\n", line].concat())?;
        let [signature] = <[Self; 1]>::try_from(note.signatures)
            .map_err(|_| NoteError::Form { what: "more than one line" })?;
        Ok(signature)
    }
}

fn witness_name(witness: &AgentId) -> String {
    format!("{WITNESS_PREFIX}{witness}")
}

fn cosigned_text(checkpoint: &Checkpoint, seconds: u64) -> String {
    format!("cosignature/v1\ntime {seconds}\n{}", checkpoint.text())
}
