//! A lease that this host has at one server: kept alive, moved, and used to ask for others (RCH-5, RCH-8 to RCH-11).

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use sss_crypto::Generator;
use sss_proto::Instant;
use sss_wire::Eid;
use sss_wire::reach::bodies::{self, Connect, LeaseOk, Presence, Status};
use sss_wire::reach::records::{MAX_TOKENS, Registered};
use sss_wire::reach::{Kind, Sealed};
use zeroize::Zeroizing;

use super::mapped::{Mapped, Proof};
use crate::Dropped;
use crate::keys::{From, LeaseKey};

/// Pauses between LEASEs that are not answered; the last one is repeated.
const PAUSES: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];
/// Part of the silence that a pause is at most if something came through the relay of late; but it need not be shorter
/// than the second, and is a quarter less or more.
const SHARE: u32 = 64;
const SHORT_PAUSE: Duration = Duration::from_secs(1);
/// Time for which the relay counts as used after something has come through it: so long its handles last.
const USE: Duration = Duration::from_secs(60);
/// Pause before a host that goes says so again; it doubles.
const LEAVING_PAUSE: Duration = Duration::from_millis(100);
/// LEASEs in a row through a tunnel that may be left without an answer, before it counts as dead; and the least time in
/// which they are.
const MAX_UNANSWERED: usize = 2;
const LOST: Duration = Duration::from_secs(2);
/// Time without anything through the relay after which LEASE asks whether the server is still there, and the least time
/// between two of these.
const LULL: Duration = Duration::from_secs(1);
const LULL_PAUSE: Duration = Duration::from_secs(5);
/// The least time between a LEASE and one that only confirms this host's address: it doubles as long as there is no
/// news, up to the second, but not where a peer does not answer at all.
const CONFIRMED: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(16));
/// Packets on their way whose answer is waited for, at most.
const MAX_OUTSTANDING: usize = 16;
/// The least time between two LEASEs that only tell of introductions.
const ANSWER_PAUSE: Duration = Duration::from_millis(50);

/// A lease.
pub(super) struct Lease {
    key: LeaseKey,
    boot: [u8; 8],
    ttl: Duration,
    wish: Wish,
    counter: u64,
    tokens: Tokens,
    /// This host's address, as the server sees it.
    observed: SocketAddr,
    outstanding: VecDeque<(u64, Instant)>,
    rtt: Option<Duration>,
    timer: Timer,
    answers: VecDeque<([u8; 8], Status)>,
    mapped: Mapped,
}

/// Wish of a host about its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) presence: Presence,
    /// Nobody is to be told where it is (RCH-38).
    pub(super) is_veiled: bool,
}

/// Tokens in store: none is used at two addresses.
#[derive(Default)]
struct Tokens {
    /// The address of this host, if the socket has told it: what has a token leaves from there (RCH-5).
    local: Option<IpAddr>,
    /// The one that is used at the present address.
    here: Option<Token>,
    /// Not seen by anybody yet, the latest last.
    unused: VecDeque<Token>,
}

/// A token, and the address that it names: sent from there, it proves that this host is there (RCH-10).
struct Token {
    of: SocketAddr,
    bytes: Vec<u8>,
}

/// The time of the next LEASE.
struct Timer {
    at: Instant,
    /// LEASEs since the last one that was answered.
    unanswered: usize,
    /// The time of the first of them.
    silent_since: Option<Instant>,
    /// The time of the latest LEASE.
    sent: Instant,
    /// The time when something came through the server's relay, if that was after the latest LEASE.
    relayed: Option<Instant>,
    /// The time when something came through it at all.
    used: Option<Instant>,
    /// LEASEs that were to confirm this host's address, since that has changed or one was due by itself.
    confirmed: u32,
}

