//! Failures of a command: what happened, what to do next, and the exit code.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use rustix::io::Errno;
use sss::{Absence, BuildError, CloseReason, NegotiationError, Seconds, Seen, Tried};
use sss_files::{Refusal, RelPath, Status};

use crate::transfer::exchange::{TransferError, is_for_want_of_room};
use crate::transfer::limits::descriptors::RAISE_THE_LIMIT;
use crate::transfer::limits::too_many_open;

/// Exit codes. The table in `--help` is [`Exit::TABLE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    Unreachable = 3,
    Refused = 4,
    Corrupt = 5,
    Interrupted = 130,
}

impl Exit {
    /// Meaning of each code, for people.
    pub(crate) const TABLE: &str = "\
Exit codes:
  0    done
  1    failed, or done in part: a file could not be read or written, or is in
       the way; the disk is full
  2    the command line is wrong
  3    the peer cannot be reached, or the connection was lost
  4    refused: by the peer (not allowed, read-only, no such service), or by us
       (identity not trusted, or changed)
  5    what arrived was not what was sent
  130  interrupted";

    /// The name in JSON.
    fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
            Self::Corrupt => "corrupt",
            Self::Interrupted => "interrupted",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        (exit as u8).into()
    }
}

/// A failed command.
#[derive(Clone, Debug)]
pub(crate) struct Error {
    pub(crate) exit: Exit,
    what: String,
    next: String,
}

impl Error {
    /// `what` happened; `next` is what to do about it.
    pub(crate) fn new(exit: Exit, what: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            exit,
            what: what.into(),
            next: next.into(),
        }
    }

    /// Words for what happened.
    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    /// The same, and more that has happened.
    pub(crate) fn and(mut self, more: &str) -> Self {
        self.what = format!("{}\n{more}", self.what);
        self
    }

    /// The same, with other advice.
    pub(crate) fn advising(mut self, next: &str) -> Self {
        next.clone_into(&mut self.next);
        self
    }

    /// The same, with more advice.
    #[cfg(feature = "turn")]
    pub(crate) fn advising_too(mut self, next: &str) -> Self {
        self.next = format!("{}; {next}", self.next);
        self
    }

    /// Something with a local file.
    pub(crate) fn local(path: &std::path::Path, doing: &str, error: &std::io::Error) -> Self {
        use std::io::ErrorKind as Kind;
        if is_out_of_descriptors(error) {
            return Self::too_many_open();
        }
        let next = match error.kind() {
            Kind::NotFound => "check the name",
            Kind::PermissionDenied => "check the permissions, or run as the user who has them",
            Kind::StorageFull | Kind::QuotaExceeded => "free some space and run the same command again",
            Kind::AlreadyExists => "choose another name, or move away what is there",
            Kind::NotADirectory => "name a directory",
            _ => "that is what the system says: mend it there, and run the same command again",
        };
        Self::new(
            Exit::Failed,
            format!(
                "cannot {doing} {}: {}",
                sss_files::printable(path.as_os_str().as_bytes()),
                plain(error)
            ),
            next,
        )
    }

    /// This process may not open as many files as it needs.
    pub(crate) fn too_many_open() -> Self {
        Self::new(Exit::Failed, too_many_open(), RAISE_THE_LIMIT)
    }

    /// The facts, for machines.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "event": "error",
            "exit": self.exit as u8,
            "kind": self.exit.name(),
            "error": self.what,
            "next": self.next,
        })
    }
}

/// Returns whether it has failed because this process may not open as many files as it needs.
pub(crate) fn is_out_of_descriptors(error: &std::io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::MFILE)
}

/// Words of the operating system without the number that the standard library puts behind them.
pub(crate) fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" (os error ") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  -> {}", self.what, self.next)
    }
}

