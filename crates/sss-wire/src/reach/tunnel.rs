//! Frames of a tunnel: a stream of bytes that carries packets, each with its length before it (RCH-22).

use crate::error::Malformed;

/// Bytes in front of a packet.
pub const FRAME_HEADER: usize = 2;
/// Largest packet in a tunnel, in bytes.
pub const MAX_FRAME: usize = 1500;

/// Bytes in front of a packet of so many bytes. `None` if no frame is so long, or it is empty.
pub fn frame_header(len: usize) -> Option<[u8; FRAME_HEADER]> {
    let is_legal = (1..=MAX_FRAME).contains(&len);
    u16::try_from(len).ok().filter(|_| is_legal).map(u16::to_be_bytes)
}

/// Length of the packet that a stream goes on with, behind its [`FRAME_HEADER`] bytes; `None` if it has not come as a
/// whole.
///
/// # Errors
/// If it is empty, or longer than [`MAX_FRAME`]: nothing behind it can be understood.
pub fn next_frame(stream: &[u8]) -> Result<Option<usize>, Malformed> {
    let Some((header, rest)) = stream.split_first_chunk::<FRAME_HEADER>() else {
        return Ok(None);
    };
    let len = usize::from(u16::from_be_bytes(*header));
    if !(1..=MAX_FRAME).contains(&len) {
        return Err(Malformed("no frame has this length"));
    }
    Ok(Some(len).filter(|len| rest.len() >= *len))
}

#[cfg(test)]
mod tests {
    use super::*;

    // spec: RCH-22
    #[test]
    fn frames_are_one_byte_to_1500_and_come_as_a_whole() {
        assert_eq!(frame_header(1), Some([0, 1]));
        assert_eq!(frame_header(1500), Some([5, 220]));
        assert_eq!([0, 1501, 65_535, 65_537].map(frame_header), [None; 4]);
        for (stream, len) in [
            (&[][..], Ok(None)),
            (&[0], Ok(None)),
            (&[0, 3], Ok(None)),
            (&[0, 3, 7, 8], Ok(None)),
            (&[0, 3, 7, 8, 9], Ok(Some(3))),
            (&[0, 3, 7, 8, 9, 0], Ok(Some(3))),
            (&[5, 220], Ok(None)),
        ] {
            assert_eq!(next_frame(stream), len, "{stream:?}");
        }
        for stream in [[0, 0], [5, 221], [255, 255]] {
            assert!(next_frame(&stream).is_err(), "{stream:?}");
        }
    }
}
