//! Encodings shared by the signed statements, for `#[cbor(with = "…")]`.

use crate::RawKey;

/// Times as whole milliseconds since the epoch.
pub(crate) mod millis {
    use comity_core::Time;
    use minicbor::decode::Error as DecodeError;
    use minicbor::encode::{Error as EncodeError, Write};
    use minicbor::{Decoder, Encoder};

    pub(crate) fn encode<C, W: Write>(
        time: &Time,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        e.u64(time.as_millis())?.ok()
    }

    pub(crate) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Time, DecodeError> {
        let at = d.position();
        match d.u64()?.checked_mul(1000) {
            Some(micros) => Ok(Time::from_micros(micros)),
            None => Err(DecodeError::message("a time beyond the range of the clock").at(at)),
        }
    }
}

/// Times as whole microseconds since the epoch: for state that is stored, not signed.
pub(crate) mod micros {
    use comity_core::Time;
    use minicbor::decode::Error as DecodeError;
    use minicbor::encode::{Error as EncodeError, Write};
    use minicbor::{Decoder, Encoder};

    pub(crate) fn encode<C, W: Write>(
        time: &Time,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        e.u64(time.as_micros())?.ok()
    }

    pub(crate) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Time, DecodeError> {
        d.u64().map(Time::from_micros)
    }
}

/// Drops what the wire does not carry, so that a decoded statement equals the one that was encoded.
pub(crate) const fn whole_millis(time: comity_core::Time) -> comity_core::Time {
    comity_core::Time::from_micros(time.as_micros() / 1000 * 1000)
}

/// Who is said to have signed an envelope, read from where the canonical form has the key, without any cryptography: to refuse what comes
/// from the wrong hand before it costs a signature. Nothing follows from it but a refusal; `envelope::open` says who signed.
#[must_use]
pub fn claimed_signer(envelope: &[u8]) -> Option<RawKey> {
    /// Tag, array head, and head of the protected header.
    const HEAD: [u8; 4] = [0xd2, 0x84, 0x58, 63];
    /// The protected header up to the key's 32 bytes, which end it.
    const KEY_AT: usize = 63 - 32;
    let protected = envelope.strip_prefix(&HEAD)?;
    protected.get(KEY_AT..KEY_AT + 32)?.try_into().ok().map(RawKey)
}

/// An error with its causes in one line, for errors that carry a reason as text.
pub(crate) fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Implements `Canonical` for payloads that have a limit of length and a `check` of their fields: both run on decoding.
macro_rules! checked_payload {
    ($name:ty, $max:expr) => {
        impl comity_core::Canonical for $name {
            fn encode(&self) -> Vec<u8> {
                comity_core::canonical::encode_minicbor(self)
            }

            fn decode(bytes: &[u8]) -> Result<Self, comity_core::DecodeError> {
                if bytes.len() > $max {
                    let length = bytes.len();
                    return Err(comity_core::DecodeError::TooLong { length, max: $max });
                }
                let payload: Self = comity_core::canonical::decode_minicbor(bytes)?;
                payload.check().map_err(|error| comity_core::DecodeError::Type {
                    reason: crate::wire::explain(&error),
                })?;
                Ok(payload)
            }
        }
    };
}
pub(crate) use checked_payload;