impl From<BuildError> for Error {
    fn from(error: BuildError) -> Self {
        let (exit, next) = match &error {
            BuildError::Bind { source, .. }
            | BuildError::Tls { source, .. }
            | BuildError::KeyLog { source, .. }
            | BuildError::Socket(source)
            | BuildError::Driver(source)
                if is_out_of_descriptors(source) =>
            {
                return Self::too_many_open();
            }
            BuildError::BadAddress { .. } | BuildError::OfMany { .. } => {
                (Exit::Usage, "give --bind IP or IP:PORT, such as 192.0.2.7 or [::]:0")
            }
            BuildError::PortInUse { .. } => (
                Exit::Failed,
                "stop the other program, or choose another port (0: any free one)",
            ),
            BuildError::Bind { .. } => (
                Exit::Failed,
                "give --bind an address of this machine (`ip address` lists them)",
            ),
            BuildError::Tls { .. } => (
                Exit::Failed,
                "give --tls an address of this machine, and a port that no other program has; ports below 1024 need a right",
            ),
            BuildError::Certificate(_) => (
                Exit::Failed,
                "give --tls-cert and --tls-key PEM files that belong together, or leave both away",
            ),
            BuildError::LanOnly(_) => (Exit::Usage, "leave that out, or --lan-only"),
            BuildError::RelayOnly(_) => (Exit::Usage, "leave that out, or --relay-only"),
            BuildError::KeyLog { .. } => (
                Exit::Failed,
                "let SSSKEYLOGFILE name a new file in a directory of yours, or leave --key-log away",
            ),
            _ => (
                Exit::Failed,
                "that is what the system says: mend it there, and run the same command again",
            ),
        };
        Self::new(exit, error.to_string(), next)
    }
}

impl From<CloseReason> for Error {
    fn from(reason: CloseReason) -> Self {
        let what = reason.to_string();
        let again = "run the same command again: it goes on where it was";
        match reason {
            CloseReason::Negotiation(error) => error.into(),
            CloseReason::Peer { code, .. } if code == sss::Code::SHUTDOWN => {
                let next = "start the peer again, then run the same command again: it goes on where it was";
                Self::new(Exit::Unreachable, format!("the peer was stopped ({what})"), next)
            }
            reason if is_for_want_of_room(&reason) => {
                let next = "wait a while, then run the same command again: too many others are there";
                Self::new(Exit::Unreachable, what, next)
            }
            CloseReason::Violation(_) => Self::new(Exit::Failed, what, UPDATE_BOTH),
            CloseReason::Peer { code, .. } if is_violation(code) => Self::new(Exit::Failed, what, UPDATE_BOTH),
            _ => Self::new(Exit::Unreachable, format!("the connection was lost: {what}"), again),
        }
    }
}

/// Returns whether an attempt that would fail so now was answered by somebody who has the peer's key.
pub(crate) fn was_answered(attempt: &NegotiationError) -> bool {
    matches!(
        attempt,
        NegotiationError::NotAccepted { .. } | NegotiationError::PostQuantumUnanswered { .. }
    )
}

/// Advises what to do if one side says that the other breaks the protocol.
const UPDATE_BOTH: &str = "update both sides to the same version; if they are, report this as a defect";

/// Returns whether a peer that closes with this code takes what we have sent for a violation of the protocol.
fn is_violation(code: sss::Code) -> bool {
    use sss::Code;
    [
        Code::FRAME_ENCODING,
        Code::PROTOCOL,
        Code::CREDIT_EXCEEDED,
        Code::FINAL_SIZE,
        Code::STREAM_STATE,
        Code::ACK_INVALID,
        Code::SETTINGS,
    ]
    .contains(&code)
}

