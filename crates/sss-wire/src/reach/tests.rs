use std::net::{IpAddr, SocketAddr};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::bodies::{
    Connect, Elsewhere, Found, Lease, LeaseOk, MappedPort, Notice, Notify, Presence, Status, Unfound, Way,
};
use super::records::{Call, Entries, Register, Registered, Request, Search, Visibility};
use super::*;
use crate::Eid;
use crate::long::KEM_KEY;

fn any_eid() -> impl Strategy<Value = Eid> {
    any::<[u8; 32]>().prop_map(|key| Eid::from_public_key(&key))
}

fn any_address() -> impl Strategy<Value = SocketAddr> {
    let v4 = (any::<[u8; 4]>(), any::<u16>()).prop_map(SocketAddr::from);
    let v6 = (any::<[u8; 16]>(), any::<u16>()).prop_map(|(ip, port)| {
        let ip = IpAddr::from(ip).to_canonical();
        SocketAddr::new(ip, port)
    });
    prop_oneof![v4, v6]
}

fn any_status() -> impl Strategy<Value = Status> {
    (1_u8..9).prop_map(|byte| Status::try_from(byte).unwrap())
}

fn unfound(status: Status, since: u32, server: Eid, address: SocketAddr) -> Unfound {
    let elsewhere = (status == Status::Elsewhere).then_some(Elsewhere { server, address });
    Unfound {
        status,
        since,
        elsewhere,
    }
}

fn any_way() -> impl Strategy<Value = Way> {
    let fields = (
        any_address(),
        any::<u16>(),
        any::<u32>(),
        any::<[u8; 32]>(),
        any::<u32>(),
    );
    fields.prop_map(|(address, mapped, handle, punch_key, hold)| Way {
        address,
        mapped,
        handle,
        punch_key,
        hold,
    })
}

fn any_request() -> impl Strategy<Value = Request> {
    let visibility = prop_oneof![
        Just(Visibility::Hidden),
        Just(Visibility::Known),
        Just(Visibility::Listed)
    ];
    let wish = (visibility, any::<bool>(), any::<bool>());
    let register = (any::<[u8; 8]>(), wish, vec("[a-zé]{1,20}", 0..=16), "\\PC{0,200}").prop_map(
        |(instance, (visibility, is_veiled, follows), words, profile)| {
            Request::Register(Register {
                instance,
                visibility,
                is_veiled,
                follows,
                words: words.join(" "),
                profile,
            })
        },
    );
    let search = ("[a-zé]{1,20}", option::of(any_eid()), any::<u8>())
        .prop_map(|(word, after, count)| Request::Search(Search { word, after, count }));
    let ids = (any::<[u8; 8]>(), any::<u32>(), any::<[u8; 8]>(), any_eid());
    let connect = (ids, vec(any::<u8>(), 0..300), any::<Option<u8>>()).prop_map(|(ids, hello, key)| {
        let (instance, rtt, introduction, eid) = ids;
        Request::Connect(Call {
            instance,
            rtt,
            introduction,
            eid,
            hello,
            key: key.map(|byte| Box::new([byte; KEM_KEY])),
        })
    });
    prop_oneof![register, any_eid().prop_map(Request::Lookup), search, connect]
}

