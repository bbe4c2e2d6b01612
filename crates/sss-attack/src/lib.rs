//! A hostile peer of SSS hosts, to try one's own with: each attack of [`Command`] goes on for a time that was said
//! before, against a host of this machine or of a network that leads nowhere ([`Target`]).
//!
//! Strangers ([`Command::Hellos`] and the like) write packets by hand. Peers are true hosts of `libsss` that mean no
//! good; where they have to do what no host does, a relay between the two does it, or this program takes the keys of a
//! channel into its own hands ([`Command::Acks`] and the like). Clients are attacked by servers that do the same
//! ([`Command::Serve`]), and by somebody between them and an honest one ([`Command::Between`]).
//!
//! Others have honest hosts send to a third party: a registration server that lies ([`Command::Lies`]), and hosts that
//! are registered with an honest one ([`Command::Calls`], [`Command::Leases`]).

mod between;
mod callers;
mod crowd;
mod driven;
mod error;
mod forger;
mod greeting;
mod handshake;
mod insiders;
mod liar;
mod member;
mod pace;
mod peers;
mod relay;
mod scripts;
mod strangers;
mod tally;
mod target;
mod trap;
mod victim;

use std::time::Duration;

use clap::Subcommand;

pub use between::Spot;
pub use callers::{Disguise, Party};
pub use crowd::Crowd;
pub use error::AttackError;
pub use liar::Lies;
pub use pace::Stop;
pub use tally::Report;
pub use target::{Target, TargetError};
pub use trap::{Bait, Evil};
pub use victim::Victim;

use crate::between::Between;
use crate::callers::{Callers, Masked};
use crate::liar::Liar;
use crate::pace::Span;
use crate::relay::Fault;
use crate::scripts::Script;
use crate::strangers::Flood;
use crate::tally::Tally;
use crate::trap::Trap;

/// Attacks.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Send HELLOs without tokens, from 250 addresses of 127/8 in turn where the target is there.
    Hellos(Victim),
    /// Send HELLOs with tokens: prove addresses, and use each token as often as it is good for.
    Tokens(Victim),
    /// Send packets of random bytes, and of every type; from each fifth address so short ones that none is answered.
    Garbage(Victim),
    /// Begin handshakes properly, and send each INITIATE a hundred times with a payload that is forged.
    Initiates(Victim),
    /// Negotiate by hand, with true keys, and say inside what nobody should: wrong lists, settings and frames, no leg.
    Payloads(Victim),
    /// Negotiate with keys that are none: points of low order, and encapsulation keys out of range.
    Keys(Victim),
    /// Send answers that nobody asked for: COOKIE, COOKIE_K, ACCEPT, RETRY, VERSION and PROBE_REPLY.
    Answers(Victim),
    /// Be a peer that sends each of its packets again, ten times, half of them from other addresses.
    Replays(Victim),
    /// Be a peer that opens streams without end and finishes none.
    Opens(Victim),
    /// Be a peer that opens streams and resets them at once, without end.
    Resets(Victim),
    /// Be a peer that asks for a file on each of very many streams, and reads none.
    Unread(Victim),
    /// Be very many peers, from one address or from many, each of which asks for a file and reads 2 kB of it a second.
    Crawls(Crowd),
    /// Be one peer after the other that asks for a file, and is never heard of again: nothing is acknowledged.
    Vanishes(Victim),
    /// Be a peer whose address changes fifty times a second.
    Moves(Victim),
    /// Send HELLO_Ks with tokens of addresses that were proven, and keys that cost an encapsulation each.
    Legs(Victim),
    /// Send PROBEs, from 250 addresses, each second one shorter than its answer would be.
    Probes(Victim),
    /// Be a peer before each of whose packets come forgeries of it: damaged, cut, and such as could be resets.
    Damages(Victim),
    /// Be a peer to which everything that it sent comes back.
    Reflects(Victim),
    /// Be a peer each fourth of whose packets comes from the address of somebody else.
    Spoofs(Victim),
    /// Acknowledge what was never received, never sent, or left out; again and again; with times and marks that lie.
    Acks(Victim),
    /// Acknowledge all up to the latest packet, also the numbers that the target has left out.
    Skips(Victim),
    /// Send one byte at each second place of streams, and few of the streams; and far beyond what was granted.
    Gaps(Victim),
    /// Open streams below streams, deeper than may be.
    Trees(Victim),
    /// Announce datagrams of all sizes, and send none whole.
    Datagrams(Victim),
    /// Update keys with each packet.
    Updates(Victim),
    /// Stop and reset what was asked for at once, go on with what was stopped, and acknowledge nothing.
    Stops(Victim),
    /// Ask questions, give credit and change priorities without end.
    Questions(Victim),
    /// Send challenges of paths without end.
    Challenges(Victim),
    /// Send random frames, sealed as they should be.
    Nonsense(Victim),
    /// Make channels of one identity without end, and use none.
    Idles(Victim),
    /// Attack clients: be a server that means no good to whoever connects.
    Serve(Bait),
    /// Attack clients: sit between them and an honest server, and flood them with forgeries of what it says.
    Between(Spot),
    /// Be a registration server that says of its clients, and of callers that it makes up, that they are at the
    /// addresses of somebody else.
    Lies(Lies),
    /// Be hosts of a registration server that call another there again and again, and may name addresses of others as
    /// their own.
    Calls(Party),
    /// Be hosts of a registration server that send what makes it answer, and relay, under the address of somebody else.
    Leases(Disguise),
}

