use super::*;

const ATTEMPT: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];
const TOKEN: [u8; 16] = [0xaa; 16];

fn largest_hello() -> Vec<u8> {
    hello(1, &ATTEMPT, &TOKEN, &vec![7; 32 + HELLO_PAYLOAD + TAG])
}

fn largest_hello_k() -> Vec<u8> {
    hello_k(1, &ATTEMPT, &TOKEN, &[8; 16], &[9; KEM_KEY])
}

fn largest_cookie_k() -> Vec<u8> {
    let mut packet = cookie_k_without_mac(1, &ATTEMPT, &[5; KEM_CIPHERTEXT], &[6; 113]);
    packet.extend_from_slice(&[7; 16]);
    packet
}

#[test]
fn prefix_is_13_bytes() {
    let packet = retry(0x0102_0304, &ATTEMPT, &TOKEN);
    assert_eq!(packet[..PREFIX], [0x82, 1, 2, 3, 4, 1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(packet[PREFIX..], TOKEN);
    assert_eq!(packet.len(), RETRY_SIZE);
}

#[test]
fn hello_has_a_place_for_the_token() {
    let mut packet = largest_hello();
    set_token(&mut packet, &[9; 16]);
    let Ok(Long::Hello(parsed)) = Long::parse(&packet) else {
        panic!()
    };
    assert_eq!(parsed.token, &[9; 16]);
    assert_eq!(parsed.noise, vec![7; 1203]);
    set_token(&mut packet, &TOKEN);
    assert_eq!(packet, largest_hello());
    set_token(&mut packet[..20], &[1; 16]);
    assert_eq!(packet, largest_hello(), "too short for a token");
}

// spec: NEG-2
#[test]
fn wrong_sizes_are_refused() {
    let exact = [largest_hello(), retry(1, &ATTEMPT, &TOKEN), probe(&ATTEMPT)];
    let exact = exact.into_iter().chain([largest_hello_k()]);
    for packet in exact {
        assert!(Long::parse(&packet).is_ok());
        let mut longer = packet.clone();
        longer.push(0);
        assert!(Long::parse(&longer).is_err());
        (0..packet.len()).for_each(|end| assert!(Long::parse(&packet[..end]).is_err()));
    }
}

#[test]
fn hello_k_has_the_token_where_hello_has_it() {
    let mut packet = largest_hello_k();
    assert_eq!((packet.len(), &packet[1230..]), (HELLO_K_SIZE, &[0, 0][..]));
    set_token(&mut packet, &[1; 16]);
    let Ok(Long::HelloK(parsed)) = Long::parse(&packet) else {
        panic!()
    };
    assert_eq!(
        (parsed.token, parsed.hello, parsed.key),
        (&[1; 16], &[8; 16], &[9; KEM_KEY])
    );
    assert_eq!(parsed.authed, &packet[PREFIX + 16..]);
    for kem in (0..=0xff).filter(|kem| *kem != 1) {
        packet[PREFIX + 32] = kem;
        assert!(Long::parse(&packet).is_err(), "KEM {kem}");
    }
}

// spec: NEG-2
#[test]
fn unknown_types_are_refused() {
    for first in 0..=0xff {
        let mut packet = largest_hello();
        packet[0] = first;
        // As INITIATE, its cookies would be longer than the packet; as HELLO_K, it would be of another KEM.
        assert_eq!(
            Long::parse(&packet).is_ok(),
            matches!(first, 0x80 | 0x87),
            "{first:#04x}"
        );
    }
    assert_eq!(Kind::try_from(0x8a), Err(Malformed("unknown type of long packet")));
    assert_eq!(Kind::try_from(0x40), Err(Malformed("not a long packet")));
}

// spec: NEG-3
#[test]
fn threat_01_replies_are_smaller_than_what_caused_them() {
    let many: Vec<u32> = (0..1000).collect();
    assert!(retry(1, &ATTEMPT, &TOKEN).len() < HELLO_SIZE);
    assert!(version(&ATTEMPT, &many).len() < HELLO_SIZE);
    assert!(Long::parse(&version(&ATTEMPT, &many)).is_ok());
    let mut cookie = cookie_without_mac(1, &ATTEMPT, &[5; 32 + 300], &[6; 255]);
    cookie.extend_from_slice(&[0; 16]);
    assert!(cookie.len() < HELLO_SIZE && Long::parse(&cookie).is_ok());
    let cookie_k = largest_cookie_k();
    assert_eq!(cookie_k.len(), HELLO_K_SIZE - 1);
    let Ok(Long::CookieK(parsed)) = Long::parse(&cookie_k) else {
        panic!()
    };
    assert_eq!(
        (parsed.ciphertext, parsed.cookie, parsed.mac),
        (&[5; KEM_CIPHERTEXT], &[6; 113][..], &[7; 16])
    );
    assert_eq!(parsed.authed, &cookie_k[..HELLO_K_SIZE - 17]);
    let eid = Eid::from_public_key(&[3; 32]);
    let reply = probe_reply(&ATTEMPT, &eid);
    assert!(reply.len() < probe(&ATTEMPT).len());
    let Ok(Long::ProbeReply(parsed)) = Long::parse(&reply) else {
        panic!()
    };
    assert_eq!((parsed.eid, parsed.attempt), (eid, &ATTEMPT));
}

#[test]
fn version_lists_up_to_255_versions() {
    let packet = version(&ATTEMPT, &(1..1000).collect::<Vec<_>>());
    let Ok(Long::Version(parsed)) = Long::parse(&packet) else {
        panic!()
    };
    assert!(parsed.versions().eq(1..256));
    assert_eq!(packet.len(), 14 + 4 * 255);
}

#[test]
fn rooms_fill_the_datagram() {
    for (cookie_len, kem_len) in [(0, 0), (1, 0), (180, 61), (255, 113)] {
        let noise = vec![1; 48 + initiate_room(cookie_len, kem_len) + TAG];
        let packet = initiate(1, &ATTEMPT, &vec![2; cookie_len], &vec![3; kem_len], &noise);
        assert_eq!(packet.len(), BASE_DATAGRAM);
        let Ok(Long::Initiate(parsed)) = Long::parse(&packet) else {
            panic!()
        };
        assert_eq!((parsed.cookie.len(), parsed.kem), (cookie_len, &vec![3; kem_len][..]));
    }
    let packet = accept(1, &ATTEMPT, &[4; 32], &[5; ACCEPT_ROOM + TAG]);
    assert_eq!(packet.len(), BASE_DATAGRAM);
    let Ok(Long::Accept(parsed)) = Long::parse(&packet) else {
        panic!()
    };
    assert_eq!(parsed.header[..], packet[..ACCEPT_HEADER]);
    assert_eq!(parsed.nonce, &[4; 32]);
    assert_eq!(parsed.sealed_frames.len(), ACCEPT_ROOM + TAG);
}

// spec: NEG-1
#[test]
fn every_packet_names_its_attempt() {
    let mut cookie = cookie_without_mac(1, &ATTEMPT, &[5; 80], &[6; 200]);
    cookie.extend_from_slice(&[0; 16]);
    let packets = [
        largest_hello(),
        retry(1, &ATTEMPT, &TOKEN),
        version(&ATTEMPT, &[1]),
        cookie,
        largest_hello_k(),
        largest_cookie_k(),
        initiate(1, &ATTEMPT, &[1; 200], &[1; 61], &[2; 48 + 17]),
        accept(1, &ATTEMPT, &[3; 32], &[4; 17]),
        probe(&ATTEMPT),
        probe_reply(&ATTEMPT, &Eid::from_public_key(&[0; 32])),
    ];
    for packet in packets {
        assert_eq!(Long::parse(&packet).unwrap().attempt(), &ATTEMPT);
    }
}
