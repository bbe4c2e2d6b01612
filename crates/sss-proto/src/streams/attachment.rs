//! The names that streams have on the channel: LSID to stream and back.
//!
//! A stream is named by who opened it and its ordinal among the streams that were opened by the same host. LSIDs
//! follow from that and from the host's role on the channel (STR-2), so that streams that were announced on a channel
//! which came to nothing keep their ordinals on the next.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::node::Opener;
use super::opened::Opened;
use crate::channel::Role;
use crate::error::ProtocolError;

/// The streams of a peer by LSID.
#[derive(Debug)]
pub(super) struct Attachment {
    role: Option<Role>,
    slots: HashMap<Name, u32, FixedState>,
    /// The ordinal of the next stream to be announced by this host.
    next: u64,
    opened: Opened,
}

/// Opener and ordinal in one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Name(u64);

impl Name {
    fn new(opener: Opener, ordinal: u64) -> Self {
        Self(ordinal << 1 | u64::from(opener == Opener::Peer))
    }
}

/// What an LSID names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The stream in a slot.
    Live(u32),
    /// A stream that was retired.
    Retired,
    /// No stream that was ever opened.
    Never,
}

impl Attachment {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            role: None,
            slots: HashMap::with_hasher(FixedState::with_seed(seed)),
            next: 0,
            opened: Opened::default(),
        }
    }

    pub(super) fn set_role(&mut self, role: Role) {
        self.role = Some(role);
    }

    pub(super) fn has_role(&self) -> bool {
        self.role.is_some()
    }

    /// STR-2
    pub(super) fn lsid(&self, opener: Opener, ordinal: u64) -> u64 {
        let is_odd = matches!(self.role, Some(Role::Initiator)) == (opener == Opener::Own);
        2 * ordinal + if is_odd { 1 } else { 2 }
    }

    /// Who opened the stream `lsid`, which is not 0, and as the how manieth.
    pub(super) fn name(&self, lsid: u64) -> (Opener, u64) {
        let is_odd = lsid % 2 == 1;
        let is_own = is_odd == matches!(self.role, Some(Role::Initiator));
        let opener = if is_own { Opener::Own } else { Opener::Peer };
        (opener, (lsid.max(1) - 1) / 2)
    }

    pub(super) fn find(&self, lsid: u64) -> Found {
        let (opener, ordinal) = self.name(lsid);
        if let Some(slot) = self.slots.get(&Name::new(opener, ordinal)) {
            return Found::Live(*slot);
        }
        let was_opened = match opener {
            Opener::Own => ordinal < self.next,
            Opener::Peer => self.opened.contains(ordinal),
        };
        if was_opened { Found::Retired } else { Found::Never }
    }

    /// The ordinal of the next stream to be announced by this host.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// This host announces the stream in a slot; its ordinal is [`Self::next`].
    pub(super) fn announce(&mut self, slot: u32) {
        self.slots.insert(Name::new(Opener::Own, self.next), slot);
        self.next += 1;
    }

    /// The peer has opened the stream with this ordinal, which is new (STR-10).
    pub(super) fn note_opened(&mut self, ordinal: u64) -> Result<(), ProtocolError> {
        self.opened.insert(ordinal)
    }

    /// A stream that the peer opened is kept in a slot.
    pub(super) fn attach(&mut self, ordinal: u64, slot: u32) {
        self.slots.insert(Name::new(Opener::Peer, ordinal), slot);
    }

    pub(super) fn detach(&mut self, opener: Opener, ordinal: u64) {
        self.slots.remove(&Name::new(opener, ordinal));
    }
}

#[cfg(test)]
impl Attachment {
    /// Bytes of memory that the map takes.
    pub(super) fn memory(&self) -> usize {
        self.slots.allocation_size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // spec: STR-2
    #[test]
    fn lsids_follow_from_role_and_ordinal() {
        let mut a = Attachment::new(1);
        for (role, own, peer) in [
            (Role::Initiator, [1, 3, 5], [2, 4, 6]),
            (Role::Responder, [2, 4, 6], [1, 3, 5]),
        ] {
            a.set_role(role);
            for ordinal in 0..3 {
                let i = ordinal as usize;
                assert_eq!(a.lsid(Opener::Own, ordinal), own[i]);
                assert_eq!(a.lsid(Opener::Peer, ordinal), peer[i]);
                assert_eq!(a.name(own[i]), (Opener::Own, ordinal));
                assert_eq!(a.name(peer[i]), (Opener::Peer, ordinal));
            }
        }
    }

    #[test]
    fn retired_and_unknown_are_told_apart() {
        let mut a = Attachment::new(1);
        a.set_role(Role::Responder);
        a.announce(7);
        assert_eq!(a.find(2), Found::Live(7));
        a.detach(Opener::Own, 0);
        assert_eq!(a.find(2), Found::Retired);
        assert_eq!(a.find(4), Found::Never);
        a.note_opened(2).unwrap();
        assert_eq!((a.find(5), a.find(3)), (Found::Retired, Found::Never));
    }
}
