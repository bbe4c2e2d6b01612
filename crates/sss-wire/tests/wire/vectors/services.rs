//! Lists of services.

use serde::Deserialize;
use sss_wire::services::{ProtocolInfo, ServiceInfo, ServiceList};

use super::{Lists, load, number, written};
use crate::{hex, unhex};

#[derive(Deserialize)]
struct Listed {
    name: String,
    total: String,
    services: Vec<Service>,
    hex: String,
    canonical: bool,
}

#[derive(Deserialize)]
struct Service {
    name: String,
    description: String,
    protocols: Vec<Protocol>,
}

#[derive(Deserialize)]
struct Protocol {
    name: String,
    description: String,
}

impl From<Service> for ServiceInfo {
    fn from(service: Service) -> Self {
        let protocol = |p: Protocol| ProtocolInfo::new(p.name, p.description);
        let protocols = service.protocols.into_iter().map(protocol).collect();
        Self::new(service.name, service.description, protocols)
    }
}

// spec: SVC-3, VEC-3, VEC-10
#[test]
fn lists_of_services() {
    let file: Lists<Listed> = load("services.json");
    for v in file.valid {
        let services: Vec<ServiceInfo> = v.services.into_iter().map(Into::into).collect();
        let list = ServiceList::decode(&unhex(&v.hex)).unwrap_or_else(|e| panic!("{}: {e}", v.name));
        assert_eq!(
            (&list.services, list.total),
            (&services, number(&v.total)),
            "{}",
            v.name
        );
        // A host that had more to list says so, and writes the rest alike.
        let listed = ServiceList::encode(&services);
        let rest = &listed[sss_wire::varint::len(services.len() as u64)..];
        let total = written(sss_wire::varint::len(list.total), |w| w.varint(list.total));
        assert_eq!(total + &hex(rest) == v.hex, v.canonical, "{}", v.name);
    }
    for v in file.invalid {
        assert!(ServiceList::decode(&unhex(&v.hex)).is_err(), "{}", v.name);
    }
}