proptest! {
    #[test]
    fn bodies_are_read_as_they_were_written(
        ids in any::<[[u8; 8]; 3]>(),
        counter in any::<u64>(),
        rtt in any::<u32>(),
        address in any_address(),
        way in any_way(),
        eid in any_eid(),
        hello in vec(any::<u8>(), 0..300),
        status in any_status(),
        token in vec(any::<u8>(), 0..=MAX_TOKEN),
        flags in any::<[bool; 4]>(),
        presence in prop_oneof![Just(Presence::Hidden), Just(Presence::Found), Just(Presence::Leaving)],
    ) {
        let [boot, introduction, _] = ids;
        let answer = (flags[0] && introduction != [0; 8]).then_some((introduction, status));
        let mapped = MappedPort { port: way.mapped, wants_echo: flags[2] };
        let lease = Lease { boot, counter, rtt, presence, is_veiled: flags[3], answer, mapped };
        prop_assert_eq!(Lease::decode(&lease.encode(43)), Ok(lease));
        let notice =
            Notice { is_forgotten: flags[1], is_superseded: flags[2], is_echo: flags[0], relays_nothing: flags[1] };
        let ok = LeaseOk { boot, counter, address, ttl: 60, notice, token };
        let plaintext = ok.encode(lease_plaintext(PREFIX));
        prop_assert_eq!(plaintext.len(), LEASE_SIZE - PREFIX - 16);
        prop_assert_eq!(LeaseOk::decode(&plaintext), Ok(ok));
        let connect = Connect { boot, counter, rtt, introduction, eid, hello: &hello };
        let plaintext = connect.encode();
        prop_assert_eq!(Connect::decode(&plaintext), Ok(connect));
        let notify = Notify { boot, introduction, way, hello: &hello };
        let plaintext = notify.encode();
        prop_assert_eq!(Notify::decode(&plaintext), Ok(notify));
        let outcome = if flags[0] { Ok(way) } else { Err(unfound(status, rtt, eid, address)) };
        let found = Found { introduction, outcome };
        prop_assert_eq!(Found::decode(&found.encode()), Ok(found));
    }

    #[test]
    fn records_are_read_as_they_were_written(
        request in any_request(),
        key in any::<[u8; 32]>(),
        address in any_address(),
        tokens in vec(vec(any::<u8>(), 0..=MAX_TOKEN), 0..=4),
        status in any_status(),
        since in any::<u32>(),
    ) {
        prop_assert_eq!(Request::decode(&request.encode()), Ok(request));
        let registered = Registered { boot: [7; 8], ttl: 60, address, key, tokens, other_port: 7758 };
        prop_assert_eq!(Registered::decode(&registered.encode()), Ok(Ok(registered)));
        let unfound = unfound(status, since, Eid::from_public_key(&key), address);
        let refused = records::outcome(&unfound);
        prop_assert_eq!(records::read_outcome(&refused), Ok(Err(unfound)));
        prop_assert_eq!(Registered::decode(&refused), Ok(Err(unfound)));
        prop_assert_eq!(Entries::decode(&refused), Ok(Err(unfound)));
    }

    // spec: RCH-7
    #[test]
    fn no_bytes_make_a_parser_panic(bytes in vec(any::<u8>(), 0..1300), kind in 0x88_u8..0x93, size in 0_usize..1300) {
        let _ = Packet::parse(&bytes);
        let mut packet = bytes;
        packet.resize(size.max(5), 0);
        packet[0] = kind;
        packet[1..5].copy_from_slice(&VERSION.to_be_bytes());
        if let Ok(Packet::Sealed(sealed)) = Packet::parse(&packet) {
            prop_assert_eq!(sealed.header.len() + sealed.sealed.len(), packet.len());
        }
        let _ = (Lease::decode(&packet), LeaseOk::decode(&packet), Connect::decode(&packet));
        let _ = (Found::decode(&packet), Notify::decode(&packet), Request::decode(&packet));
        let _ = (Registered::decode(&packet), Entries::decode(&packet), records::read_outcome(&packet));
        let _ = records::read_way(&packet);
        let _ = (spray::Record::decode(&packet), packet.get(..7).map(spray::Record::decode));
    }
}

