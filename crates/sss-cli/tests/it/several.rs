//! Several sources, patterns, standard input and output, and what is left out.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::{Home, Ran, assert_same, noise};

/// A directory with files by these names, each with its name as content.
fn files(dir: &Path, names: &[&str]) {
    for name in names {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, name).unwrap();
    }
}

/// All files below a directory.
fn found(dir: &Path) -> Vec<String> {
    let is_file = |(path, _): &(std::ffi::OsString, _)| dir.join(path).is_file();
    let shape = crate::support::shape(dir).into_iter().filter(is_file);
    shape.map(|(path, _)| path.into_string().unwrap()).collect()
}

#[test]
fn several_sources_of_several_hosts_go_into_a_directory() {
    let (server, other, client) = (Home::new(), Home::new(), Home::new());
    let (dir, there) = (server.dir("source"), other.dir("source"));
    files(&dir, &["one", "tree/a", "tree/b/c", "sub/one"]);
    files(&there, &["far"]);
    let (serving, far) = (server.serve(&dir, &[]), other.serve(&there, &[]));
    let dest = client.path("dest");
    let to = dest.to_str().unwrap();
    let ran = client.run(["get", &serving.at("one"), &serving.at("tree"), &far.at("far"), to]);
    let ran = ran.expect(0);
    assert!(ran.out.contains("received 4 files"), "{}", ran.out);
    assert_eq!(found(&dest), ["far", "one", "tree/a", "tree/b/c"]);

    // One that is missing, or has the name of another, does not keep the others.
    let dest = client.path("again");
    let to = dest.to_str().unwrap();
    let ran = client
        .run([
            "get",
            &serving.at("none"),
            &serving.at("one"),
            &serving.at("sub/one"),
            to,
        ])
        .expect(1);
    ran.says(&[
        "sss: none: ",
        "sss: sub/one: another source has the same last name",
        "-> fetch it by itself, to another place",
    ]);
    assert_eq!(found(&dest), ["one"]);
    assert_eq!(fs::read_to_string(dest.join("one")).unwrap(), "one");

    client
        .run(["get", &serving.at("one"), &serving.at("tree")])
        .expect(2)
        .says(&["is a source", "such as ."]);
    let file = dest.join("one");
    let ran = client.run(["get", &serving.at("one"), &serving.at("tree"), file.to_str().unwrap()]);
    ran.expect(1).says(&["is no directory"]);
}

