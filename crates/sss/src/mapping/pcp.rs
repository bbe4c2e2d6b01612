//! PCP (RFC 6887), and NAT-PMP (RFC 6886), from which it comes: one datagram there, and one back.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

use crab_nat::pcp::{BaseMapRequest, Nonce};
use crab_nat::{InternetProtocol, PortMapping, PortMappingOptions, PortMappingType, TimeoutConfig, natpmp, pcp};

use super::desk::{MappedPort, MappingError, MappingProtocol};
use super::router::Place;
use super::{Granted, LIFETIME, Wish, said};

/// Times for an answer: three datagrams in 1.75 s.
const TIMES: TimeoutConfig = TimeoutConfig {
    initial_timeout: Duration::from_millis(250),
    max_retries: 2,
    max_retry_timeout: None,
};

/// A mapping that is held.
#[derive(Clone, Debug)]
pub(super) struct Held(PortMapping);

impl Held {
    /// The number by which the same mapping is meant again.
    fn nonce(&self) -> Option<Nonce> {
        match self.0.mapping_type() {
            PortMappingType::Pcp { nonce, .. } => Some(nonce),
            PortMappingType::NatPmp => None,
        }
    }

    /// Gives it back.
    pub(super) async fn give_back(self) {
        // Else it ends by itself.
        let _ = self.0.try_drop().await;
    }
}

fn options(wish: Wish) -> Option<(NonZeroU16, PortMappingOptions)> {
    let options = PortMappingOptions {
        external_port: NonZeroU16::new(wish.outside),
        lifetime_seconds: Some(u32::try_from(LIFETIME.as_secs()).unwrap_or(u32::MAX)),
        timeout_config: Some(TIMES),
    };
    Some((NonZeroU16::new(wish.inside.port())?, options))
}

fn granted(protocol: MappingProtocol, wish: Wish, outside: IpAddr, mapping: &PortMapping) -> Granted<Held> {
    Granted {
        port: MappedPort {
            protocol,
            inside: wish.inside,
            outside: SocketAddr::new(outside, mapping.external_port().get()),
            asked: wish.outside,
            lifetime: Some(Duration::from_secs(mapping.lifetime().into())),
        },
        epoch: Some(mapping.gateway_epoch()),
        held: Held(mapping.clone()),
    }
}

/// Asks by PCP, for the same mapping if there is one.
pub(super) async fn ask(place: Place, wish: Wish, before: Option<Held>) -> Result<Granted<Held>, MappingError> {
    let (port, options) = options(wish).ok_or(MappingError::Silent)?;
    let client = place.inside.ip();
    let request = BaseMapRequest::new(place.router.into(), client, InternetProtocol::Udp, port);
    let nonce = before.and_then(|held| held.nonce());
    let mapping = pcp::port_mapping(request, nonce, None, options)
        .await
        .map_err(why_not)?;
    match mapping.mapping_type() {
        PortMappingType::Pcp { external_ip, .. } => Ok(granted(MappingProtocol::Pcp, wish, external_ip, &mapping)),
        PortMappingType::NatPmp => Err(MappingError::Silent),
    }
}

/// Asks by NAT-PMP for the router's outer address: whether it is spoken.
pub(super) async fn outer_address(place: Place) -> Result<Ipv4Addr, MappingError> {
    let asked = natpmp::external_address(place.router.into(), Some(TIMES)).await;
    asked.map_err(why_not_before)
}

/// Asks by NAT-PMP for a mapping at the router's outer address.
pub(super) async fn ask_by_pmp(place: Place, wish: Wish, outer: Ipv4Addr) -> Result<Granted<Held>, MappingError> {
    let (port, options) = options(wish).ok_or(MappingError::Silent)?;
    let asked = natpmp::port_mapping(place.router.into(), InternetProtocol::Udp, port, options).await;
    let mapping = asked.map_err(why_not_before)?;
    Ok(granted(MappingProtocol::NatPmp, wish, outer.into(), &mapping))
}

fn why_not(failure: pcp::Failure) -> MappingError {
    use pcp::Failure::{InvalidResponse, Nonce, Socket, Timeout, UnsupportedVersion};
    match failure {
        // That nobody listens there is told by ICMP.
        Timeout | Socket(_) | UnsupportedVersion(_) => MappingError::Silent,
        other @ (InvalidResponse(_) | Nonce) => MappingError::Useless(said(&other)),
        other => MappingError::Refused(said(&other)),
    }
}

fn why_not_before(failure: natpmp::Failure) -> MappingError {
    use natpmp::Failure::{InvalidResponse, Socket, Timeout, UnsupportedVersion};
    match failure {
        Timeout | Socket(_) | UnsupportedVersion(_) => MappingError::Silent,
        other @ InvalidResponse(_) => MappingError::Useless(said(&other)),
        other => MappingError::Refused(said(&other)),
    }
}
