//! Port mapping: asks the router of this machine's network to let the host's port in, keeps that, and gives it back.
//!
//! One task for each host that wants it, beside everything else:
//!
//! 1. *find* the router ([`router`]);
//! 2. *ask* it: by PCP, and at the same time whether it speaks NAT-PMP and UPnP, of which the first that works is used;
//!    and that of IPv6, by PCP, to let the host's own address in;
//! 3. *name* the outer address to the servers, which prove it by an echo (RCH-25, RCH-26);
//! 4. *wait* until half of the time is over, the network has changed, or nothing comes through any more; then again;
//! 5. *give back*, when the host goes.
//!
//! What the router says is read by other crates, in a task of its own: whatever becomes of that, the host goes on.

pub(crate) mod desk;
mod pcp;
mod pinhole;
mod router;
mod upnp;

use std::fmt::Display;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use sss_crypto::{StaticKey, schedule};
use sss_reach::{Proof, RegistrationState};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::desk::Desk;
use crate::redaction::HostTag;
use crate::shared::Shared;
use desk::{MappedPort, MappingError, MappingProtocol, MappingReport, Pinhole};
use router::{Place, PlaceSix};

/// Use that a host makes of its router's port mapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PortMapping {
    /// None: nothing is sent to the router.
    #[default]
    Off,
    /// The router is asked to let the host's port in from everywhere, as long as the host is at work.
    On,
}

/// Time for which a port is asked for; it is asked again at the half.
const LIFETIME: Duration = Duration::from_secs(30 * 60);
/// The least time between two questions, whatever time the router gives, and the most.
const RENEWALS: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(15 * 60));
/// The first pause after the router has given nothing; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(30 * 60);
/// Pause between two looks at whether anything comes through.
const LOOK: Duration = Duration::from_secs(5);
/// Time for an answer that is awaited, when the host goes: a port that it brings is given back.
const LAST_ANSWER: Duration = Duration::from_millis(300);
/// Time for giving a port back, when the host goes.
const GIVING_BACK: Duration = Duration::from_millis(600);
/// Longest text of a router's that is told.
const MAX_SAID: usize = 120;

/// Port that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wish {
    inside: SocketAddr,
    /// The outer port.
    outside: u16,
}

/// Port that a router has given.
#[derive(Clone, Debug)]
struct Granted<H> {
    port: MappedPort,
    /// Time of the router's clock in seconds, by which a restart is seen.
    epoch: Option<u32>,
    held: H,
}

/// Mapping that is held, by what it was asked with.
#[derive(Clone, Debug)]
enum Held {
    Pcp(pcp::Held),
    Upnp(upnp::Held),
}

impl Held {
    async fn give_back(self) {
        match self {
            Self::Pcp(held) => held.give_back().await,
            Self::Upnp(held) => held.give_back().await,
        }
    }
}

impl<H> Granted<H> {
    fn map<T>(self, held: impl FnOnce(H) -> T) -> Granted<T> {
        Granted {
            port: self.port,
            epoch: self.epoch,
            held: held(self.held),
        }
    }
}

/// Errors of each protocol that was tried.
type Failures = Vec<(MappingProtocol, MappingError)>;

/// Asks the router by all protocols, the best first.
async fn ask(place: Place, wish: Wish, before: Option<Held>) -> (Option<Granted<Held>>, Failures) {
    let nonce = match before {
        Some(Held::Pcp(held)) => Some(held),
        _ => None,
    };
    // Each is one datagram, and only the first one orders something.
    let mut others = pin!(async { tokio::join!(pcp::outer_address(place), upnp::describe(place)) });
    let mut by_pcp = pin!(pcp::ask(place, wish, nonce));
    let mut answers = None;
    let granted = loop {
        tokio::select! {
            granted = &mut by_pcp => break granted,
            both = &mut others, if answers.is_none() => answers = Some(both),
        }
    };
    let mut failures = Failures::new();
    match granted {
        Ok(granted) => return (Some(granted.map(Held::Pcp)), failures),
        Err(why) => failures.push((MappingProtocol::Pcp, why)),
    }
    let (outer, described) = match answers {
        Some(answers) => answers,
        None => others.await,
    };
    let granted = match outer {
        Ok(outer) => pcp::ask_by_pmp(place, wish, outer).await,
        Err(why) => Err(why),
    };
    match granted {
        Ok(granted) => return (Some(granted.map(Held::Pcp)), failures),
        Err(why) => failures.push((MappingProtocol::NatPmp, why)),
    }
    let granted = match described {
        Ok(description) => upnp::ask(place, wish, &description).await,
        Err(why) => Err(why),
    };
    match granted {
        Ok(granted) => (Some(granted.map(Held::Upnp)), failures),
        Err(why) => {
            failures.push((MappingProtocol::Upnp, why));
            (None, failures)
        }
    }
}

