//! The flags by which a host that is reached by relays alone asks its server to tell nobody its address (RCH-38).

/// In the record REGISTER: where its flags are, and the one.
const REGISTER: (usize, u8) = (9, 4);
/// In the plaintext of LEASE.
const LEASE: (usize, u8) = (20, 8);

fn set(mut bytes: Vec<u8>, (at, flag): (usize, u8), is_set: bool) -> Vec<u8> {
    if let Some(flags) = bytes.get_mut(at).filter(|_| is_set) {
        *flags |= flag;
    }
    bytes
}

fn is_set(bytes: &[u8], (at, flag): (usize, u8)) -> bool {
    bytes.get(at).is_some_and(|flags| flags & flag != 0)
}

/// REGISTER, with the wish if that is set.
pub(crate) fn register(record: Vec<u8>, is_veiled: bool) -> Vec<u8> {
    set(record, REGISTER, is_veiled)
}

/// Returns whether a REGISTER has the wish.
pub(crate) fn is_in_register(record: &[u8]) -> bool {
    is_set(record, REGISTER)
}

/// The plaintext of LEASE, with the wish if that is set.
pub(crate) fn lease(plaintext: Vec<u8>, is_veiled: bool) -> Vec<u8> {
    set(plaintext, LEASE, is_veiled)
}

/// Returns whether a LEASE has the wish.
pub(crate) fn is_in_lease(plaintext: &[u8]) -> bool {
    is_set(plaintext, LEASE)
}

#[cfg(test)]
mod tests {
    use sss_wire::reach::bodies::{Lease, MappedPort, Presence};
    use sss_wire::reach::records::{Register, Request, Visibility};

    use super::*;

    // spec: RCH-38
    #[test]
    fn the_wish_is_one_flag_beside_the_others_and_changes_nothing_else() {
        for (visibility, before) in [(Visibility::Hidden, 0), (Visibility::Known, 1), (Visibility::Listed, 3)] {
            let request = Request::Register(Register {
                instance: [7; 8],
                visibility,
                words: "chat".to_owned(),
                profile: "x".to_owned(),
            });
            let plain = request.encode();
            let veiled = register(plain.clone(), true);
            assert_eq!((plain[9], veiled[9]), (before, before | 4));
            assert_eq!((&veiled[..9], &veiled[10..]), (&plain[..9], &plain[10..]));
            assert_eq!(Request::decode(&veiled), Ok(request));
            assert_eq!([&plain, &veiled].map(|record| is_in_register(record)), [false, true]);
            assert_eq!(register(plain.clone(), false), plain);
        }
        for (presence, wants_echo, before) in [(Presence::Found, true, 5), (Presence::Hidden, false, 0)] {
            let said = Lease {
                boot: [1; 8],
                counter: u64::MAX,
                rtt: u32::MAX,
                presence,
                answer: None,
                mapped: MappedPort { port: 9, wants_echo },
            };
            let plain = said.encode(40);
            let veiled = lease(plain.clone(), true);
            assert_eq!((plain[20], veiled[20]), (before, before | 8));
            assert_eq!((&veiled[..20], &veiled[21..]), (&plain[..20], &plain[21..]));
            assert_eq!(Lease::decode(&veiled), Ok(said));
            assert_eq!([&plain, &veiled].map(|bytes| is_in_lease(bytes)), [false, true]);
            assert_eq!(lease(plain.clone(), false), plain);
        }
        assert!(!is_in_register(&[]) && !is_in_lease(&[0xff; 20]));
    }
}
