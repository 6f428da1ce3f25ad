//! A secret in any argument or variable of any command is in nothing that the program prints, at the finest level of its log. The
//! commands and their arguments are read from `--help`, so that a new one is tried without anybody thinking of it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A seed that is no app's id: one that is can be told from an id by nobody.
const SEED: &str = "7NIy0DXnNCdNbhUCUe1a8E2IBvYzvVey0cBTr1JVnB0=";
const SECRET: &str = "7NIy0DXnNCdNbhUCUe1a8E2IBvYzvVey0cBTr1JVnB2hX8vsQ/MVG/NzNwzYwgDgAA/Dk3nieaSflWlKdB+03w==";
const APP_KEY: &str = "ensync_key_q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA";
const PEM: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";

/// A command without subcommands: its words, and what `--help` says of it.
struct Leaf {
    words: Vec<String>,
    /// `--flag` and whether it takes a value.
    flags: Vec<(String, bool)>,
    positionals: usize,
    variables: BTreeSet<String>,
}

fn ensync(words: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ensync"));
    for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("ENSYNC_")) {
        command.env_remove(key);
    }
    // Whatever is connected to refuses at once.
    command
        .env("ENSYNC_URL", "ws://127.0.0.1:1")
        .env("ENSYNC_ADMIN_URL", "http://127.0.0.1:1")
        .env("ENSYNC_CONTEXTS", concat!(env!("CARGO_TARGET_TMPDIR"), "/contexts-of-secrets/contexts.json"))
        .env("RUST_LOG", "trace");
    command.args(words).stdin(Stdio::null());
    command
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Every command below `words`.
fn leaves(words: &[String], found: &mut Vec<Leaf>) {
    let help = output(ensync(words).arg("--help"));
    let section = |name: &str| {
        let lines = help.lines().skip_while(move |line| *line != name).skip(1);
        lines.take_while(|line| line.is_empty() || line.starts_with(' ')).map(str::to_owned).collect::<Vec<_>>()
    };
    let commands: Vec<_> = section("Commands:")
        .iter()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .filter(|name| name != "help")
        .collect();
    for name in &commands {
        leaves(&[words, std::slice::from_ref(name)].concat(), found);
    }
    if !commands.is_empty() {
        return;
    }
    let options = section("Options:");
    let flags = options.iter().filter_map(|line| {
        let declared = line.trim_start();
        let flag =
            declared.starts_with('-').then(|| declared.split_whitespace().find(|word| word.starts_with("--")))??;
        Some((flag.trim_end_matches("...").to_owned(), declared.contains('<')))
    });
    let flags: Vec<_> =
        flags.filter(|(flag, _)| !["--help", "--version", "--verbose"].contains(&flag.as_str())).collect();
    let positionals = section("Arguments:").iter().filter(|line| line.trim_start().starts_with(['<', '['])).count();
    let variables =
        help.split("[env: ").skip(1).filter_map(|rest| rest.split(['=', ']']).next()).map(str::to_owned).collect();
    found.push(Leaf { words: words.to_vec(), flags, positionals, variables });
}

fn assert_hidden(what: &str, shown: &str) {
    let pem = PEM.lines().nth(1).unwrap();
    for secret in [SECRET, SEED, &APP_KEY[11..], pem] {
        for piece in secret.as_bytes().windows(12) {
            let piece = str::from_utf8(piece).unwrap();
            assert!(!shown.contains(piece), "{what}: {piece:?} is in:\n{shown}");
            assert!(!shown.contains(&piece.to_lowercase()), "{what}: {piece:?} is in:\n{shown}");
        }
    }
}

/// Runs each, a few at a time.
fn try_all(tries: Vec<(String, Command)>) {
    let (next, tries) = (AtomicUsize::new(0), tries.into_iter().map(|one| Mutex::new(Some(one))).collect::<Vec<_>>());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(one) = tries.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (what, mut command) = one.lock().unwrap().take().unwrap();
                    assert_hidden(&what, &output(&mut command));
                }
            });
        }
    });
}