/// News that LEASE_OK has brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    /// This host's address is another one, as the server sees it, or is yet to be proven.
    pub(super) is_elsewhere: bool,
    /// It is another one.
    pub(super) has_moved: bool,
    /// The server is another run, as it turns out: it knows no handle of its relay any more.
    pub(super) is_restarted: bool,
    /// The server was restarted: this host is to register again.
    pub(super) is_forgotten: bool,
    /// Others with this host's identity have taken its place.
    pub(super) is_superseded: bool,
    /// It was no answer, but an echo (RCH-26).
    pub(super) is_echo: bool,
    /// The lease was given up, others with this host's identity have taken its place, or there is no room any more.
    pub(super) is_over: bool,
}

impl Timer {
    /// Returns when LEASE is due because nothing comes through the relay any more (RCH-8).
    fn lull_at(&self) -> Option<Instant> {
        Some((self.relayed? + LULL).max(self.sent + LULL_PAUSE))
    }

    /// The pause before LEASE is sent again if the one that is sent now is not answered (RCH-8).
    fn pause(&self, now: Instant, rng: &mut Generator) -> Duration {
        let pause = PAUSES
            .get(self.unanswered)
            .or(PAUSES.last())
            .copied()
            .unwrap_or_default();
        let silent_since = self.silent_since.unwrap_or(now);
        let used = self.used.filter(|used| silent_since.since(*used) < USE);
        let Some(used) = used.filter(|_| self.unanswered >= MAX_UNANSWERED) else {
            return pause;
        };
        let mut random = [0; 1];
        rng.fill(&mut random);
        let [random] = random;
        let short = (now.since(used) / SHARE).max(SHORT_PAUSE);
        pause.min(short * 3 / 4 + short * u32::from(random) / 512)
    }
}

impl Tokens {
    fn put(&mut self, token: Token) {
        self.unused.push_back(token);
        while self.unused.len() > MAX_TOKENS {
            self.unused.pop_front();
        }
    }

    /// The token of the present address. `None` if there is none left.
    fn here(&mut self) -> Option<&[u8]> {
        if self.here.is_none() {
            self.here = self.unused.pop_back();
        }
        self.here.as_ref().map(|token| token.bytes.as_slice())
    }

    /// Returns whether the token that is used proves an address.
    fn proves(&self, address: SocketAddr) -> bool {
        self.here.as_ref().is_some_and(|token| token.of == address)
    }

    /// A token that was made for the present address takes the place of the one used so far.
    fn put_here(&mut self, token: Token) {
        self.here = Some(token);
    }

    fn leave(&mut self) {
        self.local = None;
        self.here = None;
    }
}

impl Lease {
    /// A lease that was just registered, on a channel of this round-trip time: the first call needs one.
    pub(super) fn new(now: Instant, registered: Registered, (wish, rtt): (Wish, Option<Duration>)) -> Self {
        let mut tokens = Tokens::default();
        let of = registered.address;
        for bytes in registered.tokens {
            tokens.put(Token { of, bytes });
        }
        let ttl = Duration::from_secs(u64::from(registered.ttl).max(1));
        Self {
            key: LeaseKey::new(registered.key),
            boot: registered.boot,
            ttl,
            wish,
            counter: 0,
            tokens,
            observed: registered.address,
            outstanding: VecDeque::new(),
            rtt,
            timer: Timer {
                // The first one at once: it measures the round trip.
                at: now,
                unanswered: 0,
                silent_since: None,
                sent: Instant::default(),
                relayed: None,
                used: None,
                confirmed: 0,
            },
            answers: VecDeque::new(),
            mapped: Mapped::default(),
        }
    }

    /// The same with greater numbers than those before: of an instance, none is used twice.
    pub(super) fn after(self, counter: u64) -> Self {
        Self { counter, ..self }
    }

    /// The number of the latest packet.
    pub(super) fn counter(&self) -> u64 {
        self.counter
    }

    /// This host's address, as the server sees it.
    pub(super) fn observed(&self) -> SocketAddr {
        self.observed
    }

    /// Smoothed round-trip time to the server.
    pub(super) fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    pub(super) fn next_timer(&self) -> Instant {
        let answer = (!self.answers.is_empty()).then(|| self.timer.sent + ANSWER_PAUSE);
        let mapped = self
            .mapped
            .next_timer()
            .filter(|_| self.wish.presence != Presence::Leaving);
        answer
            .into_iter()
            .chain(mapped)
            .chain(self.timer.lull_at())
            .fold(self.timer.at, Instant::min)
    }

