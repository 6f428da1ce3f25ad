//! The README's table of published clients, which is to say what the tests found.

use std::path::Path;

use crate::peer::Kind;

/// How a step went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it is meant.
    Works,
    /// A defect of the client's own is in the way; this is where it shows.
    Defect(String),
}

/// Fails unless the README says the same of a client: "yes", or "see n" where note n quotes the evidence.
pub fn check(kind: Kind, found: &[(&str, Outcome)]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = std::fs::read_to_string(path).unwrap();
    let table: Vec<Vec<&str>> =
        readme.lines().skip_while(|line| !line.starts_with("| step |")).map_while(cells).collect();
    let titles = table.first().expect("no table of steps in the README");
    let column = titles.iter().position(|title| title.replace('`', "") == kind.name());
    let column = column.unwrap_or_else(|| panic!("the README's table has no column {:?}", kind.name()));
    for (step, outcome) in found {
        let row = table.iter().find(|row| row[0] == *step);
        let said = row.unwrap_or_else(|| panic!("the README's table has no row {step:?}"))[column];
        let agrees = match (outcome, said.strip_prefix("see ")) {
            (Outcome::Works, None) => said == "yes",
            (Outcome::Defect(evidence), Some(number)) => {
                readme.lines().any(|line| line.starts_with(&format!("{number}. ")) && line.contains(evidence))
            }
            _ => false,
        };
        assert!(agrees, "{step} with {}: the README says {said:?}, the run {outcome:?}", kind.name());
    }
}

fn cells(line: &str) -> Option<Vec<&str>> {
    Some(
        line.strip_prefix("| ")
            .or_else(|| line.strip_prefix('|'))?
            .trim_end_matches('|')
            .split('|')
            .map(str::trim)
            .collect(),
    )
}
