//! Descriptions of links: what happens to a packet on its way.

use std::time::Duration;

use crate::error::Error;
use crate::units;

/// One direction of a link. The default is a perfect one: no limit, no delay, no loss.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// Bits of IP packets in a second; no limit if `None`.
    pub rate: Option<u64>,
    /// Bytes that wait for their turn at most; what comes when they are there is lost. One packet always fits.
    pub queue: usize,
    /// Time from one end to the other, besides that of waiting and of the rate.
    pub delay: Duration,
    /// Time that is added to some packets: evenly spread from nothing to this. The order stays.
    pub jitter: Duration,
    /// Share of packets that are lost, each by itself.
    pub loss: f64,
    /// Loss in bursts (the model of Gilbert and Elliott, in which a bad state loses everything).
    pub burst: Option<Burst>,
    /// Packets that others overtake.
    pub reorder: Option<Reorder>,
    /// Share of packets that arrive twice.
    pub duplicate: f64,
    /// Bytes in the queue above which packets that allow it are marked with CE (RFC 3168).
    pub mark: Option<usize>,
    /// Set if nothing arrives.
    pub blackout: bool,
}

/// Chances, with each packet, that a burst of losses begins and that it ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Burst {
    /// Chance that it begins.
    pub enter: f64,
    /// Chance that it ends.
    pub leave: f64,
}

/// Packets that arrive later than those behind them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reorder {
    /// Share of all.
    pub share: f64,
    /// Time by which they are late.
    pub late: Duration,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            rate: None,
            queue: 1 << 20,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: 0.0,
            burst: None,
            reorder: None,
            duplicate: 0.0,
            mark: None,
            blackout: false,
        }
    }
}

/// Settings of a link for people, a line each.
pub const SETTINGS: &str = "  delay=25ms        one way between the hosts
  rate=20M          bits of IP packets in a second, each way; `none` for no limit
  queue=125000      bytes that wait at most (1M unless given)
  loss=1%           each packet by itself
  burst=1%,25%      losses in bursts: chance with each packet that one begins, and that it ends
  jitter=5ms        up to this, added to the delay; the order stays
  reorder=1%,10ms   this share comes that much later than its turn
  duplicate=1%      this share comes twice
  mark=30000        above so many bytes in the queue, packets that allow it are marked with CE; `none` for never
  blackout=on       nothing arrives, until blackout=off
  skew=60ms         a's one-way delay to the servers less that of the others (-60ms: a is nearer)
  server-delay=50ms one way between the nearer hosts and the servers (as `delay` unless given)
  seed=7            of losses, jitter and so on; not for a link that is up
With `ab.` before it, a setting is for the way from a to b alone, with `ba.` for the way back: ba.loss=5%";

impl Shape {
    /// Changes one setting; those of [`SETTINGS`] that are of one direction.
    ///
    /// # Errors
    ///
    /// [`Error::Description`] if there is no such setting, or the value means nothing.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), Error> {
        match key {
            "rate" => self.rate = unless_none(value, units::rate)?,
            "queue" => self.queue = units::bytes(value)?,
            "delay" => self.delay = units::duration(value)?,
            "jitter" => self.jitter = units::duration(value)?,
            "loss" => self.loss = units::share(value)?,
            "burst" => {
                self.burst = unless_none(value, |value| {
                    let (enter, leave) = pair(key, value)?;
                    Ok(Burst {
                        enter: units::share(enter)?,
                        leave: units::share(leave)?,
                    })
                })?;
            }
            "reorder" => {
                self.reorder = unless_none(value, |value| {
                    let (share, late) = pair(key, value)?;
                    Ok(Reorder {
                        share: units::share(share)?,
                        late: units::duration(late)?,
                    })
                })?;
            }
            "duplicate" => self.duplicate = units::share(value)?,
            "mark" => self.mark = unless_none(value, units::bytes)?,
            "blackout" => {
                self.blackout = match value {
                    "on" => true,
                    "off" => false,
                    _ => return Err(Error::Description(format!("blackout is on or off, not {value:?}"))),
                }
            }
            _ => {
                return Err(Error::Description(format!(
                    "no link has a setting {key:?}; there are\n{SETTINGS}"
                )));
            }
        }
        Ok(())
    }
}

fn unless_none<T>(value: &str, read: impl FnOnce(&str) -> Result<T, Error>) -> Result<Option<T>, Error> {
    if value == "none" {
        Ok(None)
    } else {
        read(value).map(Some)
    }
}

