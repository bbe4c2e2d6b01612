//! Knowledge that channels that are gone had of the paths to peers (REC-15).

use std::collections::BTreeMap;
use std::net::IpAddr;

use sss_wire::Eid;

use crate::channel::{Path, SavedPath};
use crate::route::Route;
use crate::time::Instant;

/// Paths of which something is kept, at most. Of more, the one is forgotten that was noted first.
const MAX_PATHS: usize = 1024;

/// Peer at the end of a path, and its two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ends {
    peer: Eid,
    route: Route,
    local: Option<IpAddr>,
}

/// Paths to peers, as the last channel there saw them. Each is given out once: whoever takes it is to find out anew.
#[derive(Debug, Default)]
pub(crate) struct SavedPaths {
    /// With the number of the note.
    paths: BTreeMap<Ends, (u64, SavedPath)>,
    by_age: BTreeMap<u64, Ends>,
    noted: u64,
}

impl Ends {
    fn new(peer: Eid, path: &Path) -> Self {
        Self {
            peer,
            route: path.route,
            local: path.local,
        }
    }
}

impl SavedPaths {
    /// Notes what was found out about a path to a peer, in place of what was known, unless that is newer.
    pub(crate) fn note(&mut self, peer: Eid, path: &Path, saved: SavedPath) {
        let ends = Ends::new(peer, path);
        if self.paths.get(&ends).is_some_and(|(_, known)| known.at > saved.at) {
            return;
        }
        self.forget(&ends);
        if self.paths.len() >= MAX_PATHS
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.paths.remove(&oldest);
        }
        self.noted += 1;
        self.paths.insert(ends, (self.noted, saved));
        self.by_age.insert(self.noted, ends);
    }

    /// Takes what is known of a path to a peer, unless it is too old to be believed.
    pub(crate) fn take(&mut self, now: Instant, peer: Eid, path: &Path) -> Option<SavedPath> {
        let saved = self.forget(&Ends::new(peer, path))?;
        (!saved.is_outdated(now)).then_some(saved)
    }

    /// This host has moved: paths that begin where it was are not what they were.
    pub(crate) fn on_network_change(&mut self, mut has_moved: impl FnMut(&Route, Option<IpAddr>) -> bool) {
        self.paths.retain(|ends, _| !has_moved(&ends.route, ends.local));
        self.by_age.retain(|_, ends| self.paths.contains_key(ends));
    }

    fn forget(&mut self, ends: &Ends) -> Option<SavedPath> {
        let (number, saved) = self.paths.remove(ends)?;
        self.by_age.remove(&number);
        Some(saved)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// As REC-15 says.
    const LIFETIME: Duration = Duration::from_secs(3600);

    fn peers() -> [Eid; 2] {
        [1, 2].map(|byte| Eid::from_public_key(&[byte; 32]))
    }

    fn path(port: u16, local: Option<[u8; 4]>) -> Path {
        Path {
            route: Route::udp(([192, 0, 2, 1], port).into()),
            local: local.map(IpAddr::from),
        }
    }

    fn saved(at: Instant, window: u64) -> SavedPath {
        SavedPath {
            window,
            rate: 20 * window,
            rtt: Duration::from_millis(50),
            at,
        }
    }

    // spec: REC-15
    #[test]
    fn what_is_known_is_of_one_peer_and_path_and_given_out_once() {
        let now = Instant::from_nanos(1);
        let peers = peers();
        let mut paths = SavedPaths::default();
        let ours = path(1, Some([10, 0, 0, 1]));
        paths.note(peers[0], &ours, saved(now, 1));
        paths.note(peers[0], &ours, saved(now, 2));
        for (peer, path) in [
            (peers[1], ours),
            (peers[0], path(2, Some([10, 0, 0, 1]))),
            (peers[0], path(1, Some([10, 0, 0, 2]))),
            (peers[0], path(1, None)),
        ] {
            assert_eq!(paths.take(now, peer, &path), None, "{path:?}");
        }
        assert_eq!(paths.take(now, peers[0], &ours), Some(saved(now, 2)));
        assert_eq!(paths.take(now, peers[0], &ours), None);
    }

    // spec: REC-15
    #[test]
    fn what_was_found_out_earlier_takes_the_place_of_nothing_newer() {
        let now = Instant::from_nanos(1);
        let peers = peers();
        let newer = saved(now + Duration::from_secs(1), 2);
        for order in [[saved(now, 1), newer], [newer, saved(now, 1)]] {
            let mut paths = SavedPaths::default();
            for saved in order {
                paths.note(peers[0], &path(1, None), saved);
            }
            assert_eq!(paths.take(newer.at, peers[0], &path(1, None)), Some(newer));
            assert!(paths.paths.is_empty() && paths.by_age.is_empty());
        }
    }

    // spec: REC-15
    #[test]
    fn what_is_known_is_believed_for_an_hour() {
        let now = Instant::from_nanos(1);
        let peers = peers();
        let later = now + LIFETIME + Duration::from_nanos(1);
        let mut paths = SavedPaths::default();
        paths.note(peers[0], &path(1, None), saved(now, 1));
        paths.note(peers[1], &path(1, None), saved(now, 1));
        assert!(paths.take(now + LIFETIME, peers[0], &path(1, None)).is_some());
        assert_eq!(paths.take(later, peers[1], &path(1, None)), None);
    }

    // spec: REC-15
    #[test]
    fn of_many_paths_the_first_are_forgotten() {
        let now = Instant::from_nanos(1);
        let peers = peers();
        let mut paths = SavedPaths::default();
        let more = 10;
        for port in 0..MAX_PATHS as u16 + more {
            paths.note(peers[0], &path(port, None), saved(now, 1));
        }
        assert_eq!((paths.paths.len(), paths.by_age.len()), (MAX_PATHS, MAX_PATHS));
        assert_eq!(paths.take(now, peers[0], &path(more - 1, None)), None);
        assert!(paths.take(now, peers[0], &path(more, None)).is_some());
    }

    // spec: REC-15
    #[test]
    fn who_moves_forgets_the_paths_from_where_he_was() {
        let now = Instant::from_nanos(1);
        let peers = peers();
        let mut paths = SavedPaths::default();
        let [here, there] = [path(1, Some([10, 0, 0, 1])), path(1, Some([10, 0, 0, 2]))];
        paths.note(peers[0], &here, saved(now, 1));
        paths.note(peers[0], &there, saved(now, 2));
        paths.on_network_change(|_, local| local == here.local);
        assert_eq!((paths.paths.len(), paths.by_age.len()), (1, 1));
        assert_eq!(paths.take(now, peers[0], &here), None);
        assert_eq!(paths.take(now, peers[0], &there), Some(saved(now, 2)));
    }
}
