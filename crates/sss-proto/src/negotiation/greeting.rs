//! The initiator until INITIATE: HELLO and HELLO_K are out, and what has come of them (NEG-33).

use std::time::Duration;

use sss_crypto::Suite;
use sss_crypto::noise::{self, GotCookie, SentHello};
use sss_wire::ChannelId;
use sss_wire::long::{self, Cookie, CookieK};
use zeroize::Zeroizing;

use super::leg::{Leg, OpenedLeg};
use super::ways::Ways;
use crate::error::DropReason;
use crate::route::Route;

/// Attempts that follow RETRY, at most (NEG-12).
const MAX_RETRIES: u8 = 3;

/// An attempt until INITIATE.
pub(super) struct Greeting {
    pub(super) noise: noise::Initiator<SentHello>,
    pub(super) hello: Vec<u8>,
    pub(super) retries: u8,
    pub(super) leg: Option<Leg>,
    /// The latest authentic COOKIE, as long as COOKIE_K is missing.
    pub(super) held: Option<Held>,
    /// True once COOKIE or COOKIE_K has come without the other.
    pub(super) is_half_answered: bool,
}

/// An authentic COOKIE without its COOKIE_K.
pub(super) struct Held {
    pub(super) agreed: Agreed,
    /// The key of COOKIE_K's mac.
    pub(super) mac_key: Zeroizing<[u8; 32]>,
}

/// A COOKIE that was checked, and COOKIE_K with it: what the channel is made from.
pub(crate) struct Agreed {
    pub(crate) noise: noise::Initiator<GotCookie>,
    pub(super) ways: Ways,
    pub(crate) suite: Suite,
    /// The id that packets to the responder carry.
    pub(crate) channel_id: ChannelId,
    /// Round trip of HELLO and COOKIE, if HELLO was sent only once.
    pub(crate) rtt: Option<Duration>,
    pub(super) cookie: Vec<u8>,
    /// The cookie of the leg, empty without one.
    pub(super) kem_cookie: Vec<u8>,
    /// Bytes before INITIATE where a relay forwards it, if it may go by one.
    pub(super) overhead: usize,
}

/// An answer to HELLO or HELLO_K.
pub(crate) enum HelloAnswer<'a> {
    Cookie(&'a Cookie<'a>),
    CookieK(&'a CookieK<'a>),
}

impl HelloAnswer<'_> {
    /// The negotiation that it belongs to.
    pub(crate) fn attempt(&self) -> &[u8; 8] {
        match self {
            Self::Cookie(cookie) => cookie.attempt,
            Self::CookieK(cookie_k) => cookie_k.attempt,
        }
    }
}

impl Greeting {
    /// HELLO, and HELLO_K if the leg is offered, that nobody has answered yet.
    pub(super) fn new(noise: noise::Initiator<SentHello>, hello: Vec<u8>, leg: Option<Leg>) -> Self {
        Self {
            noise,
            hello,
            retries: 0,
            leg,
            held: None,
            is_half_answered: false,
        }
    }

    pub(super) fn on_retry(&mut self, token: &[u8; 16]) -> Result<Vec<&[u8]>, DropReason> {
        // Both packets were answered so.
        if long::token(&self.hello) == Some(token) {
            return Err(DropReason::Duplicate);
        }
        if self.retries >= MAX_RETRIES {
            return Err(DropReason::UnknownAttempt);
        }
        self.retries += 1;
        long::set_token(&mut self.hello, token);
        if let Some(leg) = &mut self.leg {
            leg.set_token(token);
        }
        let (packet, beside) = self.unanswered();
        Ok(std::iter::once(packet).chain(beside).collect())
    }

    /// HELLO and HELLO_K, or the one of them that has no answer. Answers that do not fit each other are none: they are
    /// of two hosts, or one is forged (NEG-33).
    pub(super) fn unanswered(&self) -> (&[u8], Option<&[u8]>) {
        let Some(leg) = &self.leg else {
            return (&self.hello, None);
        };
        match (&self.held, leg.is_unanswered()) {
            (Some(_), true) => (leg.packet(), None),
            (None, false) => (&self.hello, None),
            _ => (&self.hello, Some(leg.packet())),
        }
    }

    /// The round trip of HELLO and the COOKIE that is held.
    pub(super) fn rtt(&self) -> Option<Duration> {
        self.held.as_ref()?.agreed.rtt
    }

    /// Returns whether this COOKIE is the one that is held.
    pub(super) fn holds(&self, cookie: &Cookie<'_>) -> bool {
        self.held
            .as_ref()
            .is_some_and(|held| held.agreed.cookie == cookie.cookie)
    }

    /// The COOKIE that is held has come by this route too: INITIATE goes by the better one first.
    pub(super) fn note_way(&mut self, route: Route) {
        if let Some(held) = &mut self.held {
            held.agreed.ways.add(route);
        }
    }

    /// Takes the COOKIE_K that belongs to an authentic COOKIE, if it is here. The COOKIE is kept otherwise, instead of
    /// one that was before (NEG-33).
    pub(super) fn complete_or_hold(&mut self, agreed: Agreed, mac_key: Zeroizing<[u8; 32]>) -> Option<Agreed> {
        match self.leg.as_ref().and_then(|leg| leg.open_kept(&mac_key)) {
            Some(opened) => Some(agreed.with_leg(opened)),
            None => {
                self.held = Some(Held { agreed, mac_key });
                None
            }
        }
    }
}

impl Agreed {
    /// The route by which INITIATE goes first.
    pub(crate) fn route(&self) -> Route {
        self.ways.first()
    }

    /// Room for frames in INITIATE, in bytes: with what a relay forwards it by, it is no longer than without (CHN-17).
    pub(crate) fn room(&self) -> usize {
        long::initiate_room(self.cookie.len(), self.kem_cookie.len()).saturating_sub(self.overhead)
    }

    /// Takes in the leg (NEG-34).
    pub(super) fn with_leg(mut self, leg: OpenedLeg) -> Self {
        self.noise.mix_kem(&leg.secret);
        self.kem_cookie = leg.cookie;
        self
    }
}
