//! UPnP Internet Gateway Device: the router says over UDP (SSDP) where its description is, and takes orders there over
//! HTTP. What it says is checked before anything is sent: all of it goes to the router, or nowhere.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use igd_next::aio::Gateway;
use igd_next::aio::tokio::{Tokio, search_gateway};
use igd_next::{AddPortError, GetExternalIpError, PortMappingProtocol, RequestError, SearchOptions};
use tokio::net::UdpSocket;
use tokio::time::{sleep, timeout};

use super::desk::{MappedPort, MappingError, MappingProtocol};
use super::router::Place;
use super::{Granted, LIFETIME, Wish, said};

/// Port at which routers are asked where their description is.
const SSDP: u16 = 1900;
/// Pauses between three questions there, and until it is given up.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_millis(1000),
];
/// Time for the router's description, and for each order.
const PATIENCE: Duration = Duration::from_secs(3);
/// Longest answer to a question that is read.
const LONGEST: usize = 1500;
/// Outer ports that are tried.
const TRIES: u16 = 4;
/// The name that the router shows its owner.
const NAME: &str = "sss";

/// A mapping that is held.
#[derive(Clone, Debug)]
pub(super) struct Held {
    gateway: Gateway<Tokio>,
    port: u16,
}

impl Held {
    /// Gives it back.
    pub(super) async fn give_back(self) {
        let removed = self.gateway.remove_port(PortMappingProtocol::UDP, self.port);
        // Else it ends by itself, or is taken again by the next start.
        let _ = timeout(PATIENCE, removed).await;
    }
}

/// Place of a router's description, as its answer tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Description {
    answer: Vec<u8>,
}

/// Asks the router where its description is.
pub(super) async fn describe(place: Place) -> Result<Description, MappingError> {
    let socket = to_router(place).await.ok_or(MappingError::Silent)?;
    let question = format!(
        "M-SEARCH * HTTP/1.1\r\nHOST: {}:{SSDP}\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\n\
         ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\r\n",
        place.router
    );
    let mut answer = vec![0; LONGEST];
    for pause in PAUSES {
        if socket.send(question.as_bytes()).await.is_err() {
            return Err(MappingError::Silent);
        }
        match timeout(pause, socket.recv(&mut answer)).await {
            Ok(Ok(len)) => {
                answer.truncate(len);
                check(place.router, &answer)?;
                return Ok(Description { answer });
            }
            // That nobody listens there is told by ICMP.
            Ok(Err(_)) => sleep(pause).await,
            Err(_) => {}
        }
    }
    Err(MappingError::Silent)
}

/// A socket to which the system gives nothing but what the router has sent.
async fn to_router(place: Place) -> Option<UdpSocket> {
    let socket = UdpSocket::bind((place.inside.ip(), 0)).await.ok()?;
    socket.connect((place.router, SSDP)).await.ok()?;
    Some(socket)
}

/// Checks that the description is at the router itself.
fn check(router: Ipv4Addr, answer: &[u8]) -> Result<(), MappingError> {
    let text = std::str::from_utf8(answer).map_err(|_| MappingError::Useless("it is no text".to_owned()))?;
    let location = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("location").then_some(value.trim())
    });
    let location = location.ok_or_else(|| MappingError::Useless("it has no Location".to_owned()))?;
    let at = location.strip_prefix("http://").unwrap_or_default();
    let at = at.split(['/', '?', '#']).next().unwrap_or_default();
    let host = at.rsplit_once(':').map_or(at, |(host, _)| host);
    match host.parse::<Ipv4Addr>() {
        Ok(ip) if ip == router => Ok(()),
        _ => Err(MappingError::Elsewhere(said(&location))),
    }
}

/// Asks for a mapping.
pub(super) async fn ask(place: Place, wish: Wish, description: &Description) -> Result<Granted<Held>, MappingError> {
    let gateway = gateway(place, description).await?;
    let outer = within(gateway.get_external_ip()).await?.map_err(|error| match error {
        GetExternalIpError::RequestError(why) => useless(&why),
        other => MappingError::Refused(said(&other)),
    })?;
    let (port, lifetime) = add(&gateway, wish).await?;
    let port = MappedPort {
        protocol: MappingProtocol::Upnp,
        inside: wish.inside,
        outside: SocketAddr::new(outer, port),
        asked: wish.outside,
        lifetime,
    };
    Ok(Granted {
        port,
        epoch: None,
        held: Held {
            gateway,
            port: port.outside.port(),
        },
    })
}

