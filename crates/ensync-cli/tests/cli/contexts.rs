//! Contexts and `.env`: which value counts.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::{EVENT, Engine, code, ensync, run};

fn with(contexts: &Path, arguments: &[&str]) -> Command {
    let mut command = ensync(arguments);
    command.env("ENSYNC_CONTEXTS", contexts);
    command
}

#[test]
fn contexts_are_added_used_shown_and_removed() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("deep/contexts.json");
    let mut add = with(&file, &["context", "add", "shop", "--url", "ws://h:1"]);
    let token = "ensync_admin_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    let (ok, _, said) = run(add.env("ENSYNC_APP_KEY", "k-1").env("ENSYNC_ADMIN_TOKEN", token));
    assert!(
        ok && said.contains("with its app key (the variable ENSYNC_APP_KEY), url (--url); it is the current one"),
        "{said}"
    );
    assert!(!std::fs::read_to_string(&file).unwrap().contains(token), "an app's context has no business with it");
    let operator = ["context", "add", "operator", "--admin-url", "https://h:2", "--admin-token-command", "echo x"];
    assert!(run(&mut with(&file, &operator)).0);
    let (exit, said) = code(&mut with(&file, &operator));
    assert!(exit == 8 && said.contains("--replace"), "{said}");
    assert!(run(with(&file, &operator).arg("--replace")).0);
    let (_, listed, _) = run(&mut with(&file, &["context", "list", "--json"]));
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(
        (&listed[1]["name"], &listed[1]["current"], &listed[1]["url"]),
        (&"shop".into(), &true.into(), &"ws://h:1".into())
    );
    // The one that is current gives the new one nothing.
    assert_eq!(listed[0]["url"], Value::Null);
    let (_, shown, _) = run(&mut with(&file, &["context", "show"]));
    assert!(shown.contains("(not shown)") && !shown.contains("k-1"), "{shown}");
    let (_, shown, _) = run(&mut with(&file, &["context", "show", "operator"]));
    assert!(shown.contains("echo x"), "{shown}");
    assert!(run(&mut with(&file, &["context", "use", "operator"])).0);
    assert!(run(&mut with(&file, &["context", "show", "--json"])).1.contains("operator"));
    assert!(run(&mut with(&file, &["context", "use", "--none"])).0);
    assert_eq!(code(&mut with(&file, &["context", "show"])).0, 4);
    assert!(run(&mut with(&file, &["context", "remove", "shop"])).0);
    for arguments in [&["context", "use", "shop"][..], &["context", "remove", "shop"]] {
        let (exit, said) = code(&mut with(&file, arguments));
        assert!(exit == 4 && said.contains("there are operator"), "{said}");
    }
    for (arguments, part) in [
        (&["context", "add", "x"][..], "give --url"),
        (&["context", "add", "a b", "--url", "h"], "without blanks"),
        (&["context", "use"], "<NAME>"),
        (&["context", "add", "x", "--url", "ws://user:hush@h"], "--url"),
        (&["context", "add", "x", "--admin-url", "https://user:hush@h"], "user-info"),
    ] {
        let (ok, _, said) = run(&mut with(&file, arguments));
        assert!(!ok && said.contains(part) && !said.contains("hush"), "{said}");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
    }
}

