//! Reports on streams for those outside: what each is and waits for, and how far what was written has come.

pub(super) mod delivery;
pub(super) mod info;
pub(super) mod waits;
