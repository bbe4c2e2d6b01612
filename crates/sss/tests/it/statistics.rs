//! Statistics of streams, channels, peers and hosts; waiting for what was written to be sent and acknowledged.

use std::time::Duration;

use sss::{AcceptedBy, CloseReason, Code, MtuState, Waits, WindowConfig, WriteError};

use crate::common::{Pair, Pattern, Relay, builder, pair, pair_of, within};

#[tokio::test]
async fn a_transfer_shows_in_the_statistics_of_every_level() {
    within(30, async {
        let Pair {
            client,
            host,
            server: _server,
            mut ours,
            mut theirs,
        } = pair().await;
        let data = Pattern::new(1).bytes(1 << 19);
        let len = data.len() as u64;
        let reading = tokio::spawn(async move {
            let read = theirs.read_to_end(8 << 20).await.unwrap().len();
            (read, theirs)
        });
        ours.write_all(&data).await.unwrap();
        let queued = ours.info().unwrap();
        assert_eq!(queued.unsent + queued.in_flight, queued.unacked);
        assert_eq!(queued.delivered.unwrap() + queued.unacked, len);
        ours.sent().await.unwrap();
        assert_eq!(ours.info().unwrap().unsent, 0);
        assert_eq!(ours.peer().stats().unwrap().unsent, 0);
        ours.acknowledged().await.unwrap();
        let info = ours.info().unwrap();
        assert_eq!((info.in_flight, info.unacked, info.delivered), (0, 0, Some(len)));
        ours.finish().unwrap();
        let (read, _theirs) = reading.await.unwrap();
        assert_eq!(read as u64, len);

        let channel = ours.peer().info().unwrap();
        assert!(channel.bytes_delivered > len, "{channel:?}");
        assert!(channel.bytes_delivered <= channel.bytes_sent, "{channel:?}");
        assert!(channel.bandwidth <= channel.peak_bandwidth, "{channel:?}");
        assert!(channel.recent_loss_ppm <= 1_000_000, "{channel:?}");
        while ours.peer().info().unwrap().mtu_state != MtuState::Limit {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(ours.peer().info().unwrap().mtu > 1232);
        let peer = ours.peer().stats().unwrap();
        assert_eq!((peer.channels_made, peer.migrations, peer.outages), (1, 0, 0));
        assert!(peer.bytes_sent >= channel.bytes_sent && peer.packets_sent >= channel.packets_sent);
        let subtree = ours.subtree_info().unwrap();
        assert_eq!((subtree.streams, subtree.sent, subtree.unsent), (1, len, 0));

        assert_eq!((host.stats().streams_accepted, host.stats().streams_refused), (1, 0));
        let mut refused = client.connect(host.eid(), "nothing", "1").await.unwrap();
        refused.read_chunk(1).await.unwrap_err();
        assert_eq!((host.stats().streams_accepted, host.stats().streams_refused), (1, 1));
    })
    .await;
}

#[tokio::test]
async fn bandwidth_is_what_is_delivered_per_second() {
    within(20, async {
        let Pair {
            mut ours, mut theirs, ..
        } = pair().await;
        let reading = tokio::spawn(async move { while theirs.read_chunk(1 << 16).await.is_ok_and(|c| c.is_some()) {} });
        // At most 100 kB/s.
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for _ in 0..100 {
            ticks.tick().await;
            ours.write_all(&[7; 1000]).await.unwrap();
        }
        ours.acknowledged().await.unwrap();
        let channel = ours.peer().info().unwrap();
        // Packets have headers, and what is acknowledged at once may have waited.
        assert!((5_000..300_000).contains(&channel.bandwidth), "{channel:?}");
        drop(ours);
        reading.await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn nothing_written_is_nothing_to_wait_for() {
    within(10, async {
        let Pair { ours, .. } = pair().await;
        ours.sent().await.unwrap();
        ours.acknowledged().await.unwrap();
    })
    .await;
}

/// Hosts of which the server takes no more than 64 KiB unread.
async fn tight() -> Pair {
    let window = WindowConfig::default().with(|w| w.per_stream_max = 1 << 16);
    pair_of(builder(), builder().window(window)).await
}

#[tokio::test]
async fn sent_comes_before_acknowledged_and_not_too_soon() {
    within(20, async {
        let client = builder().build().await.unwrap();
        let host = builder().build().await.unwrap();
        let server = host.listen("test", "1").unwrap();
        let relay = Relay::start(host.local_addr()).await;
        let mut ours = client
            .connect(host.eid(), "test", "1")
            .hint(relay.address)
            .await
            .unwrap();
        let (_theirs, _) = server.accept().await.unwrap();
        // The peer hears nothing: what is written is sent, and not acknowledged.
        relay.cut(true);
        ours.write_all(b"into the void").await.unwrap();
        ours.sent().await.unwrap();
        let early = tokio::time::timeout(Duration::from_millis(100), ours.acknowledged());
        assert!(early.await.is_err(), "nobody has acknowledged it");
        assert_eq!(ours.info().unwrap().in_flight, 13);
        // A wait that was given up takes nothing away from the next.
        relay.cut(false);
        ours.acknowledged().await.unwrap();
        assert_eq!(ours.info().unwrap().delivered, Some(13));
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_sent_is_not_told_as_sent() {
    within(20, async {
        let Pair {
            mut ours, mut theirs, ..
        } = tight().await;
        // More than the peer gives credit for while it reads nothing.
        ours.write_all(&[7; 200_000]).await.unwrap();
        let early = tokio::time::timeout(Duration::from_millis(100), ours.sent());
        assert!(early.await.is_err(), "there is no credit for all of it");
        assert!(ours.info().unwrap().unsent > 0 && ours.peer().stats().unwrap().unsent > 0);
        let reading = tokio::spawn(async move {
            theirs.read_exact(&mut vec![0; 200_000]).await.unwrap();
            theirs
        });
        ours.sent().await.unwrap();
        assert_eq!(ours.info().unwrap().unsent, 0);
        ours.acknowledged().await.unwrap();
        assert_eq!(ours.info().unwrap().delivered, Some(200_000));
        reading.await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn whoever_waits_for_what_was_written_hears_of_its_end() {
    within(20, async {
        let Pair { ours, theirs, .. } = tight().await;
        let stopped = WriteError::Stopped {
            code: Code::app(9),
            reason: String::new(),
        };
        let ended = WriteError::Lost(CloseReason::Local {
            code: Code::app(1),
            reason: "enough".to_owned(),
        });
        for error in [stopped, ended] {
            let mut sender = ours.open_substream().unwrap();
            let mut receiver = theirs.accept_substream().await.unwrap().unwrap();
            sender.write_all(&[7; 200_000]).await.unwrap();
            let ending = async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                match error {
                    WriteError::Stopped { .. } => receiver.stop(9),
                    _ => ours.peer().close(1, "enough"),
                }
            };
            let (sent, acknowledged, ()) = tokio::join!(sender.sent(), sender.acknowledged(), ending);
            assert_eq!(sent, Err(error.clone()));
            assert_eq!(acknowledged, Err(error));
            assert_eq!(sender.info().unwrap().delivered, None);
        }
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_waits_says_for_whom() {
    within(30, async {
        let Pair { mut ours, theirs, .. } = pair().await;
        let settled = async |stream: &sss::Stream, is_it: &dyn Fn(&Waits) -> bool| {
            loop {
                let info = stream.info().expect("it lives");
                if info.waits.as_ref().is_some_and(is_it) {
                    return info.to_string();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        settled(&ours, &|w| *w == Waits::Application).await;

        // More than any window.
        let data = vec![1; 64 << 20];
        let mut child = ours.open_substream().unwrap();
        let parent = ours.id();
        let writing = tokio::time::timeout(Duration::from_millis(50), child.write_all(&data)).await;
        assert!(writing.is_err(), "nobody accepts it");
        let is_unaccepted = |w: &Waits| *w == Waits::PeerAcceptance(AcceptedBy::Substreams(parent));
        let line = settled(&child, &is_unaccepted).await;
        assert!(
            line.ends_with(&format!("waits: the peer has not accepted it (substreams of {parent})")),
            "{line}"
        );
        let node = ours
            .peer()
            .tree()
            .into_iter()
            .find(|node| node.id == child.id())
            .unwrap();
        assert!(!node.info.is_accepted && matches!(node.info.waits, Some(Waits::PeerAcceptance(_))));

        let writing = tokio::time::timeout(Duration::from_millis(50), ours.write_all(&data)).await;
        assert!(writing.is_err(), "nobody reads it");
        settled(&ours, &|w| *w == Waits::PeerReading).await;
        drop(theirs);
    })
    .await;
}
