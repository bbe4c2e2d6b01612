//! The schedule: rounds over workloads and backends, one measurement after another.

use std::fs;
use std::time::{Duration, Instant};

use crate::cli::Compare;
use crate::control::{ClientLine, ServerLine};
use crate::outcome::Outcome;
use crate::process::{Process, Role};
use crate::report::{self, Failed, Report};
use crate::setup::{Backend, Setup, Workload};
use crate::usage::Snapshot;
use crate::workloads::{self, Metric, Moment, Run};

/// Time that a child may take beyond warm-up and measurement.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs everything that `options` ask for. False if a measurement failed.
pub(crate) fn run(options: &Compare) -> Outcome<bool> {
    let plan = Plan::of(options);
    plan.announce();
    let mut report = Report::new();
    for round in 1..=plan.rounds {
        for (workload, backend) in plan.round(round) {
            let setup = plan.setup(workload, backend);
            let label = format!("round {round}/{}  {} {}", plan.rounds, workload.name(), backend.name());
            match measure(&setup) {
                Ok(metrics) => {
                    eprintln!("{label}  {}", report::brief(&metrics));
                    report.add(workload, backend, metrics);
                }
                Err(failure) => {
                    eprintln!("{label}  FAILED: {failure}");
                    report.fail(Failed {
                        workload: workload.name(),
                        backend: backend.name(),
                        why: failure.to_string(),
                    });
                }
            }
        }
    }
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&report.json())?;
        fs::write(path, text + "\n").map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    print!("{}", report.text(options.markdown));
    Ok(report.is_complete())
}

struct Plan {
    workloads: Vec<Workload>,
    backends: Vec<Backend>,
    rounds: u32,
    seconds: f64,
    warmup: f64,
    channels: usize,
    streams: usize,
}

impl Plan {
    fn of(options: &Compare) -> Self {
        Self {
            workloads: if options.only.is_empty() {
                Workload::usual()
            } else {
                options.only.clone()
            },
            backends: if options.backends.is_empty() {
                Backend::usual()
            } else {
                options.backends.clone()
            },
            rounds: options.rounds,
            seconds: options.seconds,
            warmup: options.warmup,
            channels: options.channels as usize,
            streams: options.streams as usize,
        }
    }

    /// The measurements of a round in their order: all backends of a workload, then the next workload.
    fn round(&self, round: u32) -> Vec<(Workload, Backend)> {
        let mut steps = Vec::new();
        for workload in self
            .workloads
            .iter()
            .filter(|workload| round == 1 || !workload.is_memory())
        {
            let backends = self
                .backends
                .iter()
                .filter(|backend| workload.excludes(**backend).is_none());
            steps.extend(backends.map(|backend| (*workload, *backend)));
        }
        steps
    }

    fn setup(&self, workload: Workload, backend: Backend) -> Setup {
        Setup {
            backend,
            workload,
            seconds: self.seconds,
            warmup: self.warmup,
            channels: self.channels,
            streams: self.streams,
            address: None,
        }
    }

    fn announce(&self) {
        let steps: Vec<_> = (1..=self.rounds).flat_map(|round| self.round(round)).collect();
        let estimate: f64 = steps.iter().map(|(workload, _)| self.estimate(*workload)).sum();
        eprintln!("{} measurements, about {estimate:.0} s", steps.len());
        for workload in &self.workloads {
            for backend in &self.backends {
                if let Some(why) = workload.excludes(*backend) {
                    eprintln!("left out: {} {}: {why}", workload.name(), backend.name());
                }
            }
        }
        if cfg!(debug_assertions) {
            eprintln!("warning: not a release build; its numbers mean nothing");
        }
        if let Some(load) = load_of_machine().filter(|load| *load > 0.5) {
            eprintln!("warning: the machine is busy (load {load:.1}); wait until it is idle, or distrust the numbers");
        }
    }

    fn estimate(&self, workload: Workload) -> f64 {
        if workload.is_memory() {
            2.5
        } else {
            self.seconds + self.warmup + 0.1
        }
    }
}

/// Runnable processes of the last minute on average.
fn load_of_machine() -> Option<f64> {
    fs::read_to_string("/proc/loadavg")
        .ok()?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

/// One measurement: a new server and a new client.
fn measure(setup: &Setup) -> Outcome<Vec<Metric>> {
    let deadline = Instant::now() + setup.warmup() + setup.window() + PATIENCE;
    let mut server = Process::start(Role::Server)?;
    server.send(setup)?;
    let ServerLine::Ready(address) = server.receive(deadline)? else {
        return Err("the server answered before it was ready".into());
    };
    let mut client = Process::start(Role::Client)?;
    client.send(&Setup {
        address: Some(address),
        ..setup.clone()
    })?;
    let mut moments = Vec::new();
    loop {
        match client.receive(deadline)? {
            ClientLine::Mark { name, snapshot } => moments.push(Moment {
                name,
                client: snapshot,
                server: usage(&mut server, deadline)?,
            }),
            ClientLine::Done { quantiles } => return workloads::metrics(setup, &Run { moments, quantiles }),
        }
    }
}

fn usage(server: &mut Process, deadline: Instant) -> Outcome<Snapshot> {
    server.send(&"usage")?;
    match server.receive(deadline)? {
        ServerLine::Usage(snapshot) => Ok(snapshot),
        ServerLine::Ready(_) => Err("the server began twice".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(rounds: u32) -> Plan {
        Plan {
            workloads: vec![Workload::Bulk, Workload::IdleStreams],
            backends: vec![Backend::Sss, Backend::QuinnAws, Backend::QuinnAwsTuned],
            rounds,
            seconds: 1.0,
            warmup: 0.1,
            channels: 10,
            streams: 10,
        }
    }

    #[test]
    fn backends_take_turns_and_memory_is_measured_once() {
        let plan = plan(2);
        let names = |round| -> Vec<String> {
            let steps = plan.round(round).into_iter();
            steps
                .map(|(workload, backend)| format!("{} {}", workload.name(), backend.name()))
                .collect()
        };
        assert_eq!(
            names(1),
            [
                "bulk sss",
                "bulk quinn-aws",
                "bulk quinn-aws-tuned",
                "idle-streams sss",
                "idle-streams quinn-aws-tuned"
            ]
        );
        assert_eq!(names(2), ["bulk sss", "bulk quinn-aws", "bulk quinn-aws-tuned"]);
    }

    #[test]
    fn the_usual_run_takes_less_than_six_minutes() {
        let plan = Plan {
            workloads: Workload::usual(),
            backends: Backend::usual(),
            rounds: 3,
            seconds: 1.5,
            warmup: 0.4,
            channels: 1000,
            streams: 20_000,
        };
        let all = (1..=3).flat_map(|round| plan.round(round));
        let seconds: f64 = all.map(|(workload, _)| plan.estimate(workload)).sum();
        assert!(seconds < 350.0, "{seconds}");
    }
}
