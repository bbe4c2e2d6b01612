//! Short packets: their header, its masking, and the truncation of sequence numbers
//! (docs/spec/protection.md, "Short packets").
//!
//! ```text
//!  first u8 | channel id | sequence number, 1 to 4 bytes | sealed frames ..
//! ```

use crate::ChannelId;
use crate::constants::MAX_CHANNEL_ID;
use crate::error::{Malformed, TRUNCATED};
use crate::varint::total;
use crate::writer::Writer;

/// The two high bits of a short packet's first byte have this value.
pub const FIXED: u8 = 0x40;
/// The bits of the first byte that are zero in this version.
pub const RESERVED: u8 = 0x38;
/// The bit of the first byte that is the low bit of the key generation.
pub const KEY_PHASE: u8 = 0x04;
/// The bits of the first byte that are the length of the sequence number less one.
pub const SEQUENCE_LEN: u8 = 0x03;
/// The bits of the first byte that are masked (PRT-3).
pub const MASKED: u8 = 0x1f;
/// Longest encoding of a sequence number, in bytes.
pub const MAX_SEQUENCE_LEN: usize = 4;
/// Length of the sample from which the mask is made, in bytes.
pub const SAMPLE: usize = 16;
/// Length of the tag at a packet's end, in bytes.
pub const TAG: usize = 16;

/// A header without its mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The low bit of the key generation.
    pub key_phase: bool,
    /// The channel, as its receiver calls it.
    pub channel_id: ChannelId,
    /// The sequence number, truncated: see [`recover_sequence`].
    pub sequence: u32,
    /// Bytes of the sequence number on the wire, 1 to 4.
    pub sequence_len: usize,
}

impl Header {
    /// Reads the header of a packet whose header is not masked, with a channel id of `id_len` bytes.
    ///
    /// The bits of [`RESERVED`] are not looked at: that may be done only once the packet was opened, see
    /// [`has_reserved_bits`].
    ///
    /// # Errors
    /// If the packet is not a short one, or too short to hold a sample.
    #[inline]
    pub fn decode(packet: &[u8], id_len: usize) -> Result<Self, Malformed> {
        let (first, sequence) = fields(packet, id_len)?;
        let id = packet.get(1..sequence_offset(id_len)).ok_or(TRUNCATED)?;
        let [a, b, c, d] = *sequence;
        let (sequence, sequence_len) = match first & SEQUENCE_LEN {
            0 => (u32::from(a), 1),
            1 => (u32::from_be_bytes([0, 0, a, b]), 2),
            2 => (u32::from_be_bytes([0, a, b, c]), 3),
            _ => (u32::from_be_bytes([a, b, c, d]), 4),
        };
        Ok(Self {
            key_phase: first & KEY_PHASE != 0,
            channel_id: ChannelId::new(id)?,
            sequence,
            sequence_len,
        })
    }

    /// Bytes of the header: the first byte, the channel id and the sequence number.
    #[inline]
    pub fn encoded_len(&self) -> usize {
        header_len(self.channel_id.len(), self.sequence_len)
    }
}

/// The first byte of a short packet, and the four bytes of which the first are its sequence number.
#[inline]
fn fields(packet: &[u8], id_len: usize) -> Result<(u8, &[u8; MAX_SEQUENCE_LEN]), Malformed> {
    let first = *packet.first().ok_or(TRUNCATED)?;
    if first & 0xc0 != FIXED {
        return Err(Malformed("not a short packet"));
    }
    if !(1..=MAX_CHANNEL_ID).contains(&id_len) {
        return Err(Malformed("a channel id has 1 to 20 bytes"));
    }
    let tail = packet.get(sequence_offset(id_len)..).ok_or(TRUNCATED)?;
    if tail.len() < MAX_SEQUENCE_LEN.saturating_add(SAMPLE) {
        return Err(Malformed("a short packet without a sample"));
    }
    let sequence = tail.first_chunk().ok_or(TRUNCATED)?;
    Ok((first, sequence))
}

/// Writes a header, not masked. `sequence_len` of it is 1 to 4.
#[inline]
pub fn write_header(w: &mut Writer<'_>, header: &Header) {
    debug_assert!((1..=MAX_SEQUENCE_LEN).contains(&header.sequence_len));
    let phase = if header.key_phase { KEY_PHASE } else { 0 };
    let len_bits = header.sequence_len.saturating_sub(1) as u8 & SEQUENCE_LEN;
    w.u8(FIXED | phase | len_bits);
    w.bytes(header.channel_id.as_slice());
    let [a, b, c, d] = header.sequence.to_be_bytes();
    match len_bits {
        0 => w.u8(d),
        1 => w.bytes(&[c, d]),
        2 => w.bytes(&[b, c, d]),
        _ => w.bytes(&[a, b, c, d]),
    }
}

/// Returns where the sequence number begins, in bytes from the start of the packet.
#[inline]
pub const fn sequence_offset(id_len: usize) -> usize {
    id_len.saturating_add(1)
}

/// Returns where the sample begins, in bytes from the start of the packet (PRT-3).
#[inline]
pub const fn sample_offset(id_len: usize) -> usize {
    sequence_offset(id_len).saturating_add(MAX_SEQUENCE_LEN)
}

/// The length of a header, in bytes.
#[inline]
pub const fn header_len(id_len: usize, sequence_len: usize) -> usize {
    sequence_offset(id_len).saturating_add(sequence_len)
}

