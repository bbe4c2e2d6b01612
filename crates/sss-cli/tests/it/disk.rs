//! What a transfer does to the disk that it comes to: directories, temporary names, devices, what is in the way.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use crate::support::{Home, Ran, Serving, assert_same, is_root, noise, odd_tree, shape};

fn mkfifo(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status().unwrap();
    assert!(made.success());
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn set_time(path: &Path, seconds: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    fs::File::open(path).unwrap().set_modified(time).unwrap();
}

// spec: FIL-21
#[test]
fn directories_that_were_there_keep_mode_and_time() {
    let (server, client) = (Home::new(), Home::new());
    let (source, here) = (server.dir("source"), client.dir("here"));
    fs::create_dir_all(source.join("sub/new")).unwrap();
    fs::write(source.join("sub/f"), "content").unwrap();
    for dir in ["", "sub", "sub/new"] {
        set_mode(&source.join(dir), 0o700);
        set_time(&source.join(dir), 1_000);
    }
    let serving = server.serve(&source, &["--write"]);
    fs::create_dir(here.join("sub")).unwrap();
    fs::write(here.join("sub/f"), "content").unwrap();
    set_time(&here.join("sub/f"), 0);
    set_mode(&here, 0o3777);
    set_mode(&here.join("sub"), 0o2775);
    let get = |args: &[&str]| {
        let mut command = client.command();
        command.arg("get").arg(&serving.target).args(args).current_dir(&here);
        Ran::wait(command.spawn().unwrap()).expect(0);
    };
    for args in [&[][..], &["."], &[".", "--force"]] {
        get(args);
        assert_eq!((mode(&here), mode(&here.join("sub"))), (0o3777, 0o2775), "{args:?}");
        assert_eq!(mode(&here.join("sub/new")) & 0o777, 0o700, "it is new");
        assert_ne!(fs::metadata(here.join("sub")).unwrap().mtime(), 1_000);
    }
    // When there is nothing to write, nothing changes.
    for dir in ["", "sub"] {
        set_time(&here.join(dir), 5_000);
    }
    get(&["."]);
    let times = ["", "sub", "sub/new"].map(|dir| fs::metadata(here.join(dir)).unwrap().mtime());
    assert_eq!(times, [5_000, 5_000, 1_000]);

    // The same on the side of a server.
    let mut put = client.command();
    put.args(["put", ".", &serving.target, "--force"]).current_dir(&here);
    Ran::wait(put.spawn().unwrap()).expect(0);
    assert_eq!((mode(&source), mode(&source.join("sub"))), (0o700, 0o700));
}

#[test]
fn a_destination_that_is_new_gets_the_mode_of_the_source() {
    let (server, client) = (Home::new(), Home::new());
    let source = server.dir("source");
    fs::create_dir(source.join("sub")).unwrap();
    fs::write(source.join("sub/f"), "content").unwrap();
    for dir in ["sub", ""] {
        set_mode(&source.join(dir), 0o751);
        set_time(&source.join(dir), 1_000);
    }
    let serving = server.serve(&source, &["--write"]);
    let copy = client.path("above/copy");
    client.run(["get", &serving.target, copy.to_str().unwrap()]).expect(0);
    let meta = fs::metadata(&copy).unwrap();
    assert_eq!((mode(&copy), meta.mtime()), (0o751, 1_000));
    assert_ne!(mode(&client.path("above")), 0o700, "as mkdir makes it");
    assert_same(&source, &copy);

    let tree = copy.to_str().unwrap();
    client.run(["put", tree, &serving.at("one/two/copy")]).expect(0);
    let file = copy.join("sub/f");
    client
        .run(["put", file.to_str().unwrap(), &serving.at("three/f")])
        .expect(0);
    assert_same(&copy, &source.join("one/two/copy"));
    assert_eq!(mode(&source.join("one/two/copy")), 0o751);
    assert_eq!(
        mode(&source.join("three")),
        mode(&client.path("above")),
        "as mkdir makes it"
    );
    let left = shape(client.path("above").as_path());
    assert!(
        !left.keys().any(|path| path.to_string_lossy().contains("sss-part")),
        "{left:?}"
    );
    let left = shape(&source);
    assert!(
        !left.keys().any(|path| path.to_string_lossy().contains("sss-part")),
        "{left:?}"
    );
}

// spec: FIL-22
#[test]
fn what_has_a_temporary_name_and_is_no_file_is_left_alone() {
    let (server, client) = (Home::new(), Home::new());
    let (source, copy) = (server.dir("source"), client.dir("copy"));
    for name in ["fifo", "directory", "link", "linked", "fine"] {
        fs::write(source.join(name), noise(1, 300_000)).unwrap();
    }
    let serving = server.serve(&source, &[]);
    mkfifo(&copy.join(".fifo.sss-part"));
    fs::create_dir(copy.join(".directory.sss-part")).unwrap();
    fs::write(client.path("precious"), "precious").unwrap();
    symlink(client.path("precious"), copy.join(".link.sss-part")).unwrap();
    fs::hard_link(client.path("precious"), copy.join(".linked.sss-part")).unwrap();
    let ran = client.run(["get", &serving.target, copy.to_str().unwrap()]).expect(1);
    ran.says(&[
        "fifo: ",
        ".fifo.sss-part",
        "directory: ",
        "2 of the files",
        "move it away",
    ]);
    assert_eq!(fs::read(client.path("precious")).unwrap(), b"precious");
    assert!(
        fs::symlink_metadata(copy.join(".fifo.sss-part"))
            .unwrap()
            .file_type()
            .is_fifo()
    );
    assert!(!copy.join("fifo").exists());
    for name in ["link", "linked", "fine"] {
        assert_eq!(fs::read(copy.join(name)).unwrap(), noise(1, 300_000), "{name}");
    }
}

#[test]
fn force_replaces_no_device_and_no_full_directory() {
    let (server, client) = (Home::new(), Home::new());
    let (source, copy) = (server.dir("source"), client.dir("copy"));
    for name in ["f", "fifo", "link", "full", "empty"] {
        fs::write(source.join(name), "served").unwrap();
    }
    for name in ["now-directory", "now-too"] {
        fs::create_dir(source.join(name)).unwrap();
        fs::write(source.join(name).join("in"), "served").unwrap();
    }
    symlink("served", source.join("other-link")).unwrap();
    let serving = server.serve(&source, &["--write"]);
    mkfifo(&copy.join("fifo"));
    mkfifo(&copy.join("other-link"));
    symlink("/dev/null", copy.join("link")).unwrap();
    fs::create_dir_all(copy.join("full/in")).unwrap();
    fs::create_dir(copy.join("empty")).unwrap();
    fs::write(copy.join("now-directory"), "a file").unwrap();
    symlink("/nowhere", copy.join("now-too")).unwrap();
    client
        .run(["get", &serving.at("f"), "/dev/null", "--force"])
        .expect(1)
        .says(&["null: a device", "never replaced", "move it away"]);
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());

    let before = shape(&copy.join("full"));
    let ran = client
        .run(["get", &serving.target, copy.to_str().unwrap(), "--force"])
        .expect(1);
    ran.says(&[
        "fifo: a device",
        "link: a link to a device",
        "full: a directory that is not empty",
        "4 of the files",
    ]);
    assert!(fs::symlink_metadata(copy.join("fifo")).unwrap().file_type().is_fifo());
    assert_eq!(fs::read_link(copy.join("link")).unwrap(), Path::new("/dev/null"));
    assert_eq!(shape(&copy.join("full")), before);
    for name in ["empty", "now-directory/in", "now-too/in"] {
        assert_eq!(fs::read(copy.join(name)).unwrap(), b"served", "{name}");
    }

    // The same on the side of a server.
    for name in ["fifo", "other-link", "link", "full"] {
        let path = copy.join(name);
        fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path)).unwrap();
        fs::remove_file(source.join(name)).unwrap();
    }
    for name in ["fifo", "link", "full"] {
        fs::write(copy.join(name), "sent").unwrap();
    }
    mkfifo(&source.join("fifo"));
    symlink("/dev/null", source.join("link")).unwrap();
    fs::create_dir_all(source.join("full/in")).unwrap();
    fs::remove_dir_all(source.join("now-directory")).unwrap();
    fs::write(source.join("now-directory"), "a file").unwrap();
    let put = |args: &[&str]| {
        let mut command = client.command();
        command
            .args(["put", ".", &serving.target])
            .args(args)
            .current_dir(&copy);
        Ran::wait(command.spawn().unwrap())
    };
    put(&[]).expect(1).says(&["now-directory"]);
    let ran = put(&["--force"]).expect(1);
    ran.says(&[
        "fifo: a device",
        "link: a link to a device",
        "full: a directory",
        "3 of the files",
    ]);
    assert_eq!(fs::read(source.join("now-directory/in")).unwrap(), b"served");
}

