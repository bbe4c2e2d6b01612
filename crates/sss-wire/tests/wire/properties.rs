//! Properties over random values and random bytes.
//!
//! proptest prints the seed of a failure, and the smallest input that it found.

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use sss_wire::frame::{
    Ack, Await, Close, Consumed, Credit, Datagram, EcnCounts, Frame, Frames, Init, OpenCredit, Origin, Priority,
    Released, Reset, Scope, Stop, Stream, Watch,
};
use sss_wire::long::Long;
use sss_wire::params::{Attempts, CookieParams, Earlier, HelloParams, Process, Settings, Shard};
use sss_wire::services::{ProtocolInfo, ServiceInfo, ServiceList};
use sss_wire::short::{self, Header};
use sss_wire::{ChannelId, Code, Eid, Kem, Reader, Suite, Writer, varint};

use crate::fuzz;

/// Values of all lengths, with their borders.
fn any_varint() -> impl Strategy<Value = u64> + Clone {
    (any::<u64>(), 2_u32..64).prop_map(|(v, shift)| v >> shift)
}

fn any_lsid() -> impl Strategy<Value = u64> {
    any_varint().prop_map(|v| v.max(1))
}

fn any_code() -> impl Strategy<Value = Code> {
    any_varint().prop_map(Code::from_value)
}

fn any_channel_id() -> impl Strategy<Value = ChannelId> {
    vec(any::<u8>(), 1..=20).prop_map(|id| ChannelId::new(&id).unwrap())
}

fn any_suite() -> impl Strategy<Value = Suite> {
    prop_oneof![Just(Suite::ChaCha20Poly1305), Just(Suite::Aes256Gcm)]
}

fn any_ecn() -> impl Strategy<Value = Option<EcnCounts>> {
    let counts = (any_varint(), any_varint(), any_varint());
    option::of(counts.prop_map(|(ect0, ect1, ce)| EcnCounts { ect0, ect1, ce }))
}

/// Ranges from the highest down, as a receiver keeps them.
fn any_ranges(max: usize) -> impl Strategy<Value = Vec<RangeInclusive<u64>>> {
    let steps = vec((any_varint(), any_varint()), 1..=max);
    (any_varint(), steps).prop_map(|(largest, steps)| {
        let mut ranges = Vec::new();
        let mut high = Some(largest);
        for (length, gap) in steps {
            let Some(end) = high else { break };
            let low = end.saturating_sub(length);
            ranges.push(low..=end);
            high = low.checked_sub(2).and_then(|h| h.checked_sub(gap));
        }
        ranges
    })
}

