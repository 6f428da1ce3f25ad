//! As much of Markdown as the guide uses: links, headings, blocks of code.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

/// A page, as far as the tests look at it.
pub struct Document {
    pub path: PathBuf,
    /// Where its links and pictures lead, in their order.
    pub links: Vec<String>,
    /// What its headings are called in links.
    pub anchors: BTreeSet<String>,
    /// The language of each block of code, and its line.
    pub code: Vec<(String, usize)>,
}

impl Document {
    pub fn read(path: PathBuf) -> Self {
        let text = fs::read_to_string(&path).unwrap_or_else(|cause| panic!("{}: {cause}", path.display()));
        let mut document = Self { path, links: Vec::new(), anchors: BTreeSet::new(), code: Vec::new() };
        let mut in_code = false;
        for (at, line) in text.lines().enumerate() {
            if let Some(language) = line.trim_start().strip_prefix("```") {
                in_code = !in_code;
                if in_code {
                    document.code.push((language.trim().to_owned(), at + 1));
                }
            } else if !in_code {
                if let Some(heading) = line.strip_prefix('#') {
                    document.anchors.insert(anchor(heading.trim_start_matches('#').trim()));
                }
                document.links.extend(links(line));
            }
        }
        assert!(!in_code, "{}: a block of code does not end", document.path.display());
        document
    }
}

/// The name of a heading in links: small letters, digits, `-` for blanks, nothing else.
fn anchor(heading: &str) -> String {
    let kept = |c: char| match c {
        c if c.is_alphanumeric() || c == '_' || c == '-' => Some(c.to_ascii_lowercase()),
        c if c.is_whitespace() => Some('-'),
        _ => None,
    };
    heading.chars().filter_map(kept).collect()
}

/// The targets of `[text](target)` outside of code spans.
fn links(line: &str) -> Vec<String> {
    // What stands between backticks is code, and is left out, but for the links around it.
    let plain: String = line.split('`').step_by(2).collect();
    let targets = plain.split("](").skip(1);
    targets.filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())).collect()
}
