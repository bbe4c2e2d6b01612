//! The second socket, and where the kernel puts what.
//!
//! Sockets that share a port by `SO_REUSEPORT` are a group, and a program of the classic BPF says to which of them a
//! datagram goes (socket(7), `SO_ATTACH_REUSEPORT_CBPF`; Linux 4.5). The first socket is bound without that option, and
//! joins the group when the second is bound. The kernel looks at the option for each datagram, so that both keep it as
//! long as there are two: meanwhile whoever binds the same port without the option fails as ever. With it, a process of
//! the same user does not fail, and gets nothing: the program names the two sockets that were there first.

use std::io;
use std::net::UdpSocket as StdUdpSocket;
use std::os::fd::{AsFd, BorrowedFd};

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt::AttachReusePortCbpf};
use quinn_udp::{UdpSockRef, UdpSocketState};
use rustix::net::sockopt::set_socket_reuseport;

use crate::driver::socket::{self, Socket};

/// The second socket, set up as the first one is.
pub(super) struct Second {
    pub(super) io: StdUdpSocket,
    pub(super) state: UdpSocketState,
    /// Set if addresses of IPv4 are to be written as ones of IPv6.
    pub(super) is_ipv6: bool,
}

impl Second {
    /// Binds a second socket to the address of the first one, and has greetings put into it.
    ///
    /// # Errors
    /// If the system does not let it. Then the first one is as it was.
    pub(super) fn open(first: &Socket) -> io::Result<Self> {
        let address = first.local_addr();
        let raw = socket::unbound(address, first.buffers())?;
        let state = UdpSocketState::new(UdpSockRef::from(&raw))?;
        set_socket_reuseport(&raw, true)?;
        set_socket_reuseport(first.fd(), true)?;
        let steered = raw.bind(&address.into()).and_then(|()| steer(raw.as_fd(), GREETINGS));
        if let Err(error) = steered {
            leave(first.fd())?;
            return Err(error);
        }
        Ok(Self {
            io: raw.into(),
            state,
            is_ipv6: address.is_ipv6(),
        })
    }

    /// Has everything put into the first socket again.
    pub(super) fn unsteer(&self) -> io::Result<()> {
        steer(self.io.as_fd(), ALL)
    }
}

/// The first socket is to be alone.
pub(super) fn leave(first: BorrowedFd<'_>) -> io::Result<()> {
    Ok(set_socket_reuseport(first, false)?)
}

const fn instruction(code: u32, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf,
        k,
    }
}

/// The first bytes of HELLO and HELLO_K, which differ in the last bit.
const FIRST: u32 = sss_wire::long::Kind::Hello as u32;

/// Greetings to the second socket of the group, by the first byte of the UDP payload. One without any ends the program,
/// and that is an answer: the first.
const GREETINGS: &[libc::sock_filter] = &[
    instruction(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0),
    instruction(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0xfe),
    instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, FIRST),
    instruction(libc::BPF_RET | libc::BPF_K, 0, 1),
    instruction(libc::BPF_RET | libc::BPF_K, 0, 0),
];

/// Everything to the first socket of the group.
const ALL: &[libc::sock_filter] = &[instruction(libc::BPF_RET | libc::BPF_K, 0, 0)];

