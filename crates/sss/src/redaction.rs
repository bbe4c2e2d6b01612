//! Words for the log in place of what tells who talks to whom: EIDs, addresses, and texts that peers give.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::OnceLock;

use sss_proto::{CloseReason, NegotiationError};
use sss_wire::Eid;

use crate::error::BuildError;

/// Tag that stands for a host in the log of this process: eight hexadecimal digits.
///
/// It is the same in all lines of one run and another in the next, and nobody who has only the log can find the EID
/// that it stands for, or tell whether two processes talk to the same host. At level debug a line names the EID of each
/// tag when the peer connects. Two hosts of 10,000 have the same tag once in about a hundred runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HostTag(u32);

impl HostTag {
    /// The tag of a host.
    pub fn of(eid: &Eid) -> Self {
        static KEY: OnceLock<RandomState> = OnceLock::new();
        let [a, b, c, d, ..] = KEY.get_or_init(RandomState::new).hash_one(eid).to_le_bytes();
        Self(u32::from_le_bytes([a, b, c, d]))
    }
}

impl fmt::Display for HostTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// A reason without the addresses and the words that are in it.
pub(crate) struct Bare<'a>(pub(crate) &'a CloseReason);

impl fmt::Display for Bare<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            CloseReason::Local { code, .. } => write!(f, "closed by this host ({code})"),
            CloseReason::Peer { code, .. } => write!(f, "closed by the peer ({code})"),
            CloseReason::Negotiation(error) => f.write_str(bare(error)),
            known @ (CloseReason::Violation(_)
            | CloseReason::Idle(_)
            | CloseReason::PeerRestarted
            | CloseReason::Replaced
            | CloseReason::KeysUsedUp
            | CloseReason::HostFailed
            | CloseReason::Released) => known.fmt(f),
            _ => f.write_str("another reason"),
        }
    }
}

fn bare(error: &NegotiationError) -> &'static str {
    match error {
        NegotiationError::NoAnswer { .. } => "no answer",
        NegotiationError::NotAccepted { .. } => "the host answered but did not accept us",
        NegotiationError::Forbidden { .. } => "the host does not allow our EID",
        NegotiationError::EndedUnheard => "the peer ended the channel before its answer arrived",
        NegotiationError::Version { .. } => "no version of the protocol in common",
        NegotiationError::Suite => "no cipher suite in common",
        NegotiationError::PostQuantumOff => "the peer requires post-quantum protection",
        NegotiationError::PostQuantumMissing => "the peer has post-quantum protection off",
        NegotiationError::PostQuantumUnanswered { .. } => "the post-quantum part of the answer did not arrive",
        NegotiationError::NoAddress => "no address is known",
        NegotiationError::Sharded => "a host with shards begins no channel",
        NegotiationError::Unfound(_) => "the peer is not to be found",
        NegotiationError::OutsideLan { .. } => "the address is outside of the local network",
        NegotiationError::NotRelayed { .. } => "the peer would be reached directly, and relays alone are used",
        NegotiationError::OwnEid => "that is this host itself",
        NegotiationError::BadEid => "the EID is not a usable public key",
        _ => "the negotiation failed",
    }
}

/// Words of the system about a socket that cannot be bound, without the address.
pub(crate) fn cause(error: &BuildError) -> String {
    match error {
        BuildError::Bind { source, .. } => source.to_string(),
        BuildError::PortInUse { .. } => io::ErrorKind::AddrInUse.to_string(),
        BuildError::BadAddress { .. } => io::ErrorKind::InvalidInput.to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_stays_and_differs() {
        let (a, b) = (Eid::from_public_key(&[1; 32]), Eid::from_public_key(&[2; 32]));
        assert_eq!(HostTag::of(&a), HostTag::of(&a));
        // Three times the same by chance: once in 10^28.
        let differs = (3..6).any(|byte| HostTag::of(&a) != HostTag::of(&Eid::from_public_key(&[byte; 32])));
        assert!(differs && HostTag::of(&b).to_string().len() == 8);
    }

    #[test]
    fn nothing_of_a_peer_is_in_a_bare_reason() {
        let said = "sss1qqqq at 192.0.2.7:1".to_owned();
        let code = sss_wire::Code::REFUSED_SERVICE;
        let address = || "192.0.2.7:1".to_owned();
        let after = std::time::Duration::from_secs(1);
        let negotiation = [
            NegotiationError::Forbidden {
                address: address(),
                reason: said.clone(),
            },
            NegotiationError::NotAccepted {
                address: address(),
                after,
                is_busy: false,
            },
            NegotiationError::PostQuantumUnanswered {
                address: address(),
                after,
                is_busy: false,
            },
        ];
        let closed = [
            CloseReason::Peer {
                code,
                reason: said.clone(),
            },
            CloseReason::Local { code, reason: said },
        ];
        for reason in negotiation.into_iter().map(CloseReason::Negotiation).chain(closed) {
            let (full, shown) = (reason.to_string(), Bare(&reason).to_string());
            assert!(full.contains("192.0.2.7"), "{full}");
            assert!(
                !shown.contains("192.0.2.7") && !shown.contains("sss1") && !shown.is_empty(),
                "{shown}"
            );
        }
        let address = "192.0.2.7:1".parse().unwrap();
        let shown = cause(&BuildError::PortInUse { address });
        let bind = cause(&BuildError::Bind {
            address,
            source: io::ErrorKind::PermissionDenied.into(),
        });
        assert!(!shown.contains("192") && !bind.contains("192"), "{shown} {bind}");
    }
}
