//! What tests that start `ensync serve` have in common.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};

use ensync_sdk::{Client, Engine, SecretKey};

/// By app, then by variable.
pub(crate) type Keys = HashMap<String, HashMap<String, String>>;

/// What an engine printed until it was ready.
#[derive(Default)]
pub(crate) struct Announced {
    /// gRPC, WebSocket.
    pub(crate) urls: Vec<String>,
    /// The address of its admin listener; empty if it has none.
    pub(crate) admin: String,
    /// Those of apps that it made.
    pub(crate) keys: Keys,
}

impl Announced {
    /// Waits until the engine is ready, or has ended, and then says nothing of URLs.
    pub(crate) fn read(stdout: impl Read) -> Self {
        let (mut announced, mut app) = (Self::default(), String::new());
        for line in BufReader::new(stdout).lines().map(Result::unwrap).take_while(|line| line != "# ready") {
            if let Some(name) = line.strip_prefix("# app ") {
                app = name.trim_matches('"').to_owned();
            } else if let Some((key, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
                announced.keys.entry(app.clone()).or_default().insert(key.to_owned(), value.to_owned());
            } else if let Some(url) = line.strip_prefix("# administration at http://") {
                announced.admin = url.split(',').next().unwrap().to_owned();
            } else if line.contains("grpc://") {
                let urls = line.split_whitespace().filter(|word| word.contains("://"));
                announced.urls = urls.map(str::to_owned).collect();
            }
        }
        announced
    }
}

/// A client of an app.
pub(crate) async fn client(keys: &Keys, app: &str, url: &str) -> Client {
    let keys = &keys[app];
    let secret: SecretKey = keys["ENSYNC_SECRET_KEY"].parse().unwrap();
    let engine = Engine::new(url).unwrap();
    engine.create_client(keys["ENSYNC_APP_KEY"].as_str()).app_secret_key(secret).await.unwrap()
}