#[test]
fn a_secret_in_any_argument_of_any_command_is_printed_nowhere() {
    let mut commands = Vec::new();
    leaves(&[], &mut commands);
    assert!(commands.len() >= 27, "{} commands", commands.len());
    let (mut tries, mut slots) = (Vec::new(), 0);
    let place = tempfile::tempdir().unwrap();
    for leaf in &commands {
        let label = leaf.words.join(" ");
        for secret in [SECRET.to_owned(), format!("dir/{SEED}"), APP_KEY.to_owned(), PEM.to_owned()] {
            let mut arguments: Vec<Vec<String>> = Vec::new();
            for (flag, takes_value) in &leaf.flags {
                arguments.push(vec![format!("{flag}={secret}")]);
                if *takes_value {
                    arguments.push(vec![flag.clone(), secret.clone()]);
                }
            }
            for at in 0..=leaf.positionals {
                let words = (0..=leaf.positionals).map(|n| if n == at { secret.clone() } else { "x/y".to_owned() });
                let count = leaf.positionals.max(at + 1);
                arguments.push(words.take(count).collect());
            }
            arguments.push(vec![format!("--{secret}")]);
            arguments.push(vec![format!("-{secret}")]);
            slots += arguments.len();
            for arguments in arguments {
                let mut command = ensync(&leaf.words);
                // A server that starts in spite of all would go on for ever, so it may listen nowhere.
                if leaf.words[0] == "serve" {
                    command.env("ENSYNC_LISTEN", "nowhere");
                }
                command.current_dir(place.path()).args(&arguments);
                tries.push((format!("{label} {arguments:?}"), command));
            }
            for variable in &leaf.variables {
                let mut command = ensync(&leaf.words);
                if leaf.words[0] == "serve" {
                    command.env("ENSYNC_LISTEN", "nowhere");
                }
                command.current_dir(place.path()).env(variable, &secret).args((0..leaf.positionals).map(|_| "x/y"));
                tries.push((format!("{label} with {variable}"), command));
            }
        }
    }
    assert!(slots > 900, "{slots} slots");
    try_all(tries);
}

/// A password has no shape by which it could be known.
#[test]
fn the_help_of_no_command_shows_what_is_in_the_environment() {
    let mut commands = vec![];
    leaves(&[], &mut commands);
    let variables: BTreeSet<_> = commands.iter().flat_map(|leaf| leaf.variables.iter().cloned()).collect();
    assert!(variables.len() >= 9, "{variables:?}");
    for leaf in &commands {
        for help in ["--help", "-h"] {
            let mut command = ensync(&leaf.words);
            command.arg(help);
            for variable in &variables {
                command.env(variable, "ws://user:hunter2@host");
            }
            let shown = output(&mut command);
            assert!(shown.contains("Usage:") && !shown.contains("hunter2"), "{:?}:\n{shown}", leaf.words);
            assert!(leaf.variables.iter().all(|variable| shown.contains(&format!("[env: {variable}]"))), "{shown}");
        }
    }
}

/// Hex, percent-encoded, in pieces: wherever it is typed, it is not repeated.
#[test]
fn a_secret_in_another_writing_is_printed_nowhere() {
    let hex: String = std::iter::repeat_n("7d", 32).collect();
    let percent = SECRET.replace('/', "%2F").replace('+', "%2B").replace('=', "%3D");
    let pieces = format!("{} {}", &SECRET[..44], &SECRET[44..]);
    let place = tempfile::tempdir().unwrap();
    for secret in [&hex, &format!("{hex}{hex}"), &percent, &pieces] {
        for arguments in [
            vec![secret.as_str()],
            vec!["publish", secret, "1", "--to", secret],
            vec!["publish", "a/b", "1", secret, "x"],
            vec!["publish", "a/b", "1", "--url", secret],
            vec!["subscribe", "a/b", "--count", secret],
            vec!["app", secret],
            vec!["app", "create", "x", "--rights", secret],
            vec!["app", "create", "x", "--public-key", secret],
            vec!["app", "rotate-access-key", "x", "--grace", secret],
            vec!["app", "delete", secret, "--yes", "--data", "none"],
            vec!["app", "show", "x", "--token-file", secret],
            vec!["app", "show", "x", "--data", secret],
            vec!["event", "delete", secret, "--yes", "--data", "none"],
            vec!["event", "create", "x", "--schema-file", secret],
            vec!["config", "check", secret],
        ] {
            let words: Vec<_> = arguments.iter().map(|word| (*word).to_owned()).collect();
            let shown = output(ensync(&words).current_dir(place.path()).env_remove("RUST_LOG"));
            assert!(!shown.is_empty(), "{arguments:?}");
            for piece in secret.as_bytes().windows(12) {
                let piece = str::from_utf8(piece).unwrap();
                assert!(!shown.contains(piece), "{arguments:?}: {piece:?} is in:\n{shown}");
            }
        }
    }
}

