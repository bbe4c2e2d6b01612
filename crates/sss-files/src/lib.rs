//! The application protocol `files`, `sync/1` (docs/spec/files.md), without IO: its messages, and the paths in them.
//!
//! The command-line tool `sss` speaks it. Whatever arrives is decoded here, and nothing that could lead outside of a
//! directory gets through.

mod flags;
mod greeting;
mod order;
mod path;
mod protocol;

pub use flags::{Options, Traits};
pub use greeting::{Greeting, MAX_GREETING};
pub use order::Order;
pub use path::{MAX_PATH, PathError, RelPath, is_part_name, part_name, printable, split_last};
pub use protocol::{
    Attributes, Cursor, DEPTH_ALL, Entry, Gathered, Kind, Mtime, Names, NotMade, PROTOCOL, Patterns, Prefix, Refusal,
    Request, SERVICE, Status, Stop, Verdict, answer, put_field, put_varint, start,
};
