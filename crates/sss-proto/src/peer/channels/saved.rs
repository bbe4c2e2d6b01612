//! Knowledge that channels have of their paths, for later ones there (REC-15).

use sss_wire::Eid;

use super::{ChannelSerial, TreeChannels};
use crate::channel;
use crate::local_host::SavedPaths;
use crate::time::Instant;

impl TreeChannels {
    /// Keeps what the channels that have ended know of their paths.
    pub(super) fn save(&mut self) {
        let ended = self.list.iter_mut().filter(|c| !c.is_open());
        let saved: Vec<_> = ended.filter_map(|c| channel::take_saved(&mut c.channel)).collect();
        self.keep_saved(saved);
    }

    /// Gives a new channel what is known of its path: what one that it takes the place of has found out, or else one
    /// that is gone.
    pub(in crate::peer) fn resume(
        &mut self,
        now: Instant,
        (peer, serial): (Eid, ChannelSerial),
        known: &mut SavedPaths,
    ) {
        let Some(path) = self.get(serial).map(|c| *c.channel.path()) else {
            return;
        };
        for (path, saved) in self.take_saved() {
            known.note(peer, &path, saved);
        }
        let earlier = self.list.iter_mut().filter(|c| c.serial != serial);
        for earlier in earlier.filter(|c| *c.channel.path() == path) {
            if let Some((path, saved)) = channel::take_saved(&mut earlier.channel) {
                known.note(peer, &path, saved);
            }
        }
        let saved = known.take(now, peer, &path);
        if let Some((saved, channel)) = saved.zip(self.get_mut(serial)) {
            channel::resume(saved, &mut channel.channel);
        }
    }
}