/// Means of an attack.
#[derive(Clone, Copy, Debug)]
enum Means {
    Flood(Flood),
    /// One peer after the other, behind a relay.
    Peers(Fault),
    /// One peer, behind a relay.
    Peer(Fault),
    Script(Script),
    Payloads,
    Keys,
    Idle,
    Opens,
    Resets,
    Unread,
}

/// Aim of an attack.
enum Aim<'a> {
    Host(&'a Victim, Means),
    Crowded(&'a Crowd),
    Clients(&'a Bait),
    ClientsOf(&'a Spot),
    Registered(&'a Lies),
    Called(&'a Party),
    Third(&'a Disguise),
}

impl Command {
    /// The name of the attack, and what it is about.
    fn deed(&self) -> (&'static str, Aim<'_>) {
        match self {
            Self::Hellos(victim) => ("hellos", Aim::Host(victim, Means::Flood(Flood::Spoofed))),
            Self::Tokens(victim) => ("tokens", Aim::Host(victim, Means::Flood(Flood::Proven))),
            Self::Legs(victim) => ("legs", Aim::Host(victim, Means::Flood(Flood::Legs))),
            Self::Probes(victim) => ("probes", Aim::Host(victim, Means::Flood(Flood::Probes))),
            Self::Garbage(victim) => ("garbage", Aim::Host(victim, Means::Flood(Flood::Garbage))),
            Self::Answers(victim) => ("answers", Aim::Host(victim, Means::Flood(Flood::Answers))),
            Self::Payloads(victim) => ("payloads", Aim::Host(victim, Means::Payloads)),
            Self::Keys(victim) => ("keys", Aim::Host(victim, Means::Keys)),
            Self::Initiates(victim) => ("initiates", Aim::Host(victim, Means::Peers(Fault::Forge))),
            Self::Vanishes(victim) => ("vanishes", Aim::Host(victim, Means::Peers(Fault::Cut))),
            Self::Replays(victim) => ("replays", Aim::Host(victim, Means::Peer(Fault::Repeat))),
            Self::Moves(victim) => ("moves", Aim::Host(victim, Means::Peer(Fault::Move))),
            Self::Damages(victim) => ("damages", Aim::Host(victim, Means::Peer(Fault::Damage))),
            Self::Reflects(victim) => ("reflects", Aim::Host(victim, Means::Peer(Fault::Reflect))),
            Self::Spoofs(victim) => ("spoofs", Aim::Host(victim, Means::Peer(Fault::Spoof))),
            Self::Opens(victim) => ("opens", Aim::Host(victim, Means::Opens)),
            Self::Resets(victim) => ("resets", Aim::Host(victim, Means::Resets)),
            Self::Unread(victim) => ("unread", Aim::Host(victim, Means::Unread)),
            Self::Acks(victim) => ("acks", Aim::Host(victim, Means::Script(Script::Acks))),
            Self::Skips(victim) => ("skips", Aim::Host(victim, Means::Script(Script::Skips))),
            Self::Gaps(victim) => ("gaps", Aim::Host(victim, Means::Script(Script::Gaps))),
            Self::Trees(victim) => ("trees", Aim::Host(victim, Means::Script(Script::Trees))),
            Self::Datagrams(victim) => ("datagrams", Aim::Host(victim, Means::Script(Script::Datagrams))),
            Self::Updates(victim) => ("updates", Aim::Host(victim, Means::Script(Script::Updates))),
            Self::Stops(victim) => ("stops", Aim::Host(victim, Means::Script(Script::Stops))),
            Self::Questions(victim) => ("questions", Aim::Host(victim, Means::Script(Script::Questions))),
            Self::Challenges(victim) => ("challenges", Aim::Host(victim, Means::Script(Script::Challenges))),
            Self::Nonsense(victim) => ("nonsense", Aim::Host(victim, Means::Script(Script::Nonsense))),
            Self::Idles(victim) => ("idles", Aim::Host(victim, Means::Idle)),
            Self::Crawls(crowd) => ("crawls", Aim::Crowded(crowd)),
            Self::Serve(bait) => ("serve", Aim::Clients(bait)),
            Self::Between(spot) => ("between", Aim::ClientsOf(spot)),
            Self::Lies(lies) => ("lies", Aim::Registered(lies)),
            Self::Calls(party) => ("calls", Aim::Called(party)),
            Self::Leases(disguise) => ("leases", Aim::Third(disguise)),
        }
    }

    /// Makes sure that the target is there, or begins to listen for clients.
    ///
    /// # Errors
    /// When nobody is at the target within 3 s ([`AttackError::NotThere`]), or this program has no sockets.
    pub fn prepare(&self) -> Result<Attack, AttackError> {
        let (name, aim) = self.deed();
        let tally = Tally::default();
        let deed = match aim {
            Aim::Host(victim, means) => {
                peers::meet(&victim.target)?;
                Deed::Host(victim.clone(), means)
            }
            Aim::Crowded(crowd) => {
                peers::meet(&crowd.victim.target)?;
                Deed::Crowd(crowd.clone())
            }
            Aim::Clients(bait) => Deed::Serve(Box::new(Trap::new(bait)?)),
            Aim::ClientsOf(spot) => {
                peers::meet(&spot.target)?;
                Deed::Between(Box::new(Between::new(spot)?))
            }
            Aim::Registered(lies) => Deed::Lies(Box::new(Liar::new(lies)?)),
            Aim::Called(party) => Deed::Calls(Callers::new(party, &tally)?),
            Aim::Third(disguise) => Deed::Leases(Box::new(Masked::new(disguise, &tally)?)),
        };
        let stop = Stop::default();
        Ok(Attack {
            name,
            deed,
            stop,
            tally,
        })
    }

    /// Does both: prepares the attack, and lets it go on for so long.
    ///
    /// # Errors
    /// As [`Self::prepare`], and [`Attack::run`].
    pub fn run(&self, time: Duration) -> Result<Report, AttackError> {
        self.prepare()?.run(time)
    }
}

enum Deed {
    Host(Victim, Means),
    Crowd(Crowd),
    Serve(Box<Trap>),
    Between(Box<Between>),
    Lies(Box<Liar>),
    Calls(Callers),
    Leases(Box<Masked>),
}

/// An attack that can begin.
pub struct Attack {
    name: &'static str,
    deed: Deed,
    stop: Stop,
    tally: Tally,
}

impl Attack {
    /// The target that clients are to be told, if clients are attacked.
    ///
    /// # Errors
    /// The system does not tell the address.
    pub fn listening(&self) -> Result<Option<Target>, AttackError> {
        match &self.deed {
            Deed::Host(..) | Deed::Crowd(_) | Deed::Calls(_) | Deed::Leases(_) => Ok(None),
            Deed::Serve(trap) => trap.target().map(Some),
            Deed::Between(between) => between.target().map(Some),
            Deed::Lies(liar) => liar.target().map(Some),
        }
    }

    /// The means to end it before its time, if clients are attacked, or by hosts that are registered; other hosts are
    /// attacked for all of it.
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Attacks for so long, and tells what was done. Whatever it holds is given back before it returns.
    ///
    /// # Errors
    /// When this program has no sockets or threads; what the target does about the attack is none.
    pub fn run(self, time: Duration) -> Result<Report, AttackError> {
        let tally = self.tally;
        match self.deed {
            Deed::Host(victim, means) => means.run(&victim, time, &tally)?,
            Deed::Crowd(crowd) => until(time, crowd::crawl(&crowd, &tally))?,
            Deed::Serve(trap) => trap.run(&Span::new(time, self.stop), &tally)?,
            Deed::Between(between) => between.run(&Span::new(time, self.stop), &tally)?,
            Deed::Lies(liar) => liar.run(&Span::new(time, self.stop), &tally)?,
            Deed::Calls(callers) => callers.run(&Span::new(time, self.stop), &tally)?,
            Deed::Leases(masked) => masked.run(&Span::new(time, self.stop), &tally)?,
        }
        Ok(tally.report(self.name))
    }
}

impl std::fmt::Debug for Attack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attack")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Means {
    fn run(self, victim: &Victim, time: Duration, tally: &Tally) -> Result<(), AttackError> {
        match self {
            Self::Flood(flood) => strangers::run(flood, victim, time, tally),
            Self::Script(script) => scripts::run(script, victim, time, tally),
            Self::Payloads => insiders::payloads(victim, time, tally),
            Self::Keys => insiders::keys(victim, time, tally),
            Self::Idle => scripts::idle(victim, time, tally),
            Self::Peers(fault) => until(time, peers::one_after_another(victim, fault, tally)),
            Self::Peer(fault) => until(time, peers::fetch_by_relay(victim, fault, tally)),
            Self::Opens => until(time, peers::open(victim, tally)),
            Self::Resets => until(time, peers::reset(victim, tally)),
            Self::Unread => until(time, peers::unread(victim, tally)),
        }
    }
}

/// Runs an attack until this time is over, or it fails.
fn until(time: Duration, attack: impl Future<Output = Result<(), AttackError>>) -> Result<(), AttackError> {
    let runtime = peers::runtime()?;
    let done = runtime.block_on(async { tokio::time::timeout(time, attack).await });
    runtime.shutdown_background();
    done.unwrap_or(Ok(()))
}
