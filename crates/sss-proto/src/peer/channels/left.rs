//! Remains of channels that have ended, for the host to take.

use super::{TreeChannels, Unheard};
use crate::channel::{Path, SavedPath};

/// Remains of channels that have ended. Of most channels there are none.
#[derive(Default)]
pub(super) struct Left {
    /// Ends of which the peer may not have heard.
    pub(super) unheard: Vec<Unheard>,
    /// Knowledge that they had of their paths.
    saved: Vec<(Path, SavedPath)>,
}

impl Left {
    fn is_empty(&self) -> bool {
        self.unheard.is_empty() && self.saved.is_empty()
    }
}

impl TreeChannels {
    /// Keeps an end of which the peer may not have heard.
    pub(in crate::peer) fn leave_unheard(&mut self, end: Unheard) {
        self.left.make().unheard.push(end);
    }

    /// Takes the ends of which the initiators of channels have not heard (NEG-23).
    pub(crate) fn take_unheard(&mut self) -> Vec<Unheard> {
        let unheard = self.left.get_mut().map(|left| std::mem::take(&mut left.unheard));
        self.left.rest(Left::is_empty);
        unheard.unwrap_or_default()
    }

    /// Keeps what channels that have ended know of their paths.
    pub(super) fn keep_saved(&mut self, known: impl IntoIterator<Item = (Path, SavedPath)>) {
        for saved in known {
            self.left.make().saved.push(saved);
        }
    }

    /// Takes what the channels that have ended know of their paths.
    pub(crate) fn take_saved(&mut self) -> Vec<(Path, SavedPath)> {
        let saved = self.left.get_mut().map(|left| std::mem::take(&mut left.saved));
        self.left.rest(Left::is_empty);
        saved.unwrap_or_default()
    }
}
