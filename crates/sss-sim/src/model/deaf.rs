//! Applications that take nothing in at present, and whether all others hear what is for them.

use std::collections::{BTreeMap, BTreeSet};

use super::flows::{End, Flow};
use super::streams::Streams;
use super::{EndId, FlowId, Model, Opening};
use crate::world::HostIndex;

/// Applications that take nothing in at present.
#[derive(Clone, Debug, Default)]
pub struct Deaf {
    /// Ends whose holders read, accept and take nothing.
    pub ends: BTreeSet<EndId>,
    /// Openers' ends of streams to services that accept nothing.
    pub unwanted: BTreeSet<EndId>,
    /// Openers' ends of streams that nobody gave up: they count each for itself.
    pub sure: BTreeSet<EndId>,
}

/// Standing of a flow with its reader.
enum Hearing {
    /// It was read, nobody has to read it, or only the deaf could.
    Settled,
    /// Its reader, or the one who is to accept it, takes in what comes, and has not got all.
    Missing,
    /// The same, but its reader may be one that has gone before anybody knew what it read.
    Nameless,
}

impl Deaf {
    /// Counts how many finished flows have not reached readers who want them, and the first of these. What waits for
    /// those who are deaf counts nothing, nor what is below it.
    pub fn unheard(&self, model: &Model) -> (usize, Option<String>) {
        let streams = &model.streams;
        let mut by_pair: BTreeMap<(HostIndex, HostIndex), Vec<FlowId>> = BTreeMap::new();
        let mut open = Vec::new();
        for (id, flow) in &streams.flows.flows {
            match self.hearing(streams, flow) {
                Hearing::Settled => {}
                Hearing::Missing => open.push(*id),
                Hearing::Nameless => {
                    let writer = &streams.flows.ends[flow.writer.0];
                    by_pair.entry((writer.host, writer.peer)).or_default().push(*id);
                }
            }
        }
        for ((from, to), flows) in by_pair {
            let nameless = self.nameless(streams, to, from) + streams.nameless_gone(to, from);
            open.extend(flows.into_iter().skip(nameless));
        }
        let first = open
            .first()
            .map(|id| format!("flow {id:x} is not heard: {:?}", streams.flows.flows[id]));
        (open.len(), first)
    }

    fn hearing(&self, streams: &Streams, flow: &Flow) -> Hearing {
        if streams.is_excused(flow) {
            return Hearing::Settled;
        }
        match flow.reader {
            Some(reader) if self.ends.contains(&reader) || streams.is_settled(reader) => Hearing::Settled,
            Some(_) => Hearing::Missing,
            None if self.sure.contains(&flow.writer) => Hearing::Missing,
            None if self.will_be_accepted(streams, flow.writer) => Hearing::Nameless,
            None => Hearing::Settled,
        }
    }

    /// Returns whether somebody is sure to accept the stream of an end.
    fn will_be_accepted(&self, streams: &Streams, end: EndId) -> bool {
        let state = &streams.flows.ends[end.0];
        match (state.opening, state.parent) {
            (Opening::Substream, Some(parent)) => {
                let acceptor = streams.flows.opposite(parent);
                acceptor.is_some_and(|end| !self.ends.contains(&end))
            }
            _ => !self.unwanted.contains(&end),
        }
    }

    /// Counts how many deaf ends of `host` towards `peer` have not read enough to know which flow they read.
    fn nameless(&self, streams: &Streams, host: HostIndex, peer: HostIndex) -> usize {
        let is_nameless = |(index, e): &(usize, &End)| {
            e.input.is_none() && self.ends.contains(&EndId(*index)) && (e.host, e.peer) == (host, peer)
        };
        streams.flows.ends.iter().enumerate().filter(is_nameless).count()
    }
}
