use std::net::{Ipv4Addr, Ipv6Addr};

use sss_reach::mdns::LEN;
use sss_wire::Eid;

use super::*;

fn presence() -> Presence {
    let nonce = Nonce([0x5a; LEN]);
    Presence {
        nonce,
        tag: Tag::new(&eid(), &nonce),
        port: 7757,
    }
}

fn eid() -> Eid {
    Eid::from_public_key(&[7; 32])
}

fn addresses() -> Vec<IpAddr> {
    vec![
        Ipv4Addr::new(192, 168, 7, 1).into(),
        Ipv6Addr::from_bits(0xfe80 << 112 | 1).into(),
    ]
}

fn announced() -> Vec<u8> {
    announcement(&presence(), &addresses(), false)
}

fn has(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

// spec: RCH-33
#[test]
fn what_is_said_is_understood() {
    for unicast in [false, true] {
        let asked = Asked {
            all: true,
            unicast,
            ..Asked::default()
        };
        assert_eq!(read(&question(unicast)), Some(Heard::Asked(asked)));
    }
    assert_eq!(read(&announced()), Some(Heard::Told(vec![presence()])));
    let farewell = announcement(&presence(), &addresses(), true);
    assert_eq!(read(&farewell), Some(Heard::Told(Vec::new())));
    assert!(announced().len() < 400, "{} bytes", announced().len());
    assert_eq!(question(true).len(), 33);
}

// spec: RCH-34
#[test]
fn threat_43_an_announcement_has_no_eid_in_any_form() {
    let message = announced();
    let key = eid();
    let text = key.to_string();
    let hex: String = key.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    for form in [&key.as_bytes()[1..9], &text.as_bytes()[5..15], &hex.as_bytes()[4..14]] {
        assert!(!has(&message, form));
        assert!(!has(&message.to_ascii_uppercase(), &form.to_ascii_uppercase()));
    }
}

fn packet_of(records: Vec<ResourceRecord<'_>>) -> Vec<u8> {
    let mut packet = Packet::new_reply(0);
    packet.answers = records;
    packet.build_bytes_vec_compressed().unwrap()
}

fn record<'a>(name: &'a str, data: RData<'a>) -> ResourceRecord<'a> {
    ResourceRecord::new(Name::new_unchecked(name), CLASS::IN, TTL, data)
}

fn location(port: u16) -> RData<'static> {
    RData::SRV(SRV {
        priority: 0,
        weight: 0,
        port,
        target: Name::new_unchecked("x.local"),
    })
}

fn text(attributes: &[&str]) -> RData<'static> {
    let mut text = TXT::new();
    for attribute in attributes {
        let (key, value) = attribute.split_once('=').unwrap();
        text.add_attribute(key, Some(value.as_bytes())).unwrap();
    }
    RData::TXT(text)
}

// spec: RCH-35
#[test]
fn threat_43_foreign_and_hostile_records_are_left_alone() {
    let own = format!("{}._sss._udp.local", presence().nonce.to_text());
    let tag = format!("t={}", presence().tag.to_text());
    let other = format!("{}._ipp._tcp.local", presence().nonce.to_text());
    let good = packet_of(vec![record(&own, location(7757)), record(&own, text(&[&tag]))]);
    assert_eq!(read(&good), Some(Heard::Told(vec![presence()])));
    let large = "x".repeat(200);
    let elsewhere = format!("{}._sss._udp.local", Nonce([1; LEN]).to_text());
    let gone = |mut record: ResourceRecord<'static>| {
        record.ttl = 0;
        record
    };
    let (location_gone, text_gone) = (
        gone(record(&own, location(7757)).into_owned()),
        gone(record(&own, text(&[&tag])).into_owned()),
    );
    let bad: [Vec<ResourceRecord<'_>>; 11] = [
        // Half of it is of another, or goes.
        vec![record(&elsewhere, location(7757)), record(&own, text(&[&tag]))],
        vec![location_gone, record(&own, text(&[&tag]))],
        vec![record(&own, location(7757)), text_gone],
        vec![
            record("My Printer._ipp._tcp.local", location(631)),
            record("My Printer._ipp._tcp.local", text(&["t=1"])),
        ],
        vec![
            record("My Files._sss._udp.local", location(7757)),
            record("My Files._sss._udp.local", text(&[&tag])),
        ],
        vec![record(&other, location(7757)), record(&other, text(&[&tag]))],
        vec![record(&own, text(&[&tag]))],
        vec![record(&own, location(7757))],
        vec![record(&own, location(0)), record(&own, text(&[&tag]))],
        vec![record(&own, location(7757)), record(&own, text(&["t=00", "path=/"]))],
        vec![
            record(&own, location(7757)),
            record(&own, text(&[&format!("x={large}"), &format!("t={large}")])),
        ],
    ];
    for records in bad {
        let message = packet_of(records);
        assert_eq!(read(&message), Some(Heard::Told(Vec::new())), "{message:02x?}");
    }
}

