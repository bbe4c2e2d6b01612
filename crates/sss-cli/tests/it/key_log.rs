//! Key logs: by the flag together with the environment, and not else.

use crate::support::{Home, Ran};

const VARIABLE: &str = "SSSKEYLOGFILE";

#[test]
fn keys_are_written_if_flag_and_environment_agree() {
    let (server, client) = (Home::new(), Home::new());
    let serving = server.serve(&server.dir("source"), &[]);
    let file = client.path("keys");
    let run = |flag: &[&str], file: Option<&std::path::Path>| {
        let mut command = client.command();
        command.env_remove(VARIABLE).arg("ls").arg(serving.at("")).args(flag);
        command.envs(file.map(|file| (VARIABLE, file)));
        Ran::wait(command.spawn().unwrap())
    };
    let without_flag = run(&[], Some(&file)).expect(0);
    assert!(!file.exists());
    assert!(!without_flag.err.contains(VARIABLE), "{}", without_flag.err);
    run(&["--key-log"], None)
        .expect(2)
        .says(&["--key-log", VARIABLE, "names no file"]);
    run(&["--key-log"], Some(&file))
        .expect(0)
        .says(&["WARN", VARIABLE, "keys"]);
    let log = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<Vec<&str>> = log.lines().map(|line| line.split(' ').collect()).collect();
    for end in ["_HEADER", "_SECRET_0", "_SECRET_1"] {
        let fits = |line: &&Vec<&str>| line[0].starts_with("SSS_") && line[0].ends_with(end);
        let line = lines.iter().find(fits).expect(end);
        assert_eq!((line.len(), line[1].len(), line[2].len()), (3, 8, 64), "{line:?}");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    // Another run adds to it, and not to a line that somebody has not finished.
    let unfinished = format!("{log}no line");
    std::fs::write(&file, &unfinished).unwrap();
    run(&["--key-log"], Some(&file)).expect(0);
    let more = std::fs::read_to_string(&file).unwrap();
    assert!(more.starts_with(&format!("{unfinished}\nSSS_")), "{more}");
    run(&["--key-log"], Some(&client.path("no/such/directory")))
        .expect(1)
        .says(&["cannot open", VARIABLE]);
}

#[cfg(unix)]
#[test]
fn keys_go_into_no_file_that_others_may_have() {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};
    use std::path::Path;

    let (server, client) = (Home::new(), Home::new());
    let serving = server.serve(&server.dir("source"), &[]);
    let file = |name: &str| {
        let path = client.path(name);
        fs::write(&path, b"").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    let open = file("open");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o640)).unwrap();
    let (behind, link) = (file("behind"), client.path("link"));
    symlink(&behind, &link).unwrap();
    let twice = file("twice");
    fs::hard_link(&twice, client.path("second name")).unwrap();
    let [pipe, read_pipe] = ["pipe", "read pipe"].map(|name| {
        let pipe = client.path(name);
        let made = std::process::Command::new("mkfifo")
            .args(["-m", "600"])
            .arg(&pipe)
            .status();
        assert!(made.unwrap().success());
        pipe
    });
    let _reader = fs::File::options().read(true).write(true).open(&read_pipe).unwrap();
    // Nobody but root can have a file of somebody else that it may write and others may not.
    let other = file("other");
    let other = chown(&other, Some(65_534), None).is_ok().then_some(&other);
    let device = Path::new("/dev/null").to_owned();
    let cases = [
        (&open, "chmod 600"),
        (&link, "symbolic link"),
        (&twice, "other names"),
        (&pipe, "no regular file"),
        (&read_pipe, "no regular file"),
        (&device, "no regular file"),
        (&client.dir("directory"), "irectory"),
    ];
    for (path, why) in cases.into_iter().chain(other.map(|path| (path, "somebody else"))) {
        let mut ls = client.command();
        ls.env(VARIABLE, path).args(["ls", "--key-log"]).arg(serving.at(""));
        Ran::wait(ls.spawn().unwrap())
            .expect(1)
            .says(&["cannot open", VARIABLE, why]);
        let mut serve = client.command();
        serve
            .env(VARIABLE, path)
            .args(["serve", "--key-log"])
            .arg(client.dir("served"));
        Ran::wait(serve.spawn().unwrap()).expect(1).says(&["cannot open", why]);
    }
    for path in [&open, &behind, &twice] {
        assert_eq!(fs::read(path).unwrap(), b"", "{}", path.display());
    }
}
