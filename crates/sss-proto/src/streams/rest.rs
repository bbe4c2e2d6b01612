//! Memory that is given back when nothing moves.

use super::Streams;

/// Gives back spare memory. Takes no time for streams that there are.
pub(crate) fn rest(streams: &mut Streams) {
    let life = &mut streams.life;
    life.events.rest();
    life.outbox.rest();
    life.scheduler.rest();
    life.flow.rest();
    life.pool.rest();
    life.tree.rest();
    life.incoming.shrink_to_fit();
    streams.answers.shrink_to_fit();
    streams.announced = Vec::new();
}