// spec: RCH-35
#[test]
fn threat_43_a_message_tells_of_few_hosts_and_takes_no_room_by_its_counts() {
    let own = format!("{}._sss._udp.local", presence().nonce.to_text());
    let tag = format!("t={}", presence().tag.to_text());
    let with_tags = |tags| {
        let tags = std::iter::repeat_n(record(&own, text(&[&tag])), tags);
        packet_of(std::iter::once(record(&own, location(7757))).chain(tags).collect())
    };
    let many = with_tags(25);
    assert!(many.len() <= MAX_MESSAGE);
    let Some(Heard::Told(hosts)) = read(&many) else {
        panic!("it is not too long");
    };
    assert_eq!(hosts.len(), MAX_NAMES);
    let too_long = with_tags(35);
    assert!(too_long.len() > MAX_MESSAGE);
    assert_eq!(read(&too_long), None);
    // Addresses are not looked at: there may be as many as there are.
    let address = |n: u32| record("x.local", RData::A(A { address: n }));
    assert_eq!(
        read(&packet_of((0..60).map(address).collect())),
        Some(Heard::Told(Vec::new()))
    );
    assert_eq!(read(&packet_of((0..200).map(address).collect())), None);
    // Nor are more read of the least that there is, questions.
    let questions = |count: usize| {
        let mut packet = Packet::new_query(0);
        let one = || Question::new(Name::new_unchecked(SERVICE), QTYPE::ANY, QCLASS::ANY, false);
        packet.questions = std::iter::repeat_with(one).take(count).collect();
        packet.build_bytes_vec_compressed().unwrap()
    };
    assert!(questions(129).len() <= MAX_MESSAGE);
    assert!(matches!(
        read(&questions(128)),
        Some(Heard::Asked(Asked { all: true, .. }))
    ));
    assert_eq!(read(&questions(129)), None);
    for count in 0..4 {
        let mut counts = [0; 12];
        counts[4 + 2 * count] = 0xff;
        assert_eq!(read(&counts), None);
    }
}

// spec: RCH-35
#[test]
fn threat_43_of_a_question_few_names_are_kept() {
    let names: Vec<String> = (0..25)
        .map(|n| format!("{}._sss._udp.local", Nonce([n; LEN]).to_text()))
        .collect();
    let mut packet = Packet::new_query(0);
    for name in &names {
        let name = Name::new_unchecked(name);
        packet
            .questions
            .push(Question::new(name, QTYPE::ANY, QCLASS::ANY, false));
    }
    let message = packet.build_bytes_vec_compressed().unwrap();
    let Some(Heard::Asked(asked)) = read(&message) else {
        panic!("{} bytes", message.len());
    };
    assert_eq!((asked.names.len(), asked.all), (MAX_NAMES, false));
    let mut packet = Packet::new_query(0);
    for name in &names {
        packet
            .answers
            .push(record(SERVICE, RData::PTR(PTR(Name::new_unchecked(name)))));
    }
    let message = packet.build_bytes_vec_compressed().unwrap();
    let Some(Heard::Asked(asked)) = read(&message) else {
        panic!("{} bytes", message.len());
    };
    assert_eq!(asked.known.len(), MAX_NAMES);
}

