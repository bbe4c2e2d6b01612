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
    let without_file = run(&["--key-log"], None).expect(0);
    assert!(!file.exists());
    for ran in [without_flag, without_file] {
        assert!(!ran.err.contains(VARIABLE), "{}", ran.err);
    }
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
    // Another run adds to it.
    run(&["--key-log"], Some(&file)).expect(0);
    assert!(std::fs::read_to_string(&file).unwrap().starts_with(&log));
    run(&["--key-log"], Some(&client.path("no/such/directory")))
        .expect(1)
        .says(&["cannot open", VARIABLE]);
}
