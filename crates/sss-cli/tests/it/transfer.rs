//! Trees and files, there and back.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::time::{Duration, SystemTime};

use crate::support::{Home, Ran, Serving, assert_same, is_root, noise, odd_tree, shape};

#[test]
fn get_copies_a_tree_in_every_respect_and_again_only_what_is_missing() {
    let (server, client) = (Home::new(), Home::new());
    let source = server.dir("source");
    odd_tree(&source);
    let serving = server.serve(&source, &[]);
    let copy = client.path("new/copy");
    let ran = client
        .run(["get", &serving.target, copy.to_str().unwrap(), "--json"])
        .expect(0);
    assert_same(&source, &copy);
    let first = ran.event("done");
    assert_eq!(first["files_moved"], first["files_found"]);
    assert_eq!(first["links"], 4);
    assert_eq!(first["directories"], 7);

    fs::remove_file(copy.join("size-65535")).unwrap();
    let again = client
        .run(["get", &serving.target, copy.to_str().unwrap(), "--json"])
        .expect(0)
        .event("done");
    assert_eq!(
        (&again["files_moved"], &again["bytes_moved"]),
        (&1.into(), &65_535.into())
    );
    assert_same(&source, &copy);
}

#[test]
fn put_copies_a_tree_in_every_respect_and_again_only_what_is_missing() {
    let (server, client) = (Home::new(), Home::new());
    let (source, dest) = (client.dir("source"), server.dir("dest"));
    odd_tree(&source);
    let serving = server.serve(&dest, &["--write"]);
    let put = |to: &str| {
        client
            .run(["put", source.to_str().unwrap(), to, "--json"])
            .expect(0)
            .event("done")
    };

    let first = put(&serving.target);
    assert_same(&source, &dest.join("source"));
    assert_eq!(first["files_moved"], first["files_found"]);
    put(&serving.at("other"));
    assert_same(&source, &dest.join("other"));
    put(&serving.at("into/"));
    assert_same(&source, &dest.join("into/source"));

    fs::remove_file(dest.join("source/size-100")).unwrap();
    let again = put(&serving.target);
    assert_eq!((&again["files_moved"], &again["bytes_moved"]), (&1.into(), &100.into()));
    assert_same(&source, &dest.join("source"));
}

#[test]
fn single_files_and_links_go_where_they_are_sent() {
    let (server, client) = (Home::new(), Home::new());
    let (source, here) = (server.dir("source"), client.dir("here"));
    fs::create_dir(source.join("sub")).unwrap();
    fs::write(source.join("sub/file"), "content").unwrap();
    symlink("file", source.join("sub/link")).unwrap();
    let serving = server.serve(&source, &["--write"]);
    let run = |args: &[&str]| {
        let mut command = client.command();
        command.args(args).current_dir(&here);
        Ran::wait(command.spawn().unwrap()).expect(0)
    };
    run(&["get", &serving.at("sub/file")]);
    run(&["get", &serving.at("sub/file"), "named"]);
    run(&["get", &serving.at("sub/file"), "in/"]);
    run(&["get", &serving.at("sub/link")]);
    for name in ["file", "named", "in/file"] {
        assert_eq!(fs::read(here.join(name)).unwrap(), b"content", "{name}");
    }
    assert_eq!(fs::read_link(here.join("link")).unwrap().to_str(), Some("file"));

    run(&["put", "named", &serving.target]);
    run(&["put", "named", &serving.at("sub")]);
    run(&["put", "named", &serving.at("new/name")]);
    for name in ["named", "sub/named", "new/name"] {
        assert_eq!(fs::read(source.join(name)).unwrap(), b"content", "{name}");
    }
}

#[test]
fn ls_shows_what_is_there() {
    let (server, client) = (Home::new(), Home::new());
    let source = server.dir("source");
    odd_tree(&source);
    let serving = server.serve(&source, &[]);
    let text = client.run(["ls", &serving.target]).expect(0).out;
    assert!(
        text.contains("-r--------              0 ") && text.contains(" zero\n"),
        "{text}"
    );
    assert!(text.contains("dr-xr-xr-x") || text.contains(" a/\n"), "{text}");
    assert!(text.contains("dangling -> ../outside/nothing"), "{text}");
    assert!(
        text.contains("\\xff\\xfe\\x80") && text.contains("new\\nline"),
        "{text}"
    );
    assert!(text.contains("1970-01-01 00:00:00 size-100"), "{text}");
    assert!(!text.contains("deep"), "{text}");

    let all = client.run(["ls", "-r", "--json", &serving.at("")]).expect(0);
    assert_eq!(all.json().len(), shape(&source).len());
    let deep = all.json().into_iter().find(|f| f["path"] == "a/b/c/d/e/deep").unwrap();
    assert_eq!((&deep["kind"], &deep["size"]), (&"file".into(), &4.into()));

    let one = client.run(["ls", &serving.at("a/b/c/d/e/deep")]).expect(0).out;
    assert!(one.ends_with(" deep\n") && one.lines().count() == 1, "{one}");
    client
        .run(["ls", &serving.at("nothing")])
        .expect(1)
        .says(&["no such file", "sss ls"]);
}

