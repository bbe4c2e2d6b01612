//! INIT: how streams become known to the other host (STR-5 to STR-8).

use sss_wire::Code;
use sss_wire::constants::MAX_DEPTH;
use sss_wire::frame::{Init, InitKind};

use super::draft::Draft;
use super::segment::{self, Blocked, Outcome, Plan};
use crate::error::ProtocolError;
use crate::streams::flow::openings;
use crate::streams::life::Life;
use crate::streams::messages::incoming;
use crate::streams::tree::index::ROOT;
use crate::streams::tree::lsids::Found;
use crate::streams::tree::node::{Flags, Node};

/// Decides what INIT of a stream that was not announced says, if there is room to open it.
pub(super) fn prepare(life: &mut Life, index: u32) -> Result<(), Blocked> {
    let table = &mut life.tree.table;
    if table[index].has(Flags::ANNOUNCED) {
        return Ok(());
    }
    let opening = openings::opening(table, index, life.flow.terms()).ok_or(Blocked::Opening(index))?;
    table[index].set_opening(opening);
    if !table[index].is_datagram() {
        life.flow.choose_window(table, index);
    }
    Ok(())
}

/// STR-6: INIT of each ancestor that the peer is not known to know, unless this packet has it already. `Some` if that
/// was not possible.
pub(crate) fn write_ancestors(life: &mut Life, index: u32, draft: &mut Draft<'_, '_>) -> Option<Outcome> {
    let mut chain = [ROOT; MAX_DEPTH as usize];
    let mut len = 0;
    let mut at = life.tree[index].place.parent;
    while !life.tree[at].is_known()
        && let Some(slot) = chain.get_mut(len)
    {
        *slot = at;
        len += 1;
        at = life.tree[at].place.parent;
    }
    chain.iter().take(len).rev().find_map(|at| write(life, *at, draft))
}

/// As [`write_ancestors`], and INIT of the stream itself.
pub(super) fn write_with_ancestors(life: &mut Life, index: u32, draft: &mut Draft<'_, '_>) -> Option<Outcome> {
    write_ancestors(life, index, draft).or_else(|| write(life, index, draft))
}

/// INIT alone, unless this packet has it already. `Some` if that was not possible.
fn write(life: &mut Life, index: u32, draft: &mut Draft<'_, '_>) -> Option<Outcome> {
    if draft.announces(index) {
        return None;
    }
    if let Err(blocked) = prepare(life, index) {
        return Some(Outcome::Blocked(blocked));
    }
    let Some(written) = segment::encode(life, index, &Plan::bare(), draft) else {
        return Some(Outcome::Full);
    };
    segment::note_sent(life, index, written, true, draft);
    None
}

/// INIT of a stream that is new. `None` if it is refused without being kept.
///
/// # Errors
/// If the peer broke a rule.
pub(super) fn on_new(
    life: &mut Life,
    (lsid, ordinal): (u64, u64),
    init: &Init<'_>,
) -> Result<Option<u32>, ProtocolError> {
    life.flow.check_start(init.borrow)?;
    let parent = parent(life, init)?;
    if let Some(parent) = parent {
        check_not_released(&life.tree[parent])?;
    }
    life.tree.lsids.note_opened(ordinal)?;
    let Some(parent) = parent else {
        life.outbox.refusals.put(lsid, Code::PARENT_GONE)?;
        return Ok(None);
    };
    if life.flow.has_too_many() {
        life.outbox.refusals.put(lsid, Code::TOO_MANY)?;
        return Ok(None);
    }
    let names = match init.kind {
        InitKind::TopLevel { service, protocol } => Some(life.tree.names.get(service, protocol)),
        InitKind::Substream => None,
        InitKind::Datagram { size } => return incoming::open(life, (parent, ordinal), size, init).map(Some),
    };
    let depth = life.tree[parent].place.depth.saturating_add(1);
    let mut node = Node::of_peer(parent, depth, ordinal, names);
    node.send.limit = init.credit;
    let index = life.tree.insert(node).index;
    let table = &mut life.tree.table;
    let charge = (init.lender, init.borrow);
    life.flow.charge_peer_opening(table, &mut life.outbox, index, charge)?;
    life.on_heard(parent);
    life.offer(parent, index);
    Ok(Some(index))
}

/// The parent of a stream that is new; `None` if that was retired.
fn parent(life: &Life, init: &Init<'_>) -> Result<Option<u32>, ProtocolError> {
    let error = |text| Err(ProtocolError::new(Code::STREAM_STATE, text));
    match (init.kind, init.parent) {
        (InitKind::TopLevel { .. }, 0) => Ok(Some(ROOT)),
        (InitKind::TopLevel { .. }, _) | (_, 0) => error("kind and parent of a stream do not match"),
        (_, parent) => match life.tree.locate(parent) {
            // STR-34
            Found::Live(index) if life.tree[index].is_datagram() => error("child of a datagram stream"),
            Found::Live(index) => Ok(Some(index)),
            Found::Retired => Ok(None),
            Found::Never => error("child of a stream that was never opened"),
        },
    }
}

/// The peer must not have said that there will be no more children (STR-72).
fn check_not_released(parent: &Node) -> Result<(), ProtocolError> {
    if parent.has(Flags::PEER_RELEASED) {
        return Err(ProtocolError::new(
            Code::STREAM_STATE,
            "child of a stream that its sender had let go of",
        ));
    }
    Ok(())
}
