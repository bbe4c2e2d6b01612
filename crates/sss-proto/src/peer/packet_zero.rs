//! Contents of INITIATE and ACCEPT: packet 0 of each direction of a channel (NEG-16, CHN-1).

use sss_wire::Code;
use sss_wire::frame::{self, Close, Frame, Frames};
use sss_wire::params::{Process, Settings};

use super::context::Arrival;
use crate::error::{CloseReason, NegotiationError, ProtocolError};
use crate::ids::TreeId;
use crate::negotiation::Proven;
use crate::packet::PacketWriter;
use crate::padding::Padding;
use crate::role::Role;
use crate::streams::{Length, Streams};
use crate::token::Token;

/// Fate of the attempt that INITIATE named, as ACCEPT tells it (NEG-25).
pub(super) enum EarlierFate {
    /// It made no channel, and never will.
    NeverAccepted,
    /// It, or a later one of its row, made a channel of which ACCEPT did not arrive; the tree that began with that has
    /// the new channel.
    Begun(TreeId),
    /// Nobody knows.
    Unknown,
}

/// SETTINGS, and as many frames of the streams as fit; as long as may be if packets are padded (CHN-16).
pub(super) fn write(
    (room, padding): (usize, Padding),
    settings: &Settings,
    streams: Option<&mut Streams>,
    tokens: &mut Vec<Token>,
) -> Vec<u8> {
    let mut space = vec![0; room];
    let mut writer = PacketWriter::new(&mut space, tokens);
    frame::write_settings(writer.eliciting(), settings);
    if let Some(streams) = streams {
        streams.fill(&mut writer, Length::Fixed(0));
    }
    let (len, padding) = (writer.len(), padding.max(writer.padding()));
    if padding == Padding::None {
        space.truncate(len);
    }
    #[cfg(any(test, fuzzing))]
    crate::hostile::spoil(&mut space, room);
    space
}

/// Reads the SETTINGS that packet 0 must begin with.
///
/// # Errors
/// If there are none, or they are malformed.
pub(super) fn read_settings(frames: &mut Frames<'_>) -> Result<Settings, ProtocolError> {
    match frames.next() {
        Some(Ok(Frame::Settings(settings))) => {
            Settings::decode(settings).map_err(|m| ProtocolError::new(Code::SETTINGS, m.0))
        }
        _ => Err(ProtocolError::new(
            Code::SETTINGS,
            "packet 0 does not begin with SETTINGS",
        )),
    }
}

/// Reads the SETTINGS that INITIATE begins with.
///
/// # Errors
/// If there are none, or an initiator cannot say that: then it is refused.
pub(crate) fn settings_of(proven: &Proven) -> Result<Settings, ProtocolError> {
    let settings = read_settings(&mut Frames::new(&proven.frames))?;
    if settings.channel_id.is_none() {
        return Err(ProtocolError::new(Code::SETTINGS, "INITIATE without channel_id"));
    }
    Ok(settings)
}

/// CHN-1: an initiator names its channel id in SETTINGS, a responder does not. `role` is that of this host.
///
/// # Errors
/// If the peer did otherwise.
pub(super) fn check_role(settings: &Settings, role: Role) -> Result<(), ProtocolError> {
    if settings.channel_id.is_some() == (role == Role::Initiator) {
        return Err(ProtocolError::new(
            Code::SETTINGS,
            "channel_id belongs into INITIATE only",
        ));
    }
    Ok(())
}

/// NEG-25: what the frames of ACCEPT say of the attempt before.
pub(super) fn fate_of(earlier: &[u8; 8], frames: &[u8]) -> EarlierFate {
    let Ok(settings) = read_settings(&mut Frames::new(frames)) else {
        return EarlierFate::Unknown;
    };
    match (settings.attempts.void, settings.tree) {
        (_, Some(tree)) => EarlierFate::Begun(tree),
        (Some(void), None) if void == *earlier => EarlierFate::NeverAccepted,
        (_, None) => EarlierFate::Unknown,
    }
}

/// MIG-2: who has answered, if the frames of ACCEPT are those of a channel with which another tree begins; the inner
/// `None`, if it does not tell (MIG-30).
pub(super) fn stranger(frames: &[u8]) -> Option<Option<Process>> {
    let settings = read_settings(&mut Frames::new(frames)).ok()?;
    settings.tree.is_none().then_some(settings.process)
}

/// MIG-2, MIG-4: whether the channel is one of the tree that was asked for, or of a new one if none was.
///
/// # Errors
/// If ACCEPT names a tree that was not asked for.
pub(super) fn is_of_tree(asked: Option<TreeId>, told: Option<TreeId>) -> Result<bool, ProtocolError> {
    match (asked, told) {
        (None, None) => Ok(true),
        (Some(asked), Some(told)) if asked == told => Ok(true),
        (Some(_), None) => Ok(false),
        _ => Err(ProtocolError::new(Code::SETTINGS, "a tree that was not asked for")),
    }
}

/// Returns whether a refusal would meet any channel with the peer, whatever its tree (MIG-4).
pub(super) fn is_of_any_tree(refusal: &CloseReason) -> bool {
    match refusal {
        CloseReason::Negotiation(NegotiationError::Forbidden { .. }) => true,
        CloseReason::Peer { code, .. } => [Code::LIMIT, Code::SHUTDOWN].contains(code),
        _ => false,
    }
}

/// NEG-23: why the peer wants no channel.
pub(super) fn refusal(close: &Close<'_>, arrival: &Arrival) -> CloseReason {
    match close.code {
        Code::FORBIDDEN => CloseReason::Negotiation(NegotiationError::Forbidden {
            address: arrival.route.to_string(),
            reason: close.reason.to_owned(),
        }),
        code => CloseReason::Peer {
            code,
            reason: close.reason.to_owned(),
        },
    }
}
