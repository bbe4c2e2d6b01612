//! Calls: peers that this host looks for at its servers (RCH-11, RCH-12).

mod outrun;
mod referred;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use sss_crypto::Generator;
use sss_proto::{Absence, Host, Instant, Introduced, Link};
use sss_wire::Eid;
use sss_wire::reach::Punch;
use sss_wire::reach::bodies::{Found, Status, Unfound, Way};
use sss_wire::reach::records::Call as Request;

use super::PATIENCE;
use super::own::Own;
use super::punch::{Punched, Punching};
use super::registration::{Registration, turned};
use crate::absence::absence;
use crate::path::NOWHERE;
pub(super) use referred::Referred;

/// Calls at a time: what is beyond fails.
const MAX: usize = 1024;
/// Pause between two CONNECTs, at least and at most, as long as the server has not answered; and at most when it has,
/// and the peer has not.
const PAUSES: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(1));
const FOUND_PAUSE: Duration = Duration::from_secs(2);
/// Pause after a server has said that it was asked too often.
const TOO_MANY_PAUSE: Duration = Duration::from_secs(1);
/// Pauses before a peer that was not found is asked for again, as long as it is looked for where it was: so many times
/// each of the first two, then always the third.
const AGAIN: [Duration; 3] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];
const TIMES: u32 = 4;
/// Time after which the other servers are asked, where those that are asked say nothing (RCH-43).
const SILENCE: Duration = Duration::from_secs(2);
/// Time for which a call is kept once a way was found.
pub(super) const LIFE: Duration = Duration::from_secs(10);

/// The calls under way.
#[derive(Default)]
pub(super) struct Calls {
    all: VecDeque<Call>,
    /// Peers that were not found, why, and how often they were asked for; 0 if they are not to be asked for again.
    failed: VecDeque<(Eid, Absence, u32)>,
    /// Servers that others have named and that were of no use, and what they have said.
    stale: VecDeque<(Referred, Unfound)>,
}

/// A peer that is looked for.
struct Call {
    eid: Eid,
    began: Instant,
    /// It was asked for so many times, with this one.
    times: u32,
    /// The greeting that travels with CONNECT. `None` once it was answered, or if there is none.
    greeting: Option<Introduced>,
    /// The same peer, asked for at each server.
    questions: Vec<Question>,
    /// Servers that are asked if that is in vain (RCH-43).
    others: Vec<Eid>,
}

/// A peer that is to be asked for.
pub(super) struct Missing {
    pub(super) eid: Eid,
    pub(super) greeting: Option<Introduced>,
    /// Number of times that it was asked for, with the present one.
    pub(super) times: u32,
}

/// Subject of a call.
#[derive(Clone, Copy)]
struct About<'a> {
    eid: Eid,
    greeting: Option<&'a Introduced>,
}

/// A call at one server.
struct Question {
    server: Eid,
    began: Instant,
    introduction: [u8; 8],
    state: State,
    /// The number of CONNECTs that were sent, and of ways that were taken: no more of them (RCH-14).
    asked: u32,
    ways: u32,
    /// The number of times that this was begun anew, since the peer had moved before it answered.
    moves: u32,
    /// The server has said of late that it was asked too often.
    is_put_off: bool,
    /// The server has answered something else since it was asked: it is there.
    is_heard: bool,
    /// Another server has named this one (RCH-44).
    is_referred: bool,
    /// That it has failed was told.
    is_told: bool,
}

enum State {
    /// CONNECT is to be sent at this time; it was sent so many times.
    Asking(Instant, u32),
    /// The server has named a way. CONNECT is sent again at this time, as long as the greeting is not answered.
    Found(Box<Named>, Instant, u32),
    /// It knows none.
    Failed(Unfound),
}

/// A way that a server has named.
struct Named {
    /// Another one is named when this host has moved, and the peer was told anew.
    way: Way,
    /// None if the way is by the relay alone.
    punching: Option<Punching>,
}

