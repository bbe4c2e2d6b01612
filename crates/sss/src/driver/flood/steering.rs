//! The second socket, and where the kernel puts what.
//!
//! Sockets that share a port by `SO_REUSEPORT` are a group, and a program says to which of them a datagram goes
//! ([`steering`](crate::driver::steering)). The first socket is bound without that option, and
//! joins the group when the second is bound. The kernel looks at the option for each datagram, so that both keep it as
//! long as there are two: meanwhile whoever binds the same port without the option fails as ever. With it, a process of
//! the same user does not fail, and gets nothing: the program names the two sockets that were there first.
//!
//! A greeting without a token gets RETRY, for which its first bytes are enough: a filter of the second socket
//! (`SO_ATTACH_FILTER`) cuts it, so that a flood's bytes are not copied. The filter also drops greetings of a wrong
//! size, so that what is cut is known to have had the right one.

use std::io;
use std::net::UdpSocket as StdUdpSocket;
use std::os::fd::{AsFd, BorrowedFd};

use nix::libc::{self, sock_filter};
use quinn_udp::UdpSocketState;
use rustix::net::sockopt::set_socket_reuseport;
use socket2::SockFilter;
use sss_proto::Greeter;
use sss_wire::long;

use crate::driver::socket::{self, Socket};
use crate::driver::steering::{ANSWER, BYTE, attach, instruction, jump};

/// The second socket, set up as the first one is.
pub(super) struct Second {
    pub(super) io: StdUdpSocket,
    pub(super) state: UdpSocketState,
    /// Set if addresses of IPv4 are to be written as ones of IPv6.
    pub(super) is_ipv6: bool,
    /// Set if greetings without a token are cut to their header, and come only if they had the right size.
    pub(super) cuts: bool,
}

impl Second {
    /// Binds a second socket to the address of the first one, and has greetings put into it.
    ///
    /// # Errors
    /// If the system does not let it. Then the first one is as it was.
    pub(super) fn open(first: &Socket) -> io::Result<Self> {
        let address = first.local_addr();
        let raw = socket::unbound(address, first.buffers())?;
        let state = socket::offload(&raw)?;
        let cuts = raw.attach_filter(&cutting()).is_ok();
        set_socket_reuseport(&raw, true)?;
        set_socket_reuseport(first.fd(), true)?;
        let steered = raw.bind(&address.into()).and_then(|()| attach(raw.as_fd(), GREETINGS));
        if let Err(error) = steered {
            leave(first.fd())?;
            return Err(error);
        }
        Ok(Self {
            io: raw.into(),
            state,
            is_ipv6: address.is_ipv6(),
            cuts,
        })
    }

    /// Has everything put into the first socket again.
    pub(super) fn unsteer(&self) -> io::Result<()> {
        attach(self.io.as_fd(), ALL)
    }
}

/// The first socket is to be alone.
pub(super) fn leave(first: BorrowedFd<'_>) -> io::Result<()> {
    Ok(set_socket_reuseport(first, false)?)
}

/// The first bytes of HELLO and HELLO_K, which differ in the last bit.
const FIRST: u32 = long::Kind::Hello as u32;

/// Greetings to the second socket of the group, by the first byte of the UDP payload. One without any ends the program,
/// and that is an answer: the first.
const GREETINGS: &[sock_filter] = &[
    instruction(BYTE, 0),
    instruction(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0xfe),
    jump(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, (0, 1), FIRST),
    instruction(ANSWER, 1),
    instruction(ANSWER, 0),
];

/// Everything to the first socket of the group.
const ALL: &[sock_filter] = &[instruction(ANSWER, 0)];

/// Cuts greetings without a token to their header, drops those that are shorter than they must be, and lets everything
/// else pass: also several that the kernel has joined to one. It sees the UDP header before the payload.
fn cutting() -> [SockFilter; 20] {
    const UDP: u32 = 8;
    const SIZE: u32 = UDP + long::HELLO_SIZE as u32;
    const TOKEN: u32 = UDP + long::PREFIX as u32;
    let plain = |code: u32, k| SockFilter::new(code as u16, 0, 0, k);
    let word = |at| plain(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at);
    let keep = || plain(libc::BPF_MISC | libc::BPF_TAX, 0);
    let or = || plain(libc::BPF_ALU | libc::BPF_OR | libc::BPF_X, 0);
    let jump = |kind: u32, yes, no, k| SockFilter::new((libc::BPF_JMP | kind | libc::BPF_K) as u16, yes, no, k);
    let bytes = |bytes| plain(libc::BPF_RET | libc::BPF_K, bytes);
    [
        plain(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, UDP),
        plain(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0xfe),
        jump(libc::BPF_JEQ, 0, 14, FIRST),
        plain(libc::BPF_LD | libc::BPF_W | libc::BPF_LEN, 0),
        jump(libc::BPF_JGT, 12, 0, SIZE),
        jump(libc::BPF_JEQ, 0, 13, SIZE),
        word(TOKEN),
        keep(),
        word(TOKEN + 4),
        or(),
        keep(),
        word(TOKEN + 8),
        or(),
        keep(),
        word(TOKEN + 12),
        or(),
        jump(libc::BPF_JEQ, 1, 0, 0),
        bytes(u32::MAX),
        bytes(UDP + Greeter::HEADER as u32),
        bytes(0),
    ]
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
            sender.send_to(&[first; long::HELLO_SIZE], to).unwrap();
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

    // Threats 1 and 2.
    // spec: NEG-2
    #[tokio::test]
    async fn threat_02_a_greeting_without_a_token_is_cut_and_one_of_a_wrong_size_does_not_arrive() {
        let first = Socket::new(socket::bind("127.0.0.1:0".parse().unwrap(), 1 << 20).unwrap()).unwrap();
        let second = Second::open(&first).unwrap();
        assert!(second.cuts);
        let sender = StdUdpSocket::bind("127.0.0.1:0").unwrap();
        let lengths = |packet: &[u8]| {
            sender.send_to(packet, first.local_addr()).unwrap();
            let mut received = [0; 2000];
            let mut lengths = Vec::new();
            while let Ok(n) = second.io.recv(&mut received) {
                assert_eq!(received[..n], packet[..n]);
                lengths.push(n);
            }
            lengths
        };
        for kind in [0x80, 0x81] {
            let mut packet = [7; 1232];
            packet[0] = kind;
            packet[13..29].fill(0);
            assert_eq!(lengths(&packet), [Greeter::HEADER]);
            for wrong in [1, 13, Greeter::HEADER, 64, 1231] {
                assert_eq!(lengths(&packet[..wrong]), [0; 0], "{wrong}");
            }
            for at in 13..29 {
                packet[at] = 1;
                assert_eq!(lengths(&packet), [1232], "a token at {at}");
                packet[at] = 0;
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
