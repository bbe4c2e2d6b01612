//! Structured Secure Streams: the layouts of packets and frames, without state.
//!
//! Everything here is a function from bytes to checked views of them, or from values to bytes. Parsers never panic
//! and never allocate for what a packet carries in steady state; views borrow from the packet. Nothing here knows
//! keys, sockets, clocks or what a frame means for a stream.
//!
//! The layouts are those of `docs/spec`: [`long`] of negotiation.md, [`short`] of protection.md, [`frame`] of
//! frames.md, [`params`] of negotiation.md and channel.md, [`services`] of services.md, the rest of overview.md.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::panic,
    )
)]

mod address;
mod channel_id;
mod code;
pub mod constants;
mod eid;
mod error;
pub mod frame;
mod kem;
pub mod long;
pub mod params;
pub mod reach;
mod reader;
pub mod services;
pub mod short;
mod suite;
mod text;
pub mod varint;
mod writer;

pub use channel_id::ChannelId;
pub use code::Code;
pub use eid::{Eid, EidError};
pub use error::Malformed;
pub use kem::Kem;
pub use reader::Reader;
pub use suite::Suite;
pub use text::{Seconds, is_printable, printable};
pub use writer::Writer;
