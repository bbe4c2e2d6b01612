//! Names of top-level streams, shared by streams that have the same.

use std::fmt;
use std::sync::Arc;

/// The number of names that are compared with before a new copy is made.
const RECENT: usize = 4;

/// A service and a protocol.
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct Names {
    /// The service, and then the protocol: one piece of memory, since each peer has its own.
    both: Box<[u8]>,
    service_len: usize,
}

impl Names {
    fn new(service: &[u8], protocol: &[u8]) -> Self {
        Self {
            both: [service, protocol].concat().into(),
            service_len: service.len(),
        }
    }

    pub(crate) fn service(&self) -> &[u8] {
        self.both.get(..self.service_len).unwrap_or_default()
    }

    pub(crate) fn protocol(&self) -> &[u8] {
        self.both.get(self.service_len..).unwrap_or_default()
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (service, protocol) = (
            String::from_utf8_lossy(self.service()),
            String::from_utf8_lossy(self.protocol()),
        );
        write!(f, "{service:?} {protocol:?}")
    }
}

/// The names used last.
#[derive(Debug, Default)]
pub(crate) struct NameCache {
    recent: Vec<Arc<Names>>,
}

impl NameCache {
    /// The one copy of these names, or a new one.
    pub(crate) fn get(&mut self, service: &[u8], protocol: &[u8]) -> Arc<Names> {
        let known = |n: &Arc<Names>| (n.service(), n.protocol()) == (service, protocol);
        if let Some(at) = self.recent.iter().position(known) {
            return Arc::clone(&self.recent[at]);
        }
        let names = Arc::new(Names::new(service, protocol));
        self.recent.truncate(RECENT - 1);
        // Most peers use one.
        if self.recent.is_empty() {
            self.recent.reserve_exact(1);
        }
        self.recent.insert(0, Arc::clone(&names));
        names
    }
}
