//! Delivery of frames that must arrive (REC-5): one machine of four states for all of them.
//!
//! ```text
//!  Idle --put--> Due --sent--> InFlight --acknowledged--> Acked
//!                 ^                |
//!                 +----- lost -----+        put: from every state
//! ```
//!
//! What is acknowledged or lost settles something only if it is the *latest* value: an old CREDIT that arrives late
//! says nothing of the one that was sent after it. Which value a packet carried is in its
//! [`Token`](crate::token::Token).

/// Progress of the latest value of something that the peer must be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// There is nothing to tell, or it does not matter any more.
    #[default]
    Idle,
    /// It is to be sent, for the first time or again.
    Due,
    /// It was sent, and is neither acknowledged nor known to be lost.
    InFlight,
    /// The peer has it.
    Acked,
}

impl Delivery {
    /// Of the two low bits.
    #[inline]
    pub(crate) const fn from_bits(bits: u64) -> Self {
        match bits & 3 {
            0 => Self::Idle,
            1 => Self::Due,
            2 => Self::InFlight,
            _ => Self::Acked,
        }
    }

    #[inline]
    pub(crate) const fn bits(self) -> u64 {
        self as u64
    }

    /// Returns whether the peer is to be told, and is not known to have been.
    #[inline]
    pub(crate) fn is_open(self) -> bool {
        matches!(self, Self::Due | Self::InFlight)
    }

    /// A packet with it was acknowledged; `is_latest` tells whether that packet had the latest value.
    #[inline]
    pub(crate) fn after_acked(self, is_latest: bool) -> Self {
        if is_latest && self.is_open() { Self::Acked } else { self }
    }

    /// A packet with it was lost.
    #[inline]
    pub(crate) fn after_lost(self, is_latest: bool) -> Self {
        if is_latest && self == Self::InFlight {
            Self::Due
        } else {
            self
        }
    }
}

/// Items that must arrive of a stream, beside its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Item {
    /// INIT, in front of whatever a STREAM frame carries.
    Init,
    /// FIN, in a STREAM frame.
    Fin,
    Reset,
    Stop,
    Credit,
    OpenCredit,
    /// AWAIT: acknowledged by RELEASED.
    Await,
    /// WATCH: acknowledged by CONSUMED.
    Watch,
    Priority,
}

impl Item {
    /// Those of which every stream keeps the state in its node; those that few streams have are among its [`Extras`].
    ///
    /// [`Extras`]: crate::streams::tree::extras::Extras
    pub(crate) const IN_NODE: u8 = 7;
}

#[cfg(test)]
mod tests {
    use super::*;

    // spec: REC-5
    #[test]
    fn only_the_latest_value_is_settled() {
        use Delivery::{Acked, Due, Idle, InFlight};
        let table = [
            (Idle, [Idle, Idle, Idle, Idle]),
            (Due, [Acked, Due, Due, Due]),
            (InFlight, [Acked, InFlight, Due, InFlight]),
            (Acked, [Acked, Acked, Acked, Acked]),
        ];
        for (state, row) in table {
            let acked = [true, false].map(|is_latest| state.after_acked(is_latest));
            let lost = [true, false].map(|is_latest| state.after_lost(is_latest));
            assert_eq!([acked, lost].concat(), row, "{state:?}");
            assert_eq!(Delivery::from_bits(state.bits()), state);
        }
    }
}
