//! The program as a whole: short measurements with real processes.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn compare(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sss-bench"))
        .arg("compare")
        .args([
            "--rounds",
            "1",
            "--seconds",
            "0.3",
            "--warmup",
            "0.05",
            "--channels",
            "4",
            "--streams",
            "40",
        ])
        .args(arguments)
        .output()
        .expect("the program starts")
}

fn assert_complete(output: &Output) {
    let (text, errors) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{text}\n{errors}");
    assert!(!text.contains("FAILED"), "{text}\n{errors}");
}

#[test]
fn every_workload_runs_over_the_peers() {
    let workloads =
        "bulk,bulk-natural,bulk-100,rpc-1,rpc-100,rpc-10k,peers-8,peers-100,handshake,idle-channels,idle-streams";
    let output = compare(&[
        "--only",
        workloads,
        "--backends",
        "quinn-aws-tuned,yamux-tuned,tls-tuned,tcp-tuned,raw-tuned",
        "--markdown",
    ]);
    assert_complete(&output);
    let text = String::from_utf8_lossy(&output.stdout);
    for workload in workloads.split(',') {
        assert!(
            text.contains(&format!("## {workload}\n")),
            "{workload} is missing:\n{text}"
        );
    }
    for (backend, count) in [
        ("quinn-aws-tuned", 11),
        ("tls-tuned", 3),
        ("tcp-tuned", 2),
        ("raw-tuned", 2),
    ] {
        assert_eq!(
            text.matches(&format!("| {backend} |")).count(),
            count,
            "{backend}: {text}"
        );
    }
}

#[test]
fn every_workload_runs_over_libsss() {
    let workloads = "bulk,bulk-natural,bulk-100,rpc-1,rpc-100,rpc-10k,peers-8,datagrams,datagrams-many,handshake,\
                     idle-channels,idle-streams";
    assert_complete(&compare(&[
        "--only",
        workloads,
        "--backends",
        "sss,sss-tuned,sss-dedicated",
    ]));
}

#[test]
fn the_json_report_is_complete() {
    let file = std::env::temp_dir().join(format!("sss-bench-{}.json", std::process::id()));
    let path = file.to_str().expect("a path in UTF-8");
    let output = compare(&["--only", "rpc-1", "--backends", "quinn-ring,yamux", "--json", path]);
    let text = std::fs::read_to_string(&file).expect("the report was written");
    std::fs::remove_file(&file).expect("the report can be removed");
    assert_complete(&output);
    let report: Value = serde_json::from_str(&text).expect("JSON");
    let results = report["results"].as_array().expect("results");
    assert_eq!(results.len(), 2);
    for result in results {
        let median = &result["medians"][0];
        assert_eq!(median["name"], "requests/s");
        assert!(median["value"].as_f64().is_some_and(|value| value > 0.0), "{result}");
    }
}

#[test]
fn charts_are_written_for_each_settings() {
    let folder = std::env::temp_dir().join(format!("sss-bench-charts-{}", std::process::id()));
    let path = folder.to_str().expect("a path in UTF-8");
    let backends = "sss,sss-tuned,yamux,yamux-tuned";
    let output = compare(&["--only", "rpc-1", "--backends", backends, "--charts", path]);
    assert_complete(&output);
    for settings in ["default", "tuned"] {
        let svg = std::fs::read_to_string(folder.join(format!("{settings}.svg"))).expect("a chart");
        assert!(
            svg.contains("libsss") && svg.contains("yamux") && svg.contains("rpc-1"),
            "{svg}"
        );
    }
    std::fs::remove_dir_all(&folder).expect("the charts can be removed");
}

#[test]
fn a_child_without_instructions_fails() {
    for role in ["serve", "client"] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sss-bench"))
            .arg(role)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut input = child.stdin.take().expect("a pipe");
        input.write_all(b"not JSON\n").expect("written");
        drop(input);
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(1), "{role}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("sss-bench:"), "{role}");
    }
}

#[test]
fn unknown_names_are_refused_with_the_known_ones() {
    let output = compare(&["--backends", "sctp"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("quinn-aws-tuned"));
}
