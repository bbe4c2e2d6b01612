use sss_wire::reach::bodies::{Status, Unfound};
use sss_wire::reach::records::{self, Entries, Registered};

use super::*;
use crate::path::Path;
use crate::server::{Quotas, Registrar, ServerConfig};

const NOW: Instant = Instant::from_nanos(1_000_000_000_000);

fn eid(n: u8) -> Eid {
    Eid::from_public_key(&[n; 32])
}

fn address(n: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, n], 7757))
}

fn other() -> Elsewhere {
    Elsewhere {
        server: eid(201),
        address: address(201),
    }
}

fn server() -> Registrar {
    let config = ServerConfig {
        quotas: Quotas {
            entries: 3,
            ..Quotas::default()
        },
        ..ServerConfig::default()
    };
    let mut server = Registrar::new(NOW, config, &[1; 32], &[2; 32]);
    server.open_directory(eid(200), address(200));
    server.on_directory(NOW, vec![DirectoryAnswer::Up]);
    server
}

fn listed(words: &str, profile: &str) -> Register {
    Register {
        visibility: Visibility::Listed,
        words: words.to_owned(),
        profile: profile.to_owned(),
        ..Register::default()
    }
}

fn register(server: &mut Registrar, n: u8, register: Register) {
    let register = Register {
        instance: [n; 8],
        ..register
    };
    let answer = ask(server, NOW, n, &Request::Register(register)).unwrap();
    assert!(Registered::decode(&answer).unwrap().is_ok());
}

fn ask(server: &mut Registrar, now: Instant, n: u8, request: &Request) -> Option<Vec<u8>> {
    server
        .ask(now, (&eid(n), Path::from(address(n))), &request.encode(), false)
        .unwrap()
}

fn orders(server: &mut Registrar) -> Vec<DirectoryOrder> {
    std::iter::from_fn(|| server.poll_directory_order(NOW)).collect()
}

fn search(after: Option<Eid>, count: u8) -> Search {
    Search {
        word: "photos".to_owned(),
        after,
        count,
    }
}

fn entry(words: &str, profile: &str) -> Vec<u8> {
    let register = listed(words, profile);
    Record { at: other(), register }.encode()
}

// spec: RCH-44
#[test]
fn entries_are_read_as_they_were_written_and_nothing_else_is() {
    let record = Record {
        at: other(),
        register: listed("photos", "ours"),
    };
    let good = record.encode();
    assert_eq!(Record::decode(&good), Ok(record.clone()));
    for n in 0..good.len() {
        assert!(Record::decode(&good[..n]).is_err(), "{n}");
    }
    let with = |at: usize, byte: u8| {
        let mut entry = good.clone();
        entry[at] = byte;
        Record::decode(&entry)
    };
    // Another version; an EID of no type; no port; not REGISTER; not to be found.
    assert!(with(0, 2).is_err() && with(1, 9).is_err() && with(52, 2).is_err() && with(61, 0).is_err());
    let mut long = good.clone();
    long.resize(3000, 0);
    assert!(Record::decode(&long).is_err());
    let mut nowhere = record;
    nowhere.at.address.set_port(0);
    assert!(Record::decode(&nowhere.encode()).is_err());
}

