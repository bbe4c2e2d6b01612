//! Negotiation: how two hosts agree on the keys of a channel (docs/spec/negotiation.md).
//!
//! `Initiation` is the initiator's side of one attempt, `Responder` the responder's side of all of them. Neither sends
//! anything: they return the bytes.

mod accept;
mod channel_ids;
mod cookie;
mod greeter;
mod greeting;
mod initiator;
mod introductions;
mod leg;
mod load;
mod repeats;
pub(crate) mod responder;
mod retry_tokens;
mod search;
mod shards;
mod target;
mod terms;
mod ways;

pub(crate) use accept::{AcceptKeys, close_frame, refusal};
pub(crate) use channel_ids::ChannelIds;
pub use greeter::{Greeted, Greeter, GreeterStats};
pub(crate) use greeting::{Agreed, HelloAnswer};
pub(crate) use initiator::Initiation;
pub(crate) use repeats::{InitiatorStep, Schedule};
pub(crate) use responder::{Fate, Proven, Refusal, Reply, Responder, Sender};
pub(crate) use shards::attempt_name;
pub use shards::{shard_mark_at, shard_of};
pub(crate) use target::Target;
