//! Discovery on the local network (RCH-33 to RCH-36): mDNS and DNS-SD, off unless a host is to use them.
//!
//! One task for each host that does, beside everything else:
//!
//! 1. *links*: those of this machine on which the host takes packets ([`links`]), each with a name of its own;
//! 2. *say* on each that the host is there, and answer who asks ([`responder`]);
//! 3. *ask* for the hosts that are looked for ([`seeker`]), which the driver orders when an attempt begins;
//! 4. *hear* who is there: what comes from elsewhere than the link is dropped, and nothing is kept of hosts that nobody
//!    looks for;
//! 5. *tell* the core where a host may be: whoever answers there proves who it is.
//!
//! When the network changes, all begins anew, under other names. At the end it is said that the host goes.

mod candidates;
pub(crate) mod desk;
mod links;
mod message;
mod responder;
mod seeker;
mod sockets;

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use sss_reach::mdns::{LEN, Nonce, Tag};
use sss_wire::Eid;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::desk::Desk;
use crate::redaction::HostTag;
use crate::shared::Shared;
use desk::{MdnsDesk, MdnsLink, MdnsReport};
use links::{Link, Taken};
use message::{Asked, Heard, Presence};
use responder::{Audience, Responder};
use seeker::{Intake, Seeker};
use sockets::Sockets;

/// Use that a host makes of mDNS, to find others on the local network by their EIDs, and to be found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mdns {
    /// None: nothing is sent.
    #[default]
    Off,
    /// Hosts that are connected to are looked for on the local network. What is sent does not tell whom, or by whom.
    Browse,
    /// As [`Mdns::Browse`]; and the host announces itself there: that it is a host of this protocol, to everybody; and
    /// which one, to those who know its EID.
    Announce,
}

/// Pause before it is tried again to open the sockets.
const RETRY: Duration = Duration::from_secs(5);
/// Instances that are told apart.
const MAX_COUNTED: usize = 64;
/// Range of the pause before an answer, in milliseconds: RFC 6762, section 6.
const JITTER: (u64, u64) = (20, 120);

/// Begins to use mDNS for a host, on the present runtime.
pub(crate) fn start(shared: &Arc<Shared>, mode: Mdns) {
    let (desk, tasks, orders) = MdnsDesk::new(MdnsReport {
        announces: mode == Mdns::Announce,
        ..MdnsReport::default()
    });
    shared.set_mdns(desk);
    let now = Instant::now();
    let keeper = Keeper {
        shared: Arc::downgrade(shared),
        eid: shared.eid(),
        announces: mode == Mdns::Announce,
        lan_only: shared.keeps_to_lan(),
        desk: tasks,
        orders,
        seeker: Seeker::new(&seed()),
        intake: Intake::new(now),
        heard: Vec::new(),
        open: None,
        retry_at: now,
    };
    tokio::spawn(keeper.run());
}

/// The task.
struct Keeper {
    shared: Weak<Shared>,
    eid: Eid,
    announces: bool,
    lan_only: bool,
    desk: Arc<Desk<MdnsReport>>,
    orders: mpsc::Receiver<Eid>,
    seeker: Seeker,
    intake: Intake,
    /// Instances that were heard as long as somebody is looked for, to count them.
    heard: Vec<Nonce>,
    open: Option<Open>,
    /// The sockets are not opened before.
    retry_at: Instant,
}

/// The sockets, and the links that they are for.
struct Open {
    sockets: Sockets,
    links: Vec<Spoken>,
}

/// Link on which mDNS is spoken.
struct Spoken {
    link: Link,
    /// Announcements of this host, if it makes any.
    responder: Option<Responder>,
}

impl Keeper {
    async fn run(mut self) {
        let desk = Arc::clone(&self.desk);
        loop {
            let now = Instant::now();
            self.open_or_close(now);
            self.say(now);
            self.find(now);
            let timer = self.next_timer();
            let is_open = self.open.is_some();
            let full_until = self.intake.full_until().filter(|until| *until > now);
            tokio::select! {
                () = desk.closing() => break,
                () = desk.changed() => self.relink(Instant::now()),
                order = self.orders.recv() => match order {
                    Some(eid) => {
                        let now = Instant::now();
                        self.retry_at = now;
                        self.seeker.seek(now, eid);
                    }
                    None => break,
                },
                (from, bytes) = next(&mut self.open), if is_open && full_until.is_none() => {
                    let message = read(&mut self.intake, from, bytes);
                    self.take(from, message);
                }
                () = sleep_until(full_until.unwrap_or(now)), if full_until.is_some() => {}
                () = sleep_until(timer.unwrap_or(now)), if timer.is_some() => {}
            }
        }
        self.farewell();
        self.desk.end();
    }

