//! Hosts that other servers know: what the directory is asked, and what becomes of the answer (RCH-44, RCH-45).

use std::net::SocketAddr;

use sss_proto::Instant;
use sss_wire::Eid;
use sss_wire::reach::Kind;
use sss_wire::reach::bodies::{Elsewhere, Found, Status, Unfound};
use sss_wire::reach::records::{Entries, Register, Search, Visibility};

use super::Registrar;
use super::directory::{self, Answer, Directory, DirectoryAnswer, DirectoryOrder};
use super::leases::{Deed, Instance};

/// The answer is not there yet.
pub(super) struct Wait;

impl Registrar {
    /// Other servers have a directory in common with this one, which others reach at that address.
    pub(crate) fn open_directory(&mut self, own: Eid, address: SocketAddr) {
        let own = Elsewhere { server: own, address };
        self.directory = directory::is_public(address).then(|| Directory::new(own));
    }

    /// The next thing that is to be done in the directory.
    pub(crate) fn poll_directory_order(&mut self, now: Instant) -> Option<DirectoryOrder> {
        loop {
            let directory = self.directory.as_mut()?;
            if let Some(order) = directory.poll_order() {
                return Some(order);
            }
            let eid = directory.backlog.pop()?;
            self.publish(now, &eid, false);
        }
    }

    /// Returns whether something is to be done in the directory.
    pub(crate) fn has_directory_orders(&self) -> bool {
        self.directory.as_ref().is_some_and(Directory::has_orders)
    }

    /// The directory has answered.
    pub(crate) fn on_directory(&mut self, now: Instant, answers: Vec<DirectoryAnswer>) {
        for answer in answers {
            let is_back = answer == DirectoryAnswer::Up;
            if let Some(directory) = &mut self.directory {
                directory.on_answer(now, answer);
                if is_back {
                    directory.backlog = self.leases.visible(now);
                }
            }
        }
        self.answer_callers(now);
    }

    /// Tells the callers that have waited for the directory.
    pub(super) fn answer_callers(&mut self, now: Instant) {
        let done = self.directory.as_mut().map(Directory::take_callers);
        for (callee, caller, introduction) in done.unwrap_or_default() {
            let Some((path, key)) = self.registered(now, &caller) else {
                continue;
            };
            // It may have come here since: then CONNECT finds it when it is repeated.
            let Err(unfound) = self.leases.find(now, &callee, Some(&caller)) else {
                continue;
            };
            let Ok(unfound) = self.refer(now, &caller, &callee, unfound, true) else {
                continue;
            };
            let found = Found {
                introduction,
                outcome: Err(unfound),
            };
            let packet = key.seal(Kind::Found, None, &mut self.rng, |_| found.encode());
            self.send(path, packet);
        }
    }

    /// Answer to a caller whose host is not here: that another server knows it, perhaps.
    ///
    /// # Errors
    /// If that is not known yet.
    pub(super) fn refer(
        &mut self,
        now: Instant,
        caller: &Instance,
        callee: &Eid,
        unfound: Unfound,
        is_counted: bool,
    ) -> Result<Unfound, Wait> {
        let is_away = matches!(unfound.status, Status::NeverSeen | Status::Offline);
        let follows = self.leases.get(now, caller).is_some_and(|lease| lease.follows());
        let Some(directory) = self.directory.as_mut().filter(|_| is_away && follows) else {
            return Ok(unfound);
        };
        if !is_counted && !directory.remembers(callee) && !self.leases.may(now, &caller.eid, Deed::Lookup) {
            return Ok(Unfound::because(Status::TooMany));
        }
        match directory.find(now, callee) {
            Answer::Wait => Err(Wait),
            Answer::Known(Some(other)) => {
                directory.stats.referred = directory.stats.referred.saturating_add(1);
                Ok(Unfound::elsewhere(other))
            }
            Answer::Known(None) | Answer::Unavailable => Ok(unfound),
        }
    }

    /// Hosts under a word: those of this server, and of the others that share the directory.
    ///
    /// # Errors
    /// If they are not known yet.
    pub(super) fn search(&mut self, now: Instant, search: &Search) -> Result<Entries, Wait> {
        let mut own = self.leases.search(now, search);
        let count = search.count.min(self.config.quotas.entries);
        let Some(directory) = &mut self.directory else {
            return Ok(own);
        };
        let search = Search {
            count,
            ..search.clone()
        };
        let listed = match directory.list(now, &search) {
            Answer::Wait => return Err(Wait),
            Answer::Unavailable => {
                own.is_partial = true;
                return Ok(own);
            }
            Answer::Known(listed) => listed,
        };
        // Where one of the two has more, nothing is known of what is behind its last.
        let end = [own.next, listed.end].into_iter().flatten().min();
        let mut all: std::collections::BTreeMap<Eid, String> = listed.hosts.into_iter().collect();
        all.extend(own.entries);
        let within = all.into_iter().filter(|(eid, _)| end.is_none_or(|end| *eid <= end));
        let mut entries: Vec<(Eid, String)> = within.collect();
        let is_cut = entries.len() > usize::from(count);
        entries.truncate(count.into());
        let last = entries.last().map(|(eid, _)| *eid);
        Ok(Entries {
            is_partial: own.is_partial,
            next: if is_cut { last } else { end },
            entries,
        })
    }

    /// A host leases here, and wants to be found perhaps: the others are told, at a bounded pace.
    pub(super) fn publish(&mut self, now: Instant, eid: &Eid, is_new: bool) {
        let Some(directory) = &mut self.directory else {
            return;
        };
        match self.leases.statement(now, eid) {
            Some(register) if directory.is_due(now, eid, is_new) => directory.put(now, *eid, register),
            Some(_) => {}
            None => directory.remove(eid),
        }
    }
}

/// Statement that a host that is found makes of itself.
pub(super) fn statement(visibility: Visibility, words: &str, profile: &str) -> Register {
    Register {
        visibility,
        words: words.to_owned(),
        profile: profile.to_owned(),
        ..Register::default()
    }
}
