//! Patience with a peer that keeps the connection alive and says nothing.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::exchange::TransferError;

/// Silence after which it is told that somebody waits.
const GRACE: Duration = Duration::from_secs(10);

/// Time that is left to the link: when it is down, that is what is told. A part of the patience, and no more than this.
const MARGIN: Duration = Duration::from_secs(3);
const MARGIN_DIVISOR: u32 = 4;

/// Bytes that a peer is granted a second for to read and hash, before it can say anything.
const HASHED: u64 = 20 << 20;

/// The patience with the peer that this process asks, if it is in effect.
static IN_EFFECT: Mutex<Option<Patience>> = Mutex::new(None);

/// Watch over one session: any word of the peer, on any request, counts.
#[derive(Clone)]
pub(crate) struct Patience {
    state: Arc<Mutex<State>>,
    limit: Duration,
    tell: Arc<dyn Fn() + Send + Sync>,
    way: Arc<dyn Fn() -> Way + Send + Sync>,
}

/// The way to a peer that says nothing, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// It answers: it has nothing to say.
    Works,
    /// It does not answer.
    Silent,
    /// It does not answer, and this machine refuses to send to it.
    Refused,
    /// It does not answer, and this machine could not send to it: it has no network that leads there.
    Cut,
}

struct State {
    heard: Instant,
    is_told: bool,
}

impl Patience {
    /// A watch that gives up after `limit` without a word, and has `tell` called once in each silence before that. The
    /// way to the peer is as `way` says.
    pub(crate) fn new(
        limit: Duration,
        tell: impl Fn() + Send + Sync + 'static,
        way: impl Fn() -> Way + Send + Sync + 'static,
    ) -> Self {
        let state = State {
            heard: Instant::now(),
            is_told: false,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            limit,
            tell: Arc::new(tell),
            way: Arc::new(way),
        }
    }

    /// Puts it into effect, for all that this process asks from now on.
    pub(crate) fn take_effect(self) {
        *IN_EFFECT.lock().unwrap_or_else(PoisonError::into_inner) = Some(self);
    }

    /// The patience in effect.
    pub(crate) fn in_effect() -> Option<Self> {
        IN_EFFECT.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Time that a peer may take to look at `bytes` of content.
    pub(crate) fn to_hash(bytes: u64) -> Duration {
        Duration::from_secs(bytes / HASHED)
    }

    /// Waits for `work`, which the peer has a hand in, and has `extra` time for.
    ///
    /// # Errors
    /// SILENT, UNHEARD, UNSENT or CUT if the peer says nothing for too long.
    pub(crate) async fn wait<T>(
        &self,
        extra: Duration,
        work: impl Future<Output = Result<T, TransferError>>,
    ) -> Result<T, TransferError> {
        let mut work = std::pin::pin!(work);
        let margin = MARGIN.min(self.limit / MARGIN_DIVISOR);
        // Waiting begins now: what was long ago is no silence.
        let mut begun = Instant::now();
        loop {
            let (heard, is_told) = self.state();
            let since = heard.max(begun);
            let waited = since.elapsed();
            let stops = [self.limit, self.limit + margin].into_iter();
            let stops = stops.chain((!is_told).then_some(GRACE)).map(|stop| stop + extra);
            let until = stops.filter(|stop| *stop > waited).min();
            let until = until.unwrap_or(self.limit + margin + extra);
            match tokio::time::timeout_at(since + until, &mut work).await {
                Ok(done) => {
                    self.heard();
                    return done;
                }
                Err(_) if self.state().0 > since => begun = self.state().0,
                Err(_) if until >= self.limit + extra => {
                    let is_over = until >= self.limit + margin + extra;
                    match (self.way)() {
                        Way::Refused => return Err(TransferError::Unsent(self.limit)),
                        Way::Cut => return Err(TransferError::Cut(self.limit)),
                        Way::Silent if is_over => return Err(TransferError::Unheard(self.limit)),
                        Way::Works if is_over => return Err(TransferError::Silent(self.limit)),
                        _ => {}
                    }
                }
                Err(_) => self.tell_once(),
            }
        }
    }

    fn state(&self) -> (Instant, bool) {
        let state = self.lock();
        (state.heard, state.is_told)
    }

    fn heard(&self) {
        let mut state = self.lock();
        state.heard = Instant::now();
        state.is_told = false;
    }

    fn tell_once(&self) {
        let was_told = std::mem::replace(&mut self.lock().is_told, true);
        if !was_told {
            (self.tell)();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn where_this_machine_cannot_send_that_is_told_when_patience_is_over() {
        let limit = Duration::from_millis(50);
        for (way, told) in [(Way::Refused, "firewall"), (Way::Cut, "no network")] {
            let patience = Patience::new(limit, || {}, move || way);
            let begun = Instant::now();
            let waited = patience.wait(Duration::ZERO, std::future::pending::<Result<(), _>>());
            let error = tokio::time::timeout(MARGIN, waited).await.unwrap().unwrap_err();
            assert!(error.to_string().contains(told), "{error}");
            assert!(begun.elapsed() >= limit);
        }
    }

    #[tokio::test]
    async fn it_is_over_soon_after_it_was_said_to_be() {
        let limit = Duration::from_millis(50);
        for way in [Way::Works, Way::Silent] {
            let patience = Patience::new(limit, || {}, move || way);
            let begun = Instant::now();
            let waited = patience.wait(Duration::ZERO, std::future::pending::<Result<(), _>>());
            let error = tokio::time::timeout(MARGIN, waited).await.unwrap().unwrap_err();
            let told = matches!(error, TransferError::Silent(_) | TransferError::Unheard(_));
            assert!(told && begun.elapsed() >= limit, "{error}");
        }
    }
}
