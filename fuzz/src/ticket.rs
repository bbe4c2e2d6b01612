//! What the tool's modules for transfers need of its tickets.

#[derive(PartialEq)]
pub(crate) struct Secret([u8; Self::LEN]);

impl Secret {
    pub(crate) const LEN: usize = 16;

    pub(crate) fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}
