//! `subscribe`: how much it takes, how long it goes on, what becomes of an event.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ensync_engine::{EventOptions, NewApp, Server};
use ensync_sdk::{Client, Engine};

use super::{EVENT, ensync};

/// A bound against hanging.
const PATIENCE: Duration = Duration::from_secs(30);

struct Place {
    server: Server,
    shop: Client,
    stock: NewApp,
    environment: Vec<(&'static str, String)>,
}

impl Place {
    async fn start(options: EventOptions) -> Self {
        let server = Server::builder().start().await.unwrap();
        server.register_event(EVENT, options.clone()).await.unwrap();
        server.register_event("other/name", options).await.unwrap();
        let (shop, stock) = (server.create_app("shop").await.unwrap(), server.create_app("stock").await.unwrap());
        let engine = Engine::new(&server.grpc_url()).unwrap();
        let client = engine.create_client(shop.app_key.expose()).await.unwrap();
        let environment = vec![
            ("ENSYNC_URL", server.ws_url()),
            ("ENSYNC_APP_KEY", stock.app_key.expose().to_owned()),
            ("ENSYNC_SECRET_KEY", stock.secret_key.to_base64().unwrap().to_string()),
        ];
        Self { server, shop: client, stock, environment }
    }

    async fn publish(&self, name: &str, n: u64) {
        self.shop.publish(name, &n).to(self.stock.app_id).await.unwrap();
    }

