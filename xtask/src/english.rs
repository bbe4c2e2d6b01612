//! Documentation that opens with a noun or a verb, and not with a question.

/// Words that open a question.
const QUESTIONS: &[&str] = &["What", "Whether", "Who", "Whom", "Whose", "How", "When", "Where", "Why"];

/// Checks the first word of every comment that documents something in the source of a crate.
pub(crate) fn check(sources: &[(String, String)], findings: &mut Vec<String>) {
    let of_crates = |name: &str| name.starts_with("crates/") && name.contains("/src/");
    for (name, text) in sources.iter().filter(|(name, _)| of_crates(name)) {
        findings.extend(questions(text).map(|(line, word)| {
            format!("{name}:{line}: documentation opens with \"{word}\", and not with a noun or a verb")
        }));
    }
}

/// Lines at which a comment opens with a question, and the word.
fn questions(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut goes_on = false;
    (1..).zip(text.lines()).filter_map(move |(number, line)| {
        let line = line.trim_start();
        let comment = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"));
        let is_first = !std::mem::replace(&mut goes_on, comment.is_some());
        let word = comment?.split_whitespace().next()?.trim_end_matches([',', ':', ';']);
        (is_first && QUESTIONS.contains(&word)).then_some((number, word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(name: &str, text: &str) -> Vec<String> {
        let mut findings = Vec::new();
        check(&[(name.to_owned(), text.to_owned())], &mut findings);
        findings
    }

    #[test]
    fn only_the_first_word_of_a_comment_is_looked_at() {
        let findings = |text| findings("crates/a/src/b.rs", text);
        assert_eq!(
            findings("/// Bytes left.\n///\n/// What is left of them.\nfn a() {}"),
            [""; 0]
        );
        assert_eq!(findings("// Why it is so.\nfn a() {}"), [""; 0]);
        let found = findings("fn a() {}\n    /// Why, for people.\n    b: u8,");
        assert_eq!(
            found,
            ["crates/a/src/b.rs:2: documentation opens with \"Why\", and not with a noun or a verb"]
        );
        assert_eq!(findings("//! Where files are.").len(), 1);
    }

    #[test]
    fn every_comment_of_the_source_of_a_crate_counts() {
        let text = "/// Whether it is.\nfn a() {}\n/// How many.\nfn b() {}";
        assert_eq!(findings("crates/a/src/b.rs", text).len(), 2);
        assert_eq!(findings("crates/a/tests/b.rs", text), [""; 0]);
        assert_eq!(findings("xtask/src/b.rs", text), [""; 0]);
    }
}
