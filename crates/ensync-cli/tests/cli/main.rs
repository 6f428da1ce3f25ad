//! The command as a shell sees it: what it prints where, and what it exits with.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

mod bulk;
mod contexts;
mod directory;
mod doctor;
mod follow;
mod manners;
mod messages;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Output, Stdio};

const EVENT: &str = "cli/test/event";

fn ensync(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ensync"));
    for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("ENSYNC_") || key == "RUST_LOG") {
        command.env_remove(key);
    }
    // No context of whoever runs the tests, and no place where one could be made.
    command.env("ENSYNC_CONTEXTS", concat!(env!("CARGO_TARGET_TMPDIR"), "/no-contexts-of-cli.json"));
    command.args(arguments).stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> (bool, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.success(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// An engine in a process of its own, and the keys it printed for each app.
struct Engine {
    process: Child,
    urls: Vec<String>,
    apps: HashMap<String, HashMap<String, String>>,
}

impl Engine {
    fn start() -> Self {
        let process = ensync(&["serve", "--dev", "--listen", "127.0.0.1:0", "--app", "shop", "--app", "stock"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut engine = Self { urls: Vec::new(), apps: HashMap::new(), process };
        let mut app = String::new();
        let lines = BufReader::new(engine.process.stdout.take().unwrap()).lines().map(Result::unwrap);
        for line in lines {
            if let Some(name) = line.strip_prefix("# app ") {
                app = name.trim_matches('"').to_owned();
            } else if let Some((key, value)) = line.split_once('=') {
                engine.apps.entry(app.clone()).or_default().insert(key.to_owned(), value.to_owned());
            } else if line.contains("grpc://") {
                engine.urls = line.split_whitespace().filter(|word| word.contains("://")).map(str::to_owned).collect();
            }
            if engine.apps.get("stock").is_some_and(|keys| keys.len() == 3) {
                break;
            }
        }
        engine
    }

    /// The command as an app over a transport.
    fn command(&self, app: &str, url: &str, arguments: &[&str]) -> Command {
        let mut command = ensync(arguments);
        command.env("ENSYNC_URL", url).envs(&self.apps[app]);
        command
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[test]
fn publish_and_subscribe_over_both_transports() {
    let engine = Engine::start();
    assert_eq!(engine.urls.len(), 2);
    let stock = engine.apps["stock"]["ENSYNC_APP_ID"].clone();
    for url in &engine.urls {
        let mut publish =
            engine.command("shop", url, &["publish", EVENT, "-", "--to", &stock, "--header", "source=cli"]);
        let mut child = publish.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(br#"{"n": 1}"#).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let printed = String::from_utf8(output.stdout).unwrap();
        let (id, recipient) = printed.trim().split_once('\t').unwrap();
        assert_eq!(recipient, stock);

        let (ok, printed, _) = run(&mut engine.command("stock", url, &["subscribe", EVENT, "--count", "1"]));
        assert!(ok);
        let event: serde_json::Value = serde_json::from_str(printed.trim()).unwrap();
        assert_eq!((event["id"].as_str().unwrap(), &event["payload"]["n"]), (id, &1.into()));
        assert_eq!(event["metadata"]["headers"]["source"], "cli");
        assert_eq!(event["sender"], engine.apps["shop"]["ENSYNC_APP_ID"].as_str());
    }
}

#[test]
fn a_payload_goes_out_as_it_was_written() {
    let engine = Engine::start();
    let (stock, url) = (&engine.apps["stock"]["ENSYNC_APP_ID"], &engine.urls[0]);
    let payload = "{\"large\":12345678901234567890123,\n \"exact\":0.10000000000000000000001}";
    assert!(run(&mut engine.command("shop", url, &["publish", EVENT, payload, "--to", stock])).0);
    let (ok, printed, said) = run(&mut engine.command("stock", url, &["subscribe", EVENT, "--count", "1"]));
    assert!(ok && printed.contains(&payload.replace('\n', " ")) && printed.lines().count() == 1, "{printed}{said}");
    assert!(serde_json::from_str::<serde_json::Value>(&printed).unwrap()["payload"].is_object());
}

#[test]
fn the_finest_log_shows_no_key_and_the_terminal_gets_no_controls() {
    let engine = Engine::start();
    let stock = engine.apps["stock"]["ENSYNC_APP_ID"].clone();
    for url in &engine.urls {
        let payload = "{\"a\":\"\u{202e}\u{9b}2J\u{7f}é\"}";
        let publish = ["publish", EVENT, payload, "--to", &stock];
        let (ok, _, said) = run(engine.command("shop", url, &publish).env("RUST_LOG", "trace"));
        assert!(ok && said.contains("DEBUG"), "{said}");
        let subscribe = ["subscribe", EVENT, "--count", "1"];
        let (ok, printed, more) = run(engine.command("stock", url, &subscribe).env("RUST_LOG", "trace"));
        assert!(ok && printed.contains(r#"{"a":"\u202e\u009b2J\u007fé"}"#), "{printed}");
        for app in ["shop", "stock"] {
            for key in ["ENSYNC_APP_KEY", "ENSYNC_SECRET_KEY"] {
                let key = &engine.apps[app][key];
                assert!(!said.contains(key.as_str()) && !more.contains(key.as_str()), "{url}: {key}");
            }
        }
        assert!(!said.contains("CLIENT_ID=:") && !more.contains("CLIENT_ID=:"), "{url}");
    }
}

/// While an app's key pair is being changed its reader holds both.
#[test]
fn what_was_sealed_for_an_earlier_key_opens_with_a_ring() {
    let keys = || -> serde_json::Value { serde_json::from_str(&run(&mut ensync(&["keygen", "--json"])).1).unwrap() };
    let (new, old) = (keys(), keys());
    let text = |keys: &serde_json::Value, name: &str| keys[name].as_str().unwrap().to_owned();
    let (_, sealed, _) = pipe(&mut ensync(&["encrypt", "--to", &text(&old, "app_id")]), "7");
    let (new, old) = (text(&new, "secret_key"), text(&old, "secret_key"));
    let opened = |ring: &str| pipe(ensync(&["decrypt"]).env("ENSYNC_SECRET_KEY", ring), &sealed);
    assert!(!opened(&new).0);
    let (ok, printed, said) = opened(&format!("{new},{old}"));
    assert!(ok && printed == "7\n", "{printed}{said}");
    let (ok, _, said) = opened(&format!("{new},"));
    assert!(!ok && said.contains("key 2 of the list is empty"), "{said}");
}

/// Editors on some systems begin a file with one. It is no part of JSON.
#[test]
fn a_byte_order_mark_is_no_part_of_a_payload() {
    let keys: serde_json::Value = serde_json::from_str(&run(&mut ensync(&["keygen", "--json"])).1).unwrap();
    let [to, secret] = ["app_id", "secret_key"].map(|key| keys[key].as_str().unwrap());
    let (ok, sealed, said) = pipe(&mut ensync(&["encrypt", "--to", to]), "\u{feff}{\"n\":1.00}\r\n");
    assert!(ok, "{said}");
    let (ok, printed, said) = pipe(ensync(&["decrypt"]).env("ENSYNC_SECRET_KEY", secret), &sealed);
    assert!(ok && printed == "{\"n\":1.00}\n", "{printed}{said}");
}

/// A pipe gets every byte of what is decrypted; a terminal, which `script` of util-linux makes, no controls.
#[test]
#[cfg(target_os = "linux")]
fn a_terminal_gets_no_controls_of_what_is_decrypted() {
    let keys: serde_json::Value = serde_json::from_str(&run(&mut ensync(&["keygen", "--json"])).1).unwrap();
    let [to, secret] = ["app_id", "secret_key"].map(|key| keys[key].as_str().unwrap());
    let payload = "{\"a\":\"\u{202e}\u{9b}2J\u{7f}\"}";
    let (ok, sealed, said) = pipe(&mut ensync(&["encrypt", "--to", to]), payload);
    assert!(ok, "{said}");
    let (ok, printed, said) = pipe(ensync(&["decrypt"]).env("ENSYNC_SECRET_KEY", secret), &sealed);
    assert!(ok && printed == format!("{payload}\n"), "{printed}{said}");

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, sealed).unwrap();
    let line = format!("{} decrypt < {}", env!("CARGO_BIN_EXE_ensync"), file.path().display());
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).env_clear().env("PATH", std::env::var("PATH").unwrap());
    script.env("ENSYNC_CONTEXTS", concat!(env!("CARGO_TARGET_TMPDIR"), "/no-contexts-of-cli.json"));
    let Ok(output) = script.env("ENSYNC_SECRET_KEY", secret).stdin(Stdio::null()).output() else {
        return eprintln!("not run: `script` is not installed");
    };
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains(r#"{"a":"\u202e\u009b2J\u007f"}"#), "{shown:?}");
}

#[test]
fn what_cannot_be_opened_is_printed_and_left() {
    let engine = Engine::start();
    let stock = engine.apps["stock"]["ENSYNC_APP_ID"].clone();
    let url = &engine.urls[0];
    assert!(run(&mut engine.command("shop", url, &["publish", EVENT, "1", "--to", &stock])).0);
    let mut wrong = engine.command("stock", url, &["subscribe", EVENT, "--count", "1"]);
    let output = wrong.env("ENSYNC_SECRET_KEY", &engine.apps["shop"]["ENSYNC_SECRET_KEY"]).output().unwrap();
    let [printed, said] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(printed.contains("\"error\"") && !printed.contains("\"payload\""), "{printed}");
    assert!(
        output.status.code() == Some(9) && said.contains("of the events that came (1) none can be opened"),
        "{said}"
    );
    let (ok, printed, _) = run(&mut engine.command("stock", url, &["subscribe", EVENT, "--count", "1"]));
    assert!(ok && printed.contains("\"payload\":1") && printed.contains("\"attempt\":2"), "{printed}");
}

#[test]
fn keys_that_it_makes_fit_each_other() {
    let (ok, printed, _) = run(&mut ensync(&["keygen", "--json"]));
    assert!(ok);
    let keys: serde_json::Value = serde_json::from_str(&printed).unwrap();
    let secret: ensync_sdk::SecretKey = keys["secret_key"].as_str().unwrap().parse().unwrap();
    assert_eq!(secret.app_id().unwrap().to_string(), keys["app_id"].as_str().unwrap());
    let (ok, lines, _) = run(&mut ensync(&["keygen"]));
    assert!(ok && lines.contains("ENSYNC_SECRET_KEY=") && !lines.contains(keys["secret_key"].as_str().unwrap()));
}

/// Its exit code, and the last line that it said.
fn code(command: &mut Command) -> (i32, String) {
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), said.lines().last().unwrap_or_default().to_owned())
}

/// Runs a command with `input` on its standard input.
fn pipe(command: &mut Command, input: &str) -> (bool, String, String) {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that refuses its arguments reads nothing.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    (status.success(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn envelopes_without_an_engine() {
    let (sender, reader) = (ensync_sdk::SecretKey::generate().unwrap(), ensync_sdk::SecretKey::generate().unwrap());
    let [from, to] = [&sender, &reader].map(|key| key.app_id().unwrap().to_string());
    let [own, secret] = [&sender, &reader].map(|key| key.to_base64().unwrap());
    let payload = r#"{"order": 7}"#;
    for (arguments, proven) in [
        (&["encrypt", "--to", &to][..], false),
        (&["encrypt", "--to", &to, "--suite", "aes-256-gcm", "--event", EVENT, "--sign"][..], true),
    ] {
        let (ok, sealed, said) = pipe(ensync(arguments).env("ENSYNC_SECRET_KEY", &*own), payload);
        assert!(ok && sealed.lines().count() == 1, "{said}");
        let decrypt =
            |event, key: &str| pipe(ensync(&["decrypt", "--event", event]).env("ENSYNC_SECRET_KEY", key), &sealed);
        let (ok, plain, said) = decrypt(EVENT, &secret);
        assert!(ok && plain.trim() == payload, "{said}");
        assert_eq!(said.contains(&format!("{from}, verified, signed")), proven, "{said}");
        let (ok, plain, said) = decrypt(EVENT, &own);
        assert!(!ok && plain.is_empty() && said.starts_with("ensync: "), "{said}");
        assert_eq!(decrypt("another/event", &secret).0, !proven, "aes-256-gcm binds the name");
        let (ok, shown, _) = pipe(&mut ensync(&["inspect"]), &sealed);
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert!(ok && shown["plaintext_bytes"] == 12 && (shown["from"] == from.as_str()) == proven, "{shown}");
    }
    for command in ["decrypt", "inspect"] {
        let (ok, printed, said) = pipe(ensync(&[command]).env("ENSYNC_SECRET_KEY", &*secret), "rubbish!");
        assert!(!ok && printed.is_empty() && said.contains("malformed envelope"), "{said}");
    }
}

#[test]
fn mistakes_are_told_in_one_line() {
    let to = "oV/L7EPzFRvzczcM2MIA4AAPw5N54nmkn5VpSnQftN8=";
    for (arguments, environment, part) in [
        (&["publish", EVENT, "1", "--to", to][..], &[][..], "no app key: set ENSYNC_APP_KEY"),
        (&["publish", EVENT, "{", "--to", to][..], &[("ENSYNC_APP_KEY", "k")][..], "the payload is not JSON"),
        (&["publish", EVENT, "1", "--to", to, "--header", "x"][..], &[("ENSYNC_APP_KEY", "k")][..], "KEY=VALUE"),
        (&["subscribe", EVENT][..], &[("ENSYNC_APP_KEY", "k")][..], "no secret key: set ENSYNC_SECRET_KEY"),
        (&["subscribe", EVENT, "--secret-key", "AAAA"][..], &[("ENSYNC_APP_KEY", "k")][..], "3 bytes"),
        (
            &["publish", EVENT, "1", "--to", to, "--url", "ftp://h"][..],
            &[("ENSYNC_APP_KEY", "k")][..],
            "unknown scheme \"ftp\"",
        ),
        (
            &["publish", EVENT, "1", "--to", to, "--url", "ws://127.0.0.1:1"][..],
            &[("ENSYNC_ACCESS_KEY", "k")][..],
            "nobody listens there",
        ),
    ] {
        let (ok, printed, said) = run(ensync(arguments).envs(environment.iter().copied()));
        assert!(!ok && printed.is_empty(), "{arguments:?}: {printed}");
        assert!(
            said.starts_with("ensync: ") && said.contains(part) && said.lines().count() == 1,
            "{arguments:?}: {said}"
        );
    }
}
