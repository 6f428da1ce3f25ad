//! The guide holds together: every chapter is listed, every link leads somewhere, every example is compiled, every picture can be read in
//! light and dark, and its test vectors are those of the repository.

mod markdown;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use markdown::Document;
use serde_json::Value;

/// Where the repository says that it is.
const REPOSITORY: &str = "https://github.com/EnSync-engine/Rust-SDK/";
/// How many links and examples there are at least: a reader of Markdown that finds nothing finds no fault.
const LINKS: usize = 65;
const EXAMPLES: usize = 28;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn guide() -> PathBuf {
    root().join("crates/ensync-sdk/guide/src")
}

fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|known| known == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Every chapter, without the list of them.
fn chapters() -> Vec<Document> {
    let all = files(&guide(), "md");
    all.into_iter().filter(|path| !path.ends_with("SUMMARY.md")).map(Document::read).collect()
}

/// The path of a file within a directory, with slashes.
fn within(path: &Path, directory: &Path) -> String {
    path.strip_prefix(directory).unwrap().to_str().unwrap().replace('\\', "/")
}

#[test]
fn every_chapter_is_listed_once() {
    let summary = Document::read(guide().join("SUMMARY.md"));
    let mut listed = summary.links.clone();
    listed.sort();
    let there: Vec<_> = chapters().iter().map(|chapter| within(&chapter.path, &guide())).collect();
    let mut sorted = there.clone();
    sorted.sort();
    assert_eq!(listed, sorted);
}

/// Where a link leads, if it is not to another site.
fn broken(from: &Document, link: &str) -> Option<String> {
    let (target, anchor) = link.split_once('#').map_or((link, None), |(target, anchor)| (target, Some(anchor)));
    let path = if let Some(rest) = target.strip_prefix(REPOSITORY) {
        let path = rest.strip_prefix("blob/main/").or_else(|| rest.strip_prefix("tree/main/"));
        root().join(path.unwrap_or(rest))
    } else if let Some(page) = target.strip_prefix("https://docs.rs/ensync-") {
        return documented(page).err();
    } else if target.contains("://") {
        return None;
    } else if target.is_empty() {
        from.path.clone()
    } else {
        from.path.parent().unwrap().join(target)
    };
    if !path.exists() {
        return Some(format!("{} is not there", path.display()));
    }
    // What the book does not hold it cannot link to by a path.
    let inside = path.canonicalize().unwrap().starts_with(guide());
    if from.path.starts_with(guide()) && !target.contains("://") && !inside {
        return Some(format!("{} is outside of the book", path.display()));
    }
    let anchor = anchor?;
    let known = Document::read(path).anchors;
    (!known.contains(anchor)).then(|| format!("there is no heading #{anchor}, only {known:?}"))
}

/// Whether a page of the API documentation is there: one of a crate, or of a module that some file of the crate declares.
fn documented(page: &str) -> Result<(), String> {
    let (name, path) = page.split_once("/latest/").ok_or("name /latest/")?;
    let modules = path.strip_suffix("/index.html").ok_or("link to the page of a crate or a module, .../index.html")?;
    let source = root().join(format!("crates/ensync-{name}/src"));
    let texts: String = files(&source, "rs").iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let missing = modules.split('/').skip(1).find(|module| !texts.contains(&format!("pub mod {module}")));
    match missing {
        Some(module) => Err(format!("ensync-{name} has no module {module}")),
        None if modules.starts_with(&format!("ensync_{name}")) => Ok(()),
        None => Err(format!("{modules} is not of ensync-{name}")),
    }
}

