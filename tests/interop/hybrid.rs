//! Events to three apps at once, of which Python 0.4.4, Node 0.0.18 and a reader in the Go client's form is each one: sent by each
//! of them, and by us.
//!
//! The Go client itself is not here; `envelopes`, a program of our own on the libraries that it is built on, seals and opens as it
//! does, and a link of ours carries that.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use ensync_client::{Dialer, Transports as _};
use ensync_core::{AppId, AppKey, Command, Endpoint, Link, Metadata, Publish, Subscribe, WirePayload};
use ensync_engine::EventOptions;
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

use crate::peer::{Kind, Peer};
use crate::table::Outcome::{self, Defect, Works};
use crate::world::{World, eventually, soon};

const NAME: &str = "interop/hybrid";
/// What Python says of a hybrid envelope in which its entry is not as it expects, and Node of every hybrid one.
const PYTHON: &str = "Failed to decrypt hybrid message";
const NODE: &str = "Failed to decrypt with key";

/// How a sender wraps an event to several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Hybrid,
    Boxes,
}

/// Each sender, and what each reader makes of its events: of one hybrid envelope, and of a box for each.
pub async fn everybody_to_everybody(clients: &Path, envelopes: PathBuf) -> Vec<(String, [Outcome; 3])> {
    let mut world = World::start().await;
    // What a client cannot open it leaves: that must not come again, and be logged again, while this runs.
    let options = EventOptions { ack_timeout: Some(Duration::from_secs(3_600)), ..EventOptions::default() };
    world.register(NAME, options).await;
    let mut python = Peer::spawn(Kind::Grpc044, clients);
    python.subscribe(&world, NAME, false).await;
    let python_app = world.next_peer("python").await;
    let mut node = Peer::spawn(Kind::Node, clients);
    node.subscribe(&world, NAME, false).await;
    let node_app = world.next_peer("node").await;
    let mut go = Go::start(&world, envelopes).await;
    let to = [python_app.id, node_app.id, go.id];
    let ours = world.client(0).await;

    let mut found = Vec::new();
    for (sender, forms) in [
        ("this SDK", &[Form::Hybrid, Form::Boxes][..]),
        ("Python", &[Form::Hybrid, Form::Boxes]),
        ("Node", &[Form::Boxes]),
        ("Go's form", &[Form::Hybrid, Form::Boxes]),
    ] {
        for &form in forms {
            // Ours are hybrid only if they are large.
            let payload = json!({"from": sender, "form": format!("{form:?}"), "text": "ö".repeat(20 << 10)});
            let keys = to.map(|id| id.to_string());
            let publish = json!({"name": NAME, "to": keys, "payload": payload});
            match (sender, form) {
                ("this SDK", Form::Hybrid) => drop(ours.publish(NAME, &payload).to_all(to).await.unwrap()),
                ("this SDK", Form::Boxes) => {
                    drop(ours.publish(NAME, &payload).to_all(to).single_boxes().await.unwrap())
                }
                ("Python", _) => {
                    let mut publish = publish;
                    publish["options"] = json!({"useHybridEncryption": form == Form::Hybrid});
                    drop(python.ask("publish", publish).await);
                }
                ("Node", _) => drop(node.ask("publish", publish).await),
                _ => go.publish(&payload, to, form).await,
            }
            let title = format!("{sender}, {}", if form == Form::Hybrid { "hybrid" } else { "boxes" });
            // Python and Node say what they cannot open, and nothing after it.
            let python_reads = reads(&mut python, &payload, PYTHON).await;
            let node_reads = reads(&mut node, &payload, NODE).await;
            found.push((title, [python_reads, node_reads, go.reads(&payload).await]));
        }
    }
    python.close().await;
    node.close().await;
    found
}

/// Whether a client's next event is this one, or its log says that it could not open it.
async fn reads(peer: &mut Peer, payload: &Value, evidence: &str) -> Outcome {
    let outcome = match peer.event_or_logged(evidence).await {
        Ok(event) => {
            assert_eq!(event["payload"], *payload, "at {:?}", peer.kind);
            peer.ask("ack", json!({"name": event["name"], "idem": event["idem"], "block": event["block"]})).await;
            Works
        }
        Err(_) => Defect(evidence.to_owned()),
    };
    peer.forget_log();
    outcome
}

/// An app whose events are sealed and opened by `envelopes`.
struct Go {
    id: AppId,
    secret: String,
    link: Link,
    _child: Child,
    stdin: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Go {
    async fn start(world: &World, envelopes: PathBuf) -> Self {
        let login = world.bystander.login();
        let endpoint: Endpoint = world.grpc_url().parse().unwrap();
        let connector = ensync_grpc::Grpc::connector(&endpoint, Dialer::default()).unwrap();
        let key = AppKey::parse(login["key"].as_str().unwrap()).unwrap();
        let link = soon("a login", connector.connect(&endpoint, &key)).await.unwrap();
        let subscribe = Subscribe { event: NAME.parse().unwrap(), max_in_flight: None, max_bytes_in_flight: None };
        soon("a subscription", link.transport.call(Command::Subscribe(subscribe))).await.unwrap();
        eventually("the subscription", async || world.queue_of(&world.bystander, NAME).await.consumers == 1).await;
        let mut command = tokio::process::Command::new(envelopes);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let secret = login["secret"].as_str().unwrap().to_owned();
        Self { id: world.bystander.id, secret, link, _child: child, stdin, answers: BufReader::new(stdout).lines() }
    }

    async fn ask(&mut self, what: Value) -> Result<String, String> {
        self.stdin.write_all(format!("{what}\n").as_bytes()).await.unwrap();
        let line = soon("envelopes", self.answers.next_line()).await.unwrap().expect("envelopes has ended");
        let answer: Value = serde_json::from_str(&line).unwrap();
        match answer["ok"].as_str() {
            Some(ok) => Ok(ok.to_owned()),
            None => Err(answer["error"].as_str().unwrap().to_owned()),
        }
    }

    async fn publish(&mut self, payload: &Value, to: [AppId; 3], form: Form) {
        let hybrid = form == Form::Hybrid;
        for recipient in to {
            // One envelope for all, or a box for each.
            let keys = if hybrid { to.map(|id| id.to_string()).to_vec() } else { vec![recipient.to_string()] };
            let seal = json!({"do": "seal", "plaintext": payload.to_string(), "to": keys, "hybrid": hybrid});
            let publish = Publish {
                event: NAME.parse().unwrap(),
                recipient,
                payload: WirePayload::from_wire(self.ask(seal).await.unwrap()),
                metadata: Metadata::parse(r#"{"persist":true,"headers":{}}"#).unwrap(),
                payload_metadata: None,
                idempotency_key: None,
            };
            soon("a publish", self.link.transport.call(Command::Publish(publish))).await.unwrap();
        }
    }

    async fn reads(&mut self, payload: &Value) -> Outcome {
        let delivery = soon("a delivery", self.link.inbox.next()).await.unwrap().unwrap();
        let open = json!({"do": "open", "wire": delivery.payload.as_str().unwrap(), "secret": self.secret});
        match self.ask(open).await {
            Ok(opened) => {
                assert_eq!(serde_json::from_str::<Value>(&opened).unwrap(), *payload);
                Works
            }
            Err(error) => Defect(error),
        }
    }
}
