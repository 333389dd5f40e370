//! The text by which somebody becomes a member of a private group. It carries the group's secret.
//!
//! An invitation is `comity-group:` followed by lower-case RFC 4648 base32 without padding of `payload ‖ check`, where `payload` is
//! deterministic CBOR (RFC 8949 section 4.2) of `{0: name, 1: secret (32 bytes)}` and `check` the first four bytes of
//! `BLAKE3.derive_key("comity/group-invitation/v1", payload)`. Case does not matter on input. Errors never repeat what was given: it may
//! be a secret with one letter missing.

use std::str::FromStr;

use comity_capability::record::GroupSecret;
use comity_core::Hash;
use data_encoding::BASE32_NOPAD;
use minicbor::{Decoder, Encoder};
use zeroize::Zeroizing;

/// Longest text of an invitation that is looked at.
pub const MAX_INVITATION_CHARS: usize = 256;
/// Longest name of a private group.
pub const MAX_GROUP_NAME: usize = 64;

const SCHEME: &str = "comity-group:";
const CHECK_CONTEXT: &str = "comity/group-invitation/v1";
const CHECK_BYTES: usize = 4;

/// A private group's name, as its maker calls it, and its secret.
#[derive(Debug, Clone)]
pub struct Invitation {
    name: String,
    secret: GroupSecret,
}

/// Why a text is no invitation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvitationError {
    /// It does not start with `comity-group:`.
    #[error(
        "an invitation starts with `comity-group:`; copy it whole from whoever ran `comity group create`"
    )]
    Scheme,
    /// It is a ticket to join a network.
    #[error(
        "this is a ticket into a network, for `comity up --join`; an invitation to a group starts with `comity-group:`"
    )]
    Ticket,
    /// It is longer than [`MAX_INVITATION_CHARS`].
    #[error(
        "{0} characters are too long for an invitation (at most {MAX_INVITATION_CHARS}): is something else copied with it?"
    )]
    TooLong(usize),
    /// It contains characters that base32 has not, or is cut off.
    #[error("the invitation is damaged or cut off: not base32; copy it whole")]
    Base32,
    /// The check at its end does not fit.
    #[error("the invitation is damaged: its check characters do not fit; copy it whole")]
    Check,
    /// The check fits, but the content does not follow the format.
    #[error("the invitation is not of a form this version knows ({0})")]
    Content(&'static str),
    /// The name cannot be one.
    #[error(
        "a private group's name has 1 to {MAX_GROUP_NAME} of a-z, 0-9, `-`, `_` and `.`, and starts with a letter or digit"
    )]
    Name,
}

impl Invitation {
    /// An invitation to the group with this secret.
    ///
    /// # Errors
    /// [`InvitationError::Name`].
    pub fn new(name: &str, secret: GroupSecret) -> Result<Self, InvitationError> {
        check_group_name(name)?;
        Ok(Self { name: name.to_owned(), secret })
    }

    /// What its maker calls the group.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The secret.
    #[must_use]
    pub const fn secret(&self) -> &GroupSecret {
        &self.secret
    }

    /// The text, which is to be kept as a password is kept. There is no `Display`, so that it is never printed unawares.
    #[must_use]
    pub fn reveal(&self) -> Zeroizing<String> {
        let mut bytes = self.payload();
        let check = check(&bytes);
        bytes.extend_from_slice(&check);
        let body = Zeroizing::new(BASE32_NOPAD.encode(&bytes));
        Zeroizing::new(format!("{SCHEME}{}", body.to_ascii_lowercase()))
    }

    fn payload(&self) -> Zeroizing<Vec<u8>> {
        let mut encoder = Encoder::new(Vec::with_capacity(128));
        encoder
            .map(2)
            .and_then(|e| e.u8(0)?.str(&self.name)?.u8(1)?.bytes(self.secret.as_bytes()))
            .expect("writing CBOR to a vector does not fail");
        Zeroizing::new(encoder.into_writer())
    }
}

impl FromStr for Invitation {
    type Err = InvitationError;

    fn from_str(text: &str) -> Result<Self, InvitationError> {
        let text = text.trim();
        if text.len() > MAX_INVITATION_CHARS {
            return Err(InvitationError::TooLong(text.len()));
        }
        let is_ticket = text.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("comity:"));
        if is_ticket {
            return Err(InvitationError::Ticket);
        }
        let (scheme, body) = text.split_at_checked(SCHEME.len()).ok_or(InvitationError::Scheme)?;
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return Err(InvitationError::Scheme);
        }
        let body = Zeroizing::new(body.to_ascii_uppercase());
        let bytes = BASE32_NOPAD.decode(body.as_bytes()).map_err(|_| InvitationError::Base32)?;
        let bytes = Zeroizing::new(bytes);
        let (payload, found) =
            bytes.split_last_chunk::<CHECK_BYTES>().ok_or(InvitationError::Base32)?;
        if *found != check(payload) {
            return Err(InvitationError::Check);
        }
        let invitation = decode(payload)?;
        if **invitation.payload() != *payload {
            return Err(InvitationError::Content("not canonical"));
        }
        Ok(invitation)
    }
}

