//! The cookie: the responder's state, sealed and kept by the initiator (NEG-9), and the set of
//! negotiations that were completed (NEG-11).

use std::net::IpAddr;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use sss_crypto::cookie::CookieKey;
use sss_crypto::{Suite, mac16, schedule};
use sss_wire::{ChannelId, Kem, Reader, constants};
use zeroize::Zeroizing;

use super::terms::{suite_from_wire, suite_to_wire};
use crate::route::{Link, RelayHandle, Route, SocketId, TunnelId, TurnId};
use crate::time::Instant;

/// Length of the Noise state inside a cookie.
const STATE: usize = 128;
/// Key id and nonce, in front of the sealed part.
const NONCE: usize = 12;

/// State that the responder needs to go on after COOKIE.
pub(crate) struct Contents {
    pub(crate) noise: Zeroizing<[u8; STATE]>,
    pub(crate) suite: Suite,
    /// The leg that INITIATE must have.
    pub(crate) kem: Kem,
    /// The time when HELLO was answered.
    pub(crate) issued: Instant,
    pub(crate) channel_id: ChannelId,
}

/// Which negotiation a cookie is for: what it is bound to.
#[derive(Clone, Copy)]
pub(crate) struct Binding<'a> {
    pub(crate) place: Place,
    pub(crate) version: u32,
    pub(crate) attempt: &'a [u8; 8],
}

/// Place of an initiator, as far as a cookie says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It reads what is sent by this route.
    Route(Route),
    /// It was introduced, by this name (RCH-16).
    Introduction([u8; 8]),
}

impl From<Route> for Place {
    fn from(route: Route) -> Self {
        Self::Route(route)
    }
}

/// The packet that a cookie comes with: one is never taken for the other.
#[derive(Clone, Copy)]
enum Of {
    Cookie = 0x84,
    CookieK = 0x85,
}

impl Binding<'_> {
    /// The bytes that a cookie has beside it. That of COOKIE has the place inside: it is asked, when no address is to
    /// be proven any more, what became of it (NEG-25).
    fn aad(&self, of: Of) -> BoundBytes {
        let bytes = BoundBytes::EMPTY.with(&[of as u8]);
        match of {
            Of::Cookie => bytes.with_attempt(self),
            Of::CookieK => bytes.with_binding(self),
        }
    }

    /// The bytes of the place.
    pub(super) fn place(&self) -> BoundBytes {
        BoundBytes::EMPTY.with_place(&self.place)
    }

    /// The bytes of all that is bound.
    pub(super) fn bytes(&self) -> BoundBytes {
        BoundBytes::EMPTY.with_binding(self)
    }
}

/// Most bytes of what is bound: what the cookie is of, the route, version and attempt.
const MAX_BOUND: usize = 1 + ADDRESS + BESIDE + 4 + 8;
/// An address as 16 bytes (IPv4 mapped into IPv6) and the port.
const ADDRESS: usize = 18;
/// Bytes that another route has beside an address: its kind, the socket or tunnel, the handle.
const BESIDE: usize = 9;
/// The first byte of what an introduction is bound to.
const INTRODUCTION: u8 = 0x49;
/// Flag in the kind of a route that goes through a relay.
const HAS_HANDLE: u8 = 0x80;

/// Bytes that tell what something is bound to. Of the direct route from the host's own socket they have the address
/// alone; of all others, `BESIDE` bytes more: so none is taken for another.
#[derive(Clone, Copy)]
pub(super) struct BoundBytes {
    bytes: [u8; MAX_BOUND],
    len: usize,
}

impl std::ops::Deref for BoundBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl BoundBytes {
    const EMPTY: Self = Self {
        bytes: [0; MAX_BOUND],
        len: 0,
    };

    fn with(mut self, more: &[u8]) -> Self {
        let end = self.len + more.len();
        if let Some(to) = self.bytes.get_mut(self.len..end) {
            to.copy_from_slice(more);
            self.len = end;
        }
        self
    }

    fn with_binding(self, binding: &Binding<'_>) -> Self {
        self.with_place(&binding.place).with_attempt(binding)
    }

