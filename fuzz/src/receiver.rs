//! The receiving side of the tool's file protocol, as far as it has to do with the disk: the modules of the tool
//! themselves, on a directory that has links out of it.

use bytes::Bytes;
use sss_files::{Attributes, Cursor, Entry, Kind, Mtime, Options, Order, RelPath, Traits};

use super::sandbox::{Program, Sandbox};
use crate::transfer::directories::{clear, finish_directory, look, make_directory, obstacle, parents};
use crate::transfer::part_file::{Leftover, PartFile};
use crate::transfer::safe_path::Root;

/// Files and directories of one input at most.
const MAX_STEPS: usize = 24;

/// Receives what the input says: files and directories at paths that a peer has chosen, whole, in part, again, over one
/// another; or the entries of a listing as they are on the wire.
pub fn file_receiver(data: &[u8]) {
    let sandbox = Sandbox::new();
    let root = Root::open(&sandbox.inside()).expect("it is there");
    let mut program = Program::new(data);
    let settings = program.byte();
    let mut options = Options::empty();
    options.set(Options::REPLACE, settings & 1 != 0);
    options.set(Options::TREE, settings & 2 != 0);
    options.set(Options::NO_PERMS, settings & 4 != 0);
    if settings & 8 != 0 {
        listing(&root, program.rest(), options);
    } else {
        for _ in 0..MAX_STEPS {
            if program.is_at_end() {
                break;
            }
            step(&root, &mut program, options);
        }
    }
    sandbox.check();
}

/// Entries in the order that a listing must have; what is out of order ends it.
fn listing(root: &Root, data: &[u8], options: Options) {
    let mut cursor = Cursor::new(data);
    let mut order = Order::default();
    for _ in 0..MAX_STEPS {
        let Ok(entry) = Entry::decode(&mut cursor) else {
            return;
        };
        if order.check(&entry).is_err() {
            return;
        }
        match entry.kind {
            Kind::File(attributes) => receive(root, &entry.path, (&attributes, options), b"content", attributes.size),
            Kind::Directory(attributes) => directory(root, &entry.path, &attributes, options),
            _ => {}
        }
    }
}

fn step(root: &Root, program: &mut Program<'_>, options: Options) {
    let what = program.byte();
    let len = usize::from(program.byte() & 63);
    let Ok(path) = RelPath::parse(program.bytes(len)) else {
        return;
    };
    let content = program.bytes(usize::from(what >> 3));
    let attributes = Attributes {
        size: content.len() as u64,
        mode: u32::from(program.byte()) << 1,
        mtime: Mtime {
            seconds: i64::from(what),
            nanoseconds: 0,
        },
        traits: if what & 4 == 0 { Traits::empty() } else { Traits::HOLES },
    };
    match what & 3 {
        0 | 1 => receive(root, &path, (&attributes, options), content, attributes.size),
        // More was said than comes: a part stays.
        2 => receive(root, &path, (&attributes, options), content, u64::MAX),
        _ => directory(root, &path, &attributes, options),
    }
}

fn directory(root: &Root, path: &RelPath, attributes: &Attributes, options: Options) {
    if make_directory(root, path, options).is_ok_and(|made| made.is_unfinished()) {
        let _ = finish_directory(root, path, attributes, options);
    }
}

/// One file: as in `Destination::find` and `complete`, which also know streams.
fn receive(root: &Root, path: &RelPath, (attributes, options): (&Attributes, Options), content: &[u8], size: u64) {
    let Ok((above, name)) = parents(root, path, options) else {
        return;
    };
    if let Ok(Some(there)) = look(&above, name)
        && matches!(obstacle(&above, name, &there), Ok(Some(_)) | Err(_))
    {
        return;
    }
    let Ok(mut part) = PartFile::open(above.clone(), name, Leftover::Keep(size.min(1 << 20))) else {
        return;
    };
    assert!(part.prefix().is_none_or(|prefix| prefix.len <= 1 << 20));
    part = part.with_holes(attributes.traits.contains(Traits::HOLES));
    if part.write(&[Bytes::copy_from_slice(content)]).is_err() || size == u64::MAX {
        return;
    }
    if part.commit(name, attributes, options).is_err() && attributes.mode & 1 != 0 {
        let _ = clear(&above, name);
    }
}