/// A command of somebody whom permissions bind. `None`: we are root, and nobody else can run the program.
fn bound(home: &Home) -> Option<Command> {
    let mut command = home.command();
    if is_root() {
        for dir in [home.path(""), home.dir("config")] {
            set_mode(&dir, 0o777);
        }
        command.uid(65_534).gid(65_534).current_dir(home.path(""));
        let mut can = Command::new(env!("CARGO_BIN_EXE_sss"));
        if can.arg("--version").uid(65_534).gid(65_534).output().is_err() {
            eprintln!("SKIPPED: as root, and nobody cannot run the program");
            return None;
        }
    }
    Some(command)
}

#[test]
fn a_directory_that_cannot_be_written_to_is_the_reason() {
    let (server, client) = (Home::new(), Home::new());
    let (source, closed) = (server.dir("source"), client.dir("closed"));
    for (name, len) in [("small", 10), ("large", 300_000)] {
        fs::write(source.join(name), noise(1, len)).unwrap();
    }
    fs::create_dir(source.join("sub")).unwrap();
    symlink("x", source.join("link")).unwrap();
    let serving = server.serve(&source, &[]);
    set_mode(&closed, 0o555);
    let Some(mut get) = bound(&client) else { return };
    get.arg("get").arg(&serving.target).arg(&closed);
    let ran = Ran::wait(get.spawn().unwrap()).expect(1);
    for name in ["small", "large", "sub", "link"] {
        let said = format!("{name}: permission denied: nothing can be made in the directory");
        assert!(ran.err.contains(&said), "{said}: {}", ran.err);
    }

    let Some(mut serve) = bound(&client) else { return };
    serve
        .arg("serve")
        .arg(&closed)
        .args(["--public", "--write", "--bind", "127.0.0.1:0"]);
    let closed_server = Serving::start(serve.spawn().unwrap());
    let mut put = server.command();
    put.args(["put", ".", &closed_server.target]).current_dir(&source);
    let ran = Ran::wait(put.spawn().unwrap()).expect(1);
    for name in ["small", "large", "sub", "link"] {
        let said = format!("{name}: permission denied: nothing can be made in the directory");
        assert!(ran.err.contains(&said), "{said}: {}", ran.err);
    }
}