/// Servers to be asked: at once, and if that is in vain.
pub(super) type Servers = (Vec<Eid>, Vec<Eid>);

/// Meaning of FOUND.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answered {
    /// There is a way to the peer. Set if a greeting is on its way by the server.
    Way(Eid, Way, bool),
    /// A way that was named before is named again, and the greeting that went by the server is not answered.
    Unanswered(Eid, Way),
    /// This server has to be given a LEASE first.
    NoLease(Eid),
    /// Nothing new.
    Nothing,
}

impl Calls {
    /// Looks for a peer at the first of these servers, and at the others if that is in vain. What was asked with
    /// another greeting is of an attempt that is over.
    pub(super) fn begin(
        &mut self,
        now: Instant,
        (eid, greeting): (Eid, Option<Introduced>),
        servers: Servers,
        rng: &mut Generator,
    ) {
        self.all.retain(|call| call.eid != eid);
        if servers.0.is_empty() || self.all.len() >= MAX {
            let absence = if servers.0.is_empty() {
                Absence::NoServer
            } else {
                Absence::TooMany
            };
            return self.failed.push_back((eid, absence, 0));
        }
        let missing = Missing {
            eid,
            greeting,
            times: 1,
        };
        self.put(now, missing, servers, rng);
    }

    /// Looks for a peer again, after a pause, that was not found and was asked for so many times.
    pub(super) fn ask_again(&mut self, now: Instant, missing: Missing, servers: Servers, rng: &mut Generator) {
        let step = missing.times.saturating_sub(1) / TIMES;
        let pause = usize::try_from(step)
            .ok()
            .and_then(|step| AGAIN.get(step))
            .or(AGAIN.last());
        let at = now + pause.copied().unwrap_or_default();
        let times = missing.times.saturating_add(1);
        self.put(at, Missing { times, ..missing }, servers, rng);
    }

    fn put(&mut self, at: Instant, missing: Missing, servers: Servers, rng: &mut Generator) {
        let Missing { eid, greeting, times } = missing;
        let (servers, others) = servers;
        let servers = servers.into_iter();
        let questions = servers.map(|server| Question::new(at, server, rng)).collect();
        self.all.push_back(Call {
            eid,
            began: at,
            times,
            greeting,
            questions,
            others,
        });
    }

    /// The server of a registration answers: what it was asked while it did not, or is to be asked again, is asked now.
    pub(super) fn on_lease_renewed(&mut self, now: Instant, server: &Eid) {
        for call in &mut self.all {
            let question = call.questions.iter_mut().find(|question| question.server == *server);
            if let Some(question) = question
                && let State::Asking(at, sent) = &mut question.state
            {
                (*at, *sent) = (now, 0);
                question.began = now;
                (call.began, call.times) = (now, 1);
            }
        }
    }

    /// This host is somewhere else for the server of a registration, and has proven it: who was found is told anew
    /// (RCH-12).
    pub(super) fn ask_anew(&mut self, now: Instant, server: &Eid) {
        for question in self.at(server) {
            if let State::Asking(at, sent) | State::Found(_, at, sent) = &mut question.state {
                (*at, *sent) = (now, 0);
            }
        }
    }

    /// The server of a registration has answered something.
    pub(super) fn on_heard(&mut self, server: &Eid) {
        for question in self.at(server) {
            question.is_heard = true;
        }
    }

    /// Questions to a server.
    fn at(&mut self, server: &Eid) -> impl Iterator<Item = &mut Question> {
        let all = self.all.iter_mut().flat_map(|call| &mut call.questions);
        all.filter(move |question| question.server == *server)
    }

    /// The server of a registration can be asked: what waits for that is asked now.
    pub(super) fn on_reached(&mut self, now: Instant, server: &Eid) {
        self.on_heard(server);
        for question in self.at(server) {
            if let State::Asking(at, 0) = &mut question.state {
                *at = now.min(*at);
            }
        }
    }

