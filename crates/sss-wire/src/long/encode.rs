//! Making long packets. They are few: each is a vector of its own.

use super::{
    ACCEPT_HEADER, BASE_DATAGRAM, HELLO_K_SIZE, HELLO_SIZE, KEM_CIPHERTEXT, KEM_KEY, Kind, PREFIX, PROBE_SIZE, TAG,
};
use crate::{Eid, Kem};

/// Bytes of INITIATE that are neither cookies nor frames.
const INITIATE_FIXED: usize = PREFIX + 1 + 2 + 48 + TAG;
/// The longest cookie for which COOKIE_K stays smaller than HELLO_K (NEG-3), in bytes.
const MAX_KEM_COOKIE: usize = HELLO_K_SIZE - 1 - PREFIX - KEM_CIPHERTEXT - 1 - TAG;

fn prefix(kind: Kind, version: u32, attempt: &[u8; 8], size: usize) -> Vec<u8> {
    let mut packet = Vec::with_capacity(size);
    packet.push(kind as u8);
    packet.extend_from_slice(&version.to_be_bytes());
    packet.extend_from_slice(attempt);
    packet
}

/// HELLO. `noise` is Noise message 1 over a payload of [`HELLO_PAYLOAD`](super::HELLO_PAYLOAD) bytes; `token` is
/// zeros at first.
pub fn hello(version: u32, attempt: &[u8; 8], token: &[u8; 16], noise: &[u8]) -> Vec<u8> {
    let mut packet = prefix(Kind::Hello, version, attempt, HELLO_SIZE);
    packet.extend_from_slice(token);
    packet.extend_from_slice(noise);
    debug_assert_eq!(packet.len(), HELLO_SIZE);
    packet
}

/// A HELLO that is introduced (RCH-11): its payload may be short.
pub fn short_hello(version: u32, attempt: &[u8; 8], noise: &[u8]) -> Vec<u8> {
    let mut packet = prefix(Kind::Hello, version, attempt, (PREFIX + 16).saturating_add(noise.len()));
    packet.extend_from_slice(&[0; 16]);
    packet.extend_from_slice(noise);
    packet
}

/// HELLO_K of ML-KEM-768. `hello` is the name of the HELLO that it goes with (NEG-30); `token` is zeros at first.
pub fn hello_k(version: u32, attempt: &[u8; 8], token: &[u8; 16], hello: &[u8; 16], key: &[u8; KEM_KEY]) -> Vec<u8> {
    let mut packet = prefix(Kind::HelloK, version, attempt, HELLO_K_SIZE);
    packet.extend_from_slice(token);
    packet.extend_from_slice(hello);
    packet.push(Kem::MlKem768 as u8);
    packet.extend_from_slice(key);
    packet.resize(HELLO_K_SIZE, 0);
    packet
}

/// Replaces the token of a HELLO or HELLO_K in place (NEG-12). Does nothing to a packet that is too short to have one.
pub fn set_token(hello: &mut [u8], token: &[u8; 16]) {
    if let Some(to) = hello.get_mut(PREFIX..).and_then(|tail| tail.first_chunk_mut()) {
        *to = *token;
    }
}

/// The token of a HELLO or HELLO_K. `None` if the packet is too short to have one.
pub fn token(hello: &[u8]) -> Option<&[u8; 16]> {
    hello.get(PREFIX..)?.first_chunk()
}

/// RETRY.
pub fn retry(version: u32, attempt: &[u8; 8], token: &[u8; 16]) -> Vec<u8> {
    let mut packet = prefix(Kind::Retry, version, attempt, super::RETRY_SIZE);
    packet.extend_from_slice(token);
    packet
}

/// VERSION, naming the first 255 of `versions` (NEG-13).
pub fn version(attempt: &[u8; 8], versions: &[u32]) -> Vec<u8> {
    let versions = versions.get(..255).unwrap_or(versions);
    let mut packet = prefix(Kind::Version, 0, attempt, BASE_DATAGRAM);
    packet.push(versions.len() as u8);
    packet.extend(versions.iter().flat_map(|v| v.to_be_bytes()));
    packet
}

