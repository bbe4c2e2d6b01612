//! The list of a host's services (docs/spec/services.md).

use crate::constants::{MAX_DESCRIPTION, MAX_NAME, MAX_SERVICE_LIST};
use crate::error::Malformed;
use crate::reader::Reader;
use crate::varint;
use crate::writer::Writer;

/// The service that every host answers itself (SVC-1).
pub const SERVICE: &str = "sss";
/// The protocol in which it lists the services of the host.
pub const PROTOCOL: &str = "services/1";

/// A service that a host offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServiceInfo {
    /// Its name: 1 to 255 bytes.
    pub name: String,
    /// Description, for people: at most 1024 bytes, which may hold control characters.
    pub description: String,
    /// Protocols spoken there, in ascending order of the names; not empty.
    pub protocols: Vec<ProtocolInfo>,
}

/// A protocol that a service speaks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProtocolInfo {
    /// Its name: 1 to 255 bytes.
    pub name: String,
    /// Description, for people: at most 1024 bytes, which may hold control characters.
    pub description: String,
}

/// Services that a host offers, as far as it tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServiceList {
    /// The services, in ascending order of their names.
    pub services: Vec<ServiceInfo>,
    /// Number of services that the host has to list. More than there are in `services` if they were too many for one
    /// list (SVC-4).
    pub total: u64,
}

impl ProtocolInfo {
    /// A protocol with this name, and what it is, for people.
    pub fn new(name: impl Into<String>, description: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            description: description.into(),
        }
    }
}

impl ServiceList {
    /// These services, out of `total` that the host has to list.
    pub fn new(services: Vec<ServiceInfo>, total: u64) -> Self {
        Self { services, total }
    }
}

impl ServiceInfo {
    /// A service with this name, what it is, for people, and what is spoken there.
    pub fn new(name: impl Into<String>, description: impl Into<String>, protocols: Vec<ProtocolInfo>) -> Self {
        Self {
            name: name.into(),
            description: description.into(),
            protocols,
        }
    }

    fn encoded_len(&self) -> usize {
        let own = text_len(&self.name, &self.description).saturating_add(varint::len(self.protocols.len() as u64));
        let protocols = self.protocols.iter().map(|p| text_len(&p.name, &p.description));
        protocols.fold(own, usize::saturating_add)
    }

    fn encode(&self, w: &mut Writer<'_>) {
        put_text(w, &self.name, &self.description);
        w.varint(self.protocols.len() as u64);
        for protocol in &self.protocols {
            put_text(w, &protocol.name, &protocol.description);
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (name, description) = text(reader)?;
        let count = reader.varint()?;
        // Each takes bytes: what is not there is not read, and no memory is taken in advance.
        let mut protocols: Vec<ProtocolInfo> = Vec::new();
        for _ in 0..count {
            let (name, description) = text(reader)?;
            in_order(protocols.last().map(|p| p.name.as_str()), &name)?;
            protocols.push(ProtocolInfo { name, description });
        }
        if protocols.is_empty() {
            return Err(Malformed("a service without protocols"));
        }
        Ok(Self {
            name,
            description,
            protocols,
        })
    }
}

impl ServiceList {
    /// The list of `services`, which must be in ascending order of their names. Those that do not fit are left out
    /// (SVC-4).
    pub fn encode(services: &[ServiceInfo]) -> Vec<u8> {
        let total = services.len() as u64;
        let mut len = varint::len(total);
        let mut listed = 0;
        for service in services {
            let with = len.saturating_add(service.encoded_len());
            if with > MAX_SERVICE_LIST {
                break;
            }
            len = with;
            listed = usize::saturating_add(listed, 1);
        }
        let mut bytes = vec![0; len];
        let mut w = Writer::new(&mut bytes);
        w.varint(total);
        services.iter().take(listed).for_each(|service| service.encode(&mut w));
        bytes
    }

    /// Reads a whole list.
    ///
    /// # Errors
    /// If it is not as SVC-3 and SVC-4 say.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > MAX_SERVICE_LIST {
            return Err(Malformed("a list of services that is too long"));
        }
        let mut reader = Reader::new(bytes);
        let total = reader.varint()?;
        let mut services: Vec<ServiceInfo> = Vec::new();
        while !reader.is_empty() {
            let service = ServiceInfo::decode(&mut reader)?;
            in_order(services.last().map(|s| s.name.as_str()), &service.name)?;
            services.push(service);
        }
        if services.len() as u64 > total {
            return Err(Malformed("more services than the host has"));
        }
        Ok(Self { services, total })
    }

    /// Returns whether no service was left out for want of room.
    pub fn is_complete(&self) -> bool {
        self.services.len() as u64 == self.total
    }
}