    fn with_attempt(self, binding: &Binding<'_>) -> Self {
        self.with(&binding.version.to_be_bytes()).with(binding.attempt)
    }

    fn with_place(self, place: &Place) -> Self {
        match place {
            Place::Route(route) => self.with_route(route),
            // As an address of IPv6 that nobody has.
            Place::Introduction(name) => self.with(&[INTRODUCTION]).with(&[0; ADDRESS - 9]).with(name),
        }
    }

    fn with_route(self, route: &Route) -> Self {
        let with_address = match route.address() {
            Some(address) => {
                let ip = match address.ip() {
                    IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                    IpAddr::V6(v6) => v6,
                };
                self.with(&ip.octets()).with(&address.port().to_be_bytes())
            }
            None => self.with(&[0; ADDRESS]),
        };
        let (kind, id) = match route.link {
            Link::Udp(_) if route.handle.is_none() => return with_address,
            Link::Udp(_) => (0, 0),
            Link::Socket(SocketId(socket), _) => (1, socket),
            Link::Tunnel(TunnelId(tunnel)) => (2, tunnel),
            Link::Turn(TurnId(allocation), _) => (3, allocation),
        };
        let flag = route.handle.map_or(0, |_| HAS_HANDLE);
        let RelayHandle(handle) = route.handle.unwrap_or(RelayHandle(0));
        with_address
            .with(&[kind | flag])
            .with(&id.to_be_bytes())
            .with(&handle.to_be_bytes())
    }
}

/// Fate of a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spent {
    /// An INITIATE with it was accepted (NEG-11).
    Accepted,
    /// None was, and none ever is (NEG-23, NEG-25).
    Void,
    /// So many with it were looked into, and made no channel (NEG-38).
    Vain(u8),
}

/// INITIATEs with one cookie that may be in vain (NEG-38): enough that a few forgeries do not spoil the true one.
pub(super) const MAX_VAIN: u8 = 6;

/// A cookie key and the channel ids spent under it.
struct Period {
    id: u8,
    key: CookieKey,
    spent: HashMap<ChannelId, Spent, RandomState>,
}

impl Period {
    fn new(id: u8, key: [u8; 32]) -> Self {
        Self {
            id,
            key: CookieKey::new(key),
            spent: HashMap::default(),
        }
    }
}

/// The current and the previous cookie key.
pub(crate) struct Cookies {
    current: Period,
    previous: Option<Period>,
    rotated: Instant,
}

impl Cookies {
    pub(crate) fn new(key: [u8; 32]) -> Self {
        Self {
            current: Period::new(0, key),
            previous: None,
            rotated: Instant::default(),
        }
    }

    /// Replaces the key if it is due. `fresh` makes key bytes.
    pub(crate) fn rotate(&mut self, now: Instant, fresh: &mut dyn FnMut() -> [u8; 32]) {
        let age = now.since(self.rotated);
        if age < constants::COOKIE_KEY_LIFE {
            return;
        }
        let next = Period::new(self.current.id.wrapping_add(1), fresh());
        let old = std::mem::replace(&mut self.current, next);
        self.previous = (age < 2 * constants::COOKIE_KEY_LIFE).then_some(old);
        self.rotated = now;
    }

    pub(crate) fn seal(&self, contents: &Contents, binding: Binding<'_>, nonce: [u8; NONCE]) -> Vec<u8> {
        let place = binding.place();
        let mut plain = Zeroizing::new(Vec::with_capacity(STATE + 11 + place.len() + constants::MAX_CHANNEL_ID));
        plain.extend_from_slice(&*contents.noise);
        plain.push(place.len() as u8);
        plain.extend_from_slice(&place);
        plain.push(suite_to_wire(contents.suite) as u8);
        plain.push(contents.kem as u8);
        plain.extend_from_slice(&contents.issued.as_nanos().to_be_bytes());
        plain.extend_from_slice(contents.channel_id.as_slice());
        self.seal_as(Of::Cookie, &plain, binding, nonce)
    }