    /// Peers whose greeting is not answered yet.
    pub(super) fn unanswered(&self) -> Vec<Eid> {
        let unanswered = self.all.iter().filter(|call| call.greeting.is_some());
        unanswered.map(|call| call.eid).collect()
    }

    /// The greeting of a call was answered.
    pub(super) fn on_answered(&mut self, eid: &Eid) {
        if let Some(call) = self.all.iter_mut().find(|call| call.eid == *eid) {
            call.greeting = None;
        }
    }

    /// A peer that is not to be found, and why.
    pub(super) fn take_failed(&mut self) -> Option<(Eid, Absence, u32)> {
        self.failed.pop_front()
    }

    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.all.iter().map(Call::next_timer).min()
    }

    /// Asks behind REGISTER where that is not answered yet (RCH-41).
    pub(super) fn ask_early(&mut self, now: Instant, host: &mut Host, own: &Own, registrations: &mut [Registration]) {
        for call in &mut self.all {
            let (about, questions) = call.about();
            for question in questions {
                if let Some(registration) = question.registration(registrations) {
                    question.ask_early(now, about, (host, own), registration);
                }
            }
        }
    }

    /// Sends what is due.
    pub(super) fn on_timer(
        &mut self,
        now: Instant,
        registrations: &mut [Registration],
        rng: &mut Generator,
        outbox: &mut VecDeque<(Link, Vec<u8>)>,
    ) {
        for call in &mut self.all {
            let (about, questions) = call.about();
            for question in questions {
                match question.registration(registrations) {
                    Some(registration) => outbox.extend(question.on_timer(now, about, registration, rng)),
                    None => question.state = State::Failed(Unfound::because(Status::NoLease)),
                }
            }
            call.ask_others(now, rng);
            self.stale.extend(call.take_stale());
        }
        let failed = &mut self.failed;
        self.all.retain_mut(|call| {
            let failure = call.failure();
            failed.extend(failure.map(|absence| (call.eid, absence, call.times)));
            let is_old = now >= call.began + LIFE;
            // All have forgotten the introductions. As long as nothing was answered, they are asked anew.
            if is_old && call.greeting.is_some() {
                call.began = now;
                // Where others have sent this host, they do so again.
                call.questions.retain(|question| !question.is_referred);
                call.questions
                    .iter_mut()
                    .for_each(|question| *question = Question::new(now, question.server, rng));
            }
            failure.is_none() && (!is_old || call.greeting.is_some())
        });
    }

    /// FOUND: a way, or none. Set `is_direct` if packets may go to its address.
    pub(super) fn on_found(&mut self, now: Instant, found: &Found, is_direct: bool, rng: &mut Generator) -> Answered {
        let mut all = self.all.iter_mut();
        let named = |call: &Call| call.questions.iter().position(|q| q.introduction == found.introduction);
        let Some((call, at)) = all.find_map(|call| named(call).map(|at| (call, at))) else {
            return Answered::Nothing;
        };
        let Some(question) = call.questions.get_mut(at) else {
            return Answered::Nothing;
        };
        if call.greeting.is_some() && question.is_outrun(&found.outcome) {
            *question = question.anew(now, rng);
            return Answered::Nothing;
        }
        match (&found.outcome, &mut question.state) {
            (Ok(way), State::Found(named, ..)) if named.is_by(way) => match call.greeting {
                Some(_) => Answered::Unanswered(call.eid, *way),
                None => Answered::Nothing,
            },
            (Ok(_), State::Asking(..) | State::Found(..)) if question.ways >= question.asked => Answered::Nothing,
            (Ok(way), State::Asking(at, sent) | State::Found(_, at, sent)) => {
                question.ways += 1;
                let is_direct = is_direct && way.address != NOWHERE;
                let punching = is_direct.then(|| Punching::new(now, way, rng));
                question.state = State::Found(Box::new(Named { way: *way, punching }), *at, *sent);
                Answered::Way(call.eid, *way, call.greeting.is_some())
            }
            // The same two hosts were introduced a moment ago, or somebody has asked for much.
            (Err(unfound), State::Asking(at, _) | State::Found(_, at, _)) if unfound.status == Status::TooMany => {
                *at = now + TOO_MANY_PAUSE;
                question.is_put_off = true;
                Answered::Nothing
            }
            // After a way was named, it means that this host has moved, or the server was restarted.
            (Err(unfound), State::Asking(..) | State::Found(..)) if unfound.status == Status::NoLease => {
                Answered::NoLease(question.server)
            }
            (Err(unfound), _) => {
                question.state = State::Failed(*unfound);
                Answered::Nothing
            }
            (Ok(_), _) => Answered::Nothing,
        }
    }

    /// A PUNCH, or an answer to one. `None` if it is of no call.
    pub(super) fn on_punch(&mut self, from: SocketAddr, punch: &Punch<'_>) -> Option<(Eid, Punched)> {
        self.all.iter_mut().find_map(|call| {
            let mut questions = call.questions.iter_mut();
            let punched = questions.find_map(|question| match &mut question.state {
                State::Found(named, ..) => named.punching.as_mut()?.on_punch(from, punch),
                _ => None,
            });
            punched.map(|punched| (call.eid, punched))
        })
    }
}

