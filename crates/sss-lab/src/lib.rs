//! Labs: hosts behind NATs and firewalls, and emulated links between them, in network namespaces of Linux.
//!
//! Everything is inside namespaces that a lab makes, and goes with it; the machine's own network is not touched. A lab
//! needs root, `ip` (iproute2), `nft` (nftables) and TUN devices; [`Error::is_missing`] tells a test to be skipped.
//!
//! ```no_run
//! use sss_lab::{Kind, Lab, Link};
//!
//! let link = Link::parse(["delay=25ms", "skew=60ms", "loss=1%"])?;
//! let mut lab = Lab::builder().site("a", Kind::Prc).site("b", Kind::Symmetric).link(link).build()?;
//! let server = lab.node("server")?.ipv4();
//! let socket = lab.node("a")?.enter(|| std::net::UdpSocket::bind("0.0.0.0:0"))?;
//! lab.node("b")?.command("sh").args(["-c", "ip address"]).status();
//! lab.reboot("a")?;
//! lab.set_link(["blackout=on"])?;
//! # Ok::<(), sss_lab::Error>(())
//! ```
#![cfg(target_os = "linux")]

pub mod check;
mod claim;
mod emulator;
mod error;
mod lab;
mod namespace;
mod node;
mod plan;
mod prefix;
pub mod probe;
mod rules;
mod shape;
mod site;
mod system;
mod units;

pub use claim::{control_socket, living, sweep};
pub use emulator::network::Counters;
pub use error::Error;
pub use lab::{Builder, Lab};
pub use node::{Node, Role};
pub use plan::Public;
pub use shape::{Burst, Link, Reorder, SETTINGS, Shape};
pub use site::{Firewall, Ipv6, Kind, OPTIONS, Site};
