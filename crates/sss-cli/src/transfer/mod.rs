//! The application protocol `files`, `sync/1` (docs/spec/files.md): trees of files, one substream per request.
//!
//! Its messages are those of `sss-files`; `exchange` is one request and its answer on a substream. `manifest` lists
//! trees, `send` and `receive` move the content of one file, `part_file` is a file until it is complete (`unnamed_file`
//! if it is small; `temporary` in the server), `directories` are those above it. Above them `server` answers, with
//! `fetch`, `gather`, `list`, `store` and `make`, to those whom `access` lets in and within `limits` and `quota`;
//! `download` and `upload` ask. Whatever touches the disk runs in the pool of `io_pool`, never on the thread that moves
//! packets.

pub(crate) mod access;
pub(crate) mod directories;
pub(crate) mod download;
pub(crate) mod exchange;
pub(crate) mod fetch;
pub(crate) mod filter;
#[cfg(test)]
mod fuzzing;
pub(crate) mod gather;
pub(crate) mod io_pool;
pub(crate) mod leaving;
pub(crate) mod limits;
pub(crate) mod list;
pub(crate) mod make;
pub(crate) mod manifest;
pub(crate) mod part_file;
pub(crate) mod patience;
pub(crate) mod pipe;
pub(crate) mod pool;
pub(crate) mod quota;
pub(crate) mod rate;
pub(crate) mod receive;
pub(crate) mod remote_glob;
pub(crate) mod safe_path;
pub(crate) mod send;
pub(crate) mod served;
pub(crate) mod server;
pub(crate) mod session;
pub(crate) mod store;
pub(crate) mod tally;
pub(crate) mod temporary;
pub(crate) mod tries;
pub(crate) mod unfinished;
pub(crate) mod unnamed_file;
pub(crate) mod upload;
