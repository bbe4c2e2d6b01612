//! IPv4 where the network has IPv6 alone, and a translator to IPv4 (NAT64, RFC 6146).
//!
//! Names lead there by themselves: the network's resolver gives them IPv6 addresses of the translator. An address that
//! somebody says, a ticket or a server, has to be written as one of those. The prefix in which the translator has all
//! of IPv4 is found as RFC 7050 says: by looking up a name that has known IPv4 addresses, and no others.
//!
//! Only the socket knows of it: to everything above it, the peer is at its IPv4 address.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use sss_proto::AddressScope;

/// The name that has IPv6 addresses only where a translator makes them (RFC 7050). The dot at its end keeps the
/// resolver from trying it in domains of its own.
const NAME: (&str, u16) = ("ipv4only.arpa.", 0);
/// Its IPv4 addresses.
const KNOWN: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 0, 170), Ipv4Addr::new(192, 0, 0, 171)];
/// Lengths that a prefix can have, and the places of the bytes of IPv4 behind it (RFC 6052, section 2.2).
const LAYOUTS: [(usize, [usize; 4]); 6] = [
    (12, [12, 13, 14, 15]),
    (8, [9, 10, 11, 12]),
    (7, [7, 9, 10, 11]),
    (6, [6, 7, 9, 10]),
    (5, [5, 6, 7, 9]),
    (4, [4, 5, 6, 7]),
];
/// Time that the resolver has: that of the system asks twice, with 5 s for each.
const PATIENCE: Duration = Duration::from_secs(12);
/// Time after which it is asked again, if it has not answered, or knew of no translator: it may be that of the network
/// before.
const AGAIN: Duration = Duration::from_secs(2);
/// Time for which something is sent by a translator and nothing comes, until it is asked for again, and the least time
/// between two such questions.
const SILENCE: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(10));

/// The IPv6 addresses in which a translator has all of IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prefix {
    address: [u8; 16],
    /// One of [`LAYOUTS`].
    layout: usize,
}

impl Prefix {
    /// Finds it in the IPv6 addresses of a name of which all IPv4 addresses are known (RFC 7050, section 3). Whoever
    /// answers for the resolver does not have this host send where others may not (MIG-22).
    fn of_answers(answers: impl IntoIterator<Item = Ipv6Addr>) -> Option<Self> {
        let of_one_host = answers.into_iter().filter(|answer| {
            let is_wide = AddressScope::from(IpAddr::from(*answer)) >= AddressScope::Private;
            is_wide && !answer.is_multicast() && answer.segments()[0] != 0
        });
        of_one_host.into_iter().find_map(|answer| {
            let mut found = LAYOUTS.iter().enumerate().map(|(layout, (len, _))| {
                let mut address = answer.octets();
                // The rest is the known address.
                address.iter_mut().skip(*len).for_each(|byte| *byte = 0);
                Self { address, layout }
            });
            found.find(|prefix| prefix.embedded(answer).is_some_and(|v4| KNOWN.contains(&v4)))
        })
    }

    /// Asks the resolver. `None`: there is no translator.
    pub(crate) async fn find() -> io::Result<Option<Self>> {
        let looking = tokio::time::timeout(PATIENCE, tokio::net::lookup_host(NAME)).await;
        let found = looking.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        Ok(Self::of_answers(found.filter_map(|address| match address.ip() {
            IpAddr::V6(v6) if v6.to_ipv4_mapped().is_none() => Some(v6),
            _ => None,
        })))
    }

    /// The translator's address for one of IPv4; `None` for one that has no meaning beyond a network of its own (RFC
    /// 6052, section 3.1).
    pub(crate) fn embed(&self, v4: Ipv4Addr) -> Option<Ipv6Addr> {
        if !is_translatable(v4.into()) {
            return None;
        }
        let (len, places) = LAYOUTS.get(self.layout)?;
        let mut bytes = [0; 16];
        bytes.get_mut(..*len)?.copy_from_slice(self.address.get(..*len)?);
        for (place, byte) in places.iter().zip(v4.octets()) {
            *bytes.get_mut(*place)? = byte;
        }
        Some(bytes.into())
    }

    /// The IPv4 address that one of the translator's stands for. `None` if it is none of the translator's.
    fn embedded(&self, v6: Ipv6Addr) -> Option<Ipv4Addr> {
        let (len, places) = LAYOUTS.get(self.layout)?;
        let bytes = v6.octets();
        if bytes.get(..*len) != self.address.get(..*len) {
            return None;
        }
        let mut v4 = [0; 4];
        for (byte, place) in v4.iter_mut().zip(places) {
            *byte = *bytes.get(*place)?;
        }
        let mut rest = (*len..16).filter(|at| !places.contains(at));
        rest.all(|at| bytes.get(at) == Some(&0)).then(|| v4.into())
    }
}

/// Returns whether an address means the same everywhere (RFC 6052, section 3.1).
fn is_translatable(address: IpAddr) -> bool {
    AddressScope::from(address) == AddressScope::Global
}

