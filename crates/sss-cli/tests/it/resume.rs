//! Killed at any moment, either side: what has its final name is complete, and what arrived is not sent again.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::support::{Home, Ran, Shape, Thing, assert_same, noise, shape};

/// Bytes from which an interrupted file is continued.
const CONTINUED: u64 = 256 << 10;

fn big_tree(dir: &Path) {
    for i in 0..6 {
        fs::write(dir.join(format!("big-{i}")), noise(i, 12 << 20)).unwrap();
    }
    fs::create_dir(dir.join("small")).unwrap();
    for i in 0..200 {
        fs::write(dir.join(format!("small/{i}")), noise(1000 + i, 10_000)).unwrap();
    }
}

fn is_part(path: &std::ffi::OsStr) -> bool {
    path.to_string_lossy().ends_with(".sss-part")
}

/// Whatever has its final name must be what was served.
#[track_caller]
fn assert_nothing_wrong(source: &Shape, copy: &Path) {
    for (path, thing) in shape(copy).iter().filter(|(path, _)| !is_part(path)) {
        if let Thing::File { .. } = thing {
            assert_eq!(source.get(path), Some(thing), "{}", path.display());
        }
    }
}

/// Bytes that are there: complete files, and interrupted ones that can be continued.
fn bytes_there(source: &Shape, copy: &Path) -> u64 {
    let size = |path: &std::ffi::OsStr| match source.get(path) {
        Some(Thing::File { len, .. }) => *len,
        _ => 0,
    };
    let there = |(path, thing): (&std::ffi::OsString, &Thing)| match thing {
        Thing::File { len, .. } if is_part(path) => {
            let text = path.to_str().unwrap();
            let (above, name) = text.rsplit_once('/').map_or(("", text), |(a, n)| (a, n));
            let name = name.trim_start_matches('.').trim_end_matches(".sss-part");
            let whole = if above.is_empty() {
                name.to_owned()
            } else {
                format!("{above}/{name}")
            };
            if size(whole.as_ref()) > CONTINUED { *len } else { 0 }
        }
        Thing::File { len, .. } => *len,
        _ => 0,
    };
    shape(copy).iter().map(there).sum()
}

/// Moments that differ from run to run; printed, so that a failure can be understood.
fn moment(most: u64) -> Duration {
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let moment = Duration::from_millis(20 + u64::from(clock.subsec_nanos()) / 1000 % most);
    eprintln!("killed after {moment:?}");
    moment
}

/// How often a side is killed: `SSS_KILLS` times, or five.
fn kills() -> u32 {
    std::env::var("SSS_KILLS").map_or(5, |count| count.parse().unwrap())
}

fn total(source: &Shape) -> u64 {
    let len = |thing: &Thing| if let Thing::File { len, .. } = thing { *len } else { 0 };
    source.values().map(len).sum()
}

#[test]
fn a_killed_client_goes_on_where_it_was() {
    let (server, client) = (Home::new(), Home::new());
    let (source, copy) = (server.dir("source"), client.dir("copy"));
    big_tree(&source);
    let shape_of_source = shape(&source);
    let serving = server.serve(&source, &[]);
    for _ in 0..kills() {
        let mut get = client.command();
        get.args(["get", &serving.target]).arg(&copy);
        let mut child = get.spawn().unwrap();
        std::thread::sleep(moment(250));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_nothing_wrong(&shape_of_source, &copy);
    }
    let there = bytes_there(&shape_of_source, &copy);
    let done = client
        .run(["get", &serving.target, copy.to_str().unwrap(), "--json"])
        .expect(0)
        .event("done");
    assert_same(&source, &copy);
    assert_eq!(
        done["bytes_moved"],
        total(&shape_of_source) - there,
        "{there} bytes were there"
    );
}

#[test]
fn a_killed_server_is_noticed_and_gone_on_from() {
    let (server, client) = (Home::new(), Home::new());
    let (source, copy) = (server.dir("source"), client.dir("copy"));
    big_tree(&source);
    let shape_of_source = shape(&source);
    let mut serving = server.serve(&source, &[]);
    for _ in 0..kills() {
        let mut get = client.command();
        get.args(["get", &serving.target]).arg(&copy);
        let child = get.spawn().unwrap();
        std::thread::sleep(moment(250));
        let address = serving.address().to_owned();
        serving.kill();
        serving = server.serve_at(&address, &source, &[]);
        let ran = Ran::wait(child);
        assert!(matches!(ran.code, Some(0 | 3)), "{:?}: {}", ran.code, ran.err);
        if ran.code == Some(3) {
            ran.says(&["run the same command again"]);
        }
        assert_nothing_wrong(&shape_of_source, &copy);
    }
    let there = bytes_there(&shape_of_source, &copy);
    let done = client
        .run(["get", &serving.target, copy.to_str().unwrap(), "--json"])
        .expect(0)
        .event("done");
    assert_same(&source, &copy);
    assert_eq!(
        done["bytes_moved"],
        total(&shape_of_source) - there,
        "{there} bytes were there"
    );
}

