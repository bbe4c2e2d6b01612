//! Listen modes.

use sss::{ListenMode, OpenError, ReadError, Refusal, WriteError};

use crate::common::{Pair, pair, within};

// spec: STR-41, STR-42
#[tokio::test]
async fn substreams_that_nobody_takes_are_refused_with_the_reason() {
    within(10, async {
        let Pair {
            mut ours, mut theirs, ..
        } = pair().await;
        theirs.set_listen_mode(ListenMode::Reject);
        let mut child = ours.open_substream().unwrap();
        assert_eq!(child.read_chunk(1).await, Err(ReadError::Refused(Refusal::NoListener)));
        while child.write(&[0; 1000]).await != Err(WriteError::Refused(Refusal::NoListener)) {}
        assert_eq!(
            child.open_substream().unwrap_err(),
            OpenError::Refused(Refusal::NoListener)
        );
        theirs.set_listen_mode(ListenMode::Limit(1300));
        let mut large = ours.open_substream().unwrap();
        large.write_all(&[0; 800]).await.unwrap();
        assert_eq!(large.drained().await, Err(WriteError::Refused(Refusal::Backlog)));
        let mut small = ours.open_substream().unwrap();
        small.write_all(&[0; 700]).await.unwrap();
        small.finish().unwrap();
        let mut accepted = theirs.accept_substream().await.unwrap().unwrap();
        assert_eq!(accepted.read_to_end(1000).await.unwrap().len(), 700);
        ours.write_all(b"unaffected").await.unwrap();
        ours.finish().unwrap();
        assert_eq!(&theirs.read_to_end(100).await.unwrap()[..], b"unaffected");
    })
    .await;
}
