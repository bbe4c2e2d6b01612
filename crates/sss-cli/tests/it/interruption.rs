//! Ctrl-C and SIGTERM: at every moment, soon, and without traces on the terminal.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::support::{Home, Serving, ignores_interrupts, noise};
use crate::terminal::{Seen, Terminal};

/// Moments at which every command is interrupted.
const MOMENTS: u32 = 20;
/// It is to take a second at most. A busy machine may take longer, but not as long as what is interrupted.
const SOON: Duration = Duration::from_secs(5);

/// Interrupts a command at moments of its first `time`, and looks at the terminal afterwards. Returns how often it took
/// longer than the second that it has, on a busy machine.
fn interrupt_at_every_moment(time: Duration, start: impl Fn(u32) -> Terminal) -> usize {
    let (mut longest, mut late) = (Duration::ZERO, 0);
    for moment in 0..MOMENTS {
        let terminal = start(moment);
        std::thread::sleep(time * moment / MOMENTS);
        let before = terminal.rows();
        let begun = Instant::now();
        terminal.interrupt();
        let seen = terminal.end();
        let took = begun.elapsed();
        assert!(took < SOON, "at moment {moment}: {took:?}\n{}", seen.text());
        longest = longest.max(took);
        late += usize::from(took > Duration::from_secs(1));
        let said = seen.code == Some(130);
        // Before the program waits for signals they end it as any other; and it may be done already.
        assert!(
            said || matches!(seen.code, None | Some(0)),
            "{:?}: {}",
            seen.code,
            seen.text()
        );
        no_traces(&seen, said, &before);
    }
    eprintln!("the longest took {longest:?}");
    late
}

#[track_caller]
fn no_traces(seen: &Seen, said: bool, before: &[String]) {
    let text = seen.text();
    assert!(!seen.is_cursor_hidden, "{text}");
    if !said {
        return;
    }
    assert_eq!(seen.column, 0, "{text}");
    for trace in ["^C", "s left", "/s  ", "[y/N]"] {
        assert!(
            !text.contains(trace),
            "{trace:?} in:\n{text}\nbefore:\n{}",
            before.join("\n")
        );
    }
    let last: Vec<&str> = seen.rows.iter().rev().take(2).map(String::as_str).collect();
    assert!(
        last.len() == 2 && last[1].starts_with("sss: interrupted") && last[0].starts_with("  -> "),
        "{text}"
    );
}

fn served(home: &Home) -> (Serving, std::path::PathBuf) {
    let source = home.dir("source");
    for number in 0..400 {
        fs::write(source.join(format!("{number}")), noise(number, 20_000)).unwrap();
    }
    for number in 0..6 {
        fs::write(source.join(format!("large-{number}")), noise(number, 6 << 20)).unwrap();
    }
    (home.serve(&source, &["--write"]), source)
}

#[test]
fn get_is_interrupted_at_every_moment() {
    let (server, client) = (Home::new(), Home::new());
    let (serving, _) = served(&server);
    interrupt_at_every_moment(Duration::from_millis(1200), |moment| {
        let to = client.path(&format!("copy-{moment}"));
        Terminal::start(&client, ["get", &serving.target, to.to_str().unwrap()])
    });
}

#[test]
fn put_is_interrupted_at_every_moment() {
    let (server, client) = (Home::new(), Home::new());
    let (_, source) = served(&server);
    let serving = server.serve(&server.dir("to"), &["--write"]);
    interrupt_at_every_moment(Duration::from_millis(1200), |moment| {
        Terminal::start(
            &client,
            ["put", source.to_str().unwrap(), &serving.at(&format!("to-{moment}"))],
        )
    });
}

#[test]
fn commands_that_ask_are_interrupted_at_every_moment() {
    let (server, client) = (Home::new(), Home::new());
    let (serving, _) = served(&server);
    let time = Duration::from_millis(400);
    interrupt_at_every_moment(time, |_| Terminal::start(&client, ["ls", "-r", &serving.target]));
    interrupt_at_every_moment(time, |_| Terminal::start(&client, ["services", &serving.target]));
    interrupt_at_every_moment(time, |_| {
        Terminal::start(&client, ["ping", "-i", "0.05", &serving.target])
    });
    interrupt_at_every_moment(time, |_| Terminal::start(&client, ["id"]));
}

#[test]
fn a_question_is_interrupted_at_every_moment() {
    let (server, client) = (Home::new(), Home::new());
    let (serving, _) = served(&server);
    interrupt_at_every_moment(Duration::from_millis(400), |_| {
        Terminal::start(&client, ["ping", serving.address()])
    });
    // Nobody is there.
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap().to_string();
    interrupt_at_every_moment(Duration::from_millis(400), |_| {
        Terminal::start(&client, ["ping", &address])
    });
}

#[test]
fn the_demo_is_interrupted_at_every_moment_and_leaves_nothing() {
    let home = Home::new();
    let temporary = home.dir("tmp");
    let late = interrupt_at_every_moment(Duration::from_secs(4), |_| {
        Terminal::start_with(&home, ["demo"], |command| command.env("TMPDIR", &temporary))
    });
    let left: Vec<_> = fs::read_dir(&temporary).unwrap().collect();
    // When its time is over it ends, whatever is left.
    assert!(left.len() <= late, "{left:?}");
}

