//! Setup of one measurement: the names of backends and workloads, and the parameters both processes get.

use std::net::SocketAddr;
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Largest UDP payload in bytes of every workload but `bulk-natural`: what an Ethernet path bears.
pub(crate) const MTU: u16 = 1452;

/// A transport with its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
pub(crate) enum Backend {
    /// libsss as a builder without settings makes it, on the multi-thread runtime
    Sss,
    /// libsss on the current_thread runtime
    SssTuned,
    /// libsss with its driver on a thread of its own, on the multi-thread runtime
    SssDedicated,
    /// libsss on the current_thread runtime, requests 16 levels below the stream of the connection
    SssDeep,
    /// quinn with ring, default settings
    QuinnRing,
    /// quinn with ring, tuned: current_thread, large socket buffers and windows, MTU 1452 from the start
    QuinnRingTuned,
    /// quinn with aws-lc-rs, default settings
    QuinnAws,
    /// quinn with aws-lc-rs, tuned in the same way
    QuinnAwsTuned,
    /// tokio TCP + TLS 1.3 (aws-lc-rs) + yamux, default settings
    Yamux,
    /// tokio TCP + TLS 1.3 (aws-lc-rs) + yamux, tuned: current_thread, larger frames, raised stream limit
    YamuxTuned,
}

impl Backend {
    /// The backends of a run that names none.
    pub(crate) fn usual() -> Vec<Self> {
        let all = Self::value_variants().iter().copied();
        all.filter(|backend| !matches!(backend, Self::SssDedicated | Self::SssDeep))
            .collect()
    }

    /// Name on the command line and in reports.
    pub(crate) fn name(self) -> String {
        value_name(self)
    }

    /// Returns whether this is the library that the others are compared with.
    pub(crate) fn is_sss(self) -> bool {
        matches!(self, Self::Sss | Self::SssTuned | Self::SssDedicated | Self::SssDeep)
    }

    /// Returns whether its cryptography is that of ring.
    pub(crate) fn uses_ring(self) -> bool {
        matches!(self, Self::QuinnRing | Self::QuinnRingTuned)
    }

    /// Returns whether both processes use the `current_thread` runtime and raised limits.
    pub(crate) fn is_tuned(self) -> bool {
        matches!(
            self,
            Self::SssTuned | Self::SssDeep | Self::QuinnRingTuned | Self::QuinnAwsTuned | Self::YamuxTuned
        )
    }

    /// Which group of peers a ratio may be taken against.
    pub(crate) fn family(self) -> Family {
        match self {
            Self::Sss | Self::SssTuned | Self::SssDedicated | Self::SssDeep => Family::Sss,
            Self::QuinnRing | Self::QuinnAws => Family::Quinn,
            Self::QuinnRingTuned | Self::QuinnAwsTuned => Family::QuinnTuned,
            Self::Yamux | Self::YamuxTuned => Family::Yamux,
        }
    }
}

/// Backends that differ only in settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// libsss.
    Sss,
    /// quinn on its defaults.
    Quinn,
    /// quinn, tuned.
    QuinnTuned,
    /// TCP + TLS + yamux.
    Yamux,
}

