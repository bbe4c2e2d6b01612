//! Arguments that several commands have.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use serde_json::json;
use sss::{Congestion, Padding, PostQuantum};
use sss_files::Options;

use crate::dns::DnsArgs;
use crate::error::{Error, Exit};
use crate::listen::BindAddress;
use crate::output::Output;
use crate::servers::ServerArgs;
use crate::target::Target;
use crate::transfer::rate::{NoBytes, bytes};

/// Arguments that say who we are and whom we trust.
#[derive(Clone, Debug, Args)]
pub(crate) struct ConnectArgs {
    #[command(flatten)]
    pub(crate) trust: TrustArgs,
    /// The file with the ticket of a host that is written @, readable by its owner only [default: SSS_TICKET in the
    /// environment]
    #[arg(long, value_name = "FILE")]
    pub(crate) ticket: Option<PathBuf>,
    /// The file with this host's identity [default: as `sss id`]
    #[arg(long, value_name = "FILE")]
    pub(crate) identity: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) servers: ServerArgs,
    #[command(flatten)]
    pub(crate) dns: DnsArgs,
    /// Seconds to try to reach the peer
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = some_seconds, allow_hyphen_values = true)]
    pub(crate) timeout: Duration,
    /// Seconds to wait for a peer that no longer answers, or is there and says nothing
    #[arg(long, value_name = "SECONDS", default_value = "120", value_parser = seconds, allow_hyphen_values = true)]
    pub(crate) patience: Duration,
    /// The local address to use.
    #[arg(
        long,
        value_name = "ADDR",
        help = "The local address to use: IP, IP:PORT or [IP]:PORT"
    )]
    pub(crate) bind: Option<BindAddress>,
    /// Congestion control: cubic, or bbr for paths that lose packets by chance
    #[arg(long, value_name = "NAME", default_value_t)]
    pub(crate) congestion: Congestion,
    /// Protection against quantum computers of the future: required, preferred (unless the peer has it off), or off
    #[arg(long, value_name = "POLICY", default_value_t)]
    pub(crate) pq: PostQuantum,
    /// Hide sizes of packets: none, buckets (powers of two), or constant (all of one size)
    #[arg(long, value_name = "POLICY", default_value_t)]
    pub(crate) padding: Padding,
    /// Append the keys of all channels to the file that SSSKEYLOGFILE names: whoever has it reads all
    #[arg(long, hide_short_help = true)]
    pub(crate) key_log: bool,
}

/// Arguments that say which hosts are trusted.
#[derive(Clone, Debug, Args)]
pub(crate) struct TrustArgs {
    /// Trust the host found at an address that is not known yet, and remember it
    #[arg(long = "trust", id = "trust_at_once")]
    pub(crate) at_once: bool,
    /// The file of known hosts [default: `known_hosts` in the user's configuration directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) known_hosts: Option<PathBuf>,
}

/// Arguments that say how what arrives is stored.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct StoreArgs {
    /// Replace files that are there and differ
    #[arg(long)]
    pub(crate) force: bool,
    /// Take the umask for the modes of what is new, and leave those of what is there
    #[arg(long)]
    pub(crate) no_perms: bool,
    /// Have every file on the disk before it counts as received: slower, and safe when the power fails
    #[arg(long)]
    pub(crate) fsync: bool,
}

impl StoreArgs {
    /// The options of the protocol.
    pub(crate) fn options(self) -> Options {
        let mut options = Options::empty();
        options.set(Options::REPLACE, self.force);
        options.set(Options::NO_PERMS, self.no_perms);
        options.set(Options::SYNC, self.fsync);
        options
    }
}

/// Makes sure that there is a file for keys, if they are wanted: without one, the library would keep none.
///
/// # Errors
/// If the environment names none.
pub(crate) fn key_log_has_a_place(wanted: bool) -> Result<(), Error> {
    if !wanted || std::env::var_os("SSSKEYLOGFILE").is_some_and(|path| !path.is_empty()) {
        return Ok(());
    }
    let what = "--key-log wants to write keys, and SSSKEYLOGFILE names no file";
    let next = "set it in the environment, to a new file in a directory of yours";
    Err(Error::new(Exit::Usage, what, next))
}

