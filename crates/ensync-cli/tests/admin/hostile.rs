//! What answers in the place of an engine: it may be anything, on a port that anybody may take.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::shell::{Said, Shell};

const TOKEN: &str = "ensync_admin_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// Answers every request with `body`, over connections of their own.
async fn answering(body: String) -> Shell {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let body = body.clone();
            tokio::spawn(async move {
                let mut asked = Vec::new();
                while !whole(&asked) {
                    match stream.read_buf(&mut asked).await {
                        Ok(0) | Err(_) => return,
                        Ok(_) => {}
                    }
                }
                let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: ";
                let answer = format!("{head}{}\r\n\r\n{body}", body.len());
                _ = stream.write_all(answer.as_bytes()).await;
                _ = stream.shutdown().await;
            });
        }
    });
    Shell::bare().and("ENSYNC_ADMIN_URL", &url).and("ENSYNC_ADMIN_TOKEN", TOKEN)
}

/// Whether a request is there, with its body.
fn whole(asked: &[u8]) -> bool {
    let text = String::from_utf8_lossy(asked).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.trim().parse().ok());
    body.len() >= length.unwrap_or(0)
}

/// An answer to everything, with `text` wherever a text may be.
fn answer(text: &str, access_key: &str) -> String {
    let names = [
        "id",
        "name",
        "public_key",
        "app",
        "app_name",
        "event",
        "enabled",
        "created_at",
        "sessions",
        "reason",
        "state",
        "at",
        "deliveries",
        "count",
        "ready",
        "bytes",
        "client",
        "peer",
        "transport",
        "version",
        "since",
        "accepted_at",
        "until",
        "kind",
        "message",
        "sender",
        "to",
        "status",
        "description",
    ];
    let texts = names.map(|name| (name.to_owned(), Value::from(text)));
    let one = Value::Object(texts.into_iter().collect());
    let mut all = one.clone();
    for list in ["apps", "events", "queues", "dead_letters", "sessions", "grants", "earlier_public_keys", "recipients"]
    {
        all[list] = json!([one, one]);
    }
    all["apps"] = json!([one]);
    all["app"] = one.clone();
    all["event"] = one;
    all["access_key"] = access_key.into();
    all.to_string()
}

#[track_caller]
fn does_nothing_to_a_terminal(what: &str, said: &Said) {
    for text in [&said.out, &said.err] {
        let acts = |c: char| c != '\n' && (c.is_control() || matches!(c, '\u{2028}'..='\u{202e}'));
        assert!(!text.contains(acts), "{what}: {text:?}");
    }
}

/// What a shell does with lines that are for it.
fn sourced(place: &Path, lines: &str) {
    let file = place.join("lines.env");
    std::fs::write(&file, lines).unwrap();
    // Whatever it makes of them, it carries nothing out.
    let shell = Command::new("sh").current_dir(place).args(["-c", "set -a; . ./lines.env"]).output().unwrap();
    let made: Vec<_> = std::fs::read_dir(place).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(made, ["lines.env"], "{lines:?}");
    assert!(shell.status.success() && shell.stderr.is_empty(), "{lines:?}: {shell:?}");
    std::fs::remove_file(&file).unwrap();
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_answers_carries_out_nothing_in_the_shell_of_whoever_asks() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("keys.env");
    let path = file.to_str().unwrap();
    let bad = [
        "ensync_key_x\n$(touch TOUCHED)\n",
        "ensync_key_$(touch${IFS}TOUCHED)",
        "ensync_key_`touch${IFS}TOUCHED`",
        "ensync_key_x;touch${IFS}TOUCHED",
        "ensync_key_x&touch${IFS}TOUCHED",
        "ensync_key_x'",
        "ensync_key_x\u{1b}[2J",
        "ensync_key_é",
        "ensync_key_",
        "hunter2",
        "",
    ];
    let mut tried = 0;
    for key in bad {
        let shell = answering(answer("x\n$(touch TOUCHED)\u{1b}]0;x\u{7}", key)).await;
        for words in [&["app", "create", "shop"][..], &["app", "rotate-key", "shop"]] {
            for more in [&[][..], &["--json"], &["--out", path], &["--out", path, "--json"]] {
                let said = shell.with(&[words, more].concat()).await;
                assert!(!said.ok && said.out.is_empty(), "{key:?} {words:?} {more:?}: {}", said.out);
                assert!(said.err.contains("answered with something else than an app key"), "{}", said.err);
                assert!(!file.exists() && !said.err.contains("TOUCHED"), "{}", said.err);
                does_nothing_to_a_terminal(key, &said);
                tried += 1;
            }
        }
    }
    assert_eq!(tried, 8 * bad.len());
    // A key that is one goes into lines that are for the shell, whatever else the answer has.
    for name in ["x\n$(touch TOUCHED)\n", "x\r$(touch TOUCHED)", "x\u{85}\u{2028}touch TOUCHED", "\"\n`touch TOUCHED`"]
    {
        let shell = answering(answer(name, "ensync_key_q83v-A_b")).await;
        for words in ["app create shop", "app rotate-key shop", "app rotate-keypair shop"] {
            let said = shell.run(words).await;
            does_nothing_to_a_terminal(words, &said);
            let here = tempfile::tempdir().unwrap();
            sourced(here.path(), &said.ok());
            let said = shell.with(&[&words.split(' ').collect::<Vec<_>>()[..], &["--out", path]].concat()).await;
            does_nothing_to_a_terminal(words, &said);
            said.ok();
            sourced(here.path(), &std::fs::read_to_string(&file).unwrap());
            std::fs::remove_file(&file).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_text_of_an_answer_does_anything_to_a_terminal() {
    let mut tried = 0;
    for text in ["a\u{1b}]0;x\u{7}\u{9b}2J", "a\u{202e}b\u{85}\r\u{2028}c"] {
        let shell = answering(answer(text, "ensync_key_x")).await;
        for words in [
            "app list",
            "app show shop",
            "app disable shop",
            "app create shop",
            "app rotate-key shop",
            "app delete shop",
            "event list",
            "event show a/b",
            "queue list",
            "queue show a/b --app shop",
            "queue peek a/b --app shop --limit 1",
            "queue purge a/b --app shop --yes",
            "dead-letter list --limit 1",
            "dead-letter show 0190b5d2-3c3a-7a3e-8000-000000000001",
            "session list",
            "lookup 0190b5d2-3c3a-7a3e-8000-000000000001",
            "info",
        ] {
            for words in [words.to_owned(), format!("{words} --json")] {
                let said = shell.run(&words).await;
                does_nothing_to_a_terminal(&words, &said);
                assert!(!said.out.is_empty() || !said.err.is_empty(), "{words}");
                tried += 1;
            }
        }
    }
    assert_eq!(tried, 68);
}

/// A pipe or a device in the place of the file is read as far as a token may be long.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_token_is_not_read_without_end() {
    let said = Shell::bare().with(&["app", "list", "--token-file", "/dev/zero"]).await.failed();
    assert!(said.contains("cannot read the admin token in /dev/zero: it has more than 4096 bytes"), "{said}");
    let shell = Shell::bare().and("ENSYNC_ADMIN_TOKEN", TOKEN);
    let said = shell.with(&["app", "list", "--admin-ca", "/dev/zero"]).await.failed();
    assert!(said.contains("/dev/zero: it has more than"), "{said}");
}
