use super::*;
use crate::Code;

/// The single frame of a plaintext.
fn one(bytes: &[u8]) -> Frame<'_> {
    let mut frames = Frames::new(bytes);
    let frame = frames.next().unwrap().unwrap();
    assert_eq!(frames.next(), None);
    frame
}

/// Tells why a plaintext is refused.
fn refused(bytes: &[u8]) -> &'static str {
    Frames::new(bytes).find_map(Result::err).unwrap().0
}

fn bytes_of(frame: &Frame<'_>) -> Vec<u8> {
    let mut space = vec![0xee; frame.encoded_len()];
    let mut w = Writer::new(&mut space);
    frame.encode(&mut w);
    assert_eq!(w.remaining(), 0);
    space
}

fn check(frame: &Frame<'_>, bytes: &[u8]) {
    assert_eq!(bytes_of(frame), bytes);
    assert_eq!(one(bytes), *frame);
}

#[test]
fn frames_of_fixed_size() {
    check(&Frame::Padding, &[0]);
    check(&Frame::Ping, &[1]);
    check(
        &Frame::PathChallenge([1, 2, 3, 4, 5, 6, 7, 8]),
        &[6, 1, 2, 3, 4, 5, 6, 7, 8],
    );
    check(
        &Frame::PathResponse([8, 7, 6, 5, 4, 3, 2, 1]),
        &[7, 8, 7, 6, 5, 4, 3, 2, 1],
    );
    check(&Frame::Credit(Credit { lsid: 3, limit: 64 }), &[0x0a, 3, 0x40, 64]);
    let open = OpenCredit {
        lsid: 0,
        limit: 64,
        datagrams: 5,
    };
    check(&Frame::OpenCredit(open), &[0x13, 0, 0x40, 64, 5]);
    let (lsid, serial, level) = (5, 64, -2);
    check(
        &Frame::Priority(Priority { lsid, serial, level }),
        &[0x0b, 5, 0x40, 64, 0xfe],
    );
    check(&Frame::Watch(Watch { lsid: 64 }), &[0x0c, 0x40, 64]);
    check(&Frame::Consumed(Consumed { lsid: 3 }), &[0x0d, 3]);
    check(&Frame::Await(Await { lsid: 64 }), &[0x11, 0x40, 64]);
    check(&Frame::Released(Released { lsid: 3 }), &[0x12, 3]);
}

#[test]
fn frames_with_text() {
    let (code, reason) = (Code::NONE, "bye");
    let origin = Origin::Application;
    check(&Frame::Close(Close { origin, code, reason }), b"\x05\x01\x00\x03bye");
    let (lsid, code, reason) = (3, Code::app(1), "");
    check(&Frame::Stop(Stop { lsid, code, reason }), &[9, 3, 0x41, 1, 0]);
    let (scope, final_size) = (Scope::Stream, 300);
    let reset = Reset {
        lsid,
        scope,
        code,
        final_size,
        reason,
    };
    check(&Frame::Reset(reset), &[8, 3, 0, 0x41, 1, 0x41, 0x2c, 0]);
}

#[test]
fn settings_in_a_frame() {
    let settings = Settings {
        root_credit: 5,
        ..Settings::default()
    };
    let mut space = vec![0; settings_len(&settings)];
    write_settings(&mut Writer::new(&mut space), &settings);
    assert_eq!(space, [4, 3, 18, 1, 5]);
    assert_eq!(one(&space), Frame::Settings(&[18, 1, 5]));
    check(&Frame::Settings(&[18, 1, 5]), &space);
}

#[test]
fn stream_with_and_without_each_field() {
    let plain = Stream {
        lsid: 1,
        init: None,
        offset: 0,
        fin: false,
        mark: false,
        data: b"hi",
    };
    check(&Frame::Stream(plain), b"\x22\x01\x02hi");
    let end = Stream {
        offset: 70,
        fin: true,
        ..plain
    };
    check(&Frame::Stream(end), b"\x27\x01\x40\x46\x02hi");
    let init = Some(Init::top_level(b"files", b"v1"));
    check(
        &Frame::Stream(Stream { init, ..plain }),
        b"\x2a\x01\x00\x01\x05files\x02v1\x00\x00\x02hi",
    );
    let init = Some(Init::substream(6).with_credit(1, 2, 300));
    check(
        &Frame::Stream(Stream { init, ..plain }),
        b"\x2a\x01\x06\x00\x01\x02\x41\x2c\x02hi",
    );
    let init = Some(Init::datagram(6, 300, 2));
    check(
        &Frame::Stream(Stream { init, ..plain }),
        b"\x2a\x01\x06\x02\x00\x41\x2c\x02\x02hi",
    );
    assert_eq!(one(b"\x20\x01hi"), Frame::Stream(plain));
}

