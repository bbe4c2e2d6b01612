//! The program as a whole: short measurements of each peer with real processes.

use std::process::Command;

const PEERS: &[&str] = &[
    "noq,noq-tuned",
    "iroh,iroh-tuned",
    "s2n-quic,s2n-quic-tuned",
    #[cfg(feature = "quiche")]
    "quiche,quiche-tuned",
];

const WORKLOADS: &str = "bulk,bulk-100,bulk-natural,rpc-1,rpc-1000,rpc-10k,datagrams,handshake,handshake-classical,\
                         idle-channels,idle-streams";

#[test]
fn every_workload_runs_over_every_peer() {
    for backends in PEERS {
        let output = Command::new(env!("CARGO_BIN_EXE_sss-bench-peers"))
            .args(["compare", "--rounds", "1", "--seconds", "0.3", "--warmup", "0.05"])
            .args([
                "--channels",
                "20",
                "--streams",
                "40",
                "--only",
                WORKLOADS,
                "--backends",
                backends,
            ])
            .output()
            .expect("the program starts");
        let (text, errors) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(output.status.success() && !text.contains("FAILED"), "{text}\n{errors}");
    }
}

#[test]
fn versions_are_those_of_this_program() {
    let output = Command::new(env!("CARGO_BIN_EXE_sss-bench-peers"))
        .args(["compare", "--rounds", "1", "--seconds", "0.1", "--warmup", "0.05"])
        .args(["--only", "rpc-1", "--backends", "noq,s2n-quic"])
        .output()
        .expect("the program starts");
    let text = String::from_utf8_lossy(&output.stdout);
    for package in ["noq ", "noq-proto ", "s2n-quic ", "s2n-quic-transport ", "rustls "] {
        assert!(text.contains(package), "{package}: {text}");
    }
}
