//! What a host tells the `metrics` facade.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    set_default_local_recorder,
};

use crate::common::{builder, within};

/// Samples of a histogram.
#[derive(Clone, Default)]
struct Samples(Arc<Mutex<Vec<f64>>>);

impl HistogramFn for Samples {
    fn record(&self, value: f64) {
        self.0.lock().unwrap().push(value);
    }
}

/// Keeps what it is told, by name and labels.
#[derive(Default)]
struct Kept {
    values: Mutex<BTreeMap<String, Arc<AtomicU64>>>,
    samples: Mutex<BTreeMap<String, Samples>>,
    described: Mutex<Vec<String>>,
}

fn full_name(key: &Key) -> String {
    let labels: Vec<String> = key.labels().map(|l| format!("{}={}", l.key(), l.value())).collect();
    format!("{}{{{}}}", key.name(), labels.join(","))
}

impl Kept {
    fn value(&self, key: &Key) -> Arc<AtomicU64> {
        Arc::clone(self.values.lock().unwrap().entry(full_name(key)).or_default())
    }

    fn describe(&self, key: &KeyName) {
        self.described.lock().unwrap().push(key.as_str().to_owned());
    }

    fn bits(&self, name: &str) -> u64 {
        let values = self.values.lock().unwrap();
        match values.get(name) {
            Some(value) => value.load(Ordering::Relaxed),
            None => panic!("no {name} in {:?}", values.keys()),
        }
    }

    fn gauge(&self, name: &str) -> f64 {
        f64::from_bits(self.bits(name))
    }

    fn samples(&self, name: &str) -> Vec<f64> {
        let samples = self.samples.lock().unwrap();
        samples
            .get(name)
            .map(|s| s.0.lock().unwrap().clone())
            .unwrap_or_default()
    }

    /// Every name, without labels.
    fn names(&self) -> Vec<String> {
        let (values, samples) = (self.values.lock().unwrap(), self.samples.lock().unwrap());
        let names = values.keys().chain(samples.keys());
        let mut names: Vec<String> = names.map(|n| n.split('{').next().unwrap().to_owned()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

impl Recorder for Kept {
    fn describe_counter(&self, key: KeyName, _: Option<Unit>, _: SharedString) {
        self.describe(&key);
    }

    fn describe_gauge(&self, key: KeyName, _: Option<Unit>, _: SharedString) {
        self.describe(&key);
    }

    fn describe_histogram(&self, key: KeyName, _: Option<Unit>, _: SharedString) {
        self.describe(&key);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.value(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.value(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let samples = self.samples.lock().unwrap().entry(full_name(key)).or_default().clone();
        Histogram::from_arc(Arc::new(samples))
    }
}

#[tokio::test]
async fn a_host_reports_what_it_counts() {
    // The hosts' tasks run on this thread.
    let kept = Kept::default();
    let _guard = set_default_local_recorder(&kept);
    within(20, async {
        let host = builder().build().await.unwrap();
        let client = builder().build().await.unwrap();
        let server = host.listen("test", "1").unwrap();
        let connect = client.connect(host.eid(), "test", "1").hint(host.local_addr());
        let mut ours = connect.await.unwrap();
        let (mut theirs, _) = server.accept().await.unwrap();
        let mut refused = client.connect(host.eid(), "nothing", "1").await.unwrap();
        refused.read_chunk(1).await.unwrap_err();
        ours.write_all(&[1; 100_000]).await.unwrap();
        theirs.read_exact(&mut vec![0; 100_000]).await.unwrap();

        let of = |name: &str| format!("{name}{{host={}}}", host.eid());
        let peers = |link: &str| kept.gauge(&format!("sss_peers{{host={},link={link}}}", host.eid()));
        while kept.samples(&of("sss_rtt_seconds")).is_empty() || kept.bits(&of("sss_bytes_received_total")) < 100_000 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        assert_eq!(["connecting", "up", "stalled", "down"].map(peers), [0.0, 1.0, 0.0, 0.0]);
        assert_eq!(kept.gauge(&of("sss_streams")), 1.0);
        assert_eq!(kept.gauge(&of("sss_queued_bytes")), 0.0);
        let within_one = |samples: Vec<f64>| !samples.is_empty() && samples.iter().all(|s| (0.0..=1.0).contains(s));
        assert!(within_one(kept.samples(&of("sss_rtt_seconds"))));
        assert!(within_one(kept.samples(&of("sss_loss_ratio"))));
        assert!(kept.samples(&of("sss_window_bytes")).iter().all(|s| *s > 1000.0));

        drop((ours, theirs, refused));
        let _ = client.close().await;
        host.close().await.unwrap();
        // The last report comes with the end.
        let stats = host.stats();
        for (name, counted) in [
            ("sss_datagrams_received_total", stats.datagrams_received),
            ("sss_datagrams_sent_total", stats.datagrams_sent),
            ("sss_bytes_received_total", stats.bytes_received),
            ("sss_bytes_sent_total", stats.bytes_sent),
            ("sss_channels_made_total", 1),
            ("sss_streams_accepted_total", 1),
            ("sss_streams_refused_total", 1),
            ("sss_greetings_denied_total", 0),
            ("sss_socket_errors_total", 0),
        ] {
            assert_eq!(kept.bits(&of(name)), counted, "{name}");
        }
        for reason in sss::DropReason::ALL {
            let name = format!(
                "sss_datagrams_dropped_total{{host={},reason={}}}",
                host.eid(),
                reason.name()
            );
            assert_eq!(kept.bits(&name), stats.dropped(reason), "{name}");
        }
        assert_eq!(peers("up"), 0.0);
        let mut described = kept.described.lock().unwrap().clone();
        described.sort_unstable();
        described.dedup();
        assert_eq!(described, kept.names());
    })
    .await;
}

#[test]
fn the_book_lists_every_metric() {
    let book = include_str!("../../../../docs/book/operations.md");
    let source = include_str!("../../src/driver/reporter.rs");
    let names: Vec<&str> = source.split('"').filter(|s| s.starts_with("sss_")).collect();
    assert!(names.len() >= 18, "{names:?}");
    for name in names {
        assert!(book.contains(&format!("`{name}`")), "{name}");
    }
}