/// Checks the name of a private group; it is a file's name too.
///
/// # Errors
/// [`InvitationError::Name`].
pub fn check_group_name(name: &str) -> Result<(), InvitationError> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let allowed = |byte: u8| plain(byte) || b"-_.".contains(&byte);
    let fits = (1..=MAX_GROUP_NAME).contains(&name.len())
        && name.bytes().all(allowed)
        && name.bytes().next().is_some_and(plain);
    if fits { Ok(()) } else { Err(InvitationError::Name) }
}

fn decode(payload: &[u8]) -> Result<Invitation, InvitationError> {
    let read = || {
        let mut decoder = Decoder::new(payload);
        let fields = decoder.map()?;
        let name = (decoder.u8()?, decoder.str()?.to_owned());
        let secret = (decoder.u8()?, Zeroizing::new(decoder.bytes()?.to_vec()));
        Ok::<_, minicbor::decode::Error>((fields, name, secret, decoder.position()))
    };
    let (fields, name, secret, end) = read().map_err(|_| InvitationError::Content("its form"))?;
    if (fields, name.0, secret.0, end) != (Some(2), 0, 1, payload.len()) {
        return Err(InvitationError::Content("its fields"));
    }
    let secret = <[u8; 32]>::try_from(secret.1.as_slice())
        .map_err(|_| InvitationError::Content("the length of its secret"))?;
    Invitation::new(&name.1, GroupSecret::from_bytes(secret))
}

fn check(payload: &[u8]) -> [u8; CHECK_BYTES] {
    let hash = Hash::derive(CHECK_CONTEXT, &[payload]);
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&hash.0[..CHECK_BYTES]);
    check
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invitation() -> Invitation {
        Invitation::new("deal-room", GroupSecret::from_bytes([0xa5; 32])).unwrap()
    }

    #[test]
    fn it_comes_back_as_it_was_in_either_case() {
        let text = invitation().reveal();
        for text in [text.to_string(), text.to_ascii_uppercase(), format!(" {}\n", *text)] {
            let read: Invitation = text.parse().unwrap();
            assert_eq!(read.name(), "deal-room");
            assert_eq!(read.secret().as_bytes(), &[0xa5; 32]);
        }
    }

    #[test]
    fn what_is_none_is_refused_by_name_and_never_repeated() {
        let good = invitation().reveal().to_string();
        let damaged = good.replacen(&good[30..31], if &good[30..31] == "a" { "b" } else { "a" }, 1);
        let long = "x".repeat(MAX_INVITATION_CHARS + 1);
        let cases = [
            ("", InvitationError::Scheme),
            ("hello", InvitationError::Scheme),
            ("comity:abcdefg", InvitationError::Ticket),
            (&long, InvitationError::TooLong(MAX_INVITATION_CHARS + 1)),
            ("comity-group:", InvitationError::Base32),
            ("comity-group:1!", InvitationError::Base32),
            (&damaged, InvitationError::Check),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<Invitation>().unwrap_err(), error, "{text}");
        }
        let cut = good[..good.len() - 8].parse::<Invitation>().unwrap_err();
        assert!(matches!(cut, InvitationError::Check | InvitationError::Base32));
        assert!(!cut.to_string().contains(&good[20..40]));
        assert!(!format!("{:?}", invitation()).contains("165"), "no secret in debug output");
    }

    #[test]
    fn a_well_checked_text_of_another_form_is_refused() {
        let text = |payload: &[u8]| {
            let bytes = [payload, &check(payload)].concat();
            format!("{SCHEME}{}", BASE32_NOPAD.encode(&bytes))
        };
        let payload = invitation().payload();
        assert!(text(&payload).parse::<Invitation>().is_ok());
        let mut trailing = payload.to_vec();
        trailing.push(0);
        for wrong in [&b"\x80"[..], &trailing, &payload[..20]] {
            assert!(matches!(text(wrong).parse::<Invitation>(), Err(InvitationError::Content(_))));
        }
    }

    #[test]
    fn names_are_names_of_files_too() {
        for good in ["a", "deal-room", "0x.y_z", &"n".repeat(MAX_GROUP_NAME)] {
            check_group_name(good).unwrap();
        }
        for bad in ["", ".", "..", "-a", "A", "a/b", "ä", "a b", &"n".repeat(MAX_GROUP_NAME + 1)] {
            assert_eq!(check_group_name(bad), Err(InvitationError::Name), "{bad:?}");
        }
    }
}
