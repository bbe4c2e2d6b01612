//! The order of layers: which crates a crate may use, and which modules a module may take names from.
//!
//! A module takes names only from its own layer's lower neighbours: from modules that stand before it here. The root of a crate, which
//! only shows what is to be seen from outside, is above all of them.

use std::path::{Path, PathBuf};

use crate::source::Crate;

/// Crates, each with those of this project that it may use; without what only its tests use.
const CRATES: &[(&str, &[&str])] = &[
    ("sss-wire", &[]),
    ("sss-crypto", &[]),
    ("sss-files", &[]),
    ("sss-proto", &["sss-wire", "sss-crypto"]),
    ("libsss", &["sss-wire", "sss-crypto", "sss-proto"]),
    ("sss-sim", &["sss-wire", "sss-crypto", "sss-proto"]),
    ("sss-cli", &["libsss", "sss-files"]),
    ("sss-bench", &["libsss", "sss-sim"]),
    ("xtask", &[]),
];

/// Modules of crates, the lowest first. Modules of one line do not use each other.
const MODULES: &[(&str, &[&[&str]])] = &[];
