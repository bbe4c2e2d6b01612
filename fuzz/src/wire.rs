//! The parsers of `sss-wire`.

use sss_wire::constants::MAX_ACK_RANGES;
use sss_wire::frame::{Ack, Frame, Frames};
use sss_wire::long::{self, Long};
use sss_wire::params::{CookieParams, HelloParams, Parameters, Settings};
use sss_wire::services::ServiceList;
use sss_wire::{ChannelId, Eid, Writer, short};

/// What `write` writes into `len` bytes, all of which it must use.
fn written(len: usize, write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut space = vec![0xee; len];
    let mut w = Writer::new(&mut space);
    write(&mut w);
    assert_eq!(w.remaining(), 0, "less was written than encoded_len says");
    space
}

/// A plaintext: every frame in it can be written again, and means the same.
pub fn frames(data: &[u8]) {
    let mut iter = Frames::new(data);
    let mut count = 0;
    while let Some(Ok(frame)) = iter.next() {
        count += 1;
        let bytes = written(frame.encoded_len(), |w| frame.encode(w));
        let again = Frames::new(&bytes).next().expect("a frame").expect("a valid frame");
        assert_eq!(again, frame);
        match &frame {
            Frame::Ack(ack) => check_ack(ack),
            Frame::Settings(list) => check_settings(list),
            Frame::Stream(stream) => assert!(stream.data.len() <= data.len()),
            _ => {}
        }
    }
    assert!(iter.next().is_none(), "goes on after its end");
    assert!(count <= data.len());
}

fn check_ack(ack: &Ack<'_>) {
    let ranges: Vec<_> = ack.ranges().collect();
    assert!((1..=MAX_ACK_RANGES).contains(&ranges.len()));
    assert_eq!(*ranges[0].end(), ack.largest);
    assert!(ranges.iter().all(|r| r.start() <= r.end()));
    assert!(ranges.windows(2).all(|pair| pair[1].end() + 1 < *pair[0].start()));
    let mut space = [0; 2048];
    let mut w = Writer::new(&mut space);
    let named = Ack::write(&mut w, ranges.iter().cloned(), ack.delay_us, ack.ecn, usize::MAX);
    assert_eq!(named, ranges.len());
    let len = w.position();
    match Frames::new(&space[..len]).next() {
        Some(Ok(Frame::Ack(again))) => {
            assert!(again.ranges().eq(ranges));
            assert_eq!((again.delay_us, again.ecn), (ack.delay_us, ack.ecn));
        }
        other => panic!("{other:?}"),
    }
}

/// A datagram with its high bit set: what is parsed can be made again from its parts.
pub fn long_packet(data: &[u8]) {
    let Ok(packet) = Long::parse(data) else { return };
    let again = rebuild(&packet);
    match packet {
        // Their version, and the padding of PROBE and HELLO_K, are not looked at.
        Long::Probe(_) => assert_eq!(again[5..13], data[5..13]),
        Long::ProbeReply(_) => assert_eq!(again[5..], data[5..]),
        Long::HelloK(_) => assert_eq!(again[..1230], data[..1230]),
        _ => assert_eq!(again, data),
    }
}

/// The packet made from the parts of a parsed one.
pub fn rebuild(packet: &Long<'_>) -> Vec<u8> {
    match packet {
        Long::Hello(p) => long::hello(p.version, p.attempt, p.token, p.noise),
        Long::Retry(p) => long::retry(p.version, p.attempt, p.token),
        Long::Version(p) => long::version(p.attempt, &p.versions().collect::<Vec<_>>()),
        Long::Cookie(p) => {
            let noise = [&p.e[..], p.sealed].concat();
            let mut packet = long::cookie_without_mac(p.version, p.attempt, &noise, p.cookie);
            assert_eq!(packet, p.authed);
            packet.extend_from_slice(p.mac);
            packet
        }
        Long::HelloK(p) => long::hello_k(p.version, p.attempt, p.token, p.hello, p.key),
        Long::CookieK(p) => {
            let mut packet = long::cookie_k_without_mac(p.version, p.attempt, p.ciphertext, p.cookie);
            assert_eq!(packet, p.authed);
            packet.extend_from_slice(p.mac);
            packet
        }
        Long::Initiate(p) => {
            let noise = [&p.sealed_static[..], p.sealed_frames].concat();
            long::initiate(p.version, p.attempt, p.cookie, p.kem, &noise)
        }
        Long::Accept(p) => {
            assert_eq!(long::accept_header(p.version, p.attempt, p.nonce), p.header);
            long::accept(p.version, p.attempt, p.nonce, p.sealed_frames)
        }
        Long::Probe(p) => long::probe(p.attempt),
        Long::ProbeReply(p) => long::probe_reply(p.attempt, &p.eid),
    }
}

