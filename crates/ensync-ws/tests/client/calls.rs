//! Calls, answers, events and pings on a live link.

use std::sync::Mutex;
use std::time::Duration;

use super::*;

#[tokio::test]
async fn answers_go_to_requests_in_order_and_events_to_the_inbox() {
    let (mut link, mut engine) = linked().await;
    let first = call(&link.transport, resume("a"));
    assert_eq!(hear(&mut engine).await, "CONTINUE;CLIENT_ID=:c-1;EVENT_NAME=:a");
    let second = call(&link.transport, resume("b"));
    assert_eq!(hear(&mut engine).await, "CONTINUE;CLIENT_ID=:c-1;EVENT_NAME=:b");
    say(&mut engine, &record("e-1")).await;
    say(&mut engine, "+RECORD:{\"payload\":\"this one cannot be read and is skipped\"}").await;
    say(&mut engine, "-FAIL:unknown_event: no a here").await;
    say(&mut engine, &record("e-2")).await;
    say(&mut engine, "+PASS:b").await;
    let refusal = first.await.unwrap().unwrap_err();
    assert_eq!((refusal.kind(), refusal.to_string().as_str()), (ErrorKind::UnknownEvent, "no a here"));
    assert_eq!(second.await.unwrap().unwrap(), Reply::Done);
    for id in ["e-1", "e-2"] {
        assert_eq!(link.inbox.try_next().await.unwrap().unwrap().id.as_str(), id);
    }
}

#[tokio::test]
async fn a_caller_who_gave_up_keeps_his_place() {
    let (link, mut engine) = linked().await;
    let impatient = call(&link.transport, resume("a"));
    hear(&mut engine).await;
    impatient.abort();
    assert!(impatient.await.unwrap_err().is_cancelled());
    let patient = call(&link.transport, resume("b"));
    hear(&mut engine).await;
    say(&mut engine, "-FAIL:this is for a").await;
    say(&mut engine, "+PASS:this is for b").await;
    assert_eq!(patient.await.unwrap().unwrap(), Reply::Done);
}

#[tokio::test]
async fn pings_are_answered_though_nobody_reads_the_inbox() {
    let (_link, mut engine) = linked().await;
    say(&mut engine, &record("e-1")).await;
    say(&mut engine, "PING").await;
    assert_eq!(hear(&mut engine).await, "PONG");
    engine.send(Message::Ping("are you there".into())).await.unwrap();
    assert_eq!(engine.next().await.unwrap().unwrap(), Message::Pong("are you there".into()));
}

#[tokio::test]
async fn a_heartbeat_is_a_ping_and_resolves_with_its_pong() {
    let (link, engine) = linked().await;
    let beats = [call(&link.transport, Command::Heartbeat), call(&link.transport, Command::Heartbeat)];
    // Reading is what answers pings.
    let engine = tokio::spawn(engine.for_each(|_| async {}));
    for beat in beats {
        assert_eq!(beat.await.unwrap().unwrap(), Reply::Done);
    }
    engine.abort();
}

#[tokio::test]
async fn frames_may_come_in_pieces() {
    let (mut link, mut engine) = linked().await;
    let text = record("e-1");
    let (half, rest) = text.as_bytes().split_at(60);
    let length = u8::try_from(text.len() - 60).unwrap();
    // One message in two fragments (RFC 6455 section 5.4), a ping between them, each written byte by byte.
    let mut wire = vec![0x01, 60];
    wire.extend_from_slice(half);
    wire.extend_from_slice(&[0x89, 0x00, 0x80, length]);
    wire.extend_from_slice(rest);
    for byte in wire {
        engine.get_mut().write_all(&[byte]).await.unwrap();
    }
    assert_eq!(link.inbox.try_next().await.unwrap().unwrap().id.as_str(), "e-1");
    assert!(matches!(engine.next().await.unwrap().unwrap(), Message::Pong(_)));
}

#[tokio::test]
async fn many_calls_share_the_socket() {
    let (link, mut engine) = linked().await;
    let calls: Vec<_> = (0..2000).map(|n| call(&link.transport, resume(&format!("a/{n}")))).collect();
    let engine = tokio::spawn(async move {
        for _ in 0..2000 {
            let asked = hear(&mut engine).await;
            let name = asked.rsplit_once("=:").unwrap().1.to_owned();
            engine.feed(Message::text(format!("-FAIL:{name}"))).await.unwrap();
            // Nothing may depend on when an answer is flushed, only that it is in the end.
            if name.ends_with('7') || name.ends_with("99") {
                engine.flush().await.unwrap();
            }
        }
        engine.flush().await.unwrap();
        engine
    });
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap().unwrap_err().to_string(), format!("a/{n}"));
    }
    engine.await.unwrap();
}