/// Asks the router of IPv4, if there is one, in a task of its own: other crates read what it says.
async fn ask_in_a_task(
    (place, ports): (Option<Place>, OuterPorts),
    before: Option<(Granted<Held>, Instant)>,
) -> (Option<Granted<Held>>, Failures) {
    let Some(place) = place else {
        return (None, Failures::new());
    };
    let inside = place.inside;
    let wish = Wish {
        inside,
        outside: ports.for_inside(inside.port()),
    };
    let same = before.filter(|(granted, _)| granted.port.inside == inside);
    let mut asked = JoinSet::new();
    asked.spawn(ask(place, wish, same.map(|(granted, _)| granted.held)));
    let outcome = asked.join_next().await.unwrap_or(Ok((None, Failures::new())));
    outcome.unwrap_or_else(|error| {
        let why = MappingError::Useless(said(&error));
        (None, vec![(MappingProtocol::Upnp, why)])
    })
}

/// Asks the router of IPv6, if there is one, likewise.
async fn ask_six(
    place: Option<PlaceSix>,
    before: Option<Granted<pinhole::Held>>,
) -> (Option<Granted<pinhole::Held>>, Option<Pinhole>) {
    let Some(place) = place else {
        return (None, None);
    };
    let same = before.filter(|granted| granted.port.inside == place.inside);
    let mut asked = JoinSet::new();
    asked.spawn(pinhole::ask(place, same.map(|granted| granted.held)));
    let outcome = asked.join_next().await.unwrap_or(Ok(Err(MappingError::Silent)));
    let outcome = outcome.unwrap_or_else(|error| Err(MappingError::Useless(said(&error))));
    let told = Pinhole {
        router: place.router.into(),
        port: outcome.as_ref().map(|granted| granted.port).map_err(Clone::clone),
    };
    (outcome.ok(), Some(told))
}

/// Text of a router's, as it is told: short, and without what terminals obey.
fn said(text: &dyn Display) -> String {
    let text = text.to_string();
    sss_wire::printable(&text.chars().take(MAX_SAID).collect::<String>()).into_owned()
}

/// Outer ports that a host asks for: the same at each start, and nobody can tell from them whose they are.
#[derive(Clone, Copy)]
pub(crate) struct OuterPorts(u16);

impl OuterPorts {
    /// Those of an identity.
    pub(crate) fn of(identity: &StaticKey) -> Self {
        let mut bytes = [0; 2];
        schedule::label(&*identity.to_bytes(), "mapped port", b"", &mut bytes);
        Self(u16::from_be_bytes(bytes))
    }

    /// The one for this port inside, which is never the same: so an echo tells more than what comes back anyhow.
    fn for_inside(self, inside: u16) -> u16 {
        // Those that are registered for nothing (RFC 6335).
        const FIRST: u16 = 49_152;
        let among = |n: u16| FIRST | n & (u16::MAX - FIRST);
        match among(self.0.wrapping_add(inside)) {
            same if same == inside => among(same.wrapping_add(1)),
            other => other,
        }
    }
}

