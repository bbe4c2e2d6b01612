//! Readiness of the UDP socket for reading and writing, as the runtime's reactor tells.
//!
//! The reactor is asked about reading all the time, about writing only while the send buffer is or was lately full: the
//! system reports room in that buffer after every datagram that leaves it, and each report would wake a thread for
//! nothing. A request and its response would cost four wakes instead of two.

use std::io;
use std::net::UdpSocket as StdUdpSocket;
#[cfg(target_os = "linux")]
use std::os::fd::{AsFd as _, BorrowedFd};
use std::task::{Context, Poll, ready};

use quinn_udp::UdpSockRef;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Sends without blocking after which the reactor is asked no longer.
const CALM: u32 = 1000;

/// A socket, and what the reactor knows of it.
pub(super) struct ReadySocket {
    read: AsyncFd<StdUdpSocket>,
    write: Option<Writable>,
}

/// The socket again, for the sake of its send buffer.
struct Writable {
    fd: AsyncFd<StdUdpSocket>,
    /// Sends since the buffer was last full.
    sends: u32,
}

impl ReadySocket {
    /// Registers the socket with the present runtime.
    pub(super) fn new(socket: StdUdpSocket) -> io::Result<Self> {
        Ok(Self {
            read: register(socket, Interest::READABLE)?,
            write: None,
        })
    }

    pub(super) fn io(&self) -> &StdUdpSocket {
        self.read.get_ref()
    }

    #[cfg(target_os = "linux")]
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.read.get_ref().as_fd()
    }

    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.read.poll_read_ready(cx))?.retain_ready();
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let write = match &mut self.write {
            Some(write) => write,
            none => {
                let fd = register(self.read.get_ref().try_clone()?, Interest::WRITABLE)?;
                none.insert(Writable { fd, sends: 0 })
            }
        };
        write.sends = 0;
        ready!(write.fd.poll_write_ready(cx))?.retain_ready();
        Poll::Ready(Ok(()))
    }

    /// Runs `receive`, which says how many buffers of those `offered` it filled.
    pub(super) fn try_read(
        &self,
        offered: usize,
        receive: impl FnOnce(UdpSockRef<'_>) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut filled = 0;
        let result = self.read.try_io(Interest::READABLE, |socket| {
            filled = receive(socket.into())?;
            // A call of Linux that could have taken more has found the queue empty. To say so here saves the call that
            // only finds that out; what arrives from now on is a new event.
            let drained = cfg!(target_os = "linux") && filled < offered;
            if drained {
                Err(io::ErrorKind::WouldBlock.into())
            } else {
                Ok(())
            }
        });
        match result {
            Err(error) if filled == 0 => Err(error),
            _ => Ok(filled),
        }
    }

    pub(super) fn try_write<R>(&mut self, send: impl FnOnce(&StdUdpSocket) -> io::Result<R>) -> io::Result<R> {
        let Some(write) = &mut self.write else {
            return send(self.io());
        };
        let result = write.fd.try_io(Interest::WRITABLE, send);
        write.sends += 1;
        if write.sends == CALM {
            self.write = None;
        }
        result
    }
}

#[expect(
    deprecated,
    reason = "the constructor that replaces it is unsafe; a `UdpSocket` keeps its descriptor open"
)]
fn register(socket: StdUdpSocket, interest: Interest) -> io::Result<AsyncFd<StdUdpSocket>> {
    AsyncFd::with_interest(socket, interest)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    fn pair() -> (ReadySocket, StdUdpSocket) {
        let ours = StdUdpSocket::bind("127.0.0.1:0").unwrap();
        let theirs = StdUdpSocket::bind("127.0.0.1:0").unwrap();
        ours.set_nonblocking(true).unwrap();
        ours.connect(theirs.local_addr().unwrap()).unwrap();
        theirs.connect(ours.local_addr().unwrap()).unwrap();
        (ReadySocket::new(ours).unwrap(), theirs)
    }

    /// Reads into one of two buffers.
    fn read(socket: &ReadySocket) -> io::Result<usize> {
        let mut buf = [0; 10];
        socket.try_read(2, |_| socket.read.get_ref().recv(&mut buf).map(|_| 1))
    }

    #[tokio::test]
    async fn each_datagram_makes_a_drained_socket_readable_again() {
        let (ours, theirs) = pair();
        for n in 0..100 {
            theirs.send(&[n]).unwrap();
            let readable = tokio::time::timeout(Duration::from_secs(5), poll_fn(|cx| ours.poll_readable(cx)));
            readable.await.expect("it is readable").unwrap();
            assert_eq!(read(&ours).unwrap(), 1);
            assert_eq!(read(&ours).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        }
    }

    #[tokio::test]
    async fn a_datagram_that_comes_while_the_socket_is_read_is_not_forgotten() {
        let (ours, theirs) = pair();
        theirs.send(&[1]).unwrap();
        poll_fn(|cx| ours.poll_readable(cx)).await.unwrap();
        let mut buf = [0; 10];
        let filled = ours.try_read(2, |_| {
            let read = ours.read.get_ref().recv(&mut buf);
            theirs.send(&[2]).unwrap();
            read.map(|_| 1)
        });
        assert_eq!(filled.unwrap(), 1);
        let readable = tokio::time::timeout(Duration::from_secs(5), poll_fn(|cx| ours.poll_readable(cx)));
        readable.await.expect("it is readable").unwrap();
        assert_eq!(read(&ours).unwrap(), 1);
    }

    #[tokio::test]
    async fn the_reactor_is_asked_about_writing_only_for_a_while() {
        let (mut ours, theirs) = pair();
        let send = |_: &StdUdpSocket| Ok(());
        ours.try_write(send).unwrap();
        assert!(ours.write.is_none());
        let full = ours
            .try_write::<()>(|_| Err(io::ErrorKind::WouldBlock.into()))
            .unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        poll_fn(|cx| ours.poll_writable(cx)).await.unwrap();
        for _ in 1..CALM {
            ours.try_write(send).unwrap();
            assert!(ours.write.is_some());
        }
        ours.try_write(send).unwrap();
        assert!(ours.write.is_none());
        ours.read.get_ref().send(&[3]).unwrap();
        assert_eq!(theirs.recv(&mut [0; 10]).unwrap(), 1);
    }
}
