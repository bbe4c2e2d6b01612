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
    ran.says(&["sss: none: ", "sss: sub/one: another source has the same last name"]);
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
    get(&["p/*.png"], "six").expect(1).says(&["nothing matches p/*.png"]);
    get(&["p/[a"], "six").expect(4).says(&["is no pattern"]);
    get(&["none/*"], "six").expect(1).says(&["no such file"]);
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
    Ran::wait(command.spawn().unwrap()).expect(1).says(&["standard output"]);
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
    put("", b"x").expect(2).says(&["has no name"]);
    put("new/", b"x").expect(2).says(&["has no name"]);
    assert_eq!(
        fs::read_dir(&spools).unwrap().count(),
        0,
        "what was kept for a while is removed"
    );
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
