//! Routers that do not do what they say, made here: what is told of each, and that nothing goes to anybody else.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use sss_lab::{Kind, Lab, Node, Public};

use super::unless_skipped;
use super::world::{Failure, Running, command, text};

/// What a router does when it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Silent,
    Garbage,
    Refuses,
    /// PCP: it says yes, names another port than was asked for, and lets nothing in.
    Dead,
    /// PCP: its outer address is one of a provider's NAT.
    Private,
    /// NAT-PMP alone, and it keeps its word.
    Honest,
    /// UPnP: its description is on another machine.
    Elsewhere,
    /// UPnP: its description is found through a redirect to another machine.
    Redirects,
    /// UPnP: orders are to go to another machine.
    OrdersElsewhere,
    /// UPnP: its description has no end.
    Huge,
    /// UPnP: its description comes byte by byte.
    Slow,
    /// UPnP: it knows permanent mappings alone, and lets nothing in.
    Permanent,
}

const MANNERS: [Manner; 12] = [
    Manner::Silent,
    Manner::Garbage,
    Manner::Refuses,
    Manner::Dead,
    Manner::Private,
    Manner::Honest,
    Manner::Elsewhere,
    Manner::Redirects,
    Manner::OrdersElsewhere,
    Manner::Huge,
    Manner::Slow,
    Manner::Permanent,
];

/// Counts what a host behind the router sends to others by TCP, and by UDP to ports that are not those of the server.
const COUNTER: &str = r#"
table inet watch {
  counter others { }
  chain forward { type filter hook forward priority -5;
    iifname "lan" meta l4proto tcp counter name others;
    iifname "lan" udp dport != { 7757, 7758 } counter name others; }
}
table ip promised {
  chain before { type nat hook prerouting priority -101; }
}
"#;

const SERVICE: &str = "urn:schemas-upnp-org:service:WANIPConnection:1";

/// The site of a manner.
fn site(manner: Manner) -> String {
    let at = MANNERS.iter().position(|other| *other == manner).unwrap_or_default();
    ('a'..='z').nth(at).unwrap_or('z').to_string()
}

/// A router that is asked.
struct Router {
    manner: Manner,
    inside: Ipv4Addr,
    outside: Ipv4Addr,
    /// Another machine.
    other: Ipv4Addr,
    is_over: Arc<AtomicBool>,
}