    /// The cookie of the leg: its secret (NEG-34).
    pub(super) fn seal_leg(&self, secret: &[u8; 32], binding: Binding<'_>, nonce: [u8; NONCE]) -> Vec<u8> {
        self.seal_as(Of::CookieK, secret, binding, nonce)
    }

    fn seal_as(&self, of: Of, plain: &[u8], binding: Binding<'_>, nonce: [u8; NONCE]) -> Vec<u8> {
        let mut cookie = Vec::with_capacity(plain.len() + 1 + NONCE + 16);
        cookie.push(self.current.id);
        cookie.extend_from_slice(&nonce);
        cookie.extend_from_slice(&self.current.key.seal(nonce, &binding.aad(of), plain));
        cookie
    }

    fn open_as(&self, of: Of, cookie: &[u8], binding: Binding<'_>) -> Option<(u8, Zeroizing<Vec<u8>>)> {
        let mut reader = Reader::new(cookie);
        let id = reader.u8().ok()?;
        let nonce = reader.array::<NONCE>().ok()?;
        let period = self.period(id)?;
        let plain = period.key.open(nonce, &binding.aad(of), reader.rest()).ok()?;
        Some((id, Zeroizing::new(plain)))
    }

    /// Opens the cookie of a leg: its secret. `None` as for [`Self::open`].
    pub(super) fn open_leg(&self, cookie: &[u8], binding: Binding<'_>) -> Option<Zeroizing<[u8; 32]>> {
        let (_, plain) = self.open_as(Of::CookieK, cookie, binding)?;
        <[u8; 32]>::try_from(&plain[..]).ok().map(Zeroizing::new)
    }

    /// Opens a cookie. `None` if its key is gone, or it was made for another negotiation or address.
    pub(crate) fn open(&self, cookie: &[u8], binding: Binding<'_>) -> Option<(u8, Contents)> {
        self.open_if(cookie, binding, |place| *place == *binding.place())
    }

    /// Opens a cookie of the attempt, wherever it was made for.
    pub(super) fn open_anywhere(&self, cookie: &[u8], binding: Binding<'_>) -> Option<(u8, Contents)> {
        self.open_if(cookie, binding, |_| true)
    }

    fn open_if(&self, cookie: &[u8], binding: Binding<'_>, is_there: impl Fn(&[u8]) -> bool) -> Option<(u8, Contents)> {
        let (id, plain) = self.open_as(Of::Cookie, cookie, binding)?;
        let mut reader = Reader::new(&plain);
        let noise = Zeroizing::new(reader.array::<STATE>().ok()?);
        if !is_there(reader.bytes8().ok()?) {
            return None;
        }
        let suite = sss_wire::Suite::try_from(reader.u8().ok()?).ok()?;
        let kem = Kem::try_from(reader.u8().ok()?).ok()?;
        let issued = Instant::from_nanos(reader.u64().ok()?);
        let channel_id = ChannelId::new(reader.rest()).ok()?;
        let contents = Contents {
            noise,
            suite: suite_from_wire(suite),
            kem,
            issued,
            channel_id,
        };
        Some((id, contents))
    }

    /// Returns what became of a cookie before. One whose key is gone is void.
    pub(crate) fn spent(&self, period: u8, channel: ChannelId) -> Option<Spent> {
        match self.period(period) {
            Some(period) => period.spent.get(&channel).copied(),
            None => Some(Spent::Void),
        }
    }

    /// Remembers what became of a cookie; what was accepted stays so.
    pub(crate) fn spend(&mut self, period: u8, channel: ChannelId, how: Spent) {
        let known = self.period_mut(period).spent.entry(channel).or_insert(how);
        if let Spent::Vain(_) = known {
            *known = how;
        }
    }

    /// An INITIATE with this cookie was looked into, and made no channel.
    pub(super) fn note_vain(&mut self, period: u8, channel: ChannelId) {
        let known = self.period_mut(period).spent.entry(channel);
        if let Spent::Vain(times) = known.or_insert(Spent::Vain(0)) {
            *times = times.saturating_add(1);
        }
    }

    fn period_mut(&mut self, id: u8) -> &mut Period {
        let previous = self.previous.as_mut().filter(|period| period.id == id);
        previous.unwrap_or(&mut self.current)
    }