/// Asks for a time first, and without an end if the router knows none; for the same port as inside if it knows no
/// other, and for the next ones if it is taken.
async fn add(gateway: &Gateway<Tokio>, wish: Wish) -> Result<(u16, Option<Duration>), MappingError> {
    let (mut port, mut lifetime) = (wish.outside, Some(LIFETIME));
    let mut refusal = MappingError::Silent;
    for _ in 0..TRIES {
        let seconds = lifetime.map_or(0, |time| u32::try_from(time.as_secs()).unwrap_or(u32::MAX));
        let asked = gateway.add_port(PortMappingProtocol::UDP, port, wish.inside, seconds, NAME);
        match within(asked).await? {
            Ok(()) => return Ok((port, lifetime)),
            Err(AddPortError::OnlyPermanentLeasesSupported) if lifetime.is_some() => lifetime = None,
            Err(AddPortError::SamePortValuesRequired) if port != wish.inside.port() => port = wish.inside.port(),
            Err(AddPortError::PortInUse) => {
                refusal = MappingError::Refused(said(&AddPortError::PortInUse));
                port = port.checked_add(1).unwrap_or(wish.outside);
            }
            Err(AddPortError::RequestError(why)) => return Err(useless(&why)),
            Err(other) => return Err(MappingError::Refused(said(&other))),
        }
    }
    Err(refusal)
}

/// Reads the description. The crate asks its network where that is: it is given this host's own answer, from loopback,
/// which says what the router has said, and takes nothing from others.
async fn gateway(place: Place, description: &Description) -> Result<Gateway<Tokio>, MappingError> {
    let lost = |_| MappingError::Useless("this machine has no loopback".to_owned());
    let answering = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(lost)?;
    let mut options = SearchOptions::default();
    options.bind_addr = (Ipv4Addr::LOCALHOST, 0).into();
    options.broadcast_address = answering.local_addr().map_err(lost)?;
    options.timeout = Some(PATIENCE);
    options.allowed_gateway_ips = vec![IpAddr::V4(place.router)];
    let answer = async {
        let mut question = [0; LONGEST];
        if let Ok((_, from)) = answering.recv_from(&mut question).await {
            let _ = answering.send_to(&description.answer, from).await;
        }
        std::future::pending::<()>().await;
    };
    let found = tokio::select! {
        found = search_gateway(options) => found,
        () = answer => return Err(MappingError::Silent),
    };
    let useless =
        || MappingError::Useless("its description cannot be understood, or does not come to an end".to_owned());
    let gateway = found.map_err(|_| useless())?;
    if gateway.addr.ip() != IpAddr::V4(place.router) {
        return Err(MappingError::Elsewhere(gateway.addr.to_string()));
    }
    Ok(gateway)
}

async fn within<T>(asked: impl Future<Output = T>) -> Result<T, MappingError> {
    let late = |_| MappingError::Useless("it does not come to an end".to_owned());
    timeout(PATIENCE, asked).await.map_err(late)
}

fn useless(why: &RequestError) -> MappingError {
    match why {
        RequestError::ErrorCode(code, text) => MappingError::Refused(said(&format!("{text} ({code})"))),
        other => MappingError::Useless(said(&other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // spec: RCH-27
    #[test]
    fn a_description_elsewhere_is_not_read() {
        let router = Ipv4Addr::new(192, 0, 2, 1);
        let checked = |location: &str| check(router, format!("HTTP/1.1 200 OK\r\n{location}\r\n\r\n").as_bytes());
        for here in [
            "LOCATION: http://192.0.2.1:80/a.xml",
            "location:http://192.0.2.1/",
            "Location: http://192.0.2.1",
        ] {
            assert_eq!(checked(here), Ok(()), "{here}");
        }
        for elsewhere in [
            "LOCATION: http://192.0.2.9:80/a.xml",
            "LOCATION: http://192.0.2.1@192.0.2.9/",
            "LOCATION: http://192.0.2.1.example/",
            "LOCATION: https://192.0.2.1/",
            "LOCATION: http://127.0.0.1/",
            "LOCATION: ",
        ] {
            assert!(
                matches!(checked(elsewhere), Err(MappingError::Elsewhere(_))),
                "{elsewhere}"
            );
        }
        assert!(matches!(checked("ST: x"), Err(MappingError::Useless(_))));
        assert!(matches!(check(router, &[0xff; 40]), Err(MappingError::Useless(_))));
    }
}
