//! Reasons for attempts, and the routes by which each goes.

use crate::route::{Route, RouteClass};

/// Reasons why a channel is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// There is no tree yet.
    First,
    /// The carrier does not work, or there is none.
    Trouble,
    /// The address of this host changed.
    Move,
    /// The carrier is old, or the channel of this class that stands by.
    Renewal(RouteClass),
    /// The carrier is not of the best class: the routes that are better than that are tried (MIG-28).
    Upgrade(RouteClass),
    /// The carrier is direct, and no channel through a relay stands by (MIG-29).
    Standby,
}

impl Purpose {
    /// Returns whether an attempt for it goes by that route.
    pub(super) fn is_served_by(self, route: &Route) -> bool {
        match self {
            Self::First | Self::Trouble | Self::Move => true,
            Self::Renewal(class) => route.class() == class,
            Self::Upgrade(from) => route.class() < from,
            Self::Standby => route.class() == RouteClass::Relay,
        }
    }
}
