//! The services of a host: which (service, protocol) pairs it takes streams for, and the streams not yet accepted.

use std::collections::VecDeque;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use slab::Slab;
use sss_wire::{Code, Eid, constants};

use crate::error::ListenError;
use crate::ids::{ListenerId, StreamId};

/// A stream that waits to be accepted.
pub(crate) type Waiting = (StreamId, Eid);

#[derive(Debug)]
struct Listener {
    name: (String, String),
    waiting: VecDeque<Waiting>,
    /// Whether the application found nothing to accept and wants to be told.
    wanted: bool,
}

/// The registered listeners.
#[derive(Debug, Default)]
pub(crate) struct Services {
    listeners: Slab<Listener>,
    /// Service to protocol to listener.
    names: HashMap<String, HashMap<String, u32, RandomState>, RandomState>,
}

impl Services {
    pub(crate) fn listen(&mut self, service: &str, protocol: &str) -> Result<ListenerId, ListenError> {
        for name in [service, protocol] {
            if name.is_empty() || name.len() > usize::from(constants::MAX_NAME) {
                return Err(ListenError::BadName);
            }
        }
        let protocols = self.names.entry(service.to_owned()).or_default();
        if protocols.contains_key(protocol) {
            return Err(ListenError::Taken(service.to_owned(), protocol.to_owned()));
        }
        let index = self.listeners.insert(Listener {
            name: (service.to_owned(), protocol.to_owned()),
            waiting: VecDeque::new(),
            wanted: false,
        });
        let id = u32::try_from(index).unwrap_or(u32::MAX);
        protocols.insert(protocol.to_owned(), id);
        Ok(ListenerId(id))
    }

    /// Removes a listener and returns the streams that nobody will accept now.
    pub(crate) fn unlisten(&mut self, id: ListenerId) -> VecDeque<Waiting> {
        let Some(listener) = self.listeners.try_remove(id.0 as usize) else {
            return VecDeque::new();
        };
        let (service, protocol) = &listener.name;
        if let Some(protocols) = self.names.get_mut(service) {
            protocols.remove(protocol);
            if protocols.is_empty() {
                self.names.remove(service);
            }
        }
        listener.waiting
    }

    /// Finds who takes a stream for `service` and `protocol`, or the code with which it is refused (STR-9).
    pub(crate) fn route(&self, service: &[u8], protocol: &[u8]) -> Result<ListenerId, Code> {
        let text = |bytes| std::str::from_utf8(bytes).ok();
        let protocols = text(service)
            .and_then(|s| self.names.get(s))
            .ok_or(Code::REFUSED_SERVICE)?;
        let id = text(protocol)
            .and_then(|p| protocols.get(p))
            .ok_or(Code::REFUSED_PROTOCOL)?;
        Ok(ListenerId(*id))
    }

    /// Queues a stream. True if the application waits for one and must be told.
    pub(crate) fn push(&mut self, id: ListenerId, stream: Waiting) -> bool {
        let Some(listener) = self.listeners.get_mut(id.0 as usize) else {
            return false;
        };
        listener.waiting.push_back(stream);
        std::mem::take(&mut listener.wanted)
    }

    /// The next stream to accept. `None` asks to be told when there is one.
    pub(crate) fn accept(&mut self, id: ListenerId) -> Option<Waiting> {
        let listener = self.listeners.get_mut(id.0 as usize)?;
        let next = listener.waiting.pop_front();
        listener.wanted = next.is_none();
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // spec: STR-9
    #[test]
    fn routes_by_service_then_protocol() {
        let mut services = Services::default();
        let files = services.listen("files", "sync/1").unwrap();
        assert_eq!(services.route(b"files", b"sync/1"), Ok(files));
        assert_eq!(services.route(b"files", b"sync/2"), Err(Code::REFUSED_PROTOCOL));
        assert_eq!(services.route(b"mail", b"sync/1"), Err(Code::REFUSED_SERVICE));
        assert_eq!(services.route(b"\xff", b"sync/1"), Err(Code::REFUSED_SERVICE));
        assert_eq!(
            services.listen("files", "sync/1"),
            Err(ListenError::Taken("files".into(), "sync/1".into()))
        );
        services.unlisten(files);
        assert_eq!(services.route(b"files", b"sync/1"), Err(Code::REFUSED_SERVICE));
    }

    #[test]
    fn names_have_1_to_255_bytes() {
        let mut services = Services::default();
        assert_eq!(services.listen("", "p"), Err(ListenError::BadName));
        assert_eq!(services.listen("s", &"p".repeat(256)), Err(ListenError::BadName));
        assert!(services.listen(&"s".repeat(255), &"p".repeat(255)).is_ok());
    }
}
