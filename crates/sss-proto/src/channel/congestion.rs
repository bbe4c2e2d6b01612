//! Congestion control: how much may be in flight (REC-6, REC-8).
//!
//! A controller is told what was sent, acknowledged and lost, and answers with a window in bytes. It knows no packets.

mod bbr;
mod control;
mod cubic;

use crate::config::Congestion;

pub(super) use bbr::Bbr;
pub(super) use control::{AckSample, Control, Departed, Signal, SignalKind, initial_window};
pub(super) use cubic::Cubic;

/// The congestion controller of a channel.
#[derive(Debug)]
pub(super) struct Controller {
    kind: Congestion,
    seed: u64,
    control: Box<dyn Control>,
}

impl Controller {
    /// The controller of that kind, for datagrams of that size. All that it draws at random comes from `seed`.
    pub(super) fn new(kind: Congestion, datagram: u16, seed: u64) -> Self {
        let control: Box<dyn Control> = match kind {
            Congestion::Cubic => Box::new(Cubic::new(datagram)),
            Congestion::Bbr => Box::new(Bbr::new(datagram, seed)),
        };
        Self { kind, seed, control }
    }

    /// The same kind, knowing nothing: the path is another one.
    pub(super) fn restarted(&self, datagram: u16) -> Self {
        Self::new(self.kind, datagram, self.seed)
    }

    /// A name for people.
    pub(super) fn name(&self) -> &'static str {
        self.kind.name()
    }

    /// Returns whether it takes note of what the application has left to send.
    pub(super) fn notes_limits(&self) -> bool {
        match self.kind {
            Congestion::Cubic => false,
            Congestion::Bbr => true,
        }
    }

    pub(super) fn get(&self) -> &dyn Control {
        self.control.as_ref()
    }

    pub(super) fn get_mut(&mut self) -> &mut dyn Control {
        self.control.as_mut()
    }
}
