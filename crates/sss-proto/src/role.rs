//! The two sides of a negotiation.

/// Which side of the negotiation a host was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It sent HELLO.
    Initiator,
    /// It answered.
    Responder,
}
