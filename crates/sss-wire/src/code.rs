//! Error codes (docs/spec/overview.md, "Error codes").

use std::fmt;

use crate::varint;

/// Reason why a channel or a stream ended: a code of the protocol, or one of the application.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(u64);

/// First code of applications.
const APPLICATION: u64 = 256;

/// Declares the codes of the protocol and their names.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal;)*) => {
        impl Code {
            $($(#[$doc])* pub const $name: Self = Self($value);)*

            /// The name of a code of the protocol, as in the specification.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }

        /// All codes of the protocol.
        #[cfg(test)]
        const ALL: &[(u64, &str)] = &[$(($value, stringify!($name)),)*];
    };
}

codes! {
    /// Orderly end, nothing wrong.
    NONE = 0;
    /// The sender's own failure.
    INTERNAL = 1;
    /// A frame could not be parsed, or is unknown.
    FRAME_ENCODING = 2;
    /// A frame broke a rule that has no code of its own.
    PROTOCOL = 3;
    /// More data than was granted.
    CREDIT_EXCEEDED = 4;
    /// Data beyond an end, or two different ends.
    FINAL_SIZE = 5;
    /// Frame for a stream that cannot have it.
    STREAM_STATE = 6;
    /// A bound was exceeded.
    LIMIT = 7;
    /// Acknowledgement of a packet never sent.
    ACK_INVALID = 8;
    /// Missing or invalid settings.
    SETTINGS = 9;
    /// Confidentiality or integrity limit reached.
    AEAD_LIMIT = 10;
    /// Nothing was heard for the idle timeout. Never sent.
    IDLE = 11;
    /// The peer has lost its state. Never sent.
    STATELESS_RESET = 12;
    /// Another channel to the same peer took over.
    REPLACED = 13;
    /// The host is going away.
    SHUTDOWN = 14;
    /// The peer has lost the tree that was asked for.
    UNKNOWN_TREE = 15;
    /// The host does not talk to this peer.
    FORBIDDEN = 16;
    /// No such service.
    REFUSED_SERVICE = 32;
    /// The service does not speak this protocol.
    REFUSED_PROTOCOL = 33;
    /// The parent's application takes no substreams.
    NO_LISTENER = 34;
    /// The parent has been retired.
    PARENT_GONE = 35;
    /// The tree would be too deep.
    TOO_DEEP = 36;
    /// Too many unaccepted children.
    BACKLOG = 37;
    /// The sender was dropped without being finished.
    DROPPED = 38;
    /// The receiver was dropped without being read to its end.
    UNREAD = 39;
    /// A record is longer than its reader takes.
    RECORD_TOO_LARGE = 40;
    /// A datagram of more than the receiver takes.
    DATAGRAM_TOO_LARGE = 41;
    /// The datagram's deadline has passed.
    EXPIRED = 42;
    /// More streams than the host keeps.
    TOO_MANY = 43;
}

impl Code {
    /// The code of an application for its own number `c`: it travels as `256 + c`.
    pub const fn app(c: u32) -> Self {
        Self((c as u64).saturating_add(APPLICATION))
    }

    /// The application's number, if this is an application's code.
    pub const fn as_app(self) -> Option<u32> {
        match self.0.checked_sub(APPLICATION) {
            Some(c) if c <= u32::MAX as u64 => Some(c as u32),
            _ => None,
        }
    }

    /// The number that travels.
    #[inline]
    pub const fn value(self) -> u64 {
        self.0
    }

    /// The code of a number that travelled. Above [`varint::MAX`] no number can; it is taken for that.
    #[inline]
    pub const fn from_value(value: u64) -> Self {
        Self(if value <= varint::MAX { value } else { varint::MAX })
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.name(), self.as_app()) {
            (Some(name), _) => f.write_str(name),
            (None, Some(c)) => write!(f, "application code {c}"),
            (None, None) => write!(f, "unknown code {}", self.0),
        }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Code({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        assert_eq!(Code::REFUSED_SERVICE.to_string(), "REFUSED_SERVICE");
        assert_eq!(Code::app(7).to_string(), "application code 7");
        assert_eq!(Code::from_value(99).to_string(), "unknown code 99");
        assert_eq!(format!("{:?}", Code::NONE), "Code(NONE)");
        for (value, name) in ALL {
            assert_eq!(Code::from_value(*value).to_string(), *name);
            assert_eq!(Code::from_value(*value).as_app(), None);
        }
    }

    #[test]
    fn application_codes_follow_256() {
        assert_eq!(Code::app(0).value(), 256);
        assert_eq!(Code::app(u32::MAX).value(), 256 + 0xffff_ffff);
        assert_eq!(Code::app(u32::MAX).as_app(), Some(u32::MAX));
        assert_eq!(Code::from_value(256 + (1 << 32)).as_app(), None);
        assert_eq!(Code::from_value(255).as_app(), None);
        assert_eq!(Code::from_value(u64::MAX).value(), varint::MAX);
    }
}
