//! Addresses as bytes: 16 of IPv6 (IPv4 as IPv4-mapped), and the port (RCH-1).

use std::net::{IpAddr, SocketAddr};

use crate::error::Malformed;
use crate::reader::Reader;

/// Length of an address and its port, in bytes.
pub const ADDRESS: usize = 18;

/// The bytes of an address.
pub fn address_bytes(address: SocketAddr) -> [u8; ADDRESS] {
    let ip = match address.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let mut out = [0; ADDRESS];
    let (to_ip, to_port) = out.split_at_mut(16);
    to_ip.copy_from_slice(&ip.octets());
    to_port.copy_from_slice(&address.port().to_be_bytes());
    out
}

/// Reads an address: one of IPv4 if it is mapped.
///
/// # Errors
/// If its bytes are not all there.
pub fn address(reader: &mut Reader<'_>) -> Result<SocketAddr, Malformed> {
    let ip = IpAddr::from(reader.array::<16>()?).to_canonical();
    Ok(SocketAddr::new(ip, reader.u16()?))
}
