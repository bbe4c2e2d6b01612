//! Programs by which the kernel puts datagrams into one of the sockets that share a port: classic BPF (socket(7),
//! `SO_ATTACH_REUSEPORT_CBPF`; Linux 4.5).

use std::io;
use std::os::fd::BorrowedFd;

use nix::libc::{self, sock_filter, sock_fprog};
use nix::sys::socket::{setsockopt, sockopt::AttachReusePortCbpf};

/// Loads a byte of the UDP payload. Where there is none, the program ends and answers 0.
pub(super) const BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
/// Answers a number.
pub(super) const ANSWER: u32 = libc::BPF_RET | libc::BPF_K;

pub(super) const fn instruction(code: u32, k: u32) -> sock_filter {
    jump(code, (0, 0), k)
}

/// One that goes on so many instructions further, if what it asks for is so, and if it is not.
pub(super) const fn jump(code: u32, (jt, jf): (u8, u8), k: u32) -> sock_filter {
    sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    }
}

/// Has a program decide for the group that a socket belongs to.
pub(super) fn attach(group: BorrowedFd<'_>, program: &[sock_filter]) -> io::Result<()> {
    let mut program = program.to_vec();
    let described = sock_fprog {
        len: u16::try_from(program.len()).map_err(io::Error::other)?,
        // The kernel copies it.
        filter: program.as_mut_ptr(),
    };
    Ok(setsockopt(&group, AttachReusePortCbpf, &described)?)
}
