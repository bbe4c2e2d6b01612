//! Handshakes that are authentic, and wrong inside.

use std::time::{Duration, Instant};

use sss_crypto::noise::hostile::ForgedKey;
use sss_wire::constants::BASE_DATAGRAM;
use sss_wire::frame::{Ack, Frame, Init, SettingsFrame, Stream, write_settings};
use sss_wire::long::{self, initiate_room};
use sss_wire::params::{self, Settings};
use sss_wire::{ChannelId, Kem, Writer, varint};

use crate::error::{AttackError, random};
use crate::handshake::{BRIEF, Cookies, Fate, Handshake, PATIENT, offer, true_key};
use crate::tally::Tally;
use crate::victim::Victim;

/// Ids of parameters of HELLO, and of settings.
const VERSIONS: u64 = 1;
const CHANNEL_ID: u64 = 16;
/// Encoded points of low order (RFC 7748 section 6.1; those of the curve and of its twist), below 2^255.
const LOW_ORDER: [[u8; 32]; 7] = [
    first(0),
    first(1),
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda, 0x09,
        0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04, 0x44,
        0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
    ],
    // 2^255 - 19 and its neighbours: -1, and 0 and 1 as they should not be written.
    last(0xec),
    last(0xed),
    last(0xee),
];

const fn first(byte: u8) -> [u8; 32] {
    let mut point = [0; 32];
    point[0] = byte;
    point
}

const fn last(byte: u8) -> [u8; 32] {
    let mut point = [0xff; 32];
    (point[0], point[31]) = (byte, 0x7f);
    point
}

/// A point of low order: the `n`th, with or without the bit that X25519 ignores.
fn low_order(n: usize) -> ForgedKey {
    let mut point = LOW_ORDER.get(n / 2 % LOW_ORDER.len()).copied().unwrap_or_default();
    if let Some(byte) = point.last_mut().filter(|_| n % 2 == 1) {
        *byte |= 0x80;
    }
    ForgedKey::Point(point)
}

/// Wrongs of authentic handshakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    /// None: a channel is made.
    Nothing,
    /// None, but that the service is not there.
    NoService,
    /// None, but limits without end.
    Vast,
    /// HELLO does not say which versions there are.
    NoVersions,
    /// It says it twice.
    TwoVersions,
    /// It offers unknown suites alone.
    NoSuite,
    /// It offers no leg.
    NoKem,
    /// INITIATE leaves the leg out that was chosen.
    LegLeftOut,
    /// Its cookies are in each other's place.
    CookiesSwapped,
    /// Nothing but PADDING is in INITIATE.
    Padding,
    /// PING is before SETTINGS.
    PingFirst,
    /// SETTINGS have no channel id.
    NoChannelId,
    /// The channel id is too long.
    LongChannelId,
    /// The channel id is there twice.
    TwoChannelIds,
    /// SETTINGS end in their midst.
    Cut,
    /// Behind SETTINGS is a frame of no type.
    UnknownFrame,
    /// Behind SETTINGS is an acknowledgement of what was never sent.
    AckNever,
    /// Behind SETTINGS a stream is opened by a name that is the target's to give.
    OthersName,
    /// INITIATE is longer than may be.
    TooLong,
    /// INITIATE is as long as a datagram can be.
    Huge,
}

const WRONGS: [Wrong; 20] = [
    Wrong::Nothing,
    Wrong::NoService,
    Wrong::Vast,
    Wrong::NoVersions,
    Wrong::TwoVersions,
    Wrong::NoSuite,
    Wrong::NoKem,
    Wrong::LegLeftOut,
    Wrong::CookiesSwapped,
    Wrong::Padding,
    Wrong::PingFirst,
    Wrong::NoChannelId,
    Wrong::LongChannelId,
    Wrong::TwoChannelIds,
    Wrong::Cut,
    Wrong::UnknownFrame,
    Wrong::AckNever,
    Wrong::OthersName,
    Wrong::TooLong,
    Wrong::Huge,
];

/// Bytes that something writes.
fn written(write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut space = [0; 2000];
    let mut w = Writer::new(&mut space);
    write(&mut w);
    let len = w.position();
    space.get(..len).unwrap_or_default().to_vec()
}

impl Wrong {
    fn is_right(self) -> bool {
        matches!(self, Self::Nothing | Self::NoService | Self::Vast)
    }

    /// Parameters of HELLO.
    fn hello(self) -> Vec<u8> {
        let mut offered = offer();
        match self {
            Self::NoVersions => written(|w| params::write(w, 2, &[1])),
            Self::TwoVersions => {
                let again = written(|w| params::write(w, VERSIONS, &[0, 0, 0, 1]));
                [offered.to_vec(), again].concat()
            }
            Self::NoSuite => written(|w| {
                params::write(w, VERSIONS, &[0, 0, 0, 1]);
                params::write(w, 2, &[3, 9]);
                params::write(w, 4, &[1]);
            }),
            Self::NoKem => {
                offered.kems = vec![Kem::None];
                offered.to_vec()
            }
            _ => offered.to_vec(),
        }
    }