    /// Routers let these addresses in for this host.
    pub(super) fn set_mapped(&mut self, now: Instant, named: &[SocketAddr]) {
        if self.mapped.set(now, named, self.observed) {
            self.timer.at = now;
        }
    }

    /// The mapped address that this server is told of, and what is known of it.
    pub(super) fn mapped(&self) -> Option<(SocketAddr, Proof)> {
        self.mapped.report()
    }

    /// LEASE, if it is due.
    ///
    /// # Errors
    /// If there is no token left: this host is to register again.
    pub(super) fn on_timer(&mut self, now: Instant, rng: &mut Generator) -> Result<Option<Vec<u8>>, NoToken> {
        if now < self.next_timer() {
            return Ok(None);
        }
        let answer = self.answers.pop_front();
        let lease = self.statement(now, answer);
        let token = match self.mapped.token() {
            Some(echoed) => echoed,
            None => self.tokens.here().ok_or(NoToken)?,
        };
        let packet = self.key.lease(&lease, token, rng);
        // It was due by itself: there was nothing to confirm for long.
        if now >= self.timer.sent + self.ttl / 3 {
            self.timer.confirmed = 0;
        }
        self.timer.sent = now;
        self.timer.relayed = None;
        let pause = match self.wish.presence {
            Presence::Leaving => LEAVING_PAUSE * (1 << self.timer.unanswered.min(6)),
            _ => self.timer.pause(now, rng).min(self.ttl / 3),
        };
        self.timer.unanswered = self.timer.unanswered.saturating_add(1);
        self.timer.silent_since.get_or_insert(now);
        self.timer.at = now + pause;
        Ok(Some(packet))
    }

    /// LEASE from another address than the present one, with a token that was not seen yet. `None` if there is none
    /// left. Nothing else is awaited of it.
    pub(super) fn elsewhere(&mut self, now: Instant, rng: &mut Generator) -> Option<Vec<u8>> {
        let token = self.tokens.unused.pop_back()?.bytes;
        let mut lease = self.statement(now, None);
        // It is of the address that this host has there.
        lease.mapped = bodies::MappedPort::default();
        Some(self.key.lease(&lease, &token, rng))
    }

    fn statement(&mut self, now: Instant, answer: Option<([u8; 8], Status)>) -> bodies::Lease {
        let counter = self.next_number(now);
        bodies::Lease {
            boot: self.boot,
            counter,
            rtt: self.rtt_micros(),
            presence: self.wish.presence,
            is_veiled: self.wish.is_veiled,
            answer,
            mapped: self.mapped.state_in(now, counter),
        }
    }

    /// The time of the first LEASE that was not answered, if the latest was not.
    pub(super) fn silent_since(&self) -> Option<Instant> {
        self.timer.silent_since
    }

    /// The number of LEASEs since the latest one that was answered.
    pub(super) fn unanswered(&self) -> usize {
        self.timer.unanswered
    }

    /// The lease, which was got from this address of the host.
    pub(super) fn used_from(mut self, local: Option<IpAddr>) -> Self {
        self.tokens.local = local;
        self
    }

    /// LEASE was answered, to this address of the host.
    pub(super) fn note_local(&mut self, local: Option<IpAddr>) {
        self.tokens.local = local;
    }

    /// The address of this host from which packets for the server leave.
    pub(super) fn local(&self) -> Option<IpAddr> {
        self.tokens.local
    }

    /// This host's address has changed, or may have.
    pub(super) fn on_moved(&mut self, now: Instant) {
        self.tokens.leave();
        self.outstanding.clear();
        self.timer.at = now;
        self.timer.unanswered = 0;
        self.timer.silent_since = None;
    }

    /// This host goes (RCH-20): the server is told so from now on, until it has answered.
    pub(super) fn leave(&mut self, now: Instant) {
        self.wish.presence = Presence::Leaving;
        self.timer.at = now;
        self.timer.unanswered = 0;
    }

