//! Peers that are asked for at servers that others have named (RCH-44).

use sss_crypto::Generator;
use sss_proto::Instant;
use sss_wire::Eid;
use sss_wire::reach::bodies::Unfound;

use super::{Call, Calls, Question, State};

/// A peer that is asked for at a server that another one has named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::client) struct Referred {
    pub(in crate::client) peer: Eid,
    pub(in crate::client) server: Eid,
}

impl Calls {
    /// The peer of an introduction, and whether it is asked for at a server that no other one has named.
    pub(in crate::client) fn peer(&self, introduction: &[u8; 8]) -> Option<(Eid, bool)> {
        self.all.iter().find_map(|call| {
            let mut questions = call.questions.iter();
            let question = questions.find(|question| question.introduction == *introduction)?;
            Some((call.eid, !question.is_referred))
        })
    }

    /// The peer of an introduction is asked for at another server too.
    pub(in crate::client) fn refer(
        &mut self,
        now: Instant,
        (introduction, server): (&[u8; 8], Eid),
        rng: &mut Generator,
    ) {
        let is_it = |call: &&mut Call| call.questions.iter().any(|other| other.introduction == *introduction);
        let Some(call) = self.all.iter_mut().find(is_it) else {
            return;
        };
        if !call.questions.iter().any(|question| question.server == server) {
            call.others.retain(|other| *other != server);
            call.began = now;
            call.questions.push(Question {
                is_referred: true,
                ..Question::new(now, server, rng)
            });
        }
    }

    /// A server that was named by another and is of no use.
    pub(in crate::client) fn take_stale(&mut self) -> Option<(Referred, Unfound)> {
        self.stale.pop_front()
    }
}

impl Call {
    /// Servers that others have named and that have just failed.
    pub(super) fn take_stale(&mut self) -> Vec<(Referred, Unfound)> {
        let peer = self.eid;
        let untold = self
            .questions
            .iter_mut()
            .filter(|question| !question.is_told && question.is_referred);
        let stale = untold.filter_map(|question| match &question.state {
            State::Failed(unfound) => {
                question.is_told = true;
                let server = question.server;
                Some((Referred { peer, server }, *unfound))
            }
            _ => None,
        });
        stale.collect()
    }
}
