//! The vectors of `stateless_reset.json`.

use serde_json::Value;
use sss_wire::ChannelId;

use super::*;

/// The length of channel ids in the vectors, in bytes.
const ID_LEN: usize = 8;

fn vectors(list: &str) -> Vec<Value> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../sss-wire/tests/vectors/stateless_reset.json"
    );
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    file[list].as_array().expect(list).clone()
}

fn bytes(value: &Value, field: &str) -> Vec<u8> {
    let digits = value[field].as_str().expect(field).as_bytes();
    let pairs = digits.chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

fn token(value: &Value) -> [u8; 16] {
    bytes(value, "token").try_into().unwrap()
}

fn host(n: u8) -> Host {
    let config = Config {
        channel_id_len: ID_LEN,
        ..Config::default()
    };
    Host::new(config, StaticKey::from_bytes([n + 1; 32]), [n; 32])
}

// spec: VEC-13, PRT-11, PRT-12
#[test]
fn unknown_channels_are_answered_as_in_the_vectors() {
    let tokens = vectors("tokens");
    let key: [u8; 32] = bytes(&tokens[0], "key").try_into().unwrap();
    for vector in &tokens {
        assert_eq!(bytes(vector, "key"), key, "all under one key");
        let mut host = host(0);
        host.local.reset_key = key.into();
        let id = ChannelId::new(&bytes(vector, "channel_id")).unwrap();
        assert_eq!(host.local.reset_token(id), token(vector), "{vector}");
    }
    for vector in vectors("answers") {
        let mut net = Net::new(2);
        net.nodes[0].host = host(0);
        net.host(0).local.reset_key = key.into();
        let (a, b) = (net.nodes[0].address, net.nodes[1].address);
        net.deliver(&(b, a, bytes(&vector, "packet")));
        let sent = net.poll(0);
        let Some(length) = vector["length"].as_u64() else {
            assert!(vector["token"].is_null() && sent.is_empty(), "{vector}");
            continue;
        };
        let [(_, to, reset)] = &sent[..] else {
            panic!("{vector}: {sent:?}");
        };
        assert_eq!((*to, reset.len() as u64), (b, length), "{vector}");
        assert_eq!(reset[0] >> 6, 0b01, "{vector}");
        assert!(reset.ends_with(&token(&vector)), "{vector}");
    }
}

// spec: VEC-13, PRT-13
#[test]
fn announced_tokens_end_channels_as_in_the_vectors() {
    for vector in vectors("received") {
        let mut net = Net::new(2);
        for n in 0..2 {
            let mut host = host(n);
            host.listen(SERVICE.0, SERVICE.1).unwrap();
            net.nodes[usize::from(n)].host = host;
        }
        let stream = net.connect(0, 1);
        written(net.host(0).stream(stream).poll_write(b"x"));
        net.run(5 * SECOND, |_| true);
        let id = net.peer(0, 1);
        net.host(0).peers.get_mut(id).unwrap().set_reset_token(token(&vector));
        let host = net.host(0);
        host.peers.settle(&mut host.local, id.index);
        // Whoever sent it.
        let elsewhere = SocketAddr::from(([192, 0, 2, 7], 9));
        let a = net.nodes[0].address;
        net.deliver(&(elsewhere, a, bytes(&vector, "datagram")));
        let has_ended = net.host(0).peers.get_mut(id).unwrap().open_channels() == 0;
        assert_eq!(Value::from(has_ended), vector["ends"], "{vector}");
        let is_answered = net.poll(0).iter().any(|p| p.1 == elsewhere);
        assert!(!(has_ended && is_answered), "a reset is not answered with another");
    }
}
