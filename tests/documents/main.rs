//! The documents of the published clients, line by line: what each names, and the Rust line that does it.
//!
//! - `rows.json`: the facts, a row each;
//! - `lines.rs`: the lines, run over both transports;
//! - the page `published_documents` of `ensync-sdk` is made of them: `ENSYNC_WRITE=1 cargo test -p ensync-tests --test documents` writes it.

mod lines;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// How many rows there are at least.
const ROWS: usize = 90;

/// The part of the table that holds no code.
const STATEMENTS: &str = "What they say, in other words";

/// How each table begins.
const HEAD: &str = "\
| theirs | in | type | default there | here | default here | note |
|---|---|---|---|---|---|---|
";

/// What one or several of the documents name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    /// Which part of the documents.
    part: String,
    /// Which documents: `node`, `python`, `websocket`.
    documents: Vec<String>,
    /// As they call it.
    theirs: String,
    /// Its type, if they say.
    #[serde(rename = "type", default)]
    kind: String,
    /// What it is there if nobody says.
    #[serde(default)]
    default: String,
    /// The Rust line, or for a sample the program, or nothing.
    #[serde(default)]
    rust: String,
    /// What it is here if nobody says.
    #[serde(default)]
    here: String,
    /// Why, where that differs; or what else there is to say.
    #[serde(default)]
    note: String,
    /// The test that holds a statement: `path::function`.
    #[serde(default)]
    test: String,
    /// What the default looks like in the engine handle's `Debug`.
    #[serde(default)]
    shown: Option<String>,
}

fn rows() -> Vec<Row> {
    serde_json::from_str(include_str!("rows.json")).unwrap()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Without the blanks that formatting moves.
fn dense(code: &str) -> String {
    code.split_whitespace().collect()
}

#[test]
fn every_line_is_run() {
    let code: String = include_str!("lines.rs").lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = dense(&code);
    let rows = rows();
    assert!(rows.len() >= ROWS, "only {} rows", rows.len());
    for row in &rows {
        match row.rust.strip_suffix(".rs") {
            // `.ci/run` runs every example.
            Some(_) => assert!(root().join(&row.rust).is_file(), "{} is not there", row.rust),
            None if row.rust.is_empty() => {
                let said = !row.note.is_empty() || !row.test.is_empty();
                assert!(said, "{}: neither a line nor a test nor a reason", row.theirs);
            }
            None => assert!(code.contains(&dense(&row.rust)), "lines.rs does not run {}", row.rust),
        }
    }
}

#[test]
fn every_test_that_is_named_is_there() {
    let named: Vec<_> = rows().into_iter().map(|row| row.test).filter(|test| !test.is_empty()).collect();
    assert!(named.len() >= 15, "only {named:?}");
    for test in named {
        let (path, function) = test.split_once("::").expect("path::function");
        let code = fs::read_to_string(root().join(path)).unwrap_or_default();
        assert!(code.contains(&format!("fn {function}(")), "there is no {test}");
    }
}

#[test]
fn where_defaults_differ_the_reason_stands_there() {
    for row in rows() {
        assert!(row.default == row.here || !row.note.is_empty(), "{}: {} and {}", row.theirs, row.default, row.here);
    }
}

#[test]
fn every_document_is_there() {
    let named: BTreeSet<String> = rows().into_iter().flat_map(|row| row.documents).collect();
    assert_eq!(named, ["node", "python", "websocket"].map(str::to_owned).into());
}

/// The page, as it is to be.
fn page() -> String {
    let mut page = String::from(
        "The documents of the published clients, line by line: what each of them names, and the Rust line that does it.\n\n\
         The documents are those of the Node client (December 2025), of the Python client 0.3.3, and of the Python client over\n\
         WebSocket. This page is made by a test, which also runs every line over both transports.\n\n\
         What these clients have beyond their documents is on the page\n\
         [Coming from Python, Node or Go](crate::coming_from_python_node_or_go).\n",
    );
    let rows = rows();
    let mut part = "";
    for row in &rows {
        if row.part != part {
            part = &row.part;
            page += &format!("\n# {part}\n\n{HEAD}");
        }
        let code = |text: &str| if text.is_empty() { String::new() } else { format!("`{text}`") };
        let held = match row.test.rsplit_once("::") {
            Some((_, function)) => format!("held by the test `{function}`"),
            None => String::new(),
        };
        let note = [held, row.note.clone()].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; ");
        let theirs = if row.part == STATEMENTS { row.theirs.clone() } else { code(&row.theirs) };
        let cells = [
            theirs,
            row.documents.join(", "),
            row.kind.clone(),
            code(&row.default),
            code(&row.rust),
            code(&row.here),
            note,
        ];
        page += &format!("| {} |\n", cells.map(|cell| cell.replace('|', "\\|")).join(" | "));
    }
    page
}

#[test]
fn the_page_is_made_of_the_rows() {
    let path = root().join("crates/ensync-sdk/src/published_documents.md");
    if std::env::var_os("ENSYNC_WRITE").is_some() {
        fs::write(&path, page()).unwrap();
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(there, page(), "write it anew: ENSYNC_WRITE=1 cargo test -p ensync-tests --test documents");
}
