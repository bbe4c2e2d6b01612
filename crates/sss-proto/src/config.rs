//! Settings of a host, with defaults that work.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sss_crypto::Suite;
use sss_wire::params::Shard;
use sss_wire::{Eid, constants};
use thiserror::Error;

use crate::padding::Padding;
use crate::route::Route;

/// Decides whether this host talks to a peer at all, before any state is kept for it.
pub type AcceptFilter = Arc<dyn Fn(&Eid, Route) -> bool + Send + Sync>;

/// Bytes of the texts that a host may be given, at most.
const MAX_TEXT: usize = 64;

/// Settings of a host.
#[derive(Clone)]
#[non_exhaustive]
pub struct Config {
    /// A channel ends when nothing was heard for this long. Zero: never. Default 60 s.
    pub idle_timeout: Duration,
    /// While a stream is open, the peer is asked for a sign of life after this much silence. Default 15 s.
    pub keepalive: Duration,
    /// Time that an attempt to reach a peer may take: more than zero. Default 60 s.
    pub connect_timeout: Duration,
    /// Age at which a channel with streams is replaced by a new one, with new keys (MIG-10). Zero: never. Default 30
    /// min.
    pub renew: Duration,
    /// Time that streams wait for a channel when the peer cannot be reached (MIG-14). Zero: they end with their
    /// channel. Default 5 min.
    pub linger: Duration,
    /// Largest UDP payload sent or accepted, in bytes; at least 1232. Default 65,507.
    pub max_datagram: u16,
    /// Congestion control: how it is found how fast this host may send. Default CUBIC.
    pub congestion: Congestion,
    /// A new channel over the path of an earlier one begins with what that one found out: careful resume (RFC 9959;
    /// REC-15).
    pub careful_resume: bool,
    /// Windows: how much a peer may send before the application reads.
    pub window: WindowConfig,
    /// Limits of the streams that peers may open.
    pub streams: StreamLimits,
    /// Limits of the trees that peers may begin with this host.
    pub peers: PeerLimits,
    /// Length in bytes of the channel ids this host chooses, 4 to 20. Default 4.
    pub channel_id_len: usize,
    /// Load that is ordinary: above so many HELLOs in a second, or HELLO_Ks, those who send them have to prove their
    /// address first, and of those who did so many are answered in a second, and of one network (an IPv4 address, or 64
    /// bits of an IPv6 one) a sixteenth of what is left at the moment (NEG-12, NEG-37). INITIATEs likewise. A host that
    /// many reach by one address, such as that of a proxy, needs more. Default 1000.
    pub hello_threshold: u32,
    /// Cipher suites offered and accepted, best first.
    pub suites: Vec<Suite>,
    /// Protection against those who record today and have a quantum computer later. Default [`PostQuantum::Required`].
    pub post_quantum: PostQuantum,
    /// Sizes of the packets that this host sends (CHN-16). Default [`Padding::None`].
    pub padding: Padding,
    /// Which peers may connect to this host; all by default. It is asked when a peer has proven its identity.
    pub accept_filter: Option<AcceptFilter>,
    /// Set if whoever has proven its identity and is refused gets no answer (NEG-23). Default no: it is told why.
    pub refuse_silently: bool,
    /// Set if whoever sends PROBE is told the EID of this host, as long as it offers a service (NEG-14). Default no:
    /// strangers learn nothing, and peers know the EID already.
    pub answer_probes: bool,
    /// Ways to reach peers of which no address is known (docs/spec/reach.md): set if somebody drives the host who acts
    /// on [`Event::Seeking`](crate::Event::Seeking), and takes what [`Host::poll_aside`](crate::Host::poll_aside) has.
    pub seeks: bool,
    /// Time for which hosts of which no address is known are looked for on the local network too (RCH-36): an attempt
    /// does not fail before, whatever servers say. Default: zero, nobody looks there.
    pub lan_search: Duration,
    /// Set if this host keeps to its local network: it sends nothing to addresses of which [`is_lan`](crate::is_lan)
    /// does not hold, and drops what comes from there (RCH-37). Default no.
    pub lan_only: bool,
    /// Set if this host reaches others by relays alone, and is reached by them alone: packets go to no address but
    /// those of its servers, of whom it asks to be registered, and what comes from others is dropped, but what is for
    /// [`Host::poll_aside`](crate::Host::poll_aside) (RCH-40). Default no.
    pub relay_only: bool,
    /// Set if a host with this host's own EID is a peer like any other: another process with the same identity.
    /// Default no.
    pub allow_own_eid: bool,
    /// Set if a peer's address may change from a global to a private one on a channel that goes on (MIG-22): both are
    /// of one network, and no stranger has a channel. Default no: a peer that comes into this network makes a new
    /// channel from there.
    pub allow_private_moves: bool,
    /// Set if the secrets of all channels are told ([`Event::Secret`](crate::Event::Secret)), for a key log: whoever
    /// reads it can read what is sent. Default no: nothing is kept for it.
    pub key_log: bool,
    /// Port to which this host is bound; 0 if that is not known. It tells the stateless resets of hosts with one
    /// identity apart (PRT-11): it is to be the same after a restart.
    pub port: u16,
    /// Name, of at most 64 bytes, that tells this host from others with the same identity and port (PRT-11), such as
    /// replicas behind one name. The application keeps it over restarts. Default: empty.
    pub instance: String,
    /// Text told to peers about the software, at most 64 bytes.
    pub agent: String,
    /// Which of the hosts with one identity behind one port this is, if there are several: each has channels of its
    /// own, and whoever reads the port gives each packet to the one that it is for ([`shard_of`](crate::shard_of)).
    /// Such a host takes channels and begins none, but for trees that exist (NEG-42). Default: none.
    pub shard: Option<Shard>,
}