/// Begins to keep a mapping for a host, on the present runtime.
pub(crate) fn start(shared: &Arc<Shared>, ports: OuterPorts) {
    let keeper = Keeper {
        tag: HostTag::of(&shared.eid()),
        shared: Arc::downgrade(shared),
        desk: Arc::clone(shared.open_desk()),
        ports,
        granted: None,
        pinhole: None,
        pause: FIRST_PAUSE,
    };
    tokio::spawn(keeper.run());
}

/// The task.
struct Keeper {
    tag: HostTag,
    shared: Weak<Shared>,
    desk: Arc<Desk<MappingReport>>,
    ports: OuterPorts,
    granted: Option<(Granted<Held>, Instant)>,
    pinhole: Option<Granted<pinhole::Held>>,
    /// The next pause after a failure.
    pause: Duration,
}

/// Reason to ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Due,
    Moved,
    /// Nothing comes through.
    Dead,
    /// The host goes.
    Over,
}

impl Keeper {
    async fn run(mut self) {
        let mut reason = Reason::Due;
        while reason != Reason::Over {
            let Some(bound) = self.shared.upgrade().map(|shared| shared.local_addr()) else {
                break;
            };
            let desk = Arc::clone(&self.desk);
            let closing = async {
                desk.closing().await;
                sleep(LAST_ANSWER).await;
            };
            tokio::select! {
                () = self.round(bound, reason) => {}
                // What is given later ends by itself.
                () = closing => break,
            }
            reason = self.wait().await;
        }
        let (granted, pinhole) = (self.granted.take(), self.pinhole.take());
        let give_back = async {
            if let Some((granted, _)) = granted {
                granted.held.give_back().await;
            }
        };
        let close = async {
            if let Some(pinhole) = pinhole {
                pinhole.held.give_back().await;
            }
        };
        let _ = timeout(GIVING_BACK, async { tokio::join!(give_back, close) }).await;
        self.desk.end();
    }

    /// Asks once, and tells what came of it.
    async fn round(&mut self, bound: SocketAddr, reason: Reason) {
        let (place, place_six) = router::find(bound).await;
        let before = self.granted.clone();
        let (granted, (pinhole, told)) = tokio::join!(
            ask_in_a_task((place, self.ports), before.clone()),
            ask_six(place_six, self.pinhole.clone())
        );
        let (granted, failures) = granted;
        let now = Instant::now();
        let is_restarted = match (&granted, &before) {
            (Some(after), Some((before, asked))) if after.port.inside == before.port.inside => {
                has_restarted(before.epoch, after.epoch, now - *asked)
            }
            _ => false,
        };
        let report = MappingReport {
            is_asking: false,
            router: place.map(|place| place.router.into()),
            port: granted.as_ref().map(|granted| granted.port),
            failures,
            pinhole: told,
        };
        self.granted = granted.map(|granted| (granted, now));
        self.pinhole = pinhole;
        self.tell(report, is_restarted || reason == Reason::Dead);
    }

    /// Tells the host, and its servers. Set `is_new` if they are to prove it anew even if it is the same.
    fn tell(&self, report: MappingReport, is_new: bool) {
        let before = self.desk.report().port.map(|port| port.outside);
        let outside = report.outside();
        if before != report.port.map(|port| port.outside) {
            match (report.port, report.router) {
                (Some(port), _) => {
                    tracing::info!(host = %self.tag, protocol = port.protocol.name(), "the router lets a port in");
                }
                (None, Some(_)) => tracing::info!(host = %self.tag, "the router lets no port in"),
                (None, None) => tracing::info!(host = %self.tag, "there is no router to be asked for a port"),
            }
        }
        self.desk.update(|told| *told = report);
        if let Some(shared) = self.shared.upgrade() {
            shared.call(|inner, now| {
                if is_new {
                    inner.set_mapped(now, &[]);
                }
                inner.set_mapped(now, &outside);
            });
        }
    }