impl Named {
    /// Returns whether this is the way that was named before: it is named again with each repetition of CONNECT.
    fn is_by(&self, way: &Way) -> bool {
        (self.way.punch_key, self.way.handle) == (way.punch_key, way.handle)
    }
}

impl Call {
    /// Its subject, and the questions about that.
    fn about(&mut self) -> (About<'_>, &mut [Question]) {
        let about = About {
            eid: self.eid,
            greeting: self.greeting.as_ref(),
        };
        (about, &mut self.questions)
    }

    /// Asks the other servers too, once those that are asked have not found the peer, or have said nothing for a while.
    fn ask_others(&mut self, now: Instant, rng: &mut Generator) {
        if self.others_at().is_none_or(|at| now < at) {
            return;
        }
        self.began = now;
        let others = std::mem::take(&mut self.others).into_iter();
        self.questions
            .extend(others.map(|server| Question::new(now, server, rng)));
    }

    /// Returns when the other servers are to be asked, as far as is known.
    fn others_at(&self) -> Option<Instant> {
        if self.others.is_empty() {
            return None;
        }
        let at = self.questions.iter().map(|question| match &question.state {
            State::Asking(..) => Some(question.began + SILENCE),
            // It knows the peer.
            State::Found(..) => None,
            State::Failed(unfound) if is_final(unfound.status) => None,
            State::Failed(_) => Some(Instant::default()),
        });
        at.collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    /// The best of the reasons, when all servers have failed: what one knows that has seen the peer counts most.
    fn failure(&self) -> Option<Absence> {
        let mut worst = None;
        for question in &self.questions {
            let State::Failed(unfound) = &question.state else {
                return None;
            };
            let rank = |unfound: &Unfound| match unfound.status {
                Status::Refused | Status::Unreachable => 5,
                Status::Offline => 4,
                Status::NeverSeen if unfound.since > 0 => 3,
                Status::NeverSeen => 2,
                Status::TooMany => 1,
                _ => 0,
            };
            worst = worst.filter(|other| rank(other) >= rank(unfound)).or(Some(*unfound));
        }
        worst.map(absence)
    }

    fn next_timer(&self) -> Instant {
        let questions = self.questions.iter().filter_map(|question| match &question.state {
            State::Asking(at, _) => Some(*at),
            State::Found(named, at, _) => {
                let again = Some(*at).filter(|_| self.greeting.is_some());
                let punch = named.punching.as_ref().and_then(|punching| punching.next_timer());
                punch.into_iter().chain(again).min()
            }
            State::Failed(_) => None,
        });
        let others = self.others_at().into_iter();
        questions
            .chain(others)
            .min()
            .unwrap_or(self.began + LIFE)
            .min(self.began + LIFE)
    }
}

impl Question {
    /// A question that is due now.
    fn new(now: Instant, server: Eid, rng: &mut Generator) -> Self {
        let mut introduction = [0; 8];
        rng.fill(&mut introduction);
        Self {
            server,
            began: now,
            introduction,
            state: State::Asking(now, 0),
            asked: 0,
            ways: 0,
            moves: 0,
            is_put_off: false,
            is_heard: false,
            is_referred: false,
            is_told: false,
        }
    }

