//! `doctor`: each finding, provoked.

use std::process::Command;

use serde_json::Value;

use super::{EVENT, Engine, ensync};

/// Its exit code and what it found, by check: the status and the message.
fn found(command: &mut Command) -> (i32, Vec<(String, String, String)>) {
    let output = command.arg("--json").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let report: Value = serde_json::from_str(&text).expect(&text);
    assert_eq!(report["ok"], output.status.success(), "{report}");
    let words =
        |finding: &Value| ["check", "status", "message"].map(|field| finding[field].as_str().unwrap().to_owned());
    let found = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(words)
        .map(|[check, status, message]| (check, status, message));
    (output.status.code().unwrap(), found.collect())
}

#[track_caller]
fn says(command: &mut Command, check: &str, status: &str, part: &str) {
    let (_, found) = found(command);
    let finding = found.iter().find(|(name, ..)| name == check);
    assert!(finding.is_some_and(|(_, is, message)| is == status && message.contains(part)), "{check}: {found:?}");
}

#[test]
fn all_is_well_or_what_is_not_is_told() {
    let engine = Engine::start();
    let url = engine.urls[0].as_str();
    let doctor = |more: &[&str]| engine.command("stock", url, &[&["doctor"], more].concat());
    let (exit, all) = found(&mut doctor(&["--event", EVENT]));
    let names: Vec<_> = all.iter().map(|(check, ..)| check.as_str()).collect();
    let checks = ["address", "name", "tcp", "gRPC", "WebSocket", "login", "secret key", "round trip", "clock"];
    assert_eq!((exit, names), (0, checks.to_vec()), "{all:?}");
    assert!(all.iter().all(|(_, status, _)| status == "ok"), "{all:?}");
    // For people, a line each.
    let output = doctor(&[]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.lines().count() == 7 && text.starts_with("ok       address"), "{text}");

    says(&mut doctor(&["ftp://h"]), "address", "failed", "unknown scheme");
    says(&mut doctor(&["ws://no.such.name.invalid"]), "name", "failed", "does not resolve");
    says(&mut doctor(&["ws://127.0.0.1:1"]), "tcp", "failed", "is the engine running");
    says(&mut doctor(&["ws://127.0.0.1:1"]), "WebSocket", "failed", "nobody listens");
    // A proxy that is not used excuses nothing; one that is used is named.
    let proxy = |command: &mut Command| _ = command.env("HTTP_PROXY", "http://127.0.0.1:1").env("ENSYNC_APP_KEY", "");
    let mut command = doctor(&["ws://127.0.0.1:1"]);
    proxy(&mut command);
    let (exit, all) = found(&mut command);
    assert!(exit == 1 && all.iter().all(|(check, ..)| check != "proxy"), "{all:?}");
    let mut command = doctor(&["ws://no.such.name.invalid"]);
    proxy(&mut command);
    says(&mut command, "proxy", "warning", "http://127.0.0.1:1");
    let (_, all) = found(doctor(&["--event", EVENT]).env("HTTPS_PROXY", "http://127.0.0.1:1"));
    assert!(all.iter().all(|(_, status, _)| status == "ok"), "{all:?}");
    says(doctor(&[]).env("ENSYNC_APP_KEY", "wrong-key-of-nobody"), "login", "failed", "is it the key of this engine");
    says(doctor(&[]).env("ENSYNC_APP_KEY", ""), "login", "skipped", "ENSYNC_APP_KEY");
    says(doctor(&[]).env("ENSYNC_SECRET_KEY", ""), "secret key", "skipped", "ENSYNC_SECRET_KEY");
    says(doctor(&[]).env("ENSYNC_SECRET_KEY", "AAAA"), "secret key", "failed", "3 bytes");
    let other = &engine.apps["shop"]["ENSYNC_SECRET_KEY"];
    says(doctor(&[]).env("ENSYNC_SECRET_KEY", other), "secret key", "failed", "cannot be opened with it");
    says(doctor(&["--event", EVENT]).env("ENSYNC_SECRET_KEY", other), "round trip", "failed", "");
    // What it published is gone again, also if it could not be opened.
    let mut left = engine.command("stock", url, &["subscribe", EVENT, "--for", "1s"]);
    let output = left.output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "", "an event of the doctor's was left");
    // TLS where there is none.
    let tls = url.replace("grpc://", "grpcs://").replace("ws://", "wss://");
    says(&mut doctor(&[&tls]), "gRPC", "failed", "TLS");
}

#[cfg(unix)]
#[test]
fn a_data_directory_is_looked_at_from_outside() {
    use std::os::unix::fs::PermissionsExt;
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("data");
    let doctor = || {
        let mut command = ensync(&["doctor", "--data"]);
        command.arg(&path);
        command
    };
    says(&mut doctor(), "directory", "failed", "ensync serve --data");
    std::fs::write(&path, "").unwrap();
    says(&mut doctor(), "directory", "failed", "no directory");
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    says(&mut doctor(), "rights", "warning", "chmod 700");
    says(&mut doctor(), "lock", "warning", "no engine ever used");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    says(&mut doctor(), "rights", "ok", "700");
    assert!(ensync(&["app", "create", "shop", "--data"]).arg(&path).output().unwrap().status.success());
    says(&mut doctor(), "lock", "ok", "no engine uses it");
    let lock = std::fs::File::options().write(true).open(path.join("lock")).unwrap();
    lock.lock().unwrap();
    says(&mut doctor(), "lock", "ok", "an engine uses it");
    let (exit, all) = found(&mut doctor());
    assert!(
        exit == 0 && all.iter().any(|(check, _, message)| check == "space" && message.contains("MiB are free")),
        "{all:?}"
    );
}
