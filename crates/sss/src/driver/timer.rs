//! The driver's one timer.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::time::Sleep;

/// A timer that is moved rarely.
///
/// Deadlines of the core mostly move later, with every packet. The timer is then left where it is: it rings too
/// early, finds nothing to do, and is set again. That costs less than moving it every time.
pub(crate) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    pub(crate) fn new() -> Self {
        Self { sleep: None }
    }

    /// Ready when `deadline` has passed. Else the task of `cx` is woken then, or earlier.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>) -> Poll<()> {
        let Some(deadline) = deadline.map(tokio::time::Instant::from_std) else {
            return Poll::Pending;
        };
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if sleep.is_elapsed() || deadline < sleep.deadline() {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn rings_at_the_deadline_asked_for_last() {
        let mut timer = Timer::new();
        let start = Instant::now();
        let at = |ms| Some(start + Duration::from_millis(ms));
        std::future::poll_fn(|cx| {
            assert!(timer.poll(cx, at(20)).is_pending());
            assert!(timer.poll(cx, None).is_pending());
            assert!(timer.poll(cx, at(60)).is_pending());
            Poll::Ready(())
        })
        .await;
        std::future::poll_fn(|cx| timer.poll(cx, at(60))).await;
        assert!(start.elapsed() >= Duration::from_millis(60));
        std::future::poll_fn(|cx| {
            assert!(timer.poll(cx, at(3_600_000)).is_pending());
            assert!(timer.poll(cx, at(10)).is_ready(), "a past deadline rings at once");
            Poll::Ready(())
        })
        .await;
    }
}