/// The file is JSON, which people edit, and earlier versions wrote it.
#[cfg(unix)]
#[test]
fn a_secret_anywhere_in_the_file_of_contexts_is_printed_nowhere() {
    use std::os::unix::fs::PermissionsExt;
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("contexts.json");
    let fields = [
        "url",
        "ca",
        "client_cert",
        "client_key",
        "app_key",
        "app_key_command",
        "secret_key",
        "secret_key_command",
        "admin_url",
        "admin_ca",
        "token_file",
        "admin_token",
        "admin_token_command",
        "not_known",
    ];
    let percent = SECRET.replace('/', "%2F").replace('+', "%2B").replace('=', "%3D");
    let secrets = [SECRET.to_owned(), SEED.to_owned(), APP_KEY.to_owned(), percent, SECRET.replace('/', "\\/")];
    let mut tried = 0;
    for secret in &secrets {
        for field in fields.iter().copied().chain(["the name", "a field's name", "the current one", "user-info"]) {
            let held = match field {
                _ if field.ends_with("_command") => format!("false {secret}"),
                _ => secret.clone(),
            };
            let mut one = serde_json::json!({"url": "ws://127.0.0.1:1", "admin_url": "http://127.0.0.1:1"});
            let name = if field == "the name" { held.as_str() } else { "shop" };
            let mut current = name;
            match field {
                "the name" => {}
                "a field's name" => one[&held] = "x".into(),
                "the current one" => current = &held,
                "user-info" => one["url"] = format!("ws://user:{held}@h").into(),
                field => one[field] = held.clone().into(),
            }
            let text = serde_json::json!({"current": current, "contexts": {name: one}}).to_string();
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
            for words in [
                &["context", "list"][..],
                &["context", "list", "--json"],
                &["context", "show"],
                &["context", "show", "--json"],
                &["context", "show", "shop"],
                &["context", "use", "nobody"],
                &["publish", "a/b", "1", "--to", "oV/L7EPzFRvzczcM2MIA4AAPw5N54nmkn5VpSnQftN8="],
                &["decrypt"],
                &["app", "list"],
                &["doctor"],
            ] {
                let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
                let mut command = ensync(&words);
                command.env("ENSYNC_CONTEXTS", &file).current_dir(place.path());
                command.env_remove("ENSYNC_URL").env_remove("ENSYNC_ADMIN_URL");
                let shown = output(&mut command);
                let part = &secret[secret.len() / 2..][..12];
                assert!(!shown.contains(part), "{field} {words:?}: {part} is in {shown}");
                tried += 1;
            }
        }
    }
    assert_eq!(tried, 900);
}