impl From<NegotiationError> for Error {
    fn from(error: NegotiationError) -> Self {
        let (exit, next) = match &error {
            error if is_overload(error) => (
                Exit::Unreachable,
                "wait a while, then run the same command again: too many others are asking that host",
            ),
            NegotiationError::NoAnswer { addresses, .. } if is_all(addresses, Seen::NoRoute) => {
                (Exit::Unreachable, NO_NETWORK)
            }
            NegotiationError::NoAnswer { addresses, .. } if is_all(addresses, Seen::Forbidden) => (
                Exit::Unreachable,
                "check the address; if it is right, let UDP to there out in the firewall of this machine",
            ),
            NegotiationError::NoAnswer { addresses, .. } if is_any(addresses, Seen::SmallOnly) => {
                (Exit::Unreachable, LARGE_ONES_LOST)
            }
            NegotiationError::NoAnswer { .. } | NegotiationError::NoAddress => (
                Exit::Unreachable,
                "check that `sss serve` runs there, that host and port are those it printed, and that UDP is not blocked",
            ),
            NegotiationError::Sharded => (Exit::Refused, "have the peer connect to this host"),
            NegotiationError::NotAccepted { .. } => (
                Exit::Unreachable,
                "run the same command again; if it goes on, ask who runs that host whether it is overloaded, or refuses without a word",
            ),
            NegotiationError::Forbidden { .. } => (
                Exit::Refused,
                "ask who runs that host to allow this one: `sss serve --allow EID`, with the EID that `sss id` prints here",
            ),
            NegotiationError::EndedUnheard => {
                (Exit::Unreachable, "run the same command again: it goes on where it was")
            }
            NegotiationError::Version { .. } => (Exit::Refused, "install the same version of sss on both sides"),
            NegotiationError::Suite => (Exit::Refused, "allow a common cipher suite on both sides"),
            NegotiationError::PostQuantumOff => (Exit::Refused, "leave out --pq off, or give --pq preferred"),
            NegotiationError::PostQuantumMissing => (
                Exit::Refused,
                "ask who runs that host to leave out --pq off; or give --pq preferred, and do without the protection",
            ),
            NegotiationError::PostQuantumUnanswered { .. } => (
                Exit::Unreachable,
                "run the same command again; if it goes on, ask whether the host has too much to do, and look for what \
                 drops UDP datagrams of 1232 bytes on the way",
            ),
            NegotiationError::OwnEid => (
                Exit::Usage,
                "give the other host an identity of its own: `sss id --new` there, or --identity",
            ),
            NegotiationError::OutsideLan { .. } => (
                Exit::Usage,
                "give an address of the local network, or leave out --lan-only",
            ),
            NegotiationError::NotRelayed { .. } => (
                Exit::Usage,
                "name the registration server that relays with --server, or leave out --relay-only",
            ),
            NegotiationError::Unfound(absence) => unfound(*absence),
            NegotiationError::BadEid => (Exit::Usage, "copy the EID again from the `listening` line of the host"),
            _ => (Exit::Unreachable, "run the same command again"),
        };
        Self::new(exit, negotiation(&error), next)
    }
}

/// Words for why there is no channel. Where the host itself has answered a small datagram, that is told as what it is:
/// one was sent, and one came back.
fn negotiation(error: &NegotiationError) -> String {
    let NegotiationError::NoAnswer {
        addresses,
        attempts,
        after,
    } = error
    else {
        return error.to_string();
    };
    if !is_any(addresses, Seen::SmallOnly) {
        return error.to_string();
    }
    let seen = |tried: &Tried| match tried.seen {
        Seen::SmallOnly => format!("{} ({ONE_SMALL})", tried.route),
        _ => tried.to_string(),
    };
    let each: Vec<String> = addresses.iter().map(seen).collect();
    let ending = if *attempts == 1 { "" } else { "s" };
    format!(
        "no answer from {} within {} ({attempts} attempt{ending})",
        each.join(", "),
        Seconds(*after)
    )
}

/// Words for what was seen of a host that has answered PROBE, and not HELLO.
const ONE_SMALL: &str = "the host has answered one small datagram, and none of those of 1232 bytes: they may have been \
                         lost by chance, or be too large for the way there";

/// Advises what to do about that.
const LARGE_ONES_LOST: &str = "run the same command again, with more --timeout; if it ends in the same way each time, \
                               look for what drops UDP datagrams of 1232 bytes on the way";

/// Advises what to do where no network leads to the peer.
pub(crate) const NO_NETWORK: &str = "check the address, and connect this machine to a network that leads there; with \
                                     --bind, give another address";

/// Advises what to do about a registration server that does not answer.
pub(crate) const SERVER_ADVICE: &str = "check that `sss rendezvous` runs there, that the server is written as it \
                                        prints it, and that UDP is not blocked";

/// Advises what to do if a server has found the peer, and it is not reached all the same.
pub(crate) const NO_WAY: &str = "check that `sss serve` still runs there; if it does, no packet gets through between \
                                 the two networks: run the same command again, after a minute, use a server that \
                                 relays (`sss rendezvous --relay`), or let UDP to its port in there";

/// The same, if what was sent went through a relay.
pub(crate) const NO_WAY_BY_RELAY: &str = "packets went through the relay, and may have been lost on the way: run the \
                                          same command again, with more --timeout; check that `sss serve` still runs \
                                          there";

/// Advises what to do if a server works, and has not said in time where the peer is.
pub(crate) const NOT_FOUND_YET: &str = "the server may be slow, or packets may be lost on the way: run the same \
                                        command again, with more --timeout; check that `sss serve` runs there with \
                                        the same --server";

/// Advises what to do if a host is not on the local network.
pub(crate) const NOT_ON_LAN: &str = "check that `sss serve --mdns` runs there, that both machines are on one local \
                                     network, and that nothing keeps them apart there, as networks for guests do";