// spec: FIL-9
#[test]
fn nothing_is_overwritten_unless_forced() {
    let (server, client) = (Home::new(), Home::new());
    let (source, copy) = (server.dir("source"), client.dir("copy"));
    for name in ["longer", "same-size", "fine", "link", "dir"] {
        fs::write(source.join(name), "served").unwrap();
    }
    fs::remove_file(source.join("link")).unwrap();
    symlink("there", source.join("link")).unwrap();
    fs::write(copy.join("longer"), "longer here").unwrap();
    fs::write(copy.join("same-size"), "DIFFER").unwrap();
    fs::create_dir(copy.join("dir")).unwrap();
    symlink("here", copy.join("link")).unwrap();
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(5);
    fs::File::open(copy.join("same-size"))
        .unwrap()
        .set_modified(time)
        .unwrap();
    let before = shape(&copy);
    let serving = server.serve(&source, &["--write"]);

    let ran = client.run(["get", &serving.target, copy.to_str().unwrap()]).expect(1);
    let ran = ran.says(&[
        "longer: something else is there",
        "same-size: ",
        "link: ",
        "dir: ",
        "--force",
        "4 of the files",
    ]);
    assert!(!ran.err.contains("fine"), "{}", ran.err);
    for (path, thing) in &before {
        assert_eq!(shape(&copy).get(path), Some(thing));
    }
    assert_eq!(fs::read(copy.join("fine")).unwrap(), b"served");

    fs::remove_dir(copy.join("dir")).unwrap();
    client
        .run(["get", &serving.target, copy.to_str().unwrap(), "--force"])
        .expect(0);
    assert_same(&source, &copy);

    // The other way round: the server refuses in the same manner.
    fs::write(copy.join("longer"), "changed here").unwrap();
    fs::write(copy.join("same-size"), "SERVED").unwrap();
    let put = |args: &[&str]| {
        let mut command = client.command();
        command
            .args(["put", ".", &serving.target])
            .args(args)
            .current_dir(&copy);
        Ran::wait(command.spawn().unwrap())
    };
    put(&[])
        .expect(1)
        .says(&["longer: a shorter file is there", "same-size: ", "2 of the files"]);
    assert_eq!(fs::read(source.join("longer")).unwrap(), b"served");
    put(&["--force"]).expect(0);
    assert_same(&copy, &source);
}

#[test]
fn the_same_content_with_another_time_is_kept() {
    let (server, client) = (Home::new(), Home::new());
    let (source, copy) = (server.dir("source"), client.dir("copy"));
    for dir in [&source, &copy] {
        fs::write(dir.join("f"), noise(1, 600_000)).unwrap();
        fs::write(dir.join("g"), noise(2, 10)).unwrap();
        fs::write(dir.join("h"), "").unwrap();
    }
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(5);
    for name in ["f", "g", "h"] {
        fs::File::open(copy.join(name)).unwrap().set_modified(time).unwrap();
    }
    let serving = server.serve(&source, &["--write"]);
    let done = client
        .run(["get", &serving.target, copy.to_str().unwrap(), "--json"])
        .expect(0)
        .event("done");
    assert_eq!((&done["files_kept"], &done["bytes_moved"]), (&3.into(), &0.into()));
    let done = client
        .run(["put", copy.join("f").to_str().unwrap(), &serving.target, "--json"])
        .expect(0)
        .event("done");
    assert_eq!((&done["files_kept"], &done["bytes_moved"]), (&1.into(), &0.into()));
}

#[test]
fn what_cannot_be_read_is_reported_and_the_rest_goes_on() {
    let (server, client) = (Home::new(), Home::new());
    let source = server.dir("source");
    fs::create_dir(source.join("closed")).unwrap();
    for name in ["before", "secret", "zafter"] {
        fs::write(source.join(name), name).unwrap();
    }
    for name in ["secret", "closed"] {
        fs::set_permissions(source.join(name), fs::Permissions::from_mode(0o000)).unwrap();
    }
    let mut command = server.command();
    command
        .args(["serve", "--public", "--bind", "127.0.0.1:0"])
        .arg(&source);
    if is_root() {
        // Root reads everything: so nobody serves, if nobody can run the program.
        let open = fs::Permissions::from_mode(0o777);
        fs::set_permissions(server.path(""), open.clone()).unwrap();
        fs::set_permissions(server.dir("config"), open).unwrap();
        command.uid(65_534).gid(65_534);
    }
    let Ok(child) = command.spawn() else {
        eprintln!("SKIPPED: as root, and nobody cannot run the program");
        return;
    };
    let serving = Serving::start(child);
    let copy = client.path("copy");
    let ran = client.run(["get", &serving.target, copy.to_str().unwrap()]).expect(1);
    ran.says(&[
        "secret: permission denied",
        "closed: permission denied",
        "2 of the files",
        "change the permissions",
    ]);
    for name in ["before", "zafter"] {
        assert_eq!(fs::read(copy.join(name)).unwrap(), name.as_bytes());
    }
    assert!(!copy.join("secret").exists());
}

#[test]
fn devices_and_fifos_are_left_out() {
    let (server, client) = (Home::new(), Home::new());
    let source = server.dir("source");
    fs::write(source.join("f"), "x").unwrap();
    let fifo = std::process::Command::new("mkfifo")
        .arg(source.join("fifo"))
        .status()
        .unwrap();
    assert!(fifo.success());
    let serving = server.serve(&source, &[]);
    let copy = client.path("copy");
    let done = client
        .run(["get", &serving.target, copy.to_str().unwrap(), "--json"])
        .expect(0)
        .event("done");
    assert_eq!((&done["left_out"], &done["files_moved"]), (&1.into(), &1.into()));
    client
        .run(["get", &serving.at("fifo"), copy.to_str().unwrap()])
        .expect(1);
    assert!(!copy.join("fifo").exists());
}
