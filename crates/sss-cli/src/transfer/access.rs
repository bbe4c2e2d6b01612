//! The door of a server, for everybody who may connect, or who shows the secret of the ticket (FIL-30 to FIL-32).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sss::Eid;
use sss_files::{Greeting, Refusal, Status};

use crate::ticket::Secret;

/// Wrong secrets that one peer may show within [`FORGOTTEN`] before it is not listened to.
const GUESSES: u32 = 5;
/// Time after which the wrong secrets of a peer are forgotten.
const FORGOTTEN: Duration = Duration::from_secs(60);
/// Peers of which wrong secrets are remembered. More than that do not get closer to one of 128 bits.
const REMEMBERED: usize = 4096;

/// The door of a server.
pub(crate) struct Door {
    /// `None`: it is open.
    secret: Option<Secret>,
    wrong: Mutex<BTreeMap<Eid, Wrong>>,
}

struct Wrong {
    count: u32,
    last: Instant,
}

impl Door {
    /// A door for those who show the secret, or for everybody.
    pub(crate) fn new(secret: Option<Secret>) -> Self {
        Self {
            secret,
            wrong: Mutex::default(),
        }
    }

    /// Lets a session in.
    ///
    /// # Errors
    /// UNAUTHORIZED, with what is lacking.
    pub(crate) fn enter(&self, eid: Eid, greeting: &Greeting<'_>, now: Instant) -> Result<(), Refusal> {
        let Some(secret) = &self.secret else { return Ok(()) };
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        wrong.retain(|_, wrong| now.saturating_duration_since(wrong.last) < FORGOTTEN);
        if wrong.get(&eid).is_some_and(|wrong| wrong.count >= GUESSES) {
            return Err(unauthorized("too many wrong tickets: wait a minute"));
        }
        let Some(shown) = greeting.secret else {
            return Err(unauthorized(
                "this server asks for a ticket, which `sss serve` printed when it was started: an address is not enough",
            ));
        };
        let shown: Option<[u8; Secret::LEN]> = shown.try_into().ok();
        if shown.map(Secret::from_bytes).as_ref() == Some(secret) {
            wrong.remove(&eid);
            return Ok(());
        }
        if wrong.len() >= REMEMBERED && !wrong.contains_key(&eid) {
            let oldest = wrong.iter().min_by_key(|(_, wrong)| wrong.last).map(|(eid, _)| *eid);
            oldest.map(|eid| wrong.remove(&eid));
        }
        let of_peer = wrong.entry(eid).or_insert(Wrong { count: 0, last: now });
        of_peer.count = of_peer.count.saturating_add(1);
        of_peer.last = now;
        Err(unauthorized(
            "the ticket is not one of this server: it may be an old one",
        ))
    }
}

fn unauthorized(text: &str) -> Refusal {
    Refusal::new(Status::Unauthorized, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eid(n: u8) -> Eid {
        Eid::from_public_key(&[n; 32])
    }

    fn shows(door: &Door, eid: Eid, secret: Option<&[u8]>, now: Instant) -> Result<(), String> {
        door.enter(eid, &Greeting { secret }, now).map_err(|refusal| {
            assert_eq!(refusal.status, Status::Unauthorized);
            refusal.text
        })
    }

    // spec: FIL-31
    #[test]
    fn only_the_secret_opens_a_door_that_has_one() {
        let now = Instant::now();
        assert_eq!(shows(&Door::new(None), eid(1), None, now), Ok(()));
        let door = Door::new(Some(Secret::from_bytes([7; 16])));
        assert_eq!(shows(&door, eid(1), Some(&[7; 16]), now), Ok(()));
        assert!(
            shows(&door, eid(1), None, now)
                .unwrap_err()
                .contains("asks for a ticket")
        );
        for wrong in [&[8; 16][..], &[7; 15], &[7; 17], &[]] {
            assert!(shows(&door, eid(1), Some(wrong), now).unwrap_err().contains("old one"));
        }
    }

    // spec: FIL-32
    #[test]
    fn guesses_are_limited_by_peer() {
        let door = Door::new(Some(Secret::from_bytes([7; 16])));
        let now = Instant::now();
        for _ in 0..GUESSES {
            assert!(
                shows(&door, eid(1), Some(&[0; 16]), now)
                    .unwrap_err()
                    .contains("old one")
            );
        }
        let late = shows(&door, eid(1), Some(&[7; 16]), now);
        assert!(
            late.unwrap_err().contains("wait a minute"),
            "even the right one is not looked at"
        );
        assert_eq!(shows(&door, eid(2), Some(&[7; 16]), now), Ok(()));
        assert_eq!(shows(&door, eid(1), Some(&[7; 16]), now + FORGOTTEN), Ok(()));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let door = Door::new(Some(Secret::from_bytes([7; 16])));
        let now = Instant::now();
        for n in 0..5000_u32 {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&n.to_be_bytes());
            let eid = Eid::from_public_key(&key);
            let _ = shows(&door, eid, Some(&[0; 16]), now + Duration::from_millis(n.into()));
        }
        assert_eq!(door.wrong.lock().unwrap().len(), REMEMBERED);
    }
}
