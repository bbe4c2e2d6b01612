//! A host's part in finding others and being found, beside the core.
//!
//! Whoever drives a [`Host`] and has a [`Rendezvous`] calls its [`handle`](Rendezvous::handle),
//! [`poll`](Rendezvous::poll) and [`poll_event`](Rendezvous::poll_event) in place of those of the host. It takes the
//! packets of leases and introductions, reads and writes the streams of registrations, and tells the core the addresses
//! that it has found.

mod forwards;

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;

use sss_crypto::Generator;
use sss_proto::{
    Absence, Event, Host, Input, Instant, Interest, LinkStatus, ListenError, Output, Route, SocketId, TransmitBuf,
    TunnelId, TurnId,
};
use sss_wire::Eid;
use sss_wire::reach::records::Register;
use sss_wire::reach::{Kind, RELAY};

use crate::Dropped;
use crate::client::{
    Allocated, Client, LeaseAt, LocalAddress, Referral, Registration, RelayUse, ServerAddress, Servers, SocketOrder,
    Spray, SprayReport, Spraying, TunnelEnd, TunnelOrder, TurnOrder, turn,
};
use crate::desk::Desk;
use crate::mdns;
use crate::path::Path;
use crate::server::{DirectoryAnswer, DirectoryOrder, Registrar, ServerConfig, ServerStats};
use forwards::Forwards;

/// Hosts that wait to be looked for on the local network.
const MAX_SOUGHT: usize = 256;

/// Wishes of an application.
#[derive(Debug, Default)]
pub struct RendezvousConfig {
    /// Servers to register with, each once.
    pub servers: Vec<ServerAddress>,
    /// Of these, those at which it leases.
    pub lease_at: LeaseAt,
    /// Words that they are told. The instance is drawn anew.
    pub register: Register,
    /// Use that is made of the servers' relays.
    pub relay: RelayUse,
    /// Set if ports are guessed where nothing but a relay helps.
    pub spraying: Spraying,
    /// Set if it has TURN servers: somebody takes the orders about them (RCH-48).
    pub has_turn: bool,
    /// Set if this host is a server itself.
    pub serve: Option<Serve>,
    /// Set if somebody takes the orders to look for hosts on the local network, for
    /// [so long](sss_proto::Config::lan_search).
    pub searches_lan: bool,
}

/// Wishes about a server.
pub struct Serve {
    /// Its behaviour.
    pub config: ServerConfig,
    /// The secret that its tokens and lease keys are made of: it outlives restarts.
    pub secret: [u8; 32],
    /// Set if it may have run before, with the same secret.
    pub is_restart: bool,
}

impl fmt::Debug for Serve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// Part of a host beside the core: finds others, and has it found. Does nothing by default.
#[derive(Default)]
pub struct Rendezvous {
    client: Option<Client>,
    server: Option<(Registrar, Desk)>,
    /// Hosts to be looked for on the local network. `None`: nobody looks there.
    sought: Option<VecDeque<Eid>>,
    forwards: Forwards,
    /// The latest output was a relayed one: the host is next.
    has_forwarded: bool,
    dropped: u64,
}

impl fmt::Debug for Rendezvous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rendezvous")
            .field("dropped", &self.dropped)
            .finish_non_exhaustive()
    }
}

impl Rendezvous {
    /// A host's part. The host must have been made with [`seeks`](sss_proto::Config::seeks). `seed` is to be one that
    /// nobody can guess.
    ///
    /// # Errors
    /// If the host is a server already.
    pub fn new(now: Instant, config: RendezvousConfig, host: &mut Host, seed: &[u8; 32]) -> Result<Self, ListenError> {
        let mut rng = Generator::new(seed);
        let mut server = None;
        if let Some(serve) = config.serve {
            let mut seed = [0; 32];
            rng.fill(&mut seed);
            let mut registrar = Registrar::new(now, serve.config, &serve.secret, &seed);
            if serve.is_restart {
                registrar.on_restart(now);
            }
            server = Some((registrar, Desk::open(host)?));
        }
        let servers = config.servers;
        let client = (!servers.is_empty()).then(|| {
            let spray = Spray::new(now, host, (config.spraying, config.relay));
            let mut servers = Servers::new(&host.eid(), servers, config.lease_at);
            servers.has_turn = config.has_turn;
            Client::new(now, servers, (config.register, config.relay), spray, rng)
        });
        Ok(Self {
            client,
            server,
            sought: config.searches_lan.then(VecDeque::new),
            ..Self::default()
        })
    }

    /// Returns whether peers are looked for of which no address is known: at servers, or on the local network.
    pub fn seeks(&self) -> bool {
        self.client.is_some() || self.sought.is_some()
    }