/// A setting that peers would refuse, or that a host cannot keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
#[error("{setting} must be {allowed}")]
pub struct BadSetting {
    /// Its name.
    pub setting: &'static str,
    /// Values that it may have.
    pub allowed: &'static str,
}

impl Config {
    /// Looks for settings that are out of range. A host that has one does not work as it should: its peers may refuse
    /// its channels.
    ///
    /// # Errors
    /// The first of them.
    pub fn check(&self) -> Result<(), BadSetting> {
        let datagrams = constants::BASE_DATAGRAM..=constants::MAX_DATAGRAM;
        let settings = [
            (
                datagrams.contains(&self.max_datagram),
                "max_datagram",
                "1232 to 65507 bytes",
            ),
            (
                self.window.root >= constants::MIN_ROOT_CREDIT,
                "window.root",
                "at least 65536 bytes",
            ),
            (
                (constants::STREAM_BORROW..=constants::MAX_BORROW).contains(&self.window.start),
                "window.start",
                "65536 bytes to 16 MiB",
            ),
            (
                self.window.max_message <= constants::MAX_MESSAGE,
                "max_message",
                "at most 64 MiB",
            ),
            (
                (4..=20).contains(&self.channel_id_len),
                "channel_id_len",
                "4 to 20 bytes",
            ),
            (!self.suites.is_empty(), "suites", "one or more"),
            (
                self.peers
                    .trees
                    .min(self.peers.trees_per_eid)
                    .min(self.peers.trees_per_network)
                    > 0,
                "peers",
                "at least 1 tree each",
            ),
            (self.instance.len() <= MAX_TEXT, "instance", "at most 64 bytes"),
            (self.agent.len() <= MAX_TEXT, "agent", "at most 64 bytes"),
            (!self.connect_timeout.is_zero(), "connect_timeout", "more than zero"),
        ];
        match settings.into_iter().find(|(is_good, ..)| !is_good) {
            Some((_, setting, allowed)) => Err(BadSetting { setting, allowed }),
            None => Ok(()),
        }
    }
}

/// Congestion control: how a host finds out how fast it may send (REC-6). Each side of a channel chooses for what it
/// sends itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Congestion {
    /// CUBIC (RFC 9438): takes every loss for congestion. The common one.
    #[default]
    Cubic,
    /// BBR (draft-ietf-ccwg-bbr, with the changes of REC-12): measures what the path carries, and takes loss for
    /// congestion only when there is reason to. Keeps queues short, and its rate where packets are lost by chance,
    /// as on radio links.
    Bbr,
}

impl Congestion {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Cubic, Self::Bbr];

    /// Its name, as it is told to peers and read from command lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cubic => "cubic",
            Self::Bbr => "bbr",
        }
    }
}