impl Router {
    /// Answers at the ports of all protocols, as long as the lab is there.
    fn start(self, node: &Node) -> Result<(), Failure> {
        if self.manner == Manner::Silent {
            return Ok(());
        }
        let tick = Some(Duration::from_millis(100));
        let bind = |port| move || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port));
        let (pcp, ssdp) = (node.enter(bind(5351))??, node.enter(bind(1900))??);
        let http = node.enter(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 5000)))??;
        pcp.set_read_timeout(tick)?;
        ssdp.set_read_timeout(tick)?;
        http.set_nonblocking(true)?;
        let router = Arc::new(self);
        let namespace = node.namespace().to_owned();
        let of = Arc::clone(&router);
        std::thread::spawn(move || of.serve(&pcp, |packet, from| of.on_pcp(&namespace, packet, from)));
        let of = Arc::clone(&router);
        std::thread::spawn(move || of.serve(&ssdp, |_, _| of.on_search()));
        std::thread::spawn(move || {
            while !router.is_over.load(Ordering::Relaxed) {
                match http.accept() {
                    Ok((stream, _)) => {
                        let router = Arc::clone(&router);
                        std::thread::spawn(move || drop(router.on_http(stream)));
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(10)),
                }
            }
        });
        Ok(())
    }

    fn serve(&self, socket: &UdpSocket, answer: impl Fn(&[u8], SocketAddr) -> Option<Vec<u8>>) {
        let mut packet = [0; 1500];
        while !self.is_over.load(Ordering::Relaxed) {
            if let Ok((len, from)) = socket.recv_from(&mut packet)
                && let Some(answer) = answer(&packet[..len], from)
            {
                let _ = socket.send_to(&answer, from);
            }
        }
    }

    fn on_pcp(&self, namespace: &str, packet: &[u8], from: SocketAddr) -> Option<Vec<u8>> {
        let is_pcp = packet[0] == 2;
        match self.manner {
            Manner::Garbage => Some(vec![0xa5; 700]),
            // Not authorized (RFC 6887, section 7.4; RFC 6886, section 3.5).
            Manner::Refuses if is_pcp => Some(self.pcp(packet, (2, 0), self.outside)),
            Manner::Refuses => Some([&[0, 128 + packet[1], 0, 2][..], &[0; 12]].concat()),
            Manner::Dead if is_pcp => Some(self.pcp(packet, (0, 40_000), self.outside)),
            Manner::Private if is_pcp => {
                let asked = u16::from_be_bytes([packet[42], packet[43]]);
                Some(self.pcp(packet, (0, asked), Ipv4Addr::new(100, 64, 7, 7)))
            }
            // Unsupported version.
            Manner::Honest if is_pcp => Some(vec![0, 128, 0, 1, 0, 0, 0, 9]),
            Manner::Honest if packet[1] == 0 => {
                Some([&[0, 128, 0, 0, 0, 0, 0, 9][..], &self.outside.octets()].concat())
            }
            Manner::Honest => Some(self.map(namespace, packet, from)),
            _ => None,
        }
    }

    /// An answer to MAP (RFC 6887, section 11.1).
    fn pcp(&self, packet: &[u8], (result, port): (u8, u16), outside: Ipv4Addr) -> Vec<u8> {
        let mut answer = packet[..60].to_vec();
        answer[1] |= 0x80;
        answer[3] = result;
        answer[4..24].fill(0);
        answer[4..8].copy_from_slice(&600_u32.to_be_bytes());
        answer[42..44].copy_from_slice(&port.to_be_bytes());
        answer[44..60].copy_from_slice(&outside.to_ipv6_mapped().octets());
        answer
    }

    /// Maps a port, or gives it up, by NAT-PMP (RFC 6886, section 3.3).
    fn map(&self, namespace: &str, packet: &[u8], from: SocketAddr) -> Vec<u8> {
        let inside = u16::from_be_bytes([packet[4], packet[5]]);
        let outside = u16::from_be_bytes([packet[6], packet[7]]);
        let lifetime = &packet[8..12];
        let rule = format!(
            "add rule ip promised before udp dport {outside} dnat to {}:{inside}",
            from.ip()
        );
        let command = if lifetime == [0; 4] {
            "flush chain ip promised before"
        } else {
            &rule
        };
        let mut nft = std::process::Command::new("ip");
        nft.args(["netns", "exec", namespace, "nft", command]);
        assert!(nft.status().is_ok_and(|status| status.success()), "{command}");
        let outside = if lifetime == [0; 4] { 0 } else { outside };
        let head = [0, 129, 0, 0, 0, 0, 0, 9, packet[4], packet[5]];
        [&head[..], &outside.to_be_bytes(), lifetime].concat()
    }

    fn on_search(&self) -> Option<Vec<u8>> {
        let at = match self.manner {
            Manner::Garbage => return Some(vec![0xff; 1400]),
            Manner::Elsewhere => self.other,
            Manner::Dead | Manner::Private | Manner::Honest | Manner::Refuses | Manner::Silent => return None,
            _ => self.inside,
        };
        let text = format!("HTTP/1.1 200 OK\r\nST: upnp:rootdevice\r\nLOCATION: http://{at}:5000/root.xml\r\n\r\n");
        Some(text.into_bytes())
    }

    fn on_http(&self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(Duration::from_millis(300)))?;
        let (mut request, mut part) = (String::new(), [0; 4096]);
        while !request.ends_with("</s:Envelope>") {
            match stream.read(&mut part) {
                Ok(len) if len > 0 => request.push_str(&String::from_utf8_lossy(&part[..len])),
                _ => break,
            }
            if request.starts_with("GET") && request.contains("\r\n\r\n") {
                break;
            }
        }
        let other = self.other;
        match self.manner {
            Manner::Redirects => {
                write!(
                    stream,
                    "HTTP/1.1 302 Found\r\nLocation: http://{other}:5000/\r\nContent-Length: 0\r\n\r\n"
                )
            }
            Manner::Huge => {
                write!(stream, "HTTP/1.1 200 OK\r\n\r\n<root>")?;
                loop {
                    stream.write_all(&[b'a'; 65_536])?;
                }
            }
            Manner::Slow => {
                write!(stream, "HTTP/1.1 200 OK\r\n\r\n")?;
                while !self.is_over.load(Ordering::Relaxed) {
                    stream.write_all(b"<")?;
                    std::thread::sleep(Duration::from_millis(100));
                }
                Ok(())
            }
            _ => {
                let (status, body) = self.page(&request);
                let length = body.len();
                write!(
                    stream,
                    "HTTP/1.1 {status}\r\nContent-Type: text/xml\r\nContent-Length: {length}\r\n\r\n{body}"
                )
            }
        }
    }

    fn page(&self, request: &str) -> (&'static str, String) {
        let other = self.other;
        let envelope = |body: &str| {
            format!(
                "<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Body>{body}</s:Body></s:Envelope>"
            )
        };
        let done = |action: &str, body: &str| {
            (
                "200 OK",
                envelope(&format!(
                    "<u:{action}Response xmlns:u=\"{SERVICE}\">{body}</u:{action}Response>"
                )),
            )
        };
        if request.starts_with("GET /root.xml") {
            let control = match self.manner {
                Manner::OrdersElsewhere => format!("http://{other}:5000/control"),
                _ => "/control".to_owned(),
            };
            let service = format!(
                "<serviceList><service><serviceType>{SERVICE}</serviceType><controlURL>{control}</controlURL>\
                 <SCPDURL>/schema.xml</SCPDURL></service></serviceList>"
            );
            let device = |kind: &str, inner: &str| {
                format!("<device><deviceType>urn:schemas-upnp-org:device:{kind}:1</deviceType>{inner}</device>")
            };
            let list = |inner: String| format!("<deviceList>{inner}</deviceList>");
            let connection = list(device("WANConnectionDevice", &service));
            let root = device("InternetGatewayDevice", &list(device("WANDevice", &connection)));
            ("200 OK", format!("<root>{root}</root>"))
        } else if request.starts_with("GET") {
            let names = "RemoteHost ExternalPort Protocol InternalPort InternalClient Enabled PortMappingDescription \
                         LeaseDuration";
            let arguments: String = names
                .split_whitespace()
                .map(|name| format!("<argument><name>New{name}</name><direction>in</direction></argument>"))
                .collect();
            let action = |name, arguments: &str| {
                format!("<action><name>{name}</name><argumentList>{arguments}</argumentList></action>")
            };
            let actions = action("AddPortMapping", &arguments) + &action("DeletePortMapping", "");
            ("200 OK", format!("<scpd><actionList>{actions}</actionList></scpd>"))
        } else if request.contains("#GetExternalIPAddress") {
            let address = format!("<NewExternalIPAddress>{}</NewExternalIPAddress>", self.outside);
            done("GetExternalIPAddress", &address)
        } else if request.contains("#AddPortMapping") && !request.contains("<NewLeaseDuration>0<") {
            let detail = "<detail><UPnPError xmlns=\"urn:schemas-upnp-org:control-1-0\"><errorCode>725</errorCode>\
                          <errorDescription>OnlyPermanentLeasesSupported</errorDescription></UPnPError></detail>";
            let fault = "<faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring>";
            (
                "500 Internal Server Error",
                envelope(&format!("<s:Fault>{fault}{detail}</s:Fault>")),
            )
        } else if request.contains("#AddPortMapping") {
            done("AddPortMapping", "")
        } else {
            done("DeletePortMapping", "")
        }
    }
}