#[test]
fn serve_is_stopped_at_every_moment() {
    let home = Home::new();
    let dir = home.dir("served");
    for moment in 0..MOMENTS {
        let args = ["serve", dir.to_str().unwrap(), "--bind", "127.0.0.1:0"];
        let terminal = Terminal::start(&home, args);
        std::thread::sleep(Duration::from_millis(15) * moment);
        let begun = Instant::now();
        terminal.interrupt();
        let seen = terminal.end();
        assert!(begun.elapsed() < SOON);
        assert!(matches!(seen.code, None | Some(0)), "{:?}: {}", seen.code, seen.text());
    }
}

fn signal(child: &Child, signal: Signal) {
    rustix::process::kill_process(Pid::from_child(child), signal).unwrap();
}

/// Time that it takes to end.
fn time_to_end(child: &mut Child) -> Duration {
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > SOON * 4 {
            child.kill().unwrap();
            panic!("it goes on");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    begun.elapsed()
}

/// A file that takes long to hash, and no room.
fn sparse(path: &Path, len: u64) {
    fs::File::create(path).unwrap().set_len(len).unwrap();
}

#[test]
fn hashing_of_what_is_there_is_abandoned() {
    let (server, client) = (Home::new(), Home::new());
    let source = server.dir("source");
    sparse(&source.join("huge"), 200 << 30);
    let serving = server.serve(&source, &[]);
    for kill in [Signal::INT, Signal::TERM] {
        let to = client.dir("to");
        sparse(&to.join(".huge.sss-part"), 199 << 30);
        let mut command = client.command();
        command.args(["get", &serving.at("huge"), to.to_str().unwrap()]);
        let mut child = command.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(1500));
        assert!(child.try_wait().unwrap().is_none(), "it hashes for a long time");
        signal(&child, kill);
        let took = time_to_end(&mut child);
        eprintln!("{kill:?} while it hashes: {took:?}");
        assert!(took < SOON, "{took:?}");
        assert_eq!(child.wait().unwrap().code(), Some(130));
    }
}

/// `sss ls` that cannot go on: nobody reads what it says.
fn stuck(client: &Home, target: &str) -> Child {
    let mut command = client.command();
    let mut child = command.args(["ls", "-r", target]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    assert!(child.try_wait().unwrap().is_none(), "it waits for somebody who reads");
    child
}

#[test]
fn a_command_whose_output_nobody_reads_ends_and_at_the_second_signal_at_once() {
    let (server, client) = (Home::new(), Home::new());
    let source = server.dir("source");
    for number in 0..2000 {
        fs::write(source.join(format!("{}-{number}", "x".repeat(60))), "").unwrap();
    }
    let serving = server.serve(&source, &[]);
    let mut child = stuck(&client, &serving.target);
    signal(&child, Signal::INT);
    assert!(time_to_end(&mut child) < SOON);
    assert_eq!(child.wait().unwrap().code(), Some(130));

    // A busy machine may be late once, not always.
    let mut times = (0..5).map(|_| {
        let mut child = stuck(&client, &serving.target);
        signal(&child, Signal::INT);
        std::thread::sleep(Duration::from_millis(50));
        signal(&child, Signal::INT);
        let took = time_to_end(&mut child);
        assert_eq!(child.wait().unwrap().code(), Some(130));
        eprintln!("the second signal: {took:?}");
        took
    });
    assert!(times.any(|took| took < Duration::from_millis(400)));
}

#[test]
fn nothing_but_the_message_is_left_on_a_terminal_of_which_the_output_is_elsewhere() {
    let (server, client) = (Home::new(), Home::new());
    let (serving, _) = served(&server);
    client.run(["id"]).expect(0);
    let to = client.path("copy");
    // Else all may be there before it is interrupted.
    let args = ["get", "--limit-rate", "2M", &serving.target, to.to_str().unwrap()];
    let terminal = Terminal::start_with(&client, args, |command| command.stdout(Stdio::null()));
    terminal.wait_for("left");
    terminal.interrupt();
    let seen = terminal.end().expect(130);
    assert_eq!(seen.rows.len(), 2, "{}", seen.text());
}

#[test]
fn programs_that_are_started_do_not_ignore_interrupts() {
    let mut grep = Home::new().command_of("grep");
    let Ok(output) = grep.args(["SigIgn:", "/proc/self/status"]).output() else {
        eprintln!("SKIPPED: there is no grep");
        return;
    };
    assert!(!ignores_interrupts(&String::from_utf8_lossy(&output.stdout)));
}

#[test]
fn nor_do_they_where_the_tests_are_started_in_the_background() {
    let name = "interruption::programs_that_are_started_do_not_ignore_interrupts";
    let mut shell = Home::new().command_of("sh");
    let tests = std::env::current_exe().unwrap();
    shell.args(["-c", "trap '' INT; exec \"$0\" \"$@\""]).arg(tests);
    let output = shell.args(["--exact", name]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}
