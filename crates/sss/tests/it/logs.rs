//! What a host logs, and spans for work on its streams.

use std::io;
use std::sync::{Arc, Mutex};

use sss::LinkStatus;
use tracing::subscriber::{DefaultGuard, set_default};
use tracing::{Instrument, Level};

use crate::common::{Pair, Relay, host, pair, within};

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
        let (a, b) = (client.eid(), host.eid());
        for (own, peer) in [(a, b), (b, a)] {
            let fields = format!("connected host={own} peer={peer}");
            assert_eq!(log.lines(&fields).len(), 1, "{:?}", log.lines(""));
        }
        assert!(log.lines("stream opened").is_empty(), "that is for level debug");
        ours.peer().close(7, "had enough");
        theirs.peer().closed().await;
        for (own, reason) in [
            (a, "closed by this host: had enough"),
            (b, "closed by the peer: had enough"),
        ] {
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
        let own = client.eid();
        assert_eq!(log.lines(&format!("the peer does not answer host={own}")).len(), 1);
        relay.cut(false);
        assert_eq!(link.changed().await, Some(LinkStatus::Up));
        let again = log.lines(&format!("the peer can be reached again host={own}"));
        assert_eq!(again.len(), 1, "{again:?}");
        assert_eq!(ours.peer().stats().unwrap().outages, 1);
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
            client.eid(),
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
        let expected = format!("stream{{peer={} id={}}}", sending.peer_eid(), sending.id());
        assert!(
            below.len() == 1 && below[0].contains(&expected),
            "{below:?}, expected {expected}"
        );
        let peer = theirs.peer();
        peer.span().in_scope(|| tracing::info!("with the peer"));
        let expected = format!("peer{{eid={}}}", peer.eid());
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