#[tokio::test]
async fn both_sides_may_write_more_than_the_network_holds() {
    let (link, mut engine) = linked().await;
    let reason = "x".repeat(256 * 1024);
    let calls: Vec<_> = (0..64)
        .map(|_| {
            let command = Command::Pause { event: EventName::parse("a").unwrap(), reason: reason.clone() };
            call(&link.transport, command)
        })
        .collect();
    // The engine writes 16 MiB before it reads anything.
    let padding = format!(r#"+RECORD:{{"name":"a","idem":"e","block":1,"payload":"{}"}}"#, "A".repeat(256 * 1024));
    for _ in 0..63 {
        say(&mut engine, &padding).await;
    }
    for _ in 0..64 {
        hear(&mut engine).await;
        say(&mut engine, "+PASS:").await;
    }
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), Reply::Done);
    }
    assert_eq!(link.inbox.take(63).try_collect::<Vec<_>>().await.unwrap().len(), 63);
}

#[tokio::test]
async fn an_answer_with_the_wrong_content_fails_its_call_only() {
    let (link, mut engine) = linked().await;
    let replay = Command::Replay { id: "e-1".parse().unwrap(), event: "a".parse().unwrap() };
    let replay = call(&link.transport, replay);
    hear(&mut engine).await;
    say(&mut engine, "+REPLAY:{}").await;
    assert_eq!(replay.await.unwrap().unwrap_err().kind(), ErrorKind::Protocol);
    let next = call(&link.transport, resume("a"));
    hear(&mut engine).await;
    say(&mut engine, "+PASS:").await;
    assert_eq!(next.await.unwrap().unwrap(), Reply::Done);
}

#[tokio::test]
async fn a_command_that_is_too_long_is_not_sent() {
    let connector = WsConnector::new(Dialer::default()).max_frame_bytes(1024);
    let (link, mut engine) = linked_by(connector, "+PASS:{clientId=c-1}").await;
    let long = Command::Pause { event: EventName::parse("a").unwrap(), reason: "x".repeat(1024) };
    let error = link.transport.call(long).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PayloadTooLarge);
    let unblocked = Settle { id: "e".parse().unwrap(), event: None, block: None, how: Settlement::Ack };
    let error = link.transport.call(Command::Settle(unblocked)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let next = call(&link.transport, resume("a"));
    assert_eq!(hear(&mut engine).await, "CONTINUE;CLIENT_ID=:c-1;EVENT_NAME=:a");
    say(&mut engine, "+PASS:").await;
    next.await.unwrap().unwrap();
}

#[tokio::test]
async fn without_an_inbox_events_are_dropped_and_calls_go_on() {
    let connector = WsConnector::new(Dialer::default()).max_unread_bytes(256);
    let (link, mut engine) = linked_by(connector, "+PASS:{clientId=c-1}").await;
    let Link { transport, inbox, .. } = link;
    drop(inbox);
    for _ in 0..100 {
        say(&mut engine, &record("e-1")).await;
    }
    let waiting = call(&transport, resume("a"));
    hear(&mut engine).await;
    say(&mut engine, "+PASS:").await;
    assert_eq!(waiting.await.unwrap().unwrap(), Reply::Done);
}

/// What the command itself contains says nothing of why it is refused.
#[tokio::test]
async fn the_name_of_a_command_is_no_reason() {
    let (link, mut engine) = linked().await;
    let leave = Command::Unsubscribe { event: "engine/restart/requested".parse().unwrap() };
    for (words, kind) in [
        ("Unknown event: engine/restart/requested", ErrorKind::Refused),
        ("engine/restart/requested: the service is restarting", ErrorKind::Unavailable),
    ] {
        let (refused, ()) = tokio::join!(link.transport.call(leave.clone()), async {
            hear(&mut engine).await;
            say(&mut engine, &format!("-FAIL:{words}")).await;
        });
        assert_eq!(refused.unwrap_err().kind(), kind, "{words}");
    }
}

/// Whoever sends what cannot be read may do so without end: one line a minute.
#[tokio::test]
async fn events_that_cannot_be_read_are_logged_once_in_a_while() {
    let (mut link, mut engine) = linked().await;
    tokio::time::pause();
    let logged = Arc::new(Mutex::new(Vec::new()));
    let writer = logged.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .with_writer(move || Written(writer.clone()))
        .finish();
    let _guard = tracing_subscriber::util::SubscriberInitExt::set_default(subscriber);
    for minute in 1..=2 {
        for _ in 0..100 {
            say(&mut engine, "+RECORD:{\"payload\":\"this one cannot be read and is skipped\"}").await;
        }
        say(&mut engine, &record("e-1")).await;
        assert_eq!(link.inbox.try_next().await.unwrap().unwrap().id.as_str(), "e-1");
        let text = String::from_utf8(logged.lock().unwrap().clone()).unwrap();
        assert_eq!(text.matches("cannot be read was skipped").count(), minute, "{text}");
        tokio::time::advance(Duration::from_secs(60)).await;
    }
}

struct Written(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
