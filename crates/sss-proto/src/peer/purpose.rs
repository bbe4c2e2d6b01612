//! Reasons for attempts, and the routes by which each goes.

use crate::route::{Link, Route, RouteClass};

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
    /// No channel stands by through a relay, or through another one than that at the end of this link, which the
    /// carrier leads through (MIG-29, MIG-31).
    Standby(Option<Link>),
}

impl Purpose {
    /// Returns whether an attempt for it gives way to another one: without that one there is no way to the peer at all,
    /// and it may go by other routes.
    pub(super) fn gives_way_to(self, other: Self) -> bool {
        let is_needed = |purpose| matches!(purpose, Self::First | Self::Trouble | Self::Move);
        is_needed(other) && !is_needed(self)
    }

    /// Returns whether an attempt for it goes by that route.
    pub(super) fn is_served_by(self, route: &Route) -> bool {
        match self {
            Self::First | Self::Trouble | Self::Move => true,
            Self::Renewal(class) => route.class() == class,
            Self::Upgrade(from) => route.class() < from,
            Self::Standby(carrier) => route.class() == RouteClass::Relay && carrier != Some(route.link),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // spec: MIG-11
    #[test]
    fn what_is_not_needed_gives_way_to_what_is() {
        let class = RouteClass::Direct;
        let needless = [Purpose::Renewal(class), Purpose::Upgrade(class), Purpose::Standby(None)];
        let needed = [Purpose::First, Purpose::Trouble, Purpose::Move];
        for one in needless {
            assert!(needed.iter().all(|other| one.gives_way_to(*other)), "{one:?}");
            assert!(needless.iter().all(|other| !one.gives_way_to(*other)), "{one:?}");
        }
        for one in needed {
            let mut all = needed.iter().chain(&needless);
            assert!(all.all(|other| !one.gives_way_to(*other)), "{one:?}");
        }
    }
}
