//! Reports of a host to the `metrics` facade. Nothing is measured for it: a report copies what is counted anyway.
//!
//! `docs/book/operations.md` describes the metrics.

use std::sync::{Arc, Weak};
use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use sss_proto::{ChannelInfo, DropReason, HostStats, LinkStatus, PeerId};
use tokio::task::AbortHandle;

use super::SocketStats;
use crate::shared::{Inner, Shared};

/// Between two reports.
const INTERVAL: Duration = Duration::from_secs(1);

/// Counters of a host.
struct Totals {
    host: HostStats,
    socket: SocketStats,
}

/// Gauges of a peer.
struct PeerGauges {
    link: Reach,
    streams: usize,
    unsent: u64,
    channel: Option<ChannelInfo>,
}

/// Reachability of a peer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    Connecting,
    Up,
    Stalled,
    Down,
}

type Counter = (&'static str, &'static str, fn(&Totals) -> u64);
type Histogram = (&'static str, Unit, &'static str, fn(&ChannelInfo) -> f64);

const COUNTERS: [Counter; 11] = [
    ("sss_datagrams_received_total", "UDP datagrams received", |t| {
        t.host.datagrams_received
    }),
    ("sss_datagrams_sent_total", "UDP datagrams sent", |t| {
        t.host.datagrams_sent
    }),
    ("sss_bytes_received_total", "Bytes of UDP payload received", |t| {
        t.host.bytes_received
    }),
    ("sss_bytes_sent_total", "Bytes of UDP payload sent", |t| {
        t.host.bytes_sent
    }),
    (
        "sss_channels_made_total",
        "Negotiations that succeeded, renewals and moves included",
        |t| t.host.channels_made,
    ),
    (
        "sss_greetings_denied_total",
        "HELLOs and HELLO_Ks that were told to prove their address, or dropped",
        |t| t.host.greetings_denied,
    ),
    (
        "sss_resets_sent_total",
        "Answers to packets of channels that are not known",
        |t| t.host.resets_sent,
    ),
    (
        "sss_streams_accepted_total",
        "Streams to services that were accepted",
        |t| t.host.streams_accepted,
    ),
    (
        "sss_streams_refused_total",
        "Streams to services that were refused",
        |t| t.host.streams_refused,
    ),
    ("sss_socket_errors_total", "Sends and receives that failed", |t| {
        t.socket.send_errors + t.socket.receive_errors
    }),
    (
        "sss_network_changes_total",
        "Changes of this machine's addresses or of its way out",
        |t| t.socket.network_changes,
    ),
];
const DROPPED: &str = "sss_datagrams_dropped_total";

const PEERS: &str = "sss_peers";
const STREAMS: &str = "sss_streams";
const QUEUED: &str = "sss_queued_bytes";
const LINKS: [(Reach, &str); 4] = [
    (Reach::Connecting, "connecting"),
    (Reach::Up, "up"),
    (Reach::Stalled, "stalled"),
    (Reach::Down, "down"),
];

/// One sample of each for each peer that is connected, in each report.
const HISTOGRAMS: [Histogram; 4] = [
    ("sss_rtt_seconds", Unit::Seconds, "Smoothed round-trip time", |c| {
        c.rtt.as_secs_f64()
    }),
    (
        "sss_bandwidth_bytes_per_second",
        Unit::Bytes,
        "Bytes acknowledged per second",
        |c| c.bandwidth as f64,
    ),
    ("sss_window_bytes", Unit::Bytes, "Congestion window", |c| {
        c.window as f64
    }),
    (
        "sss_loss_ratio",
        Unit::Count,
        "The part of the latest packets that was lost",
        |c| f64::from(c.recent_loss_ppm) / 1e6,
    ),
];

/// Reports for a host as long as it exists, and once more when it is dropped.
pub(super) struct Reporter {
    shared: Weak<Shared>,
    task: AbortHandle,
}

impl Reporter {
    /// Begins to report, on the present runtime.
    pub(super) fn start(shared: &Arc<Shared>) -> Self {
        let shared = Arc::downgrade(shared);
        let task = tokio::spawn(keep_reporting(Weak::clone(&shared))).abort_handle();
        Self { shared, task }
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(shared) = self.shared.upgrade() {
            report(&shared);
        }
    }
}

async fn keep_reporting(host: Weak<Shared>) {
    describe();
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(shared) = host.upgrade() else {
            return;
        };
        report(&shared);
    }
}

fn describe() {
    for (name, text, _) in COUNTERS {
        describe_counter!(name, text);
    }
    describe_counter!(DROPPED, "UDP datagrams dropped, by reason");
    describe_gauge!(
        PEERS,
        "Hosts with which there are streams, by whether they can be reached"
    );
    describe_gauge!(STREAMS, "Streams shared with all peers");
    describe_gauge!(QUEUED, Unit::Bytes, "Bytes written to streams and not sent");
    for (name, unit, text, _) in HISTOGRAMS {
        describe_histogram!(name, unit, text);
    }
}

/// Takes time in proportion to the number of peers. The host is locked for one of them at a time.
fn report(shared: &Shared) {
    let host = shared.eid().to_string();
    let totals = shared.look(|inner| Totals {
        host: inner.core.stats(),
        socket: inner.socket,
    });
    for (name, _, value) in COUNTERS {
        counter!(name, "host" => host.clone()).absolute(value(&totals));
    }
    for reason in DropReason::ALL {
        let dropped = counter!(DROPPED, "host" => host.clone(), "reason" => reason.name());
        dropped.absolute(totals.host.dropped(reason));
    }
    report_peers(shared, &host);
}

fn report_peers(shared: &Shared, host: &str) {
    let peers = shared.look(|inner| inner.core.peers());
    let seen: Vec<PeerGauges> = peers
        .into_iter()
        .filter_map(|(peer, _)| shared.look(|inner| PeerGauges::of(inner, peer)))
        .collect();
    for (link, label) in LINKS {
        let count = seen.iter().filter(|peer| peer.link == link).count();
        gauge!(PEERS, "host" => host.to_owned(), "link" => label).set(count as f64);
    }
    let streams: usize = seen.iter().map(|peer| peer.streams).sum();
    gauge!(STREAMS, "host" => host.to_owned()).set(streams as f64);
    let queued: u64 = seen.iter().map(|peer| peer.unsent).sum();
    gauge!(QUEUED, "host" => host.to_owned()).set(queued as f64);
    for (name, _, _, value) in HISTOGRAMS {
        let histogram = histogram!(name, "host" => host.to_owned());
        for channel in seen.iter().filter_map(|peer| peer.channel.as_ref()) {
            histogram.record(value(channel));
        }
    }
}

impl PeerGauges {
    /// `None` if the streams shared with the peer have ended.
    fn of(inner: &Inner, peer: PeerId) -> Option<Self> {
        let core = &inner.core;
        if core.close_reason(peer).is_some() {
            return None;
        }
        let is_connected = core.is_connected(peer)?;
        let link = match core.link_status(peer)? {
            LinkStatus::Down(_) => Reach::Down,
            _ if !is_connected => Reach::Connecting,
            LinkStatus::Stalled => Reach::Stalled,
            _ => Reach::Up,
        };
        Some(Self {
            link,
            streams: core.stream_count(peer),
            unsent: core.peer_stats(peer).map_or(0, |stats| stats.unsent),
            channel: core.channel_info(peer).filter(|_| is_connected),
        })
    }
}
