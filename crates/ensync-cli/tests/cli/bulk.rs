//! `publish --file`: whatever interrupts it, each line arrives once.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use ensync_engine::{EventOptions, Server};

use super::{EVENT, code, ensync, run};

/// An engine in this process, and the command as its app "shop".
async fn engine() -> (Server, Vec<(&'static str, String)>, ensync_engine::NewApp) {
    let server = Server::builder().start().await.unwrap();
    server.register_event(EVENT, EventOptions::default()).await.unwrap();
    let (shop, stock) = (server.create_app("shop").await.unwrap(), server.create_app("stock").await.unwrap());
    let environment = vec![("ENSYNC_URL", server.ws_url()), ("ENSYNC_APP_KEY", shop.app_key.expose().to_owned())];
    (server, environment, stock)
}

/// How often each line's number is in the queue, of events that are not settled.
async fn lines(server: &Server, stock: &ensync_engine::NewApp) -> BTreeMap<u64, u64> {
    let queue = server.broker().queue(EVENT.parse().unwrap(), stock.app_id).await.unwrap().unwrap();
    let waiting = queue.ready as u64;
    let engine = ensync_sdk::Engine::new(&server.ws_url()).unwrap();
    let client = engine.create_client(stock.app_key.expose()).app_secret_key(stock.secret_key.clone()).await.unwrap();
    let mut events = client.subscribe(EVENT).await.unwrap();
    let mut found = BTreeMap::new();
    for _ in 0..waiting {
        let event = futures::StreamExt::next(&mut events).await.unwrap().unwrap();
        *found.entry(event.json().unwrap()["n"].as_u64().unwrap()).or_default() += 1;
        event.ack().await.unwrap();
    }
    client.close().await.unwrap();
    found
}

fn wanted(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// `ENSYNC_LINES` and `ENSYNC_INTERRUPTIONS` make it larger.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_line_arrives_once_whatever_interrupts() {
    let (count, interruptions) = (wanted("ENSYNC_LINES", 3_000), wanted("ENSYNC_INTERRUPTIONS", 6));
    let (server, environment, stock) = engine().await;
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("events.ndjson");
    let text: String = (1..=count).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    std::fs::write(&file, text).unwrap();
    let progress = place.path().join("events.ndjson.ensync-progress");
    let to = stock.app_id.to_string();
    let publish = || {
        let mut command = ensync(&["publish", EVENT, "--to", &to, "--json", "--file"]);
        command.arg(&file).envs(environment.iter().cloned());
        command
    };
    let mut random = fastrand::Rng::with_seed(wanted("ENSYNC_SEED", 7));
    let mut killed = 0;
    while killed < interruptions {
        // It is stopped somewhere: before it begins, in the middle, when most of it is done.
        let mut child = publish().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let at = count * (killed + 1) / (interruptions + 1);
        let target = random.u64(at.saturating_sub(count / 20)..=at);
        loop {
            let queue = server.broker().queue(EVENT.parse().unwrap(), stock.app_id).await.unwrap();
            if queue.is_some_and(|queue| queue.counters.published >= target) || child.try_wait().unwrap().is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        // Of three, one is asked to stop, which it does in order.
        if killed % 3 == 0 {
            let pid = rustix::process::Pid::from_child(&child);
            _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        } else {
            child.kill().unwrap();
        }
        let status = tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap();
        assert!(!status.success() && progress.exists(), "the file was done before it was interrupted {killed} times");
        killed += 1;
    }
    let (ok, printed, said) = tokio::task::spawn_blocking({
        let mut command = publish();
        move || run(&mut command)
    })
    .await
    .unwrap();
    assert!(ok && !progress.exists(), "{said}");
    let done: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(done["published"].as_u64().unwrap() + done["skipped"].as_u64().unwrap(), count, "{done}");
    assert!(done["skipped"].as_u64().unwrap() > 0, "it did not go on, but begin anew: {done}");
    let found = lines(&server, &stock).await;
    assert_eq!(found.len() as u64, count);
    assert!(found.values().all(|times| *times == 1), "some lines arrived twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_is_wrong_is_named_and_may_be_mended() {
    let (server, environment, stock) = engine().await;
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("events.ndjson");
    let to = stock.app_id.to_string();
    let command = |more: &[&str]| {
        let mut command = ensync(&["publish", EVENT, "--to", &to, "--file"]);
        command.arg(&file).args(more).envs(environment.iter().cloned());
        command
    };
    let again = async |mut command: Command| tokio::task::spawn_blocking(move || code(&mut command)).await.unwrap();
    std::fs::write(&file, "{\"n\":1}\n\n{\"n\":\n{\"n\":4}\n").unwrap();
    let (exit, said) = again(command(&[])).await;
    assert!(exit == 2 && said.contains("line 3: ") && said.contains("all up to line 2 is published"), "{exit} {said}");
    // What is done may not change; what is not may.
    std::fs::write(&file, "{\"n\":9}\n\n{\"n\":3}\n{\"n\":4}\n").unwrap();
    let (exit, said) = again(command(&[])).await;
    assert!(
        exit == 8 && said.contains("the first 2 lines") && said.contains("to publish all of it anew"),
        "{exit} {said}"
    );
    std::fs::write(&file, "{\"n\":1}\n\n{\"n\":3}\n{\"n\":4}").unwrap();
    let (exit, said) = again(command(&["--to", &to, "--ids"])).await;
    assert!(exit == 0 && said.contains("2 lines"), "{exit} {said}");
    // What was in flight when it stopped is done, and is not sent again under other keys, whatever becomes of the wrong line.
    std::fs::write(&file, "{\"n\":10}\nrubbish\n{\"n\":12}\n").unwrap();
    let (exit, said) = again(command(&["--in-flight", "3"])).await;
    assert!(exit == 2 && said.contains("line 2: ") && said.contains("all up to line 1"), "{exit} {said}");
    std::fs::write(&file, "{\"n\":10}\n{\"n\":11}\n{\"n\":12}\n").unwrap();
    let (exit, said) = again(command(&[])).await;
    assert!(exit == 0, "{exit} {said}");
    // All at once, and what is wrong is told.
    std::fs::write(&file, "{\"n\":5}\nrubbish\n{\"n\":6}\n\u{7}\n").unwrap();
    let (exit, said) = again(command(&["--keep-going"])).await;
    assert!(exit == 7 && said.contains("2 lines were refused"), "{exit} {said}");
    assert_eq!(lines(&server, &stock).await, [1, 3, 4, 5, 6, 10, 11, 12].map(|n| (n, 1)).into());

    std::fs::remove_file(&file).unwrap();
    let (exit, said) = again(command(&[])).await;
    assert!(exit == 2 && said.contains("--file: cannot read"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standard_input_will_do_and_a_rate_is_kept() {
    let (server, environment, stock) = engine().await;
    let to = stock.app_id.to_string();
    let arguments = ["publish", EVENT, "--to", &to, "--file", "-", "--rate", "50", "--ids", "--idempotency-key", "k"];
    let mut command = ensync(&arguments);
    command.envs(environment).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let begun = std::time::Instant::now();
    let output = tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().unwrap();
        let text: String = (1..=30).map(|n| format!("{{\"n\":{n}}}\n")).collect();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    });
    let output = output.await.unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && printed.lines().count() == 30 && printed.starts_with("1\t"), "{printed}");
    // 30 events, 20 ms apart, but for those that a start may make up for.
    assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
    assert_eq!(lines(&server, &stock).await.len(), 30);
}
