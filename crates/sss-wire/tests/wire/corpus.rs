//! Replays the seeds of the fuzz targets, and every truncation and many mutations of them.
//!
//! With `SSS_WRITE_CORPUS` set, the seeds are first written from the test vectors.

use std::fs;
use std::path::PathBuf;

use crate::{fuzz, hex, unhex};

type Target = fn(&[u8]);

const TARGETS: &[(&str, Target)] = &[
    ("frames", fuzz::frames),
    ("long_packet", fuzz::long_packet),
    ("params", fuzz::params),
    ("eid", fuzz::eid),
    ("short_header", fuzz::short_header),
    ("services", fuzz::services),
];

fn corpus(target: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../../fuzz/corpus", target]
        .iter()
        .collect()
}

/// The seeds of a target in the order of their names.
fn seeds(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let directory = corpus(target);
    let entries = fs::read_dir(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let mut paths: Vec<_> = entries.map(|e| e.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|p| (p.clone(), fs::read(p).unwrap())).collect()
}

fn write_corpus() {
    for (target, _) in TARGETS {
        fs::create_dir_all(corpus(target)).unwrap();
        for (i, seed) in vectors(target).iter().enumerate() {
            fs::write(corpus(target).join(format!("{i:02}")), seed).unwrap();
        }
    }
}

/// Up to 30 seeds for a target, evenly picked from the vectors.
fn vectors(target: &str) -> Vec<Vec<u8>> {
    let load = |file: &str| -> serde_json::Value {
        let path = format!("{}/tests/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    };
    let mut all = Vec::new();
    match target {
        "frames" => collect(&load("frames.json"), "hex", &mut all),
        "long_packet" => collect(&load("long_packets.json"), "hex", &mut all),
        "params" => collect(&load("params.json"), "hex", &mut all),
        "services" => collect(&load("services.json"), "hex", &mut all),
        "eid" => {
            collect(&load("eid.json"), "text", &mut all);
            collect(&load("eid.json"), "eid", &mut all);
        }
        _ => {
            let file = load("sequence.json");
            let headers = file["headers"].as_array().unwrap();
            for (header, recover) in headers.iter().zip(file["recover"].as_array().unwrap()) {
                let text = |key: &str| header[key].as_str().unwrap();
                let expected: u64 = recover["expected_next"].as_str().unwrap().parse().unwrap();
                let id_len = text("channel_id").len() / 2;
                let prefix = format!("{id_len:02x}{}{}", text("mask"), hex(&expected.to_be_bytes()));
                all.push(unhex(&format!("{prefix}{}", text("masked"))));
                all.push(unhex(&format!("{prefix}{}", text("packet"))));
            }
        }
    }
    let step = all.len().div_ceil(30);
    all.into_iter().step_by(step).collect()
}

/// All strings at `key`, anywhere; hexadecimal ones as bytes.
fn collect(value: &serde_json::Value, key: &str, to: &mut Vec<Vec<u8>>) {
    match value {
        serde_json::Value::Array(items) => items.iter().for_each(|v| collect(v, key, to)),
        serde_json::Value::Object(fields) => {
            for (name, field) in fields {
                match field.as_str() {
                    Some(text) if name == key && key == "text" => to.push(text.as_bytes().to_vec()),
                    Some(text) if name == key => to.push(unhex(text)),
                    _ => collect(field, key, to),
                }
            }
        }
        _ => {}
    }
}

// spec: OVR-2
#[test]
fn threat_39_seeds_truncations_and_mutations_break_nothing() {
    if std::env::var_os("SSS_WRITE_CORPUS").is_some() {
        write_corpus();
    }
    for (target, check) in TARGETS {
        let seeds = seeds(target);
        assert!(seeds.len() >= 10, "{target} has {} seeds", seeds.len());
        for (path, seed) in seeds {
            println!("{}", path.display());
            check(&seed);
            for end in 0..seed.len() {
                check(&seed[..end]);
            }
            for i in 0..seed.len() {
                for bit in [0x01, 0x40, 0x80, 0xff] {
                    let mut mutated = seed.clone();
                    mutated[i] ^= bit;
                    check(&mutated);
                }
            }
        }
    }
}