    /// The registration with its server.
    fn registration<'a>(&self, all: &'a mut [Registration]) -> Option<&'a mut Registration> {
        all.iter_mut().find(|registration| *registration.eid() == self.server)
    }

    /// Asks behind REGISTER, if that is not answered yet (RCH-41).
    fn ask_early(
        &mut self,
        now: Instant,
        about: About<'_>,
        (host, own): (&mut Host, &Own),
        registration: &mut Registration,
    ) {
        let State::Asking(at, sent @ 0) = &mut self.state else {
            return;
        };
        if now < *at {
            return;
        }
        registration.visit(now);
        let About { eid, greeting } = about;
        let call = || Request {
            instance: own.register.instance,
            rtt: 0,
            introduction: self.introduction,
            eid,
            hello: greeting.map(|greeting| greeting.hello.clone()).unwrap_or_default(),
            key: greeting.and_then(|greeting| greeting.key.clone()),
        };
        if registration.connect(now, host, call) {
            (*at, *sent) = (now + PAUSES.0, 1);
            self.asked += 1;
        }
    }

    /// Sends what is due.
    fn on_timer(
        &mut self,
        now: Instant,
        about: About<'_>,
        registration: &mut Registration,
        rng: &mut Generator,
    ) -> Vec<(Link, Vec<u8>)> {
        let About { eid, greeting } = about;
        let mut packets = Vec::new();
        let is_asking = matches!(self.state, State::Asking(..));
        let (at, sent) = match &mut self.state {
            State::Asking(at, sent) => {
                let failure = registration.failure();
                // Whoever was asked too often has answered.
                let patience = if self.is_heard && !self.is_put_off {
                    LIFE
                } else {
                    PATIENCE
                };
                if now >= *at && (failure.is_some() || now >= self.began + patience) {
                    let silence = match self.is_put_off {
                        true => Status::TooMany,
                        false => Status::NoLease,
                    };
                    let status = failure.map_or(silence, status_of);
                    self.state = State::Failed(Unfound::because(status));
                    return packets;
                }
                (at, sent)
            }
            State::Found(named, at, sent) => {
                let punches = named.punching.as_mut().map(|punching| punching.on_timer(now));
                packets.extend(
                    punches
                        .into_iter()
                        .flatten()
                        .map(|(to, packet)| (turned::way_to(registration, to), packet)),
                );
                if greeting.is_none() {
                    return packets;
                }
                (at, sent)
            }
            State::Failed(_) => return packets,
        };
        if now < *at {
            return packets;
        }
        registration.visit(now);
        let Some((lease, server)) = registration.lease() else {
            // The registration is under way.
            *at = now + Duration::from_millis(50);
            return packets;
        };
        let rtt = lease.rtt().unwrap_or(PAUSES.0);
        let first = (rtt * 2 + Duration::from_millis(100)).clamp(PAUSES.0, PAUSES.1);
        let most = if is_asking { PAUSES.1 } else { FOUND_PAUSE };
        *at = now + (first * 2_u32.saturating_pow((*sent).min(8))).min(most);
        // The server has not answered: LEASE tells whether that is the network's fault (RCH-24).
        if is_asking && *sent > 0 {
            lease.lease_now(now);
        }
        *sent += 1;
        self.asked += 1;
        let hello = greeting.map_or(&[][..], |greeting| &greeting.hello);
        let connect = lease.connect(now, (eid, self.introduction), hello, rng);
        let key = greeting.and_then(|greeting| greeting.key.as_ref());
        let leg = key.map(|key| lease.leg(&self.introduction, key));
        match connect {
            Ok(connect) => packets.extend(std::iter::once(connect).chain(leg).map(|packet| (server, packet))),
            Err(_) => registration.begin_anew(now),
        }
        packets
    }
}

