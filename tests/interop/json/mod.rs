//! JSON means to the published clients what it means to us: what we take, Python's `json` and Node's `JSON.parse` take, to the same
//! meaning; a skeleton says of each value what Python's says (`skeletons`); and documents go through each client and back unchanged
//! (`documents`).

pub mod documents;
mod random;
pub mod skeletons;

use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ensync_sdk::{Metadata, PayloadJson};
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::world::soon;
use random::Random;

/// One of the readers in a process of its own: a line of base64 for each document in, a line for each out.
async fn ask(mut command: Command, documents: &[String]) -> Vec<String> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let lines: String = documents.iter().map(|document| STANDARD.encode(document) + "\n").collect();
    let written = tokio::spawn(async move { stdin.write_all(lines.as_bytes()).await.unwrap() });
    let output = soon("the reader's answers", child.wait_with_output()).await.unwrap();
    written.await.unwrap();
    let answers: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(Into::into).collect();
    assert_eq!(answers.len(), documents.len());
    answers
}

fn script(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/peers").join(name)
}

fn python(clients: &Path, venv: &str) -> Command {
    let mut command = Command::new(clients.join(venv).join("bin/python"));
    command.arg(script("meaning.py"));
    command
}

fn node() -> Command {
    let mut command = Command::new("node");
    command.arg(script("meaning.js"));
    command
}

/// What a value means, in one line of ASCII: every number by the bits of its double (minus zero is zero), every text in hex, the
/// members of an object in the order of their names.
fn meaning(value: &Value) -> String {
    match value {
        Value::Null => "z".into(),
        Value::Bool(true) => "t".into(),
        Value::Bool(false) => "f".into(),
        Value::Number(number) => format!("n{:016x}", (number.as_f64().unwrap() + 0.0).to_bits()),
        Value::String(text) => format!("s{};", hex(text)),
        Value::Array(values) => format!("a({})", values.iter().map(meaning).collect::<String>()),
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().map(|(name, value)| (hex(name), meaning(value))).collect();
            members.sort_unstable();
            format!("o({})", members.iter().map(|(name, value)| format!("{name}:{value}")).collect::<String>())
        }
    }
}

fn hex(text: &str) -> String {
    text.bytes().fold(String::new(), |mut hex, byte| {
        _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Everything that the fuzzers of JSON and metadata keep, if we take it.
fn kept_documents() -> Vec<String> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let files = ["json", "metadata"].map(|target| std::fs::read_dir(corpus.join(target)).unwrap());
    let files = files.into_iter().flatten().map(|file| std::fs::read(file.unwrap().path()).unwrap());
    files.filter_map(|bytes| PayloadJson::from_bytes(bytes).ok()).map(|payload| payload.as_str().to_owned()).collect()
}

/// The value as our readers get it. Metadata is what reads JSON without an envelope around it; the object around the document is a
/// level more than it may have, so `None` for one that has all.
fn ours(document: &str) -> Option<Value> {
    let metadata = Metadata::parse(&format!(r#"{{"document":{document}}}"#));
    metadata.map(|metadata| metadata.field("document").unwrap()).ok()
}

pub async fn what_we_take_is_taken(clients: &Path) {
    let mut documents = kept_documents();
    assert!(documents.len() >= 40, "{}", documents.len());
    let mut random = Random(2);
    documents.extend((0..2_000).map(|_| random.value(0).to_string()));
    let (python, node) = tokio::join!(ask(python(clients, "ensync-sdk-0.4.4"), &documents), ask(node(), &documents));
    let mut deepest = 0;
    for ((document, python), node) in documents.iter().zip(python).zip(node) {
        assert_eq!(python, node, "{document}");
        match ours(document) {
            Some(value) => assert_eq!(python, meaning(&value), "{document}"),
            None => deepest += 1,
        }
    }
    assert!(deepest <= 5, "{deepest}");
}
