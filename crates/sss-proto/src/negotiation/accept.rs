//! ACCEPT: the packet of a channel that was made, and of one that is refused (NEG-16, NEG-23).

use sss_crypto::packet::PacketKey;
use sss_crypto::schedule::ChannelSecrets;
use sss_wire::frame::{Close, Origin, truncate_text};
use sss_wire::long::{self, Initiate};
use sss_wire::{Code, Writer};

use super::responder::Proven;

/// Length of the tag behind everything sealed.
const TAG: usize = 16;
/// Bytes of CLOSE beside its reason: type, origin, a code of 8 bytes, a length of 2.
const CLOSE_FIXED: usize = 12;

/// Key and nonce that ACCEPT is sealed with.
pub(crate) struct AcceptKeys {
    pub(crate) key: PacketKey,
    pub(crate) nonce: [u8; 32],
}

impl AcceptKeys {
    /// Seals `frames` as the responder's packet 0. To be called once for each `nonce`.
    pub(crate) fn seal(&self, version: u32, attempt: &[u8; 8], frames: &[u8]) -> Option<Vec<u8>> {
        let mut packet = long::accept_header(version, attempt, &self.nonce);
        let header = packet.clone();
        let start = packet.len();
        packet.extend_from_slice(frames);
        packet.resize(packet.len() + TAG, 0);
        self.key.seal(0, &header, packet.get_mut(start..)?);
        Some(packet)
    }
}

/// CLOSE as the only frame of ACCEPT, in at most `room` bytes: the reason is cut to fit.
pub(crate) fn close_frame(code: Code, reason: &str, room: usize) -> Vec<u8> {
    let close = Close {
        origin: match code.as_app() {
            Some(_) => Origin::Application,
            None => Origin::Protocol,
        },
        code,
        reason: truncate_text(reason, room.saturating_sub(CLOSE_FIXED)),
    };
    let mut frame = vec![0; close.encoded_len()];
    close.encode(&mut Writer::new(&mut frame));
    frame
}

/// The answer to an INITIATE of `size` bytes that makes no channel: no larger than it, and under keys of its own
/// `nonce`.
pub(crate) fn refusal(
    initiate: &Initiate<'_>,
    size: usize,
    proven: &Proven,
    nonce: [u8; 32],
    (code, reason): (Code, &str),
) -> Option<Vec<u8>> {
    let secrets = ChannelSecrets::derive(&proven.split, &nonce);
    let keys = AcceptKeys {
        key: PacketKey::new(proven.suite, &secrets.responder),
        nonce,
    };
    let room = size.saturating_sub(long::ACCEPT_HEADER + TAG);
    keys.seal(initiate.version, initiate.attempt, &close_frame(code, reason, room))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ToFrame, compare};

    // spec: NEG-23
    #[test]
    fn the_reason_is_cut_to_fit() {
        let long = "\u{e4}".repeat(200);
        // Letters of two bytes; no reason has more than 256.
        for (room, letters) in [(30, 9), (31, 9), (100, 44), (269, 128), (1000, 128)] {
            let frame = close_frame(Code::app(u32::MAX), &long, room);
            assert!(frame.len() <= room, "{} bytes in {room}", frame.len());
            let close = Close {
                origin: Origin::Application,
                code: Code::app(u32::MAX),
                reason: &long[..2 * letters],
            };
            compare(&frame, &[close.to_frame()]);
        }
    }
}