/// As far as an engine, over both transports, at the finest level of the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_in_use_are_printed_by_no_command_that_reaches_an_engine() {
    let server = ensync_engine::Server::dev().admin(([127, 0, 0, 1], 0)).start().await.unwrap();
    let (shop, stock) = (server.create_app("shop").await.unwrap(), server.create_app("stock").await.unwrap());
    let secret = stock.secret_key.to_base64().unwrap().to_string();
    let token = server.admin_token().unwrap().expose().to_owned();
    let to = stock.app_id.to_string();
    for url in [server.grpc_url(), server.ws_url()] {
        let run = async |key: &str, words: &[&str]| {
            let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
            let mut command = ensync(&words);
            command.env("ENSYNC_URL", &url).env("ENSYNC_ADMIN_URL", server.admin_url().unwrap());
            command.env("ENSYNC_APP_KEY", key).env("ENSYNC_SECRET_KEY", &secret).env("ENSYNC_ADMIN_TOKEN", &token);
            let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
            let shown =
                format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            for held in [&secret[..], &token["ensync_admin_".len()..], key.trim_start_matches("ensync_key_")] {
                for piece in held.as_bytes().windows(12) {
                    let piece = str::from_utf8(piece).unwrap();
                    assert!(!shown.contains(piece), "{words:?}: {piece:?} is in:\n{shown}");
                }
            }
            assert!(!shown.contains("ensync_session_"), "{words:?}: {shown}");
            (output.status.code(), shown)
        };
        let (shop, stock) = (shop.app_key.expose(), stock.app_key.expose());
        let (exit, shown) = run(shop, &["publish", "a/b", "1", "--to", &to]).await;
        assert_eq!(exit, Some(0), "{shown}");
        assert!(shown.contains("TRACE") || shown.contains("DEBUG"), "the log is on: {shown}");
        let (exit, shown) = run(stock, &["subscribe", "a/b", "--count", "1", "--json"]).await;
        assert_eq!(exit, Some(0), "{shown}");
        let printed = shown.lines().find(|line| line.contains("\"payload\"")).unwrap();
        let id = serde_json::from_str::<serde_json::Value>(printed).unwrap()["id"].as_str().unwrap().to_owned();
        for (words, expected) in [
            (&["replay", "a/b", &id][..], 0),
            (&["doctor"], 0),
            (&["lookup", &id], 0),
            (&["app", "list"], 0),
            (&["app", "show", "shop"], 0),
            (&["session", "list"], 0),
            (&["queue", "list"], 0),
            (&["info"], 0),
            (&["publish", "a/b", "1", "--to", "oV/L7EPzFRvzczcM2MIA4AAPw5N54nmkn5VpSnQftN8="], 4),
        ] {
            let (exit, shown) = run(stock, words).await;
            assert_eq!(exit, Some(expected), "{words:?}: {shown}");
        }
        // A key that is not known is still a key.
        let (exit, shown) = run("acme-live-0123456789abcdef", &["publish", "a/b", "1", "--to", &to]).await;
        assert_eq!(exit, Some(5), "{shown}");
    }
}

#[test]
fn a_private_key_in_the_place_of_its_file_is_not_printed() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("ensync.toml");
    for secret in [PEM, SECRET, SEED, APP_KEY] {
        for setting in
            ["tls.key", "tls.certificate", "data", "listen", "admin.listen", "limits.max_sessions", "log.level"]
        {
            let (section, name) =
                setting.split_once('.').map_or((String::new(), setting), |(s, n)| (format!("[{s}]\n"), n));
            std::fs::write(&file, format!("{section}{name} = '''{secret}'''\n")).unwrap();
            let words = ["config".to_owned(), "check".to_owned(), file.display().to_string()];
            assert_hidden(setting, &output(&mut ensync(&words)));
            let variable = format!("ENSYNC_{}", setting.replace('.', "_").to_uppercase());
            assert_hidden(&variable, &output(ensync(&words[..2]).env(&variable, secret)));
        }
        std::fs::write(&file, format!("\"{}\" = 1\n{secret}\n", secret.replace('\n', "\\n"))).unwrap();
        let words = ["config".to_owned(), "check".to_owned(), file.display().to_string()];
        assert_hidden("a setting's name", &output(&mut ensync(&words)));
    }
}

#[test]
fn what_is_refused_says_which_argument() {
    for (arguments, part) in [
        (&["publish", "a", "1", "--to", SECRET][..], "--to holds a secret key"),
        (&["app", "show", SEED][..], "APP holds a secret key"),
        (&["app", "create", APP_KEY][..], "this is an app key, not an app's name"),
        (&["event", "create", SECRET][..], "NAME holds a secret key"),
        (&["restore", "--data", "d", "--from", APP_KEY][..], "--from holds an app key"),
    ] {
        let words: Vec<_> = arguments.iter().map(|word| (*word).to_owned()).collect();
        let shown = output(&mut ensync(&words));
        assert!(shown.contains(part), "{shown}");
    }
}