/// A parameter list: of HELLO, of COOKIE, and of SETTINGS.
pub fn params(data: &[u8]) {
    let ids: Vec<_> = Parameters::new(data).map_while(|p| p.ok().map(|(id, _)| id)).collect();
    let mut unique = ids.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), ids.len());
    if let Ok(hello) = HelloParams::decode(data) {
        let list = written(hello.encoded_len(), |w| hello.encode(w));
        // A list of unknown suites only has nothing left of it.
        assert!(hello.suites.is_empty() || HelloParams::decode(&list) == Ok(hello));
    }
    if let Ok(cookie) = CookieParams::decode(data) {
        let list = written(cookie.encoded_len(), |w| cookie.encode(w));
        assert_eq!(CookieParams::decode(&list), Ok(cookie));
    }
    check_settings(data);
}

fn check_settings(list: &[u8]) {
    if let Ok(settings) = Settings::decode(list) {
        let list = written(settings.encoded_len(), |w| settings.encode(w));
        assert_eq!(Settings::decode(&list), Ok(settings));
    }
}

/// The text form of an EID, or its bytes.
pub fn eid(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        match text.parse::<Eid>() {
            Ok(eid) => assert_eq!(eid.to_string(), text.to_ascii_lowercase()),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    if let Some(bytes) = data.first_chunk::<33>()
        && let Ok(eid) = Eid::from_bytes(bytes)
    {
        assert_eq!(eid.to_string().parse(), Ok(eid));
        assert_eq!(Eid::from_public_key(eid.public_key()), eid);
    }
}

/// A short packet: the length of its channel id (1 byte), its mask (5), the number expected next (8), the packet.
pub fn short_header(data: &[u8]) {
    let Some((id_len, rest)) = data.split_first() else {
        return;
    };
    let Some((mask, rest)) = rest.split_first_chunk::<5>() else {
        return;
    };
    let Some((expected, packet)) = rest.split_first_chunk::<8>() else {
        return;
    };
    let id_len = usize::from(*id_len);
    let mut clear = packet.to_vec();
    let Ok(header) = short::unmask(&mut clear, id_len, mask) else {
        assert_eq!(clear, packet, "changed in spite of an error");
        assert!(packet.len() < short::min_packet_len(id_len) || packet[0] >> 6 != 1 || !(1..=20).contains(&id_len));
        return;
    };
    assert_eq!(
        header.channel_id,
        ChannelId::new(&packet[1..=id_len]).expect("1 to 20 bytes")
    );
    let len = header.encoded_len();
    if !short::has_reserved_bits(clear[0]) {
        assert_eq!(written(len, |w| short::write_header(w, &header)), clear[..len]);
    }
    assert_eq!(clear[len..], packet[len..]);
    assert_eq!(short::sample(packet, id_len), short::sample(&clear, id_len));
    short::mask(&mut clear, id_len, mask).expect("it was unmasked");
    assert_eq!(clear, packet);
    check_sequence(header.sequence, header.sequence_len, u64::from_be_bytes(*expected));
}

fn check_sequence(truncated: u32, len: usize, expected: u64) {
    let expected = expected & sss_wire::varint::MAX;
    let sequence = short::recover_sequence(truncated, len, expected);
    let window = 1_u64 << (8 * len);
    assert_eq!(sequence % window, u64::from(truncated));
    // Nearest, except at the two ends of the numbers.
    assert!(
        sequence.abs_diff(expected) <= window / 2 || sequence < window || expected > sss_wire::varint::MAX - window
    );
}

/// A list of services: what is read is in order, and means the same when it is written again.
pub fn services(data: &[u8]) {
    let Ok(list) = ServiceList::decode(data) else { return };
    assert!(list.services.len() as u64 <= list.total);
    assert!(list.services.is_sorted_by(|a, b| a.name < b.name));
    let bytes = ServiceList::encode(&list.services);
    assert!(bytes.len() <= data.len(), "more is written than was read");
    let again = ServiceList::decode(&bytes).expect("what was written");
    assert_eq!(again.services, list.services);
    assert!(again.is_complete());
}
