//! What the program says is for people who know no Rust.

use std::path::Path;

/// Crates whose messages the tool shows.
const CRATES: [&str; 6] = ["ensync-cli", "ensync-client", "ensync-core", "ensync-engine", "ensync-grpc", "ensync-ws"];
/// Texts that no user of the tool sees: targets of the log, names that another library reserves.
const OTHERS: [&str; 4] =
    ["ensync_client::session::supervisor", "ensync::audit", "ensync::logging", "$serde_json::private"];

/// The texts in quotes of a line of code.
fn texts(line: &str) -> Vec<String> {
    line.replace("'\"'", "").split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

fn names_an_item(text: &str) -> bool {
    text.match_indices("::").any(|(at, _)| {
        let before = text[..at].chars().next_back().is_some_and(|c| c.is_ascii_alphanumeric());
        let after = text[at + 2..].chars().next().is_some_and(|c| c.is_ascii_alphabetic());
        before && after
    })
}

fn look(folder: &Path, seen: &mut usize, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            if !["tests", "testing", "harness", "generated"].contains(&name) {
                look(&path, seen, found);
            }
            continue;
        }
        if !name.ends_with(".rs") || name.contains("test") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        // Tests stand at the end of their files.
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap();
        for line in code.lines().filter(|line| !line.trim_start().starts_with("//") && !line.contains("#[")) {
            for text in texts(line) {
                *seen += 1;
                if names_an_item(&text) && !OTHERS.iter().any(|other| text.contains(other)) {
                    found.push(format!("{}: {text}", path.display()));
                }
            }
        }
    }
}

#[test]
fn no_message_names_an_item_of_a_program() {
    assert!(names_an_item("see TlsOptions::add_ca_pem") && !names_an_item("http://[::1]:1") && !names_an_item("[::]"));
    let (mut seen, mut found) = (0, Vec::new());
    for name in CRATES {
        look(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name).join("src"), &mut seen, &mut found);
    }
    assert!(seen > 2_000, "{seen} texts");
    assert!(found.is_empty(), "{}", found.join("\n"));
}
