//! A comparison of what the kinds of routers and firewalls do with what they should do.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use crate::error::Error;
use crate::lab::Lab;
use crate::node::Node;
use crate::probe::{self, Filtering};
use crate::site::{Firewall, Ipv6, Kind, Site};

/// One thing that was measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The router, firewall or pair.
    pub what: String,
    /// The behaviour that it should have.
    pub expected: String,
    /// The behaviour that it has.
    pub found: String,
}

impl Finding {
    /// Tells whether it does what it should.
    pub fn is_good(&self) -> bool {
        self.expected == self.found
    }
}

/// The kinds between which hosts are to get through to each other.
pub const PAIRED: [Kind; 7] = [
    Kind::Open,
    Kind::Prc,
    Kind::PrcAccept,
    Kind::FullCone,
    Kind::Restricted,
    Kind::EimRandom,
    Kind::Symmetric,
];

/// Names of sites.
const NAMES: [&str; 15] = [
    "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o",
];

/// Time by which the second host is later than the first: the first one's packet is there before.
const LATER: Duration = Duration::from_millis(150);

/// Time after which a packet that should not come is taken not to come.
const SILENCE: Duration = Duration::from_millis(200);

/// Longest wait for a packet that should come.
const PATIENCE: Duration = Duration::from_secs(3);

fn lab_of(sites: &[Site]) -> Result<Lab, Error> {
    let named = NAMES.iter().zip(sites);
    named
        .fold(Lab::builder(), |lab, (name, site)| lab.site(name, site.clone()))
        .build()
}

/// Runs something for each of many at the same time.
fn at_once<T: Sync, R: Send>(all: &[T], work: impl Fn(&T) -> Result<R, Error> + Sync) -> Result<Vec<R>, Error> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = all.iter().map(|one| scope.spawn(|| work(one))).collect();
        let joined = threads.into_iter().map(|thread| match thread.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        joined.collect()
    })
}

/// Measures how each kind maps and filters, also behind a provider's NAT, and IPv6.
///
/// # Errors
///
/// As of [`Builder::build`](crate::Builder::build).
pub fn kinds() -> Result<Vec<Finding>, Error> {
    let with_cgn = |kind, cgn| Site {
        cgn: Some(cgn),
        ..Site::new(kind)
    };
    let mut sites: Vec<(Site, Option<Kind>)> = Vec::new();
    for kind in Kind::ALL {
        if kind.behaviour().is_some() {
            sites.push((Site::new(kind), Some(kind)));
        }
    }
    // A router that keeps ports shows what the one before it does.
    sites.push((with_cgn(Kind::FullCone, Kind::Restricted), Some(Kind::Restricted)));
    sites.push((with_cgn(Kind::Prc, Kind::Symmetric), Some(Kind::Symmetric)));
    for ipv6 in [Ipv6::Open, Ipv6::Stateful, Ipv6::Broken] {
        let site = Site {
            ipv6,
            ..Site::new(Kind::NoIpv4)
        };
        sites.push((site, None));
    }
    let only: Vec<Site> = sites.iter().map(|(site, _)| site.clone()).collect();
    let lab = lab_of(&only)?;
    let numbers: Vec<usize> = (0..sites.len()).collect();
    at_once(&numbers, |number| {
        let (site, kind) = &sites[*number];
        let expected = match (kind, site.ipv6) {
            (Some(kind), _) => kind.behaviour(),
            (None, Ipv6::Stateful) => Kind::Open.behaviour().map(|open| probe::Behaviour {
                filtering: Filtering::AddressAndPortDependent,
                ..open
            }),
            (None, Ipv6::Broken) => None,
            (None, _) => Kind::Open.behaviour(),
        };
        let found = probe::classify(lab.node(NAMES[*number])?, lab.node("server")?, kind.is_none())?;
        let tell = |behaviour: Option<probe::Behaviour>| {
            behaviour.map_or("nothing comes through".to_owned(), |behaviour| behaviour.to_string())
        };
        Ok(Finding {
            what: site.to_string(),
            expected: tell(expected),
            found: tell(found),
        })
    })
}

/// Tells whether two hosts get through that send to each other's outer addresses without any trick, at no delay, in
/// both orders.
pub fn get_through(one: Kind, other: Kind) -> bool {
    use Kind::{EimRandom, FullCone, Open, PrcAccept, Restricted, Symmetric};
    match (one, other) {
        // Whoever lets the address in gets through with everyone, if it answers to where packets come from.
        (Open | FullCone | Restricted, _) | (_, Open | FullCone | Restricted) => true,
        (Symmetric | PrcAccept, _) | (_, Symmetric | PrcAccept) => false,
        (EimRandom, _) | (_, EimRandom) => true,
        _ => true,
    }
}

