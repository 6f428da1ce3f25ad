//! What every command does alike: output that fails, JSON, exit codes, variables that are empty.

use std::process::Stdio;

use serde_json::Value;

use super::{EVENT, Engine, code, ensync, pipe, run};

const ID: &str = "oV/L7EPzFRvzczcM2MIA4AAPw5N54nmkn5VpSnQftN8=";

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told_and_a_closed_pipe_is_not() {
    let full = || Stdio::from(std::fs::File::options().write(true).open("/dev/full").unwrap());
    for arguments in [&["keygen"][..], &["completions", "bash"], &["man"], &["config", "check"]] {
        let (exit, said) = code(ensync(arguments).stdout(full()));
        assert_eq!(exit, 10, "{arguments:?}: {said}");
        assert!(said.starts_with("ensync: standard output cannot be written"), "{said}");

        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        assert_eq!(code(ensync(arguments).stdout(writer)), (0, String::new()), "{arguments:?}");
    }
    let (exit, said) = code(ensync(&["keygen", "--json"]).stdout(full()));
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((exit, &said["error"]["kind"]), (10, &"output".into()));
}

#[test]
fn exit_codes_say_which_sort_of_failure_it_is() {
    let engine = Engine::start();
    let (url, stock) = (&engine.urls[0], engine.apps["stock"]["ENSYNC_APP_ID"].clone());
    for (arguments, variable, expected, kind) in [
        (&["publish", EVENT, "1", "--to", ID][..], ("ENSYNC_X", "1"), 4, "unknown_recipient"),
        (&["publish", EVENT, "1", "--to", &stock], ("ENSYNC_APP_KEY", "wrong-key-of-nobody"), 5, "unauthenticated"),
        (&["publish", EVENT, "1", "--to", &stock], ("ENSYNC_URL", "ws://127.0.0.1:1"), 6, "connect"),
        (&["publish", EVENT, "{", "--to", &stock], ("ENSYNC_X", "1"), 2, "usage"),
        (&["publish", EVENT, "1", "--to", &stock, "--to", ID], ("ENSYNC_X", "1"), 7, "partly"),
        (&["publish", "a b\u{7}", "1", "--to", &stock], ("ENSYNC_X", "1"), 2, "invalid_event_name"),
        (&["publish", EVENT, "1", "--to", &stock, "--frobnicate"], ("ENSYNC_X", "1"), 2, "usage"),
        (&["app", "list"], ("ENSYNC_X", "1"), 2, "usage"),
    ] {
        let set = |command: &mut std::process::Command| _ = command.env(variable.0, variable.1);
        let mut command = engine.command("shop", url, arguments);
        set(&mut command);
        let (exit, said) = code(&mut command);
        assert_eq!(exit, expected, "{arguments:?}: {said}");
        let mut command = engine.command("shop", url, arguments);
        set(&mut command);
        let (exit, said) = code(command.arg("--json"));
        let error: Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}"));
        assert_eq!((exit, &error["error"]["kind"]), (expected, &kind.into()), "{said}");
        assert_eq!(error["error"]["exit_code"], expected, "{said}");
        assert!(error["error"]["message"].as_str().is_some_and(|message| !message.is_empty()));
    }
    let help = run(&mut ensync(&["--help"])).1;
    for code in ["   4  not_found", "   7  partly", "  10  output"] {
        assert!(help.contains(code), "{help}");
    }
}

#[test]
fn who_was_served_is_told_also_if_others_were_not() {
    let engine = Engine::start();
    let (url, stock) = (&engine.urls[0], engine.apps["stock"]["ENSYNC_APP_ID"].clone());
    let arguments = ["publish", EVENT, "1", "--to", &stock, "--to", ID];
    let (ok, printed, said) = run(&mut engine.command("shop", url, &arguments));
    assert!(!ok && printed.lines().count() == 1 && printed.ends_with(&format!("\t{stock}\n")), "{printed}");
    assert!(said.contains(&format!("not published to {ID}")) && said.contains("1 of 2 recipients"), "{said}");
    let (_, printed, _) = run(engine.command("shop", url, &arguments).arg("--json"));
    let printed: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(printed["published"][0]["to"], stock.as_str());
    assert_eq!((&printed["failed"][0]["to"], &printed["failed"][0]["kind"]), (&ID.into(), &"unknown_recipient".into()));
}

