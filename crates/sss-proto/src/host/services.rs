//! The services of a host: which (service, protocol) pairs it takes streams for, the streams not yet accepted, and what
//! it tells of them.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use slab::Slab;
use sss_wire::constants::{MAX_DESCRIPTION, MAX_NAME};
use sss_wire::services::{self, ProtocolInfo, ServiceInfo, ServiceList};
use sss_wire::{Code, Eid};

use crate::error::{ListenError, OpenError};
use crate::ids::{ListenerId, PeerId, StreamId};

/// A stream that waits to be accepted.
pub(crate) type Waiting = (StreamId, Eid);

/// Visibility of a service to peers that ask for the services of a host (SVC-5). It can be connected to all the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Visibility {
    /// They do.
    #[default]
    Listed,
    /// They do not.
    Hidden,
}

/// Checks the names of a service and a protocol to which a stream is to be opened.
///
/// # Errors
/// If one is empty or longer than 255 bytes: nobody can offer that (SVC-3).
pub fn check_names(service: &str, protocol: &str) -> Result<(), OpenError> {
    let is_long = |name: &str| name.len() > usize::from(MAX_NAME);
    match (service, protocol) {
        ("", _) | (_, "") => Err(OpenError::NameEmpty),
        (service, protocol) if is_long(service) || is_long(protocol) => Err(OpenError::NameTooLong),
        _ => Ok(()),
    }
}

/// Taker of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recipient {
    Listener(ListenerId),
    /// The host itself: it answers with the list of services (SVC-1).
    List,
}

#[derive(Debug)]
struct Listener {
    service: String,
    protocols: Vec<String>,
    /// Description of the service by the application.
    description: String,
    visibility: Visibility,
    waiting: VecDeque<Waiting>,
    /// The number of them that each peer has.
    backlogs: BTreeMap<PeerId, usize>,
    /// True if the application found nothing to accept and wants to be told.
    wanted: bool,
}

/// A protocol of a service, and who listens for it.
#[derive(Debug)]
struct Protocol {
    listener: u32,
    description: String,
}

/// The registered listeners.
#[derive(Debug, Default)]
pub(crate) struct Services {
    /// Streams of one peer that may wait for one listener.
    backlog: usize,
    listeners: Slab<Listener>,
    /// Service to protocol to listener.
    names: BTreeMap<String, BTreeMap<String, Protocol>>,
    /// The list of services as peers get it, until something changes.
    list: Option<Bytes>,
}

impl Services {
    /// No services, of which each lets so many streams of one peer wait.
    pub(crate) fn new(backlog: usize) -> Self {
        Self {
            backlog,
            ..Self::default()
        }
    }

    /// Returns whether nobody listens. What hosts agree on with their peers (RCH-29) is no service.
    pub(crate) fn is_empty(&self) -> bool {
        let is_agreement =
            |one: &Listener| one.service == services::SERVICE && one.protocols == [sss_wire::reach::spray::PROTOCOL];
        self.listeners.iter().all(|(_, one)| is_agreement(one))
    }

    pub(crate) fn offer(&mut self, service: &ServiceInfo, visibility: Visibility) -> Result<ListenerId, ListenError> {
        // SVC-1
        if service.name == services::SERVICE {
            return Err(ListenError::Reserved(service.name.clone()));
        }
        self.insert(service, visibility)
    }

    /// Offers a protocol of the reserved service, which applications cannot offer (SVC-1, RCH-1).
    pub(crate) fn offer_own(&mut self, protocol: &str) -> Result<ListenerId, ListenError> {
        let protocols = vec![ProtocolInfo::new(protocol, "")];
        self.insert(&ServiceInfo::new(services::SERVICE, "", protocols), Visibility::Hidden)
    }

