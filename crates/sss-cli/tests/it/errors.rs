//! What goes wrong, and what is said about it.

use std::fs;
use std::net::UdpSocket;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::{Home, assert_same, is_root, noise};

#[test]
fn nobody_there() {
    let client = Home::new();
    let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let eid = client
        .run(["id", "--new", "--file", client.path("other").to_str().unwrap()])
        .expect(0)
        .out;
    let target = format!("{}@{free}", eid.trim());
    let ran = client.run(["get", &target, "--timeout", "2"]).expect(3);
    ran.says(&["no answer", &free.to_string(), "check that `sss serve` runs"]);
    client
        .run(["ping", &free.to_string(), "--timeout", "1"])
        .expect(3)
        .says(&["no host answered"]);
    let ran = client.run(["ls", &target, "--timeout", "1", "--json"]).expect(3);
    let fact = ran.event("error");
    assert_eq!((&fact["kind"], &fact["exit"]), (&"unreachable".into(), &3.into()));
    assert!(fact["next"].as_str().is_some_and(|next| !next.is_empty()));
}

#[test]
fn what_is_missing_is_named() {
    let (server, client) = (Home::new(), Home::new());
    let dir = server.dir("source");
    fs::create_dir(dir.join("sub")).unwrap();
    let serving = server.serve(&dir, &["--write"]);
    let (missing, below) = (serving.at("sub/none"), serving.at("sub/none/x"));
    let to = client.path("to");
    let to = to.to_str().unwrap();
    for command in [
        &["ls", &missing][..],
        &["ls", "-r", &missing],
        &["get", &missing],
        &["get", &missing, to],
        &["get", &missing, "-"],
        &["get", &missing, "--dry-run"],
    ] {
        client.run(command).expect(1).says(&["sss: sub/none: no such file"]);
    }
    client.run(["ls", &below]).expect(1).says(&["sss: sub/none/x: "]);
    client
        .run(["get", &serving.at("sub/*.jpg")])
        .expect(1)
        .says(&["sss: sub/*.jpg: nothing matches"]);
    let fact = client.run(["ls", &missing, "--json"]).expect(1).event("error");
    assert!(fact["error"].as_str().unwrap().starts_with("sub/none: "), "{fact}");
}

/// What is wrong on this side is not looked for on the other, and there is one advice.
#[test]
fn what_is_wrong_here_is_said_to_be_here() {
    let (server, client) = (Home::new(), Home::new());
    let dir = server.dir("source");
    for sub in ["sub", "a/b", "c/d"] {
        fs::create_dir_all(dir.join(sub)).unwrap();
        (0..5).for_each(|name| fs::write(dir.join(sub).join(name.to_string()), "x").unwrap());
    }
    let serving = server.serve(&dir, &[]);
    let (file, tree) = (serving.at("sub/1"), client.path("tree"));
    let ran = client.run(["get", &file, "/proc/x"]).expect(1);
    assert!(!ran.err.contains("sss ls"), "{}", ran.err);
    ran.says(&["x: on this side: no such file"]);

    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 20 && exec \"$@\"", "sh"]);
    let sss = client.command();
    command.arg(sss.get_program()).args(["get", &serving.target]).arg(&tree);
    for (name, value) in sss.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    let ran = command.output().unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(1), "{said}");
    assert!(
        said.contains("-> raise the limit") && !said.contains("what the system says"),
        "{said}"
    );
    assert_eq!(said.matches("raise the limit").count(), 1, "{said}");

    let mut command = client.command();
    command.env("HOME", "relative/home").env_remove("XDG_CONFIG_HOME");
    command.arg("id").current_dir(client.path(""));
    let ran = command.output().unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(
        ran.status.code() == Some(1) && said.contains("no absolute path"),
        "{said}"
    );
    assert!(!client.path("relative").exists());
}

/// A HOME that cannot be written to is nothing that the user has named: it is said what to set.
#[test]
fn a_home_without_room_for_an_identity_is_named_with_what_to_set() {
    let home = Home::new();
    std::fs::write(home.path("file"), b"").unwrap();
    for (at, shown) in [("file", "file"), ("file/below", "file/below")] {
        let mut command = home.command();
        command
            .env("HOME", home.path(at))
            .env_remove("XDG_CONFIG_HOME")
            .arg("id");
        let ran = command.output().unwrap();
        let said = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(1), "{said}");
        assert!(
            said.contains(shown) && said.contains("-> set HOME or XDG_CONFIG_HOME"),
            "{said}"
        );
    }
    // A name that would break a line is shown on one.
    let broken = home.path("two\nlines");
    std::fs::create_dir(&broken).unwrap();
    let mut command = home.command();
    command.env("HOME", &broken).env_remove("XDG_CONFIG_HOME").arg("id");
    let said = command.output().unwrap().stderr;
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("two\\nlines") && said.lines().count() == 1, "{said}");
}

#[test]
fn an_interface_that_is_not_there_is_no_name_that_was_not_found() {
    let home = Home::new();
    let other = sss::Eid::from_public_key(&[7; 32]);
    let (at, found) = ("[fe80::1%no-such]:7000", format!("{other}@[fe80::1%no-such]:7000"));
    let (alone, limit) = (other.to_string(), ["--timeout", "1"]);
    for (command, code) in [
        (&["ping", at][..], 3),
        (&["ls", &found], 3),
        (&["ls", &alone, "--server", &found], 3),
        (&["doctor", &found], 3),
    ] {
        let ran = home.run(command.iter().chain(&limit)).expect(code);
        let ran = ran.says(&["there is no interface no-such on this machine: there ", "lo", "-> "]);
        assert!(!ran.err.contains("look up"), "{}", ran.err);
        if !command.contains(&"--server") {
            ran.says(&["interface to that link behind the %"]);
        }
    }
    home.run(["serve", ".", "--bind", "[fe80::1%no-such]"])
        .expect(1)
        .says(&["is no address of this machine", "there is no interface no-such"]);
}

