//! The names that a program elsewhere builds on, which puts more peers into the table: `bench-peers` does, and CI does
//! not compile it.

use std::future::pending;

use bytes::Bytes;
use sss_bench::tls::{self, Cryptography};
use sss_bench::tuning::{self, SOCKET_BUFFER};
use sss_bench::{
    Address, BACKENDS, Backend, Connection, Dialer, Listener, Outcome, PROGRAM, Program, Settings, Setup, Stream,
    Transport, Workload,
};

/// A transport that gets no further than its socket.
struct Nothing;

impl Transport for Nothing {
    const LIBRARY: &'static str = "nothing";
    const PACKAGES: &'static [&'static str] = &["rustls"];
    type Listener = Nothing;
    type Dialer = Nothing;

    fn excludes(workload: Workload, settings: Settings) -> Option<&'static str> {
        (workload.is_datagrams() && settings.is_tuned()).then_some("it has none")
    }

    async fn listen(setup: &Setup) -> Outcome<(Self, Address)> {
        let (_, credential) = tls::server(setup, Cryptography::AwsLc)?;
        let socket = tuning::socket(setup)?.local_addr()?;
        Ok((Self, Address { socket, credential }))
    }

    async fn dialer(setup: &Setup, address: &Address) -> Outcome<Self> {
        tls::client(setup, Cryptography::AwsLc, &address.credential)?;
        Ok(Self)
    }
}

impl Listener for Nothing {
    type Connection = Nothing;
    type Incoming = Nothing;

    async fn accept(&mut self) -> Outcome<Self> {
        pending().await
    }

    async fn establish(incoming: Self) -> Outcome<Self> {
        Ok(incoming)
    }
}

impl Dialer for Nothing {
    type Connection = Nothing;

    async fn dial(&self) -> Outcome<Self> {
        Err("nobody is there".into())
    }

    async fn sibling(&self) -> Outcome<Self> {
        Ok(Self)
    }
}

impl Connection for Nothing {
    type Stream = Nothing;

    async fn open(&self) -> Outcome<Self> {
        Ok(Self)
    }

    async fn accept(&self) -> Option<Self> {
        None
    }

    async fn send_datagram(&self, _: Bytes) -> Outcome<()> {
        Ok(())
    }

    async fn recv_datagram(&self) -> Option<usize> {
        None
    }

    async fn close(self) -> Outcome<()> {
        Ok(())
    }
}

impl Stream for Nothing {
    async fn send(&mut self, _: Bytes) -> Outcome<()> {
        Ok(())
    }

    async fn finish(&mut self) -> Outcome<()> {
        Ok(())
    }

    async fn drain(&mut self) -> Outcome<usize> {
        Ok(0)
    }

    async fn receive_exact(&mut self, _: &mut [u8]) -> Outcome<()> {
        Ok(())
    }
}

const PEERS: &[Backend] = &[
    Backend::of::<Nothing>("nothing", Settings::Default, "a transport that does nothing"),
    Backend::of::<Nothing>("nothing-tuned", Settings::Tuned, "the same, faster").of_choice(),
];

fn setup(settings: Settings, workload: Workload) -> Setup {
    Setup {
        backend: "nothing".to_owned(),
        settings,
        workload,
        seconds: 1.0,
        warmup: 0.1,
        channels: 1,
        streams: 1,
        address: None,
    }
}

#[test]
fn a_program_elsewhere_has_more_peers() {
    let backends = Vec::leak([BACKENDS, PEERS].concat());
    let program = Program {
        name: "sss-bench-more",
        backends,
        ..PROGRAM
    };
    let text = format!("{program:?}");
    assert!(text.contains("sss-tuned") && text.contains("nothing-tuned"), "{text}");
}

#[tokio::test]
async fn peers_share_certificates_sockets_and_limits() {
    let tuned = setup(Settings::Tuned, Workload::Rpc100);
    let (_, address) = Nothing::listen(&tuned).await.expect("listens");
    Nothing::dialer(&tuned, &address).await.expect("trusts the certificate");
    let provider = |workload| tls::provider(&setup(Settings::Default, workload), Cryptography::AwsLc);
    for (workload, name) in [
        (Workload::Handshake, "X25519MLKEM768"),
        (Workload::HandshakeClassical, "X25519"),
    ] {
        let groups: Vec<String> = provider(workload)
            .kx_groups
            .iter()
            .map(|group| format!("{:?}", group.name()))
            .collect();
        assert_eq!(groups, [name]);
    }
    assert_eq!(tuning::stream_limit(&tuned).expect("a limit"), 256);
    let larger = socket2::SockRef::from(&tuning::socket(&tuned).expect("a socket")).recv_buffer_size();
    let usual = tuning::socket(&setup(Settings::Default, Workload::Rpc100)).expect("a socket");
    let usual = socket2::SockRef::from(&usual).recv_buffer_size().expect("a size");
    assert!(larger.expect("a size") > usual && SOCKET_BUFFER > usual, "{usual}");
}