#[test]
fn an_empty_variable_is_none_and_a_wrong_one_is_named() {
    let engine = Engine::start();
    let (url, stock) = (&engine.urls[0], engine.apps["stock"]["ENSYNC_APP_ID"].clone());
    let empty = ["ENSYNC_CA_FILE", "ENSYNC_CLIENT_CERT", "ENSYNC_CLIENT_KEY", "ENSYNC_SECRET_KEY", "ENSYNC_CONTEXT"];
    let mut command = engine.command("shop", url, &["publish", EVENT, "1", "--to", &stock]);
    // An empty app key does not hide the other variable that holds one.
    let key = &engine.apps["shop"]["ENSYNC_APP_KEY"];
    command.env("ENSYNC_APP_KEY", "").env("ENSYNC_ACCESS_KEY", key).envs(empty.map(|name| (name, "")));
    let (ok, _, said) = run(&mut command);
    assert!(ok, "{said}");
    let mut command = ensync(&["app", "list"]);
    for name in ["ENSYNC_ADMIN_URL", "ENSYNC_ADMIN_TOKEN", "ENSYNC_ADMIN_TOKEN_FILE", "ENSYNC_ADMIN_CA_FILE"] {
        command.env(name, "");
    }
    assert!(code(&mut command).1.contains("no admin token"));
    assert_eq!(code(ensync(&["config", "check"]).env("ENSYNC_CONFIG", "")).0, 0);

    for (arguments, name, value) in [
        (&["publish", EVENT, "1", "--to", &stock][..], "ENSYNC_URL", "ftp://h"),
        (&["subscribe", EVENT], "ENSYNC_SECRET_KEY", "AAAA"),
        (&["app", "list"], "ENSYNC_ADMIN_URL", "nowhere"),
        (&["app", "list"], "ENSYNC_ADMIN_TOKEN", "short"),
    ] {
        let (exit, said) = code(engine.command("shop", url, arguments).env(name, value));
        assert!(exit == 2 && said.contains(name), "{name}: {said}");
    }
    // A flag that is wrong is named, not the variable that is right.
    let (_, said) =
        code(engine.command("shop", url, &["publish", EVENT, "1", "--to", &stock]).args(["--url", "ftp://h"]));
    assert!(said.contains("--url") && !said.contains("ENSYNC_URL"), "{said}");
}

#[test]
fn headers_and_flags_that_contradict_each_other_are_refused() {
    for (more, part) in [
        (&["--header", "a=1", "--header", "a=2"][..], "--header a is given twice"),
        (&["--header", "=1"], "KEY=VALUE"),
        (&["--sign"], "--sign needs --suite aes-256-gcm"),
        (&["--keep-going"], "give --file"),
        (&["--rate", "5"], "give --file"),
        (&["--suite", "rot13"], "no suite \"rot13\""),
        (&["--timeout", "0s"], "--timeout 0"),
        (&["--client-cert", "c.pem"], "give --client-key"),
        (&["--suite", "aes-256-gcm"], "no secret key"),
        (&["--to", "AAAA"], "--to"),
        (&["--idempotency-key", ""], "idempotency"),
    ] {
        let mut command = ensync(&["publish", EVENT, "1", "--to", ID]);
        let (exit, said) = code(command.args(more).env("ENSYNC_APP_KEY", "k").env("ENSYNC_URL", "ws://127.0.0.1:1"));
        assert!(exit == 2 && said.contains(part), "{more:?}: {exit} {said}");
    }
    let (exit, said) = code(ensync(&["publish", EVENT, "--to", ID]).env("ENSYNC_APP_KEY", "k"));
    assert!(exit == 2, "{said}");
}

/// A login that is not answered is a part of the time that somebody gave.
#[test]
fn a_timeout_bounds_the_login_too() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for scheme in ["grpc", "ws"] {
        let url = format!("{scheme}://{}", silent.local_addr().unwrap());
        let begun = std::time::Instant::now();
        let mut command = ensync(&["publish", EVENT, "1", "--to", ID, "--timeout", "500ms", "--url", &url]);
        let (exit, said) = code(command.env("ENSYNC_APP_KEY", "k"));
        assert!(exit == 6 && said.contains("within 500ms (--timeout)"), "{exit} {said}");
        // Less than the client waits for an engine by itself.
        assert!(begun.elapsed() < std::time::Duration::from_secs(9), "{:?}", begun.elapsed());
    }
}

