//! What is seen of a running engine, and what it does when it is told to look again.

use crate::process::Engine;

#[test]
fn health_and_metrics_are_open_and_nothing_else_is() {
    let place = tempfile::tempdir().unwrap();
    let engine = Engine::start(place.path(), &["--app", "shop"]);
    for (path, part) in [("/healthz", "ok"), ("/readyz", "ready"), ("/metrics", "process_open_fds")] {
        let (status, said) = engine.get(path, None);
        assert!(status == 200 && said.contains(part), "{path}: {said}");
    }
    let (_, text) = engine.get("/metrics", None);
    assert!(text.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{text}");
    assert!(text.contains("\n# TYPE ensync_logins_total counter\n") && !text.contains("# EOF"), "{text}");
    let open_metrics = engine.get_as("/metrics", "application/openmetrics-text; version=1.0.0");
    assert!(open_metrics.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"));
    assert!(open_metrics.contains("\n# TYPE ensync_logins counter\n") && open_metrics.ends_with("# EOF\n"));
    assert!(text.contains("\nensync_apps 1.0\n") && text.contains("\nensync_log_segments 2.0\n"), "{text}");
    assert_eq!(engine.get("/v1/apps", None).0, 401);
    assert_eq!(engine.get("/v1/apps", Some(&engine.token("ensync-data"))).0, 200);
}

#[test]
fn new_tls_files_are_used_after_a_hang_up_and_bad_ones_are_not() {
    let place = tempfile::tempdir().unwrap();
    let (certificate, key) = (place.path().join("cert.pem"), place.path().join("key.pem"));
    let write = || {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    };
    write();
    let engine = Engine::start(
        place.path(),
        &["--dev", "--tls-cert", "cert.pem", "--tls-key", "key.pem", "--set", "tls.check_every=1h"],
    );
    assert!(engine.printed.contains("grpcs://") && engine.printed.contains("wss://"));
    engine.signal("HUP");
    engine.wait_for("the TLS files are what they were");
    write();
    engine.signal("HUP");
    engine.wait_for("the TLS files were read again");
    std::fs::write(&key, "rubbish").unwrap();
    engine.signal("HUP");
    engine.wait_for("the TLS files are unusable; the old certificate stays");
    engine.signal("TERM");
    assert!(engine.ended().0.success());
}

#[test]
fn a_hang_up_without_tls_does_no_harm() {
    let place = tempfile::tempdir().unwrap();
    let engine = Engine::start(place.path(), &["--dev"]);
    engine.signal("HUP");
    engine.wait_for("there is nothing to read again");
    assert_eq!(engine.get("/readyz", None).0, 200);
}