// spec: RCH-35
#[test]
fn what_is_no_standard_query_is_not_read() {
    for message in [question(false), announced()] {
        for opcode in 1..16 {
            let mut other = message.clone();
            other[2] |= opcode << 3;
            assert_eq!(read(&other), None, "opcode {opcode}");
        }
    }
}

#[test]
fn who_knows_the_host_says_so_and_names_are_the_same_in_capitals() {
    let own = format!("{}._sss._udp.local", presence().nonce.to_text());
    let known = |ttl| {
        let mut packet = Packet::new_query(0);
        let upper = Name::new_unchecked("_SSS._UDP.Local");
        packet
            .questions
            .push(Question::new(upper, QTYPE::ANY, QCLASS::ANY, false));
        let mut answer = record(SERVICE, RData::PTR(PTR(Name::new_unchecked(&own))));
        answer.ttl = ttl;
        packet.answers.push(answer);
        match read(&packet.build_bytes_vec_compressed().unwrap()) {
            Some(Heard::Asked(asked)) => (asked.all, asked.known.len()),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(known(TTL / 2), (true, 1));
    assert_eq!(known(TTL / 2 - 1), (true, 0));
    let named = |name: &str, kind: QTYPE| {
        let mut packet = Packet::new_query(0);
        packet.questions.push(Question::new(
            Name::new_unchecked(name),
            kind,
            QCLASS::CLASS(CLASS::IN),
            true,
        ));
        match read(&packet.build_bytes_vec_compressed().unwrap()) {
            Some(Heard::Asked(asked)) => (asked.all, asked.names, asked.unicast),
            other => panic!("{other:?}"),
        }
    };
    let nonce = presence().nonce;
    assert_eq!(
        named(&own.to_uppercase(), QTYPE::TYPE(TYPE::SRV)),
        (false, vec![nonce], true)
    );
    let host = format!("{}.local", nonce.to_text());
    assert_eq!(named(&host, QTYPE::TYPE(TYPE::AAAA)), (false, vec![nonce], true));
    assert_eq!(
        named("_services._dns-sd._udp.local", QTYPE::TYPE(TYPE::PTR)),
        (true, Vec::new(), true)
    );
    assert_eq!(
        named("_ipp._tcp.local", QTYPE::TYPE(TYPE::PTR)),
        (false, Vec::new(), false)
    );
    assert_eq!(named("printer.local", QTYPE::TYPE(TYPE::A)), (false, Vec::new(), false));
    assert_eq!(named(SERVICE, QTYPE::TYPE(TYPE::A)), (false, Vec::new(), false));
}

// spec: RCH-35
#[test]
fn threat_43_whatever_comes_is_read_without_a_panic_and_in_bounded_time() {
    let seed = std::env::var("SSS_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(1_u64);
    println!("SSS_SEED={seed}");
    let mut state = seed | 1;
    // Marsaglia's xorshift64 (2003).
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 16).unwrap()
    };
    let good = [
        announced(),
        question(true),
        announcement(&presence(), &addresses(), true),
    ];
    for round in 0..200_000 {
        let mut message = good[round % good.len()].clone();
        for _ in 0..=random() % 6 {
            let at = random() % message.len();
            message[at] = u8::try_from(random() % 256).unwrap();
        }
        message.truncate(random() % message.len() + 1);
        let _ = read(&message);
    }
    // Names that point to each other, and to themselves.
    let mut loops = vec![0, 0, 0x84, 0, 0, 0, 0, 100, 0, 0, 0, 0];
    while loops.len() < MAX_MESSAGE {
        let at = u16::try_from(loops.len()).unwrap();
        loops.extend((0xc000 | at.saturating_sub(2).max(12)).to_be_bytes());
    }
    assert_eq!(read(&loops), None);
}
