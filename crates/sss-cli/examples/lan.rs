//! Time from the start of `sss get` until the first byte of a file is there, on a LAN: found by mDNS, and with the
//! address given (docs/experiments/reach.md).
//!
//! `cargo build -p sss-cli && cargo run -p sss-cli --example lan -- 20`, as root: so many runs of each.

#[cfg(target_os = "linux")]
#[path = "../tests/it/lab/running.rs"]
mod running;

#[cfg(target_os = "linux")]
fn main() -> Result<(), running::Failure> {
    linux::run()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("labs are made of Linux's network namespaces");
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io::Read;
    use std::path::Path;
    use std::process::Stdio;
    use std::time::{Duration, Instant};

    use sss_lab::{Kind, Lab, Node, Site};

    use super::running::{Failure, Running, command, text};

    pub(super) fn run() -> Result<(), Failure> {
        let runs: usize = std::env::args().nth(1).unwrap_or_else(|| "20".to_owned()).parse()?;
        let program = std::env::current_exe()?.parent().ok_or("nowhere")?.join("../sss");
        let site = Site {
            hosts: 2,
            ..Site::new(Kind::Prc)
        };
        let (lab, homes) = (Lab::builder().site("a", site).build()?, tempfile::tempdir()?);
        std::fs::write(homes.path().join("file"), [7; 1000])?;
        let (server, client) = (lab.node("a")?, lab.node("a2")?);
        let mut serve = command(&homes, server, &program);
        serve.args(["serve", "--public", "--json", "--mdns"]).arg(homes.path());
        let mut serve = Running::start(&mut serve)?;
        let eid = text(&serve.event("listening")?["eid"]);
        serve.event("announced")?;
        let address = server.ipv4().ok_or("no address")?;
        let by_mdns = [format!("{eid}/file"), "-".to_owned(), "--mdns".to_owned()];
        let by_address = [format!("{eid}@{address}/file"), "-".to_owned()];
        for (name, words, pause) in [
            ("address given", &by_address[..], 2000),
            ("mDNS, 2 s apart", &by_mdns[..], 2000),
            ("mDNS, one after the other", &by_mdns[..], 0),
        ] {
            let mut times = Vec::new();
            for _ in 0..runs {
                std::thread::sleep(Duration::from_millis(pause));
                times.push(first_byte(&homes, client, (&program, words))?);
            }
            times.sort_unstable();
            let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)].as_secs_f64() * 1000.0;
            println!(
                "{name}: median {:.0} ms, p90 {:.0} ms, least {:.0} ms, most {:.0} ms",
                at(50),
                at(90),
                at(0),
                at(100)
            );
        }
        Ok(())
    }

    fn first_byte(
        homes: &tempfile::TempDir,
        client: &Node,
        (program, words): (&Path, &[String]),
    ) -> Result<Duration, Failure> {
        let mut get = command(homes, client, program);
        let get = get.arg("get").args(words).stdout(Stdio::piped()).stderr(Stdio::null());
        let begun = Instant::now();
        let mut get = get.stdin(Stdio::null()).spawn()?;
        let mut byte = [0];
        get.stdout.take().ok_or("no output")?.read_exact(&mut byte)?;
        let time = begun.elapsed();
        get.wait()?;
        Ok(time)
    }
}
