//! Values that the tuned QUIC peers have in common.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

use crate::outcome::Outcome;
use crate::setup::{Setup, Workload};

/// Bytes of each socket buffer.
pub const SOCKET_BUFFER: usize = 4 << 20;

/// Bytes of each flow-control window: what the socket buffer bears. Larger ones only cause loss on this path.
pub const WINDOW: u32 = 4 << 20;

/// Streams that the other side may have open in the rpc workloads. quinn makes room for all of them with each
/// connection, so its default of 100 serves it better in the others.
const STREAMS: u32 = 256;
/// The same with 1,000 in flight.
const MANY_STREAMS: u32 = 2048;
const DEFAULT_STREAMS: u32 = 100;

/// Streams that the other side may have open.
pub fn stream_limit(setup: &Setup) -> Outcome<u32> {
    // Those of the warm-up are open as well.
    let idle = |count: usize| u32::try_from(count + count / 10 + 1);
    Ok(match setup.workload {
        Workload::IdleStreams | Workload::IdleStreams100k => idle(setup.idle_streams())?,
        Workload::Rpc1000 => MANY_STREAMS,
        workload if workload.is_rpc() => STREAMS,
        _ => DEFAULT_STREAMS,
    })
}

/// A socket on a free port of the loopback interface, with the buffers that the settings ask for.
pub fn socket(setup: &Setup) -> Outcome<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    if setup.settings.is_tuned() {
        socket.set_recv_buffer_size(SOCKET_BUFFER)?;
        socket.set_send_buffer_size(SOCKET_BUFFER)?;
    }
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    Ok(socket.into())
}