// spec: RCH-7
#[test]
fn packets_of_another_size_or_version_are_refused() {
    let mut lease = header(Kind::Lease, &[1; 8], Some(&[2; 87]));
    lease.resize(LEASE_SIZE, 9);
    let Ok(Packet::Sealed(sealed)) = Packet::parse(&lease) else {
        panic!("a LEASE");
    };
    assert_eq!(
        (sealed.kind, sealed.id, sealed.token),
        (Kind::Lease, &[1; 8], &[2; 87][..])
    );
    assert_eq!(lease_plaintext(sealed.header.len()) + 16, sealed.sealed.len());
    assert!(Packet::parse(&lease[..LEASE_SIZE - 1]).is_err());
    assert!(Packet::parse(&[&lease[..], &[0]].concat()).is_err());
    let mut other = lease.clone();
    other[4] ^= 2;
    assert_eq!(Packet::parse(&other), Err(Malformed("a packet of another version")));

    let mut punch = punch_without_mac(true, &[3; 8], &[4; 16]);
    punch.extend_from_slice(&[5; 16]);
    assert_eq!(punch.len(), PUNCH_SIZE);
    let Ok(Packet::Punch(read)) = Packet::parse(&punch) else {
        panic!("a PUNCH");
    };
    assert!(read.is_answer);
    assert_eq!((read.introduction, read.nonce, read.mac), (&[3; 8], &[4; 16], &[5; 16]));
    assert_eq!(read.authed, &punch[..29]);

    let mut leg = leg_without_mac(&[6; 8], &[7; KEM_KEY]);
    leg.extend_from_slice(&[8; 16]);
    let Ok(Packet::Leg(read)) = Packet::parse(&leg) else {
        panic!("a LEG");
    };
    assert_eq!(
        (read.introduction, read.key, read.mac),
        (&[6; 8], &[7; KEM_KEY], &[8; 16])
    );
    assert!(Packet::parse(&leg[..LEG_SIZE - 1]).is_err());
}

// spec: RCH-1, RCH-2
#[test]
fn requests_that_are_too_long_are_refused() {
    let register = |words: &str, profile: usize| {
        let request = Request::Register(Register {
            words: words.to_owned(),
            profile: "p".repeat(profile),
            ..Register::default()
        });
        Request::decode(&request.encode())
    };
    assert!(register(&"w ".repeat(16), 1024).is_ok());
    assert!(register(&"w ".repeat(17), 0).is_err());
    assert!(register(&"w".repeat(64), 0).is_ok());
    assert!(register(&"w".repeat(65), 0).is_err());
    assert!(register("", 1025).is_err());
    assert!(Request::decode(&[]).is_err());
    assert!(Request::decode(&[4, 0]).is_err(), "cut off");
    assert!(Request::decode(&[9]).is_err());
    assert!(Request::decode(&[4; MAX_RECORD + 1]).is_err());
}

// spec: RCH-4
#[test]
fn as_many_entries_as_fit_are_sent_and_the_last_says_where_to_go_on() {
    let eid = |n: u8| Eid::from_public_key(&[n; 32]);
    let all: Vec<_> = (0..20).map(|n| (eid(n), "x".repeat(300))).collect();
    let record = Entries {
        entries: all.clone(),
        ..Entries::default()
    }
    .encode();
    assert!(record.len() <= MAX_RECORD);
    let first = Entries::decode(&record).unwrap().unwrap();
    assert_eq!(first.entries, all[..6]);
    assert_eq!(first.next, Some(eid(5)));
    let rest = Entries {
        entries: all[15..].to_vec(),
        ..Entries::default()
    };
    let read = Entries::decode(&rest.clone().encode()).unwrap().unwrap();
    assert_eq!(read, rest);
}

const MAX_RECORD: usize = records::MAX_RECORD;

// spec: CHN-17
#[test]
fn the_header_of_a_relay_is_read_as_it_was_written() {
    for n in [0, 1, 0x0102_0304, u32::MAX] {
        let datagram = [&relay_header(n)[..], b"packet"].concat();
        assert_eq!(relay_handle(&datagram), Ok(n));
        for cut in 0..RELAY_HEADER {
            assert!(relay_handle(&datagram[..cut]).is_err(), "cut at {cut}");
        }
    }
    assert_eq!(relay_header(0x0102_0304), [8, 1, 2, 3, 4]);
    assert!(relay_handle(&[9, 1, 2, 3, 4]).is_err());
}
