//! A shell, and an engine to administer.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use ensync_engine::Server;
use tempfile::TempDir;

/// Where commands are run: in the environment of an engine, or with a data directory.
pub(crate) struct Shell {
    environment: Vec<(&'static str, String)>,
    data: Option<PathBuf>,
}

/// What a command said.
pub(crate) struct Said {
    pub(crate) ok: bool,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert!(self.ok, "{}", self.err);
        self.out
    }

    #[track_caller]
    pub(crate) fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.ok()).unwrap()
    }

    /// The one line that a failure prints.
    #[track_caller]
    pub(crate) fn failed(self) -> String {
        assert!(!self.ok && self.out.is_empty(), "{}", self.out);
        assert!(self.err.starts_with("ensync: ") && self.err.lines().count() == 1, "{}", self.err);
        self.err
    }

    /// Lines for a .env file.
    #[track_caller]
    pub(crate) fn keys(self) -> HashMap<String, String> {
        keys(&self.ok())
    }
}

pub(crate) fn keys(lines: &str) -> HashMap<String, String> {
    let lines = lines.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once('=')).map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

impl Shell {
    pub(crate) fn of(server: &Server) -> Self {
        let token = server.admin_token().unwrap().expose().to_owned();
        let url = server.admin_url().unwrap();
        Self { environment: vec![("ENSYNC_ADMIN_URL", url), ("ENSYNC_ADMIN_TOKEN", token)], data: None }
    }

    /// The same, with one more variable.
    pub(crate) fn and(mut self, key: &'static str, value: &str) -> Self {
        self.environment.push((key, value.to_owned()));
        self
    }

    pub(crate) fn offline(directory: &TempDir) -> Self {
        Self { environment: Vec::new(), data: Some(directory.path().to_owned()) }
    }

    pub(crate) fn bare() -> Self {
        Self { environment: Vec::new(), data: None }
    }

    /// Runs `ensync` with words that are separated by spaces.
    pub(crate) async fn run(&self, words: &str) -> Said {
        self.with(&words.split_whitespace().collect::<Vec<_>>()).await
    }

    pub(crate) async fn with(&self, arguments: &[&str]) -> Said {
        self.output_to(arguments, Stdio::piped()).await
    }

    /// The same, with its standard output elsewhere.
    pub(crate) async fn output_to(&self, arguments: &[&str], stdout: Stdio) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ensync"));
        for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("ENSYNC_") || key == "RUST_LOG") {
            command.env_remove(key);
        }
        // A proxy is never asked, or nothing here would work.
        command.env("HTTP_PROXY", "http://127.0.0.1:1").env("ALL_PROXY", "http://127.0.0.1:1");
        command.env("ENSYNC_CONTEXTS", concat!(env!("CARGO_TARGET_TMPDIR"), "/no-contexts-of-admin.json"));
        command.args(arguments).envs(self.environment.iter().map(|(key, value)| (key, value))).stdin(Stdio::null());
        if let Some(data) = &self.data {
            command.arg("--data").arg(data);
        }
        command.stdout(stdout).stderr(Stdio::piped());
        let output = tokio::task::spawn_blocking(move || command.spawn()?.wait_with_output()).await.unwrap().unwrap();
        let Output { status, stdout, stderr } = output;
        let [out, err] = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        Said { ok: status.success(), out, err }
    }
}
