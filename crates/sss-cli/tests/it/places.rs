//! Hosts by name, by address with a scope, without a port; and who is known where.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Home, Serving, is_root};

fn port(serving: &Serving) -> &str {
    serving.address().rsplit_once(':').unwrap().1
}

#[test]
fn hosts_have_names() {
    let (server, client) = (Home::new(), Home::new());
    let dir = server.dir("source");
    fs::write(dir.join("one"), "1").unwrap();
    let serving = server.serve(&dir, &[]);
    let by_name = format!("localhost:{}", port(&serving));
    client
        .run(["ls", &format!("{}@{by_name}/one", serving.eid())])
        .expect(0);
    client
        .run(["ls", &by_name])
        .expect(4)
        .says(&[&by_name, serving.eid(), "not known", "EID@HOST"]);
    client
        .run(["ls", &by_name, "--trust"])
        .expect(0)
        .says(&["remembered in"]);
    client.run(["ls", &by_name.to_uppercase()]).expect(0);
    // By its address it is another host: names change hands.
    client.run(["ls", serving.address()]).expect(4);

    for nobody in [
        "no-such-host.invalid".to_owned(),
        format!("{}@no-such-host.invalid", serving.eid()),
    ] {
        let ran = client.run(["ls", &nobody, "--timeout", "20"]).expect(3);
        ran.says(&["cannot look up", "no-such-host.invalid", "check the name"]);
    }
}

#[test]
fn a_server_started_again_on_another_port_is_no_stranger_and_another_key_is_one() {
    let (server, other, client) = (Home::new(), Home::new(), Home::new());
    let dir = server.dir("source");
    let ls = |at: &str, args: &[&str]| client.run(["ls", at].iter().chain(args));

    let mut serving = server.serve(&dir, &[]);
    let first = serving.address().to_owned();
    ls(&first, &["--trust"]).expect(0);
    // A second server of the same host is a new one.
    let second = other.serve(&dir, &[]);
    let ran = ls(second.address(), &[]).expect(4);
    let ran = ran.says(&["not known", second.eid(), "known at another port", serving.eid()]);
    assert!(!ran.err.contains("not the one it was"), "{}", ran.err);
    ls(second.address(), &["--trust"]).expect(0);
    ls(second.address(), &[]).expect(0);

    serving.kill();
    let again = server.serve(&dir, &[]);
    assert_ne!(again.address(), first);
    let ran = ls(again.address(), &[]).expect(0);
    assert_eq!(ran.err, "", "nothing is said, and nothing asked");
    let here = again.address().to_owned();
    drop(again);

    // Where it went it is held to its key as well.
    let impostor = Home::new();
    let false_one = impostor.serve_at(&here, &dir, &[]);
    ls(&here, &["--trust"])
        .expect(4)
        .says(&["not the one it was", serving.eid(), false_one.eid()]);
    drop(false_one);
    // One that is known at the same host is asked about: which of them was meant is told by the port only.
    let swapped = other.serve_at(&here, &dir, &[]);
    let ran = ls(&here, &["--json"]).expect(4);
    assert_eq!(ran.event("unknown_host")["others"], serde_json::json!([serving.eid()]));
    ls(&here, &["--trust"])
        .expect(0)
        .says(&[swapped.eid(), "known at another port"]);
    ls(&here, &[]).expect(0);
}

#[test]
fn the_next_port_is_taken_only_if_asked() {
    let home = Home::new();
    let dir = home.dir("source");
    let first = home.serve(&dir, &[]);
    let taken = port(&first).to_owned();
    home.run(["serve", dir.to_str().unwrap(), "--bind", "127.0.0.1", "--port", &taken])
        .expect(1)
        .says(&[&taken, "in use", "--next-port", "--port"]);
    let second = home.serve_at("127.0.0.1", &dir, &["--port", &taken, "--next-port"]);
    let distance = port(&second).parse::<u16>().unwrap() - taken.parse::<u16>().unwrap();
    assert!((1..16).contains(&distance), "{distance}");
    home.run(["ls", &second.target]).expect(0);
    let at = format!("127.0.0.1:{taken}");
    home.run(["serve", dir.to_str().unwrap(), "--bind", &at, "--port", &taken])
        .expect(2)
        .says(&["twice"]);
}

