//! The few fields of IP headers that a link or a router looks at. Nothing here panics, whatever the bytes are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The address a packet is for; `None` if it is no IP packet.
pub(crate) fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => {
            let octets: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
            Some(Ipv4Addr::from(octets).into())
        }
        6 => {
            let octets: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
            Some(Ipv6Addr::from(octets).into())
        }
        _ => None,
    }
}

/// Takes one hop from what a packet may still go; false if there is none left.
pub(crate) fn hop(packet: &mut [u8]) -> bool {
    let Some(version) = packet.first().map(|byte| byte >> 4) else {
        return false;
    };
    let field = if version == 4 { 8 } else { 7 };
    match packet.get_mut(field) {
        Some(left) if *left > 1 => *left -= 1,
        _ => return false,
    }
    if version == 4 {
        sum_header(packet);
    }
    true
}

/// Marks a packet with CE if its sender allows it (RFC 3168, section 5).
pub(crate) fn mark(packet: &mut [u8]) {
    let [first, second, ..] = packet else {
        return;
    };
    match *first >> 4 {
        4 if *second & 3 != 0 => {
            *second |= 3;
            sum_header(packet);
        }
        6 if *second & 0x30 != 0 => *second |= 0x30,
        _ => {}
    }
}

/// Writes the checksum of an IPv4 header (RFC 1071).
fn sum_header(packet: &mut [u8]) {
    let length = packet.first().map_or(0, |byte| usize::from(byte & 15) * 4);
    let Some(header) = packet.get_mut(..length).filter(|header| header.len() >= 20) else {
        return;
    };
    header[10..12].fill(0);
    let words = header
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    header[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header with the checksum that the kernel gave it.
    const PING: [u8; 20] = [
        0x45, 0x00, 0x00, 0x54, 0x59, 0xfe, 0x40, 0x00, 0x40, 0x01, 0xe2, 0xa8, 0x7f, 0, 0, 1, 0x7f, 0, 0, 1,
    ];

    #[test]
    fn checksums_are_those_of_the_kernel() {
        let mut packet = PING;
        packet[10..12].fill(0);
        sum_header(&mut packet);
        assert_eq!(packet, PING);
        assert!(hop(&mut packet));
        assert_eq!((packet[8], &packet[10..12]), (0x3f, &[0xe3, 0xa8][..]));
    }

    #[test]
    fn a_packet_without_hops_left_goes_nowhere() {
        let mut packet = PING;
        packet[8] = 1;
        assert!(!hop(&mut packet));
        let mut six = [0x60; 40];
        six[7] = 2;
        assert!(hop(&mut six) && six[7] == 1);
        assert!(!hop(&mut six));
    }

    #[test]
    fn only_who_allows_it_is_marked() {
        let mut packet = PING;
        mark(&mut packet);
        assert_eq!(packet, PING);
        packet[1] = 2;
        mark(&mut packet);
        assert_eq!(packet[1], 3);
        let mut six = [0u8; 40];
        six[0] = 0x60;
        mark(&mut six);
        assert_eq!(six[1], 0);
        six[1] = 0x10;
        mark(&mut six);
        assert_eq!(six[1], 0x30);
    }

    #[test]
    fn any_bytes_are_borne() {
        for first in [0x00, 0x40, 0x45, 0x4f, 0x60] {
            for length in 0..50 {
                let mut packet = vec![first; length];
                let _ = destination(&packet);
                hop(&mut packet);
                mark(&mut packet);
            }
        }
    }
}
