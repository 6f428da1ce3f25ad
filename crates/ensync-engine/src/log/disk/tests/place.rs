//! Where the files are, and whose.

use std::os::unix::fs::PermissionsExt;

use super::*;

/// Whatever becomes of the path, the log neither goes on as if nothing had happened, nor writes to what is there now.
#[tokio::test]
async fn a_directory_that_is_moved_replaced_or_removed_is_noticed() {
    type Spoil = fn(&Path);
    let spoils: [Spoil; 3] = [
        |path| fs::rename(path, path.with_extension("away")).unwrap(),
        |path| {
            fs::rename(path, path.with_extension("away")).unwrap();
            fs::create_dir(path).unwrap();
            drop(DiskLog::open_with(path.to_owned(), &options(), Arc::new(SystemIo)).unwrap());
        },
        |path| fs::remove_dir_all(path).unwrap(),
    ];
    for spoil in spoils {
        let place = Place::new();
        let log = place.open();
        log.store(&[small(1)]).await.unwrap();
        assert!(log.failure().is_none());
        spoil(&place.path());
        let before = place.path().exists().then(|| place.files());
        let failure = tokio::time::timeout(Duration::from_secs(60), log.failed()).await.unwrap();
        assert!(failure.to_string().contains("is not where it was"), "{failure}");
        assert_eq!(log.store(&[small(2)]).await.unwrap_err().to_string(), failure.to_string());
        log.close().await;
        assert_eq!(before, place.path().exists().then(|| place.files()), "nothing was written to what is there now");
    }
}

#[tokio::test]
async fn files_are_the_owners_in_any_directory() {
    let place = Place::new();
    fs::create_dir(place.path()).unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    // One that an earlier engine left keeps nobody's rights.
    fs::write(place.segment(1).with_extension("unfinished"), "x").unwrap();
    let log = place.open();
    for seq in 0..4 {
        log.store(&[large(seq, 30_000)]).await.unwrap();
    }
    log.close().await;
    let copied = crate::store::one::backup(place.path(), place.0.path().join("copy"), true).await.unwrap();
    assert!(copied.report.damage.is_empty());
    for directory in [place.path(), place.0.path().join("copy")] {
        let mut seen = 0;
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", entry.path().display());
            seen += 1;
        }
        assert!(seen >= 2);
    }
}
