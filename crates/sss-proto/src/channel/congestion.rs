//! Congestion control: how much may be in flight (REC-6, REC-8).
//!
//! A controller is told what was sent, acknowledged and lost, and answers with a window in bytes. It knows no packets.

mod bbr;
mod control;
mod cubic;
mod resume;

use crate::config::Congestion;
use crate::time::Instant;
use resume::Resume;

pub(super) use bbr::Bbr;
pub(super) use control::{AckSample, Control, Departed, Signal, SignalKind, initial_window};
pub(super) use cubic::Cubic;
pub use resume::ResumeState;
pub(crate) use resume::SavedPath;

/// The congestion controller of a channel.
#[derive(Debug)]
pub(super) struct Controller {
    kind: Congestion,
    /// Of the draws on another path.
    seed: u32,
    /// Knowledge that this one has of the path is kept elsewhere.
    is_saved: bool,
    control: Box<dyn Control>,
    /// Use that is made of what an earlier channel knew of the path, and how that ended.
    resume: Option<Box<Resume>>,
    resumed: ResumeState,
}

impl Controller {
    /// The controller of that kind, for datagrams of that size. All that it draws at random comes from `seed`.
    pub(super) fn new(kind: Congestion, datagram: u16, seed: u64) -> Self {
        let control: Box<dyn Control> = match kind {
            Congestion::Cubic => Box::new(Cubic::new(datagram)),
            Congestion::Bbr => Box::new(Bbr::new(datagram, seed)),
        };
        Self {
            kind,
            seed: seed as u32,
            is_saved: false,
            control,
            resume: None,
            resumed: ResumeState::default(),
        }
    }

    /// The same kind, knowing nothing: the path is another one.
    pub(super) fn restarted(&self, datagram: u16) -> Self {
        Self::new(self.kind, datagram, u64::from(self.seed))
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

/// Knowledge that an earlier channel had of the path (REC-15 to REC-17).
impl Controller {
    /// This was found out about the path, for datagrams of that size.
    pub(super) fn resume(&mut self, saved: SavedPath, datagram: u16) {
        self.resume = Some(Box::new(Resume::new(saved, initial_window(datagram))));
    }

    /// Takes what is known from before, if nothing was made of it.
    pub(super) fn take_unused(&mut self) -> Option<SavedPath> {
        let unused = self.resume.as_ref().and_then(|resume| resume.unused())?;
        self.end_resume(Some(ResumeState::Declined));
        Some(unused)
    }

    /// Knowledge of the path is to be kept elsewhere. Returns whether this is the first time.
    pub(super) fn note_saved(&mut self) -> bool {
        !std::mem::replace(&mut self.is_saved, true)
    }

    pub(super) fn resume_state(&self) -> ResumeState {
        self.resume.as_ref().map_or(self.resumed, |resume| resume.state())
    }

    fn end_resume(&mut self, outcome: Option<ResumeState>) {
        if let Some(outcome) = outcome {
            self.resumed = outcome;
            self.resume = None;
        }
    }
}

/// The controller, where it is told or asked what concerns that as well.
impl Controller {
    /// As [`Control::pacing_rate`].
    pub(super) fn pacing_rate(&self) -> Option<f64> {
        let model = self.control.pacing_rate();
        match &self.resume {
            None => model,
            Some(resume) => resume.pacing_rate(model),
        }
    }

    /// As [`Control::on_sent`].
    pub(super) fn on_sent(&mut self, packet: &Departed) {
        self.control.on_sent(packet);
        if let Some(resume) = &mut self.resume {
            let (now, seq, in_flight) = (packet.now, packet.seq, packet.in_flight);
            let outcome = resume.on_sent(now, seq, in_flight, &mut *self.control);
            self.end_resume(outcome);
        }
    }

    /// As [`Control::on_acked`].
    pub(super) fn on_acked(&mut self, sample: &AckSample) {
        self.control.on_acked(sample);
        if let Some(resume) = &mut self.resume {
            let outcome = resume.on_acked(sample, &mut *self.control);
            self.end_resume(outcome);
        }
    }

    /// As [`Control::on_congestion`].
    pub(super) fn on_congestion(&mut self, now: Instant, signal: &Signal) -> bool {
        let has_reacted = self.control.on_congestion(now, signal);
        if let Some(resume) = &mut self.resume {
            let outcome = resume.on_congestion(has_reacted, &mut *self.control);
            self.end_resume(outcome);
        }
        has_reacted
    }

    /// As [`Control::on_false_congestion`].
    pub(super) fn on_false_congestion(&mut self) {
        self.control.on_false_congestion();
        if let Some(resume) = &mut self.resume {
            resume.on_false_congestion(&mut *self.control);
        }
    }

    /// As [`Control::on_persistent_congestion`].
    pub(super) fn on_persistent_congestion(&mut self) {
        self.control.on_persistent_congestion();
        let outcome = self
            .resume
            .as_ref()
            .and_then(|resume| resume.on_persistent_congestion());
        self.end_resume(outcome);
    }

    /// The path is not the one of which something was known.
    pub(super) fn on_moved(&mut self) {
        let resume = self.resume.as_ref();
        let outcome = resume.and_then(|resume| resume.on_moved(&mut *self.control));
        self.end_resume(outcome);
    }
}
