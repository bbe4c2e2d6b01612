//! Introductions, as packets have it: CONNECT, LEG, FOUND and NOTIFY (RCH-11, RCH-12).

use sss_proto::{Instant, Network, Route};
use sss_wire::Eid;
use sss_wire::long;
use sss_wire::reach::bodies::{Connect, Found, Notify, Status, Unfound, Way};
use sss_wire::reach::records::Call;
use sss_wire::reach::{self, Kind, Leg, Sealed};

use super::crowds::Caller;
use super::introductions::{Introduction, hold};
use super::leases::{Deed, Instance, Lease, Message, Taken};
use super::relay::End;
use super::{Opened, Registrar};
use crate::Dropped;
use crate::keys::{From, LeaseKey};
use crate::path::{NOWHERE, Path};

/// The introduction, if this callee was told of it.
///
/// # Errors
/// Why nothing comes of it, if the caller was told so.
fn told_of<'a>(known: Option<&'a Introduction>, callee: &Instance) -> Result<Option<&'a Introduction>, Unfound> {
    let told = known.filter(|known| known.callee == *callee);
    match told.and_then(Introduction::failure) {
        Some(status) => Err(Unfound::because(status)),
        None => Ok(told),
    }
}

/// Bytes of the plaintext of NOTIFY that are not HELLO.
const NOTIFY_FIELDS: usize = 16 + reach::ADDRESS + 2 + 4 + 32 + 4;

impl Registrar {
    /// The callee of an introduction has heard of it.
    pub(super) fn on_answer(&mut self, now: Instant, callee: &Instance, introduction: &[u8; 8], status: Status) {
        let is_refused = status != Status::Ok;
        let answered = self.introductions.on_answer(callee, (introduction, is_refused));
        if let Some(name) = answered.map(|(name, _)| name).filter(|_| is_refused) {
            self.tell(now, &name, Status::Refused);
        }
    }

    /// CONNECT (RCH-12).
    pub(super) fn on_connect(&mut self, now: Instant, from: Path, sealed: &Sealed<'_>) -> Result<(), Dropped> {
        let Opened {
            bearer,
            made,
            key,
            plaintext,
        } = self.open(sealed)?;
        let connect = Connect::decode(&plaintext)?;
        let message = Message {
            from,
            made,
            counter: connect.counter,
            rtt: connect.rtt,
            presence: None,
            is_veiled: None,
            mapped: None,
        };
        let taken = match connect.boot == self.boot {
            true => self.leases.take(now, &bearer, message),
            false => Taken::Elsewhere,
        };
        let outcome = match taken {
            Taken::Old => return Err(Dropped::Old),
            Taken::Renewed { .. } => self.introduce(now, (bearer.instance(), from), &connect),
            Taken::NoRoom => Err(Unfound::because(Status::TooMany)),
            Taken::Elsewhere | Taken::Stale | Taken::Left | Taken::Superseded => Err(Unfound::because(Status::NoLease)),
        };
        let caller = bearer.instance();
        let outcome = match outcome {
            Ok(way) => Ok(way),
            Err(unfound) => match self.refer(now, &caller, &connect.eid, unfound, false) {
                Ok(unfound) => Err(unfound),
                // The answer goes when the directory has answered.
                Err(_) => {
                    if let Some(directory) = &mut self.directory {
                        directory.note_caller(connect.eid, caller, connect.introduction);
                    }
                    return Ok(());
                }
            },
        };
        if outcome.is_err() {
            self.stats.refused = self.stats.refused.saturating_add(1);
        }
        let found = Found {
            introduction: connect.introduction,
            outcome,
        };
        let packet = key.seal(Kind::Found, None, &mut self.rng, |_| found.encode());
        self.send(from, packet);
        Ok(())
    }