/// Reads a target: HOST is a name or an address, EID@HOST says who must be there, a ticket stands for both, @ for a
/// ticket that is given elsewhere, and dns:NAME for one that is in the DNS.
pub(crate) fn target() -> impl TypedValueParser<Value = Target> {
    OsStringValueParser::new().try_map(|text| Target::parse(&text))
}

/// Says of a command that is about a host alone that the path behind it means nothing.
pub(crate) fn note_path(target: &Target, output: Output) {
    if !target.path.is_root() {
        let text = format!("the path /{} is not looked at: this is about the host", target.path);
        output.prose_aside(&text, &json!({"event": "note", "text": text}));
    }
}

/// Seconds of a year.
const YEAR: f64 = 86_400.0 * 365.0;

/// A number of seconds, with a fraction if need be.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a number of seconds, such as 1 or 0.25");
    let number: f64 = text.parse().map_err(|_| wrong())?;
    if number.is_finite() && number > YEAR {
        return Err("that is longer than a year".to_owned());
    }
    Duration::try_from_secs_f64(number).map_err(|_| wrong())
}

/// The same, but for none.
pub(crate) fn some_seconds(text: &str) -> Result<Duration, String> {
    match seconds(text)? {
        Duration::ZERO => Err("that is no time at all: give a second or more, or a fraction such as 0.25".to_owned()),
        time => Ok(time),
    }
}

/// A reader of whole numbers in a range.
pub(crate) fn whole<N: TryFrom<u64>>(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<N, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.and_then(|number| N::try_from(number).ok()).ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            format!("{text:?} is not a whole number from {least} to {most}")
        })
    }
}

/// A number of bytes, with a fraction and a unit behind it if need be.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    bytes(text).map_err(|error| match error {
        NoBytes::Malformed => format!("{text:?} is not a size, such as 4096, 500M or 1.5G (K: 1024)"),
        NoBytes::TooLarge => format!("{text:?} is too large: at most {}T", u64::MAX >> 40),
    })
}

/// The same, for what is not to be exceeded, where something is to be taken.
pub(crate) fn some_size(text: &str) -> Result<u64, String> {
    match size(text)? {
        0 => Err("with none, nothing could be written: give a size such as 20G, or leave --write away, too".to_owned()),
        size => Ok(size),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("0", 0),
            ("7", 7),
            ("7B", 7),
            ("2k", 2048),
            ("3MiB", 3 << 20),
            ("1G", 1 << 30),
            ("1.5G", 3 << 29),
            ("1kb", 1000),
            ("1kB", 1000),
            ("3Mb", 3_000_000),
            ("9007199254740993", 9_007_199_254_740_993),
            ("16777215T", 16_777_215 << 40),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "M", "-1", "1X", "1e3", "1.5.5G", "iB", "inf"] {
            assert!(size(bad).unwrap_err().contains("not a size"), "{bad}");
        }
        for large in ["99999999T", "999999999999999T", "99999999999999999999", "99999999.5T"] {
            assert!(size(large).unwrap_err().contains("at most 16777215T"), "{large}");
        }
        assert!(some_size("0").unwrap_err().contains("nothing could be written"));
        assert_eq!(some_size("1"), Ok(1));
    }

    #[test]
    fn whole_numbers_are_told_with_their_range() {
        let number = whole::<u16>(1..=600);
        assert_eq!((number("1"), number("600")), (Ok(1), Ok(600)));
        for bad in ["", "x", "-1", "0", "601", "1.5", "1e2", "99999999999999999999"] {
            let said = number(bad).unwrap_err();
            assert!(said.contains("not a whole number from 1 to 600"), "{bad}: {said}");
        }
        assert!(whole::<u8>(0..=300)("256").is_err());
    }

    #[test]
    fn seconds_may_have_fractions() {
        assert_eq!(seconds("0.25"), Ok(Duration::from_millis(250)));
        for bad in ["", "x", "-1", "inf", "NaN", "1e30"] {
            assert!(seconds(bad).is_err() && some_seconds(bad).is_err(), "{bad}");
        }
        for long in ["31536001", "18446744073709551616", "1e30"] {
            assert!(seconds(long).unwrap_err().contains("longer than a year"), "{long}");
        }
        assert!(seconds("0").is_ok() && some_seconds("0").is_err());
        assert_eq!(some_seconds("0.1"), Ok(Duration::from_millis(100)));
    }
}