/// Returns whether no other server has to be asked: this one knows the peer, and has asked it.
fn is_final(status: Status) -> bool {
    matches!(status, Status::Refused | Status::Unreachable)
}

/// The status that stands for a registration that has failed.
fn status_of(absence: Absence) -> Status {
    match absence {
        Absence::NotAllowed => Status::NotAllowed,
        Absence::TooMany => Status::TooMany,
        _ => Status::NoLease,
    }
}

#[cfg(test)]
mod tests {
    use super::super::registration::ServerAddress;
    use super::*;

    // spec: RCH-11
    #[test]
    fn a_server_that_was_asked_too_often_has_answered_and_one_that_was_heard_has_more_time() {
        let failure = |is_put_off, is_heard, after| {
            let (now, mut rng) = (Instant::default(), Generator::new(&[1; 32]));
            let eid = Eid::from_public_key(&[7; 32]);
            let mut calls = Calls::default();
            calls.begin(now, (eid, None), (vec![eid], Vec::new()), &mut rng);
            let found = Found {
                introduction: calls.all[0].questions[0].introduction,
                outcome: Err(Unfound::because(Status::TooMany)),
            };
            if is_put_off {
                assert_eq!(calls.on_found(now, &found, true, &mut rng), Answered::Nothing);
            }
            let server = ServerAddress {
                eid,
                addresses: Vec::new(),
                tls: None,
            };
            if is_heard {
                calls.on_heard(&eid);
            }
            let mut registrations = [Registration::new(now, server)];
            calls.on_timer(now + after, &mut registrations, &mut rng, &mut VecDeque::new());
            calls.take_failed().map(|(_, absence, _)| absence)
        };
        assert_eq!(failure(false, false, PATIENCE), Some(Absence::NoServer));
        assert_eq!(failure(true, false, PATIENCE), Some(Absence::TooMany));
        // One that has answered something is there: packets are lost.
        assert_eq!(failure(false, true, PATIENCE), None);
        assert_eq!(failure(false, true, LIFE), Some(Absence::NoServer));
        assert_eq!(failure(true, true, PATIENCE), Some(Absence::TooMany));
    }

    // spec: RCH-12, RCH-14
    #[test]
    fn another_way_takes_the_place_of_the_first_and_the_same_is_named_once() {
        let (now, mut rng) = (Instant::default(), Generator::new(&[1; 32]));
        let eid = Eid::from_public_key(&[7; 32]);
        let mut calls = Calls::default();
        calls.begin(now, (eid, None), (vec![eid], Vec::new()), &mut rng);
        let introduction = calls.all[0].questions[0].introduction;
        let way = |key, handle| Way {
            address: SocketAddr::from(([192, 0, 2, 1], 7000)),
            mapped: 0,
            handle,
            punch_key: [key; 32],
            hold: 0,
        };
        let unfound = |status| Err(Unfound::because(status));
        let mut hears = |outcome| {
            let asked = &mut calls.all[0].questions[0].asked;
            // One CONNECT for each other way.
            *asked = 3;
            calls.on_found(now, &Found { introduction, outcome }, true, &mut rng)
        };
        for (key, handle) in [(1, 1), (2, 1), (2, 2)] {
            let named = Answered::Way(eid, way(key, handle), false);
            assert_eq!(hears(Ok(way(key, handle))), named, "{key}, {handle}");
            assert_eq!(hears(Ok(way(key, handle))), Answered::Nothing);
            assert_eq!(hears(unfound(Status::TooMany)), Answered::Nothing);
            assert_eq!(hears(unfound(Status::NoLease)), Answered::NoLease(eid));
            assert_eq!(hears(Ok(way(key, handle))), Answered::Nothing, "it is not forgotten");
        }
        assert_eq!(
            hears(Ok(way(3, 3))),
            Answered::Nothing,
            "RCH-14: it was asked for three times"
        );
        assert_eq!(hears(unfound(Status::Unreachable)), Answered::Nothing);
        assert_eq!(
            calls.take_failed().map(|(failed, ..)| failed),
            None,
            "it is told when it is due"
        );
    }

