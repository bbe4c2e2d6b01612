//! What the tests share.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sss::{Host, HostBuilder, Server, Stream};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// A builder of a host on loopback that gives up soon.
pub(crate) fn builder() -> HostBuilder {
    Host::builder()
        .bind("127.0.0.1:0")
        .connect_timeout(Duration::from_secs(5))
}

pub(crate) async fn host() -> Host {
    builder().build().await.expect("loopback can be bound")
}

/// Two hosts and a stream between them.
pub(crate) struct Pair {
    pub(crate) client: Host,
    pub(crate) host: Host,
    pub(crate) server: Server,
    /// The client's end.
    pub(crate) ours: Stream,
    /// The server's end.
    pub(crate) theirs: Stream,
}

pub(crate) async fn pair() -> Pair {
    pair_of(builder(), builder()).await
}

pub(crate) async fn pair_of(client: HostBuilder, host: HostBuilder) -> Pair {
    let client = client.build().await.expect("loopback can be bound");
    let host = host.build().await.expect("loopback can be bound");
    let server = host.listen("test", "1").expect("nobody else listens");
    let ours = client
        .connect(host.eid(), "test", "1")
        .hint(host.local_addr())
        .await
        .expect("the host is there");
    let (theirs, eid) = server.accept().await.expect("the host lives");
    assert_eq!(eid, client.eid());
    Pair {
        client,
        host,
        server,
        ours,
        theirs,
    }
}

/// Fails instead of hanging.
pub(crate) async fn within<T>(seconds: u64, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(seconds), future).await {
        Ok(value) => value,
        Err(_) => panic!("not done within {seconds} s"),
    }
}

/// Bytes that can be made again from their seed, to compare without keeping them.
pub(crate) struct Pattern(u64);

impl Pattern {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn bytes(&mut self, words: usize) -> Vec<u8> {
        (0..words).flat_map(|_| self.next().to_be_bytes()).collect()
    }
}

/// Passes datagrams between one client and one server.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    cut: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Relay {
    pub(crate) async fn start(server: SocketAddr) -> Self {
        let front = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let back = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = front.local_addr().unwrap();
        let cut = Arc::new(AtomicBool::new(false));
        let is_cut = Arc::clone(&cut);
        let task = tokio::spawn(async move {
            let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
            let mut client = None;
            loop {
                let (bytes, socket, to) = tokio::select! {
                    Ok((n, from)) = front.recv_from(&mut up) => {
                        client = Some(from);
                        (&up[..n], &back, Some(server))
                    }
                    Ok((n, _)) = back.recv_from(&mut down) => (&down[..n], &front, client),
                    else => continue,
                };
                if let Some(to) = to.filter(|_| !is_cut.load(Ordering::Relaxed)) {
                    let _ = socket.send_to(bytes, to).await;
                }
            }
        });
        Self { address, cut, task }
    }

    pub(crate) fn cut(&self, is_cut: bool) {
        self.cut.store(is_cut, Ordering::Relaxed);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}
