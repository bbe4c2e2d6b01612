//! Pinholes in firewalls of IPv6, by PCP (RFC 6887): MAP for the host's own address and port.
//!
//! It is written here since a router takes MAP from the very address that it is for alone, also where its own is
//! link-local, and the crate for IPv4 leaves the choice of the source to the system.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use sss_proto::{AddressScope, Route, is_usable};
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::desk::{MappedPort, MappingError, MappingProtocol};
use super::router::PlaceSix;
use super::{Granted, LIFETIME};

/// The UDP port of routers that speak PCP.
const PORT: u16 = 5351;
const VERSION: u8 = 2;
const MAP: u8 = 1;
const RESPONSE: u8 = 0x80;
const UDP: u8 = 17;
/// Bytes of a request, and of an answer without options.
const SIZE: usize = 60;
/// Longest answer that is looked at (RFC 6887, section 7).
const LONGEST: usize = 1100;
/// Pauses between three requests, and until it is given up.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_millis(1000),
];

type Nonce = [u8; 12];

/// A pinhole that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    place: PlaceSix,
    nonce: Nonce,
}

impl Held {
    /// Closes it.
    pub(super) async fn give_back(self) {
        // Else it closes by itself.
        let _ = self.send(Duration::ZERO).await;
    }

    fn request(&self, lifetime: Duration) -> [u8; SIZE] {
        let (ip, port) = (octets(self.place.inside.ip()), self.place.inside.port().to_be_bytes());
        let seconds = u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX);
        // To close one, outer address and port are zeros (RFC 6887, section 15).
        let (outer_ip, outer_port) = match seconds {
            0 => ([0; 16], [0; 2]),
            _ => (ip, port),
        };
        let parts: [&[u8]; 9] = [
            &[VERSION, MAP, 0, 0],
            &seconds.to_be_bytes(),
            &ip,
            &self.nonce,
            &[UDP, 0, 0, 0],
            &port,
            &outer_port,
            &outer_ip,
            &[],
        ];
        let mut request = [0; SIZE];
        for (to, from) in request.iter_mut().zip(parts.into_iter().flatten()) {
            *to = *from;
        }
        request
    }

    /// Sends the request until it is answered. The system gives the socket nothing but what the router sends.
    async fn send(&self, lifetime: Duration) -> Result<Answer, MappingError> {
        let silent = |_| MappingError::Silent;
        let socket = UdpSocket::bind((self.place.inside.ip(), 0)).await.map_err(silent)?;
        let scope = match self.place.router.is_unicast_link_local() {
            true => self.place.scope,
            false => 0,
        };
        let router = SocketAddrV6::new(self.place.router, PORT, 0, scope);
        socket.connect(router).await.map_err(silent)?;
        let request = self.request(lifetime);
        let mut bytes = [0; LONGEST];
        for pause in PAUSES {
            let until = Instant::now() + pause;
            // That nobody listens there is told by ICMP.
            let is_sent = socket.send(&request).await.is_ok();
            loop {
                match timeout_at(until, socket.recv(&mut bytes)).await {
                    Ok(Ok(length)) if is_sent => match self.answer(bytes.get(..length).unwrap_or_default()) {
                        Some(answer) => return answer,
                        None => continue,
                    },
                    Ok(_) => sleep_until(until).await,
                    Err(_) => {}
                }
                break;
            }
        }
        Err(MappingError::Silent)
    }

    /// Meaning of an answer; `None` if it is none to this request.
    fn answer(&self, bytes: &[u8]) -> Option<Result<Answer, MappingError>> {
        let part = |at: usize, length: usize| bytes.get(at..at + length);
        let number = |at: usize| part(at, 4)?.try_into().ok().map(u32::from_be_bytes);
        if part(0, 2)? != [VERSION, MAP | RESPONSE] {
            // What speaks NAT-PMP alone answers with its version.
            return (*bytes.first()? < VERSION).then_some(Err(MappingError::Silent));
        }
        let (result, lifetime, epoch) = (*bytes.get(3)?, number(4)?, number(8)?);
        let port = self.place.inside.port().to_be_bytes();
        let is_ours = part(24, 12)? == self.nonce && *bytes.get(36)? == UDP && part(40, 2)? == port;
        if !is_ours {
            return None;
        }
        if result != 0 {
            return Some(Err(MappingError::Refused(reason(result).to_owned())));
        }
        let outer: [u8; 16] = part(44, 16)?.try_into().ok()?;
        let outer_port: [u8; 2] = part(42, 2)?.try_into().ok()?;
        Some(Ok(Answer {
            outside: SocketAddr::new(Ipv6Addr::from(outer).to_canonical(), u16::from_be_bytes(outer_port)),
            lifetime: Duration::from_secs(lifetime.into()),
            epoch,
        }))
    }
}

/// Answer of a router that has let the port in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answer {
    outside: SocketAddr,
    lifetime: Duration,
    epoch: u32,
}

fn octets(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// Words for a result code (RFC 6887, section 7.4).
fn reason(code: u8) -> &'static str {
    match code {
        1 => "it speaks another version",
        2 => "not authorized",
        3 | 5 | 6 => "it does not understand the request",
        4 => "it does not map ports",
        7 => "its own network fails",
        8 => "it has no resources",
        9 => "it does not know UDP",
        10 => "this host has too many",
        11 => "it cannot provide that address or port",
        12 => "it sees the request come from another address",
        13 => "too many remote peers",
        _ => "for a reason that is not known",
    }
}