    fn period(&self, id: u8) -> Option<&Period> {
        [Some(&self.current), self.previous.as_ref()]
            .into_iter()
            .flatten()
            .find(|p| p.id == id)
    }
}

#[cfg(test)]
impl Cookies {
    /// Forgets which cookies were spent.
    pub(super) fn forget_spent(&mut self) {
        self.current.spent.clear();
    }
}

/// Authenticates a COOKIE towards the initiator (NEG-6).
pub(super) fn cookie_mac(chaining_key: &[u8; 32], packet: &[u8]) -> [u8; 16] {
    let mut key = Zeroizing::new([0; 32]);
    schedule::label(chaining_key, "cookie mac", b"", &mut *key);
    mac16(&*key, &[packet])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;
    use std::time::Duration;

    fn contents() -> Contents {
        Contents {
            noise: Zeroizing::new([9; STATE]),
            suite: Suite::ChaCha20Poly1305,
            kem: Kem::MlKem768,
            issued: Instant::from_nanos(77),
            channel_id: ChannelId::new(&[1, 2, 3, 4]).unwrap(),
        }
    }

    fn binding(port: u16, attempt: &[u8; 8]) -> Binding<'_> {
        Binding {
            place: Route::udp(SocketAddr::from(([10, 0, 0, 1], port))).into(),
            version: 1,
            attempt,
        }
    }

    // spec: NEG-9
    #[test]
    fn threat_06_a_cookie_opens_only_for_its_address_version_and_attempt() {
        let cookies = Cookies::new([5; 32]);
        let cookie = cookies.seal(&contents(), binding(1, &[1; 8]), [3; 12]);
        let (period, opened) = cookies.open(&cookie, binding(1, &[1; 8])).unwrap();
        assert_eq!(period, 0);
        assert_eq!(*opened.noise, [9; STATE]);
        assert_eq!(opened.channel_id, contents().channel_id);
        assert_eq!(opened.issued, contents().issued);
        assert!(cookies.open(&cookie, binding(2, &[1; 8])).is_none());
        assert!(cookies.open(&cookie, binding(1, &[2; 8])).is_none());
        let other_version = Binding {
            version: 2,
            ..binding(1, &[1; 8])
        };
        assert!(cookies.open(&cookie, other_version).is_none());
        assert!(cookies.open_anywhere(&cookie, binding(2, &[1; 8])).is_some());
        assert!(cookies.open_anywhere(&cookie, binding(1, &[2; 8])).is_none());
        assert!(cookies.open_anywhere(&cookie, other_version).is_none());
        for i in 0..cookie.len() {
            let mut bad = cookie.clone();
            bad[i] ^= 1;
            assert!(cookies.open(&bad, binding(1, &[1; 8])).is_none(), "flip in byte {i}");
            assert!(cookies.open(&cookie[..i], binding(1, &[1; 8])).is_none(), "cut at {i}");
        }
    }

    // spec: NEG-9, NEG-34
    #[test]
    fn threat_06_the_cookie_of_a_leg_opens_only_for_its_address_version_and_attempt() {
        let cookies = Cookies::new([5; 32]);
        let cookie = cookies.seal_leg(&[8; 32], binding(1, &[1; 8]), [3; 12]);
        assert_eq!(*cookies.open_leg(&cookie, binding(1, &[1; 8])).unwrap(), [8; 32]);
        assert!(cookies.open_leg(&cookie, binding(2, &[1; 8])).is_none());
        assert!(cookies.open_leg(&cookie, binding(1, &[2; 8])).is_none());
        let other_version = Binding {
            version: 2,
            ..binding(1, &[1; 8])
        };
        assert!(cookies.open_leg(&cookie, other_version).is_none());
        for i in 0..cookie.len() {
            let mut bad = cookie.clone();
            bad[i] ^= 1;
            assert!(
                cookies.open_leg(&bad, binding(1, &[1; 8])).is_none(),
                "flip in byte {i}"
            );
            assert!(
                cookies.open_leg(&cookie[..i], binding(1, &[1; 8])).is_none(),
                "cut at {i}"
            );
        }
        // Neither is taken for the other, whatever is in it.
        assert!(cookies.open(&cookie, binding(1, &[1; 8])).is_none());
        let long = cookies.seal_as(Of::CookieK, &[0x11; 200], binding(1, &[1; 8]), [3; 12]);
        assert!(cookies.open(&long, binding(1, &[1; 8])).is_none());
        let short = cookies.seal_as(Of::Cookie, &[8; 32], binding(1, &[1; 8]), [3; 12]);
        assert!(cookies.open_leg(&short, binding(1, &[1; 8])).is_none());
    }

    // spec: NEG-9, MIG-23
    #[test]
    fn what_is_bound_to_a_route_is_bound_to_no_other() {
        let address = SocketAddr::from(([10, 0, 0, 1], 1));
        let links = [
            Link::Udp(address),
            Link::Udp(SocketAddr::from(([0; 16], 0))),
            Link::Socket(SocketId(0), address),
            Link::Socket(SocketId(1), address),
            Link::Tunnel(TunnelId(0)),
            Link::Turn(TurnId(0), address),
            Link::Turn(TurnId(1), address),
            Link::Tunnel(TunnelId(1)),
        ];
        let handles = [None, Some(RelayHandle(0)), Some(RelayHandle(1))];
        let routes: Vec<Route> = links
            .iter()
            .flat_map(|link| handles.map(|handle| Route { link: *link, handle }))
            .collect();
        let bound = |route: &Route| Binding {
            place: (*route).into(),
            version: 1,
            attempt: &[1; 8],
        };
        let cookies = Cookies::new([5; 32]);
        for ours in &routes {
            let cookie = cookies.seal(&contents(), bound(ours), [3; 12]);
            for theirs in &routes {
                let opened = cookies.open(&cookie, bound(theirs));
                assert_eq!(opened.is_some(), ours == theirs, "{ours} and {theirs}");
                let tokens = [ours, theirs].map(|route| bound(route).place().to_vec());
                assert_eq!(tokens[0] == tokens[1], ours == theirs, "{ours} and {theirs}");
            }
        }
        let plain = bound(&Route::udp(address)).bytes();
        let expected = [&[0; 10][..], &[0xff, 0xff, 10, 0, 0, 1, 0, 1, 0, 0, 0, 1], &[1; 8]];
        assert_eq!(*plain, expected.concat(), "address, port, version, attempt");
    }

    // spec: NEG-9, NEG-11
    #[test]
    fn threat_04_keys_live_two_periods_and_keep_what_was_spent() {
        let mut cookies = Cookies::new([5; 32]);
        let mut n = 0;
        let mut fresh = || {
            n += 1;
            [n; 32]
        };
        let cookie = cookies.seal(&contents(), binding(1, &[1; 8]), [3; 12]);
        let channel = contents().channel_id;
        assert_eq!(cookies.spent(0, channel), None);
        cookies.rotate(Instant::default() + Duration::from_secs(60), &mut fresh);
        assert!(cookies.open(&cookie, binding(1, &[1; 8])).is_some());
        cookies.spend(0, channel, Spent::Accepted);
        cookies.spend(0, channel, Spent::Void);
        assert_eq!(cookies.spent(0, channel), Some(Spent::Accepted));
        assert_eq!(cookies.spent(1, channel), None);
        cookies.rotate(Instant::default() + Duration::from_secs(120), &mut fresh);
        assert!(cookies.open(&cookie, binding(1, &[1; 8])).is_none());
        assert!(
            cookies.spent(0, channel).is_some(),
            "a key that is gone accepts nothing"
        );
    }

    #[test]
    fn secrets_are_wiped() {
        let cookies = Cookies::new([5; 32]);
        let cookie = cookies.seal(&contents(), binding(1, &[1; 8]), [3; 12]);
        let (_, opened) = cookies.open(&cookie, binding(1, &[1; 8])).unwrap();
        crate::testing::is_wiped(&opened.noise);
        let (_, plain) = cookies.open_as(Of::Cookie, &cookie, binding(1, &[1; 8])).unwrap();
        crate::testing::is_wiped(&plain);
    }
}