    /// Counters of the server that this host is, if it is one.
    pub fn server_stats(&self) -> Option<ServerStats> {
        self.server.as_ref().map(|(registrar, _)| registrar.stats())
    }

    /// The next host to be looked for on the local network (RCH-36): to be asked for as
    /// [`Self::poll_tunnel_order`]. Where it may be, the core is told ([`Host::add_hints`]).
    pub fn poll_lan_order(&mut self) -> Option<Eid> {
        self.sought.as_mut().and_then(VecDeque::pop_front)
    }

    /// An attempt to reach a host begins: it is looked for on the local network too. Returns why nobody else finds it.
    fn seek_on_lan(&mut self, eid: Eid) -> Absence {
        let Some(sought) = &mut self.sought else {
            return Absence::NoServer;
        };
        if !sought.contains(&eid) {
            sought.push_back(eid);
            // Those that were asked for first have waited the longest, and nobody looks.
            if sought.len() > MAX_SOUGHT {
                sought.pop_front();
            }
        }
        Absence::NotOnLan(mdns::PATIENCE)
    }

    /// The server that this host is takes packets at another port of its addresses too, by a further socket: hosts are
    /// told of it from now on (RCH-28).
    pub fn set_other_port(&mut self, port: u16) {
        if let Some((registrar, _)) = &mut self.server {
            registrar.set_other_port(port);
        }
    }

    /// The server that this host is shares a directory with others, which reach it at that address (RCH-44). The
    /// directory counts as away until [`DirectoryAnswer::Up`] has come.
    pub fn open_directory(&mut self, host: &Host, address: SocketAddr) {
        if let Some((registrar, _)) = &mut self.server {
            registrar.open_directory(host.eid(), address);
        }
    }

    /// The next thing that is to be done in the directory: to be asked for when [`Self::has_directory_orders`] says so.
    pub fn poll_directory_order(&mut self, now: Instant) -> Option<DirectoryOrder> {
        self.server.as_mut()?.0.poll_directory_order(now)
    }

    /// Returns whether something is to be done in the directory.
    pub fn has_directory_orders(&self) -> bool {
        self.server
            .as_ref()
            .is_some_and(|(registrar, _)| registrar.has_directory_orders())
    }

    /// The directory has answered. It may say what it likes: nothing of that is believed before it is checked.
    pub fn on_directory(&mut self, now: Instant, host: &mut Host, answers: Vec<DirectoryAnswer>) {
        if let Some((registrar, _)) = &mut self.server {
            registrar.on_directory(now, answers);
        }
        self.work(now, host);
    }

    /// Servers with which this host has a lease, and its address as each of them sees it.
    pub fn observed(&mut self) -> Vec<(Eid, SocketAddr)> {
        self.client.as_mut().map(Client::observed).unwrap_or_default()
    }

    /// The state of each registration, in the order in which servers were named.
    pub fn registrations(&self) -> Vec<Registration> {
        self.client.as_ref().map(Client::report).unwrap_or_default()
    }

    /// Servers that have named a way to a peer: of late, and not for more than a thousand peers.
    pub fn found_by(&self, eid: &Eid) -> Vec<Eid> {
        self.client
            .as_ref()
            .map(|client| client.found_by(eid))
            .unwrap_or_default()
    }

    /// The latest server that another one has named for a peer, and what came of it (RCH-44): of late, and not for more
    /// than 64 peers.
    pub fn referral(&self, eid: &Eid) -> Option<Referral> {
        self.client.as_ref().and_then(|client| client.referral(eid))
    }

    /// More addresses of a server, such as those of a name that was looked up.
    pub fn add_addresses(&mut self, now: Instant, server: &Eid, addresses: &[SocketAddr]) {
        if let Some(client) = &mut self.client {
            client.add_addresses(now, server, addresses);
        }
    }

    /// Addresses of this host on the networks that it is in, with the port of its socket: peers in the same network are
    /// told of private ones, sealed, and those of theirs are tried (RCH-42). To be told anew when they have changed.
    pub fn set_local(&mut self, local: Vec<LocalAddress>) {
        if let Some(client) = &mut self.client {
            client.set_local(local);
        }
    }

    /// Routers let these outer addresses in for this host, one of each family at most: its servers prove them, and tell
    /// others of them (RCH-25). Those that were named before and are not now are let in no more.
    pub fn set_mapped(&mut self, now: Instant, host: &mut Host, named: &[SocketAddr]) {
        if let Some(client) = &mut self.client {
            client.set_mapped(now, named);
        }
        self.work(now, host);
    }

