//! Address and port that a server listens at.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use clap::Args;
use sss::{BuildError, Host, HostBuilder};

use crate::error::{Error, Exit};
use crate::interrupt;
use crate::place::{DEFAULT_PORT, Place, PlaceError};

/// Ports that `--next-port` tries, the first included: as many from the default port on are registered for nothing.
const PORTS: u16 = 16;

/// Arguments that say where to listen.
#[derive(Clone, Debug, Args)]
pub(crate) struct ListenArgs {
    /// Address of this machine to listen at.
    #[arg(
        long,
        value_name = "ADDR",
        help = "Address of this machine to listen at: IP, IP:PORT or [IP]:PORT [default: all that it has]"
    )]
    pub(crate) bind: Option<BindAddress>,
    /// UDP port to listen at; 0 takes any free one [default: 7757]
    #[arg(long, value_name = "PORT", value_parser = port, allow_hyphen_values = true)]
    pub(crate) port: Option<u16>,
    /// Take the next free one of 16 ports if the port is taken
    #[arg(long)]
    pub(crate) next_port: bool,
}

fn port(text: &str) -> Result<u16, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is no port: that is a whole number from 0 to 65535"))
}

/// An address of this machine, with a port or without. A name is looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BindAddress {
    /// Its port has no meaning.
    place: Place,
    /// 0: any.
    port: Option<u16>,
}

impl FromStr for BindAddress {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let (text, is_any) = match text.strip_suffix(":0") {
            Some(text) if Place::parse(text, Some(1)).is_ok() => (text, true),
            _ => (text, false),
        };
        let place = Place::parse(text, Some(DEFAULT_PORT))?;
        let is_given = Place::parse(text, None).is_ok();
        let port = if is_any {
            Some(0)
        } else {
            is_given.then(|| place.port())
        };
        Ok(Self { place, port })
    }
}

impl BindAddress {
    /// The address, with `port` if none was given.
    ///
    /// # Errors
    /// If it cannot be looked up.
    pub(crate) async fn address(&self, port: u16) -> Result<SocketAddr, Error> {
        let failed = |why: String| {
            let what = format!("{} is no address of this machine: {why}", self.place.host());
            Error::new(
                Exit::Failed,
                what,
                "give --bind an address of this machine (`ip address` lists them)",
            )
        };
        let found = self.place.resolve().await.map_err(|error| failed(error.to_string()))?;
        let mut address = *found.first().ok_or_else(|| failed("it has none".to_owned()))?;
        address.set_port(self.port.unwrap_or(port));
        Ok(address)
    }
}

impl ListenArgs {
    /// Makes a host that listens there. `builder` is asked once for each attempt.
    ///
    /// # Errors
    /// If the port is taken, or there is no such address; and whatever else keeps a host from being built.
    pub(crate) async fn host(&self, builder: impl Fn() -> HostBuilder) -> Result<Host, Error> {
        if self.port.is_some() && self.bind.as_ref().is_some_and(|bind| bind.port.is_some()) {
            let what = "the port is given twice, with --bind and with --port";
            return Err(Error::new(Exit::Usage, what, "leave one of them away"));
        }
        let port = self.port.unwrap_or(DEFAULT_PORT);
        let addresses = match &self.bind {
            Some(bind) => vec![bind.address(port).await?],
            // Where there is no IPv6, there is IPv4.
            None => [IpAddr::from(Ipv6Addr::UNSPECIFIED), Ipv4Addr::UNSPECIFIED.into()]
                .map(|ip| (ip, port).into())
                .to_vec(),
        };
        let first = addresses.first().map_or(port, SocketAddr::port);
        let more = if self.next_port && first != 0 { PORTS } else { 1 };
        let mut found_taken = None;
        for port in (first..=u16::MAX).take(more.into()) {
            match try_all(&builder, &addresses, port).await {
                Err(BuildError::PortInUse { address }) => found_taken = found_taken.or(Some(address)),
                other => return Ok(other?),
            }
        }
        Err(taken(
            found_taken.unwrap_or_else(|| (Ipv4Addr::UNSPECIFIED, first).into()),
            more,
        ))
    }
}

/// Waits until the program is asked to end.
///
/// # Errors
/// If the host has ended before: whoever supervises the program is to start it again.
pub(crate) async fn until_asked_to_end(host: &Host) -> Result<(), Error> {
    tokio::select! {
        () = interrupt::requested() => Ok(()),
        () = host.stopped() => Err(Error::new(
            Exit::Failed,
            "this host has failed: nobody is served any more",
            "start it again, and report the lines above as a defect",
        )),
    }
}

