use super::*;
use crate::PROGRAM;
use crate::workloads::Better;

fn rate(value: f64) -> Vec<Metric> {
    vec![
        Metric {
            name: "requests/s".to_owned(),
            value,
            better: Better::More,
        },
        Metric {
            name: "p50 us".to_owned(),
            value: 1e6 / value,
            better: Better::Less,
        },
    ]
}

fn backend(name: &str) -> Backend {
    let found = PROGRAM.backends.iter().find(|backend| backend.name == name);
    *found.unwrap_or_else(|| panic!("no backend {name}"))
}

pub(super) fn report() -> Report {
    let mut report = Report::new(PROGRAM.backends, PROGRAM.lock);
    for value in [900.0, 1100.0, 1000.0] {
        report.add(Workload::Rpc100, backend("sss-tuned"), rate(value));
    }
    report.add(Workload::Rpc100, backend("quinn-aws"), rate(250.0));
    report.add(Workload::Rpc100, backend("quinn-ring-tuned"), rate(400.0));
    report.add(Workload::Rpc100, backend("quinn-aws-tuned"), rate(500.0));
    report
}

#[test]
fn numbers_are_readable() {
    let all = [0.1234, 1.2345, 12.345, 123.45, 1234.5, 1_234_567.0].map(number);
    assert_eq!(all, ["0.123", "1.23", "12.3", "123", "1,234", "1,234,567"]);
}

#[test]
fn ratios_are_taken_of_medians_and_the_best_peer() {
    let text = report().text(true);
    assert!(
        text.contains("| sss-tuned | 1,000 | 900 to 1,100 | 1,000 | 2.00 |"),
        "{text}"
    );
    assert!(text.contains("| quinn-aws-tuned | 500 | - | 2,000 | 1.00 |"), "{text}");
    assert!(
        text.contains("| rpc-100 | sss-tuned | requests/s | 2.00 | - |"),
        "{text}"
    );
}

#[test]
fn settings_are_never_mixed() {
    let mut report = report();
    report.add(Workload::Rpc100, backend("quinn-ring"), rate(750.0));
    report.add(Workload::Rpc100, backend("sss"), rate(500.0));
    let text = report.text(true);
    assert!(
        text.contains("| sss-tuned | 1,000 | 900 to 1,100 | 1,000 | 2.00 |"),
        "{text}"
    );
    assert!(text.contains("| sss | 500 | - | 2,000 | 0.67 |"), "{text}");
    assert!(text.contains("| rpc-100 | sss | requests/s | 0.67 | - |"), "{text}");
    let places = ["| sss |", "| quinn-ring |", "| sss-tuned |", "| quinn-ring-tuned |"].map(|name| text.find(name));
    assert!(places.is_sorted() && places[0].is_some(), "{text}");
}

#[test]
fn what_is_left_out_has_a_reason() {
    let mut report = report();
    report.leave_out(Workload::Rpc100, backend("yamux"), "it rains");
    report.leave_out(Workload::Bulk, backend("yamux"), "it snows");
    let text = report.text(true);
    assert!(text.contains("\nLeft out: yamux: it rains.\n"), "{text}");
}

#[test]
fn plain_text_is_aligned() {
    let text = report().table(Workload::Rpc100).render(false);
    let lengths: Vec<usize> = text.lines().map(str::len).collect();
    assert_eq!(lengths.len(), 5, "{text}");
    assert!(lengths.windows(2).all(|pair| pair[0] == pair[1]), "{text}");
}

#[test]
fn failures_are_told() {
    let mut report = report();
    assert!(report.is_complete());
    report.fail(Failed {
        workload: "bulk".to_owned(),
        backend: "sss".to_owned(),
        why: "the client died: exit status: 1".to_owned(),
    });
    assert!(!report.is_complete());
    assert!(report.text(false).contains("FAILED: bulk sss: the client died"));
    assert_eq!(report.json()["failures"][0]["backend"], "sss");
}

#[test]
fn json_has_rounds_and_medians() {
    let json = report().json();
    let results = json["results"].as_array().expect("results");
    let own = results
        .iter()
        .find(|result| result["backend"] == "sss-tuned")
        .expect("own result");
    assert_eq!(own["medians"][0]["value"], 1000.0);
    assert_eq!(own["rounds"].as_array().map(Vec::len), Some(3));
    assert!(json["machine"]["versions"]["quinn"].is_string());
}

#[test]
fn what_does_less_is_never_the_best_peer() {
    let mut report = Report::new(PROGRAM.backends, PROGRAM.lock);
    for (name, value) in [
        ("sss-tuned", 600.0),
        ("tls-tuned", 400.0),
        ("tcp-tuned", 1000.0),
        ("raw-tuned", 800.0),
    ] {
        report.add(Workload::Bulk, backend(name), rate(value));
    }
    let text = report.text(true);
    assert!(text.contains("| sss-tuned | 600 | - | 1,667 | 1.50 |"), "{text}");
    assert!(text.contains("| bulk | sss-tuned | requests/s |"), "{text}");
    let ratios = text
        .lines()
        .find(|line| line.starts_with("| bulk | sss-tuned"))
        .expect("ratios");
    assert!(ratios.contains("1.50 | 0.60 | 0.75 |"), "{ratios}");
    let charts = charts::of(&report);
    assert!(
        charts
            .iter()
            .all(|chart| !chart.svg.contains("raw") && !chart.svg.contains("tcp"))
    );
}

#[test]
fn what_is_left_out_for_one_reason_is_told_together() {
    let left_out = [("a", "too slow"), ("b", "no streams"), ("c", "too slow")];
    let lines = by_reason(left_out.into_iter().map(|(name, why)| (name.to_owned(), why)));
    assert_eq!(lines, ["a, c: too slow", "b: no streams"]);
}
