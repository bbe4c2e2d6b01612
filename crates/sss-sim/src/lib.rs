//! A deterministic world of hosts and links around the sans-IO core of Structured Secure Streams.
//!
//! ```text
//!  scenario ---> apps ---> world ---> hosts (sss_proto::Host, unchanged)
//!     |           |          |
//!     |           v          v
//!     |         model      links: rate, delay, jitter, loss, duplication, reordering, corruption, ..
//!     +--> verdict            |
//!                             +--> transcript
//! ```
//!
//! Time is virtual, and everything random comes from one seed: a second run of the same seed gives the same transcript,
//! byte for byte. [`scenario`] plays random applications on random networks and compares everything that they see with
//! the reference [`model`]; [`bulk`] measures goodput over one bottleneck, [`congestion`] how senders share it and
//! follow it, [`delivery`] which datagrams arrive in time, [`fresh`] how soon the content of a new stream is there,
//! [`prioritisation`] how soon a change of priorities is seen, [`refusals`] how soon a host hears why it is refused,
//! [`handshakes`] what a new channel costs. [`work`] does fixed pieces of work whose instructions are counted.

mod actor;
pub mod bulk;
pub mod congestion;
pub mod delivery;
pub mod fresh;
pub mod handshakes;
pub mod link;
pub mod model;
pub mod prioritisation;
pub mod refusals;
pub mod scenario;
mod transcript;
pub mod units;
pub mod work;
pub mod world;

pub use link::{Blackout, Burst, LinkConfig};
pub use scenario::{Failure, Profile, Report};
pub use transcript::Transcript;
pub use world::{Apps, Captured, HostIndex, World};
