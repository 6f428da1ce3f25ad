//! What a data directory has to hold.

use std::collections::BTreeSet;

use super::*;

fn options(partitions: Option<u32>) -> DiskOptions {
    let partitions = partitions.map(|n| NonZeroU32::new(n).unwrap());
    DiskOptions { segment_bytes: 64 << 10, partitions, ..DiskOptions::default() }
}

async fn close(logs: Logs) {
    for log in logs.all() {
        log.close().await;
    }
}

#[tokio::test]
async fn a_store_keeps_the_number_of_its_partitions() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("data");
    let logs = Logs::open(&path, options(Some(4))).await.unwrap();
    assert_eq!(logs.partitions().len(), 4);
    let error = Logs::open(&path, options(Some(4))).await.unwrap_err();
    assert!(error.to_string().contains("in use by another engine"), "{error}");
    close(logs).await;
    let text = std::fs::read_to_string(path.join("store")).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[..2], ["ensync store 2", "partitions 4"]);
    let ids: BTreeSet<_> = lines[2..].iter().map(|line| line.split_once(' ').unwrap().1).collect();
    assert!(ids.len() == 5 && ids.iter().all(|id| id.len() == 32), "{text}");
    for wanted in [1, 2, 8] {
        let error = Logs::open(&path, options(Some(wanted))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let text = error.to_string();
        assert!(text.contains("has 4 partitions") && text.contains(&format!("says {wanted}")), "{text}");
    }
    for wanted in [None, Some(4)] {
        let logs = Logs::open(&path, options(wanted)).await.unwrap();
        assert_eq!(logs.partitions().len(), 4);
        assert!(logs.all().all(|log| log.epoch() > 1));
        close(logs).await;
    }
}

#[tokio::test]
async fn a_store_that_lacks_something_is_refused_and_left_as_it_is() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("data");
    close(Logs::open(&path, options(Some(2))).await.unwrap()).await;
    std::fs::rename(path.join("partition-1"), path.join("elsewhere")).unwrap();
    let error = Logs::open(&path, options(None)).await.unwrap_err().to_string();
    assert!(error.contains("lacks") && error.contains("partition-1"), "{error}");
    assert!(!path.join("partition-1").exists());
    std::fs::rename(path.join("elsewhere"), path.join("partition-1")).unwrap();
    std::fs::rename(path.join("store"), path.join("elsewhere")).unwrap();
    let error = Logs::open(&path, options(None)).await.unwrap_err().to_string();
    assert!(error.contains("lacks the file \"store\""), "{error}");
    assert!(!path.join("store").exists());
    // One that was not finished was used by nobody.
    std::fs::rename(path.join("elsewhere"), path.join("store.unfinished")).unwrap();
    let logs = Logs::open(&path, options(Some(2))).await.unwrap();
    close(logs).await;
    for (text, words) in [
        ("ensync store 1\npartitions 2\n", "layout 1"),
        ("ensync store 2\npartitions 0\n", "how many partitions"),
        ("ensync store 2\npartitions 65\n", "how many partitions"),
        ("ensync store 2\n", "how many partitions"),
        ("ensync store 2\npartitions 2\n", "which log is in partition-0"),
        ("ensync store 2\npartitions 1\npartition-0 12\n", "which log is in partition-0"),
        ("something else", "what the store is"),
    ] {
        std::fs::write(path.join("store"), text).unwrap();
        let error = Logs::open(&path, options(None)).await.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_directory_of_an_earlier_layout_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("data");
    DiskLog::open(&path, options(None)).await.unwrap().close().await;
    let error = Logs::open(&path, options(None)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(
        error.to_string().contains("earlier engines") && error.to_string().contains("nothing was changed"),
        "{error}"
    );
    assert!(!path.join("registry").exists());
}

/// Every file of the logs, with what is in it.
fn files(path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for folder in std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
        found.extend(files.map(|file| (file.clone(), std::fs::read(file).unwrap())));
    }
    found.sort();
    found
}