/// Checks what a router says that it lets in. The address may be another one, where it translates prefixes (RFC 6296).
fn check(answer: &Answer, inside: SocketAddr) -> Result<(), MappingError> {
    let outside = answer.outside;
    let useless = |why: String| Err(MappingError::Useless(why));
    if answer.lifetime.is_zero() || outside.port() == 0 {
        return useless("it lets nothing in, and says that it does".to_owned());
    }
    if outside.port() != inside.port() {
        return useless(format!(
            "it lets in port {}, and was not asked for that",
            outside.port()
        ));
    }
    let is_global = is_usable(&Route::from(outside)) && AddressScope::from(outside.ip()) == AddressScope::Global;
    if !outside.is_ipv6() || !is_global {
        return useless(format!(
            "it lets {} in, which is no host's address out there",
            outside.ip()
        ));
    }
    Ok(())
}

/// Asks for a pinhole, for the same one if there is one.
pub(super) async fn ask(place: PlaceSix, before: Option<Held>) -> Result<Granted<Held>, MappingError> {
    let held = match before.filter(|held| held.place == place) {
        Some(held) => held,
        None => {
            let mut nonce = Nonce::default();
            getrandom::fill(&mut nonce).map_err(|_| MappingError::Silent)?;
            Held { place, nonce }
        }
    };
    let answer = held.send(LIFETIME).await?;
    check(&answer, place.inside)?;
    Ok(Granted {
        port: MappedPort {
            protocol: MappingProtocol::Pcp,
            inside: place.inside,
            outside: answer.outside,
            asked: place.inside.port(),
            lifetime: Some(answer.lifetime),
        },
        epoch: Some(answer.epoch),
        held,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held() -> Held {
        Held {
            place: PlaceSix {
                router: "fe80::1".parse().unwrap(),
                scope: 2,
                inside: "[2001:db8::7]:7757".parse().unwrap(),
            },
            nonce: [9; 12],
        }
    }

    fn answer(result: u8, outside: &str) -> Vec<u8> {
        let outside: SocketAddr = outside.parse().unwrap();
        let mut bytes = held().request(LIFETIME).to_vec();
        bytes[1] |= RESPONSE;
        bytes[3] = result;
        bytes[4..8].copy_from_slice(&900_u32.to_be_bytes());
        bytes[8..12].copy_from_slice(&77_u32.to_be_bytes());
        bytes[42..44].copy_from_slice(&outside.port().to_be_bytes());
        bytes[44..60].copy_from_slice(&octets(outside.ip()));
        bytes
    }

    // spec: RCH-56
    #[test]
    fn a_pinhole_is_asked_for_and_given_back_by_one_datagram_each() {
        let request = held().request(Duration::from_secs(1800));
        assert_eq!(request[..8], [2, 1, 0, 0, 0, 0, 7, 8]);
        let own = "2001:db8::7".parse::<Ipv6Addr>().unwrap().octets();
        assert_eq!((&request[8..24], &request[44..60]), (&own[..], &own[..]));
        assert_eq!(request[24..40], [&[9; 12][..], &[17, 0, 0, 0]].concat());
        assert_eq!(request[40..44], [0x1e, 0x4d, 0x1e, 0x4d]);
        let back = held().request(Duration::ZERO);
        assert_eq!((&back[4..8], &back[42..60]), (&[0; 4][..], &[0; 18][..]));
        assert_eq!((&back[..4], &back[8..42]), (&request[..4], &request[8..42]));
    }

    // spec: RCH-56
    #[test]
    fn an_answer_is_one_to_the_very_request() {
        let own = "[2001:db8::7]:7757";
        let good = answer(0, own);
        let read = held().answer(&good).unwrap().unwrap();
        assert_eq!((read.outside, read.epoch), (own.parse().unwrap(), 77));
        assert_eq!(read.lifetime, Duration::from_secs(900));
        // Options behind it mean nothing here.
        assert!(held().answer(&[&good[..], &[0; 8]].concat()).is_some());
        for length in 2..good.len() {
            assert_eq!(held().answer(&good[..length]), None, "{length}");
        }
        for at in [1, 24, 36, 40] {
            let mut other = good.clone();
            other[at] ^= 1;
            assert_eq!(held().answer(&other), None, "{at}");
        }
        let refused = held().answer(&answer(2, own));
        assert_eq!(refused, Some(Err(MappingError::Refused("not authorized".to_owned()))));
        assert_eq!(held().answer(&[0; 8]), Some(Err(MappingError::Silent)));
    }

    // spec: RCH-56
    #[test]
    fn what_a_router_cannot_have_let_in_is_not_believed() {
        let check = |outside: &str| {
            check(
                &held().answer(&answer(0, outside)).unwrap().unwrap(),
                held().place.inside,
            )
        };
        assert_eq!(check("[2001:db8::7]:7757"), Ok(()));
        assert_eq!(check("[2001:db8:1::7]:7757"), Ok(()), "another prefix");
        for outside in [
            "[2001:db8::7]:12345",
            "[2001:db8::7]:0",
            "[::1]:7757",
            "[fd00::7]:7757",
            "[fe80::7]:7757",
            "[ff0e::7]:7757",
            "[::]:7757",
            "198.51.100.7:7757",
        ] {
            assert!(matches!(check(outside), Err(MappingError::Useless(_))), "{outside}");
        }
    }
}