/// Tries the addresses in their order, but not another one if the port is taken.
async fn try_all(builder: impl Fn() -> HostBuilder, addresses: &[SocketAddr], port: u16) -> Result<Host, BuildError> {
    let mut result = Err(BuildError::NoRuntime);
    for address in addresses {
        let mut address = *address;
        address.set_port(port);
        // A server that was put at one address stays there, even if this machine loses it.
        let moves = address.ip().is_unspecified();
        result = builder().watch_interfaces(moves).bind(address).build().await;
        if matches!(result, Ok(_) | Err(BuildError::PortInUse { .. })) {
            return result;
        }
    }
    result
}

fn taken(first: SocketAddr, tried: u16) -> Error {
    let (what, next) = if tried == 1 {
        (
            format!("{first} is in use by another program, perhaps another `sss serve`"),
            "stop that one, or give --next-port to take the next free port, or --port for another port (0: any free one)",
        )
    } else {
        (
            format!(
                "{first} and the {} ports behind it are all in use",
                tried.saturating_sub(1)
            ),
            "give --port for another port (0: any free one)",
        )
    };
    Error::new(Exit::Failed, what, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(bind: Option<&str>, port: Option<u16>, next_port: bool) -> ListenArgs {
        ListenArgs {
            bind: bind.map(|text| text.parse().unwrap()),
            port,
            next_port,
        }
    }

    async fn host(args: &ListenArgs) -> Result<Host, Error> {
        args.host(Host::builder).await
    }

    /// Nobody would be served, and whoever supervises the program would not know.
    #[tokio::test]
    async fn a_server_whose_host_has_failed_ends() {
        let bind = || Host::builder().bind("127.0.0.1:0");
        let filter = |_: &sss::Eid, _| panic!("a filter that panics");
        let host = bind().accept_filter(filter).build().await.unwrap();
        let client = bind().build().await.unwrap();
        let connect = client.connect(host.eid(), "files", "1").hint(host.local_addr());
        let stream = connect.open().unwrap();
        let ended = until_asked_to_end(&host).await.unwrap_err();
        assert!(ended.to_string().contains("this host has failed"), "{ended}");
        drop(stream);
    }

    #[tokio::test]
    async fn an_address_may_have_a_port() {
        for (text, port, address) in [
            ("127.0.0.1", None, "127.0.0.1:7"),
            ("127.0.0.1:0", Some(0), "127.0.0.1:0"),
            ("127.0.0.1:9", Some(9), "127.0.0.1:9"),
            ("[::]:0", Some(0), "[::]:0"),
            ("[::1]", None, "[::1]:7"),
            ("0.0.0.0:4433", Some(4433), "0.0.0.0:4433"),
        ] {
            let bind: BindAddress = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(bind.port, port, "{text}");
            assert_eq!(bind.address(7).await.unwrap(), address.parse().unwrap(), "{text}");
        }
        for bad in ["", ":0", "here:", "127.0.0.1:70000", "::1"] {
            assert!(bad.parse::<BindAddress>().is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn the_next_free_port_is_taken_only_if_asked() {
        let first = host(&args(Some("127.0.0.1:0"), None, false)).await.unwrap();
        let port = first.local_addr().port();
        let error = host(&args(Some("127.0.0.1"), Some(port), false)).await.unwrap_err();
        assert!(error.to_string().contains("--next-port"), "{error}");
        let next = host(&args(Some("127.0.0.1"), Some(port), true)).await.unwrap();
        let distance = next.local_addr().port() - port;
        assert!((1..PORTS).contains(&distance), "{distance}");
        let error = host(&args(Some("127.0.0.1:1"), Some(port), true)).await.unwrap_err();
        assert_eq!(error.exit, Exit::Usage);
    }

    #[tokio::test]
    async fn a_port_that_is_taken_for_ipv4_is_not_taken_for_ipv6() {
        let held = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        let port = held.local_addr().unwrap().port();
        assert!(host(&args(None, Some(port), false)).await.is_err());
        drop(held);
        let host = host(&args(None, Some(port), false)).await.unwrap();
        assert!(host.local_addr().ip().is_unspecified());
    }
}
