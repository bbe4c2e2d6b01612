//! The workloads whose instructions are counted.

use sss_sim::work::{self, Workload};

#[test]
fn every_workload_comes_to_its_end() {
    for workload in Workload::ALL {
        let report = work::run(workload).unwrap();
        println!("{report}");
        assert!(report.bytes > 1_000_000, "{report}");
    }
}

#[test]
fn a_workload_is_the_same_every_time() {
    let [first, second] = [(); 2].map(|()| work::run(Workload::Tree).unwrap());
    assert_eq!(first.datagram_hash, second.datagram_hash);
    assert_eq!(first.elapsed, second.elapsed);
}
