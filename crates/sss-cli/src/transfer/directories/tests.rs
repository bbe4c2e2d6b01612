use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use sss_files::Mtime;

use super::*;

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

fn attributes(mode: u32) -> Attributes {
    Attributes {
        size: 0,
        mode,
        mtime: Mtime {
            seconds: 99,
            nanoseconds: 0,
        },
        traits: sss_files::Traits::empty(),
    }
}

fn made(dir: &Path, paths: &[&str]) -> Root {
    let root = Root::open(dir).unwrap();
    for text in paths {
        let made = make_directory(&root, &path(text), Options::TREE).unwrap();
        assert!(made.is_unfinished(), "{text}");
    }
    root
}

#[test]
fn directories_get_their_mode_and_time_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let root = made(dir.path(), &["a", "a/b"]);
    let both = ["a", "a/b"].map(|text| (path(text), attributes(0o550)));
    assert!(finish_directories(&root, &both, Options::TREE).is_empty());
    for text in ["a", "a/b"] {
        let meta = fs::metadata(dir.path().join(text)).unwrap();
        assert_eq!((meta.permissions().mode() & 0o777, meta.mtime()), (0o550, 99));
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no mark stays");
    // From now on they are somebody's.
    assert_eq!(
        make_directory(&root, &path("a/b"), Options::TREE).unwrap(),
        Made::Elsewise
    );
    let meta = fs::metadata(dir.path().join("a/b")).unwrap();
    assert_eq!(meta.permissions().mode() & 0o777, 0o550);
}

#[test]
fn what_an_earlier_transfer_made_is_finished_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    drop(made(dir.path(), &["a"]));
    fs::set_permissions(dir.path().join("a"), fs::Permissions::from_mode(0o050)).unwrap();
    let root = made(dir.path(), &["a"]);
    assert_eq!(fs::metadata(dir.path().join("a")).unwrap().mode() & 0o777, 0o750);
    let failed = finish_directories(&root, &[(path("a"), attributes(0o500))], Options::TREE);
    assert!(failed.is_empty());
    assert_eq!(fs::metadata(dir.path().join("a")).unwrap().mode() & 0o777, 0o500);
}

#[test]
fn only_a_link_marks_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::open(dir.path()).unwrap();
    // The rest of a file that is a directory now, and what somebody else calls so.
    for (name, is_file) in [("file", true), ("directory", false)] {
        let (there, mark) = (dir.path().join(name), dir.path().join(format!(".{name}.sss-part")));
        fs::create_dir(&there).unwrap();
        fs::set_permissions(&there, fs::Permissions::from_mode(0o550)).unwrap();
        if is_file {
            fs::write(&mark, "").unwrap();
        } else {
            fs::create_dir(&mark).unwrap();
        }
        let is_made = make_directory(&root, &path(name), Options::TREE)
            .unwrap()
            .is_unfinished();
        assert!(!is_made, "it was there");
        assert_eq!(fs::metadata(&there).unwrap().mode() & 0o777, 0o550);
        // Nor is anything else taken for a mark when that is taken away.
        finish_directories(&root, &[(path(name), attributes(0o500))], Options::TREE);
        assert!(fs::symlink_metadata(&mark).is_ok());
    }
}

#[test]
fn the_rest_of_a_file_that_is_a_directory_now_makes_way_for_the_mark() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(".a.sss-part"), "rest of a file").unwrap();
    drop(made(dir.path(), &["a"]));
    // It is marked: the next transfer finishes it.
    let root = made(dir.path(), &["a"]);
    finish_directories(&root, &[(path("a"), attributes(0o500))], Options::TREE);
    assert_eq!(fs::metadata(dir.path().join("a")).unwrap().mode() & 0o777, 0o500);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn an_inherited_group_is_inherited_on() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o2775)).unwrap();
    let root = made(dir.path(), &["a"]);
    let before = fs::metadata(dir.path().join("a")).unwrap().mode() & 0o7000;
    finish_directories(&root, &[(path("a"), attributes(0o750))], Options::TREE);
    let mode = fs::metadata(dir.path().join("a")).unwrap().mode() & 0o7777;
    assert_eq!(mode, before | 0o750);
}

#[test]
fn files_and_links_make_way_only_if_they_are_to_be_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::open(dir.path()).unwrap();
    fs::write(dir.path().join("f"), "").unwrap();
    symlink("/nowhere", dir.path().join("l")).unwrap();
    for text in ["f", "l"] {
        let refusal = make_directory(&root, &path(text), Options::TREE).unwrap_err();
        assert_eq!(refusal.status, Status::Exists);
        let made = make_directory(&root, &path(text), Options::REPLACE | Options::TREE).unwrap();
        assert_eq!(made, Made::Now);
        assert!(fs::symlink_metadata(dir.path().join(text)).unwrap().is_dir());
    }
    rustix::fs::mknodat(root.as_fd(), "fifo", FileType::Fifo, Mode::RWXU, 0).unwrap();
    let refusal = make_directory(&root, &path("fifo"), Options::REPLACE).unwrap_err();
    assert_eq!(refusal.status, Status::InTheWay);
}

#[test]
fn what_is_missing_above_is_made_marked_only_in_a_tree() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::open(dir.path()).unwrap();
    parents(&root, &path("alone/x/file"), Options::empty()).unwrap();
    assert!(!dir.path().join(".alone.sss-part").is_symlink());
    assert_ne!(fs::metadata(dir.path().join("alone")).unwrap().mode() & 0o777, 0o700);
    parents(&root, &path("tree/x/file"), Options::TREE).unwrap();
    assert!(dir.path().join(".tree.sss-part").is_symlink());
    assert!(dir.path().join("tree/.x.sss-part").is_symlink());
    assert_eq!(fs::metadata(dir.path().join("tree")).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn a_destination_that_was_there_is_not_ours() {
    let dir = tempfile::tempdir().unwrap();
    let top = RelPath::default();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o3750)).unwrap();
    let there = open_destination(dir.path()).unwrap();
    finish_directory(&there, &top, &attributes(0o777), Options::TREE).unwrap();
    assert_eq!(fs::metadata(dir.path()).unwrap().mode() & 0o7777, 0o3750);
    for _ in 0..2 {
        let new = open_destination(&dir.path().join("a/new")).unwrap();
        assert_eq!(make_directory(&new, &top, Options::TREE).unwrap(), Made::Before);
    }
    let new = open_destination(&dir.path().join("a/new")).unwrap();
    finish_directory(&new, &top, &attributes(0o755), Options::TREE).unwrap();
    assert_eq!(fs::metadata(dir.path().join("a/new")).unwrap().mode() & 0o777, 0o755);
    assert_eq!(fs::read_dir(dir.path().join("a")).unwrap().count(), 1);
}

#[test]
fn a_way_that_another_request_has_just_made_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::open(dir.path()).unwrap();
    for above in ["a", "a/b"] {
        fs::create_dir(dir.path().join(above)).unwrap();
        root.directory(above.as_bytes()).unwrap();
        way(&root, above.as_bytes(), Options::TREE).unwrap();
    }
    assert_eq!(fs::read_dir(dir.path().join("a/b")).unwrap().count(), 0);
    way(&root, b"a/b/c/d", Options::TREE).unwrap();
    assert!(dir.path().join("a/b/c/d").is_dir());
}
