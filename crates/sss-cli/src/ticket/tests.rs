use serde_json::Value;

use super::*;

fn vectors(list: &str) -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../sss-wire/tests/vectors/tickets.json");
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    file[list].as_array().expect(list).clone()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("{field} of {value}"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

// spec: VEC-16, FIL-40, FIL-41, FIL-42
#[test]
fn valid_vectors_are_read_and_written() {
    for vector in vectors("valid") {
        let name = text(&vector, "name");
        let ticket: Ticket = text(&vector, "text").parse().unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(ticket.eid().to_string(), text(&vector, "eid"), "{name}");
        let places: Vec<_> = ticket.places().iter().map(ToString::to_string).collect();
        let expected = vector["places"].as_array().unwrap().iter();
        assert_eq!(
            places,
            expected.map(|p| p.as_str().unwrap()).collect::<Vec<_>>(),
            "{name}"
        );
        let servers: Vec<_> = ticket.servers().iter().map(ToString::to_string).collect();
        let expected = vector["servers"].as_array().unwrap().iter();
        assert_eq!(
            servers,
            expected.map(|s| s.as_str().unwrap()).collect::<Vec<_>>(),
            "{name}"
        );
        let secret = ticket.secret().map(|secret| hex(secret.as_bytes()));
        assert_eq!(secret.as_deref(), vector["secret"].as_str(), "{name}");
        let is_canonical = vector["canonical"].as_bool().unwrap();
        assert_eq!(hex(&ticket.encode()) == text(&vector, "hex"), is_canonical, "{name}");
        assert_eq!(ticket.to_string() == text(&vector, "text"), is_canonical, "{name}");
        let upper: Ticket = text(&vector, "text").to_uppercase().parse().unwrap();
        assert_eq!(upper, ticket, "{name}");
    }
}

// spec: VEC-16, FIL-40, FIL-41, FIL-42
#[test]
fn invalid_vectors_are_refused() {
    for vector in vectors("invalid") {
        let name = text(&vector, "name");
        let error = match text(&vector, "text").parse::<Ticket>() {
            Ok(ticket) => panic!("{name}: {ticket:?}"),
            Err(TicketError::Prefix) => "prefix",
            Err(TicketError::Length) => "length",
            Err(TicketError::Checksum) => "checksum",
            Err(TicketError::Content(_)) => "content",
        };
        assert_eq!(error, text(&vector, "error"), "{name}");
    }
}

// spec: FIL-40
#[test]
fn a_ticket_has_room_for_some_places_and_never_too_many() {
    let eid = Eid::from_public_key(&[7; 32]);
    let long = |i| Place::name(&format!("{i}{}", "a".repeat(200)), 9).unwrap();
    let address = |i: u16| Place::Address((Ipv6Addr::LOCALHOST, i).into());
    let many = (100..130).map(long).chain((1..200).map(address));
    let ticket = Ticket::new(eid, many, Some(Secret::random().unwrap()));
    let read: Ticket = ticket.to_string().parse().unwrap();
    assert_eq!(read, ticket);
    assert!(ticket.to_string().len() <= MAX_TEXT);
    let names = ticket.places().iter().filter(|place| matches!(place, Place::Name(..)));
    assert_eq!(names.count(), 2, "those that come first have precedence");
    assert!(ticket.places().len() > 5, "what is short fits in beside them");
}

// spec: FIL-40, FIL-42
#[test]
fn servers_have_room_before_places() {
    let eid = Eid::from_public_key(&[7; 32]);
    let server = |i: u16| ServerAt {
        eid: Eid::from_public_key(&i.to_be_bytes().repeat(16).try_into().unwrap()),
        place: Place::Address((Ipv4Addr::LOCALHOST, i).into()),
        tls: i.is_multiple_of(3).then_some(i),
    };
    let address = |i: u16| Place::Address((Ipv6Addr::LOCALHOST, i).into());
    let full = Ticket::new(eid, (1..200).map(address), Some(Secret::random().unwrap()));
    let places = full.places().len();
    assert_eq!(full.clone().with_servers([]).to_string(), full.to_string());
    let scoped = ServerAt {
        place: Place::parse("[fe80::1%eth0]", Some(1)).unwrap(),
        ..server(1)
    };
    let ticket = full.clone().with_servers([scoped, server(1), server(2)]);
    assert_eq!(ticket.servers(), [server(1), server(2)]);
    assert!((1..places).contains(&ticket.places().len()), "{ticket:?}");
    assert_eq!(ticket.to_string().parse::<Ticket>().unwrap(), ticket);
    let ticket = full.with_servers((1..100).map(server));
    assert!(ticket.servers().len() > 5 && ticket.places().is_empty(), "{ticket:?}");
    assert!(ticket.to_string().len() <= MAX_TEXT);
    assert_eq!(ticket.to_string().parse::<Ticket>().unwrap(), ticket);
}

#[test]
fn secrets_are_not_shown_and_never_twice_the_same() {
    let (one, other) = (Secret::random().unwrap(), Secret::random().unwrap());
    assert_ne!(one, other);
    assert_eq!(one, Secret::from_bytes(*one.as_bytes()));
    assert_eq!(format!("{one:?}"), "Secret(..)");
}

#[test]
fn what_is_meant_to_be_a_ticket_is_told_from_names() {
    for ticket in ["ssst1qqq", "SSST1qq"] {
        assert!(Ticket::is_meant_by(ticket), "{ticket}");
    }
    let long = format!("ssst1{}", "q".repeat(40));
    for with_more in [format!("{long}:77"), format!("{long}.example"), format!("{long}@host")] {
        assert!(Ticket::is_meant_by(&with_more), "{with_more}");
    }
    for other in ["ssst", "sss1qqq", "ssst1.example", "ssst1:4433", "ssst1@host", "host"] {
        assert!(!Ticket::is_meant_by(other), "{other}");
    }
}

// spec: FIL-43
#[test]
fn tickets_are_hidden_wherever_they_stand() {
    for (text, hidden) in [
        ("no ticket", "no ticket"),
        ("ssst1qqq/../x: no", "ssst1.../../x: no"),
        ("x@SSST1QQ:77 and ssst1aa.", "x@SSST1...:77 and ssst1...."),
        ("ssst1 is how it begins", "ssst1 is how it begins"),
        ("\u{e9}ssst1q\u{e9}", "\u{e9}ssst1...\u{e9}"),
    ] {
        assert_eq!(Ticket::hidden_in(text), hidden);
    }
}
