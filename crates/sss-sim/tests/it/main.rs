//! The core in a simulated world: random scenarios against the model, bad links, and the negotiation under attack.

mod acknowledgement;
mod closing;
mod congestion;
mod delivery;
mod determinism;
mod endings;
mod heard;
mod links;
mod migration;
mod mixed;
mod mutation;
mod negotiation;
mod out_of_band;
mod paths;
mod prioritisation;
mod random;
mod restarts;
mod resume;
mod sessions;
mod sleep;
mod support;
mod work;