    fn subscribe(&self, arguments: &[&str]) -> Command {
        let mut command = ensync(&["subscribe"]);
        command.args(arguments).envs(self.environment.iter().cloned());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    async fn ready(&self, name: &str) -> (usize, usize, usize, u64) {
        let queue = self.server.broker().queue(name.parse().unwrap(), self.stock.app_id).await.unwrap().unwrap();
        (queue.ready + queue.in_flight, queue.deferred, queue.dead, queue.counters.delivered)
    }

    /// Waits until the queue is in this state: waiting, deferred, dead.
    async fn until(&self, name: &str, state: (usize, usize, usize)) {
        let reached = async {
            loop {
                let (waiting, deferred, dead, _) = self.ready(name).await;
                if (waiting, deferred, dead) == state {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let last = tokio::time::timeout(PATIENCE, reached).await;
        assert!(last.is_ok(), "{name} is {:?}, not {state:?}", self.ready(name).await);
    }
}

async fn output(mut command: Command) -> (i32, String, String) {
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

fn signal(child: &Child, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_child(child), signal).unwrap();
}

fn terminate(child: &Child) {
    rustix::process::kill_process(rustix::process::Pid::from_child(child), rustix::process::Signal::TERM).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_is_taken_than_was_asked_for() {
    let place = Place::start(EventOptions::default()).await;
    for n in 0..5 {
        place.publish(EVENT, n).await;
    }
    let (exit, printed, said) = output(place.subscribe(&[EVENT, "--count", "2", "--format", "raw"])).await;
    assert_eq!((exit, printed.as_str()), (0, "0\n1\n"), "{said}");
    assert_eq!(place.ready(EVENT).await, (3, 0, 0, 2));
    // What cannot be printed is not acknowledged, and a closed pipe is no failure.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = place.subscribe(&[EVENT]);
    let mut child = command.stdout(writer).spawn().unwrap();
    drop(command);
    assert!(tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap().success());
    place.until(EVENT, (3, 0, 0)).await;
    // Several names; and a time.
    place.publish("other/name", 9).await;
    let (exit, printed, _) = output(place.subscribe(&[EVENT, "other/name", "--for", "1500ms"])).await;
    assert!(exit == 0 && printed.lines().count() == 4 && printed.contains("\"name\":\"other/name\""), "{printed}");
    place.until(EVENT, (0, 0, 0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_is_printed_for_people_or_for_programs() {
    let place = Place::start(EventOptions::default()).await;
    for (format, parts) in [
        ("pretty", &["cli/test/event  2", "(not verified)\n{\"a\":\"\\u001b[2J\"}"][..]),
        ("raw", &["{\"a\":"]),
        ("ndjson", &["\"payload\":{\"a\":", "\"attempt\":1"]),
        ("json", &["\"payload\":{\"a\":"]),
    ] {
        place.shop.publish(EVENT, &serde_json::json!({"a": "\u{1b}[2J"})).to(place.stock.app_id).await.unwrap();
        let (exit, printed, said) = output(place.subscribe(&[EVENT, "--count", "1", "--format", format])).await;
        assert!(exit == 0 && parts.iter().all(|part| printed.contains(part)), "{format}: {printed} {said}");
        assert!(!printed.contains('\u{1b}'), "no terminal, no colours");
    }
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_is_not_there_ends_it_and_the_events_go_back() {
    let place = Place::start(EventOptions::default()).await;
    for n in 0..3 {
        place.publish(EVENT, n).await;
    }
    let not_executable = tempfile::NamedTempFile::new().unwrap();
    let path = not_executable.path().to_str().unwrap();
    for (command, code) in [("./nope.sh", "127"), (path, "126")] {
        let (exit, printed, said) = output(place.subscribe(&[EVENT, "--exec", command, "--concurrency", "2"])).await;
        assert!(exit == 2 && printed.is_empty() && said.contains(&format!("exit code {code}")), "{exit} {said}");
        place.until(EVENT, (3, 0, 0)).await;
    }
    let (exit, _, said) = output(place.subscribe(&[EVENT, "other/name", EVENT])).await;
    assert!(
        exit == 2 && said.contains(&format!("{EVENT} is named twice")) && !said.contains("subscribed to"),
        "{said}"
    );
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_decides_what_becomes_of_each_event() {
    let options = EventOptions { ack_timeout: Some(Duration::from_secs(1)), ..EventOptions::default() };
    let place = Place::start(options).await;
    let seen = tempfile::tempdir().unwrap();
    let file = seen.path().join("seen");
    // It takes longer than a lease for the first.
    let script = format!(
        "n=$(cat); echo \"$n $ENSYNC_EVENT_NAME $ENSYNC_EVENT_ATTEMPT\" >> '{}'; case $n in 0) sleep 2.5;; 1) exit 65;; 2) exit 75;; 3) exit 1;; esac",
        file.display()
    );
    for n in 0..5 {
        place.publish(EVENT, n).await;
    }
    let arguments = [EVENT, "--exec", &script, "--count", "5", "--defer-by", "1h", "--concurrency", "2"];
    let (exit, printed, said) = output(place.subscribe(&arguments)).await;
    assert!(exit == 0 && printed.is_empty() && said.contains("exit status: 1"), "{exit} {said}");
    place.until(EVENT, (0, 2, 1)).await;
    let seen = std::fs::read_to_string(&file).unwrap();
    assert!(seen.lines().count() == 5 && seen.contains(&format!("0 {EVENT} 1")), "{seen}");
    assert_eq!(place.ready(EVENT).await.3, 5, "each was delivered once: the lease of the slow one was kept");
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_ends_in_order_when_it_is_asked_to() {
    let place = Place::start(EventOptions::default()).await;
    let marks = tempfile::tempdir().unwrap();
    let begun = marks.path().join("begun");
    let script = format!("touch '{}'; sleep 1", begun.display());
    let mut child = place.subscribe(&[EVENT, "--exec", &script]).spawn().unwrap();
    place.publish(EVENT, 1).await;
    while !begun.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // As coreutils' `timeout` does: the program, and then its group.
    terminate(&child);
    terminate(&child);
    let status = tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap();
    assert!(status.success(), "{status}");
    // What was begun was finished and settled.
    place.until(EVENT, (0, 0, 0)).await;
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_it_at_once_with_all_that_runs() {
    let place = Place::start(EventOptions::default()).await;
    let marks = tempfile::tempdir().unwrap();
    let (begun, after) = (marks.path().join("begun"), marks.path().join("after"));
    // It ignores signals, and what it started would go on without it.
    let script =
        format!("trap '' TERM INT; (sleep 4; touch '{}') & touch '{}'; sleep 60", after.display(), begun.display());
    let mut child = place.subscribe(&[EVENT, "--exec", &script]).spawn().unwrap();
    place.publish(EVENT, 1).await;
    while !begun.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    terminate(&child);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(child.try_wait().unwrap().is_none(), "it waits for what was begun");
    terminate(&child);
    let asked = std::time::Instant::now();
    let status = tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap();
    assert_eq!(status.code(), Some(3));
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    // The event is back before the command would have been done.
    place.until(EVENT, (1, 0, 0)).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!after.exists(), "what the command started went on");
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_that_goes_away_ends_it_and_so_does_a_signal_while_it_connects() {
    let place = Place::start(EventOptions::default()).await;
    let mut child = place.subscribe(&[EVENT, "--exec", "true"]).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    said.read_line(&mut String::new()).unwrap();
    signal(&child, rustix::process::Signal::HUP);
    assert!(tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap().success());

    // It accepts, and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", silent.local_addr().unwrap());
    let mut child = place.subscribe(&[EVENT]).env("ENSYNC_URL", url).spawn().unwrap();
    let connection = tokio::task::spawn_blocking(move || silent.accept().unwrap()).await.unwrap();
    terminate(&child);
    let asked = std::time::Instant::now();
    tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    drop(connection);
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_is_slow_costs_no_lease_and_no_signal() {
    let lease = Duration::from_secs(4);
    let options = EventOptions { ack_timeout: Some(lease), ..EventOptions::default() };
    let place = Place::start(options).await;
    let payload = "x".repeat(200_000);
    for _ in 0..2 {
        place.shop.publish(EVENT, &payload).to(place.stock.app_id).await.unwrap();
    }
    let mut child = place.subscribe(&[EVENT]).spawn().unwrap();
    // More than a pipe holds, and nobody reads: longer than a lease.
    while place.ready(EVENT).await.3 < 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(3 * lease).await;
    assert_eq!(place.ready(EVENT).await.3, 2, "the lease was lost");
    terminate(&child);
    tokio::time::sleep(Duration::from_secs(1)).await;
    terminate(&child);
    // Of itself it would wait for its reader, who never comes.
    let ended = tokio::task::spawn_blocking(move || child.wait().unwrap());
    let status = tokio::time::timeout(PATIENCE, ended).await.expect("the second signal ends it").unwrap();
    assert_eq!(status.code(), Some(3), "{status}");
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_commands_run_at_a_time_and_none_for_ever() {
    let place = Place::start(EventOptions::default()).await;
    for n in 0..3 {
        place.publish(EVENT, n).await;
    }
    // Each of the first two waits for the other.
    let marks = tempfile::tempdir().unwrap();
    let script = format!(
        "n=$(cat); cd '{}'; touch $n; while [ $n -lt 2 ] && [ ! -e $((1-n)) ]; do sleep 0.05; done",
        marks.path().display()
    );
    let two = [EVENT, "--exec", &script, "--count", "2", "--concurrency", "2", "--exec-timeout", "20s"];
    let (exit, _, said) = output(place.subscribe(&two)).await;
    assert!(exit == 0 && !said.contains("warning"), "{said}");
    place.until(EVENT, (1, 0, 0)).await;
    let long = [EVENT, "--exec", "sleep 60", "--count", "1", "--exec-timeout", "500ms", "--defer-by", "1h"];
    let (exit, _, said) = output(place.subscribe(&long)).await;
    assert!(exit == 0 && said.contains("took too long"), "{said}");
    place.until(EVENT, (0, 1, 0)).await;
    for wrong in ["500ms", "2d", "soon"] {
        let (exit, _, said) = output(place.subscribe(&[EVENT, "--exec", "false", "--defer-by", wrong])).await;
        assert!(exit == 2 && said.contains("--defer-by"), "{said}");
    }
    // A variable of a script that is not set.
    for empty in ["", " \t"] {
        let (exit, _, said) = output(place.subscribe(&[EVENT, "--exec", empty])).await;
        assert!(exit == 2 && said.contains("--exec") && said.contains("it is empty"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_open_may_be_discarded_and_a_foreign_key_is_told_of() {
    let place = Place::start(EventOptions::default()).await;
    place.publish(EVENT, 1).await;
    let other = ensync_sdk::SecretKey::generate().unwrap().to_base64().unwrap().to_string();
    let mut command = place.subscribe(&[EVENT, "--discard-unreadable", "--for", "1s"]);
    command.env("ENSYNC_SECRET_KEY", other);
    let (exit, printed, said) = output(command).await;
    assert!(exit == 0 && printed.is_empty() && said.contains("warning: the secret key is that of"), "{said}");
    place.until(EVENT, (0, 0, 1)).await;
    // Nobody proves who sent it.
    place.publish(EVENT, 2).await;
    let (_, printed, _) = output(place.subscribe(&[EVENT, "--verified", "--count", "1"])).await;
    assert!(printed.contains("\"error\""), "{printed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_goes_on_after_the_engine_was_started_again() {
    let directory = tempfile::tempdir().unwrap();
    let start = async |address: std::net::SocketAddr| {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            match Server::builder().data_dir(directory.path()).listen(address).start().await {
                Ok(server) => return server,
                Err(error) => assert!(tokio::time::Instant::now() < deadline, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let server = start(([127, 0, 0, 1], 0).into()).await;
    server.register_event(EVENT, EventOptions::default()).await.unwrap();
    let (shop, stock) = (server.create_app("shop").await.unwrap(), server.create_app("stock").await.unwrap());
    let url = server.ws_url();
    let address = url.strip_prefix("ws://").unwrap().parse().unwrap();
    let mut command = ensync(&["subscribe", EVENT, "--format", "raw"]);
    command
        .env("ENSYNC_URL", &url)
        .env("ENSYNC_APP_KEY", stock.app_key.expose())
        .env("ENSYNC_SECRET_KEY", stock.secret_key.to_base64().unwrap().as_str());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let (sender, mut printed) = tokio::sync::mpsc::unbounded_channel();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| _ = sender.send(line)));
    let publish = async |url: &str, n: u64| {
        let client = Engine::new(url).unwrap().create_client(shop.app_key.expose()).await.unwrap();
        client.publish(EVENT, &n).to(stock.app_id).await.unwrap();
        client.close().await.unwrap();
    };
    publish(&url, 1).await;
    assert_eq!(tokio::time::timeout(PATIENCE, printed.recv()).await.unwrap().unwrap(), "1");
    server.shutdown().await;
    drop(server);
    let server = start(address).await;
    publish(&url, 2).await;
    let mut line = String::new();
    while line != "2" {
        // The first may come again, if its acknowledgement was lost.
        line = tokio::time::timeout(PATIENCE, printed.recv()).await.unwrap().unwrap();
    }
    terminate(&child);
    assert!(tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap().success());
    drop(server);
}
