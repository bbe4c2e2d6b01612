//! Readiness of the UDP socket for reading and writing, on systems without descriptors.

use std::io;
use std::net::UdpSocket as StdUdpSocket;
use std::task::{Context, Poll};

use quinn_udp::UdpSockRef;
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// A socket, and what the reactor knows of it.
pub(super) struct ReadySocket(UdpSocket);

impl ReadySocket {
    /// Registers the socket with the present runtime.
    pub(super) fn new(socket: StdUdpSocket) -> io::Result<Self> {
        UdpSocket::from_std(socket).map(Self)
    }

    pub(super) fn io(&self) -> &UdpSocket {
        &self.0
    }

    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_recv_ready(cx)
    }

    pub(super) fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_send_ready(cx)
    }

    /// Runs `receive`, which says how many buffers it filled.
    pub(super) fn try_read(
        &self,
        _offered: usize,
        receive: impl FnOnce(UdpSockRef<'_>) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.0.try_io(Interest::READABLE, || receive(self.io().into()))
    }

    pub(super) fn try_write(&mut self, send: impl FnOnce(UdpSockRef<'_>) -> io::Result<()>) -> io::Result<()> {
        self.0.try_io(Interest::WRITABLE, || send(self.io().into()))
    }
}
