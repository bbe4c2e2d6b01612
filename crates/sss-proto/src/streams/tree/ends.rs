//! Early ends of the directions of a stream. What is said of that, and to whom: [`cause`](crate::streams::life::cause).

use sss_wire::Code;

use crate::error::{ReadError, WriteError};

/// Cause of a direction's early end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Nothing: it is not over, or it ended well.
    None,
    /// This host: its application, or the protocol for it.
    Own,
    /// The peer, with RESET or STOP.
    Peer,
    /// This host's application, which let go of the stream.
    Released,
    /// It was reset with a stream above, or with those below.
    Tree,
}

impl Cause {
    /// Of the three low bits.
    #[inline]
    pub(crate) const fn from_bits(bits: u64) -> Self {
        match bits & 7 {
            1 => Self::Own,
            2 => Self::Peer,
            3 => Self::Released,
            4 => Self::Tree,
            _ => Self::None,
        }
    }

    #[inline]
    pub(crate) const fn bits(self) -> u64 {
        self as u64
    }
}

/// A direction of a stream, as this host sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Direction {
    Sending,
    Receiving,
}

/// The code and the text with which a direction ended.
#[derive(Clone, Debug)]
pub(crate) struct Ending {
    pub(crate) code: Code,
    pub(crate) reason: Box<str>,
}

impl Ending {
    pub(crate) fn new(code: Code, reason: &str) -> Self {
        let reason = sss_wire::frame::truncate_text(reason, sss_wire::constants::MAX_REASON);
        Self {
            code,
            reason: reason.into(),
        }
    }

    pub(crate) fn said(&self) -> (Code, &str) {
        (self.code, &self.reason)
    }

    pub(crate) fn stopped(&self) -> WriteError {
        WriteError::Stopped {
            code: self.code,
            reason: self.reason.to_string(),
        }
    }

    pub(crate) fn reset(&self) -> ReadError {
        ReadError::Reset {
            code: self.code,
            reason: self.reason.to_string(),
        }
    }
}

/// Ends of the directions of a stream, if they were early and are not said by the cause alone.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    pub(crate) sending: Option<Ending>,
    pub(crate) receiving: Option<Ending>,
    /// The reset of the stream with all that is below it, if it is the uppermost stream of that.
    pub(crate) tree: Option<TreeReset>,
}

impl Ends {
    pub(crate) fn is_unused(&self) -> bool {
        self.sending.is_none() && self.receiving.is_none() && self.tree.is_none()
    }
}

/// Reset of a stream with all that is below it.
#[derive(Debug)]
pub(crate) struct TreeReset {
    pub(crate) ending: Ending,
    pub(crate) by_peer: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_cut_to_what_a_frame_may_carry() {
        for (letter, count) in [("x", 256), ("\u{20ac}", 85)] {
            let ending = Ending::new(Code::app(1), &letter.repeat(1000));
            assert_eq!(&*ending.reason, &letter.repeat(count));
            let whole = Ending::new(Code::app(1), &letter.repeat(count));
            assert_eq!(whole.said(), ending.said());
        }
    }
}