    /// Packets of leases and introductions that were dropped.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// As [`Host::handle`].
    pub fn handle(&mut self, now: Instant, host: &mut Host, input: Input<'_>) {
        if let (Some(client), Input::Datagrams(batch)) = (&mut self.client, &input)
            && batch.data.first() == Some(&RELAY)
        {
            client.on_relayed(now, batch.link);
        }
        match (input, &mut self.server) {
            (Input::Datagrams(mut batch), Some((registrar, _))) if registrar.relays() => {
                if self.forwards.take(now, registrar, &mut batch) {
                    host.handle(now, Input::Datagrams(batch));
                }
            }
            (input, _) => host.handle(now, input),
        }
        while let Some(datagram) = host.poll_aside() {
            let (Route { link, handle }, local) = (datagram.route, datagram.local);
            // What a relay has forwarded is of no server.
            let taken = match handle {
                None => self.packet(now, host, Path { link, local }, &datagram.bytes),
                Some(_) => Err(Dropped::Unwelcome),
            };
            if taken.is_err() {
                self.dropped += 1;
            }
        }
        if let Some(client) = &mut self.client {
            client.on_greeted(now, host);
        }
        self.work(now, host);
    }

    /// As [`Host::poll`].
    pub fn poll(&mut self, now: Instant, host: &mut Host, buf: &mut TransmitBuf) -> Output {
        // Neither keeps the other waiting.
        if !std::mem::replace(&mut self.has_forwarded, true)
            && let Some(transmit) = self.forwards.poll(buf)
        {
            return Output::Transmit(transmit);
        }
        self.has_forwarded = false;
        loop {
            match host.poll(now, buf) {
                Output::Event(event) => {
                    if let Some(event) = self.take(now, host, event) {
                        return Output::Event(event);
                    }
                }
                Output::Wake(at) => {
                    if self.work(now, host) {
                        continue;
                    }
                    if let Some(transmit) = self.forwards.poll(buf) {
                        return Output::Transmit(transmit);
                    }
                    return Output::Wake(at.into_iter().chain(self.next_timer()).min());
                }
                transmit @ Output::Transmit(_) => return transmit,
            }
        }
    }

    /// As [`Host::poll_event`].
    pub fn poll_event(&mut self, now: Instant, host: &mut Host) -> Option<Event> {
        while let Some(event) = host.poll_event() {
            if let Some(event) = self.take(now, host, event) {
                return Some(event);
            }
        }
        None
    }

    /// The network of this machine has changed.
    pub fn on_network_change(&mut self, now: Instant, host: &mut Host) {
        if let Some(client) = &mut self.client {
            client.on_network_change(now, host);
        }
        self.work(now, host);
    }

    /// The next order about a tunnel (RCH-24): to be asked for after [`handle`](Self::handle), and when
    /// [`poll`](Self::poll) has come to an end.
    pub fn poll_tunnel_order(&mut self) -> Option<TunnelOrder> {
        self.client.as_mut().and_then(Client::poll_order)
    }

    /// The next order about further sockets (RCH-30): to be asked for when [`poll`](Self::poll) has come to an end.
    pub fn poll_socket_order(&mut self) -> Option<SocketOrder> {
        self.client.as_mut().and_then(Client::poll_socket_order)
    }

    /// The sockets that were ordered are open, or as many of them as could be.
    pub fn on_sockets_opened(&mut self, now: Instant, host: &mut Host, sockets: &[SocketId]) {
        if let Some(client) = &mut self.client {
            client.on_sockets_opened(now, host, sockets);
        }
        self.work(now, host);
    }

    /// The latest result of guessing ports with a peer, if that was tried.
    pub fn spray_report(&self, eid: &Eid) -> Option<SprayReport> {
        self.client.as_ref()?.spray_report(eid)
    }

    /// The tunnel to a server is open: its name, and the address of its other end.
    pub fn on_tunnel_opened(&mut self, now: Instant, host: &mut Host, server: &Eid, opened: (TunnelId, SocketAddr)) {
        if let Some(client) = &mut self.client {
            client.on_tunnel_opened(now, host, (server, opened));
        }
        self.work(now, host);
    }

    /// The tunnel to a server is closed, or could not be opened.
    pub fn on_tunnel_closed(&mut self, now: Instant, host: &mut Host, (server, why): (&Eid, TunnelEnd)) {
        if let Some(client) = &mut self.client {
            client.on_tunnel_closed(now, host, (server, why));
        }
        self.work(now, host);
    }

    /// The next order about the TURN servers (RCH-48): to be asked for as [`Self::poll_tunnel_order`].
    pub fn poll_turn_order(&mut self) -> Option<TurnOrder> {
        self.client.as_mut().and_then(turn::poll_order)
    }

    /// A TURN server has given an allocation, which is there until [`Self::on_turn_lost`] says otherwise.
    pub fn on_turn_opened(&mut self, now: Instant, host: &mut Host, allocated: Allocated) {
        if let Some(client) = &mut self.client {
            turn::on_opened(client, now, host, allocated);
        }
        self.work(now, host);
    }