/// The exit code, and advice, if servers do not find a host.
fn unfound(absence: Absence) -> (Exit, &'static str) {
    match absence {
        Absence::NoServer | Absence::Pending => (Exit::Unreachable, SERVER_ADVICE),
        Absence::NotAllowed => (
            Exit::Refused,
            "ask who runs the server to allow this host: `sss rendezvous --allow-file`, with the EID that `sss id` \
             prints here; or use another server",
        ),
        Absence::NeverSeen => (
            Exit::Unreachable,
            "check the EID, and that `sss serve` runs there with the same --server: it says `registered`",
        ),
        Absence::NotYet(_) => (
            Exit::Unreachable,
            "run the same command again in half a minute, or with more --patience; if it is not there then, check that \
             `sss serve` runs there with the same --server",
        ),
        Absence::Offline(_) => (
            Exit::Unreachable,
            "check that `sss serve` still runs there and that machine is connected; then run the same command again",
        ),
        Absence::NoWay => (Exit::Unreachable, NO_WAY),
        Absence::OnlyRelayed => (
            Exit::Unreachable,
            "a relay could carry the packets: run the same command without --no-relay",
        ),
        Absence::NotOnLan(_) => (Exit::Unreachable, NOT_ON_LAN),
        Absence::Refused => (
            Exit::Refused,
            "ask who runs that host: with --relay-only it needs a server that relays (`sss rendezvous --relay`), and \
             with --no-relay it is not reached by hosts that use relays alone",
        ),
        Absence::Unreachable => (
            Exit::Unreachable,
            "it may just have gone, or its router was restarted: run the same command again in a minute, or with \
             --timeout 30, which waits for that",
        ),
        Absence::TooMany => (
            Exit::Unreachable,
            "wait a while, then run the same command again; or use another server",
        ),
        _ => (Exit::Unreachable, "run the same command again"),
    }
}

/// Returns whether that, and nothing else, was seen of all addresses that were tried.
fn is_all(addresses: &[Tried], seen: Seen) -> bool {
    !addresses.is_empty() && addresses.iter().all(|tried| tried.seen == seen)
}

/// Returns whether that was seen of one of the addresses that were tried.
fn is_any(addresses: &[Tried], seen: Seen) -> bool {
    addresses.iter().any(|tried| tried.seen == seen)
}

/// Returns whether a negotiation has failed because the host is under load.
fn is_overload(error: &NegotiationError) -> bool {
    match error {
        NegotiationError::NoAnswer { addresses, .. } => is_any(addresses, Seen::Busy),
        NegotiationError::NotAccepted { is_busy, .. } | NegotiationError::PostQuantumUnanswered { is_busy, .. } => {
            *is_busy
        }
        _ => false,
    }
}

impl Error {
    /// Something with a path of the server, if it is the path that is wrong.
    pub(crate) fn remote(path: &RelPath, error: TransferError) -> Self {
        match error {
            TransferError::Pattern(why) => Self::new(
                Exit::Usage,
                format!("{path}: it is no pattern: {why}"),
                "write a \\ before a character that stands for itself, as in 'a\\[b'",
            ),
            TransferError::Refused(refusal) if is_of_path(refusal.status) => Self::new(
                exit_of(refusal.status),
                format!("{path}: {refusal}"),
                advice(refusal.status),
            ),
            other => other.into(),
        }
    }
}

/// Returns whether a refusal with this status is about what was asked for, and not about who asked.
fn is_of_path(status: Status) -> bool {
    !matches!(
        status,
        Status::Unauthorized | Status::ReadOnly | Status::BadRequest | Status::Busy
    )
}

impl From<TransferError> for Error {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::Lost(reason) => reason.into(),
            TransferError::Disk(refusal) | TransferError::Refused(refusal) => {
                Self::new(exit_of(refusal.status), refusal.to_string(), advice(refusal.status))
            }
            TransferError::TooManyOpen => Self::too_many_open(),
            TransferError::NoService(what) => Self::new(
                Exit::Refused,
                format!("the host is there but does not offer files: {what}"),
                "check that the port is that of `sss serve`, and that both sides have the same version",
            ),
            TransferError::Busy(_) => Self::new(
                Exit::Unreachable,
                error.to_string(),
                "wait a while, then run the same command again: it goes on where it was; or give it more --patience",
            ),
            TransferError::Silent(time) => Self::new(
                Exit::Unreachable,
                format!("the peer is there, and has not said anything for {} s", time.as_secs()),
                "ask who runs it; with more --patience, run the same command again: it goes on where it was",
            ),
            TransferError::Unheard(_) => Self::new(
                Exit::Unreachable,
                error.to_string(),
                "check the network; with more --patience, run the same command again: it goes on where it was",
            ),
            TransferError::Unsent(_) => Self::new(
                Exit::Unreachable,
                error.to_string(),
                "let UDP to there out in the firewall of this machine; then run the same command again: it goes on \
                 where it was",
            ),
            TransferError::Cut(_) => Self::new(
                Exit::Unreachable,
                error.to_string(),
                "connect this machine to a network; then run the same command again: it goes on where it was",
            ),
            TransferError::Pattern(why) => Self::new(Exit::Usage, format!("it is no pattern: {why}"), "correct it"),
            TransferError::Protocol(what) => Self::new(
                Exit::Failed,
                format!("the peer broke the file protocol: {what}"),
                "update both sides to the same version; if they are, report this as a defect",
            ),
        }
    }
}

