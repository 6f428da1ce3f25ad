//! Dead letters, by the admin API: half of them are put back, half are given up.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::engine::Process;
use crate::load::{Habit, Queue};

/// Looks after dead letters until it is told to stop and there are none.
pub(crate) async fn look_after(process: Arc<Process>, queues: Arc<[Queue]>, stop: Arc<AtomicBool>) {
    let open = |queue: &Queue| queue.habit == Habit::Discard && queue.ledger.open() > 0;
    while !stop.load(Ordering::Relaxed) || queues.iter().any(open) {
        for queue in queues.iter().filter(|queue| queue.habit == Habit::Discard) {
            let path = format!("/v1/dead-letters?limit=200&event={}", queue.name);
            let letters = call(&process, "GET", path, None).await;
            for letter in letters["dead_letters"].as_array().unwrap() {
                let id = letter["id"].as_str().unwrap();
                // Else the answer to the discard is on its way still.
                let Some(n) = queue.ledger.dead(id) else { continue };
                let requeue = (n / 16) % 2 == 0;
                if requeue {
                    queue.ledger.revive(id, n);
                }
                let path = format!("/v1/dead-letters/{}", if requeue { "requeue" } else { "drop" });
                let count = call(&process, "POST", path, Some(json!({"id": id}))).await;
                assert_eq!(count["count"], 1);
                if !requeue {
                    queue.ledger.give_up(id, n);
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn call(process: &Arc<Process>, method: &'static str, path: String, body: Option<Value>) -> Value {
    let process = process.clone();
    tokio::task::spawn_blocking(move || exchange(&process, method, &path, body)).await.unwrap()
}

fn exchange(process: &Process, method: &str, path: &str, body: Option<Value>) -> Value {
    let (address, token, body) = (&process.admin, &process.token, body.map_or(String::new(), |body| body.to_string()));
    let mut tcp = TcpStream::connect(address).unwrap();
    write!(
        tcp,
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{method} {path}: {answer}");
    serde_json::from_str(body).unwrap()
}
