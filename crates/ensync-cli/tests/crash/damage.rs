//! A byte that is not as it was written.

use std::fs;
use std::process::Stdio;

use crate::EVENT;
use crate::common::Keys;
use crate::files::frames;
use crate::process::{Process, address, recipients, sender};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_log_is_refused_and_left_as_it_is() {
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("data");
    let mut keys = Keys::new();
    let process = Process::start(&data, &mut keys);
    let client = sender(&process.urls[0], &keys).await;
    let first = recipients(&keys).remove(0);
    // So little that no checkpoint is due, which would cover it.
    for n in 0..20 {
        client.publish(EVENT, &n).to(address(&keys, &first)).await.unwrap();
    }
    process.kill();

    // In the middle of the first segment, which later commits follow.
    let path = data.join("partition-0").join("0000000001.log");
    let mut bytes = fs::read(&path).unwrap();
    let frames = frames(&bytes);
    bytes[frames[frames.len() / 2] + 30] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let output = Process::command(None, &data).stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("damaged at byte") && said.contains("restore"), "{said}");
    assert!(fs::read(&path).unwrap() == bytes, "it was left as it is");
}
