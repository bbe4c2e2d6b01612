//! What travels about streams, frame by frame.

pub(super) mod delivery;
pub(super) mod outbox;
pub(super) mod questions;
