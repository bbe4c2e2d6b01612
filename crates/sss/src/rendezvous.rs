//! Registration: servers by which hosts find each other, for those who use them and for those who run one.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use sss_crypto::{StaticKey, schedule};
use sss_reach::server::{Quotas, RelayLimits, ServerConfig};
use sss_reach::{LeaseAt, RelayUse, RendezvousConfig, Serve, ServerAddress, Spraying};
use sss_wire::Eid;
use sss_wire::reach::records::{Register, Visibility};

use crate::error::BuildError;
use crate::hint::{self, Hint};
use crate::redaction::HostTag;
use crate::shared::Shared;
use crate::tls::Listening;

/// The first pause before the name of a server is looked up again; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Hosts by which a host wants to be found at its registration servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum FoundBy {
    /// Nobody: it only looks for others. A host that it speaks with through the relay of a server finds it there, as
    /// long as it does.
    #[default]
    Nobody,
    /// Those who know its EID.
    Known,
    /// Those too who search for one of the words.
    Anybody {
        /// Words, with spaces between them: at most 16 of at most 64 bytes.
        words: String,
        /// Text about the host, at most 1024 bytes.
        profile: String,
    },
}

/// Behaviour of a registration server (docs/spec/reach.md). Its defaults work: it relays nothing.
#[derive(Default)]
#[must_use = "it does nothing until it is given to HostBuilder::serve_rendezvous"]
pub struct RendezvousServer {
    config: ServerConfig,
    is_restart: bool,
    #[cfg(feature = "tls")]
    tls: Option<crate::tls::TlsServer>,
    #[cfg(feature = "redis")]
    pub(crate) directory: Option<crate::directory::RedisDirectory>,
}

impl RendezvousServer {
    /// A server for everybody.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how many hosts it takes, and what each may ask for.
    pub fn quotas(mut self, quotas: Quotas) -> Self {
        self.config.quotas = quotas;
        self
    }

    /// Relays packets between hosts that registered here and reach each other in no other way, within these limits
    /// (RCH-17). It cannot read them, and keeps none: what is too much is dropped. Default: it relays nothing.
    pub fn relay(mut self, limits: RelayLimits) -> Self {
        self.config.relay = Some(limits);
        self
    }

    /// Takes tunnels of TLS too, from hosts to which UDP is blocked (RCH-22). Nobody else has an address of such hosts,
    /// so that the server is to relay, too.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: crate::tls::TlsServer) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Shares a directory with other servers, each with an identity and an address of its own: whoever asks one of them
    /// for a host that another one knows is sent there (RCH-44). As long as Redis does not answer, each serves its own
    /// hosts (RCH-45); [`ServerStats::directory`](crate::ServerStats) tells.
    #[cfg(feature = "redis")]
    pub fn redis(mut self, directory: crate::directory::RedisDirectory) -> Self {
        self.directory = Some(directory);
        self
    }

    /// Sets whether the server may have run before, with the same identity. Then hosts that it does not know may come
    /// back to it: for half a lease those who ask for one go on asking until it is there, or their time is over
    /// ([`Absence::NotYet`](crate::Absence::NotYet)). Default: it has not, and who is not there is not awaited.
    pub fn restarted(mut self, restarted: bool) -> Self {
        self.is_restart = restarted;
        self
    }

    /// Decides which hosts may register. It must not block, and must not use the host. Default: all may.
    pub fn allow(mut self, allow: impl Fn(&Eid) -> bool + Send + 'static) -> Self {
        self.config.allow = Some(Box::new(allow));
        self
    }

    /// The same, as the core has it. The secret of leases follows from the identity, which is on disk where the server
    /// is to outlive restarts.
    pub(crate) fn into_serve(self, identity: &StaticKey) -> Serve {
        let mut secret = [0; 32];
        schedule::label(&*identity.to_bytes(), "rendezvous", b"", &mut secret);
        Serve {
            config: self.config,
            secret,
            is_restart: self.is_restart,
        }
    }
}

impl fmt::Debug for RendezvousServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RendezvousServer").field(&self.config).finish()
    }
}