/// A network of its own, where the default port is free, with an interface that has an address of its link only.
const NETWORK: &str = "
set -eu
ip link set lo up
ip link add sss0 type veth peer name sss1
ip link set sss0 up
ip link set sss1 up
ip -6 addr add fe80::7/64 dev sss0 nodad
\"$SSS\" serve --public \"$1\" > \"$2\" 2>&1 &
trap 'kill $!' EXIT
for i in $(seq 600); do grep -q listening \"$2\" && break; sleep 0.1; done
eid=$(sed -n 's/^listening \\(sss1[a-z0-9]*\\)@.*:7757$/\\1/p' \"$2\" | head -n 1)
for target in 127.0.0.1 '[::1]/one' $eid@localhost '[fe80::7%sss0]/one' $eid@[fe80::7%sss0]:7757 ; do
    \"$SSS\" ls --trust $target
done
\"$SSS\" ls \"[fe80::7%sss0]\" --bind '[fe80::7%sss0]'
\"$SSS\" serve \"$1\" && exit 9 || test $? = 1
";

#[test]
fn hosts_without_a_port_and_with_a_scope() {
    if !is_root() {
        eprintln!("SKIPPED: only root can make a network");
        return;
    }
    let home = Home::new();
    let dir = home.dir("source");
    fs::write(dir.join("one"), "1").unwrap();
    let mut command = Command::new("unshare");
    let sss = home.command();
    command
        .args(["--net", "sh", "-c", NETWORK, "sh"])
        .arg(&dir)
        .arg(home.path("log"));
    command.env("SSS", sss.get_program());
    for (name, value) in sss.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    let ran = command.output().unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr),
    );
    let log = fs::read_to_string(home.path("log")).unwrap();
    assert!(ran.status.success(), "out:\n{out}\nerr:\n{err}\nserve:\n{log}");
    assert_eq!(out.matches("one").count(), 6, "{out}");
    assert!(err.contains("7757 is in use") && err.contains("--next-port"), "{err}");
}

#[test]
fn a_machine_without_a_network_is_told_at_once() {
    if !is_root() {
        eprintln!("SKIPPED: only root can make a network");
        return;
    }
    let home = Home::new();
    let sss = home.command();
    let eid = home.run(["id"]).expect(0).out;
    let eid = eid.trim();
    let server = format!("{eid}@192.0.2.7");
    for (args, place) in [
        (["ls", "192.0.2.8", "--no-server"], "192.0.2.8:7757"),
        (["ls", eid, "--server"], "192.0.2.7:7757"),
        (["search", "photos", "--server"], "192.0.2.7:7757"),
    ] {
        let mut command = Command::new("unshare");
        command.args(["--net", "--"]).arg(sss.get_program()).args(args);
        command.args((args[2] == "--server").then_some(&server));
        command.args(["--timeout", "60"]).stderr(Stdio::piped());
        for (name, value) in sss.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        let mut child = command.spawn().unwrap();
        let (begun, mut said) = (Instant::now(), String::new());
        let mut err = BufReader::new(child.stderr.take().unwrap());
        err.read_line(&mut said).unwrap();
        let took = begun.elapsed();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(said.contains(&format!("no network that leads to {place}")), "{said}");
        assert!(took < Duration::from_secs(20), "{took:?}");
    }
    let ls = ["ls", "192.0.2.8", "--no-server", "--timeout", "1"];
    let mut command = Command::new("unshare");
    command.args(["--net", "--"]).arg(sss.get_program()).args(ls);
    for (name, value) in sss.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    let ran = command.output().unwrap();
    let said = String::from_utf8(ran.stderr).unwrap();
    assert!(said.contains("connect this machine to a network"), "{said}");
    assert!(!said.contains("sss serve"), "{said}");
}
