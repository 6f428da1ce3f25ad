//! Both generations of method names.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use ensync_core::{Command, ErrorKind, EventId, Reply, Settle, Settlement};
use prost::Message;
use tower_service::Service as _;

use super::fake::*;
use super::foreign::{answer, unimplemented, welcome};
use crate::generated::PublishResponse;

#[tokio::test]
async fn an_engine_of_the_earlier_generation_is_spoken_to_by_its_names() {
    let mut engine = Engine::start();
    let server = engine.server.clone();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let (stream, _serving) = serve(move |request| {
        let (mut server, count) = (server.clone(), count.clone());
        async move {
            if request.uri().path().ends_with("Message") || request.uri().path().ends_with("Messages") {
                count.fetch_add(1, Ordering::Relaxed);
                return unimplemented();
            }
            server.call(request).await.unwrap()
        }
    });
    let link = connect(stream).await.unwrap();
    engine.told().await;
    let id = EventId::parse("i").unwrap();
    let settle = |how| Command::Settle(Settle { id: id.clone(), event: None, block: None, how });
    for command in [
        publish("a"),
        settle(Settlement::Ack),
        settle(Settlement::Rollback),
        settle(Settlement::Discard { reason: String::new() }),
        Command::Replay { id: id.clone(), event: name("a") },
        Command::Pause { event: name("a"), reason: String::new() },
        Command::Continue { event: name("a") },
    ] {
        link.transport.call(command.clone()).await.unwrap();
        assert_eq!(engine.command().await.name(), if command.name() == "rollback" { "defer" } else { command.name() });
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1, "the link remembers");
}

/// Whoever is on the way knows no names for a moment, and then fails; or the engine is replaced by one of the current generation.
#[tokio::test]
async fn an_answer_that_is_none_says_nothing_of_the_generation() {
    let mut engine = Engine::start();
    let server = engine.server.clone();
    let served = Arc::new(Mutex::new(("", "")));
    let serves = served.clone();
    let (stream, _serving) = serve(move |request| {
        let (mut server, (current, earlier)) = (server.clone(), *serves.lock().unwrap());
        async move {
            let path = request.uri().path();
            let answer = match (path.ends_with("PublishMessage"), path.ends_with("PublishEvent")) {
                (true, _) => current,
                (_, true) => earlier,
                _ => "served",
            };
            match answer {
                "served" => server.call(request).await.unwrap(),
                "fails" => tonic::Status::unavailable("no healthy upstream").into_http(),
                _ => unimplemented(),
            }
        }
    });
    let link = connect(stream).await.unwrap();
    engine.told().await;
    for (current, earlier, goes) in [
        ("unknown", "fails", false),
        ("served", "unknown", true),
        ("unknown", "served", true),
        ("served", "unknown", true),
        ("unknown", "unknown", false),
        ("served", "unknown", true),
    ] {
        *served.lock().unwrap() = (current, earlier);
        let answer = link.transport.call(publish("a")).await;
        assert_eq!(answer.is_ok(), goes, "{current}, {earlier}: {answer:?}");
        if goes {
            assert_eq!(engine.command().await.name(), "publish");
        }
    }
}

#[tokio::test]
async fn a_call_that_no_generation_serves_is_an_error_and_no_more() {
    let (stream, _serving) = serve(|request| async move {
        match request.uri().path() {
            "/ensync.EnSyncService/Connect" => answer([welcome().encode_to_vec()]),
            "/ensync.EnSyncService/PublishMessage" => {
                answer([
                    PublishResponse { success: true, message_idem: "i".into(), ..Default::default() }.encode_to_vec()
                ])
            }
            _ => unimplemented(),
        }
    });
    let link = connect(stream).await.unwrap();
    let replay = Command::Replay { id: EventId::parse("i").unwrap(), event: name("a") };
    assert_eq!(link.transport.call(replay).await.unwrap_err().kind(), ErrorKind::Unsupported);
    let reply = link.transport.call(publish("a")).await.unwrap();
    assert_eq!(reply, Reply::Published { id: EventId::parse("i").unwrap() });
}