// spec: FIL-11
#[test]
fn changed_modes_and_times_alone_are_carried_over() {
    let (server, client) = (Home::new(), Home::new());
    let (source, copy) = (server.dir("source"), client.path("copy"));
    for (name, len) in [("mode", 10), ("time", 600_000), ("both", 20), ("empty", 0)] {
        fs::write(source.join(name), noise(1, len)).unwrap();
    }
    let serving = server.serve(&source, &["--write"]);
    let get = || {
        client
            .run(["get", &serving.target, copy.to_str().unwrap(), "--json"])
            .expect(0)
            .event("done")
    };
    get();
    let change = |dir: &Path, seconds| {
        for name in ["mode", "both", "empty"] {
            set_mode(&dir.join(name), 0o640 + u32::try_from(seconds).unwrap());
        }
        for name in ["time", "both", "empty"] {
            set_time(&dir.join(name), seconds);
        }
    };
    change(&source, 1);
    let done = get();
    assert_eq!((&done["files_kept"], &done["bytes_moved"]), (&4.into(), &0.into()));
    assert_same(&source, &copy);

    change(&copy, 2);
    let mut put = client.command();
    put.args(["put", ".", &serving.target, "--json"]).current_dir(&copy);
    let done = Ran::wait(put.spawn().unwrap()).expect(0).event("done");
    assert_eq!((&done["files_kept"], &done["bytes_moved"]), (&4.into(), &0.into()));
    assert_same(&copy, &source);
}

