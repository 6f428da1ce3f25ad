//! JSON means to the published clients what it means to us: what we take, Python's `json` and Node's `JSON.parse` take, to the same
//! meaning; a skeleton says of each value what Python's says; and documents go through the gRPC clients and back unchanged.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ensync_sdk::{Metadata, PayloadJson, PayloadMetadata, Schema};
use serde_json::{Map, Number, Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::peer::{Kind, Peer};
use crate::world::{World, next, soon};

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

fn python(clients: &Path) -> Command {
    let mut command = Command::new(clients.join("ensync-sdk-0.4.4/bin/python"));
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
    let (python, node) = tokio::join!(ask(python(clients), &documents), ask(node(), &documents));
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

/// Every kind of value, at its bounds.
const VALUES: [&str; 26] = [
    "null",
    "true",
    "false",
    "\"\"",
    "\"1\"",
    "[]",
    "[1]",
    "{}",
    r#"{"a":1}"#,
    "0",
    "-0",
    "1",
    "-1",
    "2147483647",
    "2147483648",
    "-2147483648",
    "-2147483649",
    "9007199254740993",
    "9223372036854775808",
    "18446744073709551616",
    "123456789012345678901234567890",
    "1.0",
    "-0.0",
    "0.1",
    "1e2",
    "1e-400",
];

const TYPES: [&str; 12] =
    ["string", "integer", "int", "long", "double", "float", "number", "boolean", "bool", "object", "array", "null"];

/// Only Python's client makes skeletons; the checker is the engine's, for none of the published packages has one. So for each value:
/// the type that Python gives it and the one that we give it are the same; and each type of a schema takes the value as Node writes it
/// where it takes it as it stands, but for numbers that Node cannot tell apart.
pub async fn skeletons_and_schemas_agree(clients: &Path) {
    let documents: Vec<String> = VALUES.iter().map(|value| format!(r#"{{"field":{value}}}"#)).collect();
    let mut skeleton = python(clients);
    skeleton.arg("skeleton");
    let mut again = node();
    again.arg("again");
    let (python, node) = tokio::join!(ask(skeleton, &documents), ask(again, &documents));
    let mut differ = Vec::new();
    for (((value, document), python), node) in VALUES.iter().zip(&documents).zip(python).zip(node) {
        let about = PayloadMetadata::of_json(document).unwrap();
        let python: Map<String, Value> = serde_json::from_str(&python).unwrap();
        let kind = about.skeleton.as_ref().unwrap()["field"];
        assert_eq!(python["field"], kind.to_string(), "{value}");
        let of_node = PayloadMetadata::of_json(&node).unwrap();
        for name in TYPES {
            let schema = Schema::parse(&format!(r#"{{"field":"{name}"}}"#)).unwrap();
            let (takes, takes_node) = (schema.check(&about).is_ok(), schema.check(&of_node).is_ok());
            assert!(takes || kind.name() != name, "{value} is {kind} and no {name}");
            if takes != takes_node {
                differ.push((*value, name, takes));
            }
        }
    }
    // Node has no other number than the double: 1.0 is 1 to it, and so whole; a whole number of 22 digits has an exponent.
    let whole = |value| ["integer", "int", "long"].map(|name| (value, name, false));
    let mut expected = Vec::new();
    for value in VALUES {
        match value {
            "123456789012345678901234567890" => expected.push((value, "long", true)),
            "1.0" | "-0.0" | "1e2" | "1e-400" => expected.extend(whole(value)),
            _ => {}
        }
    }
    assert_eq!(differ, expected);
}

/// In so many events, and so many documents in each.
const EVENTS: usize = 20;
const IN_EACH: usize = 500;

/// Documents that a client publishes come to us as they were, and those that we publish come to it. One after the other, for not every
/// client can do both at a time.
pub async fn documents_go_through(kind: Kind, clients: &Path) {
    let name = "interop/json";
    let world = World::start().await;
    let mut peer = Peer::spawn(kind, clients);
    peer.log_in(&world).await;
    let (mine, to) = (world.client(usize::from(!kind.is_grpc())).await, &world.ours[usize::from(!kind.is_grpc())]);
    let mut events = mine.subscribe(name).await.unwrap();
    let mut random = Random(3);
    let mut sent = Vec::new();
    for _ in 0..EVENTS {
        let documents: Vec<Value> = (0..IN_EACH).map(|_| random.value(0)).collect();
        let publish = json!({"name": name, "to": [to.id.to_string()], "payload": {"documents": documents}});
        peer.ask("publish", publish).await;
        let event = next(&mut events).await;
        same(&event.json().unwrap(), &documents);
        sent.push((PayloadJson::parse(event.text().unwrap()).unwrap(), documents));
        event.ack().await.unwrap();
    }
    peer.close().await;

    peer.subscribe(&world, name, true).await;
    for (text, documents) in sent {
        mine.publish_json(name, text).to(world.peer.id).await.unwrap();
        same(&peer.event().await["payload"], &documents);
    }
    peer.close().await;
}

fn same(payload: &Value, documents: &[Value]) {
    let found = payload["documents"].as_array().unwrap();
    assert_eq!(found.len(), documents.len());
    for (found, document) in found.iter().zip(documents) {
        assert_eq!(meaning(found), meaning(document), "{document}");
    }
}

/// Random documents, the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // "xorshift*": G. Marsaglia, "Xorshift RNGs", 2003.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit
    }

    fn value(&mut self, depth: u32) -> Value {
        match self.below(if depth < 4 { 12 } else { 9 }) {
            0 => Value::Null,
            1 => (self.below(2) == 1).into(),
            2 => i64::try_from(self.below(2_000)).map(|n| n - 1_000).unwrap().into(),
            3 => i64::try_from(self.below(1 << 53)).map(|n| if n % 2 == 0 { n } else { -n }).unwrap().into(),
            4 => Number::from_f64(f64::from_bits(self.next())).map_or(Value::Null, Value::Number),
            5 => json!((self.below(2_000_000) as f64 - 1e6) / 1_000.0),
            6..=8 => self.text().into(),
            9 => (0..self.below(5)).map(|_| self.value(depth + 1)).collect(),
            _ => {
                let members = (0..self.below(5)).map(|_| (self.name(), self.value(depth + 1)));
                members.collect::<Map<_, _>>().into()
            }
        }
    }

    fn name(&mut self) -> String {
        let known = ["", "a", "10", "9", "__proto__", "constructor", "toString", "$internal", "length", "data"];
        match self.below(3) {
            0 => known[self.below(known.len() as u64) as usize].to_owned(),
            _ => self.text(),
        }
    }

    fn text(&mut self) -> String {
        (0..self.below(12)).map(|_| self.character()).collect()
    }

    fn character(&mut self) -> char {
        let code = match self.below(8) {
            0 => self.below(0x20),
            1..=4 => 0x20 + self.below(0x60),
            5 => 0x80 + self.below(0x780),
            6 => self.below(0x1_0000),
            _ => 0x1_0000 + self.below(0x10_0000),
        };
        u32::try_from(code).ok().and_then(char::from_u32).unwrap_or('\u{fffd}')
    }
}
