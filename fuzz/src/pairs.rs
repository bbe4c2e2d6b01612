//! The targets `host` and `migration`, with pairs of hosts that are made once.

#![allow(unsafe_code, reason = "pairs are put back as they were")]

use std::cell::RefCell;

use crate::host::{Instructions, Program, Start, World};
use crate::kept::Kept;

thread_local! {
    static PAIRS: RefCell<Vec<(Start, Kept<World>)>> = const { RefCell::new(Vec::new()) };
}

/// Runs an input as [`host`](crate::host::host) does.
pub fn host(data: &[u8]) {
    run(Instructions::Host, data);
}

/// Runs an input as [`migration`](crate::host::migration) does.
pub fn migration(data: &[u8]) {
    run(Instructions::Migration, data);
}

/// Makes all pairs. What an input covers is then the same, whichever comes first.
pub fn prepare() {
    // What is made once for all is not to be in a region.
    Start::all_established().for_each(|start| start.world().run(Instructions::Host, &mut Program::new(&[])));
    // SAFETY: what these hosts leave behind elsewhere is a buffer, which is there by now, and what `World::run` takes
    // back at its end.
    let pairs = Start::all_established().map(|start| (start, unsafe { Kept::new(|| start.world()) }));
    let pairs = pairs.collect();
    PAIRS.set(pairs);
}

fn run(instructions: Instructions, data: &[u8]) {
    let mut program = Program::new(data);
    let start = Start::of(&mut program);
    PAIRS.with_borrow_mut(|pairs| match pairs.iter_mut().find(|(pair, _)| *pair == start) {
        Some((_, kept)) => kept.with(|world| world.run(instructions, &mut program)),
        None => start.world().run(instructions, &mut program),
    });
}
