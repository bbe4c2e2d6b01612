//! From the status of a server to the error of an application.

use std::time::Duration;

use sss_proto::Absence;
use sss_wire::reach::bodies::{Status, Unfound};

/// The error for a host that is not to be had.
pub(crate) fn absence(unfound: Unfound) -> Absence {
    match unfound.status {
        Status::NeverSeen if unfound.since > 0 => Absence::NotYet(Duration::from_secs(u64::from(unfound.since))),
        Status::NeverSeen => Absence::NeverSeen,
        Status::Offline => Absence::Offline(Duration::from_secs(u64::from(unfound.since))),
        Status::Refused => Absence::Refused,
        Status::Unreachable => Absence::Unreachable,
        Status::TooMany => Absence::TooMany,
        Status::NotAllowed => Absence::NotAllowed,
        Status::Elsewhere => Absence::NeverSeen,
        Status::NoLease | Status::Ok => Absence::NoServer,
    }
}
