//! Stages of a host on its way to its end.

/// Stage of a host on its way to its end. Only ever moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lifecycle {
    Running,
    /// The last handle was dropped: the driver closes the host.
    Abandoned,
    /// Nothing new is begun; what is finished is still delivered.
    Draining,
    /// CLOSE was sent to all peers.
    ShuttingDown,
    /// There is no driver any more.
    Stopped,
    /// There is no driver any more, because it has panicked.
    Failed,
}

/// End of a host, for the errors of calls that come too late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostEnd {
    Closed,
    Failed,
}

impl Lifecycle {
    /// Returns whether the host still opens and accepts streams, or else how it has ended.
    pub(crate) fn check(self) -> Result<(), HostEnd> {
        match self {
            Self::Running => Ok(()),
            other => Err(other.end()),
        }
    }

    /// The end that a host in this stage has, or comes to.
    pub(crate) fn end(self) -> HostEnd {
        match self {
            Self::Failed => HostEnd::Failed,
            _ => HostEnd::Closed,
        }
    }
}
