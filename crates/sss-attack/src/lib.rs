//! A hostile peer of SSS hosts, to try one's own with: each attack of [`Command`] goes on for a time that was said
//! before, against a host of this machine or of a network that leads nowhere ([`Target`]).
//!
//! Strangers ([`Command::Hellos`] and the like) write packets by hand. Peers are true hosts of `libsss` that mean no
//! good; where they have to do what no host does, a relay between the two does it.

mod error;
mod peers;
mod relay;
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
}

impl Command {
    /// Attacks for so long, and tells what was done. Whatever it holds is given back before it returns.
    ///
    /// # Errors
    /// When this program has no sockets or threads; what the target does about it is none.
    pub fn run(&self, time: Duration) -> Result<Report, AttackError> {
        let tally = Tally::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (name, done) = match self {
            Self::Hellos(victim) => ("hellos", strangers::run(Flood::Spoofed, victim, time, &tally)),
            Self::Tokens(victim) => ("tokens", strangers::run(Flood::Proven, victim, time, &tally)),
            Self::Garbage(victim) => ("garbage", strangers::run(Flood::Garbage, victim, time, &tally)),
            Self::Initiates(victim) => {
                let attack = peers::one_after_another(victim, Fault::Forge, &tally);
                ("initiates", runtime.block_on(until(time, attack)))
            }
            Self::Vanishes(victim) => {
                let attack = peers::one_after_another(victim, Fault::Cut, &tally);
                ("vanishes", runtime.block_on(until(time, attack)))
            }
            Self::Replays(victim) => {
                let attack = peers::fetch_by_relay(victim, Fault::Repeat, &tally);
                ("replays", runtime.block_on(until(time, attack)))
            }
            Self::Moves(victim) => {
                let attack = peers::fetch_by_relay(victim, Fault::Move, &tally);
                ("moves", runtime.block_on(until(time, attack)))
            }
            Self::Opens(victim) => ("opens", runtime.block_on(until(time, peers::open(victim, &tally)))),
            Self::Resets(victim) => ("resets", runtime.block_on(until(time, peers::reset(victim, &tally)))),
            Self::Unread(victim) => ("unread", runtime.block_on(until(time, peers::unread(victim, &tally)))),
        };
        runtime.shutdown_background();
        done.map(|()| tally.report(name))
    }
}

/// Runs an attack until this time is over, or it fails.
async fn until(time: Duration, attack: impl Future<Output = Result<(), AttackError>>) -> Result<(), AttackError> {
    tokio::time::timeout(time, attack).await.unwrap_or(Ok(()))
}
