//! Datagrams (STR-32 to STR-40): messages of any size on a stream.
//!
//! - [`outgoing`]: what the application sends is a node of the tree, a child of its stream, until it has gone out
//!   without state or is settled as a stream;
//! - [`line`]: plain ones wait in line behind one that is a node;
//! - [`incoming`]: what arrives, in either form, waits in the [`mailbox`] of its stream;
//! - [`ledger`]: what is known of all of them; [`books`]: its entries; [`limits`]: what bounds them; [`options`]: what
//!   can be asked for, and is counted; [`deadlines`]: when those that were not delivered are given up.
//!
//! A datagram stream is a stream like any other for everything that is not said here: INIT, data, FIN, RESET, STOP,
//! CREDIT. Each frame that has something else to say of one is sent here at its door.

mod books;
mod deadlines;
pub(super) mod incoming;
pub(super) mod ledger;
mod limits;
pub(super) mod line;
pub(super) mod mailbox;
pub(super) mod options;
pub(super) mod outgoing;