/// COOKIE up to its mac, which is made over these bytes and appended. `noise` is Noise message 2; `cookie` has at
/// most 255 bytes.
pub fn cookie_without_mac(version: u32, attempt: &[u8; 8], noise: &[u8], cookie: &[u8]) -> Vec<u8> {
    debug_assert!(noise.len() >= 32 && cookie.len() <= 0xff);
    let mut packet = prefix(Kind::Cookie, version, attempt, BASE_DATAGRAM);
    let (e, sealed) = noise.split_at_checked(32).unwrap_or((noise, &[]));
    packet.extend_from_slice(e);
    packet.extend_from_slice(&(sealed.len() as u16).to_be_bytes());
    packet.extend_from_slice(sealed);
    packet.push(cookie.len() as u8);
    packet.extend_from_slice(cookie);
    packet
}

/// COOKIE_K up to its mac, which is made over these bytes and more (NEG-32), and appended. `cookie` has at most
/// 113 bytes.
pub fn cookie_k_without_mac(
    version: u32,
    attempt: &[u8; 8],
    ciphertext: &[u8; KEM_CIPHERTEXT],
    cookie: &[u8],
) -> Vec<u8> {
    debug_assert!(cookie.len() <= MAX_KEM_COOKIE);
    let mut packet = prefix(Kind::CookieK, version, attempt, BASE_DATAGRAM);
    packet.extend_from_slice(ciphertext);
    packet.push(cookie.len() as u8);
    packet.extend_from_slice(cookie);
    packet
}

/// INITIATE. `kem` is the cookie of the post-quantum leg, empty without one; `noise` is Noise message 3: the static
/// key and the frames, sealed.
pub fn initiate(version: u32, attempt: &[u8; 8], cookie: &[u8], kem: &[u8], noise: &[u8]) -> Vec<u8> {
    debug_assert!(cookie.len() <= 0xff && kem.len() <= BASE_DATAGRAM);
    let mut packet = prefix(Kind::Initiate, version, attempt, BASE_DATAGRAM);
    packet.push(cookie.len() as u8);
    packet.extend_from_slice(cookie);
    packet.extend_from_slice(&(kem.len() as u16).to_be_bytes());
    packet.extend_from_slice(kem);
    packet.extend_from_slice(noise);
    debug_assert!(packet.len() <= BASE_DATAGRAM);
    packet
}

/// Room for frames in INITIATE with cookies of these lengths, in bytes.
pub const fn initiate_room(cookie_len: usize, kem_len: usize) -> usize {
    BASE_DATAGRAM
        .saturating_sub(INITIATE_FIXED)
        .saturating_sub(cookie_len)
        .saturating_sub(kem_len)
}

/// The first 45 bytes of ACCEPT, which are authenticated with its frames (PRT-1).
pub fn accept_header(version: u32, attempt: &[u8; 8], nonce: &[u8; 32]) -> Vec<u8> {
    let mut packet = prefix(Kind::Accept, version, attempt, BASE_DATAGRAM);
    packet.extend_from_slice(nonce);
    debug_assert_eq!(packet.len(), ACCEPT_HEADER);
    packet
}

/// ACCEPT. `sealed` are its frames, sealed with [`accept_header`] as associated data.
pub fn accept(version: u32, attempt: &[u8; 8], nonce: &[u8; 32], sealed: &[u8]) -> Vec<u8> {
    let mut packet = accept_header(version, attempt, nonce);
    packet.extend_from_slice(sealed);
    debug_assert!(packet.len() <= BASE_DATAGRAM);
    packet
}

/// PROBE of the present version.
pub fn probe(nonce: &[u8; 8]) -> Vec<u8> {
    let mut packet = prefix(Kind::Probe, crate::constants::VERSION, nonce, PROBE_SIZE);
    packet.resize(PROBE_SIZE, 0);
    packet
}

/// PROBE_REPLY of the present version.
pub fn probe_reply(nonce: &[u8; 8], eid: &Eid) -> Vec<u8> {
    let version = crate::constants::VERSION;
    let mut packet = prefix(Kind::ProbeReply, version, nonce, super::PROBE_REPLY_SIZE);
    packet.extend_from_slice(eid.as_bytes());
    packet
}
