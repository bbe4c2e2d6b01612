//! One allocation at a TURN server (RFC 8656), without IO: what is sent to the server, and what has come from it.
//!
//! A permission is asked for right before the first packet to an address, which does not wait for the answer: the
//! server takes both in their order. Of a peer that is sent much, a channel is bound, whose header has 4 bytes.

mod peers;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::message::{
    self, Attribute, Class, Key, Message, Method, Transaction, Writer, channel_data, read_channel_data,
};
use super::table::{TurnError, TurnStats};
use super::{TurnServer, TurnTransport};
use peers::Peers;

/// Longest packet that is carried: with what TURN puts before it, it fits into what every path takes.
pub(super) const MAX_DATA: usize = 1400;
/// Times after which a request is sent again over UDP, and the time after which it is given up, each since the first.
const AGAIN: [Duration; 4] = [
    Duration::from_millis(500),
    Duration::from_millis(1500),
    Duration::from_millis(2500),
    Duration::from_millis(3500),
];
const PATIENCE: Duration = Duration::from_millis(4500);
/// Challenges that one request is repeated for.
const MAX_CHALLENGES: u8 = 3;
/// Lifetime that is asked for, and the least that is reckoned with.
const LIFETIME: u32 = 600;
const SHORTEST: Duration = Duration::from_secs(30);
/// Time without anything from the server, after something was sent, from which on it is asked whether it knows the
/// allocation; and the least time between two such questions.
const DOUBT: Duration = Duration::from_secs(1);
const DOUBT_PAUSE: Duration = Duration::from_secs(5);
/// Requests that are not answered yet, at most: what is beyond is asked for with a later packet.
const MAX_REQUESTS: usize = 64;
/// Longest text of a server that is told, in characters.
const MAX_SAID: usize = 80;

/// News of an allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// It is there, at this relayed address.
    Open(SocketAddr),
    /// It is not there, or not any more.
    Gone(TurnError),
    /// It was given back, or the server does not answer that.
    Ended,
}

/// Subject of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Allocate,
    Refresh,
    End,
    Permit(std::net::IpAddr),
    Bind(SocketAddr, u16),
}

/// A request that is not answered yet.
struct Request {
    transaction: Transaction,
    subject: Subject,
    bytes: Vec<u8>,
    began: Instant,
    /// Number of times that it was sent again.
    repeats: usize,
    challenges: u8,
}

/// Access to a server: its realm and nonce, and the key that follows.
struct Access {
    realm: String,
    nonce: Vec<u8>,
    key: Key,
}

/// Doubt about whether the server knows the allocation still.
#[derive(Default)]
struct Doubt {
    /// It is asked then.
    at: Option<Instant>,
    /// It was asked then, the last time.
    latest: Option<Instant>,
}

/// An allocation, or the way to one.
pub(super) struct Allocation {
    server: Arc<TurnServer>,
    /// Address of the server.
    at: SocketAddr,
    access: Option<Access>,
    relayed: Option<SocketAddr>,
    refresh_at: Option<Instant>,
    expires_at: Option<Instant>,
    requests: Vec<Request>,
    peers: Peers,
    doubt: Doubt,
    outbox: VecDeque<Vec<u8>>,
    news: VecDeque<News>,
    pub(super) stats: TurnStats,
}

impl Allocation {
    /// Asks the server at an address for an allocation.
    pub(super) fn new(now: Instant, server: Arc<TurnServer>, at: SocketAddr) -> Self {
        let mut new = Self {
            server,
            at,
            access: None,
            relayed: None,
            refresh_at: None,
            expires_at: None,
            requests: Vec::new(),
            peers: Peers::default(),
            doubt: Doubt::default(),
            outbox: VecDeque::new(),
            news: VecDeque::new(),
            stats: TurnStats::default(),
        };
        new.ask(now, Subject::Allocate, 0);
        new
    }