#[test]
fn a_file_that_grew_is_gone_on_from() {
    let (server, client) = (Home::new(), Home::new());
    let (source, copy) = (server.dir("source"), client.dir("copy"));
    let content = noise(1, 2_000_000);
    fs::write(source.join("log"), &content[..1_500_000]).unwrap();
    let serving = server.serve(&source, &["--write"]);
    client.run(["get", &serving.target, copy.to_str().unwrap()]).expect(0);
    fs::write(source.join("log"), &content).unwrap();
    let get = |more: &[&str]| {
        let mut get = client.command();
        get.args(["get", &serving.target, copy.to_str().unwrap(), "--json"])
            .args(more);
        Ran::wait(get.spawn().unwrap())
    };
    let failed = get(&[]).expect(1).event("failed");
    assert!(
        failed["error"].as_str().unwrap().contains("a shorter file is there"),
        "{failed}"
    );
    assert!(failed["next"].as_str().unwrap().contains("--force"), "{failed}");
    assert_eq!(get(&["--force"]).expect(0).event("done")["bytes_moved"], 500_000);
    assert_same(&source, &copy);

    fs::write(source.join("log"), &content[..1_000_000]).unwrap();
    let log = copy.join("log");
    let put = ["put", log.to_str().unwrap(), &serving.target, "--json", "--force"];
    assert_eq!(client.run(put).expect(0).event("done")["bytes_moved"], 1_000_000);
    assert_same(&copy, &source);
    fs::write(copy.join("log"), noise(2, 2_000_000)).unwrap();
    assert_eq!(client.run(put).expect(0).event("done")["bytes_moved"], 2_000_000);
    assert_same(&copy, &source);
}

#[test]
fn unfinished_files_at_the_source_are_told() {
    let (server, client) = (Home::new(), Home::new());
    let (source, copy) = (server.dir("source"), client.path("copy"));
    fs::create_dir(source.join("sub")).unwrap();
    for name in ["f", ".g.sss-part", "sub/.h.sss-part", "sub/.i.sss-part"] {
        fs::write(source.join(name), "content").unwrap();
    }
    let serving = server.serve(&source, &["--write"]);
    let ran = client.run(["get", &serving.target, copy.to_str().unwrap()]).expect(0);
    ran.says(&[
        ".: unfinished files",
        "not taken: 1",
        "sub: unfinished files",
        "not taken: 2",
    ]);
    assert_eq!(shape(&copy).len(), 2);
    let ran = client
        .run(["put", source.to_str().unwrap(), &serving.at("other")])
        .expect(0);
    ran.says(&["sub: unfinished files", "not taken: 2"]);
    let ls = client.run(["ls", &serving.at("sub")]).expect(0);
    assert!(ls.out.contains("unfinished files"), "{}", ls.out);
}

#[test]
fn a_tree_onto_a_file_is_one_error() {
    let (server, client) = (Home::new(), Home::new());
    let (source, tree) = (server.dir("source"), client.dir("tree"));
    for i in 0..16 {
        fs::write(tree.join(format!("{i}")), "x").unwrap();
    }
    fs::write(source.join("file"), "a file").unwrap();
    let serving = server.serve(&source, &["--write"]);
    client.run(["id"]).expect(0);
    let put = |more: &[&str]| {
        let mut put = client.command();
        put.arg("put").arg(&tree).arg(serving.at("file")).args(more);
        Ran::wait(put.spawn().unwrap())
    };
    let ran = put(&[]).expect(1);
    assert_eq!(ran.err.matches("sss: ").count(), 1, "{}", ran.err);
    ran.says(&["file is no directory", "--force"]);
    put(&["--force"]).expect(0);
    assert_same(&tree, &source.join("file"));

    fs::write(client.path("here"), "a file").unwrap();
    let ran = client
        .run(["get", &serving.target, client.path("here").to_str().unwrap()])
        .expect(1);
    assert_eq!(ran.err.matches("sss: ").count(), 1, "{}", ran.err);
    ran.says(&["here", "name a directory"]);
}

