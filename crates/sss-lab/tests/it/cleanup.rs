//! A lab leaves nothing behind, however it ends.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sss_lab::{Error, Kind, Lab, Site};

use crate::lab_or_skip;

fn small() -> sss_lab::Builder {
    Lab::builder().site("a", Site::new(Kind::Prc))
}

/// A tag that no other run of these tests has.
fn own_tag(name: &str) -> String {
    format!("{name}{}", std::process::id())
}

fn namespaces(tag: &str) -> usize {
    let prefix = format!("lab-{tag}-");
    let all = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    all.filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .count()
}

fn files(tag: &str) -> usize {
    let all = std::fs::read_dir("/run/sss-lab").into_iter().flatten().flatten();
    all.filter(|entry| entry.file_name().to_string_lossy().starts_with(tag))
        .count()
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_dropped_lab_is_gone_with_what_runs_in_it() {
    let Some(lab) = lab_or_skip(small()) else {
        return;
    };
    let tag = lab.tag().to_owned();
    assert_eq!((namespaces(&tag), files(&tag)), (3, 1));
    let sleep = || lab.node("a").unwrap().command("sleep").arg("60").spawn().unwrap();
    let mut processes = [sleep(), sleep()];
    // It is there as soon as it is in the namespace.
    let place = |process: &Child| std::fs::read_link(format!("/proc/{}/ns/net", process.id())).ok();
    let own = std::fs::read_link("/proc/self/ns/net").ok();
    wait_until("the processes start", || {
        processes.iter().all(|process| place(process) != own)
    });
    drop(lab);
    assert_eq!((namespaces(&tag), files(&tag)), (0, 0));
    for process in &mut processes {
        assert_eq!(ended(process).signal(), Some(9));
    }
}

#[test]
fn a_panic_leaves_nothing() {
    let tag = std::sync::Mutex::new(None);
    let outcome = std::thread::scope(|scope| {
        let test = scope.spawn(|| {
            let lab = lab_or_skip(small());
            *tag.lock().unwrap() = lab.as_ref().map(|lab| lab.tag().to_owned());
            assert!(lab.is_none(), "on purpose");
        });
        test.join()
    });
    if let Some(tag) = tag.into_inner().unwrap() {
        assert!(outcome.is_err());
        assert_eq!((namespaces(&tag), files(&tag)), (0, 0));
    }
}

#[test]
fn labs_live_side_by_side_and_a_tag_is_taken_once() {
    let one_tag = own_tag("side");
    let Some(one) = lab_or_skip(small().tag(&one_tag)) else {
        return;
    };
    let two = lab_or_skip(small()).unwrap();
    assert!(matches!(small().tag(&one_tag).build(), Err(Error::TagTaken(_))));
    assert!(matches!(small().tag("Side-1").build(), Err(Error::BadTag(_))));
    let tags = sss_lab::living();
    assert!(tags.contains(&one_tag) && tags.iter().any(|tag| tag == two.tag()));
    for lab in [&one, &two] {
        let found = sss_lab::probe::classify(lab.node("a").unwrap(), lab.node("server").unwrap(), false);
        assert_eq!(found.unwrap(), Kind::Prc.behaviour());
    }
    let tag = two.tag().to_owned();
    drop(one);
    assert_eq!((namespaces(&one_tag), namespaces(&tag)), (0, 3));
}

/// The tool with a lab that is up; `None` if there can be none.
fn tool(tag: &str, arguments: &[&str]) -> Option<Child> {
    drop(lab_or_skip(small())?);
    let mut command = Command::new(env!("CARGO_BIN_EXE_sss-lab"));
    command.args(arguments).args(["--tag", tag]).stdout(Stdio::piped());
    let mut tool = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(tool.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    let facts: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(facts["tag"], tag);
    Some(tool)
}

/// Sends a signal, and waits for the tool to end.
fn end(tool: &mut Child, signal: Signal) -> ExitStatus {
    kill_process(Pid::from_child(tool), signal).unwrap();
    ended(tool)
}

/// Waits for a process, but not forever.
fn ended(process: &mut Child) -> ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = process.try_wait().unwrap() {
            return status;
        }
        if begun.elapsed() > Duration::from_secs(20) {
            process.kill().unwrap();
            panic!("it does not end");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn signals_end_the_tool_and_its_lab() {
    for (name, signal) in [("sigint", Signal::INT), ("sigterm", Signal::TERM)] {
        let tag = &own_tag(name);
        let Some(mut tool) = tool(tag, &["up", "--json", "--b", "open"]) else {
            return;
        };
        assert_eq!(namespaces(tag), 5);
        assert!(end(&mut tool, signal).success());
        assert_eq!((namespaces(tag), files(tag)), (0, 0));
    }
}

#[test]
fn what_a_killed_tool_leaves_is_removed_by_the_next() {
    let tag = &own_tag("sigkill");
    let Some(mut tool) = tool(tag, &["link", "--json", "delay=5ms"]) else {
        return;
    };
    assert_eq!((namespaces(tag), files(tag)), (2, 2));
    end(&mut tool, Signal::KILL);
    drop(lab_or_skip(small()).unwrap());
    // Another lab that is made at the same time may be at it.
    wait_until("it is removed", || (namespaces(tag), files(tag)) == (0, 0));
}

#[test]
fn the_tool_changes_a_lab_and_runs_commands() {
    let tag = &own_tag("change");
    let Some(mut tool) = tool(tag, &["up", "--json"]) else {
        return;
    };
    let change = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sss-lab"));
        let output = command.args(["change", "--lab", tag]).args(words).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    };
    assert_eq!(change(&["link", "ab.delay=80ms", "loss=1%"]), (true, String::new()));
    assert_eq!(change(&["reboot", "a"]), (true, String::new()));
    assert_eq!(change(&["renumber", "a"]), (true, "198.18.1.2\n".into()));
    assert_eq!(change(&["move", "a", "b"]), (true, "10.0.2.3\n".into()));
    assert_eq!(change(&["firewall", "b", "no-udp"]), (true, String::new()));
    let (_, facts) = change(&["show"]);
    let facts: serde_json::Value = serde_json::from_str(&facts).unwrap();
    assert_eq!(facts["nodes"][0]["outside"], "198.18.2.1");
    for (words, says) in [
        (&["reboot", "x"][..], "no site x"),
        (&["link", "speed=1"], "no link has"),
        (&["dance"], "is no change"),
    ] {
        let (is_good, text) = change(words);
        assert!(!is_good && text.contains(says), "{text}");
    }
    end(&mut tool, Signal::TERM);
}

#[test]
fn commands_run_in_each_host_and_their_status_is_told() {
    if lab_or_skip(small()).is_none() {
        return;
    }
    let run = |arguments: &[&str], script: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sss-lab"));
        let output = command
            .args(arguments)
            .args(["--", "sh", "-c", script])
            .output()
            .unwrap();
        let mut lines: Vec<String> = String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect();
        lines.sort_unstable();
        (output.status.code(), lines)
    };
    let (status, lines) = run(
        &["run", "--a", "open"],
        "echo $LAB_SIDE $LAB_ADDRESS $LAB_OUTSIDE $LAB_PEER $LAB_SERVER",
    );
    let expected = [
        "a | a 198.18.1.10 198.18.1.10 10.0.2.2 198.18.0.1",
        "b | b 10.0.2.2 198.18.2.1 198.18.1.10 198.18.0.1",
    ];
    assert_eq!((status, lines), (Some(0), expected.map(str::to_owned).to_vec()));
    let (status, lines) = run(&["link"], "echo $LAB_PEER; test $LAB_SIDE = a || exit 3");
    assert_eq!((status, lines.len()), (Some(3), 2));
    let (status, lines) = run(&["run", "--on", "server"], "echo $LAB_SIDE");
    assert_eq!((status, lines), (Some(0), vec!["server".to_owned()]));
}
