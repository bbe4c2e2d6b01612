//! Captures that are read with nothing but a key log.

use std::collections::{BTreeSet, HashMap};

use sss_crypto::Suite;
use sss_crypto::packet::{HeaderKey, PacketKey};
use sss_crypto::schedule::Secret;
use sss_wire::short;

use super::*;

/// Length of the channel ids of these hosts: whoever reads a capture sees it in the log.
const ID_LEN: usize = 4;

/// Keys that a log names for one channel id.
struct Keys {
    suite: Suite,
    header: Option<HeaderKey>,
    generations: HashMap<u32, PacketKey>,
    /// One more than the highest number that was read.
    expected: u64,
}

struct Reader(HashMap<Vec<u8>, Keys>);

impl Reader {
    fn new<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        let mut keys: HashMap<Vec<u8>, Keys> = HashMap::new();
        for line in lines {
            let fields: Vec<&str> = line.split(' ').collect();
            let [label, id, secret] = fields[..] else {
                panic!("{} fields", fields.len());
            };
            let (suite, what) = match label.strip_prefix("SSS_AES_256_GCM_") {
                Some(what) => (Suite::Aes256Gcm, what),
                None => {
                    let what = label.strip_prefix("SSS_CHACHA20_POLY1305_");
                    (Suite::ChaCha20Poly1305, what.unwrap())
                }
            };
            let secret: [u8; 32] = bytes(secret).try_into().unwrap();
            let of = keys.entry(bytes(id)).or_insert_with(|| Keys {
                suite,
                header: None,
                generations: HashMap::new(),
                expected: 0,
            });
            assert_eq!(of.suite, suite);
            if what == "HEADER" {
                of.header = Some(HeaderKey::new(suite, &secret));
            } else {
                let generation = what.strip_prefix("SECRET_").unwrap().parse().unwrap();
                let key = PacketKey::new(suite, &Secret::new(secret));
                of.generations.insert(generation, key);
            }
        }
        Self(keys)
    }

    /// Opens a short packet: id, generation and plaintext.
    fn read(&mut self, packet: &[u8]) -> (Vec<u8>, u32, Vec<u8>) {
        let mut packet = packet.to_vec();
        let id = packet[1..=ID_LEN].to_vec();
        let keys = self.0.get_mut(&id).expect("the log has the channel");
        let mask = keys
            .header
            .as_ref()
            .unwrap()
            .mask(short::sample(&packet, ID_LEN).unwrap());
        let header = short::unmask(&mut packet, ID_LEN, &mask).unwrap();
        let seq = short::recover_sequence(header.sequence, header.sequence_len, keys.expected);
        let (aad, body) = packet.split_at(header.encoded_len());
        let fits = |generation: &u32| (generation & 1 == 1) == header.key_phase;
        for (generation, key) in keys.generations.iter().filter(|(generation, _)| fits(generation)) {
            let mut plaintext = body.to_vec();
            if let Ok(len) = key.open(seq, aad, &mut plaintext) {
                plaintext.truncate(len);
                keys.expected = keys.expected.max(seq + 1);
                return (id, *generation, plaintext);
            }
        }
        panic!("packet {seq} does not open");
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(byte).collect()
}

fn secrets(net: &Net, n: usize) -> Vec<String> {
    let line = |event: &Event| match event {
        Event::Secret(secret) => Some(secret.line().to_string()),
        _ => None,
    };
    net.nodes[n].events.iter().filter_map(line).collect()
}

/// On a stream of its own: nobody reads, and credit would run out.
fn say(net: &mut Net, what: &[u8]) {
    let stream = net.connect(0, 1);
    assert_eq!(written(net.host(0).stream(stream).poll_write(what)), what.len());
    net.run(SECOND / 2, |_| true);
}