    /// Something has come through the server's relay. When no more does, LEASE finds out whether it is still there.
    pub(super) fn on_relayed(&mut self, now: Instant) {
        self.timer.relayed = Some(now);
        self.timer.used = Some(now);
    }

    /// Returns whether the server does not hear this host, or is not heard: two LEASEs were not answered, and a third
    /// is due.
    pub(super) fn is_lost(&self, now: Instant) -> bool {
        let since = self.timer.silent_since.filter(|since| now.since(*since) >= LOST);
        since.is_some() && self.timer.unanswered >= MAX_UNANSWERED && self.timer.at <= now
    }

    /// LEASE is due now: the server is to know this host before it is asked again.
    pub(super) fn lease_now(&mut self, now: Instant) {
        self.timer.at = now;
    }

    /// A peer is not heard any more, or does not answer at all: LEASE tells the server where this host is, but not too
    /// often (RCH-8).
    pub(super) fn confirm(&mut self, now: Instant, is_stalled: bool) {
        let doubled = CONFIRMED.0 * 2_u32.saturating_pow(self.timer.confirmed.min(8));
        let pause = if is_stalled {
            CONFIRMED.0
        } else {
            doubled.min(CONFIRMED.1)
        };
        let at = now.max(self.timer.sent + pause);
        if at < self.timer.at {
            self.timer.at = at;
            self.timer.confirmed = self.timer.confirmed.saturating_add(1);
        }
    }

    /// Takes LEASE_OK in.
    ///
    /// # Errors
    /// If it is not genuine, or answers nothing.
    pub(super) fn on_lease_ok(&mut self, now: Instant, packet: &Sealed<'_>) -> Result<News, Dropped> {
        let plaintext = self.key.open(packet).ok_or(Dropped::Unauthentic)?;
        let ok = LeaseOk::decode(&plaintext)?;
        if ok.notice.is_echo {
            self.take_echo(ok)?;
            return Ok(News {
                is_echo: true,
                ..News::default()
            });
        }
        let sent = self.answered(ok.counter).ok_or(Dropped::Old)?;
        let sample = now.since(sent);
        // RFC 6298, section 2, without the variance.
        self.rtt = Some(self.rtt.map_or(sample, |rtt| rtt * 7 / 8 + sample / 8));
        let is_leaving = self.wish.presence == Presence::Leaving;
        self.timer.silent_since = None;
        if !is_leaving {
            self.timer.unanswered = 0;
            self.timer.at = now + self.ttl / 3;
        }
        // The token is for the address where this host is now. Where the one in use is for another, also one of those
        // before the last, it takes its place: it proves that this host is there.
        let (of, bytes) = (ok.address, ok.token);
        let is_proven = self.tokens.proves(of);
        match is_proven {
            true => self.tokens.put(Token { of, bytes }),
            false => self.tokens.put_here(Token { of, bytes }),
        }
        let has_moved = of != self.observed;
        let is_elsewhere = has_moved || !is_proven;
        let is_restarted = ok.boot != self.boot;
        self.observed = of;
        self.timer.confirmed *= u32::from(!has_moved);
        self.boot = ok.boot;
        self.mapped.on_answered(now, ok.counter);
        if is_elsewhere || is_restarted {
            self.timer.at = now;
            self.mapped.begin(now, self.observed);
        }
        Ok(News {
            is_elsewhere,
            has_moved,
            is_echo: false,
            is_restarted,
            is_forgotten: ok.notice.is_forgotten,
            is_superseded: ok.notice.is_superseded,
            // A server that was restarted since knows nothing of who goes.
            is_over: ok.notice.is_superseded || ok.ttl == 0 || (is_leaving && is_restarted),
        })
    }