/// The routers, a host behind each, and a server.
struct Routers {
    // Processes end before the lab does.
    _server: Running,
    at: String,
    lab: Lab,
    homes: tempfile::TempDir,
    program: PathBuf,
    is_over: Arc<AtomicBool>,
}

impl Drop for Routers {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

impl Routers {
    fn start() -> Result<Self, Failure> {
        let program = PathBuf::from(env!("CARGO_BIN_EXE_sss"));
        let sites = MANNERS
            .iter()
            .fold(Lab::builder(), |lab, manner| lab.site(&site(*manner), Kind::Prc));
        let lab = sites.public(Public::Ordinary).build()?;
        let homes = tempfile::tempdir()?;
        let node = lab.node("server")?;
        let address = node.ipv4().ok_or("the server has no address")?;
        let mut server = command(&homes, node, &program);
        server.args(["rendezvous", "--json", "--bind", "0.0.0.0:7757"]);
        let mut server = Running::start(&mut server)?;
        let eid = text(&server.event("listening")?["eid"]);
        let routers = Self {
            _server: server,
            at: format!("{eid}@{address}:7757"),
            lab,
            homes,
            program,
            is_over: Arc::default(),
        };
        let tables = routers.homes.path().join("tables");
        std::fs::write(&tables, COUNTER)?;
        for manner in MANNERS {
            let name = site(manner);
            let node = routers.lab.node(&format!("router-{name}"))?;
            assert!(node.command("nft").arg("-f").arg(&tables).status()?.success());
            let host = routers.lab.node(&name)?.ipv4().ok_or("no address")?;
            let [a, b, c, _] = host.octets();
            let router = Router {
                manner,
                inside: Ipv4Addr::new(a, b, c, 1),
                outside: node.ipv4().ok_or("no address")?,
                other: address,
                is_over: Arc::clone(&routers.is_over),
            };
            router.start(node)?;
        }
        Ok(routers)
    }

