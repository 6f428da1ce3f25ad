//! Servers and streams that a log cannot be on, and what is said of them.

use async_nats::jetstream::stream::{Config, DiscardPolicy};

use super::*;

#[track_caller]
fn assert_says(error: &ensync_core::Error, kind: ErrorKind, words: &[&str]) {
    assert_eq!(error.kind(), kind, "{error}");
    for part in words {
        assert!(error.to_string().contains(part), "{error} lacks {part:?}");
    }
}

#[tokio::test]
async fn a_server_without_jetstream_is_refused() {
    let Some(server) = Server::start_with("").await else { return };
    let nats = server.connect().await;
    let error = JetStreamLog::open(&nats, "LOG", options()).await.unwrap_err();
    let port = server.port.to_string();
    assert_says(&error, ErrorKind::InvalidInput, &["JetStream is not enabled", &port, "jetstream block"]);
}

#[tokio::test]
async fn a_server_that_takes_only_small_messages_is_refused() {
    let Some(server) = Server::start_with("max_payload: 32KB\njetstream { store_dir: \"STORE\" }").await else {
        return;
    };
    let error = Nats::connect(&server.url()).await.unwrap_err();
    assert_says(&error, ErrorKind::InvalidInput, &["32768", "max_payload", &server.port.to_string()]);
}

#[tokio::test]
async fn a_server_that_wants_a_login_is_refused_without_one() {
    let lines = "authorization { user: engine, password: secret }\njetstream { store_dir: \"STORE\" }";
    let Some(mut server) = Server::start_ready_without(lines).await else { return };
    let error = Nats::connect(&server.url()).await.unwrap_err();
    assert_says(&error, ErrorKind::Unauthenticated, &["user and password"]);
    let wrong = Nats::connect(&server.url().replace("//", "//engine:hunter2@")).await.unwrap_err();
    assert_says(&wrong, ErrorKind::Unauthenticated, &[]);
    assert!(!wrong.to_string().contains("hunter2"), "{wrong}");
    let nats = Nats::connect(&server.url().replace("//", "//engine:secret@")).await.unwrap();
    open(&nats, "LOG").await.append(vec![record("one")]).await.unwrap();
    server.kill();
}

#[tokio::test]
async fn a_stream_with_other_settings_is_refused_and_each_is_named() {
    let Some(server) = Server::start().await else { return };
    let nats = server.connect().await;
    let context = nats.jetstream(Duration::from_secs(2));
    let config = Config {
        name: "LOG".into(),
        subjects: vec!["ensync.log.LOG.>".into()],
        discard: DiscardPolicy::Old,
        max_messages: 100,
        ..Config::default()
    };
    context.create_stream(config).await.unwrap();
    let error = JetStreamLog::open(&nats, "LOG", options()).await.unwrap_err();
    let words = [
        "the stream LOG at 127.0.0.1",
        "discard is old, and must be new",
        "max_msgs is 100",
        "allow_direct",
        "allow_rollup_hdrs",
    ];
    assert_says(&error, ErrorKind::InvalidInput, &words);
    assert_eq!(context.get_stream("LOG").await.unwrap().cached_info().state.messages, 0, "it was left alone");
    let error = JetStreamLog::open(&nats, "a.b", options()).await.unwrap_err();
    assert_says(&error, ErrorKind::InvalidInput, &["a.b"]);
}

#[tokio::test]
async fn more_replicas_than_servers_are_refused() {
    let Some(server) = Server::start().await else { return };
    let three = JetStreamOptions { replicas: NonZeroU8::new(3).unwrap(), ..options() };
    let error = JetStreamLog::open(&server.connect().await, "LOG", three.clone()).await.unwrap_err();
    assert_says(&error, ErrorKind::Unavailable, &["stream LOG", "3 replicas"]);
    drop(open(&server.connect().await, "LOG").await);
    let error = JetStreamLog::open(&server.connect().await, "LOG", three).await.unwrap_err();
    assert_says(&error, ErrorKind::InvalidInput, &["replicas is 1, and must be 3 or more"]);
}

/// Others who publish on its subjects are an annoyance, not a danger.
#[tokio::test]
async fn messages_of_others_do_not_count() {
    let Some(server) = Server::start().await else { return };
    let nats = server.connect().await;
    let log = open(&nats, "LOG").await;
    let context = nats.jetstream(Duration::from_secs(2));
    for n in 0..5 {
        let sent = context.publish("ensync.log.LOG.part.2", "hello".into()).await.unwrap().await.unwrap();
        log.append(vec![record(&format!("{n}"))]).await.unwrap();
        let forged = Position::new(sent.sequence << 16);
        assert_eq!(log.read(forged).await.unwrap(), None);
    }
    assert_eq!(texts(&log).await, ["0", "1", "2", "3", "4"]);
    assert_eq!(texts(&open(&nats, "LOG").await).await, ["0", "1", "2", "3", "4"]);
}

#[tokio::test]
async fn a_damaged_message_is_told_with_its_place() {
    let Some(server) = Server::start().await else { return };
    let nats = server.connect().await;
    let log = open(&nats, "LOG").await;
    let at = log.append(vec![record("one")]).await.unwrap()[0];
    let stored = log.shared.link.leader_next("ensync.log.LOG.part.*", 1).await.unwrap().unwrap();
    let mut bytes = stored.bytes.to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    let context = nats.jetstream(Duration::from_secs(2));
    let sequence = context.publish("ensync.log.LOG.part.2", bytes.into()).await.unwrap().await.unwrap().sequence;
    let next = open(&nats, "LOG").await;
    let found: Vec<_> = next.scan(Position::START).collect().await;
    let error = found.last().unwrap().as_ref().unwrap_err();
    assert_says(error, ErrorKind::InvalidInput, &[&format!("message {sequence} of the stream LOG is damaged")]);
    assert_eq!(next.read(at).await.unwrap().unwrap(), "one", "the others can be read");
    assert!(next.place(at).contains("of the stream LOG"));
}