    /// Waits until there is a reason to ask again.
    async fn wait(&mut self) -> Reason {
        let half = |port: &MappedPort| (port.lifetime.unwrap_or(LIFETIME) / 2).clamp(RENEWALS.0, RENEWALS.1);
        let time = match &self.granted {
            Some((granted, _)) => {
                self.pause = FIRST_PAUSE;
                half(&granted.port)
            }
            None => {
                let longer = (self.pause * 2).min(LONGEST_PAUSE);
                std::mem::replace(&mut self.pause, longer)
            }
        };
        let pinhole = self
            .pinhole
            .as_ref()
            .map_or(Duration::MAX, |granted| half(&granted.port));
        let time = time.min(pinhole);
        let was_dead = self.is_dead();
        let dead = async {
            loop {
                sleep(LOOK).await;
                if self.is_dead() && !was_dead {
                    return;
                }
            }
        };
        tokio::select! {
            () = self.desk.closing() => Reason::Over,
            () = self.desk.changed() => {
                self.pause = FIRST_PAUSE;
                Reason::Moved
            }
            () = dead => Reason::Dead,
            () = sleep(time) => Reason::Due,
        }
    }

    /// Returns whether nothing of what servers sent to the port has come through.
    fn is_dead(&self) -> bool {
        let Some(shared) = self.shared.upgrade() else {
            return false;
        };
        let registrations = shared.look(|inner| inner.rendezvous.registrations());
        registrations.iter().any(|one| match one.state {
            RegistrationState::Registered { mapped, .. } => mapped.is_some_and(|(_, proof)| proof == Proof::Dead),
            _ => false,
        })
    }
}

/// Returns whether a router's clock has gone back: it was restarted, and has forgotten all (RFC 6887, section 8.5).
fn has_restarted(before: Option<u32>, after: Option<u32>, between: Duration) -> bool {
    let Some((before, after)) = before.zip(after) else {
        return false;
    };
    // Its clock may be slower by an eighth, and by two seconds.
    let least = between.as_secs() * 7 / 8;
    u64::from(after) + 2 < u64::from(before) + least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outer_ports_stay_the_same_and_are_never_those_inside() {
        for seed in 0..=u16::MAX {
            let ports = OuterPorts(seed);
            for inside in [1, 7757, 49_152, 65_535, seed] {
                let outside = ports.for_inside(inside);
                assert!(outside >= 49_152 && outside != inside, "{seed}, {inside}: {outside}");
            }
        }
        let of = |n| OuterPorts::of(&StaticKey::from_bytes([n; 32])).for_inside(7757);
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }

    // spec: RCH-27
    #[test]
    fn a_router_whose_clock_went_back_was_restarted() {
        let minutes = |n: u64| Duration::from_secs(n * 60);
        assert!(!has_restarted(Some(1000), Some(1900), minutes(15)));
        assert!(
            !has_restarted(Some(1000), Some(1790), minutes(15)),
            "slower by an eighth"
        );
        assert!(has_restarted(Some(1000), Some(100), minutes(15)));
        assert!(has_restarted(Some(100), Some(200), minutes(15)));
        assert!(!has_restarted(None, Some(0), minutes(15)));
        assert!(!has_restarted(Some(u32::MAX), Some(u32::MAX), Duration::ZERO));
    }

    // spec: RCH-27
    #[tokio::test]
    async fn a_host_that_no_router_reaches_asks_none_and_closes_at_once() {
        let host = |mapping| crate::Host::builder().bind("127.0.0.1:0").port_mapping(mapping).build();
        let off = host(PortMapping::Off).await.unwrap();
        assert_eq!(off.port_mapping(), None);
        let on = host(PortMapping::On).await.unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        while on.port_mapping().unwrap().is_asking {
            assert!(Instant::now() < until, "{:?}", on.port_mapping());
            sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(on.port_mapping(), Some(MappingReport::default()));
        let began = Instant::now();
        on.close().await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(10));
        off.close().await.unwrap();
    }

    #[test]
    fn what_a_router_says_is_told_shortly_and_cannot_reach_a_terminal() {
        let told = said(&format!("\x1b[2J{}", "x".repeat(1 << 20)));
        assert!(told.len() < 200 && !told.contains('\x1b'), "{told}");
    }
}