#[test]
fn a_killed_put_goes_on_where_it_was() {
    let (server, client) = (Home::new(), Home::new());
    let (source, dest) = (client.dir("source"), server.dir("dest"));
    big_tree(&source);
    let shape_of_source = shape(&source);
    let serving = server.serve(&dest, &["--write"]);
    let copy = dest.join("source");
    fs::create_dir(&copy).unwrap();
    for _ in 0..kills() {
        let mut put = client.command();
        put.args(["put", source.to_str().unwrap(), &serving.target]);
        let mut child = put.spawn().unwrap();
        std::thread::sleep(moment(250));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_nothing_wrong(&shape_of_source, &copy);
    }
    // The server writes what has come of a client that is silent when the same host comes back.
    std::thread::sleep(Duration::from_millis(1500));
    client.run(["ls", &serving.target]).expect(0);
    std::thread::sleep(Duration::from_millis(500));
    let there = bytes_there(&shape_of_source, &copy);
    let done = client
        .run(["put", source.to_str().unwrap(), &serving.target, "--json"])
        .expect(0)
        .event("done");
    assert_same(&source, &copy);
    assert_eq!(
        done["bytes_moved"],
        total(&shape_of_source) - there,
        "{there} bytes were there"
    );
}

#[test]
fn a_put_begun_again_at_once_hardly_waits_for_the_killed_one() {
    let (server, client) = (Home::new(), Home::new());
    let (source, dest) = (client.path("big"), server.dir("dest"));
    fs::write(&source, noise(1, 32 << 20)).unwrap();
    let serving = server.serve(&dest, &["--write"]);
    let args = ["put", source.to_str().unwrap(), &serving.target];
    let mut child = client
        .command()
        .args(args)
        .args(["--limit-rate", "4M"])
        .spawn()
        .unwrap();
    let part = dest.join(".big.sss-part");
    crate::exhaustion::wait_until(Duration::from_secs(20), || {
        fs::metadata(&part).is_ok_and(|part| part.len() > 0)
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let begun = std::time::Instant::now();
    client.run(args).expect(0);
    // Nobody else would have waited for what it holds: it would be 10 s.
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert_eq!(fs::read(&source).unwrap(), fs::read(dest.join("big")).unwrap());
}

#[test]
fn a_part_of_another_file_is_not_gone_on_from() {
    let (server, client) = (Home::new(), Home::new());
    let (source, copy) = (server.dir("source"), client.dir("copy"));
    let content = noise(1, 2 << 20);
    fs::write(source.join("f"), &content).unwrap();
    let serving = server.serve(&source, &[]);
    let mut wrong = content[..1 << 20].to_vec();
    wrong[77] ^= 1;
    fs::write(copy.join(".f.sss-part"), wrong).unwrap();
    let done = client
        .run(["get", &serving.target, copy.to_str().unwrap(), "--json"])
        .expect(0)
        .event("done");
    assert_eq!(done["bytes_moved"], content.len());
    assert_same(&source, &copy);

    fs::remove_file(copy.join("f")).unwrap();
    fs::write(copy.join(".f.sss-part"), &content[..1 << 20]).unwrap();
    let done = client
        .run(["get", &serving.target, copy.to_str().unwrap(), "--json"])
        .expect(0)
        .event("done");
    assert_eq!(done["bytes_moved"], content.len() - (1 << 20));
    assert_same(&source, &copy);
}

#[test]
fn an_interrupted_client_says_goodbye() {
    let (server, client) = (Home::new(), Home::new());
    let source = server.dir("source");
    fs::write(source.join("f"), noise(1, 64 << 20)).unwrap();
    let serving = server.serve(&source, &[]);
    let mut get = client.command();
    get.args(["get", &serving.target]).arg(client.path("copy"));
    let child = get.spawn().unwrap();
    std::thread::sleep(Duration::from_millis(150));
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    let ran = Ran::wait(child);
    assert!(
        matches!(ran.code, Some(0 | 130)) || ran.code.is_none(),
        "{:?}",
        ran.code
    );
    if ran.code == Some(130) {
        ran.says(&["interrupted", "goes on where it was"]);
    }
}

/// Several processes at once, each of which may be killed at any moment and is begun again.
#[test]
fn killed_and_begun_again_together_no_byte_is_moved_twice() {
    let (server, client) = (Home::new(), Home::new());
    let (source, copy) = (server.dir("source"), client.path("copy"));
    fs::create_dir(&source).unwrap_or_default();
    big_tree(&source);
    fs::set_permissions(source.join("small"), fs::Permissions::from_mode(0o751)).unwrap();
    client.run(["id"]).expect(0);
    let serving = server.serve(&source, &[]);
    let start = || {
        let mut get = client.command();
        get.args(["get", &serving.target, "--json"]).arg(&copy);
        get.spawn().unwrap()
    };
    let mut running: Vec<_> = (0..3).map(|_| start()).collect();
    for turn in 0..kills() as usize {
        std::thread::sleep(moment(200));
        let at = turn % running.len();
        running[at].kill().unwrap();
        running[at].wait().unwrap();
        running[at] = start();
    }
    for child in running {
        Ran::wait(child).expect(0);
    }
    assert_same(&source, &copy);
    assert_eq!(
        fs::metadata(copy.join("small")).unwrap().permissions().mode() & 0o777,
        0o751
    );
    let again = Ran::wait(start()).expect(0).event("done");
    assert_eq!((&again["bytes_moved"], &again["files_kept"]), (&0.into(), &206.into()));
}
