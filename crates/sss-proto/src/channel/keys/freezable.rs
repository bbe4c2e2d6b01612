//! Keys that are given back while nothing is sent or heard, and made again from few bytes when they are needed.

use sss_crypto::Suite;
use sss_crypto::packet::{HeaderKey, HeaderSecret, PacketKey, PacketSecret};
use sss_crypto::schedule::Secret;

/// The key of the packets of one direction and generation.
pub(super) struct FreezableKey {
    secret: PacketSecret,
    made: Option<Box<PacketKey>>,
}

/// The key of the header masks of one direction.
pub(super) struct FreezableHeader {
    secret: HeaderSecret,
    made: Option<Box<HeaderKey>>,
}

impl FreezableKey {
    /// The key of a generation's secret; it is made when it is first needed.
    pub(super) fn new(secret: &Secret) -> Self {
        Self {
            secret: PacketSecret::new(secret),
            made: None,
        }
    }

    #[inline]
    pub(super) fn get(&mut self, suite: Suite) -> &PacketKey {
        self.made.get_or_insert_with(|| Box::new(self.secret.key(suite)))
    }

    pub(super) fn freeze(&mut self) {
        self.made = None;
    }

    #[cfg(test)]
    pub(super) fn is_frozen(&self) -> bool {
        self.made.is_none()
    }
}

impl FreezableHeader {
    /// The key of these secret bytes; it is made when it is first needed.
    pub(super) fn new(secret: &[u8; 32]) -> Self {
        Self {
            secret: HeaderSecret::new(secret),
            made: None,
        }
    }

    #[inline]
    pub(super) fn get(&mut self, suite: Suite) -> &HeaderKey {
        self.made.get_or_insert_with(|| Box::new(self.secret.key(suite)))
    }

    pub(super) fn is_frozen(&self) -> bool {
        self.made.is_none()
    }

    pub(super) fn freeze(&mut self) {
        self.made = None;
    }
}
