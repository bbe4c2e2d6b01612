//! What the crate's root exports stands in the way of nothing that programs name every day.

// Everything at once, as many programs begin.
use sss::*;

struct Guard<'a>(&'a mut bool);

/// Nothing of the root is called `Drop`.
impl Drop for Guard<'_> {
    fn drop(&mut self) {
        *self.0 = true;
    }
}

#[test]
fn the_prelude_means_what_it_means_beside_a_glob_import() {
    let mut is_dropped = false;
    drop(Guard(&mut is_dropped));
    assert!(is_dropped);
    let all: Vec<Option<String>> = DropReason::ALL.map(|r| Some(r.name().to_owned())).into_iter().collect();
    assert_eq!(all.len(), DropReason::COUNT);
    let result: Result<Box<u8>, String> = "1".parse().map(Box::new).map_err(|_| String::default());
    assert_eq!(result.map(|n| n.clone().to_string()), Ok("1".to_owned()));
}

/// Options that may grow can still be made by users: from their defaults.
#[test]
fn options_are_made_from_their_defaults() {
    let window = WindowConfig::default().with(|window| window.root = 1 << 20);
    assert_eq!(window.root, 1 << 20);
    let mut same = WindowConfig::default();
    same.root = 1 << 20;
    assert_eq!(window, same);
    let protocol = ProtocolInfo::new("sync/1", "");
    assert_eq!(ServiceInfo::new("files", "", vec![protocol]).protocols.len(), 1);
}