    /// Takes in what the server's other port sees of this host (RCH-28).
    ///
    /// # Errors
    /// If it is not genuine, or answers nothing.
    pub(super) fn on_seen_elsewhere(&mut self, packet: &Sealed<'_>) -> Result<(SocketAddr, bool), Dropped> {
        let plaintext = self.key.open(packet).ok_or(Dropped::Unauthentic)?;
        let ok = LeaseOk::decode(&plaintext)?;
        let at = self.outstanding.iter().position(|(number, _)| *number == ok.counter);
        at.and_then(|at| self.outstanding.remove(at)).ok_or(Dropped::Old)?;
        Ok((ok.address, ok.notice.relays_nothing))
    }

    /// Takes in what may be an echo: a router has let it in, and it need not come from where the server is.
    ///
    /// # Errors
    /// If it is none, or none that was asked for.
    pub(super) fn on_echo(&mut self, packet: &Sealed<'_>) -> Result<(), Dropped> {
        if !self.mapped.is_asking() {
            return Err(Dropped::Unknown);
        }
        let plaintext = self.key.open(packet).ok_or(Dropped::Unauthentic)?;
        self.take_echo(LeaseOk::decode(&plaintext)?)
    }

    fn take_echo(&mut self, ok: LeaseOk) -> Result<(), Dropped> {
        let is_echo = ok.notice.is_echo && ok.boot == self.boot && self.mapped.on_echo(ok.address, ok.token);
        is_echo.then_some(()).ok_or(Dropped::Old)
    }

    /// Notes that the server is to be told that this host has heard of an introduction.
    pub(super) fn answer(&mut self, introduction: [u8; 8], status: Status) {
        self.answers.retain(|(name, _)| *name != introduction);
        self.answers.push_back((introduction, status));
        while self.answers.len() > MAX_OUTSTANDING {
            self.answers.pop_front();
        }
    }

    /// CONNECT.
    ///
    /// # Errors
    /// If there is no token left: this host is to register again.
    pub(super) fn connect(
        &mut self,
        now: Instant,
        (eid, introduction): (Eid, [u8; 8]),
        hello: &[u8],
        rng: &mut Generator,
    ) -> Result<Vec<u8>, NoToken> {
        let connect = Connect {
            boot: self.boot,
            counter: self.next_number(now),
            rtt: self.rtt_micros(),
            introduction,
            eid,
            hello,
        };
        let token = self.tokens.here().ok_or(NoToken)?;
        Ok(self.key.seal(Kind::Connect, Some(token), rng, |_| connect.encode()))
    }

    /// LEG.
    pub(super) fn leg(&self, introduction: &[u8; 8], key: &[u8; sss_wire::long::KEM_KEY]) -> Vec<u8> {
        self.key.leg(From::Host, introduction, key)
    }

    /// Returns whether a LEG of the server's is genuine.
    pub(super) fn is_genuine(&self, leg: &sss_wire::reach::Leg<'_>) -> bool {
        self.key.is_genuine(From::Server, leg)
    }

    /// Opens FOUND or NOTIFY.
    ///
    /// # Errors
    /// If it is not genuine.
    pub(super) fn open(&self, packet: &Sealed<'_>) -> Result<Zeroizing<Vec<u8>>, Dropped> {
        self.key.open(packet).ok_or(Dropped::Unauthentic)
    }

    /// Returns whether something was made in the server's present run, as far as is known.
    pub(super) fn is_present(&self, boot: &[u8; 8]) -> bool {
        self.boot == *boot
    }

    fn next_number(&mut self, now: Instant) -> u64 {
        self.counter = self.counter.saturating_add(1);
        self.outstanding.push_back((self.counter, now));
        while self.outstanding.len() > MAX_OUTSTANDING {
            self.outstanding.pop_front();
        }
        self.counter
    }

    /// Returns when the packet of this number was sent; those before it are given up.
    fn answered(&mut self, number: u64) -> Option<Instant> {
        let at = self.outstanding.iter().position(|(n, _)| *n == number)?;
        self.outstanding.drain(..=at).next_back().map(|(_, sent)| sent)
    }

    fn rtt_micros(&self) -> u32 {
        let rtt = self.rtt.unwrap_or_default().as_micros();
        u32::try_from(rtt).unwrap_or(u32::MAX)
    }
}

/// The lack of a token that was not seen at another address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoToken;

#[cfg(test)]
mod tests;
