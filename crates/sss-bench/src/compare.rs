//! The schedule: rounds over workloads and backends, one measurement after another.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::backend::{Backend, Program};
use crate::cli::Compare;
use crate::control::{ClientLine, ServerLine};
use crate::outcome::Outcome;
use crate::process::{Process, Role};
use crate::report::{self, Failed, Report, charts};
use crate::setup::{Setup, Workload};
use crate::usage::Snapshot;
use crate::workloads::{self, Metric, Moment, Run};

/// Time that a child may take beyond warm-up and measurement.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs everything that `options` ask for. False if a measurement failed.
pub(crate) fn run(program: &Program, options: &Compare) -> Outcome<bool> {
    let plan = Plan::of(program, options);
    plan.announce();
    let mut report = Report::new(&plan.backends, program.lock);
    for workload in &plan.workloads {
        for backend in &plan.backends {
            if let Some(why) = backend.excludes(*workload) {
                report.leave_out(*workload, *backend, why);
            }
        }
    }
    for round in 1..=plan.rounds {
        for (workload, backend) in plan.round(round) {
            let setup = plan.setup(workload, backend);
            let label = format!("round {round}/{}  {} {}", plan.rounds, workload.name(), backend.name);
            match measure(&setup) {
                Ok(metrics) => {
                    eprintln!("{label}  {}", report::brief(&metrics));
                    report.add(workload, backend, metrics);
                }
                Err(failure) => {
                    eprintln!("{label}  FAILED: {failure}");
                    report.fail(Failed {
                        workload: workload.name(),
                        backend: backend.name.to_owned(),
                        why: failure.to_string(),
                    });
                }
            }
        }
    }
    write(options, &report)?;
    print!("{}", report.text(options.markdown));
    Ok(report.is_complete())
}

/// Writes the files that are asked for.
fn write(options: &Compare, report: &Report) -> Outcome<()> {
    if let Some(path) = &options.json {
        save(path, &(serde_json::to_string_pretty(&report.json())? + "\n"))?;
    }
    if let Some(folder) = &options.charts {
        fs::create_dir_all(folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
        for chart in charts::of(report) {
            save(&folder.join(&chart.file), &chart.svg)?;
        }
    }
    Ok(())
}

fn save(path: &Path, text: &str) -> Outcome<()> {
    Ok(fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))?)
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
    fn of(program: &Program, options: &Compare) -> Self {
        Self {
            workloads: options.workloads(),
            backends: options.backends(program.backends),
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
                .filter(|backend| backend.excludes(*workload).is_none());
            steps.extend(backends.map(|backend| (*workload, *backend)));
        }
        steps
    }

    fn setup(&self, workload: Workload, backend: Backend) -> Setup {
        Setup {
            backend: backend.name.to_owned(),
            settings: backend.settings,
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
        let reasons = self.backends.iter().flat_map(|backend| {
            let of = |workload: &Workload| {
                Some((
                    format!("{} {}", workload.name(), backend.name),
                    backend.excludes(*workload)?,
                ))
            };
            self.workloads.iter().filter_map(of)
        });
        for line in report::by_reason(reasons) {
            eprintln!("left out: {line}");
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
    let deadline = Instant::now() + setup.opening() + setup.warmup() + setup.window() + PATIENCE;
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
    use crate::PROGRAM;
    use crate::cli::{Cli, Command};

    fn plan(arguments: &[&str]) -> Plan {
        let line = ["sss-bench", "compare"].iter().chain(arguments);
        match Cli::read(&PROGRAM, line).expect("accepted").command {
            Command::Compare(options) => Plan::of(&PROGRAM, &options),
            _ => panic!("another command"),
        }
    }

    #[test]
    fn backends_take_turns_and_memory_is_measured_once() {
        let backends = "sss,quinn-aws,quinn-aws-tuned";
        let plan = plan(&["--only", "bulk,idle-streams", "--backends", backends, "--rounds", "2"]);
        let names = |round| -> Vec<String> {
            let steps = plan.round(round).into_iter();
            steps
                .map(|(workload, backend)| format!("{} {}", workload.name(), backend.name))
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
        let plan = plan(&[]);
        let all = (1..=3).flat_map(|round| plan.round(round));
        let seconds: f64 = all.map(|(workload, _)| plan.estimate(workload)).sum();
        assert!(seconds < 350.0, "{seconds}");
    }
}
