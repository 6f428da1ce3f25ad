//! How an engine starts, and when it does not.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;

use crate::process::{Engine, ensync, run};

#[test]
fn it_is_durable_by_default_and_shows_keys_once() {
    let place = tempfile::tempdir().unwrap();
    let first = Engine::start(place.path(), &["--app", "shop", "--event", "a/b"]);
    assert_eq!(first.keys.len(), 3);
    assert!(first.printed.contains("data in ensync-data") && place.path().join("ensync-data").is_dir());
    first.signal("TERM");
    assert!(first.ended().0.success());
    let second = Engine::start(place.path(), &["--app", "shop", "--event", "a/b"]);
    assert!(second.keys.is_empty() && second.printed.contains("is there already"), "{}", second.printed);
}

#[test]
fn in_development_mode_nothing_is_kept_unless_it_is_told_where() {
    let place = tempfile::tempdir().unwrap();
    let engine = Engine::start(place.path(), &["--dev"]);
    assert!(engine.printed.contains("in memory") && !place.path().join("ensync-data").exists());
    drop(engine);
    let engine = Engine::start(place.path(), &["--dev", "--data", "here"]);
    assert!(engine.printed.contains("data in here") && place.path().join("here").is_dir());
}

#[test]
fn the_config_manager_api_is_there_in_development_mode_and_where_it_is_asked_for() {
    let place = tempfile::tempdir().unwrap();
    let announced = |engine: &Engine| {
        let line = engine.printed.lines().find_map(|line| line.strip_prefix("# Config Manager API at http://"));
        line.map(|line| line.split_once("/api/v1/ensync, access key ").unwrap())
            .map(|(to, key)| (to.to_owned(), key.to_owned()))
    };
    let names = |address: &str, key: &str| {
        let mut tcp = TcpStream::connect(address).unwrap();
        write!(
            tcp,
            "GET /api/v1/ensync/access-key HTTP/1.1\r\nhost: localhost\r\nx-access-key: {key}\r\nconnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).unwrap();
        answer
    };
    let engine = Engine::start(place.path(), &["--dev"]);
    let (address, key) = announced(&engine).unwrap();
    let answer = names(&address, &key);
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"warehouse\""), "{answer}");
    assert!(names(&address, &key[1..]).starts_with("HTTP/1.1 401 "));

    assert_eq!(announced(&Engine::start(place.path(), &["--data", "off"])), None);
    let engine = Engine::start(place.path(), &["--data", "on", "--set", "config_manager.listen=127.0.0.1:0"]);
    let (address, key) = announced(&engine).unwrap();
    assert_eq!(key, "in on/admin.token");
    assert!(names(&address, &engine.token("on")).starts_with("HTTP/1.1 200 "));
}

/// Whoever tries it first looks for the console. Two at a time have one each.
#[test]
fn in_development_mode_there_is_a_console_whoever_has_its_port() {
    let place = tempfile::tempdir().unwrap();
    let engines = [(); 2].map(|()| {
        Engine::start_as(place.path(), &["serve", "--dev", "--listen", "127.0.0.1:0", "--app", "shop", "--app", "shop"])
    });
    let consoles = engines.each_ref().map(|engine| {
        let line = engine.printed.lines().find_map(|line| line.strip_prefix("# console at http://")).unwrap();
        let (url, token) = line.split_once(", token ").unwrap();
        assert!(token.starts_with("ensync_admin_"), "{line}");
        assert_eq!(engine.printed.matches("# app \"shop\"").count(), 1, "{}", engine.printed);
        let page = engine.get("/console", None);
        assert!(page.0 == 200 && page.1.contains("EnSync console"), "{}", page.1);
        let info = engine.get("/v1/info", Some(token)).1;
        assert!(info.contains("\"listen\"") && !info.contains("config_manager.listen"), "which nobody has set: {info}");
        url.to_owned()
    });
    assert_ne!(consoles[0], consoles[1]);
}

#[test]
fn settings_come_from_everywhere() {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("ensync.toml"), "data = \"from-file\"\n[admin]\nmetrics_need_token = true\n")
        .unwrap();
    let variables = [("ENSYNC_DATA", "from-variable"), ("ENSYNC_LIMITS_MAX_SESSIONS", "3")];
    let engine = Engine::start_with(place.path(), &["--config", "ensync.toml"], &variables);
    assert!(place.path().join("from-variable").is_dir() && !place.path().join("from-file").exists());
    assert_eq!(engine.get("/metrics", None).0, 401);
    assert_eq!(engine.get("/metrics", Some(&engine.token("from-variable"))).0, 200);
}

