//! The bytes of a flow.

use super::FlowId;

/// The 8 bytes at `8 * word` of a flow: the number itself first, then a mixture of number and position (the finalizer
/// of SplitMix64; Steele, Lea and Flood, 2014).
fn word(flow: FlowId, word: u64) -> [u8; 8] {
    if word == 0 {
        return flow.to_be_bytes();
    }
    let mut z = flow.wrapping_add(word.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)).to_be_bytes()
}

/// Writes the bytes of `flow` from `offset` on into `out`.
pub fn fill(flow: FlowId, offset: u64, out: &mut [u8]) {
    let mut at = offset;
    let mut rest = out;
    while !rest.is_empty() {
        let word = word(flow, at / 8);
        let from = &word[(at % 8) as usize..];
        let n = from.len().min(rest.len());
        let (now, later) = rest.split_at_mut(n);
        now.copy_from_slice(&from[..n]);
        at += n as u64;
        rest = later;
    }
}

/// The offset of the first byte of `data`, which begins at `offset`, that is not the flow's.
pub(super) fn mismatch(flow: FlowId, offset: u64, data: &[u8]) -> Option<u64> {
    let mut expected = vec![0; data.len()];
    fill(flow, offset, &mut expected);
    let at = expected.iter().zip(data).position(|(a, b)| a != b)?;
    Some(offset + at as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_the_whole_and_positions_differ() {
        let mut whole = vec![0; 1000];
        fill(42, 0, &mut whole);
        assert_eq!(whole[..8], 42u64.to_be_bytes());
        for start in [0, 1, 7, 8, 9, 500] {
            let mut part = vec![0; 37];
            fill(42, start as u64, &mut part);
            assert_eq!(part, whole[start..start + 37]);
            assert_eq!(mismatch(42, start as u64, &part), None);
            part[20] ^= 1;
            assert_eq!(mismatch(42, start as u64, &part), Some(start as u64 + 20));
        }
        assert!(mismatch(42, 16, &whole[24..40]).is_some());
        assert!(mismatch(43, 16, &whole[16..24]).is_some());
    }
}
