//! The README's table of published clients, with its notes on a page of their own, which are to say what the tests found.

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

/// Fails unless the README says the same of a client: "yes", or "see n" where note n of the page quotes the evidence.
pub fn check(kind: Kind, found: &[(&str, Outcome)]) {
    let (readme, notes) = (read("../README.md"), read("interop/README.md"));
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
                notes.lines().any(|line| line.starts_with(&format!("{number}. ")) && line.contains(evidence))
            }
            _ => false,
        };
        assert!(agrees, "{step} with {}: the README says {said:?}, the run {outcome:?}", kind.name());
    }
}

/// Fails unless the page says the same of each sender: for each reader "yes", or what it says instead.
pub fn check_hybrid(found: &[(String, [Outcome; 3])]) {
    let page = read("interop/README.md");
    let rows: Vec<&str> = page
        .lines()
        .skip_while(|line| !line.starts_with("| sent by |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .collect();
    let cell = |outcome: &Outcome| match outcome {
        Outcome::Works => "yes".to_owned(),
        Outcome::Defect(evidence) => format!("`{evidence}`"),
    };
    let expected: Vec<String> = found
        .iter()
        .map(|(sender, cells)| format!("| {sender} | {} |", cells.each_ref().map(cell).join(" | ")))
        .collect();
    assert_eq!(rows, expected);
}

/// Fails unless the page's table of values and their types has these rows.
pub fn check_skeletons(rows: &[String]) {
    let page = read("interop/README.md");
    let said: Vec<&str> = page
        .lines()
        .skip_while(|line| !line.starts_with("| value |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .collect();
    assert_eq!(said, rows, "the page should say:\n{}", rows.join("\n"));
}

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
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
