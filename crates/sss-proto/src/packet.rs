//! The writer into which every part of the core puts its frames.

use sss_wire::Writer;

use crate::padding::Padding;
use crate::token::Token;

/// The plaintext of one packet under construction.
///
/// It owns the space, the tokens and the packet's properties, and knows no channel and no stream.
pub(crate) struct PacketWriter<'a> {
    out: Writer<'a>,
    tokens: &'a mut Vec<Token>,
    ack_eliciting: bool,
    padding: Padding,
}

impl<'a> PacketWriter<'a> {
    /// A writer over `space`, the room for frames. Tokens are appended to `tokens`.
    pub(crate) fn new(space: &'a mut [u8], tokens: &'a mut Vec<Token>) -> Self {
        Self {
            out: Writer::new(space),
            tokens,
            ack_eliciting: false,
            padding: Padding::None,
        }
    }

    /// Bytes still free.
    pub(crate) fn remaining(&self) -> usize {
        self.out.remaining()
    }

    /// Bytes written so far.
    pub(crate) fn len(&self) -> usize {
        self.out.position()
    }

    /// Returns whether nothing was written.
    pub(crate) fn is_empty(&self) -> bool {
        self.out.position() == 0
    }

    /// Returns whether the packet must be acknowledged.
    pub(crate) fn is_ack_eliciting(&self) -> bool {
        self.ack_eliciting
    }

    /// Begins a frame that must be acknowledged. The caller has checked that it fits.
    pub(crate) fn eliciting(&mut self) -> &mut Writer<'a> {
        self.ack_eliciting = true;
        &mut self.out
    }

    /// Begins a frame that needs no acknowledgement (ACK, PADDING, CLOSE).
    pub(crate) fn quiet(&mut self) -> &mut Writer<'a> {
        &mut self.out
    }

    /// Something in the packet is to be padded at least so.
    pub(crate) fn pad(&mut self, padding: Padding) {
        self.padding = self.padding.max(padding);
    }

    /// Padding that what was written wants.
    pub(crate) fn padding(&self) -> Padding {
        self.padding
    }

    /// Remembers a frame until the packet's fate is known.
    pub(crate) fn remember(&mut self, token: Token) {
        self.tokens.push(token);
    }
}