// spec: FRM-8
#[test]
fn a_mark_takes_the_position_behind_the_data() {
    let record = Stream {
        lsid: 1,
        init: None,
        offset: 0,
        fin: false,
        mark: true,
        data: b"hi",
    };
    check(&Frame::Stream(record), b"\x32\x01\x02hi");
    assert_eq!(record.end(), 3);
    assert_eq!(Stream { mark: false, ..record }.end(), 2);
    let empty = Stream {
        offset: 70,
        data: b"",
        ..record
    };
    check(&Frame::Stream(empty), b"\x36\x01\x40\x46\x00");
    check(&Frame::Stream(Stream { fin: true, ..empty }), b"\x37\x01\x40\x46\x00");
    assert_eq!(one(b"\x30\x01hi"), Frame::Stream(record));
}

#[test]
fn stream_data_is_a_slice_of_the_plaintext() {
    let plaintext = b"\x01\x22\x01\x02hi\x20\x01rest".to_vec();
    let range = plaintext.as_ptr_range();
    let mut seen = 0;
    for frame in Frames::new(&plaintext) {
        if let Frame::Stream(stream) = frame.unwrap() {
            assert!(range.contains(&stream.data.as_ptr()));
            seen += stream.data.len();
        }
    }
    assert_eq!(seen, 6);
}

// spec: FRM-9
#[test]
fn datagram() {
    let (lsid, data) = (3, &b"hi"[..]);
    check(&Frame::Datagram(Datagram { lsid, data }), b"\x0e\x03\x02hi");
    let (lsid, data) = (64, &b""[..]);
    check(&Frame::Datagram(Datagram { lsid, data }), b"\x0e\x40\x40\x00");
}

