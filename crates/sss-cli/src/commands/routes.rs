//! The routes of the peers of a host that serves: told when one is reached by another class of routes.

use std::collections::BTreeMap;
use std::time::Duration;

use sss::{Eid, Host, RouteClass};

use crate::caller::tell_of_route;
use crate::output::Output;

/// Pause between looks.
const PAUSE: Duration = Duration::from_secs(1);

/// Tells of each change, for as long as the host is at work.
pub(crate) async fn watch(host: Host, output: Output) {
    let mut before: BTreeMap<Eid, RouteClass> = BTreeMap::new();
    while !host.is_closed() {
        let peers = host.peers();
        let routes = peers.iter().filter_map(|peer| Some((peer.eid(), peer.info()?.route)));
        let mut now = BTreeMap::new();
        for (eid, route) in routes {
            let class = route.class();
            if before.get(&eid).is_some_and(|known| *known != class) {
                tell_of_route(&eid, route, output);
            }
            now.insert(eid, class);
        }
        before = now;
        tokio::time::sleep(PAUSE).await;
    }
}
