//! Hosts on real sockets of this machine, one module per behaviour.

mod addresses;
mod bulk;
mod closing;
mod closing_table;
mod common;
mod connecting;
mod datagrams;
mod endless;
mod ends;
mod exports;
#[cfg(target_os = "linux")]
mod failing;
#[cfg(target_os = "linux")]
mod flood_sockets;
#[cfg(target_os = "linux")]
mod floods;
mod fork;
mod hostile;
mod lan;
mod listening;
mod logs;
mod loops;
mod loss_of_peer;
#[cfg(feature = "metrics")]
mod metrics;
mod migration;
#[cfg(target_os = "linux")]
mod mistakes;
mod namespace;
#[cfg(target_os = "linux")]
mod network;
mod peer_service;
mod port;
mod priorities;
mod records;
mod relay_only;
mod rendezvous;
mod services;
#[cfg(target_os = "linux")]
mod shards;
mod statistics;
mod stopped;
mod streams;
mod subtrees;
mod tokio_io;
#[cfg(feature = "tls")]
mod tunnels;
