//! Greetings that have come by way of a server (RCH-16): what the responder remembers of them until INITIATE.

use std::collections::VecDeque;
use std::time::Duration;

use sss_crypto::kem;
use sss_wire::long::{self, KEM_KEY, Long};

use super::cookie::Place;
use crate::error::DropReason;
use crate::route::Route;
use crate::time::Instant;

/// Introductions remembered.
const MAX: usize = 64;
/// Time for which one is remembered.
const LIFE: Duration = Duration::from_secs(10);
/// Ways by which INITIATE of one may come.
const MAX_ROUTES: usize = 8;

/// The introductions that may lead to an INITIATE.
#[derive(Debug, Default)]
pub(crate) struct Introductions {
    /// The oldest first.
    all: VecDeque<Introduction>,
}

#[derive(Debug)]
struct Introduction {
    name: [u8; 8],
    version: u32,
    attempt: [u8; 8],
    /// The name of HELLO for its other half.
    hello: [u8; 16],
    /// The beginning of its cookie: the same attempt may have come by several servers.
    cookie: Option<[u8; 16]>,
    /// Routes of the initiator: the server has seen it there, or it has proven that it reads what is sent there.
    routes: Vec<Route>,
    began: Instant,
}

impl Introductions {
    /// Remembers a greeting that was answered with this COOKIE; of more than 64, the oldest is forgotten. Whoever gives
    /// them sees to it that they are shared fairly.
    pub(super) fn put(
        &mut self,
        now: Instant,
        name: [u8; 8],
        (hello, answer): (&long::Hello<'_>, &[u8]),
        routes: &[Route],
    ) {
        self.expire(now);
        self.all.retain(|known| known.name != name);
        if self.all.len() >= MAX {
            self.all.pop_front();
        }
        self.all.push_back(Introduction {
            name,
            version: hello.version,
            attempt: *hello.attempt,
            hello: hello.noise.first_chunk().map(kem::hello_name).unwrap_or_default(),
            cookie: match Long::parse(answer) {
                Ok(Long::Cookie(cookie)) => cookie.cookie.first_chunk().copied(),
                _ => None,
            },
            routes: routes.iter().copied().take(MAX_ROUTES).collect(),
            began: now,
        });
    }

    /// HELLO_K, made of its key: what belongs to the greeting of this name.
    pub(super) fn hello_k(&self, name: &[u8; 8], key: &[u8; KEM_KEY]) -> Option<Vec<u8>> {
        let known = self.all.iter().find(|known| known.name == *name)?;
        Some(long::hello_k(
            known.version,
            &known.attempt,
            &[0; 16],
            &known.hello,
            key,
        ))
    }

    /// The initiator reads what is sent by this route.
    pub(crate) fn allow(&mut self, name: &[u8; 8], route: Route) {
        let known = self.all.iter_mut().find(|known| known.name == *name);
        if let Some(known) = known.filter(|known| !known.routes.contains(&route)) {
            known.routes.truncate(MAX_ROUTES - 1);
            known.routes.push(route);
        }
    }

    /// The place to which the cookie of an attempt is bound whose INITIATE has come by a route.
    ///
    /// # Errors
    /// If it was introduced, and nothing tells that it is there; or with another cookie.
    pub(super) fn place(&self, attempt: &[u8; 8], cookie: &[u8], route: Route) -> Result<Place, DropReason> {
        let mut known = self.all.iter().filter(|known| known.attempt == *attempt).peekable();
        if known.peek().is_none() {
            return Ok(Place::Route(route));
        }
        let of = known.find(|known| known.cookie.as_ref() == cookie.first_chunk());
        match of.ok_or(DropReason::StaleCookie)? {
            known if known.routes.contains(&route) => Ok(Place::Introduction(known.name)),
            _ => Err(DropReason::BadAddress),
        }
    }

    pub(super) fn expire(&mut self, now: Instant) {
        while self.all.pop_front_if(|known| known.began + LIFE <= now).is_some() {}
    }
}

/// Reads a short HELLO.
///
/// # Errors
/// If it is none.
pub(super) fn short_hello(packet: &[u8]) -> Result<long::Hello<'_>, DropReason> {
    long::Hello::parse_short(packet).map_err(|_| DropReason::Malformed)
}