// spec: RCH-44
#[test]
fn a_search_finds_the_hosts_of_all_servers_in_order_and_goes_on_behind_the_last() {
    let mut server = server();
    for n in [10, 30] {
        register(&mut server, n, listed("photos cats", &format!("own {n}")));
    }
    let put =
        |order: &DirectoryOrder| matches!(order, DirectoryOrder::Put { words, .. } if words == &["cats", "photos"]);
    assert_eq!(orders(&mut server).iter().filter(|order| put(order)).count(), 2);
    let asked = Request::Search(search(None, 100));
    assert_eq!(ask(&mut server, NOW, 10, &asked), None);
    let [DirectoryOrder::List(question)] = &orders(&mut server)[..] else {
        panic!("one question");
    };
    assert_eq!(question.count, 3, "no more than the server gives");
    // One is listed under another word, one is no entry, one is out of order.
    let hosts = vec![
        (eid(5), entry("photos", "five")),
        (eid(6), entry("pictures", "six")),
        (eid(4), entry("photos", "four")),
        (eid(7), vec![1, 2, 3]),
        (eid(30), entry("photos", "what others say")),
        (eid(40), entry("photos", "forty")),
        (eid(50), entry("photos", "fifty")),
    ];
    let answer = DirectoryAnswer::Listed(question.clone(), hosts, true);
    server.on_directory(NOW, vec![answer]);
    assert!(server.take_news());
    let page = |server: &mut Registrar, request: &Request| {
        let answer = ask(server, NOW, 10, request).expect("it is remembered");
        Entries::decode(&answer).unwrap().unwrap()
    };
    let first = page(&mut server, &asked);
    let names = |page: &Entries| {
        page.entries
            .iter()
            .map(|(_, profile)| profile.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&first), ["five", "own 10", "own 30"]);
    assert_eq!((first.next, first.is_partial), (Some(eid(30)), false));
    let asked = Request::Search(search(first.next, 100));
    assert_eq!(ask(&mut server, NOW, 10, &asked), None);
    let hosts = vec![(eid(40), entry("photos", "forty")), (eid(50), entry("photos", "fifty"))];
    server.on_directory(NOW, vec![DirectoryAnswer::Listed(search(first.next, 3), hosts, false)]);
    let second = page(&mut server, &asked);
    assert_eq!(
        (names(&second), second.next),
        (vec!["forty".to_owned(), "fifty".to_owned()], None)
    );
    // Without the directory: those of this server, and it is said that others may be missing.
    server.on_directory(NOW, vec![DirectoryAnswer::Down]);
    let asked = Request::Search(search(Some(eid(1)), 100));
    let own = page(&mut server, &asked);
    assert_eq!(
        (names(&own), own.is_partial),
        (vec!["own 10".to_owned(), "own 30".to_owned()], true)
    );
}

// spec: RCH-44
#[test]
fn whoever_does_not_follow_is_told_as_without_a_directory() {
    let mut server = server();
    register(&mut server, 1, Register::default());
    let follows = Register {
        follows: true,
        ..Register::default()
    };
    register(&mut server, 2, follows);
    let asked = Request::Lookup(eid(9));
    let never_seen = records::outcome(&Unfound::because(Status::NeverSeen));
    assert_eq!(ask(&mut server, NOW, 1, &asked), Some(never_seen));
    assert_eq!(orders(&mut server), []);
    assert_eq!(ask(&mut server, NOW, 2, &asked), None);
    assert_eq!(orders(&mut server), [DirectoryOrder::Find(eid(9))]);
    let found = DirectoryAnswer::Found(eid(9), Some(entry("", "")));
    server.on_directory(NOW, vec![found]);
    let elsewhere = records::outcome(&Unfound::elsewhere(other()));
    assert_eq!(ask(&mut server, NOW, 2, &asked), Some(elsewhere.clone()));
    assert_eq!(records::read_outcome(&elsewhere), Ok(Err(Unfound::elsewhere(other()))));
}

// spec: RCH-45
#[test]
fn questions_are_bounded_and_forgotten() {
    let mut directory = Directory::new(other());
    directory.on_answer(NOW, DirectoryAnswer::Up);
    let host = |n: u32| {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&n.to_be_bytes());
        Eid::from_public_key(&key)
    };
    let waits = (0..10_000)
        .filter(|n| directory.find(NOW, &host(*n)) == Answer::Wait)
        .count();
    assert_eq!(waits, MAX_QUESTIONS);
    assert_eq!(std::iter::from_fn(|| directory.poll_order()).count(), MAX_QUESTIONS);
    assert_eq!(directory.next_timer(), Some(NOW + PATIENCE));
    // What is not answered is not asked again at once.
    directory.on_timer(NOW + PATIENCE);
    assert_eq!(directory.find(NOW + PATIENCE, &host(1)), Answer::Unavailable);
    directory.on_timer(NOW + PATIENCE + MEMORY);
    assert_eq!((directory.len(), directory.next_timer()), (0, None));
}

// spec: RCH-44
#[test]
fn what_a_host_says_anew_is_written_once_a_second_at_most() {
    let mut directory = Directory::new(other());
    directory.on_answer(NOW, DirectoryAnswer::Up);
    let after = |ms: u64| NOW + Duration::from_millis(ms);
    let mut is_due = |ms, is_new| {
        let is_due = directory.is_due(after(ms), &eid(1), is_new);
        if is_due {
            directory.put(after(ms), eid(1), listed("photos", "ours"));
        }
        is_due
    };
    assert!(is_due(0, true));
    assert!(!is_due(10, false));
    assert!(!is_due(500, true), "too soon");
    assert!(is_due(20_000, false), "with the next LEASE");
    assert!(!is_due(79_999, false));
    assert!(is_due(80_000, false));
    assert!(is_due(90_000, true));
}
