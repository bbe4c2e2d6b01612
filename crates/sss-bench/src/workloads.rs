//! Measurements: the client side of each workload, and what its numbers mean.

mod bulk;
mod datagrams;
mod handshake;
mod memory;
mod peers;
mod rpc;
mod window;

use serde::{Deserialize, Serialize};

use crate::outcome::Outcome;
use crate::setup::{Setup, Workload};
use crate::stats::Quantiles;
use crate::transport::Dialer;
use crate::usage::Snapshot;

/// Runs the client side of a workload.
pub(crate) async fn run<D: Dialer>(dialer: D, setup: &Setup) -> Outcome<Quantiles> {
    match setup.workload {
        Workload::Bulk | Workload::BulkNatural | Workload::Bulk100 => bulk::run(&dialer, setup).await,
        workload if workload.is_datagrams() => datagrams::run(&dialer, setup).await,
        workload if workload.is_rpc() => rpc::run(&dialer, setup).await,
        workload if workload.peers() > 0 => peers::run(dialer, setup).await,
        Workload::Handshake | Workload::HandshakeClassical => handshake::run(dialer, setup).await,
        Workload::IdleChannels => memory::channels(dialer, setup).await,
        _ => memory::streams(&dialer, setup).await,
    }
}

/// Computes the metrics of a completed measurement; the first one is the one that ratios are taken of.
pub(crate) fn metrics(setup: &Setup, run: &Run) -> Outcome<Vec<Metric>> {
    match setup.workload {
        Workload::Bulk | Workload::BulkNatural | Workload::Bulk100 => bulk::metrics(run),
        workload if workload.is_datagrams() => datagrams::metrics(run),
        workload if workload.is_rpc() || workload.peers() > 0 => rpc::metrics(run, "requests/s", "request"),
        Workload::Handshake | Workload::HandshakeClassical => rpc::metrics(run, "handshakes/s", "handshake"),
        Workload::IdleChannels => memory::metrics(run, "channel"),
        _ => memory::metrics(run, "stream"),
    }
}

/// Reports of both processes during one measurement.
pub(crate) struct Run {
    pub(crate) moments: Vec<Moment>,
    pub(crate) quantiles: Quantiles,
}

/// Usage of both processes at a moment that the client named.
pub(crate) struct Moment {
    pub(crate) name: String,
    pub(crate) client: Snapshot,
    pub(crate) server: Snapshot,
}

/// Resources that client and server used between two moments.
pub(crate) struct Interval {
    pub(crate) client: Snapshot,
    pub(crate) server: Snapshot,
}

impl Run {
    /// Returns what was used between two named moments.
    pub(crate) fn between(&self, begin: &str, end: &str) -> Outcome<Interval> {
        let (begin, end) = (self.moment(begin)?, self.moment(end)?);
        Ok(Interval {
            client: end.client.since(&begin.client),
            server: end.server.since(&begin.server),
        })
    }

    /// The number of things that the client had done at a named moment, since it began, and that the server had.
    pub(crate) fn totals(&self, at: &str) -> Outcome<(u64, u64)> {
        let moment = self.moment(at)?;
        Ok((moment.client.work, moment.server.work))
    }

    fn moment(&self, name: &str) -> Outcome<&Moment> {
        let found = self.moments.iter().find(|moment| moment.name == name);
        Ok(found.ok_or_else(|| format!("the client never told of its moment {name:?}"))?)
    }
}

/// One number of a measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Metric {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) better: Better,
}

/// Which direction is an improvement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Better {
    More,
    Less,
}

impl Metric {
    fn more(name: impl Into<String>, value: f64) -> Self {
        Self {
            name: name.into(),
            value,
            better: Better::More,
        }
    }

    fn less(name: impl Into<String>, value: f64) -> Self {
        Self {
            name: name.into(),
            value,
            better: Better::Less,
        }
    }

