//! Setup of one measurement: the names of workloads, and the parameters both processes get.

use std::net::SocketAddr;
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Largest UDP payload in bytes of every workload but `bulk-natural`: what an Ethernet path bears.
pub const MTU: u16 = 1452;

/// Settings of a transport, and the runtime under it. Only backends of the same settings are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Settings {
    /// Those of the library where nothing is said, on the multi-thread runtime.
    Default,
    /// Large buffers, windows and limits, on the `current_thread` runtime.
    Tuned,
}

impl Settings {
    /// Both, in the order of reports.
    pub const ALL: [Self; 2] = [Self::Default, Self::Tuned];

    /// Returns whether these are the tuned ones.
    #[must_use]
    pub fn is_tuned(self) -> bool {
        self == Self::Tuned
    }

    /// Name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Tuned => "tuned",
        }
    }
}

/// Workload that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
pub enum Workload {
    /// one stream from client to server, UDP payloads of at most 1452 bytes
    Bulk,
    /// the same with the packet size each would choose on this path (quinn: 6500, the best it can do)
    BulkNatural,
    /// the same as bulk, over 100 streams of one connection at once
    #[value(name = "bulk-100")]
    Bulk100,
    /// 100-byte request and response on a new stream each, one in flight
    #[value(name = "rpc-1")]
    Rpc1,
    /// the same, 8 in flight
    #[value(name = "rpc-8")]
    Rpc8,
    /// the same, 32 in flight
    #[value(name = "rpc-32")]
    Rpc32,
    /// the same, 100 in flight
    #[value(name = "rpc-100")]
    Rpc100,
    /// the same, 1000 in flight
    #[value(name = "rpc-1000")]
    Rpc1000,
    /// the same, 100 in flight, responses of 10 KiB
    #[value(name = "rpc-10k")]
    Rpc10k,
    /// the same as rpc-100, over 8 connections in turn, each of another client
    #[value(name = "peers-8")]
    Peers8,
    /// the same over 100 connections
    #[value(name = "peers-100")]
    Peers100,
    /// the same over 1000 connections
    #[value(name = "peers-1000")]
    Peers1000,
    /// the same over 10,000 connections
    #[value(name = "peers-10000")]
    Peers10000,
    /// best-effort datagrams of 1000 bytes, from client to server
    Datagrams,
    /// the same, sent and taken 32 at a time by whoever has a call for that
    DatagramsMany,
    /// connect, one 100-byte request and response, close; 16 at once, no resumption; X25519 with ML-KEM-768
    Handshake,
    /// the same by X25519 alone
    HandshakeClassical,
    /// memory of connections that do nothing
    IdleChannels,
    /// memory of streams that do nothing, on one connection
    IdleStreams,
    /// the same with 100,000 streams
    #[value(name = "idle-streams-100k")]
    IdleStreams100k,
}

impl Workload {
    /// The workloads of a run that names none.
    pub(crate) fn usual() -> Vec<Self> {
        let all = Self::value_variants().iter().copied();
        all.filter(|workload| !workload.is_of_choice()).collect()
    }

    /// Returns whether it runs only where it is asked for.
    fn is_of_choice(self) -> bool {
        let is_of_many = self.peers() > 0 || self.is_datagrams();
        is_of_many || matches!(self, Self::Bulk100 | Self::Rpc8 | Self::Rpc32 | Self::Rpc1000)
    }

    /// Name on the command line and in reports.
    pub fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Returns whether the result is memory, which needs no repetition.
    #[must_use]
    pub fn is_memory(self) -> bool {
        matches!(self, Self::IdleChannels | Self::IdleStreams | Self::IdleStreams100k)
    }

    /// Returns whether keys are exchanged by X25519 together with ML-KEM-768, by whoever can.
    #[must_use]
    pub fn is_post_quantum(self) -> bool {
        self != Self::HandshakeClassical
    }

    /// Returns whether requests are made on one connection.
    #[must_use]
    pub fn is_rpc(self) -> bool {
        use Workload::{Rpc1, Rpc8, Rpc10k, Rpc32, Rpc100, Rpc1000};
        matches!(self, Rpc1 | Rpc8 | Rpc32 | Rpc100 | Rpc1000 | Rpc10k)
    }

    /// Returns whether datagrams are sent.
    #[must_use]
    pub fn is_datagrams(self) -> bool {
        matches!(self, Self::Datagrams | Self::DatagramsMany)
    }

    /// Returns whether connections are made and closed all the time.
    #[must_use]
    pub fn is_handshake(self) -> bool {
        matches!(self, Self::Handshake | Self::HandshakeClassical)
    }

    /// Connections that take turns, each of another client; 0 if the workload is not about many.
    #[must_use]
    pub fn peers(self) -> usize {
        match self {
            Self::Peers8 => 8,
            Self::Peers100 => 100,
            Self::Peers1000 => 1000,
            Self::Peers10000 => 10_000,
            _ => 0,
        }
    }

    /// Bytes of a response.
    pub fn response(self) -> usize {
        match self {
            Self::Rpc10k => 10 << 10,
            _ => REQUEST,
        }
    }

    /// Requests, handshakes or bulk streams at once.
    pub fn in_flight(self) -> usize {
        match self {
            Self::Rpc8 => 8,
            Self::Rpc32 => 32,
            Self::Rpc100 | Self::Rpc10k | Self::Bulk100 => 100,
            Self::Rpc1000 => 1000,
            Self::Handshake | Self::HandshakeClassical => 16,
            workload if workload.peers() > 0 => 100,
            _ => 1,
        }
    }
}

/// Datagrams of a call for many.
pub(crate) const MANY: usize = 32;

/// Bytes of a request.
pub const REQUEST: usize = 100;

/// Parameters of one measurement, given to both processes as their first line of input.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Setup {
    /// Name of the backend, in the table of the program.
    pub backend: String,
    /// Its settings.
    pub settings: Settings,
    /// Task of this measurement.
    pub workload: Workload,
    /// Length of a timed measurement, after its warm-up.
    pub seconds: f64,
    /// Length of the warm-up.
    pub warmup: f64,
    /// Connections that `idle-channels` holds.
    pub channels: usize,
    /// Streams that `idle-streams` holds.
    pub streams: usize,
    /// Address of the server; for the client only.
    pub address: Option<Address>,
}

impl Setup {
    /// Length of the measurement.
    pub fn window(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// Time that opening the connections of many peers may take.
    pub fn opening(&self) -> Duration {
        match u32::try_from(self.workload.peers()).unwrap_or(u32::MAX) {
            0 => Duration::ZERO,
            peers => Duration::from_secs(60) + Duration::from_millis(10).saturating_mul(peers),
        }
    }

    /// Streams that the workload holds open, beside those of its warm-up.
    pub fn idle_streams(&self) -> usize {
        match self.workload {
            Workload::IdleStreams100k => 100_000,
            _ => self.streams,
        }
    }

    /// Length of the warm-up.
    pub fn warmup(&self) -> Duration {
        Duration::from_secs_f64(self.warmup)
    }
}

/// Address at which the client reaches the server, and by which it knows that it did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// Address of the server's socket.
    pub socket: SocketAddr,
    /// The certificate in DER, the EID as text, or whatever a transport knows its server by.
    pub credential: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_distinct_and_parses() {
        for workload in Workload::value_variants() {
            assert_eq!(Workload::from_str(&workload.name(), false), Ok(*workload));
        }
    }
}
