//! Hosts that are suspended while their network becomes another one, as laptops are.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sss_lab::{Kind, Lab, Link};

use super::pair::Pair;
use super::unless_skipped;
use super::world::{Failure, Running};

/// Bytes of the file.
const SIZE: usize = 8_000_000;
const LINK: [&str; 3] = ["rate=20M", "delay=10ms", "queue=125000"];
/// Time until the whole file is there, once both run again: most of it, and 3 s for what stands still.
const IN_TIME: Duration = Duration::from_secs(7);

fn signal(process: &Running, signal: Signal) {
    kill_process(Pid::from_child(&process.child), signal).unwrap();
}

fn lab() -> Result<Pair, Failure> {
    let sites = ["a", "b", "c", "d"].into_iter();
    let lab = sites.fold(Lab::builder(), |lab, site| lab.site(site, Kind::Prc));
    Pair::in_lab(
        Path::new(env!("CARGO_BIN_EXE_sss")),
        lab.link(Link::parse(LINK)?).build()?,
    )
}

// spec: MIG-13
#[test]
fn a_transfer_goes_on_when_both_hosts_were_suspended_and_have_moved() {
    let Some(mut pair) = unless_skipped(lab()) else {
        return;
    };
    let [served, kept] = [0, 1].map(|_| tempfile::tempdir().unwrap());
    let content: Vec<u8> = (0..SIZE / 4)
        .flat_map(|n| (n as u32).wrapping_mul(2_654_435_761).to_be_bytes())
        .collect();
    std::fs::write(served.path().join("big"), &content).unwrap();
    let (callee, eid) = pair.callee_of(served.path(), &[]).unwrap();
    let mut get = pair.command("a").unwrap();
    get.arg("get").arg(format!("{eid}/big")).arg(kept.path()).arg("--json");
    let mut get = Running::start(&mut get).unwrap();
    get.event("found").unwrap();
    std::thread::sleep(Duration::from_millis(700));
    for process in [&get, &callee] {
        signal(process, Signal::STOP);
    }
    pair.lab.move_host("a", "c").unwrap();
    pair.lab.move_host("b", "d").unwrap();
    // Who wakes first finds nobody.
    std::thread::sleep(Duration::from_secs(1));
    signal(&get, Signal::CONT);
    std::thread::sleep(Duration::from_secs(2));
    signal(&callee, Signal::CONT);
    let awake = Instant::now();
    get.event("done").unwrap();
    let took = awake.elapsed();
    assert_eq!(std::fs::read(kept.path().join("big")).unwrap(), content);
    assert!(took < IN_TIME, "{took:?}");
    println!("the file was there {took:?} after both were awake");
}
