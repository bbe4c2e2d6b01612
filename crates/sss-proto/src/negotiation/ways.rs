//! Routes by which INITIATE goes: those by which its COOKIE has come (RCH-16).

use std::time::Duration;

use crate::route::Route;
use crate::time::Instant;

/// Bounds of the time in which INITIATE may be answered by the first route, before it goes by the others.
const LONE: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];

/// Routes by which one COOKIE has come, one of each class: a route may be open in one direction alone, so that what
/// goes back is lost there.
#[derive(Clone, Debug)]
pub(super) struct Ways {
    /// The one by which INITIATE goes at once.
    first: Route,
    /// That one, and those of other classes.
    all: Vec<Route>,
    /// The time when it was first sent.
    initiated: Instant,
    /// The time when it goes by the others, if it has not yet.
    others_at: Option<Instant>,
    /// It went by the others too.
    is_spread: bool,
}

impl Ways {
    pub(super) fn new(first: Route) -> Self {
        Self {
            first,
            all: vec![first],
            initiated: Instant::default(),
            others_at: None,
            is_spread: false,
        }
    }

    pub(super) fn first(&self) -> Route {
        self.first
    }

    /// The COOKIE has come by another route too, before INITIATE: that goes by the best one first.
    pub(super) fn add(&mut self, route: Route) {
        if self.put(route) {
            self.all.sort_by_key(Route::class);
            self.first = self.all.first().copied().unwrap_or(route);
        }
    }

    /// INITIATE is sent. The COOKIE had come at this time after it was asked for.
    pub(super) fn begin(&mut self, now: Instant, asked: Duration) {
        self.initiated = now;
        self.others_at = (self.all.len() > 1).then(|| now + lone(asked));
    }

    /// The COOKIE has come by another route too, so long after it was asked for, and INITIATE was sent before. Returns
    /// when it goes by that route, if it does.
    pub(super) fn add_late(&mut self, now: Instant, asked: Duration, route: Route) -> Option<Instant> {
        if !self.put(route) {
            return None;
        }
        let at = now.max(self.initiated + lone(asked));
        self.others_at = Some(self.others_at.map_or(at, |before| before.min(at)));
        self.others_at
    }

    fn put(&mut self, route: Route) -> bool {
        let is_new = self.all.iter().all(|known| known.class() != route.class());
        if is_new {
            self.all.push(route);
        }
        is_new
    }

    pub(super) fn has(&self, route: &Route) -> bool {
        self.all.contains(route)
    }

    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.others_at
    }

    /// Returns whether INITIATE was sent by more than one.
    pub(super) fn is_spread(&self) -> bool {
        self.is_spread
    }

    /// Routes by which INITIATE goes now. If it is due by itself, `times` tells how often it was, with this time: once
    /// by the first route alone, then by all.
    pub(super) fn due(&mut self, now: Instant, times: Option<u32>) -> &[Route] {
        let range = match times {
            Some(0 | 1) => 0..1,
            Some(_) => {
                self.others_at = None;
                0..self.all.len()
            }
            None if self.others_at.take_if(|at| *at <= now).is_some() => 1..self.all.len(),
            None => 0..0,
        };
        self.is_spread |= range.end > 1;
        self.all.get(range).unwrap_or_default()
    }
}

fn lone(asked: Duration) -> Duration {
    let [least, most] = LONE;
    asked.clamp(least, most)
}