/// Hosts that talk before and after key updates, and after a move. The settings are those of the first host.
fn exchange(config: Config) -> Net {
    let mut net = Net::with([config, Config::default()]);
    let stream = net.connect(0, 1);
    // Beyond what INITIATE has room for: what follows it at once is of generation 0.
    written(net.host(0).stream(stream).poll_write(&[7; 3000]));
    net.run(SECOND, |_| true);
    say(&mut net, b"in generation 1");
    let peer = net.peer(0, 1);
    net.host(0).peers.get_mut(peer).unwrap().wear_keys();
    for _ in 0..8 {
        say(&mut net, b"in later ones");
    }
    let now = net.now;
    net.nodes[0].address = SocketAddr::from(([10, 0, 0, 77], 4000));
    net.host(0).network_changed(now, |_, _| true);
    net.run(5 * SECOND, |_| true);
    say(&mut net, b"from elsewhere");
    net
}

fn read_all(net: &Net, lines: &[String]) -> Vec<(Vec<u8>, u32, Vec<u8>)> {
    let mut reader = Reader::new(lines.iter().map(String::as_str));
    let short = net.sent.iter().filter(|packet| packet.2[0] & 0xc0 == short::FIXED);
    short.map(|packet| reader.read(&packet.2)).collect()
}

// spec: PRT-23
#[test]
fn a_capture_is_read_with_nothing_but_the_log() {
    for suite in [Suite::ChaCha20Poly1305, Suite::Aes256Gcm] {
        let config = Config::default().with(|config| {
            config.key_log = true;
            config.suites = vec![suite];
        });
        let net = exchange(config);
        let lines = secrets(&net, 0);
        let read = read_all(&net, &lines);
        let find = |words: &[u8]| {
            let has_words = |text: &[u8]| text.windows(words.len()).any(|window| window == words);
            let found = read.iter().find(|(_, _, text)| has_words(text));
            let Some((id, generation, _)) = found else {
                panic!("not found: {}", String::from_utf8_lossy(words));
            };
            (id.clone(), *generation)
        };
        let (_, first) = find(&[7; 100]);
        let (old, second) = find(b"in generation 1");
        let (new, moved) = find(b"from elsewhere");
        assert_eq!((first, second, moved), (0, 1, 1));
        assert_ne!(old, new, "a channel of its own");
        let of_old = read.iter().filter(|(id, ..)| *id == old);
        let generations: BTreeSet<u32> = of_old.map(|(_, generation, _)| *generation).collect();
        assert!(generations.len() > 3 && generations.contains(&3), "{generations:?}");
        // The other way, too.
        let updated = read.iter().filter(|(id, generation, _)| *id != old && *generation >= 3);
        assert!(updated.count() > 0);
        let expected = lines.iter().filter(|line| line.contains("_HEADER ")).count();
        assert_eq!(expected, 4, "two channels, two directions each: {lines:#?}");
        let different: BTreeSet<&String> = lines.iter().collect();
        assert_eq!(different.len(), lines.len(), "each secret is told once");
    }
}

// spec: PRT-23
#[test]
fn no_secret_is_told_unless_asked_for() {
    let net = exchange(Config::default());
    assert!(secrets(&net, 0).is_empty() && secrets(&net, 1).is_empty());
    let config = Config::default().with(|config| config.key_log = true);
    let net = exchange(config);
    assert!(!secrets(&net, 0).is_empty() && secrets(&net, 1).is_empty());
}

// spec: PRT-23
#[test]
fn the_responders_log_is_as_good() {
    let config = Config::default().with(|config| config.key_log = true);
    let mut net = Net::with([Config::default(), config]);
    let stream = net.connect(0, 1);
    written(net.host(0).stream(stream).poll_write(&[7; 3000]));
    net.run(SECOND, |_| true);
    say(&mut net, b"in generation 1");
    let generations: BTreeSet<u32> = read_all(&net, &secrets(&net, 1)).iter().map(|read| read.1).collect();
    assert_eq!(generations, BTreeSet::from([0, 1]));
}