#[test]
fn every_link_leads_somewhere() {
    let mut documents = chapters();
    let others = [
        "README.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "ARCHITECTURE.md",
        "tests/interop/README.md",
        ".github/PULL_REQUEST_TEMPLATE.md",
    ];
    documents.extend(others.map(|path| Document::read(root().join(path))));
    let mut faults = Vec::new();
    let mut count = 0;
    for document in &documents {
        for link in &document.links {
            count += 1;
            let fault = broken(document, link);
            faults.extend(fault.map(|fault| format!("{}: {link}: {fault}", document.path.display())));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(count >= LINKS, "only {count} links were found");
}

#[test]
fn a_broken_link_is_found() {
    let chapter = Document::read(guide().join("faq.md"));
    for (link, expected) in [
        ("nowhere.md", "is not there"),
        ("recipes/proxy.md#no-such-heading", "there is no heading"),
        ("../../Cargo.toml", "is outside of the book"),
        ("https://github.com/EnSync-engine/Rust-SDK/blob/main/nowhere", "is not there"),
        ("https://docs.rs/ensync-engine/latest/ensync_engine/manual/nowhere/index.html", "has no module nowhere"),
        ("https://docs.rs/ensync-sdk/latest/ensync_sdk/struct.Client.html", "link to the page of"),
    ] {
        let fault = broken(&chapter, link).unwrap_or_default();
        assert!(fault.contains(expected), "{link}: {fault:?}");
    }
}

#[test]
fn every_example_is_compiled() {
    let compiled = include_str!("lib.rs");
    let mut count = 0;
    for chapter in chapters() {
        let name = within(&chapter.path, &guide());
        for (language, line) in &chapter.code {
            let mut words = language.split(',');
            let first = words.next().unwrap_or_default();
            assert!(!first.is_empty(), "{name}:{line}: a block without a language would be taken for Rust");
            if first == "rust" {
                count += 1;
                assert!(words.all(|word| word == "no_run"), "{name}:{line}: {language}");
                assert!(compiled.contains(&format!("\"{name}\"")), "tests/guide/lib.rs does not name {name}");
            }
        }
    }
    assert!(count >= EXAMPLES, "only {count} examples were found");
}

#[test]
fn pictures_are_used_and_readable_in_light_and_dark() {
    let chapters = chapters();
    let used: BTreeSet<PathBuf> = chapters
        .iter()
        .flat_map(|chapter| chapter.links.iter().map(|link| chapter.path.parent().unwrap().join(link)))
        .filter_map(|path| path.canonicalize().ok())
        .collect();
    let pictures = files(&guide(), "svg");
    assert!(pictures.len() >= 3);
    for picture in pictures {
        assert!(used.contains(&picture.canonicalize().unwrap()), "{} is in no chapter", picture.display());
        let text = fs::read_to_string(&picture).unwrap();
        // A ground of its own, so that it is readable whatever is behind it.
        for part in ["viewBox=", "<title", "<desc", "prefers-color-scheme: dark", r#"<rect class="page""#] {
            assert!(text.contains(part), "{} has no {part}", picture.display());
        }
    }
}

/// What a test vector of the guide holds is what the file has that the tests of `ensync-core` read.
#[test]
fn vectors_are_those_of_the_repository() {
    let page = fs::read_to_string(guide().join("protocol/vectors.md")).unwrap();
    let vectors = |name: &str| -> Value {
        let path = root().join("crates/ensync-core/tests/vectors").join(name);
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    };
    let envelopes = vectors("envelopes.json");
    let app = &envelopes["apps"][0];
    let mut expected: Vec<&Value> = app.as_object().unwrap().values().filter(|value| *value != "warehouse").collect();
    expected.retain(|value| *value != &app["ed25519_public_hex"]);
    let case = |generator: &str, kind: &str, payload: &str| {
        let cases = envelopes["cases"].as_array().unwrap();
        let found = cases
            .iter()
            .find(|case| case["generator"] == generator && case["kind"] == kind && case["payload"] == payload);
        &found.unwrap()["wire_payload_base64"]
    };
    expected.extend([case("python", "single", "order"), case("node", "hybrid", "empty")]);
    let sealed = vectors("sealed.json");
    let sealed = sealed.as_array().unwrap().iter().find(|case| case["mode"] == "auth" && case["signed"] == false);
    expected.extend(["plaintext", "envelope", "exporter_secret", "T", "wrap"].map(|name| &sealed.unwrap()[name]));
    for value in expected {
        assert!(page.contains(value.as_str().unwrap()), "{value} is not on the page");
    }
}

#[test]
fn the_guide_is_found() {
    for from in ["README.md", "crates/ensync-sdk/src/intro.md"] {
        let text = fs::read_to_string(root().join(from)).unwrap();
        assert!(text.contains("crates/ensync-sdk/guide/src/README.md"), "{from}");
    }
}