#[test]
fn patterns_are_those_of_shells_and_names_come_first() {
    let (server, client) = (Home::new(), Home::new());
    let dir = server.dir("source");
    files(
        &dir,
        &[
            "p/a.jpg",
            "p/b.jpg",
            "p/.hidden.jpg",
            "p/c.txt",
            "p/d.jpg/inner",
            "q/a.jpg",
            "[x]",
            "x",
        ],
    );
    let serving = server.serve(&dir, &[]);
    let get = |paths: &[&str], to: &str| -> Ran {
        let paths = paths.iter().map(|path| serving.at(path));
        let dest = client.path(to).to_str().unwrap().to_owned();
        client.run(["get".to_owned()].into_iter().chain(paths).chain([dest]))
    };
    get(&["p/*.jpg"], "one").expect(0);
    assert_eq!(found(&client.path("one")), ["a.jpg", "b.jpg", "d.jpg/inner"]);
    get(&["p/*.jpg"], "one").expect(0);
    get(&["p/*.jpg", "p/c.*"], "two").expect(0);
    assert_eq!(found(&client.path("two")), ["a.jpg", "b.jpg", "c.txt", "d.jpg/inner"]);
    get(&["?/.*", "[q-r]/*"], "three").expect(0);
    assert_eq!(found(&client.path("three")), [".hidden.jpg", "a.jpg"]);
    // There is a file of that name.
    get(&["[x]"], "four").expect(0);
    assert_eq!(fs::read_to_string(client.path("four")).unwrap(), "[x]");
    get(&["*/a.jpg"], "five")
        .expect(1)
        .says(&["p/a.jpg", "q/a.jpg: another source has the same last name"][1..]);
    get(&["p/*.png"], "six").expect(1).says(&["p/*.png: nothing matches"]);
    get(&["p/[a"], "six").expect(2).says(&["p/[a: it is no pattern"]);
    get(&["none/*"], "six").expect(1).says(&["none/*: no such file"]);
    assert!(!client.path("six").exists());
    let ls = |args: &[&str]| -> Vec<String> {
        let ran = client.run(["ls", "--json"].iter().chain(args)).expect(0);
        ran.json()
            .iter()
            .map(|fact| fact["path"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(ls(&[&serving.at("p/*.jpg")]), ["a.jpg", "b.jpg", "d.jpg"]);
    assert_eq!(ls(&[&serving.at("*/d*"), "-r"]), ["p/d.jpg", "p/d.jpg/inner"]);
    assert_eq!(ls(&[&serving.at("[x]")]), ["[x]"]);
    client
        .run(["ls", &serving.at("*.png")])
        .expect(1)
        .says(&["nothing matches"]);
    // Here, and not in a directory of the pattern's name.
    let mut command = client.command();
    let here = client.dir("here");
    command.args(["get", &serving.at("p/a*")]).current_dir(&here);
    Ran::wait(command.spawn().unwrap()).expect(0);
    assert_eq!(found(&here), ["a.jpg"]);
}

#[test]
fn several_files_and_trees_are_put_into_a_directory() {
    let (server, client) = (Home::new(), Home::new());
    let dir = server.dir("target");
    let serving = server.serve(&dir, &["--write"]);
    let mine = client.dir("mine");
    files(&mine, &["one", "two", "tree/a", "tree/b/c", "sub/three", "sub/one"]);
    std::os::unix::fs::symlink("one", mine.join("link")).unwrap();
    let put = |names: &[&str], to: &str| {
        let mut command = client.command();
        command.arg("put").args(names).arg(serving.at(to)).current_dir(&mine);
        Ran::wait(command.spawn().unwrap())
    };
    let ran = put(&["one", "two", "link", "tree", "sub/three"], "new/place").expect(0);
    assert!(ran.out.contains("sent 5 files"), "{}", ran.out);
    assert_eq!(
        found(&dir.join("new/place")),
        ["link", "one", "three", "tree/a", "tree/b/c", "two"]
    );
    assert!(fs::symlink_metadata(dir.join("new/place/link")).unwrap().is_symlink());
    assert_same(&mine.join("tree"), &dir.join("new/place/tree"));
    put(&["one", "sub/one"], "other")
        .expect(1)
        .says(&["two sources are called one"]);
    put(&["one", "none"], "other")
        .expect(1)
        .says(&["none", "check the name"]);
    assert!(!dir.join("other").exists());
    put(&["one", "two"], "new/place/one")
        .expect(1)
        .says(&["is no directory"]);
}

#[test]
fn what_is_excluded_stays_where_it_is() {
    let (server, client) = (Home::new(), Home::new());
    let dir = server.dir("source");
    files(
        &dir,
        &["a.c", "a.o", "target/x", "src/b.o", "src/target", "src/b.c", "cache/y"],
    );
    let serving = server.serve(&dir, &["--write"]);
    let excludes = ["--exclude", "*.o", "--exclude", "target/", "--exclude=/cache"];
    let (copy, expected) = (client.path("copy"), ["a.c", "src/b.c", "src/target"]);
    client
        .run(["get", &serving.target, copy.to_str().unwrap()].iter().chain(&excludes))
        .expect(0);
    assert_eq!(found(&copy), expected);
    client
        .run(
            ["get", &serving.at("*"), client.path("each").to_str().unwrap()]
                .iter()
                .chain(&excludes),
        )
        .expect(0);
    assert_eq!(found(&client.path("each")), expected);

    files(&copy, &["z.o", "target/z", "cache/z"]);
    client
        .run(
            ["put", copy.to_str().unwrap(), &serving.at("back")]
                .iter()
                .chain(&excludes),
        )
        .expect(0);
    assert_eq!(found(&dir.join("back")), expected);
    client
        .run(["get", &serving.target, "--exclude", "["])
        .expect(2)
        .says(&["--exclude"]);
}

/// A list of the directories that are opened, of some.
struct Opened(rustix::fd::OwnedFd);

impl Opened {
    fn watch(directories: &[&Path]) -> Self {
        use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
        let watch = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).unwrap();
        for directory in directories {
            add_watch(&watch, *directory, WatchFlags::OPEN).unwrap();
        }
        Self(watch)
    }

    fn any(&self) -> bool {
        rustix::io::read(&self.0, &mut [0_u8; 4096][..]).is_ok_and(|bytes| bytes > 0)
    }
}

// spec: FIL-37
#[test]
fn nobody_looks_into_what_is_excluded() {
    let (server, client) = (Home::new(), Home::new());
    let (dir, mine) = (server.dir("source"), client.dir("mine"));
    for tree in [&dir, &mine] {
        files(tree, &["a.c", "target/deep/x", "src/cache/y", "src/b.c"]);
    }
    // One that may be written to looks for abandoned parts of files at its start.
    let serving = server.serve(&dir, &[]);
    let back = server.dir("back");
    let writable = server.serve(&back, &["--write"]);
    let copy = client.path("copy");
    let (copy, from) = (copy.to_str().unwrap(), mine.to_str().unwrap());
    let far = writable.at("back");
    let excludes = ["--exclude", "/target", "--exclude", "cache/"];
    let excluded = [&dir, &mine].map(|tree| ["target", "src/cache"].map(|name| tree.join(name)));
    let opened = Opened::watch(
        &excluded
            .as_flattened()
            .iter()
            .map(|path| path.as_path())
            .collect::<Vec<_>>(),
    );
    for command in [
        &["get", &serving.target, copy][..],
        &["get", &serving.target, copy, "--dry-run"],
        &["put", from, &far],
        &["put", from, &far, "--dry-run"],
    ] {
        client.run(command.iter().chain(&excludes)).expect(0);
        assert!(!opened.any(), "{command:?}");
    }
    assert_eq!(found(Path::new(copy)), ["a.c", "src/b.c"]);
    assert_eq!(found(&back.join("back")), ["a.c", "src/b.c"]);
    // That they would be seen.
    client.run(["ls", "-r", &serving.target]).expect(0);
    assert!(opened.any());
    // More than a request has room for, and longer ones, are left out on this side.
    let many: Vec<String> = (0..40).map(|n| format!("--exclude=none-{n}")).collect();
    let long = format!("--exclude={}", "x".repeat(300));
    let args = ["get", &serving.target, client.path("more").to_str().unwrap(), &long].map(str::to_owned);
    let args = args.into_iter().chain(many).chain(excludes.map(str::to_owned));
    client.run(args).expect(0);
    assert_eq!(found(&client.path("more")), ["a.c", "src/b.c"]);
}

#[test]
fn of_several_that_are_put_the_excluded_are_left_out() {
    let (server, client) = (Home::new(), Home::new());
    let dir = server.dir("target");
    let serving = server.serve(&dir, &["--write"]);
    let mine = client.dir("mine");
    files(&mine, &["a.c", "a.o", "target/x", "src/b.c"]);
    let put = |names: &[&str]| {
        let mut command = client.command();
        command.arg("put").args(names).arg(&serving.target);
        command
            .args(["--exclude", "*.o", "--exclude", "target/"])
            .current_dir(&mine);
        Ran::wait(command.spawn().unwrap()).expect(0)
    };
    put(&["a.c", "a.o", "src", "target"]);
    assert_eq!(found(&dir), ["a.c", "src/b.c"]);
    put(&["a.o"]);
    assert_eq!(found(&dir), ["a.c", "a.o", "src/b.c"]);
}

#[test]
fn standard_output_gets_the_content_and_nothing_else() {
    let (server, client) = (Home::new(), Home::new());
    let dir = server.dir("source");
    for (name, len) in [("empty", 0), ("small", 3), ("big", 3_000_000)] {
        fs::write(dir.join(name), noise(9, len)).unwrap();
    }
    let serving = server.serve(&dir, &[]);
    let output = |names: &[&str]| {
        let names = names.iter().map(|name| serving.at(name));
        client.command().arg("get").args(names).arg("-").output().unwrap()
    };
    for name in ["empty", "small", "big"] {
        let ran = output(&[name]);
        assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
        assert!(ran.stdout == fs::read(dir.join(name)).unwrap(), "{name}");
    }
    let both = [fs::read(dir.join("small")).unwrap(), fs::read(dir.join("big")).unwrap()].concat();
    assert!(output(&["small", "big"]).stdout == both);

    client.run(["get", &serving.target, "-"]).expect(1).says(&["directory"]);
    client
        .run(["get", &serving.at("none"), "-"])
        .expect(1)
        .says(&["no such file"]);
    client.run(["get", &serving.at("small"), "-", "--json"]).expect(2);
    let mut command = client.command();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    command.args(["get", &serving.at("big"), "-"]).stdout(full);
    let ran = Ran::wait(command.spawn().unwrap()).expect(1);
    ran.says(&["cannot write to standard output", "free some space there"]);
    // Whoever reads it has enough after a while.
    let mut command = client.command();
    command.args(["get", &serving.at("big"), &serving.at("small"), "-"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let ran = Ran::wait(child).expect(0);
    assert!(!ran.err.contains("->"), "{}", ran.err);
}

#[test]
fn standard_input_becomes_a_file() {
    let (server, client) = (Home::new(), Home::new());
    let dir = server.dir("target");
    let serving = server.serve(&dir, &["--write"]);
    let spools = client.dir("spools");
    let put = |to: &str, content: &[u8]| {
        let mut command = client.command();
        command
            .args(["put", "-", &serving.at(to)])
            .stdin(Stdio::piped())
            .env("TMPDIR", &spools);
        let mut child = command.spawn().unwrap();
        // A command line that is wrong is refused before anything is read.
        let _ = child.stdin.take().unwrap().write_all(content);
        Ran::wait(child)
    };
    for (name, len) in [("new/empty", 0), ("big", 3_000_000)] {
        put(name, &noise(7, len)).expect(0);
        assert!(fs::read(dir.join(name)).unwrap() == noise(7, len));
    }
    put("big", b"other").expect(1).says(&["--force"]);
    let mode = |name: &str| std::os::unix::fs::MetadataExt::mode(&fs::metadata(dir.join(name)).unwrap()) & 0o777;
    fs::write(dir.join("by hand"), "").unwrap();
    assert_eq!(mode("big"), mode("by hand"));
    put("", b"x").expect(2).says(&["has no name"]);
    put("new/", b"x").expect(2).says(&["has no name"]);
    assert_eq!(
        fs::read_dir(&spools).unwrap().count(),
        0,
        "what was kept for a while is removed"
    );
}

#[test]
fn nothing_is_left_of_standard_input_however_it_ends() {
    let (server, client) = (Home::new(), Home::new());
    let serving = server.serve(&server.dir("target"), &["--write"]);
    let spools = client.dir("spools");
    let mut command = client.command();
    command
        .args(["put", "-", &serving.at("big")])
        .stdin(Stdio::piped())
        .env("TMPDIR", &spools);
    let mut child = command.spawn().unwrap();
    // More than a pipe holds: some of it is kept when this returns.
    child.stdin.as_mut().unwrap().write_all(&noise(5, 1 << 20)).unwrap();
    let kept = fs::read_dir(format!("/proc/{}/fd", child.id()))
        .unwrap()
        .filter_map(|fd| fs::read_link(fd.unwrap().path()).ok());
    assert!(
        kept.into_iter().any(|path| path.starts_with(&spools)),
        "it is kept elsewhere"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(fs::read_dir(&spools).unwrap().count(), 0);
}

#[test]
fn waiting_for_standard_input_is_interrupted() {
    let (server, client) = (Home::new(), Home::new());
    let serving = server.serve(&server.dir("target"), &["--write"]);
    let mut command = client.command();
    command
        .args(["put", "-", &serving.at("big"), "--json"])
        .stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(&noise(5, 1 << 20)).unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    // It ends by itself, and not because its time is over: then nobody would be told.
    let ran = Ran::wait(child).expect(130);
    assert_eq!(ran.event("error")["kind"], "interrupted");
    drop(pipe);
}

/// The beginning is copied by one of them, while the others look at it.
// spec: FIL-10, FIL-11
#[test]
fn several_that_put_a_file_that_grew_all_succeed() {
    let (server, client) = (Home::new(), Home::new());
    let dir = server.dir("target");
    let serving = server.serve(&dir, &["--write"]);
    let (mine, there) = (client.path("grown"), dir.join("grown"));
    let grown = noise(6, 20_000_000);
    fs::write(&mine, &grown).unwrap();
    for _ in 0..4 {
        fs::write(&there, &grown[..16_000_000]).unwrap();
        let puts: Vec<_> = (0..3)
            .map(|_| {
                let mut command = client.command();
                command.args(["put", "--force", mine.to_str().unwrap(), &serving.target]);
                command.spawn().unwrap()
            })
            .collect();
        puts.into_iter().for_each(|put| drop(Ran::wait(put).expect(0)));
        assert!(fs::read(&there).unwrap() == grown);
    }
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "a temporary file is left");
}

#[test]
fn a_transfer_is_no_faster_than_it_may_be() {
    let (server, client) = (Home::new(), Home::new());
    let (dir, mine) = (server.dir("source"), client.dir("mine"));
    fs::write(mine.join("one"), noise(3, 600_000)).unwrap();
    for i in 0..20 {
        fs::write(mine.join(format!("{i}")), noise(i, 30_000)).unwrap();
    }
    let serving = server.serve(&dir, &["--write"]);
    let (from, copy) = (mine.to_str().unwrap(), client.path("copy"));
    // 1.2 MB at 600 kB/s.
    let transfers = [
        vec!["put", from, &serving.target, "--limit-rate", "600000"],
        vec!["get", &serving.target, copy.to_str().unwrap(), "--limit-rate", "600000"],
    ];
    for transfer in transfers {
        let begun = Instant::now();
        client.run(&transfer).expect(0);
        let taken = begun.elapsed();
        assert!(taken >= Duration::from_millis(1700), "{}: {taken:?}", transfer[0]);
    }
    assert_same(&mine, &copy.join("mine"));
    let begun = Instant::now();
    client
        .run(["get", &serving.at("mine/one"), "-", "--limit-rate", "400k"])
        .expect(0);
    assert!(begun.elapsed() >= Duration::from_millis(1200), "{:?}", begun.elapsed());
    client
        .run(["get", &serving.target, "--limit-rate", "fast"])
        .expect(2)
        .says(&["500K"]);
}

#[test]
fn a_dry_run_tells_what_would_be_done_and_does_nothing() {
    let (server, client) = (Home::new(), Home::new());
    let dir = server.dir("source");
    files(&dir, &["same", "other", "new", "tree/a", "x.o"]);
    std::os::unix::fs::symlink("new", dir.join("link")).unwrap();
    let serving = server.serve(&dir, &["--write"]);
    let copy = client.path("copy");
    let to = copy.to_str().unwrap();
    let get = |args: &[&str]| client.run(["get", &serving.target, to, "--exclude", "*.o"].iter().chain(args));
    let actions = |ran: &Ran| -> Vec<(String, String)> {
        let would = ran.json().into_iter().filter(|fact| fact["event"] == "would");
        let word = |fact: &serde_json::Value, key: &str| fact[key].as_str().unwrap().to_owned();
        let name = |path: String| path.rsplit('/').next().unwrap().to_owned();
        would
            .map(|fact| (word(&fact, "action"), name(word(&fact, "path"))))
            .collect()
    };
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    };

    let ran = get(&["--dry-run", "--json"]).expect(0);
    let all = [
        ("make", "copy"),
        ("link", "link"),
        ("transfer", "new"),
        ("transfer", "other"),
        ("transfer", "same"),
    ];
    let all = [&all[..], &[("make", "tree"), ("transfer", "a")]].concat();
    assert_eq!(actions(&ran), pairs(&all));
    assert_eq!(ran.event("would_in_all")["files"], 4);
    assert!(!copy.exists());

    get(&[]).expect(0);
    fs::remove_file(copy.join("new")).unwrap();
    fs::write(copy.join("other"), "something else").unwrap();
    let before = crate::support::shape(&copy);
    let ran = get(&["--dry-run", "--json"]).expect(1);
    let kept: Vec<_> = actions(&ran)
        .into_iter()
        .filter(|(action, _)| action != "keep")
        .collect();
    assert_eq!(kept, pairs(&[("transfer", "new"), ("fail", "other")]));
    let ran = get(&["--dry-run", "--force"]).expect(0);
    assert!(
        ran.out.contains("would replace") && ran.out.contains("nothing was done"),
        "{}",
        ran.out
    );
    assert_eq!(crate::support::shape(&copy), before);

    let served = crate::support::shape(&dir);
    let put = |sources: &[&str], args: &[&str]| {
        let mut command = client.command();
        command
            .arg("put")
            .args(sources)
            .arg(&serving.target)
            .args(args)
            .current_dir(&copy);
        Ran::wait(command.spawn().unwrap())
    };
    let ran = put(&["."], &["--dry-run", "--json"]).expect(1);
    let moved: Vec<_> = actions(&ran)
        .into_iter()
        .filter(|(action, _)| action != "keep")
        .collect();
    assert_eq!(moved, pairs(&[("fail", "other")]));
    fs::write(copy.join("more"), "more").unwrap();
    let ran = put(&["more", "same", "tree"], &["--dry-run", "--json"]).expect(0);
    assert_eq!(
        actions(&ran),
        pairs(&[("transfer", "more"), ("keep", "same"), ("keep", "tree"), ("keep", "a")])
    );
    assert_eq!(crate::support::shape(&dir), served);
    client
        .run(["get", &serving.at("none"), &serving.at("new"), to, "--dry-run"])
        .expect(1)
        .says(&["would fail"]);
}

/// Something at a place where something else is to be.
const WAYS: [&str; 8] = [
    "nothing",
    "file",
    "empty directory",
    "full directory",
    "link",
    "link to a device",
    "link to a directory",
    "fifo",
];

fn put_in_the_way(at: &Path, way: &str) {
    match way {
        "file" => fs::write(at, "in the way").unwrap(),
        "empty directory" => fs::create_dir(at).unwrap(),
        "full directory" => files(at, &["full"]),
        "link" => std::os::unix::fs::symlink("nowhere", at).unwrap(),
        "link to a device" => std::os::unix::fs::symlink("/dev/null", at).unwrap(),
        "link to a directory" => std::os::unix::fs::symlink("..", at).unwrap(),
        "fifo" => {
            let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
            rustix::fs::mknodat(rustix::fs::CWD, at, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        }
        _ => {}
    }
}

/// The last names of what failed, or would.
fn failures(ran: &Ran) -> Vec<String> {
    let json = ran.json();
    let failed = json
        .iter()
        .filter(|fact| fact["event"] == "failed" || fact["action"] == "fail");
    let name = |fact: &serde_json::Value| fact["path"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    let mut names: Vec<String> = failed.map(name).collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn a_dry_run_tells_what_the_run_will_do() {
    let (server, client) = (Home::new(), Home::new());
    let source = server.dir("source");
    files(&source, &["directory/inner", "directory/sub/innermost", "file"]);
    std::os::unix::fs::symlink("file", source.join("link")).unwrap();
    let serving = server.serve(&server.path(""), &["--write"]);
    for (number, way) in WAYS.into_iter().enumerate() {
        for (force, is_put) in [(false, false), (false, true), (true, false), (true, true)] {
            let home = if is_put { &server } else { &client };
            let name = format!("dest-{number}-{force}");
            let dest = home.dir(&name);
            for what in ["directory", "file", "link"] {
                put_in_the_way(&dest.join(what), way);
            }
            let (here, there, far) = (source.to_str().unwrap(), serving.at("source"), serving.at(&name));
            let command = if is_put {
                ["put", here, &far]
            } else {
                ["get", &there, dest.to_str().unwrap()]
            };
            let force = force.then_some("--force");
            let run = |more: &[&str]| client.run(command.iter().copied().chain(force).chain(more.iter().copied()));
            let names = || -> Vec<_> {
                let entries = fs::read_dir(&dest).unwrap();
                entries.map(|entry| entry.unwrap().file_name()).collect()
            };
            let before = names();
            let dry = run(&["--dry-run", "--json"]);
            assert_eq!(names(), before);
            let real = run(&["--json"]);
            let mut would_fail = failures(&dry);
            // Where a link of the server leads, nobody on this side knows.
            if is_put && way == "link to a device" && force.is_some() {
                assert_eq!(would_fail, [""; 0]);
                would_fail.push("file".to_owned());
            } else {
                assert_eq!(dry.code, real.code, "{way}, {command:?} {force:?}");
            }
            let text = format!("{way}, {command:?} {force:?}\n{}\n{}", dry.out, real.out);
            assert_eq!(would_fail, failures(&real), "{text}");
        }
    }
}

#[test]
fn a_dry_run_knows_where_a_tree_may_become() {
    let (server, client) = (Home::new(), Home::new());
    let source = server.dir("source");
    files(&source, &["f"]);
    let serving = server.serve(&source, &[]);
    let (real, link, file) = (client.dir("real"), client.path("link"), client.path("file"));
    std::os::unix::fs::symlink(&real, &link).unwrap();
    fs::write(&file, "x").unwrap();
    for more in [&["--dry-run"][..], &[]] {
        let get = |to: &Path| {
            client.run(
                ["get", &serving.target, to.to_str().unwrap(), "--force"]
                    .iter()
                    .chain(more),
            )
        };
        get(&link).expect(0);
        get(&file).expect(1).says(&["cannot write to", "file"]);
    }
    assert_eq!(found(&real), ["f"]);
}