    /// The allocation is lost; another one is asked for, as was ordered.
    pub fn on_turn_lost(&mut self, now: Instant, host: &mut Host, id: TurnId) {
        if let Some(client) = &mut self.client {
            turn::on_lost(client, now, host, id);
        }
        self.work(now, host);
    }

    /// No TURN server gives an allocation now; they are asked again, as was ordered.
    pub fn on_turn_failed(&mut self, now: Instant, host: &mut Host) {
        if let Some(client) = &mut self.client {
            turn::on_failed(client, now, host);
        }
        self.work(now, host);
    }

    /// The host goes: gives its leases up (RCH-20). Returns whether that is over; call it again after
    /// [`handle`](Self::handle), until it is. Takes half a second at most.
    pub fn leave(&mut self, now: Instant, host: &mut Host) -> bool {
        let is_over = self.client.as_mut().is_none_or(|client| client.leave(now));
        self.work(now, host);
        is_over
    }

    fn next_timer(&self) -> Option<Instant> {
        let client = self.client.as_ref().and_then(Client::next_timer);
        let server = self.server.as_ref().and_then(|(registrar, _)| registrar.next_timer());
        client.into_iter().chain(server).min()
    }

    /// Does what is due, and sends what there is to send. Returns whether the host may have something to do now.
    fn work(&mut self, now: Instant, host: &mut Host) -> bool {
        let is_due = self.next_timer().is_some_and(|at| at <= now);
        if is_due {
            if let Some(client) = &mut self.client {
                client.on_timer(now, host);
            }
            if let Some((registrar, _)) = &mut self.server {
                registrar.on_timer(now);
            }
        }
        if let Some((registrar, desk)) = &mut self.server
            && registrar.take_news()
        {
            desk.resume(now, host, registrar);
        }
        let mut has_sent = false;
        let (client, server) = (&mut self.client, &mut self.server);
        let own = std::iter::from_fn(|| client.as_mut().and_then(Client::poll_transmit));
        let served = std::iter::from_fn(|| server.as_mut().and_then(|(registrar, _)| registrar.poll_transmit()));
        let served = served.map(|(to, packet)| to.datagram(packet));
        for packet in own.chain(served) {
            host.send_aside(packet);
            has_sent = true;
        }
        is_due || has_sent
    }

    /// A packet for the server that this host is, or for the client.
    fn packet(&mut self, now: Instant, host: &mut Host, from: Path, packet: &[u8]) -> Result<(), Dropped> {
        let kind = packet.first().and_then(|first| Kind::of(*first));
        if let Some((registrar, _)) = &mut self.server {
            let served = match kind {
                Some(Kind::Lease | Kind::Connect | Kind::Leg) => registrar.packet(now, from, packet),
                _ => Err(Dropped::Unknown),
            };
            // LEG may be one of another server, for the client.
            if served != Err(Dropped::Unknown) {
                return served;
            }
        }
        let client = self.client.as_mut().ok_or(Dropped::Unwelcome)?;
        client.packet(now, host, from, packet)
    }

    /// Keeps the events that are for nobody else.
    fn take(&mut self, now: Instant, host: &mut Host, event: Event) -> Option<Event> {
        match event {
            Event::Seeking(_, eid) => {
                let absence = self.seek_on_lan(eid);
                match &mut self.client {
                    Some(client) => client.seek(now, host, eid),
                    None => host.unfound(now, &eid, absence),
                }
            }
            Event::Acceptable(listener) => match &mut self.server {
                Some((registrar, desk)) if desk.listener() == listener => desk.admit(now, host, registrar),
                _ if self
                    .client
                    .as_mut()
                    .is_some_and(|client| client.admit(now, host, listener)) => {}
                _ => return Some(event),
            },
            Event::Ready(stream, Interest::Read | Interest::Write) => match (&mut self.server, &mut self.client) {
                (Some((registrar, desk)), _) if desk.has(stream) => desk.serve(now, host, registrar, stream),
                (_, Some(client)) if client.has(stream) => client.read(now, host, stream),
                _ => return Some(event),
            },
            Event::Connected(peer, _) | Event::Link(peer, LinkStatus::Up) => {
                if let Some(client) = &mut self.client {
                    client.watch(now, peer);
                }
                return Some(event);
            }
            Event::Quiet(_) => self.client.iter_mut().for_each(|client| client.confirm(now, false)),
            Event::Link(_, LinkStatus::Stalled) => {
                self.client.iter_mut().for_each(|client| client.confirm(now, true));
                self.work(now, host);
                return Some(event);
            }
            _ => return Some(event),
        }
        self.work(now, host);
        None
    }
}

#[cfg(test)]
mod tests;
