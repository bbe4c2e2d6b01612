use rand::SeedableRng;

use super::*;

const MS: u64 = 1_000_000;

fn link(config: LinkConfig) -> Link {
    Link::new(config, StdRng::seed_from_u64(7))
}

fn arrivals(link: &mut Link, count: u64, gap: u64) -> Vec<Result<Vec<Arrival>, Lost>> {
    (0..count).map(|i| link.send(i * gap, &[0; 1000], Ecn::Ect0)).collect()
}

fn lost(results: &[Result<Vec<Arrival>, Lost>]) -> usize {
    results.iter().filter(|r| r.is_err()).count()
}

#[test]
fn default_carries_everything_in_order_and_unchanged() {
    let mut link = link(LinkConfig::with_delay(Duration::from_millis(5)));
    for i in 0..100 {
        let arrivals = link.send(i * MS, &[7; 1472], Ecn::Ect0).unwrap();
        assert_eq!(arrivals.len(), 1);
        assert_eq!(arrivals[0].at, (i + 5) * MS);
        assert_eq!(arrivals[0].bytes, [7; 1472]);
        assert_eq!(arrivals[0].ecn, Ecn::Ect0);
    }
    assert_eq!(link.send(0, &[0; 1473], Ecn::Ect0).unwrap_err(), Lost::Size);
}

#[test]
fn rate_spaces_arrivals_and_a_full_queue_loses() {
    let config = LinkConfig {
        rate: Some(8_000_000),
        queue: 5000,
        ..LinkConfig::default()
    };
    let mut link = link(config);
    let sent = arrivals(&mut link, 6, 0);
    let times: Vec<_> = sent.iter().flatten().map(|a| a[0].at).collect();
    assert_eq!(times, [MS, 2 * MS, 3 * MS, 4 * MS, 5 * MS]);
    assert_eq!(*sent[5].as_ref().unwrap_err(), Lost::Queue);
    assert!(link.send(2 * MS, &[0; 1000], Ecn::Ect0).is_ok());
}

#[test]
fn random_loss_and_bursts_have_their_rates() {
    let mut single = link(LinkConfig {
        loss: 0.1,
        ..LinkConfig::default()
    });
    let share = lost(&arrivals(&mut single, 20_000, MS)) as f64 / 20_000.0;
    assert!((0.09..0.11).contains(&share), "{share}");

    let burst = Burst {
        enter: 0.01,
        leave: 0.1,
        loss: 1.0,
    };
    let mut bursty = link(LinkConfig {
        burst: Some(burst),
        ..LinkConfig::default()
    });
    let results = arrivals(&mut bursty, 50_000, MS);
    let share = lost(&results) as f64 / 50_000.0;
    assert!((0.07..0.11).contains(&share), "{share}");
    let pairs = results.windows(2).filter(|w| w[0].is_err() && w[1].is_err()).count() as f64;
    assert!(pairs / lost(&results) as f64 > 0.8, "losses come together");
}

#[test]
fn duplicates_reorders_corrupts_and_marks() {
    let config = LinkConfig {
        delay: Duration::from_millis(20),
        duplicate: 0.1,
        reorder: 0.1,
        corrupt: 0.1,
        mark: 0.1,
        ..LinkConfig::default()
    };
    let mut link = link(config);
    let all: Vec<_> = arrivals(&mut link, 5000, MS / 10).into_iter().flatten().collect();
    assert!((400..600).contains(&all.iter().filter(|a| a.len() == 2).count()));
    let first: Vec<_> = all.iter().map(|a| &a[0]).collect();
    assert!((300..700).contains(&first.windows(2).filter(|w| w[0].at > w[1].at).count()));
    let flips = |a: &Arrival| a.bytes.iter().map(|b| b.count_ones()).sum::<u32>();
    assert!((400..600).contains(&first.iter().filter(|a| flips(a) > 0).count()));
    assert!(first.iter().all(|a| flips(a) <= 3));
    assert!((400..600).contains(&first.iter().filter(|a| a.ecn == Ecn::Ce).count()));
}

#[test]
fn nothing_passes_in_a_blackout() {
    let dark = Blackout {
        from: Duration::from_millis(10),
        until: Duration::from_millis(20),
    };
    let mut link = link(LinkConfig {
        blackouts: vec![dark],
        ..LinkConfig::default()
    });
    assert!(link.send(9 * MS, &[0], Ecn::NotEct).is_ok());
    assert_eq!(link.send(10 * MS, &[0], Ecn::NotEct).unwrap_err(), Lost::Blackout);
    assert_eq!(link.send(20 * MS - 1, &[0], Ecn::NotEct).unwrap_err(), Lost::Blackout);
    assert!(link.send(20 * MS, &[0], Ecn::NotEct).is_ok());
}