#[test]
fn only_a_fifo_is_an_error() {
    let (server, client) = (Home::new(), Home::new());
    let source = server.dir("source");
    mkfifo(&source.join("fifo"));
    let serving = server.serve(&source, &["--write"]);
    client
        .run(["get", &serving.at("fifo"), client.path("x").to_str().unwrap()])
        .expect(1)
        .says(&["a FIFO", "never transferred", "name a regular file"]);
    mkfifo(&client.path("fifo"));
    client
        .run(["put", client.path("fifo").to_str().unwrap(), &serving.at("y")])
        .expect(1)
        .says(&["a FIFO", "never transferred"]);
    assert_eq!(fs::read_dir(&source).unwrap().count(), 1);
}

/// Bytes moved by all who ended well, and how many there were of the tree.
fn several(at_once: usize, client: &Home, target: &str, copy: &Path) -> u64 {
    let children: Vec<_> = (0..at_once)
        .map(|_| {
            let mut get = client.command();
            get.args(["get", target, "--json"]).arg(copy);
            get.spawn().unwrap()
        })
        .collect();
    let moved = |child| {
        Ran::wait(child).expect(0).event("done")["bytes_moved"]
            .as_u64()
            .unwrap()
    };
    children.into_iter().map(moved).sum()
}

#[test]
fn several_at_once_into_one_place_all_succeed() {
    let (server, client) = (Home::new(), Home::new());
    let source = server.dir("source");
    let mut total = 0;
    fs::create_dir(source.join("small")).unwrap();
    for i in 0..300 {
        fs::write(source.join(format!("small/{i}")), noise(i, 2_000)).unwrap();
        total += 2_000;
    }
    for i in 0..3 {
        fs::write(source.join(format!("large-{i}")), noise(1000 + i, 3_000_000)).unwrap();
        total += 3_000_000;
    }
    set_mode(&source.join("small"), 0o755);
    client.run(["id"]).expect(0);
    let serving = server.serve(&source, &[]);
    for at_once in [2, 4, 8] {
        let copy = client.path(&format!("copy-{at_once}"));
        assert_eq!(
            several(at_once, &client, &serving.target, &copy),
            total,
            "{at_once} at once"
        );
        assert_same(&source, &copy);
    }
    // Single files of it by other names of the same place: they meet at the files themselves.
    let copy = client.dir("copy-mixed");
    fs::create_dir(copy.join("small")).unwrap();
    std::thread::scope(|scope| {
        let whole = scope.spawn(|| several(1, &client, &serving.target, &copy));
        let one = scope.spawn(|| several(4, &client, &serving.at("large-1"), &copy.join("large-1")));
        let part = scope.spawn(|| several(2, &client, &serving.at("small"), &copy.join("small")));
        whole.join().unwrap();
        one.join().unwrap();
        part.join().unwrap();
    });
    set_mode(&copy.join("small"), 0o755);
    let time = fs::metadata(source.join("small")).unwrap().modified().unwrap();
    fs::File::open(copy.join("small")).unwrap().set_modified(time).unwrap();
    assert_same(&source, &copy);
}

#[test]
fn several_puts_at_once_into_one_place_all_succeed() {
    let (server, client) = (Home::new(), Home::new());
    let (source, dest) = (client.dir("source"), server.dir("dest"));
    for i in 0..100 {
        fs::write(source.join(format!("{i}")), noise(i, 10_000)).unwrap();
    }
    fs::write(source.join("large"), noise(1000, 3_000_000)).unwrap();
    client.run(["id"]).expect(0);
    let serving = server.serve(&dest, &["--write"]);
    let put = |_| {
        let mut put = client.command();
        put.arg("put").arg(&source).arg(serving.at("copy"));
        put.spawn().unwrap()
    };
    let children: Vec<_> = (0..4).map(put).collect();
    for child in children {
        Ran::wait(child).expect(0);
    }
    assert_same(&source, &dest.join("copy"));
}

