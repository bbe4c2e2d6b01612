//! Documentation that opens with a noun or a verb, and not with a question.

/// Words that open a question.
const QUESTIONS: &[&str] = &["What", "Whether", "Who", "Whom", "Whose", "How", "When", "Where", "Why"];

/// Crates with comments that open so, and how many at most. The numbers only fall, and nothing is added.
const EXCEPTIONS: &[(&str, usize)] = &[("crates/sss-proto/", 271)];

/// Checks the first word of every comment that documents something in the source of a crate.
pub(crate) fn check(sources: &[(String, String)], findings: &mut Vec<String>) {
    let of_crates = |name: &str| name.starts_with("crates/") && name.contains("/src/");
    let sources = sources.iter().filter(|(name, _)| of_crates(name));
    compare(sources, EXCEPTIONS, findings);
}

fn compare<'a>(
    sources: impl Iterator<Item = &'a (String, String)>,
    exceptions: &[(&str, usize)],
    findings: &mut Vec<String>,
) {
    let mut counts = vec![0; exceptions.len()];
    for (name, text) in sources {
        for (line, word) in questions(text) {
            match exceptions.iter().position(|(place, _)| name.starts_with(place)) {
                Some(place) => counts[place] += 1,
                None => findings.push(format!(
                    "{name}:{line}: documentation opens with \"{word}\", and not with a noun or a verb"
                )),
            }
        }
    }
    for ((place, known), count) in exceptions.iter().zip(counts) {
        if count > *known {
            findings.push(format!(
                "{place}: {count} comments open with a question, at most {known} may: open with a noun or a verb"
            ));
        }
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

    fn findings(text: &str, exceptions: &[(&str, usize)]) -> Vec<String> {
        let mut findings = Vec::new();
        compare(
            [("a/b.rs".to_owned(), text.to_owned())].iter(),
            exceptions,
            &mut findings,
        );
        findings
    }

    #[test]
    fn only_the_first_word_of_a_comment_is_looked_at() {
        assert_eq!(
            findings("/// Bytes left.\n///\n/// What is left of them.\nfn a() {}", &[]),
            [""; 0]
        );
        assert_eq!(findings("// Why it is so.\nfn a() {}", &[]), [""; 0]);
        let found = findings("fn a() {}\n    /// Why, for people.\n    b: u8,", &[]);
        assert_eq!(
            found,
            ["a/b.rs:2: documentation opens with \"Why\", and not with a noun or a verb"]
        );
        assert_eq!(findings("//! Where files are.", &[]).len(), 1);
    }

    #[test]
    fn exceptions_only_shrink() {
        let text = "/// Whether it is.\nfn a() {}\n/// How many.\nfn b() {}";
        assert_eq!(findings(text, &[("a/", 2)]), [""; 0]);
        assert_eq!(findings(text, &[("a/", 1)]).len(), 1);
        assert_eq!(findings(text, &[("b/", 2)]).len(), 2);
    }
}
