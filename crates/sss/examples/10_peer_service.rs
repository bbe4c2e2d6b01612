//! Three equals, each of which talks to the two others: `cargo run -p libsss --example 10_peer_service`.
//!
//! All dial all at once, and yet there is one conversation between any two. One leaves, and comes back.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;

use sss::{Eid, Host, Identity, PeerEvent, PeerService, Stream};

type Failure = Box<dyn Error + Send + Sync>;
type Friends = Vec<(Eid, SocketAddr)>;

struct Member {
    host: Host,
    service: PeerService,
    talks: BTreeMap<Eid, Stream>,
}

impl Member {
    async fn new(identity: Identity, address: &str) -> Result<Self, Failure> {
        let host = Host::builder().identity(identity).bind(address).build().await?;
        let service = host.peer_service("gossip", "1")?;
        let talks = BTreeMap::new();
        Ok(Self { host, service, talks })
    }

    fn call(&self, friends: &Friends) {
        for (eid, address) in friends {
            if *eid != self.host.eid() {
                self.service.connect_peer(*eid, [*address]);
            }
        }
    }

    /// Takes events until so many are online.
    async fn meet(&mut self, count: usize) -> Result<(), Failure> {
        while self.talks.len() != count {
            match self.service.next().await.ok_or("the host was closed")? {
                PeerEvent::Online { eid, stream } => {
                    println!("{}: {eid} is online", self.host.local_addr());
                    self.talks.insert(eid, stream);
                }
                PeerEvent::Offline { eid, reason } => {
                    println!("{}: {eid} is offline: {reason:?}", self.host.local_addr());
                    self.talks.remove(&eid);
                }
                PeerEvent::Retrying { eid, error, after } => println!("{eid}: {error}; again in {after:?}"),
                // Of a later version of the library.
                _ => {}
            }
        }
        Ok(())
    }

    /// Says something to everybody, and hears what everybody says.
    async fn gossip(&mut self) -> Result<(), Failure> {
        for stream in self.talks.values_mut() {
            stream.write_record(self.host.eid().to_string().as_bytes()).await?;
        }
        for (eid, stream) in &mut self.talks {
            let name = stream.read_record().await?.ok_or("a friend fell silent")?;
            assert_eq!(name, eid.to_string());
        }
        Ok(())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let identity = Identity::generate();
    let mut a = Member::new(Identity::generate(), "127.0.0.1:0").await?;
    let mut b = Member::new(Identity::generate(), "127.0.0.1:0").await?;
    let mut c = Member::new(identity.clone(), "127.0.0.1:0").await?;
    let friends: Friends = [&a, &b, &c].map(|m| (m.host.eid(), m.host.local_addr())).into();
    for member in [&a, &b, &c] {
        member.call(&friends);
    }
    tokio::try_join!(a.meet(2), b.meet(2), c.meet(2))?;
    tokio::try_join!(a.gossip(), b.gossip(), c.gossip())?;

    // One leaves. It is missed, and looked for.
    let address = c.host.local_addr().to_string();
    c.host.close().await?;
    drop(c);
    tokio::try_join!(a.meet(1), b.meet(1))?;
    // Back at the same address, it is found, without asking anybody.
    let mut c = Member::new(identity, &address).await?;
    tokio::try_join!(a.meet(2), b.meet(2), c.meet(2))?;
    tokio::try_join!(a.gossip(), b.gossip(), c.gossip())?;

    for member in [a, b, c] {
        member.host.close().await?;
    }
    println!("ok");
    Ok(())
}