#[test]
fn malformed_command_lines() {
    let home = Home::new();
    for (target, says) in [
        ("non sense", "192.0.2.7:7757"),
        ("nas:photos", "as in nas/path"),
        ("sss1abc@127.0.0.1:1", "EID"),
        ("127.0.0.1:0", "is no port"),
        ("127.0.0.1:1/../../etc", "outside"),
    ] {
        home.run(["get", target]).expect(2).says(&[says]);
    }
    home.run(["serve", ".", "--allow", "sss1x"])
        .expect(2)
        .says(&["--allow"]);
    home.run(["serve", ".", "--bind", "here:"])
        .expect(2)
        .says(&["is no port"]);
    home.run(["ping", "127.0.0.1:1", "-i", "-1"]).expect(2);
    home.run(["serve", ".", "--write", "--quota", "0"])
        .expect(2)
        .says(&["nothing could be written"]);
    let help = home.run(["--help"]).expect(0).out;
    for word in [
        "Exit codes:",
        "3    the peer cannot be reached",
        "Examples:",
        "sss serve",
    ] {
        assert!(help.contains(word), "{word:?}: {help}");
    }
    for command in ["id", "serve", "get", "put", "ls", "ping", "services", "demo"] {
        assert!(
            home.run([command, "--help"]).expect(0).out.contains("Examples:"),
            "{command}"
        );
    }
}

#[test]
fn a_port_in_use_and_a_directory_that_is_none() {
    let home = Home::new();
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    home.run(["serve", ".", "--bind", &address])
        .expect(1)
        .says(&["in use", &address, "another port"]);
    home.run(["serve", "/no/such/directory"])
        .expect(1)
        .says(&["/no/such/directory", "check the name"]);
    home.run(["put", "/no/such/file", "127.0.0.1:1"])
        .expect(1)
        .says(&["/no/such/file"]);
}

#[test]
fn a_server_that_is_not_to_be_written_to() {
    let (server, client) = (Home::new(), Home::new());
    let dir = server.dir("source");
    let serving = server.serve(&dir, &[]);
    let source = client.dir("mine");
    fs::write(source.join("f"), "x").unwrap();
    client
        .run(["put", source.to_str().unwrap(), &serving.target])
        .expect(4)
        .says(&["takes no files", "--write"]);
    let empty = client.dir("empty");
    client
        .run(["put", empty.to_str().unwrap(), &serving.target])
        .expect(4)
        .says(&["--write"]);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
}

#[test]
fn a_host_without_the_service() {
    let client = Home::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let host = runtime
        .block_on(sss::Host::builder().bind("127.0.0.1:0").build())
        .unwrap();
    let _other = host.listen("something", "else").unwrap();
    let target = format!("{}@{}", host.eid(), host.local_addr());
    client
        .run(["get", &target])
        .expect(4)
        .says(&["does not offer files", "REFUSED_SERVICE"]);
    client.run(["ping", &target]).expect(4).says(&["does not answer pings"]);
    let _files = host.listen("files", "sync/99").unwrap();
    client
        .run(["ls", &target])
        .expect(4)
        .says(&["REFUSED_PROTOCOL", "same version"]);
}

#[test]
fn garbage_on_the_port_does_no_harm() {
    let (server, client) = (Home::new(), Home::new());
    let source = server.dir("source");
    for i in 0..20 {
        fs::write(source.join(format!("{i}")), noise(i, 500_000)).unwrap();
    }
    let serving = server.serve(&source, &[]);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let mut seed = 0;
            while !done.load(Ordering::Relaxed) {
                seed += 1;
                let mut garbage = noise(seed, (seed * 37 % 1472) as usize);
                if let Some(first) = garbage.first_mut() {
                    *first = if seed % 2 == 0 { *first } else { (seed % 256) as u8 };
                }
                let _ = socket.send_to(&garbage, serving.address());
                if seed % 64 == 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        });
        let copy = client.path("copy");
        let ran = client.run(["get", &serving.target, copy.to_str().unwrap()]);
        done.store(true, Ordering::Relaxed);
        ran.expect(0);
        assert_same(&source, &copy);
    });
}

/// A file system that is full soon; unmounted when dropped.
struct Small(std::path::PathBuf);

impl Small {
    fn mount(at: std::path::PathBuf) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&at);
        mount.status().is_ok_and(|s| s.success()).then_some(Self(at))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_on_either_side() {
    let (server, client) = (Home::new(), Home::new());
    let (source, small) = (server.dir("source"), client.dir("small"));
    let Some(full) = is_root().then(|| Small::mount(small.clone())).flatten() else {
        eprintln!("SKIPPED: only root can mount a small file system");
        return;
    };
    fs::write(source.join("big"), noise(1, 4 << 20)).unwrap();
    let serving = server.serve(&source, &[]);
    let ran = client.run(["get", &serving.target, small.to_str().unwrap()]).expect(1);
    ran.says(&[
        "big: on this side: the disk is full",
        "free some space",
        "goes on where it was",
    ]);
    assert!(!small.join("big").exists());
    fs::remove_file(small.join(".big.sss-part")).unwrap();

    let full_server = server.serve(&small, &["--write"]);
    let ran = client
        .run(["put", source.join("big").to_str().unwrap(), &full_server.target])
        .expect(1);
    ran.says(&["big: on the server: the disk is full", "free some space"]);
    assert!(!small.join("big").exists());
    drop((full_server, full));
}