/// The exit code if a whole command ends with this status.
fn exit_of(status: Status) -> Exit {
    match status {
        Status::ReadOnly | Status::Denied | Status::BadPath | Status::Unauthorized => Exit::Refused,
        Status::Corrupt => Exit::Corrupt,
        _ => Exit::Failed,
    }
}

/// Words about a source that would become what another source has become.
pub(crate) const SAME_NAME: &str = "another source has the same last name";

/// Advises what to do about a refusal.
pub(crate) fn advice_on(refusal: &Refusal) -> &'static str {
    match &refusal.text[..] {
        SAME_NAME => "fetch it by itself, to another place",
        _ => advice(refusal.status),
    }
}

/// Advises what to do about a status.
pub(crate) fn advice(status: Status) -> &'static str {
    match status {
        Status::Ok | Status::Identical => "nothing is to be done",
        Status::NotFound => "check the name: `sss ls` shows what is there",
        Status::Denied => "change the permissions of what is named, on the side that has it",
        Status::InTheWay => "move it away, then run the same command again",
        Status::ReadOnly => "ask who runs the server to start it with --write",
        Status::Exists => "move away what is there, or give --force to replace it",
        Status::BadPath => "name something below the directory that is served, without .. and without links on the way",
        Status::WrongKind => "name a regular file or a directory",
        Status::Corrupt => "run the same command again; if it happens again, check memory and disks of both machines",
        Status::Changed => {
            "run the same command again when nobody writes to the file; if it is always written to, copy it there and \
             take the copy"
        }
        Status::Unfinished => "run the same command again when they are complete there",
        Status::Busy => "wait a while, or until the other transfer is done, and run the same command again",
        Status::NoSpace => "free some space and run the same command again: it goes on where it was",
        Status::Unauthorized => "ask who runs the server for its ticket, and give that in place of the address",
        Status::BadRequest => "update both sides to the same version",
        _ => "that is what the system says where it is: mend it there, and run the same command again",
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use super::*;

    #[test]
    fn whoever_is_told_that_it_breaks_the_protocol_does_not_go_on_where_it_was() {
        for (code, exit) in [
            (sss::Code::SETTINGS, Exit::Failed),
            (sss::Code::INTERNAL, Exit::Unreachable),
        ] {
            let reason = String::new();
            let error = Error::from(CloseReason::Peer { code, reason });
            assert_eq!((error.exit, error.next == UPDATE_BOTH), (exit, exit == Exit::Failed));
        }
        let silent = Error::from(TransferError::Refused(Refusal::new(Status::NotFound, "")));
        assert!(silent.what.contains("NotFound"), "{}", silent.what);
    }

    #[test]
    fn one_small_answer_is_told_as_one() {
        let tried = |port: u16, seen| Tried::new(SocketAddr::from(([192, 0, 2, 1], port)).into(), seen);
        let said = |addresses: &[Tried]| {
            let error = NegotiationError::NoAnswer {
                addresses: addresses.to_vec(),
                attempts: 3,
                after: Duration::from_secs(5),
            };
            Error::from(error).to_string()
        };
        let small = said(&[tried(1, Seen::Nothing), tried(2, Seen::SmallOnly)]);
        for words in [
            "no answer from 192.0.2.1:1 (no answer at all), 192.0.2.1:2 (the host has answered one small datagram",
            "may have been lost by chance",
            "within 5 s (3 attempts)",
            "more --timeout",
        ] {
            assert!(small.contains(words), "{words:?}: {small}");
        }
        assert!(!small.contains("is the host running"), "{small}");
        let silent = said(&[tried(1, Seen::Nothing)]);
        assert!(silent.contains("is the host running"), "{silent}");
    }
}
