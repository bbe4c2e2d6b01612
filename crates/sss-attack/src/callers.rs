//! Hosts that are registered with an honest server, and have it introduce them to others, or send in others' names.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use clap::Args;
use sss::Eid;
use sss_wire::reach::bodies::MappedPort;
use sss_wire::reach::relay_header;

use crate::error::{AttackError, random};
use crate::greeting::Greeting;
use crate::member::{Member, News};
use crate::pace::{PAUSE, Pace, Span, Stop};
use crate::tally::Tally;
use crate::target::{self, Target};

/// Packets of one host that are taken in at once.
const MOST: usize = 256;
/// Bytes of a packet over the relay, beside its header.
const LOAD: usize = 1000;
/// Time for which handles are waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Hosts that are registered with a server, and whom they call.
#[derive(Args, Clone, Debug)]
pub struct Party {
    /// The registration server: EID@ADDRESS:PORT.
    pub server: Target,
    /// The host that is called: its EID.
    pub callee: Eid,
    /// Identities.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub identities: u16,
    /// Calls a second of each, at most.
    #[arg(long, default_value_t = 100)]
    pub rate: u32,
    /// Addresses that callers name as those of their own network.
    #[arg(long = "candidate")]
    pub candidates: Vec<SocketAddr>,
}

/// Hosts that send in the name of somebody else.
#[derive(Args, Clone, Debug)]
pub struct Disguise {
    /// Those hosts: two, whatever is said of their number.
    #[command(flatten)]
    pub party: Party,
    /// The address of somebody else, of the loopback or of 198.18.0.0/15, which this machine was given as well (`ip
    /// address add ADDRESS dev lo`).
    #[arg(long, value_parser = target::parse_closed)]
    pub from: SocketAddr,
}

/// Registered hosts.
pub(crate) struct Callers {
    party: Party,
    members: Vec<Member>,
}

impl Callers {
    /// Registers all.
    ///
    /// # Errors
    /// The server does not take them; or an address is to be named that may be another's.
    pub(crate) fn new(party: &Party, tally: &Tally) -> Result<Self, AttackError> {
        for address in &party.candidates {
            target::check_named(party.server.address, *address)?;
        }
        let members = (0..party.identities).map(|_| Member::register(&party.server, tally));
        Ok(Self {
            members: members.collect::<Result<_, _>>()?,
            party: party.clone(),
        })
    }

    /// Each asks for the callee again and again, each time as another attempt.
    ///
    /// # Errors
    /// There is no entropy.
    pub(crate) fn run(mut self, span: &Span, tally: &Tally) -> Result<(), AttackError> {
        let mut pace = Pace::new(self.party.rate);
        while !span.is_over() {
            for _ in 0..pace.burst() {
                for member in &mut self.members {
                    let greeting = Greeting::new(&self.party.callee, &self.party.candidates)?;
                    for packet in member.connect(&self.party.callee, random()?, &greeting) {
                        member.send(&packet, tally);
                    }
                }
            }
            for member in &self.members {
                for news in std::iter::from_fn(|| member.receive(tally)).take(MOST) {
                    if matches!(news, Some(News::Found(..))) {
                        tally.introduced();
                    }
                }
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }
}

/// Two registered hosts that know each other, and a socket with the address of somebody else.
pub(crate) struct Masked {
    party: Party,
    /// The one that says that it is elsewhere, and the one that floods it.
    pair: [Member; 2],
    mask: UdpSocket,
    /// The handles of both.
    handles: [u32; 2],
}

impl Masked {
    /// Registers both, and has them introduced to each other.
    ///
    /// # Errors
    /// The server does not take them, or the system does not lend the address.
    pub(crate) fn new(disguise: &Disguise, tally: &Tally) -> Result<Self, AttackError> {
        let party = disguise.party.clone();
        let mask = UdpSocket::bind(disguise.from)?;
        mask.set_nonblocking(true)?;
        let register = || Member::register(&party.server, tally);
        let mut pair = [register()?, register()?];
        let handles = introduce(&mut pair, tally)?;
        Ok(Self {
            party,
            pair,
            mask,
            handles,
        })
    }

    /// Says in the name of somebody else all that could make a server send there: LEASE with a token of one's own, and
    /// again; LEASE that asks for an echo; CONNECT; packets over the relay, with handles of one's own and others. The
    /// other of the two floods its handle meanwhile.
    ///
    /// # Errors
    /// There is no entropy.
    pub(crate) fn run(mut self, span: &Span, tally: &Tally) -> Result<(), AttackError> {
        let (mut pace, load) = (Pace::new(self.party.rate), [0x40; LOAD]);
        // Who has sent on a handle is sent to.
        for (member, handle) in self.pair.iter().zip(self.handles) {
            member.send(&[&relay_header(handle)[..], &load].concat(), tally);
        }
        while !span.is_over() {
            for _ in 0..pace.burst() {
                let [mover, accomplice] = &mut self.pair;
                let lease = mover.lease(MappedPort::default());
                let echo = mover.lease(MappedPort {
                    port: 443,
                    wants_echo: true,
                });
                let greeting = Greeting::new(&self.party.callee, &[])?;
                let [connect, leg] = mover.connect(&self.party.callee, random()?, &greeting);
                let [to_accomplice, _] = mover.connect(&accomplice.eid, random()?, &greeting);
                let own = [&relay_header(self.handles[0])[..], &load].concat();
                let foreign = [&relay_header(u32::from_be_bytes(random()?))[..], &load].concat();
                for packet in [&lease, &lease, &echo, &connect, &leg, &to_accomplice, &own, &foreign] {
                    if self.mask.send_to(packet, mover.server).is_ok() {
                        tally.forged(packet.len());
                    }
                }
                accomplice.send(&[&relay_header(self.handles[1])[..], &load].concat(), tally);
            }
            for (member, handle) in self.pair.iter().zip(&mut self.handles) {
                for news in std::iter::from_fn(|| member.receive(tally)).take(MOST) {
                    // A server that believed the mover would name another handle, to the third party.
                    if let Some(News::Notify(way)) = news {
                        *handle = way.handle;
                    }
                }
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }
}

/// Has the second call the first, and returns their handles.
fn introduce(pair: &mut [Member; 2], tally: &Tally) -> Result<[u32; 2], AttackError> {
    let span = Span::new(PATIENCE, Stop::default());
    let [first, second] = pair;
    let greeting = Greeting::new(&first.eid, &[])?;
    for packet in second.connect(&first.eid, random()?, &greeting) {
        second.send(&packet, tally);
    }
    let mut handles = [0; 2];
    while !span.is_over() && handles.contains(&0) {
        for (member, handle) in [&*first, &*second].into_iter().zip(&mut handles) {
            while let Some(news) = member.receive(tally) {
                if let Some(News::Found(way) | News::Notify(way)) = news {
                    *handle = way.handle;
                }
            }
        }
        std::thread::sleep(PAUSE);
    }
    match handles.contains(&0) {
        true => Err(AttackError::NotRegistered(first.server)),
        false => {
            tally.introduced();
            Ok(handles)
        }
    }
}