/// Writes frames one after the other.
fn write(frames: &[Frame<'_>]) -> Vec<u8> {
    let mut space = vec![0; frames.iter().map(Frame::encoded_len).sum()];
    let mut w = Writer::new(&mut space);
    frames.iter().for_each(|f| f.encode(&mut w));
    assert_eq!(w.remaining(), 0);
    space
}

/// Checks that frames come back, that a packet cut anywhere is an error or has fewer of them.
fn check_frames(frames: &[Frame<'_>]) {
    let bytes = write(frames);
    let again: Vec<_> = Frames::new(&bytes).map(Result::unwrap).collect();
    assert_eq!(again, frames);
    for end in 0..bytes.len() {
        let cut: Vec<_> = Frames::new(&bytes[..end]).collect();
        let valid = cut.iter().filter_map(|f| f.as_ref().ok());
        assert!(valid.zip(frames).all(|(a, b)| a == b), "cut at {end}: {cut:?}");
        assert!(cut.len() <= frames.len() && (cut.len() < frames.len() || cut.last().unwrap().is_err()));
    }
}

proptest! {
    // spec: OVR-1
    #[test]
    fn varints_come_back(value in any_varint(), tail in vec(any::<u8>(), 0..3)) {
        let mut space = [0; 16];
        let mut w = Writer::new(&mut space);
        w.varint(value);
        w.bytes(&tail);
        let len = w.position();
        prop_assert_eq!(len, varint::len(value) + tail.len());
        let mut reader = Reader::new(&space[..len]);
        prop_assert_eq!(reader.varint(), Ok(value));
        prop_assert_eq!(reader.position(), varint::len(value));
        prop_assert_eq!(reader.rest(), &tail[..]);
    }

    #[test]
    fn stream_frames_come_back(
        lsid in any_lsid(),
        parent in option::of(any_varint()),
        size in option::of(any_varint()),
        names in option::of((vec(any::<u8>(), 0..=255), vec(any::<u8>(), 0..=255))),
        offset in 0..varint::MAX - 200,
        (fin, mark) in any::<(bool, bool)>(),
        data in vec(any::<u8>(), 0..100),
    ) {
        let top = names.as_ref().map(|(service, protocol)| Init::top_level(service, protocol).with_credit(0, lsid % 65537, offset));
        let child = |parent| size.map_or(Init::substream(parent).with_credit((lsid % 32) as u8, lsid % 65537, offset), |size| Init::datagram(parent, size, size.min(lsid % 32769)));
        let init = top.or(parent.map(child));
        let stream = Stream { lsid, init, offset, fin, mark, data: &data };
        check_frames(&[Frame::Ping, Frame::Stream(stream), Frame::Ping]);
        // Without a length, at the end of a packet.
        let header = stream.header();
        let mut space = vec![0; header.encoded_len(None) + data.len()];
        let mut w = Writer::new(&mut space);
        header.encode(&mut w, None);
        w.bytes(&data);
        prop_assert_eq!(w.remaining(), 0);
        prop_assert_eq!(Frames::new(&space).collect::<Vec<_>>(), vec![Ok(Frame::Stream(stream))]);
    }

    #[test]
    fn a_fit_is_exact_and_as_large_as_can_be(
        lsid in any_lsid(),
        offset in any_varint(),
        space in 0_usize..70_000,
        available in 0_usize..140_000,
    ) {
        let header = Stream { lsid, init: None, offset, fin: false, mark: false, data: &[] }.header();
        match header.fit(space, available) {
            Some(fit) => {
                let total = header.encoded_len(fit.len_field()) + fit.len;
                prop_assert!(total <= space && fit.len <= available);
                prop_assert!(fit.has_len_field || total == space);
                // Of what was left out, at most the bytes of a length could have been carried.
                prop_assert!(fit.len == available || space - total <= 4);
            }
            None => prop_assert!(space < header.encoded_len(Some(available.min(1))) + available.min(1)),
        }
    }

    #[test]
    fn control_frames_come_back(
        lsid in any_lsid(),
        root_or_stream in any_varint(),
        code in any_code(),
        size in any_varint(),
        reason in ".{0,64}",
        data: [u8; 8],
        level: i8,
        scope in prop::sample::select(vec![Scope::Stream, Scope::Tree]),
        list in vec(any::<u8>(), 0..50),
        by_application: bool,
    ) {
        let origin = if by_application { Origin::Application } else { Origin::Protocol };
        check_frames(&[
            Frame::Settings(&list),
            Frame::PathChallenge(data),
            Frame::PathResponse(data),
            Frame::Reset(Reset { lsid, scope, code, final_size: size, reason: &reason }),
            Frame::Watch(Watch { lsid }),
            Frame::Consumed(Consumed { lsid }),
            Frame::Await(Await { lsid }),
            Frame::Released(Released { lsid }),
            Frame::Stop(Stop { lsid, code, reason: &reason }),
            Frame::Credit(Credit { lsid, limit: size }),
            Frame::OpenCredit(OpenCredit { lsid: root_or_stream, limit: size, datagrams: lsid }),
            Frame::Priority(Priority { lsid, serial: size, level }),
            Frame::Datagram(Datagram { lsid, data: &list }),
            Frame::Ping,
            Frame::Close(Close { origin, code, reason: &reason }),
            Frame::Padding,
        ]);
    }

    // spec: FRM-3
    #[test]
    fn acknowledgements_come_back(
        ranges in any_ranges(80),
        delay in any_varint(),
        ecn in any_ecn(),
        max_len in 0_usize..1200,
    ) {
        let mut space = [0; 1200];
        let mut w = Writer::new(&mut space);
        let named = Ack::write(&mut w, ranges.iter().cloned(), delay, ecn, max_len);
        let len = w.position();
        prop_assert!(named <= ranges.len().min(64) && len <= max_len);
        if named == 0 {
            prop_assert_eq!(len, 0);
            return Ok(());
        }
        let mut frames = Frames::new(&space[..len]);
        let Some(Ok(Frame::Ack(ack))) = frames.next() else { panic!("no ACK") };
        prop_assert!(frames.next().is_none());
        prop_assert!(ack.ranges().eq(ranges[..named].iter().cloned()));
        prop_assert_eq!((ack.largest, ack.delay_us, ack.ecn), (*ranges[0].end(), delay, ecn));
        prop_assert_eq!(ack.encoded_len(), len);
        // Another range is left out only if it has no room.
        if let Some(next) = ranges.get(named).filter(|_| named < 64) {
            let gap = ranges[named - 1].start() - next.end() - 2;
            let more = varint::len(gap) + varint::len(next.end() - next.start());
            prop_assert!(len + more > max_len);
        }
        check_frames(&[Frame::Ack(ack)]);
    }

    #[test]
    fn parameters_come_back(
        versions in vec(any::<u32>(), 1..9),
        suites in vec(any_suite(), 1..5),
        kems in vec(prop_oneof![Just(Kem::None), Just(Kem::MlKem768)], 0..3),
        candidates in vec((any::<[u8; 4]>(), any::<u16>()).prop_map(SocketAddr::from), 0..=4),
        (suite, channel_id, kem) in (any_suite(), any_channel_id(), option::of(any::<[u8; 32]>())),
        shard in (any::<u8>(), any::<u8>()).prop_map(|(index, count)| Shard::new(index, count)),
        token: Option<[u8; 16]>,
        numbers in (any_varint(), any_varint(), 0_u64..1 << 24, 1232_u64..varint::MAX, 0_u64..=1 << 26),
        texts in (".{0,40}", "[a-z/0-9.]{0,64}"),
        tree: Option<[u8; 16]>,
        accepted in vec(any::<[u8; 8]>(), 0..17),
        other_trees in vec(any::<[u8; 16]>(), 0..5),
        earlier in option::of((any::<[u8; 8]>(), vec(any::<u8>(), 1..256))),
        void: Option<[u8; 8]>,
        process: Option<([u8; 8], Option<u16>)>,
        stands_by: bool,
    ) {
        let earlier = earlier.map(|(attempt, cookie)| Earlier { attempt, cookie });
        let hello = HelloParams { versions: versions.clone(), suites, kems, candidates };
        prop_assert_eq!(HelloParams::decode(&hello.to_vec()), Ok(hello));
        let cookie = CookieParams { versions, suite, channel_id, kem, shard };
        prop_assert_eq!(CookieParams::decode(&cookie.to_vec()), Ok(cookie));
        let settings = Settings {
            channel_id: Some(channel_id),
            reset_token: token,
            root_credit: numbers.0.max(65_536),
            stream_borrow: 65_536 + numbers.1 % (1 << 20),
            idle_timeout_ms: numbers.1,
            max_ack_delay_us: numbers.2,
            max_datagram: numbers.3,
            congestion: texts.0,
            agent: texts.1,
            max_message: numbers.4,
            tree,
            attempts: Attempts { accepted, earlier, void },
            other_trees,
            process: process.map(|(name, age)| Process { name, age }),
            stands_by,
        };
        let list = settings.to_vec();
        prop_assert_eq!(Settings::decode(&list), Ok(settings));
        (0..list.len()).for_each(|end| fuzz::params(&list[..end]));
    }

    // spec: OVR-3
    #[test]
    fn eids_come_back_and_changes_are_noticed(key: [u8; 32], at in 4_usize..63, by in 1_usize..32) {
        let alphabet = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
        let eid = Eid::from_public_key(&key);
        let mut text = eid.to_string().into_bytes();
        prop_assert_eq!(text.len(), 63);
        prop_assert_eq!(std::str::from_utf8(&text).unwrap().parse(), Ok(eid));
        let old = alphabet.iter().position(|c| *c == text[at]).unwrap();
        text[at] = alphabet[(old + by) % 32];
        prop_assert!(std::str::from_utf8(&text).unwrap().parse::<Eid>().is_err());
    }

    // spec: PRT-3
    #[test]
    fn short_headers_come_back(
        key_phase: bool,
        channel_id in any_channel_id(),
        sequence in 0..varint::MAX,
        outstanding in any_varint(),
        ahead in 0_u64..1 << 33,
        mask: [u8; 5],
        body in vec(any::<u8>(), 20..60),
    ) {
        let acked = sequence.checked_sub(outstanding.max(1));
        let (truncated, sequence_len) = short::encode_sequence(sequence, acked);
        let header = Header { key_phase, channel_id, sequence: truncated, sequence_len };
        let mut clear = vec![0; header.encoded_len()];
        short::write_header(&mut Writer::new(&mut clear), &header);
        clear.extend_from_slice(&body);
        let mut packet = clear.clone();
        short::mask(&mut packet, channel_id.len(), &mask).unwrap();
        prop_assert_eq!(short::unmask(&mut packet, channel_id.len(), &mask), Ok(header));
        prop_assert_eq!(packet, clear);
        // A receiver that has anything from what was acknowledged up to the number itself recovers it.
        let first = acked.map_or(0, |a| a + 1);
        let expected = first + ahead % (sequence - first + 2);
        if sequence - first < 1 << 31 {
            prop_assert_eq!(short::recover_sequence(truncated, sequence_len, expected), sequence);
        }
    }

    // spec: OVR-2
    #[test]
    fn threat_39_random_bytes_never_panic(data in vec(any::<u8>(), 0..200), kind in 0x80_u8..0x8a) {
        fuzz::frames(&data);
        fuzz::params(&data);
        fuzz::eid(&data);
        fuzz::short_header(&data);
        fuzz::long_packet(&data);
        // A long packet of a valid type, and of the sizes that have one.
        for size in [29, 46, 64, 22, 300, 1231, 1232] {
            let mut packet = data.clone();
            packet.resize(size, 0x5a);
            packet[0] = kind;
            fuzz::long_packet(&packet);
        }
    }

    #[test]
    fn threat_39_random_frame_types_never_panic(
        frames in vec((0_u8..0x40, vec(0_u8..8, 0..12)), 0..20),
    ) {
        let data: Vec<u8> = frames.into_iter().flat_map(|(kind, mut rest)| {
            rest.insert(0, kind);
            rest
        }).collect();
        fuzz::frames(&data);
    }

    #[test]
    fn random_texts_are_no_eids(text in "\\PC{0,80}", tail in "sss1[02-9ac-hj-np-z]{59}") {
        fuzz::eid(text.as_bytes());
        fuzz::eid(tail.as_bytes());
        prop_assert!(text.parse::<Eid>().is_err());
    }

    #[test]
    fn cookies_come_back(noise in vec(any::<u8>(), 48..300), cookie in vec(any::<u8>(), 0..=255), attempt: [u8; 8]) {
        let mut packet = sss_wire::long::cookie_without_mac(1, &attempt, &noise, &cookie);
        packet.extend_from_slice(&[9; 16]);
        let Ok(Long::Cookie(parsed)) = Long::parse(&packet) else { panic!("no COOKIE") };
        prop_assert_eq!([&parsed.e[..], parsed.sealed].concat(), noise);
        prop_assert_eq!(parsed.cookie, &cookie[..]);
        for end in 0..packet.len() {
            prop_assert!(Long::parse(&packet[..end]).is_err());
        }
    }
}

fn any_services() -> impl Strategy<Value = Vec<ServiceInfo>> {
    let named = || prop::collection::btree_map("\\PC{1,40}", "\\PC{0,60}", 1..6);
    let service = (named(), "\\PC{0,60}").prop_map(|(protocols, description)| {
        let protocols = protocols.into_iter().map(|(name, text)| ProtocolInfo::new(name, text));
        ServiceInfo::new("", description, protocols.collect())
    });
    prop::collection::btree_map("\\PC{1,40}", service, 0..12).prop_map(|services| {
        let named = |(name, service): (_, ServiceInfo)| ServiceInfo::new(name, service.description, service.protocols);
        services.into_iter().map(named).collect()
    })
}

proptest! {
    #[test]
    fn lists_of_services_come_back(services in any_services()) {
        let bytes = ServiceList::encode(&services);
        prop_assert_eq!(ServiceList::decode(&bytes), Ok(ServiceList::new(services.clone(), services.len() as u64)));
        fuzz::services(&bytes);
        for cut in 0..bytes.len() {
            fuzz::services(&bytes[..cut]);
        }
    }

    #[test]
    fn random_bytes_as_lists_of_services_are_harmless(data in vec(any::<u8>(), 0..300)) {
        fuzz::services(&data);
    }
}