/// Asserts that nothing takes a store for its own any more, and that it is left as it is.
async fn refused(path: &Path, words: &[&str]) {
    refused_but(path, words, false).await;
}

/// The same of one that may be [repaired](crate::store::repair).
async fn refused_but(path: &Path, words: &[&str], repaired: bool) {
    let before = files(path);
    let elsewhere = path.with_extension("copy");
    let mut errors = vec![
        Logs::open(path, options(None)).await.unwrap_err(),
        crate::store::verify(path).await.unwrap_err(),
        crate::store::backup(path, &elsewhere, false).await.unwrap_err(),
        crate::store::restore(path, &elsewhere).await.unwrap_err(),
    ];
    if repaired {
        assert_eq!(crate::store::assess(path).await.unwrap().damage.len(), 1);
    } else {
        errors.push(crate::store::assess(path).await.unwrap_err());
        errors.push(crate::store::repair(path).await.unwrap_err());
    }
    for error in errors {
        let text = error.to_string();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}");
        assert!(words.iter().all(|part| text.contains(part)), "{text}");
    }
    assert!(files(path) == before, "a refused store was changed");
}

#[tokio::test]
async fn a_log_whose_files_are_gone_is_not_made_anew() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("data");
    close(Logs::open(&path, options(Some(2))).await.unwrap()).await;
    for folder in ["registry", "partition-0", "partition-1"] {
        let (folder, kept) = (path.join(folder), place.path().join("kept"));
        std::fs::rename(&folder, &kept).unwrap();
        std::fs::create_dir(&folder).unwrap();
        let repaired = !folder.ends_with("registry");
        refused_but(&path, &["lacks its log", folder.to_str().unwrap(), "mount"], repaired).await;
        // What is no file of a log does not make one: a volume of its own has such.
        std::fs::create_dir(folder.join("lost+found")).unwrap();
        std::fs::write(folder.join("lock"), "").unwrap();
        refused_but(&path, &["lacks its log", folder.to_str().unwrap()], repaired).await;
        std::fs::remove_dir_all(&folder).unwrap();
        std::fs::rename(&kept, &folder).unwrap();
    }
    close(Logs::open(&path, options(Some(2))).await.unwrap()).await;
}

#[tokio::test]
async fn logs_in_the_place_of_others_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let (path, other) = (place.path().join("data"), place.path().join("other"));
    for path in [&path, &other] {
        close(Logs::open(path, options(Some(2))).await.unwrap()).await;
    }
    let swap = |one: PathBuf, two: PathBuf| {
        let aside = place.path().join("aside");
        std::fs::rename(&one, &aside).unwrap();
        std::fs::rename(&two, one).unwrap();
        std::fs::rename(&aside, two).unwrap();
    };
    for (one, two) in [("partition-0", "partition-1"), ("partition-0", "registry"), ("partition-1", "registry")] {
        swap(path.join(one), path.join(two));
        refused(&path, &["mixed up", &format!("of {two}"), path.join(one).to_str().unwrap()]).await;
        swap(path.join(one), path.join(two));
    }
    for folder in ["partition-0", "partition-1", "registry"] {
        swap(path.join(folder), other.join(folder));
        refused(&path, &["mixed up", "of another store", path.join(folder).to_str().unwrap()]).await;
        swap(path.join(folder), other.join(folder));
    }
    close(Logs::open(&path, options(Some(2))).await.unwrap()).await;
    // A copy is of the same store.
    let copy = place.path().join("copy");
    crate::store::backup(&path, &copy, false).await.unwrap();
    crate::store::restore(&copy, place.path().join("restored")).await.unwrap();
    close(Logs::open(place.path().join("restored"), options(Some(2))).await.unwrap()).await;
    swap(copy.join("partition-0"), copy.join("partition-1"));
    refused(&copy, &["mixed up"]).await;
}
