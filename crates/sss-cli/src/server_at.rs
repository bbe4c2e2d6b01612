//! A registration server as it is written: `EID@HOST:PORT`, with `+tls` behind it if it takes tunnels of TLS too.

use std::fmt;
use std::str::FromStr;

use sss::Eid;
use thiserror::Error;

use crate::place::{DEFAULT_PORT, Place, PlaceError};

/// A registration server, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerAt {
    pub(crate) eid: Eid,
    pub(crate) place: Place,
    /// The TCP port where it takes tunnels of TLS, if it does.
    pub(crate) tls: Option<u16>,
}

/// Reason why a text is not a [`ServerAt`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum ServerError {
    #[error("{0:?} is no server: that is EID@HOST or EID@HOST:PORT, as `sss rendezvous` prints it")]
    Form(String),
    #[error("{0:?} has no valid EID before the @: {1}")]
    Eid(String, sss::EidError),
    #[error("{0}")]
    Place(#[from] PlaceError),
    #[error("{0:?} is no port for TLS: write +tls behind the server for port 443, or +tls:PORT")]
    Tls(String),
}

/// Mark behind a server that takes tunnels of TLS.
const TLS: &str = "+tls";
/// The TCP port for TLS that firewalls let pass.
const TLS_PORT: u16 = 443;

/// The port for TLS as it is written behind a place.
pub(crate) struct Tls(pub(crate) Option<u16>);

impl fmt::Display for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => Ok(()),
            Some(TLS_PORT) => f.write_str(TLS),
            Some(port) => write!(f, "{TLS}:{port}"),
        }
    }
}

fn tls_port(text: &str) -> Result<u16, ServerError> {
    let port = match text.strip_prefix(':') {
        Some(port) => port.parse().ok().filter(|port| *port != 0),
        None if text.is_empty() => Some(TLS_PORT),
        None => None,
    };
    port.ok_or_else(|| ServerError::Tls(format!("{TLS}{text}")))
}

impl FromStr for ServerAt {
    type Err = ServerError;

    fn from_str(text: &str) -> Result<Self, ServerError> {
        let (eid, place) = text
            .rsplit_once('@')
            .ok_or_else(|| ServerError::Form(text.to_owned()))?;
        let (place, tls) = match place.to_ascii_lowercase().find(TLS) {
            Some(at) => {
                let (place, port) = place.split_at(at);
                (place, Some(tls_port(port.get(TLS.len()..).unwrap_or_default())?))
            }
            None => (place, None),
        };
        Ok(Self {
            eid: eid.parse().map_err(|error| ServerError::Eid(eid.to_owned(), error))?,
            place: Place::parse(place, Some(DEFAULT_PORT))?,
            tls,
        })
    }
}

impl fmt::Display for ServerAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}{}", self.eid, self.place, Tls(self.tls))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_written_as_a_host_is() {
        let text = format!("{}@rendezvous.example", Eid::from_public_key(&[7; 32]));
        let server: ServerAt = text.parse().unwrap();
        assert_eq!(server.to_string(), format!("{text}:7757"));
        for (with, port, shown) in [
            ("+tls", 443, ":7757+tls"),
            ("+TLS", 443, ":7757+tls"),
            ("+tls:8443", 8443, ":7757+tls:8443"),
            (":1+tls:443", 443, ":1+tls"),
        ] {
            let server: ServerAt = format!("{text}{with}").parse().unwrap();
            assert_eq!(server.tls, Some(port));
            assert_eq!(server.to_string(), format!("{text}{shown}"));
            assert_eq!(server.to_string().parse::<ServerAt>().unwrap(), server);
        }
        for wrong in ["+tls:", "+tls:0", "+tls:65536", "+tlss", "+tls443"] {
            let error = format!("{text}{wrong}").parse::<ServerAt>().unwrap_err();
            assert!(matches!(error, ServerError::Tls(_)), "{wrong}: {error}");
        }
        assert!(matches!("nas".parse::<ServerAt>(), Err(ServerError::Form(_))));
        assert!(matches!("x@nas".parse::<ServerAt>(), Err(ServerError::Eid(..))));
        let nowhere = format!("{}@", Eid::from_public_key(&[7; 32]));
        assert!(matches!(nowhere.parse::<ServerAt>(), Err(ServerError::Place(_))));
    }
}
