//! Tests of identity files.

use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};

use super::*;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

fn put(path: &Path, text: &[u8]) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn an_identity_is_made_once_and_kept_private() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    assert!(matches!(Identity::load(&file), Err(IdentityError::NotFound { path }) if path == file));
    let made = Identity::load_or_create(&file).unwrap();
    assert_eq!(Identity::load_or_create(&file).unwrap().eid(), made.eid());
    assert_eq!(*Identity::load(&file).unwrap().to_bytes(), *made.to_bytes());
    assert_eq!(mode(&file), 0o600);
    assert!(fs::read_to_string(&file).unwrap().contains(&made.eid().to_string()));
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        1,
        "nothing else is left behind"
    );
}

#[test]
fn what_is_there_is_replaced_only_when_that_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    let (first, second) = (Identity::generate(), Identity::generate());
    first.save(&file).unwrap();
    assert!(matches!(second.save(&file), Err(IdentityError::Exists { path }) if path == file));
    assert_eq!(Identity::load(&file).unwrap().eid(), first.eid());
    second.replace(&file).unwrap();
    assert_eq!(Identity::load(&file).unwrap().eid(), second.eid());
    assert_eq!(mode(&file), 0o600);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn the_directory_is_neither_made_nor_changed() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("no/such");
    for result in [
        Identity::load(missing.join("key")).map(|_| ()),
        Identity::load_or_create(missing.join("key")).map(|_| ()),
        Identity::generate().save(missing.join("key")),
        Identity::generate().replace(missing.join("key")),
    ] {
        assert!(
            matches!(&result, Err(IdentityError::NoDirectory { path }) if *path == missing),
            "{result:?}"
        );
    }
    assert!(!dir.path().join("no").exists());

    let open = dir.path().join("open");
    fs::DirBuilder::new().mode(0o755).create(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o775)).unwrap();
    Identity::load_or_create(open.join("key")).unwrap();
    assert_eq!(mode(&open), 0o775);

    let file = open.join("key");
    let below = Identity::load_or_create(file.join("key"));
    assert!(matches!(below, Err(IdentityError::NoDirectory { path }) if path == file));
}

#[test]
fn a_key_that_others_can_read_or_change_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    let made = Identity::load_or_create(&file).unwrap();
    for bad in [0o640, 0o620, 0o610, 0o604, 0o602, 0o601, 0o777] {
        fs::set_permissions(&file, fs::Permissions::from_mode(bad)).unwrap();
        let error = Identity::load_or_create(&file).unwrap_err();
        assert!(matches!(error, IdentityError::Permissions { mode, .. } if mode == bad));
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
    assert_eq!(Identity::load(&file).unwrap().eid(), made.eid());
}

#[test]
fn other_files_are_not_taken_for_identities_and_stay_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    let key = "ab".repeat(32);
    let bad = [
        String::new(),
        "hello".into(),
        "sss-identity-1 1234\n".into(),
        format!("{LABEL}{}", "g".repeat(64)),
        format!("{LABEL}{}", "é".repeat(32)),
        format!("{LABEL}{key}00"),
        format!("{LABEL}{key}\n{LABEL}{key}\n"),
        format!("{LABEL}{key}\nhello\n"),
        format!("sss-identity-2 {key}\n"),
        format!("{LABEL}{key}\n{}", "#".repeat(MAX_FILE)),
    ];
    for text in bad {
        put(&file, text.as_bytes());
        let error = Identity::load_or_create(&file).unwrap_err();
        assert!(matches!(error, IdentityError::NotAnIdentity { .. }), "{text}: {error}");
        assert_eq!(fs::read(&file).unwrap(), text.as_bytes());
    }
    put(&file, &[0xff; 100]);
    assert!(matches!(
        Identity::load(&file),
        Err(IdentityError::NotAnIdentity { .. })
    ));
    assert!(Identity::load(dir.path()).is_err(), "a directory");
}

#[test]
fn the_format_of_the_book_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    let key = [0xAB; 32];
    for text in [
        format!("{LABEL}{}", "ab".repeat(32)),
        format!("# Ours.\r\n\r\n{LABEL}{}\r\n# The end.\r\n", "AB".repeat(32)),
    ] {
        put(&file, text.as_bytes());
        assert_eq!(*Identity::load(&file).unwrap().to_bytes(), key, "{text}");
    }
}

/// Of many that begin at once, each with a key of its own, all end with the same one; and never is a file seen that is
/// incomplete or that others can read.
#[test]
fn all_that_create_at_once_agree() {
    for _ in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        let begin = std::sync::Barrier::new(8);
        let eids: Vec<_> = std::thread::scope(|scope| {
            let create = || {
                begin.wait();
                Identity::load_or_create(&file).unwrap().eid()
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(create)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(eids.iter().all(|eid| *eid == eids[0]));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn what_is_no_file_is_told_at_once() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&pipe, &link).unwrap();
    let paths = [dir.path().to_owned(), pipe, link, "/dev/zero".into()];
    let (tell, told) = std::sync::mpsc::channel();
    // A pipe without a writer would keep whoever opens it for ever.
    std::thread::spawn(move || {
        for path in paths {
            let found = [Identity::load(&path), Identity::load_or_create(&path)];
            let is_told = |f: &Result<Identity, _>| matches!(f, Err(IdentityError::NotAnIdentity { .. }));
            tell.send((found.iter().all(is_told), path)).unwrap();
        }
    });
    for _ in 0..4 {
        let (is_told, path) = told.recv_timeout(std::time::Duration::from_secs(60)).unwrap();
        assert!(is_told, "{}", path.display());
    }
}

#[test]
fn a_link_to_nothing_stays() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(dir.path().join("nowhere"), &link).unwrap();
    assert!(matches!(Identity::load_or_create(&link), Err(IdentityError::NotFound { path }) if path == link));
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_part_of_an_identity_is_none_and_an_enormous_file_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    let made = Identity::load_or_create(&file).unwrap();
    let whole = fs::read(&file).unwrap();
    for len in 0..whole.len() {
        put(&file, &whole[..len]);
        match Identity::load_or_create(&file) {
            Err(IdentityError::NotAnIdentity { .. }) => {}
            // Only the end of the line is missing.
            Ok(loaded) => assert!(len + 1 == whole.len() && loaded.eid() == made.eid()),
            Err(error) => panic!("{len}: {error}"),
        }
    }
    put(&file, &whole);
    // As large as the file system lets it be, without taking room.
    let enormous = OpenOptions::new().write(true).open(&file).unwrap();
    enormous
        .set_len(1 << 40)
        .or_else(|_| enormous.set_len(1 << 30))
        .unwrap();
    let error = Identity::load(&file).unwrap_err();
    assert!(matches!(error, IdentityError::NotAnIdentity { .. }), "{error}");
}