/// Reads a HELLO_K.
///
/// # Errors
/// If it is none.
pub(super) fn hello_k(packet: &[u8]) -> Result<long::HelloK<'_>, DropReason> {
    match Long::parse(packet) {
        Ok(Long::HelloK(hello_k)) => Ok(hello_k),
        _ => Err(DropReason::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Instant {
        Instant::from_nanos(s * 1_000_000_000)
    }

    fn route(port: u16) -> Route {
        Route::udp(([192, 0, 2, 1], port).into())
    }

    /// Remembers a greeting of an attempt that was answered with a cookie, whose beginning is that of its name.
    fn put(known: &mut Introductions, now: Instant, (name, attempt): (u8, u8), routes: &[Route]) {
        let hello = long::Hello {
            version: 1,
            attempt: &[attempt; 8],
            token: &[0; 16],
            noise: &[0; 64],
        };
        let mut answer = long::cookie_without_mac(1, &[attempt; 8], &[0; 48], &[name; 100]);
        answer.extend_from_slice(&[0; 16]);
        known.put(now, [name; 8], (&hello, &answer), routes);
    }

    fn place(known: &Introductions, (name, attempt): (u8, u8), port: u16) -> Result<Place, DropReason> {
        known.place(&[attempt; 8], &[name; 100], route(port))
    }

    // spec: RCH-16, RCH-18
    #[test]
    fn an_initiate_counts_with_its_own_cookie_and_where_its_sender_was_seen() {
        let mut known = Introductions::default();
        assert_eq!(
            place(&known, (1, 9), 7),
            Ok(Place::Route(route(7))),
            "nobody introduced it"
        );
        // The same attempt, by two servers.
        put(&mut known, at(0), (1, 9), &[route(1)]);
        put(&mut known, at(0), (2, 9), &[route(2)]);
        let introduced = |name: u8| Ok(Place::Introduction([name; 8]));
        assert_eq!(place(&known, (1, 9), 1), introduced(1));
        assert_eq!(place(&known, (2, 9), 2), introduced(2));
        assert_eq!(place(&known, (1, 9), 2), Err(DropReason::BadAddress));
        assert_eq!(place(&known, (3, 9), 1), Err(DropReason::StaleCookie));
        known.allow(&[1; 8], route(3));
        assert_eq!(place(&known, (1, 9), 3), introduced(1));
        assert_eq!(place(&known, (2, 9), 3), Err(DropReason::BadAddress));
        // A greeting of the same name takes the place of the one before.
        put(&mut known, at(1), (1, 8), &[route(5)]);
        assert_eq!(place(&known, (1, 9), 1), Err(DropReason::StaleCookie));
        assert_eq!(place(&known, (1, 8), 5), introduced(1));
    }

    // Threat 3.
    // spec: RCH-13
    #[test]
    fn threat_03_so_many_introductions_with_so_many_routes_are_remembered_for_10_s() {
        let mut known = Introductions::default();
        let routes: Vec<Route> = (1..20).map(route).collect();
        for name in 0..=MAX as u8 {
            put(&mut known, at(0), (name, name), &routes);
        }
        assert_eq!(known.all.len(), MAX);
        assert_eq!(
            place(&known, (0, 0), 1),
            Ok(Place::Route(route(1))),
            "the oldest is forgotten"
        );
        assert_eq!(place(&known, (1, 1), 8), Ok(Place::Introduction([1; 8])));
        assert_eq!(place(&known, (1, 1), 9), Err(DropReason::BadAddress));
        // The latest that answered has a place.
        (20..40).for_each(|port| known.allow(&[1; 8], route(port)));
        assert_eq!(place(&known, (1, 1), 39), Ok(Place::Introduction([1; 8])));
        assert!(known.all.iter().all(|one| one.routes.len() <= MAX_ROUTES));
        known.expire(at(9));
        assert_eq!(known.all.len(), MAX);
        known.expire(at(10));
        assert_eq!(known.all.len(), 0);
        put(&mut known, at(20), (1, 1), &routes);
        put(&mut known, at(31), (2, 2), &routes);
        assert_eq!(known.all.len(), 1, "whoever comes finds no old ones");
    }
}
