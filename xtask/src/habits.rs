//! Every step of CI has a recipe of its name in the `justfile`.

use std::collections::BTreeSet;
use std::path::Path;

/// Checks the steps of `.ci/run` against the `justfile`.
pub(crate) fn check(root: &Path, findings: &mut Vec<String>) {
    let read = |name: &str| std::fs::read_to_string(root.join(name)).unwrap_or_default();
    compare(&read(".ci/run"), &read("justfile"), findings);
}

fn compare(ci: &str, justfile: &str, findings: &mut Vec<String>) {
    let steps: BTreeSet<&str> = ci
        .lines()
        .filter_map(|line| line.strip_prefix("step_")?.strip_suffix("() {"))
        .collect();
    let listed = ci
        .lines()
        .find_map(|line| line.strip_prefix("steps=(")?.strip_suffix(')'));
    let listed: BTreeSet<&str> = listed.unwrap_or_default().split(' ').collect();
    for step in steps.symmetric_difference(&listed) {
        findings.push(format!(
            ".ci/run: the step {step} is defined and not listed, or listed and not defined"
        ));
    }
    for step in steps {
        let recipe = justfile.split("\n\n").find(|recipe| {
            let head = recipe.lines().find(|line| !line.starts_with('#')).unwrap_or_default();
            head.split(':').next() == Some(step)
        });
        if !recipe.is_some_and(|recipe| recipe.lines().any(|line| line.trim() == format!(".ci/run {step}"))) {
            findings.push(format!("justfile: no recipe {step} runs `.ci/run {step}`"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_has_a_recipe() {
        let ci = "step_tidy() {\n}\nstep_demo() {\n}\nsteps=(tidy demo)\n";
        let just = "# All.\nci:\n    .ci/run\n\n# One.\ntidy:\n    .ci/run tidy\n\ndemo: tidy\n    .ci/run demo\n";
        let found = |ci: &str, just: &str| {
            let mut findings = Vec::new();
            compare(ci, just, &mut findings);
            findings
        };
        assert_eq!(found(ci, just), [""; 0]);
        assert_eq!(
            found(ci, &just.replace("run demo", "run tidy")),
            ["justfile: no recipe demo runs `.ci/run demo`"]
        );
        assert_eq!(found(&ci.replace("=(tidy demo", "=(tidy"), just).len(), 1);
    }
}
