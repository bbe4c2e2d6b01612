use super::*;

fn ids(list: &[u8]) -> Result<Vec<u64>, Malformed> {
    Parameters::new(list).map(|p| p.map(|(id, _)| id)).collect()
}

#[test]
fn hello_and_cookie_by_the_byte() {
    let hello = HelloParams {
        versions: vec![1],
        suites: vec![Suite::Aes256Gcm, Suite::ChaCha20Poly1305],
        kems: vec![Kem::None],
        candidates: Vec::new(),
    };
    assert_eq!(hello.to_vec(), [1, 4, 0, 0, 0, 1, 2, 2, 2, 1]);
    let hello = HelloParams {
        kems: vec![Kem::MlKem768, Kem::None],
        ..hello
    };
    assert_eq!(hello.to_vec(), [1, 4, 0, 0, 0, 1, 2, 2, 2, 1, 4, 2, 1, 0]);
    let five: Vec<SocketAddr> = (1..6).map(|n| ([192, 168, 0, n], 0x1e4d).into()).collect();
    let with = |candidates: &[SocketAddr]| HelloParams {
        candidates: candidates.to_vec(),
        ..hello.clone()
    };
    let one = [
        6, 18, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 168, 0, 1, 0x1e, 0x4d,
    ];
    assert_eq!(with(&five[..1]).to_vec(), [&hello.to_vec()[..], &one].concat());
    assert_eq!(HelloParams::decode(&with(&five).to_vec()), Ok(with(&five[..4])));
    let mut cut = with(&five[..1]).to_vec();
    cut.pop();
    cut[15] = 17;
    assert!(HelloParams::decode(&cut).is_err());
    let cookie = CookieParams {
        versions: vec![1],
        suite: Suite::Aes256Gcm,
        channel_id: ChannelId::new(&[9, 8]).unwrap(),
        kem: None,
        shard: None,
    };
    let plain = [1, 4, 0, 0, 0, 1, 2, 1, 2, 3, 2, 9, 8];
    assert_eq!(cookie.to_vec(), plain);
    let cookie = CookieParams {
        kem: Some([7; 32]),
        ..cookie
    };
    assert_eq!(cookie.to_vec(), [&plain[..], &[4, 1, 1, 5, 32], &[7; 32]].concat());
}

#[test]
fn a_list_ends_at_id_0_or_with_the_input() {
    assert_eq!(ids(&[5, 0, 6, 1, 7]), Ok(vec![5, 6]));
    assert_eq!(ids(&[5, 0, 0, 6, 1, 7, 5, 0]), Ok(vec![5]));
    assert_eq!(ids(&[]), Ok(vec![]));
    assert_eq!(ids(&[0, 0xff]), Ok(vec![]));
}

#[test]
fn an_id_that_occurs_twice_is_refused() {
    assert!(ids(&[5, 0, 5, 0]).is_err());
    assert!(ids(&[5, 0, 6, 0, 0x40, 5, 0]).is_err());
    // Ids that are kept as bits do not meet others.
    let mut list: Vec<u8> = (1..128).flat_map(|id| [0x40, id, 0]).collect();
    assert_eq!(ids(&list), Ok((1..128).collect()));
    list.extend_from_slice(&[0x40, 100, 0]);
    assert!(ids(&list).is_err());
}

#[test]
fn after_an_error_the_list_ends() {
    let mut list = Parameters::new(&[5, 3, 0]);
    assert!(list.next().unwrap().is_err());
    assert_eq!(list.next(), None);
}

// spec: CHN-1
#[test]
fn settings_have_defaults_and_ranges() {
    let default = Settings::decode(&[]).unwrap();
    assert_eq!(default, Settings::default());
    assert_eq!(default.root_credit, 1 << 20);
    assert_eq!(default.idle_timeout_ms, 60_000);
    assert_eq!(default.max_ack_delay_us, 25_000);
    assert_eq!(default.max_datagram, 1472);
    assert_eq!(default.max_message, 1 << 20);
    assert!(default.to_vec().is_empty());
    assert!(Settings::decode(&[25, 4, 0x84, 0, 0, 1]).is_err(), "2^26 + 1 bytes");
    assert!(Settings::decode(&[20, 4, 0x81, 0, 0, 0]).is_err(), "2^24 us");
    assert!(Settings::decode(&[21, 2, 0x44, 0xcf]).is_err(), "1231 bytes");
    assert!(Settings::decode(&[17, 1, 0]).is_err());
    assert!(Settings::decode(&[16, 0]).is_err());
}

#[test]
fn what_is_too_large_to_send_is_cut() {
    let settings = Settings {
        idle_timeout_ms: u64::MAX,
        agent: "ü".repeat(100),
        ..Settings::default()
    };
    let again = Settings::decode(&settings.to_vec()).unwrap();
    assert_eq!(again.idle_timeout_ms, varint::MAX);
    assert_eq!(again.agent, "ü".repeat(32));
}
