//! `publish --file`: whatever interrupts it, each line arrives once.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use ensync_engine::{BrokerOptions, EventOptions, Server};

use super::{EVENT, code, ensync, run};

/// An engine in this process, and the command as its app "shop".
async fn engine() -> (Server, Vec<(&'static str, String)>, ensync_engine::NewApp) {
    engine_with(Duration::from_secs(120)).await
}

/// The same, that knows events again for so long.
async fn engine_with(window: Duration) -> (Server, Vec<(&'static str, String)>, ensync_engine::NewApp) {
    let mut options = BrokerOptions::default();
    options.limits.dedup_window = window;
    let server = Server::builder().options(options).start().await.unwrap();
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
    assert!(
        exit == 2 && said.contains("line 3: ") && said.contains("is published but for 1 of the lines"),
        "{exit} {said}"
    );
    // What is done may not change; what is not may.
    std::fs::write(&file, "{\"n\":9}\n\n{\"n\":3}\n{\"n\":4}\n").unwrap();
    let (exit, said) = again(command(&[])).await;
    assert!(
        exit == 8 && said.contains("are not what was published") && said.contains("to publish all of it anew"),
        "{exit} {said}"
    );
    std::fs::write(&file, "{\"n\":1}\n\n{\"n\":3}\n{\"n\":4}").unwrap();
    let (exit, said) = again(command(&["--to", &to, "--ids"])).await;
    assert!(exit == 0 && said.contains("2 lines"), "{exit} {said}");
    // What was in flight when it stopped is done, and is not sent again under other keys, whatever becomes of the wrong line.
    std::fs::write(&file, "{\"n\":10}\nrubbish\n{\"n\":12}\n").unwrap();
    let (exit, said) = again(command(&["--in-flight", "3"])).await;
    assert!(exit == 2 && said.contains("line 2: ") && said.contains("but for 1 of the lines"), "{exit} {said}");
    std::fs::write(&file, "{\"n\":10}\n{\"n\":11}\n{\"n\":12}\n").unwrap();
    let (exit, said) = again(command(&[])).await;
    assert!(exit == 0, "{exit} {said}");
    // All at once, and what is wrong is told.
    std::fs::write(&file, "{\"n\":5}\nrubbish\n{\"n\":6}\n\u{7}\n").unwrap();
    let (exit, said) = again(command(&["--keep-going"])).await;
    assert!(exit == 7 && said.contains("2 lines were refused"), "{exit} {said}");
    // They are not forgotten, and one that is mended goes out alone.
    std::fs::write(&file, "{\"n\":5}\n{\"n\":55}\n{\"n\":6}\n\u{7}\n").unwrap();
    let (exit, said) = again(command(&["--keep-going"])).await;
    assert!(exit == 7 && said.contains("1 line was refused"), "{exit} {said}");
    std::fs::write(&file, "{\"n\":5}\n{\"n\":56}\n{\"n\":6}\n{\"n\":7}\n").unwrap();
    let (exit, said) = again(command(&["--keep-going"])).await;
    assert!(exit == 8 && said.contains("line 2 was published"), "{exit} {said}");
    std::fs::write(&file, "{\"n\":5}\n{\"n\":55}\n{\"n\":6}\n{\"n\":7}\n").unwrap();
    let (exit, said) = again(command(&["--keep-going"])).await;
    assert!(exit == 0 && said.contains("1 line of"), "{exit} {said}");
    assert_eq!(lines(&server, &stock).await, [1, 3, 4, 5, 6, 7, 10, 11, 12, 55].map(|n| (n, 1)).into());

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
    // In the order in which they were answered.
    let mut told: Vec<_> = printed.lines().filter_map(|line| line.split_once('\t')?.0.parse::<u64>().ok()).collect();
    told.sort_unstable();
    assert!(output.status.success() && told == (1..=30).collect::<Vec<_>>(), "{printed}");
    // 30 events, 20 ms apart, but for those that a start may make up for.
    assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
    assert_eq!(lines(&server, &stock).await.len(), 30);
}

/// What is appended to it for each line has to have room, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_leaves_no_room_for_the_lines_is_refused_at_once() {
    let (server, environment, stock) = engine().await;
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("events.ndjson");
    numbers(&file, 3);
    let to = stock.app_id.to_string();
    let publish = async |key: String, environment: &[(&'static str, String)]| {
        let mut command = ensync(&["publish", EVENT, "--to", &to, "--idempotency-key", &key, "--file"]);
        command.arg(&file).envs(environment.iter().cloned());
        tokio::task::spawn_blocking(move || code(&mut command)).await.unwrap()
    };
    // Before anything is dialled.
    let nobody = [("ENSYNC_URL", "ws://127.0.0.1:1".to_owned()), ("ENSYNC_APP_KEY", "k".to_owned())];
    for length in [203, 230, 256] {
        let (exit, said) = publish("k".repeat(length), &nobody).await;
        let told = "--idempotency-key: with --file 202 characters at most";
        assert!(exit == 2 && said.contains(told) && said.contains(&format!("has {length}")), "{length}: {said}");
    }
    let (exit, said) = publish("k".repeat(202), &environment).await;
    assert!(exit == 0, "{said}");
    assert_eq!(lines(&server, &stock).await.len(), 3);
}

fn numbers(path: &std::path::Path, count: u64) {
    let text: String = (1..=count).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    std::fs::write(path, text).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_engine_or_sender_is_another_command() {
    let ((server, environment, stock), (_other, elsewhere, _)) = (engine().await, engine().await);
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("events.ndjson");
    let to = stock.app_id.to_string();
    std::fs::write(&file, "{\"n\":1}\nrubbish\n{\"n\":3}\n").unwrap();
    let publish = async |environment: &[(&'static str, String)]| {
        let mut command = ensync(&["publish", EVENT, "--to", &to, "--in-flight", "1", "--file"]);
        command.arg(&file).envs(environment.iter().cloned());
        tokio::task::spawn_blocking(move || code(&mut command)).await.unwrap()
    };
    assert_eq!(publish(&environment).await.0, 2);
    let (exit, said) = publish(&elsewhere).await;
    assert!(exit == 8 && said.contains("another engine") && said.contains("another sender"), "{said}");
    let key = ("ENSYNC_APP_KEY", stock.app_key.expose().to_owned());
    let (exit, said) = publish(&[environment[0].clone(), key]).await;
    assert!(exit == 8 && said.contains("another sender") && !said.contains("another engine"), "{said}");
    numbers(&file, 3);
    assert_eq!(publish(&environment).await.0, 0);
    assert_eq!(lines(&server, &stock).await, [1, 2, 3].map(|n| (n, 1)).into());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_or_a_key_that_is_not_known_is_no_lines_fault() {
    let (server, mut environment, stock) = engine().await;
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("events.ndjson");
    numbers(&file, 2_000);
    let to = stock.app_id.to_string();
    let publish = |environment: &[(&'static str, String)]| {
        let mut command = ensync(&["publish", EVENT, "--to", &to, "--keep-going", "--file"]);
        command.arg(&file).envs(environment.iter().cloned());
        command
    };
    let mut child =
        publish(&environment).args(["--rate", "1000"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let shop = loop {
        let queue = server.broker().queue(EVENT.parse().unwrap(), stock.app_id).await.unwrap();
        if queue.is_some_and(|queue| queue.counters.published > 100) {
            break server.broker().apps().await.unwrap().into_iter().find(|app| app.name == "shop").unwrap();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let new = server.broker().rotate_key(shop.id, Duration::ZERO).await.unwrap();
    let status = tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap();
    assert_eq!(status.code(), Some(5), "the key");
    environment[1].1 = new.expose().to_owned();
    let (exit, said) = tokio::task::spawn_blocking({
        let mut command = publish(&environment);
        move || code(&mut command)
    })
    .await
    .unwrap();
    assert_eq!(exit, 0, "{said}");
    let found = lines(&server, &stock).await;
    assert!(found.len() == 2_000 && found.values().all(|times| *times == 1), "{} lines", found.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_in_order_leaves_nothing_in_doubt_and_a_kill_is_told_of() {
    // An engine that knows nothing again: what was noted has to be right by itself.
    let (server, environment, stock) = engine_with(Duration::ZERO).await;
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("events.ndjson");
    numbers(&file, 1_500);
    let to = stock.app_id.to_string();
    let publish = |more: &[&str]| {
        let mut command = ensync(&["publish", EVENT, "--to", &to, "--rate", "1500", "--file"]);
        command.arg(&file).args(more).envs(environment.iter().cloned());
        command
    };
    let until = async |target: u64, kill: bool| {
        let mut child = publish(&[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        loop {
            let queue = server.broker().queue(EVENT.parse().unwrap(), stock.app_id).await.unwrap();
            if queue.is_some_and(|queue| queue.counters.published >= target) || child.try_wait().unwrap().is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        if kill {
            child.kill().unwrap();
        } else {
            let pid = rustix::process::Pid::from_child(&child);
            _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap().code()
    };
    let said = async |more: &[&str]| {
        let mut command = publish(more);
        tokio::task::spawn_blocking(move || code(&mut command)).await.unwrap()
    };
    for target in [200, 500, 800] {
        assert_eq!(until(target, false).await, Some(7));
    }
    assert_eq!(until(1_000, true).await, None);
    let (exit, why) = said(&[]).await;
    assert!(exit == 8 && why.contains("may be published already") && why.contains("--unsure repeat"), "{exit} {why}");
    assert_eq!(said(&["--unsure", "skip"]).await.0, 0);
    let found = lines(&server, &stock).await;
    assert!(
        found.len() >= 1_000 && found.values().all(|times| *times == 1),
        "{}: some lines arrived twice",
        found.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn output_that_nobody_takes_does_not_end_it_in_the_middle() {
    let (server, environment, stock) = engine().await;
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("events.ndjson");
    numbers(&file, 300);
    let to = stock.app_id.to_string();
    let publish = || {
        let mut command = ensync(&["publish", EVENT, "--to", &to, "--ids", "--file"]);
        command.arg(&file).envs(environment.iter().cloned());
        command
    };
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = publish();
    command.stdout(writer);
    let (exit, said) = tokio::task::spawn_blocking(move || code(&mut command)).await.unwrap();
    assert_eq!(exit, 0, "{said}");
    assert_eq!(lines(&server, &stock).await.len(), 300, "all of it, though nobody read the ids");
    // A full disk stops it, and what was on its way is known.
    let mut command = publish();
    command.stdout(std::fs::File::options().write(true).open("/dev/full").unwrap());
    let (exit, said) = tokio::task::spawn_blocking(move || code(&mut command)).await.unwrap();
    assert_eq!(exit, 10, "{said}");
    let (exit, said) = tokio::task::spawn_blocking({
        let mut command = publish();
        move || code(&mut command)
    })
    .await
    .unwrap();
    assert_eq!(exit, 0, "{said}");
    let found = lines(&server, &stock).await;
    assert!(found.len() == 300 && found.values().all(|times| *times == 1), "{} lines", found.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_try_that_publishes_nothing_leaves_nothing_and_one_runs_at_a_time() {
    let (server, environment, stock) = engine().await;
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("events.ndjson");
    numbers(&file, 3);
    let to = stock.app_id.to_string();
    let publish = async |event: &'static str| {
        let mut command = ensync(&["publish", event, "--to", &to, "--file"]);
        command.arg(&file).envs(environment.iter().cloned());
        tokio::task::spawn_blocking(move || code(&mut command)).await.unwrap()
    };
    assert_eq!(publish("no/such/name").await.0, 4);
    let other = std::fs::File::open(&file).unwrap();
    other.lock().unwrap();
    let (exit, said) = publish(EVENT).await;
    assert!(exit == 8 && said.contains("another run"), "{said}");
    drop(other);
    let (exit, said) = publish(EVENT).await;
    assert_eq!(exit, 0, "{said}");
    assert_eq!(lines(&server, &stock).await, [1, 2, 3].map(|n| (n, 1)).into());
}
