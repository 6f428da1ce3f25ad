//! A directory that another may have filled: its `.env` chooses none of the keys and files of whoever is there.
#![cfg(unix)]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use super::{EVENT, code, ensync, run};

const ID: &str = "oV/L7EPzFRvzczcM2MIA4AAPw5N54nmkn5VpSnQftN8=";

/// Something that is no engine, and remembers what it was sent.
struct Listener {
    address: String,
    came: Arc<Mutex<String>>,
}

impl Listener {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, came) = (listener.local_addr().unwrap().to_string(), Arc::new(Mutex::new(String::new())));
        let kept = came.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, mut part, mut asked) = (stream.unwrap(), [0; 4_096], Vec::new());
                stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                while !asked.windows(4).any(|end| end == b"\r\n\r\n") {
                    match stream.read(&mut part) {
                        Ok(0) | Err(_) => break,
                        Ok(length) => asked.extend_from_slice(&part[..length]),
                    }
                }
                kept.lock().unwrap().push_str(&String::from_utf8_lossy(&asked));
                _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
            }
        });
        Self { address, came }
    }

    fn came(&self) -> String {
        std::mem::take(&mut self.came.lock().unwrap())
    }
}

/// A directory with an `.env`, contexts that only their owner reads, and the environment.
struct Place {
    here: TempDir,
    /// Where the one who is there keeps his own.
    home: TempDir,
    environment: Vec<(&'static str, String)>,
    context: serde_json::Map<String, serde_json::Value>,
    file: String,
}

impl Place {
    fn new() -> Self {
        let [here, home] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        Self { here, home, environment: Vec::new(), context: serde_json::Map::new(), file: String::new() }
    }

    /// Has a source say something: "environment", "file" or "context".
    fn says(&mut self, source: &str, name: &'static str, value: &str) {
        let fields = [
            ("ENSYNC_URL", "url"),
            ("ENSYNC_APP_KEY", "app_key"),
            ("ENSYNC_CA_FILE", "ca"),
            ("ENSYNC_ADMIN_URL", "admin_url"),
            ("ENSYNC_ADMIN_TOKEN", "admin_token"),
            ("ENSYNC_ADMIN_TOKEN_FILE", "token_file"),
            ("ENSYNC_ADMIN_CA_FILE", "admin_ca"),
        ];
        match source {
            "environment" => self.environment.push((name, value.to_owned())),
            "file" => self.file.push_str(&format!("{name}={value}\n")),
            _ => {
                assert_eq!(source, "context");
                let field = fields.iter().find(|(known, _)| *known == name).unwrap().1;
                self.context.insert(field.to_owned(), value.into());
            }
        }
    }