fn text_len(name: &str, description: &str) -> usize {
    let lengths = varint::len(description.len() as u64).saturating_add(1);
    lengths.saturating_add(name.len()).saturating_add(description.len())
}

fn put_text(w: &mut Writer<'_>, name: &str, description: &str) {
    debug_assert!(!name.is_empty() && description.len() <= MAX_DESCRIPTION);
    w.bytes8(name.as_bytes());
    w.bytesv(description.as_bytes());
}

fn text(reader: &mut Reader<'_>) -> Result<(String, String), Malformed> {
    let utf8 = |bytes: &[u8]| {
        let text = std::str::from_utf8(bytes).map_err(|_| Malformed("a name or description that is not UTF-8"));
        text.map(str::to_owned)
    };
    let name = utf8(reader.bytes8()?)?;
    let description = reader.bytesv()?;
    if name.is_empty() {
        return Err(Malformed("a name without bytes"));
    }
    if description.len() > MAX_DESCRIPTION {
        return Err(Malformed("a description that is too long"));
    }
    Ok((name, utf8(description)?))
}

fn in_order(before: Option<&str>, name: &str) -> Result<(), Malformed> {
    match before {
        Some(before) if before >= name => Err(Malformed("names out of order")),
        _ => Ok(()),
    }
}

const _: () = assert!(MAX_NAME == u8::MAX, "a name has a length of one byte");

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, description: &str, protocols: &[&str]) -> ServiceInfo {
        ServiceInfo {
            name: name.to_owned(),
            description: description.to_owned(),
            protocols: protocols
                .iter()
                .map(|name| ProtocolInfo {
                    name: (*name).to_owned(),
                    description: format!("the protocol {name}"),
                })
                .collect(),
        }
    }

    // spec: SVC-4
    #[test]
    fn services_that_do_not_fit_are_left_out_and_the_reader_knows() {
        let long = "x".repeat(MAX_DESCRIPTION);
        let services: Vec<_> = (0..100)
            .map(|i| service(&format!("{i:03}"), &long, &["1", "2"]))
            .collect();
        let bytes = ServiceList::encode(&services);
        assert!(bytes.len() <= MAX_SERVICE_LIST && bytes.len() > MAX_SERVICE_LIST - 1200);
        let list = ServiceList::decode(&bytes).unwrap();
        assert_eq!((list.total, list.is_complete()), (100, false));
        assert_eq!(list.services, services[..list.services.len()]);
        assert!(list.services.len() > 55, "{}", list.services.len());
        let whole = ServiceList::decode(&ServiceList::encode(&services[..20])).unwrap();
        assert!(whole.is_complete());
        assert_eq!(whole.services, services[..20]);
    }

    // spec: SVC-4
    #[test]
    fn lists_that_break_the_rules_are_refused() {
        let good = ServiceList::encode(&[service("a", "", &["1", "2"]), service("b", "", &["1"])]);
        assert!(ServiceList::decode(&good).is_ok());
        let wrong = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = good.clone();
            change(&mut bytes);
            ServiceList::decode(&bytes).unwrap_err().0
        };
        assert_eq!(wrong(&|b| b[0] = 1), "more services than the host has");
        assert_eq!(wrong(&|b| b[2] = b'c'), "names out of order");
        assert_eq!(wrong(&|b| b[2] = b'b'), "names out of order");
        assert_eq!(wrong(&|b| b[2] = 0xff), "a name or description that is not UTF-8");
        assert_eq!(wrong(&|b| b.truncate(b.len() - 1)), "truncated");
        assert_eq!(
            wrong(&|b| b.resize(MAX_SERVICE_LIST + 1, 0)),
            "a list of services that is too long"
        );
        assert_eq!(
            ServiceList::decode(&[1, 0, 0, 0]),
            Err(Malformed("a name without bytes"))
        );
        assert_eq!(
            ServiceList::decode(&[1, 1, b'a', 0, 0]),
            Err(Malformed("a service without protocols"))
        );
        let mut long = vec![1, 1, b'a', 0x44, 0x01];
        long.resize(long.len() + 1025, b'x');
        assert_eq!(
            ServiceList::decode(&long),
            Err(Malformed("a description that is too long"))
        );
        assert_eq!(ServiceList::decode(&[0]), Ok(ServiceList::default()));
    }
}