    /// What is told of a router, by whoever is behind it.
    fn examine(&self, manner: Manner) -> Result<Value, Failure> {
        let name = site(manner);
        let mut doctor = command(&self.homes, self.lab.node(&name)?, &self.program);
        doctor
            .env("SSS_SERVER", &self.at)
            .args(["doctor", "--port-mapping", "--json"]);
        let output = doctor.stdin(Stdio::null()).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && !said.contains("panicked"),
            "{manner:?}: {said}"
        );
        let out = String::from_utf8_lossy(&output.stdout);
        let mut facts = out.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let fact = facts.find(|fact| fact["event"] == "doctor");
        let router = self.lab.node(&format!("router-{name}"))?;
        let counted = router
            .command("nft")
            .args(["list", "counter", "inet", "watch", "others"])
            .output()?;
        let counted = String::from_utf8_lossy(&counted.stdout);
        assert!(
            counted.contains("packets 0 "),
            "{manner:?} has it write to others: {counted}"
        );
        fact.ok_or_else(|| format!("{manner:?}: {out}").into())
    }
}

/// What is to be told: the protocol, the proof, the problems, and the failures of PCP, NAT-PMP and UPnP before.
type Told = (
    Option<&'static str>,
    Option<&'static str>,
    &'static [&'static str],
    &'static [&'static str],
);

fn expected(manner: Manner) -> Told {
    const SILENT: &str = "silent";
    match manner {
        Manner::Silent => (None, None, &[], &[SILENT; 3]),
        Manner::Garbage => (None, None, &[], &["useless"; 3]),
        Manner::Refuses => (None, None, &[], &["refused", "refused", SILENT]),
        Manner::Dead => (Some("PCP"), Some("dead"), &["dead", "other port"], &[]),
        Manner::Private => (Some("PCP"), None, &["private address"], &[]),
        Manner::Honest => (Some("NAT-PMP"), Some("proven"), &[], &[SILENT]),
        Manner::Elsewhere => (None, None, &[], &[SILENT, SILENT, "elsewhere"]),
        Manner::Redirects | Manner::OrdersElsewhere | Manner::Huge | Manner::Slow => {
            (None, None, &[], &[SILENT, SILENT, "useless"])
        }
        Manner::Permanent => (Some("UPnP"), Some("dead"), &["dead", "permanent"], &[SILENT, SILENT]),
    }
}

fn is_right(manner: Manner, found: &Value) -> bool {
    let (protocol, proof, problems, failures) = expected(manner);
    let kinds = found["failures"].as_array().map_or(&[][..], |all| all);
    let kinds = kinds.iter().map(|failure| text(&failure["kind"]));
    found["protocol"] == Value::from(protocol)
        && found["proof"] == Value::from(proof)
        && found["problems"] == Value::from(problems)
        && kinds.eq(failures.iter().copied())
}

// spec: RCH-26, RCH-27
#[test]
fn threat_41_routers_that_lie_are_named_and_have_nothing_sent_to_others() {
    let Some(routers) = unless_skipped(Routers::start()) else {
        return;
    };
    let began = Instant::now();
    std::thread::scope(|scope| {
        for manner in MANNERS {
            let routers = &routers;
            scope.spawn(move || {
                let mut told = routers.examine(manner).unwrap();
                println!("{manner:?}, {:?}: {}", began.elapsed(), told["port_mapping"]);
                // On a busy machine, the router itself may have been too slow.
                if !is_right(manner, &told["port_mapping"]) {
                    told = routers.examine(manner).unwrap();
                }
                assert!(is_right(manner, &told["port_mapping"]), "{manner:?}: {told}");
                let advice = told["advice"].as_array().unwrap().len();
                assert_eq!(advice > 0, manner != Manner::Honest, "{manner:?}: {told}");
            });
        }
    });
}
