//! Reach of Structured Secure Streams: how hosts find each other by their EIDs, and get through to each other
//! (docs/spec/reach.md). Like the core, it performs no IO and reads no clock.
//!
//! | module | what |
//! |---|---|
//! | [`Rendezvous`] | a host's part in this: what goes beside the core |
//! | [`server`] | a registration server: leases, introductions, relay |
//! | [`keys`] | keys of a lease, and what is sealed with them |
//! | [`mdns`] | what hosts announce of themselves on the local network |

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod absence;
mod client;
mod desk;
mod dropped;
pub mod keys;
pub mod mdns;
mod path;
mod rendezvous;
pub mod server;

pub use client::{
    Allocated, LeaseAt, LocalAddress, Over, Proof, Referral, Registration, RegistrationError, RegistrationState,
    RelayUse, ServerAddress, SocketOrder, SprayOutcome, SprayReport, SprayRole, Spraying, StaleReferral, TunnelEnd,
    TunnelOrder, TurnOrder,
};
pub use dropped::Dropped;
pub use path::Path;
pub use rendezvous::{Rendezvous, RendezvousConfig, Serve};
pub use sss_wire::reach::spray::{Mapping, Verdict};