#[test]
fn what_keeps_it_from_starting_is_said_in_one_line() {
    let place = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let serve = |arguments: &[&str]| {
        let mut command = ensync(&["serve", "--log-level", "error"]);
        run(command.args(arguments).current_dir(place.path()).stdout(Stdio::piped()))
    };
    let off = ["--admin-listen", "off"];
    for arguments in [["--listen", &address, off[0], off[1]], ["--listen", "127.0.0.1:0", "--admin-listen", &address]] {
        let (code, _, said) = serve(&arguments);
        assert!(code == 1 && said.lines().count() == 1, "{said}");
        assert!(said.contains(&format!("cannot listen on {address}: another program listens there")), "{said}");
    }
    let running = Engine::start(place.path(), &["--data", "data"]);
    let (code, _, said) = serve(&["--listen", "127.0.0.1:0", off[0], off[1], "--data", "data"]);
    assert!(code == 1 && said.contains("in use by another engine"), "{said}");
    drop(running);
    std::fs::write(place.path().join("file"), "").unwrap();
    let (code, _, said) = serve(&["--listen", "127.0.0.1:0", off[0], off[1], "--data", "file"]);
    assert!(code == 1 && said.contains("file"), "{said}");
}

#[test]
fn what_config_check_refuses_serve_refuses_with_the_same_code() {
    let place = tempfile::tempdir().unwrap();
    for setting in ["limits.max_payload=64MiB", "limits.max_connections=0", "limits.login_timeout=0s"] {
        let (name, value) = setting.split_once('=').unwrap();
        let variable = format!("ENSYNC_{}", name.replace('.', "_").to_uppercase());
        let (checked, _, why) = run(ensync(&["config", "check"]).env(variable, value));
        let (served, _, said) = run(ensync(&["serve", "--set", setting]).current_dir(place.path()));
        assert_eq!((checked, served), (2, 2), "{setting}: {said}");
        assert!(why.contains(&said[..said.len() - 1]), "{why} {said}");
    }
    assert!(!place.path().join("ensync-data").exists());
}

#[test]
fn a_variable_that_is_not_utf_8_does_no_harm_unless_it_is_a_setting() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let bad = OsStr::from_bytes(b"caf\xe9");
    assert_eq!(run(ensync(&["config", "check"]).env("GREETING", bad).env(bad, "x")).0, 0);
    let (code, _, said) = run(ensync(&["config", "check"]).env("ENSYNC_DATA", bad));
    assert!(code == 2 && said.contains("environment variable ENSYNC_DATA") && said.contains("not UTF-8"), "{said}");
}

/// Segments are read in pieces: what a start takes does not grow with what lies in them. In an engine that is not optimised an empty
/// start has its peak at about 30 MiB.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_takes_no_more_memory_for_a_long_log() {
    use futures::StreamExt as _;
    let place = tempfile::tempdir().unwrap();
    let settings = ["--app", "shop", "--event", "a/b", "--set", "storage.segment_size=32MiB"];
    let first = Engine::start(place.path(), &settings);
    let empty = first.peak_memory();
    let sdk = ensync_sdk::Engine::new(first.url("ws")).unwrap();
    let client = sdk.create_client(first.keys["ENSYNC_APP_KEY"].clone()).await.unwrap();
    let to: ensync_sdk::AppId = first.keys["ENSYNC_APP_ID"].parse().unwrap();
    let large = "x".repeat(512 << 10);
    let publish = |_| {
        let sent = client.publish("a/b", &large).to(to);
        async { sent.await.map(drop).unwrap() }
    };
    futures::stream::iter(0..32).map(publish).buffer_unordered(4).collect::<()>().await;
    drop(client);
    // No orderly stop: all of it is read back.
    first.signal("KILL");
    first.ended();
    let second = Engine::start(place.path(), &settings);
    second.wait_for("waiting=32");
    let peak = second.peak_memory();
    _ = std::io::Write::write_all(
        &mut std::io::stderr(),
        format!("\na start with 21 MiB to read back had its peak at {} KiB, an empty one at {} KiB\n", peak, empty)
            .as_bytes(),
    );
    assert!(peak < empty + (12 << 10), "{peak} KiB, and {empty} KiB without a log");
}
