//! The states of the two directions of a stream, and every change of them.
//!
//! ```text
//!  sending:   Open --finish--> Finishing --all acknowledged--> Done
//!               \--abort-------/--> Resetting --RESET acknowledged--> Aborted
//!  receiving: Open --size--> Sized --all received--> Complete --read to the end--> Done
//!               |              |                        |
//!               +--------------+-- RESET ---------------+--> Reset --seen--> Done
//!               |              +-- stop ----------------+------------------> Done
//!               +-- stop --> Stopped --size or RESET-----------------------> Done
//! ```

/// The direction from this host to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SendState {
    /// More may be written.
    Open,
    /// The end is known, and not everything is acknowledged.
    Finishing,
    /// Everything is acknowledged.
    Done,
    /// Ended early; the peer may not know yet.
    Resetting,
    /// Ended early, and the peer knows.
    Aborted,
}

/// Inputs that change a [`SendState`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendInput {
    /// The application has written everything.
    Finish,
    /// Reset, dropped unfinished, or stopped by the peer (STR-13, STR-14).
    Abort,
    /// All data and FIN are acknowledged.
    AllAcked,
    /// RESET is acknowledged.
    ResetAcked,
}

impl SendState {
    /// The state after `input`; `None` if it changes nothing.
    #[inline]
    pub(crate) fn after(self, input: SendInput) -> Option<Self> {
        match (self, input) {
            (Self::Open, SendInput::Finish) => Some(Self::Finishing),
            (Self::Open | Self::Finishing, SendInput::Abort) => Some(Self::Resetting),
            (Self::Finishing, SendInput::AllAcked) => Some(Self::Done),
            (Self::Resetting, SendInput::ResetAcked) => Some(Self::Aborted),
            _ => None,
        }
    }

    /// Returns whether data is still to be delivered.
    #[inline]
    pub(crate) fn carries_data(self) -> bool {
        matches!(self, Self::Open | Self::Finishing)
    }

    /// Returns whether nothing more happens in this direction.
    #[inline]
    pub(crate) fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Aborted)
    }
}

/// The direction from the peer to this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RecvState {
    /// More may come, and nobody knows how much.
    Open,
    /// The final size is known, and not everything has arrived.
    Sized,
    /// Everything has arrived, and not everything was read.
    Complete,
    /// The peer ended it early, and the application does not know yet.
    Reset,
    /// The application wants no more, and the final size is not known yet.
    Stopped,
    /// Over: read to the end, or ended early.
    Done,
}

/// Inputs that change a [`RecvState`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecvInput {
    /// FIN arrived.
    Size,
    /// No byte up to the final size is missing.
    AllReceived,
    /// The application has read everything and was told the end.
    ReadToEnd,
    /// RESET arrived.
    Reset,
    /// The application was told of the reset.
    Seen,
    /// The application wants no more.
    Stop,
}

impl RecvState {
    /// The state after `input`; `None` if it changes nothing.
    #[inline]
    pub(crate) fn after(self, input: RecvInput) -> Option<Self> {
        match (self, input) {
            (Self::Open, RecvInput::Size) => Some(Self::Sized),
            (Self::Sized, RecvInput::AllReceived) => Some(Self::Complete),
            (Self::Complete, RecvInput::ReadToEnd) => Some(Self::Done),
            // STR-15
            (Self::Open | Self::Sized | Self::Complete, RecvInput::Reset) => Some(Self::Reset),
            (Self::Reset, RecvInput::Seen) => Some(Self::Done),
            (Self::Open, RecvInput::Stop) => Some(Self::Stopped),
            (Self::Sized | Self::Complete | Self::Reset, RecvInput::Stop) => Some(Self::Done),
            (Self::Stopped, RecvInput::Size | RecvInput::Reset) => Some(Self::Done),
            _ => None,
        }
    }

    /// Returns whether the final size is known.
    #[inline]
    pub(crate) fn has_size(self) -> bool {
        !matches!(self, Self::Open | Self::Stopped)
    }

    /// Returns whether what arrives is kept for the application.
    #[inline]
    pub(crate) fn keeps_data(self) -> bool {
        matches!(self, Self::Open | Self::Sized)
    }

    /// Returns whether there may be data that the application has not read, and may still read.
    #[inline]
    pub(crate) fn holds_data(self) -> bool {
        matches!(self, Self::Open | Self::Sized | Self::Complete)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_of_the_sending_direction() {
        use SendInput::{Abort, AllAcked, Finish, ResetAcked};
        use SendState::{Aborted, Done, Finishing, Open, Resetting};
        let table = [
            (Open, [Some(Finishing), Some(Resetting), None, None]),
            (Finishing, [None, Some(Resetting), Some(Done), None]),
            (Done, [None; 4]),
            (Resetting, [None, None, None, Some(Aborted)]),
            (Aborted, [None; 4]),
        ];
        for (state, row) in table {
            let actual = [Finish, Abort, AllAcked, ResetAcked].map(|input| state.after(input));
            assert_eq!(actual, row, "{state:?}");
        }
    }

    #[test]
    fn table_of_the_receiving_direction() {
        use RecvInput as In;
        use RecvState::{Complete, Done, Open, Reset, Sized, Stopped};
        let inputs = [In::Size, In::AllReceived, In::ReadToEnd, In::Reset, In::Seen, In::Stop];
        let table = [
            (Open, [Some(Sized), None, None, Some(Reset), None, Some(Stopped)]),
            (Sized, [None, Some(Complete), None, Some(Reset), None, Some(Done)]),
            (Complete, [None, None, Some(Done), Some(Reset), None, Some(Done)]),
            (Reset, [None, None, None, None, Some(Done), Some(Done)]),
            (Stopped, [Some(Done), None, None, Some(Done), None, None]),
            (Done, [None; 6]),
        ];
        for (state, row) in table {
            assert_eq!(inputs.map(|input| state.after(input)), row, "{state:?}");
        }
    }
}