fn steer(group: BorrowedFd<'_>, program: &[libc::sock_filter]) -> io::Result<()> {
    let mut program = program.to_vec();
    let described = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(io::Error::other)?,
        // The kernel copies it.
        filter: program.as_mut_ptr(),
    };
    Ok(setsockopt(&group, AttachReusePortCbpf, &described)?)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};

    use super::*;
    use crate::error::BuildError;

    fn first_bytes(socket: &StdUdpSocket) -> Vec<u8> {
        let mut datagram = [0; 100];
        let mut received = Vec::new();
        while let Ok(n) = socket.recv(&mut datagram) {
            received.push(if n == 0 { 0 } else { datagram[0] });
        }
        received.sort_unstable();
        received
    }

    fn send(to: SocketAddr) {
        let sender = StdUdpSocket::bind((if to.is_ipv4() { "127.0.0.1" } else { "::1" }, 0)).unwrap();
        for first in [0x80, 0x81, 0x82, 0x86, 0x40, 0xc0, 0x01] {
            sender.send_to(&[first; 50], to).unwrap();
        }
        sender.send_to(&[], to).unwrap();
    }

    /// As another user of the same port would. True if it is refused.
    fn is_taken(address: SocketAddr) -> bool {
        match socket::bind(address, 1 << 16) {
            Err(BuildError::PortInUse { .. }) => true,
            Err(error) => panic!("{error}"),
            Ok(_) => false,
        }
    }

    const GREETED: [u8; 2] = [0x80, 0x81];
    const OTHERS: [u8; 6] = [0, 0x01, 0x40, 0x82, 0x86, 0xc0];
    const EVERYTHING: [u8; 8] = [0, 0x01, 0x40, 0x80, 0x81, 0x82, 0x86, 0xc0];

    // Threat 2.
    #[tokio::test]
    async fn threat_02_greetings_go_to_the_second_socket_and_nobody_else_gets_the_port() {
        for (bound, senders) in [
            ("127.0.0.1:0", &["127.0.0.1"][..]),
            ("0.0.0.0:0", &["127.0.0.1", "127.0.0.2"]),
            ("[::1]:0", &["::1"]),
            ("[::]:0", &["::1", "127.0.0.1"]),
        ] {
            let Ok(first) = socket::bind(bound.parse().unwrap(), 1 << 20) else {
                eprintln!("SKIPPED: {bound} cannot be bound here");
                continue;
            };
            let ours = first.io().try_clone().unwrap();
            let first = Socket::new(first).unwrap();
            let address = first.local_addr();
            let targets = senders
                .iter()
                .map(|ip| SocketAddr::new(ip.parse::<IpAddr>().unwrap(), address.port()));
            let targets: Vec<SocketAddr> = targets.collect();
            for _ in 0..2 {
                let second = Second::open(&first).unwrap();
                assert!(is_taken(address), "{bound}");
                for target in &targets {
                    send(*target);
                    assert_eq!(first_bytes(&second.io), GREETED, "{bound} {target}");
                    assert_eq!(first_bytes(&ours), OTHERS, "{bound} {target}");
                }
                // Whoever asks for a share of the port, as the same user, is given no datagram.
                let third = socket::unbound(address, 1 << 16).unwrap();
                set_socket_reuseport(&third, true).unwrap();
                if third.bind(&address.into()).is_ok() {
                    targets.iter().for_each(|target| send(*target));
                    assert_eq!(first_bytes(&third.into()), []);
                    first_bytes(&second.io);
                    first_bytes(&ours);
                }
                second.unsteer().unwrap();
                for target in &targets {
                    send(*target);
                    assert_eq!(first_bytes(&second.io), [], "{bound} {target}");
                    assert_eq!(first_bytes(&ours), EVERYTHING, "{bound} {target}");
                }
                drop(second);
                leave(first.fd()).unwrap();
                assert!(is_taken(address), "{bound}");
                let third = socket::unbound(address, 1 << 16).unwrap();
                set_socket_reuseport(&third, true).unwrap();
                assert!(third.bind(&address.into()).is_err(), "{bound}");
                for target in &targets {
                    send(*target);
                    assert_eq!(first_bytes(&ours), EVERYTHING, "{bound} {target}");
                }
            }
        }
    }

    #[tokio::test]
    async fn a_second_socket_that_cannot_be_had_leaves_the_first_as_it_was() {
        let mut first = Socket::new(socket::bind("127.0.0.1:0".parse().unwrap(), 1 << 16).unwrap()).unwrap();
        let bound = first.local_addr();
        first.pretend_to_be_at("192.0.2.1:9".parse().unwrap());
        assert!(Second::open(&first).is_err());
        let third = socket::unbound(bound, 1 << 16).unwrap();
        set_socket_reuseport(&third, true).unwrap();
        assert!(third.bind(&bound.into()).is_err());
    }
}