    /// Opens the sockets if they are needed and are not open, or closes them.
    fn open_or_close(&mut self, now: Instant) {
        let is_needed = self.announces || !self.seeker.is_idle(now);
        match &self.open {
            None if is_needed && now >= self.retry_at => self.relink(now),
            Some(_) if !is_needed => self.open = None,
            _ => {}
        }
    }

    /// Looks which links there are, and opens the sockets for them. Links that are as they were keep their names.
    fn relink(&mut self, now: Instant) {
        let before = self.open.take().map(|open| open.links).unwrap_or_default();
        if !self.announces && self.seeker.is_idle(now) {
            return;
        }
        self.retry_at = now + RETRY;
        let Some(bound) = self.shared.upgrade().map(|shared| shared.local_addr()) else {
            return;
        };
        let taken = Taken {
            bound,
            lan_only: self.lan_only,
        };
        let opened = links::of_machine(taken).and_then(|links| Ok((Sockets::open(&links)?, links)));
        let (sockets, links) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                tracing::info!(host = %HostTag::of(&self.eid), %error, "mDNS cannot be used");
                self.desk.update(|report| {
                    report.links.clear();
                    report.failure = Some(error.to_string());
                });
                return;
            }
        };
        let links: Vec<Spoken> = links
            .into_iter()
            .map(|link| self.spoken(now, link, &before, bound.port()))
            .collect();
        self.desk.update(|report| {
            report.failure = None;
            report.links = links.iter().map(Spoken::told).collect();
        });
        self.open = Some(Open { sockets, links });
    }

    fn spoken(&self, now: Instant, link: Link, before: &[Spoken], port: u16) -> Spoken {
        let same = before.iter().find(|spoken| spoken.link == link);
        let known = same.and_then(|spoken| spoken.responder.as_ref());
        let nonce = known.map(|known| known.presence.nonce);
        let nonce = self.announces.then(|| nonce.or_else(fresh_nonce)).flatten();
        let presence = nonce.map(|nonce| Presence {
            nonce,
            tag: Tag::new(&self.eid, &nonce),
            port,
        });
        Spoken {
            link,
            responder: presence.map(|presence| Responder::new(now, presence)),
        }
    }

    /// Says and asks what is due.
    fn say(&mut self, now: Instant) {
        let Some(Open { sockets, links }) = &mut self.open else {
            return;
        };
        let (mut questions, mut announcements) = (0, 0);
        if let Some(unicast) = self.seeker.poll(now) {
            let question = message::question(unicast);
            for spoken in &*links {
                sockets.send(&spoken.link, Audience::All, &question);
                questions += 1;
            }
        }
        for Spoken { link, responder } in links {
            let Some(responder) = responder else { continue };
            while let Some(audience) = responder.poll(now) {
                let message = message::announcement(&responder.presence, &link.addresses(), false);
                sockets.send(link, audience, &message);
                announcements += 1;
            }
        }
        if questions + announcements > 0 {
            self.desk.update(|report| {
                report.questions += questions;
                report.announcements += announcements;
            });
        }
    }

    /// Has those tried that have waited for it.
    fn find(&mut self, now: Instant) {
        while let Some((eid, at)) = self.seeker.poll_found(now) {
            self.desk.update(|report| report.note_found(eid, at));
            self.tell(eid, at);
        }
    }

    fn next_timer(&self) -> Option<Instant> {
        let Some(open) = &self.open else {
            let is_wanted = self.announces || self.seeker.next_timer().is_some();
            return is_wanted.then_some(self.retry_at);
        };
        let responders = open.links.iter().filter_map(|spoken| spoken.responder.as_ref());
        let due = responders.filter_map(Responder::next_timer);
        due.chain(self.seeker.next_timer()).min()
    }

    /// Takes in a message; `None` if it was not understood.
    fn take(&mut self, from: SocketAddr, message: Option<Heard>) {
        let links = self.open.iter_mut().flat_map(|open| &mut open.links);
        let (now, mut links) = (Instant::now(), links);
        match (links.find(|spoken| spoken.link.has(from)), message) {
            (Some(spoken), Some(Heard::Asked(asked))) => spoken.on_question(now, (from, &asked)),
            (Some(_), Some(Heard::Told(hosts))) => self.hear(now, from, &hosts),
            _ => self.desk.update(|report| report.dropped += 1),
        }
    }

    /// Hosts are there.
    fn hear(&mut self, now: Instant, from: SocketAddr, hosts: &[Presence]) {
        let own = self.open.iter().flat_map(|open| &open.links);
        let own: Vec<Nonce> = own
            .filter_map(|spoken| Some(spoken.responder.as_ref()?.presence.nonce))
            .collect();
        for presence in hosts.iter().filter(|presence| !own.contains(&presence.nonce)) {
            let found = self.seeker.on_presence(now, seeker::Heard { from, presence });
            self.count(now, presence.nonce);
            let instances = self.heard.len();
            self.desk.update(|report| {
                report.heard += 1;
                report.instances = instances;
                found.iter().for_each(|(eid, at)| report.note_found(*eid, *at));
            });
            for (eid, at) in found {
                self.tell(eid, at);
            }
        }
    }

    /// Counts an instance. Nothing of it is kept when nobody is looked for.
    fn count(&mut self, now: Instant, nonce: Nonce) {
        if self.seeker.is_idle(now) {
            self.heard.clear();
        } else if self.heard.len() < MAX_COUNTED && !self.heard.contains(&nonce) {
            self.heard.push(nonce);
        }
    }

    fn tell(&self, eid: Eid, at: SocketAddr) {
        tracing::debug!(peer = %HostTag::of(&eid), "a host that may be the peer is on the local network");
        if let Some(shared) = self.shared.upgrade() {
            shared.call(|inner, now| {
                inner.core.add_hints(now, &eid, &[at.into()]);
                inner.want_driver();
            });
        }
    }

    /// Says that the host goes.
    fn farewell(&self) {
        let Some(open) = &self.open else { return };
        for Spoken { link, responder } in &open.links {
            if let Some(responder) = responder {
                let message = message::announcement(&responder.presence, &link.addresses(), true);
                open.sockets.send(link, Audience::All, &message);
            }
        }
    }
}

