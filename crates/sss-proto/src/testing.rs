//! Exact traces for tests: the whole frames of a packet, in their order.
//!
//! [`sent!`] takes the next packet of an end and compares it; [`carried!`] compares one at hand; [`received!`] hands
//! frames to an end as a peer would send them. A frame is a value of its type: `sent!(pair.a, [Watch { lsid: 3 }])`.

use std::fmt::Write as _;

use bytes::Bytes;
use sss_wire::Writer;
use sss_wire::frame::{
    Await, Close, Consumed, Credit, Datagram, Frame, Frames, OpenCredit, Priority, Released, Reset, Stop, Stream, Watch,
};

/// STREAM without anything: what a test does not say of one.
pub(crate) const STREAM: Stream<'static> = Stream {
    lsid: 0,
    init: None,
    offset: 0,
    fin: false,
    mark: false,
    data: b"",
};

/// Bytes of data shown at each end of a frame.
const SHOWN: usize = 16;

/// Takes the next packet of `$end` and returns it. Panics unless it carries exactly these frames, in this order.
///
/// With `[]` nothing may be left to send.
macro_rules! sent {
    ($end:expr, []) => {
        crate::testing::compare(&$end.packet(ROOM).map_or_else(Default::default, |packet| packet.bytes), &[])
    };
    ($end:expr, [$($frame:expr),+ $(,)?]) => {{
        let packet = $end.packet(ROOM).expect("there is nothing to send");
        carried!(packet, [$($frame),+]);
        packet
    }};
}

/// Panics unless a packet carries exactly these frames, in this order.
macro_rules! carried {
    ($packet:expr, [$($frame:expr),+ $(,)?]) => {
        crate::testing::compare(&$packet.bytes, &[$(crate::testing::ToFrame::to_frame($frame)),+])
    };
}

/// Hands a packet with these frames to `$end`, which must take it; or, with `=> code`, end the channel with that code.
macro_rules! received {
    ($end:expr, [$($frame:expr),+ $(,)?]) => {
        $end.take_frames(&crate::testing::packet_of(&[$(crate::testing::ToFrame::to_frame($frame)),+])).unwrap()
    };
    ($end:expr, [$($frame:expr),+ $(,)?] => $code:expr) => {{
        let frames = [$(crate::testing::ToFrame::to_frame($frame)),+];
        let code = $end.take_frames(&crate::testing::packet_of(&frames)).map_err(|error| error.code);
        assert_eq!(code, Err($code), "{frames:?}");
    }};
}

/// A value that can stand in a trace.
pub(crate) trait ToFrame<'a> {
    /// The frame.
    fn to_frame(self) -> Frame<'a>;
}

impl<'a> ToFrame<'a> for Frame<'a> {
    fn to_frame(self) -> Frame<'a> {
        self
    }
}

macro_rules! to_frame {
    ($($name:ident $(<$life:lifetime>)?),* $(,)?) => {
        $(impl<'a> ToFrame<'a> for $name $(<$life>)? {
            fn to_frame(self) -> Frame<'a> {
                Frame::$name(self)
            }
        })*
    };
}

to_frame!(
    Await,
    Close<'a>,
    Consumed,
    Credit,
    Datagram<'a>,
    OpenCredit,
    Priority,
    Released,
    Reset<'a>,
    Stop<'a>,
    Stream<'a>,
    Watch,
);

/// The frames of a packet.
pub(crate) fn frames_of(packet: &[u8]) -> Vec<Frame<'_>> {
    if packet.is_empty() {
        return Vec::new();
    }
    Frames::new(packet).map(Result::unwrap).collect()
}

/// A packet with these frames.
pub(crate) fn packet_of(frames: &[Frame<'_>]) -> Bytes {
    let mut space = vec![0; frames.iter().map(Frame::encoded_len).sum()];
    let mut writer = Writer::new(&mut space);
    frames.iter().for_each(|frame| frame.encode(&mut writer));
    Bytes::from(space)
}

/// Compiles only if what is given is wiped when it is dropped.
pub(crate) fn is_wiped<T: zeroize::ZeroizeOnDrop>(_: &T) {}

/// Panics with the difference unless `packet` carries exactly the frames that are expected.
#[track_caller]
pub(crate) fn compare(packet: &[u8], expected: &[Frame<'_>]) {
    let frames = frames_of(packet);
    assert!(
        frames == expected,
        "other frames than expected:\n{}",
        difference(expected, &frames)
    );
}

/// One line for each frame: `-` if it was expected and is not there, `+` if it is there and was not expected.
fn difference(expected: &[Frame<'_>], found: &[Frame<'_>]) -> String {
    let same = |pair: &(&Frame<'_>, &Frame<'_>)| pair.0 == pair.1;
    let head = expected.iter().zip(found).take_while(same).count();
    let (expected_rest, found_rest) = (&expected[head..], &found[head..]);
    let tail = expected_rest
        .iter()
        .rev()
        .zip(found_rest.iter().rev())
        .take_while(same)
        .count();
    let missing = &expected_rest[..expected_rest.len() - tail];
    let surplus = &found_rest[..found_rest.len() - tail];
    let end = &expected_rest[missing.len()..];
    let mut text = String::new();
    for (sign, frames) in [(' ', &expected[..head]), ('-', missing), ('+', surplus), (' ', end)] {
        for frame in frames {
            let _ = writeln!(text, "{sign} {}", shown(frame));
        }
    }
    text
}

/// A frame in one line, without the middle of long data.
fn shown(frame: &Frame<'_>) -> String {
    let (head, data) = match *frame {
        Frame::Stream(stream) => (Frame::Stream(Stream { data: b"", ..stream }), stream.data),
        Frame::Datagram(Datagram { lsid, data }) => (Frame::Datagram(Datagram { lsid, data: b"" }), data),
        ref other => return format!("{other:?}"),
    };
    let len = data.len();
    if len <= 2 * SHOWN {
        return format!("{head:?} of {len} bytes \"{}\"", data.escape_ascii());
    }
    let (first, last) = (&data[..SHOWN], &data[len - SHOWN..]);
    format!(
        "{head:?} of {len} bytes \"{}\" .. \"{}\"",
        first.escape_ascii(),
        last.escape_ascii()
    )
}

#[test]
fn a_difference_shows_what_is_missing_and_what_is_there_instead() {
    let frames =
        |lsids: &[u64]| -> Vec<Frame<'_>> { lsids.iter().map(|lsid| Watch { lsid: *lsid }.to_frame()).collect() };
    let text = difference(&frames(&[1, 3, 5, 9]), &frames(&[1, 7, 9]));
    let expected = "  Watch(Watch { lsid: 1 })\n- Watch(Watch { lsid: 3 })\n- Watch(Watch { lsid: 5 })\n\
                    + Watch(Watch { lsid: 7 })\n  Watch(Watch { lsid: 9 })\n";
    assert_eq!(text, expected);
    let long = Datagram {
        lsid: 1,
        data: &[b'a'; 100],
    };
    let text = shown(&long.to_frame());
    assert!(
        text.ends_with("of 100 bytes \"aaaaaaaaaaaaaaaa\" .. \"aaaaaaaaaaaaaaaa\""),
        "{text}"
    );
}

#[test]
#[should_panic(expected = "+ Await(Await { lsid: 1 })")]
fn a_frame_more_than_expected_is_found() {
    let packet = packet_of(&[Watch { lsid: 1 }.to_frame(), Await { lsid: 1 }.to_frame()]);
    compare(&packet, &[Watch { lsid: 1 }.to_frame()]);
}
