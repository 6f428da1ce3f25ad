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
