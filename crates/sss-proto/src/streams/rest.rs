//! Memory that is given back when nothing moves.

use super::life::Life;

/// Gives back spare memory. Takes no time for streams that there are.
pub(super) fn rest(life: &mut Life) {
    life.events.rest();
    life.outbox.rest();
    life.scheduler.rest();
    life.flow.rest();
    life.pool.rest();
    life.tree.rest();
    life.incoming.shrink_to_fit();
}