impl fmt::Display for Congestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Congestion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|c| c.name() == text);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("there is no congestion control {text:?}; there are {names}")
        })
    }
}

/// Protection of what is sent against those who record it today and have a quantum computer later: ML-KEM-768 beside
/// X25519 (NEG-29). Both hosts have a say.
///
/// | | the peer requires it | prefers it | has it off |
/// |---|---|---|---|
/// | **required** | with it | with it | no channel |
/// | **preferred** | with it | with it | without it |
/// | **off** | no channel | without it | without it |
///
/// Nobody on the way can make two hosts do without that would both have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PostQuantum {
    /// No channel without it.
    #[default]
    Required,
    /// A channel without it only if the peer has it off.
    Preferred,
    /// Never.
    Off,
}

impl PostQuantum {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Required, Self::Preferred, Self::Off];

    /// Its name, as it is read from command lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::Preferred => "preferred",
            Self::Off => "off",
        }
    }
}

impl fmt::Display for PostQuantum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for PostQuantum {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|p| p.name() == text);
        found.ok_or_else(|| format!("{text:?} is none of {}", Self::ALL.map(Self::name).join(", ")))
    }
}

/// Limits of the streams that peers may open. What is beyond is refused, one stream at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamLimits {
    /// Streams of one peer that may wait for one service to accept them (SVC-9). Default 1024.
    pub backlog: usize,
    /// Streams opened by one peer that are kept at a time, those that were refused and are not forgotten yet included
    /// (STR-58). Default 2^20: more than a million.
    pub per_peer: u64,
    /// The same for all peers together. Default 2^22.
    pub per_host: u64,
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self {
            backlog: 1024,
            per_peer: 1 << 20,
            per_host: 1 << 22,
        }
    }
}

/// Limits of the trees, each with its channels, that peers may begin with a host (NEG-35). Beyond one of them, the
/// oldest that has no stream makes room, or the oldest of whose peer nothing is heard; or else the newcomer is refused.
/// Those that this host began are not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerLimits {
    /// Of all peers together. Default 131,072.
    pub trees: usize,
    /// Of one EID: the processes with one identity, and those before them that crashed. Default 128.
    pub trees_per_eid: usize,
    /// Of one network, an address of IPv4 or 64 bits of one of IPv6, where many hosts may be behind one NAT. Default
    /// 16,384.
    pub trees_per_network: usize,
    /// Of all those of whose peers nothing is heard for half a minute. They are kept for their peers to come back
    /// ([`Config::linger`]), each with all that its streams hold; beyond so many, those of the network that has most of
    /// them end, the longest silence first. Default 16,384.
    pub unheard: usize,
}

impl PeerLimits {
    /// The same limits with some of them changed: `PeerLimits::default().with(|limits| limits.trees_per_eid = 16)`.
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl Default for PeerLimits {
    fn default() -> Self {
        Self {
            trees: 131_072,
            trees_per_eid: 128,
            trees_per_network: 16_384,
            unheard: 16_384,
        }
    }
}

/// Limits of receive windows, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WindowConfig {
    /// Largest window that a stream's window grows to. Below `start`, and above 64 KiB, it bounds the starts as well.
    pub per_stream_max: u64,
    /// Bytes that the windows of all streams of one peer may have beyond 4096 bytes each, once they were raised.
    /// Together with `root`, `datagram_budget` and 4 MiB of small datagrams, this bounds what the peer can make
    /// this host keep, apart from about 13.5 KiB for each stream that the application holds (STR-46).
    pub per_peer_budget: u64,
    /// The same for all peers of the host together.
    pub per_host_budget: u64,
    /// Bytes that top-level streams that are not accepted may cost at first (STR-52). At least 65,536.
    pub root: u64,
    /// Bytes that a new stream may send before anything is heard of it, in both directions and as far as the budgets
    /// allow (STR-75, STR-76): 64 KiB to 16 MiB. A stream that is read has four times as much as soon as a quarter of
    /// its start has come.
    pub start: u64,
    /// Largest datagram on a stream that is taken, at most 64 MiB. 0: none.
    pub max_message: u64,
    /// Bytes of large datagrams that one peer may have under way to this host, or waiting for the application; at
    /// least `max_message` is granted. Counts in the host's budget as well, but for one datagram of each peer.
    /// What is small, or is the beginning, counts against the streams' windows instead. What is left of it beside
    /// `max_message` is also for bursts of datagrams of one packet.
    pub datagram_budget: u64,
}