    // spec: RCH-12
    #[test]
    fn a_peer_that_moves_before_it_has_answered_is_told_anew_three_times() {
        let (now, mut rng) = (Instant::default(), Generator::new(&[1; 32]));
        let config = sss_proto::Config::default().with(|config| config.seeks = true);
        let mut host = Host::new(config, sss_crypto::StaticKey::from_bytes([7; 32]), [7; 32]);
        let peer = Eid::from_public_key(&sss_crypto::StaticKey::from_bytes([10; 32]).public());
        host.connect(now, peer, ("echo", "1"), &[]).unwrap();
        let greeting = host.introduce(now, &peer, sss_proto::RouteClass::Direct, &[]);
        assert!(greeting.is_some());
        let (mut calls, server) = (Calls::default(), Eid::from_public_key(&[7; 32]));
        calls.begin(now, (peer, greeting), (vec![server], Vec::new()), &mut rng);
        let mut names = Vec::new();
        for port in 7000..7005 {
            let question = &mut calls.all[0].questions[0];
            question.asked += 1;
            names.push(question.introduction);
            let way = Way {
                address: SocketAddr::from(([192, 0, 2, 1], port)),
                mapped: 0,
                handle: 0,
                punch_key: [3; 32],
                hold: 0,
            };
            let introduction = question.introduction;
            let mut hears = |address| {
                let outcome = Ok(Way { address, ..way });
                calls.on_found(now, &Found { introduction, outcome }, true, &mut rng)
            };
            assert_eq!(hears(way.address), Answered::Way(peer, way, true));
            assert_eq!(hears(way.address), Answered::Unanswered(peer, way), "it has not moved");
            hears(SocketAddr::from(([192, 0, 2, 1], port + 1)));
            if port == 7003 {
                break;
            }
        }
        names.push(calls.all[0].questions[0].introduction);
        assert_eq!(names[3], names[4], "enough");
        names.dedup();
        assert_eq!(names.len(), 4, "each time with another introduction");
    }

    // spec: RCH-11
    #[test]
    fn who_is_not_found_is_asked_for_again_often_at_first_and_at_once_when_the_server_is_back() {
        let (now, mut rng) = (Instant::default(), Generator::new(&[1; 32]));
        let eid = Eid::from_public_key(&[7; 32]);
        let mut calls = Calls::default();
        let mut pause = |calls: &mut Calls, now: Instant| {
            let times = calls.all.pop_front().map_or(1, |call| call.times);
            let missing = Missing {
                eid,
                greeting: None,
                times,
            };
            calls.ask_again(now, missing, (vec![eid], Vec::new()), &mut rng);
            calls.next_timer().unwrap().since(now).as_millis()
        };
        let pauses: Vec<_> = (0..10).map(|_| pause(&mut calls, now)).collect();
        assert_eq!(pauses, [500, 500, 500, 500, 1000, 1000, 1000, 1000, 2000, 2000]);
        let now = now + Duration::from_millis(100);
        calls.on_lease_renewed(now, &eid);
        assert_eq!(calls.next_timer(), Some(now));
        assert_eq!(pause(&mut calls, now), 500);
    }
}