    /// Returns how many times better than `other` this is.
    pub(crate) fn ratio(&self, other: &Self) -> f64 {
        match self.better {
            Better::More => self.value / other.value,
            Better::Less => other.value / self.value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(at: u64, cpu: u64, rss: u64, work: u64) -> Snapshot {
        Snapshot { at, cpu, rss, work }
    }

    pub(super) fn two_moments(begin: &str, end: &str) -> Run {
        let zero = Snapshot::default();
        let client = snapshot(2_000_000_000, 1_000_000_000, 4_000_000, 1000);
        let server = snapshot(2_000_000_000, 500_000_000, 2_000_000, 2 << 30);
        Run {
            moments: vec![
                Moment {
                    name: begin.to_owned(),
                    client: zero,
                    server: zero,
                },
                Moment {
                    name: end.to_owned(),
                    client,
                    server,
                },
            ],
            quantiles: Quantiles { p50: 10.0, p99: 20.0 },
        }
    }

    fn value(metrics: &[Metric], name: &str) -> f64 {
        let found = metrics.iter().find(|metric| metric.name == name);
        found
            .unwrap_or_else(|| panic!("no metric {name:?} in {metrics:?}"))
            .value
    }

    #[test]
    fn bulk_is_measured_at_the_receiver() {
        let metrics = bulk::metrics(&two_moments(window::BEGIN, window::END)).expect("metrics");
        assert_eq!(metrics[0].name, "MB/s");
        assert!((value(&metrics, "MB/s") - 1_073.741_824).abs() < 1e-6);
        assert_eq!(value(&metrics, "CPU s/GiB client"), 0.5);
        assert_eq!(value(&metrics, "CPU s/GiB server"), 0.25);
        assert_eq!(value(&metrics, "CPU s/GiB"), 0.75);
    }

    #[test]
    fn datagrams_are_counted_by_both_and_lost_is_what_does_not_come() {
        let mut run = two_moments(window::BEGIN, window::END);
        for (moment, received) in run.moments.iter_mut().zip([0, 900]) {
            moment.server.work = received;
        }
        let (client, server) = (snapshot(3_000_000_000, 0, 0, 2000), snapshot(3_000_000_000, 0, 0, 1990));
        let name = datagrams::SETTLED.to_owned();
        run.moments.push(Moment { name, client, server });
        let metrics = datagrams::metrics(&run).expect("metrics");
        assert_eq!(metrics[0].name, "datagrams/s");
        assert_eq!(value(&metrics, "datagrams/s"), 450.0);
        assert_eq!(value(&metrics, "% lost"), 0.5);
        run.moments.pop();
        assert!(datagrams::metrics(&run).is_err());
    }

    #[test]
    fn requests_are_counted_by_the_client() {
        let metrics = rpc::metrics(&two_moments(window::BEGIN, window::END), "requests/s", "request").expect("metrics");
        assert_eq!(value(&metrics, "requests/s"), 500.0);
        assert_eq!(value(&metrics, "p99 us"), 20.0);
        assert_eq!(value(&metrics, "CPU us/request"), 1500.0);
    }

    #[test]
    fn an_empty_measurement_is_an_error() {
        let mut run = two_moments(window::BEGIN, window::END);
        run.moments[1].client.work = 0;
        run.moments[1].server.work = 0;
        assert!(bulk::metrics(&run).is_err());
        assert!(rpc::metrics(&run, "requests/s", "request").is_err());
        run.moments.pop();
        assert!(bulk::metrics(&run).is_err());
    }

    #[test]
    fn a_ratio_above_one_is_better() {
        let (fast, slow) = (Metric::more("MB/s", 300.0), Metric::more("MB/s", 100.0));
        assert_eq!(fast.ratio(&slow), 3.0);
        let (small, large) = (Metric::less("B", 100.0), Metric::less("B", 300.0));
        assert_eq!(small.ratio(&large), 3.0);
    }
}