    /// Frames of INITIATE, if it has this room.
    fn frames(self, room: usize) -> Result<Vec<u8>, AttackError> {
        let id: [u8; 8] = random()?;
        let mut settings = Settings {
            channel_id: ChannelId::new(&id).ok(),
            ..Settings::default()
        };
        if self == Self::Vast {
            settings.root_credit = varint::MAX;
            settings.idle_timeout_ms = varint::MAX;
            settings.max_datagram = varint::MAX;
            settings.max_message = varint::MAX;
        }
        let good = written(|w| write_settings(w, &settings));
        let listed = |list: Vec<u8>| written(|w| SettingsFrame(&list).encode(w));
        let id = |id: &[u8]| written(|w| params::write(w, CHANNEL_ID, id));
        let open = |lsid: u64| {
            let init = Some(Init::top_level(b"nobody offers this", b"x/1").with_credit(0, 100, 100));
            written(|w| {
                Frame::Stream(Stream {
                    lsid,
                    init,
                    offset: 0,
                    fin: true,
                    mark: false,
                    data: b"hello",
                })
                .encode(w);
            })
        };
        let mut frames = match self {
            Self::Padding => vec![0; 10],
            Self::PingFirst => [written(|w| Frame::Ping.encode(w)), good].concat(),
            Self::NoChannelId => listed(Vec::new()),
            Self::LongChannelId => listed(id(&[7; 21])),
            Self::TwoChannelIds => listed([id(&[7; 8]), id(&[8; 8])].concat()),
            Self::Cut => good.iter().take(good.len() - 3).copied().collect(),
            Self::UnknownFrame => [&good[..], &[0x1f, 0x1f]].concat(),
            Self::AckNever => {
                let ack = written(|w| {
                    Ack::write(w, std::iter::once(0..=9), 0, None, 80);
                });
                [good, ack].concat()
            }
            Self::OthersName => [good, open(2)].concat(),
            Self::NoService => [good, open(1)].concat(),
            _ => good,
        };
        match self {
            Self::TooLong => frames.resize(room + 1, 0),
            Self::Huge => frames.resize(room + 60_000, 0),
            _ => {}
        }
        Ok(frames)
    }

    /// Makes what is wrong with the cookies.
    fn spoil(self, cookies: &mut Cookies) {
        match self {
            Self::LegLeftOut => cookies.leg = None,
            Self::CookiesSwapped => {
                if let Some((_, cookie)) = &mut cookies.leg {
                    std::mem::swap(cookie, &mut cookies.cookie);
                }
            }
            _ => {}
        }
    }
}

/// Notes a fate: what is right makes a channel, and what is wrong makes none.
fn note(fate: Fate, is_right: bool, tally: &Tally) {
    match fate {
        Fate::Made if is_right => tally.made(),
        Fate::Made => tally.taken(),
        Fate::Silence | Fate::Refused => {}
    }
}

/// Sends handshakes that are authentic, and wrong inside, each by another identity from another network, in turn with
/// some with which nothing is wrong.
pub(crate) fn payloads(victim: &Victim, time: Duration, tally: &Tally) -> Result<(), AttackError> {
    let begun = Instant::now();
    for (n, wrong) in (1..).zip(WRONGS.into_iter().cycle()) {
        if begun.elapsed() >= time {
            break;
        }
        let mut handshake = Handshake::new(victim, tally, n, true_key()?, &wrong.hello())?;
        let patience = match wrong {
            Wrong::NoVersions | Wrong::TwoVersions => BRIEF,
            _ => PATIENT,
        };
        let mut cookies = handshake.greet(patience);
        wrong.spoil(&mut cookies);
        let kem_len = cookies.leg.as_ref().map_or(0, |(_, cookie)| cookie.len());
        let frames = wrong.frames(initiate_room(cookies.cookie.len(), kem_len))?;
        let Some((packet, split)) = handshake.initiate(cookies, &true_key()?, &frames) else {
            continue;
        };
        debug_assert!(packet.len() <= BASE_DATAGRAM.into() || matches!(wrong, Wrong::TooLong | Wrong::Huge));
        let patience = if wrong.is_right() { PATIENT } else { BRIEF };
        note(handshake.conclude(&packet, &split, patience), wrong.is_right(), tally);
    }
    Ok(())
}

/// Sends keys that are none: points of low order as `e` and as `s`, and encapsulation keys out of range; and keys that
/// are not canonical, with which there is nothing wrong.
pub(crate) fn keys(victim: &Victim, time: Duration, tally: &Tally) -> Result<(), AttackError> {
    let (begun, params) = (Instant::now(), offer().to_vec());
    for n in 1_u16.. {
        if begun.elapsed() >= time {
            break;
        }
        let marked = || Ok::<_, AttackError>(ForgedKey::Marked(sss_crypto::StaticKey::from_bytes(random()?)));
        let (e, s, is_right) = match n % 4 {
            0 => (low_order((n / 4).into()), true_key()?, false),
            1 => (true_key()?, low_order((n / 4).into()), false),
            2 => (true_key()?, true_key()?, false),
            _ => (marked()?, marked()?, true),
        };
        let mut handshake = Handshake::new(victim, tally, n, e, &params)?;
        if n % 4 == 2 {
            // Coefficients of 4095, above the modulus 3329.
            handshake.set_kem_key(&[0xff; long::KEM_KEY]);
        }
        let patience = if matches!(n % 4, 0 | 2) { BRIEF } else { PATIENT };
        let cookies = handshake.greet(patience);
        match n % 4 {
            // HELLO alone is answered, or HELLO_K alone.
            0 if cookies.noise.is_some() => tally.taken(),
            2 if cookies.leg.is_some() => tally.taken(),
            0 | 2 => continue,
            _ => {}
        }
        let frames = Wrong::Nothing.frames(0)?;
        if let Some((packet, split)) = handshake.initiate(cookies, &s, &frames) {
            let patience = if is_right { PATIENT } else { BRIEF };
            note(handshake.conclude(&packet, &split, patience), is_right, tally);
        }
    }
    Ok(())
}