#[test]
fn holes_and_times_of_links_are_kept_and_hard_links_told() {
    let (server, client) = (Home::new(), Home::new());
    let (source, copy) = (server.dir("source"), client.path("copy"));
    let mut sparse = fs::File::create(source.join("sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    sparse.seek(SeekFrom::Start(40_000_000)).unwrap();
    sparse.write_all(b"in the middle").unwrap();
    sparse.sync_all().unwrap();
    fs::write(source.join("zeros"), vec![0; 1 << 20]).unwrap();
    fs::File::open(source.join("zeros")).unwrap().sync_all().unwrap();
    fs::write(source.join("one"), "content").unwrap();
    fs::hard_link(source.join("one"), source.join("two")).unwrap();
    symlink("one", source.join("link")).unwrap();
    let set_link_time = |dir: &Path, seconds| {
        let time = rustix::fs::Timespec {
            tv_sec: seconds,
            tv_nsec: 7,
        };
        let times = rustix::fs::Timestamps {
            last_access: time,
            last_modification: time,
        };
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(rustix::fs::CWD, dir.join("link"), &times, flags).unwrap();
    };
    set_link_time(&source, 1_000);
    let blocks = |dir: &Path, name: &str| fs::metadata(dir.join(name)).unwrap().blocks();
    if blocks(&source, "sparse") > 1000 {
        eprintln!("SKIPPED: the file system knows no holes");
        return;
    }
    let serving = server.serve(&source, &["--write"]);
    let ran = client.run(["get", &serving.target, copy.to_str().unwrap()]).expect(0);
    ran.says(&["several names at the source (hard links), each of which became a file of its own: 2"]);
    assert_same(&source, &copy);
    assert!(blocks(&copy, "sparse") < 1000, "{}", blocks(&copy, "sparse"));
    assert!(blocks(&copy, "zeros") >= 2048, "{}", blocks(&copy, "zeros"));
    let ran = client
        .run(["put", copy.to_str().unwrap(), &serving.at("again")])
        .expect(0);
    assert!(!ran.err.contains("hard links"), "{}", ran.err);
    assert_same(&copy, &source.join("again"));
    assert!(blocks(&source.join("again"), "sparse") < 1000);

    set_link_time(&copy, 2_000);
    client
        .run(["put", copy.to_str().unwrap(), &serving.at("again")])
        .expect(0);
    assert_same(&copy, &source.join("again"));
}

#[test]
fn what_is_to_be_safe_is_forced_to_the_disk() {
    let (server, client) = (Home::new(), Home::new());
    let source = server.dir("source");
    fs::create_dir(source.join("new")).unwrap();
    fs::write(source.join("new/f"), "f").unwrap();
    let serving = server.serve(&source, &[]);
    // Made before, and forced to the disk.
    client.run(["id"]).expect(0);
    let calls = |to: &str, more: &[&str]| -> Option<String> {
        let (copy, calls) = (client.path(to), client.path("calls"));
        let mut traced = client.command_of("strace");
        traced.args(["-f", "-y", "-e", "trace=fsync,fdatasync", "-o", calls.to_str()?]);
        traced
            .args([env!("CARGO_BIN_EXE_sss"), "get", &serving.target, copy.to_str()?])
            .args(more);
        let ran = Ran::wait(traced.spawn().ok()?);
        // Where nobody may trace, it does not run.
        (ran.code == Some(0)).then(|| fs::read_to_string(calls).unwrap())
    };
    let Some(without) = calls("fast", &[]) else {
        eprintln!("SKIPPED: no strace");
        return;
    };
    assert!(!without.contains("sync("), "{without}");
    let safe = calls("safe", &["--fsync"]).unwrap();
    // A small file has no name yet, if the system can do that.
    let is_file = |line: &str| line.contains("safe/new/.f.sss-part>") || line.contains("safe/new/#");
    assert!(safe.lines().any(is_file), "{safe}");
    for what in ["safe/new>", "safe>"] {
        assert!(safe.lines().any(|line| line.contains(what)), "{what}: {safe}");
    }
    // The directory has the name of the file on the disk, too, after the file.
    let lines = |what: &str| safe.lines().filter(|line| line.contains(what)).count();
    assert_eq!(lines("safe/new>"), 2, "for the file, and for itself: {safe}");
}

#[test]
fn without_perms_the_umask_rules() {
    let (server, client) = (Home::new(), Home::new());
    let (source, copy) = (server.dir("source"), client.dir("copy"));
    fs::create_dir(source.join("new")).unwrap();
    for name in ["there", "new/open"] {
        fs::write(source.join(name), "content").unwrap();
        set_mode(&source.join(name), 0o666);
    }
    set_mode(&source.join("new"), 0o777);
    fs::copy(source.join("there"), copy.join("there")).unwrap();
    set_mode(&copy.join("there"), 0o640);
    let serving = server.serve(&source, &["--write"]);
    let under = |umask: &str, args: &[&str]| {
        let mut shell = client.command_of("sh");
        shell.args([
            "-c",
            &format!("umask {umask}; exec \"$0\" \"$@\""),
            env!("CARGO_BIN_EXE_sss"),
        ]);
        Ran::wait(shell.args(args).spawn().unwrap()).expect(0);
    };
    let to = copy.to_str().unwrap();
    under("027", &["get", &serving.target, to, "--no-perms"]);
    let modes = |dir: &Path| ["there", "new", "new/open"].map(|name| mode(&dir.join(name)));
    assert_eq!(modes(&copy), [0o640, 0o750, 0o640]);
    under("077", &["get", &serving.target, to]);
    assert_eq!(modes(&copy), [0o666, 0o750, 0o666], "the directory was there");

    // The umask of the server is what counts there.
    set_mode(&copy.join("new"), 0o777);
    under("000", &["put", to, &serving.at("other"), "--no-perms"]);
    let umask = 0o777 & !mode(&client.dir("made-now"));
    assert_eq!(
        modes(&source.join("other")),
        [0o666 & !umask, 0o777 & !umask, 0o666 & !umask]
    );
}

#[test]
fn with_fsync_files_and_directories_are_synced() {
    let (server, client) = (Home::new(), Home::new());
    let (source, copy) = (server.dir("source"), client.path("copy"));
    odd_tree(&source);
    let serving = server.serve(&source, &["--write"]);
    for _ in 0..2 {
        client
            .run(["get", &serving.target, copy.to_str().unwrap(), "--fsync"])
            .expect(0);
        assert_same(&source, &copy);
    }
    client
        .run(["put", copy.to_str().unwrap(), &serving.at("other"), "--fsync"])
        .expect(0);
    assert_same(&copy, &source.join("other"));
}

/// A tree of many levels, each with a file.
fn deep(dir: &Path, levels: usize) {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::DIRECTORY | OFlags::RDONLY;
    let mut above = rustix::fs::open(dir, flags, Mode::empty()).unwrap();
    for _ in 0..levels {
        let file = rustix::fs::openat(&above, "f", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
        rustix::io::write(&file, b"deep").unwrap();
        rustix::fs::mkdirat(&above, "d", Mode::RWXU).unwrap();
        above = rustix::fs::openat(&above, "d", flags, Mode::empty()).unwrap();
    }
}

#[test]
fn deep_trees_need_few_descriptors_and_little_time() {
    let (server, client) = (Home::new(), Home::new());
    let (source, copy) = (server.dir("source"), client.path("copy"));
    deep(&source, 20_000);
    let few = |home: &Home, args: &[&str]| {
        let mut shell = home.command_of("sh");
        shell
            .args(["-c", "ulimit -n 100; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_sss")])
            .args(args);
        shell
    };
    let serving = Serving::start(
        few(
            &server,
            &["serve", source.to_str().unwrap(), "--public", "--bind", "127.0.0.1:0"],
        )
        // Nobody reads what it logs.
        .stderr(Stdio::null())
        .spawn()
        .unwrap(),
    );
    // Paths are of 4096 bytes at most: beyond them is what nobody can ask for, and that is said once.
    let begun = std::time::Instant::now();
    let ran = Ran::wait(
        few(&client, &["get", &serving.target, copy.to_str().unwrap()])
            .spawn()
            .unwrap(),
    )
    .expect(1);
    ran.says(&["longer than 4096 bytes", "1 of the files"]);
    eprintln!("2048 levels took {:?}", begun.elapsed());
    let last = "d/".repeat(2047) + "f";
    let begun = std::time::Instant::now();
    let one = client.path("one");
    client.run(["get", &serving.at(&last), one.to_str().unwrap()]).expect(0);
    assert_eq!(fs::read(&one).unwrap(), b"deep");
    eprintln!("one file took {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(10));
    // What is deeper than a path can say is not removed by a path either.
    for dir in [&source, &copy] {
        Command::new("rm").arg("-rf").arg(dir).status().unwrap();
    }
}