/// Knowledge of a translator in the network where a socket is.
#[derive(Clone, Default)]
pub(crate) struct Translation(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// Set if there is a prefix: else nothing has to be looked at.
    is_known: AtomicBool,
    state: Mutex<State>,
    /// Called when there is another prefix.
    on_found: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

#[derive(Default)]
struct State {
    prefix: Option<Prefix>,
    /// The resolver is being asked.
    is_asked: bool,
    /// The time of its latest answer, or of none.
    answered: Option<Instant>,
    /// The time of the first packet by the translator since something has come by it.
    unheard: Option<Instant>,
    /// Number of the network, of those that there were.
    network: u64,
}

impl State {
    /// Returns whether the resolver is to be asked, as it was not within this time.
    fn is_due(&self, pause: Duration) -> bool {
        !self.is_asked && self.answered.is_none_or(|at| at.elapsed() >= pause)
    }
}

impl Translation {
    /// Has something done whenever there is another translator than before: what was sent is to be sent again.
    pub(crate) fn on_found(&self, then: impl Fn() + Send + Sync + 'static) {
        let _ = self.0.on_found.set(Box::new(then));
    }

    /// A packet for an address has found no way there: begins to ask the resolver for a translator, if one could help,
    /// and it was not asked of late.
    pub(crate) fn ask(&self, address: IpAddr) {
        if address.is_ipv4() && is_translatable(address) {
            self.ask_after(&mut self.state(), AGAIN);
        }
    }

    fn ask_after(&self, state: &mut State, pause: Duration) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        if !state.is_due(pause) {
            return;
        }
        state.is_asked = true;
        let (asking, network) = (self.clone(), state.network);
        runtime.spawn(async move {
            let found = Prefix::find().await;
            tracing::debug!(?found, "there is no IPv4: looked for a translator");
            asking.settle(network, found.ok().flatten());
        });
    }

    fn settle(&self, network: u64, found: Option<Prefix>) {
        let mut state = self.state();
        // What comes too late is of the network before.
        if state.network != network {
            return;
        }
        state.is_asked = false;
        state.answered = Some(Instant::now());
        let is_new = found.is_some() && found != state.prefix;
        if is_new {
            state.prefix = found;
            state.unheard = None;
            self.0.is_known.store(true, Ordering::Release);
        }
        drop(state);
        if let Some(then) = self.0.on_found.get().filter(|_| is_new) {
            then();
        }
    }

    /// Another network may have another translator, or none.
    pub(crate) fn forget(&self) {
        let mut state = self.state();
        *state = State {
            network: state.network + 1,
            ..State::default()
        };
        self.0.is_known.store(false, Ordering::Release);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether there is a translator. Else no address has to be looked at.
    pub(crate) fn is_known(&self) -> bool {
        self.0.is_known.load(Ordering::Acquire)
    }

    /// The state, if a translator is known.
    fn known(&self) -> Option<MutexGuard<'_, State>> {
        self.is_known().then(|| self.state())
    }

    /// The address to which a packet for another one goes: the translator's, if there is one.
    pub(crate) fn outward(&self, address: SocketAddr) -> SocketAddr {
        let IpAddr::V4(v4) = address.ip() else {
            return address;
        };
        let Some(mut state) = self.known() else {
            return address;
        };
        let Some(v6) = state.prefix.and_then(|prefix| prefix.embed(v4)) else {
            return address;
        };
        let unheard = *state.unheard.get_or_insert_with(Instant::now);
        if unheard.elapsed() >= SILENCE.0 {
            self.ask_after(&mut state, SILENCE.1);
        }
        SocketAddr::new(v6.into(), address.port())
    }

    /// The address that a packet is from, as everything above the socket knows it.
    pub(crate) fn inward(&self, address: SocketAddr) -> SocketAddr {
        let (Some(mut state), IpAddr::V6(v6)) = (self.known(), address.ip()) else {
            return address;
        };
        match state.prefix.and_then(|prefix| prefix.embedded(v6)) {
            Some(v4) => {
                state.unheard = None;
                SocketAddr::new(v4.into(), address.port())
            }
            None => address,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v6(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    const V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 33);

    // The examples of RFC 6052, section 2.4; and those of the answers that lead to them. spec: RCH-46
    #[test]
    fn addresses_are_embedded_as_the_examples_of_rfc_6052_have_it() {
        for (answer, embedded) in [
            ("2001:db8:c000:aa::", "2001:db8:c000:221::"),
            ("2001:db8:1c0:0:aa::", "2001:db8:1c0:2:21::"),
            ("2001:db8:122:c000:0:aa00::", "2001:db8:122:c000:2:2100::"),
            ("2001:db8:122:3c0:0:aa::", "2001:db8:122:3c0:0:221::"),
            ("2001:db8:122:344:c0:0:aa00::", "2001:db8:122:344:c0:2:2100::"),
            ("2001:db8:122:344::c000:aa", "2001:db8:122:344::192.0.2.33"),
            ("64:ff9b::c000:ab", "64:ff9b::192.0.2.33"),
        ] {
            let prefix = Prefix::of_answers([v6(answer)]).unwrap_or_else(|| panic!("{answer} has a prefix"));
            assert_eq!(prefix.embed(V4), Some(v6(embedded)), "{answer}");
            assert_eq!(prefix.embedded(v6(embedded)), Some(V4), "{answer}");
        }
    }

    // spec: RCH-46
    #[test]
    fn answers_without_the_known_addresses_are_no_translator_nor_those_where_nothing_may_be_sent() {
        let others = ["2001:db8::1", "64:ff9b::808:808", "::", "64:ff9b::c000:ac"].map(v6);
        assert_eq!(Prefix::of_answers(others), None);
        let narrow = [
            "ff02::c000:aa",
            "ff0e::c000:aa",
            "fe80::c000:aa",
            "::c000:aa",
            "::ffff:c000:aa",
        ]
        .map(v6);
        assert_eq!(Prefix::of_answers(narrow), None);
        assert!(Prefix::of_answers(narrow.into_iter().chain([v6("fd00::c000:aa")])).is_some());
    }

    // spec: RCH-46
    #[test]
    fn what_is_of_a_private_network_is_not_translated_nor_what_is_not_of_the_prefix() {
        let prefix = Prefix::of_answers([v6("64:ff9b::c000:aa")]).unwrap();
        for near in ["10.0.0.1", "127.0.0.1", "169.254.0.1", "192.168.0.1", "100.64.0.1"] {
            assert_eq!(prefix.embed(near.parse().unwrap()), None, "{near}");
        }
        assert_eq!(prefix.embedded(v6("64:ff9c::c000:221")), None);
        assert_eq!(prefix.embedded(v6("64:ff9b::1:c000:221")), None);
    }

    fn translator(text: &str) -> Option<Prefix> {
        Some(Prefix::of_answers([v6(text)]).unwrap())
    }

    // spec: RCH-46
    #[tokio::test]
    async fn no_translator_is_looked_for_where_none_could_help() {
        let translation = Translation::default();
        for address in ["10.0.0.1", "127.0.0.1", "192.168.1.1", "2001:db8::1"] {
            translation.ask(address.parse().unwrap());
            assert!(!translation.state().is_asked, "{address}");
        }
        translation.ask(V4.into());
        assert!(translation.state().is_asked);
    }

    // spec: RCH-46
    #[test]
    fn a_translation_that_is_known_is_used_until_the_network_changes() {
        let translation = Translation::default();
        let (plain, wire): (SocketAddr, SocketAddr) = (
            "192.0.2.33:7".parse().unwrap(),
            "[64:ff9b::c000:221]:7".parse().unwrap(),
        );
        let found = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let count = found.clone();
        translation.on_found(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!((translation.outward(plain), translation.inward(wire)), (plain, wire));
        translation.settle(0, None);
        translation.settle(0, translator("64:ff9b::c000:aa"));
        translation.settle(0, translator("64:ff9b::c000:ab"));
        assert_eq!((translation.outward(plain), translation.inward(wire)), (wire, plain));
        // A resolver that is away for a while takes nothing back, and another translator takes the place of the first.
        translation.settle(0, None);
        assert_eq!(translation.outward(plain), wire);
        translation.settle(0, translator("2001:db8::c000:aa"));
        assert_eq!(translation.outward(plain).to_string(), "[2001:db8::c000:221]:7");
        assert_eq!(found.load(Ordering::Relaxed), 2);
        translation.forget();
        assert_eq!((translation.outward(plain), translation.inward(wire)), (plain, wire));
        // What comes too late is of the network before.
        translation.settle(0, translator("64:ff9b::c000:aa"));
        assert_eq!(translation.outward(plain), plain);
    }

    // spec: RCH-46
    #[tokio::test]
    async fn a_translator_by_which_nothing_comes_is_looked_for_again() {
        let translation = Translation::default();
        translation.settle(0, translator("64:ff9b::c000:aa"));
        let (plain, wire) = (
            "192.0.2.33:7".parse().unwrap(),
            "[64:ff9b::c000:221]:7".parse().unwrap(),
        );
        // As if the resolver had answered, and the first packet had gone, so long ago.
        let ago = |time: Duration| Instant::now().checked_sub(time);
        let after = |unheard: u64, answered: u64| {
            let mut state = translation.state();
            state.is_asked = false;
            (state.unheard, state.answered) = (ago(Duration::from_secs(unheard)), ago(Duration::from_secs(answered)));
            drop(state);
            translation.outward(plain);
            translation.state().is_asked
        };
        assert!(!after(2, 60) && !after(5, 5) && after(5, 60));
        // Something has come.
        translation.state().is_asked = false;
        translation.inward(wire);
        translation.outward(plain);
        assert!(!translation.state().is_asked);
    }
}
