//! Reasons why a peer refuses a stream.

use std::fmt;

use sss_wire::Code;

/// Reason why the peer refused a stream that this host opened (STR-9, STR-41). Nothing but the stream is affected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// The peer offers no such service.
    Service,
    /// The peer offers the service, but it does not speak this protocol.
    Protocol,
    /// The peer's application takes no substreams of the parent.
    NoListener,
    /// The peer's application has too many substreams of the parent, or streams of this host to the service, waiting to
    /// be accepted.
    Backlog,
    /// The peer keeps no more streams of this host (STR-58).
    TooMany,
    /// The tree would be deeper than the protocol allows.
    TooDeep,
    /// The peer's application has let go of the parent, and nothing is left of it.
    ParentGone,
}

impl Refusal {
    const ALL: [Self; 7] = [
        Self::Service,
        Self::Protocol,
        Self::NoListener,
        Self::Backlog,
        Self::TooMany,
        Self::TooDeep,
        Self::ParentGone,
    ];

    /// The code that travels.
    pub const fn code(self) -> Code {
        match self {
            Self::Service => Code::REFUSED_SERVICE,
            Self::Protocol => Code::REFUSED_PROTOCOL,
            Self::NoListener => Code::NO_LISTENER,
            Self::Backlog => Code::BACKLOG,
            Self::TooMany => Code::TOO_MANY,
            Self::TooDeep => Code::TOO_DEEP,
            Self::ParentGone => Code::PARENT_GONE,
        }
    }

    /// The refusal that a code says; `None` if it says something else.
    pub fn from_code(code: Code) -> Option<Self> {
        Self::ALL.into_iter().find(|refusal| refusal.code() == code)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Service => "it offers no such service",
            Self::Protocol => "its service does not speak this protocol",
            Self::NoListener => "its application takes no substreams of the parent",
            Self::Backlog => "too many streams wait to be accepted",
            Self::TooMany => "it keeps no more streams of this host",
            Self::TooDeep => "the stream tree would be too deep",
            Self::ParentGone => "its application has let go of the parent",
        };
        write!(f, "{text} ({})", self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // spec: STR-42
    #[test]
    fn each_refusal_has_a_code_of_its_own() {
        for refusal in Refusal::ALL {
            assert_eq!(Refusal::from_code(refusal.code()), Some(refusal));
            let name = refusal.code().name().expect("a code of the protocol");
            assert!(refusal.to_string().ends_with(&format!("({name})")));
        }
        assert_eq!(Refusal::from_code(Code::DROPPED), None);
        assert_eq!(Refusal::from_code(Code::app(32)), None);
    }
}