// spec: FRM-1
#[test]
fn what_is_refused() {
    assert_eq!(refused(&[]), "a packet without frames");
    for kind in [0x0f, 0x10].into_iter().chain(0x14..0x20).chain(0x40..=0xff) {
        assert_eq!(refused(&[kind, 0, 0, 0, 0, 0, 0, 0, 0, 0]), "unknown frame type");
    }
    assert_eq!(refused(&[0x0a, 1]), "truncated");
    assert_eq!(refused(&[0x0e, 0, 0]), "the root stream cannot have this frame");
    assert_eq!(refused(&[0x20, 0]), "the root stream cannot have this frame");
    // FRM-5: the highest position is 2^62 - 2, of a byte or a mark.
    let highest = [0x34, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    assert_eq!(refused(&highest), "stream data beyond 2^62 - 1");
    assert_eq!(refused(&[0x28, 1, 0, 3]), "unknown kind of stream");
    assert_eq!(refused(&[0x28, 1, 3, 2, 0, 4, 5]), "a stream borrows more than it may");
    assert_eq!(refused(&[0x28, 1, 3, 0, 32, 0, 0]), "a lender above the root");
    assert_eq!(refused(&[0x0a, 0, 5]), "the root stream cannot have this frame");
    assert_eq!(refused(&[2, 4, 0, 0, 5]), "an acknowledgement reaches below number 0");
    assert_eq!(
        refused(&[2, 0x44, 0, 0, 0x40, 64, 0]),
        "an acknowledgement names too many ranges"
    );
}

#[test]
fn nothing_follows_an_error() {
    let mut frames = Frames::new(&[1, 0x1f, 1]);
    assert_eq!(frames.next(), Some(Ok(Frame::Ping)));
    assert!(frames.next().unwrap().is_err());
    assert_eq!(frames.next(), None);
    assert_eq!(Frames::new(&[]).count(), 1);
}

#[test]
fn a_run_of_padding_is_one_frame() {
    let mut plaintext = vec![0; 1000];
    plaintext.push(1);
    let frames: Vec<_> = Frames::new(&plaintext).map(Result::unwrap).collect();
    assert_eq!(frames, [Frame::Padding, Frame::Ping]);
    let mut space = [7; 5];
    Padding(3).encode(&mut Writer::new(&mut space));
    assert_eq!(space, [0, 0, 0, 7, 7]);
}

// spec: CHN-4
#[test]
fn what_elicits_an_acknowledgement() {
    let quiet: [&[u8]; 4] = [&[0], &[2, 0, 0, 0, 0], &[3, 0, 0, 0, 0, 1, 1, 1], &[5, 0, 0, 0]];
    assert!(quiet.iter().all(|b| !one(b).is_ack_eliciting()));
    let loud: [&[u8]; 9] = [
        &[1],
        &[4, 0],
        &[6, 0, 0, 0, 0, 0, 0, 0, 0],
        &[7, 0, 0, 0, 0, 0, 0, 0, 0],
        &[9, 1, 0, 0],
        &[10, 1, 0],
        &[0x13, 0, 0, 0],
        &[0x0e, 1, 0],
        &[0x20, 1],
    ];
    assert!(loud.iter().all(|b| one(b).is_ack_eliciting()));
}

#[test]
fn acknowledgement_of_three_ranges() {
    let mut space = [0; 64];
    let mut w = Writer::new(&mut space);
    assert_eq!(
        Ack::write(&mut w, [90..=100, 70..=80, 5..=5].into_iter(), 63, None, 64),
        3
    );
    let len = w.position();
    assert_eq!(space[..len], [2, 0x40, 100, 63, 2, 10, 8, 10, 63, 0]);
    let Frame::Ack(ack) = one(&space[..len]) else { panic!() };
    assert_eq!((ack.largest, ack.delay_us, ack.ecn), (100, 63, None));
    assert!(ack.ranges().eq([90..=100, 70..=80, 5..=5]));
    check(&Frame::Ack(ack), &space[..len]);
}

// spec: CHN-5
#[test]
fn threat_21_an_acknowledgement_names_what_fits_and_at_most_64_ranges() {
    let ranges = (0..1000_u64).rev().map(|n| n * 2..=n * 2);
    let mut space = [0; 400];
    let mut w = Writer::new(&mut space);
    assert_eq!(Ack::write(&mut w, ranges.clone(), 0, None, 400), 64);
    let len = w.position();
    let Frame::Ack(ack) = one(&space[..len]) else { panic!() };
    assert!(ack.ranges().eq(ranges.clone().take(64)));
    for max_len in 0..len {
        let mut w = Writer::new(&mut space);
        let named = Ack::write(&mut w, ranges.clone(), 0, Some(EcnCounts::default()), max_len);
        let len = w.position();
        assert!(len <= max_len);
        assert_eq!(named > 0, max_len >= 9, "{max_len}");
        if named > 0 {
            let Frame::Ack(ack) = one(&space[..len]) else { panic!() };
            assert!(ack.ranges().eq(ranges.clone().take(named)));
        }
    }
    // The space of the writer bounds it as well.
    let mut w = Writer::new(&mut space[..8]);
    assert_eq!(Ack::write(&mut w, ranges, 0, None, 400), 2);
    let mut w = Writer::new(&mut space);
    assert_eq!(Ack::write(&mut w, std::iter::empty(), 0, None, 400), 0);
    assert_eq!(w.position(), 0);
}

// spec: FRM-4
#[test]
fn reasons_are_cut_at_a_character() {
    let reason = format!("a{}", "ä".repeat(200));
    let close = Close {
        origin: Origin::Protocol,
        code: Code::INTERNAL,
        reason: &reason,
    };
    let bytes = bytes_of(&Frame::Close(close));
    let Frame::Close(again) = one(&bytes) else { panic!() };
    assert_eq!(again.reason, &reason[..255]);
    assert_eq!(truncate_text("abc", 3), "abc");
    assert_eq!(truncate_text("aä", 2), "a");
}

#[test]
fn fit_leaves_out_the_length_only_at_the_end_of_the_space() {
    let header = StreamHeader {
        lsid: 1,
        init: None,
        offset: 100,
        fin: false,
        mark: false,
    };
    let fit = |space, available| header.fit(space, available).map(|f| (f.len, f.has_len_field));
    assert_eq!(header.encoded_len(None), 4);
    assert_eq!(fit(3, 10), None);
    assert_eq!(fit(4, 10), None);
    assert_eq!(fit(4, 0), Some((0, false)));
    assert_eq!(fit(5, 0), Some((0, true)));
    assert_eq!(fit(5, 10), Some((1, false)));
    assert_eq!(fit(100, 96), Some((96, false)));
    assert_eq!(fit(100, 1000), Some((96, false)));
    assert_eq!(fit(100, 50), Some((50, true)));
    // One byte less than the room: the length takes its place.
    assert_eq!(fit(100, 95), Some((94, true)));
    assert_eq!(fit(1200, 20), Some((20, true)));
}

// Threat 21: an acknowledgement of ranges without end.
// spec: FRM-3
#[test]
fn threat_21_an_acknowledgement_of_more_ranges_than_64_is_refused() {
    for (count, is_good) in [(63, true), (64, false), (10_000, false)] {
        let mut bytes = vec![0; 30_000];
        let mut writer = Writer::new(&mut bytes);
        writer.u8(Ack::TYPE);
        for value in [1 << 20, 0, count, 0] {
            writer.varint(value);
        }
        assert_eq!(
            Frame::decode(&mut Reader::new(&bytes)).is_ok(),
            is_good,
            "{count} more ranges"
        );
    }
}