/// Lets hosts behind each pair of kinds send to each other, in both orders.
///
/// # Errors
///
/// As of [`Builder::build`](crate::Builder::build).
pub fn pairs() -> Result<Vec<Finding>, Error> {
    let sites: Vec<Site> = PAIRED.into_iter().chain(PAIRED).map(Site::new).collect();
    let lab = lab_of(&sites)?;
    let mut pairs = Vec::new();
    for (one, _) in PAIRED.iter().enumerate() {
        pairs.extend((one..PAIRED.len()).map(|other| (one, other)));
    }
    let orders: Vec<(usize, usize, bool)> = pairs
        .iter()
        .flat_map(|(one, other)| [(*one, *other, false), (*one, *other, true)])
        .collect();
    let outcomes = at_once(&orders, |(one, other, is_turned)| {
        let (a, b) = (lab.node(NAMES[*one])?, lab.node(NAMES[PAIRED.len() + other])?);
        let (first, second) = if *is_turned { (b, a) } else { (a, b) };
        probe::punch(first, second, lab.node("server")?, LATER)
    })?;
    let tell = |through| if through { "through" } else { "not through" }.to_owned();
    let finding = |((one, other), outcomes): (&(usize, usize), &[probe::Punched])| Finding {
        what: format!("{} x {}", PAIRED[*one].name(), PAIRED[*other].name()),
        expected: tell(get_through(PAIRED[*one], PAIRED[*other])),
        found: tell(outcomes.iter().all(|outcome| outcome.after.is_some())),
    };
    Ok(pairs.iter().zip(outcomes.chunks(2)).map(finding).collect())
}

/// Measures what each firewall lets through.
///
/// # Errors
///
/// As of [`Builder::build`](crate::Builder::build).
pub fn firewalls() -> Result<Vec<Finding>, Error> {
    let all = [
        (Firewall::None, "udp, udp 443, tcp, tcp 443, large"),
        (Firewall::UdpDropped, "tcp, tcp 443"),
        (Firewall::UdpRejected, "told, tcp, tcp 443"),
        (Firewall::Udp443, "udp 443, tcp, tcp 443"),
        (Firewall::Tcp443, "tcp 443"),
        (Firewall::Longer(1300), "udp, udp 443, tcp, tcp 443"),
    ];
    let sites: Vec<Site> = all
        .iter()
        .map(|(firewall, _)| Site {
            firewall: *firewall,
            ..Site::new(Kind::Prc)
        })
        .collect();
    let lab = lab_of(&sites)?;
    let doors = Doors::open(lab.node("server")?)?;
    let mut findings = Vec::new();
    for ((_, expected), (name, site)) in all.iter().zip(NAMES.iter().zip(&sites)) {
        findings.push(Finding {
            what: site.to_string(),
            expected: (*expected).to_owned(),
            found: doors.what_passes(lab.node(name)?, expected)?,
        });
    }
    Ok(findings)
}

/// Sockets of a server, of UDP and TCP, at port 443 and another.
struct Doors {
    address: IpAddr,
    udp: [UdpSocket; 2],
    /// The kernel takes connections for as long as these are there.
    _tcp: [TcpListener; 2],
}

const PORTS: [u16; 2] = [7757, 443];

impl Doors {
    fn open(server: &Node) -> Result<Self, Error> {
        let failed = || Error::system("sockets of the server");
        let address: IpAddr = server
            .ipv4()
            .ok_or_else(|| Error::Unknown("address of the server".into()))?
            .into();
        let bind = || -> io::Result<Self> {
            let [other, https] = PORTS;
            Ok(Self {
                address,
                udp: [UdpSocket::bind((address, other))?, UdpSocket::bind((address, https))?],
                _tcp: [
                    TcpListener::bind((address, other))?,
                    TcpListener::bind((address, https))?,
                ],
            })
        };
        server.enter(bind)?.map_err(failed())
    }

    /// The names of what passes. What should is waited for longer.
    fn what_passes(&self, host: &Node, expected: &str) -> Result<String, Error> {
        let patience = |name: &str| {
            let should = expected.split(", ").any(|part| part == name);
            if should { PATIENCE } else { SILENCE }
        };
        let work = || -> io::Result<Vec<&str>> {
            let mut passes = Vec::new();
            for ((name, server), port) in ["udp", "udp 443"].into_iter().zip(&self.udp).zip(PORTS) {
                match answers((self.address, port).into(), server, 100, patience(name))? {
                    Answer::Yes => passes.push(name),
                    // Once is enough.
                    Answer::Refused if passes != ["told"] => passes.push("told"),
                    Answer::Refused | Answer::No => {}
                }
            }
            for (name, port) in ["tcp", "tcp 443"].into_iter().zip(PORTS) {
                let to = (self.address, port).into();
                if TcpStream::connect_timeout(&to, patience(name)).is_ok() {
                    passes.push(name);
                }
            }
            let [server, _] = &self.udp;
            let to = (self.address, PORTS[0]).into();
            if matches!(answers(to, server, 1400, patience("large"))?, Answer::Yes) {
                passes.push("large");
            }
            Ok(passes)
        };
        let passes = host.enter(work)?.map_err(Error::system(host.name()))?;
        Ok(passes.join(", "))
    }
}

/// The outcome of sending a datagram.
enum Answer {
    Yes,
    Refused,
    No,
}

/// Sends a datagram of a length from here, and lets the server answer.
fn answers(to: SocketAddr, server: &UdpSocket, length: usize, patience: Duration) -> io::Result<Answer> {
    let socket = UdpSocket::bind(("0.0.0.0", 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    server.set_read_timeout(Some(patience))?;
    socket.send(&vec![0; length])?;
    let mut buffer = vec![0; 2048];
    match server.recv_from(&mut buffer) {
        Ok((_, from)) => {
            server.send_to(b"yes", from)?;
        }
        // A refusal would have come by now.
        Err(_) => socket.set_read_timeout(Some(Duration::from_millis(1)))?,
    }
    match socket.recv(&mut buffer) {
        Ok(_) => Ok(Answer::Yes),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Ok(Answer::No),
        Err(_) => Ok(Answer::Refused),
    }
}