/// Workload that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
pub(crate) enum Workload {
    /// one stream from client to server, UDP payloads of at most 1452 bytes
    Bulk,
    /// the same with the packet size each would choose on this path (quinn: 6500, the best it can do)
    BulkNatural,
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
    /// best-effort datagrams of 1000 bytes, from client to server
    Datagrams,
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
        all.filter(|workload| !matches!(workload, Self::Rpc8 | Self::Rpc32 | Self::Rpc1000 | Self::Datagrams))
            .collect()
    }

    /// Name on the command line and in reports.
    pub(crate) fn name(self) -> String {
        value_name(self)
    }

    /// Returns whether the result is memory, which needs no repetition.
    pub(crate) fn is_memory(self) -> bool {
        matches!(self, Self::IdleChannels | Self::IdleStreams | Self::IdleStreams100k)
    }

    /// Tells why a backend has no result here, if it has none.
    pub(crate) fn excludes(self, backend: Backend) -> Option<&'static str> {
        match self {
            Self::BulkNatural if backend.family() == Family::Quinn => Some("its default MTU is at most 1452"),
            Self::BulkNatural if backend == Backend::Yamux => Some("the same as in bulk"),
            Self::IdleStreams | Self::IdleStreams100k if !backend.is_tuned() && !backend.is_sss() => {
                Some("its default stream limit is lower")
            }
            Self::Datagrams if backend.family() == Family::Yamux => Some("TCP has no datagrams"),
            Self::Handshake if backend.uses_ring() => Some("ring has no ML-KEM"),
            Self::Rpc1000 if backend == Backend::Yamux => Some("its default stream limit is lower"),
            Self::IdleStreams100k if backend == Backend::YamuxTuned => Some("takes longer than the run may"),
            _ => None,
        }
    }

    /// Returns whether keys are exchanged by X25519 together with ML-KEM-768, by whoever can.
    pub(crate) fn is_post_quantum(self) -> bool {
        self != Self::HandshakeClassical
    }

    /// Returns whether requests are made on one connection.
    pub(crate) fn is_rpc(self) -> bool {
        use Workload::{Rpc1, Rpc8, Rpc10k, Rpc32, Rpc100, Rpc1000};
        matches!(self, Rpc1 | Rpc8 | Rpc32 | Rpc100 | Rpc1000 | Rpc10k)
    }

    /// Returns whether connections are made and closed all the time.
    pub(crate) fn is_handshake(self) -> bool {
        matches!(self, Self::Handshake | Self::HandshakeClassical)
    }

    /// Bytes of a response.
    pub(crate) fn response(self) -> usize {
        match self {
            Self::Rpc10k => 10 << 10,
            _ => REQUEST,
        }
    }

    /// Requests or handshakes at once.
    pub(crate) fn in_flight(self) -> usize {
        match self {
            Self::Rpc8 => 8,
            Self::Rpc32 => 32,
            Self::Rpc100 | Self::Rpc10k => 100,
            Self::Rpc1000 => 1000,
            Self::Handshake | Self::HandshakeClassical => 16,
            _ => 1,
        }
    }
}

/// Bytes of a request.
pub(crate) const REQUEST: usize = 100;

/// Parameters of one measurement, given to both processes as their first line of input.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Setup {
    pub(crate) backend: Backend,
    pub(crate) workload: Workload,
    pub(crate) seconds: f64,
    pub(crate) warmup: f64,
    pub(crate) channels: usize,
    pub(crate) streams: usize,
    /// Address of the server; for the client only.
    pub(crate) address: Option<Address>,
}

impl Setup {
    /// Length of the measurement.
    pub(crate) fn window(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// Streams that the workload holds open, beside those of its warm-up.
    pub(crate) fn idle_streams(&self) -> usize {
        match self.workload {
            Workload::IdleStreams100k => 100_000,
            _ => self.streams,
        }
    }

    /// Length of the warm-up.
    pub(crate) fn warmup(&self) -> Duration {
        Duration::from_secs_f64(self.warmup)
    }
}

/// Address at which the client reaches the server, and by which it knows that it did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Address {
    pub(crate) socket: SocketAddr,
    /// The certificate in DER, or the EID as text.
    pub(crate) credential: Vec<u8>,
}

fn value_name(value: impl ValueEnum) -> String {
    value
        .to_possible_value()
        .map_or_else(String::new, |value| value.get_name().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_distinct_and_parses() {
        for backend in Backend::value_variants() {
            assert_eq!(Backend::from_str(&backend.name(), false), Ok(*backend));
        }
        for workload in Workload::value_variants() {
            assert_eq!(Workload::from_str(&workload.name(), false), Ok(*workload));
        }
    }

    #[test]
    fn libsss_runs_everything() {
        for workload in Workload::value_variants() {
            for backend in Backend::value_variants().iter().filter(|backend| backend.is_sss()) {
                assert_eq!(workload.excludes(*backend), None);
            }
        }
    }
}