#[test]
fn what_is_wrong_is_told_in_words_and_where_it_was_given() {
    let engine = Engine::start();
    let (url, stock) = (&engine.urls[0], engine.apps["stock"]["ENSYNC_APP_ID"].clone());
    let token = "ensync_admin_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    let place = tempfile::tempdir().unwrap();
    let broken = place.path().join("contexts.json");
    std::fs::write(&broken, "{").unwrap();
    std::fs::set_permissions(&broken, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let broken = broken.to_str().unwrap();
    let publish = |more: &[&'static str]| [&["publish", EVENT, "1", "--to", ID][..], more].concat();
    let nothing = ("ENSYNC_X", "1");
    for (arguments, variable, exit, part) in [
        (vec!["publish", EVENT, "1", "--to", "billing"], nothing, 2, "--to: \"billing\" is not an app id"),
        (vec!["publish", EVENT, "1", "--to", ""], nothing, 2, "--to: it is empty"),
        (vec!["publish", EVENT, "-", "--to", ID], nothing, 2, "standard input is empty"),
        (vec!["publish", EVENT, "{a:1}", "--to", ID], nothing, 2, "quote it for the shell"),
        (publish(&["--in-flight", "3"]), nothing, 2, "--in-flight is for the lines of a file"),
        (publish(&["--timeout", "-5s"]), nothing, 2, "with its unit"),
        (vec!["subscribe", EVENT, "--count", "0"], nothing, 2, "1 or more"),
        (vec!["subscribe", EVENT, "--count", "-1"], nothing, 2, "1 or more"),
        (vec!["session", "show", "abc"], nothing, 2, "write a whole number, 0 or more"),
        (vec!["dead-letter", "list", "--older-than", "foo"], nothing, 2, "with its unit"),
        (vec!["publish", EVENT, "--file", "/tmp", "--to", ID], nothing, 2, "/tmp is a directory"),
        (publish(&["--url", "grpc://user:pw@h"]), nothing, 2, "--app-key"),
        (publish(&[]), ("ENSYNC_APP_KEY", token), 2, "the variable ENSYNC_APP_KEY holds an admin token"),
        (publish(&[]), ("ENSYNC_APP_KEY", "unknown"), 5, "the app key of the variable ENSYNC_APP_KEY"),
        (vec!["context", "list"], ("ENSYNC_CONTEXTS", broken), 2, "mend the file, or remove it"),
        (vec!["store", "verify", "--data", "nothere"], nothing, 2, "cannot use the data directory nothere"),
        (vec!["backup", "--data", "nothere", "--to", "copy"], nothing, 2, "cannot use the data directory nothere"),
        (vec!["restore", "--from", "nothere", "--data", "copy"], nothing, 2, "nothere"),
        (vec!["serve", "--set", "limits.max_session=3"], nothing, 2, "did you mean limits.max_sessions?"),
        (vec!["serve", "--listen", "127.0.0.1:99999"], nothing, 2, "127.0.0.1:99999"),
        (vec!["serve", "--dev", "--event", "a b"], nothing, 2, "'a b'"),
        (vec!["serve", "--dev", "--app", ""], nothing, 2, "--app"),
    ] {
        let mut command = engine.command("shop", url, &arguments);
        let output = command.env(variable.0, variable.1).current_dir(place.path()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let shown = !said.contains("tip:") && !said.contains("hush") && !said.contains(token);
        assert!(output.status.code() == Some(exit) && said.contains(part) && shown, "{arguments:?}: {said}");
        assert!(output.stdout.is_empty() && !place.path().join("copy").exists(), "{arguments:?}");
    }
    let (_, said) = code(&mut ensync(&["publish", EVENT, "1", "--frobnicate", "--json"]));
    let said: Value = serde_json::from_str(&said).unwrap();
    let message = said["error"]["message"].as_str().unwrap();
    assert!(message.contains("'--frobnicate'") && !message.contains("Usage:") && !message.contains('\n'), "{message}");
    // It is published, though nobody can be told as what: whoever repeats it would publish it twice.
    #[cfg(target_os = "linux")]
    {
        let full = Stdio::from(std::fs::File::options().write(true).open("/dev/full").unwrap());
        let (exit, said) = code(engine.command("shop", url, &["publish", EVENT, "1", "--to", &stock]).stdout(full));
        assert!(exit == 10 && said.contains("but the event is published, as "), "{exit} {said}");
    }
    let warned = run(ensync(&["config", "check"]).env("ENSYNC_LIMITS_MAX_SESSION", "3")).2;
    assert!(warned.contains("did you mean ENSYNC_LIMITS_MAX_SESSIONS?"), "{warned}");
}

#[test]
fn shells_and_man_get_what_they_need() {
    for (shell, part) in [("bash", "complete -F _ensync"), ("zsh", "#compdef ensync"), ("fish", "complete -c ensync")] {
        let (ok, printed, _) = run(&mut ensync(&["completions", shell]));
        assert!(ok && printed.contains(part) && printed.contains("dead-letter"), "{shell}");
    }
    let directory = tempfile::tempdir().unwrap();
    let (ok, printed, _) = run(ensync(&["man", "--out"]).arg(directory.path()));
    assert!(ok && printed.contains("pages"), "{printed}");
    let page = std::fs::read_to_string(directory.path().join("ensync-app-create.1")).unwrap();
    assert!(page.starts_with(".ie") && page.contains("ensync app create"), "{page}");
    assert!(run(&mut ensync(&["man"])).1.contains("not_found"), "the exit codes");
}

#[test]
fn json_is_one_value_wherever_it_is_asked_for() {
    let sender = ensync_sdk::SecretKey::generate().unwrap();
    let (to, secret) = (sender.app_id().unwrap().to_string(), sender.to_base64().unwrap());
    let (ok, sealed, _) = pipe(&mut ensync(&["encrypt", "--to", &to, "--json"]), "{\"n\": 1.00}");
    let sealed: Value = serde_json::from_str(&sealed).unwrap();
    assert!(ok && sealed["envelopes"][0]["to"] == to.as_str());
    let envelope = sealed["envelopes"][0]["envelope"].as_str().unwrap();
    let (ok, opened, _) = pipe(ensync(&["decrypt", "--json"]).env("ENSYNC_SECRET_KEY", &*secret), envelope);
    assert!(ok && opened.contains("\"payload\":{\"n\": 1.00}"), "{opened}");
    let opened: Value = serde_json::from_str(&opened).unwrap();
    assert_eq!((&opened["verified"], &opened["sender"]), (&false.into(), &Value::Null));

    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("data");
    let data = data.to_str().unwrap();
    std::fs::create_dir(data).unwrap();
    let json = |arguments: &[&str]| -> Value {
        let (ok, printed, said) = run(ensync(arguments).arg("--json"));
        assert!(ok, "{arguments:?}: {said}");
        serde_json::from_str(&printed).unwrap_or_else(|_| panic!("{arguments:?}: {printed}"))
    };
    assert_eq!(json(&["app", "create", "shop", "--data", data])["name"], "shop");
    assert_eq!(json(&["app", "list", "--data", data, "--enabled"]).as_array().unwrap().len(), 1);
    assert_eq!(json(&["app", "list", "--data", data, "--disabled"]), serde_json::json!([]));
    assert_eq!(json(&["app", "list", "--data", data, "--name", "nobody"]), serde_json::json!([]));
    assert_eq!(json(&["app", "delete", "shop", "--yes", "--data", data]), serde_json::json!({"done": true}));
    assert_eq!(json(&["store", "verify", "--data", data])["damage"], serde_json::json!([]));
    assert_eq!(json(&["store", "repair", "--data", data])["repaired"], false);
    let copy = place.path().join("copy");
    assert!(json(&["backup", "--data", data, "--to", copy.to_str().unwrap()])["contents"]["records"].is_u64());
    let back = place.path().join("back");
    assert!(json(&["restore", "--from", copy.to_str().unwrap(), "--data", back.to_str().unwrap()])["data"].is_string());
    assert_eq!(json(&["config", "check"])["problems"], serde_json::json!([]));
}
