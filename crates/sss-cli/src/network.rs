//! Networks of this machine, and whether one leads to where something is to be sent: the system knows at once.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use serde_json::json;
use sss::Seconds;

use crate::output::Output;
use crate::place::Place;

/// Says at once if nothing can be sent to any of the places now; it is tried all the same, for as long as is said,
/// since a network may come. Of names nothing is known.
pub(crate) fn tell_if_missing<'a>(places: impl IntoIterator<Item = &'a Place>, timeout: Duration, output: Output) {
    let Some(unreached) = all_unreached(places) else {
        return;
    };
    let text = format!(
        "this machine has no network that leads to {unreached}: trying on, for {} at most",
        Seconds(timeout)
    );
    output.prose_aside(&text, &json!({"event": "note", "text": text}));
}

/// The first of the places, if there is none to which a network leads.
fn all_unreached<'a>(places: impl IntoIterator<Item = &'a Place>) -> Option<SocketAddr> {
    let mut first = None;
    for place in places {
        match place {
            Place::Address(address) if !has_route(*address) && !may_be_translated(*address) => {
                first = first.or(Some(*address));
            }
            _ => return None,
        }
    }
    first
}

/// Returns whether it is an IPv4 address, and IPv6 leads out: there may be a translator (RCH-46).
fn may_be_translated(to: SocketAddr) -> bool {
    // An address for documentation (RFC 3849): every default route covers it.
    let out = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    let connected = || UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).and_then(|socket| socket.connect((out, 9)));
    to.is_ipv4() && connected().is_ok()
}

/// Asks the system's table of routes; nothing is sent. What cannot be asked may have one.
pub(crate) fn has_route(to: SocketAddr) -> bool {
    let from: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let connected = UdpSocket::bind(from).and_then(|socket| socket.connect(to));
    !connected.is_err_and(|error| error.kind() == ErrorKind::NetworkUnreachable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_that_may_be_reached_is_enough() {
        let place = |text: &str| Place::parse(text, Some(1)).unwrap();
        assert_eq!(all_unreached(&[]), None);
        assert_eq!(all_unreached(&[place("127.0.0.1")]), None);
        assert_eq!(all_unreached(&[place("nas.example")]), None);
    }
}