    /// CONNECT on a stream, of a host whose channel has this path (RCH-41): its address is validated.
    pub(super) fn on_call(&mut self, now: Instant, (eid, path): (&Eid, Path), call: &Call) -> Result<Way, Unfound> {
        let caller = Instance {
            eid: *eid,
            name: call.instance,
        };
        let lease = self.leases.get(now, &caller);
        if lease.is_none_or(|lease| lease.path.link != path.link) {
            return Err(Unfound::because(Status::NoLease));
        }
        let connect = Connect {
            boot: self.boot,
            counter: 0,
            rtt: call.rtt,
            introduction: call.introduction,
            eid: call.eid,
            hello: &call.hello,
        };
        let way = self.introduce(now, (caller, path), &connect)?;
        if let Some(key) = &call.key {
            self.introductions.put_leg(&call.introduction, key);
        }
        self.on_timer(now);
        Ok(way)
    }

    /// Begins an introduction, or goes on with it. Returns the way to the callee.
    fn introduce(
        &mut self,
        now: Instant,
        (caller, from): (Instance, Path),
        connect: &Connect<'_>,
    ) -> Result<Way, Unfound> {
        let known = self.introductions.get(&connect.introduction);
        let told = known.and_then(|known| self.leases.get(now, &known.callee));
        let has_answered = known.is_some_and(Introduction::is_answered);
        let lease = match (told, self.leases.find(now, &connect.eid, Some(&caller))) {
            (Some(told), _) if has_answered => told,
            // Whoever has not answered may be gone: one that has registered since takes its place.
            (_, Ok(found)) => found,
            (Some(told), Err(_)) => told,
            // One that hides, and has called this caller, wants to be found again by it when that has moved.
            (None, Err(unfound)) => self.relayed_peer(now, &caller, &connect.eid).ok_or(unfound)?,
        };
        let (to, rtt) = (lease.path, lease.rtt);
        let callers = self.leases.get(now, &caller);
        // Neither has any use for the other's address if one of them is reached by relays alone.
        let is_veiled = lease.is_veiled || callers.is_none_or(|callers| callers.is_veiled);
        let told = |path: Path, lease: Option<&Lease>| match lease.filter(|_| !is_veiled) {
            Some(lease) => (path.reachable(), lease.mapped_of_others()),
            None => (NOWHERE, 0),
        };
        let (callees, callers) = (told(to, Some(lease)), told(from, callers));
        let callee = Instance {
            eid: connect.eid,
            name: lease.instance,
        };
        if known.is_some_and(|known| known.caller != caller || known.callee.eid != callee.eid) {
            return Err(Unfound::because(Status::TooMany));
        }
        let told = told_of(known, &callee)?;
        // If the one that was told of it is gone, another instance is.
        if let Some(way) = told.map(|known| known.way) {
            let (handle, others) = self.handles(now, (caller, from), (callee, to));
            // A caller that has moved since begins anew: what the callee was told leads nowhere.
            if (way.address, way.handle) == (callers.0, others) {
                if self.introductions.ask_again(now, &connect.introduction) {
                    self.notify(now, &connect.introduction);
                }
                return Ok(Way {
                    address: callees.0,
                    mapped: callees.1,
                    handle,
                    hold: hold(connect.rtt, rtt),
                    ..way
                });
            }
        }
        let network = Network::from(&Route::over(from.link));
        if !self.may_begin(now, (caller.eid, network), connect) {
            return Err(Unfound::because(Status::TooMany));
        }
        let (handle, others) = self.handles(now, (caller, from), (callee, to));
        let (mut name, mut punch_key) = ([0; 8], [0; 32]);
        self.rng.fill(&mut name);
        self.rng.fill(&mut punch_key);
        let way = Way {
            address: callers.0,
            mapped: callers.1,
            handle: others,
            punch_key,
            hold: hold(rtt, connect.rtt),
        };
        let introduction = Introduction::new(now, (caller, network), callee, name, way, connect.hello.to_vec());
        let pairs = self.config.quotas.pairs;
        self.introductions.begin(now, connect.introduction, introduction, pairs);
        self.stats.introduced = self.stats.introduced.saturating_add(1);
        Ok(Way {
            address: callees.0,
            mapped: callees.1,
            handle,
            punch_key,
            hold: hold(connect.rtt, rtt),
        })
    }

