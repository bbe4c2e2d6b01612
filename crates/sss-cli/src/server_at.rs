//! A registration server as it is written: `EID@HOST:PORT`.

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
}

impl FromStr for ServerAt {
    type Err = ServerError;

    fn from_str(text: &str) -> Result<Self, ServerError> {
        let (eid, place) = text
            .rsplit_once('@')
            .ok_or_else(|| ServerError::Form(text.to_owned()))?;
        Ok(Self {
            eid: eid.parse().map_err(|error| ServerError::Eid(eid.to_owned(), error))?,
            place: Place::parse(place, Some(DEFAULT_PORT))?,
        })
    }
}

impl fmt::Display for ServerAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.eid, self.place)
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
        assert!(matches!("nas".parse::<ServerAt>(), Err(ServerError::Form(_))));
        assert!(matches!("x@nas".parse::<ServerAt>(), Err(ServerError::Eid(..))));
        let nowhere = format!("{}@", Eid::from_public_key(&[7; 32]));
        assert!(matches!(nowhere.parse::<ServerAt>(), Err(ServerError::Place(_))));
    }
}
