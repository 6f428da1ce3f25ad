//! This crate runs in a browser, too, where the clocks of the standard library panic (`wasm32-unknown-unknown`).
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;

fn each_source(directory: &Path, look: &mut impl FnMut(&Path, &str)) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            each_source(&path, look);
        } else if path.extension().is_some_and(|kind| kind == "rs") && path.file_name().unwrap() != "tests.rs" {
            look(&path, &std::fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn no_clock_of_the_standard_library_is_asked() {
    let mut asked = 0;
    each_source(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut |path, text| {
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
            let of_std = line.contains("std::time") && line.contains("Instant");
            let unnamed = line.contains("SystemTime::now") && !line.contains("web_time::SystemTime::now");
            assert!(!of_std && !unnamed, "{}: {line}", path.display());
            asked += usize::from(line.contains("web_time::") || line.contains("Instant::now"));
        }
    });
    assert!(asked >= 3, "{asked}: the clocks are read in another way, which this test does not see");
}