fn pair<'a>(key: &str, value: &'a str) -> Result<(&'a str, &'a str), Error> {
    value
        .split_once(',')
        .ok_or_else(|| Error::Description(format!("{key} is two values with a comma between, not {value:?}")))
}

/// Both directions between two hosts, and how far they are from the servers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Link {
    /// The way from host a (or any site that is named before the other) to b.
    pub ab: Shape,
    /// The way back.
    pub ba: Shape,
    /// The one-way delay of a to the servers less that of the others, in nanoseconds.
    pub skew: i64,
    /// One-way delay between the hosts that are nearer and the servers; that between the hosts if `None`.
    pub server_delay: Option<Duration>,
    /// Seed of everything random.
    pub seed: u64,
}

impl Link {
    /// Reads settings, as `delay=25ms`, and `ab.loss=1%` for one direction: [`SETTINGS`].
    ///
    /// # Errors
    ///
    /// [`Error::Description`] if one of them means nothing.
    pub fn parse<S: AsRef<str>>(settings: impl IntoIterator<Item = S>) -> Result<Self, Error> {
        let mut link = Self::default();
        for setting in settings {
            link.set(setting.as_ref())?;
        }
        Ok(link)
    }

    /// Changes one setting.
    ///
    /// # Errors
    ///
    /// [`Error::Description`] if it means nothing.
    pub fn set(&mut self, setting: &str) -> Result<(), Error> {
        let (key, value) = setting
            .split_once('=')
            .ok_or_else(|| Error::Description(format!("{setting:?} is no setting: delay=25ms is one")))?;
        match (key, key.split_once('.')) {
            ("skew", _) => {
                let (sign, size) = value.strip_prefix('-').map_or((1, value), |size| (-1, size));
                let nanos = units::duration(size)?.as_nanos();
                self.skew = sign * i64::try_from(nanos).unwrap_or(i64::MAX);
            }
            ("server-delay", _) => self.server_delay = unless_none(value, units::duration)?,
            ("seed", _) => {
                let seed = value.parse();
                self.seed = seed.map_err(|_| Error::Description(format!("{value:?} is no seed: a number")))?;
            }
            (_, Some(("ab", key))) => self.ab.set(key, value)?,
            (_, Some(("ba", key))) => self.ba.set(key, value)?,
            _ => {
                self.ab.set(key, value)?;
                self.ba.set(key, value)?;
            }
        }
        Ok(())
    }

    /// One-way delay between a site and the servers.
    pub(crate) fn server_delay(&self, is_first: bool) -> Duration {
        let nearer = self.server_delay.unwrap_or(self.ab.delay);
        let is_farther = is_first == (self.skew > 0);
        if is_farther {
            nearer + Duration::from_nanos(self.skew.unsigned_abs())
        } else {
            nearer
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_of_both_directions_unless_they_say_which() {
        let link = Link::parse([
            "delay=25ms",
            "ab.loss=1%",
            "rate=20M",
            "ba.rate=none",
            "reorder=1%,10ms",
        ])
        .unwrap();
        assert_eq!(link.ab.delay, link.ba.delay);
        assert_eq!((link.ab.loss, link.ba.loss), (0.01, 0.0));
        assert_eq!((link.ab.rate, link.ba.rate), (Some(20_000_000), None));
        assert_eq!(link.ba.reorder.unwrap().late, Duration::from_millis(10));
    }

    #[test]
    fn skew_moves_one_side_away_from_the_servers() {
        let delays = |settings: &[&str]| {
            let link = Link::parse(settings).unwrap();
            [true, false].map(|is_first| link.server_delay(is_first).as_millis())
        };
        assert_eq!(delays(&["delay=50ms"]), [50, 50]);
        assert_eq!(delays(&["delay=50ms", "skew=60ms"]), [110, 50]);
        assert_eq!(delays(&["delay=5ms", "skew=-60ms"]), [5, 65]);
        assert_eq!(delays(&["skew=60ms", "server-delay=10ms"]), [70, 10]);
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for setting in [
            "delay",
            "delay=5",
            "ab.speed=1M",
            "cd.loss=1%",
            "blackout=1",
            "burst=1%",
            "seed=x",
            "skew=x",
        ] {
            assert!(Link::default().set(setting).is_err(), "{setting}");
        }
    }

    #[test]
    fn every_setting_that_is_shown_is_one() {
        for line in SETTINGS.lines().take(13) {
            let setting = line.split_whitespace().next().unwrap();
            Link::default().set(setting).unwrap();
        }
    }
}
