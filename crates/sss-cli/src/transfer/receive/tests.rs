use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use sss_files::Mtime;

use super::*;

fn destination(dir: &Path, path: &str, size: u64, force: bool) -> Destination {
    Destination {
        root: Arc::new(Root::open(dir).unwrap()),
        path: RelPath::parse(path.as_bytes()).unwrap(),
        attributes: Attributes {
            size,
            mode: 0o600,
            mtime: Mtime {
                seconds: 1_000,
                nanoseconds: 7,
            },
            traits: sss_files::Traits::empty(),
        },
        options: options(force),
        in_new_directory: false,
    }
}

fn options(force: bool) -> Options {
    Options::TREE | if force { Options::REPLACE } else { Options::empty() }
}

#[test]
fn what_is_there_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let look = |path: &str, size| destination(dir.path(), path, size, false).look().unwrap();
    assert_eq!(look("f", 5), Place::Free);
    assert_eq!(look("no/such/f", 5), Place::Free);
    fs::write(dir.path().join("f"), "hello").unwrap();
    assert_eq!(look("f", 5), Place::SameSize);
    assert_eq!(look("f", 6), Place::Shorter(5));
    assert_eq!(look("f", 4), Place::Taken);
    let file = fs::File::open(dir.path().join("f")).unwrap();
    rustix::fs::futimens(
        &file,
        &super::super::part_file::times(Mtime {
            seconds: 1_000,
            nanoseconds: 7,
        }),
    )
    .unwrap();
    let found = look("f", 5);
    assert_eq!(found, Place::Identical { is_exact: false });
    symlink("f", dir.path().join("l")).unwrap();
    assert_eq!(look("l", 5), Place::Taken);
    fs::create_dir(dir.path().join("d")).unwrap();
    assert_eq!(look("d", 0), Place::Taken);
    fs::write(dir.path().join("d/in"), "").unwrap();
    assert!(matches!(look("d", 0), Place::Blocked(r) if r.status == Status::InTheWay));
    let through = destination(dir.path(), "l/x", 5, false).look();
    assert_eq!(through.unwrap_err().kind(), io::ErrorKind::NotADirectory);
}

#[test]
fn a_complete_file_appears_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let to = destination(dir.path(), "a/b/f", 5, false);
    to.complete(None, &[Bytes::from_static(b"hello")], blake3::hash(b"hello"))
        .unwrap();
    assert_eq!(fs::read(dir.path().join("a/b/f")).unwrap(), b"hello");
    assert_eq!(fs::read_dir(dir.path().join("a/b")).unwrap().count(), 1);
}

#[test]
fn what_does_not_have_its_hash_never_appears() {
    let dir = tempfile::tempdir().unwrap();
    let to = destination(dir.path(), "f", 5, false);
    let refusal = to
        .complete(None, &[Bytes::from_static(b"jello")], blake3::hash(b"hello"))
        .unwrap_err();
    assert_eq!(refusal.status, Status::Corrupt);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn something_else_is_replaced_only_by_force() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("f"), "other").unwrap();
    let kept = destination(dir.path(), "f", 7, false);
    assert_eq!(kept.basis(&kept.look().unwrap()).err().unwrap().status, Status::Exists);
    let forced = destination(dir.path(), "f", 7, true);
    assert!(matches!(forced.basis(&forced.look().unwrap()), Ok(Basis::Nothing)));
}

#[test]
fn a_part_is_offered_and_a_file_of_the_same_size_is_compared() {
    let dir = tempfile::tempdir().unwrap();
    let size = SEGMENT as u64 + 10;
    fs::write(dir.path().join(".f.sss-part"), "begun").unwrap();
    let to = destination(dir.path(), "f", size, false);
    let basis = to.basis(&Place::Free).unwrap();
    assert!(matches!(basis, Basis::Partial(..)));
    assert_eq!(basis.prefix().unwrap().hash, blake3::hash(b"begun"));
    drop(basis);

    fs::write(dir.path().join("g"), "hello").unwrap();
    let to = destination(dir.path(), "g", 5, false);
    let basis = to.basis(&to.look().unwrap()).unwrap();
    assert!(matches!(basis, Basis::Existing(_)));
    assert_eq!(basis.prefix().unwrap().hash, blake3::hash(b"hello"));
}

/// Two transfers of a file that grew copy its beginning, a slice each in turn, and a third finds what the first has
/// copied: the first comes to its end, and the others are told to come again.
// spec: FIL-10, FIL-11
#[test]
fn of_several_that_go_on_with_a_file_the_first_is_not_disturbed() {
    let dir = tempfile::tempdir().unwrap();
    let there = vec![7; SEGMENT + 1];
    fs::write(dir.path().join("f"), &there).unwrap();
    let to = destination(dir.path(), "f", there.len() as u64 + 5, true);
    let slice = SEGMENT as u64 / 2;
    let look = || to.unhashed(&to.look().unwrap()).unwrap();
    let busy = |refused: Result<(), Refusal>| assert_eq!(refused.unwrap_err().status, Status::Busy);

    let found = to.hash_on(look(), there.len() as u64).unwrap();
    let (Unhashed::Existing(_), Some(prefix)) = (&found, found.prefix()) else {
        panic!("the file there is not offered");
    };
    let first = to.copy_on(None, &prefix, slice).unwrap();
    busy(to.copy_on(None, &prefix, slice).map(drop));
    // The third hashes what the first has copied, while that goes on.
    let (begun, whole) = (look(), to.hash_on(look(), slice).unwrap());
    assert_eq!(whole.prefix().map(|prefix| prefix.len), Some(slice));
    let Unhashed::Partial(hashed) = whole else {
        panic!("what was copied is not offered");
    };
    let second = to.copy_on(first, &prefix, slice).unwrap();
    busy(to.hash_on(begun, slice).map(drop));
    busy(to.part_file_again(Some(hashed)).map(drop));

    let copied = to.copy_on(second, &prefix, slice).unwrap();
    assert_eq!(copied.as_ref().and_then(Kept::prefix), Some(prefix));
    let part = to.part_file_again(copied).unwrap();
    let whole = [&there[..], b"grown"].concat();
    to.complete(Some(part), &[Bytes::from_static(b"grown")], blake3::hash(&whole))
        .unwrap();
    assert!(fs::read(dir.path().join("f")).unwrap() == whole);
}

#[test]
fn links_are_made_compared_and_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::open(dir.path()).unwrap();
    let path = RelPath::parse(b"d/l").unwrap();
    let time = Mtime {
        seconds: 1_000,
        nanoseconds: 7,
    };
    assert_eq!(
        make_link(&root, &path, (b"x", time), options(false)),
        Ok(Received::Written)
    );
    assert_eq!(
        make_link(&root, &path, (b"x", time), options(false)),
        Ok(Received::Identical)
    );
    assert_eq!(
        make_link(&root, &path, (b"y", time), options(false))
            .unwrap_err()
            .status,
        Status::Exists
    );
    assert_eq!(
        make_link(&root, &path, (b"y", time), options(true)),
        Ok(Received::Written)
    );
    assert_eq!(fs::read_link(dir.path().join("d/l")).unwrap(), Path::new("y"));
    let meta = fs::symlink_metadata(dir.path().join("d/l")).unwrap();
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (1_000, 7));
}
