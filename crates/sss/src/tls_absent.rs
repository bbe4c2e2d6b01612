//! Tunnels without the feature `tls`: there are none. Nobody orders any, since no server has a place for one.

use std::io;
use std::sync::Arc;

use sss_reach::TunnelOrder;

use crate::shared::Shared;

/// There is none.
pub(crate) enum Listening {}

/// There are none.
pub(crate) struct Tasks;

impl Tasks {
    /// Does nothing.
    ///
    /// # Errors
    /// None.
    pub(crate) fn start(listening: Option<Listening>, _: &Arc<Shared>) -> io::Result<Self> {
        match listening {
            Some(never) => match never {},
            None => Ok(Self),
        }
    }

    /// Does nothing.
    pub(crate) fn obey(&mut self, _: Vec<TunnelOrder>, _: &Arc<Shared>) {}
}
