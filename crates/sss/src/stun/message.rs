//! Messages of STUN (RFC 8489): the question, and what an answer says.

use std::net::SocketAddr;

use stun_types::attribute::{Attribute, AttributeStaticType, ErrorCode, Fingerprint, XorMappedAddress};
use stun_types::message::{BINDING, Message, MessageClass, MessageType, MessageWrite, MessageWriteVec};

use super::desk::{StunState, TransactionId, is_credible};
use crate::driver::addresses;

/// Longest text of a server's that is told.
const MAX_SAID: usize = 120;

/// Binding request without attributes: nothing in it tells of this host.
pub(super) fn request(id: TransactionId) -> Vec<u8> {
    let mut number = [0; 16];
    if let Some(last) = number.get_mut(4..) {
        last.copy_from_slice(&id);
    }
    let kind = MessageType::from_class_method(MessageClass::Request, BINDING);
    Message::builder(kind, u128::from_be_bytes(number).into(), MessageWriteVec::new()).finish()
}

/// Meaning of an answer that came from there; else why it has none.
pub(super) fn read(server: SocketAddr, answer: &[u8]) -> Result<SocketAddr, StunState> {
    let useless = |why: &str| StunState::Useless(said(why));
    let message = Message::from_bytes(answer).map_err(|error| useless(&error.to_string()))?;
    if !message.has_method(BINDING) {
        return Err(useless("it answers something else"));
    }
    if message.has_class(MessageClass::Error) {
        let code = message.attribute::<ErrorCode>();
        let code = code.map_err(|_| useless("it refuses, and does not say why"))?;
        return Err(StunState::Refused(said(&format!("{} {}", code.code(), code.reason()))));
    }
    // RFC 8489, section 6.3.3.
    let known = [XorMappedAddress::TYPE, Fingerprint::TYPE];
    let mut kinds = message.iter_attributes().map(|(_, attribute)| attribute.get_type());
    if kinds.any(|kind| kind.comprehension_required() && !known.contains(&kind) && !is_superseded(kind.value())) {
        return Err(useless("it cannot be understood without what is not known here"));
    }
    let mapped = message.attribute::<XorMappedAddress>();
    let mapped = mapped.map_err(|_| useless("it does not say where it sees this host"))?;
    let seen = addresses::canonical(mapped.addr(message.transaction_id()));
    match is_credible(server, seen) {
        true => Ok(seen),
        false => Err(useless(&format!("{seen} cannot be where it sees this host"))),
    }
}

/// Attributes of RFC 3489 and RFC 5780 that old servers add, and that say nothing more: MAPPED-ADDRESS, SOURCE-ADDRESS,
/// CHANGED-ADDRESS; and those of authentication, which nobody has asked for.
fn is_superseded(kind: u16) -> bool {
    matches!(kind, 0x0001 | 0x0004 | 0x0005 | 0x0008 | 0x001c)
}

/// Text of a server's, as it is told: short, and without what terminals obey.
pub(super) fn said(text: &str) -> String {
    sss_wire::printable(&text.chars().take(MAX_SAID).collect::<String>()).into_owned()
}

#[cfg(test)]
mod tests {
    use stun_types::attribute::{Realm, Username};
    use stun_types::message::MessageWriteExt;

    use super::*;

    const ID: TransactionId = [9; 12];

    fn server() -> SocketAddr {
        "192.0.2.1:3478".parse().unwrap()
    }

    fn answer(seen: &str) -> MessageWriteVec {
        let question = request(ID);
        let question = Message::from_bytes(&question).unwrap();
        let mut answer = Message::builder_success(&question, MessageWriteVec::new());
        let address = XorMappedAddress::new(seen.parse().unwrap(), question.transaction_id());
        answer.add_attribute(&address).unwrap();
        answer
    }

    fn useless(answer: &[u8]) -> bool {
        matches!(read(server(), answer), Err(StunState::Useless(_)))
    }

    // spec: RCH-52
    #[test]
    fn a_question_is_a_header_with_nothing_of_this_host() {
        let question = request(ID);
        assert_eq!(question[..8], [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
        assert_eq!(question[8..], ID);
    }

    // spec: RCH-53
    #[test]
    fn an_answer_tells_an_address_and_what_cannot_be_understood_tells_none() {
        let seen = "198.51.100.7:40112";
        let good = answer(seen).finish();
        assert_eq!(read(server(), &good), Ok(seen.parse().unwrap()));
        let mapped = read(server(), &answer("[::ffff:198.51.100.7]:40112").finish());
        assert_eq!(mapped, Ok(seen.parse().unwrap()));
        for length in 0..good.len() {
            assert!(useless(&good[..length]), "{length}");
        }
        let mut required = answer(seen);
        required.add_attribute(&Username::new("x").unwrap()).unwrap();
        assert!(useless(&required.finish()), "an attribute that has to be understood");
        let question = request(ID);
        let question = Message::from_bytes(&question).unwrap();
        assert!(useless(
            &Message::builder_success(&question, MessageWriteVec::new()).finish()
        ));
        let mut refusal = Message::builder_error(&question, MessageWriteVec::new());
        refusal
            .add_attribute(&ErrorCode::new(401, "\x1b[2JNo").unwrap())
            .unwrap();
        refusal.add_attribute(&Realm::new("r").unwrap()).unwrap();
        let Err(StunState::Refused(said)) = read(server(), &refusal.finish()) else {
            panic!("not refused");
        };
        assert!(said.starts_with("401") && !said.contains('\x1b'), "{said}");
    }

    // spec: RCH-54
    #[test]
    fn threat_47_an_address_that_cannot_be_this_hosts_is_none() {
        for seen in ["127.0.0.1:80", "192.168.1.1:80", "224.0.0.251:5353", "198.51.100.7:0"] {
            assert!(useless(&answer(seen).finish()), "{seen}");
        }
    }
}
