//! The inputs that the fuzzers in `fuzz/` keep, replayed: those that cover the code, and those that once found a defect.

use std::fs;
use std::path::Path;

#[path = "fuzz/targets/mod.rs"]
mod targets;

fn replay(target: &str, run: fn(&[u8]) -> bool) {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let files = |folder: &str| fs::read_dir(fuzz.join(folder).join(target)).into_iter().flatten();
    let mut refused_and_taken = [0, 0];
    for file in files("corpus").chain(files("found")) {
        let path = file.unwrap().path();
        let input = fs::read(&path).unwrap();
        let taken = std::panic::catch_unwind(|| run(&input)).unwrap_or_else(|_| panic!("on {}", path.display()));
        refused_and_taken[usize::from(taken)] += 1;
    }
    // A corpus that was lost, or reaches only one side, would prove nothing.
    assert!(refused_and_taken.iter().all(|&inputs| inputs >= 5), "{target}: {refused_and_taken:?}");
}

#[test]
fn envelopes() {
    replay("envelope", targets::envelope);
}

#[test]
fn headers_of_sealed_envelopes() {
    replay("sealed_header", targets::sealed_header);
}

#[test]
fn secrets() {
    replay("secrets", targets::secrets);
}

#[test]
fn frames() {
    replay("ws_frame", targets::ws_frame);
}

#[test]
fn histories() {
    replay("state", targets::state);
}

#[test]
fn endpoints() {
    replay("endpoint", targets::endpoint);
}

#[test]
fn bodies_of_the_admin_api() {
    replay("admin", targets::admin);
}

#[test]
fn json() {
    replay("json", targets::json);
}

#[test]
fn metadata() {
    replay("metadata", targets::metadata);
}
