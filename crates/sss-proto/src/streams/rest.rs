//! Memory that is given back when nothing moves.

use super::life::Life;

/// Gives back spare memory. Takes no time for streams that there are.
pub(super) fn rest(life: &mut Life) {
    life.events.rest();
    life.outbox.rest();
    life.scheduler.rest();
    life.flow.rest(life.tree.table.len() > 1);
    life.pool.rest();
    life.ledger.rest();
    life.tree.rest();
    life.incoming.shrink_to_fit();
}

/// Bytes, or numbers of what there is room for, of all that a rest gives back.
#[cfg(test)]
pub(in crate::streams) fn spare(life: &Life) -> [(&'static str, usize); 8] {
    [
        ("events", life.events.spare()),
        ("outbox", life.outbox.spare()),
        ("scheduler", life.scheduler.spare()),
        ("flow", life.flow.spare()),
        ("pool", life.pool.spare()),
        ("table", life.tree.table.memory() + life.tree.lsids.memory()),
        ("ledger", life.ledger.spare()),
        ("incoming", life.incoming.capacity()),
    ]
}