/// Wishes about registration, as they are gathered by the builder.
#[derive(Default)]
pub(crate) struct Wishes {
    pub(crate) servers: Vec<(Eid, Hint)>,
    pub(crate) lease_at: LeaseAt,
    pub(crate) found_by: FoundBy,
    pub(crate) relay: RelayUse,
    pub(crate) spraying: Spraying,
    /// Places where servers take tunnels of TLS.
    pub(crate) tls: Vec<(Eid, String)>,
    /// TURN servers.
    #[cfg(feature = "turn")]
    pub(crate) turn: Vec<crate::turn::TurnServer>,
    pub(crate) serve: Option<RendezvousServer>,
    /// Set if peers are looked for on the local network.
    pub(crate) searches_lan: bool,
}

/// A server whose name is to be looked up.
pub(crate) struct Unresolved {
    eid: Eid,
    name: String,
}

impl Wishes {
    /// Returns whether there is anything to do beside the core.
    pub(crate) fn is_any(&self) -> bool {
        self.has_servers() || self.searches_lan
    }

    /// Returns whether this host uses servers, or is one.
    pub(crate) fn has_servers(&self) -> bool {
        !self.servers.is_empty() || !self.tls.is_empty() || self.serve.is_some()
    }

    /// Binds the address where tunnels are to be taken, if some are.
    ///
    /// # Errors
    /// If it cannot be bound, or the certificate is of no use.
    pub(crate) fn listen(&mut self) -> Result<Option<Listening>, BuildError> {
        #[cfg(feature = "tls")]
        if let Some(tls) = self.serve.as_mut().and_then(|server| server.tls.take()) {
            return tls.listen().map(Some);
        }
        Ok(None)
    }

    /// The configuration, and the names that are still to be looked up.
    pub(crate) fn split(self, identity: &StaticKey) -> (RendezvousConfig, Vec<Unresolved>) {
        let (mut servers, mut unresolved) = (Vec::<ServerAddress>::new(), Vec::new());
        for (eid, hint) in self.servers {
            let address = match hint.split() {
                Ok(address) => Some(address),
                Err(name) => {
                    unresolved.push(Unresolved { eid, name });
                    None
                }
            };
            match servers.iter_mut().find(|server| server.eid == eid) {
                Some(known) => known.addresses.extend(address),
                None => servers.push(ServerAddress {
                    eid,
                    addresses: address.into_iter().collect(),
                    tls: None,
                }),
            }
        }
        for (eid, place) in self.tls {
            match servers.iter_mut().find(|server| server.eid == eid) {
                Some(server) => server.tls = Some(place),
                None => servers.push(ServerAddress {
                    eid,
                    addresses: Vec::new(),
                    tls: Some(place),
                }),
            }
        }
        let (visibility, words, profile) = match self.found_by {
            FoundBy::Nobody => (Visibility::Hidden, String::new(), String::new()),
            FoundBy::Known => (Visibility::Known, String::new(), String::new()),
            FoundBy::Anybody { words, profile } => (Visibility::Listed, words, profile),
        };
        #[cfg(feature = "turn")]
        let has_turn = !self.turn.is_empty();
        #[cfg(not(feature = "turn"))]
        let has_turn = false;
        let config = RendezvousConfig {
            servers,
            lease_at: self.lease_at,
            register: Register {
                visibility,
                words,
                profile,
                ..Register::default()
            },
            relay: self.relay,
            spraying: self.spraying,
            has_turn,
            serve: self.serve.map(|server| server.into_serve(identity)),
            searches_lan: self.searches_lan,
        };
        (config, unresolved)
    }
}

impl Unresolved {
    /// Looks the name up, again and again until that succeeds or the host is gone.
    pub(crate) async fn look_up(self, shared: Weak<Shared>) {
        let Self { eid, name } = self;
        let names = [name];
        let mut pause = FIRST_PAUSE;
        loop {
            let Some(local) = shared.upgrade().map(|shared| shared.local_addr()) else {
                return;
            };
            let (addresses, unresolved) = hint::look_up(&names, local).await;
            if !addresses.is_empty() {
                return tell(&shared, &eid, &addresses);
            }
            for why in unresolved {
                tracing::debug!(server = %HostTag::of(&eid), %why, "the name of a registration server is not found");
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

fn tell(shared: &Weak<Shared>, eid: &Eid, addresses: &[SocketAddr]) {
    if let Some(shared) = shared.upgrade() {
        shared.call(|inner, now| {
            inner.rendezvous.add_addresses(now, eid, addresses);
            inner.want_driver();
        });
    }
}

/// Looks up the names of servers in the background.
pub(crate) fn look_up(unresolved: Vec<Unresolved>, shared: &Arc<Shared>) {
    for server in unresolved {
        tokio::spawn(server.look_up(Arc::downgrade(shared)));
    }
}
