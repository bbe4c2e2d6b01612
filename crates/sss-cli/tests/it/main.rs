//! The real binary, as people and scripts meet it.

mod access;
mod attacks;
mod bad_server;
mod clients;
mod demo;
mod disk;
#[cfg(feature = "dns")]
mod dns;
mod errors;
mod exhaustion;
mod gather;
mod hostile;
mod interruption;
mod json_table;
mod key_log;
#[cfg(target_os = "linux")]
mod lab;
mod no_room;
mod oddities;
mod outage;
mod package;
mod places;
mod post_quantum;
#[cfg(feature = "redis")]
mod redis;
mod rendezvous;
mod resume;
mod services;
mod several;
#[cfg(feature = "stun")]
mod stun;
mod support;
mod terminal;
mod transfer;
mod trust;
#[cfg(feature = "turn")]
mod turn;
mod words;