impl Spoken {
    fn told(&self) -> MdnsLink {
        let presence = self.responder.as_ref().map(|responder| &responder.presence);
        MdnsLink {
            name: self.link.name.clone(),
            addresses: self.link.addresses(),
            instance: presence.map(|presence| presence.nonce.to_text()),
        }
    }

    fn on_question(&mut self, now: Instant, asked: (SocketAddr, &Asked)) {
        if let Some(responder) = &mut self.responder {
            responder.on_question(now, asked, jitter());
        }
    }
}

/// The next message. There is none before the sockets are open.
async fn next(open: &mut Option<Open>) -> (SocketAddr, &[u8]) {
    match open {
        Some(open) => open.sockets.next().await,
        None => std::future::pending().await,
    }
}

fn read(intake: &mut Intake, from: SocketAddr, bytes: &[u8]) -> Option<Heard> {
    let is_read = intake.takes(Instant::now(), from.ip());
    is_read.then(|| message::read(bytes)).flatten()
}

/// `None`, and no announcement, if the system has no entropy: a name that is not random is one that is known again.
fn fresh_nonce() -> Option<Nonce> {
    let mut bytes = [0; LEN];
    let filled = getrandom::fill(&mut bytes);
    if let Err(error) = &filled {
        tracing::error!(%error, "the system gives no entropy: this host is not announced");
    }
    filled.ok().map(|()| Nonce(bytes))
}

/// An EID that no host has, to ask who is there.
pub(crate) fn nobody() -> Eid {
    Eid::from_public_key(&seed())
}

/// Without entropy others may foretell which address is tried first, and nothing more.
fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    let _ = getrandom::fill(&mut seed);
    seed
}

fn jitter() -> Duration {
    let mut bytes = [0; 8];
    // Without it, hosts answer all at once.
    let _ = getrandom::fill(&mut bytes);
    let (least, most) = JITTER;
    Duration::from_millis(least + u64::from_be_bytes(bytes) % (most - least + 1))
}
