use super::*;

#[test]
fn rfc_9000_a2_examples() {
    assert_eq!(encode_sequence(0xac5c02, Some(0xabe8b3)), (0x5c02, 2));
    assert_eq!(encode_sequence(0xace8fe, Some(0xabe8b3)), (0xace8fe, 3));
}

#[test]
fn rfc_9000_a3_example() {
    assert_eq!(recover_sequence(0x9b32, 2, 0xa82f30ea + 1), 0xa82f9b32);
}

#[test]
fn truncation_grows_with_what_is_outstanding() {
    let len = |outstanding: u64| encode_sequence(1 << 40, Some((1 << 40) - outstanding)).1;
    assert_eq!([len(1), len(128), len(129)], [1, 1, 2]);
    assert_eq!([len(1 << 15), len((1 << 15) + 1)], [2, 3]);
    assert_eq!([len(1 << 23), len((1 << 23) + 1), len(1 << 39)], [3, 4, 4]);
    assert_eq!(encode_sequence(0, None), (0, 1));
    assert_eq!(encode_sequence(127, None), (127, 1));
    assert_eq!(encode_sequence(128, None), (128, 2));
    // No packet is sent with a number that was acknowledged: an answer all the same.
    assert_eq!(encode_sequence(5, Some(9)), (5, 1));
}

#[test]
fn recovery_finds_the_nearest_number() {
    for expected in [0_u64, 1, 127, 128, 129, 255, 256, 300, 65_535, 1 << 40] {
        for low in 0..256_u32 {
            let found = recover_sequence(low, 1, expected);
            assert_eq!(found & 0xff, u64::from(low));
            assert!(
                found.abs_diff(expected) <= 128 || found < 256,
                "{low} near {expected}: {found}"
            );
        }
    }
    assert_eq!(recover_sequence(0, 1, crate::varint::MAX), crate::varint::MAX - 255);
}

#[test]
fn header_by_the_byte() {
    let header = Header {
        key_phase: true,
        channel_id: ChannelId::new(&[0xc1, 0xc2]).unwrap(),
        sequence: 0x1234,
        sequence_len: 2,
    };
    let mut packet = [0xee; 30];
    let mut w = Writer::new(&mut packet);
    write_header(&mut w, &header);
    assert_eq!(w.position(), header.encoded_len());
    assert_eq!(packet[..6], [0x45, 0xc1, 0xc2, 0x12, 0x34, 0xee]);
    assert_eq!(sequence_offset(2), 3);
    assert_eq!(sample_offset(2), 7);
    assert_eq!(min_packet_len(2), 23);
    assert_eq!(packet_len(&header, 2), 23);
    assert_eq!(min_plaintext_len(2), 2);
    mask(&mut packet, 2, &[0xff, 1, 2, 3, 4]).unwrap();
    assert_eq!(packet[..6], [0x5a, 0xc1, 0xc2, 0x13, 0x36, 0xee]);
    assert!(has_reserved_bits(0x48) && !has_reserved_bits(0x47));
    assert_eq!(unmask(&mut packet, 2, &[0xff, 1, 2, 3, 4]), Ok(header));
}

// spec: PRT-7
#[test]
fn only_short_packets_are_taken() {
    for first in 0..=0xff_u8 {
        let mut packet = [first; 60];
        assert_eq!(unmask(&mut packet, 4, &[0; 5]).is_ok(), first >> 6 == 1, "{first:#04x}");
    }
}

#[test]
fn a_packet_without_a_sample_is_refused_unchanged() {
    let mut packet = [0x40; 25];
    assert!(unmask(&mut packet, 4, &[0xff; 5]).is_ok());
    let mut packet = [0x40; 24];
    assert!(unmask(&mut packet, 4, &[0xff; 5]).is_err());
    assert!(mask(&mut packet, 4, &[0xff; 5]).is_err());
    assert!(sample(&packet, 4).is_err());
    assert_eq!(packet, [0x40; 24]);
    let mut packet = [0x40; 100];
    assert!(unmask(&mut packet, 0, &[0xff; 5]).is_err());
    assert!(unmask(&mut packet, 21, &[0xff; 5]).is_err());
    assert_eq!(packet, [0x40; 100]);
}
