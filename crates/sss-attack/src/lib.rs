//! A hostile peer of SSS hosts, to try one's own with: each attack of [`Command`] goes on for a time that was said
//! before, against a host of this machine or of a network that leads nowhere ([`Target`]).
//!
//! Strangers ([`Command::Hellos`] and the like) write packets by hand. Peers are true hosts of `libsss` that mean no
//! good; where they have to do what no host does, a relay between the two does it, or this program takes the keys of a
//! channel into its own hands ([`Command::Acks`] and the like).

mod error;
mod forger;
mod handshake;
mod insiders;
mod pace;
mod peers;
mod relay;
mod scripts;
mod strangers;
mod tally;
mod target;
mod victim;

use std::time::Duration;

use clap::Subcommand;

pub use error::AttackError;
pub use tally::Report;
pub use target::{Target, TargetError};
pub use victim::Victim;

use crate::relay::Fault;
use crate::scripts::Script;
use crate::strangers::Flood;
use crate::tally::Tally;

/// Attacks.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Send HELLOs without tokens, from 250 addresses of 127/8 in turn where the target is there.
    Hellos(Victim),
    /// Send HELLOs with tokens: prove addresses, and use each token as often as it is good for.
    Tokens(Victim),
    /// Send packets of random bytes, and of every type.
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
    /// Be one peer after the other that asks for a file, and is never heard of again: nothing is acknowledged.
    Vanishes(Victim),
    /// Be a peer whose address changes fifty times a second.
    Moves(Victim),
    /// Send HELLO_Ks with tokens of addresses that were proven, and keys that cost an encapsulation each.
    Legs(Victim),
    /// Send PROBEs, from 250 addresses.
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
    /// Send one byte at each second place of streams, and few of the streams.
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

impl Command {
    fn deed(&self) -> (&'static str, &Victim, Means) {
        match self {
            Self::Hellos(victim) => ("hellos", victim, Means::Flood(Flood::Spoofed)),
            Self::Tokens(victim) => ("tokens", victim, Means::Flood(Flood::Proven)),
            Self::Legs(victim) => ("legs", victim, Means::Flood(Flood::Legs)),
            Self::Probes(victim) => ("probes", victim, Means::Flood(Flood::Probes)),
            Self::Garbage(victim) => ("garbage", victim, Means::Flood(Flood::Garbage)),
            Self::Answers(victim) => ("answers", victim, Means::Flood(Flood::Answers)),
            Self::Payloads(victim) => ("payloads", victim, Means::Payloads),
            Self::Keys(victim) => ("keys", victim, Means::Keys),
            Self::Initiates(victim) => ("initiates", victim, Means::Peers(Fault::Forge)),
            Self::Vanishes(victim) => ("vanishes", victim, Means::Peers(Fault::Cut)),
            Self::Replays(victim) => ("replays", victim, Means::Peer(Fault::Repeat)),
            Self::Moves(victim) => ("moves", victim, Means::Peer(Fault::Move)),
            Self::Damages(victim) => ("damages", victim, Means::Peer(Fault::Damage)),
            Self::Reflects(victim) => ("reflects", victim, Means::Peer(Fault::Reflect)),
            Self::Spoofs(victim) => ("spoofs", victim, Means::Peer(Fault::Spoof)),
            Self::Opens(victim) => ("opens", victim, Means::Opens),
            Self::Resets(victim) => ("resets", victim, Means::Resets),
            Self::Unread(victim) => ("unread", victim, Means::Unread),
            Self::Acks(victim) => ("acks", victim, Means::Script(Script::Acks)),
            Self::Skips(victim) => ("skips", victim, Means::Script(Script::Skips)),
            Self::Gaps(victim) => ("gaps", victim, Means::Script(Script::Gaps)),
            Self::Trees(victim) => ("trees", victim, Means::Script(Script::Trees)),
            Self::Datagrams(victim) => ("datagrams", victim, Means::Script(Script::Datagrams)),
            Self::Updates(victim) => ("updates", victim, Means::Script(Script::Updates)),
            Self::Stops(victim) => ("stops", victim, Means::Script(Script::Stops)),
            Self::Questions(victim) => ("questions", victim, Means::Script(Script::Questions)),
            Self::Challenges(victim) => ("challenges", victim, Means::Script(Script::Challenges)),
            Self::Nonsense(victim) => ("nonsense", victim, Means::Script(Script::Nonsense)),
            Self::Idles(victim) => ("idles", victim, Means::Idle),
        }
    }

    /// Makes sure that the target is there, attacks it for so long, and tells what was done. Whatever it holds is given
    /// back before it returns.
    ///
    /// # Errors
    /// When nobody is at the target within 3 s ([`AttackError::NotThere`]), or this program has no sockets or threads;
    /// what the target does about the attack is none.
    pub fn run(&self, time: Duration) -> Result<Report, AttackError> {
        let tally = Tally::default();
        let (name, victim, means) = self.deed();
        peers::meet(victim)?;
        match means {
            Means::Flood(flood) => strangers::run(flood, victim, time, &tally)?,
            Means::Script(script) => scripts::run(script, victim, time, &tally)?,
            Means::Payloads => insiders::payloads(victim, time, &tally)?,
            Means::Keys => insiders::keys(victim, time, &tally)?,
            Means::Idle => scripts::idle(victim, time, &tally)?,
            Means::Peers(fault) => until(time, peers::one_after_another(victim, fault, &tally))?,
            Means::Peer(fault) => until(time, peers::fetch_by_relay(victim, fault, &tally))?,
            Means::Opens => until(time, peers::open(victim, &tally))?,
            Means::Resets => until(time, peers::reset(victim, &tally))?,
            Means::Unread => until(time, peers::unread(victim, &tally))?,
        }
        Ok(tally.report(name))
    }
}

/// Runs an attack until this time is over, or it fails.
fn until(time: Duration, attack: impl Future<Output = Result<(), AttackError>>) -> Result<(), AttackError> {
    let runtime = peers::runtime()?;
    let done = runtime.block_on(async { tokio::time::timeout(time, attack).await });
    runtime.shutdown_background();
    done.unwrap_or(Ok(()))
}