impl WindowConfig {
    /// Bytes that a stream of the peer may borrow at most (STR-75).
    pub(crate) fn borrow(&self) -> u64 {
        self.start.min(self.per_stream_max).max(constants::STREAM_BORROW)
    }

    /// The same limits with some of them changed:
    /// `WindowConfig::default().with(|window| window.root = 256 << 10)`.
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl Default for WindowConfig {
    fn default() -> Self {
        Self {
            per_stream_max: 16 << 20,
            per_peer_budget: 64 << 20,
            per_host_budget: 256 << 20,
            root: 1 << 20,
            start: 256 << 10,
            max_message: 1 << 20,
            datagram_budget: 64 << 20,
        }
    }
}

impl Config {
    /// The same settings with some of them changed: `Config::default().with(|config| config.renew = Duration::ZERO)`.
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            idle_timeout: constants::IDLE_TIMEOUT,
            keepalive: constants::KEEPALIVE,
            connect_timeout: constants::HELLO_TIMEOUT,
            renew: constants::RENEW,
            linger: constants::LINGER,
            max_datagram: constants::MAX_DATAGRAM,
            congestion: Congestion::default(),
            careful_resume: true,
            window: WindowConfig::default(),
            streams: StreamLimits::default(),
            peers: PeerLimits::default(),
            channel_id_len: 4,
            hello_threshold: 1000,
            suites: default_suites(),
            post_quantum: PostQuantum::default(),
            padding: Padding::default(),
            accept_filter: None,
            refuse_silently: false,
            answer_probes: false,
            seeks: false,
            lan_search: Duration::ZERO,
            lan_only: false,
            relay_only: false,
            allow_own_eid: false,
            allow_private_moves: false,
            key_log: false,
            port: 0,
            instance: String::new(),
            agent: concat!("sss/", env!("CARGO_PKG_VERSION")).to_owned(),
            shard: None,
        }
    }
}

/// AES first where the processor has it (NEG-7).
fn default_suites() -> Vec<Suite> {
    if Suite::hardware_aes() {
        vec![Suite::Aes256Gcm, Suite::ChaCha20Poly1305]
    } else {
        vec![Suite::ChaCha20Poly1305]
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("idle_timeout", &self.idle_timeout)
            .field("max_datagram", &self.max_datagram)
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}

/// Settings of a tree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamsConfig {
    /// Limits of receive windows.
    pub(crate) window: WindowConfig,
    /// Seeds the map of LSIDs, so that a peer cannot choose colliding ones.
    pub(crate) seed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_out_of_range_is_named() {
        assert_eq!(Config::default().check(), Ok(()));
        let named = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        assert_eq!(
            named(|c| c.window.root = 65_535),
            "window.root must be at least 65536 bytes"
        );
        assert_eq!(
            named(|c| c.max_datagram = 1231),
            "max_datagram must be 1232 to 65507 bytes"
        );
        assert_eq!(
            named(|c| c.max_datagram = 65_508),
            "max_datagram must be 1232 to 65507 bytes"
        );
        assert_eq!(
            named(|c| c.window.max_message = (64 << 20) + 1),
            "max_message must be at most 64 MiB"
        );
        assert_eq!(named(|c| c.channel_id_len = 3), "channel_id_len must be 4 to 20 bytes");
        assert_eq!(named(|c| c.suites.clear()), "suites must be one or more");
        let long = named(|c| c.instance = "x".repeat(65));
        assert_eq!(named(|c| c.agent = "x".repeat(65)), "agent must be at most 64 bytes");
        let never = named(|c| c.connect_timeout = Duration::ZERO);
        assert_eq!(never, "connect_timeout must be more than zero");
        let most = Config::default().with(|c| (c.agent, c.instance) = ("x".repeat(64), "x".repeat(64)));
        assert_eq!(most.check(), Ok(()));
        assert_eq!(
            named(|c| c.peers.trees_per_eid = 0),
            "peers must be at least 1 tree each"
        );
        assert_eq!(long, "instance must be at most 64 bytes");
    }
}
