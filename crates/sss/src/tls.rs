//! Tunnels of TLS, over TCP: for hosts to which UDP is blocked (RCH-22, RCH-24).
//!
//! TLS is a carrier here, and nothing more: it makes packets look like those of the web, so that firewalls let them
//! pass. What it carries is protected and authenticated inside, host by host, so that any certificate will do, and
//! whoever ends the tunnel in between sees what an observer of UDP does.

mod accept;
mod carry;
mod certificate;
mod connect;
mod guests;

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use sss_reach::TunnelOrder;
use sss_wire::Eid;
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::rustls::ServerConfig;

use crate::error::BuildError;
use crate::shared::Shared;

/// Tunnels that a registration server takes, and how many.
#[derive(Clone, Debug)]
#[must_use = "it does nothing until it is given to RendezvousServer::tls"]
pub struct TlsServer {
    bind: SocketAddr,
    certificate: Option<Pem>,
    limits: TlsLimits,
}

/// A certificate and its key, as text (RFC 7468).
#[derive(Clone)]
struct Pem {
    chain: Vec<u8>,
    key: Vec<u8>,
}

/// Limits of the tunnels that a server takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsLimits {
    /// Tunnels of all, those included that are being opened. Where they are taken, one of the network that has most
    /// gives way to one of a network that has fewer by two at least.
    pub tunnels: u32,
    /// Tunnels of one IPv4 address or IPv6 /64.
    pub each_network: u32,
    /// New ones in a second, of all: each costs some arithmetic. Half of them are for networks that have had none in
    /// that second.
    pub a_second: u32,
    /// New ones in a second of one IPv4 address or IPv6 /64.
    pub each_network_a_second: u32,
    /// Time for TLS to be agreed on.
    pub handshake: Duration,
    /// Time without a packet from the host, after which its tunnel is closed: longer than a lease is renewed in.
    pub idle: Duration,
}

impl Default for TlsLimits {
    fn default() -> Self {
        Self {
            tunnels: 4096,
            each_network: 64,
            a_second: 256,
            each_network_a_second: 16,
            handshake: Duration::from_secs(5),
            idle: Duration::from_secs(90),
        }
    }
}

impl TlsServer {
    /// Takes tunnels at this address, with a certificate that it makes itself at each start. Port 443 is the one that
    /// firewalls let pass.
    pub fn new(bind: SocketAddr) -> Self {
        Self {
            bind,
            certificate: None,
            limits: TlsLimits::default(),
        }
    }

    /// Shows this certificate, with those that it needs behind it, both as PEM: for firewalls that look at it, or to
    /// share the look of a website. Hosts do not look at it.
    pub fn certificate(mut self, chain: Vec<u8>, key: Vec<u8>) -> Self {
        self.certificate = Some(Pem { chain, key });
        self
    }

    /// Sets the limits.
    pub fn limits(mut self, limits: TlsLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Binds the address.
    ///
    /// # Errors
    /// If the address cannot be bound, or the certificate is of no use.
    pub(crate) fn listen(self) -> Result<Listening, BuildError> {
        let config = certificate::server(self.certificate.as_ref()).map_err(BuildError::Certificate)?;
        let address = self.bind;
        let bind = || -> io::Result<TcpListener> {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        let listener = bind().map_err(|source| BuildError::Tls { address, source })?;
        Ok(Listening {
            listener,
            config,
            limits: self.limits,
        })
    }
}

impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pem(..)")
    }
}

/// A bound address, at which nothing is taken yet.
pub(crate) struct Listening {
    listener: TcpListener,
    config: Arc<ServerConfig>,
    limits: TlsLimits,
}

/// The tasks of a host's tunnels. They end when this is dropped.
pub(crate) struct Tasks {
    all: JoinSet<()>,
    /// The one for each server.
    to: HashMap<Eid, AbortHandle>,
}

impl Tasks {
    /// Begins to take tunnels, if this host is to. To be called on the runtime that the tasks are to run on.
    ///
    /// # Errors
    /// Those of the operating system.
    pub(crate) fn start(listening: Option<Listening>, shared: &Arc<Shared>) -> io::Result<Self> {
        let mut all = JoinSet::new();
        if let Some(listening) = listening {
            let at = listening.listener.local_addr()?;
            shared.feed(|inner, _| inner.tunnels.listens_at = Some(at));
            all.spawn(accept::serve(accept::Door::open(listening)?, Arc::downgrade(shared)));
        }
        let to = HashMap::new();
        Ok(Self { all, to })
    }

    /// Opens and closes tunnels, as is ordered.
    pub(crate) fn obey(&mut self, orders: Vec<TunnelOrder>, shared: &Arc<Shared>) {
        for order in orders {
            match order {
                TunnelOrder::Open { server, place } => {
                    let dial = connect::dial(Arc::downgrade(shared), server, place);
                    if let Some(before) = self.to.insert(server, self.all.spawn(dial)) {
                        before.abort();
                    }
                }
                TunnelOrder::Close { server } => {
                    if let Some(task) = self.to.remove(&server) {
                        task.abort();
                    }
                }
                _ => {}
            }
            // Those that have ended are forgotten.
            while self.all.try_join_next().is_some() {}
        }
    }
}
