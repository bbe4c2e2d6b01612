//! A server that means no good, for clients.

use std::net::{SocketAddr, UdpSocket};

use clap::{Args, ValueEnum};
use sss::Eid;
use sss_crypto::StaticKey;
use sss_proto::TransmitBuf;

use crate::error::{AttackError, random};
use crate::forger::{Channel, Negotiation};
use crate::pace::{PAUSE, Span};
use crate::scripts::{Follower, Means, Script, Side};
use crate::tally::Tally;
use crate::target::{self, Target};

/// Channels that are attacked at once; the oldest makes room for another one.
const CHANNELS: usize = 64;
/// Datagrams that are taken in at once.
const MOST: usize = 256;
/// Longest datagram that is read.
const LONGEST: usize = 2048;

/// Evils that a server does to its clients, once they have a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Evil {
    /// Say nothing more, not even that anything arrived.
    Silence,
    /// Acknowledge what was never sent, and lie in other ways.
    Acks,
    /// Send one byte at each second place of streams that nobody asked for.
    Gaps,
    /// Open streams below streams, deeper than may be, without end.
    Trees,
    /// Open streams and reset them, without end.
    Resets,
    /// Announce datagrams of all sizes, and send none whole.
    Datagrams,
    /// Update keys with each packet.
    Updates,
    /// Go on with what was stopped.
    Stops,
    /// Ask questions, give credit and change priorities without end.
    Questions,
    /// Send challenges of paths without end.
    Challenges,
    /// Send random frames, sealed as they should be.
    Nonsense,
}

impl Evil {
    fn script(self) -> Script {
        match self {
            Self::Silence => Script::Silence,
            Self::Acks => Script::Acks,
            Self::Gaps => Script::Gaps,
            Self::Trees => Script::Trees,
            Self::Resets => Script::Resets,
            Self::Datagrams => Script::Datagrams,
            Self::Updates => Script::Updates,
            Self::Stops => Script::Stops,
            Self::Questions => Script::Questions,
            Self::Challenges => Script::Challenges,
            Self::Nonsense => Script::Nonsense,
        }
    }
}

/// Means of a server that means no good.
#[derive(Args, Clone, Debug)]
pub struct Bait {
    /// Evil that it does to whoever connects.
    pub evil: Evil,
    /// Address to listen at, of the loopback or of 198.18.0.0/15.
    #[arg(long, default_value = "127.0.0.1:0", value_parser = target::parse_closed)]
    pub bind: SocketAddr,
    /// Packets a second for each client, at most.
    #[arg(long, default_value_t = 2000)]
    pub rate: u32,
}

/// A server that makes channels as it should, and then does evil on them.
pub(crate) struct Trap {
    key: [u8; 32],
    socket: UdpSocket,
    negotiation: Negotiation,
    script: Script,
    means: Means,
    followers: Vec<Follower>,
    peers: u64,
}

impl Trap {
    /// A server with a new identity.
    ///
    /// # Errors
    /// The address cannot be had, or there is no entropy.
    pub(crate) fn new(bait: &Bait) -> Result<Self, AttackError> {
        let (key, socket) = (random()?, UdpSocket::bind(bait.bind)?);
        socket.set_nonblocking(true)?;
        Ok(Self {
            key,
            negotiation: Negotiation::expected(key, socket.try_clone()?)?,
            socket,
            script: bait.evil.script(),
            // What it sends as a request makes no sense to a client anyway.
            means: Means::new(b"no request".to_vec(), bait.rate)?,
            followers: Vec::new(),
            peers: 0,
        })
    }

    /// The server as a target of clients.
    ///
    /// # Errors
    /// The system does not tell the address.
    pub(crate) fn target(&self) -> Result<Target, AttackError> {
        let eid = Eid::from_public_key(&StaticKey::from_bytes(self.key).public());
        Ok(Target {
            eid,
            address: self.socket.local_addr()?,
        })
    }

    /// Serves for as long as this goes on.
    ///
    /// # Errors
    /// There are no more sockets, or there is no entropy.
    pub(crate) fn run(mut self, span: &Span, tally: &Tally) -> Result<(), AttackError> {
        let mut buf = TransmitBuf::new(1);
        while !span.is_over() {
            let mut packet = [0; LONGEST];
            for _ in 0..MOST {
                let Ok((n, from)) = self.socket.recv_from(&mut packet) else {
                    break;
                };
                tally.answered(n);
                self.take(packet.get_mut(..n).unwrap_or_default(), from, (&mut buf, tally))?;
            }
            self.negotiation.tick();
            self.negotiation.flush(&mut buf);
            self.followers.retain(|follower| !follower.channel.is_over());
            for follower in &mut self.followers {
                follower.step(&self.means);
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn take(
        &mut self,
        packet: &mut [u8],
        from: SocketAddr,
        with: (&mut TransmitBuf, &Tally),
    ) -> Result<(), AttackError> {
        let (buf, tally) = with;
        if let Some(follower) = self.followers.iter_mut().find(|f| f.channel.is_its(packet)) {
            follower.channel.take(packet);
            return Ok(());
        }
        self.negotiation.take(packet, from);
        self.negotiation.flush(buf);
        if let Some(channel) = Channel::accepted(&self.negotiation, from, tally)? {
            // The host that made it knows it no more: what is said on it is now said by hand.
            self.negotiation = Negotiation::expected(self.key, self.socket.try_clone()?)?;
            if self.followers.len() >= CHANNELS {
                self.followers.remove(0);
            }
            let follower = Follower::new(self.script, channel, (self.peers, Side::Responder), &self.means);
            self.followers.push(follower);
            self.peers += 1;
        }
        Ok(())
    }
}
