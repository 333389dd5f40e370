//! Numbers that travel in QUIC close, reset and stop frames. They are wire format: never renumbered.

use iroh::endpoint::VarInt;

macro_rules! codes {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $value:literal, $text:literal;)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$vmeta])* $variant,)+
            /// A number this version does not know.
            Other(u64),
        }

        impl $name {
            /// The number on the wire.
            #[must_use]
            pub const fn number(self) -> u64 {
                match self { $(Self::$variant => $value,)+ Self::Other(number) => number }
            }

            /// The meaning of a number from the wire.
            #[must_use]
            pub const fn from_number(number: u64) -> Self {
                match number { $($value => Self::$variant,)+ other => Self::Other(other) }
            }

            pub(crate) fn varint(self) -> VarInt {
                VarInt::from_u64(self.number()).unwrap_or(VarInt::MAX)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self { $(Self::$variant => f.write_str($text),)+ Self::Other(number) => write!(f, "code {number}") }
            }
        }
    };
}

codes! {
    /// Why a link was closed.
    CloseCode {
        /// Nobody used the link for a while.
        Parked = 0x10, "parked because idle";
        /// Another link to the same peer is preferred.
        Replaced = 0x11, "replaced by another link";
        /// Room was needed for a busier peer.
        Evicted = 0x12, "evicted to make room";
        /// The peer's key fails the intake rules.
        BadKey = 0x13, "the key is not acceptable as an agent id";
        /// The node has no room for another link.
        TooManyLinks = 0x14, "the node has no room for another link";
        /// The node is going away.
        Shutdown = 0x15, "the node is shutting down";
        /// Nothing arrived in answer to a ping.
        Silent = 0x16, "the peer fell silent";
    }
}

codes! {
    /// Why a stream was reset or stopped.
    StreamCode {
        /// The caller no longer wants the answer.
        Cancelled = 1, "cancelled";
        /// The message exceeds its limit.
        TooLarge = 2, "the message is too large";
        /// The receiver has too much to do.
        Busy = 3, "busy";
        /// The receiver decided not to answer.
        NoAnswer = 4, "no answer";
        /// The bytes are not what the protocol says.
        Malformed = 5, "malformed";
        /// The rest of the message did not arrive in time.
        TimedOut = 6, "timed out";
        /// The request may not travel in early data.
        TooEarly = 7, "not acceptable as early data";
    }
}

impl CloseCode {
    /// Whether the closing side vouches that it was executing nothing for the peer on this link, so that a request without an
    /// answer was never begun.
    #[must_use]
    pub const fn is_clean(self) -> bool {
        matches!(self, Self::Parked | Self::Replaced | Self::Evicted)
    }
}
