//! Colours of pictures, which follow the reader's scheme by CSS.

use std::fmt::Write as _;

/// Colours on white and on black (after Okabe and Ito, "Color Universal Design", 2008).
const COLOURS: [(&str, &str); 8] = [
    ("#0072b2", "#3d9fe0"),
    ("#e69f00", "#e69f00"),
    ("#009e73", "#17b98c"),
    ("#cc79a7", "#cc79a7"),
    ("#d55e00", "#e8732a"),
    ("#6f6f6f", "#a8a8a8"),
    ("#8c6bb1", "#a98bd0"),
    ("#a6a23a", "#d6d05a"),
];

/// The class of what is filled with a colour.
pub(crate) fn class(index: usize) -> String {
    format!("l{}", index % COLOURS.len())
}

/// The class of a line of that colour.
pub(crate) fn line_class(index: usize) -> String {
    format!("s{}", index % COLOURS.len())
}

/// Two sets of colours: the reader's scheme chooses. Text has an edge of paper, so that lines do not cross it.
pub(crate) fn styles() -> String {
    let scheme = |paper: &str, ink: &str, grid: &str, of: fn(&(&'static str, &'static str)) -> &'static str| {
        let mut css = format!(
            ".paper{{fill:{paper}}}.ink{{fill:{ink};stroke:{paper};stroke-width:3;paint-order:stroke}}\n\
             .grid{{stroke:{grid}}}.one{{stroke:{ink}}}\n"
        );
        for (index, colours) in COLOURS.iter().enumerate() {
            let (colour, line) = (of(colours), line_class(index));
            let _ = write!(css, ".{}{{fill:{colour}}}.{line}{{stroke:{colour}}}", class(index));
        }
        css + "\n"
    };
    let light = scheme("#ffffff", "#1f2328", "#d0d7de", |colours| colours.0);
    let dark = scheme("#0d1117", "#e6edf3", "#30363d", |colours| colours.1);
    format!("{light}@media (prefers-color-scheme:dark){{\n{dark}}}\n")
}