    /// Returns whether one more introduction may begin, and counts it for both hosts if so.
    fn may_begin(&mut self, now: Instant, caller: Caller, connect: &Connect<'_>) -> bool {
        let room = reach::plaintext_room(long::PREFIX).saturating_sub(NOTIFY_FIELDS);
        let is_sane = connect.introduction != [0; 8] && connect.hello.len() <= room;
        let (pair, pairs) = ((caller.0, connect.eid), self.config.quotas.pairs);
        let part = self.introductions.part(now, &connect.eid, caller);
        is_sane
            && self.introductions.may_begin(now, pair, pairs)
            // What comes to nothing does not count.
            && self.leases.has_room(now, &connect.eid, (Deed::Notice, part))
            && self.leases.may(now, &caller.0, Deed::Call)
            && self.leases.may(now, &connect.eid, Deed::Notice)
    }

    /// The host that keeps a relayed way to this caller, if there is one.
    fn relayed_peer(&self, now: Instant, caller: &Instance, eid: &Eid) -> Option<&Lease> {
        let relay = self.relay.as_ref()?;
        let mut leases = self.leases.living(now, eid);
        leases.find(|lease| {
            let other = Instance {
                eid: *eid,
                name: lease.instance,
            };
            relay.is_kept_by(now, &other, caller)
        })
    }

    /// The handles of caller and callee; zeros if nothing is relayed.
    fn handles(&mut self, now: Instant, caller: (Instance, Path), callee: (Instance, Path)) -> (u32, u32) {
        let end = |(instance, path): (Instance, Path)| End {
            instance,
            address: path.end(),
        };
        let relay = self.relay.as_mut();
        let handles = relay.and_then(|relay| relay.open(now, end(caller), end(callee), &mut self.rng));
        handles.unwrap_or_default()
    }

    /// LEG of a caller (RCH-11).
    pub(super) fn on_leg(&mut self, now: Instant, from: Path, leg: &Leg<'_>) -> Result<(), Dropped> {
        let introduction = self.introductions.get(leg.introduction).ok_or(Dropped::Unknown)?;
        let caller = introduction.caller;
        let lease = self.leases.get(now, &caller).ok_or(Dropped::Unknown)?;
        let key = self.tokens.lease_key(&caller);
        if lease.path.link != from.link || !key.is_genuine(From::Host, leg) {
            return Err(Dropped::Unauthentic);
        }
        let Some(introduction) = self.introductions.on_leg(leg.introduction, leg.key) else {
            return Ok(());
        };
        let (callee, name) = (introduction.callee, introduction.name);
        if let Some((path, key)) = self.registered(now, &callee) {
            self.send(path, key.leg(From::Server, &name, leg.key));
        }
        Ok(())
    }

    /// The way to a registered host, and the key of its lease.
    pub(super) fn registered(&self, now: Instant, instance: &Instance) -> Option<(Path, LeaseKey)> {
        let lease = self.leases.get(now, instance)?;
        Some((lease.path, self.tokens.lease_key(instance)))
    }

    /// Tells the callee of an introduction.
    pub(super) fn notify(&mut self, now: Instant, name: &[u8; 8]) {
        let Some(introduction) = self.introductions.get(name) else {
            return;
        };
        let Some((path, key)) = self.registered(now, &introduction.callee) else {
            return;
        };
        let notify = Notify {
            boot: self.boot,
            introduction: introduction.name,
            way: introduction.way,
            hello: &introduction.hello,
        };
        let packet = key.seal(Kind::Notify, None, &mut self.rng, |_| notify.encode());
        let leg = introduction
            .leg
            .as_ref()
            .map(|leg| key.leg(From::Server, &introduction.name, leg));
        self.stats.notified = self.stats.notified.saturating_add(1);
        self.send(path, packet);
        if let Some(leg) = leg {
            self.send(path, leg);
        }
    }

    /// Tells the caller of an introduction that nothing comes of it.
    pub(super) fn tell(&mut self, now: Instant, name: &[u8; 8], status: Status) {
        let caller = self.introductions.get(name).map(|introduction| introduction.caller);
        let Some((path, key)) = caller.and_then(|caller| self.registered(now, &caller)) else {
            return;
        };
        let found = Found {
            introduction: *name,
            outcome: Err(Unfound::because(status)),
        };
        let packet = key.seal(Kind::Found, None, &mut self.rng, |_| found.encode());
        self.send(path, packet);
    }
}