    fn insert(&mut self, service: &ServiceInfo, visibility: Visibility) -> Result<ListenerId, ListenError> {
        self.check(service)?;
        let index = self.listeners.insert(Listener {
            service: service.name.clone(),
            protocols: service.protocols.iter().map(|p| p.name.clone()).collect(),
            description: service.description.clone(),
            visibility,
            waiting: VecDeque::new(),
            backlogs: BTreeMap::new(),
            wanted: false,
        });
        let id = u32::try_from(index).unwrap_or(u32::MAX);
        let protocols = self.names.entry(service.name.clone()).or_default();
        for protocol in &service.protocols {
            let description = protocol.description.clone();
            let entry = Protocol {
                listener: id,
                description,
            };
            protocols.insert(protocol.name.clone(), entry);
        }
        self.list = None;
        Ok(ListenerId(id))
    }

    fn check(&self, service: &ServiceInfo) -> Result<(), ListenError> {
        let mut texts = vec![(&service.name, &service.description)];
        texts.extend(service.protocols.iter().map(|p| (&p.name, &p.description)));
        if texts
            .iter()
            .any(|(n, _)| n.is_empty() || n.len() > usize::from(MAX_NAME))
        {
            return Err(ListenError::BadName);
        }
        if texts.iter().any(|(_, d)| d.len() > MAX_DESCRIPTION) {
            return Err(ListenError::BadDescription);
        }
        if service.protocols.is_empty() {
            return Err(ListenError::NoProtocol(service.name.clone()));
        }
        let known = self.names.get(&service.name);
        for (i, protocol) in service.protocols.iter().enumerate() {
            let is_twice = service.protocols.iter().take(i).any(|p| p.name == protocol.name);
            if is_twice || known.is_some_and(|k| k.contains_key(&protocol.name)) {
                return Err(ListenError::Taken(service.name.clone(), protocol.name.clone()));
            }
        }
        Ok(())
    }

    /// Removes a listener and returns the streams that nobody will accept now.
    pub(crate) fn unlisten(&mut self, id: ListenerId) -> VecDeque<Waiting> {
        let Some(listener) = self.listeners.try_remove(id.0 as usize) else {
            return VecDeque::new();
        };
        if let Some(protocols) = self.names.get_mut(&listener.service) {
            for protocol in &listener.protocols {
                protocols.remove(protocol);
            }
            if protocols.is_empty() {
                self.names.remove(&listener.service);
            }
        }
        self.list = None;
        listener.waiting
    }

    /// Finds who takes a stream for `service` and `protocol`, or the code with which it is refused (STR-9).
    pub(crate) fn route(&self, service: &[u8], protocol: &[u8]) -> Result<Recipient, Code> {
        let is_own = service == services::SERVICE.as_bytes();
        if is_own && protocol == services::PROTOCOL.as_bytes() {
            return Ok(Recipient::List);
        }
        let text = |bytes| std::str::from_utf8(bytes).ok();
        let unknown = if is_own {
            Code::REFUSED_PROTOCOL
        } else {
            Code::REFUSED_SERVICE
        };
        let protocols = text(service).and_then(|s| self.names.get(s)).ok_or(unknown)?;
        let protocol = text(protocol)
            .and_then(|p| protocols.get(p))
            .ok_or(Code::REFUSED_PROTOCOL)?;
        Ok(Recipient::Listener(ListenerId(protocol.listener)))
    }

    /// The list of services as it travels (SVC-3). Made once after each change, and shared by all who get it.
    pub(crate) fn list(&mut self) -> Bytes {
        if let Some(list) = &self.list {
            return list.clone();
        }
        let list = Bytes::from(ServiceList::encode(&self.listed()));
        self.list = Some(list.clone());
        list
    }

    /// Returns what is not hidden, in the order of the names. A service that was offered piece by piece has the first
    /// description that any piece has.
    fn listed(&self) -> Vec<ServiceInfo> {
        let mut listed = Vec::new();
        for (name, protocols) in &self.names {
            let mut service = ServiceInfo::new(name, "", Vec::new());
            for (name, protocol) in protocols {
                let Some(listener) = self.listeners.get(protocol.listener as usize) else {
                    continue;
                };
                if listener.visibility == Visibility::Hidden {
                    continue;
                }
                if service.description.is_empty() {
                    service.description.clone_from(&listener.description);
                }
                service.protocols.push(ProtocolInfo::new(name, &protocol.description));
            }
            if !service.protocols.is_empty() {
                listed.push(service);
            }
        }
        listed
    }

