//! What a host logs, and spans for work on its streams.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sss::{CloseReason, HostTag, LinkStatus};
use tracing::subscriber::{DefaultGuard, set_default};
use tracing::{Instrument, Level};

use crate::common::{Pair, Relay, builder, host, pair, within};

/// What was logged on this thread, and on no other.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn begin(level: Level) -> (Self, DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_ansi(false)
            .with_writer(move || writer.clone());
        (log, set_default(subscriber.finish()))
    }

    /// The lines that contain a text.
    fn lines(&self, with: &str) -> Vec<String> {
        let bytes = self.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        text.lines().filter(|l| l.contains(with)).map(str::to_owned).collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn peers_come_and_go_in_the_log() {
    let (log, _guard) = Log::begin(Level::INFO);
    within(10, async {
        let Pair {
            client,
            host,
            ours,
            theirs,
            ..
        } = pair().await;
        let (a, b) = (HostTag::of(&client.eid()), HostTag::of(&host.eid()));
        for (own, peer) in [(a, b), (b, a)] {
            let fields = format!("connected host={own} peer={peer}");
            assert_eq!(log.lines(&fields).len(), 1, "{:?}", log.lines(""));
        }
        assert!(log.lines("stream opened").is_empty(), "that is for level debug");
        ours.peer().close(7, "had enough");
        theirs.peer().closed().await;
        for (own, reason) in [(a, "closed by this host ("), (b, "closed by the peer (")] {
            let ended = log.lines(&format!("the streams have ended host={own}"));
            assert!(ended.len() == 1 && ended[0].contains(reason), "{ended:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn silences_are_in_the_log() {
    let (log, _guard) = Log::begin(Level::INFO);
    within(20, async {
        let (client, host) = (host().await, host().await);
        let _server = host.listen("test", "1").unwrap();
        let relay = Relay::start(host.local_addr()).await;
        let connect = client.connect(host.eid(), "test", "1").hint(relay.address);
        let mut ours = connect.await.unwrap();
        relay.cut(true);
        ours.write_all(b"unheard").await.unwrap();
        let mut link = ours.peer().link();
        assert_eq!(link.changed().await, Some(LinkStatus::Stalled));
        let own = HostTag::of(&client.eid());
        assert_eq!(log.lines(&format!("the peer does not answer host={own}")).len(), 1);
        relay.cut(false);
        assert_eq!(link.changed().await, Some(LinkStatus::Up));
        let again = log.lines(&format!("the peer can be reached again host={own}"));
        assert_eq!(again.len(), 1, "{again:?}");
        assert_eq!(ours.peer().stats().unwrap().outages, 1);
    })
    .await;
}

/// Addresses and EIDs in a text.
fn names(text: &str) -> Vec<&str> {
    let words = text.split(|c: char| c.is_whitespace() || "=(){},\"'".contains(c));
    let is_name = |word: &&str| {
        let word = word.trim_end_matches(['.', ':', ';']);
        word.contains("sss1") || word.parse::<SocketAddr>().is_ok() || word.parse::<IpAddr>().is_ok()
    };
    words.filter(is_name).collect()
}

#[tokio::test]
async fn who_talks_to_whom_is_not_in_the_log() {
    let (log, _guard) = Log::begin(Level::INFO);
    within(60, async {
        let (client, host) = (host().await, host().await);
        let server = host.listen("test", "1").unwrap();
        let (first, second) = (
            Relay::start(host.local_addr()).await,
            Relay::start(host.local_addr()).await,
        );
        let connect = client.connect(host.eid(), "test", "1").hint(first.address);
        let mut ours = connect.await.unwrap();
        let (theirs, _) = server.accept().await.unwrap();
        // Another way, after a loss.
        let mut link = ours.peer().link();
        first.cut(true);
        ours.write_all(b"unheard").await.unwrap();
        assert_eq!(link.changed().await, Some(LinkStatus::Stalled));
        ours.peer().add_hint(second.address);
        assert_eq!(link.changed().await, Some(LinkStatus::Up));
        ours.peer().span().in_scope(|| tracing::info!("with the peer"));
        ours.span().in_scope(|| tracing::info!("with the stream"));
        // Words of the peer.
        let words = format!("{} at {}", client.eid(), client.local_addr());
        theirs.peer().close(7, &words);
        assert!(matches!(ours.peer().closed().await, CloseReason::Peer { reason, .. } if reason == words));
        // A peer that is refused, and one that is not there.
        let closed = builder().accept_filter(|_, _| false).build().await.unwrap();
        let refused = client
            .connect(closed.eid(), "test", "1")
            .hint(closed.local_addr())
            .await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("does not allow our EID"), "{refused}");
        let hasty = builder().connect_timeout(Duration::from_secs(1)).build().await.unwrap();
        let unheard = hasty.connect(host.eid(), "test", "1").hint(first.address).await;
        assert!(unheard.unwrap_err().to_string().contains("no answer from"));
    })
    .await;
    let lines = log.lines("");
    for expected in [
        "connected",
        "does not answer",
        "reached again",
        "closed by the peer (",
        "the host does not allow our EID",
        "reason=no answer",
        "with the stream",
    ] {
        assert!(
            lines.iter().any(|line| line.contains(expected)),
            "{expected}: {lines:#?}"
        );
    }
    let found: Vec<_> = lines.iter().filter(|line| !names(line).is_empty()).collect();
    assert!(found.is_empty(), "{found:#?}");
    assert_eq!(
        names("to 127.0.0.1:1 ([::1]:7), peer=sss1q").len(),
        3,
        "they would be found"
    );
}

#[tokio::test]
async fn tags_are_explained_at_level_debug() {
    let (log, _guard) = Log::begin(Level::DEBUG);
    within(10, async {
        let Pair { client, .. } = pair().await;
        let eid = client.eid();
        let line = format!("peer={} eid={eid}", HostTag::of(&eid));
        assert_eq!(log.lines(&line).len(), 1, "{:?}", log.lines(""));
    })
    .await;
}

#[tokio::test]
async fn streams_have_spans_with_their_names() {
    let (log, _guard) = Log::begin(Level::DEBUG);
    within(10, async {
        let Pair {
            client, ours, theirs, ..
        } = pair().await;
        assert_eq!(log.lines("stream opened").len(), 1);
        assert_eq!(log.lines("stream accepted").len(), 1);
        let child = ours.open_substream().unwrap();
        let work = async { tracing::info!("at work") };
        work.instrument(theirs.span()).await;
        let expected = format!(
            r#"stream{{peer={} id={} service="test" protocol="1"}}"#,
            HostTag::of(&client.eid()),
            theirs.id()
        );
        let lines = log.lines("at work");
        assert!(
            lines.len() == 1 && lines[0].contains(&expected),
            "{lines:?}, expected {expected}"
        );
        let (sending, _receiving) = child.split();
        sending.span().in_scope(|| tracing::info!("below"));
        let below = log.lines("below");
        let expected = format!(
            "stream{{peer={} id={}}}",
            HostTag::of(&sending.peer_eid()),
            sending.id()
        );
        assert!(
            below.len() == 1 && below[0].contains(&expected),
            "{below:?}, expected {expected}"
        );
        let peer = theirs.peer();
        peer.span().in_scope(|| tracing::info!("with the peer"));
        let expected = format!("peer{{tag={}}}", HostTag::of(&peer.eid()));
        assert!(log.lines("with the peer")[0].contains(&expected));
    })
    .await;
}

#[tokio::test]
async fn nobody_listens_and_no_span_is_made() {
    let (_log, _guard) = Log::begin(Level::WARN);
    within(10, async {
        let Pair { ours, .. } = pair().await;
        assert!(ours.span().is_disabled() && ours.peer().span().is_disabled());
    })
    .await;
}