    fn command(&self, words: &[&str]) -> Command {
        std::fs::write(self.here.path().join(".env"), &self.file).unwrap();
        let contexts = self.home.path().join("contexts.json");
        if !self.context.is_empty() {
            let text = json!({"current": "c", "contexts": {"c": self.context}}).to_string();
            std::fs::write(&contexts, text).unwrap();
            std::fs::set_permissions(&contexts, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        let mut command = ensync(words);
        command.current_dir(self.here.path()).env("ENSYNC_CONTEXTS", &contexts);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    fn stored(&self) -> String {
        std::fs::read_to_string(self.home.path().join("contexts.json")).unwrap_or_default()
    }
}

fn token(source: &str) -> String {
    format!("ensync_admin_{}", source.repeat(30))
}

fn path(place: &Path) -> &str {
    place.to_str().unwrap()
}

/// Whether the token of a source goes to the engine of a source.
fn goes(engine: &str, of: &str) -> bool {
    match engine {
        "flag" => of == "environment" || of == "file",
        "environment" => of == "environment" || of == "file",
        "file" => of == "file",
        "context" => of == "context",
        _ => false,
    }
}

#[test]
fn a_token_goes_where_its_source_says_and_never_where_the_directory_says() {
    let listener = Listener::start();
    let url = format!("http://{}", listener.address);
    let (mut sent, mut refused) = (0, 0);
    for engine in ["flag", "environment", "file", "context"] {
        for of in ["environment", "file", "context"] {
            for is_file in [false, true] {
                let mut place = Place::new();
                let words: &[&str] =
                    if engine == "flag" { &["app", "list", "--admin-url", &url] } else { &["app", "list"] };
                if engine != "flag" {
                    place.says(engine, "ENSYNC_ADMIN_URL", &url);
                }
                let token = token(of);
                if is_file {
                    let held = place.home.path().join("held");
                    std::fs::write(&held, &token).unwrap();
                    place.says(of, "ENSYNC_ADMIN_TOKEN_FILE", path(&held));
                } else {
                    place.says(of, "ENSYNC_ADMIN_TOKEN", &token);
                }
                let (_, _, said) = run(&mut place.command(words));
                let came = listener.came();
                // The file of the directory says nothing of other files.
                let is_sent = goes(engine, of) && !(is_file && of == "file");
                assert_eq!(came.contains(&token), is_sent, "{engine} {of} {is_file}: {came:?} {said}");
                assert!(is_sent || came.is_empty(), "{engine} {of} {is_file}: {came:?}");
                if is_file && of == "file" {
                    assert!(
                        said.contains("line") && said.contains("ENSYNC_ADMIN_TOKEN_FILE has no say there"),
                        "{said}"
                    );
                }
                if is_sent { sent += 1 } else { refused += 1 }
            }
        }
    }
    assert_eq!((sent, refused), (9, 15));
}

/// A context is used in every directory, and for good.
#[test]
fn a_context_marries_no_key_to_an_engine_that_the_directory_names() {
    let listener = Listener::start();
    let url = format!("http://{}", listener.address);
    let mut stored = 0;
    for engine in ["flag", "environment", "file"] {
        for of in ["environment", "file", "command"] {
            let mut place = Place::new();
            let token = token(of);
            let held = place.home.path().join("held");
            std::fs::write(&held, &token).unwrap();
            let print = format!("cat '{}'", path(&held));
            let mut words = vec!["context", "add", "prod", "--url", "ws://127.0.0.1:1"];
            match engine {
                "flag" => words.extend(["--admin-url", &url]),
                _ => place.says(engine, "ENSYNC_ADMIN_URL", &url),
            }
            match of {
                "command" => words.extend(["--admin-token-command", &print]),
                _ => place.says(of, "ENSYNC_ADMIN_TOKEN", &token),
            }
            let (ok, _, said) = run(&mut place.command(&words));
            let is_stored = engine != "file" || of == "file";
            assert_eq!(ok, is_stored, "{engine} {of}: {said}");
            if is_stored {
                let from = match of {
                    "command" => "admin token command (--admin-token-command)",
                    "environment" => "admin token (the variable ENSYNC_ADMIN_TOKEN)",
                    _ => "admin token (ENSYNC_ADMIN_TOKEN in the file .env)",
                };
                assert!(said.contains(from) && said.contains("url (--url)"), "{said}");
                stored += 1;
            } else {
                assert!(said.contains("the engine comes from ENSYNC_ADMIN_URL in the file .env"), "{said}");
                assert!(!place.stored().contains(&token));
            }
            // And what is in it is used.
            (place.file, place.environment) = (String::new(), Vec::new());
            run(&mut place.command(&["app", "list"]));
            assert_eq!(listener.came().contains(&token), is_stored, "{engine} {of}");
        }
    }
    assert_eq!(stored, 7);
    for (words, name) in [
        (&["context", "add", "shop"][..], "ENSYNC_APP_KEY"),
        (&["context", "add", "shop", "--app-key", "k-typed"], "--app-key"),
        (&["context", "add", "shop", "--app-key-command", "echo k-typed"], "--app-key-command"),
        (&["context", "add", "shop", "--secret-key-command", "echo k-typed"], "--secret-key-command"),
    ] {
        let mut place = Place::new();
        place.says("file", "ENSYNC_URL", "ws://127.0.0.1:1");
        if name == "ENSYNC_APP_KEY" {
            place.says("environment", "ENSYNC_APP_KEY", "k-exported");
        }
        let (exit, said) = code(&mut place.command(words));
        assert!(exit == 2 && said.contains("which may be for another one") && said.contains(name), "{exit} {said}");
        assert!(place.stored().is_empty(), "{}", place.stored());
    }
}

/// Whoever is taken for an engine reads the keys that go there.
#[test]
fn the_directory_says_whom_to_trust_for_its_own_engine_only() {
    let listener = Listener::start();
    let url = format!("http://{}", listener.address);
    for engine in ["flag", "environment", "file", "context"] {
        let mut place = Place::new();
        place.says("file", "ENSYNC_ADMIN_CA_FILE", "missing.pem");
        let words: &[&str] = if engine == "flag" { &["app", "list", "--admin-url", &url] } else { &["app", "list"] };
        if engine != "flag" {
            place.says(engine, "ENSYNC_ADMIN_URL", &url);
        }
        place.says(if engine == "flag" { "environment" } else { engine }, "ENSYNC_ADMIN_TOKEN", &token("a"));
        let (_, _, said) = run(&mut place.command(words));
        let is_used = engine == "file";
        assert_eq!(said.contains("cannot read missing.pem"), is_used, "{engine}: {said}");
        assert_eq!(listener.came().is_empty(), is_used, "{engine}");
        let told = said.contains("warning: ENSYNC_ADMIN_CA_FILE in the file .env is not used: the engine comes from");
        assert_eq!(told, !is_used, "{said}");
    }
    let publish = ["publish", EVENT, "1", "--to", ID, "--timeout", "5s"];
    for engine in ["flag", "environment", "file", "context", "argument"] {
        let mut place = Place::new();
        place.says("file", "ENSYNC_CA_FILE", "missing.pem");
        let url = "ws://127.0.0.1:1";
        let words = match engine {
            "flag" => [&publish[..], &["--url", url]].concat(),
            "argument" => vec!["doctor", url],
            _ => publish.to_vec(),
        };
        match engine {
            "flag" => {}
            // The directory has an engine of its own, and another one is meant.
            "argument" => place.says("file", "ENSYNC_URL", "ws://127.0.0.1:2"),
            _ => place.says(engine, "ENSYNC_URL", url),
        }
        let with_key = if matches!(engine, "flag" | "argument") { "environment" } else { engine };
        place.says(with_key, "ENSYNC_APP_KEY", "k-1");
        let (_, printed, said) = run(&mut place.command(&words));
        let said = printed + &said;
        let is_used = engine == "file";
        assert_eq!(said.contains("cannot read missing.pem"), is_used, "{engine}: {said}");
        assert_eq!(said.contains("warning: ENSYNC_CA_FILE in the file .env is not used"), !is_used, "{said}");
    }
}

#[test]
fn a_certificate_for_the_engine_of_the_directory_lies_in_the_directory() {
    let listener = Listener::start();
    let mut place = Place::new();
    place.says("file", "ENSYNC_ADMIN_URL", &format!("http://{}", listener.address));
    place.says("file", "ENSYNC_ADMIN_TOKEN", &token("a"));
    let elsewhere = place.home.path().join("client.pem");
    std::fs::write(&elsewhere, "rubbish").unwrap();
    std::fs::write(place.here.path().join("client.pem"), "rubbish").unwrap();
    std::os::unix::fs::symlink(&elsewhere, place.here.path().join("link.pem")).unwrap();
    let beside = place.file.clone();
    for (file, is_used) in
        [("client.pem", true), ("./client.pem", true), (path(&elsewhere), false), ("link.pem", false)]
    {
        place.file = format!("{beside}ENSYNC_CLIENT_CERT={file}\nENSYNC_CLIENT_KEY={file}\n");
        let (_, _, said) = run(&mut place.command(&["app", "list"]));
        assert_eq!(said.contains("holds no certificate"), is_used, "{file}: {said}");
        assert_eq!(said.contains("ENSYNC_CLIENT_CERT in the file .env is not used"), !is_used, "{file}: {said}");
        assert_eq!(listener.came().is_empty(), is_used, "{file}");
    }
}
