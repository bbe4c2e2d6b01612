//! How streams begin and end.

pub(super) mod cause;
