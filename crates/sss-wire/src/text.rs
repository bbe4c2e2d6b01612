//! Text on the wire.

/// The longest beginning of `text` of at most `max` bytes that is whole characters.
pub fn truncate_text(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max)).unwrap_or(text)
}