#[test]
fn a_flag_goes_before_the_environment_before_env_before_the_context() {
    let engine = Engine::start();
    let (url, keys) = (&engine.urls[0], &engine.apps["shop"]);
    let stock = engine.apps["stock"]["ENSYNC_APP_ID"].clone();
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("contexts.json");
    let key = &keys["ENSYNC_APP_KEY"];
    std::fs::write(place.path().join("key"), key).unwrap();
    let print = format!("touch '{0}/ran'; cat '{0}/key'", place.path().display());
    let add = ["context", "add", "shop", "--url", url, "--app-key-command", &print];
    assert!(run(with(&file, &add).current_dir(place.path())).0);

    let publish = |more: &[&str]| {
        let mut command = with(&file, &["publish", EVENT, "1", "--to", &stock, "--timeout", "5s"]);
        command.args(more).current_dir(place.path());
        command
    };
    // The context, whose command is run when its key is needed and not before.
    assert!(run(with(&file, &["keygen"]).current_dir(place.path())).0 && !place.path().join("ran").exists());
    let (ok, _, said) = run(&mut publish(&[]));
    assert!(ok && place.path().join("ran").exists(), "{said}");

    // .env goes before it, and its keys are not for another engine.
    let nowhere = "ENSYNC_URL=ws://127.0.0.1:1\n";
    std::fs::write(place.path().join(".env"), nowhere).unwrap();
    let (exit, said) = code(&mut publish(&[]));
    assert!(exit == 2 && said.contains("the engine comes from ENSYNC_URL in the file .env"), "{exit} {said}");
    std::fs::write(place.path().join(".env"), format!("{nowhere}export ENSYNC_APP_KEY='{key}' # a key\n")).unwrap();
    let (exit, said) = code(&mut publish(&[]));
    assert!(exit == 6 && said.contains("127.0.0.1:1"), "{exit} {said}");
    // The environment goes before that, but not if it is empty; and a flag before all. A key is not for another engine than the one
    // that it stands beside.
    assert_eq!(code(publish(&[]).env("ENSYNC_URL", "")).0, 6);
    let (exit, said) = code(publish(&[]).env("ENSYNC_URL", url));
    assert!(exit == 0 && said.contains("in the file .env is not used"), "the context is of this engine: {said}");
    assert_eq!(code(publish(&[]).env("ENSYNC_URL", url).env("ENSYNC_APP_KEY", key)), (0, String::new()));
    assert_eq!(code(publish(&["--url", url]).env("ENSYNC_URL", "ws://127.0.0.1:1")).0, 0);
    assert_eq!(code(publish(&[]).env("ENSYNC_URL", url).env("ENSYNC_APP_KEY", "wrong")).0, 5);
    std::fs::remove_file(place.path().join(".env")).unwrap();

    // Contexts by name, and what is wrong with them.
    assert_eq!(code(&mut publish(&["--context", "shop"])).0, 0);
    assert_eq!(code(publish(&["--context", "shop"]).env("ENSYNC_CONTEXT", "other")).0, 0);
    // One that is typed counts, whatever the environment says.
    assert_eq!(code(publish(&["--context", "shop"]).env("ENSYNC_URL", "ws://127.0.0.1:1")).0, 0);
    let wrong = ["ENSYNC_URL", "ENSYNC_APP_KEY"].map(|name| (name, "ws://127.0.0.1:1"));
    assert_eq!(code(publish(&["--context", "shop"]).envs(wrong)).0, 0);
    for mut command in [publish(&["--context", "other"]), publish(&[])] {
        let (exit, said) = code(command.env("ENSYNC_CONTEXT", "other"));
        assert!(exit == 4 && said.contains("there is no context \"other\""), "{exit} {said}");
    }
    std::fs::write(&file, "{").unwrap();
    let (exit, said) = code(&mut publish(&[]));
    assert!(exit == 2 && said.contains("contexts.json"), "{said}");
    // What needs no engine does not mind.
    assert!(run(&mut with(&file, &["keygen"])).0);
}

#[test]
fn a_context_that_is_not_there_is_told_of_by_whatever_needs_one() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("contexts.json");
    let id = "oV/L7EPzFRvzczcM2MIA4AAPw5N54nmkn5VpSnQftN8=";
    for arguments in [
        &["publish", EVENT, "1", "--to", id][..],
        &["subscribe", EVENT],
        &["replay", EVENT, "1"],
        &["doctor"],
        &["decrypt"],
        &["app", "list"],
        &["queue", "list"],
        &["info"],
        &["session", "list"],
    ] {
        let mut command = with(&file, arguments);
        let (exit, said) = code(command.args(["--context", "typo"]).current_dir(place.path()));
        assert!(exit == 4 && said.contains("there is no context \"typo\""), "{arguments:?}: {exit} {said}");
    }
    // Without a key it would go out unproven.
    let encrypt = ["encrypt", "--to", id, "--suite", "aes-256-gcm", "--event", EVENT, "--context", "typo"];
    let (ok, printed, said) = super::pipe(with(&file, &encrypt).current_dir(place.path()), "1");
    assert!(!ok && printed.is_empty() && said.contains("typo"), "{said}");
}

#[test]
fn contexts_that_are_added_at_the_same_time_are_all_kept() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("contexts.json");
    let names: Vec<_> = (0..6).map(|n| format!("c{n}")).collect();
    let adding: Vec<_> =
        names.iter().map(|name| with(&file, &["context", "add", name, "--url", "h"]).spawn().unwrap()).collect();
    for mut child in adding {
        assert!(child.wait().unwrap().success());
    }
    let listed: Value = serde_json::from_str(&run(&mut with(&file, &["context", "list", "--json"])).1).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), names.len(), "{listed}");
}