/// The shortest short packet, in bytes: its sample just exists (PRT-3).
#[inline]
pub const fn min_packet_len(id_len: usize) -> usize {
    sample_offset(id_len).saturating_add(SAMPLE)
}

/// The fewest bytes of plaintext beside a sequence number of this length, so that a sample exists (PRT-3).
#[inline]
pub const fn min_plaintext_len(sequence_len: usize) -> usize {
    MAX_SEQUENCE_LEN.saturating_sub(sequence_len)
}

/// The sample of a sealed packet (PRT-3).
///
/// # Errors
/// If the packet is too short.
#[inline]
pub fn sample(packet: &[u8], id_len: usize) -> Result<&[u8; SAMPLE], Malformed> {
    let tail = packet.get(sample_offset(id_len)..).ok_or(TRUNCATED)?;
    tail.first_chunk().ok_or(TRUNCATED)
}

/// Masks the header of a sealed packet in place; the inverse of [`unmask`].
///
/// # Errors
/// If the packet is not a short one, or too short.
#[inline]
pub fn mask(packet: &mut [u8], id_len: usize, mask: &[u8; 5]) -> Result<(), Malformed> {
    let (first, _) = fields(packet, id_len)?;
    apply(packet, id_len, mask, first)
}

/// Removes the mask from the header of a packet in place, and reads it.
///
/// # Errors
/// If the packet is not a short one, or too short; it is then unchanged.
#[inline]
pub fn unmask(packet: &mut [u8], id_len: usize, mask: &[u8; 5]) -> Result<Header, Malformed> {
    let (first, _) = fields(packet, id_len)?;
    let [first_mask, ..] = mask;
    apply(packet, id_len, mask, first ^ (first_mask & MASKED))?;
    Header::decode(packet, id_len)
}

/// Combines header and mask. `clear` is the first byte without its mask, which says how many bytes are covered.
#[inline]
fn apply(packet: &mut [u8], id_len: usize, mask: &[u8; 5], clear: u8) -> Result<(), Malformed> {
    let [first_mask, sequence_mask @ ..] = mask;
    if let Some(first) = packet.first_mut() {
        *first ^= first_mask & MASKED;
    }
    let tail = packet.get_mut(sequence_offset(id_len)..).ok_or(TRUNCATED)?;
    let sequence: &mut [u8; MAX_SEQUENCE_LEN] = tail.first_chunk_mut().ok_or(TRUNCATED)?;
    let covered: u32 = match clear & SEQUENCE_LEN {
        0 => 0xff00_0000,
        1 => 0xffff_0000,
        2 => 0xffff_ff00,
        _ => 0xffff_ffff,
    };
    let masked = u32::from_be_bytes(*sequence) ^ (u32::from_be_bytes(*sequence_mask) & covered);
    *sequence = masked.to_be_bytes();
    Ok(())
}

/// Returns whether bits that are zero in this version are set in a first byte without its mask.
///
/// They may be looked at only once the packet was opened: before, an attacker could learn of the mask by the time
/// that dropping the packet takes (RFC 9001 section 9.5).
#[inline]
pub const fn has_reserved_bits(first: u8) -> bool {
    first & RESERVED != 0
}

/// Truncates `sequence` so that a receiver can recover it that has seen any number from `largest_acked` to
/// `sequence`: the low bytes, and how many of them are sent, 1 to 4 (RFC 9000 section A.2).
#[inline]
pub fn encode_sequence(sequence: u64, largest_acked: Option<u64>) -> (u32, usize) {
    let outstanding = match largest_acked {
        Some(acked) => sequence.saturating_sub(acked),
        None => sequence.saturating_add(1),
    };
    // The receiver's window is twice the range outstanding.
    let range = outstanding.max(1).saturating_mul(2).saturating_sub(1);
    match range {
        0..=0xff => ((sequence & 0xff) as u32, 1),
        0x100..=0xffff => ((sequence & 0xffff) as u32, 2),
        0x1_0000..=0xff_ffff => ((sequence & 0xff_ffff) as u32, 3),
        _ => (sequence as u32, 4),
    }
}

/// The number nearest to `expected_next` (the highest number received, plus 1) that ends in the low `len` bytes
/// of `truncated` (RFC 9000 section A.3). `len` is 1 to 4.
#[inline]
pub const fn recover_sequence(truncated: u32, len: usize, expected_next: u64) -> u64 {
    let window: u64 = match len {
        0 | 1 => 1 << 8,
        2 => 1 << 16,
        3 => 1 << 24,
        _ => 1 << 32,
    };
    let half = window >> 1;
    let low = window.wrapping_sub(1);
    let candidate = (expected_next & !low) | (truncated as u64 & low);
    let end = crate::varint::MAX.wrapping_sub(low);
    if candidate.saturating_add(half) <= expected_next && candidate < end {
        candidate.saturating_add(window)
    } else if candidate > expected_next.saturating_add(half) && candidate >= window {
        candidate.wrapping_sub(window)
    } else {
        candidate
    }
}

/// The length of a packet with `plaintext` bytes of frames behind `header`, in bytes.
#[inline]
pub fn packet_len(header: &Header, plaintext: usize) -> usize {
    total([header.encoded_len(), plaintext, TAG])
}

#[cfg(test)]
mod tests;