    /// The next packet for the server.
    pub(super) fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.outbox.pop_front()
    }

    /// The next news of it.
    pub(super) fn poll_news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    /// Returns when [`Self::on_timer`] is to be called.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        let requests = self.requests.iter().map(|request| self.due(request));
        let refresh = self.refresh_at.filter(|_| !self.is_asking(Subject::Refresh));
        requests
            .chain(refresh)
            .chain(self.expires_at)
            .chain(self.doubt.at)
            .min()
    }

    /// Does what is due.
    pub(super) fn on_timer(&mut self, now: Instant) {
        if self.expires_at.is_some_and(|at| at <= now) {
            return self.fail(TurnError::Expired);
        }
        let is_due = self.refresh_at.is_some_and(|at| at <= now);
        let is_doubted = self.doubt.at.is_some_and(|at| at <= now);
        if is_doubted {
            self.doubt.at = None;
            self.doubt.latest = Some(now);
        }
        if (is_due || is_doubted) && self.relayed.is_some() && !self.is_asking(Subject::Refresh) {
            self.refresh_at = None;
            self.ask(now, Subject::Refresh, 0);
        }
        let mut given_up = Vec::new();
        for request in &mut self.requests {
            if now >= request.began + PATIENCE {
                given_up.push(request.subject);
            } else if self.server.transport == TurnTransport::Udp
                && AGAIN
                    .get(request.repeats)
                    .is_some_and(|after| now >= request.began + *after)
            {
                request.repeats += 1;
                self.outbox.push_back(request.bytes.clone());
            }
        }
        self.requests.retain(|request| now < request.began + PATIENCE);
        for subject in given_up {
            match subject {
                Subject::Allocate | Subject::Refresh => self.fail(TurnError::Silent),
                Subject::End => self.news.push_back(News::Ended),
                Subject::Permit(ip) => self.peers.forget(ip),
                Subject::Bind(peer, _) => self.peers.unbind(peer),
            }
        }
    }

    fn due(&self, request: &Request) -> Instant {
        let again = match self.server.transport {
            TurnTransport::Udp => AGAIN.get(request.repeats),
            TurnTransport::Tcp => None,
        };
        request.began + again.copied().unwrap_or(PATIENCE)
    }

    /// Sends a packet to a peer.
    pub(super) fn send(&mut self, now: Instant, to: SocketAddr, data: &[u8]) {
        let to = SocketAddr::new(to.ip().to_canonical(), to.port());
        if self.relayed.is_none_or(|relayed| relayed.is_ipv4() != to.is_ipv4()) {
            self.stats.dropped += 1;
            return;
        }
        if data.len() > MAX_DATA {
            self.stats.too_long += 1;
            return;
        }
        let may_ask = self.requests.len() < MAX_REQUESTS;
        if self.peers.wants_permission(now, to.ip()) && may_ask {
            self.ask(now, Subject::Permit(to.ip()), 0);
        }
        if let Some(number) = self
            .peers
            .wants_channel(now, to)
            .filter(|_| self.requests.len() < MAX_REQUESTS)
        {
            self.ask(now, Subject::Bind(to, number), 0);
        }
        let is_tcp = self.server.transport == TurnTransport::Tcp;
        let packet = match self.peers.channel(now, to) {
            Some(number) => channel_data(number, data, is_tcp),
            None => Writer::new(Method::Send, Class::Indication, transaction())
                .put_address(Attribute::PeerAddress, to)
                .put(Attribute::Data, data)
                .finish(),
        };
        self.stats.sent += 1;
        self.outbox.push_back(packet);
        let may_doubt = self.doubt.latest.map_or(now, |doubted| doubted + DOUBT_PAUSE);
        self.doubt.at.get_or_insert((now + DOUBT).max(may_doubt));
    }

    /// Takes in what has come from the server: one message, or data of one channel. Returns what a peer has sent, and
    /// which.
    pub(super) fn receive<'a>(&mut self, now: Instant, bytes: &'a [u8]) -> Option<(SocketAddr, &'a [u8])> {
        let from_peer = match bytes.first() {
            Some(0x40..=0x4f) => self.on_channel_data(bytes),
            _ => match Message::parse(bytes) {
                Some(message) if message.class == Class::Indication => on_indication(&message),
                Some(message) => {
                    match self.on_answer(now, &message) {
                        true => self.doubt.at = None,
                        false => self.stats.unknown += 1,
                    }
                    return None;
                }
                None => None,
            },
        };
        let Some((peer, data)) = from_peer else {
            self.stats.unknown += 1;
            return None;
        };
        // It is there, and knows the allocation.
        self.doubt.at = None;
        if data.len() > MAX_DATA {
            self.stats.too_long += 1;
            return None;
        }
        self.stats.received += 1;
        Some((peer, data))
    }

    fn on_channel_data<'a>(&self, bytes: &'a [u8]) -> Option<(SocketAddr, &'a [u8])> {
        let (number, data) = read_channel_data(bytes)?;
        Some((self.peers.at(number)?, data))
    }

    /// Nobody takes packets at the server's port, as a router or its system says: it may have been restarted.
    pub(super) fn on_unreachable(&mut self, now: Instant) {
        let may_doubt = self.doubt.latest.map_or(now, |doubted| doubted + DOUBT);
        if self.relayed.is_some() && !self.is_asking(Subject::Refresh) {
            let at = now.max(may_doubt);
            self.doubt.at = Some(self.doubt.at.map_or(at, |doubt| doubt.min(at)));
        }
    }

    /// This machine's network has changed: perhaps the server knows it no more where it is now.
    pub(super) fn on_network_change(&mut self, now: Instant) {
        if self.relayed.is_some() && !self.is_asking(Subject::Refresh) {
            self.doubt.at = Some(now);
        }
    }

    /// Gives it back.
    pub(super) fn end(&mut self, now: Instant) {
        self.requests.clear();
        (self.refresh_at, self.expires_at, self.doubt.at) = (None, None, None);
        match self.relayed.take() {
            Some(_) => self.ask(now, Subject::End, 0),
            None => self.news.push_back(News::Ended),
        }
    }

    fn fail(&mut self, why: TurnError) {
        self.requests.clear();
        self.relayed = None;
        (self.refresh_at, self.expires_at, self.doubt.at) = (None, None, None);
        self.news.push_back(News::Gone(why));
    }

    fn is_asking(&self, subject: Subject) -> bool {
        self.requests.iter().any(|request| request.subject == subject)
    }

    fn ask(&mut self, now: Instant, subject: Subject, challenges: u8) {
        let transaction = transaction();
        let lifetime = |seconds: u32| (Attribute::Lifetime, seconds.to_be_bytes().to_vec());
        let (method, attributes, address) = match subject {
            Subject::Allocate => {
                // UDP, by its number in IP.
                let udp = (Attribute::RequestedTransport, vec![17, 0, 0, 0]);
                (Method::Allocate, vec![udp, lifetime(LIFETIME)], None)
            }
            Subject::Refresh => (Method::Refresh, vec![lifetime(LIFETIME)], None),
            Subject::End => (Method::Refresh, vec![lifetime(0)], None),
            Subject::Permit(ip) => (Method::CreatePermission, Vec::new(), Some(SocketAddr::new(ip, 0))),
            Subject::Bind(peer, number) => {
                let [high, low] = number.to_be_bytes();
                let number = (Attribute::ChannelNumber, vec![high, low, 0, 0]);
                (Method::ChannelBind, vec![number], Some(peer))
            }
        };
        let mut writer = Writer::new(method, Class::Request, transaction);
        for (attribute, value) in attributes {
            writer = writer.put(attribute, &value);
        }
        if let Some(address) = address {
            writer = writer.put_address(Attribute::PeerAddress, address);
        }
        let bytes = match &self.access {
            None => writer.finish(),
            Some(access) => writer
                .put(Attribute::Username, self.server.user.as_bytes())
                .put(Attribute::Realm, access.realm.as_bytes())
                .put(Attribute::Nonce, &access.nonce)
                .seal(&access.key),
        };
        self.outbox.push_back(bytes.clone());
        self.requests.push(Request {
            transaction,
            subject,
            bytes,
            began: now,
            repeats: 0,
            challenges,
        });
    }

    /// Takes an answer in. False if it is one to nothing, or forged.
    fn on_answer(&mut self, now: Instant, message: &Message<'_>) -> bool {
        let mut requests = self.requests.iter();
        let Some(at) = requests.position(|request| request.transaction == *message.transaction) else {
            return false;
        };
        let access = self.access.as_ref();
        let is_genuine = access.is_some_and(|access| message.is_genuine(&access.key));
        match (message.class, message.error()) {
            (Class::Success, _) if is_genuine => {
                let request = self.requests.swap_remove(at);
                self.on_success(now, request.subject, message);
            }
            // Whoever does not know the key says that it is not known, or too old.
            (Class::Error, Some((401 | 438, _))) => {
                let request = self.requests.swap_remove(at);
                self.on_challenge(now, &request, message);
            }
            (Class::Error, Some((code, words))) => {
                let request = self.requests.swap_remove(at);
                self.on_error(request.subject, code, &words);
            }
            _ => return false,
        }
        true
    }

    fn on_success(&mut self, now: Instant, subject: Subject, message: &Message<'_>) {
        let lifetime = message.number(Attribute::Lifetime).unwrap_or(LIFETIME);
        let lifetime = Duration::from_secs(lifetime.min(LIFETIME).into()).max(SHORTEST);
        match subject {
            Subject::Allocate => {
                let Some(relayed) = message.address(Attribute::RelayedAddress) else {
                    return self.fail(TurnError::Malformed);
                };
                if !is_of_use(relayed, self.at) {
                    return self.fail(TurnError::Useless(relayed));
                }
                self.relayed = Some(relayed);
                self.news.push_back(News::Open(relayed));
            }
            Subject::Permit(ip) => self.peers.on_permitted(now, ip),
            Subject::Bind(peer, _) => self.peers.on_bound(now, peer),
            Subject::End => self.news.push_back(News::Ended),
            Subject::Refresh => {}
        }
        if matches!(subject, Subject::Allocate | Subject::Refresh) {
            self.refresh_at = Some(now + lifetime / 2);
            self.expires_at = Some(now + lifetime);
        }
    }

    /// The server wants to know who asks, or that it is not repeated.
    fn on_challenge(&mut self, now: Instant, request: &Request, message: &Message<'_>) {
        let realm = message
            .get(Attribute::Realm)
            .and_then(|realm| str::from_utf8(realm).ok());
        let realm = realm
            .map(str::to_owned)
            .or_else(|| self.access.as_ref().map(|access| access.realm.clone()));
        let nonce = message.get(Attribute::Nonce).map(<[u8]>::to_vec);
        let (Some(realm), Some(nonce)) = (realm, nonce) else {
            return self.on_error(request.subject, 401, "");
        };
        let is_stale = matches!(message.error(), Some((438, _)));
        let is_known = self.access.as_ref().is_some_and(|access| access.realm == realm);
        let is_denied = is_known && !is_stale;
        if is_denied && request.subject != Subject::Refresh || request.challenges >= MAX_CHALLENGES {
            return self.on_error(request.subject, 401, "");
        }
        if !is_known {
            let key = message::key(&self.server.user, &realm, &self.server.password);
            self.access = Some(Access { realm, nonce, key });
        } else if let Some(access) = &mut self.access {
            access.nonce = nonce;
        }
        self.ask(now, request.subject, request.challenges + 1);
    }

    fn on_error(&mut self, subject: Subject, code: u16, words: &str) {
        match (subject, code) {
            (Subject::End, _) => self.news.push_back(News::Ended),
            (Subject::Permit(ip), _) => {
                self.stats.refused += 1;
                self.peers.forget(ip);
            }
            (Subject::Bind(peer, _), _) => {
                self.stats.refused += 1;
                self.peers.unbind(peer);
            }
            (Subject::Allocate, 401) => self.fail(TurnError::Unauthorized),
            (Subject::Refresh, 401 | 437) => self.fail(TurnError::Forgotten),
            (Subject::Allocate | Subject::Refresh, _) => {
                let words: String = words.chars().take(MAX_SAID).collect();
                let words = sss_wire::printable(&words).into_owned();
                self.fail(TurnError::Refused(code, words));
            }
        }
    }
}

/// Data that a peer has sent.
fn on_indication<'a>(message: &Message<'a>) -> Option<(SocketAddr, &'a [u8])> {
    let is_data = message.method == Method::Data;
    let (peer, data) = (message.address(Attribute::PeerAddress)?, message.get(Attribute::Data)?);
    is_data.then_some((peer, data))
}

/// Returns whether a relayed address can be one: it means a host at least where the server's own address does.
fn is_of_use(relayed: SocketAddr, server: SocketAddr) -> bool {
    let scope = |address: SocketAddr| sss_proto::AddressScope::from(address.ip());
    sss_proto::is_usable(&relayed.into()) && scope(relayed) >= scope(server)
}

fn transaction() -> Transaction {
    let mut transaction = Transaction::default();
    if let Err(error) = getrandom::fill(&mut transaction) {
        tracing::error!(%error, "the system gives no entropy");
    }
    transaction
}

#[cfg(test)]
mod tests;