    /// Queues a stream, unless so many of its peer wait for this listener (SVC-9). True if the application waits for
    /// one and must be told.
    pub(crate) fn push(&mut self, id: ListenerId, stream: Waiting) -> Result<bool, Code> {
        let listener = self.listeners.get_mut(id.0 as usize).ok_or(Code::REFUSED_SERVICE)?;
        let count = listener.backlogs.entry(stream.0.peer).or_default();
        if *count >= self.backlog {
            return Err(Code::BACKLOG);
        }
        *count += 1;
        listener.waiting.push_back(stream);
        Ok(std::mem::take(&mut listener.wanted))
    }

    /// The next stream to accept. `None` asks to be told when there is one.
    pub(crate) fn accept(&mut self, id: ListenerId) -> Option<Waiting> {
        let listener = self.listeners.get_mut(id.0 as usize)?;
        let next = listener.waiting.pop_front();
        listener.wanted = next.is_none();
        if let Some((stream, _)) = &next
            && let Some(count) = listener.backlogs.get_mut(&stream.peer)
        {
            *count -= 1;
            if *count == 0 {
                listener.backlogs.remove(&stream.peer);
            }
        }
        next
    }

    /// The streams of a peer have ended: none of them waits any more.
    pub(crate) fn forget(&mut self, peer: PeerId) {
        for (_, listener) in &mut self.listeners {
            if listener.backlogs.remove(&peer).is_some() {
                listener.waiting.retain(|(stream, _)| stream.peer != peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::StreamKey;

    fn service(name: &str, description: &str, protocols: &[(&str, &str)]) -> ServiceInfo {
        let protocol = |(name, description): &(&str, &str)| ProtocolInfo::new(*name, *description);
        ServiceInfo::new(name, description, protocols.iter().map(protocol).collect())
    }

    fn listen(services: &mut Services, name: &str, protocol: &str) -> Result<ListenerId, ListenError> {
        services.offer(&service(name, "", &[(protocol, "")]), Visibility::Listed)
    }

    fn told(services: &mut Services) -> Vec<ServiceInfo> {
        ServiceList::decode(&services.list()).unwrap().services
    }

    // spec: STR-9
    #[test]
    fn routes_by_service_then_protocol() {
        let mut services = Services::default();
        let files = listen(&mut services, "files", "sync/1").unwrap();
        assert_eq!(services.route(b"files", b"sync/1"), Ok(Recipient::Listener(files)));
        assert_eq!(services.route(b"files", b"sync/2"), Err(Code::REFUSED_PROTOCOL));
        assert_eq!(services.route(b"mail", b"sync/1"), Err(Code::REFUSED_SERVICE));
        assert_eq!(services.route(b"\xff", b"sync/1"), Err(Code::REFUSED_SERVICE));
        assert_eq!(
            listen(&mut services, "files", "sync/1"),
            Err(ListenError::Taken("files".into(), "sync/1".into()))
        );
        services.unlisten(files);
        assert_eq!(services.route(b"files", b"sync/1"), Err(Code::REFUSED_SERVICE));
    }

    // spec: SVC-1
    #[test]
    fn the_service_of_the_protocol_itself_cannot_be_taken() {
        let mut services = Services::default();
        assert_eq!(services.route(b"sss", b"services/1"), Ok(Recipient::List));
        assert_eq!(services.route(b"sss", b"services/2"), Err(Code::REFUSED_PROTOCOL));
        for protocol in ["services/1", "mine"] {
            assert_eq!(
                listen(&mut services, "sss", protocol),
                Err(ListenError::Reserved("sss".into()))
            );
        }
        assert_eq!(told(&mut services), []);
    }

    #[test]
    fn names_have_1_to_255_bytes_and_descriptions_at_most_1024() {
        let mut services = Services::default();
        assert_eq!(listen(&mut services, "", "p"), Err(ListenError::BadName));
        assert_eq!(listen(&mut services, "s", &"p".repeat(256)), Err(ListenError::BadName));
        assert!(listen(&mut services, &"s".repeat(255), &"p".repeat(255)).is_ok());
        let long = "d".repeat(1025);
        for (a, b) in [(long.as_str(), ""), ("", long.as_str())] {
            let offered = services.offer(&service("s", a, &[("p", b)]), Visibility::Listed);
            assert_eq!(offered, Err(ListenError::BadDescription));
        }
        let offered = services.offer(&service("s", "", &[]), Visibility::Listed);
        assert_eq!(offered, Err(ListenError::NoProtocol("s".into())));
    }

    #[test]
    fn one_listener_takes_all_protocols_of_an_offer_or_none() {
        let mut services = Services::default();
        let both = services.offer(
            &service("files", "Files", &[("2", "New"), ("1", "Old")]),
            Visibility::Listed,
        );
        let both = both.unwrap();
        assert_eq!(services.route(b"files", b"1"), Ok(Recipient::Listener(both)));
        assert_eq!(services.route(b"files", b"2"), Ok(Recipient::Listener(both)));
        let overlapping = service("files", "", &[("3", ""), ("2", "")]);
        assert_eq!(
            services.offer(&overlapping, Visibility::Listed),
            Err(ListenError::Taken("files".into(), "2".into()))
        );
        assert_eq!(services.route(b"files", b"3"), Err(Code::REFUSED_PROTOCOL));
        let twice = service("x", "", &[("1", ""), ("1", "")]);
        assert!(matches!(
            services.offer(&twice, Visibility::Listed),
            Err(ListenError::Taken(..))
        ));
        services.unlisten(both);
        assert_eq!(services.route(b"files", b"1"), Err(Code::REFUSED_SERVICE));
    }

    #[test]
    fn the_list_says_what_is_not_hidden_and_follows_changes() {
        let mut services = Services::default();
        services
            .offer(&service("z", "Last", &[("1", "")]), Visibility::Listed)
            .unwrap();
        services
            .offer(&service("a", "", &[("1", "Old")]), Visibility::Listed)
            .unwrap();
        let offered = services.offer(&service("a", "First", &[("2", "New")]), Visibility::Listed);
        services
            .offer(&service("a", "Secret", &[("0", "")]), Visibility::Hidden)
            .unwrap();
        services
            .offer(&service("m", "Secret", &[("1", "")]), Visibility::Hidden)
            .unwrap();
        let last = service("z", "Last", &[("1", "")]);
        let expected = [service("a", "First", &[("1", "Old"), ("2", "New")]), last.clone()];
        assert_eq!(told(&mut services), expected);
        assert!(services.route(b"m", b"1").is_ok());
        services.unlisten(offered.unwrap());
        assert_eq!(told(&mut services), [service("a", "", &[("1", "Old")]), last]);
    }

    // spec: SVC-9
    #[test]
    fn so_many_streams_of_a_peer_wait_for_a_service_and_no_more() {
        let mut services = Services::new(2);
        let [one, other] = ["a", "b"].map(|name| listen(&mut services, name, "1").unwrap());
        let peer = |index| PeerId { index, generation: 0 };
        let stream = |at, index| {
            let key = StreamKey { index, generation: 0 };
            (StreamId { peer: peer(at), key }, Eid::from_public_key(&[1; 32]))
        };
        assert_eq!(services.push(one, stream(1, 1)), Ok(false));
        assert_eq!(services.push(one, stream(1, 2)), Ok(false));
        assert_eq!(services.push(one, stream(1, 3)), Err(Code::BACKLOG));
        assert_eq!(services.push(one, stream(2, 1)), Ok(false), "another peer");
        assert_eq!(services.push(other, stream(1, 3)), Ok(false), "another service");
        assert_eq!(services.accept(one).map(|(s, _)| s.key.index), Some(1));
        assert_eq!(services.push(one, stream(1, 4)), Ok(false));
        services.forget(peer(1));
        let left: Vec<_> = std::iter::from_fn(|| services.accept(one))
            .map(|(s, _)| s.peer)
            .collect();
        assert_eq!(left, [peer(2)]);
        assert!(services.listeners.iter().all(|(_, l)| l.backlogs.is_empty()));
    }
}
