//! Contents of an authentic ACCEPT, as the initiator takes it.

use sss_wire::params::Shard;

use super::attempt::Attempt;
use crate::channel::Channel;
use crate::error::CloseReason;
use crate::ids::TreeId;

/// Contents of an authentic ACCEPT.
pub(super) enum Answer {
    /// The peer wants no channel (NEG-23).
    Refused(CloseReason),
    Accepted(Accepted),
}

/// The initiator's end of a channel, when ACCEPT was opened.
pub(super) struct Accepted {
    pub(super) channel: Box<Channel>,
    /// The frames of ACCEPT.
    pub(super) frames: Vec<u8>,
    /// The tree that begins with the channel, unless it is one more of a tree.
    pub(super) tree: TreeId,
    /// It is to stand by for another of its class (MIG-31).
    pub(super) stands_by: bool,
    /// The attempt before, which INITIATE has named.
    pub(super) earlier: Option<Box<Attempt>>,
    /// The shard of the peer that has answered.
    pub(super) shard: Option<Shard>,
}
