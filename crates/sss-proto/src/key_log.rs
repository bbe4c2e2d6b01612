//! Secrets of channels for those who read captures (docs/spec/protection.md, "Key log"): nothing is kept for it unless
//! it was asked for ([`Config::key_log`](crate::Config::key_log)).

use std::fmt::Write;

use sss_crypto::Suite;
use sss_crypto::schedule::Secret;
use sss_wire::ChannelId;
use zeroize::Zeroizing;

/// A secret of one direction of a channel: whoever has it reads packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelSecret {
    /// The suite of the channel.
    pub suite: Suite,
    /// The id that the packets carry: that of their receiver.
    pub channel_id: ChannelId,
    /// Its use.
    pub purpose: SecretPurpose,
    /// The secret. Wiped when dropped.
    pub secret: Secret,
}

/// Purpose of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SecretPurpose {
    /// `hp` of the specification: the key of the header masks, in all generations.
    Header,
    /// `s` of the specification: the secret of packets of this generation, and by derivation of all later ones.
    Generation(u32),
}

impl ChannelSecret {
    /// The line of a key log, without its end.
    pub fn line(&self) -> Zeroizing<String> {
        let suite = match self.suite {
            Suite::ChaCha20Poly1305 => "CHACHA20_POLY1305",
            Suite::Aes256Gcm => "AES_256_GCM",
        };
        // Long enough: what is written anew elsewhere is not wiped here.
        let mut line = Zeroizing::new(String::with_capacity(192));
        let written = match self.purpose {
            SecretPurpose::Header => write!(line, "SSS_{suite}_HEADER "),
            SecretPurpose::Generation(n) => write!(line, "SSS_{suite}_SECRET_{n} "),
        };
        debug_assert!(written.is_ok());
        push_hex(&mut line, self.channel_id.as_slice());
        line.push(' ');
        push_hex(&mut line, self.secret.reveal());
        line
    }
}

fn push_hex(line: &mut String, bytes: &[u8]) {
    for byte in bytes {
        let digits = [byte >> 4, byte & 15].map(|digit| char::from_digit(digit.into(), 16));
        line.extend(digits.into_iter().flatten());
    }
}

/// Direction of packets, seen from this host.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Direction {
    Sent,
    Received,
}

/// Secrets that a channel has begun to use and its owner was not told yet; none are kept if nobody asked for them.
#[derive(Default)]
pub(crate) struct KeyLog(Option<Box<Untold>>);

struct Untold {
    suite: Suite,
    sent: ChannelId,
    received: ChannelId,
    secrets: Vec<ChannelSecret>,
}

impl KeyLog {
    /// A log of a channel, if it `is_wanted`: packets that are sent and received carry these ids.
    pub(crate) fn new(is_wanted: bool, suite: Suite, sent: ChannelId, received: ChannelId) -> Self {
        Self(is_wanted.then(|| {
            Box::new(Untold {
                suite,
                sent,
                received,
                secrets: Vec::new(),
            })
        }))
    }

    /// A key of header masks is used from now on.
    pub(crate) fn note_header(&mut self, direction: Direction, key: &[u8; 32]) {
        if self.0.is_some() {
            self.note(direction, SecretPurpose::Header, &Secret::new(*key));
        }
    }

    /// A generation is used from now on.
    pub(crate) fn note_generation(&mut self, direction: Direction, generation: u32, secret: &Secret) {
        self.note(direction, SecretPurpose::Generation(generation), secret);
    }

    fn note(&mut self, direction: Direction, purpose: SecretPurpose, secret: &Secret) {
        let Some(untold) = &mut self.0 else {
            return;
        };
        untold.secrets.push(ChannelSecret {
            suite: untold.suite,
            channel_id: match direction {
                Direction::Sent => untold.sent,
                Direction::Received => untold.received,
            },
            purpose,
            secret: secret.clone(),
        });
    }

    /// Takes what was noted.
    pub(crate) fn take(&mut self) -> Vec<ChannelSecret> {
        let untold = self.0.as_mut();
        untold
            .map(|untold| std::mem::take(&mut untold.secrets))
            .unwrap_or_default()
    }
}
